"""Whatever a technician does, nothing is written to a device: every request of every command is looked at."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drivers.map import load
from hw_sim import frames
from hw_sim.device import MapDevice
from hw_sim.readback import specimens
from hw_sim.station import Station
from hw_sim.wire import Wire
from signer.codes import Kind
from tests.cli.test_commission import MODEL, WHO, claims_of
from tests.edge.places import Meters, make_folder, write_config
from tests.edge.test_agent import running

Aigeco = Callable[..., Any]
READS = {3, 4}  # Application Protocol 6.3 and 6.4: what identifies a device is read with them too


@dataclass
class Tap:
    """A host with a meter, an inverter and a device that nobody knows; keeps every request, whoever it is for."""

    framing: str
    seen: list[frames.Adu] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meters = Meters(1, model=MODEL)
        self.meters.wire.close()  # they are behind a port of ours
        inverter = next(specimens(load("fronius_sunspec"))).device
        unknown = MapDevice(self.meters.devices[0].map, lambda at_s: {}, "0", {(3, 0xFC02): b"\0\0"})
        whole = frames.TCP if self.framing == "tcp" else frames.RTU

        def cut(buffer: bytearray) -> frames.Adu | None:
            adu = whole.cut(buffer)
            if adu is not None:
                self.seen.append(adu)
            return adu

        self.wire = Wire()
        stations = [self.meters.stations[0], Station("inverter", 2, inverter), Station("unknown", 3, unknown)]
        recording = frames.Framing(whole.name, cut, whole.wrap)
        self.address = f"127.0.0.1:{self.wire.tcp('127.0.0.1', 0, stations, recording).port}"
        self.wire.start()

    @property
    def only_reads(self) -> bool:
        """Whether all of it was requests to read: function, address and count, nothing more."""
        return all(adu.pdu[0] in READS and len(adu.pdu) == 5 for adu in self.seen)


@pytest.fixture(params=["tcp", "rtu"])
def tap(request: pytest.FixtureRequest) -> Iterator[Tap]:
    made = Tap(request.param)
    yield made
    made.wire.close()


def test_no_command_writes_to_a_device(aigeco: Aigeco, tap: Tap, tmp_path: Path) -> None:
    make_folder(tmp_path)
    settings = write_config(tmp_path)
    line = ("--tcp", tap.address, "--framing", tap.framing)

    def done(count: int, *arguments: object, code: int | None = 0) -> None:
        """Runs a command, which asks at least that much; ``code`` None: how it ends does not matter."""
        before = len(tap.seen)
        outcome = aigeco(*arguments)
        assert code in (outcome.code, None), outcome.err
        assert len(tap.seen) >= before + count
        assert tap.only_reads, (arguments, {adu.pdu[0] for adu in tap.seen})

    done(50, "scan", *line, "--units", "1-3")
    done(2, "read", MODEL, *line, "--unit", 1, "--dump", tmp_path / "dump.yaml")
    done(1, "read", MODEL, *line, "--unit", 9, code=4)
    done(2, "commission", "house", *line, "--unit", 1, "--model", MODEL, "--config", settings.path, *WHO, "--yes")
    with running(tmp_path) as agent:
        agent.until_stored(4)
        done(10, "commission", "sun", *line, "--unit", 2, "--config", settings.path, *WHO, "--anyway", "--yes")
        done(0, "doctor", "--config", settings.path, code=None)
        agent.end()
    tap.meters.exchange(0, "20000002")
    done(2, "replace", "house", "--config", settings.path, "--yes")
    done(0, "doctor", "--config", settings.path, code=None)
    assert {Kind.COMMISSION, Kind.EXCHANGE, Kind.READING} <= {each.kind for each in claims_of(settings)}


@pytest.mark.parametrize("function", [5, 6, 15, 16, 22, 23, 43])
def test_a_request_that_writes_would_be_noticed(tap: Tap, function: int) -> None:
    bodies = {15: "0000 0008 01 ff", 16: "0000 0001 02 0001", 22: "0000 ffff 0001", 43: "0e 01 00"}
    bodies[23] = "0000 0001 0000 0001 02 0001"
    pdu = bytes([function]) + bytes.fromhex(bodies.get(function, "0000 0001"))
    host, port = tap.address.split(":")
    whole = frames.TCP if tap.framing == "tcp" else frames.RTU
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(whole.wrap(frames.Adu(1, pdu, 1)))
        assert client.recv(100)
    assert not tap.only_reads
