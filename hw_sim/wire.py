"""The wires: all ports of a simulator, and the one thread that answers on them.

It waits for bytes and for the next instant at which something is due. Every instant is computed from the one before it,
never from "now": a busy machine makes an answer late, but the line never drifts.

Rules
- The only file of the simulator that starts a thread; devices, faults and households know neither sockets nor threads.
- No bytes that a client can send end the thread; a bug does, and :meth:`Wire.check` raises it.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hw_sim import frames
from hw_sim.line import LineTiming
from hw_sim.port import Port, PortProblem
from hw_sim.station import Station
from hw_sim.tcp import TcpPort
from hw_sim.terminal import SerialPort

__all__ = ["Port", "PortProblem", "SerialPort", "TcpPort", "Wire"]


class Wire:
    """All ports of a simulator and the thread that serves them. Add ports, then :meth:`start` or use it in ``with``."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self.ports: list[Port] = []
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._stopping = False
        self._bug: BaseException | None = None
        self._waker, self._wakened = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="hw_sim wire", daemon=True)
        self.watch(self._wakened, lambda: None)

    def tcp(
        self,
        host: str,
        port: int,
        stations: Sequence[Station],
        framing: frames.Framing = frames.TCP,
        timing: LineTiming | None = None,
    ) -> TcpPort:
        """Listen on a TCP port (0: any). With ``timing`` there is a serial line of that pace behind it.

        Raises:
            PortProblem: it cannot be bound.
        """
        made = TcpPort(self, host, port, stations, framing, timing)
        self.ports.append(made)
        return made

    def pty(self, link: Path | None, stations: Sequence[Station], timing: LineTiming) -> SerialPort:
        """Open a serial line; ``link`` becomes a symbolic link to the end that clients open, until :meth:`close`.

        Raises:
            PortProblem: the link cannot be made.
        """
        made = SerialPort(self, link, stations, timing)
        self.ports.append(made)
        return made

    def start(self) -> None:
        """Begin to serve; the faults' timelines begin too."""
        now_s = self.monotonic()
        for port in self.ports:
            for station in port.stations:
                station.begin(now_s)
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._bug is not None:
            raise self._bug

    def close(self) -> None:
        """Stop serving and give all ports back."""
        self._stopping = True
        self._waker.send(b"x")
        if self._thread.is_alive():
            self._thread.join()
        for port in self.ports:
            port.close()
        self.ports.clear()
        self._selector.close()
        self._waker.close()
        self._wakened.close()
        self.check()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- for ports, in the wire's thread

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        """Do something at an instant."""
        self._number += 1
        heapq.heappush(self._due, (when_s, self._number, action))

    def watch(self, source: socket.socket | int, action: Callable[[], None]) -> None:
        """Do something whenever there is something to read."""
        self._selector.register(source, selectors.EVENT_READ, action)

    def forget(self, source: socket.socket | int) -> None:
        """Stop watching."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(source)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except BaseException as bug:  # noqa: BLE001 - handed to whoever asks: check() and close() raise it
            self._bug = bug

    def _turn(self) -> None:
        due = self._due
        while due and due[0][0] <= self.monotonic():
            heapq.heappop(due)[2]()
        if due:
            # epoll counts in whole milliseconds; select does not, and the epoll object is itself something to wait for.
            pause_s = due[0][0] - self.monotonic()
            if pause_s > 0 and not select.select([self._selector], [], [], pause_s)[0]:
                return
        for key, _ in self._selector.select(0 if due else None):
            key.data()
