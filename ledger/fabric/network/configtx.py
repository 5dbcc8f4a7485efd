"""What the channel is, as the document that ``configtxgen`` makes its first block of. Pure: opens nothing.

Rules
- A change of the channel or a contract's definition, and an endorsement where a contract names no policy of its own,
  need the majority of the organisations; nobody decides alone.
- An organisation's own word is that of its members with a node OU: ``member`` alone would take any certificate of its
  CA.
"""

from __future__ import annotations

from typing import Any

import yaml

from ledger.fabric.network.layout import Layout, party_of
from ledger.fabric.profile import Profile

PROFILE = "Channel"
"""Name of the profile in the document."""

# Blocks close after this long; 200 ms keeps a receipt below a second and a block worth its signatures.
BATCH_TIMEOUT = "200ms"

_SMART_BFT = {
    "RequestBatchMaxInterval": BATCH_TIMEOUT,
    # A request that reached a follower alone goes on to the leader after this.
    "RequestForwardTimeout": "1s",
    "RequestComplainTimeout": "10s",
    "RequestAutoRemoveTimeout": "3m0s",
    "ViewChangeResendInterval": "2s",
    "ViewChangeTimeout": "10s",
    # With Fabric's minute a dead leader stops all ordering for that long.
    "LeaderHeartbeatTimeout": "10s",
    "LeaderHeartbeatCount": 10,
    "CollectTimeout": "1s",
    # Who was away catches up when it starts, not when it notices: until then it counts as one that failed.
    "SyncOnStart": True,
    "IncomingMessageBufferSize": 200,
    "RequestPoolSize": 10000,
}


def document(layout: Layout, profile: Profile) -> dict[str, Any]:
    """The document ``configtx.yaml``."""
    organisations = [_organisation(layout, profile, each.id) for each in profile.organisations]
    owners = {each.organisation for each in profile.orderers}
    return {
        "Profiles": {
            PROFILE: {
                "Policies": _policies(),
                "Capabilities": {"V3_0": True},
                "Orderer": {
                    **_consensus(layout, profile),
                    "BatchTimeout": BATCH_TIMEOUT,
                    "BatchSize": {
                        "MaxMessageCount": 500,
                        "AbsoluteMaxBytes": "10 MB",
                        "PreferredMaxBytes": "2 MB",
                    },
                    "Policies": {**_policies(), "BlockValidation": _meta("ANY Writers")},
                    "Capabilities": {"V2_0": True},
                    "Organizations": [each for each in organisations if each["ID"] in owners],
                },
                "Application": {
                    "Policies": {
                        **_policies(),
                        "Endorsement": _meta("MAJORITY Endorsement"),
                        "LifecycleEndorsement": _meta("MAJORITY Endorsement"),
                    },
                    # V2_5: private data can be purged.
                    "Capabilities": {"V2_5": True},
                    "Organizations": organisations,
                },
            }
        }
    }


def text(layout: Layout, profile: Profile) -> str:
    """The document as the file that ``configtxgen`` reads."""
    return yaml.dump(document(layout, profile), Dumper=_Plain, sort_keys=False)


class _Plain(yaml.SafeDumper):
    """Writes an organisation twice instead of a reference to it."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _organisation(layout: Layout, profile: Profile, organisation: str) -> dict[str, Any]:
    orderers = [each.address for each in profile.orderers if each.organisation == organisation]
    peers = [each.address.rpartition(":") for each in profile.peers if each.organisation == organisation]
    return {
        "Name": organisation,
        "ID": organisation,
        "MSPDir": str(layout.organisation(party_of(organisation)) / "msp"),
        "Policies": {
            "Readers": _signed(organisation, "admin", "peer", "client", "orderer"),
            "Writers": _signed(organisation, "admin", "client", "orderer"),
            "Admins": _signed(organisation, "admin"),
            "Endorsement": _signed(organisation, "peer"),
        },
        **({"OrdererEndpoints": orderers} if orderers else {}),
        "AnchorPeers": [{"Host": host, "Port": int(port)} for host, _, port in peers],
    }


def _consensus(layout: Layout, profile: Profile) -> dict[str, Any]:
    nodes = []
    for number, orderer in enumerate(profile.orderers, 1):
        host, _, port = orderer.address.rpartition(":")
        certificate = str(layout.node(orderer.name) / "tls" / "cert.pem")
        nodes.append(
            {
                "ID": number,
                "Host": host,
                "Port": int(port),
                "MSPID": orderer.organisation,
                "Identity": str(layout.node(orderer.name) / "msp" / "signcerts" / "cert.pem"),
                "ClientTLSCert": certificate,
                "ServerTLSCert": certificate,
            }
        )
    if profile.consensus == "BFT":
        return {"OrdererType": "BFT", "SmartBFT": _SMART_BFT, "ConsenterMapping": nodes}
    kept = ("Host", "Port", "ClientTLSCert", "ServerTLSCert")
    raft = {
        "Consenters": [{key: node[key] for key in kept} for node in nodes],
        "Options": {
            # An election of one takes ten of these.
            "TickInterval": "100ms",
            "ElectionTick": 10,
            "HeartbeatTick": 1,
            "MaxInflightBlocks": 5,
            "SnapshotIntervalSize": "16 MB",
        },
    }
    return {"OrdererType": "etcdraft", "EtcdRaft": raft}


def _policies() -> dict[str, Any]:
    return {"Readers": _meta("ANY Readers"), "Writers": _meta("ANY Writers"), "Admins": _meta("MAJORITY Admins")}


def _meta(rule: str) -> dict[str, str]:
    return {"Type": "ImplicitMeta", "Rule": rule}


def _signed(organisation: str, *ous: str) -> dict[str, str]:
    members = ", ".join(f"'{organisation}.{ou}'" for ou in ous)
    return {"Type": "Signature", "Rule": f"OR({members})"}
