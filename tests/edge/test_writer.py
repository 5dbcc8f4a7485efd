"""The writer: from what the buses say to statements, whatever gets lost on the way."""

from __future__ import annotations

import queue
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from drivers.bus import Identity as MeterIdentity
from drivers.reading import Reading, Status, exact
from drivers.schedule import Cause
from edge.config import Config, Meter
from edge.host import Clock
from edge.reader import Described, Gone, Lost, Taken
from edge.spool import Position, Process, Spool
from edge.state import Cadence, Pulse, State
from edge.writer import VERSION, Changed, NewStream, Tick, Writer, boot_reason
from signer.chain import Head
from signer.codes import BootReason, EventCode, GapReason, Kind
from signer.statement import Claims, Instant, Statement
from tests.edge.places import bus_toml, identity_of, make_folder, write_config

START_MS = int(time.time()) // 60 * 60_000  # certificates are made for the run, so statements are of today
PERIOD_MS = 1000


@dataclass
class SetClock(Clock):
    """A clock that says what it is told to."""

    instant: Instant = field(default=Instant(START_MS, 1_000_000, 2, 5))

    def __post_init__(self) -> None:
        pass

    def now(self) -> Instant:
        return self.instant

    def pass_ms(self, ms: int, utc_too: bool = True) -> Instant:
        before = self.instant
        self.instant = replace(before, utc_ms=before.utc_ms + (ms if utc_too else 0), boot_ms=before.boot_ms + ms)
        return self.instant

    def step_ms(self, ms: int) -> Instant:
        self.instant = replace(self.instant, utc_ms=self.instant.utc_ms + ms)
        return self.instant


class Bench:
    """A writer, its spool, and somebody who feeds it."""

    def __init__(self, folder: Path, settings: Config) -> None:
        self.settings = settings
        self.clock = SetClock()
        self.state = State()
        self.spool = Spool.open(settings.spool, settings.gateway, START_MS)
        self.meters: dict[str, Meter] = {meter.name: meter for bus in settings.buses for meter in bus.meters}
        self.begin()

    def begin(self, ended: str = "") -> None:
        self.writer = Writer(
            self.settings,
            identity_of(self.settings),
            self.spool,
            queue.SimpleQueue(),
            self.clock,
            self.state,
            Pulse("writer"),
        )
        self.writer.begin(ended)

    def restart(self, ended: str = "clean", after_ms: int = 0) -> None:
        self.spool.close(ended)
        self.spool = Spool.open(self.settings.spool, self.settings.gateway, START_MS)
        self.state = State()
        self.clock.pass_ms(after_ms)
        self.begin()

    def describe(self, name: str = "house", serial: str = "123", period_ms: int = PERIOD_MS) -> Described:
        meter = self.meters[name]
        identity = MeterIdentity(serial, (), meter.map) if serial else None
        return Described(meter, period_ms, identity, self.clock.now())

    def taken(self, slot: int, name: str = "house") -> Taken:
        reading = Reading(name, START_MS + slot * PERIOD_MS, None, ((264, exact(slot + 1, 0)),), 3)
        return Taken((reading,), self.clock.now())

    def lost(self, until_slot: int, cause: Cause = Cause.OVERLOAD, name: str = "house") -> Lost:
        return Lost(self.meters[name], START_MS + until_slot * PERIOD_MS, cause, self.clock.now())

    def claims(self, number: int = 1) -> list[Claims]:
        return [self.spool.claims(message) for _, message in self.spool.statements(number)]

    def said(self, number: int = 1) -> list[str]:
        """What was stored, in short."""
        return [brief(claims) for claims in self.claims(number)]


