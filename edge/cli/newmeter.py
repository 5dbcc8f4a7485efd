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
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import questions, table
from edge.cli.exits import Exit, Refused
from edge.cli.line import Line, ports

if TYPE_CHECKING:
    from drivers.line import Endpoint
    from drivers.map import MeterMap
    from drivers.recognise import Candidate
    from drivers.scan import Found
    from edge.config import Config, Meter

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
    if wish.name is not None:
        _check_name(config, wish.name)
    with questions.leaving(f"{path} is as it was, and nothing was signed; the same command begins again"):
        device = _device(config, _placed(wish, quiet), quiet)
        name = wish.name or _named(config, device)
        role = wish.role or ("grid" if quiet else questions.choice("role", ROLES, "grid"))
        number, new_bus = _bus(config, device.endpoint)
        lines = _lines(device, name, role)
        text = path.read_text()
        try:
            found = addition.add_meter(text, lines, number, new_bus)
        except addition.NotUnderstood as error:
            shown = "\n  ".join(["[[bus.meter]]", *lines])
            words = f"{path}: {error}; it is as it was"
            raise Refused(words, Exit.CONFIG, f"write this by hand:\n  {shown}") from error
        after = parse(found, path)
        if not quiet:
            print("\n".join(["", *(["[[bus]]", *new_bus] if number is None else []), "[[bus.meter]]", *lines, ""]))
            questions.insist(f"write this into {path}?", default=True)
    _write(path, found)
    _put_into_force(path, after, quiet)
    return name


def check_same(config: Config, wish: Wish) -> None:
    """That what was said of a meter's line is what the configuration says, as when a command is given a second time.

    Raises:
        Refused: it is not.
    """
    from drivers.line import SerialEndpoint
    from edge.cli import visiting

    bus, meter = visiting.meter_of(config, wish.name or "")
    line, endpoint = wish.line, bus.endpoint
    if isinstance(endpoint, SerialEndpoint):
        settings = {"baud": endpoint.baud, "parity": endpoint.parity, "stopbits": endpoint.stopbits, "framing": "rtu"}
    else:
        settings = {"framing": endpoint.framing}
    same = wish.model in (None, meter.map.name) and line.unit in (None, meter.unit)
    if line.tcp is not None or line.serial is not None:
        same = same and _address(line.endpoint(meter.map)) == _address(endpoint)
    said = {key: getattr(line, key) for key in ("baud", "parity", "stopbits", "framing")}
    if not same or any(value is not None and value != settings.get(key) for key, value in said.items()):
        words = f"meter {meter.name} is {meter.map.name}, unit {meter.unit} on {bus.name} in {config.path}"
        advice = f"aigeco commission {meter.name} without options of its line; another name for a new meter"
        raise Refused(words, Exit.USAGE, advice)


def _check_name(config: Config, name: str) -> str:
    """The name, if a new meter can have it.

    Raises:
        Refused: it cannot.
    """
    from edge import section

    if section.like(name) != name:
        raise Refused(f"{name!r}: {section.NAME}", Exit.CONFIG, section.like(name))
    if name in _names(config):
        raise Refused(f"{name!r}: another meter has this name", Exit.CONFIG, _free(config, name))
    return name


def _named(config: Config, device: _Device) -> str:
    """A name for it; asks."""

    def check(answer: str) -> str:
        try:
            return _check_name(config, answer.strip())
        except Refused as error:
            raise click.UsageError(f"{error}; {', '.join(error.__notes__)}") from error

    return questions.ask("name of the meter", check, _free(config, f"meter-{device.unit}"))


def _names(config: Config) -> set[str]:
    return {meter.name for bus in config.buses for meter in bus.meters}


def _free(config: Config, name: str) -> str:
    """This name, or with the first number behind it that nobody has."""
    taken = _names(config)
    return next(each for each in (name, *(f"{name}-{count}" for count in range(2, 10_000))) if each not in taken)


