"""A meter more in the text of a configuration: every line that somebody wrote stays as it is. Pure.

Rules
- The new lines go to the end of their line's section, or, with a section of their own, to the end of the file.
- What comes out is read again: it must say what the text said before and the new meter, nothing else. A text whose
  sections are written in a way that is not understood here is refused, and stays.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Sequence
from typing import Any

_HEADER = re.compile(r"\s*\[{1,2}\s*([A-Za-z0-9_.\"' -]+?)\s*\]{1,2}\s*(#.*)?$")


class NotUnderstood(Exception):
    """The text's sections cannot be found. Whose move: whoever writes the configuration by hand."""


def add_meter(text: str, meter: Sequence[str], bus: int | None, new_bus: Sequence[str] = ()) -> str:
    """The text with one meter more.

    Args:
        meter: the keys of its ``[[bus.meter]]``, one a line.
        bus: number of the ``[[bus]]`` that it hangs on, counted from 0; None = on a new one.
        new_bus: the keys of the new ``[[bus]]``.

    Raises:
        NotUnderstood: where to write it cannot be found.
        tomllib.TOMLDecodeError: the text is no TOML.
    """
    before = tomllib.loads(text)
    wanted = _wanted(before, meter, bus, new_bus)
    section = ["[[bus.meter]]", *meter]
    lines = text.splitlines()
    if bus is None:
        there = [*lines, *([""] if lines and lines[-1].strip() else []), "[[bus]]", *new_bus, "", *section]
    else:
        end = _end(lines, bus)
        there = [*lines[:end], "", *section, *lines[end:]]
    found = "\n".join(there) + "\n"
    try:
        after = tomllib.loads(found)
    except tomllib.TOMLDecodeError:
        after = {}
    if after != wanted:
        raise NotUnderstood("its sections are not written one below the other")
    return found


def _wanted(before: dict[str, Any], meter: Sequence[str], bus: int | None, new_bus: Sequence[str]) -> dict[str, Any]:
    """What the text must say afterwards."""
    wanted = copy.deepcopy(before)
    said = tomllib.loads("\n".join(meter))
    buses = wanted.setdefault("bus", [])
    if not isinstance(buses, list):
        raise NotUnderstood("bus is no list of sections")
    if bus is None:
        buses.append({**tomllib.loads("\n".join(new_bus)), "meter": [said]})
    else:
        buses[bus].setdefault("meter", []).append(said)
    return wanted


def _end(lines: Sequence[str], bus: int) -> int:
    """Where a ``[[bus]]`` with its meters ends; comments right before the next section belong to that one."""
    headers = [
        (number, found[1].replace(" ", "")) for number, line in enumerate(lines) if (found := _HEADER.match(line))
    ]
    begun = [number for number, name in headers if name == "bus"]
    if bus >= len(begun):
        raise NotUnderstood(f"its [[bus]] number {bus + 1} is not found")
    others = (number for number, name in headers if number > begun[bus] and not name.startswith("bus."))
    following = next(others, None)
    end = len(lines) if following is None else following
    while not lines[end - 1].strip() or (following is not None and lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end
