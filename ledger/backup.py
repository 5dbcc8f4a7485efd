"""Copies of an embedded ledger, made while its peer runs, and put back where none is.

Rules
- A copy is of one moment, and one file that needs no other. It appears complete and checked, or not at all, and only
  its owner reads it: statements are in it.
- A copy is put back only where no ledger is, by who holds the write lock, and after its whole chain was recomputed.
- The receipt key is no part of it.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from ledger.commit import LedgerProblem
from ledger.embedded import LedgerFile


@dataclass(frozen=True, slots=True)
class Copied:
    """Up to where a copy goes.

    Attributes:
        block: the last block, 0 = none.
        call: the last call of a contract, 0 = none.
        time_s: when that block was committed, POSIX seconds; None before the first.
    """

    block: int
    call: int
    time_s: int | None


def copy(source: Path, target: Path, organisation: str) -> Copied:
    """Copy a ledger's file, whoever writes to it meanwhile.

    Raises:
        FileExistsError: there is something at the target.
        LedgerProblem: the source is no ledger of this organisation, its chain is broken, or the copy cannot be written.
    """
    if target.exists():
        raise FileExistsError(f"{target}: is there already")
    LedgerFile(source, organisation, read_only=True).close()
    aside = target.with_name(f"{target.name}.part")
    aside.unlink(missing_ok=True)
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600))
        _copy(source, aside)
        copied = _checked(aside, organisation)
        _sync(aside)
        aside.rename(target)
        _sync(target.absolute().parent)
    finally:
        aside.unlink(missing_ok=True)
    return copied


def _copy(source: Path, target: Path) -> None:
    try:
        reader = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
        writer = sqlite3.connect(target)
        try:
            reader.backup(writer)  # in one step: a read transaction, which the writer does not notice
            writer.execute("PRAGMA journal_mode = DELETE")
        finally:
            writer.close()
            reader.close()
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        raise LedgerProblem(f"{target}: {'the disk is full' if full else error}", waiting_helps=full) from error


def _checked(path: Path, organisation: str) -> Copied:
    file = LedgerFile(path, organisation, read_only=True)
    try:
        file.check_chain()
        block, _ = file.last()
        last = next(file.commits(block - 1), None) if block else None
        return Copied(block, file.world.last()[0], last.issued_s if last else None)
    finally:
        file.close()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
