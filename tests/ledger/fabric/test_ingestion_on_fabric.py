"""A gateway's batches through a real broker and a real network to the receipts of two organisations of three.

Processes are the product's own; each kind is killed under load. With `-m soak` 20 times each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.fabric.commands import Commands
from ledger.fabric.connection import open_gateway
from ledger.fabric.network import contracts, life
from ledger.fabric.network.layout import PARTIES, Layout
from ledger.fabric.once import commit_once
from ledger.fabric.profile import Profile
from ledger.rules.record import pack, parse
from signer.trust import Trust
from tests.broker import Broker
from tests.fabricnet import running
from tests.ledger.lines import Line, der
from tests.ledger.peers import line_of
from uplink.delivery import MqttConfig, MqttUplink, Refused
from uplink.errors import Unreachable

METERING = PARTIES[:3]
HOME = METERING[0].id
K = 2
PATIENCE_S = 120.0


class Site:
    """A network, a broker, the ingestion peers of the metering organisations."""

    def __init__(self, commands: Commands, profile: Profile, folder: Path) -> None:
        self.commands, self.profile, self.folder = commands, profile, folder
        (folder / "broker").mkdir()
        self.broker = Broker(folder / "broker", ["alpha", "beta", "gamma"], [party.id for party in METERING])
        self.broker.start()
        self.peers: dict[str, subprocess.Popen[bytes]] = {}
        self.trust = Trust(
            organisations={
                each.id: (authority.certificate,) for each, authority in zip(METERING, self._authorities(), strict=True)
            }
        )
        for root in (self.broker.site.certificate,):
            self.call("SetAuthority", certificate=der(root).hex())
        for gateway in self.broker.gateways:
            self.call("RegisterGateway", gateway=gateway, owner=HOME)
        for party in METERING:
            self.start(party.id)

    def _authorities(self) -> list[Any]:
        return [self.broker.organisations[party.id] for party in METERING]

    def call(self, function: str, **given: object) -> None:
        with open_gateway(self.profile, HOME, "registrar") as gateway:
            called = gateway.network(self.profile.channel).contract("registry")
            commit_once(lambda: called.new_proposal(function, pack(given)), lambda kept: None)

    def query(self, function: str, **given: object) -> Any:
        with open_gateway(self.profile, HOME, "ingestion") as gateway:
            return parse(gateway.network(self.profile.channel).contract("measurements").evaluate(function, pack(given)))

    def start(self, organisation: str) -> None:
        folder = self.folder / organisation
        if not folder.exists():
            folder.mkdir()
            authority = self.broker.organisations[organisation]
            authority.receipts().write(folder / "receipts.key", folder / "receipts.pem")
            authority.organisation_client().write(folder / "tls.key", folder / "tls.pem")
            (folder / "peer.toml").write_text(
                f'organisation = "{organisation}"\n[fabric]\nprofile = "{self.profile.path}"\n'
                '[receipts]\nkey = "file:receipts.key"\ncertificate = "receipts.pem"\n'
                f'[mqtt]\nhost = "127.0.0.1"\nport = {self.broker.port}\nca = "{self.broker.directory / "ca.pem"}"\n'
                'certificate = "tls.pem"\nkey = "tls.key"\n'
            )
        with (folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "ledger.cli.main", "--config", str(folder / "peer.toml"), "run"]
            self.peers[organisation] = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_serving(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not all("serving" in self.log(party.id) for party in METERING):
            assert time.monotonic() < until, {party.id: self.log(party.id) for party in METERING}
            time.sleep(0.1)

    def log(self, organisation: str) -> str:
        return (self.folder / organisation / "log").read_text()

    def uplink(self, gateway: str, alarms: list[str]) -> MqttUplink:
        place = self.broker.gateway(gateway)
        config = MqttConfig(place.host, place.port, gateway, ca=place.ca, certificate=place.certificate, key=place.key)
        return MqttUplink(config, self.trust, list(self.trust.organisations), K, alarms.append)

    def close(self) -> None:
        for process in self.peers.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        self.broker.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def site(fabric_commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ingestion")
    with running(fabric_commands, folder / "network", small=False, bare=False) as profile:
        made = Site(fabric_commands, profile, folder)
        try:
            made.wait_serving()
            yield made
        finally:
            made.close()


class Load(threading.Thread):
    """A gateway that sends batch after batch, each until k receipts are there."""

    def __init__(self, site: Site, gateway: str, size: int = 20) -> None:
        super().__init__(daemon=True)
        self.site, self.gateway, self.size = site, gateway, size
        self.line: Line = line_of(site.broker, gateway).begin().grow(size - 1)
        self.sent = 0
        self.alarms: list[str] = []
        self.over = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            uplink = self.site.uplink(self.gateway, self.alarms)
            while not self.over.is_set():
                self.deliver(uplink)
            uplink.close()
        except BaseException as error:
            self.failure = error
            raise

    def deliver(self, uplink: MqttUplink) -> None:
        batch = self.line.rest(self.sent)
        until = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < until, f"{self.gateway}: no receipts for seq {self.sent}"
            try:
                if len(uplink.deliver(batch, 10.0)) >= K:
                    break
            except Unreachable:
                time.sleep(0.2)
            except Refused:  # busy
                time.sleep(0.5)
        self.sent += batch.count
        self.line.grow(self.size)

    def end(self) -> None:
        self.over.set()
        self.join(PATIENCE_S)
        assert self.failure is None
        assert not self.is_alive()
        assert self.alarms == []


def check(site: Site, loads: list[Load]) -> None:
    """Every statement once, no gap."""
    for load in loads:
        assert load.line.chain.head is not None
        stream = load.line.chain.head.stream.hex()
        runs = site.query("Batches", stream=stream)
        at = 0
        for run in runs:
            assert run["first"] == at
            at += run["count"]
        assert at == load.sent
        assert site.query("Stream", stream=stream)["head"] == load.line.statements[load.sent - 1].sid.hex()


@pytest.mark.fabric
@pytest.mark.timeout(600)
def test_batches_get_the_receipts_of_two_organisations(site: Site) -> None:
    load = Load(site, "alpha")
    uplink = site.uplink("alpha", load.alarms)
    for _ in range(3):
        load.deliver(uplink)
    uplink.close()
    assert load.alarms == []
    check(site, [load])
    for party in METERING:
        assert "Traceback" not in site.log(party.id)


KINDS = ["ingestion", "contracts", "peer", "orderer"]


def kill(site: Site, kind: str, number: int) -> None:
    """SIGKILL one process of this kind, and start it again a moment later."""
    party = METERING[number % 3]
    layout = Layout(site.profile.folder)
    if kind == "ingestion":
        site.peers[party.id].kill()
        site.peers[party.id].wait()
        time.sleep(0.5)
        site.start(party.id)
        return
    if kind == "contracts":
        found = contracts.service(layout, party)
    else:
        nodes = site.profile.peers if kind == "peer" else site.profile.orderers
        found = life.service(layout, nodes[number % len(nodes) if kind == "orderer" else number % 3])
    pid = found.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    life.up(site.commands, site.profile.folder, False, site.profile.channel, lambda words: None)


@pytest.mark.fabric
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_killed_processes_lose_nothing_and_repeat_nothing(site: Site, kills: int) -> None:
    loads = [Load(site, gateway) for gateway in ("beta", "gamma")]
    for load in loads:
        load.start()
    for number in range(kills):
        for kind in KINDS:
            before = [load.sent for load in loads]
            kill(site, kind, number)
            until = time.monotonic() + PATIENCE_S
            while any(load.sent < sent + 40 for load, sent in zip(loads, before, strict=True)):
                assert all(load.failure is None for load in loads)
                assert time.monotonic() < until, f"nothing moves after {kind} was killed"
                time.sleep(0.1)
    for load in loads:
        load.end()
    check(site, loads)


def down(site: Site, number: int) -> None:
    """An organisation's peer, its contracts and its ingestion are gone."""
    party, layout = METERING[number], Layout(site.profile.folder)
    for found in (contracts.service(layout, party), life.service(layout, site.profile.peers[number])):
        pid = found.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    site.peers[party.id].kill()
    site.peers[party.id].wait()


