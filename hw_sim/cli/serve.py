"""A site in the foreground: what it does as text, until Ctrl-C or SIGTERM.

Rules
- First every port with its devices, then ``ready``, each one line, flushed: what a script waits for.
- On a terminal a table that moves; elsewhere plain lines: a summary when something happened, and every fault that
  begins or ends.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hw_sim.cli.foreground import end_with_sigterm, say
from hw_sim.running import Running, Shown
from hw_sim.site import Line, Site

if TYPE_CHECKING:
    from rich.console import RenderableType

# Often enough to look alive, seldom enough to cost nothing.
_LOOK_S = 0.5
_SUMMARY_S = 10.0
# Below this the models and ports, which the first lines have named, make room for the figures.
_WIDE_COLUMNS = 120


def serve(site: Site, plain: bool) -> None:
    """Run a site until somebody ends it.

    Raises:
        PortProblem: a port cannot be opened.
        DumpError: a dump cannot be used.
    """
    end_with_sigterm()
    running = Running(site)
    with running, contextlib.suppress(KeyboardInterrupt):
        for line in site.lines:
            say(_line_words(line, running))
        say(f"ready: {len(running.devices)} devices; Ctrl-C ends")
        if plain or not sys.stdout.isatty():
            _watch_plainly(site, running)
        else:
            _watch(running)


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
                say(f"fault {fault.kind} on {fault.meter} {'begins' if number in told else 'ends'}")
        if now_s >= next_s:
            next_s += _SUMMARY_S
            words = _summary(running)
            if words != said:
                said = words
                say(f"{_time_words(running)} {words}")
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

    with Live(refresh_per_second=1 / _LOOK_S) as live:
        while True:
            running.check()
            live.update(_table(running, live.console.width))
            time.sleep(_LOOK_S)


def _table(running: Running, columns: int) -> RenderableType:
    from rich import box
    from rich.table import Table

    wide = columns >= _WIDE_COLUMNS
    table = Table(title=_time_words(running), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("device", no_wrap=True)
    if wide:
        table.add_column("model", overflow="fold")
        table.add_column("port", overflow="fold")
    for heading in ("unit", "W", "kWh in", "kWh out", "asked", "said", "s ago"):
        table.add_column(heading, justify="right")
    table.add_column("faults", overflow="fold")
    for shown in running.devices:
        table.add_row(*_row(shown, wide))
    return table


def _row(shown: Shown, wide: bool) -> Iterator[str]:
    counters, last_s = shown.station.counters, shown.station.last_s
    yield shown.device.name
    if wide:
        yield from (shown.device.map.name, shown.port.name)
    yield str(shown.device.unit)
    power = shown.value("active_power")
    yield "" if power is None else f"{power:.0f}"
    for name in ("active_energy_import", "active_energy_export"):
        energy = shown.value(name)
        yield "" if energy is None else f"{energy / 1000:.2f}"
    yield str(counters["requests"])
    yield str(counters["answers"] + counters["exceptions"])
    yield "" if last_s is None else f"{time.monotonic() - last_s:.0f}"
    struck = {word: number for word, number in tuple(counters.items()) if word.startswith("fault ")}
    yield ", ".join(f"{word.removeprefix('fault ')} {number}" for word, number in struck.items())
