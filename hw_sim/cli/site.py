"""``aigeco-sim site``: a whole community from a file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("site", short_help="Run all homes, lines and devices of a site file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Check the file and open nothing.")
@click.option("--plain", is_flag=True, help="Plain lines, also on a terminal.")
def command(file: Path, check: bool, plain: bool) -> None:
    """Run the site that FILE (TOML) describes, until Ctrl-C.

    docs/simulator.md describes the file.
    """
    from hw_sim.sitefile import load

    site = load(file)
    if check:
        devices = sum(len(line.devices) for line in site.lines)
        print(f"{file}: {len(site.homes)} homes, {len(site.lines)} lines, {devices} devices, {len(site.faults)} faults")
        return
    from hw_sim.cli.serve import serve

    serve(site, plain)
