"""The compose file says to containers what the processes are told: setting by setting, for BFT and for Raft."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger.fabric.network import compose, configtx, contracts, settings
from ledger.fabric.network.layout import HOST, PARTIES, Layout, contracts_name, count_ports, profile_of
from ledger.fabric.network.life import services as processes
from ledger.fabric.profile import Orderer, Profile

# Keys of a service in the compose specification that are used here, and what their values look like.
KEYS: dict[str, Any] = {
    "image": r"hyperledger/fabric-(peer|orderer):3\.1\.\d+|aigeco-edge",
    "network_mode": r"host",
    "user": r"\d+:\d+",
    "working_dir": r"/.+",
    "restart": r"unless-stopped",
    "command": list,
    "environment": dict,
    "volumes": list,
    "profiles": list,
}


@pytest.fixture(params=[False, True], ids=["bft", "raft"])
def made(request: pytest.FixtureRequest) -> tuple[Layout, Profile, dict[str, Any]]:
    layout = Layout(Path("/srv/aigeco/net$work"))
    ports = iter(range(20000, 20000 + count_ports(request.param)))
    profile = profile_of(layout, request.param, "aigeco", ports)
    return layout, profile, yaml.safe_load(compose.text(layout, profile, "1000:1000"))


def _plain(value: Any) -> Any:
    """As a container sees it: compose takes $$ for a dollar."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    assert "$" not in value.replace("$$", ""), value
    return value.replace("$$", "$")


def test_every_process_is_a_service_and_every_service_a_process(made: tuple[Layout, Profile, dict[str, Any]]) -> None:
    layout, profile, document = made
    assert set(document) == {"name", "services"}
    assert sorted(document["services"]) == sorted(process.name for process in processes(layout, profile))


def test_only_what_compose_knows_is_said(made: tuple[Layout, Profile, dict[str, Any]]) -> None:
    for service in made[2]["services"].values():
        for key, value in service.items():
            known = KEYS[key]
            assert re.fullmatch(known, value) if isinstance(known, str) else isinstance(value, known), (key, value)
        for value in (*service["command"], *service.get("environment", {}).values()):
            assert isinstance(value, str), f"{value!r}: compose takes texts"


def test_each_node_is_told_the_same(made: tuple[Layout, Profile, dict[str, Any]]) -> None:
    layout, profile, document = made
    for node in (*profile.orderers, *profile.peers):
        service = document["services"][node.name]
        if isinstance(node, Orderer):
            wanted, command = settings.orderer_environment(layout, node, profile.consensus), ["orderer"]
        else:
            wanted, command = settings.peer_environment(layout, node), ["peer", "node", "start"]
        told = _plain(service["environment"])
        assert set(told) == set(wanted)
        for name, value in wanted.items():
            assert told[name] == value, f"{node.name} {name}"
        assert service["command"] == command
        assert (
            service["image"].split(":")[0] == f"hyperledger/fabric-{'orderer' if command[0] == 'orderer' else 'peer'}"
        )


def test_each_server_of_contracts_serves_the_same(made: tuple[Layout, Profile, dict[str, Any]]) -> None:
    layout, _, document = made
    for party in PARTIES:
        service = document["services"][contracts_name(party)]
        assert _plain(service["command"]) == ["aigeco-peer", *contracts.arguments(layout, party)]
        assert service["profiles"] == ["contracts"]


def test_every_file_that_is_named_is_mounted_at_its_path(made: tuple[Layout, Profile, dict[str, Any]]) -> None:
    layout, _, document = made
    for service in document["services"].values():
        (volume,) = _plain(service["volumes"])
        assert volume == {"type": "bind", "source": str(layout.folder), "target": str(layout.folder)}
        for value in _plain(service.get("environment", {})).values():
            for path in re.findall(r"/[^\s,\]\[\"]+", value):
                assert Path(path).is_relative_to(layout.folder), path


def test_ports_are_those_of_the_profile_and_of_the_channel(made: tuple[Layout, Profile, dict[str, Any]]) -> None:
    layout, profile, document = made
    listening: set[str] = set()
    for service in document["services"].values():
        assert service["network_mode"] == "host", "the addresses in the channel are the host's"
        told = service.get("environment", {})
        if "ORDERER_GENERAL_LISTENPORT" in told:
            listening |= {f"{told['ORDERER_GENERAL_LISTENADDRESS']}:{told['ORDERER_GENERAL_LISTENPORT']}"}
            listening |= {told["ORDERER_ADMIN_LISTENADDRESS"]}
        elif told:
            listening |= {told["CORE_PEER_LISTENADDRESS"]}
            assert told["CORE_PEER_ADDRESS"] == told["CORE_PEER_LISTENADDRESS"]
    addresses = {peer.address for peer in profile.peers}
    addresses |= {each for orderer in profile.orderers for each in (orderer.address, orderer.admin or "")}
    assert listening == addresses
    channel = json.dumps(configtx.document(layout, profile))
    for node in (*profile.peers, *profile.orderers):
        assert node.address.startswith(f"{HOST}:")
    assert all(orderer.address.split(":")[1] in channel for orderer in profile.orderers)
