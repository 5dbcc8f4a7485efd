"""What the commands of a technician's visit share: finding the meter, showing its values beside their ranges, notes.

Rules
- Nothing is asked with ``--yes`` or ``--json``: what is missing then is one usage error that names all of it.
- The site's file is opened before anything is signed, so that damage is said while nothing has happened yet.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import progress, questions, table
from edge.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from edge.commission import Candidate, Row
    from edge.config import Bus, Config, Meter
    from edge.identity import Identity
    from edge.requests import Answer, Order
    from edge.site import Site
    from edge.visit import Look

_MOST_ROWS = 16
"""Of values, so that what is said about them is on an 80x24 terminal too; JSON has all."""

_AT_A_GLANCE = ("voltage", "current", "active_power", "active_power_import", "active_power_export", "frequency")
"""Quantities, beside the total energies."""

_LARGE = 1e10
"""From here on a number is a power of ten to a person."""

_TEXT_BYTES = 256
"""Of a text in a statement."""


def meter_of(config: Config, name: str) -> tuple[Bus, Meter]:
    """The meter of this name and its line.

    Raises:
        Refused: there is none.
    """
    from edge.visit import find

    found = find(config, name)
    if found is None:
        names = [meter.name for bus in config.buses for meter in bus.meters]
        known = [f"one of: {', '.join(names)}"] if names else []
        new = f"a new one: aigeco commission {name} --serial PATH, or --tcp HOST[:PORT]"
        raise Refused(f"{config.path}: has no meter {name}", Exit.CONFIG, *known, new)
    return found


def gateway_of(config: Config) -> Identity:
    """The key that signs.

    Raises:
        Refused: it cannot be used.
    """
    from edge.identity import load_identity

    identity, wrong, _ = load_identity(config)
    if identity is None:
        problem = wrong[0]
        raise Refused(f"{config.path}: {problem}", Exit.KEY, *([problem.advice] if problem.advice else []))
    return identity


def check_text(name: str, words: str) -> str:
    """The words, if a statement can hold them.

    Raises:
        UsageError: it cannot.
    """
    words = words.strip()
    if not words or len(words.encode()) > _TEXT_BYTES or not words.isprintable():
        raise click.UsageError(f"{name}: 1 to {_TEXT_BYTES} bytes of printable text, not {words[:40]!r}")
    return words


def ask(words: str) -> str:
    """What is answered, asked again until a statement can hold it."""
    return questions.ask(words, lambda answer: check_text(words, answer))


def look(config: Config, bus: Bus, meter: Meter) -> Look:
    """Read the meter, while the terminal says so; raises what :func:`edge.visit.look` raises."""
    from edge import visit

    with progress.doing(f"reading {meter.name}, unit {meter.unit} on {bus.name} ..."):
        return visit.look(config, bus, meter)


def sign(config: Config, gateway: Identity, seen: Look, order: Order) -> Answer:
    """Bring an order into the chain; raises what :func:`edge.visit.sign` raises.

    Raises:
        Refused: the gateway does not sign it.
    """
    from edge import visit

    unsure = "left while it was being signed: it may be in the chain; aigeco export and aigeco verify show whether"
    with questions.leaving(unsure), progress.doing("signing ..."):
        answer = visit.sign(config, gateway, seen, order)
    if answer.refused:
        raise Refused(f"nothing was signed: {answer.refused}", Exit.DOES_NOT_HOLD)
    return answer


def show_said(answer: Answer, words: str) -> None:
    """Each point's statement, in a line: what it is now, and where that stands."""
    for each in answer.said:
        print(table.fit(f"{each.sub} {words}: seq {each.seq}, sid {each.sid.hex()}", sys.stdout))


def judge(seen: Look) -> tuple[dict[str, tuple[Row, ...]], dict[str, tuple[Candidate, ...]]]:
    """Each point's values beside their ranges, and what would make them plausible."""
    from drivers.decode import Decoded, decode
    from edge.commission import Known, candidates, rows
    from signer.codes import Role

    meter = seen.meter
    concrete = seen.identity.map if seen.identity else None if meter.map.scheme == "sunspec" else meter.map
    judged, better = {}, {}
    for reading in seen.readings:
        point = reading.sub[len(meter.name) + 1 :]
        known = Known({"pv": Role.GENERATION, "grid": Role.GRID}.get(point, meter.role), meter.limits)
        if concrete is None:
            decoded: Sequence[Decoded] = [Decoded(point, key, value, value.quality) for key, value in reading.values]
        else:
            decoded = [each for each in decode(concrete, reading.blocks, meter.overrides) if each.point == point]
            better[reading.sub] = candidates(concrete, reading.blocks, point, meter.overrides, known)
        judged[reading.sub] = rows(decoded, known)
    return judged, better


