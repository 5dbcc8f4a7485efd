"""``aigeco scan``: what hangs on this line, and which models are they? For a technician with ten minutes and no manual.

Rules
- It only reads, and only where the user says: a serial port, or hosts by name.
- Whatever is found is said at once; Ctrl-C shows it all and ends with 130, and with --resume nothing is asked twice.
- Standard output has the result. Progress goes to standard error: a bar on a terminal, else a line for each device.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import completion, progress
from edge.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from drivers.map import MeterMap
    from drivers.modbus import Disconnected
    from drivers.scan import Found, Scan, Scanner
    from drivers.scanplan import Place
    from edge.cli.line import Line
    from edge.cli.scanbar import Tell

# A state file that is this old costs no more than some repeated questions.
_SAVE_EVERY_S = 2.0


def _units(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """``1-10,20`` as unit ids, in that order."""
    if text is None:
        return None
    units: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise click.BadParameter(f"{part!r}: is no unit id and no range such as 1-10,20", context, parameter)
        low, high = int(first), int(last or first)
        if not low <= high <= 255:
            raise click.BadParameter(f"{part!r}: unit ids go from 1 to 247, over TCP from 0 to 255", context, parameter)
        units += range(low, high + 1)
    return tuple(dict.fromkeys(units))


@click.command("scan", short_help="Find meters on a serial line or on hosts, and recognise them.")
@click.option(
    "--serial",
    type=click.Path(path_type=Path),
    metavar="PATH",
    shell_complete=completion.ports,
    help="Serial port.",
)
@click.option("--tcp", multiple=True, metavar="HOST[:PORT]", help="A host, or a converter; repeatable.")
@click.option(
    "--baud",
    multiple=True,
    type=click.IntRange(300, 1_000_000),
    metavar="N",
    help="Only this speed; repeatable [default: the usual ones, the commonest first].",
)
@click.option("--parity", multiple=True, type=click.Choice(["N", "E", "O"]), help="Only this parity; repeatable.")
@click.option("--framing", type=click.Choice(["tcp", "rtu"]), help="rtu: a converter that passes RTU frames.")
@click.option("--units", callback=_units, metavar="IDS", help="Only these unit ids: 1-10,20 [default: see the manual].")
@click.option("--quick", is_flag=True, help="Only the unit ids that are often chosen.")
@click.option("--full", is_flag=True, help="Every unit id at every setting or host.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="FILE", help="Go on where FILE says, and keep it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    serial: Path | None,
    tcp: Sequence[str],
    baud: Sequence[int],
    parity: Sequence[str],
    framing: str | None,
    units: tuple[int, ...] | None,
    quick: bool,
    full: bool,
    resume: Path | None,
    as_json: bool,
) -> int:
    """Find the meters on a serial line or on hosts, and say which models they can be.

    Only reads. What is likely is asked first; Ctrl-C shows what was found so far. Stop the gateway before its own
    line is scanned: systemctl stop aigeco.
    """
    from drivers.map import load, names
    from drivers.modbus import Disconnected
    from drivers.scan import Scan, Scanner
    from drivers.scanplan import Agenda
    from edge.cli import scanbar, scanshow, scanstate

    _check(serial, tcp, baud, parity, framing, units, quick and full)
    with progress.doing("reading the catalogue ..."):
        maps = [load(name) for name in names()]
    places = _serial(serial, maps, baud, parity, units) if serial else _hosts(tcp, maps, framing, units)
    agenda = Agenda(places, rest=units is not None, quick=quick, full=full, shared=serial is not None)
    scan = scanstate.load(resume, agenda) if resume else Scan(agenda)
    scanner = Scanner(scan, maps)
    began = time.monotonic()
    interrupted, broken = False, None
    with scanbar.shown(scanner, as_json) as tell:
        try:
            _run(scanner, resume, tell)
        except KeyboardInterrupt:
            interrupted = True
        except Disconnected as error:
            broken = error
    if resume:
        scanstate.save(resume, scan)
    complete = not interrupted and broken is None
    result = scanshow.Result(scan, time.monotonic() - began, complete, scanner.left_s(), resume)
    if as_json:
        scanshow.print_json(result)
    elif interrupted or scan.found:
        scanshow.show(result)
    if interrupted:
        return Exit.INTERRUPTED
    if broken is not None:
        raise _advised(broken)
    if not scan.found:
        raise _nothing(scan, serial is not None, full or units is not None)
    return Exit.OK


def search(line: Line, units: Sequence[int] | None, quiet: bool) -> list[Found]:
    """What answers there, likely ids and settings first; Ctrl-C ends the search with what was found so far.

    Raises:
        Disconnected: the port cannot be used.
        Refused: it is not there.
    """
    from drivers.map import load, names
    from drivers.modbus import Disconnected
    from drivers.scan import Scan, Scanner
    from drivers.scanplan import Agenda
    from edge.cli import scanbar

    with progress.doing("reading the catalogue ..."):
        maps = [load(name) for name in names()]
    if line.serial is not None:
        bauds, parities = ([line.baud] if line.baud else []), ([line.parity] if line.parity else [])
        places = _serial(line.serial, maps, bauds, parities, units)
    else:
        places = _hosts([line.tcp or ""], maps, line.framing, units)
    agenda = Agenda(places, rest=units is not None, quick=False, full=False, shared=line.serial is not None)
    scanner = Scanner(Scan(agenda), maps)
    with scanbar.shown(scanner, quiet) as tell:
        try:
            scanner.run(tell)
        except KeyboardInterrupt:
            pass
        except Disconnected as error:
            raise _advised(error) from error
    if not scanner.scan.found:
        raise _nothing(scanner.scan, line.serial is not None, units is not None)
    return scanner.scan.found


def _run(scanner: Scanner, resume: Path | None, tell: Tell) -> None:
    from edge.cli import scanstate

    saved, count = time.monotonic(), len(scanner.scan.found)

    def step() -> None:
        nonlocal saved, count
        tell()
        found = len(scanner.scan.found)
        if resume and (found != count or time.monotonic() > saved + _SAVE_EVERY_S):
            scanstate.save(resume, scanner.scan)
            saved, count = time.monotonic(), found

    scanner.run(step)


def _check(
    serial: Path | None,
    tcp: Sequence[str],
    baud: Sequence[int],
    parity: Sequence[str],
    framing: str | None,
    units: Sequence[int] | None,
    both: bool,
) -> None:
    """Raises UsageError for options that contradict each other."""
    if (serial is None) == (not tcp):
        raise click.UsageError("say where to look: either --serial PATH or --tcp HOST[:PORT], which may be repeated")
    if tcp and (baud or parity):
        raise click.UsageError("--baud and --parity belong to a serial line; a converter has its own settings")
    if serial and framing:
        raise click.UsageError("--framing belongs to --tcp; a serial line carries RTU frames")
    if both:
        raise click.UsageError("--quick and --full: one of them")
    if (serial or framing == "rtu") and units and not all(1 <= unit <= 247 for unit in units):
        raise click.UsageError("--units: a line of RTU frames has units 1 to 247")


def _serial(
    path: Path, maps: Sequence[MeterMap], baud: Sequence[int], parity: Sequence[str], units: Sequence[int] | None
) -> tuple[Place, ...]:
    from drivers.scanplan import serial_places, settings
    from edge.cli.line import Line

    one = Line(None, path, 9600, None, None, None, None)
    one.endpoint(maps[0])  # says which ports there are when this one is not
    return serial_places(str(path), maps, settings(maps, baud, parity), units)


def _hosts(
    addresses: Sequence[str], maps: Sequence[MeterMap], framing: str | None, units: Sequence[int] | None
) -> tuple[Place, ...]:
    """One place for each host and port; where no port is given, all that the catalogue's devices have."""
    from collections import Counter

    from drivers.map import TcpDefaults
    from drivers.scanplan import host_place
    from edge.cli.line import Line

    ports = [port for port, _ in Counter(each.tcp.port for each in maps if each.tcp).most_common()]
    endpoints = {
        Line(address, None, None, None, None, framing, None).endpoint(replace(maps[0], tcp=TcpDefaults(port, 1))): None
        for port in ports
        for address in addresses
    }
    return tuple(host_place(endpoint, maps, framing == "rtu", units) for endpoint in endpoints)


