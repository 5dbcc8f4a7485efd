"""The world in a file: what stays of what was, what a call may not do, and what shows that something was changed."""

from __future__ import annotations

import importlib
import pkgutil
import sqlite3
from collections.abc import Iterator
from hashlib import sha256

import pytest

from ledger import rules
from ledger.contracts import CONTRACTS
from ledger.rules.record import pack, parse
from ledger.rules.world import Call, Caller, Contract, Declined, Reason, State
from ledger.world_file import SCHEMA, Broken, FileWorld, Mistake

ANA = Caller("Org1MSP", "ana", {"aigeco.role": "registrar"})


def _put(state: State, call: Call) -> bytes:
    for name, value in call.record().items():
        state.put(name, value.encode())
        assert state.get(name) != value.encode(), "a call must not see its own writes"
    for name, hidden in call.secret.items():
        state.private("people").put(name, hidden)
    state.tell("put", call.arguments)
    return call.transaction.encode()


def _look(state: State, call: Call) -> bytes:
    people = state.private("people")
    digest = people.digest("p")
    return pack(
        {
            "a": [value.decode() for _, value in state.scan("a", "b")],
            "people": [[key, value.decode()] for key, value in people.scan("a", "z")],
            "digest": digest.hex() if digest else None,
            "history": [[v.time_ms, v.value.decode() if v.value else None] for v in state.history("a1")],
        }
    )


def _remove(state: State, call: Call) -> bytes:
    state.delete("a1")
    state.private("people").purge("p")
    return b""


def _count_and_put(state: State, call: Call) -> bytes:
    state.put("n", str(len(list(state.private("people").scan("a", "z")))).encode())
    return b""


def _decline(state: State, call: Call) -> bytes:
    state.put("never", b"1")
    raise Declined(Reason.CONFLICT, "as asked")


NOTES = Contract(
    "notes",
    {
        "Put": _put,
        "Look": _look,
        "Remove": _remove,
        "CountAndPut": _count_and_put,
        "Decline": _decline,
        "Empty": lambda state, call: state.put("k", b"") or b"",  # type: ignore[func-returns-value]
        "Other": lambda state, call: state.private("drawer").get("k") or b"",
        "Twice": lambda state, call: [state.tell("a", b"1") for _ in range(2)] and b"",  # type: ignore[func-returns-value,return-value]
    },
    ("people",),
)
ASKS = Contract("asks", {"Ask": lambda state, call: state.ask("notes", call.record()["function"], b"{}")})


class Place:
    def __init__(self) -> None:
        self.sql = sqlite3.connect(":memory:", isolation_level=None)
        self.sql.executescript(SCHEMA)
        self.world = FileWorld(self.sql, {"notes": NOTES, "asks": ASKS})
        self.time_ms = 1000

    def commit(self, name: str, contract: str = "notes", secret: dict[str, bytes] | None = None, **given: str):  # type: ignore[no-untyped-def]
        self.time_ms += 1
        return self.world.commit(contract, name, pack(given), ANA, self.time_ms, secret)

    def look(self) -> dict[str, object]:
        return dict(parse(self.world.evaluate("notes", "Look", b"", ANA, self.time_ms)))


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.sql.close()


def test_what_was_there_before_is_kept_and_of_what_is_private_the_digest(place: Place) -> None:
    done = [place.commit("Put", a1="one", a2="two", secret={"p": b"secret"}), place.commit("Put", a1="uno")]
    assert [it.number for it in done] == [1, 2]
    assert [it.answer for it in done] == [it.transaction.hex().encode() for it in done]
    assert done[1].event == ("put", pack({"a1": "uno"}))
    assert place.look() == {
        "a": ["uno", "two"],
        "people": [["p", "secret"]],
        "digest": sha256(b"secret").hexdigest(),
        "history": [[1002, "uno"], [1001, "one"]],
    }
    place.commit("Remove")
    assert place.look() == {
        "a": ["two"],
        "people": [],
        "digest": None,
        "history": [[1003, None], [1002, "uno"], [1001, "one"]],
    }
    kept = list(place.sql.execute("SELECT call, digest, value FROM history WHERE collection = 'people' ORDER BY call"))
    assert kept == [(1, sha256(b"secret").digest(), None), (3, None, None)]
    place.world.check()
    assert place.world.last() == (3, 1003)


