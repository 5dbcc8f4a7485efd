"""``aigeco-peer call`` and ``query``: contracts on the embedded ledger, with a peer running on it and without."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import requests
from ledger.embedded import LedgerFile
from ledger.requests import Request
from ledger.rules.record import pack
from ledger.rules.world import Declined
from ledger.world_file import Mistake
from tests.broker import Broker
from tests.ledger.peers import PeerSite

METER = {"meter": "m1", "model": "em340", "serial": "S1", "place": "p1", "role": "consumption", "owner": "ana"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PeerSite]:
    """An organisation whose broker does not run."""
    directory = tmp_path / "broker"
    directory.mkdir()
    made = PeerSite(tmp_path / "Org1MSP", Broker(directory, ["alpha"], ["Org1MSP"]))
    yield made
    made.close()


def call(site: PeerSite, *words: str, given: Any = None, verb: str = "call", code: int = 0) -> Any:
    more = [] if given is None else ["--arguments", json.dumps(given)]
    done = site.run(verb, *words, *more, code=code)
    return done.stderr if code else json.loads(done.stdout)


def test_the_ledger_begins_with_its_organisation_alone_and_takes_calls(site: PeerSite, tmp_path: Path) -> None:
    site.run("gateways", "add", "alpha")
    (founder,) = call(site, "registry", "List", given={"kind": "organisation"}, verb="query")
    assert (founder["organisation"], founder["roles"], founder["by"]["name"]) == (
        "Org1MSP",
        ["manager", "metering"],
        "operator",
    )
    arguments = tmp_path / "meter.json"
    arguments.write_text(json.dumps(METER))
    meter = call(site, "registry", "RegisterMeter", "--arguments", f"@{arguments}")
    assert call(site, "registry", "Meter", given={"meter": "m1"}, verb="query") == meter
    call(site, "registry", "RetireMeter", given={"meter": "m1"})
    call(site, "registry", "RegisterMeter", given={**METER, "meter": "m2"}, verb="query")  # asked only
    versions = call(site, "registry", "History", given={"kind": "meter", "name": "m1"}, verb="query")
    assert [version["state"] for version in versions] == ["active", "retired"]
    assert call(site, "registry", "List", given={"kind": "meter"}, verb="query")[1:] == []
    site.run("show", "--check")


def test_the_operator_speaks_for_a_member(site: PeerSite) -> None:
    site.run("gateways", "add", "alpha")
    group = {"group": "g", "zone": "peninsula", "period_ms": 900_000}
    call(site, "sharing", "CreateGroup", given=group)
    call(site, "sharing", "SetMember", given={"group": "g", "member": "ana", "organisation": "Org1MSP"})
    asked = {"group": "g", "member": "ana"}
    for who, is_member in (("ana", True), ("eva", False), (None, False)):
        words = ["--as", who] if who else []
        assert call(site, "sharing", "Access", *words, given=asked, verb="query")["is_member"] is is_member
    assert "--as names a member" in call(site, "sharing", "Access", "--as", "Org1MSP/ana", given=asked, code=2)


def test_the_embedded_ledger_takes_authorities_from_its_configuration(site: PeerSite, tmp_path: Path) -> None:
    from hw_sim.authority import Authority

    other = tmp_path / "other.pem"
    other.write_bytes(Authority("Other").pem)
    assert "gateways.roots in" in site.run("gateways", "trust", str(other), code=2).stderr
    assert "may issue" in site.run("gateways", "trust", str(site.directory / "gateways.pem")).stdout
    (known,) = call(site, "registry", "List", given={"kind": "authority"}, verb="query")
    assert known["state"] == "active"


@pytest.mark.parametrize("verb", ["call", "query"])
def test_what_is_declined_and_what_is_wrong_with_a_call(site: PeerSite, verb: str) -> None:
    site.run("gateways", "add", "alpha")
    said = call(site, "registry", "Meter", given={"meter": "m9"}, verb=verb, code=4)
    assert said == "error: unknown: meter m9 is not registered\n"
    assert "there is no contract 'regis'" in call(site, "regis", "Meter", verb=verb, code=4)
    for words, problem in (
        (["--arguments", "[1]"], "--arguments: an object is needed"),
        (["--arguments", '{"a":1.5}'], "--arguments: 1.5 is no integer"),
        (["--arguments", "@nowhere.json"], "nowhere.json"),
        (["--secret", "name"], "a name is missing"),
        (["--secret", "name=[]"], "--secret name: an object is needed"),
    ):
        assert problem in call(site, "registry", "Meter", *words, verb=verb, code=2)


def test_a_running_peer_does_the_calls(broker: Broker, tmp_path: Path) -> None:
    with closing(PeerSite(tmp_path / "Org1MSP", broker)) as site:
        site.serve()
        authorities = call(site, "registry", "List", given={"kind": "authority"}, verb="query")
        assert [entry["state"] for entry in authorities] == ["active"]
        assert call(site, "registry", "RegisterMeter", given=METER)["meter"] == "m1"
        assert call(site, "registry", "Meter", given={"meter": "m1"}, verb="query")["serial"] == "S1"
        said = call(site, "registry", "RegisterMeter", given={**METER, "serial": "S2"}, code=4)
        assert said.startswith("error: conflict: meter m1 has the serial number S1")
        site.wait_for("called registry RegisterMeter: done")
        site.wait_for("called registry RegisterMeter: declined: conflict")
        assert list(requests.folder(site.ledger).iterdir()) == []


def test_a_root_that_is_configured_no_more_is_believed_no_more(broker: Broker, tmp_path: Path) -> None:
    from hw_sim.authority import Authority

    with closing(PeerSite(tmp_path / "Org1MSP", broker)) as site:
        peer = site.serve()
        peer.kill()
        peer.wait()
        (site.directory / "gateways.pem").write_bytes(Authority("Other").pem)
        site.serve()
        found = call(site, "registry", "List", given={"kind": "authority"}, verb="query")
        assert sorted(entry["state"] for entry in found) == ["active", "revoked"]


def test_a_request_is_done_once_and_answered(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "ledger.db", "Org1MSP")
    said: list[str] = []
    path = requests.leave(file.path, Request("registry", "RegisterMeter", pack(METER), {"x": b"\x00\xff"}))
    assert path.stat().st_mode & 0o777 == 0o600
    left = path.read_bytes()
    wrong = requests.leave(file.path, Request("registry", "RegisterMeter", b"{}"))
    requests.take_in(file, said.append)
    first = requests.answer(path, 0.0)
    assert first is not None
    assert json.loads(first)["meter"] == "m1"
    with pytest.raises(Declined, match="malformed: meter: is missing"):
        requests.answer(wrong, 0.0)
    calls = file.world.last()[0]
    path.write_bytes(left)  # as if the process had ended before it could remove the request
    requests.take_in(file, said.append)
    assert requests.answer(path, 0.0) == json.dumps({"call": calls}).encode()
    assert file.world.last()[0] == calls
    assert said == [
        "called registry RegisterMeter: done",
        "called registry RegisterMeter: declined: malformed: meter: is missing: a text is needed",
        "called registry RegisterMeter: done",
    ]
    assert requests.answer(path, 0.0) is None
    file.close()


def test_a_contract_that_fails_does_not_stop_the_others_and_answers_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.rules.world import Contract

    file = LedgerFile(tmp_path / "ledger.db", "Org1MSP")
    broken = Contract("broken", {"Fail": lambda state, call: [][1]})
    monkeypatch.setattr(file.world, "contracts", {**file.world.contracts, "broken": broken})
    failing = requests.leave(file.path, Request("broken", "Fail", b"{}"))
    good = requests.leave(file.path, Request("registry", "RegisterMeter", pack(METER)))
    requests.take_in(file, lambda words: None)
    with pytest.raises(Mistake, match="broken Fail: IndexError: list index out of range"):
        requests.answer(failing, 0.0)
    old = good.with_suffix(".answer")
    assert old.exists()
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    requests.leave(file.path, Request("registry", "Meter", pack({"meter": "m1"})))
    requests.take_in(file, lambda words: None)
    assert not old.exists()
    file.close()


def test_time_goes_forward_when_the_clock_was_set_back(tmp_path: Path) -> None:
    now_s = [1_790_000_000.0]
    file = LedgerFile(tmp_path / "ledger.db", "Org1MSP", now_s=lambda: now_s[0])
    file.transact(lambda: file.operator.call("registry", "RegisterMeter", METER))
    now_s[0] -= 3600
    file.transact(lambda: file.operator.call("registry", "RegisterMeter", {**METER, "owner": "eva"}))
    assert file.world.last()[1] == 1_790_000_000_002
    file.close()
