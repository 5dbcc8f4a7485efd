"""Spools of older formats: brought up to date whole or not at all, and the evidence in them stays what it was.

The files in tests/data/spools were made by the code of their time.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge.database import Database, Schema, SpoolBusy, SpoolFailed, SpoolFull, SpoolTooNew, SpoolTooOld, Writing
from edge.lockfile import Lock
from edge.schema import SPOOL
from edge.spool import Spool
from edge.spool_read import SpoolReader
from tests.edge import chains
from tests.edge.chains import GATEWAY, START_MS
from tests.edge.make_spool import FOLDER, exported, make

OLD = sorted(FOLDER.glob("*.db"))

pytestmark = pytest.mark.skipif(not OLD, reason="no spools of older formats here")


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an old spool."""
    path = tmp_path / request.param.name
    shutil.copy(request.param, path)
    return path


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    ((found,),) = db.execute("PRAGMA user_version").fetchall()
    db.close()
    return int(found)


def tables(path: Path) -> dict[str, list[object]]:
    """Every table's columns, and its rows' order."""
    db = sqlite3.connect(path)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    found: dict[str, list[object]] = {
        name: [
            *db.execute(f"PRAGMA table_xinfo({name})"),
            *(row[1:] for row in db.execute(f"PRAGMA index_list({name})")),
            *db.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (name,)),
        ]
        for name in names
    }
    db.close()
    return found


