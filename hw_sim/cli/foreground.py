"""What the simulator's commands share that run until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hw_sim.wire import Wire

_LOOK_S = 0.5
_SUMMARY_S = 10.0


def end_with_sigterm() -> None:
    """SIGTERM ends as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _end)


def say(words: str) -> None:
    """One line, at once: scripts wait for it."""
    print(words, flush=True)


def address(option: str, text: str) -> tuple[str, int]:
    """Host and port of an option.

    Raises:
        click.UsageError: it is none.
    """
    from hw_sim.site import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def run(wire: Wire, first: str, news: Callable[[], Iterator[str]], summary: Callable[[], str]) -> None:
    """Serve until somebody ends it: the first line, then news as they come and the summary when it changed."""
    end_with_sigterm()
    with contextlib.suppress(KeyboardInterrupt), wire:
        say(first)
        said, next_s = "", time.monotonic()
        while True:
            wire.check()
            for words in news():
                say(words)
            if time.monotonic() >= next_s:
                next_s += _SUMMARY_S
                if (words := summary()) != said:
                    said = words
                    say(words)
            time.sleep(_LOOK_S)


def _end(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt
