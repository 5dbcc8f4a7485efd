"""The network for trying, real: it comes up, refuses whom it has to, goes down, and comes up again as it was."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import grpc
import pytest

from ledger.cli.main import cli
from ledger.fabric import profile as profiles
from ledger.fabric.calling import FabricContracts
from ledger.fabric.commands import Commands
from ledger.fabric.connection import open_gateway
from ledger.fabric.identities import Authority, Issued, Subject
from ledger.fabric.lifecycle import Definition, any_of
from ledger.fabric.network.layout import PARTIES, Layout
from ledger.fabric.network.life import services
from ledger.fabric.network.processes import Service
from ledger.fabric.profile import Profile
from ledger.fabric.stub import Stub
from tests.fabricnet import PATIENCE_S, ready, running, served
from tests.ledger.fabric import endorser
from tests.ledger.peers import Done

pytestmark = pytest.mark.fabric

ORGANISATION = "CommunityMSP"


def aigeco_peer(network: Path, *arguments: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    words = [*arguments, "--network", str(network)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO())  # nobody can be asked
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main(words, prog_name="aigeco-peer")
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def status(network: Path) -> tuple[int, dict[str, Any]]:
    done = aigeco_peer(network, "network", "status", "--json")
    return done.code, {node["name"]: node for node in json.loads(done.stdout)["nodes"]}


def test_all_of_it_is_up_and_every_node_has_the_channel(fabric_network: Profile) -> None:
    code, nodes = status(fabric_network.folder)
    assert code == 0
    assert len(nodes) == 8
    assert all(node["state"] == "up" and node["height"] >= 1 for node in nodes.values())
    shown = aigeco_peer(fabric_network.folder, "network", "status")
    assert all(name in shown.stdout for name in nodes)
    assert max(len(line) for line in shown.stdout.splitlines()[1:]) <= 80
    again = aigeco_peer(fabric_network.folder, "network", "up", "--bare")
    assert (again.code, again.stderr) == (0, ""), "what is there is left alone"
    logs = aigeco_peer(fabric_network.folder, "network", "logs", "peer-auditor", "--lines", "5")
    assert len(logs.stdout.splitlines()) == 5


def authority(profile: Profile, kind: str = "ca") -> Authority:
    return Authority.read(ORGANISATION, Layout(profile.folder).organisation(PARTIES[0]) / kind)


def asked_by(profile: Profile, who: Issued) -> int:
    tls = profile.identity(ORGANISATION, "admin")
    with endorser.connected(profile, ORGANISATION, tls) as channel:
        return endorser.height(channel, profile, ORGANISATION, who)


def test_a_client_of_an_organisation_is_answered(fabric_network: Profile) -> None:
    assert asked_by(fabric_network, authority(fabric_network).identity(Subject("member"))) >= 1


def test_a_certificate_without_an_ou_is_refused(fabric_network: Profile) -> None:
    with pytest.raises(PermissionError, match="access denied"):
        asked_by(fabric_network, authority(fabric_network).identity(Subject("member", None)))


def test_a_foreign_authority_of_the_same_name_is_refused(fabric_network: Profile) -> None:
    own, foreign = authority(fabric_network), Authority.create(ORGANISATION, "CA")
    assert foreign.issued.certificate.subject == own.issued.certificate.subject
    with pytest.raises(PermissionError, match="access denied"):
        asked_by(fabric_network, foreign.identity(Subject("admin", "admin")))


def test_a_tls_certificate_is_no_identity(fabric_network: Profile) -> None:
    with pytest.raises(PermissionError, match="access denied"):
        asked_by(fabric_network, authority(fabric_network, "tls-ca").identity(Subject("member")))


def test_a_connection_without_a_certificate_is_refused(fabric_network: Profile) -> None:
    with (
        endorser.connected(fabric_network, ORGANISATION, None) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        endorser.height(channel, fabric_network, ORGANISATION, authority(fabric_network).identity(Subject("member")))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def test_another_client_is_made_and_found_in_the_profile(fabric_network: Profile) -> None:
    asked = ("network", "identity", "AuditorMSP", "ana", "--attribute", "aigeco.role=auditor")
    done = aigeco_peer(fabric_network.folder, *asked)
    assert (done.code, done.stderr) == (0, "")
    made = profiles.load(fabric_network.path).identity("AuditorMSP", "ana")
    assert made.certificate.exists()
    again = aigeco_peer(fabric_network.folder, *asked)
    assert again.code == 2
    assert "has an identity 'ana' already" in again.stderr


def test_a_contract_is_in_force_when_a_majority_approved_it(fabric_network: Profile, tmp_path: Path) -> None:
    def contract(*arguments: str) -> Done:
        return aigeco_peer(fabric_network.folder, "contract", *arguments)

    (tmp_path / "collections.json").write_text(
        json.dumps(
            [
                {
                    "name": "statements",
                    "policy": "OR('CommunityMSP.member', 'AuditorMSP.member')",
                    "requiredPeerCount": 0,
                    "maxPeerCount": 2,
                    "blockToLive": 0,
                }
            ]
        )
    )
    definition = [
        *("--policy", "OutOf(2, 'CommunityMSP.peer', 'DistributorMSP.peer', 'AuditorMSP.peer')"),
        *("--collections", str(tmp_path / "collections.json")),
    ]
    for party in PARTIES[:3]:
        mine, package = ("--organisation", party.id), str(tmp_path / f"{party.name}.tar.gz")
        address = fabric_network.organisation(party.id).contracts["measurements"]
        made = contract("package", "approval", *mine, "--address", address, "--out", package)
        assert (made.code, made.stderr) == (0, "")
        assert contract("install", package, *mine) == made
        if party is PARTIES[2]:
            refused = contract("commit", "approval", *mine, *definition)
            assert refused.code == 6
            assert "2 of 4 organisations approved" in refused.stderr
            assert "not yet: AggregatorMSP, AuditorMSP" in refused.stderr
            assert contract("install", package, *mine) == made, "once more changes nothing"
        assert contract("approve", "approval", *mine, *definition, "--package", package).code == 0
    for _ in range(2):
        done = contract("commit", "approval", *mine, *definition)
        assert (done.code, done.stdout) == (0, "approval, sequence 1, is in force\n"), done.stderr
    assert contract("approve", "approval", *mine, *definition, "--package", package).code == 0
    listed = json.loads(contract("list", "--organisation", "AuditorMSP", "--json").stdout)
    assert {"contract": "approval", "sequence": 1, "version": "1"} in listed["contracts"]
    assert made.stdout.strip() in listed["packages"]


def test_a_contract_of_ours_is_served_over_mutual_tls_and_commits(
    fabric_network: Profile, fabric_commands: Commands
) -> None:
    def invoke(stub: Stub) -> bytes:
        if stub.function == b"Put":
            stub.put("key", stub.arguments[0])
        return stub.get("key") or b""

    definition = Definition("kept", policy=any_of(fabric_network.with_role("metering"), 2))
    with (
        served(fabric_commands, fabric_network, definition, invoke),
        open_gateway(fabric_network, "DistributorMSP", "operator") as gateway,
        open_gateway(fabric_network, "AuditorMSP", "auditor") as auditor,
    ):
        contract = gateway.network(fabric_network.channel).contract("kept")
        ready(lambda: contract.new_proposal("Put", b"value").endorse())
        block = contract.new_proposal("Put", b"value").endorse().submit().wait()
        assert block >= 1
        read = auditor.network(fabric_network.channel).contract("kept")
        ready(lambda: read.evaluate("Get"))
        assert contract.evaluate("Get") == b"value"


def test_an_orderer_that_was_away_catches_up(fabric_network: Profile) -> None:
    away = Service("orderer-aggregator", Layout(fabric_network.folder).node("orderer-aggregator"))
    pid = away.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    asked = ("contract", "approve", "away", "--organisation", "AuditorMSP")
    approved = aigeco_peer(fabric_network.folder, *asked)
    assert (approved.code, approved.stderr) == (0, ""), "three of four are enough"
    highest = max(node["height"] or 0 for node in status(fabric_network.folder)[1].values())
    assert aigeco_peer(fabric_network.folder, "network", "up", "--bare").stderr == "starting orderer-aggregator\n"
    until = time.monotonic() + PATIENCE_S
    while (height := status(fabric_network.folder)[1][away.name]["height"] or 0) < highest:
        assert time.monotonic() < until, f"{height} of {highest} blocks"


def test_a_small_network_goes_down_and_comes_up_again_with_its_ledger(
    fabric_commands: Commands, tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    with running(fabric_commands, folder) as profile:
        assert [each.name for each in profile.orderers] == ["orderer-community"]
        approved = aigeco_peer(folder, "contract", "approve", "registry", "--organisation", "AuditorMSP")
        assert (approved.code, approved.stderr) == (0, "")
        before = status(folder)[1]["peer-auditor"]["height"]
        assert before >= 2
        found = {each.name: each for each in services(Layout(folder), profile)}

        pid = found["peer-auditor"].pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        code, nodes = status(folder)
        assert (code, nodes["peer-auditor"]["state"]) == (1, "down")
        up = aigeco_peer(folder, "network", "up", "--small", "--bare")
        assert (up.code, up.stderr) == (0, "starting peer-auditor\n")
        assert status(folder)[1]["peer-auditor"]["height"] == before

        assert aigeco_peer(folder, "network", "down", "--purge").code == 2, "nobody could be asked"
        assert aigeco_peer(folder, "network", "down").code == 0
        assert {node["state"] for node in status(folder)[1].values()} == {"down"}

        address = profile.peers[0].address.rpartition(":")
        with socket.create_server((address[0], int(address[2]))):
            taken = aigeco_peer(folder, "network", "up", "--bare")
        assert taken.code == 6
        assert f"peer-community cannot start: another process listens on {profile.peers[0].address}" in taken.stderr

        certificate = Layout(folder).node("peer-community") / "msp" / "signcerts" / "cert.pem"
        kept = certificate.rename(tmp_path / "kept.pem")
        broken = aigeco_peer(folder, "network", "up", "--bare")
        assert broken.code == 6
        assert "peer-community ended while it started; the end of its log:" in broken.stderr
        assert "try: aigeco-peer network logs peer-community" in broken.stderr
        assert {each.pid() for each in found.values()} == {None}, "what a failed start started is stopped"
        kept.rename(certificate)

        up = aigeco_peer(folder, "network", "up", "--bare")
        assert up.code == 0, up.stderr
        code, nodes = status(folder)
        assert (code, {node["height"] for node in nodes.values()}) == (0, {before})

        (folder / "mine.txt").touch()
        purged = aigeco_peer(folder, "network", "down", "--purge", "--yes")
        assert purged.code == 0
        assert "left where it is, for it is not ours: mine.txt" in purged.stderr
        assert [each.name for each in folder.iterdir()] == ["mine.txt"]
        (folder / "mine.txt").unlink()
        folder.rmdir()


def test_a_contract_is_upgraded_while_it_serves_and_what_was_written_stays(
    fabric_commands: Commands, tmp_path: Path
) -> None:
    """The next definition: calls go on meanwhile, the old data is there, a stopped network comes up again."""
    folder = tmp_path / "network"
    meter = {"model": "em340", "place": "p1", "role": "consumption", "owner": "ana"}
    registrar = ("--as", f"{ORGANISATION}/registrar")

    def call(verb: str, function: str, **given: object) -> Any:
        done = aigeco_peer(folder, verb, "registry", function, "--arguments", json.dumps(given), *registrar)
        assert done.code == 0, done.stderr
        return json.loads(done.stdout)

    with running(fabric_commands, folder, bare=False) as profile:
        call("call", "RegisterMeter", meter="m1", serial="S1", **meter)
        for sequence in ("1", "3"):
            refused = aigeco_peer(folder, "contract", "upgrade", "registry", "--sequence", sequence)
            assert (refused.code, "--sequence 2" in refused.stderr) == (2, True)
        over = threading.Event()
        answered: list[Any] = []
        gateway = open_gateway(profile, ORGANISATION, "registrar")
        contracts = FabricContracts(gateway, profile, ORGANISATION, tmp_path / "calls", PATIENCE_S)

        def ask() -> None:
            while not over.is_set():
                given = {"meter": "m1", "serial": "S1", **meter}
                answered.append(json.loads(contracts.call("registry", "RegisterMeter", given))["serial"])

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            done = aigeco_peer(folder, "contract", "upgrade", "registry", "--version", "two")
        finally:
            over.set()
            asking.join(PATIENCE_S)
            contracts.close()
        assert done.code == 0, done.stderr
        assert "registry, sequence 2, version two, is in force" in done.stdout
        assert set(answered) == {"S1"}
        assert call("query", "Meter", meter="m1")["serial"] == "S1"
        assert call("call", "RetireMeter", meter="m1")["state"] == "retired"
        assert aigeco_peer(folder, "network", "down").code == 0
        assert aigeco_peer(folder, "network", "up", "--small").code == 0
        assert call("query", "Meter", meter="m1")["state"] == "retired"
        assert call("call", "RegisterMeter", meter="m2", serial="S2", **meter)["serial"] == "S2"
