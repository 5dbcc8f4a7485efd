"""``aigeco commission``: a meter is put into service: looked at, judged, and signed for by the technician.

Rules
- A meter that the configuration does not have yet is found and written into it first (:mod:`edge.cli.newmeter`).
- Nothing is signed for a meter without values, nor for one whose values cannot be true unless the technician insists.
- The running gateway signs; when none runs, the command does what the gateway would.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import completion, newmeter, questions, table, visiting, where
from edge.cli import line as lines
from edge.cli.exits import Exit, Refused
from edge.cli.line import Line

if TYPE_CHECKING:
    from edge.commission import Candidate, Row
    from edge.config import Bus, Config, Meter
    from edge.visit import Look


@click.command("commission", short_help="Put a meter into service, signed.")
@click.argument("meter", shell_complete=completion.meters, required=False)
@where.option
@lines.options
@click.option("--model", metavar="MODEL", shell_complete=completion.models, help="Of a new meter [default: found out].")
@click.option("--technician", metavar="NAME", help="Who puts it into service.")
@click.option("--place", metavar="PSEUDONYM", help="Where it is: a pseudonym, never an address.")
@click.option("--role", type=click.Choice(newmeter.ROLES), help="What it measures; compared with the configuration.")
@click.option("--photo", type=click.Path(path_type=Path), metavar="FILE", help="A picture; its SHA-256 is signed.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.option("--anyway", is_flag=True, help="Sign also when the values are not plausible.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; asks nothing.")
def command(
    meter: str | None,
    config_path: Path | None,
    tcp: str | None,
    serial: Path | None,
    baud: int | None,
    parity: str | None,
    stopbits: int | None,
    unit: int | None,
    framing: str | None,
    model: str | None,
    technician: str | None,
    place: str | None,
    role: str | None,
    photo: Path | None,
    yes: bool,
    anyway: bool,
    as_json: bool,
) -> int:
    """Put METER into service, or a new meter: it is found on its line and written into the configuration first.

    Reads it, shows its values beside what they can be, and ends in a signed statement of who did it, where, and what
    the meter said first. Asks for what is not given. Without METER it looks for one that the configuration does not
    have yet.
    """
    from edge import config, visit
    from edge.requests import Commission

    quiet = yes or as_json
    missing = [name for name, value in (("--technician", technician), ("--place", place)) if value is None]
    if quiet and missing:
        raise click.UsageError(f"without questions {' and '.join(missing)} must be given")
    if technician is not None:
        technician = visiting.check_text("--technician", technician)
    if place is not None:
        place = visiting.check_text("--place", place)
    digest = visiting.digest_of(photo)
    path = where.find(config_path)
    wish = newmeter.Wish(meter, Line(tcp, serial, baud, parity, stopbits, framing, unit), model, role)
    gateway = visiting.gateway_of(config.load(path))  # before anything is written
    found, name, new = _configured(path, wish, quiet)
    bus, which = visiting.meter_of(found, name)
    _check_role(which, role)
    there = f"{name} is in {path}; " if new else ""
    left = questions.leaving(f"nothing was signed; {there}aigeco commission {name} begins again")
    with visiting.site_of(found) as site:
        with left:
            seen, judged, better, wrong = _seen(found, bus, which, as_json)
            settings = _settings(better)
            sure = all(len(several) == 1 for several in better.values())
            if wrong and settings and not quiet and newmeter.set_right(path, found, which, settings, sure):
                found = config.load(path)
                bus, which = visiting.meter_of(found, name)
                seen, judged, better, wrong = _seen(found, bus, which, as_json)
            shape: dict[str, object] = {
                "meter": which.name,
                "serial": seen.serial,
                "points": visiting.entries(judged),
                "plausible": not wrong,
                "candidates": _entries(better),
                "photo_sha256": digest.hex() if digest else None,
                "statements": [],
            }
            if wrong and not anyway:
                _insist(found, which, better, quiet, shape if as_json else None)
            if not quiet and not new:
                _check_role(which, questions.choice("role", newmeter.ROLES, which.role.name.lower()))
            technician = technician or visiting.ask("technician")
            place = place or visiting.ask("place (a pseudonym)")
            if not quiet:
                questions.insist(f"sign that {technician} puts {which.name} into service at {place}?")
        points = tuple((reading.sub, reading.values) for reading in seen.readings)
        answer = visiting.sign(found, gateway, seen, Commission(technician, place, digest, points))
        shape["statements"] = visiting.said(answer)
        visiting.note(site, bus, seen, found.gateway)
        done = {"meter": which.name, "technician": technician, "place": place, "photo_sha256": shape["photo_sha256"]}
        site.add("commissioning", {**done, "serial": seen.serial, "statements": shape["statements"]})
        site.add("visit", {"technician": technician, "place": place, "meter": which.name, "what": "commission"})
    if as_json:
        print(json.dumps(shape))
    else:
        visiting.show_said(answer, "is in service")
    if not quiet and not visit.running(found):
        print("no gateway runs yet: systemctl start aigeco; the next meter: aigeco commission")
    return Exit.OK


def _configured(path: Path, wish: newmeter.Wish, quiet: bool) -> tuple[Config, str, bool]:
    """The configuration with the meter in it, the meter's name there, and whether it is new."""
    from edge import config, visit

    found = config.load(path)
    if wish.name is not None and visit.find(found, wish.name):
        newmeter.check_same(found, wish)
        return found, wish.name, False
    if wish.name is not None and not wish.placed:
        visiting.meter_of(found, wish.name)  # says which there are
    name = newmeter.add(path, found, wish, quiet)
    return config.load(path), name, True


