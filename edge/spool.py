"""The spool: statements from the moment they are signed until k organisations committed them, and the chain's head.

Signs nothing, sends nothing, checks no receipt. Never deletes a statement that is not committed.

Rules
- One process (a lock beside the file) and one writing connection.
- The head is the last statement; it has no row of its own, so the two cannot disagree.
- What one transaction stores is one row: pages touched per commit are what wears a card out.
- What becomes of stored statements, batches, receipts and pruning, is in :mod:`edge.outbox`.
- A stream that the ledger contradicts is abandoned from a seq on: those statements stay and are never sent. One that
  was left because the clock was set back is delivered to its end.
- One of an older format is brought up to date (:mod:`edge.schema`); one of a newer format is left alone.
- A spool that cannot be read, or is another gateway's, is set aside under another name, and a new one begins.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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
from edge.outbox import Outbox
from edge.schema import SPOOL
from edge.spool_read import SEQ_BITS, SEQ_MASK, Stream, pack, unpack
from signer import statement
from signer.chain import Head
from signer.codes import Kind
from signer.errors import Malformed
from signer.statement import Claims, Instant, Statement, stream_of

_SNAPSHOT_EVERY = 1024
"""Statements after which the points' positions are written down again: bounds what a start has to parse (30 ms)."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a measuring point is accounted for, by readings and gaps.

    Attributes:
        until_ms: end of the last accounted slot, POSIX milliseconds; None before the first.
        period_ms: period of the last descriptor; None before the first.
    """

    until_ms: int | None
    period_ms: int | None


@dataclass(slots=True)
class Place:
    """Where a measuring point's newest statements are; None: nowhere.

    Attributes:
        described: id (stream's number << 40 | seq) of its last descriptor.
        measured: ids of its last reading with values, and of the descriptor before that; None also since its meter
            was exchanged.
    """

    described: int | None = None
    measured: tuple[int, int] | None = None


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


class Spool(Outbox):
    """The one that writes.

    Attributes:
        was_set_aside: the file that could not be used when this one was opened; None in good order.
    """

    def __init__(self, database: Database, lock: Lock) -> None:
        super().__init__(database)
        self.was_set_aside: SetAside | None = None
        self._lock = lock
        self._positions: dict[str, Position] = {}
        self._places: dict[str, Place] = {}
        self._unsaved = 0  # statements since the positions were written down

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
                database = Database.write(path, SPOOL)
                if database is not None:
                    return cls._load(database, gateway, lock)
            except (SpoolDamaged, SpoolForeign) as problem:
                head = None if isinstance(problem, SpoolForeign) else _salvage(path, gateway)
                aside = SetAside(move_aside(path, utc_ms), str(problem), head)
            spool = cls(Database.create(path, SPOOL, [("INSERT INTO owner VALUES (?)", (gateway,))]), lock)
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
    def positions(self) -> Mapping[str, Position]:
        """How far each measuring point is accounted for."""
        return self._positions

    def last_reading(self, sub: str) -> tuple[Claims, Claims] | None:
        """A point's last reading with values, and the descriptor that was in force; None when they are not here.

        None after an exchange of its meter as well. May be called by any thread.

        Raises:
            SpoolDamaged: they are no such statements.
        """
        place = self._places.get(sub)
        found = [self._at(each) for each in place.measured] if place and place.measured else []
        if len(found) < 2 or found[0] is None or found[1] is None:
            return None
        reading, descriptor = found[0], found[1]
        kinds = (reading.kind, descriptor.kind, reading.sub, descriptor.sub)
        if kinds != (Kind.READING, Kind.DESCRIPTOR, sub, sub):
            raise self._database.damaged(f"the last reading of {sub} is not where it should be")
        return reading, descriptor

    def _at(self, place: int) -> Claims | None:
        """A statement by its id, None when it was pruned."""
        number, seq = place >> SEQ_BITS, place & SEQ_MASK
        return next((self.claims(message) for _, message in self.statements(number, seq, seq + 1)), None)

    def last_instant(self) -> Instant | None:
        """When the last statement was made."""
        if self._head is None:
            return None
        ((_, message),) = self.present(self._number, self._head.seq, self._head.seq + 1)
        return self.claims(message).instant

    def append(
        self,
        statements: Sequence[Statement],
        positions: Mapping[str, Position] | None = None,
        process: Process | None = None,
        abandon_from: int | None = None,
        carried: tuple[int, int] | None = None,
        maps: Sequence[MeterMap] = (),
        anew: Mapping[str, Position] | None = None,
        abandon: int = 0,
        measured: Collection[int] = (),
    ) -> None:
        """Store statements that continue the chain, in one transaction. A genesis begins a new stream.

        Args:
            statements: one or more, consecutive.
            positions: measuring points whose accounted time moved with them.
            process: the run of the agent that begins with them.
            abandon_from: with a genesis: first seq that is never to be sent of the stream before, or of ``abandon``.
            carried: (stream number, seq) up to which an abandoned stream's statements are now signed anew.
            maps: register maps that descriptors among them name.
            anew: with a genesis: from where the new stream accounts for its measuring points; None: where the stream
                before has left off.
            abandon: running number of an older stream.
            measured: seqs of the readings with values among them.

        Raises:
            SpoolFull: nothing was stored; waiting helps.
            SpoolProblem, KeyProblem: nothing was stored.
            ValueError: they do not continue the chain.
        """
        head = self._continued(statements)
        number = self._number + (statements[0].kind == Kind.GENESIS)
        start = number << SEQ_BITS | statements[0].seq
        run = pack([made.data for made in statements])  # where they are signed, before anything is locked
        with self._database.transaction() as db:
            if abandon_from is not None:
                change = "UPDATE stream SET abandoned_from = ?, carried_to = ? WHERE number = ?"
                db.execute(change, (abandon_from, abandon_from - 1, abandon or self._number))
                db.execute("UPDATE process SET matched = NULL")
            if number != self._number:
                db.execute("INSERT INTO stream VALUES (?, ?, NULL, NULL)", (number, head.stream))
            db.execute("INSERT INTO run VALUES (?, ?, ?)", (start, len(statements), run))
            if process is not None:
                _write_process(db, process)
            if carried is not None:
                db.execute("UPDATE stream SET carried_to = ? WHERE number = ?", (carried[1], carried[0]))
            for used in maps:
                db.execute("INSERT OR IGNORE INTO map VALUES (?, ?, ?)", (used.digest, used.name, used.data))
            if anew is not None:
                self._write_snapshot(db, start, anew)
            elif self._unsaved >= _SNAPSHOT_EVERY:
                self._write_snapshot(db, start, self._positions)
        self._unsaved = len(statements) + (self._unsaved if self._unsaved < _SNAPSHOT_EVERY else 0)
        self._number, self._head = number, head
        if anew is not None:
            for sub in self._positions.keys() - anew.keys():
                del self._positions[sub]
            self._positions.update(anew)
        if positions:
            self._positions.update(positions)
        for made in statements:
            self._note_place(number << SEQ_BITS | made.seq, made.sub, made.kind, made.seq in measured)

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
        """Seq of the first boot statement behind ``seq`` in the stream that is delivered, else behind its last."""
        number = self._sending()
        for found, message in self.statements(number, seq + 1):
            if self.split(message)[1] == Kind.BOOT:
                return found
        return self._end(number)

    # ---- the end

    def close(self, ended: str = "") -> None:
        """Close; ``ended`` says how the process ends (``clean``). May be called twice.

        Raises:
            SpoolProblem: it is closed, but ``ended`` could not be written down.
        """
        try:
            if ended and self._lock.held:
                upto = self._number << SEQ_BITS | self._end(self._number)
                with self._database.transaction() as db:
                    self._write_snapshot(db, upto, self._positions)
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
        for positions, places in self._database.rows("SELECT positions, places FROM snapshot"):
            self._positions = {sub: Position(*pair) for sub, pair in json.loads(positions).items()}
            for sub, (described, measured) in json.loads(places).items():
                self._places[sub] = Place(described, tuple(measured) if measured else None)
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
                    self.account(stream.number, claims)

    def _check_place(self, claims: Claims, stream: Stream, seq: int, before: Claims | None) -> None:
        follows = before is None or before.stream_id != stream.id or (before.seq, before.sid) == (seq - 1, claims.prev)
        if claims.gateway != self.gateway or claims.stream_id != stream.id or claims.seq != seq or not follows:
            raise self._database.damaged(f"statement {seq} of stream {stream.number} does not continue the chain")

    def account(self, number: int, claims: Claims) -> None:
        """Move the position of the point that a stored statement of stream ``number`` speaks of."""
        self._note_place(number << SEQ_BITS | claims.seq, claims.sub, claims.kind, bool(claims.values))
        known = self._positions.get(claims.sub, Position(None, None))
        if claims.kind == Kind.DESCRIPTOR:
            self._positions[claims.sub] = Position(known.until_ms, claims.body[13][1])
        elif claims.kind == Kind.GAP:
            self._positions[claims.sub] = Position(claims.body[13][3], known.period_ms)
        elif claims.slot_ms is not None:
            self._positions[claims.sub] = Position(claims.slot_ms + (known.period_ms or 1), known.period_ms)

    def _note_place(self, place: int, sub: str, kind: int, is_measured: bool) -> None:
        """A statement is stored at ``place``."""
        if kind == Kind.DESCRIPTOR:
            self._places.setdefault(sub, Place()).described = place
        elif is_measured:
            known = self._places.get(sub)
            if known is not None and known.described is not None:
                known.measured = (place, known.described)
        elif kind == Kind.EXCHANGE and sub in self._places:
            self._places[sub].measured = None

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

    def _write_snapshot(self, db: Writing, upto: int, positions: Mapping[str, Position]) -> None:
        said = {sub: (position.until_ms, position.period_ms) for sub, position in positions.items()}
        places = {sub: (place.described, place.measured) for sub, place in self._places.items()}
        db.execute("REPLACE INTO snapshot VALUES (1, ?, ?, ?)", (upto, json.dumps(said), json.dumps(places)))


def bring_up_to_date(path: Path) -> None:
    """Make a spool of an older format one of today's, and nothing else: no statement, no other name.

    Raises:
        SpoolProblem: it stays as it is: in use, damaged, or of a newer format.
    """
    lock = _lock(path)
    try:
        database = Database.write(path, SPOOL)
        if database is not None:
            database.close()
    finally:
        lock.release()


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