def brief(claims: Claims) -> str:
    body = claims.body.get(13, {})
    match claims.kind:
        case Kind.READING:
            assert claims.slot_ms is not None
            return f"{claims.sub}@{(claims.slot_ms - START_MS) // PERIOD_MS}"
        case Kind.GAP:
            first, end = ((body[at] - START_MS) // PERIOD_MS for at in (2, 3))
            return f"gap {claims.sub} {first}..{end} {body[4]} {GapReason(body[1]).name}"
        case Kind.DESCRIPTOR:
            return f"descriptor {claims.sub} {body[1]} {body[5]!r}"
        case Kind.CLOCK:
            return f"clock {body[1]:+d}"
        case Kind.EVENT:
            return f"event {claims.sub} {EventCode(body[1]).name}"
        case Kind.BOOT:
            return f"boot {BootReason(body[1]).name}"
    return Kind(claims.kind).name.lower()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    make_folder(tmp_path)
    made = Bench(tmp_path, write_config(tmp_path, bus_toml(502, "house", "pv")))
    yield made
    made.spool.close()


def test_a_stream_begins_with_genesis_boot_and_descriptor(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0), bench.taken(1)])
    assert bench.said() == ["genesis", "boot UNKNOWN", "descriptor house 1000 '123'", "house@0", "house@1"]
    boot = bench.claims()[1]
    assert len(boot.body[13][3]) == 32
    assert boot.boot == 1


def test_one_group_is_one_transaction(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = Spool.append

    def counted(self: Spool, made: Sequence[Statement], *more: Any, **named: Any) -> None:
        calls.append(len(made))
        real(self, made, *more, **named)

    monkeypatch.setattr(Spool, "append", counted)
    bench.writer.take([bench.describe(), bench.describe("pv"), *(bench.taken(0, name) for name in ("house", "pv"))])
    assert calls == [4]


def test_a_hole_becomes_a_gap_before_the_next_reading(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0)])
    bench.writer.take([bench.taken(4)])
    assert bench.said()[-2:] == ["gap house 1..4 3 OVERLOAD", "house@4"]


def test_a_slot_is_accounted_for_once(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0), bench.taken(0), bench.taken(1), bench.taken(0)])
    assert bench.said()[3:] == ["house@0", "house@1"]


def test_missed_slots_are_said_with_their_cause(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0)])
    bench.writer.take([bench.lost(3, Cause.CLOCK), bench.lost(3, Cause.CLOCK), bench.taken(4)])
    assert bench.said()[-3:] == ["gap house 1..3 2 CLOCK", "gap house 3..4 1 OVERLOAD", "house@4"]


def test_what_was_missed_while_not_running(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0)])
    bench.restart(after_ms=10_000)
    bench.writer.take([bench.describe(), bench.taken(10), bench.taken(12)])
    assert bench.said()[4:] == [
        "boot RESTART",
        "descriptor house 1000 '123'",
        "gap house 1..10 9 NOT_RUNNING",
        "house@10",
        "gap house 11..12 1 OVERLOAD",
        "house@12",
    ]
    assert bench.claims()[-1].boot == 2
    assert bench.claims()[4].body[13][2] == START_MS  # the last time known before


def test_a_meter_that_is_not_there_yet_has_no_serial_number(bench: Bench) -> None:
    bench.writer.take([bench.describe(serial=""), bench.taken(0), bench.describe(serial="123"), bench.taken(1)])
    bench.writer.take([bench.describe(serial="123"), bench.taken(2)])
    assert bench.said()[2:] == [
        "descriptor house 1000 ''",
        "house@0",
        "descriptor house 1000 '123'",
        "house@1",
        "house@2",
    ]


def test_another_serial_number_is_an_event(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0), bench.describe(serial="456"), bench.taken(1)])
    assert bench.said()[-3:] == ["descriptor house 1000 '456'", "event house SERIAL_NUMBER_CHANGED", "house@1"]
    assert bench.claims()[-2].body[13][3] == "123 -> 456"


def test_a_coarser_period_begins_at_its_next_slot(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0), bench.taken(1)])
    slow = 10 * PERIOD_MS
    bench.writer.take([bench.describe(period_ms=slow), bench.taken(10), bench.taken(30)])
    assert bench.said()[-3:] == ["house@10", "gap house 20..30 1 OVERLOAD", "house@30"]
    bench.writer.take([bench.describe(), bench.taken(35), bench.taken(40)])
    assert bench.said()[-2:] == ["descriptor house 1000 '123'", "house@40"]


