"""Key files: only the owner's, only P-256, never made or overwritten unasked, never shown."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from signer import cose, keys
from signer.keys import KeyProblem, create_key, key_id, open_key, raw_signature


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def put(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def test_created_and_opened(tmp_path: Path) -> None:
    made = create_key("file:gateway.pem", tmp_path)
    path = tmp_path / "gateway.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    found = open_key("file:gateway.pem", tmp_path)
    assert found.rate_per_s is None
    assert key_id(found.public_key) == key_id(made.public_key)
    digest = hashlib.sha256(b"x").digest()
    signature = found.sign_digest(digest)
    assert cose.verify(made.public_key, signature, digest)
    assert not cose.verify(made.public_key, signature, hashlib.sha256(b"y").digest())


def test_a_umask_takes_nothing_away(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_key("file:a.pem", tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "a.pem").stat().st_mode & 0o777 == 0o600


def test_never_overwritten(tmp_path: Path) -> None:
    put(tmp_path / "a.pem", b"something")
    with pytest.raises(KeyProblem, match="never overwritten"):
        create_key("file:a.pem", tmp_path)
    assert (tmp_path / "a.pem").read_bytes() == b"something"


def test_never_created_by_opening(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem, match="no such key file") as caught:
        open_key("file:a.pem", tmp_path)
    assert caught.value.__notes__[0].startswith("try: ")
    assert not (tmp_path / "a.pem").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o777])
def test_readable_by_others(tmp_path: Path, mode: int) -> None:
    put(tmp_path / "a.pem", pem(ec.generate_private_key(ec.SECP256R1())), mode)
    with pytest.raises(KeyProblem, match=f"mode 0{mode:o}"):
        open_key("file:a.pem", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"x" * 20_000,
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
        pem(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "binary", "no key", "long", "P-384", "encrypted", "RSA"],
)
def test_no_key_in_it(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "a.pem", content)
    with pytest.raises(KeyProblem) as caught:
        open_key("file:a.pem", tmp_path)
    assert "a.pem" in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem):
        open_key("file:.", tmp_path)
    with pytest.raises(KeyProblem):
        create_key("file:missing/a.pem", tmp_path)


@pytest.mark.parametrize("uri", ["", "gateway.pem", "file:", "tpm9:x", ":x"])
def test_no_uri(tmp_path: Path, uri: str) -> None:
    with pytest.raises(KeyProblem):
        open_key(uri, tmp_path)


def test_openssl_reads_it(tmp_path: Path) -> None:
    create_key("file:a.pem", tmp_path)
    done = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "a.pem", "-noout", "-text"], capture_output=True, check=True
    )
    assert b"prime256v1" in done.stdout


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    made = create_key("file:a.pem", tmp_path)
    secret = (tmp_path / "a.pem").read_text().splitlines()[1]
    assert secret not in repr(made) + str(vars(made))


@pytest.mark.parametrize("r", [1, 127, 128, 255, 256, 1 << 247, (1 << 255) - 1, 1 << 255, cose.CURVE_ORDER - 1])
@pytest.mark.parametrize(
    "s", [1, 127, 128, 1 << 200, cose.CURVE_ORDER // 2, cose.CURVE_ORDER // 2 + 1, cose.CURVE_ORDER - 1]
)
def test_every_shape_of_a_signature(r: int, s: int) -> None:
    low = min(s, cose.CURVE_ORDER - s)
    assert raw_signature(encode_dss_signature(r, s)) == r.to_bytes(32, "big") + low.to_bytes(32, "big")


def test_signatures_are_always_low(tmp_path: Path) -> None:
    key = create_key("file:a.pem", tmp_path)
    for number in range(60):
        digest = hashlib.sha256(bytes([number])).digest()
        signature = key.sign_digest(digest)
        assert len(signature) == 64
        assert signature[32:] <= cose.HALF_ORDER
        assert cose.verify(key.public_key, signature, digest)


def test_the_registry_names_its_schemes() -> None:
    assert list(keys.SCHEMES) == ["file"]
