"""Preconditions: read from a map, looked at, and left open where the device does not answer."""

from __future__ import annotations

import pytest

from drivers.line import ModbusError
from drivers.map import Identify, MapError, Precondition, load, names, parse
from drivers.modbus import Timeout
from drivers.plan import Request
from drivers.preconditions import look
from hw_sim.readback import specimens

MODE = """
[[precondition]]
words = "mode B"
table = "input"
address = 0x1103
type = "u16"
expected = [1, 2]

[[precondition]]
words = "firmware 1.8.3 or later"
"""
MAP = (
    """
manufacturer = "Acme"
model = "One"
kind = "meter"
phases = 1
sources = ["a manual"]
settlement = false
settlement_reason = "a test"
[[register]]
quantity = "voltage"
type = "f32"
address = 0
"""
    + MODE
)


def test_a_map_says_what_has_to_be_set() -> None:
    assert parse(MAP.encode(), "one").preconditions == (
        Precondition("mode B", Identify(4, 0x1103, 1, "u16", (1, 2), None)),
        Precondition("firmware 1.8.3 or later", None),
    )


@pytest.mark.parametrize(
    ("good", "wrong", "place"),
    [
        ('words = "mode B"\n', "", "precondition 1: words"),
        ("expected = [1, 2]", "expected = []", "precondition 1: expected"),
        ("expected = [1, 2]", "", "precondition 1: expected"),
        ("expected = [1, 2]", 'expected = ["B"]', "precondition 1: expected"),
        ("address = 0x1103", "address = 65536", "precondition 1: address"),
        ('later"\n', 'later"\nexpected = [1]\n', "precondition 2: expected"),
        ('later"\n', 'later"\nwrite = 1\n', "precondition 2: write"),
        ("expected = [1, 2]", "expected = [1, 2]\ncontact = true", "precondition 1: contact"),
    ],
)
def test_a_wrong_precondition_is_refused(good: str, wrong: str, place: str) -> None:
    assert good in MAP
    with pytest.raises(MapError) as caught:
        parse(MAP.replace(good, wrong).encode(), "one")
    assert place in [problem.place for problem in caught.value.problems]


@pytest.mark.parametrize(("word", "said", "holds"), [(1, "1", True), (2, "2", True), (0, "0", False)])
def test_a_register_is_looked_at(word: int, said: str, holds: bool) -> None:
    asked = []

    def read(request: Request) -> bytes:
        asked.append(request)
        return word.to_bytes(2)

    first, second = look(parse(MAP.encode(), "one"), read)
    assert asked == [Request(4, 0x1103, 1)]
    assert (first.said, first.holds) == (said, holds)
    assert (second.said, second.holds) == ("", None)


def test_a_register_that_does_not_answer_leaves_it_open() -> None:
    def read(request: Request) -> bytes:
        raise Timeout("no answer")

    first, _ = look(parse(MAP.encode(), "one"), read)
    assert isinstance(Timeout("x"), ModbusError)
    assert (first.said, first.holds) == ("no answer", None)


def test_what_the_first_contact_needs_is_met_by_an_answer() -> None:
    meter_map = parse((MAP + "contact = true\n").encode(), "one")
    assert [each.contact for each in meter_map.preconditions] == [False, True]
    assert [one.precondition for one in look(meter_map, lambda request: b"\0\1")] == [meter_map.preconditions[0]]


def test_the_catalogues_preconditions() -> None:
    """Those of the register facts that somebody has to see to before a settlement."""
    found = {name: load(name).preconditions for name in names() if load(name).preconditions}
    looks = {
        name: [(each.look.address, each.look.expected) for each in preconditions if each.look]
        for name, preconditions in found.items()
    }
    assert looks["carlo_gavazzi_em24_rs485"] == [(0x1101, (7,))]
    assert looks["carlo_gavazzi_em24_e1"] == [(0xA000, (7,))]
    for name in ("em111_em112", "em330_em340", "et330_et340"):
        assert looks[f"carlo_gavazzi_{name}"] == [(0x1103, (1,))]
    assert looks["chint_dtsu666"] == [(6, (1,)), (7, (10,))]
    assert looks["goodwe_et"] == [(36004, (1,))]
    assert looks["kostal_plenticore"] == [(5, (0,))]
    assert looks["saia-burgess_ale3_awd3"] == [(8, ("B",))]
    for name in ("sungrow_sg", "sungrow_sh"):
        assert looks[name] == [(5001, (0, 1))]


LOOKED_AT = [name for name in names() if any(each.look for each in load(name).preconditions)]


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_device_as_its_map_wants_it_and_one_that_is_not(name: str) -> None:
    meter_map = load(name)
    (specimen,) = specimens(meter_map)

    def right(request: Request) -> bytes:
        return specimen.device.read(request.function, request.address, request.count, 0.0)

    def wrong(request: Request) -> bytes:
        return bytes(byte ^ 0xFF for byte in right(request))

    asked = [each for each in meter_map.preconditions if each.look]
    assert [one.precondition for one in look(meter_map, right) if one.holds] == asked
    assert [one.precondition for one in look(meter_map, wrong) if one.holds is False] == asked


@pytest.mark.parametrize("name", names())
def test_a_precondition_is_no_remark(name: str) -> None:
    """Where `aigeco read` and `maps show` find it, and short enough for two lines of a terminal."""
    meter_map = load(name)
    assert "PRECONDITION" not in meter_map.data.decode()
    assert all(len(each.words) <= 100 and not each.words.endswith(".") for each in meter_map.preconditions)
