"""The connection, against a real mosquitto: what arrives, what is refused, and in which words."""

from __future__ import annotations

import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from hw_sim.authority import Authority
from signer.batch import MAX_BYTES
from tests.broker import HOST, Broker, free_port
from uplink import topics
from uplink.endpoint import Endpoint, disconnected
from uplink.errors import (
    BrokerAway,
    BrokerUntrusted,
    IdentityUnusable,
    NotAdmitted,
    TakenOver,
    TooLarge,
    TopicDenied,
    Unreachable,
)
from uplink.mqtt import Connection, Lost, Message, Published

PATIENCE_S = 10.0
E = TypeVar("E", Message, Published, Lost)


@contextmanager
def opened(endpoint: Endpoint, *filters: str) -> Iterator[Connection]:
    connection = Connection(endpoint)
    connection.open(PATIENCE_S)
    try:
        if filters:
            connection.subscribe(filters, PATIENCE_S)
        yield connection
    finally:
        connection.close()


def wait(connection: Connection, kind: type[E]) -> E:
    deadline = time.monotonic() + PATIENCE_S
    while (left_s := deadline - time.monotonic()) > 0:
        event = connection.next(left_s)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} came")


def nothing_comes(connection: Connection, kind: type[Message]) -> bool:
    """True when a round trip through the broker brings no event of this kind."""
    deadline = time.monotonic() + 0.3
    while (left_s := deadline - time.monotonic()) > 0:
        if isinstance(connection.next(left_s), kind):
            return False
    return True


def refusal(endpoint: Endpoint, timeout_s: float = PATIENCE_S) -> Unreachable:
    """The error of a connection that must not come about."""
    connection = Connection(endpoint)
    with pytest.raises(Unreachable) as caught:
        connection.open(timeout_s)
    return caught.value


# ---- what arrives


def test_a_batch_reaches_each_organisation_once_and_the_answer_its_gateway(broker: Broker) -> None:
    with (
        opened(broker.organisation("Org1MSP"), *topics.peer_subscriptions("Org1MSP")) as first,
        opened(broker.organisation("Org2MSP"), *topics.peer_subscriptions("Org2MSP")) as second,
        opened(broker.gateway("alpha"), *topics.gateway_subscriptions("alpha")) as gateway,
    ):
        handle = gateway.publish(topics.batch("alpha"), b"payload", b"r" * 32, topics.BATCH_TYPE)
        answer = wait(gateway, Published)
        assert (answer.handle, answer.reason, answer.unheard) == (handle, 0, False)
        for organisation, peer in (("Org1MSP", first), ("Org2MSP", second)):
            message = wait(peer, Message)
            assert message.topic == "aigeco/1/alpha/batch"
            assert (message.payload, message.correlation) == (b"payload", b"r" * 32)
            assert message.content_type == topics.BATCH_TYPE
            peer.acknowledge(message)
            peer.publish(topics.answer("alpha", "receipt", organisation), b"ok", b"r" * 32, topics.RECEIPT_TYPE)
        assert {wait(gateway, Message).topic for _ in range(2)} == {
            "aigeco/1/alpha/receipt/Org1MSP",
            "aigeco/1/alpha/receipt/Org2MSP",
        }


def test_a_message_that_was_not_acknowledged_comes_again(broker: Broker) -> None:
    endpoint = broker.organisation("Org1MSP")
    with opened(broker.gateway("alpha")) as gateway:
        with opened(endpoint, *topics.peer_subscriptions("Org1MSP")) as peer:
            gateway.publish(topics.batch("alpha"), b"one", b"", topics.BATCH_TYPE)
            assert wait(peer, Message).payload == b"one"
        with opened(endpoint) as peer:
            again = wait(peer, Message)
            assert again.payload == b"one"
            peer.acknowledge(again)
        with opened(endpoint) as peer:
            assert nothing_comes(peer, Message)


def test_what_was_sent_while_the_reader_was_away_waits_for_it(broker: Broker) -> None:
    endpoint = broker.gateway("alpha")
    with opened(endpoint, *topics.gateway_subscriptions("alpha")):
        pass
    with opened(broker.organisation("Org1MSP")) as peer:
        peer.publish(topics.answer("alpha", "receipt", "Org1MSP"), b"late", b"", topics.RECEIPT_TYPE)
        assert not wait(peer, Published).unheard
    with opened(endpoint) as gateway:
        assert wait(gateway, Message).payload == b"late"


def test_the_broker_says_when_nobody_listens(broker: Broker) -> None:
    with opened(broker.gateway("alpha")) as gateway:
        gateway.publish(topics.batch("alpha"), b"x", b"", topics.BATCH_TYPE)
        assert wait(gateway, Published).unheard


