"""Organisations that sign receipts, right ones and others, and that answer over a broker as they please."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from hw_sim.authority import Authority, Issued
from signer import batch as batches
from signer import receipt
from signer.batch import Batch
from signer.keys.file import FileKey
from signer.receipt import Committed
from tests.broker import Broker
from tests.ledger.lines import NOW, START_MS, der
from uplink import topics
from uplink.mqtt import Connection, Message

NOW_S = START_MS // 1000
PATIENCE_S = 10.0


Answer = tuple[str, bytes, bytes]
"""Kind, payload and correlation of one message."""


@dataclass
class Organisation:
    """Signs receipts, right ones and others."""

    name: str
    authority: Authority = field(init=False)
    issued: Issued = field(init=False)
    given: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = Authority(self.name, now=NOW)
        self.issued = self.authority.receipts()

    def sign(
        self,
        batch: Committed,
        block: int = 1,
        gateway: str = "alpha",
        organisation: str | None = None,
        issued: Issued | None = None,
        channel: str = "embedded",
    ) -> bytes:
        by = issued or self.issued
        name = organisation or self.name
        transaction = hashlib.sha256(batch.root + bytes([block])).digest()
        certificates = (der(by.certificate),)
        key = FileKey(by.key)
        return receipt.issue(key, certificates, name, gateway, NOW_S, batch, channel, block, transaction)

    def answer(self, batch: Batch) -> list[Answer]:
        """The right answer: one receipt, and the same one each time."""
        receipt_of = self.given.setdefault(batch.root, self.sign(batch, len(self.given) + 1))
        return [("receipt", receipt_of, batch.root)]


class LyingPeer:
    """Answers the batches of ``alpha`` in an organisation's name with whatever ``answers`` says."""

    def __init__(self, broker: Broker, organisation: str, answers: Callable[[Batch], Iterable[Answer]]) -> None:
        self.organisation = organisation
        self._answers = answers
        self._connection = Connection(broker.organisation(organisation))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._stop.is_set():
            event = self._connection.next(0.05)
            if isinstance(event, Message) and event.content_type == topics.BATCH_TYPE:
                batch, _ = batches.parse(event.payload)
                for kind, payload, correlation in self._answers(batch):
                    topic = topics.answer("alpha", kind, self.organisation)
                    self._connection.publish(topic, payload, correlation, topics.MEDIA_TYPES[kind])
            if isinstance(event, Message):
                self._connection.acknowledge(event)

    def __enter__(self) -> Self:
        self._connection.open(PATIENCE_S)
        self._connection.subscribe(topics.peer_subscriptions(self.organisation), PATIENCE_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()
