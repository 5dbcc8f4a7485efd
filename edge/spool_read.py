"""What can be read of a spool: statements, what is left of pruned ones, receipts, counts. Works beside a running agent.

Writes nothing and judges no signature.

Rules
- A row is a run of statements, a CBOR array of byte strings; its rowid is the stream's number << 40 | the first seq.
- A statement's sid is computed from its bytes (4 us), not stored: 32 bytes less to write for each.
- Long tables are read in steps, so that a reader never keeps the writer waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.database import Database
from edge.schema import SPOOL
from signer import cbor, cose, statement
from signer.errors import Malformed
from signer.statement import Claims

SEQ_BITS = 40
"""34,000 years at one statement a second."""

SEQ_MASK = (1 << SEQ_BITS) - 1
SID_BYTES = 32
_STEP = 256
_HEAD_BYTES = {0x58: 2, 0x59: 3}
"""Of byte strings of 24 B to 64 KiB, by their first byte."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream in the spool.

    Attributes:
        number: running number, from 1.
        id: 16 bytes.
        abandoned_from: first seq that is never sent, None while there is something to send: for the stream in use,
            and for an older one until its end is on the ledgers.
        carried_to: seq up to which abandoned statements were signed anew, None when there are none.
    """

    number: int
    id: bytes
    abandoned_from: int | None = None
    carried_to: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the statements of the stream in use are on their way.

    Attributes:
        stored: statements signed and stored, genesis included.
        committed: seq up to which (exclusive) they are committed.
        used_bytes: of the disk budget.
        earlier: statements of earlier streams that are not committed yet.
    """

    stored: int
    committed: int
    used_bytes: int
    earlier: int = 0

    @property
    def pending(self) -> int:
        """Statements that are not committed yet."""
        return self.stored - self.committed + self.earlier