def test_the_window_is_bounded_and_every_answer_makes_room(broker: Broker) -> None:
    with opened(broker.gateway("alpha")) as gateway:
        room = gateway.room
        for _ in range(room):
            gateway.publish(topics.batch("alpha"), b"x", b"", topics.BATCH_TYPE)
        with pytest.raises(BrokerAway, match="not acknowledged"):
            gateway.publish(topics.batch("alpha"), b"x", b"", topics.BATCH_TYPE)
        for _ in range(room):
            wait(gateway, Published)
        assert gateway.room == room


def test_nothing_is_sent_again_by_itself_after_the_connection_broke(broker: Broker) -> None:
    with opened(broker.gateway("alpha")) as gateway:
        broker.stop(signal.SIGKILL)
        assert isinstance(wait(gateway, Lost).error, BrokerAway)
        with pytest.raises(BrokerAway, match="broke"):
            gateway.publish(topics.batch("alpha"), b"x", b"", topics.BATCH_TYPE)
        broker.start()
        with opened(broker.organisation("Org1MSP"), *topics.peer_subscriptions("Org1MSP")) as peer:
            assert nothing_comes(peer, Message)
        assert isinstance(gateway.next(0.0), Lost)  # and it stays lost: the owner makes a new one
    with opened(broker.gateway("alpha")) as gateway:
        gateway.publish(topics.batch("alpha"), b"y", b"", topics.BATCH_TYPE)
        assert not wait(gateway, Published).unheard


# ---- who may do what


def test_a_gateway_can_neither_publish_as_another_nor_answer_for_an_organisation(broker: Broker) -> None:
    subscriptions = topics.peer_subscriptions("Org1MSP")
    with opened(broker.organisation("Org1MSP"), *subscriptions) as peer, opened(broker.gateway("alpha")) as gateway:
        for topic in ("aigeco/1/beta/batch", "aigeco/1/beta/hello", "aigeco/1/alpha/receipt/Org1MSP", "aigeco/1", "x"):
            gateway.publish(topic, b"forged", b"", topics.BATCH_TYPE)
            assert wait(gateway, Published).reason == 0x87, topic
        assert nothing_comes(peer, Message)
        gateway.publish(topics.batch("alpha"), b"own", b"", topics.BATCH_TYPE)
        assert wait(peer, Message).payload == b"own"


def test_a_gateway_cannot_read_what_is_meant_for_another(broker: Broker) -> None:
    everything = ("aigeco/1/beta/receipt/+", "aigeco/1/+/batch", "#", *topics.peer_subscriptions("Org1MSP"))
    with opened(broker.organisation("Org1MSP")) as peer, opened(broker.gateway("beta")) as beta:
        alpha = Connection(broker.gateway("alpha"))
        alpha.open(PATIENCE_S)
        for name in everything:
            try:  # mosquitto 2.0 grants it and delivers nothing; later ones refuse it here
                alpha.subscribe((name,), PATIENCE_S)
            except TopicDenied:
                continue
        peer.publish(topics.answer("beta", "receipt", "Org1MSP"), b"secret", b"", topics.RECEIPT_TYPE)
        beta.publish(topics.batch("beta"), b"secret", b"", topics.BATCH_TYPE)
        wait(peer, Published)
        assert nothing_comes(alpha, Message)
        alpha.close()


def test_an_organisation_answers_only_in_its_own_name_and_sends_no_batches(broker: Broker) -> None:
    with opened(broker.organisation("Org1MSP")) as peer:
        for topic in ("aigeco/1/alpha/receipt/Org2MSP", "aigeco/1/alpha/batch"):
            peer.publish(topic, b"forged", b"", topics.RECEIPT_TYPE)
            assert wait(peer, Published).reason == 0x87, topic


def test_a_stranger_with_a_good_certificate_may_do_nothing(broker: Broker) -> None:
    stranger = broker.endpoint("gw-gamma", broker.site.gateway("gamma"))
    with opened(stranger, "#") as connection:
        connection.publish("aigeco/1/gamma/batch", b"x", b"", topics.BATCH_TYPE)
        assert wait(connection, Published).reason == 0x87


# ---- what is refused, and in which words


def test_the_same_client_twice(broker: Broker) -> None:
    """mosquitto 2.0.11 breaks the older connection without a word, so the advice names the suspicion."""
    endpoint = broker.gateway("alpha")
    with opened(endpoint) as first, opened(endpoint):
        error = wait(first, Lost).error
    assert isinstance(error, BrokerAway | TakenOver)
    assert "gw-alpha-1" in "".join([str(error), *error.__notes__])


@pytest.mark.parametrize(
    ("reason", "kind", "waiting_helps"),
    [(0x8E, TakenOver, False), (0x87, NotAdmitted, False), (0x95, TooLarge, False), (0x8B, BrokerAway, True)],
)
def test_a_broker_that_says_why_it_ends_a_connection(
    broker: Broker, reason: int, kind: type[Unreachable], waiting_helps: bool
) -> None:
    error = disconnected(broker.gateway("alpha"), True, reason, "its words")
    assert type(error) is kind
    assert error.waiting_helps is waiting_helps


