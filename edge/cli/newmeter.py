"""A meter that the configuration does not know yet: found on its line, named, written into the file, read.

Rules
- What is not said is looked for: the unit by a scan of that line, the model by what the device says of itself. Without
  questions a model is taken only when nothing else fits.
- The file keeps everything that somebody wrote (:mod:`edge.addition`), is checked whole before it is written, and is
  replaced in one step. A running gateway takes it without a restart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.exits import Exit, Refused
from edge.cli.line import Line, ports

if TYPE_CHECKING:
    from drivers.line import Endpoint
    from drivers.recognise import Candidate
    from drivers.scan import Found
    from edge.config import Config

ROLES = ("grid", "consumption", "generation", "storage", "other")


@dataclass(frozen=True, slots=True)
class Wish:
    """What was said of the meter; None = not said.

    Attributes:
        name: how it will be called.
        line: where it hangs.
        model: of the catalogue, or a map file.
        role: what it measures.
    """

    name: str | None
    line: Line
    model: str | None
    role: str | None

    @property
    def placed(self) -> bool:
        """Whether anything was said of its line."""
        return self.line != Line(None, None, None, None, None, None, None) or self.model is not None


@dataclass(frozen=True, slots=True)
class _Device:
    """A device on a line, and what it is."""

    endpoint: Endpoint
    unit: int
    model: str
    word_order: str | None = None


def add(path: Path, config: Config, wish: Wish, quiet: bool) -> str:
    """Write the meter into the configuration, have the running gateway take it, and return its name.

    Raises:
        Refused: nothing was found, or it cannot be told what it is; the file is as it was.
        ConfigError: the configuration would not hold with it; the file is as it was.
        click.UsageError: with ``quiet``, what is missing.
    """
    from edge import addition
    from edge.config import parse

    if quiet and (wish.name is None or (wish.line.tcp is None and wish.line.serial is None)):
        raise click.UsageError("a new meter without questions: METER, and --serial or --tcp, must be given")
    device = _device(config, _placed(wish, quiet), quiet)
    name = wish.name or click.prompt("name of the meter", default=f"meter-{device.unit}")
    role = wish.role or ("grid" if quiet else click.prompt("role", type=click.Choice(ROLES), default="grid"))
    number, new_bus = _bus(config, device.endpoint)
    lines = _lines(device, name, role)
    text = path.read_text()
    try:
        found = addition.add_meter(text, lines, number, new_bus)
    except addition.NotUnderstood as error:
        shown = "\n  ".join(["[[bus.meter]]", *lines])
        raise Refused(f"{path}: {error}; it is as it was", Exit.CONFIG, f"write this by hand:\n  {shown}") from error
    after = parse(found, path)
    if not quiet:
        print("\n".join(["", *(["[[bus]]", *new_bus] if number is None else []), "[[bus.meter]]", *lines, ""]))
        click.confirm(f"write this into {path}?", default=True, abort=True)
    _write(path, found)
    _put_into_force(path, after, quiet)
    return name


def _placed(wish: Wish, quiet: bool) -> Wish:
    """With a line; asks for it."""
    if wish.line.tcp is not None or wish.line.serial is not None or quiet:
        return wish
    there = ports()
    for port in there:
        print(f"  {port}")
    where = click.prompt("where does it hang: a serial port, or HOST[:PORT]", default=str(there[0]) if there else None)
    if where.startswith("/"):
        return replace(wish, line=replace(wish.line, serial=Path(where)))
    return replace(wish, line=replace(wish.line, tcp=where))


def _device(config: Config, wish: Wish, quiet: bool) -> _Device:
    """The device that is meant: as said, else searched for."""
    from drivers.map import load
    from edge.cli import scan

    line = wish.line
    if wish.model is not None and line.unit is not None:
        found = load(wish.model, config.path.parent)
        return _Device(line.endpoint(found), line.unit_id(found), wish.model)
    units = (line.unit,) if line.unit is not None else None
    if not quiet:
        print("Ctrl-C ends the search with what was found so far")
    taken = {(_address(bus.endpoint), meter.unit) for bus in config.buses for meter in bus.meters}
    devices = [each for each in scan.search(line, units, quiet) if (_address(each.endpoint), each.unit) not in taken]
    if not devices:
        advice = "aigeco scan --help: more settings, --full; a gateway that reads this line must be stopped first"
        raise Refused(f"{line.name}: no device that the configuration does not have yet", Exit.METER, advice)
    device = _chosen(devices, quiet)
    candidate = _model(device, wish.model, quiet)
    return _Device(device.endpoint, device.unit, wish.model or candidate.map.name, candidate.word_order)


def _chosen(devices: Sequence[Found], quiet: bool) -> Found:
    from edge.cli import scanbar

    if len(devices) == 1:
        return devices[0]
    if quiet:
        units = ", ".join(str(each.unit) for each in devices)
        raise Refused(f"several devices answer: units {units}", Exit.METER, "--unit: which one is meant")
    for number, each in enumerate(devices, 1):
        print(f"  {number}  {scanbar.line(each)}")
    choice: int = click.prompt("which one", type=click.IntRange(1, len(devices)), default=1)
    return devices[choice - 1]


def _model(device: Found, model: str | None, quiet: bool) -> Candidate:
    """The map that fits: the one that was said, the only one, or the one that is chosen."""
    fitting = [each for each in device.candidates if model in (None, each.map.name)]
    if not fitting:
        words = f"unit {device.unit}: {'no map of the catalogue fits' if model is None else f'{model} does not fit'}"
        advice = "aigeco maps new begins a map; with --unit and --model a map is taken as it is"
        raise Refused(words, Exit.METER, advice)
    best = [each for each in fitting if each.certainty == "sure"] or fitting
    if len(best) == 1:
        return best[0]
    if quiet:
        names = ", ".join(each.map.name for each in best)
        raise Refused(f"unit {device.unit} can be {names}", Exit.METER, "--model: which one it is; its label says")
    for number, each in enumerate(best, 1):
        print(f"  {number}  {each.map.name}: {each.map.manufacturer} {each.map.model} ({each.certainty})")
    choice: int = click.prompt("which model is it", type=click.IntRange(1, len(best)), default=1)
    return best[choice - 1]


def _bus(config: Config, endpoint: Endpoint) -> tuple[int | None, tuple[str, ...]]:
    """The ``[[bus]]`` of that line: its number, or None and the keys of a new one.

    Raises:
        Refused: the line is there with other settings.
    """
    from edge.cli import scanshow

    for number, bus in enumerate(config.buses):
        if _address(bus.endpoint) == _address(endpoint):
            if bus.endpoint != endpoint:
                words = f"{bus.name} is configured as {bus.endpoint}, the device answers at {endpoint}"
                raise Refused(words, Exit.CONFIG, "one line has one setting: change the device's, or the [[bus]]'s")
            return number, ()
    return None, scanshow.bus_lines(endpoint)


def _address(endpoint: Endpoint) -> tuple[object, ...]:
    """What makes two endpoints one line: a port is a port under each of its names."""
    from drivers.line import SerialEndpoint

    if isinstance(endpoint, SerialEndpoint):
        return (os.path.realpath(endpoint.path),)
    return endpoint.host, endpoint.port


def _lines(device: _Device, name: str, role: str) -> tuple[str, ...]:
    order = (f'word_order = "{device.word_order}"',) if device.word_order else ()
    keys = {"name": name, "model": device.model, "unit": device.unit, "role": role}
    return (*(f"{key} = {json.dumps(value)}" for key, value in keys.items()), *order)


def _write(path: Path, text: str) -> None:
    """Replace the file in one step; who may read it stays as it was."""
    there = path.stat()
    aside = path.with_name(f"{path.name}.new")
    with aside.open("w") as file:
        os.fchmod(file.fileno(), there.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), there.st_uid, there.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def _put_into_force(path: Path, config: Config, quiet: bool) -> None:
    """Have the running gateway take it.

    Raises:
        Refused: it does not; the file is written.
    """
    from edge import apply, visit
    from edge.cli.config import asked

    if not visit.running(config):
        return
    applied = asked(config, apply.digest(path), False)
    if applied.problems:
        advice = "systemctl restart aigeco" if applied.restart else "aigeco config check"
        raise Refused(f"{path}: written, but not in force: {applied.problems[0]}", Exit.CONFIG, advice)
    if not quiet:
        print("the running gateway reads it now")
