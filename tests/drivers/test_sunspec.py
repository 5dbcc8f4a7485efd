"""SunSpec: chains as devices have them, with everything that devices get wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.decode import Decoded, decode
from drivers.map import Field, MeterMap, load
from drivers.obis import BY_KEY
from drivers.plan import TCP_OVERHEAD_BYTES, plan
from drivers.reading import Block
from drivers.sunspec import discover, layout, rated_power

GENERIC = load("sunspec_generic")


def model(number: int, length: int, **points: int) -> list[int]:
    """A model's words: ID, length, not available everywhere, then ``at3=7`` puts a 7 at offset 3."""
    words = [number, length] + [0x8000] * length
    for name, word in points.items():
        words[int(name.removeprefix("at"))] = word & 0xFFFF
    return words


def f32(number: float) -> tuple[int, int]:
    high, low = struct.unpack(">2H", struct.pack(">f", number))
    return high, low


COMMON = model(1, 66)
INVERTER = model(103, 50, at14=940, at15=0, at24=0, at25=5000, at26=1, at31=97, at32=1)
METER = model(203, 105, at18=-12, at22=1, at38=0, at39=70, at46=1, at47=0, at54=0)


class Device:
    """Registers at an address; what is not there is a LookupError, as is a request that is too long."""

    def __init__(self, base: int, *parts: list[int], end: bool = True) -> None:
        words = [0x5375, 0x6E53, *(word for part in parts for word in part), *([0xFFFF, 0] if end else [])]
        self.base = base
        self.words = struct.pack(f">{len(words)}H", *words)
        self.requests = 0

    def read(self, function: int, address: int, count: int) -> bytes:
        self.requests += 1
        first = 2 * (address - self.base)
        if function != 3 or first < 0 or first + 2 * count > len(self.words) or count > 125:
            raise LookupError(f"{function}: {address}, {count}")
        return self.words[first : first + 2 * count]

    def map(self) -> MeterMap:
        return layout(GENERIC, discover(self.read))

    def values(self) -> dict[tuple[str, str, str], str | None]:
        """(point, quantity, phase) -> text, read as the planner says."""
        meter_map = self.map()
        blocks = [Block(3, r.address, self.read(3, r.address, r.count)) for r in plan(meter_map, TCP_OVERHEAD_BYTES)]
        return {named(item): item.value.text() if item.value else None for item in decode(meter_map, blocks)}


def named(item: Decoded) -> tuple[str, str, str]:
    known = BY_KEY[item.key]
    return item.point, known.name, known.phase


@pytest.mark.parametrize("base", [40000, 0, 50000])
def test_the_chain_is_found_at_every_base(base: int) -> None:
    device = Device(base, COMMON, INVERTER)
    assert discover(device.read) == ((1, base + 2), (103, base + 70), (0xFFFF, base + 122))


def test_a_device_without_the_marker_has_no_models() -> None:
    assert discover(Device(100, COMMON).read) == ()
    assert layout(GENERIC, ()).registers == ()


