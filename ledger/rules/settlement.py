"""Contract ``sharing``: a group's periods are settled, version after version, and read by those who may.

Says who shares and by which coefficients in :mod:`ledger.rules.groups`, computes in :mod:`ledger.rules.sharing`, takes
registers from the contract ``measurements``.

Keys, public
    run/GROUP/FIRST                      the last version of a stretch of periods that was settled at once
    settled/GROUP/FIRST/VERSION          every version: who, when, how many periods are settled, provisional, open
    erased/GROUP/MEMBER/FIRST            that a member's results of a stretch were taken away
Keys, private, in ``results``
    share/GROUP/FIRST/VERSION/MEMBER     one member's Wh
    source/GROUP/FIRST/VERSION/POINT     the boundaries and exchanges that the numbers were made from

Rules
- What a person consumes is in no argument, no public key and no answer of a function that writes.
- Asked again with nothing new, the same version is answered and nothing is written. New data make the next version; old
  versions stay.
- A stretch that overlaps one that was settled, without being it, is declined: no period is in two stretches.
- A stretch lies within one agreement, and every point is there for all of it or for none of it.
- Numbers that are not known are null, with a reason (:mod:`ledger.rules.registers`).
- What was made from registers that have been erased since then stays: it is not settled again.
- Every private value has a salt (:mod:`ledger.rules.salt`), derived from those of what it is made from.
- Totals, for an aggregator, are of five members at least and only where nobody is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.rules import batches, boundaries, groups, hours, registry, salt, sharing
from ledger.rules.groups import Agreement, Point
from ledger.rules.record import Record, pack, unpack
from ledger.rules.registers import Certainty, Energy, Reads, energy, reads, total
from ledger.rules.sharing import Share
from ledger.rules.world import Call, Contract, Declined, Reason, State, integer, key, only, ordered, text, under

NAME = "sharing"
RESULTS = "results"

MOST_PERIODS = 31 * 96
"""Of one stretch."""

MOST_READINGS = 20_000
"""Points times periods of one stretch: 2 MB of registers. Two days of quarter hours of 100 points."""

MOST_WHY = 100
"""Characters that are kept of a reason; it is public, and stays."""

LEAST_MEMBERS = 5
"""Of a total: what fewer consume tells too much about each."""

_LONGEST_MS = MOST_PERIODS * max(sharing.PERIODS_MS)


@dataclass(frozen=True, slots=True)
class Source:
    """What the ledger holds of one point: boundaries and exchanges, packed; and a salt."""

    at: list[list[Any]]
    change: list[list[Any]]
    salt: str


@dataclass(frozen=True, slots=True)
class _Stretch:
    group: Record
    first_ms: int
    count: int

    @property
    def period_ms(self) -> int:
        return int(self.group["period_ms"])

    @property
    def end_ms(self) -> int:
        return self.first_ms + self.count * self.period_ms

    def starts_ms(self) -> range:
        return range(self.first_ms, self.end_ms, self.period_ms)


# ---- settling


def _settle(state: State, call: Call) -> bytes:
    """``{"group","first_ms","count"}``: settle these periods, or settle them again."""
    given = call.record()
    only(given, "group", "first_ms", "count")
    group = groups.own_group(state, call, given)
    count = integer(given, "count", 1, MOST_PERIODS)
    stretch = _Stretch(group, groups.aligned(group, given, "first_ms"), count)
    last = _last_run(state, stretch)
    agreement = _agreement(state, stretch)
    points = _points(state, stretch)
    sources = _sources(state, stretch, points)
    shares = _shares(state, stretch, agreement, points, sources)
    members = {name: _packed(row) for name, row in zip(agreement.members, shares, strict=True)}
    if last is not None and _unchanged(state, last, members):
        return pack(last)
    if last is not None:
        _all_there(state, last, points, sources)
    version = 1 if last is None else last["version"] + 1
    record = {
        "group": group["group"],
        "first_ms": stretch.first_ms,
        "count": count,
        "period_ms": stretch.period_ms,
        "version": version,
        "agreement_ms": agreement.from_ms,
        "kind": agreement.kind,
        "members": list(agreement.members),
        "points": [point.point for point in points],
        "periods": _counts(shares),
        "time_ms": call.time_ms,
        "by": call.by,
    }
    place = (group["group"], ordered(stretch.first_ms), ordered(version))
    results = state.private(RESULTS)
    for name, packed in members.items():
        where = key("share", *place, name)
        results.put(where, pack(packed | {"salt": salt.derived(where, *_salts_of(name, points, sources))}))
    for point, source in zip(points, sources, strict=True):
        where = key("source", *place, point.point)
        kept = {"at": source.at, "change": source.change, "salt": salt.derived(where, source.salt)}
        results.put(where, pack(kept))
    state.put(key("run", *place[:2]), pack(record))
    state.put(key("settled", *place), pack(record))
    state.tell(
        "settled", pack({"group": group["group"], "first_ms": stretch.first_ms, "count": count, "version": version})
    )
    return pack(record)


def _last_run(state: State, stretch: _Stretch) -> Record | None:
    """The last version of this very stretch.

    Raises:
        Declined: another stretch overlaps this one.
    """
    last = None
    for run in _runs(state, stretch.group["group"], stretch.first_ms, stretch.end_ms):
        if (run["first_ms"], run["count"]) != (stretch.first_ms, stretch.count):
            words = f"{stretch.count} periods from {stretch.first_ms} ms overlap the {run['count']} settled from"
            raise Declined(Reason.CONFLICT, f"{words} {run['first_ms']} ms: settle those again, or the ones after them")
        last = run
    return last


def _runs(state: State, group: str, from_ms: int, until_ms: int) -> Iterator[Record]:
    """The last version of every stretch with a period from ``from_ms`` to before ``until_ms``, by time."""
    start, end = (key("run", group, ordered(at_ms)) for at_ms in (max(0, from_ms - _LONGEST_MS), until_ms))
    for _, value in state.scan(start, end):
        run = unpack(value)
        if run["first_ms"] + run["count"] * run["period_ms"] > from_ms:
            yield run


def _agreement(state: State, stretch: _Stretch) -> Agreement:
    found = None
    for there in groups.agreements(state, stretch.group["group"]):
        if there.from_ms <= stretch.first_ms:
            found = there
    if found is None:
        raise Declined(Reason.NOT_YET, f"nothing is agreed for {stretch.first_ms} ms (Agree)")
    if found.until_ms is not None and found.until_ms < stretch.end_ms:
        raise Declined(
            Reason.CONFLICT, f"another agreement begins at {found.until_ms} ms: settle up to then, and from then"
        )
    return found


def _points(state: State, stretch: _Stretch) -> list[Point]:
    """The points there in the whole stretch.

    Raises:
        Declined: one begins or ends within, or there is no generation.
    """
    found = []
    for point in groups.points(state, stretch.group["group"]):
        until_ms = registry.LATEST_MS if point.until_ms is None else point.until_ms
        if point.from_ms >= stretch.end_ms or until_ms <= stretch.first_ms:
            continue
        if point.from_ms > stretch.first_ms or until_ms < stretch.end_ms:
            at_ms = point.from_ms if point.from_ms > stretch.first_ms else until_ms
            raise Declined(
                Reason.CONFLICT, f"point {point.point} changes at {at_ms} ms: settle up to then, and from then"
            )
        found.append(point)
    if not any(point.kind == groups.GENERATION for point in found):
        raise Declined(Reason.NOT_YET, f"group {stretch.group['group']} generates nowhere at {stretch.first_ms} ms")
    if len(found) * stretch.count > MOST_READINGS:
        words = f"{len(found)} points in {stretch.count} periods: at most {MOST_READINGS} readings at once"
        raise Declined(Reason.MALFORMED, words)
    return found


def _sources(state: State, stretch: _Stretch, points: Sequence[Point]) -> list[Source]:
    """Of each point the boundaries of its periods and its exchanges, as ``measurements`` answers them."""
    asked = {
        "points": [[point.gateway, point.sub] for point in points],
        "from_ms": stretch.first_ms,
        "until_ms": stretch.end_ms,
    }
    answer = unpack(state.ask(batches.NAME, "Boundaries", pack(asked)))
    found = []
    for listed in answer["points"]:
        at = [item for item in listed["at"] if item[0] % stretch.period_ms == 0]
        found.append(Source(at, listed["change"], listed["salt"]))
    return found


def _salts_of(member: str, points: Sequence[Point], sources: Sequence[Source]) -> list[str]:
    """The salts of what a member's share is made from: the generation, and its own consumption."""
    pairs = zip(points, sources, strict=True)
    return [source.salt for point, source in pairs if point.kind == groups.GENERATION or point.member == member]


