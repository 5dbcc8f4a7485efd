"""What the simulator's tests share: a device with known words, and clients that speak bytes."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
import time
import tty
from collections.abc import Iterator

from hw_sim import frames
from hw_sim.station import Refused

UNIT = 1


class Ramp:
    """Register n holds n; 0..999 exist."""

    def read(self, function: int, address: int, count: int, at_s: float) -> bytes:
        if address + count > 1000:
            raise Refused(frames.ILLEGAL_ADDRESS)
        return words(address, count)


class Stopwatch:
    """Every register holds the milliseconds of the instant it was read, modulo 65536."""

    def read(self, function: int, address: int, count: int, at_s: float) -> bytes:
        return (int(at_s * 1000) & 0xFFFF).to_bytes(2, "big") * count


def words(address: int, count: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in range(address, address + count))


def read_pdu(address: int, count: int, function: int = 4) -> bytes:
    return bytes((function,)) + address.to_bytes(2, "big") + count.to_bytes(2, "big")


def answer_pdu(data: bytes, function: int = 4) -> bytes:
    return bytes((function, len(data))) + data


class TcpLine:
    """A client on a socket that sends and receives bytes as they are."""

    def __init__(self, port: int, patience_s: float = 2.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience_s)
        self._transaction = 0

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, size: int, patience_s: float | None = None) -> bytes:
        """Up to ``size`` bytes; fewer when nothing more comes in time or the connection ended."""
        if patience_s is not None:
            self.socket.settimeout(patience_s)
        data = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while len(data) < size and (part := self.socket.recv(size - len(data))):
                data += part
        return data

    def ask(self, unit: int, pdu: bytes) -> bytes:
        """The PDU of a Modbus TCP answer."""
        self._transaction += 1
        self.send(frames.mbap(frames.Adu(unit, pdu, self._transaction)))
        header = self.receive(7)
        assert header[:4] == self._transaction.to_bytes(2, "big") + b"\0\0"
        assert header[6] == unit
        return self.receive(int.from_bytes(header[4:6], "big") - 1)

    def close(self) -> None:
        self.socket.close()


class PtyLine:
    """A client on a terminal, opened as a serial program opens it."""

    def __init__(self, path: str, baud: int = 9600) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._file)
        settings = termios.tcgetattr(self._file)
        settings[4] = settings[5] = getattr(termios, f"B{baud}")
        termios.tcsetattr(self._file, termios.TCSANOW, settings)

    def send(self, data: bytes) -> None:
        os.write(self._file, data)

    def receive(self, size: int, patience_s: float = 2.0) -> bytes:
        data = b""
        until = time.monotonic() + patience_s
        while len(data) < size and select.select([self._file], [], [], max(0.0, until - time.monotonic()))[0]:
            data += os.read(self._file, size - len(data))
        return data

    def ask(self, unit: int, pdu: bytes) -> bytes:
        """The PDU of an RTU answer whose CRC is right."""
        self.send(frames.rtu(frames.Adu(unit, pdu)))
        head = self.receive(3)
        rest = self.receive(2 if head[1] & 0x80 else head[2] + 2)
        answer = frames.rtu_frame(head + rest)
        assert answer is not None
        assert answer.unit == unit
        return answer.pdu

    def close(self) -> None:
        os.close(self._file)


@contextlib.contextmanager
def opened(line: TcpLine | PtyLine) -> Iterator[TcpLine | PtyLine]:
    try:
        yield line
    finally:
        line.close()