def test_a_contract_that_does_what_it_must_not_has_written_nothing(place: Place) -> None:
    place.commit("Put", a1="one")
    before = place.look()
    for function, words in (
        ("CountAndPut", "has read a range of a private collection, and writes"),
        ("Empty", "a key and its value are not empty"),
        ("Other", "has no collection 'drawer'"),
        ("Twice", "one event at most"),
    ):
        with pytest.raises(Mistake, match=words):
            place.commit(function)
    for function, contract, reason in (
        ("Decline", "notes", Reason.CONFLICT),
        ("Nothing", "notes", Reason.UNKNOWN),
        ("Put", "nobody", Reason.UNKNOWN),
    ):
        with pytest.raises(Declined) as caught:
            place.commit(function, contract)
        assert caught.value.reason is reason
    assert place.look() == before
    assert place.world.last()[0] == 1


def test_one_contract_asks_another_and_what_it_would_write_is_thrown_away(place: Place) -> None:
    place.commit("Put", a1="one")
    place.commit("Ask", "asks", function="Remove")
    assert place.look()["a"] == ["one"]
    with pytest.raises(Declined, match="as asked"):
        place.commit("Ask", "asks", function="Decline")


def test_a_question_sees_one_moment_and_writes_nothing(place: Place) -> None:
    place.world.evaluate("notes", "Put", pack({"a1": "one"}), ANA, 1)
    assert place.look()["a"] == []
    assert not place.sql.in_transaction


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE calls SET time_ms = 5 WHERE number = 2",
        "UPDATE calls SET caller = '{}' WHERE number = 2",
        "UPDATE calls SET function = 'Other' WHERE number = 1",
        "UPDATE calls SET arguments = zeroblob(32) WHERE number = 3",
        "UPDATE calls SET txid = zeroblob(32) WHERE number = 3",
        "UPDATE calls SET writes = zeroblob(32) WHERE number = 2",
        "DELETE FROM calls WHERE number = 1",
        "DELETE FROM calls WHERE number = 2",
        "UPDATE calls SET number = 9 WHERE number = 3",
        "UPDATE state SET value = 'x' WHERE key = 'a2'",
        "UPDATE state SET value = 'x' WHERE key = 'p'",
        "DELETE FROM state WHERE key = 'a2'",
        "INSERT INTO state VALUES ('notes', '', 'a9', 'x')",
        "UPDATE history SET value = 'x' WHERE call = 1 AND key = 'a1'",
        "DELETE FROM history WHERE call = 1 AND key = 'a1'",
        "UPDATE history SET digest = zeroblob(32) WHERE call = 1 AND key = 'p'",
        "INSERT INTO history VALUES ('notes', '', 'a9', 2, NULL, NULL)",
    ],
)
def test_what_was_changed_is_found(place: Place, change: str) -> None:
    place.commit("Put", a1="one", a2="two", secret={"p": b"secret"})
    place.commit("Put", a1="uno")
    place.commit("Put", a3="three")
    place.world.check()
    place.sql.execute(change)
    with pytest.raises(Broken):
        place.world.check()


def test_every_contract_of_the_rules_is_in_the_list() -> None:
    modules = [importlib.import_module(f"ledger.rules.{each.name}") for each in pkgutil.iter_modules(rules.__path__)]
    made = {module.CONTRACT.name for module in modules if hasattr(module, "CONTRACT")}
    assert made == set(CONTRACTS)
    assert list(CONTRACTS) == [contract.name for contract in CONTRACTS.values()]