def _shares(
    state: State, stretch: _Stretch, agreement: Agreement, points: Sequence[Point], sources: Sequence[Source]
) -> list[list[Share]]:
    """Of each member, every period."""
    rows = _Rows(state, stretch.group["zone"], agreement)
    shares: list[list[Share]] = [[] for _ in agreement.members]
    for period in computed(stretch.starts_ms(), stretch.period_ms, agreement, registers(points, sources), rows.at):
        for row, share in zip(shares, period, strict=True):
            row.append(share)
    return shares


@dataclass(frozen=True, slots=True)
class Registers:
    """What the numbers of a stretch are made from.

    Attributes:
        generation: of the group.
        consumption: of each member.
    """

    generation: Sequence[Reads]
    consumption: Mapping[str, Sequence[Reads]]


def registers(points: Sequence[Point], sources: Sequence[Source]) -> Registers:
    """The registers of points out of their boundaries and exchanges, as records hold them."""
    generation: list[Reads] = []
    consumption: dict[str, list[Reads]] = {}
    for point, source in zip(points, sources, strict=True):
        register = reads(
            [boundaries.unpack(item) for item in source.at],
            [boundaries.unpack_change(item) for item in source.change],
            exported=point.kind == groups.GENERATION,
        )
        if point.kind == groups.GENERATION:
            generation.append(register)
        else:
            consumption.setdefault(point.member, []).append(register)
    return Registers(generation, consumption)


