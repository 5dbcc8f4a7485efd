"""Asks every meter of a stopped gateway once: who it is, and what it says. Only where ``--probe`` wants it.

Opens lines, so it must never run beside the agent; reads only, as the gateway does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from drivers import bus as buses
from drivers.bus import MeterConfig
from drivers.line import SerialEndpoint
from drivers.modbus import ModbusError, Wire
from edge.config import Bus, Meter
from edge.doctor.finding import TECHNICIAN, Finding, State, advice_of, unknown, well
from edge.doctor.meters import advice_on

AREA = "meters"
_CONNECT_S = 3.0


def check(bus: Bus) -> Iterator[Finding]:
    """The meters of one line."""
    if isinstance(bus.endpoint, SerialEndpoint) and not Path(bus.endpoint.path).exists():
        yield unknown(AREA, bus.name, "the port is not there")
        return
    wire = Wire(bus.endpoint)
    meters = [MeterConfig(meter.name, meter.map, meter.unit, meter.overrides) for meter in bus.meters]
    line = buses.Bus(bus.endpoint, meters, wire=wire)
    place = str(bus.endpoint)
    try:
        if not wire.open(_CONNECT_S):
            words = f"no connection after {_CONNECT_S:g} s"
            yield Finding("ports", State.WRONG, place, words, TECHNICIAN, "ping the host; its Modbus port and clients")
            return
        time.sleep(max(meter.map.connect_delay_ms for meter in bus.meters) / 1000)
        for meter in bus.meters:
            yield _ask(line, meter)
    except ModbusError as error:
        advice = advice_of(error, "the adapter and its cable")
        yield Finding("ports", State.WRONG, place, str(error), TECHNICIAN, advice)
    finally:
        line.close()


def _ask(line: buses.Bus, meter: Meter) -> Finding:
    began_s = time.monotonic()
    identity = line.identify(meter.name)
    readings = line.read(meter.name, time.time_ns() // 1_000_000)
    code = next((reading.status for reading in readings if reading.status is not None), None)
    trouble = line.counters[meter.name].trouble
    if code is not None and not any(reading.blocks for reading in readings):
        return Finding(AREA, State.WRONG, meter.name, f"gives no values: {trouble}", TECHNICIAN, advice_on(code, meter))
    took_ms = (time.monotonic() - began_s) * 1000
    serial = f"serial number {identity.serial}" if identity and identity.serial else "tells no serial number"
    return well(AREA, meter.name, f"{meter.map.name}, answered within {took_ms:.0f} ms; {serial}")
