"""The request planner: examples from real limits, and its promises over the whole catalogue and made-up maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.map import MeterMap, Register, load, names
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, Request, apart, plan, request_time_s, split

OVERHEADS = {RTU_OVERHEAD_BYTES: 7, TCP_OVERHEAD_BYTES: 31}
FIXED = [name for name in names() if load(name).scheme == "registers"]


def value(address: int, count: int = 2, function: int = 4, scale_address: int | None = None) -> Register:
    kind = {1: "u16", 2: "u32", 4: "u64"}[count]
    return Register(1, "voltage", "L1", "", function, address, count, kind, scale_address=scale_address)


def meter(*registers: Register, **limits: object) -> MeterMap:
    free = replace(load("acrel_adw300"), registers=registers)
    return replace(free, **limits)  # type: ignore[arg-type]


def planned(meter_map: MeterMap, overhead: int = RTU_OVERHEAD_BYTES) -> list[tuple[int, int, int]]:
    return [(request.function, request.address, request.count) for request in plan(meter_map, overhead)]


@pytest.mark.parametrize(("overhead", "hole"), OVERHEADS.items())
def test_a_hole_is_read_through_when_that_is_cheaper(overhead: int, hole: int) -> None:
    assert planned(meter(value(0), value(2 + hole)), overhead) == [(4, 0, 4 + hole)]
    assert planned(meter(value(0), value(3 + hole)), overhead) == [(4, 0, 2), (4, 3 + hole, 2)]


def test_the_order_of_the_map_does_not_matter() -> None:
    assert planned(meter(value(4), value(0), value(2))) == [(4, 0, 6)]


def test_functions_are_never_mixed() -> None:
    assert planned(meter(value(2, function=4), value(0, function=3))) == [(3, 0, 2), (4, 2, 2)]


def test_a_request_ends_before_the_limit_and_never_inside_a_value() -> None:
    registers = [value(0), value(2), value(4), value(6)]
    assert planned(meter(*registers, max_registers=5)) == [(4, 0, 4), (4, 4, 4)]
    assert planned(meter(*registers, max_registers=3)) == [(4, at, 2) for at in (0, 2, 4, 6)]


def test_the_map_may_forbid_long_holes() -> None:
    assert planned(meter(value(0), value(6)), TCP_OVERHEAD_BYTES) == [(4, 0, 8)]
    assert planned(meter(value(0), value(6), max_gap=3), TCP_OVERHEAD_BYTES) == [(4, 0, 2), (4, 6, 2)]


def test_a_limit_cuts_at_the_longest_hole() -> None:
    registers = [value(0), value(2), value(8), value(10)]
    assert planned(meter(*registers, max_registers=10)) == [(4, 0, 4), (4, 8, 4)]


def test_forbidden_registers_and_barriers_part_requests() -> None:
    registers = [value(0), value(2), value(6)]
    assert planned(meter(*registers, forbidden=((4, 4),))) == [(4, 0, 4), (4, 6, 2)]
    assert planned(meter(*registers, barriers=(2,))) == [(4, 0, 2), (4, 2, 6)]
    assert planned(meter(*registers, barriers=(1000,))) == [(4, 0, 8)]


def test_even_meters_are_asked_for_even_ranges() -> None:
    registers = [value(1, 1), value(7, 1)]
    assert planned(meter(*registers, even_only=True)) == [(4, 0, 8)]
    assert planned(meter(*registers, even_only=True, max_registers=6)) == [(4, 0, 2), (4, 6, 2)]


def test_a_value_stays_with_its_scale_register() -> None:
    registers = [value(0, 1, scale_address=12), value(40, 1, scale_address=30)]
    assert planned(meter(*registers)) == [(4, 0, 13), (4, 30, 11)]
    assert planned(meter(*registers, max_registers=12)) == [(4, 0, 1), (4, 12, 1), (4, 30, 11)]


def test_values_that_share_a_far_scale_register_share_the_request() -> None:
    registers = [value(0, 1, scale_address=9), value(4, 1, scale_address=9)]
    assert planned(meter(*registers)) == [(4, 0, 10)]


def test_real_limits() -> None:
    assert planned(load("eastron_sdm630")) == [(4, 0, 36), (4, 52, 28), (4, 342, 34)]
    assert planned(load("eastron_sdm630"), TCP_OVERHEAD_BYTES) == [(4, 0, 80), (4, 342, 34)]
    assert max(count for _, _, count in planned(load("carlo_gavazzi_em24_rs485"), TCP_OVERHEAD_BYTES)) <= 11
    pac = planned(load("siemens_pac1600"), TCP_OVERHEAD_BYTES)
    assert not any(first <= 48 and first + count > 31 for _, first, count in pac)
    assert [first for _, first, _ in planned(load("chint_ddsu666"), TCP_OVERHEAD_BYTES)] == [0x2000, 0x4000, 0x400A]


def holds(meter_map: MeterMap, requests: tuple[Request, ...], overhead: int) -> None:
    """What a plan promises."""
    assert list(requests) == sorted(requests, key=lambda request: (request.function, request.address))
    for request in requests:
        assert 1 <= request.count <= meter_map.max_registers
        assert not (meter_map.even_only and (request.address % 2 or request.count % 2))
        assert not any(request.address < barrier < request.end for barrier in meter_map.barriers)
        assert not any(first < request.end and request.address <= last for first, last in meter_map.forbidden)
        longest = min(OVERHEADS[overhead], 125 if meter_map.max_gap is None else meter_map.max_gap)
        assert hole(meter_map, request) <= max(longest, widest(meter_map)) + 2 * meter_map.even_only
    for register in meter_map.registers:
        for address, count in register.spans():
            assert any(covers(request, register.function, address, count) for request in requests)


def covers(request: Request, function: int, address: int, count: int) -> bool:
    return request.function == function and request.address <= address and address + count <= request.end


def hole(meter_map: MeterMap, request: Request) -> int:
    """The longest stretch of a request that nobody asked for."""
    wanted = {
        at
        for register in meter_map.registers
        if register.function == request.function
        for address, count in register.spans()
        for at in range(address, address + count)
    }
    longest = length = 0
    for at in range(request.address, request.end):
        length = 0 if at in wanted else length + 1
        longest = max(longest, length)
    return longest


def widest(meter_map: MeterMap) -> int:
    """The longest way from a value to a part it must not be separated from."""
    return max(
        max(address + count for address, count in register.spans()) - min(address for address, _ in register.spans())
        for register in meter_map.registers
    )


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("overhead", OVERHEADS)
def test_every_map_of_the_catalogue_is_planned_within_its_limits(name: str, overhead: int) -> None:
    holds(load(name), plan(load(name), overhead), overhead)


places = st.tuples(st.integers(0, 120), st.sampled_from([1, 2, 4]), st.sampled_from([3, 4]))


@st.composite
def maps(draw: st.DrawFn) -> MeterMap:
    registers = [
        value(address, count, function) for address, count, function in draw(st.lists(places, min_size=1, max_size=25))
    ]
    registers += [
        value(at, 1, 3, scale_address=far)
        for at, far in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4))
    ]
    return meter(
        *registers,
        max_registers=draw(st.sampled_from([6, 11, 50, 125])),
        max_gap=draw(st.sampled_from([None, 0, 2, 16])),
        even_only=draw(st.booleans()),
        barriers=tuple(draw(st.lists(st.just(200), max_size=1))),
    )


@given(maps(), st.sampled_from(list(OVERHEADS)))
def test_every_register_is_read_and_every_limit_kept(meter_map: MeterMap, overhead: int) -> None:
    holds(meter_map, plan(meter_map, overhead), overhead)


@st.composite
def small_maps(draw: st.DrawFn) -> MeterMap:
    """Up to six values close together, so that every way to read them can be tried."""
    registers, at = [], draw(st.integers(0, 3))
    for hole, count in draw(st.lists(st.tuples(st.integers(-1, 9), st.sampled_from([1, 2, 4])), max_size=6)):
        at = max(0, at + hole)
        registers.append(value(at, count, draw(st.sampled_from([4, 4, 4, 3]))))
        at += count
    registers = registers or [value(at)]
    return meter(
        *registers,
        max_registers=draw(st.sampled_from([4, 8, 10, 12, 14, 50])),
        max_gap=draw(st.sampled_from([None, None, None, 0, 2, 5])),
        even_only=draw(st.booleans()),
        barriers=tuple(draw(st.lists(st.sampled_from([6, 12, 300]), max_size=1))),
    )


def cost_of(requests: Sequence[tuple[int, int]], overhead: int) -> tuple[int, int]:
    """What the rules count, of requests as (first, end): the bytes, then the requests. A hole of (overhead + 1) / 2
    registers still counts as no more than another request."""
    return sum(overhead + 1 + 2 * (end - first) for first, end in requests), len(requests)


def allowed(meter_map: MeterMap, group: Sequence[Register]) -> tuple[int, int] | None:
    """The one request for a group of values, register by register; None where a limit forbids it."""
    wanted = {at for register in group for at in range(register.address, register.address + register.count)}
    first, end = min(wanted), max(wanted) + 1
    if meter_map.even_only:
        first, end = first - first % 2, end + end % 2
    longest = length = 0
    for at in range(first, end):
        length = 0 if at in wanted else length + 1
        longest = max(longest, length)
    fits = end - first <= meter_map.max_registers
    fits = fits and (meter_map.max_gap is None or longest <= meter_map.max_gap)
    fits = fits and len({register.function for register in group}) == 1
    fits = fits and not any(first < barrier < end for barrier in meter_map.barriers)
    fits = fits and not any(low < end and first <= high for low, high in meter_map.forbidden)
    return (first, end) if fits or len(group) == 1 else None


def groupings(registers: Sequence[Register]) -> Iterator[list[list[Register]]]:
    """Every way to share values out."""
    if not registers:
        yield []
        return
    first, *rest = registers
    for groups in groupings(rest):
        yield [[first], *groups]
        for index, group in enumerate(groups):
            yield [*groups[:index], [first, *group], *groups[index + 1 :]]


@given(small_maps(), st.sampled_from(list(OVERHEADS)))
def test_no_other_way_to_read_a_map_is_cheaper(meter_map: MeterMap, overhead: int) -> None:
    ways = [[allowed(meter_map, group) for group in groups] for groups in groupings(meter_map.registers)]
    best = min(cost_of([request for request in way if request], overhead) for way in ways if None not in way)
    made = plan(meter_map, overhead)
    assert cost_of([(request.address, request.end) for request in made], overhead) <= best


@given(maps(), st.sampled_from(list(OVERHEADS)))
def test_splitting_loses_no_value_and_comes_to_an_end(meter_map: MeterMap, overhead: int) -> None:
    left, whole = list(plan(meter_map, overhead)), []
    for _ in range(500):
        if not left:
            break
        request = left.pop()
        halves = split(request, meter_map)
        assert all(half.count < request.count for half in halves)
        left += halves
        whole += [request] if not halves else []
    assert not left
    for register in meter_map.registers:
        assert any(covers(request, register.function, register.address, register.count) for request in whole)


@given(st.lists(st.tuples(st.sampled_from([3, 4]), st.integers(1, 4)), max_size=9))
def test_answers_of_one_length_do_not_follow_one_another_where_it_can_be(kinds: list[tuple[int, int]]) -> None:
    requests = [Request(function, 10 * at, count) for at, (function, count) in enumerate(kinds)]
    made = apart(requests)
    assert sorted(made, key=lambda request: request.address) == requests
    alike = sum((a.function, a.count) == (b.function, b.count) for a, b in pairwise(made))
    most = max((kinds.count(kind) for kind in kinds), default=0)
    assert alike == max(0, 2 * most - len(kinds) - 1), "as many as there is nothing to put between"


def test_an_order_that_is_right_stays() -> None:
    requests = (Request(4, 0, 2), Request(4, 10, 3), Request(4, 20, 2))
    assert apart(requests) == requests


def test_a_refused_request_is_cut_in_the_middle_between_values() -> None:
    meter_map = meter(value(0), value(2), value(4), value(10))
    (request,) = plan(meter_map, RTU_OVERHEAD_BYTES)
    assert split(request, meter_map) == (Request(4, 0, 4), Request(4, 4, 8))
    assert split(Request(4, 0, 6), meter_map) in [
        (Request(4, 0, 2), Request(4, 2, 4)),
        (Request(4, 0, 4), Request(4, 4, 2)),
    ]
    assert split(Request(4, 10, 2), meter_map) == ()


def test_a_value_and_its_scale_register_are_not_split() -> None:
    meter_map = meter(value(0, 1, scale_address=5), value(2, 2))
    assert split(Request(4, 0, 6), meter_map) == ()


def test_time_of_a_request_on_a_serial_line() -> None:
    # 8 + 5 + 2 x 60 characters of 10 bits at 9600 baud, and twice 3.5 characters of silence.
    assert request_time_s(Request(4, 0, 60), 9600, 10) == pytest.approx((133 + 7) * 10 / 9600)
    assert request_time_s(Request(4, 0, 60), 38400, 10) == pytest.approx(133 * 10 / 38400 + 0.0035)
