"""What the sun gives a roof: clear-sky power on a tilted plane, less what clouds take and warm modules lose.

Pure: a function of place, day and seed. Rough on purpose (a few percent): a meter does not care where its power comes
from, only that it rises, peaks, dips and ends as days do.

Sources: declination and equation of time, Spencer 1971 in the short form of Duffie and Beckman, "Solar Engineering of
Thermal Processes", 1.6; beam irradiance by air mass, Meinel 1976; 0.4 % less for each degree above 25 and modules 25
degrees warmer than the air in full sun, as data sheets of crystalline modules have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hw_sim import weather
from hw_sim.year import MINUTES_A_DAY, Today

# How often the power moves; more often when clouds come and go.
_STEADY_MIN, _UNSTEADY_MIN = 10, 5
_DAYS_A_YEAR = 365.2425
_SOLAR_CONSTANT = 1361.0
# Share of the beam that reaches a plane as light from the whole sky, on a clear day.
_DIFFUSE = 0.1
# Inverter, cables, dust.
_PERFORMANCE = 0.9
_FULL_SUN = 1000.0
_WARMED, _RATED_AT, _LOST_A_DEGREE = 25.0, 25.0, 0.004


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


def shine(roof: Roof, seed: int, today: Today) -> list[tuple[int, int]]:
    """(minute of the day, W from then on), in order, from minute 0 on: AC power over one day, at least 0."""
    found = [(0, 0)]
    sky = weather.sky(seed, today)
    step_min = _UNSTEADY_MIN if sky.is_mixed else _STEADY_MIN
    for minute, light in enumerate(irradiance(roof, today, range(0, MINUTES_A_DAY, step_min))):
        power_w = (
            _power_w(roof, light * sky.clouds(minute * step_min), sky.temperature(minute * step_min)) if light else 0
        )
        if power_w != found[-1][1]:
            found.append((minute * step_min, power_w))
    return found if len(found) == 1 or found[1][0] else found[1:]


def _power_w(roof: Roof, light: float, temperature: int) -> int:
    degrees = temperature / 10 + _WARMED * light / _FULL_SUN
    warm = 1.0 - _LOST_A_DEGREE * (degrees - _RATED_AT)
    return min(roof.rated_w, int(roof.peak_w / _FULL_SUN * light * _PERFORMANCE * warm))


def irradiance(roof: Roof, today: Today, minutes: Iterable[int]) -> Iterator[float]:
    """W/m2 on the roof under a clear sky, at minutes of the day."""
    year_angle = 2 * math.pi * (today.of_year - 81) / _DAYS_A_YEAR
    declination = math.radians(23.45) * math.sin(year_angle)
    equation_min = 9.87 * math.sin(2 * year_angle) - 7.53 * math.cos(year_angle) - 1.5 * math.sin(year_angle)
    latitude = math.radians(roof.latitude)
    # Cosine between the sun and the vertical at a latitude: what does not change, and what the hour brings.
    still, hourly = _vertical(latitude, declination)
    roof_still, roof_hourly = _vertical(latitude - math.radians(roof.tilt), declination)
    for minute in minutes:
        hour = math.cos(((minute + 4 * roof.longitude + equation_min) / 4 - 180) * math.pi / 180)
        height = still + hourly * hour
        if height <= 0.01:
            yield 0.0
            continue
        beam = _SOLAR_CONSTANT * 0.7 ** ((1 / height) ** 0.678)
        yield beam * (max(0.0, roof_still + roof_hourly * hour) + _DIFFUSE * height)


def _vertical(latitude: float, declination: float) -> tuple[float, float]:
    return math.sin(latitude) * math.sin(declination), math.cos(latitude) * math.cos(declination)
