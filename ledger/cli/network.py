"""``aigeco-peer network``: a real Fabric network for trying, on this machine, without Docker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ledger.cli.exits import Exit, Refused
from ledger.cli.profile import network_option

_LINES = 40


@click.group("network", short_help="A real Fabric network for trying.")
def command() -> None:
    """Run a Fabric network of four organisations on this machine, from Fabric's own commands, without Docker."""


@command.command("up", short_help="Make and start it.")
@network_option
@click.option("--small", is_flag=True, help="One Raft orderer instead of four BFT orderers.")
@click.option("--channel", default="aigeco", show_default=True, help="Name of the channel.")
@click.option("--bare", is_flag=True, help="Without our contracts.")
def up(network: Path, small: bool, channel: str, bare: bool) -> int:
    """Make the network if the folder is not there, start what does not run, and put our contracts on its channel.

    A network that was stopped comes up again with its ledger.
    """
    from ledger.fabric import commands
    from ledger.fabric.network import life

    profile = life.up(commands.find(), network, small, channel, _tell, bare)
    print(f"the channel {profile.channel} is up; {profile.path} says where")
    return Exit.OK


@command.command("compose", short_help="Write a compose file.")
@network_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File; else standard output.")
@click.option("--image", default="aigeco-edge", show_default=True, help="Has aigeco-peer; for the profile contracts.")
def compose(network: Path, out: Path | None, image: str) -> int:
    """Write the network as a compose file, with Fabric's official images in the place of the processes.

    First let `network up` make the network and put the contracts on it, then take it down: the containers go on with
    the same folder, ports, identities and ledger.
    """
    from ledger.fabric.network import life

    text = life.compose(network, image)
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)
    return Exit.OK


@command.command("down", short_help="Stop it.")
@network_option
@click.option("--purge", is_flag=True, help="Remove its state as well: ledger, identities, profile.")
@click.option("--yes", is_flag=True, help="Do not ask before removing.")
def down(network: Path, purge: bool, yes: bool) -> int:
    """Stop all processes of the network; its ledger stays."""
    from ledger.fabric.network import life

    if purge and not yes:
        if not sys.stdin.isatty():
            raise Refused("--purge removes the ledger and all keys, and nobody can be asked", Exit.USAGE, "--yes")
        click.confirm(f"remove the ledger and all keys in {network}?", abort=True, err=True)
    life.down(network, _tell)
    print("stopped")
    left = life.purge(network) if purge else []
    if left:
        _tell(f"left where it is, for it is not ours: {', '.join(path.name for path in left)}")
    return Exit.OK


@command.command("status", short_help="Show what each process does.")
@network_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(network: Path, as_json: bool) -> int:
    """Show each process, where it serves, and the height of the channel it has. Ends with 1 unless all are well."""
    from ledger.fabric import commands
    from ledger.fabric.network import life

    nodes = life.status(commands.find(("peer", "osnadmin")), network)
    rows = [
        {
            "name": node.name,
            "organisation": node.organisation,
            "state": node.state,
            "address": node.address,
            "pid": node.pid,
            "height": node.height,
            "memory_kb": node.memory_kb,
        }
        for node in nodes
    ]
    if as_json:
        print(json.dumps({"network": str(network), "nodes": rows}, indent=2))
    else:
        from ledger.cli.table import table

        table(f"Network in {network}", ("name", "state", "address", "pid", "height"), rows)
    return Exit.OK if all(node.state == "up" for node in nodes) else Exit.DOES_NOT_HOLD


@command.command("logs", short_help="Show the end of the logs.")
@click.argument("name", required=False)
@network_option
@click.option("--lines", default=_LINES, show_default=True, type=click.IntRange(1), help="How many of each.")
def logs(name: str | None, network: Path, lines: int) -> int:
    """Show the last lines of the log of the process NAME, or of each."""
    from ledger.fabric.network import life

    for found in life.logs_of(network, name):
        if name is None:
            print(f"==> {found.log} <==")
        print("\n".join(found.last_lines(lines)))
    return Exit.OK


@command.command("identity", short_help="Make another client.")
@click.argument("organisation")
@click.argument("name")
@network_option
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=TEXT", help="May be repeated.")
def identity(organisation: str, name: str, network: Path, attributes: tuple[str, ...]) -> int:
    """Make the client NAME of ORGANISATION (an MSP id), with attributes that contracts check."""
    from ledger.fabric.network import life

    pairs = [attribute.partition("=") for attribute in attributes]
    for attribute, equals, _ in pairs:
        if not attribute or not equals:
            raise Refused(f"--attribute {attribute!r} is not NAME=TEXT", Exit.USAGE, "--attribute aigeco.role=member")
    made = life.issue(network, organisation, name, {attribute: text for attribute, _, text in pairs})
    print(f"{made.name} of {made.organisation}: {made.certificate}")
    return Exit.OK


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