def _advised(error: Disconnected) -> Disconnected:
    """A serial port that cannot be used, with what usually is the reason."""
    if getattr(error.__cause__, "errno", None) in (errno.EAGAIN, errno.EBUSY):
        error.add_note("try: systemctl stop aigeco, where the gateway reads this line; start it again afterwards")
    elif not getattr(error, "__notes__", ()):
        error.add_note("try: the adapter and its cable; then again, with --resume FILE nothing is asked twice")
    return error


def _nothing(scan: Scan, serial: bool, all_asked: bool) -> Refused:
    """Nobody answered: what to try."""
    from drivers.scan import where

    places = scan.agenda.places
    if len(scan.unreached) == len(places):
        tried = "other --baud and --parity" if serial else "ping the host; Modbus TCP may have to be switched on"
        return Refused("; ".join(scan.unreached.values()), Exit.METER, tried)
    advice = [] if all_asked else ["--full: every unit id" + (" at every setting" if serial else "")]
    if serial:
        advice.append("the wiring: A and B swapped, both ends terminated, the meters under voltage")
        advice.append("another --baud or --parity: the meter's display or its manual says which")
        name = str(getattr(places[0].endpoint, "path", ""))
    else:
        advice.append("--framing rtu, where a converter passes RTU frames as they are")
        name = ", ".join(dict.fromkeys(where(place.endpoint) for place in places))
    return Refused(f"{name}: nobody answers", Exit.METER, *advice)
