"""X.509 identities of a Fabric network, made with ``cryptography`` alone: CAs, nodes, admins, clients, MSP folders.

For trying. In production an organisation's identities come from Fabric CA or any other X.509 CA, whose certificates
need what is made here: docs/fabric.md lists it. Never opens the network; starts no process.

Rules
- All keys are P-256; private keys are written as PKCS#8 PEM with mode 0600, and never over another file.
- An identity has exactly one of Fabric's node OUs (``admin``, ``client``, ``peer``, ``orderer``): what it is, is
  decided by its certificate. An identity's CA issues no TLS certificates, a TLS CA no identities.
- Attributes stand where Fabric's own CA puts them: extension 1.2.3.4.5.6.7.8.1, JSON ``{"attrs": {name: text}}``.
- Signatures on certificates have s in the lower half: Fabric would rewrite others, and the bytes that everybody else
  compares would no longer be those in the file.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signer.trust import FABRIC_ATTRIBUTES

NodeOU = Literal["admin", "client", "peer", "orderer"]
"""What an identity is to Fabric; the OU of its certificate's subject."""

NODE_OUS: tuple[NodeOU, ...] = get_args(NodeOU)

_HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2
_CA_DAYS, _DAYS = 3650, 730
_CLOCKS_DIFFER = dt.timedelta(hours=1)  # between machines on which a network is tried

# What Fabric reads beside an MSP's certificates to tell a peer from a client by the OU.
_CONFIG = "NodeOUs:\n  Enable: true\n" + "".join(
    f"  {ou.capitalize()}OUIdentifier:\n    Certificate: cacerts/ca.pem\n    OrganizationalUnitIdentifier: {ou}\n"
    for ou in NODE_OUS
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path) -> None:
        """Write ``cert.pem``, and ``key.pem`` with mode 0600, into a folder that is made.

        Raises:
            FileExistsError: there is one already.
        """
        folder.mkdir(parents=True, exist_ok=True)
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with os.fdopen(os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        (folder / "cert.pem").write_bytes(self.certificate.public_bytes(Encoding.PEM))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an identity's certificate is for.

    Attributes:
        name: the common name.
        ou: what it is to Fabric; None makes a certificate that Fabric refuses.
        attributes: what contracts check, name -> text.
    """

    name: str
    ou: NodeOU | None = "client"
    attributes: Mapping[str, str] = field(default_factory=dict)


class Authority:
    """A certificate authority of one organisation: either of its identities or of its TLS certificates."""

    def __init__(self, organisation: str, issued: Issued) -> None:
        self.organisation = organisation
        self.issued = issued

    @classmethod
    def create(cls, organisation: str, name: str, now: dt.datetime | None = None) -> Authority:
        """A new one whose certificate signs itself; ``name`` says what it issues."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(organisation, f"{organisation} {name}", None)
        extensions = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_key_usage(ca=True), True),
        ]
        certificate = _sign(
            subject, key.public_key(), subject, key, extensions, now or dt.datetime.now(dt.UTC), _CA_DAYS
        )
        return cls(organisation, Issued(certificate, key))

    @classmethod
    def read(cls, organisation: str, folder: Path) -> Authority:
        """The one that was written into ``folder``.

        Raises:
            OSError: it is not there or not readable.
            ValueError: it is no P-256 authority.
        """
        key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{folder / 'key.pem'}: is no P-256 key")
        return cls(organisation, Issued(x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes()), key))

    @property
    def pem(self) -> bytes:
        """Its own certificate, PEM."""
        return self.issued.certificate.public_bytes(Encoding.PEM)

    def identity(self, subject: Subject, now: dt.datetime | None = None) -> Issued:
        """A signing identity: what a node, an admin or a client signs with."""
        extensions: list[tuple[x509.ExtensionType, bool]] = []
        if subject.attributes:
            attributes = json.dumps({"attrs": dict(subject.attributes)}, separators=(",", ":")).encode()
            extensions.append((x509.UnrecognizedExtension(FABRIC_ATTRIBUTES, attributes), False))
        return self._issue(_name(self.organisation, subject.name, subject.ou), extensions, now)

    def tls(self, name: str, hosts: Iterable[str] = (), now: dt.datetime | None = None) -> Issued:
        """A TLS certificate: for a client, and for a server when it has ``hosts`` (names or addresses)."""
        hosts = tuple(hosts)
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        extensions: list[tuple[x509.ExtensionType, bool]] = [(x509.ExtendedKeyUsage(usage), False)]
        if hosts:
            extensions.append((x509.SubjectAlternativeName([_host(host) for host in hosts]), False))
        return self._issue(_name(self.organisation, name, None), extensions, now)

    def _issue(
        self, subject: x509.Name, extensions: list[tuple[x509.ExtensionType, bool]], now: dt.datetime | None
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(ca=False), True),
            *extensions,
        ]
        issuer = self.issued.certificate.subject
        now = now or dt.datetime.now(dt.UTC)
        return Issued(_sign(subject, key.public_key(), issuer, self.issued.key, extensions, now, _DAYS), key)


def write_msp(folder: Path, ca: bytes, tls_ca: bytes, identity: Issued | None = None) -> None:
    """Write an MSP folder as Fabric reads it: an organisation's, or with ``identity`` a node's or a user's own.

    Args:
        folder: is made.
        ca: PEM of the organisation's CA.
        tls_ca: PEM of its TLS CA.
        identity: whose MSP it is.

    Raises:
        FileExistsError: there is a key already.
    """
    for name, content in {
        "config.yaml": _CONFIG.encode(),
        "cacerts/ca.pem": ca,
        "tlscacerts/tls-ca.pem": tls_ca,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if identity:
        identity.write(folder / "keystore")
        (folder / "signcerts").mkdir(exist_ok=True)
        (folder / "keystore" / "cert.pem").rename(folder / "signcerts" / "cert.pem")


def attributes_of(certificate: x509.Certificate) -> dict[str, str]:
    """The attributes in a certificate; none when it has no such extension.

    Raises:
        ValueError: the extension is not what Fabric's CA writes.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(FABRIC_ATTRIBUTES).value
    except x509.ExtensionNotFound:
        return {}
    assert isinstance(extension, x509.UnrecognizedExtension)
    try:
        found = json.loads(extension.value)["attrs"]
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("the extension with the attributes is not JSON with attrs of texts")
    return found


def _sign(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
    now: dt.datetime,
    days: int,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    while True:  # half of all signatures have s in the lower half
        certificate = builder.sign(issuer_key, hashes.SHA256())
        if decode_dss_signature(certificate.signature)[1] <= _HALF_ORDER:
            return certificate


def _name(organisation: str, common_name: str, ou: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    if ou:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, ou))
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
