"""What each node is told, over the defaults that come with Fabric: as environment variables. Pure: opens nothing.

Rules
- Only what differs from Fabric's own ``core.yaml`` and ``orderer.yaml`` stands here, with its reason.
- TLS with both sides' certificates on every connection: clients, peers, orderers, administration; but for clients of
  BFT orderers, for the reason that stands there.
"""

from __future__ import annotations

import json
from pathlib import Path

from ledger.fabric.network.layout import HOST, Layout
from ledger.fabric.profile import Identity, Orderer, Organisation, Peer

BUILDER = "aigeco-ccaas"
CLIENT_CERTIFICATE, CLIENT_KEY = "AIGECO_CONTRACT_CLIENT_CERT", "AIGECO_CONTRACT_CLIENT_KEY"
"""What the builder's release script puts into a contract's connection when its server asks for a certificate."""

GOSSIP = {
    # With Fabric's 4 to 25 s, endorsement across organisations may be unavailable for half a minute after a start.
    "CORE_PEER_GOSSIP_RECONNECTINTERVAL": "1s",
    "CORE_PEER_GOSSIP_ALIVETIMEINTERVAL": "1s",
    "CORE_PEER_GOSSIP_PUBLISHSTATEINFOINTERVAL": "1s",
    "CORE_PEER_GOSSIP_REQUESTSTATEINFOINTERVAL": "1s",
    # With Fabric's 60 s, a block whose private data died with another peer stalls the ledger for a minute.
    "CORE_PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD": "2s",
}


def command(node: Peer | Orderer) -> list[str]:
    """What runs a node: one of Fabric's commands, and its arguments."""
    return ["orderer"] if isinstance(node, Orderer) else ["peer", "node", "start"]


def environment(layout: Layout, node: Peer | Orderer, consensus: str) -> dict[str, str]:
    """Settings of a node."""
    if isinstance(node, Orderer):
        return orderer_environment(layout, node, consensus)
    return peer_environment(layout, node)


def peer_environment(layout: Layout, peer: Peer) -> dict[str, str]:
    """Settings of a peer."""
    node = layout.node(peer.name)
    builders = [
        {
            "name": BUILDER,
            "path": str(layout.builder),
            "propagateEnvironment": [CLIENT_CERTIFICATE, CLIENT_KEY],
        }
    ]
    return {
        "CORE_PEER_ID": peer.name,
        "CORE_PEER_LOCALMSPID": peer.organisation,
        "CORE_PEER_MSPCONFIGPATH": str(node / "msp"),
        "CORE_PEER_ADDRESS": peer.address,
        "CORE_PEER_LISTENADDRESS": peer.address,
        # For contracts that Fabric starts itself; ours are servers, nobody connects here.
        "CORE_PEER_CHAINCODELISTENADDRESS": f"{HOST}:0",
        "CORE_PEER_FILESYSTEMPATH": str(node / "data"),
        "CORE_LEDGER_SNAPSHOTS_ROOTDIR": str(node / "data" / "snapshots"),
        "CORE_OPERATIONS_LISTENADDRESS": f"{HOST}:0",
        **_tls("CORE_PEER_TLS_", node / "tls", "_FILE"),
        "CORE_PEER_TLS_ROOTCERT_FILE": str(layout.tls_roots),
        "CORE_PEER_TLS_CLIENTAUTHREQUIRED": "true",
        "CORE_PEER_TLS_CLIENTROOTCAS_FILES": str(layout.tls_roots),
        "CORE_PEER_GOSSIP_BOOTSTRAP": peer.address,
        "CORE_PEER_GOSSIP_ENDPOINT": peer.address,
        "CORE_PEER_GOSSIP_EXTERNALENDPOINT": peer.address,
        **GOSSIP,
        # No Docker: without an endpoint nobody asks it whether it is well.
        "CORE_VM_ENDPOINT": "",
        "CORE_CHAINCODE_EXTERNALBUILDERS": json.dumps(builders),
        CLIENT_CERTIFICATE: str(node / "tls" / "cert.pem"),
        CLIENT_KEY: str(node / "tls" / "key.pem"),
    }


