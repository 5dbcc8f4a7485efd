"""A group's energy, as people settle and read it: whole months over calls of the contracts. Computes no energy itself.

Rules
- A stretch is a day of legal time, cut where an agreement or a measuring point begins or ends, and where a call would
  need more registers than a contract takes. What was settled stays the stretch that it is.
- Settled again is what was provisional or open, and only when something would change: asked first, written then.
- Wh are whole numbers or unknown (None), as the contracts give them; a sum of unknowns is of what is known, with how
  many are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ledger import moments
from ledger.calling import Contracts
from ledger.rules import exchanges, groups, hours, settlement
from ledger.rules.registers import Certainty
from ledger.rules.world import Declined, Reason

COLUMNS = ("allotted", "consumed", "self_consumed", "surplus", "from_grid")
"""Of results, Wh."""

_LONG_MS = 31 * 86_400_000
_DOUBTFUL = (Certainty.PROVISIONAL.word, Certainty.OPEN.word)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Periods that are settled together.

    Attributes:
        version: of what stands, 0 = never settled.
        doubtful: whether something of it is provisional or open.
    """

    first_ms: int
    count: int
    version: int = 0
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a stretch.

    Attributes:
        run: the settlement's record; None = declined.
        new: whether this version is new.
        declined: in the contract's words.
    """

    stretch: Stretch
    run: Mapping[str, Any] | None
    new: bool = False
    declined: str = ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Periods in a row that are not settled, for one reason.

    Attributes:
        members: whose numbers; all of the group where ``everybody``.
    """

    start_ms: int
    end_ms: int
    periods: int
    state: str
    reason: str
    members: tuple[str, ...]
    everybody: bool


