"""The bus: one Reading a point and slot, whatever happens on the line, and never a number that was not there."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.bus import Bus, MeterConfig
from drivers.map import MeterMap, load, parse
from drivers.modbus import Endpoint, SerialEndpoint, TcpEndpoint
from drivers.reading import Reading, Status
from tests.drivers import virtual
from tests.drivers.wires import GOOD, Asked, Device, Fault, Line, line, word

SLOT = 1_790_000_000_000
KINDS = ["tcp", "rtu", "pty"]

# Quantities of the test meter, one register each. Two blocks of ten, far apart: two requests of the same length, so
# that a late answer to one looks exactly like the answer to the other.
BLOCK_A = [("voltage", 100), ("current", 103), ("active_power", 106)]
BLOCK_B = [("apparent_power", 500), ("reactive_power", 503), ("power_factor", 506)]


def two_blocks(limits: str = "", identify: str = "", blocks: object = (BLOCK_A, BLOCK_B)) -> MeterMap:
    """A meter of u16 registers."""
    assert isinstance(blocks, tuple)
    text = f"""
        manufacturer = "Test"
        model = "Two blocks"
        kind = "meter"
        phases = 3
        cross_checked = false
        settlement = false
        settlement_reason = "a test"
        sources = ["this test"]
        {identify}
        [limits]
        max_registers = 60
        {limits}
        [defaults]
        table = "input"
        type = "u16"
    """
    for block in blocks:
        for quantity, address in block:
            text += f"""
        [[register]]
        quantity = "{quantity}"
        address = {{ L1 = {address}, L2 = {address + 1}, L3 = {address + 2} }}
    """
        text += f"""
        [[register]]
        quantity = "{block[0][0].replace("voltage", "frequency").replace("apparent_power", "active_energy_import")}"
        address = {block[-1][1] + 3}
    """
    return parse(text.encode(), "test")


IDENTIFY = """
        [identify]
        table = "holding"
        address = 11
        type = "u16"
        expected = [71, 72]
        [identify.serial_number]
        table = "holding"
        address = 20
        type = "ascii"
        count = 4
"""


class Clock:
    """The monotonic clock, which a test may set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def endpoint(running: Line) -> Endpoint:
    if running.kind == "pty":
        return SerialEndpoint(running.path, 115200)
    return TcpEndpoint("127.0.0.1", running.port, running.kind)


def one_bus(running: Line, meter_map: MeterMap, clock: Clock | None = None, names: str = "a") -> Bus:
    """A bus with meters on units 1, 2 ..."""
    meters = [MeterConfig(name, meter_map, unit) for unit, name in enumerate(names, 1)]
    return Bus(endpoint(running), meters, monotonic=clock or Clock())


def numbers(reading: Reading) -> set[int]:
    return {value.mantissa * 10**value.exponent for _, value in reading.values}


def read(bus: Bus, name: str = "a", slot: int = 0) -> Reading:
    (reading,) = bus.read(name, SLOT + slot * 1000)
    assert reading.slot_ms == SLOT + slot * 1000
    if reading.status is None:
        assert len(reading.values) == 20
        assert len(reading.blocks) == 2
        assert reading.window_ms is not None
    else:
        assert reading.values == ()
        assert reading.blocks == (), "half a reading was kept"
    return reading


