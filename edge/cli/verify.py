"""``aigeco verify``: the offline verifier. Needs no network, no gateway and no configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edge.cli.exits import Exit


@click.command("verify", short_help="Prove exported evidence, offline.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), metavar="DIR2", help="Trust anchors from elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, trust: Path | None, as_json: bool) -> int:
    """Check exported evidence: every signature, every link, every slot, every receipt.

    DIR is what aigeco export wrote. Without --trust the evidence is judged by the anchors it brings itself, which
    proves that it is whole, not whose it is. Ends with 0 only if all holds.
    """
    ...
