"""The wires: Modbus TCP, RTU over TCP, and RTU on a pseudo-terminal that takes as long as its baud rate says.

One thread answers on all ports of a :class:`Wire`: it waits for bytes and for the next instant at which something is
due. Every instant is computed from the one before it, never from "now": a busy machine makes an answer late, but the
line never drifts.

Rules
- The only file of the simulator that starts a thread; devices, faults and households know neither sockets nor threads.
- On a serial line the request takes its time, then 3.5 characters of silence end it, then the unit thinks, then the
  answer takes its time. What is sent while an answer is on the line is lost, as on a pair of wires with two talkers.
- A serial client that opened the pty with another baud rate is not understood.
- A unit that is not there is silence on a serial line and exception 11 on TCP, as behind a gateway.
- No bytes that a client can send end the thread; a bug does, and :meth:`Wire.check` raises it.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import pty
import random
import select
import selectors
import socket
import termios
import threading
import time
import tty
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hw_sim import frames
from hw_sim.line import LineTiming
from hw_sim.station import Station

Send = Callable[[bytes], None]

# A 16550 UART hands its characters over in groups of 8 or 14 (receive trigger level), not one by one.
_CHARACTERS_AT_ONCE = 8
# More than any Modbus frame (260 bytes); a client that sends more in one go is read in several.
_READ_BYTES = 4096
# A real meter's server has few sockets; more waiting connections than this are a test's mistake.
_BACKLOG = 16


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
    """

    def __init__(
        self, wire: Wire, stations: Sequence[Station], framing: frames.Framing, timing: LineTiming | None
    ) -> None:
        self.name = ""
        self.counters: Counter[str] = Counter()
        self.stations = tuple(stations)
        self._wire = wire
        self._units = {station.unit: station for station in stations}
        self._framing = framing
        self._timing = timing
        self._free_s = 0.0
        self._random = random.Random(0)
        if len(self._units) < len(self.stations):
            raise ValueError(f"two stations with one unit id: {sorted(station.unit for station in stations)}")

    def handle(self, request: frames.Adu, ready_s: float, send: Send) -> None:
        """Answer a request that was complete at ``ready_s``."""
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
        if self._timing is None and reply.start_s <= ready_s:
            send(frame)
        else:
            self._wire.at(reply.start_s, lambda: self._transmit(frame, reply.start_s, send))

    def is_dead(self, now_s: float) -> bool:
        """Whether nothing behind this port lives."""
        return bool(self.stations) and all(station.is_dead(now_s) for station in self.stations)

    def close(self) -> None:
        """Give the port back."""

    def _transmit(self, frame: bytes, start_s: float, send: Send) -> None:
        if self._timing is None:
            send(frame)
            return
        start_s = max(start_s, self._free_s)
        self._free_s = start_s + len(frame) * self._timing.char_s
        for first in range(0, len(frame), _CHARACTERS_AT_ONCE):
            part = frame[first : first + _CHARACTERS_AT_ONCE]
            self._wire.at(start_s + (first + len(part)) * self._timing.char_s, _sender(send, part))


def _sender(send: Send, part: bytes) -> Callable[[], None]:
    return lambda: send(part)


