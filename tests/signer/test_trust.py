"""Certificates: every rule broken once."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from signer.trust import (
    FABRIC_ATTRIBUTES,
    Trust,
    Untrusted,
    check_gateway,
    check_organisation,
    dump_organisations,
    dump_pem,
    load_organisations,
    load_pem,
)

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
NOW_MS = int(NOW.timestamp()) * 1000
DAY = dt.timedelta(days=1)
ROLE = b'{"attrs":{"aigeco.role":"receipt"}}'


class Made:
    """A key with a certificate; every property of it can be chosen."""

    def __init__(
        self,
        cn: str | tuple[str, ...],
        issuer: Made | None = None,
        ca: bool | None = False,
        path_length: int | None = None,
        may_sign: bool = True,
        may_certify: bool | None = None,
        days: tuple[int, int] = (-1, 10),
        key: Any = None,
        attributes: bytes | None = None,
        extra: x509.ExtensionType | None = None,
        digest: Any = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        names = (cn,) if isinstance(cn, str) else cn
        self.name = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Org1MSP")]
            + [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name if issuer else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        certify = bool(ca) if may_certify is None else may_certify
        builder = builder.add_extension(
            x509.KeyUsage(may_sign, False, False, False, False, certify, certify, False, False), critical=True
        )
        if attributes is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(FABRIC_ATTRIBUTES, attributes), critical=False)
        if extra is not None:
            builder = builder.add_extension(extra, critical=True)
        self.certificate = builder.sign(issuer.key if issuer else self.key, digest or hashes.SHA256())
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)


ROOT = Made("root", ca=True)
OTHER = Made("root", ca=True)
TRUST = Trust((ROOT.certificate,), {"Org1MSP": (ROOT.certificate,), "Org2MSP": (OTHER.certificate,)})


def gateway(*path: Made, at_ms: int = NOW_MS, trust: Trust = TRUST) -> ec.EllipticCurvePublicKey:
    return check_gateway(trust, [made.der for made in path], "home-1", at_ms)


def test_right_ones() -> None:
    leaf = Made("gw-home-1", ROOT)
    middle = Made("middle", ROOT, ca=True)
    below = Made("gw-home-1", middle)
    assert gateway(leaf) == leaf.key.public_key()
    assert gateway(leaf, ROOT) == leaf.key.public_key()
    assert gateway(below, middle) == below.key.public_key()
    assert gateway(below, middle, ROOT) == below.key.public_key()
    signer = Made("org-Org1MSP", ROOT, attributes=ROLE)
    assert check_organisation(TRUST, [signer.der], "Org1MSP", NOW_MS // 1000) == signer.key.public_key()


def test_a_second_root_of_the_same_name_may_be_the_issuer() -> None:
    trust = Trust((OTHER.certificate, ROOT.certificate))
    assert gateway(Made("gw-home-1", ROOT), trust=trust)


LEAF = Made("gw-home-1", ROOT)
DEEP = Made("deep", Made("middle", ROOT, ca=True), ca=True)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([], "no certificate"),
        ([Made("gw-home-1", OTHER)], "no pinned root issued it"),
        ([Made("gw-home-1")], "no pinned root issued it"),
        ([Made("gw-home-2", ROOT)], "its CN is not"),
        ([Made("org-home-1", ROOT)], "its CN is not"),
        ([Made(("gw-home-1", "gw-home-1"), ROOT)], "its CN is not"),
        ([Made("gw-home-1", ROOT, days=(-5, -2))], "was not valid"),
        ([Made("gw-home-1", ROOT, days=(2, 5))], "was not valid"),
        ([Made("gw-home-1", ROOT, ca=True)], "is not one to sign with"),
        ([Made("gw-home-1", ROOT, may_sign=False)], "is not one to sign with"),
        ([Made("gw-home-1", LEAF), LEAF], "is no CA"),
        ([Made("gw-home-1", ROOT), LEAF], "is no CA"),
        ([Made("gw-home-1", made := Made("m", ROOT, ca=True, may_certify=False)), made], "is no CA with keyCertSign"),
        ([Made("gw-home-1", made := Made("m", ROOT, ca=None, may_certify=True)), made], "is no CA with keyCertSign"),
        ([Made("gw-home-1", made := Made("m", ROOT, ca=True, days=(-5, -2))), made], "was not valid"),
        ([LEAF, Made("m", ROOT, ca=True)], "was not issued by"),
        ([Made("gw-home-1", DEEP), DEEP, ROOT, ROOT], "certificates to the root"),
        ([Made("gw-home-1", ROOT, key=ec.generate_private_key(ec.SECP384R1()))], "is not P-256"),
        ([Made("gw-home-1", ROOT, key=rsa.generate_private_key(65537, 2048))], "is not P-256"),
        (
            [Made("gw-home-1", ROOT, extra=x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b"x"))],
            "not understood",
        ),
        ([ROOT], "is not one to sign with"),
    ],
)
def test_wrong_ones(path: list[Made], words: str) -> None:
    with pytest.raises(Untrusted, match=words):
        gateway(*path)


def test_path_length() -> None:
    root = Made("root", ca=True, path_length=0)
    middle = Made("middle", root, ca=True)
    trust = Trust((root.certificate,))
    assert gateway(Made("gw-home-1", root), trust=trust)
    with pytest.raises(Untrusted, match="path length"):
        gateway(Made("gw-home-1", middle), middle, trust=trust)


def test_an_expired_root() -> None:
    root = Made("root", ca=True, days=(-9, -1))
    with pytest.raises(Untrusted, match="was not valid"):
        gateway(Made("gw-home-1", root), trust=Trust((root.certificate,)))


def test_to_the_millisecond() -> None:
    leaf = Made("gw-home-1", ROOT)
    first = int((NOW - DAY).timestamp()) * 1000
    last = int((NOW + 10 * DAY).timestamp()) * 1000 + 999
    assert gateway(leaf, at_ms=first)
    assert gateway(leaf, at_ms=last)
    for at_ms in (first - 1, last + 1, 0, 1 << 64):
        with pytest.raises(Untrusted, match="was not valid"):
            gateway(leaf, at_ms=at_ms)


@pytest.mark.parametrize(
    ("made", "organisation", "words", "rule"),
    [
        (Made("org-Org1MSP", ROOT), "Org1MSP", "has no attribute", "role"),
        (
            Made("org-Org1MSP", ROOT, attributes=b'{"attrs":{"aigeco.role":"peer"}}'),
            "Org1MSP",
            "has no attribute",
            "role",
        ),
        (Made("org-Org1MSP", ROOT, attributes=b'{"attrs":["aigeco.role"]}'), "Org1MSP", "has no attribute", "role"),
        (Made("org-Org1MSP", ROOT, attributes=b"[]"), "Org1MSP", "has no attribute", "role"),
        (Made("org-Org1MSP", ROOT, attributes=b"{"), "Org1MSP", "cannot|can be read", "certificate"),
        (Made("org-Org1MSP", ROOT, attributes=b"[" * 4000), "Org1MSP", "allowed|can be read", "certificate"),
        (Made("org-Org1MSP", ROOT, attributes=b"[" * 3000), "Org1MSP", "can be read", "certificate"),
        (Made("org-Org2MSP", ROOT, attributes=ROLE), "Org2MSP", "no pinned root issued it", "certificate"),
        (Made("org-Org2MSP", ROOT, attributes=ROLE), "Org1MSP", "its CN is not", "certificate"),
        (Made("org-Org3MSP", ROOT, attributes=ROLE), "Org3MSP", "no root is pinned", "certificate"),
    ],
)
def test_receipt_certificates(made: Made, organisation: str, words: str, rule: str) -> None:
    with pytest.raises(Untrusted, match=words) as caught:
        check_organisation(TRUST, [made.der], organisation, NOW_MS // 1000)
    assert caught.value.rule == rule


def test_names_cannot_paint_a_terminal() -> None:
    with pytest.raises(Untrusted) as caught:
        gateway(Made("gw-\x1b[31mred\n" + "x" * 40, ROOT))
    assert str(caught.value).isprintable()


def test_a_long_certificate() -> None:
    with pytest.raises(Untrusted, match="at most 4096"):
        check_gateway(TRUST, [LEAF.der + bytes(4096)], "home-1", NOW_MS)


def test_pem_files(tmp_path: Path) -> None:
    path = tmp_path / "roots.pem"
    path.write_bytes(dump_pem((ROOT.certificate, OTHER.certificate)))
    assert load_pem(path) == (ROOT.certificate, OTHER.certificate)
    assert load_organisations(path) == {"Org1MSP": (ROOT.certificate, OTHER.certificate)}
    organisations = {"Org1MSP": (ROOT.certificate,), "Org7MSP": (OTHER.certificate, ROOT.certificate)}
    path.write_bytes(dump_organisations(organisations))
    assert load_organisations(path) == organisations


def test_a_root_that_names_no_organisation(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + DAY)
    certificate = builder.sign(key, hashes.SHA256())
    path = tmp_path / "roots.pem"
    path.write_bytes(dump_pem((certificate,)))
    with pytest.raises(Untrusted, match="no organisation is named"):
        load_organisations(path)
    path.write_bytes(b"organisation: Org9MSP\n" + dump_pem((certificate,)))
    assert load_organisations(path) == {"Org9MSP": (certificate,)}


def test_sha_1(tmp_path: Path) -> None:
    """A certificate signed with SHA-1, made by openssl since cryptography no longer signs so."""
    (tmp_path / "root.pem").write_bytes(dump_pem((ROOT.certificate,)))
    for name, key in (("root.key", ROOT.key), ("leaf.key", LEAF.key)):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / name).write_bytes(pem)
    request = ["openssl", "req", "-new", "-key", "leaf.key", "-subj", "/CN=gw-home-1", "-out", "leaf.csr"]
    signed = ["openssl", "x509", "-req", "-sha1", "-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key"]
    for command in (request, [*signed, "-outform", "DER", "-out", "leaf.der", "-set_serial", "7", "-days", "3"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(Untrusted, match="SHA-2"):
        check_gateway(TRUST, [(tmp_path / "leaf.der").read_bytes()], "home-1", NOW_MS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"hello",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        dump_pem((ROOT.certificate,)) + b"x" * 2_000_000,
    ],
    ids=["empty", "binary", "text", "begun", "no certificate", "long"],
)
def test_no_pem_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "roots.pem"
    path.write_bytes(content)
    with pytest.raises(Untrusted, match=r"roots\.pem"):
        load_pem(path)
    with pytest.raises(Untrusted, match=r"missing\.pem"):
        load_pem(tmp_path / "missing.pem")
