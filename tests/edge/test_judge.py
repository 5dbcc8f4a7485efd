"""From a faulty meter on a wire to signed flags and events: reader, judge, writer and verifier, hours in a second."""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from drivers import map as maps
from drivers.decode import Overrides
from drivers.obis import pack
from drivers.reading import Quality
from edge import export, status
from edge import writer as writers
from edge.cli.main import cli
from edge.config import Config, Meter
from edge.environment import load_trust
from edge.host import Clock
from edge.past import past_of
from edge.reader import QUEUE_ITEMS, Reader, Taken
from edge.spool import Spool
from edge.state import Pulse, State
from edge.writer import Writer
from hw_sim.device import MapDevice
from hw_sim.faults import Fault
from hw_sim.home import Home, Household
from hw_sim.station import Station
from hw_sim.sun import Roof
from hw_sim.wire import Wire
from signer.codes import ClockStatus, EventCode, Kind
from signer.statement import Claims, Instant
from signer.verify import verify
from tests.edge.places import MODEL, bus_toml, identity_of, make_folder, write_config

MINUTE_MS = 60_000
# Certificates are made for the run, so statements are of today; what the home does is always that of one noon.
START_MS = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
NOON_MS = 1_782_036_000_000
_NEVER_S = 1e6
IMPORT = pack("1.8.0")


class SetClock(Clock):
    """A clock that says what it is told to."""

    def __init__(self) -> None:
        self.instant = Instant(START_MS, 1_000_000, 2, 5)

    def now(self) -> Instant:
        return self.instant


