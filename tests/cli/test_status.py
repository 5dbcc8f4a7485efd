"""``aigeco status``: meters, what is pending, receipts, alarms and whose move; with and without a running agent."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from edge.apply import digest
from edge.state import Alarm

Aigeco = Callable[..., Any]


def test_beside_a_running_agent(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    told()
    shown = aigeco("status", "--config", site.config)
    assert shown.code == 0
    first, columns, row, statements, sending, receipts, last = shown.out.splitlines()
    assert first == "gateway home-1: running, clock synchronised"
    assert columns.split() == ["meter", "model", "last", "slot", "state"]
    assert row.split()[:2] == ["house", "eastron_sdm630"]
    assert row.endswith("min ago  good")
    count, committed = len(evidence.statements), evidence.committed
    assert statements.startswith(f"statements: {count} stored, {committed} committed, {count - committed} pending; ")
    assert sending == "sending: waiting for statements"
    assert receipts == f"receipts: Org1MSP 1, up to seq {committed - 1}"
    assert last == "no alarms"


def test_json(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    told()
    shown = json.loads(aigeco("status", "--config", site.config, "--json").out)
    assert shown["gateway"] == "home-1"
    assert shown["running"] is True
    assert shown["pending"] == 3
    assert shown["receipts"] == {"Org1MSP": {"receipts": 1, "upto": evidence.committed - 1}}
    (meter,) = shown["meters"]
    assert meter["slot_ms"] == evidence.last_slot_ms
    assert 0 <= meter["age_s"] - (time.time() - evidence.last_slot_ms / 1000) + 60 < 120
    assert shown["alarms"] == []


def test_a_gateway_that_hangs(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    now_ms = time.time_ns() // 1_000_000
    told(updated_ms=now_ms - 40_000)
    first, *rest = aigeco("status", "--config", site.config).out.splitlines()
    assert first == "gateway home-1: runs, and has not written for 40 s"
    assert rest[-1] == "no alarms", "a busy machine does that"
    told(updated_ms=now_ms - 90_000)
    shown = json.loads(aigeco("status", "--config", site.config, "--json").out)
    assert (shown["running"], shown["late"]) == (True, True)
    (alarm,) = shown["alarms"]
    assert alarm["words"].startswith("the gateway runs, and has said nothing for 90 s; try: journalctl -u aigeco")
    assert alarm["whose_move"] == "whoever runs this gateway"


def test_a_clock_in_words(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    told(clock={"status": 1, "error_ms": 16000})
    assert aigeco("status", "--config", site.config).out.startswith("gateway home-1: running, clock not synchronised\n")
    assert json.loads(aigeco("status", "--config", site.config, "--json").out)["clock"] == "informative"


def test_a_meter_that_was_removed_is_not_good(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    told()
    site.change('name = "house"', 'name = "barn"')
    shown = json.loads(aigeco("status", "--config", site.config, "--json").out)
    assert [(each["point"], each["status"]) for each in shown["meters"]] == [
        ("barn", "never read"),
        ("house", "not configured"),
    ]


@pytest.mark.parametrize("how", ["never", "stopped", "killed"])
def test_when_the_agent_does_not_run(aigeco: Aigeco, site: Any, evidence: Any, told: Any, how: str) -> None:
    if how == "stopped":
        told(stopped=True)
    elif how == "killed":
        gone = 2**22 + 1  # above the highest process id there is
        told(pid=gone, alarms=[Alarm("broker", "", "away", True)._asdict()])
    shown = json.loads(aigeco("status", "--config", site.config, "--json").out)
    assert shown["running"] is False
    assert shown["pending"] == 3
    (alarm,) = shown["alarms"]
    assert "does not run" in alarm["words"]


def test_alarms_say_whose_move_it_is(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    alarms = [
        Alarm("broker", "", "127.0.0.1:8883: connection refused", True),
        Alarm("ledger", "Org1MSP", "fork", True),
        Alarm("disk", "", "full", True),
        Alarm("configuration, mqtt.ca", "", "gone", True),
        Alarm("", "", "this happened", False),
    ]
    told(alarms=[alarm._asdict() for alarm in alarms])
    shown = aigeco("status", "--config", site.config).out.splitlines()
    moves = {shown[at]: shown[at + 1] for at, line in enumerate(shown) if line.startswith("alarm: ")}
    assert list(moves) == [f"alarm: {alarm}" for alarm in alarms]
    assert [move.removeprefix("  whose move: ") for move in moves.values()] == [
        "whoever runs the broker or the network to it",
        "the organisations",
        "whoever runs this gateway",
        "whoever set this gateway up",
        "whoever runs this gateway",
    ]


def test_a_file_that_is_not_what_the_gateway_runs(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    in_force = digest(site.config)
    told(config=in_force)
    assert json.loads(aigeco("status", "--config", site.config, "--json").out)["alarms"] == []
    site.change("period_s = 60", "period_s = 30")
    (alarm,) = json.loads(aigeco("status", "--config", site.config, "--json").out)["alarms"]
    assert alarm["words"] == f"configuration: {site.config} is not what the gateway runs; try: aigeco config apply"
    assert alarm["whose_move"] == "whoever set this gateway up"
    refused = Alarm("configuration", "", "was not taken, the one before is in force", True)
    told(config=in_force, alarms=[refused._asdict()])
    (alarm,) = json.loads(aigeco("status", "--config", site.config, "--json").out)["alarms"]
    assert alarm["words"] == str(refused), "said once"


def test_a_gateway_of_another_version(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    """After an update, before the restart: what its words mean is not known, and it runs all the same."""
    told(version=99, meters="another shape", clock=[], spool=None)
    shown = json.loads(aigeco("status", "--config", site.config, "--json").out)
    assert shown["running"] is True
    (alarm,) = shown["alarms"]
    assert alarm["words"] == (
        "version: the gateway that runs is not of the version of this command; try: systemctl restart aigeco"
    )
    told(version="x")
    assert json.loads(aigeco("status", "--config", site.config, "--json").out)["running"] is False


def test_a_meter_that_was_never_read(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    with site.config.open("a") as file:
        file.write(
            '\n[[bus]]\ntcp = "127.0.0.1:1503"\n[[bus.meter]]\nname = "roof"\nmodel = "eastron_sdm120"\nunit = 1\n'
        )
    told(meters=[{"name": "roof", "points": ["roof"], "trouble": "127.0.0.1:1503: no connection"}])
    shown = json.loads(aigeco("status", "--config", site.config, "--json").out)
    house, roof = shown["meters"]
    assert (house["status"], roof["status"], roof["slot_ms"]) == ("good", "never read", None)
    assert shown["alarms"] == [
        {"words": "meter roof: 127.0.0.1:1503: no connection", "whose_move": "a technician at the meter"}
    ]
    assert "never read" in aigeco("status", "--config", site.config).out


def test_an_inverter_at_night_is_no_alarm(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    meter = {"name": "roof", "points": ["roof-pv", "roof-grid"], "trouble": "not present", "status": 1}
    told(meters=[meter])
    assert json.loads(aigeco("status", "--config", site.config, "--json").out)["alarms"] == []
    told(meters=[{**meter, "trouble": "192.0.2.7:502: no answer", "status": 2}])
    (alarm,) = json.loads(aigeco("status", "--config", site.config, "--json").out)["alarms"]
    assert alarm["words"] == "meter roof: 192.0.2.7:502: no answer"


def test_a_store_that_was_set_aside_is_not_forgotten(aigeco: Aigeco, site: Any, evidence: Any, told: Any) -> None:
    told()
    (site.folder / "spool.db.set-aside-20260101T000000Z").touch()
    (site.folder / "spool.db.set-aside-20260101T000000Z-wal").touch()
    shown = json.loads(aigeco("status", "--config", site.config, "--json").out)
    (alarm,) = shown["alarms"]
    assert "spool.db.set-aside-20260101T000000Z" in alarm["words"]


def test_a_wrong_configuration(aigeco: Aigeco, site: Any, evidence: Any) -> None:
    site.change("[store]", "[shop]")
    asked = aigeco("status", "--config", site.config)
    assert asked.code == 3
    assert "shop" in asked.err
