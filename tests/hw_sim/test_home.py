"""Households: their quantities agree with each other, their counters with their powers, and every day comes back."""

import datetime as dt
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import obis
from hw_sim import demand, noise, sun, weather
from hw_sim.car import charge
from hw_sim.figures import tariff
from hw_sim.home import POINTS, Battery, Car, Home, Household
from hw_sim.year import Today, today

NOON = int(dt.datetime(2026, 6, 21, 12, tzinfo=dt.UTC).timestamp() * 1000)
HOUR_MS = 3_600_000
ROOF = sun.Roof(5_000, 4_600)
DAY_MS = 24 * HOUR_MS
WHOLE = Household("casa", 3, roof=ROOF, battery=Battery(5_000, 2_500), car=Car(7_400))
HOMES = {
    "three phases, sun, battery": WHOLE,
    "three phases, three-phase sun": Household("casa", 4, roof=ROOF, roof_phases=3),
    "one phase, sun": Household("piso", 5, phases=1, roof=ROOF),
    "three phases, sun, three-phase car": Household("casa", 8, roof=ROOF, car=Car(11_000, 3, 60)),
    "one phase": Household("piso", 6, phases=1, size=60),
}


def key(name: str, phase: str = "total") -> int:
    return obis.BY_NAME[name, phase].key


def origin(at_ms: int) -> int:
    return at_ms - 2 * HOUR_MS


@pytest.mark.parametrize("household", HOMES.values(), ids=HOMES.keys())
@pytest.mark.parametrize("point", POINTS)
def test_what_a_meter_shows_agrees_with_itself(household: Household, point: str) -> None:
    home = Home(household, origin(NOON))
    for at_ms in range(NOON - HOUR_MS, NOON + 10 * HOUR_MS, 1_777_777):
        shown = home.quantities(point, at_ms)
        assert shown.keys() == obis.BY_KEY.keys()
        for phase in ("L1", "L2", "L3", "total"):
            power, blind, apparent = (
                shown[key(name, phase)] for name in ("active_power", "reactive_power", "apparent_power")
            )
            assert math.isclose(apparent, math.hypot(power, blind), abs_tol=2_000, rel_tol=1e-6)
            assert power == shown[key("active_power_import", phase)] - shown[key("active_power_export", phase)]
            assert blind == shown[key("reactive_power_import", phase)] - shown[key("reactive_power_export", phase)]
            if apparent:
                assert math.isclose(shown[key("power_factor", phase)], 1_000_000 * power / apparent, abs_tol=1)
            if phase != "total" and shown[key("voltage", phase)]:
                current = 1_000_000 * apparent / shown[key("voltage", phase)]
                assert math.isclose(shown[key("current", phase)], current, abs_tol=1)
                assert 205e6 < shown[key("voltage", phase)] < 250e6
        for name in ("active_power", "reactive_power", "current"):
            assert shown[key(name)] == sum(shown[key(name, phase)] for phase in ("L1", "L2", "L3"))
        assert 49.9e6 < shown[key("frequency")] < 50.1e6


@pytest.mark.parametrize("household", HOMES.values(), ids=HOMES.keys())
def test_the_grid_is_the_sum_of_all_that_is_behind_it(household: Household) -> None:
    home = Home(household, origin(NOON))
    for at_ms in range(NOON - HOUR_MS, NOON + 8 * HOUR_MS, 977_777):
        grid, *parts = (home.quantities(point, at_ms) for point in POINTS)
        for name in ("active_power", "reactive_power"):
            for phase in ("L1", "L2", "L3", "total"):
                assert grid[key(name, phase)] == sum(part[key(name, phase)] for part in parts)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("phase", ["L1", "L2", "L3", "total"])
def test_energy_is_the_integral_of_power_to_the_last_digit(point: str, phase: str) -> None:
    home = Home(WHOLE, origin(NOON))
    pairs = [
        ("active_energy_import", "active_power_import"),
        ("active_energy_export", "active_power_export"),
        ("reactive_energy_import", "reactive_power_import"),
        ("reactive_energy_export", "reactive_power_export"),
        ("reactive_energy_inductive", "reactive_power_inductive"),
        ("apparent_energy_total", "apparent_power"),
    ]
    start, seconds = NOON + 250, 400  # powers change with the full second only
    first, last = home.quantities(point, start), home.quantities(point, start + 1000 * seconds)
    flowed = dict.fromkeys((power for _, power in pairs), 0)
    for at_ms in range(start, start + 1000 * seconds, 250):
        shown = home.quantities(point, at_ms)
        for _, power in pairs:
            flowed[power] += shown[key(power, phase)]
    for energy, power in pairs:
        counted = last[key(energy, phase)] - first[key(energy, phase)]
        # Inductive and both ways of reactive energy are sums of up to four counters, each cut off at a millionth.
        assert abs(counted - flowed[power] / 4 / 3600) <= 4, energy


