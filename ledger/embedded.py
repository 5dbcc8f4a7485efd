"""The embedded ledger: one organisation's commits in one SQLite file, for one machine and for tests.

Judges nothing: the contracts do (:mod:`ledger.contracts`), the same as on a network; a batch is committed by
``SubmitBatch`` of the contract ``measurements``. Speaks to nobody, never changes or deletes a commit.

Rules
- What is answered is on disk: WAL, ``synchronous=FULL``, and :meth:`EmbeddedLedger.submit` answers after COMMIT.
- One process writes, with one connection (``ledger/peer.py`` holds a lock); others open it to read.
- Commit number n is block n; its transaction id is SHA-256(root || transaction id of block n-1), zeros before the
  first: a commit that is changed, removed or moved breaks the chain of all that follow.
- The receipt is kept with the block and repeated verbatim. What is committed is the contract's state, in the same file
  (:mod:`ledger.world_file`), and stays the contract's to show and to purge.
- A file of another organisation or of a newer version, or one that is no ledger, is left alone; an older one is brought
  up to date by who writes (:mod:`ledger.schema`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from ledger import schema
from ledger.commit import ChainBroken, LedgerProblem, NotCommitted, Outcome, Receipted, Submission
from ledger.contracts import CONTRACTS
from ledger.operator import Operator, ingestion
from ledger.rules import batches
from ledger.rules.measurements import Fork, Gateway, Refused, Stream
from ledger.rules.record import Record, pack, unpack
from ledger.rules.world import Declined, key, ordered, under
from ledger.world_file import Broken, Done, FileWorld
from signer import receipt as receipts
from signer.batch import Batch
from signer.dialogue import RefusalReason
from signer.keys import KeyStore
from signer.statement import Claims
from signer.trust import Trust

CHANNEL = "embedded"
# Opening checks this many of the last commits: what a torn disk takes is at the end, and it stays under 10 ms.
_CHECKED_ON_OPEN = 500
# A reader waits this long for a writer's checkpoint; the writer never waits for anybody.
_BUSY_S = 5.0
_BEFORE_THE_FIRST = bytes(32)

_Outcome = TypeVar("_Outcome")


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
    """What is committed, as the peer answers with it and as people read it. Used from one thread.

    Attributes:
        world: the contracts' part.
        operator: calls them, inside :meth:`transact`.
    """

    def __init__(
        self,
        path: Path,
        organisation: str | None,
        read_only: bool = False,
        now_s: Callable[[], float] = time.time,
        check: bool = True,
    ) -> None:
        """Open the file and check the end of its chain; a writer makes it where there is none.

        Args:
            organisation: whose ledger it must be; None = whoever's (readers only).
            check: False leaves the chain to the caller, who looks for the place where it breaks.

        Raises:
            LedgerProblem: it cannot be opened, is no ledger, is another organisation's, or its chain is broken.
        """
        self.path = path
        try:
            self._sql = _connect(path, read_only)
            if organisation and not read_only and _is_empty(self._sql):
                schema.create(self._sql, organisation, now_s)
            self.organisation, version = _owner(self._sql, path, organisation)
            if not read_only:
                self._sql.execute("PRAGMA journal_mode = WAL")
                self._sql.execute("PRAGMA synchronous = FULL")
                self._sql.execute("PRAGMA secure_delete = ON")
            if version != schema.VERSION:
                if read_only:
                    raise _older(path, version)
                schema.migrate(self._sql, version, self.organisation, now_s)
            self.world = FileWorld(self._sql, CONTRACTS)
            self.operator = Operator(self.world, self.organisation, now_s)
            if check:
                self.check_chain(_CHECKED_ON_OPEN)
        except sqlite3.Error as error:
            raise _problem(path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._sql.close()

    def gateway(self, gateway: str) -> Gateway | None:
        """The registry's entry."""
        return self.operator.gateway(gateway)

    def stream(self, stream: bytes) -> Stream | None:
        """Where a stream stands."""
        value = self.world.get(batches.NAME, key("stream", stream.hex()))
        return batches.stream_of(unpack(value)) if value else None

    def sids(self, stream: bytes, first: int, count: int) -> list[bytes]:
        """The sids of committed statements."""
        query = "SELECT first FROM blocks WHERE stream = ? AND first < ? AND first + count > ? ORDER BY first"
        found: list[bytes] = []
        for (start,) in self._sql.execute(query, (stream, first + count, first)):
            sids = self.world.get(batches.NAME, key("sids", stream.hex(), ordered(start)), batches.EVIDENCE) or b""
            found += [sids[32 * n : 32 * n + 32] for n in range(max(first - start, 0), len(sids) // 32)]
        return found[:count]

    # ---- what people read

    def gateways(self) -> list[Gateway]:
        """The registry, by id."""
        return self.operator.gateways()

    def streams(self) -> list[Stream]:
        """Every stream, by gateway, the oldest first."""
        found = [batches.stream_of(unpack(value)) for _, value in self.world.scan(batches.NAME, *under("stream"))]
        begun = dict(self._sql.execute("SELECT stream, block FROM blocks WHERE first = 0").fetchall())
        return sorted(found, key=lambda stream: (stream.gateway, begun.get(stream.stream, 0)))

    def commits(self, after_block: int = 0) -> Iterator[Commit]:
        """The commits in their order, from block ``after_block + 1``."""
        query = "SELECT block, txid, stream, first, count, root, issued_s FROM blocks WHERE block > ? ORDER BY block"
        return (Commit(*row) for row in self._sql.execute(query, (after_block,)))

    def content(self, block: int) -> tuple[bytes, bytes]:
        """A commit's batch and receipt, verbatim; the batch is empty when it was purged."""
        query = "SELECT stream, first, receipt FROM blocks WHERE block = ?"
        stream, first, receipt = self._sql.execute(query, (block,)).fetchone()
        data = self.world.get(batches.NAME, key("batch", stream.hex(), ordered(first)), batches.READINGS)
        return data or b"", bytes(receipt)

    def hold(self) -> None:
        """From now on all reads see this moment, until the file is closed."""
        self._sql.execute("BEGIN")
        self._sql.execute("SELECT count(*) FROM ledger").fetchone()  # a transaction's moment is that of its first read

    def block(self, stream: bytes, first: int) -> tuple[Commit, bytes | None] | None:
        """The commit of the batch that begins at ``first``, and the transaction before it: None when it is gone."""
        query = "SELECT block, txid, stream, first, count, root, issued_s FROM blocks WHERE stream = ? AND first = ?"
        row = self._sql.execute(query, (stream, first)).fetchone()
        if row is None:
            return None
        commit = Commit(*row)
        if commit.block == 1:
            return commit, _BEFORE_THE_FIRST
        before = self._sql.execute("SELECT txid FROM blocks WHERE block = ?", (commit.block - 1,)).fetchone()
        return commit, bytes(before[0]) if before else None

    def forks(self) -> list[SeenFork]:
        """Every recorded fork, the oldest first."""
        found = [self._fork(place, unpack(value)) for place, value in self.world.scan(batches.NAME, *under("fork"))]
        return sorted(found, key=lambda seen: (seen.seen_s, seen.fork.stream, seen.fork.seq))

    def fork(self, stream: str, seq: int, other: str) -> SeenFork:
        """One recorded fork."""
        place = key("fork", stream, ordered(seq), other)
        return self._fork(place, unpack(self.world.get(batches.NAME, place) or b""))

    def _fork(self, place: str, record: Record) -> SeenFork:
        stream, committed, other = (bytes.fromhex(record[name]) for name in ("stream", "committed", "other"))
        statement = self.world.get(batches.NAME, place, batches.EVIDENCE) or b""
        fork = Fork(stream, record["seq"], committed, other, statement)
        return SeenFork(fork, bytes.fromhex(record["root"]), record["time_ms"] // 1000)

    # ---- what changes

    def register(self, gateway: Gateway) -> None:
        """Put a gateway into the registry, or change its entry.

        Raises:
            LedgerProblem: it could not be written.
        """
        self.transact(lambda: self.operator.register(gateway))

    def believe(self, trust: Trust) -> None:
        """Have the registry know the authorities that issue gateway certificates.

        Raises:
            LedgerProblem: it could not be written.
        """
        self.transact(lambda: self.operator.believe(trust.gateways))

    def transact(self, work: Callable[[], _Outcome]) -> _Outcome:
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

    def tidy(self) -> bool:
        """Leave nothing of what was purged in unused places of the file; False: not now, because of who reads it.

        Raises:
            LedgerProblem: it could not be written.
        """
        try:
            self.world.tidy()
        except sqlite3.Error as error:
            problem = _problem(self.path, error)
            if problem.waiting_helps:
                return False
            raise problem from error
        return True

    def last(self) -> tuple[int, bytes]:
        """Number and transaction id of the last block."""
        row = self._sql.execute("SELECT block, txid FROM blocks ORDER BY block DESC LIMIT 1").fetchone()
        return (row[0], bytes(row[1])) if row else (0, _BEFORE_THE_FIRST)

    def receipt(self, stream: bytes, first: int) -> bytes | None:
        """The receipt of the batch that begins at ``first``, verbatim; None: a call brought it, and it has no block."""
        query = "SELECT receipt FROM blocks WHERE stream = ? AND first = ?"
        row = self._sql.execute(query, (stream, first)).fetchone()
        return bytes(row[0]) if row else None

    def append(self, commit: Commit, receipt: bytes) -> None:
        """Add a block; inside :meth:`transact`, after its call."""
        row = (commit.block, commit.transaction, commit.stream, commit.first, commit.count, commit.root)
        self._sql.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, commit.issued_s, receipt))

    def check_chain(self, blocks: int | None = None) -> None:
        """Recompute the chains of the last ``blocks`` commits and calls, of all by default.

        Raises:
            ChainBroken: names the first block that is not what it was.
        """
        last, _ = self.last()
        start = max(0, last - blocks) if blocks is not None else 0
        row = self._sql.execute("SELECT txid FROM blocks WHERE block = ?", (start,)).fetchone()
        if start and row is None:
            raise ChainBroken(f"{self.path}: block {start} is missing")
        before, due = (bytes(row[0]) if row else _BEFORE_THE_FIRST), start + 1
        for commit in self.commits(start):
            if commit.block != due:
                raise ChainBroken(f"{self.path}: block {due} is missing")
            if sha256(commit.root + before).digest() != commit.transaction:
                raise ChainBroken(f"{self.path}: block {commit.block} is not what was committed")
            place = key("batch", commit.stream.hex(), ordered(commit.first))
            public = unpack(self.world.get(batches.NAME, place) or b"{}")
            if (public.get("root"), public.get("transaction")) != (commit.root.hex(), commit.transaction.hex()):
                raise ChainBroken(f"{self.path}: block {commit.block} is not what the contract has committed")
            before, due = commit.transaction, due + 1
        try:
            self.world.check(blocks)
        except Broken as error:
            raise ChainBroken(f"{self.path}: {error}") from error

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
        self._now_s = now_s
        self._caller = ingestion(issuer.organisation)
        self._answers: list[tuple[int, Outcome]] = []
        self.trouble = ""
        file.believe(trust)

    def when_ready(self, wake: Callable[[], None]) -> None:
        """Nobody waits: answers are there when :meth:`hand_over` returns."""

    def hand_over(self, group: Sequence[tuple[int, Submission]]) -> None:
        """Commit several batches in one transaction (:class:`ledger.commit.Intake`)."""
        outcomes: Sequence[Outcome]
        try:
            outcomes, self.trouble = self.submit([submission for _, submission in group]), ""
        except LedgerProblem as problem:
            if not problem.waiting_helps:
                raise
            self.trouble = str(problem)
            outcomes = [Refused(RefusalReason.BUSY, str(problem)) for _ in group]
        self._answers += zip((number for number, _ in group), outcomes, strict=True)

    def answers(self) -> list[tuple[int, Outcome]]:
        """The answers that were not fetched yet."""
        found, self._answers = self._answers, []
        return found

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
        time_ms = int(self._now_s() * 1000)
        return self.file.transact(lambda: tuple(self._take(submission, time_ms) for submission in group))

    def _take(self, submission: Submission, time_ms: int) -> Outcome:
        batch = submission.batch
        block, before = self.file.last()
        transaction = sha256(batch.root + before).digest()
        try:
            done = self.file.world.commit(
                batches.NAME,
                "SubmitBatch",
                pack({"gateway": submission.gateway}),
                self._caller,
                time_ms,
                {"batch": batch.data},
                given=transaction,
                do=batches.parsed(batch, submission.claims),
            )
        except Declined as declined:  # the registry does not let this organisation commit: its operator's to mend
            return Refused(RefusalReason.BUSY, str(declined))
        said = unpack(done.answer)
        if said["outcome"] == "exists":
            receipt = self.file.receipt(batch.stream, batch.first)
            if receipt is None:
                words = f"the operator has committed stream {batch.stream.hex()} from seq {batch.first} on by a call"
                return Refused(RefusalReason.BUSY, f"{words}, which gives no receipt")
            return Receipted(receipt, new=False)
        if said["outcome"] == "refused":
            sid = bytes.fromhex(said["sid"]) if said["sid"] else None
            return Refused(RefusalReason(said["reason"]), said["words"], said["seq"], sid, self._new_fork(done))
        commit = Commit(block + 1, transaction, batch.stream, batch.first, batch.count, batch.root, time_ms // 1000)
        receipt = self._sign(submission, commit)
        self.file.append(commit, receipt)
        return Receipted(receipt, new=True)

    def _new_fork(self, done: Done) -> Fork | None:
        """The fork that a call has written down; one that was known before is no news."""
        if done.event is None:
            return None
        (sides,) = unpack(done.event[1])["forks"]
        return self.file.fork(sides["stream"], sides["seq"], sides["other"]).fork

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


def _owner(sql: sqlite3.Connection, path: Path, organisation: str | None) -> tuple[str, int]:
    """Whose it is, and of which version; one that may be used, or brought up to date."""
    if sql.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'").fetchone() == (0,):
        raise LedgerProblem(f"{path}: is a database, but no ledger")
    version, owner = sql.execute("SELECT version, organisation FROM ledger").fetchone()
    if not 1 <= version <= schema.VERSION:
        words = f"{path}: is a ledger of version {version}, this program knows version {schema.VERSION}"
        problem = LedgerProblem(words)
        other = "the version of aigeco-peer that wrote it" + (", or a newer one" if version > schema.VERSION else "")
        problem.add_note(f"try: {other}; this file is left as it is")
        raise problem
    if organisation is not None and owner != organisation:
        raise LedgerProblem(f"{path}: is the ledger of {owner}, not of {organisation}")
    return str(owner), int(version)


def _older(path: Path, version: int) -> LedgerProblem:
    problem = LedgerProblem(f"{path}: is a ledger of version {version}, which is older than this program")
    problem.add_note("try: aigeco-peer run, which brings it up to date when it starts")
    return problem


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
