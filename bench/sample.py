"""Readings to measure with: catalogue maps, answered by the simulator's meters, decoded as the agent does.

Rules
- Values have the odd digits of a real meter, not round numbers: 230.174321 V takes more bytes than 230 V.
- Words, plan and decoding are the product's own; nothing here knows the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from drivers.guard import Guard
from drivers.map import MeterMap, load, names
from drivers.meter import Meter, MeterConfig
from drivers.obis import BY_KEY
from drivers.plan import TCP_OVERHEAD_BYTES, Request
from drivers.reading import Block, Reading
from hw_sim.device import MapDevice
from hw_sim.encode import Points

SLOT_MS = 1_789_000_000_000
"""A slot some time in 2026."""

MAIN_QUANTITIES = (
    ("voltage", "L1"),
    ("voltage", "L2"),
    ("voltage", "L3"),
    ("current", "L1"),
    ("current", "L2"),
    ("current", "L3"),
    ("active_power", "L1"),
    ("active_power", "L2"),
    ("active_power", "L3"),
    ("active_power", "total"),
    ("active_energy_import", "total"),
    ("active_energy_export", "total"),
)
"""The twelve that a bill and a technician ask for first."""

_ABOUT_TWELVE = range(11, 14)

# Millionths of the unit, in the magnitude of a house that draws some 5 kW.
_TYPICAL = {
    "V": 230_174_321,
    "A": 7_482_913,
    "W": 1_722_318_447,
    "var": -211_946_113,
    "VA": 1_735_310_229,
    "Wh": 9_123_517_000_000,
    "varh": 1_380_411_000_000,
    "VAh": 9_730_226_000_000,
    "Hz": 49_987_113,
    "1": 962_413,
    "%": 71_000_000,
}


def catalogue(everything: bool) -> Iterator[tuple[str, MeterMap]]:
    """Maps with fixed registers, by name: those of about twelve quantities, or all of them."""
    for name in names():
        meter_map = load(name)
        if meter_map.scheme == "registers" and (everything or len(meter_map.registers) in _ABOUT_TWELVE):
            yield name, meter_map


def sdm630_main() -> MeterMap:
    """The SDM630's map with its twelve main quantities only."""
    full = load("eastron_sdm630")
    wanted = set(MAIN_QUANTITIES)
    kept = tuple(register for register in full.registers if (register.quantity, register.phase) in wanted)
    return replace(full, registers=kept)


def quantities(meter_map: MeterMap) -> Points:
    """A number for everything that a map has, each a little different."""
    points: dict[str, dict[int, int]] = {point: {} for point in meter_map.points}
    for number, register in enumerate(meter_map.registers):
        typical = _TYPICAL.get(BY_KEY[register.key].unit, 1_000_000)
        points[register.point][register.key] = typical + typical // 997 * number
    return points


def device(meter_map: MeterMap) -> MapDevice:
    """A meter of that map, whose numbers stand still."""
    still = quantities(meter_map)
    return MapDevice(meter_map, lambda at_s: still)


def answers(meter_map: MeterMap, requests: Sequence[Request]) -> tuple[Block, ...]:
    """What the meter answers to the requests."""
    meter = device(meter_map)
    return tuple(
        Block(request.function, request.address, meter.read(request.function, request.address, request.count, 1.0))
        for request in requests
    )


def reading(meter_map: MeterMap, sub: str = "meter-01", overhead_bytes: int = TCP_OVERHEAD_BYTES) -> Reading:
    """One reading of a meter's first measuring point, with the evidence words that the bus keeps."""
    meter = Meter(MeterConfig(sub, meter_map, 1), Guard(), overhead_bytes)
    first = meter.readings(SLOT_MS, answers(meter_map, meter.plan), 38)[0]
    return replace(first, sub=sub)
