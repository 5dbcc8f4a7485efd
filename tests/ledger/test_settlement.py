"""Contract ``sharing``: settled, settled again, read by those who may, and everything that is declined."""

from typing import Any

import pytest

from drivers.reading import Reading, exact
from ledger.rules import settlement
from ledger.rules.boundaries import Change
from ledger.rules.record import parse
from ledger.rules.world import Caller, Declined, Reason
from tests.ledger.community import (
    AUDITOR,
    ERASER,
    GRID,
    HOUR,
    POOL,
    QUARTER,
    REGISTRAR,
    SALT,
    SETTLER,
    START,
    Community,
    member,
)
from tests.ledger.lines import START_MS, World, instant
from tests.ledger.test_batches import Place

THREE = {"a": 500_000, "b": 300_000, "c": 200_000}


@pytest.fixture
def there() -> Community:
    """The example of docs/settlement.md: 1,001 Wh from the roof in the first quarter hour, 500 in the second."""
    made = Community(THREE)
    made.agree(THREE)
    made.show(START, 10_000, [100, 200, 300])
    made.show(START + QUARTER, 11_001, [700, 500, 450])
    made.show(START + 2 * QUARTER, 11_501, [750, 900, 450])
    return made


def test_settled(there: Community) -> None:
    run = there.settle(count=2)
    assert run["version"] == 1
    assert run["periods"] == {"settled": 2, "provisional": 0, "open": 0}
    assert run["members"] == ["a", "b", "c"]
    found = there.ask("Results", group="g", first_ms=START)["members"]
    assert found["a"]["allotted"] == [501, 250]
    assert found["a"]["self_consumed"] == [501, 50]
    assert found["a"]["surplus"] == [0, 200]
    assert found["a"]["from_grid"] == [99, 0]
    assert found["b"]["from_grid"] == [0, 250]
    assert found["c"] == {
        "allotted": [200, 100],
        "consumed": [150, 0],
        "self_consumed": [150, 0],
        "surplus": [50, 100],
        "from_grid": [0, 0],
        "state": ["settled", "settled"],
        "reason": ["", ""],
        "salt": found["c"]["salt"],
    }
    assert len({found[name]["salt"] for name in "abc"}) == 3


def test_asked_twice_the_same_version_is_answered(there: Community) -> None:
    run = there.settle(count=2)
    before = {name: dict(store) for name, store in there.ledger.stores.items()}
    assert there.settle(count=2) == run
    assert there.ledger.stores == before


def test_data_that_come_later_make_a_new_version_and_the_old_one_stays(there: Community) -> None:
    there.registers.at["gw", "b-home"].pop()
    first = there.settle(count=2)
    assert first["periods"] == {"settled": 1, "provisional": 0, "open": 1}
    found = there.ask("Results", group="g", first_ms=START)["members"]
    assert found["b"]["reason"] == ["", "no statement at the end"]
    assert found["b"]["allotted"] == [300, 150]
    assert found["b"]["surplus"] == [0, None]
    assert found["a"]["state"] == ["settled", "settled"], "another member's reading is nobody else's matter"
    there.registers.show("gw", "b-home", START + 2 * QUARTER, 900)
    second = there.settle(count=2)
    assert (second["version"], second["periods"]["settled"]) == (2, 2)
    assert [run["version"] for run in there.ask("Versions", group="g", first_ms=START)] == [1, 2]
    old = there.ask("Results", group="g", first_ms=START, version=1, member="b")["members"]["b"]
    assert old == found["b"]
    assert there.ask("Results", group="g", first_ms=START, member="b")["members"]["b"]["from_grid"] == [0, 250]


def test_an_exchanged_meter_leaves_the_period_provisional(there: Community) -> None:
    there.registers.at["gw", "a-home"][1:] = []
    there.registers.show("gw", "a-home", START + QUARTER, 30)
    there.registers.show("gw", "a-home", START + 2 * QUARTER, 80)
    change = Change(START + 1000, bytes(16), 9, ((670, 0), None), ((0, 0), None))
    there.registers.changes["gw", "a-home"] = [change]
    assert there.settle(count=2)["periods"] == {"settled": 1, "provisional": 1, "open": 0}
    found = there.ask("Results", group="g", first_ms=START, member="a")["members"]["a"]
    assert found["consumed"] == [600, 50]
    assert found["reason"] == ["meter exchanged", ""]