def _check_role(meter: Meter, role: str | None) -> None:
    """Raises Refused when the configuration says another role."""
    configured = meter.role.name.lower()
    if role is not None and role != configured:
        advice = f'role = "{role}" for {meter.name} there; aigeco config apply; then again'
        raise Refused(f"meter {meter.name}: its role in the configuration is {configured}", Exit.CONFIG, advice)


def _seen(
    config: Config, bus: Bus, meter: Meter, silent: bool
) -> tuple[Look, dict[str, tuple[Row, ...]], dict[str, tuple[Candidate, ...]], bool]:
    """What the meter says now, shown unless ``silent``; its values judged, what would help; whether any is wrong."""
    seen = visiting.look(config, bus, meter)
    judged, better = visiting.judge(seen)
    if not silent:
        number = f", serial number {seen.serial}" if seen.serial else ""
        words = f"{meter.map.manufacturer} {meter.map.model}, unit {meter.unit} on {bus.name}{number}"
        print(table.fit(words, sys.stdout))
        visiting.show(judged, better)
    return seen, judged, better, any(row.wrong for rows in judged.values() for row in rows)


def _settings(better: dict[str, tuple[Candidate, ...]]) -> tuple[str, ...]:
    """Lines for the configuration that make the values plausible, where there are any: the best of each point."""
    lines = (line for several in better.values() for each in several[:1] for line in each.settings)
    return tuple(dict.fromkeys(lines))


def _insist(
    config: Config,
    meter: Meter,
    better: dict[str, tuple[Candidate, ...]],
    quiet: bool,
    shape: dict[str, object] | None,
) -> None:
    """Ask whether to go on with values that cannot be true.

    Raises:
        Refused: nobody can be asked.
    """
    if not quiet:
        questions.insist("these values are not plausible; put it into service all the same?")
        return
    words = f"meter {meter.name}: its values are not plausible; nothing was signed"
    if shape is not None:
        print(json.dumps({**shape, "error": words}))
    settings = _settings(better)
    advice = f"{' and '.join(settings)} for {meter.name} in {config.path}; aigeco config apply; then again"
    if not settings or any(len(several) > 1 for several in better.values()):  # somebody has to choose
        advice = f"what {'candidates say' if shape is not None else 'is said above'}; then again"
    raise Refused(words, Exit.DOES_NOT_HOLD, advice, "--anyway, when they are true")


def _entries(better: dict[str, tuple[Candidate, ...]]) -> list[dict[str, object]]:
    return [
        {
            "point": sub,
            "words": each.words,
            "settings": list(each.settings),
            "advice": each.advice,
            "wrong": each.wrong,
        }
        for sub, several in better.items()
        for each in several
    ]
