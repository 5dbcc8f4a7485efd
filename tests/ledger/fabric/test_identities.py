"""Identities of a Fabric network, judged with what a verifier has: the certificates' own bytes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.fabric import identities
from ledger.fabric.identities import NODE_OUS, Authority, NodeOU, Subject
from signer.trust import Trust, check_organisation

HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2
CA = Authority.create("Org1MSP", "CA")


@pytest.mark.parametrize("ou", NODE_OUS)
def test_an_identity_is_issued_by_its_organisation_and_says_what_it_is(ou: NodeOU) -> None:
    certificate = CA.identity(Subject("somebody", ou)).certificate
    certificate.verify_directly_issued_by(CA.issued.certificate)
    (said,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert said.value == ou
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_an_identity_without_an_ou_has_none() -> None:
    certificate = CA.identity(Subject("nobody", None)).certificate
    assert not certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4))
def test_attributes_are_read_as_they_were_written(attributes: dict[str, str]) -> None:
    certificate = CA.identity(Subject("member", "client", attributes)).certificate
    assert identities.attributes_of(certificate) == attributes


@pytest.mark.parametrize("content", [b"{}", b'{"attrs": [1]}', b'{"attrs": {"a": 1}}', b"\xff", b"[]"])
def test_what_is_no_attributes_is_refused(content: bytes) -> None:
    issued = CA.identity(Subject("member"))
    extension = x509.UnrecognizedExtension(identities.FABRIC_ATTRIBUTES, content)
    certificate = (
        x509.CertificateBuilder(issued.certificate.issuer, issued.certificate.subject, issued.key.public_key(), 1)
        .not_valid_before(dt.datetime(2020, 1, 1))
        .not_valid_after(dt.datetime(2030, 1, 1))
        .add_extension(extension, critical=False)
        .sign(issued.key, hashes.SHA256())
    )
    with pytest.raises(ValueError, match="attrs"):
        identities.attributes_of(certificate)


def test_signatures_on_certificates_are_those_that_fabric_leaves_as_they_are() -> None:
    made = [CA.identity(Subject(f"member{number}")).certificate for number in range(16)]  # by chance: 1 in 65,536
    assert all(decode_dss_signature(each.signature)[1] <= HALF_ORDER for each in [*made, CA.issued.certificate])


def test_what_signs_receipts_is_believed_as_one_that_does() -> None:
    receipt = CA.identity(Subject("org-Org1MSP", "client", {"aigeco.role": "receipt"})).certificate
    trust = Trust(organisations={"Org1MSP": (CA.issued.certificate,)})
    now_s = int(dt.datetime.now(dt.UTC).timestamp())
    key = check_organisation(trust, [receipt.public_bytes(Encoding.DER)], "Org1MSP", now_s)
    assert key == receipt.public_key()


def test_a_server_has_hosts_and_a_client_none() -> None:
    server = CA.tls("peer", ["peer-a", "127.0.0.1"]).certificate.extensions
    names = server.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["peer-a"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    client = CA.tls("member").certificate.extensions
    assert list(client.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_keys_are_their_owners_alone_and_are_never_overwritten(tmp_path: Path) -> None:
    identities.write_msp(tmp_path / "msp", CA.pem, CA.pem, CA.identity(Subject("admin", "admin")))
    (key,) = (tmp_path / "msp" / "keystore").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    with pytest.raises(FileExistsError):
        identities.write_msp(tmp_path / "msp", CA.pem, CA.pem, CA.identity(Subject("admin", "admin")))
    assert key.read_bytes() == before


def test_an_authority_is_read_back_and_goes_on_issuing(tmp_path: Path) -> None:
    CA.issued.write(tmp_path)
    again = Authority.read("Org1MSP", tmp_path)
    again.identity(Subject("later")).certificate.verify_directly_issued_by(CA.issued.certificate)
