"""The configuration: what is read, and every way to get it wrong, with place, value and advice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drivers.line import SerialEndpoint, TcpEndpoint
from edge import config, shape
from edge.config import ConfigError, parse
from signer.codes import Role

TOP = Path(__file__).parents[2]

GOOD = """
[gateway]
id = "home-1"
[key]
uri = "file:keys/gateway.pem"
certificate = "keys/gateway.crt"
[[bus]]
tcp = "192.168.1.20"
[[bus.meter]]
name = "house"
model = "eastron_sdm630"
unit = 1
[[bus.meter]]
name = "pv"
model = "eastron_sdm630"
unit = 2
role = "generation"
period_s = 15
[[bus]]
serial = "/dev/ttyUSB0"
[[bus.meter]]
name = "pump"
model = "eastron_sdm630"
unit = 1
[mqtt]
host = "broker.example.org"
ca = "trust/broker.pem"
[ledger]
organisations = { Org1MSP = "trust/org1.pem", Org2MSP = "trust/org2.pem" }
"""


def read(text: str = GOOD) -> config.Config:
    return parse(text, Path("/etc/aigeco/aigeco.toml"))


def problems(text: str) -> list[tuple[str, str, str, str]]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [(found.place, found.value, found.words, found.advice) for found in caught.value.problems]


def test_what_is_given_and_what_is_the_default() -> None:
    found = read()
    assert found.gateway == "home-1"
    assert found.spool == Path("/etc/aigeco/spool.db")
    assert found.budget_bytes == 1_024_000_000
    assert found.settlement_period_ms == 900_000
    assert found.receipts == 2
    assert [bus.endpoint for bus in found.buses] == [
        TcpEndpoint("192.168.1.20", 502, "tcp"),
        SerialEndpoint("/dev/ttyUSB0", 9600, "N", 1),
    ]
    house, pv = found.buses[0].meters
    assert (house.period_ms, house.role) == (60_000, Role.GRID)
    assert (pv.period_ms, pv.role, pv.subs) == (15_000, Role.GENERATION, ("pv",))
    assert found.mqtt is not None
    assert (found.mqtt.port, found.mqtt.key) == (8883, Path("/etc/aigeco/keys/gateway.pem"))
    assert found.organisations["Org2MSP"] == Path("/etc/aigeco/trust/org2.pem")


def test_the_example_is_a_whole_configuration() -> None:
    found = config.load(TOP / "docs" / "example.toml")
    assert found.gateway == "home-1"
    assert len(found.buses) == 2


def test_the_examples_commented_settings_are_their_defaults() -> None:
    text = (TOP / "docs" / "example.toml").read_text()
    plain = parse(text, Path("x.toml"))
    mutable = {"ca", "word_order", "invert", "ratio", "scale", "name", "period_s", "rated_current", "nominal_voltage"}
    spoken = re.sub(
        r"^# (\w+) = ([^#]*?)\s+#", lambda m: m[0] if m[1] in mutable else f"{m[1]} = {m[2]}  #", text, flags=re.M
    )
    assert spoken != text
    assert parse(spoken, Path("x.toml")) == plain


def test_a_relative_port_is_seen_from_the_configuration_like_every_other_path() -> None:
    """From another folder the gateway would look for another port than the technician's commands."""
    text = GOOD.replace('serial = "/dev/ttyUSB0"', 'serial = "site/rs485"')
    endpoint = next(
        bus.endpoint for bus in parse(text, Path("/etc/aigeco/aigeco.toml")).buses if "rs485" in str(bus.endpoint)
    )
    assert isinstance(endpoint, SerialEndpoint)
    assert endpoint.path == "/etc/aigeco/site/rs485"


def test_without_mqtt_nothing_is_sent() -> None:
    assert read(GOOD.split("[mqtt]")[0]).mqtt is None


def test_everything_about_one_meter() -> None:
    more = 'unit = 2\nword_order = "little"\ninvert = true\nratio = 40\nscale = 0.1\n'
    overrides = read(GOOD.replace("unit = 2\n", more)).buses[0].meters[1].overrides
    assert (overrides.word_order, overrides.invert) == ("little", True)
    assert (overrides.ratio, overrides.scale) == ((4, 1), (1, -1))


def test_plain_mqtt_has_no_files() -> None:
    text = GOOD.replace('ca = "trust/broker.pem"', "insecure = true")
    found = read(text).mqtt
    assert found is not None
    assert (found.port, found.ca, found.certificate, found.key) == (1883, None, None, None)


def test_an_address_may_be_ipv6() -> None:
    assert read(GOOD.replace("192.168.1.20", "[fe80::1%eth0]:1502")).buses[0].endpoint == TcpEndpoint(
        "fe80::1%eth0", 1502, "tcp"
    )


