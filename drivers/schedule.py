"""Which meter of a bus to read now, and which slots are lost for good. Time goes in, the next slot comes out.

Never reads a clock, never sleeps, never does I/O.

Rules
- A slot starts at a multiple of its meter's period in UTC and is due from its start to its end. Afterwards it is
  missed: a reading taken in another slot never stands in for it.
- Every slot of a meter comes out exactly once, either to be read or as missed, in ascending order. So after the clock
  was set back nothing comes out until UTC has passed the last slot again.
- Meters that answer come first; of them slots on a settlement boundary, then the earliest end, then the meter served
  longest ago, then the order of the configuration: an overloaded line serves its meters in turn.
- A meter that does not answer is asked after the others, in what they leave: `spare_ms` says how much that is.
- How much time passed is measured on the monotonic clock. Where UTC moved by something else, the clock was set, and the
  slots it jumped over are missed because of the clock, not because of the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

# UTC and the monotonic clock are read one after the other and NTP slews UTC by 0.05 %: over the longest period (15 min)
# that is 450 ms. A larger difference is a step.
STEP_MS = 1000


class Cause(IntEnum):
    """Why slots were missed; the numbers are the reason codes of a gap statement."""

    NOT_RUNNING = 1
    OVERLOAD = 3
    CLOCK = 4


@dataclass(frozen=True, slots=True)
class Missed:
    """Consecutive slots of one meter that nobody will read.

    Attributes:
        meter: its name.
        first_ms: start of the first missed slot, POSIX milliseconds.
        last_ms: start of the last missed slot (the same as `first_ms` for a single one).
        count: how many slots.
        cause: why.
    """

    meter: str
    first_ms: int
    last_ms: int
    count: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now.

    Attributes:
        meter: the meter to read, None when no slot is due.
        slot_ms: start of the slot to read it for; 0 without a meter.
        wait_ms: 0 with a meter, else milliseconds of UTC until the next slot starts.
        missed: slots found lost since the last call.
        spare_ms: how long this read may take before another meter's slot is in danger; may be negative.
    """

    meter: str | None
    slot_ms: int
    wait_ms: int
    missed: tuple[Missed, ...] = ()
    spare_ms: int = field(default=0, compare=False)


def slot_of(utc_ms: int, period_ms: int) -> int:
    """Start of the slot that `utc_ms` lies in."""
    return utc_ms - utc_ms % period_ms


class _Line:
    """The state of one meter: its period, its last accounted slot, when it was served and before that (running
    numbers), how long its reading takes, and whether it answers."""

    __slots__ = ("before", "index", "last_ms", "name", "needs_ms", "period_ms", "served", "silent")

    def __init__(self, index: int, name: str, period_ms: int, last_ms: int | None) -> None:
        self.index = index
        self.name = name
        self.period_ms = period_ms
        self.last_ms = last_ms
        self.served = self.before = 0
        self.needs_ms = 0
        self.silent = False


