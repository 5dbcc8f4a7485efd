"""Site files: read whole, wrong ones named whole; running sites; the command."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from drivers.map import load as load_map
from hw_sim.cli.main import cli
from hw_sim.cli.table import table
from hw_sim.faults import KINDS, Fault
from hw_sim.home import Battery, Household
from hw_sim.line import LineTiming
from hw_sim.running import Running
from hw_sim.site import Device, Line
from hw_sim.sitefile import SiteError, load
from hw_sim.sun import Roof
from hw_sim.wire import PortProblem
from tests.hw_sim.lines import PtyLine, TcpLine, opened, read_pdu

TOP = Path(__file__).parent.parent.parent
DUMPS = TOP / "tests" / "data" / "dumps"

SITE = """
seed = 7
[time]
start = 2026-06-21T09:00:00Z
speed = 60

[[home]]
name = "casa1"
pv_kwp = 5.0
pv_rated_kw = 4.6
battery_kwh = 5

[[home]]
name = "piso2"
phases = 1
size = 60

[[line]]
name = "rs485"
pty = "run/rs485"
baud = 115200

[[line.device]]
name = "casa1-grid"
model = "eastron_sdm630"
unit = 1
home = "casa1"

[[line.device]]
name = "casa1-pv"
model = "eastron_sdm120"
unit = 2
home = "casa1"
role = "pv"
latency_ms = 40
serial = "12345678"

[[line]]
name = "net"
tcp = "127.0.0.1:0"

[[line.device]]
name = "piso2-grid"
model = "eastron_sdm120"
home = "piso2"
most_registers = 10

[[line.device]]
name = "sunspec"
model = "fronius_sunspec"
unit = 3
home = "casa1"
role = "pv"
models = [113, 160]

[[line.device]]
name = "captured"
model = "eastron_sdm630"
unit = 4
dump = "frame.yaml"

[[line]]
name = "gateway"
tcp = "127.0.0.1:0"
framing = "rtu"
baud = 19200
parity = "E"

[[line.device]]
name = "casa1-again"
model = "carlo_gavazzi_em330_em340"
home = "casa1"

[[fault]]
meter = "casa1-grid"
kind = "late"
seconds = 0.5
from = 3600
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "frame.yaml").write_text((DUMPS / "eastron_sdm_family_frame.yaml").read_text())
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def test_a_file_is_read_as_it_is_written(file: Path) -> None:
    site = load(file)
    assert (site.seed, site.start_ms, site.speed) == (7, 1_782_032_400_000, 60.0)
    casa = Household("casa1", 7, roof=Roof(5_000, 4_600), battery=Battery(5_000, 2_500))
    assert site.homes == (casa, Household("piso2", 7, phases=1, size=60))
    sdm630, sdm120 = load_map("eastron_sdm630"), load_map("eastron_sdm120")
    fronius, em340 = load_map("fronius_sunspec"), load_map("carlo_gavazzi_em330_em340")
    assert site.lines == (
        Line(
            "rs485", None, "rtu", file.parent / "run/rs485", LineTiming(115_200),
            (
                Device("casa1-grid", sdm630, 1, "casa1", "grid", latency_ms=25),
                Device("casa1-pv", sdm120, 2, "casa1", "pv", latency_ms=40, serial="12345678"),
            ),
        ),
        Line(
            "net", ("127.0.0.1", 0), "tcp", None, None,
            (
                Device("piso2-grid", sdm120, 1, "piso2", "grid", most_registers=10),
                Device("sunspec", fronius, 3, "casa1", "pv", models=(113, 160)),
                Device("captured", sdm630, 4, "", "grid", dump=file.parent / "frame.yaml"),
            ),
        ),
        Line(
            "gateway", ("127.0.0.1", 0), "rtu", None, LineTiming(19_200, "E"),
            (Device("casa1-again", em340, 1, "casa1", "grid", latency_ms=25),),
        ),
    )  # fmt: skip
    assert site.faults == (Fault("late", "casa1-grid", from_s=3600, seconds=0.5),)


