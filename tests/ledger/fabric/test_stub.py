"""What a contract can read and write, through our shim and a peer that behaves as Fabric's does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.fabric import stub as stub_module
from ledger.fabric.stub import CallFailed, PeerError, Refused, Stub, composite_key, split_composite_key
from tests.ledger.fabric.fakepeer import START_NS, Collection, FakePeer, Fault, person, serving
from tests.ledger.fabric.kitchen import POLICY

OURS = {"ours": Collection(("Org1MSP",)), "theirs": Collection(("Org2MSP",), member_only_read=False)}
Step = Callable[[Stub], object]


class Told:
    """A contract that does what the test gives it, one step a call, and answers the result as JSON of its repr."""

    def __init__(self) -> None:
        self.step: Step = lambda stub: None
        self.result: Any = None

    def __call__(self, stub: Stub) -> bytes:
        self.result = self.step(stub)
        return b"done"


@pytest.fixture(params=[1000, 0], ids=["batches", "one by one"])
def ledger(request: pytest.FixtureRequest) -> Any:
    told = Told()
    with serving(told, OURS, peer=FakePeer(write_batch=request.param, get_multiple=request.param)) as peer:
        yield Scene(told, peer)


class Scene:
    def __init__(self, told: Told, peer: FakePeer) -> None:
        self.told = told
        self.peer = peer

    def do(self, step: Step, **how: Any) -> Any:
        """Commit this; what it gave."""
        self.told.step = step
        outcome = self.peer.commit("Step", **how)
        assert outcome.committed, outcome
        return self.told.result

    def fails(self, step: Step, **how: Any) -> str:
        """Commit this, which must not work; what the contract saw."""
        seen: list[str] = []

        def watched(stub: Stub) -> object:
            try:
                return step(stub)
            except PeerError as error:
                seen.append(str(error))
                raise

        self.told.step = watched
        before = self.peer.height
        outcome = self.peer.commit("Step", **how)
        assert outcome.status == 500
        assert self.peer.height == before
        return seen[0] if seen else outcome.message


def fill(scene: Scene, number: int, collection: str = "") -> None:
    def step(stub: Stub) -> None:
        with stub.batch():
            for i in range(number):
                stub.put(f"k{i:04}", f"v{i}".encode(), collection)

    scene.do(step)


def test_what_is_put_is_there_for_the_next_transaction_only(ledger: Scene) -> None:
    def twice(stub: Stub) -> object:
        stub.put("k", b"\x00\xff")
        return stub.get("k")

    assert ledger.do(twice) is None
    assert ledger.do(lambda stub: stub.get("k")) == b"\x00\xff"
    assert ledger.do(lambda stub: (stub.delete("k"), stub.get("k"))[1]) == b"\x00\xff"
    assert ledger.do(lambda stub: stub.get("k")) is None


def test_several_keys_come_in_their_order_and_absent_ones_are_none(ledger: Scene) -> None:
    fill(ledger, 5)
    assert ledger.do(lambda stub: stub.get_multiple(["k0003", "none", "k0000"])) == [b"v3", None, b"v0"]
    assert ledger.do(lambda stub: stub.get_multiple([])) == []


def test_values_that_do_not_match_the_keys_are_an_error() -> None:
    """A peer that cannot read its database answers several keys with no values at all."""
    told = Told()
    with serving(told) as peer:
        scene = Scene(told, peer)
        peer.faults.append(Fault("GET_STATE_MULTIPLE", payload=b""))
        assert "0 values for 2 keys" in scene.fails(lambda stub: stub.get_multiple(["a", "b"]))


def test_a_handler_may_ask_from_several_threads(ledger: Scene) -> None:
    """The peer drops a transaction's second request while one is open, and never answers it."""
    fill(ledger, 40)

    def step(stub: Stub) -> object:
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(stub.get, [f"k{i:04}" for i in range(40)]))

    assert ledger.do(step) == [f"v{i}".encode() for i in range(40)]
    assert ledger.peer.dropped == []


