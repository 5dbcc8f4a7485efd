"""The registry: who may change what, what was true at a date, and that the past stays as it was."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.rules import registry
from ledger.rules.record import parse
from ledger.rules.world import Caller, Declined, Reason
from tests.ledger.world import MemoryLedger

ROOT = b"a root certificate".hex()
REGISTRAR = {"aigeco.role": "registrar"}
MANAGER = Caller("CommunityMSP", "ana", REGISTRAR)
DISTRIBUTOR = Caller("GridMSP", "luis", REGISTRAR)
AUDITOR = Caller("AuditMSP", "eva", REGISTRAR)
INSTALLER = Caller("CommunityMSP", "pep", {"aigeco.role": "installer"})
STRANGER = Caller("OtherMSP", "max", REGISTRAR)
FOUNDING = {
    "organisations": {
        "CommunityMSP": ["manager", "metering"],
        "GridMSP": ["distributor", "metering"],
        "AuditMSP": ["auditor", "metering"],
        "PoolMSP": ["aggregator"],
    },
    "authorities": [ROOT],
}
METER = {"meter": "m1", "model": "eastron-sdm120m", "serial": "4711", "place": "p-1", "role": "consumption"}
METER |= {"owner": "member-1"}


class Registry:
    """A founded registry whose clock goes on by a minute a change."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger(registry.CONTRACT)

    def do(self, function: str, caller: Caller = MANAGER, **arguments: object) -> Any:
        self.ledger.time_ms += 60_000
        return parse(self.ledger.commit("registry", function, arguments, caller))

    def ask(self, function: str, **arguments: object) -> Any:
        return parse(self.ledger.evaluate("registry", function, arguments, STRANGER))

    def declines(self, reason: Reason, words: str, function: str, caller: Caller = MANAGER, **given: object) -> None:
        before = {name: dict(store) for name, store in self.ledger.stores.items()}
        with pytest.raises(Declined, match=words) as caught:
            self.do(function, caller, **given)
        assert caught.value.reason is reason, caught.value
        assert self.ledger.stores == before, "a declined call changed something"


@pytest.fixture
def there() -> Registry:
    made = Registry()
    made.do("Found", **FOUNDING)
    return made


def test_it_is_founded_once_by_a_manager_that_is_in_it() -> None:
    made = Registry()
    made.declines(Reason.FORBIDDEN, "no certificate with the attribute", "Found", INSTALLER, **FOUNDING)
    made.declines(Reason.FORBIDDEN, "OtherMSP, who founds the registry, must", "Found", STRANGER, **FOUNDING)
    for wrong in ({}, {"organisations": ["CommunityMSP"]}, {"organisations": {"CommunityMSP": ["king"]}}):
        made.declines(Reason.MALFORMED, "organisations|CommunityMSP", "Found", **wrong)
    made.do("Found", **FOUNDING)
    made.declines(Reason.EXISTS, "is founded", "Found", **FOUNDING)
    assert made.ask("Organisation", organisation="GridMSP")["roles"] == ["distributor", "metering"]
    assert [record["certificate"] for record in made.ask("List", kind="authority")] == [ROOT]


def test_only_managers_change_organisations_and_one_remains(there: Registry) -> None:
    new = {"organisation": "NewMSP", "roles": ["metering"]}
    there.declines(Reason.FORBIDDEN, "GridMSP is no manager", "SetOrganisation", DISTRIBUTOR, **new)
    there.do("SetOrganisation", **new)
    last = {"organisation": "CommunityMSP", "roles": ["metering"]}
    there.declines(Reason.CONFLICT, "CommunityMSP is the last manager", "SetOrganisation", **last)
    there.do("SetOrganisation", organisation="NewMSP", roles=["manager"])
    there.do("SetOrganisation", **last)
    there.declines(Reason.FORBIDDEN, "CommunityMSP is no manager", "SetAuthority", certificate=ROOT, state="revoked")


