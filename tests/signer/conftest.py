"""A small site in memory: a gateway with a chain, two organisations that sign receipts, and the folder they export."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import Certificate

from drivers.reading import Block, Reading, exact
from hw_sim.authority import Authority, Issued
from signer import batch, receipt, statement
from signer.batch import Batch
from signer.bundle import Writer
from signer.chain import Chain, Descriptor
from signer.keys.file import FileKey
from signer.statement import Instant, Statement
from signer.trust import Trust

START_MS = 1_780_272_000_000
PERIOD_MS = 60_000
START = dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC)
MAP = b'name = "test"\n'


def der(certificate: Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass
class Site:
    """A gateway, its statements so far, and what organisations sign for them."""

    gateway: str = "home-1"
    now: dt.datetime = START
    operator: Authority = field(init=False)
    organisations: dict[str, Authority] = field(init=False)
    receipt_keys: dict[str, Issued] = field(init=False)
    issued: Issued = field(init=False)
    chain: Chain = field(init=False)
    statements: list[Statement] = field(default_factory=list)
    receipts: list[bytes] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    batched: int = 0
    block: int = 0
    slot_ms: int = START_MS

    def __post_init__(self) -> None:
        self.operator = Authority("Operator", now=self.now)
        self.organisations = {name: Authority(name, now=self.now) for name in ("Org1MSP", "Org2MSP")}
        self.receipt_keys = {name: authority.receipts() for name, authority in self.organisations.items()}
        self.issued = self.operator.gateway(self.gateway)
        self.chain = Chain(self.gateway, FileKey(self.issued.key), None, 1)

    @property
    def trust(self) -> Trust:
        return Trust(
            (self.operator.certificate,),
            {name: (authority.certificate,) for name, authority in self.organisations.items()},
        )

    def instant(self, after_ms: int = 400, clock: int = 2) -> Instant:
        return Instant(self.slot_ms + after_ms, self.slot_ms - START_MS + after_ms + 5000, clock, 3)

    def say(self, made: Statement) -> Statement:
        self.statements.append(made)
        return made

    def begin(self, recovered: tuple[bytes, int, bytes] | None = None) -> Statement:
        return self.say(self.chain.genesis(self.instant(), (der(self.issued.certificate),), recovered))

    def describe(self, sub: str = "sdm630", period_ms: int = PERIOD_MS) -> Statement:
        descriptor = Descriptor(period_ms, hashlib.sha256(MAP).digest(), "test", 0, "4711")
        return self.say(self.chain.descriptor(sub, self.instant(), descriptor))

    def read(self, sub: str = "sdm630", slot_ms: int | None = None, ok: bool = True) -> Statement:
        slot = self.slot_ms if slot_ms is None else slot_ms
        values = ((264, exact(1234567 + slot % 1000, -2)), (4103, exact(-250, 0))) if ok else ()
        blocks = (Block(4, 0, bytes(range(24))),) if ok else ()
        reading = Reading(sub, slot, None if ok else 2, values, 80, blocks)
        return self.say(self.chain.reading(reading, self.instant()))

    def run(self, slots: int, sub: str = "sdm630") -> None:
        for _ in range(slots):
            self.read(sub)
            self.slot_ms += PERIOD_MS

    def commit(self, organisations: tuple[str, ...] = ("Org1MSP", "Org2MSP")) -> Batch:
        """One batch of everything that is not in one yet, and its receipts."""
        pending = self.statements[self.batched :]
        claims = statement.parse(pending[0].data)
        made = batch.build(claims.stream_id, pending[0].seq, claims.prev, [(one.sid, one.data) for one in pending])
        self.batched += len(pending)
        self.block += 1
        self.batches.append(made)
        for name in organisations:
            self.receipts.append(self.sign_receipt(name, made))
        return made

    def sign_receipt(self, name: str, made: Batch, gateway: str | None = None, block: int | None = None) -> bytes:
        issued = self.receipt_keys[name]
        return receipt.issue(
            FileKey(issued.key),
            (der(issued.certificate),),
            name,
            gateway or self.gateway,
            self.slot_ms // 1000,
            made,
            "embedded",
            self.block if block is None else block,
            hashlib.sha256(made.root).digest(),
        )

    def export(self, folder: Path, pruned: frozenset[int] = frozenset()) -> Path:
        """The exported folder; ``pruned``: indexes of statements whose bytes are gone."""
        writer = Writer(folder)
        starts = [index for index, made in enumerate(self.statements) if made.seq == 0] + [len(self.statements)]
        for start, end in itertools.pairwise(starts):
            run = range(start, end)
            writer.add_stream(
                self.gateway,
                statement.stream_of(self.statements[start].sid),
                ((self.statements[i].seq, self.statements[i].data) for i in run if i not in pruned),
                ((self.statements[i].seq, self.statements[i].sid) for i in run if i in pruned),
            )
        writer.add_receipts(self.receipts)
        writer.add_map("test", MAP)
        writer.finish(self.trust)
        return folder


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def running(site: Site) -> Site:
    """A site that began, read ten slots and has all of it committed."""
    site.begin()
    site.say(site.chain.boot_statement(site.instant(), 1, 0, bytes(range(32)), "0.1.0"))
    site.describe()
    site.run(5)
    site.commit()
    site.run(5)
    site.commit()
    return site