EXPECTED = {word(4, a) for a in [*range(100, 110), *range(500, 510)]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_meter_is_read_whole_from_consecutive_requests(kind: str) -> None:
    with line(kind, {1: Device(), 2: Device()}) as running:
        bus = one_bus(running, two_blocks(), names="ab")
        for slot in range(3):
            for name in "ab":
                reading = read(bus, name, slot)
                assert reading.sub == name
                assert reading.status is None
                assert numbers(reading) == EXPECTED
                assert [(b.function, b.address, len(b.words)) for b in reading.blocks] == [(4, 100, 20), (4, 500, 20)]
        assert [a.address for a in running.units[1].asked] == [100, 500] * 3
        counters = bus.counters["a"]
        assert (counters.requests, counters.answers, counters.probes, counters.timeouts) == (6, 6, 0, 0)
        assert 0 <= counters.latency_s < 0.1
        assert sum(counters.latencies) == 6
        assert sum(counters.latencies[:4]) == 6, "none of them took longer than 100 ms"
        assert bus.connections == 1
        bus.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(silent=True), Status.TIMEOUT),
        (Fault(unit=7), Status.READ_ERROR),
        (Fault(count=9), Status.READ_ERROR),
        (Fault(function=3), Status.READ_ERROR),
        (Fault(exception=4), Status.READ_ERROR),
        (Fault(exception=6), Status.READ_ERROR),
        (Fault(exception=1), Status.INCOMPATIBLE),
        (Fault(exception=11), Status.TIMEOUT),
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [0, 1])
def test_one_failed_request_fails_the_slot_and_only_that_slot(kind: str, fault: Fault, status: Status, at: int) -> None:
    device = Device(fault=lambda asked, number: fault if number == 2 + at else GOOD)
    with line(kind, device) as running:
        bus = one_bus(running, two_blocks("timeout_ms = 80"))
        assert read(bus).status is None
        assert read(bus, slot=1).status == status
        assert bus.counters["a"].trouble
        recovered = read(bus, slot=2)
        assert recovered.status is None
        assert numbers(recovered) == EXPECTED
        assert bus.counters["a"].trouble == ""
        doubted = fault.exception in (None, 11)
        assert bus.counters["a"].probes == doubted, "a refusal is an answer; silence must be probed"
        assert bus.connections == 1
        bus.close()


# --- LATE: the central promise ---


def late_line(kind: str, rng: random.Random, generation: list[int], timeout_s: float) -> Device:
    """A device whose answers carry the slot they were asked in, and come late, wrong or not at all.

    A register holds slot * 32 + its place, so that a word tells when and what it was asked for.
    """

    def content(function: int, address: int) -> int:
        return generation[0] * 32 % 65536 + (address - 100 if address < 300 else address - 490)

    def fault(asked: Asked, number: int) -> Fault:
        if number < 4 or rng.random() < 0.6:
            return GOOD
        return rng.choice(
            [
                *[Fault(delay_s=timeout_s * rng.uniform(0.5, 5)) for _ in range(6)],
                Fault(delay_s=timeout_s * rng.uniform(0.5, 3), twice=True),
                Fault(silent=True),
                Fault(unit=2),
                Fault(count=rng.choice([1, 9, 11])),
                Fault(bad_crc=True),
                Fault(cut=rng.randrange(1, 24)),
                Fault(exception=rng.choice([4, 5, 6]), delay_s=timeout_s * rng.uniform(0, 2)),
                Fault(before=rng.randbytes(rng.randrange(1, 30))),
                Fault(echo=True),
            ]
        )

    return Device(word=content, fault=fault)


def run_late_line(kind: str, seed: int, slots: int) -> tuple[int, int, Bus]:
    """Good readings, and readings with a number of another slot or register."""
    rng = random.Random(seed)
    generation = [0]
    timeout_s = 0.02
    device = late_line(kind, rng, generation, timeout_s)
    good = wrong = 0
    with line(kind, device) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks(f"timeout_ms = {int(timeout_s * 1000)}"), clock)
        for slot in range(slots):
            generation[0] = slot
            reading = read(bus, slot=slot)
            # Sometimes the pause of the back-off is over at once, sometimes the next slot finds it.
            clock.ahead += rng.choice([0.0, 1.0, 400.0])
            if reading.status is None:
                good += 1
                wrong += numbers(reading) != {slot * 32 % 65536 + place for place in range(20)}
        bus.close()
    return good, wrong, bus


@pytest.mark.parametrize("kind", KINDS)
def test_no_late_or_wrong_answer_ever_becomes_a_value(kind: str) -> None:
    """On real lines in real time, of which there is little; test_late.py has more."""
    good, wrong, bus = run_late_line(kind, seed=1, slots=60)
    assert wrong == 0
    assert good >= 5, "a line this bad still gives readings"
    counters = bus.counters["a"]
    assert counters.timeouts >= 5, "the faults did not bite"
    assert counters.probes >= 5


