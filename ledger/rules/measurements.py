"""What a ledger accepts: one batch and what is committed so far go in, one judgement comes out. On every ledger.

Pure: no I/O, no clock, no floats, no order of sets or dicts. The embedded ledger and a network's contracts call the
same functions and keep what :class:`Accepted` says; what is committed they show through :class:`Committed`.

Rules, in this order (FORMAT.md)
1. A batch speaks for the gateway that published it, or it is *not this gateway's*.
2. The gateway is registered, or it is *unknown*.
3. A stream belongs to one gateway for ever.
4. The very same batch (its root, so the same sids at the same places) *exists*: it gets its first receipt again, under
   whatever signatures it comes now, and also when the gateway has been revoked since.
5. A revoked gateway commits nothing new.
6. A stream begins with its genesis and grows without a hole. A hole, an overlap with equal sids, a stream that is not
   known and does not begin at 0: *out of order*, and the answer says where to go on.
7. Another sid at a place that is taken (a statement there, or a ``prev`` that names one) is a *fork* if its signatures
   are good: recorded, never accepted. The line that was there first goes on.
8. Every signature is good under the stream's key: that of the genesis' certificate, after a rekey that of the
   certificate which the old key handed over to; in a fork, any key that the stream has had. Certificates lead to the
   root, and are the one, that the registry says.
9. A genesis that says it recovers an older stream names one of the same gateway, if the ledger knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from signer.batch import Batch
from signer.codes import RELIABLE_CLOCKS, Kind
from signer.dialogue import RefusalReason
from signer.statement import Claims, verify_signature
from signer.trust import Trust, Untrusted, check_gateway


@dataclass(frozen=True, slots=True)
class Gateway:
    """A registered gateway.

    Attributes:
        gateway: its id.
        root: SHA-256 of the one root certificate (DER) that its certificates must lead to; None = any trusted root.
        certificate: SHA-256 of the one certificate (DER) it may begin a stream with; None = any that leads to the root.
        revoked: commits nothing any more.
    """

    gateway: str
    root: bytes | None = None
    certificate: bytes | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """Where a stream stands.

    Attributes:
        stream: 16 bytes.
        gateway: whose it is.
        seq: of the last statement committed.
        head: sid of the last statement committed.
        key: SubjectPublicKeyInfo (DER) that the next statement must be signed with.
        recovers: the older stream that the genesis names, or None.
    """

    stream: bytes
    gateway: str
    seq: int
    head: bytes
    key: bytes
    recovers: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """Evidence: two signed statements of one gateway for one place.

    Attributes:
        stream, seq: the place.
        committed: the sid that was there first.
        other: the sid that the fork puts there.
        statement: the signed statement that says so: the one at ``seq``, or the one after it whose ``prev`` is
            ``other``.
    """

    stream: bytes
    seq: int
    committed: bytes
    other: bytes
    statement: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """Commit it.

    Attributes:
        stream: the stream's new state.
        key: SubjectPublicKeyInfo (DER) that the batch's statements are signed with.
        gateway: the registry's new entry, after a rekey of a pinned gateway.
    """

    stream: Stream
    key: bytes
    gateway: Gateway | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """It is committed already: answer with its first receipt."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It is not committed, and why.

    Attributes:
        words: for a person.
        seq, sid: where the ledger stands in this stream; None when it does not know it.
        fork: what to record.
    """

    reason: RefusalReason
    words: str
    seq: int | None = None
    sid: bytes | None = None
    fork: Fork | None = None


Judgement = Accepted | Exists | Refused


class Committed(Protocol):
    """What a ledger shows of what it holds. Looked up only for places that are taken."""

    def gateway(self, gateway: str) -> Gateway | None:
        """The registry's entry."""

    def stream(self, stream: bytes) -> Stream | None:
        """Where a stream stands."""

    def root(self, stream: bytes, first: int) -> bytes | None:
        """Root of the batch that begins at ``first``, None when none begins there."""

    def sids(self, stream: bytes, first: int, count: int) -> Sequence[bytes]:
        """The sids of committed statements."""

    def keys(self, stream: bytes) -> Sequence[bytes]:
        """SubjectPublicKeyInfo of every key that signed committed statements of the stream, in a fixed order."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a ledger judges by.

    Attributes:
        trust: the authorities of gateways.
        block_ms: the time that the block will carry, POSIX milliseconds: a certificate is judged by it when the
            gateway did not know the time.
        every: check every signature; False checks the head's only, which names all the others through the chain.
    """

    trust: Trust
    block_ms: int
    every: bool = True


