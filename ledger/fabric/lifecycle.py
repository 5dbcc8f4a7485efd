"""Contracts put on a channel, through Fabric's command ``peer``: installed, approved, committed, asked about.

Works on every network that a connection profile describes. Never starts a contract's server; changes nothing but what
the function's name says.

Rules
- Each organisation installs its own package and approves the definition for itself; the definition, not the package,
  has to be the same for all.
- What is there already is no error: the same package installed, the same definition approved or committed again.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ledger.config import ConfigError, Problem
from ledger.fabric.commands import CommandFailed, Commands, FabricProblem, WrongArgument, wait
from ledger.fabric.network.settings import client_environment
from ledger.fabric.package import package_id
from ledger.fabric.profile import Orderer, Organisation, Profile

ADMIN = "admin"
_Step = tuple[subprocess.Popen[str], Callable[[], None]]
"""A command that runs, and what does the same alone."""

# What peers say of a step that was done before.
_INSTALLED = "chaincode already successfully installed"
_APPROVED = re.compile(r"attempted to redefine .* sequence \(\d+\) for namespace \S+")
# What the command says when it did not reach an orderer, or one that cannot order now.
_ORDERER_AWAY = ("failed to retrieve broadcast client", "failed to send transaction", "SERVICE_UNAVAILABLE")


@dataclass(frozen=True, slots=True)
class Definition:
    """What the organisations agree on.

    Attributes:
        name: of the contract.
        version: text, for people.
        sequence: 1 for the first definition of this name, one more for each change.
        policy: who has to endorse, in Fabric's syntax; empty: the channel's majority.
        collections: JSON file of the private data collections; None: there are none.
        init_required: the contract has to be initialised before it is used.
    """

    name: str
    version: str = "1"
    sequence: int = 1
    policy: str = ""
    collections: Path | None = None
    init_required: bool = False


def any_of(organisations: Sequence[Organisation], count: int) -> str:
    """The policy that any ``count`` of these organisations' peers endorse."""
    return f"OutOf({count}, {', '.join(repr(f'{each.id}.peer') for each in organisations)})"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A contract and who runs it.

    Attributes:
        definition: what all agree on.
        packages: MSP id -> package file of the organisations that run a server of it.
    """

    definition: Definition
    packages: Mapping[str, Path]


def deploy(commands: Commands, profile: Profile, deployments: Sequence[Deployment]) -> None:
    """Install, approve and commit contracts for all organisations whose admin is in the profile, side by side.

    Raises:
        FabricProblem: a step was refused.
        ConfigError: the profile lacks what is needed.
    """
    acting = [each.organisation for each in profile.identities if each.name == ADMIN and each.msp]
    _side_by_side(
        (
            _start_install(commands, environment, package),
            partial(install, commands, profile, organisation, package),
        )
        for deployment in deployments
        for organisation, package in deployment.packages.items()
        for environment in _peers(profile, organisation)
    )
    identifiers = {
        path: package_id(path.read_bytes()) for deployment in deployments for path in deployment.packages.values()
    }

    def approval(organisation: str, deployment: Deployment) -> _Step:
        path = deployment.packages.get(organisation)
        identifier = identifiers[path] if path else ""
        arguments = _definition(profile, deployment.definition, identifier)
        return (
            _start_submit(commands, profile, organisation, "approveformyorg", arguments, _orderers(profile)[0]),
            partial(approve, commands, profile, organisation, deployment.definition, identifier),
        )

    def commitment(deployment: Deployment) -> _Step:
        arguments = _definition(profile, deployment.definition) + _endorsers(profile, acting)
        return (
            _start_submit(commands, profile, acting[0], "commit", arguments, _orderers(profile)[0]),
            partial(commit, commands, profile, acting[0], deployment.definition),
        )

    in_force = committed(commands, profile, acting[0])
    missing = [
        each
        for each in deployments
        if in_force.get(each.definition.name) != (each.definition.sequence, each.definition.version)
    ]
    _side_by_side(approval(organisation, each) for each in missing for organisation in acting)
    _side_by_side(commitment(each) for each in missing)


def install(commands: Commands, profile: Profile, organisation: str, package: Path) -> None:
    """Install a package on all peers of an organisation.

    Raises:
        CommandFailed: a peer refused it or does not answer.
        ConfigError: the profile lacks what is needed.
    """
    for environment in _peers(profile, organisation):
        try:
            wait(_start_install(commands, environment, package), "peer lifecycle chaincode install")
        except CommandFailed as error:
            if _INSTALLED not in error.said:
                raise


def installed(commands: Commands, profile: Profile, organisation: str) -> list[str]:
    """Ids of the packages on an organisation's first peer."""
    said = commands.run(
        *("peer", "lifecycle", "chaincode", "queryinstalled", "--output", "json"),
        env=_peers(profile, organisation)[0],
    )
    return [each["package_id"] for each in _json(said).get("installed_chaincodes", [])]


