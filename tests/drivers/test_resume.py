"""After a restart: what is held against a counter is what its last reading before can prove, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from drivers.checks import CONSUMPTION, GENERATION, Limits, Plan
from drivers.findings import EventCode
from drivers.plausible import Judgement, resume
from drivers.reading import Quality, Value
from tests.drivers.test_plausible import (
    DAY,
    ENERGY,
    HOUR,
    HOUSE,
    MINUTE,
    Name,
    Site,
    counter,
    full,
    key,
    number,
)

MOST_WH = 65_205
"""What 63 A give in an hour at most, one and a half times 43.47 kW; a burst comes on top."""


class Restarted(Site):
    """A site whose gateway is started again."""

    away: tuple[int | None] | None = None

    def restart(self, known_ms: int | None) -> Restarted:
        """Before the next reading; ``known_ms``: what is known of the time between the two."""
        self.away = (known_ms,)
        return self

    def take(self, said: Mapping[Name, object], elapsed_ms: int) -> Judgement:
        if self.away is not None:
            assert self.last is not None
            (known_ms,), self.away = self.away, None
            after = tuple(sorted((key(*name), number(value)) for name, value in said.items()))
            self.state = resume(self.plan, self.last.reading.values, after, known_ms)
            elapsed_ms = known_ms or 0
        return super().take(said, elapsed_ms)


def counted(before: object, after: object, known_ms: int | None, kind: str = "u32") -> Restarted:
    """A counter before and after."""
    site = Restarted(Plan(counter(kind), limits=HOUSE))
    site.take({ENERGY: before}, MINUTE)
    site.restart(known_ms).take({ENERGY: after}, MINUTE)
    return site


class TestCounters:
    @pytest.mark.parametrize("known_ms", [5_000, 10 * HOUR, None])
    @pytest.mark.parametrize(
        ("before", "after", "code", "flag"),
        [
            (2**32 - 100, 50, EventCode.COUNTER_WRAP, Quality.REGISTER_RESET),
            (5_000_000, 700, EventCode.COUNTER_RESET, Quality.REGISTER_RESET),
            (5_000_000, 4_900_000, EventCode.ROLLBACK, Quality.QUESTIONABLE | Quality.INCONSISTENT),
        ],
    )
    def test_one_that_fell(self, before: int, after: int, code: EventCode, flag: Quality, known_ms: int | None) -> None:
        """However long it took, and even when that is not known."""
        site = counted(before, after, known_ms)
        assert site.codes == [code]
        assert site.flags() == {ENERGY: flag}

    @pytest.mark.parametrize("hours", [2, 100])
    def test_one_that_jumped(self, hours: int) -> None:
        far = counted(5_000_000, 5_001_000 + hours * MOST_WH, hours * HOUR)
        assert far.codes == [EventCode.JUMP_ABOVE_RATING]
        assert far.flags() == {ENERGY: Quality.QUESTIONABLE | Quality.OUT_OF_RANGE}
        assert f"in {hours * 3600:g} s" in far.events[0].words
        near = counted(5_000_000, 5_000_000 + hours * MOST_WH, hours * HOUR)
        assert (near.codes, near.flags()) == ([], {})

    def test_a_slow_one_may_have_stood_for_an_hour(self) -> None:
        """It counts up at once what flowed before the restart as well."""
        assert counted(5_000_000, 5_000_000 + MOST_WH, 5_000).codes == []
        jumped = counted(5_000_000, 5_001_000 + MOST_WH, 5_000)
        assert jumped.codes == [EventCode.JUMP_ABOVE_RATING]
        assert jumped.events[0].words.endswith("in 5 s")

    def test_one_that_grew_in_nobody_knows_what_time(self) -> None:
        site = counted(5_000_000, 500_000_000, None)
        assert (site.codes, site.flags()) == ([], {})
        site.take({ENERGY: 500_000_010}, MINUTE)
        site.take({ENERGY: 400_000_000}, MINUTE)
        assert site.codes == [EventCode.ROLLBACK], "from here on it is known"

    def test_one_that_comes_later(self) -> None:
        """Nothing is made of a time that is not known, in the readings that follow either."""
        site = Restarted(Plan(full(), limits=HOUSE)).run(2)
        assert isinstance(site, Restarted)
        site.restart(None).read(changes={ENERGY: None})
        site.energies[0] += 100_000_000
        site.read()
        assert (site.codes, site.flags()) == ([], {})

    def test_words_do_not_pretend_to_know_the_time(self) -> None:
        assert counted(5_000_000, 4_900_000, None).events[0].words.endswith("from 5000000 Wh to 4900000 Wh")

    @pytest.mark.parametrize("flag", [Quality.QUESTIONABLE, Quality.OUT_OF_RANGE, Quality.REGISTER_RESET])
    def test_a_number_in_doubt_is_no_past(self, flag: Quality) -> None:
        """A glitch was the last that was read: zero, or more than there can be."""
        for doubtful in (0, 9_000_000):
            before = ((key(*ENERGY), Value(doubtful, 0, int(flag))),)
            after = ((key(*ENERGY), number(5_000_000)),)
            assert resume(Plan(counter(), limits=HOUSE), before, after, MINUTE).memories == (None,)

    def test_a_float_may_go_back_by_two_bits(self) -> None:
        assert counted(99_999_990, 99_999_985, HOUR, "f32").codes == []
        assert counted(99_999_990, 99_990_000, HOUR, "f32").codes == [EventCode.ROLLBACK]

    def test_a_glitch_after_the_restart_is_one(self) -> None:
        site = counted(5_000_000, 0, MINUTE)
        site.take({ENERGY: 5_000_010}, MINUTE)
        assert site.codes == [EventCode.COUNTER_RESET]
        assert site.flags() == {}, "it goes on from before the restart"


class TestStandingStill:
    def test_a_meter_that_stood_still_all_the_time(self) -> None:
        site = Restarted(Plan(full(), limits=HOUSE)).run(5)
        assert isinstance(site, Restarted)
        site.restart(3 * HOUR).read(noise=False, grow=False)
        assert site.codes == [], "one is none: ten minutes must be seen"
        site.run(9, noise=False, grow=False)
        assert site.codes == []
        site.run(1, noise=False, grow=False)
        assert site.codes == [EventCode.FROZEN]

    def test_a_meter_that_lives(self) -> None:
        site = Restarted(Plan(full(), limits=HOUSE)).run(5)
        assert isinstance(site, Restarted)
        site.restart(HOUR).run(20)
        assert (site.codes, site.flags()) == ([], {})


class TestWhatIsNotKnown:
    """How power flowed while nobody looked."""

    @pytest.mark.parametrize(("role", "watts"), [(CONSUMPTION, -800.0), (GENERATION, 800.0)])
    def test_a_power_against_its_role_counts_from_the_start(self, role: int, watts: float) -> None:
        site = Restarted(Plan(full(), role=role, limits=HOUSE), watts=(watts,) * 3)
        for _ in range(6):  # restarts, with readings of ten minutes in all
            site.run(2).restart(DAY)  # type: ignore[attr-defined]
        site.run(45)
        assert site.codes == []
        site.run(20)
        assert EventCode.SIGN_AGAINST_ROLE in site.codes

    def test_energy_is_not_held_against_power(self) -> None:
        """Twelve days of which it is only known how much was counted: not a thousandth of the power at their ends."""
        site = Restarted(Plan(full(), limits=HOUSE), watts=(9000.0, 9000.0, 9000.0))
        for _ in range(12):
            for _ in range(80):
                site.read()
            site.restart(DAY)
        assert (site.codes, site.flags()) == ([], {})

    def test_nor_is_it_forgotten_behind_the_start(self) -> None:
        site = Restarted(Plan(full(), limits=HOUSE), watts=(900.0, 900.0, 900.0)).run(3)
        assert isinstance(site, Restarted)
        site.restart(DAY).run(150, grow=False)
        assert site.codes == [EventCode.ENERGY_AGAINST_POWER]


def test_a_life_in_pieces_has_no_events() -> None:
    """Restarts of any length, with the time known and not known."""
    site = Restarted(Plan(full(), limits=Limits(63)))
    for number_of, away_ms in enumerate((5_000, MINUTE, 17 * MINUTE, HOUR, 9 * HOUR, DAY, 30 * DAY)):
        site.run(4 + number_of)
        site.restart(away_ms).read(away_ms)
        site.run(3)
        site.restart(None).read(away_ms)
    assert (site.codes, site.flags()) == ([], {})
