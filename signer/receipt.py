"""A receipt: an organisation's signed word that a root is committed. The last of the five nouns.

Pure; opens no file and knows no ledger.

Rules (FORMAT.md, statement-v1.cddl)
- A COSE_Sign1 over the Merkle root, with the signer's certificates in the unprotected header and their digest in the
  protected one; the ledger's reference (channel, block, transaction, range, head) is signed with it.
- :func:`check` goes in the order of FORMAT.md, and each refusal has a reason of its own.
- A receipt is advice until it was checked; a rejected one is an alarm, never a prune.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from signer import cbor, cose, grammar
from signer.errors import Malformed, show
from signer.keys import KeyStore
from signer.trust import Trust, Untrusted, check_organisation

MAX_BYTES = 16 * 1024
"""One receipt or head; with one certificate it takes some 1.1 kB, with three some 3 kB."""

_TYPE = "application/vnd.aigeco.r1"
_SHA256 = -16  # COSE algorithm of a certificate's digest (RFC 9054)
_RFC9162_SHA256 = 1  # verifiable data structure (RFC 9942)
_LEDGER = -70001  # private label: where it is on the ledger
_X5CHAIN = 33
_VALID = 0


class Rejected(Exception):
    """A receipt or head that does not count. Whose move: the organisation's; an alarm.

    Attributes:
        reason: one word for the rule that it broke, e.g. ``signature``.
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(f"{reason}: {words}")
        self.reason = reason


