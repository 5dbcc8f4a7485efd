"""The shape of the configuration file, and how a file of an older shape is read as one of today. Pure.

The file itself is never changed: it is somebody's, with their words in it.

Rules
- A file may say its shape in ``version``; one that does not is of the first.
- Who moves, renames or drops a setting adds a step at the end of ``STEPS`` that does the same to a document of the
  shape before, and never changes a step: the file on a gateway may be of any shape since the first.
- Of a newer shape nothing else is said: what it means only a newer version knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from drivers.table import Problem, shown

Document = dict[str, Any]

Step = Callable[[Document], None]
"""Makes of a document of one shape one of the next."""

STEPS: tuple[Step, ...] = ()
"""From shape 1 to 2, from 2 to 3, and so on. There is one shape so far."""


def up_to_date(document: Document, steps: Sequence[Step] = STEPS) -> Problem | None:
    """Make a document one of today's shape, in place; the problem when that cannot be."""
    newest = 1 + len(steps)
    version = document.pop("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        return Problem("version", shown(version), "is no version of this file", f"version = {newest}")
    if version > newest:
        words = f"this software knows files up to version {newest}"
        return Problem("version", str(version), words, "the software that the file was written for, or a newer one")
    for step in steps[version - 1 :]:
        step(document)
    return None
