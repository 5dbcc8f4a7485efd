"""``aigeco export``: what it writes, ``aigeco verify`` finds whole; nothing is mixed and nothing is made up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Aigeco = Callable[..., Any]


def test_what_is_exported_holds(aigeco: Aigeco, site: Any, evidence: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported = aigeco("export", "--config", site.config, "--out", out)
    assert exported.code == 0, exported.err
    assert exported.err == ""
    assert exported.out.splitlines() == [
        f"{out}: {len(evidence.statements)} statements, 1 receipt",
        f"next: aigeco verify {out}",
    ]
    assert (out / "statements.cborseq").read_bytes() == b"".join(each.data for each in evidence.statements)
    assert (out / "receipts.cborseq").read_bytes() == evidence.receipt
    verified = aigeco("verify", out, "--json")
    assert verified.code == 0, verified.out
    assert json.loads(verified.out)["statements"] == len(evidence.statements)


def test_json(aigeco: Aigeco, site: Any, evidence: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = json.loads(aigeco("export", "--config", site.config, "--out", out, "--json").out)
    count = len(evidence.statements)
    assert shown == {"folder": str(out), "streams": 1, "statements": count, "pruned": 0, "receipts": 1}


def test_an_empty_folder_will_do(aigeco: Aigeco, site: Any, evidence: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert aigeco("export", "--config", site.config, "--out", out).code == 0


def test_an_existing_folder_is_left_alone(aigeco: Aigeco, site: Any, evidence: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("mine")
    exported = aigeco("export", "--config", site.config, "--out", out)
    assert exported.code == 2
    words, advice = exported.problem
    assert f"{out}: is not empty" in words
    assert advice
    assert [path.name for path in out.iterdir()] == ["letter.txt"]


def test_a_file_is_no_folder(aigeco: Aigeco, site: Any, evidence: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    exported = aigeco("export", "--config", site.config, "--out", tmp_path / "out")
    assert exported.code == 2
    assert (tmp_path / "out").read_text() == "mine"


def test_without_the_gateways_root_it_says_so(aigeco: Aigeco, site: Any, evidence: Any, tmp_path: Path) -> None:
    site.change('ca = "gateways.pem"\n', "")
    exported = aigeco("export", "--config", site.config, "--out", tmp_path / "out")
    assert exported.code == 0
    assert "--trust" in exported.err
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "gateways.pem").write_bytes(site.authority.pem)
    (trust / "receipts.pem").write_bytes(site.organisations["Org1MSP"].pem)
    verified = aigeco("verify", tmp_path / "out", "--trust", trust)
    assert verified.code == 0, verified.out


@pytest.mark.parametrize("command", [("export", "--out", "out"), ("status",)])
class TestAStoreThatIsNone:
    """Neither command repairs, makes or moves anything."""

    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_missing(self, aigeco: Aigeco, site: Any, command: tuple[str, ...]) -> None:
        asked = aigeco(*command, "--config", site.config)
        assert asked.code == 6
        assert "spool.db" in asked.problem[0]
        assert asked.problem[1]
        assert not (site.folder / "spool.db").exists()
        assert not Path("out").exists()

    @pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be taken for one" * 99])
    def test_no_database(self, aigeco: Aigeco, site: Any, command: tuple[str, ...], content: bytes) -> None:
        (site.folder / "spool.db").write_bytes(content)
        before = sorted(path.name for path in site.folder.iterdir())
        asked = aigeco(*command, "--config", site.config)
        assert asked.code == 6
        assert "spool.db" in asked.problem[0]
        assert (site.folder / "spool.db").read_bytes() == content
        assert sorted(path.name for path in site.folder.iterdir()) == before
