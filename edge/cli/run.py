"""``aigeco run``: the gateway, until it is told to stop. Imports what the agent needs and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli import where
from edge.cli.exits import Exit, say


@click.command("run", short_help="Read, sign, keep and send, until told to stop.")
@where.option
def command(config_path: Path | None) -> int:
    """Read the meters of the configuration slot by slot; sign, keep and send every measurement.

    Ends with SIGTERM or Ctrl-C, after what was read is on disk.
    """
    from edge import agent, config

    found = config.load(where.find(config_path))
    try:
        return agent.run(found)
    except config.ConfigError as error:  # the file is right, so it is the key or its certificate
        say(error)
        return Exit.KEY
