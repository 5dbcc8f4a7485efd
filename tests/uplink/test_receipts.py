"""What counts as a receipt and what is an alarm, message by message."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.batch import Batch
from signer.dialogue import Hello, Refusal, RefusalReason, issue_head
from signer.keys.file import FileKey
from signer.receipt import Committed
from signer.trust import Trust
from tests.ledger.lines import World, der
from tests.uplink.organisations import NOW_S, Organisation
from uplink import topics
from uplink.receipts import Collector, Sent


class Desk:
    """A collector with two organisations, a line of batches, and the alarms so far."""

    def __init__(self, known: Callable[[bytes], Committed | None] = lambda root: None, **newest: int) -> None:
        self.first, self.second = Organisation("Org1MSP"), Organisation("Org2MSP")
        self.pins = Trust(organisations={one.name: (one.authority.certificate,) for one in (self.first, self.second)})
        self.alarms: list[str] = []
        self.collector = Collector(
            "alpha",
            self.pins,
            ["Org1MSP", "Org2MSP"],
            self.alarms.append,
            known,
            {(name, "embedded"): block for name, block in newest.items()},
        )
        line = World().line().begin().grow(20)
        self.batches = [line.batch(first, 3) for first in range(0, 21, 3)]

    def receipt(self, data: bytes, correlation: bytes, organisation: str = "Org1MSP", gateway: str = "alpha") -> None:
        self.collector.take(topics.Topic(gateway, "receipt", organisation), data, correlation)

    def alarm(self) -> str:
        """The one alarm since the last call."""
        (words,) = self.alarms
        self.alarms.clear()
        return words


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.collector.begin(made.batches[1])
    return made


def test_good_receipts_count_once_for_each_organisation(desk: Desk) -> None:
    batch = desk.batches[1]
    for organisation in (desk.first, desk.second):
        good = organisation.sign(batch)
        for _ in range(3):  # it comes again after a batch was sent again
            desk.receipt(good, batch.root, organisation.name)
    assert {name: said.root for name, said in desk.collector.receipts.items()} == {
        "Org1MSP": batch.root,
        "Org2MSP": batch.root,
    }
    assert not desk.alarms
    assert desk.collector.late() == ()


def other(desk: Desk) -> Organisation:
    """An organisation of the same name under an authority that nobody pinned."""
    return Organisation(desk.first.name)


BAD: dict[str, tuple[str, Callable[[Desk, Batch], tuple[bytes, bytes]]]] = {
    "nothing": ("malformed", lambda desk, batch: (b"", batch.root)),
    "noise": ("malformed", lambda desk, batch: (bytes(range(200)), batch.root)),
    "too long": ("malformed", lambda desk, batch: (bytes(100_000), batch.root)),
    "a statement": ("typ", lambda desk, batch: (batch.statements[0], batch.root)),
    "a changed byte": ("signature", lambda desk, batch: (_changed(desk.first.sign(batch)), batch.root)),
    "of an unpinned authority": ("certificate", lambda desk, batch: (other(desk).sign(batch), batch.root)),
    "without the receipt role": (
        "role",
        lambda desk, batch: (desk.first.sign(batch, issued=desk.first.authority.receipts("client")), batch.root),
    ),
    "with an expired certificate": (
        "certificate",
        lambda desk, batch: (
            desk.first.sign(batch, issued=desk.first.authority.receipts(days=(-30, -20))),
            batch.root,
        ),
    ),
    "in another organisation's name": (
        "organisation",
        lambda desk, batch: (desk.second.sign(batch), batch.root),
    ),
    "in our name, signed by another": (
        "certificate",
        lambda desk, batch: (desk.second.sign(batch, organisation="Org1MSP"), batch.root),
    ),
    "for another gateway": ("gateway", lambda desk, batch: (desk.first.sign(batch, gateway="beta"), batch.root)),
    "old, as the answer to this one": ("old", lambda desk, batch: (desk.first.sign(desk.batches[0]), batch.root)),
    "for a batch never made here": (
        "root",
        lambda desk, batch: (desk.first.sign(strange := _strange()), strange.root),
    ),
    "without correlation": ("old", lambda desk, batch: (desk.first.sign(batch), b"")),
    "of another range": ("first", lambda desk, batch: (desk.first.sign(_shifted(batch)), batch.root)),
    "of another count": ("count", lambda desk, batch: (desk.first.sign(_counted(batch)), batch.root)),
}


def _changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _strange() -> Batch:
    return World().line().begin().rest(0)


def _shifted(batch: Batch) -> Sent:
    return Sent(batch.stream, batch.first + 1, batch.count, batch.head, batch.root)


def _counted(batch: Batch) -> Sent:
    return Sent(batch.stream, batch.first, batch.count - 1, batch.head, batch.root)


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_an_alarm_and_settles_nothing(desk: Desk, name: str) -> None:
    rule, make = BAD[name]
    batch = desk.batches[1]
    data, correlation = make(desk, batch)
    desk.receipt(data, correlation)
    assert f"Org1MSP sent a receipt that does not count: {rule}: " in desk.alarm()
    assert not desk.collector.receipts
    assert not desk.collector.late()
    desk.receipt(desk.first.sign(batch), batch.root)  # and the right one still counts
    assert list(desk.collector.receipts) == ["Org1MSP"]
    assert not desk.alarms


def test_a_second_different_receipt_is_an_alarm_and_counts(desk: Desk) -> None:
    """Its ledger was restored from a backup: the batch is committed again, in another block."""
    batch = desk.batches[1]
    first, second = desk.first.sign(batch, block=4), desk.first.sign(batch, block=5)
    desk.receipt(first, batch.root)
    desk.collector.finish()
    desk.collector.begin(batch)
    assert not desk.collector.receipts
    desk.receipt(second, batch.root)
    assert "gave another receipt before for the same batch: block 4" in desk.alarm()
    assert desk.collector.receipts["Org1MSP"].data == second


def test_a_finished_batch_that_is_sent_again_is_answered_again(desk: Desk) -> None:
    batch = desk.batches[1]
    good = desk.first.sign(batch)
    desk.receipt(good, batch.root)
    desk.collector.finish()
    desk.receipt(good, batch.root)
    assert not desk.collector.late()
    desk.collector.begin(batch)
    assert not desk.collector.receipts
    desk.receipt(good, batch.root)
    assert desk.collector.receipts["Org1MSP"].data == good
    assert not desk.alarms


def test_a_refused_hello_is_kept_until_the_next(desk: Desk) -> None:
    for nonce in (bytes(16), bytes([1]) * 16):
        desk.collector.ask(Hello(desk.batches[1].stream, 5, desk.batches[1].head, nonce))
        said = Refusal(RefusalReason.UNKNOWN_GATEWAY, desk.batches[1].stream, bytes(32), words="not registered")
        assert not desk.collector.strangers
        desk.collector.take(topics.Topic("alpha", "refusal", "Org1MSP"), said.encode(), nonce)
        assert desk.collector.strangers == {"Org1MSP": said}
    late = Refusal(RefusalReason.UNKNOWN_GATEWAY, desk.batches[1].stream, bytes(32), words="late")
    desk.collector.take(topics.Topic("alpha", "refusal", "Org1MSP"), late.encode(), bytes(16))
    assert desk.collector.strangers == {"Org1MSP": said}, "the answer to an earlier start decides nothing"
    assert not desk.alarms


def test_blocks_do_not_go_back_for_batches_sent_later(desk: Desk) -> None:
    for number, block in ((1, 10), (2, 10), (3, 12)):
        desk.collector.begin(desk.batches[number])
        desk.receipt(desk.first.sign(desk.batches[number], block), desk.batches[number].root)
        assert "Org1MSP" in desk.collector.receipts
    desk.collector.begin(desk.batches[4])
    desk.receipt(desk.first.sign(desk.batches[4], 11), desk.batches[4].root)
    assert "block: block 11 is below 12" in desk.alarm()
    desk.receipt(desk.second.sign(desk.batches[4], 3), desk.batches[4].root, "Org2MSP")  # has blocks of its own
    desk.receipt(desk.first.sign(desk.batches[4], 2, channel="energy"), desk.batches[4].root)  # so has each channel
    assert set(desk.collector.receipts) == {"Org1MSP", "Org2MSP"}
    assert not desk.alarms


def test_blocks_do_not_go_back_across_a_restart() -> None:
    desk = Desk(Org1MSP=50)
    desk.collector.begin(desk.batches[0])
    desk.receipt(desk.first.sign(desk.batches[0], 49), desk.batches[0].root)
    assert "block: " in desk.alarm()
    desk.receipt(desk.first.sign(desk.batches[0], 51), desk.batches[0].root)
    assert "Org1MSP" in desk.collector.receipts


def test_late_receipts_are_collected_for_their_own_batch(desk: Desk) -> None:
    early, later = desk.batches[1], desk.batches[2]
    desk.receipt(desk.first.sign(early, 1), early.root)
    desk.collector.begin(later)
    desk.receipt(desk.first.sign(later, 3), later.root)
    desk.receipt(desk.second.sign(early, 1), early.root, "Org2MSP")
    assert [(said.organisation, said.root) for said in desk.collector.late()] == [("Org2MSP", early.root)]
    assert desk.collector.late() == ()
    assert set(desk.collector.receipts) == {"Org1MSP"}
    assert not desk.alarms


def test_a_receipt_for_a_batch_from_before_the_start_is_checked_against_the_spool() -> None:
    desk = Desk(known=lambda root: rows.get(root))
    kept = desk.batches[0]
    rows = {kept.root: Sent.of(kept)}
    desk.receipt(desk.first.sign(kept, 7), kept.root)
    assert [said.block for said in desk.collector.late()] == [7]
    desk.receipt(desk.first.sign(desk.batches[1]), desk.batches[1].root)
    assert "root: " in desk.alarm()


def test_what_came_before_a_batch_is_sent_again_still_counts(desk: Desk) -> None:
    batch = desk.batches[1]
    desk.receipt(desk.first.sign(batch), batch.root)
    desk.collector.begin(batch)
    assert list(desk.collector.receipts) == ["Org1MSP"]
    desk.receipt(desk.second.sign(batch), batch.root, "Org2MSP")
    assert len(desk.collector.receipts) == 2


def test_refusals_are_believed_about_the_batch_in_flight_only(desk: Desk) -> None:
    batch, topic = desk.batches[1], topics.Topic("alpha", "refusal", "Org1MSP")
    old = Refusal(RefusalReason.FORK, batch.stream, desk.batches[0].root, words="no")
    desk.collector.take(topic, old.encode(), old.root)
    assert not desk.collector.refusals
    new = Refusal(RefusalReason.FORK, batch.stream, batch.root, 5, bytes(32), "no")
    desk.collector.take(topic, new.encode(), new.root)
    assert desk.collector.refusals == {"Org1MSP": new}
    desk.collector.begin(batch)  # sent again: asked again
    assert not desk.collector.refusals
    assert not desk.alarms
    desk.collector.take(topic, b"\x00", batch.root)
    assert "cannot be read" in desk.alarm()


def test_an_organisation_that_is_not_configured_is_one_alarm(desk: Desk) -> None:
    batch = desk.batches[1]
    stranger = Organisation("Org9MSP")
    for _ in range(5):
        desk.receipt(stranger.sign(batch), batch.root, "Org9MSP")
    assert "Org9MSP, which is not configured" in desk.alarm()
    assert not desk.collector.receipts


def test_heads_answer_one_hello(desk: Desk) -> None:
    batch = desk.batches[1]
    first, second = (Hello(batch.stream, 5, batch.head, bytes([number]) * 16) for number in (1, 2))

    def head(hello: Hello, by: Organisation, name: str | None = None, gateway: str = "alpha") -> bytes:
        certificates = (der(by.issued.certificate),)
        return issue_head(
            FileKey(by.issued.key), certificates, name or by.name, gateway, NOW_S, hello, 2, desk.batches[0].head
        )

    topic = topics.Topic("alpha", "head", "Org1MSP")
    desk.collector.ask(first)
    desk.collector.ask(second)
    desk.collector.take(topic, head(first, desk.first), first.nonce)
    assert not desk.collector.heads
    assert not desk.alarms
    for wrong in (head(first, desk.first), head(second, desk.second), head(second, other(desk)), b""):
        desk.collector.take(topic, wrong, second.nonce)
        assert "Org1MSP sent a head that does not count" in desk.alarm()
    desk.collector.take(topic, head(second, desk.first, gateway="beta"), second.nonce)
    assert "gateway: " in desk.alarm()
    desk.collector.take(topic, head(second, desk.first), second.nonce)
    assert desk.collector.heads["Org1MSP"].seq == 2


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["receipt", "refusal", "head"]),
    st.binary(max_size=300),
    st.integers(0, 2000),
    st.binary(max_size=40),
)
def test_no_message_makes_the_collector_fail(kind: str, noise: bytes, position: int, correlation: bytes) -> None:
    desk = DESK
    batch = desk.batches[1]
    good = bytearray(GOOD)
    good[position % len(good)] ^= noise[0] if noise else 0
    for payload in (noise, bytes(good)):
        desk.collector.take(topics.Topic("alpha", kind, "Org1MSP"), payload, correlation)
    if bytes(good) != GOOD:
        assert "Org1MSP" not in desk.collector.receipts
    assert batch.root == desk.batches[1].root


DESK = Desk()
DESK.collector.begin(DESK.batches[1])
DESK.collector.ask(Hello(DESK.batches[1].stream, 5, DESK.batches[1].head, bytes(16)))
GOOD = DESK.first.sign(DESK.batches[1])