def _placed(wish: Wish, quiet: bool) -> Wish:
    """With a line; asks for it."""
    if wish.line.tcp is not None or wish.line.serial is not None or quiet:
        return wish
    there = ports()
    for port in there:
        print(f"  {port}")

    def check(answer: str) -> Line:
        answer = answer.strip()
        if answer.startswith("/"):
            line = replace(wish.line, serial=Path(answer))
        elif Path(answer).exists():
            line = replace(wish.line, serial=Path(answer).absolute())
        else:
            line = replace(wish.line, tcp=answer)
        try:
            line.endpoint(_any())  # says which ports there are when this one is not
        except Refused as error:
            raise click.UsageError(f"{error}; {', '.join(error.__notes__)}") from error
        return line

    default = str(there[0]) if there else None
    return replace(wish, line=questions.ask("where does it hang: a serial port, or HOST[:PORT]", check, default))


def _any() -> MeterMap:
    """Some map with a serial line."""
    from drivers.map import load

    return load("eastron_sdm630")


def _device(config: Config, wish: Wish, quiet: bool) -> _Device:
    """The device that is meant: as said, else searched for."""
    from drivers.map import load
    from edge.cli import scan

    line = wish.line
    if wish.model is not None and line.unit is not None:
        found = load(wish.model, config.path.parent)
        return _Device(line.endpoint(found), line.unit_id(found), wish.model)
    _check_free(config, line)
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


def _check_free(config: Config, line: Line) -> None:
    """Raises Refused for a serial port that the running gateway reads: two programs cannot."""
    from edge import visit

    if line.serial is None or not visit.running(config):
        return
    if any(_address(bus.endpoint) == (os.path.realpath(line.serial),) for bus in config.buses):
        words = f"{line.name}: the running gateway reads this line, so it cannot be searched"
        stop = "or systemctl stop aigeco, and start it again afterwards"
        raise Refused(words, Exit.METER, "--unit N and --model MODEL: then nothing is searched", stop)


def _chosen(devices: Sequence[Found], quiet: bool) -> Found:
    from edge.cli import scanbar

    if len(devices) == 1:
        return devices[0]
    if quiet:
        units = ", ".join(str(each.unit) for each in devices)
        raise Refused(f"several devices answer: units {units}", Exit.METER, "--unit: which one is meant")
    for number, each in enumerate(devices, 1):
        print(table.fit(f"  {number}  {scanbar.line(each)}", sys.stdout))
    return devices[questions.number("which one", len(devices)) - 1]


def _model(device: Found, model: str | None, quiet: bool) -> Candidate:
    """The map that fits: the one that was said, the only one, or the one that is chosen."""
    from drivers.recognise import how_to_tell

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
        words = f"  {number}  {each.map.name}: {each.map.manufacturer} {each.map.model} ({each.certainty})"
        print(table.fit(words, sys.stdout))
    words = how_to_tell([each.map.name for each in best])
    if words:
        print(table.fit(f"  to tell: {words}", sys.stdout))
    return best[questions.number("which model is it", len(best)) - 1]


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


def set_right(path: Path, config: Config, meter: Meter, lines: Sequence[str], sure: bool) -> bool:
    """Write what would make a meter's values plausible into its section, after a yes; False: it was not wanted.

    ``sure``: nothing else would, so that Enter alone is a yes.

    Raises:
        Refused: the running gateway does not take it; the file is written.
    """
    from edge import addition
    from edge.config import parse

    places = [(number, bus.meters.index(meter)) for number, bus in enumerate(config.buses) if meter in bus.meters]
    try:
        found = addition.set_keys(path.read_text(), *places[0], lines)
    except addition.NotUnderstood:  # what to write is on the screen
        return False
    after = parse(found, path)
    if not questions.yes(f"write {' and '.join(lines)} for {meter.name} into {path}?", default=sure):
        return False
    _write(path, found)
    _put_into_force(path, after, False)
    return True


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
