"""The ingestion peer's configuration: one TOML file, checked whole.

Opens the file and, asked to (:func:`gather`), what it names; starts nothing.

Rules
- All problems at once, each with its place (``mqtt.port``), the value, what is wrong and what to try.
- An unknown key is a problem: a misspelt setting must not silently be the default.
- Paths are relative to the file.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from ledger.embedded import Issuer
from signer.keys import KeyProblem, open_key
from signer.trust import Trust, Untrusted, check_organisation, load_pem
from uplink import topics
from uplink.broker import MAX_PACKET_BYTES
from uplink.endpoint import Endpoint

_KEYS = {
    "": ("organisation", "ledger", "fabric", "receipts", "gateways", "mqtt"),
    "fabric": ("profile", "identity", "state"),
    "receipts": ("key", "certificate"),
    "gateways": ("roots",),
    "mqtt": ("host", "port", "ca", "certificate", "key", "insecure", "instance"),
}
_MQTT_PORT, _MQTTS_PORT = 1883, 8883
_INGESTION = "ingestion"
_MAX_INSTANCE = 999  # two peers of one organisation on two ledgers are an experiment, a thousand are a mistake


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, with which value, and what to try."""

    place: str
    value: str
    words: str
    advice: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.value, self.words) if part)


class ConfigError(Exception):
    """A configuration that cannot be used: whoever wrote it has to change it.

    Attributes:
        problems: everything that is wrong with it.
    """

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [f"{problem}\n  try: {problem.advice}" if problem.advice else str(problem) for problem in self.problems]
        count = f"{len(lines)} problems\n" if len(lines) > 1 else ""
        super().__init__(f"{path}: {count}" + "\n".join(lines))


