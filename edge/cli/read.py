"""``aigeco read``: one meter, once, now: what a technician at the cabinet asks first.

Rules
- It reads through the same bus and the same maps as the agent.
- A failed read shows no value; it says what happened on the line and what to try.
- What the map takes for granted about the device's settings is looked at and reported; nothing is ever written.
"""

from __future__ import annotations

import datetime as dt
import json
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import completion, line
from edge.cli.exits import Exit, Refused, code_of, say

if TYPE_CHECKING:
    from drivers.bus import Identity
    from drivers.line import Endpoint
    from drivers.map import MeterMap
    from drivers.modbus import Wire
    from drivers.plan import Request
    from drivers.preconditions import Looked
    from drivers.reading import Block, Reading, Value

_METER = "meter"  # what the one meter is called on this command's bus


# A meter in the same building answers a connection attempt at once; a converter that wakes up takes a second or two.
_CONNECT_S = 5.0
# It has just answered; a setting takes some meters a little longer than a measurement.
_SETTING_S = 1.0
# A terminal over SSH.
_COLUMNS = 80


@dataclass(frozen=True, slots=True)
class Answer:
    """What the meter said.

    Attributes:
        identity: who it is; None when it did not say.
        readings: one a measuring point.
        trouble: the last failure in the bus' words, empty when there was none.
        looked: how the device is set, as far as the map cares; empty after a failed read.
        rated: the power on a SunSpec device's name plate in W; None where it has none.
    """

    identity: Identity | None
    readings: tuple[Reading, ...]
    trouble: str
    looked: tuple[Looked, ...] = ()
    rated: Value | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All register words, each block once."""
        return tuple(dict.fromkeys(block for reading in self.readings for block in reading.blocks))

    @property
    def window_ms(self) -> int | None:
        """From the first request to the last answer."""
        return max((reading.window_ms for reading in self.readings if reading.window_ms is not None), default=None)


@click.command("read", short_help="Read a meter once and show what it says.")
@click.argument("model", shell_complete=completion.models)
@line.options
@click.option(
    "--word-order", type=click.Choice(["big", "little"]), help="For a device set otherwise than its map says."
)
@click.option(
    "--dump", type=click.Path(path_type=Path), metavar="FILE", help="Keep words and values, as a golden dump."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, word_order: str | None, dump: Path | None, as_json: bool, **options: Any) -> int:
    """Read the meter MODEL once, over TCP or a serial line, and show what it says.

    MODEL is a name of the catalogue, such as eastron_sdm630, or the path of a map file that ends in .toml. Nothing is
    written to the meter. Stop the gateway before its own line is used: systemctl stop aigeco.
    """
    from drivers.map import load

    meter_map = load(model)
    where = line.Line(**options)
    unit = where.unit_id(meter_map)
    try:
        answer = _ask(meter_map, where.endpoint(meter_map), unit, word_order)
        _check(answer, f"unit {unit} on {where.name}", meter_map, where.rtu)
    except Exception as error:
        if code_of(error) != Exit.METER:
            raise
        if not getattr(error, "__notes__", ()):
            error.add_note("try: the name or the path again, letter by letter; then its cable and its power")
        elif not isinstance(error, Refused):  # of the line itself
            for words in _contact(meter_map):
                error.add_note(f"try: {words}")
        if as_json:
            print(json.dumps({"model": meter_map.name, "error": str(error), "values": []}))
        say(error)
        return Exit.METER
    if dump is not None:
        _keep(dump, meter_map, answer, word_order)
    _show(meter_map, answer, f"unit {unit} on {where.name}", word_order, as_json)
    return Exit.OK


def _keep(path: Path, meter_map: MeterMap, answer: Answer, word_order: str | None) -> None:
    """What was read as a golden dump (docs/catalogue.md): by its map alone, so that it proves the map."""
    from drivers.decode import decode
    from drivers.dumptext import headers, text

    if word_order is not None:
        raise click.UsageError("--dump proves the map as it is: put word_order into the map, without --word-order")
    concrete = answer.identity.map if answer.identity else meter_map
    models = answer.identity.models if answer.identity else ()
    head = {
        "device": f"{meter_map.manufacturer} {meter_map.model}",
        "source": f"aigeco read, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "kind": "real capture",
    }
    content = text(meter_map, head, (*headers(models), *answer.blocks), decode(concrete, answer.blocks))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise Refused(f"{path}: is there already, and nothing is overwritten", Exit.USAGE, "another name") from None


def _ask(meter_map: MeterMap, endpoint: Endpoint, unit: int, word_order: str | None) -> Answer:
    from drivers.bus import Bus, MeterConfig
    from drivers.decode import Overrides
    from drivers.modbus import Wire

    wire = Wire(endpoint)
    bus = Bus(endpoint, [MeterConfig(_METER, meter_map, unit, Overrides(word_order=word_order))], wire=wire)
    try:
        if not wire.open(_CONNECT_S):
            advice = "ping the host; the port is usually 502; the device may serve another client already"
            raise Refused(f"{endpoint}: no connection after {_CONNECT_S:g} s", Exit.METER, advice, *_contact(meter_map))
        time.sleep(meter_map.connect_delay_ms / 1000)  # the bus sees to it only where it opened the line itself
        identity = bus.identify(_METER)
        readings = bus.read(_METER, time.time_ns() // 1_000_000)
        trouble = bus.counters[_METER].trouble.removeprefix(f"{endpoint}: ")
        if not any(reading.blocks for reading in readings):
            return Answer(identity, readings, trouble)
        models = identity.models if identity else ()
        return Answer(identity, readings, trouble, _look(wire, meter_map, unit), _rated(wire, models, unit))
    finally:
        bus.close()


def _look(wire: Wire, meter_map: MeterMap, unit: int) -> tuple[Looked, ...]:
    from drivers.preconditions import look

    def read(request: Request) -> bytes:
        time.sleep(meter_map.min_delay_ms / 1000)
        return wire.read(unit, request, _SETTING_S)

    return look(meter_map, read)


def _rated(wire: Wire, models: Sequence[tuple[int, int]], unit: int) -> Value | None:
    from drivers.line import ModbusError
    from drivers.plan import Request
    from drivers.sunspec import rated_power

    try:
        return rated_power(lambda *what: wire.read(unit, Request(*what), _SETTING_S), models)
    except ModbusError:
        return None  # it has given its values; this is by the way


def _check(answer: Answer, place: str, meter_map: MeterMap, rtu: bool) -> None:
    """Raises Refused when no registers came. A device that has no values now, as an inverter at night, has said so."""
    if answer.blocks:
        return
    status = next((reading.status for reading in answer.readings if reading.status is not None), 0)
    words, advice = _failure(status, meter_map, rtu)
    if answer.trouble.startswith(words):
        words = answer.trouble
    elif answer.trouble:
        words = f"{words} ({answer.trouble})"
    raise Refused(f"{place}: {words}", Exit.METER, *advice)


def _failure(status: int, meter_map: MeterMap, rtu: bool) -> tuple[str, tuple[str, ...]]:
    """What a technician reads instead of a status code, and what to try."""
    from drivers.reading import Status

    match status:
        case Status.TIMEOUT:
            unit = "another --unit: the meter's own display or its manual says which"
            if not rtu:
                framing = "--framing rtu, where a converter passes RTU frames as they are"
                return "no answer", (unit, framing, *_contact(meter_map))
            usual = meter_map.serial
            factory = f" (the factory sets {usual.baud} 8{usual.parity}{usual.stopbits})" if usual else ""
            return "no answer", (
                unit,
                f"--baud and --parity as the meter has them{factory}",
                "the wiring: A and B swapped, both ends terminated, the meter under voltage",
                *_contact(meter_map),
            )
        case Status.DISCONNECTED:
            return "the connection broke", ("again; many devices serve one client at a time",)
        case Status.INCOMPATIBLE:
            model = f"{meter_map.manufacturer} {meter_map.model}"
            return f"answers, but not as a {model} does", ("another MODEL; the type plate says which",)
    return "answers, but not what was asked", ("one master on the line, each unit id once, the wiring; then again",)


def _contact(meter_map: MeterMap) -> tuple[str, ...]:
    """What has to be set at the device before it answers anybody."""
    return tuple(each.words for each in meter_map.preconditions if each.contact)


def _show(meter_map: MeterMap, answer: Answer, place: str, word_order: str | None, as_json: bool) -> None:
    from drivers.decode import Overrides, decode
    from edge.cli import values

    concrete = answer.identity.map if answer.identity else meter_map
    found = decode(concrete, answer.blocks, Overrides(word_order=word_order))
    if as_json:
        shape: dict[str, object] = {
            "model": meter_map.name,
            "values": values.entries(found, concrete.points),
            "window_ms": answer.window_ms,
            "words": _words(answer.blocks),
        }
        if answer.rated is not None:
            shape["rated_power_w"] = answer.rated.text()
        if answer.looked:
            shape["preconditions"] = [
                {"words": each.precondition.words, "said": each.said, "holds": each.holds} for each in answer.looked
            ]
        print(json.dumps(shape))
        return
    serial = f", serial number {answer.identity.serial}" if answer.identity and answer.identity.serial else ""
    rated = f", rated {answer.rated.text()} W" if answer.rated is not None else ""
    print(f"{meter_map.manufacturer} {meter_map.model}\n{place}{serial}{rated}")
    values.show(found, concrete.points)
    print(f"read in {answer.window_ms} ms, registers in {len(answer.blocks)} requests")
    for each in answer.looked:
        if each.holds is not True:
            print("\n".join(textwrap.wrap(_setting(each), _COLUMNS, subsequent_indent="  ", break_long_words=False)))


def _setting(looked: Looked) -> str:
    words, register = looked.precondition.words, looked.precondition.look
    if register is None:
        return f"to look at on the device: {words}"
    if looked.holds is None:
        return f"to look at on the device: {words} (register {register.address}: {looked.said})"
    expected = " or ".join(map(str, register.expected))
    return f"warning: register {register.address} says {looked.said}, not {expected}: {words}"


def _words(blocks: Sequence[Block]) -> list[dict[str, object]]:
    return [{"function": each.function, "address": each.address, "words": each.words.hex()} for each in blocks]
