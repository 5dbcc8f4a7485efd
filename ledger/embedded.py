"""The embedded ledger: one organisation's commits in one SQLite file, for one machine and for tests.

Judges nothing: :mod:`ledger.rules.measurements` does. Speaks to nobody, never changes or deletes a commit.

Rules
- What is answered is on disk: WAL, ``synchronous=FULL``, and :meth:`EmbeddedLedger.submit` answers after COMMIT.
- One process writes, with one connection (``ledger/peer.py`` holds a lock); others open it to read.
- Commit number n is block n; its transaction id is SHA-256(root || transaction id of block n-1), zeros before the
  first: a commit that is changed, removed or moved breaks the chain of all that follow.
- The receipt is kept with the commit and repeated verbatim. The sids are kept beside the bytes: what a fork is can
  still be told when the bytes of a batch have been purged.
- A file of another organisation or of another version, or one that is no ledger, is left alone. There is one version so
  far: whoever makes the second brings the first up to date, in one transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ledger.commit import ChainBroken, LedgerProblem, NotCommitted, Outcome, Receipted, Submission
from ledger.rules.measurements import Accepted, Exists, Fork, Gateway, Refused, Stream, Terms, judge
from signer import receipt as receipts
from signer.batch import Batch
from signer.keys import KeyStore
from signer.statement import Claims
from signer.trust import Trust

CHANNEL = "embedded"
VERSION = 1
# Opening checks this many of the last commits: what a torn disk takes is at the end, and it stays under 10 ms.
_CHECKED_ON_OPEN = 500
# A gateway that forks on purpose must not fill the disk; the first of them are evidence enough.
_FORKS_KEPT = 1000
# A reader waits this long for a writer's checkpoint; the writer never waits for anybody.
_BUSY_S = 5.0
_BEFORE_THE_FIRST = bytes(32)

_SCHEMA = """
CREATE TABLE ledger (version INTEGER NOT NULL, organisation TEXT NOT NULL);
CREATE TABLE gateways (
    gateway TEXT PRIMARY KEY, root BLOB, certificate BLOB, revoked INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (
    stream BLOB PRIMARY KEY, gateway TEXT NOT NULL, seq INTEGER NOT NULL, head BLOB NOT NULL, key BLOB NOT NULL,
    recovers BLOB) WITHOUT ROWID;
CREATE TABLE keys (stream BLOB NOT NULL, key BLOB NOT NULL, PRIMARY KEY (stream, key)) WITHOUT ROWID;
CREATE TABLE batches (
    block INTEGER PRIMARY KEY, txid BLOB NOT NULL, stream BLOB NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    root BLOB NOT NULL, issued_s INTEGER NOT NULL, receipt BLOB NOT NULL, sids BLOB NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX places ON batches (stream, first);
CREATE TABLE forks (
    stream BLOB NOT NULL, seq INTEGER NOT NULL, other BLOB NOT NULL, committed BLOB NOT NULL, statement BLOB NOT NULL,
    root BLOB NOT NULL, seen_s INTEGER NOT NULL, PRIMARY KEY (stream, seq, other)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """A committed batch, without its bytes.

    Attributes:
        block: its number, from 1.
        issued_s: when it was committed, POSIX seconds.
    """

    block: int
    transaction: bytes
    stream: bytes
    first: int
    count: int
    root: bytes
    issued_s: int


@dataclass(frozen=True, slots=True)
class SeenFork:
    """A recorded fork.

    Attributes:
        root: of the batch that brought it.
        seen_s: when, POSIX seconds.
    """

    fork: Fork
    root: bytes
    seen_s: int


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs the receipts.

    Attributes:
        organisation: MSP id.
        key: the receipt key.
        certificates: its certificate and chain, DER, the key's own first.
    """

    organisation: str
    key: KeyStore
    certificates: tuple[bytes, ...]


class LedgerFile:
    """What is committed, as the rules look it up and as people read it. Used from one thread."""

    def __init__(self, path: Path, organisation: str | None, read_only: bool = False) -> None:
        """Open the file and check the end of its chain; a writer makes it where there is none.

        Args:
            organisation: whose ledger it must be; None = whoever's (readers only).

        Raises:
            LedgerProblem: it cannot be opened, is no ledger, is another organisation's, or its chain is broken.
        """
        self.path = path
        try:
            self._sql = _connect(path, read_only)
            if organisation and not read_only and _is_empty(self._sql):
                _create(self._sql, organisation)
            self.organisation = _owner(self._sql, path, organisation)
            if not read_only:
                self._sql.execute("PRAGMA journal_mode = WAL")
                self._sql.execute("PRAGMA synchronous = FULL")
            self._check_chain()
        except sqlite3.Error as error:
            raise _problem(path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._sql.close()

    # ---- what the rules ask (ledger.rules.measurements.Committed)

    def gateway(self, gateway: str) -> Gateway | None:
        """The registry's entry."""
        row = self._sql.execute("SELECT * FROM gateways WHERE gateway = ?", (gateway,)).fetchone()
        return _gateway(row) if row else None

    def stream(self, stream: bytes) -> Stream | None:
        """Where a stream stands."""
        row = self._sql.execute("SELECT * FROM streams WHERE stream = ?", (stream,)).fetchone()
        return Stream(*row) if row else None

    def root(self, stream: bytes, first: int) -> bytes | None:
        """Root of the batch that begins at ``first``."""
        query = "SELECT root FROM batches WHERE stream = ? AND first = ?"
        row = self._sql.execute(query, (stream, first)).fetchone()
        return bytes(row[0]) if row else None

    def sids(self, stream: bytes, first: int, count: int) -> list[bytes]:
        """The sids of committed statements."""
        query = (
            "SELECT first, sids FROM batches WHERE stream = :stream AND first < :end AND first >="
            " (SELECT max(first) FROM batches WHERE stream = :stream AND first <= :first) ORDER BY first"
        )
        found: list[bytes] = []
        for start, sids in self._sql.execute(query, {"stream": stream, "first": first, "end": first + count}):
            found += [sids[32 * n : 32 * n + 32] for n in range(max(first - start, 0), len(sids) // 32)]
        return found[:count]

    def keys(self, stream: bytes) -> list[bytes]:
        """Every key that signed committed statements of the stream."""
        query = "SELECT key FROM keys WHERE stream = ? ORDER BY key"
        return [bytes(row[0]) for row in self._sql.execute(query, (stream,))]

    # ---- what people read

    def gateways(self) -> list[Gateway]:
        """The registry, by id."""
        return [_gateway(row) for row in self._sql.execute("SELECT * FROM gateways ORDER BY gateway")]

    def streams(self) -> list[Stream]:
        """Every stream, by gateway, the oldest first."""
        query = (
            "SELECT streams.* FROM streams JOIN batches ON batches.stream = streams.stream AND batches.first = 0"
            " ORDER BY gateway, block"
        )
        return [Stream(*row) for row in self._sql.execute(query)]

    def commits(self, after_block: int = 0) -> Iterator[Commit]:
        """The commits in their order, from block ``after_block + 1``."""
        query = "SELECT block, txid, stream, first, count, root, issued_s FROM batches WHERE block > ? ORDER BY block"
        return (Commit(*row) for row in self._sql.execute(query, (after_block,)))

    def content(self, block: int) -> tuple[bytes, bytes]:
        """A commit's batch and receipt, verbatim."""
        data, receipt = self._sql.execute("SELECT data, receipt FROM batches WHERE block = ?", (block,)).fetchone()
        return bytes(data), bytes(receipt)

    def forks(self) -> list[SeenFork]:
        """Every recorded fork, the oldest first."""
        query = "SELECT stream, seq, committed, other, statement, root, seen_s FROM forks ORDER BY seen_s, stream, seq"
        return [SeenFork(Fork(*row[:5]), row[5], row[6]) for row in self._sql.execute(query)]

    # ---- what changes

    def register(self, gateway: Gateway) -> None:
        """Put a gateway into the registry, or change its entry.

        Raises:
            LedgerProblem: it could not be written.
        """
        try:
            self._sql.execute(
                "INSERT OR REPLACE INTO gateways VALUES (?, ?, ?, ?)",
                (gateway.gateway, gateway.root, gateway.certificate, int(gateway.revoked)),
            )
        except sqlite3.Error as error:
            raise _problem(self.path, error) from error

    def transact(self, work: Callable[[], tuple[Outcome, ...]]) -> tuple[Outcome, ...]:
        """Do ``work`` in one transaction: on disk when this returns, or undone.

        Raises:
            LedgerProblem: it is undone.
        """
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            outcomes = work()
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise _problem(self.path, error) from error
        except BaseException:
            self._roll_back()
            raise
        return outcomes

    def last(self) -> tuple[int, bytes]:
        """Number and transaction id of the last block."""
        row = self._sql.execute("SELECT block, txid FROM batches ORDER BY block DESC LIMIT 1").fetchone()
        return (row[0], bytes(row[1])) if row else (0, _BEFORE_THE_FIRST)

    def receipt(self, stream: bytes, first: int) -> bytes:
        """The receipt of the batch that begins at ``first``, verbatim."""
        query = "SELECT receipt FROM batches WHERE stream = ? AND first = ?"
        return bytes(self._sql.execute(query, (stream, first)).fetchone()[0])

    def append(self, commit: Commit, accepted: Accepted, sids: bytes, data: bytes, receipt: bytes) -> None:
        """Write one commit with all that it changes; inside :meth:`transact`."""
        head = (commit.block, commit.transaction, commit.stream, commit.first, commit.count, commit.root)
        row = (*head, commit.issued_s, receipt, sids, data)
        self._sql.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._sql.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (commit.stream, accepted.key))
        stream = accepted.stream
        state = (stream.stream, stream.gateway, stream.seq, stream.head, stream.key, stream.recovers)
        self._sql.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?)", state)
        if accepted.gateway:
            self.register(accepted.gateway)

    def record(self, fork: Fork, root: bytes, seen_s: int) -> None:
        """Keep the evidence of a fork; inside :meth:`transact`."""
        (kept,) = self._sql.execute("SELECT count(*) FROM forks WHERE stream = ?", (fork.stream,)).fetchone()
        if kept < _FORKS_KEPT:
            row = (fork.stream, fork.seq, fork.other, fork.committed, fork.statement, root, seen_s)
            self._sql.execute("INSERT OR IGNORE INTO forks VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def check_chain(self, blocks: int | None = None) -> None:
        """Recompute the chain of the last ``blocks`` commits, of all by default.

        Raises:
            ChainBroken: names the first block that is not what it was.
        """
        last, _ = self.last()
        start = max(0, last - blocks) if blocks is not None else 0
        row = self._sql.execute("SELECT txid FROM batches WHERE block = ?", (start,)).fetchone()
        if start and row is None:
            raise ChainBroken(f"{self.path}: block {start} is missing")
        before, due = (bytes(row[0]) if row else _BEFORE_THE_FIRST), start + 1
        for commit in self.commits(start):
            if commit.block != due:
                raise ChainBroken(f"{self.path}: block {due} is missing")
            if sha256(commit.root + before).digest() != commit.transaction:
                raise ChainBroken(f"{self.path}: block {commit.block} is not what was committed")
            before, due = commit.transaction, due + 1

    def _check_chain(self) -> None:
        self.check_chain(_CHECKED_ON_OPEN)

    def _roll_back(self) -> None:
        try:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # SQLite has done it; what was wrong is being raised already


class EmbeddedLedger:
    """One organisation's ledger, writing and signing receipts."""

    def __init__(self, file: LedgerFile, issuer: Issuer, trust: Trust, now_s: Callable[[], float] = time.time) -> None:
        self.file = file
        self._issuer = issuer
        self._trust = trust
        self._now_s = now_s

    def position(self, gateway: str, stream: bytes) -> tuple[Gateway | None, Stream | None]:
        """The registry's entry of a gateway, and where a stream stands.

        Raises:
            LedgerProblem: the ledger cannot be read.
        """
        try:
            return self.file.gateway(gateway), self.file.stream(stream)
        except sqlite3.Error as error:
            raise _problem(self.file.path, error) from error

    def commit(self, batch: Batch, claims: Sequence[Claims], gateway: str, timeout_s: float) -> tuple[bytes, ...]:
        """Commit one batch (:class:`ledger.commit.Ledger`); it takes as long as the disk does."""
        (outcome,) = self.submit([Submission(gateway, batch, claims)])
        if isinstance(outcome, Refused):
            raise NotCommitted(outcome)
        return (outcome.receipt,)

    def submit(self, group: Sequence[Submission]) -> tuple[Outcome, ...]:
        """Judge and commit several batches in one transaction; the answers are in their order.

        Raises:
            LedgerProblem: nothing of the group is committed.
        """
        issued_s = int(self._now_s())
        return self.file.transact(lambda: tuple(self._take(submission, issued_s) for submission in group))

    def _take(self, submission: Submission, issued_s: int) -> Outcome:
        batch = submission.batch
        judgement = judge(self.file, Terms(self._trust, issued_s * 1000), submission.gateway, batch, submission.claims)
        if isinstance(judgement, Exists):
            return Receipted(self.file.receipt(batch.stream, batch.first), new=False)
        if isinstance(judgement, Refused):
            if judgement.fork:
                self.file.record(judgement.fork, batch.root, issued_s)
            return judgement
        block, before = self.file.last()
        transaction = sha256(batch.root + before).digest()
        commit = Commit(block + 1, transaction, batch.stream, batch.first, batch.count, batch.root, issued_s)
        receipt = self._sign(submission, commit)
        sids = b"".join(claim.sid for claim in submission.claims)
        self.file.append(commit, judgement, sids, batch.data, receipt)
        return Receipted(receipt, new=True)

    def _sign(self, submission: Submission, commit: Commit) -> bytes:
        return receipts.issue(
            self._issuer.key,
            self._issuer.certificates,
            self._issuer.organisation,
            submission.gateway,
            commit.issued_s,
            submission.batch,
            CHANNEL,
            commit.block,
            commit.transaction,
        )


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    if read_only and not path.exists():
        raise LedgerProblem(f"{path}: there is no ledger here")
    mode = "ro" if read_only else "rwc"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_S)


def _is_empty(sql: sqlite3.Connection) -> bool:
    return bool(sql.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,))


def _create(sql: sqlite3.Connection, organisation: str) -> None:
    """Make the tables in an empty file, all or none."""
    sql.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
    sql.execute("INSERT INTO ledger VALUES (?, ?)", (VERSION, organisation))
    sql.execute("COMMIT")


def _owner(sql: sqlite3.Connection, path: Path, organisation: str | None) -> str:
    if sql.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'").fetchone() == (0,):
        raise LedgerProblem(f"{path}: is a database, but no ledger")
    version, owner = sql.execute("SELECT version, organisation FROM ledger").fetchone()
    if version != VERSION:
        problem = LedgerProblem(f"{path}: is a ledger of version {version}, this program knows version {VERSION}")
        other = "the version of aigeco-peer that wrote it" + (", or a newer one" if version > VERSION else "")
        problem.add_note(f"try: {other}; this file is left as it is")
        raise problem
    if organisation is not None and owner != organisation:
        raise LedgerProblem(f"{path}: is the ledger of {owner}, not of {organisation}")
    return str(owner)


def _gateway(row: tuple[str, bytes | None, bytes | None, int]) -> Gateway:
    return Gateway(row[0], row[1], row[2], bool(row[3]))


def _problem(path: Path, error: sqlite3.Error) -> LedgerProblem:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_NOTADB:
        problem = LedgerProblem(f"{path}: is no database")
        problem.add_note("try: another path in peer.ledger; this file is left as it is")
        return problem
    if code == sqlite3.SQLITE_FULL:
        return LedgerProblem(f"{path}: the disk is full", waiting_helps=True)
    if code is not None and code & 0xFF == sqlite3.SQLITE_BUSY:
        return LedgerProblem(f"{path}: another process writes to it", waiting_helps=True)
    return LedgerProblem(f"{path}: {error}")
