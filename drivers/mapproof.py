"""A map tested alone: its file, and what the planner makes of it. Pure.

Golden dumps are compared in :mod:`drivers.golden`; that a map reads back what it stands for is tested by whoever has
devices to simulate.

Rules
- One :class:`Check` a question, each with everything that is wrong; a wrong file is asked nothing further.
- The plan is judged by what was asked of the planner, not by the planner's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from drivers import mapfile
from drivers.decode import decode
from drivers.map import MeterMap, Model, Register
from drivers.mapcheck import BILLING, LIMITS, OVERLAPS, QUANTITIES
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, Request, plan, split
from drivers.reading import Block
from drivers.sunspec import COMMON, END, layout
from drivers.table import Problem

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
OVERHEADS = {"RTU": RTU_OVERHEAD_BYTES, "TCP": TCP_OVERHEAD_BYTES}
# A statement carries the words of at most 64 requests, and 256 values (docs/statement-v1.cddl).
_MOST_REQUESTS, _MOST_VALUES = 64, 256
# Where the first model of a SunSpec device usually is: base 40000, marker, and the common model of 66 registers.
_COMMON_AT, _FIRST_AT = 40002, 40070


@dataclass(frozen=True, slots=True)
class Check:
    """What one question about a map came to.

    Attributes:
        name: what was asked.
        state: ``ok``, ``failed``, or ``skipped`` where it could not be asked.
        words: what there is to see, or why it was skipped.
        problems: everything that is wrong.
    """

    name: str
    state: str
    words: str
    problems: tuple[Problem, ...] = ()


class Layout(NamedTuple):
    """A map with concrete addresses: the map itself, or one of the layouts that a SunSpec device may have."""

    label: str
    map: MeterMap


def check(name: str, words: str, problems: Sequence[Problem]) -> Check:
    """A question that was asked."""
    return Check(name, FAILED if problems else OK, "" if problems else words, tuple(problems))


def check_file(data: bytes, name: str) -> tuple[MeterMap | None, tuple[Check, ...]]:
    """The map in a file, None where it has problems, and what is to say about each kind of rule."""
    meter_map, problems = mapfile.read(data, name)
    if meter_map is None:
        return None, (check("schema", "", problems),)
    registers = [register for one in layouts(meter_map) for register in one.map.registers]
    says = {
        "schema": _schema(meter_map),
        QUANTITIES: f"OBIS codes, units and phases agree; {some(len({r.key for r in registers}), 'code')}",
        OVERLAPS: "no two values share a register",
        LIMITS: f"at most {meter_map.max_registers} registers at once, nothing forbidden is needed",
        BILLING: _billing(meter_map, registers),
    }
    checks = tuple(check(rule, words, [p for p in problems if p.rule == rule]) for rule, words in says.items())
    return None if problems else meter_map, checks


def check_plan(meter_map: MeterMap) -> Check:
    """Whether the requests ask everything, keep every value whole and stay within the limits; also after a refusal."""
    problems: list[Problem] = []
    counts: dict[str, list[int]] = {name: [] for name in OVERHEADS}
    for label, concrete in layouts(meter_map):
        for name, overhead_bytes in OVERHEADS.items():
            requests = plan(concrete, overhead_bytes)
            counts[name].append(len(requests))
            problems += [replace(p, place=f"{name} {label} {p.place}") for p in _plan(concrete, requests)]
        values = max(sum(register.point == point for register in concrete.registers) for point in concrete.points)
        if values > _MOST_VALUES:
            words = f"more than {_MOST_VALUES}: a statement cannot carry them"
            problems.append(Problem(label, f"{values} values of one point", words, "fewer registers, or more points"))
    said = [f"{max(number)} over {name}" for name, number in counts.items()]
    return check("plan", f"requests: {', '.join(said)}; every value stays whole, also when the meter refuses", problems)


def layouts(meter_map: MeterMap) -> Iterator[Layout]:
    """The map itself; of a SunSpec map, one device for each model that it knows."""
    if meter_map.scheme != "sunspec":
        yield Layout("", meter_map)
        return
    for model in meter_map.models:
        before = _inverter(meter_map) if model.role == "dc" else None
        yield Layout(f"model {model.ids[0]}", layout(meter_map, _chain([*filter(None, [before]), model])))


def _inverter(meter_map: MeterMap) -> Model | None:
    """What a model of direct current belongs to."""
    return next((model for model in meter_map.models if model.role == "inverter"), None)


def _chain(models: Sequence[Model]) -> list[tuple[int, int]]:
    chain, address = [(COMMON, _COMMON_AT)], _FIRST_AT
    for model in models:
        chain.append((model.ids[0], address))
        address += 2 + model.length
    return [*chain, (END, address)]


def _schema(meter_map: MeterMap) -> str:
    if meter_map.scheme == "sunspec":
        return f"{some(sum(len(model.ids) for model in meter_map.models), 'SunSpec model')}"
    points = f", points {' and '.join(meter_map.points)}" if len(meter_map.points) > 1 else ""
    return f"{some(len(meter_map.registers), 'value')}{points}"


def _billing(meter_map: MeterMap, registers: Sequence[Register]) -> str:
    if not meter_map.settlement:
        return f"refused for settlements: {meter_map.settlement_reason}"
    names = dict.fromkeys(register.quantity.replace("_", " ") for register in registers if register.billing)
    return f"for settlements: {', '.join(names)}"


def _plan(meter_map: MeterMap, requests: Sequence[Request]) -> Iterator[Problem]:
    if len(requests) > _MOST_REQUESTS:
        words = f"more than {_MOST_REQUESTS}: a statement cannot carry their words"
        yield Problem("plan", f"{len(requests)} requests", words, "a longer max_registers, or fewer registers")
    for request in requests:
        yield from _within(meter_map, request)
        yield from _halves(meter_map, request)
    blocks = [Block(request.function, request.address, bytes(2 * request.count)) for request in requests]
    there = {(item.point, item.key) for item in decode(meter_map, blocks)}
    for register in meter_map.registers:
        if (register.point, register.key) not in there:
            words = "the plan does not read it whole"
            yield Problem(f"register ({register.quantity} {register.phase})", str(register.address), words, _REPORT)


# What only a fault of the planner can bring about.
_REPORT = "please report this map: the planner is at fault"


def _within(meter_map: MeterMap, request: Request) -> Iterator[Problem]:
    """What a request breaks of the map's limits."""
    broken = {
        f"longer than max_registers {meter_map.max_registers}": request.count > meter_map.max_registers,
        "reads forbidden registers": any(a < request.end and request.address <= b for a, b in meter_map.forbidden),
        "runs over a barrier": any(request.address < barrier < request.end for barrier in meter_map.barriers),
        "is not even": meter_map.even_only and (request.address % 2 or request.count % 2),
        "reads through too long a hole": meter_map.max_gap is not None
        and _longest_hole(meter_map, request) > meter_map.max_gap,
    }
    for words, wrong in broken.items():
        if wrong:
            shown = f"{request.count} registers from {request.address}"
            yield Problem("request", shown, words, "shorter values, parts that are closer together, or other limits")


def _longest_hole(meter_map: MeterMap, request: Request) -> int:
    longest, reached = 0, request.address
    for address, count in sorted(span for _, span in _inside(meter_map, request)):
        longest, reached = max(longest, address - reached), max(reached, address + count)
    return max(longest, request.end - reached)


def _inside(meter_map: MeterMap, request: Request) -> Iterator[tuple[Register, tuple[int, int]]]:
    for register in meter_map.registers:
        for address, count in register.spans():
            if register.function == request.function and request.address <= address < request.end:
                yield register, (address, count)


def _halves(meter_map: MeterMap, request: Request) -> Iterator[Problem]:
    """What is lost when the meter refuses a request and it is split, down to the last piece."""
    halves = split(request, meter_map)
    for register, (address, count) in _inside(meter_map, request) if halves else ():
        if not any(half.address <= address and address + count <= half.end for half in halves):
            place = f"register ({register.quantity} {register.phase})"
            yield Problem(place, str(address), f"is cut when {request} is split", _REPORT)
    for half in halves:
        yield from _halves(meter_map, half)


def some(count: int, noun: str) -> str:
    """``1 value``, ``44 values``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
