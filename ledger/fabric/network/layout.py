"""What the network for trying consists of, and where it stands in its folder. Pure: opens nothing.

    network.toml                           the connection profile
    genesis.block  configtx.yaml           the channel's first block, and what it was made of
    builder/bin/                           the external builder for contracts as a service
    packages/                              of contracts, and their private data collections
    organisations/NAME/ca  tls-ca          the authorities
    organisations/NAME/msp                 what others know of it
    organisations/NAME/identities/WHO/     msp and tls of admin and clients
    organisations/NAME/contracts/          TLS of the servers of its contracts
    organisations/NAME/peer.toml           configuration of its ingestion peer, where it meters
    nodes/NODE/msp  tls  data  log  pid    a peer or an orderer
    nodes/contracts-NAME/log  pid          the server of an organisation's contracts

Rules
- Four organisations; three have the role ``metering`` and endorse measurements, the aggregator does not.
- Each organisation runs its own peer, and its own orderer: no one of them can stop or order alone what the others do.
- Node names could be host names: they stand in the TLS certificates beside this machine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger.fabric.definitions import METERING, run_by
from ledger.fabric.identities import Subject
from ledger.fabric.profile import FILE, Identity, Orderer, Organisation, Peer, Profile

HOST = "127.0.0.1"
CHANNEL = "aigeco"
MARK = ".aigeco-network"
"""File that says: this folder was made by us and may be purged."""

PACKAGES = "packages"
"""Folder for packages of contracts."""


@dataclass(frozen=True, slots=True)
class Party:
    """An organisation of the network for trying.

    Attributes:
        name: short, for folders and hosts.
        roles: what it may do.
        clients: its clients, besides the admin.
    """

    name: str
    roles: tuple[str, ...]
    clients: tuple[Subject, ...]

    @property
    def id(self) -> str:
        """MSP id."""
        return f"{self.name.capitalize()}MSP"

    @property
    def contracts(self) -> tuple[str, ...]:
        """The contracts it may run."""
        return run_by(self.roles)


def _client(*roles: str) -> tuple[Subject, ...]:
    return tuple(Subject(role, "client", {"aigeco.role": role}) for role in roles)


PARTIES = (
    Party(
        "community",
        ("manager", METERING),
        _client("operator", "registrar", "installer", "ingestion", "settler", "eraser", "member"),
    ),
    Party("distributor", ("distributor", METERING), _client("operator", "registrar", "ingestion", "settler", "member")),
    Party(
        "auditor",
        ("auditor", METERING),
        # Who certifies reads registers: it has both roles in one certificate.
        (
            *_client("operator", "ingestion", "auditor"),
            Subject("issuer", "client", {"aigeco.role": "issuer auditor"}),
        ),
    ),
    Party("aggregator", ("aggregator",), _client("operator", "aggregator", "member")),
)


def peer_name(party: Party) -> str:
    """Name of its peer."""
    return f"peer-{party.name}"


def contracts_name(party: Party) -> str:
    """Name of the server of its contracts."""
    return f"contracts-{party.name}"


def orderer_name(party: Party) -> str:
    """Name of its orderer."""
    return f"orderer-{party.name}"


def ordering(small: bool) -> tuple[Party, ...]:
    """Who runs orderers: all four (BFT stands one that lies or fails), or the first alone (Raft)."""
    return PARTIES[:1] if small else PARTIES


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder.

    Attributes:
        folder: absolute.
    """

    folder: Path

    @property
    def profile(self) -> Path:
        """The connection profile."""
        return self.folder / FILE

    @property
    def genesis(self) -> Path:
        """The channel's first block."""
        return self.folder / "genesis.block"

    @property
    def builder(self) -> Path:
        """The external builder."""
        return self.folder / "builder"

    @property
    def tls_roots(self) -> Path:
        """Roots of all organisations' TLS certificates, for a peer before it has joined the channel."""
        return self.folder / "organisations" / "tls-ca.pem"

    def organisation(self, party: Party) -> Path:
        """Folder of an organisation."""
        return self.folder / "organisations" / party.name

    def identity(self, party: Party, name: str) -> Path:
        """Folder of an admin or a client."""
        return self.organisation(party) / "identities" / name

    def node(self, name: str) -> Path:
        """Folder of a peer or an orderer."""
        return self.folder / "nodes" / name


def subjects(party: Party) -> tuple[Subject, ...]:
    """Everybody who acts for an organisation; ``receipt`` signs receipts, and is named as the gateways check it."""
    admin = Subject("admin", "admin", {"aigeco.role": "operator"})
    receipt = Subject(f"org-{party.id}", "client", {"aigeco.role": "receipt"})
    return admin, *party.clients, receipt


def identity_name(subject: Subject) -> str:
    """How an identity is called in the profile."""
    return "receipt" if subject.attributes.get("aigeco.role") == "receipt" else subject.name


def count_ports(small: bool) -> int:
    """How many free ports a network takes."""
    return len(PARTIES) + 2 * len(ordering(small)) + sum(len(party.contracts) for party in PARTIES)


def profile_of(layout: Layout, small: bool, channel: str, ports: Iterator[int]) -> Profile:
    """The profile of a network with these ports."""

    def address() -> str:
        return f"{HOST}:{next(ports)}"

    orderers = tuple(Orderer(orderer_name(party), party.id, address(), admin=address()) for party in ordering(small))
    peers = tuple(Peer(peer_name(party), party.id, address()) for party in PARTIES)
    organisations = tuple(
        Organisation(
            party.id,
            tls_ca=layout.organisation(party) / "tls-ca" / "cert.pem",
            ca=layout.organisation(party) / "ca" / "cert.pem",
            roles=party.roles,
            contracts={name: address() for name in party.contracts},
            contract_tls=layout.organisation(party) / "contracts",
        )
        for party in PARTIES
    )
    identities = tuple(
        profile_identity(layout, party, identity_name(subject)) for party in PARTIES for subject in subjects(party)
    )
    consensus = "etcdraft" if small else "BFT"
    return Profile(layout.profile, channel, consensus, organisations, peers, orderers, identities)


def profile_identity(layout: Layout, party: Party, name: str) -> Identity:
    """An identity's entry in the profile."""
    folder = layout.identity(party, name)
    return Identity(
        name,
        party.id,
        certificate=folder / "msp" / "signcerts" / "cert.pem",
        key=f"file:{(folder / 'msp' / 'keystore' / 'key.pem').relative_to(layout.folder)}",
        tls_certificate=folder / "tls" / "cert.pem",
        tls_key=folder / "tls" / "key.pem",
        msp=folder / "msp",
    )


def party_of(organisation: str) -> Party:
    """The party with this MSP id; KeyError when there is none."""
    found: Mapping[str, Party] = {party.id: party for party in PARTIES}
    return found[organisation]
