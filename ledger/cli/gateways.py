"""``aigeco-peer gateways``: whose batches a ledger takes.

Which authorities may issue certificates of gateways, ``peer.toml`` says for the embedded ledger; on a network the
registry does (``gateways trust``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import calling, where
from ledger.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from ledger.calling import Contracts
    from ledger.cli.calling import Place
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
    help="PEM file of the one authority, of those known here, that may issue its certificates.",
)
@calling.options
def add(gateway: str | None, certificate: Path | None, root: Path | None, place: Place) -> int:
    """Register GATEWAY, or the gateway that a certificate is of. Registering again replaces the entry."""
    with calling.contracts(place) as contracts:
        entry = _entry(place, contracts, gateway, certificate, root)
        pins = {"root": entry.root, "certificate": entry.certificate}
        given = {name: pin.hex() for name, pin in pins.items() if pin}
        arguments = {"gateway": entry.gateway, "owner": contracts.organisation, **given}
        contracts.call("registry", "RegisterGateway", arguments)
    print(f"gateway {entry.gateway} is registered")
    return Exit.OK


@command.command("revoke", short_help="Take nothing more from a gateway.")
@click.argument("gateway")
@calling.options
def revoke(gateway: str, place: Place) -> int:
    """Take nothing more from GATEWAY. What is committed stays committed."""
    with calling.contracts(place) as contracts:
        if gateway not in [entry.gateway for entry in _registered(place, contracts)]:
            raise Refused(f"gateway {gateway} is not registered", Exit.USAGE, "aigeco-peer gateways list")
        contracts.call("registry", "RevokeGateway", {"gateway": gateway, "why": _WHY})
    print(f"gateway {gateway} is revoked")
    return Exit.OK


@command.command("trust", short_help="Let an authority issue gateways' certificates.")
@click.argument("root", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@calling.options
def trust(root: Path, place: Place) -> int:
    """Let the authorities in the PEM file ROOT issue gateways' certificates.

    On the embedded ledger they have to be in gateways.roots, which a peer makes the registry's when it starts.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from signer.trust import Untrusted, load_pem

    try:
        certificates = load_pem(root)
    except Untrusted as error:
        raise Refused(str(error), Exit.USAGE) from None
    if calling.embedded(place):
        known, there = _configured(place)
        if not set(certificates) <= set(known):
            raise Refused(f"{root} is none of the configured roots", Exit.USAGE, there)
    with calling.contracts(place) as contracts:
        for certificate in certificates:
            given = {"certificate": certificate.public_bytes(Encoding.DER).hex(), "state": "active"}
            contracts.call("registry", "SetAuthority", given)
            print(f"{certificate.subject.rfc4514_string()} may issue gateways' certificates")
    return Exit.OK


@command.command("list", short_help="List the registered gateways.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@calling.options
def show(as_json: bool, place: Place) -> int:
    """List the registered gateways."""
    with calling.contracts(place) as contracts:
        rows: list[dict[str, Any]] = [
            {
                "gateway": entry.gateway,
                "state": "revoked" if entry.revoked else "active",
                "certificate": entry.certificate.hex() if entry.certificate else None,
                "root": entry.root.hex() if entry.root else None,
            }
            for entry in _registered(place, contracts)
        ]
    if as_json:
        print(json.dumps({"gateways": rows}, indent=2))
    else:
        from ledger.cli.table import table

        table("Gateways", ("gateway", "state", "certificate", "root"), rows)
    return Exit.OK


def _entry(
    place: Place, contracts: Contracts, gateway: str | None, certificate: Path | None, root: Path | None
) -> Gateway:
    """The registry's entry, checked against the roots that are known."""
    from cryptography.hazmat.primitives import hashes

    from ledger.rules.measurements import Gateway
    from signer.trust import Untrusted, load_pem
    from uplink import topics

    roots, there = _roots(place, contracts) if certificate or root else ((), "")
    root_pin: bytes | None = None
    certificate_pin: bytes | None = None
    if root:
        try:
            root_pin = load_pem(root)[0].fingerprint(hashes.SHA256())
        except Untrusted as error:
            raise Refused(f"--root: {error}", Exit.USAGE) from None
        if root_pin not in [known.fingerprint(hashes.SHA256()) for known in roots]:
            raise Refused(f"{root} is none of the configured roots", Exit.USAGE, there)
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


def _roots(place: Place, contracts: Contracts) -> tuple[tuple[Any, ...], str]:
    """The authorities that issue gateways' certificates, and where it is said who they are."""
    from cryptography import x509

    from ledger.calling import registered

    if not calling.embedded(place):
        active = [entry for entry in registered(contracts, "authority") if entry["state"] == "active"]
        ders = [bytes.fromhex(entry["certificate"]) for entry in active]
        return tuple(x509.load_der_x509_certificate(der) for der in ders), "aigeco-peer gateways trust ROOT"
    return _configured(place)


def _configured(place: Place) -> tuple[tuple[Any, ...], str]:
    from ledger import config as configuration

    config = configuration.load(where.find(place.config))
    problems: list[configuration.Problem] = []
    roots = configuration.load_roots(config, problems)
    if problems:
        raise configuration.ConfigError(config.path, problems)
    return roots, f"gateways.roots in {config.path}"


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


def _registered(place: Place, contracts: Contracts) -> list[Gateway]:
    """Every gateway of the registry, by id; of the embedded ledger with the pins that were renewed."""
    from ledger import config as configuration
    from ledger.calling import registered
    from ledger.embedded import LedgerFile
    from ledger.rules import batches

    if not calling.embedded(place):
        return [batches.gateway_of(entry, None) for entry in registered(contracts, "gateway")]
    config = configuration.load(where.find(place.config))
    file = LedgerFile(config.file, config.organisation, read_only=True)
    try:
        return file.gateways()
    finally:
        file.close()
