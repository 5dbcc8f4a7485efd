"""The contracts' path on a real Fabric network: from the Gateway client to VALID, verified statements a second.

Needs Fabric's commands; without them the table stays empty and says so.

Goals with two endorsing organisations on two cores: 5,500 a second with every signature checked by each endorser, 9,000
with the head's only.
"""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench import onfabric, sample
from bench.options import show, small
from bench.report import Table, verdict
from hw_sim.authority import Authority
from ledger.contracts import CONTRACTS
from ledger.fabric import lifecycle, serving
from ledger.fabric import profile as profiles
from ledger.fabric.commands import Commands, CommandsMissing, find
from ledger.fabric.connection import open_gateway
from ledger.fabric.network import contracts as network_contracts
from ledger.fabric.network import life
from ledger.fabric.once import commit_once
from ledger.fabric.profile import Profile
from ledger.rules import batches as contract
from ledger.rules import registry
from ledger.rules.record import pack, parse
from signer import batch as batches
from signer.batch import Batch
from signer.chain import Chain
from signer.keys.file import FileKey
from signer.statement import Instant

LEAST_EVERY, LEAST_HEAD = 5500.0, 9000.0
LARGEST = 550
"""Readings of 12 quantities with their register words, 0.44 kB each, that a batch's 256 KiB hold."""

_SERVED = (registry.NAME, contract.NAME)


@dataclass(frozen=True, slots=True)
class Run:
    """One row.

    Attributes:
        every: each endorser checks every signature.
        endorsers: organisations that endorse.
        size: statements of a batch.
        streams: gateways, each with one batch in flight.
    """

    every: bool
    endorsers: int
    size: int
    streams: int = 8


@dataclass(frozen=True, slots=True)
class Done:
    """What a run took: verified statements a second, and each transaction's seconds."""

    per_s: float
    took_s: tuple[float, ...]


class Line:
    """A gateway that signs what it is asked for."""

    def __init__(self, gateway: str, authority: Authority) -> None:
        self.gateway = gateway
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = authority.gateway(gateway, key).certificate.public_bytes(Encoding.DER)
        self._chain = Chain(gateway, FileKey(key), None, 1)
        self._start_ms = time.time_ns() // 1_000_000_000 * 1000  # the certificate is valid from now on
        self._reading = sample.reading(sample.sdm630_main())
        self._next = [self._chain.genesis(Instant(self._start_ms, 1000, 2, 12), (certificate,))]
        self._prev = bytes(32)
        self._slot = 0

    def batch(self, size: int) -> Batch:
        """The next ``size`` statements."""
        while len(self._next) < size:
            slot_ms = self._start_ms + self._slot * 1000
            self._slot += 1
            self._next.append(
                self._chain.reading(replace(self._reading, slot_ms=slot_ms), Instant(slot_ms + 40, 2000, 2, 12))
            )
        said, self._next = self._next, []
        assert self._chain.head is not None
        made = batches.build(self._chain.head.stream, said[0].seq, self._prev, [(each.sid, each.data) for each in said])
        self._prev = said[-1].sid
        return made


def table(runs: Sequence[Run], each: int, raft: bool) -> Table:
    """Every run on one network, in turn."""
    title = f"Contract path on Fabric: {'one Raft orderer' if raft else 'four BFT orderers'}"
    head = ("signatures checked", "endorsers", "streams x statements", "statements/s", "p50 s", "p95 s", "goal")
    try:
        commands = find()
    except CommandsMissing as problem:
        return Table(title, head, (), (f"left out: {problem}",))
    with onfabric.folder() as folder:
        profile = life.up(commands, folder, raft, "aigeco", lambda _: None, bare=True)
        rows = [_row(run, done) for run, done in _measure(commands, profile, runs, each)]
    note = f"{each} transactions a stream; from proposal to VALID at the client's peer, all on one machine."
    return Table(title, head, tuple(rows), (note,))


def _measure(commands: Commands, profile: Profile, runs: Sequence[Run], each: int) -> Iterator[tuple[Run, Done]]:
    authority = Authority("bench")
    deployed = False
    for number, run in enumerate(runs):
        lines = [Line(f"gw-{number}-{stream}", authority) for stream in range(run.streams)]
        with _served(profile, run.every):
            if not deployed:
                _deploy(commands, profile, authority)
                deployed = True
            for line in lines:
                _commit(
                    profile, "registrar", registry.NAME, "RegisterGateway", gateway=line.gateway, owner=_home(profile)
                )
            yield run, _load(profile, run, lines, each)