def test_two_meters_of_one_unit_share_the_doubt() -> None:
    """An inverter and the meter behind it answer under one address: a late answer to one is no answer to the other."""
    first, second = two_blocks("timeout_ms = 60", blocks=(BLOCK_A,)), two_blocks("timeout_ms = 60", blocks=(BLOCK_B,))
    late = Device(fault=lambda asked, number: Fault(delay_s=0.15) if number == 2 else GOOD)
    with line("rtu", late) as running:
        clock = Clock()
        bus = Bus(endpoint(running), [MeterConfig("a", first, 1), MeterConfig("b", second, 1)], monotonic=clock)
        assert bus.read("a", SLOT)[0].status is None
        assert bus.read("b", SLOT)[0].status is None
        assert bus.read("a", SLOT + 1000)[0].status == Status.TIMEOUT
        for slot in range(1, 5):  # until the late answer has passed
            clock.ahead += 10.0
            (reading,) = bus.read("b", SLOT + slot * 1000)
            assert reading.status in (None, Status.TIMEOUT, Status.READ_ERROR)
            assert bus.counters["b"].probes >= 1
            if reading.status is None:
                break
        assert numbers(reading) == {word(4, a) for a in range(500, 510)}
        bus.close()


def test_where_no_probe_can_differ_time_must_pass() -> None:
    """A unit that was asked for every length there is: only waiting makes sure."""
    device = Device(fault=lambda asked, number: Fault(silent=True) if number == 2 else GOOD)
    with line("pty", device) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks("timeout_ms = 80"), clock)
        bus._guards[1].asked.update(range(126))
        assert read(bus).status is None
        assert read(bus, slot=1).status == Status.TIMEOUT
        clock.ahead += 5.0
        assert read(bus, slot=2).status == Status.TIMEOUT
        clock.ahead += 6.0
        assert read(bus, slot=3).status is None
        assert bus.counters["a"].probes == 0
        bus.close()


# --- the dead and the living ---


@pytest.mark.parametrize("kind", KINDS)
def test_dead_meters_cost_the_healthy_no_slot(kind: str) -> None:
    units = {1: Device(), 3: Device(fault=lambda asked, number: Fault(silent=True)), 4: Device()}
    with virtual.line(kind, units) as (clock, running):
        dead, healthy = two_blocks("timeout_ms = 10"), two_blocks()
        meters = [MeterConfig(n, healthy if n in "ad" else dead, unit) for unit, n in enumerate("abcd", 1)]
        bus = Bus(endpoint(running), meters, monotonic=clock.monotonic, sleep=clock.sleep)  # 2 is not there at all
        for slot in range(120):
            for name in "abcd":
                assert (read(bus, name, slot).status is None) == (name in "ad")
            clock.sleep(1.0)
        for name in "bc":
            # The sum of pauses 0, 2, 4 ... over two minutes.
            assert bus.counters[name].requests <= 14
            assert bus.counters[name].answers == 0
        if kind == "pty":
            assert bus.connections == 1, "silence closed the port"
        bus.close()


def test_a_failed_meter_is_tried_only_in_the_time_that_others_leave() -> None:
    units = {1: Device(fault=lambda asked, number: Fault(silent=True)), 2: Device()}
    with line("pty", units) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks("timeout_ms = 80"), clock, names="ab")
        assert read(bus, "b").status is None
        assert read(bus, "a").status == Status.TIMEOUT
        clock.ahead += 1.0
        for spare_s in (-1.0, 0.0, 0.05):
            assert bus.read("a", SLOT, spare_s)[0].status == Status.TIMEOUT
            assert len(units[1].asked) == 1
        before = time.monotonic()
        assert bus.read("a", SLOT, 0.3)[0].status == Status.TIMEOUT
        assert len(units[1].asked) == 2
        assert time.monotonic() - before < 0.3
        clock.ahead += 301.0  # but whoever never leaves any does not keep it away for ever
        assert bus.read("a", SLOT, -1.0)[0].status == Status.TIMEOUT
        assert len(units[1].asked) == 3
        bus.close()


