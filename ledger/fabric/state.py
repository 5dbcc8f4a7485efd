"""What an ingestion peer on a network has seen committed at its own Fabric peer, and what it said: one SQLite file.

Everything but the receipts and the envelopes can be read from the blocks again: a file that is lost is made anew from
the channel's first block, and batches that come again get new receipts for the same commit.

Rules
- One transaction, and so one sync of the disk, for each block: the place in the chain with what was seen in it.
- A receipt is here before anybody gets it, and is repeated verbatim. An envelope is here before it is sent, and goes
  with the block that has it.
- A run takes some 130 bytes and its receipt 1.1 kB, whatever the number of statements.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.commit import LedgerProblem
from ledger.fabric.events import Checkpoint
from ledger.rules.measurements import Stream

_VERSION = 1
_TABLES = """
CREATE TABLE peer (version INTEGER, organisation TEXT, channel TEXT);
CREATE TABLE place (block INTEGER, header TEXT);
CREATE TABLE streams (stream BLOB PRIMARY KEY, gateway TEXT, seq INTEGER, head BLOB) WITHOUT ROWID;
CREATE TABLE keys (stream BLOB, first INTEGER, spki BLOB, PRIMARY KEY (stream, first)) WITHOUT ROWID;
CREATE TABLE runs (stream BLOB, first INTEGER, root BLOB, gateway TEXT, block INTEGER, txid BLOB,
    PRIMARY KEY (stream, first)) WITHOUT ROWID;
CREATE TABLE receipts (stream BLOB, first INTEGER, receipt BLOB, PRIMARY KEY (stream, first));
CREATE TABLE envelopes (txid TEXT PRIMARY KEY, streams BLOB, envelope BLOB);
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A committed batch, as the event of its transaction tells.

    Attributes:
        keys: from which seq on which key (SubjectPublicKeyInfo) is the stream's, where it begins in this run.
    """

    stream: bytes
    first: int
    count: int
    root: bytes
    head: bytes
    gateway: str
    block: int
    transaction: bytes
    keys: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of a committed batch."""

    root: bytes
    gateway: str
    block: int
    transaction: bytes
    receipt: bytes | None


