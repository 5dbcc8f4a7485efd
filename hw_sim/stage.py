"""A stage for the demo and the tests: certificates, configurations and processes of a whole site, in one folder.

Everything is what an operator would have: a real mosquitto with TLS 1.3 and an access list, ingestion peers and
gateways as processes of their own, started by the commands a user types.

Rules
- All secrets are made for the run and stay in the folder.
- A process that ends without being asked to is an error with the last lines it printed.
- Leaving the stage ends every process, in the reverse order of their start.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hw_sim.authority import Authority
from uplink import broker

HOST = "127.0.0.1"
ORGANISATIONS = ("ComunidadMSP", "DistribuidoraMSP")
_MOSQUITTO = Path(__file__).parent.parent / "scripts" / "mosquitto.sh"
# Below what the kernel gives to outgoing connections (from 32768 on): a broker that is away for a while finds its port
# free when it comes back.
_PORTS = range(20000, 32000)
# What this process has given out, until it ends: of 14 ports two would be the same once in 130 runs.
_CLAIMS: list[socket.socket] = []
# A process that was asked to end gets this long before it is killed; a gateway commits what it has read.
_GRACE_S = 10.0


class StageProblem(Exception):
    """Something of the demo's surroundings does not work."""


@dataclass(slots=True)
class Actor:
    """One process of the site.

    Attributes:
        name: for people.
        command: what is run.
        log: where its output goes.
    """

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    expected_to_run: bool = field(default=False)

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.expected_to_run = True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal and return its exit status."""
        self.expected_to_run = False
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise StageProblem(f"{self.name} did not end within {_GRACE_S:g} s; see {self.log}") from None

    def check(self) -> None:
        """Raise when it has ended by itself."""
        if self.expected_to_run and self.process is not None and (status := self.process.poll()) is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-5:]
            raise StageProblem(f"{self.name} ended with status {status}:\n  " + "\n  ".join(tail))


class Stage:
    """The folder of one run and the processes in it.

    Attributes:
        folder: where everything of the run is.
        gateways: those that the broker's access list knows.
        port: the broker's.
        actors: its processes.
        site: issues the certificates of the broker and the gateways.
        organisations: MSP id -> that organisation's own authority.
    """

    def __init__(self, folder: Path, gateways: tuple[str, ...], organisations: tuple[str, ...] = ORGANISATIONS) -> None:
        self.folder = folder
        self.gateways = gateways
        self.port = free_port()
        self.actors: list[Actor] = []
        self.site = Authority("Operator")
        self.organisations = {name: Authority(name) for name in organisations}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in reversed(self.actors):
            try:
                actor.stop()
            except StageProblem as problem:
                if kind is None:
                    raise
                print(f"also: {problem}", file=sys.stderr)

    def add(self, name: str, command: list[str]) -> Actor:
        """A process that will be part of the site; start it yourself."""
        log = self.folder / "log" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        actor = Actor(name, command, log)
        self.actors.append(actor)
        return actor

    def check(self) -> None:
        """Raise when any process has ended by itself."""
        for actor in self.actors:
            actor.check()

    # ---- what is on the stage

    def write_trust(self) -> Path:
        """Trust anchors as an auditor has them, from elsewhere than the gateways; returns their folder."""
        trust = self.folder / "trust"
        trust.mkdir()
        (trust / "gateways.pem").write_bytes(self.site.pem)
        (trust / "receipts.pem").write_bytes(b"".join(authority.pem for authority in self.organisations.values()))
        for name, authority in self.organisations.items():
            (trust / f"{name}.pem").write_bytes(authority.pem)
        return trust

    def write_broker(self) -> Actor:
        """mosquitto with its certificate and access list."""
        folder = self._folder("broker")
        self.site.server(HOST).write(folder / "broker.key", folder / "broker.pem")
        clients = folder / "clients.pem"
        clients.write_bytes(self.site.pem + b"".join(authority.pem for authority in self.organisations.values()))
        user = "root" if os.geteuid() == 0 else None  # so that it may read its key in this folder
        files = broker.BrokerFiles(clients, folder / "broker.pem", folder / "broker.key", user=user)
        path = broker.write(folder, HOST, self.port, self.gateways, self.organisations, files)
        return self.add("mosquitto", [str(_MOSQUITTO), "-c", str(path)])

    def write_gateway(
        self, gateway: str, buses: str, period_s: int, organisations: Iterable[str] | None = None
    ) -> Actor:
        """A gateway with its keys and configuration.

        ``buses``: the [[bus]] part of it, TOML. ``organisations``: whose receipts settle its batches; None: all.
        """
        folder = self._folder(gateway)
        self.site.gateway(gateway).write(folder / "signer.key", folder / "signer.pem")
        self.site.gateway(gateway).write(folder / "tls.key", folder / "tls.pem")
        (folder / "broker-ca.pem").write_bytes(self.site.pem)
        settling = tuple(self.organisations if organisations is None else organisations)
        roots = ", ".join(f'{name} = "../trust/{name}.pem"' for name in settling)
        (folder / "aigeco.toml").write_text(
            f'[gateway]\nid = "{gateway}"\n\n'
            f'[key]\nuri = "file:signer.key"\ncertificate = "signer.pem"\n\n'
            f'[store]\npath = "spool.db"\n\n'
            f"[measure]\nperiod_s = {period_s}\n\n"
            f'[mqtt]\nhost = "{HOST}"\nport = {self.port}\nca = "broker-ca.pem"\n'
            f'certificate = "tls.pem"\nkey = "tls.key"\nsend_every_s = 2\n\n'
            f"[ledger]\norganisations = {{ {roots} }}\nreceipts = {len(settling)}\n\n{buses}"
        )
        return self.add(gateway, [*command("edge.cli.main"), "run", "--config", str(folder / "aigeco.toml")])

    def write_peer(self, organisation: str) -> Actor:
        """An organisation's ingestion peer with its embedded ledger."""
        folder = self._folder(organisation)
        authority = self.organisations[organisation]
        authority.receipts().write(folder / "receipts.key", folder / "receipts.pem")
        authority.organisation_client().write(folder / "tls.key", folder / "tls.pem")
        (folder / "broker-ca.pem").write_bytes(self.site.pem)
        (folder / "peer.toml").write_text(self._peer_toml(organisation))
        return self.add(organisation, [*command("ledger.cli.main"), "run", "--config", str(folder / "peer.toml")])

    def _peer_toml(self, organisation: str) -> str:
        return (
            f'organisation = "{organisation}"\nledger = "ledger.db"\n\n'
            f'[receipts]\nkey = "file:receipts.key"\ncertificate = "receipts.pem"\n\n'
            f'[gateways]\nroots = ["../trust/gateways.pem"]\n\n'
            f'[mqtt]\nhost = "{HOST}"\nport = {self.port}\nca = "broker-ca.pem"\n'
            f'certificate = "tls.pem"\nkey = "tls.key"\n'
        )

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder


def command(module: str) -> list[str]:
    """A command of this project, run by this interpreter."""
    return [sys.executable, "-m", module]


def free_port() -> int:
    """A TCP port that nothing listens on, that is given to nobody else, and to no outgoing connection."""
    while True:
        port = random.choice(_PORTS)
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0aigeco-port-{port}")  # an abstract name: unique on this machine, gone with this process
            with socket.socket() as probe:
                probe.bind((HOST, port))
        except OSError:
            claim.close()
            continue
        _CLAIMS.append(claim)
        return port


def wait_for_port(port: int, patience_s: float = 10.0) -> None:
    """Until something listens on a port."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise StageProblem(f"nothing listens on {HOST}:{port} after {patience_s:g} s") from None
            time.sleep(0.05)
