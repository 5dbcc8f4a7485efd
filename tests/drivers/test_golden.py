"""Golden dumps: every map of the catalogue has one, and it means exactly what it meant when it was made."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from drivers.decode import flag_words
from drivers.dump import Dump, decode_dump
from drivers.dump import load as load_dump
from drivers.golden import check_golden, compare
from drivers.map import MeterMap, Register, names
from drivers.map import load as load_map
from drivers.mapproof import FAILED, SKIPPED
from drivers.obis import BY_KEY, BY_NAME
from drivers.reading import Block

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FILES = sorted(GOLDEN.glob("*.yaml"))
load = lru_cache(maxsize=None)(load_dump)  # three tests look at each


def of(name: str) -> list[Path]:
    return [path for path in FILES if path.name.split(".")[0] == name]


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_belongs_to_a_map() -> None:
    assert {path.name.split(".")[0] for path in FILES} == set(names()), (
        "python tests/data/golden/make.py makes what is missing"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".yaml"))
def test_a_golden_dump_decodes_to_exactly_its_readings(path: Path) -> None:
    dump = load(path)
    assert dump.catalogue == path.name.split(".")[0]
    meter_map = load_map(dump.catalogue)
    assert compare(meter_map, dump, path.name) == []
    said = [
        (item.point, item.key, item.value.text() if item.value else None, flag_words(item))
        for item in decode_dump(meter_map, dump)
    ]
    assert said == [
        (
            reading.get("point", ""),
            BY_NAME[str(reading["quantity"]), str(reading["phase"])].key,
            reading["value"],
            reading.get("flags", []),
        )
        for reading in dump.readings
    ]


@pytest.mark.parametrize("name", names())
def test_the_golden_dumps_of_a_map_cover_all_of_it(name: str) -> None:
    meter_map = load_map(name)
    covered = {item.key for path in of(name) for item in decode_dump(meter_map, load(path)) if item.value is not None}
    every = [*meter_map.registers, *(register for model in meter_map.models for register in model.registers)]
    assert {BY_KEY[register.key] for register in every if register.key not in covered} == set()


@pytest.mark.parametrize("name", names())
def test_a_map_that_is_changed_turns_red(name: str) -> None:
    """The fault planted in every register at once: a power of ten in the scale, one by one in what is compared."""
    meter_map = load_map(name)
    for path in of(name):
        dump = load(path)
        readings = [reading for reading in dump.readings if str(reading["value"]).strip("-0.") not in ("", "None")]
        wrong = compare(rescaled(meter_map), replace(dump, readings=tuple(readings)), path.name)
        assert len(wrong) == len(readings) > 0


def rescaled(meter_map: MeterMap) -> MeterMap:
    def one(register: Register) -> Register:
        plus = tuple(replace(term, scale=times_ten(term.scale)) for term in register.plus)
        return replace(register, scale=times_ten(register.scale), plus=plus)

    models = tuple(replace(model, registers=tuple(map(one, model.registers))) for model in meter_map.models)
    return replace(meter_map, registers=tuple(map(one, meter_map.registers)), models=models, digest=b"changed")


def times_ten(scale: tuple[int, int]) -> tuple[int, int]:
    return scale[0], scale[1] + 1


def test_what_is_simulated_says_so() -> None:
    for path in FILES:
        content = content_of(path)
        assert (content["kind"] == "simulated") == content["source"].startswith("hw_sim/"), path.name


def test_real_captures_are_taken_word_by_word() -> None:
    captures = {f"tests/data/dumps/{path.name}": path for path in (GOLDEN.parent / "dumps").glob("*.yaml")}
    taken = {content_of(path)["source"]: path for path in FILES if content_of(path)["kind"] != "simulated"}
    assert set(taken) == set(captures)
    for source, path in taken.items():
        assert list(words(load(captures[source]).blocks)) == list(words(load(path).blocks))


@cache
def content_of(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def words(blocks: tuple[Block, ...]) -> Iterator[tuple[int, int, bytes]]:
    for block in blocks:
        yield block.function, block.address, block.words


@pytest.mark.parametrize("name", names())
def test_the_generator_makes_the_same_again(make: ModuleType, name: str) -> None:
    made = dict(make.made(load_map(name)))
    assert made == {path.name: path.read_text() for path in of(name)}


def test_the_generator_overwrites_only_what_it_is_told_to(make: ModuleType, tmp_path: Path) -> None:
    name = "eastron_sdm120"
    assert make.write(tmp_path, [name], False) == []
    (path,) = tmp_path.iterdir()
    good = path.read_text()
    path.write_text(good.replace("voltage", "frequency"))
    (said,) = make.write(tmp_path, [name], False)
    assert said.startswith(f"{path.name}: would be another one now")
    assert path.read_text() != good
    assert make.write(tmp_path, [name], True) == []
    assert path.read_text() == good


SDM630 = Block(4, 0, bytes.fromhex("43663334"))  # 230.20001 V


def compared(*readings: dict[str, object]) -> list[str]:
    dump = Dump("a meter", "eastron_sdm630", "", (SDM630,), readings)
    return [str(problem) for problem in compare(load_map("eastron_sdm630"), dump, "x.yaml")]


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"quantity": "voltage", "phase": "L1", "value": "230.20001"}, None),
        ({"quantity": "voltage", "phase": "L1", "value": 230.2, "tolerance": "0.01"}, None),
        ({"quantity": "voltage", "phase": "L1", "value": "230.2"}, "230.2: the map makes 230.20001 of it"),
        ({"quantity": "voltage", "phase": "L1", "value": None}, "None: the map makes 230.20001 of it"),
        ({"quantity": "voltage", "phase": "L1", "value": "much"}, "much: the map makes 230.20001 of it"),
        ({"quantity": "voltage", "phase": "L1", "point": "pv", "value": "230.20001"}, "is not in the dump"),
        ({"quantity": "voltage", "phase": "L2", "value": "230.20001"}, "52.7.0: is not in the dump"),
        ({"quantity": "votlage", "phase": "L1", "value": "230.20001"}, "no such quantity in that phase"),
        ({"quantity": "voltage", "phase": "L1", "value": "230.20001", "flags": ["derived"]}, "the map flags it []"),
    ],
)
def test_a_reading_that_differs_is_named(reading: dict[str, object], words: str | None) -> None:
    said = compared(reading)
    assert len(said) == (words is not None)
    assert words is None or words in said[0]


def test_a_dump_without_readings_proves_nothing() -> None:
    assert compared() == ["x.yaml: known_readings: there are none: what do these words mean?"]


def test_no_dump_at_all_is_no_proof_and_no_fault() -> None:
    check = check_golden(load_map("eastron_sdm630"), [], "put one there")
    assert (check.state, check.words) == (SKIPPED, "put one there")


def test_a_dump_of_another_meter_is_a_fault() -> None:
    dump = Dump("another", "", "", (Block(4, 5000, b"\0\0"),), ({"quantity": "voltage"},))
    check = check_golden(load_map("eastron_sdm630"), [("x.yaml", dump)], "")
    assert check.state == FAILED
    assert "no register of eastron_sdm630 is in the dump" in str(check.problems[0])
