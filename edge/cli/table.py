"""What a person reads: numbers, ages and tables.

Rules
- Without a terminal: plain text, the same on every machine, never wrapped, no colours.
- With a terminal: the same cells, the headings bold; a figure that is cut off misleads, so a row is never cut.
  Where asked for, the last cell of a row that is too wide stands on a line below it.
- Numbers are grouped by thousands with commas, a decimal point stays a point.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

_GAP = "  "  # between two columns


def grouped(number: str) -> str:
    """``9123510.25`` as ``9,123,510.25``."""
    sign = "-" if number.startswith("-") else ""
    whole, dot, fraction = number.removeprefix("-").partition(".")
    return f"{sign}{int(whole):,}{dot}{fraction}"


def some(count: int, noun: str) -> str:
    """``1 receipt``, ``1,234 receipts``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def on_the_point(numbers: Sequence[str]) -> list[str]:
    """Numbers padded so that their decimal points stand under each other; other text ends before the point."""
    fractions = [number.partition(".")[1:] for number in numbers]
    wide = max((len(dot + fraction) for dot, fraction in fractions), default=0)
    return [
        number + " " * (wide - len(dot + fraction)) for number, (dot, fraction) in zip(numbers, fractions, strict=True)
    ]


def age(seconds: float) -> str:
    """``42 s``, ``5 min``, ``3 h 20 min``, ``12 d``: as exact as a person needs it."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d"


def show(
    headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = (), under: bool = False
) -> None:
    """Print a table; columns named in ``right`` are aligned to the right, columns without any content are left out.

    ``under``: on a terminal, the last cell of a row that is too wide goes below the row.
    """
    kept = [column for column in range(len(headings)) if any(row[column] for row in rows)]
    headings = [headings[column] for column in kept]
    lines = aligned(headings, [[row[column] for column in kept] for row in rows], right)
    heading, *shown = plain(lines)
    if under and sys.stdout.isatty():
        wide = shutil.get_terminal_size().columns
        shown = [
            _under(cells, wide) if len(text) > wide else text for text, cells in zip(shown, lines[1:], strict=True)
        ]
    print("\n".join([_bold(heading) if sys.stdout.isatty() else heading, *shown]))


def plain(lines: Sequence[Sequence[str]]) -> list[str]:
    """Aligned cells as lines of text, without trailing blanks."""
    return [_GAP.join(line).rstrip() for line in lines]


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> list[list[str]]:
    """Headings and rows, each cell as wide as the widest of its column."""
    wide = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    return [
        [
            cell.rjust(width) if heading in right else cell.ljust(width)
            for cell, width, heading in zip(row, wide, headings, strict=True)
        ]
        for row in [headings, *rows]
    ]


def _under(cells: Sequence[str], wide: int) -> str:
    """A row, with its last cell on lines of its own."""
    (row,) = plain([cells[:-1]])
    below = textwrap.wrap(cells[-1], wide, initial_indent="  ", subsequent_indent="    ")
    return "\n".join([row, *below])


def _bold(words: str) -> str:
    return words if "NO_COLOR" in os.environ else f"\x1b[1m{words}\x1b[0m"


def fit(words: str, stream: TextIO) -> str:
    """A line as it is; on a terminal, broken between words, its further lines under its text."""
    if not stream.isatty():
        return words
    indent = " " * (len(words) - len(words.lstrip()) + 2)
    wide = max(20, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(words, wide, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join([words[: len(indent) - 2] + lines[0].lstrip(), *lines[1:]]) if lines else words
