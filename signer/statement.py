"""One statement: its bytes, and what strict parsing makes of them. The second of the five nouns.

Knows no chain, no clock and no key but the one it is given to verify with.

Rules (FORMAT.md, statement-v1.cddl)
- ``sid`` = SHA-256 of the COSE Sig_structure: it covers header and payload, not the signature.
- Parsing accepts exactly what the grammar says, in exactly one encoding; everything else is :class:`Malformed`.
- An unknown kind parses (``known`` is False): its place in the chain and its signature can still be checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from drivers.reading import Block, Value
from signer import cbor, cose, grammar, reading_form
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

TYPE = "application/vnd.aigeco.s1"
"""typ (RFC 9596): keeps a message of another kind or version from being taken for a statement."""

CONTENT_FORMAT_CBOR = 60
"""Content format of a statement's payload (application/cbor)."""

LAST_CLOCK_STATUS = int(max(ClockStatus))
"""Highest clock status that field 8 may hold."""

COMMON_FIELDS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
"""Fields that every kind of statement has."""


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


class Statement:  # not a dataclass: one is made for every measurement
    """A statement, as the chain made it. Signed when its bytes are first asked for.

    The chain runs through digests, which leave the signature out; so a group of statements is made first and signed
    after that, and each of the two runs while the processor's caches hold what it needs.

    Attributes:
        sid: 32 bytes, its identity, and the digest that is signed.
        seq: its place in the stream.
        kind: a :class:`Kind`.
        sub: the measuring point, ``-`` for the gateway itself.
    """

    __slots__ = ("_message", "_sign", "kind", "seq", "sid", "sub")

    def __init__(
        self, unsigned: bytes, sign: Callable[[bytes], bytes], sid: bytes, seq: int, kind: int, sub: str
    ) -> None:
        """``unsigned``: the message up to its 64 bytes of signature; ``sign`` makes them, of ``sid``."""
        self._message = unsigned
        self._sign: Callable[[bytes], bytes] | None = sign
        self.sid = sid
        self.seq = seq
        self.kind = kind
        self.sub = sub

    @property
    def data(self) -> bytes:
        """The COSE_Sign1 message.

        Raises:
            KeyProblem: the key does not sign.
        """
        if self._sign is not None:
            self._message += self._sign(self.sid)
            self._sign = None
        return self._message


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
    payload: Any = reading_form.decode(message.payload)
    if payload is None:
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
def _parse_protected(data: bytes) -> tuple[str, str, bytes]:
    """Gateway, sub and key id. Cached: each measuring point repeats its header."""
    place = "statement, protected header"
    header = cbor.decode(data, 512, place)
    if type(header) is not dict or header.keys() != {1, 3, 4, 15, 16}:
        raise Malformed(place, "is no map of the entries 1, 3, 4, 15 and 16")
    for entry, expected in ((1, cose.ES256), (3, CONTENT_FORMAT_CBOR), (16, TYPE)):
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
        kind, stream, seq, prev, boot, utc_ms, boot_ms, clock, salt = [payload.pop(field) for field in COMMON_FIELDS]
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
    if type(status) is not int or not 0 <= status <= LAST_CLOCK_STATUS or type(error_ms) is not int or error_ms < 0:
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
