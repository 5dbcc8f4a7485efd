"""One day of one home: the spans of whole minutes in which nothing changes, and what flows in each of them.

Pure: a function of household and day. A day stands alone, because a battery is at its reserve whenever one begins: what
is left in it goes out in the last three hours, evenly. So any day is known without the one before it.

Rules
- Integers throughout. What a battery holds counts in parts of a watt-minute in which its losses come out even.
- A battery uses only what it can give back in those three hours; a fifth stays in it.
- A remainder of less than a watt in the last minute of a day stays with the battery's own electronics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from hw_sim import car, demand, sun
from hw_sim.car import Car
from hw_sim.demand import Phases
from hw_sim.figures import Flow, flow
from hw_sim.sun import Roof
from hw_sim.year import MINUTES_A_DAY, Today

Flows = tuple[Flow, Flow, Flow, Flow]
POINTS = ("grid", "load", "pv", "battery", "ev")
_T = TypeVar("_T")

# Battery and inverter lose a twentieth each way; a held part is 1/380 W min, so that both ways are whole numbers.
_PARTS = 380
_PARTS_IN, _PARTS_OUT = 361, 400
# What is left goes out from here on; the last minute is one of its own, so that little is left over.
_OUT_FROM, _LAST = MINUTES_A_DAY - 180, MINUTES_A_DAY - 1
_RESERVE_PERCENT = 20
# Tariffs change with the full hour.
_TARIFFS_MIN = 60


@dataclass(frozen=True, slots=True)
class Battery:
    """A store behind the grid meter that keeps the grid's power at zero as long as it can.

    Attributes:
        capacity_wh: usable energy.
        power_w: most that goes in or out.
    """

    capacity_wh: int
    power_w: int

    @property
    def reserve(self) -> int:
        """Parts in it when a day begins, and least."""
        return self.capacity_wh * 60 * _PARTS * _RESERVE_PERCENT // 100

    @property
    def full(self) -> int:
        """Most parts in it."""
        return min(self.capacity_wh * 60 * _PARTS, self.reserve + self.power_w * 180 * _PARTS_OUT)

    def percent(self, parts: int) -> int:
        """Millionths of a percent of charge."""
        return parts * 100_000_000 // (self.capacity_wh * 60 * _PARTS)


@dataclass(frozen=True, slots=True)
class Household:
    """What a home is.

    Attributes:
        name: with the seed it makes the home's days.
        seed: another seed, other days.
        phases: 1 or 3.
        size: percent of an average household's consumption.
        roof: its photovoltaics, None without.
        roof_phases: phases of the inverter and the battery.
        battery: None without.
        car: None without.
    """

    name: str = "home"
    seed: int = 0
    phases: int = 3
    size: int = 100
    roof: Roof | None = None
    roof_phases: int = 1
    battery: Battery | None = None
    car: Car | None = None


class Span(NamedTuple):
    """Some minutes in which nothing changes.

    Attributes:
        start, end: minutes of the day, from and before.
        load: what the household draws on each phase, without the car.
        generated_w, charged_w: of the roof, of the car.
        stored_w: what goes into the battery, out: negative.
        held: parts in the battery at the start.
    """

    start: int
    end: int
    load: Phases
    generated_w: int
    charged_w: int
    stored_w: int
    held: int

    def held_after(self, thousandths_ms: int) -> int:
        """Parts in the battery when that much of the span's power has flowed (a minute: 60 million)."""
        a_minute = self.stored_w * (_PARTS_IN if self.stored_w > 0 else _PARTS_OUT)
        return self.held + a_minute * thousandths_ms // 60_000_000


def live(household: Household, seed: int, climate: int, today: Today) -> list[Span]:
    """All spans of a day.

    Args:
        household: whose.
        seed: of the household, from its own seed and its name.
        climate: seed of the weather.
        today: the day.
    """
    load = demand.draw(seed, climate, today, household.size)
    if household.phases == 1:
        load = [(minute, _on_one(phases)) for minute, phases in load]
    generated = sun.shine(household.roof, climate, today) if household.roof else [(0, 0)]
    charged = car.charge(household.car, seed, today) if household.car else [(0, 0)]
    battery = household.battery
    held = battery.reserve if battery else 0
    cuts = set(range(0, MINUTES_A_DAY, _TARIFFS_MIN))
    cuts |= {minute for steps in (load, generated, charged) for minute, _ in steps}
    if battery:
        cuts |= {_OUT_FROM, _LAST}
    starts = sorted(cuts)
    spans = []
    draws, shines, drives = _Reader(load), _Reader(generated), _Reader(charged)
    for start, end in zip(starts, [*starts[1:], MINUTES_A_DAY], strict=True):
        drawn, generated_w, charged_w = draws.at(start), shines.at(start), drives.at(start)
        stored_w = 0
        if battery:
            surplus_w = generated_w - charged_w - sum(watts for watts, _ in drawn)
            stored_w = _stored_w(battery, held, surplus_w, start, end)
        span = Span(start, end, drawn, generated_w, charged_w, stored_w, held)
        held = span.held_after((end - start) * 60_000_000)
        spans.append(span)
    return spans


def flows(household: Household, point: str, span: Span) -> Flows:
    """What flows at a point in a span: L1, L2, L3 and the whole; import positive."""
    active, reactive = [0, 0, 0], [0, 0, 0]
    if point in ("load", "grid"):
        (active[0], reactive[0]), (active[1], reactive[1]), (active[2], reactive[2]) = span.load
    if point in ("pv", "grid") and span.generated_w:
        for phase, share in enumerate(_shares(span.generated_w, household.roof_phases)):
            active[phase] -= share
            # An inverter at its set power factor of nearly 1.
            reactive[phase] -= share // 40
    if point in ("battery", "grid") and span.stored_w:
        for phase, share in enumerate(_shares(span.stored_w, household.roof_phases)):
            active[phase] += share
    if point in ("ev", "grid") and span.charged_w and household.car:
        for phase, share in enumerate(_shares(span.charged_w, household.car.phases)):
            active[phase] += share
            reactive[phase] += share // 50
    first, second, third = map(flow, active, reactive)
    return first, second, third, flow(sum(active), sum(reactive))


class _Reader(Generic[_T]):
    """A list of (minute, value from then on), read forward."""

    def __init__(self, steps: Sequence[tuple[int, _T]]) -> None:
        self._steps: Iterator[tuple[int, _T]] = iter(steps)
        self._next = next(self._steps, None)
        self._now: _T | None = None

    def at(self, minute: int) -> _T:
        while self._next is not None and self._next[0] <= minute:
            self._now = self._next[1]
            self._next = next(self._steps, None)
        assert self._now is not None
        return self._now


def _on_one(phases: Phases) -> Phases:
    return (sum(watts for watts, _ in phases), sum(var for _, var in phases)), (0, 0), (0, 0)


def _stored_w(battery: Battery, held: int, surplus_w: int, start: int, end: int) -> int:
    """What goes into the battery in a span (out: negative)."""
    minutes = end - start
    most_w = (battery.full - held) // (_PARTS_IN * minutes)
    spare = held - battery.reserve
    if start >= _OUT_FROM:
        surplus_w = min(surplus_w, -(spare // (_PARTS_OUT * (MINUTES_A_DAY - start))))
    least_w = -(spare // (_PARTS_OUT * minutes))
    return max(-battery.power_w, least_w, min(battery.power_w, most_w, surplus_w))


def _shares(power_w: int, phases: int) -> tuple[int, ...]:
    """The phases' parts of a power on one or three; they add up."""
    if phases == 1:
        return (power_w,)
    third = power_w // 3
    return power_w - 2 * third, third, third
