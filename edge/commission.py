"""Whether what a meter says can be true when it is put into service, and what would make it so. Pure.

Never changes a reading: it puts each value beside the range it can have, and where some are outside, tries what
installers get wrong: the order of words and bytes, a factor of ten, the direction and the order of the phases.

Rules
- Judges one instant: no history is needed (that is drivers.plausible), only physics, the fuse and the meter's role.
- The raw words are decoded anew for each order; factors, signs and phases are tried on the values.
- A candidate is shown only when it leaves fewer values outside than the words as they are; the one that changes least
  comes first. It is a hint to a person: nothing is set by itself.
- Each says what to write into the configuration, or, where that does not help, what to do at the meter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

from drivers.checks import Limits
from drivers.decode import Decoded, Overrides, decode
from drivers.likeness import FREQUENCY, POWER_FACTOR, VOLTAGE, VOLTAGE_TOTAL
from drivers.map import MeterMap
from drivers.obis import BY_KEY, Quantity
from drivers.reading import Block, Quality
from signer.codes import Role

PHASES = ("L1", "L2", "L3")
POWERS_OF_TEN = (0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6)
"""Tried for each kind of quantity, the likely ones first: kW for W, a display's decimals, a mega."""

_ANY_CURRENT_A, _ANY_VOLTAGE_V = 4000.0, 400.0
"""What a low-voltage busbar carries at most; whoever knows the fuse says so in the configuration."""

_PEAK = 3.0
"""A motor's start, a breaker that has not tripped yet."""

_LIFE_H = 40 * 8766.0
"""A counter that holds more than forty years at full power was not counted."""

_BROWN, _SURGE = 0.35, 1.3
"""Parts of the nominal voltage: a brown-out to a third, a lost neutral."""

_MARGIN, _SLACK_W = 1.25, 30.0
"""Meters that take power and current from different cycles, or round currents."""

_LEAST_PART, _LOADED_VA = 0.02, 230.0
"""Above 1 A even a choke takes this part of its volt-amperes as power."""

_FIT, _FIT_SLACK_W = 0.15, 30.0
"""How well power fits voltage, current and power factor, and a total its phases."""

_NEAR = 1
"""What is this much more unlikely than the best is not shown beside it."""

_CLASSES = {"V": "V", "Hz": "Hz", "A": "A", "1": "1"}
_POWER_UNITS = frozenset({"W", "var", "VA", "Wh", "varh", "VAh"})
_SCALED = ("V", "Hz", "A", "W")


@dataclass(frozen=True, slots=True)
class Row:
    """A value beside the range it can have.

    Attributes:
        key: packed OBIS key.
        number: the value, None when the device gave none.
        low, high: the range; infinite where nothing is known.
        wrong: why it cannot be true, empty when it can.
    """

    key: int
    number: float | None
    low: float
    high: float
    wrong: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to read the same words that looks better.

    Attributes:
        words: what is different, for a person.
        settings: lines for the meter in the configuration; empty where that does not help.
        advice: what to do then.
        rows: the values so read.
    """

    words: str
    settings: tuple[str, ...]
    advice: str
    rows: tuple[Row, ...]

    @property
    def wrong(self) -> int:
        """Values that are outside even so."""
        return sum(bool(row.wrong) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the measuring point.

    Attributes:
        role: what it measures.
        limits: its fuse and its nominal voltage.
    """

    role: Role
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Change:
    """What is tried; its weight is how unlikely it is."""

    order: str = ""
    bytes_swapped: bool = False
    powers: tuple[tuple[str, int], ...] = ()
    turned: bool = False
    turned_phases: tuple[str, ...] = ()
    phases: tuple[str, ...] = PHASES

    @property
    def weight(self) -> int:
        weight = 2 * bool(self.order) + 3 * self.bytes_swapped + self.turned + 2 * len(self.turned_phases)
        weight += 3 * (self.phases != PHASES)
        return weight + sum(3 + abs(power) for _, power in self.powers)


_Numbers = dict[int, float | None]


def rows(decoded: Sequence[Decoded], known: Known) -> tuple[Row, ...]:
    """Every value of one measuring point beside its range."""
    numbers, lost = _numbers(decoded)
    return _rows(numbers, lost, known)


