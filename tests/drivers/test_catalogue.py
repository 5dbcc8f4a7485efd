"""The catalogue as a whole: every file loads, and says what a settlement needs to know."""

from __future__ import annotations

import pytest

from drivers.decode import decode
from drivers.map import CATALOGUE, load, names
from drivers.obis import BY_KEY, pack
from drivers.plan import RTU_OVERHEAD_BYTES, plan
from drivers.reading import Block
from drivers.sunspec import layout

FIRST = [
    "abb_b23_b24",
    "carlo_gavazzi_em24_rs485",
    "carlo_gavazzi_em330_em340",
    "chint_dtsu666",
    "circutor_cem-c21_c31",
    "eastron_sdm120",
    "eastron_sdm630",
    "fronius_sunspec",
    "goodwe_dt",
    "goodwe_et",
    "huawei_sun2000",
    "saia-burgess_ale3_awd3",
    "schneider_iem3155_iem3255",
    "solaredge_inverter",
    "solaredge_meter_via_inverter",
    "sunspec_generic",
]
NOT_FOR_SETTLEMENT = {
    "abb_d13",
    "algodue_uem80",
    "carlo_gavazzi_em21",
    "circutor_cvm-144",
    "circutor_cvm-c10_c11",
    "circutor_cvm-e3-mini",
    "circutor_wibeee",
    "circutor_wibeee_3p",
    "deye_sun-sg01hp3",
    "e3dc_hauskraftwerk",
    "hiking_dds238-2",
    "huawei_emma",
    "ingeteam_ingecon-sun-1play",
    "peacefair_pzem-003_pzem-017",
    "peacefair_pzem-004t_pzem-016",
    "shelly_pro-3em",
    "shelly_pro-em",
    "siemens_pac3200",
    "siemens_pac4200",
    "sigenergy_plant",
    "victron_gx_system",
}
TWO_POINTS = {
    "alpha-ess_smile",
    "deye_sun-sg01hp3",
    "deye_sun-sg04lp3",
    "deye_sun-sg0xlp1",
    "e3dc_hauskraftwerk",
    "fox-ess_h3",
    "fox-ess_h3-smart",
    "goodwe_dt",
    "goodwe_et",
    "goodwe_et_u64",
    "growatt_legacy",
    "growatt_tl-x_tl-xh",
    "huawei_emma",
    "ingeteam_ingecon-sun-1play",
    "kostal_plenticore",
    "sigenergy_plant",
    "sma_data-manager",
    "sofar_g3",
    "sofar_hyd-es",
    "solax_hybrid",
    "solax_string",
    "solinteg_mht",
    "solis_hybrid",
    "solis_string",
    "sungrow_sg",
    "sungrow_sh",
    "victron_gx_system",
}


def test_the_catalogue_is_complete() -> None:
    assert len(names()) >= 136
    assert set(FIRST) <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_file_loads_and_reads_well(name: str) -> None:
    meter_map = load(name)
    source = (CATALOGUE / f"{name}.toml").read_text()
    assert source.startswith("# "), "a file begins with what it is about"
    assert source.endswith("\n")
    assert not any(line != line.rstrip() for line in source.splitlines())
    assert meter_map.sources
    assert meter_map.serial or meter_map.tcp or name.startswith(("janitza_umg104", "socomec", "weidmueller"))


@pytest.mark.parametrize("name", names())
def test_every_map_says_what_may_be_billed(name: str) -> None:
    meter_map = load(name)
    every = [*meter_map.registers, *(register for model in meter_map.models for register in model.registers)]
    billing = [register for register in every if register.billing]
    assert meter_map.settlement == bool(billing)
    assert meter_map.settlement != (name in NOT_FOR_SETTLEMENT)
    assert bool(meter_map.settlement_reason) != meter_map.settlement
    assert all(register.phase == "total" and BY_KEY[register.key].unit == "Wh" for register in billing)


@pytest.mark.parametrize("name", names())
def test_points_of_a_device_that_has_several(name: str) -> None:
    meter_map = load(name)
    assert meter_map.points == (("pv", "grid") if name in TWO_POINTS else ("",))
    generated = {r.point for r in meter_map.registers if "generation" in r.quantity}
    assert generated <= {"pv" if name in TWO_POINTS else ""}


@pytest.mark.parametrize("name", names())
def test_every_register_of_a_map_decodes_from_its_own_plan(name: str) -> None:
    meter_map = load(name)
    if meter_map.scheme == "sunspec":
        numbers = [1, *(model.ids[0] for model in meter_map.models)]
        meter_map = layout(meter_map, [(number, 40002 + 200 * at) for at, number in enumerate(numbers)])
    blocks = [Block(r.function, r.address, bytes(2 * r.count)) for r in plan(meter_map, RTU_OVERHEAD_BYTES)]
    decoded = decode(meter_map, blocks)
    assert [item.key for item in decoded] == [register.key for register in meter_map.registers]
    assert len({(item.point, item.key) for item in decoded}) == len(decoded)


def test_facts_that_money_hangs_on() -> None:
    """Addresses, scales and signs on which sources disagree or which are easily got wrong."""

    def of(name: str, code: str, point: str = "") -> tuple[int, int, str, tuple[int, int]]:
        (register,) = [r for r in load(name).registers if r.key == pack(code) and r.point == point]
        return register.function, register.address, register.type, register.scale

    assert of("eastron_sdm630", "1.8.0") == (4, 72, "f32", (1, 3))
    assert of("carlo_gavazzi_em24_rs485", "1.8.0") == (4, 62, "s32", (1, 2))
    assert of("carlo_gavazzi_em330_em340", "2.8.0") == (4, 78, "s32", (1, 2))
    assert of("carlo_gavazzi_em111_em112", "31.7.0") == (4, 2, "s32", (1, -3))
    assert of("abb_b23_b24", "1.8.0") == (3, 0x5000, "u64", (1, 1))
    assert of("chint_dtsu666", "1.8.0") == (3, 0x101E, "f32", (1, 3))
    assert of("schneider_iem3155_iem3255", "1.8.0") == (3, 3203, "s64", (1, 0))
    assert of("circutor_cem-c21_c31", "2.8.0") == (3, 2, "u32", (1, 0))
    assert of("huawei_sun2000", "2.8.0") == (3, 32106, "u32", (1, 1))
    assert of("huawei_sun2000_power_meter", "16.7.0") == (3, 37113, "s32", (-1, 0))
    assert of("goodwe_et", "2.8.0", "pv") == (3, 35191, "u32", (1, 2))
    assert of("goodwe_et", "16.7.0", "grid") == (3, 36025, "s32", (-1, 0))
    assert of("solaredge_meter_via_inverter", "16.7.0") == (3, 40206, "s16", (-1, 0))
    assert of("siemens_pac2200", "14.7.0") == (4, 55, "f32", (1, 0))
    assert of("sungrow_sh", "16.7.0", "grid") == (4, 13009, "s32", (-1, 0))


def test_energies_of_the_primary_side_are_not_multiplied_again() -> None:
    primary = {register.quantity for register in load("chint_dtsu666").registers if register.primary}
    assert primary == {"active_energy_import", "active_energy_export"}
