"""Every slot of a measuring point accounted for: read, failed, covered by a gap statement, or missing.

Pure; memory grows with the number of stretches that are not readings, and is bounded.

Rules
- From the first slot to the last each multiple of the period is a reading or lies in a gap; none is read twice.
- Slots need not rise: after a clock step back the slots that were skipped may still be read.
- A coarser period leaves no hole before its first slot; a finer one may begin inside the last coarse slot.
- Where evidence was pruned or damaged, nothing is said about the slots between.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

MAX_STRETCHES = 10_000
"""Stretches without readings that are kept per measuring point; each outage makes one."""


class _Stretch(Enum):
    HOLE = 0
    GAP = 1
    OPTIONAL = 2  # the rest of a coarse slot, where finer ones may begin
    JUMP = 3  # a gap, because the clock was set


@dataclass(frozen=True, slots=True)
class _Open:
    """A stretch without readings, from_ms <= slot < to_ms."""

    from_ms: int
    to_ms: int
    period_ms: int
    what: _Stretch

    def slots(self) -> int:
        return _multiples(self.from_ms, self.to_ms, self.period_ms)


@dataclass(frozen=True, slots=True)
class Account:
    """How the slots of a measuring point turned out.

    Attributes:
        expected: slots from first to last.
        read: readings with values.
        failed: readings without.
        gap: slots that gap statements cover.
        missing: slots that nothing accounts for.
        first_missing_ms: the first of these, None when there is none.
        jumped: slots in gaps over which the clock was set.
    """

    expected: int
    read: int
    failed: int
    gap: int
    missing: int
    first_missing_ms: int | None
    jumped: int = 0


class Slots:
    """The account of one measuring point in one stream.

    Attributes:
        period_ms: period in force, None before the first descriptor.
    """

    def __init__(self) -> None:
        self.period_ms: int | None = None
        self._from_ms: int | None = None  # first slot
        self._to_ms = 0  # end of the last
        self._last_is_reading = False
        self._open: list[_Open] = []  # ascending, disjoint
        self._read = self._failed = self._lost = 0
        self._cut = False

    def describe(self, period_ms: int) -> None:
        """A descriptor came: the period from here on."""
        old, self.period_ms = self.period_ms, period_ms
        if old is not None and period_ms < old and self._last_is_reading:
            self._insert([_Open(self._to_ms - old + period_ms, self._to_ms, period_ms, _Stretch.OPTIONAL)])

    def cut(self) -> None:
        """Something is not there to look at: the hole before the next slot is nobody's."""
        self._cut = True

    def read(self, slot_ms: int, has_values: bool) -> str | None:
        """A reading came; what is wrong with its slot, None when nothing is."""
        period = self.period_ms
        if period is None:
            return "no descriptor came before it, so its slot cannot be accounted for"
        if slot_ms % period:
            return f"slot {slot_ms} is no multiple of the period, {period} ms"
        if self._from_ms is None:
            self._from_ms, self._to_ms = slot_ms, slot_ms + period
        elif slot_ms >= self._to_ms:
            if not self._cut:
                self._insert([_Open(self._to_ms, slot_ms, period, _Stretch.HOLE)])
            self._to_ms = slot_ms + period
        elif slot_ms < self._from_ms:
            self._insert([_Open(slot_ms + period, self._from_ms, period, _Stretch.HOLE)])
            self._from_ms = slot_ms
        elif not self._take(slot_ms):
            return f"slot {slot_ms} was read before"
        self._cut = False
        self._last_is_reading = slot_ms + period >= self._to_ms
        if has_values:
            self._read += 1
        else:
            self._failed += 1
        return None

    def gap(self, from_ms: int, to_ms: int, missing: int | None, jumped: bool = False) -> str | None:
        """A gap statement came; what is wrong with its number (None: not compared), None when nothing is."""
        what = _Stretch.JUMP if jumped else _Stretch.GAP
        period = self.period_ms
        if period is None or from_ms >= to_ms:
            return None
        if self._from_ms is None:
            self._from_ms = self._to_ms = from_ms
        if to_ms > self._to_ms:
            if from_ms > self._to_ms and not self._cut:
                self._insert([_Open(self._to_ms, from_ms, period, _Stretch.HOLE)])
            self._insert([_Open(max(from_ms, self._to_ms), to_ms, period, what)])
            self._to_ms, self._last_is_reading, self._cut = to_ms, False, False
        if from_ms < self._from_ms:
            self._insert([_Open(to_ms, self._from_ms, period, _Stretch.HOLE)])
            self._insert([_Open(from_ms, min(to_ms, self._from_ms), period, what)])
            self._from_ms = from_ms
        covered = self._cover(from_ms, to_ms, what)
        if missing is not None and missing != covered:
            return f"says {missing} readings are missing from {from_ms} to {to_ms} ms, it is {covered}"
        return None

    def account(self) -> Account:
        """How it turned out so far."""
        jumped = sum(stretch.slots() for stretch in self._open if stretch.what is _Stretch.JUMP)
        gap = jumped + sum(stretch.slots() for stretch in self._open if stretch.what is _Stretch.GAP)
        holes = [stretch for stretch in self._open if stretch.what is _Stretch.HOLE]
        missing = self._lost + sum(stretch.slots() for stretch in holes)
        first = -(-holes[0].from_ms // holes[0].period_ms) * holes[0].period_ms if holes else None
        expected = self._read + self._failed + gap + missing
        return Account(expected, self._read, self._failed, gap, missing, first, jumped)

    def _take(self, slot_ms: int) -> bool:
        """Take a slot out of the stretch it lies in; False when it lies in none."""
        index = bisect_right(self._open, slot_ms, key=lambda stretch: stretch.from_ms) - 1
        if index < 0 or slot_ms >= self._open[index].to_ms:
            return False
        period = self.period_ms or 1
        stretch = self._open.pop(index)
        before = _Open(stretch.from_ms, slot_ms, stretch.period_ms, stretch.what)
        after = _Open(slot_ms + period, stretch.to_ms, stretch.period_ms, stretch.what)
        self._insert([before, after])
        return True

    def _cover(self, from_ms: int, to_ms: int, what: _Stretch) -> int:
        """Turn what is open between two instants into a gap; how many slots are open there."""
        touched = [stretch for stretch in self._open if stretch.to_ms > from_ms and stretch.from_ms < to_ms]
        covered = 0
        for stretch in touched:
            if stretch.what is _Stretch.OPTIONAL:
                continue
            low, high = max(stretch.from_ms, from_ms), min(stretch.to_ms, to_ms)
            covered += _multiples(low, high, stretch.period_ms)
            if stretch.what is _Stretch.HOLE:
                self._open.remove(stretch)
                pieces = [
                    _Open(stretch.from_ms, low, stretch.period_ms, _Stretch.HOLE),
                    _Open(low, high, stretch.period_ms, what),
                    _Open(high, stretch.to_ms, stretch.period_ms, _Stretch.HOLE),
                ]
                self._insert(pieces)
        return covered

    def _insert(self, pieces: list[_Open]) -> None:
        for piece in pieces:
            if piece.from_ms >= piece.to_ms or not piece.slots():
                continue
            if len(self._open) >= MAX_STRETCHES:
                self._lost += piece.slots() if piece.what is _Stretch.HOLE else 0
            else:
                self._open.insert(bisect_right(self._open, piece.from_ms, key=lambda open_: open_.from_ms), piece)


def _multiples(from_ms: int, to_ms: int, period_ms: int) -> int:
    """Multiples of the period from ``from_ms`` (included) to ``to_ms`` (not included)."""
    return max(0, -(-to_ms // period_ms) - -(-from_ms // period_ms))
