"""A client that nobody here wrote reads the simulator: mbpoll, which is libmodbus."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.map import load
from hw_sim.home import Household
from hw_sim.line import LineTiming
from hw_sim.running import Running
from hw_sim.site import Device, Line, Site
from hw_sim.sun import Roof

MBPOLL = shutil.which("mbpoll")
START_MS = 1_782_036_000_000
LINES = {
    "tcp": lambda folder: Line("line", ("127.0.0.1", 0), "tcp", None, None, (METER, SECOND)),
    "pty": lambda folder: Line("line", None, "rtu", folder / "tty", LineTiming(19200, "E"), (METER, SECOND)),
}
METER = Device("meter", load("eastron_sdm630"), 1, "home", "grid", latency_ms=5)
SECOND = Device("second", load("eastron_sdm630"), 7, "home", "pv", serial="12345678", latency_ms=5)

pytestmark = pytest.mark.skipif(MBPOLL is None, reason="mbpoll is not installed (apt install mbpoll)")


@pytest.fixture(params=LINES)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    home = Household("home", 1, 3, 100, Roof(5_000, 4_600))
    with Running(Site(1, START_MS, 0.001, (home,), (LINES[request.param](tmp_path),), ())) as running:
        yield running


def mbpoll(running: Running, unit: int, *what: str) -> dict[int, str]:
    """Reference (1-based address) -> value as it was printed."""
    host, _, port = running.address("line").rpartition(":")
    where = ["-m", "tcp", "-p", port, host] if host else ["-m", "rtu", "-b", "19200", "-P", "even", port]
    command = [str(MBPOLL), "-0", "-q", "-1", "-a", str(unit), *what, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {int(place): value for place, value in re.findall(r"^\[(\d+)\]:\s+(\S+)", done.stdout, re.MULTILINE)}


def test_it_reads_the_quantities(running: Running) -> None:
    read = mbpoll(running, 1, "-t", "3:float", "-B", "-r", "0", "-c", "9")
    shown = running.devices[0]
    assert shown.meter is not None
    assert shown.meter.shown is not None
    by_address = {register.address: register.key for register in shown.meter.map.registers}
    assert list(read) == list(range(0, 18, 2))
    for address, text in read.items():
        value = shown.meter.shown[""][by_address[address]] / 1_000_000
        assert float(text) == pytest.approx(value, rel=1e-5, abs=1e-3)  # printed with six digits


def test_it_reads_the_serial_number_of_the_other_unit(running: Running) -> None:
    assert mbpoll(running, 7, "-t", "4:int", "-B", "-r", str(0xFC00), "-c", "1") == {0xFC00: "12345678"}


def test_it_is_told_what_is_not_there(running: Running) -> None:
    with pytest.raises(AssertionError, match="Illegal data address"):
        mbpoll(running, 1, "-t", "3:hex", "-r", "9000", "-c", "2")
