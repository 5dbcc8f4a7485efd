"""Whatever an adversary does to answers, no value is believed that was not asked for now (bench.adversary)."""

from __future__ import annotations

import random
from itertools import count, islice

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.adversary import FRAMINGS, KINDS, Move, campaign, drawn, play
from drivers.talk import Talk

MOVES = st.lists(st.builds(Move, st.sampled_from(KINDS), st.integers(0, 255)), max_size=60)
LONG_PAUSES = (0.0, 3.0, 400.0)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_of_a_thousand_wrong_answers_none_is_believed(framing: str) -> None:
    found = campaign(framing, 1000)
    assert found.planted >= 1000
    assert found.wrong == 0
    assert found.good > 100, "a line this bad still gives readings"


@pytest.mark.soak
@pytest.mark.parametrize("framing", FRAMINGS)
def test_of_a_hundred_thousand_wrong_answers_none_is_believed(framing: str) -> None:
    found = campaign(framing, 100_000 // len(FRAMINGS), seed=1000)
    assert found.wrong == 0


@pytest.mark.parametrize("framing", FRAMINGS)
@given(moves=MOVES)
@example(moves=[Move("twice", 6)])
@example(moves=[*[Move("good")] * 2, Move("late twice", 255), *[Move("good")] * 5, Move("cut", 112)])
@example(moves=[Move("good"), Move("late", 60), Move("late", 60), Move("good")])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_sequence_of_moves_makes_a_wrong_value(framing: str, moves: list[Move]) -> None:
    found = play(framing, iter(moves), 12, LONG_PAUSES)
    assert found.wrong == 0
    assert found.slots == 36


@pytest.mark.parametrize("framing", FRAMINGS)
def test_when_it_stops_all_is_well_again(framing: str) -> None:
    found = play(framing, islice(drawn(3, 0.8), 60), 300, LONG_PAUSES)
    assert found.wrong == 0
    assert found.good > 600


@pytest.mark.parametrize("framing", ["serial", "rtu"])
def test_without_the_probe_late_answers_are_believed(framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault planted: what the campaign finds when a unit in doubt is believed."""

    def believe(self: Talk, meter: object, sharing: object) -> None:
        meter.guard.doubt = None  # type: ignore[attr-defined]

    monkeypatch.setattr(Talk, "probe", believe)
    lot = random.Random(1)
    late = (Move("late", lot.randrange(128, 256)) if lot.random() < 0.1 else Move("good") for _ in count())
    assert play(framing, late, 400).wrong > 0


@pytest.mark.parametrize("framing", ["serial", "rtu"])
def test_without_quiet_answers_that_come_twice_are_believed(framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Talk, "_expect_quiet", lambda self, request: None)
    assert campaign(framing, 1000).wrong > 0
