"""The weather over a community: how warm a day is, and what its clouds leave of the sun.

Pure: a function of seed and day. Neighbours share it. Figures are those of central Spain, rounded: 6 degrees in
January, 26 in July; six days of ten are clear.
"""

from __future__ import annotations

import math
from functools import lru_cache

from hw_sim import noise
from hw_sim.year import MINUTES_A_DAY, Today

# Tenths of a degree: the year's mean, how far the seasons reach, how far a day's hours reach, what days differ by.
_MEAN, _SEASONS, _HOURS, _DAYS = 155, 100, 60, 35
# The coldest day of the year and the warmest minute of a day (UTC) lag behind the sun.
_COLDEST_DAY, _WARMEST_MINUTE = 20, 930
_DAYS_A_YEAR = 365.2425
# Out of ten days: clear, mixed, overcast.
_CLEAR_DAYS, _MIXED_DAYS = 6, 3


class Sky:
    """One day's weather.

    Attributes:
        is_mixed: clouds come and go.
    """

    def __init__(self, seed: int, today: Today) -> None:
        kind = (noise.at(seed, today.of_year) + noise.SPREAD) * 10 // (2 * noise.SPREAD + 1)
        self._is_clear = kind < _CLEAR_DAYS
        self.is_mixed = _CLEAR_DAYS <= kind < _CLEAR_DAYS + _MIXED_DAYS
        self._seed = seed
        self._first_minute = today.of_year * MINUTES_A_DAY
        season = math.cos(2 * math.pi * (today.of_year - _COLDEST_DAY) / _DAYS_A_YEAR)
        self._usual = _MEAN - _SEASONS * season + noise.at(seed + 2, today.of_year) * _DAYS / noise.SPREAD
        self._hours = _HOURS if self._is_clear else _HOURS // 2

    def temperature(self, minute: int) -> int:
        """Tenths of a degree Celsius in the shade, at a minute of the day."""
        turn = 2 * math.pi * (minute - _WARMEST_MINUTE) / MINUTES_A_DAY
        return round(self._usual + self._hours * math.cos(turn))

    def clouds(self, minute: int) -> float:
        """0.08..1: what the clouds leave at a minute of the day."""
        position = self._first_minute + minute
        if self._is_clear:
            return 0.98 + 0.02 * noise.smooth(self._seed, position, 30) / noise.SPREAD
        depth = noise.smooth(self._seed, position, 7) + noise.smooth(self._seed + 1, position, 23)
        if self.is_mixed:
            return 1.0 if depth < 0 else 1.0 - 0.75 * min(1.0, depth / 900)
        return 0.2 + 0.12 * depth / (2 * noise.SPREAD)


@lru_cache(maxsize=512)
def sky(seed: int, today: Today) -> Sky:
    """A day's weather."""
    return Sky(seed, today)
