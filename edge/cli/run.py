"""``aigeco run``: the gateway, until it is told to stop.

Only finds the configuration: the gateway then takes this process' place (edge.process), without the command line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from edge.cli import where

_PROCESS = "edge.process"


@click.command("run", short_help="Read, sign, keep and send, until told to stop.")
@where.option
def command(config_path: Path | None) -> NoReturn:
    """Read the meters of the configuration slot by slot; sign, keep and send every measurement.

    Ends with SIGTERM or Ctrl-C, after what was read is on disk.
    """
    path = where.find(config_path)
    sys.stdout.flush()
    sys.stderr.flush()
    # One pool of memory for all threads: they take turns anyway, and each pool keeps some of what it had (1.3 MB).
    environment = {"MALLOC_ARENA_MAX": "1", **os.environ}
    # Same process id, same open files. -P: the folder it was started in holds no modules of ours.
    os.execve(sys.executable, [sys.executable, "-P", "-m", _PROCESS, str(path)], environment)
