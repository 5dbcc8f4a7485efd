"""Calls by people on a network: what is declined, what does not answer, what may have been committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.calling import salted
from ledger.fabric.calling import FabricContracts
from ledger.fabric.commands import FabricProblem
from ledger.fabric.gateway import Deadlines, Gateway, connect
from ledger.fabric.profile import Organisation, Peer, Profile
from ledger.fabric.stub import Refused, Stub
from ledger.rules.world import Declined, Reason
from tests.ledger.fabric.fakegateway import FakeGateway, Fault, gateway_over, member


def invoke(stub: Stub) -> bytes:
    """Counts its calls; some are declined."""
    match stub.function:
        case b"Decline":
            raise Refused("not yet", "the period from 7 ms is open")
        case b"Odd":
            raise Refused("tired", "another time")
    count = int(stub.get("count") or b"0") + 1
    stub.put("count", b"%d" % count)
    return b'{"count":%d,"secrets":%d}' % (count, len(stub.transient))


class World:
    """A fake Gateway, and a client of it."""

    def __init__(self, fake: FakeGateway, address: str, kept: Path) -> None:
        self.fake, self.kept = fake, kept
        peers = (Peer("peer-one", "Org1MSP", address), Peer("peer-two", "Org2MSP", "10.0.0.2:7051"))
        organisations = (Organisation("Org1MSP", kept), Organisation("Org2MSP", kept))
        self._profile = Profile(kept / "network.toml", fake.peer.channel, "BFT", organisations, peers)
        self._channel = address

    def open(self, patience_s: float = 0.3) -> FabricContracts:
        who = member("Org1MSP", "sol")
        deadlines = Deadlines(evaluate_s=5.0, status_s=0.2)
        gateway = Gateway(connect(self._channel, None), who.identity, who.key, deadlines=deadlines)
        return FabricContracts(gateway, self._profile, "Org1MSP", self.kept, patience_s=patience_s)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with gateway_over(invoke, consensus="bft") as (fake, address):
        yield World(fake, address, tmp_path / "calls")


def test_a_call_is_committed_and_leaves_nothing_behind(world: World) -> None:
    contracts = world.open()
    assert contracts.ask("tried", "Count", {}) == b'{"count":1,"secrets":0}'
    assert contracts.call("tried", "Count", {"a": 1}, {"words": b"{}"}) == b'{"count":1,"secrets":1}'
    assert contracts.call("tried", "Count", {"a": 1}) == b'{"count":2,"secrets":0}'
    assert list(world.kept.iterdir()) == []
    contracts.close()


def test_what_the_contract_declines_is_declined_in_its_words(world: World) -> None:
    contracts = world.open()
    for do in (contracts.ask, contracts.call):
        with pytest.raises(Declined, match="not yet: the period from 7 ms is open") as declined:
            do("tried", "Decline", {})
        assert declined.value.reason is Reason.NOT_YET
        with pytest.raises(FabricProblem, match="tired: another time"):
            do("tried", "Odd", {})
    contracts.close()


def test_a_call_whose_outcome_is_unknown_is_asked_about_and_never_done_twice(world: World) -> None:
    world.fake.hold = True
    contracts = world.open()
    with pytest.raises(FabricProblem, match=r"peer-one at .* \(Org1MSP\)") as unknown:
        contracts.call("tried", "Count", {}, {"words": salted({"words": "once"})})
    assert "it asks first what became of this call" in unknown.value.__notes__[0]
    contracts.close()
    (kept,) = world.kept.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600

    world.fake.hold = False
    world.fake.cut()
    again = world.open()
    said = again.call("tried", "Count", {}, {"words": salted({"words": "once"})})  # with another salt
    assert said == b'{"count":1,"secrets":1}'
    assert list(world.kept.iterdir()) == []
    assert [code for code, _ in world.fake.codes.values()] == ["VALID"]
    again.close()


def test_another_call_is_not_taken_for_the_one_that_is_unknown(world: World) -> None:
    world.fake.hold = True
    contracts = world.open()
    with pytest.raises(FabricProblem):
        contracts.call("tried", "Count", {"n": 1}, {"words": b"1"})
    world.fake.hold = False
    # Both are in one block, where the second conflicts: it is endorsed anew.
    assert contracts.call("tried", "Count", {"n": 1}, {"words": b"2"}) == b'{"count":2,"secrets":1}'
    assert len(list(world.kept.iterdir())) == 1
    contracts.close()


def test_a_kept_call_that_is_none_is_said_with_its_file(world: World) -> None:
    world.fake.hold = True
    contracts = world.open()
    with pytest.raises(FabricProblem):
        contracts.call("tried", "Count", {})
    (kept,) = world.kept.iterdir()
    kept.write_bytes(b"torn")
    with pytest.raises(FabricProblem, match=str(kept)):
        contracts.call("tried", "Count", {})
    contracts.close()


def test_who_did_not_answer_is_named_as_in_the_profile(world: World) -> None:
    said = [("10.0.0.2:7051", "Org2MSP", "connection refused"), ("10.0.0.9:7051", "Org9MSP", "connection refused")]
    world.fake.faults += [Fault("Endorse", "ABORTED", "failed", said)] * 9
    contracts = world.open()
    with pytest.raises(FabricProblem) as problem:
        contracts.call("tried", "Count", {})
    assert str(problem.value) == "peer-two (Org2MSP), 10.0.0.9:7051 (Org9MSP): connection refused"
    assert not world.kept.exists() or not list(world.kept.iterdir())
    contracts.close()


def test_a_peer_that_is_away_is_named_with_its_address(world: World) -> None:
    contracts = world.open()
    world.fake.stop()
    try:
        with pytest.raises(FabricProblem, match=r"peer-one at 127\.0\.0\.1:\d+ \(Org1MSP\): evaluate"):
            contracts.ask("tried", "Count", {})
    finally:
        world.fake.start()
        contracts.close()


def test_an_endorser_that_lags_is_given_time_and_a_refusal_by_all_is_one(world: World) -> None:
    said = [("10.0.0.2:7051", "Org2MSP", "chaincode response 400, unknown: group g has no member ana")]
    world.fake.faults += [Fault("Endorse", "ABORTED", "failed", said)] * 2
    contracts = world.open(patience_s=10.0)
    assert contracts.call("tried", "Count", {}) == b'{"count":1,"secrets":0}'
    assert not world.fake.faults
    before = world.fake.calls.count("Endorse")
    with pytest.raises(Declined, match="the period from 7 ms is open"):
        contracts.call("tried", "Decline", {})
    assert world.fake.calls.count("Endorse") == before + 1
    contracts.close()
