"""Ingestion on a network, with a Gateway of tests: every batch once, the same receipt, whatever dies on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hw_sim.authority import Authority
from ledger.commit import LedgerProblem, Outcome, Receipted, Submission
from ledger.embedded import Issuer
from ledger.fabric.gateway import Deadlines, Gateway, connect
from ledger.fabric.ingestion import FabricIntake, Waits
from ledger.fabric.profile import Organisation, Profile
from ledger.fabric.state import State
from ledger.rules import batches as contract
from ledger.rules import registry
from ledger.rules.measurements import Refused
from ledger.rules.record import unpack
from ledger.rules.world import Caller
from signer import batch as batches
from signer.batch import Batch
from signer.dialogue import RefusalReason
from signer.keys.file import FileKey
from signer.receipt import parse as parse_receipt
from tests.ledger.fabric.fakegateway import FakeGateway, Fault, organisation
from tests.ledger.fabric.world import FabricLedger
from tests.ledger.lines import Line, World, der

PATIENCE_S = 20.0
HOME, OTHER = "Org1MSP", "Org2MSP"
REGISTRAR = Caller(HOME, "ana", {"aigeco.role": "registrar"})
WAITS = Waits(busy=8.0, ahead=0.5, first=1.0, each=0.5)


class Net:
    """Two metering organisations that share one peer, and their ingestion peers."""

    def __init__(self, folder: Path, consensus: str = "raft") -> None:
        self.folder = folder
        self.world = World()
        self.ledger = FabricLedger(
            registry.CONTRACT, contract.CONTRACT, time_ms=int(time.time() * 1000), members=(HOME, OTHER)
        )
        roles = {HOME: ["manager", "metering"], OTHER: ["metering"]}
        roots = [der(root).hex() for root in self.world.trust.gateways]
        self.registry("Found", organisations=roles, authorities=roots)
        for gateway in ("alpha", "beta", "gamma"):
            self.registry("RegisterGateway", gateway=gateway, owner=HOME)
        self.gateway = FakeGateway(self.ledger.peer, {name: organisation(name) for name in roles}, consensus)
        self.port = self.gateway.start()
        listed = tuple(Organisation(name, Path(), roles=tuple(roles[name])) for name in roles)
        self.profile = Profile(folder / "network.toml", self.ledger.peer.channel, "BFT", listed, ())
        self.receipts = {name: Authority(name) for name in roles}
        self.issuers: dict[str, Issuer] = {}
        self.said: list[str] = []
        self._open = ExitStack()

    def registry(self, function: str, **arguments: object) -> None:
        self.ledger.time_ms += 1
        self.ledger.commit("registry", function, arguments, REGISTRAR)

    def peer(self, name: str = HOME, waits: Waits = WAITS) -> Peer:
        """An organisation's ingestion peer; a second one goes on with the file of the first."""
        who = organisation(name).member("ingestion", {"aigeco.role": "ingestion"})
        deadlines = Deadlines(5.0, 5.0, 2.0, 1.0)
        gateway = Gateway(connect(f"127.0.0.1:{self.port}", None), who.identity, who.key, deadlines=deadlines)
        if name not in self.issuers:
            issued = self.receipts[name].receipts()
            self.issuers[name] = Issuer(name, FileKey(issued.key), (der(issued.certificate),))
        state = State(self.folder / f"{name}.db", name, self.profile.channel)
        intake = FabricIntake(
            state, gateway.network(self.profile.channel), self.profile, self.issuers[name], self.said.append, waits
        )
        intake.start()
        made = Peer(intake, state)
        self._open.callback(made.close)
        return made

    def close(self) -> None:
        self._open.close()
        self.gateway.stop()
        self.ledger.close()

    def committed(self) -> list[tuple[int, int]]:
        """First and count of every committed run."""
        public = self.ledger.stores[("measurements", "")]
        runs = [unpack(value) for name, value in public.items() if name.startswith("batch/")]
        return sorted((run["first"], run["count"]) for run in runs)


class Peer:
    """What :mod:`ledger.peer` does with the port."""

    def __init__(self, intake: FabricIntake, state: State) -> None:
        self.intake, self.state = intake, state
        self._number = 0
        self._closed = False
        self.outcomes: dict[int, Outcome] = {}

    def send(self, batch: Batch | bytes, gateway: str = "alpha") -> int:
        parsed, claims = batches.parse(batch if isinstance(batch, bytes) else batch.data)
        self._number += 1
        self.intake.hand_over([(self._number, Submission(gateway, parsed, claims))])
        return self._number

    def answer(self, number: int) -> Any:
        until = time.monotonic() + PATIENCE_S
        while number not in self.outcomes:
            assert time.monotonic() < until, f"no answer; {self.intake.trouble}"
            self.outcomes |= dict(self.intake.answers())
            time.sleep(0.005)
        return self.outcomes[number]

    def commit(self, batch: Batch, gateway: str = "alpha") -> bytes:
        outcome = self.answer(self.send(batch, gateway))
        assert isinstance(outcome, Receipted), outcome
        return outcome.receipt

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.intake.close()


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    made = Net(tmp_path)
    yield made
    made.close()


