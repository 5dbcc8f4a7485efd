"""The spool against a model in memory: random work, restarts, crashes and full disks, in any order.

A crash is a copy of the files taken while the spool is open, opened as another spool: what a killed process leaves.
Kills in the middle of a write are in test_kill.py.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.database import SpoolFull
from edge.spool import Position, Spool
from signer.batch import Batch
from signer.codes import Kind
from signer.statement import Statement
from tests.edge import chains
from tests.edge.chains import GATEWAY, START_MS, instant, receipt_for

PERIOD_MS = 1000
POINTS = 6
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""No state here depends on what a disk does, and thousands of commits do not wait for one."""


@dataclass
class ModelStream:
    """What one stream must hold."""

    made: list[Statement] = field(default_factory=list)
    batches: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # first -> (count, root)
    committed: int = 0  # seq up to which (exclusive) it is
    abandoned_from: int | None = None
    carried_to: int = 0
    gone: set[int] = field(default_factory=set)


class SpoolModel(RuleBasedStateMachine):
    """Everything that happens to a spool."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-model-", dir=MEMORY))
        self.life = itertools.count()
        self.slot = 0
        self.streams: list[ModelStream] = []
        self.receipts: set[bytes] = set()
        self.blocks = itertools.count(1)
        self.positions: dict[str, Position] = {}
        self.waiting: Batch | None = None

    @initialize()
    def start(self) -> None:
        self.path = self.folder / "0" / "spool.db"
        self.path.parent.mkdir()
        self.spool = Spool.open(self.path, GATEWAY, START_MS)
        self.chain = chains.chain()
        self.begin_stream(None)

    def begin_stream(self, abandon_from: int | None) -> None:
        before = self.spool.head
        made_by = chains.chain(seed=next(self.life) + 1)
        made = [chains.genesis(made_by, before)]
        self.spool.append(made, abandon_from=abandon_from)
        self.chain = made_by
        self.streams.append(ModelStream(made))
        self.waiting = None

    @property
    def stream(self) -> ModelStream:
        return self.streams[-1]

    def group(self, points: int, big: bool) -> tuple[list[Statement], dict[str, Position]]:
        self.slot += 1
        until = Position(START_MS + (self.slot + 1) * PERIOD_MS, PERIOD_MS)
        made, moved = [], {}
        for number in range(points):
            sub = f"m{number}"
            if sub not in self.positions or self.positions[sub].period_ms is None:
                made.append(self.chain.descriptor(sub, instant(), chains.descriptor(PERIOD_MS)))
            words = 110 if big else 20
            made.append(self.chain.reading(chains.reading(sub, self.slot, words), instant(self.slot * 1000)))
            moved[sub] = until
        return made, moved

    def kept(self, made: list[Statement], moved: dict[str, Position]) -> None:
        self.stream.made += made
        self.positions.update(moved)

    @rule(points=st.integers(1, POINTS), big=st.booleans())
    def store(self, points: int, big: bool) -> None:
        made, moved = self.group(points, big)
        self.spool.append(made, moved)
        self.kept(made, moved)

    @rule(groups=st.integers(20, 150), then_crash=st.booleans())
    def store_much(self, groups: int, then_crash: bool) -> None:
        for _ in range(groups):
            made, moved = self.group(POINTS if self.slot % 40 == 0 else 1 + self.slot % 4, big=False)
            self.spool.append(made, moved)
            self.kept(made, moved)
            if then_crash and self.spool._unsaved == len(made):  # the positions were just written down
                self.crash()

    @rule(length=st.integers(1, 5), then_crash=st.booleans())
    def store_a_gap(self, length: int, then_crash: bool) -> None:
        sub = "m0"
        if sub not in self.positions:
            return
        self.slot += length
        start = self.positions[sub].until_ms or 0
        end = START_MS + (self.slot + 1) * PERIOD_MS
        made = [self.chain.gap(sub, instant(self.slot * 1000), 3, start, end, (end - start) // PERIOD_MS)]
        moved = {sub: Position(end, PERIOD_MS)}
        self.spool.append(made, moved)
        self.kept(made, moved)
        if then_crash:
            self.crash()

    @rule(points=st.integers(10, 40))
    def store_on_a_full_disk(self, points: int) -> None:
        connection = self.spool._database._connection
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
        ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
        if free > 20:
            return
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
        head = self.chain.head
        made = [
            self.chain.reading(chains.reading(f"m{number}", self.slot + 1, 110), instant()) for number in range(points)
        ]
        with pytest.raises(SpoolFull):
            self.spool.append(made, {"m0": Position(1, 1)})
        connection.execute("PRAGMA max_page_count = 1000000").fetchall()
        self.chain.head = self.spool.head
        assert self.chain.head == head

    @rule(most=st.integers(1, 400))
    def cut(self, most: int) -> None:
        batch = self.spool.next_batch(most)
        stream = self.stream
        if batch is None:
            assert stream.committed == len(stream.made)
            return
        assert batch.first == stream.committed
        known = stream.batches.setdefault(batch.first, (batch.count, batch.root))
        assert known == (batch.count, batch.root), "a batch that was cut is sent as it was"
        held = stream.made[batch.first : batch.first + batch.count]
        assert list(batch.statements) == [made.data for made in held]
        self.waiting = batch

    @precondition(lambda self: self.waiting is not None)
    @rule(organisations=st.sets(st.sampled_from(["Org1MSP", "Org2MSP"]), min_size=1))
    def settle(self, organisations: set[str]) -> None:
        assert self.waiting is not None
        receipts = [receipt_for(self.waiting, name, next(self.blocks)) for name in sorted(organisations)]
        self.spool.settle(self.waiting, receipts)
        self.stream.committed = self.waiting.first + self.waiting.count
        self.receipts |= {receipt.data for receipt in receipts}
        self.waiting = None

    @rule(runs=st.integers(1, 200))
    def prune(self, runs: int) -> None:
        before = {number: {seq for seq, _ in self.spool.pruned(number)} for number in range(1, len(self.streams) + 1)}
        count = self.spool.prune(runs)
        after = {number: {seq for seq, _ in self.spool.pruned(number)} for number in before}
        assert sum(map(len, after.values())) - sum(map(len, before.values())) == count
        for number, stream in enumerate(self.streams, 1):
            gone = after[number] - before[number]
            assert all(seq < stream.committed for seq in gone), "nothing goes before it is committed"
            assert all(stream.made[seq].kind not in (Kind.GENESIS, Kind.DESCRIPTOR) for seq in gone)
            stream.gone |= gone

    @precondition(lambda self: len(self.streams) < 3 and len(self.stream.made) > 1)
    @rule(ahead=st.integers(0, 30))
    def leave_the_stream(self, ahead: int) -> None:
        stream = self.stream
        stream.abandoned_from = min(max(1, stream.committed + ahead), len(stream.made))
        stream.carried_to = stream.abandoned_from - 1
        self.begin_stream(stream.abandoned_from)

    @rule(limit=st.integers(1, 50))
    def carry(self, limit: int) -> None:
        number, found = self.spool.to_carry(limit)
        due = [
            (index, stream)
            for index, stream in enumerate(self.streams, 1)
            if stream.abandoned_from is not None and stream.carried_to + 1 < len(stream.made)
        ]
        if not due:
            assert not found
            return
        index, stream = due[0]
        first = stream.carried_to + 1
        assert number == index
        assert [claims.data for claims in found] == [made.data for made in stream.made[first : first + limit]]
        self.spool.note_carried(number, found[-1].seq)
        stream.carried_to = found[-1].seq

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        self.spool.close("clean" if clean else "")
        self.reopen(self.path)

    @rule()
    def crash(self) -> None:
        copy = self.folder / str(next(self.life) + 1000) / "spool.db"
        copy.parent.mkdir()
        for suffix in ("", "-wal"):
            source = Path(f"{self.path}{suffix}")
            if source.exists():
                shutil.copy(source, f"{copy}{suffix}")
        self.spool.close()
        self.reopen(copy)

    def reopen(self, path: Path) -> None:
        self.path = path
        self.spool = Spool.open(path, GATEWAY, START_MS)
        assert self.spool.was_set_aside is None
        assert self.spool.head == self.chain.head
        assert dict(self.spool.positions) == self.positions
        self.waiting = None

    @rule()
    def look_at_everything(self) -> None:
        for number, stream in enumerate(self.streams, 1):
            held = dict(self.spool.statements(number))
            assert held == {made.seq: made.data for made in stream.made if made.seq not in stream.gone}
            assert dict(self.spool.pruned(number)) == {seq: stream.made[seq].sid for seq in stream.gone}
            for made in stream.made[:: max(1, len(stream.made) // 20)]:
                assert self.spool.sid_at(number, made.seq) == made.sid

    @invariant()
    def the_head_and_the_counts_are_right(self) -> None:
        if not self.streams:
            return
        assert self.spool.head == self.chain.head
        counts = self.spool.counts()
        assert (counts.stored, counts.committed) == (len(self.stream.made), self.stream.committed)
        assert set(self.spool.receipts()) == self.receipts

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.look_at_everything()
            self.spool.close()
        shutil.rmtree(self.folder)


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=_CHECKS
)


@pytest.mark.soak
@pytest.mark.timeout(3600)
class TestSpoolModelForLong(SpoolModel.TestCase):
    settings = settings(max_examples=1000, stateful_step_count=60, deadline=None, suppress_health_check=_CHECKS)
