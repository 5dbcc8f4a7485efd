"""``aigeco maps``: the catalogue in sight, a map tested alone, and the guide of docs/catalogue.md as it is written."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.map import CATALOGUE, MapError, load, names
from edge import config
from edge.cli.exits import Exit
from edge.cli.mapcheck import SIMULATOR
from hw_sim import frames
from hw_sim.readback import specimens
from hw_sim.station import Station
from hw_sim.wire import Wire

Aigeco = Callable[..., Any]

GUIDE = (Path(__file__).parents[2] / "docs" / "catalogue.md").read_text()
(ACME,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
(DUMP,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
ALL = ("schema", "quantities", "overlaps", "limits", "billing", "plan", "golden dump", "TCP", "RTU")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An integrator's folder, and we are in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def transcripts() -> Iterator[tuple[str, list[str]]]:
    """(command, lines that follow it) of every indented block of the guide that begins with a prompt."""
    for block in re.findall(r"(?:^    [^\n]*\n)+", GUIDE, re.MULTILINE):
        first, *more = (line[4:] for line in block.splitlines())
        if first.startswith("$ aigeco "):
            yield first.removeprefix("$ aigeco "), more


def section(lines: list[str], name: str) -> list[str]:
    """The line of a check and what stands below it."""
    start = next(at for at, line in enumerate(lines) if line[9:].startswith(f"{name} "))
    end = next(at for at, line in enumerate(lines[start + 1 :], start + 1) if not line.startswith("  "))
    return lines[start:end]


def test_the_guide_is_what_happens(aigeco: Aigeco, folder: Path) -> None:
    new, first, second = transcripts()
    assert aigeco(*new[0].split()).out.splitlines() == new[1]

    (folder / "acme_one.toml").write_text(ACME)
    done = aigeco(*first[0].split())
    assert done.out.splitlines() == first[1]
    assert done.code == 0

    (folder / "acme_one.yaml").write_text(DUMP)
    done = aigeco(*second[0].split())
    shown = [line for line in second[1] if line != "..."]
    assert [line for line in done.out.splitlines() if line in shown] == shown
    assert done.code == 0

    (planted,) = re.findall(r"Had the power been put at 63:\n\n((?:    [^\n]*\n)+)", GUIDE)
    (folder / "acme_one.toml").write_text(ACME.replace("address = 40", "address = 63"))
    wrong = aigeco("maps", "check", "acme_one.toml")
    assert section(wrong.out.splitlines(), "overlaps") == [line[4:] for line in planted.splitlines()]
    assert wrong.code == 1


def test_the_guides_configuration_takes_the_file(aigeco: Aigeco, folder: Path, site: Any) -> None:
    (setting,) = re.findall(r'^    (model = "maps/.*)$', GUIDE, re.MULTILINE)
    maps = site.folder / "maps"
    maps.mkdir()
    (maps / "acme_one.toml").write_text(ACME)
    site.change('model = "eastron_sdm630"', setting)
    (meter,) = config.load(site.config).buses[0].meters
    assert (meter.map.name, meter.map.data) == ("acme_one", ACME.encode())
    assert aigeco("config", "check", site.config).code == 0
    (maps / "acme_one.toml").unlink()
    wrong = aigeco("config", "check", site.config)
    assert wrong.code == Exit.CONFIG
    assert "bus[0].meter[0].model: 'maps/acme_one.toml': No such file" in wrong.out


def test_what_is_wrong_in_a_file_is_said_at_its_meter(site: Any) -> None:
    (site.folder / "one.toml").write_text(ACME.replace('"voltage"', '"votlage"'))
    site.change('model = "eastron_sdm630"', 'model = "one.toml"')
    with pytest.raises(config.ConfigError) as caught:
        config.load(site.config)
    assert all("register 1 (votlage)" in problem.words for problem in caught.value.problems)


def test_read_and_decode_take_a_file(aigeco: Aigeco, folder: Path) -> None:
    (folder / "acme_one.toml").write_text(ACME)
    (folder / "x.yaml").write_text(DUMP)
    shown = json.loads(aigeco("decode", "acme_one.toml", "x.yaml", "--json").out)
    assert shown["model"] == "acme_one"
    assert [value["value"] for value in shown["values"]] == ["230.1", "228.9", "230.7", "-125", "10000000"]
    with simulated("acme_one.toml") as port:
        read = aigeco("read", "acme_one.toml", "--tcp", f"127.0.0.1:{port}", "--dump", "acme_one.yaml")
    assert read.code == 0, read.err
    assert "active energy import" in read.out
    assert "warning" not in read.out
    assert aigeco("maps", "check", "acme_one.toml").out.endswith("acme_one.toml: ok\n")


@pytest.mark.parametrize("model", ["eastron_sdm630", "abb_b23_b24", "sunspec_generic", "goodwe_et"])
def test_what_was_read_is_a_golden_dump(aigeco: Aigeco, folder: Path, model: str) -> None:
    shutil.copy(CATALOGUE / f"{model}.toml", folder)
    with simulated(model) as port:
        read = ("read", f"{model}.toml", "--tcp", f"127.0.0.1:{port}", "--unit", 1, "--dump", f"{model}.yaml")
        said = aigeco(*read, "--json")
        again = aigeco(*read)
    kept = (folder / f"{model}.yaml").read_text()
    checks = {
        one["check"]: one
        for one in json.loads(aigeco("maps", "check", f"{model}.toml", "--json").out)["maps"][0]["checks"]
    }
    assert checks["golden dump"]["state"] == "ok"
    assert kept.count("\n- {") == len(json.loads(said.out)["values"])
    assert "10000001" not in kept, "a serial number is nobody's business"
    assert again.code == Exit.USAGE
    assert "is there already" in again.problem[0]


class simulated:
    """A meter of a map on a TCP port; ``settings`` are words that it holds at addresses of holding registers."""

    def __init__(self, model: str, **settings: int) -> None:
        specimen = next(specimens(load(model)))
        for look in (each.look for each in specimen.map.preconditions if each.look):
            memory, start = specimen.device._memory.place(look.function, look.address)
            memory[start : start + 2] = settings.get("says", look.expected[0]).to_bytes(2)  # type: ignore[union-attr]
        self._wire = Wire()
        self._port = self._wire.tcp("127.0.0.1", 0, [Station("meter", 1, specimen.device)], frames.TCP).port

    def __enter__(self) -> int:
        self._wire.start()
        return self._port

    def __exit__(self, *_: object) -> None:
        self._wire.close()


def test_a_setting_that_is_not_right_is_reported(aigeco: Aigeco) -> None:
    with simulated("carlo_gavazzi_em330_em340", says=0) as port:
        read = aigeco("read", "carlo_gavazzi_em330_em340", "--tcp", f"127.0.0.1:{port}")
        shape = json.loads(aigeco("read", "carlo_gavazzi_em330_em340", "--tcp", f"127.0.0.1:{port}", "--json").out)
    assert read.code == 0, "reported, and no more than that"
    assert read.out.splitlines()[-1] == (
        "warning: register 4355 says 0, not 1: measurement mode B, or power has no sign"
    )
    assert shape["preconditions"] == [
        {"words": "measurement mode B, or power has no sign", "said": "0", "holds": False}
    ]


def test_what_only_a_person_can_see_is_said(aigeco: Aigeco) -> None:
    with simulated("carlo_gavazzi_em24_e1") as port:
        read = aigeco("read", "carlo_gavazzi_em24_e1", "--tcp", f"127.0.0.1:{port}", "--unit", 1)
    assert read.out.splitlines()[-1] == "to look at on the device: firmware 1.8.3 or later"


def test_list_shows_every_model(aigeco: Aigeco) -> None:
    shown = aigeco("maps", "list")
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(names())
    assert lines[-1] == f"{len(names())} models"


def test_list_searches(aigeco: Aigeco) -> None:
    found = json.loads(aigeco("maps", "list", "GAVAZZI", "em24", "--json").out)["maps"]
    assert [one["name"] for one in found] == ["carlo_gavazzi_em24_e1", "carlo_gavazzi_em24_rs485"]
    assert found[1] == {
        "name": "carlo_gavazzi_em24_rs485",
        "manufacturer": "Carlo Gavazzi",
        "model": "EM24-DIN (RS485)",
        "kind": "meter",
        "phases": 3,
        "settlement": True,
        "confirmed": True,
        "transports": ["rtu"],
    }
    kinds = {one["kind"] for one in json.loads(aigeco("maps", "list", "--kind", "both", "--json").out)["maps"]}
    assert kinds == {"both"}
    nothing = aigeco("maps", "list", "perpetuum", "mobile")
    assert (nothing.code, nothing.out) == (
        0,
        "0 models; fewer words find more, and aigeco maps new NAME begins a new one\n",
    )
    folder = aigeco("maps", "new", "acme/one")
    assert (folder.code, folder.problem[0]) == (2, "acme/one.toml: No such file or directory")
    assert "try: another folder, or make this one" in folder.err


@pytest.mark.parametrize("name", names())
def test_show_shows_every_map(aigeco: Aigeco, name: str) -> None:
    meter_map = load(name)
    shown = aigeco("maps", "show", name)
    assert (shown.code, shown.err) == (0, "")
    shape = json.loads(aigeco("maps", "show", name, "--json").out)
    assert shape["name"] == name
    assert shape["sources"] == list(meter_map.sources)
    assert len(shape["registers"]) == len(meter_map.registers)
    assert len(shape["plans"]) == 2 * max(1, len(meter_map.models))
    assert all(plan["requests"] and plan["time_s"] > 0 for plan in shape["plans"])


def test_show_says_what_a_technician_needs(aigeco: Aigeco) -> None:
    lines = aigeco("maps", "show", "carlo_gavazzi_em24_rs485").out.splitlines()
    assert "serial line: 9600 baud 8N1, unit 1 (as sources state)" in lines
    assert "for settlements: active energy import, active energy export" in lines
    assert "known by: input register 11 (u16) says 71 or 72 or 73" in lines
    at = next(index for index, line in enumerate(lines) if line.startswith("before it is right: application H"))
    assert lines[at + 1] == "  holding register 4353 (u16) says 7"
    assert "before it is right: no PFA variant, which adds import and export up; a PFB" in lines
    assert "  counts only while power is positive" in lines
    (row,) = [line for line in lines if line.startswith("active power  ")]
    assert row.split() == ["active", "power", "16.7.0", "input", "40", "s32", "little", "0.1", "W"]
    assert any(re.fullmatch(r"RTU at 9600 baud: 9 requests, 0\.\d\d s", line) for line in lines)
    assert "  input 0..5 (6)" in lines


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_map_that_is_not_there(aigeco: Aigeco, command: str, folder: Path) -> None:
    for name in ("eastron_sdm360", "nowhere.toml"):
        asked = aigeco("maps", command, name)
        assert asked.code == Exit.USAGE
        assert name in asked.problem[0]
        assert asked.problem[1]


CHECKED = ["eastron_sdm630", "carlo_gavazzi_em24_rs485", "sunspec_generic", "goodwe_et", "algodue_uem80"]


def test_maps_of_the_catalogue_pass(aigeco: Aigeco) -> None:
    done = aigeco("maps", "check", *CHECKED, "--json")
    shape = json.loads(done.out)
    assert (done.code, shape["ok"]) == (0, True)
    assert [one["map"] for one in shape["maps"]] == CHECKED
    for one in shape["maps"]:
        assert [(check["check"], check["state"]) for check in one["checks"]] == [(name, "ok") for name in ALL]


# (what is planted, what takes its place, the check that finds it, words of the problem)
PLANTED = [
    ('manufacturer = "Acme"', "manufacturer = 7", "schema", "manufacturer: 7: a text is needed here"),
    ("phases = 3", "phases = 3\nfases = 3", "schema", "fases: 3: a key that is not known here"),
    ("address = 40", "address = 65535", "schema", "its 2 registers end after 65535"),
    ('quantity = "voltage"', 'quantity = "volts"', "quantities", "volts L1': no such quantity in that phase"),
    ("address = 40", 'address = 40\nunit = "kW"', "quantities", "unit: 'kW': active_power total has unit W"),
    ("address = 40", 'address = 40\nobis = "1.7.0"', "quantities", "active_power total has obis 16.7.0"),
    ("address = 40", "address = 63", "overlaps", "overlaps"),
    ("max_registers = 50", "max_registers = 1", "limits", "longer than max_registers 1"),
    ("max_registers = 50", "max_registers = 50\nforbidden = [[41, 41]]", "limits", "lies in the forbidden range"),
    ("billing = true", "", "billing", "no register is for billing"),
    ("billing = true", "billing = true\nresettable = true", "billing", "not for this quantity"),
    ("address = 40", 'address = 40\ntype = "s16"\nscale = "0.01"', "RTU", "the device shows -806"),
    ("address = 11", "address = 1", "TCP", "unit 1 is no Acme One"),
]


@pytest.mark.parametrize(("good", "wrong", "check", "words"), PLANTED)
def test_a_planted_fault_is_found_by_its_check(
    aigeco: Aigeco, folder: Path, good: str, wrong: str, check: str, words: str
) -> None:
    assert ACME.count(good) == 1
    text = ACME.replace(good, wrong)
    text = text.replace('scale = "0.01"\nscale = "0.1"', 'scale = "0.01"')  # a key stands once
    (folder / "acme_one.toml").write_text(text)
    done = aigeco("maps", "check", "acme_one.toml", "--json")
    assert done.code == 1
    (shape,) = json.loads(done.out)["maps"]
    states = {one["check"]: one for one in shape["checks"]}
    assert states[check]["state"] == "failed"
    problems = states[check]["problems"]
    assert any(words in ": ".join((each["place"], each["value"], each["words"])) for each in problems), problems
    assert all(each["advice"] for each in problems)


def test_a_golden_dump_that_says_otherwise_fails(aigeco: Aigeco, folder: Path) -> None:
    (folder / "acme_one.toml").write_text(ACME)
    (folder / "acme_one.display.yaml").write_text(DUMP.replace("230.1", "231.0"))
    done = aigeco("maps", "check", "acme_one.toml")
    assert done.code == 1
    assert section(done.out.splitlines(), "golden dump") == [
        "failed   golden dump  1 problem",
        "  acme_one.display.yaml: voltage L1: 231.0: the map makes 230.1 of it",
        "    try: check address, type, word order and scale",
    ]


def test_a_file_that_is_no_toml_is_asked_nothing_further(aigeco: Aigeco, folder: Path) -> None:
    (folder / "x.toml").write_text("manufacturer = \n")
    done = aigeco("maps", "check", "x.toml", "--json")
    (shape,) = json.loads(done.out)["maps"]
    assert [one["state"] for one in shape["checks"]] == ["failed", "skipped", "skipped", "skipped", "skipped"]


def test_without_the_simulator_the_rest_is_checked(
    aigeco: Aigeco, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "acme_one.toml").write_text(ACME)
    for name in [name for name in sys.modules if name.split(".")[0] == "hw_sim"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [Without(SIMULATOR.split(".")[0])])
    done = aigeco("maps", "check", "acme_one.toml")
    assert done.code == 0
    assert done.out.splitlines()[-2].startswith("skipped  RTU          the simulator is not installed here")
    assert done.out.splitlines()[-1] == "acme_one.toml: ok, 3 skipped"


class Without:
    """An installation without one package."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Nothing is found here."""
        if name.split(".")[0] == self._package:
            raise ModuleNotFoundError(f"No module named {self._package!r}", name=self._package)


