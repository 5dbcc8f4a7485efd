"""Comparing the cost of functions on a machine that does other things as well.

Rules
- What is compared runs in turns inside one run, so that a slow minute hits all of it.
- Processor time of the thread, not time on the wall; the median of many rounds, never the mean.
- A ratio is the median of the rounds' ratios: both halves of each came within the same few milliseconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of a function takes.

    Attributes:
        rounds_us: microseconds of processor time a call, one number a round.
    """

    rounds_us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        """The middle one."""
        return statistics.median(self.rounds_us)

    @property
    def best_us(self) -> float:
        """The least disturbed one."""
        return min(self.rounds_us)

    def ratio(self, other: Cost) -> float:
        """How many times as much as ``other``, in the middle of the rounds."""
        return statistics.median(mine / its for mine, its in zip(self.rounds_us, other.rounds_us, strict=True))


def compare(functions: Mapping[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, Cost]:
    """The cost of each function, ``calls`` at a time, in turns that begin with another one each round."""
    names = list(functions)
    for function in functions.values():
        function()
    costs: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            costs[name].append(_round_us(functions[name], calls))
    return {name: Cost(tuple(values)) for name, values in costs.items()}


def _round_us(function: Callable[[], object], calls: int) -> float:
    turns = range(calls)
    before = time.thread_time_ns()
    for _ in turns:
        function()
    return (time.thread_time_ns() - before) / calls / 1000
