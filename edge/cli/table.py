"""What a person reads: numbers, ages and tables.

Rules
- Without a terminal: plain text, the same on every machine, never wrapped, no colours.
- With a terminal: the same cells through rich, which is imported only then.
- Numbers are grouped by thousands with commas, a decimal point stays a point.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

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


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table; columns named in ``right`` are aligned to the right, columns without any content are left out."""
    kept = [column for column in range(len(headings)) if any(row[column] for row in rows)]
    headings = [headings[column] for column in kept]
    lines = aligned(headings, [[row[column] for column in kept] for row in rows], right)
    if sys.stdout.isatty():
        _rich(lines)
    else:
        print("\n".join(plain(lines)))


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


def _rich(lines: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    headings, *rows = lines
    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(Text(heading), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    # A figure that is cut off misleads: on a narrow terminal the line runs over its edge instead.
    needed = sum(len(cell) + len(_GAP) for cell in headings)
    console.width = max(console.width, needed)
    console.print(table)
