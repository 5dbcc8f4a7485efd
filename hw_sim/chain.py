"""A SunSpec device: the marker, the common model, the measuring models and the end, one behind the other.

Sources: SunSpec Device Information Model Specification 1.1; model definitions of sunspec/models.

Rules
- Registers come from the map's own models, laid out as the drivers lay them out after discovery.
- Points that the map does not use read as 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.map import MeterMap
from drivers.sunspec import layout as place

BASE = 40000
_MARKER = b"SunS"
_COMMON = 1
# Registers of the common model after its two header registers, and the texts in it: (offset, registers).
_COMMON_LENGTH = 66
_MANUFACTURER, _MODEL, _VERSION, _SERIAL = (2, 16), (18, 16), (42, 8), (50, 16)
# An inverter of a home has two strings of modules.
_GROUPS = 2
_END = b"\xff\xff\x00\x00"
# What a device measures decides its models: inverter or meter, one phase or three; integers with scale factors.
_INVERTERS = {1: 101, 3: 103}
_METERS = {1: 201, 3: 203}


def usual_models(meter_map: MeterMap, role: str, phases: int) -> tuple[int, ...]:
    """Models of an ordinary device in that role."""
    table = _INVERTERS if role == "pv" else _METERS
    known = {number for model in meter_map.models for number in model.ids}
    return tuple(number for number in (table[phases],) if number in known)


def layout(
    meter_map: MeterMap, models: Sequence[int], serial: str = "10000001", base: int = BASE
) -> tuple[MeterMap, dict[tuple[int, int], bytes]]:
    """The chain of a device with those models (the common one comes by itself).

    Args:
        meter_map: a map of scheme ``sunspec``.
        models: model numbers, in the order of the chain.
        serial: serial number.
        base: address of the marker.

    Returns:
        The map with concrete registers, and the whole chain's words by (function, address), measurements still 0.

    Raises:
        ValueError: the map does not know one of the models.
    """
    chain = bytearray(_MARKER + _header(_COMMON, _COMMON_LENGTH) + bytes(2 * _COMMON_LENGTH))
    manufacturer = meter_map.manufacturer
    if meter_map.identify and meter_map.identify.expected and meter_map.identify.address == base + 4:
        manufacturer = str(meter_map.identify.expected[0])
    texts = ((_MANUFACTURER, manufacturer), (_MODEL, meter_map.model), (_VERSION, "sim"), (_SERIAL, serial))
    for (offset, count), text in texts:
        start = len(_MARKER) + 2 * offset
        chain[start : start + 2 * count] = text.encode("ascii", "replace")[: 2 * count].ljust(2 * count, b"\0")
    placed = [(_COMMON, base + 2)]
    for number in models:
        placed.append((number, base + len(chain) // 2))
        length = _length(meter_map, number)
        chain += _header(number, length) + bytes(2 * length)
    chain += _END
    return place(meter_map, placed), {(3, base): bytes(chain)}


def _header(number: int, length: int) -> bytes:
    return number.to_bytes(2, "big") + length.to_bytes(2, "big")


def _length(meter_map: MeterMap, number: int) -> int:
    for model in meter_map.models:
        if number in model.ids:
            return model.length if model.group is None else model.group[0] - 2 + _GROUPS * model.group[1]
    known = ", ".join(str(number) for model in meter_map.models for number in model.ids)
    raise ValueError(f"{meter_map.name} knows no model {number}; it knows {known}")
