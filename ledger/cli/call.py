"""``aigeco-peer call``: call a contract's function on the embedded ledger, and commit what it writes."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli import where
from ledger.cli.exits import Exit


@click.command("call", short_help="Call a contract's function and commit it.")
@click.argument("contract")
@click.argument("function")
@click.option("--arguments", default="{}", help="JSON, or @FILE with it.", metavar="JSON|@FILE")
@click.option("--secret", multiple=True, help="What is not to go into the chain of calls.", metavar="NAME=JSON|@FILE")
@where.option
def command(contract: str, function: str, arguments: str, secret: tuple[str, ...], config_path: Path | None) -> int:
    """Call FUNCTION of CONTRACT as this organisation's operator; prints its answer, JSON.

    Works while the peer runs, which then does it.
    """
    from ledger import config as configuration
    from ledger.cli import calling

    packed, secrets = calling.arguments_of(arguments), calling.secrets_of(secret)
    calling.show(calling.commit(configuration.load(where.find(config_path)), contract, function, packed, secrets))
    return Exit.OK
