"""Records have one encoding, arguments are checked by name, and a call is all or nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rules import record
from ledger.rules.record import NoRecord, pack, unpack
from ledger.rules.world import (
    Call,
    Caller,
    Contract,
    Declined,
    Reason,
    State,
    integer,
    key,
    named,
    octets,
    only,
    ordered,
    text,
    under,
)
from tests.ledger.world import MemoryLedger

OPERATOR = Caller("Org1MSP", "ana", {"aigeco.role": "operator settler"})

items = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), items, max_size=5))
def test_a_record_comes_back_and_has_one_encoding(content: dict[str, object]) -> None:
    data = pack(content)
    assert unpack(data) == content
    assert pack(dict(reversed(content.items()))) == data


@given(st.binary(max_size=60))
def test_foreign_bytes_are_a_record_or_are_refused(data: bytes) -> None:
    try:
        found = unpack(data)
    except NoRecord:
        return
    assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[1]", "an object is needed"),
        (b'{"a":1.5}', "1.5 is no integer"),
        (b'{"a":NaN}', "NaN is no integer"),
        (b'{"a":1,"a":2}', "'a' is there twice"),
        (b'{"a":"\\ud800"}', "surrogates not allowed"),
        (b'{"a":' + b"[" * 20 + b"]" * 20 + b"}", "nested deeper"),
        (b'{"a":' + b"[" * 100_000, "nested deeper"),
        (b"\xff", "can't decode"),
        (b"{" + b" " * record.MAX_BYTES + b"}", "at most"),
    ],
)
def test_what_is_no_record(data: bytes, words: str) -> None:
    with pytest.raises(NoRecord, match=words):
        unpack(data)


def test_what_has_no_place_in_a_record_is_a_mistake_of_ours() -> None:
    for wrong in (1.5, b"bytes", {1: 2}, {"a": {3}}):
        with pytest.raises(TypeError):
            pack({"a": wrong})


def test_arguments_are_checked_by_name() -> None:
    given = {"name": "gw-1", "count": 3, "root": "00ff", "flag": True, "empty": "", "path": "a/b", "upper": "00FF"}
    assert (named(given, "name"), integer(given, "count", 0, 3), octets(given, "root", 2)) == ("gw-1", 3, b"\0\xff")
    for wrong in (
        lambda: text(given, "missing"),
        lambda: text(given, "empty"),
        lambda: named(given, "path"),
        lambda: integer(given, "count", 4, 9),
        lambda: integer(given, "flag", 0, 9),
        lambda: octets(given, "root", 3),
        lambda: octets(given, "upper"),
        lambda: octets(given, "name"),
        lambda: only(given, "name", "count"),
        lambda: ordered(-1),
        lambda: ordered(1 << 64),
    ):
        with pytest.raises(Declined) as caught:
            wrong()
        assert caught.value.reason is Reason.MALFORMED


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_numbers_in_keys_keep_their_order(one: int, other: int) -> None:
    assert (ordered(one) < ordered(other)) == (one < other)


def test_a_prefix_takes_what_is_under_it_and_nothing_else() -> None:
    start, end = under("meter", "a")
    inside = [key("meter", "a", "1"), key("meter", "a", "z", "9")]
    outside = [key("meter", "a"), key("meter", "aa", "1"), key("meter", "a-1"), key("meter", "b", "1")]
    assert all(start <= name < end for name in inside)
    assert not any(start <= name < end for name in outside)


def _count(state: State, call: Call) -> bytes:
    before = state.get("n") or b"0"
    state.put("n", str(int(before) + 1).encode())
    state.private("drawer").put("n", before)
    assert state.get("n") in (None, before), "a call must not see its own writes"
    if call.record().get("fail"):
        raise Declined(Reason.CONFLICT, "as asked")
    return before


COUNTER = Contract("counter", {"Count": _count}, ("drawer",))


def test_a_call_is_all_or_nothing_and_does_not_see_its_own_writes() -> None:
    ledger = MemoryLedger(COUNTER)
    assert [ledger.commit("counter", "Count", {}, OPERATOR) for _ in range(3)] == [b"0", b"1", b"2"]
    with pytest.raises(Declined, match="conflict: as asked"):
        ledger.commit("counter", "Count", {"fail": True}, OPERATOR)
    assert ledger.stores["counter", ""] == {"n": b"3"}
    assert [version.value for version in ledger.versions["counter", "n"]] == [b"1", b"2", b"3"]


def test_an_unknown_function_and_wrong_arguments_are_declined() -> None:
    ledger = MemoryLedger(COUNTER)
    with pytest.raises(Declined, match="contract counter has no function 'count': Count"):
        ledger.commit("counter", "count", {}, OPERATOR)
    with pytest.raises(Declined, match="arguments of Count: an object is needed"):
        ledger.commit("counter", "Count", json.dumps([1]).encode(), OPERATOR)


def test_a_role_is_needed_word_by_word() -> None:
    OPERATOR.need("settler", "registrar")
    for caller in (Caller("Org1MSP", "eve"), Caller("Org1MSP", "eve", {"aigeco.role": "operatorsettler"})):
        with pytest.raises(Declined, match=r"forbidden: eve of Org1MSP has no certificate with .* settler"):
            caller.need("settler")
