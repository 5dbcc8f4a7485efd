"""``aigeco-peer query``: call a contract's function on the embedded ledger, and write nothing."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli import where
from ledger.cli.exits import Exit


@click.command("query", short_help="Ask a contract's function.")
@click.argument("contract")
@click.argument("function")
@click.option("--arguments", default="{}", help="JSON, or @FILE with it.", metavar="JSON|@FILE")
@click.option("--secret", multiple=True, help="As for call.", metavar="NAME=JSON|@FILE")
@where.option
def command(contract: str, function: str, arguments: str, secret: tuple[str, ...], config_path: Path | None) -> int:
    """Ask FUNCTION of CONTRACT as this organisation's operator; prints its answer, JSON. Changes nothing."""
    from ledger import config as configuration
    from ledger.cli import calling
    from ledger.embedded import LedgerFile

    packed, secrets = calling.arguments_of(arguments), calling.secrets_of(secret)
    config = configuration.load(where.find(config_path))
    file = LedgerFile(config.ledger, config.organisation, read_only=True)
    try:
        calling.show(file.operator.ask(contract, function, packed, secrets))
    finally:
        file.close()
    return Exit.OK
