"""Exactly once, whatever dies: every retry against a Gateway with the real one's behaviour, on a clock of the test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from ledger.fabric import errors
from ledger.fabric.gateway import Contract, Deadlines, Gateway, Transaction, connect
from ledger.fabric.once import Committed, commit_once
from ledger.fabric.stub import Refused, Stub
from tests.ledger.fabric.fakegateway import FakeGateway, Fault, gateway_over, member

DIAL = [("orderer0:7050", "OrdererMSP", "rpc error: code = Unavailable")]
# Where something never comes; elsewhere a busy machine has all the time it needs.
HASTY = Deadlines(status_s=0.15)


class Killed(BaseException):
    """This process dies here."""


def invoke(stub: Stub) -> bytes:
    """Counts how often it was committed."""
    if stub.function == b"refuse":
        raise Refused("out of order", "the ledger has 7")
    count = int(stub.get("count") or b"0") + 1
    stub.put("count", b"%d" % count)
    return b"%d" % count


@dataclass
class World:
    """A ledger, a client, and a place that no crash reaches."""

    gateway: FakeGateway
    contract: Contract
    hasty: Contract
    kept: list[bytes] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    now: float = 0.0
    meanwhile: list[Callable[[], object]] = field(default_factory=list)

    def run(
        self, *, function: str = "count", kept: Transaction | None = None, hasty: bool = False, **how: object
    ) -> Committed:
        contract = self.hasty if hasty else self.contract
        settings: dict[str, object] = {"patience_s": 30.0, **how}
        return commit_once(
            lambda: contract.new_proposal(function),
            self.kept.append,
            kept=kept,
            clock=lambda: self.now,
            pause=self.pause,
            **settings,  # type: ignore[arg-type]
        )

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()

    def count(self) -> int:
        cell = self.gateway.peer.world["tried"].public.get("count")
        return int(cell.value) if cell else 0

    def valid(self) -> int:
        return sum(code == "VALID" for code, _ in self.gateway.codes.values())


@pytest.fixture(params=["raft", "bft"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    who = member("Org1MSP", "alice")
    with gateway_over(invoke, consensus=request.param) as (fake, address):
        channel = connect(address, None)
        patient, hasty = (
            Gateway(channel, who.identity, who.key, deadlines=deadlines).network("energy").contract("tried")
            for deadlines in (Deadlines(), HASTY)
        )
        yield World(fake, patient, hasty)
        channel.close()


def test_when_nothing_happens_it_is_one_of_each(world: World) -> None:
    done = world.run()
    assert (done.block, done.result, world.count()) == (1, b"1", 1)
    assert world.gateway.calls == ["Endorse", "Submit", "CommitStatus"]
    assert (world.kept, world.paused) == (world.gateway.submitted, [])


LOST: list[tuple[str, Fault]] = [
    ("submitted, the answer lost", Fault("Submit", "UNAVAILABLE", "Socket closed", done=True)),
    ("not submitted, the peer gone", Fault("Submit", "UNAVAILABLE", "Socket closed")),
    ("no orderer", Fault("Submit", "UNAVAILABLE", "no orderers could successfully process transaction", DIAL)),
    ("the deadline of submit, ordered", Fault("Submit", "DEADLINE_EXCEEDED", done=True)),
    ("the deadline of submit, not ordered", Fault("Submit", "DEADLINE_EXCEEDED")),
    ("what nobody thought of, ordered", Fault("Submit", "INTERNAL", done=True)),
    ("what nobody thought of, not ordered", Fault("Submit", "DATA_LOSS")),
    ("the status lost", Fault("CommitStatus", "UNAVAILABLE", "Socket closed")),
    ("the status refused for now", Fault("CommitStatus", "ABORTED", "unexpected close")),
]


@pytest.mark.parametrize("fault", [fault for _, fault in LOST], ids=[name for name, _ in LOST])
def test_an_unknown_outcome_ends_in_one_envelope_committed_once(world: World, fault: Fault) -> None:
    world.gateway.faults.append(Fault(**vars(fault)))
    done = world.run(hasty=not fault.done and fault.on == "Submit")
    assert (done.result, world.count(), world.valid()) == (b"1", 1, 1)
    assert len(world.kept) == 1
    assert set(world.gateway.submitted) == set(world.kept)  # the same bytes, however often
    assert world.gateway.calls.count("Endorse") == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("Endorse", "UNAVAILABLE", "Socket closed"),
        Fault("Endorse", "FAILED_PRECONDITION", "no combination of peers can be derived"),
        Fault("Endorse", "ABORTED", "failed to collect", [("peer0:7051", "Org2MSP", "Payloads do not match")]),
        Fault("Endorse", "DEADLINE_EXCEEDED"),
        Fault("commit", "MVCC_READ_CONFLICT"),
        Fault("commit", "PHANTOM_READ_CONFLICT"),
    ],
    ids=lambda fault: f"{fault.on}-{fault.code}",
)
def test_what_a_new_endorsement_helps_gets_one_after_a_pause(world: World, fault: Fault) -> None:
    world.gateway.faults += [Fault(**vars(fault)), Fault(**vars(fault))]
    assert world.run().result == b"1"
    assert (world.count(), world.valid()) == (1, 1)
    assert world.gateway.calls.count("Endorse") == 3
    assert world.paused == [0.1, 0.2]
    assert world.kept[-1] == world.gateway.submitted[-1]


def test_a_true_conflict_is_endorsed_anew_from_what_is_committed_now(world: World) -> None:
    rival = world.contract.new_proposal("count").endorse()
    world.gateway.faults.append(Fault("Endorse"))
    keep = world.kept.append

    def overtaken(envelope: bytes) -> None:
        keep(envelope)
        if len(world.kept) == 1:
            rival.submit().wait()

    done = commit_once(
        lambda: world.contract.new_proposal("count"), overtaken, clock=lambda: world.now, pause=world.pause
    )
    assert (done.result, world.count()) == (b"2", 2)
    assert len(set(world.kept)) == 2


@pytest.mark.parametrize(
    ("function", "fault", "kind"),
    [
        ("refuse", None, errors.RefusedByContract),
        ("count", Fault("commit", "ENDORSEMENT_POLICY_FAILURE"), errors.Invalid),
        ("count", Fault("Submit", "ABORTED", "... from orderer: status=FORBIDDEN, info=x"), errors.NotOrdered),
        ("count", Fault("Endorse", "INVALID_ARGUMENT"), errors.BadRequest),
        ("count", Fault("prepare", tamper=lambda payload: payload[:-1]), errors.NotAsProposed),
    ],
)
def test_what_waiting_does_not_help_is_raised_at_once(
    world: World, function: str, fault: Fault | None, kind: type[errors.GatewayError]
) -> None:
    world.gateway.faults += [Fault(**vars(fault))] if fault else []
    with pytest.raises(kind):
        world.run(function=function)
    assert (world.count(), world.paused) == (0, [])


def test_an_endorser_that_lags_is_waited_for_if_the_caller_knows(world: World) -> None:
    said = [("peer0.Org2MSP:7051", "Org2MSP", "chaincode response 400, out of order: the ledger has 3")]
    lagging = Fault("Endorse", "ABORTED", "failed to collect enough transaction endorsements", said)
    world.gateway.faults += [Fault(**vars(lagging)) for _ in range(3)]
    known = 7
    done = world.run(lags=lambda refused: refused.reason == "out of order" and int(refused.words.split()[-1]) < known)
    assert (done.result, world.gateway.calls.count("Endorse")) == (b"1", 4)
    world.gateway.faults.append(Fault(**vars(lagging)))
    with pytest.raises(errors.RefusedByContract):
        world.run(lags=lambda refused: int(refused.words.split()[-1]) < 3)


def test_pauses_grow_to_a_second_and_end_with_the_patience(world: World) -> None:
    world.gateway.faults += [Fault("Endorse", "UNAVAILABLE") for _ in range(99)]
    with pytest.raises(errors.Unavailable):
        world.run(patience_s=5.0)
    assert world.paused == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert (world.count(), world.kept) == (0, [])


def test_after_the_patience_the_kept_envelope_is_still_the_only_one(world: World) -> None:
    world.gateway.hold = True
    with pytest.raises(errors.OutcomeUnknown):
        world.run(patience_s=0.1, hasty=True)
    world.gateway.hold = False
    world.gateway.cut()
    done = world.run(kept=world.contract.network.transaction(world.kept[0]))
    assert (done.result, world.count(), len(world.kept)) == (b"1", 1, 1)


def test_a_commit_slower_than_its_deadline_is_asked_for_again(world: World) -> None:
    world.gateway.hold = True
    world.meanwhile.append(world.gateway.cut)
    done = world.run(hasty=True)
    world.gateway.cut()  # behind Raft a copy is in the pool
    assert (done.result, world.count(), world.valid()) == (b"1", 1, 1)
    assert len(world.kept) == 1


def test_a_copy_in_the_same_block_counts_once(world: World) -> None:
    world.gateway.hold = True
    transaction = world.contract.new_proposal("count").endorse()
    transaction.submit()
    transaction.submit()
    world.gateway.cut()
    assert world.run(kept=transaction).block == 1
    assert (world.count(), world.valid()) == (1, 1)


POINTS = ["before it is kept", "after it is kept", "after submit", "after commit"]


@pytest.mark.parametrize(("point", "again"), list(itertools.product(POINTS, [False, True])))
def test_this_process_dies_and_its_successor_goes_on(world: World, point: str, again: bool) -> None:
    """`again`: the first attempt of the successor does not get through either."""

    def keep(envelope: bytes) -> None:
        if point == "before it is kept":
            raise Killed
        world.kept.append(envelope)
        if point == "after it is kept":
            raise Killed
        transaction = world.contract.network.transaction(envelope)
        transaction.submit()
        if point == "after commit":
            transaction.commit.wait()
        raise Killed

    world.gateway.hold = point == "after submit"
    with pytest.raises(Killed):
        commit_once(lambda: world.contract.new_proposal("count"), keep)
    world.gateway.hold = False
    world.gateway.cut()
    if again:
        world.gateway.faults += [Fault("CommitStatus", "UNAVAILABLE"), Fault("Submit", "UNAVAILABLE", done=True)]
    # One that was never sent is asked about in vain, for as long as the deadline allows.
    network = world.hasty.network if point == "after it is kept" else world.contract.network
    kept = network.transaction(world.kept[0]) if world.kept else None
    done = world.run(kept=kept)
    assert (done.result, world.count(), world.valid()) == (b"1", 1, 1)
    assert len(set(world.gateway.submitted)) == 1


def test_a_planted_second_envelope_would_be_seen(world: World) -> None:
    """What happens to a client that endorses anew when it only does not know: the test of the tests above."""
    world.gateway.faults.append(Fault("Submit", "UNAVAILABLE", "Socket closed", done=True))
    with pytest.raises(errors.OutcomeUnknown):
        world.contract.submit("count")
    world.contract.submit("count")
    assert (world.count(), world.valid()) == (2, 2)