def test_with_nobody_answering_each_is_tried_in_its_turn() -> None:
    units = {unit: Device(fault=lambda asked, number: Fault(silent=True)) for unit in (1, 2, 3)}
    meters = [MeterConfig(name, two_blocks("timeout_ms = 10"), unit) for unit, name in enumerate("abc", 1)]
    with virtual.line("pty", units) as (clock, running):
        bus = Bus(endpoint(running), meters, monotonic=clock.monotonic, sleep=clock.sleep)
        for slot in range(60):
            for name in "abc":
                assert read(bus, name, slot).status == Status.TIMEOUT
            clock.sleep(1.0)
        asked = [len(unit.asked) for unit in units.values()]
        assert sum(asked) >= 55, "one of them in every slot"
        assert max(asked) - min(asked) <= 3
        bus.close()


def test_a_meter_left_alone_says_why_and_costs_nothing() -> None:
    units = {1: Device(fault=lambda asked, number: Fault(silent=True)), 2: Device()}
    with line("pty", units) as running:
        bus = one_bus(running, two_blocks("timeout_ms = 80"), names="ab")
        assert read(bus, "b").status is None
        for slot in range(2):
            assert read(bus, "a", slot).status == Status.TIMEOUT
        asked = len(units[1].asked)
        reading = read(bus, "a", 2)
        assert (reading.status, reading.window_ms) == (Status.TIMEOUT, None)
        assert len(units[1].asked) == asked
        counters = bus.counters["a"]
        assert (counters.failures, counters.pause_s) == (2, 2.0)
        assert (bus.counters["b"].failures, bus.counters["b"].pause_s) == (0, 0.0)
        bus.close()


def test_a_line_that_returns_is_read_again_at_once() -> None:
    """When nobody answered and one does, the others are not left alone any longer."""
    cut = [False]
    device = Device(fault=lambda asked, number: Fault(silent=True) if cut[0] else GOOD)
    other = Device(fault=lambda asked, number: Fault(silent=True) if cut[0] else GOOD)
    with line("pty", {1: device, 2: other}) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks("timeout_ms = 40"), clock, names="ab")
        assert [read(bus, name).status for name in "ab"] == [None, None]
        cut[0] = True
        for slot in range(1, 20):
            assert [read(bus, name, slot).status for name in "ab"] == [Status.TIMEOUT] * 2
            clock.ahead += 1.0
        cut[0] = False
        clock.ahead += 5.0
        assert [read(bus, name, 99).status for name in "ab"] == [None, None]
        bus.close()


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
def test_a_connection_that_ended_while_idle_costs_no_slot(kind: str) -> None:
    with line(kind) as running:
        bus = one_bus(running, two_blocks())
        for slot in range(4):
            assert read(bus, slot=slot).status is None
            running.hang_up()
            time.sleep(0.03)
        assert bus.connections == 4
        bus.close()


def test_a_host_that_goes_and_comes_back() -> None:
    with line("tcp") as running:
        clock = Clock()
        bus = one_bus(running, two_blocks(), clock)
        assert read(bus).status is None
        running.stop()
        for slot in range(1, 5):
            assert read(bus, slot=slot).status == Status.DISCONNECTED
            clock.ahead += 1.0
        assert "refused" in bus.counters["a"].trouble
        running.start()
        clock.ahead += 1.0
        assert read(bus, slot=5).status is None, "back within one slot"
        bus.close()