def test_many_keys_and_many_writes_are_cut_to_what_the_peer_takes() -> None:
    told = Told()
    with serving(told, OURS, peer=FakePeer(write_batch=10, get_multiple=7)) as peer:
        scene = Scene(told, peer)
        fill(scene, 25)
        assert peer.seen.count("WRITE_BATCH_STATE") == 3
        keys = [f"k{i:04}" for i in range(25)]
        assert scene.do(lambda stub: stub.get_multiple(keys)) == [f"v{i}".encode() for i in range(25)]
        assert peer.seen.count("GET_STATE_MULTIPLE") == 4


def test_a_batch_of_large_values_goes_in_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub_module, "_BATCH_BYTES", 1000)
    told = Told()
    with serving(told) as peer:
        scene = Scene(told, peer)

        def step(stub: Stub) -> None:
            with stub.batch():
                for i in range(4):
                    stub.put(f"k{i}", b"x" * 600)
                stub.delete("k9")

        scene.do(step)
        assert peer.seen.count("WRITE_BATCH_STATE") == 4
        assert [row.key for row in scene.do(lambda stub: list(stub.range()))] == ["k0", "k1", "k2", "k3"]


def test_a_batch_carries_every_kind_of_write(ledger: Scene) -> None:
    ledger.do(lambda stub: (stub.put("old", b"1"), stub.put("secret", b"2", "ours")))

    def step(stub: Stub) -> None:
        with stub.batch(), stub.batch():
            stub.delete("old")
            stub.put("new", b"3")
            stub.set_policy("new", POLICY)
            stub.purge("secret", "ours")

    ledger.do(step)
    assert ledger.do(lambda stub: [stub.get("old"), stub.get("new"), stub.policy("new")]) == [None, b"3", POLICY]
    assert ledger.do(lambda stub: [stub.get("secret", "ours"), stub.digest("secret", "ours")]) == [None, None]


def test_a_batch_that_is_not_finished_is_not_sent(ledger: Scene) -> None:
    def step(stub: Stub) -> None:
        try:
            with stub.batch():
                stub.put("half", b"1")
                raise KeyError
        except KeyError:
            stub.put("other", b"2")

    ledger.do(step)
    half = b"1" if ledger.peer.write_batch == 0 else None  # without batches it was sent at once
    assert ledger.do(lambda stub: [stub.get("half"), stub.get("other")]) == [half, b"2"]


@pytest.mark.parametrize(
    "wrong", [lambda stub: stub.put("k", b""), lambda stub: stub.put("", b"v"), lambda stub: stub.put("\ud800", b"v")]
)
def test_what_cannot_be_written_as_meant_is_an_error(ledger: Scene, wrong: Step) -> None:
    """An empty value would delete; a key is UTF-8."""
    assert ledger.fails(wrong) in {"ValueError", "UnicodeEncodeError"}


def test_every_error_of_the_peer_is_raised(ledger: Scene) -> None:
    words = "collection energy/tried/nowhere could not be found"
    for step in (
        lambda stub: stub.put("k", b"v", "nowhere"),
        lambda stub: stub.delete("k", "nowhere"),
        lambda stub: stub.purge("k", "nowhere"),
        lambda stub: stub.get("k", "nowhere"),
        lambda stub: stub.get_multiple(["k"], "nowhere"),
        lambda stub: stub.range(collection="nowhere"),
        lambda stub: stub.policy("k", "nowhere"),
        lambda stub: stub.set_policy("k", b"p", "nowhere"),
    ):
        assert words in ledger.fails(step)
    assert "not defined" in ledger.fails(lambda stub: stub.digest("k", "nowhere"))
    for kind, step in {
        "GET_STATE": lambda stub: stub.get("k"),
        "PUT_STATE": lambda stub: stub.put("k", b"v"),
        "DEL_STATE": lambda stub: stub.delete("k"),
        "GET_STATE_BY_RANGE": lambda stub: stub.range(),
        "GET_HISTORY_FOR_KEY": lambda stub: stub.history("k"),
        "GET_STATE_METADATA": lambda stub: stub.policy("k"),
        "PUT_STATE_METADATA": lambda stub: stub.set_policy("k", b"p"),
        "INVOKE_CHAINCODE": lambda stub: stub.invoke("other", [b"f"]),
        "GET_PRIVATE_DATA_HASH": lambda stub: stub.digest("k", "ours"),
        "PURGE_PRIVATE_DATA": lambda stub: stub.purge("k", "ours"),
    }.items():
        ledger.peer.faults.append(Fault(kind, error="the disk is full"))
        assert "the disk is full" in ledger.fails(step)
    assert ledger.peer.faults == []


