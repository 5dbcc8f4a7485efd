"""A home with its sun, its battery and its car: what every meter in it would show at any instant.

A home has five measuring points, each seen as its own meter sees it, import positive: ``load`` and ``ev`` draw, ``pv``
delivers (export), ``battery`` does both, and ``grid`` is their sum. Within a minute the powers keep their proportions
and only breathe together, second by second, by a few percent whose sum over the minute is zero. So every energy is the
exact integral of its power, at any millisecond, without adding up seconds.

Deterministic: the same home and the same instant give the same numbers, whatever was asked before. Nor does an instant
need the time before it: days stand alone (hw_sim.day), come again every year (hw_sim.year), and each is added up once.

Rules
- All numbers are integers in millionths of their unit.
- S^2 = P^2 + Q^2 and I = S / U for each phase; P, Q and I of the whole are the sums of the phases.
- The whole's counters integrate the whole's power (the phases may point different ways at the same time).
- Counters start at a stand of their own at the home's origin and never go back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from functools import lru_cache
from itertools import accumulate
from operator import attrgetter

from hw_sim import noise
from hw_sim.car import Car
from hw_sim.day import POINTS, Battery, Flows, Household, Span, flows, live
from hw_sim.figures import COUNTERS, Instant, integrate, quantities
from hw_sim.year import MINUTES_A_DAY, Today, today

__all__ = ["POINTS", "Battery", "Car", "Home", "Household"]

_MINUTE_MS = 60_000
# Days whose spans are kept: a meter asks for today, its counters for yesterday's sum.
_REMEMBERED_DAYS = 4
# One percent steps of breathing within a minute, zero in sum: a wave and its mirror image.
_BREATH = tuple(10 * step for step in (0, 1, 2, 1, 0, -1, -2, -1, 1, 2, 2, 0, -2, -2, -1)) * 4
_BREATHED = tuple(accumulate(_BREATH * 2, initial=0))
# Ohm of a house connection, as mV per W: 0.2 ohm at 230 V.
_DROP_NUMERATOR, _DROP_DENOMINATOR = 7, 8


class Home:
    """A household from an origin on.

    Attributes:
        household: what it is.
        origin_min: minutes since 1970 (UTC) at which its counters had their first stand.
    """

    def __init__(self, household: Household, origin_ms: int) -> None:
        self.household = household
        self.origin_min = origin_ms // _MINUTE_MS
        self._seed = noise.seed_of(household.seed, household.name)
        # Neighbours have the same weather; the seed alone makes it.
        self._climate = noise.seed_of(household.seed, "clouds")
        self.spans = lru_cache(maxsize=_REMEMBERED_DAYS)(self._spans)
        self._flows: dict[str, tuple[Span, Flows]] = {}
        self._counters: dict[str, _Counters] = {}

    def quantities(self, point: str, at_ms: int) -> dict[int, int]:
        """OBIS key -> millionths of its unit, of everything a meter at that point could show.

        Args:
            point: one of :data:`POINTS`.
            at_ms: POSIX milliseconds.

        Raises:
            ValueError: before the origin.
        """
        minute, ms = divmod(at_ms, _MINUTE_MS)
        if minute < self.origin_min:
            raise ValueError(f"minute {minute} is before the home's origin {self.origin_min}")
        if point not in self._counters:
            self._counters[point] = _Counters(self, point)
        span = self._span(minute)
        second = at_ms // 1000
        breath, breathed = self._breath(minute, ms)
        charge = 0
        if self.household.battery:
            elapsed_min = minute % MINUTES_A_DAY - span.start
            charge = self.household.battery.percent(span.held_after(elapsed_min * 60_000_000 + breathed))
        return quantities(
            Instant(
                flows=self.flows(point, span),
                counters=self._counters[point].at(minute, span),
                breath=breath,
                breathed=breathed,
                local_minute=today(minute // MINUTES_A_DAY).local(minute % MINUTES_A_DAY),
                voltages_mv=self._voltages_mv(span, second),
                frequency_mhz=self._frequency_mhz(second),
                charge=charge,
            )
        )

    def flows(self, point: str, span: Span) -> Flows:
        """What flows at a point in a span: L1, L2, L3 and the whole."""
        known = self._flows.get(point)
        if known is None or known[0] is not span:
            self._flows[point] = known = span, flows(self.household, point, span)
        return known[1]

    def first_stand(self, point: str) -> list[int]:
        """Counters of a point at the origin, in W min and so on; see :mod:`hw_sim.figures`."""
        delivers = self.household.roof is not None or self.household.battery is not None
        draws = point != "pv"
        gives = delivers and point not in ("load", "ev")
        imported = self._between(f"{point} import", 900, 14_000) * 1000 * 60 if draws else 0
        exported = self._between(f"{point} export", 300, 11_000) * 1000 * 60 if gives else 0
        return COUNTERS.first(imported, exported, self.household.phases, self.household.roof_phases)

    def _between(self, what: str, low: int, high: int) -> int:
        return low + noise.seed_of(self._seed, what) % (high - low)

    def _spans(self, day: Today) -> list[Span]:
        return live(self.household, self._seed, self._climate, day)

    def _span(self, minute: int) -> Span:
        day, now = divmod(minute, MINUTES_A_DAY)
        spans = self.spans(today(day))
        return spans[bisect_right(spans, now, key=attrgetter("start")) - 1]

    def _breath(self, minute: int, ms: int) -> tuple[int, int]:
        """Thousandths of the minute's power at a millisecond, and their sum since the minute began (ms thousandths)."""
        turn = noise.at(self._seed, minute) % 60
        second, rest = divmod(ms, 1000)
        breathed = (_BREATHED[turn + second] - _BREATHED[turn]) * 1000
        now = _BREATH[(turn + second) % 60]
        return 1000 + now, 1000 * ms + breathed + now * rest

    def _voltages_mv(self, span: Span, second: int) -> tuple[int, int, int]:
        grid = self.flows("grid", span)
        found = []
        for phase in range(3):
            if phase >= self.household.phases:
                found.append(0)
                continue
            own = self._seed + phase
            slow, fast = noise.smooth(own, second, 900) * 2, noise.at(own, second) // 3
            drop = grid[phase].active_w * _DROP_NUMERATOR // _DROP_DENOMINATOR
            found.append(231_000 + slow + fast - drop)
        first, other, third = found
        return first, other, third

    def _frequency_mhz(self, second: int) -> int:
        # One frequency for the whole country, whatever the seed.
        return 50_000 + noise.smooth(50, second, 20) * 3 // 100 + noise.at(50, second) * 4 // 1000


