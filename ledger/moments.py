"""Legal time as people write and read it: into instants and back, of a zone of :mod:`ledger.rules.hours`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from ledger.rules import hours

_MONTH = re.compile(r"(\d{4})-(\d{2})")
_MS = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR, _LAST_YEAR = 2002, 9998


class BadTime(ValueError):
    """A text that is no instant, or no month; says what is wrong with it."""


def instant(text: str, zone: str) -> int:
    """POSIX milliseconds of ``2026-10-01``, ``2026-10-01T13:15``, or with ``Z`` or an offset behind it.

    Raises:
        BadTime: it is none, the clocks leave it out, or it is there twice.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadTime(f"{text[:40]!r} is no date or time: 2026-10-01, or 2026-10-01T13:15") from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise BadTime(f"{text[:40]!r}: a year from {_FIRST_YEAR} to {_LAST_YEAR} is needed")
    if moment.tzinfo is not None:
        return (moment - _EPOCH) // _MS
    ahead = (hours.ZONES[zone] + 1, hours.ZONES[zone])
    found = [at for each in ahead if hours.local(at := _utc(moment, each), zone) == moment]
    if not found:
        raise BadTime(f"{text}: that day the clocks go forward, and leave this time out")
    if len(found) > 1:
        shown = " or ".join(f"{text}{hour:+03d}:00" for hour in ahead)
        raise BadTime(f"{text} is there twice, the clocks go back: {shown}")
    return found[0]


def month(text: str) -> tuple[int, int]:
    """Year and month of ``2026-10``.

    Raises:
        BadTime: it is none.
    """
    found = _MONTH.fullmatch(text)
    if not found or not 1 <= int(found[2]) <= 12 or not _FIRST_YEAR <= int(found[1]) <= _LAST_YEAR:
        raise BadTime(f"{text[:40]!r} is no month: 2026-10")
    return int(found[1]), int(found[2])


def midnight(day: date, zone: str) -> int:
    """When a day begins. No change of the clocks is at midnight."""
    return instant(day.isoformat(), zone)


def next_midnight(at_ms: int, zone: str) -> int:
    """When the next day begins."""
    return midnight(hours.local(at_ms, zone).date() + timedelta(days=1), zone)


def shown(at_ms: int, zone: str) -> str:
    """``2026-10-25 13:15``; where that is there twice, with its offset."""
    moment = hours.local(at_ms, zone)
    offset = hours.ZONES[zone] + hours.summer(at_ms)
    other = at_ms + hours.HOUR_MS if hours.summer(at_ms) else at_ms - hours.HOUR_MS
    twice = hours.local(other, zone) == moment
    return f"{moment:%Y-%m-%d %H:%M}" + (f"{offset:+03d}" if twice else "")


def _utc(moment: datetime, ahead: int) -> int:
    return (moment.replace(tzinfo=UTC) - timedelta(hours=ahead) - _EPOCH) // _MS
