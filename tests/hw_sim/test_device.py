"""Devices: what they let themselves be asked, who they say they are, and one picture of one instant."""

from pathlib import Path

import pytest

from drivers import obis
from drivers.identify import matches, text
from drivers.map import Field, Identify, MeterMap, load, names, parse
from drivers.reading import Block
from hw_sim.device import DumpDevice, MapDevice, identification
from hw_sim.encode import Points
from hw_sim.station import Refused


def constant(value: int) -> Points:
    return {point: dict.fromkeys(obis.BY_KEY, value) for point in ("", "pv", "grid", "battery")}


def device(meter_map: MeterMap, serial: str = "24000123", most_registers: int | None = None) -> MapDevice:
    return MapDevice(meter_map, lambda _at_s: constant(1_000_000), serial, most_registers=most_registers)


def code(one: MapDevice | DumpDevice, function: int, address: int, count: int) -> int:
    """Exception code, 0 for an answer."""
    try:
        assert len(one.read(function, address, count, 0.0)) == 2 * count
    except Refused as refused:
        return refused.code
    return 0


def small_map(limits: str = "", table: str = "holding") -> MeterMap:
    return parse(
        f"""
        manufacturer = "Test"
        model = "T"
        kind = "meter"
        phases = 3
        sources = ["none"]
        settlement = false
        settlement_reason = "a test"
        [limits]
        {limits}
        [defaults]
        table = "{table}"
        type = "u32"
        [[register]]
        quantity = "voltage"
        address = {{ L1 = 10, L2 = 12, L3 = 34 }}
        [[register]]
        quantity = "frequency"
        address = 100
        """.encode(),
        "test",
    )


@pytest.mark.parametrize(
    ("limits", "asked", "expected"),
    [
        ("", (10, 4), 0),
        ("", (10, 26), 0),  # the hole 14..33 is read through
        ("", (9, 2), 2),
        ("", (34, 3), 2),
        ("", (36, 2), 2),
        ("", (100, 2), 0),
        ("", (34, 68), 2),  # the hole 36..99 is not
        ("max_registers = 20", (10, 20), 0),
        ("max_registers = 20", (10, 22), 3),
        ("max_gap = 8", (10, 26), 2),
        ("max_gap = 8", (34, 2), 0),
        ("forbidden = [[20, 22]]", (10, 26), 2),
        ("barriers = [12]", (10, 4), 2),
        ("barriers = [12]", (12, 2), 0),
        ("even_only = true", (10, 4), 0),
        ("even_only = true", (10, 3), 2),
        ("even_only = true", (11, 2), 2),
    ],
)
def test_a_meter_answers_what_its_map_allows(limits: str, asked: tuple[int, int], expected: int) -> None:
    assert code(device(small_map(limits)), 3, *asked) == expected


def test_functions_are_one_table_only_where_the_map_says_so() -> None:
    assert [code(device(small_map()), function, 10, 2) for function in (3, 4)] == [0, 2]
    assert [code(device(small_map("functions_equivalent = true")), function, 10, 2) for function in (3, 4)] == [0, 0]


def test_a_unit_may_allow_less_than_its_model() -> None:
    assert [code(device(small_map(), most_registers=4), 3, 10, count) for count in (4, 6)] == [0, 2]


def test_the_words_of_one_picture_belong_to_one_instant() -> None:
    asked: list[float] = []

    def source(at_s: float) -> Points:
        asked.append(at_s)
        return constant(int(at_s * 1_000_000))

    meter = MapDevice(small_map(), source, refresh_s=0.5)
    for at_s in (10.0, 10.1, 10.49, 10.5, 11.2):
        words = meter.read(3, 10, 4, at_s)
        assert words[:4] == words[4:]
    assert asked == [10.0, 10.5, 11.0]


IDENTIFIED = [name for name in names() if load(name).identify is not None and load(name).scheme == "registers"]


@pytest.mark.parametrize("name", IDENTIFIED)
def test_every_map_is_known_by_its_identification_and_serial_number(name: str) -> None:
    meter_map = load(name)
    meter = device(meter_map)
    identify = meter_map.identify
    assert identify is not None
    words = meter.read(identify.function, identify.address, identify.count, 0.0)
    assert matches(identify, words)
    if identify.serial is not None:
        field = identify.serial
        said = text(field, meter.read(field.function, field.address, field.count, 0.0))
        assert said.lstrip("0") == ("24000123" if field.type != "u16" else str(24_000_123 % 65_536))


@pytest.mark.parametrize(
    ("kind", "count", "said"),
    [("ascii", 8, "24000123"), ("chars", 8, "24000123"), ("hex", 4, "0000000024000123"), ("u32", 2, "24000123"),
     ("u16", 1, str(24_000_123 % 65_536)), ("ascii", 3, "240001")],
)  # fmt: skip
def test_a_serial_number_in_every_form(kind: str, count: int, said: str) -> None:
    field = Field(3, 50, count, kind)
    found = identification(Identify(3, 50, count, kind, (), field), "24000123")
    assert text(field, found[3, 50]) == said


def test_a_dump_is_served_as_it_is_and_nothing_else() -> None:
    dump = DumpDevice([Block(3, 10, bytes.fromhex("00010002")), Block(3, 12, b"\0\3"), Block(3, 20, b"\0\7")])
    assert dump.read(3, 10, 3, 0.0) == bytes.fromhex("000100020003")
    assert dump.read(3, 20, 1, 99.0) == b"\0\7"
    assert [code(dump, *asked) for asked in ((3, 9, 1), (3, 12, 2), (3, 21, 1), (4, 10, 1))] == [2, 2, 2, 2]


def test_a_dump_of_an_unknown_table_answers_to_both_functions() -> None:
    dump = DumpDevice([Block(0, 10, b"\0\1")])
    assert dump.read(3, 10, 1, 0.0) == dump.read(4, 10, 1, 0.0) == b"\0\1"
    both = DumpDevice([Block(3, 10, b"\0\1")], both_functions=True)
    assert both.read(4, 10, 1, 0.0) == b"\0\1"


DUMPS = sorted((Path(__file__).parent.parent / "data" / "dumps").glob("*.yaml"))


@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.stem)
def test_every_word_of_a_real_dump_is_served(path: Path) -> None:
    from drivers.dump import load as load_dump

    dump = load_dump(path)
    served = DumpDevice(dump.blocks)
    assert dump.blocks
    for block in dump.blocks:
        for at in range(0, len(block.words), 250):
            part = block.words[at : at + 250]
            assert served.read(block.function or 3, block.address + at // 2, len(part) // 2, 0.0) == part
