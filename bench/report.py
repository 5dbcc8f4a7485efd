"""What a measurement prints: tables for a terminal, or for docs/performance.md.

Measures nothing.

Rules
- A table fits 120 columns and can be pasted into a page as it is (``--markdown``).
- A number comes with its unit in the column's head; a goal stands in the row that it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        title: what was measured.
        head: the columns' names.
        rows: one text a cell.
        notes: how to read it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Columns aligned, the first one to the left."""
        widths = [max(len(row[column]) for row in (self.head, *self.rows)) for column in range(len(self.head))]
        lines = [self.title, *(_aligned(row, widths) for row in (self.head, *self.rows)), *self.notes]
        lines.insert(2, "  ".join("-" * width for width in widths))
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """The same for a page."""
        rule = "|".join(["---", *["---:"] * (len(self.head) - 1)])
        lines = [f"**{self.title}**", "", _piped(self.head), f"|{rule}|", *(_piped(row) for row in self.rows)]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines)


def verdict(value: float, goal: float, at_least: bool = False, unit: str = "") -> str:
    """``<= 45 MB: met``, or missed."""
    met = value >= goal if at_least else value <= goal
    return f"{'>=' if at_least else '<='} {goal:g}{unit}: {'met' if met else 'MISSED'}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(width) if not at else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join((first, *rest))


def _piped(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"
