"""From the start of the process to its first statement on disk, and to the first reading; and the price of ``--help``.

Goal: the first stored statement within 2 s.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator

import click

from bench import backlog, meters, place
from bench.options import show, small
from bench.report import Table, verdict
from edge.database import SpoolProblem
from edge.spool_read import SpoolReader
from hw_sim.stage import command as module
from signer.codes import Kind
from signer.statement import Claims

MOST_S = 2.0
MODEL = "carlo_gavazzi_em511"
_LOOK_S = 0.005
_PATIENCE_S = 30.0


def first_statement(site: place.Place) -> tuple[float, float]:
    """Seconds from the start of ``aigeco run`` to its first new statement on disk, and to its first new reading."""
    before = _stored(site)
    began = time.monotonic()
    gateway = site.start_gateway()
    statement_s = _wait(began, lambda: _stored(site) > before)
    reading_s = _wait(began, lambda: any(one.kind == Kind.READING for one in _newest(site) if one.seq >= before))
    gateway.stop()
    return statement_s, reading_s


def table(runs: int, statements: int) -> Table:
    """New stores, then one that holds a backlog, then the commands' help."""
    fresh, full = [], []
    with meters.running(MODEL, 1, 1) as served:
        buses = place.tcp_bus(served.ports[0], MODEL, [0])
        for _ in range(runs):
            with place.fresh() as site:
                site.write_config(buses, period_s=1, connected=False)
                fresh.append(first_statement(site))
        with place.fresh() as site:
            site.write_config(buses, period_s=1, connected=False)
            backlog.fill(site.config, statements)
            full += [first_statement(site) for _ in range(runs)]
    rows = [
        _row("aigeco run, empty store, first statement", [one for one, _ in fresh], MOST_S),
        _row("aigeco run, empty store, first reading", [one for _, one in fresh]),
        _row(f"aigeco run, {statements:,} statements stored, first statement", [one for one, _ in full], MOST_S),
        _row(f"aigeco run, {statements:,} statements stored, first reading", [one for _, one in full]),
    ]
    for name, words in (
        ("aigeco", "edge.cli.main"),
        ("aigeco-peer", "ledger.cli.main"),
        ("aigeco-sim", "hw_sim.cli.main"),
    ):
        rows.append(_row(f"{name} --help", [_help_s(words) for _ in range(runs)]))
    return Table(
        "From the start of a process",
        ("what", "median s", "best s", "worst s", "goal"),
        tuple(rows),
        (
            f"{runs} runs each. Statement: durable, seen by another process; on an empty store it is the genesis, then"
            " the boot.",
            "Reading: one meter over TCP at a slot a second, so up to a second of it is waiting for the slot.",
        ),
    )


def _row(name: str, seconds: list[float], goal: float | None = None) -> tuple[str, ...]:
    middle = statistics.median(seconds)
    return (
        name,
        f"{middle:.2f}",
        f"{min(seconds):.2f}",
        f"{max(seconds):.2f}",
        verdict(middle, goal, unit=" s") if goal is not None else "",
    )


def _help_s(words: str) -> float:
    began = time.monotonic()
    subprocess.run([*module(words), "--help"], check=True, capture_output=True)
    return time.monotonic() - began


def _stored(site: place.Place) -> int:
    for spool in _spool(site):
        return spool.counts().stored
    return 0


def _newest(site: place.Place) -> list[Claims]:
    for spool in _spool(site):
        return list(spool.newest(4))
    return []


def _spool(site: place.Place) -> Iterator[SpoolReader]:
    """The spool, or nothing while it is not there yet."""
    try:
        spool = SpoolReader.read(site.spool)
    except SpoolProblem:
        return
    try:
        yield spool
    finally:
        spool.close()


def _wait(began: float, holds: Callable[[], bool]) -> float:
    while not holds():
        if time.monotonic() - began > _PATIENCE_S:
            raise RuntimeError(f"nothing was stored within {_PATIENCE_S:g} s")
        time.sleep(_LOOK_S)
    return time.monotonic() - began


@click.command("start", help=__doc__)
@click.option("--runs", default=10, show_default=True)
@click.option("--statements", default=100_000, show_default=True, help="In the store that is not empty.")
@small
def command(runs: int, statements: int, tiny: bool) -> None:
    if tiny:
        runs, statements = 1, 100
    show([table(runs, statements)])


if __name__ == "__main__":
    command()
