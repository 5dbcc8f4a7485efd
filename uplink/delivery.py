"""Delivery: a batch goes out once, verified receipts come back. The gateway's end of the line.

Decides nothing about when to try again, keeps nothing on disk, prunes nothing.

Rules
- One batch in flight. ``deliver`` publishes it once and waits; what is missing then may still come, and is in
  :meth:`MqttUplink.late` or counted when the same batch is delivered again.
- Only receipts settle. A PUBACK that refuses is an error, one that accepts is no news.
- A refusal ends the wait only when k receipts have become impossible; then the other organisations get a moment to
  answer too, because what to do next depends on what they all say.
- A broken connection is reported once, closed, and made anew by the next call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from signer.batch import Batch
from signer.dialogue import Hello, LedgerHead, Refusal
from signer.receipt import MAX_BYTES as MAX_RECEIPT_BYTES
from signer.receipt import Committed, Receipt
from signer.trust import Trust
from uplink import topics
from uplink.endpoint import Endpoint
from uplink.errors import BrokerAway, NobodyListens, TopicDenied, Unreachable
from uplink.mqtt import OVERHEAD_BYTES, Connection, Lost, Message, Published
from uplink.receipts import Collector

# Organisations answer a refused batch within moments of each other; waiting longer would only delay the next attempt.
_GRACE_S = 2.0
_NOT_AUTHORISED = 0x87


class Refused(Exception):
    """So many organisations refuse the batch that it cannot be settled.

    Attributes:
        refusals: (organisation, refusal).
        receipts: good receipts of the other organisations; they stay good.
    """

    def __init__(self, refusals: tuple[tuple[str, Refusal], ...], receipts: tuple[Receipt, ...]) -> None:
        super().__init__(f"the batch is refused: {words_of(refusals)}")
        self.refusals = refusals
        self.receipts = receipts


def words_of(refusals: Iterable[tuple[str, Refusal]]) -> str:
    """Who refuses, and why."""
    return "; ".join(f"{name}: {refusal.words or f'reason {refusal.reason}'}" for name, refusal in refusals)


class Uplink(Protocol):
    """A way to the organisations' ledgers."""

    def deliver(self, batch: Batch, timeout_s: float) -> tuple[Receipt, ...]:
        """The good receipts that came in that time; fewer than k when time ran out.

        Raises:
            Unreachable: the batch could not be sent, or the line broke.
            Refused: k receipts are impossible.
        """

    def heads(self, hello: Hello, timeout_s: float) -> tuple[LedgerHead, ...]:
        """The good answers to a hello; fewer than there are organisations when time ran out.

        Raises:
            Unreachable: the hello could not be sent, or the line broke.
        """

    def refusals(self) -> tuple[tuple[str, Refusal], ...]:
        """(organisation, refusal) of those that would not answer the last hello."""

    def late(self) -> tuple[Receipt, ...]:
        """Good receipts, for other batches than the last one delivered, that came in the meantime.

        Raises:
            Unreachable: the line broke in the meantime.
        """

    def close(self) -> None:
        """Leave."""


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """A gateway's way to its broker.

    Attributes:
        instance: tells apart what may connect at the same time with one certificate; normally 1.
        ca, certificate, key: PEM files; None only with ``insecure``.
        insecure: plain TCP, for closed networks and experiments.
    """

    host: str
    port: int
    gateway: str
    instance: int = 1
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False

    def endpoint(self) -> Endpoint:
        """The same as a connection wants it."""
        return Endpoint(
            host=self.host,
            port=self.port,
            client_id=f"{topics.gateway_cn(self.gateway)}-{self.instance}",
            ca=self.ca,
            certificate=self.certificate,
            key=self.key,
            insecure=self.insecure,
            max_packet_bytes=MAX_RECEIPT_BYTES + OVERHEAD_BYTES,
        )


