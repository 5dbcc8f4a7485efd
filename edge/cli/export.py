"""``aigeco export``: the evidence in the store, as a folder that an auditor can verify offline."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edge.cli import where
from edge.cli.exits import Exit, Refused
from edge.cli.progress import percent
from edge.cli.table import some


@click.command("export", short_help="Write the evidence into a folder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New or empty folder.")
@where.option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(out: Path, config_path: Path | None, as_json: bool) -> None:
    """Write the gateway's evidence into DIR: statements and receipts verbatim, register maps, trust anchors, manifest.

    The gateway may go on running. aigeco verify DIR reads the folder.
    """
    from edge import config, environment
    from edge.export import export

    found = config.load(where.find(config_path))
    if out.exists() and not out.is_dir():
        raise Refused(f"{out}: is there already and is no folder", Exit.USAGE, "a new name, or an empty folder")
    if out.is_dir() and any(out.iterdir()):
        raise Refused(f"{out}: is not empty; evidence is never mixed", Exit.USAGE, "a new name, or an empty folder")
    trust, problems = environment.load_trust(found)
    written = export(found.spool, out, trust, percent("exporting"))
    for problem in problems:
        print(f"warning: {problem}\n  try: {problem.advice}", file=sys.stderr)
    if not trust.gateways:
        print("warning: no gateway root goes with it, so it is verified with --trust only", file=sys.stderr)
        print('  try: ca = "trust/gateways.pem" under [key]', file=sys.stderr)
    if as_json:
        counts = {name: getattr(written, name) for name in ("streams", "statements", "pruned", "receipts")}
        print(json.dumps({"folder": str(out), **counts}))
        return
    print(f"{out}: {some(written.statements, 'statement')}, {some(written.receipts, 'receipt')}")
    print(f"next: aigeco verify {out}")
