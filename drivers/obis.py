"""What a quantity is called: OBIS codes (IEC 62056-61), their packed integer keys, and their units.

Rules
- A key is ``C * 256 + D`` for codes with A=1, B=0, E=0 and C>=1 (mandatory then), else ``2**48`` plus the five
  fields, one byte each.
- A quantity of the register facts that has no OBIS code uses the manufacturer range C=128..199; those codes are listed
  here and nowhere else. They follow OBIS' own habit: +20 for L1, +40 for L2, +60 for L3.
- Never guesses: an unknown code has no quantity and no unit, only a key.
"""

from __future__ import annotations

from dataclasses import dataclass

LONG_FORM = 1 << 48  # marks a key that carries all five fields
_PHASES = (("total", 0), ("L1", 20), ("L2", 40), ("L3", 60))


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measurable quantity.

    Attributes:
        name: the name the catalogue uses, e.g. ``active_energy_import``.
        phase: ``total``, ``L1``, ``L2``, ``L3`` or ``N``.
        unit: unit of the value, e.g. ``Wh``; ``1`` for a pure number.
        code: OBIS code in short notation, e.g. ``1.8.0``.
        key: the packed code.
    """

    name: str
    phase: str
    unit: str
    code: str
    key: int


def pack(code: str) -> int:
    """Packed key of an OBIS code such as ``1.8.0`` or ``1-0:1.8.0``.

    Raises:
        ValueError: the text is no OBIS code.
    """
    media, _, rest = code.rpartition(":")
    a, b = 1, 0
    try:
        if media:
            a, b = (int(part) for part in media.split("-"))
        c, d, e = (int(part) for part in rest.split("."))
    except ValueError:
        raise ValueError(f"{code!r} is no OBIS code such as 1.8.0 or 1-0:1.8.0") from None
    if not all(0 <= field <= 255 for field in (a, b, c, d, e)):
        raise ValueError(f"{code!r}: every field of an OBIS code is 0..255")
    if (a, b, e) == (1, 0, 0) and c >= 1:
        return c * 256 + d
    return LONG_FORM + (a << 32) + (b << 24) + (c << 16) + (d << 8) + e


def unpack(key: int) -> str:
    """OBIS code of a packed key, in short notation where A=1 and B=0.

    Raises:
        ValueError: no code packs to this key.
    """
    if 256 <= key < 65536:
        return f"{key >> 8}.{key & 255}.0"
    fields = key - LONG_FORM
    if not 0 <= fields < 1 << 40:
        raise ValueError(f"{key} is no packed OBIS code")
    a, b, c, d, e = fields.to_bytes(5, "big")
    code = f"{c}.{d}.{e}" if (a, b) == (1, 0) else f"{a}-{b}:{c}.{d}.{e}"
    if pack(code) != key:
        raise ValueError(f"{key}: {code} has a short form and must use it")
    return code


def _table() -> dict[tuple[str, str], Quantity]:
    rows: list[tuple[str, str, int, int]] = [
        # name, unit, C of the total, D; the phases follow at +20, +40, +60
        ("active_power_import", "W", 1, 7),
        ("active_power_export", "W", 2, 7),
        ("reactive_power_import", "var", 3, 7),
        ("reactive_power_export", "var", 4, 7),
        ("apparent_power", "VA", 9, 7),
        ("apparent_power_export", "VA", 10, 7),
        ("current", "A", 11, 7),
        ("voltage", "V", 12, 7),
        ("power_factor", "1", 13, 7),
        ("frequency", "Hz", 14, 7),
        ("active_power", "W", 16, 7),
        ("active_energy_import", "Wh", 1, 8),
        ("active_energy_export", "Wh", 2, 8),
        ("reactive_energy_import", "varh", 3, 8),
        ("reactive_energy_export", "varh", 4, 8),
        ("reactive_energy_q1", "varh", 5, 8),
        ("reactive_energy_q2", "varh", 6, 8),
        ("reactive_energy_q3", "varh", 7, 8),
        ("reactive_energy_q4", "varh", 8, 8),
        ("apparent_energy_total", "VAh", 9, 8),
        ("active_energy_total", "Wh", 15, 8),
        ("active_energy_net", "Wh", 16, 8),
        # manufacturer range: quantities of real devices for which OBIS has no code
        ("reactive_power", "var", 128, 7),
        ("reactive_energy_total", "varh", 129, 8),
        ("reactive_power_inductive", "var", 130, 7),
        ("reactive_energy_inductive", "varh", 130, 8),
        ("reactive_power_capacitive", "var", 131, 7),
        ("reactive_energy_capacitive", "varh", 131, 8),
    ]
    table = {}
    for name, unit, first, kind in rows:
        for phase, offset in _PHASES:
            code = f"{first + offset}.{kind}.0"
            table[name, phase] = Quantity(name, phase, unit, code, pack(code))
    singles = [
        ("current", "N", "A", "91.7.0"),
        ("dc_power", "total", "W", "132.7.0"),
        ("dc_energy", "total", "Wh", "132.8.0"),
        ("dc_voltage", "total", "V", "133.7.0"),
        ("dc_current", "total", "A", "134.7.0"),
        ("state_of_charge", "total", "%", "135.7.0"),
    ]
    for name, phase, unit, code in singles:
        table[name, phase] = Quantity(name, phase, unit, code, pack(code))
    # What a generation point delivers is its export: the same code under the inverter's own name for it.
    for phase, _ in _PHASES:
        table["active_power_generation", phase] = table["active_power_export", phase]
        table["active_energy_generation", phase] = table["active_energy_export", phase]
    # Tariff registers of the two energies, long form (E = tariff).
    for tariff in range(1, 5):
        for name, c in (("active_energy_import", 1), ("active_energy_export", 2)):
            code = f"{c}.8.{tariff}"
            table[f"{name}_t{tariff}", "total"] = Quantity(f"{name}_t{tariff}", "total", "Wh", code, pack(code))
    return table


BY_NAME = _table()
"""(quantity name, phase) -> Quantity, as the catalogue's maps name them."""

BY_KEY = {quantity.key: quantity for quantity in BY_NAME.values()}
"""packed key -> Quantity."""


def unit(key: int) -> str:
    """Unit of a packed key, ``?`` for a code that is not in the table."""
    known = BY_KEY.get(key)
    return known.unit if known else "?"
