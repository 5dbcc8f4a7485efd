"""What gateway and organisation say to each other around a batch: hello, head, refusal.

Pure. A hello and a refusal are advice and carry no signature; a head decides whether a restored gateway begins a new
stream, so it is signed like a receipt.

Rules (statement-v1.cddl)
- Each parses in exactly one encoding, or is :class:`Malformed`.
- A head answers one hello: it repeats its nonce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from signer import cbor, cose, grammar, receipt
from signer.batch import VERSION
from signer.errors import Malformed, show
from signer.keys import KeyStore
from signer.receipt import Rejected
from signer.trust import Trust

MAX_BYTES = 1024
"""A hello takes some 75 bytes; a refusal with all its words some 400."""

_HEAD_TYPE = "application/vnd.aigeco.h1"


class RefusalReason(IntEnum):
    """Why there is no receipt."""

    OUT_OF_ORDER = 1
    FORK = 2
    BAD_SIGNATURE = 3
    UNKNOWN_GATEWAY = 4
    MALFORMED = 5
    BUSY = 6
    NOT_THIS_GATEWAY = 7


@dataclass(frozen=True, slots=True)
class Hello:
    """A gateway started and asks where the ledgers stand.

    Attributes:
        stream: 16 bytes.
        seq: of the last local statement.
        sid: of the last local statement.
        nonce: 16 random bytes.
    """

    stream: bytes
    seq: int
    sid: bytes
    nonce: bytes

    def encode(self) -> bytes:
        """The payload of the hello topic."""
        return cbor.encode([VERSION, self.stream, self.seq, self.sid, self.nonce])

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """Take a hello apart.

        Raises:
            Malformed: not a hello of version 1.
        """
        stream, seq, sid, nonce = _five(cbor.decode(data, MAX_BYTES, "hello"), "hello")
        return cls(stream, grammar.check_uint(seq, "hello, seq"), grammar.check_bytes(sid, 32, "hello, sid"), nonce)


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """Where an organisation's ledger stands.

    Attributes:
        data: the COSE_Sign1 message.
        organisation: who signed.
        gateway: whom it answers.
        issued_s: when, POSIX seconds.
        stream: 16 bytes, the stream asked for.
        seq: last committed seq; None: the stream is unknown.
        sid: its sid; None: the stream is unknown.
        nonce: of the hello.
        certificates: signer certificate and its chain, DER.
    """

    data: bytes
    organisation: str
    gateway: str
    issued_s: int
    stream: bytes
    seq: int | None
    sid: bytes | None
    nonce: bytes
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no receipt for a batch.

    Attributes:
        reason: a :class:`RefusalReason`; a number of a newer version is carried.
        stream: 16 bytes.
        root: of the batch refused.
        seq: the ledger's last seq; None: stream unknown, send from 0.
        sid: its sid.
        words: for a person.
        retry_after_ms: when to come again.
    """

    reason: int
    stream: bytes
    root: bytes
    seq: int | None = None
    sid: bytes | None = None
    words: str | None = None
    retry_after_ms: int | None = None

    def encode(self) -> bytes:
        """The payload of a refusal topic."""
        fields = {
            1: int(self.reason),
            2: self.stream,
            3: self.seq,
            4: self.sid,
            5: self.words,
            6: VERSION,
            7: self.root,
            8: self.retry_after_ms,
        }
        return cbor.encode({field: value for field, value in fields.items() if value is not None})

    @classmethod
    def decode(cls, data: bytes) -> Refusal:
        """Take a refusal apart.

        Raises:
            Malformed: not a refusal of version 1.
        """
        fields = cbor.decode(data, MAX_BYTES, "refusal")
        if type(fields) is not dict or not {1, 2, 6, 7} <= fields.keys() <= {1, 2, 3, 4, 5, 6, 7, 8}:
            raise Malformed("refusal", "is no map of the fields 1, 2, 6, 7 and perhaps 3, 4, 5, 8")
        if (3 in fields) != (4 in fields):
            raise Malformed("refusal", "fields 3 and 4 are there together or not at all")
        _check_version(fields[6], "refusal, field 6")
        for field in (1, 3, 8):
            if field in fields:
                grammar.check_uint(fields[field], f"refusal, field {field}")
        for field, size in ((2, 16), (4, 32), (7, 32)):
            if field in fields:
                grammar.check_bytes(fields[field], size, f"refusal, field {field}")
        if 5 in fields:
            grammar.check_text(fields[5], "refusal, field 5")
        return cls(fields[1], fields[2], fields[7], fields.get(3), fields.get(4), fields.get(5), fields.get(8))


