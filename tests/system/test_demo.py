"""The demo without a terminal: it ends with 0, says so in plain lines, and leaves evidence that anybody can check."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hw_sim.demo import GATEWAYS
from hw_sim.stage import ORGANISATIONS
from hw_sim.tamper import change_a_value
from tests.system.conftest import DemoRun


def verify(evidence: Path, trust: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command that the demo names at its end."""
    words = [sys.executable, "-m", "edge.cli.main", "verify", str(evidence), "--trust", str(trust), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def test_the_demo(demo_run: DemoRun, tmp_path: Path) -> None:
    folder = demo_run.folder
    out, errors = demo_run.process.communicate(timeout=110)
    assert demo_run.process.returncode == 0, out + errors
    assert errors == ""
    assert "\x1b" not in out, "plain lines have no colours"
    lines = out.splitlines()
    assert not [line for line in lines if re.match(r"\d\d:\d\d:\d\d NO ", line)]
    chapters = [line for line in lines if line.startswith("== ")]
    assert len(chapters) == 5
    held = [line for line in lines if re.match(r"\d\d:\d\d:\d\d ok ", line)]
    for words_of_it in (
        "without a broker",
        "has the receipts of both organisations",
        "it went on in the same chain",
        "every slot accounted for, none twice",
        "found and named: statements.cborseq, byte ",
        "all of it held",
    ):
        assert any(words_of_it in line for line in held), f"{words_of_it!r} is not in:\n{out}"
    assert lines[-1] == f"try:      aigeco verify {folder}/evidence/{GATEWAYS[0]} --trust {folder}/trust"

    for gateway in GATEWAYS:
        status, report = verify(folder / "evidence" / gateway, folder / "trust")
        assert (status, report["ok"], report["trust"]) == (0, True, "external")
        assert set(report["receipts"]) == set(ORGANISATIONS)
        assert report["readings"] > 0
    status, report = verify(folder / "evidence" / "tampered", folder / "trust")
    assert (status, report["ok"]) == (1, False)

    copy = tmp_path / "copy"
    shutil.copytree(folder / "evidence" / GATEWAYS[1], copy)
    change = change_a_value(copy / "statements.cborseq")
    status, report = verify(copy, folder / "trust")
    assert (status, report["ok"]) == (1, False)
    assert any(f"seq {change.seq}" in failure for failure in report["failures"])


def test_it_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    words = [sys.executable, "-m", "hw_sim.demo", "--keep", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is not the folder of an earlier run; choose another with --keep" in done.stderr
    assert (tmp_path / "photos").is_dir()
