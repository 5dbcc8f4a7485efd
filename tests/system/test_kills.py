"""The whole chain under SIGKILL: gateway, peers and broker die at random moments, in random order, also together.

Rules
- The seed says who dies and when; a moment is counted in statements that reached the disk, so a slow machine takes
  longer and loses nothing of it, plus a fraction of a second that lands it anywhere in between.
- A witness writes down whatever was ever seen on a disk; at the end all of it must still be there, the same.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.database import SpoolProblem
from edge.spool_read import SpoolReader
from hw_sim.stage import ORGANISATIONS, Stage
from ledger.commit import LedgerProblem
from signer.codes import Kind
from signer.statement import parse
from tests.system.audit import check_holds, check_slots
from tests.system.home import Home
from tests.system.town import Line, Town, one_meter

GATEWAY = "gateway-1"
LINES = (
    Line("cellar", (("heat-pump", "eastron_sdm630", 1), ("house", "carlo_gavazzi_em330_em340", 2))),
    Line("roof", (("inverter", "sunspec_generic", 1),)),
    Line("rs485", (("flat-1", "eastron_sdm120", 1), ("flat-2", "eastron_sdm120", 2)), baud=38400),
)
# Share of the kills.
WEIGHTS = {GATEWAY: 5, "mosquitto": 2, ORGANISATIONS[0]: 2, ORGANISATIONS[1]: 2}
# How many die at once.
TOGETHER = (1, 1, 1, 1, 1, 1, 2, 2, 4)
MOST_STATEMENTS = 6
LONGEST_PAUSE_S = 0.3


class Witness:
    """Remembers whatever was seen, and notices when it changes.

    Attributes:
        seen: the statements of the gateway's stream, by seq.
        settled: how many of them had k receipts.
    """

    def __init__(self, town: Town, home: Home) -> None:
        self._town = town
        self._home = home
        self._stream = b""
        self.seen: list[bytes] = []
        self.settled = 0
        self.receipts: set[bytes] = set()
        self.blocks: dict[str, list[tuple[bytes, bytes]]] = {name: [] for name in town.peers}

    def look_at_spool(self) -> None:
        """Take in what is new."""
        if not self._home.spool.exists():
            return
        try:
            reader = SpoolReader.read(self._home.spool)
        except SpoolProblem:
            assert not self.seen, "the spool could be read before"
            return
        try:
            self._take(reader)
        finally:
            reader.close()

    def _take(self, reader: SpoolReader) -> None:
        streams = reader.streams()
        if not streams:
            assert not self.seen
            return
        assert len(streams) == 1, "a kill is no reason to begin another stream"
        assert self._stream in (b"", streams[0].id)
        self._stream = streams[0].id
        again = max(0, len(self.seen) - 1)  # the last one is looked at once more
        for seq, message in reader.statements(1, again):
            if seq < len(self.seen):
                assert message == self.seen[seq], f"statement {seq} has changed"
            else:
                assert seq == len(self.seen)
                self.seen.append(message)
        committed = reader.counts().committed
        assert committed >= self.settled, "what was settled no longer is"
        self.settled = committed

    def look_at_ledgers(self) -> None:
        """Take in what is new on the ledgers; one that is just being made shows nothing."""
        for organisation, blocks in self.blocks.items():
            try:
                with self._town.ledger(organisation) as file:
                    for commit in file.commits(max(0, len(blocks) - 1)):
                        if commit.block <= len(blocks):
                            assert blocks[commit.block - 1] == (commit.root, commit.transaction)
                        else:
                            assert commit.block == len(blocks) + 1
                            blocks.append((commit.root, commit.transaction))
            except LedgerProblem:
                assert not blocks

    def check(self) -> None:
        """All that was ever seen is still there, and both ledgers hold the same as the spool."""
        with self._home.reading() as reader:
            (stream,) = reader.streams()
            stored = [message for _, message in reader.statements(stream.number)]
            committed = reader.counts().committed
        assert stored[: len(self.seen)] == self.seen
        assert [parse(message).seq for message in stored] == list(range(len(stored)))
        assert committed >= self.settled
        for organisation, blocks in self.blocks.items():
            with self._town.ledger(organisation) as file:
                found = [(commit.root, commit.transaction) for commit in file.commits()]
                assert found[: len(blocks)] == blocks
                assert not file.forks()
            on_ledger = self._town.on_ledger(organisation)
            assert set(on_ledger) == {stream.id}
            statements = on_ledger[stream.id]
            assert len(statements) >= committed, f"{organisation} signed for {committed}, and has {len(statements)}"
            assert statements == stored[: len(statements)]


class Campaign:
    """Kills, counted.

    Attributes:
        killed: how often each was killed.
    """

    def __init__(self, town: Town, seed: int) -> None:
        self._random = random.Random(seed)
        self._town = town
        self._home = town.homes[GATEWAY]
        self._actors = {GATEWAY: self._home.actor, "mosquitto": town.broker} | town.peers
        self.witness = Witness(town, self._home)
        self.killed = dict.fromkeys(WEIGHTS, 0)

    def run(self, kills: int) -> None:
        """Kill so often, and start again what died; everybody dies in the last blow."""
        while (left := kills - sum(self.killed.values())) > len(WEIGHTS):
            self._wait()
            self._strike(self._random.choice(TOGETHER[: -1 if left < 2 * len(WEIGHTS) else None]))
        self._wait()
        self._strike(len(WEIGHTS))

    def _wait(self) -> None:
        """Until some statements more are on the disk, and a moment."""
        goal = len(self.witness.seen) + self._random.randint(0, MOST_STATEMENTS)

        def enough() -> bool:
            self.witness.look_at_spool()
            return len(self.witness.seen) >= goal

        self._home.until(enough)
        time.sleep(self._random.uniform(0, LONGEST_PAUSE_S))

    def _strike(self, count: int) -> None:
        victims: list[str] = []
        while len(victims) < count:
            (name,) = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
            if name not in victims:
                victims.append(name)
        for name in victims:
            self._actors[name].stop(signal.SIGKILL)
            self.killed[name] += 1
        self.witness.look_at_spool()
        self.witness.look_at_ledgers()
        time.sleep(self._random.uniform(0, LONGEST_PAUSE_S))
        self._random.shuffle(victims)
        for name in victims:
            self._actors[name].start()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with Stage(tmp_path, (GATEWAY,)) as stage:
        made = Town(stage, {GATEWAY: LINES})
        made.open()
        yield made
        made.close()


def _campaign(town: Town, seed: int, kills: int) -> None:
    home = town.homes[GATEWAY]
    home.start()
    campaign = Campaign(town, seed)
    campaign.run(kills)
    home.stores(1)  # it is there again
    home.settles()
    check_holds(town.evidence(home, "running"))
    home.stop()
    report = town.evidence(home, "ended")
    (claims,) = home.claims().values()
    check_holds(report, len(claims))
    check_slots(claims)
    assert set(report["slots"]) == {name for line in LINES for name, _, _ in line.meters}
    assert set(report["receipts"]) == set(ORGANISATIONS)
    campaign.witness.look_at_ledgers()
    campaign.witness.check()
    # It was a campaign: everybody died, the gateway came back often, and work was done between the blows.
    assert all(campaign.killed.values()), campaign.killed
    boots = sum(claim.kind == Kind.BOOT for claim in claims)
    assert boots > campaign.killed[GATEWAY] / 3, (boots, campaign.killed)
    assert all(len(blocks) > 3 for blocks in campaign.witness.blocks.values())


def test_fifteen_kills(town: Town) -> None:
    _campaign(town, seed=1, kills=15)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_two_thousand_kills(town: Town, seed: int) -> None:
    _campaign(town, seed=100 + seed, kills=200)


def test_a_standby_takes_over(tmp_path: Path) -> None:
    with Stage(tmp_path, (GATEWAY,)) as stage:
        town = Town(stage, {GATEWAY: one_meter(GATEWAY)})
        town.open()
        home, organisation = town.homes[GATEWAY], ORGANISATIONS[0]
        first = town.peers[organisation]
        second = stage.add(f"{organisation}-standby", first.command)
        second.start()
        town.says(second, "standing by")
        home.start()
        home.settles()
        assert "serving" not in second.log.read_text()
        for dying, next_one in ((first, second), (second, first)):
            dying.stop(signal.SIGKILL)
            town.says(next_one, "taking over")
            town.says(next_one, "serving")
            home.stores(1)
            home.settles()
            dying.log.unlink()
            dying.start()
            town.says(dying, "standing by")
        home.stop()
        check_holds(town.evidence(home, "evidence"))
        with home.reading() as reader:
            stored = [message for _, message in reader.statements(1)]
        for name in ORGANISATIONS:
            (statements,) = town.on_ledger(name).values()
            assert statements == stored[: len(statements)]
            assert len(statements) >= home.counts().committed
        town.close()
