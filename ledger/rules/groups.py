"""Who shares: groups, their members, their measuring points, and the coefficients they agree on.

One half of the contract ``sharing``; the other settles by what stands here (:mod:`ledger.rules.settlement`).

Keys, public
    group/GROUP                             zone, length of periods, whose it is
    member/GROUP/MEMBER                     whose certificates read the member's results (every version is kept)
    point/GROUP/POINT                       a measuring point, from when, until when
    taken/GATEWAY/SUB/FROM                  which point a gateway's measuring point is
    agreement/GROUP/FROM                    who shares by which kind of coefficients from then on
    hours/GROUP/FROM/YEAR/DAY               that those of the hours ``24 DAY + 1`` to ``24 DAY + 24`` are there
Keys, private, in ``coefficients``
    agreement/GROUP/FROM                    members' coefficients
    hours/GROUP/FROM/YEAR/DAY               a row of them for each hour

Rules
- A group belongs to the organisation, a manager, that made it: its settlers alone change it.
- Names of members are pseudonyms: they are public. Who a name is, is in no contract.
- A measuring point is in one group at a time. What has begun is ended, never rewritten; no two stretches overlap.
- Coefficients of a period add up to exactly one. An agreement is never changed: a later one takes its place, from a
  time on that is not past. Only the first may begin in the past, where nothing was agreed.
- Everything begins and ends with a settlement period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.rules import hours, registry, salt, versions
from ledger.rules.batches import ERASER, MEMBER
from ledger.rules.record import Record, pack, unpack
from ledger.rules.sharing import ONE, PERIODS_MS, BadCoefficients, check
from ledger.rules.world import (
    Call,
    Caller,
    Declined,
    Function,
    Reason,
    State,
    integer,
    key,
    named,
    only,
    ordered,
    text,
    under,
)
from signer.grammar import SUB

SETTLER, AUDITOR, AGGREGATOR = "settler", "auditor", "aggregator"
"""Roles of people, in the attribute ``aigeco.role`` of their certificates."""

FIXED, HOURLY, BY_CONSUMPTION = "fixed", "hourly", "by consumption"
KINDS = (FIXED, HOURLY, BY_CONSUMPTION)
"""Coefficients: the same always; of each hour of the year; what each consumes of what all consume in that period."""

COEFFICIENTS = "coefficients"
"""The private collection."""

GENERATION, CONSUMPTION = "generation", "consumption"

MOST_MEMBERS = 1000
_HOURS_OF_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Agreement:
    """What members agreed on.

    Attributes:
        from_ms: it holds from then on.
        until_ms: to before then; None = no later one yet.
        members: names, ascending; coefficients follow their order.
    """

    group: str
    from_ms: int
    until_ms: int | None
    kind: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A measuring point of a group; ``member`` is empty for generation."""

    point: str
    kind: str
    member: str
    gateway: str
    sub: str
    from_ms: int
    until_ms: int | None


# ---- what is written


def create_group(state: State, call: Call) -> bytes:
    """``{"group","zone","period_ms"}``, once."""
    call.caller.need(SETTLER)
    if registry.MANAGER not in registry.organisation_roles(state, call.caller.organisation):
        raise Declined(Reason.FORBIDDEN, f"{call.caller.organisation} is no {registry.MANAGER} here")
    given = call.record()
    only(given, "group", "zone", "period_ms")
    name, zone, period_ms = named(given, "group"), text(given, "zone"), integer(given, "period_ms", 1, max(PERIODS_MS))
    if zone not in hours.ZONES or period_ms not in PERIODS_MS:
        words = f"zone {zone[:40]!r}, period_ms {period_ms}: out of {', '.join(hours.ZONES)}; {PERIODS_MS}"
        raise Declined(Reason.MALFORMED, words)
    record = {"group": name, "zone": zone, "period_ms": period_ms, "organisation": call.caller.organisation}
    return _once(state, call, key("group", name), record, f"group {name}")


def set_member(state: State, call: Call) -> bytes:
    """``{"group","member","organisation"}``: whose certificates with ``aigeco.member = member`` read its results."""
    given = call.record()
    only(given, "group", "member", "organisation")
    group = own_group(state, call, given)
    member = named(given, "member")
    record = {
        "group": group["group"],
        "member": member,
        "organisation": named(given, "organisation"),
        "by": call.by,
    }
    return pack(versions.change(state, key("member", group["group"]), member, record, call.time_ms))