def test_nothing_listens(broker: Broker) -> None:
    port = free_port()
    error = refusal(broker.gateway("alpha", port=port))
    assert isinstance(error, BrokerAway)
    assert str(error) == f"nothing listens on {HOST}:{port}"
    assert error.waiting_helps
    assert error.__notes__ == ["try: check mqtt.host and mqtt.port; start the broker"]


def test_a_name_that_does_not_exist(broker: Broker) -> None:
    error = refusal(broker.gateway("alpha", host="broker.invalid"))
    assert isinstance(error, BrokerAway)
    assert "broker.invalid" in str(error)


def test_something_that_listens_and_stays_silent(broker: Broker) -> None:
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        for insecure in (False, True):
            started = time.monotonic()
            error = refusal(broker.gateway("alpha", port=port, insecure=insecure), timeout_s=0.3)
            assert isinstance(error, BrokerAway)
            assert "in time" in str(error)
            assert time.monotonic() - started < 5


def test_a_plain_connection_to_a_tls_port(broker: Broker) -> None:
    error = refusal(broker.gateway("alpha", insecure=True))
    assert isinstance(error, BrokerAway)


def test_the_brokers_certificate_is_of_another_ca(broker: Broker) -> None:
    other = broker.directory / "other.pem"
    other.write_bytes(Authority("Other").pem)
    error = refusal(broker.gateway("alpha", ca=other))
    assert isinstance(error, BrokerUntrusted)
    assert f"not issued by the CA in {other}" in str(error)
    assert error.__notes__ == ["try: set mqtt.ca to the CA that issued the broker's certificate"]


def test_the_brokers_certificate_is_for_another_name(broker: Broker) -> None:
    error = refusal(broker.gateway("alpha", host="localhost"))
    assert isinstance(error, BrokerUntrusted)
    assert "for another name" in str(error)


@pytest.mark.parametrize(("days", "words"), [((-10, -1), "has expired"), ((1, 10), "not yet valid")])
def test_the_brokers_certificate_is_out_of_its_time(broker: Broker, days: tuple[int, int], words: str) -> None:
    broker.stop()
    broker.server = broker.site.server(HOST, days)
    broker.write()
    broker.start()
    error = refusal(broker.gateway("alpha"))
    assert isinstance(error, BrokerUntrusted)
    assert words in str(error)


def test_our_own_certificate_has_expired(broker: Broker) -> None:
    error = refusal(broker.endpoint("gw-alpha", broker.site.gateway("alpha", days=(-10, -1))))
    assert isinstance(error, NotAdmitted)
    assert "it has expired" in str(error)
    assert "gw-alpha.pem" in str(error)


def test_our_own_certificate_is_of_a_ca_that_the_broker_does_not_know(broker: Broker) -> None:
    error = refusal(broker.endpoint("gw-alpha", Authority("Other").gateway("alpha")))
    assert isinstance(error, NotAdmitted)
    assert "does not know its issuer" in str(error)


def test_a_broker_without_tls_1_3(broker: Broker) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(broker.directory / "broker.pem", broker.directory / "broker.key")
    with socket.create_server((HOST, 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: context.wrap_socket(server.accept()[0], server_side=True))
        error = refusal(broker.gateway("alpha", port=server.getsockname()[1]))
    assert isinstance(error, BrokerUntrusted)
    assert "TLS 1.3" in str(error)


@pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
def test_a_file_of_ours_is_missing(broker: Broker, missing: str) -> None:
    path = Path("/nowhere") / missing
    error = refusal(replace(broker.gateway("alpha"), **{missing: path}))
    assert isinstance(error, IdentityUnusable)
    assert str(error) == f"mqtt.{missing} {path} cannot be read: No such file or directory"
    error = refusal(replace(broker.gateway("alpha"), **{missing: None}))
    assert isinstance(error, IdentityUnusable)
    assert f"no {missing} is given" in str(error)


def test_files_of_ours_that_do_not_fit(broker: Broker) -> None:
    alpha, beta = broker.gateway("alpha"), broker.gateway("beta")
    error = refusal(replace(alpha, key=beta.key))
    assert isinstance(error, IdentityUnusable)
    assert "do not belong together" in str(error)
    assert isinstance(refusal(replace(alpha, ca=alpha.key)), IdentityUnusable)


def test_a_message_that_the_broker_would_not_take_is_not_sent(broker: Broker) -> None:
    with opened(broker.gateway("alpha")) as gateway:
        largest = b"x" * gateway.max_payload_bytes
        assert len(largest) == MAX_BYTES
        gateway.publish(topics.batch("alpha"), largest, b"r" * 32, topics.BATCH_TYPE)
        assert wait(gateway, Published).unheard
        with pytest.raises(TooLarge, match=str(MAX_BYTES)):
            gateway.publish(topics.batch("alpha"), largest + b"x", b"r" * 32, topics.BATCH_TYPE)
