"""Plausibility: every rule fires on a planted case and keeps quiet on a near miss; an ordinary life has no flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import findings
from drivers.checks import Limits, Plan
from drivers.decode import Overrides
from drivers.map import WORDS, MeterMap, Register, load, names
from drivers.obis import BY_NAME
from drivers.plausible import Judgement, State, begin, judge
from drivers.reading import Quality, Reading, Value, exact
from signer import codes
from tests.drivers.lives import ROLES, live

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
HOUSE = Limits(63)  # 43.47 kW
Q = Quality
Name = tuple[str, str]


def key(quantity: str, phase: str = "total") -> int:
    return BY_NAME[quantity, phase].key


def register(
    quantity: str, phase: str = "total", kind: str = "s32", scale: tuple[int, int] = (1, -1), **more: object
) -> Register:
    plain = Register(key(quantity, phase), quantity, phase, "", 3, 0, WORDS[kind], kind, scale)
    return replace(plain, **more)  # type: ignore[arg-type]


def counter(kind: str = "u32", scale: tuple[int, int] = (1, 0), **more: object) -> MeterMap:
    return meter(register("active_energy_import", "total", kind, scale, **more))


def meter(*registers: Register, kind: str = "meter") -> MeterMap:
    return replace(load("acrel_adw300"), kind=kind, registers=registers, points=("",))


def full(kind: str = "s32") -> MeterMap:
    """A three-phase meter of all the usual quantities."""
    found = [
        register("active_energy_import", "total", "u32", (1, 0)),
        register("active_energy_export", "total", "u32", (1, 0)),
    ]
    found += [register("active_power"), register("apparent_power"), register("frequency", scale=(1, -2))]
    found.append(register("power_factor", scale=(1, -3)))
    for phase in ("L1", "L2", "L3"):
        found += [
            register("voltage", phase),
            register("current", phase, scale=(1, -3)),
            register("active_power", phase),
        ]
    return meter(*found)


Changes = Mapping[Name, object]


@dataclass
class Site:
    """A healthy house that draws (or delivers) what it is told, and a judge of its meter.

    Attributes:
        watts: of each phase.
        energies: import and export, Wh.
        shown: what the last reading said before it was judged.
    """

    plan: Plan = field(default_factory=lambda: Plan(full(), limits=HOUSE))
    watts: tuple[float, float, float] = (900.0, 500.0, -200.0)
    energies: list[float] = field(default_factory=lambda: [5_000_000.0, 70_000.0])
    number: int = 0
    events: list[findings.Event] = field(default_factory=list)
    last: Judgement | None = None

    def __post_init__(self) -> None:
        self.state: State = begin(self.plan)

    def read(
        self, elapsed_ms: int = MINUTE, changes: Changes | None = None, noise: bool = True, grow: bool = True
    ) -> Judgement:
        """The next reading; ``changes`` to what it says (None: not there)."""
        if grow:
            power = sum(self.watts) * elapsed_ms / HOUR
            self.energies[power < 0] += abs(power)
        self.number += noise
        values = {**self.figures(), **(changes or {})}
        return self.take({name: said for name, said in values.items() if said is not None}, elapsed_ms)

    def figures(self) -> dict[Name, object]:
        shiver = self.number % 7
        found: dict[Name, object] = {
            ("active_energy_import", "total"): int(self.energies[0]),
            ("active_energy_export", "total"): int(self.energies[1]),
            ("active_power", "total"): round(sum(self.watts), 1),
            ("apparent_power", "total"): round(sum(abs(w) for w in self.watts) * 1.05, 1),
            ("frequency", "total"): 50 + Decimal(shiver) / 100,
            ("power_factor", "total"): Decimal("0.95"),
        }
        for phase, watts in zip(("L1", "L2", "L3"), self.watts, strict=True):
            volts = 230 + Decimal(shiver) / 10
            found["voltage", phase] = volts
            found["current", phase] = round(abs(watts) * 1.02 / float(volts), 3)
            found["active_power", phase] = round(watts, 1)
        return found

    def take(self, said: Mapping[Name, object], elapsed_ms: int) -> Judgement:
        values = tuple(sorted((key(*name), number(value)) for name, value in said.items()))
        reading = Reading("house", 0, None if values else 2, values)
        self.last = judge(self.plan, self.state, reading, elapsed_ms)
        self.state = self.last.state
        self.events += self.last.events
        assert [(k, v.mantissa, v.exponent) for k, v in self.last.reading.values] == [
            (k, v.mantissa, v.exponent) for k, v in values
        ]
        return self.last

    def run(self, times: int, elapsed_ms: int = MINUTE, changes: Changes | None = None, **more: bool) -> Site:
        for _ in range(times):
            self.read(elapsed_ms, changes, **more)
        return self

    def flags(self) -> dict[Name, Quality]:
        """What the last reading's values are flagged with."""
        assert self.last is not None
        names = {key(quantity, phase): (quantity, phase) for quantity, phase in BY_NAME if "generation" not in quantity}
        return {names[k]: Quality(v.quality) for k, v in self.last.reading.values if v.quality}

    @property
    def codes(self) -> list[findings.EventCode]:
        return [event.code for event in self.events]


