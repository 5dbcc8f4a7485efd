"""A TCP port: Modbus TCP, or RTU frames as behind a serial gateway; many clients.

Rules
- No bytes that a client can send do more than end its own connection.
- A client that does not read its answers is dropped: a meter does not wait for its clients.
- A port on which nothing lives closes its connections and refuses new ones.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from hw_sim import frames
from hw_sim.line import LineTiming
from hw_sim.port import Loop, Port, PortProblem
from hw_sim.station import Station

# More than any Modbus frame (260 bytes); a client that sends more in one go is read in several.
_READ_BYTES = 4096
# A real meter's server has few sockets; more waiting connections than this are a test's mistake.
_BACKLOG = 16


class TcpPort(Port):
    """A listening socket and its clients.

    Attributes:
        host: the address it is bound to.
        port: the port it got (also when 0 was asked for).
    """

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: int,
        stations: Sequence[Station],
        framing: frames.Framing,
        timing: LineTiming | None,
    ) -> None:
        super().__init__(loop, stations, framing, timing)
        self.host = host
        self._clients: set[_Client] = set()
        self._listener = listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self.name = f"{framing.name}:{host}:{self.port}"
        loop.watch(self._listener, self._accept)

    def close(self) -> None:
        self._loop.forget(self._listener)
        self._listener.close()
        for client in tuple(self._clients):
            self.drop(client)

    def drop(self, client: _Client) -> None:
        """End one client's connection."""
        if client in self._clients:
            self._clients.discard(client)
            self._loop.forget(client.socket)
            client.socket.close()

    def received(self, client: _Client) -> None:
        """Answer every whole request that a client has sent so far."""
        now_s = self._loop.monotonic()
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
        now_s = self._loop.monotonic()
        taken = bool(self._clients) and any(station.has("one_client", now_s) for station in self.stations)
        if taken or self.is_dead(now_s):
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(self, connection)
        self._clients.add(client)
        self._loop.watch(connection, client.readable)


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


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that never blocks.

    Raises:
        PortProblem: it cannot be bound.
    """
    place = f"tcp {host}:{port}"
    try:
        listener = socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        # The error number's own words: the library's repeat the address.
        words = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise PortProblem(place, words, "another port, or 127.0.0.1:0 for any free one") from None
    except OverflowError:
        raise PortProblem(place, "there is no such port", "a port from 0 to 65535") from None
    listener.setblocking(False)
    return listener
