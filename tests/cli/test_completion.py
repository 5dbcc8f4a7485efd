"""``aigeco completion``: what the shells are told, and a real bash that completes with it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import BashComplete

from edge.cli.main import COMMANDS, cli
from hw_sim.cli.main import cli as simulator
from ledger.cli.main import cli as peer

Aigeco = Callable[..., Any]
TOP = Path(__file__).parents[2]


def complete(words: str, program: click.Command = cli) -> list[str]:
    """What the last word can become; a blank at the end begins a new one."""
    *before, last = words.split(" ")
    return [each.value for each in BashComplete(program, {}, "x", "X").get_completions(before, last)]


def test_commands_and_options() -> None:
    assert complete("") == list(COMMANDS)
    assert complete("maps s") == ["show"]
    assert complete("doctor --p") == ["--probe"]
    assert complete("gateways r", peer) == ["revoke"]
    assert complete("me", simulator) == ["meter"]


def test_models_of_the_catalogue() -> None:
    assert complete("read eastron_sdm6") == ["eastron_sdm630"]
    assert complete("maps check abb_b21 abb_b23") == ["abb_b23_b24"]
    assert complete("meter eastron_sdm6", simulator) == ["eastron_sdm630"]
    assert [each.type for each in BashComplete(cli, {}, "x", "X").get_completions(["read"], "./own")] == ["file"]


def test_meters_of_the_configuration(site: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert complete(f"commission --config {site.config} h") == ["house"]
    assert complete(f"--config {site.config} replace ") == ["house"]
    assert complete(f"replace --config {site.config} x") == []
    monkeypatch.chdir(tmp_path)
    assert complete("commission h") == [], "no configuration is no error here"
    site.config.write_text("half a fi")
    assert complete(f"commission --config {site.config} h") == []


_ASK = """\
eval "$(aigeco completion bash)"
ask() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
  "_${1//-/_}_completion" "$1"
  echo "${COMPREPLY[*]}"
}
"""


def test_a_real_bash(tmp_path: Path, site: Any) -> None:
    for name, module in (("aigeco", "edge"), ("aigeco-sim", "hw_sim"), ("aigeco-peer", "ledger")):
        code = f"from {module}.cli.main import main; main()"
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
        (tmp_path / name).chmod(0o755)
    asked = ("aigeco st", f"aigeco commission --config '{site.config}' ho", "aigeco-sim me", "aigeco-peer gateways re")
    command = ["bash", "-c", _ASK + "".join(f"ask {words}\n" for words in asked)]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(TOP)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["status", "house", "meter", "revoke"], "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_it(aigeco: Aigeco, shell: str, tmp_path: Path) -> None:
    shown = aigeco("completion", shell)
    assert shown.code == 0
    assert all(f"_{name}_COMPLETE" in shown.out for name in ("AIGECO", "AIGECO_SIM", "AIGECO_PEER"))
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(shown.out)
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
