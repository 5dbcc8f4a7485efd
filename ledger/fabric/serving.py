"""An organisation's contracts, served from one process: each at its address, under the id of its package.

Rules
- The id is computed from what the package says, as ``aigeco-peer contract package`` writes it: a server whose address
  or authority changed is another package, and its peer does not take it for the old one.
- A contract that cannot be served ends the process with its reason: half an organisation is no endorser.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ledger import garbage
from ledger.config import ConfigError, Problem
from ledger.contracts import CONTRACTS
from ledger.fabric.connection import server_tls
from ledger.fabric.contracts import handler
from ledger.fabric.definitions import collections, policy, run_by
from ledger.fabric.lifecycle import Definition, Deployment
from ledger.fabric.package import Server, package, package_id
from ledger.fabric.profile import Organisation, Profile
from ledger.fabric.shim import Server as Shim


def content(profile: Profile, organisation: Organisation, name: str) -> bytes:
    """The package of one of our contracts for an organisation.

    Raises:
        ConfigError: the profile does not say where it is served.
    """
    return package(name, Server(_address(profile, organisation, name), _root(organisation), bool(_root(organisation))))


def serve(
    profile: Profile,
    organisation: Organisation,
    names: Sequence[str],
    stop: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Serve these contracts until ``stop`` is set; transactions under way are finished.

    Raises:
        ConfigError: the profile lacks what is needed.
        OSError: a port or a file cannot be used.
    """
    garbage.spare()
    with ExitStack() as stack:
        for name in names:
            identifier = package_id(content(profile, organisation, name))
            address = _address(profile, organisation, name)
            shim = Shim(identifier, handler(CONTRACTS[name]), address, server_tls(organisation))
            shim.start()
            stack.callback(shim.stop)
            say(f"serving {name} of {organisation.id} at {address}")
        stop.wait()


def moved(profile: Profile, name: str, addresses: Mapping[str, str]) -> Profile:
    """The profile with a contract served at other addresses, by MSP id."""
    organisations = tuple(
        replace(each, contracts={**each.contracts, name: addresses[each.id]}) if each.id in addresses else each
        for each in profile.organisations
    )
    return replace(profile, organisations=organisations)


def deployments(
    profile: Profile, folder: Path, readings_blocks: int = 0, names: Collection[str] = tuple(CONTRACTS)
) -> list[Deployment]:
    """Our contracts for :func:`ledger.fabric.lifecycle.deploy`; what it reads is written to ``folder``.

    Args:
        names: these only.

    Raises:
        ConfigError: the profile does not say where a contract is served.
    """
    folder.mkdir(exist_ok=True)
    found = []
    for name, contract in CONTRACTS.items():
        if name not in names:
            continue
        packages = {}
        for organisation in profile.organisations:
            if name in run_by(organisation.roles):
                path = packages[organisation.id] = folder / f"{name}-{organisation.id}.tar.gz"
                path.write_bytes(content(profile, organisation, name))
        private = collections(contract, profile.organisations, readings_blocks)
        definition = Definition(name, policy=policy(contract, profile.organisations), collections=None)
        if private:
            path = folder / f"{name}-collections.json"
            path.write_text(private)
            definition = Definition(name, policy=definition.policy, collections=path)
        found.append(Deployment(definition, packages))
    return found


def _root(organisation: Organisation) -> str:
    return organisation.tls_ca.read_text() if organisation.contract_tls is not None else ""


def _address(profile: Profile, organisation: Organisation, name: str) -> str:
    address = organisation.contracts.get(name)
    if not address:
        words = f"where {organisation.id} serves {name} is not said"
        raise ConfigError(profile.path, [Problem("organisations.contracts", name, words, f"{name} = HOST:PORT")])
    return address
