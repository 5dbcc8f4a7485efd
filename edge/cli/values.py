"""Decoded values as ``aigeco decode`` and ``aigeco read`` show them, as JSON and as a table.

Rules
- The JSON shape is fixed: obis, value (plain decimal text, null when the device says "not available"), unit, flags, and
  ``point`` where the device has several measuring points.
- A value that is not available is shown as such, never as a number.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers import obis
from drivers.decode import Decoded, flag_words
from edge.cli import table


def entries(decoded: Sequence[Decoded], points: Sequence[str]) -> list[dict[str, object]]:
    """One JSON object a value, in the order decoded. ``points``: the map's measuring points."""
    return [_entry(each, len(points) > 1) for each in decoded]


def _entry(decoded: Decoded, several_points: bool) -> dict[str, object]:
    point: dict[str, object] = {"point": decoded.point} if several_points else {}
    return {
        "obis": obis.unpack(decoded.key),
        "value": decoded.value.text() if decoded.value else None,
        "unit": obis.unit(decoded.key),
        "flags": flag_words(decoded),
        **point,
    }


def show(decoded: Sequence[Decoded], points: Sequence[str]) -> None:
    """Print the values as a table, one row a value."""
    numbers = table.on_the_point([table.grouped(each.value.text()) if each.value else "-" for each in decoded])
    rows = [
        (
            each.point if len(points) > 1 else "",
            name(each.key),
            number,
            "" if obis.unit(each.key) == "1" else obis.unit(each.key),
            obis.unpack(each.key),
            ", ".join(flag_words(each)),
        )
        for each, number in zip(decoded, numbers, strict=True)
    ]
    table.show(("point", "quantity", "value", "unit", "obis", "flags"), rows, right=("value",))


def name(key: int) -> str:
    """What a person calls the quantity: ``active energy import``, ``voltage L1``; the code where it has no name."""
    quantity = obis.BY_KEY.get(key)
    if quantity is None:
        return obis.unpack(key)
    words = quantity.name.replace("_", " ")
    return words if quantity.phase == "total" else f"{words} {quantity.phase}"
