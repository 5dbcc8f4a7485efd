"""Legal time as people write it: the days when the clocks change, and every hour there and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import moments
from ledger.rules import hours

HOUR = hours.HOUR_MS


def test_dates_and_times() -> None:
    assert moments.instant("2026-10-01", "peninsula") == moments.instant("2026-09-30T22:00Z", "peninsula")
    assert moments.instant("2026-10-01", "canarias") == moments.instant("2026-10-01", "peninsula") + HOUR
    assert moments.instant("2026-12-01T13:15", "peninsula") == moments.instant("2026-12-01T13:15+01:00", "canarias")
    assert moments.month("2026-10") == (2026, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 October", "is no date or time"),
        ("2026-13-01", "is no date or time"),
        ("1999-01-01", "a year from 2002"),
        ("2026-03-29T02:30", "leave this time out"),
        ("2026-10-25T02:30", r"2026-10-25T02:30\+02:00 or 2026-10-25T02:30\+01:00"),
    ],
)
def test_what_is_no_instant(text: str, words: str) -> None:
    with pytest.raises(moments.BadTime, match=words):
        moments.instant(text, "peninsula")


def test_the_time_that_is_there_twice_is_shown_with_its_offset_and_read_back() -> None:
    first = moments.instant("2026-10-25T02:30+02:00", "peninsula")
    assert [moments.shown(first + n * HOUR, "peninsula") for n in (-1, 0, 1, 2)] == [
        "2026-10-25 01:30",
        "2026-10-25 02:30+02",
        "2026-10-25 02:30+01",
        "2026-10-25 03:30",
    ]


@pytest.mark.parametrize("text", ["2026", "2026-00", "2026-13", "2026-1", "1999-12", "2026-10-01"])
def test_what_is_no_month(text: str) -> None:
    with pytest.raises(moments.BadTime, match="is no month"):
        moments.month(text)


@settings(max_examples=60)
@given(st.integers(1_009_843_200_000 // HOUR, 4_000_000_000_000 // HOUR), st.sampled_from(sorted(hours.ZONES)))
def test_every_hour_is_shown_and_read_back(hour: int, zone: str) -> None:
    text = moments.shown(hour * HOUR, zone).replace(" ", "T")
    if len(text) > 16:
        text += ":00"
    assert moments.instant(text, zone) == hour * HOUR


@settings(max_examples=40)
@given(st.integers(1_009_900_000_000, 4_000_000_000_000), st.sampled_from(sorted(hours.ZONES)))
def test_the_next_midnight_is_the_next_days_first_instant(at_ms: int, zone: str) -> None:
    end_ms = moments.next_midnight(at_ms, zone)
    assert at_ms < end_ms <= at_ms + 25 * HOUR
    assert hours.local(end_ms, zone).time().isoformat() == "00:00:00"
    assert (hours.local(end_ms, zone).date() - hours.local(at_ms, zone).date()).days == 1