def issue_head(
    key: KeyStore,
    certificates: Sequence[bytes],
    organisation: str,
    gateway: str,
    issued_s: int,
    hello: Hello,
    seq: int | None,
    sid: bytes | None,
) -> bytes:
    """The signed answer to ``hello``: the ledger's last seq and sid of that stream, None when it does not know it."""
    protected = receipt.protected_header(_HEAD_TYPE, certificates, organisation, gateway, issued_s, {})
    payload = cbor.encode([VERSION, hello.stream, seq, sid, hello.nonce])
    signature = key.sign_digest(cose.digest(protected, payload))
    return cose.assemble(protected, payload, signature, receipt.unprotected_header(certificates))


def parse_head(data: bytes) -> LedgerHead:
    """Take a head apart; says nothing yet about who signed it.

    Raises:
        Malformed: not a head of version 1, byte for byte.
    """
    return _take_head_apart(data)[0]


def check_head(data: bytes, gateway: str, hello: Hello, trust: Trust) -> LedgerHead:
    """The head, when it answers ``hello`` and counts.

    Raises:
        Rejected: it does not; ``reason`` names the first rule that it breaks.
    """
    if len(data) > receipt.MAX_BYTES:
        raise Rejected("size", f"{len(data)} bytes, at most {receipt.MAX_BYTES} are allowed")
    try:
        head, message, header = _take_head_apart(data)
    except Malformed as error:
        raise receipt.rejected(error) from None
    receipt.verify_signer(
        trust,
        head.certificates,
        head.organisation,
        head.issued_s,
        header.thumbprint,
        message.signature,
        cose.digest(message.protected, message.payload),
    )
    if head.gateway != gateway:
        raise Rejected("gateway", f"is for {head.gateway}, not for {gateway}")
    if head.nonce != hello.nonce:
        raise Rejected("nonce", "answers another hello")
    if head.stream != hello.stream:
        raise Rejected("stream", f"{head.stream.hex()} is not the stream asked for, {hello.stream.hex()}")
    return head


def _take_head_apart(data: bytes) -> tuple[LedgerHead, cose.Sign1, receipt.Header]:
    message = cose.parse(data, receipt.MAX_BYTES, "head")
    header = receipt.parse_header(message.protected, _HEAD_TYPE, set(), "head")
    stream, seq, sid, nonce = _five(cbor.decode(message.payload, MAX_BYTES, "head, payload"), "head")
    if (seq is None) != (sid is None):
        raise Malformed("head", "seq and sid are null together or not at all")
    if seq is not None:
        grammar.check_uint(seq, "head, seq")
        grammar.check_bytes(sid, 32, "head, sid")
    certificates = receipt.parse_chain(message.unprotected, "head")
    head = LedgerHead(data, header.organisation, header.gateway, header.issued_s, stream, seq, sid, nonce, certificates)
    return head, message, header


def _five(items: Any, place: str) -> tuple[bytes, Any, Any, bytes]:
    if type(items) is not list or len(items) != 5:
        raise Malformed(place, f"{show(items)} is no array of five")
    _check_version(items[0], f"{place}, version")
    stream = grammar.check_bytes(items[1], 16, f"{place}, stream")
    return stream, items[2], items[3], grammar.check_bytes(items[4], 16, f"{place}, nonce")


def _check_version(version: object, place: str) -> None:
    if type(version) is not int or version != VERSION:
        raise Malformed(place, f"version {show(version)} is not {VERSION}")
