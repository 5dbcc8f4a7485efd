"""The connection profile: one TOML file that says what there is of a Fabric network, and where.

It is the same for a network that ``aigeco-peer network`` made and for an existing one, whose operator writes it by
hand with what they have: their own peer, some orderers, their identities. Reads and writes the file; connects to
nothing.

Rules
- Paths are relative to the file. Addresses are ``host:port``.
- An unknown key is a problem: a misspelt setting must not silently be absent. All problems are said at once.
- Every node and identity belongs to an organisation of the file; names are unique, an identity's within its
  organisation.
- Written and read again, a profile is the same.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ledger.config import ConfigError, Problem

FILE = "network.toml"
"""The profile's name in the folder of a network."""

VERSION = 1

_ADDRESS = re.compile(r"[A-Za-z0-9.\-_]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Organisation:
    """One organisation of the channel.

    Attributes:
        id: MSP id.
        tls_ca: PEM file of the roots of its TLS certificates.
        ca: PEM file of the roots of its identities; None: not needed by who wrote the profile.
        roles: what it is in this network; ``metering``: it may see and endorse measurements.
        contracts: contract -> address of the server that runs it for this organisation.
        contract_tls: folder with ``cert.pem`` and ``key.pem`` of those servers; None: they speak without TLS.
    """

    id: str
    tls_ca: Path
    ca: Path | None = None
    roles: tuple[str, ...] = ()
    contracts: Mapping[str, str] = field(default_factory=dict)
    contract_tls: Path | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer.

    Attributes:
        name: for messages.
        organisation: MSP id.
        address: where it serves clients.
        tls_name: name in its TLS certificate, where it is not the address's host.
    """

    name: str
    organisation: str
    address: str
    tls_name: str | None = None


@dataclass(frozen=True, slots=True)
class Orderer:
    """An orderer, as :class:`Peer`.

    Attributes:
        admin: address at which ``osnadmin`` is answered; None: not ours to administer.
    """

    name: str
    organisation: str
    address: str
    admin: str | None = None
    tls_name: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who acts for an organisation.

    Attributes:
        name: unique within the organisation.
        organisation: MSP id.
        certificate: PEM file.
        key: URI of the private key, as everywhere else: ``file:...``, ``pkcs11:...``.
        tls_certificate: PEM file of the certificate for mutual TLS; None: the network asks for none.
        tls_key: PEM file of its key.
        msp: MSP folder, which Fabric's own commands need; None: they cannot act as this one.
    """

    name: str
    organisation: str
    certificate: Path
    key: str
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    msp: Path | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What there is of a network.

    Attributes:
        path: the file; relative paths in the other attributes are already seen from its folder.
        channel: the channel.
        consensus: ``BFT`` or ``etcdraft``, as Fabric writes them: whether a transaction goes to one orderer or to all.
    """

    path: Path
    channel: str
    consensus: str
    organisations: tuple[Organisation, ...]
    peers: tuple[Peer, ...]
    orderers: tuple[Orderer, ...] = ()
    identities: tuple[Identity, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder in which the file is; file keys are seen from it."""
        return self.path.parent

    def organisation(self, organisation: str) -> Organisation:
        """The organisation with this MSP id.

        Raises:
            ConfigError: there is none.
        """
        return self._one(self.organisations, "organisations", organisation, lambda each: each.id)

    def with_role(self, role: str) -> tuple[Organisation, ...]:
        """The organisations with a role, in the order of the file."""
        return tuple(each for each in self.organisations if role in each.roles)

    def peers_of(self, organisation: str) -> tuple[Peer, ...]:
        """The peers of an organisation.

        Raises:
            ConfigError: there is none.
        """
        found = tuple(each for each in self.peers if each.organisation == organisation)
        return found or (self._one((), "peers", f"organisation {organisation}", str),)

    def identity(self, organisation: str, name: str) -> Identity:
        """An identity by its organisation and name.

        Raises:
            ConfigError: there is none.
        """
        return self._one(
            self.identities,
            "identities",
            f"{name} of {organisation}",
            lambda each: f"{each.name} of {each.organisation}",
        )

    def _one(self, items: tuple[_T, ...], place: str, wanted: str, name: Any) -> _T:
        for item in items:
            if name(item) == wanted:
                return item
        known = ", ".join(name(item) for item in items)
        advice = f"one of these: {known}" if known else f"add it under [[{place}]]"
        raise ConfigError(self.path, [Problem(place, repr(wanted), "is not in the profile", advice)])


def load(path: Path) -> Profile:
    """The profile in a file, or in a folder's ``network.toml``.

    Raises:
        ConfigError: with all problems of the file.
    """
    if path.is_dir():
        path = path / FILE
    try:
        text = path.read_text()
    except OSError as error:
        advice = "aigeco-peer network up, or --network FILE with the profile of an existing network"
        raise ConfigError(path, [Problem("", "", error.strerror or str(error), advice)]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, [Problem("", "", f"is no TOML: {error}", "see docs/fabric.md")]) from None
    return parse(text, path)


def parse(text: str, path: Path) -> Profile:
    """The profile in a file's text; ``path`` says from where its paths are seen.

    Raises:
        ConfigError: with all problems of the text.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [Problem("", "", f"is no TOML: {error}", "see docs/fabric.md")]) from None
    reader = _Reader(path.absolute().parent)
    profile = Profile(
        path=path.absolute(),
        channel=reader.text(document, "", "channel"),
        consensus=reader.text(document, "", "consensus", ("BFT", "etcdraft")),
        organisations=tuple(reader.items(document, "organisations", Organisation)),
        peers=tuple(reader.items(document, "peers", Peer)),
        orderers=tuple(reader.items(document, "orderers", Orderer)),
        identities=tuple(reader.items(document, "identities", Identity)),
    )
    reader.check_document(document)
    reader.check_names(profile)
    if reader.problems:
        raise ConfigError(path, reader.problems)
    return profile


def dump(profile: Profile) -> str:
    """The file's text; ``profile.path`` says from where its paths are seen."""
    head = (
        "# A Fabric network: what clients and commands have to know of it (docs/fabric.md).\n"
        f"version = {VERSION}\n"
        f"channel = {_quoted(profile.channel)}\n"
        f"consensus = {_quoted(profile.consensus)}\n"
    )
    sections = ("organisations", "peers", "orderers", "identities")
    return head + "".join(
        dump_item(section, item, profile.folder) for section in sections for item in getattr(profile, section)
    )


def dump_item(section: str, item: Any, folder: Path) -> str:
    """One table of the file, after an empty line, with its paths seen from ``folder``."""
    lines = ["", f"[[{section}]]"]
    for attribute in dataclasses.fields(item):
        value = getattr(item, attribute.name)
        if value is not None and value != () and value != {}:
            lines.append(f"{attribute.name} = {_toml(value, folder)}")
    return "\n".join(lines) + "\n"


def _toml(value: object, folder: Path) -> str:
    if isinstance(value, Path):
        return _quoted(str(value.relative_to(folder)) if value.is_relative_to(folder) else str(value))
    if isinstance(value, tuple):
        return f"[{', '.join(_quoted(each) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_quoted(name)} = {_quoted(text)}' for name, text in value.items())} }}"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class _Reader:
    """Takes values out of the document, and collects what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.problems: list[Problem] = []
        self._folder = folder

    def text(self, table: Mapping[str, Any], place: str, key: str, choice: tuple[str, ...] = ()) -> str:
        value = table.get(key)
        needed = " or ".join(choice) if choice else "a text"
        if not isinstance(value, str) or not value or (choice and value not in choice):
            self._wrong(f"{place}{key}", value, "is missing" if value is None else f"{needed} is needed here", needed)
            return ""
        return value

    def items(self, document: Mapping[str, Any], section: str, kind: type[_T]) -> Iterator[_T]:
        found = document.get(section, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            self._wrong(section, found, "a list of tables is needed here", f"[[{section}]]")
            return
        for number, table in enumerate(found, 1):
            yield kind(**dict(self._attributes(table, f"{section}[{number}].", kind)))

    def check_document(self, document: Mapping[str, Any]) -> None:
        known = ("version", "channel", "consensus", "organisations", "peers", "orderers", "identities")
        for key in document:
            if key not in known:
                self._wrong(key, None, "is no setting", f"known are {', '.join(known)}")
        if document.get("version") != VERSION:
            advice = f"version = {VERSION}, or a newer AIGECO Edge for a newer file"
            self._wrong("version", document.get("version"), "is not a version that is understood here", advice)

    def check_names(self, profile: Profile) -> None:
        known = {each.id for each in profile.organisations}
        seen: set[tuple[str, ...]] = set()
        named: list[tuple[str, str, tuple[str, ...]]] = [
            *(("organisations", each.id, (each.id,)) for each in profile.organisations),
            *(("peers", each.organisation, ("node", each.name)) for each in profile.peers),
            *(("orderers", each.organisation, ("node", each.name)) for each in profile.orderers),
            *(("identities", each.organisation, (each.organisation, each.name)) for each in profile.identities),
        ]
        for place, organisation, name in named:
            if organisation and organisation not in known:
                self._wrong(f"{place}.organisation", organisation, "is no organisation of this file", "its MSP id")
            if all(name) and name in seen:
                self._wrong(f"{place}.name", name[-1], "is there twice", "another name")
            seen.add(name)

    def _attributes(self, table: Mapping[str, Any], place: str, kind: Any) -> Iterator[tuple[str, Any]]:
        attributes = {each.name: each for each in dataclasses.fields(kind)}
        for key in table:
            if key not in attributes:
                self._wrong(f"{place}{key}", None, "is no setting", f"known are {', '.join(attributes)}")
        for name, attribute in attributes.items():
            optional = attribute.default is None or attribute.default_factory is not dataclasses.MISSING
            if name not in table and (optional or attribute.default == ()):
                continue
            yield name, self._value(table, place, name, str(attribute.type))

    def _value(self, table: Mapping[str, Any], place: str, name: str, kind: str) -> Any:
        value = table.get(name)
        if kind.startswith("tuple"):
            if isinstance(value, list) and all(isinstance(each, str) for each in value):
                return tuple(value)
            self._wrong(f"{place}{name}", value, "a list of texts is needed here", '["metering"]')
            return ()
        if kind.startswith("Mapping"):
            if not isinstance(value, dict):
                self._wrong(f"{place}{name}", value, "a table is needed here", 'registry = "host:port"')
                return {}
            return {
                key: self._address(self.text(value, f"{place}{name}.", key), f"{place}{name}.{key}") for key in value
            }
        text = self.text(table, place, name)
        if name in ("address", "admin"):
            return self._address(text, f"{place}{name}")
        return self._folder / text if kind.startswith("Path") else text

    def _address(self, text: str, place: str) -> str:
        if text and not _ADDRESS.fullmatch(text):
            self._wrong(place, text, "is no address", "host:port")
        return text

    def _wrong(self, place: str, value: object, words: str, advice: str) -> None:
        self.problems.append(Problem(place, "" if value is None else repr(value)[:60], words, advice))
