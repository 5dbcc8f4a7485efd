"""A map run backwards and forwards: simulated devices of it, read by the gateway's own bus through real frames.

``aigeco maps check`` finds this module by its name (edge/cli/mapcheck.py), because a gateway may be installed without
the simulator.

Rules
- The device shows a sunny minute of a home with a battery: powers of both signs, another one on every phase.
- It stands still, so that what was shown and what was read can be compared to the last digit the registers have.
- Every layout that a SunSpec device may have is a device of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from drivers.bus import Bus, MeterConfig
from drivers.line import TcpEndpoint
from drivers.map import MeterMap, Register
from drivers.mapproof import Check, check, some
from drivers.obis import unpack
from drivers.reading import Reading, Value
from drivers.table import Problem
from hw_sim import chain, frames, moment
from hw_sim.device import MapDevice, Source
from hw_sim.encode import Points
from hw_sim.moment import NOON_MS
from hw_sim.station import Station
from hw_sim.wire import Wire
from hw_sim.words import is_counter

_ROLES = {"inverter": "pv", "meter": "grid", "both": "grid"}
_FRAMINGS = {"TCP": ("tcp", frames.TCP), "RTU": ("rtu", frames.RTU)}
_UNIT = 1
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Specimen:
    """One device of a map.

    Attributes:
        label: which of its layouts, empty where there is one.
        map: with concrete addresses.
        device: it.
        points: what it shows, in millionths.
    """

    label: str
    map: MeterMap
    device: MapDevice
    points: Points


def specimens(meter_map: MeterMap, serial: str = "10000001") -> Iterator[Specimen]:
    """A device for each layout of a map."""
    for label, concrete, extra in _layouts(meter_map, serial):
        points = shown(concrete)
        yield Specimen(label, concrete, MapDevice(concrete, _still(points), serial, extra), points)


def _still(points: Points) -> Source:
    return lambda at_s: points


def shown(meter_map: MeterMap) -> Mapping[str, Mapping[int, int]]:
    """Quantities of every point of a map at the one instant, in millionths of their units."""
    phases = 3 if meter_map.phases > 1 else 1
    role = _ROLES[meter_map.kind]
    return {point: moment.shown(phases, point if point in moment.POINTS else role) for point in meter_map.points}


def _layouts(
    meter_map: MeterMap, serial: str
) -> Iterator[tuple[str, MeterMap, Mapping[tuple[int, int], bytes] | None]]:
    if meter_map.scheme != "sunspec":
        yield "", meter_map, None
        return
    inverter = next((model.ids[0] for model in meter_map.models if model.role == "inverter"), None)
    for model in meter_map.models:
        # What measures direct current belongs to the inverter before it.
        first = [inverter] if model.role == "dc" and inverter is not None else []
        numbers = [*first, model.ids[0]]
        yield f"model {model.ids[0]}", *chain.layout(meter_map, numbers, serial)


def read_back(meter_map: MeterMap) -> tuple[Check, ...]:
    """Whether devices of a map say what they show, once over Modbus TCP and once in RTU frames."""
    quick = replace(meter_map, min_delay_ms=0, connect_delay_ms=0)  # nothing here needs a rest
    found = tuple(specimens(quick))
    stations = {name: [Station("meter", _UNIT, one.device) for one in found] for name in _FRAMINGS}
    wire = Wire()
    try:
        ports = {
            name: [wire.tcp(_HOST, 0, [station], framing).port for station in stations[name]]
            for name, (_, framing) in _FRAMINGS.items()
        }
    except BaseException:
        wire.close()
        raise
    with wire:
        return tuple(
            _checked(
                name,
                [(one, TcpEndpoint(_HOST, port, word)) for one, port in zip(found, ports[name], strict=True)],
                quick,
            )
            for name, (word, _) in _FRAMINGS.items()
        )


def _checked(name: str, devices: list[tuple[Specimen, TcpEndpoint]], meter_map: MeterMap) -> Check:
    problems: list[Problem] = []
    requests = 0
    for specimen, endpoint in devices:
        bus = Bus(endpoint, [MeterConfig("meter", meter_map, _UNIT)])
        try:
            bus.identify("meter")
            readings = bus.read("meter", NOON_MS)
            requests += bus.counters["meter"].requests
            trouble = bus.counters["meter"].trouble
        finally:
            bus.close()
        problems += _differences(specimen, readings, trouble)
    values = sum(len(specimen.map.registers) for specimen, _ in devices)
    return check(name, f"{some(values, 'value')} read back in {some(requests, 'request')}", problems)


def _differences(specimen: Specimen, readings: tuple[Reading, ...], trouble: str) -> Iterator[Problem]:
    by_point = dict(zip(specimen.map.points, readings, strict=False))
    for point in specimen.map.points:
        reading = by_point.get(point)
        if reading is None or reading.status is not None:
            words = trouble or "the bus reads nothing from it"
            yield Problem(
                specimen.label or "device", point, words, "check limits and identify: they contradict the map"
            )
            continue
        values = dict(reading.values)
        for register in specimen.map.registers:
            if register.point == point:
                yield from _difference(specimen, register, values.get(register.key))


def _difference(specimen: Specimen, register: Register, value: Value | None) -> Iterator[Problem]:
    was = specimen.points[register.point].get(register.key)
    if was is None:
        return  # nothing in a home makes this quantity
    place = f"{specimen.label} register ({register.quantity} {register.phase})".lstrip()
    if value is None:
        words = f"the device shows {Value(was, -6).text()}, the gateway reads nothing"
        yield Problem(place, unpack(register.key), words, "check not_available and the words it shares with others")
        return
    if register.type.startswith("u") and not register.plus and register.scale[0] > 0:
        was = abs(was)  # without a sign only the size is shown
    said = Decimal(value.mantissa).scaleb(value.exponent + 6)
    if abs(said - was) > resolution(register, specimen):
        words = f"the device shows {Value(was, -6).text()}, the gateway reads {value.text()}"
        yield Problem(place, unpack(register.key), words, "check type, scale and range: the number may not fit")


def resolution(register: Register, specimen: Specimen) -> Decimal:
    """How far a value that was read may be from what the device shows, in millionths."""
    shows = specimen.points[register.point]
    if register.type in ("f32", "f64"):
        return Decimal(abs(shows[register.key])) / 2**23 + 1
    step = Decimal(abs(register.scale[0])).scaleb(register.scale[1] + 6)
    if register.scale_address is not None and not is_counter(register.key):
        # The power of ten suits the largest of those that share it; four digits of that one are left.
        group = [one for one in specimen.map.registers if one.scale_address == register.scale_address]
        largest = max(abs(specimen.points[one.point].get(one.key, 0)) for one in group)
        step = max(step / 1000, Decimal(largest) / 3_000)
    return step * (1 + len(register.plus))
