"""The embedded ledger: every scenario on disk, receipts that stay, a chain that shows what was changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hw_sim.authority import Authority
from ledger.commit import LedgerProblem, NotCommitted, Receipted, Submission
from ledger.embedded import EmbeddedLedger, Issuer, LedgerFile
from ledger.rules.measurements import Gateway
from ledger.rules.record import unpack
from ledger.schema import VERSION
from signer import batch as batches
from signer import receipt
from signer.batch import Batch
from signer.dialogue import RefusalReason
from signer.errors import Malformed
from signer.keys.file import FileKey
from signer.trust import Trust
from tests.ledger.lines import NOW, START_MS, World, der
from tests.ledger.scenarios import ACCEPTED, EXISTS, MALFORMED, SCENARIOS, Register, Scenario

NOW_S = START_MS // 1000


class Site:
    """A ledger in a file, and what is needed to write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world = World()
        self.organisation = Authority("Org1MSP", now=NOW)
        issued = self.organisation.receipts()
        self.issuer = Issuer("Org1MSP", FileKey(issued.key), (der(issued.certificate),))
        self.pins = Trust(organisations={"Org1MSP": (self.organisation.certificate,)})
        self.open()

    def open(self) -> None:
        self.file = LedgerFile(self.path, "Org1MSP")
        self.ledger = EmbeddedLedger(self.file, self.issuer, self.world.trust, lambda: NOW_S)

    def reopen(self) -> None:
        self.file.close()
        self.open()

    def commit(self, batch: Batch, gateway: str = "alpha") -> bytes:
        (made,) = self.ledger.commit(*batches.parse(batch.data), gateway, 1.0)
        return made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "ledger.db")
    yield made
    made.file.close()


