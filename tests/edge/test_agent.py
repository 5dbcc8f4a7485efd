"""The whole agent as a process: meters that are not there, threads that die or hang, disks that fail, the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge import export, status
from edge.agent import EXIT_BUG, EXIT_SILENT, EXIT_STORE
from edge.config import Config
from edge.environment import load_trust
from edge.spool_read import SpoolReader
from hw_sim.faults import Fault
from hw_sim.line import LineTiming
from signer import statement
from signer.codes import BootReason, Kind
from signer.statement import Claims
from signer.verify import verify
from tests.edge.places import Meters, bus_toml, make_folder, write_config

PERIOD_MS = 200


class Running:
    """A running agent.

    Attributes:
        process: it.
        log: what it says, once it has ended.
    """

    def __init__(self, folder: Path, trick: str = "", environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        code = f"import sys; sys.argv = ['agent', {str(folder)!r}, '{PERIOD_MS}']\n{trick}\n"
        code += "from tests.edge.agent_process import main\nsys.exit(main())"
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        self.log = ""

    def until_stored(self, statements: int) -> float:
        """Wait for so many statements; seconds since the process began."""
        assert self.process.stdout is not None
        for _ in range(statements):
            assert self.process.stdout.readline(), self.finish()
        return time.monotonic() - self.began

    def until_stream(self, number: int) -> None:
        """Wait until the ``number``-th stream since now has begun."""
        assert self.process.stdout is not None
        seen: set[str] = set()
        while len(seen) < number:
            line = self.process.stdout.readline()
            assert line, self.finish()
            seen.add(line.split()[0])

    def end(self, number: int = signal.SIGTERM) -> float:
        """Ask it to end; how long that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.finish()
        return time.monotonic() - began

    def finish(self) -> str:
        self.log += self.process.communicate(timeout=60)[1]
        return self.log


@contextmanager
def running(folder: Path, trick: str = "", **more: Any) -> Iterator[Running]:
    agent = Running(folder, trick, **more)
    try:
        yield agent
    finally:
        if agent.process.poll() is None:
            agent.process.kill()
            agent.process.communicate()


def claims_of(settings: Config) -> list[Claims]:
    reader = SpoolReader.read(settings.spool)
    found = [statement.parse(message) for _, message in reader.statements(reader.streams()[-1].number)]
    reader.close()
    return found


def site(folder: Path, *buses: str, more: str = "") -> Config:
    make_folder(folder)
    return write_config(folder, "\n".join(buses), more)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_from_meters_to_receipts_and_evidence(tmp_path: Path) -> None:
    with Meters(2) as meters:
        settings = site(tmp_path, bus_toml(meters.port, "house", "pv"))
        with running(tmp_path) as agent:
            agent.until_stored(20)
            assert agent.end() < 3
        assert agent.process.returncode == 0, agent.log
        assert "Traceback" not in agent.log
    folder = tmp_path / "evidence"
    done = export.export(settings.spool, folder, load_trust(settings)[0])
    report = verify(folder)
    assert report.ok, report.failures
    assert (report.statements, report.missing_maps) == (done.statements, ())
    assert set(report.slots) == {"house", "pv"}
    assert all(point.read > 3 and point.failed == 0 for point in report.slots.values())
    assert done.receipts >= 4


def test_a_meter_that_is_away_gets_its_slots_all_the_same(tmp_path: Path) -> None:
    with Meters(1) as meters:
        settings = site(tmp_path, bus_toml(meters.port, "house"), bus_toml(closed_port(), "away"))
        with running(tmp_path) as agent:
            agent.until_stored(16)
            agent.end()
        assert "meter away gives no values" in agent.log
        assert agent.log.count("meter away") == 1, "a state that lasts is silent"
    found = claims_of(settings)
    away = [claims for claims in found if claims.sub == "away"]
    assert away[0].kind == Kind.DESCRIPTOR
    assert away[0].body[13][5] == ""
    assert all(claims.status is not None and not claims.values for claims in away[1:] if claims.kind == Kind.READING)
    house = [claims for claims in found if claims.sub == "house" and claims.kind == Kind.READING]
    assert all(claims.status is None and len(claims.values) > 10 for claims in house)
    slots = [claims.slot_ms for claims in house]
    assert len(set(slots)) == len(slots)


