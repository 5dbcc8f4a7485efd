"""The ``aigeco-sim`` command: meters and whole sites that are not there.

Rules
- One module a command, imported when it is needed.
- A known error is one message with what to try, never a traceback.
- Ctrl-C and SIGTERM are how a simulator ends: all ports are given back, and the exit code is 0.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from edge.cli.exits import lines_of

COMMANDS = ("meter", "site")
USAGE, PORT = 2, 4
"""Exit codes besides 0: wrong arguments or a wrong file; a port that cannot be opened."""

_KNOWN = {
    "drivers.map.MapError": USAGE,
    "drivers.dump.DumpError": USAGE,
    "hw_sim.sitefile.SiteError": USAGE,
    "hw_sim.port.PortProblem": PORT,
}


class Commands(click.Group):
    """A group whose commands live in modules of their name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, the smaller first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, its module imported now."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"hw_sim.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and leave with the exit code."""
        try:
            super().main(*args, **{**kwargs, "standalone_mode": False})
        except (KeyboardInterrupt, click.Abort):
            sys.exit(0)
        except click.exceptions.NoArgsIsHelpError as error:  # its message is the whole help
            print(error.format_message(), file=sys.stderr)
            sys.exit(USAGE)
        except click.ClickException as error:
            print(f"error: {error.format_message()}", file=sys.stderr)
            context = error.ctx if isinstance(error, click.UsageError) else None
            if context is not None:
                print(f"  try: {context.command_path} --help", file=sys.stderr)
            sys.exit(USAGE)
        except Exception as error:
            code = _code_of(error)
            if code is None:
                raise
            print("\n".join(lines_of(error)), file=sys.stderr)
            sys.exit(code)
        sys.exit(0)


def _code_of(error: Exception) -> int | None:
    for base in type(error).__mro__:
        code = _KNOWN.get(f"{base.__module__}.{base.__qualname__}")
        if code is not None:
            return code
    return USAGE if isinstance(error, OSError) and error.filename is not None else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aigeco-edge", prog_name="aigeco-sim")
def cli() -> None:
    """Meters and sites that are not there: they answer Modbus as real ones do, and fail as real ones do."""


def main() -> None:
    """Entry point of ``aigeco-sim``."""
    cli(prog_name="aigeco-sim")


if __name__ == "__main__":
    main()
