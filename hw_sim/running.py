"""A site that runs: its homes live, its meters answer.

Rules
- One wire, one thread, however large the site is.
- The site's clock starts when the site does and runs at the site's speed; the meters' counters started at midnight
  (UTC) of that day, or when the site says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from drivers import obis
from drivers.map import MeterMap
from hw_sim import chain, frames, noise
from hw_sim.device import DumpDevice, MapDevice, Source
from hw_sim.home import POINTS, Home
from hw_sim.site import Device, Line, Site
from hw_sim.station import Station
from hw_sim.wire import Port, SerialPort, TcpPort, Wire

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Clock:
    """The site's time: POSIX milliseconds that may run faster than ours.

    Attributes:
        start_ms: the site's time at ``start_s``.
        speed: seconds of the site per second.
        start_s: monotonic instant.
    """

    start_ms: int
    speed: float
    start_s: float

    def at(self, monotonic_s: float) -> int:
        """The site's time at a monotonic instant."""
        return self.start_ms + int(max(0.0, monotonic_s - self.start_s) * 1000 * self.speed)


@dataclass(frozen=True, slots=True)
class Shown:
    """One device as people see it.

    Attributes:
        device: what it is.
        port: where it hangs.
        station: what it did.
        meter: the meter, None for a dump.
    """

    device: Device
    port: Port
    station: Station
    meter: MapDevice | None

    def value(self, quantity: str) -> float | None:
        """What the meter measured last (total of that quantity), None before anybody asked."""
        if self.meter is None or self.meter.shown is None:
            return None
        point = self.meter.shown.get(self.meter.map.points[0], {})
        found = point.get(obis.BY_NAME[quantity, "total"].key)
        return None if found is None else found / 1_000_000


class Running:
    """A started site; close it, or use it in ``with``.

    Attributes:
        clock: the site's.
        homes: by name.
        devices: all of them, in the order of the file.
        ports: by line name.
    """

    def __init__(self, site: Site) -> None:
        """Open all ports; :meth:`start` begins to answer.

        Raises:
            PortProblem: a port cannot be opened; none stays open.
            DumpError: a dump cannot be used.
        """
        self.clock = Clock(site.start_ms, site.speed, time.monotonic())
        first_stand_ms = site.start_ms - site.start_ms % _DAY_MS if site.since_ms is None else site.since_ms
        self.homes = {household.name: Home(household, first_stand_ms) for household in site.homes}
        self.devices: list[Shown] = []
        self.ports: dict[str, Port] = {}
        self._site = site
        self._wire = Wire()
        try:
            for line in site.lines:
                self._open(line)
        except BaseException:
            self._wire.close()
            raise

    def start(self) -> None:
        """Begin to answer."""
        self._wire.start()

    def check(self) -> None:
        """Raise what ended the wire's thread, if anything did."""
        self._wire.check()

    def close(self) -> None:
        """Stop answering and give all ports back."""
        self._wire.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def address(self, line: str) -> str:
        """Where a client finds a line: ``127.0.0.1:5020`` or the path of a terminal."""
        port = self.ports[line]
        if isinstance(port, TcpPort):
            return f"{port.host}:{port.port}"
        assert isinstance(port, SerialPort)
        return port.path

    def _open(self, line: Line) -> None:
        made = [self.device(device) for device in line.devices]
        stations = [
            Station(
                device.name,
                device.unit,
                one,
                device.latency_ms / 1000,
                self._site.faults,
                self._site.seed,
                self._successor(device),
            )
            for device, one in zip(line.devices, made, strict=True)
        ]
        port: Port
        if line.tcp is None:
            assert line.timing is not None
            port = self._wire.pty(line.pty, stations, line.timing)
        else:
            framing = frames.RTU if line.framing == "rtu" else frames.TCP
            port = self._wire.tcp(*line.tcp, stations, framing, line.timing)
        self.ports[line.name] = port
        for device, one, station in zip(line.devices, made, stations, strict=True):
            self.devices.append(Shown(device, port, station, one if isinstance(one, MapDevice) else None))

    def _successor(self, device: Device) -> MapDevice | DumpDevice | None:
        """What hangs in a device's place while it is ``exchanged``, None when that never happens."""
        exchanged = any(fault.kind == "exchanged" and fault.meter in ("*", device.name) for fault in self._site.faults)
        return self.device(replace(device, serial=self._serial(f"{device.name}/exchanged"))) if exchanged else None

    def _serial(self, name: str) -> str:
        """A serial number of eight digits, always the same for the name and the site's seed."""
        return str(10_000_000 + noise.seed_of(self._site.seed, name) % 80_000_000)

    def device(self, device: Device) -> MapDevice | DumpDevice:
        """A device of this site that hangs nowhere yet, as it is at this site's time."""
        if device.dump is not None:
            from drivers import dump as dumps  # needs a YAML parser, which nothing else here does

            return DumpDevice(dumps.load(device.dump).blocks, device.map.functions_equivalent)
        home = self.homes[device.home]
        serial = device.serial or self._serial(device.name)
        meter_map, extra = device.map, None
        if meter_map.scheme == "sunspec":
            phases = home.household.roof_phases if device.role == "pv" else home.household.phases
            models = device.models or chain.usual_models(meter_map, device.role, phases)
            meter_map, extra = chain.layout(meter_map, models, serial)
        source = self._source(home, meter_map, device.role)
        return MapDevice(meter_map, source, serial, extra, most_registers=device.most_registers)

    def _source(self, home: Home, meter_map: MeterMap, role: str) -> Source:
        """A meter's eyes: a point that the home has, by its name; any other is the one of the device's role."""
        clock = self.clock
        points = {point: point if point in POINTS else role for point in meter_map.points}

        def look(at_s: float) -> Mapping[str, Mapping[int, int]]:
            now_ms = clock.at(at_s)
            return {point: home.quantities(of, now_ms) for point, of in points.items()}

        return look
