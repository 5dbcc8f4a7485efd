"""A site file: a community written down in TOML, read and checked whole.

A file looks like this (docs/simulator.md says it all)::

    seed = 7
    [time]
    start = 2026-06-21T09:00:00Z      # default: now
    speed = 60                        # seconds of the site per second; default 1
    since = 2025-01-01T00:00:00Z      # when the counters had their first stand; default: the midnight before start

    [[home]]
    name = "casa1"
    pv_kwp = 5.0                      # also: phases, size, pv_rated_kw, pv_phases, battery_kwh, battery_kw,
                                      # ev_kw, ev_phases, ev_km

    [[line]]
    name = "rs485"
    pty = "run/rs485"                 # or tcp = "127.0.0.1:0" with framing = "tcp" or "rtu"
    baud = 9600                       # also: parity, stopbits

    [[line.device]]
    name = "casa1-grid"
    model = "eastron_sdm630"
    unit = 1
    home = "casa1"
    role = "grid"                     # grid, load, pv, battery or ev
                                      # also: dump, serial, latency_ms, most_registers, models

    [[fault]]
    meter = "casa1-grid"
    kind = "late"                     # hw_sim/faults.py lists them all

Rules
- Every mistake of a file is reported at once, each with its place and what to try.
- Paths are relative to the file.
"""

from __future__ import annotations

import datetime as dt
import time
import tomllib
from pathlib import Path

from drivers import map as meter_maps
from drivers.table import Problem, Table, closest
from hw_sim import faults
from hw_sim.faults import Fault
from hw_sim.home import POINTS, Battery, Car, Household
from hw_sim.line import LineTiming
from hw_sim.site import Device, Line, Site, default_latency_ms, parse_address
from hw_sim.sun import Roof

# Hostile or generated files end somewhere; a community of this size still starts in seconds.
_MOST_TABLES = 500
_PARITIES = ("N", "E", "O")
_DEFAULT_BAUD = 9600


class SiteError(Exception):
    """A site file that cannot be used: whoever wrote it has to change it.

    Attributes:
        problems: everything that is wrong with it.
    """

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.problems = tuple(problems)
        for problem in problems:
            self.add_note(f"try: {problem.place + ': ' if problem.place else ''}{problem.advice}")


def load(path: Path) -> Site:
    """A site from its file.

    Raises:
        SiteError: with all problems of the file.
        OSError: it cannot be read.
    """
    problems: list[Problem] = []
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        advice = "correct the TOML at that place (the file is UTF-8 text)"
        raise SiteError(path, [Problem("", "", f"not TOML: {error}", advice)]) from None
    site = _site(Table(content, "", problems), path.parent)
    if problems:
        raise SiteError(path, problems)
    return site


def load_faults(path: Path, meters: tuple[str, ...]) -> tuple[Fault, ...]:
    """Faults from a file that holds nothing else.

    Raises:
        SiteError: with all problems of the file.
        OSError: it cannot be read.
    """
    problems: list[Problem] = []
    try:
        top = Table(tomllib.loads(path.read_text()), "", problems)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteError(path, [Problem("", "", f"not TOML: {error}", "correct the TOML at that place")]) from None
    found = faults.parse(top.tables("fault", _MOST_TABLES), meters)
    top.close()
    if problems:
        raise SiteError(path, problems)
    return found


def _site(top: Table, folder: Path) -> Site:
    seed = top.integer("seed", 0, 2**31, 0)
    start_ms, speed, since_ms = _time(top.table("time"))
    homes = tuple(_home(table, seed) for table in top.tables("home", _MOST_TABLES))
    _distinct(top, "home", [home.name for home in homes])
    tables = top.tables("line", _MOST_TABLES)
    lines = tuple(_line(table, folder, [home.name for home in homes]) for table in tables)
    devices = [device for line in lines for device in line.devices]
    _distinct(top, "line", [line.name for line in lines])
    _distinct(top, "device", [device.name for device in devices])
    if not devices:
        top.wrong("line", None, "a site needs a device", "[[line]] and below it [[line.device]]")
    found = faults.parse(top.tables("fault", _MOST_TABLES), [device.name for device in devices])
    top.close()
    return Site(seed, start_ms, speed, homes, lines, found, since_ms)


def _time(table: Table | None) -> tuple[int, float, int | None]:
    now_ms = time.time_ns() // 1_000_000
    if table is None:
        return now_ms, 1.0, None
    start_ms = _instant(table, "start")
    start_ms = now_ms if start_ms is None else start_ms
    speed = _number(table, "speed", 0.001, 86_400, 1.0)
    since_ms = _instant(table, "since")
    if since_ms is not None and since_ms > start_ms:
        table.wrong("since", "", "the counters cannot begin after the site's own start", "an earlier time, or none")
    table.close()
    return start_ms, speed, since_ms


def _instant(table: Table, key: str) -> int | None:
    """POSIX milliseconds, None when the file says nothing."""
    value = table.take(key)
    if isinstance(value, dt.datetime) and value.tzinfo is not None and value.year >= 1971:
        return int(value.timestamp() * 1000)
    if value is not None:
        table.wrong(key, value, "a time with its zone is needed here", f"{key} = 2026-06-21T09:00:00Z")
    return None


