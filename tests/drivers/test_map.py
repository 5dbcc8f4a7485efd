"""Map files: what a good one says, and that a wrong one is refused with everything that is wrong with it."""

from __future__ import annotations

import hashlib
import tomllib
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.map import CATALOGUE, Field, MapError, MeterMap, Register, SerialDefaults, TcpDefaults, Term, load, parse
from drivers.obis import pack

GOOD = """
manufacturer = "Acme"
model = "One"
kind = "meter"
phases = 3
sources = ["a manual, page 7"]

[serial]
baud = 9600
parity = "E"
stopbits = 1
unit = 5

[tcp]
port = 1502

[identify]
table = "input"
address = 11
type = "u16"
expected = [71, 72]

[identify.serial_number]
table = "holding"
address = 100
type = "ascii"
count = 8

[limits]
max_registers = 40
min_delay_ms = 50
forbidden = [[90, 95]]
barriers = [80]

[defaults]
table = "input"
type = "s32"
word_order = "little"

[not_available]
s32 = 0x7FFFFFFF
u64 = "0xFFFFFFFFFFFFFFFF"

[[register]]
quantity = "voltage"
address = { L1 = 0, L2 = 2, L3 = 4 }
scale = 0.1

[[register]]
quantity = "active_power"
address = 6
scale = "-0.1"
unit = "W"
obis = "16.7.0"

[[register]]
quantity = "active_energy_import"
address = 20
type = "u64"
scale = 100
count = 4
scale_address = 30
billing = true
"""


def changed(old: str, new: str) -> bytes:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new).encode()


def problems(data: bytes) -> MapError:
    with pytest.raises(MapError) as caught:
        parse(data, "one")
    assert len(caught.value.problems) == len(caught.value.__notes__)
    assert all(note.startswith("try: ") and len(note) > 8 for note in caught.value.__notes__)
    return caught.value


def test_a_file_says_everything_once() -> None:
    meter_map = parse(GOOD.encode(), "one")
    assert (meter_map.name, meter_map.model, meter_map.scheme, meter_map.points) == ("one", "One", "registers", ("",))
    assert meter_map.serial == SerialDefaults(9600, "E", 1, 5)
    assert meter_map.tcp == TcpDefaults(1502, 1)
    assert meter_map.identify
    assert (meter_map.identify.function, meter_map.identify.address, meter_map.identify.expected) == (4, 11, (71, 72))
    assert meter_map.identify.serial == Field(3, 100, 8, "ascii")
    assert (meter_map.max_registers, meter_map.min_delay_ms, meter_map.max_gap) == (40, 50, None)
    assert (meter_map.forbidden, meter_map.barriers) == (((90, 95),), (80,))
    assert meter_map.digest == hashlib.sha256(GOOD.encode()).digest()
    assert meter_map.data == GOOD.encode()
    l1, _, _, power, energy = meter_map.registers
    assert l1 == Register(
        pack("32.7.0"), "voltage", "L1", "", 4, 0, 2, "s32", (1, -1), "little", not_available=(0x7FFFFFFF,)
    )
    assert (power.key, power.scale, power.billing) == (pack("16.7.0"), (-1, -1), False)
    assert (energy.count, energy.scale, energy.scale_address, energy.billing) == (4, (1, 2), 30, True)
    assert energy.not_available == (0xFFFF_FFFF_FFFF_FFFF,)


def test_only_the_total_of_an_energy_is_for_billing() -> None:
    imports = [register for register in load("eastron_sdm630").registers if register.quantity == "active_energy_import"]
    assert {register.phase: register.billing for register in imports} == {
        "total": True,
        "L1": False,
        "L2": False,
        "L3": False,
    }


def test_a_scale_written_as_a_number_is_exact() -> None:
    assert parse(changed("scale = 0.1\n", "scale = 0.1000\n"), "one").registers[0].scale == (1, -1)
    assert parse(changed("scale = 0.1\n", "scale = 0.000000003\n"), "one").registers[0].scale == (3, -9)


def test_a_composite_adds_numbers() -> None:
    data = changed('scale = "-0.1"', 'plus = [{ address = 8, type = "u32", scale = -1 }]\nderived = true')
    assert parse(data, "one").registers[3].plus == (Term(8, 2, "u32", (-1, 0)),)


