"""Backlogs of several gateways, from their spools through MQTT and the contract to receipts of two organisations.

Needs Fabric's commands; without them the table stays empty and says so.

Goal: at least 2,500 statements a second, with everything on the two cores of one machine. What runs is what is shipped:
`aigeco run` for each gateway, mosquitto, an ingestion peer of each of three organisations, their network.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import click

from bench import backlog, machine, onfabric, place
from bench.options import show, small
from bench.report import Table, verdict
from edge.spool_read import SpoolReader
from hw_sim.stage import command as run
from ledger.fabric import profile as profiles
from ledger.fabric.commands import CommandsMissing, find
from ledger.fabric.network import life
from ledger.fabric.network.layout import Layout
from signer.batch import MAX_STATEMENTS

LEAST_PER_S = 2500.0
_LOOK_S = 0.05
_PATIENCE_S = 600.0
_KINDS = ("gateways", "broker", "ingestion", "contracts", "peers", "orderers")


def drain(gateways: int, statements: int, raft: bool) -> tuple[str, ...]:
    """One run: the table's row."""
    names = [f"gw-{number}" for number in range(gateways)]
    with onfabric.network(raft) as layout, place.fresh(()) as site:
        onfabric.register(layout, site, names)
        meter = place.tcp_bus(9, "eastron_sdm120", [99], period_s=3600)
        configs = [site.add_gateway(name, meter, send_every_s=1, receipts=2) for name in names]
        stored = sum(backlog.fill(config, statements) for config in configs)
        running = onfabric.start(layout, site)
        for config in configs:
            name = config.parent.name
            running[name] = site.start(name, [*run("edge.cli.main"), "run", "--config", str(config)])
        spools = [SpoolReader.read(config.parent / "spool.db") for config in configs]
        try:
            first = _wait(site, spools, gateways)
            kinds = _kinds(layout, running)
            began, began_cpu = time.monotonic(), _cpu(kinds)
            last = _wait(site, spools, stored - gateways * MAX_STATEMENTS)
            seconds = time.monotonic() - began
            spent = {kind: after - began_cpu[kind] for kind, after in _cpu(kinds).items()}
        finally:
            for spool in spools:
                spool.close()
    moved = last - first
    rate = moved / seconds
    each = [f"{spent[kind] / moved * 1e6:.0f}" for kind in _KINDS]
    orderers = "1 Raft" if raft else "4 BFT"
    return f"{gateways}", orderers, f"{stored:,}", f"{rate:,.0f}", *each, verdict(rate, LEAST_PER_S, at_least=True)


def _kinds(layout: Layout, running: Mapping[str, place.Started]) -> dict[str, list[int]]:
    """Process ids by what they do."""
    profile = profiles.load(layout.profile)
    orderers, peers = {node.name for node in profile.orderers}, {node.name for node in profile.peers}
    found: dict[str, list[int]] = {kind: [] for kind in _KINDS}
    for service in life.services(layout, profile):
        kind = "orderers" if service.name in orderers else "peers" if service.name in peers else "contracts"
        pid = service.pid()
        if pid is not None:
            found[kind].append(pid)
    for name, started in running.items():
        kind = "broker" if name == "broker" else "ingestion" if name.endswith("MSP") else "gateways"
        found[kind].append(started.pid)
    return found


def _cpu(kinds: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {kind: sum(machine.cpu_s(pid) for pid in pids) for kind, pids in kinds.items()}


def _wait(site: place.Place, spools: Sequence[SpoolReader], committed: int) -> int:
    """Until so many statements of all are settled; how many are."""
    deadline = time.monotonic() + _PATIENCE_S
    while (now := sum(spool.counts().committed for spool in spools)) < committed:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{now:,} of {committed:,} statements are settled after {_PATIENCE_S:.0f} s")
        site.check()
        time.sleep(_LOOK_S)
    return now


def table(gateways: int, statements: int, orderers: Sequence[bool]) -> Table:
    """A run for each kind of orderers; ``statements``: of each gateway."""
    title = "Backlogs through MQTT into a Fabric network"
    head = ("gateways", "orderers", "statements", "a second", *(f"{kind} us" for kind in _KINDS), "goal")
    try:
        find()
    except CommandsMissing as problem:
        return Table(title, head, (), (f"left out: {problem}",))
    rows = tuple(drain(gateways, statements, raft) for raft in orderers)
    notes = (
        "A second: statements with the receipts of two organisations of three, from the first batches on. us: processor"
        " time for one statement, of all processes of a kind together.",
    )
    return Table(title, head, rows, notes)


@click.command("ingestion", help=__doc__)
@click.option("--gateways", default=8, show_default=True)
@click.option("--statements", default=10_000, show_default=True, help="Of each gateway.")
@small
def command(gateways: int, statements: int, tiny: bool) -> None:
    if tiny:
        show([table(1, 4000, (True,))])
        return
    show([table(gateways, statements, (True, False))])


if __name__ == "__main__":
    command()
