"""``aigeco run`` as a process: it measures, ends cleanly, imports nothing for people only, and says what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.map import load
from drivers.obis import pack
from hw_sim.device import MapDevice
from hw_sim.station import Station
from hw_sim.wire import Wire

Aigeco = Callable[..., Any]
TOP = Path(__file__).parents[2]

ONLY_FOR_PEOPLE = {"click", "rich", "yaml", "pygments", "markdown_it", "hypothesis", "pytest", "pymodbus", "asyncio"}


@pytest.fixture
def meter(site: Any) -> Iterator[None]:
    """A simulated SDM630 where the site's configuration looks for it, read every second."""
    house = {"": {pack("1.8.0"): 9_123_510_000_000}}
    with_house = MapDevice(load("eastron_sdm630"), lambda at_s: house, serial="2107345")
    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, [Station("meter", 1, with_house)])
    wire.start()
    site.change("127.0.0.1:1502", f"127.0.0.1:{port.port}")
    site.change("period_s = 60", "period_s = 1")
    yield
    wire.close()


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge.cli.main", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )


def refusal(config: Path, code: int) -> list[str]:
    """What a run that cannot begin says."""
    process = start(config)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return err.splitlines()


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str], patience_s: float = 30.0) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_the_first_reading_to_the_auditor(
    aigeco: Aigeco, site: Any, meter: None, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(site.config)
    try:

        def status() -> dict[str, Any]:
            return json.loads(aigeco("status", "--config", site.config, "--json").out or "{}")

        def has_read() -> bool:
            found = status() if (site.folder / "spool.db").exists() else {}
            return bool(found.get("running")) and found["meters"][0]["status"] == "good"

        wait_until(has_read, process)
        command = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        process.send_signal(number)
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out == ""
    assert command[1:] == ["-P", "-m", "edge.process", str(site.config), ""], "the gateway itself, in the same process"
    assert status()["running"] is False
    assert aigeco("export", "--config", site.config, "--out", tmp_path / "out").code == 0
    verified = aigeco("verify", tmp_path / "out")
    assert verified.code == 0, verified.out
    assert "every slot accounted for" in verified.out


def test_the_gateway_carries_nothing_that_only_people_need(python: Callable[..., Any]) -> None:
    """What its process has imported it keeps for as long as it runs."""
    outcome = python("import json, sys, edge.process, edge.agent; print(json.dumps(sorted(sys.modules)))")
    assert outcome.code == 0, outcome.err
    assert ONLY_FOR_PEOPLE.isdisjoint(json.loads(outcome.out))


def test_two_gateways_on_one_store(site: Any, meter: None) -> None:
    process = start(site.config)
    try:
        wait_until((site.folder / "spool.db.status.json").exists, process)
        (words,) = [line for line in refusal(site.config, 6) if line.startswith("error: ")]
        assert str(process.pid) in words
    finally:
        process.terminate()
        process.communicate(timeout=15)


def test_a_missing_key_is_never_made(site: Any) -> None:
    (site.folder / "gateway.pem").unlink()
    words, advice = refusal(site.config, 5)
    assert words.startswith("error: ")
    assert "gateway.pem" in words
    assert "aigeco keys create" in advice
    assert not (site.folder / "gateway.pem").exists()
    assert not (site.folder / "spool.db").exists()


def test_a_world_readable_key(site: Any) -> None:
    (site.folder / "gateway.pem").chmod(0o644)
    words, advice = refusal(site.config, 5)
    assert "0644" in words
    assert "chmod 600" in advice
    assert not (site.folder / "spool.db").exists()


def test_a_wrong_configuration_is_said_whole(site: Any) -> None:
    site.change("unit = 1", "unit = 1000\ncolour = 1")
    said = "\n".join(refusal(site.config, 3))
    assert f"error: {site.config}: 2 problems" in said
    assert "bus[0].meter[0].unit: 1000" in said
    assert "bus[0].meter[0].colour" in said
    assert said.count("try: ") == 2


def test_no_configuration(aigeco: Aigeco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = aigeco("run")
    assert asked.code == 3
    assert "no configuration" in asked.problem[0]
