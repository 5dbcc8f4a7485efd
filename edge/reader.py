"""The work of one bus' thread: ask the schedule, read the meter, hand over what it said.

Signs nothing and stores nothing; does not decide when to read (drivers.schedule), what to believe (drivers.bus) or what
is plausible (drivers.plausible).

Rules
- A reading's instant is taken right after the read.
- A meter is identified before its first reading, again after it was exchanged, and until it could be.
- What cannot be handed over because the writer is behind is dropped here; the writer finds the hole and signs it.
- While the disk is full nothing is read.
- Another configuration is taken between two reads. Of a meter that it leaves as it was, nothing is forgotten and no
  slot lost; one that has changed is described anew, and the end of one that is gone is handed over too.
"""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from drivers.bus import Bus as Line
from drivers.bus import Counters, Identity, MeterConfig
from drivers.reading import Reading, Status
from drivers.schedule import Cause, Schedule
from edge.config import Bus, Config, Meter
from edge.host import Clock
from edge.judge import Happening, Judge
from edge.past import Past
from edge.spool import Position
from edge.state import LOG, Cadence, MeterState, Pulse, State
from signer.chain import Descriptor
from signer.statement import Instant

QUEUE_ITEMS = 2000
"""Items between the buses and the writer, some 3 kB each: a minute of 32 meters at 1 s."""

PATIENCE_S = 60.0
"""A read of many requests with a timeout each stays below this; a thread silent for longer hangs."""

_LONGEST_WAIT_S = 5.0
"""A clock that is set while we wait for the next slot, or another configuration, is noticed after this time."""

_ASK_AGAIN_S = 300.0
"""A device that contradicts its map is asked who it is this often: somebody may put it right."""


