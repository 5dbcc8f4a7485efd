"""Calls that every ledger refuses, as data: with which reason, on the ledger of :class:`tests.ledger.scene.Scene`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger.rules.world import Caller, Reason
from signer.dialogue import RefusalReason
from tests.ledger.lines import fingerprint
from tests.ledger.scene import (
    AGGREGATOR,
    COMMUNITY,
    DISTRIBUTOR,
    FIRST,
    INGESTION,
    ISSUER,
    LATER,
    ORDER,
    QUARTER,
    REGISTRAR,
    SALT,
    SETTLER,
    TERMS,
    Scene,
    member,
    person,
)

SAME = "nothing new"
"""The call is answered and writes nothing."""


@dataclass(frozen=True)
class Bad:
    """One call.

    Attributes:
        reason: for which it is declined; of a batch that is refused its number; :data:`SAME`.
        words: that are in the refusal.
        secret: a value may be a function of the scene.
    """

    name: str
    reason: Reason | RefusalReason | str
    words: str
    contract: str
    function: str
    caller: Caller
    given: Mapping[str, Any] = field(default_factory=dict)
    secret: Mapping[str, Any] = field(default_factory=dict)

    def secrets(self, scene: Scene) -> dict[str, Any]:
        return {name: value(scene) if callable(value) else value for name, value in self.secret.items()}


def _again(scene: Scene) -> bytes:
    return scene.line.batch(0, len(scene.line.statements) // 2 + 1).data


def _hole(scene: Scene) -> bytes:
    return scene.line.clone().grow(2).rest(len(scene.line.statements) + 1).data


def _forged(scene: Scene) -> bytes:
    first = len(scene.line.statements)
    return scene.line.clone().grow(2).forged(first, 2, first).data


def _of(gateway: str, authority: str = "authority") -> Callable[[Scene], bytes]:
    """The first batch of another gateway."""
    return lambda scene: scene.world.line(gateway, getattr(scene.world, authority)).begin().grow(1).rest(0).data


STRANGER = person("StrangerMSP", "mallory", "registrar settler ingestion eraser issuer auditor", "a")
NOBODY = person(COMMUNITY, "nobody")
EVERY_SETTLER = person(DISTRIBUTOR, "dani", "settler registrar ingestion")
METER = {"meter": "m-z", "model": "x", "serial": "1", "place": "p", "role": "consumption", "owner": "z"}
SUBMIT: tuple[Any, ...] = ("measurements", "SubmitBatch", INGESTION, {"gateway": "alpha"})
SEVERAL: tuple[Any, ...] = ("measurements", "SubmitBatch", INGESTION)
SETTLE = {"group": "g", "first_ms": FIRST, "count": 1}
RECORD = {"group": "g", "first_ms": FIRST}
AGREE = {"group": "g", "from_ms": LATER, "kind": "fixed"}
POINT = {"group": "g", "point": "p", "kind": "generation", "gateway": "alpha", "from_ms": FIRST}
DISPUTE = {"group": "g", "first_ms": FIRST, "member": "b"}
F, M, U = Reason.FORBIDDEN, Reason.MALFORMED, Reason.UNKNOWN
C, E, N = Reason.CONFLICT, Reason.EXISTS, Reason.NOT_YET


def _shares(members: Any, **more: Any) -> dict[str, Any]:
    return {"coefficients": {"members": members, "salt": SALT, **more}}


BAD: tuple[Bad, ...] = (
    # Who calls: an organisation that is unknown here, one of another role, a right one without the attribute.
    Bad("unknown organisation registers", F, "StrangerMSP", "registry", "RegisterMeter", STRANGER, METER),
    Bad(
        "unknown organisation submits", F, "StrangerMSP", "measurements", "SubmitBatch", STRANGER, {"gateway": "alpha"}
    ),
    Bad("unknown organisation settles", F, "is CommunityMSP's", "sharing", "Settle", STRANGER, SETTLE),
    Bad("unknown organisation certifies", F, "neither", "origin", "Skip", STRANGER, {"device": "pv", "until_ms": 0}),
    Bad("another organisation settles", F, "is CommunityMSP's", "sharing", "Settle", EVERY_SETTLER, SETTLE),
    Bad("another organisation records", F, "settler of it", "exchanges", "Record", EVERY_SETTLER, RECORD),
    Bad(
        "an aggregator submits", F, "role metering", "measurements", "SubmitBatch", person(AGGREGATOR, "x", "ingestion")
    ),
    Bad("no attribute: registers", F, "aigeco.role = registrar", "registry", "RegisterMeter", NOBODY, METER),
    Bad("no attribute: submits", F, "aigeco.role = ingestion", "measurements", "SubmitBatch", NOBODY),
    Bad("no attribute: settles", F, "aigeco.role = settler", "sharing", "Settle", NOBODY, SETTLE),
    Bad("no attribute: erases", F, "aigeco.role = eraser", "sharing", "Erase", SETTLER, {"group": "g"}),
    Bad("no attribute: certifies", F, "aigeco.role = issuer", "origin", "Issue", NOBODY, {"device": "pv"}),
    Bad("another member offers", F, "own certificate", "exchanges", "Offer", member("c"), ORDER, {"terms": TERMS}),
    Bad(
        "a namesake offers",
        F,
        "own certificate",
        "exchanges",
        "Offer",
        member("b", DISTRIBUTOR),
        ORDER,
        {"terms": TERMS},
    ),
    # What is told in secret: missing, too large, no record.
    Bad("no batch", M, "batch is missing in the transient map", *SUBMIT),
    Bad("no second batch", M, "batch-1 is missing", *SEVERAL, {"gateways": ["alpha", "beta"]}, {"batch-0": _again}),
    Bad("a gateway twice", M, "there twice", *SEVERAL, {"gateways": ["alpha", "alpha"]}),
    Bad("a batch too large", M, "262145", *SUBMIT, {"batch": bytes(262_145)}),
    Bad("what is no batch", M, "", *SUBMIT, {"batch": b"\xa0"}),
    Bad("no coefficients", M, "coefficients is missing in the transient map", "sharing", "Agree", SETTLER, AGREE),
    Bad("coefficients too large", M, "at most", "sharing", "Agree", SETTLER, AGREE, {"coefficients": b"[" * 4_200_000}),
    Bad("no salt", M, "salt", "sharing", "Agree", SETTLER, AGREE, {"coefficients": {"members": {"a": 1_000_000}}}),
    Bad("no words", M, "words is missing in the transient map", "exchanges", "Dispute", member("b"), DISPUTE),
    Bad(
        "terms with a float", M, "no integer", "exchanges", "Dispute", member("b"), DISPUTE, {"words": b'{"words":1.5}'}
    ),
    # Statements: of a gateway that is revoked, another's, unknown, of a root that nobody believes.
    Bad(
        "a gateway that is revoked",
        RefusalReason.UNKNOWN_GATEWAY,
        "",
        "measurements",
        "SubmitBatch",
        INGESTION,
        {"gateway": "gone"},
        {"batch": _of("gone")},
    ),
    Bad("another gateway's statements", RefusalReason.NOT_THIS_GATEWAY, "", *SUBMIT, {"batch": _of("beta")}),
    Bad(
        "an unknown gateway",
        RefusalReason.UNKNOWN_GATEWAY,
        "",
        "measurements",
        "SubmitBatch",
        INGESTION,
        {"gateway": "omega"},
        {"batch": _of("omega")},
    ),
    Bad(
        "a root that nobody believes",
        RefusalReason.UNKNOWN_GATEWAY,
        "no pinned root",
        *SUBMIT,
        {"batch": _of("alpha", "stranger")},
    ),
    Bad(
        "another owner's gateway, under another root than that owner pinned",
        RefusalReason.UNKNOWN_GATEWAY,
        "",
        "measurements",
        "SubmitBatch",
        INGESTION,
        {"gateway": "theirs"},
        {"batch": _of("theirs")},
    ),
    Bad("a hole in the chain", RefusalReason.OUT_OF_ORDER, "", *SUBMIT, {"batch": _hole}),
    Bad("a signature of another key", RefusalReason.BAD_SIGNATURE, "", *SUBMIT, {"batch": _forged}),
    # Said twice.
    Bad("a batch again", SAME, "exists", *SUBMIT, {"batch": _again}),
    Bad("a settlement again", SAME, '"version":1', "sharing", "Settle", SETTLER, SETTLE),
    Bad("transfers again", SAME, '"version":1', "exchanges", "Record", SETTLER, RECORD),
    Bad(
        "a group again",
        E,
        "group g",
        "sharing",
        "CreateGroup",
        SETTLER,
        {"group": "g", "zone": "peninsula", "period_ms": QUARTER},
    ),
    Bad(
        "a device again",
        E,
        "device pv",
        "origin",
        "RegisterDevice",
        ISSUER,
        {"device": "pv", "gateway": "alpha", "sub": "shed", "organisation": COMMUNITY, "member": "a", "from_ms": FIRST},
    ),
    Bad("an order again", C, "overlaps", "exchanges", "Offer", member("b"), ORDER, {"terms": TERMS}),
    Bad("an order accepted again", C, "already", "exchanges", "Accept", member("c"), ORDER, {"terms": TERMS}),
    Bad(
        "a dispute again",
        E,
        "has raised",
        "exchanges",
        "Dispute",
        member("c"),
        {**DISPUTE, "member": "c"},
        {"words": {"words": "x", "salt": SALT}},
    ),
    Bad(
        "a Wh certified again", C, "overlaps", "origin", "Issue", ISSUER, {"device": "pv", "until_ms": FIRST + QUARTER}
    ),
    # Coefficients.
    Bad("coefficients below one", M, "0.999999, not to 1", "sharing", "Agree", SETTLER, AGREE, _shares({"a": 999_999})),
    Bad(
        "coefficients above one",
        M,
        "1.000001, not to 1",
        "sharing",
        "Agree",
        SETTLER,
        AGREE,
        _shares({"a": 1_000_000, "b": 1}),
    ),
    Bad(
        "a coefficient below zero",
        M,
        "below zero",
        "sharing",
        "Agree",
        SETTLER,
        AGREE,
        _shares({"a": 1_000_001, "b": -1}),
    ),
    Bad("a stranger's coefficient", U, "no member 'z'", "sharing", "Agree", SETTLER, AGREE, _shares({"z": 1_000_000})),
    Bad(
        "coefficients in the open",
        M,
        "'members' is no argument",
        "sharing",
        "Agree",
        SETTLER,
        {**AGREE, "members": {"a": 1_000_000}},
    ),
    # Periods.
    Bad(
        "an agreement in another",
        C,
        "overlaps the agreement",
        "sharing",
        "Agree",
        SETTLER,
        {**AGREE, "from_ms": FIRST},
        _shares({"a": 1_000_000}),
    ),
    Bad(
        "a stretch over a settled one", C, "overlap the 1 settled", "sharing", "Settle", SETTLER, {**SETTLE, "count": 2}
    ),
    Bad(
        "a stretch that begins askew",
        M,
        "begin at multiples",
        "sharing",
        "Settle",
        SETTLER,
        {**SETTLE, "first_ms": FIRST + 1},
    ),
    Bad(
        "before anything is agreed",
        N,
        "nothing is agreed",
        "sharing",
        "Settle",
        SETTLER,
        {**SETTLE, "first_ms": FIRST - QUARTER},
    ),
    Bad("a point in two groups", C, "overlaps", "sharing", "AddPoint", SETTLER, {**POINT, "sub": "shed"}),
    Bad(
        "a meter at two places",
        C,
        "overlaps",
        "registry",
        "AssignMeter",
        REGISTRAR,
        {"meter": "m-a", "gateway": "alpha", "sub": "loft", "from_ms": LATER},
    ),
    # Arguments.
    Bad("no such function", U, "has no function", "sharing", "Give", SETTLER),
    Bad("no such group", U, "no group q", "sharing", "Settle", SETTLER, {**SETTLE, "group": "q"}),
    Bad("a misspelt argument", M, "'counts' is no argument", "sharing", "Settle", SETTLER, {**SETTLE, "counts": 2}),
    Bad("a key with a slash", M, "letters, digits and hyphens", "sharing", "CreateGroup", SETTLER, {"group": "a/b"}),
    Bad(
        "somebody else's guarantee",
        F,
        "own certificate",
        "origin",
        "Retire",
        member("b"),
        {"device": "pv", "first": 1, "count": 1, "for": "b"},
    ),
    Bad(
        "guarantees that are not there",
        U,
        "not in one lot",
        "origin",
        "Retire",
        member("a"),
        {"device": "pv", "first": 1, "count": 10**9, "for": "a"},
    ),
)


def gone(scene: Scene) -> None:
    """Before the cases: more gateways, of which one is revoked, and one another organisation's."""
    for gateway in ("beta", "gone"):
        scene.do("registry", "RegisterGateway", REGISTRAR, gateway=gateway, owner=COMMUNITY)
    scene.do("registry", "RevokeGateway", REGISTRAR, gateway="gone", why="lost")
    root = fingerprint(scene.world.second.certificate).hex()
    scene.do("registry", "RegisterGateway", REGISTRAR, gateway="theirs", owner=DISTRIBUTOR, root=root)