class Refusal(Exception):
    """As a Modbus library says that the device refused."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def failing(error: Exception, device: Device) -> Callable[[int, int, int], bytes]:
    def read(function: int, address: int, count: int) -> bytes:
        try:
            return device.read(function, address, count)
        except LookupError:
            raise error from None

    return read


def test_a_refusal_is_no_such_register_but_silence_is_not() -> None:
    assert discover(failing(Refusal(2), Device(0, COMMON, end=False)))[:1] == ((1, 2),)
    for error in (Refusal(6), TimeoutError()):
        with pytest.raises(type(error)):
            discover(failing(error, Device(0, COMMON)))


def test_the_end_marker_may_be_missing() -> None:
    device = Device(40000, COMMON, INVERTER, end=False)
    assert discover(device.read)[-1] == (0xFFFF, 40122)
    assert device.values()["", "active_power_export", "total"] == "940"


def test_model_1_may_be_65_long_and_vendors_models_are_skipped() -> None:
    device = Device(40000, model(1, 65), model(64001, 9), INVERTER)
    assert discover(device.read) == ((1, 40002), (64001, 40069), (103, 40080), (0xFFFF, 40132))
    assert device.values()["", "active_energy_export", "total"] == "50000"


def test_an_inverter_alone_has_one_point() -> None:
    device = Device(40000, COMMON, INVERTER)
    assert device.map().points == ("",)
    assert device.map().digest == GENERIC.digest
    values = device.values()
    assert values["", "dc_power", "total"] == "970"
    assert values["", "voltage", "L1"] is None


def test_an_inverter_with_a_meter_has_two() -> None:
    device = Device(40000, COMMON, INVERTER, model(1, 65), METER)
    values = device.values()
    assert device.map().points == ("pv", "grid")
    assert values["pv", "active_power_export", "total"] == "940"
    assert values["grid", "active_power", "total"] == "-120"
    assert values["grid", "active_energy_export", "total"] == "70"
    assert values["grid", "active_energy_import", "total"] == "65536"


def test_further_meters_are_numbered() -> None:
    assert Device(40000, COMMON, METER, COMMON, METER, COMMON, METER).map().points == ("grid", "grid2", "grid3")
    assert Device(40000, COMMON, METER).map().points == ("",)


def test_of_integers_and_floats_the_first_is_taken() -> None:
    high, low = f32(1234.5)
    floats = model(113, 60, at22=high, at23=low)
    assert Device(40000, COMMON, INVERTER, floats).values()["", "active_power_export", "total"] == "940"
    both = Device(40000, COMMON, floats, INVERTER)
    assert both.values()["", "active_power_export", "total"] == "1234.5"
    assert both.map().points == ("",)


def test_a_counter_of_zero_is_not_counting() -> None:
    assert (
        Device(0, COMMON, model(103, 50, at24=0, at25=0, at26=0)).values()["", "active_energy_export", "total"] is None
    )


def test_a_power_factor_in_percent() -> None:
    inverter = model(103, 50, at22=-985, at23=-1)
    assert Device(0, COMMON, inverter).values()["", "power_factor", "total"] == "-0.985"
    newer = model(701, 153, at13=-985, at117=-3)
    assert Device(0, COMMON, newer).values()["", "power_factor", "total"] == "-0.985"


def test_the_long_measurement_model_is_read_in_pieces() -> None:
    newer = model(701, 153, at10=-5, at116=1, at19=0, at20=0, at21=1, at22=0, at120=-1, at23=0, at24=0, at25=0, at26=30)
    device = Device(40000, COMMON, newer)
    values = device.values()
    assert all(request.count <= 125 for request in plan(device.map(), TCP_OVERHEAD_BYTES))
    assert values["", "active_power_export", "total"] == "-50"
    assert values["", "active_energy_export", "total"] == "6553.6"
    assert values["", "active_energy_import", "total"] == "3"


def trackers(count: int, energy: int = 1) -> list[int]:
    words = model(160, 8 + 20 * count, at4=0, at5=3)
    for number in range(count):
        at = 10 + 20 * number
        words[at + 11], words[at + 12], words[at + 13] = 100 * (number + 1), 0, energy
    return words


def test_the_trackers_of_an_inverter_are_added_up() -> None:
    values = Device(40000, COMMON, model(103, 50, at14=1, at15=0), trackers(3)).values()
    assert values["", "dc_energy", "total"] == "3000"
    assert values["", "dc_power", "total"] is None  # the inverter's own model says it first
    assert Device(40000, COMMON, trackers(3)).values()["", "dc_power", "total"] == "600"
    assert Device(40000, COMMON, trackers(3, energy=0)).values()["", "dc_energy", "total"] is None


def test_a_hybrid_from_fronius_adds_two_trackers() -> None:
    meter_map = layout(load("fronius_sunspec"), discover(Device(40000, COMMON, trackers(4)).read))
    assert [len(register.plus) for register in meter_map.registers] == [1, 1]


def test_a_battery_is_a_point_of_its_own() -> None:
    battery = model(802, 62, at11=735, at56=-1)
    values = Device(40000, COMMON, INVERTER, battery).values()
    assert values["battery", "state_of_charge", "total"] == "73.5"


@pytest.mark.parametrize(
    ("plate", "says"),
    [
        (model(120, 26, at3=820, at4=1), "8200"),
        (model(702, 50, at2=500, at45=1), "5000"),
        (model(120, 26, at3=0xFFFF, at4=0), None),
        (model(120, 26, at3=820), None),  # the power of ten is not available
        (model(64001, 26, at3=820, at4=1), None),
    ],
)
def test_the_name_plate(plate: list[int], says: str | None) -> None:
    device = Device(40000, COMMON, INVERTER, plate, METER)
    rated = rated_power(device.read, discover(device.read))
    assert (rated and rated.text()) == says


def test_what_a_model_does_not_say_it_has_is_left_out() -> None:
    short = model(103, 20, at14=7, at15=0)
    quantities = {
        register.quantity for register in Device(0, COMMON, short, METER).map().registers if register.point == "pv"
    }
    assert "active_power_generation" in quantities
    assert "active_energy_generation" not in quantities


def test_the_serial_number_is_that_of_the_first_common_model() -> None:
    identify = Device(40000, COMMON, INVERTER, COMMON, METER).map().identify
    assert identify
    assert identify.serial == Field(3, 40052, 16, "ascii")
    assert layout(load("fronius_sunspec"), ((1, 40002),)).identify.expected == ("Fronius",)  # type: ignore[union-attr]


def test_lengths_of_zero_and_endless_chains_come_to_an_end() -> None:
    zero = Device(0, *[model(64000, 0)] * 400)
    assert len(discover(zero.read)) == 101
    assert zero.requests < 110
    assert discover(lambda function, address, count: b"SunS")[-1][0] == 0xFFFF
    assert discover(Device(0, [103, 65535]).read) == ((0xFFFF, 2),)


@given(st.binary(max_size=600))
def test_random_chains_are_walked_and_laid_out(words: bytes) -> None:
    data = b"SunS" + words

    def read(function: int, address: int, count: int) -> bytes:
        if 2 * (address + count) > len(data):
            raise LookupError
        return data[2 * address : 2 * (address + count)]

    meter_map = layout(GENERIC, discover(read, (0,)))
    assert all(address + count <= 65536 for register in meter_map.registers for address, count in register.spans())
    decode(meter_map, [Block(3, 0, data)])


@given(st.lists(st.tuples(st.sampled_from([1, 101, 113, 160, 203, 701, 714, 802, 64000]), st.integers(0, 70))))
def test_chains_of_known_models_of_any_length(parts: list[tuple[int, int]]) -> None:
    device = Device(0, *[model(number, length) for number, length in parts])
    meter_map = device.map()
    assert len({(register.point, register.key) for register in meter_map.registers}) == len(meter_map.registers)
    device.values()
