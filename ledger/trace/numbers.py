"""From a settled number back: computed again out of what it was made from, down to the statements.

Rules
- A number is computed by the very functions that the contracts use, from coefficients and registers that are records of
  the ledger; a register is what its statement says, and the statement is verified (:mod:`ledger.trace.statements`).
- Every record is compared, byte for byte, with what its transaction has written.
- What the contract does not show to this caller is withheld, and the rest is verified without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.rules import boundaries, exchanges, groups, hours, origin, settlement, sharing, transfers
from ledger.rules.groups import Agreement, Point
from ledger.rules.record import Record
from ledger.rules.registers import Certainty, Reads, energy, floor_wh, total
from ledger.rules.sharing import Share
from ledger.rules.world import Declined, Reason, key, ordered
from ledger.trace.evidence import Evidence, Fault
from ledger.trace.statements import Statements
from ledger.trace.tree import Mark, Step
from ledger.trace.words import at, register, wh

COLUMNS = ("allotted", "self_consumed", "surplus", "from_grid", "consumed")


class NotSettled(Exception):
    """There is no such number."""


@dataclass(frozen=True, slots=True)
class _Source:
    """What a point's numbers were made from; ``step`` says whether it is as it was written."""

    step: Step
    held: settlement.Source | None


class Stretch:
    """A stretch of periods in one version, with what it was settled from; looked up when it is needed, and once."""

    def __init__(self, evidence: Evidence, statements: Statements, group: Record, run: Record) -> None:
        self.run = run
        self.group = group
        self._evidence = evidence
        self._statements = statements
        self._place = (run["group"], ordered(run["first_ms"]), ordered(run["version"]))
        self._points = _points(evidence, run["group"])
        self._sources: dict[str, _Source] = {}
        self._shares: dict[str, tuple[Step, list[Share] | None]] = {}
        self._coefficients: dict[tuple[int, ...], tuple[Step, dict[str, Any]]] = {}
        self._reads: dict[str, Reads] = {}
        self._agreement = self._agreed()
        self.settled = self._settled()

    def number(self, period_ms: int) -> int:
        """The place of a period."""
        return int((period_ms - self.run["first_ms"]) // self.run["period_ms"])

    def member(self, name: str, number: int) -> Step:
        """One member's period."""
        start_ms = self.run["first_ms"] + number * self.run["period_ms"]
        result, shares = self.result(name)
        step = Step("period", f"{name}, {at(start_ms)}", facts={"member": name, "period_ms": start_ms})
        step.parts = [self.settled, result]
        recorded = shares[number] if shares is not None else None
        found, withheld = self._computed(number, name)
        if recorded is not None:
            step.said = f"{name}, {at(start_ms)}: {_told(recorded)}"
            step.facts |= {column: getattr(recorded, column) for column in COLUMNS}
            step.facts |= {"state": recorded.certainty.word, "why": recorded.reason}
        step.parts.append(self._allotted(number, name, recorded, found, withheld))
        step.parts.append(self._consumed(number, name, recorded))
        return step

    def share(self, name: str, number: int) -> Share | None:
        """What is recorded of a member; None where it is gone or withheld."""
        shares = self.result(name)[1]
        return None if shares is None else shares[number]

    # ---- what is recorded

    def result(self, name: str) -> tuple[Step, list[Share] | None]:
        """A member's numbers of this stretch, as they were written.

        Raises:
            Declined: the caller may not see them.
        """
        if name not in self._shares:
            self._shares[name] = self._result(name)
        return self._shares[name]

    def _result(self, name: str) -> tuple[Step, list[Share] | None]:
        step = Step("result", f"version {self.run['version']}")
        asked = {"first_ms": self.run["first_ms"], "version": self.run["version"], "member": name}
        try:
            held = self._evidence.ask(settlement.NAME, "Results", group=self.run["group"], **asked)["members"][name]
        except Declined as declined:
            if declined.reason is not Reason.UNKNOWN or name not in self.run["members"]:
                raise
            step.mark, step.reason = self._gone(name, declined.words)
            return step, None
        states = [Certainty[word.upper()] for word in held["state"]]
        columns = zip(held["allotted"], held["consumed"], states, held["reason"], strict=True)
        shares = [Share(*column) for column in columns]
        kept: Record = {column: held[column] for column in ("allotted", "consumed", "reason")}
        kept["state"] = [int(state) for state in states]
        kept |= _salt(held)
        step.parts.append(self._written("results", key("share", *self._place, name), kept, self.run["by"]))
        return step, shares

    def _gone(self, member: str, words: str) -> tuple[Mark, str]:
        for erased in self._evidence.ask(settlement.NAME, "Erased", group=self.run["group"]):
            if (erased.get("member"), erased.get("first_ms")) == (member, self.run["first_ms"]):
                place = key("erased", self.run["group"], member, self._place[1])
                wrong = self._written("", place, erased, erased["by"])
                if wrong.mark is Mark.FAILED:
                    return Mark.FAILED, f"erased, but {wrong.reason}"
                who = f"{erased['by']['name']} of {erased['by']['organisation']}, {at(erased['time_ms'])}"
                return Mark.ERASED, f"erased by {who}: {erased['why']}"
        if self._evidence.expires:
            return Mark.ERASED, words
        return Mark.FAILED, "is missing, and no erasure is recorded"

    def _settled(self) -> Step:
        run = self.run
        step = Step("settled", f"{run['count']} periods from {at(run['first_ms'])}, version {run['version']}")
        step.said += f", by {run['by']['name']} of {run['by']['organisation']}"
        step.facts = {"run": run}
        step.parts.append(self._written("", key("settled", *self._place), run, run["by"]))
        step.parts.append(self._agreement[0])
        known = {point.point for point in self._points}
        strange = [name for name in run["points"] if name not in known]
        if strange:
            step.mark, step.reason = Mark.FAILED, f"point {strange[0]} is not the group's"
        return step

    def _agreed(self) -> tuple[Step, Agreement | None]:
        run = self.run
        step = Step("agreement", f"{run['kind']}, from {at(run['agreement_ms'])}")
        for record in self._evidence.ask(settlement.NAME, "Agreements", group=run["group"]):
            if record["from_ms"] == run["agreement_ms"]:
                place = key("agreement", run["group"], ordered(record["from_ms"]))
                step.parts.append(self._written("", place, record, record["by"]))
                step.facts = {"agreement": record}
                if [record["members"], record["kind"]] != [run["members"], run["kind"]]:
                    step.mark, step.reason = Mark.FAILED, "is of others than were settled"
                return step, Agreement(run["group"], record["from_ms"], None, record["kind"], tuple(record["members"]))
        step.mark, step.reason = Mark.FAILED, "is not there"
        return step, None

    def _source(self, point: Point) -> _Source:
        if point.point not in self._sources:
            self._sources[point.point] = self._look(point)
        return self._sources[point.point]

    def _look(self, point: Point) -> _Source:
        step = Step("registers", f"of {point.point} ({point.gateway}/{point.sub})")
        asked = {"first_ms": self.run["first_ms"], "version": self.run["version"], "point": point.point}
        try:
            held = self._evidence.ask(settlement.NAME, "Source", group=self.run["group"], **asked)
        except Declined as declined:
            if declined.reason is Reason.UNKNOWN:
                step.mark, step.reason = self._gone(point.member, declined.words)
            else:
                step.mark, step.reason = Mark.WITHHELD, declined.words
            return _Source(step, None)
        kept = {"at": held["at"], "change": held["change"]} | _salt(held)
        step.parts.append(self._written("results", key("source", *self._place, point.point), kept, self.run["by"]))
        record = _point_record(self._evidence, self.run["group"], point.point)
        place = key("point", self.run["group"], point.point)
        by: Record = record["ended_by"] if "ended_by" in record else record["by"]
        step.parts.append(self._written("", place, record, by))
        return _Source(step, settlement.Source(held["at"], held["change"], ""))

    def _written(self, collection: str, place: str, record: Mapping[str, Any], by: Record) -> Step:
        return self._statements.written(settlement.NAME, collection, place, record, by["transaction"])

    # ---- what is computed

    def _mine(self, kind: str, member: str | None = None) -> list[Point]:
        """The stretch's points of a kind; of one member."""
        there = [point for point in self._points if point.point in self.run["points"] and point.kind == kind]
        return [point for point in there if member is None or point.member == member]

    def _computed(self, number: int, name: str) -> tuple[Share | None, str]:
        """A member's share by the contract's own arithmetic; or why it cannot be computed."""
        agreement = self._agreement[1]
        if agreement is None or name not in agreement.members:
            return None, "there is no agreement"
        everybody = None if agreement.kind == groups.BY_CONSUMPTION else name
        points = [*self._mine(groups.GENERATION), *self._mine(groups.CONSUMPTION, everybody)]
        generation: list[Reads] = []
        consumption: dict[str, list[Reads]] = {}
        for point in points:
            reads = self._read(point)
            if reads is None:
                return None, f"the registers of {point.point}: {self._source(point).step.reason}"
            into = generation if point.kind == groups.GENERATION else consumption.setdefault(point.member, [])
            into.append(reads)
        held = settlement.Registers(generation, consumption)
        start_ms = self.run["first_ms"] + number * self.run["period_ms"]
        try:
            (shares,) = settlement.computed([start_ms], self.run["period_ms"], agreement, held, self._row)
        except Declined as declined:
            return None, f"the coefficients: {declined.words}"
        except (ValueError, KeyError, IndexError, Fault) as error:
            return None, f"cannot be computed: {error}"
        return shares[agreement.members.index(name)], ""

    def _read(self, point: Point) -> Reads | None:
        """A point's register in this stretch; None where it is gone or withheld."""
        source = self._source(point)
        if source.held is None:
            return None
        if point.point not in self._reads:
            held = settlement.registers([point], [source.held])
            (self._reads[point.point],) = held.generation or held.consumption[point.member]
        return self._reads[point.point]

    def _row(self, start_ms: int) -> Sequence[int]:
        """The coefficients of a period.

        Raises:
            Declined: the caller may not see them, or they are not held here.
        """
        members = self._agreed_coefficients(start_ms)[1]
        assert self._agreement[1] is not None
        if self._agreement[1].kind != groups.HOURLY:
            return [members[name] for name in self._agreement[1].members]
        hour = hours.hour_of_year(start_ms, self.group["zone"])[1]
        return [members[name][(hour - 1) % 24] for name in self._agreement[1].members]

    def _agreed_coefficients(self, start_ms: int) -> tuple[Step, dict[str, Any]]:
        """What was agreed for a period: the same always, or a day's hours; and whether it is what was written."""
        agreement = self._agreement[1]
        assert agreement is not None
        day: tuple[int, ...] = ()
        if agreement.kind == groups.HOURLY:
            year, hour = hours.hour_of_year(start_ms, self.group["zone"])
            day = (year, (hour - 1) // 24)
        if day not in self._coefficients:
            self._coefficients[day] = self._look_up(agreement, day)
        return self._coefficients[day]

    def _look_up(self, agreement: Agreement, day: tuple[int, ...]) -> tuple[Step, dict[str, Any]]:
        asked = dict(zip(("year", "day"), day, strict=False))
        held = self._evidence.ask(
            settlement.NAME, "Coefficients", group=agreement.group, from_ms=agreement.from_ms, **asked
        )
        place, kept = key("agreement", agreement.group, ordered(agreement.from_ms)), _salt(held)
        columns = [held["members"][name] for name in agreement.members]
        if day:
            place = key("hours", agreement.group, ordered(agreement.from_ms), str(day[0]), f"{day[1]:03}")
            kept["rows"] = [list(row) for row in zip(*columns, strict=True)]
        else:
            kept["coefficients"] = columns
        step = Step("coefficients", f"of {len(columns)} members" + (f", day {day[1] + 1} of {day[0]}" if day else ""))
        step.parts.append(self._written("coefficients", place, kept, held["by"]))
        return step, held["members"]

    def _allotted(self, number: int, name: str, recorded: Share | None, found: Share | None, withheld: str) -> Step:
        step = Step("allotted", wh(recorded.allotted) if recorded else "")
        agreement = self._agreement[1]
        start_ms = self.run["first_ms"] + number * self.run["period_ms"]
        if agreement is not None and name in agreement.members:
            try:
                step.parts.append(self._agreed_coefficients(start_ms)[0])
                own = sharing.decimal(self._row(start_ms)[agreement.members.index(name)])
                step.said += " by consumption" if agreement.kind == groups.BY_CONSUMPTION else f", coefficient {own}"
            except Declined as declined:
                withheld_here = declined.reason is Reason.FORBIDDEN
                mark = Mark.WITHHELD if withheld_here else Mark.ERASED if self._evidence.expires else Mark.FAILED
                step.parts.append(Step("coefficients", "", mark, declined.words))
        everybody = self._mine(groups.CONSUMPTION) if self.run["kind"] == groups.BY_CONSUMPTION else []
        others = [each for each in everybody if each.member != name]
        for point in [*self._mine(groups.GENERATION), *others]:
            step.parts.append(self._point(point, number))
        if found is None:
            worst = max(part.worst for part in step.parts) if step.parts else Mark.FAILED
            step.mark = worst if worst is not Mark.VERIFIED else Mark.FAILED
            step.reason = withheld
        elif recorded is not None and recorded.allotted != found.allotted:
            step.mark, step.reason = Mark.FAILED, f"computed again: {wh(found.allotted)}"
        elif recorded is not None and (recorded.certainty, recorded.reason) != (found.certainty, found.reason):
            words = f"computed again: {found.certainty.word} {found.reason}".rstrip()
            step.mark, step.reason = Mark.FAILED, words
        return step

    def _consumed(self, number: int, name: str, recorded: Share | None) -> Step:
        step = Step("consumed", wh(recorded.consumed) if recorded else "")
        points, start_ms = self._mine(groups.CONSUMPTION, name), self.run["first_ms"] + number * self.run["period_ms"]
        energies = []
        for point in points:
            step.parts.append(self._point(point, number))
            reads = self._read(point)
            if reads is None:
                gone = self._source(point).step
                step.mark, step.reason = gone.mark, f"the registers of {point.point}: {gone.reason}"
                return step
            energies.append(energy(reads, start_ms, start_ms + self.run["period_ms"]))
        found = total(energies)
        if recorded is not None and recorded.consumed != found.wh:
            step.mark, step.reason = Mark.FAILED, f"computed again: {wh(found.wh)}"
        return step

    def _point(self, point: Point, number: int) -> Step:
        """What one point counted in a period."""
        source = self._source(point)
        start_ms = self.run["first_ms"] + number * self.run["period_ms"]
        end_ms = start_ms + self.run["period_ms"]
        side = point.kind == groups.GENERATION
        step = Step("point", point.point)
        reads = self._read(point)
        if reads is None or source.held is None:
            step.mark, step.reason = source.step.mark, source.step.reason
            return step
        found = energy(reads, start_ms, end_ms)
        step.said = f"{point.point} ({point.gateway}/{point.sub}): {wh(found.wh)}"
        if found.certainty is not Certainty.SETTLED:
            step.said += f", {found.certainty.word}: {found.reason}"
        step.parts.append(source.step)
        for item in source.held.at:
            if item[0] in (start_ms, end_ms):
                step.parts.append(self.boundary(item, side, point))
        for item in source.held.change:
            if start_ms < item[0] <= end_ms:
                step.parts.append(self._change(item, side, point))
        return step

    def boundary(self, item: Sequence[Any], exported: bool, point: Point) -> Step:
        """One register at one instant, and the statement that says so."""
        return _boundary(self._statements, item, exported, (point.gateway, point.sub))

    def _change(self, item: Sequence[Any], exported: bool, point: Point) -> Step:
        sides = [register(side[1 if exported else 0]) for side in item[3:5]]
        step = Step("exchanged", f"{at(item[0])}: the old meter {sides[0]}, the new one {sides[1]}")
        found = self._statements.get(item[1], item[2])
        step.parts.append(found.step)
        if found.claims is not None:
            said = boundaries.change(found.claims)
            here = (found.claims.gateway, found.claims.sub) == (point.gateway, point.sub)
            if said is None or not here or said.pack() != list(item):
                step.mark, step.reason = Mark.FAILED, "the statement says something else"
        return step


class Numbers:
    """Settled numbers of one ledger, traced back."""

    def __init__(self, evidence: Evidence, statements: Statements) -> None:
        self._evidence = evidence
        self._statements = statements
        self._groups: dict[str, Record] = {}
        self._stretches: dict[tuple[str, int, int], Stretch] = {}

    def period(self, group: str, member: str, period_ms: int, version: int | None = None) -> Step:
        """What a member was allotted, consumed, had over and took from the grid in one period.

        Raises:
            NotSettled: it is in no stretch that was settled, or there is no such version or member.
            Declined: the caller may not see it.
        """
        stretch = self.stretch(group, period_ms, version)
        if member not in stretch.run["members"]:
            raise NotSettled(f"{member} has no part in the periods from {at(stretch.run['first_ms'])}")
        stretch.result(member)
        return stretch.member(member, stretch.number(period_ms))

    def month(self, group: str, member: str, year: int, month: int) -> Step:
        """The sums of a month in the group's legal time, from the last version of each of its stretches.

        Raises:
            NotSettled, Declined: as :meth:`period`.
        """
        entry = self._evidence.ask(settlement.NAME, "Group", group=group)
        start_ms, end_ms = hours.month_ms(year, month, entry["zone"])
        step = Step("month", f"{member}, {year}-{month:02}")
        sums: dict[str, int | None] = dict.fromkeys(COLUMNS, 0)
        due_ms, seen, gaps = start_ms, 0, list[int]()
        for run in self._evidence.ask(settlement.NAME, "Runs", group=group, from_ms=start_ms, until_ms=end_ms):
            if member not in run["members"]:
                continue
            stretch = self._of(entry, run)
            stretch.result(member)
            part = Step("stretch", "")
            for number in range(run["count"]):
                at_ms = run["first_ms"] + number * run["period_ms"]
                if not start_ms <= at_ms < end_ms:
                    continue
                if at_ms != due_ms:
                    gaps.append(due_ms)
                part.parts.append(stretch.member(member, number))
                _add(sums, stretch.share(member, number))
                due_ms, seen = at_ms + run["period_ms"], seen + 1
            part.said = f"{len(part.parts)} periods from {at(run['first_ms'])}, version {run['version']}"
            step.parts.append(part)
        if not seen:
            raise NotSettled(f"nothing of {year}-{month:02} is settled for {member} in {group}")
        step.said = f"{member}, {year}-{month:02}: {_columns(sums)}"
        step.facts = {"member": member, "periods": seen, **sums}
        gaps += [due_ms] if due_ms != end_ms else []
        if gaps:
            step.mark, step.reason = Mark.NOTED, f"not settled from {at(gaps[0])}"
        return step

    def transfer(self, group: str, seller: str, buyer: str, period_ms: int, version: int | None = None) -> Step:
        """What a member's surplus gave to another in one period.

        Raises:
            NotSettled, Declined: as :meth:`period`.
        """
        first_ms = self.stretch(group, period_ms, None).run["first_ms"]
        asked: Record = {"group": group, "first_ms": first_ms, "version": version}
        held = [self._evidence.ask(exchanges.NAME, "Transfers", **asked, member=who) for who in (seller, buyer)]
        run = held[0]["run"]
        number = (period_ms - run["first_ms"]) // run["period_ms"]
        given = [row for row in held[0]["members"][seller]["given"] if row[:2] == [number, buyer]]
        got = [row for row in held[1]["members"][buyer]["received"] if row[:2] == [number, seller]]
        step = Step("transfer", f"{seller} to {buyer}, {at(period_ms)}: {wh(sum(row[2] for row in given))}")
        step.facts = {"seller": seller, "buyer": buyer, "period_ms": period_ms, "rows": given}
        place = (group, ordered(run["first_ms"]), ordered(run["version"]))
        recorded = Step("recorded", f"version {run['version']}, of the settlement's version {run['settlement']}")
        recorded.parts.append(self._exchanged("", key("recorded", *place), run, run["by"]))
        for who, each in zip((seller, buyer), held, strict=True):
            part = self._exchanged("transfers", key("part", *place, who), each["members"][who], run["by"])
            part.said = f"of {who}, {part.said}"
            recorded.parts.append(part)
        step.parts.append(recorded)
        if [row[2:] for row in given] != [row[2:] for row in got]:
            step.mark, step.reason = Mark.FAILED, f"{buyer} has received {wh(sum(row[2] for row in got))} of it"
        self._shared(step, self.stretch(group, period_ms, run["settlement"]), run, number, given)
        return step

    def _shared(self, step: Step, stretch: Stretch, run: Record, number: int, given: list[list[Any]]) -> None:
        """The transfers of the period computed again, from everybody's surplus and deficit."""
        names = run["members"]
        seller, buyer = step.facts["seller"], step.facts["buyer"]
        try:
            shares = [stretch.share(name, number) for name in names]
            orders = self._orders(step, run, names, step.facts["period_ms"])
        except Declined as declined:
            if declined.reason is not Reason.FORBIDDEN:
                raise
            words = f"who else had how much over or lacked is not to be seen: {declined.words}"
            step.parts.append(Step("computed", "", Mark.WITHHELD, words))
            for name in (seller, buyer):
                self._try(step, stretch, name, number)
            return
        computed = Step("computed", f"from the surpluses and deficits of {len(names)} members")
        step.parts.append(computed)
        gone = next((name for name, share in zip(names, shares, strict=True) if share is None), None)
        if gone is not None:
            computed.mark, computed.reason = Mark.ERASED, f"the results of {gone} are gone"
        else:
            computed.reason = _exchanged_otherwise(names, shares, orders, step, run, given)
            computed.mark = Mark.FAILED if computed.reason else Mark.VERIFIED
        for name in [seller, buyer, *(other for other in names if other not in (seller, buyer))]:
            computed.parts.append(stretch.member(name, number))

    def _try(self, step: Step, stretch: Stretch, name: str, number: int) -> None:
        try:
            step.parts.append(stretch.member(name, number))
        except Declined as declined:
            step.parts.append(Step("period", name, Mark.WITHHELD, declined.words))

    def _orders(self, step: Step, run: Record, names: Sequence[str], start_ms: int) -> list[transfers.Order]:
        """The orders that stand in a period, the oldest first."""
        place = {name: number for number, name in enumerate(names)}
        found = []
        listed = self._evidence.ask(exchanges.NAME, "Orders", group=run["group"])
        for order in sorted(listed, key=lambda each: (each["from_ms"], each["seller"], each["buyer"])):
            stands = order["from_ms"] <= start_ms and (order["until_ms"] is None or start_ms < order["until_ms"])
            if (
                order["state"] != exchanges.STANDING
                or not stands
                or not {order["seller"], order["buyer"]} <= set(place)
            ):
                continue
            asked = {part: order[part] for part in ("group", "seller", "buyer", "from_ms")}
            terms = self._evidence.ask(exchanges.NAME, "Terms", **asked)["terms"]
            words = f"{order['seller']} to {order['buyer']}, at most {wh(terms['limit_wh'])} a period"
            part = Step("order", words, facts={"order": order, "terms": terms})
            where = (order["group"], order["seller"], order["buyer"], ordered(order["from_ms"]))
            by = order.get("ended_by", order["accepted_by"])
            part.parts.append(self._exchanged("", key("order", *where), order, by))
            part.parts.append(self._exchanged("transfers", key("terms", *where), terms, order["offered_by"]))
            step.parts.append(part)
            pair = (place[order["seller"]], place[order["buyer"]])
            found.append(transfers.Order(*pair, terms["limit_wh"], terms["price"]))
        return found

    def _exchanged(self, collection: str, place: str, record: Mapping[str, Any], by: Record) -> Step:
        return self._statements.written(exchanges.NAME, collection, place, record, by["transaction"])

    def guarantee(self, device: str, number: int) -> Step:
        """One guarantee of origin: the lot it is in, the issue it came from, the registers at both ends.

        Raises:
            NotSettled: it was not issued, or the record of its issue does not name its statements.
            Declined: the caller may not see it.
        """
        lot = _with(self._evidence.ask(origin.NAME, "Lots", device=device), number)
        issue = _with(self._evidence.ask(origin.NAME, "Issues", device=device), number)
        if lot is None:
            raise NotSettled(f"{device} has no guarantee {number}")
        if issue is None:
            raise NotSettled(f"guarantee {number} of {device} was issued before issues named their statements")
        entry = self._evidence.ask(origin.NAME, "Device", device=device)
        owner = f"{lot['owner']['member']} of {lot['owner']['organisation']}"
        step = Step("guarantee", f"{device} {number}: 1 kWh, {lot['state']}, of {owner}")
        step.facts = {"device": device, "number": number, "lot": lot}
        moved = self._evidence.ask(origin.NAME, "Moves", device=device)
        changed = [move for move in moved if move["first"] <= number < move["first"] + move["count"]]
        for move in sorted(changed, key=lambda each: each["time_ms"]):
            name = key("moved", device, ordered(move["first"]), move["by"]["transaction"])
            part = Step(move["what"], f"by {move['by']['name']}, {at(move['time_ms'])}", facts={"move": move})
            part.parts.append(self._statements.written(origin.NAME, "", name, move, move["by"]["transaction"]))
            step.parts.append(part)
        step.parts.append(self._issued(issue, entry, number))
        return step

    def _issued(self, issue: Record, entry: Record, number: int) -> Step:
        first_wh = origin.KWH * (number - issue["first"]) - issue["rest_wh"]
        step = Step("issued", f"{issue['count']} kWh for {wh(issue['wh'])} and {wh(issue['rest_wh'])} carried over")
        step.facts = {"issue": issue, "from_wh": max(first_wh, 0), "to_wh": first_wh + origin.KWH}
        name = key("issue", issue["device"], ordered(issue["first"]))
        step.parts.append(self._statements.written(origin.NAME, "", name, issue, issue["by"]["transaction"]))
        if origin.certify(issue["rest_wh"], issue["wh"])[0] != issue["count"]:
            step.mark, step.reason = Mark.FAILED, f"{wh(issue['rest_wh'] + issue['wh'])} are not {issue['count']} kWh"
        ends = []
        for side, at_ms in (("start", issue["from_ms"]), ("end", issue["until_ms"])):
            shown = None
            for stream, seq in issue[side]:
                found = self._statements.get(stream, seq)
                said = boundaries.boundary(found.claims) if found.claims is not None else None
                part = Step("register", f"{at(at_ms)}: {register(said.exported) if said else ''}".rstrip(": "))
                part.parts.append(found.step)
                step.parts.append(part)
                if said is None:
                    part.mark = found.step.mark if found.claims is None else Mark.FAILED
                    part.reason = found.step.reason or "the statement is no reading at a boundary"
                    continue
                here = (found.claims.gateway, found.claims.sub) if found.claims else ()
                if here != (entry["gateway"], entry["sub"]) or said.at_ms != at_ms or said.exported is None:
                    part.mark, part.reason = Mark.FAILED, "the statement is of another register or time"
                    continue
                shown = floor_wh(said.exported)
            ends.append(shown)
        if not all(issue[side] for side in ("start", "end")):
            step.mark, step.reason = Mark.FAILED, "names no statement"
        start, end = ends
        if start is not None and end is not None and end - start != issue["wh"]:
            step.mark, step.reason = Mark.FAILED, f"the registers differ by {wh(end - start)}"
        return step

    def stretch(self, group: str, period_ms: int, version: int | None) -> Stretch:
        """The stretch with a period, in a version or the last one.

        Raises:
            NotSettled: there is none.
        """
        entry = self._evidence.ask(settlement.NAME, "Group", group=group)
        if period_ms % entry["period_ms"]:
            raise NotSettled(
                f"no period of {group} begins at {at(period_ms)}: they last {entry['period_ms'] // 60_000} min"
            )
        runs = self._evidence.ask(settlement.NAME, "Runs", group=group, from_ms=period_ms, until_ms=period_ms + 1)
        if not runs:
            raise NotSettled(f"the period from {at(period_ms)} is not settled in {group}")
        run = runs[0]
        if version is not None:
            every = self._evidence.ask(settlement.NAME, "Versions", group=group, first_ms=run["first_ms"])
            run = next((each for each in every if each["version"] == version), None)
            if run is None:
                raise NotSettled(f"the periods from {at(runs[0]['first_ms'])} have versions 1 to {len(every)}")
        return self._of(entry, run)

    def _of(self, group: Record, run: Record) -> Stretch:
        place = (run["group"], run["first_ms"], run["version"])
        if place not in self._stretches:
            self._stretches[place] = Stretch(self._evidence, self._statements, group, run)
        return self._stretches[place]


def _boundary(statements: Statements, item: Sequence[Any], exported: bool, place: tuple[str, str]) -> Step:
    said_ms, stream, seq, status, quality, *registers = item
    shown = f"status {status}" if status else register(registers[1 if exported else 0])
    step = Step("register", f"{at(said_ms)}: {shown}" + (f", quality {quality}" if quality else ""))
    found = statements.get(stream, seq)
    step.facts, step.parts = {"boundary": list(item)}, [found.step]
    if found.claims is not None:
        said = boundaries.boundary(found.claims)
        if said is None or (found.claims.gateway, found.claims.sub) != place:
            step.mark, step.reason = Mark.FAILED, f"the statement is none of {'/'.join(place)} at a boundary"
        elif said.pack() != list(item):
            other = register(list(said.exported or ()) or None if exported else list(said.imported or ()) or None)
            step.mark, step.reason = Mark.FAILED, f"the statement says something else: {other}"
    return step


def _exchanged_otherwise(
    names: Sequence[str],
    shares: Sequence[Share | None],
    orders: Sequence[transfers.Order],
    step: Step,
    run: Record,
    given: Sequence[Sequence[Any]],
) -> str:
    """How the transfers differ from those computed; empty when they do not."""
    surplus = [share.surplus for share in shares if share is not None]
    deficit = [share.from_grid for share in shares if share is not None]
    rows: list[list[Any]] = []
    known = [(has, lacks) for has, lacks in zip(surplus, deficit, strict=True) if has is not None and lacks is not None]
    if len(known) == len(names):
        turn = step.facts["period_ms"] // run["period_ms"]
        found = transfers.exchange([has for has, _ in known], [lacks for _, lacks in known], orders, turn)
        pair = (names.index(step.facts["seller"]), names.index(step.facts["buyer"]))
        rows = [[each.wh, each.price] for each in found.transfers if (each.seller, each.buyer) == pair]
    if rows == [list(row[2:]) for row in given]:
        return ""
    return f"computed again: {wh(sum(row[0] for row in rows))}"


def _points(evidence: Evidence, group: str) -> list[Point]:
    names = ("point", "kind", "member", "gateway", "sub", "from_ms", "until_ms")
    records = evidence.ask(settlement.NAME, "Points", group=group)
    return [Point(*(record[name] for name in names)) for record in records]


def _point_record(evidence: Evidence, group: str, point: str) -> Record:
    records: Iterator[Record] = iter(evidence.ask(settlement.NAME, "Points", group=group))
    return next(record for record in records if record["point"] == point)


def _salt(held: Mapping[str, Any]) -> Record:
    """The salt beside a private value; those of older ledgers have none."""
    return {"salt": held["salt"]} if held.get("salt") else {}


def _with(listed: Sequence[Record], number: int) -> Record | None:
    return next((each for each in listed if each["first"] <= number < each["first"] + each["count"]), None)


def _told(share: Share) -> str:
    words = _columns({name: getattr(share, name) for name in COLUMNS})
    return words if share.certainty is Certainty.SETTLED else f"{words}, {share.certainty.word}: {share.reason}"


def _columns(values: Mapping[str, int | None]) -> str:
    names = {
        "allotted": "allotted",
        "self_consumed": "self-consumed",
        "surplus": "surplus",
        "from_grid": "from the grid",
    }
    return ", ".join(f"{words} {wh(values[name])}" for name, words in names.items())


def _add(sums: dict[str, int | None], share: Share | None) -> None:
    for name in sums:
        number, so_far = None if share is None else getattr(share, name), sums[name]
        sums[name] = None if number is None or so_far is None else so_far + number
