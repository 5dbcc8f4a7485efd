"""Which configuration file a command works with.

Rules
- ``--config``, else $AIGECO_CONFIG, else ./aigeco.toml, else /etc/aigeco/aigeco.toml; the first that is named or there.
- ``--config`` may stand before the command's name or behind it; behind it counts.
- A file that was named but is not there is an error: nothing else is taken in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edge.cli.exits import Exit, Refused

VARIABLE = "AIGECO_CONFIG"
PLACES = (Path("aigeco.toml"), Path("/etc/aigeco/aigeco.toml"))

_Command = TypeVar("_Command", bound=Callable[..., Any])


def option(command: _Command) -> _Command:
    """The ``--config`` option, the same for every command that has one."""
    words = f"Configuration file [default: ${VARIABLE}, else ./aigeco.toml, else {PLACES[1]}]."
    return click.option("--config", "config_path", type=click.Path(path_type=Path), metavar="FILE", help=words)(command)


def find(named: Path | None) -> Path:
    """The configuration file to use; ``named``: behind the command's name.

    Raises:
        Refused: there is none.
    """
    context = click.get_current_context(silent=True)
    named = named or (context.find_root().obj if context else None)
    advice = "aigeco ... --config FILE; docs/example.toml is a commented example to start from"
    variable = os.environ.get(VARIABLE)
    for path, source in ((named, "--config"), (Path(variable) if variable else None, f"${VARIABLE}")):
        if path is not None:
            if not path.is_file():
                raise Refused(f"{path}: no such configuration file (named by {source})", Exit.CONFIG, advice)
            return path
    for path in PLACES:
        if path.is_file():
            return path
    raise Refused(f"no configuration: neither ./{PLACES[0]} nor {PLACES[1]} is there", Exit.CONFIG, advice)
