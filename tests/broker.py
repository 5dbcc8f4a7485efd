"""A real mosquitto for tests: TLS 1.3, certificates on both sides, the product's own configuration and access list."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import uplink.broker
from hw_sim.authority import Authority, Issued
from uplink.endpoint import Endpoint

RUN = Path(__file__).parent.parent / "scripts" / "mosquitto.sh"
HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """mosquitto in a directory of its own, with the authorities whose certificates it lets in.

    Attributes:
        site: issues the broker's and the gateways' certificates.
        organisations: MSP id -> that organisation's own authority.
    """

    def __init__(self, directory: Path, gateways: Iterable[str], organisations: Iterable[str]) -> None:
        self.directory = directory
        self.port = free_port()
        self.site = Authority("Site")
        self.gateways = list(gateways)
        self.organisations = {name: Authority(name) for name in organisations}
        self.server = self.site.server(HOST)
        self._process: subprocess.Popen[bytes] | None = None
        self.write()

    def write(self) -> None:
        """(Re)write certificates and configuration; takes effect with the next start."""
        ca = self.directory / "clients.pem"
        ca.write_bytes(self.site.pem + b"".join(authority.pem for authority in self.organisations.values()))
        (self.directory / "ca.pem").write_bytes(self.site.pem)
        key, certificate = self.directory / "broker.key", self.directory / "broker.pem"
        key.unlink(missing_ok=True)
        self.server.write(key, certificate)
        user = "root" if os.geteuid() == 0 else None
        files = uplink.broker.BrokerFiles(ca, certificate, key, user=user)
        self.configuration = uplink.broker.write(
            self.directory, HOST, self.port, self.gateways, self.organisations, files
        )

    def start(self) -> None:
        """Start and wait until it listens."""
        log = (self.directory / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen([RUN, "-c", self.configuration], stderr=log, stdout=log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, "mosquitto does not listen"
                time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; SIGTERM lets it save its sessions, SIGKILL does not."""
        if self._process:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def log(self) -> str:
        """What mosquitto said so far."""
        return (self.directory / "mosquitto.log").read_text()

    def endpoint(self, common_name: str, issued: Issued, instance: int = 1, **changes: object) -> Endpoint:
        """Connection settings for whoever holds this certificate; writes its files once."""
        key, certificate = self.directory / f"{common_name}.key", self.directory / f"{common_name}.pem"
        if not key.exists():
            issued.write(key, certificate)
        settings: dict[str, object] = {
            "host": HOST,
            "port": self.port,
            "client_id": f"{common_name}-{instance}",
            "ca": self.directory / "ca.pem",
            "certificate": certificate,
            "key": key,
        }
        return Endpoint(**(settings | changes))  # type: ignore[arg-type]

    def gateway(
        self, gateway: str, key: ec.EllipticCurvePrivateKey | None = None, instance: int = 1, **changes: object
    ) -> Endpoint:
        """Connection settings of a gateway."""
        return self.endpoint(f"gw-{gateway}", self.site.gateway(gateway, key), instance, **changes)

    def organisation(self, name: str, instance: int = 1, **changes: object) -> Endpoint:
        """Connection settings of an organisation's ingestion peer."""
        issued = self.organisations[name].organisation_client()
        return self.endpoint(f"org-{name}", issued, instance, **changes)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker for the gateways ``alpha`` and ``beta`` and two organisations."""
    directory = tmp_path / "broker"
    directory.mkdir()
    made = Broker(directory, ["alpha", "beta"], ["Org1MSP", "Org2MSP"])
    made.start()
    yield made
    made.stop(signal.SIGKILL)
