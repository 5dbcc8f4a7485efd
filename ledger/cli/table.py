"""Tables for people; rich is imported here, when one is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Enough of a digest to tell it from another, and three of them in a row fit 80 columns; --json has all of it.
_SHORT = 12


def table(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows' ``columns``; digests are shortened."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, no_wrap=True)
    for row in rows:
        made.add_row(*(_shown(row[column]) for column in columns))
    console = Console()
    console.print(title, style="italic", markup=False, highlight=False)  # a table's own title wraps at its width
    console.print(made)


def _shown(value: Any) -> str:
    text = "-" if value is None else str(value)
    return (
        f"{text[:_SHORT]}…" if len(text) in (32, 64) and all(letter in "0123456789abcdef" for letter in text) else text
    )
