"""A community's month settled on a real Fabric network: from signed statements of every meter to who gave whom.

Needs Fabric's commands; without them the table stays empty and says so.

Goal: 100 members for a month of quarter hours in less than 60 s, and linear in members times periods. What is measured
is what `aigeco-peer settle run` does: a day a call, each committed as valid by two endorsing organisations. Signing and
committing the statements goes before, and has a column of its own. On a busy machine the processor time says more.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import click

from bench import onfabric
from bench.machine import cpu_s
from bench.options import show, small
from bench.report import Table, verdict
from drivers.reading import Reading, exact
from hw_sim.authority import Authority
from ledger.calling import Contracts, salted
from ledger.community import Community
from ledger.fabric.calling import FabricContracts
from ledger.fabric.commands import CommandsMissing, find
from ledger.fabric.connection import open_gateway
from ledger.fabric.network import life
from ledger.fabric.network.layout import Layout
from ledger.fabric.profile import Profile
from ledger.rules import settlement
from ledger.rules.record import parse
from ledger.rules.shares import divide
from ledger.rules.sharing import ONE
from signer import batch as batches
from signer.chain import Chain
from signer.keys.file import FileKey
from signer.statement import Instant

GOAL_S = 60.0
QUARTER_MS, DAY_MS = 900_000, 86_400_000
HOME = "CommunityMSP"
# Statements of two registers, of which this many are well within a batch's 256 KiB.
_BATCH = 900
_STREAMS = 8
# A machine that does other things too.
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    """A community of so many members over so many days."""

    members: int
    days: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of the clock.

    Attributes:
        load_s: statements signed and committed.
        settle_s: every day settled.
        settle_work_s: the network's processors meanwhile.
        record_s, record_work_s: who gave whom.
    """

    load_s: float
    settle_s: float
    settle_work_s: float
    record_s: float
    record_work_s: float


class _Timed:
    """Calls of a ledger, with their seconds by function: of the clock, and of all the network's processors."""

    def __init__(self, contracts: Contracts, pids: Sequence[int]) -> None:
        self.organisation = contracts.organisation
        self.took_s: dict[str, list[float]] = {}
        self.worked_s: defaultdict[str, float] = defaultdict(float)
        self._pids = pids
        self._contracts = contracts
        self.ask = contracts.ask
        self.close = contracts.close

    def call(self, contract: str, function: str, arguments: object, secrets: object = None) -> bytes:
        started, before_s = time.monotonic(), sum(map(cpu_s, self._pids))
        answer = self._contracts.call(contract, function, arguments, secrets)  # type: ignore[arg-type]
        self.took_s.setdefault(function, []).append(time.monotonic() - started)
        self.worked_s[function] += sum(map(cpu_s, self._pids)) - before_s
        return answer


def table(cases: Sequence[Case], raft: bool) -> Table:
    """Every case on one network, in turn, in a group of its own."""
    title = f"Settlement on Fabric: {'one Raft orderer' if raft else 'four BFT orderers'}"
    head = (
        "community",
        "member periods",
        "loading s",
        "settle s",
        "processors s",
        "who gave whom s",
        "processors s",
        "goal",
    )
    try:
        commands = find()
    except CommandsMissing as problem:
        return Table(title, head, (), (f"left out: {problem}",))
    with onfabric.folder() as folder:
        profile = life.up(commands, folder, raft, "aigeco", lambda _: None, bare=False)
        rows = [_row(case, _measure(profile, case, f"g{number}")) for number, case in enumerate(cases)]
    note = (
        "A day a call, two organisations endorse, all on one machine; settle and who gave whom are committed as valid."
    )
    return Table(title, head, tuple(rows), (note,))


def _row(case: Case, spent: Spent) -> tuple[str, ...]:
    periods = case.members * case.days * 96
    judged = (case.members, case.days) == (100, 30)
    return (
        f"{case.members} members, {case.days} days",
        f"{periods:,}",
        f"{spent.load_s:.0f}",
        f"{spent.settle_s:.1f}",
        f"{spent.settle_work_s:.1f}",
        f"{spent.record_s:.1f}",
        f"{spent.record_work_s:.1f}",
        verdict(spent.settle_s, GOAL_S, unit=" s") if judged else "",
    )


