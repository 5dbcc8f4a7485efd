"""The ``aigeco`` command. ``aigeco run`` carries nothing that only the technician's commands need (edge.cli.group)."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli import where
from edge.cli.exits import MEANING, Exit, code_of
from edge.cli.group import Commands, Endings

COMMANDS = (
    "run",
    "scan",
    "read",
    "commission",
    "replace",
    "decode",
    "maps",
    "status",
    "watch",
    "doctor",
    "verify",
    "export",
    "keys",
    "config",
    "completion",
)
"""In the order a gateway's life takes."""


@click.group(
    cls=Commands,
    package="edge.cli",
    names=COMMANDS,
    endings=Endings(dict(MEANING), Exit.USAGE, Exit.INTERRUPTED, code_of),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="aigeco-edge", prog_name="aigeco")
@where.option
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None) -> None:
    """Trustworthy energy measurement: read meters, sign and keep every measurement, prove it later."""
    ctx.obj = config_path


def main() -> None:
    """Entry point of ``aigeco``."""
    cli(prog_name="aigeco")


if __name__ == "__main__":
    main()
