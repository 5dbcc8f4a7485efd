"""``aigeco config``: the configuration, checked whole: the file itself, then what it counts on; and put into force.

Rules
- What is different is asked of the running gateway: nobody else knows what it works with.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import where
from edge.cli.exits import Exit, Refused
from edge.cli.table import fit, some

if TYPE_CHECKING:
    from drivers.table import Problem
    from edge.apply import Applied
    from edge.config import Config
    from edge.load import Load

_COLUMNS = 80


@click.group("config", short_help="Check the configuration, and put it into force.")
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
    warnings += environment.check_environment(found) + environment.check_names(found)
    warnings += load.check_load(found, who.key.rate_per_s if who else None)
    return _tell(path, wrong, warnings, load.plan_load(found), as_json, Exit.KEY if wrong else Exit.OK)


@command.command("apply", short_help="Put the configuration into force without a restart.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@where.option
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def apply_(file: Path | None, config_path: Path | None, dry_run: bool, as_json: bool) -> int:
    """Have the running gateway take the configuration FILE: meters and lines added, removed or changed.

    The file is checked whole first; then the gateway says what is different, takes it, and answers when its lines are
    what the file says. Lines and meters that are the same lose no slot. While the file has an error, or anything in it
    needs a restart, nothing of it is taken. Ends with 3 when the file is wrong, with 1 when a restart is needed.
    """
    from edge import apply, config, environment, load, visit

    path = where.find(file or config_path)
    try:
        found = config.load(path)
    except config.ConfigError as error:
        return _say_applied(path, apply.Applied(problems=error.problems), (), False, as_json)
    if not visit.running(found):
        advice = "systemctl start aigeco: it takes the configuration when it starts"
        moved = "when store.path was changed: systemctl restart aigeco"
        raise Refused(f"no gateway runs with {found.spool}; nothing was changed", Exit.STORE, advice, moved)
    warnings = environment.check_environment(found) + environment.check_names(found) + load.check_load(found, None)
    content = apply.digest(path)
    told = asked(found, content, True)
    taken = bool(told.changes) and not told.problems and not dry_run
    return _say_applied(path, asked(found, content, False) if taken else told, warnings, taken, as_json)


def asked(config: Config, content: str, only_tell: bool) -> Applied:
    """What the running gateway answers.

    Raises:
        Refused: nothing.
    """
    from edge import apply

    try:
        applied = apply.ask(config.spool, content, only_tell)
    except TimeoutError as error:
        words = f"the gateway has begun and is not finished yet: {error}"
        raise Refused(words, Exit.STORE, "aigeco status: what it does, and its alarms") from None
    if applied is None:
        older = "systemctl restart aigeco, when it is still of a version that cannot do this"
        words = "the running gateway does not answer; nothing was changed"
        raise Refused(words, Exit.STORE, "aigeco status: how it is", older)
    return applied


def _say_applied(path: Path, applied: Applied, warnings: Sequence[Problem], taken: bool, as_json: bool) -> int:
    code = Exit.OK if not applied.problems else Exit.DOES_NOT_HOLD if applied.restart else Exit.CONFIG
    in_force = taken and not applied.problems
    if as_json:
        shape = {
            "ok": not applied.problems,
            "applied": in_force,
            "restart": applied.restart,
            "changes": applied.changes,
            "problems": [_entry(problem) for problem in applied.problems],
            "warnings": [_entry(warning) for warning in warnings],
        }
        print(json.dumps(shape))
        return code
    for words in applied.changes:
        print("\n".join(textwrap.wrap(words, _COLUMNS, subsequent_indent="  ", break_long_words=False)))
    _say_problems(applied.problems, warnings)
    if applied.restart:
        words = "needs a restart; nothing was changed"
    elif applied.problems:
        words = f"{some(len(applied.problems), 'error')}; nothing was changed"
    elif not applied.changes:
        words = "nothing is different"
    else:
        words = f"in force, {some(len(applied.changes), 'change')}" if in_force else "would be taken as it is"
    print(f"{path}: {words}{_and(warnings)}")
    return code


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
    _say_problems(problems, warnings)
    for each in loads:
        name = "" if each.bus in each.words else f"{each.bus}: "
        print(fit(f"{name}the plan {each.words} ({each.share * 100:.1f} % busy)", sys.stdout))
    print(f"{path}: {some(len(problems), 'error') if problems else 'ok'}{_and(warnings)}")
    return code


def _say_problems(problems: Sequence[Problem], warnings: Sequence[Problem]) -> None:
    for kind, several in (("error", problems), ("warning", warnings)):
        for problem in several:
            print(fit(f"{kind}: {problem}", sys.stdout))
            if problem.advice:
                print(fit(f"  try: {problem.advice}", sys.stdout))


def _entry(problem: Problem) -> dict[str, str]:
    return {"place": problem.place, "value": problem.value, "words": problem.words, "advice": problem.advice}


def _and(warnings: Sequence[Problem]) -> str:
    return f", {some(len(warnings), 'warning')}" if warnings else ""
