"""What is erased is nowhere in the ledger's file, and all that others have stays and verifies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from ledger import erasure, requests
from ledger.calling import EmbeddedContracts
from ledger.embedded import LedgerFile
from ledger.rules.record import pack
from ledger.rules.world import Caller, Declined, Reason
from tests.broker import Broker
from tests.ledger import reading
from tests.ledger.on_disk import OnDisk
from tests.ledger.peers import PeerSite
from tests.ledger.scene import COMMUNITY, FIRST, QUARTER, SETTLER, Scene

OF_A = ("registers of A", "results of A", "transfers of A")
TIME = (FIRST, FIRST + QUARTER + 1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def scene(path: Path) -> Iterator[Scene]:
    ledger = OnDisk(path)
    with closing(ledger.file):
        yield Scene(ledger)


def everywhere(path: Path) -> bytes:
    """Every byte of the file and of what lies beside it."""
    return b"".join(each.read_bytes() for each in sorted(path.parent.rglob("*")) if each.is_file())


def erase(path: Path, member: str = "a") -> erasure.Erased:
    contracts = EmbeddedContracts(path, COMMUNITY)
    points = erasure.of_member(contracts, member, "g", *TIME)
    done = erasure.erase(contracts, points, member, "g", *TIME, "asked by a")
    assert contracts.tidy()
    return done


def test_every_byte(path: Path, scene: Scene) -> None:
    found = reading.patterns(scene)
    salts = reading.Traces(_salts(scene, "a-home"))
    assert reading.seen(found, everywhere(path)) >= set(OF_A), "it is found where it is"
    assert salts.search(everywhere(path))
    others = [scene.ask("sharing", "Results", group="g", first_ms=FIRST, member=name) for name in "bcde"]
    scene.ledger.file.close()  # type: ignore[attr-defined]

    assert erase(path) == erasure.Erased(2, 1, 1)
    left = reading.seen(found, everywhere(path))
    assert not left & set(OF_A)
    assert left >= {"registers of others", "results of others", "registers of generation"}
    assert not salts.search(everywhere(path))
    assert erase(path).runs == 0, "a second time there is nothing to do"

    ledger = OnDisk(path)
    with closing(ledger.file):
        scene.ledger = ledger
        ledger.file.check_chain()
        assert [scene.ask("sharing", "Results", group="g", first_ms=FIRST, member=name) for name in "bcde"] == others
        assert len(scene.ask("sharing", "Versions", group="g", first_ms=FIRST)) == 1
        with pytest.raises(Declined, match="erased") as caught:
            scene.do("sharing", "Settle", SETTLER, group="g", first_ms=FIRST, count=1)
        assert caught.value.reason is Reason.CONFLICT
        with pytest.raises(Declined, match="erased"):
            scene.do("exchanges", "Record", SETTLER, group="g", first_ms=FIRST)
        asked = [
            entry["why"] for contract in ("sharing", "exchanges") for entry in scene.ask(contract, "Erased", group="g")
        ]
        asked += [entry["why"] for entry in scene.ask("measurements", "Purged", stream=scene.stream)]
        assert asked == ["asked by a"] * 4
        # The stream goes on, and what comes again is known.
        assert scene.send(scene.line.batch(0, len(scene.line.statements) // 2 + 1))["outcome"] == "exists"
        assert scene.send(scene.line.grow(1).rest(len(scene.line.statements) - 1))["outcome"] == "committed"
        everyone = reading.tried(scene, ledger.file.world.contracts.values(), reading.WHO["auditor"])
        assert not reading.seen(found, everyone) & {"registers of A", "results of A"}


def test_a_file_that_was_only_purged_is_not_tidy_yet(path: Path, scene: Scene) -> None:
    """Why the file is written anew: the log holds what was there."""
    found = reading.patterns(scene)
    given = {"stream": scene.stream, "first": 0, "why": "x"}
    scene.do("measurements", "Purge", Caller(COMMUNITY, "eva", {"aigeco.role": "eraser"}), **given)
    assert "registers of A" in reading.seen(found, everywhere(path))
    scene.ledger.file.tidy()  # type: ignore[attr-defined]
    assert scene.ledger.file.world._sql.execute("PRAGMA user_version").fetchone() == (1,)  # type: ignore[attr-defined]


def _salts(scene: Scene, sub: str) -> tuple[bytes, ...]:
    from signer.statement import parse

    claims = [parse(said.data) for said in scene.line.statements]
    return tuple(salt for claim in claims if claim.sub == sub for salt in (claim.salt, claim.salt.hex().encode()))


def test_a_running_peer_clears_its_file_once_no_call_waits(path: Path, scene: Scene) -> None:
    file: LedgerFile = scene.ledger.file  # type: ignore[attr-defined]
    found = reading.patterns(scene)
    for first in (0, scene.ask("measurements", "Batches", stream=scene.stream)[1]["first"]):
        given = {"stream": scene.stream, "first": first, "sub": "b-home", "why": "x"}
        requests.leave(path, requests.Request("measurements", "Purge", pack(given)))
    said: list[str] = []
    requests.take_in(file, said.append)
    assert said == ["called measurements Purge: done"] * 2
    values = reading.Traces(_salts(scene, "b-home"))
    assert values.search(path.with_name("ledger.db-wal").read_bytes())
    requests.take_in(file, said.append)
    assert not values.search(everywhere(path))
    assert "registers of A" in reading.seen(found, everywhere(path))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PeerSite]:
    directory = tmp_path / "broker"
    directory.mkdir()
    made = PeerSite(tmp_path / COMMUNITY, Broker(directory, ["alpha"], [COMMUNITY]), COMMUNITY)
    ledger = OnDisk(made.ledger)
    with closing(ledger.file):
        Scene(ledger)
    yield made
    made.close()


def test_the_command(site: PeerSite, monkeypatch: pytest.MonkeyPatch) -> None:
    time = ["--from", "2026-05-31", "--until", "2026-06-02", "--why", "asked by a"]
    for words, problem in (
        ([], "whose is not said"),
        (["--member", "a", "--meter", "m-a"], "said twice"),
        (["--meter", "m-a", "--group", "g"], "said twice"),
        (["--member", "a", "--until", "2026-05-01"], "--until 2026-05-01 is not after"),
        (["--member", "a", "--from", "yesterday"], "--from: 'yesterday' is no date"),
    ):
        assert problem in site.run("erase", *time, *words, code=2).stderr
    assert "no group q" in site.run("erase", *time, "--member", "a", "--group", "q", code=4).stderr
    monkeypatch.setattr("sys.stdin", StringIO("n\n"))
    asked = site.run("erase", *time, "--member", "a", "--group", "g", code=130)
    assert "statements of alpha/a-home" in asked.stdout
    done = json.loads(site.run("erase", *time, "--member", "a", "--group", "g", "--yes", "--json").stdout)
    assert (done["runs"], done["stretches"], done["exchanged"], done["tidy"]) == (2, 1, 1, True)
    assert "erased: 2 runs" in site.run("erase", *time, "--meter", "m-b", "--yes").stdout
    assert "erased: 2 runs" in site.run("erase", *time, "--gateway", "alpha", "--sub", "c-home", "--yes").stdout
    assert "erased: 2 runs" in site.run("erase", *time, "--gateway", "alpha", "--yes").stdout
    assert "erased: 0 runs" in site.run("erase", *time, "--gateway", "alpha", "--yes").stdout
    site.run("show", "--check")
