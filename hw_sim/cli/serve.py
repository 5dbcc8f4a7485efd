"""A site in the foreground: what it does as text, until Ctrl-C or SIGTERM.

Rules
- First every port with its devices, then ``ready``, each one line, flushed: what a script waits for.
- On a terminal a table that moves; elsewhere plain lines: a summary when something happened, and every fault that
  begins or ends.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hw_sim.running import Running, Shown
from hw_sim.site import Line, Site

if TYPE_CHECKING:
    from rich.console import RenderableType

# Often enough to look alive, seldom enough to cost nothing.
_LOOK_S = 0.5
_SUMMARY_S = 10.0


def serve(site: Site, plain: bool) -> None:
    """Run a site until somebody ends it.

    Raises:
        PortProblem: a port cannot be opened.
        DumpError: a dump cannot be used.
    """
    signal.signal(signal.SIGTERM, _end)
    running = Running(site)
    with running, contextlib.suppress(KeyboardInterrupt):
        for line in site.lines:
            _say(_line_words(line, running))
        _say(f"ready: {len(running.devices)} devices; Ctrl-C ends")
        if plain or not sys.stdout.isatty():
            _watch_plainly(site, running)
        else:
            _watch(running)


def _end(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _say(words: str) -> None:
    print(words, flush=True)


def _line_words(line: Line, running: Running) -> str:
    pace = f" {line.timing.baud} baud 8{line.timing.parity}{line.timing.stopbits}" if line.timing else ""
    kind = "RTU over TCP" if line.tcp and line.framing == "rtu" else "TCP" if line.tcp else "serial"
    devices = ", ".join(f"unit {device.unit} {device.name} ({device.map.name})" for device in line.devices)
    return f"{line.name}: {kind} {running.address(line.name)}{pace}: {devices}"


def _watch_plainly(site: Site, running: Running) -> None:
    started_s = time.monotonic()
    told: set[int] = set()
    said, next_s = "", started_s
    while True:
        running.check()
        now_s = time.monotonic()
        for number, fault in enumerate(site.faults):
            if fault.is_on(now_s - started_s) != (number in told):
                told ^= {number}
                _say(f"fault {fault.kind} on {fault.meter} {'begins' if number in told else 'ends'}")
        if now_s >= next_s:
            next_s += _SUMMARY_S
            words = _summary(running)
            if words != said:
                said = words
                _say(f"{_time_words(running)} {words}")
        time.sleep(_LOOK_S)


def _time_words(running: Running) -> str:
    now_ms = running.clock.at(time.monotonic())
    return dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _summary(running: Running) -> str:
    total = {"requests": 0, "answers": 0, "exceptions": 0, "unanswered": 0}
    for shown in running.devices:
        for word in total:
            total[word] += shown.station.counters[word]
    return ", ".join(f"{number} {word}" for word, number in total.items())


def _watch(running: Running) -> None:
    from rich.live import Live

    with Live(_table(running), refresh_per_second=1 / _LOOK_S) as live:
        while True:
            running.check()
            time.sleep(_LOOK_S)
            live.update(_table(running))


def _table(running: Running) -> RenderableType:
    from rich.table import Table

    table = Table(title=_time_words(running), title_justify="left")
    for heading in ("device", "model", "port", "unit"):
        table.add_column(heading, overflow="fold")
    for heading in ("P W", "import kWh", "export kWh", "asked", "answered", "last s"):
        table.add_column(heading, justify="right")
    table.add_column("faults")
    for shown in running.devices:
        table.add_row(*_row(shown))
    return table


def _row(shown: Shown) -> Iterator[str]:
    counters, last_s = shown.station.counters, shown.station.last_s
    yield from (shown.device.name, shown.device.map.name, shown.port.name, str(shown.device.unit))
    power, taken, given = (
        shown.value(name) for name in ("active_power", "active_energy_import", "active_energy_export")
    )
    yield "" if power is None else f"{power:.0f}"
    yield "" if taken is None else f"{taken / 1000:.2f}"
    yield "" if given is None else f"{given / 1000:.2f}"
    yield str(counters["requests"])
    yield str(counters["answers"] + counters["exceptions"])
    yield "" if last_s is None else f"{time.monotonic() - last_s:.0f}"
    struck = {word: number for word, number in counters.items() if word.startswith("fault ")}
    yield ", ".join(f"{word.removeprefix('fault ')} {number}" for word, number in struck.items())