def test_a_gateway_has_a_metering_home_and_its_registrars(there: Registry) -> None:
    pinned = {"certificate": "ab" * 32}
    there.do("RegisterGateway", DISTRIBUTOR, gateway="gw1", owner="GridMSP", **pinned)
    assert there.ask("Gateway", gateway="gw1") | pinned == there.ask("Gateway", gateway="gw1")
    for reason, words, caller, owner in (
        (Reason.FORBIDDEN, "OtherMSP may not", STRANGER, "OtherMSP"),
        (Reason.FORBIDDEN, "AuditMSP may not", AUDITOR, "GridMSP"),
        (Reason.FORBIDDEN, "attribute", INSTALLER, "CommunityMSP"),
        (Reason.UNKNOWN, "PoolMSP is no organisation here with the role metering", MANAGER, "PoolMSP"),
        (Reason.UNKNOWN, "NoMSP is no organisation", MANAGER, "NoMSP"),
        (Reason.MALFORMED, "owner: 'a/b'", MANAGER, "a/b"),
    ):
        there.declines(reason, words, "RegisterGateway", caller, gateway="gw2", owner=owner)
    there.declines(
        Reason.FORBIDDEN, "a manager or GridMSP may", "RegisterGateway", AUDITOR, gateway="gw1", owner="AuditMSP"
    )
    there.declines(
        Reason.MALFORMED, "32 bytes", "RegisterGateway", gateway="gw3", owner="GridMSP", certificate="ab" * 31
    )
    there.declines(Reason.MALFORMED, "'pin' is no argument", "RegisterGateway", gateway="gw3", owner="GridMSP", pin=1)


def test_a_revoked_gateway_was_active_before_and_can_come_back(there: Registry) -> None:
    registered = there.do("RegisterGateway", gateway="gw1", owner="GridMSP")
    there.declines(Reason.FORBIDDEN, "AuditMSP may not", "RevokeGateway", AUDITOR, gateway="gw1", why="stolen")
    revoked = there.do("RevokeGateway", DISTRIBUTOR, gateway="gw1", why="stolen")
    assert there.do("RevokeGateway", DISTRIBUTOR, gateway="gw1", why="again") == revoked
    at = {"gateway": "gw1"}
    assert there.ask("Gateway", **at, at_ms=revoked["since_ms"] - 1)["state"] == "active"
    assert there.ask("Gateway", **at, at_ms=revoked["since_ms"])["why"] == "stolen"
    with pytest.raises(Declined, match="gw1 is not registered at"):
        there.ask("Gateway", **at, at_ms=registered["since_ms"] - 1)
    assert there.ask("History", kind="gateway", name="gw1") == [registered, revoked]
    assert there.do("RegisterGateway", gateway="gw1", owner="GridMSP")["state"] == "active"
    assert there.ask("Gateway", **at, at_ms=revoked["since_ms"])["state"] == "revoked"
    assert revoked["by"] == {"organisation": "GridMSP", "name": "luis", "transaction": revoked["by"]["transaction"]}


def test_a_change_cannot_be_dated_before_the_last(there: Registry) -> None:
    there.do("RegisterGateway", gateway="gw1", owner="GridMSP")
    there.ledger.time_ms -= 120_000
    there.declines(Reason.CONFLICT, "it must be later", "RevokeGateway", gateway="gw1", why="clock set back")


def test_meters_are_for_managers_and_distributors(there: Registry) -> None:
    there.do("RegisterMeter", DISTRIBUTOR, **METER)
    there.declines(Reason.FORBIDDEN, "a manager or a distributor may", "RegisterMeter", AUDITOR, **METER)
    there.declines(Reason.CONFLICT, "serial number 4711: another one", "RegisterMeter", **METER | {"serial": "4712"})
    there.declines(Reason.MALFORMED, "role: 'oven'", "RegisterMeter", **METER | {"meter": "m2", "role": "oven"})
    there.declines(Reason.MALFORMED, "model: 200 characters", "RegisterMeter", **METER | {"model": "x" * 200})
    there.do("RegisterMeter", **METER, calibrated_until_ms=1_800_000_000_000)
    assert [version["calibrated_until_ms"] for version in there.ask("History", kind="meter", name="m1")] == [
        None,
        1_800_000_000_000,
    ]


