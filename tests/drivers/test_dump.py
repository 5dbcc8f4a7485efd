"""Register dumps of real devices give what was published about them, and wrong dumps one clear message."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from drivers.decode import Decoded
from drivers.dump import Dump, DumpError, decode_dump, load
from drivers.identify import text
from drivers.map import load as load_map
from drivers.obis import BY_NAME
from drivers.reading import Block, Value

DUMPS = Path(__file__).parent.parent / "data" / "dumps"
FILES = sorted(DUMPS.glob("*.yaml"))

# The source prints the meter's power as the device counts it, export positive; the map turns it round.
RAW_SIGN = {("goodwe_et", "active_power")}
# Published with fewer digits than the registers have.
ROUNDED = {
    ("goodwe_et", "active_energy_export"): Decimal(1),
    ("goodwe_et", "active_energy_import"): Decimal(1),
}
# What the source calls a quantity that has another name here.
RENAMED = {"frequency_meter": ("frequency", "grid")}
# Published readings of registers that no quantity stands for: a copy of the power in 16 bits, and ratings.
NOT_MEASURED = {"meter_active_power_s16", "rated_power", "q_max_in"}
ASKED_FOR_IDENTITY = {"model", "serial"}


def found(decoded: tuple[Decoded, ...], quantity: str, phase: str) -> Value | None:
    name, point = RENAMED.get(quantity, (quantity, None))
    key = BY_NAME[name, phase].key
    generation = "generation" in quantity
    items = [
        item
        for item in decoded
        if item.key == key and (point is None or item.point == point) and not (item.point == "grid" and generation)
    ]
    if quantity.endswith(("_import", "_export")):
        items = [item for item in items if item.point != "pv"]
    assert items, f"{quantity} {phase} is not decoded"
    return items[0].value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dump_decodes_to_its_published_readings(path: Path) -> None:
    dump = load(path)
    decoded = decode_dump(load_map(dump.catalogue), dump)
    compared = 0
    for reading in dump.readings:
        quantity = str(reading["quantity"])
        if quantity in NOT_MEASURED | ASKED_FOR_IDENTITY:
            continue
        value = found(decoded, quantity, str(reading["phase"]))
        compared += 1
        if reading["value"] is None:
            assert value is None
            continue
        published = Decimal(str(reading["value"])) * (-1 if (dump.catalogue, quantity) in RAW_SIGN else 1)
        tolerance = Decimal(str(reading.get("tolerance", ROUNDED.get((dump.catalogue, quantity), 0))))
        assert value is not None, quantity
        assert abs(Decimal(value.text()) - published) <= tolerance, quantity
    assert compared >= 1


def test_every_dump_is_there() -> None:
    assert len(FILES) >= 12
    assert sum(len(load(path).readings) for path in FILES) >= 74


def test_identity_in_a_dump() -> None:
    dump = load(DUMPS / "huawei_sun2000-3ktl-l1.yaml")
    identify = load_map(dump.catalogue).identify
    assert identify
    assert identify.serial
    published = {str(reading["quantity"]): reading["value"] for reading in dump.readings}
    for field, name in ((identify, "model"), (identify.serial, "serial")):
        (block,) = [block for block in dump.blocks if 0 <= field.address - block.address < len(block.words) // 2]
        start = 2 * (field.address - block.address)
        assert text(field, block.words[start : start + 2 * field.count]) == published[name]


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "dump.yaml"
    path.write_text(content)
    return path


def test_words_in_every_spelling(tmp_path: Path) -> None:
    dump = load(written(tmp_path, 'table: input\nregisters: {0: 17254, "0x1": "0x3334", 7: -1, 3: 0xFFFF}'))
    assert dump.blocks == (
        Block(4, 0, bytes.fromhex("43663334")),
        Block(4, 3, b"\xff\xff"),
        Block(4, 7, b"\xff\xff"),
    )


def test_both_tables_in_one_dump(tmp_path: Path) -> None:
    dump = load(written(tmp_path, "registers: {holding: {1: 2}, input: {1: 3}}"))
    assert dump.blocks == (Block(3, 1, b"\0\2"), Block(4, 1, b"\0\3"))


def test_a_dump_without_its_table_is_tried_with_the_maps(tmp_path: Path) -> None:
    dump = load(written(tmp_path, "registers: {0: 17254, 1: 13108}"))
    assert decode_dump(load_map("eastron_sdm630"), dump)[0].value == Value(23020001, -5)


def test_equivalent_functions_read_the_same_table() -> None:
    words = Block(3, 0, bytes.fromhex("08FC0000"))
    (decoded,) = decode_dump(load_map("carlo_gavazzi_em24_rs485"), Dump("", "", "", (words,)))
    assert decoded.value == Value(23, 1)


WRONG = [
    ("[1, 2]", "not a dump"),
    ("registers: {}", "there are none"),
    ("registers: 7", "there are none"),
    ("registers: {x: 1}", "'x': not an address"),
    ("registers: {65536: 1}", "65536: not an address"),
    ("registers: {1: 65536}", "register 1: 65536: not a 16-bit word"),
    ("registers: {1: -32769}", "not a 16-bit word"),
    ("registers: {1: 1.5}", "register 1: 1.5: not a 16-bit word"),
    ("registers: {1: null}", "register 1: None: not a 16-bit word"),
    ('registers: {1: 1, "0x1": 2}', "register 1: given twice"),
    ("registers: {holding: 5}", "not addresses and words"),
    ("table: coils\nregisters: {1: 1}", "table: 'coils': not a table"),
    ("registers: {1: [", "not YAML"),
]


@pytest.mark.parametrize(("content", "words"), WRONG)
def test_a_wrong_dump_is_refused(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DumpError, match="dump") as caught:
        load(written(tmp_path, content))
    assert words in str(caught.value)
    assert caught.value.__notes__[0].startswith("try: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="No such file"):
        load(tmp_path / "none.yaml")


def test_a_dump_of_another_model_is_told() -> None:
    dump = load(DUMPS / "sbc_counter_example.yaml")
    for name in ("eastron_sdm630", "sunspec_generic"):
        with pytest.raises(DumpError):
            decode_dump(load_map(name), dump)