def test_new_writes_a_form_and_check_lists_what_is_missing(aigeco: Aigeco, folder: Path) -> None:
    assert aigeco("maps", "new", "acme").code == 0
    done = aigeco("maps", "check", "acme.toml")
    assert done.code == 1
    for place in (
        "manufacturer",
        "model",
        "kind",
        "phases",
        "sources",
        "register 1 (voltage): address",
        "serial: baud",
    ):
        assert f"\n  {place}: " in done.out


def test_a_form_without_its_remarks_fills_in(folder: Path, aigeco: Aigeco) -> None:
    """Every commented key of the form is a key that there is."""
    aigeco("maps", "new", "acme")
    form = (folder / "acme.toml").read_text()
    filled = re.sub(r"^# ((?:[a-z_]+ = |\[)[^\n]*)", r"\1", form, flags=re.MULTILINE)
    for blank, value in (
        ('""', '"meter"'),
        ("phases = 0", "phases = 3"),
        ("sources = []", 'sources = ["x"]'),
        ("baud = 0", "baud = 9600"),
        ("stopbits = 0", "stopbits = 1"),
        ('parity = "meter"', 'parity = "N"'),
        ("settlement = false\n", "settlement = true\n"),
        ("settlement_reason = ", "# "),
    ):
        filled = filled.replace(blank, value)
    (folder / "acme.toml").write_text(filled)
    done = aigeco("maps", "check", "acme.toml")
    assert "a key that is not known" not in done.out
    assert [line for line in done.out.splitlines() if line.startswith("failed")] == []