class TestAnotherConfiguration:
    def test_a_point_that_is_gone_ends_and_may_come_back(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.describe("pv"), bench.taken(0), bench.taken(1)])
        bench.clock.pass_ms(4500)
        bench.writer.take([Gone(("house",), bench.clock.now())])
        bench.writer.take([bench.taken(4), bench.lost(6)])  # nobody's any more
        bench.writer.take([bench.describe(), bench.taken(8)])
        assert bench.said()[6:] == [
            "gap house 2..4 2 OVERLOAD",
            "event house CONFIGURATION_CHANGED",
            "descriptor house 1000 '123'",
            "gap house 4..8 4 NOT_RUNNING",
            "house@8",
        ]

    def test_nothing_is_owed_when_it_ends_in_time(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.taken(0)])
        bench.clock.pass_ms(900)
        bench.writer.take([Gone(("house", "pv"), bench.clock.now())])
        assert bench.said()[4:] == ["event house CONFIGURATION_CHANGED"], "and pv was never described"

    def test_gone_and_back_within_one_transaction(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.taken(0)])
        now = bench.clock.pass_ms(1000)
        bench.writer.take([Gone(("house",), now), bench.describe(), bench.taken(1)])
        bench.writer.take([bench.taken(2)])
        assert bench.said()[4:] == [
            "event house CONFIGURATION_CHANGED",
            "descriptor house 1000 '123'",
            "house@1",
            "house@2",
        ]

    def test_an_alarm_about_it_ends_with_it(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.taken(0)])
        bench.state.alarms.raise_("meter house", "sent what no statement can hold")
        bench.writer.take([Gone(("house",), bench.clock.now())])
        assert bench.state.alarms.all() == []

    def test_what_changed_is_said_as_far_as_a_statement_holds_it(self, bench: Bench) -> None:
        words = "meter pv added; " * 30 + "é"
        bench.writer.take([Changed(bench.settings, words)])
        last = bench.claims()[-1]
        assert (last.sub, last.body[13][1]) == ("-", EventCode.CONFIGURATION_CHANGED)
        said = last.body[13][3]
        assert words.startswith(said.removesuffix(" ..."))
        assert 240 < len(said.encode()) <= 256

    def test_the_new_budget_counts(self, bench: Bench) -> None:
        small = replace(bench.settings, budget_bytes=1)
        bench.writer.take([Tick(bench.clock.now())])
        assert bench.state.cadence == Cadence.NORMAL
        bench.writer.take([Changed(small, "store.budget_mb")])
        bench.writer.take([Tick(bench.clock.now())])
        assert bench.state.cadence == Cadence.STOPPED


class TestTheClock:
    def test_a_step_is_said_before_what_carries_the_new_time(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.taken(0)])
        bench.clock.pass_ms(1000)
        bench.clock.step_ms(-3_600_000)
        bench.writer.take([bench.taken(1)])
        assert bench.said()[-2:] == ["clock -3600000", "house@1"]

    def test_a_tick_notices_it_too(self, bench: Bench) -> None:
        bench.clock.pass_ms(500)
        bench.clock.step_ms(2000)
        bench.writer.take([Tick(bench.clock.now())])
        assert bench.said()[-1] == "clock +2000"

    def test_a_clock_that_was_set_while_we_were_away(self, bench: Bench) -> None:
        bench.clock.step_ms(90_000)
        bench.restart(after_ms=5000)
        assert bench.said()[-2:] == ["clock +90000", "boot RESTART"]


