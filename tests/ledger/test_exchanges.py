"""Contract ``exchanges``: who gave whom, by which order, and what came of a dispute."""

from typing import Any

import pytest

from ledger.rules import exchanges
from ledger.rules.record import parse
from ledger.rules.world import Caller, Declined, Reason
from tests.ledger.community import AUDITOR, ERASER, GRID, HOUR, POOL, QUARTER, SALT, SETTLER, START, Community, member

FOUR = {"a": 600_000, "b": 300_000, "c": 100_000, "d": 0}
TERMS = {"limit_wh": 100, "price": 120_000, "salt": SALT}
ORDER = {"group": "g", "seller": "b", "buyer": "c", "from_ms": START + HOUR}


class Market(Community):
    """A community with the contract ``exchanges``; a call may have a secret."""

    def __init__(self) -> None:
        super().__init__(FOUR, exchanges.CONTRACT)
        self.agree(FOUR)

    def say(self, function: str, caller: Caller, secret: dict[str, Any] | None = None, **given: object) -> Any:
        self.ledger.time_ms += 1000
        return parse(self.ledger.commit("exchanges", function, given, caller, secret))

    def order(self, terms: dict[str, int] = TERMS) -> None:
        self.say("Offer", member("b"), {"terms": terms}, **ORDER)
        self.say("Accept", member("c"), {"terms": terms}, **ORDER)

    def quarter(self, first_ms: int, roof: int, homes: list[int]) -> Any:
        """Settle one quarter hour in which the roof gave and the homes took this."""
        self.show(first_ms, 0, [0] * 4)
        self.show(first_ms + QUARTER, roof, list(homes))
        self.settle(first_ms)
        return self.say("Record", SETTLER, group="g", first_ms=first_ms)

    def refused(
        self, reason: Reason, words: str, function: str, caller: Caller, secret: Any = None, **given: Any
    ) -> None:
        before = {name: dict(store) for name, store in self.ledger.stores.items()}
        with pytest.raises(Declined, match=words) as caught:
            self.say(function, caller, secret, **given)
        assert caught.value.reason is reason, caught.value
        assert self.ledger.stores == before, "a declined call changed something"


@pytest.fixture
def there() -> Market:
    return Market()


def test_pro_rata(there: Market) -> None:
    """1,000 Wh: 600, 300, 100, 0 allotted. a and b have 500 and 200 over; c and d lack 300 and 200."""
    run = there.quarter(START, 1000, [100, 100, 400, 200])
    assert (run["version"], run["settlement"], run["open"]) == (1, 1, 0)
    found = there.ask("Transfers", "exchanges", group="g", first_ms=START)["members"]
    assert sum(wh for _, _, wh, _ in found["a"]["given"]) == 357  # 500 of 700 parts of 500 Wh, 357.14
    assert sum(wh for _, _, wh, _ in found["c"]["received"]) == 300
    assert [found[name]["to_grid"] for name in "abcd"] == [[143], [57], [0], [0]]
    assert [found[name]["from_grid"] for name in "abcd"] == [[0]] * 4
    assert all(price is None for _, _, _, price in found["a"]["given"])


def test_a_standing_order_is_served_first(there: Market) -> None:
    there.order()
    there.quarter(START + HOUR, 1000, [100, 100, 400, 200])
    found = there.ask("Transfers", "exchanges", group="g", first_ms=START + HOUR)["members"]
    assert found["b"]["given"][0] == [0, "c", 100, 120_000]
    assert found["c"]["received"][0] == [0, "b", 100, 120_000]
    assert sum(wh for _, _, wh, _ in found["c"]["received"]) == 300
    there.quarter(START, 1000, [100, 100, 400, 200])
    before = there.ask("Transfers", "exchanges", group="g", first_ms=START, member="b")["members"]["b"]
    assert all(price is None for _, _, _, price in before["given"]), "the order began later"


def test_an_offer_alone_is_no_order_and_an_ended_one_none_either(there: Market) -> None:
    there.say("Offer", member("b"), {"terms": TERMS}, **ORDER)
    there.quarter(START + HOUR, 1000, [100, 100, 400, 200])
    found = there.ask("Transfers", "exchanges", group="g", first_ms=START + HOUR, member="b")["members"]["b"]
    assert all(price is None for _, _, _, price in found["given"])
    there.say("Accept", member("c"), {"terms": TERMS}, **ORDER)
    there.say("EndOrder", member("c"), **ORDER, until_ms=START + 2 * HOUR)
    there.quarter(START + 2 * HOUR, 1000, [100, 100, 400, 200])
    found = there.ask("Transfers", "exchanges", group="g", first_ms=START + 2 * HOUR, member="b")["members"]["b"]
    assert all(price is None for _, _, _, price in found["given"])
    there.say("Offer", member("b"), {"terms": TERMS}, **{**ORDER, "from_ms": START + 2 * HOUR})


