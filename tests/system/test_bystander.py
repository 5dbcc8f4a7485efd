"""Who looks at a spool at the wrong moment: while it is being made, there is nothing wrong with it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge.database import SpoolBusy, SpoolProblem
from edge.spool import Spool
from edge.spool_read import SpoolReader
from hw_sim.lookout import Lookout


@pytest.fixture(params=["no file", "no byte", "no table", "no statement"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A spool as it is for moments, or after a crash in one of them."""
    path = tmp_path / "spool.db"
    if request.param == "no byte":
        path.touch()
    elif request.param == "no table":  # after journal_mode = WAL, before the tables
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        assert path.stat().st_size
    elif request.param == "no statement":
        Spool.open(path, "gateway-1", 1_790_000_000_000).close()
    return path


def test_a_spool_that_is_being_made_is_not_damaged(spool: Path, request: pytest.FixtureRequest) -> None:
    if "no statement" in request.node.name:
        reader = SpoolReader.read(spool)
        assert reader.streams() == ()
        assert reader.counts().stored == 0
        reader.close()
        return
    with pytest.raises(SpoolProblem) as caught:
        SpoolReader.read(spool)
    assert "restart" not in "".join(caught.value.__notes__)
    assert isinstance(caught.value, SpoolBusy) == spool.exists()


def test_a_lookout_sees_nothing_yet(spool: Path) -> None:
    lookout = Lookout("gateway-1", spool)
    lookout.look()
    assert lookout.stored == 0
