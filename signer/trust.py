"""Whom to believe: certificates judged against pinned roots.

Opens only the PEM files it is asked to; knows no revocation list and asks no network.

Rules
- The certificates are foreign bytes: whatever is in them, the answer is a public key or :class:`Untrusted`.
- Every certificate was valid at the given time; every issuer is a CA with keyCertSign and a path length that allows it;
  at most three certificates from signer to root, both included; critical extensions are understood or refused.
- The signer's key is P-256 and its certificate is no CA's.
- Names bind: a gateway's certificate has CN ``gw-{gateway}``, an organisation's ``org-{organisation}`` and it ends at a
  root of that organisation alone; who signs receipts has the attribute ``aigeco.role = receipt``, kept as Fabric does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier

from signer.grammar import MAX_CERTIFICATE_BYTES, MAX_CHAIN

FABRIC_ATTRIBUTES = ObjectIdentifier("1.2.3.4.5.6.7.8.1")
"""Extension in which Fabric's CA puts a certificate's attributes, JSON ``{"attrs": {...}}``."""

RECEIPT_ROLE = ("aigeco.role", "receipt")
"""Attribute of a certificate that may sign receipts and heads."""

ORGANISATION_LINE = "organisation: "
"""Text before a certificate in a PEM file that says whose root it is (RFC 7468 section 2 allows such text)."""

_MAX_PEM_BYTES = 1024 * 1024
"""A file of trust anchors; a thousand certificates fit."""

_MAX_SUBJECT = 120  # of a subject, in messages
_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        FABRIC_ATTRIBUTES,
    }
)


class Untrusted(Exception):
    """A certificate that proves nothing here. Whose move: its owner's, or that of who pinned the roots.

    Attributes:
        rule: ``certificate``, or ``role`` when only the attribute is missing.
    """

    def __init__(self, words: str, rule: str = "certificate") -> None:
        super().__init__(words)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Trust:
    """The roots that are believed.

    Attributes:
        gateways: roots that issue gateway certificates.
        organisations: organisation (MSP id) -> its roots.
    """

    gateways: tuple[x509.Certificate, ...] = ()
    organisations: Mapping[str, tuple[x509.Certificate, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signer:
    """A gateway's key and when it could be believed.

    Attributes:
        key: public key.
        from_ms: POSIX milliseconds, included.
        to_ms: POSIX milliseconds, included.
    """

    key: ec.EllipticCurvePublicKey
    from_ms: int
    to_ms: int


def check_gateway(trust: Trust, certificates: Sequence[bytes], gateway: str, at_ms: int) -> ec.EllipticCurvePublicKey:
    """Public key of ``gateway``, when its certificate and chain (DER) lead to a root for gateways at ``at_ms``.

    Raises:
        Untrusted: they do not.
    """
    return gateway_signer(trust, certificates, gateway, at_ms).key


def gateway_signer(trust: Trust, certificates: Sequence[bytes], gateway: str, at_ms: int | None) -> Signer:
    """As :func:`check_gateway`, with the time in which all certificates on the path are valid.

    ``at_ms`` None: the signer certificate's own beginning, when no reliable time is known yet.

    Raises:
        Untrusted: they do not lead to a root for gateways at ``at_ms``.
    """
    path = _check_path(certificates, trust.gateways, at_ms)
    _check_common_name(path[0], f"gw-{gateway}")
    return Signer(path[0].key, max(facts.from_ms for facts in path), min(facts.to_ms for facts in path))


def check_organisation(
    trust: Trust, certificates: Sequence[bytes], organisation: str, at_s: int
) -> ec.EllipticCurvePublicKey:
    """Public key of the receipt certificate of ``organisation``, when it leads to that organisation's root at ``at_s``.

    Raises:
        Untrusted: it does not, or it may not sign receipts.
    """
    if organisation not in trust.organisations:
        raise Untrusted(f"no root is pinned for the organisation {organisation!r}")
    signer = _check_path(certificates, trust.organisations[organisation], at_s * 1000)[0]
    _check_common_name(signer, f"org-{organisation}")
    name, role = RECEIPT_ROLE
    if signer.attributes.get(name) != role:
        raise Untrusted(f"certificate of {signer.subject}: has no attribute {name} = {role}", "role")
    return signer.key


def load_pem(path: Path) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file.

    Raises:
        Untrusted: it cannot be read, or holds none, or something that is no certificate.
    """
    return tuple(certificate for _, certificate in _labelled(path))