class MqttUplink:
    """:class:`Uplink` over MQTT. Used from one thread."""

    def __init__(
        self,
        config: MqttConfig,
        trust: Trust,
        organisations: Collection[str],
        k: int,
        on_alarm: Callable[[str], None],
        known: Callable[[bytes], Committed | None] = lambda root: None,
        newest: Mapping[tuple[str, str], int] | None = None,
        connect_timeout_s: float = 10.0,
    ) -> None:
        """Opens nothing yet; the first call that needs it does.

        Args:
            k: how many organisations settle a batch.
            on_alarm, known, newest: as :class:`uplink.receipts.Collector` takes them.
        """
        self._endpoint = config.endpoint()
        self._gateway = config.gateway
        self._organisations = frozenset(organisations)
        self._k = k
        self._connect_timeout_s = connect_timeout_s
        self._connection: Connection | None = None
        self._collector = Collector(config.gateway, trust, organisations, on_alarm, known, newest)

    @property
    def max_batch_bytes(self) -> int | None:
        """Largest batch that the broker takes; None before it was asked."""
        return self._connection.max_payload_bytes if self._connection else None

    def deliver(self, batch: Batch, timeout_s: float) -> tuple[Receipt, ...]:
        """Send a batch once and wait for k receipts; see :class:`Uplink`."""
        deadline = time.monotonic() + timeout_s
        collected = self._collector
        collected.begin(batch)
        self._drain()
        self._send(topics.batch(self._gateway), batch.data, batch.root, topics.BATCH_TYPE, deadline)
        while len(collected.receipts) < self._k:
            refusing = collected.refusals.keys() - collected.receipts.keys()
            if len(self._organisations) - len(refusing) < self._k:
                if len(refusing) + len(collected.receipts) == len(self._organisations):
                    break
                deadline = min(deadline, time.monotonic() + _GRACE_S)
            if not self._step(deadline - time.monotonic()):
                break
        receipts = tuple(collected.receipts.values())
        refusals = tuple(
            sorted((name, said) for name, said in collected.refusals.items() if name not in collected.receipts)
        )
        if len(receipts) < self._k and len(self._organisations) - len(refusals) < self._k:
            raise Refused(refusals, receipts)
        if len(receipts) >= self._k:
            collected.finish()
        return receipts

    def heads(self, hello: Hello, timeout_s: float) -> tuple[LedgerHead, ...]:
        """Ask every organisation where its ledger stands; see :class:`Uplink`."""
        deadline = time.monotonic() + timeout_s
        self._collector.ask(hello)
        self._send(topics.hello(self._gateway), hello.encode(), hello.nonce, topics.HELLO_TYPE, deadline)
        collected = self._collector
        while len(collected.heads.keys() | collected.strangers.keys()) < len(self._organisations):
            if not self._step(deadline - time.monotonic()):
                break
        return tuple(collected.heads.values())

    def refusals(self) -> tuple[tuple[str, Refusal], ...]:
        """Who would not answer the last hello; see :class:`Uplink`."""
        collected = self._collector
        return tuple(sorted((name, said) for name, said in collected.strangers.items() if name not in collected.heads))

    def late(self) -> tuple[Receipt, ...]:
        """Good receipts for earlier batches; see :class:`Uplink`."""
        self._drain()
        return self._collector.late()

    def close(self) -> None:
        """Say goodbye to the broker; what it has for us waits there."""
        if self._connection:
            self._connection.close()
            self._connection = None

    # ---- one connection at a time

    def _open(self, deadline: float) -> Connection:
        if self._connection is None:
            connection = Connection(self._endpoint)
            timeout_s = max(0.1, min(self._connect_timeout_s, deadline - time.monotonic()))
            connection.open(timeout_s)
            try:
                connection.subscribe(topics.gateway_subscriptions(self._gateway), timeout_s)
            except Unreachable:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _send(self, topic: str, payload: bytes, correlation: bytes, content_type: str, deadline: float) -> None:
        """Publish and wait for the broker's answer."""
        connection = self._open(deadline)
        try:
            handle = connection.publish(topic, payload, correlation, content_type)
            while (left_s := deadline - time.monotonic()) > 0:
                event = connection.next(left_s)
                if isinstance(event, Published) and event.handle == handle:
                    self._check(event, topic)
                    return
                self._sort(event)
            raise BrokerAway(f"{self._endpoint.address} did not acknowledge what was sent to {topic}")
        except BrokerAway:
            self.close()
            raise

    def _check(self, answer: Published, topic: str) -> None:
        where, who = self._endpoint.address, self._endpoint.client_id
        if answer.reason == _NOT_AUTHORISED:
            raise TopicDenied(f"{where} does not let {who} publish to {topic}").advise(
                "write the broker's access list anew with this gateway in it, and have the broker read it (SIGHUP)"
            )
        if answer.reason >= 0x80:
            raise BrokerAway(f"{where} refuses what {who} sent to {topic}: {answer.words}")
        if answer.unheard:
            raise NobodyListens(f"{where} has nobody to give {topic} to").advise(
                "start the organisations' ingestion peers; each needs to have connected once"
            )

    def _drain(self) -> None:
        """Sort in what came in the meantime."""
        while self._connection and (event := self._connection.next(0.0)):
            self._sort(event)

    def _step(self, timeout_s: float) -> bool:
        """Wait for one message; False when time ran out."""
        if timeout_s <= 0 or self._connection is None:
            return False
        event = self._connection.next(timeout_s)
        self._sort(event)
        return event is not None

    def _sort(self, event: Message | Published | Lost | None) -> None:
        if isinstance(event, Lost):
            self.close()
            raise event.error
        if isinstance(event, Message):
            topic = topics.parse(event.topic)
            if topic and topic.organisation:
                self._collector.take(topic, event.payload, event.correlation)
            if self._connection:
                self._connection.acknowledge(event)