def test_a_serial_port_that_does_not_exist_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    serial = '[[bus]]\nserial = "/dev/ttyNONE"\n[[bus.meter]]\nname = "cellar"\nmodel = "eastron_sdm630"\nunit = 1'
    with Meters(1) as meters:
        settings = site(tmp_path, bus_toml(meters.port, "house"), serial)
        with running(tmp_path) as agent:
            agent.until_stored(16)
            agent.end()
        assert agent.process.returncode == 0
        assert "/dev/ttyNONE" in agent.log
    statuses = {claims.sub: claims.status for claims in claims_of(settings) if claims.kind == Kind.READING}
    assert statuses["house"] is None
    assert statuses["cellar"] is not None


def test_it_ends_soon_while_a_meter_keeps_silent(tmp_path: Path) -> None:
    with Meters(1, [Fault(kind="silent", meter="*")]) as meters:
        site(tmp_path, bus_toml(meters.port, "house"))
        with running(tmp_path) as agent:
            agent.until_stored(3)
            assert agent.end() < 4  # 2 s, and room for a busy machine
        assert agent.process.returncode == 0, agent.log


def test_a_second_agent_is_told_so(tmp_path: Path) -> None:
    with Meters(1) as meters:
        site(tmp_path, bus_toml(meters.port, "house"))
        with running(tmp_path) as first:
            first.until_stored(2)
            with running(tmp_path) as second:
                assert "in use by another process" in second.finish()
                assert second.process.returncode == 1
            first.end()