def test_a_serial_port_that_goes_and_comes_back_under_its_stable_name(tmp_path: Path) -> None:
    port = tmp_path / "usb-adapter"
    with line("pty") as running:
        port.symlink_to(running.path)
        clock = Clock()
        bus = Bus(SerialEndpoint(str(port), 115200), [MeterConfig("a", two_blocks(), 1)], monotonic=clock)
        assert read(bus).status is None
        running.stop()
        port.unlink()
        for slot in range(1, 4):
            assert read(bus, slot=slot).status == Status.DISCONNECTED
            clock.ahead += 1.0
        running.start()
        port.symlink_to(running.path)
        assert read(bus, slot=4).status is None
        assert bus.connections == 2
        bus.close()


@pytest.mark.parametrize("behind", ["A1234", "B9999"])
def test_who_is_behind_a_serial_port_that_came_back_is_asked(behind: str, tmp_path: Path) -> None:
    port, device = tmp_path / "usb-adapter", Device(word=named("A1234"))
    with line("pty", device) as running:
        port.symlink_to(running.path)
        clock = Clock()
        meter = MeterConfig("a", two_blocks(identify=IDENTIFY), 1)
        bus = Bus(SerialEndpoint(str(port), 115200), [meter], monotonic=clock)
        assert bus.identify("a")
        assert read(bus).status is None
        running.stop()
        port.unlink()
        assert read(bus, slot=1).status == Status.DISCONNECTED
        clock.ahead += 1.0
        device.word = named(behind)
        running.start()
        port.symlink_to(running.path)
        expected = None if behind == "A1234" else Status.EXCHANGED
        for slot in (2, 3):  # until somebody identified it; `read` sees that nothing of its values is kept
            assert read(bus, slot=slot).status == expected
        assert bus.connections == 2
        if expected:
            assert "B9999 instead of A1234" in bus.counters["a"].trouble
            identity = bus.identify("a")
            assert identity
            assert identity.serial == "B9999"
            assert read(bus, slot=4).status is None
        bus.close()


def test_a_tcp_connection_on_which_nobody_answers_is_made_anew() -> None:
    dead = [True]
    with line("tcp", Device(fault=lambda asked, number: Fault(silent=dead[0]))) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks("timeout_ms = 50"), clock)
        for slot in range(3 + 6 + 8):
            assert read(bus, slot=slot).status == Status.TIMEOUT
            clock.ahead += 400.0
        assert running.connections == 3, "it is made anew ever less often"
        dead[0] = False
        assert read(bus, slot=5).status is None
        bus.close()


def test_pauses_of_the_device_are_kept() -> None:
    with line("tcp") as running:
        bus = one_bus(running, two_blocks("min_delay_ms = 30\nconnect_delay_ms = 60"))
        before = time.monotonic()
        for slot in range(3):
            read(bus, slot=slot)
        at = [asked.at for asked in running.units[1].asked]
        assert at[0] - before >= 0.06
        assert all(b - a >= 0.03 for a, b in itertools.pairwise(at))
        bus.close()


def test_the_window_is_from_the_first_request_to_the_last_answer() -> None:
    with line("pty", Device(fault=lambda asked, number: Fault(delay_s=0.03))) as running:
        bus = one_bus(running, two_blocks())
        reading = read(bus)
        assert reading.window_ms is not None
        assert 60 <= reading.window_ms < 200
        bus.close()


# --- refusals ---


def holes(missing: set[int]) -> Callable[[int, int], int | None]:
    return lambda function, address: None if address in missing else word(function, address)


def test_a_refused_range_is_split_and_remembered_and_tried_again_later() -> None:
    # The meter has no register 503: one quantity of the map does not exist on this firmware.
    device = Device(word=holes({503}))
    with line("tcp", device) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks(), clock)
        (reading,) = bus.read("a", SLOT)
        assert reading.status is None
        assert numbers(reading) == EXPECTED - {word(4, 503)}
        splits = bus.counters["a"].splits
        assert 1 <= splits <= 8
        asked = len(device.asked)
        (reading,) = bus.read("a", SLOT + 1000)
        assert numbers(reading) == EXPECTED - {word(4, 503)}
        assert bus.counters["a"].exceptions == splits, "it asked for the hole again"
        assert len(device.asked) - asked == len(reading.blocks)
        device.word = word  # it was only starting
        clock.ahead += 3601.0
        assert numbers(bus.read("a", SLOT + 2000)[0]) == EXPECTED
        bus.close()


