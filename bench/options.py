"""What all scripts have in common: ``--small``, and how tables are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from bench.report import Table

_Command = TypeVar("_Command", bound=Callable[..., Any])


def small(function: _Command) -> _Command:
    """The option ``--small``: sizes that show that a script works, and nothing else."""
    return click.option("--small", "tiny", is_flag=True, help="Tiny sizes: whether it works, no figures to keep.")(
        function
    )


def show(tables: Iterable[Table]) -> None:
    """Print each table as soon as it is there, for a terminal, or for a page after ``python -m bench --markdown``."""
    context = click.get_current_context(silent=True)
    markdown = bool(context and context.find_root().params.get("markdown"))
    for table in tables:
        click.echo(f"{table.markdown() if markdown else table.text()}\n")
