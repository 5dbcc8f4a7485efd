"""Certificate authorities for the demo site and the tests: what an operator and the organisations would have issued.

Rules
- Everything is P-256 and made for the run; nothing here is a secret worth keeping, no product code imports it.
- A gateway's certificates have CN ``gw-{gateway}``, an organisation's ``org-{MSP id}``; an authority's subject O
  names the organisation it belongs to.
- An organisation's receipt certificate carries the attribute ``aigeco.role = receipt`` in the extension that
  Hyperledger Fabric uses for attributes (1.2.3.4.5.6.7.8.1).
- Private keys are written with mode 0600.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

FABRIC_ATTRIBUTES = ObjectIdentifier("1.2.3.4.5.6.7.8.1")
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def write(self, key_path: Path, certificate_path: Path) -> None:
        """Write both as PEM, the key with mode 0600."""
        write_key(self.key, key_path)
        certificate_path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))


def write_key(key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    """Write a private key as PKCS#8 PEM with mode 0600; refuses to overwrite."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


class Authority:
    """A certificate authority that lives as long as the run."""

    def __init__(self, organisation: str, name: str = "CA", now: dt.datetime | None = None) -> None:
        self.organisation = organisation
        self._now = now or dt.datetime.now(dt.UTC)
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"{organisation} {name}", organisation)
        self.certificate = self._sign(subject, self.key.public_key(), subject, ca=True, extensions=(), days=(-1, 3650))

    @property
    def pem(self) -> bytes:
        """The authority's own certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The authority's own certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def gateway(
        self, gateway: str, key: ec.EllipticCurvePrivateKey | None = None, days: tuple[int, int] = (-1, 365)
    ) -> Issued:
        """Certificate of a gateway: signs statements, and serves as TLS client. ``days``: validity relative to now."""
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(f"gw-{gateway}", [(usage, False)], key, days)

    def organisation_client(self, days: tuple[int, int] = (-1, 365)) -> Issued:
        """TLS client certificate of the organisation's ingestion peer."""
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(f"org-{self.organisation}", [(usage, False)], None, days)

    def receipts(self, role: str = "receipt", days: tuple[int, int] = (-1, 365)) -> Issued:
        """The organisation's receipt key and certificate."""
        attributes = json.dumps({"attrs": {"aigeco.role": role}}).encode()
        extension = x509.UnrecognizedExtension(FABRIC_ATTRIBUTES, attributes)
        return self._issue(f"org-{self.organisation}", [(extension, False)], None, days)

    def server(self, host: str, days: tuple[int, int] = (-1, 365)) -> Issued:
        """TLS server certificate for a host name or address."""
        try:
            name: x509.GeneralName = x509.IPAddress(ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return self._issue(host, [(usage, False), (x509.SubjectAlternativeName([name]), False)], None, days)

    def _issue(
        self,
        common_name: str,
        extensions: list[tuple[x509.ExtensionType, bool]],
        key: ec.EllipticCurvePrivateKey | None,
        days: tuple[int, int],
    ) -> Issued:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = _name(common_name, self.organisation)
        certificate = self._sign(subject, key.public_key(), self.certificate.subject, False, tuple(extensions), days)
        return Issued(key, certificate)

    def _sign(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        issuer: x509.Name,
        ca: bool,
        extensions: tuple[tuple[x509.ExtensionType, bool], ...],
        days: tuple[int, int],
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now + days[0] * _DAY)
            .not_valid_after(self._now + days[1] * _DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=1 if ca else None), critical=True)
            .add_extension(_usage(ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())


def _name(common_name: str, organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(ca: bool) -> x509.KeyUsage:
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
