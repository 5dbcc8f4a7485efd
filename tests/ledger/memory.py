"""A ledger in dicts: the rules and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.rules.measurements import Accepted, Gateway, Judgement, Stream, Terms, judge
from signer.batch import Batch
from signer.statement import Claims
from signer.trust import Trust
from tests.ledger.lines import START_MS


class MemoryLedger:
    """Holds what was accepted, as :class:`ledger.rules.measurements.Committed` shows it."""

    def __init__(self) -> None:
        self.gateways: dict[str, Gateway] = {}
        self.streams: dict[bytes, Stream] = {}
        self.roots: dict[tuple[bytes, int], bytes] = {}
        self.statements: dict[bytes, list[tuple[bytes, bytes]]] = {}  # stream -> (sid, key), by seq

    def gateway(self, gateway: str) -> Gateway | None:
        return self.gateways.get(gateway)

    def stream(self, stream: bytes) -> Stream | None:
        return self.streams.get(stream)

    def root(self, stream: bytes, first: int) -> bytes | None:
        return self.roots.get((stream, first))

    def sids(self, stream: bytes, first: int, count: int) -> Sequence[bytes]:
        assert first >= 0
        found = [sid for sid, _ in self.statements[stream][first : first + count]]
        assert len(found) == count, "looked up what is not committed"
        return found

    def keys(self, stream: bytes) -> Sequence[bytes]:
        return list(dict.fromkeys(key for _, key in self.statements[stream]))

    def submit(
        self, trust: Trust, publisher: str, batch: Batch, claims: Sequence[Claims], every: bool = True
    ) -> Judgement:
        judgement = judge(self, Terms(trust, START_MS, every), publisher, batch, claims)
        if isinstance(judgement, Accepted):
            self.streams[batch.stream] = judgement.stream
            self.roots[batch.stream, batch.first] = batch.root
            there = self.statements.setdefault(batch.stream, [])
            assert len(there) == batch.first
            there += [(claim.sid, judgement.key) for claim in claims]
            if judgement.gateway:
                self.gateways[judgement.gateway.gateway] = judgement.gateway
        return judgement
