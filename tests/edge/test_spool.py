"""The spool: what it keeps, what it refuses, what it sets aside."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.database import SpoolBusy, SpoolDamaged, SpoolFailed, SpoolFull, SpoolTooNew
from edge.spool import Position, Process, Spool
from edge.spool_read import SpoolReader
from signer import batch as batches
from signer import statement
from signer.chain import Chain
from signer.codes import BootReason, GapReason
from signer.keys import KeyProblem
from tests.edge import chains
from tests.edge.chains import GATEWAY, START_MS, instant, receipt_for


def open_(folder: Path, gateway: str = GATEWAY) -> Spool:
    return Spool.open(folder / "spool.db", gateway, START_MS)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_(tmp_path)
    yield opened
    opened.close()


def begin(spool: Spool) -> Chain:
    """A genesis, and the chain that goes on from it."""
    made_by = chains.chain()
    spool.append([chains.genesis(made_by), made_by.boot_statement(instant(), BootReason.POWER, 0)])
    return made_by


def fill(spool: Spool, made_by: Chain, groups: int, points: int = 4, first: int = 0) -> None:
    for slot in range(first, first + groups):
        until = Position(START_MS + (slot + 1) * 1000, 1000)
        spool.append(chains.readings(made_by, points, slot), {f"m{number}": until for number in range(points)})


def all_seqs(spool: SpoolReader, number: int = 1) -> list[int]:
    return [seq for seq, _ in spool.statements(number)]


def damage(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


class TestTakingApart:
    """sid and kind of a statement by the places of its parts, as often as it is sent or pruned."""

    def test_is_what_parsing_says(self, spool: Spool) -> None:
        made_by = chains.chain()
        made = [chains.genesis(made_by), made_by.boot_statement(instant(), BootReason.POWER, 0)]
        made += chains.readings(made_by, 4, 0)
        made += [made_by.gap("m0", instant(), GapReason.OVERLOAD, START_MS, START_MS + 1000, 1)]
        made += [made_by.event("-", instant(), 1, None, "w" * 256)]
        for each in made:
            parsed = statement.parse(each.data)
            assert spool.split(each.data) == (parsed.sid, parsed.kind) == (each.sid, each.kind)

    def test_what_is_none_is_damage(self, spool: Spool) -> None:
        (data,) = (made.data for made in chains.readings(begin(spool), 1, 0))
        for cut in range(len(data)):
            with pytest.raises(SpoolDamaged, match="statement"):
                spool.split(data[:cut])
        for place in (2, 3):  # where its protected header is, and how long
            for other in range(256):
                if other != data[place]:
                    with pytest.raises(SpoolDamaged, match="statement"):
                        spool.split(data[:place] + bytes([other]) + data[place + 1 :])


class TestTheChain:
    def test_a_new_spool_has_no_head(self, spool: Spool) -> None:
        assert spool.head is None
        assert spool.last_instant() is None
        assert spool.next_batch() is None
        assert spool.counts().stored == 0

    def test_head_and_bytes_come_back_after_a_restart(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        made = chains.readings(made_by, 3)
        spool.append(made)
        spool.close()
        again = open_(tmp_path)
        assert again.head == made_by.head
        assert [message for _, message in again.statements(1, 2)] == [statement.data for statement in made]
        assert again.was_set_aside is None

    def test_a_statement_that_does_not_continue_the_chain_is_refused(self, spool: Spool) -> None:
        made_by = begin(spool)
        skipped = chains.readings(made_by, 2)
        with pytest.raises(ValueError, match="statement 3 where 2 is due"):
            spool.append(skipped[1:])
        assert all_seqs(spool) == [0, 1]

    def test_nothing_comes_before_a_genesis(self, spool: Spool) -> None:
        made_by = chains.chain()
        chains.genesis(made_by)
        with pytest.raises(ValueError, match="where a genesis is due"):
            spool.append([made_by.boot_statement(instant(), 0, 0)])

    def test_a_second_stream_goes_on_beside_the_first(self, spool: Spool) -> None:
        first = begin(spool)
        fill(spool, first, 2)
        old = spool.head
        second = chains.chain(seed=2)
        spool.append([chains.genesis(second, old)], abandon_from=4)
        fill(spool, second, 1)
        assert [stream.abandoned_from for stream in spool.streams()] == [4, None]
        assert all_seqs(spool, 1) == list(range(10))
        assert all_seqs(spool, 2) == list(range(5))
        assert spool.head == second.head

    def test_the_runs_of_the_agent_are_remembered(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = chains.chain()
        spool.append([chains.genesis(made_by)], process=Process(1, "abc", "0.1", 0))
        spool.note_matched(0)
        spool.close("clean")
        assert open_(tmp_path).process() == Process(1, "abc", "0.1", 0, "clean", 0)

    def test_the_last_instant_is_that_of_the_last_statement(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 3)
        assert spool.last_instant() == instant(2000)


class TestPositions:
    def test_they_are_found_again_after_a_crash(self, tmp_path: Path) -> None:
        """Nothing was written down but the statements themselves."""
        spool = open_(tmp_path)
        made_by = begin(spool)
        described = [made_by.descriptor(f"m{number}", instant(), chains.descriptor()) for number in range(2)]
        spool.append(described, {f"m{number}": Position(None, 1000) for number in range(2)})
        fill(spool, made_by, 5, 2)
        gap = made_by.gap("m1", instant(9000), GapReason.OVERLOAD, START_MS + 5000, START_MS + 8000, 3)
        spool.append([gap], {"m1": Position(START_MS + 8000, 1000)})
        expected = dict(spool.positions)
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in tmp_path.glob("spool.db*"):
            shutil.copy(path, copy)
        assert (
            dict(open_(copy).positions)
            == expected
            == {
                "m0": Position(START_MS + 5000, 1000),
                "m1": Position(START_MS + 8000, 1000),
            }
        )

    @pytest.mark.parametrize("ended", ["", "clean"])
    def test_so_is_the_last_reading_with_values(self, tmp_path: Path, ended: str) -> None:
        """With the descriptor that was in force then; whatever comes later, until somebody says it is another meter."""
        spool = open_(tmp_path)
        made_by = begin(spool)
        first, dead = chains.reading("m0", 0), replace(chains.reading("m0", 1), status=2, values=())
        made = [made_by.descriptor("m0", instant(), chains.descriptor(serial="1")), made_by.reading(first, instant())]
        spool.append(made, measured=[made[1].seq])
        made = [made_by.descriptor("m0", instant(), chains.descriptor(serial="2")), made_by.reading(dead, instant())]
        spool.append(made)
        for _ in range(2):
            spool.close(ended)
            spool = open_(tmp_path)
            found = spool.last_reading("m0")
            assert found is not None
            assert (found[0].values, found[1].body[13][5]) == (first.values, "1")
            assert spool.last_reading("m1") is None
        spool.append([made_by.exchange("m0", instant(), "1", first.values, "2", first.values)])
        spool.close(ended)
        spool = open_(tmp_path)
        assert spool.last_reading("m0") is None
        spool.close()

    def test_a_last_reading_that_was_pruned_is_none(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        spool.append([made_by.descriptor("slow", instant(), chains.descriptor(900_000))])
        made = made_by.reading(chains.reading("slow", 0, period_ms=900_000), instant())
        spool.append([made], measured=[made.seq])
        fill(spool, made_by, 600)
        while (batch := spool.next_batch()) is not None:
            spool.settle(batch, [receipt_for(batch)])
        assert spool.last_reading("slow") is not None
        while spool.prune():
            pass
        assert spool.last_reading("slow") is None
        spool.close()

    def test_a_start_parses_the_newest_statements_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        fill(spool, made_by, 300, 8)
        spool.close()
        parsed = []
        real = Spool.claims
        monkeypatch.setattr(Spool, "claims", lambda self, message: parsed.append(1) or real(self, message))
        again = open_(tmp_path)
        assert again.positions["m7"].until_ms == START_MS + 300_000
        assert len(parsed) < 1100


class TestBatches:
    def test_a_restart_sends_the_same_bytes_with_the_same_root(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        fill(spool, made_by, 2)
        batch = spool.next_batch()
        fill(spool, made_by, 3, first=2)
        spool.close()
        again = open_(tmp_path).next_batch()
        assert batch is not None
        assert again == batch
        assert batches.parse(batch.data)[0] == batch

    def test_the_next_batch_is_cut_when_the_last_is_committed(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 3)
        first = spool.next_batch(max_statements=5)
        assert first is not None
        assert (first.first, first.count) == (0, 5)
        spool.settle(first, [receipt_for(first)])
        second = spool.next_batch()
        assert second is not None
        assert (second.first, second.count, second.prev) == (5, 9, first.head)
        assert spool.counts().committed == 5
        assert spool.counts().pending == 9

    def test_a_batch_stays_below_its_limits(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 40, 50)
        counts = []
        while (batch := spool.next_batch()) is not None:
            assert len(batch.data) <= batches.MAX_BYTES
            assert batch.count <= batches.MAX_STATEMENTS
            counts.append(batch.count)
            spool.settle(batch, [])
        assert sum(counts) == 2002
        assert min(counts[:-1]) > 400

    def test_a_smaller_message_can_be_asked_for(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 10, 20)
        batch = spool.next_batch(max_bytes=20_000)
        assert batch is not None
        assert 15_000 < len(batch.data) <= 20_000
        spool.forget_boundaries()
        whole = spool.next_batch()
        assert whole is not None
        assert (whole.first, whole.count) == (0, 202)

    def test_a_batch_ends_at_a_rekey(self, spool: Spool) -> None:
        made_by = begin(spool)
        spool.append([made_by.rekey(instant(), chains.key(), (b"\x30" * 700,))])
        fill(spool, made_by, 1)
        batch = spool.next_batch()
        assert batch is not None
        assert batch.count == 3

    def test_what_the_ledgers_have_already_can_be_skipped(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 4)
        batch = spool.next_batch(skip_to=7)
        assert batch is not None
        assert batch.first == 7

    def test_a_changed_statement_is_noticed_before_it_is_sent(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        fill(spool, made_by, 2)
        spool.append([made_by.boot_statement(instant(), 0, 0)], process=Process(1, "", "", 0))
        batch = spool.next_batch()
        assert batch is not None
        spool.close("clean")
        db = sqlite3.connect(tmp_path / "spool.db")
        ((data,),) = db.execute("SELECT statements FROM run ORDER BY id LIMIT 1 OFFSET 1").fetchall()
        at = data.index(bytes(56))
        db.execute("UPDATE run SET statements = ? WHERE statements = ?", (data[:at] + b"\1" + data[at + 1 :], data))
        db.commit()
        db.close()
        with pytest.raises(SpoolDamaged, match="are not what was sent"):
            open_(tmp_path).next_batch()


class TestReceipts:
    def test_several_are_kept_for_a_batch_and_late_ones_too(self, spool: Spool) -> None:
        fill(spool, begin(spool), 1)
        batch = spool.next_batch()
        assert batch is not None
        first, second = receipt_for(batch, "Org1MSP", 7), receipt_for(batch, "Org2MSP", 3)
        spool.settle(batch, [first])
        spool.keep([second])
        spool.keep([second])
        assert list(spool.receipts()) == [first.data, second.data]
        assert spool.newest_blocks() == {("Org1MSP", "embedded"): 7, ("Org2MSP", "embedded"): 3}

    def test_what_a_late_receipt_must_agree_with_is_known(self, spool: Spool) -> None:
        fill(spool, begin(spool), 2)
        batch = spool.next_batch()
        assert batch is not None
        found = spool.batch_with(batch.root)
        assert found is not None
        assert (found.stream, found.first, found.count, found.head, found.root) == (
            batch.stream,
            batch.first,
            batch.count,
            batch.head,
            batch.root,
        )
        assert spool.batch_with(bytes(32)) is None


class TestPruning:
    def test_committed_statements_go_and_uncommitted_ones_never(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 400)
        sids = [spool.sid_at(1, seq) for seq in range(1602)]
        batch = spool.next_batch(max_statements=500)
        assert batch is not None
        assert spool.prune(1000) == 0
        spool.settle(batch, [receipt_for(batch)])
        used = spool.used_bytes()
        gone = 0
        while pruned := spool.prune():
            gone += pruned
        assert gone == 496  # 500 without the genesis' row, and only whole rows
        assert spool.used_bytes() < used
        assert [seq for seq, _ in spool.pruned(1)] == list(range(2, 498))
        assert [spool.sid_at(1, seq) for seq in range(1602)] == sids
        assert all_seqs(spool) == [0, 1, *range(498, 1602)]
        assert list(spool.receipts())

    def test_a_spool_that_was_pruned_goes_on_after_a_restart(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        fill(spool, made_by, 100, 24)
        while (batch := spool.next_batch()) is not None:
            spool.settle(batch, [])
        while spool.prune():
            pass
        left = all_seqs(spool)
        spool.close()
        again = open_(tmp_path)
        assert again.head == made_by.head
        assert all_seqs(again) == left
        assert len(left) < 1500
        fill(again, made_by, 1, first=100)
        batch = again.next_batch()
        assert batch is not None
        assert batch.count == 4

    def test_the_newest_statements_stay_though_all_is_committed(self, tmp_path: Path) -> None:
        """They are the chain's head, and there is no other place where it is written down."""
        spool = open_(tmp_path)
        made_by = begin(spool)
        fill(spool, made_by, 10)
        spool.close("clean")  # the positions are written down up to the very end
        spool = open_(tmp_path)
        spool.settle(spool.next_batch() or pytest.fail("no batch"), [])
        while spool.prune():
            pass
        assert all_seqs(spool) == [0, 1, *range(38, 42)]
        assert (spool.counts().stored, spool.end(1)) == (42, 42)
        spool.close()
        again = open_(tmp_path)
        assert again.head == made_by.head
        again.close()

    def test_abandoned_statements_stay(self, spool: Spool) -> None:
        first = begin(spool)
        fill(spool, first, 400)
        batch = spool.next_batch(max_statements=500)
        assert batch is not None
        spool.settle(batch, [])
        second = chains.chain(seed=2)
        spool.append([chains.genesis(second, first.head)], abandon_from=500)
        fill(spool, second, 100, 24)
        while (batch := spool.next_batch()) is not None:
            spool.settle(batch, [])
        while spool.prune():
            pass
        assert [seq for seq in all_seqs(spool, 1) if seq > 500] == list(range(501, 1602))
        assert len(all_seqs(spool, 2)) < 1500

    def test_a_pruned_batch_cannot_be_sent_again(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 100, 24)
        spool.settle(spool.next_batch(10) or pytest.fail("no batch"), [])
        second = spool.next_batch(400)
        assert second is not None
        spool.settle(second, [])
        while spool.prune():
            pass
        assert spool.batch_at(second.first) is None


