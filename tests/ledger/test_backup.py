"""A ledger is copied while its peer runs, put back where none is, and gateways send again what the copy lacks."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger.embedded import LedgerFile
from tests.broker import Broker
from tests.ledger.peers import PATIENCE_S, PeerSite, cut, line_of, uplink_of
from uplink.delivery import Refused


def test_a_copy_of_a_running_ledger_is_put_back_and_what_it_lacks_is_sent_again(broker: Broker, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with closing(PeerSite(tmp_path / "Org1MSP", broker)) as site:
        site.run("gateways", "add", "alpha")
        peer = site.serve()
        one = {"Org1MSP": broker.organisations["Org1MSP"]}
        alarms: list[str] = []
        uplink = uplink_of(broker, "alpha", one, alarms)
        line = line_of(broker, "alpha").begin().grow(8)
        batches = cut(line, [3, 3, 3])
        uplink.deliver(batches[0], PATIENCE_S)
        assert "up to block 1, call " in site.run("backup", str(copy)).stdout
        assert copy.stat().st_mode & 0o777 == 0o600
        uplink.deliver(batches[1], PATIENCE_S)
        said = json.loads(site.run("backup", str(tmp_path / "second.db"), "--json").stdout)
        assert said["block"] == 2
        assert "is there already" in site.run("backup", str(copy), code=2).stderr
        assert "a peer is running" in site.run("restore", str(copy), code=6).stderr
        uplink.close()
        peer.terminate()
        assert peer.wait(PATIENCE_S) == 0
        assert "is there already" in site.run("restore", str(copy), code=2).stderr

        site.ledger.unlink()
        told = site.run("restore", str(copy)).stdout
        assert "up to block 1" in told
        assert "send it again" in told
        assert [gateway["gateway"] for gateway in json.loads(site.run("gateways", "list", "--json").stdout)["gateways"]]
        site.serve()
        uplink = uplink_of(broker, "alpha", one, alarms)
        # As a gateway does: what it has next is out of order, and it goes on where the ledger stands.
        with pytest.raises(Refused) as caught:
            uplink.deliver(batches[2], PATIENCE_S)
        assert [refusal.seq for _, refusal in caught.value.refusals] == [2]
        assert [uplink.deliver(batch, PATIENCE_S)[0].block for batch in batches[1:]] == [2, 3]
        uplink.close()
        assert site.show("streams")[0]["seq"] == 8
        assert alarms == []


def test_a_copy_that_is_none_or_whose_chain_is_broken_is_not_put_back(tmp_path: Path, broker: Broker) -> None:
    with closing(PeerSite(tmp_path / "Org1MSP", broker)) as site:
        assert "no ledger here" in site.run("backup", str(tmp_path / "x.db"), code=6).stderr
        site.run("gateways", "add", "alpha")
        copy = tmp_path / "copy.db"
        site.run("backup", str(copy))
        assert "No such file" in site.run("backup", str(tmp_path / "no" / "x.db"), code=2).stderr
        shutil.move(site.ledger, tmp_path / "away.db")
        for end in ("-wal", "-shm"):
            Path(f"{site.ledger}{end}").unlink(missing_ok=True)
        (tmp_path / "notes").write_text("no database at all " * 100)
        assert "is no database" in site.run("restore", str(tmp_path / "notes"), code=6).stderr
        LedgerFile(tmp_path / "other.db", "Org2MSP").close()
        assert "of Org2MSP, not of Org1MSP" in site.run("restore", str(tmp_path / "other.db"), code=6).stderr
        changed = tmp_path / "changed.db"
        shutil.copy(copy, changed)
        with closing(sqlite3.connect(changed)) as sql, sql:
            sql.execute("UPDATE state SET value = 'x' WHERE key = 'gateway/alpha'")
        assert "is not what was committed" in site.run("restore", str(changed), code=1).stderr
        assert not site.ledger.exists()
        assert sorted(path.name for path in site.directory.glob("ledger.db*")) == ["ledger.db.lock"]
        wal = Path(f"{site.ledger}-wal")
        wal.write_bytes(b"left")
        assert "is left of another ledger" in site.run("restore", str(copy), code=2).stderr
        wal.unlink()
        assert json.loads(site.run("restore", str(copy), "--json").stdout)["block"] == 0
