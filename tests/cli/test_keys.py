"""``aigeco keys create``: made on somebody's word, private from the first moment, never overwritten."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signer.keys import key_id, open_key

Aigeco = Callable[..., Any]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_creates_a_key_that_only_its_owner_reads(aigeco: Aigeco) -> None:
    made = aigeco("keys", "create", "file:gateway.pem")
    assert made.code == 0
    assert Path("gateway.pem").stat().st_mode & 0o777 == 0o600
    assert key_id(open_key("file:gateway.pem", Path()).public_key).hex() in made.out
    assert "openssl req -new -key gateway.pem" in made.out


def test_json_names_the_key(aigeco: Aigeco) -> None:
    made = aigeco("keys", "create", "file:gateway.pem", "--json")
    expected = key_id(open_key("file:gateway.pem", Path()).public_key).hex()
    assert json.loads(made.out) == {"uri": "file:gateway.pem", "key_id": expected}


def test_never_overwrites(aigeco: Aigeco) -> None:
    assert aigeco("keys", "create", "file:gateway.pem").code == 0
    before = Path("gateway.pem").read_bytes()
    again = aigeco("keys", "create", "file:gateway.pem")
    assert again.code == 5
    words, advice = again.problem
    assert "gateway.pem" in words
    assert advice
    assert Path("gateway.pem").read_bytes() == before


def test_takes_uri_and_gateway_from_the_configuration(aigeco: Aigeco, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "keys").mkdir(parents=True)
    (site / "aigeco.toml").write_text('[gateway]\nid = "home-1"\n[key]\nuri = "file:keys/gateway.pem"\n')
    made = aigeco("keys", "create", "--config", site / "aigeco.toml")
    assert made.code == 0
    assert (site / "keys/gateway.pem").is_file()
    assert "gw-home-1" in made.out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[gateway]\nid = "home-1"\n', "[key] uri"),
        ("[key]\nuri = 7\n", "[key] uri"),
        ("key = 7\n", "[key] uri"),
        ("[key\n", "no TOML"),
    ],
)
def test_a_configuration_that_names_no_key(aigeco: Aigeco, content: str, words: str) -> None:
    Path("aigeco.toml").write_text(content)
    asked = aigeco("keys", "create")
    assert asked.code == 3
    assert words in asked.problem[0]
    assert asked.problem[1]


@pytest.mark.parametrize("uri", ["gateway.pem", "magic:gateway.pem", "file:", "file:nowhere/gateway.pem"])
def test_a_uri_that_leads_nowhere(aigeco: Aigeco, uri: str) -> None:
    asked = aigeco("keys", "create", uri)
    assert asked.code == 5
    words, advice = asked.problem
    assert "gateway.pem" in words or uri in words
    assert advice
    assert list(Path().iterdir()) == []


def test_without_uri_and_configuration(aigeco: Aigeco) -> None:
    asked = aigeco("keys", "create")
    assert asked.code == 3
    assert "no configuration" in asked.problem[0]