WRONG = {
    "an unknown key": ("role = ", "rolle = ", "bus[0].meter[1].rolle", "'generation'", "not known", "role"),
    "an unknown section": ("[mqtt]", "[mqqt]", "mqqt", "", "not known", "mqtt"),
    "a wrong type": ("unit = 2", 'unit = "2"', "bus[0].meter[1].unit", "'2'", "whole number", "unit = "),
    "a name with a space": ('"pv"', '"pv roof"', "bus[0].meter[1].name", "'pv roof'", "letters, digits", "pv-roof"),
    "a gateway with a slash": ('"home-1"', '"home/1"', "gateway.id", "'home/1'", "letters, digits", "home-1"),
    "an unknown model": ('"eastron_sdm630"', '"eastron_sdm63"', "bus[0].meter[0].model", "", "no such", "sdm630"),
    "one unit twice": ("unit = 2", "unit = 1", "bus[0].meter[1].unit", "1", "same as bus[0].meter[0].unit", "unit id"),
    "one name twice": ('"pump"', '"house"', "bus[1].meter[0].name", "", "same as bus[0].meter[0].name", "name"),
    "one line twice": (
        'serial = "/dev/ttyUSB0"',
        'tcp = "192.168.1.20:502"',
        "bus[1].tcp",
        "",
        "same as bus[0].tcp",
        "under one [[bus]]",
    ),
    "a period that does not divide an hour": ("= 15", "= 7", "bus[0].meter[1].period_s", "7", "divide", "period_s = 6"),
    "a period of a fraction": ("= 15", "= 0.5", "bus[0].meter[1].period_s", "0.5", "whole number", "period_s"),
    "an unknown role": ('"generation"', '"solar"', "bus[0].meter[1].role", "'solar'", "not a word", "generation"),
    "an unknown baud rate": ('B0"', 'B0"\nbaud = 9601', "bus[1].baud", "9601", "not one of", "9600"),
    "an unknown parity": ('B0"', 'B0"\nparity = "X"', "bus[1].parity", "'X'", "not a word", "N"),
    "no line at all": ('tcp = "192.168.1.20"', "", "bus[0].tcp", "", "neither tcp nor serial", "serial = "),
    "two lines": ('tcp = "1', 'serial = "/dev/x"\ntcp = "1', "bus[0].tcp", "", "both a TCP", "serial = "),
    "a port that is none": ("1.20", "1.20:99999", "bus[0].tcp", "'192.168.1.20:99999'", "no host and port", ":502"),
    "no CA": ('ca = "trust/broker.pem"', "", "mqtt.ca", "", "is missing", "insecure = true"),
    "plain MQTT by port only": (
        "[ledger]",
        "port = 1883\n[ledger]",
        "mqtt.port",
        "1883",
        "plain MQTT",
        "insecure = true",
    ),
    "more receipts than organisations": (
        "[ledger]",
        "[ledger]\nreceipts = 3",
        "ledger.receipts",
        "3",
        "more than there are organisations (2)",
        "receipts = 2",
    ),
    "an organisation's name": ("Org2MSP", '"Org 2"', "ledger.organisations.Org 2", "", "letters, digits", "Org-2"),
    "a missing key": ('uri = "file:keys/gateway.pem"', "", "key.uri", "", "a text is needed", "uri"),
    "a missing section": ('[gateway]\nid = "home-1"', "", "gateway", "", "is missing", "[gateway]"),
    "a small budget": ("[mqtt]", "[store]\nbudget_mb = 1\n[mqtt]", "store.budget_mb", "1", "from 16", "budget_mb"),
    "a list instead of a table": (
        "\n[gateway]",
        "store = [1]\n[gateway]",
        "store",
        "[1]",
        "a table is needed",
        "[store]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_mistake_is_named(case: str) -> None:
    old, new, place, value, words, advice = WRONG[case]
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert [problem[0] for problem in found] == [place], "one mistake, one problem"
    assert value in found[0][1]
    assert words in found[0][2]
    assert advice in found[0][3]


THREE = """
[gateway]
id = "home-1"
[key]
uri = "file:keys/gateway.pem"
certificate = "keys/gateway.crt"
[measure]
period_s = 60
[[bus]]
tcp = "192.168.1.20"
[[bus.meter]]
name = "house"
model = "eastron_sdm630"
unit = 1
[[bus.meter]]
name = "pv"
model = "eastron_sdm630"
unit = 2
[[bus]]
tcp = "192.168.1.21"
[[bus.meter]]
name = "pump"
model = "eastron_sdm630"
unit = 1
"""


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        # A period for all meters is wrong once, where it stands.
        ([("period_s = 60", "period_s = 7")], ["measure.period_s"]),
        ([("period_s = 60", "period_s = 7"), ("unit = 2", "unit = 2\nperiod_s = 11")],
         ["measure.period_s", "bus[0].meter[1].period_s"]),
        # What is no unit id is the same as nobody's: neither as a given one nor as another that is none.
        ([("unit = 2", 'unit = "two"')], ["bus[0].meter[1].unit"]),
        ([("unit = 2", "unit = 256")], ["bus[0].meter[1].unit"]),
        ([("unit = 1\n[[bus.meter]]", 'unit = -1\n[[bus.meter]]'), ("unit = 2", "unit = 300")],
         ["bus[0].meter[0].unit", "bus[0].meter[1].unit"]),
        # Nor is a model that is not known, whose usual unit id nobody can know.
        ([('"eastron_sdm630"\nunit = 1', '"acme"'), ('"eastron_sdm630"\nunit = 2', '"acme"')],
         ["bus[0].meter[0].model", "bus[0].meter[1].model"]),
        # Names, lines and addresses that are not there or none.
        ([('name = "house"\n', ""), ('name = "pv"\n', "")], ["bus[0].meter[0].name", "bus[0].meter[1].name"]),
        ([('"house"', '"a b"'), ('"pv"', '"a b"')], ["bus[0].meter[0].name", "bus[0].meter[1].name"]),
        ([('tcp = "192.168.1.20"\n', ""), ('tcp = "192.168.1.21"\n', "")], ["bus[0].tcp", "bus[1].tcp"]),
        ([('"192.168.1.20"', '"a b"'), ('"192.168.1.21"', '"a b"')], ["bus[0].tcp", "bus[1].tcp"]),
        ([("1.21", "1.20")], ["bus[1].tcp"]),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem(changes: list[tuple[str, str]], places: list[str]) -> None:
    text = THREE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    assert sorted(problem[0] for problem in problems(text)) == sorted(places)


def test_all_mistakes_are_named_at_once() -> None:
    text = GOOD.replace("unit = 2", "unit = 1").replace('"pump"', '"house"').replace("= 15", "= 7")
    found = problems(text.replace("role", "rolle").replace("[ledger]", "port = 1883\n[ledger]\nreceipts = 3"))
    assert {problem[0] for problem in found} == {
        "bus[0].meter[1].period_s",
        "bus[0].meter[1].rolle",
        "bus[0].meter[1].unit",
        "bus[1].meter[0].name",
        "mqtt.port",
        "ledger.receipts",
    }


def test_the_message_has_a_line_and_an_advice_for_each() -> None:
    with pytest.raises(ConfigError) as caught:
        read(GOOD.replace("unit = 2", "unit = 1").replace("= 15", "= 7"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "/etc/aigeco/aigeco.toml: 2 problems"
    assert len([line for line in lines if line.startswith("  try: ")]) == 2


def test_meters_without_mqtts_ledger_cannot_settle() -> None:
    found = problems(GOOD.split("[ledger]")[0])
    assert [problem[0] for problem in found] == ["ledger"]


@pytest.mark.parametrize("text", ["this is no TOML", "a = 1\na = 2", "[x"])
def test_what_is_no_toml(text: str) -> None:
    assert "is no TOML" in problems(text)[0][2]


def test_an_empty_file_lacks_its_sections() -> None:
    assert {problem[0] for problem in problems("")} >= {"gateway", "key"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "aigeco.toml")


class TestOlderFiles:
    def test_a_file_may_say_its_version(self) -> None:
        assert read("version = 1\n" + GOOD) == read()

    @pytest.mark.parametrize("value", ["0", "-1", "true", '"1"', "1.5", "[1]"])
    def test_what_is_no_version(self, value: str) -> None:
        (found,) = problems(f"version = {value}\ncolour = 1\n" + GOOD)
        assert (found[0], found[2], found[3]) == ("version", "is no version of this file", "version = 1")

    def test_of_a_newer_file_nothing_else_is_judged(self) -> None:
        (found,) = problems("version = 2\n" + GOOD.replace("role", "direction"))
        assert found[:3] == ("version", "2", "this software knows files up to version 1")

    def test_an_older_file_takes_the_steps_from_its_version_on(self) -> None:
        """What a later version will do: two settings renamed, one after the other."""

        def rename(old: str, new: str) -> shape.Step:
            def step(document: shape.Document) -> None:
                document[new] = document.pop(old)

            return step

        steps = [rename("storage", "disk"), rename("disk", "store")]
        for version, key in ((None, "storage"), (1, "storage"), (2, "disk"), (3, "store")):
            document = {key: {"path": "x.db"}, **({} if version is None else {"version": version})}
            assert shape.up_to_date(document, steps) is None
            assert document == {"store": {"path": "x.db"}}
        too_new = shape.up_to_date({"version": 4, "store": {}}, steps)
        assert too_new is not None
        assert "up to version 3" in too_new.words
