"""The judge of one line: every reading of its meters passes plausibility once, before it is signed.

Judges nothing itself (drivers.plausible); remembers what has to be remembered from one reading to the next.

Rules
- What has passed between two readings of a run is what the clock that no one sets says (``boot_ms``).
- Another meter in the place of the old one is judged without a past.
- After a restart the first reading with values is judged by the last one in the spool (edge.past).
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.checks import Plan
from drivers.findings import Event
from drivers.map import MeterMap
from drivers.plausible import State, begin, judge, resume
from drivers.reading import Reading
from edge.config import Meter
from edge.past import Past
from signer.statement import Instant

Happening = tuple[str, Event]
"""A measuring point, and what began there."""


class Judge:
    """The memory of all measuring points of a line."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        self._states: dict[str, State] = {}
        self._read_ms: dict[str, int] = {}
        self._pasts: dict[str, Past] = {}  # until the first reading with values
        self._subs: dict[str, tuple[str, ...]] = {}  # of each meter that is known

    def know(self, meter: Meter, meter_map: MeterMap) -> None:
        """A meter is what ``meter_map`` says (concrete addresses); what was known of it is forgotten."""
        self.forget(meter)
        self._subs[meter.name] = meter_map.subs(meter.name)
        for point, sub in zip(meter_map.points, self._subs[meter.name], strict=True):
            plan = Plan(meter_map, point, meter.role, meter.overrides, meter.limits)
            self._plans[sub], self._states[sub] = plan, begin(plan)

    def remember(self, sub: str, past: Past) -> None:
        """A point that is known said ``past`` before this run."""
        self._pasts[sub] = past

    def forget(self, meter: Meter) -> None:
        """A meter is gone."""
        for sub in self._subs.pop(meter.name, ()):
            self._plans.pop(sub, None)
            self._states.pop(sub, None)
            self._pasts.pop(sub, None)

    def judged(self, readings: Sequence[Reading], now: Instant) -> tuple[tuple[Reading, ...], list[Happening]]:
        """The same readings with what is known against their values, and what began with them."""
        after, happened = [], []
        for reading in readings:
            sub = reading.sub
            plan = self._plans.get(sub)
            if plan is not None:
                lapse_ms = now.boot_ms - self._read_ms.get(sub, now.boot_ms)
                if self._pasts and reading.values and (past := self._pasts.pop(sub, None)) is not None:
                    elapsed_ms = past.elapsed_ms(now)
                    self._states[sub] = resume(plan, past.values, reading.values, elapsed_ms)
                    lapse_ms = elapsed_ms or 0
                reading, events, self._states[sub] = judge(plan, self._states[sub], reading, lapse_ms)
                self._read_ms[sub] = now.boot_ms
                happened += [(sub, event) for event in events]
            after.append(reading)
        return tuple(after), happened

    def trouble(self, meter: str) -> str:
        """What stands against a meter's points in words, the newest first and how many more; empty when all is well."""
        known = [self._states.get(sub) for sub in self._subs.get(meter, ())]
        states = [state for state in known if state is not None and state.standing]
        words = [each for state in states for each in state.troubles()]
        return words[0] + (f" (and {len(words) - 1} more)" if len(words) > 1 else "") if words else ""