def test_what_a_number_was_made_from(there: Community) -> None:
    there.settle(count=2)
    source = there.ask("Source", group="g", first_ms=START, point="roof")
    assert (source["gateway"], source["sub"]) == ("gw", "roof")
    assert [item[0] for item in source["at"]] == [START, START + QUARTER, START + 2 * QUARTER]
    assert source["at"][0][1:3] == [bytes(16).hex(), START // QUARTER]


def test_no_number_of_a_person_is_public(there: Community) -> None:
    there.settle(count=2)
    public = {**there.ledger.stores["sharing", ""]}
    words = b" ".join(public.values())
    assert b"allotted" not in words
    assert b"consumed" not in words
    assert all("allotted" not in str(event) for event in there.ledger.events)


@pytest.mark.parametrize(
    ("caller", "everybody", "own"),
    [
        (SETTLER, True, True),
        (GRID, True, True),
        (AUDITOR, True, True),
        (member("a"), False, True),
        (member("b"), False, False),
        (member("a", "OtherMSP"), False, False),
        (POOL, False, False),
        (Caller("OtherMSP", "eva", {"aigeco.role": "auditor settler"}), False, False),
        (Caller("CommunityMSP", "nobody"), False, False),
    ],
)
def test_who_reads_what(there: Community, caller: Caller, everybody: bool, own: bool) -> None:
    there.settle(count=2)
    for given, may in (({}, everybody), ({"member": "a"}, own)):
        if may:
            assert there.ask("Results", caller=caller, group="g", first_ms=START, **given)
        else:
            with pytest.raises(Declined, match="may not read"):
                there.ask("Results", caller=caller, group="g", first_ms=START, **given)


def test_totals_need_five_members() -> None:
    for count, may in ((4, False), (5, True)):
        parts = {f"m{number}": 1_000_000 // count for number in range(count)}
        there = Community(parts)
        there.agree(parts)
        there.show(START, 0, [0] * count)
        there.show(START + QUARTER, 1000, [100] * count)
        there.settle()
        if may:
            totals = there.ask("Totals", caller=POOL, group="g", first_ms=START)["totals"]
            assert totals["allotted"] == [1000]
            assert totals["from_grid"] == [0]
        else:
            with pytest.raises(Declined, match="5 at least"):
                there.ask("Totals", caller=POOL, group="g", first_ms=START)
        with pytest.raises(Declined, match="no certificate"):
            there.ask("Totals", caller=member("m0"), group="g", first_ms=START)


# ---- coefficients


def test_coefficients_of_each_hour_of_the_year() -> None:
    there = Community({"a": 0, "b": 0}, period_ms=HOUR)
    there.agree(["a", "b"], "hourly")
    # 2 November, 12:00 of winter time: the 306th day of the year, hour 305 * 24 + 13.
    rows = [[1_000_000 - hour, hour] for hour in range(24)]
    for place in range(3):
        there.show(START + place * HOUR, place * 1_000_000, [0, 0])
    there.declines(Reason.NOT_YET, "hours 7321 to 7344 of 2026", "Settle", group="g", first_ms=START, count=2)
    there.commit("PutHours", group="g", from_ms=START, year=2026, first_hour=7321, rows=rows)
    there.settle(count=2)
    assert there.ask("Results", group="g", first_ms=START)["members"]["b"]["allotted"] == [12, 13]
    given: dict[str, Any] = {"group": "g", "from_ms": START, "year": 2026, "first_hour": 7321, "rows": rows}
    there.declines(Reason.EXISTS, "are agreed", "PutHours", **given)
    rows[5] = [1_000_000, 1]
    there.declines(Reason.MALFORMED, "hour 30 add up to 1.000001, not to 1", "PutHours", **{**given, "first_hour": 25})
    rows[5] = [1_000_000, 0]
    there.declines(Reason.MALFORMED, "whole days", "PutHours", **{**given, "first_hour": 26})
    there.declines(Reason.MALFORMED, "hour 8784 of 2026, which has 8760", "PutHours", **{**given, "first_hour": 8761})
    there.commit("PutHours", **{**given, "year": 2028, "first_hour": 8761})
    there.declines(Reason.UNKNOWN, "no hourly agreement", "PutHours", **{**given, "from_ms": START + HOUR})


def test_by_consumption() -> None:
    there = Community({"a": 0, "b": 0})
    there.agree({"a": 900_000, "b": 100_000}, "by consumption")
    there.show(START, 0, [0, 0])
    there.show(START + QUARTER, 1000, [100, 300])
    there.show(START + 2 * QUARTER, 2000, [100, 300])
    there.show(START + 3 * QUARTER, 3000, [200, None])
    there.settle(count=3)
    found = there.ask("Results", group="g", first_ms=START)["members"]
    assert found["a"]["allotted"] == [250, 900, None]
    assert found["a"]["reason"] == ["", "", "no statement at the end"]


def test_another_agreement_takes_the_place_of_the_first(there: Community) -> None:
    later = START + HOUR
    there.agree({"a": 1_000_000, "b": 0}, from_ms=later)
    words = f"another agreement begins at {later}"
    there.declines(Reason.CONFLICT, words, "Settle", group="g", first_ms=START, count=5)
    there.show(later, 12_000, [0, 0, 0])
    there.show(later + QUARTER, 12_100, [0, 0, 0])
    assert there.settle(later)["members"] == ["a", "b"]
    assert there.ask("Results", group="g", first_ms=later)["members"]["a"]["allotted"] == [100]


def test_several_points() -> None:
    there = Community({"a": 0})
    there.point("barn", "a")
    there.point("carport", None)
    there.agree({"a": 1_000_000})
    for at, (roof, port, home, barn) in enumerate([(0, 0, 0, 0), (100, 50, 60, 70)]):
        there.show(START + at * QUARTER, roof, [home])
        there.registers.show("gw", "carport", START + at * QUARTER, 0, port)
        there.registers.show("gw", "barn", START + at * QUARTER, barn)
    there.settle()
    found = there.ask("Results", group="g", first_ms=START, member="a")["members"]["a"]
    assert (found["allotted"], found["consumed"], found["surplus"]) == ([150], [130], [20])


# ---- what is declined


AGREE = {"function": "Agree", "group": "g", "kind": "fixed", "from_ms": START + 4 * HOUR}
SETTLE = {"function": "Settle", "group": "g", "first_ms": START, "count": 2}
POINT = {"function": "AddPoint", "group": "g", "kind": "consumption", "gateway": "gw", "from_ms": START}


@pytest.mark.parametrize(
    ("reason", "words", "given"),
    [
        (Reason.MALFORMED, "add up to 0.999999, not to 1", {**AGREE, "members": {"a": 999_999}}),
        (Reason.MALFORMED, "below zero", {**AGREE, "members": {"a": 1_000_001, "b": -1}}),
        (Reason.MALFORMED, "whole millionths", {**AGREE, "members": {"a": True}}),
        (Reason.MALFORMED, "members", {**AGREE, "members": ["a"]}),
        (Reason.MALFORMED, "each once", {**AGREE, "members": ["a", "a"], "kind": "hourly"}),
        (Reason.MALFORMED, "one of fixed", {**AGREE, "members": {"a": 1_000_000}, "kind": "fair"}),
        (Reason.UNKNOWN, "no member 'z'", {**AGREE, "members": {"z": 1_000_000}}),
        (Reason.UNKNOWN, "no group h", {**AGREE, "members": {"a": 1_000_000}, "group": "h"}),
        (Reason.CONFLICT, "overlaps the agreement", {**AGREE, "members": {"a": 1_000_000}, "from_ms": START}),
        (Reason.MALFORMED, "begin at multiples", {**AGREE, "members": {"a": 1_000_000}, "from_ms": START + 1}),
        (Reason.FORBIDDEN, "is CommunityMSP's", {**AGREE, "members": {"a": 1_000_000}, "caller": GRID}),
        (Reason.FORBIDDEN, "aigeco.role = settler", {**AGREE, "members": {"a": 1_000_000}, "caller": REGISTRAR}),
        (Reason.CONFLICT, "overlap the 2 settled", {**SETTLE, "count": 1}),
        (Reason.CONFLICT, "overlap the 2 settled", {**SETTLE, "first_ms": START + QUARTER}),
        (Reason.CONFLICT, "overlap the 2 settled", {**SETTLE, "first_ms": START - QUARTER}),
        (Reason.MALFORMED, "begin at multiples", {**SETTLE, "first_ms": START + 1}),
        (Reason.MALFORMED, "count", {**SETTLE, "count": 0}),
        (Reason.MALFORMED, "'counts' is no argument", {**SETTLE, "counts": 2}),
        (Reason.NOT_YET, "nothing is agreed", {**SETTLE, "first_ms": START - HOUR}),
        (Reason.FORBIDDEN, "is CommunityMSP's", {**SETTLE, "caller": GRID}),
        (Reason.FORBIDDEN, "aigeco.role = settler", {**SETTLE, "caller": member("a")}),
        (Reason.UNKNOWN, "no member 'z'", {**POINT, "point": "p", "sub": "p", "member": "z"}),
        (Reason.CONFLICT, "is point a-home", {**POINT, "point": "p", "sub": "a-home", "member": "b"}),
        (Reason.EXISTS, "point a-home exists", {**POINT, "point": "a-home", "sub": "p", "member": "b"}),
        (Reason.MALFORMED, "nobody's point", {**POINT, "point": "p", "sub": "p", "member": "b", "kind": "generation"}),
        (Reason.MALFORMED, "sub", {**POINT, "point": "p", "sub": "p/1", "member": "b"}),
        (
            Reason.CONFLICT,
            "the point began",
            {"function": "EndPoint", "group": "g", "point": "roof", "until_ms": START},
        ),
        (Reason.EXISTS, "group g", {"function": "CreateGroup", "group": "g", "zone": "peninsula", "period_ms": HOUR}),
        (Reason.MALFORMED, "zone", {"function": "CreateGroup", "group": "h", "zone": "lisboa", "period_ms": HOUR}),
        (
            Reason.FORBIDDEN,
            "is no manager",
            {"function": "CreateGroup", "group": "h", "zone": "canarias", "period_ms": HOUR, "caller": GRID},
        ),
        (Reason.UNKNOWN, "has no function", {"function": "Give"}),
    ],
)
def test_declined(there: Community, reason: Reason, words: str, given: dict[str, Any]) -> None:
    there.settle(count=2)
    there.declines(reason, words, **given)


def test_coefficients_are_agreed_before_they_hold(there: Community) -> None:
    there.ledger.time_ms = START + 2 * HOUR
    given = {"group": "g", "kind": "fixed", "members": {"a": 1_000_000}}
    there.declines(Reason.CONFLICT, "is past", "Agree", from_ms=START + HOUR, **given)


def test_a_point_changes_between_stretches_not_within(there: Community) -> None:
    there.commit("EndPoint", group="g", point="a-home", until_ms=START + QUARTER)
    there.declines(Reason.CONFLICT, "point a-home changes", "Settle", group="g", first_ms=START, count=2)
    assert there.settle(count=1)["periods"]["settled"] == 1
    run = there.settle(START + QUARTER, 1)
    assert "a-home" not in run["points"]
    there.point("a-flat", "a", START + QUARTER, "a-home")


# ---- the month


def test_the_months_statement() -> None:
    november = (START - START % 86_400_000) - 86_400_000 - HOUR  # 1 November 00:00 on the peninsula
    there = Community({"a": 0}, period_ms=HOUR, from_ms=november)
    there.agree({"a": 1_000_000}, from_ms=november)
    for hour in range(30 * 24 + 1):
        there.show(november + hour * HOUR, max(0, hour - 700) * 300, [hour * 100])
    given = {"group": "g", "member": "a", "year": 2026, "month": 11, "buy": 200_000, "sell": 60_000}
    days = list(range(30))
    for day in [*days[:4], *days[5:]]:
        there.settle(november + day * 24 * HOUR, 24)
    with pytest.raises(Declined, match=f"{november + 4 * 24 * HOUR} ms is not settled"):
        there.ask("Statement", **given)
    there.settle(november + 4 * 24 * HOUR, 24)
    found = there.ask("Statement", caller=member("a"), **given)
    # 20 hours with 300 Wh of sun, 100 consumed: 200 surplus each; the other 700 hours from the grid.
    assert found["wh"] == {
        "allotted": 6000,
        "consumed": 72_000,
        "self_consumed": 2000,
        "surplus": 4000,
        "from_grid": 70_000,
    }
    assert found["cents"] == {"bought": 1400, "surplus_value": 24, "compensated": 24, "to_pay": 1376}
    with pytest.raises(Declined, match="720 whole prices"):
        there.ask("Statement", **{**given, "sell": [1, 2]})
    hourly = there.ask("Statement", **{**given, "sell": [0] * 719 + [1_000_000]})
    assert hourly["cents"]["surplus_value"] == 20
    with pytest.raises(Declined, match="may not read"):
        there.ask("Statement", caller=member("b"), **given)


def test_erased(there: Community) -> None:
    there.settle(count=2)
    given = {"group": "g", "member": "a", "from_ms": START, "until_ms": START + HOUR, "why": "asked by a"}
    there.declines(Reason.FORBIDDEN, "eraser", "Erase", **given)
    assert there.commit("Erase", caller=ERASER, **given)["stretches"] == 1
    private = there.ledger.stores["sharing", "results"]
    assert not any("/a" in name for name in private)
    assert there.ask("Results", group="g", first_ms=START, member="b")["members"]["b"]["allotted"] == [300, 150]
    with pytest.raises(Declined, match="erased"):
        there.ask("Results", group="g", first_ms=START, member="a")
    there.declines(Reason.CONFLICT, "erased", "Settle", group="g", first_ms=START, count=2)
    assert there.ask("Versions", group="g", first_ms=START), "that it was settled stays known"
    (entry,) = there.ask("Erased", group="g")
    assert (entry["member"], entry["why"], entry["by"]["name"]) == ("a", "asked by a", "ana")


def test_what_was_made_from_registers_that_are_erased_is_not_settled_again(there: Community) -> None:
    run = there.settle(count=2)
    kept = there.registers.at["gw", "a-home"][:]
    there.registers.at["gw", "a-home"][1:] = []
    there.declines(Reason.CONFLICT, "a-home", "Settle", group="g", first_ms=START, count=2)
    there.registers.at["gw", "a-home"] = kept
    assert there.settle(count=2) == run


def test_who_reads_coefficients(there: Community) -> None:
    there.agree(["a", "b"], "hourly", from_ms=START + 24 * HOUR)
    rows = [[1_000_000 - hour, hour] for hour in range(24)]
    day = {"group": "g", "from_ms": START + 24 * HOUR, "year": 2026}
    there.commit("PutHours", first_hour=25, rows=rows, **day)
    first = {"group": "g", "from_ms": START}
    for caller in (SETTLER, GRID, AUDITOR, member("b")):
        assert there.ask("Coefficients", caller=caller, member="b", **first)["members"] == {"b": 300_000}
    for caller in (SETTLER, GRID, AUDITOR):
        assert there.ask("Coefficients", caller=caller, **first)["members"] == THREE
    assert there.ask("Coefficients", caller=member("b"), member="b", day=1, **day)["members"] == {"b": list(range(24))}
    for caller, given in ((member("a"), {"member": "b"}), (member("b"), {}), (POOL, {}), (member("b", "OtherMSP"), {})):
        with pytest.raises(Declined, match="may not read"):
            there.ask("Coefficients", caller=caller, **first, **given)
    with pytest.raises(Declined, match="no agreement from"):
        there.ask("Coefficients", group="g", from_ms=START + HOUR)
    with pytest.raises(Declined, match="ms on with c"):
        there.ask("Coefficients", member="c", day=1, **day)
    with pytest.raises(Declined, match="for hours 1 to 24 of 2026"):
        there.ask("Coefficients", day=0, **day)
    assert b"300000" not in b"".join(there.ledger.stores["sharing", ""].values())


def test_from_signed_statements() -> None:
    """The real contract ``measurements`` beneath: what gateways signed is what is shared."""
    world = World()
    place = Place(world, settlement.CONTRACT)
    place.registry("RegisterGateway", gateway="alpha", owner="CommunityMSP")
    line = world.line().begin()
    quarter = START_MS - START_MS % QUARTER + QUARTER
    for number in range(2):
        for sub, key, first in (("roof", 520, 5000), ("home", 264, 70)):
            at_ms = quarter + number * QUARTER
            values = ((key, exact(first * 10 + number * 1234, -1)),)
            line.statements.append(line.chain.reading(Reading(sub, at_ms, None, values, 40), instant(at_ms + 40)))
    place.send(line.rest(0))

    def do(function: str, secret: Any = None, **given: object) -> Any:
        place.ledger.time_ms += 1
        return parse(place.ledger.commit("sharing", function, given, SETTLER, secret))

    do("CreateGroup", group="g", zone="peninsula", period_ms=QUARTER)
    do("SetMember", group="g", member="a", organisation="CommunityMSP")
    for point, kind in (("roof", {"kind": "generation"}), ("home", {"kind": "consumption", "member": "a"})):
        do("AddPoint", group="g", point=point, gateway="alpha", sub=point, from_ms=quarter, **kind)
    secret = {"coefficients": {"members": {"a": 1_000_000}, "salt": SALT}}
    do("Agree", secret, group="g", from_ms=quarter, kind="fixed")
    do("Settle", group="g", first_ms=quarter, count=1)
    found = parse(place.ledger.evaluate("sharing", "Results", {"group": "g", "first_ms": quarter}, SETTLER))
    assert found["members"]["a"]["allotted"] == [123]
    assert found["members"]["a"]["consumed"] == [123]
    assert found["members"]["a"]["state"] == ["settled"]
