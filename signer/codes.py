"""The numbers that statements use for kinds, states and reasons (version 1), as people may read them.

Rules
- A number, once given, keeps its meaning.
- A reason, source or event that is not listed here is carried, never refused: a newer writer may know more.
"""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """Field 1: what a statement says."""

    READING = 0
    GENESIS = 1
    BOOT = 2
    GAP = 3
    CLOCK = 4
    REKEY = 5
    DESCRIPTOR = 6
    CHECKPOINT = 7
    COMMISSION = 8
    EVENT = 9
    EXCHANGE = 10


class ClockStatus(IntEnum):
    """Field 8: how far the clock can be believed."""

    UNKNOWN = 0
    INFORMATIVE = 1
    SYNCHRONISED = 2
    HOLDOVER = 3
    FAILED = 4


RELIABLE_CLOCKS = frozenset({ClockStatus.SYNCHRONISED, ClockStatus.HOLDOVER})
"""With these, a statement's own time may decide whether its certificate was valid."""


class BootReason(IntEnum):
    """Why the gateway started."""

    UNKNOWN = 0
    POWER = 1
    RESTART = 2
    UPDATE = 3
    WATCHDOG = 4
    CRASH = 5


class GapReason(IntEnum):
    """Why readings are missing."""

    UNKNOWN = 0
    NOT_RUNNING = 1
    DISK_FULL = 2
    OVERLOAD = 3
    CLOCK = 4


class ClockSource(IntEnum):
    """Who moved the clock."""

    UNKNOWN = 0
    NTP = 1
    RTC = 2
    OPERATOR = 3
    GNSS = 4


class EventCode(IntEnum):
    """What was noticed."""

    COUNTER_WRAP = 1
    COUNTER_RESET = 2
    ROLLBACK = 3
    JUMP_ABOVE_RATING = 4
    FROZEN = 5
    PHASES_SWAPPED = 6
    SIGN_AGAINST_ROLE = 7
    ENERGY_AGAINST_POWER = 8
    SERIAL_NUMBER_CHANGED = 9
    CONFIGURATION_CHANGED = 10
    DISK_BUDGET = 11
    UNDERVOLTAGE = 12


class Role(IntEnum):
    """What a meter measures, seen from the site."""

    GRID = 0
    CONSUMPTION = 1
    GENERATION = 2
    STORAGE = 3
    OTHER = 4
