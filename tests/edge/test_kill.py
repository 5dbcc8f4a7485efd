"""The real agent killed at random moments: nothing lost, nothing forked, nothing twice.

A process of its own reads simulated meters every 60 ms, signs, stores and delivers to two real embedded ledgers, and is
killed with SIGKILL while it does. What it said it had stored must be there afterwards, and on the ledgers, once.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge import export
from edge.config import Config
from edge.database import SpoolProblem
from edge.environment import load_trust
from edge.spool_read import SpoolReader
from signer import statement
from signer.codes import BootReason, Kind
from signer.verify import verify
from tests.edge.places import ORGANISATIONS, Meters, bus_toml, make_folder, open_ledgers, write_config

PERIOD_MS = 60
METERS = ("house", "pv", "pump")


class Killed:
    """A gateway that is killed again and again.

    Attributes:
        stored: (stream, seq) -> sid, as the processes said.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        make_folder(folder)
        self.settings: Config = write_config(folder, bus_toml(port, *METERS))
        self.stored: dict[tuple[str, int], str] = {}

    def live(self, seconds: float, end: int, early: bool = False) -> int:
        """One life, ended with a signal ``seconds`` after it first stored something (``early``: began); its code."""
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=log)
            assert process.stdout is not None
            said = b"" if early else process.stdout.readline()
            time.sleep(seconds)
            process.send_signal(end)
            said += process.communicate(timeout=30)[0]
        self.take(said)
        return process.returncode

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.edge.agent_process", str(self.folder), str(PERIOD_MS)]

    def take(self, said: bytes) -> None:
        """Remember what a life said that it had stored."""
        for line in said.decode().splitlines():
            stream, seq, sid = line.split(" ")
            if len(sid) == 64:  # the last line may be cut
                assert self.stored.setdefault((stream, int(seq)), sid) == sid, f"seq {seq} was signed twice"

    def check(self) -> None:
        """Everything that was said is there once, on this side and on the other."""
        log = (self.folder / "log").read_text()
        assert "Traceback" not in log, log[-3000:]
        reader = SpoolReader.read(self.settings.spool)
        (stream,) = reader.streams()
        held = {seq: statement.parse(message) for seq, message in reader.statements(stream.number)}
        reader.close()
        assert sorted(held) == list(range(len(held)))
        for (name, seq), sid in self.stored.items():
            assert name == stream.id.hex()
            assert held[seq].sid.hex() == sid, f"seq {seq} is not what was stored"
        self.check_ledgers(stream.id, [held[seq].sid for seq in sorted(held)])
        self.check_evidence()

    def check_ledgers(self, stream: bytes, sids: list[bytes]) -> None:
        ledgers = open_ledgers(self.folder)
        for name, organisation in ledgers.organisations.items():
            file = organisation.ledger.file
            assert file.forks() == [], name
            end = 0
            for commit in file.commits():
                assert (commit.stream, commit.first) == (stream, end)
                end += commit.count
            assert file.sids(stream, 0, end) == sids[:end], name
            assert end == len(sids), f"{name} has {end} of {len(sids)}"
        ledgers.close()

    def check_evidence(self) -> None:
        folder = self.folder / "evidence"
        export.export(self.settings.spool, folder, load_trust(self.settings)[0])
        report = verify(folder)
        assert report.ok, report.failures
        assert report.unreceipted == 0
        assert {sub: point.missing for sub, point in report.slots.items()} == dict.fromkeys(METERS, 0)
        assert set(report.receipts) == set(ORGANISATIONS)


def campaign(folder: Path, lives: int, seed: int) -> Killed:
    choose = random.Random(seed)
    with Meters(len(METERS)) as meters:
        gateway = Killed(folder, meters.port)
        for life in range(lives):
            if life % 6 == 5:  # from before the spool is open
                gateway.live(choose.uniform(0.1, 0.8), signal.SIGKILL, early=True)
            else:  # to well into the third batch
                gateway.live(choose.uniform(0.0, 0.6), signal.SIGKILL)
        code = gateway.live(1.0, signal.SIGTERM)
        assert code == 0, (folder / "log").read_text()[-3000:]
        settle(gateway)
    return gateway


def settle(gateway: Killed) -> None:
    """One more life without meters' time pressure delivers what the last one had just stored."""
    from edge.spool import Spool
    from tests.edge.places import direct

    spool = Spool.open(gateway.settings.spool, gateway.settings.gateway, 0)
    uplink = direct(gateway.settings, open_ledgers(gateway.folder))
    while (batch := spool.next_batch()) is not None:
        spool.settle(batch, uplink.deliver(batch, 1.0))
    spool.close()


@pytest.mark.timeout(180)
def test_twelve_kills(tmp_path: Path) -> None:
    gateway = campaign(tmp_path, 12, seed=1)
    gateway.check()
    reader = SpoolReader.read(gateway.settings.spool)
    claims = [statement.parse(message) for _, message in reader.statements(1)]
    reasons = [claim.body[13][1] for claim in claims if claim.kind == Kind.BOOT]
    assert reasons[0] == BootReason.UNKNOWN
    assert set(reasons[1:]) == {BootReason.CRASH}
    assert len(reasons) > 6
    gaps = [claim for claim in claims if claim.kind == Kind.GAP]
    assert len(gaps) > 4, "kills leave gaps, and they are signed"


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("seed", range(40))
def test_two_thousand_kills(tmp_path: Path, seed: int) -> None:
    campaign(tmp_path, 50, 1000 + seed).check()


def test_a_clean_end_is_no_crash(tmp_path: Path) -> None:
    with Meters(len(METERS)) as meters:
        gateway = Killed(tmp_path, meters.port)
        assert gateway.live(1.0, signal.SIGTERM) == 0
        assert gateway.live(1.0, signal.SIGINT) == 0
        settle(gateway)
    gateway.check()
    reader = SpoolReader.read(gateway.settings.spool)
    claims = [statement.parse(message) for _, message in reader.statements(1)]
    reasons = [claim.body[13][1] for claim in claims if claim.kind == Kind.BOOT]
    assert reasons == [BootReason.UNKNOWN, BootReason.RESTART]
    with pytest.raises(SpoolProblem):
        SpoolReader.read(tmp_path / "nothing")
