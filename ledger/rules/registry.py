"""Contract ``registry``: which organisations there are, whose the gateways are, which meter hangs where, since when.

Rules
- The registry begins with ``Found``, once: it names every organisation with its roles, the caller's among them as a
  manager. After that the organisations are the managers' registrars' to change, and one manager always remains.
- A gateway has a home organisation, one with the role ``metering``. It is registered and revoked by a registrar of that
  organisation or of a manager. Registering a revoked one again lets it go on: a device that was found, a mistake.
- Meters are kept by registrars of managers and distributors, where they hang by the same and by installers of the
  gateway's home organisation.
- A measuring point of a gateway has at most one meter at a time, and a meter one measuring point. The past is settled
  by its readings, so what has begun is ended, never rewritten.
- Every change keeps what was before it (:mod:`ledger.rules.versions`) and says who made it.
"""

from __future__ import annotations

from hashlib import sha256

from ledger.rules import versions
from ledger.rules.record import Record, pack, parse, unpack
from ledger.rules.world import (
    Call,
    Caller,
    Contract,
    Declined,
    Function,
    Reason,
    State,
    integer,
    key,
    named,
    octets,
    only,
    ordered,
    text,
    under,
)
from signer.grammar import SUB

NAME = "registry"

MANAGER, DISTRIBUTOR, AUDITOR, METERING, AGGREGATOR = "manager", "distributor", "auditor", "metering", "aggregator"
ROLES = (AGGREGATOR, AUDITOR, DISTRIBUTOR, MANAGER, METERING)
"""What an organisation may be; ``metering`` = it receives statements, endorses them and signs receipts."""

REGISTRAR, INSTALLER = "registrar", "installer"
"""Roles of people, in the attribute ``aigeco.role`` of their certificates."""

METER_ROLES = ("generation", "consumption", "storage", "exchange")
"""What flows at a meter: ``exchange`` = both ways at a grid connection."""

KINDS = ("organisation", "authority", "gateway", "meter")
"""What has versions."""

ACTIVE, REVOKED, RETIRED = "active", "revoked", "retired"

LATEST_MS = 253_402_300_799_000
"""The year 9999: times after it are mistakes."""

_MAX_TEXT = 100
_MAX_CERTIFICATE = 4096
_MAX_PAGE = 1000


def organisation_roles(state: State, organisation: str) -> list[str]:
    """For other contracts: what an organisation is here; nothing for one that is not known."""
    try:
        answer = state.ask(NAME, "Organisation", pack({"organisation": organisation}))
    except Declined as declined:
        if declined.reason is Reason.UNKNOWN:
            return []
        raise
    return list(unpack(answer)["roles"])


# ---- organisations and the roots of their gateways


def _found(state: State, call: Call) -> bytes:
    call.caller.need(REGISTRAR)
    given = call.record()
    only(given, "organisations", "authorities")
    if next(iter(versions.every(state, "organisation")), None) is not None:
        raise Declined(Reason.EXISTS, "the registry is founded; use SetOrganisation")
    organisations = given.get("organisations")
    if not isinstance(organisations, dict):
        raise Declined(Reason.MALFORMED, 'organisations: {"Org1MSP":["manager","metering"],...} is needed')
    written = [_write_organisation(state, call, name, organisations[name]) for name in sorted(organisations)]
    if not any(record["organisation"] == call.caller.organisation and MANAGER in record["roles"] for record in written):
        raise Declined(
            Reason.FORBIDDEN, f"{call.caller.organisation}, who founds the registry, must be a manager in it"
        )
    authorities = given.get("authorities", [])
    if not isinstance(authorities, list):
        raise Declined(Reason.MALFORMED, "authorities: a list of certificates in hex (DER) is needed")
    for certificate in authorities:
        _write_authority(state, call, {"certificate": certificate}, ACTIVE)
    return b"{}"


def _set_organisation(state: State, call: Call) -> bytes:
    _manager(state, call.caller, REGISTRAR)
    given = call.record()
    only(given, "organisation", "roles")
    name = named(given, "organisation")
    written = _write_organisation(state, call, name, given.get("roles"))
    others = [record for record in versions.every(state, "organisation") if record["organisation"] != name]
    if not any(MANAGER in record["roles"] for record in (written, *others)):
        raise Declined(Reason.CONFLICT, f"{name} is the last manager: name another one first")
    return pack(written)


