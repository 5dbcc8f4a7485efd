"""Quantities and numbers in the words of an event. Pure."""

from __future__ import annotations

from drivers.obis import BY_KEY, unpack
from drivers.reading import exact


def named(key: int) -> str:
    """``voltage L1``, or the code of what has no name."""
    known = BY_KEY.get(key)
    if known is None:
        return unpack(key)
    return known.name.replace("_", " ") + ("" if known.phase == "total" else f" {known.phase}")


def number_text(key: int, number: int) -> str:
    """Billionths as ``230.2 V``."""
    known = BY_KEY.get(key)
    unit = f" {known.unit}" if known and known.unit != "1" else ""
    return exact(number, -9).text() + unit