def test_a_write_that_failed_cannot_be_swallowed(ledger: Scene) -> None:
    """The official library's worst: the put failed, the transaction was endorsed and VALID."""

    def step(stub: Stub) -> None:
        stub.put("good", b"1")
        try:
            with stub.batch():
                stub.put("k", b"v", "nowhere")
        except PeerError:
            pass

    ledger.fails(step)
    assert ledger.do(lambda stub: stub.get("good")) is None


def test_a_read_that_failed_can_be_handled(ledger: Scene) -> None:
    def step(stub: Stub) -> object:
        try:
            return stub.get("k", "nowhere")
        except PeerError:
            stub.put("k", b"1")
            return "handled"

    assert ledger.do(step) == "handled"


def test_a_range_goes_over_several_messages(ledger: Scene) -> None:
    fill(ledger, 250)
    rows = ledger.do(lambda stub: [(row.key, row.value) for row in stub.range("k0010", "k0220")])
    assert rows == [(f"k{i:04}", f"v{i}".encode()) for i in range(10, 220)]
    assert ledger.peer.seen.count("QUERY_STATE_NEXT") == 2
    assert len(ledger.do(lambda stub: list(stub.range()))) == 250
    assert ledger.do(lambda stub: list(stub.range("x"))) == []


def test_a_range_that_is_left_is_closed(ledger: Scene) -> None:
    fill(ledger, 250)

    def step(stub: Stub) -> object:
        with stub.range() as rows:
            first = next(rows).key
        rows.close()
        assert list(rows) == []
        return first

    assert ledger.do(step) == "k0000"
    assert ledger.peer.seen.count("QUERY_STATE_CLOSE") == 1
    assert ledger.peer.seen.count("QUERY_STATE_NEXT") == 0


def test_a_range_that_breaks_in_the_middle_is_no_shorter_range(ledger: Scene) -> None:
    fill(ledger, 250)
    ledger.peer.faults.append(Fault("QUERY_STATE_NEXT", after=1, error="the disk is gone"))
    assert "the disk is gone" in ledger.fails(lambda stub: list(stub.range()))


def test_a_range_that_the_peer_cuts_at_its_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub_module, "PEER_QUERY_LIMIT", 30)
    told = Told()
    with serving(told, peer=FakePeer(total_query_limit=30)) as peer:
        scene = Scene(told, peer)
        fill(scene, 31)
        assert "30 or more" in scene.fails(lambda stub: list(stub.range()))
        assert len(scene.do(lambda stub: list(stub.range("k0002")))) == 29


def test_composite_keys_are_no_part_of_a_simple_range(ledger: Scene) -> None:
    """An empty start means the first simple key: \\x01."""

    def step(stub: Stub) -> None:
        stub.put("simple", b"1")
        stub.put(composite_key("meter", "a", "1"), b"2")
        stub.put(composite_key("meter", "a", "2"), b"3")
        stub.put(composite_key("meter", "ab", "1"), b"4")

    ledger.do(step)
    assert ledger.do(lambda stub: [row.key for row in stub.range()]) == ["simple"]
    assert ledger.do(lambda stub: [row.key for row in stub.page("", "", 10).rows]) == ["simple"]
    found = ledger.do(lambda stub: [split_composite_key(row.key) for row in stub.range_of("meter", "a")])
    assert found == [("meter", "a", "1"), ("meter", "a", "2")]
    page = ledger.do(lambda stub: stub.page_of("meter", size=2))
    assert [row.value for row in page.rows] == [b"2", b"3"]
    page = ledger.do(lambda stub: stub.page_of("meter", size=2, bookmark=page.bookmark))
    assert ([row.value for row in page.rows], page.bookmark) == ([b"4"], "")
    assert ledger.fails(lambda stub: stub.range("\x00meter")) == "ValueError"