class Committed(Protocol):
    """What of a batch a receipt must name: a :class:`signer.batch.Batch`, or the row kept of one."""

    @property
    def stream(self) -> bytes: ...
    @property
    def first(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def head(self) -> bytes: ...
    @property
    def root(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt taken apart.

    Attributes:
        data: the COSE_Sign1 message.
        organisation: who signed (MSP id).
        gateway: whose batch it is.
        issued_s: when, POSIX seconds.
        root: Merkle root of the batch.
        channel: the ledger's channel, ``embedded`` for an embedded one.
        block: block number.
        transaction: transaction id, 32 bytes.
        stream: 16 bytes.
        first: seq of the first statement.
        count: statements.
        head: sid of the last.
        certificates: signer certificate and its chain, DER.
        thumbprint: SHA-256 that the signed part says the signer certificate has.
        code: validation code, 0 = VALID.
        signature: r || s.
        signed_digest: what it signs.
    """

    data: bytes
    organisation: str
    gateway: str
    issued_s: int
    root: bytes
    channel: str
    block: int
    transaction: bytes
    stream: bytes
    first: int
    count: int
    head: bytes
    certificates: tuple[bytes, ...]
    thumbprint: bytes
    code: int
    signature: bytes
    signed_digest: bytes


def issue(
    key: KeyStore,
    certificates: Sequence[bytes],
    organisation: str,
    gateway: str,
    issued_s: int,
    batch: Committed,
    channel: str,
    block: int,
    transaction: bytes,
) -> bytes:
    """The receipt of ``organisation`` for a committed batch; ``certificates``: the receipt key's, its chain, DER."""
    ledger = {
        1: channel,
        2: block,
        3: transaction,
        4: _VALID,
        5: batch.stream,
        6: batch.first,
        7: batch.count,
        8: batch.head,
    }
    protected = protected_header(_TYPE, certificates, organisation, gateway, issued_s, {395: _RFC9162_SHA256}, ledger)
    signature = key.sign_digest(cose.digest(protected, batch.root))
    return cose.assemble(protected, batch.root, signature, unprotected_header(certificates))


def parse(data: bytes) -> Receipt:
    """Take a receipt apart; says nothing yet about who signed it.

    Raises:
        Malformed: not a receipt of version 1, byte for byte.
    """
    message = cose.parse(data, MAX_BYTES, "receipt")
    header = parse_header(message.protected, _TYPE, {395, _LEDGER}, "receipt")
    if type(header.rest[395]) is not int or header.rest[395] != _RFC9162_SHA256:
        raise Malformed("receipt, protected header, entry 395", f"{show(header.rest[395])} is not {_RFC9162_SHA256}")
    ledger = _ledger(header.rest[_LEDGER])
    return Receipt(
        data=data,
        organisation=header.organisation,
        gateway=header.gateway,
        issued_s=header.issued_s,
        root=grammar.check_bytes(message.payload, 32, "receipt, payload"),
        channel=ledger[1],
        block=ledger[2],
        transaction=ledger[3],
        stream=ledger[5],
        first=ledger[6],
        count=ledger[7],
        head=ledger[8],
        certificates=parse_chain(message.unprotected, "receipt"),
        thumbprint=header.thumbprint,
        code=ledger[4],
        signature=message.signature,
        signed_digest=cose.digest(message.protected, message.payload),
    )


def check(data: bytes, gateway: str, batch: Committed, trust: Trust, newest_block: int | None) -> Receipt:
    """The receipt, when it counts for ``batch``. ``newest_block``: the last one seen of that organisation and channel.

    Raises:
        Rejected: it does not; ``reason`` names the first rule that it breaks.
    """
    if len(data) > MAX_BYTES:
        raise Rejected("size", f"{len(data)} bytes, at most {MAX_BYTES} are allowed")
    try:
        receipt = parse(data)
    except Malformed as error:
        raise rejected(error) from None
    check_signer(receipt, trust)
    if receipt.root != batch.root:
        raise Rejected("root", f"{receipt.root.hex()} is not the local root {batch.root.hex()}")
    check_range(receipt, gateway, batch)
    if receipt.code != _VALID:
        raise Rejected("code", f"validation code {receipt.code} is not VALID")
    if newest_block is not None and receipt.block < newest_block:
        raise Rejected("block", f"block {receipt.block} is below {newest_block}, seen before")
    return receipt


def rejected(error: Malformed) -> Rejected:
    """The rejection of a message that does not parse: ``typ`` when it is of another type, else ``malformed``."""
    return Rejected("typ" if error.place.endswith("header, entry 16") else "malformed", str(error))


def check_signer(receipt: Receipt, trust: Trust) -> None:
    """Certificate chain, role, x5t and signature of a receipt.

    Raises:
        Rejected: one of them fails.
    """
    verify_signer(
        trust,
        receipt.certificates,
        receipt.organisation,
        receipt.issued_s,
        receipt.thumbprint,
        receipt.signature,
        receipt.signed_digest,
    )


def check_range(receipt: Receipt, gateway: str, batch: Committed) -> None:
    """Gateway, stream, first, count and head of a receipt against those of the batch.

    Raises:
        Rejected: one differs.
    """
    if receipt.gateway != gateway:
        raise Rejected("gateway", f"is for {receipt.gateway}, not for {gateway}")
    for name, said, local in (
        ("stream", receipt.stream.hex(), batch.stream.hex()),
        ("first", receipt.first, batch.first),
        ("count", receipt.count, batch.count),
        ("head", receipt.head.hex(), batch.head.hex()),
    ):
        if said != local:
            raise Rejected(name, f"{said} is not the local {local}")


def verify_signer(
    trust: Trust,
    certificates: Sequence[bytes],
    organisation: str,
    issued_s: int,
    thumbprint: bytes,
    signature: bytes,
    signed_digest: bytes,
) -> None:
    """What receipts and heads have in common: certificate chain with role, x5t, signature.

    Raises:
        Rejected: one of them fails.
    """
    try:
        public_key = check_organisation(trust, certificates, organisation, issued_s)
    except Untrusted as error:
        raise Rejected(error.rule, str(error)) from None
    if hashlib.sha256(certificates[0]).digest() != thumbprint:
        raise Rejected("x5t", "the signed certificate digest is not that of the certificate that came with it")
    if not cose.verify(public_key, signature, signed_digest):
        raise Rejected("signature", f"was not signed with the key of {organisation}")


@dataclass(frozen=True, slots=True)
class Header:
    """What the protected headers of receipts and heads have in common."""

    organisation: str
    gateway: str
    issued_s: int
    thumbprint: bytes
    rest: Mapping[int, Any]


def protected_header(
    typ: str,
    certificates: Sequence[bytes],
    organisation: str,
    gateway: str,
    issued_s: int,
    more: Mapping[int, object],
    ledger: Mapping[int, object] | None = None,
) -> bytes:
    """Protected header of a receipt or head; ``more``: entries above 34, ascending."""
    header: dict[int, object] = {
        1: cose.ES256,
        15: {1: organisation, 2: gateway, 6: issued_s},
        16: typ,
        34: [_SHA256, hashlib.sha256(certificates[0]).digest()],
        **more,
    }
    if ledger is not None:
        header[_LEDGER] = dict(ledger)  # the only negative key: encoded, it comes after all others
    return cbor.encode(header)


def unprotected_header(certificates: Sequence[bytes]) -> bytes:
    """x5chain (RFC 9360): one certificate as a byte string, several as an array."""
    chain: object = certificates[0] if len(certificates) == 1 else list(certificates)
    return cbor.encode({_X5CHAIN: chain})


def parse_header(data: bytes, typ: str, more: set[int], place: str) -> Header:
    """Take the protected header of a receipt or head apart; ``more``: entries it has besides the common ones.

    Raises:
        Malformed: another entry, type, size or name.
    """
    place = f"{place}, protected header"
    header = cbor.decode(data, 1024, place)
    if type(header) is not dict or header.get(16) != typ:  # first: another type has other entries, too
        raise Malformed(f"{place}, entry 16", f"typ is not {typ}")
    if header.keys() != {1, 15, 16, 34} | more:
        raise Malformed(place, f"is no map of the entries {sorted({1, 15, 16, 34} | more)}")
    if type(header[1]) is not int or header[1] != cose.ES256:
        raise Malformed(f"{place}, entry 1", f"{show(header[1])} is not {cose.ES256} (ES256)")
    names, digest = header[15], header[34]
    if type(names) is not dict or names.keys() != {1, 2, 6}:
        raise Malformed(f"{place}, entry 15", "is no map of the entries 1, 2 and 6")
    if type(digest) is not list or len(digest) != 2 or type(digest[0]) is not int or digest[0] != _SHA256:
        raise Malformed(f"{place}, entry 34", f"{show(digest)} is no [{_SHA256}, digest]")
    return Header(
        organisation=grammar.check_name(names[1], grammar.GATEWAY, f"{place}, organisation"),
        gateway=grammar.check_name(names[2], grammar.GATEWAY, f"{place}, gateway"),
        issued_s=grammar.check_uint(names[6], f"{place}, time"),
        thumbprint=grammar.check_bytes(digest[1], 32, f"{place}, entry 34"),
        rest={entry: header[entry] for entry in more},
    )


def parse_chain(unprotected: Mapping[int, Any], place: str) -> tuple[bytes, ...]:
    """The certificates of an unprotected header.

    Raises:
        Malformed: it holds something else.
    """
    place = f"{place}, unprotected header"
    if unprotected.keys() != {_X5CHAIN}:
        raise Malformed(place, f"is no map of the entry {_X5CHAIN}")
    chain = unprotected[_X5CHAIN]
    certificates = chain if type(chain) is list else [chain]
    if not 0 < len(certificates) <= grammar.MAX_CHAIN:
        raise Malformed(place, f"{len(certificates)} certificates, 1..{grammar.MAX_CHAIN} are allowed")
    for certificate in certificates:
        if type(certificate) is not bytes or not 0 < len(certificate) <= grammar.MAX_CERTIFICATE_BYTES:
            raise Malformed(place, f"a certificate is no byte string of 1..{grammar.MAX_CERTIFICATE_BYTES} bytes")
    return tuple(certificates)


def _ledger(ledger: Any) -> dict[int, Any]:
    place = f"receipt, protected header, entry {_LEDGER}"
    if type(ledger) is not dict or ledger.keys() != {1, 2, 3, 4, 5, 6, 7, 8}:
        raise Malformed(place, "is no map of the entries 1 to 8")
    grammar.check_text(ledger[1], f"{place}, channel")
    for entry, name in ((2, "block"), (4, "code"), (6, "first"), (7, "count")):
        grammar.check_uint(ledger[entry], f"{place}, {name}")
    for entry, size, name in ((3, 32, "transaction"), (5, 16, "stream"), (8, 32, "head")):
        grammar.check_bytes(ledger[entry], size, f"{place}, {name}")
    return ledger
