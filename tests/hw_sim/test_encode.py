"""Encoding: what the drivers decode is what was encoded, for every type, order, scale and composite."""

import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import obis
from drivers.decode import decode
from drivers.map import WORDS, MeterMap, Register, Term, parse
from drivers.reading import Block
from hw_sim.encode import encoders

MILLION = 1_000_000
POWER = obis.BY_NAME["active_power", "total"].key
ENERGY = obis.BY_NAME["active_energy_import", "total"].key
FACTOR = obis.BY_NAME["power_factor", "total"].key
BLIND = obis.BY_NAME["reactive_power", "total"].key

EMPTY = parse(
    b"""
    manufacturer = "Test"
    model = "T"
    kind = "meter"
    phases = 3
    sources = ["none"]
    settlement = false
    settlement_reason = "a test"
    [[register]]
    quantity = "frequency"
    address = 0
    type = "u16"
    """,
    "test",
)


def with_registers(registers: Sequence[Register]) -> MeterMap:
    return replace(EMPTY, registers=tuple(registers), points=("",))


def there_and_back(registers: Sequence[Register], quantities: dict[int, int]) -> dict[int, Decimal | None]:
    """Values as the drivers decode what was encoded, in millionths; None: not available."""
    memory = bytearray(80)
    for encode in encoders(registers, lambda function, address: (memory, 2 * address)):
        encode({"": quantities})
    found = decode(with_registers(registers), [Block(3, 0, bytes(memory))])
    return {
        item.key: None if item.value is None else Decimal(item.value.mantissa).scaleb(item.value.exponent + 6)
        for item in found
    }


def register(kind: str, key: int = POWER, address: int = 2, **more: object) -> Register:
    quantity = obis.BY_KEY[key]
    common = {"function": 3, "address": address, "count": WORDS[kind], "type": kind, **more}
    return Register(key=key, quantity=quantity.name, phase=quantity.phase, point="", **common)  # type: ignore[arg-type]


KINDS = st.sampled_from(sorted(WORDS))
SCALES = st.tuples(st.sampled_from([1, -1, 5, 25]), st.integers(-3, 3))


@given(KINDS, SCALES, st.sampled_from(["big", "little"]), st.integers(-(10**15), 10**15))
@settings(max_examples=400)
def test_a_value_comes_back_within_the_resolution_of_its_register(
    kind: str, scale: tuple[int, int], order: str, value: int
) -> None:
    step = Decimal(abs(scale[0])).scaleb(scale[1] + 6)
    one = register(kind, scale=scale, word_order=order)
    back = there_and_back([one], {POWER: value})[POWER]
    assert back is not None
    if kind.startswith("f"):
        digits = 2**-23 if kind == "f32" else 2**-51
        assert math.isclose(back, value, rel_tol=digits, abs_tol=1)
        return
    bits = 16 * WORDS[kind]
    most = (2 ** (bits - 1) - 1 if kind.startswith("s") else 2**bits - 1) * step
    wanted = Decimal(value)
    if kind.startswith("u"):
        wanted = abs(wanted) * (1 if scale[0] > 0 else -1)  # without a sign only the size is shown
    wanted = max(-most - step, min(most, wanted))
    assert abs(back - wanted) <= step / 2 or abs(wanted) >= most - step


@given(st.sampled_from(["u32", "s32", "u64"]), st.integers(-1, 3), st.integers(0, 10**14))
def test_a_counter_is_cut_off_and_never_shows_more_than_there_is(kind: str, exponent: int, value: int) -> None:
    step = Decimal(10) ** (exponent + 6)
    back = there_and_back([register(kind, ENERGY, scale=(1, exponent))], {ENERGY: value})[ENERGY]
    assert back is not None
    span = step * 2 ** (16 * WORDS[kind] - kind.startswith("s"))
    assert back == Decimal(value) % span // step * step


def test_a_counter_wraps_and_a_power_stops_at_its_limit() -> None:
    assert there_and_back([register("u16", ENERGY)], {ENERGY: 65_537 * MILLION}) == {ENERGY: MILLION}
    assert there_and_back([register("s16")], {POWER: -40_000 * MILLION}) == {POWER: -32_768 * MILLION}


@pytest.mark.parametrize(
    ("kind", "pattern", "value", "shown"),
    [
        ("u16", 0xFFFF, 65_535, 65_534),
        ("s16", 0x8000, -32_768, -32_767),
        ("s16", 0x7FFF, 32_767, 32_766),
        ("u32", 0, 0, 1),
        ("s32", 0xFFFFFFFF, -1, 0),
    ],
)
def test_a_number_that_looks_like_no_value_moves_by_one(kind: str, pattern: int, value: int, shown: int) -> None:
    one = register(kind, not_available=(pattern,))
    assert there_and_back([one], {POWER: value * MILLION}) == {POWER: shown * MILLION}