def test_new_from_a_relative_takes_over_no_claim(aigeco: Aigeco, folder: Path) -> None:
    for name in names():
        assert aigeco("maps", "new", f"like-{name}", "--from", name).code == 0
        text = (folder / f"like-{name}.toml").read_text()
        assert f"copy of {name}" in text.splitlines()[0]
        with pytest.raises(MapError) as caught:
            load(f"like-{name}.toml")
        assert [problem.place for problem in caught.value.problems] == ["model", "sources"], name
        assert "\ncross_checked = true" not in text
        assert "\nverified = true" not in text


def test_new_overwrites_nothing(aigeco: Aigeco, folder: Path) -> None:
    (folder / "acme.toml").write_text(ACME)
    again = aigeco("maps", "new", "acme.toml")
    assert again.code == Exit.USAGE
    assert "is there already" in again.problem[0]
    assert (folder / "acme.toml").read_text() == ACME


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65, "a:b"])
def test_new_refuses_a_name_that_is_none(aigeco: Aigeco, folder: Path, name: str) -> None:
    asked = aigeco("maps", "new", name)
    assert asked.code == Exit.USAGE
    assert "a map's name has 1 to 64 letters" in asked.problem[0]
    assert list(folder.iterdir()) == []


def test_a_map_of_the_catalogue_by_its_path_is_the_same(aigeco: Aigeco, folder: Path) -> None:
    assert load(str(CATALOGUE / "eastron_sdm630.toml")) == load("eastron_sdm630")
    shutil.copy(CATALOGUE / "eastron_sdm630.toml", folder / "mine.toml")
    assert load("mine.toml").digest == load("eastron_sdm630").digest
    assert aigeco("maps", "check", CATALOGUE / "eastron_sdm630.toml").out.splitlines()[-1].endswith(": ok")
