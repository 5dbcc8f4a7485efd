"""A backlog of 100,000 statements from the spool through the broker into the ledgers: how fast, and what costs what.

Goal: at least 5,000 statements a second on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from bench import machine, place, sample
from bench.options import show, small
from bench.report import Table, verdict
from drivers.reading import Reading
from edge import config as configuration
from edge.host import boot_id
from edge.identity import load_identity
from edge.spool import Position, Process, Spool
from edge.spool_read import SpoolReader
from edge.writer import VERSION
from signer.batch import MAX_STATEMENTS
from signer.chain import Chain, Descriptor
from signer.codes import BootReason, Role
from signer.statement import Instant

LEAST_PER_S = 5000.0
METERS = 32
PERIOD_MS = 1000
_LOOK_S = 0.05
_PATIENCE_S = 600.0


def fill(path: Path, statements: int) -> int:
    """Store a backlog as the agent would have while its broker was away; returns how many statements that is.

    Args:
        path: the gateway's configuration.
    """
    config = configuration.load(path)
    identity, problems, _ = load_identity(config)
    if identity is None:
        raise RuntimeError(str(problems))
    slots = -(-statements // METERS)
    start_ms = (time.time_ns() // 1_000_000_000 - slots - 60) * 1000
    spool = Spool.open(config.spool, config.gateway, start_ms)
    try:
        chain = Chain(config.gateway, identity.key, None, 1)
        now = Instant(start_ms, 1_000_000, 2, 12)
        made = [chain.genesis(now, identity.certificates), chain.boot_statement(now, BootReason.UNKNOWN, 0)]
        meter_map = sample.sdm630_main()
        names = [f"meter-{number:02}" for number in range(METERS)]
        said = Descriptor(PERIOD_MS, meter_map.digest, meter_map.name, Role.GRID, "12345678")
        made += [chain.descriptor(name, now, said) for name in names]
        spool.append(made, {}, Process(1, boot_id(), VERSION, 0))
        template = sample.reading(meter_map)
        for slot in range(slots):
            slot_ms = start_ms + slot * PERIOD_MS
            instant = Instant(slot_ms + 38, 1_000_000 + slot * PERIOD_MS, 2, 12)
            readings = [Reading(name, slot_ms, None, template.values, 38, template.blocks) for name in names]
            positions = {name: Position(slot_ms + PERIOD_MS, PERIOD_MS) for name in names}
            spool.append([chain.reading(reading, instant) for reading in readings], positions)
        return spool.counts().stored
    finally:
        spool.close("clean")


def drain(statements: int, organisations: int) -> tuple[str, ...]:
    """One run: the table's row."""
    with place.fresh(place.ORGANISATIONS[:organisations]) as site:
        # Its one meter is not there and due in an hour: nothing but the backlog moves.
        site.write_config(place.tcp_bus(9, "eastron_sdm120", [99], period_s=3600), period_s=3600, send_every_s=1)
        stored = fill(site.config, statements)
        broker = site.start_broker()
        peers = [site.start_peer(name) for name in site.organisations]
        gateway = site.start_gateway()
        launched = time.monotonic()
        first = _wait(site, 1)
        began, began_cpu = time.monotonic(), _cpu([broker, gateway, *peers])
        last = _wait(site, stored - MAX_STATEMENTS)
        seconds = time.monotonic() - began
        spent = [after - before for before, after in zip(began_cpu, _cpu([broker, gateway, *peers]), strict=True)]
        _wait(site, stored)
        whole_s = time.monotonic() - launched
    moved = last - first
    each = [f"{one / moved * 1e6:.0f}" for one in (spent[1], spent[0], *spent[2:])]
    rate = moved / seconds
    shares = "/".join(f"{one / seconds:.0%}" for one in (spent[1], spent[0], *spent[2:]))
    peers_us = " + ".join(each[2:])
    return (
        str(organisations),
        f"{stored:,}",
        f"{whole_s:.1f}",
        f"{rate:,.0f}",
        each[0],
        each[1],
        peers_us,
        shares,
        verdict(rate, LEAST_PER_S, at_least=True) if organisations == 1 else "",
    )


def table(statements: int, organisations: Sequence[int]) -> Table:
    """A run for each number of organisations."""
    return Table(
        "A backlog through the broker into embedded ledgers",
        (
            "organisations",
            "statements",
            "s, with start",
            "a second",
            "gateway us",
            "broker us",
            "peer us",
            "cpu shares",
            "goal",
        ),
        tuple(drain(statements, number) for number in organisations),
        (
            "A second: from the first settled batch to the last full one; what does not fill a batch is collected for a"
            " while. us: processor time of a process for one statement. Cpu shares: gateway/broker/peers, of one core.",
            "TLS 1.3, QoS 1, one batch in flight; each organisation verifies every signature and has its own ledger.",
        ),
    )


def _wait(site: place.Place, committed: int) -> int:
    """Until so many statements are settled; how many are."""
    deadline = time.monotonic() + _PATIENCE_S
    spool = SpoolReader.read(site.spool)
    try:
        while (now := spool.counts().committed) < committed:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{now:,} of {committed:,} statements are settled after {_PATIENCE_S:.0f} s")
            site.check()
            time.sleep(_LOOK_S)
        return now
    finally:
        spool.close()


def _cpu(started: Sequence[place.Started]) -> list[float]:
    return [machine.cpu_s(one.pid) for one in started]


@click.command("backlog", help=__doc__)
@click.option("--statements", default=100_000, show_default=True)
@click.option("--organisations", multiple=True, type=click.IntRange(1, 2), default=(1, 2), show_default=True)
@small
def command(statements: int, organisations: tuple[int, ...], tiny: bool) -> None:
    if tiny:
        statements, organisations = 3000, (1,)
    show([table(statements, organisations)])


if __name__ == "__main__":
    command()
