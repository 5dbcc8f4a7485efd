"""Everything a contract can do, on a real network: four organisations, two of which run it and both have to endorse."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.fabric.errors import GatewayError, RefusedByContract
from ledger.fabric.gateway import ClientTls, Gateway, connect
from ledger.fabric.shim import Server, Tls
from ledger.fabric.stub import Identity
from signer.keys import open_key
from tests.ledger.fabric import kitchen
from tests.ledger.fabric.fakepeer import Collection

if TYPE_CHECKING:
    from ledger.fabric.commands import Commands
    from ledger.fabric.profile import Profile

pytestmark = pytest.mark.fabric


class Served:
    """A contract's server, which can be started again at its place."""

    def __init__(self, *how: Any) -> None:
        self.how = how
        self._start()

    def _start(self) -> None:
        self.server = Server(*self.how)
        self.server.start()

    def restart(self) -> None:
        self.server.stop()
        self._start()

    def streams(self) -> list[str]:
        return [stream.peer for stream in self.server.health()]


class OnNetwork:
    def __init__(self, profile: Profile, gateway: Gateway, servers: list[Served]) -> None:
        self.channel = profile.channel
        self.servers = servers
        self.contract = gateway.network(profile.channel).contract("kitchen")

    def run(self, step: kitchen.Step) -> str:
        call = self.contract.submit if step.commit else self.contract.evaluate
        try:
            return call(step.function, *step.arguments, transient=step.transient).decode()
        except RefusedByContract as refused:
            return f"{refused.status} {refused.reason}: {refused.words}"
        except GatewayError as error:
            said = re.search(r"chaincode response (500), (\w+)", " ".join(detail.message for detail in error.details))
            if said is None:
                raise
            return " ".join(said.groups())

    def event(self, function: str) -> tuple[str, bytes] | None:
        transaction = self.contract.new_proposal(function).endorse()
        transaction.submit().wait()
        return transaction.content.event

    def two_at_once(self, function: str) -> list[str]:
        endorsed = [self.contract.new_proposal(function).endorse() for _ in range(2)]
        return [commit.status().code for commit in [transaction.submit() for transaction in endorsed]]


@pytest.fixture(scope="module")
def network(
    fabric_commands: Commands, fabric_network: Profile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnNetwork]:
    folder = tmp_path_factory.mktemp("kitchen")
    servers: list[Served] = []
    try:
        for name in ("kitchen", "helper"):
            deploy(fabric_commands, fabric_network, name, folder, servers)
        with _opened(fabric_network) as gateway:
            yield OnNetwork(fabric_network, gateway, servers)
    finally:
        for served in servers:
            served.server.stop(1.0)


def deploy(commands: Commands, profile: Profile, name: str, folder: Path, servers: list[Served]) -> None:
    """The contract served by two organisations, which both have to endorse it; a third approves it."""
    from ledger.fabric import lifecycle, package

    runs, approves = profile.organisations[:2], profile.organisations[:3]
    collections = folder / f"{name}.json"
    members = kitchen.collections(*(each.id for each in runs), other=profile.organisations[3].id)
    collections.write_text(json.dumps([_collection(*item) for item in members.items()]))
    definition = lifecycle.Definition(name, policy=lifecycle.any_of(runs, 2), collections=collections)
    packages = {}
    for organisation in runs:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        content = package.package(name, package.Server(address, organisation.tls_ca.read_text(), True))
        file = folder / f"{name}-{organisation.id}.tar.gz"
        file.write_bytes(content)
        packages[organisation.id] = package.package_id(content)
        assert organisation.contract_tls is not None
        own = (organisation.contract_tls / "key.pem", organisation.contract_tls / "cert.pem")
        # The peer of each organisation comes with its own TLS certificate.
        servers.append(Served(packages[organisation.id], kitchen.invoke, address, Tls(*own, organisation.tls_ca)))
        lifecycle.install(commands, profile, organisation.id, file)
    for organisation in approves:
        lifecycle.approve(commands, profile, organisation.id, definition, packages.get(organisation.id, ""))
    lifecycle.commit(commands, profile, runs[0].id, definition)


def _collection(name: str, definition: Collection) -> dict[str, object]:
    """As the lifecycle wants it."""
    return {
        "name": name,
        "policy": f"OR({', '.join(repr(f'{member}.member') for member in definition.members)})",
        "requiredPeerCount": 0,
        "maxPeerCount": 3,
        "blockToLive": definition.block_to_live,
        "memberOnlyRead": definition.member_only_read,
        "memberOnlyWrite": definition.member_only_write,
    }


@contextmanager
def _opened(profile: Profile) -> Iterator[Gateway]:
    """A client of the first organisation, once the contracts can be endorsed."""
    organisation = profile.organisations[0]
    who = profile.identity(organisation.id, "operator")
    peer = profile.peers_of(organisation.id)[0]
    tls = ClientTls(organisation.tls_ca, who.tls_key, who.tls_certificate)
    identity = Identity(organisation.id, who.certificate.read_bytes())
    with Gateway(connect(peer.address, tls), identity, open_key(who.key, profile.folder)) as gateway:
        for name in ("kitchen", "helper"):
            contract = gateway.network(profile.channel).contract(name)
            deadline = time.monotonic() + 60
            while True:
                try:
                    contract.new_proposal("Call").endorse()
                    break
                except GatewayError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
        yield gateway


def test_everything_a_contract_can_do(network: OnNetwork) -> None:
    kitchen.check_everything(network)


def test_many_at_once(network: OnNetwork) -> None:
    kitchen.check_many_at_once(network)


def test_a_server_that_is_started_again_is_found_by_its_peer(network: OnNetwork) -> None:
    for server in network.servers:
        server.restart()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert network.run(kitchen.Step("Never", None)) == "None"
            break
        except GatewayError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.soak
def test_a_stream_lives_through_silence(network: OnNetwork) -> None:
    """A peer pings each minute; with gRPC's defaults it would be dropped after the third."""
    before = [server.streams() for server in network.servers]
    time.sleep(250)
    assert [server.streams() for server in network.servers] == before
    assert network.run(kitchen.Step("Never", None)) == "None"
