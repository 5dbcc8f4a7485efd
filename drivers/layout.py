"""What is checked of readings that have one set of quantities, as data: indexes into the values, and limits.

Judges nothing and works nothing out: drivers.checks fills it in, drivers.plausible uses it.

Rules
- Numbers are whole billionths of their unit; ``at`` is an index into a reading's values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Meter(NamedTuple):
    """One counter of a layout.

    Attributes:
        at: of its value in the reading.
        slot: of its memory in the state.
        key: packed OBIS key.
        rate: most it may gain in a millisecond.
        slack: by how much more it may be off.
        turns: numbers at which it may start again from zero.
        is_float: its steps grow with its number.
        resettable: somebody may set it to zero, and that is no event.
    """

    at: int
    slot: int
    key: int
    rate: int
    slack: int
    turns: tuple[int, ...]
    is_float: bool
    resettable: bool


class Within(NamedTuple):
    """The size of one value never exceeds another's, but for a twentieth and ``slack``."""

    at: int
    bound: int
    slack: int


class Phase(NamedTuple):
    """Power, voltage and current of one phase; ``slack``: of the power."""

    name: str
    power: int
    voltage: int
    current: int
    slack: int


class Sum(NamedTuple):
    """A total and its phases."""

    total: int
    parts: tuple[int, ...]
    slack: int


class Direction(NamedTuple):
    """A power that has a role: ``sign * value`` is positive when it does what the role says."""

    at: int
    slot: int
    key: int
    sign: int


class Balance(NamedTuple):
    """Energies and the powers that they follow from, as indexes; None where there is none.

    Attributes:
        net: the signed power.
        drawn, fed: its two parts, where there is no signed one.
        taken, given: imported and exported energy.
        step: coarsest step of the energies.
        least_ms: how long a window is at least.
        patient: a generator's, whose power is not available at night.
    """

    net: int | None
    drawn: int | None
    fed: int | None
    taken: int | None
    given: int | None
    step: int
    least_ms: int
    patient: bool


class Layout(NamedTuple):
    """All checks of readings with one set of quantities.

    Attributes:
        keys: of the readings.
        lows, highs: limits of each value.
        rated: keys of what the installation's rating limits.
        bands: (low, high) of voltages that are in order.
        live: of voltages and frequency: their index -> the index of a current that shows whether they matter, or None.
        spare: indexes of voltages of phases that an installation may not have.
        codes: numbers that are patterns of "not available"; `short`: those of 16 bits.
        meters: counters.
        within, phases, sums: what belongs together.
        directions: powers with a role; `load`: it is to draw, not to deliver.
        balance: energy and power, None where one of them is missing.
        powers: indexes of active powers.
        noise: (index, least number) of what never stands still.
    """

    keys: tuple[int, ...]
    lows: tuple[int, ...]
    highs: tuple[int, ...]
    rated: frozenset[int]
    bands: tuple[tuple[int, int], ...]
    live: Mapping[int, int | None]
    spare: frozenset[int]
    codes: frozenset[int]
    short: frozenset[int]
    meters: tuple[Meter, ...]
    within: tuple[Within, ...]
    phases: tuple[Phase, ...]
    sums: tuple[Sum, ...]
    directions: tuple[Direction, ...]
    load: bool
    balance: Balance | None
    powers: tuple[int, ...]
    noise: tuple[tuple[int, int], ...]
