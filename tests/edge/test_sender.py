"""The sender against real ledgers: batches, receipts, heads, refusals, restored cards."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import export, sender
from edge.config import Config
from edge.database import Database
from edge.environment import load_trust
from edge.sender import Sender
from edge.spool import Spool
from edge.state import Pulse
from edge.writer import NewStream, Writer
from signer.dialogue import Refusal, RefusalReason
from signer.verify import verify
from tests.edge.places import (
    ORGANISATIONS,
    DirectUplink,
    Ledgers,
    bus_toml,
    direct,
    make_folder,
    open_ledgers,
    write_config,
)
from tests.edge.test_writer import Bench
from uplink.errors import TooLarge


class Site(Bench):
    """A bench with a sender and its ledgers."""

    def __init__(self, folder: Path, settings: Config) -> None:
        self.folder = folder
        self.ledgers: Ledgers = open_ledgers(folder)
        self.uplink: DirectUplink = direct(settings, self.ledgers)
        super().__init__(folder, settings)

    def begin(self, ended: str = "") -> None:
        super().begin(ended)
        self.orders: queue.SimpleQueue[object] = Obeyed(self)
        self.sender = Sender(
            self.spool,
            lambda: self.uplink,
            2,
            self.uplink.k,
            0,
            self.orders,
            self.state,
            Pulse("sender"),
        )

    def measure(self, first: int, count: int) -> None:
        self.writer.take([self.describe()] if first == 0 or not self.writer._descriptors else [])
        for slot in range(first, first + count):
            self.writer.take([self.taken(slot)])

    def turns(self, count: int) -> list[float]:
        return [self.sender._turn() for _ in range(count)]

    def deliver_all(self) -> None:
        for _ in range(50):
            self.sender._turn()
            if self.spool.counts().pending == 0 and self.sender._resend_from is None:
                return
        raise AssertionError(f"{self.spool.counts()}, {self.state.sending}, {self.state.alarms.all()}")

    def committed(self, organisation: str = "Org1MSP", number: int = 1) -> int:
        """Statements of a stream that a ledger holds."""
        stream = self.spool.streams()[number - 1].id
        held = self.ledgers.organisations[organisation].stream(stream)
        return held.seq + 1 if held else 0

    def check(self) -> None:
        """Everything holds, here and there, and every slot once."""
        for organisation in self.ledgers.organisations.values():
            assert organisation.ledger.file.forks() == []
        folder = self.folder / "evidence"
        shutil.rmtree(folder, ignore_errors=True)
        export.export(self.settings.spool, folder, load_trust(self.settings)[0])
        report = verify(folder)
        assert report.ok, report.failures


class Obeyed(queue.SimpleQueue):  # type: ignore[type-arg]
    """The writer obeys at once."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        assert isinstance(item, NewStream)
        self.site.writer.take([item])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    make_folder(tmp_path)
    made = Site(tmp_path, write_config(tmp_path, bus_toml(502, "house", "pv")))
    yield made
    made.spool.close()
    made.ledgers.close()


def test_heads_first_then_batches_then_receipts(site: Site) -> None:
    site.measure(0, 3)
    site.turns(1)
    assert (len(site.uplink.hellos), site.uplink.sent) == (1, [])
    site.deliver_all()
    assert len(site.uplink.hellos) == 1
    assert [sent[1:3] for sent in site.uplink.sent] == [(0, 6)]
    assert site.committed() == site.committed("Org2MSP") == 6
    assert len(list(site.spool.receipts())) == 2
    site.check()


def test_batches_wait_until_an_organisation_is_heard(site: Site) -> None:
    site.ledgers.organisations["Org2MSP"].deaf = True
    site.measure(0, 1)
    waits = site.turns(4)
    assert site.uplink.sent == []
    assert waits[0] > 0
    assert waits[3] > waits[0]
    assert "1 of 2 organisations" in site.state.alarms.all()[0]
    site.ledgers.organisations["Org2MSP"].deaf = False
    site.deliver_all()
    assert site.state.alarms.all() == []


