"""A meter or a key more in the text of a configuration: every line that somebody wrote stays as it is. Pure.

Rules
- The new lines go to the end of their line's section, or, with a section of their own, to the end of the file.
- What comes out is read again: it must say what the text said before and what is new, nothing else. A text whose
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
    return _checked(there, wanted)


def set_keys(text: str, bus: int, meter: int, lines: Sequence[str]) -> str:
    """The text with more keys in a ``[[bus.meter]]`` that does not have them yet.

    Args:
        bus, meter: numbers of the line and of its meter, counted from 0.
        lines: the keys, one a line.

    Raises:
        NotUnderstood: where to write them cannot be found, or one is there already.
        tomllib.TOMLDecodeError: the text is no TOML.
    """
    wanted = tomllib.loads(text)
    wanted["bus"][bus]["meter"][meter].update(tomllib.loads("\n".join(lines)))
    there = text.splitlines()
    headers = _headers(there)
    buses = [number for number, name in headers if name == "bus"]
    meters = [
        (number, position)
        for position, (number, name) in enumerate(headers)
        if name == "bus.meter" and buses and bus == sum(begun < number for begun in buses) - 1
    ]
    if meter >= len(meters):
        raise NotUnderstood("its [[bus.meter]] is not found")
    position = meters[meter][1] + 1
    following = headers[position][0] if position < len(headers) else None
    end = _before(there, following)
    return _checked([*there[:end], *lines, *there[end:]], wanted)


def _checked(lines: Sequence[str], wanted: dict[str, Any]) -> str:
    """The text, if it says what is wanted."""
    found = "\n".join(lines) + "\n"
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
    """Where a ``[[bus]]`` with its meters ends."""
    headers = _headers(lines)
    begun = [number for number, name in headers if name == "bus"]
    if bus >= len(begun):
        raise NotUnderstood(f"its [[bus]] number {bus + 1} is not found")
    others = (number for number, name in headers if number > begun[bus] and not name.startswith("bus."))
    return _before(lines, next(others, None))


def _headers(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Line and name of each section's heading."""
    return [(number, found[1].replace(" ", "")) for number, line in enumerate(lines) if (found := _HEADER.match(line))]


def _before(lines: Sequence[str], following: int | None) -> int:
    """Where what comes before the next section ends; comments right before that section belong to it."""
    end = len(lines) if following is None else following
    while not lines[end - 1].strip() or (following is not None and lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end
