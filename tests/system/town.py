"""A town for tests: broker, organisations' peers, gateways and their meters, each a process as an operator runs it.

Rules
- Nothing is faked between the meters and the ledgers; what a test looks at are files, as a bystander would.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from hw_sim.stage import HOST, ORGANISATIONS, Actor, Stage, command, free_port, wait_for_port
from ledger.embedded import LedgerFile, SeenFork
from ledger.rules.measurements import Gateway, Stream
from signer import batch as batches
from signer.statement import parse
from signer.trust import load_pem
from tests.system.audit import aigeco
from tests.system.home import Home, log_of, until


@dataclass(frozen=True, slots=True)
class Line:
    """A line of meters.

    Attributes:
        meters: (name, model, unit).
        baud: of a serial line; None: TCP.
    """

    name: str
    meters: tuple[tuple[str, str, int], ...]
    baud: int | None = None

    def write(self, folder: Path) -> tuple[str, str]:
        """Its part of the simulated site's file, and of the gateway's configuration; ``folder``: of the site."""
        place = f"{HOST}:{free_port()}" if self.baud is None else str(folder / self.name)
        kinds = ("tcp", "tcp") if self.baud is None else ("pty", "serial")
        site, gateway = ([head, f'name = "{self.name}"'] for head in ("[[line]]", "[[bus]]"))
        for lines, kind, below in ((site, kinds[0], "line.device"), (gateway, kinds[1], "bus.meter")):
            lines.append(f'{kind} = "{place}"')
            lines += [f"baud = {self.baud}"] if self.baud else []
            for name, model, unit in self.meters:
                lines += [f"[[{below}]]", f'name = "{name}"', f'model = "{model}"', f"unit = {unit}"]
        return "\n".join(site) + "\n", "\n".join(gateway) + "\n"


def one_meter(gateway: str) -> tuple[Line, ...]:
    """The least a gateway needs."""
    return (Line(gateway, ((f"{gateway}-meter", "eastron_sdm120", 1),)),)


class Town:
    """All of it on one stage.

    Attributes:
        folder: where everything is.
        trust: anchors as an auditor has them.
        homes: gateway id -> its home.
        peers: organisation -> its ingestion peer.
    """

    def __init__(
        self,
        stage: Stage,
        gateways: Mapping[str, tuple[Line, ...]],
        peers: Iterable[str] = ORGANISATIONS,
        settling: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Write everything down.

        Args:
            peers: organisations that have a peer here.
            settling: gateway -> whose receipts settle its batches; those with a peer otherwise.
        """
        self.stage = stage
        self.folder = stage.folder
        self.trust = stage.write_trust()
        self.broker = stage.write_broker()
        self.peers = {name: stage.write_peer(name) for name in peers}
        site = self.folder / "site"
        site.mkdir()
        written = {name: [line.write(site) for line in lines] for name, lines in gateways.items()}
        lines = "".join(part for parts in written.values() for part, _ in parts)
        (site / "site.toml").write_text(f'seed = 7\n[[home]]\nname = "home"\npv_kwp = 5.0\n{lines}')
        words = [*command("hw_sim.cli.main"), "site", "--plain", str(site / "site.toml")]
        self.site = stage.add("site", words)
        settling = settling or {}
        self.homes = {
            name: self._home(name, "".join(bus for _, bus in parts), settling.get(name, self.peers))
            for name, parts in written.items()
        }

    def _home(self, gateway: str, buses: str, organisations: Iterable[str]) -> Home:
        actor = self.stage.write_gateway(gateway, buses, 1, organisations)
        home = Home(gateway, self.folder / gateway, actor, self.stage)
        home.edit("send_every_s = 2", "send_every_s = 1")
        return home

    def open(self, pinned: bool = True) -> None:
        """Start everything but the gateways; ``pinned``: each gateway with the one certificate it has."""
        for organisation in self.peers:
            self.register(organisation, pinned)
        for actor in (self.broker, self.site, *self.peers.values()):
            actor.start()
        wait_for_port(self.stage.port)
        for peer in self.peers.values():
            self.says(peer, "serving")
        self.says(self.site, "ready")

    def says(self, actor: Actor, words: str) -> None:
        """Wait until a process has said so."""
        until(lambda: words in log_of(actor), lambda: log_of(actor), self.stage)

    def register(self, organisation: str, pinned: bool) -> None:
        """Put the gateways into an organisation's registry, as ``aigeco-peer gateways add`` does before the start."""
        file = LedgerFile(self.ledger_path(organisation), organisation)
        try:
            for home in self.homes.values():
                der = load_pem(home.folder / "signer.pem")[0].public_bytes(Encoding.DER)
                file.register(Gateway(home.gateway, certificate=sha256(der).digest() if pinned else None))
        finally:
            file.close()

    def close(self) -> None:
        """End everything at once: how processes end is not what is tested where this is used."""
        for actor in self.stage.actors:
            actor.expected_to_run = False
            if actor.process is not None and actor.process.poll() is None:
                actor.process.send_signal(signal.SIGKILL)

    # ---- the ledgers

    def ledger_path(self, organisation: str) -> Path:
        return self.folder / organisation / "ledger.db"

    @contextmanager
    def ledger(self, organisation: str) -> Iterator[LedgerFile]:
        """An organisation's ledger, for a look."""
        file = LedgerFile(self.ledger_path(organisation), organisation, read_only=True)
        try:
            yield file
        finally:
            file.close()

    def streams(self, organisation: str, gateway: str) -> list[Stream]:
        """What an organisation's ledger holds of a gateway, the oldest first."""
        with self.ledger(organisation) as file:
            return [stream for stream in file.streams() if stream.gateway == gateway]

    def forks(self, organisation: str, gateway: str) -> list[SeenFork]:
        """The forks of a gateway that an organisation's ledger has recorded."""
        with self.ledger(organisation) as file:
            streams = {stream.stream for stream in file.streams() if stream.gateway == gateway}
            return [seen for seen in file.forks() if seen.fork.stream in streams]

    def on_ledger(self, organisation: str) -> dict[bytes, list[bytes]]:
        """stream id -> the statements committed, in their order; no place is empty and none is taken twice."""
        found: dict[bytes, list[bytes]] = {}
        with self.ledger(organisation) as file:
            file.check_chain()
            for commit in file.commits():
                batch, _ = batches.parse(file.content(commit.block)[0])
                before = found.setdefault(batch.stream, [])
                assert batch.first == len(before), f"{organisation}, block {commit.block} begins at {batch.first}"
                before += batch.statements
        for stream, statements in found.items():
            sids = {parse(data).sid for data in statements}
            assert len(sids) == len(statements), f"{organisation}: a statement of {stream.hex()} comes twice"
        return found

    # ---- the auditor

    def evidence(self, home: Home, name: str, config: Path | None = None) -> dict[str, Any]:
        """Export what a gateway has, and the verifier's report on it by anchors from elsewhere."""
        out = self.folder / "evidence" / name
        code, _, err = aigeco("export", "--out", str(out), "--config", str(config or home.config))
        assert code == 0, err
        return self.verdict(out)[1]

    def verdict(self, folder: Path) -> tuple[int, dict[str, Any]]:
        """Exit code and report of ``aigeco verify``."""
        code, out, err = aigeco("verify", str(folder), "--trust", str(self.trust), "--json")
        assert out, err
        report: dict[str, Any] = json.loads(out)
        assert report["trust"] == "external"
        assert report["ok"] == (code == 0)
        return code, report
