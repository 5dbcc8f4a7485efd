"""Statements, batches and receipts for tests of the spool, made by the real chain."""

from __future__ import annotations

import random
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.reading import Block, Reading, exact
from hw_sim.authority import Authority, Issued
from signer import receipt
from signer.batch import Batch
from signer.chain import Chain, Descriptor, Head
from signer.keys.file import FileKey
from signer.receipt import Committed, Receipt
from signer.statement import Instant, Statement

GATEWAY = "home-1"
START_MS = 1_790_000_000_000
KEYS = (264, 520, 3591, 4103, 7943, 8199, 9223, 13063, 13319, 14343, 18183, 18439)


@cache
def key() -> FileKey:
    """One signing key for all tests."""
    return FileKey(ec.derive_private_key(0x5EED, ec.SECP256R1()))


@cache
def issued(organisation: str) -> Issued:
    """An organisation's receipt key."""
    return Authority(organisation).receipts()


def instant(ms: int = 0) -> Instant:
    """A moment after the start of the tests' time."""
    return Instant(START_MS + ms, ms, 2, 3)


def chain(head: Head | None = None, boot: int = 1, seed: int = 0) -> Chain:
    """A chain with salts that repeat from run to run."""
    salts = random.Random(f"{seed}/{head.seq if head else 0}")
    return Chain(GATEWAY, key(), head, boot, salts.randbytes)


def genesis(made_by: Chain, recovered: Head | None = None) -> Statement:
    """A genesis with something in the certificate's place."""
    before = (recovered.stream, recovered.seq, recovered.sid) if recovered else None
    return made_by.genesis(instant(), (b"\x30" * 700,), before)


def reading(sub: str, slot: int, words: int = 56, period_ms: int = 1000) -> Reading:
    """A reading of 12 quantities with its words."""
    values = tuple((code, exact(230_000 + code + slot, -1)) for code in KEYS)
    blocks = (Block(4, 0, bytes(range(words)) + bytes(words)),)
    return Reading(sub, START_MS + slot * period_ms, None, values, 12, blocks)


def readings(made_by: Chain, count: int, slot: int = 0, sub: str = "m") -> list[Statement]:
    """Statements of ``count`` points in one slot."""
    return [made_by.reading(reading(f"{sub}{number}", slot), instant(slot * 1000)) for number in range(count)]


def descriptor(period_ms: int = 1000, serial: str = "") -> Descriptor:
    """What a point is."""
    return Descriptor(period_ms, bytes(32), "a_map", 0, serial)


def receipt_for(batch: Committed, organisation: str = "Org1MSP", block: int = 1) -> Receipt:
    """A real receipt."""
    maker = issued(organisation)
    certificates = (maker.certificate.public_bytes(Encoding.DER),)
    signer = FileKey(maker.key)
    data = receipt.issue(
        signer, certificates, organisation, GATEWAY, 1_790_000_000, batch, "embedded", block, bytes(32)
    )
    return receipt.parse(data)


def sids(batch: Batch) -> int:
    """How many statements a batch holds, counted."""
    return len(batch.statements)