# What is changed in the good file, and what the refusal says: place, then words.
WRONG = [
    ('kind = "meter"', 'kind = "metre"', "kind: 'metre'", "not a word that is known"),
    ('kind = "meter"', "", "kind", "not a word that is known"),
    ("phases = 3", 'phases = "3"', "phases: '3'", "a whole number from 1 to 3"),
    ("phases = 3", "phases = true", "phases: True", "a whole number"),
    ('model = "One"', 'model = ""', "model: ''", "a text"),
    ('sources = ["a manual, page 7"]', "sources = []", "sources", "a list of texts"),
    ('model = "One"', 'model = "One"\ncolour = "red"', "colour: 'red'", "a key that is not known"),
    ("baud = 9600", "baud = 9601", "serial: baud: 9601", "not a usual speed"),
    ('parity = "E"', 'parity = "even"', "serial: parity", "not a word"),
    ("port = 1502", "port = 70000", "tcp: port: 70000", "a whole number"),
    ("expected = [71, 72]", 'expected = ["EM24"]', "identify: expected", "a list of what a u16"),
    ("count = 8", "count = 0", "identify: serial_number: count: 0", "a whole number"),
    ("max_registers = 40", "max_registers = 126", "limits: max_registers: 126", "from 1 to 125"),
    ("max_registers = 40", "max_registers = 3", "register 3 (active_energy_import)", "longer than max_registers 3"),
    ("forbidden = [[90, 95]]", "forbidden = [[95, 90]]", "limits: forbidden", "not a range"),
    ("forbidden = [[90, 95]]", "forbidden = [[3, 3]]", "register (voltage L2)", "in the forbidden range 3..3"),
    ("s32 = 0x7FFFFFFF", "s32 = 0x1FFFFFFFF", "not_available: s32", "not a raw pattern"),
    ("s32 = 0x7FFFFFFF", "s33 = 1", "not_available: s33: 1", "a key that is not known"),
    ('quantity = "active_power"', 'quantity = "active_pwr"', "active_pwr", "no such quantity"),
    ("L1 = 0, L2 = 2, L3 = 4", "L1 = 0, L2 = 2, L4 = 4", "register 1 (voltage): address: 'L4'", "not a phase"),
    ("L1 = 0, L2 = 2, L3 = 4", "L1 = 0, L2 = 1, L3 = 4", "register 1 (voltage) L2: 1..2", "overlaps"),
    ("L1 = 0, L2 = 2, L3 = 4", "L1 = 0, L2 = 2, L3 = 65535", "register 1 (voltage): address: 65535", "end after 65535"),
    ("address = 6", "address = -1", "register 2 (active_power): address: -1", "a whole number"),
    ("address = 6", 'address = "6"', "register 2 (active_power): address: '6'", "a whole number"),
    ("address = 6", "", "register 2 (active_power): address", "a whole number"),
    ("address = 6", "address = 29", "overlaps", "30..30"),
    ('unit = "W"', 'unit = "kW"', "unit: 'kW'", "active_power total has unit W"),
    ('obis = "16.7.0"', 'obis = "1.7.0"', "obis: '1.7.0'", "active_power total has obis 16.7.0"),
    ("scale = 0.1\n", "scale = 1e10\n", "register 1 (voltage): scale", "out of range"),
    ("scale = 0.1\n", "scale = 0.0000000001\n", "scale", "out of range"),
    ("scale = 0.1\n", "scale = 0\n", "scale: 0", "out of range"),
    ("scale = 0.1\n", "scale = nan\n", "scale: NaN", "not a finite number"),
    ("scale = 0.1\n", 'scale = "1/10"\n', "scale: '1/10'", "not a number"),
    ("count = 4", "count = 2", "register 3 (active_energy_import): count: 2", "u64 takes 4 registers"),
    ("scale_address = 30", "scale_table = 'holding'", "scale_table", "a key that is not known"),
    ("scale_address = 30", "scale_address = 2", "overlaps", "2..3"),
    ("scale_address = 30", "resettable = true", "billing", "not for this quantity"),
    ("scale_address = 30", "suspect = true", "billing", "not for this quantity"),
    ("billing = true", "", "settlement", "no register is for billing"),
    ('model = "One"', 'model = "One"\nsettlement = false', "settlement_reason", "a text"),
    ('unit = "W"', 'encoding = "pf4q"', "encoding", "only for power factors"),
    ('unit = "W"', 'plus = [{ address = 9, type = "f32" }]', "plus 1: type: 'f32'", "made of integers"),
    ('unit = "W"', 'point = "P V"', "point: 'P V'", "not a point's name"),
    ('quantity = "active_power"', 'quantity = "voltage"\nphase = "L1"', "32.7.0", "is given by register 1"),
    ('model = "One"', 'model = "One"\nscheme = "sunspec"', "sunspec", "needs models"),
    ('model = "One"', 'model = "One', "", "not TOML"),
]


