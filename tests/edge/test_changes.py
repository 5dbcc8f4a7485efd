"""What is different between two configurations, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import config
from edge.changes import compare

TEXT = """
[gateway]
id = "home-1"
[key]
uri = "file:keys/gateway.pem"
certificate = "keys/gateway.crt"
[store]
budget_mb = 64
[measure]
period_s = 60
[mqtt]
host = "broker"
insecure = true
[ledger]
organisations = { Org1MSP = "trust/Org1MSP.pem", Org2MSP = "trust/Org2MSP.pem" }
[[bus]]
name = "cellar"
serial = "/dev/ttyUSB0"
[[bus.meter]]
name = "house"
model = "eastron_sdm630"
unit = 1
[[bus.meter]]
name = "pump"
model = "eastron_sdm630"
unit = 2
[[bus]]
tcp = "192.168.1.20:502"
[[bus.meter]]
name = "pv"
model = "eastron_sdm630"
unit = 1
"""
PATH = Path("/etc/aigeco/aigeco.toml")


def difference(*changes: tuple[str, str]) -> tuple[list[str], list[str], list[str]]:
    """(words, meters, places that need a restart) after replacing text."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    found = compare(config.parse(TEXT, PATH), config.parse(text, PATH))
    assert all(problem.advice == "systemctl restart aigeco" for problem in found.restart)
    return list(found.words), list(found.meters), [problem.place for problem in found.restart]


PUMP = '[[bus.meter]]\nname = "pump"\nmodel = "eastron_sdm630"\nunit = 2\n'
PV = '[[bus]]\ntcp = "192.168.1.20:502"\n[[bus.meter]]\nname = "pv"\nmodel = "eastron_sdm630"\nunit = 1\n'


@pytest.mark.parametrize(
    ("old", "new", "words", "meters"),
    [
        ("", "# only words\n", [], []),
        ('name = "house"\nmodel', 'model = "eastron_sdm630"\nname = "house"\n# model', [], []),
        (PUMP, "", ["meter pump removed"], []),
        (PV, "", ["line 192.168.1.20:502 removed", "meter pv removed"], []),
        (
            PUMP,
            PUMP + '[[bus.meter]]\nname = "car"\nmodel = "eastron_sdm630"\nunit = 3\nperiod_s = 10\n',
            ["meter car added: eastron_sdm630, unit 3 on cellar, every 10 s"],
            ["car"],
        ),
        (
            PV,
            PV + PV.replace("20", "21").replace("pv", "roof"),
            [
                "line 192.168.1.21:502 added",
                "meter roof added: eastron_sdm630, unit 1 on 192.168.1.21:502, every 60 s",
            ],
            ["roof"],
        ),
        (
            'serial = "/dev/ttyUSB0"',
            'serial = "/dev/ttyUSB0"\nbaud = 19200',
            ["line cellar opened anew: /dev/ttyUSB0 at 9600 8N1 -> /dev/ttyUSB0 at 19200 8N1"],
            [],
        ),
        ("unit = 2", "unit = 7\nperiod_s = 10", ["meter pump changed: unit 2 -> 7, period 60 s -> 10 s"], ["pump"]),
        (
            "unit = 2",
            'unit = 2\nrole = "storage"\ninvert = true\nratio = 40\nrated_current = 63',
            [
                "meter pump changed: role grid -> storage, invert not set -> true, ratio not set -> 40,"
                " rated_current not set -> 63"
            ],
            ["pump"],
        ),
        (
            'model = "eastron_sdm630"\nunit = 2',
            'model = "eastron_sdm220"\nunit = 2',
            ["meter pump changed: model eastron_sdm630 -> eastron_sdm220"],
            ["pump"],
        ),
        (
            "period_s = 60",
            "period_s = 30",
            [f"meter {name} changed: period 60 s -> 30 s" for name in ("house", "pump", "pv")],
            ["house", "pump", "pv"],
        ),
        (
            "budget_mb = 64\n[measure]",
            "budget_mb = 128\n[measure]\nsettlement_period_s = 300",
            ["store.budget_mb: 64 -> 128", "measure.settlement_period_s: 900 -> 300"],
            [],
        ),
    ],
)
def test_what_is_taken_while_it_runs(old: str, new: str, words: list[str], meters: list[str]) -> None:
    assert difference((old, new)) == (words, meters, [])


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('id = "home-1"', 'id = "home-2"', "gateway.id"),
        ("file:keys/gateway.pem", "file:keys/other.pem", "key.uri"),
        ("keys/gateway.crt", "keys/other.crt", "key.certificate"),
        ("[store]", '[store]\npath = "other.db"', "store.path"),
        ('host = "broker"', 'host = "other"', "mqtt"),
        ("insecure = true", "insecure = true\nsend_every_s = 60", "mqtt"),
        (', Org2MSP = "trust/Org2MSP.pem"', "", "ledger.organisations"),
        ("[ledger]", "[ledger]\nreceipts = 1", "ledger.receipts"),
    ],
)
def test_what_needs_a_restart(old: str, new: str, place: str) -> None:
    words, meters, places = difference((old, new), ("unit = 2", "unit = 3"))
    assert place in places
    assert (words, meters) == (["meter pump changed: unit 2 -> 3"], ["pump"])


def test_a_meter_on_another_line_is_the_same_meter() -> None:
    moved = PUMP.replace("unit = 2", "unit = 9")
    words, meters, _ = difference((PUMP, ""), (PV, PV + moved))
    assert words == ["meter pump changed: line cellar -> 192.168.1.20:502, unit 2 -> 9"]
    assert meters == ["pump"]


def test_a_map_of_ones_own_that_says_something_else(tmp_path: Path) -> None:
    catalogue = Path(config.__file__).parents[1] / "drivers/catalogue/eastron_sdm630.toml"
    own = tmp_path / "own.toml"
    own.write_text(catalogue.read_text())
    text = TEXT.replace("eastron_sdm630", "own.toml")
    before = config.parse(text, tmp_path / "aigeco.toml")
    own.write_text(catalogue.read_text() + "\n# read again\n")
    found = compare(before, config.parse(text, tmp_path / "aigeco.toml"))
    assert found.words[0].startswith("meter house changed: the map ")
    assert found.meters == ("house", "pump", "pv")
