"""A peer that answers with receipts that are forged, somebody else's, or old: alarms, and nothing is settled or pruned.

The gateway's store is full enough to want to prune, so that a false receipt would do harm at once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from drivers import map as maps
from drivers.reading import Block, Reading, exact
from edge.spool import Position, Spool
from hw_sim.stage import ORGANISATIONS
from signer.batch import Batch
from signer.chain import Chain, Descriptor
from signer.keys import open_key
from signer.receipt import parse
from signer.statement import Instant, Statement
from signer.trust import load_pem
from tests.system.audit import check_holds
from tests.system.conftest import MALLORY
from tests.system.home import Home
from tests.system.mallory import Mallory, impostor
from tests.system.town import Town
from uplink.receipts import Sent

BUDGET_BYTES = 16_000_000
FILL_BYTES = 12_000_000
"""Of the budget: more than the 70 % from which the gateway prunes, less than the 80 % at which it reads less."""

RUN = 8
"""Statements of one transaction, and so the least that is pruned at a time."""


def fill(home: Home) -> None:
    """Put so many statements into a home's spool as if it had read for an hour."""
    meter_map = maps.load("eastron_sdm120")
    certificates = tuple(one.public_bytes(Encoding.DER) for one in load_pem(home.folder / "signer.pem"))
    chain = Chain(home.gateway, open_key("file:signer.key", home.folder), None, 1)
    sub = f"{home.gateway}-meter"
    blocks = tuple(Block(3, 125 * number, bytes(250)) for number in range(15))
    count = FILL_BYTES // 4000
    begin_ms = (time.time_ns() // 1_000_000_000 - count) * 1000

    def at(ms: int) -> Instant:
        return Instant(ms, 0, 1, 16_000)

    spool = Spool.open(home.spool, home.gateway, begin_ms)
    made: list[Statement] = [chain.genesis(at(begin_ms), certificates)]
    said = Descriptor(1000, meter_map.digest, meter_map.name, 0, "")
    spool.append([*made, chain.descriptor(sub, at(begin_ms), said)], maps=[meter_map])
    for start in range(0, count, RUN):
        slots = [begin_ms + 1000 * number for number in range(start, start + RUN)]
        made = [
            chain.reading(Reading(sub, slot, None, ((264, exact(slot, 0)),), 9, blocks), at(slot + 9)) for slot in slots
        ]
        spool.append(made, {sub: Position(slots[-1] + 1000, 1000)})
    spool.close("clean")


@pytest.fixture(scope="module")
def mallory(street: Town) -> Iterator[Mallory]:
    made = Mallory(street)
    yield made
    made.close()


@pytest.fixture
def victim(street: Town, mallory: Mallory) -> Iterator[Home]:
    """A gateway that needs the third organisation's receipts, and has a lot to send."""
    home = street.homes["victim"]
    home.edit('path = "spool.db"', f'path = "spool.db"\nbudget_mb = {BUDGET_BYTES // 1_000_000}')
    fill(home)
    home.start()
    mallory.greet("victim")
    yield home
    home.actor.stop(signal.SIGKILL)


def lies(mallory: Mallory, batch: Batch, elsewhere: bytes) -> dict[str, tuple[bytes, bytes]]:
    """What the gateway must say of a receipt -> the receipt, and what it comes as an answer to."""
    other = Sent(batch.stream, batch.first, batch.count, batch.head, bytes(31) + b"1")
    longer = Sent(batch.stream, batch.first, batch.count + 1, batch.head, batch.root)
    forged = impostor(MALLORY)
    made = {
        "certificate: ": mallory.receipt("victim", batch, 7, forged),
        "signature: was not signed with the key of MalloryMSP": mallory.receipt(
            "victim", batch, 7, forged, certificate=mallory.own
        ),
        "role: ": mallory.receipt("victim", batch, 7, mallory.authority.receipts(role="member")),
        "was not valid at ": mallory.receipt("victim", batch, 7, mallory.authority.receipts(days=(-30, -1))),
        f"count: {batch.count + 1} is not the local {batch.count}": mallory.receipt("victim", longer, 7),
        "gateway: is for neighbour, not for victim": mallory.receipt("neighbour", batch, 7),
        f"organisation: is signed in the name of {ORGANISATIONS[0]}": elsewhere,
        "old: is for 0000000000000000 and came as the answer to ": mallory.receipt("victim", other, 7),
        "malformed: ": b"receipt",
    }
    answers = {words: (payload, batch.root) for words, payload in made.items()}
    answers["which is no batch of this gateway"] = (mallory.receipt("victim", other, 7), other.root)
    return answers


def check_nothing_settled(home: Home) -> None:
    """Everything is where it was, although there is reason to prune."""
    counts = home.counts()
    assert (counts.committed, counts.used_bytes > 0.7 * BUDGET_BYTES) == (0, True)
    with home.reading() as reader:
        assert list(reader.pruned(1)) == []
        assert MALLORY not in {parse(data).organisation for data in reader.receipts()}


def test_false_receipts_are_alarms_and_settle_nothing(street: Town, mallory: Mallory, victim: Home) -> None:
    first = mallory.batch("victim", 0)
    victim.until(lambda: all(street.streams(name, "victim") for name in ORGANISATIONS))
    with street.ledger(ORGANISATIONS[0]) as file:
        elsewhere = file.receipt(first.stream, 0)
    assert elsewhere is not None
    answers = lies(mallory, first, elsewhere)
    for payload, correlation in answers.values():
        mallory.say("victim", "receipt", payload, correlation)
    for words in answers:
        victim.says(f"{MALLORY} sent a receipt that does not count: ", words)
    for words in answers:
        victim.alarm(f"{MALLORY} sent a receipt that does not count: ", words, "try: ask MalloryMSP")
    victim.stores(3)  # one a second, and once a second it would prune
    check_nothing_settled(victim)

    good = mallory.receipt("victim", first, 7)
    mallory.say("victim", "receipt", good, first.root)
    victim.until(lambda: victim.counts().committed == first.count)
    second = mallory.batch("victim", first.count)
    with victim.reading() as reader:
        pruned = victim.until(lambda: list(reader.pruned(1)))
        assert max(seq for seq, _ in pruned) < first.count
    mallory.say("victim", "receipt", good, second.root)
    victim.alarm(f"old: is for {first.root.hex()[:16]} and came as the answer to {second.root.hex()[:16]}")
    mallory.say("victim", "receipt", mallory.receipt("victim", second, 6), second.root)
    victim.alarm("block: block 6 is below 7, seen before")
    victim.stores(3)
    with victim.reading() as reader:
        assert max(seq for seq, _ in reader.pruned(1)) < first.count
    assert victim.counts().committed == first.count

    mallory.say("victim", "receipt", mallory.receipt("victim", second, 8), second.root)
    victim.until(lambda: victim.counts().committed >= first.count + second.count)
    check_holds(street.evidence(victim, "victim"))


def test_a_stranger_s_receipt_is_an_alarm_once(street: Town, mallory: Mallory) -> None:
    home = street.homes["plain"]
    home.start()
    batch = mallory.batch("plain", 0)
    for block in (1, 2):
        mallory.say("plain", "receipt", mallory.receipt("plain", batch, block), batch.root)
    home.alarm(f"{MALLORY}, which is not configured here, sent a receipt for plain")
    home.settles()
    assert home.log().count(MALLORY) == 1
    home.actor.stop(signal.SIGKILL)
    assert set(street.evidence(home, "plain")["receipts"]) == set(ORGANISATIONS)