def test_pages_with_bookmarks_cover_a_range_once(ledger: Scene) -> None:
    fill(ledger, 25)
    keys: list[str] = []
    bookmark = ""
    for size in (10, 10, 3):
        page = ledger.do(lambda stub, size=size, mark=bookmark: stub.page("k0000", "k0023", size, mark))
        keys += [row.key for row in page.rows]
        bookmark = page.bookmark
    assert keys == [f"k{i:04}" for i in range(23)]
    assert bookmark == ""


@pytest.mark.parametrize("bookmark", ["a", "k0020", "z", "\x00meter"])
def test_a_bookmark_cannot_lead_out_of_its_range(ledger: Scene, bookmark: str) -> None:
    fill(ledger, 25)
    ledger.told.step = lambda stub: stub.page("k0005", "k0020", 10, bookmark)
    outcome = ledger.peer.query("Step")
    assert (outcome.status, outcome.message) == (
        400,
        "malformed: the bookmark is outside the range that it is for",
    )


def test_what_only_a_reading_transaction_may_do(ledger: Scene) -> None:
    fill(ledger, 3, "ours")
    write: Step = lambda stub: stub.put("k", b"v")  # noqa: E731
    page: Step = lambda stub: stub.page("", "", 2)  # noqa: E731
    private: Step = lambda stub: list(stub.range(collection="ours"))  # noqa: E731
    assert [row.key for row in ledger.do(private)] == ["k0000", "k0001", "k0002"]  # type: ignore[attr-defined]
    for first, then in ((write, page), (page, write), (write, private), (private, write)):
        assert "quer" in ledger.fails(lambda stub, a=first, b=then: (a(stub), b(stub))).lower()


def test_the_history_is_newest_first(ledger: Scene) -> None:
    for i in range(120):
        ledger.do(lambda stub, i=i: stub.put("k", b"%d" % i), time_ns=START_NS + i)
    ledger.do(lambda stub: stub.delete("k"), time_ns=START_NS + 120)
    changes = ledger.do(lambda stub: list(stub.history("k")))
    assert [change.timestamp_ns - START_NS for change in changes] == list(range(120, -1, -1))
    assert [change.value for change in changes] == [None, *(b"%d" % i for i in range(119, -1, -1))]
    assert len({change.tx_id for change in changes}) == 121
    assert ledger.do(lambda stub: list(stub.history("never"))) == []


def test_private_data_and_its_digest(ledger: Scene) -> None:
    ledger.do(lambda stub: stub.put("k", b"secret", "ours"))
    assert ledger.do(lambda stub: [stub.get("k", "ours"), stub.get("k")]) == [b"secret", None]
    assert ledger.do(lambda stub: stub.digest("k", "ours")) == sha256(b"secret").digest()
    ledger.do(lambda stub: stub.delete("k", "ours"))
    assert ledger.do(lambda stub: [stub.get("k", "ours"), stub.digest("k", "ours")]) == [None, None]
    assert ledger.fails(lambda stub: stub.digest("k", "")) == "ValueError"
    assert ledger.fails(lambda stub: stub.purge("k", "")) == "ValueError"


def test_a_private_value_that_only_others_hold_is_never_absent(ledger: Scene) -> None:
    """Else two organisations' contracts would disagree, or one take it for free. Of several, the peer hides it."""
    ledger.do(lambda stub: stub.put("k", b"secret", "theirs"), creator=person("Org2MSP", "bob"))
    assert ledger.do(lambda stub: stub.digest("k", "theirs")) == sha256(b"secret").digest()
    assert "not available" in ledger.fails(lambda stub: stub.get("k", "theirs"))
    assert "not available" in ledger.fails(lambda stub: stub.get_multiple(["other", "k"], "theirs"))
    assert ledger.do(lambda stub: stub.get_multiple(["other"], "theirs")) == [None]


def test_who_is_no_member_neither_reads_nor_writes(ledger: Scene) -> None:
    bob = person("Org2MSP", "bob")
    assert "read access" in ledger.fails(lambda stub: stub.get("k", "ours"), creator=bob)
    assert "write access" in ledger.fails(lambda stub: stub.put("k", b"v", "ours"), creator=bob)


