"""What only several registers of a map show together: quantities given twice, shared words, forbidden places. Pure.

Never raises: adds to the problems of the table that was read.
"""

from __future__ import annotations

from drivers.map import MeterMap, Model, Register
from drivers.obis import unpack
from drivers.table import Problem, Table, shown

# The kinds of rules that problems are sorted by, besides the schema.
QUANTITIES, OVERLAPS, LIMITS, BILLING = "quantities", "overlaps", "limits", "billing"


def distinct(top: Table, found: list[tuple[str, Register]]) -> None:
    seen: dict[tuple[int, str], str] = {}
    for place, register in found:
        first = seen.setdefault((register.key, register.point), place)
        if first is not place:
            words = f"{unpack(register.key)} is given by {first} already"
            advice = "one register for a quantity, or another point"
            top.problems.append(Problem(place, register.quantity, words, advice, QUANTITIES))


def overlaps(top: Table, found: list[tuple[str, Register]]) -> None:
    """Words may be shared by scale registers, and by a derived or composite value that uses exactly the same number."""
    claims: list[tuple[int, int, int, str, str]] = []
    for place, register in found:
        role = "part" if register.derived or register.plus else "value"
        claims.append((register.function, register.address, register.count, role, place))
        if register.scale_address is not None:
            claims.append((register.function, register.scale_address, 1, "scale", place))
        claims += [(register.function, term.address, term.count, "part", place) for term in register.plus]
    claims.sort()
    for index, (function, address, count, role, place) in enumerate(claims):
        for other_function, other_address, other_count, other_role, other_place in claims[index + 1 :]:
            if (other_function, other_address) >= (function, address + count):
                break
            same = (address, count) == (other_address, other_count)
            if same and (
                role == other_role == "scale" or ("part" in (role, other_role) and "scale" not in (role, other_role))
            ):
                continue
            words = f"overlaps {place} ({address}..{address + count - 1})"
            value = f"{other_address}..{other_address + other_count - 1}"
            advice = "two values never share a register: check address and type"
            top.problems.append(Problem(other_place, value, words, advice, OVERLAPS))


def distinct_models(top: Table, models: tuple[Model, ...]) -> None:
    numbers = [number for model in models for number in model.ids]
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        top.wrong("sunspec", number, "described twice", "one entry for a model number")
    if not models:
        top.wrong("sunspec", None, "a SunSpec map needs models", "[[sunspec]]")


def whole(top: Table, meter_map: MeterMap) -> None:
    """What only the whole file shows."""
    every = [*meter_map.registers, *(register for model in meter_map.models for register in model.registers)]
    billing = [register for register in every if register.billing]
    if meter_map.settlement and not billing:
        advice = "billing = true on the total energies, or settlement = false with a settlement_reason"
        top.wrong("settlement", None, "no register is for billing", advice, BILLING)
    if not meter_map.settlement and billing:
        words = f"but {billing[0].quantity} is for billing"
        top.wrong("settlement", "false", words, "settlement = true, or no billing", BILLING)
    if meter_map.scheme == "sunspec" and not meter_map.bases:
        top.wrong("bases", None, "addresses to look for SunS are needed", "bases = [40000, 0, 50000]")
    for register in meter_map.registers:
        for first, last in meter_map.forbidden:
            if any(address <= last and first < address + count for address, count in register.spans()):
                place = f"register ({register.quantity} {register.phase})"
                words = f"lies in the forbidden range {first}..{last}"
                advice = "correct the address or limits.forbidden"
                top.problems.append(Problem(place, shown(register.address), words, advice, LIMITS))
