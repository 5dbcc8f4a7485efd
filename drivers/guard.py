"""What a line knows about one unit: how long to wait, when to leave it alone, whether an answer may be late. Pure.

Never does I/O and never reads a clock.

Rules
- After the first failure the next slot tries again (one lost frame costs one slot); then the pause grows by 2 s with
  each failure up to 5 min, so that a dead unit cannot eat the slots of others. With nobody else to protect there is one
  try a second, of each unit in its turn, so that a line that returns is found within the shortest usual slot.
- A timeout is four times the unit's filtered latency within bounds. A unit that failed gets what fits between the
  others' readings; alone on its line it gets more each time, so that one grown slow is found. Where the time is short
  because others wait for their slot, a unit gets less, but never less than it usually needs.
- After a failure its answer may still be under way. A unit answers in order, so the right answer to a probe, which is a
  read of a length that no other request to that unit has, proves that it no longer is. A refusal proves it too: it
  answers the probe, or it is the late answer itself, and what can come then has the probe's length.
- A probe's own answer may be late as well. One asked before the request in doubt proves nothing about it: its length is
  not used again, and while it may come a refusal may be its own, and whoever is refused is in doubt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Set

from drivers.map import MeterMap
from drivers.plan import Request

# Growth and limit of the pause after a failure: a unit dead for a day is asked 12 times an hour.
PAUSE_STEP_S = 2.0
LONGEST_PAUSE_S = 300.0
# Tries of failed units, of all together: one in a slot of the shortest usual period.
TRY_SPACING_S = 1.0
# A usual meter answers within 100 ms, a gateway adds its own line; devices that need more say so in their map.
LEAST_TIMEOUT_S = 0.3
MOST_TIMEOUT_S = 2.0
TIMEOUT_PER_LATENCY = 4
# A try of a failed unit beside healthy ones: half of the shortest usual period, unless it is known to be slower.
TRY_TIMEOUT_S = 0.5
TRY_TIMEOUT_PER_LATENCY = 1.5
# What a try is worth at all where others leave little time: usual meters answer within 100 ms.
SHORTEST_TRY_S = 0.1
TIMEOUT_GROWTH_PER_FAILURE = 0.25
# An answer cannot come any more after this: longer than any device was seen to hold one back.
LONGEST_LATENESS_S = 10.0


class Guard:
    """One unit of a line.

    Attributes:
        failures: failed reads in a row.
        alone: no other unit of the line answers (kept by the bus while this one fails).
        turn_at: when it is this unit's turn again then (kept by the bus).
        doubt: the request whose answer may still come, None when none can; doubted_at: since when.
        asked: word counts of all requests but probes.
        probes: those whose answers may still come, in their order: word count, and when it was asked.
        heard_at: when it last answered.
        answered_last: function and word count of that answer.
        next_at: earliest instant of the next request (the device's own pause between requests).
        latency_s: filtered time the device takes to answer, 0.0 until it did.
    """

    __slots__ = (
        "alone",
        "answered_last",
        "asked",
        "doubt",
        "doubted_at",
        "failed_at",
        "failures",
        "heard_at",
        "latency_s",
        "least_s",
        "most_s",
        "next_at",
        "probes",
        "timeout_s",
        "try_s",
        "turn_at",
    )

    def __init__(self, stated_timeout_s: float | None = None) -> None:
        self.least_s = stated_timeout_s or LEAST_TIMEOUT_S
        self.most_s = max(MOST_TIMEOUT_S, self.least_s)
        self.timeout_s = self.least_s
        self.try_s = stated_timeout_s or TRY_TIMEOUT_S
        self.alone = False
        self.turn_at = 0.0
        self.latency_s = 0.0
        self.failures = 0
        self.failed_at = 0.0
        self.next_at = 0.0
        self.heard_at = 0.0
        self.answered_last = 0, 0
        self.asked: set[int] = set()
        self.doubt: Request | None = None
        self.doubted_at = 0.0
        self.probes: list[tuple[int, float]] = []

    def answered(self, now: float, latency_s: float) -> None:
        """The unit answered a request; latency without the frames' own time."""
        self.heard_at = now
        change_s = latency_s - self.latency_s
        # Up fast and down slowly: too short a timeout costs a reading. Never below 0: a pty outruns its baud rate.
        latency_s = self.latency_s = max(0.0, self.latency_s + change_s * (0.5 if change_s > 0 else 0.125))
        self.timeout_s = min(max(TIMEOUT_PER_LATENCY * latency_s, self.least_s), self.most_s)

    def succeeded(self) -> None:
        """A read of the unit is complete."""
        self.failures = 0

    def failed(self, now: float) -> None:
        """A read of the unit failed."""
        self.failures += 1
        self.failed_at = now

    def suspect(self, request: Request, now: float) -> None:
        """The answer to a request did not come, or came wrong: it may still come."""
        if self.doubt is None:
            self.doubt, self.doubted_at = request, now

    def probed(self, count: int, now: float) -> None:
        """A probe of so many words is sent. Those too old to be answered are forgotten: a unit may stay dead."""
        self.probes = [each for each in self.probes if now < each[1] + LONGEST_LATENESS_S]
        self.probes.append((count, now))

    def past(self, count: int) -> None:
        """An answer of so many words came. A unit answers in order: what was asked before is over.

        Of several probes of this length it may be the answer to the first.
        """
        if self.probes:
            counts = [of for of, _ in self.probes]
            del self.probes[: counts.index(count) + 1 if count in counts else len(counts)]

    def owed(self, now: float) -> set[int]:
        """Word counts of probes that may still be answered; of those before the request in doubt where there is one."""
        until = self.doubted_at if self.doubt is not None else now
        return {count for count, at in self.probes if at < until and now < at + LONGEST_LATENESS_S}

    def patience_s(self, spare_s: float = math.inf) -> float:
        """Timeout of the next request, without the frames' own time.

        Args:
            spare_s: what the others leave for it.
        """
        usual_s = self.timeout_s
        if self.failures and self.alone:
            usual_s = min(self.timeout_s * (1 + TIMEOUT_GROWTH_PER_FAILURE * self.failures), self.most_s)
        elif self.failures:
            usual_s = min(max(TRY_TIMEOUT_PER_LATENCY * self.latency_s, self.try_s), self.most_s)
        return min(usual_s, max(spare_s, self.needed_s))

    @property
    def needed_s(self) -> float:
        """The shortest timeout with which it makes sense to ask."""
        if not self.heard_at:
            return self.least_s
        times = TRY_TIMEOUT_PER_LATENCY if self.failures else TIMEOUT_PER_LATENCY
        return max(times * self.latency_s, SHORTEST_TRY_S)

    def paused(self, now: float) -> bool:
        """Whether to leave it alone."""
        return self.failures >= 2 and now < (self.turn_at if self.alone else self.failed_at + self.pause_s)

    @property
    def pause_s(self) -> float:
        """For how long it is left alone after its last failure while others answer."""
        return min(PAUSE_STEP_S * max(0, self.failures - 1), LONGEST_PAUSE_S)

    def hurry(self) -> None:
        """The line is back: try this unit at once."""
        self.failures = min(self.failures, 1)


def probe(meter_map: MeterMap, plan: Iterable[Request], taken: Set[int]) -> Request | None:
    """The shortest part of a planned request whose answer cannot be taken for that of any other request.

    It begins and ends with a value, so that a device which answers its plan answers it, too.

    Args:
        meter_map: the unit's map.
        plan: requests the unit is known to take.
        taken: word counts of all requests that are made to that unit otherwise.

    Returns:
        None when every such part has a length that is taken.
    """
    parts = (part for request in plan for part in _parts(meter_map, request) if part.count not in taken)
    return min(parts, key=lambda part: (part.count, part.function, part.address), default=None)


def fragment(plan: Iterable[Request], taken: Set[int]) -> Request | None:
    """Where there is no :func:`probe`: the shortest beginning of a planned request, though it may cut a value in two.

    A device may refuse that, which is an answer as well, or say nothing.
    """
    parts = (
        Request(request.function, request.address, count)
        for request in plan
        for count in range(1, request.count)
        if count not in taken
    )
    return min(parts, key=lambda part: (part.count, part.function, part.address), default=None)


def _parts(meter_map: MeterMap, request: Request) -> Iterator[Request]:
    spans = [
        (first, first + count)
        for register in meter_map.registers
        if register.function == request.function
        for first, count in register.spans()
        if request.address <= first and first + count <= request.end
    ]
    if meter_map.even_only:
        spans = [(first - first % 2, end + end % 2) for first, end in spans]
    starts, ends = {first for first, _ in spans}, {end for _, end in spans}
    return (Request(request.function, a, b - a) for a in starts for b in ends if a < b <= request.end)
