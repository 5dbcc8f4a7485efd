"""How commands call contracts: on the embedded ledger that ``peer.toml`` names, or on a Fabric network.

Rules
- ``--network`` (or ``AIGECO_NETWORK``) means that network, as the identity ``--as``. Otherwise the configuration says:
  with a table ``fabric`` that network, else the embedded ledger, where ``--as`` is a member for whom its keeper speaks.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.cli import where
from ledger.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from ledger.calling import Contracts
    from ledger.fabric.calling import FabricContracts
    from ledger.fabric.gateway import Gateway
    from ledger.fabric.profile import Identity, Profile
    from ledger.trace.evidence import Evidence
    from signer.trust import Trust

_Function = TypeVar("_Function", bound=Callable[..., Any])

KEPT = "calls"
"""Folder beside a connection profile: calls whose outcome is not known yet."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which ledger, and as whom; nothing is opened yet."""

    network: Path | None
    who: str
    config: Path | None


def options(function: _Function) -> Any:
    """``--network``, ``--as`` and ``--config``, given to the command as ``place``."""

    @functools.wraps(function)
    def command(*args: Any, network: Path | None, who: str, config_path: Path | None, **rest: Any) -> Any:
        return function(*args, place=Place(network, who, config_path), **rest)

    for option in (
        click.option("--config", "config_path", type=click.Path(path_type=Path), help="As before the command's name."),
        click.option(
            "--as",
            "who",
            default="",
            envvar="AIGECO_AS",
            metavar="[MSPID/]NAME",
            help="Who calls: an identity in the profile; on the embedded ledger, for which member.",
        ),
        click.option(
            "--network",
            type=click.Path(path_type=Path),
            envvar="AIGECO_NETWORK",
            help="Folder of a Fabric network, or a connection profile; else as the configuration says.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def contracts(place: Place) -> Iterator[Contracts]:
    """The ledger's contracts.

    Raises:
        ConfigError: configuration or profile cannot be used.
        Refused: nobody, or several, are meant by ``--as``.
    """
    opened = _on_network(place.network, place.who) if place.network else _configured(place)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def evidence(place: Place) -> Iterator[tuple[Evidence, Trust]]:
    """What a trace asks of a network, and the roots of the organisations that sign receipts on it.

    Raises:
        ConfigError, Refused: as :func:`contracts`.
    """
    from signer.trust import Trust, load_pem

    found, profile, gateway = _connected(*_network_of(place))
    from ledger.fabric.evidence import NetworkEvidence

    try:
        roots = {each.id: load_pem(each.ca) for each in profile.organisations if each.ca is not None}
        yield NetworkEvidence(found, gateway.network(profile.channel)), Trust(organisations=roots)
    finally:
        found.close()


def embedded(place: Place) -> bool:
    """Whether it is the embedded ledger."""
    from ledger import config as configuration

    return not place.network and configuration.load(where.find(place.config)).fabric is None


def _configured(place: Place) -> Contracts:
    from ledger import config as configuration
    from ledger.calling import EmbeddedContracts

    config = configuration.load(where.find(place.config))
    if config.fabric:
        return _on_network(*_network_of(place))
    if "/" in place.who:
        words = f"--as {place.who}: the embedded ledger has one organisation, and --as names a member"
        raise Refused(words, Exit.USAGE, "--as MEMBER, or --network")
    return EmbeddedContracts(config.file, config.organisation, place.who)


def _network_of(place: Place) -> tuple[Path, str]:
    """The network, and who is meant on it."""
    from ledger import config as configuration

    if place.network:
        return place.network, place.who
    config = configuration.load(where.find(place.config))
    assert config.fabric is not None
    name = place.who or config.fabric.identity
    return config.fabric.profile, name if "/" in name else f"{config.organisation}/{name}"


def _on_network(network: Path, who: str) -> Contracts:
    return _connected(network, who)[0]


def _connected(network: Path, who: str) -> tuple[FabricContracts, Profile, Gateway]:
    from ledger.fabric import profile as profiles

    try:
        from ledger.fabric.calling import FabricContracts
        from ledger.fabric.connection import open_gateway
    except ModuleNotFoundError as error:
        words = f"a Fabric network needs the extra fabric: there is no {error.name}"
        raise Refused(words, Exit.CONFIG, "pip install aigeco-edge[fabric]") from error

    profile = profiles.load(network)
    identity = _identity(profile, who)
    gateway = open_gateway(profile, identity.organisation, identity.name)
    return FabricContracts(gateway, profile, identity.organisation, profile.folder / KEPT), profile, gateway


def _identity(profile: Profile, who: str) -> Identity:
    """The identity that ``--as`` means."""
    organisation, _, name = who.rpartition("/")
    if organisation:
        return profile.identity(organisation, name)
    found = [each for each in profile.identities if each.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{each.organisation}/{name}" for each in found)
        raise Refused(f"--as {name}: several are called so: {several}", Exit.USAGE, f"--as {several.split(',')[0]}")
    known = ", ".join(dict.fromkeys(each.name for each in profile.identities))
    words = f"--as {name}: nobody is called so" if name else "who calls is not said"
    raise Refused(f"{words}; {profile.path} has: {known}", Exit.USAGE, "--as NAME, or --as MSPID/NAME")


def arguments_of(given: str) -> bytes:
    """The record in ``--arguments``: JSON, or the JSON in the file behind ``@``.

    Raises:
        Refused: it is none.
    """
    from ledger.rules.record import NoRecord, pack, unpack

    try:
        return pack(unpack(_bytes(given)))
    except NoRecord as error:
        raise Refused(f"--arguments: {error}", Exit.USAGE, """--arguments '{"kind":"gateway"}'""") from None


def secrets_of(given: Iterable[str]) -> dict[str, bytes]:
    """The secrets in ``--secret NAME=JSON``, with a salt, and ``--secret NAME=@FILE``; a file goes as it is.

    Raises:
        Refused: one is none.
    """
    from ledger.calling import salted
    from ledger.rules.record import NoRecord, unpack

    found = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise Refused(f"--secret {item[:40]}: a name is missing", Exit.USAGE, "--secret NAME=JSON or NAME=@FILE")
        try:
            found[name] = _bytes(value) if value.startswith("@") else salted(unpack(value.encode()))
        except NoRecord as error:
            raise Refused(f"--secret {name}: {error}", Exit.USAGE, "--secret NAME=JSON or NAME=@FILE") from None
    return found


def show(answer: bytes) -> None:
    """Print an answer for people and programs."""
    print(json.dumps(json.loads(answer), indent=2, ensure_ascii=False) if answer else "null")


def _bytes(given: str) -> bytes:
    return Path(given[1:]).read_bytes() if given.startswith("@") else given.encode(errors="surrogateescape")
