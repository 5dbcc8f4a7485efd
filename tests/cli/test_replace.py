"""``aigeco replace``: the last of the old meter and the first of the new one, with and without a running gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.reading import Status
from edge import site
from edge.config import Config
from hw_sim.device import MapDevice
from hw_sim.wire import Wire
from signer.codes import Kind
from tests.cli.test_commission import MODEL, claims_of, holds, one_meter, write_site
from tests.edge.places import Meters, bus_toml, make_folder, write_config
from tests.edge.test_agent import running

Aigeco = Callable[..., Any]


@pytest.fixture
def meters() -> Iterator[Meters]:
    yield from one_meter()


@pytest.fixture
def settings(tmp_path: Path, meters: Meters) -> Config:
    return write_site(tmp_path, meters)


def test_with_the_gateway_stopped(aigeco: Aigeco, settings: Config, meters: Meters, tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        agent.until_stored(8)
        agent.end()
    last = [each for each in claims_of(settings) if each.kind == Kind.READING][-1]
    meters.exchange(0, "20000002")
    done = aigeco("replace", "house", "--config", settings.path, "--yes")
    assert done.code == 0, done.err
    assert "10000001" in done.out
    exchange, descriptor = claims_of(settings)[-2:]
    assert (exchange.kind, descriptor.kind) == (Kind.EXCHANGE, Kind.DESCRIPTOR)
    body = exchange.body[13]
    assert (body[1], body[3], descriptor.body[13][5]) == ("10000001", "20000002", "20000002")
    assert body[2] == last.body[11]
    assert len(body[4]) > 10
    with site.Site(site.place(settings.spool)) as documents:
        assert documents.all(site.EXCHANGE)[0]["serial"] == "20000002"
    with running(tmp_path) as agent:
        agent.until_stored(8)
        agent.end()
    after = [each for each in claims_of(settings) if each.kind == Kind.READING and each.seq > exchange.seq]
    assert after
    assert {each.status for each in after} == {None}
    holds(settings, tmp_path / "evidence")
    again = aigeco("replace", "house", "--config", settings.path, "--yes")
    assert again.code == 1
    assert f"recorded already, seq {exchange.seq}" in again.err


def test_beside_the_running_gateway(aigeco: Aigeco, settings: Config, meters: Meters, tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        agent.until_stored(8)
        meters.close()
        time.sleep(0.5)
        with _at(meters.port, "20000002"):
            deadline = time.monotonic() + 20
            while not any(each.body[13][5] == "20000002" for each in claims_of(settings) if each.kind == 6):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            done = aigeco("replace", "house", "--config", settings.path, "--json")
            assert done.code == 0, done.err
            agent.until_stored(6)
            agent.end()
    shown = json.loads(done.out)
    found = claims_of(settings)
    (exchange,) = [each for each in found if each.kind == Kind.EXCHANGE]
    assert exchange.seq == shown["statements"][0]["seq"]
    assert (exchange.body[13][1], exchange.body[13][3]) == ("10000001", "20000002")
    assert found[exchange.seq + 1].kind == Kind.DESCRIPTOR
    assert found[exchange.seq + 1].body[13][5] == "20000002"
    changed = next(each.seq for each in found if each.kind == 6 and each.body[13][5] == "20000002")
    old = [each for each in found if each.kind == Kind.READING and each.values and each.seq < changed][-1]
    assert exchange.body[13][2] == old.body[11]
    after = [each for each in found if each.kind == Kind.READING and each.seq > exchange.seq]
    assert after
    assert Status.EXCHANGED not in {each.status for each in after}
    assert holds(settings, tmp_path / "evidence").slots["house"].missing == 0


def test_the_same_meter_is_not_its_own_successor(aigeco: Aigeco, settings: Config, tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        agent.until_stored(6)
        agent.end()
    done = aigeco("replace", "house", "--config", settings.path, "--yes")
    assert done.code == 1
    assert "10000001 is the one it has been" in done.err
    assert all(each.kind != Kind.EXCHANGE for each in claims_of(settings))


def test_a_first_meter_replaces_nothing(aigeco: Aigeco, settings: Config) -> None:
    done = aigeco("replace", "house", "--config", settings.path, "--yes")
    assert done.code == 6
    assert "there is no spool" in done.err


def test_another_serial_number_than_the_device_says(aigeco: Aigeco, settings: Config) -> None:
    done = aigeco("replace", "house", "--config", settings.path, "--yes", "--new-serial", "7")
    assert done.code == 2
    assert "10000001" in done.err


def _at(port: int, serial: str) -> Meters:
    """Another meter at the same place on the line."""
    found = Meters(1, model=MODEL)
    found.wire.close()
    device = found.devices[0]
    found.stations[0]._device = MapDevice(device.map, device._source, serial=serial)
    found.wire = Wire()
    found.wire.tcp("127.0.0.1", port, found.stations)
    return found


class TestWithoutSerialNumbers:
    """A model that has none to read: the newest interruption is the border, and people name the meters."""

    @pytest.fixture
    def meters(self) -> Iterator[Meters]:
        with Meters(1) as found:
            yield found

    @pytest.fixture
    def settings(self, tmp_path: Path, meters: Meters) -> Config:
        make_folder(tmp_path)
        return write_config(tmp_path, bus_toml(meters.port, "house"))

    def test_named(self, aigeco: Aigeco, settings: Config, tmp_path: Path) -> None:
        with running(tmp_path) as agent:
            agent.until_stored(8)
            agent.end()
        last = [each for each in claims_of(settings) if each.kind == Kind.READING][-1]
        names = ("--old-serial", "A-1", "--new-serial", "B-2")
        done = aigeco("replace", "house", "--config", settings.path, *names, "--yes")
        assert done.code == 0, done.err
        exchange = claims_of(settings)[-2]
        assert (exchange.body[13][1], exchange.body[13][3]) == ("A-1", "B-2")
        assert exchange.body[13][2] == last.body[11]
        holds(settings, tmp_path / "evidence")

    def test_nothing_was_interrupted(self, aigeco: Aigeco, settings: Config, tmp_path: Path) -> None:
        with running(tmp_path) as agent:
            agent.until_stored(6)
            done = aigeco("replace", "house", "--config", settings.path, "--yes")
            agent.end()
        assert done.code == 1
        assert "nothing was interrupted" in done.err
