"""``aigeco verify``: 0 only if all holds, one line a failure, and what is no evidence is said once."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.cli import verify
from signer.report import Report, Unpinned

Aigeco = Callable[..., Any]


def test_evidence_that_holds(aigeco: Aigeco, bundle: Path, evidence: Any) -> None:
    verified = aigeco("verify", bundle)
    assert verified.code == 0, verified.out
    assert verified.err == ""
    assert verified.out.splitlines() == [
        f"{len(evidence.statements)} statements of 1 gateway, every slot accounted for (16: 13 read, 1 failed, 2 in "
        "signed gaps)",
        f"1 receipt of Org1MSP over {evidence.committed} statements",
        "3 statements without a receipt yet",
        "holds, by trust anchors that the folder brings itself (--trust DIR2 takes them from elsewhere)",
    ]


def test_json(aigeco: Aigeco, bundle: Path, evidence: Any) -> None:
    verified = aigeco("verify", bundle, "--json")
    assert verified.code == 0
    shown = json.loads(verified.out)
    assert shown["ok"] is True
    assert shown["statements"] == len(evidence.statements)
    assert shown["trust"] == "self-supplied"
    assert shown["slots"]["house"] == {"expected": 16, "read": 13, "failed": 1, "gap": 2, "missing": 0, "jumped": 0}


def test_trust_from_elsewhere(aigeco: Aigeco, bundle: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "trust"
    elsewhere.mkdir()
    for name in ("gateways.pem", "receipts.pem"):
        shutil.move(bundle / name, elsewhere / name)
    verified = aigeco("verify", bundle, "--trust", elsewhere)
    assert verified.code == 0, verified.out
    assert verified.out.splitlines()[-1] == "holds, by trust anchors from elsewhere"
    assert json.loads(aigeco("verify", bundle, "--trust", elsewhere, "--json").out)["trust"] == "external"


def test_receipts_of_organisations_without_a_root_are_one_line_each() -> None:
    """However many of them there are; what else is wrong is not hidden behind them."""
    words = {name: f"certificate: no root is pinned for the organisation '{name}'" for name in ("Org1MSP", "Org2MSP")}
    lines = [
        f"receipts.cborseq, byte {at}, seq {at}..{at}, {name}: {words[name]}" for at in range(50) for name in words
    ]
    unpinned = {name: Unpinned(words[name], f"receipts.cborseq, byte 0, seq 0..0, {name}", 70) for name in words}
    other = "statements.cborseq, byte 7, seq 1, home-1: is damaged"
    made = Report(1, 1, 0, 1, 0, {}, (), {}, {}, unpinned, (), "external", (other, *lines[:99]), 143)
    shown = [line.removeprefix("does not hold: ") for line in verify._lines(made) if line.startswith("does not hold: ")]
    assert shown == [
        *(f"70 receipts of {name}: {words[name]}; the first: {unpinned[name].first}" for name in words),
        other,
        "2 more",
    ]
    assert len(made.as_json()["failures"]) == 100


def test_a_receipt_without_a_root(aigeco: Aigeco, bundle: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "trust"
    elsewhere.mkdir()
    shutil.copy(bundle / "gateways.pem", elsewhere)
    (elsewhere / "receipts.pem").write_bytes(
        (bundle / "receipts.pem").read_bytes().replace(b"organisation: Org1MSP", b"organisation: OtherMSP")
    )
    verified = aigeco("verify", bundle, "--trust", elsewhere)
    assert verified.code == 1
    line, *_, verdict = verified.out.splitlines()
    words = "no root is pinned for the organisation 'Org1MSP'; the first: receipts.cborseq, byte 0, seq 0.."
    assert line.startswith(f"does not hold: 1 receipt of Org1MSP: certificate: {words}")
    assert verdict == "does NOT hold: 1 failure"
    shown = json.loads(aigeco("verify", bundle, "--trust", elsewhere, "--json").out)
    assert len(shown["failures"]) == shown["unpinned"]["Org1MSP"]["receipts"] == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_a_changed_byte_is_found_and_named(aigeco: Aigeco, bundle: Path, evidence: Any, as_json: bool) -> None:
    offset = sum(len(each.data) for each in evidence.statements[:7]) + 200
    with open(bundle / "statements.cborseq", "r+b") as file:
        (byte,) = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte ^ 1]), offset)
    verified = aigeco("verify", bundle, *(["--json"] if as_json else []))
    assert verified.code == 1
    assert verified.err == ""
    if as_json:
        shown = json.loads(verified.out)
        assert shown["ok"] is False
        failures = shown["failures"]
    else:
        *lines, last = verified.out.splitlines()
        failures = [line for line in lines if line.startswith("does not hold: ")]
        assert last.startswith("does NOT hold: ")
    assert any("statements.cborseq" in failure and "seq 7" in failure for failure in failures)


def test_a_missing_statement(aigeco: Aigeco, bundle: Path, evidence: Any) -> None:
    kept = [each.data for number, each in enumerate(evidence.statements) if number != 5]
    (bundle / "statements.cborseq").write_bytes(b"".join(kept))
    verified = aigeco("verify", bundle)
    assert verified.code == 1
    assert "seq 6 where 5 is due" in verified.out


def test_somebody_else_s_anchors(aigeco: Aigeco, bundle: Path, tmp_path: Path) -> None:
    from hw_sim.authority import Authority

    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "gateways.pem").write_bytes(Authority("Operator").pem)
    (stranger / "receipts.pem").write_bytes(Authority("Org1MSP").pem)
    assert aigeco("verify", bundle, "--trust", stranger).code == 1


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[", b'{"version": 2, "streams": []}'])
def test_a_folder_that_is_no_evidence(aigeco: Aigeco, tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content is not None:
        (folder / "manifest.json").write_bytes(content)
    verified = aigeco("verify", folder, "--json")
    assert verified.code == 2
    words, advice = verified.problem
    assert "manifest.json" in words
    assert "aigeco export" in advice[0]
    assert verified.out == ""


def test_a_folder_that_is_not_there(aigeco: Aigeco, tmp_path: Path) -> None:
    verified = aigeco("verify", tmp_path / "nowhere")
    assert verified.code == 2
    assert "nowhere" in verified.problem[0]