@given(
    st.sampled_from(POINTS),
    st.integers(0, 30 * HOUR_MS),
    st.integers(0, 3 * HOUR_MS),
)
@settings(max_examples=60, deadline=None)
def test_counters_never_go_back(point: str, after_ms: int, further_ms: int) -> None:
    start = NOON + after_ms
    first, last = (ALIVE.quantities(point, at) for at in (start, start + further_ms))
    for quantity in obis.BY_KEY.values():
        if quantity.unit in ("Wh", "varh", "VAh") and quantity.name != "active_energy_net":
            assert last[quantity.key] >= first[quantity.key], quantity.code


ALIVE = Home(WHOLE, origin(NOON))


@given(st.lists(st.tuples(st.sampled_from(POINTS), st.integers(0, 5 * HOUR_MS)), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_an_instant_is_the_same_whatever_was_asked_before(asked: list[tuple[str, int]]) -> None:
    for point, after_ms in asked:
        fresh = Home(WHOLE, origin(NOON))
        assert ALIVE.quantities(point, NOON + after_ms) == fresh.quantities(point, NOON + after_ms)


def test_counters_of_totals_add_up_from_their_parts() -> None:
    for at_ms in range(NOON, NOON + 20 * HOUR_MS, 3 * HOUR_MS + 12_345):
        shown = ALIVE.quantities("grid", at_ms)
        for way in ("import", "export"):
            tariffs = sum(shown[key(f"active_energy_{way}_t{number}")] for number in (1, 2, 3, 4))
            assert abs(tariffs - shown[key(f"active_energy_{way}")]) <= 3
        both = shown[key("active_energy_import")] + shown[key("active_energy_export")]
        assert shown[key("active_energy_total")] == both
        quadrants = sum(shown[key(f"reactive_energy_q{number}")] for number in (1, 2, 3, 4))
        assert shown[key("reactive_energy_total")] == quadrants


def test_another_seed_or_name_is_another_day() -> None:
    def day(household: Household) -> list[int]:
        home = Home(household, origin(NOON))
        return [home.quantities("load", NOON + minute * 60_000)[key("active_power")] for minute in range(0, 600, 10)]

    assert day(Household("a", 1)) == day(Household("a", 1))
    assert day(Household("a", 1)) != day(Household("a", 2))
    assert day(Household("a", 1)) != day(Household("b", 1))


def test_another_seed_switches_its_appliances_at_other_times() -> None:
    def switched_on(seed: int) -> set[int]:
        found, big, since = set(), False, 0
        for minute, phases in [*demand.draw(seed, 1, APRIL), (1440, ())]:
            found |= set(range(since, minute)) if big else set()
            big, since = sum(watts for watts, _ in phases) > 1_200, minute
        return found

    first, second = switched_on(1), switched_on(2)
    assert min(len(first), len(second)) > 30
    assert len(first & second) < 0.7 * len(first | second)


def test_a_day_looks_like_a_day() -> None:
    midnight = NOON - 12 * HOUR_MS
    home = Home(Household("casa", 9, roof=ROOF), midnight)
    by_hour = [home.quantities("pv", midnight + hour * HOUR_MS)[key("active_power_export")] for hour in range(24)]
    assert by_hour[0] == by_hour[3] == by_hour[23] == 0
    assert 1e9 < max(by_hour) <= 4.7e9
    assert 10 <= by_hour.index(max(by_hour)) <= 15
    first, last = (home.quantities("load", midnight + hours * HOUR_MS) for hours in (0, 24))
    assert 5e9 < last[key("active_energy_import")] - first[key("active_energy_import")] < 16e9


def test_winter_days_are_shorter() -> None:
    def sunny_minutes(day: Today) -> int:
        return sum(light > 0 for light in sun.irradiance(ROOF, day, range(1440)))

    assert 480 < sunny_minutes(DECEMBER) < 600
    assert 800 < sunny_minutes(JUNE) < 920


def test_the_same_sun_gives_less_to_a_warm_roof() -> None:
    """A clear day each: irradiance on the roof is alike in April and August, the air is not."""

    def most_a_light(day: Today) -> float:
        best = max(sun.irradiance(BIG, day, range(1440)))
        return max(power for _, power in sun.shine(BIG, CLEAR, day)) / best

    clear = [day for day in year(2026) if not weather.sky(CLEAR, day).is_mixed]
    cold, warm = (
        max((day for day in clear if low < weather.sky(CLEAR, day).temperature(720) < high), key=most_a_light)
        for low, high in ((0, 100), (300, 400))
    )
    assert 1.05 < most_a_light(cold) / most_a_light(warm) < 1.2


BIG, CLEAR = sun.Roof(5_000, 9_000), 7


def year(number: int) -> list[Today]:
    first = dt.date(number, 1, 1).toordinal() - dt.date(1970, 1, 1).toordinal()
    return [today(first + day) for day in range(365)]


def test_winter_is_cold_and_nights_are_colder() -> None:
    def degrees(day: Today, minute: int) -> float:
        return sum(weather.sky(seed, day).temperature(minute) for seed in range(50)) / 500

    assert 2 < degrees(JANUARY, 900) < 13
    assert 26 < degrees(JULY, 900) < 34
    assert 14 < degrees(JULY, 180) < degrees(JULY, 900) - 6


def test_homes_are_warmed_in_winter_and_cooled_in_summer() -> None:
    def watt_hours(day: Today) -> float:
        homes = [demand.draw(noise.seed_of(number, "home"), number, day) for number in range(30)]
        return sum(energy(home) for home in homes) / len(homes)

    spring, winter, summer = (watt_hours(day) for day in (APRIL, JANUARY, JULY))
    assert winter > 1.3 * spring
    assert summer > 1.05 * spring
    assert 4_000 < spring < 14_000


def energy(steps: list[tuple[int, demand.Phases]], first: int = 0, last: int = 1440) -> float:
    total = 0.0
    for (start, phases), (end, _) in zip(steps, [*steps[1:], (1440, None)], strict=True):
        total += max(0, min(end, last) - max(start, first)) * sum(watts for watts, _ in phases) / 60
    return total


def test_people_get_up_later_on_a_weekend_and_are_at_home() -> None:
    saturday = APRIL._replace(weekday=5)
    early, noon = (APRIL.utc(6 * 60), APRIL.utc(8 * 60)), (APRIL.utc(10 * 60), APRIL.utc(16 * 60))
    homes = [noise.seed_of(number, "home") for number in range(40)]

    def between(day: Today, hours: tuple[int, int]) -> float:
        return sum(energy(demand.draw(seed, 1, day), *hours) for seed in homes)

    assert between(APRIL, early) > 1.2 * between(saturday, early)
    assert between(saturday, noon) > 1.1 * between(APRIL, noon)


JANUARY, APRIL, JUNE, JULY, DECEMBER = (
    today(int(dt.datetime(2026, month, day, tzinfo=dt.UTC).timestamp()) // 86_400)
    for month, day in ((1, 21), (4, 22), (6, 24), (7, 22), (12, 23))
)


def test_the_year_comes_again() -> None:
    """Whatever the calendar does: 28 years on, every day of the week and of the month is the same again."""
    for day in range(20_000, 20_400, 7):
        assert today(day) == today(day + 10_227)
    assert {today(day) for day in range(18_000, 18_000 + 10_227)} >= set(year(2026))
    assert len({today(day) for day in range(10_227)}) < 26 * 7 + 40


def test_days_ahead_are_the_sum_of_the_days_between() -> None:
    """What a home says about a day far ahead is what it says when it is asked day by day."""
    one, other = Home(WHOLE, NOON), Home(WHOLE, NOON)
    days = 30
    far = one.quantities("grid", NOON + days * DAY_MS + 1_234)
    for day in range(days):
        other.quantities("grid", NOON + day * DAY_MS + 7 * HOUR_MS)
    assert other.quantities("grid", NOON + days * DAY_MS + 1_234) == far


@given(st.sampled_from(sorted(HOMES)), st.integers(0, 9 * DAY_MS), st.integers(1, DAY_MS))
@settings(max_examples=30, deadline=None)
def test_no_energy_is_lost_or_made_between_two_instants(which: str, after_ms: int, further_ms: int) -> None:
    """The grid's net energy is the sum of the others', over any interval, on every phase, to the last digit."""
    home = LIVING[which]
    start, end = NOON + after_ms, NOON + after_ms + further_ms
    for phase in ("L1", "L2", "L3", "total"):
        net = key("active_energy_net", phase)
        grid, *parts = (home.quantities(point, end)[net] - home.quantities(point, start)[net] for point in POINTS)
        assert abs(grid - sum(parts)) <= 2 * len(POINTS)


LIVING = {name: Home(household, origin(NOON)) for name, household in HOMES.items()}


@given(
    st.integers(0, 5 * DAY_MS), st.integers(1, DAY_MS), st.sampled_from([(5_000, 2_500), (10_000, 800), (300, 5_000)])
)
@settings(max_examples=30, deadline=None)
def test_a_battery_gives_back_what_it_took_less_its_losses(
    after_ms: int, further_ms: int, size: tuple[int, int]
) -> None:
    home = STORES[size]
    first, last = (home.quantities("battery", NOON + at) for at in (after_ms, after_ms + further_ms))
    taken, given_back = (
        last[key(f"active_energy_{way}")] - first[key(f"active_energy_{way}")] for way in ("import", "export")
    )
    held = (last[key("state_of_charge")] - first[key("state_of_charge")]) * size[0] / 100
    # A watt-minute may stay in the electronics at each midnight; the charge is counted in 44 millionths of a Wh.
    midnights = (NOON + after_ms + further_ms) // DAY_MS - (NOON + after_ms) // DAY_MS
    assert abs(taken * 19 / 20 - given_back * 20 / 19 - held) <= midnights * 2 / 60 * 1e6 + size[0] / 50 + 100


@pytest.mark.parametrize("size", [(5_000, 2_500), (10_000, 800), (300, 5_000)])
def test_a_battery_stays_within_its_bounds(size: tuple[int, int]) -> None:
    home = STORES[size]
    charges = []
    for minute in range(0, 3 * 24 * 60, 7):
        shown = home.quantities("battery", NOON + minute * 60_000 + 59_999)
        charges.append(shown[key("state_of_charge")])
        assert abs(shown[key("active_power")]) <= size[1] * 1.021 * 1_000_000
    assert min(charges) >= 20_000_000
    assert max(charges) <= 100_000_000
    assert max(charges) > min(50_000_000, 20_000_000 + 100_000_000 * size[1] * 2 // size[0])


STORES = {
    size: Home(Household("casa", 7, roof=sun.Roof(5_000, 4_600), battery=Battery(*size)), NOON)
    for size in ((5_000, 2_500), (10_000, 800), (300, 5_000))
}


def test_a_car_charges_at_night_and_on_some_weekends_at_noon() -> None:
    car = Car(7_400, km_a_day=40)
    weekdays, weekends, watt_hours = [], [], 0.0
    for day in year(2026):
        steps = charge(car, 5, day)
        assert steps[0][0] == 0
        assert steps[-1][1] == 0
        assert {power for _, power in steps} <= {0, 3_700, 7_400}
        begins = [minute for minute, power in steps if power == 7_400]
        (weekends if day.is_weekend else weekdays).extend((day, minute) for minute in begins)
        watt_hours += sum(w * (end - start) / 60 for (start, w), (end, _) in pairwise(steps))
    assert all(2 * 60 <= minute + day.ahead_min <= 3 * 60 + 30 for day, minute in weekdays)
    assert all(11 * 60 <= minute + day.ahead_min <= 14 * 60 for day, minute in weekends)
    assert 0.7 < len(weekdays) / 261 < 0.9
    assert 0.3 < len(weekends) / 104 < 0.7
    assert 0.8 < watt_hours / (365 * 40 * 180) < 1.2


def test_spanish_tariffs_and_summer_time() -> None:
    monday = int(dt.datetime(2026, 6, 22, tzinfo=dt.UTC).timestamp()) // 60
    assert [tariff(monday + hour * 60) for hour in (0, 7, 8, 10, 13, 14, 18, 21, 22)] == [2, 2, 1, 0, 0, 1, 0, 0, 1]
    assert tariff(monday - 24 * 60 + 11 * 60) == 2  # Sunday
    assert (JUNE.ahead_min, JANUARY.ahead_min) == (120, 60)
    for minute in (0, 500, 1439):
        day = int(dt.datetime(2026, 6, 24, tzinfo=dt.UTC).timestamp()) // 60
        assert tariff(JUNE.local(minute)) == tariff(day + minute + 120)


def test_there_is_nothing_before_the_origin() -> None:
    with pytest.raises(ValueError, match="before the home's origin"):
        Home(WHOLE, NOON).quantities("grid", NOON - 60_000)