class TestTheWatchdog:
    def start_again(self, folder: Path) -> BootReason:
        """The reason that the next start gives."""
        with running(folder) as agent:
            agent.until_stored(1)
            agent.end()
        boots = [claims for claims in claims_of(write_again(folder)) if claims.kind == Kind.BOOT]
        return BootReason(boots[-1].body[13][1])

    def test_a_thread_that_raised_ends_the_process(self, tmp_path: Path) -> None:
        trick = "import edge.reader as r\ndef bad(self): raise RuntimeError('a bug')\nr.Reader._turn = bad"
        with Meters(1) as meters:
            site(tmp_path, bus_toml(meters.port, "house"))
            with running(tmp_path, trick) as agent:
                log = agent.finish()
                assert agent.process.returncode == EXIT_BUG
                assert "RuntimeError: a bug" in log
            assert self.start_again(tmp_path) == BootReason.CRASH

    def test_a_thread_that_hangs_ends_the_process(self, tmp_path: Path) -> None:
        trick = (
            "import edge.agent as a, edge.reader as r, time\nr.PATIENCE_S = a._REOPEN_S = 0.5\n"
            "def hang(self): time.sleep(60)\nr.Reader._turn = hang"
        )
        with Meters(1) as meters:
            site(tmp_path, bus_toml(meters.port, "house"))
            with running(tmp_path, trick) as agent:
                log = agent.finish()
                assert agent.process.returncode == EXIT_SILENT
                assert "has been silent for too long" in log
            assert self.start_again(tmp_path) == BootReason.WATCHDOG

    @pytest.mark.parametrize("kind", ["tcp", "serial"])
    def test_a_bus_that_hangs_on_its_line_gets_it_opened_again(self, tmp_path: Path, kind: str) -> None:
        """A read that blocks for ever, with no time limit: planted, since none of ours does."""
        mark, link = tmp_path / "hang", tmp_path / "port"
        meters = Meters(1)
        victim, bus = f"127.0.0.1:{meters.port}", bus_toml(meters.port, "house")
        if kind == "serial":
            meters.wire.pty(link, meters.stations, LineTiming(38400))
            bus = bus.replace(f'tcp = "{victim}"', f'serial = "{link}"\nbaud = 38400')
            victim = str(link)
        with meters, Meters(1) as others:
            trick = (
                "import os, pathlib, termios, drivers.line as l, edge.reader as r\n"
                f"r.PATIENCE_S, mark = 1.5, pathlib.Path({str(mark)!r})\n"
                "def wait(self, wait_s, real=l.Line.wait):\n"
                f"    if str(self.endpoint) == {victim!r} and wait_s > 0 and mark.exists():\n"
                "        mark.unlink()\n"
                "        os.set_blocking(self.fd, True)\n"
                "        if os.isatty(self.fd):\n"
                "            mode = termios.tcgetattr(self.fd)\n"
                "            mode[6][termios.VMIN] = 1\n"
                "            termios.tcsetattr(self.fd, termios.TCSANOW, mode)\n"
                "        while os.read(self.fd, 512): pass\n"
                "    return real(self, wait_s)\n"
                "l.Line.wait = wait"
            )
            settings = site(tmp_path, bus, bus_toml(others.port, "other"))
            with running(tmp_path, trick) as agent:
                agent.until_stored(12)
                mark.touch()
                agent.until_stored(40)
                agent.end()
                assert agent.process.returncode == 0, agent.log
                assert "its line is closed under it" in agent.log
        folder = tmp_path / "evidence"
        export.export(settings.spool, folder, load_trust(settings)[0])
        report = verify(folder)
        assert report.ok, report.failures
        assert report.slots["house"].gap >= 3, "what was missed meanwhile is signed"
        last = [claims for claims in claims_of(settings) if claims.kind == Kind.READING and claims.sub == "house"][-3:]
        assert all(claims.status is None for claims in last), "and it reads again"
        assert (report.slots["other"].gap, report.slots["other"].failed) == (0, 0), "the other bus lost no slot"

    def test_a_damaged_spool_is_set_aside_by_the_next_start(self, tmp_path: Path) -> None:
        trick = (
            "import edge.sender as s\nfrom edge.database import SpoolDamaged\n"
            "def bad(self): raise SpoolDamaged('spool.db: page 7')\ns.Sender._turn = bad"
        )
        with Meters(1) as meters:
            settings = site(tmp_path, bus_toml(meters.port, "house"))
            with running(tmp_path, trick) as agent:
                assert "page 7" in agent.finish()
                assert agent.process.returncode == EXIT_STORE
            with running(tmp_path) as again:
                again.until_stored(6)
                again.end()
                assert "was set aside as" in again.log
        genesis = claims_of(settings)[0]
        assert genesis.kind == Kind.GENESIS
        assert 3 in genesis.body[13], "the new stream names the old one"
        assert list(tmp_path.glob("spool.db.set-aside-*"))


def write_again(folder: Path) -> Config:
    from edge import config

    return config.load(folder / "aigeco.toml")


