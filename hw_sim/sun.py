"""What the sun gives a roof: clear-sky power on a tilted plane, less the clouds of the day.

Pure: a function of place, minute and seed. Rough on purpose (a few percent): a meter does not care where its power
comes from, only that it rises, peaks, dips and ends as days do.

Sources: declination and equation of time, Spencer 1971 in the short form of Duffie and Beckman, "Solar Engineering of
Thermal Processes", 1.6; beam irradiance by air mass, Meinel 1976.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hw_sim import noise

MINUTES_A_DAY = 1440
# Days of the year only shape the declination; leap days move it by a quarter of a degree at most.
_DAYS_A_YEAR = 365.2425
_SOLAR_CONSTANT = 1361.0
# Share of the beam that reaches a plane as light from the whole sky, on a clear day.
_DIFFUSE = 0.1
# Inverter, cables, warm modules, dust.
_PERFORMANCE = 0.85
# Out of ten days in central Spain: clear, mixed, overcast.
_CLEAR_DAYS, _MIXED_DAYS = 6, 3


@dataclass(frozen=True, slots=True)
class Roof:
    """A photovoltaic generator.

    Attributes:
        peak_w: power of the modules at 1000 W/m2.
        rated_w: most that the inverter gives.
        latitude, longitude: degrees, north and east positive.
        tilt: degrees from the horizontal, facing south.
    """

    peak_w: int
    rated_w: int
    latitude: float = 40.4
    longitude: float = -3.7
    tilt: float = 30.0


def power_w(roof: Roof, minute: int, seed: int) -> int:
    """AC power in a minute (minutes since 1970, UTC), at least 0."""
    clear = _clear_sky_w(roof, minute)
    if clear <= 0.0:
        return 0
    return min(roof.rated_w, int(clear * _clouds(minute, seed)))


def _clear_sky_w(roof: Roof, minute: int) -> float:
    day, minute_of_day = divmod(minute, MINUTES_A_DAY)
    year_angle = 2 * math.pi * ((day % _DAYS_A_YEAR) - 81) / _DAYS_A_YEAR
    declination = math.radians(23.45) * math.sin(year_angle)
    equation_min = 9.87 * math.sin(2 * year_angle) - 7.53 * math.cos(year_angle) - 1.5 * math.sin(year_angle)
    solar_min = minute_of_day + 4 * roof.longitude + equation_min
    hour_angle = (solar_min / 4 - 180) * math.pi / 180
    latitude = math.radians(roof.latitude)
    height = _towards(latitude, declination, hour_angle)
    if height <= 0.01:
        return 0.0
    beam: float = _SOLAR_CONSTANT * 0.7 ** ((1 / height) ** 0.678)
    facing = max(0.0, _towards(latitude - math.radians(roof.tilt), declination, hour_angle))
    return roof.peak_w / 1000 * _PERFORMANCE * beam * (facing + _DIFFUSE * height)


def _towards(latitude: float, declination: float, hour_angle: float) -> float:
    """Cosine between the sun and the vertical at a latitude."""
    level = math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    return math.sin(latitude) * math.sin(declination) + level


def _clouds(minute: int, seed: int) -> float:
    """0.08..1: what the clouds leave."""
    draw = (noise.at(seed, minute // MINUTES_A_DAY) + noise.SPREAD) * 10 // (2 * noise.SPREAD + 1)
    if draw < _CLEAR_DAYS:
        return 0.98 + 0.02 * noise.smooth(seed, minute, 30) / noise.SPREAD
    depth = noise.smooth(seed, minute, 7) + noise.smooth(seed + 1, minute, 23)
    if draw < _CLEAR_DAYS + _MIXED_DAYS:
        return 1.0 if depth < 0 else 1.0 - 0.75 * min(1.0, depth / 900)
    return 0.2 + 0.12 * depth / (2 * noise.SPREAD)
