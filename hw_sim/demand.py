"""What a household draws: standby, people, a refrigerator, and the appliances of the day.

Pure: a function of household seed and minute. Active power in watts and reactive power in var, on three phases that are
not loaded alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from hw_sim import noise
from hw_sim.sun import MINUTES_A_DAY

Phases = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(active, reactive) of L1, L2, L3."""

# What people do by the hour of the day: watts of light, screens and chargers in a home that is lived in.
_LIVED_IN_W = (
    *(60, 45, 40, 40, 40, 55, 110, 190, 170, 120, 110, 120),
    *(150, 190, 170, 130, 120, 140, 190, 270, 330, 340, 260, 130),
)
_DAYS_A_WEEK = 7
# 1970-01-01 was a Thursday.
_WEEKDAY_OF_DAY_0 = 3
_REFRIGERATOR_W, _REFRIGERATOR_VAR = 95, 70


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
    Appliance("water heater", 7, (1, 5), 75, 1500, on=6, off=3),
    Appliance("vacuum cleaner", 2, (10, 18), 18, 900, 90, weekend=True),
    Appliance("iron", 2, (17, 21), 30, 1600, on=1, off=2),
)


@dataclass(frozen=True, slots=True)
class _Run:
    """One appliance running on one day."""

    start: int
    end: int
    appliance: Appliance
    phase: int


def draw(seed: int, minute: int, size: int = 100) -> Phases:
    """What a household draws in a minute.

    Args:
        seed: the household.
        minute: local minutes since 1970.
        size: percent of an average household.
    """
    active, reactive = [0, 0, 0], [0, 0, 0]
    day, now = divmod(minute, MINUTES_A_DAY)
    lived_in = _lived_in_w(now) * (900 + noise.smooth(seed, minute, 11) // 4) // 1000
    for phase, share in enumerate(_shares(seed)):
        watts = (70 + lived_in) * share // 100
        active[phase] += watts
        # Switched-mode supplies and LED drivers push the current ahead of the voltage.
        reactive[phase] -= watts // 5
    period = 38 + seed % 23
    if (minute + seed) % period < period * 2 // 5:
        active[seed % 3] += _REFRIGERATOR_W
        reactive[seed % 3] += _REFRIGERATOR_VAR
    for run in _runs(seed, day):
        if run.start <= now < run.end:
            kind = run.appliance
            if (now - run.start) % (kind.on + kind.off) < kind.on:
                active[run.phase] += kind.active_w
                reactive[run.phase] += kind.reactive_var
    first, second, third = ((w * size // 100, v * size // 100) for w, v in zip(active, reactive, strict=True))
    return first, second, third


def _lived_in_w(now: int) -> int:
    hour, minutes = divmod(now, 60)
    left, right = _LIVED_IN_W[hour], _LIVED_IN_W[(hour + 1) % 24]
    return left + (right - left) * minutes // 60


def _shares(seed: int) -> tuple[int, int, int]:
    """Percent of light and sockets on each phase."""
    first, second = 30 + seed % 25, 20 + seed // 25 % 20
    return first, second, 100 - first - second


@lru_cache(maxsize=512)
def _runs(seed: int, day: int) -> tuple[_Run, ...]:
    weekend = (day + _WEEKDAY_OF_DAY_0) % _DAYS_A_WEEK >= 5
    found = []
    for number, kind in enumerate(APPLIANCES):
        chance = noise.seed_of(seed, day, number)
        often = kind.per_week * (2 if kind.weekend and weekend else 1)
        for repeat in range(2):
            # Twice a day at most, so each of two draws stands for half of the weekly number.
            if (noise.at(chance, repeat) + noise.SPREAD) * 2 * _DAYS_A_WEEK >= often * 2 * noise.SPREAD:
                continue
            first, last = kind.hours
            place = noise.at(chance, 10 + repeat) + noise.SPREAD
            start = first * 60 + place * (last - first + 1) * 60 // (2 * noise.SPREAD + 1)
            found.append(_Run(start, min(start + kind.minutes, MINUTES_A_DAY), kind, (seed + number) % 3))
    return tuple(found)
