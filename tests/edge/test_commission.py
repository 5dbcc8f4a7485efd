"""What a meter says beside what it can be, and what would make it so: over the words of simulated meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from drivers import map as maps
from drivers.checks import Limits
from drivers.decode import Overrides, decode
from drivers.map import MeterMap
from drivers.obis import BY_NAME
from drivers.plan import TCP_OVERHEAD_BYTES, plan
from drivers.reading import Block
from edge.commission import Candidate, Known, candidates, rows
from hw_sim.device import MapDevice
from signer.codes import Role

SDM, EM = maps.load("eastron_sdm630"), maps.load("carlo_gavazzi_em330_em340")
HOUSE = Known(Role.CONSUMPTION, Limits())

VOLTS = (230.5, 229.1, 231.8)
AMPERES = (6.0, 2.5, 9.0)
FACTORS = (0.95, 0.9, 0.99)


def quantities(**changes: float) -> dict[str, float]:
    """A three-phase load in units; ``changes`` by ``name_phase``."""
    found = {"frequency": 50.02, "active_energy_import": 9_123_500.0, "active_energy_export": 0.0}
    for index, phase in enumerate(("L1", "L2", "L3")):
        found[f"voltage_{phase}"] = VOLTS[index]
        found[f"current_{phase}"] = AMPERES[index]
        found[f"power_factor_{phase}"] = FACTORS[index]
        found[f"active_power_{phase}"] = VOLTS[index] * AMPERES[index] * FACTORS[index]
    found.update({name: value for name, value in changes.items() if not name.startswith("active_power_total")})
    found["active_power"] = sum(found[f"active_power_{phase}"] for phase in ("L1", "L2", "L3"))
    return found


def words(meter_map: MeterMap, shown: Mapping[str, float]) -> tuple[Block, ...]:
    """What a meter that shows this has in its registers."""
    keys = {}
    for name, value in shown.items():
        quantity, _, phase = name.rpartition("_")
        at = (quantity, phase) if phase in ("L1", "L2", "L3") else (name, "total")
        keys[BY_NAME[at].key] = round(value * 1e6)
    device = MapDevice(meter_map, lambda at_s: {"": keys})
    return tuple(
        Block(each.function, each.address, device.read(each.function, each.address, each.count, 0.0))
        for each in plan(meter_map, TCP_OVERHEAD_BYTES)
    )


def swapped_words(blocks: Sequence[Block], meter_map: MeterMap) -> tuple[Block, ...]:
    """The same with the two words of every number in the other order."""
    found = []
    for block in blocks:
        data = bytearray(block.words)
        for register in meter_map.registers:
            at = 2 * (register.address - block.address)
            if register.count == 2 and 0 <= at <= len(data) - 4:
                data[at : at + 4] = data[at + 2 : at + 4] + data[at : at + 2]
        found.append(replace(block, words=bytes(data)))
    return tuple(found)


def swapped_bytes(blocks: Sequence[Block]) -> tuple[Block, ...]:
    return tuple(
        replace(
            block, words=bytes(byte for at in range(0, len(block.words), 2) for byte in block.words[at : at + 2][::-1])
        )
        for block in blocks
    )


def first(meter_map: MeterMap, blocks: Sequence[Block], known: Known = HOUSE) -> Candidate:
    found = candidates(meter_map, blocks, "", Overrides(), known)
    assert found, [row for row in rows(decode(meter_map, blocks), known) if row.wrong]
    return found[0]


@pytest.mark.parametrize("meter_map", [SDM, EM])
def test_what_is_in_order_is_left_alone(meter_map: MeterMap) -> None:
    blocks = words(meter_map, quantities())
    assert [row for row in rows(decode(meter_map, blocks), HOUSE) if row.wrong] == []
    assert candidates(meter_map, blocks, "", Overrides(), HOUSE) == ()


@pytest.mark.parametrize("meter_map", [SDM, EM])
def test_word_order(meter_map: MeterMap) -> None:
    found = first(meter_map, swapped_words(words(meter_map, quantities()), meter_map))
    usual = next(each.word_order for each in meter_map.registers if each.count == 2)
    other = "little" if usual == "big" else "big"
    assert found.settings == (f'word_order = "{other}"',)
    assert found.words == f"word order {other}"
    assert found.wrong == 0


def test_byte_order() -> None:
    found = first(SDM, swapped_bytes(words(SDM, quantities())))
    assert found.words == "the bytes of each register swapped"
    assert found.settings == ()
    assert "no setting" in found.advice
    assert found.wrong == 0


def test_words_and_bytes() -> None:
    found = first(SDM, swapped_bytes(swapped_words(words(SDM, quantities()), SDM)))
    assert found.words == "word order little, the bytes of each register swapped"


def test_powers_in_kilowatts() -> None:
    shown = {name: value / 1000 if name.startswith("active_") else value for name, value in quantities().items()}
    found = first(SDM, words(SDM, shown))
    assert found.settings == ("scale = 1000",)
    assert found.words == "powers and energies x 10^3"


def test_everything_on_the_primary_side_too_large() -> None:
    shown = quantities()
    shown = {name: value * 10 if "voltage" in name else value for name, value in shown.items()}
    shown = {name: value * 10 if name.startswith("active_power") else value for name, value in shown.items()}
    found = first(SDM, words(SDM, shown))
    assert "V x 10^-1" in found.words
    assert "aigeco maps list" in found.advice


def test_the_transformers_the_wrong_way_round() -> None:
    shown = {name: -value if name.startswith("active_power") else value for name, value in quantities().items()}
    found = first(SDM, words(SDM, shown))
    assert found.settings == ("invert = true",)
    assert found.wrong == 0


def test_one_transformer_the_wrong_way_round() -> None:
    shown = quantities(active_power_L2=-VOLTS[1] * AMPERES[1] * FACTORS[1])
    found = first(SDM, words(SDM, shown))
    assert found.words == "the other direction of L2"
    assert found.settings == ()
    assert "turn the current transformer" in found.advice


def test_currents_on_other_phases() -> None:
    found = first(SDM, words(SDM, quantities(current_L1=AMPERES[1], current_L2=AMPERES[2], current_L3=AMPERES[0])))
    assert found.words == "currents in the order L3 L1 L2"
    assert found.wrong == 0


def test_generation_gives_power_away() -> None:
    roof = Known(Role.GENERATION, Limits())
    assert first(SDM, words(SDM, quantities()), roof).settings == ("invert = true",)


def test_a_known_fuse_makes_the_range_narrower() -> None:
    blocks = words(SDM, quantities(current_L1=200.0, active_power_L1=200 * 230.5 * 0.95))
    assert not any(row.wrong for row in rows(decode(SDM, blocks), HOUSE))
    fused = Known(Role.CONSUMPTION, Limits(current_a=16, voltage_v=230))
    wrong = [row for row in rows(decode(SDM, blocks), fused) if row.wrong]
    assert (wrong[0].number, wrong[0].high) == (200.0, 48.0)
    assert len(wrong) == 3, "and what such a current makes: the power of the phase and of all"


def test_a_meter_that_shows_nothing_has_no_candidates() -> None:
    blocks = words(SDM, dict.fromkeys(quantities(), 0.0))
    assert {row.wrong for row in rows(decode(SDM, blocks), HOUSE)} >= {"nothing, under voltage"}
    assert candidates(SDM, blocks, "", Overrides(), HOUSE) == ()


def test_any_words_at_all_are_judged() -> None:
    for byte in (0x00, 0x7F, 0x80, 0xFF, 0x5A):
        blocks = tuple(replace(block, words=bytes([byte]) * len(block.words)) for block in words(SDM, quantities()))
        candidates(SDM, blocks, "", Overrides(), HOUSE)
