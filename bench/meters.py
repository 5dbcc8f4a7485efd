"""Meters in a process of their own, so that their processor time is nobody else's.

``python -m bench.meters MODEL METERS LINES`` answers Modbus TCP on LINES ports, with the units 1 to METERS on each,
prints the ports as one line, and ends when its standard input does.

Rules
- The numbers are a household's, so that plausibility has nothing to say, and move every second, as real ones do.
- Only registers and a socket: no latency, no faults.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import click

from bench import sample
from drivers.map import MeterMap, load
from hw_sim.device import MapDevice
from hw_sim.encode import Points
from hw_sim.home import Home, Household
from hw_sim.station import Station
from hw_sim.wire import Wire

HOST = "127.0.0.1"
_NOON_MS = sample.SLOT_MS - sample.SLOT_MS % 86_400_000 + 12 * 3_600_000
UNIT = 1
"""The first meter of a line."""

MAIN = "sdm630-main"
"""The SDM630 with its twelve main quantities only, which is no model of the catalogue."""


@dataclass(frozen=True, slots=True)
class Meters:
    """Running meters.

    Attributes:
        ports: one TCP port a line.
        pid: the process that serves them.
    """

    ports: tuple[int, ...]
    pid: int


def map_of(model: str) -> MeterMap:
    """A map of the catalogue, or the reduced one; asked without pauses, as the simulator needs none."""
    return replace(sample.sdm630_main() if model == MAIN else load(model), min_delay_ms=0, connect_delay_ms=0)


@contextmanager
def running(model: str, units: int, lines: int) -> Iterator[Meters]:
    """Lines with so many meters each in another process, until the block ends."""
    command = [sys.executable, "-m", "bench.meters", model, str(units), str(lines)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            ports = tuple(int(port) for port in process.stdout.readline().split())
            if len(ports) != lines:
                raise RuntimeError(f"the meters did not start: exit status {process.wait(10)}")
            yield Meters(ports, process.pid)
        finally:
            process.stdin.close()


def moving(meter_map: MeterMap) -> MapDevice:
    """A meter of a household, whose numbers are others every second and belong together; it begins at noon."""
    home = Home(Household(phases=meter_map.phases), _NOON_MS - 12 * 3_600_000)
    began: list[float] = []

    def now(at_s: float) -> Points:
        began.append(at_s)
        found = home.quantities("load", _NOON_MS + int((at_s - began[0]) * 1000))
        del began[1:]
        return dict.fromkeys(meter_map.points, found)

    return MapDevice(meter_map, now, refresh_s=1.0)


@click.command(help=__doc__)
@click.argument("model")
@click.argument("units", type=int)
@click.argument("lines", type=int)
def main(model: str, units: int, lines: int) -> None:
    wire = Wire()
    device = moving(map_of(model))
    made = [
        wire.tcp(HOST, 0, [Station(f"meter-{line}-{unit}", unit, device) for unit in range(UNIT, UNIT + units)])
        for line in range(lines)
    ]
    with wire:
        click.echo(" ".join(str(port.port) for port in made))
        sys.stdin.read()


if __name__ == "__main__":
    main()
