"""A full disk under a gateway's store: reading stops and says so, others go on, and what is missing is signed.

Needs root, for a file system of its own: without it these tests are skipped, and say so.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hw_sim.stage import ORGANISATIONS
from signer.codes import EventCode, GapReason, Kind
from tests.system.audit import check_holds, check_slots
from tests.system.home import Home
from tests.system.town import Town

SIZE = "8m"


@pytest.fixture(scope="module")
def disk(street: Town) -> Iterator[Path]:
    """A small file system for the store of the home that will be full."""
    home = street.homes["full"]
    folder = home.folder / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0:
        pytest.skip("a full disk needs root, for a file system of its own: NOT TESTED")
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no file system of its own could be mounted: NOT TESTED: {done.stderr}")
    home.edit('path = "spool.db"', 'path = "disk/spool.db"')
    home.store = "disk/spool.db"
    yield folder
    home.actor.stop(signal.SIGKILL)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def ballast(folder: Path) -> Path:
    """Somebody fills the disk to the last byte."""
    path = folder / "ballast"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            while True:
                try:
                    if file.write(bytes(size)) < size:
                        break
                except OSError:
                    break
    return path


def test_reading_stops_and_goes_on(street: Town, disk: Path) -> None:
    home, beside = street.homes["full"], street.homes["beside"]
    home.start()
    beside.start()
    home.has_read(3)
    home.settles()
    assert home.alarms() == []

    full = ballast(disk)
    advice = f"try: free some space on the file system of {disk}"
    home.says("WARNING disk: ", f"{home.spool}: the disk is full (SQLITE_FULL)", advice)
    home.alarm("disk: ", f"{home.spool}: ", advice)
    home.until(lambda: home.told()["spool"]["cadence"] == "stopped")
    stored = home.counts().stored
    # Others notice nothing, and this one is no less alive.
    beside.has_read(5)
    beside.settles()
    assert beside.alarms() == []
    assert home.counts().stored == stored
    assert home.log().count("WARNING disk: ") == 1
    assert "No space left" not in home.log()

    full.unlink()
    home.says("INFO disk: there is room again")
    home.until(lambda: home.counts().stored > stored)
    home.has_read(6)
    home.settles()
    home.until(lambda: home.alarms() == [])
    home.stop()
    beside.stop()
    (claims,) = home.claims().values()
    gaps = [one for one in claims if one.kind == Kind.GAP]
    assert {one.body[13][1] for one in gaps} == {GapReason.DISK_FULL}
    assert EventCode.DISK_BUDGET in {one.body[13][1] for one in claims if one.kind == Kind.EVENT}
    report = street.evidence(home, "full")
    check_holds(report, len(claims))
    check_slots(claims)
    assert report["slots"]["full-meter"]["gap"] == sum(one.body[13][4] for one in gaps) > 0
    for organisation in ORGANISATIONS:
        (stream,) = street.streams(organisation, "full")
        found = street.on_ledger(organisation)[stream.stream]
        assert found == [one.data for one in claims][: len(found)]
    with sqlite3.connect(home.spool) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_start_on_a_full_disk_says_so(disk: Path, street: Town) -> None:
    """Nothing can be promised then, not even that the gateway has started; the service manager tries again."""
    home: Home = street.homes["full"]
    full = ballast(disk)
    done = subprocess.run(home.actor.command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 6
    assert done.stderr.count("error: ") == 1
    assert f"error: {home.spool}: the disk is full (" in done.stderr
    assert f"try: free some space on the file system of {disk}" in done.stderr
    assert "Traceback" not in done.stderr
    full.unlink()
    before = home.counts().stored
    home.start()
    home.stores(2)
    home.stop()
    assert home.counts().stored > before
    check_holds(street.evidence(home, f"full-{time.time_ns()}"))
