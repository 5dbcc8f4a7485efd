"""Who reads what: everybody tries every function of every contract, and everything public; what turns up is a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ledger.rules.world import Caller, Contract, Declined
from tests.ledger.scene import (
    AGGREGATOR,
    AUDIT,
    COEFFICIENTS,
    COMMUNITY,
    DISTRIBUTOR,
    EVERY_ROLE,
    FIRST,
    LATER,
    ORDER,
    QUARTER,
    SALT,
    TERMS,
    WORDS,
    Scene,
    member,
    person,
)

WHO: Mapping[str, Caller] = {
    "member A": member("a"),
    "A's namesake in another organisation": member("a", DISTRIBUTOR),
    "aggregator": person(AGGREGATOR, "pau", "aggregator"),
    "aggregator with every role": person(AGGREGATOR, "max", EVERY_ROLE, "a"),
    "auditor": person(AUDIT, "aurora", "auditor"),
}
PUBLIC = "everybody: blocks, public state, events"

_PERIOD = {"from_ms": FIRST - QUARTER, "until_ms": FIRST + 2 * QUARTER}
_POINTS = [["alpha", sub] for sub in ("roof", "shed", "a-home", "b-home", "x-home")]
_GROUP, _SMALL = {"group": "g"}, {"group": "h"}
_RUN, _SMALL_RUN = {"group": "g", "first_ms": FIRST}, {"group": "h", "first_ms": FIRST}
_MONTH = {"year": 2026, "month": 6, "buy": 100_000, "sell": 50_000}
_METER = {"model": "x", "serial": "y", "place": "z", "role": "consumption", "owner": "a"}
_FIXED = {"group": "g", "from_ms": LATER, "kind": "fixed"}
_DEVICE = {"gateway": "alpha", "sub": "b-home", "organisation": AGGREGATOR, "member": "a", "from_ms": FIRST}


def attempts(stream: str, dispute: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Of every function the arguments with which it would give away what is another's."""
    names = [{"member": name} for name in ("a", "b", "e")]
    meters = [{"meter": f"m-{name}"} for name in ("a", "b", "x")]
    kinds = [{"kind": kind} for kind in ("organisation", "authority", "gateway", "meter")]
    run = {"stream": stream, "first": 0}
    return {
        ("registry", "Found"): [{"organisations": {AGGREGATOR: ["manager"]}}],
        ("registry", "SetOrganisation"): [{"organisation": AGGREGATOR, "roles": ["manager", "metering", "auditor"]}],
        ("registry", "SetAuthority"): [{"certificate": "00"}],
        ("registry", "RegisterGateway"): [{"gateway": "alpha", "owner": AGGREGATOR}],
        ("registry", "RevokeGateway"): [{"gateway": "alpha", "why": "x"}],
        ("registry", "RegisterMeter"): [{"meter": "m-b", **_METER}, {"meter": "m-new", **_METER}],
        ("registry", "RetireMeter"): meters,
        ("registry", "AssignMeter"): [{"meter": "m-a", "gateway": "alpha", "sub": "b-home", "from_ms": FIRST}],
        ("registry", "UnassignMeter"): [{**each, "until_ms": LATER} for each in meters],
        ("registry", "Organisation"): [{"organisation": COMMUNITY}],
        ("registry", "Authority"): [{"authority": "00"}],
        ("registry", "Gateway"): [{"gateway": "alpha"}],
        ("registry", "Meter"): meters,
        ("registry", "List"): kinds,
        ("registry", "History"): [{"kind": "meter", "name": "m-b"}, {"kind": "gateway", "name": "alpha"}],
        ("registry", "Assignments"): [*meters, {"gateway": "alpha"}],
        ("measurements", "SubmitBatch"): [{"gateway": "alpha"}, {"gateways": ["alpha"]}],
        ("measurements", "Terms"): [{"gateway": "alpha"}],
        ("measurements", "Purge"): [{**run, "why": "x"}, {**run, "why": "x", "sub": "b-home"}],
        ("measurements", "Stream"): [{"stream": stream}],
        ("measurements", "Streams"): [{"gateway": "alpha"}],
        ("measurements", "Batches"): [{"stream": stream}],
        ("measurements", "Receipt"): [{**run, "nonce": SALT}],
        ("measurements", "Forks"): [{"stream": stream}],
        ("measurements", "Purged"): [{"stream": stream}],
        ("measurements", "Sids"): [{"stream": stream, "seq": 1}],
        ("measurements", "Find"): [{"stream": stream, "sid": "00" * 32}],
        ("measurements", "Pins"): [{"gateway": "alpha"}],
        ("measurements", "Run"): [{"stream": stream, "seq": 1}],
        ("measurements", "Statements"): [{"stream": stream}],
        ("measurements", "StatementsAt"): [{"gateway": "alpha", **_PERIOD}],
        ("measurements", "OfMeter"): [{**each, **_PERIOD} for each in meters],
        ("measurements", "Boundaries"): [{"points": _POINTS, **_PERIOD}],
        ("sharing", "CreateGroup"): [{"group": "mine", "zone": "peninsula", "period_ms": QUARTER}, _GROUP],
        ("sharing", "SetMember"): [{"group": "g", "member": "b", "organisation": AGGREGATOR}],
        ("sharing", "AddPoint"): [{"group": "g", "point": "p", "kind": "generation", "gateway": "alpha", "sub": "p"}],
        ("sharing", "EndPoint"): [{"group": "g", "point": "b-home", "until_ms": LATER}],
        ("sharing", "Agree"): [_FIXED],
        ("sharing", "PutHours"): [{"group": "g", "from_ms": FIRST, "year": 2026, "first_hour": 1}],
        ("sharing", "Coefficients"): [{"group": "g", "from_ms": FIRST, **each} for each in ({}, *names)],
        ("sharing", "Settle"): [{**_RUN, "count": 1}, {**_SMALL_RUN, "count": 1}],
        ("sharing", "Erase"): [{"group": "g", "member": "b", **_PERIOD, "why": "x"}],
        ("sharing", "Access"): [_GROUP, {"group": "g", "member": "b"}],
        ("sharing", "Group"): [_GROUP, _SMALL],
        ("sharing", "Members"): [_GROUP, _SMALL],
        ("sharing", "Points"): [_GROUP, _SMALL],
        ("sharing", "Taken"): [{"gateway": "alpha"}, {"gateway": "alpha", "sub": "b-home"}],
        ("sharing", "Agreements"): [_GROUP, _SMALL],
        ("sharing", "Erased"): [_GROUP],
        ("sharing", "Runs"): [{**_GROUP, **_PERIOD}],
        ("sharing", "Versions"): [_RUN],
        ("sharing", "Results"): [_RUN, _SMALL_RUN, *({**_RUN, **each} for each in names), {**_RUN, "version": 1}],
        ("sharing", "Source"): [{**_RUN, "point": point} for point in ("a-home", "b-home", "roof")],
        ("sharing", "Totals"): [_RUN, _SMALL_RUN],
        ("sharing", "Statement"): [{"group": "g", **_MONTH, **each} for each in names],
        ("exchanges", "Offer"): [{**ORDER, "from_ms": LATER + QUARTER}],
        ("exchanges", "Accept"): [ORDER],
        ("exchanges", "EndOrder"): [{**ORDER, "until_ms": LATER + QUARTER}],
        ("exchanges", "Record"): [_RUN],
        ("exchanges", "Dispute"): [{**_RUN, "member": "b"}],
        ("exchanges", "Resolve"): [{**_RUN, "dispute": dispute, "outcome": "rejected"}],
        ("exchanges", "Erase"): [{"group": "g", "member": "b", **_PERIOD, "why": "x"}],
        ("exchanges", "Transfers"): [_RUN, *({**_RUN, **each} for each in names)],
        ("exchanges", "Versions"): [_RUN],
        ("exchanges", "Disputes"): [_RUN],
        ("exchanges", "Objection"): [{**_RUN, "dispute": dispute}],
        ("exchanges", "Orders"): [_GROUP],
        ("exchanges", "Terms"): [ORDER],
        ("exchanges", "Erased"): [_GROUP],
        ("origin", "RegisterDevice"): [{"device": "mine", **_DEVICE}],
        ("origin", "Issue"): [{"device": "pv", "until_ms": FIRST + 2 * QUARTER}],
        ("origin", "Skip"): [{"device": "pv", "until_ms": FIRST + 2 * QUARTER, "why": "x"}],
        ("origin", "Transfer"): [{"device": "pv", "first": 1, "count": 1, "organisation": AGGREGATOR, "member": "a"}],
        ("origin", "Retire"): [{"device": "pv", "first": 1, "count": 1, "for": "me"}],
        ("origin", "Device"): [{"device": "pv"}],
        ("origin", "Lots"): [{"device": "pv"}, {}],
        ("origin", "Issues"): [{"device": "pv"}],
        ("origin", "Taken"): [{"gateway": "alpha", "sub": "roof"}],
        ("origin", "Moves"): [{"device": "pv"}],
    }