def number(value: object) -> Value:
    if isinstance(value, Value):
        return value
    sign, digits, exponent = Decimal(str(value)).as_tuple()
    assert isinstance(exponent, int)
    mantissa = int("".join(map(str, digits)))
    return exact(-mantissa if sign else mantissa, exponent)


def healthy(**more: object) -> Site:
    site = Site(**more).run(5)  # type: ignore[arg-type]
    assert (site.flags(), site.events) == ({}, [])
    return site


def counting(meter_map: MeterMap, *numbers: object, elapsed_ms: int = MINUTE, limits: Limits = HOUSE) -> Site:
    """A site that is nothing but an import counter."""
    site = Site(Plan(meter_map, limits=limits))
    for said in numbers:
        site.take({ENERGY: said}, elapsed_ms)
    return site


ENERGY: Name = ("active_energy_import", "total")
POWER: Name = ("active_power", "total")


def test_events_have_the_numbers_of_statements() -> None:
    for code in findings.EventCode:
        assert codes.EventCode[code.name] == code


class TestOneValue:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            (("voltage", "L1"), "2301"),
            (("voltage", "L1"), "23.0"),
            (("voltage", "L1"), "0"),  # with a current
            (("voltage", "L2"), "12"),
            (("voltage", "L1"), "310"),
            (("voltage", "L1"), "-230"),
            (("frequency", "total"), "500"),
            (("frequency", "total"), "5"),
            (("frequency", "total"), "44.99"),
            (("power_factor", "total"), "1.02"),
            (("power_factor", "total"), "-95"),
        ],
    )
    def test_out_of_range(self, name: Name, value: str) -> None:
        site = healthy().run(1, changes={name: value})
        assert site.flags()[name] == Q.OUT_OF_RANGE
        assert site.codes == []
        assert name[0].replace("_", " ") in site.state.troubles()[0]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            (("voltage", "L1"), "80"),
            (("voltage", "L1"), "300"),
            (("voltage", "L1"), "399"),
            (("voltage", "L1"), "690"),
            (("frequency", "total"), "45"),
            (("frequency", "total"), "60.1"),
            (("frequency", "total"), "0"),  # an inverter at night
            (("power_factor", "total"), "1.001"),
            (("power_factor", "total"), "-1"),
        ],
    )
    def test_within_range(self, name: Name, value: str) -> None:
        site = healthy().run(1, changes={name: value})
        assert site.flags() == {}

    def test_a_phase_that_is_not_there(self) -> None:
        gone = {("voltage", "L2"): 0, ("current", "L2"): 0, ("voltage", "L3"): "31.4", ("current", "L3"): 0}
        site = Site(watts=(700.0, 0.0, 0.0)).run(5, changes=gone)
        assert (site.flags(), site.events) == ({}, [])

    def test_a_nominal_voltage_sharpens_the_range(self) -> None:
        site = healthy(plan=Plan(full(), limits=Limits(63, 230))).run(1, changes={("voltage", "L1"): "399"})
        assert site.flags() == {("voltage", "L1"): Q.OUT_OF_RANGE}
        assert Plan(full(), limits=Limits(voltage_v=120)).layout(((key("voltage", "L1"), Value(1, 0)),)).highs == (
            156 * 10**9,
        )

    def test_above_the_rating(self) -> None:
        limit = 3 * 3 * 63 * 230  # three times, three phases
        for name, value in ((POWER, limit + 1), (POWER, -limit - 1), (("current", "L1"), 190)):
            site = healthy().run(1, changes={name: value})
            assert Q.OUT_OF_RANGE in site.flags()[name]
            assert findings.EventCode.JUMP_ABOVE_RATING in site.codes
        for name, value in ((POWER, limit), (("current", "L1"), 189)):
            assert Q.OUT_OF_RANGE not in healthy().run(1, changes={name: value}).flags().get(name, Q(0))

    @pytest.mark.parametrize(
        ("kind", "scale", "pattern", "planted"),
        [
            ("s32", (1, -1), 0x7FFFFFFF, True),
            ("s32", (1, -1), -0x80000000, True),
            ("s32", (1, -1), -1, False),
            ("s32", (1, -1), 0x7FFFFFFE, False),
            ("u32", (1, 0), 0xFFFFFFFF, True),
            ("u32", (1, 0), 0x7FFFFFFF, True),
            ("u32", (1, 0), 0xFFFFFFF0, False),
            ("s64", (1, -3), 0x7FFFFFFFFFFFFFFF, True),
            ("s16", (1, 2), 0x7FFF, True),  # 3.3 MW in a house
            ("s16", (1, 0), 0x7FFF, False),  # 33 kW may be what it is
        ],
    )
    def test_a_pattern_of_not_available(self, kind: str, scale: tuple[int, int], pattern: int, planted: bool) -> None:
        plan = Plan(meter(register("active_power", "total", kind, scale)), limits=HOUSE)
        site = Site(plan)
        site.take({POWER: exact(pattern * scale[0], scale[1])}, MINUTE)
        assert (Q.QUESTIONABLE in site.flags().get(POWER, Q(0))) == planted

    def test_a_pattern_with_a_power_of_ten_of_its_own_and_a_ratio(self) -> None:
        plan = Plan(
            meter(register("active_power", "total", "s32", (1, 0), scale_address=9)), overrides=Overrides(ratio=(4, 1))
        )
        site = Site(plan)
        site.take({POWER: exact(40 * 0x7FFFFFFF, -3)}, MINUTE)
        assert Q.QUESTIONABLE in site.flags()[POWER]

    def test_a_counter_that_cannot_be(self) -> None:
        """What a tracker once showed: 21,474,836.47 kWh."""
        site = counting(counter("s32", (1, 1)), exact(0x7FFFFFFF, 1))
        assert site.flags()[ENERGY] == Q.OUT_OF_RANGE | Q.QUESTIONABLE
        assert counting(counter(), -5).flags()[ENERGY] == Q.OUT_OF_RANGE