def add_point(state: State, call: Call) -> bytes:
    """``{"group","point","kind","member","gateway","sub","from_ms"}``; no member for generation."""
    given = call.record()
    only(given, "group", "point", "kind", "member", "gateway", "sub", "from_ms")
    group = own_group(state, call, given)
    kind = text(given, "kind")
    if kind not in (GENERATION, CONSUMPTION):
        raise Declined(Reason.MALFORMED, f"kind: {kind[:40]!r}: {GENERATION} or {CONSUMPTION}")
    member = ""
    if kind == CONSUMPTION:
        member = known_member(state, group["group"], named(given, "member"))["member"]
    elif given.get("member"):
        raise Declined(Reason.MALFORMED, "member: generation is the group's, it is nobody's point")
    name, gateway, sub = named(given, "point"), named(given, "gateway"), text(given, "sub")
    if not SUB.fullmatch(sub):
        raise Declined(Reason.MALFORMED, f"sub: {sub[:90]!r}: letters, digits and hyphens are needed")
    from_ms = aligned(group, given, "from_ms")
    for _, value in state.scan(*under("taken", gateway, sub)):
        there = unpack(value)
        if there["until_ms"] is None or there["until_ms"] > from_ms:
            until = "without an end" if there["until_ms"] is None else f"until {there['until_ms']} ms"
            words = f"{gateway}/{sub} is point {there['point']} of group {there['group']} {until}: from_ms {from_ms}"
            raise Declined(Reason.CONFLICT, f"{words} overlaps (EndPoint)")
    record = {"group": group["group"], "point": name, "kind": kind, "member": member, "gateway": gateway, "sub": sub}
    record |= {"from_ms": from_ms, "until_ms": None, "by": call.by}
    answer = _once(state, call, key("point", group["group"], name), record, f"point {name}")
    state.put(key("taken", gateway, sub, ordered(from_ms)), pack(record))
    return answer


def end_point(state: State, call: Call) -> bytes:
    """``{"group","point","until_ms"}``, once."""
    given = call.record()
    only(given, "group", "point", "until_ms")
    group = own_group(state, call, given)
    place = key("point", group["group"], named(given, "point"))
    value = state.get(place)
    if value is None:
        raise Declined(Reason.UNKNOWN, f"group {group['group']} has no point {given['point']}")
    record = unpack(value)
    if record["until_ms"] is not None:
        raise Declined(Reason.CONFLICT, f"point {record['point']} has ended at {record['until_ms']} ms")
    until_ms = aligned(group, given, "until_ms")
    if until_ms <= record["from_ms"]:
        raise Declined(Reason.CONFLICT, f"until_ms {until_ms}: the point began at {record['from_ms']} ms")
    ended = pack({**record, "until_ms": until_ms, "ended_by": call.by})
    state.put(place, ended)
    state.put(key("taken", record["gateway"], record["sub"], ordered(record["from_ms"])), ended)
    return ended


def agree(state: State, call: Call) -> bytes:
    """``{"group","from_ms","kind"}``, secret ``coefficients`` ``{"members":{name: millionths},"salt"}``.

    When hourly there is no secret, and ``members`` is a list of names beside the kind.
    """
    given = call.record()
    group = own_group(state, call, given)
    kind, from_ms = text(given, "kind"), aligned(group, given, "from_ms")
    if kind not in KINDS:
        raise Declined(Reason.MALFORMED, f"kind: {kind[:40]!r}: one of {', '.join(KINDS)}")
    only(given, "group", "from_ms", "kind", *(["members"] if kind == HOURLY else []))
    secret = None if kind == HOURLY else call.hidden("coefficients")
    names, coefficients = _parts((given if secret is None else secret).get("members"), kind)
    for name in names:
        known_member(state, group["group"], name)
    there = agreements(state, group["group"])
    if there and from_ms <= there[-1].from_ms:
        words = f"from_ms {from_ms} overlaps the agreement from {there[-1].from_ms} ms on: a later one begins later"
        raise Declined(Reason.CONFLICT, words)
    if there and from_ms < call.time_ms:
        words = f"from_ms {from_ms} is past ({call.time_ms} ms): coefficients are agreed before they hold"
        raise Declined(Reason.CONFLICT, words)
    record = {"group": group["group"], "from_ms": from_ms, "kind": kind, "members": names, "by": call.by}
    place = key("agreement", group["group"], ordered(from_ms))
    state.put(place, pack(record))
    if secret is not None:
        kept = {"coefficients": coefficients, "salt": salt.given(secret)}
        state.private(COEFFICIENTS).put(place, pack(kept))
    return pack(record)


