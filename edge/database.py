"""The SQLite file under the spool: connection, transactions, and errors in terms of whose move it is.

Knows no statement. Never retries and never deletes.

Rules
- WAL and synchronous=FULL: a transaction that ended has reached the disk.
- One writing connection, used by several threads under one lock; other processes may read.
- A transaction that fails changes nothing. A full disk and a busy file can be waited for; after any other error nothing
  more is written through this connection, because what the kernel still holds of the file cannot be trusted.
- What cannot be read is renamed with its companions, by whoever opens it next.
- A file of an older format is brought up to date by whoever opens it for writing, after a look at the whole of it, in
  one transaction: it is of the old format or of the new one, never between. When that fails it stays as it was, and is
  never taken for damaged. A file of a newer format stays as it is.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from edge.lockfile import set_aside, sync_folder
from edge.state import LOG

_APPLICATION = 0x41494753
"""``AIGS`` in the file's header: ours, and not any other SQLite file."""

_PAGE_BYTES = 1024
"""Measured on ext4, 32 statements of 450 B a commit: 2.5 times their size with 1 KiB pages, 2.7 with 2, 3.2 with 4."""

_CHECKPOINT_PAGES = 4000
"""4 MB of log, reused in place: a longer one saves nothing more, a shorter one copies half-filled pages more often."""

_CACHE_KIB = 512
"""Writing touches the newest pages only, and what is sent was written lately; SQLite's own choice is 2 MB."""

_LOG_BYTES = 8 << 20
"""The log's usual size and as much again: it grows while a reader holds an old state, as an export does."""

_QUICK_CHECK_BYTES = 16 << 20
"""A file up to this size is checked whole on opening (0.1 s); a larger one where it is read."""

_FULL_BYTES = 256 << 10
"""Less than this free means that the disk is full, also where SQLite only saw that a write failed."""

_BUSY_S = 5.0
"""How long another process' lock (a reader's, for moments) is waited for."""

_MARK = ".damaged"
_COMPANIONS = ("-wal", "-shm", _MARK)


Writing = sqlite3.Connection
"""What a transaction's statements are executed on."""

Step = Callable[[Writing], None]
"""Makes of a file of one format one of the next, inside a transaction."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of a file.

    Attributes:
        tables: statements that make them in a new file.
        steps: from the first format to the second, from there to the third, and so on.
    """

    tables: str
    steps: tuple[Step, ...] = ()

    @property
    def version(self) -> int:
        """The format they are."""
        return 1 + len(self.steps)


class SpoolProblem(Exception):
    """The spool cannot do what it was asked."""

    waiting_helps: ClassVar[bool] = False

    def advise(self, advice: str) -> Self:
        """The same problem with a note ``try: ...``."""
        self.add_note(f"try: {advice}")
        return self


class SpoolBusy(SpoolProblem):
    """Another process uses it: that process' move."""

    waiting_helps = True


class SpoolFull(SpoolProblem):
    """The disk is full; nothing was changed. The move of whoever fills it, or of the sender, so that we can prune."""

    waiting_helps = True


class SpoolFailed(SpoolProblem):
    """The disk or the file system fails: the operator's move. This process writes nothing more."""


class SpoolDamaged(SpoolProblem):
    """What is in the file is not what was written. Opening it again sets it aside."""


class SpoolForeign(SpoolProblem):
    """Another gateway's spool, or another program's file. Opening sets it aside."""


class SpoolTooNew(SpoolProblem):
    """Written by a newer version: the operator's move. The file stays as it is."""


class SpoolTooOld(SpoolProblem):
    """Of an older format, and whoever only reads cannot change that: the move of whoever starts the agent."""