def _home(table: Table, seed: int) -> Household:
    name = table.text("name")
    peak_kw = _number(table, "pv_kwp", 0, 1000, 0.0)
    rated_kw = _number(table, "pv_rated_kw", 0.1, 1000, peak_kw or 1.0)
    roof = Roof(int(peak_kw * 1000), int(rated_kw * 1000)) if peak_kw else None
    capacity_kwh = _number(table, "battery_kwh", 0, 1000, 0.0)
    power_kw = _number(table, "battery_kw", 0.1, 1000, capacity_kwh / 2 or 1.0)
    car_kw = _number(table, "ev_kw", 0, 50, 0.0)
    car = (
        Car(int(car_kw * 1000), _phases(table, "ev_phases", 1), table.integer("ev_km", 1, 300, 35)) if car_kw else None
    )
    home = Household(
        name=name,
        seed=seed,
        phases=_phases(table, "phases", 3),
        size=table.integer("size", 1, 10_000, 100),
        roof=roof,
        roof_phases=_phases(table, "pv_phases", 1),
        battery=Battery(int(capacity_kwh * 1000), int(power_kw * 1000)) if capacity_kwh else None,
        car=car,
    )
    if car and car.phases > home.phases:
        table.wrong("ev_phases", car.phases, "more than the home has", "ev_phases = 1")
    if car and car.power_w < 1000:
        table.wrong("ev_kw", car_kw, "no charging point is that weak", "ev_kw = 7.4")
    if home.roof_phases > home.phases:
        table.wrong("pv_phases", home.roof_phases, "more than the home has", "pv_phases = 1")
    table.close()
    return home


def _phases(table: Table, key: str, default: int) -> int:
    phases = table.integer(key, 1, 3, default)
    if phases == 2:
        table.wrong(key, phases, "homes have one phase or three", f"{key} = 3")
    return phases if phases != 2 else default


def _line(table: Table, folder: Path, homes: list[str]) -> Line:
    name = table.text("name")
    pty, tcp = table.text("pty", ""), table.text("tcp", "")
    if bool(pty) == bool(tcp):
        table.wrong("pty", pty or None, "a line is either a pty or TCP", 'pty = "run/rs485" or tcp = "127.0.0.1:0"')
    framing = table.choice("framing", ("tcp", "rtu"), "rtu" if pty else "tcp")
    if pty and framing == "tcp":
        table.wrong("framing", framing, "a serial line speaks RTU", "leave framing out")
    paced = bool(pty) or (framing == "rtu" and table.has("baud"))
    timing = None
    if paced:
        timing = LineTiming(
            table.integer("baud", 300, 115_200, _DEFAULT_BAUD),
            table.choice("parity", _PARITIES, "N"),
            table.integer("stopbits", 1, 2, 1),
        )
    rows = table.tables("device", _MOST_TABLES)
    devices = tuple(_device(row, folder, homes, paced) for row in rows)
    units: dict[int, str] = {}
    for row, device in zip(rows, devices, strict=True):
        first = units.setdefault(device.unit, device.name)
        if first != device.name:
            row.wrong("unit", device.unit, f"{first} on the same line has that unit id already", "another unit id")
    address = _address(table, tcp) if tcp else None
    table.close()
    return Line(name, address, framing, folder / pty if pty else None, timing, devices)


def _address(table: Table, text: str) -> tuple[str, int]:
    try:
        return parse_address(text)
    except ValueError:
        table.wrong("tcp", text, "no host and port", 'tcp = "127.0.0.1:5020" (port 0: any free one)')
        return "127.0.0.1", 0


def _device(table: Table, folder: Path, homes: list[str], paced: bool) -> Device:
    dump = table.text("dump", "")
    name = table.text("name")
    model = table.text("model")
    try:
        meter_map = meter_maps.load(model, folder)
    except meter_maps.MapError as error:
        table.wrong("model", model, error.problems[0].words, error.problems[0].advice)
        meter_map = meter_maps.load(meter_maps.names()[0])
    only_home = homes[0] if len(homes) == 1 else None
    home = "" if dump else table.text("home", only_home)
    if home and home not in homes:
        table.wrong("home", home, "no home of this site has that name", closest(home, homes) if homes else "[[home]]")
    if dump and not (folder / dump).is_file():
        table.wrong("dump", dump, "there is no such file", "a path relative to the site file")
    device = Device(
        name=name,
        map=meter_map,
        unit=table.integer("unit", 0, 255, 1),
        home=home,
        role=table.choice("role", POINTS, "pv" if meter_map.kind == "inverter" else "grid"),
        dump=folder / dump if dump else None,
        serial=table.text("serial", ""),
        latency_ms=table.integer("latency_ms", 0, 60_000, default_latency_ms(paced)),
        most_registers=table.optional("most_registers", 1, 125),
        models=table.integers("models", 1, 65534),
    )
    if paced and not 1 <= device.unit <= 247:
        table.wrong("unit", device.unit, "unit ids on a serial line are 1 to 247", "unit = 1")
    known = {number for described in meter_map.models for number in described.ids}
    for number in device.models:
        if number not in known:
            table.wrong(
                "models", number, f"{model} does not know that model", closest(str(number), set(map(str, known)))
            )
    table.close()
    return device


def _distinct(top: Table, kind: str, names: list[str]) -> None:
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        top.wrong(kind, name, "that name is taken twice", "another name")


def _number(table: Table, key: str, low: float, high: float, default: float) -> float:
    value = table.take(key)
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    table.wrong(key, value, f"a number from {low:g} to {high:g} is needed here", f"{key} = {default:g}")
    return default
