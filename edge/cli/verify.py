"""``aigeco verify``: the offline verifier. Needs no network, no gateway and no configuration."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.exits import Exit
from edge.cli.progress import percent
from edge.cli.table import age, fit, some

if TYPE_CHECKING:
    from signer.verify import Report


@click.command("verify", short_help="Prove exported evidence, offline.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), metavar="DIR2", help="Take the trust anchors from there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, trust: Path | None, as_json: bool) -> int:
    """Check exported evidence: every signature, link, slot and receipt.

    DIR is a folder that aigeco export wrote. Without --trust it is judged by the anchors that it brings itself, which
    proves that it is whole, not whose it is. Ends with 0 only if all holds.
    """
    from signer.bundle import BundleProblem
    from signer.verify import verify

    progress = percent("verifying")
    try:
        report = verify(folder, trust, progress)
    except BundleProblem as problem:
        if not getattr(problem, "__notes__", ()):
            problem.add_note("try: the folder that aigeco export --out DIR wrote")
        raise
    progress(1, 1)
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        for line in _lines(report):
            print(fit(line, sys.stdout))
    return Exit.OK if report.ok else Exit.DOES_NOT_HOLD


def _lines(report: Report) -> Iterator[str]:
    """A line a failure, then what was found and whether it holds."""
    yield from (f"does not hold: {failure}" for failure in _failures(report))
    gateways = len({stream.gateway for stream in report.streams})
    yield f"{some(report.statements, 'statement')} of {some(gateways, 'gateway')}, {_slots(report)}"
    if report.pruned:
        yield f"{some(report.pruned, 'statement')} more known by their sid only, their bytes pruned after commitment"
    yield from (
        f"{some(tally.receipts, 'receipt')} of {organisation} over {some(tally.statements, 'statement')}"
        for organisation, tally in sorted(report.receipts.items())
    )
    if report.unreceipted:
        yield f"{some(report.unreceipted, 'statement')} without a receipt yet"
    yield from _remarks(report)
    yield _verdict(report)


def _failures(report: Report) -> Iterator[str]:
    """All that are listed; the receipts of an organisation that nobody pinned a root of are one."""
    ends = tuple(f": {each.words}" for each in report.unpinned.values())
    others = [failure for failure in report.failures if not failure.endswith(ends)]
    for organisation, each in sorted(report.unpinned.items()):
        yield f"{some(each.receipts, 'receipt')} of {organisation}: {each.words}; the first: {each.first}"
    yield from others
    more = report.failures_total - len(others) - sum(each.receipts for each in report.unpinned.values())
    if more:
        yield f"{more:,} more"


def _slots(report: Report) -> str:
    points = report.slots.values()
    expected, missing = sum(point.expected for point in points), sum(point.missing for point in points)
    read, failed = sum(point.read for point in points), sum(point.failed for point in points)
    gap = sum(point.gap for point in points)
    if missing:
        return f"{some(missing, 'slot')} of {expected:,} not accounted for"
    return f"every slot accounted for ({expected:,}: {read:,} read, {failed:,} failed, {gap:,} in signed gaps)"


def _remarks(report: Report) -> Iterator[str]:
    """What an auditor should know although it is no failure."""
    if report.undated:
        yield f"{some(report.undated, 'statement')} with an unsure clock: their certificate could not be dated"
    for stream in report.streams:
        if stream.set_back_ms and stream.recovered_from:
            began = f"stream {stream.stream[:8]} follows {stream.recovered_from[:8]}"
            yield f"{began}: the clock was set back by {age(stream.set_back_ms / 1000)}"
    jumped = sum(point.jumped for point in report.slots.values())
    if jumped:
        yield f"{some(jumped, 'slot')} in signed gaps because the clock was set"
    for kind, count in sorted(report.unknown_kinds.items()):
        yield f"{some(count, 'statement')} of unknown kind {kind}: chain and signature hold, the rest was not read"
    if report.missing_maps:
        yield f"{some(len(report.missing_maps), 'register map')} named but not in the folder: {report.missing_maps[0]}"


def _verdict(report: Report) -> str:
    if not report.ok:
        return f"does NOT hold: {some(report.failures_total, 'failure')}"
    if report.trust == "self-supplied":
        return "holds, by trust anchors that the folder brings itself (--trust DIR2 takes them from elsewhere)"
    return "holds, by trust anchors from elsewhere"
