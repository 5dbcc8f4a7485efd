"""Our contracts behind a peer: what holds over dictionaries holds over the chaincode protocol."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest

from ledger.rules.world import Call, Caller, Contract, Declined, Reason, State
from tests.ledger.fabric.world import FabricLedger

ANA = Caller("Org1MSP", "ana", {"aigeco.role": "registrar"})


def _note(state: State, call: Call) -> bytes:
    state.put("a/1", call.arguments)
    state.put("a/2", b"2")
    state.put("b/1", b"3")
    state.private("people").put("p", call.hidden_bytes("p"))
    state.tell("noted", call.arguments)
    return f"{call.caller.organisation} {call.caller.name} {call.time_ms} {sorted(call.caller.roles)}".encode()


def _look(state: State, call: Call) -> bytes:
    people = state.private("people")
    return repr(
        [
            state.get("a/1"),
            list(state.scan("a/", "a0")),
            next(iter(state.scan("a/", "a0"))),
            people.get("p"),
            people.digest("p") == sha256(b"secret").digest(),
            list(people.scan("a", "z")),
            [version.value for version in state.history("a/1")],
        ]
    ).encode()


def _forget(state: State, call: Call) -> bytes:
    state.delete("a/2")
    state.private("people").purge("p")
    state.private("people").delete("q")
    return b""


def _decline(state: State, call: Call) -> bytes:
    state.put("a/9", b"never")
    raise Declined(Reason.OUT_OF_ORDER, "the ledger has 7: go on there")


def _other(state: State, call: Call) -> bytes:
    return state.ask("notes", call.arguments.decode(), b"{}")


NOTES = Contract(
    "notes",
    {"Note": _note, "Look": _look, "Forget": _forget, "Decline": _decline, "Fail": lambda state, call: b"" + 1},  # type: ignore[operator]
    ("people",),
)
ASKS = Contract("asks", {"Ask": _other})


@pytest.fixture
def ledger() -> Iterator[FabricLedger]:
    made = FabricLedger(NOTES, ASKS)
    yield made
    made.close()


def test_a_contract_has_its_world(ledger: FabricLedger) -> None:
    told = ledger.commit("notes", "Note", b"1", ANA, {"p": b"secret"})
    assert told == b"Org1MSP ana 1790000000000 ['registrar']"
    assert ledger.events == [("noted", b"1")]
    looked = b"[b'1', [('a/1', b'1'), ('a/2', b'2')], ('a/1', b'1'), b'secret', True, [('p', b'secret')], [b'1']]"
    assert ledger.evaluate("notes", "Look", b"", ANA) == looked
    assert ledger.peer.seen.count("WRITE_BATCH_STATE") == 1
    ledger.commit("notes", "Forget", b"", ANA)
    assert ledger.stores == {("notes", ""): {"a/1": b"1", "b/1": b"3"}}


def test_what_is_declined_is_refused_and_changes_nothing(ledger: FabricLedger) -> None:
    for how, reason, words in (
        (("Decline", b""), Reason.OUT_OF_ORDER, "^out of order: the ledger has 7: go on there$"),
        (("Nothing", b""), Reason.UNKNOWN, "has no function 'Nothing'"),
        (("Note", b"1"), Reason.MALFORMED, "p is missing"),
    ):
        with pytest.raises(Declined, match=words) as caught:
            ledger.commit("notes", *how, ANA)
        assert caught.value.reason is reason
    assert ledger.stores == {}
    outcome = ledger.peer.commit("Note", [b"1", b"2"], contract="notes")
    assert (outcome.status, outcome.message[:11]) == (400, "malformed: ")
    assert ledger.peer.query(b"\xff", contract="notes").status == 400


def test_one_contract_asks_another_as_the_same_caller(ledger: FabricLedger) -> None:
    ledger.commit("notes", "Note", b"1", ANA, {"p": b"secret"})
    assert ledger.evaluate("asks", "Ask", b"Look", ANA).startswith(b"[b'1', ")
    with pytest.raises(Declined, match="the ledger has 7: go on there") as caught:
        ledger.evaluate("asks", "Ask", b"Decline", ANA)
    assert caught.value.reason is Reason.OUT_OF_ORDER
    assert ledger.peer.query("Ask", [b"Fail"], contract="asks").status == 500
