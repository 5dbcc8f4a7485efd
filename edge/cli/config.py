"""``aigeco config``: the configuration, checked whole: the file itself, then what it counts on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import where
from edge.cli.exits import Exit
from edge.cli.table import some

if TYPE_CHECKING:
    from drivers.table import Problem
    from edge.load import Load


@click.group("config", short_help="Check the configuration.")
def command() -> None:
    """The configuration: docs/example.toml names every setting."""


@command.command("check", short_help="Check the configuration whole.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@where.option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(file: Path | None, config_path: Path | None, as_json: bool) -> int:
    """Check the configuration FILE whole: every key, key file and certificate, port, and the load of each line.

    All problems are printed at once. A warning is what may be right by the time it is needed, such as an adapter that
    is not plugged in; it does not keep the gateway from starting. Ends with 3 when the file is wrong, with 5 when the
    key or its certificate cannot be used.
    """
    from edge import config, environment, identity, load

    path = where.find(file or config_path)
    try:
        found = config.load(path)
    except config.ConfigError as error:
        return _tell(path, error.problems, (), (), as_json, Exit.CONFIG)
    who, wrong, warnings = identity.load_identity(found)
    warnings += environment.check_environment(found)
    warnings += load.check_load(found, who.key.rate_per_s if who else None)
    return _tell(path, wrong, warnings, load.plan_load(found), as_json, Exit.KEY if wrong else Exit.OK)


def _tell(
    path: Path,
    problems: Sequence[Problem],
    warnings: Sequence[Problem],
    loads: Sequence[Load],
    as_json: bool,
    code: Exit,
) -> int:
    if as_json:
        shape = {
            "ok": not problems,
            "problems": [_entry(problem) for problem in problems],
            "warnings": [_entry(warning) for warning in warnings],
            "load": [{"bus": each.bus, "share": round(each.share, 4), "words": each.words} for each in loads],
        }
        print(json.dumps(shape))
        return code
    for kind, several in (("error", problems), ("warning", warnings)):
        for problem in several:
            print(f"{kind}: {problem}")
            if problem.advice:
                print(f"  try: {problem.advice}")
    for each in loads:
        name = "" if each.bus in each.words else f"{each.bus}: "
        print(f"{name}the plan {each.words} ({each.share * 100:.1f} % busy)")
    print(f"{path}: {some(len(problems), 'error') if problems else 'ok'}{_and(warnings)}")
    return code


def _entry(problem: Problem) -> dict[str, str]:
    return {"place": problem.place, "value": problem.value, "words": problem.words, "advice": problem.advice}


def _and(warnings: Sequence[Problem]) -> str:
    return f", {some(len(warnings), 'warning')}" if warnings else ""