def candidates(
    meter_map: MeterMap, blocks: Sequence[Block], point: str, overrides: Overrides, known: Known, most: int = 3
) -> tuple[Candidate, ...]:
    """What would make the words of one point plausible, best first; empty when they are, or when nothing would."""
    base = _wrong(rows(_of(decode(meter_map, blocks, overrides), point), known))
    if not base:
        return ()
    found: list[tuple[tuple[int, int], int, Candidate]] = []
    for order, swapped, decoded in _orders(meter_map, blocks, point, overrides):
        numbers, lost = _numbers(decoded)
        for change in _changes(numbers, lost, known, _Change(order, swapped)):
            if change == _Change():
                continue
            changed = _rows(_apply(numbers, change), lost, known)
            if _wrong(changed) < base:
                score = _wrong(changed), -_fits(changed)
                found.append((score, change.weight, _candidate(change, changed, overrides)))
    found.sort(key=lambda each: each[:2])
    near = [each for score, weight, each in found if score == found[0][0] and weight <= found[0][1] + _NEAR]
    return tuple({each.words: each for each in near}.values())[:most]


def _of(decoded: Sequence[Decoded], point: str) -> list[Decoded]:
    return [each for each in decoded if each.point == point]


def _wrong(judged: Sequence[Row]) -> int:
    return sum(bool(row.wrong) for row in judged)


def _fits(judged: Sequence[Row]) -> int:
    """Phases whose power is worth mentioning and is what voltage and current can make: nothing does that by chance."""
    numbers = {(BY_KEY[row.key].name, BY_KEY[row.key].phase): row for row in judged if row.key in BY_KEY}
    found = 0
    for phase in PHASES:
        row = numbers.get(("active_power", phase))
        by_name = {name: each.number for name, each in numbers.items()}
        found += (
            row is not None
            and not row.wrong
            and abs(row.number or 0.0) > _SLACK_W
            and _volt_amperes(phase, by_name) is not None
        )
    return found


def _orders(
    meter_map: MeterMap, blocks: Sequence[Block], point: str, overrides: Overrides
) -> Iterator[tuple[str, bool, list[Decoded]]]:
    """The four orders of words and bytes; the first is the map's own, or the configuration's."""
    wide = [register.word_order for register in meter_map.registers if register.count > 1 and register.point == point]
    usual = overrides.word_order or (wide[0] if wide else "big")
    other = "little" if usual == "big" else "big"
    swapped = [replace(block, words=_swapped(block.words)) for block in blocks]
    for order in ("", other) if wide else ("",):
        setting = replace(overrides, word_order=order) if order else overrides
        for bytes_swapped, words in ((False, blocks), (True, swapped)):
            yield order, bytes_swapped, _of(decode(meter_map, words, setting), point)


def _swapped(words: bytes) -> bytes:
    turned = bytearray(words)
    turned[0::2], turned[1::2] = words[1::2], words[0::2]
    return bytes(turned)


def _changes(numbers: _Numbers, lost: frozenset[int], known: Known, base: _Change) -> Iterator[_Change]:
    """What is worth trying on these numbers, from the least to the most."""
    yield base
    scaled = _best_powers(numbers, lost, known, base)
    for change in dict.fromkeys((base, scaled)):
        yield change
        if known.role in (Role.CONSUMPTION, Role.GENERATION):
            yield replace(change, turned=True)
        negative = _against_role(_apply(numbers, change), known)
        if 0 < len(negative) < len(PHASES):
            yield replace(change, turned_phases=negative)
        if _has_phases(numbers):
            for order in permutations(PHASES):
                if order != PHASES:
                    yield replace(change, phases=order)


def _best_powers(numbers: _Numbers, lost: frozenset[int], known: Known, base: _Change) -> _Change:
    """The smallest powers of ten with the fewest values outside: of V and Hz alone, then of A and W together."""
    chosen: dict[str, int] = {}
    kinds = {_class(BY_KEY[key]) for key in numbers if key in BY_KEY}
    for group in (("V",), ("Hz",), ("A", "W")):
        names = [name for name in group if name in kinds]
        if not names:
            continue
        best: tuple[int, int, int, tuple[int, ...]] | None = None
        for powers in product(POWERS_OF_TEN, repeat=len(names)):
            tried = {**chosen, **dict(zip(names, powers, strict=True))}
            change = replace(base, powers=_sorted(tried))
            judged = _rows(_apply(numbers, change), lost, known)
            own = [row for row in judged if row.key in BY_KEY and _class(BY_KEY[row.key]) in group]
            score = (_wrong(own), -_fits(judged), sum(map(abs, powers)))
            if best is None or score < best[:3]:
                best = (*score, powers)
        assert best is not None
        chosen.update(zip(names, best[3], strict=True))
    return replace(base, powers=_sorted(chosen))


