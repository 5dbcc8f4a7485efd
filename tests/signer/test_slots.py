"""Slots against a model that keeps every slot in a set."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from signer import slots as module
from signer.slots import Account, Slots

P = 1000


def account(slots: Slots) -> tuple[int, int, int, int, int]:
    found = slots.account()
    return found.expected, found.read, found.failed, found.gap, found.missing


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(0, 40), st.booleans()),
            st.tuples(st.just("gap"), st.integers(0, 40), st.integers(0, 40)),
        ),
        max_size=40,
    )
)
@settings(max_examples=400, deadline=None)
def test_against_a_set(steps: list[tuple[str, int, int]]) -> None:
    """Readings and gaps in any order: what is read, covered and missing is what sets say."""
    slots = Slots()
    slots.describe(P)
    read: set[int] = set()
    failed: set[int] = set()
    covered: set[int] = set()
    seen: set[int] = set()
    for what, first, second in steps:
        if what == "read":
            wrong = slots.read(first * P, bool(second))
            assert (wrong is not None) == (first in read | failed), wrong
            if wrong is None:
                (read if second else failed).add(first)
                seen.add(first)
        else:
            inside = set(range(first, second)) - read - failed
            assert slots.gap(first * P, second * P, len(inside)) is None
            wrong = slots.gap(first * P, second * P, len(inside) + 1)
            assert (wrong is None) == (first >= second)
            covered |= inside
            if first < second:
                seen |= {first, second - 1}
    covered -= read | failed
    whole = set(range(min(seen), max(seen) + 1)) if seen else set()
    missing = whole - read - failed - covered
    assert account(slots) == (len(whole), len(read), len(failed), len(covered), len(missing))
    assert slots.account().first_missing_ms == (min(missing) * P if missing else None)


def test_before_a_descriptor() -> None:
    slots = Slots()
    assert "no descriptor" in (slots.read(0, True) or "")
    assert slots.gap(0, 10, 5) is None
    assert slots.account() == Account(0, 0, 0, 0, 0, None)


def test_off_the_grid() -> None:
    slots = Slots()
    slots.describe(P)
    assert "no multiple" in (slots.read(P + 1, True) or "")


def test_coarser_and_finer() -> None:
    """From 1 s to 10 s and back: neither change leaves a hole, and a slot left out after it does."""
    slots = Slots()
    slots.describe(P)
    for slot in range(3):
        assert slots.read(slot * P, True) is None
    slots.describe(10 * P)
    assert slots.read(10 * P, True) is None
    assert slots.read(20 * P, True) is None
    slots.describe(P)
    for slot in (25, 26, 27, 28, 29, 30):
        assert slots.read(slot * P, True) is None
    assert account(slots) == (11, 11, 0, 0, 0)
    assert slots.read(32 * P, True) is None
    assert account(slots) == (13, 12, 0, 0, 1)
    assert "was read before" in (slots.read(26 * P, True) or "")


def test_a_gap_that_ends_inside_a_slot() -> None:
    """The gateway starts in the middle of a slot and still reads it: the slot counts as read."""
    slots = Slots()
    slots.describe(P)
    slots.read(0, True)
    assert slots.gap(P, 3 * P + 500, 3) is None
    assert slots.read(3 * P, True) is None
    assert account(slots) == (4, 2, 0, 2, 0)


def test_a_gap_over_which_the_clock_was_set_is_told_apart() -> None:
    slots = Slots()
    slots.describe(P)
    slots.read(0, True)
    assert slots.gap(P, 3 * P, 2) is None
    assert slots.gap(3 * P, 9 * P, 6, jumped=True) is None
    assert slots.read(9 * P, True) is None
    assert slots.read(5 * P, True) is None, "set back again: what was passed over may still be read"
    assert account(slots) == (10, 3, 0, 7, 0)
    assert slots.account().jumped == 5


def test_cut() -> None:
    slots = Slots()
    slots.describe(P)
    slots.read(0, True)
    slots.cut()
    assert slots.read(9 * P, True) is None
    assert slots.read(11 * P, True) is None
    assert account(slots) == (4, 3, 0, 0, 1)


def test_many_holes_are_counted_when_they_are_not_kept() -> None:
    before, module.MAX_STRETCHES = module.MAX_STRETCHES, 10
    try:
        slots = Slots()
        slots.describe(P)
        for slot in range(0, 100, 2):
            slots.read(slot * P, True)
    finally:
        module.MAX_STRETCHES = before
    assert account(slots) == (99, 50, 0, 0, 49)


def test_a_far_slot_costs_nothing() -> None:
    slots = Slots()
    slots.describe(1)
    slots.read(0, True)
    slots.read((1 << 64) - 1, True)
    assert slots.account().missing == (1 << 64) - 2
