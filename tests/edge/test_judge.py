"""From a faulty meter on a wire to signed flags and events: reader, judge, writer and verifier, hours in a second."""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from drivers import map as maps
from drivers.obis import pack
from drivers.reading import Quality
from edge import export, status
from edge.cli.main import cli
from edge.config import Config, Meter
from edge.environment import load_trust
from edge.host import Clock
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
from signer.codes import EventCode, Kind
from signer.statement import Claims, Instant
from signer.verify import verify
from tests.edge.places import MODEL, bus_toml, identity_of, make_folder, write_config

MINUTE_MS = 60_000
# Certificates are made for the run, so statements are of today; what the home does is always that of one noon.
START_MS = time.time_ns() // 1_000_000 // MINUTE_MS * MINUTE_MS
NOON_MS = 1_782_036_000_000
_NEVER_S = 1e6


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

    def __init__(self, folder: Path, fault: Fault) -> None:
        make_folder(folder)
        self.clock, self.state = SetClock(), State()
        home = Home(Household("home", 7, 3, 100, Roof(5_000, 4_600)), NOON_MS - 60 * MINUTE_MS)
        device = MapDevice(
            maps.load(MODEL),
            lambda at_s: {"": home.quantities("grid", NOON_MS + self.clock.instant.utc_ms - START_MS)},
            refresh_s=1e-6,
        )
        self.station = Station("house", 1, device, 0.0, [fault])
        self.wire = Wire()
        port = self.wire.tcp("127.0.0.1", 0, [self.station]).port
        self.wire.start()
        self.recover()
        self.settings: Config = write_config(folder, bus_toml(port, "house", period_s=60) + "\nrated_current = 63")
        self.meter: Meter = self.settings.buses[0].meters[0]
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
            self.settings.buses[0], self.settings, {}, self.items, self.clock, self.state, Pulse("bus")
        )

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
