"""One process for one file, and files that are moved aside instead of deleted.

Never deletes anything and never looks into a file.

Rules
- The lock is an flock on a file beside the one it protects; the kernel
  gives it back when the process ends, however it ends.
- The lock file stays: deleting it would let two processes lock two files of one name.
- What cannot be used is renamed, together with the files that belong to it, and the folder is synced.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class Held(Exception):
    """Another process holds the lock. Whose move: that process'; waiting helps when it is about to end.

    Attributes:
        pid: the other process as it wrote itself down, 0 when unknown.
    """

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path}: in use by another process" + (f" (pid {pid})" if pid else ""))
        self.pid = pid


class Lock:
    """An exclusive lock, held until :meth:`release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            Held: another process has it.
            OSError: the lock file cannot be made.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = os.read(self._file, 20).strip()
            os.close(self._file)
            raise Held(path, int(words) if words.isdigit() else 0) from None
        try:
            os.truncate(self._file, 0)
            os.write(self._file, b"%d\n" % os.getpid())
        except OSError:
            pass  # on a full disk the lock holds all the same; only its owner's number is missing

    @property
    def held(self) -> bool:
        """Whether we have it."""
        return self._file >= 0

    def release(self) -> None:
        """Give the lock back. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def set_aside(path: Path, suffixes: tuple[str, ...], utc_ms: int) -> Path:
    """Rename ``path`` and its companions (``path`` + each suffix) to ``{path}.set-aside-{UTC}``; the new name.

    Raises:
        OSError: the folder does not let us.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(utc_ms / 1000))
    target = base = path.with_name(f"{path.name}.set-aside-{stamp}")
    number = 1
    while any(Path(f"{target}{suffix}").exists() for suffix in ("", *suffixes)):
        number += 1
        target = base.with_name(f"{base.name}-{number}")
    for suffix in ("", *suffixes):  # the main file first: without its companions it must never be opened again
        try:
            os.rename(f"{path}{suffix}", f"{target}{suffix}")
        except FileNotFoundError:
            pass
    sync_folder(path.parent)
    return target


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
