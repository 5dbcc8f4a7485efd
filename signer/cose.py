"""COSE_Sign1 (RFC 9052) with ES256: the envelope of statements, receipts and heads.

Never looks into the payload and holds no key.

Rules
- Tag 18, four elements, protected header and payload as byte strings, signature r || s of 64 bytes.
- A signature has one form only: 0 < r < n, 0 < s <= n/2 (Fabric refuses high s; another form is another message).
- What is signed is ``["Signature1", protected, h'', payload]``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from signer import cbor
from signer.errors import Malformed

ES256 = -7
"""COSE algorithm of every signature: ECDSA with SHA-256, here on P-256 only."""

CURVE_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order n of P-256 (SEC 2, section 2.4.2)."""

HALF_ORDER = (CURVE_ORDER // 2).to_bytes(32, "big")
"""The largest s that is allowed, as bytes."""

DIGEST_ALGORITHM = ec.ECDSA(Prehashed(hashes.SHA256()))
"""ECDSA over a digest that is already there."""

SIGNATURE_HEAD = b"\x58\x40"
"""What stands before the 64 bytes of a signature."""

_ORDER_BYTES = CURVE_ORDER.to_bytes(32, "big")
_ZERO = bytes(32)
_CONTEXT = b"\x84\x6aSignature1"
_NO_HEADERS = b"\xa0"
_START = b"\xd2\x84"  # tag 18, array of four


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1 taken apart.

    Attributes:
        protected: the encoded protected header.
        unprotected: the unprotected header.
        payload: the payload, still encoded.
        signature: r || s, 64 bytes, s in the lower half.
    """

    protected: bytes
    unprotected: dict[int, Any]
    payload: bytes
    signature: bytes


def digest(protected: bytes, payload: bytes) -> bytes:
    """SHA-256 of the Sig_structure: what ES256 signs, and a statement's ``sid``."""
    return hashlib.sha256(signed_prefix(protected) + cbor.byte_string(payload)).digest()


def signed_prefix(protected: bytes) -> bytes:
    """The Sig_structure up to its last element, the payload as a byte string."""
    return b"".join((_CONTEXT, cbor.byte_string(protected), b"\x40"))


def message_prefix(protected: bytes, unprotected: bytes = _NO_HEADERS) -> bytes:
    """The tagged message up to its payload; ``unprotected`` is an encoded map."""
    return b"".join((_START, cbor.byte_string(protected), unprotected))


def assemble(protected: bytes, payload: bytes, signature: bytes, unprotected: bytes = _NO_HEADERS) -> bytes:
    """The tagged message; ``unprotected`` is an encoded map."""
    return b"".join((message_prefix(protected, unprotected), cbor.byte_string(payload), SIGNATURE_HEAD, signature))


def parse(data: bytes, max_bytes: int, place: str) -> Sign1:
    """Take a message apart; checks the envelope and the signature's form, not the signature.

    Raises:
        Malformed: too long, or no COSE_Sign1 in the one allowed form.
    """
    if len(data) > max_bytes:
        raise Malformed(place, f"{len(data)} bytes, at most {max_bytes} are allowed")
    if data[:2] != _START:
        raise Malformed(place, f"begins with {data[:2].hex() or 'nothing'}, not with d284 (tag 18, array of four)")
    protected, position = cbor.byte_string_at(data, 2, f"{place}, protected header")
    unprotected: dict[int, Any]
    if data[position : position + 1] == _NO_HEADERS:
        unprotected, position = {}, position + 1
    else:
        unprotected, position = cbor.decode_at(data, position, f"{place}, unprotected header")
        if type(unprotected) is not dict:
            raise Malformed(f"{place}, unprotected header", f"is a {type(unprotected).__name__}, not a map")
    payload, position = cbor.byte_string_at(data, position, f"{place}, payload")
    signature, position = cbor.byte_string_at(data, position, f"{place}, signature")
    if position != len(data):
        raise Malformed(place, f"{len(data) - position} bytes follow the end at byte {position}")
    check_signature_form(signature, f"{place}, signature")
    return Sign1(protected, unprotected, payload, signature)


def check_signature_form(signature: bytes, place: str) -> None:
    """Refuse a signature that is not r || s with 0 < r < n and 0 < s <= n/2.

    Raises:
        Malformed: wrong length or range.
    """
    if len(signature) != 64:
        raise Malformed(place, f"{len(signature)} bytes, not 64")
    if not _ZERO < signature[:32] < _ORDER_BYTES:
        raise Malformed(place, "r is outside 1..n-1")
    if not _ZERO < signature[32:] <= HALF_ORDER:
        raise Malformed(place, "s is outside 1..n/2")


def verify(public_key: ec.EllipticCurvePublicKey, signature: bytes, signed_digest: bytes) -> bool:
    """Whether ``signature`` (r || s) of ``signed_digest`` was made with the private half of ``public_key``."""
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        public_key.verify(der, signed_digest, DIGEST_ALGORITHM)
    except InvalidSignature:
        return False
    return True
