"""Households: their quantities agree with each other, their counters with their powers, and every day comes back."""

import datetime as dt
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import obis
from hw_sim import demand, sun
from hw_sim.figures import tariff
from hw_sim.home import POINTS, Battery, Home, Household

NOON = int(dt.datetime(2026, 6, 21, 12, tzinfo=dt.UTC).timestamp() * 1000)
HOUR_MS = 3_600_000
ROOF = sun.Roof(5_000, 4_600)
WHOLE = Household("casa", 3, roof=ROOF, battery=Battery(5_000, 2_500))
HOMES = {
    "three phases, sun, battery": WHOLE,
    "three phases, three-phase sun": Household("casa", 4, roof=ROOF, roof_phases=3),
    "one phase, sun": Household("piso", 5, phases=1, roof=ROOF),
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
        minutes = range(29_700_000, 29_700_000 + 1440)
        return {minute for minute in minutes if sum(watts for watts, _ in demand.draw(seed, minute)) > 1_200}

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
    def sunny_minutes(month: int) -> int:
        start = int(dt.datetime(2026, month, 21, tzinfo=dt.UTC).timestamp()) // 60
        return sum(sun.power_w(ROOF, start + minute, 1) > 0 for minute in range(1440))

    assert 480 < sunny_minutes(12) < 600
    assert 800 < sunny_minutes(6) < 920


def test_a_battery_stays_within_its_bounds_and_does_not_make_energy() -> None:
    home = Home(Household("casa", 7, roof=ROOF, battery=Battery(3_000, 2_000)), NOON)
    first = home.quantities("battery", NOON)
    for minute in range(0, 24 * 60, 7):
        shown = home.quantities("battery", NOON + minute * 60_000)
        assert 0 <= shown[key("state_of_charge")] <= 100_000_000
        assert abs(shown[key("active_power")]) <= 2_000 * 1.021 * 1_000_000
    last = home.quantities("battery", NOON + 24 * HOUR_MS)
    taken, given_back = (
        last[key(f"active_energy_{way}")] - first[key(f"active_energy_{way}")] for way in ("import", "export")
    )
    assert given_back > 0
    held = (last[key("state_of_charge")] - first[key("state_of_charge")]) * 3_000 // 100
    assert given_back + held < taken


def test_spanish_tariffs_and_summer_time() -> None:
    monday = int(dt.datetime(2026, 6, 22, tzinfo=dt.UTC).timestamp()) // 60
    assert [tariff(monday + hour * 60) for hour in (0, 7, 8, 10, 13, 14, 18, 21, 22)] == [2, 2, 1, 0, 0, 1, 0, 0, 1]
    assert tariff(monday - 24 * 60 + 11 * 60) == 2  # Sunday
    home = Home(Household(), NOON)
    assert home.local_minute(monday) - monday == 120
    january = int(dt.datetime(2026, 1, 22, tzinfo=dt.UTC).timestamp()) // 60
    assert home.local_minute(january) - january == 60


def test_there_is_nothing_before_the_origin() -> None:
    with pytest.raises(ValueError, match="before the home's origin"):
        Home(WHOLE, NOON).quantities("grid", NOON - 60_000)
