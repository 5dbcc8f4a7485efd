"""From signed statements to settled, exchanged and certified energy on a real network, two organisations endorsing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from drivers.reading import Reading, exact
from ledger.fabric.contracts import handler
from ledger.fabric.errors import RefusedByContract
from ledger.fabric.gateway import ClientTls, Gateway, connect
from ledger.fabric.stub import Identity
from ledger.rules import batches, exchanges, origin, registry, settlement
from ledger.rules.record import pack, parse
from signer.keys import open_key
from tests.fabricnet import ready, running, served
from tests.ledger.community import QUARTER
from tests.ledger.lines import START_MS, World, der, instant

if TYPE_CHECKING:
    from ledger.fabric.commands import Commands

pytestmark = pytest.mark.fabric

CONTRACTS = (registry.CONTRACT, batches.CONTRACT, settlement.CONTRACT, exchanges.CONTRACT, origin.CONTRACT)
ROLES = {"aigeco.role": "registrar settler ingestion issuer auditor", "aigeco.member": "a"}
FIRST = START_MS - START_MS % QUARTER + QUARTER


class Ledger:
    """Contracts on a channel, called by one person with every role."""

    def __init__(self, gateway: Gateway, channel: str) -> None:
        self.network = gateway.network(channel)

    def do(self, contract: str, function: str, secret: dict[str, bytes] | None = None, **given: object) -> Any:
        return parse(self.network.contract(contract).submit(function, pack(given), transient=secret or {}))

    def ask(self, contract: str, function: str, **given: object) -> Any:
        return parse(self.network.contract(contract).evaluate(function, pack(given)))


@pytest.fixture(scope="module")
def ledger(fabric_commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    from ledger.fabric import lifecycle
    from ledger.fabric.network import life

    folder = tmp_path_factory.mktemp("sharing") / "network"
    with ExitStack() as stack:
        profile = stack.enter_context(running(fabric_commands, folder))
        both = profile.organisations[:2]
        for contract in CONTRACTS:
            file = None
            if contract.collections:
                file = folder / f"{contract.name}.json"
                file.write_text(json.dumps([_collection(name, both) for name in contract.collections]))
            policy = lifecycle.any_of(both, 2)
            definition = lifecycle.Definition(contract.name, policy=policy, collections=file)
            # Three of four are a majority and approve; two hold the private data and endorse.
            stack.enter_context(
                served(
                    fabric_commands,
                    profile,
                    definition,
                    handler(contract),
                    tuple(o.id for o in profile.organisations[:3]),
                )
            )
        who = life.issue(folder, both[0].id, "sol", ROLES)
        tls = ClientTls(both[0].tls_ca, who.tls_key, who.tls_certificate)
        channel = connect(profile.peers_of(both[0].id)[0].address, tls)
        identity = Identity(both[0].id, who.certificate.read_bytes())
        gateway = stack.enter_context(Gateway(channel, identity, open_key(who.key, profile.folder)))
        made = Ledger(gateway, profile.channel)
        ready(lambda: _refused(made))
        yield made


def _collection(name: str, members: Any) -> dict[str, object]:
    policy = f"OR({', '.join(repr(f'{each.id}.member') for each in members)})"
    return {
        "name": name,
        "policy": policy,
        "requiredPeerCount": 0,
        "maxPeerCount": 3,
        "blockToLive": 0,
        "memberOnlyRead": True,
        "memberOnlyWrite": True,
    }


def _refused(ledger: Ledger) -> None:
    """Every contract is there: it refuses a group that is not."""
    for contract in (settlement.NAME, exchanges.NAME, origin.NAME):
        with pytest.raises(RefusedByContract):
            ledger.do(contract, "Nothing")


def test_from_registers_to_guarantees(ledger: Ledger) -> None:
    world = World()
    community = "CommunityMSP"
    organisations = {community: ["manager", "metering"], "DistributorMSP": ["distributor", "metering"]}
    roots = [der(root).hex() for root in world.trust.gateways]
    ledger.do("registry", "Found", organisations=organisations, authorities=roots)
    ledger.do("registry", "RegisterGateway", gateway="alpha", owner=community)
    line = world.line().begin()
    shows = {"roof": (520, (5000, 7345)), "a-home": (264, (70, 470)), "b-home": (264, (90, 1490))}
    for number in range(2):
        for sub, (key, wh) in shows.items():
            at_ms = FIRST + number * QUARTER
            reading = Reading(sub, at_ms, None, ((key, exact(wh[number], 0)),), 40)
            line.statements.append(line.chain.reading(reading, instant(at_ms + 40)))
    ledger.do("measurements", "SubmitBatch", {"batch": line.rest(0).data}, gateway="alpha")

    ledger.do("sharing", "CreateGroup", group="g", zone="peninsula", period_ms=QUARTER)
    for name in ("a", "b"):
        ledger.do("sharing", "SetMember", group="g", member=name, organisation=community)
    for sub in shows:
        kind = {"kind": "generation"} if sub == "roof" else {"kind": "consumption", "member": sub[0]}
        ledger.do("sharing", "AddPoint", group="g", point=sub, gateway="alpha", sub=sub, from_ms=FIRST, **kind)
    parts = pack({"members": {"a": 700_000, "b": 300_000}, "salt": bytes(16).hex()})
    ledger.do("sharing", "Agree", {"coefficients": parts}, group="g", from_ms=FIRST, kind="fixed")
    run = ledger.do("sharing", "Settle", group="g", first_ms=FIRST, count=1)
    assert run["periods"] == {"settled": 1, "provisional": 0, "open": 0}
    assert ledger.do("sharing", "Settle", group="g", first_ms=FIRST, count=1) == run
    found = ledger.ask("sharing", "Results", group="g", first_ms=FIRST)["members"]
    assert [found[name]["allotted"] for name in "ab"] == [[1641], [704]]  # 1,641.5 and 703.5: it is b's turn
    assert [found[name]["surplus"] for name in "ab"] == [[1241], [0]]
    ledger.do("exchanges", "Record", group="g", first_ms=FIRST)
    given = ledger.ask("exchanges", "Transfers", group="g", first_ms=FIRST, member="a")["members"]["a"]
    assert given["given"] == [[0, "b", 696, None]]
    ledger.do(
        "origin",
        "RegisterDevice",
        device="pv",
        gateway="alpha",
        sub="roof",
        organisation=community,
        member="a",
        from_ms=FIRST,
    )
    assert ledger.do("origin", "Issue", device="pv", until_ms=FIRST + QUARTER)["count"] == 2
    ledger.do("origin", "Retire", device="pv", first=1, count=1, **{"for": "a"})
    assert [lot["state"] for lot in ledger.ask("origin", "Lots", device="pv")] == ["retired", "held"]
