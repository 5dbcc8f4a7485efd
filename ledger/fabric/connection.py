"""From a connection profile to a client that speaks, and to the TLS files of a contract's server."""

from __future__ import annotations

from ledger.config import ConfigError, Problem
from ledger.fabric.gateway import ClientTls, Deadlines, Gateway, connect
from ledger.fabric.profile import Organisation, Profile
from ledger.fabric.shim import Tls
from ledger.fabric.stub import Identity
from signer.keys import KeyProblem, open_key


def open_gateway(profile: Profile, organisation: str, name: str, deadlines: Deadlines | None = None) -> Gateway:
    """A client that acts as the identity ``name`` of an organisation, at the organisation's first peer.

    Raises:
        ConfigError: the profile lacks it, or a file that it names cannot be used.
    """
    who, peer = profile.identity(organisation, name), profile.peers_of(organisation)[0]
    tls = ClientTls(profile.organisation(organisation).tls_ca, who.tls_key, who.tls_certificate, peer.tls_name or "")
    try:
        identity, key = Identity(organisation, who.certificate.read_bytes()), open_key(who.key, profile.folder)
        channel = connect(peer.address, tls)
        return Gateway(channel, identity, key, deadlines=deadlines, certificate_hash=tls.certificate_hash)
    except (OSError, KeyProblem, ValueError) as error:
        advice = "certificate, key and tls files of this identity"
        raise ConfigError(profile.path, [Problem(f"identity {name}", organisation, str(error), advice)]) from None


def server_tls(organisation: Organisation) -> Tls | None:
    """TLS of the servers of an organisation's contracts, which let in its own peers; None: they speak plain."""
    folder = organisation.contract_tls
    return Tls(folder / "key.pem", folder / "cert.pem", organisation.tls_ca) if folder else None