def _write_organisation(state: State, call: Call, name: str, roles: object) -> Record:
    named({"organisation": name}, "organisation")
    if not isinstance(roles, list) or any(role not in ROLES for role in roles):
        raise Declined(Reason.MALFORMED, f"roles of {name}: {str(roles)[:60]}: a list out of {', '.join(ROLES)}")
    record = {"organisation": name, "roles": [role for role in ROLES if role in roles], "by": call.by}
    return versions.change(state, "organisation", name, record, call.time_ms)


def _set_authority(state: State, call: Call) -> bytes:
    """Believe a root of gateway certificates, or believe it no longer."""
    _manager(state, call.caller, REGISTRAR)
    given = call.record()
    only(given, "certificate", "state")
    condition = given.get("state", ACTIVE)
    if condition not in (ACTIVE, REVOKED):
        raise Declined(Reason.MALFORMED, f"state: {condition!r}: {ACTIVE} or {REVOKED}")
    return pack(_write_authority(state, call, given, condition))


def _write_authority(state: State, call: Call, given: Record, condition: str) -> Record:
    certificate = octets(given, "certificate")
    if len(certificate) > _MAX_CERTIFICATE:
        raise Declined(Reason.MALFORMED, f"certificate: {len(certificate)} bytes, at most {_MAX_CERTIFICATE}")
    name = sha256(certificate).hexdigest()
    record = {"authority": name, "certificate": certificate.hex(), "state": condition, "by": call.by}
    return versions.change(state, "authority", name, record, call.time_ms)


# ---- gateways


def _register_gateway(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "gateway", "owner", "root", "certificate")
    name, owner = named(given, "gateway"), named(given, "owner")
    _of(state, call.caller, owner, REGISTRAR)
    organisation = versions.current(state, "organisation", owner)
    if organisation is None or METERING not in organisation["roles"]:
        raise Declined(Reason.UNKNOWN, f"owner: {owner} is no organisation here with the role {METERING}")
    last = versions.current(state, "gateway", name)
    if last is not None and last["owner"] != owner:
        _of(state, call.caller, last["owner"], REGISTRAR)  # whose it is must give it away
    pins = {
        pin: octets(given, pin, 32).hex() if given.get(pin) is not None else None for pin in ("root", "certificate")
    }
    record = {"gateway": name, "owner": owner, **pins, "state": ACTIVE, "by": call.by}
    return pack(versions.change(state, "gateway", name, record, call.time_ms))


def _revoke_gateway(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "gateway", "why")
    last = _known(state, "gateway", named(given, "gateway"))
    _of(state, call.caller, last["owner"], REGISTRAR)
    if last["state"] == REVOKED:
        return pack(last)
    record = {**last, "state": REVOKED, "why": _words(given, "why"), "by": call.by}
    return pack(versions.change(state, "gateway", last["gateway"], record, call.time_ms))


# ---- meters and where they hang


def _register_meter(state: State, call: Call) -> bytes:
    _of(state, call.caller, None, REGISTRAR)
    given = call.record()
    only(given, "meter", "model", "serial", "place", "role", "owner", "calibrated_until_ms")
    name, role = named(given, "meter"), text(given, "role")
    if role not in METER_ROLES:
        raise Declined(Reason.MALFORMED, f"role: {role!r}: one of {', '.join(METER_ROLES)}")
    last = versions.current(state, "meter", name)
    if last is not None and last["state"] == RETIRED:
        raise Declined(Reason.CONFLICT, f"meter {name} has been retired: its successor has another name")
    serial = _words(given, "serial")
    if last is not None and last["serial"] != serial:
        words = f"meter {name} has the serial number {last['serial']}: another one is another meter"
        raise Declined(Reason.CONFLICT, words)
    until_ms = given.get("calibrated_until_ms")
    record = {
        "meter": name,
        "model": _words(given, "model"),
        "serial": serial,
        "place": named(given, "place"),
        "role": role,
        "owner": named(given, "owner"),
        "calibrated_until_ms": None if until_ms is None else integer(given, "calibrated_until_ms", 0, LATEST_MS),
        "state": ACTIVE,
        "by": call.by,
    }
    return pack(versions.change(state, "meter", name, record, call.time_ms))