@pytest.mark.parametrize(("old", "new", "place", "words"), WRONG)
def test_a_wrong_file_is_refused_with_place_value_and_advice(old: str, new: str, place: str, words: str) -> None:
    said = str(problems(changed(old, new)))
    assert said.startswith("one: ")
    assert place in said
    assert words in said


def test_all_problems_of_a_file_come_at_once() -> None:
    data = (
        GOOD.replace("phases = 3", "phases = 4").replace("baud = 9600", "baud = 7").replace("scale = 100", "scal = 100")
    )
    error = problems(data.encode())
    assert [problem.place for problem in error.problems] == [
        "register 3 (active_energy_import): scal",
        "phases",
        "serial: baud",
    ]
    assert "one of scale" in error.__notes__[0]


def test_bytes_that_are_no_text_are_refused() -> None:
    assert "not TOML" in str(problems(b"\xff\xfe"))


def test_an_unknown_model_is_told_the_nearest_names() -> None:
    with pytest.raises(MapError, match="no such meter model") as caught:
        load("eastron_sdm360")
    assert "eastron_sdm630" in caught.value.__notes__[0]
    with pytest.raises(MapError) as caught:
        load("xyz")
    assert caught.value.__notes__[0].startswith("try: aigeco maps list names them; or the path"), (
        "not some dozen of many"
    )
    with pytest.raises(MapError):
        load("../map")


# ---- total over almost-right input


def written(value: object) -> str:
    """TOML of a value, inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {written(item)}' for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def file(content: dict[str, Any]) -> bytes:
    return "\n".join(f'"{key}" = {written(value)}' for key, value in content.items()).encode()


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths(item, (*path, key))
    return found


BASES = ["eastron_sdm120", "kostal_ksem", "solaredge_inverter", "siemens_pac1600", "fronius_sunspec"]
JUNK = st.one_of(
    st.sampled_from([0, 1, -1, 2, 125, 126, 65535, 65536, 2**63, -(2**70), True, False, "", "x", "total", "0xFFFF"]),
    st.sampled_from(["f32", "u64", "little", "1e400", "-0.1", [], {}, [[]], [{}], {"L1": 0}, [1, "a"], [[1, 2], [3]]]),
    st.integers(),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=8),
)


def mutate(content: dict[str, Any], path: tuple[str | int, ...], action: str, junk: object) -> None:
    junk = deepcopy(junk)  # what is drawn is one object in all examples, and may be changed again below
    holder: Any = content
    for key in path[:-1]:
        holder = holder[key]
    last = path[-1]
    if action == "remove":
        del holder[last]
    elif action == "replace":
        holder[last] = junk
    elif action == "repeat" and isinstance(holder, list):
        holder.append(holder[int(last)])
    elif isinstance(holder, dict):
        holder["surprise"] = junk


def judged(data: bytes) -> bool:
    """Whether it is a map; raises what is neither a map nor a refusal with its problems."""
    try:
        return isinstance(parse(data, "changed"), MeterMap)
    except MapError as error:
        return not error.problems


@given(st.data())
def test_one_changed_field_gives_a_map_or_a_map_error(data: st.DataObject) -> None:
    content = tomllib.loads((CATALOGUE / f"{data.draw(st.sampled_from(BASES))}.toml").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths(content)))
        mutate(
            content,
            path,
            data.draw(st.sampled_from(["remove", "replace", "replace", "repeat", "add"])),
            data.draw(JUNK),
        )
    assert judged(file(content)) in (True, False)


@pytest.mark.parametrize("name", BASES)
def test_every_single_field_removed_or_retyped_is_judged(name: str) -> None:
    source = (CATALOGUE / f"{name}.toml").read_text()
    every = paths(tomllib.loads(source))
    refused = 0
    for path in every[:: 1 + len(every) // 150]:
        for action, junk in (("remove", 0), ("replace", "x"), ("replace", -7), ("replace", []), ("add", 1)):
            content = tomllib.loads(source)
            mutate(content, path, action, junk)
            refused += not judged(file(content))
    assert refused > min(len(every), 150) // 2


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    problems(data)