class Database:
    """One connection to one file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._failed: SpoolProblem | None = None  # once set, nothing more is written

    @classmethod
    def read(cls, path: Path, schema: Schema) -> Database:
        """Open for reading, beside whoever writes.

        Raises:
            SpoolProblem: there is none, or it cannot be read.
        """
        if not path.exists():
            raise SpoolFailed(f"{path}: there is no spool").advise("start the agent once, or check [store] path")
        database = cls._opened(path, _connect(path, "?mode=ro"), schema)
        try:
            version = database._version()
            if not version:
                raise SpoolBusy(f"{path}: is just being made").advise(
                    "look again in a moment; start the agent if it is not"
                )
            if version < schema.version:
                raise SpoolTooOld(f"{path}: has format {version}, this version reads {schema.version}").advise(
                    "start the agent of this version: it brings the file up to date"
                )
        except SpoolProblem:
            database.close()
            raise
        return database

    @classmethod
    def write(cls, path: Path, schema: Schema) -> Database | None:
        """Open for writing; None when nothing was ever stored in the file.

        Raises:
            SpoolDamaged, SpoolForeign: it must be set aside.
            SpoolProblem: it cannot be used.
        """
        if Path(f"{path}{_MARK}").exists():
            raise SpoolDamaged(f"{path}: was found damaged before")
        if not path.exists() or not path.stat().st_size:
            if any(Path(f"{path}{suffix}").exists() for suffix in _COMPANIONS):
                raise SpoolDamaged(f"{path}: is gone, but not the files beside it")
            return None
        database = cls._opened(path, _connect(path), schema, _settings())
        try:
            version = database._version()
            if not version:  # a crash before the first commit
                database.close()
                return None
            if version < schema.version or path.stat().st_size <= _QUICK_CHECK_BYTES:
                database._check()
            if version < schema.version:
                database._migrate(version, schema)
        except SpoolProblem:
            database.close()
            raise
        return database

    @classmethod
    def create(cls, path: Path, schema: Schema, rows: Sequence[tuple[str, Sequence[Any]]]) -> Database:
        """Make the file, with its tables and first rows in one transaction.

        Raises:
            SpoolProblem: the folder or the disk does not let us.
        """
        header = [f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {schema.version}"]
        database = cls(path, _connect(path))
        try:
            database._connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            for setting in _settings():
                database._connection.execute(setting).fetchall()
            with database.transaction() as db:
                for statement in (*schema.tables.strip().split(";\n"), *header):
                    db.execute(statement)
                for query, values in rows:
                    db.execute(query, values)
            sync_folder(path.parent)
        except (sqlite3.Error, OSError, SpoolProblem) as error:
            database.close()
            raise error if isinstance(error, SpoolProblem) else _problem(path, error) from error
        return database

    @classmethod
    def _opened(
        cls, path: Path, connection: sqlite3.Connection, schema: Schema, settings: Sequence[str] = ()
    ) -> Database:
        database = cls(path, connection)
        try:
            ((application,),) = database.rows("PRAGMA application_id")
            version = database._version()
            if version and application != _APPLICATION:
                raise SpoolForeign(f"{path}: is a database of another program")
            if version > schema.version:
                raise SpoolTooNew(f"{path}: has format {version}, this version knows {schema.version}").advise(
                    "install the version that wrote it, or a newer one"
                )
            for setting in settings:
                database.rows(setting)
        except SpoolProblem:
            database.close()
            raise
        return database

    def _version(self) -> int:
        """The format of what is in the file, 0 when nothing is."""
        ((version,),) = self.rows("PRAGMA user_version")
        return max(1, int(version)) if self.rows("SELECT 1 FROM sqlite_schema LIMIT 1") else 0

    def _check(self) -> None:
        ((verdict,),) = self.rows("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise self.damaged(str(verdict))

    def _migrate(self, version: int, schema: Schema) -> None:
        """Take the steps from ``version`` on; all of them, or none.

        Raises:
            SpoolFull, SpoolBusy: none; waiting helps.
            SpoolFailed: none. The file was found whole, so it is not what is wrong, and stays as it is.
        """
        try:
            with self.transaction() as db:
                for step in schema.steps[version - 1 :]:
                    step(db)
                db.execute(f"PRAGMA user_version = {schema.version}")
        except SpoolProblem as problem:
            if problem.waiting_helps:
                raise
            words = f"{self.path}: could not be brought from format {version} to {schema.version}: {problem}"
            raise SpoolFailed(words).advise("install the version that wrote it; the file is as it was") from problem
        LOG.info("%s: brought from format %d to %d", self.path, version, schema.version)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query.

        Raises:
            SpoolProblem: it cannot be read.
        """
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise _problem(self.path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[Writing]:
        """What is executed inside reaches the disk as a whole, or not at all.

        Raises:
            SpoolProblem: not at all.
        """
        with self._lock:
            if self._failed is not None:
                raise self._failed
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                if not isinstance(error, sqlite3.Error):
                    raise
                problem = _problem(self.path, error)
                if not problem.waiting_helps:
                    self._failed = problem
                raise problem from error

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._failed = _problem(self.path, error)

    def used_bytes(self) -> int:
        """Pages in use, and what the log takes beyond its usual size: what counts against a disk budget."""
        ((pages,),), ((free,),) = self.rows("PRAGMA page_count"), self.rows("PRAGMA freelist_count")
        try:
            log_bytes = os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            log_bytes = 0
        return int((pages - free) * _PAGE_BYTES + max(0, log_bytes - _LOG_BYTES))

    def damaged(self, words: str) -> SpoolDamaged:
        """The problem that the content is not what was written."""
        return SpoolDamaged(f"{self.path}: {words}").advise(_BEGIN_ANEW)

    def close(self) -> None:
        """Close; nothing more is read or written. May be called twice."""
        self._failed = self._failed or SpoolFailed(f"{self.path}: is closed")
        with self._lock:
            try:
                self._connection.close()
            except sqlite3.Error:
                pass  # its last checkpoint failed; the next start finds everything in the log


def mark_damaged(path: Path) -> None:
    """Leave a mark beside a file that turned out to be damaged: the next start sets it aside.

    Raises:
        OSError: it cannot be left.
    """
    Path(f"{path}{_MARK}").touch()
    sync_folder(path.parent)


def move_aside(path: Path, utc_ms: int) -> Path:
    """Rename the file and what belongs to it; the new name.

    Raises:
        SpoolFailed: the folder does not let us.
    """
    try:
        return set_aside(path, _COMPANIONS, utc_ms)
    except OSError as error:
        raise _problem(path, error) from error


def peek(path: Path, query: str) -> list[Any]:
    """Rows of a file that may be damaged, which stays as it is; none when it cannot be read."""
    try:
        connection = _connect(path, "?mode=ro")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, SpoolProblem):
        return []


