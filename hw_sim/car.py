"""An electric car and its charging point: when it charges, and how strongly.

Pure: a function of household seed and day. On weekday nights it charges in the cheap hours, on some weekends at noon.

Rules
- A day stands alone: a charge ends on the day on which it began.
- It charges at its point's power, and at half of it in the last quarter of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_sim import noise
from hw_sim.year import Today

# What a car takes from the socket for a kilometre.
_WH_A_KM = 180
# Local times at which a charge may begin; both end long before the day of UTC does.
_NIGHT, _NOON = (2 * 60, 3 * 60 + 30), (11 * 60, 14 * 60)
_SHORTEST_MIN, _LONGEST_MIN, _HALF_MIN = 20, 420, 15


@dataclass(frozen=True, slots=True)
class Car:
    """A car that is charged at home.

    Attributes:
        power_w: of the charging point.
        phases: of the charging point, 1 or 3.
        km_a_day: on average.
    """

    power_w: int
    phases: int = 1
    km_a_day: int = 35


def charge(car: Car, seed: int, today: Today) -> list[tuple[int, int]]:
    """(minute of the day, W from then on), in order, from minute 0 on."""
    chance = noise.seed_of(seed, "car", today.of_year)
    # Four nights of five, and every second day of a weekend: what was driven since the last charge is made up for.
    if (noise.at(chance, 0) + noise.SPREAD) * (100 if today.is_weekend else 62) // noise.SPREAD >= 100:
        return [(0, 0)]
    need_wh = car.km_a_day * _WH_A_KM * (1300 + noise.at(chance, 1) * 3 // 5) // 1000
    minutes = min(_LONGEST_MIN, max(_SHORTEST_MIN, need_wh * 60 // car.power_w + _HALF_MIN // 2))
    first, last = _NOON if today.is_weekend else _NIGHT
    start = today.utc(first + (noise.at(chance, 2) + noise.SPREAD) * (last - first) // (2 * noise.SPREAD))
    steps = [(start, car.power_w), (start + minutes - _HALF_MIN, car.power_w // 2), (start + minutes, 0)]
    return steps if start == 0 else [(0, 0), *steps]
