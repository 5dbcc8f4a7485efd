"""A Fabric network for trying, and on it what an operator would start: broker, registry entries, ingestion peers.

Rules
- Every step up is a command of the product, in a process of its own.
- The network is taken down, and its folder is gone, when the block ends.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import place
from hw_sim.stage import command as run
from ledger.fabric.network import life
from ledger.fabric.network.layout import PARTIES, Layout, Party
from ledger.rules.registry import METERING

PARTIES_METERING = tuple(party for party in PARTIES if METERING in party.roles)


@contextmanager
def folder() -> Iterator[Path]:
    """Where a network can be made; what is up there at the end is taken down."""
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "network"
        try:
            yield made
        finally:
            if made.exists():
                life.down(made, lambda _: None)


@contextmanager
def network(raft: bool) -> Iterator[Layout]:
    """A network with its contracts; ``raft``: one orderer instead of four."""
    with folder() as made:
        peer("network", "up", "--network", str(made), *(["--small"] if raft else []))
        yield Layout(made)


def register(layout: Layout, site: place.Place, gateways: Sequence[str]) -> None:
    """Have the network's registry know the site's gateways."""
    site.organisations = tuple(party.id for party in PARTIES_METERING)
    registrar = ["--network", str(layout.folder), "--as", "CommunityMSP/registrar"]
    peer("gateways", "trust", str(site.folder / "ca.pem"), *registrar)
    for gateway in gateways:
        peer("gateways", "add", gateway, *registrar)


def start(layout: Layout, site: place.Place) -> dict[str, place.Started]:
    """The broker, and the ingestion peer of each metering organisation, by name."""
    roots = ((layout.organisation(party) / "tls-ca" / "cert.pem").read_bytes() for party in PARTIES_METERING)
    started = {"broker": site.start_broker(roots)}
    for party in PARTIES_METERING:
        words = [*run("ledger.cli.main"), "--config", str(_configure(layout, site, party)), "run"]
        started[party.id] = site.start(party.id, words)
        root = layout.organisation(party) / "ca" / "cert.pem"
        (site.folder / f"{party.id}.pem").write_bytes(root.read_bytes())
    return started


def peer(*words: str) -> None:
    """``aigeco-peer`` with these words."""
    done = subprocess.run(
        [*run("ledger.cli.main"), *words], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    if done.returncode:
        raise RuntimeError(f"aigeco-peer {' '.join(words)}: {done.stderr}")


def _configure(layout: Layout, site: place.Place, party: Party) -> Path:
    """The organisation's peer.toml, as network up wrote it, with this broker."""
    path = layout.organisation(party) / "peer.toml"
    text = path.read_text().replace("port = 8883", f"port = {site.port}")
    path.write_text(text.replace('ca = "broker-ca.pem"', f'ca = "{site.folder / "ca.pem"}"'))
    return path
