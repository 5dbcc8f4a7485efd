"""``aigeco read`` against simulated meters: the fixed JSON shape, the table, and what a silent line is told."""

import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers import dump
from drivers.decode import decode
from drivers.map import load
from drivers.obis import pack
from drivers.reading import Block
from hw_sim import frames
from hw_sim.device import DumpDevice, MapDevice
from hw_sim.faults import Fault
from hw_sim.line import LineTiming
from hw_sim.station import Device, Station
from hw_sim.wire import Wire

Aigeco = Callable[..., Any]
Serve = Callable[..., str]

# A house at noon, in millionths of the unit.
HOUSE = {"": {pack("32.7.0"): 230_500_000, pack("1.8.0"): 9_123_510_000_000, pack("16.7.0"): -1_250_000_000}}


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Not started yet: ports are added first."""
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def serve(wire: Wire) -> Serve:
    """``serve(device, unit)``: its address on a TCP port that answers from now on."""

    def start(device: Device, unit: int = 1, faults: Sequence[Fault] = (), framing: frames.Framing = frames.TCP) -> str:
        port = wire.tcp("127.0.0.1", 0, [Station("meter", unit, device, faults=faults)], framing=framing)
        wire.start()
        return f"127.0.0.1:{port.port}"

    return start


def sdm630() -> MapDevice:
    return MapDevice(load("eastron_sdm630"), lambda at_s: HOUSE, serial="2107345")


def test_the_json_shape(aigeco: Aigeco, serve: Serve) -> None:
    asked = aigeco("read", "eastron_sdm630", "--tcp", serve(sdm630()), "--unit", 1, "--json")
    assert asked.code == 0, asked.err
    shown = json.loads(asked.out)
    assert list(shown) == ["model", "values", "window_ms", "words"]
    assert shown["model"] == "eastron_sdm630"
    values = {entry["obis"]: entry for entry in shown["values"]}
    assert values["32.7.0"] == {"obis": "32.7.0", "value": "230.5", "unit": "V", "flags": []}
    assert values["1.8.0"]["value"] == "9123510"
    assert values["16.7.0"]["value"] == "-1250"
    assert isinstance(shown["window_ms"], int)


def test_the_words_are_those_the_values_came_from(aigeco: Aigeco, serve: Serve) -> None:
    shown = json.loads(aigeco("read", "eastron_sdm630", "--tcp", serve(sdm630()), "--json").out)
    assert all(list(each) == ["function", "address", "words"] for each in shown["words"])
    blocks = [Block(each["function"], each["address"], bytes.fromhex(each["words"])) for each in shown["words"]]
    again = decode(load("eastron_sdm630"), blocks)
    expected = [each.value.text() if each.value else None for each in again]
    assert expected == [entry["value"] for entry in shown["values"]]
    assert any(expected)


def test_the_technician_s_table(aigeco: Aigeco, serve: Serve) -> None:
    address = serve(sdm630())
    shown = aigeco("read", "eastron_sdm630", "--tcp", address, "--unit", 1)
    assert shown.code == 0, shown.err
    model, place, columns, *rows, last = shown.out.splitlines()
    assert model == "Eastron SDM630 (Modbus V1/V2)"
    assert place == f"unit 1 on {address}, serial number 2107345"
    assert columns.split()[:4] == ["quantity", "value", "unit", "obis"]
    energy = next(row for row in rows if row.startswith("active energy import "))
    assert re.search(r" 9,123,510 +Wh +1\.8\.0$", energy)
    assert re.fullmatch(r"read in \d+ ms, registers in \d+ requests", last)
    assert max(map(len, [columns, *rows, last])) <= 80


def test_a_device_with_several_points_names_them(aigeco: Aigeco, serve: Serve, tmp_path: Path) -> None:
    """An inverter at night with a grid meter: words as a dump has them, holes as zeros."""
    path = tmp_path / "dump.yaml"
    path.write_text("table: holding\nregisters: {" + ", ".join(f"{at}: 0" for at in range(35000, 36200)) + "}\n")
    address = serve(DumpDevice(dump.load(path).blocks), unit=247)
    shown = aigeco("read", "goodwe_et", "--tcp", address, "--json")
    assert shown.code == 0, shown.err
    values = json.loads(shown.out)["values"]
    assert {entry["point"] for entry in values} == {"pv", "grid"}
    table = aigeco("read", "goodwe_et", "--tcp", address)
    assert table.out.splitlines()[2].split()[0] == "point"


def test_a_device_that_has_no_values_now_has_answered(aigeco: Aigeco, serve: Serve) -> None:
    nan = b"\x7f\xc0\x00\x00" * 200
    address = serve(DumpDevice([Block(4, 0, nan), Block(3, 0xFC00, bytes(4))]))
    asked = aigeco("read", "eastron_sdm630", "--tcp", address, "--json")
    assert asked.code == 0, asked.err
    values = json.loads(asked.out)["values"]
    assert values
    assert all(entry["value"] is None and "not available" in entry["flags"] for entry in values)


def test_the_other_word_order(aigeco: Aigeco, serve: Serve) -> None:
    swapped = [Fault("swapped_words")]
    address = serve(sdm630(), faults=swapped)
    shown = aigeco("read", "eastron_sdm630", "--tcp", address, "--word-order", "little", "--json")
    assert shown.code == 0, shown.err
    values = {entry["obis"]: entry["value"] for entry in json.loads(shown.out)["values"]}
    assert values["32.7.0"] == "230.5"


def test_rtu_frames_over_tcp(aigeco: Aigeco, serve: Serve) -> None:
    address = serve(sdm630(), framing=frames.RTU)
    shown = aigeco("read", "eastron_sdm630", "--tcp", address, "--framing", "rtu", "--json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["values"]


def test_a_serial_line(aigeco: Aigeco, wire: Wire, tmp_path: Path) -> None:
    link = tmp_path / "ttyMETER"
    wire.pty(link, [Station("meter", 3, sdm630())], LineTiming(38400))
    wire.start()
    shown = aigeco("read", "eastron_sdm630", "--serial", link, "--baud", 38400, "--unit", 3, "--json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["values"]


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_silent_meter(aigeco: Aigeco, serve: Serve, as_json: tuple[str, ...]) -> None:
    address = serve(sdm630(), faults=[Fault("silent")])
    asked = aigeco("read", "eastron_sdm630", "--tcp", address, "--unit", 1, *as_json)
    assert asked.code == 4
    words, advice = asked.problem
    assert f"unit 1 on {address}: no answer" in words
    assert any("--unit" in line for line in advice)
    if as_json:
        assert json.loads(asked.out) == {"model": "eastron_sdm630", "error": words, "values": []}
    else:
        assert asked.out == ""


def test_a_silent_serial_line_is_told_of_baud_and_wires(aigeco: Aigeco, wire: Wire, tmp_path: Path) -> None:
    link = tmp_path / "ttyMETER"
    wire.pty(link, [Station("meter", 3, sdm630())], LineTiming(38400))
    wire.start()
    asked = aigeco("read", "eastron_sdm630", "--serial", link, "--baud", 19200, "--unit", 3)
    assert asked.code == 4
    _, advice = asked.problem
    assert any("9600 8N1" in line for line in advice)
    assert any("wiring" in line for line in advice)


def test_a_unit_that_is_not_there(aigeco: Aigeco, serve: Serve) -> None:
    asked = aigeco("read", "eastron_sdm630", "--tcp", serve(sdm630()), "--unit", 9)
    assert asked.code == 4
    assert "unit 9" in asked.problem[0]


def test_what_has_to_be_switched_on_is_said_to_whom_it_does_not_answer(aigeco: Aigeco, serve: Serve) -> None:
    meter_map = load("solaredge_inverter")
    (contact,) = [each.words for each in meter_map.preconditions if each.contact]
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        refused = aigeco("read", "solaredge_inverter", "--tcp", f"127.0.0.1:{bound.getsockname()[1]}")
    address = serve(MapDevice(meter_map, lambda at_s: {}))
    silent = aigeco("read", "solaredge_inverter", "--tcp", address, "--unit", 9)
    answering = aigeco("read", "solaredge_inverter", "--tcp", address, "--unit", 1)
    assert (refused.code, silent.code, answering.code) == (4, 4, 0)
    for asked in (refused, silent):
        assert any(contact in line for line in asked.problem[1])
    assert contact not in answering.out + answering.err


def test_the_name_plate_of_a_sunspec_inverter(aigeco: Aigeco, serve: Serve) -> None:
    def model(number: int, length: int, points: dict[int, int]) -> list[int]:
        return [number, length, *(points.get(offset, 0x8000) for offset in range(2, length + 2))]

    common = model(1, 66, dict.fromkeys(range(2, 68), 0))
    chain = [*common, *model(103, 50, {14: 940, 15: 0}), *model(120, 26, {3: 820, 4: 1}), 0xFFFF, 0]
    words = b"SunS" + b"".join(word.to_bytes(2) for word in chain)
    address = serve(DumpDevice([Block(3, 40000, words)]))
    shown = aigeco("read", "sunspec_generic", "--tcp", address)
    assert shown.out.splitlines()[1].endswith(", rated 8200 W")
    shape = json.loads(aigeco("read", "sunspec_generic", "--tcp", address, "--json").out)
    assert shape["rated_power_w"] == "8200"


def test_nobody_listens(aigeco: Aigeco) -> None:
    with socket.socket() as bound:  # bound, not listening: refused
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        asked = aigeco("read", "eastron_sdm630", "--tcp", f"127.0.0.1:{port}", "--json")
    assert asked.code == 4
    words, advice = asked.problem
    assert f"127.0.0.1:{port}" in words
    assert advice
    assert json.loads(asked.out)["error"] == words


def test_another_model(aigeco: Aigeco, serve: Serve) -> None:
    """A Carlo Gavazzi map knows its devices by a code, and this is none of them."""
    words = bytes(2 * 125)
    address = serve(DumpDevice([Block(function, at, words) for function in (3, 4) for at in range(0, 1000, 125)]))
    asked = aigeco("read", "carlo_gavazzi_em330_em340", "--tcp", address, "--unit", 1)
    assert asked.code == 4
    assert "not as a Carlo Gavazzi" in asked.problem[0]


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_port_that_does_not_exist(aigeco: Aigeco, as_json: tuple[str, ...]) -> None:
    asked = aigeco("read", "eastron_sdm630", "--serial", "/dev/ttyNONE", *as_json)
    assert asked.code == 4
    words, advice = asked.problem
    assert "/dev/ttyNONE" in words
    assert advice


def test_what_is_no_serial_port(aigeco: Aigeco, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked = aigeco("read", "eastron_sdm630", "--serial", tmp_path / "file")
    assert asked.code == 4
    words, advice = asked.problem
    assert "file" in words
    assert advice


def test_an_unknown_model(aigeco: Aigeco) -> None:
    asked = aigeco("read", "eastron_sdm999", "--tcp", "127.0.0.1:502", "--json")
    assert asked.code == 2
    assert "eastron_sdm" in " ".join(asked.problem[1])
    assert asked.out == ""


def test_a_line_is_needed(aigeco: Aigeco) -> None:
    asked = aigeco("read", "eastron_sdm630")
    assert asked.code == 2
    assert "--tcp" in asked.problem[0]
