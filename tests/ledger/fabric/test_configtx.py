"""What the channel of the network for trying is, and what its nodes are told."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import yaml

from ledger.fabric.commands import WrongArgument
from ledger.fabric.network import configtx, layout, make, settings
from ledger.fabric.network.layout import Layout
from ledger.fabric.profile import Orderer, Peer, Profile

FOLDER = Path("/somewhere/network")
LAYOUT = Layout(FOLDER)


def profile(small: bool) -> Profile:
    return layout.profile_of(LAYOUT, small, "aigeco", iter(range(20000, 21000)))


@pytest.mark.parametrize("small", [False, True])
def test_no_organisation_decides_alone(small: bool) -> None:
    channel = yaml.safe_load(configtx.text(LAYOUT, profile(small)))["Profiles"][configtx.PROFILE]
    application = channel["Application"]
    for name in ("Endorsement", "LifecycleEndorsement"):
        assert application["Policies"][name] == {"Type": "ImplicitMeta", "Rule": "MAJORITY Endorsement"}
    for group in (channel, application, channel["Orderer"]):
        assert group["Policies"]["Admins"]["Rule"] == "MAJORITY Admins"
    assert [each["ID"] for each in application["Organizations"]] == [party.id for party in layout.PARTIES]
    for each in application["Organizations"]:
        assert each["AnchorPeers"]
        rules = {name: policy["Rule"] for name, policy in each["Policies"].items()}
        assert "member" not in "".join(rules.values()), "any certificate of its CA would do"
        assert rules["Endorsement"] == f"OR('{each['ID']}.peer')"


def test_four_byzantine_orderers_of_four_organisations_or_one_with_raft() -> None:
    full = configtx.document(LAYOUT, profile(False))["Profiles"][configtx.PROFILE]
    assert full["Capabilities"] == {"V3_0": True}
    assert full["Application"]["Capabilities"] == {"V2_5": True}
    consenters = full["Orderer"]["ConsenterMapping"]
    assert full["Orderer"]["OrdererType"] == "BFT"
    assert len({each["MSPID"] for each in consenters}) == len({each["Port"] for each in consenters}) == 4
    assert all(len(each["OrdererEndpoints"]) == 1 for each in full["Orderer"]["Organizations"])
    small = configtx.document(LAYOUT, profile(True))["Profiles"][configtx.PROFILE]
    assert small["Orderer"]["OrdererType"] == "etcdraft"
    assert [each["ID"] for each in small["Orderer"]["Organizations"]] == ["CommunityMSP"]
    assert "OrdererEndpoints" not in small["Application"]["Organizations"][1]


def told(node: Peer | Orderer, small: bool = False) -> dict[str, str]:
    if isinstance(node, Peer):
        return settings.peer_environment(LAYOUT, node)
    return settings.orderer_environment(LAYOUT, node, profile(small).consensus)


@pytest.mark.parametrize("small", [False, True])
def test_every_connection_is_tls_with_both_sides_certificates_but_for_clients_of_bft_orderers(small: bool) -> None:
    made = profile(small)
    for node in (*made.peers, *made.orderers):
        environment = told(node, small)
        switches = {name: value for name, value in environment.items() if re.search("TLS_(ENABLED|CLIENTAUTH)", name)}
        assert len(switches) == (2 if isinstance(node, Peer) else 4)
        off = {"ORDERER_GENERAL_TLS_CLIENTAUTHREQUIRED"} if isinstance(node, Orderer) and not small else set()
        assert {name for name, value in switches.items() if value != "true"} == off


def test_nobody_listens_to_other_machines_and_ports_are_each_given_once() -> None:
    made = profile(False)
    seen = [address for each in made.organisations for address in each.contracts.values()]
    for node in (*made.peers, *made.orderers):
        seen += [node.address, *([node.admin] if isinstance(node, Orderer) else [])]
        for name, value in told(node).items():
            if "ADDRESS" in name or "ENDPOINT" in name:
                assert value.startswith("127.0.0.1") or not value, name
    assert len(seen) == len(set(seen)) == layout.count_ports(False)


def test_gossip_is_as_quick_as_endorsement_across_organisations_needs() -> None:
    environment = told(profile(False).peers[0])
    for name in ("RECONNECTINTERVAL", "ALIVETIMEINTERVAL", "PUBLISHSTATEINFOINTERVAL", "REQUESTSTATEINFOINTERVAL"):
        assert environment[f"CORE_PEER_GOSSIP_{name}"] == "1s"
    assert environment["CORE_PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD"] == "2s"


def test_ports_are_free_different_and_held() -> None:
    with make.held_ports(40) as ports:
        assert len(set(ports)) == 40
        assert all(20000 <= port < 32000 for port in ports)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", ports[0]))
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[0]))


def test_a_folder_that_cannot_be_one_of_a_network_is_refused(tmp_path: Path) -> None:
    make.check_folder(tmp_path / "new")
    make.check_folder(tmp_path)
    with pytest.raises(WrongArgument, match="can have no blanks"):
        make.check_folder(tmp_path / "a b")
    (tmp_path / "something").touch()
    with pytest.raises(WrongArgument, match="is not empty"):
        make.check_folder(tmp_path)
    with pytest.raises(WrongArgument, match="is not empty"):
        make.check_folder(tmp_path / "something")
