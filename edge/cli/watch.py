"""``aigeco watch``: the running gateway on a screen, for as long as somebody looks.

Rules
- The agent does nothing for it: its status file and its store are read, as by ``aigeco status``.
- A gateway that ends, starts again or says nothing is shown as that; only the person ends the watching.
- Without a terminal what is new is a line; with --json every picture is one object, on one line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import where

if TYPE_CHECKING:
    from edge.cli.watchview import View, Watcher

_EVERY_S = 2.0
"""As often as the agent writes what is news; its counters come every 10 s."""


@click.command("watch", short_help="Show the running gateway on a screen, live.")
@where.option
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=_EVERY_S,
    show_default=True,
    metavar="SECONDS",
    help="Time between two pictures.",
)
@click.option("--count", "most", type=click.IntRange(1), metavar="N", help="End after N pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a picture.")
def command(config_path: Path | None, every: float, most: int | None, as_json: bool) -> None:
    """Show meters, lines, the chain, receipts and alarms of the running gateway until q or Ctrl-C.

    Never disturbs the gateway, and goes on when it is started again. Without a terminal, what is new is a line.
    """
    from edge.cli.watchview import Watcher

    watcher = Watcher(where.find(config_path))
    if not as_json and sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
        _on_screen(watcher, every, most)
        return
    before: View | None = None
    for number in count(1):
        view = watcher.look(time.time_ns() // 1_000_000)
        _print(before, view, as_json)
        if number == most:
            return
        before = view
        time.sleep(every)


def _print(before: View | None, view: View, as_json: bool) -> None:
    from edge.cli.watchscreen import news

    lines = [json.dumps(asdict(view))] if as_json else list(news(before, view))
    if lines:
        print("\n".join(lines), flush=True)


def _on_screen(watcher: Watcher, every: float, most: int | None) -> None:
    from edge.cli.fullscreen import Screen
    from edge.cli.watchscreen import height, picture

    first, number, tell = 0, 0, False
    coloured = "NO_COLOR" not in os.environ
    view = watcher.look(time.time_ns() // 1_000_000)  # what is wrong with the configuration is said before
    with Screen() as screen:
        while True:
            due_s, number = time.monotonic() + every, number + 1
            while True:
                columns, rows = screen.size
                page = height(view, columns, rows)
                first = max(0, min(first, len(view.meters) - page))
                screen.draw(picture(view, columns, rows, first, coloured, screen.keys, tell))
                left_s = due_s - time.monotonic()
                if left_s <= 0:
                    break
                key = screen.wait(left_s)
                if key == "quit":
                    return
                tell ^= key == "help"
                first += {"page down": page, "page up": -page, "down": 1, "up": -1}.get(key, 0)
            if number == most:
                return
            view = watcher.look(time.time_ns() // 1_000_000)
