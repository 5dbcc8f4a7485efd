"""What a line knows of one unit: pauses, timeouts, and probes nobody can mistake."""

from __future__ import annotations

import itertools

import pytest

from drivers import guard as rules
from drivers.guard import LONGEST_LATENESS_S, Guard, _parts, fragment, probe
from drivers.map import load, names
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, Request, plan


def test_one_lost_frame_costs_one_slot_and_a_dead_unit_ever_fewer_tries() -> None:
    guard = Guard()
    tries, now = [], 0.0
    while now < 3600:
        if not guard.paused(now):
            tries.append(now)
            guard.failed(now)
        now += 1.0
    waits = [b - a for a, b in itertools.pairwise(tries)]
    assert waits[:4] == [1.0, 2.0, 4.0, 6.0]
    assert len(tries) < 70
    while guard.failures < 500:
        guard.failed(now)
    assert guard.paused(now + 299)
    assert not guard.paused(now + 300)


def test_with_nobody_to_protect_the_pause_is_short() -> None:
    guard = Guard()
    for _ in range(50):
        guard.failed(100.0)
    assert guard.paused(107.0)
    guard.alone = True
    assert not guard.paused(100.0)
    guard.turn_at = 107.0  # it is not its turn before
    assert guard.paused(106.9)
    assert not guard.paused(107.0)
    guard.hurry()
    assert not guard.paused(100.0)


def test_success_ends_the_pause() -> None:
    guard = Guard()
    for _ in range(50):
        guard.failed(100.0)
    guard.succeeded()
    assert not guard.paused(100.0)


def test_the_timeout_follows_the_latency_within_bounds() -> None:
    guard = Guard()
    assert guard.patience_s() == rules.LEAST_TIMEOUT_S
    for _ in range(100):
        guard.answered(0.0, 0.02)
    assert guard.patience_s() == rules.LEAST_TIMEOUT_S
    guard.answered(0.0, 0.4)  # up at once
    assert guard.patience_s() > 0.8
    for _ in range(100):
        guard.answered(0.0, 10.0)
    assert guard.patience_s() == rules.MOST_TIMEOUT_S
    for _ in range(100):
        guard.answered(0.0, 0.1)
    assert guard.patience_s() == pytest.approx(0.4, rel=0.01)


def test_a_unit_that_became_slow_is_found_again_when_nobody_suffers() -> None:
    guard = Guard()
    for _ in range(100):
        guard.answered(0.0, 0.01)
    guard.alone = True
    needs_s = 1.5  # it takes that long now, five times its timeout
    while guard.patience_s() < needs_s:
        guard.failed(0.0)
        assert guard.failures < 20


def test_a_try_beside_healthy_units_is_short() -> None:
    guard = Guard()
    for _ in range(100):
        guard.answered(0.0, 0.4)
    assert guard.patience_s() == pytest.approx(1.6, rel=0.01)
    for _ in range(100):
        guard.failed(0.0)
    assert guard.patience_s() == pytest.approx(0.6, rel=0.01)
    never = Guard()
    never.failed(0.0)
    assert never.patience_s() == rules.TRY_TIMEOUT_S


def test_a_stated_timeout_is_the_least() -> None:
    guard = Guard(0.7)
    assert guard.patience_s() == 0.7
    for _ in range(100):
        guard.answered(0.0, 0.001)
    assert guard.patience_s() == 0.7
    guard.failed(0.0)
    assert guard.patience_s() == 0.7
    assert Guard(3.0).patience_s() == 3.0


def test_what_others_need_shortens_a_timeout_but_not_below_what_the_unit_usually_needs() -> None:
    guard = Guard(0.7)
    assert guard.patience_s(0.2) == 0.7, "nobody knows yet what it needs"
    for _ in range(100):
        guard.answered(1.0, 0.05)
    assert guard.patience_s() == 0.7
    assert guard.patience_s(0.4) == 0.4
    assert guard.patience_s(-3.0) == pytest.approx(0.2, rel=0.01)
    guard.failed(1.0)
    assert guard.patience_s(0.4) == 0.4
    assert guard.patience_s(-3.0) == rules.SHORTEST_TRY_S
    guard.alone = True
    assert guard.patience_s(0.4) == 0.4


def test_the_first_doubt_is_kept() -> None:
    guard = Guard()
    guard.suspect(Request(3, 1, 2), 5.0)
    guard.suspect(Request(3, 9, 9), 6.0)
    assert (guard.doubt, guard.doubted_at) == (Request(3, 1, 2), 5.0)


@pytest.mark.parametrize("name", [name for name in names() if load(name).scheme == "registers"])
@pytest.mark.parametrize("overhead", [RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES])
def test_every_map_has_a_probe_that_differs_and_asks_only_for_what_is_planned(name: str, overhead: int) -> None:
    meter_map = load(name)
    planned = plan(meter_map, overhead)
    taken = {request.count for request in planned}
    found = probe(meter_map, planned, taken)
    if found is None:  # its values have few lengths, and requests of those lengths are in its plan
        assert {one.count for one in _parts(meter_map, planned[0])} <= taken
        return
    assert found.count not in taken
    assert any(r.function == found.function and r.address <= found.address and found.end <= r.end for r in planned)
    starts = {first - first % 2 * meter_map.even_only for r in meter_map.registers for first, _ in r.spans()}
    assert found.address in starts, "it begins within a value"


def test_probes_when_lengths_are_scarce() -> None:
    meter_map = load("eastron_sdm630")
    block = (Request(4, 0, 8),)
    assert probe(meter_map, block, {8}) == Request(4, 0, 2)
    assert probe(meter_map, block, {2, 8}) == Request(4, 0, 4)
    assert probe(meter_map, block, {2, 4, 6, 8}) is None
    assert probe(meter_map, (Request(4, 0, 2),), {2}) is None
    assert probe(meter_map, (), set()) is None
    assert fragment((Request(4, 0, 2),), {2}) == Request(4, 0, 1)
    assert fragment((Request(4, 0, 2),), {1, 2}) is None


def test_an_answer_is_the_first_probes_of_its_length_and_all_that_were_asked_before_are_over() -> None:
    guard = Guard()
    guard.probes = [(1, 0.0), (2, 1.0), (1, 2.0), (2, 3.0)]
    guard.past(2)
    assert guard.probes == [(1, 2.0), (2, 3.0)]
    guard.past(10)
    assert guard.probes == []


def test_a_probe_before_the_request_in_doubt_is_owed_until_it_cannot_come_any_more() -> None:
    guard = Guard()
    guard.probes = [(1, 0.0), (2, 4.0)]
    assert guard.owed(5.0) == {1, 2}
    guard.suspect(Request(3, 100, 10), 3.0)
    assert guard.owed(5.0) == {1}, "the other was asked after that request"
    assert guard.owed(LONGEST_LATENESS_S) == set()
