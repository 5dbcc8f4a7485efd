"""Who may write a ledger: the one process that holds the lock file beside it.

Rules
- The kernel's lock (flock) ends with its holder, however that ends; the file itself stays and means nothing.
- Local file systems only: a lock on a network file system may not keep others out.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class WriteLock:
    """The right to write the ledger at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.lock")
        self._file: int | None = None

    def take(self) -> bool:
        """Take it if it is free; does not wait.

        Raises:
            OSError: the lock file cannot be made.
        """
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
