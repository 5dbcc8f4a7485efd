"""The schedule: who is next, what is lost, and what a clock that is set does to it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.schedule import Cause, Missed, Schedule, Step, slot_of

# A full hour, so that minutes and quarter hours start here.
T0 = 1_790_000_000_000 - 1_790_000_000_000 % 3_600_000


def drain(schedule: Schedule, utc_ms: int, monotonic_ms: int) -> tuple[list[tuple[str, int]], list[Missed]]:
    """All that is due at one moment."""
    reads: list[tuple[str, int]] = []
    missed: list[Missed] = []
    while True:
        step = schedule.next(utc_ms, monotonic_ms)
        missed += step.missed
        if step.meter is None:
            assert step.wait_ms > 0
            return reads, missed
        reads.append((step.meter, step.slot_ms))


def test_slots_are_aligned_to_utc() -> None:
    assert slot_of(T0 + 59_999, 60_000) == T0
    assert slot_of(T0 + 60_000, 60_000) == T0 + 60_000


def test_a_slot_is_read_once_and_the_wait_ends_at_the_next() -> None:
    schedule = Schedule({"a": 60_000})
    assert schedule.next(T0 + 5, 5) == Step("a", T0, 0)
    assert schedule.next(T0 + 40, 40) == Step(None, 0, 59_960)
    assert schedule.next(T0 + 60_000, 60_000) == Step("a", T0 + 60_000, 0)


def test_a_started_slot_is_read_at_once_on_start() -> None:
    assert Schedule({"a": 60_000}).next(T0 + 59_000, 0).slot_ms == T0


def test_a_restart_repeats_no_slot_and_names_those_that_passed() -> None:
    schedule = Schedule({"a": 1000}, last={"a": T0})
    assert schedule.next(T0 + 999, 0) == Step(None, 0, 1)
    schedule = Schedule({"a": 1000}, last={"a": T0})
    missed = (Missed("a", T0 + 1000, T0 + 3000, 3, Cause.NOT_RUNNING),)
    assert schedule.next(T0 + 4500, 0) == Step("a", T0 + 4000, 0, missed)


def test_a_last_slot_of_another_period_is_no_obstacle() -> None:
    schedule = Schedule({"a": 60_000}, last={"a": T0 + 15_000})
    assert schedule.next(T0 + 20_000, 0) == Step(None, 0, 40_000)
    assert schedule.next(T0 + 60_000, 40_000) == Step("a", T0 + 60_000, 0)


def test_settlement_slots_go_first_then_the_earliest_end() -> None:
    # At T0 + 60 s only "minute" starts a settlement period of its own length; "second" ends sooner.
    schedule = Schedule({"minute": 60_000, "five": 5000, "second": 1000}, settlement_ms=900_000)
    assert drain(schedule, T0 - 60_000, 0)[0] == [
        ("second", T0 - 60_000),
        ("five", T0 - 60_000),
        ("minute", T0 - 60_000),
    ]
    schedule = Schedule({"minute": 60_000, "second": 1000}, settlement_ms=60_000)
    drain(schedule, T0 - 1000, 0)
    assert drain(schedule, T0 + 1500, 2500)[0] == [("minute", T0), ("second", T0 + 1000)]


def test_who_does_not_answer_is_asked_last_and_the_others_leave_so_much() -> None:
    schedule = Schedule(dict.fromkeys("abc", 1000))
    assert [schedule.next(T0, 0).meter for _ in "abc"] == [*"abc"]
    schedule.learn("a", 400, silent=True)
    schedule.learn("b", 200, silent=False)
    schedule.learn("c", 300, silent=False)
    steps = [schedule.next(T0 + 1000, 1000), schedule.next(T0 + 1200, 1200), schedule.next(T0 + 1500, 1500)]
    assert [(step.meter, step.spare_ms) for step in steps] == [("b", 700), ("c", 800), ("a", 500)]
    schedule.learn("a", 100, silent=False)  # it is back
    schedule.learn("c", 300, silent=True)
    steps = [schedule.next(T0 + 2000, 2000), schedule.next(T0 + 2900, 2900), schedule.next(T0 + 2950, 2950)]
    assert [(step.meter, step.spare_ms) for step in steps] == [("b", 900), ("a", 100), ("c", 50)]


def test_who_was_not_asked_is_the_first_the_next_time() -> None:
    schedule = Schedule(dict.fromkeys("abc", 1000))
    tried = ""
    for slot in range(9):
        asked = False
        for _ in "abc":  # nobody answers, and the line has time for one of them
            meter = schedule.next(T0 + 1000 * slot, 1000 * slot).meter
            assert meter
            schedule.learn(meter, 0 if asked else 500, silent=True)
            tried += "" if asked else meter
            asked = True
    assert tried == "abc" * 3


def test_the_time_a_read_needs_is_learnt_up_at_once_and_down_slowly() -> None:
    schedule = Schedule(dict.fromkeys("ab", 1000))
    for took_ms in (100, 500, 100):
        schedule.learn("b", took_ms, silent=False)
    assert schedule.next(T0, 0).spare_ms == 1000 - 450
    for _ in range(100):
        schedule.learn("b", 100, silent=False)
    schedule.next(T0, 0)
    assert schedule.next(T0 + 1000, 1000).spare_ms == pytest.approx(900, abs=8)


def test_an_overloaded_line_serves_in_turn_and_names_what_it_missed() -> None:
    schedule = Schedule(dict.fromkeys("abcd", 1000))
    reads, missed, now = [], [], 0
    while now < 8000:  # every read takes 500 ms: two of four a second
        step = schedule.next(T0 + now, now)
        missed += step.missed
        assert step.meter
        reads.append(step.meter)
        now += 500
    assert "".join(reads) == "abcd" * 4
    assert {m.cause for m in missed} == {Cause.OVERLOAD}
    assert missed[:2] == [Missed(name, T0, T0, 1, Cause.OVERLOAD) for name in "cd"]


def test_a_blocked_thread_costs_one_range_for_each_meter() -> None:
    schedule = Schedule({"a": 1000, "b": 2000})
    drain(schedule, T0, 0)
    _, missed = drain(schedule, T0 + 10_000, 10_000)
    assert missed == [
        Missed("a", T0 + 1000, T0 + 9000, 9, Cause.OVERLOAD),
        Missed("b", T0 + 2000, T0 + 8000, 4, Cause.OVERLOAD),
    ]


def test_a_step_back_repeats_nothing() -> None:
    schedule = Schedule({"a": 1000})
    drain(schedule, T0 + 5000, 0)
    assert schedule.next(T0 + 2000, 100) == Step(None, 0, 4000)
    assert schedule.next(T0 + 5999, 4099).meter is None
    assert schedule.next(T0 + 6000, 4100) == Step("a", T0 + 6000, 0)


def test_a_step_back_before_a_slot_was_read_keeps_it() -> None:
    schedule = Schedule({"a": 1000, "b": 1000})
    assert schedule.next(T0 + 5000, 0).meter == "a"
    assert schedule.next(T0 + 3000, 1) == Step(None, 0, 2000)
    assert schedule.next(T0 + 5000, 2001) == Step("b", T0 + 5000, 0)


def test_a_step_forward_is_the_clock_s_fault_and_what_was_late_before_it_the_line_s() -> None:
    schedule = Schedule({"a": 1000})
    drain(schedule, T0, 0)
    # 3.5 s passed (slots 1 and 2 were lost to the line), then the clock was set 100 s ahead.
    _, missed = drain(schedule, T0 + 103_500, 3500)
    assert missed == [
        Missed("a", T0 + 1000, T0 + 2000, 2, Cause.OVERLOAD),
        Missed("a", T0 + 3000, T0 + 102_000, 100, Cause.CLOCK),
    ]


def test_slow_drift_of_the_clock_is_no_step() -> None:
    schedule = Schedule({"a": 900_000})
    drain(schedule, T0, 0)
    _, missed = drain(schedule, T0 + 2_700_000, 2_700_000 - 500)
    assert {m.cause for m in missed} == {Cause.OVERLOAD}


def test_no_meters_and_no_periods() -> None:
    assert Schedule({}).next(T0, 0).meter is None
    with pytest.raises(ValueError, match="positive"):
        Schedule({"a": 0})


@given(
    periods=st.lists(st.sampled_from([1000, 2000, 5000, 7000, 60_000]), min_size=1, max_size=4),
    moves=st.lists(
        st.one_of(
            st.tuples(st.just("pass"), st.integers(0, 12_000)),
            st.tuples(st.just("set"), st.integers(-30_000, 200_000)),
        ),
        max_size=80,
    ),
    settlement=st.sampled_from([2000, 60_000, 900_000]),
    start=st.integers(0, 100_000),
)
@example(periods=[1000, 1000], moves=[("pass", 1000), ("set", -1)], settlement=2000, start=0)
def test_every_slot_comes_out_once_in_order_and_only_while_it_lasts(
    periods: list[int], moves: list[tuple[str, int]], settlement: int, start: int
) -> None:
    meters = {f"m{i}": period for i, period in enumerate(periods)}
    schedule = Schedule(meters, settlement)
    utc, monotonic = T0 + start, 0
    began = utc + (moves[0][1] if moves else 0)  # the first look; a clock set back before it owes nothing
    seen: dict[str, list[int]] = {name: [] for name in meters}
    for what, amount in [*moves, ("pass", 0)]:
        utc += amount
        monotonic += amount if what == "pass" else 0
        step = schedule.next(utc, monotonic)
        for gap in step.missed:
            period = meters[gap.meter]
            seen[gap.meter] += range(gap.first_ms, gap.last_ms + 1, period)
            assert gap.count == (gap.last_ms - gap.first_ms) // period + 1
            assert gap.last_ms + period <= utc, "missed before it was over"
        if step.meter:
            assert step.slot_ms <= utc < step.slot_ms + meters[step.meter], "read outside its slot"
            seen[step.meter].append(step.slot_ms)
        else:
            assert schedule.next(utc + step.wait_ms - 1, monotonic + step.wait_ms - 1).meter is None
            utc, monotonic = utc + step.wait_ms - 1, monotonic + step.wait_ms - 1
    reads, missed = drain(schedule, utc, monotonic)
    for gap in missed:
        seen[gap.meter] += range(gap.first_ms, gap.last_ms + 1, meters[gap.meter])
    for name, slot in reads:
        seen[name].append(slot)
    for name, slots in seen.items():
        if not slots:
            assert utc < slot_of(began, meters[name]), "a meter was forgotten"
            continue
        expected = range(slots[0], slots[-1] + 1, meters[name])
        assert slots == list(expected), f"{name}: a slot twice, out of order, or nowhere"
        assert all(slot % meters[name] == 0 for slot in slots)
        assert slots[-1] >= slot_of(utc, meters[name]), "the current slot was left out"
