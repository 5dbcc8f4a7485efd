"""The gateway's bus reads the simulator: who a meter is, what it says, and no value when something is wrong."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.bus import Bus, MeterConfig
from drivers.map import load
from drivers.modbus import Endpoint, SerialEndpoint, TcpEndpoint
from drivers.reading import Reading, Status, Value
from hw_sim.encode import MILLION
from hw_sim.faults import Fault
from hw_sim.home import Household
from hw_sim.line import LineTiming
from hw_sim.running import Running
from hw_sim.site import Device, Line, Site
from hw_sim.sun import Roof
from hw_sim.words import is_counter
from tests.hw_sim.lines import TcpLine, opened, read_pdu

START_MS = 1_782_036_000_000
HOME = Household("home", 1, 3, 100, Roof(5_000, 4_600))
BAUD = 115_200


@contextmanager
def bus(line: Line, faults: Sequence[Fault] = (), speed: float = 0.001) -> Iterator[tuple[Running, Bus]]:
    with Running(Site(1, START_MS, speed, (HOME,), (line,), tuple(faults))) as running:
        meters = [MeterConfig(device.name, device.map, device.unit) for device in line.devices]
        one = Bus(endpoint(running, line), meters)
        try:
            yield running, one
        finally:
            one.close()


def endpoint(running: Running, line: Line) -> Endpoint:
    where = running.address(line.name)
    if line.pty is not None:
        return SerialEndpoint(where, BAUD)
    host, _, port = where.rpartition(":")
    return TcpEndpoint(host, int(port), line.framing)


def on_tcp(*devices: Device, framing: str = "tcp") -> Line:
    return Line("line", ("127.0.0.1", 0), framing, None, None, devices)


def millionths(value: Value) -> int:
    return int(value.mantissa * 10 ** (value.exponent + 6)) if value.exponent >= -6 else 0


def assert_good(readings: Sequence[Reading], running: Running, name: str) -> None:
    shown = next(one for one in running.devices if one.device.name == name)
    assert shown.meter is not None
    assert shown.meter.shown is not None
    assert [reading.sub for reading in readings] == [
        f"{name}-{point}" if point else name for point in shown.meter.map.points
    ]
    for reading, point in zip(readings, shown.meter.map.points, strict=True):
        assert reading.status is None
        registers = [register for register in shown.meter.map.registers if register.point == point]
        assert [key for key, _ in reading.values] == sorted(register.key for register in registers)
        for key, value in reading.values:
            wanted = shown.meter.shown[point][key]
            coarsest = 100 * MILLION if is_counter(key) else MILLION // 5
            assert abs(millionths(value) - wanted) <= coarsest + abs(wanted) // 100, key


MODELS = {
    "eastron_sdm630": ("grid", ()),
    "carlo_gavazzi_em24_rs485": ("grid", ()),
    "carlo_gavazzi_em330_em340": ("grid", ()),
    "goodwe_et": ("grid", ()),
    "kostal_ksem": ("grid", ()),
    "fronius_sunspec": ("pv", (103, 160)),
    "sunspec_generic": ("grid", (103, 203)),
}


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
@pytest.mark.parametrize("model", MODELS)
def test_the_bus_knows_and_reads_a_meter(model: str, framing: str) -> None:
    role, models = MODELS[model]
    device = Device("meter", load(model), 3, "home", role, serial="24000123", models=models)
    with bus(on_tcp(device, framing=framing)) as (running, one):
        identity = one.identify("meter")
        assert identity is not None
        assert identity.agrees
        identify = identity.map.identify
        if identify is not None and identify.serial is not None:
            assert identity.serial == "24000123"
        assert [number for number, _ in identity.models if number != 65535][1:] == list(models)
        assert_good(one.read("meter", 0), running, "meter")
        counters = one.counters["meter"]
        assert (counters.exceptions, counters.timeouts, counters.wrong_answers) == (0, 0, 0)


def test_two_meters_on_a_serial_line(tmp_path: Path) -> None:
    devices = (
        Device("meter", load("eastron_sdm630"), 1, "home", "grid", latency_ms=5),
        Device("other", load("abb_b23_b24"), 2, "home", "pv", latency_ms=5),
    )
    with bus(Line("line", None, "rtu", tmp_path / "tty", LineTiming(BAUD), devices)) as (running, one):
        for slot in range(2):
            for name in ("meter", "other"):
                assert_good(one.read(name, slot * 1000), running, name)


def test_a_unit_that_allows_less_than_its_model_is_read_in_smaller_pieces() -> None:
    device = Device("meter", load("eastron_sdm72d-m-v2"), 1, "home", "grid", most_registers=20)
    with bus(on_tcp(device)) as (running, one):
        for slot in range(12):
            readings = one.read("meter", slot * 1000)
            if readings[0].status is None:
                break
        assert_good(readings, running, "meter")
        assert one.counters["meter"].splits > 0


RTU = (
    *("silent", "wrong_unit", "wrong_function", "wrong_length", "bad_crc"),
    *("exception", "truncated", "garbage", "dead", "noise_inside", "twin", "second_master"),
)
TCP = ("wrong_unit", "wrong_length", "wrong_transaction", "bad_crc", "exception", "dead", "noise_inside", "twin")
WRONG = [("rtu", kind) for kind in RTU] + [("tcp", kind) for kind in TCP]


@pytest.mark.parametrize(("framing", "kind"), WRONG)
def test_a_wrong_answer_never_becomes_a_value(framing: str, kind: str) -> None:
    device = Device("meter", load("schneider_iem3155_iem3255"), 1, "home", "grid")
    with bus(on_tcp(device, framing=framing), [Fault(kind, code=4)]) as (_, one):
        (reading,) = one.read("meter", 0)
    assert reading.status is not None
    assert reading.values == ()


ON_A_LINE = ("echo", "noise_before", "noise_inside", "noise_after", "twin", "second_master", "bad_crc", "truncated")


@pytest.mark.parametrize("kind", ON_A_LINE)
def test_what_is_read_on_a_bad_line_is_right_or_nothing(kind: str, tmp_path: Path) -> None:
    """Every second request is struck: what the bus takes is what the meter showed, and never anything else."""
    device = Device("meter", load("schneider_iem3155_iem3255"), 1, "home", "grid", latency_ms=1)
    line = Line("line", None, "rtu", tmp_path / "tty", LineTiming(BAUD), (device,))
    fault = Fault(kind, every=2, size=5)
    good = 0
    with bus(line, [fault]) as (running, one):
        for slot in range(6):
            (reading,) = one.read("meter", slot * 1000)
            if reading.status is None:
                assert_good((reading,), running, "meter")
                good += 1
    assert running.devices[0].station.counters[f"fault {kind}"] > 0
    if kind in ("echo", "noise_before", "noise_after"):  # a sound answer is in there
        assert good == 6


def test_a_hasty_meter_is_never_asked_too_soon() -> None:
    """The map's pause is kept between the requests of one set and between sets: the meter never starts anew."""
    model = load("eastron_sdm72d-m-v2")
    device = Device("meter", model, 1, "home", "grid", latency_ms=1)
    # A little less than the map's pause: the line is not slower than that, so each request would count as too soon.
    fault = Fault("hasty", seconds=0.8 * model.min_delay_ms / 1000)
    with bus(on_tcp(device, framing="rtu"), [fault]) as (running, one):
        for slot in range(3):
            assert_good(one.read("meter", slot * 1000), running, "meter")
    counters = running.devices[0].station.counters
    assert counters["requests"] > 3
    assert counters["unanswered"] == 0


