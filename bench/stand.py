"""A simulated site in a process of its own, whose serial lines can be pulled out and plugged in again.

``python -m bench.stand SITE [--pull LINE:FROM:UNTIL] [--swap LINE:LINE:FROM:UNTIL]`` prints a line of JSON when it
answers (the monotonic instants at which its clock and its timelines began), ends when its standard
input does, and prints what it saw as another line: what each device was asked and how it failed, what each port saw,
how often each terminal was opened, and the shortest rest that a device got between an answer and the next request.

Rules
- Between pulling and plugging in there is neither port nor link; what comes back is another terminal under the old
  link, as an adapter that the kernel numbers anew.
- Two lines that were swapped come back under each other's link.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hw_sim import frames
from hw_sim.running import Running
from hw_sim.sitefile import load
from hw_sim.wire import Port, SerialPort

_REQUEST_CHARACTERS = 8
_IN_OPEN = 0x20  # inotify(7)
_EVENT = struct.Struct("iIII")


@dataclass(frozen=True, slots=True)
class Stand:
    """A running site.

    Attributes:
        clock_s: monotonic instant at which its clock began.
        start_s: monotonic instant at which the timelines of its faults began.
        pid: the process.
        finish: ends it and gives what it saw.
    """

    clock_s: float
    start_s: float
    pid: int
    finish: Callable[[], dict[str, Any]]


@contextmanager
def running(site: Path, moves: Sequence[str] = ()) -> Iterator[Stand]:
    """A site in another process until the block ends. ``moves``: the command's options."""
    command = [sys.executable, "-m", "bench.stand", str(site), *moves]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        source, sink = process.stdout, process.stdin

        def finish() -> dict[str, Any]:
            sink.close()
            seen: dict[str, Any] = json.loads(source.readline())
            return seen

        try:
            said = source.readline()
            if not said:
                raise RuntimeError(f"the simulated site did not start: exit status {process.wait(10)}")
            began = json.loads(said)
            yield Stand(began["clock_s"], began["start_s"], process.pid, finish)
        finally:
            with suppress(OSError):
                sink.close()


class Openings:
    """How often terminals are opened, which no terminal tells: the kernel does (inotify)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK)
        self._lines: dict[int, str] = {}
        self._opened: Counter[str] = Counter()

    def watch(self, line: str, path: str) -> None:
        """Count from now on."""
        number = self._libc.inotify_add_watch(self._fd, os.path.realpath(path).encode(), _IN_OPEN)
        if number < 0:
            raise OSError(ctypes.get_errno(), f"{path} cannot be watched")
        self._lines[number] = line

    def look(self) -> Counter[str]:
        """So far, by line."""
        with suppress(BlockingIOError):
            while data := os.read(self._fd, 4096):
                at = 0
                while at < len(data):
                    number, mask, _, length = _EVENT.unpack_from(data, at)
                    at += _EVENT.size + length
                    if mask & _IN_OPEN and number in self._lines:
                        self._opened[self._lines[number]] += 1
        return self._opened


class Witness:
    """Sees every request and answer of a site."""

    def __init__(self) -> None:
        self.openings = Openings()
        self.rest_ms: dict[str, float] = {}
        self._quiet_s: dict[str, float] = {}

    def attend(self, line: str, port: Port) -> None:
        """Look at what passes through a port from now on."""
        if isinstance(port, SerialPort):
            self.openings.watch(line, port.path)
        names = {station.unit: station.name for station in port.stations}
        timing = port._timing
        handle = port.handle

        def attended(request: frames.Adu, ready_s: float, send: Callable[[bytes], None]) -> None:
            name = names.get(request.unit, "")
            began_s = ready_s
            if timing is not None:
                began_s -= timing.silence_s + _REQUEST_CHARACTERS * timing.char_s
            if name in self._quiet_s:
                rest_ms = 1000 * (began_s - self._quiet_s[name])
                self.rest_ms[name] = min(self.rest_ms.get(name, rest_ms), rest_ms)

            def sending(data: bytes) -> None:
                self._quiet_s[name] = time.monotonic()
                send(data)

            handle(request, ready_s, sending)

        setattr(port, "handle", attended)  # noqa: B010  it is another function, not another method


def _move(site: Running, witness: Witness, lines: Sequence[str], from_s: float, until_s: float) -> None:
    """Pull lines out and plug them in later, each under the link of the one before it in ``lines``."""
    wire = site._wire
    ports = [site.ports[line] for line in lines]
    links = [port._link for port in ports if isinstance(port, SerialPort)]
    assert len(links) == len(lines), f"{lines} are not serial lines"

    def pull() -> None:
        for port in ports:
            wire.ports.remove(port)
            port.close()

    def plug() -> None:
        for line, port, link in zip(lines, ports, [*links[1:], links[0]], strict=True):
            assert port._timing is not None
            new = wire.pty(link, port.stations, port._timing)
            site.ports[line] = new
            witness.attend(line, new)

    wire.at(from_s, pull)
    wire.at(until_s, plug)


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--pull", "pulls", multiple=True, metavar="LINE:FROM:UNTIL")
@click.option("--swap", "swaps", multiple=True, metavar="LINE:LINE:FROM:UNTIL")
def main(path: Path, pulls: tuple[str, ...], swaps: tuple[str, ...]) -> None:
    site = Running(load(path))
    witness = Witness()
    for line, port in site.ports.items():
        witness.attend(line, port)
    start_s = time.monotonic()
    for words in (*pulls, *swaps):
        *lines, from_s, until_s = words.split(":")
        _move(site, witness, lines, start_s + float(from_s), start_s + float(until_s))
    with site:
        click.echo(json.dumps({"clock_s": site.clock.start_s, "start_s": start_s}))
        sys.stdin.read()
        seen = {
            "devices": {shown.device.name: dict(shown.station.counters) for shown in site.devices},
            "ports": {line: dict(port.counters) for line, port in site.ports.items()},
            "opened": dict(witness.openings.look()),
            "rest_ms": witness.rest_ms,
        }
        click.echo(json.dumps(seen))


if __name__ == "__main__":
    main()
