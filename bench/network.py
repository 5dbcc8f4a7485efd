"""A Fabric network for trying: from nothing to a channel, to a contract that answers, and what it takes.

Needs Fabric's commands; without them the table stays empty and says so.

Goal: from nothing to the first receipt within 30 s, of which the network is the larger part.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

import click

from bench import onfabric
from bench.options import show, small
from bench.report import Table, verdict
from ledger.contracts import CONTRACTS
from ledger.fabric.commands import Commands, CommandsMissing, find
from ledger.fabric.network import life

MOST_S = 30.0


@dataclass(slots=True)
class _Seen:
    """Seconds of each run, and kB at its end."""

    fresh: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    deployed: list[float] = field(default_factory=list)
    peers_kb: list[int] = field(default_factory=list)
    orderers_kb: list[int] = field(default_factory=list)
    servers_kb: list[int] = field(default_factory=list)


def table(runs: int, variants: tuple[bool, ...]) -> Table:
    """Both variants in turn, run by run."""
    seen = {variant: _Seen() for variant in variants}
    try:
        commands = find()
        for _ in range(runs):
            for variant in variants:
                _run(commands, variant, seen[variant])
        missing = ""
    except CommandsMissing as problem:
        seen, missing = {}, f"left out: {problem}"
    return Table(
        "A Fabric network for trying",
        ("what", "up s", "up again s", "contracts s", "peers MiB", "orderers MiB", "servers MiB", "up and contracts"),
        tuple(_row(variant, each) for variant, each in seen.items()),
        (
            missing
            or f"Medians of {runs} runs. up: from an empty folder to a channel that all four peers have joined;"
            " up again: after down.",
            f"contracts: {len(CONTRACTS)} of them served, installed, approved, committed; the registry founded.",
            "MiB: of all processes after that, shared pages counted once.",
        ),
    )


def _run(commands: Commands, variant: bool, seen: _Seen) -> None:
    with onfabric.folder() as folder:
        began = time.monotonic()
        life.up(commands, folder, variant, "aigeco", lambda _: None, bare=True)
        seen.fresh.append(time.monotonic() - began)
        life.down(folder, lambda _: None)
        began = time.monotonic()
        life.up(commands, folder, variant, "aigeco", lambda _: None, bare=True)
        seen.again.append(time.monotonic() - began)
        began = time.monotonic()
        life.up(commands, folder, variant, "aigeco", lambda _: None)
        seen.deployed.append(time.monotonic() - began)
        nodes = life.status(commands, folder)
        seen.peers_kb.append(sum(node.memory_kb or 0 for node in nodes if node.name.startswith("peer")))
        seen.orderers_kb.append(sum(node.memory_kb or 0 for node in nodes if node.name.startswith("orderer")))
        seen.servers_kb.append(sum(node.memory_kb or 0 for node in nodes if node.name.startswith("contracts")))


def _row(variant: bool, seen: _Seen) -> tuple[str, ...]:
    both = statistics.median(seen.fresh) + statistics.median(seen.deployed)
    return (
        "one Raft orderer (--small)" if variant else "four BFT orderers",
        *(f"{statistics.median(each):.1f}" for each in (seen.fresh, seen.again, seen.deployed)),
        *(f"{statistics.median(each) / 1024:.0f}" for each in (seen.peers_kb, seen.orderers_kb, seen.servers_kb)),
        verdict(both, MOST_S, unit=" s"),
    )


@click.command("network", help=__doc__)
@click.option("--runs", default=5, show_default=True, help="Runs of each variant.")
@small
def command(runs: int, tiny: bool) -> None:
    show([table(1, (True,)) if tiny else table(runs, (False, True))])
