"""Fabric's commands are not there, are others, or fail; and what the commands of ours say then."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ledger.fabric import commands
from ledger.fabric.commands import NAMES, CommandFailed, CommandsMissing
from tests.ledger.peers import COMMAND, PATIENCE_S


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with commands that say a version, and the configuration beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "config").mkdir()
    for name in ("core.yaml", "orderer.yaml"):
        (tmp_path / "config" / name).touch()
    for name in NAMES:
        write(folder / name, 'echo " Version: v3.1.5"')
    monkeypatch.setenv("AIGECO_FABRIC_BIN", str(folder))
    monkeypatch.delenv("FABRIC_CFG_PATH", raising=False)
    return folder


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_commands_of_the_right_version_are_taken(installed: Path) -> None:
    found = commands.find()
    assert (found.folder, found.config) == (installed, installed.parent / "config")


@pytest.mark.parametrize("version", ["2.5.12", "3.0.0", "4.0.0"])
def test_another_version_is_refused(installed: Path, version: str) -> None:
    write(installed / "orderer", f'echo " Version: v{version}"')
    with pytest.raises(CommandsMissing, match=f"orderer is version {version[:3]}; 3.1 or a later"):
        commands.find()


def test_what_does_not_say_a_version_is_not_fabrics(installed: Path) -> None:
    write(installed / "peer", "echo hello")
    with pytest.raises(CommandsMissing, match="peer does not say its version"):
        commands.find()
    (installed / "peer").write_bytes(b"\x7fELF nothing")
    with pytest.raises(CommandsMissing, match="cannot be run"):
        commands.find()


def test_a_command_or_its_configuration_that_is_not_there_is_named(installed: Path) -> None:
    (installed / "osnadmin").unlink()
    with pytest.raises(CommandsMissing, match=r"not in .*: osnadmin"):
        commands.find()
    commands.find(("peer",))
    (installed.parent / "config" / "core.yaml").unlink()
    with pytest.raises(CommandsMissing, match=r"core\.yaml"):
        commands.find(("peer",))


def test_on_path_they_are_found_through_links(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIGECO_FABRIC_BIN")
    links = tmp_path / "links"
    links.mkdir()
    for name in NAMES:
        (links / name).symlink_to(installed / name)
    monkeypatch.setenv("PATH", f"{links}:/usr/bin:/bin")
    assert commands.find().folder == installed


def test_a_stray_setting_does_not_reach_a_command(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(installed / "peer", 'echo " Version: 3.1.0"; env')
    monkeypatch.setenv("CORE_PEER_LOCALMSPID", "Stray")
    monkeypatch.setenv("ORDERER_GENERAL_LISTENPORT", "1")
    said = commands.find(("peer",)).run("peer", "version", env={"CORE_PEER_ID": "ours"})
    assert "Stray" not in said
    assert "LISTENPORT" not in said
    assert "CORE_PEER_ID=ours" in said


def test_what_fails_says_its_last_lines(installed: Path) -> None:
    found = commands.find(("peer",))
    write(installed / "peer", "seq 1000; echo it broke >&2; exit 1")
    with pytest.raises(CommandFailed, match="it broke") as caught:
        found.run("peer", "channel")
    assert "\n992\n" not in str(caught.value)
    write(installed / "peer", "exec sleep 60")
    with pytest.raises(CommandFailed, match="not done in"):
        found.run("peer", "channel", timeout_s=0.2)


@pytest.mark.parametrize(
    "asked",
    [
        ["network", "up"],
        ["network", "status"],
        ["contract", "install", "{file}", "--organisation", "CommunityMSP"],
    ],
    ids=" ".join,
)
def test_without_the_commands_one_message_says_where_they_are_and_the_status_is_3(
    asked: list[str], tmp_path: Path
) -> None:
    from ledger.fabric.package import Server, package

    (tmp_path / "p.tar.gz").write_bytes(package("x", Server("127.0.0.1:1")))
    asked = [word.format(file=tmp_path / "p.tar.gz") for word in asked]
    environment = {**os.environ, "AIGECO_FABRIC_BIN": str(tmp_path), "AIGECO_NETWORK": str(tmp_path / "network")}
    done = subprocess.run(
        [*COMMAND, *asked], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: Fabric's commands are not in ")
    assert "install-fabric.sh" in done.stderr
    assert "hyperledger/fabric-peer" in done.stderr
    assert not (tmp_path / "network").exists()
