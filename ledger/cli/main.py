"""``aigeco-peer``: an organisation's ingestion peer and its embedded ledger.

    aigeco-peer --config peer.toml run
    aigeco-peer --config peer.toml gateways add --certificate gateway.pem
    aigeco-peer --config peer.toml gateways add gw1 --root authority.pem
    aigeco-peer --config peer.toml gateways revoke gw1
    aigeco-peer --config peer.toml gateways list [--json]
    aigeco-peer --config peer.toml call CONTRACT FUNCTION [--arguments JSON|@FILE] [--secret NAME=JSON|@FILE]
    aigeco-peer --config peer.toml query CONTRACT FUNCTION [--arguments JSON|@FILE]
    aigeco-peer --config peer.toml export --member NAME [--group GROUP] --from TIME --until TIME --out DIR [--json]
    aigeco-peer --config peer.toml erase --member NAME --group GROUP --from TIME --until TIME --why TEXT [--yes]
    aigeco-peer --config peer.toml trace settlement|transfer|guarantee|statement ... [--all] [--json]
    aigeco-peer --config peer.toml backup FILE [--json]
    aigeco-peer --config peer.toml restore FILE [--json]
    aigeco-peer --config peer.toml show [streams|batches|forks] [--json] [--check]
    aigeco-peer network up|down|status|logs|identity [--network FOLDER]
    aigeco-peer contract package|install|approve|commit|list --organisation MSPID [--network FOLDER]

Exit codes
    0    done; a running peer was told to stop (SIGTERM)
    1    the ledger's chain is not whole (every command looks at its end, ``show --check`` at all of it), a step of a
         trace fails, or not all of a network runs (``network status``)
    2    wrong arguments, or a file that is not what the command needs
    3    the configuration, a key, a certificate or one of Fabric's commands is missing or wrong
    4    the contract declines the call, and nothing is changed
    5    nothing of a trace fails, but evidence was erased, or is not the caller's to see
    6    the ledger or the network cannot be used
    130  ended by Ctrl-C
    141  ended because nobody reads its output any more

Rules
- Commands that read never change the ledger, and work while a peer runs.
- Each command's module is imported when it is needed; rich only where a table is printed.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from ledger.cli.exits import MEANING, Exit, Refused, say

COMMANDS = (
    "run",
    "gateways",
    "call",
    "query",
    "show",
    "settle",
    "export",
    "trace",
    "erase",
    "backup",
    "restore",
    "network",
    "contract",
)


class Commands(click.Group):
    """A group whose commands live in modules of their name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order they are needed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, its module imported now."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"ledger.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would end with 1 when nobody reads."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return Exit.UNREAD

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and leave with the exit code."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            outcome = super().main(*args, **{**kwargs, "standalone_mode": False})
        except (KeyboardInterrupt, click.Abort):
            sys.exit(Exit.INTERRUPTED)
        except click.exceptions.NoArgsIsHelpError as error:
            print(error.format_message(), file=sys.stderr)
            sys.exit(Exit.USAGE)
        except click.ClickException as error:
            print(f"error: {error.format_message()}", file=sys.stderr)
            context = error.ctx if isinstance(error, click.UsageError) else None
            if context is not None:
                print(f"  try: {context.command_path} --help", file=sys.stderr)
            sys.exit(Exit.USAGE)
        except Exception as error:
            code = _code_of(error)
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
    """Say the rest; whoever reads it, such as head, may have seen enough: that changes no outcome."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code_of(error: Exception) -> Exit | None:
    """Exit code of a known error; None: a bug."""
    from ledger.commit import ChainBroken, LedgerProblem
    from ledger.config import ConfigError
    from ledger.fabric.commands import CommandsMissing, FabricProblem, WrongArgument
    from ledger.rules.world import Declined
    from ledger.world_file import Mistake

    if isinstance(error, Refused):
        return error.code
    if isinstance(error, FabricProblem):
        codes = {CommandsMissing: Exit.CONFIG, WrongArgument: Exit.USAGE}
        return codes.get(type(error), Exit.LEDGER)
    if isinstance(error, ConfigError):
        return Exit.CONFIG
    if isinstance(error, Declined):
        return Exit.DECLINED
    if isinstance(error, Mistake):
        return Exit.LEDGER
    if isinstance(error, LedgerProblem):
        return Exit.DOES_NOT_HOLD if isinstance(error, ChainBroken) else Exit.LEDGER
    return Exit.USAGE if isinstance(error, OSError) and error.filename is not None else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aigeco-edge", prog_name="aigeco-peer")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("peer.toml"),
    show_default=True,
    envvar="AIGECO_PEER_CONFIG",
    help="Configuration of the peer; docs/operations.md names every key.",
)
@click.pass_context
def cli(ctx: click.Context, config_path: Path) -> None:
    """Ingestion peer: verify batches that gateways send, commit them, and sign receipts."""
    ctx.obj = config_path


def main() -> None:
    """Entry point of ``aigeco-peer``."""
    cli(prog_name="aigeco-peer")


if __name__ == "__main__":
    main()
