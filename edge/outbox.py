"""What happens to statements once they are stored: cut into batches, settled by receipts, pruned under pressure.

The half of the spool (:mod:`edge.spool`) that the sender uses. Sends nothing and checks no receipt.

Rules
- Streams are delivered one after the other: the oldest that has anything to send, then the next.
- Batch boundaries are on disk before a batch leaves, so a restart sends the same bytes with the same root.
- A batch is committed when whoever checked its receipts says so; all receipts are kept, late ones too.
- Pruned: committed, when asked to, oldest first. (seq, sid) and receipts stay. What is needed stays as well: genesis
  and rekeys (who signed), descriptors (what the rest means), the newest statements (where chain and slots are).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge.database import Database
from edge.spool_read import SEQ_BITS, SEQ_MASK, SID_BYTES, SpoolReader
from signer import batch as batches
from signer import statement
from signer.batch import Batch
from signer.chain import Head
from signer.codes import Kind
from signer.receipt import Receipt

_BATCH_FIELDS_BYTES = 256
"""Room for a batch's own fields; they take 140 bytes with the largest numbers."""

_ITEM_BYTES = 3
"""Head of a byte string of 256 B to 64 KiB inside a batch."""

_LATE_BATCHES = 4096
"""A receipt that comes after so many later batches is looked for no more: three days at one batch a minute."""

_NEVER_PRUNED = frozenset({Kind.GENESIS, Kind.REKEY, Kind.DESCRIPTOR})


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


class Outbox(SpoolReader):
    """Batches, receipts and pruning. Batches are those of the stream that :meth:`sending` tells."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._number = 0  # of the stream in use
        self._head: Head | None = None
        self._closed: Head | None = None  # end of the stream that is delivered, while that is an older one
        self._prune_from = 0

    @property
    def head(self) -> Head | None:
        """The last statement stored; None before the first genesis."""
        return self._head

    @property
    def number(self) -> int:
        """Running number of the stream in use, 0 before the first genesis."""
        return self._number

    def sending(self) -> Head | None:
        """The last statement of the stream that is delivered now: the oldest not yet closed, usually the one in use.

        None before the first genesis.
        """
        number = self._sending()
        if number == self._number:
            return self._head
        if self._closed is None or self.number_of(self._closed.stream) != number:
            last = self.end(number) - 1
            sid = self.sid_at(number, last)
            assert sid is not None
            self._closed = Head(self._id_of(number), last, sid)
        return self._closed

    def close_sent(self, skip_to: int = 0) -> bool:
        """Go on to the next stream when all of an older one is on the ledgers; whether that was so.

        ``skip_to``: what lies before that seq is known to be there.
        """
        number = self._sending()
        if number == self._number:
            return False
        end = self.end(number)
        if max(self.next_uncommitted()[0], skip_to) < end:
            return False
        with self._database.transaction() as db:
            db.execute("UPDATE stream SET abandoned_from = ? WHERE number = ?", (end, number))
            db.execute("UPDATE process SET matched = NULL")  # that was said of the older stream
        return True

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
        number = self._sending()
        found = self._cut(number, first, max_statements, min(max_bytes, batches.MAX_BYTES) - _BATCH_FIELDS_BYTES)
        if not found:
            return None
        batch = self._build(number, first, found)
        with self._database.transaction() as db:
            row = (number << SEQ_BITS | first, batch.count, batch.root)
            db.execute("INSERT INTO batch VALUES (?, ?, ?, 0)", row)
        return batch

    def next_uncommitted(self) -> tuple[int, bool]:
        """(first seq behind all committed batches, whether a batch that begins there or later was cut already)."""
        base = self._sending() << SEQ_BITS
        query = "SELECT id, count, committed FROM batch WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 64"
        rows = self._database.rows(query, (base, base + SEQ_MASK))
        waiting = [start for start, _, committed in rows if not committed]
        if waiting:
            return waiting[-1] - base, True
        return (rows[0][0] + rows[0][1] - base if rows else 0), False

    def batch_at(self, first: int) -> Batch | None:
        """The batch that was cut at ``first``, committed or not.

        None when there is none, or when its bytes were pruned.

        Raises:
            SpoolProblem: it no longer has the root that was stored.
        """
        number = self._sending()
        rows = self._database.rows("SELECT count, root FROM batch WHERE id = ?", (number << SEQ_BITS | first,))
        if not rows:
            return None
        count, root = rows[0]
        if self._is_pruned(number, first) or self._is_pruned(number, first + count - 1):
            return None
        found = [(self.split(message)[0], message) for _, message in self.present(number, first, first + count)]
        batch = self._build(number, first, found)
        if batch.root != root:
            raise self._database.damaged(f"statements {first} to {first + count - 1} are not what was sent")
        return batch

    def forget_boundaries(self) -> None:
        """Drop the boundaries of the batches that are not committed: they will be cut anew."""
        base = self._sending() << SEQ_BITS
        with self._database.transaction() as db:
            db.execute("DELETE FROM batch WHERE id >= ? AND NOT committed", (base,))

    def settle(self, batch: Batch, receipts: Sequence[Receipt]) -> None:
        """The batch is committed: keep these receipts, which the caller has checked."""
        self._keep(receipts, self.number_of(batch.stream) << SEQ_BITS | batch.first)

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
        ((newest,),) = self._database.rows("SELECT max(id) FROM run")
        for start, count in self._database.rows(query, (position, min(self._upto(), newest or 0))):
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

    # ---- inside

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

    def _cut(self, number: int, first: int, max_statements: int, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """(sid, bytes) of the next batch's statements: as many as fit, and nothing behind a rekey."""
        found: list[tuple[bytes, bytes]] = []
        for _, message in self.present(number, first, min(first + max_statements, self._end(number))):
            max_bytes -= len(message) + _ITEM_BYTES
            if max_bytes < 0 and found:
                break
            sid, kind = self.split(message)
            found.append((sid, message))
            if kind == Kind.REKEY:
                break
        return found

    def _build(self, number: int, first: int, found: Sequence[tuple[bytes, bytes]]) -> Batch:
        prev = self.sid_at(number, first - 1) if first else statement.NO_SID
        if prev is None:
            raise self._database.damaged(f"statement {first - 1} of stream {number} is missing")
        return batches.build(self._id_of(number), first, prev, found)

    def present(self, number: int, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(seq, bytes) of statements of a stream, all of which must be there.

        Raises:
            SpoolProblem: one is not.
        """
        due = first
        for seq, message in self.statements(number, first, end):
            if seq != due:
                break
            yield seq, message
            due += 1
        if due < end:
            raise self._database.damaged(f"statement {due} of stream {number} is missing")

    def _is_pruned(self, number: int, seq: int) -> bool:
        return self.sid_at(number, seq) is not None and not any(self.statements(number, seq, seq + 1))

    def _run(self, start: int) -> list[bytes]:
        ((data,),) = self._database.rows("SELECT statements FROM run WHERE id = ?", (start,))
        return self.unpacked(data)

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

    def _sending(self) -> int:
        """Running number of the stream that is delivered now."""
        rows = self._database.rows("SELECT min(number) FROM stream WHERE abandoned_from IS NULL")
        return int(rows[0][0] or 0)

    def _id_of(self, number: int) -> bytes:
        ((stream,),) = self._database.rows("SELECT id FROM stream WHERE number = ?", (number,))
        return bytes(stream)

    def _end(self, number: int) -> int:
        """Seq behind a stream's last statement."""
        if number != self._number:
            return self.end(number)
        return self._head.seq + 1 if self._head else 0