class TestCounters:
    @pytest.mark.parametrize(
        ("meter_map", "before", "after"),
        [
            (counter("u32"), 2**32 - 100, 50),
            (counter("u32", (1, 1)), 10 * (2**32 - 5), 20),
            (counter("s32", (1, 2)), 100 * (2**31 - 1), 0),
            (counter("u32", (1, 1)), 999_999_990, 10),  # a display of 99,999,999 steps of 10 Wh
            (counter("f32", (1, 3)), 99_999_990, 12),  # of 99,999.99 kWh
            (counter("u32", (1, 0), scale_address=9), 10 * (2**32 - 5), 10),  # acc32 with a power of ten
        ],
    )
    def test_a_wrap(self, meter_map: MeterMap, before: int, after: int) -> None:
        site = counting(meter_map, before, after, after + 10)
        assert site.codes == [findings.EventCode.COUNTER_WRAP]
        assert site.flags() == {}, "it goes on at once"
        assert "wrap from" in site.events[0].words

    def test_a_wrap_with_a_ratio(self) -> None:
        plan = Plan(counter("u32"), overrides=Overrides(ratio=(4, 1)), limits=HOUSE)
        site = Site(plan)
        for number in (40 * (2**32 - 2), 80):
            site.take({ENERGY: number}, MINUTE)
        assert site.codes == [findings.EventCode.COUNTER_WRAP]

    @pytest.mark.parametrize("after", [0, 700])
    def test_a_reset(self, after: int) -> None:
        site = counting(counter(), 5_000_000, after)
        assert site.flags() == {ENERGY: Q.REGISTER_RESET}
        site = counting(counter(), 5_000_000, *range(after, after + 50, 5))
        assert site.codes == [findings.EventCode.COUNTER_RESET]
        assert site.flags() == {}, "three readings on, it is what the counter says"

    def test_a_reset_by_hand_is_no_event(self) -> None:
        site = counting(counter(resettable=True), 5_000, 0)
        assert (site.flags(), site.codes) == ({ENERGY: Q.REGISTER_RESET}, [])

    @pytest.mark.parametrize("after", [4_999_999, 4_000_000, 5_000])
    def test_a_rollback(self, after: int) -> None:
        site = counting(counter(), 5_000_000, after)
        assert site.codes == [findings.EventCode.ROLLBACK]
        assert site.flags() == {ENERGY: Q.QUESTIONABLE | Q.INCONSISTENT}

    def test_a_counter_that_was_far_from_turning_over_rolled_back(self) -> None:
        assert counting(counter(), 2**32 - 50_000, 5_000).codes == [findings.EventCode.ROLLBACK]

    def test_the_last_bits_of_a_float_may_go_back(self) -> None:
        """At 20 MWh an f32 of Wh has steps of 2 Wh."""
        assert counting(counter("f32"), 20_000_002, 20_000_000, 20_000_004).codes == []
        assert counting(counter("f32"), 20_000_002, 19_999_900).codes == [findings.EventCode.ROLLBACK]
        assert counting(counter("f64"), 20_002, 20_001).codes == [findings.EventCode.ROLLBACK]

    def test_a_jump(self) -> None:
        """63 A for a minute is 725 Wh, a half more as breakers allow, and a burst of 362 Wh."""
        site = counting(counter(), 5_000_000, 5_001_500)
        assert site.codes == [findings.EventCode.JUMP_ABOVE_RATING]
        assert site.flags() == {ENERGY: Q.QUESTIONABLE | Q.OUT_OF_RANGE}
        assert counting(counter(), 5_000_000, 5_001_400).codes == []
        assert counting(counter(), 5_000_000, 5_020_000, elapsed_ms=15 * MINUTE).codes == [
            findings.EventCode.JUMP_ABOVE_RATING
        ]
        assert counting(counter(), 5_000_000, 5_016_000, elapsed_ms=15 * MINUTE).codes == []

    def test_without_a_rating_what_a_transformer_gives(self) -> None:
        assert counting(counter(), 5_000_000, 5_100_000, limits=Limits()).codes == []
        assert counting(counter(), 5_000_000, 6_000_000, limits=Limits()).codes == [
            findings.EventCode.JUMP_ABOVE_RATING
        ]

    @pytest.mark.parametrize("glitch", [0, 3, 40_000, 327_680_000])
    def test_a_glitch_costs_one_value(self, glitch: int) -> None:
        site = counting(counter(), 5_000_000, glitch, 5_000_020, 5_000_030)
        assert len(site.events) == 1
        assert site.flags() == {}
        assert counting(counter(), 5_000_000, glitch, 5_000_020).flags() == {}

    def test_a_new_level_is_believed_after_three_readings(self) -> None:
        site = counting(counter(), 5_000_000, 9_000_000, 9_000_010)
        assert site.flags()
        site.take({ENERGY: 9_000_020}, MINUTE)
        assert site.flags(), "the third"
        site.take({ENERGY: 9_000_030}, MINUTE)
        assert site.flags() == {}
        assert len(site.events) == 1

    def test_a_slow_device_counts_minutes_at_once(self) -> None:
        """Read every second, counted up every five minutes, at 40 kW."""
        numbers = [5_000_000 + second // 300 * 3_333 for second in range(1200)]
        assert counting(counter(), *numbers, elapsed_ms=SECOND).codes == []

    def test_after_an_absence_what_it_may_have_counted_is_believed(self) -> None:
        site = counting(counter(), 5_000_000)
        for _ in range(60):
            site.take({}, 10 * MINUTE)
        site.take({ENERGY: 5_300_000}, 10 * MINUTE)
        assert site.codes == []
        site = counting(counter(), 5_000_000)
        site.take({ENERGY: 5_300_000}, 10 * MINUTE)
        assert site.codes == [findings.EventCode.JUMP_ABOVE_RATING]

    def test_what_stands_still_does_not_save_up(self) -> None:
        """No device counts up more than an hour at once: 63 A for an hour are 43 kWh."""
        still = [5_000_000] * 600
        assert counting(counter(), *still, 5_060_000).codes == []
        assert counting(counter(), *still, 5_070_000).codes == [findings.EventCode.JUMP_ABOVE_RATING]

    def test_a_net_energy_goes_both_ways(self) -> None:
        name = ("active_energy_net", "total")
        site = Site(Plan(meter(register(*name, "s32", (1, 0))), limits=HOUSE))
        for number in (500, 300, -20):
            site.take({name: number}, MINUTE)
        assert (site.flags(), site.codes) == ({}, [])


class TestWhatBelongsTogether:
    def test_currents_of_other_phases(self) -> None:
        turned = {("current", "L1"): 1.0, ("current", "L2"): 4.1, ("current", "L3"): 2.3}
        site = healthy()
        site.run(2, changes=turned)
        assert site.flags() == {}, "two may be a load that changed while it was read"
        site.run(1, changes=turned)
        assert site.codes == [findings.EventCode.PHASES_SWAPPED]
        assert site.flags() == {(name, "L1"): Q.INCONSISTENT for name in ("active_power", "voltage", "current")}
        assert "currents of L2 L1 L3" in site.events[0].words or "currents of L2 L3 L1" in site.events[0].words

    @pytest.mark.parametrize(("amperes", "fits"), [(3.7, True), (3.2, False)])
    def test_a_power_that_its_current_cannot_give(self, amperes: float, fits: bool) -> None:
        """900 W at 230 V are 3.9 A; a tenth and 15 W may be the meter's."""
        assert (healthy().run(3, changes={("current", "L1"): amperes}).codes == []) == fits

    def test_phases_that_do_not_add_up(self) -> None:
        site = healthy().run(3, changes={("active_power", "L3"): 200})
        assert site.codes == [findings.EventCode.PHASES_SWAPPED]
        assert Q.INCONSISTENT in site.flags()[POWER]
        assert "add up to 1600" in site.events[0].words
        assert healthy().run(3, changes={("active_power", "L3"): -120}).codes == []

    def test_more_active_than_apparent_power(self) -> None:
        site = healthy().run(3, changes={("apparent_power", "total"): 1000})
        assert site.flags()[POWER] == Q.INCONSISTENT
        assert site.codes == []
        assert healthy().run(3, changes={("apparent_power", "total"): 1130}).flags() == {}

    def test_unsigned_phases_do_not_add_up_to_a_signed_total(self) -> None:
        found = [register("active_power")] + [register("active_power", phase, "u32") for phase in ("L1", "L2", "L3")]
        site = Site(Plan(meter(*found), limits=HOUSE))
        said = {POWER: 200, ("active_power", "L1"): 900, ("active_power", "L2"): 0, ("active_power", "L3"): 700}
        for _ in range(5):
            site.take(said, MINUTE)
        assert site.codes == []


class TestStandingStill:
    @pytest.mark.parametrize(("elapsed_ms", "times"), [(SECOND, 601), (MINUTE, 11), (15 * MINUTE, 5)])
    def test_frozen(self, elapsed_ms: int, times: int) -> None:
        site = healthy()
        site.run(times - 2, elapsed_ms, noise=False, grow=False)
        assert site.codes == []
        site.run(3, elapsed_ms, noise=False, grow=False)
        assert site.codes == [findings.EventCode.FROZEN]
        assert set(site.flags().values()) == {Q.OLD_DATA}
        assert len(site.flags()) == 15
        site.run(300, elapsed_ms, noise=False, grow=False)
        assert site.codes == [findings.EventCode.FROZEN], "once"

    def test_not_frozen(self) -> None:
        idle = Site(watts=(0.0, 0.0, 0.0)).run(100, noise=False)
        assert idle.codes == [], "nothing flows"
        site = healthy()
        for _ in range(50):
            site.run(8, 70 * SECOND, noise=False, grow=False).run(1)
        assert findings.EventCode.FROZEN not in site.codes, "for less than ten minutes"

    def test_a_meter_without_noise_has_a_counter(self) -> None:
        """500 W and steps of 10 Wh: a step every 72 s, so ten of them are missed after twelve minutes."""
        plan = Plan(
            meter(register("active_energy_import", "total", "u32", (1, 1)), register("active_power")), limits=HOUSE
        )
        site = Site(plan)
        for _ in range(13):
            site.take({ENERGY: 5_000_000, POWER: 500}, MINUTE)
        assert site.codes == []
        site.take({ENERGY: 5_000_000, POWER: 500}, MINUTE)
        assert site.codes == [findings.EventCode.FROZEN]
        site = Site(plan)
        for _ in range(2000):
            site.take({ENERGY: 5_000_000, POWER: 4}, MINUTE)
        assert site.codes == [], "below what makes a meter start"


class TestRoles:
    def run(self, role: int, watts: tuple[float, float, float], hours: int, before: tuple[float, ...] = ()) -> Site:
        site = Site(Plan(full(), role=role, limits=HOUSE))
        for each in before:
            site.watts = (each / 3, each / 3, each / 3)
            site.run(20, 5 * MINUTE)
        site.watts = watts
        return site.run(12 * hours + 2, 5 * MINUTE)

    def test_a_generator_that_draws(self) -> None:
        site = self.run(2, (1000.0, 1000.0, 1000.0), 1)
        assert site.codes == [findings.EventCode.SIGN_AGAINST_ROLE]
        assert site.flags() == {POWER: Q.INCONSISTENT}
        assert self.run(2, (-1000.0, -1000.0, -1000.0), 30).codes == []
        assert self.run(2, (30.0, 30.0, 30.0), 30).codes == [], "standby"
        assert self.run(2, (1000.0, 1000.0, 1000.0), 20, before=(-3000.0,)).codes == [], "it charges a battery at night"
        assert self.run(2, (1000.0, 1000.0, 1000.0), 25, before=(-3000.0,)).codes != []

    def test_a_load_that_delivers(self) -> None:
        assert self.run(1, (-500.0, 0.0, 0.0), 2).codes.count(findings.EventCode.SIGN_AGAINST_ROLE) == 2, "whole and L1"
        assert self.run(1, (900.0, 0.0, 0.0), 5).codes == []

    def test_a_transformer_the_wrong_way_round(self) -> None:
        site = self.run(1, (1500.0, -700.0, 900.0), 2)
        assert [(event.code, event.key) for event in site.events] == [
            (findings.EventCode.SIGN_AGAINST_ROLE, key("active_power", "L2"))
        ]

    def test_grids_and_batteries_may_do_both(self) -> None:
        for role in (0, 3, 4):
            assert self.run(role, (-900.0, -900.0, -900.0), 3).codes == []

    def test_a_point_knows_better_than_its_device(self) -> None:
        grid = replace(full(), registers=tuple(replace(one, point="grid") for one in full().registers))
        site = Site(Plan(grid, "grid", role=2, limits=HOUSE), watts=(900.0, 900.0, 900.0)).run(150)
        assert site.codes == []


class TestEnergyAgainstPower:
    def run(self, factor: float, cadence_ms: int = MINUTE, hours: int = 5, watts: float = 600.0) -> Site:
        """An import counter that counts ``factor`` of what flows."""
        site = Site(watts=(watts, watts, watts))
        energy = 5_000_000.0
        for _ in range(hours * HOUR // cadence_ms):
            energy += factor * 3 * watts * cadence_ms / HOUR
            site.read(cadence_ms, {ENERGY: int(energy)}, grow=False)
        return site

    @pytest.mark.parametrize("factor", [10.0, 0.1, 0.33, 0.0, 3.0, 1000.0 / 230])
    def test_a_wrong_scale(self, factor: float) -> None:
        site = self.run(factor)
        assert site.codes == [findings.EventCode.ENERGY_AGAINST_POWER]
        assert site.flags()[ENERGY] == site.flags()[POWER] == Q.INCONSISTENT

    @pytest.mark.parametrize("factor", [0.6, 1.0, 1.8])
    def test_what_sampling_may_make_of_it(self, factor: float) -> None:
        assert self.run(factor).codes == []

    @pytest.mark.parametrize(("cadence_ms", "hours"), [(10 * SECOND, 3), (15 * MINUTE, 40)])
    def test_at_other_cadences(self, cadence_ms: int, hours: int) -> None:
        assert self.run(0.1, cadence_ms, hours).codes == [findings.EventCode.ENERGY_AGAINST_POWER]

    def test_the_import_counter_grows_while_power_is_delivered(self) -> None:
        site = self.run(-1.0, watts=-600.0)
        assert site.codes == [findings.EventCode.SIGN_AGAINST_ROLE]
        assert "other way" in site.events[0].words

    def test_it_is_over_when_a_window_is_right_again(self) -> None:
        site = self.run(0.1)
        site.energies[0] = float(site.energies[0])
        wrong = len(site.events)
        energy = [5_000_000 + 0.1 * 1800 * 5]
        for _ in range(200):
            energy.append(energy[-1] + 30)
            site.read(MINUTE, {ENERGY: int(energy[-1])})
        assert site.flags() == {}
        assert len(site.events) == wrong

    def test_one_wrong_hour_says_nothing(self) -> None:
        site = Site(watts=(600.0, 600.0, 600.0))
        energy = 5_000_000.0
        for minute in range(600):
            energy += 30 if minute // 61 % 2 else 3
            site.read(MINUTE, {ENERGY: int(energy)}, grow=False)
        assert site.codes == []

    def test_too_little_says_nothing(self) -> None:
        assert self.run(0.0, hours=30, watts=10.0).codes == []

    def test_a_meter_that_adds_its_phases_without_their_signs(self) -> None:
        """L1 draws 900 W, L2 delivers 700 W: both counters grow."""
        site = Site(watts=(900.0, -700.0, 0.0))
        energies = [5_000_000.0, 70_000.0]
        for _ in range(600):
            energies[0] += 15
            energies[1] += 700 / 60
            site.read(MINUTE, {ENERGY: int(energies[0]), ("active_energy_export", "total"): int(energies[1])})
        assert site.codes == []

    OUT, MADE = ("active_power_export", "total"), ("active_energy_export", "total")

    def inverter(self) -> Site:
        """One that measures its own generation."""
        registers = (register(*self.OUT), register(*self.MADE, "u32", (1, 0)))
        named = [replace(one, quantity=one.quantity.replace("export", "generation")) for one in registers]
        return Site(Plan(meter(*named, kind="inverter"), role=2, limits=HOUSE))

    def test_a_battery_behind_the_inverter(self) -> None:
        """The sun's energy by day, the battery's power by night."""
        site, energy = self.inverter(), 1000.0
        for minute in range(8 * 24 * 60):
            hour = minute // 60 % 24
            energy += 50 if 9 <= hour < 15 else 0
            site.take({self.OUT: 1500 + minute % 5 if 9 <= hour < 21 else 0, self.MADE: int(energy)}, MINUTE)
        assert site.codes == []

    @pytest.mark.parametrize(("factor", "planted"), [(10.0, True), (0.2, True), (1.0, False)])
    def test_an_inverter_that_says_nothing_at_night(self, factor: float, planted: bool) -> None:
        site, energy = self.inverter(), 1000.0
        for minute in range(9 * 24 * 12):
            hour = minute // 12 % 24
            sun = 600 * min(hour - 6, 18 - hour) + 20 if 6 <= hour <= 18 else None
            energy += factor * (sun or 0) / 12
            said = {self.MADE: int(energy)}
            site.take(said if sun is None else {**said, self.OUT: sun}, 5 * MINUTE)
        assert site.codes == [findings.EventCode.ENERGY_AGAINST_POWER] * planted


class TestWhenItIsSaid:
    def test_a_state_of_weeks_is_one_event(self) -> None:
        site = healthy()
        site.run(21 * 24 * 4, 15 * MINUTE, {("active_power", "L3"): 200})
        assert site.codes == [findings.EventCode.PHASES_SWAPPED]

    def test_what_comes_and_goes_within_a_quarter_of_an_hour_is_one_event(self) -> None:
        site = healthy()
        for _ in range(20):
            site.run(1, changes={POWER: 10**6}).run(5)
        assert site.codes == [findings.EventCode.JUMP_ABOVE_RATING]

    @pytest.mark.parametrize(("cadence_ms", "calm"), [(MINUTE, 16), (15 * MINUTE, 4)])
    def test_after_a_calm_it_is_another_one(self, cadence_ms: int, calm: int) -> None:
        site = healthy()
        for _ in range(2):
            site.run(1, cadence_ms, {POWER: 10**6})
            assert site.state.troubles()
            site.run(calm, cadence_ms)
            assert not site.state.troubles()
        assert site.codes == [findings.EventCode.JUMP_ABOVE_RATING] * 2

    @pytest.mark.parametrize(("cadence_ms", "calm"), [(MINUTE, 13), (15 * MINUTE, 2)])
    def test_a_calm_is_a_quarter_of_an_hour_and_three_readings(self, cadence_ms: int, calm: int) -> None:
        site = healthy()
        for _ in range(3):
            site.run(1, cadence_ms, {POWER: 10**6}).run(calm, cadence_ms)
        assert len(site.codes) == 1

    def test_nights_are_no_end_of_it(self) -> None:
        """A generator with the wrong sign, and one phase of another's current: one event each in a week."""
        site = Site(Plan(full(), role=2, limits=HOUSE))
        for quarter in range(7 * 96):
            day = 28 <= quarter % 96 < 72
            site.watts = (900.0, 900.0, 900.0) if day else (0.0, 0.0, 0.0)
            site.run(1, 15 * MINUTE, {("current", "L1"): 1.0} if day else None)
            if quarter % 96 == 80:
                assert not site.state.troubles(), "who looks at night sees that nothing is wrong now"
        assert sorted(site.codes) == [findings.EventCode.PHASES_SWAPPED, findings.EventCode.SIGN_AGAINST_ROLE]

    def test_a_reading_without_values_is_no_calm(self) -> None:
        site = healthy().run(1, changes={POWER: 10**6})
        for _ in range(100):
            site.take({}, MINUTE)
        assert site.state.troubles()


KEYS = sorted({one.key for one in full().registers})
numbers = st.integers(-(2**63), 2**63 - 1) | st.integers(-5000, 5000)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from([*KEYS, 300_000_000_000_000]), st.tuples(numbers, st.integers(-9, 9), st.integers(0, 3))
            ),
            st.integers(-5, 10**8),
        ),
        max_size=12,
    )
)
def test_a_number_is_never_changed_nor_left_out(history: list[tuple[dict[int, tuple[int, int, int]], int]]) -> None:
    plan = Plan(full(), role=1, limits=HOUSE)
    state = begin(plan)
    for said, elapsed_ms in history:
        values = tuple((k, Value(*said[k]) if said[k][0] else Value(0, 0, said[k][2])) for k in sorted(said))
        reading = Reading("house", 7, None if values else 2, values, 12)
        judged = judge(plan, state, reading, elapsed_ms)
        state = judged.state
        after = judged.reading
        assert replace(after, values=()) == replace(reading, values=())
        assert [(k, v.mantissa, v.exponent) for k, v in after.values] == [
            (k, v.mantissa, v.exponent) for k, v in values
        ]
        assert all(
            new.quality & old.quality == old.quality for (_, new), (_, old) in zip(after.values, values, strict=True)
        )
        assert all(event.words and len(event.words) <= 200 for event in judged.events)
        assert len(state.standing) <= 4 * len(KEYS)


Run = Callable[..., list[str]]
SAMPLE = (
    "carlo_gavazzi_em330_em340",
    "eastron_sdm630",
    "eastron_sdm120",
    "abb_b23_b24",
    "siemens_pac2200",
    "circutor_cvm-c10_c11",
    "peacefair_pzem-004t_pzem-016",
    "solaredge_inverter",
    "solaredge_meter_via_inverter",
    "goodwe_et",
)


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize(("period_ms", "readings"), [(SECOND, 150), (MINUTE, 240), (15 * MINUTE, 150)])
def test_an_ordinary_life_has_no_flags_and_no_events(name: str, period_ms: int, readings: int) -> None:
    assert live(name, len(name), period_ms, readings) == []


@pytest.mark.soak
@pytest.mark.parametrize("what", ROLES)
@pytest.mark.parametrize("name", names())
def test_every_meter_in_every_role(name: str, what: str) -> None:
    if load(name).kind == "both" and what != "grid":
        pytest.skip("its points say what they are")
    for seed in range(2):
        for period_ms, readings in ((SECOND, 3600), (MINUTE, 1440), (15 * MINUTE, 960)):
            assert live(name, 10 * seed + len(name), period_ms, readings, what) == []
