"""What a site does as JSON, one object a line: what ``--json`` prints.

Rules
- Each object names its ``event``: ``port``, ``ready``, ``fault``, ``status``.
- Integers for times and counts; a measurement is a number in the unit its key ends in, null before anybody asked.
"""

from __future__ import annotations

import json
from typing import Any

from hw_sim.faults import Fault
from hw_sim.running import Running, Shown
from hw_sim.site import Line

_COUNTERS = ("requests", "answers", "exceptions", "unanswered")


def port(line: Line, running: Running) -> str:
    """A line that is open, and its devices."""
    timing = line.timing
    return _event(
        "port",
        line=line.name,
        kind="serial" if line.tcp is None else "tcp",
        framing=line.framing,
        address=running.address(line.name),
        baud=timing.baud if timing else None,
        parity=timing.parity if timing else None,
        stopbits=timing.stopbits if timing else None,
        devices=[{"name": one.name, "unit": one.unit, "model": one.map.name} for one in line.devices],
    )


def ready(running: Running) -> str:
    """All ports are open and answer."""
    return _event("ready", devices=len(running.devices))


def fault(one: Fault, begins: bool) -> str:
    """A fault begins or ends."""
    return _event("fault", kind=one.kind, meter=one.meter, begins=begins)


def status(running: Running, now_ms: int) -> str:
    """Where every device stands, at the site's own time."""
    return _event("status", time_ms=now_ms, devices=[_device(shown) for shown in running.devices])


def _device(shown: Shown) -> dict[str, Any]:
    counters = dict(shown.station.counters)
    return {
        "name": shown.device.name,
        **{word: counters.get(word, 0) for word in _COUNTERS},
        "faults": {word[6:]: number for word, number in counters.items() if word.startswith("fault ")},
        "power_w": shown.value("active_power"),
        "import_wh": shown.value("active_energy_import"),
        "export_wh": shown.value("active_energy_export"),
    }


def _event(name: str, /, **fields: Any) -> str:
    return json.dumps({"event": name, **fields})
