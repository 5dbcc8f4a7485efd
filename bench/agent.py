"""The real agent with 32 meters of 12 quantities over TCP, a slot a second, beside a bare pipeline of the same steps.

Goals: at most 1.5 times the processor time of the bare pipeline with the same reader; at most 45 MB resident.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from bench import bare, machine, meters, place
from bench.options import show, small
from bench.report import Table, verdict
from drivers.map import load
from edge.spool_read import SpoolReader

TIMES_BARE = 1.5
MOST_MB = 45.0
MODEL = "carlo_gavazzi_em511"
"""Exactly twelve quantities, in one request."""

_JUDGED = "bus"
_IDLE = 0.6
"""Of a second: 32 meters have long been read."""

_WORDS = {
    "bus": "bare pipeline, drivers.bus",
    "wire": "bare pipeline, drivers.modbus and a few lines",
    "pymodbus": "bare pipeline, pymodbus' client and a few lines",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What runs, and for how long.

    Attributes:
        meters: how many.
        lines: TCP connections that they share.
        warm_up_s, seconds: before, and while it is measured.
    """

    meters: int
    lines: int
    warm_up_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A process at one moment.

    Attributes:
        at_s: the moment, monotonic.
        cpu_s: processor seconds so far.
        made, delivered: measurements that it has stored, and that it knows to be at the other end.
    """

    at_s: float
    cpu_s: float
    made: int
    delivered: int


class Watched:
    """A process that is measured."""

    def __init__(self, name: str, pid: int, progress: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> None:
        self.name = name
        self.pid = pid
        self._progress = progress
        self.first = self.last = Seen(0.0, 0.0, 0, 0)
        self.peak_mb = 0.0

    def look(self) -> Seen:
        """The process now."""
        cpu_s = machine.cpu_s(self.pid)
        return Seen(time.monotonic(), cpu_s, *self._progress())

    @property
    def share(self) -> float:
        """Of one processor, while it was measured."""
        return (self.last.cpu_s - self.first.cpu_s) / (self.last.at_s - self.first.at_s)

    @property
    def made(self) -> int:
        """Measurements in that time."""
        return self.last.made - self.first.made

    @property
    def delivered(self) -> int:
        """Deliveries in that time."""
        return self.last.delivered - self.first.delivered

    @property
    def each_us(self) -> float:
        """Processor time of one measurement."""
        return (self.last.cpu_s - self.first.cpu_s) / max(1, self.made) * 1e6


def measure(model: str, sizes: Sizes, readers: Sequence[str]) -> tuple[list[Watched], list[Watched]]:
    """The pipelines, the agent first, and the processes around them: all at the same time, each in its own process."""
    groups = len(readers) + 1
    with meters.running(model, sizes.meters, sizes.lines * groups) as served, place.fresh() as site:
        ports = [served.ports[number::groups] for number in range(groups)]
        around = [Watched("simulated meters", served.pid), Watched("mosquitto", site.start_broker().pid)]
        around.append(Watched("ingestion peer", site.start_peer(site.organisations[0]).pid))
        site.write_config(_buses(ports[0], model, sizes), period_s=1)
        pipelines = [Watched("aigeco run", site.start_gateway().pid, lambda: _progress(site))]
        for kind, own in zip(readers, ports[1:], strict=True):
            store = site.folder / f"bare-{kind}.db"
            started = site.start(f"bare-{kind}", _bare(kind, model, own, sizes, site, store))
            pipelines.append(Watched(_WORDS[kind], started.pid, partial(bare.progress, store)))
        _until_idle(sizes.warm_up_s)
        site.check()
        for one in (*pipelines, *around):
            one.first = one.look()
        _until_idle(sizes.seconds)
        for one in (*pipelines, *around):
            one.last, one.peak_mb = one.look(), machine.peak_mb(one.pid)
        site.check()
    return pipelines, around


def table(model: str, sizes: Sizes, readers: Sequence[str]) -> Table:
    """One run."""
    pipelines, around = measure(model, sizes, readers)
    agent = pipelines[0]
    seconds = agent.last.at_s - agent.first.at_s
    rows = []
    for one in pipelines:
        goal = ""
        if one.name == _WORDS[_JUDGED]:
            goal = verdict(agent.each_us / one.each_us, TIMES_BARE)
        times = f"{agent.each_us / one.each_us:.2f}" if one is not agent else ""
        goal = verdict(agent.peak_mb, MOST_MB, unit=" MB") if one is agent else goal
        counted = (f"{one.made:,}", f"{one.delivered:,}", f"{one.each_us:.0f}", times)
        rows.append((one.name, f"{one.share:.2%}", *counted, f"{one.peak_mb:.1f}", goal))
    rows += [(one.name, f"{one.share:.2%}", "", "", "", "", f"{one.peak_mb:.1f}", "") for one in around]
    return Table(
        f"{sizes.meters} meters of {len(load(model).registers)} quantities ({model}) over TCP,"
        f" {sizes.lines} line{'s' * (sizes.lines > 1)}, a slot a second",
        ("process", "cpu", "measured", "delivered", "cpu us each", "agent is times", "peak MB", "goal"),
        tuple(rows),
        (
            f"{seconds:.0f} s after {sizes.warm_up_s:.0f} s of warm-up, all at the same time; due were"
            f" {sizes.meters * seconds:,.0f} measurements each.",
            "Delivered: by the agent, with verified receipts; by the bare pipelines, acknowledged by the broker.",
            "Processor time of all threads, user and system.",
        ),
    )


def _until_idle(seconds: float) -> None:
    """Wait, and on to the second half of a second, when nothing is being read."""
    time.sleep(seconds)
    time.sleep((_IDLE - time.time()) % 1.0)


def _progress(site: place.Place) -> tuple[int, int]:
    spool = SpoolReader.read(site.spool)
    try:
        counts = spool.counts()
    finally:
        spool.close()
    return counts.stored, counts.committed


def _buses(ports: Sequence[int], model: str, sizes: Sizes) -> str:
    """The meters, spread over the lines."""
    shares = [range(sizes.meters)[number :: len(ports)] for number in range(len(ports))]
    return "".join(place.tcp_bus(port, model, list(share)) for port, share in zip(ports, shares, strict=True))


def _bare(kind: str, model: str, ports: Sequence[int], sizes: Sizes, site: place.Place, store: Path) -> list[str]:
    certificate = site.folder / f"{place.BARE}.crt"
    words = [sys.executable, "-m", "bench.bare", kind, model, str(sizes.meters), *(str(port) for port in ports)]
    words += ["--broker", str(site.port), "--ca", str(site.folder / "ca.pem"), "--certificate", str(certificate)]
    return [*words, "--topic", place.BARE_TOPIC, "--store", str(store)]


@click.command("agent", help=__doc__)
@click.option("--model", default=MODEL, show_default=True, help="A map of the catalogue.")
@click.option("--meters", "count", default=32, show_default=True)
@click.option("--lines", multiple=True, type=int, default=(32, 1), show_default=True, help="TCP connections; repeat.")
@click.option("--seconds", default=60.0, show_default=True, help="How long it is measured.")
@click.option("--warm-up", default=25.0, show_default=True, help="Seconds before that.")
@click.option("--bare", "readers", multiple=True, type=click.Choice(bare.READERS), default=bare.READERS)
@small
def command(
    model: str, count: int, lines: tuple[int, ...], seconds: float, warm_up: float, readers: tuple[str, ...], tiny: bool
) -> None:
    if tiny:
        count, lines, seconds, warm_up, readers = 2, (2,), 2.0, 4.0, ("bus",)
    show(table(model, Sizes(count, min(number, count), warm_up, seconds), readers) for number in lines)


if __name__ == "__main__":
    command()