def test_a_failing_disk_ends_the_process(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    with Meters(1) as meters:
        site(tmp_path, bus_toml(meters.port, "house"))
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(tmp_path / "spool.db-wal")]
        command += ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=7+"]
        done = subprocess.run(
            [*command, sys.executable, "-m", "tests.edge.agent_process", str(tmp_path), str(PERIOD_MS)],
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == EXIT_STORE, done.stderr.decode()
    assert b"disk I/O error" in done.stderr
    stored = [line.split() for line in done.stdout.decode().splitlines()]
    reader = SpoolReader.read(tmp_path / "spool.db")
    held = {seq: statement.parse(message).sid.hex() for seq, message in reader.statements(1)}
    assert stored
    assert all(held[int(seq)] == sid for _, seq, sid in stored)


def test_others_can_see_how_it_is(tmp_path: Path) -> None:
    with Meters(2) as meters:
        settings = site(tmp_path, bus_toml(meters.port, "house", "pv"), bus_toml(closed_port(), "away"))
        with running(tmp_path) as agent:
            agent.until_stored(30)
            deadline = time.monotonic() + 20
            while (seen := status.read(settings.status_path)) is None or not seen["spool"]["committed"]:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            reader = SpoolReader.read(settings.spool)
            newest = status.latest(reader)
            reader.close()
            agent.end()
        last = status.read(settings.status_path)
    assert seen["running"]
    assert seen["gateway"] == "home-1"
    meters_seen = {meter["name"]: meter for meter in seen["meters"]}
    assert (meters_seen["house"]["status"], meters_seen["house"]["trouble"]) == (None, "")
    assert meters_seen["away"]["status"] is not None
    assert meters_seen["away"]["trouble"]
    assert sum(meters_seen["house"]["latencies"]) == meters_seen["house"]["answers"] > 0
    assert (meters_seen["house"]["failures"], meters_seen["house"]["timeouts"]) == (0, 0)
    assert set(seen["threads"]) == {"writer", "sender", *(f"bus {bus.name}" for bus in settings.buses)}
    assert all(0 <= silent_s < 20 for silent_s in seen["threads"].values())
    assert seen["overdue"] == {}, "every thread keeps its promise"
    assert seen["spool"]["cadence"] == "normal"
    assert set(newest) == {"house", "pv", "away"}
    assert len(newest["house"].values) > 10
    assert last is not None
    assert last["stopped"]
    assert not last["running"]
    json.dumps(last)


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with Meters(1) as meters, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(path))
        line.settimeout(20)
        site(tmp_path, bus_toml(meters.port, "house"))
        environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "2000000"}
        with running(tmp_path, environment=environment) as agent:
            agent.until_stored(8)
            heard = {line.recv(200).split(b"=")[0] for _ in range(4)}
            agent.end()
            line.setblocking(False)
            try:
                while True:
                    heard.add(line.recv(200).split(b"=")[0])
            except BlockingIOError:
                pass
    assert heard == {b"READY", b"WATCHDOG", b"STATUS", b"STOPPING"}


def test_the_first_statement_is_soon_there(tmp_path: Path) -> None:
    with Meters(1) as meters:
        site(tmp_path, bus_toml(meters.port, "house"))
        with running(tmp_path) as agent:
            assert agent.until_stored(1) < 6  # 2 s is the goal; a test must bear a busy machine
            agent.end()


def test_the_clock_is_set_back_and_forth_while_it_runs(tmp_path: Path) -> None:
    """Two hours back: a stream by the new time; forth again: a gap. All of it delivered, every slot accounted for."""
    step = tmp_path / "step"
    trick = (
        "import pathlib, edge.host as h, edge.reader as r, edge.setback as s\n"
        "s.HOLD_S = s.UNSURE_HOLD_S = 0.5\n"
        "r._LONGEST_WAIT_S = 0.2\n"
        f"step = pathlib.Path({str(step)!r})\n"
        "def look(self, real=h.Clock._look):\n"
        "    utc_ms, boot_ms = real(self)\n"
        "    return utc_ms + int(step.read_text()), boot_ms\n"
        "h.Clock._look = look"
    )

    def set_clock(by_ms: int) -> None:
        new = tmp_path / "step.new"
        new.write_text(str(by_ms))
        new.replace(step)

    set_clock(0)
    with Meters(1) as meters:
        settings = site(tmp_path, bus_toml(meters.port, "house"))
        with running(tmp_path, trick) as agent:
            agent.until_stored(8)
            set_clock(-7_200_000)
            agent.until_stream(2)
            agent.until_stored(8)
            set_clock(0)
            agent.until_stored(8)
            agent.end()
            assert agent.process.returncode == 0, agent.log
            assert "set back by 2 h; slots are counted anew" in agent.log
    export.export(settings.spool, tmp_path / "evidence", load_trust(settings)[0])
    report = verify(tmp_path / "evidence")
    assert report.ok, report.failures
    assert report.streams[1].set_back_ms == pytest.approx(7_200_000, abs=500)
    assert report.slots["house"].jumped > 30_000, "two hours of 200 ms"
    assert report.receipts["Org1MSP"].statements >= report.streams[0].statements, "the old stream was delivered"
