"""One statement: its bytes, and what strict parsing makes of them. The second of the five nouns.

Knows no chain, no clock and no key but the one it is given to verify with.

Rules (FORMAT.md, statement-v1.cddl)
- ``sid`` = SHA-256 of the COSE Sig_structure: it covers header and payload, not the signature.
- Parsing accepts exactly what the grammar says, in exactly one encoding; everything else is :class:`Malformed`.
- An unknown kind parses (``known`` is False): its place in the chain and its signature can still be checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from drivers.reading import EXPONENT_RANGE, Block, Reading, Value
from signer import cbor, cose, grammar
from signer.codes import BootReason, ClockSource, ClockStatus, EventCode, GapReason, Kind, Role
from signer.errors import Malformed, show

__all__ = [
    "MAX_BYTES",
    "BootReason",
    "Claims",
    "ClockSource",
    "ClockStatus",
    "EventCode",
    "GapReason",
    "Instant",
    "Kind",
    "Role",
    "Statement",
    "parse",
    "verify_signature",
]

MAX_BYTES = 16 * 1024
"""One statement; a genesis with a chain of three certificates takes some 3 kB, a reading of 12 quantities 0.45 kB."""

NO_STREAM = bytes(16)
"""Field 2 of a genesis: its stream is named after its own sid."""

NO_SID = bytes(32)
"""Field 4 of a genesis: nothing came before."""

_TYPE = "application/vnd.aigeco.s1"
_CONTENT_FORMAT_CBOR = 60
_LAST_CLOCK_STATUS = int(max(ClockStatus))
_COMMON = (1, 2, 3, 4, 5, 6, 7, 8, 9)


@dataclass(frozen=True, slots=True)
class Instant:
    """When something was said, and how far that can be believed.

    Attributes:
        utc_ms: UTC, POSIX milliseconds.
        boot_ms: CLOCK_BOOTTIME at the same instant, milliseconds.
        clock: a :class:`ClockStatus`.
        error_ms: maximum error of ``utc_ms``, milliseconds.
    """

    utc_ms: int
    boot_ms: int
    clock: int
    error_ms: int


class Statement(NamedTuple):  # not a frozen dataclass: one is made for every measurement, and this costs a third of it
    """A signed statement, as the chain made it.

    Attributes:
        data: the COSE_Sign1 message.
        sid: 32 bytes, its identity.
        seq: its place in the stream.
        kind: a :class:`Kind`.
        sub: the measuring point, ``-`` for the gateway itself.
    """

    data: bytes
    sid: bytes
    seq: int
    kind: int
    sub: str


@dataclass(frozen=True, slots=True)
class Claims:
    """A statement taken apart by :func:`parse`.

    Attributes:
        gateway: gateway id.
        sub: measuring point, ``-`` for the gateway itself.
        key_id: hint at the key that signed, 8 bytes.
        kind: a :class:`Kind`, or a number of a newer version.
        stream: 16 bytes; zeros in a genesis.
        seq: place in the stream.
        prev: sid of the statement before.
        boot: boot counter.
        instant: when it was said.
        salt: 16 random bytes.
        body: the fields from 10 up, as decoded.
        sid: the digest that was signed.
        signature: r || s.
        data: the bytes it was parsed from.
    """

    gateway: str
    sub: str
    key_id: bytes
    kind: int
    stream: bytes
    seq: int
    prev: bytes
    boot: int
    instant: Instant
    salt: bytes
    body: dict[int, Any]
    sid: bytes
    signature: bytes
    data: bytes

    @property
    def known(self) -> bool:
        """Whether version 1 knows this kind."""
        return self.kind <= Kind.EXCHANGE

    @property
    def stream_id(self) -> bytes:
        """The stream it belongs to; for a genesis the one that it begins."""
        return stream_of(self.sid) if self.kind == Kind.GENESIS else self.stream

    @property
    def slot_ms(self) -> int | None:
        """Start of a reading's slot, POSIX milliseconds; None for other kinds."""
        return self.body[16] if self.kind == Kind.READING else None

    @property
    def status(self) -> int | None:
        """A reading's record status, None = good."""
        return self.body.get(10) if self.kind == Kind.READING else None

    @property
    def values(self) -> tuple[tuple[int, Value], ...]:
        """A reading's (OBIS key, value), ascending by key."""
        found = self.body.get(11, {}) if self.kind == Kind.READING else {}
        return tuple((key, Value(*value)) for key, value in found.items())

    @property
    def blocks(self) -> tuple[Block, ...]:
        """A reading's register words."""
        found = self.body.get(15, []) if self.kind == Kind.READING else []
        return tuple(Block(*block) for block in found)

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Signer certificate and its chain, DER, of a genesis or a rekey; empty for other kinds."""
        if self.kind not in (Kind.GENESIS, Kind.REKEY):
            return ()
        return (self.body[13][1], *self.body[13][2])


def stream_of(genesis_sid: bytes) -> bytes:
    """Stream id of the stream that a genesis begins: the first 16 bytes of SHA-256(sid)."""
    return hashlib.sha256(genesis_sid).digest()[:16]


def parse(data: bytes) -> Claims:
    """Take a statement apart; the signature is checked for its form only.

    Raises:
        Malformed: not a statement of version 1, byte for byte.
    """
    message = cose.parse(data, MAX_BYTES, "statement")
    if message.unprotected:
        raise Malformed("statement, unprotected header", "is not empty")
    gateway, sub, key_id = _parse_protected(message.protected)
    payload = cbor.decode(message.payload, MAX_BYTES, "statement, payload")
    kind, stream, seq, prev, boot, instant, salt = _parse_common(payload)
    grammar.check_body(kind, sub, payload, "statement")
    sid = cose.digest(message.protected, message.payload)
    return Claims(
        gateway, sub, key_id, kind, stream, seq, prev, boot, instant, salt, payload, sid, message.signature, data
    )


def verify_signature(claims: Claims, public_key: ec.EllipticCurvePublicKey) -> bool:
    """Whether the statement was signed with the private half of ``public_key``."""
    return cose.verify(public_key, claims.signature, claims.sid)


@lru_cache(maxsize=1024)
def prefixes(gateway: str, sub: str, key_id: bytes) -> tuple[bytes, bytes]:
    """What stands before the payload, in the Sig_structure and in the message; the same for one measuring point.

    Raises:
        Malformed: a name that may not be used.
    """
    grammar.check_name(gateway, grammar.GATEWAY, "statement, gateway")
    grammar.check_name(sub, grammar.SUB, "statement, sub")
    header = {1: cose.ES256, 3: _CONTENT_FORMAT_CBOR, 4: key_id, 15: {1: gateway, 2: sub}, 16: _TYPE}
    protected = cbor.encode(header)
    return cose.signed_prefix(protected), cose.message_prefix(protected)


def encode_body(body: Mapping[int, Any]) -> bytes:
    """The fields from 10 up of any kind, one after the other, without the map's head."""
    return b"".join(cbor.encode(field) + cbor.encode(body[field]) for field in sorted(body))


