"""What the demo shows: a table that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from drivers.reading import Status, Value
from hw_sim.lookout import Lookout, Seen

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

# What happened last stays in sight under the table.
_LINES = 9
# Without a terminal: how often a line says where each gateway stands.
_SUMMARY_S = 4.0


class Screen(Protocol):
    """Where the story is told."""

    def say(self, words: str, mark: str = "-") -> None:
        """Something happened. Marks: ``-`` news, ``=`` a chapter, ``ok`` and ``NO`` a check."""
        ...

    def show(self, gateways: Sequence[Lookout], receipts: str) -> None:
        """Where everything stands."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class PlainScreen:
    """One line for everything that happens, and one for each gateway now and then."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def say(self, words: str, mark: str = "-") -> None:
        """Print it."""
        if mark == "=":
            print(f"\n== {words}", flush=True)
        else:
            print(f"{_clock()} {mark:<2} {words}", flush=True)

    def show(self, gateways: Sequence[Lookout], receipts: str) -> None:
        """Print a summary every few seconds."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _SUMMARY_S
        for gateway in gateways:
            points = ", ".join(f"{seen.sub} {_power(seen)}" for seen in gateway.points.values())
            print(
                f"{_clock()}    {gateway.gateway}: stored {gateway.stored}, receipted {gateway.committed}, "
                f"waiting {gateway.pending} | {points or 'no reading yet'}",
                flush=True,
            )

    def close(self) -> None:
        """Nothing to do."""


class LiveScreen:
    """A table that moves, and the last lines of the story under it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._lines: deque[tuple[str, str]] = deque(maxlen=_LINES)
        self._gateways: Sequence[Lookout] = ()
        self._receipts = ""
        self._console: Console = Console()
        self._live: Live = Live(console=self._console, refresh_per_second=4, transient=False)
        self._live.start()

    def say(self, words: str, mark: str = "-") -> None:
        """Add it to the lines under the table."""
        self._lines.append((mark, f"{_clock()}  {words}"))
        self._live.update(self._picture())

    def show(self, gateways: Sequence[Lookout], receipts: str) -> None:
        """Draw the table anew."""
        self._gateways, self._receipts = gateways, receipts
        self._live.update(self._picture())

    def close(self) -> None:
        """Leave the last picture on the terminal."""
        self._live.stop()

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title="AIGECO Edge: from the register to the receipt", expand=True)
        for column in ("gateway", "measuring point", "slot (UTC)", "power", "imported", "exported", "readings"):
            right = column in ("power", "imported", "exported", "readings")
            table.add_column(column, justify="right" if right else "left", no_wrap=True)
        for gateway in self._gateways:
            for number, seen in enumerate(gateway.points.values()):
                name = gateway.gateway if number == 0 else ""
                style = "" if seen.status is None else "red"
                row = (_slot(seen), _power(seen), _energy(seen.import_wh), _energy(seen.export_wh), str(seen.count))
                table.add_row(name, seen.sub, *row, style=style)
            table.add_section()
        delivery = [
            Text(
                f"{gateway.gateway:<12} stored {gateway.stored:>5}   receipted {gateway.committed:>5}   "
                f"waiting {gateway.pending:>4}",
                style="yellow" if gateway.pending > _MANY_WAITING else "green",
            )
            for gateway in self._gateways
        ]
        styles = {"=": "bold", "ok": "green", "NO": "bold red"}
        story = [Text(f"{mark:<2} {line}", style=styles.get(mark, "")) for mark, line in self._lines]
        return Group(table, *delivery, Text(self._receipts, style="dim"), Text(""), *story)


# A few slots' worth is always under way.
_MANY_WAITING = 40


def screen() -> Screen:
    """The screen that suits standard output."""
    return LiveScreen() if sys.stdout.isatty() else PlainScreen()


def _clock() -> str:
    return dt.datetime.now(dt.UTC).strftime("%H:%M:%S")


def _slot(seen: Seen) -> str:
    return dt.datetime.fromtimestamp(seen.slot_ms / 1000, dt.UTC).strftime("%H:%M:%S")


def _power(seen: Seen) -> str:
    if seen.status is not None:
        return Status(seen.status).name.lower().replace("_", " ")
    return "-" if seen.power_w is None else f"{float(seen.power_w.text()):,.0f} W"


def _energy(value: Value | None) -> str:
    return "-" if value is None else f"{float(value.text()) / 1000:,.3f} kWh"
