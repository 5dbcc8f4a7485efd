"""All that a map says, as a person reads it; edge/cli/mapjson.py says the same to programs.

Rules
- Times are those of the wire and of a usual meter's thinking, as `aigeco config check` counts them (edge/load.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drivers import obis
from drivers.decode import Overrides
from drivers.line import Endpoint, SerialEndpoint, TcpEndpoint
from drivers.map import TABLES, Field, Identify, MeterMap, Register, SerialDefaults
from drivers.mapproof import OVERHEADS, layouts
from drivers.plan import Request, plan
from drivers.reading import Value
from edge import config, load
from edge.cli import table, values
from edge.cli.table import some
from signer.codes import Role

_TABLE = {function: name for name, function in TABLES.items()}
# For a device of which nobody knows how it is set.
_USUAL = SerialDefaults(9600, "N", 1, 1)
MARKS = ("billing", "resettable", "derived", "primary", "suspect")


class Plan(NamedTuple):
    """The requests of one layout on one kind of line, and seconds that they take."""

    label: str
    line: str
    requests: tuple[Request, ...]
    time_s: float


def show(one: MeterMap) -> None:
    """Print it."""
    print(f"{one.manufacturer} {one.model}")
    for line in _facts(one):
        print(line)
    print("sources:")
    for source in one.sources:
        print(f"  {source}")
    for precondition in one.preconditions:
        words = f"before it {'answers' if precondition.contact else 'is right'}: {precondition.words}"
        print("\n".join(textwrap.wrap(words, 80, subsequent_indent="  ", break_long_words=False)))
        if precondition.look:
            print(f"  {_expected(precondition.look)}")
    print()
    _show_registers(one)
    print()
    for each in plans(one):
        name = f"{each.label}, " if each.label else ""
        print(f"{name}{each.line}: {some(len(each.requests), 'request')}, {each.time_s:.2f} s")
        if one.scheme == "registers":
            for request in each.requests:
                print(f"  {_TABLE[request.function]} {request.address}..{request.end - 1} ({request.count})")


def _facts(one: MeterMap) -> Iterator[str]:
    confirmed = "confirmed by independent sources" if one.cross_checked else "unconfirmed"
    yield f"{one.name}: {one.kind}, {some(one.phases, 'phase')}, {confirmed}"
    names = dict.fromkeys(each.quantity.replace("_", " ") for each in _all_registers(one) if each.billing)
    yield f"for settlements: {', '.join(names) if one.settlement else f'no; {one.settlement_reason}'}"
    if one.serial:
        sure = "as sources state" if one.serial.verified else "a first guess"
        yield f"serial line: {_setting(one.serial)}, unit {one.serial.unit} ({sure})"
    if one.tcp:
        yield f"TCP: port {one.tcp.port}, unit {one.tcp.unit}"
    yield f"limits: {', '.join(_limits(one))}"
    if one.scheme == "sunspec":
        yield f"found by discovery: SunS at {', '.join(map(str, one.bases))}"
    if one.identify and one.identify.expected:
        yield f"known by: {_expected(one.identify)}"
    if one.identify and one.identify.serial:
        yield f"serial number: {_place(one.identify.serial)}"
    yield f"digest: {one.digest.hex()}"


def _all_registers(one: MeterMap) -> Sequence[Register]:
    return [*one.registers, *(register for model in one.models for register in model.registers)]


def _setting(serial: SerialDefaults) -> str:
    return f"{serial.baud} baud 8{serial.parity}{serial.stopbits}"


def _limits(one: MeterMap) -> Iterator[str]:
    yield f"at most {one.max_registers} registers at once"
    if one.max_gap is not None:
        yield f"reads through holes of at most {one.max_gap}"
    if one.even_only:
        yield "even addresses and counts only"
    if one.functions_equivalent:
        yield "functions 3 and 4 read the same"
    for words, number in (
        ("between requests", one.min_delay_ms),
        ("after connecting", one.connect_delay_ms),
        ("for an answer", one.timeout_ms),
    ):
        if number:
            yield f"{number} ms {words}"
    for first, last in one.forbidden:
        yield f"never {first}..{last}"
    if one.barriers:
        yield f"a new request begins at {', '.join(map(str, one.barriers))}"


def _place(field: Field | Identify) -> str:
    end = f"..{field.address + field.count - 1}" if field.count > 1 else ""
    return f"{_TABLE[field.function]} register {field.address}{end} ({field.type})"


def _expected(look: Identify) -> str:
    return f"{_place(look)} says {' or '.join(map(str, look.expected))}"


def _show_registers(one: MeterMap) -> None:
    if one.scheme == "sunspec":
        rows = [
            (", ".join(map(str, model.ids)), model.role, str(model.length), str(len(model.registers)))
            for model in one.models
        ]
        table.show(("SunSpec models", "role", "registers", "values"), rows, right=("registers", "values"))
        return
    values_ = [
        (
            each.point,
            values.name(each.key),
            obis.unpack(each.key),
            _TABLE[each.function],
            _addresses(each),
            each.type,
            "" if each.count == 1 else each.word_order,
            Value(*each.scale).text(),
            "" if obis.unit(each.key) == "1" else obis.unit(each.key),
            " ".join(_marks(each)),
        )
        for each in one.registers
    ]
    headings = ("point", "quantity", "obis", "table", "address", "type", "words", "scale", "unit", "marks")
    table.show(headings, values_, right=("scale",))


def _addresses(register: Register) -> str:
    return "+".join([str(register.address), *(str(term.address) for term in register.plus)])


def _marks(register: Register) -> Iterator[str]:
    yield from (mark for mark in MARKS if getattr(register, mark))
    if register.encoding != "plain":
        yield register.encoding
    if register.scale_address is not None:
        yield f"x10^[{register.scale_address}]"


def plans(one: MeterMap) -> Iterator[Plan]:
    """The requests of each layout, on a serial line and over TCP."""
    serial = one.serial or _USUAL
    lines: tuple[tuple[str, str, Endpoint], ...] = (
        ("RTU", f"RTU at {serial.baud} baud", SerialEndpoint("", serial.baud, serial.parity, serial.stopbits)),
        ("TCP", "TCP", TcpEndpoint("", 502)),
    )
    for label, concrete in layouts(one):
        meter = config.Meter(one.name, concrete, 1, Role.GRID, 60_000, Overrides())
        for name, words, endpoint in lines:
            time_s = load.read_time_s(config.Bus("", endpoint, (meter,)), meter)
            yield Plan(label, words, plan(concrete, OVERHEADS[name]), time_s)