class TestTheDisk:
    def full(self, bench: Bench, pages: int = 0) -> None:
        connection = bench.spool._database._connection
        ((used,),) = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count = {used + pages}").fetchall()

    def room(self, bench: Bench) -> None:
        bench.spool._database._connection.execute("PRAGMA max_page_count = 1000000").fetchall()
        bench.writer._full_since_s = -1e9  # long ago

    def test_a_full_disk_stops_reading_and_becomes_a_gap(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.taken(0)])
        self.full(bench)
        bench.writer.take(
            [bench.taken(1, name) for name in ("house", "pv")] + [bench.taken(slot) for slot in range(2, 9)]
        )
        assert bench.state.cadence == Cadence.STOPPED
        assert "disk" in bench.state.alarms.all()[0]
        assert bench.said()[-1] == "house@0"
        self.room(bench)
        bench.writer.take([Tick(bench.clock.now())])
        assert bench.state.cadence == Cadence.NORMAL
        assert bench.state.alarms.all() == []
        bench.writer.take([bench.taken(12)])
        assert bench.said()[-3:] == ["event - DISK_BUDGET", "gap house 1..12 11 DISK_FULL", "house@12"]

    def test_a_description_survives_a_full_disk(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.taken(0)])
        self.full(bench)
        bench.writer.take([bench.describe("pv"), *[bench.taken(slot) for slot in range(1, 9)]])
        assert bench.said()[-1] == "house@0"
        self.room(bench)
        bench.writer.take([bench.taken(9, "pv")])
        assert bench.said()[-2:] == ["descriptor pv 1000 '123'", "pv@9"]

    def test_an_end_and_another_configuration_survive_a_full_disk(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.describe("pv"), bench.taken(0), bench.taken(0, "pv")])
        self.full(bench)
        ended = [Gone(("house",), bench.clock.now()), Changed(bench.settings, "meter house removed")]
        bench.writer.take([*ended, *[bench.taken(slot, "pv") for slot in range(1, 9)]])
        assert bench.said()[-1] == "pv@0"
        self.room(bench)
        bench.writer.take([bench.taken(9, "pv")])
        assert [line for line in bench.said() if "CONFIGURATION" in line] == [
            "event house CONFIGURATION_CHANGED",
            "event - CONFIGURATION_CHANGED",
        ]
        assert bench.said()[-1] == "pv@9"

    def test_the_budget_slows_then_stops_then_eases(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        for part in (0.5, 0.79, 0.81, 0.78, 0.99, 1.0, 0.97, 0.94, 0.76, 0.74):
            used = int(part * bench.settings.budget_bytes)
            monkeypatch.setattr(Spool, "used_bytes", lambda self, used=used: used)
            bench.writer.take([Tick(bench.clock.now())])
            seen.append(bench.state.cadence.name.lower())
        assert seen == [
            "normal",
            "normal",
            "settlement",
            "settlement",
            "settlement",
            "stopped",
            "stopped",
            "settlement",
            "settlement",
            "normal",
        ]
        assert bench.said()[-4:] == ["event - DISK_BUDGET"] * 4

    def test_committed_statements_make_room(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        bench.writer.take([bench.describe()])
        for first in range(0, 1500, 10):
            bench.writer.take([bench.taken(slot) for slot in range(first, first + 10)])
        batch = bench.spool.next_batch()
        assert batch is not None
        bench.spool.settle(batch, [])
        real = bench.spool.used_bytes()
        monkeypatch.setattr(
            Spool,
            "used_bytes",
            lambda self: int(bench.settings.budget_bytes * 0.75 * self._database.used_bytes() / real),
        )
        for _ in range(20):
            bench.writer.take([Tick(bench.clock.now())])
        assert bench.state.cadence == Cadence.NORMAL
        assert len(list(bench.spool.pruned(1))) > 50


class TestAnotherStream:
    def test_what_the_ledgers_lack_is_said_again(self, bench: Bench) -> None:
        bench.writer.take([bench.describe(), bench.taken(0), bench.taken(1)])
        bench.restart(after_ms=5000)
        bench.writer.take([bench.describe(), bench.taken(5), bench.taken(6)])
        head = bench.spool.head
        assert head is not None
        known = Head(head.stream, 99, bytes(32))
        order = NewStream(known, 5, threading.Event())
        bench.writer.take([bench.taken(7), order])
        bench.writer.take([bench.taken(8)])
        assert order.done.is_set()
        assert bench.said(1)[5:] == [
            "boot RESTART",
            "descriptor house 1000 '123'",
            "gap house 2..5 3 NOT_RUNNING",
            "house@5",
            "house@6",
            "house@7",
        ]
        assert bench.said(2) == [
            "genesis",
            "descriptor house 1000 '123'",
            "descriptor house 1000 '123'",
            "gap house 2..5 3 NOT_RUNNING",
            "house@5",
            "house@6",
            "house@7",
            "descriptor house 1000 '123'",
            "house@8",
        ]
        genesis = bench.claims(2)[0]
        assert genesis.body[13][3] == [known.stream, 99, bytes(32)]
        old = {claims.slot_ms: claims for claims in bench.claims(1)}
        for claims in bench.claims(2):
            if claims.slot_ms is not None and claims.slot_ms in old:
                assert (claims.instant, claims.values) == (old[claims.slot_ms].instant, old[claims.slot_ms].values)

    def test_a_crash_in_the_middle_of_it_loses_nothing(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge.succession.STEP", 3)
        bench.writer.take([bench.describe(), *[bench.taken(slot) for slot in range(10)]])
        head = bench.spool.head
        assert head is not None
        real, left = Spool.append, [3]

        def fails(self: Spool, *args: object, **more: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt  # as a kill would
            real(self, *args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Spool, "append", fails)
        with pytest.raises(KeyboardInterrupt):
            bench.writer.take([NewStream(Head(head.stream, 99, bytes(32)), 1, threading.Event())])
        monkeypatch.setattr(Spool, "append", real)
        bench.restart("")
        bench.writer.take([bench.describe(), bench.taken(10)])
        said = bench.said(2)
        assert [word for word in said if "@" in word] == [f"house@{slot}" for slot in range(11)]
        assert said.count("boot CRASH") == 1

    def test_an_order_for_a_stream_that_was_left_already_does_nothing(self, bench: Bench) -> None:
        order = NewStream(Head(bytes(16), 99, bytes(32)), 1, threading.Event())
        bench.writer.take([order])
        assert order.done.is_set()
        assert bench.spool.number == 1


def test_a_set_aside_spool_is_named_by_the_new_genesis(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0)])
    head = bench.spool.head
    assert head is not None
    bench.spool.condemn()
    bench.restart("")
    assert bench.claims()[0].body[13][3] == [head.stream, head.seq, head.sid]


def test_what_no_statement_can_hold_is_no_reason_to_end(bench: Bench) -> None:
    values = tuple((key, exact(1, 0)) for key in range(256, 256 + 300))
    reading = Reading("house", START_MS, None, values, 3)
    bench.writer.take([bench.describe(), Taken((reading,), bench.clock.now())])
    assert bench.claims()[-1].status == Status.OTHER
    assert "no statement can hold" in bench.state.alarms.all()[0]


@pytest.mark.parametrize(
    ("previous", "host_boot", "ended", "reason"),
    [
        (None, "a", "", BootReason.UNKNOWN),
        (Process(1, "a", "0.1.0", 0, "clean"), "a", "", BootReason.RESTART),
        (Process(1, "a", "0.1.0", 0, "clean"), "b", "", BootReason.RESTART),
        (Process(1, "a", "0.0.9", 0, "clean"), "a", "", BootReason.UPDATE),
        (Process(1, "a", "0.1.0", 0, ""), "a", "", BootReason.CRASH),
        (Process(1, "a", "0.1.0", 0, ""), "b", "", BootReason.POWER),
        (Process(1, "a", "0.1.0", 0, ""), "a", "watchdog", BootReason.WATCHDOG),
    ],
)
def test_why_it_started(previous: Process | None, host_boot: str, ended: str, reason: BootReason) -> None:
    assert boot_reason(previous, host_boot, ended) == reason


def test_positions_are_those_of_the_statements(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0), bench.lost(5)])
    expected = {"house": Position(START_MS + 5000, PERIOD_MS)}
    assert dict(bench.spool.positions) == expected
    bench.restart("")
    assert dict(bench.spool.positions) == expected


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
