"""Our contracts on a real network, as `aigeco-peer network up` puts them there: from a batch to what each may read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.contracts import CONTRACTS
from ledger.fabric.commands import Commands
from ledger.fabric.connection import open_gateway
from ledger.fabric.definitions import collections, policy, run_by
from ledger.fabric.errors import GatewayError, RefusedByContract
from ledger.fabric.network import life
from ledger.fabric.network.layout import PARTIES
from ledger.fabric.once import commit_once
from ledger.fabric.profile import Organisation, Profile
from ledger.rules.record import pack, parse
from tests.fabricnet import running
from tests.ledger.lines import World, der

COMMUNITY, DISTRIBUTOR, AUDITOR, AGGREGATOR = (party.id for party in PARTIES)


def organisations() -> list[Organisation]:
    return [Organisation(party.id, Path(), Path(), party.roles) for party in PARTIES]


def test_who_endorses_and_who_holds_what() -> None:
    everybody = organisations()
    metering = f"'{COMMUNITY}.{{0}}', '{DISTRIBUTOR}.{{0}}', '{AUDITOR}.{{0}}'"
    for name, contract in CONTRACTS.items():
        said = policy(contract, everybody)
        assert said == ("" if name == "registry" else f"OutOf(2, {metering.format('peer')})")
        for collection in parse(collections(contract, everybody, 900).encode() or b"[]"):
            assert collection["policy"] == f"OR({metering.format('member')})"
            assert collection["blockToLive"] == (900 if collection["name"] == "readings" else 0)
            assert collection["memberOnlyRead"] == (name == "measurements")
    assert {collection for contract in CONTRACTS.values() for collection in contract.collections} >= {"readings"}
    assert [run_by(each.roles) for each in everybody] == [tuple(CONTRACTS)] * 3 + [("registry",)]


class Net:
    """A running network, and calls as anybody in it."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def commit(
        self,
        who: tuple[str, str],
        contract: str,
        function: str,
        secret: dict[str, bytes] | None = None,
        **given: object,
    ) -> Any:
        with open_gateway(self.profile, *who) as gateway:
            called = gateway.network(self.profile.channel).contract(contract)
            done = commit_once(lambda: called.new_proposal(function, pack(given), transient=secret), lambda kept: None)
        return parse(done.result)

    def ask(self, who: tuple[str, str], contract: str, function: str, **given: object) -> Any:
        with open_gateway(self.profile, *who) as gateway:
            return parse(gateway.network(self.profile.channel).contract(contract).evaluate(function, pack(given)))


@pytest.fixture(scope="module")
def net(fabric_commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with running(fabric_commands, tmp_path_factory.mktemp("contracts") / "network", bare=False) as profile:
        yield Net(profile)


@pytest.mark.fabric
@pytest.mark.timeout(300)
def test_a_batch_is_committed_once_and_read_by_those_who_may(net: Net) -> None:
    world = World()
    registrar, ingestion = (COMMUNITY, "registrar"), (COMMUNITY, "ingestion")
    for root in world.trust.gateways:
        net.commit(registrar, "registry", "SetAuthority", certificate=der(root).hex())
    net.commit(registrar, "registry", "RegisterGateway", gateway="alpha", owner=COMMUNITY)
    line = world.line("alpha").begin().grow(19)
    first, second = line.batch(0, 10), line.batch(10, 10)
    given: dict[str, Any] = {"contract": "measurements", "function": "SubmitBatch", "gateway": "alpha"}

    done = net.commit(ingestion, **given, secret={"batch": first.data})
    assert (done["outcome"], done["batch"]["root"]) == ("committed", first.root.hex())
    again = net.commit((DISTRIBUTOR, "ingestion"), **given, secret={"batch": first.data})
    assert (again["outcome"], again["batch"]) == ("exists", done["batch"])
    assert net.commit(ingestion, **given, secret={"batch": second.data})["outcome"] == "committed"
    twin = world.line("alpha").begin().grow(3)
    assert net.commit(ingestion, **given, secret={"batch": twin.batch(1, 3).data})["outcome"] == "refused"

    stream = first.stream.hex()
    statements = [said.data.hex() for said in line.statements]
    for who in ((AUDITOR, "auditor"), ingestion):
        page = net.ask(who, "measurements", "Statements", stream=stream)
        assert [data for _, data in page["statements"]] == statements
    for who in ((AGGREGATOR, "operator"), (AGGREGATOR, "aggregator"), (COMMUNITY, "member")):
        with pytest.raises(GatewayError):
            net.ask(who, "measurements", "Statements", stream=stream)
    with pytest.raises(RefusedByContract, match="forbidden"):
        net.commit((COMMUNITY, "operator"), **given, secret={"batch": second.data})
    with pytest.raises(RefusedByContract, match="batch is missing in the transient map"):
        net.commit(ingestion, **given)
    assert {shown.state for shown in life.status(_commands(), net.profile.folder)} == {"up"}


def _commands() -> Commands:
    from ledger.fabric.commands import find

    return find()