class _Counters:
    """The counters of one point: the sum of the days before today, and of today's spans so far."""

    def __init__(self, home: Home, point: str) -> None:
        self._home = home
        self._point = point
        self._sums: dict[Today, list[int]] = {}
        self._first_day = home.origin_min // MINUTES_A_DAY
        self._stand = home.first_stand(point)
        before = self._walk([0] * COUNTERS.SIZE, self._first_day, 0, home.origin_min % MINUTES_A_DAY)
        self._stand = [stand - already for stand, already in zip(self._stand, before, strict=True)]
        self._day, self._midnight = self._first_day, self._stand
        self._minute, self._now = self._first_day * MINUTES_A_DAY, self._stand.copy()

    def at(self, minute: int, span: Span) -> list[int]:
        """Counters at the beginning of a minute that lies in a span; do not change them."""
        day, end = divmod(minute, MINUTES_A_DAY)
        if minute < self._minute or day != self._minute // MINUTES_A_DAY:
            self._minute, self._now = day * MINUTES_A_DAY, self._at_midnight(day).copy()
        start = self._minute % MINUTES_A_DAY
        if start >= span.start:
            self._add(self._now, today(day), span, end - start)
        else:
            self._walk(self._now, day, start, end)
        self._minute = minute
        return self._now

    def _at_midnight(self, day: int) -> list[int]:
        """Counters at the beginning of a day."""
        if day == self._day + 1:
            sums = self._sum(today(self._day))
            self._midnight = [stand + more for stand, more in zip(self._midnight, sums, strict=True)]
        elif day != self._day:
            total = self._stand.copy()
            for kind, often in Counter(map(today, range(self._first_day, day))).items():
                total = [stand + often * more for stand, more in zip(total, self._sum(kind), strict=True)]
            self._midnight = total
        self._day = day
        return self._midnight

    def _sum(self, kind: Today) -> list[int]:
        """What a day of that kind adds."""
        known = self._sums.get(kind)
        if known is None:
            known = self._sums[kind] = [0] * COUNTERS.SIZE
            for span in self._home.spans(kind):
                self._add(known, kind, span, span.end - span.start)
        return known

    def _walk(self, counters: list[int], day: int, start: int, end: int) -> list[int]:
        """Add what flows from one minute of a day to before another."""
        for span in self._home.spans(today(day)):
            minutes = min(span.end, end) - max(span.start, start)
            if minutes > 0:
                self._add(counters, today(day), span, minutes)
        return counters

    def _add(self, counters: list[int], kind: Today, span: Span, minutes: int) -> None:
        integrate(counters, flows(self._home.household, self._point, span), minutes, kind.local(span.start))
