"""``aigeco maps``: the catalogue of meter models, and how somebody adds one.

Rules
- A map is a name of the catalogue, or the path of a file that ends in ``.toml``.
- Talks to no device; ``check`` talks to simulated ones only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import completion, table
from edge.cli.exits import Exit
from edge.cli.table import some

if TYPE_CHECKING:
    from drivers.map import MeterMap
    from edge.cli.mapcheck import Checked


@click.group("maps", short_help="List, show, check and begin maps of meter models.")
def command() -> None:
    """Maps: what the registers of a meter model mean, one file a model. docs/catalogue.md is the guide."""


@command.command("list", short_help="List the models of the catalogue.")
@click.argument("search", nargs=-1)
@click.option("--kind", type=click.Choice(["meter", "inverter", "both"]), help="Only these.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_maps(search: Sequence[str], kind: str | None, as_json: bool) -> None:
    """List the models of the catalogue; with SEARCH those that have all of its words in their names."""
    from drivers import map as maps

    words = [word.lower() for word in search]
    found = [
        one
        for one in map(maps.load, maps.names())
        if kind in (None, one.kind)
        and all(word in f"{one.name} {one.manufacturer} {one.model}".lower() for word in words)
    ]
    if as_json:
        print(json.dumps({"maps": [_listed(one) for one in found]}))
        return
    if found:
        rows = [
            (
                one.name,
                one.kind,
                str(one.phases),
                _yes(one.settlement),
                _yes(one.cross_checked),
                " ".join(_transports(one)),
                f"{one.manufacturer} {one.model}",
            )
            for one in found
        ]
        headings = ("name", "kind", "phases", "settles", "confirmed", "lines", "model")
        table.show(headings, rows, right=("phases",), under=True)
    nothing = "; fewer words find more, and aigeco maps new NAME begins a new one"
    print(f"{some(len(found), 'model')}{'' if found else nothing}")


def _listed(one: MeterMap) -> dict[str, object]:
    return {
        "name": one.name,
        "manufacturer": one.manufacturer,
        "model": one.model,
        "kind": one.kind,
        "phases": one.phases,
        "settlement": one.settlement,
        "confirmed": one.cross_checked,
        "transports": _transports(one),
    }


def _transports(one: MeterMap) -> list[str]:
    """Where sources say that it can be reached: on a serial line, over TCP."""
    return [name for name, known in (("rtu", one.serial), ("tcp", one.tcp)) if known]


def _yes(true: bool) -> str:
    return "yes" if true else "no"


@command.command("show", short_help="Show all that a map says.")
@click.argument("name", shell_complete=completion.models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show all that the map NAME says: registers, limits, preconditions, sources, and the requests that read it.

    NAME is a name of the catalogue, or the path of a map file.
    """
    from drivers.map import load
    from edge.cli import mapjson, mapshow

    meter_map = load(name)
    if as_json:
        print(json.dumps({**_listed(meter_map), **mapjson.entries(meter_map)}))
        return
    mapshow.show(meter_map)


@command.command("check", short_help="Test maps alone, without a meter.")
@click.argument("names", nargs=-1, required=True, metavar="FILE_OR_NAME...", shell_complete=completion.models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(names: Sequence[str], as_json: bool) -> int:
    """Test each map alone: its file, the requests, golden dumps, and a simulated meter that is read back.

    FILE_OR_NAME is the path of a map file that ends in .toml, or a name of the catalogue. A golden dump of a file is
    a dump beside it with the same name and .yaml; its known_readings say what the words mean. Ends with 1 when
    anything is wrong; each problem comes with its place, the value and what to try.
    """
    from edge.cli.mapcheck import check_map

    found = []
    for name in names:
        found.append(check_map(name))
        if not as_json:
            _tell(found[-1])
    if as_json:
        print(json.dumps({"ok": all(one.ok for one in found), "maps": [_checked(one) for one in found]}))
    return Exit.OK if all(one.ok for one in found) else Exit.DOES_NOT_HOLD


def _tell(one: Checked) -> None:
    wide = max(len(check.name) for check in one.checks)
    for check in one.checks:
        words = check.words or some(len(check.problems), "problem")
        print(table.fit(f"{check.state:<7}  {check.name:<{wide}}  {words}", sys.stdout))
        for problem in check.problems:
            print(table.fit(f"  {problem}", sys.stdout))
            if problem.advice:
                print(table.fit(f"    try: {problem.advice}", sys.stdout))
    state = "ok" if one.ok else f"{some(sum(len(check.problems) for check in one.checks), 'problem')}"
    print(f"{one.name}: {state}{f', {one.skipped} skipped' if one.skipped else ''}")


def _checked(one: Checked) -> dict[str, object]:
    checks = [
        {
            "check": check.name,
            "state": check.state,
            "words": check.words,
            "problems": [
                {"place": each.place, "value": each.value, "words": each.words, "advice": each.advice}
                for each in check.problems
            ],
        }
        for check in one.checks
    ]
    return {"map": one.name, "ok": one.ok, "checks": checks}


@command.command("new", short_help="Begin a map of a new model.")
@click.argument("name")
@click.option("--from", "model", metavar="MODEL", help="Begin with a copy of this map instead.")
def new(name: str, model: str | None) -> None:
    """Write NAME.toml, a map to fill in, with every key explained. Asks nothing and overwrites nothing.

    `aigeco maps check NAME.toml` then says what is missing. With --from, a relative's map is the beginning: what its
    sources say about it is not taken over, for they say nothing about this model.
    """
    from edge.cli import mapnew

    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    mapnew.write(path, model)
    print(f"{path}: fill it in, then: aigeco maps check {path}")