def judge(committed: Committed, terms: Terms, publisher: str, batch: Batch, claims: Sequence[Claims]) -> Judgement:
    """Accept a batch, recognise it, or refuse it.

    Args:
        publisher: the gateway that the batch came from, as the transport has authenticated it.
        claims: the batch's statements, parsed from it (:func:`signer.batch.parse`).
    """
    if claims[0].gateway != publisher:
        words = f"statements of gateway {claims[0].gateway} in a batch of gateway {publisher}"
        return Refused(RefusalReason.NOT_THIS_GATEWAY, words)
    gateway = committed.gateway(publisher)
    if gateway is None:
        return Refused(RefusalReason.UNKNOWN_GATEWAY, f"gateway {publisher} is not registered")
    stream = committed.stream(batch.stream)
    if stream is None:
        return _begin(committed, terms, gateway, batch, claims)
    if stream.gateway != publisher:
        words = f"stream {batch.stream.hex()} belongs to gateway {stream.gateway}, not to {publisher}"
        return Refused(RefusalReason.NOT_THIS_GATEWAY, words)
    if batch.first <= stream.seq and committed.root(batch.stream, batch.first) == batch.root:
        return Exists()
    if gateway.revoked:
        return _revoked(gateway)
    return _continue(committed, terms, gateway, stream, batch, claims)


def _begin(committed: Committed, terms: Terms, gateway: Gateway, batch: Batch, claims: Sequence[Claims]) -> Judgement:
    if gateway.revoked:
        return _revoked(gateway)
    if batch.first != 0:
        return Refused(
            RefusalReason.OUT_OF_ORDER, f"stream {batch.stream.hex()} is not known here: send it from its genesis"
        )
    genesis = claims[0]
    try:
        key = _certified(terms, gateway, genesis, pinned=True)
    except Untrusted as error:
        return Refused(RefusalReason.UNKNOWN_GATEWAY, f"the certificate in the genesis: {error}")
    recovered = genesis.body[13].get(3)
    if recovered is not None:
        old = committed.stream(recovered[0])
        if old is not None and old.gateway != gateway.gateway:
            words = f"the genesis recovers stream {old.stream.hex()}, which belongs to gateway {old.gateway}"
            return Refused(RefusalReason.NOT_THIS_GATEWAY, words)
    stream = Stream(
        batch.stream, gateway.gateway, -1, batch.prev, _spki(key), recovered[0] if recovered is not None else None
    )
    return _append(terms, gateway, stream, batch, claims)


def _continue(
    committed: Committed, terms: Terms, gateway: Gateway, stream: Stream, batch: Batch, claims: Sequence[Claims]
) -> Judgement:
    if batch.first > stream.seq + 1:
        return _refuse(stream, RefusalReason.OUT_OF_ORDER, f"seq {batch.first} where {stream.seq + 1} is due")
    fork = _fork(committed, stream, batch, claims)
    if fork is not None:
        # The other line may have left this one before a rekey, and so be signed with a key of an earlier time.
        for key in dict.fromkeys((stream.key, *committed.keys(batch.stream))):
            if bad_signature(key, claims, terms.every) is None:
                words = f"another statement at seq {fork.seq} than the one committed there"
                return _refuse(stream, RefusalReason.FORK, words, fork)
    if fork is None and batch.first <= stream.seq:
        words = f"seq {batch.first} to {batch.first + batch.count - 1} overlap what is committed up to {stream.seq}"
        return _refuse(stream, RefusalReason.OUT_OF_ORDER, words)
    return _append(terms, gateway, stream, batch, claims)


