"""Words to values: exact, never a float, never a number that the device did not say."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import shortest
from drivers.decode import Decoded, Overrides, decode, flag_words, values
from drivers.map import WORDS, MeterMap, Register, Term, load, names
from drivers.obis import BY_NAME, pack
from drivers.plan import TCP_OVERHEAD_BYTES, plan
from drivers.reading import Block, Quality, Value

FIXED = [name for name in names() if load(name).scheme == "registers"]


def register(quantity: str = "active_power", kind: str = "s32", phase: str = "total", **more: object) -> Register:
    plain = Register(BY_NAME[quantity, phase].key, quantity, phase, "", 3, 0, WORDS[kind], kind)
    return replace(plain, **more)  # type: ignore[arg-type]


def meter(*registers: Register) -> MeterMap:
    return replace(load("acrel_adw300"), registers=registers)


def one(item: Register, words: bytes, overrides: Overrides = Overrides()) -> Decoded:  # noqa: B008
    (decoded,) = decode(meter(item), [Block(3, 0, words)], overrides)
    return decoded


def shown(item: Register, words: bytes, overrides: Overrides = Overrides()) -> str | None:  # noqa: B008
    value = one(item, words, overrides).value
    return None if value is None else value.text()


def single(number: float) -> bytes:
    return struct.pack(">f", number)


# ---- numbers

INTEGERS = [
    ("u16", (1, -1), "FFFF", "6553.5"),
    ("s16", (1, -1), "FFFE", "-0.2"),
    ("u32", (1, 2), "00010000", "6553600"),
    ("s32", (-1, 0), "FFFFFFFF", "1"),
    ("s32", (1, -3), "00000000", "0"),
    ("u64", (1, 1), "000000000000002A", "420"),
    ("s64", (25, -2), "FFFFFFFFFFFFFFFF", "-0.25"),
]


@pytest.mark.parametrize(("kind", "scale", "words", "text"), INTEGERS)
def test_integers_times_scale_are_exact(kind: str, scale: tuple[int, int], words: str, text: str) -> None:
    assert shown(register(kind=kind, scale=scale), bytes.fromhex(words)) == text


FLOATS = [
    (230.2, "230.2"),
    (0.1, "0.1"),
    (1.0, "1"),
    (-0.0, "0"),
    (16777216.0, "16777216"),
    (1e9, "1000000000"),
    (-1.5e-7, "-0.00000015"),
    (0.30000001192092896, "0.3"),
]


@pytest.mark.parametrize(("number", "text"), FLOATS)
def test_an_f32_is_the_shortest_decimal_that_rounds_back(number: float, text: str) -> None:
    assert shown(register(kind="f32"), single(number)) == text


def test_a_float_is_scaled_as_a_decimal() -> None:
    # As binary floats 0.1 * 1000 and 1.1 * 1000 would do, but 64.1 * 1000 is 64099.99999999999.
    assert shown(register(kind="f32", scale=(1, 3)), single(64.1)) == "64100"
    assert shown(register(kind="f64", scale=(1, 3)), struct.pack(">d", 64.1)) == "64100"


@given(st.integers(0, 2**64 - 1))
def test_an_f64_is_what_repr_prints(bits: int) -> None:
    (number,) = struct.unpack(">d", bits.to_bytes(8))
    found = shortest.f64(bits)
    if math.isnan(number) or math.isinf(number):
        assert found is None
    else:
        assert found is not None
        assert Decimal(found[0]).scaleb(found[1]) == Decimal(repr(number))


def rounds_to(decimal: Decimal, bits: int) -> bool:
    """Whether a decimal rounds to the f32, by exact arithmetic."""
    number, half = exactly(bits), (exactly(bits + 1) - exactly(bits)) / 2
    below = (exactly(bits) - exactly(bits - 1)) / 2
    low, high = number - below, number + half
    return low <= decimal <= high if bits % 2 == 0 else low < decimal < high


def exactly(bits: int) -> Decimal:
    return Decimal(struct.unpack(">f", bits.to_bytes(4))[0])


@given(
    st.one_of(
        st.integers(2, 0x7F7FFFFE),
        st.integers(1, 253).map(lambda field: field << 23),
        st.floats(0, 1e5, width=32).map(lambda x: max(2, struct.unpack(">I", single(x))[0])),
    )
)
def test_no_shorter_decimal_rounds_back_to_an_f32(bits: int) -> None:
    found = shortest.f32(bits)
    assert found is not None
    mantissa, exponent = found
    while mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    decimal = Decimal(mantissa).scaleb(exponent)
    assert rounds_to(decimal, bits)
    # With one digit less, only the two neighbours of the number can be nearest to it.
    unit = Decimal(1).scaleb(exponent + 1)
    shorter = (exactly(bits) / unit).to_integral_value(rounding="ROUND_FLOOR") * unit
    assert not rounds_to(shorter, bits)
    assert not rounds_to(shorter + unit, bits)
    assert shortest.f32(bits | 1 << 31) == (-found[0], found[1])


def test_more_than_nine_decimals_are_rounded_to_even_and_flagged() -> None:
    assert one(register(kind="u32", scale=(25, -11)), (5).to_bytes(4)).value == Value(1, -9, Quality.INACCURATE)
    assert shown(register(kind="u32", scale=(25, -11)), (2).to_bytes(4)) == "0"  # 0.5e-9
    assert shown(register(kind="u32", scale=(25, -11)), (6).to_bytes(4)) == "0.000000002"  # 1.5e-9
    assert shown(register(kind="s32", scale=(25, -11)), (-6).to_bytes(4, signed=True)) == "-0.000000002"
    tiny = one(register(kind="f32"), single(1e-30))
    assert (tiny.value, flag_words(tiny)) == (Value(0, 0, Quality.INACCURATE), ["inaccurate"])


def test_what_no_mantissa_holds_is_no_value_and_an_overflow() -> None:
    for item, words in ((register(kind="f32"), single(3e38)), (register(kind="u64", scale=(3, 0)), b"\xff" * 8)):
        decoded = one(item, words)
        assert (decoded.value, flag_words(decoded)) == (None, ["overflow", "not available"])
    assert shown(register(kind="s64"), (-(2**63)).to_bytes(8, signed=True)) == str(-(2**63))


def test_large_numbers_keep_every_digit() -> None:
    assert shown(register(kind="u64", scale=(1, 1)), (2**59 + 1).to_bytes(8)) == str(10 * (2**59 + 1))


# ---- not available

NOT_AVAILABLE = [
    (register(kind="u16", not_available=(0xFFFF,)), "FFFF"),
    (register(kind="s16", not_available=(0x8000,)), "8000"),
    (register(kind="s32", not_available=(0x7FFFFFFF,)), "7FFFFFFF"),
    (register(kind="u32", not_available=(0, 0xFFFFFFFF)), "00000000"),
    (register(kind="s64", not_available=(1 << 63,)), "8000000000000000"),
    (register(kind="f32"), "7FC00000"),
    (register(kind="f32"), "FFC00000"),
    (register(kind="f32"), "7F800001"),
    (register(kind="f32"), "7F800000"),
    (register(kind="f32"), "FF800000"),
    (register(kind="f32", not_available=(0,)), "00000000"),
    (register(kind="f64"), "7FF8000000000000"),
]


@pytest.mark.parametrize(("item", "words"), NOT_AVAILABLE)
def test_what_is_not_available_is_never_a_number(item: Register, words: str) -> None:
    decoded = one(item, bytes.fromhex(words))
    assert (decoded.value, decoded.flags, flag_words(decoded)) == (None, 0, ["not available"])
    assert values([decoded], "") == ()


def test_quality_of_the_map_is_on_every_value() -> None:
    item = register(suspect=True, derived=True)
    assert flag_words(one(item, bytes(4))) == ["questionable", "derived"]
    assert one(item, (7).to_bytes(4)).value == Value(7, 0, Quality.QUESTIONABLE | Quality.DERIVED)


# ---- word order, scale registers, composites, encodings


def test_words_low_first() -> None:
    words = bytes.fromhex("00020001")
    assert shown(register(word_order="little"), words) == str(0x10002)
    assert shown(register(), words, Overrides(word_order="little")) == str(0x10002)
    assert shown(register(word_order="little"), words, Overrides(word_order="big")) == str(0x20001)
    assert shown(register(kind="s16", word_order="little"), bytes.fromhex("FFFE")) == "-2"
    assert shown(register(kind="u64", word_order="little"), bytes.fromhex("0004000300020001")) == str(0x1000200030004)
    assert shown(register(kind="f32", word_order="little"), single(230.5)[2:] + single(230.5)[:2]) == "230.5"
    assert (
        shown(
            register(kind="f64", word_order="little"),
            struct.pack(">4H", *struct.unpack(">4H", struct.pack(">d", 0.5))[::-1]),
        )
        == "0.5"
    )


@pytest.mark.parametrize(
    ("power", "text"),
    [("FFFE", "1.5"), ("0002", "15000"), ("8000", None), ("000B", None), ("FFF5", None), ("FFF9", "0.000015")],
)
def test_a_scale_register_gives_the_power_of_ten(power: str, text: str | None) -> None:
    for item, words in (
        (register(kind="u16", scale_address=1), "0096"),
        (register(kind="f32", scale_address=2), single(150.0).hex()),
    ):
        assert shown(item, bytes.fromhex(words + power)) == text


def test_a_value_without_its_scale_register_is_left_out() -> None:
    assert decode(meter(register(kind="u16", scale_address=1)), [Block(3, 0, b"\0\1")]) == ()


def test_a_counter_in_kwh_and_wh() -> None:
    item = register("active_energy_import", "u32", scale=(1, 3), plus=(Term(2, 2, "u32", (1, 0)),))
    assert shown(item, bytes.fromhex("000000070000014D")) == "7333"
    assert shown(item, bytes.fromhex("000000070000014D"), Overrides(ratio=(40, 0))) == str(7333 * 40)
    assert decode(meter(item), [Block(3, 0, bytes(4))]) == ()


def test_a_net_power_is_the_difference_of_two_directions() -> None:
    item = register(kind="u32", scale=(1, -1), plus=(Term(2, 2, "u32", (-1, -1)),), not_available=(0xFFFFFFFF,))
    assert shown(item, bytes.fromhex("00000000000004D2")) == "-123.4"
    assert shown(item, bytes.fromhex("00000000FFFFFFFF")) is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [(0.5, "0.5"), (-0.5, "-0.5"), (1.0, "1"), (1.25, "0.75"), (-1.25, "-0.75"), (2.0, "0"), (2.5, None)],
)
def test_a_four_quadrant_power_factor(raw: float, text: str | None) -> None:
    item = register("power_factor", "f32", encoding="pf4q")
    assert shown(item, single(raw)) == text
    assert shown(item, single(1e30)) is None
    assert shown(item, b"\x7f\xc0\0\0") is None


# ---- blocks


def test_registers_whose_words_are_absent_are_left_out() -> None:
    meter_map = load("eastron_sdm630")
    decoded = decode(meter_map, [Block(4, 0, single(230.25) + single(231.5) + b"\x43\x66")])
    assert [(item.key, item.value) for item in decoded] == [
        (pack("32.7.0"), Value(23025, -2)),
        (pack("52.7.0"), Value(2315, -1)),
    ]
    assert decode(meter_map, [Block(3, 0, single(230.25))]) == ()
    assert decode(meter_map, []) == ()


def test_a_value_and_its_scale_register_are_taken_from_one_block_if_they_can() -> None:
    item = register(kind="u16", scale_address=1)
    first, second = Block(3, 0, b"\0\1"), Block(3, 0, b"\0\2\0\3")
    (decoded,) = decode(meter(item), [first, second])
    assert decoded.value == Value(2, 3)


def test_values_are_sorted_by_key_within_their_point() -> None:
    decoded = (
        Decoded("pv", 520, Value(2, 0), 0),
        Decoded("", 264, Value(1, 0), 0),
        Decoded("pv", 264, Value(3, 0), 0),
        Decoded("pv", 300, None, 0),
    )
    assert values(decoded, "pv") == ((264, Value(3, 0)), (520, Value(2, 0)))


# ---- what is different at one installation


def keys(item: Register) -> tuple[str, str]:
    """Where an inverted quantity goes and what 5 becomes."""
    decoded = one(item, (5).to_bytes(2 * item.count), Overrides(invert=True))
    assert decoded.value
    known = next(quantity for quantity in BY_NAME.values() if quantity.key == decoded.key)
    return known.name, decoded.value.text()


INVERTED = [
    ("active_power", "active_power", "-5"),
    ("reactive_power", "reactive_power", "-5"),
    ("active_energy_net", "active_energy_net", "-5"),
    ("active_energy_import", "active_energy_export", "5"),
    ("active_energy_export", "active_energy_import", "5"),
    ("active_power_import", "active_power_export", "5"),
    ("reactive_energy_q1", "reactive_energy_q3", "5"),
    ("reactive_energy_q4", "reactive_energy_q2", "5"),
    ("active_energy_import_t2", "active_energy_export_t2", "5"),
    ("apparent_power", "apparent_power", "5"),
    ("current", "current", "5"),
    ("power_factor", "power_factor", "5"),
    ("active_energy_total", "active_energy_total", "5"),
]


@pytest.mark.parametrize(("before", "after", "text"), INVERTED)
def test_transformers_mounted_the_wrong_way_round(before: str, after: str, text: str) -> None:
    assert keys(register(before)) == (after, text)


def test_an_inverter_measures_itself_whatever_is_mounted_where() -> None:
    own = register("active_energy_generation", point="pv")
    drawn = register("active_energy_import", point="pv", address=2)
    grid = register("active_energy_import", point="grid", address=4)
    decoded = decode(meter(own, drawn, grid), [Block(3, 0, bytes(12))], Overrides(invert=True))
    assert [(item.point, item.key) for item in decoded] == [("pv", 520), ("pv", 264), ("grid", 520)]


def test_inverting_twice_is_no_change_of_any_key() -> None:
    for name in FIXED:
        meter_map = load(name)
        blocks = [Block(request.function, request.address, bytes(2 * request.count)) for request in plan(meter_map, 61)]
        plain = {(item.point, item.key) for item in decode(meter_map, blocks)}
        turned = {(item.point, item.key) for item in decode(meter_map, blocks, Overrides(invert=True))}
        assert len(plain) == len(turned)


def test_a_ratio_multiplies_currents_powers_and_energies() -> None:
    ratio = Overrides(ratio=(4, 1))
    assert shown(register("active_power"), (3).to_bytes(4), ratio) == "120"
    assert shown(register("current"), (3).to_bytes(4), ratio) == "120"
    assert shown(register("active_energy_import"), (3).to_bytes(4), ratio) == "120"
    assert shown(register("active_energy_import", primary=True), (3).to_bytes(4), ratio) == "3"
    for same in ("voltage", "frequency", "power_factor", "dc_power"):
        assert shown(register(same), (3).to_bytes(4), ratio) == "3"


def test_a_scale_multiplies_powers_and_energies() -> None:
    scale = Overrides(scale=(1, 3))
    assert shown(register("active_energy_import"), (3).to_bytes(4), scale) == "3000"
    assert shown(register("current"), (3).to_bytes(4), scale) == "3"


def test_overrides_as_a_descriptor_carries_them() -> None:
    assert Overrides().as_pairs() == ()
    assert Overrides("little", True, (4, 1), (1, -3)).as_pairs() == (
        ("invert", "true"),
        ("ratio", "40"),
        ("scale", "0.001"),
        ("word_order", "little"),
    )


# ---- total over any words

OVERRIDES = [Overrides(), Overrides("little"), Overrides("big", True, (40, 0), (1, -3))]


@given(st.data())
def test_random_words_never_raise_and_never_give_a_float(data: st.DataObject) -> None:
    meter_map = load(data.draw(st.sampled_from(FIXED)))
    filling = data.draw(st.sampled_from([b"\xff\xff", b"\0\0", b"\x80\0", b"\x7f\xff", None]))
    blocks = []
    for request in plan(meter_map, TCP_OVERHEAD_BYTES):
        words = (
            data.draw(st.binary(min_size=2 * request.count, max_size=2 * request.count))
            if filling is None
            else filling * request.count
        )
        blocks.append(Block(request.function, request.address, words))
    decoded = decode(meter_map, blocks, data.draw(st.sampled_from(OVERRIDES)))
    assert len(decoded) == len(meter_map.registers)
    for item in decoded:
        assert isinstance(item.flags, int)
        if item.value is not None:
            mantissa, exponent = item.value.mantissa, item.value.exponent
            assert type(mantissa) is int
            assert type(exponent) is int
            assert -(2**63) <= mantissa < 2**63
            assert -9 <= exponent <= 9
            assert (mantissa % 10 != 0 or exponent == 9) if mantissa else exponent == 0
            assert item.flags == item.value.quality


@given(st.lists(st.tuples(st.sampled_from([3, 4]), st.integers(0, 80), st.binary(max_size=41)), max_size=4))
def test_blocks_of_any_shape_are_taken(shapes: list[tuple[int, int, bytes]]) -> None:
    for name in ("eastron_sdm630", "carlo_gavazzi_em24_rs485"):
        decode(load(name), [Block(function, address, words) for function, address, words in shapes])