def test_a_block_to_live(ledger: Scene) -> None:
    told = Told()
    with serving(told, {"short": Collection(("Org1MSP",), block_to_live=2)}) as peer:
        scene = Scene(told, peer)
        scene.do(lambda stub: stub.put("k", b"v", "short"))
        for expected in (b"v", b"v", b"v", None):
            assert scene.do(lambda stub: stub.get("k", "short")) == expected


def test_key_level_endorsement(ledger: Scene) -> None:
    ledger.do(lambda stub: (stub.put("k", b"1"), stub.put("p", b"2", "ours")))
    assert ledger.do(lambda stub: stub.policy("k")) is None
    ledger.do(lambda stub: (stub.set_policy("k", POLICY), stub.set_policy("p", POLICY[:-2], "ours")))
    assert ledger.do(lambda stub: [stub.policy("k"), stub.policy("p", "ours")]) == [POLICY, POLICY[:-2]]
    ledger.do(lambda stub: stub.put("k", b"3"))
    assert ledger.do(lambda stub: stub.policy("k")) == POLICY
    ledger.told.step = lambda stub: stub.put("p", b"4", "ours")
    assert "unmarshalling SignaturePolicyEnvelope" in ledger.peer.commit("F").message
    ledger.do(lambda stub: stub.set_policy("k", b""))
    assert ledger.do(lambda stub: stub.policy("k")) is None


def test_the_call_comes_as_it_was_sent(ledger: Scene) -> None:
    ledger.told.step = lambda stub: (stub.function, stub.arguments, stub.transient, stub.is_init)
    outcome = ledger.peer.commit(b"\xff\x00", [b"", b"\xfe"], transient={"a": b"\x00\xff", "b": b""})
    assert outcome.committed
    assert ledger.told.result == (b"\xff\x00", (b"", b"\xfe"), {"a": b"\x00\xff", "b": b""}, False)


def test_the_caller_and_the_transaction(ledger: Scene) -> None:
    alice = person("Org1MSP", "alice", aigeco_role="operator settler", other="x")
    ledger.told.step = lambda stub: (stub.creator, stub.tx_id, stub.channel, stub.timestamp_ns)
    outcome = ledger.peer.commit("F", creator=alice, time_ns=1_750_000_000_123_456_789)
    creator, tx_id, channel, timestamp_ns = ledger.told.result
    assert (creator.msp_id, creator.name) == ("Org1MSP", "alice")
    assert creator.attributes == {"aigeco.role": "operator settler", "other": "x"}
    assert (tx_id, channel, timestamp_ns) == (outcome.tx_id, "energy", 1_750_000_000_123_456_789)
    plain = person("Org2MSP", "bob")
    assert ledger.do(lambda stub: stub.creator.attributes, creator=plain) == {}


def test_events(ledger: Scene) -> None:
    ledger.told.step = lambda stub: stub.set_event("settled", b"\x01")
    assert ledger.peer.commit("F").event == ("settled", b"\x01")
    assert ledger.fails(lambda stub: stub.set_event("", b"")) == "ValueError"
    assert ledger.fails(lambda stub: (stub.set_event("a", b""), stub.set_event("b", b""))) == "ValueError"


def test_init_comes_first_and_once() -> None:
    told = Told()
    with serving(told, init_required=True) as peer:
        assert "has not been initialized" in peer.commit("F").message
        told.step = lambda stub: (stub.put("set", b"up"), stub.is_init)[1]
        assert peer.commit("F", is_init=True).committed
        assert told.result is True
        assert "already initialized" in peer.commit("F", is_init=True).message
        assert peer.commit("F").committed
        assert told.result is False


