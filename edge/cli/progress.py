"""How far long work is, for a person who waits; silent where nobody looks."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Often enough to be seen moving, too seldom to cost anything.
_EVERY_S = 0.2


def percent(words: str) -> Callable[[int, int], None]:
    """A function that is told (done, to do), and shows it in one line that the next output writes over."""
    if not sys.stderr.isatty():
        return lambda done, to_do: None
    due_s = time.monotonic() + _EVERY_S  # short work shows nothing

    def show(done: int, to_do: int) -> None:
        nonlocal due_s
        if done >= to_do:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() >= due_s:
            due_s = time.monotonic() + _EVERY_S
            print(f"\r{words}: {done * 100 // to_do} %", end="", file=sys.stderr, flush=True)

    return show


@contextmanager
def doing(words: str) -> Iterator[None]:
    """Says what is being done, until it is done."""
    if not sys.stderr.isatty():
        yield
        return
    print(words[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
