"""Delivery over a real broker, with organisations that answer right, wrong, late, or not at all."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable

import pytest

from signer.batch import Batch
from signer.dialogue import Hello, Refusal, RefusalReason
from signer.trust import Trust
from tests.broker import Broker
from tests.ledger.lines import World
from tests.uplink.organisations import PATIENCE_S, Answer, LyingPeer, Organisation
from uplink.delivery import MqttConfig, MqttUplink, Refused
from uplink.errors import BrokerAway, NobodyListens, TooLarge, TopicDenied, Unreachable


class Gateway:
    """The gateway alpha with two organisations whose roots it has pinned."""

    def __init__(self, broker: Broker, k: int = 2, before: Gateway | None = None) -> None:
        self.first = before.first if before else Organisation("Org1MSP")
        self.second = before.second if before else Organisation("Org2MSP")
        self.alarms: list[str] = []
        endpoint = broker.gateway("alpha")
        config = MqttConfig(
            endpoint.host, endpoint.port, "alpha", ca=endpoint.ca, certificate=endpoint.certificate, key=endpoint.key
        )
        trust = Trust(organisations={one.name: (one.authority.certificate,) for one in (self.first, self.second)})
        self.uplink = MqttUplink(config, trust, ["Org1MSP", "Org2MSP"], k, self.alarms.append)
        line = World().line().begin().grow(11)
        self.batches = before.batches if before else [line.batch(first, 3) for first in range(0, 12, 3)]


def test_two_right_answers_settle_and_one_does_not(broker: Broker) -> None:
    gateway = Gateway(broker)
    batch = gateway.batches[0]
    with LyingPeer(broker, "Org1MSP", gateway.first.answer):
        assert [said.organisation for said in gateway.uplink.deliver(batch, 0.5)] == ["Org1MSP"]
        with LyingPeer(broker, "Org2MSP", gateway.second.answer):
            assert len(gateway.uplink.deliver(batch, PATIENCE_S)) == 2
    assert not gateway.alarms
    gateway.uplink.close()


def _forged(gateway: Gateway, batch: Batch) -> Iterable[Answer]:
    yield "receipt", Organisation("Org2MSP").sign(batch), batch.root


def _old(gateway: Gateway, batch: Batch) -> Iterable[Answer]:
    yield "receipt", gateway.second.sign(gateway.batches[3]), batch.root


def _somebody_elses(gateway: Gateway, batch: Batch) -> Iterable[Answer]:
    yield "receipt", gateway.second.sign(batch, gateway="beta"), batch.root


def _another_organisations(gateway: Gateway, batch: Batch) -> Iterable[Answer]:
    yield "receipt", gateway.first.sign(batch), batch.root


def _noise(gateway: Gateway, batch: Batch) -> Iterable[Answer]:
    yield "receipt", b"noise", batch.root


@pytest.mark.parametrize("lie", [_forged, _old, _somebody_elses, _another_organisations, _noise])
def test_a_lying_peer_is_an_alarm_and_settles_nothing(broker: Broker, lie: object) -> None:
    gateway = Gateway(broker)
    batch = gateway.batches[0]
    with (
        LyingPeer(broker, "Org1MSP", gateway.first.answer),
        LyingPeer(broker, "Org2MSP", lambda it: lie(gateway, it)),  # type: ignore[operator]
    ):
        receipts = gateway.uplink.deliver(batch, 0.5)
    assert [said.organisation for said in receipts] == ["Org1MSP"]
    assert len(gateway.alarms) == 1
    assert gateway.alarms[0].startswith("Org2MSP sent a receipt that does not count: ")
    gateway.uplink.close()


def test_a_lie_before_the_truth_does_not_hinder_it(broker: Broker) -> None:
    gateway = Gateway(broker)

    def answers(batch: Batch) -> Iterable[Answer]:
        yield from _forged(gateway, batch)
        yield "receipt", gateway.second.sign(batch), batch.root

    with (
        LyingPeer(broker, "Org1MSP", gateway.first.answer),
        LyingPeer(broker, "Org2MSP", answers),
    ):
        assert len(gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)) == 2
    assert len(gateway.alarms) == 1
    gateway.uplink.close()


def _refusal(batch: Batch, reason: RefusalReason) -> Answer:
    return "refusal", Refusal(reason, batch.stream, batch.root, words="no").encode(), batch.root


def test_a_refusal_that_prevents_k_is_raised_with_everybodys_answer(broker: Broker) -> None:
    gateway = Gateway(broker, k=2)
    with (
        LyingPeer(broker, "Org1MSP", gateway.first.answer),
        LyingPeer(broker, "Org2MSP", lambda it: [_refusal(it, RefusalReason.FORK)]),
        pytest.raises(Refused, match="Org2MSP: no") as caught,
    ):
        gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)
    assert [(name, said.reason) for name, said in caught.value.refusals] == [("Org2MSP", RefusalReason.FORK)]
    assert [said.organisation for said in caught.value.receipts] == ["Org1MSP"]
    gateway.uplink.close()


def test_both_refuse(broker: Broker) -> None:
    gateway = Gateway(broker, k=1)
    with (
        LyingPeer(broker, "Org1MSP", lambda it: [_refusal(it, RefusalReason.FORK)]),
        LyingPeer(broker, "Org2MSP", lambda it: [_refusal(it, RefusalReason.BUSY)]),
        pytest.raises(Refused) as caught,
    ):
        gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)
    assert [(name, said.reason) for name, said in caught.value.refusals] == [
        ("Org1MSP", RefusalReason.FORK),
        ("Org2MSP", RefusalReason.BUSY),
    ]
    gateway.uplink.close()


def test_a_refusal_blocks_no_other_organisations_receipt(broker: Broker) -> None:
    gateway = Gateway(broker, k=1)

    def slowly(batch: Batch) -> Iterable[Answer]:
        time.sleep(0.3)  # the refusal is there first
        yield "receipt", gateway.second.sign(batch), batch.root

    with (
        LyingPeer(broker, "Org1MSP", lambda it: [_refusal(it, RefusalReason.OUT_OF_ORDER)]),
        LyingPeer(broker, "Org2MSP", slowly),
    ):
        assert [said.organisation for said in gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)] == ["Org2MSP"]
    gateway.uplink.close()


def test_the_receipt_that_k_did_not_wait_for_is_collected_later(broker: Broker) -> None:
    gateway = Gateway(broker, k=1)

    def slowly(batch: Batch) -> Iterable[Answer]:
        time.sleep(0.3)
        yield "receipt", gateway.second.sign(batch), batch.root

    with (
        LyingPeer(broker, "Org1MSP", gateway.first.answer),
        LyingPeer(broker, "Org2MSP", slowly),
    ):
        gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)
        gateway.uplink.deliver(gateway.batches[1], PATIENCE_S)
        late: list[bytes] = []
        deadline = time.monotonic() + PATIENCE_S
        while not late and time.monotonic() < deadline:
            late += [said.root for said in gateway.uplink.late() if said.organisation == "Org2MSP"]
            time.sleep(0.01)
    assert late == [gateway.batches[0].root]
    assert not gateway.alarms
    gateway.uplink.close()


def test_nobody_answers(broker: Broker) -> None:
    gateway = Gateway(broker)
    with LyingPeer(broker, "Org1MSP", lambda it: []):
        assert gateway.uplink.deliver(gateway.batches[0], 0.3) == ()
        assert gateway.uplink.heads(Hello(bytes(16), 0, bytes(32), bytes(16)), 0.3) == ()
    gateway.uplink.close()


def test_nobody_listens(broker: Broker) -> None:
    gateway = Gateway(broker)
    with pytest.raises(NobodyListens, match="aigeco/1/alpha/batch"):
        gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)
    gateway.uplink.close()


def test_a_denied_topic_is_noticed_although_the_broker_acknowledges(broker: Broker) -> None:
    broker.stop()
    broker.gateways = ["beta"]
    broker.write()
    broker.start()
    gateway = Gateway(broker)
    with pytest.raises(TopicDenied, match="gw-alpha-1 publish to aigeco/1/alpha/batch") as caught:
        gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)
    assert not caught.value.waiting_helps
    assert "SIGHUP" in caught.value.__notes__[0]
    gateway.uplink.close()


def test_a_batch_that_the_broker_would_not_take(broker: Broker) -> None:
    broker.stop()
    text = broker.configuration.read_text()
    broker.configuration.write_text(text.replace("max_packet_size 262656", "max_packet_size 1200"))
    broker.start()
    gateway = Gateway(broker)
    assert gateway.uplink.max_batch_bytes is None
    with pytest.raises(TooLarge, match="takes up to 688 bytes"):
        gateway.uplink.deliver(gateway.batches[0], PATIENCE_S)
    assert gateway.uplink.max_batch_bytes == 688
    gateway.uplink.close()


def test_the_line_breaks_while_waiting_and_the_next_call_makes_a_new_one(broker: Broker) -> None:
    gateway = Gateway(broker)
    batch = gateway.batches[0]

    killed = threading.Event()

    def kill_the_broker(it: Batch) -> Iterable[Answer]:
        broker.stop(signal.SIGKILL)
        killed.set()
        return []

    with LyingPeer(broker, "Org1MSP", kill_the_broker):
        with pytest.raises(BrokerAway) as caught:
            gateway.uplink.deliver(batch, PATIENCE_S)
        assert caught.value.waiting_helps
        assert killed.wait(PATIENCE_S)
        with pytest.raises(Unreachable, match="nothing listens"):
            gateway.uplink.deliver(batch, PATIENCE_S)
    broker.start()
    with (
        LyingPeer(broker, "Org1MSP", gateway.first.answer),
        LyingPeer(broker, "Org2MSP", gateway.second.answer),
    ):
        assert len(gateway.uplink.deliver(batch, PATIENCE_S)) == 2
    gateway.uplink.close()


def test_receipts_wait_at_the_broker_for_a_gateway_that_restarts(broker: Broker) -> None:
    gateway = Gateway(broker)
    batch = gateway.batches[0]
    answered = threading.Event()

    def once(it: Batch) -> Iterable[Answer]:
        if answered.is_set():
            return
        time.sleep(0.2)
        yield from gateway.first.answer(it)
        answered.set()

    with LyingPeer(broker, "Org1MSP", once):
        assert gateway.uplink.deliver(batch, 0.05) == ()
        gateway.uplink.close()
        assert answered.wait(PATIENCE_S)
        restarted = Gateway(broker, before=gateway)
        with LyingPeer(broker, "Org2MSP", gateway.second.answer):
            assert len(restarted.uplink.deliver(batch, PATIENCE_S)) == 2
    restarted.uplink.close()
    assert not restarted.alarms
