"""What the threads of the agent tell each other and the world: stop, cadence, alarms, signs of life.

Starts no thread and touches no file.

Rules
- Everything here is a plain attribute or a dict entry that one thread writes and others read.
- A change of state is logged once, when it happens; a state that lasts is silent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

LOG = logging.getLogger("aigeco")

_NOTES_KEPT = 20
"""Alarms of things that happened and will not end; the log has the older ones."""


class Cadence(IntEnum):
    """How often meters are read."""

    NORMAL = 0
    SETTLEMENT = 1
    STOPPED = 2


class Alarm(NamedTuple):
    """Something that somebody should look at.

    Attributes:
        kind: whose business it is: ``ledger``, ``disk``, ``meter house``; empty when the words say it.
        about: which one of that kind, such as an organisation; empty when there is only one.
        words: what is the case; what to try follows behind ``; try: ``.
        lasts: whether it is so now; otherwise it happened.
    """

    kind: str
    about: str
    words: str
    lasts: bool

    def __str__(self) -> str:
        place = " ".join(part for part in (self.kind, self.about) if part)
        return f"{place}: {self.words}" if place else self.words


class Alarms:
    """What somebody should look at."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str], tuple[str, Alarm]] = {}  # kind, about -> what makes it news, and it
        self._notes: deque[Alarm] = deque(maxlen=_NOTES_KEPT)

    def raise_(self, kind: str, words: str, news: str = "", about: str = "") -> None:
        """Something is wrong until :meth:`clear`; logged again when ``news``, by default the words, changed."""
        before = self._standing.get((kind, about))
        alarm = Alarm(kind, about, words, True)
        self._standing[kind, about] = (news or words, alarm)
        if before is None or before[0] != (news or words):
            LOG.warning("%s", alarm)

    def clear(self, kind: str, words: str = "is well again", about: str = "") -> None:
        """It is over."""
        if self._standing.pop((kind, about), None) is not None:
            LOG.info("%s", Alarm(kind, about, words, False))

    def note(self, words: str, kind: str = "") -> None:
        """Something happened that stays worth knowing."""
        alarm = Alarm(kind, "", words, False)
        if alarm not in self._notes:
            self._notes.append(alarm)
        LOG.warning("%s", alarm)

    def each(self) -> list[Alarm]:
        """All of them, standing ones first."""
        return [alarm for _, (_, alarm) in sorted(self._standing.items())] + list(self._notes)

    def all(self) -> list[str]:
        """The same in words."""
        return [str(alarm) for alarm in self.each()]


def words_of(error: BaseException) -> str:
    """An error's words, and what to try behind them."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


class Pulse:
    """A thread's promise to be heard of again.

    Attributes:
        name: of the thread.
        error: what ended it, None while it runs.
        ended: whether it ran to its end.
        beat_s: when it last beat, on the monotonic clock.
    """

    def __init__(self, name: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.ended = False
        self._monotonic = monotonic
        self._due_s = float("inf")
        self.beat_s = monotonic()

    def beat(self, patience_s: float) -> None:
        """Alive; the next beat follows within ``patience_s``."""
        self.beat_s = self._monotonic()
        self._due_s = self.beat_s + patience_s

    def wait(self, patience_s: float) -> None:
        """Whoever watches gives it that long yet."""
        self._due_s = self._monotonic() + patience_s

    def silent_s(self) -> float:
        """For how long the next beat has been overdue; 0 in good order."""
        return 0.0 if self.ended else max(0.0, self._monotonic() - self._due_s)


class StopSign:
    """The word that the process ends: said once, by any thread and by a signal's handler.

    Waiting for it is one system call. A :class:`threading.Event` does a dozen steps more, under a lock that all who
    wait share, where lines that wake at the same moment queue up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._held = [self._lock]  # empty once it was said; taking from a list is one step, so nobody says it twice

    def set(self) -> None:
        """Say it."""
        try:
            lock = self._held.pop()
        except IndexError:
            return
        lock.release()

    def is_set(self) -> bool:
        """Whether it was said."""
        return not self._held

    def wait(self, timeout_s: float) -> bool:
        """Wait for it; whether it was said."""
        if self._held and self._lock.acquire(timeout=max(0.0, timeout_s)):
            self._lock.release()  # for the next who waits
        return not self._held


class MeterState(NamedTuple):
    """The last read of one meter.

    Attributes:
        slot_ms: start of the slot.
        status: record status, None = good.
        trouble: the failure in words, or what is not plausible; empty when good.
        serial: serial number, empty when unknown.
    """

    slot_ms: int
    status: int | None
    trouble: str
    serial: str


class State:
    """All of it.

    Attributes:
        stop: set when the process ends.
        cadence: written by the writer.
        renewals: how often slots began to be counted anew; written by the writer, each bus then plans anew.
        alarms: written by all.
        meters: name -> last read; each bus writes its own.
        dropped: readings that found the queue full.
        sending: one line on the sender's state.
        settled_ms: when a batch was last settled, UTC; 0: not yet.
    """

    def __init__(self) -> None:
        self.stop = StopSign()
        self.cadence = Cadence.NORMAL
        self.renewals = 0
        self.alarms = Alarms()
        self.meters: dict[str, MeterState] = {}
        self.dropped = 0
        self.sending = "not started"
        self.settled_ms = 0

    def news(self) -> tuple[Any, ...]:
        """What is told at once when it is another than before; everything but numbers that always change."""
        meters = [(last.status, last.trouble, last.serial) for last in list(self.meters.values())]
        return self.sending, self.cadence, self.dropped > 0, self.settled_ms > 0, self.alarms.all(), meters