def put_hours(state: State, call: Call) -> bytes:
    """``{"group","from_ms","year","first_hour"}``, secret ``coefficients`` ``{"rows","salt"}``: whole days of 24 hours,
    a row of coefficients each hour."""
    given = call.record()
    only(given, "group", "from_ms", "year", "first_hour")
    secret = call.hidden("coefficients")
    group = own_group(state, call, given)
    from_ms, year = integer(given, "from_ms", 0, registry.LATEST_MS), integer(given, "year", 2002, 9998)
    agreement = next((there for there in agreements(state, group["group"]) if there.from_ms == from_ms), None)
    if agreement is None or agreement.kind != HOURLY:
        raise Declined(Reason.UNKNOWN, f"group {group['group']} has no hourly agreement from {from_ms} ms on")
    first, rows, most = integer(given, "first_hour", 1, 8784), secret.get("rows"), hours.hours_in(year)
    if not isinstance(rows, list) or not rows or len(rows) % _HOURS_OF_A_DAY or first % _HOURS_OF_A_DAY != 1:
        raise Declined(Reason.MALFORMED, "rows: whole days are needed, 24 rows each, the first at hour 1, 25, 49, ...")
    if first + len(rows) - 1 > most:
        raise Declined(Reason.MALFORMED, f"rows: hour {first + len(rows) - 1} of {year}, which has {most}")
    for hour, row in enumerate(rows, first):
        _check_row(row, len(agreement.members), hour)
    for day in range(first // _HOURS_OF_A_DAY, first // _HOURS_OF_A_DAY + len(rows) // _HOURS_OF_A_DAY):
        place = _day_key(agreement, year, day)
        if state.get(place) is not None:
            words = f"hours {day * 24 + 1} to {day * 24 + 24} of {year} are agreed: a later agreement changes them"
            raise Declined(Reason.EXISTS, words)
        start = day * _HOURS_OF_A_DAY + 1 - first
        kept = {"rows": rows[start : start + _HOURS_OF_A_DAY], "salt": salt.derived(place, salt.given(secret))}
        state.private(COEFFICIENTS).put(place, pack(kept))
        state.put(place, pack({"by": call.by}))
    return pack({"group": group["group"], "year": year, "first_hour": first, "hours": len(rows)})


# ---- what others ask


def reader(kind: str) -> Function:
    """All records of a kind in one group, by name or time."""

    def read(state: State, call: Call) -> bytes:
        given = call.record()
        only(given, "group")
        group = known_group(state, given)
        return pack([unpack(value) for _, value in state.scan(*under(kind, group["group"]))])

    return read


def read_taken(state: State, call: Call) -> bytes:
    """``{"gateway","sub"}``: which points a measuring point, or any of a gateway's, is or was; by name and time."""
    given = call.record()
    only(given, "gateway", "sub")
    area = ["taken", named(given, "gateway")]
    if given.get("sub") is not None:
        if not SUB.fullmatch(text(given, "sub")):
            raise Declined(Reason.MALFORMED, f"sub: {given['sub'][:90]!r}: letters, digits and hyphens are needed")
        area.append(given["sub"])
    return pack([unpack(value) for _, value in state.scan(*under(*area))])


def read_group(state: State, call: Call) -> bytes:
    """``{"group"}``."""
    given = call.record()
    only(given, "group")
    return pack(known_group(state, given))


def access(state: State, call: Call) -> bytes:
    """``{"group","member"}``: what the caller may do with a group and, named or not, a member. For other contracts.

    Answers: ``group`` (the record), ``settles``, ``erases``, ``reads`` (the member's results, or everybody's),
    ``is_member``.
    """
    given = call.record()
    only(given, "group", "member")
    group = known_group(state, given)
    member = None if given.get("member") is None else text(given, "member")
    if member is not None:
        known_member(state, group["group"], member)
    try:
        may_read(state, call.caller, group, member)
        reads = True
    except Declined:
        reads = False
    roles = call.caller.roles if call.caller.organisation == group["organisation"] else frozenset()
    own = member is not None and is_member(state, call.caller, group["group"], member)
    may = {"settles": SETTLER in roles, "erases": ERASER in roles, "reads": reads, "is_member": own}
    return pack({"group": group, **may})


def known_group(state: State, given: Record) -> Record:
    """The group that the arguments name."""
    name = named(given, "group")
    value = state.get(key("group", name))
    if value is None:
        raise Declined(Reason.UNKNOWN, f"there is no group {name}")
    return unpack(value)


def own_group(state: State, call: Call, given: Record, role: str = SETTLER) -> Record:
    """The group that the arguments name, for a settler of its organisation."""
    call.caller.need(role)
    group = known_group(state, given)
    if call.caller.organisation != group["organisation"]:
        words = f"group {group['group']} is {group['organisation']}'s: {call.caller.organisation} may not change it"
        raise Declined(Reason.FORBIDDEN, words)
    return group


def known_member(state: State, group: str, name: str) -> Record:
    """A member's record."""
    found = versions.current(state, key("member", group), name)
    if found is None:
        raise Declined(Reason.UNKNOWN, f"group {group} has no member {name[:60]!r}")
    return found


def agreements(state: State, group: str) -> list[Agreement]:
    """Every agreement of a group, the oldest first."""
    found = [unpack(value) for _, value in state.scan(*under("agreement", group))]
    ends = [*(record["from_ms"] for record in found[1:]), None][: len(found)]
    return [
        Agreement(group, record["from_ms"], end, record["kind"], tuple(record["members"]))
        for record, end in zip(found, ends, strict=True)
    ]


def points(state: State, group: str) -> list[Point]:
    """Every point of a group, by name."""
    found = [unpack(value) for _, value in state.scan(*under("point", group))]
    names = ("point", "kind", "member", "gateway", "sub", "from_ms", "until_ms")
    return [Point(*(record[name] for name in names)) for record in found]


def coefficients(state: State, agreement: Agreement) -> list[int]:
    """Millionths, by member; by consumption: for periods in which nobody consumes.

    Raises:
        Declined: this organisation does not hold them.
    """
    value = state.private(COEFFICIENTS).get(key("agreement", agreement.group, ordered(agreement.from_ms)))
    if value is None:
        words = f"the coefficients of {agreement.group} from {agreement.from_ms} ms on are not held here"
        raise Declined(Reason.UNKNOWN, words)
    found: list[int] = unpack(value)["coefficients"]
    return found


def day_of_hours(state: State, agreement: Agreement, year: int, day: int) -> list[list[int]]:
    """The rows of 24 hours.

    Raises:
        Declined: they are not there yet, or this organisation does not hold them.
    """
    value = state.private(COEFFICIENTS).get(_day_key(agreement, year, day))
    if value is None:
        words = f"group {agreement.group} has no coefficients for hours {day * 24 + 1} to {day * 24 + 24} of {year}"
        raise Declined(Reason.NOT_YET, f"{words} (PutHours)")
    rows: list[list[int]] = unpack(value)["rows"]
    return rows


def read_coefficients(state: State, call: Call) -> bytes:
    """``{"group","from_ms","member"}``, of an hourly agreement with ``year`` and ``day`` (from 0): members' millionths.

    Of one member if so asked. Answers ``members``: a number each, or 24 of them when hourly; of all with their salt.
    """
    given = call.record()
    only(given, "group", "from_ms", "year", "day", "member")
    group = known_group(state, given)
    member = None if given.get("member") is None else text(given, "member")
    may_read(state, call.caller, group, member)
    from_ms = integer(given, "from_ms", 0, registry.LATEST_MS)
    agreement = next((there for there in agreements(state, group["group"]) if there.from_ms == from_ms), None)
    if agreement is None or member not in (None, *agreement.members):
        whose = "" if member is None else f" with {member}"
        raise Declined(Reason.UNKNOWN, f"group {group['group']} has no agreement from {from_ms} ms on{whose}")
    columns: list[Any]
    place = key("agreement", agreement.group, ordered(agreement.from_ms))
    if agreement.kind == HOURLY:
        year, day = integer(given, "year", 2002, 9998), integer(given, "day", 0, 365)
        rows, place = day_of_hours(state, agreement, year, day), _day_key(agreement, year, day)
        columns = [list(column) for column in zip(*rows, strict=True)]
    else:
        columns = coefficients(state, agreement)
    of_all = dict(zip(agreement.members, columns, strict=True))
    shown: Record = {"members": of_all if member is None else {member: of_all[member]}}
    if member is None:  # who sees all of a value may compare it with its digest
        held, put = state.private(COEFFICIENTS).get(place), state.get(place)
        shown |= {"salt": unpack(held or b"{}").get("salt", ""), "by": unpack(put or b"{}").get("by")}
    return pack({"group": group["group"], "from_ms": from_ms, "kind": agreement.kind, **shown})


def may_read(state: State, caller: Caller, group: Record, member: str | None) -> None:
    """Everybody's results: settlers of the group's organisation, settlers and auditors of distributors and auditors.
    One member's results: also certificates of that member's organisation that name the member.

    Raises:
        Declined: the caller is none of them.
    """
    if not caller.roles.isdisjoint((SETTLER, AUDITOR)):
        if caller.organisation == group["organisation"]:
            return
        roles = registry.organisation_roles(state, caller.organisation)
        if registry.AUDITOR in roles or registry.DISTRIBUTOR in roles:
            return
    if member is not None and is_member(state, caller, group["group"], member):
        return
    whose = "everybody's results" if member is None else f"the results of {member}"
    raise Declined(Reason.FORBIDDEN, f"{caller.name} of {caller.organisation} may not read {whose}")


def is_member(state: State, caller: Caller, group: str, member: str) -> bool:
    """Whether the caller's certificate is this member's own."""
    if caller.attributes.get(MEMBER) != member:
        return False
    return bool(known_member(state, group, member)["organisation"] == caller.organisation)


def aligned(group: Record, given: Record, name: str) -> int:
    """An instant at which a period of the group begins."""
    at_ms = integer(given, name, 0, registry.LATEST_MS)
    if at_ms % group["period_ms"]:
        raise Declined(Reason.MALFORMED, f"{name}: {at_ms}: periods of {group['period_ms']} ms begin at multiples")
    return at_ms


def _once(state: State, call: Call, place: str, record: Record, what: str) -> bytes:
    if state.get(place) is not None:
        raise Declined(Reason.EXISTS, f"{what} exists already")
    value = pack({**record, "by": call.by})
    state.put(place, value)
    return value


def _parts(given: object, kind: str) -> tuple[list[str], list[int]]:
    wanted = list if kind == HOURLY else dict
    if not isinstance(given, wanted) or not 0 < len(given) <= MOST_MEMBERS:
        words = '["a","b"]' if kind == HOURLY else '{"a":600000,"b":400000}'
        raise Declined(Reason.MALFORMED, f"members: {words} is needed, of 1 to {MOST_MEMBERS} members")
    if any(not isinstance(name, str) for name in given) or len(set(given)) != len(given):
        raise Declined(Reason.MALFORMED, "members: names are needed, each once")
    names = sorted(given)
    if not isinstance(given, dict):
        return names, []
    coefficients = [given[name] for name in names]
    _check_row(coefficients, len(names), None)
    return names, coefficients


def _check_row(row: object, members: int, hour: int | None) -> None:
    place = "the coefficients" if hour is None else f"the coefficients of hour {hour}"
    if not isinstance(row, list) or len(row) != members:
        raise Declined(Reason.MALFORMED, f"{place}: {members} are needed, one a member by name")
    if any(type(number) is not int for number in row):
        raise Declined(Reason.MALFORMED, f"{place}: whole millionths are needed, {ONE} = 1")
    try:
        check(row, hour)
    except BadCoefficients as error:
        raise Declined(Reason.MALFORMED, str(error)) from error


def _day_key(agreement: Agreement, year: int, day: int) -> str:
    return key("hours", agreement.group, ordered(agreement.from_ms), str(year), f"{day:03}")
