"""Shared self-consumption, computed: the regulation's formulas by hand, and what must hold for every input."""

import random
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.reading import Quality, Status
from ledger.rules import hours, registers
from ledger.rules.boundaries import Boundary, Change, Register
from ledger.rules.registers import Certainty, Energy, Reads, energy, floor_wh, reads, total
from ledger.rules.shares import divide, matrix
from ledger.rules.sharing import ONE, BadCoefficients, Share, by_coefficients, by_consumption, check, statement
from ledger.rules.transfers import Order, exchange

QUARTER = 900_000
WH = st.integers(0, 10**7)
SETTLED, PROVISIONAL, OPEN = Certainty.SETTLED, Certainty.PROVISIONAL, Certainty.OPEN


def _ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1000  # type: ignore[misc,arg-type]


# ---- hours


@pytest.mark.skipif("Europe/Madrid" not in available_timezones(), reason="no time zone database on this machine")
@pytest.mark.parametrize(("zone", "name"), [("peninsula", "Europe/Madrid"), ("canarias", "Atlantic/Canary")])
@given(utc_s=st.integers(_ms(2002, 1, 1) // 1000, _ms(2060, 1, 1) // 1000))
@example(utc_s=_ms(2026, 3, 29, 1) // 1000)
@example(utc_s=_ms(2026, 3, 29, 1) // 1000 - 1)
@example(utc_s=_ms(2026, 10, 25, 1) // 1000)
@example(utc_s=_ms(2026, 10, 25, 1) // 1000 - 1)
def test_legal_time_is_that_of_the_time_zone_database(zone: str, name: str, utc_s: int) -> None:
    there = datetime.fromtimestamp(utc_s, ZoneInfo(name))
    if there.year < 2038:  # later years the database only extrapolates, by the same rule
        assert hours.local(utc_s * 1000, zone) == there.replace(tzinfo=None)
        assert hours.summer(utc_s * 1000) == bool(there.dst())


@pytest.mark.parametrize("zone", hours.ZONES)
@pytest.mark.parametrize("year", [2024, 2026, 2027, 2028])
def test_every_hour_of_a_year_has_one_number_and_every_number_one_hour(zone: str, year: int) -> None:
    start, end = hours.year_start_ms(year, zone), hours.year_start_ms(year + 1, zone)
    numbers = [hours.hour_of_year(at, zone) for at in range(start, end, hours.HOUR_MS)]
    assert numbers == [(year, number) for number in range(1, hours.hours_in(year) + 1)]


def test_the_days_on_which_the_clocks_change() -> None:
    day = range(_ms(2026, 3, 28, 23), _ms(2026, 3, 29, 22), hours.HOUR_MS)  # 23 hours of 29 March
    assert [hours.local(at, "peninsula").hour for at in day] == [0, 1, *range(3, 24)]
    assert [hours.hour_of_year(at, "peninsula")[1] for at in day] == list(range(87 * 24 + 1, 87 * 24 + 24))
    day = range(_ms(2026, 10, 24, 22), _ms(2026, 10, 25, 23), hours.HOUR_MS)  # 25 hours of 25 October
    assert [hours.local(at, "peninsula").hour for at in day] == [0, 1, 2, 2, *range(3, 24)]


@pytest.mark.parametrize("zone", hours.ZONES)
def test_months_follow_each_other_without_a_hole(zone: str) -> None:
    ends = [hours.month_ms(year, month, zone) for year in (2026, 2027) for month in range(1, 13)]
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert hours.month_ms(2026, 7, "peninsula") == (_ms(2026, 6, 30, 22), _ms(2026, 7, 31, 22))


# ---- registers


def _boundary(
    at_ms: int, imported: Register | None, exported: Register | None = (0, 0), status: int = 0, quality: int = 0
) -> Boundary:
    return Boundary(at_ms, bytes(16), at_ms // QUARTER, status, quality, imported, exported)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(-9, 3)), min_size=2, max_size=30))
def test_the_periods_add_up_to_the_difference_of_the_registers(steps: list[tuple[int, int]]) -> None:
    register, boundaries = 0, []
    for at, (mantissa, exponent) in enumerate(steps):
        register += mantissa * 10 ** (exponent + 9)
        boundaries.append(_boundary(at * QUARTER, (register, -9)))
    there = reads(boundaries, (), exported=False)
    parts = [energy(there, at * QUARTER, (at + 1) * QUARTER) for at in range(len(steps) - 1)]
    first, last = boundaries[0].imported, boundaries[-1].imported
    assert first
    assert last
    assert sum(part.wh or 0 for part in parts) == floor_wh(last) - floor_wh(first)
    assert all(part.certainty is SETTLED for part in parts)


def test_a_fraction_of_a_wh_counts_in_the_period_that_completes_it() -> None:
    there = reads(
        [_boundary(0, (10004, -1)), _boundary(QUARTER, (10009, -1)), _boundary(2 * QUARTER, (1001, 0))], (), False
    )
    assert [energy(there, at, at + QUARTER).wh for at in (0, QUARTER)] == [0, 1]
    assert floor_wh((-5, -1)) == -1
    assert floor_wh((12, 2)) == 1200


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (None, _boundary(QUARTER, (5, 0)), "no statement at the start"),
        (_boundary(0, (5, 0)), None, "no statement at the end"),
        (_boundary(0, None, status=2), _boundary(QUARTER, (5, 0)), "status 2 at the start"),
        (_boundary(0, None), _boundary(QUARTER, (5, 0)), "no register at the start"),
        (_boundary(0, (5, 0)), _boundary(QUARTER, (6, 0), quality=1 << 5), "failure at the end"),
        (_boundary(0, (5, 0)), _boundary(QUARTER, (6, 0), quality=1 << 14), "counter reset"),
        (_boundary(0, (5, 0)), _boundary(QUARTER, (4, 0)), "counter went back"),
        (_boundary(0, (5, 0)), _boundary(QUARTER, None, status=6), "meter exchanged"),
    ],
)
def test_what_is_not_known_is_open_and_says_why(start: Boundary | None, end: Boundary | None, reason: str) -> None:
    there = reads([boundary for boundary in (start, end) if boundary], (), exported=False)
    assert energy(there, 0, QUARTER) == Energy(None, OPEN, reason)


def test_a_doubt_leaves_the_number_and_says_so() -> None:
    there = reads([_boundary(0, (5, 0)), _boundary(QUARTER, (7, 0), quality=1 << 13)], (), exported=False)
    assert energy(there, 0, QUARTER) == Energy(2, PROVISIONAL, "estimated")
    there = reads([_boundary(0, (5, 0), quality=1 << 14), _boundary(QUARTER, (7, 0), quality=1 << 12)], (), False)
    assert energy(there, 0, QUARTER) == Energy(2), "a reset before, and a derived total, are no doubts of this period"


def test_an_exchange_counts_what_both_meters_counted() -> None:
    ends = [_boundary(0, (100, 0)), _boundary(QUARTER, (9, 0))]
    change = Change(400_000, bytes(16), 7, ((130, 0), None), ((4, 0), None))
    assert energy(reads(ends, [change], False), 0, QUARTER) == Energy(35, PROVISIONAL, "meter exchanged")
    unread = Change(400_000, bytes(16), 7, (None, None), ((4, 0), None))
    assert energy(reads(ends, [unread], False), 0, QUARTER) == Energy(None, OPEN, "meter exchanged")
    assert energy(reads(ends, [change], True), 0, QUARTER).wh is None, "its export was not read"
    early = Change(0, bytes(16), 7, ((130, 0), None), ((4, 0), None))
    assert energy(reads(ends, [early], False), 0, QUARTER) == Energy(None, OPEN, "counter went back")


def test_two_statements_of_one_instant() -> None:
    start, same = _boundary(0, (5, 0)), _boundary(QUARTER, (9, 0))
    failed, other = _boundary(QUARTER, None, status=2), _boundary(QUARTER, (8, 0))
    assert energy(reads([start, same, same], (), False), 0, QUARTER) == Energy(4)
    assert energy(reads([start, failed, same], (), False), 0, QUARTER) == Energy(4)
    assert energy(reads([start, same, failed], (), False), 0, QUARTER) == Energy(4)
    for order in ([same, other, same], [other, same, failed]):
        found = energy(reads([start, *order], (), False), 0, QUARTER)
        assert found == Energy(None, OPEN, "statements differ at the end")


def test_the_bits_are_those_of_the_format() -> None:
    names = {bit.bit_length() - 1: bit.name for bit in Quality}
    for table in (registers._UNUSABLE, registers._DOUBTFUL):
        assert {bit: word.replace(" ", "_").upper() for bit, word in table.items()} == {
            bit: names[bit] for bit in table
        }
    assert registers._RESET_BIT == Quality.REGISTER_RESET
    assert registers._EXCHANGED_STATUS == Status.EXCHANGED
    judged = registers._UNUSABLE_BITS | registers._DOUBTFUL_BITS | registers._RESET_BIT | Quality.DERIVED
    assert judged == sum(Quality)


# ---- division


@given(WH, st.lists(st.integers(0, ONE), min_size=1, max_size=20).filter(any), st.integers(0, 10**6))
def test_shares_add_up_and_are_near_the_exact_ones(total_wh: int, weights: list[int], turn: int) -> None:
    shares = divide(total_wh, weights, turn)
    whole = sum(weights)
    assert sum(shares) == total_wh
    assert all(abs(share * whole - total_wh * weight) < whole for share, weight in zip(shares, weights, strict=True))


def test_ties_go_round() -> None:
    assert [divide(1, [1, 1, 1], turn) for turn in range(4)] == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert [divide(5, [1, 1, 1], turn) for turn in (0, 2)] == [[2, 2, 1], [2, 1, 2]]
    with pytest.raises(ValueError, match="cannot be divided"):
        divide(1, [0, 0])


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=12), st.lists(st.integers(0, 5000), min_size=1, max_size=12))
def test_a_matrix_has_its_sums(rows: list[int], lacking: list[int]) -> None:
    if not sum(lacking):
        return
    columns = divide(sum(rows), lacking)
    cells = matrix(rows, columns)
    assert [sum(row) for row in cells] == rows
    assert [sum(column) for column in zip(*cells, strict=True)] == columns
    assert all(cell >= 0 for row in cells for cell in row)


# ---- allotment


def test_the_formula_of_annex_one_by_hand() -> None:
    """beta 0.5, 0.3 and 0.2 of 1,001 Wh: 500.5, 300.3 and 200.2 exactly; the one Wh left goes to the largest rest."""
    consumed = [Energy(600), Energy(300), Energy(150)]
    shares = by_coefficients(Energy(1001), consumed, [500_000, 300_000, 200_000], 0)
    assert [share.allotted for share in shares] == [501, 300, 200]
    assert [share.self_consumed for share in shares] == [501, 300, 150]
    assert [share.surplus for share in shares] == [0, 0, 50]
    assert [share.from_grid for share in shares] == [99, 0, 0]
    assert all(share.certainty is SETTLED for share in shares)


ENERGY = st.one_of(
    WH.map(Energy), WH.map(lambda wh: Energy(wh, PROVISIONAL, "estimated")), st.just(Energy(None, OPEN, "no statement"))
)


@st.composite
def _groups(draw: st.DrawFn) -> tuple[list[Energy], list[int], int]:
    consumed = draw(st.lists(ENERGY, min_size=1, max_size=12))
    weights = draw(st.lists(st.integers(0, 1000), min_size=len(consumed), max_size=len(consumed)).filter(any))
    return consumed, divide(ONE, weights), draw(st.integers(0, 10**6))


@given(ENERGY, _groups(), st.sampled_from([by_coefficients, by_consumption]))
def test_what_holds_for_every_member_and_period(generated: Energy, group: object, how: object) -> None:
    consumed, coefficients, turn = group  # type: ignore[misc]
    shares: list[Share] = how(generated, consumed, coefficients, turn)  # type: ignore[operator]
    allotted = [share.allotted for share in shares]
    if all(part is not None for part in allotted):
        assert sum(allotted) == generated.wh  # type: ignore[arg-type]
    for share, own in zip(shares, consumed, strict=True):
        assert share.consumed == own.wh, "a consumption is never changed, and never invented"
        assert share.certainty >= max(own.certainty, generated.certainty)
        assert (share.reason == "") == (share.certainty is SETTLED)
        assert (share.self_consumed is None) == (share.certainty is OPEN)
        if share.self_consumed is None:
            assert share.surplus is None
            assert share.from_grid is None
            continue
        assert share.surplus is not None
        assert share.from_grid is not None
        assert min(share.self_consumed, share.surplus, share.from_grid) >= 0
        assert share.self_consumed + share.surplus == share.allotted
        assert share.self_consumed + share.from_grid == share.consumed
        assert not (share.surplus and share.from_grid), "nobody has both"


@given(ENERGY, _groups(), st.data())
def test_other_data_that_come_change_nothing_that_was_known(
    generated: Energy, group: object, data: st.DataObject
) -> None:
    consumed, coefficients, turn = group  # type: ignore[misc]
    before = by_coefficients(generated, consumed, coefficients, turn)
    later = [own if own.wh is not None else data.draw(ENERGY) for own in consumed]
    if generated.wh is None:
        return
    after = by_coefficients(generated, later, coefficients, turn)
    for old, new in zip(before, after, strict=True):
        assert new.certainty <= old.certainty
        if old.certainty is not OPEN:
            assert new == old


@given(WH, _groups(), st.randoms(use_true_random=False))
def test_the_order_of_listing_does_not_matter_without_ties(wh: int, group: object, chance: random.Random) -> None:
    """Callers sort by name, so with ties too; here even unsorted, wherever no two remainders are equal."""
    consumed, coefficients, turn = group  # type: ignore[misc]
    remainders = [wh * part % ONE for part in coefficients]
    if len(set(remainders)) < len(remainders):
        return
    order = list(range(len(consumed)))
    chance.shuffle(order)
    straight = by_coefficients(Energy(wh), consumed, coefficients, turn)
    mixed = by_coefficients(Energy(wh), [consumed[at] for at in order], [coefficients[at] for at in order], turn)
    assert mixed == [straight[at] for at in order]


def test_by_consumption_nobody_consumes() -> None:
    none = [Energy(0), Energy(0)]
    assert [share.surplus for share in by_consumption(Energy(10), none, [700_000, 300_000], 0)] == [7, 3]
    some = [Energy(1), Energy(3)]
    assert [share.allotted for share in by_consumption(Energy(2), some, [700_000, 300_000], 0)] == [1, 1]


@pytest.mark.parametrize(
    ("coefficients", "words"),
    [([500_000, 499_999], "hour 4000 add up to 0.999999, not to 1"), ([ONE + 1, -1], "hour 4000: -0.000001 is below")],
)
def test_coefficients_that_do_not_add_up_are_named(coefficients: list[int], words: str) -> None:
    with pytest.raises(BadCoefficients, match=words):
        check(coefficients, 4000)
    check([333_334, 333_333, 333_333])


def test_points_add_up_and_the_least_certain_decides() -> None:
    assert total([Energy(3), Energy(4, PROVISIONAL, "estimated")]) == Energy(7, PROVISIONAL, "estimated")
    assert total([Energy(3), Energy(None, OPEN, "status 2 at the end")]) == Energy(None, OPEN, "status 2 at the end")
    assert total([]) == Energy(0)


# ---- money


def test_compensation_is_never_above_what_was_bought() -> None:
    """0.15 EUR/kWh bought, 0.06 sold. 2 kWh surplus and 0.5 kWh bought: 0.12 against 0.075 EUR, half a cent up."""
    shares = [Share(3000, 1000), Share(0, 500)]
    month = statement(shares, [150_000] * 2, [60_000] * 2)
    assert (month.surplus, month.from_grid, month.self_consumed) == (2000, 500, 1000)
    assert (month.bought, month.surplus_value, month.compensated, month.to_pay) == (8, 12, 8, 0)
    assert statement([Share(0, 7), Share(8, 0)], [10, 10], [-(10**9), -(10**9)]).compensated == 0
    with pytest.raises(ValueError, match="open"):
        statement([Share(1, None, OPEN, "no statement")], [1], [1])


PRICE = st.integers(-500_000, 2_000_000)


@given(st.lists(st.tuples(WH, WH, PRICE, PRICE), min_size=1, max_size=30))
def test_money_holds(periods: list[tuple[int, int, int, int]]) -> None:
    shares = [Share(allotted, consumed) for allotted, consumed, _, _ in periods]
    month = statement(shares, [period[2] for period in periods], [period[3] for period in periods])
    assert 0 <= month.compensated <= max(month.bought, 0)
    assert month.bought == month.to_pay + month.compensated
    exact = sum((share.from_grid or 0) * period[2] for share, period in zip(shares, periods, strict=True))
    assert abs(month.bought * 10_000_000 - exact) * 2 <= 10_000_000


# ---- who gave whom


@st.composite
def _periods(draw: st.DrawFn) -> tuple[list[int], list[int], list[Order], int]:
    nets = draw(st.lists(st.integers(-5000, 5000), min_size=1, max_size=10))
    member = st.integers(0, len(nets) - 1)
    orders = draw(st.lists(st.builds(Order, member, member, st.integers(0, 3000), st.integers(0, 10**6)), max_size=5))
    return [max(net, 0) for net in nets], [max(-net, 0) for net in nets], orders, draw(st.integers(0, 1000))


@settings(max_examples=200)
@given(_periods())
def test_transfers_add_up_to_surpluses_and_deficits(period: tuple[list[int], list[int], list[Order], int]) -> None:
    surplus, deficit, orders, turn = period
    found = exchange(surplus, deficit, orders, turn)
    for member in range(len(surplus)):
        given_wh = sum(each.wh for each in found.transfers if each.seller == member)
        received = sum(each.wh for each in found.transfers if each.buyer == member)
        assert given_wh + found.to_grid[member] == surplus[member]
        assert received + found.from_grid[member] == deficit[member]
    assert all(each.wh > 0 and each.seller != each.buyer for each in found.transfers)
    assert min(*found.to_grid, *found.from_grid) >= 0
    assert not (sum(found.to_grid) and sum(found.from_grid)), "nothing goes out while somebody lacks it"
    for order in orders:
        by_order = [each for each in found.transfers if each.price is not None]
        pair = sum(each.wh for each in by_order if (each.seller, each.buyer) == (order.seller, order.buyer))
        assert pair <= sum(
            other.limit_wh for other in orders if (other.seller, other.buyer) == (order.seller, order.buyer)
        )


def test_orders_come_first_and_the_rest_is_pro_rata() -> None:
    """Surplus 600 and 300, deficits 400 and 200; an order of 100 from the second to the first, then 600:200 for 500."""
    found = exchange([600, 300, 0, 0], [0, 0, 400, 200], [Order(1, 2, 100, 120_000)], 0)
    cells = {(each.seller, each.buyer, each.price): each.wh for each in found.transfers}
    assert cells[1, 2, 120_000] == 100
    assert sum(wh for (seller, _, price), wh in cells.items() if seller == 0 and price is None) == 375
    assert found.to_grid == (225, 75, 0, 0)
    assert found.from_grid == (0, 0, 0, 0)


def test_one_register_is_enough_for_one_direction() -> None:
    there = reads([_boundary(0, None, (5, 0)), _boundary(QUARTER, None, (9, 0))], (), exported=True)
    assert there == Reads({0: (5, 0), QUARTER: (9, 0)})
    assert energy(there, 0, QUARTER) == Energy(4)
