"""The disk of the store: is there room, can it be written, how worn is it. Writes nothing to find out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.database import SpoolProblem
from edge.doctor.finding import OPERATOR, Case, Finding, State, advice_of, advised, well
from edge.spool_read import SpoolReader

AREA = "disk"
_MB = 1_000_000
_NEARLY_FULL_BYTES = 20 * _MB
"""The store's log takes 8 MB, the rest of the system as much at once."""

_SPARSE = 0.8
"""From this part of the budget on, meters are read at the settlement period only."""

_WORN = 9
"""eMMC (JEDEC JESD84-B51, 7.4.57): tenths of its life that are used; 11 is beyond all of them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The store's file system.

    Attributes:
        folder: where the store is.
        free_bytes: for the gateway's user.
        read_only: as mounted.
        kind: ``ext4``, ``tmpfs``, ...; empty when unknown.
        errors: that ext4 counted; 0 where nobody counts.
        worn: tenths of an eMMC's life, 0 where it does not tell.
        used_bytes: of the store; None: there is none.
        budget_bytes: what it may take.
        aside: stores that could not be used and were set aside.
    """

    folder: Path
    free_bytes: int
    read_only: bool
    kind: str
    errors: int
    worn: int
    used_bytes: int | None
    budget_bytes: int
    aside: tuple[str, ...] = ()


def check(case: Case) -> Iterator[Finding]:
    """The store's disk, and what the agent says of it."""
    config = case.config
    folder = config.spool.parent
    try:
        room = os.statvfs(folder)
        device = folder.stat().st_dev
    except OSError as error:
        words = f"the store's folder cannot be used: {error.strerror}"
        yield Finding(AREA, State.WRONG, str(folder), words, OPERATOR, "make the folder, or mount its disk")
        return
    used, problem = _used(config.spool)
    if problem is not None:
        yield problem
    kept = sorted(path.name for path in folder.glob(f"{config.spool.name}.set-aside-*"))
    aside = tuple(name for name in kept if not name.endswith(("-wal", "-shm", ".damaged")))
    number = f"{os.major(device)}:{os.minor(device)}"
    kind, name = _mounted(number)
    seen = Seen(
        folder,
        room.f_bavail * room.f_frsize,
        bool(room.f_flag & os.ST_RDONLY),
        kind,
        _number(Path("/sys/fs/ext4", name, "errors_count"), 10),
        _worn(number),
        used,
        config.budget_bytes,
        aside,
    )
    yield from judge(seen)
    for alarm in case.alarms("disk"):
        yield advised(AREA, State.WRONG, "", alarm.words, OPERATOR, "df -h; journalctl -u aigeco -n 50")


def judge(seen: Seen) -> Iterator[Finding]:
    """What is to be said of it."""
    place, found = str(seen.folder), False
    for wrong, state, words, advice in _rows(seen):
        if wrong:
            found = True
            yield Finding(AREA, state, place, words, OPERATOR, advice)
    for name in seen.aside:
        words = "is a store that could not be used, and what is in it is not in the new one"
        advice = "keep it: aigeco export from a copy may save what it holds"
        yield Finding(AREA, State.WARNING, name, words, OPERATOR, advice)
    if not found:
        store = "no store yet" if seen.used_bytes is None else f"the store has {_mb(seen.used_bytes)} of "
        store += "" if seen.used_bytes is None else _mb(seen.budget_bytes)
        yield well(AREA, place, f"{store}; {_mb(seen.free_bytes)} free on {seen.kind or 'this disk'}")


def _rows(seen: Seen) -> Iterator[tuple[bool, State, str, str]]:
    used = seen.used_bytes or 0
    left = seen.budget_bytes - used
    full = used >= seen.budget_bytes
    send = "see broker and receipts: what is committed is pruned; or raise store.budget_mb"
    yield (
        seen.read_only,
        State.WRONG,
        "is mounted read-only: nothing can be stored",
        "dmesg | grep -i error; a card that does this is at its end: export, and replace it",
    )
    yield (
        seen.free_bytes < _NEARLY_FULL_BYTES and not seen.read_only,
        State.WRONG,
        f"only {_mb(seen.free_bytes)} are free",
        f"du -xh {seen.folder} | sort -h | tail",
    )
    yield (
        _NEARLY_FULL_BYTES <= seen.free_bytes < left,
        State.WARNING,
        f"{_mb(seen.free_bytes)} are free, and the store may still take {_mb(left)}",
        "make room, or lower store.budget_mb",
    )
    yield full, State.WRONG, f"the store's budget of {_mb(seen.budget_bytes)} is used up: nothing is read", send
    yield (
        not full and used > _SPARSE * seen.budget_bytes,
        State.WARNING,
        f"the store has {_mb(used)} of {_mb(seen.budget_bytes)}: meters are read less often",
        send,
    )
    yield (
        seen.errors > 0,
        State.WRONG,
        f"the file system counts {seen.errors:,} errors",
        "export the evidence, check the file system (fsck) and replace the card",
    )
    yield (
        seen.worn >= _WORN,
        State.WARNING,
        f"{min(seen.worn, 10) * 10} % of the memory's life is used",
        "plan its replacement; export the evidence before",
    )
    yield (
        seen.kind == "tmpfs",
        State.WARNING,
        "is in memory (tmpfs): a power cut takes the store",
        "store.path on a disk, for anything but a trial",
    )


def _used(spool: Path) -> tuple[int | None, Finding | None]:
    if not spool.exists():
        return None, None
    try:
        reader = SpoolReader.read(spool)
        try:
            return reader.counts().used_bytes, None
        finally:
            reader.close()
    except SpoolProblem as problem:
        advice = advice_of(problem, "restart the gateway: it sets a damaged store aside, and deletes nothing")
        return None, Finding(AREA, State.WRONG, str(spool), str(problem).removeprefix(f"{spool}: "), OPERATOR, advice)


def _mounted(number: str) -> tuple[str, str]:
    """(type, name of the device) of a file system by its device number."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "", "?"
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2] == number:
            kind, source = after.split()[:2]
            return kind, Path(source).name
    return "", "?"


def _worn(number: str) -> int:
    """Tenths of the life of the eMMC that a file system is on."""
    device = Path("/sys/dev/block", number)
    try:
        disk = device.resolve(strict=True).parent
        tenths = [int(word, 16) for word in (disk / "device/life_time").read_text().split()]
    except (OSError, ValueError):
        return 0
    return max(tenths, default=0) - 1 if any(tenths) else 0


def _number(path: Path, base: int) -> int:
    try:
        return int(path.read_text(), base)
    except (OSError, ValueError):
        return 0


def _mb(count: int) -> str:
    return f"{count / _MB:,.0f} MB"
