"""The network as a compose file: the same nodes, told the same, in containers of Fabric's official images. Pure.

Rules
- Commands, settings, ports and files are those of the processes (``settings``, ``contracts``): nothing is said twice.
- Containers share the host's network and see the network's folder at the same path, so that every address and path
  in settings and profile holds inside and outside.
- What runs our own code needs an image with it, and starts only with the profile ``contracts``; else it runs on the
  host.
"""

from __future__ import annotations

from typing import Any

import yaml

from ledger.fabric.network import contracts, settings
from ledger.fabric.network.layout import PARTIES, Layout, contracts_name
from ledger.fabric.profile import Orderer, Peer, Profile

VERSION = "3.1.5"
"""Of Fabric's images."""

IMAGE = "aigeco-edge"
"""An image where ``aigeco-peer`` is installed."""

_HEAD = (
    "# The network in this folder in containers, written by aigeco-peer network compose. Do not edit: write it again.\n"
    "# docker compose up -d; with --profile contracts also the servers of our contracts.\n"
)


def text(layout: Layout, profile: Profile, owner: str, image: str = IMAGE) -> str:
    """The file; ``owner`` is ``uid:gid`` of the network's folder, ``image`` has ``aigeco-peer`` in it."""
    return _HEAD + yaml.safe_dump(document(layout, profile, owner, image), sort_keys=False, width=120)


def document(layout: Layout, profile: Profile, owner: str, image: str = IMAGE) -> dict[str, Any]:
    """The file's content."""
    nodes: tuple[Peer | Orderer, ...] = (*profile.orderers, *profile.peers)
    services = {node.name: _node(layout, profile, node, owner) for node in nodes}
    for party in PARTIES:
        services[contracts_name(party)] = {
            **_common(layout, image, owner),
            "profiles": ["contracts"],
            "command": ["aigeco-peer", *map(_escaped, contracts.arguments(layout, party))],
        }
    return {"name": "aigeco-fabric", "services": services}


def _node(layout: Layout, profile: Profile, node: Peer | Orderer, owner: str) -> dict[str, Any]:
    image = f"hyperledger/fabric-{'orderer' if isinstance(node, Orderer) else 'peer'}:{VERSION}"
    told = settings.environment(layout, node, profile.consensus)
    return {
        **_common(layout, image, owner),
        "command": settings.command(node),
        "environment": {name: _escaped(value) for name, value in told.items()},
    }


def _common(layout: Layout, image: str, owner: str) -> dict[str, Any]:
    folder = _escaped(str(layout.folder))
    return {
        "image": image,
        "network_mode": "host",
        "user": owner,
        "working_dir": folder,
        "volumes": [{"type": "bind", "source": folder, "target": folder}],
        "restart": "unless-stopped",
    }


def _escaped(value: str) -> str:
    """Compose takes a dollar for a variable."""
    return value.replace("$", "$$")
