"""``aigeco-peer contract``: contracts put on a channel, step by step, by each organisation for itself."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ledger.cli.exits import Exit, Refused
from ledger.cli.profile import network_option

if TYPE_CHECKING:
    from ledger.fabric.lifecycle import Definition

_Function = TypeVar("_Function", bound=Callable[..., object])
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_organisation = click.option("--organisation", required=True, metavar="MSPID", help="For which organisation.")


@click.group("contract", short_help="Put contracts on a channel.")
def command() -> None:
    """Package, install, approve and commit contracts, with Fabric's command peer and a connection profile."""


def _definition_options(function: _Function) -> _Function:
    for option in (
        click.option("--init-required", is_flag=True, help="It has to be initialised before it is used."),
        click.option("--collections", type=_FILE, help="JSON file of its private data collections."),
        click.option(
            "--policy", default="", help="Who has to endorse, in Fabric's syntax; else the channel's majority."
        ),
        click.option("--sequence", default=1, show_default=True, type=click.IntRange(1), help="Of its definitions."),
        click.option("--version", default="1", show_default=True, help="For people."),
    ):
        function = option(function)
    return function


@command.command("package", short_help="Write a package.")
@click.argument("name")
@network_option
@_organisation
@click.option("--address", help="Where its server is, HOST:PORT; else as the profile says.")
@click.option("--plain", is_flag=True, help="The server speaks without TLS.")
@click.option("--label", help="Part of the package id; else NAME.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; else NAME-MSPID.tar.gz.")
def package(
    name: str,
    network: Path,
    organisation: str,
    address: str | None,
    plain: bool,
    label: str | None,
    out: Path | None,
) -> int:
    """Write the package of the contract NAME for an organisation, and print its id.

    The same contract at the same address always gives the same bytes, and so the same id.
    """
    from ledger.fabric import package as packages
    from ledger.fabric import profile as profiles

    known = profiles.load(network).organisation(organisation)
    address = address or known.contracts.get(name)
    if not address:
        advice = "--address HOST:PORT, or contracts in the profile"
        raise Refused(f"where the server of {name} for {organisation} is, is not known", Exit.USAGE, advice)
    tls = known.contract_tls is not None and not plain
    root = known.tls_ca.read_text() if tls else ""
    try:
        content = packages.package(label or name, packages.Server(address, root, client_certificate=tls))
    except ValueError as error:
        raise Refused(str(error), Exit.USAGE, "--label TEXT") from None
    out = out or Path(f"{name}-{organisation}.tar.gz")
    out.write_bytes(content)
    print(packages.package_id(content))
    return Exit.OK


@command.command("install", short_help="Install a package.")
@click.argument("package", type=_FILE)
@network_option
@_organisation
def install(package: Path, network: Path, organisation: str) -> int:
    """Install the file PACKAGE on the organisation's peers, and print its id. Installed again, nothing changes."""
    from ledger.fabric import commands, lifecycle
    from ledger.fabric import profile as profiles

    identifier = _package_id(package)
    lifecycle.install(commands.find(("peer",)), profiles.load(network), organisation, package)
    print(identifier)
    return Exit.OK


@command.command("approve", short_help="Approve a definition.")
@click.argument("name")
@network_option
@_organisation
@click.option("--package", type=_FILE, help="The package that this organisation installed.")
@click.option("--package-id", help="Its id instead; without both, the organisation runs no server of its own.")
@_definition_options
def approve(
    name: str, network: Path, organisation: str, package: Path | None, package_id: str | None, **options: object
) -> int:
    """Approve a definition of the contract NAME for the organisation. Approved again, nothing changes."""
    from ledger.fabric import commands, lifecycle
    from ledger.fabric import profile as profiles

    if package and package_id:
        raise Refused("--package and --package-id both say which package", Exit.USAGE, "one of them")
    identifier = _package_id(package) if package else package_id or ""
    definition = _definition(name, options)
    lifecycle.approve(commands.find(("peer",)), profiles.load(network), organisation, definition, identifier)
    print(f"{organisation} approves {name}, sequence {definition.sequence}")
    return Exit.OK


@command.command("commit", short_help="Commit a definition.")
@click.argument("name")
@network_option
@_organisation
@_definition_options
def commit(name: str, network: Path, organisation: str, **options: object) -> int:
    """Commit a definition of the contract NAME that a majority approved. Committed again, nothing changes."""
    from ledger.fabric import commands, lifecycle
    from ledger.fabric import profile as profiles

    definition = _definition(name, options)
    lifecycle.commit(commands.find(("peer",)), profiles.load(network), organisation, definition)
    print(f"{name}, sequence {definition.sequence}, is in force")
    return Exit.OK


