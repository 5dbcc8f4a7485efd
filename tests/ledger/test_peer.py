"""The ingestion peer as a real process: mosquitto in the middle, SIGKILL at any moment, bad messages among the good."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.embedded import LedgerFile
from signer import batch as batches
from signer.dialogue import Hello, Refusal, RefusalReason
from signer.receipt import Receipt
from tests.broker import Broker
from tests.ledger.lines import Line
from tests.ledger.peers import PATIENCE_S, PeerSite, cut, line_of, uplink_of
from uplink import topics
from uplink.delivery import MqttUplink, Refused
from uplink.errors import NobodyListens, Unreachable
from uplink.mqtt import Connection, Message

Make = Callable[..., PeerSite]


@pytest.fixture
def make(tmp_path: Path, broker: Broker) -> Iterator[Make]:
    sites: list[PeerSite] = []

    def made(organisation: str = "Org1MSP", gateways: tuple[str, ...] = ("alpha", "beta")) -> PeerSite:
        site = PeerSite(tmp_path / organisation, broker, organisation)
        sites.append(site)
        for gateway in gateways:
            site.run("gateways", "add", gateway)
        return site

    yield made
    for site in sites:
        site.close()


def ready(broker: Broker, gateway: str, count: int) -> Line:
    return line_of(broker, gateway).begin().grow(count - 1)


def test_a_backlog_gets_receipts_of_both_organisations(broker: Broker, make: Make) -> None:
    sites = [make("Org1MSP"), make("Org2MSP")]
    for site in sites:
        site.serve()
    alarms: list[str] = []
    uplink = uplink_of(broker, "alpha", broker.organisations, alarms)
    line = ready(broker, "alpha", 60)
    for batch in cut(line, [1, 9, 20, 30]):
        receipts = uplink.deliver(batch, PATIENCE_S)
        assert {receipt.organisation for receipt in receipts} == {"Org1MSP", "Org2MSP"}
        assert {receipt.root for receipt in receipts} == {batch.root}
    uplink.close()
    assert not alarms
    for site in sites:
        (stream,) = site.show("streams")
        assert (stream["gateway"], stream["seq"], stream["head"]) == ("alpha", 59, line.statements[-1].sid.hex())
        assert [(row["first"], row["count"]) for row in site.show("batches")] == [(0, 1), (1, 9), (10, 20), (30, 30)]


def test_heads_tell_where_the_ledgers_stand(broker: Broker, make: Make) -> None:
    make("Org1MSP").serve()
    alarms: list[str] = []
    one = {"Org1MSP": broker.organisations["Org1MSP"]}
    line = ready(broker, "alpha", 5)
    batch = line.batch(0, 3)
    uplink = uplink_of(broker, "alpha", one, alarms)
    hello = Hello(batch.stream, 4, line.statements[4].sid, bytes(range(16)))
    (head,) = uplink.heads(hello, PATIENCE_S)
    assert (head.seq, head.sid) == (None, None)
    uplink.deliver(batch, PATIENCE_S)
    (head,) = uplink.heads(hello, PATIENCE_S)
    assert (head.seq, head.sid) == (2, line.statements[2].sid)
    # another gateway learns nothing of this stream
    other = uplink_of(broker, "beta", one, alarms)
    assert other.heads(hello, PATIENCE_S) == ()
    assert [(name, said.words) for name, said in other.refusals()] == [
        ("Org1MSP", "the stream is not one of gateway beta")
    ]
    other.close()
    uplink.close()
    assert alarms == []


def test_each_refusal_reaches_the_gateway_and_the_rest_is_served(broker: Broker, make: Make) -> None:
    site = make("Org1MSP", ("alpha",))
    site.serve()
    one = {"Org1MSP": broker.organisations["Org1MSP"]}
    alarms: list[str] = []
    alpha, beta = uplink_of(broker, "alpha", one, alarms), uplink_of(broker, "beta", one, alarms)
    line, stranger = ready(broker, "alpha", 9), ready(broker, "beta", 2)
    twin = line.clone()

    def reason(uplink: object, batch: batches.Batch) -> tuple[int, int | None]:
        with pytest.raises(Refused) as caught:
            (alpha if uplink == "alpha" else beta).deliver(batch, PATIENCE_S)
        ((organisation, refusal),) = caught.value.refusals
        assert organisation == "Org1MSP"
        assert refusal.words
        return refusal.reason, refusal.seq

    assert reason("alpha", line.batch(1, 2)) == (RefusalReason.OUT_OF_ORDER, None)
    alpha.deliver(line.batch(0, 9), PATIENCE_S)
    line.grow(3)
    twin.grow(3)
    alpha.deliver(line.batch(9, 2), PATIENCE_S)
    assert reason("alpha", line.batch(9, 3)) == (RefusalReason.OUT_OF_ORDER, 10)
    assert reason("alpha", twin.batch(9, 3)) == (RefusalReason.FORK, 10)
    assert reason("alpha", twin.batch(9, 2)) == (RefusalReason.FORK, 10)
    assert reason("alpha", line.forged(11, 1, 11)) == (RefusalReason.BAD_SIGNATURE, 10)
    assert reason("alpha", stranger.batch(0, 2)) == (RefusalReason.NOT_THIS_GATEWAY, None)
    assert reason("beta", stranger.batch(0, 2)) == (RefusalReason.UNKNOWN_GATEWAY, None)
    alpha.deliver(line.batch(11, 1), PATIENCE_S)
    assert len(site.show("forks")) == 1
    assert site.log.read_text().count("ALARM") == 1  # said once, kept for ever
    assert not alarms

    site.run("gateways", "add", "beta")  # while the peer runs
    assert [row["gateway"] for row in site.show("streams")] == ["alpha"]
    beta.deliver(stranger.batch(0, 2), PATIENCE_S)
    site.run("gateways", "revoke", "beta")
    assert reason("beta", stranger.grow(1).batch(2, 1)) == (RefusalReason.UNKNOWN_GATEWAY, None)
    alpha.close()
    beta.close()


def test_bad_bytes_are_refused_and_the_next_message_is_served(broker: Broker, make: Make) -> None:
    make("Org1MSP").serve()
    one = {"Org1MSP": broker.organisations["Org1MSP"]}
    batch = ready(broker, "alpha", 3).batch(0, 3)
    bad = [b"", b"\x00", b"\xff" * 5000, batch.data[:-1], batch.data + b"\x00", os.urandom(2000), b"\x81" * 10_000]
    sender = Connection(broker.gateway("alpha", instance=2))
    sender.open(PATIENCE_S)
    sender.subscribe(topics.gateway_subscriptions("alpha"), PATIENCE_S)
    for number, payload in enumerate(bad):
        for topic, kind in ((topics.batch("alpha"), topics.BATCH_TYPE), (topics.hello("alpha"), topics.HELLO_TYPE)):
            root = bytes([number]) * 32
            sender.publish(topic, payload, root, kind)
            refusal = None
            while refusal is None:
                event = sender.next(PATIENCE_S)
                assert event is not None
                if isinstance(event, Message):
                    refusal = Refusal.decode(event.payload)
                    sender.acknowledge(event)
            assert (refusal.reason, refusal.root) == (RefusalReason.MALFORMED, root)
    sender.close()
    uplink = uplink_of(broker, "alpha", one, [])
    assert len(uplink.deliver(batch, PATIENCE_S)) == 1
    uplink.close()


def test_nobody_listens_before_the_first_peer_came(broker: Broker) -> None:
    uplink = uplink_of(broker, "alpha", broker.organisations, [])
    with pytest.raises(NobodyListens) as caught:
        uplink.deliver(ready(broker, "alpha", 1).rest(0), PATIENCE_S)
    assert caught.value.waiting_helps
    uplink.close()


def test_a_batch_sent_while_the_peer_is_down_is_served_when_it_comes(broker: Broker, make: Make) -> None:
    site = make("Org1MSP")
    peer = site.serve()
    peer.terminate()
    assert peer.wait(PATIENCE_S) == 0
    one = {"Org1MSP": broker.organisations["Org1MSP"]}
    uplink = uplink_of(broker, "alpha", one, [])
    batch = ready(broker, "alpha", 3).rest(0)
    assert uplink.deliver(batch, 0.1) == ()
    site.serve()
    assert len(uplink.deliver(batch, PATIENCE_S)) == 1
    uplink.close()


def test_a_second_process_stands_by_and_takes_over(broker: Broker, make: Make) -> None:
    site = make("Org1MSP")
    first = site.serve()
    second = site.start()
    site.wait_for("standing by")
    one = {"Org1MSP": broker.organisations["Org1MSP"]}
    uplink = uplink_of(broker, "alpha", one, [])
    line = ready(broker, "alpha", 4)
    uplink.deliver(line.batch(0, 2), PATIENCE_S)
    first.send_signal(signal.SIGKILL)
    site.wait_for("taking over")
    uplink.deliver(line.batch(2, 2), PATIENCE_S)
    assert len(uplink.deliver(line.batch(0, 2), PATIENCE_S)) == 1
    uplink.close()
    second.terminate()
    assert second.wait(PATIENCE_S) == 0


def test_a_standby_that_is_told_to_stop_stops(broker: Broker, make: Make) -> None:
    site = make("Org1MSP")
    site.serve()
    second = site.start()
    site.wait_for("standing by")
    second.terminate()
    assert second.wait(PATIENCE_S) == 0


def test_the_broker_dies_and_comes_back(broker: Broker, make: Make) -> None:
    site = make("Org1MSP")
    site.serve()
    one = {"Org1MSP": broker.organisations["Org1MSP"]}
    uplink = uplink_of(broker, "alpha", one, [])
    line = ready(broker, "alpha", 9)
    uplink.deliver(line.batch(0, 3), PATIENCE_S)
    broker.stop(signal.SIGKILL)  # without a goodbye, and with all that it had in memory gone
    with pytest.raises(Unreachable) as caught:
        uplink.deliver(line.batch(3, 3), PATIENCE_S)
    assert caught.value.waiting_helps
    site.wait_for("not connected")
    broker.start()
    site.wait_for("serving", 2)
    receipts = _until_settled(uplink, line.batch(3, 3))
    assert receipts[0].block == 2
    assert uplink.deliver(line.batch(6, 3), PATIENCE_S)[0].block == 3
    uplink.close()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 60))])
def test_a_peer_killed_at_any_moment_loses_nothing_and_repeats_nothing(broker: Broker, make: Make, seed: int) -> None:
    """Two gateways send as fast as they can while the peer is killed and started again, at moments of the seed."""
    site = make("Org1MSP")
    site.serve()
    chance = random.Random(seed)
    one = {"Org1MSP": broker.organisations["Org1MSP"]}
    alarms: list[str] = []
    lines = {name: ready(broker, name, 120) for name in ("alpha", "beta")}
    parts = {name: cut(line, [3] * 40) for name, line in lines.items()}
    receipts: dict[bytes, set[bytes]] = {}
    failures: list[BaseException] = []

    def send(name: str) -> None:
        try:
            uplink = uplink_of(broker, name, one, alarms)
            for batch in parts[name]:
                receipts[batch.root] = {receipt.data for receipt in _until_settled(uplink, batch)}
                if chance.random() < 0.2:  # sent again although it is settled: the answer stays the same
                    again = uplink_of(broker, name, one, alarms)
                    receipts[batch.root] |= {receipt.data for receipt in _until_settled(again, batch)}
                    again.close()
                    uplink.close()
            uplink.close()
        except BaseException as error:  # noqa: BLE001  reported in the test's own thread
            failures.append(error)

    senders = [threading.Thread(target=send, args=(name,)) for name in parts]
    for sender in senders:
        sender.start()
    kills = 0
    while any(sender.is_alive() for sender in senders):
        time.sleep(chance.uniform(0.0, 0.25))
        peer = site.processes[-1]
        peer.send_signal(signal.SIGKILL)
        peer.wait()
        kills += 1
        site.serve()
    for sender in senders:
        sender.join()
    assert not failures, failures
    assert kills >= 2
    assert not alarms
    assert all(len(found) == 1 for found in receipts.values()), "a batch got two different receipts"

    peer = site.processes[-1]
    peer.terminate()
    assert peer.wait(PATIENCE_S) == 0
    file = LedgerFile(site.ledger, "Org1MSP", read_only=True)
    file.check_chain()
    commits = list(file.commits())
    assert [commit.block for commit in commits] == list(range(1, 81))
    assert {commit.root for commit in commits} == receipts.keys()
    for commit in commits:
        data, receipt = file.content(commit.block)
        assert receipts[commit.root] == {receipt}
        assert data in {batch.data for batch in (*parts["alpha"], *parts["beta"])}
    for line in lines.values():
        stream = next(found for found in file.streams() if found.gateway == line.gateway)
        assert (stream.seq, stream.head) == (119, line.statements[-1].sid)
    assert not file.forks()
    file.close()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 20))])
def test_a_message_is_acknowledged_after_its_commit(broker: Broker, make: Make, seed: int) -> None:
    """Each batch is published once and never again: what a killed peer had not committed must come from the broker."""
    site = make("Org1MSP")
    site.serve()
    chance = random.Random(seed)
    line = ready(broker, "alpha", 120)
    sender = Connection(broker.gateway("alpha", instance=2))
    sender.open(PATIENCE_S)
    for batch in cut(line, [2] * 60):
        while not sender.room:
            sender.next(PATIENCE_S)
        sender.publish(topics.batch("alpha"), batch.data, batch.root, topics.BATCH_TYPE)
        if chance.random() < 0.08:
            time.sleep(chance.uniform(0.0, 0.02))
            peer = site.processes[-1]
            peer.send_signal(signal.SIGKILL)
            peer.wait()
            site.serve()
    assert len(site.processes) > 2
    file = LedgerFile(site.ledger, "Org1MSP", read_only=True)
    deadline = time.monotonic() + PATIENCE_S
    while file.last()[0] < 60 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [commit.first for commit in file.commits()] == list(range(0, 120, 2))
    file.close()
    sender.close()


def _until_settled(uplink: MqttUplink, batch: batches.Batch) -> tuple[Receipt, ...]:
    """Deliver as an agent would, only more often: again and again, until there is a receipt."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            receipts = uplink.deliver(batch, 1.0)
        except Unreachable:
            time.sleep(0.05)
            continue
        if receipts:
            return receipts
    raise AssertionError("no receipt came")
