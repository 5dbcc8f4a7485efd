"""Another configuration while the agent runs: meters and lines come, go and change, and nobody else notices."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers.reading import Status
from edge import apply, export, status
from edge.apply import Applied
from edge.config import Config
from edge.environment import load_trust
from signer.codes import EventCode, GapReason, Kind, Role
from signer.report import Report
from signer.statement import Claims
from signer.verify import verify
from tests.edge.places import MODEL, Meters, bus_toml, write_config
from tests.edge.test_agent import PERIOD_MS, Running, claims_of, closed_port, running, site
from tests.edge.test_kill import METERS, Killed, settle


def meter_toml(name: str, unit: int, more: str = "") -> str:
    return f'[[bus.meter]]\nname = "{name}"\nmodel = "{MODEL}"\nunit = {unit}\n{more}'


def apply_now(settings: Config, only_tell: bool = False) -> Applied:
    applied = apply.ask(settings.spool, apply.digest(settings.path), only_tell)
    assert applied is not None
    return applied


QUIET = "import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 1)"
"""What the agent of the tests says on standard output is not read here, and must not make it wait."""

BRISK = {"WATCHDOG_USEC": "400000"}
"""A service manager that wants to hear of it so often makes the agent look for orders every 0.2 s."""


def readings(settings: Config, sub: str) -> list[Claims]:
    return [claims for claims in claims_of(settings) if claims.sub == sub and claims.kind == Kind.READING]


def until_read(settings: Config, sub: str, more: int = 3) -> None:
    """Wait until a point has so many readings with values more than now."""
    deadline = time.monotonic() + 30
    while (told := status.read(settings.status_path)) is None or not told["running"]:
        assert time.monotonic() < deadline, "the agent does not begin"
        time.sleep(0.1)
    due = more + sum(bool(each.values) for each in readings(settings, sub))
    while sum(bool(each.values) for each in readings(settings, sub)) < due:
        assert time.monotonic() < deadline, f"{sub} is not read"
        time.sleep(0.2)


def evidence(settings: Config) -> Report:
    """What an auditor finds: everything holds, and every slot of every point is accounted for."""
    folder = settings.base / f"evidence-{time.monotonic_ns()}"
    export.export(settings.spool, folder, load_trust(settings)[0])
    report = verify(folder)
    assert report.ok, report.failures
    assert {sub: point.missing for sub, point in report.slots.items() if point.missing} == {}
    return report


def changed_events(settings: Config) -> list[tuple[str, str]]:
    """(point, words) of every event that the configuration changed."""
    return [
        (claims.sub, str(claims.body[13][3]))
        for claims in claims_of(settings)
        if claims.kind == Kind.EVENT and claims.body[13][1] == EventCode.CONFIGURATION_CHANGED
    ]


def alarms(settings: Config, words: str) -> list[str]:
    """The alarms with these words, once there are any."""
    deadline = time.monotonic() + 20
    while True:
        told: dict[str, Any] = status.read(settings.status_path) or {"alarms": []}
        found = [str(each) for each in status.alarms(told) if words in str(each)]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def stays_as_it_was(settings: Config, report: Report) -> None:
    """The meter that is in every file: described once, every slot accounted for.

    That none is lost is tested where time does not pass by itself (test_reader.py): a busy machine loses some of 0.2 s.
    """
    assert kinds(settings, "house")[Kind.DESCRIPTOR] == 1
    house = report.slots["house"]
    assert house.missing == 0
    assert house.read > house.expected // 2


def kinds(settings: Config, sub: str) -> Counter[int]:
    return Counter(claims.kind for claims in claims_of(settings) if claims.sub == sub)


def meters_told(settings: Config) -> list[str]:
    told = status.read(settings.status_path)
    return [each["name"] for each in told["meters"]] if told else []


def end(agent: Running) -> None:
    agent.end()
    assert agent.process.returncode == 0, agent.log
    assert "Traceback" not in agent.log, agent.log


def test_meters_come_change_go_and_come_back_and_their_neighbour_loses_no_slot(tmp_path: Path) -> None:
    with Meters(2) as meters:
        one = bus_toml(meters.port, "house")
        pv = one + "\n" + meter_toml("pv", 2)
        settings = site(tmp_path, one)
        with running(tmp_path, QUIET, environment=BRISK) as agent:
            until_read(settings, "house")

            write_config(tmp_path, pv)
            added = apply_now(settings)
            assert added.problems == ()
            assert added.changes == (f"meter pv added: {MODEL}, unit 2 on 127.0.0.1:{meters.port}, every 0.2 s",)
            assert meters_told(settings) == ["house", "pv"]
            until_read(settings, "pv")

            write_config(tmp_path, pv + 'role = "generation"')
            assert apply_now(settings).changes == ("meter pv changed: role grid -> generation",)
            until_read(settings, "pv")
            write_config(tmp_path, pv + 'role = "generation"\nratio = 20')
            assert apply_now(settings).changes == ("meter pv changed: ratio not set -> 20",)
            until_read(settings, "pv")

            write_config(tmp_path, one)
            assert apply_now(settings).changes == ("meter pv removed",)
            until_read(settings, "house")
            lost = evidence(settings).slots["pv"].gap  # of 0.2 s: a busy machine loses some
            until_read(settings, "house", 5)
            assert evidence(settings).slots["pv"].gap == lost
            assert meters_told(settings) == ["house"]

            write_config(tmp_path, pv + 'role = "generation"\nratio = 20')
            assert len(apply_now(settings).changes) == 1
            until_read(settings, "pv")
            end(agent)

    found = [claims for claims in claims_of(settings) if claims.sub == "pv"]
    assert found[0].kind == Kind.DESCRIPTOR
    said = [claims.body[13] for claims in found if claims.kind == Kind.DESCRIPTOR]
    ratio = [["ratio", "20"]]
    assert [(body[4], body.get(6)) for body in said] == [
        (Role.GRID, None),
        (Role.GENERATION, None),
        (Role.GENERATION, ratio),
        (Role.GENERATION, ratio),
    ]
    # It ends with an event; when it is back, a gap covers the time between.
    gone = next(at for at, claims in enumerate(found) if claims.kind == Kind.EVENT)
    assert found[gone].body[13][3] == "removed from the configuration"
    assert found[gone - 1].kind == Kind.READING
    assert [claims.kind for claims in found[gone + 1 : gone + 4]] == [Kind.DESCRIPTOR, Kind.GAP, Kind.READING]
    assert found[gone + 2].body[13][1] == GapReason.NOT_RUNNING
    assert ("-", added.changes[0]) in changed_events(settings)

    report = evidence(settings)
    assert report.slots["pv"].gap > 3
    stays_as_it_was(settings, report)


def test_what_cannot_be_taken_changes_nothing_and_is_told(tmp_path: Path) -> None:
    with Meters(2) as meters:
        settings = site(tmp_path, bus_toml(meters.port, "house"))
        good = settings.path.read_text()
        with running(tmp_path, QUIET, environment=BRISK) as agent:
            until_read(settings, "house")

            # An error in the file, and nobody who waits for an answer.
            settings.path.write_text(good + meter_toml("pv", 1))
            agent.process.send_signal(signal.SIGHUP)
            (alarm,) = alarms(settings, "was not taken")
            assert "bus[0].meter[1].unit: 1: is the same as bus[0].meter[0].unit" in alarm
            assert "; try: give each device on one line a unit id of its own" in alarm
            until_read(settings, "house")

            # What needs a new start, and beside it what would not.
            settings.path.write_text(good.replace('id = "home-1"', 'id = "home-2"') + meter_toml("pv", 2))
            applied = apply_now(settings)
            assert applied.restart
            words = ["gateway.id: has changed, and is taken only when the gateway starts"]
            assert [str(each) for each in applied.problems] == words
            assert applied.problems[0].advice == "systemctl restart aigeco"
            assert len(alarms(settings, "gateway.id")) == 1
            until_read(settings, "house")

            # Asked what would change, and for another file than the agent's own.
            settings.path.write_text(good + meter_toml("pv", 2))
            assert len(apply_now(settings, only_tell=True).changes) == 1
            other = apply.ask(settings.spool, "00" * 32, False)
            assert other is not None
            assert "is not the file that was checked" in str(other.problems[0])

            told = status.read(settings.status_path)
            assert told is not None
            assert apply.is_another(settings.path, told)

            # The same in other words: it is what runs, whoever asks.
            settings.path.write_text(good + "# as before\n")
            assert apply_now(settings, only_tell=True) == Applied()
            told = status.read(settings.status_path)
            assert told is not None
            assert not apply.is_another(settings.path, told)

            settings.path.write_text(good)
            assert apply_now(settings) == Applied()
            until_read(settings, "house")
            told = status.read(settings.status_path)
            assert told is not None
            assert told["alarms"] == []
            end(agent)
        assert "configuration: the file is in force" in agent.log
    assert {claims.sub for claims in claims_of(settings)} == {"-", "house"}
    assert changed_events(settings) == []
    stays_as_it_was(settings, evidence(settings))


def test_lines_come_and_go_and_one_is_opened_anew(tmp_path: Path) -> None:
    with Meters(1) as first, Meters(1) as second, Meters(1) as third:
        named = '[[bus]]\nname = "cellar"\n'
        one, two = bus_toml(first.port, "house"), bus_toml(second.port, "pv")
        moved = bus_toml(third.port, "pv")
        settings = site(tmp_path, one, two.replace("[[bus]]\n", named))
        with running(tmp_path, QUIET, environment=BRISK) as agent:
            until_read(settings, "house")
            until_read(settings, "pv")
            # The same line elsewhere: opened anew.
            write_config(tmp_path, one + "\n" + moved.replace("[[bus]]\n", named))
            opened = f"line cellar opened anew: 127.0.0.1:{second.port} -> 127.0.0.1:{third.port}"
            assert apply_now(settings).changes == (opened,)
            until_read(settings, "pv")
            # Without a name it is another line, and the meter goes on there. One that cannot be opened disturbs nobody.
            write_config(tmp_path, one + "\n" + moved + "\n" + bus_toml(closed_port(), "away"))
            changes = apply_now(settings).changes
            assert changes[:2] == ("line cellar removed", f"line 127.0.0.1:{third.port} added")
            assert f"meter pv changed: line cellar -> 127.0.0.1:{third.port}" in changes
            until_read(settings, "pv")
            write_config(tmp_path, one)
            assert len(apply_now(settings).changes) == 4
            until_read(settings, "house")
            told = status.read(settings.status_path)
            assert told is not None
            assert set(told["threads"]) == {"writer", "sender", f"bus 127.0.0.1:{first.port}"}
            end(agent)
    ended = [sub for sub, _ in changed_events(settings) if sub != "-"]
    assert sorted(ended) == ["away", "pv"]
    assert all(claims.status == Status.DISCONNECTED for claims in readings(settings, "away"))
    stays_as_it_was(settings, evidence(settings))


def test_asked_again_and_again(tmp_path: Path) -> None:
    """Two files by turns, a signal for each, and the slots of the meter that is in both are complete."""
    with Meters(2) as meters:
        settings = site(tmp_path, bus_toml(meters.port, "house"))
        with running(tmp_path, QUIET, environment=BRISK) as agent:
            until_read(settings, "house")
            for turn in range(12):
                names = ("house", "pv") if turn % 2 else ("house",)
                write_config(tmp_path, bus_toml(meters.port, *names))
                agent.process.send_signal(signal.SIGHUP)
                time.sleep(PERIOD_MS / 1000)
            until_read(settings, "house")
            end(agent)
    stays_as_it_was(settings, evidence(settings))


class Changed(Killed):
    """A gateway whose configuration changes while it lives, and that is killed at any moment of it."""

    def live_and_change(self, choose: random.Random, buses: Sequence[str]) -> None:
        process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=(self.folder / "log").open("ab"))
        assert process.stdout is not None
        said = process.stdout.readline()
        for _ in range(choose.randint(1, 3)):
            write_config(self.folder, choose.choice(buses))
            process.send_signal(signal.SIGHUP)
            time.sleep(choose.uniform(0.0, 0.6))
        process.kill()
        self.take(said + process.communicate(timeout=30)[0])


def changes_and_kills(folder: Path, lives: int, seed: int) -> None:
    """Meters of one line come and go, the gateway is killed, and nothing is lost, forked, twice or missing."""
    choose = random.Random(seed)
    with Meters(len(METERS)) as meters:
        gateway = Changed(folder, meters.port)
        buses = [bus_toml(meters.port, *METERS[:count]) for count in (1, 2, 3)]
        for _ in range(lives):
            gateway.live_and_change(choose, buses)
        write_config(folder, buses[-1])
        assert gateway.live(1.0, signal.SIGTERM) == 0, (folder / "log").read_text()[-3000:]
        settle(gateway)
    gateway.check()


def test_killed_while_it_changes(tmp_path: Path) -> None:
    changes_and_kills(tmp_path, 6, seed=3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
def test_killed_while_it_changes_for_long(tmp_path: Path, seed: int) -> None:
    changes_and_kills(tmp_path, 100, 100 + seed)
