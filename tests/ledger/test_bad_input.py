"""What every ledger refuses, for the same reason on all of them, and nothing is changed; the cases: bad_input.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ledger.contracts import CONTRACTS
from ledger.rules import groups
from ledger.rules.record import parse
from ledger.rules.world import Declined
from tests.ledger.bad_input import BAD, SAME, Bad, gone
from tests.ledger.lines import START_MS
from tests.ledger.scene import Scene
from tests.ledger.test_confidentiality import LEDGERS
from tests.ledger.world import MemoryLedger


@pytest.fixture(scope="module", params=list(LEDGERS))
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """One for all cases: none of them changes anything."""
    with LEDGERS[request.param]() as ledger:
        made = Scene(ledger)
        gone(made)
        yield made


def outcome(scene: Scene, bad: Bad) -> tuple[str, str]:
    """Reason and words of the refusal; of what is answered and changes nothing :data:`SAME`, and the answer."""
    try:
        answer = scene.ledger.commit(bad.contract, bad.function, bad.given, bad.caller, bad.secrets(scene))
    except Declined as declined:
        return declined.reason, declined.words
    said = parse(answer)
    if said.get("outcome") == "refused":
        return said["reason"], said["words"]
    return SAME, answer.decode()


def state(scene: Scene) -> Any:
    ledger: Any = scene.ledger
    return {name: dict(store) for name, store in ledger.stores.items()}, list(ledger.events)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_refused_with_this_reason_and_nothing_changed(scene: Scene, bad: Bad) -> None:
    before = state(scene)
    reason, words = outcome(scene, bad)
    assert reason == bad.reason, words
    assert bad.words in words
    after = state(scene)
    assert after[0] == before[0]
    # An answer that writes nothing may be told again: whoever listens has seen it before.
    assert after[1] == before[1] or bad.reason == SAME


def test_a_ledger_that_takes_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted difference: one ledger does not add up coefficients."""
    monkeypatch.setattr(groups, "check", lambda *_: None)
    scene = Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS))
    bad = next(bad for bad in BAD if bad.name == "coefficients below one")
    before = state(scene)
    assert outcome(scene, bad)[0] != bad.reason
    assert state(scene) != before
