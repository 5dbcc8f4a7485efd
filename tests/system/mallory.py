"""A third organisation whose ingestion peer is written by the test: the real way in, and any answer at all.

Rules
- It has what a real organisation has: a TLS certificate that the broker lets in, topics of its own, a receipt key.
- It answers only when told to, from the test's own thread.
"""

from __future__ import annotations

import time

from cryptography.hazmat.primitives.serialization import Encoding

from hw_sim.authority import Authority, Issued
from hw_sim.stage import HOST
from ledger.embedded import CHANNEL
from signer import batch as batches
from signer import receipt
from signer.batch import Batch
from signer.dialogue import Hello, issue_head
from signer.keys.file import FileKey
from signer.receipt import Committed
from tests.system.conftest import MALLORY
from tests.system.home import PATIENCE_S
from tests.system.town import Town
from uplink import topics
from uplink.broker import MAX_PACKET_BYTES
from uplink.endpoint import Endpoint
from uplink.mqtt import Connection, Message


class Mallory:
    """The peer.

    Attributes:
        own: its good receipt key and certificate.
    """

    def __init__(self, town: Town) -> None:
        self.authority = town.stage.organisations[MALLORY]
        self.own = self.authority.receipts()
        folder = town.folder / MALLORY
        folder.mkdir()
        self.authority.organisation_client().write(folder / "tls.key", folder / "tls.pem")
        (folder / "ca.pem").write_bytes(town.stage.site.pem)
        endpoint = Endpoint(
            HOST,
            town.stage.port,
            f"{topics.organisation_cn(MALLORY)}-1",
            ca=folder / "ca.pem",
            certificate=folder / "tls.pem",
            key=folder / "tls.key",
            max_packet_bytes=MAX_PACKET_BYTES,
        )
        self._connection = Connection(endpoint)
        self._connection.open(PATIENCE_S)
        self._connection.subscribe(topics.peer_subscriptions(MALLORY), PATIENCE_S)

    def close(self) -> None:
        self._connection.close()

    def hear(self, gateway: str, kind: str) -> bytes:
        """The next hello or batch of a gateway."""
        deadline = time.monotonic() + PATIENCE_S
        while (left_s := deadline - time.monotonic()) > 0:
            event = self._connection.next(left_s)
            if not isinstance(event, Message):
                continue
            self._connection.acknowledge(event)
            topic = topics.parse(event.topic)
            if topic and (topic.gateway, topic.kind) == (gateway, kind):
                return event.payload
        raise AssertionError(f"no {kind} of {gateway} came")

    def batch(self, gateway: str, first: int) -> Batch:
        """The batch of a gateway that begins at ``first``; earlier ones that are sent again are passed over."""
        while (found := batches.parse(self.hear(gateway, "batch"))[0]).first != first:
            assert found.first < first
        return found

    def greet(self, gateway: str) -> None:
        """Answer the next hello as an organisation that has never heard of the stream."""
        hello = Hello.decode(self.hear(gateway, "hello"))
        key, chain = _signer(self.own)
        head = issue_head(key, chain, MALLORY, gateway, int(time.time()), hello, None, None)
        self.say(gateway, "head", head, hello.nonce)

    def receipt(
        self,
        gateway: str,
        batch: Committed,
        block: int,
        signer: Issued | None = None,
        certificate: Issued | None = None,
        organisation: str = MALLORY,
    ) -> bytes:
        """A receipt: a good one, or one by another key, under another certificate, in another's name."""
        key, chain = _signer(signer or self.own)
        if certificate is not None:
            chain = _signer(certificate)[1]
        return receipt.issue(key, chain, organisation, gateway, int(time.time()), batch, CHANNEL, block, bytes(32))

    def say(self, gateway: str, kind: str, payload: bytes, correlation: bytes) -> None:
        """Publish an answer."""
        topic = topics.answer(gateway, kind, MALLORY)
        self._connection.publish(topic, payload, correlation, topics.MEDIA_TYPES[kind])


def impostor(organisation: str) -> Issued:
    """A receipt key of somebody who calls themselves by an organisation's name."""
    return Authority(organisation).receipts()


def _signer(issued: Issued) -> tuple[FileKey, tuple[bytes, ...]]:
    return FileKey(issued.key), (issued.certificate.public_bytes(Encoding.DER),)
