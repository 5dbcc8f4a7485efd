"""The ``aigeco`` command: finds the command's module, and turns its outcome into an exit code.

Rules
- One module a command; it is imported when it is needed, and keeps its own heavy imports inside its functions, so that
  ``aigeco run`` carries nothing that only the technician's commands need.
- A command returns its exit code; None is 0.
- Known errors end with one message and their code, Ctrl-C with 130, neither with a traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from edge.cli.exits import MEANING, Exit, code_of, say

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
)


class Commands(click.Group):
    """A group whose commands live in modules of their name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order a gateway's life takes."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, its module imported now."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"edge.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and leave with the exit code."""
        try:
            outcome = super().main(*args, **{**kwargs, "standalone_mode": False})
        except (KeyboardInterrupt, click.Abort):
            sys.exit(Exit.INTERRUPTED)
        except click.ClickException as error:
            _say_usage(error)
            sys.exit(Exit.USAGE)
        except Exception as error:
            code = code_of(error)
            if code is None:
                raise
            say(error)
            sys.exit(code)
        _flush()
        sys.exit(outcome if isinstance(outcome, int) else Exit.OK)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, below the commands."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), words) for code, words in MEANING.items()])


def _flush() -> None:
    """Whoever reads our output, such as head, may have seen enough: that changes no outcome."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_usage(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the whole help
        print(error.format_message(), file=sys.stderr)
        return
    print(f"error: {error.format_message()}", file=sys.stderr)
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        print(f"  try: {context.command_path} --help", file=sys.stderr)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aigeco-edge", prog_name="aigeco")
def cli() -> None:
    """Trustworthy energy measurement: read meters, sign and keep every measurement, prove it later."""


def main() -> None:
    """Entry point of ``aigeco``."""
    cli(prog_name="aigeco")


if __name__ == "__main__":
    main()
