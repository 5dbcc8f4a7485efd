"""A home with its sun and its battery: what every meter in it would show at any instant.

A home has four measuring points, each seen as its own meter sees it, import positive: ``load`` draws, ``pv`` delivers
(export), ``battery`` does both, and ``grid`` is their sum. Within a minute the powers keep their proportions and only
breathe together, second by second, by a few percent whose sum over the minute is zero. So every energy is the exact
integral of its power, at any millisecond, without adding up seconds.

Deterministic: the same home and the same instant give the same numbers, whatever was asked before.

Rules
- All numbers are integers in millionths of their unit.
- S^2 = P^2 + Q^2 and I = S / U for each phase; P, Q and I of the whole are the sums of the phases.
- The whole's counters integrate the whole's power (the phases may point different ways at the same time).
- Counters start at a stand of their own at the home's origin and never go back.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from hw_sim import demand, noise, sun
from hw_sim.figures import COUNTERS, Flow, Instant, flow, integrate, quantities

Flows = tuple[Flow, Flow, Flow, Flow]
POINTS = ("grid", "load", "pv", "battery")
_MINUTE_MS = 60_000
# The ledger of a point's counters is kept once an hour, so that an earlier instant costs an hour's minutes at most.
_CHECKPOINT_MIN = 60
# A day and a bit of what load, sun and battery did in a minute.
_REMEMBERED_MIN = 1600
# One percent steps of breathing within a minute, zero in sum: a wave and its mirror image.
_BREATH = tuple(10 * step for step in (0, 1, 2, 1, 0, -1, -2, -1, 1, 2, 2, 0, -2, -2, -1)) * 4
_BREATHED = tuple(accumulate(_BREATH * 2, initial=0))
# Ohm of a house connection, as mV per W: 0.2 ohm at 230 V.
_DROP_NUMERATOR, _DROP_DENOMINATOR = 7, 8
# Battery and inverter lose a twentieth each way.
_EFFICIENCY = (19, 20)


@dataclass(frozen=True, slots=True)
class Battery:
    """A store behind the grid meter that keeps the grid's power at zero as long as it can.

    Attributes:
        capacity_wh: usable energy.
        power_w: most that goes in or out.
    """

    capacity_wh: int
    power_w: int


@dataclass(frozen=True, slots=True)
class Household:
    """What a home is.

    Attributes:
        name: with the seed it makes the home's days.
        seed: another seed, other days.
        phases: 1 or 3.
        size: percent of an average household's consumption.
        roof: its photovoltaics, None without.
        roof_phases: phases of the inverter and the battery.
        battery: None without.
    """

    name: str = "home"
    seed: int = 0
    phases: int = 3
    size: int = 100
    roof: sun.Roof | None = None
    roof_phases: int = 1
    battery: Battery | None = None


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
        # Neighbours have the same clouds; the seed alone makes them.
        self._clouds = noise.seed_of(household.seed, "clouds")
        self._sources: dict[int, tuple[demand.Phases, int, int]] = {}
        self._flows: dict[str, tuple[int, Flows]] = {}
        self._charge_wmin: list[int] = []
        if household.battery:
            self._charge_wmin.append(household.battery.capacity_wh * 60 * 2 // 5)
        self._counters = {point: _Counters(self, point) for point in POINTS}

    def quantities(self, point: str, at_ms: int) -> dict[int, int]:
        """OBIS key -> millionths of its unit, of everything a meter at that point could show.

        Args:
            point: one of :data:`POINTS`.
            at_ms: POSIX milliseconds.

        Raises:
            ValueError: before the origin.
        """
        minute, ms = divmod(at_ms, _MINUTE_MS)
        flows = self.flows(point, minute)
        breath, breathed = self._breath(minute, ms)
        second = at_ms // 1000
        charge = 0
        if self.household.battery:
            charge = self._charge(minute) * 100_000_000 // (self.household.battery.capacity_wh * 60)
        return quantities(
            Instant(
                flows=flows,
                counters=self._counters[point].at(minute),
                breath=breath,
                breathed=breathed,
                local_minute=self.local_minute(minute),
                voltages_mv=self._voltages_mv(minute, second),
                frequency_mhz=self._frequency_mhz(second),
                charge=charge,
            )
        )

    def flows(self, point: str, minute: int) -> Flows:
        """What flows at a point in a minute: L1, L2, L3 and the whole."""
        known = self._flows.get(point)
        if known is None or known[0] != minute:
            self._flows[point] = known = minute, self._flow_in(point, minute)
        return known[1]

    def _flow_in(self, point: str, minute: int) -> Flows:
        load, generated, stored = self._at(minute)
        over = self.household.roof_phases
        phases = []
        for phase in range(3):
            active = reactive = 0
            if point in ("load", "grid"):
                active, reactive = load[phase]
            if point in ("pv", "grid"):
                share = _share(generated, phase, over)
                # An inverter at its set power factor of nearly 1.
                active, reactive = active - share, reactive - share // 40
            if point in ("battery", "grid"):
                active += _share(stored, phase, over)
            phases.append(flow(active, reactive))
        first, second, third = phases
        return first, second, third, flow(sum(one.active_w for one in phases), sum(one.reactive_var for one in phases))

    def local_minute(self, minute: int) -> int:
        """Minutes since 1970 on the clock on the wall, in Spain."""
        return minute + (120 if _is_summer(minute // sun.MINUTES_A_DAY) else 60)

    def first_stand(self, point: str) -> list[int]:
        """Counters of a point at the origin, in W min and so on; see :mod:`hw_sim.figures`."""
        delivers = self.household.roof is not None or self.household.battery is not None
        imported = 0 if point == "pv" else self._between(f"{point} import", 900, 14_000) * 1000 * 60
        exported = 0 if point == "load" or not delivers else self._between(f"{point} export", 300, 11_000) * 1000 * 60
        return COUNTERS.first(imported, exported, self.household.phases, self.household.roof_phases)

    def _between(self, what: str, low: int, high: int) -> int:
        return low + noise.seed_of(self._seed, what) % (high - low)

    def _at(self, minute: int) -> tuple[demand.Phases, int, int]:
        """Load by phase, generated W, stored W (negative: taken out)."""
        found = self._sources.get(minute)
        if found is None:
            if minute < self.origin_min:
                raise ValueError(f"minute {minute} is before the home's origin {self.origin_min}")
            home = self.household
            load = demand.draw(self._seed, self.local_minute(minute), home.size)
            if home.phases == 1:
                load = ((sum(w for w, _ in load), sum(var for _, var in load)), (0, 0), (0, 0))
            generated = sun.power_w(home.roof, minute, self._clouds) if home.roof else 0
            stored = 0
            if home.battery:
                surplus = generated - sum(w for w, _ in load)
                stored = _stored_w(home.battery, self._charge(minute), surplus)
            found = load, generated, stored
            if len(self._sources) >= _REMEMBERED_MIN:
                self._sources.pop(next(iter(self._sources)))
            self._sources[minute] = found
        return found

    def _charge(self, minute: int) -> int:
        """What is in the battery at the beginning of a minute, W min."""
        known = self._charge_wmin
        while len(known) <= minute - self.origin_min:
            now = self.origin_min + len(known) - 1
            _, _, stored = self._at(now)
            gain, loss = _EFFICIENCY
            known.append(known[-1] + (stored * gain // loss if stored > 0 else stored * loss // gain))
        return known[minute - self.origin_min]

    def _breath(self, minute: int, ms: int) -> tuple[int, int]:
        """Thousandths of the minute's power at a millisecond, and their sum since the minute began (ms thousandths)."""
        turn = noise.at(self._seed, minute) % 60
        second, rest = divmod(ms, 1000)
        breathed = (_BREATHED[turn + second] - _BREATHED[turn]) * 1000
        now = _BREATH[(turn + second) % 60]
        return 1000 + now, 1000 * ms + breathed + now * rest

    def _voltages_mv(self, minute: int, second: int) -> tuple[int, int, int]:
        grid = self.flows("grid", minute)
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
    """The counters of one point, minute by minute."""

    def __init__(self, home: Home, point: str) -> None:
        self._home = home
        self._point = point
        self._minute = home.origin_min
        self._now = home.first_stand(point)
        self._kept = {home.origin_min: self._now.copy()}

    def at(self, minute: int) -> list[int]:
        """Counters at the beginning of a minute; do not change them."""
        if minute < self._minute:
            start = max(self._home.origin_min, minute - minute % _CHECKPOINT_MIN)
            self._minute, self._now = start, self._kept[start].copy()
        while self._minute < minute:
            integrate(self._now, self._home.flows(self._point, self._minute), self._home.local_minute(self._minute))
            self._minute += 1
            if self._minute % _CHECKPOINT_MIN == 0 and self._minute not in self._kept:
                self._kept[self._minute] = self._now.copy()
        return self._now


def _stored_w(battery: Battery, charge_wmin: int, surplus_w: int) -> int:
    """What goes into the battery in a minute (out: negative)."""
    gain, loss = _EFFICIENCY
    room_w = (battery.capacity_wh * 60 - charge_wmin) * loss // gain
    held_w = charge_wmin * gain // loss
    return max(-battery.power_w, -held_w, min(battery.power_w, room_w, surplus_w))


def _share(power_w: int, phase: int, phases: int) -> int:
    """A phase's part of a power on one or three phases; the parts add up."""
    if phases == 1:
        return power_w if phase == 0 else 0
    third = power_w // 3
    return power_w - 2 * third if phase == 0 else third


@lru_cache(maxsize=64)
def _is_summer(day: int) -> bool:
    """Summer time of the European Union, to the day: from the last Sunday of March to the last of October."""
    date = dt.date.fromordinal(dt.date(1970, 1, 1).toordinal() + day)
    return _last_sunday(date.year, 3) <= date < _last_sunday(date.year, 10)


def _last_sunday(year: int, month: int) -> dt.date:
    last = dt.date(year, month, 31)
    return last - dt.timedelta(days=last.isoweekday() % 7)
