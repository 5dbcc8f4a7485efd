"""What ``aigeco`` and ``aigeco-sim`` have in common: finds a command's module, and turns its outcome into an exit code.

Rules
- One module a command; it is imported when it is needed, and keeps its own heavy imports inside its functions.
- A command returns its exit code; None is 0.
- Known errors end with one message and their code, Ctrl-C with its own, none of them with a traceback.
- Whoever stops reading our output ends the command; what the terminal cannot write is written as an escape.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from edge.cli.exits import say
from edge.cli.table import fit

UNREAD = 141
"""The exit code of a command that was ended because nobody reads its output, as the shell has it (128 + SIGPIPE)."""


@dataclass(frozen=True, slots=True)
class Endings:
    """How a program ends.

    Attributes:
        meaning: exit code -> words, as ``--help`` and the man page show them.
        usage: exit code of wrong arguments.
        interrupted: exit code after Ctrl-C.
        code_of: exit code of a known error; None: not known, a bug.
    """

    meaning: Mapping[int, str]
    usage: int
    interrupted: int
    code_of: Callable[[BaseException], int | None]


class Commands(click.Group):
    """A group whose commands live in modules of their name.

    Attributes:
        endings: how it ends.
    """

    def __init__(self, *args: Any, package: str, names: Sequence[str], endings: Endings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._package, self._names = package, tuple(names)
        self.endings = endings

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order they are needed."""
        return list(self._names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, its module imported now."""
        if cmd_name not in self._names:
            return None
        command = importlib.import_module(f"{self._package}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would end with 1 when nobody reads."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return UNREAD

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and leave with the exit code."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            outcome = super().main(*args, **{**kwargs, "standalone_mode": False})
        except (KeyboardInterrupt, click.Abort):
            sys.exit(self.endings.interrupted)
        except click.ClickException as error:
            _say_usage(error)
            sys.exit(self.endings.usage)
        except Exception as error:
            code = self.endings.code_of(error)
            if code is None:
                raise
            say(error)
            sys.exit(code)
        _flush()
        sys.exit(outcome if isinstance(outcome, int) else 0)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, below the commands."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), words) for code, words in self.endings.meaning.items()])


def _flush() -> None:
    """Say the rest; whoever reads it, such as head, may have seen enough: that changes no outcome."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_usage(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the whole help
        print(error.format_message(), file=sys.stderr)
        return
    print(fit(f"error: {error.format_message()}", sys.stderr), file=sys.stderr)
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        print(f"  try: {context.command_path} --help", file=sys.stderr)