def test_a_meter_that_starts_anew_has_no_value_until_it_is_back() -> None:
    """Hastier than its map says: the set ends at once, nothing is pieced together, and it is read again when back."""
    device = Device("meter", load("schneider_iem3155_iem3255"), 1, "home", "grid")
    faults = [Fault("hasty", seconds=0.05, until_s=0.5)]
    with bus(on_tcp(device, framing="rtu"), faults) as (running, one):
        (reading,) = one.read("meter", 0)
        assert (reading.status, reading.values) == (Status.TIMEOUT, ())
        began = time.monotonic()
        while reading.status is not None and time.monotonic() < began + 30:
            time.sleep(0.06)
            (reading,) = one.read("meter", 1000)
        assert_good((reading,), running, "meter")


def test_a_device_with_one_client_is_kept_by_one_connection() -> None:
    device = Device("meter", load("eastron_sdm630"), 1, "home", "grid")
    with bus(on_tcp(device), [Fault("one_client")]) as (running, one):
        for slot in range(4):
            assert_good(one.read("meter", slot * 1000), running, "meter")
            with opened(TcpLine(int(running.address("line").rpartition(":")[2]))) as other:
                assert other.receive(1) == b""
            time.sleep(0.06)
        assert one.connections == 1


def test_a_device_that_another_client_holds_has_no_value_until_it_is_let_go() -> None:
    device = Device("meter", load("eastron_sdm630"), 1, "home", "grid")
    with bus(on_tcp(device), [Fault("one_client")]) as (running, one):
        with opened(TcpLine(int(running.address("line").rpartition(":")[2]))) as other:
            other.ask(1, read_pdu(0, 2))
            (reading,) = one.read("meter", 0)
            assert (reading.status, reading.values) == (Status.DISCONNECTED, ())
            assert other.ask(1, read_pdu(0, 2))[:2] == b"\x04\x04"
        began = time.monotonic()
        while reading.status is not None and time.monotonic() < began + 30:
            time.sleep(0.06)
            (reading,) = one.read("meter", 1000)
        assert_good((reading,), running, "meter")


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_a_shifted_meter_is_not_taken_for_what_its_map_says(framing: str) -> None:
    """Identification finds it: from then on there is no value, only that this is another device."""
    device = Device("meter", load("carlo_gavazzi_em330_em340"), 1, "home", "grid")
    with bus(on_tcp(device, framing=framing), [Fault("shifted")]) as (_, one):
        identity = one.identify("meter")
        assert identity is not None
        assert not identity.agrees
        time.sleep(0.06)
        (reading,) = one.read("meter", 0)
        assert (reading.status, reading.values) == (Status.INCOMPATIBLE, ())
        assert "is no Carlo Gavazzi" in one.counters["meter"].trouble


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_a_meter_that_was_exchanged_is_found_by_its_serial_number(framing: str) -> None:
    """After the line was opened anew; until somebody says that this is right, there is no value."""
    device = Device("meter", load("eastron_sdm630"), 1, "home", "grid")
    with bus(on_tcp(device, framing=framing), [Fault("exchanged", from_s=1000)]) as (running, one):
        before = one.identify("meter")
        assert before is not None
        assert before.serial
        assert_good(one.read("meter", 0), running, "meter")
        running.devices[0].station.begin(time.monotonic() - 1000)
        one.cut()
        began = time.monotonic()
        (reading,) = one.read("meter", 1000)
        while reading.status is not Status.EXCHANGED and time.monotonic() < began + 30:
            assert reading.values == ()
            time.sleep(0.06)
            (reading,) = one.read("meter", 1000)
        assert (reading.status, reading.values) == (Status.EXCHANGED, ())
        after = one.identify("meter")
        assert after is not None
        assert after.serial not in ("", before.serial)


def test_sentinels_that_the_map_knows_are_no_values() -> None:
    """NaN in every register of a meter of floats: it answers, and nothing it says is a value."""
    device = Device("meter", load("schneider_iem3155_iem3255"), 1, "home", "grid")
    with bus(on_tcp(device), [Fault("sentinel", value=0x7FC00000)]) as (running, one):
        (reading,) = one.read("meter", 0)
    floats = {register.key for register in device.map.registers if register.type == "f32"}
    assert floats
    assert not floats & {key for key, _ in reading.values}
    assert running.devices[0].station.counters["fault sentinel"] > 0
