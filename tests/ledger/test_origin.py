"""Contract ``origin``: a guarantee for each whole kWh, never two for one Wh, retired once."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.rules import origin
from ledger.rules.boundaries import Change
from ledger.rules.record import parse
from ledger.rules.world import Caller, Declined, Reason
from tests.ledger.community import GRID, HOUR, QUARTER, START, Community, member

ISSUER = Caller("AuditMSP", "eva", {"aigeco.role": "issuer auditor"})
DEVICE = {"device": "pv-1", "gateway": "gw", "sub": "roof", "organisation": "CommunityMSP", "member": "a"}


class Origin(Community):
    """A roof whose export is certified for member a."""

    def __init__(self) -> None:
        super().__init__({"a": 1_000_000}, origin.CONTRACT)
        self.say("RegisterDevice", **DEVICE, from_ms=START)

    def say(self, function: str, caller: Caller = ISSUER, **given: object) -> Any:
        return self.commit(function, "origin", caller, **given)

    def roof(self, *registers: int, **more: int) -> None:
        """What the export register shows at each quarter hour from the start on; again says otherwise."""
        self.registers.at["gw", "roof"] = []
        for number, wh in enumerate(registers):
            self.registers.show("gw", "roof", START + number * QUARTER, 0, wh, **more)

    def lots(self, **given: object) -> list[tuple[int, int, str, str]]:
        found = self.ask("Lots", "origin", **(given or {"device": "pv-1"}))
        return [(lot["first"], lot["count"], lot["owner"]["member"], lot["state"]) for lot in found]


@pytest.fixture
def there() -> Origin:
    return Origin()


def test_whole_kwh_are_issued_and_the_rest_is_carried(there: Origin) -> None:
    there.roof(500, 1900, 3400, 3499, 4499, 5500)
    lot = there.say("Issue", device="pv-1", until_ms=START + QUARTER)
    assert (lot["first"], lot["count"], lot["from_ms"], lot["until_ms"]) == (1, 1, START, START + QUARTER)
    assert there.ask("Device", "origin", device="pv-1")["rest_wh"] == 400
    assert there.say("Issue", device="pv-1", until_ms=START + 2 * QUARTER)["count"] == 1  # 400 + 1,500
    declined = there.declined("Issue", "origin", ISSUER, device="pv-1", until_ms=START + 3 * QUARTER)
    assert (declined.reason, "999 Wh since" in declined.words) == (Reason.NOT_YET, True)
    assert there.say("Issue", device="pv-1", until_ms=START + 5 * QUARTER)["count"] == 3
    assert there.lots() == [(1, 1, "a", "held"), (2, 1, "a", "held"), (3, 3, "a", "held")]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=2, max_size=12), st.data())
def test_no_wh_is_certified_twice_and_none_is_lost(steps: list[int], data: st.DataObject) -> None:
    there, register, shown = Origin(), 12_345, [12_345]
    for step in steps:
        register += step
        shown.append(register)
    there.roof(*shown)
    at, issued = 0, 0
    while at < len(steps):
        at = data.draw(st.integers(at + 1, len(steps)))
        with suppress(Declined):  # less than a kWh so far; anything else is seen below
            issued += there.say("Issue", device="pv-1", until_ms=START + at * QUARTER)["count"]
    device = there.ask("Device", "origin", device="pv-1")
    counted = shown[(device["through_ms"] - START) // QUARTER] - shown[0]
    assert issued * 1000 + device["rest_wh"] == counted
    assert device["issued"] == issued == (shown[-1] - shown[0]) // 1000
    lots = there.lots()
    numbers = [number for first, count, _, _ in lots for number in range(first, first + count)]
    assert numbers == list(range(1, issued + 1))


def test_a_reset_is_found_between_the_ends(there: Origin) -> None:
    there.roof(500, 900, 20, 5000)
    declined = there.declined("Issue", "origin", ISSUER, device="pv-1", until_ms=START + 3 * QUARTER)
    assert (declined.reason, "counter went back" in declined.words) == (Reason.CONFLICT, True)
    there.say("Skip", device="pv-1", until_ms=START + 2 * QUARTER, why="counter was reset")
    assert there.say("Issue", device="pv-1", until_ms=START + 3 * QUARTER)["count"] == 4


def test_doubts_are_left_out_and_a_missing_reading_between_does_no_harm(there: Origin) -> None:
    there.roof(0, 500, 3000)
    there.registers.at["gw", "roof"].pop(1)
    there.registers.show("gw", "roof", START + QUARTER, 0, 9999, quality=1)
    assert there.say("Issue", device="pv-1", until_ms=START + 2 * QUARTER)["count"] == 3
    there.registers.show("gw", "roof", START + 3 * QUARTER, 0, 6000, quality=1 << 13)
    declined = there.declined("Issue", "origin", ISSUER, device="pv-1", until_ms=START + 3 * QUARTER)
    assert (declined.reason, "estimated" in declined.words) == (Reason.NOT_YET, True)
    there.registers.show("gw", "roof", START + 4 * QUARTER, 0, 9000)
    assert there.say("Issue", device="pv-1", until_ms=START + 4 * QUARTER)["count"] == 6


def test_an_exchanged_meter_stops_the_issue(there: Origin) -> None:
    there.roof(0, 3000)
    there.registers.changes["gw", "roof"] = [Change(START + 1, bytes(16), 1, (None, (2000, 0)), (None, (0, 0)))]
    declined = there.declined("Issue", "origin", ISSUER, device="pv-1", until_ms=START + QUARTER)
    assert "meter exchanged" in declined.words


def test_transferred_and_retired_once(there: Origin) -> None:
    there.roof(0, 10_000)
    there.say("Issue", device="pv-1", until_ms=START + QUARTER)
    three = {"device": "pv-1", "first": 4, "count": 3}
    to = {"organisation": "GridMSP", "member": "b"}
    there.say("Transfer", member("a"), **three, **to)
    assert there.lots() == [(1, 3, "a", "held"), (4, 3, "b", "held"), (7, 4, "a", "held")]
    assert there.lots(**to) == [(4, 3, "b", "held")]
    there.say("Retire", member("b", "GridMSP"), device="pv-1", first=5, count=2, **{"for": "the car of 2026"})
    assert there.lots() == [(1, 3, "a", "held"), (4, 1, "b", "held"), (5, 2, "b", "retired"), (7, 4, "a", "held")]
    for function, more in (("Retire", {"for": "again"}), ("Transfer", to)):
        given = {"device": "pv-1", "first": 6, "count": 1, **more}
        declined = there.declined(function, "origin", member("b", "GridMSP"), **given)
        assert (declined.reason, "are retired, for the car of 2026" in declined.words) == (Reason.CONFLICT, True)
    assert [move["what"] for move in there.ask("Moves", "origin", device="pv-1")] == ["transferred", "retired"]


ONE = {"device": "pv-1", "first": 1, "count": 1}
TO = {"organisation": "CommunityMSP", "member": "b"}


@pytest.mark.parametrize(
    ("reason", "words", "function", "caller", "given"),
    [
        (Reason.FORBIDDEN, "issuer", "Issue", member("a"), {"device": "pv-1", "until_ms": START + HOUR}),
        (
            Reason.FORBIDDEN,
            "neither auditor nor manager",
            "Issue",
            Caller("GridMSP", "luis", {"aigeco.role": "issuer settler"}),
            {"device": "pv-1", "until_ms": START + HOUR},
        ),
        (Reason.UNKNOWN, "no device pv-2", "Issue", ISSUER, {"device": "pv-2", "until_ms": START + HOUR}),
        (Reason.CONFLICT, "overlaps", "Issue", ISSUER, {"device": "pv-1", "until_ms": START + QUARTER}),
        (Reason.CONFLICT, "no statement at the end", "Issue", ISSUER, {"device": "pv-1", "until_ms": START + HOUR}),
        (Reason.MALFORMED, "multiples", "Issue", ISSUER, {"device": "pv-1", "until_ms": START + HOUR + 1}),
        (Reason.MALFORMED, "at most", "Issue", ISSUER, {"device": "pv-1", "until_ms": START + 10_000 * HOUR}),
        (Reason.EXISTS, "pv-1 exists", "RegisterDevice", ISSUER, {**DEVICE, "from_ms": START}),
        (
            Reason.CONFLICT,
            "gw/roof is device pv-1",
            "RegisterDevice",
            ISSUER,
            {**DEVICE, "device": "pv-2", "from_ms": START},
        ),
        (Reason.FORBIDDEN, "are a of CommunityMSP's", "Transfer", member("b"), {**ONE, **TO}),
        (Reason.FORBIDDEN, "are a of CommunityMSP's", "Transfer", member("a", "GridMSP"), {**ONE, **TO}),
        (Reason.FORBIDDEN, "are a of CommunityMSP's", "Retire", GRID, {**ONE, "for": "me"}),
        (Reason.UNKNOWN, "not in one lot: 1 to 3", "Transfer", member("a"), {**ONE, "count": 4, **TO}),
        (Reason.UNKNOWN, "not in one lot", "Transfer", member("a"), {**ONE, "first": 9, **TO}),
        (Reason.MALFORMED, "count", "Transfer", member("a"), {**ONE, "count": 0, **TO}),
        (Reason.MALFORMED, "for", "Retire", member("a"), ONE),
    ],
)
def test_declined(
    there: Origin, reason: Reason, words: str, function: str, caller: Caller, given: dict[str, Any]
) -> None:
    there.roof(0, 3500)
    there.say("Issue", device="pv-1", until_ms=START + QUARTER)
    declined = there.declined(function, "origin", caller, **given)
    assert declined.reason is reason, declined
    assert words in declined.words, declined


def test_the_answers_are_records(there: Origin) -> None:
    assert parse(there.ledger.evaluate("origin", "Lots", {"device": "pv-1"}, ISSUER)) == []
