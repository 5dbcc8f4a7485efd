"""A capture played again: each request is answered as it was answered then.

Pure: time comes in as monotonic seconds, answers go out with the instant at which they may start.

Rules
- Matched is the whole request: unit, function, address, count. Equal requests are answered in the order of the capture,
  from its beginning again after its end.
- No byte of an answer is changed but the transaction number, which keeps its distance to the request's.
- What the capture does not hold is silence, and counted.
"""

from __future__ import annotations

from collections import Counter
from itertools import cycle

from hw_sim import frames
from hw_sim.capture import Answer, Capture, Exchange


class Player:
    """Answers in place of stations.

    Attributes:
        counters: ``requests``, ``answers`` (frames), ``unanswered``.
        unknown: how often something was asked that the capture does not hold, by request (transaction 0).
    """

    def __init__(self, capture: Capture) -> None:
        self.counters: Counter[str] = Counter()
        self.unknown: Counter[frames.Adu] = Counter()
        self._tcp = capture.framing is frames.TCP
        held: dict[frames.Adu, list[Exchange]] = {}
        for exchange in capture.exchanges:
            held.setdefault(exchange.request._replace(transaction=0), []).append(exchange)
        self._turns = {request: cycle(exchanges) for request, exchanges in held.items()}

    def answers(self, request: frames.Adu, now_s: float) -> tuple[tuple[float, bytes], ...]:
        """When which bytes follow a request that is complete at ``now_s``; nothing is silence."""
        self.counters["requests"] += 1
        asked = request._replace(transaction=0)
        turns = self._turns.get(asked)
        if turns is None:
            self.unknown[asked] += 1
        exchange = next(turns) if turns else None
        found = exchange.answers if exchange else ()
        if exchange is None or not found:
            self.counters["unanswered"] += 1
            return ()
        self.counters["answers"] += len(found)
        shift = request.transaction - exchange.request.transaction
        return tuple((now_s + answer.delay_s, self._renumbered(answer, shift)) for answer in found)

    def _renumbered(self, answer: Answer, shift: int) -> bytes:
        data = answer.data
        if not self._tcp or len(data) < 2:
            return data
        return (int.from_bytes(data[:2], "big") + shift & 0xFFFF).to_bytes(2, "big") + data[2:]