def test_one_contract_calls_another() -> None:
    outer, inner = Told(), Told()
    with serving(outer, name="outer") as peer, serving(inner, name="inner", peer=peer):
        peer.contracts = {name: peer.contracts[name] for name in ("outer", "inner")}
        scene = Scene(outer, peer)
        inner.step = lambda stub: (stub.put("k", b"inner"), stub.function, stub.arguments, stub.creator.msp_id)[1:]

        def call(stub: Stub) -> list[object]:
            stub.put("k", b"outer")
            answers = [stub.invoke("inner", [b"F", b"\xff"]), stub.invoke("inner", [b"F"], "energy")]
            return [*answers, stub.get("k")]

        assert scene.do(call) == [b"done", b"done", None]
        assert inner.result == (b"F", (), "Org1MSP")
        assert scene.do(lambda stub: stub.get("k")) == b"outer"
        assert peer.world["inner"].public["k"].value == b"inner"

        def refuse(stub: Stub) -> None:
            raise Refused("unknown", "no such meter", 404)

        inner.step = refuse
        seen: list[CallFailed] = []

        def asks(stub: Stub) -> None:
            try:
                stub.invoke("inner", [b"F"])
            except CallFailed as error:
                seen.append(error)

        scene.do(asks)
        assert (seen[0].status, seen[0].message) == (404, "unknown: no such meter")
        assert "successfully defined" in scene.fails(lambda stub: stub.invoke("nowhere", [b"F"]))
        assert "exists" in scene.fails(lambda stub: stub.invoke("outer", [b"F"]))


def test_reads_and_ranges_that_changed_meanwhile_are_conflicts(ledger: Scene) -> None:
    fill(ledger, 3)
    ledger.told.step = lambda stub: (stub.get("k0000"), stub.put("a", b"1"))
    reading = ledger.peer.endorse(ledger.peer.propose("F"))
    ledger.told.step = lambda stub: (list(stub.range()), stub.put("b", b"1"))
    ranging = ledger.peer.endorse(ledger.peer.propose("F"))
    ledger.told.step = lambda stub: (next(stub.range()), stub.put("c", b"1"))
    peeking = ledger.peer.endorse(ledger.peer.propose("F"))
    ledger.do(lambda stub: stub.put("k0000", b"changed"))
    assert ledger.peer.submit(reading, ranging, peeking) == [
        "MVCC_READ_CONFLICT",
        "PHANTOM_READ_CONFLICT",
        "PHANTOM_READ_CONFLICT",
    ]
    again = ledger.peer.endorse(ledger.peer.propose("F"))
    assert ledger.peer.submit(again, again) == ["VALID", "DUPLICATE_TXID"]


def test_two_peers_endorse_the_same(ledger: Scene) -> None:
    """One proposal, two organisations, each with its contract's server: the same writes; secrets with members."""
    told = Told()
    told.step = lambda stub: (stub.put("k", stub.transient["x"]), stub.put("p", b"secret", "ours"))
    with serving(told, OURS, peer=FakePeer("Org1MSP")) as one, serving(told, OURS, peer=FakePeer("Org2MSP")) as two:
        signed = one.propose("F", transient={"x": b"1"})
        endorsed = [one.endorse(signed), two.endorse(signed)]
        assert endorsed[0].writes == endorsed[1].writes
        assert (one.submit(endorsed[0]), two.submit(endorsed[1])) == (["VALID"], ["VALID"])
        assert one.world["tried"].hashed == two.world["tried"].hashed
        assert "p" in one.world["tried"].private["ours"]
        assert "ours" not in two.world["tried"].private


@given(st.lists(st.text(st.characters(exclude_characters="\x00\U0010ffff", codec="utf-8")), min_size=1))
def test_composite_keys_come_apart_as_they_were_put_together(parts: list[str]) -> None:
    key = composite_key(*parts)
    assert list(split_composite_key(key)) == parts
    assert key.startswith(composite_key(parts[0]))


@pytest.mark.parametrize("part", ["a\x00b", "\U0010ffff"])
def test_a_part_cannot_hold_what_parts_the_parts(part: str) -> None:
    with pytest.raises(ValueError, match="U\\+0000"):
        composite_key("kind", part)


@pytest.mark.parametrize("key", ["", "\x00", "plain", "\x00open"])
def test_what_is_no_composite_key(key: str) -> None:
    with pytest.raises(ValueError, match="no composite key"):
        split_composite_key(key)


def test_a_refusal_says_reason_and_words() -> None:
    assert str(Refused("unknown", "no such meter")) == "unknown: no such meter"
    with pytest.raises(ValueError, match="400"):
        Refused("wrong", "status", 500)
