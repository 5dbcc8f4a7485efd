"""Ordinary lives: simulated households behind every meter of the catalogue, judged as the gateway judges them."""

from __future__ import annotations

from collections.abc import Iterator

from drivers import map as maps
from drivers.checks import Limits, Plan
from drivers.decode import decode, values
from drivers.map import MeterMap
from drivers.plan import TCP_OVERHEAD_BYTES, plan
from drivers.plausible import begin, judge
from drivers.reading import Block, Reading, quality_names
from hw_sim.device import MapDevice
from hw_sim.home import POINTS, Battery, Home, Household
from hw_sim.moment import NOON_MS
from hw_sim.readback import specimens
from hw_sim.sun import Roof

ROLES = {"grid": 0, "load": 1, "pv": 2, "battery": 3}
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


def live(name: str, seed: int, period_ms: int, readings: int, what: str = "") -> list[str]:
    """What plausibility finds in a life of so many readings, behind each layout of a map; empty when all is well.

    Args:
        name: of the map.
        seed: the household, its battery, its season and its time of day.
        period_ms, readings: how often and how many.
        what: the measuring point of a meter with one; any of :data:`ROLES` by the seed when it is empty.
    """
    meter_map = maps.load(name)
    usual = "pv" if meter_map.kind == "inverter" else tuple(ROLES)[seed % 4] if meter_map.kind == "meter" else "grid"
    found: list[str] = []
    for specimen in specimens(meter_map):
        found += _judged(specimen.map, what or usual, seed, period_ms, readings)
    return found


def _judged(meter_map: MeterMap, what: str, seed: int, period_ms: int, readings: int) -> Iterator[str]:
    phases = 3 if meter_map.phases > 1 else 1
    battery = Battery(5_000, 2_500) if what == "battery" or seed % 2 else None
    household = Household(
        "home", seed, phases, 60 + 30 * (seed % 4), Roof(5_000, 4_600), 1 + seed % phases % 2 * 2, battery
    )
    start_ms = NOON_MS + seed % 300 * _DAY_MS + seed % 24 * _HOUR_MS
    home = Home(household, start_ms - _HOUR_MS)
    shown = {point: point if point in POINTS else what for point in meter_map.points}

    def source(at_s: float) -> dict[str, dict[int, int]]:
        return {point: home.quantities(which, round(at_s * 1000)) for point, which in shown.items()}

    device = MapDevice(meter_map, source)
    limits = (Limits(), Limits(63, 230))[seed % 2]
    plans = {point: Plan(meter_map, point, ROLES[what], None, limits) for point in meter_map.points}
    states = {point: begin(plans[point]) for point in plans}
    requests = plan(meter_map, TCP_OVERHEAD_BYTES)
    for number in range(readings):
        at_ms = start_ms + number * period_ms
        blocks = [
            Block(r.function, r.address, device.read(r.function, r.address, r.count, at_ms / 1000)) for r in requests
        ]
        decoded = decode(meter_map, blocks)
        for point in meter_map.points:
            said = values(decoded, point)
            reading = Reading("meter", at_ms, None if said else 1, said)
            judged = judge(plans[point], states[point], reading, period_ms)
            states[point] = judged.state
            place = f"{meter_map.name} {point} {what}, seed {seed}, every {period_ms} ms, reading {number}"
            for event in judged.events:
                yield f"{place}: {event}"
            if judged.reading is not reading:
                flagged = [(key, value.text(), quality_names(value.quality)) for key, value in judged.reading.values]
                yield f"{place}: {[one for one in flagged if one[2]]}: {judged.state.troubles()}"
