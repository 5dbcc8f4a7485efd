"""Legal time in Spain and the hour of the year, computed: no endorser's time zone database decides a settlement.

Rules
- Summer time from the last Sunday of March 01:00 UTC to the last Sunday of October 01:00 UTC (Directive 2000/84/EC,
  articles 2 and 3), an hour ahead of winter time: UTC+1 on the peninsula, UTC+0 on the Canary Islands. Holds from 2002
  on; should the directive end, a new zone name says so, and old settlements keep the old one.
- Hour ``n`` of a year is the ``n``-th hour that passes after 1 January 00:00 legal time: 1..8760, or 8784 in a leap
  year. So each hour that passes has one number of its own and each number one hour: the day with 23 hours skips none,
  the doubled hour of October has two numbers, as the electricity market counts the 23 and 25 hours of those days.
  In summer a number therefore is the hour of winter time.
- A period belongs to the year, month and hour that it begins in.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

HOUR_MS = 3_600_000
ZONES = {"peninsula": 1, "canarias": 0}
"""Winter time's hours before UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def summer(utc_ms: int) -> bool:
    """Whether summer time is in force."""
    year = _moment(utc_ms).year
    return _last_sunday_ms(year, 3) <= utc_ms < _last_sunday_ms(year, 10)


def local(utc_ms: int, zone: str) -> datetime:
    """Legal time at an instant, without a zone."""
    hours = ZONES[zone] + summer(utc_ms)
    return (_moment(utc_ms) + timedelta(hours=hours)).replace(tzinfo=None)


def year_start_ms(year: int, zone: str) -> int:
    """1 January 00:00 legal time, which is winter time."""
    return month_ms(year, 1, zone)[0]


def hours_in(year: int) -> int:
    """8760, or 8784 in a leap year."""
    return (year_days(year)) * 24


def year_days(year: int) -> int:
    """365 or 366."""
    return (datetime(year + 1, 1, 1, tzinfo=UTC) - datetime(year, 1, 1, tzinfo=UTC)).days


def hour_of_year(utc_ms: int, zone: str) -> tuple[int, int]:
    """The year and the number of the hour in it, from 1."""
    year = local(utc_ms, zone).year
    return year, (utc_ms - year_start_ms(year, zone)) // HOUR_MS + 1


def month_ms(year: int, month: int, zone: str) -> tuple[int, int]:
    """First instant of a month in legal time, and of the next one."""
    return _midnight_ms(year, month, zone), _midnight_ms(year + month // 12, month % 12 + 1, zone)


def _midnight_ms(year: int, month: int, zone: str) -> int:
    """The first of a month, 00:00 legal time. No change of the clocks is within a day of it."""
    winter = _ms(datetime(year, month, 1, tzinfo=UTC)) - ZONES[zone] * HOUR_MS
    return winter - HOUR_MS if summer(winter) else winter


def _last_sunday_ms(year: int, month: int) -> int:
    last = datetime(year, month, 31, 1, tzinfo=UTC)
    return _ms(last - timedelta(days=(last.weekday() + 1) % 7))


def _moment(utc_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=utc_ms)


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
