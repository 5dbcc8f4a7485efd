"""Which configuration file is taken, and that a named one that is missing is never replaced by another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.cli import where
from edge.cli.exits import Exit, Refused


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A current folder, and what stands for /etc."""
    here, etc = tmp_path / "here", tmp_path / "etc"
    here.mkdir()
    etc.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(where, "PLACES", (Path("aigeco.toml"), etc / "aigeco.toml"))
    monkeypatch.delenv(where.VARIABLE, raising=False)
    return here, etc


def test_the_order(places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, etc = places
    (etc / "aigeco.toml").touch()
    assert where.find(None) == etc / "aigeco.toml"
    (here / "aigeco.toml").touch()
    assert where.find(None) == Path("aigeco.toml")
    (tmp_path / "variable.toml").touch()
    monkeypatch.setenv(where.VARIABLE, str(tmp_path / "variable.toml"))
    assert where.find(None) == tmp_path / "variable.toml"
    (tmp_path / "named.toml").touch()
    assert where.find(tmp_path / "named.toml") == tmp_path / "named.toml"


def test_none_at_all(places: tuple[Path, Path]) -> None:
    with pytest.raises(Refused, match="no configuration") as caught:
        where.find(None)
    assert caught.value.code == Exit.CONFIG


def test_a_named_file_that_is_missing(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (places[0] / "aigeco.toml").touch()
    with pytest.raises(Refused, match=r"nowhere\.toml.*--config"):
        where.find(Path("nowhere.toml"))
    monkeypatch.setenv(where.VARIABLE, "elsewhere.toml")
    with pytest.raises(Refused, match=r"elsewhere\.toml.*AIGECO_CONFIG"):
        where.find(None)


def test_an_empty_variable_is_none(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (places[0] / "aigeco.toml").touch()
    monkeypatch.setenv(where.VARIABLE, "")
    assert where.find(None) == Path("aigeco.toml")


def test_a_folder_is_no_file(places: tuple[Path, Path]) -> None:
    with pytest.raises(Refused, match="no such configuration file"):
        where.find(places[0])


def test_before_the_command_or_behind_it(aigeco: Callable[..., Any], site: Any, tmp_path: Path) -> None:
    behind = aigeco("config", "check", "--config", site.config)
    assert behind.code == 0
    assert aigeco("--config", site.config, "config", "check") == behind
    assert aigeco("--config", tmp_path / "none.toml", "config", "check", "--config", site.config) == behind
    assert aigeco("--config", tmp_path / "none.toml", "config", "check").code == Exit.CONFIG