def test_all_registers_of_a_set_are_of_the_set_that_succeeded() -> None:
    """A split starts the set again: no words from before the refusal are kept."""
    generation = [0]

    def content(function: int, address: int) -> int | None:
        generation[0] += 1
        return None if address == 509 else generation[0]

    with line("tcp", Device(word=content)) as running:
        bus = one_bus(running, two_blocks())
        (reading,) = bus.read("a", SLOT)
        assert reading.status is None
        first = min(numbers(reading))
        assert numbers(reading) <= set(range(first, first + 20))
        bus.close()


@pytest.mark.parametrize("code", [1, 2])
def test_a_device_that_refuses_everything_is_another_model(code: int) -> None:
    with line("tcp", Device(fault=lambda asked, number: Fault(exception=code))) as running:
        bus = one_bus(running, two_blocks())
        statuses = [read(bus, slot=slot).status for slot in range(6)]
        assert Status.INCOMPATIBLE in statuses
        assert set(statuses) <= {Status.INCOMPATIBLE, Status.READ_ERROR}
        bus.close()


# --- who is there ---


def named(serial: str, model: int = 71) -> Callable[[int, int], int]:
    """A device with an identification register and a serial number."""
    text = serial.encode().ljust(8, b"\0")

    def content(function: int, address: int) -> int:
        if function == 3 and address == 11:
            return model
        if function == 3 and 20 <= address < 24:
            return int.from_bytes(text[2 * (address - 20) : 2 * (address - 20) + 2])
        return word(function, address)

    return content


@pytest.mark.parametrize("kind", KINDS)
def test_a_meter_says_who_it_is(kind: str) -> None:
    with line(kind, Device(word=named("A1234"))) as running:
        bus = one_bus(running, two_blocks(identify=IDENTIFY))
        identity = bus.identify("a")
        assert identity is not None
        assert (identity.serial, identity.models, identity.agrees) == ("A1234", (), True)
        assert read(bus).status is None
        bus.close()


def test_another_serial_number_after_a_reconnect_is_another_meter() -> None:
    device = Device(word=named("A1234"))
    with line("tcp", device) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks(identify=IDENTIFY), clock)
        assert bus.identify("a")
        assert read(bus).status is None
        running.hang_up()
        time.sleep(0.03)
        assert read(bus, slot=1).status is None  # the same meter on a new connection
        device.word = named("B9999")
        assert read(bus, slot=2).status is None  # nobody can know yet
        running.hang_up()
        time.sleep(0.03)
        assert read(bus, slot=3).status == Status.EXCHANGED
        assert "B9999 instead of A1234" in bus.counters["a"].trouble
        assert read(bus, slot=4).status == Status.EXCHANGED
        identity = bus.identify("a")
        assert identity
        assert identity.serial == "B9999"
        assert read(bus, slot=5).status is None
        bus.close()


def test_a_meter_that_was_away_is_asked_for_its_serial_number() -> None:
    device = Device(word=named("A1234"))
    with line("pty", device) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks("timeout_ms = 50", IDENTIFY), clock)
        assert bus.identify("a")
        device.fault = lambda asked, number: Fault(silent=True)
        for slot in range(3):
            assert read(bus, slot=slot).status == Status.TIMEOUT
            clock.ahead += 100.0
        device.fault = lambda asked, number: GOOD
        device.word = named("B9999")
        assert read(bus, slot=4).status == Status.EXCHANGED
        assert bus.connections == 1
        bus.close()


def test_a_device_that_is_another_model_has_no_values() -> None:
    with line("tcp", Device(word=named("A1234", model=99))) as running:
        bus = one_bus(running, two_blocks(identify=IDENTIFY))
        identity = bus.identify("a")
        assert identity
        assert not identity.agrees
        assert "is no Test Two blocks" in bus.counters["a"].trouble
        assert read(bus).status == Status.INCOMPATIBLE
        bus.close()