def encode_reading(reading: Reading) -> tuple[bytes, int]:
    """The fields from 10 up of a reading, and how many they are. Written out: it runs for every measurement.

    Raises:
        Malformed: something that :func:`parse` would refuse.
    """
    head = cbor.head
    encoded, count = b"", 1
    if reading.status is not None:
        encoded, count = b"\x0a" + head(0, reading.status), 2
    if reading.values:
        encoded += _encode_values(reading.values)
        count += 1
    if reading.window_ms is not None:
        encoded += b"\x0c" + head(0, reading.window_ms)
        count += 1
    if reading.blocks:
        if len(reading.blocks) > grammar.MAX_BLOCKS:
            raise Malformed("statement, field 15", f"{len(reading.blocks)} blocks, at most {grammar.MAX_BLOCKS}")
        encoded += b"\x0f" + head(4, len(reading.blocks))
        for block in reading.blocks:
            encoded += _block_head(block.function, block.address, len(block.words)) + block.words
        count += 1
    return encoded + b"\x10" + head(0, reading.slot_ms), count


def encode_payload(
    kind: int, stream: bytes, seq: int, prev: bytes, boot: int, instant: Instant, salt: bytes, body: tuple[bytes, int]
) -> bytes:
    """The payload of a statement whose body (encoded fields from 10 up, and how many) is ``body``."""
    head = cbor.head
    return (
        _front(kind, len(_COMMON) + body[1], stream)
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
    if not 0 <= status <= _LAST_CLOCK_STATUS:
        raise Malformed("statement, field 8", f"clock status {status} is outside 0..{_LAST_CLOCK_STATUS}")
    return b"\x08\x82" + cbor.head(0, status) + cbor.head(0, error_ms) + b"\x09\x50"


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
            number = b"\x1a" + mantissa.to_bytes(4, "big")
        elif 0xFF < mantissa <= 0xFFFF:
            number = b"\x19" + mantissa.to_bytes(2, "big")
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


@lru_cache(maxsize=1024)
def _parse_protected(data: bytes) -> tuple[str, str, bytes]:
    """Gateway, sub and key id. Cached: each measuring point repeats its header."""
    place = "statement, protected header"
    header = cbor.decode(data, 512, place)
    if type(header) is not dict or header.keys() != {1, 3, 4, 15, 16}:
        raise Malformed(place, "is no map of the entries 1, 3, 4, 15 and 16")
    for entry, expected in ((1, cose.ES256), (3, _CONTENT_FORMAT_CBOR), (16, _TYPE)):
        if header[entry] != expected or type(header[entry]) is not type(expected):
            raise Malformed(f"{place}, entry {entry}", f"{show(header[entry])} is not {expected!r}")
    key_id = grammar.check_bytes(header[4], 8, f"{place}, entry 4")
    names = header[15]
    if type(names) is not dict or names.keys() != {1, 2}:
        raise Malformed(f"{place}, entry 15", "is no map of the entries 1 and 2")
    gateway = grammar.check_name(names[1], grammar.GATEWAY, f"{place}, gateway")
    sub = grammar.check_name(names[2], grammar.SUB, f"{place}, sub")
    return gateway, sub, key_id


def _parse_common(payload: Any) -> tuple[int, bytes, int, bytes, int, Instant, bytes]:
    """Take the fields 1..9 out of a payload; what stays is the body."""
    if type(payload) is not dict:
        raise Malformed("statement, payload", f"{show(payload)} is no map")
    try:
        kind, stream, seq, prev, boot, utc_ms, boot_ms, clock, salt = [payload.pop(field) for field in _COMMON]
    except KeyError as error:
        raise Malformed("statement", f"field {error.args[0]} is missing") from None
    for field, number in ((1, kind), (3, seq), (5, boot), (6, utc_ms), (7, boot_ms)):
        if type(number) is not int or number < 0:
            raise Malformed(f"statement, field {field}", f"{show(number)} is no unsigned integer")
    for field, content, size in ((2, stream, 16), (4, prev, 32), (9, salt, 16)):
        if type(content) is not bytes or len(content) != size:
            raise Malformed(f"statement, field {field}", f"{show(content)} is no byte string of {size} bytes")
    if type(clock) is not list or len(clock) != 2:
        raise Malformed("statement, field 8", f"{show(clock)} is no [status, maximum error]")
    status, error_ms = clock
    if type(status) is not int or not 0 <= status <= _LAST_CLOCK_STATUS or type(error_ms) is not int or error_ms < 0:
        raise Malformed(
            "statement, field 8", f"[{show(status)}, {show(error_ms)}]: status 0..4, error an unsigned integer"
        )
    _check_place(kind, stream, seq, prev)
    return kind, stream, seq, prev, boot, Instant(utc_ms, boot_ms, status, error_ms), salt


def _check_place(kind: int, stream: bytes, seq: int, prev: bytes) -> None:
    if kind == Kind.GENESIS:
        if seq != 0 or stream != NO_STREAM or prev != NO_SID:
            raise Malformed("statement", f"a genesis with seq {seq}: seq, stream and prev are zero in it")
    elif seq == 0 or stream == NO_STREAM or prev == NO_SID:
        raise Malformed("statement", f"kind {kind} with seq {seq}: zero seq, stream or prev belong to a genesis")
