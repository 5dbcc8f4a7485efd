"""Contract ``exchanges``: what one member's surplus gave to another member in each period, and disputes about it.

Takes the surpluses and deficits from the contract ``sharing``, computes in :mod:`ledger.rules.transfers`.

Keys, public
    order/GROUP/SELLER/BUYER/FROM       a standing order: offered, standing, until when
    last/GROUP/FIRST                    the last version of a stretch of periods
    recorded/GROUP/FIRST/VERSION        every version: by which version of the settlement, how many periods are open
    dispute/GROUP/FIRST/DISPUTE         who objects to which version, and what came of it
    erased/GROUP/MEMBER/FIRST           that a member's part in a stretch was taken away
Keys, private, in ``transfers``
    terms/GROUP/SELLER/BUYER/FROM       limit and price of an order
    part/GROUP/FIRST/VERSION/MEMBER     what a member gave, received, sent to the grid and took from it
    words/GROUP/FIRST/DISPUTE           what the member objects to

Rules
- An order stands when seller and buyer have said the same terms before it begins; either ends it, for times to come.
- A pair has one order at a time.
- Where a member's numbers are open, nobody's transfers of that period are made up: the period is open.
- Recorded again with nothing new, the same version is answered. A new version of the settlement makes a new version
  here; old ones stay.
- A dispute is upheld only when a newer version is there, which both sides can compare with the disputed one.
- What a member had from another is part of both records: erased is the one who asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.rules import batches, registry, salt, settlement, transfers
from ledger.rules.record import Record, pack, unpack
from ledger.rules.transfers import Exchanged, Order
from ledger.rules.world import Call, Contract, Declined, Reason, State, integer, key, named, only, ordered, text, under

NAME = "exchanges"
TRANSFERS = "transfers"

OFFERED, STANDING = "offered", "standing"
RAISED, UPHELD, REJECTED = "raised", "upheld", "rejected"

MOST_WH = 10**9
MOST_PRICE = 10**9
_MAX_WORDS = 1000
_TERMS = ("limit_wh", "price")
_WHOSE = ("group", "member")


# ---- standing orders


def _offer(state: State, call: Call) -> bytes:
    """``{"group","seller","buyer","from_ms"}``, secret ``terms`` ``{"limit_wh","price","salt"}``: by the seller."""
    given = call.record()
    only(given, "group", "seller", "buyer", "from_ms")
    group = _party(state, given, "seller")
    _access(state, given, "buyer")
    seller, buyer = text(given, "seller"), text(given, "buyer")
    if seller == buyer:
        raise Declined(Reason.MALFORMED, f"{seller} cannot sell to itself")
    from_ms = _aligned(group, given, "from_ms", call)
    for there in _orders(state, group["group"], seller, buyer):
        if there["until_ms"] is None or there["until_ms"] > from_ms:
            words = f"{seller} and {buyer} have an order from {there['from_ms']} ms: from_ms {from_ms} overlaps"
            raise Declined(Reason.CONFLICT, f"{words} (EndOrder)")
    record = {"group": group["group"], "seller": seller, "buyer": buyer, "from_ms": from_ms, "until_ms": None}
    record |= {"state": OFFERED, "offered_by": call.by}
    place = (group["group"], seller, buyer, ordered(from_ms))
    kept = _terms(call) | {"salt": salt.given(call.hidden("terms"))}
    state.private(TRANSFERS).put(key("terms", *place), pack(kept))
    state.put(key("order", *place), pack(record))
    return pack(record)


def _accept(state: State, call: Call) -> bytes:
    """The same arguments and the same terms as the offer's: by the buyer, before the order begins."""
    given = call.record()
    only(given, "group", "seller", "buyer", "from_ms")
    group = _party(state, given, "buyer")
    record, place = _order(state, group["group"], given)
    if record["state"] != OFFERED or record["until_ms"] is not None:
        raise Declined(Reason.CONFLICT, f"the order from {record['from_ms']} ms is {record['state']} already, or ended")
    _aligned(group, given, "from_ms", call)
    kept = unpack(state.private(TRANSFERS).get(key("terms", *place)) or b"{}")
    if {name: kept.get(name) for name in _TERMS} != _terms(call):
        raise Declined(Reason.CONFLICT, "terms: these are not the terms that the seller offers")
    record |= {"state": STANDING, "accepted_by": call.by}
    state.put(key("order", *place), pack(record))
    return pack(record)


