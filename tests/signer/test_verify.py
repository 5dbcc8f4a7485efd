"""The verifier finds what was done to evidence, names it, and goes on."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from hw_sim.authority import Authority
from signer import bundle, cbor, statement
from signer.bundle import BundleProblem
from signer.codes import EventCode, GapReason
from signer.keys.file import FileKey
from signer.report import Unpinned
from signer.statement import Instant
from signer.trust import Trust, dump_organisations, dump_pem
from signer.verify import MAX_LISTED, verify


def offsets(folder: Path) -> list[int]:
    """Where each statement begins, and the end."""
    data, found, position = (folder / bundle.STATEMENTS).read_bytes(), [0], 0
    while position < len(data):
        position = cbor.item_end(data, position, "item")
        found.append(position)
    return found


def change(folder: Path, offset: int, name: str = bundle.STATEMENTS, by: int = 1) -> None:
    data = bytearray((folder / name).read_bytes())
    data[offset] ^= by
    (folder / name).write_bytes(data)


def cut_out(folder: Path, *indexes: int) -> None:
    data, at = (folder / bundle.STATEMENTS).read_bytes(), offsets(folder)
    kept = [data[at[i] : at[i + 1]] for i in range(len(at) - 1) if i not in indexes]
    (folder / bundle.STATEMENTS).write_bytes(b"".join(kept))


def only(failures: tuple[str, ...], *words: str) -> None:
    """Exactly one failure, with these words."""
    assert len(failures) == 1, failures
    for word in words:
        assert word in failures[0], failures[0]


def test_whole_evidence_holds(running: Any, tmp_path: Path) -> None:
    report = verify(running.export(tmp_path / "out"))
    assert report.failures == ()
    assert report.ok
    assert (report.statements, report.readings, report.unreceipted, report.pruned) == (13, 10, 0, 0)
    assert report.trust == "self-supplied"
    found = report.as_json()
    assert found["ok"] is True
    assert found["slots"] == {"sdm630": {"expected": 10, "read": 10, "failed": 0, "gap": 0, "missing": 0, "jumped": 0}}
    assert found["receipts"]["Org1MSP"] == {"receipts": 2, "statements": 13}
    assert found["streams"][0]["last"] == 12
    json.dumps(found)


def test_every_changed_byte_is_found(running: Any, tmp_path: Path) -> None:
    """Each byte of one statement in the middle: one failure, that names its file, offset, seq and gateway."""
    folder = running.export(tmp_path / "out")
    at = offsets(folder)
    original = (folder / bundle.STATEMENTS).read_bytes()
    for offset in range(at[6], at[7]):
        change(folder, offset)
        report = verify(folder)
        assert report.failures, offset
        first = report.failures[0]
        assert f"{bundle.STATEMENTS}, byte {at[6]}, seq 6, home-1: " in first, (offset, report.failures)
        assert report.failures_total == 1, (offset - at[6], report.failures)
        assert report.statements == 12
        assert report.receipts["Org2MSP"].statements == 13  # the chain still tells the sid, so the root still holds
        (folder / bundle.STATEMENTS).write_bytes(original)


@pytest.mark.parametrize("index", [0, 12])
def test_changed_first_and_last(running: Any, tmp_path: Path, index: int) -> None:
    folder = running.export(tmp_path / "out")
    at = offsets(folder)
    change(folder, at[index + 1] - 1)
    report = verify(folder)
    assert not report.ok
    assert f"byte {at[index]}, seq {index}" in report.failures[0]


def test_removed(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    cut_out(folder, 6, 7)
    report = verify(folder)
    assert any("seq 8 where 6 is due: 2 statements are missing" in line for line in report.failures)


def test_truncated(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    cut_out(folder, 12)
    report = verify(folder)
    assert any("the evidence ends at seq 11" in line for line in report.failures)
    assert any("last seq is 12 there and 11 in the files" in line for line in report.failures)


def test_swapped(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    data, at = (folder / bundle.STATEMENTS).read_bytes(), offsets(folder)
    (folder / bundle.STATEMENTS).write_bytes(data[: at[6]] + data[at[7] : at[8]] + data[at[6] : at[7]] + data[at[8] :])
    report = verify(folder)
    assert any("seq 7 where 6 is due" in line for line in report.failures)
    assert any("seq 6 where 8 is due" in line for line in report.failures)


def test_twice(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    data, at = (folder / bundle.STATEMENTS).read_bytes(), offsets(folder)
    (folder / bundle.STATEMENTS).write_bytes(data[: at[7]] + data[at[6] :])
    only(verify(folder).failures, "seq 6 where 7 is due", f"byte {at[7]}")


def test_garbage_between(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    data, at = (folder / bundle.STATEMENTS).read_bytes(), offsets(folder)
    (folder / bundle.STATEMENTS).write_bytes(data[: at[6]] + b"\xff" * 50_000 + data[at[6] :])
    report = verify(folder)
    only(report.failures, f"byte {at[6]}")
    assert report.statements == 13


def test_signed_by_another_key(site: Any, tmp_path: Path) -> None:
    site.begin()
    site.describe()
    site.chain._use(FileKey(Authority("Other").key))
    site.run(3)
    report = verify(site.export(tmp_path / "out"))
    assert report.failures_total == 3
    assert report.statements == 2


def test_fork(running: Any, tmp_path: Path) -> None:
    """Two statements signed for one place: the second does not fit."""
    head = running.chain.head
    running.run(1)
    running.chain.head = head
    running.slot_ms += 1
    running.say(running.chain.event("sdm630", running.instant(), EventCode.FROZEN))
    folder = tmp_path / "out"
    writer = bundle.Writer(folder)
    rows = [(index, made.data) for index, made in enumerate(running.statements)]
    writer.add_stream("home-1", statement.stream_of(running.statements[0].sid), rows, ())
    writer.add_receipts(running.receipts)
    writer.add_map("test", b'name = "test"\n')
    writer.finish(running.trust)
    assert any("seq 13 where 14 is due" in line for line in verify(folder).failures)


def test_missing_slot(running: Any, tmp_path: Path) -> None:
    running.slot_ms += 60_000
    running.run(1)
    report = verify(running.export(tmp_path / "out"))
    only(report.failures, "nothing accounts for 1 of 12 slots", str(running.slot_ms - 120_000))
    assert report.slots["sdm630"].missing == 1
    assert report.unreceipted == 1


def test_gap_accounts_for_slots(running: Any, tmp_path: Path) -> None:
    start = running.slot_ms
    running.slot_ms += 3 * 60_000
    running.say(running.chain.gap("sdm630", running.instant(), GapReason.NOT_RUNNING, start, running.slot_ms, 3))
    running.run(1)
    running.read(ok=False)
    report = verify(running.export(tmp_path / "out"))
    assert report.ok, report.failures
    point = report.slots["sdm630"]
    assert (point.expected, point.read, point.failed, point.gap) == (15, 11, 1, 3)


def test_gap_with_a_wrong_number(running: Any, tmp_path: Path) -> None:
    start = running.slot_ms
    running.slot_ms += 3 * 60_000
    running.say(running.chain.gap("sdm630", running.instant(), GapReason.OVERLOAD, start, running.slot_ms, 2))
    running.run(1)
    only(verify(running.export(tmp_path / "out")).failures, "says 2 readings are missing", "it is 3")


def test_gap_of_the_gateway_covers_all(running: Any, tmp_path: Path) -> None:
    start = running.slot_ms
    running.slot_ms += 3 * 60_000
    running.say(running.chain.gap("-", running.instant(), GapReason.NOT_RUNNING, start, running.slot_ms, 99))
    running.run(1)
    assert verify(running.export(tmp_path / "out")).ok


def test_slot_twice_and_off_the_grid(running: Any, tmp_path: Path) -> None:
    running.read(slot_ms=running.slot_ms - 60_000)
    running.read(slot_ms=running.slot_ms + 1)
    report = verify(running.export(tmp_path / "out"))
    assert any(f"slot {running.slot_ms - 60_000} was read before" in line for line in report.failures)
    assert any("is no multiple of the period" in line for line in report.failures)


def test_clock_steps_back_and_missed_slots_are_read(running: Any, tmp_path: Path) -> None:
    wrong, right = running.slot_ms + 3_600_000, running.slot_ms
    running.slot_ms = wrong
    running.run(1)
    running.slot_ms = right
    running.say(running.chain.clock(running.instant(), -3_600_000, 1))
    running.run(60)
    report = verify(running.export(tmp_path / "out"))
    assert report.ok, report.failures


def test_reading_without_descriptor(site: Any, tmp_path: Path) -> None:
    site.begin()
    site.run(1)
    assert "no descriptor" in verify(site.export(tmp_path / "out")).failures[0]


def test_boot_counter_falls(running: Any, tmp_path: Path) -> None:
    running.chain.boot = 0
    running.run(1)
    only(verify(running.export(tmp_path / "out")).failures, "boot counter 0 after 1")


def test_rekey(running: Any, tmp_path: Path) -> None:
    issued = running.operator.gateway("home-1")
    certificate = (issued.certificate.public_bytes(bundle_encoding()),)
    running.say(running.chain.rekey(running.instant(), FileKey(issued.key), certificate))
    running.commit()
    running.run(3)
    running.commit()
    report = verify(running.export(tmp_path / "out"))
    assert report.ok, report.failures


def test_batch_that_goes_on_after_a_rekey(running: Any, tmp_path: Path) -> None:
    issued = running.operator.gateway("home-1")
    certificate = (issued.certificate.public_bytes(bundle_encoding()),)
    running.say(running.chain.rekey(running.instant(), FileKey(issued.key), certificate))
    running.run(1)
    running.commit(("Org1MSP",))
    only(verify(running.export(tmp_path / "out")).failures, "goes on after the rekey")


def test_rekey_to_a_foreign_certificate(running: Any, tmp_path: Path) -> None:
    issued = Authority("Foreign", now=running.now).gateway("home-1")
    certificate = (issued.certificate.public_bytes(bundle_encoding()),)
    running.say(running.chain.rekey(running.instant(), FileKey(issued.key), certificate))
    running.run(2)
    report = verify(running.export(tmp_path / "out"))
    only(report.failures, "seq 13", "no pinned root issued it")


def test_expired_certificate(site: Any, tmp_path: Path) -> None:
    site.issued = site.operator.gateway("home-1", site.issued.key, days=(-1, 1))
    site.begin()
    site.describe()
    site.run(2)
    site.slot_ms += 2 * 86_400_000
    site.run(1)
    report = verify(site.export(tmp_path / "out"))
    assert any("seq 4, home-1: the certificate was not valid at" in line for line in report.failures)


def test_no_reliable_time_yet(site: Any, tmp_path: Path) -> None:
    """A gateway without a clock begins in 1970: its certificate is judged when it knows better."""
    start = site.slot_ms
    instant = Instant(400, 400, 0, 0)
    site.say(site.chain.genesis(instant, (site.issued.certificate.public_bytes(bundle_encoding()),)))
    site.say(site.chain.clock(site.instant(), start, 1))
    site.describe()
    site.run(2)
    report = verify(site.export(tmp_path / "out"))
    assert report.ok, report.failures
    assert report.undated == 1


def test_pruned_keeps_the_chain(running: Any, tmp_path: Path) -> None:
    report = verify(running.export(tmp_path / "out", pruned=frozenset({3, 4, 9})))
    assert report.ok, report.failures
    assert (report.statements, report.pruned, report.unreceipted) == (10, 3, 0)


def test_pruned_with_another_sid(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out", pruned=frozenset({3, 4}))
    size = (folder / bundle.PRUNED).stat().st_size
    change(folder, size - 1, bundle.PRUNED)
    report = verify(folder)
    assert any("prev is not the sid of the statement before it" in line for line in report.failures)
    assert any("root is not that of the statements" in line for line in report.failures)


def test_pruned_without_receipt(running: Any, tmp_path: Path) -> None:
    running.run(2)
    report = verify(running.export(tmp_path / "out", pruned=frozenset({13})))
    assert any("1 pruned statements have no receipt" in line for line in report.failures)


def test_recovered_stream(running: Any, tmp_path: Path) -> None:
    old = running.chain.head
    running.begin(recovered=(old.stream, old.seq, old.sid))
    running.describe()
    running.run(3)
    running.commit()
    report = verify(running.export(tmp_path / "out"))
    assert report.ok, report.failures
    assert [stream.recovered_from for stream in report.streams] == [None, old.stream.hex()]
    assert report.slots["sdm630"].read == 13


def test_recovered_from_a_sid_that_never_was(running: Any, tmp_path: Path) -> None:
    old = running.chain.head
    running.begin(recovered=(old.stream, old.seq - 2, bytes(range(32))))
    report = verify(running.export(tmp_path / "out"))
    only(report.failures, f"seq {old.seq - 2}: a later genesis names another sid")


def test_receipts_out_of_order(running: Any, tmp_path: Path) -> None:
    running.receipts.insert(0, running.receipts.pop())
    report = verify(running.export(tmp_path / "out"))
    assert any("out of order" in line for line in report.failures)


def test_receipt_over_statements_that_are_not_here(running: Any, tmp_path: Path) -> None:
    running.run(2)
    running.commit()
    running.statements = running.statements[:-2]
    report = verify(running.export(tmp_path / "out"))
    assert all("covers statements that are not here" in line for line in report.failures)
    assert report.failures_total == 2


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"gateway": "home-2"}, "is for gateway home-2"),
        ({"block": 0}, "block 0 is below 1"),
    ],
)
def test_receipt_that_says_something_else(running: Any, tmp_path: Path, what: dict[str, Any], words: str) -> None:
    running.receipts[-1] = running.sign_receipt("Org2MSP", running.batches[-1], **what)
    only(verify(running.export(tmp_path / "out")).failures, words)


def test_receipt_of_an_unknown_organisation(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    trust = Trust((running.operator.certificate,), {"Org1MSP": (running.organisations["Org1MSP"].certificate,)})
    (folder / bundle.RECEIPTS_PEM).write_bytes(dump_organisations(trust.organisations))
    report = verify(folder)
    assert report.failures_total == 2
    words = "certificate: no root is pinned for the organisation 'Org2MSP'"
    (unpinned,) = report.unpinned.items()
    assert unpinned == ("Org2MSP", Unpinned(words, report.failures[0].removesuffix(f": {words}"), 2))
    assert f"{bundle.RECEIPTS}, byte " in report.failures[0]
    assert report.receipts["Org1MSP"].statements == 13


def test_changed_receipt(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    original = (folder / bundle.RECEIPTS).read_bytes()
    for offset in range(0, cbor.item_end(original, 0, "item"), 3):
        change(folder, offset, bundle.RECEIPTS)
        report = verify(folder)
        assert report.failures, offset
        assert "byte 0" in report.failures[0]
        assert report.receipts["Org2MSP"].statements == 13, offset
        (folder / bundle.RECEIPTS).write_bytes(original)


def test_anchors_from_elsewhere(running: Any, tmp_path: Path) -> None:
    folder, anchors = running.export(tmp_path / "out"), tmp_path / "anchors"
    anchors.mkdir()
    for name in (bundle.GATEWAYS_PEM, bundle.RECEIPTS_PEM):
        shutil.copy(folder / name, anchors)
        (folder / name).unlink()
    report = verify(folder, anchors)
    assert report.ok, report.failures
    assert report.trust == "external"
    assert not verify(folder).ok
    (anchors / bundle.GATEWAYS_PEM).write_bytes(dump_pem((Authority("Other").certificate,)))
    assert any("no pinned root issued it" in line for line in verify(folder, anchors).failures)


def test_wrong_map(running: Any, tmp_path: Path) -> None:
    folder = running.export(tmp_path / "out")
    (path,) = (folder / bundle.MAPS).iterdir()
    path.write_bytes(b"another")
    only(verify(folder).failures, "its content has another digest")
    path.unlink()
    report = verify(folder)
    assert report.ok
    assert report.missing_maps == (path.stem,)


def test_failures_are_counted_when_not_listed(site: Any, tmp_path: Path) -> None:
    site.begin()
    site.describe()
    site.chain._use(FileKey(Authority("Other").key))
    site.run(MAX_LISTED + 20)
    report = verify(site.export(tmp_path / "out"))
    assert report.failures_total == MAX_LISTED + 20
    assert len(report.failures) == MAX_LISTED


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"version": 2}', b'{"version": 1, "streams": [{}]}', b"[" * 99999]
)
def test_no_manifest(running: Any, tmp_path: Path, content: bytes) -> None:
    folder = running.export(tmp_path / "out")
    (folder / bundle.MANIFEST).write_bytes(content)
    with pytest.raises(BundleProblem):
        verify(folder)
    (folder / bundle.MANIFEST).unlink()
    with pytest.raises(BundleProblem):
        verify(folder)


@pytest.mark.parametrize("seed", range(6))
def test_damage_anywhere(running: Any, tmp_path: Path, seed: int) -> None:
    """Whatever happens to whichever file: a report or a BundleProblem; a damaged sequence is never taken as whole."""
    chance = random.Random(seed)
    folder = running.export(tmp_path / "out", pruned=frozenset({4, 5}))
    assert verify(folder).ok
    for name in (bundle.STATEMENTS, bundle.RECEIPTS, bundle.PRUNED, bundle.MANIFEST, "gateways.pem", "receipts.pem"):
        original = (folder / name).read_bytes()
        for _ in range(12):
            data = bytearray(original)
            position, size = chance.randrange(len(data)), chance.choice((1, 2, 8, 64, 1000))
            how = chance.randrange(4)
            if how == 0:
                data[position] ^= chance.randrange(1, 256)
            elif how == 1:
                del data[position : position + size]
            elif how == 2:
                data[position:position] = chance.randbytes(size)
            else:
                data[position:position] = data[:size]
            (folder / name).write_bytes(data)
            try:
                report = verify(folder)
            except BundleProblem:
                assert name == bundle.MANIFEST
            else:
                assert not report.ok or not name.endswith(".cborseq"), (name, how, position, size)
        (folder / name).write_bytes(original)


def test_writer_refuses_a_folder_in_use(running: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleProblem):
        bundle.Writer(tmp_path)
    with pytest.raises(BundleProblem):
        running.export(running.export(tmp_path / "out"))


def test_nothing_is_no_evidence(running: Any, tmp_path: Path) -> None:
    writer = bundle.Writer(tmp_path / "out")
    writer.finish(running.trust)
    only(verify(tmp_path / "out").failures, "evidence of nothing")


def test_progress_is_told(running: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    running.run(600)
    verify(running.export(tmp_path / "out"), progress=lambda done, size: told.append((done, size)))
    assert len(told) > 1
    assert all(done <= size for done, size in told)
    assert told[-1][0] == told[-1][1]


def bundle_encoding() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER
