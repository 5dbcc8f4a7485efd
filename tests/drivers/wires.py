"""Modbus devices for tests, on real sockets and real ptys, that misbehave on demand.

Written from the Modbus specification (Application Protocol V1.1b3, Messaging on TCP/IP V1.0b, Serial Line V1.02) with
its own checksum and frames, so that a wrong frame of ours cannot agree with itself.

Rules
- A device answers its requests in order, one after the other, as a real one does; several devices share a line.
- What goes wrong is data: one :class:`Fault` for each request, chosen by the test.
- Registers hold a number made of function and address unless the test says otherwise, so that a value tells where it
  came from: :func:`word`.
"""

from __future__ import annotations

import heapq
import os
import pty
import selectors
import socket
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fault:
    """How one answer goes wrong; the default is a good answer.

    Attributes:
        delay_s: the device thinks this long before it answers.
        silent: it does not answer.
        unit, function, count, transaction: it answers with these instead (transaction: added to the right one).
        exception: it answers with this exception code.
        bad_crc: one bit of the checksum is wrong (RTU framing).
        cut: only so many bytes of the answer are sent.
        before, after: bytes around the answer.
        piece: the answer is sent in pieces of so many bytes, 1 ms apart.
        echo: the request is heard back before the answer, as from an adapter that hears itself.
        twice: the answer is sent twice.
        hang_up: the connection is closed instead of answering.
    """

    delay_s: float = 0.0
    silent: bool = False
    unit: int | None = None
    function: int | None = None
    count: int | None = None
    transaction: int = 0
    exception: int | None = None
    bad_crc: bool = False
    cut: int | None = None
    before: bytes = b""
    after: bytes = b""
    piece: int = 0
    echo: bool = False
    twice: bool = False
    hang_up: bool = False


GOOD = Fault()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as a device received it."""

    at: float
    function: int
    address: int
    count: int


def word(function: int, address: int) -> int:
    """The default content of a register: different for every register, telling which."""
    return (address * 4 + function) & 0xFFFF


def words(function: int, address: int, count: int) -> bytes:
    """The default content of a block, as it comes over the wire."""
    return b"".join(word(function, a).to_bytes(2, "big") for a in range(address, address + count))


@dataclass
class Device:
    """One unit.

    Attributes:
        word: content of a register; None = there is none (exception 2).
        fault: what goes wrong with a request; called with the request and its number, from 0.
        asked: all requests so far.
    """

    word: Callable[[int, int], int | None] = word
    fault: Callable[[Asked, int], Fault] = lambda asked, number: GOOD
    asked: list[Asked] = field(default_factory=list)
    busy_until: float = 0.0

    def answer(self, asked: Asked, fault: Fault) -> tuple[int, bytes]:
        """Function code and data of the answer."""
        function = asked.function if fault.function is None else fault.function
        if fault.exception is not None:
            return function | 0x80, bytes([fault.exception])
        content = [self.word(asked.function, a) for a in range(asked.address, asked.address + asked.count)]
        if None in content:
            return function | 0x80, b"\x02"
        if fault.count is not None:
            content = (content * (fault.count // max(1, len(content)) + 1))[: fault.count]
        data = b"".join(struct.pack(">H", w) for w in content)
        return function, bytes([len(data) & 0xFF]) + data


def crc(data: bytes) -> bytes:
    """The checksum of RTU, low byte first, bit by bit as Serial Line V1.02 section 6.2.2 describes it."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ 0xA001 if register & 1 else register >> 1
    return register.to_bytes(2, "little")


class Line:
    """Units that share one line or one address, served by one thread; use it as a context manager.

    Attributes:
        port: where it listens (TCP); the same after :meth:`stop` and :meth:`start`.
        path: the pty's name (serial).
        connections: how many clients have connected so far.
    """

    def __init__(self, units: dict[int, Device], kind: str) -> None:
        self.units = units
        self.kind = kind  # "tcp", "rtu" (over TCP) or "pty"
        self.port = 0
        self.path = ""
        self.connections = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._order = 0
        self._due: list[tuple[float, int, int, bytes | None]] = []

    def __enter__(self) -> Line:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Plugs it in."""
        self._stop.clear()
        self._due = []
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[int, bytes] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._listener: socket.socket | None = None
        if self.kind == "pty":
            self._master, self._slave = pty.openpty()
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self.path = os.ttyname(self._slave)
            self._watch(self._master)
        else:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Pulls the plug: connections close, the port is gone."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        for connection in self._sockets.values():
            connection.close()
        if self._listener:
            self._listener.close()
        if self.kind == "pty":
            os.close(self._master)
            os.close(self._slave)
        self._selector.close()

    def hang_up(self) -> None:
        """Closes every connection from this side and keeps listening."""
        self._due_at(0.0, -1, None)

    def _watch(self, fd: int) -> None:
        self._buffers[fd] = b""
        self._selector.register(fd, selectors.EVENT_READ)

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = 0.01 if not self._due else min(0.01, max(0.0, self._due[0][0] - time.monotonic()))
            for key, _ in self._selector.select(wait):
                if self._listener is not None and key.fileobj is self._listener:
                    self._accept()
                else:
                    self._receive(key.fd)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, fd, data = heapq.heappop(self._due)
                self._send(fd, data)

    def _accept(self) -> None:
        assert self._listener
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self.connections += 1
        self._sockets[connection.fileno()] = connection
        self._watch(connection.fileno())

    def _receive(self, fd: int) -> None:
        try:
            data = os.read(fd, 4096)
        except OSError:
            data = b""
        if not data:
            self._drop(fd)
            return
        self._buffers[fd] += data
        size = 12 if self.kind == "tcp" else 8
        while len(self._buffers[fd]) >= size:
            frame, self._buffers[fd] = self._buffers[fd][:size], self._buffers[fd][size:]
            self._request(fd, frame)

    def _request(self, fd: int, frame: bytes) -> None:
        transaction = 0
        body = frame[:6]
        if self.kind == "tcp":
            transaction, protocol, length = struct.unpack(">HHH", frame[:6])
            assert (protocol, length) == (0, 6), f"no Modbus TCP request: {frame.hex()}"
            body = frame[6:]
        else:
            assert frame[6:] == crc(body), f"a request with a wrong checksum: {frame.hex()}"
        unit, function, address, count = struct.unpack(">BBHH", body)
        device = self.units.get(unit)
        if device is None:
            return
        now = time.monotonic()
        asked = Asked(now, function, address, count)
        fault = device.fault(asked, len(device.asked))
        device.asked.append(asked)
        device.busy_until = max(now, device.busy_until) + fault.delay_s
        if fault.hang_up:
            self._due_at(device.busy_until, fd, None)
        elif not fault.silent:
            self._answer(fd, frame, transaction, unit, device, asked, fault)

    def _answer(
        self, fd: int, frame: bytes, transaction: int, unit: int, device: Device, asked: Asked, fault: Fault
    ) -> None:
        function, data = device.answer(asked, fault)
        pdu = bytes([unit if fault.unit is None else fault.unit, function]) + data
        if self.kind == "tcp":
            out = struct.pack(">HHH", (transaction + fault.transaction) & 0xFFFF, 0, len(pdu)) + pdu
        else:
            check = crc(pdu)
            out = pdu + (bytes([check[0] ^ 1, check[1]]) if fault.bad_crc else check)
        out = fault.before + out[: fault.cut] * (2 if fault.twice else 1) + fault.after
        if fault.echo:
            out = frame + out
        at = device.busy_until
        pieces = [out[i : i + fault.piece] for i in range(0, len(out), fault.piece)] if fault.piece else [out]
        for i, piece in enumerate(pieces):
            self._due_at(at + i / 1000, fd, piece)

    def _due_at(self, at: float, fd: int, data: bytes | None) -> None:
        self._order += 1
        heapq.heappush(self._due, (at, self._order, fd, data))

    def _send(self, fd: int, data: bytes | None) -> None:
        if fd == -1:
            for each in list(self._sockets):
                self._drop(each)
        elif data is None:
            self._drop(fd)
        elif fd in self._buffers:
            try:
                os.write(fd, data)
            except OSError:
                self._drop(fd)

    def _drop(self, fd: int) -> None:
        if fd in self._buffers:
            self._selector.unregister(fd)
            del self._buffers[fd]
        connection = self._sockets.pop(fd, None)
        if connection:
            connection.close()


@contextmanager
def line(kind: str, units: dict[int, Device] | Device | None = None) -> Iterator[Line]:
    """A running line; a single device is unit 1."""
    devices = units if isinstance(units, dict) else {1: units or Device()}
    with Line(devices, kind) as running:
        yield running