def _end_order(state: State, call: Call) -> bytes:
    """``{"group","seller","buyer","from_ms","until_ms"}``: by either."""
    given = call.record()
    only(given, "group", "seller", "buyer", "from_ms", "until_ms")
    own = [_access(state, given, role) for role in ("seller", "buyer")]
    if not any(access["is_member"] for access in own):
        raise Declined(Reason.FORBIDDEN, "an order is its seller's and its buyer's to end")
    record, place = _order(state, own[0]["group"]["group"], given)
    if record["until_ms"] is not None:
        raise Declined(Reason.CONFLICT, f"the order has ended at {record['until_ms']} ms")
    until_ms = _aligned(own[0]["group"], given, "until_ms", call)
    record |= {"until_ms": max(until_ms, record["from_ms"]), "ended_by": call.by}
    state.put(key("order", *place), pack(record))
    return pack(record)


def _terms(call: Call) -> Record:
    terms = call.hidden("terms")
    only(terms, *_TERMS, "salt")
    return {"limit_wh": integer(terms, "limit_wh", 1, MOST_WH), "price": integer(terms, "price", 0, MOST_PRICE)}


def _orders(state: State, *parts: str) -> list[Record]:
    return [unpack(value) for _, value in state.scan(*under("order", *parts))]


def _order(state: State, group: str, given: Record) -> tuple[Record, tuple[str, ...]]:
    from_ms = integer(given, "from_ms", 0, registry.LATEST_MS)
    place = (group, text(given, "seller"), text(given, "buyer"), ordered(from_ms))
    value = state.get(key("order", *place))
    if value is None:
        raise Declined(Reason.UNKNOWN, f"{place[1]} offers {place[2]} nothing from {from_ms} ms on")
    return unpack(value), place


# ---- recording


def _record(state: State, call: Call) -> bytes:
    """``{"group","first_ms"}``: the transfers of a stretch that ``sharing`` has settled, in its last version."""
    given = call.record()
    only(given, "group", "first_ms")
    group = _settler(state, given)
    asked = {"group": group["group"], "first_ms": integer(given, "first_ms", 0, registry.LATEST_MS)}
    settled = unpack(state.ask(settlement.NAME, "Results", pack(asked)))
    run, names = settled["run"], settled["run"]["members"]
    parts: dict[str, Record] = {name: {"given": [], "received": [], "to_grid": [], "from_grid": []} for name in names}
    orders, still_open = _standing(state, run), 0
    for number in range(run["count"]):
        start_ms = run["first_ms"] + number * run["period_ms"]
        found = _period([settled["members"][name] for name in names], number, start_ms, run["period_ms"], orders)
        still_open += found is None
        _take(parts, names, number, found)
    place = (group["group"], ordered(run["first_ms"]))
    value = state.get(key("last", *place))
    last = None if value is None else unpack(value)
    if last is not None and _unchanged(state, last, parts):
        return pack(last)
    version = 1 if last is None else last["version"] + 1
    record = {name: run[name] for name in ("group", "first_ms", "count", "period_ms", "members")}
    record |= {"version": version, "settlement": run["version"], "open": still_open, "by": call.by}
    for name, part in parts.items():
        where = key("part", *place, ordered(version), name)
        kept = part | {"salt": salt.derived(where, settled["members"][name]["salt"])}
        state.private(TRANSFERS).put(where, pack(kept))
    state.put(key("last", *place), pack(record))
    state.put(key("recorded", *place, ordered(version)), pack(record))
    state.tell("exchanged", pack({"group": group["group"], "first_ms": run["first_ms"], "version": version}))
    return pack(record)


def _standing(state: State, run: Record) -> list[tuple[int, int | None, Order]]:
    """Every order that stands at some time of a stretch, the oldest first, with its time."""
    group, end_ms = run["group"], run["first_ms"] + run["count"] * run["period_ms"]
    number = {name: at for at, name in enumerate(run["members"])}
    found = [record for record in _orders(state, group) if record["state"] == STANDING and record["from_ms"] < end_ms]
    found = [record for record in found if record["until_ms"] is None or record["until_ms"] > run["first_ms"]]
    orders = []
    for record in sorted(found, key=lambda order: (order["from_ms"], order["seller"], order["buyer"])):
        if record["seller"] in number and record["buyer"] in number:
            place = key("terms", group, record["seller"], record["buyer"], ordered(record["from_ms"]))
            terms = unpack(state.private(TRANSFERS).get(place) or b"{}")
            if not terms:
                raise Declined(
                    Reason.UNKNOWN, f"the terms of {record['seller']} and {record['buyer']} are not held here"
                )
            pair = (number[record["seller"]], number[record["buyer"]])
            orders.append((record["from_ms"], record["until_ms"], Order(*pair, terms["limit_wh"], terms["price"])))
    return orders