SECRETS: Mapping[str, Any] = {
    "coefficients": {"members": COEFFICIENTS, "salt": SALT},
    "words": {"words": "x", "salt": SALT},
    # Guessed terms: whoever could accept them would know that they are right.
    "terms": TERMS,
}


@dataclass(frozen=True)
class Traces:
    """Of one kind of things.

    Attributes:
        forms: any of these tells that it is there; looked for first, being quick.
        whole: what has to match as well; None = a form is enough.
    """

    forms: tuple[bytes, ...]
    whole: re.Pattern[bytes] | None = None

    def search(self, data: bytes) -> bool:
        """Whether it is in there."""
        there = any(form in data for form in self.forms)
        return there and (self.whole is None or self.whole.search(data) is not None)


def patterns(scene: Scene) -> dict[str, Traces]:
    """By which everything that somebody could read is found, wherever it turns up."""
    found = {"registers of others": _registers(scene, *(f"{name}-home" for name in "bcdexy"))}
    found["registers of A"] = _registers(scene, "a-home")
    found["registers of generation"] = _registers(scene, "roof", "shed")
    for kind, numbers in scene.truth().items():
        assert numbers, kind
        forms = tuple(b"%d" % number for number in sorted(numbers))
        found[kind] = Traces(forms, re.compile(rb"(?<![0-9a-f])(?:%s)(?![0-9a-f])" % b"|".join(forms)))
    found["what is said in a dispute"] = Traces((WORDS.encode(),))
    (batch, *_) = scene.ask("measurements", "Batches", stream=scene.stream)
    found["batches: root, ends, submitter, transaction"] = Traces((batch["root"].encode(),))
    found["meters: serial number, place and owner (pseudonyms)"] = Traces((b"SN-9876543b",))
    return found


