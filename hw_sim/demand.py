"""What a household draws: standby, people, a refrigerator, warmth and coolness, and the appliances of the day.

Pure: a function of household seed and day. Active power in watts and reactive power in var, on three phases that are
not loaded alike.

Rules
- A day is one of UTC and stands alone: what runs at its end is cut off.
- Hours are those of the clock on the wall. On a weekend people get up later, are at home, and wash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from hw_sim import noise, weather
from hw_sim.year import MINUTES_A_DAY, Today

Phases = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(active, reactive) of L1, L2, L3."""

# What people do by the hour of the day: watts of light, screens and chargers in a home that is lived in.
_WEEKDAY_W = (
    *(60, 45, 40, 40, 40, 55, 110, 190, 170, 120, 110, 120),
    *(150, 190, 170, 130, 120, 140, 190, 270, 330, 340, 260, 130),
)
_WEEKEND_W = (
    *(110, 80, 50, 40, 40, 40, 55, 90, 150, 200, 210, 210),
    *(230, 270, 250, 210, 190, 200, 230, 290, 340, 360, 310, 200),
)
_STANDBY_W = 70
_DAYS_A_WEEK = 7
_REFRIGERATOR_W, _REFRIGERATOR_VAR = 95, 70
# How often what people do moves, and what the heat pump gives.
_LIVED_STEP_MIN, _WARMTH_STEP_MIN = 10, 30
# Tenths of a degree outside at which a home is warmed and cooled; W for each degree beyond; most that is drawn.
_WARM_BELOW, _COOL_ABOVE = 160, 250
_WARM_W, _COOL_W, _MOST_W = 55, 75, 1_400
# Somebody is at home, or warmth is kept at a third.
_AT_HOME = (range(6 * 60, 9 * 60), range(17 * 60, 23 * 60))
_AT_HOME_WEEKEND = (range(8 * 60, 24 * 60),)


@dataclass(frozen=True, slots=True)
class Appliance:
    """Something that is switched on some times a day.

    Attributes:
        name: for people.
        per_week: how often on average.
        hours: (first, last) hour of the day, local time, at which it may start.
        minutes: how long it runs.
        active_w, reactive_var: what it draws.
        on, off: minutes of its thermostat's cycle; off 0 = steady.
        weekend: per_week counts double on Saturday and Sunday.
    """

    name: str
    per_week: int
    hours: tuple[int, int]
    minutes: int
    active_w: int
    reactive_var: int = 0
    on: int = 1
    off: int = 0
    weekend: bool = False


APPLIANCES = (
    Appliance("kettle", 9, (7, 9), 3, 2000),
    Appliance("coffee", 7, (15, 17), 4, 1400),
    Appliance("microwave", 8, (13, 21), 5, 1250, 280),
    Appliance("hob", 7, (13, 14), 28, 1800, 150, on=2, off=1),
    Appliance("hob, evening", 5, (20, 21), 22, 1600, 140, on=2, off=1),
    Appliance("oven", 3, (12, 20), 48, 2300, on=3, off=2, weekend=True),
    Appliance("washing machine, heating", 4, (9, 19), 14, 2050, weekend=True),
    Appliance("washing machine, drum", 4, (10, 20), 42, 260, 180, weekend=True),
    Appliance("dishwasher", 5, (14, 22), 22, 1900, on=9, off=4),
    Appliance("water heater", 7, (2, 5), 75, 1500, on=6, off=3),
    Appliance("vacuum cleaner", 2, (10, 18), 18, 900, 90, weekend=True),
    Appliance("iron", 2, (17, 21), 30, 1600, on=1, off=2),
)


class _Switches:
    """What changes at which minute: three phases' W, then their var."""

    def __init__(self) -> None:
        self.changes: defaultdict[int, list[int]] = defaultdict(lambda: [0] * 6)

    def run(self, first: int, last: int, phase: int, active_w: int, reactive_var: int) -> None:
        """Something runs from one minute to before another."""
        for minute, sign in ((first, 1), (last, -1)):
            change = self.changes[minute]
            change[phase] += sign * active_w
            change[3 + phase] += sign * reactive_var