def _append(terms: Terms, gateway: Gateway, stream: Stream, batch: Batch, claims: Sequence[Claims]) -> Judgement:
    bad = bad_signature(stream.key, claims, terms.every)
    if bad is not None:
        words = f"the signature of statement {bad} is not the gateway's"
        return _refuse(stream, RefusalReason.BAD_SIGNATURE, words)
    key, entry = stream.key, None
    if claims[-1].kind == Kind.REKEY:
        try:
            key = _spki(_certified(terms, gateway, claims[-1], pinned=False))
        except Untrusted as error:
            return _refuse(stream, RefusalReason.UNKNOWN_GATEWAY, f"the certificate in the rekey: {error}")
        if gateway.certificate is not None:
            entry = replace(gateway, certificate=sha256(claims[-1].certificates[0]).digest())
    seq = batch.first + batch.count - 1
    return Accepted(replace(stream, seq=seq, head=batch.head, key=key), stream.key, entry)


def _refuse(stream: Stream, reason: RefusalReason, words: str, fork: Fork | None = None) -> Refused:
    if stream.seq < 0:
        return Refused(reason, words)
    return Refused(reason, words, stream.seq, stream.head, fork)


def _fork(committed: Committed, stream: Stream, batch: Batch, claims: Sequence[Claims]) -> Fork | None:
    """The first place where the batch names another sid than the one committed there."""
    if batch.first == stream.seq + 1:
        if batch.prev == stream.head:
            return None
        return Fork(batch.stream, stream.seq, stream.head, batch.prev, batch.statements[0])
    start = max(batch.first - 1, 0)
    end = min(batch.first + batch.count - 1, stream.seq)
    there = committed.sids(batch.stream, start, end - start + 1)
    named = [claim.sid for claim in claims]
    if start < batch.first:
        named.insert(0, batch.prev)
    for number, (taken, other) in enumerate(zip(there, named, strict=False)):
        if taken != other:
            seq = start + number
            return Fork(batch.stream, seq, taken, other, batch.statements[max(seq - batch.first, 0)])
    return None


def bad_signature(key: bytes, claims: Sequence[Claims], every: bool = True) -> int | None:
    """Seq of the first statement whose signature is not good under ``key``."""
    public_key = _public_key(key)
    for claim in claims if every else claims[-1:]:
        if not verify_signature(claim, public_key):
            return claim.seq
    return None


def _certified(terms: Terms, gateway: Gateway, claim: Claims, pinned: bool) -> ec.EllipticCurvePublicKey:
    """The key in the certificate that a genesis or a rekey carries.

    Raises:
        Untrusted: it is not one that the registry and the roots allow, at the statement's time, or at the block's when
            the gateway's clock could not be believed.
    """
    trust, instant = terms.trust, claim.instant
    leaf = sha256(claim.certificates[0]).digest()
    if pinned and gateway.certificate is not None and leaf != gateway.certificate:
        raise Untrusted(f"{leaf.hex()[:16]} is not the one registered, {gateway.certificate.hex()[:16]}")
    if gateway.root is not None:
        trust = replace(trust, gateways=tuple(root for root in trust.gateways if _fingerprint(root) == gateway.root))
    at_ms = instant.utc_ms if instant.clock in RELIABLE_CLOCKS else terms.block_ms
    return check_gateway(trust, claim.certificates, gateway.gateway, at_ms)


def _revoked(gateway: Gateway) -> Refused:
    return Refused(RefusalReason.UNKNOWN_GATEWAY, f"gateway {gateway.gateway} has been revoked")


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# Gateways in turn: parsing a key takes as long as half a verification.
@lru_cache(maxsize=4096)
def _public_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    key = load_der_public_key(spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)  # it came out of a certificate that was checked
    return key