@command.command("upgrade", short_help="Put a contract's next version in force.")
@click.argument("name")
@network_option
@_definition_options
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="MSPID=HOST:PORT",
    help="Where an organisation serves the new version; on a network for trying a free port is found.",
)
def upgrade(name: str, network: Path, addresses: tuple[str, ...], **options: object) -> int:
    """Put the next definition of the contract NAME in force, for all organisations whose admin is in the profile.

    The old version serves until the new one is committed. On a network for trying, servers of the software as it is now
    are started beside the old ones, and take their place. On another one serve the new version first (contract serve
    NAME --address); this waits for it, packages, installs, approves and commits. Without --sequence it is the next
    one, and --version its number; without --policy and --collections those of our contract.
    """
    from ledger.contracts import CONTRACTS
    from ledger.fabric import commands, lifecycle, serving
    from ledger.fabric import profile as profiles
    from ledger.fabric.definitions import run_by
    from ledger.fabric.network import life
    from ledger.fabric.network.layout import MARK

    found, profile = commands.find(("peer",)), profiles.load(network)
    if name not in CONTRACTS:
        raise Refused(f"{name} is no contract of ours", Exit.USAGE, f"one of {', '.join(CONTRACTS)}")
    acting = [each.organisation for each in profile.identities if each.name == lifecycle.ADMIN and each.msp]
    if not acting:
        raise Refused(f"{profile.path} has no admin with an MSP folder", Exit.CONFIG, "[[identities]] with msp")
    context = click.get_current_context()
    if context.get_parameter_source("sequence") is click.core.ParameterSource.DEFAULT:
        options["sequence"] = lifecycle.committed(found, profile, acting[0]).get(name, (0, ""))[0] + 1
    if context.get_parameter_source("version") is click.core.ParameterSource.DEFAULT:
        options["version"] = str(options["sequence"])
    definition = _definition(name, options)
    if (profile.folder / MARK).exists() and not addresses:
        life.upgrade(found, profile.folder, definition, lambda words: print(words, file=sys.stderr, flush=True))
    else:
        lifecycle.check_higher(found, profile, acting[0], definition)
        serving_at = _addresses(addresses)
        wanted = [each.id for each in profile.organisations if each.id in acting and name in run_by(each.roles)]
        missing = [each for each in wanted if each not in serving_at]
        if missing:
            words = f"where {', '.join(missing)} serve the new version of {name} is not said"
            raise Refused(words, Exit.USAGE, f"--address {missing[0]}=HOST:PORT")
        for address in serving_at.values():
            life.wait_for_address(address)
        with tempfile.TemporaryDirectory() as folder:
            moved = serving.moved(profile, name, serving_at)
            (made,) = serving.deployments(moved, Path(folder), names=[name])
            packages = {each: path for each, path in made.packages.items() if each in acting}
            both = lifecycle.merged(made.definition, definition)
            lifecycle.deploy(found, profile, [lifecycle.Deployment(both, packages)])
        print(f"write the new addresses into {profile.path}: contracts of each organisation")
    print(f"{name}, sequence {definition.sequence}, version {definition.version}, is in force")
    return Exit.OK


@command.command("serve", short_help="Serve an organisation's contracts.")
@click.argument("names", nargs=-1)
@network_option
@_organisation
@click.option("--address", metavar="HOST:PORT", help="Serve one contract here; else where the profile says.")
def serve(names: tuple[str, ...], network: Path, organisation: str, address: str | None) -> int:
    """Serve the contracts NAMES of an organisation, by default all that it runs, until told to stop (SIGTERM)."""
    import signal
    import threading

    from ledger.contracts import CONTRACTS
    from ledger.fabric import profile as profiles
    from ledger.fabric.definitions import run_by
    from ledger.fabric.serving import moved
    from ledger.fabric.serving import serve as serve_all

    profile = profiles.load(network)
    if address:
        if len(names) != 1:
            raise Refused("--address is of one contract", Exit.USAGE, "contract serve NAME --address HOST:PORT")
        profile = moved(profile, names[0], {organisation: address})
    known = profile.organisation(organisation)
    for name in names:
        if name not in CONTRACTS:
            raise Refused(f"{name} is no contract of ours", Exit.USAGE, f"one of {', '.join(CONTRACTS)}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serve_all(profile, known, names or run_by(known.roles), stop, lambda words: print(words, flush=True))
    return Exit.OK


@command.command("list", short_help="List packages and definitions.")
@network_option
@_organisation
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(network: Path, organisation: str, as_json: bool) -> int:
    """List what is installed on the organisation's peer, and which definitions are in force."""
    from ledger.fabric import commands, lifecycle
    from ledger.fabric import profile as profiles

    found, profile = commands.find(("peer",)), profiles.load(network)
    rows = [
        {"contract": name, "sequence": sequence, "version": version}
        for name, (sequence, version) in lifecycle.committed(found, profile, organisation).items()
    ]
    packages = lifecycle.installed(found, profile, organisation)
    if as_json:
        print(json.dumps({"organisation": organisation, "contracts": rows, "packages": packages}, indent=2))
    else:
        from ledger.cli.table import table

        table(f"Contracts on {profile.channel}", ("contract", "sequence", "version"), rows)
        table(
            f"Packages of {organisation}",
            ("label", "digest"),
            [dict(zip(("label", "digest"), each.rsplit(":", 1), strict=True)) for each in packages],
        )
    return Exit.OK


def _addresses(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for each in given:
        organisation, equals, address = each.partition("=")
        if not equals or ":" not in address:
            raise Refused(
                f"--address {each}: an organisation and an address are needed", Exit.USAGE, "Org1MSP=host:7052"
            )
        found[organisation] = address
    return found


def _definition(name: str, options: dict[str, object]) -> Definition:
    from ledger.fabric.lifecycle import Definition

    return Definition(name, **options)  # type: ignore[arg-type]


def _package_id(path: Path) -> str:
    from ledger.fabric.package import package_id

    try:
        return package_id(path.read_bytes())
    except ValueError as error:
        raise Refused(f"{path} {error}", Exit.USAGE, "aigeco-peer contract package") from None
