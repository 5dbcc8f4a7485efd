"""Golden dumps: register words whose meaning is known, compared with what a map makes of them. Pure.

Never corrects anything: a value that differs is a problem, whoever is right.

Rules
- ``known_readings`` of a dump are a quantity, a phase (total where it is left out), a value as exact decimal text or
  null for "not available", and where needed a point, flags, and a tolerance for what was read off a display.
- A dump may say more than is known about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from drivers.decode import Decoded, flag_words
from drivers.dump import Dump, DumpError, decode_dump
from drivers.map import MeterMap
from drivers.mapproof import SKIPPED, Check, check, some
from drivers.obis import BY_NAME, unpack
from drivers.table import Problem

NAME = "golden dump"
Reading = Mapping[str, object]


def check_golden(meter_map: MeterMap, dumps: Sequence[tuple[str, Dump]], nothing: str) -> Check:
    """Whether dumps decode to the readings they are known to mean.

    Args:
        meter_map: the map.
        dumps: (file, dump).
        nothing: what to say when there is none.
    """
    if not dumps:
        return Check(NAME, SKIPPED, nothing)
    problems = [problem for place, dump in dumps for problem in compare(meter_map, dump, place)]
    values = sum(len(dump.readings) for _, dump in dumps)
    return check(NAME, f"{some(len(dumps), 'dump')}, {some(values, 'reading')} as known", problems)


def compare(meter_map: MeterMap, dump: Dump, place: str) -> list[Problem]:
    """What a dump says otherwise than its known readings."""
    try:
        decoded = decode_dump(meter_map, dump)
    except DumpError as error:
        return [Problem(place, "", str(error), _advice(error))]
    if not dump.readings:
        advice = 'known_readings: [{quantity: voltage, phase: L1, value: "230.2"}]'
        return [Problem(place, "known_readings", "there are none: what do these words mean?", advice)]
    return [problem for reading in dump.readings for problem in _compared(reading, decoded, place)]


def _compared(reading: Reading, decoded: Sequence[Decoded], place: str) -> Iterator[Problem]:
    quantity, phase = str(reading.get("quantity")), str(reading.get("phase", "total"))
    place = f"{place}: {quantity} {phase}"
    known = BY_NAME.get((quantity, phase))
    if known is None:
        yield Problem(place, "", "no such quantity in that phase", "a name of drivers/obis.py")
        return
    point = reading.get("point")
    found = [item for item in decoded if item.key == known.key and (point is None or item.point == point)]
    if not found:
        yield Problem(place, unpack(known.key), "is not in the dump", "the words that it is made from")
        return
    said = found[0].value.text() if found[0].value else None
    if not _same(reading, said):
        words = f"the map makes {'nothing (not available)' if said is None else said} of it"
        yield Problem(place, str(reading.get("value")), words, "check address, type, word order and scale")
    flags = reading.get("flags")
    if flags is not None and flags != flag_words(found[0]):
        words = f"the map flags it {flag_words(found[0])}"
        yield Problem(place, str(flags), words, "suspect, derived and not_available make flags")


def _same(reading: Reading, said: str | None) -> bool:
    value = reading.get("value")
    if value is None or said is None:
        return value is None and said is None
    try:
        return abs(Decimal(str(value)) - Decimal(said)) <= Decimal(str(reading.get("tolerance", 0)))
    except InvalidOperation:
        return False


def _advice(error: Exception) -> str:
    notes: list[str] = getattr(error, "__notes__", [])
    return "; ".join(note.removeprefix("try: ") for note in notes)