def load_organisations(path: Path) -> dict[str, tuple[x509.Certificate, ...]]:
    """Organisation -> roots of a PEM file: whose each is says the line before it, else its subject's O.

    Raises:
        Untrusted: as :func:`load_pem`, or a certificate says in neither place whose it is.
    """
    found: dict[str, tuple[x509.Certificate, ...]] = {}
    for label, certificate in _labelled(path):
        organisation = label or _facts(_der(certificate)).organisation
        if not organisation:
            raise Untrusted(
                f"{path}: {certificate.subject.rfc4514_string()}: no organisation is named before it or in it"
            )
        found[organisation] = (*found.get(organisation, ()), certificate)
    return found


def dump_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """A PEM file of certificates."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def dump_organisations(organisations: Mapping[str, Iterable[x509.Certificate]]) -> bytes:
    """A PEM file that says before each root whose it is."""
    return b"".join(
        f"{ORGANISATION_LINE}{name}\n".encode() + dump_pem((certificate,))
        for name, certificates in organisations.items()
        for certificate in certificates
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is asked of a certificate, read out at once, so that lazy parsing surprises nobody later."""

    der: bytes
    certificate: x509.Certificate
    subject: str
    common_names: tuple[str, ...]
    organisation: str
    from_ms: int
    to_ms: int
    is_ca: bool
    path_length: int | None
    may_sign: bool
    may_certify: bool
    attributes: Mapping[str, object]
    key: ec.EllipticCurvePublicKey


def _check_path(certificates: Sequence[bytes], roots: Iterable[x509.Certificate], at_ms: int | None) -> list[_Facts]:
    path = [_facts(der) for der in certificates[: MAX_CHAIN + 1]]
    if not path:
        raise Untrusted("there is no certificate")
    at_ms = path[0].from_ms if at_ms is None else at_ms
    last, anchors = path[-1], [_facts(_der(root)) for root in roots]
    if not any(anchor.der == last.der for anchor in anchors):
        issuers = [anchor for anchor in anchors if _issued(last.der, anchor.der)]
        if not issuers:
            raise Untrusted(f"certificate of {last.subject}: no pinned root issued it")
        path.append(next((anchor for anchor in issuers if anchor.from_ms <= at_ms <= anchor.to_ms), issuers[0]))
    if len(path) > MAX_CHAIN:
        raise Untrusted(f"certificate of {path[0].subject}: {len(path)} certificates to the root, at most {MAX_CHAIN}")
    for position, facts in enumerate(path):
        if not facts.from_ms <= at_ms <= facts.to_ms:
            raise Untrusted(f"certificate of {facts.subject}: was not valid at {at_ms} ms")
        if position:
            _check_issuer(facts, path[position - 1], position - 1)
    if path[0].is_ca or not path[0].may_sign:
        raise Untrusted(f"certificate of {path[0].subject}: is not one to sign with (CA, or no digitalSignature)")
    return path


def _check_issuer(issuer: _Facts, issued: _Facts, below: int) -> None:
    if not issuer.is_ca or not issuer.may_certify:
        raise Untrusted(f"certificate of {issuer.subject}: issued one and is no CA with keyCertSign")
    if issuer.path_length is not None and below > issuer.path_length:
        raise Untrusted(f"certificate of {issuer.subject}: its path length is {issuer.path_length}")
    if not _issued(issued.der, issuer.der):
        raise Untrusted(f"certificate of {issued.subject}: was not issued by {issuer.subject}")


def _check_common_name(facts: _Facts, expected: str) -> None:
    if facts.common_names != (expected,):
        raise Untrusted(f"certificate of {facts.subject}: its CN is not {expected}")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@lru_cache(maxsize=256)
