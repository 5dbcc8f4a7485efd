"""A ledger of an older version is brought up to date by who writes it, whole or not at all, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ledger import schema
from ledger.commit import LedgerProblem
from ledger.embedded import LedgerFile

DATA = Path(__file__).parents[1] / "data" / "ledgers"
OLD = sorted(DATA.glob("version-*.db"))


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of an old ledger, and what the code of its time read from it."""
    path = tmp_path / "ledger.db"
    shutil.copy(request.param, path)
    return path, json.loads(request.param.with_suffix(".json").read_text())


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _keys(file: LedgerFile, stream: bytes) -> list[str]:
    given = {"stream": stream.hex()}
    return sorted(json.loads(file.operator.ask("measurements", "Stream", given))["keys"])


def read(file: LedgerFile) -> dict[str, Any]:
    return {
        "gateways": [[it.gateway, _hex(it.root), _hex(it.certificate), it.revoked] for it in file.gateways()],
        "streams": [
            [
                *(it.stream.hex(), it.gateway, it.seq, it.head.hex(), it.key.hex(), _hex(it.recovers)),
                _keys(file, it.stream),
            ]
            for it in file.streams()
        ],
        "commits": [
            [
                *(it.block, it.transaction.hex(), it.stream.hex(), it.first, it.count, it.root.hex(), it.issued_s),
                *[part.hex() for part in file.content(it.block)],
                [sid.hex() for sid in file.sids(it.stream, it.first, it.count)],
            ]
            for it in file.commits()
        ],
        "forks": [
            [
                *(it.fork.stream.hex(), it.fork.seq, it.fork.committed.hex(), it.fork.other.hex()),
                *(it.fork.statement.hex(), it.root.hex(), it.seen_s),
            ]
            for it in file.forks()
        ],
    }


def test_nothing_is_lost(old: tuple[Path, dict[str, Any]]) -> None:
    path, known = old
    known.pop("roots")
    for _ in range(2):  # brought up to date, and opened again as one of today
        file = LedgerFile(path, "Org1MSP")
        assert read(file) == known
        file.check_chain()
        file.close()


def test_whoever_reads_leaves_it_and_says_who_brings_it_up_to_date(old: tuple[Path, dict[str, Any]]) -> None:
    path, _ = old
    before = path.read_bytes()
    with pytest.raises(LedgerProblem, match="older than this program") as caught:
        LedgerFile(path, "Org1MSP", read_only=True)
    assert caught.value.__notes__ == ["try: aigeco-peer run, which brings it up to date when it starts"]
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_it_as_it_was(
    old: tuple[Path, dict[str, Any]],
) -> None:
    path, known = old
    before = list(sqlite3.connect(path).iterdump())
    connection = sqlite3.connect(path, isolation_level=None)
    (version,) = connection.execute("SELECT version FROM ledger").fetchone()
    # The last statement of all is refused.
    connection.execute("CREATE TEMP TRIGGER t BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'as asked'); END")
    with pytest.raises(sqlite3.Error, match="as asked"):
        schema.migrate(connection, version, "Org1MSP", lambda: 1_790_000_000.0)
    connection.close()
    assert list(sqlite3.connect(path).iterdump()) == before
    file = LedgerFile(path, "Org1MSP")
    assert read(file)["commits"] == known["commits"]
    file.close()