def moves(loads: list[Load], batches: int, patience_s: float) -> bool:
    """Whether every gateway gets receipts for so many more batches in that time."""
    before, until = [load.sent for load in loads], time.monotonic() + patience_s
    while any(load.sent < sent + batches * load.size for load, sent in zip(loads, before, strict=True)):
        assert all(load.failure is None for load in loads)
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.fabric
@pytest.mark.timeout(600)
def test_without_one_organisation_it_serves_without_two_it_waits_and_recovers(site: Site) -> None:
    site.broker.gateways += ["delta"]
    site.broker.stop()
    site.broker.write()
    site.broker.start()
    site.call("RegisterGateway", gateway="delta", owner=HOME)
    loads = [Load(site, "delta")]
    loads[0].start()
    assert moves(loads, 2, PATIENCE_S)
    down(site, 1)
    assert moves(loads, 3, PATIENCE_S)
    down(site, 2)
    moves(loads, 1, 5.0)  # what was under way may still come through
    assert not moves(loads, 1, 5.0)
    life.up(site.commands, site.profile.folder, False, site.profile.channel, lambda words: None)
    for number in (1, 2):
        site.start(METERING[number].id)
    assert moves(loads, 3, PATIENCE_S)
    for load in loads:
        load.end()
    check(site, loads)
    assert "cannot commit: " in site.log(HOME)
