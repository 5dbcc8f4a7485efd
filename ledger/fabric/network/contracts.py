"""Our contracts on the network for trying: a server for each organisation, all deployed, the registry founded.

Rules
- What is there already stays: servers that run, definitions in force, a registry that is founded.
- The registry names the organisations with the roles that the profile says; roots of gateways' certificates are for
  whoever tries to add (contract ``registry``, ``SetAuthority``).
"""

from __future__ import annotations

import os
import sys

from ledger.contracts import CONTRACTS
from ledger.fabric import lifecycle
from ledger.fabric.commands import Commands, FabricProblem
from ledger.fabric.connection import open_gateway
from ledger.fabric.errors import GatewayError, RefusedByContract
from ledger.fabric.network.layout import PACKAGES, PARTIES, Layout, Party, contracts_name
from ledger.fabric.network.processes import Service
from ledger.fabric.once import commit_once
from ledger.fabric.profile import Profile
from ledger.fabric.serving import deployments
from ledger.rules import registry
from ledger.rules.record import pack
from ledger.rules.world import Reason

REGISTRAR = "registrar"
"""The client that founds the registry."""


def service(layout: Layout, party: Party) -> Service:
    """The process that serves an organisation's contracts."""
    return Service(contracts_name(party), layout.node(contracts_name(party)))


def services(layout: Layout) -> list[Service]:
    """All of them, those of an upgrade that was broken off among them."""
    between = sorted(path.parent for path in layout.node("").glob("contracts-*-*/pid"))
    return [*(service(layout, party) for party in PARTIES), *(Service(folder.name, folder) for folder in between)]


def start(layout: Layout) -> list[Party]:
    """Start the servers that do not run; whose they are."""
    idle = [party for party in PARTIES if service(layout, party).pid() is None]
    for party in idle:
        _start(layout, party, service(layout, party))
    return idle


def start_beside(layout: Layout, party: Party, name: str, address: str) -> Service:
    """Start another server of one contract, at another address, beside the one that runs."""
    found = Service(f"{contracts_name(party)}-{name}", layout.node(f"{contracts_name(party)}-{name}"))
    _start(layout, party, found, name, "--address", address)
    return found


def _start(layout: Layout, party: Party, found: Service, *more: str) -> None:
    found.folder.mkdir(parents=True, exist_ok=True)
    found.start([sys.executable, "-P", "-m", "ledger.cli.main", *arguments(layout, party), *more], os.environ)


def arguments(layout: Layout, party: Party) -> list[str]:
    """Of ``aigeco-peer``, to serve an organisation's contracts."""
    return ["contract", "serve", "--network", str(layout.folder), "--organisation", party.id]


def deploy(commands: Commands, layout: Layout, profile: Profile) -> None:
    """Put the contracts on the channel that are not there yet, and found the registry.

    Raises:
        FabricProblem: a step was refused, or the peers do not endorse.
    """
    there = lifecycle.committed(commands, profile, profile.organisations[0].id)
    missing = [name for name in CONTRACTS if name not in there]
    lifecycle.deploy(commands, profile, deployments(profile, layout.folder / PACKAGES, names=missing))
    found(profile)


def found(profile: Profile) -> None:
    """Found the registry, if nobody has.

    Raises:
        FabricProblem: the peers do not endorse.
    """
    manager = profile.with_role(registry.MANAGER)[0]
    organisations = {each.id: list(each.roles) for each in profile.organisations}
    arguments = pack({"organisations": organisations})
    try:
        with open_gateway(profile, manager.id, REGISTRAR) as gateway:
            contract = gateway.network(profile.channel).contract(registry.NAME)
            commit_once(lambda: contract.new_proposal("Found", arguments), lambda envelope: None)
    except RefusedByContract as refused:
        if refused.reason != Reason.EXISTS:
            raise
    except GatewayError as error:
        raise FabricProblem(f"the registry could not be founded: {error}", "aigeco-peer network up, again") from error