def approve(commands: Commands, profile: Profile, organisation: str, definition: Definition, identifier: str) -> None:
    """Approve a definition for an organisation; ``identifier`` of its package, empty where it runs no server.

    Raises:
        CommandFailed: it was refused.
    """
    try:
        _submit(commands, profile, organisation, "approveformyorg", _definition(profile, definition, identifier))
    except CommandFailed as error:
        if not _APPROVED.search(error.said) or "different parameters" in error.said:
            raise


def commit(commands: Commands, profile: Profile, organisation: str, definition: Definition) -> None:
    """Commit a definition that a majority approved, endorsed by one peer of each organisation that did.

    Raises:
        FabricProblem: organisations that did not approve are named.
        CommandFailed: it was refused.
    """
    in_force = committed(commands, profile, organisation).get(definition.name)
    if in_force == (definition.sequence, definition.version):
        return
    approvals = readiness(commands, profile, organisation, definition)
    if 2 * sum(approvals.values()) <= len(approvals):
        missing = ", ".join(name for name, approved in approvals.items() if not approved)
        raise FabricProblem(
            f"{definition.name}, sequence {definition.sequence}: {sum(approvals.values())} of {len(approvals)}"
            f" organisations approved this definition, a majority has to; not yet: {missing}",
            "aigeco-peer contract approve, with exactly the same options, for one of them",
        )
    arguments = _definition(profile, definition)
    arguments += _endorsers(profile, [name for name, approved in approvals.items() if approved])
    _submit(commands, profile, organisation, "commit", arguments)


def readiness(commands: Commands, profile: Profile, organisation: str, definition: Definition) -> dict[str, bool]:
    """Organisation -> whether it approved exactly this definition."""
    said = commands.run(
        *("peer", "lifecycle", "chaincode", "checkcommitreadiness", "--output", "json"),
        *_definition(profile, definition),
        env=_peers(profile, organisation)[0],
    )
    return dict(_json(said)["approvals"])


def committed(commands: Commands, profile: Profile, organisation: str) -> dict[str, tuple[int, str]]:
    """Contract -> sequence and version of the definition in force, as an organisation's first peer knows it."""
    said = commands.run(
        *("peer", "lifecycle", "chaincode", "querycommitted", "--output", "json"),
        *("--channelID", profile.channel),
        env=_peers(profile, organisation)[0],
    )
    found = _json(said).get("chaincode_definitions", [])
    return {each["name"]: (int(each["sequence"]), each["version"]) for each in found}


def merged(ours: Definition, wanted: Definition) -> Definition:
    """What is wanted, and where it does not say, what ours says."""
    return replace(wanted, policy=wanted.policy or ours.policy, collections=wanted.collections or ours.collections)


def check_higher(commands: Commands, profile: Profile, organisation: str, definition: Definition) -> None:
    """A definition that takes the place of the one in force has the next sequence.

    Raises:
        WrongArgument: there is none in force, or this is not the next one.
    """
    in_force = committed(commands, profile, organisation).get(definition.name)
    if in_force is None:
        known = "aigeco-peer contract approve and commit, for the first definition"
        raise WrongArgument(f"{definition.name} is not on channel {profile.channel}", known)
    sequence, version = in_force
    if definition.sequence != sequence + 1:
        words = f"{definition.name}: sequence {sequence}, version {version}, is in force"
        raise WrongArgument(f"{words}: {definition.sequence} is not the next one", f"--sequence {sequence + 1}")


