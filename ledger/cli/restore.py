"""``aigeco-peer restore``: a ledger from a copy of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from ledger.cli import where
from ledger.cli.exits import Exit, Refused


@click.command("restore", short_help="Put a copy of the ledger back.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@where.option
def command(file: Path, as_json: bool, config_path: Path | None) -> int:
    """Make the ledger out of FILE, a backup, where none is; its whole chain is recomputed before.

    What was committed after the backup is behind then: gateways notice by the signed head when they connect anew,
    and send again what they still have.
    """
    from ledger import config as configuration
    from ledger.backup import copy
    from ledger.lock import WriteLock

    config = configuration.load(where.find(config_path))
    with WriteLock(config.file) as lock:
        if not lock.take():
            raise Refused(f"a peer is running on {config.file}", Exit.LEDGER, "end it first")
        left = [path for end in ("-wal", "-shm") if (path := Path(f"{config.file}{end}")).exists()]
        if left:
            words = f"{left[0]}: is left of another ledger, and would be taken for a part of this one"
            raise Refused(words, Exit.USAGE, "move it away")
        try:
            copied = copy(file, config.file, config.organisation)
        except FileExistsError as error:
            raise Refused(str(error), Exit.USAGE, "move it away first: a restore replaces nothing") from None
    if as_json:
        print(json.dumps({"file": str(file), **asdict(copied)}, indent=2))
        return Exit.OK
    when = "" if copied.time_s is None else time.strftime(", %Y-%m-%dT%H:%M:%SZ", time.gmtime(copied.time_s))
    print(f"{config.file}: the ledger of {config.organisation} up to block {copied.block}{when}")
    print("Gateways that committed more since send it again when they next connect,")
    print("as far as they still have it: it is committed in new blocks, under new receipts.")
    return Exit.OK