def test_open_numbers_make_no_transfers(there: Market) -> None:
    there.show(START, 0, [0] * 4)
    there.show(START + QUARTER, 1000, [100, 100, None, 200])
    there.settle()
    assert there.say("Record", SETTLER, group="g", first_ms=START)["open"] == 1
    found = there.ask("Transfers", "exchanges", group="g", first_ms=START)["members"]
    nothing = {"given": [], "received": [], "to_grid": [None], "from_grid": [None]}
    assert found["a"] == {**nothing, "salt": found["a"]["salt"]}


def test_recorded_twice_is_the_same_version_and_a_new_settlement_is_a_new_one(there: Market) -> None:
    there.show(START, 0, [0] * 4)
    there.show(START + QUARTER, 1000, [100, 100, None, 200])
    there.settle()
    first = there.say("Record", SETTLER, group="g", first_ms=START)
    assert there.say("Record", SETTLER, group="g", first_ms=START) == first
    dispute = {"group": "g", "first_ms": START, "member": "c"}
    raised = there.say("Dispute", member("c"), {"words": {"words": "my meter was read", "salt": SALT}}, **dispute)
    assert raised["version"] == 1
    there.refused(
        Reason.EXISTS, "has raised", "Dispute", member("c"), {"words": {"words": "again", "salt": SALT}}, **dispute
    )
    which = {"group": "g", "first_ms": START, "dispute": raised["dispute"]}
    for caller in (member("c"), SETTLER, AUDITOR):
        assert there.ask("Objection", "exchanges", caller, **which)["words"] == "my meter was read"
    for caller in (member("a"), member("c", "OtherMSP"), POOL):
        with pytest.raises(Declined, match="may not read it"):
            there.ask("Objection", "exchanges", caller, **which)
    with pytest.raises(Declined, match="no dispute x"):
        there.ask("Objection", "exchanges", **{**which, "dispute": "x"})
    resolve = {"group": "g", "first_ms": START, "dispute": raised["dispute"], "outcome": "upheld"}
    there.refused(Reason.NOT_YET, "record again first", "Resolve", SETTLER, **resolve)
    there.registers.show("gw", "c-home", START + QUARTER, 400)
    there.settle()
    second = there.say("Record", SETTLER, group="g", first_ms=START)
    assert (second["version"], second["settlement"], second["open"]) == (2, 2, 0)
    done = there.say("Resolve", SETTLER, **resolve)
    assert (done["state"], done["version"], done["after"]) == ("upheld", 1, 2)
    there.refused(Reason.CONFLICT, "is upheld", "Resolve", SETTLER, **{**resolve, "outcome": "rejected"})
    old = there.ask("Transfers", "exchanges", group="g", first_ms=START, version=1, member="c")["members"]["c"]
    assert old["from_grid"] == [None], "the disputed version is kept"
    assert [run["version"] for run in there.ask("Versions", "exchanges", group="g", first_ms=START)] == [1, 2]
    assert [one["state"] for one in there.ask("Disputes", "exchanges", group="g", first_ms=START)] == ["upheld"]


@pytest.mark.parametrize(
    ("caller", "everybody", "own"),
    [
        (SETTLER, True, True),
        (GRID, True, True),
        (AUDITOR, True, True),
        (member("b"), False, True),
        (member("a"), False, False),
        (POOL, False, False),
    ],
)
def test_who_reads_what(there: Market, caller: Caller, everybody: bool, own: bool) -> None:
    there.quarter(START, 1000, [100, 100, 400, 200])
    for given, may in (({}, everybody), ({"member": "b"}, own)):
        if may:
            assert there.ask("Transfers", "exchanges", caller, group="g", first_ms=START, **given)
        else:
            with pytest.raises(Declined, match="may not read"):
                there.ask("Transfers", "exchanges", caller, group="g", first_ms=START, **given)


def test_prices_and_words_are_not_public(there: Market) -> None:
    there.order()
    there.quarter(START + HOUR, 1000, [100, 100, 400, 200])
    there.say(
        "Dispute",
        member("c"),
        {"words": {"words": "so little", "salt": SALT}},
        group="g",
        first_ms=START + HOUR,
        member="c",
    )
    public = b" ".join(there.ledger.stores["exchanges", ""].values())
    assert b"120000" not in public
    assert b"so little" not in public
    assert b"given" not in public


