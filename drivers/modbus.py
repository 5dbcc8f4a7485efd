"""Asks one line for registers and gives exactly those words or a typed error. Never asks twice, never writes registers.

Over Modbus TCP, RTU on a serial line, and RTU inside TCP. The frames and the checksum are twenty lines of our own
(docs/adr/0006 says why no library makes them); pymodbus' are what the tests compare them with.

Rules
- An answer counts only if unit, function code and byte count are those of the request, and in TCP framing the
  transaction, in RTU framing the checksum. Anything else is no answer.
- In RTU framing what lies in the receive buffer is discarded before a request, and a serial line gets 3.5 characters of
  silence. RTU has no transaction number: a late answer of the same unit and length cannot be told from the right one
  here; `drivers.bus` sees to it that none can be under way. Nor can another master's answer, but its request gives it
  away when that was heard too.
- A silent device never closes the line; an error of the line does, and so does a TCP stream that lost its framing.
- All time is the monotonic clock's. Not for use by two threads at once.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import NoReturn

from drivers.line import Disconnected, Endpoint, Line, ModbusError, SerialEndpoint, TcpEndpoint
from drivers.plan import Request

__all__ = [
    "EXCEPTIONS",
    "BadChecksum",
    "Disconnected",
    "Endpoint",
    "ExceptionAnswer",
    "ModbusError",
    "SerialEndpoint",
    "TcpEndpoint",
    "Timeout",
    "Wire",
    "WrongAnswer",
]

# The longest frame there is: 260 bytes in TCP framing, 256 in RTU (Modbus Application Protocol V1.1b3, section 4.1).
LONGEST_FRAME = 260
# Above 19200 baud the silence between frames is fixed (Modbus over Serial Line V1.02, section 2.5.1.1).
SHORTEST_SILENCE_S = 0.00175
# How often a full receive buffer is emptied before a request: a line that never stops talking must not hold us.
DISCARDS = 16

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge, still working on it",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway: the device behind it did not answer",
}
"""Exception codes (Modbus Application Protocol V1.1b3, section 7)."""

_FUNCTIONS = (3, 4)  # read holding registers, read input registers
_MOST_REGISTERS = 125  # of one request (Modbus Application Protocol V1.1b3, sections 6.3 and 6.4)


class Timeout(ModbusError):
    """The device said nothing in time: it is off, at another address, or slow. Waiting may help."""


class WrongAnswer(ModbusError):
    """Something came that is not the answer: another unit, function, length or transaction, or no frame at all."""


class BadChecksum(WrongAnswer):
    """Something arrived damaged: noise, missing termination, two devices talking at once."""


class ExceptionAnswer(ModbusError):
    """The device answered that it will not. Asking the same again will not help, except for codes 5 and 6.

    Attributes:
        code: the exception code (:data:`EXCEPTIONS`).
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request and what its answer must look like.

    Attributes:
        unit, request: what is asked of whom.
        frame: the request on the wire; in TCP framing without the two bytes of the transaction.
        head: the answer's bytes before the words; in TCP framing without the two bytes of the transaction.
        size: length of the whole answer.
    """

    unit: int
    request: Request
    frame: bytes
    head: bytes
    size: int

    def __str__(self) -> str:
        request = self.request
        return f"unit {self.unit}, function {request.function}, {request.count} registers from {request.address}"


class Wire:
    """A line that speaks Modbus, closed at first.

    Attributes:
        endpoint: where it leads.
        rtu: whether frames are RTU's (no transaction number, a checksum).
        strays: answers passed over because they belonged to another request, since the beginning.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.rtu = isinstance(endpoint, SerialEndpoint) or endpoint.framing == "rtu"
        self.strays = 0
        self._line = Line(endpoint)
        self._exchanges: dict[tuple[int, Request], _Exchange] = {}
        self._rest = b""  # TCP framing: what came after the last whole frame
        self._transaction = 0
        self._silence_s = 0.0
        self._heard = 0.0  # when the last byte came, for the silence between frames
        if isinstance(endpoint, SerialEndpoint):
            self._silence_s = max(SHORTEST_SILENCE_S, 3.5 * endpoint.bits_per_char / endpoint.baud)

    @property
    def is_open(self) -> bool:
        """Whether requests can be made. A broken line is found broken by the next request or :meth:`ready`."""
        return self._line.fd >= 0

    def open(self, wait_s: float = 3.0) -> bool:
        """Opens the line; does nothing when it is open.

        Args:
            wait_s: how long to wait for the other side of a TCP connection. The attempt goes on in the background:
                with a short wait and repeated calls a dead host never blocks the caller.

        Returns:
            False when the other side has not answered yet.

        Raises:
            Disconnected: the port or the network says no.
        """
        if not self.is_open:
            self._rest = b""
            self._heard = time.monotonic()
        return self._line.open(wait_s)

    def close(self) -> None:
        """Closes the line; it may be opened again."""
        self._line.close()

    def cut(self) -> bool:
        """From another thread: ends what hangs on the line; see :meth:`drivers.line.Line.cut`."""
        return self._line.cut()

    def read(self, unit: int, request: Request, timeout_s: float) -> bytes:
        """The words of one request, big-endian as on the wire, exactly ``2 * request.count`` bytes.

        Args:
            unit: the device's address: 1..247, in TCP framing 0..255.
            request: the registers.
            timeout_s: from sending the request to the answer's last byte; on a serial line their travel is part of it.

        Raises:
            Timeout, WrongAnswer, ExceptionAnswer: the device's doing; the line stays open (a TCP stream that lost its
                framing is closed).
            Disconnected: the line is closed or has just broken.
            ValueError: there is no such request.
        """
        exchange = self._exchanges.get((unit, request)) or self._prepare(unit, request)
        if self._line.fd < 0:
            raise Disconnected(f"{self.endpoint}: not open")
        if self.rtu:
            self._hush()
            self._line.send(exchange.frame)
            return self._answer_rtu(exchange, time.monotonic() + timeout_s)
        self._transaction = self._transaction % 0xFFFF + 1
        number = self._transaction.to_bytes(2, "big")
        self._line.send(number + exchange.frame)
        return self._answer_tcp(exchange, number, time.monotonic() + timeout_s)

    def ready(self) -> bool:
        """Whether the line is open still; takes what came unasked. Costs one system call when nothing did."""
        try:
            self._discard()
        except Disconnected:
            return False
        return self.is_open

    def is_quiet(self, for_s: float) -> bool:
        """Whether nothing comes for so long; what does is left where it is."""
        return not self._line.wait(for_s)

    def drain(self, quiet_s: float) -> None:
        """Discards what comes until nothing came for `quiet_s`, at most four times as long: a line may never be quiet.

        Raises:
            Disconnected: the line broke meanwhile.
        """
        give_up = time.monotonic() + 4 * quiet_s
        while self.is_open and time.monotonic() < give_up and self._line.wait(quiet_s):
            self._discard()

    def _answer_tcp(self, exchange: _Exchange, number: bytes, deadline: float) -> bytes:
        line = self._line
        buffer, self._rest = self._rest, b""
        head = number + exchange.head
        strays = self.strays
        while True:
            if len(buffer) == exchange.size and buffer.startswith(head):
                return buffer[9:]
            while frame := self._whole_frame(buffer):
                buffer = buffer[len(frame) :]
                if frame.startswith(number):
                    self._expect_frames(exchange, buffer)
                    return self._checked(exchange, frame[6], frame[7], frame[8:])
                self.strays += 1
            if not line.wait(deadline - time.monotonic()):
                self._rest = buffer
                late = self.strays - strays
                words = f", but {late} to other requests" if late else ""
                words += f", only {len(buffer)} bytes of one" if buffer else ""
                raise Timeout(f"{self.endpoint}: no answer{words} ({exchange})")
            buffer += line.receive()

    def _expect_frames(self, exchange: _Exchange, rest: bytes) -> None:
        """Refuses an answer that something else than whole frames follows.

        An answer that was cut short is filled up by the beginning of what comes next; then the rest of that is left.
        """
        while frame := self._whole_frame(rest):
            rest = rest[len(frame) :]
            self.strays += 1
        if rest:
            self.close()  # nobody knows where the next frame begins
            raise WrongAnswer(f"{self.endpoint}: no frame follows the answer: {rest[:16].hex(' ')} ({exchange})")

    def _whole_frame(self, buffer: bytes) -> bytes:
        """The first frame of a TCP stream, empty when more must come."""
        if len(buffer) < 6:
            return b""
        protocol, length = struct.unpack_from(">HH", buffer, 2)
        if protocol != 0 or not 3 <= length <= LONGEST_FRAME - 6:
            self.close()  # nobody knows where the next frame begins
            raise WrongAnswer(f"{self.endpoint}: no Modbus TCP: {buffer[:16].hex(' ')}")
        return buffer[: 6 + length] if len(buffer) >= 6 + length else b""

    def _answer_rtu(self, exchange: _Exchange, deadline: float) -> bytes:
        line = self._line
        refusal = bytes([exchange.unit, exchange.request.function | 0x80])
        buffer = b""
        while len(buffer) < 4 * LONGEST_FRAME and line.wait(deadline - time.monotonic()):
            buffer += line.receive()
            self._heard = time.monotonic()
            # What comes first may be noise, our own echo, or another unit's answer that was late: neither harms, since
            # only a frame with this unit, function, length and checksum is taken; of several the last, since a unit
            # answers in order.
            for head, size in ((exchange.head, exchange.size), (refusal, 5)):
                at = buffer.rfind(head)
                while at >= 0:
                    frame = buffer[at : at + size]
                    if len(frame) == size and _intact(frame):
                        if at:
                            self.strays += 1
                            self._alone(exchange, buffer[:at])
                        return self._checked(exchange, frame[0], frame[1], frame[2:-2])
                    at = buffer.rfind(head, 0, at + len(head) - 1)
        return self._explain(exchange, buffer)

    def _alone(self, exchange: _Exchange, before: bytes) -> None:
        """Refuses an answer before which another master's request was heard: it may be the answer to that one."""
        for at in range(len(before) - 7):
            request = before[at : at + 8]
            if request[1] in _FUNCTIONS and request != exchange.frame and _intact(request):
                raise WrongAnswer(f"{self.endpoint}: another master asks unit {request[0]} on this line ({exchange})")

    def _checked(self, exchange: _Exchange, unit: int, function: int, data: bytes) -> bytes:
        """The words of an answer whose frame is sound."""
        expected = exchange.request.function
        if unit != exchange.unit:
            raise WrongAnswer(f"{self.endpoint}: unit {unit} answered ({exchange})")
        if function == expected | 0x80 and len(data) == 1:
            meaning = EXCEPTIONS.get(data[0], "a code the standard does not know")
            raise ExceptionAnswer(f"{self.endpoint}: refused with code {data[0]}, {meaning} ({exchange})", data[0])
        if function != expected:
            raise WrongAnswer(f"{self.endpoint}: an answer of function {function} ({exchange})")
        if not data or data[0] != len(data) - 1 or data[0] != 2 * exchange.request.count:
            raise WrongAnswer(f"{self.endpoint}: an answer of {len(data) - 1} bytes of registers ({exchange})")
        return data[1:]

    def _explain(self, exchange: _Exchange, buffer: bytes) -> NoReturn:
        """Says what came instead of an answer in RTU framing."""
        echo = buffer.startswith(exchange.frame)
        if echo:
            buffer = buffer[len(exchange.frame) :]
        if not buffer:
            words = ", only the echo of the request" if echo else ""
            raise Timeout(f"{self.endpoint}: no answer{words} ({exchange})")
        size = 0 if len(buffer) < 3 else 5 if buffer[1] & 0x80 else 5 + buffer[2]
        if 5 <= size <= len(buffer) and _intact(buffer[:size]):
            self._checked(exchange, buffer[0], buffer[1], buffer[2 : size - 2])
        if buffer.startswith(exchange.head) and len(buffer) >= exchange.size:
            raise BadChecksum(f"{self.endpoint}: an answer with a wrong checksum ({exchange})")
        if buffer[:2] == exchange.head[:2]:
            raise WrongAnswer(f"{self.endpoint}: {len(buffer)} of {exchange.size} bytes of an answer ({exchange})")
        raise BadChecksum(f"{self.endpoint}: no answer but {buffer[:16].hex(' ')} ({exchange})")

    def _prepare(self, unit: int, request: Request) -> _Exchange:
        if not (1 <= unit <= 247 if self.rtu else 0 <= unit <= 255):
            raise ValueError(f"there is no unit {unit} on {self.endpoint}")
        last = request.address + request.count - 1
        if request.function not in _FUNCTIONS or not 0 <= request.address <= last <= 0xFFFF:
            raise ValueError(f"no registers can be read by {request}")
        if request.count > _MOST_REGISTERS:
            raise ValueError(f"{request.count} registers in one request, at most {_MOST_REGISTERS} are allowed")
        asked = struct.pack(">BBHH", unit, request.function, request.address, request.count)
        head = bytes([unit, request.function, 2 * request.count])
        if self.rtu:
            exchange = _Exchange(unit, request, asked + checksum(asked), head, len(head) + 2 * request.count + 2)
        else:  # protocol 0, and how many bytes follow
            head = struct.pack(">HH", 0, len(head) + 2 * request.count) + head
            frame = struct.pack(">HH", 0, len(asked)) + asked
            exchange = _Exchange(unit, request, frame, head, 2 + len(head) + 2 * request.count)
        self._exchanges[unit, request] = exchange
        return exchange

    def _hush(self) -> None:
        """RTU framing: nothing old in the buffer, and silence before a frame."""
        self._discard()
        if self._silence_s:
            wait_s = self._heard + self._silence_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)

    def _discard(self) -> None:
        """Takes what came unasked. In TCP framing it must stay whole: the rest of a frame may be under way."""
        line = self._line
        for _ in range(DISCARDS):
            if line.fd < 0 or not line.wait(0):
                return
            data = line.receive()
            if self.rtu:
                self._heard = time.monotonic()
                continue
            self._rest += data
            try:
                while frame := self._whole_frame(self._rest):
                    self._rest = self._rest[len(frame) :]
                    self.strays += 1
            except WrongAnswer as wrong:
                raise Disconnected(str(wrong)) from None


def checksum(data: bytes) -> bytes:
    """What ends a frame in RTU framing: CRC-16 (Modbus over Serial Line V1.02, section 6.2.2), low byte first."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CHECKSUMS[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")


def _of_one_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


_CHECKSUMS = tuple(_of_one_byte(byte) for byte in range(256))


def _intact(frame: bytes) -> bool:
    """Whether the last two bytes are the checksum of the others."""
    return checksum(frame[:-2]) == frame[-2:]
