"""One bus' thread, turn by turn, against simulated meters."""

from __future__ import annotations

import dataclasses
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.reading import Status
from drivers.schedule import Cause
from edge import reader as readers
from edge.config import Config
from edge.host import Clock
from edge.reader import Described, Gone, Lost, Reader, Taken
from edge.spool import Position
from edge.state import Cadence, Pulse, State
from signer.statement import Instant
from tests.edge.places import Meters, bus_toml, make_folder, write_config


class StandingClock(Clock):
    """UTC that only a test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.utc_ms = super().now().utc_ms // 1000 * 1000

    def now(self) -> Instant:
        return dataclasses.replace(super().now(), utc_ms=self.utc_ms)


class Bench:
    """A reader without its thread."""

    def __init__(
        self, settings: Config, positions: dict[str, Position] | None = None, clock: Clock | None = None
    ) -> None:
        self.items: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.state = State()
        self.reader = Reader(
            settings.buses[0], settings, positions or {}, self.items, clock or Clock(), self.state, Pulse("bus")
        )

    def turns(self, items: int) -> list[object]:
        """Turns until so many items came."""
        found: list[object] = []
        deadline = time.monotonic() + 30
        while len(found) < items:
            assert time.monotonic() < deadline, found
            wait_s = self.reader._turn()
            while not self.items.empty():
                found.append(self.items.get())
            time.sleep(min(wait_s, 0.02))
        return found

    def read_all(self) -> None:
        """Turns until nothing is due."""
        while self.reader._turn() == 0:
            pass

    def handed_over(self) -> list[object]:
        """What the writer would find by now."""
        return [self.items.get() for _ in range(self.items.qsize())]


@pytest.fixture
def meters() -> Iterator[Meters]:
    with Meters(2) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, meters: Meters) -> Config:
    make_folder(tmp_path)
    return write_config(tmp_path, bus_toml(meters.port, "house", "pv"))


def kinds(items: list[object]) -> list[str]:
    said = []
    for item in items:
        match item:
            case Described():
                said.append(f"described {item.meter.name}")
            case Taken():
                said.append(f"taken {item.readings[0].sub}")
            case Lost():
                said.append(f"lost {item.meter.name}")
            case Gone():
                said.append(f"gone {' '.join(item.subs)}")
    return said


def test_a_meter_is_described_before_its_first_reading(settings: Config) -> None:
    found = kinds(Bench(settings).turns(6))
    assert found[:4] == ["described house", "taken house", "described pv", "taken pv"]
    assert found[4:] == ["taken house", "taken pv"]


def test_a_slot_that_is_accounted_for_is_not_read_again(settings: Config) -> None:
    soon_ms = (time.time_ns() // 1_000_000 // 1000 + 3) * 1000
    bench = Bench(settings, {name: Position(soon_ms, 1000) for name in ("house", "pv")})
    taken = [item for item in bench.turns(4) if isinstance(item, Taken)]
    assert taken[0].readings[0].slot_ms == soon_ms


def test_slots_that_pass_unread_are_said(settings: Config) -> None:
    bench = Bench(settings)
    bench.turns(4)
    time.sleep(2.1)
    lost = [item for item in bench.turns(4) if isinstance(item, Lost)]
    assert {item.meter.name for item in lost} == {"house", "pv"}
    assert {item.cause for item in lost} == {Cause.OVERLOAD}


def test_the_cadence_falls_and_is_described(settings: Config) -> None:
    settings = dataclasses.replace(settings, settlement_period_ms=2000)
    bench = Bench(settings)
    bench.turns(4)
    bench.state.cadence = Cadence.SETTLEMENT
    found = bench.turns(4)
    assert kinds(found)[:2] in (["described house", "described pv"], ["described pv", "described house"])
    assert {item.period_ms for item in found if isinstance(item, Described)} == {2000}
    slots = [item.readings[0].slot_ms for item in found if isinstance(item, Taken)]
    assert all(slot_ms % 2000 == 0 for slot_ms in slots)


def test_nothing_is_read_while_the_disk_is_full(settings: Config) -> None:
    bench = Bench(settings)
    bench.turns(4)
    bench.state.cadence = Cadence.STOPPED
    time.sleep(1.0)
    assert bench.reader._turn() > 0
    assert bench.items.empty()


def test_what_the_writer_cannot_take_is_dropped_and_told(settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "QUEUE_ITEMS", 3)
    bench = Bench(settings)
    deadline = time.monotonic() + 30
    while bench.state.dropped == 0:
        assert time.monotonic() < deadline
        time.sleep(min(bench.reader._turn(), 0.02))
    kept = [bench.items.get() for _ in range(bench.items.qsize())]
    assert kinds(kept).count("described house") == kinds(kept).count("described pv") == 1, "descriptions are never lost"
    assert "readings are lost" in bench.state.alarms.all()[0]


def test_a_meter_of_another_serial_number_is_described_anew(tmp_path: Path) -> None:
    with Meters(1, model="eastron_sdm630") as meters:
        make_folder(tmp_path)
        text = bus_toml(meters.port, "house").replace("carlo_gavazzi_em330_em340", "eastron_sdm630")
        bench = Bench(write_config(tmp_path, text))
        (first,) = [item for item in bench.turns(3) if isinstance(item, Described)]
        meters.exchange(0, "10000099")
        bench.reader._line.close()
        seen: list[object] = []
        deadline = time.monotonic() + 30
        while not (again := [item for item in seen if isinstance(item, Described)]):
            assert time.monotonic() < deadline
            seen += bench.turns(1)
        assert first.identity is not None
        assert again[0].identity is not None
        assert (first.identity.serial, again[0].identity.serial) == ("10000001", "10000099")
        exchanged = [item for item in seen if isinstance(item, Taken)]
        assert exchanged[0].readings[0].status == Status.EXCHANGED
        assert bench.turns(1)


def test_a_meters_state_is_logged_when_it_changes(
    settings: Config, caplog: pytest.LogCaptureFixture, meters: Meters
) -> None:
    caplog.set_level("INFO", "aigeco")
    bench = Bench(settings)
    bench.turns(4)
    meters.close()
    deadline = time.monotonic() + 30
    while bench.state.meters["pv"].status is None:
        assert time.monotonic() < deadline
        bench.turns(1)
    bench.turns(2)
    words = [record.getMessage() for record in caplog.records if "pv" in record.getMessage()]
    assert len(words) == 1
    assert words[0].startswith("meter pv gives no values: ")


class TestAnotherConfiguration:
    """Taken between two reads; what stays as it was goes on as if nothing had happened."""

    def other(self, settings: Config, buses: str) -> Config:
        return write_config(settings.base, buses)

    def adopt(self, bench: Bench, found: Config) -> list[str]:
        """What is handed over with it, before anything is read."""
        bench.reader._adopt(found.buses[0], found)
        return kinds(bench.handed_over())

    def test_a_meter_more_and_a_meter_less(self, settings: Config, meters: Meters) -> None:
        bench = Bench(settings)
        bench.turns(4)
        line, identity = bench.reader._line, bench.reader._identities["house"]
        assert self.adopt(bench, self.other(settings, bus_toml(meters.port, "house"))) == ["gone pv"]
        assert "pv" not in bench.state.meters
        assert kinds(bench.turns(2)) == ["taken house"] * 2
        assert self.adopt(bench, self.other(settings, bus_toml(meters.port, "house", "roof"))) == []
        assert kinds(bench.turns(4))[:4].count("described roof") == 1
        assert bench.reader._line is line
        assert line.connections == 1
        assert bench.reader._identities["house"] is identity

    def test_a_meter_that_goes_on_elsewhere_is_not_gone(self, settings: Config, meters: Meters) -> None:
        bench = Bench(settings)
        bench.turns(4)
        buses = bus_toml(meters.port, "house") + "\n" + bus_toml(1, "pv")
        assert self.adopt(bench, self.other(settings, buses)) == []

    def test_the_slots_of_a_meter_that_stays_are_complete(self, settings: Config, meters: Meters) -> None:
        """By a clock that stands still while the machine is busy: in each slot something else changes."""
        clock = StandingClock()
        bench = Bench(settings, clock=clock)
        for names in (("house", "pv"), ("house",), ("house", "roof"), ("house",)) * 3:
            now = self.other(settings, bus_toml(meters.port, *names))
            bench.reader._adopt(now.buses[0], now)
            bench.read_all()
            clock.utc_ms += 1000
        found = bench.handed_over()
        readings = [item.readings[0] for item in found if isinstance(item, Taken)]
        slots = [reading.slot_ms for reading in readings if reading.sub == "house"]
        assert slots == list(range(slots[0], slots[0] + 12_000, 1000))
        assert not [item for item in found if isinstance(item, Lost) and item.meter.name == "house"]
        assert kinds(found).count("described house") == 1
        assert bench.reader._line.connections == 1

    def test_another_period_is_described_and_begins_behind_the_last_slot(
        self, settings: Config, meters: Meters
    ) -> None:
        clock = StandingClock()
        clock.utc_ms -= clock.utc_ms % 4000
        bench, first_ms = Bench(settings, clock=clock), clock.utc_ms
        changes = {3000: self.other(settings, bus_toml(meters.port, "house", "pv", period_s=2)), 6000: settings}
        for ms in range(0, 9000, 1000):
            if ms in changes:
                assert sorted(self.adopt(bench, changes[ms])) == ["described house", "described pv"]
            bench.read_all()
            slots = [item.readings[0].slot_ms - first_ms for item in bench.handed_over() if isinstance(item, Taken)]
            due = ms < 3000 or ms == 4000 or ms >= 6000
            assert slots == ([ms, ms] if due else []), ms
            clock.utc_ms += 1000

    def test_on_another_line_a_meter_says_anew_who_it_is(self, settings: Config) -> None:
        """Also when its role is another one: described once, with what it said."""
        bench = Bench(settings)
        bench.turns(4)
        with Meters(1, model="eastron_sdm630") as elsewhere:
            text = bus_toml(elsewhere.port, "house").replace("carlo_gavazzi_em330_em340", "eastron_sdm630")
            assert self.adopt(bench, self.other(settings, text + '\nrole = "storage"')) == ["gone pv"]
            found = bench.turns(2)
            assert kinds(found) == ["described house", "taken house"]
            (described,) = [item for item in found if isinstance(item, Described)]
            assert described.identity is not None
            assert described.identity.serial == "10000001"

    def test_an_end_is_handed_over_though_the_writer_is_behind(
        self, settings: Config, meters: Meters, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = Bench(settings)
        bench.turns(4)
        monkeypatch.setattr(readers, "QUEUE_ITEMS", 0)
        assert self.adopt(bench, self.other(settings, bus_toml(meters.port, "house"))) == ["gone pv"]

    def test_a_line_that_is_gone_ends_its_thread(self, settings: Config) -> None:
        bench = Bench(settings)
        bench.turns(4)
        nothing = dataclasses.replace(settings, buses=())
        bench.reader.change(None, nothing)
        bench.reader.run()
        assert bench.reader.bus is None
        assert kinds([bench.items.get()]) == ["gone house pv"]
        assert bench.state.meters == {}