class State:
    """The file. May be used by several threads; one process writes it (:mod:`ledger.lock`)."""

    def __init__(self, path: Path, organisation: str, channel: str) -> None:
        """Open it, or make it.

        Raises:
            LedgerProblem: it cannot be opened, or is another peer's.
        """
        self.path = path
        self._lock = threading.RLock()
        try:
            self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            if self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                self._sql.executescript(f"BEGIN; {_TABLES} COMMIT;")
                self._sql.execute("INSERT INTO peer VALUES (?, ?, ?)", (_VERSION, organisation, channel))
            found = self._sql.execute("SELECT version, organisation, channel FROM peer").fetchone()
        except sqlite3.Error as error:
            raise self._problem(error) from error
        if found != (_VERSION, organisation, channel):
            problem = LedgerProblem(f"{path}: is of {found}, not of {(_VERSION, organisation, channel)}")
            problem.add_note("try: another path in fabric.state; this file is left as it is")
            raise problem

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._sql.close()

    def place(self) -> Checkpoint | None:
        """The last block that was seen."""
        found = self._one("SELECT block, header FROM place")
        return Checkpoint(*found) if found else None

    def stream(self, stream: bytes) -> Stream | None:
        """Where a stream stands at the own peer."""
        found = self._one("SELECT gateway, seq, head FROM streams WHERE stream = ?", stream)
        if not found:
            return None
        return Stream(stream, found[0], found[1], bytes(found[2]), self.key(stream, found[1] + 1))

    def key(self, stream: bytes, seq: int) -> bytes:
        """SubjectPublicKeyInfo that the statement at ``seq`` must be signed with."""
        query = "SELECT spki FROM keys WHERE stream = ? AND first <= ? ORDER BY first DESC LIMIT 1"
        found = self._one(query, stream, seq)
        if not found:
            raise LedgerProblem(f"{self.path}: no key of stream {stream.hex()}")
        return bytes(found[0])

    def run(self, stream: bytes, first: int) -> Held | None:
        """The committed batch that begins there."""
        query = (
            "SELECT root, gateway, block, txid, receipt FROM runs LEFT JOIN receipts USING (stream, first)"
            " WHERE stream = ? AND first = ?"
        )
        found = self._one(query, stream, first)
        if not found:
            return None
        receipt = bytes(found[4]) if found[4] is not None else None
        return Held(bytes(found[0]), found[1], found[2], bytes(found[3]), receipt)

    def envelopes(self) -> list[tuple[bytes, frozenset[bytes]]]:
        """Signed envelopes of which it is not known what became of them, with their streams."""
        with self._lock:
            rows = self._sql.execute("SELECT envelope, streams FROM envelopes").fetchall()
        cut = [(bytes(envelope), bytes(streams)) for envelope, streams in rows]
        return [
            (envelope, frozenset(streams[at : at + 16] for at in range(0, len(streams), 16)))
            for envelope, streams in cut
        ]

    def counts(self) -> tuple[int, int]:
        """Committed runs, and receipts of ours."""
        runs, receipts = (self._one(f"SELECT count(*) FROM {name}") for name in ("runs", "receipts"))
        return int(runs[0]), int(receipts[0])

    def seen(
        self,
        place: Checkpoint,
        runs: Sequence[Run],
        ended: Sequence[str],
        receipts: Mapping[tuple[bytes, int], bytes],
    ) -> None:
        """A block is done: what it commits, the transactions it has, the receipts that come of it.

        Raises:
            LedgerProblem: nothing of it is written.
        """
        with self._lock, self._transaction():
            for run in runs:
                self._sql.execute(
                    "INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?)",
                    (run.stream, run.gateway, run.first + run.count - 1, run.head),
                )
                row = (run.stream, run.first, run.root, run.gateway, run.block, run.transaction)
                self._sql.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", row)
                for first, spki in run.keys:
                    self._sql.execute("INSERT INTO keys VALUES (?, ?, ?)", (run.stream, first, spki))
            self._sql.executemany("DELETE FROM envelopes WHERE txid = ?", [(txid,) for txid in ended])
            self._receipts(receipts)
            self._sql.execute("DELETE FROM place")
            self._sql.execute("INSERT INTO place VALUES (?, ?)", (place.block, place.header))

    def say(self, receipts: Mapping[tuple[bytes, int], bytes]) -> None:
        """Keep receipts, by stream and first seq.

        Raises:
            LedgerProblem: none is kept.
        """
        with self._lock, self._transaction():
            self._receipts(receipts)

    def keep(self, txid: str, envelope: bytes, streams: Sequence[bytes]) -> None:
        """Keep a signed envelope before it is sent.

        Raises:
            LedgerProblem: it is not kept.
        """
        with self._lock, self._transaction():
            self._sql.execute("INSERT OR REPLACE INTO envelopes VALUES (?, ?, ?)", (txid, b"".join(streams), envelope))

    def drop(self, txid: str) -> None:
        """Forget an envelope that will never be in a block."""
        with self._lock, self._transaction():
            self._sql.execute("DELETE FROM envelopes WHERE txid = ?", (txid,))

    def _receipts(self, receipts: Mapping[tuple[bytes, int], bytes]) -> None:
        rows = [(*place, receipt) for place, receipt in receipts.items()]
        self._sql.executemany("INSERT INTO receipts VALUES (?, ?, ?)", rows)

    def _one(self, query: str, *given: object) -> Any:
        try:
            with self._lock:
                return self._sql.execute(query, given).fetchone()
        except sqlite3.Error as error:
            raise self._problem(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """On disk when it ends well, undone otherwise."""
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            yield
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._problem(error) from error
        finally:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")

    def _problem(self, error: sqlite3.Error) -> LedgerProblem:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        return LedgerProblem(f"{self.path}: {'the disk is full' if full else error}", waiting_helps=full)