class Town:
    """A house, its meter, its gateway.

    Attributes:
        state: what the gateway's threads share.
    """

    def __init__(self, folder: Path, fault: Fault, model: str = MODEL) -> None:
        make_folder(folder)
        self.model = model
        self.clock, self.state = SetClock(), State()
        self.home = Home(Household("home", 7, 3, 100, Roof(5_000, 4_600)), NOON_MS - 60 * MINUTE_MS)
        self.counts_anew: Callable[[int], int] = lambda counted: counted
        self.station = Station("house", 1, self.device("10000001"), 0.0, [fault])
        self.wire = Wire()
        port = self.wire.tcp("127.0.0.1", 0, [self.station]).port
        self.wire.start()
        self.recover()
        text = bus_toml(port, "house", period_s=60).replace(MODEL, model)
        self.settings: Config = write_config(folder, text + "\nrated_current = 63")
        self.meter: Meter = self.settings.buses[0].meters[0]
        self.start()

    def device(self, serial: str) -> MapDevice:
        """The house's meter, or another of its model."""

        def shown(at_s: float) -> dict[str, dict[int, int]]:
            said = self.home.quantities("grid", NOON_MS + self.clock.instant.utc_ms - START_MS)
            return {"": {**said, IMPORT: self.counts_anew(said[IMPORT])}}

        return MapDevice(maps.load(self.model), shown, serial=serial, refresh_s=1e-6)

    def start(self) -> None:
        """The gateway starts."""
        self.spool = Spool.open(self.settings.spool, self.settings.gateway, START_MS)
        self.items: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.writer = Writer(
            self.settings,
            identity_of(self.settings),
            self.spool,
            self.items,
            self.clock,
            self.state,
            Pulse("writer"),
        )
        self.writer.begin("")
        self.reader = Reader(
            self.settings.buses[0],
            self.settings,
            {},
            self.items,
            self.clock,
            self.state,
            Pulse("bus"),
            partial(past_of, self.spool, self.writer.boots),
        )

    def restart(self, away_min: int = 60, ended: str = "clean") -> None:
        """The gateway ends (``""``: by a crash), and starts later."""
        self.spool.close(ended)
        now = self.clock.instant
        away_ms = away_min * MINUTE_MS
        self.clock.instant = replace(now, utc_ms=now.utc_ms + away_ms, boot_ms=now.boot_ms + away_ms)
        self.start()

    def close(self) -> None:
        self.spool.close("clean")
        self.wire.close()

    def minutes(self, count: int) -> None:
        """So many slots, read and stored."""
        for _ in range(count):
            now = self.clock.instant
            self.reader._read(self.meter, now.utc_ms, time.monotonic_ns() // 1_000_000 + MINUTE_MS)
            self.clock.instant = replace(now, utc_ms=now.utc_ms + MINUTE_MS, boot_ms=now.boot_ms + MINUTE_MS)
        self.store()

    def store(self) -> None:
        items = []
        while not self.items.empty():
            items.append(self.items.get())
        self.writer.take(items)

    def fail(self) -> None:
        """The fault begins."""
        self.station.begin(time.monotonic())

    def recover(self) -> None:
        self.station.begin(time.monotonic() + _NEVER_S)

    def claims(self, kind: Kind) -> list[Claims]:
        found = [self.spool.claims(message) for _, message in self.spool.statements(1)]
        return [claims for claims in found if claims.kind == kind]

    def events(self) -> list[EventCode]:
        return [EventCode(claims.body[13][1]) for claims in self.claims(Kind.EVENT)]

    def qualities(self, number: int) -> set[int]:
        """Of the values of a reading (-1: the newest)."""
        return {value.quality for value in dict(self.claims(Kind.READING)[number].values).values()}

    @property
    def trouble(self) -> str:
        return self.state.meters["house"].trouble


@pytest.fixture
def town(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Town]:
    made = Town(tmp_path, Fault(request.param))
    yield made
    made.close()


@pytest.mark.parametrize("town", ["frozen"], indirect=True)
def test_a_meter_that_stands_still(town: Town, tmp_path: Path) -> None:
    town.minutes(40)
    assert (town.events(), town.qualities(-1), town.trouble) == ([], {0}, "")
    voltages = {dict(claims.values)[pack("32.7.0")] for claims in town.claims(Kind.READING)}
    assert len(voltages) > 10, "it lives"
    town.fail()
    town.minutes(30)
    assert town.events() == [EventCode.FROZEN], "one, not one a slot"
    assert town.qualities(-1) == {Quality.OLD_DATA}
    assert "stands still" in town.trouble
    event = town.claims(Kind.EVENT)[0]
    assert event.sub == "house"
    town.recover()
    town.minutes(20)
    assert (town.events(), town.qualities(-1), town.trouble) == ([EventCode.FROZEN], {0}, "")
    folder = tmp_path / "evidence"
    export.export(town.settings.spool, folder, load_trust(town.settings)[0])
    report = verify(folder)
    assert report.ok, report.failures
    assert report.slots["house"].read == 90


@pytest.mark.parametrize("town", ["swapped_words"], indirect=True)
def test_a_meter_with_its_words_turned_round(town: Town) -> None:
    town.minutes(5)
    town.fail()
    town.minutes(1)
    first = town.claims(Kind.READING)[-1]
    values = dict(first.values)
    assert values[pack("32.7.0")].quality & Quality.OUT_OF_RANGE
    assert values[pack("1.8.0")].quality & Quality.QUESTIONABLE
    assert len(values) > 20, "nothing is left out"
    town.minutes(10)
    assert EventCode.JUMP_ABOVE_RATING in town.events()
    counters = [claims for claims in town.claims(Kind.EVENT) if claims.body[13].get(2) == pack("1.8.0")]
    assert len(counters) == 1
    assert town.trouble


@pytest.mark.parametrize("town", ["swapped_words"], indirect=True)
def test_what_the_queue_has_no_room_for_is_said_later(town: Town) -> None:
    town.minutes(2)
    town.fail()
    for _ in range(QUEUE_ITEMS):
        town.items.put(object())
    town.reader._read(town.meter, town.clock.instant.utc_ms, time.monotonic_ns() // 1_000_000 + MINUTE_MS)
    assert town.state.dropped == 1
    while not town.items.empty():
        assert not isinstance(town.items.get(), Taken)
    town.minutes(1)
    assert EventCode.JUMP_ABOVE_RATING in town.events()


@pytest.mark.parametrize("town", ["swapped_words"], indirect=True)
def test_the_status_says_it(town: Town) -> None:
    town.minutes(2)
    town.fail()
    town.minutes(2)
    meter = {"name": "house", "points": ["house"], "status": None, "trouble": town.trouble}
    document = {"version": status.VERSION, "pid": os.getpid(), "meters": [meter], "alarms": [], "stopped": False}
    status.write(town.settings.status_path, document)
    shown = CliRunner().invoke(cli, ["status", "--config", str(town.settings.path), "--json"])
    (alarm,) = json.loads(shown.output)["alarms"]
    assert alarm["words"] == f"meter house: {town.trouble}"
    assert alarm["whose_move"] == "a technician at the meter"


WORSE = Quality.QUESTIONABLE | Quality.INCONSISTENT


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Town]:
    """A town whose wire is cut when its fault begins."""
    made = Town(tmp_path, Fault("silent"))
    made.minutes(5)
    yield made
    made.close()


class TestAfterARestart:
    """What happened to the meter while the gateway was down."""

    @pytest.mark.parametrize("ended", ["clean", ""])
    @pytest.mark.parametrize(
        ("counts_anew", "code", "flag"),
        [
            (lambda counted: counted // 2, EventCode.ROLLBACK, WORSE),
            (lambda counted: 0, EventCode.COUNTER_RESET, Quality.REGISTER_RESET),
            (lambda counted: 2 * counted, EventCode.JUMP_ABOVE_RATING, Quality.QUESTIONABLE | Quality.OUT_OF_RANGE),
        ],
    )
    def test_it_is_noticed(
        self, house: Town, ended: str, counts_anew: Callable[[int], int], code: EventCode, flag: Quality, tmp_path: Path
    ) -> None:
        house.restart(ended=ended)
        house.counts_anew = counts_anew
        house.minutes(1)
        assert house.events() == [code]
        assert dict(house.claims(Kind.READING)[-1].values)[IMPORT].quality == flag
        house.minutes(5)
        assert (house.events(), house.qualities(-1)) == ([code], {0}), "once, and then it goes on from there"
        folder = tmp_path / "evidence"
        export.export(house.settings.spool, folder, load_trust(house.settings)[0])
        report = verify(folder)
        assert report.ok, report.failures

    @pytest.mark.parametrize("away_min", [0, 1, 60, 1440])
    @pytest.mark.parametrize("ended", ["clean", ""])
    def test_nothing_is_noticed_when_there_was_nothing(self, house: Town, away_min: int, ended: str) -> None:
        for _ in range(3):
            house.restart(away_min, ended)
            house.minutes(2)
        assert house.events() == []
        assert {value.quality for claims in house.claims(Kind.READING) for _, value in claims.values} == {0}

    def test_the_meter_did_not_answer_before_nor_after(self, house: Town) -> None:
        house.fail()
        house.minutes(3)
        house.restart()
        house.minutes(3)
        assert house.claims(Kind.READING)[-1].status is not None
        house.restart()
        house.counts_anew = lambda counted: counted // 2
        house.recover()
        house.minutes(1)
        assert house.events() == [EventCode.ROLLBACK]

    @pytest.mark.parametrize(("serial", "is_noticed"), [("10000001", True), ("10000099", False)])
    def test_another_serial_number(self, serial: str, is_noticed: bool, tmp_path: Path) -> None:
        house = Town(tmp_path, Fault("silent"), "eastron_sdm630")
        house.minutes(3)
        house.restart()
        house.counts_anew = lambda counted: counted // 2
        house.station._device = house.device(serial)
        house.minutes(4)
        assert house.events() == [EventCode.ROLLBACK] * is_noticed
        house.close()

    @pytest.mark.parametrize("ended", ["clean", ""])
    def test_an_exchange_that_was_said(self, house: Town, ended: str) -> None:
        """Of a meter without a serial number nothing else says it."""
        values = house.claims(Kind.READING)[-1].values
        house.spool.append([house.writer._chain.exchange("house", house.clock.instant, "", values, "", values)])
        house.restart(ended=ended)
        house.counts_anew = lambda counted: counted // 2
        house.minutes(3)
        assert (house.events(), house.qualities(-1)) == ([], {0})

    @pytest.mark.parametrize("overrides", [Overrides(ratio=(5, -1)), Overrides(scale=(5, -1))])
    def test_another_configuration(self, house: Town, overrides: Overrides) -> None:
        """What was read half as much is no fall: neither now, nor when the meter was not there in between."""
        (bus,) = house.settings.buses
        house.meter = replace(house.meter, overrides=overrides)
        house.settings = replace(house.settings, buses=(replace(bus, meters=(house.meter,)),))
        house.fail()
        house.restart()
        house.minutes(2)
        house.restart()
        house.recover()
        house.minutes(3)
        assert house.claims(Kind.READING)[-1].status is None
        assert (house.events(), house.qualities(-1)) == ([], {0})

    @pytest.mark.parametrize(
        ("clock", "expected"),
        [(ClockStatus.SYNCHRONISED, [EventCode.JUMP_ABOVE_RATING]), (ClockStatus.INFORMATIVE, [])],
    )
    def test_a_jump_is_one_only_when_the_time_is_known(
        self, house: Town, clock: ClockStatus, expected: list[EventCode], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The machine was off, and before the network is there its clock is where it stood."""
        monkeypatch.setattr(writers, "boot_id", lambda: "another")
        house.clock.instant = replace(house.clock.instant, boot_ms=5_000, clock=clock)
        house.restart(away_min=0)
        house.counts_anew = lambda counted: 2 * counted
        house.minutes(3)
        assert house.events() == expected

    def test_a_clock_that_was_set_back(self, house: Town, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fall is one; a growth says nothing."""
        monkeypatch.setattr(writers, "boot_id", lambda: "another")
        house.restart(away_min=0)
        now = house.clock.instant
        house.clock.instant = replace(now, utc_ms=now.utc_ms - 2 * MINUTE_MS, boot_ms=5_000)
        house.counts_anew = lambda counted: 2 * counted
        house.reader._read(house.meter, START_MS + 10 * MINUTE_MS, time.monotonic_ns() // 1_000_000 + MINUTE_MS)
        house.store()
        assert house.events() == []
