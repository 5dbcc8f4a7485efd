"""``aigeco decode``: the fixed JSON shape, the technician's table, and one clear message for what is no dump."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Aigeco = Callable[..., Any]

# The manufacturer's example frame: voltage L1, 230.20001 V as f32 (SDM320Y manual, page 43).
SDM630 = "device: example frame\ncatalogue: eastron_sdm630\ntable: input\nregisters:\n  0: 17254\n  1: 13108\n"


@pytest.fixture
def dump(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a dump file."""

    def write(text: str) -> Path:
        path = tmp_path / "dump.yaml"
        path.write_text(text)
        return path

    return write


def test_the_json_shape_is_fixed(aigeco: Aigeco, dump: Callable[[str], Path]) -> None:
    shown = aigeco("decode", "eastron_sdm630", dump(SDM630), "--json")
    assert shown.code == 0
    assert shown.err == ""
    assert json.loads(shown.out) == {
        "model": "eastron_sdm630",
        "values": [{"obis": "32.7.0", "value": "230.20001", "unit": "V", "flags": []}],
    }


def test_a_value_the_device_does_not_have_is_null(aigeco: Aigeco, dump: Callable[[str], Path]) -> None:
    nan = SDM630.replace("17254", "32704")  # 0x7FC0 begins a NaN
    shown = json.loads(aigeco("decode", "eastron_sdm630", dump(nan), "--json").out)
    assert shown["values"] == [{"obis": "32.7.0", "value": None, "unit": "V", "flags": ["not available"]}]


def test_the_table_names_value_and_unit(aigeco: Aigeco, dump: Callable[[str], Path]) -> None:
    shown = aigeco("decode", "eastron_sdm630", dump(SDM630))
    assert shown.code == 0
    heading, columns, row = shown.out.splitlines()
    assert "SDM630" in heading
    assert columns.split() == ["quantity", "value", "unit", "obis"]
    assert row.split() == ["voltage", "L1", "230.20001", "V", "32.7.0"]


def test_an_unknown_model_names_the_closest(aigeco: Aigeco, dump: Callable[[str], Path]) -> None:
    asked = aigeco("decode", "eastron_sdm360", dump(SDM630))
    assert asked.code == 2
    words, advice = asked.problem
    assert "eastron_sdm360" in words
    assert "eastron_sdm630" in " ".join(advice)
    assert asked.out == ""


@pytest.mark.parametrize(
    "text",
    [
        "registers: [1, 2",  # no YAML
        "\x00",  # not even text
        "",
        "just words",
        "- 1\n- 2\n",
        "table: input\n",  # no registers
        "table: input\nregisters: none\n",
        "table: input\nregisters:\n  0: many\n",
        "table: input\nregisters:\n  0: 65536\n",
        "table: input\nregisters:\n  -1: 0\n",
        "table: coils\nregisters:\n  0: 1\n",
    ],
)
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_what_is_no_dump_is_said_once(
    aigeco: Aigeco, dump: Callable[[str], Path], text: str, as_json: tuple[str, ...]
) -> None:
    asked = aigeco("decode", "eastron_sdm630", dump(text), *as_json)
    assert asked.code == 2
    assert "dump.yaml" in asked.problem[0]
    assert asked.out == ""


def test_a_file_that_is_not_there(aigeco: Aigeco, tmp_path: Path) -> None:
    asked = aigeco("decode", "eastron_sdm630", tmp_path / "nowhere.yaml")
    assert asked.code == 2
    assert "nowhere.yaml" in asked.problem[0]
