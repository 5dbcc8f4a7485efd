"""``aigeco read``: one meter, once, now: what a technician at the cabinet asks first.

Rules
- It reads through the same bus and the same maps as the agent.
- A failed read shows no value; it says what happened on the line and what to try.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from edge.cli import line
from edge.cli.exits import Exit, Refused, say

if TYPE_CHECKING:
    from drivers.bus import Identity
    from drivers.map import MeterMap
    from drivers.modbus import SerialEndpoint, TcpEndpoint
    from drivers.reading import Block, Reading

_METER = "meter"  # what the one meter is called on this command's bus


@dataclass(frozen=True, slots=True)
class Answer:
    """What the meter said.

    Attributes:
        identity: who it is; None when it did not say.
        readings: one a measuring point.
    """

    identity: Identity | None
    readings: tuple[Reading, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All register words, each block once."""
        return tuple(dict.fromkeys(block for reading in self.readings for block in reading.blocks))

    @property
    def window_ms(self) -> int | None:
        """From the first request to the last answer."""
        return max((reading.window_ms for reading in self.readings if reading.window_ms is not None), default=None)


@click.command("read", short_help="Read a meter once and show what it says.")
@click.argument("model")
@line.options
@click.option(
    "--word-order", type=click.Choice(["big", "little"]), help="For a device set otherwise than its map says."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, word_order: str | None, as_json: bool, **options: Any) -> int:
    """Read the meter MODEL once, over TCP or a serial line, and show what it says.

    MODEL is a name of the catalogue, such as eastron_sdm630.
    """
    from drivers.map import load

    meter_map = load(model)
    where = line.Line(**options)
    try:
        answer = _ask(meter_map, where.endpoint(meter_map), where.unit_id(meter_map), word_order)
        _check(answer, f"unit {where.unit_id(meter_map)} on {where.name}", meter_map)
    except Refused as refused:
        if as_json:
            print(json.dumps({"model": model, "error": str(refused), "values": []}))
        say(refused)
        return refused.code
    _show(meter_map, answer, where, word_order, as_json)
    return Exit.OK


def _ask(meter_map: MeterMap, endpoint: TcpEndpoint | SerialEndpoint, unit: int, word_order: str | None) -> Answer:
    from drivers.bus import Bus, MeterConfig
    from drivers.decode import Overrides

    bus = Bus(endpoint, [MeterConfig(_METER, meter_map, unit, Overrides(word_order=word_order))])
    try:
        identity = bus.identify(_METER)
        return Answer(identity, bus.read(_METER, time.time_ns() // 1_000_000))
    finally:
        bus.close()


def _check(answer: Answer, place: str, meter_map: MeterMap) -> None:
    """Raises Refused when not every measuring point was read."""
    for reading in answer.readings:
        if reading.status is not None:
            words, advice = _failure(reading.status, meter_map)
            raise Refused(f"{place}: {words}", Exit.METER, *advice)


def _failure(status: int, meter_map: MeterMap) -> tuple[str, tuple[str, ...]]:
    """What a technician reads instead of a status code, and what to try."""
    from drivers.reading import Status

    usual = meter_map.serial
    factory = f" (the factory sets {usual.baud} 8{usual.parity}{usual.stopbits}, unit {usual.unit})" if usual else ""
    by_status = {
        Status.TIMEOUT: (
            "no answer",
            (
                "another --unit: the meter's own display or its manual says which",
                f"--baud and --parity as the meter has them{factory}",
                "A and B wires swapped, both ends terminated, the meter under voltage",
            ),
        ),
        Status.DISCONNECTED: (
            "no connection",
            (
                "ping the host; the port is usually 502",
                "whether another program holds it: many devices serve one client at a time",
            ),
        ),
        Status.INCOMPATIBLE: (
            f"answers, but not as a {meter_map.manufacturer} {meter_map.model} does",
            ("another MODEL; the type plate says which",),
        ),
        Status.READ_ERROR: (
            "answers, but not what was asked",
            ("one master on the line, each unit id once, the wiring; then again",),
        ),
    }
    other = (f"cannot be read: {Status(status).name.lower().replace('_', ' ')}", ("again in a minute",))
    return by_status.get(Status(status), other)


def _show(meter_map: MeterMap, answer: Answer, where: line.Line, word_order: str | None, as_json: bool) -> None:
    from drivers.decode import Overrides, decode
    from edge.cli import values

    concrete = answer.identity.map if answer.identity else meter_map
    found = decode(concrete, answer.blocks, Overrides(word_order=word_order))
    if as_json:
        shape = {
            "model": meter_map.name,
            "values": values.entries(found, concrete.points),
            "window_ms": answer.window_ms,
            "words": _words(answer.blocks),
        }
        print(json.dumps(shape))
        return
    serial = f", serial number {answer.identity.serial}" if answer.identity and answer.identity.serial else ""
    print(f"{meter_map.manufacturer} {meter_map.model}, unit {where.unit_id(meter_map)} on {where.name}{serial}")
    values.show(found, concrete.points)
    print(f"read in {answer.window_ms} ms, {len(answer.blocks)} blocks of registers")


def _words(blocks: Sequence[Block]) -> list[dict[str, object]]:
    return [{"function": each.function, "address": each.address, "words": each.words.hex()} for each in blocks]
