"""``aigeco watch``: what the pictures say, that they fit, that nothing is disturbed, and how it ends."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.obis import pack
from drivers.reading import Quality, Reading, Status, Value, exact
from edge.cli import watchview
from edge.cli.status import Alarm
from edge.cli.watchscreen import height, news, picture
from edge.cli.watchview import Head, Line, Point, Shown, Signed, View, Watcher
from edge.spool import Spool
from edge.state import Alarm as Raised
from signer.chain import Chain
from signer.codes import ClockStatus
from signer.keys import open_key
from signer.statement import Instant

Aigeco = Callable[..., Any]
TOP = Path(__file__).parents[2]
METER = {
    "name": "house",
    "bus": "cellar",
    "model": "eastron_sdm630",
    "points": ["house"],
    "trouble": "",
    "status": None,
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def add(site: Any, slot_ms: int, value: Value, status: Status | None = None) -> None:
    """One more reading, as the agent would store it."""
    spool = Spool.open(site.folder / "spool.db", "home-1", slot_ms)
    chain = Chain("home-1", open_key("file:gateway.pem", site.folder), spool.head, boot=1)
    values = () if status else ((pack("1.8.0"), value),)
    instant = Instant(slot_ms + 500, slot_ms + 500, ClockStatus.SYNCHRONISED, 3)
    spool.append([chain.reading(Reading("house", slot_ms, status, values, 40), instant)])
    spool.close("clean")


class TestView:
    def test_beside_a_running_agent(self, site: Any, evidence: Any, told: Any) -> None:
        told(meters=[{**METER, "latency_ms": 23, "requests": 90, "answers": 89}])
        view = Watcher(site.config).look(now_ms())
        (house,) = view.meters
        last = evidence.statements[-1]
        assert (house.point, house.line, house.model, house.status) == ("house", "cellar", "eastron_sdm630", "good")
        assert (house.slot_ms, house.late) == (evidence.last_slot_ms, True)  # some minutes ago, at one slot a minute
        assert house.values == [Shown("1.8.0", "9123525", "Wh", [])]
        assert (house.latency_ms, house.requests, house.answers) == (23, 90, 89)
        assert view.head is not None
        assert (view.head.seq, view.head.sid) == (last.seq, last.sid.hex())
        assert (view.stored, view.pending) == (len(evidence.statements), 3)
        assert view.receipts["Org1MSP"].upto == evidence.committed - 1
        assert (view.running, view.late, view.alarms) == (True, False, [])

    def test_only_what_is_new_is_read(
        self, site: Any, evidence: Any, told: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told()
        watcher = Watcher(site.config)
        watcher.look(now_ms())
        slot_ms = evidence.last_slot_ms + 60_000
        add(site, slot_ms, exact(9_123_600, 0))
        parsed = []
        known = watchview._last
        monkeypatch.setattr(watchview, "_last", lambda claims: parsed.append(claims.seq) or known(claims))
        view = watcher.look(now_ms())
        assert parsed == [len(evidence.statements)]
        assert view.meters[0].values[0].value == "9123600"
        assert (view.pending, view.head.seq if view.head else 0) == (4, len(evidence.statements))

    def test_what_is_known_against_a_value_is_its_state(self, site: Any, evidence: Any, told: Any) -> None:
        told()
        watcher = Watcher(site.config)
        add(site, evidence.last_slot_ms + 60_000, Value(1, 0, Quality.QUESTIONABLE))
        assert watcher.look(now_ms()).meters[0].status == "questionable"
        add(site, evidence.last_slot_ms + 120_000, exact(1, 0), Status.TIMEOUT)
        (house,) = watcher.look(now_ms()).meters
        assert (house.status, house.values) == ("timeout", [])

    def test_a_gateway_that_says_nothing_stops_and_comes_back(self, site: Any, evidence: Any, told: Any) -> None:
        watcher, now = Watcher(site.config), now_ms()
        view = watcher.look(now)
        assert (view.running, view.silent_s) == (False, None)
        told(updated_ms=now - 40_000)
        view = watcher.look(now)
        assert (view.running, view.late, view.silent_s) == (True, True, 40)
        assert "gateway home-1: the gateway has not written for 40 s" in picture(view, 80, 24, 0, False, True)[0]
        told(updated_ms=now - 40_000, pid=2**22 + 1)
        view = watcher.look(now)
        assert not view.running
        assert "NOT RUNNING, last heard of 40 s ago" in picture(view, 80, 24, 0, False, True)[0]
        told(updated_ms=now)
        assert watcher.look(now).running

    def test_a_meter_that_was_removed_is_not_good_for_ever(self, site: Any, evidence: Any, told: Any) -> None:
        told(clock={"status": 1, "error_ms": 16000})
        site.change('name = "house"', 'name = "barn"')
        view = Watcher(site.config).look(now_ms())
        assert [(each.point, each.status) for each in view.meters] == [
            ("barn", "never read"),
            ("house", "not configured"),
        ]
        assert "; clock not synchronised " in picture(view, 80, 24, 0, False, True)[0]
        said = list(news(None, view))
        assert not any(line[9:].startswith("house ") for line in said), "nothing new comes of it"
        assert "; 0 of 1 meter good; " in said[-1]

    def test_a_store_that_is_not_there_yet_or_begins_anew(self, site: Any, evidence: Any, told: Any) -> None:
        told()
        watcher = Watcher(site.config)
        assert watcher.look(now_ms()).stored == len(evidence.statements)
        for name in ("spool.db", "spool.db-wal", "spool.db-shm"):
            (site.folder / name).unlink(missing_ok=True)
        (alarm,) = watcher.look(now_ms()).alarms
        assert "there is no spool" in alarm.words
        chain = Chain("home-1", open_key("file:gateway.pem", site.folder), None, boot=1)
        spool = Spool.open(site.folder / "spool.db", "home-1", now_ms())
        spool.append([chain.genesis(Instant(now_ms(), 1, ClockStatus.SYNCHRONISED, 3), (b"certificate",))])
        spool.close("clean")
        view = watcher.look(now_ms())
        assert (view.stored, view.meters[0].status, view.receipts, view.alarms) == (1, "never read", {}, [])

    def test_what_a_line_carries(self, site: Any, evidence: Any, told: Any) -> None:
        watcher, now = Watcher(site.config), now_ms()
        counts = {**METER, "latency_ms": 20, "requests": 1000, "answers": 1000}
        told(updated_ms=now - 10_000, meters=[counts])
        (line,) = watcher.look(now).lines
        assert (line.line, line.endpoint, line.meters, line.busy) == ("cellar", "127.0.0.1:1502", 1, None)
        told(updated_ms=now, meters=[counts | {"requests": 1100, "answers": 1050}])
        (line,) = watcher.look(now).lines
        assert (line.requests_per_s, line.busy) == (10.0, 0.1)
        told(updated_ms=now + 1, pid=1, meters=[counts | {"requests": 1, "answers": 1}])
        assert watcher.look(now).lines[0].busy is None, "another process counts anew"

    def test_meters_come_and_go(self, site: Any, evidence: Any, told: Any) -> None:
        told()
        watcher = Watcher(site.config)
        text = site.config.read_text()
        site.config.write_text(
            text.replace("[ledger]", '[[bus.meter]]\nname = "pv"\nmodel = "eastron_sdm120"\nunit = 2\n\n[ledger]')
        )
        os.utime(site.config, ns=(1, 1))
        assert [each.point for each in watcher.look(now_ms()).meters] == ["house", "pv"]
        site.config.write_text(text[:40])
        assert [each.point for each in watcher.look(now_ms()).meters] == ["house", "pv"], "half a file is not taken"

    def test_nothing_of_the_gateway_is_touched(self, site: Any, evidence: Any, told: Any) -> None:
        told()
        with contextlib.ExitStack() as stack:
            spool = Spool.open(site.folder / "spool.db", "home-1", now_ms())
            stack.callback(spool.close, "clean")  # as the agent holds it
            before = {path.name: path.read_bytes() for path in site.folder.iterdir() if path.suffix != ".db-shm"}
            Watcher(site.config).look(now_ms())
            after = {path.name: path.read_bytes() for path in site.folder.iterdir() if path.suffix != ".db-shm"}
        assert before.keys() == after.keys()
        assert [name for name in before if before[name] != after[name] and not name.endswith("-shm")] == []


POINTS = st.builds(
    Point,
    point=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    meter=st.just("m"),
    line=st.just("l"),
    model=st.just("x"),
    slot_ms=st.none() | st.integers(0, 2_000_000_000_000),
    age_s=st.integers(0, 10**7),
    late=st.booleans(),
    status=st.sampled_from(["good", "never read", "timeout", "questionable"]),
    trouble=st.just(""),
    values=st.lists(
        st.builds(
            Shown,
            st.sampled_from(["16.7.0", "1.8.0", "2.8.0"]),
            st.sampled_from(["0", "-123456", "98765432109"]),
            st.just("W"),
            st.just([]),
        ),
        max_size=3,
    ),
    latency_ms=st.none() | st.integers(0, 99_999),
)
VIEW = View(
    "home-1", 0, True, 3, False, "synchronised", 3, Head("00" * 16, 1234, "ab" * 32), 1235, 1200, 35, 1_200_000,
    1_024_000_000, "normal", "waiting", [], [], {}, [],
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(
    st.lists(POINTS, max_size=30),
    st.lists(st.text(max_size=200), max_size=8),
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(20, 160),
    st.integers(12, 60),
)
def test_a_picture_fits_its_screen(
    meters: list[Point], alarms: list[str], lines: int, signed: int, columns: int, rows: int
) -> None:
    view = dataclasses.replace(
        VIEW,
        meters=meters,
        alarms=[Alarm(words, "somebody") for words in alarms],
        lines=[Line(f"line-{number}", "/dev/serial/by-id/" + "x" * 60, 3, 0.5, 0.25, 1.5) for number in range(lines)],
        receipts={f"Org{number}MSP": Signed(7, 3) for number in range(signed)},
    )
    page = height(view, columns, rows)
    drawn = picture(view, columns, rows, 0, False, True)
    assert len(drawn) <= rows
    assert max(map(len, drawn)) <= columns
    assert all(line.isprintable() for line in drawn)
    assert page == len(meters) or f"meters 1-{page} of {len(meters)}"[: columns - 2] in drawn[-1]
    coloured = picture(view, columns, rows, 0, True, True)
    assert [re.sub("\x1b\\[[0-9;]*m", "", line) for line in coloured] == drawn


def test_every_meter_can_be_reached() -> None:
    point = Point("", "", "", "", 0, 1, False, "good", "", [])
    view = dataclasses.replace(VIEW, meters=[dataclasses.replace(point, point=f"meter-{n:02d}") for n in range(40)])
    page, seen = height(view, 80, 24), set()
    for first in range(0, 40, page):
        shown = picture(view, 80, 24, min(first, 40 - page), False, True)
        assert len(shown) == 24
        seen |= set(re.findall(r"meter-\d\d", "\n".join(shown)))
    assert len(seen) == 40


def test_the_key_that_ends_it_is_on_a_narrow_screen_too() -> None:
    point = Point("", "", "", "", 0, 1, False, "good", "", [])
    view = dataclasses.replace(VIEW, meters=[dataclasses.replace(point, point=f"meter-{n:02d}") for n in range(40)])
    assert "q: end  ?: keys" in picture(view, 60, 15, 0, False, True)[-1]
    told = picture(view, 80, 24, 0, False, True, tell=True)[-1]
    assert told == "q: end  space, Page Down: on  b, Page Up: back  arrows, j k: by one  ?: less"
    assert "q: end" not in picture(view, 80, 24, 0, False, False)[-1], "nobody reads keys"


def test_numbers_are_never_cut() -> None:
    values = [
        Shown("16.7.0", "-123456", "W", []),
        Shown("1.8.0", "9123510.25", "Wh", []),
        Shown("2.8.0", "12", "Wh", []),
    ]
    point = Point("a-meter-with-a-rather-long-name", "m", "l", "x", 0, 5, False, "good", "", values, 23)
    view = dataclasses.replace(VIEW, meters=[point])
    (row,) = [line for line in picture(view, 80, 24, 0, False, True) if line.startswith("a-meter")]
    assert row.split() == ["a-meter-with-a-rather-l..", "00:00:00", "-123,456", "9,123.51", "0.01", "23", "good"]
    (row,) = [line for line in picture(view, 46, 24, 0, False, True) if line.startswith("a-meter")]
    assert row.split() == ["a-meter-with-a-ra..", "00:00:00", "-123,456", "good"]


def test_news_says_each_thing_once(site: Any, evidence: Any, told: Any) -> None:
    told(alarms=[Raised("broker", "", "away", True)._asdict()])
    watcher = Watcher(site.config)
    first = watcher.look(now_ms())
    said = [line[9:] for line in news(None, first)]
    assert said[0].startswith("house  slot ")
    assert said[0].endswith("  - W  import 9,123.52 kWh  export - kWh  good")
    assert said[1] == "alarm: broker: away"
    assert said[2].startswith(
        "gateway home-1: running, heard of 0 s ago; clock synchronised (at most 3 ms off); 0 of 1"
    )
    assert list(news(first, watcher.look(now_ms()))) == []
    told()
    add(site, evidence.last_slot_ms + 60_000, exact(9_123_600, 0))
    second = watcher.look(now_ms())
    slot, gone, whole = [line[9:] for line in news(first, second)]
    assert slot.endswith("import 9,123.60 kWh  export - kWh  good")
    assert gone == "no longer: broker: away"
    assert f"{second.stored} stored, 4 pending" in whole


def test_json_is_one_object_a_picture(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    told()
    asked = aigeco("watch", "--config", site.config, "--json", "--count", 2, "--every", 0.2)
    first, second = [json.loads(line) for line in asked.out.splitlines()]
    assert asked.code == 0
    assert first["meters"] == second["meters"] or first["time_ms"] < second["time_ms"]
    assert set(first) == {each.name for each in dataclasses.fields(View)}


def test_a_wrong_configuration_is_said_before_the_screen(aigeco: Aigeco, site: Any) -> None:
    site.change("[store]", "[shop]")
    assert aigeco("watch", "--config", site.config).code == 3


class Terminal:
    """``aigeco watch`` on a terminal of 80 columns and 24 rows."""

    def __init__(self, site: Any, *arguments: str) -> None:
        self.ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self._theirs)
        command = [sys.executable, "-m", "edge.cli.main", "watch", "--config", str(site.config), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(TOP), "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, env=environment,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.shown = ""

    def until(self, words: str) -> None:
        deadline = time.monotonic() + 30
        while words not in self.shown:
            ready = select.select([self.ours], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"{words!r} was not shown: {self.shown[-2000:]}"
            self.shown += os.read(self.ours, 65536).decode()

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def end(self) -> int:
        code = self.process.wait(30)
        self.until("\x1b[?25h\x1b[?1049l")
        assert "Traceback" not in self.shown
        assert termios.tcgetattr(self._theirs) == self.before, "the terminal is as it was"
        for end in (self.ours, self._theirs):
            os.close(end)
        return code


@pytest.mark.parametrize(("how", "code"), [(b"q", 0), (b"\x03", 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)])
def test_it_leaves_the_terminal_as_it_was(site: Any, evidence: Any, told: Any, how: Any, code: int) -> None:
    told()
    terminal = Terminal(site)
    terminal.until("q: end")
    terminal.press(b"?")
    terminal.until("Page Down: on")
    if isinstance(how, bytes):
        terminal.press(how)
    else:
        terminal.process.send_signal(how)
    assert terminal.end() == code


def test_another_size_and_ctrl_z(site: Any, evidence: Any, told: Any) -> None:
    told()
    terminal = Terminal(site, "--every", "60")
    terminal.until("q: end")
    terminal.shown = ""
    fcntl.ioctl(terminal.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    terminal.until("q: end")  # at once, not after a minute
    lines = re.sub("\x1b\\[[^A-Za-z]*[A-Za-z]", "", terminal.shown).replace("\r", "").split("\n")
    assert max(map(len, lines)) <= 40
    terminal.shown = ""
    terminal.press(b"\x1a")
    terminal.until("\x1b[?25l")  # nobody can stop a process without a shell: it goes on at once
    terminal.until("q: end")
    assert terminal.shown.index("\x1b[?1049l") < terminal.shown.index("\x1b[?1049h"), "the shell had its screen"
    terminal.shown = ""
    terminal.press(b"q")
    assert terminal.end() == 0


def test_without_colours(site: Any, evidence: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told(alarms=[Raised("broker", "", "away", True)._asdict()])
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal(site)
    terminal.until("q: end")
    terminal.press(b"q")
    assert terminal.end() == 0
    assert not re.search("\x1b\\[[0-9;]*m", terminal.shown)


def test_a_reader_that_has_seen_enough_ends_it(site: Any, evidence: Any, told: Any) -> None:
    told()
    command = f"{sys.executable} -m edge.cli.main watch --config {site.config} --json --every 0.2 | head -n 1"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (json.loads(done.stdout)["gateway"], done.stderr) == ("home-1", "")
