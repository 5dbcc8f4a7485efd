"""Between a client and a real device: hands every byte on and writes down what it was (:mod:`hw_sim.capture`).

Modbus TCP here; a serial line in :mod:`hw_sim.recordserial`. One client at a time, with a connection to the device of
its own; further ones wait.

Rules
- Bytes are handed on at once, as they came; what cannot be understood is handed on all the same.
- From the first request on the file can be loaded at any instant: every line is flushed, and what is no frame of an
  exchange is a comment.
- A file that is there already is never written over.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TextIO

from hw_sim import frames
from hw_sim.capture import CaptureError, frame_line
from hw_sim.port import Loop, Port
from hw_sim.tcp import listen

_READ_BYTES = 4096
_PATIENCE_S = 3.0
# The pieces of one answer follow each other faster; what is older when the next request comes was broken off.
_TORN_S = 0.2


class Transcript:
    """Frames cut out of two streams of bytes and written as lines.

    Attributes:
        requests, answers: how many lines there are of each.
    """

    framing = frames.TCP

    def __init__(self, path: Path, start_s: float) -> None:
        """Raises CaptureError: the file is there already, or cannot be made."""
        self.requests = self.answers = 0
        self._path = path
        self._start_s = self._last_s = start_s
        self._buffers = {">": bytearray(), "<": bytearray()}
        self._since = {">": start_s, "<": start_s}
        self._lost = False
        try:
            self._file: TextIO = path.open("x", buffering=1, encoding="utf-8")
        except FileExistsError:
            raise CaptureError(str(path), "is there already", "another name, or remove it first") from None
        except OSError as error:
            raise CaptureError(str(path), str(error.strerror), "a folder that exists and is writable") from None
        self._line(self.framing.name)

    def heard(self, direction: str, data: bytes, now_s: float) -> None:
        """Bytes of the client (``>``) or of the device (``<``)."""
        if direction == ">" and self._buffers["<"] and now_s - self._since["<"] > _TORN_S:
            self._rest("<")
        buffer = self._buffers[direction]
        if not buffer:
            self._since[direction] = now_s
        buffer += data
        while buffer:
            before = bytes(buffer)
            try:
                whole = not self._lost and frames.cut_mbap(buffer) is not None
            except frames.OutOfStep:
                self._rest(direction)
                return
            if not whole:
                if self._lost:
                    self._rest(direction)
                return
            at_s = now_s if direction == ">" else self._since[direction]
            self._frame(direction, before[: len(before) - len(buffer)], at_s)
            self._since[direction] = now_s

    def parted(self) -> None:
        """The connection ended; the next begins anew."""
        for direction in (">", "<"):
            self._rest(direction)
        self._lost = False

    def close(self) -> None:
        """Write the rest and close the file."""
        with contextlib.closing(self._file):
            self.parted()

    def _rest(self, direction: str) -> None:
        """Write what makes no frame. After a request that is none, nothing is known to belong to anything."""
        data = bytes(self._buffers[direction])
        self._buffers[direction].clear()
        self._lost |= direction == ">" and bool(data)
        if data:
            self._frame(direction, data, self._since[direction])

    def _frame(self, direction: str, data: bytes, at_s: float) -> None:
        self._last_s = max(self._last_s, at_s)
        line = frame_line(self._last_s - self._start_s, direction, data)
        if self._lost or (direction == "<" and not self.requests):
            self._line(f"# {line}")
            return
        if direction == ">":
            self.requests += 1
        else:
            self.answers += 1
        self._line(line)

    def _line(self, line: str) -> None:
        try:
            self._file.write(f"{line}\n")
        except OSError as error:
            raise CaptureError(str(self._path), str(error.strerror), "a disk with room for it") from None


class Recorder(Port):
    """A listening socket, its client, and the device behind.

    Attributes:
        port: the port it got (also when 0 was asked for).
        transcript: what is written.
        troubles: what there is to say about the device, oldest first.
    """

    def __init__(self, loop: Loop, address: tuple[str, int], device: tuple[str, int], path: Path) -> None:
        """Raises PortProblem: it cannot listen there; CaptureError: the file cannot be made."""
        super().__init__(loop, (), frames.TCP, None)
        self.troubles: list[str] = []
        self._device_address = device
        self._client: socket.socket | None = None
        self._device: socket.socket | None = None
        self._listener = listen(*address)
        self.port: int = self._listener.getsockname()[1]
        self.name = f"tcp:{address[0]}:{self.port}"
        try:
            self.transcript = Transcript(path, loop.monotonic())
        except CaptureError:
            self._listener.close()
            raise
        loop.watch(self._listener, self._accept)

    def close(self) -> None:
        self._part()
        self._loop.forget(self._listener)
        self._listener.close()
        self.transcript.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # the client has gone again
            return
        self.counters["connections"] += 1
        try:
            device = socket.create_connection(self._device_address, timeout=_PATIENCE_S)
        except OSError as error:
            host, port = self._device_address
            self.troubles.append(f"device {host}:{port}: {error.strerror or error}; the client was sent away")
            client.close()
            return
        for one in (client, device):
            one.settimeout(_PATIENCE_S)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client, self._device = client, device
        self._loop.forget(self._listener)
        self._loop.watch(client, lambda: self._hand_on(client, device, ">"))
        self._loop.watch(device, lambda: self._hand_on(device, client, "<"))

    def _hand_on(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        if source is not self._client and source is not self._device:  # it was parted from in this very turn
            return
        try:
            data = source.recv(_READ_BYTES)
            now_s = self._loop.monotonic()
            sink.sendall(data)
        except OSError:
            data = b""
        if data:
            self.transcript.heard(direction, data, now_s)
            return
        self._part()
        self._loop.watch(self._listener, self._accept)

    def _part(self) -> None:
        for one in (self._client, self._device):
            if one is not None:
                self._loop.forget(one)
                one.close()
        self._client = self._device = None
        self.transcript.parted()
