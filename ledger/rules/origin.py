"""Contract ``origin``: guarantees of origin, one for each whole kWh of measured generation, retired once.

Keys, public
    device/DEVICE                       a generator: its measuring point, its owner, how far it is certified
    taken/GATEWAY/SUB                   which device a measuring point is
    lot/DEVICE/NUMBER                   guarantees with consecutive numbers that have one owner and one fate
    issue/DEVICE/FIRST                  what a lot was issued from: the Wh, and the statements at both ends
    moved/DEVICE/NUMBER/TRANSACTION     every transfer and retirement

Rules
- A guarantee has a number: the kWh of that device since its first certified Wh. Numbers are given once, so no Wh is
  certified twice; what is less than a kWh is carried to the next issue.
- Issued is what the export register counted from where the last issue ended. Registers under doubt are not used; where
  the counter went back, was reset or the meter was exchanged, issuing stops, and goes on behind it (``Skip``): what
  flowed in between is never certified.
- A guarantee is its owner's, an organisation and a member in it: only that member's certificates transfer or retire it.
- Retired is for ever, and says for whom.
- A measuring point is one device's for ever.
- Lots are public: how many kWh a generator made in a period. A generator that is one person's home belongs in no lot
  shorter than a month; the issuer decides.
"""

from __future__ import annotations

