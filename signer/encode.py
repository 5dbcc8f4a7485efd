"""The bytes of a statement, from what it says: the way into the chain, written for speed.

Knows no key and no chain; :mod:`signer.chain` signs what comes out of here.

Rules
- What parsing would refuse is not encoded.
- What repeats per measuring point, quantity and request is encoded once and kept.
- Written out where it runs for every measurement: after each signature the processor's caches are cold, and every step
  that is saved counts twice.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from drivers.reading import EXPONENT_RANGE, Reading, Value
from signer import cbor, cose, grammar, statement
from signer.errors import Malformed
from signer.statement import Instant

_COMMON_COUNT = len(statement.COMMON_FIELDS)


@lru_cache(maxsize=1024)
def prefixes(gateway: str, sub: str, key_id: bytes) -> tuple[bytes, bytes]:
    """What stands before the payload, in the Sig_structure and in the message; the same for one measuring point.

    Raises:
        Malformed: a name that may not be used.
    """
    grammar.check_name(gateway, grammar.GATEWAY, "statement, gateway")
    grammar.check_name(sub, grammar.SUB, "statement, sub")
    header = {1: cose.ES256, 3: statement.CONTENT_FORMAT_CBOR, 4: key_id, 15: {1: gateway, 2: sub}, 16: statement.TYPE}
    protected = cbor.encode(header)
    return cose.signed_prefix(protected), cose.message_prefix(protected)


def body(fields: Mapping[int, Any]) -> bytes:
    """The fields from 10 up of any kind, one after the other, without the map's head."""
    return b"".join(cbor.encode(field) + cbor.encode(fields[field]) for field in sorted(fields))


def reading(said: Reading) -> tuple[bytes, int]:
    """The fields from 10 up of a reading, and how many they are. Written out: it runs for every measurement.

    Raises:
        Malformed: something that parsing would refuse.
    """
    head = cbor.head
    encoded, count = b"", 1
    if said.status is not None:
        encoded, count = b"\x0a" + head(0, said.status), 2
    if said.values:
        encoded += _encode_values(said.values)
        count += 1
    if said.window_ms is not None:
        encoded += b"\x0c" + head(0, said.window_ms)
        count += 1
    if said.blocks:
        if len(said.blocks) > grammar.MAX_BLOCKS:
            raise Malformed("statement, field 15", f"{len(said.blocks)} blocks, at most {grammar.MAX_BLOCKS}")
        encoded += b"\x0f" + head(4, len(said.blocks))
        for block in said.blocks:
            encoded += _block_head(block.function, block.address, len(block.words)) + block.words
        count += 1
    return encoded + b"\x10" + head(0, said.slot_ms), count


def payload(
    kind: int, stream: bytes, seq: int, prev: bytes, boot: int, instant: Instant, salt: bytes, body: tuple[bytes, int]
) -> bytes:
    """The payload of a statement whose body (encoded fields from 10 up, and how many) is ``body``."""
    head = cbor.head
    return (
        _front(kind, _COMMON_COUNT + body[1], stream)
        + head(0, seq)
        + b"\x04\x58\x20"
        + prev
        + _boot(boot)
        + head(0, instant.utc_ms)
        + b"\x07"
        + head(0, instant.boot_ms)
        + _clock(instant.clock, instant.error_ms)
        + salt
        + body[0]
    )


# What one run repeats, encoded once.


@lru_cache(maxsize=64)
def _front(kind: int, fields: int, stream: bytes) -> bytes:
    return b"".join((cbor.head(5, fields), b"\x01", cbor.head(0, kind), b"\x02\x50", stream, b"\x03"))


@lru_cache(maxsize=8)
def _boot(boot: int) -> bytes:
    return b"\x05" + cbor.head(0, boot) + b"\x06"


@lru_cache(maxsize=1024)
def _clock(status: int, error_ms: int) -> bytes:
    if not 0 <= status <= statement.LAST_CLOCK_STATUS:
        raise Malformed("statement, field 8", f"clock status {status} is outside 0..{statement.LAST_CLOCK_STATUS}")
    return b"\x08\x82" + cbor.head(0, status) + cbor.head(0, error_ms) + b"\x09\x50"


_u16, _u32 = struct.Struct(">BH").pack, struct.Struct(">BI").pack  # initial byte and argument
_MAX_EXPONENT = EXPONENT_RANGE[-1]
_EXPONENT = {exponent: cbor.encode(exponent) for exponent in EXPONENT_RANGE}


class _KeyHeads(dict[int, bytes]):
    """OBIS key -> its bytes and those of the array behind it; as many as there are codes in use."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._array = cbor.head(4, length)

    def __missing__(self, key: int) -> bytes:
        grammar.check_obis_key(key, "statement, field 11")
        self[key] = cbor.head(0, key) + self._array
        return self[key]


_GOOD, _FLAGGED = _KeyHeads(2), _KeyHeads(3)


def _encode_values(values: tuple[tuple[int, Value], ...]) -> bytes:
    if len(values) > grammar.MAX_VALUES:
        raise Malformed("statement, field 11", f"{len(values)} quantities, at most {grammar.MAX_VALUES}")
    encoded = b"\x0b" + cbor.head(5, len(values))
    previous = -1
    for key, value in values:
        mantissa, exponent = value.mantissa, value.exponent
        if key <= previous or exponent not in _EXPONENT:
            raise Malformed(f"statement, field 11, {key}", f"{value}: out of order, or exponent outside -9..9")
        if not mantissa % 10 and (exponent != _MAX_EXPONENT if mantissa else exponent):
            raise Malformed(f"statement, field 11, {key}", f"{value} is not in its normal form")
        previous = key
        if 0xFFFF < mantissa <= 0xFFFFFFFF:  # what counters hold
            number = _u32(0x1A, mantissa)
        elif 0xFF < mantissa <= 0xFFFF:
            number = _u16(0x19, mantissa)
        else:
            number = cbor.integer(mantissa)
        if value.quality:
            encoded += _FLAGGED[key] + number + _EXPONENT[exponent] + _quality(key, value.quality)
        else:
            encoded += _GOOD[key] + number + _EXPONENT[exponent]
    return encoded


def _quality(key: int, quality: int) -> bytes:
    if not 0 < quality < 65536:
        raise Malformed(f"statement, field 11, {key}", f"quality {quality} is outside 1..65535")
    return cbor.head(0, quality)


@lru_cache(maxsize=1024)
def _block_head(function: int, address: int, size: int) -> bytes:
    grammar.check_block(function, address, size, "statement, field 15")
    return b"\x83" + cbor.head(0, function) + cbor.head(0, address) + cbor.head(2, size)
