"""``aigeco-peer gateways``: whose batches this ledger takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import where
from ledger.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from ledger.config import PeerConfig
    from ledger.rules.measurements import Gateway

_WHY = "the operator has revoked it"


@click.group("gateways", short_help="Register gateways and list them.")
def command() -> None:
    """Register the gateways whose batches this organisation takes, and list them."""


@command.command("add", short_help="Register a gateway.")
@click.argument("gateway", required=False)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM file of the gateway's certificate; its streams must begin with this one.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM file of the one authority, of those configured, that may issue its certificates.",
)
@where.option
def add(gateway: str | None, certificate: Path | None, root: Path | None, config_path: Path | None) -> int:
    """Register GATEWAY, or the gateway that a certificate is of. Registering again replaces the entry."""
    from ledger import config as configuration
    from ledger.cli.calling import commit

    config = configuration.load(where.find(config_path))
    entry = _entry(config, gateway, certificate, root)
    pins = {"root": entry.root, "certificate": entry.certificate}
    given = {name: pin.hex() for name, pin in pins.items() if pin}
    commit(config, "registry", "RegisterGateway", {"gateway": entry.gateway, "owner": config.organisation, **given})
    print(f"gateway {entry.gateway} is registered")
    return Exit.OK


@command.command("revoke", short_help="Take nothing more from a gateway.")
@click.argument("gateway")
@where.option
def revoke(gateway: str, config_path: Path | None) -> int:
    """Take nothing more from GATEWAY. What is committed stays committed."""
    from ledger import config as configuration
    from ledger.cli.calling import commit

    config = configuration.load(where.find(config_path))
    if gateway not in [entry.gateway for entry in _registered(config)]:
        raise Refused(f"gateway {gateway} is not registered", Exit.USAGE, "aigeco-peer gateways list")
    commit(config, "registry", "RevokeGateway", {"gateway": gateway, "why": _WHY})
    print(f"gateway {gateway} is revoked")
    return Exit.OK


@command.command("list", short_help="List the registered gateways.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@where.option
def show(as_json: bool, config_path: Path | None) -> int:
    """List the registered gateways."""
    from ledger import config as configuration
    from ledger.cli.table import table

    rows: list[dict[str, Any]] = [
        {
            "gateway": entry.gateway,
            "state": "revoked" if entry.revoked else "active",
            "certificate": entry.certificate.hex() if entry.certificate else None,
            "root": entry.root.hex() if entry.root else None,
        }
        for entry in _registered(configuration.load(where.find(config_path)))
    ]
    if as_json:
        print(json.dumps({"gateways": rows}, indent=2))
    else:
        table("Gateways", ("gateway", "state", "certificate", "root"), rows)
    return Exit.OK


def _entry(config: PeerConfig, gateway: str | None, certificate: Path | None, root: Path | None) -> Gateway:
    """The registry's entry, checked against the roots that the peer is configured with."""
    from cryptography.hazmat.primitives import hashes

    from ledger import config as configuration
    from ledger.rules.measurements import Gateway
    from signer.trust import Untrusted, load_pem
    from uplink import topics

    problems: list[configuration.Problem] = []
    roots = configuration.load_roots(config, problems)
    if problems:
        raise configuration.ConfigError(config.path, problems)
    root_pin: bytes | None = None
    certificate_pin: bytes | None = None
    if root:
        try:
            root_pin = load_pem(root)[0].fingerprint(hashes.SHA256())
        except Untrusted as error:
            raise Refused(f"--root: {error}", Exit.USAGE) from None
        if root_pin not in [known.fingerprint(hashes.SHA256()) for known in roots]:
            raise Refused(f"{root} is none of the configured roots", Exit.USAGE, f"gateways.roots in {config.path}")
    if certificate:
        said, certificate_pin = _certificate(certificate, roots)
        if gateway not in (None, said):
            raise Refused(f"{certificate} is the certificate of gateway {said}, not of {gateway}", Exit.USAGE)
        gateway = said
    if gateway is None:
        raise Refused("neither a gateway nor a certificate is given", Exit.USAGE, "aigeco-peer gateways add --help")
    if not topics.valid_name(gateway):
        words = f"{gateway!r} is no name of a gateway"
        raise Refused(words, Exit.USAGE, "1 to 40 letters, digits and hyphens, without the gw- of the certificate")
    return Gateway(gateway, root_pin, certificate_pin)


def _certificate(path: Path, roots: tuple[Any, ...]) -> tuple[str, bytes]:
    """Gateway id and SHA-256 of a gateway's certificate that leads to one of the roots."""
    import time
    from hashlib import sha256

    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    from signer.trust import Trust, Untrusted, check_gateway, load_pem

    try:
        chain = load_pem(path)
        names = [str(name.value) for name in chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        gateway = names[0].removeprefix("gw-") if names and names[0].startswith("gw-") else ""
        if not gateway:
            raise Untrusted(f"the CN of a gateway's certificate begins with gw-, this one has {names}")
        certificates = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
        check_gateway(Trust(gateways=roots), certificates, gateway, int(time.time() * 1000))
    except Untrusted as error:
        raise Refused(f"--certificate {path}: {error}", Exit.USAGE) from None
    return gateway, sha256(certificates[0]).digest()


def _registered(config: PeerConfig) -> list[Gateway]:
    from ledger.embedded import LedgerFile

    file = LedgerFile(config.ledger, config.organisation, read_only=True)
    try:
        return file.gateways()
    finally:
        file.close()
