"""A unit on a wire: the device behind one unit id, its own slowness, and its faults.

Pure but for its counters: time comes in as monotonic seconds, answers go out with the delay they should have.

Rules
- A station handles one request after another, as a meter's processor does: an answer never overtakes an earlier one.
- Only functions 3 and 4 exist; anything else is exception 1. A meter that is not asked properly says so (exception 3).
- Faults come from data (:mod:`hw_sim.faults`) and nowhere else.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hw_sim import faults as fault_rules
from hw_sim import frames

# Application Protocol 6.3 and 6.4: one answer holds at most 125 registers.
_MOST_REGISTERS = 125
# A meter that starts anew is away for some seconds when a fraction of one was too soon.
_STARTS_IN = 20


class Refused(Exception):
    """The device answers with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Device(Protocol):
    """What a unit id stands for."""

    def read(self, function: int, address: int, count: int, at_s: float) -> bytes:
        """The words of ``count`` registers as they are at the monotonic instant ``at_s``, big-endian.

        Raises:
            Refused: the device has no such registers.
        """
        ...


class Reply(NamedTuple):
    """An answer on its way: when it may start, what it says, and what happens to its bytes."""

    start_s: float
    adu: frames.Adu
    spoilers: tuple[fault_rules.Fault, ...] = ()


class Station:
    """One unit id.

    Attributes:
        name: for people and for faults.
        unit: 1..247 on a serial line, 0..255 on TCP.
        counters: ``requests``, ``answers``, ``exceptions``, ``unanswered``, ``fault <kind>`` for each that struck.
        last_s: monotonic instant of the last request, None before the first.
    """

    def __init__(
        self,
        name: str,
        unit: int,
        device: Device,
        latency_s: float = 0.0,
        faults: Sequence[fault_rules.Fault] = (),
        seed: int = 0,
        other: Device | None = None,
    ) -> None:
        """``other``: the device that hangs in its place while it is ``exchanged``; None: the same."""
        self.name = name
        self.unit = unit
        self.counters: Counter[str] = Counter()
        self.last_s: float | None = None
        self._device = device
        self._other = other or device
        self._latency_s = latency_s
        self._faults = tuple(fault for fault in faults if fault.meter in ("*", name))
        self._random = random.Random(f"{seed}/{name}/faults")
        self._start_s: float | None = None
        self._free_s = -math.inf
        self._away_until_s = -math.inf

    def begin(self, now_s: float) -> None:
        """Start the timeline of the faults."""
        self._start_s = now_s

    def is_dead(self, now_s: float) -> bool:
        """Whether the device is off: it neither answers nor accepts connections."""
        return self.has("dead", now_s)

    def has(self, kind: str, now_s: float) -> bool:
        """Whether a fault of that kind is on."""
        elapsed = self._elapsed(now_s)
        return any(fault.kind == kind and fault.is_on(elapsed) for fault in self._faults)

    def answer(self, request: frames.Adu, now_s: float) -> Reply | None:
        """What the unit does about a request that is complete at ``now_s``; None: it stays silent."""
        self.counters["requests"] += 1
        self.last_s = now_s
        struck = self._struck(now_s) if self._faults else ()
        if any(fault.silences for fault in struck) or self._is_away(struck, now_s):
            self.counters["unanswered"] += 1
            return None
        at_s, delay_s = now_s, self._latency_s
        for fault in struck:
            at_s = fault.freezes_at(at_s, self._start_s or 0.0)
            delay_s += fault.delay_s
        # The device works through its requests in order, so what is late delays what comes after it.
        self._free_s = start_s = max(now_s, self._free_s) + delay_s
        pdu = request.pdu
        for fault in struck:
            pdu = fault.asks_for(pdu)
        device = self._other if any(fault.kind == "exchanged" for fault in struck) else self._device
        adu = frames.Adu(request.unit, _respond(device, pdu, at_s), request.transaction)
        for fault in struck:
            adu = fault.change(adu, request)
        self.counters["exceptions" if adu.pdu[0] & 0x80 else "answers"] += 1
        return Reply(start_s, adu, tuple(fault for fault in struck if fault.spoils_bytes))

    def _is_away(self, struck: Sequence[fault_rules.Fault], now_s: float) -> bool:
        """Whether it starts anew because it was asked too soon."""
        for fault in struck:
            if fault.kind == "hasty" and now_s >= self._away_until_s and now_s - self._free_s < fault.seconds:
                self._away_until_s = now_s + _STARTS_IN * fault.seconds
        return now_s < self._away_until_s

    def _struck(self, now_s: float) -> tuple[fault_rules.Fault, ...]:
        elapsed, number = self._elapsed(now_s), self.counters["requests"]
        struck = tuple(fault for fault in self._faults if fault.strikes(elapsed, number, self._random))
        for fault in struck:
            self.counters[f"fault {fault.kind}"] += 1
        return struck

    def _elapsed(self, now_s: float) -> float:
        if self._start_s is None:
            self._start_s = now_s
        return now_s - self._start_s


def _respond(device: Device, pdu: bytes, at_s: float) -> bytes:
    function = pdu[0]
    if function not in (3, 4):
        return frames.exception(function, frames.ILLEGAL_FUNCTION)
    address, count = pdu[1] << 8 | pdu[2], pdu[3] << 8 | pdu[4] if len(pdu) == 5 else 0
    if not 1 <= count <= _MOST_REGISTERS:
        return frames.exception(function, frames.ILLEGAL_VALUE)
    try:
        words = device.read(function, address, count, at_s)
    except Refused as refusal:
        return frames.exception(function, refusal.code)
    return bytes((function, len(words))) + words
