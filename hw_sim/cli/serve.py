"""A site in the foreground: what it does as text, until Ctrl-C or SIGTERM.

Rules
- First every port with its devices, then ``ready``, each one line, flushed: what a script waits for.
- On a terminal a table that moves; elsewhere plain lines: a summary when something happened, and every fault that
  begins or ends. With ``--json`` the same as JSON.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import textwrap
import time
from collections.abc import Callable

from hw_sim.cli import events, table
from hw_sim.cli.foreground import end_with_sigterm, say
from hw_sim.faults import Fault
from hw_sim.running import Running
from hw_sim.site import Line, Site

# Often enough to look alive, seldom enough to cost nothing.
_LOOK_S = 0.5
_SUMMARY_S = 10.0
# Where a terminal's width is not asked for: every terminal has that many.
_COLUMNS = 80


def serve(site: Site, plain: bool, as_json: bool = False) -> None:
    """Run a site until somebody ends it.

    Args:
        site: what runs.
        plain: no moving table, also on a terminal.
        as_json: one JSON object a line instead of words.

    Raises:
        PortProblem: a port cannot be opened.
        DumpError: a dump cannot be used.
    """
    end_with_sigterm()
    running = Running(site)
    moving = not plain and not as_json and sys.stdout.isatty()
    with running, contextlib.suppress(KeyboardInterrupt):
        for line in site.lines:
            words = events.port(line, running) if as_json else _line_words(line, running)
            say(textwrap.fill(words, _COLUMNS, subsequent_indent="  ", break_on_hyphens=False) if moving else words)
        say(events.ready(running) if as_json else f"ready: {len(running.devices)} devices; Ctrl-C ends")
        if moving:
            _watch(running)
        elif as_json:
            _watch_lines(
                site, running, lambda: events.status(running, running.clock.at(time.monotonic())), events.fault
            )
        else:
            _watch_lines(site, running, lambda: f"{_time_words(running)} {_summary(running)}", _fault_words)


def _line_words(line: Line, running: Running) -> str:
    pace = f" {line.timing.baud} baud 8{line.timing.parity}{line.timing.stopbits}" if line.timing else ""
    kind = "RTU over TCP" if line.tcp and line.framing == "rtu" else "TCP" if line.tcp else "serial"
    devices = ", ".join(f"unit {device.unit} {device.name} ({device.map.name})" for device in line.devices)
    return f"{line.name}: {kind} {running.address(line.name)}{pace}: {devices}"


def _watch_lines(
    site: Site, running: Running, status: Callable[[], str], of_fault: Callable[[Fault, bool], str]
) -> None:
    """A line when something was asked since the last one, and for each fault that begins or ends."""
    started_s = time.monotonic()
    told: set[int] = set()
    said, next_s = "", started_s
    while True:
        running.check()
        now_s = time.monotonic()
        for number, fault in enumerate(site.faults):
            if fault.is_on(now_s - started_s) != (number in told):
                told ^= {number}
                say(of_fault(fault, number in told))
        if now_s >= next_s:
            next_s += _SUMMARY_S
            words = _summary(running)
            if words != said:
                said = words
                say(status())
        time.sleep(_LOOK_S)


def _fault_words(fault: Fault, begins: bool) -> str:
    return f"fault {fault.kind} on {fault.meter} {'begins' if begins else 'ends'}"


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

    with Live(auto_refresh=False) as live:
        while True:
            running.check()
            width, height = live.console.size
            picture = table.table(_time_words(running), running.devices, width, height, time.monotonic())
            live.update(picture, refresh=True)
            time.sleep(_LOOK_S)
