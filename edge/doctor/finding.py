"""What an examination finds, and what it starts from.

Rules
- A finding says where, what with its value, whose move it is, and what to try; one that is well has only words.
- ``wrong``: measurements are lost, or will be if nobody moves. ``warning``: they may be.
- What could not be looked at is ``unknown``, never ``ok``; its words say why.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge import status
from edge.config import Config
from edge.state import Alarm

TECHNICIAN = "a technician at the meter"
OPERATOR = "whoever runs this gateway"
BROKER = "whoever runs the broker or the network to it"
ORGANISATION = "the organisations"
MAKER = "the meter's maker"

EXPIRY_DAYS = 30
"""A certificate that ends sooner is worth a word: having one issued takes a person's time."""


class State(StrEnum):
    """How serious it is; the most important first."""

    WRONG = "wrong"
    WARNING = "warning"
    UNKNOWN = "unknown"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: ``ports``, ``meters``, ``clock``, ...
        state: how it is.
        place: which one; empty when there is only one.
        words: what is the case, with its value.
        move: whose move it is; empty when it is well or unknown.
        advice: what to try; empty when it is well or unknown.
    """

    area: str
    state: State
    place: str
    words: str
    move: str = ""
    advice: str = ""

    @property
    def said(self) -> str:
        """Place and words."""
        return f"{self.place}: {self.words}" if self.place else self.words


@dataclass(frozen=True, slots=True)
class Case:
    """What all areas start from.

    Attributes:
        config: the gateway's.
        told: what the agent last said of itself (edge/status.py); empty when it never did.
        running: whether the agent runs.
        now_ms: POSIX milliseconds.
    """

    config: Config
    told: Mapping[str, Any]
    running: bool
    now_ms: int

    def alarms(self, *kinds: str) -> list[Alarm]:
        """What the running agent says that somebody should look at; of these kinds, or all of it."""
        found = status.alarms(self.told) if self.running else []
        return [alarm for alarm in found if not kinds or alarm.kind in kinds]

    @property
    def foreign(self) -> bool:
        """Whether this user is neither root nor the gateway's: what this user may not read, the gateway may."""
        place = Path(f"/proc/{self.told.get('pid')}") if self.running else self.config.spool
        try:
            owner = (place if place.exists() else place.parent).stat().st_uid
        except OSError:
            return False
        return os.geteuid() not in (0, owner)

    def hides(self, words: str) -> bool:
        """Whether only this user may not read what these words, which end as the machine's do, are about."""
        return words.endswith(os.strerror(errno.EACCES)) and self.foreign

    def age_s(self, then_ms: float) -> float:
        """Seconds since then; 0 when that lies in the future."""
        return max(0.0, (self.now_ms - then_ms) / 1000)


def advice_of(error: Exception, otherwise: str) -> str:
    """What an error says that is to be tried."""
    notes = [str(note).removeprefix("try: ") for note in getattr(error, "__notes__", ())]
    return notes[0] if notes else otherwise


def unseen(area: str, place: str, words: str) -> Finding:
    """What another user's doctor has to look at."""
    return Finding(area, State.WARNING, place, words, OPERATOR, "sudo aigeco doctor: only this user may not look at it")


def unknown(area: str, place: str, why: str) -> Finding:
    """It was not looked at, and why."""
    return Finding(area, State.UNKNOWN, place, f"not looked at: {why}")


def well(area: str, place: str, words: str) -> Finding:
    """It is as it should be."""
    return Finding(area, State.OK, place, words)


def advised(area: str, state: State, place: str, alarm: str, move: str, otherwise: str) -> Finding:
    """A finding from an alarm's words, which may bring their own advice behind ``; try: ``."""
    words, _, advice = alarm.partition("; try: ")
    return Finding(area, state, place, words, move, advice or otherwise)


def lasts(area: str, place: str, words: str, until: dt.datetime, now_ms: int, move: str) -> Finding:
    """What a certificate's last day means; ``words`` go before it."""
    days = (until.timestamp() - now_ms / 1000) / 86400
    if days < 0:
        advice = "have a new certificate issued; check this machine's clock: timedatectl"
        return Finding(area, State.WRONG, place, f"has expired on {until:%Y-%m-%d}", move, advice)
    said = f"{words}valid until {until:%Y-%m-%d} ({int(days)} days)"
    if days < EXPIRY_DAYS:
        return Finding(area, State.WARNING, place, said, move, "have a new certificate issued before that day")
    return well(area, place, said)


def age(seconds: float) -> str:
    """``42 s``, ``5 min``, ``3 h``, ``12 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
