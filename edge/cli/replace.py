"""``aigeco replace``: a meter was exchanged: the last values of the old one and the first of the new one, signed.

Rules
- The old meter's values come from the store: what it said before the other one came.
- The same meter is never its own successor, and one exchange is recorded once.
- The running gateway signs; when none runs, the command does what the gateway would.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import completion, questions, table, visiting, where
from edge.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from edge.config import Config
    from edge.visit import Before, Look
    from signer.chain import Values


@click.command("replace", short_help="Record that a meter was exchanged.")
@click.argument("meter", shell_complete=completion.meters, required=False)
@where.option
@click.option("--technician", metavar="NAME", help="Who exchanged it; for the site's documents.")
@click.option("--old-serial", metavar="TEXT", help="Of the old meter, where it did not tell.")
@click.option("--new-serial", metavar="TEXT", help="Of the new meter, where it does not tell.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.option("--anyway", is_flag=True, help="Sign also when the values are not plausible.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; asks nothing.")
def command(
    meter: str | None,
    config_path: Path | None,
    technician: str | None,
    old_serial: str | None,
    new_serial: str | None,
    yes: bool,
    anyway: bool,
    as_json: bool,
) -> int:
    """Record that METER was exchanged, after the new one was connected.

    Takes the last values of the old meter from the store, reads the new one, and ends in a signed statement of both.
    """
    from edge import config
    from edge.requests import Exchange

    quiet = yes or as_json
    found = config.load(where.find(config_path))
    gateway = visiting.gateway_of(found)
    bus, which = visiting.meter_of(found, meter or _which(found, quiet))
    left = questions.leaving(f"nothing was signed; aigeco replace {which.name} begins again")
    with visiting.site_of(found) as site:
        with left:
            seen = visiting.look(found, bus, which)
            serial = visiting.check_text("--new-serial", new_serial or seen.serial) if new_serial or seen.serial else ""
            if new_serial and seen.serial and new_serial != seen.serial:
                raise Refused(
                    f"meter {which.name}: says its serial number is {seen.serial}", Exit.USAGE, "no --new-serial"
                )
            befores = _befores(found, seen, old_serial)
            old = visiting.check_text("--old-serial", old_serial) if old_serial else befores[0].serial
            points = tuple(
                (reading.sub, before.values, reading.values)
                for reading, before in zip(seen.readings, befores, strict=True)
            )
            judged, better = visiting.judge(seen)
            if not as_json:
                _show(old, serial, points, befores)
                if any(row.wrong for rows in judged.values() for row in rows):
                    visiting.show(judged, better)
            if any(row.wrong for rows in judged.values() for row in rows) and not anyway:
                if quiet:
                    raise Refused(
                        f"meter {which.name}: the new meter's values are not plausible; nothing was signed",
                        Exit.DOES_NOT_HOLD,
                        f"aigeco commission {which.name} says what would make them so; --anyway when they are true",
                    )
                questions.insist("the new meter's values are not plausible; record it all the same?")
            if not quiet:
                questions.insist(f"sign that {which.name} was exchanged?")
        answer = visiting.sign(found, gateway, seen, Exchange(old, serial, points))
        visiting.note(site, bus, seen, found.gateway)
        statements = visiting.said(answer)
        site.add("exchange", {"meter": which.name, "old_serial": old, "serial": serial, "statements": statements})
        site.add("visit", {"technician": technician or "", "meter": which.name, "what": "replace"})
    if as_json:
        shape = [{"point": sub, "last": _entries(before), "first": _entries(first)} for sub, before, first in points]
        print(
            json.dumps(
                {"meter": which.name, "old_serial": old, "serial": serial, "points": shape, "statements": statements}
            )
        )
    else:
        visiting.show_said(answer, "was exchanged")
    return Exit.OK


def _which(config: Config, quiet: bool) -> str:
    """The meter that is meant; asks.

    Raises:
        click.UsageError: with ``quiet``, or where there is none.
    """
    names = [meter.name for bus in config.buses for meter in bus.meters]
    if quiet or not names:
        raise click.UsageError(f"METER is missing: one of {', '.join(names)}" if names else "there is no meter yet")
    with questions.leaving("nothing was signed; the same command begins again"):
        return questions.choice("which meter was exchanged", names, names[0] if len(names) == 1 else None)


def _befores(config: Config, seen: Look, old_serial: str | None) -> list[Before]:
    """The old meter of each point.

    Raises:
        Refused: the store shows none, or the exchange is recorded already.
    """
    from edge import visit

    name, found = seen.meter.name, []
    for reading in seen.readings:
        before = visit.before(config, seen, reading.sub, old_serial is not None)
        if before is None:
            words = f"meter {name}: no other meter was there before"
            words += f": {seen.serial} is the one it has been" if seen.serial else ", and nothing was interrupted"
            raise Refused(words, Exit.DOES_NOT_HOLD, "the new meter connected; --old-serial where the old did not tell")
        if before.recorded is not None:
            words = f"meter {name}: its exchange is recorded already, seq {before.recorded}"
            raise Refused(
                words, Exit.DOES_NOT_HOLD, f"nothing; aigeco commission {name} if it was not put into service"
            )
        if not before.values:
            words = f"meter {name}: the store has no values of the old meter {before.serial}"
            raise Refused(words, Exit.DOES_NOT_HOLD, f"aigeco commission {name}: it is the first meter with values")
        found.append(before)
    return found


def _show(old: str, new: str, points: tuple[tuple[str, Values, Values], ...], befores: list[Before]) -> None:
    from drivers import obis
    from edge.cli import values

    for (sub, last, first), before in zip(points, befores, strict=True):
        ago = table.age(time.time() - before.slot_ms / 1000)
        words = f"{sub}: {old or 'no serial number'} (last read {ago} ago) -> {new or 'no serial number'}"
        print(table.fit(words, sys.stdout))
        olds, news = dict(last), dict(first)
        counters = [key for key in sorted(olds.keys() | news.keys()) if obis.unit(key) in ("Wh", "varh", "VAh")]
        totals = [key for key in counters if (quantity := obis.BY_KEY.get(key)) and quantity.phase == "total"]
        shown = totals or counters
        cells = [
            (
                values.name(key),
                table.grouped(olds[key].text()) if key in olds else "-",
                table.grouped(news[key].text()) if key in news else "-",
                obis.unit(key).replace("1", ""),
            )
            for key in counters
            if key in shown
        ]
        if cells:
            table.show(("counter", "old", "new", "unit"), cells, right=("old", "new"))
        if len(counters) > len(shown):
            print(f"and {table.some(len(counters) - len(shown), 'counter')} more, of single phases")


def _entries(found: Values) -> list[dict[str, str]]:
    from drivers import obis

    return [{"obis": obis.unpack(key), "value": value.text(), "unit": obis.unit(key)} for key, value in found]