@pytest.mark.parametrize("kind", ["u16", "s32", "f32", "f64"])
def test_what_nobody_measures_is_not_available(kind: str) -> None:
    patterns = () if kind.startswith("f") else (0x8001,)
    assert there_and_back([register(kind, not_available=patterns)], {}) == {POWER: None}


@given(st.integers(-(10**13), 10**13), st.integers(-1000, 1000).filter(lambda percent: percent != 0))
def test_registers_that_share_a_power_of_ten_all_fit(value: int, percent: int) -> None:
    other = value * percent // 1000
    pair = [
        register("s16", POWER, 2, scale_address=6, not_available=(0x8000,)),
        register("s16", BLIND, 3, scale_address=6, not_available=(0x8000,)),
    ]
    back = there_and_back(pair, {POWER: value, BLIND: other})
    # The finest power is -3; above it, four digits are left of the larger value.
    step = max(Decimal(500), max(Decimal(abs(value)), Decimal(abs(other))) / 3_000)
    assert abs(Decimal(value) - (back[POWER] or 0)) <= step
    assert abs(Decimal(other) - (back[BLIND] or 0)) <= step


@given(st.integers(-(10**12), 10**12))
def test_a_difference_of_two_unsigned_numbers(value: int) -> None:
    net = register("u32", plus=(Term(8, 2, "u32", (-1, -1)),), scale=(1, -1))
    back = there_and_back([net], {POWER: value})[POWER]
    assert back is not None
    assert abs(back - value) < 10**5


@given(st.integers(0, 10**15))
def test_a_counter_in_two_parts(value: int) -> None:
    parts = register("u32", ENERGY, scale=(1, 3), plus=(Term(8, 1, "u16", (1, 0)),))
    back = there_and_back([parts], {ENERGY: value})[ENERGY]
    assert back == value // MILLION * MILLION


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_what_two_values_share_says_the_same_for_both(taken: int, given_back: int) -> None:
    import_key, export_key = (obis.BY_NAME[f"active_power_{way}", "total"].key for way in ("import", "export"))
    taken, given_back = (taken, 0) if taken > given_back else (0, given_back)
    registers = [
        register("u32", POWER, 2, scale=(1, -1), derived=True, plus=(Term(4, 2, "u32", (-1, -1)),)),
        register("u32", import_key, 2, scale=(1, -1)),
        register("u32", export_key, 4, scale=(1, -1)),
    ]
    back = there_and_back(registers, {POWER: taken - given_back, import_key: taken, export_key: given_back})
    assert (back[POWER] or 0) == (back[import_key] or 0) - (back[export_key] or 0)
    assert abs((back[import_key] or 0) - taken) <= 10**5 / 2


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_sum_leaves_a_part_that_has_a_register_of_its_own_alone(peak: int, rest: int) -> None:
    peak_key = obis.BY_NAME["active_energy_import_t1", "total"].key
    registers = [
        register("u32", ENERGY, 2, scale=(1, 1), plus=(Term(4, 2, "u32", (1, 1)),)),
        register("u32", peak_key, 4, scale=(1, 1)),
    ]
    back = there_and_back(registers, {ENERGY: peak + rest, peak_key: peak})
    assert back[peak_key] == peak // (10 * MILLION) * 10 * MILLION
    assert back[ENERGY] is not None
    assert 0 <= peak + rest - back[ENERGY] < 10 * MILLION


@pytest.mark.parametrize("factor", [0.5, -0.5, 0.981, -0.981])
@pytest.mark.parametrize("blind", [10, -10])
def test_a_four_quadrant_power_factor(factor: float, blind: int) -> None:
    one = register("f32", FACTOR, encoding="pf4q")
    quantities = {FACTOR: int(factor * MILLION), BLIND: blind * MILLION}
    back = there_and_back([one], quantities)[FACTOR]
    assert back is not None
    assert math.isclose(back, factor * MILLION, abs_tol=1)
    # Leading is beyond 1, mirrored; the sign stays that of the power.
    memory = bytearray(80)
    for encode in encoders([one], lambda function, address: (memory, 2 * address)):
        encode({"": quantities})
    expected = factor if blind > 0 else math.copysign(2 - abs(factor), factor)
    assert struct.unpack_from(">f", memory, 4)[0] == pytest.approx(expected)