class TcpPort(Port):
    """A listening socket and its clients.

    Attributes:
        host: the address it is bound to.
        port: the port it got (also when 0 was asked for).
    """

    def __init__(
        self,
        wire: Wire,
        host: str,
        port: int,
        stations: Sequence[Station],
        framing: frames.Framing,
        timing: LineTiming | None,
    ) -> None:
        super().__init__(wire, stations, framing, timing)
        self.host = host
        self._clients: set[_Client] = set()
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self.name = f"{framing.name}:{host}:{self.port}"
        wire.watch(self._listener, self._accept)

    def close(self) -> None:
        self._wire.forget(self._listener)
        self._listener.close()
        for client in tuple(self._clients):
            self.drop(client)

    def drop(self, client: _Client) -> None:
        """End one client's connection."""
        if client in self._clients:
            self._clients.discard(client)
            self._wire.forget(client.socket)
            client.socket.close()

    def received(self, client: _Client) -> None:
        """Answer every whole request that a client has sent so far."""
        now_s = self._wire.monotonic()
        if self.is_dead(now_s):
            self.drop(client)
            return
        try:
            while (request := self._framing.cut(client.buffer)) is not None:
                if self._framing is frames.RTU and request.unit == 0:
                    continue
                self.handle(request, self._arrived(request, now_s), client.send)
        except frames.OutOfStep:
            self.counters["noise"] += 1
            self.drop(client)

    def _arrived(self, request: frames.Adu, now_s: float) -> float:
        """When the request has reached the unit: at once, or after its time on the line behind a serial gateway."""
        if self._timing is None:
            return now_s
        length = len(request.pdu) + 3
        self._free_s = max(now_s, self._free_s) + length * self._timing.char_s
        return self._free_s + self._timing.silence_s

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the client has gone again
            return
        self.counters["connections"] += 1
        if self.is_dead(self._wire.monotonic()):
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(self, connection)
        self._clients.add(client)
        self._wire.watch(connection, client.readable)


class _Client:
    """One connection: its socket and the bytes that are not yet a request."""

    def __init__(self, port: TcpPort, connection: socket.socket) -> None:
        self.socket = connection
        self.buffer = bytearray()
        self._port = port

    def readable(self) -> None:
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._port.drop(self)
            return
        self.buffer += data
        self._port.received(self)

    def send(self, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except OSError:  # gone, or not reading: a meter does not wait for its clients
            sent = 0
        if sent < len(data):
            self._port.drop(self)


class SerialPort(Port):
    """One end of a pseudo-terminal: a line with stations on it.

    Attributes:
        path: what a client opens.
    """

    def __init__(self, wire: Wire, link: Path | None, stations: Sequence[Station], timing: LineTiming) -> None:
        super().__init__(wire, stations, frames.RTU, timing)
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
                _link(link, self._terminal)
            except BaseException:
                self._close_ends()
                raise
        self.path = str(link or self._terminal)
        self.name = self.path
        self._buffer = bytearray()
        self._heard_s = 0.0
        wire.watch(self._master, self._readable)

    def close(self) -> None:
        self._wire.forget(self._master)
        if self._link is not None and self._link.is_symlink() and os.readlink(self._link) == self._terminal:
            self._link.unlink()
        self._close_ends()

    def _close_ends(self) -> None:
        os.close(self._master)
        os.close(self._slave)

    def _readable(self) -> None:
        data = os.read(self._master, _READ_BYTES)
        now_s = self._wire.monotonic()
        if termios.tcgetattr(self._master)[5] != self._speed:
            self.counters["wrong baud"] += 1
            return
        if now_s < self._free_s:
            self.counters["collisions"] += 1
            return
        self._buffer += data
        self._heard_s = max(self._heard_s, now_s) + len(data) * self._pace.char_s
        quiet_s = self._heard_s + self._pace.silence_s
        self._wire.at(quiet_s, lambda: self._silence(quiet_s))

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
        # With nobody reading, the terminal's buffer fills up and the rest is lost, as on any line.
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)


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


def _listen(host: str, port: int) -> socket.socket:
    place = f"tcp {host}:{port}"
    try:
        listener = socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        raise PortProblem(
            place, error.strerror or str(error), "another port, or 127.0.0.1:0 for any free one"
        ) from None
    except OverflowError:
        raise PortProblem(place, "there is no such port", "a port from 0 to 65535") from None
    listener.setblocking(False)
    return listener


def _link(link: Path, terminal: str) -> None:
    """Make the symbolic link; one that a killed simulator left behind is replaced."""
    if link.is_symlink() and os.readlink(link).startswith("/dev/pts/"):
        link.unlink()
    try:
        link.symlink_to(terminal)
    except FileExistsError:
        raise PortProblem(str(link), "something is there already, and no line of a simulator", "another path") from None
    except OSError as error:
        raise PortProblem(str(link), error.strerror or str(error), "a folder that exists and is writable") from None
