"""``aigeco commission``: with a running gateway and without one, guided and in one line; what is signed is verified."""

from __future__ import annotations

import hashlib
import json
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from drivers import map as maps
from drivers import obis
from edge import export, requests, site
from edge.cli.main import cli
from edge.config import Config
from edge.environment import load_trust
from edge.spool_read import SpoolReader
from hw_sim.device import MapDevice
from signer import statement
from signer.codes import Kind
from signer.statement import Claims
from signer.verify import verify
from tests.edge.places import Meters, make_folder, write_config
from tests.edge.test_agent import running

Aigeco = Callable[..., Any]
MODEL = "eastron_sdm630"  # tells its serial number
WHO = ("--technician", "N. Puig", "--place", "roof 3")


def one_meter() -> Iterator[Meters]:
    """A simulated meter."""
    with Meters(1, model=MODEL) as found:
        yield found


def write_site(folder: Path, meters: Meters) -> Config:
    """A gateway that reads it once a second."""
    make_folder(folder)
    meter = f'[[bus.meter]]\nname = "house"\nmodel = "{MODEL}"\nunit = 1\nperiod_s = 1'
    return write_config(folder, f'[[bus]]\ntcp = "127.0.0.1:{meters.port}"\n{meter}')


@pytest.fixture
def meters() -> Iterator[Meters]:
    yield from one_meter()


@pytest.fixture
def settings(tmp_path: Path, meters: Meters) -> Config:
    return write_site(tmp_path, meters)


def claims_of(settings: Config) -> list[Claims]:
    reader = SpoolReader.read(settings.spool)
    found = [statement.parse(message) for _, message in reader.statements(reader.streams()[-1].number)]
    reader.close()
    return found


def holds(settings: Config, folder: Path) -> Any:
    export.export(settings.spool, folder, load_trust(settings)[0])
    report = verify(folder)
    assert report.ok, report.failures
    return report


