"""A port of the simulator: one medium, the stations on it, and how an answer gets onto it.

Rules
- A port answers in the wire's thread and never waits: what is due later, the loop does later.
- On a medium with a pace, answers follow one another; each takes as long as its characters do.
- A unit that is not there is silence on a serial line and exception 11 on TCP, as behind a gateway.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from hw_sim import frames
from hw_sim.line import LineTiming
from hw_sim.replay import Player
from hw_sim.station import Station

Send = Callable[[bytes], None]

# A 16550 UART hands its characters over in groups of 8 or 14 (receive trigger level), not one by one.
_CHARACTERS_AT_ONCE = 8


class Loop(Protocol):
    """What a port needs of the thread that serves it."""

    monotonic: Callable[[], float]

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        """Do something at a monotonic instant."""

    def watch(self, source: socket.socket | int, action: Callable[[], None]) -> None:
        """Do something whenever there is something to read."""

    def forget(self, source: socket.socket | int) -> None:
        """Stop watching."""


class PortProblem(Exception):
    """A port cannot be opened; the move is with whoever chose it."""

    def __init__(self, place: str, words: str, advice: str) -> None:
        super().__init__(f"{place}: {words}")
        self.add_note(f"try: {advice}")


class Port:
    """One medium and the stations on it.

    Attributes:
        name: ``tcp:127.0.0.1:5020``, ``rtu:127.0.0.1:5021`` or the path of the pty.
        counters: ``noise``, ``collisions``, ``strangers`` (requests to units that are not there), ``wrong baud``,
            ``connections``.
        player: answers in place of the stations when there is one.
    """

    def __init__(
        self, loop: Loop, stations: Sequence[Station], framing: frames.Framing, timing: LineTiming | None
    ) -> None:
        self.name = ""
        self.counters: Counter[str] = Counter()
        self.stations = tuple(stations)
        self.player: Player | None = None
        self._loop = loop
        self._units = {station.unit: station for station in stations}
        self._framing = framing
        self._timing = timing
        self._free_s = 0.0
        self._random = random.Random(0)
        if len(self._units) < len(self.stations):
            raise ValueError(f"two stations with one unit id: {sorted(station.unit for station in stations)}")

    def handle(self, request: frames.Adu, ready_s: float, send: Send) -> None:
        """Answer a request that was complete at ``ready_s``."""
        if self.player is not None:
            # A capture counts from the last byte; on a line a frame is ready only after the silence behind it.
            last_byte_s = ready_s - (self._timing.silence_s if self._timing else 0.0)
            for start_s, frame in self.player.answers(request, last_byte_s):
                self._put(frame, start_s, ready_s, send)
            return
        station = self._units.get(request.unit)
        if station is None:
            self.counters["strangers"] += 1
            if self._framing is frames.TCP:
                refusal = frames.exception(request.pdu[0], frames.GATEWAY_NO_ANSWER)
                send(frames.mbap(request._replace(pdu=refusal)))
            return
        reply = station.answer(request, ready_s)
        if reply is None:
            return
        frame = self._framing.wrap(reply.adu)
        for fault in reply.spoilers:
            frame = fault.spoil(frame, self._framing.wrap(request), self._framing, self._random)
        self._put(frame, reply.start_s, ready_s, send)

    def is_dead(self, now_s: float) -> bool:
        """Whether nothing behind this port lives."""
        return bool(self.stations) and all(station.is_dead(now_s) for station in self.stations)

    def close(self) -> None:
        """Give the port back."""

    def _put(self, frame: bytes, start_s: float, ready_s: float, send: Send) -> None:
        """Send a frame at its instant."""
        if self._timing is None and start_s <= ready_s:
            send(frame)
        else:
            self._loop.at(start_s, lambda: self._transmit(frame, start_s, send))

    def _transmit(self, frame: bytes, start_s: float, send: Send) -> None:
        if self._timing is None:
            send(frame)
            return
        start_s = max(start_s, self._free_s)
        self._free_s = start_s + len(frame) * self._timing.char_s
        for first in range(0, len(frame), _CHARACTERS_AT_ONCE):
            part = frame[first : first + _CHARACTERS_AT_ONCE]
            self._loop.at(start_s + (first + len(part)) * self._timing.char_s, _sender(send, part))


def _sender(send: Send, part: bytes) -> Callable[[], None]:
    return lambda: send(part)