class SpoolReader:
    """The reading half of a spool."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def read(cls, path: Path) -> SpoolReader:
        """Open for reading; takes no lock.

        Raises:
            SpoolProblem: there is no spool, or it cannot be read.
        """
        return SpoolReader(Database.read(path, SPOOL))

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    @property
    def gateway(self) -> str:
        """The gateway it belongs to."""
        ((gateway,),) = self._database.rows("SELECT gateway FROM owner")
        return str(gateway)

    def streams(self) -> tuple[Stream, ...]:
        """All streams, oldest first."""
        return tuple(Stream(*row) for row in self._database.rows("SELECT * FROM stream ORDER BY number"))

    def hold(self) -> None:
        """Everything that is read from now on is one state of the spool, whatever is written meanwhile."""
        self._database.rows("BEGIN")
        self._database.rows("SELECT 1 FROM owner")  # the first read settles which state

    def end(self, number: int) -> int:
        """Seq behind the last statement of a stream, pruned ones included."""
        base, ends = number << SEQ_BITS, [0]
        for table, count in (("run", "count"), ("pruned", f"length(sids) / {SID_BYTES}")):
            query = f"SELECT id, {count} FROM {table} WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1"
            ends += [start - base + held for start, held in self._database.rows(query, (base, base + SEQ_MASK))]
        return max(ends)

    def statements(self, number: int, first: int = 0, end: int = SEQ_MASK) -> Iterator[tuple[int, bytes]]:
        """(seq, bytes) of a stream's statements whose bytes are there, first <= seq < end, ascending."""
        base = number << SEQ_BITS
        ((found,),) = self._database.rows("SELECT max(id) FROM run WHERE id >= ? AND id <= ?", (base, base + first))
        position = base + first if found is None else found
        query = "SELECT id, statements FROM run WHERE id >= ? AND id < ? ORDER BY id LIMIT 32"
        while rows := self._database.rows(query, (position, base + end)):
            for start, data in rows:
                for seq, message in enumerate(self.unpacked(data), start - base):
                    if first <= seq < end:
                        yield seq, message
            position = rows[-1][0] + 1

    def pruned(self, number: int) -> Iterator[tuple[int, bytes]]:
        """(seq, sid) of a stream's statements whose bytes are gone, ascending."""
        base = number << SEQ_BITS
        position, end = base, base + SEQ_MASK
        query = "SELECT id, sids FROM pruned WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?"
        while rows := self._database.rows(query, (position, end, _STEP)):
            for start, sids in rows:
                for offset in range(0, len(sids), SID_BYTES):
                    yield start - base + offset // SID_BYTES, sids[offset : offset + SID_BYTES]
            position = rows[-1][0] + 1

    def receipts(self) -> Iterator[bytes]:
        """All receipts, by batch."""
        key: tuple[Any, ...] = (0, "", "", 0)
        columns = "batch, organisation, channel, block"
        query = f"SELECT {columns}, data FROM receipt WHERE ({columns}) > (?, ?, ?, ?) ORDER BY {columns} LIMIT ?"
        while rows := self._database.rows(query, (*key, _STEP)):
            yield from (row[4] for row in rows)
            key = rows[-1][:4]

    def newest_receipts(self, most: int) -> list[bytes]:
        """The receipts of the newest batches, the newest first."""
        return [
            data for (data,) in self._database.rows("SELECT data FROM receipt ORDER BY batch DESC LIMIT ?", (most,))
        ]

    def maps(self) -> Iterator[tuple[str, bytes]]:
        """(name, file) of every register map that a descriptor here names."""
        yield from self._database.rows("SELECT name, data FROM map ORDER BY name, digest")

    def newest(self, most: int) -> Iterator[Claims]:
        """The newest statements of the stream in use, the newest first; whole runs, about ``most`` of them."""
        rows = self._database.rows("SELECT statements FROM run ORDER BY id DESC LIMIT ?", (most,))
        for (data,) in rows:
            for message in reversed(self.unpacked(data)):
                yield self.claims(message)
                most -= 1
            if most <= 0:
                return

    def counts(self) -> Counts:
        """How many statements are where."""
        used_bytes = self._database.used_bytes()
        last = self._database.rows("SELECT id, count FROM run ORDER BY id DESC LIMIT 1")
        if not last:
            return Counts(0, 0, used_bytes)
        number = last[0][0] >> SEQ_BITS
        older = self._database.rows("SELECT number FROM stream WHERE abandoned_from IS NULL AND number < ?", (number,))
        earlier = sum(self.end(each) - self._settled(each) for (each,) in older)
        stored = (last[0][0] & SEQ_MASK) + last[0][1]
        return Counts(stored, self._settled(number), used_bytes, earlier)

    def _settled(self, number: int) -> int:
        """Seq behind a stream's last committed batch."""
        base = number << SEQ_BITS
        query = "SELECT id, count FROM batch WHERE id >= ? AND id <= ? AND committed ORDER BY id DESC LIMIT 1"
        rows = self._database.rows(query, (base, base + SEQ_MASK))
        return int(rows[0][0] - base + rows[0][1]) if rows else 0

    def number_of(self, stream: bytes) -> int:
        """Running number of a stream, 0 when it is not here."""
        rows = self._database.rows("SELECT number FROM stream WHERE id = ?", (stream,))
        return int(rows[0][0]) if rows else 0

    def sid_at(self, number: int, seq: int) -> bytes | None:
        """The sid of a statement, pruned or not; None when it is not here."""
        for _, message in self.statements(number, seq, seq + 1):
            return self.split(message)[0]
        base = number << SEQ_BITS
        query = "SELECT id, sids FROM pruned WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1"
        for start, sids in self._database.rows(query, (base, base + seq)):
            offset = (base + seq - start) * SID_BYTES
            return sids[offset : offset + SID_BYTES] or None
        return None

    def claims(self, message: bytes) -> Claims:
        """A stored statement taken apart.

        Raises:
            SpoolDamaged: it is none.
        """
        with self._damage():
            return statement.parse(message)

    def split(self, message: bytes) -> tuple[bytes, int]:
        """sid and kind of a stored statement, by the places of its parts.

        Raises:
            SpoolDamaged: it is none.
        """
        try:
            protected, no_headers = _string(message, 2)
            payload, signature = _string(message, no_headers + 1)
            # A payload is a map of fewer than 24 entries whose first key is 1, and a known kind takes one byte.
            kind = message[payload + 2]
        except LookupError as error:
            raise self._database.damaged("statement: is no COSE_Sign1") from error
        if message[signature:-64] != cose.SIGNATURE_HEAD:
            raise self._database.damaged("statement: its signature is not where it belongs")
        signed = cose.signed_prefix(message[protected:no_headers]) + message[no_headers + 1 : signature]
        return sha256(signed).digest(), kind

    def unpacked(self, data: bytes) -> list[bytes]:
        """The statements of a row.

        Raises:
            SpoolDamaged: it is no array of byte strings.
        """
        with self._damage():
            return unpack(data)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except Malformed as error:
            raise self._database.damaged(str(error)) from error

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._database.close()


def _string(message: bytes, start: int) -> tuple[int, int]:
    """Where the content of the byte string at ``start`` begins, and where it ends.

    Raises:
        LookupError: there is none of 24 B to 64 KiB.
    """
    begin = start + _HEAD_BYTES[message[start]]
    return begin, begin + int.from_bytes(message[start + 1 : begin], "big")


def pack(messages: list[bytes]) -> bytes:
    """A row's content."""
    return cbor.encode(messages)


def unpack(data: bytes) -> list[bytes]:
    """The statements of a row.

    Raises:
        Malformed: no array of byte strings.
    """
    messages = cbor.decode(data, len(data), "run")
    if type(messages) is not list or not messages or any(type(message) is not bytes for message in messages):
        raise Malformed("run", "is no array of statements")
    return messages