from ledger.rules import batches, boundaries, registry
from ledger.rules.boundaries import STEP_MS
from ledger.rules.record import Record, pack, unpack
from ledger.rules.registers import Certainty, energy, reads, sure
from ledger.rules.world import (
    Call,
    Caller,
    Contract,
    Declined,
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

NAME = "origin"

ISSUER = "issuer"
"""Role of who certifies, in an organisation that is an auditor or a manager; with a role that reads registers beside it
(:data:`ledger.rules.batches.READERS`), in the same certificate."""

HELD, RETIRED = "held", "retired"

KWH = 1000
"""Wh of one guarantee."""

MOST_KWH = 10**12
LONGEST_MS = 370 * 86_400_000
"""Of one issue: a year's boundaries are 3 MB."""


def certify(rest_wh: int, wh: int) -> tuple[int, int]:
    """Whole kWh, and what is left for the next time."""
    return divmod(rest_wh + wh, KWH)


# ---- issuing


def _register_device(state: State, call: Call) -> bytes:
    """``{"device","gateway","sub","organisation","member","from_ms"}``: certified from then on, for this owner."""
    given = call.record()
    only(given, "device", "gateway", "sub", "organisation", "member", "from_ms")
    _issuer(state, call)
    name, gateway, sub = named(given, "device"), named(given, "gateway"), text(given, "sub")
    if not SUB.fullmatch(sub):
        raise Declined(Reason.MALFORMED, f"sub: {sub[:90]!r}: letters, digits and hyphens are needed")
    if state.get(key("device", name)) is not None:
        raise Declined(Reason.EXISTS, f"device {name} exists already")
    there = state.get(key("taken", gateway, sub))
    if there is not None:
        raise Declined(Reason.CONFLICT, f"{gateway}/{sub} is device {unpack(there)['device']}")
    from_ms = _instant(given, "from_ms")
    record = {"device": name, "gateway": gateway, "sub": sub, "owner": _account(given), "from_ms": from_ms}
    record |= {"through_ms": from_ms, "rest_wh": 0, "issued": 0, "by": call.by}
    state.put(key("device", name), pack(record))
    state.put(key("taken", gateway, sub), pack({"device": name}))
    return pack(record)


def _issue(state: State, call: Call) -> bytes:
    """``{"device","until_ms"}``: certify what was generated since the last issue."""
    given = call.record()
    only(given, "device", "until_ms")
    _issuer(state, call)
    device = _device(state, given)
    until_ms = _until(device, given)
    wh, ends = _generated(state, device, until_ms)
    kwh, rest = certify(device["rest_wh"], wh)
    if not kwh:
        words = f"{device['rest_wh'] + wh} Wh since {device['through_ms']} ms are no whole kWh yet"
        raise Declined(Reason.NOT_YET, words)
    lot = {
        "device": device["device"],
        "first": device["issued"] + 1,
        "count": kwh,
        "from_ms": device["through_ms"],
        "until_ms": until_ms,
        "owner": device["owner"],
        "state": HELD,
        "issued_by": call.by,
    }
    state.put(_lot_key(lot), pack(lot))
    issue = {name: lot[name] for name in ("device", "first", "count", "from_ms", "until_ms")}
    issue |= {"rest_wh": device["rest_wh"], "wh": wh, "start": ends[0], "end": ends[1], "by": call.by}
    state.put(key("issue", lot["device"], ordered(lot["first"])), pack(issue))
    further = {"through_ms": until_ms, "rest_wh": rest, "issued": device["issued"] + kwh}
    state.put(key("device", device["device"]), pack({**device, **further}))
    state.tell("issued", pack({"device": device["device"], "first": lot["first"], "count": kwh}))
    return pack(lot)


def _skip(state: State, call: Call) -> bytes:
    """``{"device","until_ms","why"}``: certify nothing up to then."""
    given = call.record()
    only(given, "device", "until_ms", "why")
    _issuer(state, call)
    device = _device(state, given)
    skipped = {"through_ms": _until(device, given), "why": text(given, "why")[:100], "skipped_by": call.by}
    state.put(key("device", device["device"]), pack({**device, **skipped}))
    return pack({**device, **skipped})


def _generated(state: State, device: Record, until_ms: int) -> tuple[int, list[list[list[object]]]]:
    """Wh of export from where the device is certified, to an instant; and the statements, [stream, seq], at both.

    Raises:
        Declined: they are not known for sure.
    """
    from_ms = device["through_ms"]
    asked = {"points": [[device["gateway"], device["sub"]]], "from_ms": from_ms, "until_ms": until_ms}
    (listed,) = unpack(state.ask(batches.NAME, "Boundaries", pack(asked)))["points"]
    register = reads(
        [boundaries.unpack(item) for item in listed["at"]],
        [boundaries.unpack_change(item) for item in listed["change"]],
        exported=True,
    )
    ends = [[item[1:3] for item in listed["at"] if item[0] == at_ms] for at_ms in (from_ms, until_ms)]
    # Every good reading between the ends: a counter that was reset in between may have passed its old value.
    good = [at_ms for at_ms in sure(register) if from_ms < at_ms < until_ms]
    wh, last_ms = 0, from_ms
    for at_ms in (*good, until_ms):
        part = energy(register, last_ms, at_ms)
        if part.wh is None or part.certainty is not Certainty.SETTLED:
            reason = Reason.NOT_YET if part.certainty is Certainty.PROVISIONAL else Reason.CONFLICT
            words = f"{device['device']} from {last_ms} to {at_ms} ms: {part.reason}"
            raise Declined(reason, f"{words}: issue up to before it, or go on behind it (Skip)")
        wh, last_ms = wh + part.wh, at_ms
    return wh, ends


# ---- owning


def _transfer(state: State, call: Call) -> bytes:
    """``{"device","first","count","organisation","member"}``: these numbers are theirs from now on."""
    given = call.record()
    only(given, "device", "first", "count", "organisation", "member")
    owner = _account(given)
    return _change(state, call, given, {"owner": owner}, "transferred")


def _retire(state: State, call: Call) -> bytes:
    """``{"device","first","count","for"}``: used up, for whom or what."""
    given = call.record()
    only(given, "device", "first", "count", "for")
    change = {"state": RETIRED, "for": text(given, "for")[:100], "retired_by": call.by}
    return _change(state, call, given, change, "retired")


def _change(state: State, call: Call, given: Record, change: Record, what: str) -> bytes:
    """Cut these numbers out of their lot and change them; the rest of the lot stays as it is."""
    device = _device(state, given)
    first, count = integer(given, "first", 1, MOST_KWH), integer(given, "count", 1, MOST_KWH)
    lot = _lot_with(state, device["device"], first)
    if lot is None or first + count > lot["first"] + lot["count"]:
        words = f"{first} to {first + count - 1} of {device['device']} are not in one lot"
        raise Declined(Reason.UNKNOWN, f"{words}: {_span(lot)}")
    if not _owns(call.caller, lot["owner"]):
        owner = f"{lot['owner']['member']} of {lot['owner']['organisation']}"
        raise Declined(
            Reason.FORBIDDEN, f"{_span(lot)} of {device['device']} are {owner}'s: its own certificate is needed"
        )
    if lot["state"] != HELD:
        raise Declined(Reason.CONFLICT, f"{_span(lot)} of {device['device']} are {lot['state']}, for {lot['for']}")
    before, behind = first - lot["first"], lot["first"] + lot["count"] - first - count
    if before:
        state.put(_lot_key(lot), pack({**lot, "count": before}))
    if behind:
        rest = {**lot, "first": first + count, "count": behind}
        state.put(_lot_key(rest), pack(rest))
    part = {**lot, "first": first, "count": count, **change}
    state.put(_lot_key(part), pack(part))
    moved = {"device": device["device"], "first": first, "count": count, "what": what, "from": lot["owner"]}
    moved |= {"to": part["owner"], "time_ms": call.time_ms, "by": call.by}
    state.put(key("moved", device["device"], ordered(first), call.transaction), pack(moved))
    return pack(part)


def _lot_with(state: State, device: str, number: int) -> Record | None:
    """The lot that begins at a number or last before it."""
    last = None
    for _, value in state.scan(under("lot", device)[0], key("lot", device, ordered(number + 1))):
        last = value
    return None if last is None else unpack(last)


def _span(lot: Record | None) -> str:
    return "there is no such lot" if lot is None else f"{lot['first']} to {lot['first'] + lot['count'] - 1}"


# ---- reading


def _read_device(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "device")
    return pack(_device(state, given))


def _lots(state: State, call: Call) -> bytes:
    """``{"device"}``, or ``{"organisation","member"}``: whose guarantees, or everybody's of a device."""
    given = call.record()
    only(given, "device", "organisation", "member")
    area = under("lot", named(given, "device")) if given.get("device") is not None else under("lot")
    found = [unpack(value) for _, value in state.scan(*area)]
    if given.get("member") is not None:
        account = _account(given)
        found = [lot for lot in found if lot["owner"] == account]
    return pack(found)


def _issues(state: State, call: Call) -> bytes:
    """``{"device"}``: what every lot was issued from, by number."""
    given = call.record()
    only(given, "device")
    return pack([unpack(value) for _, value in state.scan(*under("issue", _device(state, given)["device"]))])


def _read_taken(state: State, call: Call) -> bytes:
    """``{"gateway","sub"}``: the device that a measuring point is; null for none."""
    given = call.record()
    only(given, "gateway", "sub")
    value = state.get(key("taken", named(given, "gateway"), text(given, "sub")))
    return pack({"device": None} if value is None else unpack(value))


def _moves(state: State, call: Call) -> bytes:
    """``{"device"}``: every transfer and retirement, by number."""
    given = call.record()
    only(given, "device")
    return pack([unpack(value) for _, value in state.scan(*under("moved", named(given, "device")))])


# ---- who may, and what is there


def _issuer(state: State, call: Call) -> None:
    call.caller.need(ISSUER)
    roles = registry.organisation_roles(state, call.caller.organisation)
    if {registry.AUDITOR, registry.MANAGER}.isdisjoint(roles):
        words = f"{call.caller.organisation} is neither {registry.AUDITOR} nor {registry.MANAGER} here"
        raise Declined(Reason.FORBIDDEN, words)


def _device(state: State, given: Record) -> Record:
    value = state.get(key("device", named(given, "device")))
    if value is None:
        raise Declined(Reason.UNKNOWN, f"there is no device {given['device']}")
    return unpack(value)


def _account(given: Record) -> Record:
    return {"organisation": named(given, "organisation"), "member": named(given, "member")}


def _owns(caller: Caller, owner: Record) -> bool:
    own = (caller.organisation, caller.attributes.get(batches.MEMBER))
    return own == (owner["organisation"], owner["member"])


def _instant(given: Record, name: str) -> int:
    at_ms = integer(given, name, 0, registry.LATEST_MS)
    if at_ms % STEP_MS:
        raise Declined(Reason.MALFORMED, f"{name}: {at_ms}: registers are kept at multiples of {STEP_MS} ms")
    return at_ms


def _until(device: Record, given: Record) -> int:
    until_ms = _instant(given, "until_ms")
    if until_ms <= device["through_ms"]:
        words = f"until_ms {until_ms} overlaps what is certified of {device['device']} up to {device['through_ms']} ms"
        raise Declined(Reason.CONFLICT, words)
    if until_ms > device["through_ms"] + LONGEST_MS:
        raise Declined(Reason.MALFORMED, f"until_ms: at most {LONGEST_MS} ms at once, from {device['through_ms']} ms")
    return until_ms


def _lot_key(lot: Record) -> str:
    return key("lot", lot["device"], ordered(lot["first"]))


CONTRACT = Contract(
    NAME,
    {
        "RegisterDevice": _register_device,
        "Issue": _issue,
        "Skip": _skip,
        "Transfer": _transfer,
        "Retire": _retire,
        "Device": _read_device,
        "Lots": _lots,
        "Issues": _issues,
        "Taken": _read_taken,
        "Moves": _moves,
    },
)
