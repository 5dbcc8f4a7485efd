"""What a member carries away: verified without a network, recomputed, and without a byte of anybody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import erasure
from ledger.calling import EmbeddedContracts
from ledger.export import MEMBER, export
from ledger.rules.boundaries import unpack
from signer.statement import parse
from signer.trust import Trust
from signer.verify import verify
from tests.broker import Broker
from tests.ledger import reading
from tests.ledger.on_disk import OnDisk
from tests.ledger.peers import PeerSite
from tests.ledger.scene import COMMUNITY, FIRST, QUARTER, Scene

TIME = (FIRST, FIRST + QUARTER + 1000)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[OnDisk]:
    made = OnDisk(tmp_path / "ledger.db")
    with closing(made.file):
        yield made


def exported(ledger: OnDisk, folder: Path, member: str = "a", **more: Any) -> dict[str, Any]:
    trust = Trust(ledger.roots, {COMMUNITY: (ledger.organisation.certificate,)})
    export(ledger.file, folder, member, **{"group": "g", "from_ms": TIME[0], "until_ms": TIME[1], **more}, trust=trust)
    told: dict[str, Any] = json.loads((folder / MEMBER).read_text())
    return told


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_it_verifies_and_shows_nothing_of_others(ledger: OnDisk, tmp_path: Path) -> None:
    scene, folder = Scene(ledger), tmp_path / "a"
    exported(ledger, folder)
    report = verify(folder)
    assert report.ok, report.failures
    # The genesis and three of a's; the others by their sid, up to the end of the last batch.
    assert (report.statements, report.pruned) == (4, len(scene.line.statements) - 4)
    assert report.receipts[COMMUNITY].receipts == 2
    shown = reading.seen(reading.patterns(scene), everything(folder))
    assert shown >= {"registers of A", "results of A", "coefficient of A", "transfers of A", "guarantees of origin"}
    hidden = {"registers of others", "registers of generation", "results of others", "coefficient of others"}
    assert not shown & (hidden | {"transfers of others", "terms of an order", "what is said in a dispute"})


def test_what_was_settled_is_computed_again_from_what_is_exported(ledger: OnDisk, tmp_path: Path) -> None:
    scene, folder = Scene(ledger), tmp_path / "b"
    told = exported(ledger, folder, "b")
    said = {}
    for _, seq, data in scene.ask("measurements", "OfMeter", meter="m-b", from_ms=TIME[0], until_ms=TIME[1])[
        "statements"
    ]:
        assert bytes.fromhex(data) in (folder / "statements.cborseq").read_bytes()
        values = parse(bytes.fromhex(data)).body.get(11, {})
        said[seq] = tuple(values.get(264, ()))
    (version,) = told["results"]
    (source,) = version["sources"]
    start, end = (unpack(item) for item in source["at"])
    assert (start.imported, end.imported) == (said[start.seq], said[end.seq])
    assert start.imported is not None
    assert end.imported is not None
    assert version["results"]["members"]["b"]["consumed"] == [end.imported[0] - start.imported[0]]
    assert [order["buyer"] for order in told["orders"]] == ["c"]
    assert told["coefficients"][0]["members"] == {"b": 123_457}
    assert [versions[0]["owner"] for versions in told["meters"]] == ["b"]


def test_one_changed_byte_is_found(ledger: OnDisk, tmp_path: Path) -> None:
    Scene(ledger)
    folder = tmp_path / "a"
    exported(ledger, folder)
    file = folder / "statements.cborseq"
    data = bytearray(file.read_bytes())
    data[-80] ^= 1
    file.write_bytes(data)
    assert not verify(folder).ok


def test_after_an_erasure_the_others_export_and_verify_and_the_erased_is_told(ledger: OnDisk, tmp_path: Path) -> None:
    scene = Scene(ledger)
    found, path = reading.patterns(scene), ledger.file.path
    contracts = EmbeddedContracts(path, COMMUNITY)
    points = erasure.of_member(contracts, "a", "g", *TIME)
    erasure.erase(contracts, points, "a", "g", *TIME, "asked by a")
    exported(ledger, tmp_path / "b", "b")
    assert verify(tmp_path / "b").ok
    told = exported(ledger, tmp_path / "a")
    assert [entry["why"] for entry in told["erased"]] == ["asked by a"] * 2
    assert [version["results"] for version in told["results"]] == [None]
    assert not reading.seen(found, everything(tmp_path / "a")) & {"registers of A", "results of A", "transfers of A"}


def test_the_command(tmp_path: Path) -> None:
    directory = tmp_path / "broker"
    directory.mkdir()
    with closing(PeerSite(tmp_path / COMMUNITY, Broker(directory, ["alpha"], [COMMUNITY]), COMMUNITY)) as site:
        ledger = OnDisk(site.ledger)
        with closing(ledger.file):
            Scene(ledger)
            roots = b"".join(_pem(root) for root in ledger.roots)
        words = ["export", "--member", "a", "--from", "2026-05-31", "--until", "2026-06-02"]
        out = tmp_path / "out"
        done = json.loads(site.run(*words, "--group", "g", "--out", str(out), "--json").stdout)
        assert (done["statements"], done["results"], done["receipts"]) == (4, 1, 2)
        trusted = tmp_path / "trust"
        trusted.mkdir()
        (trusted / "gateways.pem").write_bytes(roots)
        (trusted / "receipts.pem").write_bytes(_pem(ledger.organisation.certificate))
        assert verify(out, trusted).ok
        assert "a new name" in site.run(*words, "--out", str(out), code=2).stderr
        assert f"next: aigeco verify {out}-2" in site.run(*words, "--out", f"{out}-2").stdout
        assert "no group q" in site.run(*words, "--group", "q", "--out", f"{out}-3", code=4).stderr
        assert not Path(f"{out}-3").exists()


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(certificate.public_bytes(Encoding.PEM))
