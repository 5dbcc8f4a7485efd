"""The order to take the configuration file anew: left by a command, answered by the running agent's main thread.

Changes nothing: what is different is :mod:`edge.changes`, what is done about it :mod:`edge.agent`.

Rules
- The same folder as a technician's orders (:mod:`edge.requests`), another suffix: the chain's writer does not see it.
- An order names the file's content by its SHA-256: what the command has checked is what is taken, or nothing.
- It is taken out of the folder before anything is done; asked twice, the second time changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.table import Problem
from edge import requests
from edge.changes import compare
from edge.config import Config, ConfigError, digest_of

_SUFFIX = ".apply"
_VERSION = 1
_MOST_BYTES = 4096
ANSWER_S = 30.0
"""The agent looks once a second; then the reads in progress on the lines that change have to end."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Take the configuration file.

    Attributes:
        path: the order's file.
        digest: SHA-256 of the configuration's text, hexadecimal.
        only_tell: say what would change, and change nothing.
    """

    path: Path
    digest: str
    only_tell: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of it.

    Attributes:
        changes: what is different, in words.
        meters: the meters among it that are new or different.
        problems: why nothing was changed; empty when the file is in force.
        restart: whether it is a new start that is missing, and the file is in order.
    """

    changes: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    restart: bool = False


def digest(config: Path) -> str:
    """SHA-256 of a configuration file.

    Raises:
        OSError: it cannot be read.
    """
    return digest_of(config.read_bytes())


def is_another(config: Path, told: Mapping[str, Any]) -> bool:
    """Whether the file is surely not what the agent works with; ``told``: the running agent's status."""
    if not told.get("config"):
        return False
    try:
        return digest(config) != str(told["config"])
    except OSError:
        return False  # whoever reads it says so


def ask(spool: Path, content: str, only_tell: bool, timeout_s: float = ANSWER_S) -> Applied | None:
    """Have the running agent take the configuration with this digest; None: it does not answer, and nothing changes.

    Raises:
        TimeoutError: it has begun, and did not say in time how it went.
        OSError: the order cannot be left.
    """
    order = {"version": _VERSION, "kind": "apply", "digest": content, "only_tell": only_tell}
    document = requests.reply_to(requests.post(spool, order, _SUFFIX), timeout_s)
    return None if document is None else _read(document)


def take(spool: Path) -> list[Apply]:
    """The orders that wait, oldest first; they are no longer in the folder. One that cannot be read is passed over."""
    found = []
    for path in sorted(requests.folder(spool).glob(f"*{_SUFFIX}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = path.read_bytes()[:_MOST_BYTES]
            path.unlink()
            document = json.loads(data)
            if document["version"] == _VERSION:
                found.append(Apply(path, str(document["digest"]), bool(document["only_tell"])))
    return found


def decide(old: Config, load: Callable[[Path], Config], order: Apply | None = None) -> tuple[Config | None, Applied]:
    """What the file of the configuration in force says now, and None when it is not to be taken."""
    path = old.path
    try:
        if order is not None and order.digest != digest(path):
            words = "is what the running gateway reads, and is not the file that was checked"
            return None, Applied(problems=(Problem("", str(path), words, f"aigeco config apply {path}"),))
        new = load(path)
    except ConfigError as error:
        return None, Applied(problems=error.problems)
    except OSError as error:
        return None, Applied(problems=(Problem("", str(path), error.strerror or str(error), "aigeco config check"),))
    different = compare(old, new)
    if different.restart:
        return None, Applied(different.words, different.meters, different.restart, restart=True)
    return new, Applied(different.words, different.meters)


def answer(spool: Path, order: Apply, applied: Applied) -> None:
    """Say what came of an order.

    Raises:
        OSError: it cannot be written.
    """
    problems = [[each.place, each.value, each.words, each.advice] for each in applied.problems]
    document = {"changes": applied.changes, "meters": applied.meters, "problems": problems, "restart": applied.restart}
    requests.reply(order.path, {"version": _VERSION, **document}, spool)


def _read(document: Any) -> Applied:
    problems = tuple(Problem(*(str(part) for part in each)) for each in document["problems"])
    changes, meters = (tuple(str(each) for each in document[key]) for key in ("changes", "meters"))
    return Applied(changes, meters, problems, bool(document["restart"]))
