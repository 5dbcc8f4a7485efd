"""A community with everything that can be traced, on an embedded ledger's file, by signed statements and real calls."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.reading import Block, Reading, exact
from hw_sim.authority import Authority
from ledger.commit import Receipted, Submission
from ledger.embedded import EmbeddedLedger, Issuer, LedgerFile
from ledger.rules.measurements import Gateway
from ledger.rules.record import pack, parse
from ledger.trace import Trace
from ledger.trace.evidence import FileEvidence
from signer import batch as batches
from signer.batch import Batch
from signer.keys.file import FileKey
from signer.trust import Trust
from tests.ledger.lines import Line, instant

QUARTER = 900_000
START = 1_780_315_200_000
"""1 June 2026, 12:00 UTC."""
ORGANISATION = "CommunityMSP"
SALT = "00" * 16
NAMES = ("a", "b", "c")
PLACES = ("roof", *(f"{name}-home" for name in NAMES))

# What the roof's export and the homes' imports show at each boundary, tenths of Wh.
SHOWN = ((50_000, 700, 900, 0), (73_450, 4_700, 14_900, 10), (90_007, 12_000, 15_000, 20), (91_000, 20_000, 15_100, 30))


@dataclass
class Built:
    """A ledger's file, and what it takes to trace on it.

    Attributes:
        line: the gateway's stream.
        trust: in its receipts.
    """

    path: Path
    line: Line
    trust: Trust

    @property
    def stream(self) -> str:
        assert self.line.chain.head is not None
        return self.line.chain.head.stream.hex()

    @contextmanager
    def trace(self, member: str = "") -> Iterator[Trace]:
        evidence = FileEvidence(self.path, ORGANISATION, member)
        try:
            yield Trace(evidence, self.trust)
        finally:
            evidence.close()

    def copy(self, path: Path) -> Built:
        shutil.copy(self.path, path)
        return Built(path, self.line, self.trust)

    def call(self, contract: str, function: str, secret: dict[str, Any] | None = None, **given: Any) -> Any:
        """A call by the operator, after everything that stands there."""
        file = LedgerFile(self.path, ORGANISATION)
        try:
            secrets = {name: pack(value | {"salt": SALT}) for name, value in (secret or {}).items()}
            member = given.pop("member_", "")
            done = file.transact(lambda: file.operator.call(contract, function, given, secrets, member=member))
            return parse(done.answer)
        finally:
            file.close()

    def sql(self, query: str, *values: Any) -> None:
        """Change the file behind the ledger's back."""
        with sqlite3.connect(self.path) as sql:
            assert sql.execute(query, values).rowcount == 1, query
        sql.close()

    def seq(self, sub: str, at_ms: int) -> int:
        """Of the reading of a measuring point at an instant."""
        from signer import statement

        for said in self.line.statements:
            claims = statement.parse(said.data)
            if claims.sub == sub and claims.slot_ms == at_ms:
                return said.seq
        raise LookupError(f"{sub} {at_ms}")


def begun(folder: Path, now_s: int) -> tuple[Built, EmbeddedLedger, Authority]:
    """An empty ledger with a registered gateway, whose stream has begun."""
    now = dt.datetime.fromtimestamp(now_s, dt.UTC)
    gateways, organisation = Authority("Operator", now=now), Authority(ORGANISATION, now=now)
    receipts = organisation.receipts()
    issuer = Issuer(ORGANISATION, FileKey(receipts.key), (receipts.der,))
    line = Line("alpha", gateways, start_ms=now_s * 1000).begin()
    file = LedgerFile(folder / "ledger.db", ORGANISATION, now_s=lambda: now_s)
    ledger = EmbeddedLedger(file, issuer, Trust(gateways=(gateways.certificate,)), lambda: now_s + 2 * 86_400)
    file.register(Gateway("alpha"))
    trust = Trust(organisations={ORGANISATION: (organisation.certificate,)})
    return Built(folder / "ledger.db", line, trust), ledger, gateways


def read(line: Line, sub: str, at_ms: int, tenths: int, exported: bool) -> None:
    """Sign a reading, with the register words that it was made from."""
    words = Block(4, 0x48, tenths.to_bytes(4, "big") + bytes(4))
    key = 520 if exported else 264
    reading = Reading(sub, at_ms, None, ((key, exact(tenths, -1)),), 40, (words,))
    line.statements.append(line.chain.reading(reading, instant(at_ms + 40)))


def submit(ledger: EmbeddedLedger, batch: Batch) -> None:
    (outcome,) = ledger.submit([Submission("alpha", batch, batches.parse(batch.data)[1])])
    assert isinstance(outcome, Receipted), outcome


def community(built: Built, period_ms: int, start_ms: int, parts: dict[str, int] | None, kind: str = "fixed") -> None:
    """A group of the members with these coefficients."""
    built.call("sharing", "CreateGroup", group="g", zone="peninsula", period_ms=period_ms)
    names = list(parts or NAMES)
    for name in names:
        built.call("sharing", "SetMember", group="g", member=name, organisation=ORGANISATION)
    for place in ("roof", *(f"{name}-home" for name in names)):
        whose = {"kind": "generation"} if place == "roof" else {"kind": "consumption", "member": place[0]}
        at = {"gateway": "alpha", "sub": place, "from_ms": start_ms}
        built.call("sharing", "AddPoint", group="g", point=place, **whose, **at)
    if kind == "hourly":
        built.call("sharing", "Agree", group="g", from_ms=start_ms, kind=kind, members=names)
    else:
        secret = {"coefficients": {"members": parts}}
        built.call("sharing", "Agree", secret, group="g", from_ms=start_ms, kind=kind)


def build(folder: Path, kind: str = "fixed") -> Built:
    """Three periods of three members, settled, exchanged under an order, and certified; a rekey on the way."""
    built, ledger, _ = begun(folder, START // 1000 - 86_400)
    for number, row in enumerate(SHOWN):
        for sub, tenths in zip(PLACES, row, strict=True):
            read(built.line, sub, START + number * QUARTER, tenths, sub == "roof")
        if number == 1:
            built.line.rekey()
    submit(ledger, built.line.batch(0, 5))
    submit(ledger, built.line.batch(5, 5))  # ends with the rekey
    submit(ledger, built.line.rest(10))
    ledger.file.close()
    community(built, QUARTER, START, {"a": 500_000, "b": 300_000, "c": 200_000}, kind)
    if kind == "hourly":
        rows = {"rows": [[500_000, 300_000, 200_000]] * 48}
        hour = (31 + 28 + 31 + 30 + 31) * 24 + 1
        built.call("sharing", "PutHours", {"coefficients": rows}, group="g", from_ms=START, year=2026, first_hour=hour)
    built.call("sharing", "Settle", group="g", first_ms=START, count=3)
    built.call("exchanges", "Record", group="g", first_ms=START)
    owner = {"organisation": ORGANISATION, "member": "a"}
    built.call("origin", "RegisterDevice", device="pv", gateway="alpha", sub="roof", from_ms=START, **owner)
    built.call("origin", "Issue", device="pv", until_ms=START + QUARTER)
    built.call("origin", "Issue", device="pv", until_ms=START + 3 * QUARTER)
    built.call("origin", "Retire", device="pv", first=2, count=1, member_="a", **{"for": "a"})
    return built


def periods(count: int = 3) -> Sequence[int]:
    return [START + number * QUARTER for number in range(count)]
