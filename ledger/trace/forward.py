"""From a statement forward: the boundary it made, and every settlement, result, transfer and guarantee that used it.

Rules
- Contracts find a measuring point's points and devices; of each the stretches that meet the slot are looked at, every
  version of them, and whether the statement is in their registers. Nothing else is searched.
- A statement that was purged has no slot any more: then the stretches of its gateway's points are looked at that begin
  in the :data:`BEFORE_MS` before its batch was committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ledger.rules import boundaries, exchanges, groups, origin, registry, settlement
from ledger.rules.record import Record
from ledger.rules.world import Declined, Reason
from ledger.trace.evidence import Evidence
from ledger.trace.statements import Statements
from ledger.trace.tree import Mark, Step
from ledger.trace.words import at, register, wh
from signer.statement import Claims

BEFORE_MS = 35 * 86_400_000


class Forward:
    """What was made of statements."""

    def __init__(self, evidence: Evidence, statements: Statements) -> None:
        self._evidence = evidence
        self._statements = statements

    def trace(self, stream: str, seq: int) -> Step:
        """A statement, verified, and everything that used it.

        Raises:
            Declined: there is no such place in a stream.
        """
        found = self._statements.get(stream, seq)
        batch = self._statements.batch(stream, seq)
        step = Step("forward", f"{stream[:8]} seq {seq}", facts={"stream": stream, "seq": seq}, parts=[found.step])
        if found.claims is None:
            step.parts += self._of_a_lost_one(batch, stream, seq)
        else:
            step.parts += self._of(found.claims)
        if not any(part.facts.get("used") for part in step.parts):
            step.parts.append(Step("used", "by nothing that this caller is shown", Mark.NOTED))
        for purge in self._statements.purges(stream, batch["first"]):
            what = purge.get("sub", f"seq {purge['first']} to {purge['first'] + purge['count'] - 1}")
            said = f"{what}, by {purge['name']} of {purge['organisation']}, {at(purge['time_ms'])}"
            step.parts.append(Step("purged", said, Mark.NOTED, facts={"purge": purge}))
        return step

    def _of(self, claims: Claims) -> Iterator[Step]:
        made = boundaries.boundary(claims) or boundaries.change(claims)
        if made is None:
            yield Step("boundary", "none: settlement takes readings at quarter hours, and exchanges", Mark.NOTED)
            return
        if isinstance(made, boundaries.Boundary):
            said = f"import {register(made.imported)}, export {register(made.exported)}"
            yield Step(
                "boundary", f"{claims.gateway}/{claims.sub} {at(made.at_ms)}: {said}", facts={"at_ms": made.at_ms}
            )
        else:
            yield Step("exchange", f"of the meter at {claims.gateway}/{claims.sub}, {at(made.at_ms)}")
        place = (claims.stream_id.hex(), claims.seq)
        for point in self._evidence.ask(settlement.NAME, "Taken", gateway=claims.gateway, sub=claims.sub):
            yield from self._settlements(point, place, made.at_ms, made.at_ms)
        yield from self._guarantees(claims.gateway, claims.sub, place, made.at_ms)

    def _of_a_lost_one(self, batch: Record, stream: str, seq: int) -> Iterator[Step]:
        until_ms = batch["time_ms"]
        from_ms = max(until_ms - BEFORE_MS, 0)
        for point in self._evidence.ask(settlement.NAME, "Taken", gateway=batch["gateway"]):
            yield from self._settlements(point, (stream, seq), from_ms, until_ms)
            yield from self._guarantees(point["gateway"], point["sub"], (stream, seq), None)

    # ---- settlements

    def _settlements(self, point: Record, place: tuple[str, int], from_ms: int, until_ms: int) -> Iterator[Step]:
        """Every version of every stretch of a point's group that has the statement among its registers."""
        period_ms = self._evidence.ask(settlement.NAME, "Group", group=point["group"])["period_ms"]
        # A boundary ends one period and begins the next.
        asked = {"from_ms": max(from_ms - period_ms, 0), "until_ms": min(until_ms + period_ms, registry.LATEST_MS)}
        for run in self._evidence.ask(settlement.NAME, "Runs", group=point["group"], **asked):
            for each in self._evidence.ask(settlement.NAME, "Versions", group=run["group"], first_ms=run["first_ms"]):
                if point["point"] in each["points"]:
                    yield from self._version(point, place, each)

    def _version(self, point: Record, place: tuple[str, int], run: Record) -> Iterator[Step]:
        said = f"{run['group']}, {run['count']} periods from {at(run['first_ms'])}, version {run['version']}"
        step = Step("settlement", said, facts={"run": run, "point": point["point"]})
        asked = {"first_ms": run["first_ms"], "version": run["version"]}
        try:
            source = self._evidence.ask(settlement.NAME, "Source", group=run["group"], point=point["point"], **asked)
        except Declined as declined:
            withheld = declined.reason is Reason.FORBIDDEN
            step.mark = Mark.WITHHELD if withheld else Mark.ERASED
            step.reason = f"whether it was used: {declined.words}"
            yield step
            return
        periods = sorted(_periods(source, place, run))
        if not periods:
            return
        step.facts["used"] = True
        step.facts["periods_ms"] = [run["first_ms"] + number * run["period_ms"] for number in periods]
        shared = point["kind"] == groups.GENERATION or run["kind"] == groups.BY_CONSUMPTION
        names = run["members"] if shared else [point["member"]]
        for name in names:
            step.parts += self._results(name, run, periods)
        step.parts += self._exchanges(names, run, periods)
        yield step

    def _results(self, name: str, run: Record, periods: Sequence[int]) -> Iterator[Step]:
        asked = {"first_ms": run["first_ms"], "version": run["version"], "member": name}
        try:
            held = self._evidence.ask(settlement.NAME, "Results", group=run["group"], **asked)["members"][name]
        except Declined as declined:
            mark = Mark.WITHHELD if declined.reason is Reason.FORBIDDEN else Mark.ERASED
            yield Step("result", name, mark, declined.words)
            return
        for number in periods:
            numbers = {column: held[column][number] for column in ("allotted", "consumed", "surplus", "from_grid")}
            said = ", ".join(f"{column.replace('_', ' ')} {wh(value)}" for column, value in numbers.items())
            start_ms = run["first_ms"] + number * run["period_ms"]
            yield Step(
                "result", f"{name}, {at(start_ms)}: {said}", facts={"member": name, "period_ms": start_ms, **numbers}
            )

    def _exchanges(self, names: Sequence[str], run: Record, periods: Sequence[int]) -> Iterator[Step]:
        """The transfers that were recorded from this version of the settlement."""
        try:
            every = self._evidence.ask(exchanges.NAME, "Versions", group=run["group"], first_ms=run["first_ms"])
        except Declined:
            return  # nothing is recorded of these periods
        for recorded in every:
            if recorded["settlement"] != run["version"]:
                continue
            asked = {"first_ms": run["first_ms"], "version": recorded["version"]}
            seen: set[tuple[Any, ...]] = set()
            for name in names:
                try:
                    part = self._evidence.ask(exchanges.NAME, "Transfers", group=run["group"], member=name, **asked)
                except Declined as declined:
                    yield Step("transfers", name, Mark.WITHHELD, declined.words)
                    continue
                for number, seller, buyer, amount in _rows(part["members"][name], name):
                    if number in periods and (number, seller, buyer, amount) not in seen:
                        seen.add((number, seller, buyer, amount))
                        start_ms = run["first_ms"] + number * run["period_ms"]
                        said = f"{seller} to {buyer}, {at(start_ms)}: {wh(amount)}, version {recorded['version']}"
                        yield Step("transfer", said, facts={"seller": seller, "buyer": buyer, "period_ms": start_ms})

    # ---- guarantees

    def _guarantees(self, gateway: str, sub: str, place: tuple[str, int], at_ms: int | None) -> Iterator[Step]:
        """The issues that begin or end with the statement, or that it was looked at for, in between."""
        device = self._evidence.ask(origin.NAME, "Taken", gateway=gateway, sub=sub)["device"]
        for issue in self._evidence.ask(origin.NAME, "Issues", device=device) if device else ():
            ends = [side for side in ("start", "end") if list(place) in issue[side]]
            within = at_ms is not None and issue["from_ms"] < at_ms < issue["until_ms"]
            if ends or within:
                role = f"its {' and '.join(ends)}" if ends else "looked at between its ends"
                last = issue["first"] + issue["count"] - 1
                yield Step(
                    "guarantees", f"{device} {issue['first']} to {last}: {role}", facts={"issue": issue, "used": True}
                )


def _periods(source: Record, place: tuple[str, int], run: Record) -> set[int]:
    """The places of the periods that were made with this statement."""
    found: set[int] = set()
    for item in source["at"]:
        if tuple(item[1:3]) == place:
            number = (item[0] - run["first_ms"]) // run["period_ms"]
            found |= {number - 1, number}
    for item in source["change"]:
        if tuple(item[1:3]) == place:
            found.add(-((run["first_ms"] - item[0]) // run["period_ms"]) - 1)  # the one that ends at or after it
    return {number for number in found if 0 <= number < run["count"]}


def _rows(part: Record, name: str) -> Iterator[tuple[int, str, str, int]]:
    for number, other, amount, _ in part["given"]:
        yield number, name, other, amount
    for number, other, amount, _ in part["received"]:
        yield number, other, name, amount