class TestCarrying:
    def test_what_was_abandoned_is_handed_out_once(self, spool: Spool) -> None:
        first = begin(spool)
        fill(spool, first, 3)
        second = chains.chain(seed=2)
        spool.append([chains.genesis(second, first.head)], abandon_from=6)
        number, found = spool.to_carry(3)
        assert (number, [claims.seq for claims in found]) == (1, [6, 7, 8])
        spool.append(chains.readings(second, 1), carried=(1, 8))
        assert [claims.seq for claims in spool.to_carry(100)[1]] == [9, 10, 11, 12, 13]
        spool.note_carried(1, 13)
        assert spool.to_carry(100) == (0, ())


class TestOneProcess:
    def test_a_second_process_is_told_who_has_it(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        with pytest.raises(SpoolBusy, match=r"in use by another process \(pid \d+\)") as caught:
            open_(tmp_path)
        assert "try: stop the other agent" in caught.value.__notes__[0]
        spool.close()
        open_(tmp_path).close()

    def test_the_lock_ends_with_its_process(self, tmp_path: Path) -> None:
        code = (
            "from pathlib import Path; from edge.spool import Spool; import os, sys;"
            "s = Spool.open(Path(sys.argv[1]), 'home-1', 0); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "spool.db")], check=False, timeout=30)
        open_(tmp_path).close()

    def test_another_process_may_read_meanwhile(self, spool: Spool) -> None:
        made_by = begin(spool)
        reader = SpoolReader.read(spool.path)
        fill(spool, made_by, 1)
        assert all_seqs(reader) == list(range(6))
        reader.hold()
        fill(spool, made_by, 1, first=1)
        assert all_seqs(reader) == list(range(6))
        assert all_seqs(spool) == list(range(10))
        reader.close()

    def test_threads_take_turns(self, spool: Spool) -> None:
        made_by = begin(spool)
        stop = threading.Event()
        errors: list[BaseException] = []

        def send() -> None:
            try:
                while not stop.is_set():
                    batch = spool.next_batch()
                    if batch is not None:
                        spool.settle(batch, [receipt_for(batch)])
            except BaseException as error:  # noqa: BLE001  the assertion below shows it
                errors.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        fill(spool, made_by, 100)
        stop.set()
        thread.join()
        assert not errors
        assert all_seqs(spool) == list(range(402))


class TestBadFiles:
    def test_garbage_is_set_aside_and_a_new_spool_begins(self, tmp_path: Path) -> None:
        (tmp_path / "spool.db").write_bytes(b"this was a database once" * 100)
        spool = open_(tmp_path)
        assert spool.was_set_aside is not None
        assert spool.was_set_aside.path.name == "spool.db.set-aside-20260921T141320Z"
        assert spool.was_set_aside.path.read_bytes().startswith(b"this was a database once")
        assert spool.was_set_aside.head is None
        assert spool.head is None

    def test_a_damaged_page_is_noticed_and_the_old_head_named(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        fill(spool, made_by, 50)
        spool.close()
        size = (tmp_path / "spool.db").stat().st_size
        damage(tmp_path / "spool.db", size // 2048 * 1024, bytes([0xFF]) * 1024)
        again = open_(tmp_path)
        assert again.was_set_aside is not None
        assert again.was_set_aside.head in (None, made_by.head)
        assert again.head is None

    def test_a_truncated_file_is_set_aside(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        fill(spool, begin(spool), 50)
        spool.close()
        with open(tmp_path / "spool.db", "r+b") as file:
            file.truncate(10_240)
        again = open_(tmp_path)
        assert again.was_set_aside is not None
        assert again.was_set_aside.path.stat().st_size == 10_240

    def test_a_chain_that_does_not_hold_is_set_aside(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        fill(spool, made_by, 3)
        spool.close()
        db = sqlite3.connect(tmp_path / "spool.db")
        db.execute("DELETE FROM run WHERE id = (SELECT id FROM run ORDER BY id DESC LIMIT 1 OFFSET 1)")
        db.commit()
        db.close()
        again = open_(tmp_path)
        assert again.was_set_aside is not None
        assert again.was_set_aside.head == made_by.head
        assert "does not continue the chain" in again.was_set_aside.reason

    def test_another_gateways_spool_is_set_aside_and_not_recovered_from(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        begin(spool)
        spool.close()
        other = open_(tmp_path, "home-2")
        assert other.was_set_aside is not None
        assert other.was_set_aside.head is None
        assert "is the spool of gateway home-1, not of home-2" in other.was_set_aside.reason
        other.close()
        for path in sorted(tmp_path.glob("spool.db.set-aside*")):
            assert Spool.open(path, GATEWAY, START_MS).head is not None

    def test_another_programs_database_is_set_aside(self, tmp_path: Path) -> None:
        db = sqlite3.connect(tmp_path / "spool.db")
        db.execute("CREATE TABLE cookies (name)")
        db.commit()
        db.close()
        spool = open_(tmp_path)
        assert spool.was_set_aside is not None
        assert "another program" in spool.was_set_aside.reason

    def test_a_newer_format_is_left_alone(self, tmp_path: Path) -> None:
        open_(tmp_path).close()
        db = sqlite3.connect(tmp_path / "spool.db")
        db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(SpoolTooNew, match="has format 99"):
            open_(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["spool.db", "spool.db.lock"]

    def test_a_log_without_its_file_is_never_applied_to_a_new_one(self, tmp_path: Path) -> None:
        (tmp_path / "spool.db-wal").write_bytes(b"what is left of a log")
        spool = open_(tmp_path)
        assert spool.was_set_aside is not None
        left = tmp_path / f"{spool.was_set_aside.path.name}-wal"
        assert left.read_bytes() == b"what is left of a log"

    def test_two_in_one_second_do_not_meet(self, tmp_path: Path) -> None:
        for number in range(3):
            (tmp_path / "spool.db").write_bytes(b"garbage %d" % number * 100)
            open_(tmp_path).close()
            for name in ("spool.db", "spool.db-wal", "spool.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
        assert len(list(tmp_path.glob("spool.db.set-aside*"))) == 3

    def test_a_crash_before_the_first_commit_is_no_damage(self, tmp_path: Path) -> None:
        db = sqlite3.connect(tmp_path / "spool.db")
        db.execute("PRAGMA page_size = 1024")
        db.execute("PRAGMA journal_mode = WAL")
        db.close()
        spool = open_(tmp_path)
        assert spool.was_set_aside is None
        begin(spool)

    def test_damage_found_while_running_is_set_aside_by_the_next_start(self, tmp_path: Path) -> None:
        spool = open_(tmp_path)
        made_by = begin(spool)
        spool.condemn()
        with pytest.raises(SpoolFailed):
            spool.append(chains.readings(made_by, 1))
        again = open_(tmp_path)
        assert again.was_set_aside is not None
        assert again.was_set_aside.head == chains_head(made_by, 1)
        again.close()
        assert open_(tmp_path).was_set_aside is None

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SpoolFailed, match="No such file"):
            open_(tmp_path / "nowhere")


def chains_head(made_by: Chain, seq: int) -> object:
    head = made_by.head
    assert head is not None
    return type(head)(head.stream, seq, _sid_before(made_by))


def _sid_before(made_by: Chain) -> bytes:
    """The sid of seq 1 of a chain that has just signed one reading more."""
    again = chains.chain()
    chains.genesis(again)
    return again.boot_statement(instant(), BootReason.POWER, 0).sid


class TestAFullDisk:
    def test_nothing_is_half_done_and_waiting_helps(self, spool: Spool) -> None:
        made_by = begin(spool)
        fill(spool, made_by, 5)
        before = (spool.head, dict(spool.positions), all_seqs(spool))
        connection = spool._database._connection
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
        with pytest.raises(SpoolFull) as caught:
            fill(spool, made_by, 1, 50, first=5)
        assert caught.value.waiting_helps
        assert (spool.head, dict(spool.positions), all_seqs(spool)) == before
        connection.execute("PRAGMA max_page_count = 1000000").fetchall()
        made_by.head = spool.head
        fill(spool, made_by, 1, 50, first=5)
        assert all_seqs(spool) == list(range(72))

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a tmpfs")
    def test_a_file_that_may_not_grow(self, tmp_path: Path) -> None:
        """The kernel refuses the write itself; a process of its own, because the limit cannot be raised again."""
        code = """
import resource, sys
from pathlib import Path
from edge.database import SpoolProblem
from edge.spool import Spool
from tests.edge import chains
spool = Spool.open(Path(sys.argv[1]), "home-1", 0)
made_by = chains.chain()
spool.append([chains.genesis(made_by)])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
slot, stored = 0, 1
try:
    while True:
        spool.append(chains.readings(made_by, 32, slot))
        slot, stored = slot + 1, stored + 32
except SpoolProblem as problem:
    kind = type(problem).__name__
assert spool.head.seq == stored - 1, (spool.head, stored)
print(kind, stored)
"""
        path = tmp_path / "spool.db"
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        kind, stored = done.stdout.split()
        assert kind == "SpoolFailed"  # EFBIG is no full disk: this process writes nothing more
        spool = open_(tmp_path)
        assert spool.head is not None
        assert spool.head.seq == int(stored) - 1


def test_a_key_that_fails_stores_nothing(tmp_path: Path) -> None:
    class PulledOut:
        public_key = chains.key().public_key
        rate_per_s = None

        def sign_digest(self, digest: bytes) -> bytes:
            raise KeyProblem("the token was pulled out")

    path = tmp_path / "spool.db"
    with_token, chain = Spool.open(path, GATEWAY, START_MS), chains.chain()
    with_token.append([chains.genesis(chain), *chains.readings(chain, 2)])
    head = with_token.head
    without = Chain(GATEWAY, PulledOut(), head, 1)
    with pytest.raises(KeyProblem, match="pulled out"):
        with_token.append(chains.readings(without, 2, 1), {"m0": Position(START_MS + 2000, 1000)})
    assert (with_token.head, with_token.counts().stored, dict(with_token.positions)) == (head, 3, {})
    with_token.append(chains.readings(Chain(GATEWAY, chains.key(), head, 1), 2, 1))
    with_token.close()
    reopened = Spool.open(path, GATEWAY, START_MS)
    assert reopened.counts().stored == 5
    reopened.close()