def test_a_site_runs_all_its_lines(file: Path) -> None:
    with Running(load(file)) as running:
        with opened(PtyLine(running.address("rs485"), 115200)) as line:
            for unit in (1, 2):
                assert line.ask(unit, read_pdu(0, 2))[:2] == b"\x04\x04"
            assert line.ask(2, read_pdu(0xFC00, 2, 3)) == b"\x03\x04" + (12_345_678).to_bytes(4, "big")
        with opened(TcpLine(int(running.address("net").rpartition(":")[2]))) as net:
            assert net.ask(1, read_pdu(0, 12)) == b"\x84\x02"  # more than this unit allows
            assert net.ask(3, read_pdu(40000, 2, 3)) == b"\x03\x04SunS"
            assert net.ask(4, read_pdu(0, 2)) == bytes.fromhex("04 04 43 66 33 34")
            assert net.ask(4, read_pdu(2, 2)) == b"\x84\x02"
        assert (file.parent / "run/rs485").is_symlink()
        assert running.devices[0].value("active_energy_import")
    assert not (file.parent / "run/rs485").is_symlink()


def test_time_runs_at_the_speed_of_the_site(file: Path) -> None:
    with Running(load(file)) as running:
        now_s = time.monotonic()
        assert running.clock.at(now_s + 10) - running.clock.at(now_s) == pytest.approx(600_000, abs=2)
        assert running.clock.at(0) == 1_782_032_400_000


def test_sites_that_count_since_one_day_go_on_from_each_other(file: Path) -> None:
    file.write_text(SITE.replace("speed = 60", "speed = 60\nsince = 2026-06-15T00:00:00Z", 1))
    first = load(file)
    later = replace(first, start_ms=first.start_ms + 2 * 86_400_000)
    at_ms = later.start_ms + 60_000
    shown = []
    for site in (first, later):
        running = Running(site)
        shown.append(running.homes["casa1"].quantities("grid", at_ms))
        running.close()
    assert shown[0] == shown[1]


def test_the_community_that_is_shipped_runs(tmp_path: Path) -> None:
    path = tmp_path / "community.toml"
    path.write_text((TOP / "examples" / "community.toml").read_text())
    site = load(path)
    assert len(site.homes) == 12
    kinds = {(line.framing, line.tcp is None, line.timing is None) for line in site.lines}
    assert kinds == {("rtu", True, False), ("tcp", False, True), ("rtu", False, False)}
    with Running(site) as running:
        for shown in running.devices:
            assert shown.meter is not None
            request = shown.meter.map.registers[0]
            shown.meter.read(request.function, request.address, request.count, time.monotonic())
            assert shown.meter.shown is not None


def test_two_runs_show_the_same(file: Path) -> None:
    def shown() -> dict[int, int]:
        running = Running(load(file))
        found = running.homes["casa1"].quantities("grid", 1_782_036_000_000)
        running.close()
        return found

    assert shown() == shown()


