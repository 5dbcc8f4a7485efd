"""When the clock was set back so far that slots have to be counted anew. Pure: instants go in.

Reads no clock and begins no stream (edge.succession does).

Rules
- A slot is accounted for once in a stream, so behind the newest one nothing can be read in it. Up to one settlement
  period that is waited for: every settlement boundary in it has its reading already.
- Further behind, and for a moment, slots are counted anew in a new stream: measuring goes on.
- The moment is short when the clock is synchronised, and longer when it is not: after a power cut without a battery
  clock the time comes from the network, which has to start as well.
"""

from __future__ import annotations

from signer.codes import RELIABLE_CLOCKS
from signer.statement import Instant

HOLD_S = 30.0
"""A synchronised clock that was set twice in half a minute (a time server that flaps) begins no stream."""

UNSURE_HOLD_S = 180.0
"""Home routers are back some two minutes after a power cut, and the time a poll later."""


class SetBack:
    """How far the clock lies behind, and since when.

    Attributes:
        limit_ms: what is waited for.
        since: when it was first seen too far behind; None: it is not.
    """

    def __init__(self, limit_ms: int) -> None:
        self.limit_ms = limit_ms
        self.since: Instant | None = None

    def is_too_far(self, behind_ms: int) -> bool:
        """Whether waiting is no answer."""
        return behind_ms > self.limit_ms

    def look(self, now: Instant, behind_ms: int) -> bool:
        """Whether slots are to be counted anew.

        Args:
            now: this instant.
            behind_ms: how far UTC lies behind the start of the newest slot that is accounted for.
        """
        if not self.is_too_far(behind_ms):
            self.since = None
            return False
        if self.since is None or now.boot_ms < self.since.boot_ms:
            self.since = now
        return now.boot_ms - self.since.boot_ms >= 1000 * hold_s(now)


def hold_s(now: Instant) -> float:
    """How long a clock has to stay behind, by what is known of it."""
    return HOLD_S if now.clock in RELIABLE_CLOCKS else UNSURE_HOLD_S


def lapse(ms: int) -> str:
    """A length of time in words, to the unit that matters."""
    for unit_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= 2 * unit_ms:
            return f"{ms // unit_ms:,} {unit}"
    return f"{ms // 1000} s"
