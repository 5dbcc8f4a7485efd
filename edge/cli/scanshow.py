"""What a scan found: a table, what each device can be, and the lines to paste; or one JSON object.

Rules
- The best candidate is in the table; where others fit too they are all named, with how to tell them apart.
- The lines to paste say every setting, so that they work on a machine that knows nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from drivers.line import Endpoint, SerialEndpoint, TcpEndpoint
from drivers.reading import Value
from drivers.recognise import Candidate, how_to_tell
from drivers.scan import Found, Scan, where
from edge.cli import table

_COPIED = "  aigeco "
"""How a line begins that is there to be copied: a terminal that breaks it itself copies it as one."""


class Result(NamedTuple):
    """What came of a scan.

    Attributes:
        scan: what was found.
        took_s: how long it took, without what an earlier one took.
        complete: False when it was interrupted.
        left_s: what the rest would take.
        resume: the state file, if there is one.
    """

    scan: Scan
    took_s: float
    complete: bool
    left_s: float
    resume: Path | None


def show(result: Result) -> None:
    """Print it."""
    scan = result.scan
    if scan.found:
        _table(scan.found)
        for found in scan.found:
            print()
            for line in _details(found):
                print(line if line.startswith(_COPIED) else table.fit(line, sys.stdout))
        print("\nfor aigeco.toml:\n")
        print("\n".join(_toml(scan.found)))
    for hint in (*scan.hints, *_unreached(scan)):
        print(table.fit(f"note: {hint}", sys.stdout))
    print(table.fit(_summary(result), sys.stdout))


def print_json(result: Result) -> None:
    """Print one JSON object."""
    scan = result.scan
    print(
        json.dumps(
            {
                "devices": [_device(found) for found in scan.found],
                "notes": [*scan.hints, *_unreached(scan)],
                "asked": scan.asked,
                "took_s": round(result.took_s, 1),
                "complete": result.complete,
                "left_s": round(result.left_s, 1),
            }
        )
    )


def _table(devices: Sequence[Found]) -> None:
    volts = table.on_the_point([_glance(each, "voltage") for each in devices])
    watts = table.on_the_point([_glance(each, "power") for each in devices])
    rows = [
        (
            where(each.endpoint),
            str(each.unit),
            each.candidates[0].map.name if each.candidates else "unknown",
            each.candidates[0].certainty if each.candidates else "",
            each.candidates[0].serial if each.candidates else "",
            volt,
            watt,
        )
        for each, volt, watt in zip(devices, volts, watts, strict=True)
    ]
    table.show(("line", "unit", "model", "", "serial number", "V", "W"), rows, right=("unit", "V", "W"))


def _glance(found: Found, what: str) -> str:
    value: Value | None = getattr(found.candidates[0], what) if found.candidates else None
    return table.grouped(f"{value.mantissa * 10.0**value.exponent:.1f}") if value else ""


def _details(found: Found) -> Iterator[str]:
    yield f"unit {found.unit} on {where(found.endpoint)}: {found.answer} after {found.thought_ms} ms"
    if found.also:
        yield f"  the same device answers to unit {_ranges(found.also)} too"
    for each in found.candidates:
        yield f"  {each.certainty}: {each.map.name} ({'; '.join(each.reasons)})"
    words = how_to_tell([each.map.name for each in found.candidates])
    if words:
        yield f"  to tell: {words}"
    if found.candidates:
        yield f"  {read_line(found, found.candidates[0])}"
    else:
        yield "  no map of the catalogue fits: `aigeco maps new` begins one"


def read_line(found: Found, candidate: Candidate) -> str:
    """The command that reads the device."""
    order = f" --word-order {candidate.word_order}" if candidate.word_order else ""
    return f"aigeco read {candidate.map.name} {_options(found.endpoint)} --unit {found.unit}{order}"


def _options(endpoint: Endpoint) -> str:
    if isinstance(endpoint, TcpEndpoint):
        framing = " --framing rtu" if endpoint.framing == "rtu" else ""
        return f"--tcp {_address(endpoint)}{framing}"
    settings = f"--baud {endpoint.baud} --parity {endpoint.parity} --stopbits {endpoint.stopbits}"
    return f"--serial {endpoint.path} {settings}"


def _address(endpoint: TcpEndpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _toml(devices: Sequence[Found]) -> Iterator[str]:
    """The lines of the configuration, a bus for each line."""
    names = _names(devices)
    for endpoint in dict.fromkeys(each.endpoint for each in devices):
        here = [each for each in devices if each.endpoint == endpoint and each.candidates]
        if here:
            yield "[[bus]]"
            yield from bus_lines(endpoint)
        for each in here:
            yield from ("", *meter_lines(each, each.candidates[0], names[each.endpoint, each.unit]))
        if here:
            yield ""


def bus_lines(endpoint: Endpoint) -> tuple[str, ...]:
    """The keys of a ``[[bus]]``."""
    if isinstance(endpoint, SerialEndpoint):
        path = json.dumps(endpoint.path)
        return (
            f"serial = {path}",
            f"baud = {endpoint.baud}",
            f'parity = "{endpoint.parity}"',
            f"stopbits = {endpoint.stopbits}",
        )
    framing = ('framing = "rtu"',) if endpoint.framing == "rtu" else ()
    return (f'tcp = "{_address(endpoint)}"', *framing)


def meter_lines(found: Found, candidate: Candidate, name: str) -> tuple[str, ...]:
    """A ``[[bus.meter]]``."""
    order = (f'word_order = "{candidate.word_order}"',) if candidate.word_order else ()
    return (
        "[[bus.meter]]",
        f'name = "{name}"  # yours to choose',
        f'model = "{candidate.map.name}"',
        f"unit = {found.unit}",
        *order,
    )


def _names(devices: Sequence[Found]) -> dict[tuple[Endpoint, int], str]:
    """A name for each: ``meter-3``, and where two lines have a unit 3, ``meter-3-2`` for the second."""
    names: dict[tuple[Endpoint, int], str] = {}
    counts: dict[int, int] = {}
    for each in devices:
        counts[each.unit] = number = counts.get(each.unit, 0) + 1
        names[each.endpoint, each.unit] = f"meter-{each.unit}" + (f"-{number}" if number > 1 else "")
    return names


def _device(found: Found) -> dict[str, object]:
    best = found.candidates[0] if found.candidates else None
    endpoint = found.endpoint
    line: dict[str, object]
    if isinstance(endpoint, SerialEndpoint):
        line = {
            "serial": endpoint.path,
            "baud": endpoint.baud,
            "parity": endpoint.parity,
            "stopbits": endpoint.stopbits,
        }
    else:
        line = {"tcp": _address(endpoint), "framing": endpoint.framing}
    return {
        "line": line,
        "unit": found.unit,
        "also_units": list(found.also),
        "answer": found.answer,
        "thought_ms": found.thought_ms,
        "models": [
            {
                "model": each.map.name,
                "certainty": each.certainty,
                "reasons": list(each.reasons),
                "word_order": each.word_order,
            }
            for each in found.candidates
        ],
        "to_tell": how_to_tell([each.map.name for each in found.candidates]),
        "serial_number": best.serial if best else "",
        "voltage": best.voltage.text() if best and best.voltage else None,
        "power": best.power.text() if best and best.power else None,
        "read": read_line(found, best) if best else "",
        "toml": "\n".join(meter_lines(found, best, f"meter-{found.unit}")) if best else "",
    }


def _unreached(scan: Scan) -> Iterator[str]:
    """Hosts none of whose ports could be reached, and settings that a serial port does not take."""
    places = scan.agenda.places
    reached = {
        place.endpoint.host
        for index, place in enumerate(places)
        if index not in scan.unreached and isinstance(place.endpoint, TcpEndpoint)
    }
    for index, words in scan.unreached.items():
        endpoint = places[index].endpoint
        if isinstance(endpoint, SerialEndpoint) or endpoint.host not in reached:
            yield words


def _summary(result: Result) -> str:
    scan = result.scan
    words = f"{table.some(len(scan.found), 'device')}, {table.some(scan.asked, 'question')} in {result.took_s:.1f} s"
    if result.complete:
        known = any(found.candidates for found in scan.found)
        return f"{words}; to put one into service: aigeco commission" if known else words
    go_on = f"--resume {result.resume}" if result.resume else "the next time with --resume FILE"
    return f"interrupted: {words}; {table.age(result.left_s)} left, {go_on} goes on"


def _ranges(units: Sequence[int]) -> str:
    """``1-10, 20``."""
    parts: list[list[int]] = []
    for unit in sorted(units):
        if parts and unit == parts[-1][1] + 1:
            parts[-1][1] = unit
        else:
            parts.append([unit, unit])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
