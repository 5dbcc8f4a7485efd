"""The site's documents: what a technician notes of lines, meters, visits and commissioning; readable JSON, in TinyDB.

Evidence is not here but in the chain: a document names the statement (stream, seq, sid) that proves it.

Rules
- A change replaces the whole file or nothing of it: a new file is written, synced and renamed, the folder is synced.
- A file that cannot be read is set aside under another name, never deleted, and said once; then a new one begins.
- A file of an older version is brought up to date, in one such change; one of a newer version is left as it is.
- Lines and meters have revisions: an older one is kept, and what did not change makes no new one. Visits and
  commissionings are only added.
- One process at a time (a lock beside the file). The agent never opens it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage

from edge.lockfile import Lock, set_aside, sync_folder

Tables = dict[str, dict[str, Any]]
"""What the file holds: the documents of each table, by their number."""

Step = Callable[[Tables], None]
"""Makes of a file of one version one of the next."""

STEPS: tuple[Step, ...] = ()
"""From version 1 to 2, from 2 to 3, and so on; never changed. Within a version tables and their fields only grow."""

BUS, METER, VISIT, COMMISSIONING, EXCHANGE = "bus", "meter", "visit", "commissioning", "exchange"
"""The tables."""

_ABOUT = "about"
_MOST_BYTES = 16 << 20
"""A site of 250 meters with ten visits each takes 2 MB; a file beyond this is not one of ours."""

Document = dict[str, Any]


class SiteDamaged(Exception):
    """The file could not be read and was set aside. Waiting does not help; the next call begins a new file."""


class SiteNewer(Exception):
    """A newer version of this software wrote the file: only that version may use it."""


class DurableFile(Storage):
    """A TinyDB storage that a power cut cannot leave half written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Tables | None:
        """The tables; None when there is no file yet.

        Raises:
            ValueError: it holds no tables.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > _MOST_BYTES:
            raise ValueError(f"is larger than {_MOST_BYTES >> 20} MB")
        found = json.loads(data)
        if type(found) is not dict or any(type(table) is not dict for table in found.values()):
            raise ValueError("holds no tables")
        if any(type(row) is not dict for table in found.values() for row in table.values()):
            raise ValueError("holds a document that is none")
        return found

    def write(self, data: Tables) -> None:
        """Put the tables in place of the old ones."""
        new = self._path.with_name(f"{self._path.name}.new")
        text = json.dumps(data, indent=1, ensure_ascii=False)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        sync_folder(self._path.parent)


class Site:
    """The documents of one site; in ``with``."""

    def __init__(
        self,
        path: Path,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        steps: Sequence[Step] = STEPS,
    ) -> None:
        """Open the file, or begin one.

        Raises:
            SiteDamaged: it could not be read and was set aside.
            SiteNewer: it is of a newer version.
            Held: another process uses it.
            OSError: the folder does not let us.
        """
        self.path = path
        self._now_ms = now_ms
        self._steps = steps
        self._lock = Lock(Path(f"{path}.lock"))
        try:
            self._db = self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> TinyDB:
        db = TinyDB(self.path, storage=DurableFile)
        try:
            about = db.table(_ABOUT).all()
            version = about[0]["version"] if about else None
            for name in db.tables():
                db.table(name).all()
            if version is None and db.tables():
                raise ValueError("says no version")
            if version is not None and (type(version) is not int or version < 1):
                raise ValueError(f"says version {version!r}")
        except (ValueError, KeyError, RecursionError) as error:
            words = f"is damaged ({type(error).__name__ if isinstance(error, KeyError) else error})"
            aside = set_aside(self.path, (), self._now_ms())
            damaged = SiteDamaged(f"{self.path}: {words}; it was set aside as {aside}")
            damaged.add_note("try: the same again, which begins a new file; the evidence itself is in the store")
            raise damaged from None
        newest = 1 + len(self._steps)
        if version is None:
            db.table(_ABOUT).insert({"version": newest})
        elif version > newest:
            newer = SiteNewer(f"{self.path}: is of version {version}, this software knows {newest}")
            newer.add_note("try: the newer software; or name another store.path")
            raise newer
        elif version < newest:
            return self._migrated(version)
        return db

    def _migrated(self, version: int) -> TinyDB:
        """The file brought up to date from ``version``, whole or not at all."""
        file = DurableFile(self.path)
        tables = file.read() or {}
        for step in self._steps[version - 1 :]:
            step(tables)
        (about,) = tables[_ABOUT].values()
        about["version"] = 1 + len(self._steps)
        file.write(tables)
        return TinyDB(self.path, storage=DurableFile)

    def revise(self, table: str, name: str, content: Mapping[str, Any]) -> int:
        """Note what a line or a meter is now; its revision, the same as before when nothing changed."""
        before = self.latest(table, name)
        plain = json.loads(json.dumps(content))
        if before is not None and {key: before.get(key) for key in plain} == plain:
            return int(before["revision"])
        revision = before["revision"] + 1 if before else 1
        self._db.table(table).insert({"name": name, "revision": revision, "at_ms": self._now_ms(), **plain})
        return revision

    def latest(self, table: str, name: str) -> Document | None:
        """The newest revision, None when there is none."""
        found = [each for each in self.all(table) if each.get("name") == name]
        return max(found, key=lambda each: int(each["revision"]), default=None)

    def add(self, table: str, content: Mapping[str, Any]) -> None:
        """Note what happened."""
        self._db.table(table).insert({"at_ms": self._now_ms(), **content})

    def all(self, table: str) -> list[Document]:
        """Every document of a table, oldest first."""
        return [dict(each) for each in self._db.table(table).all()]

    def close(self) -> None:
        """Give the file back. May be called twice."""
        self._db.close()
        self._lock.release()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def place(spool: Path) -> Path:
    """Where the documents of the site with this spool are."""
    return spool.with_name(f"{spool.name}.site.json")