def test_the_same_batch_goes_out_again_until_k_receipts_are_there(site: Site) -> None:
    site.measure(0, 1)
    site.turns(1)
    site.ledgers.organisations["Org2MSP"].mute = True
    site.turns(1)
    site.measure(1, 1)
    site.turns(1)
    assert [sent[1:] for sent in site.uplink.sent[:2]] == [site.uplink.sent[0][1:]] * 2
    assert site.sender._timeout_s == 4 * sender.FIRST_TIMEOUT_S
    assert "1 of 2 receipts" in site.state.alarms.all()[0]
    assert len(list(site.spool.receipts())) == 1, "what one organisation gave is kept"
    site.ledgers.organisations["Org2MSP"].mute = False
    site.deliver_all()
    assert site.sender._timeout_s == sender.FIRST_TIMEOUT_S
    site.check()


def test_a_look_that_finds_nothing_asks_only_what_stream_it_is_about(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks several times a second, whatever the meters' period is."""
    site.measure(0, 1)
    site.deliver_all()
    site.turns(1)
    queries: list[str] = []
    rows = Database.rows
    monkeypatch.setattr(Database, "rows", lambda self, *query: queries.append(query[0]) or rows(self, *query))
    assert site.turns(2) == [sender._LOOK_S] * 2
    assert set(queries) == {"SELECT min(number) FROM stream WHERE abandoned_from IS NULL"}
    site.measure(1, 1)
    site.turns(1)
    assert site.spool.counts().pending == 0
    site.check()


def test_statements_are_collected_until_it_is_time_or_they_fill_a_batch(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.measure(0, 1)
    site.deliver_all()
    site.sender._send_every_s = 3600
    site.measure(1, 1)
    assert site.turns(1) == [sender._LONGEST_LOOK_S]
    monkeypatch.setattr(sender, "_LONGEST_LOOK_S", 9999)
    (wait_s,) = site.turns(1)
    assert 3000 < wait_s <= 3600
    monkeypatch.setattr(sender, "_WORTH_SENDING", 2)
    assert site.turns(1)[0] > 0
    site.measure(2, 1)
    site.turns(1)
    assert site.spool.counts().pending == 0, "enough for a batch"
    site.measure(3, 1)
    assert site.turns(1)[0] > 0
    assert site.spool.counts().pending == 1
    site.sender._send_every_s = 0
    site.turns(1)
    assert site.spool.counts().pending == 0
    site.check()


def test_a_broker_that_is_away_is_tried_again_ever_more_slowly(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.uplink.away = True
    waits: list[float] = []

    def wait(timeout: float | None = None) -> bool:
        waits.append(timeout or 0.0)
        if len(waits) == 9:
            site.state.stop.set()
        return True

    monkeypatch.setattr(site.state.stop, "wait", wait)
    site.sender.run()
    assert waits[0] < 2
    assert waits[-1] >= sender.LONGEST_PAUSE_S
    assert waits[-1] <= 1.25 * sender.LONGEST_PAUSE_S
    assert "cannot be reached" in site.state.alarms.all()[0]
    assert len({round(wait_s, 3) for wait_s in waits}) == len(waits), "there is jitter"


def test_nothing_is_asked_twice_after_a_restart_but_the_heads(site: Site) -> None:
    site.measure(0, 2)
    site.deliver_all()
    site.restart("clean", 1000)
    site.measure(2, 1)
    site.deliver_all()
    assert len(site.uplink.hellos) == 2
    assert [sent[1] for sent in site.uplink.sent] == [0, 5]
    site.check()


def test_a_batch_whose_receipts_were_lost_in_a_crash(site: Site) -> None:
    """Committed there, not settled here: the same batch again, the same receipts."""
    site.measure(0, 2)
    site.turns(1)
    batch = site.spool.next_batch()
    assert batch is not None
    site.uplink.deliver(batch, 1)
    site.restart("", 1000)
    site.deliver_all()
    assert site.uplink.sent[1] == site.uplink.sent[0]
    site.check()


def test_an_organisation_that_lies_behind_gets_the_batches_again(site: Site, tmp_path: Path) -> None:
    for slot in range(4):
        site.measure(slot, 1)
        site.deliver_all()
    site.ledgers.close()
    for path in (tmp_path / "ledgers").glob("Org2MSP.db*"):
        path.unlink()
    site.ledgers = open_ledgers(tmp_path)
    site.uplink.ledgers = site.ledgers
    site.restart("clean", 1000)
    site.measure(4, 1)
    site.deliver_all()
    assert site.committed("Org2MSP") == site.committed("Org1MSP") == site.spool.counts().stored
    site.check()


class TestRestoredCards:
    def image(self, site: Site, folder: Path) -> Path:
        """A copy of the card, as somebody made it."""
        target = folder / "image"
        target.mkdir()
        for path in folder.glob("spool.db*"):
            if not path.name.endswith(".lock"):
                shutil.copy(path, target)
        return target

    def restore(self, site: Site, folder: Path, image: Path) -> None:
        site.spool.close()
        for path in folder.glob("spool.db*"):
            path.unlink()
        for path in image.iterdir():
            shutil.copy(path, folder)
        site.spool = Spool.open(site.settings.spool, site.settings.gateway, 0)
        site.begin("")

    def test_an_older_copy_begins_a_new_stream_with_what_it_measured(self, site: Site, tmp_path: Path) -> None:
        site.measure(0, 3)
        site.deliver_all()
        image = self.image(site, tmp_path)
        site.measure(3, 4)
        site.deliver_all()
        known = site.committed()
        self.restore(site, tmp_path, image)
        site.measure(10, 3)
        site.deliver_all()
        assert site.spool.number == 2
        assert any("restored or copied" in alarm for alarm in site.state.alarms.all())
        assert site.said(2) == [
            "genesis",
            "descriptor house 1000 '123'",
            "descriptor house 1000 '123'",
            "gap house 3..10 7 NOT_RUNNING",
            "house@10",
            "house@11",
            "house@12",
            "descriptor house 1000 '123'",
        ]
        old = site.spool.streams()[0]
        assert site.claims(2)[0].body[13][3][:2] == [old.id, known - 1]
        assert site.committed(number=2) == 8
        assert site.committed(number=1) == known
        site.measure(13, 1)
        site.deliver_all()
        site.check()

    def test_it_is_noticed_also_when_the_copy_has_more_than_the_ledger(self, site: Site, tmp_path: Path) -> None:
        """Both cards went on: the same seq means two statements."""
        site.measure(0, 3)
        site.deliver_all()
        image = self.image(site, tmp_path)
        site.measure(3, 2)
        site.deliver_all()
        self.restore(site, tmp_path, image)
        site.measure(10, 30)
        site.deliver_all()
        assert site.spool.number == 2
        assert [word for word in site.said(2) if "@" in word] == [f"house@{slot}" for slot in range(10, 40)]
        site.check()

    def test_a_copy_that_missed_nothing_goes_on(self, site: Site, tmp_path: Path) -> None:
        site.measure(0, 3)
        site.deliver_all()
        self.restore(site, tmp_path, self.image(site, tmp_path))
        site.measure(3, 2)
        site.deliver_all()
        assert site.spool.number == 1
        site.check()

    def test_a_copy_from_before_its_last_statements_were_cut(self, site: Site, tmp_path: Path) -> None:
        """They are on the ledgers in batches that this card knows nothing of; it goes on behind them."""
        site.measure(0, 3)
        site.deliver_all()
        site.measure(3, 3)
        image = self.image(site, tmp_path)
        batch = site.spool.next_batch()
        assert batch is not None
        site.uplink.deliver(batch, 1)
        self.restore(site, tmp_path, image)
        site.measure(6, 2)
        for _ in range(10):
            site.sender._turn()
        assert site.spool.number == 1
        assert site.committed() == site.spool.counts().stored
        assert [sent[1:3] for sent in site.uplink.sent] == [(0, 6), (6, 3), (9, 4)]


class TestRefusals:
    def test_another_way_of_cutting_is_found_by_the_signed_heads(self, site: Site) -> None:
        site.measure(0, 6)
        site.turns(1)
        whole = site.spool.next_batch()
        assert whole is not None
        site.spool.forget_boundaries()
        part = site.spool.next_batch(4)
        assert part is not None
        site.uplink.deliver(part, 1)
        site.spool.forget_boundaries()
        assert site.spool.next_batch() == whole
        for _ in range(8):
            site.sender._turn()
        assert site.committed() == site.spool.counts().stored
        assert len(site.uplink.hellos) == 2
        assert [sent[1:3] for sent in site.uplink.sent][-1] == (4, 5)

    def test_an_unknown_gateway_is_told_and_tried_again(self, site: Site, tmp_path: Path) -> None:
        for organisation in site.ledgers.organisations.values():
            organisation.ledger.file._sql.execute("DELETE FROM state WHERE key = 'gateway/home-1'")
        site.measure(0, 1)
        assert site.turns(1)[0] > 0
        refuses = "does not say where its ledger stands: gateway home-1 is not registered; try: have each organisation"
        for name, alarm in zip(ORGANISATIONS, site.state.alarms.all(), strict=True):
            assert alarm.startswith(f"ledger {name}: {refuses} register this gateway")
        assert site.state.sending.startswith("Org1MSP: gateway home-1 is not registered")
        assert site.spool.counts().committed == 0
        site.ledgers.close()
        site.ledgers = open_ledgers(tmp_path)
        site.uplink.ledgers = site.ledgers
        site.deliver_all()
        assert site.state.alarms.all() == []

    def test_what_one_organisation_refuses_is_over_when_it_gives_a_receipt(self, site: Site) -> None:
        site.uplink.k = site.sender._k = 1
        other = site.ledgers.organisations["Org2MSP"].ledger.file
        (row,) = other._sql.execute("SELECT * FROM state WHERE key = 'gateway/home-1'").fetchall()
        other._sql.execute("DELETE FROM state WHERE key = 'gateway/home-1'")
        site.measure(0, 1)
        site.turns(1)
        (alarm,) = site.state.alarms.each()
        assert (alarm.kind, alarm.about, alarm.lasts) == ("ledger", "Org2MSP", True)
        site.deliver_all()
        assert [each.about for each in site.state.alarms.each()] == ["Org2MSP"], "receipts of others say nothing of it"
        other._sql.execute(f"INSERT INTO state VALUES ({', '.join('?' * len(row))})", tuple(row))
        site.sender._agreed = None  # as after the next start
        site.sender._turn()
        assert site.state.alarms.each() == [], "its head came"
        site.sender._refuses([("Org2MSP", Refusal(RefusalReason.BUSY, bytes(16), bytes(32), words="full"))], "refuses")
        site.measure(1, 1)
        site.deliver_all()
        assert site.committed("Org2MSP") == site.spool.counts().stored
        assert site.state.alarms.each() == [], "its receipt came"

    def test_a_broker_that_takes_less_gets_smaller_batches(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        site.measure(0, 300)
        real = DirectUplink.deliver

        def small(self: DirectUplink, batch: object, timeout_s: float) -> object:
            if len(batch.data) > 40_000:  # type: ignore[attr-defined]
                raise TooLarge("too large")
            return real(self, batch, timeout_s)  # type: ignore[arg-type]

        monkeypatch.setattr(DirectUplink, "deliver", small)
        site.deliver_all()
        assert site.committed() == 303
        assert len(site.uplink.sent) > 2
        site.check()


def test_a_full_disk_while_settling_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.measure(0, 3)
    site.turns(1)
    batch = site.spool.next_batch()
    assert batch is not None
    connection = site.spool._database._connection
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    waits: list[float] = []

    def wait(timeout: float | None = None) -> bool:
        waits.append(timeout or 0.0)
        if len(waits) == 2:
            connection.execute("PRAGMA max_page_count = 1000000").fetchall()
        if len(waits) == 4:
            site.state.stop.set()
        return True

    monkeypatch.setattr(site.state.stop, "wait", wait)
    site.sender.run()
    assert site.spool.counts().pending == 0
    site.check()


def test_the_writer_is_the_real_one(site: Site) -> None:
    assert isinstance(site.writer, Writer)
