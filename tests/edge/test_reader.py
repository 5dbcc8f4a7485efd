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
from edge.reader import Described, Lost, Reader, Taken
from edge.spool import Position
from edge.state import Cadence, Pulse, State
from tests.edge.places import Meters, bus_toml, make_folder, write_config


class Bench:
    """A reader without its thread."""

    def __init__(self, settings: Config, positions: dict[str, Position] | None = None) -> None:
        self.items: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.state = State()
        self.reader = Reader(
            settings.buses[0], settings, positions or {}, self.items, Clock(), self.state, Pulse("bus")
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
