"""The year that all homes live: 26 fortnights of two like weeks, every year the same again.

A day's life follows from its fortnight, its weekday and the clock on the wall, and from nothing else. So a day far
ahead is known without the days before it, and a sum over many years is a sum over few days, each as often as it comes.

Rules
- Days are those of UTC; 1970-01-01 is day 0. Weeks are those of ISO 8601; a 53rd is like the 52nd.
- The clock on the wall is Spain's; it changes at the beginning (UTC) of its day.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import NamedTuple

MINUTES_A_DAY = 1440
_EPOCH = dt.date(1970, 1, 1).toordinal()
_LAST_WEEK = 52
_SATURDAY = 5
# 1970-01-01 was a Thursday.
_FIRST_MONDAY = 4


class Today(NamedTuple):
    """All that a day's life follows from.

    Attributes:
        fortnight: 0..25.
        weekday: 0 = Monday.
        ahead_min: how far the clock on the wall is ahead of UTC.
    """

    fortnight: int
    weekday: int
    ahead_min: int

    @property
    def is_weekend(self) -> bool:
        """Whether most people are at home."""
        return self.weekday >= _SATURDAY

    @property
    def of_year(self) -> int:
        """A day in the fortnight's middle, counted from about the 1st of January; another one for every weekday."""
        return self.fortnight * 14 + 4 + self.weekday

    def local(self, minute: int) -> int:
        """Minutes on the clock on the wall, at a minute of this day (UTC), since the Thursday before."""
        return (self.weekday + _FIRST_MONDAY) * MINUTES_A_DAY + minute + self.ahead_min

    def utc(self, local_minute: int) -> int:
        """Minute of this day at which the clock on the wall shows that minute of a day."""
        return (local_minute - self.ahead_min) % MINUTES_A_DAY


@lru_cache(maxsize=20_000)
def today(day: int) -> Today:
    """What a day is."""
    date = dt.date.fromordinal(_EPOCH + day)
    _, week, weekday = date.isocalendar()
    summer = _last_sunday(date.year, 3) <= date < _last_sunday(date.year, 10)
    return Today((min(week, _LAST_WEEK) - 1) // 2, weekday - 1, 120 if summer else 60)


@lru_cache(maxsize=256)
def _last_sunday(year: int, month: int) -> dt.date:
    last = dt.date(year, month, 31)
    return last - dt.timedelta(days=last.isoweekday() % 7)