def test_without_a_gateway_the_command_signs(aigeco: Aigeco, settings: Config, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a picture")
    done = aigeco("commission", "house", "--config", settings.path, *WHO, "--photo", photo, "--yes")
    assert done.code == 0, done.err
    *_, before, last = claims_of(settings)
    assert [each.kind for each in claims_of(settings)[:2]] == [Kind.GENESIS, Kind.BOOT]
    assert (before.kind, before.body[13][5]) == (Kind.DESCRIPTOR, "10000001")
    assert (last.kind, last.sub) == (Kind.COMMISSION, "house")
    body = last.body[13]
    assert (body[1], body[2], body[3]) == ("N. Puig", "roof 3", hashlib.sha256(b"a picture").digest())
    assert len(body[4]) > 10
    assert f"house is in service: seq {last.seq}, sid {last.sid.hex()}" in done.out
    assert "can be" in done.out
    holds(settings, tmp_path / "evidence")
    with site.Site(site.place(settings.spool)) as documents:
        (noted,) = documents.all(site.COMMISSIONING)
        assert noted["statements"][0]["sid"] == last.sid.hex()
        meter = documents.latest(site.METER, "house")
        assert meter is not None
        assert (meter["model"], meter["serial"], meter["revision"]) == (MODEL, "10000001", 1)
        assert [each["what"] for each in documents.all(site.VISIT)] == ["commission"]


def test_a_running_gateway_signs(aigeco: Aigeco, settings: Config, tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        agent.until_stored(6)
        began = time.monotonic()
        done = aigeco("commission", "house", "--config", settings.path, *WHO, "--json")
        took_s = time.monotonic() - began
        assert done.code == 0, done.err
        shown = json.loads(done.out)
        agent.end()
    assert agent.process.returncode == 0, agent.log
    assert took_s < 6
    (said,) = shown["statements"]
    found = claims_of(settings)
    (signed,) = [each for each in found if each.kind == Kind.COMMISSION]
    assert (signed.seq, signed.sid.hex(), signed.stream.hex()) == (said["seq"], said["sid"], said["stream"])
    assert found[signed.seq - 1].kind == Kind.DESCRIPTOR
    assert shown["plausible"] is True
    assert shown["serial"] == "10000001"
    assert list(requests.folder(settings.spool).iterdir()) == []
    report = holds(settings, tmp_path / "evidence")
    assert report.slots["house"].missing == 0


def test_the_gateway_goes_on_after_a_command_that_signed_itself(
    aigeco: Aigeco, settings: Config, tmp_path: Path
) -> None:
    for _ in range(2):
        assert aigeco("commission", "house", "--config", settings.path, *WHO, "--yes").code == 0
        with running(tmp_path) as agent:
            agent.until_stored(6)
            agent.end()
    report = holds(settings, tmp_path / "evidence")
    assert report.slots["house"].missing == 0


def test_a_killed_gateway_fulfils_it_once_after_its_restart(settings: Config, tmp_path: Path) -> None:
    with running(tmp_path) as agent:
        agent.until_stored(5)
        values = next(each.values for each in claims_of(settings) if each.values)
        path = requests.leave(settings.spool, requests.Commission("N", "p", None, (("house", values),)))
        while path.exists():
            time.sleep(0.002)
        agent.process.kill()
    with running(tmp_path) as agent:
        agent.until_stored(3)
        answer = requests.answer_to(path, 10)
        agent.end()
    assert answer is not None
    signed = [each.seq for each in claims_of(settings) if each.kind == Kind.COMMISSION]
    assert signed == [answer.said[0].seq]
    holds(settings, tmp_path / "evidence")


def test_guided(settings: Config) -> None:
    done = CliRunner().invoke(
        cli, ["commission", "house", "--config", str(settings.path)], input="\nN. Puig\nroof 3\ny\n"
    )
    assert done.exit_code == 0, done.output
    last = claims_of(settings)[-1]
    assert (last.body[13][1], last.body[13][2]) == ("N. Puig", "roof 3")


def test_guided_and_refused(settings: Config) -> None:
    done = CliRunner().invoke(cli, ["commission", "house", "--config", str(settings.path), *WHO], input="\nn\n")
    assert done.exit_code == 130
    assert not settings.spool.exists()


def test_a_wrong_answer_is_asked_again(settings: Config) -> None:
    answers = "solar\n\n \nN. Puig\n" + "x" * 257 + "\nroof 3\ny\n"
    done = CliRunner().invoke(cli, ["commission", "house", "--config", str(settings.path)], input=answers)
    assert done.exit_code == 0, done.output
    assert "256 bytes" in done.output
    assert "'solar': one of grid, consumption, generation, storage, other is needed" in done.output
    last = claims_of(settings)[-1]
    assert (last.body[13][1], last.body[13][2]) == ("N. Puig", "roof 3")


@pytest.mark.parametrize("answers", ["", "\nN. Puig\n", "\nN. Puig\nroof 3\nn\n"])
def test_whoever_leaves_a_question_is_told_that_nothing_was_signed(settings: Config, answers: str) -> None:
    done = CliRunner().invoke(cli, ["commission", "house", "--config", str(settings.path)], input=answers)
    assert done.exit_code == 130
    assert done.output.endswith("\nnothing was signed; aigeco commission house begins again\n")
    assert not done.output.endswith("\n\nnothing was signed; aigeco commission house begins again\n")
    assert not settings.spool.exists()


def test_another_role_than_configured_signs_nothing(aigeco: Aigeco, settings: Config) -> None:
    done = aigeco("commission", "house", "--config", settings.path, *WHO, "--yes", "--role", "generation")
    assert done.code == 3
    assert 'role = "generation"' in done.err
    assert not settings.spool.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("garage", *WHO, "--yes"), 3, "has no meter garage"),
        (("house", "--yes"), 2, "--technician and --place must be given"),
        (("house", "--technician", "", "--place", "p", "--yes"), 2, "--technician"),
        (("house", "--technician", "N" * 257, "--place", "p", "--yes"), 2, "--technician"),
        (("house", *WHO, "--yes", "--photo", "/nowhere.jpg"), 2, "nowhere.jpg"),
    ],
)
def test_what_is_wrong_is_said(
    aigeco: Aigeco, settings: Config, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = aigeco("commission", *arguments, "--config", settings.path)
    assert done.code == code, done.err
    assert words in done.err
    assert not settings.spool.exists()


def test_a_silent_meter_is_not_put_into_service(aigeco: Aigeco, settings: Config, meters: Meters) -> None:
    meters.close()
    done = aigeco("commission", "house", "--config", settings.path, *WHO, "--yes")
    assert done.code == 4
    said, advice = done.problem
    assert "meter house" in said
    assert advice
    assert not settings.spool.exists()


def test_a_damaged_site_file_is_said_before_anything_is_signed(aigeco: Aigeco, settings: Config) -> None:
    site.place(settings.spool).write_text("{")
    done = aigeco("commission", "house", "--config", settings.path, *WHO, "--yes")
    assert done.code == 6
    assert "set aside" in done.err
    assert not settings.spool.exists()
    assert aigeco("commission", "house", "--config", settings.path, *WHO, "--yes").code == 0


class TestImplausible:
    @pytest.fixture
    def turned(self, settings: Config, meters: Meters) -> Config:
        """The meter sends its words in the other order."""
        device = meters.devices[0]
        wrong = MapDevice(_other_order(), lambda at_s: device._source(at_s), serial="10000001")
        meters.stations[0]._device = wrong
        return settings

    def test_it_says_what_would_help_and_signs_nothing(self, aigeco: Aigeco, turned: Config) -> None:
        done = aigeco("commission", "house", "--config", turned.path, *WHO, "--yes")
        assert done.code == 1
        assert "plausible with word order little" in done.out
        assert 'in the configuration: word_order = "little"' in done.out
        assert max(map(len, done.out.splitlines())) <= 80
        assert len(done.out.splitlines()) <= 24
        assert not turned.spool.exists()
        as_json = aigeco("commission", "house", "--config", turned.path, *WHO, "--json")
        assert as_json.code == 1
        shown = json.loads(as_json.out)
        assert shown["candidates"][0]["settings"] == ['word_order = "little"']
        assert shown["statements"] == []
        assert "error" in shown

    def test_the_setting_makes_it_plausible(self, aigeco: Aigeco, turned: Config) -> None:
        turned.path.write_text(turned.path.read_text().replace("unit = 1", 'unit = 1\nword_order = "little"'))
        assert aigeco("commission", "house", "--config", turned.path, *WHO, "--yes").code == 0

    def test_guided_it_is_set_after_a_yes(self, turned: Config) -> None:
        answers = "y\n\nN. Puig\nroof 3\ny\n"
        done = CliRunner().invoke(cli, ["commission", "house", "--config", str(turned.path)], input=answers)
        assert done.exit_code == 0, done.output
        assert tomllib.loads(turned.path.read_text())["bus"][0]["meter"][0]["word_order"] == "little"
        assert claims_of(turned)[-1].kind == Kind.COMMISSION

    def test_where_several_would_help_enter_sets_none(self, settings: Config, meters: Meters) -> None:
        """Power the other way round in the one phase that carries any: a setting, or a transformer that is turned."""
        shown = dict(meters.devices[0]._source(0.0)[""])
        for key, quantity in obis.BY_KEY.items():
            if key in shown and quantity.name in ("current", "active_power", "reactive_power", "apparent_power"):
                volts = shown[
                    next(key for key, each in obis.BY_KEY.items() if (each.name, each.phase) == ("voltage", "L1"))
                ]
                carried = {"current": 2_000_000, "active_power": -2 * volts, "apparent_power": 2 * volts}
                shown[key] = carried.get(quantity.name, 0) if quantity.phase in ("L1", "total") else 0
            elif key in shown and quantity.name == "power_factor":
                shown[key] = 1_000_000
        meters.stations[0]._device = MapDevice(maps.load(MODEL), lambda at_s: {"": shown}, serial="10000001")
        settings.path.write_text(settings.path.read_text().replace("unit = 1", 'unit = 1\nrole = "consumption"'))
        before = settings.path.read_bytes()
        done = CliRunner().invoke(cli, ["commission", "house", "--config", str(settings.path)], input="\nn\n")
        assert "in the configuration: invert = true" in done.output
        assert "plausible with the other direction of L1" in done.output
        assert "active power L1 4" in done.output
        assert "[y/N]" in done.output
        assert "[Y/n]" not in done.output
        quiet = CliRunner().invoke(cli, ["commission", "house", "--config", str(settings.path), *WHO, "--yes"])
        assert "try: what is said above; then again" in quiet.stderr
        assert settings.path.read_bytes() == before

    def test_guided_it_is_left_after_a_no(self, turned: Config) -> None:
        before = turned.path.read_bytes()
        done = CliRunner().invoke(cli, ["commission", "house", "--config", str(turned.path)], input="n\nn\n")
        assert done.exit_code == 130
        assert turned.path.read_bytes() == before
        assert not turned.spool.exists()

    def test_anyway(self, aigeco: Aigeco, turned: Config) -> None:
        assert aigeco("commission", "house", "--config", turned.path, *WHO, "--yes", "--anyway").code == 0
        assert claims_of(turned)[-1].kind == Kind.COMMISSION


def _other_order() -> Any:
    from dataclasses import replace

    found = maps.load(MODEL)
    return replace(found, registers=tuple(replace(each, word_order="little") for each in found.registers))


class TestNew:
    """A meter that the configuration does not have yet."""

    @pytest.fixture
    def empty(self, tmp_path: Path) -> Config:
        make_folder(tmp_path)
        return write_config(tmp_path, "")

    def line(self, meters: Meters) -> tuple[str, ...]:
        return ("--tcp", f"127.0.0.1:{meters.port}")

    def test_in_one_line_from_nothing_to_a_signed_meter(
        self, aigeco: Aigeco, empty: Config, meters: Meters, tmp_path: Path
    ) -> None:
        before = empty.path.read_text()
        done = aigeco(
            "commission", "house", "--config", empty.path, *self.line(meters), "--model", MODEL,
            "--role", "other", *WHO, "--yes",
        )  # fmt: skip
        assert done.code == 0, done.err
        text = empty.path.read_text()
        assert text.startswith(before)
        meter = tomllib.loads(text)["bus"][0]["meter"]
        assert meter == [{"name": "house", "model": MODEL, "unit": 1, "role": "other"}]
        assert claims_of(empty)[-1].kind == Kind.COMMISSION
        holds(empty, tmp_path / "evidence")
        assert aigeco("commission", "house", "--config", empty.path, *WHO, "--yes").code == 0

    def test_guided_from_nothing(self, empty: Config, meters: Meters) -> None:
        where = f"127.0.0.1:{meters.port}\n"
        answers = where + "\nhouse\nother\ny\nN. Puig\nroof 3\ny\n"
        done = CliRunner().invoke(cli, ["commission", "--config", str(empty.path)], input=answers)
        assert done.exit_code == 0, done.output
        assert 'model = "eastron_sdm630"' in done.output
        assert claims_of(empty)[-1].sub == "house"

    def test_nothing_is_written_when_it_is_not_wanted(self, empty: Config, meters: Meters) -> None:
        before = empty.path.read_bytes()
        answers = f"127.0.0.1:{meters.port}\n1\nhouse\ngrid\nn\n"
        done = CliRunner().invoke(cli, ["commission", "--config", str(empty.path)], input=answers)
        assert done.exit_code == 130, done.output
        assert empty.path.read_bytes() == before
        assert not empty.spool.exists()

    def test_a_running_gateway_takes_it(self, aigeco: Aigeco, tmp_path: Path) -> None:
        with Meters(2, model=MODEL) as meters:
            settings = write_site(tmp_path, meters)
            with running(tmp_path) as agent:
                agent.until_stored(4)
                done = aigeco(
                    "commission", "second", "--config", settings.path, *self.line(meters), "--unit", 2,
                    "--model", MODEL, *WHO, "--json",
                )  # fmt: skip
                assert done.code == 0, done.err
                agent.end()
            assert agent.process.returncode == 0, agent.log
        shown = json.loads(done.out)
        assert (shown["meter"], shown["serial"]) == ("second", "10000002")
        buses = tomllib.loads(settings.path.read_text())["bus"]
        assert [meter["name"] for meter in buses[0]["meter"]] == ["house", "second"]
        report = holds(settings, tmp_path / "evidence")
        assert report.slots["house"].missing == 0

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("second", "--unit", "1", "--model", MODEL), 3, "unit id of its own"),
            (("house-", "--unit", "9", "--model", "no_such_model"), 2, "no_such_model"),
            (("a/b", "--unit", "9", "--model", MODEL), 3, "letters, digits and hyphens"),
        ],
    )
    def test_what_would_not_hold_is_not_written(
        self, aigeco: Aigeco, settings: Config, meters: Meters, arguments: tuple[str, ...], code: int, words: str
    ) -> None:
        before = settings.path.read_bytes()
        done = aigeco("commission", *arguments, *self.line(meters), "--config", settings.path, *WHO, "--yes")
        assert done.code == code, done.err
        assert re.search(words, done.err), done.err
        assert settings.path.read_bytes() == before

    def test_the_same_line_twice_is_no_mistake(self, aigeco: Aigeco, settings: Config, meters: Meters) -> None:
        """After a meter was written and not signed for, the arrow key brings the same line again."""
        before = settings.path.read_bytes()
        given = ("house", *self.line(meters), "--unit", 1, "--model", MODEL, "--config", settings.path, *WHO, "--yes")
        assert aigeco("commission", *given).code == 0
        assert settings.path.read_bytes() == before

    @pytest.mark.parametrize(
        "other", [("--unit", 2), ("--model", "eastron_sdm120"), ("--tcp", "127.0.0.1:9"), ("--baud", 9600)]
    )
    def test_another_line_for_a_known_meter(self, aigeco: Aigeco, settings: Config, other: tuple[Any, ...]) -> None:
        done = aigeco("commission", "house", *other, "--config", settings.path, *WHO, "--yes")
        assert done.code == 2
        said, advice = done.problem
        assert said.startswith(f"meter house is {MODEL}, unit 1 on ") if other[0] != "--baud" else said
        assert advice

    def test_without_questions_nothing_is_guessed(self, aigeco: Aigeco, settings: Config) -> None:
        done = aigeco("commission", "--config", settings.path, *WHO, "--yes")
        assert (done.code, "METER, and --serial or --tcp, must be given" in done.err) == (2, True)

    def test_a_wrong_answer_is_asked_again(self, empty: Config, meters: Meters) -> None:
        where = f"/nowhere\n127.0.0.1:x\n127.0.0.1:{meters.port}\n"
        answers = where + "7\nx\n1\ncasa 1\nhouse\nsolar\nother\nperhaps\ny\nN. Puig\nroof 3\ny\n"
        done = CliRunner().invoke(cli, ["commission", "--config", str(empty.path)], input=answers)
        assert done.exit_code == 0, done.output
        for words in ("/nowhere: does not exist", "'127.0.0.1:x'", "'7': a number from 1 to", "try: casa-1", "'solar'"):
            assert words in done.output
        assert "to tell: " in done.output
        assert claims_of(empty)[-1].sub == "house"

    def test_a_name_that_is_taken_is_said_before_the_search(
        self, aigeco: Aigeco, settings: Config, meters: Meters
    ) -> None:
        with Meters(1, model=MODEL) as others:
            answers = "\nhouse\nhouse-2\n"
            done = CliRunner().invoke(
                cli, ["commission", "--config", str(settings.path), *self.line(others), "--unit", "1"], input=answers
            )
        assert "'house': another meter has this name; try: house-2" in done.output
        done = aigeco("commission", "a b", *self.line(meters), "--config", settings.path, *WHO, "--yes")
        assert (done.code, done.problem[1]) == (3, ["a-b"])
        assert meters.stations[0].counters["requests"] == 0

    @pytest.mark.parametrize("answers", ["", "WHERE", "WHERE1\n", "WHERE1\nhouse\n", "WHERE1\nhouse\ngrid\nn\n"])
    def test_whoever_leaves_is_told_that_nothing_was_written(self, empty: Config, meters: Meters, answers: str) -> None:
        before = empty.path.read_bytes()
        answers = answers.replace("WHERE", f"127.0.0.1:{meters.port}\n")
        done = CliRunner().invoke(cli, ["commission", "--config", str(empty.path)], input=answers)
        assert done.exit_code == 130
        said = f"\n{empty.path} is as it was, and nothing was signed; the same command begins again\n"
        assert done.output.endswith(said)
        assert empty.path.read_bytes() == before

    def test_whoever_leaves_later_is_told_what_was_written(self, empty: Config, meters: Meters) -> None:
        answers = f"127.0.0.1:{meters.port}\n1\nhouse\ngrid\ny\n"
        done = CliRunner().invoke(cli, ["commission", "--config", str(empty.path)], input=answers)
        assert done.exit_code == 130
        said = f"nothing was signed; house is in {empty.path}; aigeco commission house begins again\n"
        assert done.output.endswith(said)

    def test_a_key_that_cannot_sign_is_said_before_anything_is_written(
        self, aigeco: Aigeco, empty: Config, meters: Meters
    ) -> None:
        before = empty.path.read_bytes()
        (empty.path.parent / "keys/gateway.pem").unlink()
        given = ("house", *self.line(meters), "--unit", 1, "--model", MODEL, "--config", empty.path, *WHO, "--yes")
        assert aigeco("commission", *given).code == 5
        assert empty.path.read_bytes() == before

    def test_a_model_is_not_guessed_without_questions(self, aigeco: Aigeco, empty: Config, meters: Meters) -> None:
        before = empty.path.read_bytes()
        given = ("house", *self.line(meters), "--unit", 1, "--config", empty.path, *WHO, "--yes")
        done = aigeco("commission", *given)
        assert done.code == 4
        said, advice = done.problem
        assert said.startswith("unit 1 can be eastron_sdm630, ")
        assert advice == ["--model: which one it is; its label says"]
        assert empty.path.read_bytes() == before

    def test_where_nobody_new_answers(self, aigeco: Aigeco, settings: Config, meters: Meters) -> None:
        done = aigeco("commission", "second", *self.line(meters), "--unit", 1, "--config", settings.path, *WHO, "--yes")
        assert done.code == 4
        assert "no device that the configuration does not have yet" in done.err
