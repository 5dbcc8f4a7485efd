"""SunSpec devices: discovered and laid out by the drivers as they were built."""

import itertools

import pytest

from drivers import sunspec
from drivers.map import load
from hw_sim import chain
from hw_sim.device import MapDevice
from hw_sim.station import Refused


def build(name: str, models: tuple[int, ...], base: int = 40000) -> MapDevice:
    concrete, extra = chain.layout(load(name), models, "24000123", base)
    return MapDevice(concrete, lambda _at_s: {}, "24000123", extra)


def reader(device: MapDevice) -> sunspec.Read:
    def read(function: int, address: int, count: int) -> bytes:
        try:
            return device.read(function, address, count, 0.0)
        except Refused:
            raise LookupError(address) from None

    return read


@pytest.mark.parametrize("name", ["sunspec_generic", "fronius_sunspec"])
@pytest.mark.parametrize("models", [(103,), (101, 160, 203), (113, 213), (701, 714), (802,)])
def test_the_drivers_find_what_was_built(name: str, models: tuple[int, ...]) -> None:
    device = build(name, models)
    found = sunspec.discover(reader(device), load(name).bases)
    assert [number for number, _ in found] == [1, *models, sunspec.END]
    assert sunspec.layout(load(name), found).registers == device.map.registers


@pytest.mark.parametrize("base", [40000, 0, 50000])
def test_the_beginning_may_be_at_any_of_the_bases(base: int) -> None:
    device = build("sunspec_generic", (103,), base)
    found = sunspec.discover(reader(device), load("sunspec_generic").bases)
    assert found[0] == (1, base + 2)


def test_it_says_who_it_is() -> None:
    device = build("fronius_sunspec", (103,))
    assert device.read(3, 40004, 16, 0.0).rstrip(b"\0") == b"Fronius"
    assert device.read(3, 40052, 16, 0.0).rstrip(b"\0") == b"24000123"


def test_it_ends_where_it_ends() -> None:
    device = build("sunspec_generic", (103,))
    end = 40000 + 2 + 68 + 52
    assert device.read(3, end, 2, 0.0) == b"\xff\xff\0\0"
    with pytest.raises(Refused):
        device.read(3, end, 3, 0.0)


def test_ordinary_models_suit_the_role() -> None:
    generic = load("sunspec_generic")
    usual = [chain.usual_models(generic, role, phases) for role, phases in itertools.product(("pv", "grid"), (1, 3))]
    assert usual == [(101,), (103,), (201,), (203,)]


def test_a_model_the_map_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="knows no model 999"):
        build("sunspec_generic", (999,))