def orderer_environment(layout: Layout, orderer: Orderer, consensus: str) -> dict[str, str]:
    """Settings of an orderer."""
    node = layout.node(orderer.name)
    # An orderer of Fabric 3.1.5 that was away fetches blocks from the others without the hash of its TLS certificate
    # (createBFTDeliverer in orderer/consensus/smartbft sets none), is refused where client certificates are required,
    # and never catches up. Orderers still know each other by their certificates, and all they take is signed.
    mutual = "false" if consensus == "BFT" else "true"
    host, _, port = orderer.address.rpartition(":")
    return {
        "ORDERER_GENERAL_LISTENADDRESS": host,
        "ORDERER_GENERAL_LISTENPORT": port,
        "ORDERER_GENERAL_LOCALMSPID": orderer.organisation,
        "ORDERER_GENERAL_LOCALMSPDIR": str(node / "msp"),
        **_tls("ORDERER_GENERAL_TLS_", node / "tls"),
        "ORDERER_GENERAL_TLS_ROOTCAS": f"[{layout.tls_roots}]",
        "ORDERER_GENERAL_TLS_CLIENTAUTHREQUIRED": mutual,
        "ORDERER_GENERAL_TLS_CLIENTROOTCAS": f"[{layout.tls_roots}]",
        "ORDERER_GENERAL_CLUSTER_CLIENTCERTIFICATE": str(node / "tls" / "cert.pem"),
        "ORDERER_GENERAL_CLUSTER_CLIENTPRIVATEKEY": str(node / "tls" / "key.pem"),
        # Fabric's 2 minutes between attempts leave an orderer that was away without the others for as long.
        "ORDERER_GENERAL_BACKOFF_MAXDELAY": "1s",
        # BFT orderers that all start at once wait for one another this long before they begin; Fabric's is 5 s.
        "ORDERER_GENERAL_CLUSTER_REPLICATIONPULLTIMEOUT": "2s",
        "ORDERER_ADMIN_LISTENADDRESS": orderer.admin or f"{HOST}:0",
        **_tls("ORDERER_ADMIN_TLS_", node / "tls"),
        "ORDERER_ADMIN_TLS_CLIENTAUTHREQUIRED": "true",
        "ORDERER_ADMIN_TLS_CLIENTROOTCAS": f"[{node / 'tls' / 'ca.pem'}]",
        "ORDERER_OPERATIONS_LISTENADDRESS": f"{HOST}:0",
        "ORDERER_FILELEDGER_LOCATION": str(node / "data"),
        "ORDERER_CONSENSUS_WALDIR": str(node / "data" / "wal"),
        "ORDERER_CONSENSUS_SNAPDIR": str(node / "data" / "snapshots"),
    }


def client_environment(peer: Peer, organisation: Organisation, identity: Identity) -> dict[str, str]:
    """Settings of the command ``peer`` that speaks to a peer as somebody."""
    environment = {
        "CORE_PEER_ADDRESS": peer.address,
        "CORE_PEER_LOCALMSPID": identity.organisation,
        "CORE_PEER_MSPCONFIGPATH": str(identity.msp),
        "CORE_PEER_TLS_ENABLED": "true",
        "CORE_PEER_TLS_ROOTCERT_FILE": str(organisation.tls_ca),
        # What these commands say on success is their result, not their log.
        "FABRIC_LOGGING_SPEC": "error",
    }
    if peer.tls_name:
        environment["CORE_PEER_TLS_SERVERHOSTOVERRIDE"] = peer.tls_name
    if identity.tls_certificate and identity.tls_key:
        environment |= {
            "CORE_PEER_TLS_CLIENTAUTHREQUIRED": "true",
            "CORE_PEER_TLS_CLIENTCERT_FILE": str(identity.tls_certificate),
            "CORE_PEER_TLS_CLIENTKEY_FILE": str(identity.tls_key),
        }
    return environment


def _tls(prefix: str, folder: Path, suffix: str = "") -> dict[str, str]:
    names = ("CERT", "KEY") if suffix else ("CERTIFICATE", "PRIVATEKEY")
    files = {
        f"{prefix}{name}{suffix}": str(folder / file) for name, file in zip(names, ("cert.pem", "key.pem"), strict=True)
    }
    return {f"{prefix}ENABLED": "true", **files}
