"""Questions to the person at the terminal, each asked again until its answer can be used.

Rules
- What is wrong with an answer is said at once and in our own words, broken where the terminal ends.
- Whoever leaves with Ctrl-C, Ctrl-D or no ends the command, and is told how it stands; what is said begins on a line
  of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import click

from edge.cli.table import fit

T = TypeVar("T")


@contextmanager
def leaving(words: str) -> Iterator[None]:
    """Around questions and what is done between them: says how it stands when one leaves here."""
    try:
        yield
    except (click.Abort, KeyboardInterrupt) as left:
        if isinstance(left, KeyboardInterrupt) and sys.stderr.isatty():  # its ^C is on the line
            print("\r\x1b[K", end="", file=sys.stderr)
        print(fit(words, sys.stderr), file=sys.stderr)
        raise


def ask(words: str, check: Callable[[str], T], default: str | None = None) -> T:
    """What is answered, as ``check`` makes it of the text.

    Args:
        check: raises click.UsageError for an answer that cannot be.

    Raises:
        click.Abort: the question was left.
    """
    while True:
        answer = _answer(lambda: str(click.prompt(words, default=default)))
        try:
            return check(answer)
        except click.UsageError as error:
            print(fit(f"  {error.message}", sys.stdout))


def choice(words: str, names: Sequence[str], default: str | None = None) -> str:
    """One of a few names."""

    def check(answer: str) -> str:
        if answer.strip() not in names:
            raise click.UsageError(f"{answer!r}: one of {', '.join(names)} is needed")
        return answer.strip()

    return ask(f"{words} ({', '.join(names)})", check, default)


def number(words: str, most: int) -> int:
    """A number from 1 to ``most``; Enter alone is 1."""

    def check(answer: str) -> int:
        digits = answer.strip()
        if not (digits.isascii() and digits.isdigit() and 1 <= int(digits) <= most):
            raise click.UsageError(f"{answer!r}: a number from 1 to {most} is needed")
        return int(digits)

    return ask(words, check, "1")


def insist(words: str, default: bool = False) -> None:
    """Go on only after a yes.

    Raises:
        click.Abort: no, or the question was left.
    """
    if not yes(words, default):
        raise click.Abort


def yes(words: str, default: bool = False) -> bool:
    """Whether a yes is answered; raises click.Abort when the question was left."""
    return _answer(lambda: click.confirm(fit(words, sys.stdout), default=default))


def _answer(asked: Callable[[], T]) -> T:
    try:
        return asked()
    except click.Abort:
        print()
        raise
