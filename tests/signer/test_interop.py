"""Verifiers that are not ours, run where their tools are: the frozen vectors mean the same to them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "interop"

pytestmark = pytest.mark.skipif("AIGECO_INTEROP" not in os.environ, reason="set AIGECO_INTEROP=1")


def run(name: str) -> str:
    done = subprocess.run(["sh", FOLDER / name / "run.sh"], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pycose() -> None:
    assert "0 failed" in run("python-pycose")


def test_cddl() -> None:
    assert "0 failed" in run("python-cddl")


@pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain")
def test_go_cose() -> None:
    assert "0 failed" in run("go-cose")
