"""Orders of technicians: fulfilled once, whatever crashes, and never half."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.reading import exact
from edge import requests
from edge.requests import Answer, Commission, Exchange, Order, answer_to, folder, leave
from edge.writer import Tick
from signer.codes import Kind
from tests.edge.places import bus_toml, make_folder, write_config
from tests.edge.test_writer import Bench

VALUES = ((264, exact(5, 0)), (3080, exact(2305, -1, 1)))
ORDER = Commission("N. Puig", "roof 3", bytes(range(32)), (("house", VALUES),))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    make_folder(tmp_path)
    made = Bench(tmp_path, write_config(tmp_path, bus_toml(502, "house", "pv")))
    yield made
    made.spool.close()


def order(bench: Bench, asked: Order = ORDER) -> Path:
    return leave(bench.settings.spool, asked)


def tick(bench: Bench) -> None:
    bench.writer.take([Tick(bench.clock.pass_ms(1000))])


def commissions(bench: Bench) -> list[int]:
    return [claims.seq for claims in bench.claims() if claims.kind in (Kind.COMMISSION, Kind.EXCHANGE)]


def test_an_order_becomes_a_statement_behind_its_descriptor(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0)])
    path = order(bench)
    tick(bench)
    answer = answer_to(path, 0)
    assert answer is not None
    (said,) = answer.said
    *_, before, last = bench.claims()
    assert (said.sub, said.seq, said.sid, said.stream) == ("house", last.seq, last.sid, last.stream)
    assert (before.kind, before.sub, before.body[13][5]) == (Kind.DESCRIPTOR, "house", "123")
    assert last.body[13] == {1: "N. Puig", 2: "roof 3", 3: bytes(range(32)), 4: {264: [5, 0], 3080: [2305, -1, 1]}}
    assert list(folder(bench.settings.spool).iterdir()) == []


def test_an_exchange_is_followed_by_the_descriptor(bench: Bench) -> None:
    bench.writer.take([bench.describe(), bench.taken(0)])
    path = order(bench, Exchange("1", "123", (("house", VALUES, VALUES[:1]),)))
    tick(bench)
    answer = answer_to(path, 0)
    assert answer is not None
    assert [each.kind for each in bench.claims()[-2:]] == [Kind.EXCHANGE, Kind.DESCRIPTOR]
    assert answer.said[0].seq == bench.claims()[-2].seq


def test_it_waits_until_the_meter_is_described(bench: Bench) -> None:
    path = order(bench)
    tick(bench)
    assert path.exists()
    assert commissions(bench) == []
    bench.writer.take([bench.describe()])
    tick(bench)
    assert answer_to(path, 0) is not None


def test_one_that_waits_can_be_taken_back(bench: Bench) -> None:
    path = order(bench)
    assert answer_to(path, 0) is None
    bench.writer.take([bench.describe()])
    tick(bench)
    assert commissions(bench) == []


def test_a_point_that_is_not_there_is_refused(bench: Bench) -> None:
    path = order(bench, Commission("N", "p", None, (("garage", VALUES),)))
    tick(bench)
    assert answer_to(path, 0) == Answer((), "the running gateway has no measuring point garage")


@pytest.mark.parametrize(
    "asked",
    [
        Commission("N" * 257, "p", None, (("house", VALUES),)),
        Commission("N", "p", b"short", (("house", VALUES),)),
        Commission("N", "p", None, (("house", ()),)),
        Commission("N", "p", None, (("house", ((1, exact(1, 0)),)),)),
    ],
)
def test_what_no_statement_can_hold_is_refused_and_the_chain_goes_on(bench: Bench, asked: Order) -> None:
    bench.writer.take([bench.describe()])
    path = order(bench, asked)
    tick(bench)
    answer = answer_to(path, 0)
    assert answer is not None
    assert answer.refused
    assert not answer.said
    bench.writer.take([bench.taken(0)])
    bench.restart()  # which checks the chain
    assert bench.said()[-1] == "boot RESTART"


class TestCrashes:
    """The process ends between any two steps of an order."""

    def crash(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, where: object, name: str, before: bool) -> Path:
        """One tick in which the process is gone before or after a step; then a new start."""
        bench.writer.take([bench.describe()])
        path = order(bench)
        really = getattr(where, name)

        def gone(*args: object, **more: object) -> None:
            if not before:
                really(*args, **more)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(where, name, gone)
            with pytest.raises(KeyboardInterrupt):
                tick(bench)
        bench.restart("")
        bench.writer.take([bench.describe()])
        return path

    @pytest.mark.parametrize("before", [True, False])
    @pytest.mark.parametrize("step", ["begin", "store", "answer", "close"])
    def test_exactly_once(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, before: bool) -> None:
        where, name = {
            "begin": (Path, "rename"),
            "store": (type(bench.spool), "append"),
            "answer": (requests, "_write"),
            "close": (Path, "unlink"),
        }[step]
        path = self.crash(bench, monkeypatch, where, name, before)
        for _ in range(3):
            tick(bench)
        answer = answer_to(path, 0)
        assert answer is not None
        assert commissions(bench) == [answer.said[0].seq]
        tick(bench)
        assert len(commissions(bench)) == 1
        assert not [each for each in folder(bench.settings.spool).iterdir() if each.suffix != ".new"]

    def test_the_same_words_again_are_another_order(self, bench: Bench) -> None:
        bench.writer.take([bench.describe()])
        for count in (1, 2):
            path = order(bench)
            tick(bench)
            assert answer_to(path, 0) is not None
            assert len(commissions(bench)) == count


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"version": 2}', b'{"version": 1, "kind": "erase"}', b"\xff", b"x" * 300_000]
)
def test_what_cannot_be_read_is_kept_and_reported(bench: Bench, content: bytes) -> None:
    path = order(bench)
    path.write_bytes(content)
    tick(bench)
    (kept,) = folder(bench.settings.spool).iterdir()
    assert kept.name == f"{path.name}.unreadable"
    assert any("an order cannot be read" in words for words in bench.state.alarms.all())


def test_a_name_that_names_no_head_is_kept_and_reported(bench: Bench) -> None:
    path = order(bench)
    path.rename(path.with_suffix(".begun"))
    tick(bench)
    (kept,) = folder(bench.settings.spool).iterdir()
    assert kept.name.endswith(".begun.unreadable")


def test_files_are_for_their_owner_only(bench: Bench) -> None:
    path = order(bench)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_old_answers_go(bench: Bench) -> None:
    bench.writer.take([bench.describe()])
    order(bench)
    tick(bench)
    (answer,) = folder(bench.settings.spool).iterdir()
    tick(bench)
    assert answer.exists()
    os.utime(answer, (0, time.time() - 90_000))
    tick(bench)
    assert not answer.exists()
