"""The spool: statements from the moment they are signed until k organisations committed them, and the chain's head.

Signs nothing, sends nothing, checks no receipt. Never deletes a statement that is not committed.

Rules
- One process (a lock beside the file) and one writing connection.
- The head is the last statement; it has no row of its own, so the two cannot disagree.
- What one transaction stores is one row: pages touched per commit are what wears a card out.
- Batch boundaries are on disk before a batch leaves, so a restart sends the same bytes with the same root.
- Pruned: committed, when asked to, oldest first. (seq, sid) and the receipts stay. What is needed stays as well:
  genesis and rekeys (who signed), descriptors (what the rest means), the newest statements (where chain and slots are).
- A stream that the ledger contradicts is abandoned from a seq on: those statements stay and are never sent.
- A spool that cannot be read, or is another gateway's, is set aside under another name, and a new one begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.map import MeterMap
from edge.database import (
    Database,
    SpoolBusy,
    SpoolDamaged,
    SpoolFailed,
    SpoolForeign,
    Writing,
    mark_damaged,
    move_aside,
    peek,
)
from edge.lockfile import Held, Lock
from edge.spool_read import SEQ_BITS, SEQ_MASK, SID_BYTES, SpoolReader, Stream, pack, unpack
from signer import batch as batches
from signer import statement
from signer.batch import Batch
from signer.chain import Head
from signer.codes import Kind
from signer.errors import Malformed
from signer.receipt import Receipt
from signer.statement import Claims, Instant, Statement, stream_of

_SNAPSHOT_EVERY = 1024
"""Statements after which the points' positions are written down again: bounds what a start has to parse (30 ms)."""

_BATCH_FIELDS_BYTES = 256
"""Room for a batch's own fields; they take 140 bytes with the largest numbers."""

_ITEM_BYTES = 3
"""Head of a byte string of 256 B to 64 KiB inside a batch."""

_LATE_BATCHES = 4096
"""A receipt that comes after so many later batches is looked for no more: three days at one batch a minute."""

_NEVER_PRUNED = frozenset({Kind.GENESIS, Kind.REKEY, Kind.DESCRIPTOR})

_SCHEMA = """
CREATE TABLE owner (gateway TEXT NOT NULL);
CREATE TABLE stream (number INTEGER PRIMARY KEY, id BLOB NOT NULL, abandoned_from INTEGER, carried_to INTEGER);
CREATE TABLE run (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, statements BLOB NOT NULL);
CREATE TABLE pruned (id INTEGER PRIMARY KEY, sids BLOB NOT NULL);
CREATE TABLE batch (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, root BLOB NOT NULL, committed INTEGER NOT NULL);
CREATE TABLE receipt (batch INTEGER NOT NULL, organisation TEXT NOT NULL, channel TEXT NOT NULL, block INTEGER NOT NULL,
                      data BLOB NOT NULL, PRIMARY KEY (batch, organisation, channel, block)) WITHOUT ROWID;
CREATE TABLE newest (organisation TEXT NOT NULL, channel TEXT NOT NULL, block INTEGER NOT NULL,
                     PRIMARY KEY (organisation, channel)) WITHOUT ROWID;
CREATE TABLE process (one INTEGER PRIMARY KEY, boot INTEGER NOT NULL, host_boot TEXT NOT NULL, version TEXT NOT NULL,
                      ended TEXT NOT NULL, began INTEGER NOT NULL, matched INTEGER);
CREATE TABLE map (digest BLOB PRIMARY KEY, name TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshot (one INTEGER PRIMARY KEY, upto INTEGER NOT NULL, positions TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a measuring point is accounted for, by readings and gaps.

    Attributes:
        until_ms: end of the last accounted slot, POSIX milliseconds; None before the first.
        period_ms: period of the last descriptor; None before the first.
    """

    until_ms: int | None
    period_ms: int | None


