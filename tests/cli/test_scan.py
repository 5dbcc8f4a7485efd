"""``aigeco scan`` against simulated lines: what it prints, what can be pasted, how it ends and goes on."""

import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers.map import load
from drivers.modbus import SerialEndpoint
from drivers.modbus import Wire as Client
from edge import config
from hw_sim.line import LineTiming
from hw_sim.readback import specimens
from hw_sim.station import Station
from hw_sim.wire import Wire
from tests.cli.conftest import TOP

Aigeco = Callable[..., Any]
METER, OTHER = "carlo_gavazzi_em330_em340", "kostal_plenticore"


def station(unit: int, name: str) -> Station:
    return Station(f"{unit}", unit, next(specimens(load(name), "20735")).device)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Not started yet: ports are added first."""
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def host(wire: Wire) -> Callable[..., str]:
    """``host(stations)``: the address of a host that answers from now on."""

    def start(*stations: Station) -> str:
        port = wire.tcp("127.0.0.1", 0, stations)
        wire.start()
        return f"127.0.0.1:{port.port}"

    return start


@pytest.fixture
def line(wire: Wire, tmp_path: Path) -> Callable[..., Path]:
    """``line(stations)``: the path of a serial port that answers from now on, at 38400 baud."""

    def start(*stations: Station) -> Path:
        link = tmp_path / "ttyMETER"
        wire.pty(link, stations, LineTiming(38400))
        wire.start()
        return link

    return start


def test_the_json_shape(aigeco: Aigeco, host: Callable[..., str]) -> None:
    address = host(station(1, OTHER), station(3, "chint_dtsu666"))
    done = aigeco("scan", "--tcp", address, "--units", "1-4", "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    shown = json.loads(done.out)
    assert list(shown) == ["devices", "notes", "asked", "took_s", "complete", "left_s"]
    assert shown["complete"] is True
    assert shown["notes"] == []
    first, second = shown["devices"]
    assert list(first) == [
        *("line", "unit", "also_units", "answer", "thought_ms", "models", "to_tell"),
        *("serial_number", "voltage", "power", "read", "toml"),
    ]
    assert first["line"] == {"tcp": address, "framing": "tcp"}
    assert first["models"][0]["model"] == OTHER
    assert first["models"][0]["certainty"] == "sure"
    assert list(first["models"][0]) == ["model", "certainty", "reasons", "word_order"]
    assert first["serial_number"] == "20735"
    assert second["unit"] == 3
    assert second["models"][0] | {"reasons": []} == {
        "model": "chint_dtsu666",
        "certainty": "likely",
        "reasons": [],
        "word_order": None,
    }
    assert 200 < float(second["voltage"]) < 260


def test_the_lines_to_paste_work(aigeco: Aigeco, line: Callable[..., Path], tmp_path: Path) -> None:
    path = line(station(1, METER), station(9, OTHER))
    done = aigeco("scan", "--serial", path, "--baud", 38400, "--parity", "N", "--units", "1,9")
    assert done.code == 0, done.err
    table, *_ = done.out.split("\n\n")
    heading, first, second = table.splitlines()
    assert heading.split() == ["line", "unit", "model", "serial", "number", "V", "W"]
    assert re.match(rf"{path} 38400 8N1 +1  {METER} +sure ", first)
    assert re.search(rf" 9  {OTHER} +sure  20735 +\d+\.\d +-?[\d,.]+$", second)
    assert f"unit 1 on {path} 38400 8N1: {METER} (sure)" in done.err.splitlines()

    commands = [row.strip() for row in done.out.splitlines() if row.startswith("  aigeco read ")]
    assert len(commands) == 2
    read = aigeco(*shlex.split(commands[1])[1:], "--json")
    assert read.code == 0, read.err
    assert json.loads(read.out)["values"]

    lines = done.out.partition("for aigeco.toml:\n")[2].splitlines()
    text = "\n".join(row for row in lines if not re.match(r"\d+ devices", row))
    bus = tomllib.loads(text)["bus"][0]
    assert (bus["serial"], bus["baud"]) == (str(path), 38400)
    assert [(each["model"], each["unit"]) for each in bus["meter"]] == [(METER, 1), (OTHER, 9)]
    whole = tmp_path / "aigeco.toml"
    begin, _, rest = (TOP / "docs" / "example.toml").read_text().partition("[[bus]]")
    whole.write_text(begin + text + "\n[mqtt]" + rest.partition("\n[mqtt]")[2])
    loaded = config.load(whole)
    assert [meter.unit for bus in loaded.buses for meter in bus.meters] == [1, 9]


def test_several_models_are_listed_with_how_to_tell(aigeco: Aigeco, host: Callable[..., str]) -> None:
    done = aigeco("scan", "--tcp", host(station(1, "finder_7m24")), "--units", 1)
    assert "  possible: finder_7m24 (" in done.out
    assert "  possible: finder_7m38 (" in done.out
    assert "  to tell: " in done.out


def test_nobody_answers(aigeco: Aigeco, host: Callable[..., str], tmp_path: Path) -> None:
    done = aigeco("scan", "--tcp", host(), "--units", "1-3", "--json")
    assert done.code == 4
    words, advice = done.problem
    assert words.endswith("nobody answers")
    assert any("--framing rtu" in each for each in advice)
    assert json.loads(done.out)["devices"] == []


def test_a_host_that_refuses(aigeco: Aigeco) -> None:
    with socket.socket() as bound:  # bound, not listening: refused
        bound.bind(("127.0.0.1", 0))
        done = aigeco("scan", "--tcp", f"127.0.0.1:{bound.getsockname()[1]}", "--json")
    assert done.code == 4
    assert "refused" in done.problem[0]
    assert "refused" in json.loads(done.out)["notes"][0]


def test_a_port_that_does_not_exist(aigeco: Aigeco) -> None:
    done = aigeco("scan", "--serial", "/dev/ttyNONE")
    assert done.code == 4
    words, advice = done.problem
    assert "/dev/ttyNONE: does not exist" in words
    assert advice


def test_a_port_that_the_gateway_has(aigeco: Aigeco, line: Callable[..., Path]) -> None:
    path = line()
    gateway = Client(SerialEndpoint(str(path)))
    gateway.open()
    done = aigeco("scan", "--serial", path, "--json")
    gateway.close()
    assert done.code == 4
    _, advice = done.problem
    assert any("systemctl stop aigeco" in each for each in advice)
    assert json.loads(done.out)["complete"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--serial", "/dev/null", "--tcp", "a"],
        ["--tcp", "a", "--baud", "9600"],
        ["--tcp", "a", "--parity", "N"],
        ["--serial", "/dev/null", "--framing", "rtu"],
        ["--tcp", "a", "--quick", "--full"],
        ["--serial", "/dev/null", "--units", "0-5"],
        ["--serial", "/dev/null", "--units", "248"],
        ["--tcp", "a", "--units", "5-1"],
        ["--tcp", "a", "--units", "1-"],
        ["--tcp", "a", "--units", "one"],
        ["--tcp", "a", "--units", "256"],
        ["--tcp", "a:b"],
    ],
)
def test_options_that_make_no_sense(aigeco: Aigeco, arguments: Sequence[str]) -> None:
    done = aigeco("scan", *arguments)
    assert done.code == 2
    assert done.out == ""


def begin(arguments: Sequence[object], stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "edge.cli.main", "scan", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    return subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)


def test_ctrl_c_shows_what_was_found_and_the_next_scan_goes_on(
    aigeco: Aigeco, host: Callable[..., str], tmp_path: Path
) -> None:
    meters = station(1, METER), station(50, OTHER)
    silent = station(2, OTHER)  # long enough for a signal to come before unit 50 is found
    silent.answer = lambda request, now_s: None  # type: ignore[method-assign]
    address, state = host(*meters, silent), tmp_path / "scan.json"
    arguments = ("--tcp", address, "--units", "1-2,50", "--resume", state)
    process = begin(arguments)
    assert process.stderr is not None
    while f"unit 1 on {address}" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert re.match(r"line +unit +model", out)
    assert METER in out
    assert re.search(rf"interrupted: 1 device, .*--resume {state} goes on\n$", out)

    asked = meters[0].counters["requests"]
    again = aigeco("scan", *arguments, "--json")
    assert again.code == 0, again.err
    shown = json.loads(again.out)
    assert [(each["unit"], each["models"][0]["model"]) for each in shown["devices"]] == [(1, METER), (50, OTHER)]
    assert meters[0].counters["requests"] == asked, "unit 1 was asked again"
    assert list(tmp_path.glob("scan.json*")) == [state]

    third = aigeco("scan", *arguments, "--json")
    assert json.loads(third.out)["devices"] == shown["devices"]
    assert json.loads(third.out)["asked"] == shown["asked"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "aigeco scan 1"}', "\x00"])
def test_a_file_that_is_no_state_is_left_alone(aigeco: Aigeco, tmp_path: Path, text: str) -> None:
    state = tmp_path / "scan.json"
    state.write_text(text)
    done = aigeco("scan", "--tcp", "127.0.0.1:1", "--resume", state)
    assert done.code == 2
    assert "is no state of a scan" in done.problem[0]
    assert state.read_text() == text


def test_the_state_of_another_line_is_refused(aigeco: Aigeco, host: Callable[..., str], tmp_path: Path) -> None:
    state = tmp_path / "scan.json"
    address = host(station(1, METER))
    assert aigeco("scan", "--tcp", address, "--units", 1, "--resume", state).code == 0
    done = aigeco("scan", "--tcp", "127.0.0.1:1", "--units", 1, "--resume", state)
    assert done.code == 2
    assert address in done.problem[0]


def test_without_resume_nothing_is_written(
    aigeco: Aigeco, host: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert aigeco("scan", "--tcp", host(station(1, METER)), "--units", 1).code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_gets_a_bar_with_the_time_left(host: Callable[..., str]) -> None:
    address = host(station(1, METER))
    ours, theirs = pty.openpty()
    process = begin(["--tcp", address, "--units", "1-3", "--json"], stderr=theirs)
    out, _ = process.communicate(timeout=30)
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 4096):
            said += data
    except OSError:
        pass
    os.close(ours)
    text = said.decode()
    assert process.returncode == 0, text
    assert json.loads(out)["devices"]
    assert re.search(r"\d+ s left", text)
    assert f"unit 1 on {address}: {METER} (sure)" in re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r?\n", "", text)


def test_nothing_that_only_people_need_is_imported_for_a_plain_scan(python: Aigeco) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from edge.cli.main import cli;"
        "CliRunner().invoke(cli, ['scan', '--tcp', '127.0.0.1:1', '--units', '1']);"
        "print([name for name in ('rich', 'yaml', 'hw_sim') if name in sys.modules])"
    )
    assert python(code).out.strip() == "[]"
