"""The rules alone: every scenario, and what must hold whatever arrives in whatever order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.rules.measurements import Accepted, Exists, Gateway, Refused
from signer import batch as batches
from signer.batch import Batch
from signer.dialogue import RefusalReason
from signer.errors import Malformed
from signer.statement import Claims
from tests.ledger.lines import World
from tests.ledger.memory import MemoryLedger
from tests.ledger.scenarios import ACCEPTED, EXISTS, MALFORMED, SCENARIOS, Register, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Scenario) -> None:
    world, ledger = World(), MemoryLedger()
    for number, step in enumerate(scenario(world)):
        if isinstance(step, Register):
            ledger.gateways[step.gateway.gateway] = step.gateway
            continue
        place = f"step {number}"
        before = dict(ledger.streams)
        try:
            batch, claims = batches.parse(step.data)
        except Malformed:
            assert step.answer == MALFORMED, place
            continue
        said = ledger.submit(world.trust, step.publisher, batch, claims)
        if isinstance(said, Refused):
            assert (said.reason, said.seq) == (step.answer, step.last), f"{place}: {said.words}"
            assert (said.fork.seq if said.fork else None) == step.fork, place
            assert (said.sid is None) == (said.seq is None), place
            assert said.words, place
        else:
            assert {Accepted: ACCEPTED, Exists: EXISTS}[type(said)] == step.answer, place
        if step.answer != ACCEPTED:
            assert ledger.streams == before, f"{place}: changed something"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_same_batches_get_the_same_judgement_again(scenario: Scenario) -> None:
    world = World()
    steps = scenario(world)
    runs = []
    for _ in range(2):
        ledger = MemoryLedger()
        said: list[object] = []
        for step in steps:
            if isinstance(step, Register):
                ledger.gateways[step.gateway.gateway] = step.gateway
                continue
            try:
                said.append(ledger.submit(world.trust, step.publisher, *batches.parse(step.data)))
            except Malformed as error:
                said.append(str(error))
        runs.append(said)
    assert runs[0] == runs[1]


def parsed(batch: Batch) -> tuple[Batch, tuple[Claims, ...]]:
    return batches.parse(batch.data)


@pytest.fixture(scope="module")
def cloned() -> tuple[World, list[tuple[Batch, tuple[Claims, ...]]]]:
    """Every batch of up to 3 statements that two devices with one card can send."""
    world = World()
    line = world.line().begin().grow(2)
    twin = line.clone()
    line.grow(4)
    twin.grow(4)
    found = [
        parsed(source.batch(first, count))
        for source in (line, twin)
        for first in range(7)
        for count in range(1, 4)
        if first + count <= 7
    ]
    return world, found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_whatever_comes_in_whatever_order_one_line_is_committed(
    cloned: tuple[World, list[tuple[Batch, tuple[Claims, ...]]]], order: list[int]
) -> None:
    world, possible = cloned
    ledger = MemoryLedger()
    ledger.gateways["alpha"] = Gateway("alpha")
    committed: list[bytes] = []
    for pick in order:
        batch, claims = possible[pick % len(possible)]
        names = [claim.sid for claim in claims]
        said = ledger.submit(world.trust, "alpha", batch, claims)
        known = committed[batch.first : batch.first + batch.count]
        if isinstance(said, Accepted):
            assert batch.first == len(committed)
            assert not committed or claims[0].prev == committed[-1]
            committed += names
        elif isinstance(said, Exists):
            assert known == names
        else:
            assert said.seq == (len(committed) - 1 if committed else None)
            if said.reason == RefusalReason.FORK:
                assert said.fork is not None
                assert committed[said.fork.seq] == said.fork.committed != said.fork.other
            else:
                assert said.reason == RefusalReason.OUT_OF_ORDER
                assert known == names[: len(known)]  # a statement that differs is never called a matter of order


def test_the_heads_signature_alone_covers_the_contents_and_not_the_other_signatures() -> None:
    """What an endorser that checks the head's signature only accepts, and what it still refuses."""
    world = World()
    line = world.line().begin().grow(5)

    def judged(batch: Batch, every: bool) -> Sequence[object]:
        ledger = MemoryLedger()
        ledger.gateways["alpha"] = Gateway("alpha")
        said = ledger.submit(world.trust, "alpha", *parsed(batch), every)
        return (type(said), said.reason if isinstance(said, Refused) else None)

    assert judged(line.forged(0, 6, 3), every=True) == (Refused, RefusalReason.BAD_SIGNATURE)
    assert judged(line.forged(0, 6, 3), every=False) == (Accepted, None)
    assert judged(line.forged(0, 6, 5), every=False) == (Refused, RefusalReason.BAD_SIGNATURE)
