"""``aigeco-peer call``: call a contract's function on either ledger, and commit what it writes."""

from __future__ import annotations

import click

from ledger.cli import calling
from ledger.cli.exits import Exit


@click.command("call", short_help="Call a contract's function and commit it.")
@click.argument("contract")
@click.argument("function")
@click.option("--arguments", default="{}", help="JSON, or @FILE with it.", metavar="JSON|@FILE")
@click.option("--secret", multiple=True, help="What is not to go into the chain of calls.", metavar="NAME=JSON|@FILE")
@calling.options
def command(contract: str, function: str, arguments: str, secret: tuple[str, ...], place: calling.Place) -> int:
    """Call FUNCTION of CONTRACT; prints its answer, JSON, once it is committed.

    On the embedded ledger as this organisation's operator, also while the peer runs, which then does it; on a
    network as an identity of its profile. Broken off, the same call again first asks what became of the former one.
    """
    packed, secrets = calling.arguments_of(arguments), calling.secrets_of(secret)
    with calling.contracts(place) as contracts:
        calling.show(contracts.call(contract, function, packed, secrets))
    return Exit.OK
