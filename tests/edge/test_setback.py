"""A clock that is wrong: a little back is waited for, far back begins a stream, and every slot stays accounted for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.schedule import Schedule, slot_of
from edge import export
from edge.environment import load_trust
from edge.setback import HOLD_S, UNSURE_HOLD_S, SetBack, lapse
from edge.spool import Spool
from edge.writer import NewStream, Tick
from signer.chain import Head
from signer.codes import ClockStatus, Kind
from signer.report import Report
from signer.statement import Instant
from signer.verify import verify
from tests.edge.places import bus_toml, make_folder, write_config
from tests.edge.test_sender import Site
from tests.edge.test_writer import PERIOD_MS, START_MS

LIMIT_MS = 900_000
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


class Life(Site):
    """A gateway whose clock is set while it reads, as its bus would: what the schedule says, when it says it."""

    def begin(self, ended: str = "") -> None:
        super().begin(ended)
        self.renewals = self.state.renewals
        self.plan()

    def plan(self) -> None:
        last = {sub: each.until_ms - PERIOD_MS for sub, each in self.spool.positions.items() if each.until_ms}
        self.schedule = Schedule({"house": PERIOD_MS}, 900_000, last)
        self.described = False

    def live(self, seconds: int, deliver: bool = False) -> None:
        """Let time pass; a tick and a look at the schedule in each second."""
        for _ in range(seconds):
            now = self.clock.pass_ms(1000)
            if self.state.renewals != self.renewals:
                self.renewals = self.state.renewals
                self.plan()
            step = self.schedule.next(now.utc_ms, now.boot_ms)
            items: list[object] = []
            for missed in step.missed if self.described else ():
                items.append(self.lost((missed.last_ms - START_MS) // PERIOD_MS + 1, missed.cause))
            if step.meter is not None:
                items += [] if self.described else [self.describe()]
                self.described = True
                items.append(self.taken((step.slot_ms - START_MS) // PERIOD_MS))
            self.writer.take([*items, Tick(self.clock.now())])
            if deliver:
                self.turns(2)

    def know(self, clock: ClockStatus) -> None:
        self.clock.instant = replace(self.clock.instant, clock=clock)

    def evidence(self) -> Report:
        folder = self.folder / "evidence"
        shutil.rmtree(folder, ignore_errors=True)
        export.export(self.settings.spool, folder, load_trust(self.settings)[0])
        report = verify(folder)
        assert report.ok, report.failures
        return report


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    make_folder(tmp_path)
    made = Life(tmp_path, write_config(tmp_path, bus_toml(502, "house", "pv")))
    yield made
    made.spool.close()
    made.ledgers.close()


class TestTheDecision:
    def test_one_settlement_period_is_waited_for(self) -> None:
        clock = SetBack(LIMIT_MS)
        assert not any(clock.look(Instant(0, 1000 * s, ClockStatus.SYNCHRONISED, 0), LIMIT_MS) for s in range(2000))

    @pytest.mark.parametrize(
        ("status", "held_s"),
        [
            (ClockStatus.SYNCHRONISED, HOLD_S),
            (ClockStatus.HOLDOVER, HOLD_S),
            (ClockStatus.INFORMATIVE, UNSURE_HOLD_S),
            (ClockStatus.FAILED, UNSURE_HOLD_S),
        ],
    )
    def test_more_is_held_for_a_moment(self, status: ClockStatus, held_s: float) -> None:
        clock = SetBack(LIMIT_MS)
        answers = [clock.look(Instant(0, 1000 * s, status, 0), LIMIT_MS + 1) for s in range(300)]
        assert answers.index(True) == held_s

    @given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=60))
    def test_it_is_decided_only_after_a_time_in_which_the_clock_was_never_right(
        self, looks: list[tuple[int, bool]]
    ) -> None:
        clock, boot_s, wrong_since = SetBack(LIMIT_MS), 0, None
        for pause_s, wrong in looks:
            boot_s += pause_s
            wrong_since = (boot_s if wrong_since is None else wrong_since) if wrong else None
            now = Instant(0, 1000 * boot_s, ClockStatus.SYNCHRONISED, 0)
            due = wrong_since is not None and boot_s - wrong_since >= HOLD_S
            assert clock.look(now, 2 * LIMIT_MS if wrong else 0) == due

    def test_lengths_of_time(self) -> None:
        assert [lapse(ms) for ms in (900, 100_000, 150_000, 7_300_000, 9 * YEAR_MS)] == [
            "0 s",
            "100 s",
            "2 min",
            "2 h",
            "3,285 d",
        ]


class TestALittle:
    def test_it_waits_and_says_so(self, life: Life) -> None:
        life.live(5)
        life.clock.step_ms(-60_000)
        life.live(20)
        assert life.spool.number == 1
        assert [words for words in life.state.alarms.all() if "behind the last slot" in words]
        assert "nothing is read until" in life.state.alarms.all()[0]
        life.live(50)
        assert life.state.alarms.all() == []
        life.deliver_all()
        assert life.evidence().slots["house"].missing == 0


class TestFar:
    def test_measuring_goes_on_in_a_stream_that_names_the_old_one(self, life: Life) -> None:
        life.live(5)
        before = life.clock.step_ms(-2 * HOUR_MS)
        head = life.spool.head
        assert head is not None
        life.live(10)
        assert "a new stream begins" in life.state.alarms.all()[0]
        life.live(40)
        assert life.spool.number == 2
        said = life.said(2)
        assert said[:3] == ["genesis", "clock -7200000", "descriptor house 1000 '123'"]
        genesis = life.claims(2)[0].body[13][3]
        old = life.claims(1)[-1]
        assert genesis == [old.stream_id, old.seq, old.sid], "it names the end of the old stream"
        first = (slot_of(before.utc_ms + 1000, PERIOD_MS) - START_MS) // PERIOD_MS
        assert said[3].startswith(f"gap house {first}..{first + int(HOLD_S) + 1} ")
        assert said[3].endswith("CLOCK")
        assert [word for word in said[4:] if "@" in word] == said[4:], "then it reads, slot by slot"
        assert len(said) > 10
        assert [words for words in life.state.alarms.all() if "set back by 2 h" in words]

    def test_what_waited_is_delivered_first_and_all_of_it_holds(self, life: Life) -> None:
        life.uplink.away = True
        life.live(5)
        life.clock.step_ms(-20 * HOUR_MS)
        life.live(60)
        assert life.spool.counts().earlier > 5
        life.uplink.away = False
        life.deliver_all()
        assert life.spool.counts().earlier == 0
        ends = [life.spool.end(number) for number in (1, 2)]
        assert [life.committed(number=number) for number in (1, 2)] == ends
        streams = [stream for stream, *_ in life.uplink.sent]
        assert streams == sorted(streams, key=[each.id for each in life.spool.streams()].index)
        report = life.evidence()
        assert report.unreceipted == 0
        assert [stream.recovered_from for stream in report.streams] == [None, report.streams[0].stream]
        assert life.spool.streams()[0].abandoned_from == ends[0], "and it is closed"

    def test_delivered_while_it_happens(self, life: Life) -> None:
        life.live(5, deliver=True)
        life.clock.step_ms(-20 * HOUR_MS)
        life.live(60, deliver=True)
        life.deliver_all()
        assert life.evidence().unreceipted == 0

    def test_a_flap_does_not_begin_one(self, life: Life) -> None:
        life.live(5)
        for _ in range(5):
            life.clock.step_ms(-2 * HOUR_MS)
            life.live(20)
            life.clock.step_ms(2 * HOUR_MS)
            life.live(20)
        assert life.spool.number == 1
        assert life.evidence().slots["house"].missing == 0

    def test_a_far_future_day_that_is_put_right(self, life: Life) -> None:
        life.live(5)
        life.know(ClockStatus.INFORMATIVE)
        life.clock.step_ms(9 * YEAR_MS)
        life.live(5)
        life.clock.step_ms(-9 * YEAR_MS)
        life.know(ClockStatus.SYNCHRONISED)
        life.live(60)
        life.deliver_all()
        assert [word for word in life.said(1) if word.startswith("clock")] == [
            f"clock +{9 * YEAR_MS}",
            f"clock -{9 * YEAR_MS}",
        ]
        assert life.said(2)[1] == f"clock -{9 * YEAR_MS}"
        report = life.evidence()
        assert report.unreceipted == 0
        assert [stream.set_back_ms for stream in report.streams] == [None, 9 * YEAR_MS]
        assert report.slots["house"].jumped == pytest.approx(9 * YEAR_MS // PERIOD_MS, abs=60)

    def test_a_full_disk_is_waited_for(self, life: Life) -> None:
        life.live(5)
        life.clock.step_ms(-2 * HOUR_MS)
        life.live(int(HOLD_S))
        connection = life.spool._database._connection
        ((used,),) = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count = {used}").fetchall()
        life.live(60)
        assert life.spool.number == 1
        connection.execute("PRAGMA max_page_count = 1000000").fetchall()
        life.writer._full_since_s = -1e9  # long ago
        life.live(60)
        assert life.spool.number == 2
        life.deliver_all()
        assert life.evidence().slots["house"].missing == 0


class TestRestarts:
    def test_a_reboot_without_a_battery_clock(self, life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
        """1970 until the network says otherwise, which it does late."""
        life.live(5, deliver=True)
        monkeypatch.setattr("edge.writer.boot_id", lambda: "another")
        life.clock.instant = Instant(20_000, 20_000, ClockStatus.FAILED, 0)
        life.restart("")
        life.live(int(UNSURE_HOLD_S) - 10)
        assert life.spool.number == 1, "the network may be on its way"
        life.live(60)
        assert life.spool.number == 2
        assert life.claims(2)[1].kind == Kind.CLOCK
        assert life.claims(2)[1].body[13][1] < -50 * YEAR_MS
        readings = [claims for claims in life.claims(2) if claims.kind == Kind.READING]
        assert all(claims.instant.clock == ClockStatus.FAILED for claims in readings)
        assert readings[0].slot_ms is not None
        assert readings[0].slot_ms < YEAR_MS
        life.clock.step_ms(START_MS + HOUR_MS - life.clock.instant.utc_ms)
        life.know(ClockStatus.SYNCHRONISED)
        life.live(20)
        assert life.spool.number == 2, "forward is a gap"
        life.deliver_all()
        report = life.evidence()
        assert report.unreceipted == 0
        assert report.slots["house"].missing == 0

    def test_the_network_comes_in_time(self, life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
        life.live(5)
        monkeypatch.setattr("edge.writer.boot_id", lambda: "another")
        life.clock.instant = Instant(20_000, 20_000, ClockStatus.FAILED, 0)
        life.restart("")
        life.live(90)
        life.clock.step_ms(START_MS + 600_000 - life.clock.instant.utc_ms)
        life.know(ClockStatus.SYNCHRONISED)
        life.live(5)
        assert life.spool.number == 1
        assert life.evidence().slots["house"].gap > 500

    def test_put_right_while_it_was_off(self, life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
        life.know(ClockStatus.INFORMATIVE)
        life.clock.step_ms(5 * YEAR_MS)
        life.live(5)
        monkeypatch.setattr("edge.writer.boot_id", lambda: "another")
        life.clock.instant = Instant(START_MS + HOUR_MS, 20_000, ClockStatus.SYNCHRONISED, 0)
        life.restart("clean")
        life.live(60)
        assert life.spool.number == 2
        life.deliver_all()
        life.evidence()

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_crash_around_it_neither_repeats_nor_loses(
        self, life: Life, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        life.live(5)
        life.clock.step_ms(-2 * HOUR_MS)
        life.live(int(HOLD_S))
        real = Spool.append

        def fails(self: Spool, *args: object, **more: object) -> None:
            if more.get("anew") is not None:
                if when == "after":
                    real(self, *args, **more)  # type: ignore[arg-type]
                raise KeyboardInterrupt  # as a kill would
            real(self, *args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Spool, "append", fails)
        with pytest.raises(KeyboardInterrupt):
            life.live(10)
        monkeypatch.setattr(Spool, "append", real)
        life.restart("", 1000)
        life.live(60)
        assert life.spool.number == 2
        life.deliver_all()
        report = life.evidence()
        assert report.slots["house"].missing == 0
        assert any(word.startswith("gap house") for word in life.said(2)), "what was waited is said, crash or not"
        life.restart("clean", 1000)
        life.live(3)
        assert life.spool.number == 2


class TestRestoredAsWell:
    def test_an_older_stream_that_the_ledgers_contradict(self, life: Life) -> None:
        """Its end is said again in a stream of its own, and what is measured now goes on in the next."""
        life.uplink.away = True
        life.live(5)
        old = life.spool.head
        assert old is not None
        life.clock.step_ms(-2 * HOUR_MS)
        life.live(60)
        held = [claims.slot_ms for claims in life.claims(1) if claims.kind == Kind.READING]
        life.writer.take([NewStream(Head(old.stream, 3, bytes(32)), 0, threading.Event())])
        life.live(60)
        assert life.spool.number == 4
        assert [claims.slot_ms for claims in life.claims(3) if claims.kind == Kind.READING] == held
        assert life.spool.streams()[0].abandoned_from == 0
        life.uplink.away = False
        life.deliver_all()
        assert life.evidence().unreceipted == 0
