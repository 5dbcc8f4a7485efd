"""Where a private key is: one URI, one registry.

Never creates a key unless asked to, never overwrites one, never shows one.

Rules
- A key store signs 32-byte digests with P-256 and returns r || s with s in the lower half.
- A missing key is an error, never a new identity.
- Another kind of store is one class and one line in :data:`SCHEMES`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.cose import CURVE_ORDER, HALF_ORDER


class KeyProblem(Exception):
    """A key that cannot be used. Whose move: the operator's; waiting does not help."""


class KeyStore(Protocol):
    """Something that holds one P-256 private key and signs with it."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""

    @property
    def rate_per_s(self) -> float | None:
        """Signatures a second that it can sustain; None when it is no limit (software)."""

    def sign_digest(self, digest: bytes) -> bytes:
        """ES256 signature of a SHA-256 digest: r || s, 64 bytes, s <= n/2.

        Raises:
            KeyProblem: the store cannot sign now.
        """


class Scheme(Protocol):
    """One kind of key store: opens and creates keys at a place the URI names."""

    def open(self, location: str, base: Path) -> KeyStore:
        """The key that is there."""

    def create(self, location: str, base: Path) -> KeyStore:
        """A new key where none was."""


def open_key(uri: str, base: Path) -> KeyStore:
    """The key that ``uri`` names; relative places are seen from ``base``.

    Raises:
        KeyProblem: unknown scheme, no such key, or one that must not be used.
    """
    scheme, location = _split(uri)
    return scheme.open(location, base)


def create_key(uri: str, base: Path) -> KeyStore:
    """Make a new key where ``uri`` says.

    Raises:
        KeyProblem: unknown scheme, something is there already, or it cannot be written.
    """
    scheme, location = _split(uri)
    return scheme.create(location, base)


def key_id(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """First 8 bytes of SHA-256 over the SubjectPublicKeyInfo: the ``kid`` of a statement, a hint."""
    info = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()[:8]


def raw_signature(der: bytes) -> bytes:
    """r || s with s in the lower half, of a DER signature (SEQUENCE of two INTEGER) that a library made."""
    at_s = 4 + der[3]
    r, s = der[4:at_s], der[at_s + 2 :]
    if len(s) > 32:
        s = s[1:]  # the zero that keeps a DER integer positive
    if s.rjust(32, b"\0") > HALF_ORDER:
        s = (CURVE_ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")
    return r[-32:].rjust(32, b"\0") + s.rjust(32, b"\0")


def _split(uri: str) -> tuple[Scheme, str]:
    name, colon, location = uri.partition(":")
    if not colon or name not in SCHEMES or not location:
        problem = KeyProblem(f"key {uri!r}: no key store is called {name!r}" if colon else f"key {uri!r}: is no URI")
        problem.add_note(f"try: {', '.join(f'{known}:...' for known in SCHEMES)}")
        raise problem
    return SCHEMES[name], location


from signer.keys.file import FileScheme  # noqa: E402  (a key store needs the names above)

SCHEMES: Mapping[str, Scheme] = {"file": FileScheme()}
"""URI scheme -> key store."""