def computed(
    starts_ms: Iterable[int],
    period_ms: int,
    agreement: Agreement,
    held: Registers,
    rows: Callable[[int], Sequence[int]],
) -> Iterator[list[Share]]:
    """Of every period, each member's share, members in ascending order of their names. Pure.

    Args:
        rows: the coefficients of the period that begins then.
    """
    how = sharing.by_consumption if agreement.kind == groups.BY_CONSUMPTION else sharing.by_coefficients
    for start_ms in starts_ms:
        end_ms = start_ms + period_ms
        generated = _sum(held.generation, start_ms, end_ms)
        consumed = [_sum(held.consumption.get(name, ()), start_ms, end_ms) for name in agreement.members]
        yield how(generated, consumed, rows(start_ms), start_ms // period_ms)


def _sum(registers: Sequence[Reads], start_ms: int, end_ms: int) -> Energy:
    return total(energy(register, start_ms, end_ms) for register in registers)


class _Rows:
    """The coefficients of each period; days of hours are read once."""

    def __init__(self, state: State, zone: str, agreement: Agreement) -> None:
        self._state, self._zone, self._agreement = state, zone, agreement
        self._days: dict[tuple[int, int], list[list[int]]] = {}
        self._same = [] if agreement.kind == groups.HOURLY else groups.coefficients(state, agreement)

    def at(self, start_ms: int) -> Sequence[int]:
        if self._agreement.kind != groups.HOURLY:
            return self._same
        year, hour = hours.hour_of_year(start_ms, self._zone)
        day = (year, (hour - 1) // 24)
        if day not in self._days:
            self._days[day] = groups.day_of_hours(self._state, self._agreement, *day)
        return self._days[day][(hour - 1) % 24]


def _packed(row: Sequence[Share]) -> Record:
    return {
        "allotted": [share.allotted for share in row],
        "consumed": [share.consumed for share in row],
        "state": [int(share.certainty) for share in row],
        "reason": [share.reason for share in row],
    }


def _unpacked(record: Record) -> list[Share]:
    columns = zip(record["allotted"], record["consumed"], record["state"], record["reason"], strict=True)
    return [Share(allotted, consumed, Certainty(state), reason) for allotted, consumed, state, reason in columns]


def _counts(shares: Sequence[Sequence[Share]]) -> Record:
    """How many periods are settled, provisional, open: each as its least certain member."""
    worst = [max(share.certainty for share in period) for period in zip(*shares, strict=True)]
    return {kind.word: worst.count(kind) for kind in Certainty}


def _unchanged(state: State, last: Record, members: dict[str, Record]) -> bool:
    results = state.private(RESULTS)
    place = (last["group"], ordered(last["first_ms"]), ordered(last["version"]))
    values = results.get_many([key("share", *place, name) for name in last["members"]])
    held = dict(zip(last["members"], values, strict=True))
    gone = next((name for name in last["members"] if held[name] is None), None)
    if gone is not None:
        words = f"the results of {gone} from {last['first_ms']} ms on are erased, or not held by this organisation"
        raise Declined(Reason.CONFLICT, f"{words}: what stands there cannot be settled again")
    return {name: {**unpack(value), "salt": ""} for name, value in held.items() if value is not None} == {
        name: {**packed, "salt": ""} for name, packed in members.items()
    }


def _all_there(state: State, last: Record, points: Sequence[Point], sources: Sequence[Source]) -> None:
    """What the last version was made from is still here: a number does not give way to the lack of one.

    Raises:
        Declined: a register was erased since then.
    """
    results, there = state.private(RESULTS), dict(zip((point.point for point in points), sources, strict=True))
    place = (last["group"], ordered(last["first_ms"]), ordered(last["version"]))
    values = results.get_many([key("source", *place, point) for point in last["points"]])
    for point, value in zip(last["points"], values, strict=True):
        before, now = unpack(value or b"{}"), there.get(point, Source([], [], ""))
        gone = [item for item in before.get("at", []) if item not in now.at]
        gone += [item for item in before.get("change", []) if item not in now.change]
        if value is None or gone:
            what = f"registers of {point} that version {last['version']} was made from are erased"
            raise Declined(Reason.CONFLICT, f"{what}, or not held by this organisation: it stays as it is")


# ---- erasing


def _erase(state: State, call: Call) -> bytes:
    """``{"group","member","from_ms","until_ms","why"}``: take away a member's results of the stretches of that time.

    Every version of each stretch that has a period in it.
    """
    given = call.record()
    only(given, "group", "member", "from_ms", "until_ms", "why")
    group = groups.own_group(state, call, given, batches.ERASER)
    why = text(given, "why")[:MOST_WHY]
    member = groups.known_member(state, group["group"], text(given, "member"))["member"]
    from_ms = integer(given, "from_ms", 0, registry.LATEST_MS)
    until_ms = integer(given, "until_ms", from_ms + 1, registry.LATEST_MS)
    mine = [point.point for point in groups.points(state, group["group"]) if point.member == member]
    erased, results = 0, state.private(RESULTS)
    for run in _runs(state, group["group"], from_ms, until_ms):
        if member not in run["members"]:
            continue
        erased += 1
        for version in range(1, run["version"] + 1):
            place = (group["group"], ordered(run["first_ms"]), ordered(version))
            results.purge(key("share", *place, member))
            for point in mine:
                if point in run["points"]:
                    results.purge(key("source", *place, point))
        done = {"group": group["group"], "member": member, "first_ms": run["first_ms"], "why": why}
        done |= {"time_ms": call.time_ms, "by": call.by}
        state.put(key("erased", group["group"], member, ordered(run["first_ms"])), pack(done))
    return pack({"group": group["group"], "member": member, "stretches": erased})


# ---- reading


def _list_runs(state: State, call: Call) -> bytes:
    """``{"group","from_ms","until_ms"}``: the last version of each stretch."""
    given = call.record()
    only(given, "group", "from_ms", "until_ms")
    group = groups.known_group(state, given)
    from_ms = integer(given, "from_ms", 0, registry.LATEST_MS)
    return pack(list(_runs(state, group["group"], from_ms, integer(given, "until_ms", from_ms, registry.LATEST_MS))))


def _versions(state: State, call: Call) -> bytes:
    """``{"group","first_ms"}``: every version of one stretch, the oldest first."""
    given = call.record()
    only(given, "group", "first_ms")
    group = groups.known_group(state, given)
    first = ordered(integer(given, "first_ms", 0, registry.LATEST_MS))
    return pack([unpack(value) for _, value in state.scan(*under("settled", group["group"], first))])


def _results(state: State, call: Call) -> bytes:
    """``{"group","first_ms","version","member"}``: members' Wh; of one member, of the last version, if so asked."""
    given = call.record()
    only(given, "group", "first_ms", "version", "member")
    group = groups.known_group(state, given)
    member = None if given.get("member") is None else text(given, "member")
    groups.may_read(state, call.caller, group, member)
    run = _version(state, group, given)
    names = run["members"] if member is None else [member]
    held = zip(names, _kept(state, run, names), strict=True)
    found = {name: _told(_unpacked(record)) | {"salt": record.get("salt", "")} for name, record in held}
    return pack({"run": run, "members": found})


def _source(state: State, call: Call) -> bytes:
    """``{"group","first_ms","version","point"}``: the boundaries that a point's numbers were made from."""
    given = call.record()
    only(given, "group", "first_ms", "version", "point")
    group = groups.known_group(state, given)
    point = next((there for there in groups.points(state, group["group"]) if there.point == given.get("point")), None)
    if point is None:
        raise Declined(Reason.UNKNOWN, f"group {group['group']} has no point {str(given.get('point'))[:60]!r}")
    groups.may_read(state, call.caller, group, point.member or None)
    run = _version(state, group, given)
    place = key("source", group["group"], ordered(run["first_ms"]), ordered(run["version"]), point.point)
    value = state.private(RESULTS).get(place)
    if value is None:
        raise Declined(Reason.UNKNOWN, f"point {point.point} has no part in that, or its registers are not held here")
    return pack({"run": run, "point": point.point, "gateway": point.gateway, "sub": point.sub, **unpack(value)})


def _totals(state: State, call: Call) -> bytes:
    """``{"group","first_ms","version"}``: the whole group's Wh, for an aggregator."""
    call.caller.need(groups.AGGREGATOR, groups.AUDITOR, groups.SETTLER)
    given = call.record()
    only(given, "group", "first_ms", "version")
    group = groups.known_group(state, given)
    there = set(registry.organisation_roles(state, call.caller.organisation))
    if there.isdisjoint({registry.AGGREGATOR, registry.AUDITOR, registry.DISTRIBUTOR, registry.MANAGER}):
        raise Declined(Reason.FORBIDDEN, f"{call.caller.organisation} has no role here that sees totals")
    run = _version(state, group, given)
    if len(run["members"]) < LEAST_MEMBERS:
        words = f"group {group['group']} has {len(run['members'])} members: totals are of {LEAST_MEMBERS} at least"
        raise Declined(Reason.FORBIDDEN, words)
    sums: Record = {name: [] for name in ("allotted", "consumed", "self_consumed", "surplus", "from_grid")}
    for period in zip(*_held(state, run, run["members"]), strict=True):
        for name, column in sums.items():
            parts = [getattr(share, name) for share in period]
            column.append(None if None in parts else sum(parts))
    return pack({"run": run, "totals": sums})


def _statement(state: State, call: Call) -> bytes:
    """``{"group","member","year","month","buy","sell"}``: simplified compensation of one legal month.

    Prices are micro-euro per kWh: one for the month, or one for each of its hours as they pass.
    """
    given = call.record()
    only(given, "group", "member", "year", "month", "buy", "sell")
    group, member = groups.known_group(state, given), text(given, "member")
    groups.may_read(state, call.caller, group, member)
    year, month = integer(given, "year", 2002, 9998), integer(given, "month", 1, 12)
    start_ms, end_ms = hours.month_ms(year, month, group["zone"])
    shares = _month(state, group, member, start_ms, end_ms)
    each = hours.HOUR_MS // group["period_ms"]
    prices = [_prices(given, name, (end_ms - start_ms) // hours.HOUR_MS, each) for name in ("buy", "sell")]
    found = sharing.statement(shares, *prices)
    counts = sharing.counts(shares)
    names = ("allotted", "consumed", "self_consumed", "surplus", "from_grid")
    money = ("bought", "surplus_value", "compensated", "to_pay")
    return pack(
        {
            "group": group["group"],
            "member": member,
            "year": year,
            "month": month,
            "provisional": counts[Certainty.PROVISIONAL.word],
            "wh": {name: getattr(found, name) for name in names},
            "cents": {name: getattr(found, name) for name in money},
        }
    )


def _month(state: State, group: Record, member: str, start_ms: int, end_ms: int) -> list[Share]:
    """Every period of a month.

    Raises:
        Declined: one is not settled yet, or open.
    """
    shares, due_ms = [], start_ms
    for run in _runs(state, group["group"], start_ms, end_ms):
        if member not in run["members"]:
            continue
        (row,) = _held(state, run, [member])
        for number, share in enumerate(row):
            at_ms = run["first_ms"] + number * run["period_ms"]
            if start_ms <= at_ms < end_ms:
                if at_ms != due_ms:
                    break
                if share.certainty is Certainty.OPEN:
                    raise Declined(Reason.NOT_YET, f"the period from {at_ms} ms is open: {share.reason}")
                shares.append(share)
                due_ms += run["period_ms"]
    if due_ms != end_ms:
        raise Declined(Reason.NOT_YET, f"the period from {due_ms} ms is not settled (Settle)")
    return shares


def _prices(given: Record, name: str, count: int, each: int) -> list[int]:
    value = given.get(name)
    if isinstance(value, list):
        if len(value) != count or any(type(price) is not int for price in value):
            raise Declined(Reason.MALFORMED, f"{name}: {count} whole prices are needed, one an hour of the month")
        return [price for price in value for _ in range(each)]
    return [integer(given, name, -(10**9), 10**9)] * (count * each)


def _version(state: State, group: Record, given: Record) -> Record:
    first = ordered(integer(given, "first_ms", 0, registry.LATEST_MS))
    place = key("run", group["group"], first)
    if given.get("version") is not None:
        place = key("settled", group["group"], first, ordered(integer(given, "version", 1, 1 << 32)))
    value = state.get(place)
    if value is None:
        raise Declined(Reason.UNKNOWN, f"no such stretch from {given['first_ms']} ms, or no such version of it")
    return unpack(value)


def _held(state: State, run: Record, names: Sequence[str]) -> list[list[Share]]:
    return [_unpacked(record) for record in _kept(state, run, names)]


def _kept(state: State, run: Record, names: Sequence[str]) -> list[Record]:
    place, results = (run["group"], ordered(run["first_ms"]), ordered(run["version"])), state.private(RESULTS)
    found = []
    values = results.get_many([key("share", *place, name) for name in names])
    for name, value in zip(names, values, strict=True):
        if value is None:
            words = f"{name} has no part in that, was erased, or is not held by this organisation"
            raise Declined(Reason.UNKNOWN, words)
        found.append(unpack(value))
    return found


def _told(row: Sequence[Share]) -> Record:
    names = ("allotted", "consumed", "self_consumed", "surplus", "from_grid")
    columns: Record = {name: [getattr(share, name) for share in row] for name in names}
    return columns | {"state": [share.certainty.word for share in row], "reason": [share.reason for share in row]}


CONTRACT = Contract(
    NAME,
    {
        "CreateGroup": groups.create_group,
        "SetMember": groups.set_member,
        "AddPoint": groups.add_point,
        "EndPoint": groups.end_point,
        "Agree": groups.agree,
        "PutHours": groups.put_hours,
        "Coefficients": groups.read_coefficients,
        "Settle": _settle,
        "Erase": _erase,
        "Access": groups.access,
        "Group": groups.read_group,
        "Members": groups.reader("member"),
        "Points": groups.reader("point"),
        "Agreements": groups.reader("agreement"),
        "Erased": groups.reader("erased"),
        "Taken": groups.read_taken,
        "Runs": _list_runs,
        "Versions": _versions,
        "Results": _results,
        "Source": _source,
        "Totals": _totals,
        "Statement": _statement,
    },
    (RESULTS, groups.COEFFICIENTS),
)
