"""A meter or a key more in a configuration's text: nothing that was written changes, or it is refused."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.addition import NotUnderstood, add_meter, set_keys

METER = ('name = "house"', 'model = "eastron_sdm630"', "unit = 3")
BUS = ('serial = "/dev/serial/by-id/usb-1"', "baud = 9600")

TEXT = """\
# the gateway at number 7
[gateway]
id = "gw7"  # as on the label

[[bus]]
serial = "/dev/serial0"
[[bus.meter]]
name = "pv"
unit = 1
rated_current = 63   # the fuse

# the neighbour's
[[bus]]
tcp = "10.0.0.7:502"

  [[bus.meter]]
  name = "two"

# where it goes
[mqtt]
host = "broker"
"""


def test_a_new_line_goes_to_the_end() -> None:
    found = add_meter(TEXT, METER, None, BUS)
    assert found.startswith(TEXT)
    assert tomllib.loads(found)["bus"][2] == {
        "serial": "/dev/serial/by-id/usb-1",
        "baud": 9600,
        "meter": [{"name": "house", "model": "eastron_sdm630", "unit": 3}],
    }


def test_a_meter_goes_to_the_end_of_its_line() -> None:
    first, second = add_meter(TEXT, METER, 0), add_meter(TEXT, METER, 1)
    assert first.replace("\n[[bus.meter]]\n" + "\n".join(METER) + "\n", "", 1) == TEXT
    assert first.index('"house"') < first.index("# the neighbour's")
    assert second.index('"two"') < second.index('"house"') < second.index("# where it goes")
    assert [meter["name"] for meter in tomllib.loads(first)["bus"][0]["meter"]] == ["pv", "house"]
    assert [meter["name"] for meter in tomllib.loads(second)["bus"][1]["meter"]] == ["two", "house"]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", '[gateway]\nid = "gw1"'])
def test_the_first_meter_of_all(text: str) -> None:
    found = add_meter(text, METER, None, BUS)
    assert found.startswith(text)
    assert len(tomllib.loads(found)["bus"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        'bus = [{ tcp = "10.0.0.7" }]\n',
        '[bus]\ntcp = "10.0.0.7"\n',
        'note = """\n[[bus]]\n"""\n[[bus]]\ntcp = "10.0.0.7"\n',
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(NotUnderstood):
        add_meter(text, METER, 0)


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        add_meter("[[bus]\n", METER, 0)


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(
    st.lists(
        st.tuples(words, st.integers(0, 3), st.sampled_from(["", "\n", "# a word\n", "\n\n# [[bus]]\n"])), max_size=5
    ),
    st.data(),
)
def test_everything_else_stays(buses: list[tuple[str, int, str]], data: st.DataObject) -> None:
    text = '[gateway]\nid = "a"\n'
    for name, meters, between in buses:
        text += f'{between}[[bus]]\nname = "{name}"\n'
        text += "".join(f'{between}[[bus.meter]]\nname = "{name}{number}"\n' for number in range(meters))
    text += '\n[mqtt]\nhost = "x"\n'
    bus = data.draw(st.none() | st.integers(0, len(buses) - 1)) if buses else None
    found = add_meter(text, METER, bus, BUS)
    old = text.splitlines()
    kept = iter(found.splitlines())
    assert all(line in kept for line in old), "the lines of before, in their order"


@pytest.mark.parametrize(("bus", "name", "behind"), [(0, "pv", "# the fuse\n"), (1, "two", '  name = "two"\n')])
def test_a_key_goes_to_the_end_of_its_meter(bus: int, name: str, behind: str) -> None:
    found = set_keys(TEXT, bus, 0, ('word_order = "little"',))
    assert found == TEXT.replace(behind, f'{behind}word_order = "little"\n')
    meter = tomllib.loads(found)["bus"][bus]["meter"][0]
    assert (meter["name"], meter["word_order"]) == (name, "little")


def test_a_key_of_the_second_meter_of_a_line() -> None:
    found = set_keys(add_meter(TEXT, METER, 0), 0, 1, ('word_order = "little"', "scale = 10"))
    assert tomllib.loads(found)["bus"][0]["meter"][1]["scale"] == 10
    assert found.replace('word_order = "little"\nscale = 10\n', "") == add_meter(TEXT, METER, 0)


@pytest.mark.parametrize(
    "text", [TEXT.replace("unit = 1\n", 'word_order = "big"\n'), 'bus = [{ tcp = "a", meter = [{ unit = 1 }] }]']
)
def test_a_key_that_is_there_or_has_no_place_is_refused(text: str) -> None:
    with pytest.raises(NotUnderstood):
        set_keys(text, 0, 0, ('word_order = "little"',))
