"""``aigeco config check``: all problems at once, each with its advice; when there is none, the load of each line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Aigeco = Callable[..., Any]


def test_all_in_order(aigeco: Aigeco, site: Any) -> None:
    checked = aigeco("config", "check", site.config)
    assert checked.code == 0
    assert checked.err == ""
    load, verdict = checked.out.splitlines()
    assert load.startswith("cellar: the plan needs ")
    assert load.endswith(" % busy)")
    assert verdict == f"{site.config}: ok"


def test_json(aigeco: Aigeco, site: Any) -> None:
    shown = json.loads(aigeco("config", "check", "--config", site.config, "--json").out)
    assert list(shown) == ["ok", "problems", "warnings", "load"]
    assert shown["ok"] is True
    assert shown["problems"] == shown["warnings"] == []
    assert [load["bus"] for load in shown["load"]] == ["cellar"]
    assert 0 < shown["load"][0]["share"] < 1


def test_all_problems_at_once(aigeco: Aigeco, site: Any) -> None:
    site.change('id = "home-1"', 'id = "home 1"')
    site.change("unit = 1", 'unit = "one"\ncolour = "red"')
    checked = aigeco("config", "check", site.config)
    assert checked.code == 3
    errors = [line for line in checked.out.splitlines() if line.startswith("error: ")]
    for place, value in (("gateway.id", "home 1"), ("bus[0].meter[0].unit", "one"), ("bus[0].meter[0].colour", "red")):
        assert any(place in line and value in line for line in errors), place
    assert checked.out.count("  try: ") == len(errors)
    assert checked.out.splitlines()[-1] == f"{site.config}: {len(errors)} errors"


def test_problems_as_json(aigeco: Aigeco, site: Any) -> None:
    site.change("period_s = 60", "period_s = 60\nsettlement_period_s = 61")
    checked = aigeco("config", "check", site.config, "--json")
    assert checked.code == 3
    shown = json.loads(checked.out)
    assert shown["ok"] is False
    (problem,) = shown["problems"]
    assert list(problem) == ["place", "value", "words", "advice"]
    assert problem["place"] == "measure.settlement_period_s"


def test_two_meters_with_one_unit(aigeco: Aigeco, site: Any) -> None:
    with site.config.open("a") as file:
        file.write('\n[[bus]]\ntcp = "127.0.0.1:1503"\n')
        for name in ("a", "b"):
            file.write(f'[[bus.meter]]\nname = "{name}"\nmodel = "eastron_sdm630"\nunit = 5\n')
    checked = aigeco("config", "check", site.config)
    assert checked.code == 3
    assert "bus[1].meter[1].unit: 5" in checked.out


def test_an_unknown_model(aigeco: Aigeco, site: Any) -> None:
    site.change("eastron_sdm630", "eastron_sdm360")
    checked = aigeco("config", "check", site.config)
    assert checked.code == 3
    error, advice, _ = checked.out.splitlines()
    assert "eastron_sdm360" in error
    assert "eastron_sdm630" in advice


def test_a_port_that_does_not_exist_is_a_warning(aigeco: Aigeco, site: Any) -> None:
    site.change('tcp = "127.0.0.1:1502"', 'serial = "/dev/ttyNONE"')
    checked = aigeco("config", "check", site.config)
    assert checked.code == 0
    assert "warning: bus[0].serial: /dev/ttyNONE" in checked.out
    assert checked.out.splitlines()[-1] == f"{site.config}: ok, 1 warning"


def test_a_port_whose_number_may_change_is_a_warning(aigeco: Aigeco, site: Any) -> None:
    """Also at a desk, where no adapter is plugged in."""
    site.change('tcp = "127.0.0.1:1502"', 'serial = "/dev/ttyUSB99"')
    checked = aigeco("config", "check", site.config)
    assert checked.code == 0
    assert "warning: bus[0].serial: /dev/ttyUSB99: its number may be another adapter's" in checked.out
    assert "  try: use a name in /dev/serial/by-path" in checked.out
    assert len(json.loads(aigeco("config", "check", site.config, "--json").out)["warnings"]) == 2  # it is missing, too


def test_a_line_that_cannot_carry_its_plan(aigeco: Aigeco, site: Any, tmp_path: Path) -> None:
    site.change('tcp = "127.0.0.1:1502"', 'serial = "/dev/null"\nbaud = 1200')
    site.change("period_s = 60", "period_s = 1")
    checked = aigeco("config", "check", site.config)
    assert checked.code == 0
    assert "of every 1.0 s on /dev/null at 1200 baud" in checked.out
    assert "warning" in checked.out.splitlines()[-1]


def test_a_missing_key(aigeco: Aigeco, site: Any) -> None:
    (site.folder / "gateway.pem").unlink()
    checked = aigeco("config", "check", site.config)
    assert checked.code == 5
    assert "error: key.uri" in checked.out
    assert "aigeco keys create" in checked.out
    assert not (site.folder / "gateway.pem").exists()


def test_a_world_readable_key(aigeco: Aigeco, site: Any) -> None:
    (site.folder / "gateway.pem").chmod(0o644)
    checked = aigeco("config", "check", site.config)
    assert checked.code == 5
    assert "0644" in checked.out
    assert (site.folder / "gateway.pem").stat().st_mode & 0o777 == 0o644


def test_another_gateway_s_certificate(aigeco: Aigeco, site: Any) -> None:
    other = site.authority.gateway("home-2", key=site.issued.key)
    other.write(site.folder / "other.pem", site.folder / "gateway.crt")
    checked = aigeco("config", "check", site.config)
    assert checked.code == 5
    assert "gw-home-2" in checked.out


@pytest.mark.parametrize("content", [b"[gateway\n", b"\xff\xfe", b""])
def test_what_is_no_configuration(aigeco: Aigeco, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "aigeco.toml"
    path.write_bytes(content)
    checked = aigeco("config", "check", path)
    assert checked.code == 3
    assert checked.out.startswith("error: ")
    assert checked.err == ""


def test_a_missing_configuration(aigeco: Aigeco, tmp_path: Path) -> None:
    checked = aigeco("config", "check", tmp_path / "nowhere.toml")
    assert checked.code == 3
    words, advice = checked.problem
    assert "nowhere.toml" in words
    assert advice
