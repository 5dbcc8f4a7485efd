"""Erasure on request, over calls of the contracts: the statements of measuring points, and what was made of them.

Decides nothing: each contract does, purges, and keeps who asked and why. What stays is said in docs/operations.md.

Rules
- A run of statements goes whole, or whole of one measuring point, where any statement of it lies in the time.
- Statements first, then results, then transfers: broken off in between, nothing is settled anew from what is left, and
  the same erasure again does what is not done.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ledger.calling import Contracts, registered
from ledger.rules import batches, exchanges, groups, registry, settlement
from ledger.rules.record import Record, parse, unpack
from signer import statement

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Point:
    """A measuring point in a time; ``sub`` None = all that a gateway said."""

    gateway: str
    sub: str | None
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Erased:
    """What was taken away.

    Attributes:
        runs: of statements, or one measuring point's part in them.
        stretches: settled ones, of which the member's results went.
        exchanged: stretches of which its transfers went.
    """

    runs: int
    stretches: int
    exchanged: int


def of_meter(contracts: Contracts, meter: str, from_ms: int, until_ms: int) -> list[Point]:
    """Where a meter hung in a time.

    Raises:
        Declined: there is no such meter.
    """
    contracts.ask(registry.NAME, "Meter", {"meter": meter})
    found = parse(contracts.ask(registry.NAME, "Assignments", {"meter": meter}))
    return list(_within(found, from_ms, until_ms))


def of_member(contracts: Contracts, member: str, group: str | None, from_ms: int, until_ms: int) -> list[Point]:
    """The measuring points of a member: of the meters that are its own, and of its consumption in a group.

    Raises:
        Declined: there is no such group.
    """
    found = [point for meter in owned(contracts, member) for point in of_meter(contracts, meter, from_ms, until_ms)]
    if group is not None:
        points = parse(contracts.ask(settlement.NAME, "Points", {"group": group}))
        own = [point for point in points if point["kind"] == groups.CONSUMPTION and point["member"] == member]
        found += _within(own, from_ms, until_ms)
    return list(dict.fromkeys(found))


def owned(contracts: Contracts, member: str) -> list[str]:
    """The meters that are a member's."""
    return [meter["meter"] for meter in registered(contracts, "meter") if meter["owner"] == member]


def _within(places: Sequence[Record], from_ms: int, until_ms: int) -> Iterator[Point]:
    for place in places:
        end_ms = until_ms if place["until_ms"] is None else min(until_ms, place["until_ms"])
        start_ms = max(from_ms, place["from_ms"])
        if start_ms < end_ms:
            yield Point(place["gateway"], place["sub"], start_ms, end_ms)


def runs(contracts: Contracts, point: Point) -> list[tuple[str, int]]:
    """Stream and first seq of the runs with a statement about a point in its time.

    Raises:
        Declined: the caller may not read statements.
    """
    seqs: dict[str, set[int]] = {}
    given: Record = {"gateway": point.gateway, "from_ms": point.from_ms, "until_ms": point.until_ms}
    while True:
        page = unpack(contracts.ask(batches.NAME, "StatementsAt", given))
        for stream, seq, said in page["statements"]:
            if point.sub is None or statement.parse(bytes.fromhex(said)).sub == point.sub:
                seqs.setdefault(stream, set()).add(seq)
        if page["after"] is None:
            break
        given["after"] = page["after"]
    found = []
    for stream, places in seqs.items():
        firsts = [run["first"] for run in runs_of(contracts, stream)]
        found += [(stream, first) for first in sorted({firsts[bisect_right(firsts, seq) - 1] for seq in places})]
    return found


def runs_of(contracts: Contracts, stream: str) -> Iterator[Record]:
    """Public records of a stream's runs, by seq."""
    from_seq = 0
    while True:
        page = parse(contracts.ask(batches.NAME, "Batches", {"stream": stream, "from_seq": from_seq, "limit": _PAGE}))
        yield from page
        if len(page) < _PAGE:
            return
        from_seq = page[-1]["first"] + 1


def erase(
    contracts: Contracts, points: Sequence[Point], member: str, group: str | None, from_ms: int, until_ms: int, why: str
) -> Erased:
    """Erase the statements of these points; and with a group a member's results and transfers of a time.

    Raises:
        Declined: a contract declines; what went before it has gone.
    """
    gone = 0
    for point in points:
        for stream, first in runs(contracts, point):
            given = {"stream": stream, "first": first, "why": why} | ({} if point.sub is None else {"sub": point.sub})
            contracts.call(batches.NAME, "Purge", given)
            gone += 1
    stretches = [0, 0]
    for number, contract in enumerate((settlement.NAME, exchanges.NAME) if group is not None else ()):
        whom = {"group": group, "member": member, "from_ms": from_ms, "until_ms": until_ms, "why": why}
        stretches[number] = unpack(contracts.call(contract, "Erase", whom))["stretches"]
    return Erased(gone, *stretches)
