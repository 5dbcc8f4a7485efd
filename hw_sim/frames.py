"""Modbus frames as bytes: cutting requests out of a stream, wrapping answers.

Sources: Modbus Application Protocol V1.1b3, Modbus over Serial Line V1.02, Modbus Messaging on TCP/IP V1.0b.

Pure: no sockets, no clock. It never judges whether a request is sensible, only where it begins and ends.

Rules
- A broken frame on a serial line is nothing: no answer, no exception (Serial Line 2.4.1).
- A TCP stream whose header makes no sense cannot be put in step again: :class:`OutOfStep`, and the connection ends.
- RTU over TCP has no silence to cut by, so the length follows from the function code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
GATEWAY_NO_ANSWER = 11
"""What a gateway says when nobody behind it answers (Application Protocol, section 7)."""

# Application Protocol 4.1: a PDU has at most 253 bytes; MBAP's length counts the unit too.
_MBAP_LENGTHS = range(3, 255)
# Requests of fixed size as RTU frames: unit, function, data, CRC.
_RTU_LENGTHS = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 7: 4, 8: 8, 11: 4, 12: 4, 17: 4, 22: 10, 24: 6}
# Requests that carry a byte count: position of the count, bytes besides what it counts.
_RTU_COUNTED = {15: (6, 9), 16: (6, 9), 23: (10, 13)}


class OutOfStep(Exception):
    """The bytes of a TCP stream are no Modbus; the sender's move."""


class Adu(NamedTuple):
    """One request: whom, what, and the transaction number (0 on RTU)."""

    unit: int
    pdu: bytes
    transaction: int = 0


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> bytes:
    """The two CRC bytes of a frame, in the order of the wire (Serial Line 6.2.2)."""
    crc = 0xFFFF
    table = _CRC
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc.to_bytes(2, "little")


def rtu(adu: Adu) -> bytes:
    """An RTU frame."""
    body = bytes((adu.unit,)) + adu.pdu
    return body + crc16(body)


def mbap(adu: Adu) -> bytes:
    """A Modbus TCP frame."""
    return b"%b\0\0%b%b" % (
        adu.transaction.to_bytes(2, "big"),
        (len(adu.pdu) + 1).to_bytes(2, "big"),
        bytes((adu.unit,)) + adu.pdu,
    )


def rtu_frame(data: bytes) -> Adu | None:
    """The request in a frame that silence has cut out; None when it is too short or its CRC is wrong."""
    if len(data) < 4 or crc16(data[:-2]) != data[-2:]:
        return None
    return Adu(data[0], data[1:-2])


def cut_mbap(buffer: bytearray) -> Adu | None:
    """Take the first whole Modbus TCP request out of the buffer; None when there is none yet.

    Raises:
        OutOfStep: the header is not Modbus.
    """
    if len(buffer) < 7:
        return None
    length = buffer[4] << 8 | buffer[5]
    if buffer[2] or buffer[3] or length not in _MBAP_LENGTHS:
        raise OutOfStep(f"no Modbus TCP header: {bytes(buffer[:7]).hex(' ')}")
    end = 6 + length
    if len(buffer) < end:
        return None
    adu = Adu(buffer[6], bytes(buffer[7:end]), buffer[0] << 8 | buffer[1])
    del buffer[:end]
    return adu


def cut_rtu(buffer: bytearray) -> Adu | None:
    """Take the first whole RTU request out of a stream; None when there is none yet. What is broken is thrown away."""
    if len(buffer) < 4:
        return None
    function = buffer[1]
    length = _RTU_LENGTHS.get(function, len(buffer))
    if function in _RTU_COUNTED:
        position, fixed = _RTU_COUNTED[function]
        if len(buffer) <= position:
            return None
        length = fixed + buffer[position]
    if len(buffer) < length:
        return None
    adu = rtu_frame(bytes(buffer[:length]))
    if adu is None:
        buffer.clear()
    else:
        del buffer[:length]
    return adu


def exception(function: int, code: int) -> bytes:
    """The PDU that refuses a request."""
    return bytes((function | 0x80, code))


class Framing(NamedTuple):
    """How requests and answers are wrapped on one kind of wire."""

    name: str
    cut: Callable[[bytearray], Adu | None]
    wrap: Callable[[Adu], bytes]


TCP = Framing("tcp", cut_mbap, mbap)
RTU = Framing("rtu", cut_rtu, rtu)