def _retire_meter(state: State, call: Call) -> bytes:
    _of(state, call.caller, None, REGISTRAR)
    given = call.record()
    only(given, "meter")
    last = _known(state, "meter", named(given, "meter"))
    hangs = _last_place(state, last["meter"])
    if hangs is not None and hangs["until_ms"] is None:
        words = f"meter {last['meter']} hangs at {hangs['gateway']}/{hangs['sub']}: end that first (UnassignMeter)"
        raise Declined(Reason.CONFLICT, words)
    record = {**last, "state": RETIRED, "by": call.by}
    return pack(versions.change(state, "meter", last["meter"], record, call.time_ms))


def _assign_meter(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "meter", "gateway", "sub", "from_ms")
    meter, gateway = (_known(state, kind, named(given, kind)) for kind in ("meter", "gateway"))
    _of(state, call.caller, gateway["owner"], REGISTRAR, INSTALLER)
    sub, from_ms = _sub(given), integer(given, "from_ms", 0, LATEST_MS)
    for thing, kind in ((meter, "meter"), (gateway, "gateway")):
        if thing["state"] != ACTIVE:
            raise Declined(Reason.CONFLICT, f"{kind} {thing[kind]} is {thing['state']}")
    for there in (_last_assignment(state, gateway["gateway"], sub), _last_place(state, meter["meter"])):
        if there is not None and (there["until_ms"] is None or there["until_ms"] > from_ms):
            until = "still" if there["until_ms"] is None else f"until {there['until_ms']} ms"
            words = f"meter {there['meter']} hangs at {there['gateway']}/{there['sub']} {until}: from_ms {from_ms}"
            raise Declined(Reason.CONFLICT, f"{words} overlaps; end it first (UnassignMeter)")
    record = {
        "meter": meter["meter"],
        "gateway": gateway["gateway"],
        "sub": sub,
        "from_ms": from_ms,
        "until_ms": None,
        "by": call.by,
    }
    return _write_assignment(state, record)


def _unassign_meter(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "meter", "until_ms")
    meter = _known(state, "meter", named(given, "meter"))
    there = _last_place(state, meter["meter"])
    if there is None or there["until_ms"] is not None:
        raise Declined(Reason.UNKNOWN, f"meter {meter['meter']} hangs nowhere")
    gateway = _known(state, "gateway", there["gateway"])
    _of(state, call.caller, gateway["owner"], REGISTRAR, INSTALLER)
    until_ms = integer(given, "until_ms", there["from_ms"], LATEST_MS)
    return _write_assignment(state, {**there, "until_ms": until_ms, "ended_by": call.by})


def _write_assignment(state: State, record: Record) -> bytes:
    """Under the measuring point and under the meter, because both are asked for."""
    value, began = pack(record), ordered(record["from_ms"])
    state.put(key("assignment", record["gateway"], record["sub"], began), value)
    state.put(key("hung", record["meter"], began), value)
    return value


# ---- what is asked


def _reader(kind: str) -> Function:
    """One record of a kind, as it is or as it was ``at_ms``."""

    def read(state: State, call: Call) -> bytes:
        given = call.record()
        only(given, kind, "at_ms")
        return pack(_known(state, kind, text(given, kind), _at(given)))

    return read


def _list(state: State, call: Call) -> bytes:
    """A page of the current records of a kind, after the name ``after``."""
    given = call.record()
    only(given, "kind", "after", "limit")
    kind = text(given, "kind")
    if kind not in KINDS:
        raise Declined(Reason.MALFORMED, f"kind: {kind[:60]!r}: one of {', '.join(KINDS)}")
    start, end = under(kind)
    if given.get("after") is not None:
        start = f"{key(kind, text(given, 'after'))}\0"
    limit = integer({"limit": _MAX_PAGE, **given}, "limit", 1, _MAX_PAGE)
    found = []
    for _, value in state.scan(start, end):
        found.append(parse(value))
        if len(found) == limit:
            break
    return pack(found)