@dataclass(frozen=True, slots=True)
class Process:
    """One run of the agent.

    Attributes:
        boot: the boot counter its statements carry.
        host_boot: the kernel's boot id.
        version: of the software.
        began: seq of its first statement.
        ended: how it ended: ``""`` (it did not say) or ``clean``.
        matched: seq up to which a ledger's head was last found to match the chain, in any run; None: never.
    """

    boot: int
    host_boot: str
    version: str
    began: int
    ended: str = ""
    matched: int | None = None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A spool that could not be used.

    Attributes:
        path: its new name.
        reason: why.
        head: its last statement, when that could still be read.
    """

    path: Path
    reason: str
    head: Head | None


@dataclass(frozen=True, slots=True)
class Boundaries:
    """What a receipt of a batch must agree with.

    Attributes:
        stream: 16 bytes.
        first: seq of the first statement.
        count: how many.
        head: sid of the last.
        root: Merkle root.
    """

    stream: bytes
    first: int
    count: int
    head: bytes
    root: bytes


class Spool(SpoolReader):
    """The one that writes.

    Attributes:
        was_set_aside: the file that could not be used when this one was opened; None in good order.
    """

    def __init__(self, database: Database, lock: Lock) -> None:
        super().__init__(database)
        self.was_set_aside: SetAside | None = None
        self._lock = lock
        self._number = 0  # of the stream in use
        self._head: Head | None = None
        self._positions: dict[str, Position] = {}
        self._unsaved = 0  # statements since the positions were written down
        self._prune_from = 0

    @classmethod
    def open(cls, path: Path, gateway: str, utc_ms: int) -> Spool:
        """The spool at ``path``, made when there is none; ``utc_ms`` names what has to be set aside.

        Raises:
            SpoolProblem: it is in use, or the folder or the disk does not let us.
        """
        lock = _lock(path)
        aside: SetAside | None = None
        try:
            try:
                database = Database.write(path)
                if database is not None:
                    return cls._load(database, gateway, lock)
            except (SpoolDamaged, SpoolForeign) as problem:
                head = None if isinstance(problem, SpoolForeign) else _salvage(path, gateway)
                aside = SetAside(move_aside(path, utc_ms), str(problem), head)
            spool = cls(Database.create(path, _SCHEMA, [("INSERT INTO owner VALUES (?)", (gateway,))]), lock)
        except BaseException:
            lock.release()
            raise
        spool.was_set_aside = aside
        return spool

    @classmethod
    def _load(cls, database: Database, gateway: str, lock: Lock) -> Spool:
        spool = cls(database, lock)
        try:
            if spool.gateway != gateway:
                raise SpoolForeign(f"{spool.path}: is the spool of gateway {spool.gateway}, not of {gateway}")
            spool._recall()
        except BaseException:
            database.close()
            raise
        return spool

    # ---- the chain

    @property
    def head(self) -> Head | None:
        """The last statement stored; None before the first genesis."""
        return self._head

    @property
    def number(self) -> int:
        """Running number of the stream in use, 0 before the first genesis."""
        return self._number

    @property
    def positions(self) -> Mapping[str, Position]:
        """How far each measuring point is accounted for."""
        return self._positions

    def last_instant(self) -> Instant | None:
        """When the last statement was made."""
        if self._head is None:
            return None
        ((_, message),) = self.present(self._head.seq, self._head.seq + 1)
        return self.claims(message).instant

    def append(
        self,
        statements: Sequence[Statement],
        positions: Mapping[str, Position] | None = None,
        process: Process | None = None,
        abandon_from: int | None = None,
        carried: tuple[int, int] | None = None,
        maps: Sequence[MeterMap] = (),
    ) -> None:
        """Store statements that continue the chain, in one transaction. A genesis begins a new stream.

        Args:
            statements: one or more, consecutive.
            positions: measuring points whose accounted time moved with them.
            process: the run of the agent that begins with them.
            abandon_from: with a genesis: first seq of the stream before that is never to be sent.
            carried: (stream number, seq) up to which an abandoned stream's statements are now signed anew.
            maps: register maps that descriptors among them name.

        Raises:
            SpoolFull: nothing was stored; waiting helps.
            SpoolProblem: nothing was stored.
            ValueError: they do not continue the chain.
        """
        head = self._continued(statements)
        number = self._number + (statements[0].kind == Kind.GENESIS)
        start = number << SEQ_BITS | statements[0].seq
        with self._database.transaction() as db:
            if abandon_from is not None:
                change = "UPDATE stream SET abandoned_from = ?, carried_to = ? WHERE number = ?"
                db.execute(change, (abandon_from, abandon_from - 1, self._number))
                db.execute("UPDATE process SET matched = NULL")
            if number != self._number:
                db.execute("INSERT INTO stream VALUES (?, ?, NULL, NULL)", (number, head.stream))
            run = pack([made.data for made in statements])
            db.execute("INSERT INTO run VALUES (?, ?, ?)", (start, len(statements), run))
            if process is not None:
                _write_process(db, process)
            if carried is not None:
                db.execute("UPDATE stream SET carried_to = ? WHERE number = ?", (carried[1], carried[0]))
            for used in maps:
                db.execute("INSERT OR IGNORE INTO map VALUES (?, ?, ?)", (used.digest, used.name, used.data))
            if self._unsaved >= _SNAPSHOT_EVERY:
                self._write_snapshot(db, start)
        self._unsaved = len(statements) + (self._unsaved if self._unsaved < _SNAPSHOT_EVERY else 0)
        self._number, self._head = number, head
        if positions:
            self._positions.update(positions)

    def to_carry(self, limit: int) -> tuple[int, tuple[Claims, ...]]:
        """(stream number, up to ``limit`` abandoned statements not yet signed anew), oldest first; (0, ()): none."""
        for stream in self.streams():
            if stream.carried_to is not None:
                first = stream.carried_to + 1
                found = tuple(self.claims(data) for _, data in self.statements(stream.number, first, first + limit))
                if found:
                    return stream.number, found
        return 0, ()

    def note_carried(self, number: int, seq: int) -> None:
        """Nothing of an abandoned stream up to ``seq`` is left to be signed anew."""
        with self._database.transaction() as db:
            db.execute("UPDATE stream SET carried_to = ? WHERE number = ?", (seq, number))

    # ---- the runs of the agent

    def process(self) -> Process | None:
        """The last run of the agent that stored anything."""
        rows = self._database.rows("SELECT boot, host_boot, version, began, ended, matched FROM process")
        return Process(*rows[0]) if rows else None

    def note_matched(self, seq: int) -> None:
        """Remember that the ledgers' heads matched the chain while its last seq was ``seq``."""
        with self._database.transaction() as db:
            db.execute("UPDATE process SET matched = ?", (seq,))

    def boot_after(self, seq: int) -> int:
        """Seq of the first boot statement behind ``seq`` in the stream in use, else of the statement to come."""
        for found, message in self.statements(self._number, seq + 1):
            if self.split(message)[1] == Kind.BOOT:
                return found
        return self._end() & SEQ_MASK

    # ---- batches and receipts

    def next_batch(
        self, max_statements: int = batches.MAX_STATEMENTS, max_bytes: int = batches.MAX_BYTES, skip_to: int = 0
    ) -> Batch | None:
        """The oldest batch that is not committed; cut, and its boundaries stored, when all that were cut are.

        ``skip_to``: first seq that may be cut (what lies before is known to be on the ledgers). None: nothing pending.

        Raises:
            SpoolProblem: also when a batch no longer has the root it was sent with.
        """
        first, cut = self.next_uncommitted()
        if cut:
            return self.batch_at(first)
        first = max(first, skip_to)
        messages = self._cut(first, max_statements, min(max_bytes, batches.MAX_BYTES) - _BATCH_FIELDS_BYTES)
        if not messages:
            return None
        batch = self._build(first, messages)
        with self._database.transaction() as db:
            row = (self._number << SEQ_BITS | first, batch.count, batch.root)
            db.execute("INSERT INTO batch VALUES (?, ?, ?, 0)", row)
        return batch

    def next_uncommitted(self) -> tuple[int, bool]:
        """(first seq behind all committed batches, whether a batch that begins there or later was cut already)."""
        base = self._number << SEQ_BITS
        query = "SELECT id, count, committed FROM batch WHERE id >= ? ORDER BY id DESC LIMIT 64"
        rows = self._database.rows(query, (base,))
        waiting = [start for start, _, committed in rows if not committed]
        if waiting:
            return waiting[-1] - base, True
        return (rows[0][0] + rows[0][1] - base if rows else 0), False

    def batch_at(self, first: int) -> Batch | None:
        """The batch of the stream in use that was cut at ``first``, committed or not.

        None when there is none, or when its bytes were pruned.

        Raises:
            SpoolProblem: it no longer has the root that was stored.
        """
        rows = self._database.rows("SELECT count, root FROM batch WHERE id = ?", (self._number << SEQ_BITS | first,))
        if not rows:
            return None
        count, root = rows[0]
        if self._is_pruned(first) or self._is_pruned(first + count - 1):
            return None
        batch = self._build(first, [message for _, message in self.present(first, first + count)])
        if batch.root != root:
            raise self._database.damaged(f"statements {first} to {first + count - 1} are not what was sent")
        return batch

    def forget_boundaries(self) -> None:
        """Drop the boundaries of the batches that are not committed: they will be cut anew."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM batch WHERE id >= ? AND NOT committed", (self._number << SEQ_BITS,))

    def settle(self, batch: Batch, receipts: Sequence[Receipt]) -> None:
        """The batch is committed: keep these receipts, which the caller has checked."""
        self._keep(receipts, self._number << SEQ_BITS | batch.first)

    def keep(self, receipts: Sequence[Receipt]) -> None:
        """Keep checked receipts that came late; one that is kept already changes nothing."""
        self._keep(receipts, None)

    def boundaries(self, stream: bytes, first: int) -> Boundaries | None:
        """What was cut as the batch of ``stream`` that begins at ``first``; None when there is no such batch."""
        number = self.number_of(stream)
        rows = self._database.rows("SELECT count, root FROM batch WHERE id = ?", (number << SEQ_BITS | first,))
        if not number or not rows:
            return None
        count, root = rows[0]
        head = self.sid_at(number, first + count - 1)
        if head is None:
            raise self._database.damaged(f"statement {first + count - 1} of stream {number} is missing")
        return Boundaries(stream, first, count, head, root)

    def batch_with(self, root: bytes) -> Boundaries | None:
        """What was cut as the batch of a root, among the newest ones; None when none of them has it."""
        query = "SELECT id FROM (SELECT id, root FROM batch ORDER BY id DESC LIMIT ?) WHERE root = ?"
        for (start,) in self._database.rows(query, (_LATE_BATCHES, root)):
            for stream in self.streams():
                if stream.number == start >> SEQ_BITS:
                    return self.boundaries(stream.id, start & SEQ_MASK)
        return None

    def newest_blocks(self) -> dict[tuple[str, str], int]:
        """Highest block seen, by (organisation, channel)."""
        rows = self._database.rows("SELECT organisation, channel, block FROM newest")
        return {(organisation, channel): block for organisation, channel, block in rows}

    # ---- the budget

    def used_bytes(self) -> int:
        """What counts against the disk budget."""
        return self._database.used_bytes()

    def prune(self, runs: int = 8) -> int:
        """Give up the bytes of up to ``runs`` of the oldest committed runs; how many statements that were.

        Raises:
            SpoolProblem: nothing was pruned.
        """
        chosen: list[tuple[int, bytes]] = []
        position = self._prune_from
        query = "SELECT id, count FROM run WHERE id >= ? AND id + count <= ? ORDER BY id LIMIT 256"
        for start, count in self._database.rows(query, (position, self._upto())):
            if len(chosen) == runs:
                break
            if self._is_committed(start, count):
                found = [self.split(message) for message in self._run(start)]
                if not any(kind in _NEVER_PRUNED for _, kind in found):
                    chosen.append((start, b"".join(sid for sid, _ in found)))
            elif not self._is_passed_over(start):
                break
            position = start + 1
        if chosen:
            with self._database.transaction() as db:
                db.executemany("INSERT INTO pruned VALUES (?, ?)", chosen)
                db.executemany("DELETE FROM run WHERE id = ?", [(start,) for start, _ in chosen])
        self._prune_from = position
        return sum(len(sids) // SID_BYTES for _, sids in chosen)

    # ---- the end

    def close(self, ended: str = "") -> None:
        """Close; ``ended`` says how the process ends (``clean``). May be called twice.

        Raises:
            SpoolProblem: it is closed, but ``ended`` could not be written down.
        """
        try:
            if ended and self._lock.held:
                with self._database.transaction() as db:
                    self._write_snapshot(db, self._end())
                    db.execute("UPDATE process SET ended = ?", (ended,))
        finally:
            super().close()
            self._lock.release()

    def condemn(self) -> None:
        """Close a spool that turned out to be damaged; the next start sets it aside.

        Raises:
            OSError: no mark could be left for the next start.
        """
        super().close()
        mark_damaged(self.path)
        self._lock.release()

    # ---- inside

    def _recall(self) -> None:
        """Take head and positions from what is stored; the newest statements are parsed and must be one chain."""
        rows = self._database.rows("SELECT positions FROM snapshot")
        self._positions = {sub: Position(*pair) for sub, pair in json.loads(rows[0][0]).items()} if rows else {}
        rows = self._database.rows("SELECT id, count FROM run ORDER BY id DESC LIMIT 1")
        if not rows:
            return
        upto = self._upto()
        first = min(upto, rows[0][0] + rows[0][1] - 1)  # the last statement at least
        before: Claims | None = None
        for stream in self.streams():
            base = stream.number << SEQ_BITS
            for seq, message in self.statements(stream.number, min(max(0, first - base), SEQ_MASK)):
                claims = self.claims(message)
                self._check_place(claims, stream, seq, before)
                before, self._number, self._head = claims, stream.number, Head(stream.id, seq, claims.sid)
                if base + seq >= upto:
                    self._unsaved += 1
                    self._account(claims)

    def _check_place(self, claims: Claims, stream: Stream, seq: int, before: Claims | None) -> None:
        follows = before is None or before.stream_id != stream.id or (before.seq, before.sid) == (seq - 1, claims.prev)
        if claims.gateway != self.gateway or claims.stream_id != stream.id or claims.seq != seq or not follows:
            raise self._database.damaged(f"statement {seq} of stream {stream.number} does not continue the chain")

    def _account(self, claims: Claims) -> None:
        """Move the position of the point that a stored statement speaks of."""
        known = self._positions.get(claims.sub, Position(None, None))
        if claims.kind == Kind.DESCRIPTOR:
            self._positions[claims.sub] = Position(known.until_ms, claims.body[13][1])
        elif claims.kind == Kind.GAP:
            self._positions[claims.sub] = Position(claims.body[13][3], known.period_ms)
        elif claims.slot_ms is not None:
            self._positions[claims.sub] = Position(claims.slot_ms + (known.period_ms or 1), known.period_ms)

    def _continued(self, statements: Sequence[Statement]) -> Head:
        """The head after these statements.

        Raises:
            ValueError: they do not continue the chain.
        """
        first, last = statements[0], statements[-1]
        if first.kind == Kind.GENESIS:
            stream, due = stream_of(first.sid), 0
        elif self._head is not None:
            stream, due = self._head.stream, self._head.seq + 1
        else:
            raise ValueError(f"statement {first.seq} where a genesis is due")
        for number, made in enumerate(statements, due):
            if made.seq != number:
                raise ValueError(f"statement {made.seq} where {number} is due")
        return Head(stream, last.seq, last.sid)

    def _keep(self, receipts: Sequence[Receipt], settled: int | None) -> None:
        numbers = {stream.id: stream.number for stream in self.streams()}
        with self._database.transaction() as db:
            if settled is not None:
                db.execute("UPDATE batch SET committed = 1 WHERE id = ?", (settled,))
            for receipt in receipts:
                batch = numbers[receipt.stream] << SEQ_BITS | receipt.first
                place = (receipt.organisation, receipt.channel, receipt.block)
                db.execute("INSERT OR IGNORE INTO receipt VALUES (?, ?, ?, ?, ?)", (batch, *place, receipt.data))
                change = (
                    "INSERT INTO newest VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET block = max(block, excluded.block)"
                )
                db.execute(change, place)

    def _cut(self, first: int, max_statements: int, max_bytes: int) -> list[bytes]:
        """Statements of the next batch: as many as fit, and nothing behind a rekey."""
        messages: list[bytes] = []
        for _, message in self.present(first, min(first + max_statements, self._end() & SEQ_MASK)):
            max_bytes -= len(message) + _ITEM_BYTES
            if max_bytes < 0 and messages:
                break
            messages.append(message)
            if self.split(message)[1] == Kind.REKEY:
                break
        return messages

    def _build(self, first: int, messages: Sequence[bytes]) -> Batch:
        assert self._head is not None
        prev = self.sid_at(self._number, first - 1) if first else statement.NO_SID
        if prev is None:
            raise self._database.damaged(f"statement {first - 1} of stream {self._number} is missing")
        return batches.build(
            self._head.stream, first, prev, [(self.split(message)[0], message) for message in messages]
        )

    def present(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(seq, bytes) of statements of the stream in use, all of which must be there.

        Raises:
            SpoolProblem: one is not.
        """
        due = first
        for seq, message in self.statements(self._number, first, end):
            if seq != due:
                break
            yield seq, message
            due += 1
        if due < end:
            raise self._database.damaged(f"statement {due} of stream {self._number} is missing")

    def _run(self, start: int) -> list[bytes]:
        ((data,),) = self._database.rows("SELECT statements FROM run WHERE id = ?", (start,))
        return self.unpacked(data)

    def _is_pruned(self, seq: int) -> bool:
        return self.sid_at(self._number, seq) is not None and not any(self.statements(self._number, seq, seq + 1))

    def _is_committed(self, start: int, count: int) -> bool:
        position = start
        query = "SELECT id, count, committed FROM batch WHERE id <= ? ORDER BY id DESC LIMIT 1"
        while position < start + count:
            rows = self._database.rows(query, (position,))
            if not rows or not rows[0][2] or rows[0][0] + rows[0][1] <= position:
                return False
            position = rows[0][0] + rows[0][1]
        return True

    def _is_passed_over(self, start: int) -> bool:
        """Whether a run never will be committed: abandoned, or on the ledgers without a receipt of ours."""
        return bool(self._database.rows("SELECT 1 FROM batch WHERE id > ? AND committed LIMIT 1", (start,)))

    def _upto(self) -> int:
        """Rowid up to which (exclusive) the stored positions speak."""
        rows = self._database.rows("SELECT upto FROM snapshot")
        return int(rows[0][0]) if rows else 0

    def _end(self) -> int:
        """Rowid that the next statement of the stream in use would get."""
        return self._number << SEQ_BITS | (self._head.seq + 1 if self._head else 0)

    def _write_snapshot(self, db: Writing, upto: int) -> None:
        positions = {sub: (position.until_ms, position.period_ms) for sub, position in self._positions.items()}
        db.execute("REPLACE INTO snapshot VALUES (1, ?, ?)", (upto, json.dumps(positions)))


def _write_process(db: Writing, process: Process) -> None:
    values = (process.boot, process.host_boot, process.version, process.ended, process.began, process.matched)
    db.execute("REPLACE INTO process VALUES (1, ?, ?, ?, ?, ?, ?)", values)


def _lock(path: Path) -> Lock:
    try:
        return Lock(Path(f"{path}.lock"))
    except Held as held:
        raise SpoolBusy(str(held)).advise("stop the other agent; one spool serves one process") from None
    except OSError as error:
        raise SpoolFailed(f"{path}.lock: {error.strerror}").advise("give the agent a folder it may write to") from error


def _salvage(path: Path, gateway: str) -> Head | None:
    """The newest statement of a damaged spool, if it can still be read and is this gateway's."""
    for (data,) in peek(path, "SELECT statements FROM run ORDER BY id DESC LIMIT 1"):
        try:
            claims = statement.parse(unpack(data)[-1])
        except (Malformed, TypeError):
            return None
        return Head(claims.stream_id, claims.seq, claims.sid) if claims.gateway == gateway else None
    return None