def test_a_measuring_point_has_one_meter_at_a_time_and_a_meter_one_point(there: Registry) -> None:
    for gateway in ("gw1", "gw2"):
        there.do("RegisterGateway", gateway=gateway, owner="CommunityMSP")
    for meter in ("m1", "m2"):
        there.do("RegisterMeter", **METER | {"meter": meter, "serial": meter})
    here = {"gateway": "gw1", "sub": "house-grid"}
    there.do("AssignMeter", INSTALLER, meter="m1", **here, from_ms=1000)
    overlap = {"reason": Reason.CONFLICT, "words": "overlaps; end it first", "function": "AssignMeter"}
    there.declines(**overlap, meter="m2", **here, from_ms=2000)
    there.declines(**overlap, meter="m1", gateway="gw2", sub="house", from_ms=2000)
    there.declines(Reason.CONFLICT, "end that first", "RetireMeter", meter="m1")
    there.declines(Reason.FORBIDDEN, "attribute", "UnassignMeter", Caller("GridMSP", "x"), meter="m1", until_ms=5000)
    there.do("UnassignMeter", INSTALLER, meter="m1", until_ms=5000)
    there.declines(**overlap, meter="m2", **here, from_ms=4999)
    there.do("AssignMeter", INSTALLER, meter="m2", **here, from_ms=5000)
    there.do("RetireMeter", meter="m1")
    there.declines(Reason.CONFLICT, "m1 is retired", "AssignMeter", meter="m1", gateway="gw2", sub="x", from_ms=9000)
    there.declines(Reason.CONFLICT, "has been retired", "RegisterMeter", **METER | {"serial": "m1"})
    at = [[found["meter"] for found in there.ask("Assignments", **here, at_ms=ms)] for ms in (999, 1000, 4999, 5000)]
    assert at == [[], ["m1"], ["m1"], ["m2"]]
    assert [found["until_ms"] for found in there.ask("Assignments", meter="m1")] == [5000]
    there.declines(Reason.UNKNOWN, "m1 hangs nowhere", "UnassignMeter", meter="m1", until_ms=9000)


def test_an_installer_of_another_house_hangs_nothing(there: Registry) -> None:
    there.do("RegisterGateway", gateway="gw1", owner="GridMSP")
    there.do("RegisterMeter", **METER)
    foreign = Caller("AuditMSP", "ben", {"aigeco.role": "installer"})
    place = {"meter": "m1", "gateway": "gw1", "sub": "house", "from_ms": 0}
    there.declines(Reason.FORBIDDEN, "AuditMSP may not", "AssignMeter", foreign, **place)
    there.declines(Reason.MALFORMED, "sub: 'a/b'", "AssignMeter", **place | {"sub": "a/b"})
    there.declines(Reason.UNKNOWN, "meter m9 is not registered", "AssignMeter", **place | {"meter": "m9"})


def test_lists_come_in_pages(there: Registry) -> None:
    names = [f"gw{number:02}" for number in range(7)]
    for name in names:
        there.do("RegisterGateway", gateway=name, owner="GridMSP")
    found: list[str] = []
    while page := there.ask("List", kind="gateway", limit=3, **({"after": found[-1]} if found else {})):
        found += [record["gateway"] for record in page]
    assert found == names
    there.declines(Reason.MALFORMED, "kind: 'x'", "List", kind="x")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["change", "revoke", "nothing"]), max_size=12))
def test_what_was_true_at_a_date_stays_true(steps: list[str]) -> None:
    made = Registry()
    made.do("Found", **FOUNDING)
    seen: list[tuple[int, Any]] = []
    for number, step in enumerate(steps):
        with suppress(Declined):
            if step == "change":
                made.do("RegisterGateway", gateway="gw1", owner="GridMSP", certificate=f"{number:064x}")
            elif step == "revoke":
                made.do("RevokeGateway", gateway="gw1", why="test")
        seen.append((made.ledger.time_ms, _as_of(made, made.ledger.time_ms)))
    for at_ms, was in seen:
        assert _as_of(made, at_ms) == was


def _as_of(made: Registry, at_ms: int) -> Any:
    try:
        return made.ask("Gateway", gateway="gw1", at_ms=at_ms)
    except Declined:
        return None
