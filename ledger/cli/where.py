"""Where the configuration is: an option of the whole command, and of each command that uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., object])


def option(function: _Function) -> _Function:
    """``--config`` behind the command's name, for those who put it there."""
    return click.option(
        "--config", "config_path", type=click.Path(path_type=Path), help="As before the command's name."
    )(function)


def find(given: Path | None) -> Path:
    """The path given with the command, else the one before it."""
    context = click.get_current_context()
    return given or Path(context.find_root().obj)