class Taken(NamedTuple):
    """One read of one meter, and what began with it or was not yet said."""

    readings: tuple[Reading, ...]
    instant: Instant
    happened: tuple[Happening, ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """What a meter is from here on; ``identity`` is None while it cannot be reached."""

    meter: Meter
    period_ms: int
    identity: Identity | None
    instant: Instant

    @property
    def descriptor(self) -> Descriptor:
        """As statements say it."""
        meter, identity = self.meter, self.identity
        return Descriptor(
            self.period_ms,
            meter.map.digest,
            meter.map.name,
            meter.role,
            identity.serial if identity else "",
            meter.overrides.as_pairs(),
            identity.models if identity else (),
        )


@dataclass(frozen=True, slots=True)
class Lost:
    """Slots of a meter up to ``until_ms`` (exclusive) that nobody will read."""

    meter: Meter
    until_ms: int
    cause: Cause
    instant: Instant


@dataclass(frozen=True, slots=True)
class Gone:
    """Measuring points that there are no more."""

    subs: tuple[str, ...]
    instant: Instant


Item = Taken | Described | Lost | Gone


class Reader:
    """One line and its meters.

    Attributes:
        bus: what it is at present; None when it is to be read no more.
    """

    def __init__(
        self,
        bus: Bus,
        config: Config,
        positions: Mapping[str, Position],
        items: queue.SimpleQueue[object],
        clock: Clock,
        state: State,
        pulse: Pulse,
        recall: Callable[[str], Past | None] = lambda sub: None,
    ) -> None:
        """``recall`` tells what a measuring point said last before this run."""
        self.bus: Bus | None = bus
        self._changes: queue.SimpleQueue[tuple[Bus | None, Config]] = queue.SimpleQueue()
        self._meters = {meter.name: meter for meter in bus.meters}
        self._settlement_ms = config.settlement_period_ms
        self._positions = positions
        self._items = items
        self._clock = clock
        self._state = state
        self._pulse = pulse
        self._line = Line(bus.endpoint, _line_meters(bus))
        self._identities: dict[str, Identity | None] = dict.fromkeys(self._meters)
        self._judge = Judge()
        self._recall = recall
        self._unmet = set(self._meters)  # those that have not said in this run who they are
        self._untold: list[Happening] = []
        self._described: set[str] = set()
        self._asked_s: dict[str, float] = {}
        self._cadence = Cadence.NORMAL
        self._renewals = state.renewals
        self._periods: dict[str, int] = {}
        self._last: dict[str, int] = {}  # end of each meter's last slot that came from here
        self._schedule = self._plan()

    def run(self) -> None:
        """Read until told to stop, or until the line is gone."""
        while not self._state.stop.is_set():
            self._pulse.beat(PATIENCE_S)
            while not self._changes.empty():
                self._adopt(*self._changes.get())
            if self.bus is None:
                break
            wait_s = self._turn()
            if wait_s > 0:
                self._state.stop.wait(min(wait_s, _LONGEST_WAIT_S))
        self._line.close()

    def change(self, bus: Bus | None, config: Config) -> None:
        """The line is ``bus`` from the next turn on, within 5 s; None: it is read no more. Called by another thread."""
        self._changes.put((bus, config))

    def cut(self) -> bool:
        """From another thread: end what hangs on the line; False when there is none open."""
        return self._line.cut()

    def counters(self, name: str) -> Counters:
        """What happened with a meter since the start."""
        return self._line.counters.get(name) or Counters()

    def _turn(self) -> float:
        """Do what is due; seconds until there is something to do again."""
        cadence = self._state.cadence
        if cadence == Cadence.STOPPED:
            return 1.0
        if self._state.renewals != self._renewals:
            self._renewals = self._state.renewals
            self._last.clear()
            self._schedule = self._plan()
        if cadence != self._cadence:
            self._cadence = cadence
            self._schedule = self._plan()
            for name in self._described:
                self._describe(self._meters[name])
        now = self._clock.now()
        step = self._schedule.next(now.utc_ms, time.monotonic_ns() // 1_000_000)
        for missed in step.missed:
            if missed.meter not in self._described:
                continue  # missed before the start: the writer knows it from the spool
            until_ms = missed.last_ms + self._periods[missed.meter]
            self._hand_over(Lost(self._meters[missed.meter], until_ms, missed.cause, now))
        if step.meter is None:
            return step.wait_ms / 1000
        began_ms = time.monotonic_ns() // 1_000_000
        asked = self._read(self._meters[step.meter], step.slot_ms, began_ms + step.spare_ms)
        took_ms = max(1, time.monotonic_ns() // 1_000_000 - began_ms) if asked else 0
        self._schedule.learn(step.meter, took_ms, silent=self.counters(step.meter).failures > 0)
        return 0.0

    def _read(self, meter: Meter, slot_ms: int, until_ms: int) -> bool:
        """Read a meter for a slot, until a monotonic instant if it can be; whether it was asked."""
        if self._identities[meter.name] is None:
            self._identify(meter, (until_ms - time.monotonic_ns() // 1_000_000) / 1000)
            if meter.name not in self._described:
                self._describe(meter)
        readings = self._line.read(meter.name, slot_ms, (until_ms - time.monotonic_ns() // 1_000_000) / 1000)
        instant = self._clock.now()
        readings, happened = self._judge.judged(readings, instant)
        self._untold += happened
        if self._hand_over(Taken(readings, instant, tuple(self._untold))):
            self._untold.clear()
        self._last[meter.name] = slot_ms + self._periods[meter.name]
        status = readings[0].status
        self._note(meter, slot_ms, status)
        if status == Status.EXCHANGED or (status == Status.INCOMPATIBLE and self._is_to_be_asked_again(meter)):
            self._identify(meter)
        return readings[0].window_ms is not None

    def _is_to_be_asked_again(self, meter: Meter) -> bool:
        return time.monotonic() - self._asked_s.get(meter.name, 0.0) > _ASK_AGAIN_S

    def _identify(self, meter: Meter, spare_s: float = math.inf) -> None:
        self._asked_s[meter.name] = time.monotonic()
        identity = self._line.identify(meter.name, spare_s)
        if identity is not None:
            self._identities[meter.name] = identity
            self._judge.know(meter, identity.map)
            self._describe(meter)
            if meter.name in self._unmet:
                self._unmet.remove(meter.name)
                for sub in identity.map.subs(meter.name):
                    past = self._recall(sub)
                    if past is not None and past.is_of(self._description(meter).descriptor):
                        self._judge.remember(sub, past)

    def _describe(self, meter: Meter) -> None:
        self._described.add(meter.name)
        self._hand_over(self._description(meter))

    def _description(self, meter: Meter) -> Described:
        return Described(meter, self._periods[meter.name], self._identities[meter.name], self._clock.now())

    def _hand_over(self, item: Item) -> bool:
        """Whether there was room for it."""
        # A description and an end must not be lost, and there are few of them.
        if self._items.qsize() < QUEUE_ITEMS or isinstance(item, Described | Gone):
            self._items.put(item)
            return True
        self._state.dropped += 1
        self._state.alarms.raise_("writer", "is behind, readings are lost")
        return False

    def _note(self, meter: Meter, slot_ms: int, status: int | None) -> None:
        """Tell the status, and the log when it changed."""
        before = self._state.meters.get(meter.name)
        identity = self._identities[meter.name]
        if status is None:
            trouble = self._judge.trouble(meter.name)
        else:
            trouble = self.counters(meter.name).trouble or Status(status).name.lower().replace("_", " ")
        self._state.meters[meter.name] = MeterState(slot_ms, status, trouble, identity.serial if identity else "")
        if status != (before.status if before else None):
            if status is None:
                LOG.info("meter %s answers again", meter.name)
            else:
                LOG.warning("meter %s gives no values: %s", meter.name, trouble)
        elif status is None and trouble != (before.trouble if before else ""):
            if trouble:
                LOG.warning("meter %s is not plausible: %s", meter.name, trouble)
            else:
                LOG.info("meter %s is plausible again", meter.name)

    def _adopt(self, bus: Bus | None, config: Config) -> None:
        """Become another line; what stays as it was goes on as if nothing had happened."""
        before, old = self._meters, self.bus
        meters = {meter.name: meter for meter in bus.meters} if bus else {}
        subs = {sub for line in config.buses for meter in line.meters for sub in meter.subs}  # also of other lines
        gone = tuple(sub for meter in before.values() for sub in meter.subs if sub not in subs)
        if gone:
            self._hand_over(Gone(gone, self._clock.now()))
        for name, meter in before.items():
            if name not in meters:
                self._forget(meter)
            elif not _same_device(meter, meters[name]):
                self._judge.forget(meter)
                self._identities[name] = None
                self._described.discard(name)
                self._unmet.discard(name)
        self._unmet |= meters.keys() - before.keys()
        if bus is not None and old is not None:
            if bus.endpoint == old.endpoint:
                self._line.change(_line_meters(bus))
            else:
                self._line.close()
                self._line = Line(bus.endpoint, _line_meters(bus))
                self._identities = dict.fromkeys(self._identities)  # whoever answers there has to say who it is
        self._meters, self.bus, self._settlement_ms = meters, bus, config.settlement_period_ms
        self._identities = {name: self._identities.get(name) for name in meters}
        self._schedule = self._plan()
        for name in [name for name in self._described if meters[name] != before[name]]:
            identity = self._identities[name]
            if identity is None:
                self._described.discard(name)  # described before its next reading, when it was asked who it is
            else:
                self._judge.know(meters[name], identity.map)
                self._describe(meters[name])

    def _forget(self, meter: Meter) -> None:
        self._judge.forget(meter)
        self._described.discard(meter.name)
        self._unmet.discard(meter.name)
        for known in (self._last, self._asked_s, self._state.meters):
            known.pop(meter.name, None)

    def _plan(self) -> Schedule:
        """A schedule at the present cadence that goes on where the last one, or the spool, ends."""
        self._periods = {
            meter.name: max(meter.period_ms, self._settlement_ms) if self._cadence else meter.period_ms
            for meter in self._meters.values()
        }
        last = {}
        for meter in self._meters.values():
            until_ms = self._last.get(meter.name, self._stored_until(meter))
            if until_ms is not None:
                period_ms = self._periods[meter.name]
                last[meter.name] = -(-until_ms // period_ms) * period_ms - period_ms
        return Schedule(self._periods, self._settlement_ms, last)

    def _stored_until(self, meter: Meter) -> int | None:
        """End of the slots that all points of a meter are accounted for; what one has twice, the writer drops."""
        found = [self._positions[sub].until_ms for sub in meter.subs if sub in self._positions]
        return min((until_ms for until_ms in found if until_ms is not None), default=None)


def _line_meters(bus: Bus) -> list[MeterConfig]:
    return [MeterConfig(meter.name, meter.map, meter.unit, meter.overrides) for meter in bus.meters]


def _same_device(one: Meter, other: Meter) -> bool:
    """Whether what is known of a meter from asking it holds for the other one."""
    return (one.map, one.unit, one.overrides) == (other.map, other.unit, other.overrides)
