"""Energy of a period, from the cumulative registers at its two ends.

Rules
- Whole Wh: the difference of the two registers' floors. So the periods of any stretch add up to the difference of the
  floors at its ends, whatever the register's decimals: a fraction of a Wh counts in the period that completes it.
- What is missing stays missing: a period without a good register at both ends is ``open``, and has no number.
- A register under doubt gives a number that is ``provisional``.
- A counter that went back or was reset says nothing about that period: ``open``.
- A meter exchanged in the period: what the old one still counted and what the new one has counted since, both signed at
  the exchange, are a ``provisional`` number; without those registers the period is ``open``.
- Two statements of one instant (a restored card) that agree are one; those that differ leave both periods ``open``.
- Every state but ``settled`` has its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from ledger.rules.boundaries import Boundary, Change, Register


class Certainty(IntEnum):
    """How far a period's numbers can be relied on; the higher one prevails where periods are combined."""

    SETTLED = 0
    PROVISIONAL = 1
    OPEN = 2

    @property
    def word(self) -> str:
        """``settled``, ``provisional`` or ``open``."""
        return self.name.lower()


# Quality bits (FORMAT.md, third element of a value). Derived (12) is no doubt: a total over phases is derived.
_UNUSABLE = {1: "overflow", 3: "bad reference", 5: "failure", 10: "test", 11: "operator blocked"}
_DOUBTFUL = {
    0: "questionable",
    2: "out of range",
    4: "oscillatory",
    6: "old data",
    7: "inconsistent",
    8: "inaccurate",
    9: "substituted",
    13: "estimated",
}
_UNUSABLE_BITS, _DOUBTFUL_BITS = (sum(1 << bit for bit in words) for words in (_UNUSABLE, _DOUBTFUL))
_RESET_BIT = 1 << 14
_EXCHANGED_STATUS = 6

EXCHANGED, RESET, BACK, DIFFER = "meter exchanged", "counter reset", "counter went back", "statements differ"


@dataclass(frozen=True, slots=True)
class Energy:
    """What flowed in one period.

    Attributes:
        wh: whole Wh, None when open.
        reason: empty when settled.
    """

    wh: int | None
    certainty: Certainty = Certainty.SETTLED
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reads:
    """What the ledger holds of one register of one measuring point, around the periods in question.

    Attributes:
        at: whole Wh and quality bits by instant, or in words why there is no number.
        changes: (instant, last of the old meter, first of the new one), whole Wh, in the order of time.
    """

    at: dict[int, tuple[int, int] | str]
    changes: tuple[tuple[int, int | None, int | None], ...] = ()


def floor_wh(register: Register) -> int:
    """The whole Wh that a register has completed."""
    mantissa, exponent = register
    return mantissa * int(10**exponent) if exponent >= 0 else mantissa // int(10**-exponent)


def reads(boundaries: Sequence[Boundary], changes: Sequence[Change], exported: bool) -> Reads:
    """The import or the export register of one point, out of what ``measurements`` answers about it."""
    at: dict[int, tuple[int, int] | str] = {}
    for boundary in boundaries:
        told = _told(boundary, boundary.exported if exported else boundary.imported)
        at[boundary.at_ms] = _both(at[boundary.at_ms], told) if boundary.at_ms in at else told
    side = 1 if exported else 0
    exchanges = [(change.at_ms, _whole(change.old[side]), _whole(change.new[side])) for change in changes]
    return Reads(at, tuple(sorted(exchanges, key=lambda exchange: exchange[0])))


def energy(register: Reads, start_ms: int, end_ms: int) -> Energy:
    """What a register counted between two instants."""
    start, end = register.at.get(start_ms, "no statement"), register.at.get(end_ms, "no statement")
    if isinstance(start, str):
        return Energy(None, Certainty.OPEN, f"{start} at the start")
    if isinstance(end, str):
        return Energy(None, Certainty.OPEN, end if end == EXCHANGED else f"{end} at the end")
    if end[1] & _RESET_BIT:  # one seen at the start lies before this period
        return Energy(None, Certainty.OPEN, RESET)
    wh, last, exchanged = 0, start[0], False
    for at_ms, old, new in register.changes:
        if start_ms < at_ms <= end_ms:
            if old is None or new is None:
                return Energy(None, Certainty.OPEN, EXCHANGED)
            if old < last:
                return Energy(None, Certainty.OPEN, BACK)
            wh, last, exchanged = wh + old - last, new, True
    if end[0] < last:
        return Energy(None, Certainty.OPEN, BACK)
    wh += end[0] - last
    doubt = EXCHANGED if exchanged else _word(_DOUBTFUL, (start[1] | end[1]) & _DOUBTFUL_BITS)
    return Energy(wh, Certainty.PROVISIONAL, doubt) if doubt else Energy(wh)


def sure(register: Reads) -> list[int]:
    """The instants whose number is beyond doubt, in the order of time. A reset that one has seen stays with it."""
    return [
        at_ms
        for at_ms, told in sorted(register.at.items(), key=lambda item: item[0])
        if not isinstance(told, str) and not told[1] & _DOUBTFUL_BITS
    ]


def total(energies: Iterable[Energy]) -> Energy:
    """The sum over several points: as certain as the least certain of them, with the first such reason."""
    wh, certainty, reason = 0, Certainty.SETTLED, ""
    for part in energies:
        wh += part.wh or 0
        if part.certainty > certainty:
            certainty, reason = part.certainty, part.reason
    return Energy(None if certainty is Certainty.OPEN else wh, certainty, reason)


def _both(one: tuple[int, int] | str, other: tuple[int, int] | str) -> tuple[int, int] | str:
    """Two statements of one instant: a good one beside a failed one counts, a disagreement is never mended."""
    if isinstance(one, str):
        return one if one == DIFFER or isinstance(other, str) else other
    if isinstance(other, str):
        return one
    return (one[0], one[1] | other[1]) if one[0] == other[0] else DIFFER


def _told(boundary: Boundary, register: Register | None) -> tuple[int, int] | str:
    if boundary.status == _EXCHANGED_STATUS:
        return EXCHANGED
    if boundary.status:
        return f"status {boundary.status}"
    if register is None:
        return "no register"
    if boundary.quality & _UNUSABLE_BITS:
        return _word(_UNUSABLE, boundary.quality)
    return floor_wh(register), boundary.quality


def _whole(register: Register | None) -> int | None:
    return None if register is None else floor_wh(register)


def _word(words: dict[int, str], bits: int) -> str:
    return next((word for bit, word in words.items() if bits >> bit & 1), "") if bits else ""
