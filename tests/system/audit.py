"""What an auditor does: runs the commands and believes what can be checked.

Rules
- The commands run in this process, with their real arguments, output and exit codes.
- What the verifier says of the slots is found once more here, another way.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from typing import Any

from edge.cli.main import cli
from signer.codes import Kind
from signer.statement import Claims


def aigeco(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(list(arguments), prog_name="aigeco")
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def check_holds(report: dict[str, Any], statements: int | None = None) -> None:
    """The verifier found nothing wrong, and every slot of every point is accounted for."""
    assert report["ok"], report["failures"]
    assert report["slots"], "no slots at all"
    for point, slots in report["slots"].items():
        assert slots["missing"] == 0, f"{point}: {slots}"
        assert slots["expected"] == slots["read"] + slots["failed"] + slots["gap"], f"{point}: {slots}"
    if statements is not None:
        assert report["statements"] == statements


def check_slots(claims: Iterable[Claims]) -> None:
    """Every slot of every point once, by a reading or a gap: the verifier's word, found another way."""
    spans: dict[str, list[tuple[int, int]]] = {}
    periods: dict[str, int] = {}
    for claim in claims:
        body = claim.body.get(13, {})
        if claim.kind == Kind.DESCRIPTOR:
            periods[claim.sub] = body[1]
        elif claim.kind == Kind.GAP:
            assert body[4] * periods[claim.sub] == body[3] - body[2], f"{claim.sub}, seq {claim.seq}: {body}"
            spans.setdefault(claim.sub, []).append((body[2], body[3]))
        elif claim.kind == Kind.READING:
            assert claim.slot_ms is not None
            spans.setdefault(claim.sub, []).append((claim.slot_ms, claim.slot_ms + periods[claim.sub]))
    assert spans
    for sub, found in spans.items():
        for (_, end), (begin, _) in pairwise(found):
            assert begin == end, f"{sub}: {end} is followed by {begin}"