class Schedule:
    """The slots of the meters on one bus.

    Args:
        periods: period of each meter in milliseconds, in the order of the configuration.
        settlement_ms: settlement period; slots that start at its multiples go first.
        last: last accounted slot of each meter that has one (from the spool), so that a restart repeats none.

    Raises:
        ValueError: a period is not positive.
    """

    def __init__(
        self, periods: Mapping[str, int], settlement_ms: int = 900_000, last: Mapping[str, int] | None = None
    ) -> None:
        if settlement_ms <= 0 or any(period <= 0 for period in periods.values()):
            raise ValueError(f"periods are positive milliseconds, not {dict(periods)} and {settlement_ms}")
        known = last or {}
        self._lines = [_Line(i, name, period, known.get(name)) for i, (name, period) in enumerate(periods.items())]
        self._settlement_ms = settlement_ms
        self._utc_ms: int | None = None
        self._monotonic_ms = 0
        self._turn = 0
        self._ready: list[tuple[_Line, int]] = []  # what is due, the next one last
        self._by_name = {line.name: line for line in self._lines}
        self._ready_ms = 0  # what reading those takes
        self._valid_until_ms = 0  # UTC at which `_ready` must be made anew: a slot starts or ends

    def last(self) -> dict[str, int]:
        """Up to which slot each meter is accounted for; empty before the first `next` of a new schedule."""
        return {line.name: line.last_ms for line in self._lines if line.last_ms is not None}

    def learn(self, meter: str, took_ms: int, silent: bool) -> None:
        """What came of a read.

        Args:
            meter: the one read last.
            took_ms: how long it took; 0: it was not asked, so that the next turn is its own.
            silent: whether it is one that does not answer.
        """
        line = self._by_name[meter]
        line.silent = silent
        if not took_ms:
            line.served = line.before
        if not silent:
            # Up at once and down slowly: too little counted costs another meter's slot.
            line.needs_ms = took_ms if took_ms > line.needs_ms else line.needs_ms - (line.needs_ms - took_ms) // 8

    def next(self, utc_ms: int, monotonic_ms: int) -> Step:
        """The slot to read now. The caller reads it at once and asks again.

        Args:
            utc_ms: POSIX milliseconds now.
            monotonic_ms: the monotonic clock now, milliseconds; never decreases.
        """
        missed: tuple[Missed, ...] = ()
        previous, elapsed = self._utc_ms, monotonic_ms - self._monotonic_ms
        self._utc_ms, self._monotonic_ms = utc_ms, monotonic_ms
        stepped = previous is not None and abs(utc_ms - previous - elapsed) > STEP_MS
        if stepped or utc_ms >= self._valid_until_ms or previous is None or utc_ms < previous:
            # Where UTC would be had nobody set it: what ended before that moment was lost to the line.
            unset_ms = previous + elapsed if previous is not None and stepped else utc_ms
            missed = self._refresh(utc_ms, unset_ms, first=previous is None)
        if not self._ready:
            return Step(None, 0, self._valid_until_ms - utc_ms, missed)
        line, slot_ms = self._ready.pop()
        line.last_ms = slot_ms
        self._turn += 1
        line.before, line.served = line.served, self._turn
        if not line.silent:
            self._ready_ms -= line.needs_ms
        return Step(line.name, slot_ms, 0, missed, self._valid_until_ms - utc_ms - self._ready_ms)

    def _refresh(self, utc_ms: int, unset_ms: int, first: bool) -> tuple[Missed, ...]:
        """Makes the list of what is due anew; gives what can no longer be read."""
        missed: list[Missed] = []
        self._ready = []
        valid_until_ms: int | None = None
        for line in self._lines:
            slot_ms = slot_of(utc_ms, line.period_ms)
            if line.last_ms is None:
                line.last_ms = slot_ms - line.period_ms  # nothing is owed from before the first look
            if slot_ms > line.last_ms:
                missed += _missed(line, line.last_ms, slot_ms, unset_ms, first)
                line.last_ms = slot_ms - line.period_ms
                self._ready.append((line, slot_ms))
                until = slot_ms + line.period_ms
            else:
                until = slot_of(line.last_ms, line.period_ms) + line.period_ms
            valid_until_ms = until if valid_until_ms is None else min(valid_until_ms, until)
        self._ready.sort(key=self._urgency, reverse=True)
        self._ready_ms = sum(line.needs_ms for line, _ in self._ready if not line.silent)
        # Without meters there is nothing to wait for; look again once a settlement period.
        self._valid_until_ms = valid_until_ms if valid_until_ms is not None else utc_ms + self._settlement_ms
        return tuple(missed)

    def _urgency(self, due: tuple[_Line, int]) -> tuple[bool, bool, int, int, int]:
        line, slot_ms = due
        return line.silent, slot_ms % self._settlement_ms != 0, slot_ms + line.period_ms, line.served, line.index


def _missed(line: _Line, last_ms: int, current_ms: int, unset_ms: int, first: bool) -> list[Missed]:
    """The slots between the last accounted one and the current one, split where the clock was set."""
    period_ms = line.period_ms
    start_ms = slot_of(last_ms, period_ms) + period_ms  # the last slot may be one of another period
    if first:
        return _range(line, start_ms, current_ms, Cause.NOT_RUNNING)
    # The first slot that was not yet over when the clock was set.
    jumped_ms = min(max(slot_of(unset_ms, period_ms), start_ms), current_ms)
    return _range(line, start_ms, jumped_ms, Cause.OVERLOAD) + _range(line, jumped_ms, current_ms, Cause.CLOCK)


def _range(line: _Line, first_ms: int, end_ms: int, cause: Cause) -> list[Missed]:
    count = (end_ms - first_ms) // line.period_ms
    return [Missed(line.name, first_ms, end_ms - line.period_ms, count, cause)] if count > 0 else []
