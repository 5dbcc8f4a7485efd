"""What is wrong with a file somebody wrote: place, value, words, advice; all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    Attributes:
        place: where, in the file's own terms, e.g. ``line[0].device[1].unit``.
        value: what stands there.
        words: what is wrong with it, as the end of a sentence.
        advice: what to try.
    """

    place: str
    value: object
    words: str
    advice: str

    def __str__(self) -> str:
        return f"{self.place}: {self.value!r} {self.words}; try: {self.advice}"


class BadFile(Exception):
    """A site or fault file that cannot be used; the writer's move.

    Attributes:
        problems: all that was found.
    """

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.problems = tuple(problems)