def _measure(profile: Profile, case: Case, group: str) -> Spent:
    start_ms = (time.time_ns() // 1_000_000 // DAY_MS - case.days) * DAY_MS
    names = [f"{group}-m{number:04}" for number in range(case.members)]
    authority = Authority("bench", group, dt.datetime.fromtimestamp(start_ms / 1000, dt.UTC))
    with _opened(profile, "registrar") as registrar:
        given = {"certificate": authority.der.hex(), "state": "active"}
        registrar.call("registry", "SetAuthority", given)
        for gateway in (f"{group}-roof", *names):
            registrar.call("registry", "RegisterGateway", {"gateway": gateway, "owner": HOME})
    began = time.monotonic()
    _load(profile, case, start_ms, group, names, authority)
    load_s = time.monotonic() - began
    with _opened(profile, "settler") as opened:
        pids = [pid for each in life.services(Layout(profile.folder), profile) if (pid := each.pid()) is not None]
        timed = _Timed(opened, pids)
        _agree(timed, group, names, start_ms)
        community = Community(timed, group)
        for done in community.settle(start_ms, start_ms + case.days * DAY_MS):
            assert done.run is not None, done.declined
            still = list(community.doubts(start_ms, start_ms + case.days * DAY_MS))
            assert not still, still[:3]
        found = [total for name in ("Settle", "Record") for total in (sum(timed.took_s[name]), timed.worked_s[name])]
        return Spent(load_s, *found)


def _agree(contracts: Contracts, group: str, names: Sequence[str], start_ms: int) -> None:
    contracts.call(settlement.NAME, "CreateGroup", {"group": group, "zone": "peninsula", "period_ms": QUARTER_MS})
    for name in names:
        contracts.call(settlement.NAME, "SetMember", {"group": group, "member": name, "organisation": HOME})
        given = {"group": group, "point": name, "kind": "consumption", "member": name, "gateway": name, "sub": "main"}
        contracts.call(settlement.NAME, "AddPoint", {**given, "from_ms": start_ms})
    roof = {"group": group, "point": "roof", "kind": "generation", "gateway": f"{group}-roof", "sub": "main"}
    contracts.call(settlement.NAME, "AddPoint", {**roof, "from_ms": start_ms})
    parts = dict(zip(names, divide(ONE, [1] * len(names)), strict=True))
    secret = {"coefficients": salted({"members": parts})}
    contracts.call(settlement.NAME, "Agree", {"group": group, "from_ms": start_ms, "kind": "fixed"}, secret)


def _load(profile: Profile, case: Case, start_ms: int, group: str, names: Sequence[str], authority: Authority) -> None:
    """Every gateway's statements, some gateways side by side."""

    def commit(number_and_gateway: tuple[int, str]) -> None:
        number, gateway = number_and_gateway
        with _opened(profile, "ingestion") as contracts:
            for data in _batches(case, start_ms, gateway, number, authority):
                answer = contracts.call("measurements", "SubmitBatch", {"gateway": gateway}, {"batch": data})
                assert parse(answer)["outcome"] == "committed", answer

    with ThreadPoolExecutor(_STREAMS) as pool:
        list(pool.map(commit, enumerate((f"{group}-roof", *names))))


def _batches(case: Case, start_ms: int, gateway: str, number: int, authority: Authority) -> Iterator[bytes]:
    """A meter's month: the roof's sun for all, or a home; every third takes more than its part even at noon."""
    issued = authority.gateway(gateway)
    chain, register = Chain(gateway, FileKey(issued.key), None, 1), 0
    said = [chain.genesis(Instant(start_ms, 1000, 2, 12), (issued.der,), None)]
    for quarter in range(case.days * 96 + 1):
        at_ms = start_ms + quarter * QUARTER_MS
        shown = ((264, exact(0, 0)), (520, exact(register, 0))) if number == 0 else ((264, exact(register, 0)),)
        said.append(chain.reading(Reading("main", at_ms, None, shown, 40), Instant(at_ms + 40, 1000, 2, 12)))
        sun = max(0, 6 - abs(13 - quarter % 96 // 4)) * 60 * case.members
        register += sun if number == 0 else 30 + number * 37 % 90 + (400 if number % 3 == 0 else 0)
    assert chain.head is not None
    for first in range(0, len(said), _BATCH):
        part = [(each.sid, each.data) for each in said[first : first + _BATCH]]
        yield batches.build(chain.head.stream, first, said[first - 1].sid if first else bytes(32), part).data


def _opened(profile: Profile, who: str) -> closing[FabricContracts]:
    """Contracts as one identity of the community's organisation."""
    gateway = open_gateway(profile, HOME, who)
    return closing(FabricContracts(gateway, profile, HOME, profile.folder / "calls", _PATIENCE_S))


@click.command("community", help=__doc__)
@click.option("--members", multiple=True, type=int, default=(25, 50, 100), show_default=True)
@click.option("--days", default=30, show_default=True)
@click.option("--raft", is_flag=True, help="One Raft orderer; else four that agree with BFT.")
@small
def command(members: tuple[int, ...], days: int, raft: bool, tiny: bool) -> None:
    if tiny:
        show([table([Case(2, 1)], raft=True)])
    else:
        show([table([Case(each, days) for each in members], raft)])
