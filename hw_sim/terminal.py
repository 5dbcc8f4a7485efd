"""A serial port: one end of a pseudo-terminal, with real timing and the manners of a pair of wires.

Rules
- A request takes its time, then 3.5 characters of silence end it, then the unit thinks, then the answer takes its time.
- What is sent while an answer is on the line is lost, as on a pair of wires with two talkers.
- A client that opened the terminal with another baud rate is not understood.
- The link to the other end is made new, or replaces one that a killed simulator left behind, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pty
import termios
import tty
from collections.abc import Sequence
from pathlib import Path

from hw_sim import frames
from hw_sim.line import LineTiming
from hw_sim.port import Loop, Port, PortProblem
from hw_sim.station import Station

# More than any Modbus frame (256 bytes).
_READ_BYTES = 4096


class SerialPort(Port):
    """One end of a pseudo-terminal: a line with stations on it.

    Attributes:
        path: what a client opens.
    """

    def __init__(self, loop: Loop, link: Path | None, stations: Sequence[Station], timing: LineTiming) -> None:
        super().__init__(loop, stations, frames.RTU, timing)
        self._pace = timing
        self._speed = getattr(termios, f"B{timing.baud}", None)
        if self._speed is None:
            raise PortProblem(str(link or "pty"), f"no terminal has {timing.baud} baud", "9600, 19200, 38400 or 115200")
        # The other end stays open here too, so that the line outlives its clients.
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._terminal = os.ttyname(self._slave)
        self._link = link
        if link is not None:
            try:
                make_link(link, self._terminal)
            except BaseException:
                self._close_ends()
                raise
        self.path = str(link or self._terminal)
        self.name = self.path
        self._buffer = bytearray()
        self._heard_s = 0.0
        loop.watch(self._master, self._readable)

    def close(self) -> None:
        self._loop.forget(self._master)
        if self._link is not None:
            remove_link(self._link, self._terminal)
        self._close_ends()

    def _close_ends(self) -> None:
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def _readable(self) -> None:
        data = os.read(self._master, _READ_BYTES)
        now_s = self._loop.monotonic()
        if termios.tcgetattr(self._master)[5] != self._speed:
            self.counters["wrong baud"] += 1
            return
        if now_s < self._free_s:
            self.counters["collisions"] += 1
            return
        self._buffer += data
        self._heard_s = max(self._heard_s, now_s) + len(data) * self._pace.char_s
        quiet_s = self._heard_s + self._pace.silence_s
        self._loop.at(quiet_s, lambda: self._silence(quiet_s))

    def _silence(self, quiet_s: float) -> None:
        """3.5 characters without a character: what was heard is a frame, unless more came in the meantime."""
        if quiet_s < self._heard_s + self._pace.silence_s:
            return
        request = frames.rtu_frame(bytes(self._buffer))
        self._buffer.clear()
        if request is None:
            self.counters["noise"] += 1
        elif request.unit != 0:
            self.handle(request, quiet_s, self._send)

    def _send(self, data: bytes) -> None:
        if self._master < 0:  # it was pulled out while the answer was on its way
            return
        # With nobody reading, the terminal's buffer fills up and the rest is lost, as on any line.
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)


def make_link(link: Path, terminal: str) -> None:
    """Make the symbolic link to a terminal; one that a killed simulator left behind is replaced.

    Raises:
        PortProblem: it cannot be made.
    """
    if link.is_symlink() and os.readlink(link).startswith("/dev/pts/"):
        link.unlink()
    try:
        link.symlink_to(terminal)
    except FileExistsError:
        raise PortProblem(str(link), "something is there already, and no line of a simulator", "another path") from None
    except OSError as error:
        raise PortProblem(str(link), error.strerror or str(error), "a folder that exists and is writable") from None


def remove_link(link: Path, terminal: str) -> None:
    """Remove the link, if it is still the one to this terminal."""
    if link.is_symlink() and os.readlink(link) == terminal:
        link.unlink()
