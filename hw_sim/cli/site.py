"""``aigeco-sim site``: a whole community from a file."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("site", short_help="Run all homes, lines and devices of a site file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Check the file and open nothing.")
@click.option("--plain", is_flag=True, help="Plain lines, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(file: Path, check: bool, plain: bool, as_json: bool) -> None:
    """Run the site that FILE (TOML) describes, until Ctrl-C.

    docs/simulator.md describes the file.
    """
    from hw_sim.sitefile import load

    site = load(file)
    if check:
        devices = sum(len(line.devices) for line in site.lines)
        counts = {
            "homes": len(site.homes), "lines": len(site.lines), "devices": devices, "faults": len(site.faults)
        }  # fmt: skip
        words = ", ".join(f"{number} {kind}" for kind, number in counts.items())
        print(json.dumps({"event": "checked", "file": str(file), **counts}) if as_json else f"{file}: {words}")
        return
    from hw_sim.cli.serve import serve

    serve(site, plain, as_json)
