"""``aigeco-peer query``: ask a contract's function on either ledger, and write nothing."""

from __future__ import annotations

import click

from ledger.cli import calling
from ledger.cli.exits import Exit


@click.command("query", short_help="Ask a contract's function.")
@click.argument("contract")
@click.argument("function")
@click.option("--arguments", default="{}", help="JSON, or @FILE with it.", metavar="JSON|@FILE")
@click.option("--secret", multiple=True, help="As for call.", metavar="NAME=JSON|@FILE")
@calling.options
def command(contract: str, function: str, arguments: str, secret: tuple[str, ...], place: calling.Place) -> int:
    """Ask FUNCTION of CONTRACT; prints its answer, JSON. Changes nothing.

    On the embedded ledger as this organisation's operator, on a network as an identity of its profile.
    """
    packed, secrets = calling.arguments_of(arguments), calling.secrets_of(secret)
    with calling.contracts(place) as contracts:
        calling.show(contracts.ask(contract, function, packed, secrets))
    return Exit.OK