@dataclass(frozen=True, slots=True)
class FabricConfig:
    """A Fabric network instead of an embedded ledger.

    Attributes:
        profile: the connection profile, or the folder of a network for trying.
        identity: name in the profile of who submits, with the role ``ingestion``.
        state: file with what this peer has seen committed, and its receipts.
    """

    profile: Path
    identity: str
    state: Path


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What the file says.

    Attributes:
        path: the file.
        organisation: MSP id.
        ledger: the embedded ledger's file; None: ``fabric`` says where the ledger is.
        receipt_key: URI of the receipt key.
        receipt_certificate: PEM file, the key's own certificate first, then its chain.
        roots: PEM files of the authorities that issue gateway certificates; on a network the registry has them.
        endpoint: the broker.
        fabric: the network, or None.
    """

    path: Path
    organisation: str
    ledger: Path | None
    receipt_key: str
    receipt_certificate: Path
    roots: tuple[Path, ...]
    endpoint: Endpoint
    fabric: FabricConfig | None = None

    @property
    def file(self) -> Path:
        """The embedded ledger's file, for commands that are about it.

        Raises:
            ConfigError: the ledger is a network's.
        """
        if self.ledger is None:
            words = "the ledger is a Fabric network's, and this is about an embedded ledger's file"
            advice = "aigeco-peer query and call ask the network; aigeco-peer --config another peer.toml"
            raise ConfigError(self.path, [Problem("fabric", "", words, advice)])
        return self.ledger


def load(path: Path) -> PeerConfig:
    """The configuration in a file.

    Raises:
        ConfigError: with all problems of the file.
    """
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        advice = "aigeco-peer --config FILE ..."
        raise ConfigError(path, [Problem("", "", error.strerror or str(error), advice)]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        advice = "compare with the example in docs/operations.md"
        raise ConfigError(path, [Problem("", "", f"is no TOML: {error}", advice)]) from None
    reader = _Reader(document)
    config = _read(reader, path)
    if reader.problems:
        raise ConfigError(path, reader.problems)
    return config


def gather(config: PeerConfig, now_s: int) -> tuple[Issuer, Trust]:
    """The receipt key with its certificates, and the roots, from the files that the configuration names.

    Raises:
        ConfigError: with everything that cannot be used.
    """
    problems: list[Problem] = []
    trust = Trust(gateways=load_roots(config, problems))
    certificates: tuple[bytes, ...] = ()
    key = None
    try:
        loaded = load_pem(config.receipt_certificate)
        certificates = tuple(certificate.public_bytes(Encoding.DER) for certificate in loaded)
        # Whether the organisation's root is the right one is for the gateways to judge: they have it pinned.
        own = Trust(organisations={config.organisation: (loaded[-1],)})
        public_key = check_organisation(own, certificates, config.organisation, now_s)
    except Untrusted as error:
        advice = "a certificate with the receipt role, valid today, issued by the organisation's CA"
        problems.append(Problem("receipts.certificate", "", str(error), advice))
    try:
        key = open_key(config.receipt_key, config.path.parent)
    except KeyProblem as error:
        problems.append(Problem("receipts.key", "", str(error), "; ".join(_advice(error))))
    if key and certificates and not problems and key.public_key != public_key:
        words = f"is not the key of the certificate in {config.receipt_certificate}"
        problems.append(
            Problem("receipts.key", config.receipt_key, words, "the key that the certificate was issued for")
        )
    if problems or key is None:
        raise ConfigError(config.path, problems)
    return Issuer(config.organisation, key, certificates), trust


def load_roots(config: PeerConfig, problems: list[Problem]) -> tuple[Any, ...]:
    """The certificates in ``gateways.roots``."""
    found: list[Any] = []
    for path in config.roots:
        try:
            found += load_pem(path)
        except Untrusted as error:
            advice = "the PEM file of the CA that issues gateway certificates"
            problems.append(Problem("gateways.roots", "", str(error), advice))
    return tuple(found)


def _advice(error: Exception) -> list[str]:
    return [note.removeprefix("try: ") for note in getattr(error, "__notes__", [])]


def _read(reader: _Reader, path: Path) -> PeerConfig:
    base = path.parent
    fabric = reader.has("fabric")
    for section in _KEYS:
        reader.check_keys(section)
    if fabric and reader.has("ledger"):
        words = "is an embedded ledger's file, and [fabric] says that the ledger is a network's"
        reader.wrong("ledger", None, words, "one of the two")
    if fabric and reader.has("gateways"):
        words = "are the registry's on a Fabric network, the same for everybody"
        reader.wrong("gateways.roots", None, words, "leave [gateways] out; aigeco-peer call registry SetAuthority")
    organisation = reader.text("organisation")
    if organisation and not topics.valid_name(organisation):
        reader.wrong("organisation", organisation, "an MSP id has 1 to 40 letters, digits and hyphens", '"Org1MSP"')
    insecure = reader.flag("mqtt.insecure")
    port = reader.integer("mqtt.port", 1, 65535, _MQTT_PORT if insecure else _MQTTS_PORT)
    instance = reader.integer("mqtt.instance", 1, _MAX_INSTANCE, 1)
    endpoint = Endpoint(
        reader.text("mqtt.host"),
        port,
        f"org-{organisation}-{instance}",
        insecure=insecure,
        max_packet_bytes=MAX_PACKET_BYTES,
    )
    if not insecure:
        ca, certificate, key = (base / reader.text(f"mqtt.{name}") for name in ("ca", "certificate", "key"))
        endpoint = replace(endpoint, ca=ca, certificate=certificate, key=key)
        if port == _MQTT_PORT:
            advice = "port = 8883, or insecure = true on a closed network"
            reader.wrong("mqtt.port", port, "is the port of plain MQTT", advice)
    return PeerConfig(
        path=path,
        organisation=organisation,
        ledger=None if fabric else base / reader.text("ledger", "ledger.db"),
        receipt_key=reader.text("receipts.key"),
        receipt_certificate=base / reader.text("receipts.certificate"),
        roots=() if fabric else tuple(base / name for name in reader.texts("gateways.roots")),
        endpoint=endpoint,
        fabric=_fabric(reader, base) if fabric else None,
    )


def _fabric(reader: _Reader, base: Path) -> FabricConfig:
    return FabricConfig(
        profile=base / reader.text("fabric.profile"),
        identity=reader.text("fabric.identity", _INGESTION),
        state=base / reader.text("fabric.state", "ingestion.db"),
    )


class _Reader:
    """Takes values out of the document by their place, and collects what is wrong with them."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.problems: list[Problem] = []
        self._document = document

    def wrong(self, place: str, value: object, words: str, advice: str) -> None:
        self.problems.append(Problem(place, "" if value is None else repr(value)[:60], words, advice))

    def has(self, key: str) -> bool:
        return key in self._document

    def check_keys(self, section: str) -> None:
        table = self._document.get(section, {}) if section else self._document
        if not isinstance(table, dict):
            self.wrong(section, table, "a table is needed here", f"[{section}]")
            self._document[section] = {}
            return
        for key in table:
            if key not in _KEYS[section]:
                near = difflib.get_close_matches(key, _KEYS[section], 1)
                place = f"{section}.{key}" if section else key
                advice = f"{near[0]}?" if near else f"known are {', '.join(_KEYS[section])}"
                self.wrong(place, None, "is no setting", advice)

    def text(self, place: str, default: str | None = None) -> str:
        return str(self._take(place, lambda value: isinstance(value, str) and value != "", "a text", default) or "")

    def texts(self, place: str) -> list[str]:
        def fits(value: object) -> bool:
            return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)

        found = self._take(place, lambda value: isinstance(value, str) or fits(value), "a list of texts", None)
        return [found] if isinstance(found, str) else list(found or [])

    def flag(self, place: str) -> bool:
        return bool(self._take(place, lambda value: isinstance(value, bool), "true or false", False))

    def integer(self, place: str, least: int, most: int, default: int) -> int:
        def fits(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

        return int(self._take(place, fits, f"a whole number {least}..{most}", default))

    def _take(self, place: str, fits: Callable[[object], bool], needed: str, default: Any) -> Any:
        section, _, key = place.rpartition(".")
        table = self._document.get(section, {}) if section else self._document
        value = table.get(key)
        if value is None:
            if default is None:
                self.wrong(place, None, "is missing", f"{needed}; see docs/operations.md")
            return default
        if not fits(value):
            self.wrong(place, value, f"{needed} is needed here", "see docs/operations.md")
            return default
        return value