def said_by_its_own_code(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((FOLDER / path.name).with_suffix(".json").read_text())
    return found


class TestOlder:
    def test_the_evidence_is_what_the_old_code_exported(self, old: Path) -> None:
        Spool.open(old, GATEWAY, START_MS).close()
        assert version(old) == SPOOL.version
        said = said_by_its_own_code(old)
        assert said.items() <= exported(old).items()

    def test_it_ends_in_the_tables_of_a_new_file(self, old: Path, tmp_path: Path) -> None:
        Spool.open(old, GATEWAY, START_MS).close()
        Spool.open(tmp_path / "new.db", GATEWAY, START_MS).close()
        assert tables(old) == tables(tmp_path / "new.db")

    def test_the_gateway_goes_on_where_it_was(self, old: Path, tmp_path: Path) -> None:
        """Head, streams, positions, the batch under way and what is to be carried: as in a spool of today."""
        make(tmp_path / "new.db")
        was, new = Spool.open(old, GATEWAY, START_MS), Spool.open(tmp_path / "new.db", GATEWAY, START_MS)
        assert was.was_set_aside is None
        assert was.process() == new.process()
        assert (was.positions, was.next_uncommitted()) == (new.positions, new.next_uncommitted())
        assert [each.abandoned_from for each in was.streams()] == [each.abandoned_from for each in new.streams()]
        assert len(was.to_carry(100)[1]) == len(new.to_carry(100)[1])
        first = was.next_batch()
        assert first is not None
        was.settle(first, [chains.receipt_for(first, block=99)])
        made_by = chains.chain(was.head, boot=4)
        was.append(chains.readings(made_by, 2, 30))
        assert was.next_batch() is not None
        for spool in (was, new):
            spool.close()

    def test_whoever_only_reads_changes_nothing(self, old: Path) -> None:
        with pytest.raises(SpoolTooOld, match=r"has format [12], this version reads") as caught:
            SpoolReader.read(old)
        assert caught.value.__notes__ == ["try: start the agent of this version: it brings the file up to date"]
        assert version(old) < SPOOL.version

    def test_an_export_needs_no_agent(self, old: Path) -> None:
        """Of a gateway that was taken out of service: its store is brought up to date, and nothing is signed."""
        assert said_by_its_own_code(old).items() <= exported(old).items()
        assert version(old) == SPOOL.version

    def test_nor_does_it_touch_what_an_older_agent_uses(self, old: Path) -> None:
        lock = Lock(Path(f"{old}.lock"))
        with pytest.raises(SpoolBusy, match="in use by another process"):
            exported(old)
        lock.release()
        assert version(old) < SPOOL.version


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from edge import database
from edge.spool import Spool
from tests.edge.chains import GATEWAY
connect = database._connect
def counted(path, mode=""):
    connection = connect(path, mode)
    connection.set_trace_callback(count)
    return connection
def count(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
database._connect = counted
left = -1
while True:
    left += 1
    path = Path(sys.argv[2], f"{left}.db")
    shutil.copy(sys.argv[1], path)
    if not (child := os.fork()):
        Spool.open(path, GATEWAY, 0)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, path, flush=True)
    if code != -signal.SIGKILL:
        break
"""


def killed_before_each_statement(source: Path, folder: Path) -> list[tuple[int, Path]]:
    """(exit code, file) of processes that opened copies, each killed one statement later; the last one was not."""
    folder.mkdir()
    command = [sys.executable, "-c", KILLED, str(source), str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [(int(code), Path(path)) for code, path in (line.split(" ", 1) for line in said.splitlines())]


class TestCrashes:
    @pytest.mark.parametrize("source", OLD, ids=lambda path: path.stem)
    def test_killed_before_every_single_statement(self, source: Path, tmp_path: Path) -> None:
        """Of the old format or of the new one, and never a table between."""
        whole = tmp_path / "whole.db"
        shutil.copy(source, whole)
        Spool.open(whole, GATEWAY, START_MS).close()
        lives = killed_before_each_statement(source, tmp_path / "killed")
        assert [code for code, _ in lives] == [-signal.SIGKILL] * (len(lives) - 1) + [0]
        assert len(lives) > 10
        seen = set()
        for _, path in lives:
            seen.add(version(path))
            assert tables(path) == tables(whole if version(path) == SPOOL.version else source)
            again = Spool.open(path, GATEWAY, START_MS)
            assert again.was_set_aside is None
            again.close()
            assert said_by_its_own_code(source).items() <= exported(path).items()
        assert seen == {version(source), SPOOL.version}

    def test_a_power_cut_at_every_place_of_the_log(self, tmp_path: Path) -> None:
        """Whatever part of the log reached the disk: whole in one format or the other."""
        seen = set()
        for name in OLD:
            source = tmp_path / "cut.db"
            shutil.copy(name, source)
            spool = Spool.open(source, GATEWAY, START_MS)
            log = Path(f"{source}-wal").read_bytes()
            main = source.read_bytes()  # nothing of the log is in it yet
            spool.close()
            for cut in (*range(0, len(log), 509), len(log)):
                path = tmp_path / f"cut-{cut}.db"
                path.write_bytes(main)
                Path(f"{path}-wal").write_bytes(log[:cut])
                seen.add(version(path))
                Spool.open(path, GATEWAY, START_MS).close()
                assert version(path) == SPOOL.version
            assert said_by_its_own_code(name).items() <= exported(path).items()
        assert seen == {*range(1, SPOOL.version + 1)}


class TestWhatCannotBe:
    def test_a_step_that_fails_leaves_the_file_as_it_was(self, tmp_path: Path) -> None:
        """It was found whole: not damaged, not set aside, and the old version may go on with it."""

        def half(db: Writing) -> None:
            db.execute("DELETE FROM run")
            db.execute("INSERT INTO nowhere VALUES (1)")

        path = tmp_path / "spool.db"
        make(path)
        before = exported(path)
        schema = Schema(SPOOL.tables, (*SPOOL.steps, half))
        with pytest.raises(SpoolFailed, match=f"from format {SPOOL.version} to {schema.version}.*no such table") as at:
            Database.write(path, schema)
        assert at.value.__notes__ == ["try: install the version that wrote it; the file is as it was"]
        assert exported(path) == before

    def test_a_full_disk_is_waited_for(self, tmp_path: Path) -> None:
        def fill(db: Writing) -> None:
            db.execute("PRAGMA max_page_count = 10")
            db.execute("CREATE TABLE more AS SELECT * FROM run, batch")

        path = tmp_path / "spool.db"
        make(path)
        before = exported(path)
        with pytest.raises(SpoolFull):
            Database.write(path, Schema(SPOOL.tables, (*SPOOL.steps, fill)))
        assert exported(path) == before

    def test_a_damaged_file_is_set_aside_before_anything_is_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "old.db"
        data = bytearray(OLD[0].read_bytes())
        middle = len(data) // 2048 * 1024
        data[middle : middle + 1024] = bytes([0xFF]) * 1024
        path.write_bytes(data)
        spool = Spool.open(path, GATEWAY, START_MS)
        assert spool.was_set_aside is not None
        assert spool.was_set_aside.path.read_bytes()[middle : middle + 1024] == bytes([0xFF]) * 1024
        spool.close()

    def test_a_newer_one_is_left_alone_by_readers_too(self, tmp_path: Path) -> None:
        path = tmp_path / "spool.db"
        make(path)
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA user_version = {SPOOL.version + 1}")
        db.close()
        before = path.read_bytes()
        for opened in (lambda: SpoolReader.read(path), lambda: Spool.open(path, GATEWAY, START_MS)):
            with pytest.raises(
                SpoolTooNew, match=f"has format {SPOOL.version + 1}, this version knows {SPOOL.version}"
            ):
                opened()
        assert path.read_bytes() == before
