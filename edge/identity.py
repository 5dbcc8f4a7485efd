"""Who this gateway is: its signing key and the certificate that belongs to it, checked before anything is signed.

Never creates a key and never repairs one.

Rules
- Without a usable key, or with another key's or another gateway's certificate, nothing is signed: the statements would
  prove nothing, and nothing could be put right afterwards.
- A certificate that has expired, or is not yet valid, is a warning: the clock may be wrong, and measuring goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from drivers.table import Problem
from edge.config import Config
from signer.keys import KeyProblem, KeyStore, open_key
from signer.trust import Trust, Untrusted, check_gateway, load_pem


@dataclass(frozen=True, slots=True)
class Identity:
    """What statements are signed with.

    Attributes:
        key: the signing key.
        certificates: its certificate and the chain behind it, DER.
        valid_from_ms: when the certificate's time began; a clock that stands before it is wrong.
    """

    key: KeyStore
    certificates: tuple[bytes, ...]
    valid_from_ms: int = 0


def load_identity(config: Config) -> tuple[Identity | None, list[Problem], list[Problem]]:
    """(identity, what makes it unusable, warnings). The identity is None when there is any of the former."""
    wrong: list[Problem] = []
    key = _key(config, wrong)
    certificates = _certificates("key.certificate", config.certificate, wrong)
    if certificates:
        wrong += _belongs(config, certificates[0], key)
    if key is None or wrong:
        return None, wrong, []
    der = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
    valid_from_ms = int(certificates[0].not_valid_before_utc.timestamp() * 1000)
    return Identity(key, der, valid_from_ms), [], _warnings(config, certificates[0], der)


def common_name(certificate: x509.Certificate) -> str:
    """The subject's CN, empty when it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def validity(place: str, path: Path, certificate: x509.Certificate) -> list[Problem]:
    """A problem when the certificate is not valid now."""
    now_s = time.time()
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now_s > end.timestamp():
        return [Problem(place, str(path), f"has expired on {end:%Y-%m-%d}", "have a new certificate issued")]
    if now_s < begin.timestamp():
        words = f"is valid only from {begin:%Y-%m-%d}"
        return [Problem(place, str(path), words, "check this machine's clock: timedatectl")]
    return []


def advice_of(error: BaseException, otherwise: str) -> str:
    """The first note of an error without its ``try:``."""
    for note in getattr(error, "__notes__", ()):
        return str(note).removeprefix("try: ")
    return otherwise


def _key(config: Config, wrong: list[Problem]) -> KeyStore | None:
    try:
        return open_key(config.key_uri, config.base)
    except KeyProblem as error:
        wrong.append(Problem("key.uri", config.key_uri, str(error), advice_of(error, "aigeco keys create")))
        return None


def _certificates(place: str, path: Path, wrong: list[Problem]) -> tuple[x509.Certificate, ...]:
    try:
        return load_pem(path)
    except Untrusted as error:
        advice = "have the certificate of the key issued, and put it there as PEM"
        wrong.append(Problem(place, "", str(error), advice))
        return ()


def _belongs(config: Config, certificate: x509.Certificate, key: KeyStore | None) -> list[Problem]:
    found = []
    if key is not None and certificate.public_key() != key.public_key:
        words = f"is the certificate of another key than {config.key_uri}"
        found.append(Problem("key.certificate", str(config.certificate), words, "have one issued for this key"))
    name, due = common_name(certificate), f"gw-{config.gateway}"
    if name != due:
        words = f"is issued to {name or 'nobody'}, not to {due}"
        advice = f"set gateway.id to {name[3:]}" if name.startswith("gw-") else f"have one issued to {due}"
        found.append(Problem("key.certificate", str(config.certificate), words, advice))
    return found


def _warnings(config: Config, certificate: x509.Certificate, der: tuple[bytes, ...]) -> list[Problem]:
    found = validity("key.certificate", config.certificate, certificate)
    if config.ca is None or found:
        return found
    roots = _certificates("key.ca", config.ca, found)
    if roots:
        try:
            check_gateway(Trust(gateways=roots), der, config.gateway, int(time.time() * 1000))
        except Untrusted as error:
            words = f"does not lead from {config.certificate} to here: {error}"
            found.append(Problem("key.ca", str(config.ca), words, "name the root that issued the certificate"))
    return found
