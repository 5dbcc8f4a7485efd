"""Everybody tries to read everything; docs/confidentiality.md is the table of what each could.

python -m tests.ledger.confidentiality        # writes the table anew
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from hashlib import sha256
from typing import Any

import pytest

from ledger.contracts import CONTRACTS
from ledger.rules import batches, groups, registry, salt, settlement
from ledger.rules.record import NoRecord, pack, parse
from ledger.rules.world import Contract
from signer.batch import parse as parse_batch
from tests.ledger import reading
from tests.ledger.confidentiality import PAGE, page, public, read
from tests.ledger.embedded.world import FileLedger
from tests.ledger.lines import START_MS
from tests.ledger.scene import Scene
from tests.ledger.world import MemoryLedger


@contextmanager
def on_a_peer() -> Iterator[Any]:
    """The contracts behind the protocol of a Fabric peer."""
    fabric = pytest.importorskip("tests.ledger.fabric.world")
    with closing(fabric.FabricLedger(*CONTRACTS.values(), time_ms=START_MS, members=("CommunityMSP",))) as ledger:
        yield ledger


LEDGERS: dict[str, Callable[[], Any]] = {
    "memory": lambda: nullcontext(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS)),
    "file": lambda: closing(FileLedger(*CONTRACTS.values(), time_ms=START_MS)),
    "peer": on_a_peer,
}


@pytest.fixture
def scene() -> Scene:
    return Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS))


@pytest.fixture(scope="module")
def in_memory() -> dict[str, frozenset[str]]:
    return read(Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS)))


def test_the_table_is_what_everybody_could_read(in_memory: dict[str, frozenset[str]]) -> None:
    words = "python -m tests.ledger.confidentiality writes it anew; look at what changed"
    assert page(in_memory) == PAGE.read_text(), words


@pytest.mark.parametrize("name", ["file", "peer"])
def test_it_is_the_same_on_every_ledger(name: str, in_memory: dict[str, frozenset[str]]) -> None:
    """Of who reads part of it, and of who has every role; all the others are tried on a real network too."""
    with LEDGERS[name]() as ledger:
        found = read(Scene(ledger), who=("member A", "aggregator with every role"))
    assert found == {who: in_memory[who] for who in found}


def test_what_the_table_must_never_say(in_memory: dict[str, frozenset[str]]) -> None:
    found = in_memory
    whose = {"registers of others", "results of others", "coefficient of others", "transfers of others"}
    own = {"registers of A", "results of A", "coefficient of A", "transfers of A"}
    secret = {"terms of an order", "totals of two members"}
    whose.add("what is said in a dispute")
    assert not found["member A"] & (whose | secret)
    assert found["member A"] >= own
    for who in ("A's namesake in another organisation", "aggregator", "aggregator with every role", reading.PUBLIC):
        assert not found[who] & (whose | own | secret | {"registers of generation"}), who
    assert "totals of five members" in found["aggregator"]
    assert "totals of five members" not in found["A's namesake in another organisation"] | found[reading.PUBLIC]
    assert found["auditor"] >= whose | own


@pytest.mark.parametrize(
    ("module", "name", "leak", "who", "what"),
    [
        (groups, "may_read", lambda *_: None, "member A", "results of others"),
        (groups, "may_read", lambda *_: None, "aggregator", "coefficient of others"),
        (batches, "_reader", lambda *_: None, "member A", "registers of others"),
        (settlement, "LEAST_MEMBERS", 2, "aggregator", "totals of two members"),
        (
            batches,
            "_gateway_owner",
            lambda *_: "DistributorMSP",
            "A's namesake in another organisation",
            "registers of A",
        ),
        (
            registry,
            "organisation_roles",
            lambda *_: list(registry.ROLES),
            "aggregator with every role",
            "results of others",
        ),
    ],
)
def test_a_check_that_is_missing_is_found(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, leak: Any, who: str, what: str
) -> None:
    scene = Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS))
    monkeypatch.setattr(module, name, leak)
    told = reading.tried(scene, CONTRACTS.values(), reading.WHO[who])
    assert what in reading.seen(reading.patterns(scene), told)


def test_a_number_that_is_told_in_public_is_found() -> None:
    scene = Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS))
    private = scene.ledger.stores["sharing", "results"]
    scene.ledger.stores["sharing", ""]["oops"] = next(v for k, v in private.items() if k.endswith("/b"))
    assert "results of others" in reading.seen(reading.patterns(scene), public(scene))


def test_a_function_that_nobody_has_thought_about_is_found() -> None:
    scene = Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS))
    more = Contract("more", {"Peek": lambda state, call: b"1"})
    with pytest.raises(AssertionError, match="Peek"):
        reading.tried(scene, [*CONTRACTS.values(), more], reading.WHO["member A"])


# ---- digests


SALTED = {"hour", "rest", "share", "source", "agreement", "hours", "part", "terms", "words"}
SIGNED = {"batch", "left", "fork"}
"""Statements have salts of their own (FORMAT), and a sid tells nothing of its statement."""
MARKS = {"day"}
"""Say nothing but that they are there."""


def unsalted(scene: Scene) -> list[str]:
    """Private values that could be guessed from their digest."""
    plain, salts, found = public(scene), set(), []
    for (_, collection), values in scene.ledger.stores.items():
        for name, value in values.items() if collection else ():
            kind = name.split("/")[0]
            assert kind in SALTED | SIGNED | MARKS | {"sids"}, f"nobody has thought about {name}"
            if kind in SALTED:
                try:
                    own = bytes.fromhex(parse(value)["salt"])
                except (NoRecord, KeyError, TypeError):
                    own = b""
                given = own == bytes(range(16)) and kind in {"agreement", "terms", "words"}  # the scene's own
                if len(own) < salt.BYTES or own in plain or own.hex().encode() in plain or (own in salts and not given):
                    found.append(name)
                salts.add(own)
            elif kind == "batch":
                assert all(len(claim.salt) == salt.BYTES for claim in parse_batch(value)[1])
    return found


def test_nobody_guesses_a_private_value_from_its_digest(scene: Scene) -> None:
    assert unsalted(scene) == []


def test_a_value_without_a_salt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salt, "derived", lambda *_: "")
    assert len(unsalted(Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS)))) > 20


def test_a_share_is_guessed_without_its_salt_and_not_with_it() -> None:
    """What the salt is for: all of a share but its salt is known here, and still its digest is not found."""
    scene = Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS))
    (value,) = (value for name, value in scene.ledger.stores["sharing", "results"].items() if name.endswith("/b"))
    record = parse(value)
    known = {name: column for name, column in record.items() if name != "salt"}
    assert sha256(pack(record)).digest() == sha256(value).digest()
    guesses = [known, {**known, "salt": ""}, *({**known, "salt": f"{n:032x}"} for n in range(1000))]
    assert sha256(value).digest() not in {sha256(pack(guess)).digest() for guess in guesses}
