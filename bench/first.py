"""From nothing to the first receipt on a real Fabric network: `aigeco-peer network up`, broker, peers, a gateway.

Needs Fabric's commands; without them the table stays empty and says so.

Goal: in less than 30 s. What runs is what a person types: every step is a command of the product. The last step ends
when the gateway has verified the receipts of all three metering organisations for its first statements.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from bench import onfabric, place
from bench.options import show, small
from bench.report import Table, verdict
from edge.database import SpoolBusy
from edge.spool_read import SpoolReader
from ledger.fabric.commands import CommandsMissing, find

GOAL_S = 30.0
_PATIENCE_S = 120.0


def table(raft: bool, judged: bool) -> Table:
    """One run, step by step."""
    title = f"From nothing to the first receipt: {'one Raft orderer' if raft else 'four BFT orderers'}"
    head = ("step", "s", "since the start s", "goal")
    try:
        find()
    except CommandsMissing as problem:
        return Table(title, head, (), (f"left out: {problem}",))
    rows, began = [], time.monotonic()
    last = began
    for step in _steps(raft):
        now = time.monotonic()
        rows.append((step, f"{now - last:.1f}", f"{now - began:.1f}", ""))
        last = now
    goal = verdict(last - began, GOAL_S, unit=" s") if judged else ""
    rows[-1] = (*rows[-1][:3], goal)
    return Table(title, head, tuple(rows), ("k = 3: a receipt of each metering organisation.",))


def _steps(raft: bool) -> Iterator[str]:
    """Does a step, then says which."""
    with onfabric.network(raft) as layout, place.fresh(()) as site:
        yield "network up: identities, nodes, channel, contracts, registry"
        onfabric.register(layout, site, [place.GATEWAY])
        yield "gateways trust, gateways add"
        onfabric.start(layout, site)
        # A meter that is not there: the stream's first statements are enough.
        site.write_config(place.tcp_bus(9, "eastron_sdm120", [1], period_s=3600), period_s=3600, send_every_s=1)
        site.start_gateway()
        _wait(site)
        yield "broker, three ingestion peers and a gateway started, its first batch committed and receipted"


def _wait(site: place.Place) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        site.check()
        with suppress(SpoolBusy):  # it is just being made
            if site.spool.exists() and _committed(site.spool):
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"no receipt after {_PATIENCE_S:.0f} s")
        time.sleep(0.05)


def _committed(path: Path) -> int:
    spool = SpoolReader.read(path)
    try:
        return spool.counts().committed
    finally:
        spool.close()


@click.command("first", help=__doc__)
@small
def command(tiny: bool) -> None:
    show([table(True, False)] if tiny else (table(raft, True) for raft in (False, True)))