def _load(profile: Profile, run: Run, lines: Sequence[Line], each: int) -> Done:
    """Every stream's batches one after the other, all streams side by side."""
    prepared = [[line.batch(run.size) for _ in range(each + 1)] for line in lines]
    named = tuple(organisation.id for organisation in profile.with_role(registry.METERING))[: run.endorsers]
    took_s: list[float] = []
    begin = threading.Barrier(len(lines) + 1)

    def work(line: Line, made: Sequence[Batch]) -> None:
        with open_gateway(profile, _home(profile), "ingestion") as gateway:
            called = gateway.network(profile.channel).contract(contract.NAME)
            arguments = pack({"gateway": line.gateway})
            for number, batch in enumerate(made):
                if number == 1:  # the genesis is there, connections are warm
                    begin.wait()
                started = time.monotonic()
                secret = {"batch": batch.data}
                done = commit_once(
                    lambda secret=secret: called.new_proposal(  # type: ignore[misc]
                        "SubmitBatch", arguments, transient=secret, organisations=named
                    ),
                    lambda _: None,
                )
                assert parse(done.result)["outcome"] == "committed", done.result
                if number:
                    took_s.append(time.monotonic() - started)

    with ThreadPoolExecutor(len(lines)) as pool:
        working = [pool.submit(work, line, made) for line, made in zip(lines, prepared, strict=True)]
        for future in working:
            future.add_done_callback(lambda future: begin.abort() if future.exception() else None)
        with suppress(threading.BrokenBarrierError):  # a worker's error says why, below
            begin.wait(120)
        started = time.monotonic()
        for future in working:
            future.result()
        elapsed_s = time.monotonic() - started
    return Done(len(lines) * each * run.size / elapsed_s, tuple(sorted(took_s)))


def _row(run: Run, done: Done) -> tuple[str, ...]:
    goal = ""
    if run.endorsers == 2 and run.size == LARGEST:
        goal = verdict(done.per_s, LEAST_EVERY if run.every else LEAST_HEAD, at_least=True, unit="/s")
    p50, p95 = statistics.median(done.took_s), done.took_s[int(0.95 * (len(done.took_s) - 1))]
    signatures = "every" if run.every else "the head's"
    sizes = f"{run.streams} x {run.size}"
    return signatures, str(run.endorsers), sizes, f"{done.per_s:,.0f}", f"{p50:.2f}", f"{p95:.2f}", goal


# ---- the network


def _home(profile: Profile) -> str:
    return profile.with_role(registry.MANAGER)[0].id


def _deploy(commands: Commands, profile: Profile, authority: Authority) -> None:
    deployments = serving.deployments(profile, profile.folder / "packages")
    lifecycle.deploy(commands, profile, [one for one in deployments if one.definition.name in _SERVED])
    network_contracts.found(profile)
    root = authority.certificate.public_bytes(Encoding.DER).hex()
    _commit(profile, "registrar", registry.NAME, "SetAuthority", certificate=root)


def _commit(profile: Profile, who: str, name: str, function: str, **given: object) -> None:
    with open_gateway(profile, _home(profile), who) as gateway:
        called = gateway.network(profile.channel).contract(name)
        commit_once(lambda: called.new_proposal(function, pack(given)), lambda _: None)


@contextmanager
def _served(profile: Profile, every: bool) -> Iterator[None]:
    """A process for each organisation that serves registry and measurements."""
    context = multiprocessing.get_context("spawn")
    running = [
        context.Process(target=_serve, args=(profile.path, organisation.id, every))
        for organisation in profile.organisations
    ]
    for process in running:
        process.start()
    try:
        for organisation in profile.organisations:
            for name in _SERVED:
                if name in organisation.contracts:
                    life.wait_for_address(organisation.contracts[name])
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()


def _serve(path: Path, organisation: str, every: bool) -> None:
    CONTRACTS[contract.NAME] = contract.contract(every)
    profile = profiles.load(path)
    known = profile.organisation(organisation)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    serving.serve(profile, known, [name for name in _SERVED if name in known.contracts], stop, lambda _: None)


@click.command("contracts", help=__doc__)
@click.option("--transactions", default=5, show_default=True, help="Of each stream.")
@small
def command(transactions: int, tiny: bool) -> None:
    if tiny:
        show([table([Run(True, 2, 10, 2)], 1, raft=True)])
        return
    runs = [
        Run(True, 2, 100),
        Run(True, 2, 300),
        Run(True, 2, LARGEST),
        Run(False, 2, LARGEST),
        Run(True, 3, LARGEST),
        Run(False, 3, LARGEST),
    ]
    show(table(runs, transactions, raft) for raft in (True, False))