def test_a_day_is_the_same_in_another_process(file: Path) -> None:
    """Nothing of it hangs on the order of a set, a hash or what was asked before."""
    code = (
        "import sys; from pathlib import Path; from hw_sim.running import Running; from hw_sim.sitefile import load\n"
        "running = Running(load(Path(sys.argv[1])))\n"
        "for name, home in running.homes.items():\n"
        "    for point in ('grid', 'load', 'pv', 'battery'):\n"
        "        for hour in (0, 6, 12, 18):\n"
        "            now_ms = 1_782_000_000_000 + hour * 3_600_000\n"
        "            print(name, point, hour, sorted(home.quantities(point, now_ms).items()))\n"
        "running.close()"
    )

    def day(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(TOP), "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    first = day("1")
    assert len(first.splitlines()) == 2 * 4 * 4
    assert first == day("2")
    file.write_text(SITE.replace("seed = 7", "seed = 8"))
    assert first != day("1")


@pytest.mark.parametrize(
    ("old", "new", "place", "advice"),
    [
        ("seed = 7", "seed = -7", "seed", "seed = 0"),
        ("2026-06-21T09:00:00Z", "2026-06-21T09:00:00", "time: start", "start = 2026"),
        ("speed = 60", "speed = 0", "time: speed", "speed = 1"),
        ('name = "piso2"', 'name = "casa1"', "home", "another name"),
        ("phases = 1", "phases = 2", "home 2: phases", "phases = 3"),
        ("size = 60", "sise = 60", "home 2: sise", "one of size"),
        ("pv_kwp = 5.0", 'pv_kwp = "5"', "home 1: pv_kwp", "pv_kwp = 0"),
        ('pty = "run/rs485"', 'pty = "x"\ntcp = "127.0.0.1:0"', "line 1: pty", "pty ="),
        ('tcp = "127.0.0.1:0"\n\n', 'tcp = "127.0.0.1"\n\n', "line 2: tcp", "tcp ="),
        ('name = "gateway"', 'name = "net"', "line", "another name"),
        ("baud = 115200", 'baud = "fast"', "line 1: baud", "baud = 9600"),
        ('parity = "E"', 'parity = "X"', "line 3: parity", "one of"),
        ('framing = "rtu"\n', "", "line 3: baud", "one of"),
        ('"carlo_gavazzi_em330_em340"', '"carlo_gavazzi_em340"', "line 3: device 1: model", "one of"),
        ("unit = 2", "unit = 1", "line 1: device 2: unit", "another unit id"),
        ("unit = 1", "unit = 0", "line 1: device 1: unit", "unit = 1"),
        ('home = "piso2"', 'home = "casa3"', "line 2: device 1: home", "one of casa1"),
        ('home = "piso2"\n', "", "line 2: device 1: home", "home ="),
        ('role = "pv"\nlatency', 'role = "sun"\nlatency', "line 1: device 2: role", "one of"),
        ("models = [113, 160]", "models = [113, 999]", "line 2: device 2: models", "one of"),
        ('dump = "frame.yaml"', 'dump = "frames.yaml"', "line 2: device 3: dump", "a path"),
        ('meter = "casa1-grid"', 'meter = "casa1"', "fault 1: meter", "one of casa1-"),
        ('kind = "late"', 'kind = "later"', "fault 1: kind", "one of late"),
        ("[time]", "[times]", "times", "one of time"),
        ("speed = 60", "since = 2027-01-01T00:00:00Z", "time: since", "an earlier time"),
        ("speed = 60", "since = 2020", "time: since", "since = 2026"),
        ("size = 60", "ev_kw = 0.2", "home 2: ev_kw", "ev_kw = 7.4"),
        ("size = 60", "ev_kw = 11\nev_phases = 3", "home 2: ev_phases", "ev_phases = 1"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_advice(file: Path, old: str, new: str, place: str, advice: str) -> None:
    assert old in SITE
    file.write_text(SITE.replace(old, new, 1))
    with pytest.raises(SiteError) as caught:
        load(file)
    found = {problem.place: problem for problem in caught.value.problems}
    assert place in found, str(caught.value)
    assert found[place].advice.startswith(advice)
    assert str(caught.value).startswith(f"{file}: ")


def test_all_mistakes_are_reported_at_once(file: Path) -> None:
    text = SITE.replace("seed = 7", "sead = 7").replace("unit = 2", "unit = 1").replace('"late"', '"soon"')
    file.write_text(text)
    with pytest.raises(SiteError) as caught:
        load(file)
    assert [problem.place for problem in caught.value.problems] == [
        "line 1: device 2: unit",
        "fault 1: kind",
        "fault 1: seconds",
        "sead",
    ]


@pytest.mark.parametrize("text", ["", "seed = [", "\x00", "home = 3", "[[line]]\nname = 'x'\npty = 'y'"])
def test_what_is_no_site_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)
    with pytest.raises(SiteError):
        load(path)


def test_a_port_that_cannot_be_opened_gives_back_the_others(file: Path) -> None:
    with Running(load(file)) as running:
        taken = running.address("net")
        other = file.parent / "other.toml"
        other.write_text(SITE.replace("run/rs485", "run/other").replace('tcp = "127.0.0.1:0"', f'tcp = "{taken}"', 1))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(PortProblem, match="Address already in use"):
            Running(load(other))
        assert len(os.listdir("/proc/self/fd")) == before
        assert not (file.parent / "run/other").is_symlink()


# ---- the command


@contextmanager
def command(*arguments: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A running ``aigeco-sim`` and the lines it printed until it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hw_sim.cli.main", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith(("ready", '{"event": "ready"')):
                break
        yield process, lines
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_site_runs_in_the_foreground_until_it_is_told_to_end(file: Path, number: signal.Signals) -> None:
    with command("site", "site.toml", cwd=file.parent) as (process, lines):
        assert lines[0].startswith("rs485: serial run/rs485 115200 baud 8N1: unit 1 casa1-grid (eastron_sdm630), ")
        assert re.match(r"net: TCP 127\.0\.0\.1:\d+: unit 1 piso2-grid", lines[1])
        assert re.match(r"gateway: RTU over TCP 127\.0\.0\.1:\d+ 19200 baud 8E1: unit 1 casa1-again", lines[2])
        assert lines[3] == "ready: 6 devices; Ctrl-C ends"
        with opened(PtyLine(str(file.parent / "run/rs485"), 115200)) as line:
            assert line.ask(1, read_pdu(0, 2))[:2] == b"\x04\x04"
        process.send_signal(number)
        assert process.wait(5) == 0
        assert not (file.parent / "run/rs485").is_symlink()
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


def test_one_meter_over_tcp(tmp_path: Path) -> None:
    with command("meter", "eastron_sdm630", "--tcp", "127.0.0.1:0", "--unit", "5", cwd=tmp_path) as (_, lines):
        port = int(re.findall(r":(\d+): unit 5", lines[0])[0])
        with opened(TcpLine(port)) as client:
            assert client.ask(5, read_pdu(0, 80))[:2] == b"\x04\xa0"


def test_one_meter_on_a_serial_line_with_a_dump(tmp_path: Path) -> None:
    dump = DUMPS / "eastron_sdm_family_frame.yaml"
    arguments = ("meter", "eastron_sdm630", "--pty", "tty", "--baud", "9600", "--dump", str(dump))
    with command(*arguments, cwd=tmp_path) as (_, lines):
        assert lines[0].startswith("line: serial tty 9600 baud 8N1: unit 1 meter (eastron_sdm630)")
        with opened(PtyLine(str(tmp_path / "tty"))) as client:
            assert client.ask(1, read_pdu(0, 2)) == bytes.fromhex("04 04 43 66 33 34")


def test_a_seed_makes_another_meter(tmp_path: Path) -> None:
    def words(seed: str) -> bytes:
        fixed = ("--start", "2026-06-21T10:00:00Z", "--speed", "0.001")
        arguments = ("meter", "eastron_sdm630", "--tcp", "127.0.0.1:0", "--unit", "1", "--seed", seed, *fixed)
        with command(*arguments, cwd=tmp_path) as (_, lines):
            port = int(re.findall(r":(\d+): unit 1", lines[0])[0])
            with opened(TcpLine(port)) as client:
                return client.ask(1, read_pdu(72, 4))

    assert words("1") == words("1")
    assert words("1") != words("2")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["meter", "eastron_sdm63", "--tcp", "127.0.0.1:0"], 2, "try: one of eastron_sdm630"),
        (["meter", "eastron_sdm630"], 2, "either --tcp HOST:PORT or --pty PATH"),
        (["meter", "eastron_sdm630", "--tcp", "5020"], 2, "is no address such as 127.0.0.1:5020"),
        (["meter", "eastron_sdm630", "--tcp", "127.0.0.1:0", "--baud", "9600"], 2, "--baud, --parity and --stopbits"),
        (["meter", "eastron_sdm630", "--pty", "x", "--unit", "0"], 2, "units 1 to 247"),
        (["meter", "eastron_sdm630", "--pty", "/nowhere/x"], 4, "try: a folder that exists"),
        (["meter", "eastron_sdm630", "--tcp", "127.0.0.1:0", "--serial-number", "x"], 2, "digits only"),
        (["site", "missing.toml"], 2, "missing.toml: No such file"),
        (["site", "wrong.toml"], 2, "try: line: [[line]]"),
        ([], 2, "Usage: aigeco-sim"),
        (["metre"], 2, "No such command"),
    ],
)
def test_a_mistake_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text("seed = 1")
    result = CliRunner().invoke(cli, arguments, prog_name="aigeco-sim")
    assert result.exit_code == code
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_site_file_can_be_checked_alone(file: Path) -> None:
    result = CliRunner().invoke(cli, ["site", str(file), "--check"])
    assert result.exit_code == 0
    assert result.output == f"{file}: 2 homes, 3 lines, 6 devices, 1 faults\n"


def test_a_check_can_be_read_by_a_program(file: Path) -> None:
    result = CliRunner().invoke(cli, ["site", str(file), "--check", "--json"])
    assert json.loads(result.output) == {
        "event": "checked", "file": str(file), "homes": 2, "lines": 3, "devices": 6, "faults": 1
    }  # fmt: skip


def test_what_a_site_does_can_be_read_by_a_program(file: Path) -> None:
    file.write_text(SITE.replace("from = 3600", "every = 2"))
    with command("site", "site.toml", "--json", cwd=file.parent) as (process, lines):
        ports = [json.loads(line) for line in lines]
        assert ports.pop() == {"event": "ready", "devices": 6}
        assert [port["line"] for port in ports] == ["rs485", "net", "gateway"]
        assert ports[0]["address"] == "run/rs485"
        assert (ports[2]["framing"], ports[2]["baud"], ports[2]["parity"]) == ("rtu", 19200, "E")
        assert ports[0]["devices"][1] == {"name": "casa1-pv", "unit": 2, "model": "eastron_sdm120"}
        assert process.stdout is not None
        found = {event["event"]: event for event in (json.loads(process.stdout.readline()) for _ in range(2))}
        assert found["fault"] == {"event": "fault", "kind": "late", "meter": "casa1-grid", "begins": True}
        assert found["status"]["devices"][0] == {
            "name": "casa1-grid", "requests": 0, "answers": 0, "exceptions": 0, "unanswered": 0, "faults": {},
            "power_w": None, "import_wh": None, "export_wh": None,
        }  # fmt: skip


@pytest.mark.parametrize("devices", [1, 17, 60])
def test_the_table_fits_a_terminal_of_80_columns_and_24_lines(file: Path, devices: int) -> None:
    """However many devices, however long their names, whatever their figures: no line is too long, none is missing."""
    from rich.console import Console

    running = Running(load(file))
    try:
        one = running.devices[0]
        assert one.meter is not None
        one.meter.read(4, 0, 2, 0.0)
        one.station.counters.update({"requests": 123_456, "answers": 123_456, "fault noise_before": 12_345})
        one.station.counters.update({f"fault {kind}": 1 for kind in KINDS})
        long = [
            replace(one, device=replace(one.device, name=f"{number:03} of a long name")) for number in range(devices)
        ]
        seen = set()
        for turn in range(60):
            console = Console(width=80, height=24)
            with console.capture() as capture:
                console.print(table("2026-06-21 09:00:00 UTC", long, 80, 24, 5.0 * turn))
            lines = capture.get().splitlines()
            assert len(lines) < 24
            assert max(map(len, lines)) <= 80
            rows = [line for line in lines if " of a long n" in line]
            assert all(row.split()[-3:] == ["123456", "123456", str(12_345 + len(KINDS))] for row in rows), rows
            seen |= {row[:3] for row in rows}
        assert len(seen) == devices
    finally:
        running.close()


def test_the_command_starts_without_what_it_does_not_need() -> None:
    code = "import sys, json, hw_sim.cli.main, hw_sim.cli.serve; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True)
    assert not {"rich", "yaml", "pymodbus", "cryptography", "hypothesis"} & set(json.loads(done.stdout))