def _sorted(powers: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((name, powers[name]) for name in _SCALED if powers.get(name))


def _class(quantity: Quantity) -> str:
    return "W" if quantity.unit in _POWER_UNITS else _CLASSES.get(quantity.unit, "")


def _has_phases(numbers: _Numbers) -> bool:
    return {("current", phase) for phase in PHASES} <= _names(numbers)


def _names(numbers: _Numbers) -> set[tuple[str, str]]:
    return {(BY_KEY[key].name, BY_KEY[key].phase) for key in numbers if key in BY_KEY}


def _against_role(numbers: _Numbers, known: Known) -> tuple[str, ...]:
    """Phases whose power has the other sign than the role's."""
    sign = {Role.CONSUMPTION: 1, Role.GENERATION: -1}.get(known.role, 0)
    found = []
    for key, number in numbers.items():
        quantity = BY_KEY.get(key)
        if (
            quantity
            and quantity.name == "active_power"
            and quantity.phase in PHASES
            and sign * (number or 0) < -_SLACK_W
        ):
            found.append(quantity.phase)
    return tuple(found)


def _apply(numbers: _Numbers, change: _Change) -> _Numbers:
    """The numbers as they would be."""
    powers = dict(change.powers)
    source = dict(zip(PHASES, change.phases, strict=True))
    found: _Numbers = {}
    by_name = {(BY_KEY[key].name, BY_KEY[key].phase): key for key in numbers if key in BY_KEY}
    flipped = 0.0
    for key in numbers:
        quantity = BY_KEY.get(key)
        number = numbers[key]
        if quantity is None:
            found[key] = number
            continue
        if quantity.name == "current" and quantity.phase in source:
            number = numbers[by_name["current", source[quantity.phase]]] if change.phases != PHASES else number
        if number is not None:
            number *= 10.0 ** powers.get(_class(quantity), 0)
            if quantity.name in ("active_power", "reactive_power") and (
                change.turned or quantity.phase in change.turned_phases
            ):
                number = -number
                flipped += 2 * number if quantity.name == "active_power" and quantity.phase in PHASES else 0.0
        found[key] = number
    total = by_name.get(("active_power", "total"))
    if change.turned_phases and total is not None and (before := found[total]) is not None:
        found[total] = before + flipped
    return found


def _numbers(decoded: Sequence[Decoded]) -> tuple[_Numbers, frozenset[int]]:
    """The values, and those that are too small to be anything but words in a wrong order."""
    numbers: _Numbers = {}
    lost = set()
    for each in decoded:
        value = each.value
        numbers[each.key] = None if value is None else float(value.mantissa) * 10.0**value.exponent
        if (value is None and each.flags & Quality.OVERFLOW) or (
            value is not None and abs(numbers[each.key] or 0.0) < 1e-6 and each.flags & Quality.INACCURATE
        ):
            lost.add(each.key)
    return numbers, frozenset(lost)


def _rows(numbers: _Numbers, lost: frozenset[int], known: Known) -> tuple[Row, ...]:
    by_name = {(BY_KEY[key].name, BY_KEY[key].phase): number for key, number in numbers.items() if key in BY_KEY}
    live = any(number for (name, _), number in by_name.items() if name == "voltage")
    judged = []
    for key, number in numbers.items():
        quantity = BY_KEY.get(key)
        low, high = _range(quantity, by_name, known) if quantity else (float("-inf"), float("inf"))
        wrong = ""
        if key in lost:
            wrong = "makes no sense"
        elif number is not None and quantity is not None:
            if number == 0 and quantity.name in ("voltage", "frequency"):
                wrong = "" if live else "nothing, under voltage"
            elif not low <= number <= high:
                wrong = "too low" if number < low else "too high"
            else:
                wrong = _misfit(quantity, number, by_name)
        judged.append(Row(key, number, low, high, wrong))
    return tuple(judged)


def _range(quantity: Quantity, by_name: Mapping[tuple[str, str], float | None], known: Known) -> tuple[float, float]:
    """Lowest and highest a quantity can be."""
    limits, role = known.limits, known.role
    name, phase, unit = quantity.name, quantity.phase, quantity.unit
    if name == "voltage":
        low, high = VOLTAGE if phase in PHASES else VOLTAGE_TOTAL
        if limits.voltage_v is not None:
            factor = 1.0 if phase in PHASES else 3**0.5
            low, high = _BROWN * limits.voltage_v, _SURGE * limits.voltage_v * factor
        return low, high
    if name == "frequency":
        return FREQUENCY
    if name == "power_factor":
        return -POWER_FACTOR, POWER_FACTOR
    current = _PEAK * limits.current_a if limits.current_a is not None else _ANY_CURRENT_A
    if name == "current":
        return -current, current
    most_w = current * (limits.voltage_v or (_ANY_VOLTAGE_V if limits.current_a is None else 230.0))
    if unit in ("W", "var", "VA") and not name.startswith("dc_"):
        high = _carried(phase, by_name, most_w)
        forward = name == "active_power" and role == Role.CONSUMPTION
        backward = name == "active_power" and role == Role.GENERATION
        return (-_SLACK_W if forward else -high), (_SLACK_W if backward else high)
    if unit in ("Wh", "varh", "VAh") and not name.startswith("dc_"):
        most_wh = most_w / (_PEAK if limits.current_a is not None else 1.0) * len(PHASES) * _LIFE_H
        return (-most_wh if name.endswith("_net") else 0.0), most_wh
    return float("-inf"), float("inf")


def _carried(phase: str, by_name: Mapping[tuple[str, str], float | None], most_w: float) -> float:
    """The most power that the voltage and the current there can be; ``most_w`` a phase where they are not known."""
    if phase in PHASES:
        carried = _volt_amperes(phase, by_name)
        return most_w if carried is None else min(most_w, _MARGIN * carried + _SLACK_W)
    each = [_volt_amperes(one, by_name) for one in PHASES]
    there = [one for one in each if one is not None]
    if there and len(there) == sum(("current", one) in by_name for one in PHASES):
        return min(most_w * len(PHASES), _MARGIN * sum(there) + _SLACK_W * len(there))
    return most_w * len(PHASES)


def _volt_amperes(phase: str, by_name: Mapping[tuple[str, str], float | None]) -> float | None:
    volts, amperes = by_name.get(("voltage", phase)), by_name.get(("current", phase))
    return None if volts is None or amperes is None else abs(volts * amperes)


def _misfit(quantity: Quantity, number: float, by_name: Mapping[tuple[str, str], float | None]) -> str:
    """Why a power does not fit what is beside it; empty when it does."""
    if quantity.name != "active_power":
        return ""
    if quantity.phase in PHASES:
        carried = _volt_amperes(quantity.phase, by_name)
        if carried is None:
            return ""
        factor = by_name.get(("power_factor", quantity.phase))
        if factor is not None and factor != 0 and abs(factor) <= POWER_FACTOR:
            due = carried * abs(factor)
            if abs(abs(number) - due) > _FIT * max(carried, abs(number)) + _FIT_SLACK_W:
                return f"V x A x PF is {due:.0f} W"
        if carried > _LOADED_VA and abs(number) < _LEAST_PART * carried:
            return "too low for V x A"
        return ""
    parts = [by_name.get(("active_power", phase)) for phase in PHASES]
    there = [part for part in parts if part is not None]
    if quantity.phase == "total" and len(there) == len(PHASES):
        due = sum(there)
        if abs(number - due) > _FIT * max(abs(part) for part in (*there, number)) + _FIT_SLACK_W:
            return f"its phases make {due:.0f} W"
    return ""


def _candidate(change: _Change, judged: tuple[Row, ...], overrides: Overrides) -> Candidate:
    words, settings, advice = [], [], []
    if change.order:
        words.append(f"word order {change.order}")
        settings.append(f'word_order = "{change.order}"')
    if change.bytes_swapped:
        words.append("the bytes of each register swapped")
        advice.append("no setting swaps bytes: see the meter's own setting, or that of the converter")
    powers = dict(change.powers)
    for kind, power in change.powers:
        words.append(f"{'powers and energies' if kind == 'W' else kind} x 10^{power}")
    if "A" in powers and powers["A"] == powers.get("W", 0):
        ratio = (overrides.ratio or (1, 0))[0], (overrides.ratio or (1, 0))[1] + powers["A"]
        settings.append(f"ratio = {_decimal(*ratio)}")
    elif "W" in powers and "A" not in powers:
        scale = (overrides.scale or (1, 0))[0], (overrides.scale or (1, 0))[1] + powers["W"]
        settings.append(f"scale = {_decimal(*scale)}")
    if {"V", "Hz"} & powers.keys() or ("A" in powers and powers["A"] != powers.get("W", 0)):
        advice.append("another model has these factors: aigeco scan, or aigeco maps list")
    if change.turned:
        words.append("the other direction")
        settings.append(f"invert = {'false' if overrides.invert else 'true'}")
    if change.turned_phases:
        words.append(f"the other direction of {' and '.join(change.turned_phases)}")
        advice.append("turn the current transformer there round; no setting turns one phase")
    if change.phases != PHASES:
        words.append(f"currents in the order {' '.join(change.phases)}")
        advice.append("put each current transformer on the phase of its voltage")
    return Candidate(", ".join(words), tuple(settings), "; ".join(advice), judged)


def _decimal(mantissa: int, power: int) -> str:
    """A factor as the configuration has it: a number, or text for a small one."""
    if power >= 0:
        return str(mantissa * 10**power)
    digits = str(abs(mantissa)).rjust(1 - power, "0")
    return f'"{"-" if mantissa < 0 else ""}{digits[:power]}.{digits[power:]}"'