def _issued(der: bytes, issuer_der: bytes) -> bool:
    try:
        _facts(der).certificate.verify_directly_issued_by(_facts(issuer_der).certificate)
    except Exception:  # noqa: BLE001  foreign bytes: whatever goes wrong, it was not shown to be issued by this one
        return False
    return True


@lru_cache(maxsize=256)
def _facts(der: bytes) -> _Facts:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise Untrusted(f"a certificate of {len(der)} bytes, at most {MAX_CERTIFICATE_BYTES} are allowed")
    try:
        return _read(der)
    except Untrusted:
        raise
    except Exception as error:  # noqa: BLE001  foreign bytes, parsed lazily by a library with many ways to refuse them
        raise Untrusted(f"is no certificate that can be read ({type(error).__name__})") from None


def _read(der: bytes) -> _Facts:
    certificate = x509.load_der_x509_certificate(der)
    if _der(certificate) != der or not der.endswith(b"\0" + certificate.signature):
        # The library lets the bit string of the signature end inside a byte.
        raise Untrusted("a certificate that is not in its one form (DER)")
    key = certificate.public_key()
    name = certificate.subject.rfc4514_string()[:_MAX_SUBJECT]
    subject = "".join(letter if letter.isprintable() else "?" for letter in name)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Untrusted(f"certificate of {subject}: its key is not P-256")
    if not isinstance(certificate.signature_hash_algorithm, _HASHES):
        raise Untrusted(f"certificate of {subject}: is not signed with SHA-2")
    extensions = {extension.oid: extension for extension in certificate.extensions}
    for oid, extension in extensions.items():
        if extension.critical and oid not in _UNDERSTOOD:
            raise Untrusted(f"certificate of {subject}: the critical extension {oid.dotted_string} is not understood")
    constraints = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    basic = constraints.value if constraints else None
    is_ca = isinstance(basic, x509.BasicConstraints) and basic.ca
    usages = extensions.get(ExtensionOID.KEY_USAGE)
    usage = usages.value if usages else None
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organisations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return _Facts(
        der=der,
        certificate=certificate,
        subject=subject,
        common_names=tuple(str(name.value) for name in names),
        organisation=str(organisations[0].value) if len(organisations) == 1 else "",
        from_ms=int(certificate.not_valid_before_utc.timestamp()) * 1000,
        to_ms=int(certificate.not_valid_after_utc.timestamp()) * 1000 + 999,
        is_ca=is_ca,
        path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        may_sign=not isinstance(usage, x509.KeyUsage) or usage.digital_signature,
        may_certify=isinstance(usage, x509.KeyUsage) and usage.key_cert_sign,
        attributes=_attributes(extensions.get(FABRIC_ATTRIBUTES)),
        key=key,
    )


def _attributes(extension: x509.Extension[x509.ExtensionType] | None) -> Mapping[str, object]:
    if extension is None or not isinstance(extension.value, x509.UnrecognizedExtension):
        return {}
    content = json.loads(extension.value.value)
    attributes = content.get("attrs") if isinstance(content, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def _labelled(path: Path) -> list[tuple[str, x509.Certificate]]:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_PEM_BYTES + 1)
        if len(content) > _MAX_PEM_BYTES:
            raise Untrusted(f"{path}: longer than {_MAX_PEM_BYTES} bytes")
        pieces = content.decode().split(_BEGIN)
    except OSError as error:
        raise Untrusted(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Untrusted(f"{path}: is no PEM file") from None
    found = []
    text = pieces[0]
    for piece in pieces[1:]:
        body, end, after = piece.partition(_END)
        found.append((_label(text), _load(path, f"{_BEGIN}{body}{end}\n".encode())))
        text = after
    if not found:
        raise Untrusted(f"{path}: holds no certificate")
    return found


def _label(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith(ORGANISATION_LINE)]
    return lines[-1].removeprefix(ORGANISATION_LINE).strip() if lines else ""


def _load(path: Path, pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        _facts(_der(certificate))
    except Untrusted as error:
        raise Untrusted(f"{path}: {error}") from None
    except Exception as error:  # noqa: BLE001  foreign bytes
        raise Untrusted(f"{path}: is no certificate that can be read ({type(error).__name__})") from None
    return certificate
