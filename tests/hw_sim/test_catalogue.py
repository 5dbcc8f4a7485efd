"""Every map of the catalogue as a meter: asked in real frames by the drivers' plan, it says what it measures."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from drivers.decode import Decoded, decode
from drivers.map import MeterMap, Register, load, names
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, plan
from drivers.reading import Block
from hw_sim import frames
from hw_sim.encode import Points
from hw_sim.home import Battery, Household
from hw_sim.line import LineTiming
from hw_sim.running import Running, Shown
from hw_sim.site import Device, Line, Site
from hw_sim.sun import Roof
from hw_sim.words import is_counter
from tests.hw_sim.lines import PtyLine, TcpLine, read_pdu

# 2026-06-21T10:00:00Z: the sun shines, so powers have both signs and every phase another one.
START_MS = 1_782_036_000_000
# The site's clock all but stands still, so that several requests see the same second.
SPEED = 0.001
# What can flow while it moves by some milliseconds: less than a hundredth of a watt-hour.
FLOWED = 10_000
ROLES = {"inverter": "pv", "meter": "grid", "both": "grid"}
FIXED = [name for name in names() if load(name).scheme == "registers"]
SUNSPEC = [
    (name, models)
    for name in names()
    if load(name).scheme == "sunspec"
    # What measures direct current belongs to the inverter before it.
    for models in [
        (103, number) if model.role == "dc" else (number,) for model in load(name).models for number in model.ids
    ]
    + [(103, 160, 203)]
]
DEVICES = {
    **{name: (name, ()) for name in FIXED},
    **{f"{name} {'+'.join(map(str, models))}": (name, models) for name, models in SUNSPEC},
}


def line_of(number: int, name: str, rtu: bool) -> Line:
    model, models = DEVICES[name]
    meter_map = load(model)
    home = f"{meter_map.phases} phases"
    device = Device(name, meter_map, 1 + number % 247, home, ROLES[meter_map.kind], models=models)
    return Line(f"{name} {rtu}", ("127.0.0.1", 0), "rtu" if rtu else "tcp", None, None, (device,))


@pytest.fixture(scope="module")
def site() -> Iterator[Running]:
    """All models at once, each on a TCP port and on an RTU port."""
    homes = tuple(
        Household(f"{phases} phases", 1, phases, 100, Roof(5_000, 4_600), 1, Battery(5_000, 2_500)) for phases in (1, 3)
    )
    lines = tuple(line_of(number, name, rtu) for number, name in enumerate(DEVICES) for rtu in (False, True))
    with Running(Site(1, START_MS, SPEED, homes, lines, ())) as running:
        yield running


def find(site: Running, name: str, rtu: bool) -> tuple[Shown, int]:
    line = f"{name} {rtu}"
    shown = next(one for one in site.devices if one.port is site.ports[line])
    return shown, int(site.address(line).rpartition(":")[2])


def read_over(client: TcpLine, unit: int, meter_map: MeterMap, rtu: bool) -> list[Block]:
    blocks = []
    for request in plan(meter_map, RTU_OVERHEAD_BYTES if rtu else TCP_OVERHEAD_BYTES):
        pdu = read_pdu(request.address, request.count, request.function)
        if rtu:
            client.send(frames.rtu(frames.Adu(unit, pdu)))
            frame = client.receive(5 + 2 * request.count)
            answer = frames.rtu_frame(frame)
            assert answer is not None, frame.hex(" ")
            assert answer.unit == unit
            words = answer.pdu
        else:
            words = client.ask(unit, pdu)
        assert words[:2] == bytes((request.function, 2 * request.count)), f"{request}: {words.hex(' ')}"
        blocks.append(Block(request.function, request.address, words[2:]))
    return blocks


def resolution(register: Register, meter_map: MeterMap, shown: Points) -> Decimal:
    """How far a decoded value may be from the quantity, in millionths."""
    value = abs(shown[register.point][register.key])
    if register.type in ("f32", "f64"):
        return Decimal(value) / 2**23 + 1
    step = Decimal(abs(register.scale[0])).scaleb(register.scale[1] + 6)
    if register.scale_address is not None and not is_counter(register.key):
        # The power of ten suits the largest of those that share it; four digits of that one are left.
        group = [one for one in meter_map.registers if one.scale_address == register.scale_address]
        largest = max(abs(shown[one.point][one.key]) for one in group)
        step = max(step / 1000, Decimal(largest) / 3_000)
    return step * (1 + len(register.plus))


def assert_says_what_it_measures(meter: Shown, decoded: tuple[Decoded, ...], meter_map: MeterMap) -> None:
    assert meter.meter is not None
    assert meter.meter.shown is not None
    registers = {(register.point, register.key): register for register in meter_map.registers}
    assert {(one.point, one.key) for one in decoded} == registers.keys()
    for one in decoded:
        register = registers[one.point, one.key]
        shown = meter.meter.shown[one.point][one.key]
        assert one.value is not None, f"{register.quantity} {register.phase} is not available"
        said = Decimal(one.value.mantissa).scaleb(one.value.exponent + 6)
        if register.type.startswith("u") and not register.plus and register.scale[0] > 0:
            shown = abs(shown)  # without a sign only the size is shown
        off = abs(said - shown)
        assert off <= resolution(register, meter_map, meter.meter.shown) + FLOWED, (
            f"{register}: {said} instead of {shown}"
        )


@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
@pytest.mark.parametrize("name", DEVICES)
def test_a_meter_says_what_it_measures(site: Running, name: str, rtu: bool) -> None:
    shown, port = find(site, name, rtu)
    assert shown.meter is not None
    client = TcpLine(port)
    blocks = read_over(client, shown.device.unit, shown.meter.map, rtu)
    client.close()
    assert_says_what_it_measures(shown, decode(shown.meter.map, blocks), shown.meter.map)


def test_what_is_measured_is_worth_reading(site: Running) -> None:
    """Guards the test above: zeros would pass it."""
    shown, port = find(site, "eastron_sdm630", False)
    client = TcpLine(port)
    read_over(client, shown.device.unit, load("eastron_sdm630"), False)
    client.close()
    assert shown.meter is not None
    assert shown.meter.shown is not None
    figures = shown.meter.shown[""]
    powers = [figures[register.key] for register in shown.meter.map.registers if register.quantity == "active_power"]
    assert len(set(powers)) == 4
    assert min(powers) < 0 < max(powers)
    assert sum(abs(figures[register.key]) > 10_000 for register in shown.meter.map.registers) > 35


@pytest.mark.parametrize("name", ["eastron_sdm630", "carlo_gavazzi_em24_rs485", "schneider_iem3155_iem3255"])
def test_a_meter_on_a_serial_line_says_what_it_measures(tmp_path: Path, name: str) -> None:
    meter_map = load(name)
    device = Device("meter", meter_map, 1, "home", "grid")
    line = Line("line", None, "rtu", tmp_path / "tty", LineTiming(115200), (device,))
    home = Household("home", 1, 3, 100, Roof(5_000, 4_600))
    with Running(Site(1, START_MS, SPEED, (home,), (line,), ())) as running:
        client = PtyLine(running.address("line"), 115200)
        blocks = []
        for request in plan(meter_map, RTU_OVERHEAD_BYTES):
            answer = client.ask(1, read_pdu(request.address, request.count, request.function))
            blocks.append(Block(request.function, request.address, answer[2:]))
        client.close()
        assert_says_what_it_measures(running.devices[0], decode(meter_map, blocks), meter_map)
