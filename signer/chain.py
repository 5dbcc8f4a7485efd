"""The chain of one gateway: what happened goes in, signed statements come out, each naming the one before.

Writes nothing and knows no clock. Whoever stores what comes out keeps :attr:`Chain.head` and the store in step; when
storing fails, setting ``head`` back takes back what was not stored.

Rules
- ``seq`` rises by one, ``prev`` is the sid of the statement before, a stream begins with its genesis.
- What parsing would refuse is not signed.
- A rekey is signed by the old key; what follows it by the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from drivers.reading import Reading, Value
from signer import cbor, cose, encode, grammar, statement
from signer.codes import Kind
from signer.errors import Malformed
from signer.keys import KeyStore, key_id
from signer.statement import Instant, Statement, stream_of

Values = tuple[tuple[int, Value], ...]
_READING = int(Kind.READING)  # a plain number, since it is looked at for every measurement
_HIGHEST_STATUS = 255
_MOST_UNSIGNED_BYTES = statement.MAX_BYTES - 64


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands.

    Attributes:
        stream: 16 bytes.
        seq: of the last statement.
        sid: of the last statement.
    """

    stream: bytes
    seq: int
    sid: bytes


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a measuring point is: with it, and the map it names, every value can be computed again.

    Attributes:
        period_ms: length of a slot.
        map_digest: SHA-256 of the map file.
        map_name: the map's name.
        role: a :class:`signer.codes.Role`.
        serial: the device's serial number, empty when it has none to read.
        overrides: (name, value) of this installation, ascending by name.
        layout: discovered (model, address).
    """

    period_ms: int
    map_digest: bytes
    map_name: str
    role: int
    serial: str
    overrides: tuple[tuple[str, str], ...] = ()
    layout: tuple[tuple[int, int], ...] = ()


def described_in(claims: statement.Claims) -> Descriptor:
    """What a descriptor statement says."""
    body = claims.body[13]
    overrides = tuple((name, value) for name, value in body.get(6, ()))
    layout = tuple((model, address) for model, address in body.get(7, ()))
    return Descriptor(body[1], body[2], body[3], body[4], body[5], overrides, layout)


class Chain:
    """Makes the statements of one gateway.

    Attributes:
        boot: boot counter that the statements carry.
    """

    def __init__(
        self, gateway: str, key: KeyStore, head: Head | None, boot: int, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """``random`` gives the salts.

        Raises:
            Malformed: ``gateway`` is no gateway id.
        """
        self.gateway = grammar.check_name(gateway, grammar.GATEWAY, "gateway")
        self.head = head
        self.boot = boot
        self._random = random
        self._use(key)

    @property
    def head(self) -> Head | None:
        """The last statement, None before the genesis; may be set back by whoever could not store."""
        return Head(*self._at) if self._at else None

    @head.setter
    def head(self, head: Head | None) -> None:
        self._at = (head.stream, head.seq, head.sid) if head else None

    def genesis(
        self,
        instant: Instant,
        certificates: tuple[bytes, ...],
        recovered: tuple[bytes, int, bytes] | None = None,
    ) -> Statement:
        """Begin a stream.

        ``certificates``: the signer's, then its chain, DER. ``recovered``: the stream before this one, the last seq
        known of it, and that statement's sid.
        """
        body: dict[int, Any] = {1: certificates[0], 2: list(certificates[1:])}
        if recovered is not None:
            body[3] = list(recovered)
        before, self.head = self.head, None
        try:
            return self._say(Kind.GENESIS, grammar.OF_THE_GATEWAY, instant, body)
        except BaseException:
            self.head = before
            raise

    def boot_statement(
        self,
        instant: Instant,
        reason: int,
        last_utc_ms: int,
        software_digest: bytes | None = None,
        version: str | None = None,
    ) -> Statement:
        """The gateway started; ``last_utc_ms`` is the last time known before it stopped."""
        body = _present({1: reason, 2: last_utc_ms, 3: software_digest, 4: version})
        return self._say(Kind.BOOT, grammar.OF_THE_GATEWAY, instant, body)

    def reading(self, reading: Reading, instant: Instant) -> Statement:
        """One measuring point, one slot. ``instant``: the end of the read window."""
        if not reading.values and reading.status is None:
            raise Malformed("statement", f"{reading.sub}: neither values nor a status that says why")
        if reading.status is not None and not 0 < reading.status <= _HIGHEST_STATUS:
            raise Malformed("statement, field 10", f"{reading.status} is outside 1..{_HIGHEST_STATUS}")
        if reading.sub == grammar.OF_THE_GATEWAY:
            raise Malformed("statement", "a reading about the gateway itself")
        return self._link(_READING, reading.sub, instant, encode.reading(reading))

    def gap(self, sub: str, instant: Instant, reason: int, from_ms: int, to_ms: int, missing: int) -> Statement:
        """``missing`` readings of ``sub`` (``-``: of all points) were not made, of slots from_ms <= slot_ms < to_ms."""
        return self._say(Kind.GAP, sub, instant, {1: reason, 2: from_ms, 3: to_ms, 4: missing})

    def clock(self, instant: Instant, step_ms: int, source: int) -> Statement:
        """The clock was moved by ``step_ms``."""
        return self._say(Kind.CLOCK, grammar.OF_THE_GATEWAY, instant, {1: step_ms, 2: source})

    def rekey(self, instant: Instant, key: KeyStore, certificates: tuple[bytes, ...]) -> Statement:
        """Hand over to ``key``, whose certificate and chain (DER) are ``certificates``; signed by the old key."""
        body = {1: certificates[0], 2: list(certificates[1:])}
        made = self._say(Kind.REKEY, grammar.OF_THE_GATEWAY, instant, body)
        self._use(key)
        return made

    def descriptor(self, sub: str, instant: Instant, descriptor: Descriptor) -> Statement:
        """What the measuring point ``sub`` is from here on."""
        body: dict[int, Any] = {
            1: descriptor.period_ms,
            2: descriptor.map_digest,
            3: descriptor.map_name,
            4: int(descriptor.role),
            5: descriptor.serial,
        }
        if descriptor.overrides:
            body[6] = [list(pair) for pair in descriptor.overrides]
        if descriptor.layout:
            body[7] = [list(pair) for pair in descriptor.layout]
        return self._say(Kind.DESCRIPTOR, sub, instant, body)

    def checkpoint(self, instant: Instant, receipt_digest: bytes, block: int) -> Statement:
        """The last receipt seen: its SHA-256 and its block number."""
        return self._say(Kind.CHECKPOINT, grammar.OF_THE_GATEWAY, instant, {1: receipt_digest, 2: block})

    def commission(
        self, sub: str, instant: Instant, technician: str, place: str, values: Values, photo: bytes | None = None
    ) -> Statement:
        """A technician put the meter into service. ``photo``: SHA-256 of a picture."""
        body = _present({1: technician, 2: place, 3: photo, 4: _plain(values)})
        return self._say(Kind.COMMISSION, sub, instant, body)

    def event(
        self, sub: str, instant: Instant, code: int, key: int | None = None, words: str | None = None
    ) -> Statement:
        """Something was noticed about ``sub``; ``key``: the OBIS key of the quantity."""
        return self._say(Kind.EVENT, sub, instant, _present({1: code, 2: key, 3: words}))

    def exchange(
        self, sub: str, instant: Instant, old_serial: str, old_values: Values, serial: str, values: Values
    ) -> Statement:
        """The meter was exchanged: serial number and last values of the old one, of the new one."""
        body = {1: old_serial, 2: _plain(old_values), 3: serial, 4: _plain(values)}
        return self._say(Kind.EXCHANGE, sub, instant, body)

    def _use(self, key: KeyStore) -> None:
        self._sign_digest = key.sign_digest
        self._key_id = key_id(key.public_key)
        self._prefixes: dict[str, tuple[bytes, bytes]] = {}  # by measuring point; there are as many as meters

    def _say(self, kind: Kind, sub: str, instant: Instant, entries: dict[int, Any]) -> Statement:
        entries = {key: int(value) if isinstance(value, int) else value for key, value in entries.items()}
        grammar.check_body(kind, sub, {13: entries}, "statement")
        return self._link(int(kind), sub, instant, (encode.body({13: entries}), 1))

    def _link(self, kind: int, sub: str, instant: Instant, body: tuple[bytes, int]) -> Statement:
        prefixes = self._prefixes.get(sub)
        if prefixes is None:
            prefixes = self._prefixes[sub] = encode.prefixes(self.gateway, sub, self._key_id)
        if self._at:
            stream, seq, prev = self._at
            seq += 1
        elif kind == Kind.GENESIS:
            stream, seq, prev = statement.NO_STREAM, 0, statement.NO_SID
        else:
            raise ValueError(f"a stream begins with its genesis, not with kind {kind}")
        payload = encode.payload(kind, stream, seq, prev, self.boot, instant, self._random(16), body)
        content = cbor.byte_string(payload)
        sid = sha256(prefixes[0] + content).digest()
        unsigned = prefixes[1] + content + cose.SIGNATURE_HEAD
        if len(unsigned) > _MOST_UNSIGNED_BYTES:
            raise Malformed("statement", f"{len(unsigned) + 64} bytes, at most {statement.MAX_BYTES} are allowed")
        self._at = (stream if seq else stream_of(sid), seq, sid)
        return Statement(unsigned, self._sign_digest, sid, seq, kind, sub)


def _present(entries: dict[int, Any]) -> dict[int, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _plain(values: Values) -> dict[int, list[int]]:
    return {
        key: [value.mantissa, value.exponent, value.quality] if value.quality else [value.mantissa, value.exponent]
        for key, value in values
    }
