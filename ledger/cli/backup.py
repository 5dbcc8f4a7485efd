"""``aigeco-peer backup``: a copy of the ledger, while the peer runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ledger.cli import where
from ledger.cli.exits import Exit, Refused


@click.command("backup", short_help="Copy the ledger, also while the peer runs.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@where.option
def command(file: Path, as_json: bool, config_path: Path | None) -> int:
    """Copy the ledger to FILE, which must not be there; the peer may run. The copy's whole chain is recomputed.

    The receipt key is no part of it: keep a copy of that elsewhere.
    """
    from ledger import config as configuration
    from ledger.backup import copy

    config = configuration.load(where.find(config_path))
    try:
        copied = copy(config.file, file, config.organisation)
    except FileExistsError as error:
        raise Refused(str(error), Exit.USAGE, "another name: a backup replaces nothing") from None
    if as_json:
        print(json.dumps({"file": str(file), **asdict(copied)}, indent=2))
    else:
        print(f"{file}: the ledger of {config.organisation} up to block {copied.block}, call {copied.call}")
    return Exit.OK
