"""``aigeco doctor``: everything that can be wrong with a gateway, looked at at once, in a few seconds.

Rules
- Changes nothing, and opens no port beside the running gateway.
- The most important first; what is well takes a line for each area, and one for all where something is not well.
- On a screen that is too small for all of it, how long answers take is left out, never what is not well.
- Nothing is wider than 80 columns, with and without a terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import progress, table, where
from edge.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from edge.doctor.finding import Case, Finding

_COLUMNS = 80
_COLOURS = {"wrong": "\x1b[1;31m", "warning": "\x1b[33m", "unknown": "\x1b[36m", "ok": "\x1b[32m"}
_COUNTS = (
    "requests",
    "answers",
    "timeouts",
    "checksum_errors",
    "wrong_answers",
    "exceptions",
    "disconnects",
    "probes",
    "latencies",
    "failures",
    "pause_s",
)


@click.command("doctor", short_help="Look at everything that can be wrong, and say whose move it is.")
@where.option
@click.option("--probe", is_flag=True, help="Ask every meter once; only while the gateway does not run.")
@click.option("--all", "everything", is_flag=True, help="Show each place and what is well, one by one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config_path: Path | None, probe: bool, everything: bool, as_json: bool) -> int:
    """Look at service, ports, lines, meters, clock, disk, key, broker and receipts; say what is wrong and what to try.

    Works beside the running gateway and without it, changes nothing, and takes at most ten seconds. Ends with 1 when
    something is wrong; a warning alone is no reason.
    """
    from edge import config
    from edge.doctor import examine, service

    found = config.load(where.find(config_path))
    case = service.case_of(found, time.time_ns() // 1_000_000)
    if probe and case.running:
        words = "--probe would open the lines of the running gateway"
        raise Refused(words, Exit.USAGE, "without --probe; or systemctl stop aigeco before")
    began_s = time.monotonic()
    findings = examine.examine(examine.checks_of(case, probe), progress=progress.percent("looking"))
    took_s = time.monotonic() - began_s
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    rows = shutil.get_terminal_size().lines if sys.stdout.isatty() else None
    if as_json:
        print(json.dumps(shape(case, findings, took_s)))
    else:
        print("\n".join(lines(case, findings, took_s, coloured, everything, rows)))
    return Exit.DOES_NOT_HOLD if any(each.state == "wrong" for each in findings) else Exit.OK


def shape(case: Case, findings: Sequence[Finding], took_s: float) -> dict[str, Any]:
    """The JSON."""
    from drivers.meter import LATENCY_BOUNDS_MS

    return {
        "ok": all(each.state != "wrong" for each in findings),
        "gateway": case.config.gateway,
        "running": case.running,
        "took_s": round(took_s, 2),
        "findings": [asdict(each) for each in findings],
        "latency_bounds_ms": list(LATENCY_BOUNDS_MS),
        "meters": [
            {
                "meter": meter["name"],
                "bus": meter.get("bus", ""),
                **{key: meter[key] for key in _COUNTS if key in meter},
            }
            for meter in _counted(case)
        ],
    }


def lines(
    case: Case,
    findings: Sequence[Finding],
    took_s: float,
    coloured: bool,
    everything: bool = False,
    rows: int | None = None,
) -> Iterator[str]:
    """What a person reads; with ``everything`` also what is well, one by one; ``rows``: of the screen, if any."""
    head = f"gateway {case.config.gateway}, {'running' if case.running else 'not running'}: {_in_all(findings)}"
    shown = [f"{head} ({took_s:.1f} s)", *_body(findings, coloured, everything)]
    meters = _counted(case)
    answers = ["", *histogram(meters, by_line=not everything)] if meters else []
    if everything or rows is None or len(shown) + len(answers) < rows:
        yield from [*shown, *answers]
        return
    yield from shown
    if len(shown) + 1 >= rows:
        yield from ("", f"{head}; the worst is at the top")
    elif answers:
        yield "how long answers take: --all"


def _in_all(findings: Sequence[Finding]) -> str:
    """What it comes to."""
    count = {state: sum(each.state == state for each in findings) for state in ("wrong", "warning", "unknown")}
    if count["wrong"] or count["warning"]:
        return f"{count['wrong']} wrong, {table.some(count['warning'], 'warning')}"
    return f"nothing is wrong, {count['unknown']} not looked at" if count["unknown"] else "all is well"


def _body(findings: Sequence[Finding], coloured: bool, everything: bool) -> Iterator[str]:
    """The findings, the worst first."""
    good = [each for each in findings if each.state == "ok"]
    for state in ("wrong", "warning", "unknown"):
        found = [each for each in findings if each.state == state]
        if found:
            yield ""
            shown = found if everything else _together(found)
            yield from (line for each in shown for line in _finding(each, coloured))
    if good:
        yield ""
        well_shown = good if everything else _in_short(good, len(good) < len(findings))
        yield from (line for each in well_shown for line in _finding(each, coloured))


def _together(bad: Sequence[Finding]) -> Iterator[Finding]:
    """What is the same at several places, once: the first two of them and how many more there are."""
    places: dict[Finding, list[str]] = {}
    for each in bad:
        places.setdefault(replace(each, place=""), []).append(each.place)
    for each, names in places.items():
        more = [f"{len(names) - 2} more"] if len(names) > 3 else names[2:]
        yield replace(each, place=", ".join([*names[:2], *more]))


def _in_short(good: Sequence[Finding], others: bool) -> Iterator[Finding]:
    """A line for each area, or one for all of them beside what is not well."""
    from edge.doctor.finding import well

    areas = {each.area: [other for other in good if other.area == each.area] for each in good}
    if others:
        counts = [f"{area} ({len(found)})" if len(found) > 1 else area for area, found in areas.items()]
        yield well("", "", f"{', '.join(counts)}; --all shows them")
        return
    for area, found in areas.items():
        yield found[0] if len(found) == 1 else well(area, "", f"{found[0].said}; and {len(found) - 1} more")


def _counted(case: Case) -> list[Mapping[str, Any]]:
    """The meters that the running gateway has asked."""
    return [each for each in case.told.get("meters", ()) if "latencies" in each] if case.running else []


def histogram(meters: Sequence[Mapping[str, Any]], by_line: bool) -> Iterator[str]:
    """How requests ended, and how long answers took, of each line or each meter: parts of a hundred of its answers."""
    from drivers.meter import LATENCY_BOUNDS_MS

    rows: dict[str, list[int]] = {}
    for each in meters:
        name = str(each.get("bus", "") if by_line else each["name"])
        counts = [each[key] for key in ("requests", "timeouts", "checksum_errors")] + list(each["latencies"])
        rows[name] = [one + other for one, other in zip(rows.get(name, [0] * len(counts)), counts, strict=True)]
    bounds = [f" {bound}".rjust(4) for bound in LATENCY_BOUNDS_MS] + [" more"]
    yield f"{'':<45}% of the answers took up to, ms"
    heads = f"{'line' if by_line else 'meter':<17}   requests  silent  damaged"
    yield heads + "".join(bounds)
    for name, (requests, silent, damaged, *answers) in rows.items():
        shares = "".join(
            _percent(count, sum(answers)).rjust(len(bound)) for count, bound in zip(answers, bounds, strict=True)
        )
        yield f"{_cut(name, 17):<17}  {requests:>9,}  {silent:>6,}  {damaged:>7,}{shares}"


def _percent(count: int, of: int) -> str:
    if not count:
        return "."
    return "<1" if count * 200 < of else f"{100 * count / of:.0f}"


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 2]}.."


def _finding(finding: Finding, coloured: bool) -> Iterator[str]:
    mark = f"{finding.state:<8}"
    text = ": ".join(part for part in (finding.area, finding.said) if part)
    first, *more = _wrapped(text, len(mark))
    yield (f"{_COLOURS[finding.state]}{mark}\x1b[0m" if coloured else mark) + first
    yield from (" " * len(mark) + line for line in more)
    for name, words in (("move", finding.move), ("try", finding.advice)):
        if words:
            first, *more = _wrapped(words, len(mark) + 6)
            yield f"{'':<8}{name + ':':<6}{first}"
            yield from (" " * (len(mark) + 6) + line for line in more)


def _wrapped(text: str, indent: int) -> list[str]:
    """Lines of whole words; a path that is too long for a line stands on one of its own, whole."""
    return textwrap.wrap(text, _COLUMNS - indent, break_long_words=False, break_on_hyphens=False) or [""]
