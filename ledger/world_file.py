"""The world of contracts in an SQLite file: what they have written, what was there before, and every call, chained.

Knows no contract: it is given them. Judges nothing and has no clock. Whoever calls opens the transaction, so that
several calls need one sync of the disk.

Rules (those of :mod:`ledger.rules.world`, whose scenarios run against this module)
- Reads see what calls before this one have written, never the call's own writes: these are kept aside until the
  function has answered. A function that raises has written nothing.
- A call that has read a range of a private collection writes nothing, as on Hyperledger Fabric.
- A call that writes nothing is not kept. One that writes may be given its transaction id by who commits it.
- Every value's digest is kept for ever; a public value too, a private one until it is replaced, deleted or purged.
- Call n's transaction id is SHA-256(link n-1 || call n) unless it is given, its link
  SHA-256(link n-1 || transaction || call || writes), 32 zeros before the first: a call or a write that is changed,
  removed or moved breaks the chain of all that follow.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ledger.rules.record import pack
from ledger.rules.world import Call, Caller, Contract, Declined, Function, Reason, Version

SCHEMA = """
CREATE TABLE state (
    contract TEXT NOT NULL, collection TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (contract, collection, key)) WITHOUT ROWID;
CREATE TABLE history (
    contract TEXT NOT NULL, collection TEXT NOT NULL, key TEXT NOT NULL, call INTEGER NOT NULL, digest BLOB, value BLOB,
    PRIMARY KEY (contract, collection, key, call)) WITHOUT ROWID;
CREATE INDEX written ON history (call);
CREATE TABLE calls (
    number INTEGER PRIMARY KEY, txid BLOB NOT NULL, link BLOB NOT NULL, time_ms INTEGER NOT NULL, caller BLOB NOT NULL,
    contract TEXT NOT NULL, function TEXT NOT NULL, arguments BLOB NOT NULL, writes BLOB NOT NULL, request TEXT UNIQUE);
