"""A trace as a tree of lines for people."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from ledger.trace.tree import Mark, Step

_SIGNS = {Mark.VERIFIED: "✓", Mark.NOTED: "·", Mark.WITHHELD: "?", Mark.ERASED: "-", Mark.FAILED: "✗"}
_PLAIN = {**{mark: sign for mark, sign in _SIGNS.items() if sign.isascii()}, Mark.VERIFIED: "+", Mark.NOTED: "."}
_PLAIN[Mark.FAILED] = "X"


def lines(step: Step, width: int, every: bool) -> Iterator[str]:
    """The lines of a tree. What several steps stand on is shown once.

    Args:
        every: False shows only the way to what is not verified.
    """
    try:
        "".join(_SIGNS.values()).encode(sys.stdout.encoding or "ascii")
        signs = _SIGNS
    except UnicodeEncodeError:
        signs = _PLAIN
    yield from _lines(step, width, every, signs, 0, set())


def _lines(step: Step, width: int, every: bool, signs: dict[Mark, str], depth: int, seen: set[int]) -> Iterator[str]:
    again = bool(step.parts) and id(step) in seen
    seen.add(id(step))
    text = f"{step.what} {step.said}".rstrip() + (" (above)" if again else "")
    if step.mark is not Mark.VERIFIED and step.reason:
        text += f": {step.reason}"
    # A step that holds by itself says what became of those below, which may be hidden or far down.
    sign = signs[step.mark if step.mark is not Mark.VERIFIED else step.worst if step.worst > Mark.NOTED else step.mark]
    indent = "  " * depth
    yield from textwrap.wrap(text, width, initial_indent=f"{indent}{sign} ", subsequent_indent=f"{indent}    ")
    if again:
        return
    for part in step.parts:
        if every or part.worst >= Mark.WITHHELD or (depth < 1 and step.what == "month"):
            yield from _lines(part, width, every, signs, depth + 1, seen)
