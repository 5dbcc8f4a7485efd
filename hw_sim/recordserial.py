"""Between a client and a real serial line: hands every byte on and writes down what it was (:mod:`hw_sim.capture`).

The client opens a pseudo-terminal in place of the real port.

Rules
- Bytes are handed on at once, as they came; what cannot be understood is handed on all the same.
- From the first request on the file can be loaded at any instant. A request is a whole frame with a sound CRC; anything
  else from the client, and what is answered to it, is a comment. An answer is any bytes up to the next request.
- A terminal takes bytes in no time: a request's last byte is on the line after as long as the baud rate says.
- An adapter that goes is said once and opened again when it is back.
"""

from __future__ import annotations

import contextlib
import os
import pty
import tty
from pathlib import Path

from drivers.line import Disconnected, Line, SerialEndpoint
from hw_sim import frames
from hw_sim.capture import CaptureError
from hw_sim.line import LineTiming
from hw_sim.port import Loop, Port, PortProblem
from hw_sim.record import Transcript
from hw_sim.terminal import make_link, remove_link

_READ_BYTES = 4096
# Bytes of one request that are further apart than this do not belong together; a busy machine may hand them over late.
_TORN_S = 0.2
_REOPEN_S = 1.0


class SerialTranscript(Transcript):
    """Frames cut out of the bytes of a serial line, by their CRC and by who talks."""

    framing = frames.RTU

    def __init__(self, path: Path, start_s: float, char_s: float) -> None:
        """``char_s``: seconds a character takes. Raises CaptureError: the file is there, or cannot be made."""
        super().__init__(path, start_s)
        self._char_s = char_s
        self._last_byte_s = start_s

    def heard(self, direction: str, data: bytes, now_s: float) -> None:
        """Bytes of the client (``>``) or of the device (``<``), as they were handed over."""
        asking = direction == ">"
        self._rest("<" if asking else ">")
        travel_s = len(data) * self._char_s
        if asking and now_s - self._last_byte_s > _TORN_S:
            self._rest(">")
        buffer = self._buffers[direction]
        if not buffer:
            # The device's bytes have been on the line when they are handed over, the client's will be.
            self._since[direction] = now_s if asking else now_s - travel_s
        buffer += data
        self._last_byte_s = now_s + travel_s if asking else now_s
        if frames.rtu_frame(bytes(buffer)) is None:
            return
        if asking:
            self._lost = False
        frame = bytes(buffer)
        buffer.clear()
        self._frame(direction, frame, self._last_byte_s if asking else self._since[direction])


class SerialRecorder(Port):
    """A pseudo-terminal, and the real port behind it.

    Attributes:
        path: what the client opens.
        transcript: what is written.
        troubles: what there is to say about the real port, oldest first.
    """

    def __init__(self, loop: Loop, link: Path | None, device: SerialEndpoint, path: Path) -> None:
        """Raises PortProblem: one of the ports cannot be had; CaptureError: the file cannot be made."""
        super().__init__(loop, (), frames.RTU, None)
        self.troubles: list[str] = []
        self._link = link
        self._device = Line(device)
        self._watched = -1
        try:
            self._device.open(0)
        except Disconnected as error:
            advice = error.__notes__[0].removeprefix("try: ") if hasattr(error, "__notes__") else "another port"
            raise PortProblem(str(device), "cannot be opened" + _why(error), advice) from None
        # The other end stays open here too, so that the line outlives its clients.
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._terminal = os.ttyname(self._slave)
        self.path = self.name = str(link or self._terminal)
        try:
            if link is not None:
                make_link(link, self._terminal)
            pace = LineTiming(device.baud, device.parity, device.stopbits)
            self.transcript = SerialTranscript(path, loop.monotonic(), pace.char_s)
        except (PortProblem, CaptureError):
            self._give_back()
            raise
        loop.watch(self._master, self._from_client)
        self._watch_device()

    def close(self) -> None:
        self._loop.forget(self._master)
        self._forget_device()
        self._give_back()
        self.transcript.close()

    def _from_client(self) -> None:
        data = os.read(self._master, _READ_BYTES)
        now_s = self._loop.monotonic()
        if self._watched < 0:  # nobody is there to hear it
            return
        self.transcript.heard(">", data, now_s)
        try:
            self._device.send(data)
        except Disconnected as error:
            self._gone(error)

    def _from_device(self) -> None:
        try:
            data = self._device.receive()
        except Disconnected as error:
            self._gone(error)
            return
        if not data:
            return
        self.transcript.heard("<", data, self._loop.monotonic())
        # With nobody reading, the terminal's buffer fills up and the rest is lost, as on any line.
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)

    def _gone(self, error: Disconnected) -> None:
        self.troubles.append(f"{error}; opened again when it is back")
        self._forget_device()
        self.transcript.parted()
        self._loop.at(self._loop.monotonic() + _REOPEN_S, self._reopen)

    def _reopen(self) -> None:
        if self._master < 0:
            return
        try:
            self._device.open(0)
        except Disconnected:
            self._loop.at(self._loop.monotonic() + _REOPEN_S, self._reopen)
            return
        self.troubles.append(f"{self._device.endpoint}: back")
        self._watch_device()

    def _watch_device(self) -> None:
        self._watched = self._device.fd
        self._loop.watch(self._watched, self._from_device)

    def _forget_device(self) -> None:
        if self._watched >= 0:
            self._loop.forget(self._watched)
            self._watched = -1

    def _give_back(self) -> None:
        self._device.close()
        if self._link is not None:
            remove_link(self._link, self._terminal)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1


def _why(error: Disconnected) -> str:
    """The reason behind the words that name the port."""
    return str(error).partition("cannot be opened")[2]