CREATE INDEX moments ON calls (time_ms);
"""

PUBLIC = ""
"""The name of the public state among the collections."""

UNTIDY, TIDY = 0, 1
"""``user_version`` of a file: what was purged may still lie in unused places of it, or not."""

_BEFORE_THE_FIRST = bytes(32)


class Broken(Exception):
    """What is kept is not what was written; says at which call."""


class Mistake(Exception):
    """A contract did what it must not, or failed; nothing is written. Whose move: whoever wrote the contract."""


@dataclass(frozen=True, slots=True)
class Done:
    """A committed call.

    Attributes:
        number: of the call, from 1; 0 = it has written nothing, and is not kept.
        answer: the function's.
        event: what it told, name and payload.
        purged: it has taken something away for good.
    """

    number: int
    transaction: bytes
    answer: bytes
    event: tuple[str, bytes] | None
    purged: bool = False


@dataclass(slots=True)
class _Pending:
    """What a call under way has done.

    Attributes:
        writes: (collection, key) -> value; None = removed.
        ranged: it has read a range of a private collection.
    """

    writes: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    ranged: bool = False
    event: tuple[str, bytes] | None = None
    purged: bool = False


class FileWorld:
    """Contracts over the tables of :data:`SCHEMA`."""

    def __init__(self, sql: sqlite3.Connection, contracts: Mapping[str, Contract]) -> None:
        self.contracts = contracts
        self._sql = sql

    def commit(
        self,
        contract: str,
        function: str,
        arguments: bytes,
        caller: Caller,
        time_ms: int,
        secret: Mapping[str, bytes] | None = None,
        request: str | None = None,
        given: bytes | None = None,
        do: Function | None = None,
    ) -> Done:
        """Call a function and write what it writes, in the transaction that is open.

        Args:
            request: a name that no other call has, by which it is found again (:meth:`requested`).
            given: the transaction's id.
            do: the same function, for who has prepared what it does.

        Raises:
            Declined: as the contract does; nothing is written.
            Mistake: the contract has one.
            sqlite3.Error: it cannot be written; the transaction is to be rolled back.
        """
        number, before = self._last()
        called = _called(number + 1, time_ms, caller, contract, function, arguments)
        transaction = given or sha256(before + called).digest()
        call = Call(function, arguments, caller, time_ms, transaction.hex(), secret or {})
        pending, answer = self._invoke(contract, call, do)
        if not pending.writes:
            return Done(0, transaction, answer, pending.event)
        if pending.ranged and pending.writes:
            raise Mistake(f"{contract} {function} has read a range of a private collection, and writes")
        writes = self._write(contract, number + 1, pending)
        row = (number + 1, transaction, sha256(before + transaction + called + writes).digest(), time_ms)
        what = (_packed(caller), contract, function, sha256(arguments).digest(), writes, request)
        self._sql.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *what))
        if pending.purged:
            self._sql.execute(f"PRAGMA user_version = {UNTIDY}")
        return Done(number + 1, transaction, answer, pending.event, pending.purged)

    def tidy(self) -> None:
        """What was purged is not in unused pages and not in the write-ahead log either. Outside of transactions.

        Takes as long as writing the file anew, and does nothing where nothing was purged.

        Raises:
            sqlite3.Error: somebody reads, or the disk is full; another time.
        """
        if self._sql.execute("PRAGMA user_version").fetchone() == (UNTIDY,):
            self._sql.execute("VACUUM")
            self._sql.execute(f"PRAGMA user_version = {TIDY}")
            busy, _, _ = self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                self._sql.execute(f"PRAGMA user_version = {UNTIDY}")

    def evaluate(
        self,
        contract: str,
        function: str,
        arguments: bytes,
        caller: Caller,
        time_ms: int,
        secret: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """Call a function and throw away what it writes. All its reads see one moment.

        Raises:
            Declined: as the contract does.
            Mistake: the contract has one.
        """
        number, before = self._last()
        called = _called(number + 1, time_ms, caller, contract, function, arguments)
        call = Call(function, arguments, caller, time_ms, sha256(before + called).hexdigest(), secret or {})
        if self._sql.in_transaction:
            return self._invoke(contract, call)[1]
        self._sql.execute("BEGIN")
        try:
            return self._invoke(contract, call)[1]
        finally:
            self._sql.execute("ROLLBACK")

    def requested(self, request: str) -> int | None:
        """Number of the call that was committed under this name."""
        row = self._sql.execute("SELECT number FROM calls WHERE request = ?", (request,)).fetchone()
        return int(row[0]) if row else None

    def last(self) -> tuple[int, int]:
        """Number of the last call, and the latest time of all (POSIX ms); 0 and 0 before the first."""
        (latest,) = self._sql.execute("SELECT max(time_ms) FROM calls").fetchone()
        return self._last()[0], latest or 0

    def get(self, contract: str, key: str, collection: str = PUBLIC) -> bytes | None:
        """A value, for who looks into the file."""
        return _Store(self, contract, collection, _Pending()).get(key)

    def scan(self, contract: str, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        """A range of public values, for who looks into the file."""
        return _Store(self, contract, PUBLIC, _Pending()).scan(start, end)

    def wrote(self, contract: str, collection: str, key: str, transaction: bytes) -> tuple[int, bytes | None]:
        """The call with this transaction that wrote a key, and the value's digest; None = it removed it.

        Raises:
            Broken: no such call has.
        """
        query = (
            "SELECT number, digest FROM history JOIN calls ON number = call"
            " WHERE history.contract = ? AND collection = ? AND key = ? AND txid = ?"
        )
        row = self._sql.execute(query, (contract, collection, key, transaction)).fetchone()
        if row is None:
            raise Broken(f"no call with transaction {transaction.hex()[:16]} has written {contract} {key}")
        return int(row[0]), None if row[1] is None else bytes(row[1])

    def check_call(self, number: int) -> bool:
        """Recompute one call's link to the call before it, and the digest of what it has written.

        Returns:
            Whether its transaction id is its own, and was not given by who committed it.

        Raises:
            Broken: they are not what was committed.
        """
        query = (
            "SELECT txid, link, time_ms, CAST(caller AS BLOB), contract, function, arguments, writes FROM calls"
            " WHERE number = ?"
        )
        row = self._sql.execute(query, (number,)).fetchone()
        before = self._sql.execute("SELECT link FROM calls WHERE number = ?", (number - 1,)).fetchone()
        if row is None or (before is None and number > 1):
            raise Broken(f"call {number - 1 if row else number} is missing")
        txid, link, time_ms, caller, contract, function, arguments, writes = row
        called = _digest(number, time_ms, caller, contract, function, arguments)
        last = bytes(before[0]) if before else _BEFORE_THE_FIRST
        if sha256(last + txid + called + writes).digest() != link:
            raise Broken(f"call {number} is not what was committed")
        self._check_written(number, writes)
        return bool(sha256(last + called).digest() == txid)

    def check(self, calls: int | None = None) -> None:
        """Recompute the chain of the last ``calls`` calls; of all by default, and then every value's digest too.

        Raises:
            Broken: names the first call or key that is not what it was.
        """
        last, _ = self._last()
        start = max(0, last - calls) if calls is not None else 0
        row = self._sql.execute("SELECT link FROM calls WHERE number = ?", (start,)).fetchone()
        if start and row is None:
            raise Broken(f"call {start} is missing")
        before, due = (bytes(row[0]) if row else _BEFORE_THE_FIRST), start + 1
        query = (
            "SELECT number, txid, link, time_ms, CAST(caller AS BLOB), contract, function, arguments, writes FROM calls"
            " WHERE number > ? ORDER BY number"
        )
        for number, txid, link, time_ms, caller, contract, function, arguments, writes in self._sql.execute(
            query, (start,)
        ):
            if number != due:
                raise Broken(f"call {due} is missing")
            called = _digest(number, time_ms, caller, contract, function, arguments)
            if sha256(before + txid + called + writes).digest() != link:
                raise Broken(f"call {number} is not what was committed")
            before, due = link, due + 1
        if calls is None:
            self._check_values()

    def _check_values(self) -> None:
        for number, writes in self._sql.execute("SELECT number, writes FROM calls ORDER BY number"):
            self._check_written(number, writes)
        query = "SELECT contract, collection, key, digest, max(call) FROM history GROUP BY contract, collection, key"
        for contract, collection, key, digest, _ in self._sql.execute(query):
            one = "SELECT CAST(value AS BLOB) FROM state WHERE contract = ? AND collection = ? AND key = ?"
            row = self._sql.execute(one, (contract, collection, key)).fetchone()
            if (None if row is None else sha256(row[0]).digest()) != digest:
                raise Broken(f"the value of {contract} {collection} {key} is not what was committed")
        (values,) = self._sql.execute("SELECT count(*) FROM state").fetchone()
        query = "SELECT count(*) FROM (SELECT digest, max(call) FROM history GROUP BY contract, collection, key)"
        (kept,) = self._sql.execute(f"{query} WHERE digest IS NOT NULL").fetchone()
        if values != kept:
            raise Broken(f"there are {values} values, and {kept} were written")
        query = "SELECT call, digest, CAST(value AS BLOB) FROM history WHERE value NOT NULL"
        for number, digest, value in self._sql.execute(query):
            if sha256(value).digest() != digest:
                raise Broken(f"a value of call {number} is not what was committed")

    def _check_written(self, number: int, writes: bytes) -> None:
        query = "SELECT collection, key, digest FROM history WHERE call = ? ORDER BY collection, key"
        if _written(self._sql.execute(query, (number,)).fetchall()) != writes:
            raise Broken(f"what call {number} has written is not what was committed")

    # ---- one call

    def _invoke(self, name: str, call: Call, do: Function | None = None) -> tuple[_Pending, bytes]:
        contract = self.contracts.get(name)
        if contract is None:
            known = ", ".join(sorted(self.contracts))
            raise Declined(Reason.UNKNOWN, f"there is no contract {name[:60]!r}: {known}")
        pending = _Pending()
        try:
            return pending, (do or contract.invoke)(_State(self, contract, call, pending), call)
        except (Declined, Mistake, sqlite3.Error):
            raise
        except Exception as error:
            raise Mistake(f"{name} {call.function}: {type(error).__name__}: {error}"[:500]) from error

    def _write(self, contract: str, number: int, pending: _Pending) -> bytes:
        """Write what the call has written, and return its digest."""
        rows: list[tuple[str, str, bytes | None]] = []
        for (collection, key), value in sorted(pending.writes.items()):
            place = (contract, collection, key)
            if value is None:
                self._sql.execute("DELETE FROM state WHERE contract = ? AND collection = ? AND key = ?", place)
            else:
                self._sql.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", (*place, value))
            digest = None if value is None else sha256(value).digest()
            shown = value if collection == PUBLIC else None
            self._sql.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", (*place, number, digest, shown))
            rows.append((collection, key, digest))
        return _written(rows)

    def _last(self) -> tuple[int, bytes]:
        row = self._sql.execute("SELECT number, link FROM calls ORDER BY number DESC LIMIT 1").fetchone()
        return (row[0], bytes(row[1])) if row else (0, _BEFORE_THE_FIRST)


class _Store:
    """The public state or one collection during one call: :class:`ledger.rules.world.Private`."""

    def __init__(self, world: FileWorld, contract: str, collection: str, pending: _Pending) -> None:
        self._world = world
        self._place = (contract, collection)
        self._pending = pending

    def get(self, key: str) -> bytes | None:
        query = "SELECT value FROM state WHERE contract = ? AND collection = ? AND key = ?"
        row = self._world._sql.execute(query, (*self._place, key)).fetchone()
        return bytes(row[0]) if row else None

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def put(self, key: str, value: bytes) -> None:
        if not key or not value:
            raise ValueError(f"{self._place[0]}: key {key!r}: a key and its value are not empty")
        self._pending.writes[self._place[1], key] = value

    def delete(self, key: str) -> None:
        self._pending.writes[self._place[1], key] = None

    def purge(self, key: str) -> None:
        self.delete(key)
        self._pending.purged = True

    def digest(self, key: str) -> bytes | None:
        value = self.get(key)
        return None if value is None else sha256(value).digest()

    def scan(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        self._pending.ranged |= self._place[1] != PUBLIC
        query = (
            "SELECT key, value FROM state WHERE contract = ? AND collection = ? AND key >= ? AND key < ? ORDER BY key"
        )
        return self._world._sql.execute(query, (*self._place, start, end))


class _State(_Store):
    """One contract's world during one call: :class:`ledger.rules.world.State`."""

    def __init__(self, world: FileWorld, contract: Contract, call: Call, pending: _Pending) -> None:
        super().__init__(world, contract.name, PUBLIC, pending)
        self._contract = contract
        self._call = call

    def private(self, collection: str) -> _Store:
        if collection not in self._contract.collections:
            raise ValueError(f"contract {self._contract.name} has no collection {collection!r}")
        return _Store(self._world, self._contract.name, collection, self._pending)

    def history(self, key: str) -> Iterator[Version]:
        query = (
            "SELECT txid, time_ms, value FROM history JOIN calls ON number = call"
            " WHERE history.contract = ? AND collection = ? AND key = ? ORDER BY call DESC"
        )
        rows = self._world._sql.execute(query, (*self._place, key))
        return (Version(bytes(txid).hex(), time_ms, value) for txid, time_ms, value in rows)

    def ask(self, contract: str, function: str, arguments: bytes) -> bytes:
        call = self._call
        asked = Call(function, arguments, call.caller, call.time_ms, call.transaction)
        return self._world._invoke(contract, asked)[1]

    def tell(self, event: str, payload: bytes) -> None:
        if self._pending.event is not None:
            raise RuntimeError(f"contract {self._contract.name} tells {event}, a call tells one event at most")
        self._pending.event = (event, payload)


def _packed(caller: Caller) -> bytes:
    return pack({"organisation": caller.organisation, "name": caller.name, "attributes": dict(caller.attributes)})


def _called(number: int, time_ms: int, caller: Caller, contract: str, function: str, arguments: bytes) -> bytes:
    return _digest(number, time_ms, _packed(caller), contract, function, sha256(arguments).digest())


def _digest(number: int, time_ms: int, caller: bytes, contract: str, function: str, arguments: bytes) -> bytes:
    """SHA-256 of a call: who called what, when, with which arguments."""
    said = [number, time_ms, caller.decode(), contract, function, arguments.hex()]
    return sha256(pack(said)).digest()


def _written(rows: list[tuple[str, str, bytes | None]]) -> bytes:
    """SHA-256 of what a call has written."""
    return sha256(
        pack([[collection, key, digest.hex() if digest else None] for collection, key, digest in rows])
    ).digest()
