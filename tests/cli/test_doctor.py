"""``aigeco doctor``: what a person reads, the JSON, the exit codes; tests/edge/test_doctor.py has what is found."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge import status
from edge.cli import doctor
from edge.doctor.finding import Case, Finding, State
from edge.lockfile import Lock
from tests.edge.places import Meters

Aigeco = Callable[..., Any]


@pytest.fixture
def runs(site: Any) -> Any:
    """A gateway that runs, as far as others can see: this process stands for it."""
    meter = {
        "name": "house",
        "bus": "cellar",
        "points": ["house"],
        "slot_ms": time.time_ns() // 1_000_000,
        "status": None,
    }
    meter |= {"trouble": "", "serial": "77", "requests": 100, "answers": 100, "timeouts": 0, "checksum_errors": 0}
    meter |= {"latencies": [90, 10, 0, 0, 0, 0, 0, 0]}
    document = {
        "version": status.VERSION,
        "gateway": "home-1",
        "pid": os.getpid(),
        "updated_ms": time.time_ns() // 1_000_000,
        "threads": {"writer": 0.2},
        "meters": [meter],
        "alarms": [],
        "stopped": False,
    }
    status.write(site.folder / "spool.db.status.json", document)
    lock = Lock(site.folder / "spool.db.lock")
    yield site
    lock.release()


def test_a_gateway_that_does_not_run(aigeco: Aigeco, site: Any, evidence: Any) -> None:
    shown = aigeco("doctor", "--config", site.config)
    assert shown.code == 1
    first, blank, wrong, *rest = shown.out.splitlines()
    assert first.startswith("gateway home-1, not running: 1 wrong, ")
    assert blank == ""
    assert wrong == "wrong   service: the gateway does not run, and never did with this store"
    assert rest[:2] == ["        move: whoever runs this gateway", "        try:  systemctl start aigeco"]
    # A path that is wider stands on a line of its own, whole, to be copied.
    assert all(len(line) <= 80 or " " not in line.strip() for line in shown.out.splitlines()), shown.out
    assert "\x1b" not in shown.out
    at = next(number for number, line in enumerate(rest) if line.startswith("ok      "))
    assert "--all shows them" in " ".join(rest[at:])
    assert "line quality" not in " ".join(rest[at:]), "nobody looked"
    unknown = [line for line in rest if line.startswith("unknown ")]
    assert "unknown line quality: not looked at: counted only while the gateway runs" in unknown
    every = aigeco("doctor", "--all", "--config", site.config).out.splitlines()
    assert any(line.startswith("unknown meters: house: last slot ") for line in every)


def test_only_what_was_looked_at_is_well(site: Any) -> None:
    from edge import config

    case = Case(config.load(site.config), {}, True, 0)
    found = [Finding("disk", State.OK, "", "yes"), Finding("broker", State.UNKNOWN, "", "not looked at")]
    shown = list(doctor.lines(case, found, 1.0, False))
    assert shown[0] == "gateway home-1, running: nothing is wrong, 1 not looked at (1.0 s)"
    assert "unknown broker: not looked at" in shown
    assert shown[-1] == "ok      disk; --all shows them"


def test_on_a_small_screen_the_worst_stays_in_sight(site: Any) -> None:
    from edge import config

    meter = {
        "name": "a",
        "bus": "cellar",
        "requests": 9,
        "timeouts": 0,
        "checksum_errors": 0,
        "latencies": [9] + [0] * 7,
    }
    case = Case(config.load(site.config), {"meters": [meter]}, True, 0)
    found = [Finding("meters", State.WRONG, name, f"trouble {name}", "somebody", "this") for name in "abcdef"]
    whole = list(doctor.lines(case, found, 1.0, False))
    assert len(whole) == 24
    assert list(doctor.lines(case, found, 1.0, False, rows=25)) == whole
    short = list(doctor.lines(case, found, 1.0, False, rows=24))
    assert len(short) < 24, "the prompt needs a line"
    assert short[-1] == "how long answers take: --all"
    assert short[:-1] == whole[: len(short) - 1]
    tiny = list(doctor.lines(case, found, 1.0, False, rows=12))
    assert tiny[-1] == "gateway home-1, running: 6 wrong, 0 warnings; the worst is at the top"
    assert tiny[:-2] == short[:-1], "what is said of the bad is never left out"


def test_json(aigeco: Aigeco, evidence: Any, runs: Any) -> None:
    shown = aigeco("doctor", "--config", runs.config, "--json")
    said = json.loads(shown.out)
    assert set(said) == {"ok", "gateway", "running", "took_s", "findings", "latency_bounds_ms", "meters"}
    assert (said["ok"], said["gateway"], said["running"], shown.code) == (True, "home-1", True, 0), said
    assert said["took_s"] < 10
    assert all(set(each) == {"area", "state", "place", "words", "move", "advice"} for each in said["findings"])
    areas = {each["area"] for each in said["findings"]}
    wanted = [
        "service",
        "config",
        "ports",
        "meters",
        "line quality",
        "clock",
        "disk",
        "key",
        "trust",
        "broker",
        "receipts",
    ]
    assert areas == set(wanted)
    (meter,) = said["meters"]
    assert (meter["meter"], meter["requests"], sum(meter["latencies"])) == ("house", 100, 100)
    assert len(meter["latencies"]) == len(said["latency_bounds_ms"]) + 1


def test_how_long_answers_take_fits_80_columns(aigeco: Aigeco, evidence: Any, runs: Any) -> None:
    shown = aigeco("doctor", "--config", runs.config).out.splitlines()
    assert shown[-2:] == [
        "line                requests  silent  damaged  10  20  50 100 200 500 1000 more",
        "cellar                   100       0        0  90  10   .   .   .   .    .    .",
    ]


def test_a_histogram_is_by_line_or_by_meter() -> None:
    def meter(name: str, bus: str, **counts: Any) -> dict[str, Any]:
        return {"name": name, "bus": bus, "requests": 1_234_567, "timeouts": 3, "checksum_errors": 2} | counts

    meters = [
        meter("a", "cellar", latencies=[0, 0, 999, 0, 0, 0, 0, 1]),
        meter("b", "cellar", latencies=[0, 0, 1000, 0, 0, 0, 0, 0]),
        meter("a-name-that-is-rather-long", "roof", latencies=[0] * 8),
    ]
    by_line = list(doctor.histogram(meters, by_line=True))
    assert [row.split() for row in by_line[2:]] == [
        ["cellar", "2,469,134", "6", "4", ".", ".", "100", ".", ".", ".", ".", "<1"],
        ["roof", "1,234,567", "3", "2", *("." for _ in range(8))],
    ]
    by_meter = list(doctor.histogram(meters, by_line=False))
    assert [row.split()[0] for row in by_meter[2:]] == ["a", "b", "a-name-that-is-.."]
    assert {len(row) for row in by_meter[1:]} == {79}


def test_receipts_of_the_store(aigeco: Aigeco, evidence: Any, runs: Any) -> None:
    with runs.config.open("a") as file:
        file.write('\n[mqtt]\nhost = "127.0.0.1"\nport = 1\ninsecure = true\n')
    said = json.loads(aigeco("doctor", "--config", runs.config, "--json").out)
    words = {(each["area"], each["place"]): each["words"] for each in said["findings"]}
    assert words["receipts", "Org1MSP"].endswith(f"s ago, up to seq {evidence.committed - 1}")
    assert words["receipts", "pending"].startswith("3 of ")
    assert words["broker", "127.0.0.1:1"].startswith("nothing listens on ")


def test_meters_are_not_asked_beside_the_gateway(aigeco: Aigeco, evidence: Any, runs: Any) -> None:
    asked = aigeco("doctor", "--probe", "--config", runs.config)
    assert asked.code == 2
    assert asked.problem[0] == "--probe would open the lines of the running gateway"


def test_probe(aigeco: Aigeco, site: Any) -> None:
    with Meters(1, model="eastron_sdm630") as there:
        site.change("127.0.0.1:1502", f"127.0.0.1:{there.port}")
        shown = aigeco("doctor", "--probe", "--config", site.config, "--json")
    (meter,) = [each for each in json.loads(shown.out)["findings"] if each["area"] == "meters"]
    assert (meter["state"], meter["place"]) == ("ok", "house")
    assert "serial number 10000001" in meter["words"]


def test_nothing_is_written(aigeco: Aigeco, evidence: Any, runs: Any) -> None:
    def files() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in runs.folder.iterdir()
            if not path.name.endswith("-shm") and path.stat().st_size
        }

    before = files()
    aigeco("doctor", "--config", runs.config)
    assert files() == before


def test_a_wrong_configuration(aigeco: Aigeco, site: Any) -> None:
    site.change("[store]", "[shop]")
    assert aigeco("doctor", "--config", site.config).code == 3


def test_long_words_are_wrapped_and_a_terminal_has_colours(site: Any) -> None:
    from edge import config

    case = Case(config.load(site.config), {}, True, 0)
    path = "/dev/serial/by-path/" + "x" * 90
    found = [Finding("ports", State.WRONG, path, "is open elsewhere " * 9, "somebody", "this and that " * 9)]
    plain = list(doctor.lines(case, found, 1.0, False))
    assert plain[0] == "gateway home-1, running: 1 wrong, 0 warnings (1.0 s)"
    assert [line.strip() for line in plain if len(line) > 80] == [f"{path}:"], "a path stays whole"
    assert list(doctor.lines(case, found, 1.0, True))[2].startswith("\x1b[1;31mwrong   \x1b[0m")
    assert list(doctor.lines(case, [], 1.0, False)) == ["gateway home-1, running: all is well (1.0 s)"]
    good = [Finding("meters", State.OK, name, "good") for name in ("a", "b", "c")] + [
        Finding("disk", State.OK, "", "yes")
    ]
    short = ["ok      meters: a: good; and 2 more", "ok      disk: yes"]
    assert list(doctor.lines(case, good, 1.0, False))[2:] == short
    assert list(doctor.lines(case, good, 1.0, False, everything=True))[2:4] == [
        "ok      meters: a: good",
        "ok      meters: b: good",
    ]
    assert list(doctor.lines(case, [*found, *good], 1.0, False))[-1] == "ok      meters (3), disk; --all shows them"


def test_the_same_at_many_places_is_said_once(site: Any) -> None:
    from edge import config

    case = Case(config.load(site.config), {}, True, 0)
    found = [Finding("meters", State.WARNING, name, "was not read yet", "somebody", "wait") for name in "abcdefg"]
    found.append(Finding("meters", State.WARNING, "h", "is not plausible", "somebody", "wait"))
    short = [line for line in doctor.lines(case, found, 1.0, False) if line.startswith("warning")]
    assert short == ["warning meters: a, b, 5 more: was not read yet", "warning meters: h: is not plausible"]
    every = [line for line in doctor.lines(case, found, 1.0, False, everything=True) if line.startswith("warning")]
    assert len(every) == 8


def test_it_is_not_slow(python: Any, site: Any, evidence: Any) -> None:
    code = f"from edge.cli.main import cli; cli(['doctor', '--config', {str(site.config)!r}])"
    began_s = time.monotonic()
    assert python(code, Path("/")).code == 1
    assert time.monotonic() - began_s < 10
