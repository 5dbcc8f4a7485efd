"""``aigeco doctor``: everything that can be wrong with a gateway, looked at at once, in a few seconds.

Rules
- Changes nothing, and opens no port beside the running gateway.
- The most important first; what is well is one line.
- Nothing is wider than 80 columns, with and without a terminal.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import progress, table, where
from edge.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from edge.doctor.finding import Case, Finding

_COLUMNS = 80
_COLOURS = {"wrong": "\x1b[1;31m", "warning": "\x1b[33m", "ok": "\x1b[32m"}
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config_path: Path | None, probe: bool, as_json: bool) -> int:
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
    if as_json:
        print(json.dumps(shape(case, findings, took_s)))
    else:
        print("\n".join(lines(case, findings, took_s, sys.stdout.isatty())))
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
            {"meter": meter["name"], **{key: meter[key] for key in _COUNTS if key in meter}}
            for meter in (case.told.get("meters", ()) if case.running else ())
        ],
    }


def lines(case: Case, findings: Sequence[Finding], took_s: float, coloured: bool) -> Iterator[str]:
    """What a person reads."""
    count = {state: sum(each.state == state for each in findings) for state in ("wrong", "warning")}
    running = "running" if case.running else "not running"
    told = (
        f"{count['wrong']} wrong, {table.some(count['warning'], 'warning')}" if any(count.values()) else "all is well"
    )
    yield f"gateway {case.config.gateway}, {running}: {told} ({took_s:.1f} s)"
    group = ""
    for each in findings:
        if each.state != group:
            group = each.state
            yield ""
        yield from _finding(each, coloured)


def _finding(finding: Finding, coloured: bool) -> Iterator[str]:
    mark = f"{finding.state:<8}"
    text = ": ".join(part for part in (finding.area, finding.place, finding.words) if part)
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
