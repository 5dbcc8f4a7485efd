"""Gateways and what they sign, for tests of ledgers: lines of statements that grow, are cut into batches and cloned."""

from __future__ import annotations

import copy
import datetime as dt
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.reading import Reading, exact
from hw_sim.authority import Authority
from signer import batch as batches
from signer import statement
from signer.batch import Batch
from signer.chain import Chain, Head
from signer.codes import ClockStatus
from signer.keys.file import FileKey
from signer.statement import Instant, Statement
from signer.trust import Trust

START_MS = 1_780_272_000_000
PERIOD_MS = 60_000
NOW = dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


@dataclass
class Line:
    """One gateway's stream: statements so far, and how to make more."""

    gateway: str
    authority: Authority
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    statements: list[Statement] = field(default_factory=list)
    slot: int = 0
    start_ms: int = START_MS

    def __post_init__(self) -> None:
        self.certificate = self.authority.gateway(self.gateway, self.key).certificate
        self.chain = Chain(self.gateway, FileKey(self.key), None, 1)

    def begin(
        self,
        recovered: tuple[bytes, int, bytes] | None = None,
        at_ms: int | None = None,
        clock: ClockStatus = ClockStatus.SYNCHRONISED,
    ) -> Line:
        """Sign the genesis."""
        now = instant(self.start_ms if at_ms is None else at_ms, clock)
        self.statements.append(self.chain.genesis(now, (der(self.certificate),), recovered))
        return self

    def grow(self, count: int) -> Line:
        """Sign readings."""
        for _ in range(count):
            slot_ms = self.start_ms + self.slot * PERIOD_MS
            reading = Reading("main", slot_ms, None, ((264, exact(1000 + self.slot, 0)),), 40)
            self.statements.append(self.chain.reading(reading, instant(slot_ms + 40)))
            self.slot += 1
        return self

    def rekey(self, authority: Authority | None = None, certificate: x509.Certificate | None = None) -> Line:
        """Hand over to a new key; by default with a certificate of the same authority."""
        self.key = new_key()
        issued = certificate or (authority or self.authority).gateway(self.gateway, self.key).certificate
        self.statements.append(self.chain.rekey(instant(self.start_ms), FileKey(self.key), (der(issued),)))
        self.certificate = issued
        return self

    def notice(self) -> Line:
        """Sign an event."""
        self.statements.append(self.chain.event("main", instant(self.start_ms), 5, 264, "frozen"))
        return self

    def far_away(self, seq: int) -> Batch:
        """One statement at ``seq`` of this stream, as if all before it had been signed."""
        assert self.chain.head is not None
        stream, prev = self.chain.head.stream, bytes(range(32))
        chain = Chain(self.gateway, FileKey(self.key), Head(stream, seq - 1, prev), 1)
        said = chain.reading(Reading("main", START_MS, 2), instant(START_MS))
        return batches.build(stream, seq, prev, [(said.sid, said.data)])

    def clone(self) -> Line:
        """The same card in a second device."""
        twin = copy.copy(self)
        twin.statements = list(self.statements)
        twin.chain = Chain(self.gateway, FileKey(self.key), self.chain.head, 1)
        return twin

    def batch(self, first: int, count: int) -> Batch:
        """The statements from ``first``."""
        part = self.statements[first : first + count]
        assert len(part) == count
        prev = self.statements[first - 1].sid if first else bytes(32)
        assert self.chain.head is not None
        return batches.build(self.chain.head.stream, first, prev, [(said.sid, said.data) for said in part])

    def rest(self, first: int) -> Batch:
        """The statements from ``first`` to the last."""
        return self.batch(first, len(self.statements) - first)

    def forged(self, first: int, count: int, bad: int, key: ec.EllipticCurvePrivateKey | None = None) -> Batch:
        """The same batch in which statement ``bad`` is signed with another key: the sids stay, so does the root."""
        stranger = FileKey(key or new_key())
        part = [(said.sid, said.data) for said in self.statements[first : first + count]]
        sid, data = part[bad - first]
        part[bad - first] = (sid, data[:-64] + stranger.sign_digest(sid))
        assert self.chain.head is not None
        prev = self.statements[first - 1].sid if first else bytes(32)
        return batches.build(self.chain.head.stream, first, prev, part)

    def signed_again(self, first: int, count: int) -> Batch:
        """The same statements under new signatures of the same key."""
        part = []
        for said in self.statements[first : first + count]:
            assert statement.parse(said.data).sid == said.sid
            part.append((said.sid, said.data[:-64] + FileKey(self.key).sign_digest(said.sid)))
        assert self.chain.head is not None
        prev = self.statements[first - 1].sid if first else bytes(32)
        return batches.build(self.chain.head.stream, first, prev, part)


class World:
    """Two authorities of which one is trusted, and gateways under them."""

    def __init__(self) -> None:
        self.authority = Authority("Operator", now=NOW)
        self.second = Authority("Second", now=NOW)
        self.stranger = Authority("Stranger", now=NOW)
        self.trust = Trust(gateways=(self.authority.certificate, self.second.certificate))

    def line(
        self,
        gateway: str = "alpha",
        authority: Authority | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Line:
        return Line(gateway, authority or self.authority, key or new_key())


def instant(at_ms: int, clock: ClockStatus = ClockStatus.SYNCHRONISED) -> Instant:
    return Instant(at_ms, 1000, clock, 20)
