"""``aigeco run``: the gateway, until it is told to stop. Imports what the agent needs and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli import where


@click.command("run", short_help="Read, sign, keep and send, until told to stop.")
@where.option
def command(config_path: Path | None) -> int:
    """Read the meters of the configuration slot by slot; sign, keep and send every measurement; until told to stop.

    Ends with SIGTERM or Ctrl-C after everything read is on disk.
    """
    from edge import agent, config

    return agent.run(config.load(where.find(config_path)))