def show(judged: dict[str, tuple[Row, ...]], better: dict[str, tuple[Candidate, ...]]) -> None:
    """Print the values, and what would make them plausible."""
    from drivers import obis
    from edge.cli import values

    for sub, rows in judged.items():
        if len(judged) > 1:
            print(f"{sub}:")
        there = _first(rows)
        numbers = table.on_the_point([_plain(row.number) for row in there])
        cells = [
            (values.name(row.key), number, obis.unit(row.key).replace("1", ""), _range(row), row.wrong)
            for row, number in zip(there, numbers, strict=True)
        ]
        table.show(("quantity", "value", "unit", "can be", "wrong"), cells, right=("value",))
        left = [row for row in rows if row.number is not None and row not in there]
        if left:
            wrong = sum(bool(row.wrong) for row in left)
            print(f"and {table.some(len(left), 'value')} more, {wrong or 'none'} of them wrong")
        for each in better.get(sub, ()):
            _show_candidate(each, rows)


def _show_candidate(candidate: Candidate, before: Sequence[Row]) -> None:
    """It, with the first values that it makes others."""
    from edge.cli import values

    numbers = {row.key: row.number for row in before}
    shown = [row for row in candidate.rows if row.number and row.number != numbers.get(row.key)][:3]
    sample = ", ".join(f"{values.name(row.key)} {_plain(row.number)}" for row in shown)
    left = f"; {table.some(candidate.wrong, 'value')} still wrong" if candidate.wrong else ""
    print(f"plausible with {candidate.words}{left}:")
    print(f"  {sample}")
    for line in candidate.settings:
        print(f"  in the configuration: {line}")
    if candidate.advice:
        print(f"  {candidate.advice}")


def _first(rows: Sequence[Row]) -> list[Row]:
    """What a technician looks at first, and what is wrong beside it, as far as a small terminal has lines for it."""
    from drivers import obis

    there = [row for row in rows if row.number is not None]
    shown = []
    for row in there:
        quantity = obis.BY_KEY.get(row.key)
        if quantity is None:
            continue
        energy = quantity.name.startswith("active_energy") and quantity.phase == "total"
        if energy or quantity.name in _AT_A_GLANCE:
            shown.append(row)
    others = [row for row in there if row.wrong and row not in shown][: max(0, _MOST_ROWS - len(shown))]
    return [row for row in there if row in shown or row in others]


def _plain(number: float | None) -> str:
    if number is None:
        return "-"
    if abs(number) >= _LARGE:
        return f"{number:.2e}".replace("e+", "e")
    words = f"{number:.3f}".rstrip("0").rstrip(".")
    return table.grouped("0" if words == "-0" else words)


def _range(row: Row) -> str:
    if row.high == float("inf"):
        return ""
    if row.low == -row.high:
        return f"within {_plain(round(row.high))}"
    return f"{_plain(round(row.low))} to {_plain(round(row.high))}"


def entries(judged: dict[str, tuple[Row, ...]]) -> list[dict[str, object]]:
    """The same as JSON."""
    from drivers import obis

    return [
        {
            "point": sub,
            "values": [
                {
                    "obis": obis.unpack(row.key),
                    "value": row.number,
                    "unit": obis.unit(row.key),
                    "low": row.low if row.low != float("-inf") else None,
                    "high": row.high if row.high != float("inf") else None,
                    "wrong": row.wrong,
                }
                for row in rows
            ],
        }
        for sub, rows in judged.items()
    ]


def said(answer: Answer) -> list[dict[str, object]]:
    """Statements as JSON."""
    return [
        {"point": each.sub, "stream": each.stream.hex(), "seq": each.seq, "sid": each.sid.hex()} for each in answer.said
    ]


def site_of(config: Config) -> Site:
    """The site's documents, opened."""
    from edge import site

    return site.Site(site.place(config.spool))


def note(site: Site, bus: Bus, seen: Look, gateway: str) -> None:
    """What the line and the meter are now."""
    from edge.site import BUS, METER

    meter = seen.meter
    site.revise(BUS, bus.name, {"endpoint": str(bus.endpoint), "meters": [each.name for each in bus.meters]})
    content: dict[str, Any] = {
        "gateway": gateway,
        "bus": bus.name,
        "unit": meter.unit,
        "model": meter.map.name,
        "map_sha256": meter.map.digest.hex(),
        "role": meter.role.name.lower(),
        "period_s": meter.period_ms // 1000,
        "overrides": dict(meter.overrides.as_pairs()),
        "serial": seen.serial,
    }
    site.revise(METER, meter.name, content)


def digest_of(photo: Path | None) -> bytes | None:
    """SHA-256 of a file."""
    import hashlib

    if photo is None:
        return None
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