@pytest.mark.parametrize(
    ("reason", "words", "function", "caller", "secret", "given"),
    [
        (Reason.FORBIDDEN, "own certificate", "Offer", member("c"), {"terms": TERMS}, ORDER),
        (Reason.FORBIDDEN, "own certificate", "Offer", member("b", "OtherMSP"), {"terms": TERMS}, ORDER),
        (Reason.FORBIDDEN, "own certificate", "Accept", member("b"), {"terms": TERMS}, ORDER),
        (Reason.MALFORMED, "terms is missing", "Offer", member("b"), None, ORDER),
        (Reason.MALFORMED, "limit_wh", "Offer", member("b"), {"terms": {"limit_wh": 0, "price": 1}}, ORDER),
        (Reason.MALFORMED, "to itself", "Offer", member("b"), {"terms": TERMS}, {**ORDER, "buyer": "b"}),
        (Reason.UNKNOWN, "no member 'z'", "Offer", member("b"), {"terms": TERMS}, {**ORDER, "buyer": "z"}),
        (Reason.CONFLICT, "is past", "Offer", member("b"), {"terms": TERMS}, {**ORDER, "from_ms": START}),
        (
            Reason.MALFORMED,
            "at multiples",
            "Offer",
            member("b"),
            {"terms": TERMS},
            {**ORDER, "from_ms": START + HOUR + 1},
        ),
        (Reason.UNKNOWN, "offers c nothing", "Accept", member("c"), {"terms": TERMS}, ORDER),
        (Reason.FORBIDDEN, "to end", "EndOrder", member("a"), None, {**ORDER, "until_ms": START + HOUR}),
        (Reason.FORBIDDEN, "settler of it", "Record", GRID, None, {"group": "g", "first_ms": START}),
        (Reason.UNKNOWN, "no such stretch", "Record", SETTLER, None, {"group": "g", "first_ms": START + HOUR}),
        (Reason.UNKNOWN, "no group h", "Record", SETTLER, None, {"group": "h", "first_ms": START}),
        (
            Reason.FORBIDDEN,
            "own certificate",
            "Dispute",
            SETTLER,
            {"words": {"words": "x", "salt": SALT}},
            {"group": "g", "first_ms": START, "member": "a"},
        ),
        (
            Reason.UNKNOWN,
            "no dispute nothing",
            "Resolve",
            SETTLER,
            None,
            {"group": "g", "first_ms": START, "dispute": "nothing", "outcome": "rejected"},
        ),
    ],
)
def test_declined(
    there: Market, reason: Reason, words: str, function: str, caller: Caller, secret: Any, given: dict[str, Any]
) -> None:
    there.quarter(START, 1000, [100, 100, 400, 200])
    there.refused(reason, words, function, caller, secret, **given)


def test_other_terms_are_not_accepted_and_orders_do_not_overlap(there: Market) -> None:
    there.say("Offer", member("b"), {"terms": TERMS}, **ORDER)
    there.refused(Reason.CONFLICT, "not the terms", "Accept", member("c"), {"terms": {**TERMS, "price": 1}}, **ORDER)
    there.refused(Reason.CONFLICT, "overlaps", "Offer", member("b"), {"terms": TERMS}, **ORDER)
    there.say("Accept", member("c"), {"terms": TERMS}, **ORDER)
    there.refused(Reason.CONFLICT, "already", "Accept", member("c"), {"terms": TERMS}, **ORDER)
    assert [order["state"] for order in there.ask("Orders", "exchanges", group="g")] == ["standing"]


def test_what_is_erased_of_a_member(there: Market) -> None:
    there.order()
    there.quarter(START, 1000, [100, 100, 400, 200])
    there.say("EndOrder", member("b"), until_ms=START + 2 * HOUR, **ORDER)
    there.quarter(START + HOUR, 1000, [100, 100, 400, 200])
    dispute = {"group": "g", "first_ms": START + HOUR, "member": "b"}
    said = there.say("Dispute", member("b"), {"words": {"words": "why", "salt": SALT}}, **dispute)
    whom = {"group": "g", "member": "b", "from_ms": START + HOUR, "until_ms": START + 2 * HOUR, "why": "asked by b"}
    there.refused(Reason.FORBIDDEN, "an eraser of it", "Erase", SETTLER, **whom)
    there.refused(Reason.UNKNOWN, "no member 'z'", "Erase", ERASER, **{**whom, "member": "z"})
    before = there.ask("Transfers", "exchanges", group="g", first_ms=START)
    assert there.say("Erase", ERASER, **whom)["stretches"] == 1
    private = there.ledger.stores["exchanges", "transfers"]
    later = settlement_key(START + HOUR)
    assert not [name for name in private if name.startswith(("words/", "terms/")) or (later in name and "/b" in name)]
    assert there.ask("Transfers", "exchanges", group="g", first_ms=START) == before
    with pytest.raises(Declined, match="erased"):
        there.ask("Objection", "exchanges", group="g", first_ms=START + HOUR, dispute=said["dispute"])
    received = there.ask("Transfers", "exchanges", group="g", first_ms=START + HOUR, member="c")["members"]["c"]
    assert [0, "b", 100, 120_000] in received["received"], "what c had is c's too"
    with pytest.raises(Declined, match="not held"):
        there.ask("Transfers", "exchanges", group="g", first_ms=START + HOUR, member="b")
    (entry,) = there.ask("Erased", "exchanges", group="g")
    assert (entry["member"], entry["first_ms"], entry["why"]) == ("b", START + HOUR, "asked by b")
    assert there.quarter(START + 2 * HOUR, 1000, [100, 100, 400, 200])["version"] == 1, (
        "terms that are over are not asked"
    )


def settlement_key(first_ms: int) -> str:
    return f"{first_ms:016x}"