def wait_until(said: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not said():
        assert time.monotonic() < until
        time.sleep(0.005)


def line_of(net: Net, gateway: str = "alpha", count: int = 20) -> Line:
    return net.world.line(gateway).begin().grow(count - 1)


def test_a_batch_is_receipted_from_what_the_own_peer_has_committed(net: Net) -> None:
    home, other = net.peer(HOME), net.peer(OTHER)
    line = line_of(net)
    first, second = line.batch(0, 10), line.batch(10, 10)
    waiting = other.send(first)
    receipt = parse_receipt(home.commit(first))
    theirs = other.answer(waiting)
    assert isinstance(theirs, Receipted)
    also = parse_receipt(theirs.receipt)
    assert (receipt.organisation, also.organisation) == (HOME, OTHER)
    assert (receipt.root, receipt.block, receipt.transaction) == (also.root, also.block, also.transaction)
    assert (receipt.channel, receipt.first, receipt.count, receipt.head) == ("energy", 0, 10, first.head)
    assert net.gateway.codes[receipt.transaction.hex()] == ("VALID", receipt.block)
    home.commit(second)
    assert parse_receipt(other.commit(second)).first == 10  # it was seen before it came: verified then
    assert net.committed() == [(0, 10), (10, 10)]
    assert len(net.gateway.submitted) == 2
    assert home.state.envelopes() == []


def test_the_same_batch_gets_the_same_receipt_also_after_a_restart(net: Net) -> None:
    home = net.peer()
    batch = line_of(net).batch(0, 20)
    receipt = home.commit(batch)
    assert home.commit(batch) == receipt
    home.close()
    again = net.peer()
    assert again.commit(batch) == receipt
    assert again.state.counts() == (1, 1)
    again.close()
    (net.folder / f"{HOME}.db").unlink()
    anew = parse_receipt(net.peer().commit(batch))  # a lost file: the same commit, another signature
    old = parse_receipt(receipt)
    assert (anew.block, anew.transaction, anew.root) == (old.block, old.transaction, old.root)
    assert net.committed() == [(0, 20)]


def test_another_organisation_steps_in_when_the_home_one_does_not(net: Net) -> None:
    other = net.peer(OTHER)
    receipt = parse_receipt(other.commit(line_of(net).batch(0, 20)))
    assert (receipt.organisation, net.committed()) == (OTHER, [(0, 20)])


def test_refusals_are_those_of_every_ledger(net: Net) -> None:
    home = net.peer()
    line = line_of(net)
    twin = line.clone()
    line.grow(5)
    twin.grow(5)

    def reason(batch: Batch, gateway: str = "alpha") -> tuple[int, int | None]:
        said = home.answer(home.send(batch, gateway))
        assert isinstance(said, Refused)
        assert said.words
        return said.reason, said.seq

    assert reason(line.forged(0, 5, 3)) == (RefusalReason.BAD_SIGNATURE, None)
    assert reason(line.batch(3, 5)) == (RefusalReason.OUT_OF_ORDER, None)
    home.commit(line.batch(0, 10))
    assert reason(line.batch(12, 5)) == (RefusalReason.OUT_OF_ORDER, 9)
    assert reason(line.batch(5, 9)) == (RefusalReason.OUT_OF_ORDER, 9)
    assert reason(line.forged(10, 5, 12)) == (RefusalReason.BAD_SIGNATURE, 9)
    home.commit(line.batch(10, 15))
    assert reason(twin.batch(20, 4)) == (RefusalReason.FORK, 24)
    wait_until(lambda: bool(net.said))
    assert "ALARM: two statements for one place: stream" in net.said[0]
    assert any(name.startswith("fork/") for name in net.ledger.stores[("measurements", "")])
    assert reason(line.batch(0, 10), "beta") == (RefusalReason.NOT_THIS_GATEWAY, None)
    assert reason(net.world.line("nobody").begin().rest(0), "nobody") == (RefusalReason.UNKNOWN_GATEWAY, None)
    assert net.committed() == [(0, 10), (10, 15)]


def test_no_receipt_for_signatures_that_were_not_verified(net: Net) -> None:
    home, other = net.peer(HOME), net.peer(OTHER)
    line = line_of(net)
    home.commit(line.batch(0, 20))
    said = other.answer(other.send(line.forged(0, 20, 7)))  # the same root, and committed
    assert isinstance(said, Refused)
    assert said.reason == RefusalReason.BAD_SIGNATURE
    assert isinstance(other.answer(other.send(line.batch(0, 20))), Receipted)


def test_small_batches_of_several_gateways_go_together(net: Net) -> None:
    home = net.peer()
    gate = threading.Event()
    lines = {name: line_of(net, name) for name in ("alpha", "beta", "gamma")}
    net.gateway.faults += [Fault("Endorse", wait=gate) for _ in range(8)]
    numbers = [home.send(line.batch(0, 10), name) for name, line in lines.items()]
    gate.set()
    assert all(isinstance(home.answer(number), Receipted) for number in numbers)
    for name, line in lines.items():
        assert parse_receipt(home.commit(line.batch(10, 10), name)).count == 10
    assert net.committed() == [(0, 10)] * 3 + [(10, 10)] * 3


FAULTS = [
    [Fault("Endorse", "UNAVAILABLE")],
    [Fault("Endorse", "UNAVAILABLE", done=True)],
    [Fault("Submit", "UNAVAILABLE")],
    [Fault("Submit", "UNAVAILABLE", done=True)],
    [Fault("Submit", "UNAVAILABLE", done=True), Fault("Submit", "UNAVAILABLE", done=True)],
    [Fault("CommitStatus", "UNAVAILABLE")],
    [Fault("commit", "MVCC_READ_CONFLICT")],
    [Fault("Deliver", "UNAVAILABLE", after=0)],
    [Fault("Evaluate", "UNAVAILABLE")],
]


@pytest.mark.parametrize("consensus", ["raft", "bft"])
def test_whatever_fails_a_batch_is_committed_once(tmp_path: Path, consensus: str) -> None:
    net = Net(tmp_path, consensus)
    try:
        home = net.peer()
        line = line_of(net, count=len(FAULTS) + 1)
        home.commit(line.batch(0, 1))
        for number, faults in enumerate(FAULTS, 1):
            net.gateway.faults += [Fault(**vars(fault)) for fault in faults]
            home.commit(line.batch(number, 1))
            net.gateway.faults.clear()
        assert net.committed() == [(number, 1) for number in range(len(FAULTS) + 1)]
        assert home.state.envelopes() == []
        assert home.intake.trouble == ""
    finally:
        net.close()


CRASHES = ["before it is kept", "kept", "submitted", "seen", "receipted"]


@pytest.mark.parametrize("point", CRASHES)
def test_a_crash_at_any_point_gives_one_commit_and_one_receipt(
    net: Net, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = net.peer()
    line = line_of(net)
    home.commit(line.batch(0, 5))
    batch = line.batch(5, 15)

    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("threading.excepthook", lambda *_: None)
        if point == "before it is kept":
            patch.setattr(home.state, "keep", crash)
        elif point in ("kept", "submitted"):
            net.gateway.faults.append(Fault("Submit", "UNAVAILABLE", done=point == "submitted"))
            net.gateway.hold = True
            patch.setattr(home.intake, "_pause", crash)
            patch.setattr("ledger.fabric.gateway.Commit.wait", crash)
        elif point == "seen":
            patch.setattr(home.state, "seen", crash)
        else:
            patch.setattr(home.intake, "_finish", crash)
        home.send(batch)
        with pytest.raises((LedgerProblem, Crash)):
            home.answer(-1)
        home.close()
    net.gateway.hold = False
    net.gateway.cut()
    kept = State(net.folder / f"{HOME}.db", HOME, net.profile.channel)
    assert len(kept.envelopes()) == (point in ("kept", "submitted", "seen"))
    held = kept.run(batch.stream, batch.first)
    kept.close()
    again = net.peer()
    receipt = again.commit(batch)
    assert again.commit(batch) == receipt
    if point == "receipted":
        assert held is not None
        assert held.receipt == receipt
    wait_until(lambda: again.state.envelopes() == [])
    assert net.committed() == [(0, 5), (5, 15)]


def test_what_is_not_committed_in_time_is_answered_with_busy_and_goes_on_by_itself(net: Net) -> None:
    home = net.peer(waits=Waits(busy=0.5, ahead=0.2, first=1.0, each=0.5))
    line = line_of(net)
    home.commit(line.batch(0, 5))
    net.gateway.hold = True
    said = home.answer(home.send(line.batch(5, 5)))
    assert isinstance(said, Refused)
    assert said.reason == RefusalReason.BUSY
    net.gateway.hold = False
    net.gateway.cut()
    wait_until(lambda: net.committed() == [(0, 5), (5, 5)])
    home.commit(line.batch(5, 5))
    home.commit(line.batch(10, 5))
    assert net.committed() == [(0, 5), (5, 5), (10, 5)]
