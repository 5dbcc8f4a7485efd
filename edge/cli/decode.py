"""``aigeco decode``: what the registers in a dump mean, through the code path the agent uses."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.cli import completion


@click.command("decode", short_help="Show what the registers of a dump mean.")
@click.argument("model", shell_complete=completion.models)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, file: Path, as_json: bool) -> None:
    """Show what the registers in FILE mean to the meter model MODEL.

    MODEL is a name of the catalogue, such as eastron_sdm630, or the path of a map file that ends in .toml. FILE is a
    register dump in YAML: a table (input or holding) and the registers as number: word.
    """
    from drivers import dump
    from drivers.map import load
    from edge.cli import values

    meter_map = load(model)
    found = dump.decode_dump(meter_map, dump.load(file))
    # Discovery says which points a SunSpec device has; any other map knows.
    laid_out = tuple(dict.fromkeys(each.point for each in found))
    points = laid_out if meter_map.scheme == "sunspec" else meter_map.points
    if as_json:
        print(json.dumps({"model": meter_map.name, "values": values.entries(found, points)}))
        return
    print(f"{meter_map.manufacturer} {meter_map.model}")
    values.show(found, points)
