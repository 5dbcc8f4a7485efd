"""What a counter may do between two readings: grow by what the installation can draw, and start again. Pure.

Rules
- A counter is compared with its last believed number, at most an hour back while it is read: slow devices count up
  several minutes at once, and no device longer than that.
- A number that cannot be is held against the counter, not believed: when the next ones fit the believed number again,
  it was a glitch. When three in a row go on from it, it is what the counter says now.
- A step back is a wrap when the old number was just below one at which the counter turns over, a reset when the new one
  can have been counted from zero since, and a rollback otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drivers.checks import HOUR_MS
from drivers.findings import JUMP, RESET, RESET_BY_HAND, ROLLBACK, WRAP, Finding, Rule
from drivers.layout import Meter
from drivers.wording import named, number_text

_BELIEVED_AFTER = 3
# A float counter has 24 bits; its last two may go back where the device adds up phases.
_FLOAT_BITS = 22


class Suspect(NamedTuple):
    """What a counter says that cannot be: ``value`` at ``at``, gone on ``times`` times; ``rule`` it breaks."""

    value: int
    at: int
    times: int
    rule: Rule


class Memory(NamedTuple):
    """What is known of a counter: its believed number, when it last changed, and what it says against that.

    ``since`` is below zero when the counter may have stood still for as long before the first reading that is known.
    """

    value: int
    since: int
    suspect: Suspect | None = None


# Without the detour through the class's own constructor: two or three are made per reading.
_new = tuple.__new__
Memories = tuple[Memory | None, ...]


def count(
    meters: Sequence[Meter], numbers: Sequence[int], memories: Memories, now: int, read_at: int, found: list[Finding]
) -> Memories:
    """Counters after a reading at ``now``; the last one was at ``read_at``. What is wrong is added to ``found``."""
    changed: list[Memory | None] | None = None
    for meter in meters:
        at, slot, _, _, slack, _, _, _ = meter
        number, memory = numbers[at], memories[slot]
        if memory is None:
            after = Memory(number, now)
        elif memory[2] is None and number == memory[0]:
            continue
        elif memory[2] is None and 0 < number - memory[0] <= slack:
            after = _new(Memory, (number, now, None))
        else:
            value, since, _ = memory
            after, rule = _doubted(meter, memory, number, now, min(now - since, max(now - read_at, HOUR_MS)))
            if rule is not None:
                found.append(
                    Finding(rule, meter.key, (at,), _words(rule, meter.key, value, number, now - max(since, 0)))
                )
        if changed is None:
            changed = list(memories)
        changed[slot] = after
    return memories if changed is None else tuple(changed)


def _doubted(meter: Meter, memory: Memory, number: int, now: int, lapse: int) -> tuple[Memory, Rule | None]:
    """The slow way: the memory after a number that may be wrong, and the rule it breaks."""
    value, since, suspect = memory
    delta = number - value
    grain = abs(value) >> _FLOAT_BITS if meter.is_float else 0
    slack = meter.slack + grain
    if 0 <= delta <= meter.rate * lapse + slack:
        return Memory(number, now if delta else since), None
    if -grain <= delta < 0:
        return Memory(value, since), None
    if suspect is not None and 0 <= number - suspect.value <= meter.rate * (now - suspect.at) + slack:
        if suspect.times + 1 >= _BELIEVED_AFTER:
            return Memory(number, now), suspect.rule
        return Memory(value, since, Suspect(number, now, suspect.times + 1, suspect.rule)), suspect.rule
    rule = _rule(meter, value, number, meter.rate * lapse + slack)
    if rule is WRAP or rule is RESET_BY_HAND:
        return Memory(number, now), rule
    return Memory(value, since, Suspect(number, now, 1, rule)), rule


def _rule(meter: Meter, value: int, number: int, most: int) -> Rule:
    if number > value:
        return JUMP
    if number >= 0 and any(value < turn and number + turn - value <= most for turn in meter.turns):
        return WRAP
    if 0 <= number <= most:
        return RESET_BY_HAND if meter.resettable else RESET
    return ROLLBACK


def _words(rule: Rule, key: int, value: int, number: int, lapse_ms: int) -> str:
    steps = f"from {number_text(key, value)} to {number_text(key, number)}"
    if lapse_ms:  # none: how long it took is not known
        steps += f" in {lapse_ms / 1000:g} s"
    return f"{named(key)}: {rule.name} {steps}"
