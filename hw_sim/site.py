"""A site: homes, lines, devices and faults of a whole community, as data. :mod:`hw_sim.sitefile` reads it from a file.

Starts nothing and checks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drivers.map import MeterMap
from hw_sim.faults import Fault
from hw_sim.home import Household
from hw_sim.line import LineTiming

_MOST_PORT = 65535
# Simple meters take some ten milliseconds to find an answer; what has an Ethernet port finds it at once.
_SERIAL_LATENCY_MS = 25


@dataclass(frozen=True, slots=True)
class Device:
    """A device on a line.

    Attributes:
        name: for people and faults.
        map: its meter model, None for a bare dump.
        unit: unit id.
        home: the home it measures.
        role: which of the home's points.
        dump: register dump to serve instead, None to measure.
        serial: serial number, ``""`` = made from name and seed.
        latency_ms: what it takes to find an answer.
        most_registers: exception 2 above this count, None = the map's own limit alone.
        models: SunSpec models, ``()`` = those that suit the role.
    """

    name: str
    map: MeterMap
    unit: int
    home: str
    role: str
    dump: Path | None = None
    serial: str = ""
    latency_ms: int = 0
    most_registers: int | None = None
    models: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A port and what hangs on it.

    Attributes:
        name: for people.
        tcp: host and port, None for a serial line.
        framing: ``tcp`` or ``rtu``.
        pty: the link to make, None for TCP.
        timing: pace of the serial line, None on plain TCP.
        devices: by unit id.
    """

    name: str
    tcp: tuple[str, int] | None
    framing: str
    pty: Path | None
    timing: LineTiming | None
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """A whole site.

    Attributes:
        seed: of everything that is drawn by lot.
        start_ms: POSIX milliseconds on the site's clock when it starts.
        speed: seconds of the site per second.
        homes, lines, faults: what is in it.
        since_ms: when the counters had their first stand, None = the midnight (UTC) before the start.
    """

    seed: int
    start_ms: int
    speed: float
    homes: tuple[Household, ...]
    lines: tuple[Line, ...]
    faults: tuple[Fault, ...]
    since_ms: int | None = None


def default_latency_ms(serial: bool) -> int:
    """What a device takes to find an answer when nobody says."""
    return _SERIAL_LATENCY_MS if serial else 0


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises:
        ValueError: it is none.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > _MOST_PORT:
        raise ValueError(f"{text!r} is no address such as 127.0.0.1:5020 (port 0: any free one)")
    return host, int(port)
