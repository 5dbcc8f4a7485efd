"""Settle a community for a month of quarter hours, and record who gave whom; by members and by days.

Goal: 100 members for a month of quarter hours in less than 60 s, and linear in members times periods.

Everything runs through the contracts, over a ledger in memory: registers are asked for, parsed and judged, results
packed and kept, a day a call. What a database or a network adds is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from bench.options import show, small
from bench.report import Table, verdict
from ledger.rules import batches, exchanges, registry, settlement
from ledger.rules.boundaries import Boundary
from ledger.rules.record import pack
from ledger.rules.shares import divide
from ledger.rules.sharing import ONE
from ledger.rules.world import Call, Caller, Contract, State, Version, key, ordered

GOAL_S = 60.0
QUARTER_MS, HOUR_MS, DAY_MS = 900_000, 3_600_000, 86_400_000
START_MS = 1_793_491_200_000
"""1 November 2026 00:00 UTC."""

_CONTRACTS = {
    each.name: each for each in (registry.CONTRACT, batches.CONTRACT, settlement.CONTRACT, exchanges.CONTRACT)
}
_SETTLER = Caller("CommunityMSP", "settler", {"aigeco.role": "settler registrar"})


@dataclass(slots=True)
class Memory:
    """One contract's state, or one collection, in dictionaries. Writes are seen at once: the calls here read none."""

    stores: dict[tuple[str, str], dict[str, bytes]]
    contract: str
    collection: str = ""

    @property
    def _store(self) -> dict[str, bytes]:
        return self.stores.setdefault((self.contract, self.collection), {})

    def get(self, key: str) -> bytes | None:
        return self._store.get(key)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._store.get(key) for key in keys]

    def put(self, key: str, value: bytes) -> None:
        self._store[key] = value

    def delete(self, key: str) -> None:
        self._store.pop(key, None)

    def purge(self, key: str) -> None:
        self.delete(key)

    def digest(self, key: str) -> bytes | None:
        raise NotImplementedError

    def scan(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        found = sorted(name for name in self._store if start <= name < end)
        return ((name, self._store[name]) for name in found)

    def private(self, collection: str) -> Memory:
        return Memory(self.stores, self.contract, collection)

    def history(self, key: str) -> Iterator[Version]:
        raise NotImplementedError

    def ask(self, contract: str, function: str, arguments: bytes) -> bytes:
        return _invoke(_CONTRACTS[contract], Memory(self.stores, contract), function, arguments)

    def tell(self, event: str, payload: bytes) -> None:
        pass

    def do(self, contract: str, function: str, secret: dict[str, bytes] | None = None, /, **given: object) -> bytes:
        return _invoke(_CONTRACTS[contract], Memory(self.stores, contract), function, pack(given), secret)


def _invoke(
    contract: Contract, state: State, function: str, arguments: bytes, secret: dict[str, bytes] | None = None
) -> bytes:
    return contract.invoke(state, Call(function, arguments, _SETTLER, START_MS, "00" * 32, secret or {}))


@dataclass(frozen=True, slots=True)
class Case:
    """A community.

    Attributes:
        kind: of its coefficients.
    """

    members: int
    days: int
    kind: str = "fixed"

    @property
    def periods(self) -> int:
        return self.members * self.days * 96


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of processor time."""

    registers_s: float
    settle_s: float
    exchange_s: float
    kept_bytes: int


def community(case: Case) -> Memory:
    """The group, and what its meters showed: a roof for all, homes of which some take more than their part."""
    state = Memory({}, registry.NAME)
    state.do("registry", "Found", organisations={"CommunityMSP": ["manager", "metering"]})
    state.do("sharing", "CreateGroup", group="g", zone="peninsula", period_ms=QUARTER_MS)
    names = [f"m{number:04}" for number in range(case.members)]
    for name in names:
        state.do("sharing", "SetMember", group="g", member=name, organisation="CommunityMSP")
    points = [("roof", {"kind": "generation"})]
    points += [(f"home-{name}", {"kind": "consumption", "member": name}) for name in names]
    for point, owner in points:
        state.do("sharing", "AddPoint", group="g", point=point, gateway="gw", sub=point, from_ms=START_MS, **owner)
    parts = dict(zip(names, divide(ONE, [1] * case.members), strict=True))
    secret = {"coefficients": pack({"members": parts, "salt": bytes(16).hex()})}
    state.do("sharing", "Agree", secret, group="g", from_ms=START_MS, kind=case.kind)
    for number, (point, _) in enumerate(points):
        _show(state, point, number, case)
    return state


def _show(state: Memory, point: str, number: int, case: Case) -> None:
    stored, register = Memory(state.stores, batches.NAME, batches.READINGS), 0
    hours: dict[int, list[object]] = {}
    for quarter in range(case.days * 96 + 1):
        at_ms = START_MS + quarter * QUARTER_MS
        there = (0, 0), (register * 10 + 7, -1)
        imported, exported = there if number == 0 else there[::-1]
        boundary = Boundary(at_ms, bytes(16), quarter * 15, 0, 0, imported, exported)
        hours.setdefault(at_ms // HOUR_MS, []).append(boundary.pack())
        sun = max(0, 6 - abs(13 - quarter % 96 // 4)) * 60 * case.members
        # Every third home takes more than its part even at noon: then the others have somebody to give to.
        register += sun if number == 0 else 30 + number * 37 % 90 + (400 if number % 3 == 0 else 0)
    for hour, items in hours.items():
        stored.put(key("hour", "gw", point, ordered(hour)), pack({"at": items, "change": [], "salt": bytes(16).hex()}))


def measure(case: Case) -> Spent:
    """Every day settled and recorded."""
    state = community(case)
    points = [["gw", "roof"], *(["gw", f"home-m{number:04}"] for number in range(case.members))]
    registers = settle = exchange = 0.0
    for day in range(case.days):
        first_ms = START_MS + day * DAY_MS
        began = time.process_time()
        state.do("measurements", "Boundaries", points=points, from_ms=first_ms, until_ms=first_ms + DAY_MS)
        asked = time.process_time()
        state.do("sharing", "Settle", group="g", first_ms=first_ms, count=96)
        settled = time.process_time()
        state.do("exchanges", "Record", group="g", first_ms=first_ms)
        registers += asked - began
        settle += settled - asked
        exchange += time.process_time() - settled
    kept = sum(
        len(value)
        for (contract, _), store in state.stores.items()
        if contract in ("sharing", "exchanges")
        for value in store.values()
    )
    return Spent(registers, settle, exchange, kept)


def table(cases: tuple[Case, ...]) -> Table:
    """One row a case."""
    rows = []
    for case in cases:
        spent = measure(case)
        judged = (case.members, case.days) == (100, 30)
        rows.append(
            (
                f"{case.members} members, {case.days} days, {case.kind}",
                f"{case.periods:,}",
                f"{spent.settle_s:.1f}",
                f"{spent.settle_s / case.periods * 1e6:.0f}",
                f"{spent.registers_s:.1f}",
                f"{spent.exchange_s:.1f}",
                f"{spent.kept_bytes / case.periods:.0f}",
                verdict(spent.settle_s, GOAL_S, unit=" s") if judged else "",
            )
        )
    head = (
        "community",
        "member periods",
        "settle s",
        "us each",
        "of it registers s",
        "exchanges s",
        "bytes each",
        "goal",
    )
    notes = ("Processor time of one endorser; registers: asking for them once, alone. Exchanges: who gave whom.",)
    return Table("Settlement of a month of quarter hours", head, tuple(rows), notes)


@click.command(help=__doc__)
@small
def command(tiny: bool) -> None:
    if tiny:
        show([table((Case(3, 1), Case(3, 1, "by consumption")))])
        return
    cases = (Case(25, 30), Case(50, 30), Case(100, 15), Case(100, 30), Case(100, 30, "by consumption"))
    show([table(cases)])


if __name__ == "__main__":
    command()