def _connect(path: Path, mode: str = "") -> sqlite3.Connection:
    try:
        # Python's own transactions are off: every BEGIN and COMMIT is written out above.
        return sqlite3.connect(
            f"{path.absolute().as_uri()}{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_S,
        )
    except sqlite3.Error as error:
        raise _problem(path, error) from error


def _settings() -> list[str]:
    return [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        f"PRAGMA cache_size = -{_CACHE_KIB}",
        # What the last process left in the log reaches the file, synced, before anything builds on it.
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ]


_BEGIN_ANEW = "restart the agent: it sets the file aside and begins a new stream"


def _problem(path: Path, error: sqlite3.Error | OSError) -> SpoolProblem:
    """An error in terms of whose move it is."""
    if isinstance(error, OSError):
        return SpoolFailed(f"{path}: {error.strerror}").advise("give the agent a folder it may write to")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte of an extended code
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    words = f"{path}: {error} ({name})"
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return SpoolFull(f"{path}: the disk is full ({name})").advise(
            f"free some space on the file system of {path.parent}"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):  # the last: a table is missing
        return SpoolDamaged(words).advise(_BEGIN_ANEW)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolBusy(words).advise("close the other program that has this file open")
    return SpoolFailed(words).advise("look at the kernel's log for errors of the disk, and at who owns the folder")


def _is_full(path: Path) -> bool:
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < _FULL_BYTES
