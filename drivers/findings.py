"""What plausibility finds, and when it becomes an event: once when something begins, not once a slot. Pure.

Rules
- A finding counts when it has come in enough readings one after the other, for long enough; before that it is nothing.
- One event when it begins. It can begin again after a calm of three readings and a quarter of an hour; of a whole day
  where nights are calm by themselves, because nothing flows.
- A value is flagged in the readings in which something is found against it, and in no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from drivers.reading import Quality

CALM_MS, CALM_READINGS = 900_000, 3
"""How long nothing must be found for something to be over; a settlement period, at any cadence."""

_DAY_MS = 86_400_000


class EventCode(IntEnum):
    """Numbers of events, as statements have them."""

    COUNTER_WRAP = 1
    COUNTER_RESET = 2
    ROLLBACK = 3
    JUMP_ABOVE_RATING = 4
    FROZEN = 5
    PHASES_SWAPPED = 6
    SIGN_AGAINST_ROLE = 7
    ENERGY_AGAINST_POWER = 8


class Rule(NamedTuple):
    """One thing that can be wrong.

    Attributes:
        name: of the rule.
        code: of its event, None for one that only flags.
        quality: bits of a value it speaks against.
        readings: how many of them, one after the other, make it true.
        lasting_ms: how long it lasts then, at least.
        calm_ms: after so long without it, it may begin again.
    """

    name: str
    code: EventCode | None
    quality: Quality
    readings: int = 1
    lasting_ms: int = 0
    calm_ms: int = CALM_MS


_Q = Quality
RANGE = Rule("range", None, _Q.OUT_OF_RANGE)
SENTINEL = Rule("sentinel", None, _Q.QUESTIONABLE)
RATING = Rule("rating", EventCode.JUMP_ABOVE_RATING, _Q.OUT_OF_RANGE)
WRAP = Rule("wrap", EventCode.COUNTER_WRAP, _Q.REGISTER_RESET)
RESET = Rule("reset", EventCode.COUNTER_RESET, _Q.REGISTER_RESET)
RESET_BY_HAND = Rule("reset by hand", None, _Q.REGISTER_RESET)
ROLLBACK = Rule("rollback", EventCode.ROLLBACK, _Q.QUESTIONABLE | _Q.INCONSISTENT)
JUMP = Rule("jump", EventCode.JUMP_ABOVE_RATING, _Q.QUESTIONABLE | _Q.OUT_OF_RANGE)
# A meter's registers need not be of one instant, and a load may change between two of them: three readings are no
# coincidence.
APPARENT = Rule("apparent", None, _Q.INCONSISTENT, readings=3)
PHASES = Rule("phases", EventCode.PHASES_SWAPPED, _Q.INCONSISTENT, readings=3, calm_ms=_DAY_MS)
# Four readings that are equal in every digit, over ten minutes: devices refresh once a minute at the slowest.
FROZEN = Rule("frozen", EventCode.FROZEN, _Q.OLD_DATA, readings=4, lasting_ms=600_000)
# How long it takes is in the rules themselves: drivers.balance, and the state of the directions.
SIGN = Rule("sign", EventCode.SIGN_AGAINST_ROLE, _Q.INCONSISTENT, calm_ms=_DAY_MS)
ENERGY = Rule("energy", EventCode.ENERGY_AGAINST_POWER, _Q.INCONSISTENT, calm_ms=_DAY_MS)


class Finding(NamedTuple):
    """Something speaks against values of one reading.

    Attributes:
        rule: which.
        key: OBIS key of the quantity, None for all together.
        places: indexes of the values it speaks against.
        words: for people.
        lasting_ms: instead of the rule's, 0 for the rule's.
    """

    rule: Rule
    key: int | None
    places: Sequence[int]
    words: str
    lasting_ms: int = 0


class Event(NamedTuple):
    """Something began. ``code``, ``key`` and ``words`` are those of an event statement."""

    code: EventCode
    key: int | None
    words: str


class Standing(NamedTuple):
    """A finding that lasts, or may become one.

    Attributes:
        rule, key: which.
        words: when it was found first.
        since, seen: first and last time, ms of the state's clock.
        times: readings in which it was found.
        calm: readings in which it was not, since the last.
        counts: whether it has lasted long enough.
    """

    rule: Rule
    key: int | None
    words: str
    since: int
    seen: int
    times: int
    calm: int
    counts: bool

    def is_seen(self, now: int) -> bool:
        """Whether it counts, and is not over for people who look now."""
        return self.counts and (self.calm < CALM_READINGS or now - self.seen < CALM_MS)


def settle(
    standing: Sequence[Standing], findings: Sequence[Finding], now: int
) -> tuple[tuple[Standing, ...], list[Finding], list[Event]]:
    """What stands after a reading, which findings count, and what began with it."""
    found = {(finding.rule.name, finding.key): finding for finding in findings}
    after, counting, events = [], [], []
    for one in standing:
        finding = found.pop((one.rule.name, one.key), None)
        if finding is None:
            calm = one.calm + 1
            if one.counts and (calm < CALM_READINGS or now - one.seen < one.rule.calm_ms):
                after.append(one._replace(calm=calm))
            continue
        if not one.counts:
            one, begun = _again(one, finding, now)
            events += begun
        after.append(one._replace(seen=now, calm=0))
        if one.counts:
            counting.append(finding)
    for finding in found.values():
        one, begun = _again(Standing(finding.rule, finding.key, finding.words, now, now, 0, 0, False), finding, now)
        events += begun
        after.append(one)
        if one.counts:
            counting.append(finding)
    return tuple(after), counting, events


def _again(one: Standing, finding: Finding, now: int) -> tuple[Standing, list[Event]]:
    """Found once more; the event if it counts from now on."""
    rule = one.rule
    times = one.times + 1
    if times < rule.readings or now - one.since < (finding.lasting_ms or rule.lasting_ms):
        return one._replace(times=times), []
    events = [] if rule.code is None else [Event(rule.code, one.key, one.words)]
    return one._replace(times=times, counts=True), events