def _definition(profile: Profile, definition: Definition, identifier: str = "") -> list[str]:
    arguments = [
        *("--channelID", profile.channel),
        *("--name", definition.name),
        *("--version", definition.version),
        *("--sequence", str(definition.sequence)),
    ]
    if identifier:
        arguments += ["--package-id", identifier]
    if definition.policy:
        arguments += ["--signature-policy", definition.policy]
    if definition.collections:
        arguments += ["--collections-config", str(definition.collections)]
    return [*arguments, *(["--init-required"] if definition.init_required else [])]


def _endorsers(profile: Profile, organisations: Collection[str]) -> list[str]:
    """One peer of each of these organisations that the profile has one of."""
    arguments = []
    for each in profile.organisations:
        for peer in [peer for peer in profile.peers if peer.organisation == each.id and each.id in organisations][:1]:
            arguments += ["--peerAddresses", peer.address, "--tlsRootCertFiles", str(each.tls_ca)]
    return arguments


def _submit(commands: Commands, profile: Profile, organisation: str, step: str, arguments: Sequence[str]) -> None:
    """Through the first orderer that takes it; a refusal by the peers is one whichever orderer is asked."""
    for orderer in _orderers(profile):
        started = _start_submit(commands, profile, organisation, step, arguments, orderer)
        try:
            wait(started, f"peer lifecycle chaincode {step}")
            return
        except CommandFailed as error:
            if orderer is profile.orderers[-1] or not any(words in error.said for words in _ORDERER_AWAY):
                raise


def _start_submit(
    commands: Commands, profile: Profile, organisation: str, step: str, arguments: Sequence[str], orderer: Orderer
) -> subprocess.Popen[str]:
    environment = _peers(profile, organisation)[0]
    admin = profile.identity(organisation, ADMIN)
    ordering = ["--orderer", orderer.address, "--tls"]
    ordering += ["--cafile", str(profile.organisation(orderer.organisation).tls_ca)]
    if orderer.tls_name:
        ordering += ["--ordererTLSHostnameOverride", orderer.tls_name]
    if admin.tls_certificate and admin.tls_key:
        ordering += ["--clientauth", "--certfile", str(admin.tls_certificate), "--keyfile", str(admin.tls_key)]
    return commands.start("peer", "lifecycle", "chaincode", step, *ordering, *arguments, env=environment)


def _start_install(commands: Commands, environment: dict[str, str], package: Path) -> subprocess.Popen[str]:
    return commands.start("peer", "lifecycle", "chaincode", "install", str(package), env=environment)


def _side_by_side(steps: Iterable[_Step]) -> None:
    """Let all run at once; what failed is done again alone, which knows better what a failure means."""
    for process, again in list(steps):
        try:
            wait(process, "")
        except CommandFailed:
            again()


def _orderers(profile: Profile) -> tuple[Orderer, ...]:
    if not profile.orderers:
        advice = "[[orderers]] with name, organisation and address"
        raise ConfigError(profile.path, [Problem("orderers", "", "is empty; an orderer is needed", advice)])
    return profile.orderers


def _peers(profile: Profile, organisation: str) -> list[dict[str, str]]:
    admin = profile.identity(organisation, ADMIN)
    if admin.msp is None:
        advice = 'msp = "FOLDER", the MSP folder of an admin of the organisation'
        words = f"identity {ADMIN} of {organisation} has no MSP folder, which Fabric's commands need"
        raise ConfigError(profile.path, [Problem("identities.msp", "", words, advice)])
    known = profile.organisation(organisation)
    return [client_environment(peer, known, admin) for peer in profile.peers_of(organisation)]


def _json(said: str) -> dict[str, Any]:
    """The JSON object in what a command wrote; its log may stand before it."""
    found = json.loads(said[said.index("{") :])
    assert isinstance(found, dict)
    return found