@pytest.mark.parametrize("fault", [Fault(exception=2), Fault(silent=True)], ids=str)
def test_old_firmware_that_does_not_tell_is_read_all_the_same(fault: Fault) -> None:
    device = Device(fault=lambda asked, number: fault if asked.function == 3 else GOOD)
    with line("pty", device) as running:
        bus = one_bus(running, two_blocks("timeout_ms = 80", IDENTIFY))
        identity = bus.identify("a")
        assert identity
        assert (identity.serial, identity.agrees) == ("", True)
        assert read(bus).status is None
        bus.close()


def test_a_meter_that_is_not_there_cannot_be_identified() -> None:
    with line("pty", {}) as running:
        clock = Clock()
        bus = one_bus(running, two_blocks("timeout_ms = 10", IDENTIFY), clock)
        assert bus.identify("a") is None
        assert read(bus).status == Status.TIMEOUT
        assert bus.counters["a"].requests == 1, "one slot, one try"
        clock.ahead += 1.0
        assert read(bus).status == Status.TIMEOUT
        assert bus.counters["a"].requests == 2
        bus.close()
    bus = Bus(TcpEndpoint("127.0.0.1", 1), [MeterConfig("a", two_blocks(), 1)])
    assert bus.identify("a") is None
    assert read(bus).status == Status.DISCONNECTED


SUNSPEC = "sunspec_generic"


def sunspec_device() -> Device:
    """Models 1, 103 (inverter, integers) and 203 (meter), as the standard lays them out."""
    registers: dict[int, int] = {40000: 0x5375, 40001: 0x6E53}
    at = 40002
    for model, length in ((1, 66), (103, 50), (203, 105)):
        registers.update({at: model, at + 1: length})
        registers.update({at + 2 + i: 0 for i in range(length)})
        if model == 1:
            for i, pair in enumerate((b"SN", b"42")):
                registers[at + 50 + i] = int.from_bytes(pair)
        at += 2 + length
    registers.update({at: 0xFFFF, at + 1: 0})
    return Device(word=lambda function, address: registers.get(address))


@pytest.mark.parametrize("kind", KINDS)
def test_sunspec_devices_are_laid_out_by_what_they_say(kind: str) -> None:
    with line(kind, sunspec_device()) as running:
        bus = Bus(endpoint(running), [MeterConfig("roof", load(SUNSPEC), 1)])
        (before,) = bus.read("roof", SLOT)
        assert (before.sub, before.status) == ("roof", Status.NOT_PRESENT)
        identity = bus.identify("roof")
        assert identity is not None
        assert identity.serial == "SN42"
        assert [model for model, _ in identity.models][:3] == [1, 103, 203]
        readings = bus.read("roof", SLOT)
        assert [reading.sub for reading in readings] == ["roof-pv", "roof-grid"]
        assert all(reading.status is None and reading.values for reading in readings)
        blocks = {block for reading in readings for block in reading.blocks}
        assert len(blocks) <= sum(len(reading.blocks) for reading in readings)
        bus.close()


def test_a_device_without_sunspec_is_another_model() -> None:
    with line("tcp") as running:
        bus = Bus(endpoint(running), [MeterConfig("roof", load(SUNSPEC), 1)])
        identity = bus.identify("roof")
        assert identity
        assert not identity.agrees
        assert bus.read("roof", SLOT)[0].status == Status.INCOMPATIBLE
        bus.close()


def test_quantities_that_are_not_available_leave_words_but_no_values() -> None:
    meter_map = two_blocks("[not_available]\nu16 = 0xFFFF")
    with line("tcp", Device(word=lambda function, address: 0xFFFF)) as running:
        bus = one_bus(running, meter_map)
        (reading,) = bus.read("a", SLOT)
        assert (reading.status, reading.values) == (Status.NOT_PRESENT, ())
        assert len(reading.blocks) == 2
        bus.close()
