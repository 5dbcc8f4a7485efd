"""The line that carries bytes to Modbus devices: a serial port or a TCP connection. Knows nothing of frames.

Never repeats or hides an error, never waits on the wall clock.

Rules
- Both kinds are a file descriptor that is polled, read and written here; pyserial only opens and sets up the port.
- An error of the line closes it. Silence never does.
- Another thread may cut the line under whoever hangs on it: what blocks then ends as if the other side had closed it.
- A TCP connection is begun once and asked for again: a dead host never blocks the caller for longer than it wants.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import termios
import threading
import time
from dataclasses import dataclass
from typing import NoReturn

import serial

# A connection attempt this old begins anew: the kernel's own repeats are 1, 3, 7, 15 s apart and would find a device
# that came back only long afterwards.
CONNECT_ATTEMPT_S = 5.0
# Unacknowledged data ends a connection after this; the kernel's own patience is a quarter of an hour.
ACKNOWLEDGE_MS = 5000
# More than any Modbus frame (260 bytes), so that one is read in one go.
READ_BYTES = 512


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A device or gateway on the network.

    Attributes:
        host: name or address.
        port: TCP port, usually 502.
        framing: ``tcp`` (Modbus TCP) or ``rtu`` (serial frames inside TCP).
    """

    host: str
    port: int = 502
    framing: str = "tcp"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" + (" (RTU over TCP)" if self.framing == "rtu" else "")


@dataclass(frozen=True, slots=True)
class SerialEndpoint:
    """A serial line.

    Attributes:
        path: the port, best a stable name under ``/dev/serial/by-id``.
        baud: bits per second.
        parity: ``N``, ``E`` or ``O``.
        stopbits: 1 or 2.
    """

    path: str
    baud: int = 9600
    parity: str = "N"
    stopbits: int = 1

    @property
    def bits_per_char(self) -> int:
        """Start bit, eight data bits, parity, stop bits."""
        return 9 + (self.parity != "N") + self.stopbits

    def __str__(self) -> str:
        return self.path


Endpoint = TcpEndpoint | SerialEndpoint


class ModbusError(Exception):
    """A request has no answer. Which subclass says whose move it is."""


class Disconnected(ModbusError):
    """The line itself is gone or cannot be had: port, cable, network. It must be opened again."""


class Line:
    """A line, closed at first.

    Attributes:
        endpoint: where it leads.
        fd: its file descriptor, -1 when closed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.fd = -1
        self._port: serial.Serial | socket.socket | None = None
        self._connecting: socket.socket | None = None
        self._connecting_until = 0.0
        self._attempts = 0
        self._poll = select.poll()
        self._whole = threading.Lock()  # held while `fd` becomes another one

    def open(self, wait_s: float) -> bool:
        """Opens it; see :meth:`drivers.modbus.Wire.open`."""
        if self.fd >= 0:
            return True
        if isinstance(self.endpoint, SerialEndpoint):
            self._adopt(self._open_serial(self.endpoint))
            return True
        if self._connecting is None or time.monotonic() > self._connecting_until:
            self._connecting = self._begin(self.endpoint)
            self._connecting_until = time.monotonic() + CONNECT_ATTEMPT_S
        poll = select.poll()
        poll.register(self._connecting, select.POLLOUT)
        if not poll.poll(wait_s * 1000):
            return False
        connection, self._connecting = self._connecting, None
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            connection.close()
            raise self._unopened(OSError(code, os.strerror(code)))
        self._adopt(connection)
        return True

    def close(self) -> None:
        """Closes it; it may be opened again."""
        with self._whole:
            ports = (self._port, self._connecting)
            self._port = self._connecting = None
            self.fd = -1
        for port in ports:
            if port is not None:
                port.close()

    def cut(self) -> bool:
        """Ends what another thread does on the line, with an error there; False when it is not open.

        The descriptor is not closed: its number could be somebody else's before that thread looks again. It is made
        that of a dead end, which reads as closed and cannot be written. A call that blocks sees it after a signal.
        """
        with self._whole:
            if self.fd < 0:
                return False
            with contextlib.suppress(termios.error):  # a port that cannot send would hold up whoever closes it
                termios.tcflush(self.fd, termios.TCIOFLUSH)
            here, there = socket.socketpair()
            there.close()
            os.dup2(here.fileno(), self.fd, inheritable=False)
            here.close()
            return True

    def wait(self, wait_s: float) -> bool:
        """Whether there is something to receive within that time, an error included."""
        return bool(self._poll.poll(wait_s * 1000 if wait_s > 0 else 0))

    def receive(self) -> bytes:
        """What has arrived; call it when :meth:`wait` says so.

        Raises:
            Disconnected: the line broke and is closed now.
        """
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as problem:
            self._broken(problem)
        if not data:
            self._broken(OSError(errno.ECONNRESET, "closed by the other side"))
        return data

    def send(self, data: bytes) -> None:
        """Sends a frame.

        Raises:
            Disconnected: the line broke, or takes no more bytes, and is closed now.
        """
        try:
            sent = os.write(self.fd, data)
        except OSError as problem:
            self._broken(problem)
        if sent != len(data):
            self._broken(OSError(errno.EAGAIN, "it takes no more bytes"))

    def _broken(self, problem: OSError) -> NoReturn:
        self.close()
        raise Disconnected(f"{self.endpoint}: {problem.strerror or problem}") from problem

    def _adopt(self, port: serial.Serial | socket.socket) -> None:
        with self._whole:
            self._port = port
            self.fd = port.fileno()
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def _begin(self, endpoint: TcpEndpoint) -> socket.socket:
        """Starts a connection attempt; a name with several addresses is tried address by address."""
        if self._connecting is not None:
            self._connecting.close()
            self._connecting = None
        try:
            found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[self._attempts % len(found)]
            self._attempts += 1
            connection = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as problem:  # UnicodeError: a label of the name is too long
            raise self._unopened(problem) from problem
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ACKNOWLEDGE_MS)
        code = connection.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            connection.close()
            raise self._unopened(OSError(code, os.strerror(code)))
        return connection

    def _open_serial(self, endpoint: SerialEndpoint) -> serial.Serial:
        try:
            return serial.Serial(
                endpoint.path,
                baudrate=endpoint.baud,
                parity=endpoint.parity,
                stopbits=endpoint.stopbits,
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
        except (OSError, ValueError, termios.error) as problem:
            raise self._unopened(problem) from problem

    def _unopened(self, problem: Exception) -> Disconnected:
        """Why it could not be opened, with advice."""
        code = getattr(problem, "errno", None)
        words = os.strerror(code) if isinstance(code, int) and code > 0 else str(problem)
        error = Disconnected(f"{self.endpoint}: cannot be opened: {words}")
        if code in _ADVICE:
            error.add_note(f"try: {_ADVICE[code]}")
        return error


_ADVICE = {
    errno.ENOENT: "look what `ls /dev/serial/by-id` names, and whether the adapter is plugged in",
    errno.EACCES: "let this user use serial ports: usermod -aG dialout USER",
    errno.EAGAIN: "another program has this port open; stop it",
    errno.EBUSY: "another program has this port open; stop it",
    errno.ECONNREFUSED: "switch Modbus TCP on in the device; check the port; some devices allow one connection only",
    errno.EHOSTUNREACH: "check the address, and that the device is on and in this network",
    errno.ENETUNREACH: "check this machine's own network",
}