@pytest.mark.parametrize("reopened", [False, True], ids=["open", "reopened"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(site: Site, scenario: Scenario, reopened: bool) -> None:
    receipts: dict[bytes, bytes] = {}
    forks: set[tuple[bytes, int | None]] = set()
    for number, step in enumerate(scenario(site.world)):
        if reopened:
            site.reopen()
        if isinstance(step, Register):
            site.file.register(step.gateway)
            continue
        place, before = f"step {number}", site.file.last()
        try:
            batch, claims = batches.parse(step.data)
            made = site.ledger.commit(batch, claims, step.publisher, 1.0)
        except Malformed:
            assert step.answer == MALFORMED, place
        except NotCommitted as error:
            refused = error.refused
            assert (refused.reason, refused.seq) == (step.answer, step.last), f"{place}: {refused.words}"
            if step.fork is not None:
                forks.add((batch.stream, step.fork))
        else:
            if step.answer == EXISTS:
                assert made == (receipts[batch.root],), f"{place}: another receipt than the first"
            else:
                assert step.answer == ACCEPTED, place
                (receipts[batch.root],) = made
                receipt.check(made[0], step.publisher, batch, site.pins, before[0])
        assert (site.file.last() == before) == (step.answer != ACCEPTED), place
    assert {(seen.fork.stream, seen.fork.seq) for seen in site.file.forks()} == forks
    assert site.file.last()[0] == len(receipts)
    site.file.check_chain()


def test_transactions_are_chained_and_receipts_name_them(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(5)
    before = bytes(32)
    for block, first in enumerate((0, 2, 4), start=1):
        batch = line.batch(first, 2)
        said = receipt.parse(site.commit(batch))
        before = sha256(batch.root + before).digest()
        assert (said.block, said.transaction, said.channel, said.issued_s) == (block, before, "embedded", NOW_S)
        assert site.file.content(block) == (batch.data, said.data)
    assert [commit.block for commit in site.file.commits(1)] == [2, 3]
    (stream,) = site.file.streams()
    assert (stream.seq, stream.head) == (5, line.statements[5].sid)


def test_a_group_is_committed_together_and_answered_one_by_one(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(5)
    parts = [line.batch(0, 2), line.batch(4, 2), line.batch(2, 2), line.batch(0, 2), line.batch(4, 2)]
    said = site.ledger.submit([Submission("alpha", *batches.parse(batch.data)) for batch in parts])
    new = [answer.new if isinstance(answer, Receipted) else answer.reason for answer in said]
    assert new == [True, RefusalReason.OUT_OF_ORDER, True, False, True]


def test_what_is_answered_survives_and_what_is_not_leaves_no_trace(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(3)
    kept = site.commit(line.batch(0, 2))

    def fails(*_: object) -> None:
        raise RuntimeError("power cut in the middle of a group")

    with monkeypatch.context() as patch:
        patch.setattr(site.file, "append", fails)
        with pytest.raises(RuntimeError, match="power cut"):
            site.commit(line.batch(2, 2))
    site.reopen()
    assert site.commit(line.batch(0, 2)) == kept
    assert receipt.parse(site.commit(line.batch(2, 2))).block == 2


def test_a_full_disk_is_a_problem_that_waiting_mends(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(200)
    first = site.commit(line.batch(0, 2))
    (pages,) = site.file._sql.execute("PRAGMA page_count").fetchone()
    site.file._sql.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to be out of space
    with pytest.raises(LedgerProblem, match="full") as caught:
        site.commit(line.batch(2, 199))
    assert caught.value.waiting_helps
    assert site.commit(line.batch(0, 2)) == first  # what is there is still served
    site.file._sql.execute("PRAGMA max_page_count = 1000000")
    assert receipt.parse(site.commit(line.batch(2, 199))).block == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE blocks SET root = zeroblob(32) WHERE block = 2",
        "UPDATE blocks SET txid = zeroblob(32) WHERE block = 3",
        "DELETE FROM blocks WHERE block = 2",
        "DELETE FROM blocks WHERE block = 1",
        "UPDATE blocks SET block = block + 10 WHERE block = 4",
    ],
)
def test_a_changed_removed_or_moved_commit_is_found_on_opening(site: Site, change: str) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(7)
    for first in range(0, 8, 2):
        site.commit(line.batch(first, 2))
    site.file._sql.execute(change)
    site.file.close()
    with pytest.raises(LedgerProblem, match="block"):
        site.open()


def test_a_file_that_is_none_of_ours_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"these are somebody's notes, and no database\n" * 50)
    before = path.read_bytes()
    with pytest.raises(LedgerProblem, match="is no database") as caught:
        LedgerFile(path, "Org1MSP")
    assert caught.value.__notes__
    assert path.read_bytes() == before

    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE spool (x)").connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerProblem, match="no ledger"):
        LedgerFile(path, "Org1MSP")
    assert path.read_bytes() == before

    path.unlink()
    LedgerFile(path, "Org1MSP").close()
    with pytest.raises(LedgerProblem, match="of Org1MSP, not of Org2MSP"):
        LedgerFile(path, "Org2MSP")
    with pytest.raises(LedgerProblem, match="no ledger here"):
        LedgerFile(tmp_path / "nowhere.db", None, read_only=True)
    with pytest.raises(LedgerProblem):
        LedgerFile(tmp_path, "Org1MSP")


@pytest.mark.parametrize(("version", "more"), [(VERSION + 1, ", or a newer one"), (0, "")])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_ledger_of_another_version_is_left_as_it_is(tmp_path: Path, version: int, more: str, read_only: bool) -> None:
    path = tmp_path / "ledger.db"
    LedgerFile(path, "Org1MSP").close()
    db = sqlite3.connect(path)
    db.execute("UPDATE ledger SET version = ?", (version,))
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        LedgerProblem, match=f"is a ledger of version {version}, this program knows version {VERSION}"
    ) as caught:
        LedgerFile(path, None if read_only else "Org1MSP", read_only)
    words = f"try: the version of aigeco-peer that wrote it{more}; this file is left as it is"
    assert caught.value.__notes__ == [words]
    assert path.read_bytes() == before


def test_a_reader_sees_what_is_committed_and_cannot_write(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(3)
    site.commit(line.batch(0, 2))
    reader = LedgerFile(site.path, None, read_only=True)
    assert (reader.organisation, reader.last()[0]) == ("Org1MSP", 1)
    site.commit(line.batch(2, 2))
    assert reader.last()[0] == 2
    with pytest.raises(LedgerProblem):
        reader.register(Gateway("beta"))
    reader.close()


def test_forks_on_purpose_do_not_fill_the_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.rules.batches._MAX_FORKS", 2)
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin()
    twins = [line.clone().grow(2) for _ in range(4)]
    site.commit(line.grow(2).rest(0))
    for twin in twins:
        with pytest.raises(NotCommitted, match="fork"):
            site.commit(twin.batch(1, 2))
    assert len(site.file.forks()) == 2


def test_the_contracts_show_what_is_committed_and_purge_it(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(5)
    batch = line.batch(0, 3)
    first, _ = site.commit(batch), site.commit(line.batch(3, 3))
    stream = batch.stream.hex()

    def ask(function: str, **given: object) -> dict[str, Any]:
        return dict(unpack(site.file.operator.ask("measurements", function, given)))

    assert ask("Stream", stream=stream)["seq"] == 5
    assert ask("Statements", stream=stream)["statements"] == [[it, line.statements[it].data.hex()] for it in range(6)]
    run = ask("Receipt", stream=stream, first=0, nonce="00" * 16)["batch"]
    assert run["transaction"] == receipt.parse(first).transaction.hex()
    purge = {"stream": stream, "first": 0, "why": "asked to"}
    site.file.transact(lambda: site.file.operator.call("measurements", "Purge", purge))
    assert [seq for seq, _ in ask("Statements", stream=stream)["statements"]] == [3, 4, 5]
    assert site.file.content(1) == (b"", first)
    assert site.commit(batch) == first, "what is purged was committed all the same"
    site.reopen()
    site.file.check_chain()
    site.commit(line.grow(1).batch(6, 1))
    assert site.file.sids(batch.stream, 0, 7) == [said.sid for said in line.statements]


def test_a_batch_that_the_contract_holds_otherwise_is_found(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    site.commit(site.world.line().begin().grow(1).rest(0))
    site.file._sql.execute("UPDATE state SET value = CAST('{}' AS BLOB) WHERE key LIKE 'batch/%' AND collection = ''")
    with pytest.raises(LedgerProblem, match="block 1 is not what the contract has committed"):
        site.file.check_chain()


def test_refused_and_repeated_batches_leave_no_call(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    line = site.world.line().begin().grow(5)
    site.commit(line.batch(0, 2))
    calls = site.file.world.last()[0]
    site.commit(line.batch(0, 2))
    with pytest.raises(NotCommitted):
        site.commit(line.batch(3, 2))
    assert site.file.world.last()[0] == calls


def test_an_organisation_that_may_not_meter_any_more_is_busy(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    roles = {"organisation": "Org1MSP", "roles": ["manager"]}
    site.file.transact(lambda: site.file.operator.call("registry", "SetOrganisation", roles))
    with pytest.raises(NotCommitted, match="busy: forbidden: Org1MSP is no organisation here with the role metering"):
        site.commit(site.world.line().begin().rest(0))


def test_a_batch_that_a_call_has_committed_is_shown_and_has_no_receipt(site: Site) -> None:
    site.file.register(Gateway("alpha"))
    batch = site.world.line().begin().rest(0)
    call = ("measurements", "SubmitBatch", {"gateway": "alpha"}, {"batch": batch.data})
    site.file.transact(lambda: site.file.operator.call(*call))
    with pytest.raises(NotCommitted, match=r"busy: the operator has committed .* which gives no receipt"):
        site.commit(batch)
    assert [stream.stream for stream in site.file.streams()] == [batch.stream]