def plan(
    period_ms: int,
    zone: str,
    agreements: Sequence[Mapping[str, Any]],
    points: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    from_ms: int,
    until_ms: int,
) -> list[Stretch]:
    """Every stretch from ``from_ms`` to ``until_ms``: those that stand, and how the rest is cut. By time."""
    begun = [point["from_ms"] for point in points if point["kind"] == groups.GENERATION]
    if not begun or not agreements:
        return []
    start_ms = max(from_ms, min(begun), agreements[0]["from_ms"])
    changes = {each["from_ms"] for each in (*agreements, *points)}
    changes |= {point["until_ms"] for point in points if point["until_ms"] is not None}
    most = max(1, min(settlement.MOST_READINGS // len(points), settlement.MOST_PERIODS))
    found: list[Stretch] = []
    for run in runs:
        end_ms = run["first_ms"] + run["count"] * run["period_ms"]
        found += _cut(start_ms, min(run["first_ms"], until_ms), period_ms, zone, changes, most)
        doubtful = any(run["periods"][word] for word in _DOUBTFUL)
        found.append(Stretch(run["first_ms"], run["count"], run["version"], doubtful))
        start_ms = max(start_ms, end_ms)
    return found + _cut(start_ms, until_ms, period_ms, zone, changes, most)


def _cut(start_ms: int, end_ms: int, period_ms: int, zone: str, changes: set[int], most: int) -> list[Stretch]:
    found: list[Stretch] = []
    at_ms = start_ms
    while at_ms < end_ms:
        ends = [end_ms, moments.next_midnight(at_ms, zone), at_ms + most * period_ms]
        ends += [change for change in changes if change > at_ms]
        count = (min(ends) - at_ms) // period_ms
        if not count:
            return found  # less than a period is left
        found.append(Stretch(at_ms, count))
        at_ms += count * period_ms
    return found


class Community:
    """One group on a ledger."""

    def __init__(self, contracts: Contracts, group: str) -> None:
        """
        Raises:
            Declined: there is no such group.
        """
        self.contracts = contracts
        self.name = group
        self.record: dict[str, Any] = self._ask(settlement.NAME, "Group")
        self.zone: str = self.record["zone"]
        self.period_ms: int = self.record["period_ms"]

    # ---- who shares

    def members(self) -> list[dict[str, Any]]:
        """Every member, by name."""
        return list(self._ask(settlement.NAME, "Members"))

    def points(self) -> list[dict[str, Any]]:
        """Every measuring point, by name."""
        return list(self._ask(settlement.NAME, "Points"))

    def agreements(self) -> list[dict[str, Any]]:
        """Every agreement, the oldest first."""
        return list(self._ask(settlement.NAME, "Agreements"))

    def coefficients(self, agreement: Mapping[str, Any]) -> dict[str, int] | None:
        """Millionths by member; None: they are of each hour, or not for whoever asks."""
        if agreement["kind"] == groups.HOURLY:
            return None
        try:
            return dict(self._ask(settlement.NAME, "Coefficients", from_ms=agreement["from_ms"])["members"])
        except Declined as declined:
            if declined.reason not in (Reason.FORBIDDEN, Reason.UNKNOWN):
                raise
            return None

    # ---- settling

    def stretches(self, from_ms: int, until_ms: int) -> list[Stretch]:
        """What there is to settle, and what is settled, within this time."""
        agreements = self.agreements()
        if not agreements:
            return []
        from_ms = max(from_ms, agreements[0]["from_ms"])
        runs = list(self.runs(from_ms, until_ms))
        return plan(self.period_ms, self.zone, agreements, self.points(), runs, from_ms, until_ms)

    def settle(self, from_ms: int, until_ms: int, again: bool = False) -> Iterator[Settled]:
        """Settle what is due, and settle again what is not settled for good; record who gave whom.

        Args:
            again: ask about what is settled for good, too.
        """
        for stretch in self.stretches(from_ms, until_ms):
            try:
                yield self._settle(stretch, again)
            except Declined as declined:
                yield Settled(stretch, None, declined=str(declined))

    def _settle(self, stretch: Stretch, again: bool) -> Settled:
        given = {"group": self.name, "first_ms": stretch.first_ms, "count": stretch.count}
        run: dict[str, Any] | None = None
        if stretch.version:
            run = self._run(stretch.first_ms)
            if stretch.doubtful or again:
                run = json.loads(self.contracts.ask(settlement.NAME, "Settle", given))
        new = run is None or run["version"] != stretch.version
        if new:
            run = json.loads(self.contracts.call(settlement.NAME, "Settle", given))
        assert run is not None
        if self._recorded(stretch.first_ms) != run["version"]:
            self.contracts.call(exchanges.NAME, "Record", {"group": self.name, "first_ms": stretch.first_ms})
        return Settled(stretch, run, new)

    def _run(self, first_ms: int) -> dict[str, Any]:
        return dict(self._ask(settlement.NAME, "Versions", first_ms=first_ms)[-1])

    def _recorded(self, first_ms: int) -> int:
        """By which version of the settlement the transfers of a stretch are recorded; 0 = not yet."""
        try:
            return int(self._ask(exchanges.NAME, "Versions", first_ms=first_ms)[-1]["settlement"])
        except Declined as declined:
            if declined.reason is not Reason.UNKNOWN:
                raise
            return 0

    # ---- reading

    def month_ms(self, year: int, month: int) -> tuple[int, int]:
        """When a month of legal time begins and ends."""
        return hours.month_ms(year, month, self.zone)

    def runs(self, from_ms: int, until_ms: int) -> Iterator[dict[str, Any]]:
        """The last version of every stretch with a period in this time, by time; a month a call."""
        last_ms = -1
        for start_ms in range(from_ms, until_ms, _LONG_MS):
            end_ms = min(start_ms + _LONG_MS, until_ms)
            for run in self._ask(settlement.NAME, "Runs", from_ms=start_ms, until_ms=end_ms):
                if run["first_ms"] > last_ms:
                    last_ms = run["first_ms"]
                    yield run

    def results(self, run: Mapping[str, Any], member: str | None = None) -> dict[str, Any]:
        """A stretch's numbers, of all members or of one: ``run`` and ``members``."""
        only = {} if member is None else {"member": member}
        return dict(self._ask(settlement.NAME, "Results", first_ms=run["first_ms"], **only))

    def all_results(self, from_ms: int, until_ms: int, member: str | None = None) -> Iterator[dict[str, Any]]:
        """The numbers of every stretch in this time, by time; where a member has no part, nothing."""
        for run in self.runs(from_ms, until_ms):
            if member is None or member in run["members"]:
                yield self.results(run, member)

    def transfers(self, from_ms: int, until_ms: int, member: str | None = None) -> Iterator[dict[str, Any]]:
        """Who gave whom, every stretch in this time that is recorded: ``run`` and ``members``."""
        only = {} if member is None else {"member": member}
        for run in self.runs(from_ms, until_ms):
            if member is None or member in run["members"]:
                try:
                    yield dict(self._ask(exchanges.NAME, "Transfers", first_ms=run["first_ms"], **only))
                except Declined as declined:
                    if declined.reason is not Reason.UNKNOWN:
                        raise

    def doubts(self, from_ms: int, until_ms: int) -> Iterator[Doubt]:
        """What is provisional or open, and why, by time."""
        runs = [run for run in self.runs(from_ms, until_ms) if any(run["periods"][word] for word in _DOUBTFUL)]
        return joined(doubt for run in runs for doubt in doubts(self.results(run)))

    def _ask(self, contract: str, function: str, **given: Any) -> Any:
        return json.loads(self.contracts.ask(contract, function, {"group": self.name, **given}))


def doubts(result: Mapping[str, Any]) -> Iterator[Doubt]:
    """What of a stretch is provisional or open: periods in a row with one reason of the same members are one."""
    run, members = result["run"], result["members"]
    period_ms, names = run["period_ms"], sorted(members)
    under_way: dict[tuple[str, str, tuple[str, ...]], int] = {}
    for number in range(run["count"] + 1):
        here: dict[tuple[str, str], list[str]] = {}
        if number < run["count"]:
            for name in names:
                state, reason = members[name]["state"][number], members[name]["reason"][number]
                if state in _DOUBTFUL:
                    here.setdefault((state, reason), []).append(name)
        keys = {(*about, tuple(whose)) for about, whose in here.items()}
        for key in sorted(under_way.keys() - keys):
            first = under_way.pop(key)
            times = [run["first_ms"] + at * period_ms for at in (first, number)]
            yield Doubt(times[0], times[1], number - first, *key, len(key[2]) == len(names))
        for key in keys:
            under_way.setdefault(key, number)


def joined(found: Iterable[Doubt]) -> Iterator[Doubt]:
    """The same doubts, by time, where one goes on over the end of a stretch they are one."""
    whole: dict[tuple[Any, ...], Doubt] = {}
    done: list[Doubt] = []
    for doubt in found:
        about = (doubt.state, doubt.reason, doubt.members)
        last = whole.get(about)
        if last is not None and last.end_ms == doubt.start_ms:
            whole[about] = replace(last, end_ms=doubt.end_ms, periods=last.periods + doubt.periods)
            continue
        if last is not None:
            done.append(last)
        whole[about] = doubt
    return iter(sorted([*done, *whole.values()], key=lambda doubt: (doubt.start_ms, doubt.end_ms, doubt.members)))


def sums(results: Sequence[Mapping[str, Any]], from_ms: int, until_ms: int) -> dict[str, dict[str, int]]:
    """Of each member the Wh that are known, and how many periods are of which state, within this time."""
    found: dict[str, dict[str, int]] = {}
    for result in results:
        run = result["run"]
        inside = [
            number
            for number in range(run["count"])
            if from_ms <= run["first_ms"] + number * run["period_ms"] < until_ms
        ]
        for name, part in result["members"].items():
            total = found.setdefault(name, dict.fromkeys((*COLUMNS, *(kind.word for kind in Certainty)), 0))
            for number in inside:
                for column in COLUMNS:
                    total[column] += part[column][number] or 0
                total[part["state"][number]] += 1
    return dict(sorted(found.items()))