def _registers(scene: Scene, *subs: str) -> Traces:
    """As they are in records, in CBOR, and in CBOR that is in a record."""
    numbers = [wh for sub in subs for wh in scene.registers[sub]]
    assert all(wh % 10 and wh.bit_length() > 40 for wh in numbers), "the format takes zeros from the end of a number"
    packed = [wh.to_bytes(6) for wh in numbers]
    return Traces((*(b"%d" % wh for wh in numbers), *packed, *(data.hex().encode() for data in packed)))


def tried(scene: Scene, contracts: Iterable[Contract], caller: Caller) -> bytes:
    """Everything that one caller is told by every function, refusals included."""
    asked, heard = attempts(scene.stream, scene.dispute), []
    functions = {(contract.name, function) for contract in contracts for function in contract.functions}
    assert functions == set(asked), f"nobody has thought about {functions ^ set(asked)}"
    for (contract, function), every in asked.items():
        for given in every:
            try:
                heard.append(scene.ledger.evaluate(contract, function, given, caller, SECRETS))
            except Declined as declined:
                heard.append(str(declined).encode())
    return b"\n".join(heard)


def seen(found: Mapping[str, Traces], data: bytes) -> frozenset[str]:
    """What is in it."""
    return frozenset(what for what, pattern in found.items() if pattern.search(data))


ORDERED = (
    "registers of A",
    "registers of others",
    "registers of generation",
    "results of A",
    "results of others",
    "totals of five members",
    "totals of two members",
    "coefficient of A",
    "coefficient of others",
    "transfers of A",
    "transfers of others",
    "terms of an order",
    "what is said in a dispute",
    "guarantees of origin",
    "batches: root, ends, submitter, transaction",
    "meters: serial number, place and owner (pseudonyms)",
)


def table(read: Mapping[str, frozenset[str]]) -> str:
    """Who reads what, in Markdown."""
    assert set().union(*read.values()) <= set(ORDERED)
    head = ["what", *read]
    lines = [head, ["---"] * len(head)]
    lines += [[what, *("reads" if what in of else "-" for of in read.values())] for what in ORDERED]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def everybody(
    scene: Scene,
    contracts: Iterable[Contract],
    public: bytes,
    own: Callable[[Caller], bytes] = lambda caller: b"",
    who: Iterable[str] = tuple(WHO),
) -> dict[str, frozenset[str]]:
    """The table: who -> what. ``own``: what lies on the machines of a caller's organisation in plain sight."""
    found, listed = patterns(scene), list(contracts)
    read = {name: seen(found, tried(scene, listed, WHO[name]) + own(WHO[name])) for name in who}
    return {**read, PUBLIC: seen(found, public)}