def _history(state: State, call: Call) -> bytes:
    """Every version of one record, the oldest first."""
    given = call.record()
    only(given, "kind", "name")
    return pack(list(versions.history(state, text(given, "kind"), text(given, "name"))))


def _assignments(state: State, call: Call) -> bytes:
    """Where a meter hung, or what hung at a gateway's measuring points, oldest first; at one time with ``at_ms``."""
    given = call.record()
    only(given, "meter", "gateway", "sub", "at_ms")
    if given.get("meter") is not None:
        area = under("hung", named(given, "meter"))
    elif given.get("sub") is not None:
        area = under("assignment", named(given, "gateway"), _sub(given))
    else:
        area = under("assignment", named(given, "gateway"))
    at_ms = _at(given)
    found = [parse(value) for _, value in state.scan(*area)]
    return pack([there for there in found if at_ms is None or _holds(there, at_ms)])


def _holds(there: Record, at_ms: int) -> bool:
    return bool(there["from_ms"] <= at_ms and (there["until_ms"] is None or at_ms < there["until_ms"]))


# ---- who may, and what is there


def _manager(state: State, caller: Caller, *roles: str) -> None:
    caller.need(*roles)
    if MANAGER not in _roles(state, caller.organisation):
        raise Declined(Reason.FORBIDDEN, f"{caller.organisation} is no {MANAGER} here")


def _of(state: State, caller: Caller, owner: str | None, *roles: str) -> None:
    """The caller has one of the roles and is of the owner or of a manager; without an owner, of a distributor too."""
    caller.need(*roles)
    own = _roles(state, caller.organisation)
    if MANAGER in own or (own and caller.organisation == owner) or (owner is None and DISTRIBUTOR in own):
        return
    wanted = f"a {MANAGER} or {owner}" if owner else f"a {MANAGER} or a {DISTRIBUTOR}"
    raise Declined(Reason.FORBIDDEN, f"{caller.organisation} may not do this: {wanted} may")


def _roles(state: State, organisation: str) -> list[str]:
    record = versions.current(state, "organisation", organisation)
    return list(record["roles"]) if record else []


def _known(state: State, kind: str, name: str, at_ms: int | None = None) -> Record:
    found = versions.current(state, kind, name) if at_ms is None else versions.at(state, kind, name, at_ms)
    if found is None:
        raise Declined(Reason.UNKNOWN, f"{kind} {name} is not registered{'' if at_ms is None else f' at {at_ms} ms'}")
    return found


def _last_assignment(state: State, gateway: str, sub: str) -> Record | None:
    return _last(state, "assignment", gateway, sub)


def _last_place(state: State, meter: str) -> Record | None:
    return _last(state, "hung", meter)


def _last(state: State, *parts: str) -> Record | None:
    last = None
    for _, value in state.scan(*under(*parts)):
        last = value
    return None if last is None else parse(last)


def _at(given: Record) -> int | None:
    return None if given.get("at_ms") is None else integer(given, "at_ms", 0, LATEST_MS)


def _sub(given: Record) -> str:
    """A measuring point: a meter's name on its gateway, or that with a point's."""
    sub = text(given, "sub")
    if not SUB.fullmatch(sub):
        raise Declined(Reason.MALFORMED, f"sub: {sub[:60]!r}: letters, digits and hyphens are needed")
    return sub


def _words(given: Record, name: str) -> str:
    words = text(given, name)
    if len(words) > _MAX_TEXT:
        raise Declined(Reason.MALFORMED, f"{name}: {len(words)} characters, at most {_MAX_TEXT}")
    return words


CONTRACT = Contract(
    NAME,
    {
        "Found": _found,
        "SetOrganisation": _set_organisation,
        "SetAuthority": _set_authority,
        "RegisterGateway": _register_gateway,
        "RevokeGateway": _revoke_gateway,
        "RegisterMeter": _register_meter,
        "RetireMeter": _retire_meter,
        "AssignMeter": _assign_meter,
        "UnassignMeter": _unassign_meter,
        **{kind.capitalize(): _reader(kind) for kind in KINDS},
        "List": _list,
        "History": _history,
        "Assignments": _assignments,
    },
)