def draw(seed: int, climate: int, today: Today, size: int = 100) -> list[tuple[int, Phases]]:
    """(minute of the day, what a household draws from then on), in order, from minute 0 on.

    Args:
        seed: the household.
        climate: seed of the weather.
        today: the day.
        size: percent of an average household.
    """
    switches = _Switches()
    _live(switches, seed, today)
    _cool_food(switches, seed, today)
    _keep_warm(switches, seed, climate, today)
    for first, last, appliance, phase in _runs(seed, today):
        for start in range(first, last, appliance.on + appliance.off):
            end = min(start + appliance.on, last)
            switches.run(start, end, phase, appliance.active_w, appliance.reactive_var)
    now = [0] * 6
    found: list[tuple[int, Phases]] = []
    for minute in sorted(switches.changes):
        if minute >= MINUTES_A_DAY:
            break
        change = switches.changes[minute]
        if any(change):
            now = [was + more for was, more in zip(now, change, strict=True)]
            w1, w2, w3, var1, var2, var3 = [part * size // 100 for part in now]
            found.append((minute, ((w1, var1), (w2, var2), (w3, var3))))
    return found


def _live(switches: _Switches, seed: int, today: Today) -> None:
    profile = _WEEKEND_W if today.is_weekend else _WEEKDAY_W
    shares = _shares(seed)
    for start in range(0, MINUTES_A_DAY, _LIVED_STEP_MIN):
        hour, minutes = divmod((start + today.ahead_min) % MINUTES_A_DAY, 60)
        left, right = profile[hour], profile[(hour + 1) % 24]
        much = 900 + noise.smooth(seed, today.of_year * MINUTES_A_DAY + start, 11) // 4
        watts = _STANDBY_W + (left + (right - left) * minutes // 60) * much // 1000
        for phase, share in enumerate(shares):
            part_w = watts * share // 100
            # Switched-mode supplies and LED drivers push the current ahead of the voltage.
            switches.run(start, start + _LIVED_STEP_MIN, phase, part_w, -(part_w // 5))


def _cool_food(switches: _Switches, seed: int, today: Today) -> None:
    period = 38 + seed % 23
    for start in range((seed + today.of_year) % period, MINUTES_A_DAY, period):
        end = min(start + period * 2 // 5, MINUTES_A_DAY)
        switches.run(start, end, seed % 3, _REFRIGERATOR_W, _REFRIGERATOR_VAR)


def _keep_warm(switches: _Switches, seed: int, climate: int, today: Today) -> None:
    """A heat pump that follows the air outside; which degree people feel at home with differs."""
    sky = weather.sky(climate, today)
    taste = noise.at(seed, 4) // 100
    hours = _AT_HOME_WEEKEND if today.is_weekend else _AT_HOME
    for start in range(0, MINUTES_A_DAY, _WARMTH_STEP_MIN):
        degrees = sky.temperature(start)
        missing, beyond = max(0, _WARM_BELOW + taste - degrees), max(0, degrees - _COOL_ABOVE - taste)
        watts = min(_MOST_W, (missing * _WARM_W + beyond * _COOL_W) // 10)
        local = (start + today.ahead_min) % MINUTES_A_DAY
        if not any(local in when for when in hours):
            watts //= 3
        if watts:
            switches.run(start, start + _WARMTH_STEP_MIN, (seed + 1) % 3, watts, watts // 8)


def _shares(seed: int) -> tuple[int, int, int]:
    """Percent of light and sockets on each phase."""
    first, second = 30 + seed % 25, 20 + seed // 25 % 20
    return first, second, 100 - first - second


def _runs(seed: int, today: Today) -> Iterator[tuple[int, int, Appliance, int]]:
    """First minute, minute after the last, what, on which phase."""
    for number, kind in enumerate(APPLIANCES):
        chance = noise.seed_of(seed, today.of_year, number)
        often = kind.per_week * (2 if kind.weekend and today.is_weekend else 1)
        for repeat in range(2):
            # Twice a day at most, so each of two draws stands for half of the weekly number.
            if (noise.at(chance, repeat) + noise.SPREAD) * 2 * _DAYS_A_WEEK >= often * 2 * noise.SPREAD:
                continue
            first, last = kind.hours
            place = noise.at(chance, 10 + repeat) + noise.SPREAD
            start = today.utc(first * 60 + place * (last - first + 1) * 60 // (2 * noise.SPREAD + 1))
            yield start, min(start + kind.minutes, MINUTES_A_DAY), kind, (seed + number) % 3
