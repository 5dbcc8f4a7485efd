"""What a trace finds: a tree of steps, each verified or not, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Mark(IntEnum):
    """What became of one step; the highest of a tree is the trace's."""

    VERIFIED = 0
    NOTED = 1
    """Nothing was to be verified here, or it is not kept here."""
    WITHHELD = 2
    """The contract does not show it to this caller."""
    ERASED = 3
    """The evidence was taken away, and who did it is recorded; or its time has run out."""
    FAILED = 4

    @property
    def word(self) -> str:
        """For programs."""
        return self.name.lower()


@dataclass
class Step:
    """One step.

    Attributes:
        what: which step.
        said: the value with its unit, or where.
        reason: why it is not verified.
        facts: for programs.
        parts: what it was made from, or, forward, what was made from it.
    """

    what: str
    said: str = ""
    mark: Mark = Mark.VERIFIED
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    parts: list[Step] = field(default_factory=list)

    @property
    def worst(self) -> Mark:
        """The worst mark of this step and all below."""
        return max([self.mark, *(part.worst for part in self.parts)])

    def troubles(self, least: Mark = Mark.WITHHELD, place: str = "") -> Iterator[tuple[str, Step]]:
        """Every step with at least this mark, with the way to it; what lies deeper comes first.

        So the first of them is where to look: what is above it may be wrong because of it.
        """
        here = f"{place} > {self.what}" if place else self.what
        for part in self.parts:
            yield from part.troubles(least, here)
        if self.mark >= least:
            yield here, self

    def record(self, told: dict[int, int] | None = None) -> dict[str, Any]:
        """For ``--json``. What several steps stand on is told once, with an ``id``, and then by ``see``.

        Args:
            told: ids of the steps that were told already.
        """
        told = {} if told is None else told
        made: dict[str, Any] = {"what": self.what, "said": self.said, "state": self.mark.word}
        if self.reason:
            made["reason"] = self.reason
        if self.parts and id(self) in told:
            return made | {"see": told[id(self)]}
        if self.facts:
            made["facts"] = self.facts
        if self.parts:
            made["id"] = told[id(self)] = len(told) + 1
            made["parts"] = [part.record(told) for part in self.parts]
        return made