def _period(
    members: Sequence[Record],
    number: int,
    start_ms: int,
    period_ms: int,
    orders: Sequence[tuple[int, int | None, Order]],
) -> Exchanged | None:
    """One period's transfers; None = open."""
    surplus = [member["surplus"][number] for member in members]
    deficit = [member["from_grid"][number] for member in members]
    if None in surplus or None in deficit:
        return None
    standing = [
        order
        for from_ms, until_ms, order in orders
        if from_ms <= start_ms and (until_ms is None or start_ms < until_ms)
    ]
    return transfers.exchange(surplus, deficit, standing, start_ms // period_ms)


def _take(parts: dict[str, Record], names: Sequence[str], number: int, found: Exchanged | None) -> None:
    for at, name in enumerate(names):
        parts[name]["to_grid"].append(None if found is None else found.to_grid[at])
        parts[name]["from_grid"].append(None if found is None else found.from_grid[at])
    for each in found.transfers if found is not None else ():
        parts[names[each.seller]]["given"].append([number, names[each.buyer], each.wh, each.price])
        parts[names[each.buyer]]["received"].append([number, names[each.seller], each.wh, each.price])


def _unchanged(state: State, last: Record, parts: dict[str, Record]) -> bool:
    place = (last["group"], ordered(last["first_ms"]), ordered(last["version"]))
    values = state.private(TRANSFERS).get_many([key("part", *place, name) for name in last["members"]])
    held = dict(zip(last["members"], (unpack(value or b"{}") for value in values), strict=True))
    return {name: {**part, "salt": ""} for name, part in held.items()} == {
        name: {**part, "salt": ""} for name, part in parts.items()
    }


# ---- disputes


def _raise(state: State, call: Call) -> bytes:
    """``{"group","first_ms","member"}``, secret ``words`` ``{"words","salt"}``: a member objects to the last one."""
    given = call.record()
    only(given, "group", "first_ms", "member")
    group = _party(state, given, "member")
    member = text(given, "member")
    last = _last(state, group["group"], given)
    if member not in last["members"]:
        raise Declined(Reason.UNKNOWN, f"{member} has no part in the periods from {last['first_ms']} ms on")
    secret = call.hidden("words")
    words = text(secret, "words")
    if len(words) > _MAX_WORDS:
        raise Declined(Reason.MALFORMED, f"words: {len(words)} characters, at most {_MAX_WORDS}")
    for there in _disputes_of(state, last):
        if there["member"] == member and there["state"] == RAISED:
            raise Declined(Reason.EXISTS, f"{member} has raised dispute {there['dispute']} about these periods")
    name = call.transaction[:16]
    record = {"group": group["group"], "first_ms": last["first_ms"], "dispute": name, "member": member}
    record |= {"version": last["version"], "state": RAISED, "raised_by": call.by}
    place = (group["group"], ordered(last["first_ms"]), name)
    state.private(TRANSFERS).put(key("words", *place), pack({"words": words, "salt": salt.given(secret)}))
    state.put(key("dispute", *place), pack(record))
    state.tell("disputed", pack({"group": group["group"], "first_ms": last["first_ms"], "dispute": name}))
    return pack(record)


def _resolve(state: State, call: Call) -> bytes:
    """``{"group","first_ms","dispute","outcome"}``: upheld or rejected, by the group's settler."""
    given = call.record()
    only(given, "group", "first_ms", "dispute", "outcome")
    group = _settler(state, given)
    last = _last(state, group["group"], given)
    outcome, name = text(given, "outcome"), named(given, "dispute")
    if outcome not in (UPHELD, REJECTED):
        raise Declined(Reason.MALFORMED, f"outcome: {outcome[:40]!r}: {UPHELD} or {REJECTED}")
    place = key("dispute", group["group"], ordered(last["first_ms"]), name)
    value = state.get(place)
    if value is None:
        raise Declined(Reason.UNKNOWN, f"there is no dispute {name} about the periods from {last['first_ms']} ms on")
    record = unpack(value)
    if record["state"] != RAISED:
        raise Declined(Reason.CONFLICT, f"dispute {name} is {record['state']}")
    if outcome == UPHELD and last["version"] == record["version"]:
        words = f"version {record['version']}, which is disputed, is the last: settle and record again first"
        raise Declined(Reason.NOT_YET, words)
    record |= {"state": outcome, "after": last["version"], "resolved_by": call.by}
    state.put(place, pack(record))
    return pack(record)


def _disputes_of(state: State, last: Record) -> list[Record]:
    area = under("dispute", last["group"], ordered(last["first_ms"]))
    return [unpack(value) for _, value in state.scan(*area)]


# ---- erasing


def _erase(state: State, call: Call) -> bytes:
    """``{"group","member","from_ms","until_ms","why"}``: take away a member's part in the stretches of that time.

    Every version of them; what it objected to them; and the terms of its orders that began and ended in that time.
    """
    given = call.record()
    only(given, "group", "member", "from_ms", "until_ms", "why")
    access = unpack(state.ask(settlement.NAME, "Access", pack({name: named(given, name) for name in _WHOSE})))
    group, member = access["group"]["group"], text(given, "member")
    if not access["erases"]:
        words = f"group {group} is {access['group']['organisation']}'s: an {batches.ERASER} of it is needed"
        raise Declined(Reason.FORBIDDEN, words)
    from_ms = integer(given, "from_ms", 0, registry.LATEST_MS)
    until_ms = integer(given, "until_ms", from_ms + 1, registry.LATEST_MS)
    why, erased, private = text(given, "why")[: settlement.MOST_WHY], 0, state.private(TRANSFERS)
    for _, value in state.scan(*under("last", group)):
        last = unpack(value)
        if member not in last["members"] or not _meets(last, from_ms, until_ms):
            continue
        erased += 1
        place = (group, ordered(last["first_ms"]))
        for version in range(1, last["version"] + 1):
            private.purge(key("part", *place, ordered(version), member))
        for dispute in _disputes_of(state, last):
            if dispute["member"] == member:
                private.purge(key("words", *place, dispute["dispute"]))
        done = {"group": group, "member": member, "first_ms": last["first_ms"], "why": why}
        state.put(key("erased", group, member, place[1]), pack(done | {"time_ms": call.time_ms, "by": call.by}))
    for order in _orders(state, group):
        ended = order["until_ms"] is not None and order["until_ms"] <= until_ms and order["from_ms"] >= from_ms
        if ended and member in (order["seller"], order["buyer"]):
            private.purge(key("terms", group, order["seller"], order["buyer"], ordered(order["from_ms"])))
    return pack({"group": group, "member": member, "stretches": erased})


def _meets(run: Record, from_ms: int, until_ms: int) -> bool:
    """Whether a stretch has a period from ``from_ms`` to before ``until_ms``."""
    return bool(run["first_ms"] < until_ms and run["first_ms"] + run["count"] * run["period_ms"] > from_ms)


# ---- reading


def _erased(state: State, call: Call) -> bytes:
    """``{"group"}``: whose parts were taken away, and why."""
    given = call.record()
    only(given, "group")
    return pack([unpack(value) for _, value in state.scan(*under("erased", named(given, "group")))])


def _transfers(state: State, call: Call) -> bytes:
    """``{"group","first_ms","version","member"}``: members' parts; of one member, of the last version, if so asked."""
    given = call.record()
    only(given, "group", "first_ms", "version", "member")
    access = _access(state, given, "member")
    if not access["reads"]:
        raise Declined(
            Reason.FORBIDDEN, f"{call.caller.name} of {call.caller.organisation} may not read these transfers"
        )
    run = _last(state, access["group"]["group"], given)
    names = run["members"] if given.get("member") is None else [text(given, "member")]
    found = {}
    for name in names:
        place = key("part", run["group"], ordered(run["first_ms"]), ordered(run["version"]), name)
        value = state.private(TRANSFERS).get(place)
        if value is None:
            raise Declined(Reason.UNKNOWN, f"{name} has no part in that, or it is not held by this organisation")
        found[name] = unpack(value)
    return pack({"run": run, "members": found})


def _versions(state: State, call: Call) -> bytes:
    """``{"group","first_ms"}``: every version of a stretch, the oldest first."""
    given = call.record()
    only(given, "group", "first_ms")
    last = _last(state, named(given, "group"), given)
    area = under("recorded", last["group"], ordered(last["first_ms"]))
    return pack([unpack(value) for _, value in state.scan(*area)])


def _disputes(state: State, call: Call) -> bytes:
    """``{"group","first_ms"}``: the disputes about a stretch, without their words."""
    given = call.record()
    only(given, "group", "first_ms")
    return pack(_disputes_of(state, _last(state, named(given, "group"), given)))


def _objection(state: State, call: Call) -> bytes:
    """``{"group","first_ms","dispute"}``: a dispute with its words, for the member and who may read its transfers."""
    given = call.record()
    only(given, "group", "first_ms", "dispute")
    first = ordered(integer(given, "first_ms", 0, registry.LATEST_MS))
    place = (named(given, "group"), first, named(given, "dispute"))
    value = state.get(key("dispute", *place))
    if value is None:
        raise Declined(
            Reason.UNKNOWN, f"there is no dispute {place[2]} about the periods from {given['first_ms']} ms on"
        )
    record = unpack(value)
    if not _access(state, record, "member")["reads"]:
        raise Declined(Reason.FORBIDDEN, f"{call.caller.name} of {call.caller.organisation} may not read it")
    words = state.private(TRANSFERS).get(key("words", *place))
    if words is None:
        raise Declined(Reason.UNKNOWN, f"what was said in dispute {place[2]} is erased, or not held here")
    return pack(record | {"words": unpack(words)["words"]})


def _list_orders(state: State, call: Call) -> bytes:
    """``{"group"}``: every order, without its terms."""
    given = call.record()
    only(given, "group")
    return pack(_orders(state, named(given, "group")))


def _read_terms(state: State, call: Call) -> bytes:
    """``{"group","seller","buyer","from_ms"}``: an order with its terms.

    For the two whose it is; for who reads everybody's transfers, which are computed with it, once it has begun.
    """
    given = call.record()
    only(given, "group", "seller", "buyer", "from_ms")
    everybody = unpack(state.ask(settlement.NAME, "Access", pack({"group": named(given, "group")})))["reads"]
    record, place = _order(state, given["group"], given)
    used = everybody and record["from_ms"] <= call.time_ms
    if not used and not any(_access(state, given, role)["is_member"] for role in ("seller", "buyer")):
        who = f"{call.caller.name} of {call.caller.organisation}"
        raise Declined(Reason.FORBIDDEN, f"{who} may not read the terms of {place[1]} and {place[2]}, or not yet")
    terms = state.private(TRANSFERS).get(key("terms", *place))
    if terms is None:
        raise Declined(Reason.UNKNOWN, f"the terms of {place[1]} and {place[2]} are not held by this organisation")
    return pack({"order": record, "terms": unpack(terms)})


# ---- who may, and what is there


def _access(state: State, given: Record, role: str) -> Record:
    """What the caller may do with the member that the arguments name as ``role``."""
    asked: Record = {"group": named(given, "group")}
    if given.get(role) is not None or role != "member":
        asked["member"] = named(given, role)
    return unpack(state.ask(settlement.NAME, "Access", pack(asked)))


def _party(state: State, given: Record, role: str) -> Record:
    """The group, for the member named as ``role``."""
    named(given, role)
    access = _access(state, given, role)
    if not access["is_member"]:
        raise Declined(Reason.FORBIDDEN, f"{role}: {given[role]}: only that member's own certificate may say this")
    group: Record = access["group"]
    return group


def _settler(state: State, given: Record) -> Record:
    access = unpack(state.ask(settlement.NAME, "Access", pack({"group": named(given, "group")})))
    if not access["settles"]:
        words = f"group {given['group']} is {access['group']['organisation']}'s: a settler of it is needed"
        raise Declined(Reason.FORBIDDEN, words)
    group: Record = access["group"]
    return group


def _last(state: State, group: str, given: Record) -> Record:
    """The last version of a stretch, or the one that the arguments name."""
    first = ordered(integer(given, "first_ms", 0, registry.LATEST_MS))
    place = key("last", group, first)
    if given.get("version") is not None:
        place = key("recorded", group, first, ordered(integer(given, "version", 1, 1 << 32)))
    value = state.get(place)
    if value is None:
        raise Declined(Reason.UNKNOWN, f"nothing is recorded from {given['first_ms']} ms on, or no such version")
    return unpack(value)


def _aligned(group: Record, given: Record, name: str, call: Call) -> int:
    """A time at which a period begins, not past: what members agree on holds for periods to come."""
    at_ms = integer(given, name, 0, registry.LATEST_MS)
    if at_ms % group["period_ms"]:
        raise Declined(Reason.MALFORMED, f"{name}: {at_ms}: periods of {group['period_ms']} ms begin at multiples")
    if at_ms < call.time_ms:
        raise Declined(Reason.CONFLICT, f"{name}: {at_ms} is past ({call.time_ms} ms)")
    return at_ms


CONTRACT = Contract(
    NAME,
    {
        "Offer": _offer,
        "Accept": _accept,
        "EndOrder": _end_order,
        "Record": _record,
        "Dispute": _raise,
        "Resolve": _resolve,
        "Erase": _erase,
        "Transfers": _transfers,
        "Versions": _versions,
        "Disputes": _disputes,
        "Objection": _objection,
        "Orders": _list_orders,
        "Erased": _erased,
        "Terms": _read_terms,
    },
    (TRANSFERS,),
)
