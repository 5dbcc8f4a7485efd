"""The key store ``file:``: a PKCS#8 PEM file with a P-256 key that only its owner may read.

Never creates a file unless asked, never overwrites one, never logs what is in it.

Rules
- Anybody else's access to the file is refused, not repaired: a key that was readable may have been read.
- One curve: P-256.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from signer import keys
from signer.cose import DIGEST_ALGORITHM

# A P-256 PKCS#8 PEM takes some 240 bytes; whatever is much longer is not one.
_MAX_FILE_BYTES = 16 * 1024
_OTHERS = 0o077


class FileKey:
    """A P-256 key in memory, as read from a file.

    Attributes:
        public_key: the public half.
        rate_per_s: None, software is no limit.
    """

    def __init__(self, private_key: ec.EllipticCurvePrivateKey, deterministic: bool = False) -> None:
        """``deterministic`` takes RFC 6979 nonces instead of random ones (test vectors)."""
        self._key = private_key
        self._algorithm = ec.ECDSA(Prehashed(hashes.SHA256()), True) if deterministic else DIGEST_ALGORITHM
        self.public_key = private_key.public_key()
        self.rate_per_s: float | None = None

    def sign_digest(self, digest: bytes) -> bytes:
        """ES256 signature of a SHA-256 digest: r || s, s <= n/2."""
        return keys.raw_signature(self._key.sign(digest, self._algorithm))


class FileScheme:
    """Opens and creates key files."""

    def open(self, location: str, base: Path) -> FileKey:
        """The key in the file at ``location``.

        Raises:
            KeyProblem: missing, readable by others, or no P-256 key in PKCS#8 PEM.
        """
        path = base / location
        return FileKey(_private_key(path, _read(path)))

    def create(self, location: str, base: Path) -> FileKey:
        """A new key in a new file with mode 0600, on disk when this returns.

        Raises:
            KeyProblem: something is there already, or the file cannot be written.
        """
        path = base / location
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            problem = keys.KeyProblem(f"{path}: there is a file already; a key is never overwritten")
            problem.add_note("try: another name, or move the old key away first")
            raise problem from None
        except OSError as error:
            raise keys.KeyProblem(f"{path}: cannot be written: {error.strerror}") from None
        return FileKey(key)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        problem = keys.KeyProblem(f"{path}: there is no such key file")
        problem.add_note("try: aigeco keys create, or give back the file; a new key is a new identity")
        raise problem from None
    except OSError as error:
        problem = keys.KeyProblem(f"{path}: cannot be read: {error.strerror}")
        if isinstance(error, PermissionError):
            problem.add_note("try: as the account that the file belongs to, which must be the gateway's, or as root")
        raise problem from None
    if mode & _OTHERS:
        problem = keys.KeyProblem(f"{path}: mode {mode:04o} lets others at the key")
        problem.add_note(f"try: chmod 600 {path}, and ask who may have read it")
        raise problem
    if len(content) > _MAX_FILE_BYTES:
        raise keys.KeyProblem(f"{path}: longer than {_MAX_FILE_BYTES} bytes, so no key file")
    return content


def _private_key(path: Path, pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's words may quote the content; ours do not.
        problem = keys.KeyProblem(f"{path}: is no unencrypted private key in PEM form")
        problem.add_note("try: openssl pkey -in FILE -noout, which says what it is")
        raise problem from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise keys.KeyProblem(f"{path}: is a private key, but not one of curve P-256")
    return key
