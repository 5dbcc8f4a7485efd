"""Statements stored a second, and physical bytes written for each, by how many the writer groups into one commit.

Goal: with 32 meters at most 3 times the statement's own size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import click
from cryptography.hazmat.primitives.asymmetric import ec

from bench import disk, sample
from bench.options import show, small
from bench.report import Table, verdict
from drivers.reading import Reading
from edge.spool import Position, Spool
from signer.chain import Chain
from signer.keys.file import FileKey
from signer.statement import Instant, Statement

TIMES_SIZE = 3.0
PERIOD_MS = 1000
_GATEWAY = "home-0001"
_JOURNAL_SLOTS, _WRITE_BACK_SLOTS = 5, 30
"""At one slot a second: ext4 writes its journal every 5 seconds, the kernel what is dirty after 30."""
_METERS_JUDGED = 32


@dataclass(frozen=True, slots=True)
class Case:
    """How statements are grouped.

    Attributes:
        meters: meters read in each slot.
        grouped: one commit a slot, otherwise one a statement.
        slots: slots to store and measure, after half as many that only make the log as long as it gets.
    """

    meters: int
    grouped: bool
    slots: int


# Slots enough for the write-ahead log to be copied back several times: that is half of what is written.
CASES = (Case(1, True, 6000), Case(2, True, 6000), Case(8, True, 4000), Case(32, True, 3000), Case(32, False, 600))


@dataclass(frozen=True, slots=True)
class Stored:
    """What a case took.

    Attributes:
        statements, size_bytes: how many, and their bytes altogether.
        seconds, cpu_s: inside :meth:`Spool.append` alone, on the wall and of the processor.
        commits: transactions.
        written_bytes: physical, journal included, the file's making and the log's growth not.
    """

    statements: int
    size_bytes: int
    seconds: float
    cpu_s: float
    commits: int
    written_bytes: int


def store(case: Case, where: disk.Disk) -> Stored:
    """Sign and store the slots of a case, as fast as it goes; only storing is timed."""
    chain = Chain(_GATEWAY, FileKey(ec.generate_private_key(ec.SECP256R1())), None, 1)
    spool = Spool.open(where.folder / "spool.db", _GATEWAY, sample.SLOT_MS)
    try:
        spool.append([chain.genesis(_instant(0), (b"certificate" * 64,))])
        _store(spool, where, _slots(chain, case, 0, case.slots // 2), case.grouped)
        where.write_back()
        before = where.written_bytes()
        stored = _store(spool, where, _slots(chain, case, case.slots // 2, case.slots), case.grouped)
        where.write_back()
        return replace(stored, written_bytes=where.written_bytes() - before)
    finally:
        spool.close("clean")


def _store(spool: Spool, where: disk.Disk, slots: Iterator[tuple[int, Sequence[Statement]]], grouped: bool) -> Stored:
    statements = size = commits = 0
    wall = cpu = 0.0
    for slot, signed in slots:
        groups = [signed] if grouped else [[one] for one in signed]
        for group in groups:
            positions = {one.sub: Position(sample.SLOT_MS + (slot + 1) * PERIOD_MS, PERIOD_MS) for one in group}
            began, began_cpu = time.perf_counter(), time.thread_time()
            spool.append(group, positions)
            wall += time.perf_counter() - began
            cpu += time.thread_time() - began_cpu
        commits += len(groups)
        statements += len(signed)
        size += sum(len(one.data) for one in signed)
        if slot % _JOURNAL_SLOTS == 0:
            where.commit_journal(where.folder / "spool.db-wal")
        if slot % _WRITE_BACK_SLOTS == 0:
            where.write_back()
    return Stored(statements, size, wall, cpu, commits, 0)


def _slots(chain: Chain, case: Case, first: int, count: int) -> Iterator[tuple[int, Sequence[Statement]]]:
    meter_map = sample.sdm630_main()
    template = sample.reading(meter_map)
    for slot in range(first, first + count):
        slot_ms = sample.SLOT_MS + slot * PERIOD_MS
        readings = (
            Reading(f"meter-{meter:02}", slot_ms, None, template.values, 38, template.blocks)
            for meter in range(case.meters)
        )
        yield slot, [chain.reading(one, _instant(slot)) for one in readings]


def _instant(slot: int) -> Instant:
    return Instant(sample.SLOT_MS + slot * PERIOD_MS + 38, 86_400_000 + slot * PERIOD_MS, 2, 12)


def table(divide_by: int, loop: bool = True) -> Table:
    """All cases, each on a fresh disk; ``loop``: on a loop device where that is possible."""
    rows, how = [], ""
    for case in CASES:
        smaller = Case(case.meters, case.grouped, max(2, case.slots // divide_by))
        with disk.fresh(loop) as where:
            how = where.how
            rows.append(_row(smaller, store(smaller, where)))
    return Table(
        "Storing statements of 12 quantities",
        (
            "meters, commits",
            "statements",
            "stored a s",
            "cpu us each",
            "ms a commit",
            "bytes each",
            "written each",
            "times size",
            "goal",
        ),
        tuple(rows),
        (
            how,
            "Time is simulated, a slot a second: the journal is written every 5 slots, what is dirty every 30, as ext4"
            " and the kernel do. Stored a s, cpu and ms are those of Spool.append alone, as fast as it goes.",
        ),
    )


def _row(case: Case, stored: Stored) -> tuple[str, ...]:
    size = stored.size_bytes / stored.statements
    written = stored.written_bytes / stored.statements
    judged = case.grouped and case.meters == _METERS_JUDGED
    return (
        f"{case.meters}, one a {'slot' if case.grouped else 'statement'}",
        f"{stored.statements:,}",
        f"{stored.statements / stored.seconds:,.0f}",
        f"{stored.cpu_s / stored.statements * 1e6:.0f}",
        f"{stored.seconds / stored.commits * 1e3:.2f}",
        f"{size:.0f}",
        f"{written:,.0f}",
        f"{written / size:.2f}",
        verdict(written / size, TIMES_SIZE) if judged else "",
    )


@click.command("store", help=__doc__)
@click.option("--divide-by", default=1, show_default=True, help="Store this many times fewer statements.")
@small
def command(divide_by: int, tiny: bool) -> None:
    show([table(1000, loop=False) if tiny else table(divide_by)])


if __name__ == "__main__":
    command()
