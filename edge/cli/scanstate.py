"""What a scan knows, in a file, so that it can go on later. JSON; written whole beside the old one and renamed.

Never keeps a name or number that is not needed to go on, never continues another scan than the one it holds.

Rules
- A state belongs to the lines it was made for. What was asked stays asked, whatever modes are chosen the next time.
- A file of another shape is refused and left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.map import load as load_map
from drivers.reading import Value
from drivers.recognise import Candidate
from drivers.scan import Found, Scan, where
from drivers.scanplan import Agenda
from edge.cli.exits import Exit, Refused

_FORMAT = "aigeco scan 1"


def save(path: Path, scan: Scan) -> None:
    """Write the state; a crash leaves the old one.

    Raises:
        Refused: it cannot be written.
    """
    agenda = scan.agenda
    places = [where(place.endpoint) for place in agenda.places]
    state = {
        "format": _FORMAT,
        "places": places,
        "done": sorted(agenda.done),
        "noisy": sorted(agenda.noisy),
        "asked": scan.asked,
        "hints": scan.hints,
        "found": [_entry(found, places) for found in scan.found],
    }
    new = path.with_name(path.name + ".new")
    try:
        with open(new, "w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError as error:
        words = error.strerror or str(error)
        raise Refused(f"{path}: {words}", Exit.USAGE, "a FILE in a folder that can be written") from None


def load(path: Path, agenda: Agenda) -> Scan:
    """The scan of a file, or a new one when there is no such file.

    Raises:
        Refused: the file holds something else.
    """
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Scan(agenda)
    except ValueError:
        state = None
    try:
        if state["format"] != _FORMAT:
            raise ValueError
        return _scan(state, agenda, path)
    except (TypeError, ValueError, LookupError):
        advice = "another FILE; this one stays as it is"
        raise Refused(f"{path}: is no state of a scan", Exit.USAGE, advice) from None


def _scan(state: Mapping[str, Any], agenda: Agenda, path: Path) -> Scan:
    places = [where(place.endpoint) for place in agenda.places]
    if state["places"] != places:
        words = f"{path}: is the state of another scan: of {', '.join(state['places'])}"
        raise Refused(words, Exit.USAGE, "the same lines and settings as then, or another FILE")
    agenda.done |= {(int(place), int(unit)) for place, unit in state["done"]}
    agenda.noisy |= {int(place) for place in state["noisy"]}
    found = [_found(entry, agenda) for entry in state["found"]]
    agenda.alive |= {int(entry["place"]) for entry in state["found"]}
    return Scan(agenda, found, [str(hint) for hint in state["hints"]], asked=int(state["asked"]))


def _entry(found: Found, places: list[str]) -> dict[str, object]:
    return {
        "place": places.index(where(found.endpoint)),
        "unit": found.unit,
        "also": found.also,
        "answer": found.answer,
        "thought_ms": found.thought_ms,
        "candidates": [
            {
                "map": each.map.name,
                "certainty": each.certainty,
                "reasons": each.reasons,
                "serial": each.serial,
                "word_order": each.word_order,
                "voltage": _pair(each.voltage),
                "power": _pair(each.power),
            }
            for each in found.candidates
        ],
    }


def _found(entry: Mapping[str, Any], agenda: Agenda) -> Found:
    candidates = tuple(
        Candidate(
            load_map(each["map"]),
            str(each["certainty"]),
            tuple(map(str, each["reasons"])),
            str(each["serial"]),
            each["word_order"],
            _value(each["voltage"]),
            _value(each["power"]),
        )
        for each in entry["candidates"]
    )
    endpoint = agenda.places[entry["place"]].endpoint
    return Found(
        endpoint, entry["unit"], candidates, entry["answer"], entry["thought_ms"], tuple(map(int, entry["also"]))
    )


def _pair(value: Value | None) -> tuple[int, int] | None:
    return None if value is None else (value.mantissa, value.exponent)


def _value(pair: tuple[int, int] | None) -> Value | None:
    return None if pair is None else Value(int(pair[0]), int(pair[1]))
