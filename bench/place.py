"""A site to measure in: broker, peers and a gateway as an operator would have them, each a process of its own.

Rules
- What runs is what is shipped: mosquitto with TLS 1.3, certificates and access list, and the commands of the product.
- Certificates, keys and configurations are made for the run and gone with its folder.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hw_sim.authority import Authority
from hw_sim.stage import HOST, Actor, command, free_port, wait_for_port
from uplink import broker, topics

GATEWAY = "bench-gateway"
BARE = "bench-bare"
"""Another client of the broker, whose messages nobody subscribes to."""

ORGANISATIONS = ("Org1MSP", "Org2MSP")
BARE_TOPIC = "bench/statements"
_MOSQUITTO = Path(__file__).parent.parent / "scripts" / "mosquitto.sh"


@dataclass(frozen=True, slots=True)
class Started:
    """A running process.

    Attributes:
        pid: its id.
        stop: ends it.
    """

    pid: int
    stop: Callable[[], int]


class Place:
    """The folder of one run.

    Attributes:
        folder: where everything is.
        port: the broker's.
        gateway_root: root certificate of the gateways.
    """

    def __init__(self, folder: Path, organisations: Sequence[str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.organisations = tuple(organisations)
        self._site = Authority("Operator")
        self._authorities = {name: Authority(name) for name in organisations}
        self._actors: list[Actor] = []
        self._gateways = [GATEWAY]
        self.gateway_root = self._site.certificate
        (folder / "ca.pem").write_bytes(self._site.pem)
        for name, authority in self._authorities.items():
            (folder / f"{name}.pem").write_bytes(authority.pem)
        for gateway in (GATEWAY, BARE):
            self._site.gateway(gateway).write(folder / f"{gateway}.key", folder / f"{gateway}.crt")

    @property
    def config(self) -> Path:
        """The gateway's configuration."""
        return self.folder / "aigeco.toml"

    @property
    def spool(self) -> Path:
        """The gateway's spool."""
        return self.folder / "spool.db"

    def write_config(self, buses: str, period_s: int, send_every_s: int = 10, connected: bool = True) -> None:
        """The gateway's configuration; ``buses``: its [[bus]] tables; not ``connected``: nothing is sent."""
        self._write_config(self.config, GATEWAY, buses, period_s, send_every_s if connected else None)

    def add_gateway(self, gateway: str, buses: str, send_every_s: int, receipts: int) -> Path:
        """One more gateway, in a folder of its own; returns its configuration. Before the broker is started.

        Args:
            receipts: how many organisations settle a batch.
        """
        config = self.folder / gateway / "aigeco.toml"
        config.parent.mkdir()
        self._site.gateway(gateway).write(self.folder / f"{gateway}.key", self.folder / f"{gateway}.crt")
        self._write_config(config, gateway, buses, 3600, send_every_s, receipts)
        self._gateways.append(gateway)
        return config

    def _write_config(
        self, path: Path, gateway: str, buses: str, period_s: int, send_every_s: int | None, receipts: int | None = None
    ) -> None:
        """``send_every_s``: None = nothing is sent; ``receipts``: None = of all organisations."""
        organisations = ", ".join(f'{name} = "{self.folder / name}.pem"' for name in self.organisations)
        mqtt = (
            f'[mqtt]\nhost = "{HOST}"\nport = {self.port}\nca = "{self.folder}/ca.pem"\n'
            f"send_every_s = {send_every_s}\n\n"
            f"[ledger]\norganisations = {{ {organisations} }}\n{f'receipts = {receipts}' if receipts else ''}\n\n"
        )
        path.write_text(
            f'[gateway]\nid = "{gateway}"\n\n'
            f'[key]\nuri = "file:{self.folder / gateway}.key"\ncertificate = "{self.folder / gateway}.crt"\n\n'
            f"[measure]\nperiod_s = {period_s}\n\n{mqtt if send_every_s is not None else ''}{buses}"
        )

    def start_broker(self, clients_of: Iterable[bytes] | None = None) -> Started:
        """mosquitto, listening when this returns.

        Args:
            clients_of: roots of the organisations' client certificates, PEM; None: of those made here.
        """
        roots = [authority.pem for authority in self._authorities.values()] if clients_of is None else clients_of
        folder = self.folder / "broker"
        folder.mkdir()
        self._site.server(HOST).write(folder / "broker.key", folder / "broker.pem")
        clients = folder / "clients.pem"
        clients.write_bytes(self._site.pem + b"".join(roots))
        user = "root" if os.geteuid() == 0 else None  # so that it may read its key here
        files = broker.BrokerFiles(clients, folder / "broker.pem", folder / "broker.key", user=user)
        path = broker.write(folder, HOST, self.port, self._gateways, self.organisations, files)
        with (folder / "acl").open("a") as acl:
            acl.write(f"\nuser {topics.gateway_cn(BARE)}\ntopic write {BARE_TOPIC}\n")
        started = self.start("mosquitto", [str(_MOSQUITTO), "-c", str(path)])
        wait_for_port(self.port)
        return started

    def start_peer(self, organisation: str) -> Started:
        """An organisation's ingestion peer with an embedded ledger of its own."""
        folder = self.folder / organisation
        folder.mkdir()
        authority = self._authorities[organisation]
        authority.receipts().write(folder / "receipts.key", folder / "receipts.pem")
        authority.organisation_client().write(folder / "tls.key", folder / "tls.pem")
        (folder / "peer.toml").write_text(
            f'organisation = "{organisation}"\nledger = "ledger.db"\n\n'
            f'[receipts]\nkey = "file:receipts.key"\ncertificate = "receipts.pem"\n\n'
            f'[gateways]\nroots = ["../ca.pem"]\n\n'
            f'[mqtt]\nhost = "{HOST}"\nport = {self.port}\nca = "../ca.pem"\ncertificate = "tls.pem"\nkey = "tls.key"\n'
        )
        config = ["--config", str(folder / "peer.toml")]
        add = [*command("ledger.cli.main"), "gateways", "add", GATEWAY, *config]
        subprocess.run(add, check=True, capture_output=True)
        return self.start(organisation, [*command("ledger.cli.main"), "run", *config])

    def start_gateway(self) -> Started:
        """``aigeco run`` with the configuration written before."""
        return self.start("gateway", [*command("edge.cli.main"), "run", "--config", str(self.config)])

    def start(self, name: str, words: list[str]) -> Started:
        """Any other process of the run."""
        actor = Actor(name, words, self.folder / f"{name}.log")
        actor.start()
        self._actors.append(actor)
        assert actor.process
        return Started(actor.process.pid, actor.stop)

    def check(self) -> None:
        """Raise when a process has ended by itself."""
        for actor in self._actors:
            actor.check()

    def close(self) -> None:
        """End every process, the last one first."""
        while self._actors:
            self._actors.pop().stop()


@contextmanager
def fresh(organisations: Sequence[str] = ORGANISATIONS[:1], folder: Path | None = None) -> Iterator[Place]:
    """An empty place; what runs there ends with the block. ``folder``: an empty one, that stays."""
    with tempfile.TemporaryDirectory(prefix="aigeco-bench-") as name:
        place = Place(folder or Path(name), organisations)
        try:
            yield place
        finally:
            place.close()


def tcp_bus(port: int, model: str, numbers: Sequence[int], period_s: int | None = None) -> str:
    """One line and its meters, as TOML; on it they have the units 1, 2, 3 ..."""
    own = f"period_s = {period_s}\n" if period_s else ""
    lines = [f'[[bus]]\ntcp = "{HOST}:{port}"\n']
    for unit, number in enumerate(numbers, 1):
        lines.append(f'[[bus.meter]]\nname = "meter-{number:02}"\nmodel = "{model}"\nunit = {unit}\n{own}')
    return "\n".join(lines) + "\n"
