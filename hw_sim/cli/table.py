"""The moving table of a running site on a terminal.

Rules
- It fits any terminal of 80 columns and 24 lines: each device is one line, and when there are more devices than lines
  they are shown page after page.
- The figures come from the devices; nothing is counted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hw_sim.running import Shown

if TYPE_CHECKING:
    from rich.console import RenderableType

# Below this the models and ports, which the first lines have named, make room for the figures.
_WIDE_COLUMNS = 120
# Title, headings, rule, the line of faults, and the one below that the cursor needs.
_OTHER_LINES = 5
_FAULT = "fault "
# A longer name is cut: the figures have to stay in sight.
_NAME_COLUMNS = 18
_PAGE_S = 5.0


def table(title: str, devices: Sequence[Shown], columns: int, lines: int, now_s: float) -> RenderableType:
    """The picture at a monotonic instant for a terminal of that size."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    wide = columns >= _WIDE_COLUMNS
    first, last = page(len(devices), max(1, lines - _OTHER_LINES), now_s)
    if last - first < len(devices):
        title += f", devices {first + 1} to {last} of {len(devices)}"
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    found.add_column("device", no_wrap=True, max_width=_NAME_COLUMNS)
    if wide:
        found.add_column("model", no_wrap=True)
        found.add_column("port", no_wrap=True)
    for heading in ("unit", "W", "kWh in", "kWh out", "asked", "answered", "s ago", "faults"):
        found.add_column(heading, justify="right", no_wrap=True)
    for shown in devices[first:last]:
        found.add_row(*_row(shown, wide, now_s))
    struck = sum((_struck(shown) for shown in devices), Counter[str]())
    kinds = ", ".join(f"{kind} {number}" for kind, number in struck.most_common())
    return Group(_line(title), found, _line(f"faults: {kinds or 'none so far'}"))


def _line(words: str) -> RenderableType:
    from rich.text import Text

    return Text(words, no_wrap=True, overflow="ellipsis")


def page(devices: int, lines: int, now_s: float) -> tuple[int, int]:
    """The first device shown and the one after the last, at a monotonic instant."""
    pages = -(-devices // lines) or 1
    first = int(now_s / _PAGE_S) % pages * lines
    return first, min(first + lines, devices)


def _row(shown: Shown, wide: bool, now_s: float) -> Iterator[str]:
    counters, last_s = shown.station.counters, shown.station.last_s
    yield shown.device.name
    if wide:
        yield from (shown.device.map.name, shown.port.name)
    yield str(shown.device.unit)
    power = shown.value("active_power")
    yield "" if power is None else f"{power:.0f}"
    for name in ("active_energy_import", "active_energy_export"):
        energy = shown.value(name)
        yield "" if energy is None else f"{energy / 1000:.2f}"
    yield str(counters["requests"])
    yield str(counters["answers"] + counters["exceptions"])
    yield "" if last_s is None else f"{max(0.0, now_s - last_s):.0f}"
    yield str(_struck(shown).total() or "")


def _struck(shown: Shown) -> Counter[str]:
    """How often a fault of each kind struck."""
    counters = tuple(shown.station.counters.items())  # the wire's thread counts on
    return Counter({word.removeprefix(_FAULT): number for word, number in counters if word.startswith(_FAULT)})
