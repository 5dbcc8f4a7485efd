"""The work of the writer's thread: what the buses say becomes signed statements on disk. The only one who signs.

Reads no meter and sends nothing.

Rules
- What is ready within 50 ms on all lines goes into one transaction; when that fails the chain goes back to the stored
  head.
- A slot of a point is accounted for once: what comes twice is dropped, a hole before a reading becomes a signed gap. So
  nothing that is lost anywhere on the way here is lost silently.
- Before a point's first reading of a run comes its descriptor; another one when what it says has changed.
- A step of the clock is said before anything that carries the new time.
- Past 80 % of the disk budget the cadence falls, at 100 % and on a full disk reading stops; both are said.
- A stream that the ledgers contradict is left, and what they lack is said again in the new one before anything else.
- A clock set back far, for a moment (edge.setback), begins a new stream, so that measuring goes on.
- What a technician's command asks for (edge.requests) is said within a second, once.
- A point that is gone ends with an event: no slot behind it is owed. When it comes back, a gap covers the time between.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.map import MeterMap
from drivers.reading import Reading, Status
from drivers.schedule import STEP_MS, slot_of
from edge.config import Config
from edge.database import SpoolFull
from edge.host import Clock, StepWatch, boot_id, software_digest
from edge.identity import Identity
from edge.reader import Described, Gone, Lost, Taken
from edge.requests import Begun, Desk
from edge.setback import SetBack, hold_s, lapse
from edge.spool import Position, Process, Spool
from edge.state import LOG, Cadence, Pulse, State, words_of
from edge.succession import Succession
from signer.chain import Chain, Descriptor, Head
from signer.codes import BootReason, ClockSource, ClockStatus, EventCode, GapReason
from signer.errors import Malformed
from signer.grammar import MAX_TEXT_BYTES
from signer.statement import Instant, Statement

VERSION = "0.1.0"
"""Of the software, as boot statements say it."""

GROUP_S = 0.05
"""What is ready on all lines within this time shares a transaction: an eighth of the bytes at 32 meters."""

PATIENCE_S = 60.0
"""A card that takes longer for one fsync does not come back."""

_MOST_ITEMS = 512
"""Of one transaction: 32 meters that all ask for a quarter of a minute."""

_PRUNE_AT, _SLOW_AT, _STOP_AT = 0.7, 0.8, 1.0
_EASE = 0.05
_MEANS = {
    Cadence.NORMAL: "reading as configured",
    Cadence.SETTLEMENT: "settlement readings only",
    Cadence.STOPPED: "reading has stopped",
}
"""Parts of the disk budget; a state ends this much below where it began, so that it does not flutter."""

_PRUNE_RUNS = 16
_PRUNE_STEPS = 8
"""Runs given up at a time and times in a second: 4,000 statements a second at 32 meters, 0.1 s of work."""

_RETRY_FULL_S = 5.0
"""A full disk is tried again this often."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A second has passed."""

    instant: Instant


@dataclass(frozen=True, slots=True)
class NewStream:
    """The ledgers contradict the stream in use.

    Attributes:
        known: the stream, the ledgers' last seq of it, and its sid.
        abandon_from: first local seq that they will never take.
        done: set when it was tried; the sender then looks at the spool's head.
    """

    known: Head
    abandon_from: int
    done: threading.Event


@dataclass(frozen=True, slots=True)
class Changed:
    """Another configuration is in force.

    Attributes:
        config: it.
        words: what is different.
    """

    config: Config
    words: str


class Stop:
    """Nothing follows."""


@dataclass(slots=True)
class _Group:
    """What one transaction is made of, until it is stored."""

    made: list[Statement] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)
    descriptors: dict[str, Descriptor] = field(default_factory=dict)
    maps: list[MeterMap] = field(default_factory=list)
    measured: set[int] = field(default_factory=set)  # seqs of readings with values
    begun: set[str] = field(default_factory=set)  # points whose first reading of this run is among it
    gone: set[str] = field(default_factory=set)  # points that there are no more
    fulfilled: list[tuple[Begun, list[Statement]]] = field(default_factory=list)


class Writer:
    """The chain and the spool.

    Attributes:
        boots: boot counters of the runs that are known to have been since the machine started.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        spool: Spool,
        items: queue.SimpleQueue[object],
        clock: Clock,
        state: State,
        pulse: Pulse,
    ) -> None:
        self._config = config
        self._identity = identity
        self._spool = spool
        self._items = items
        self._clock = clock
        self._state = state
        self._pulse = pulse
        previous = spool.process()
        self._previous = previous
        self._chain = Chain(config.gateway, identity.key, spool.head, previous.boot + 1 if previous else 1)
        self.boots: tuple[int, ...] = (self._chain.boot,)
        self._watch = StepWatch()
        self._setback = SetBack(config.settlement_period_ms)
        self._moved_ms = 0  # by how much the clock was moved since the last reading
        self._descriptors: dict[str, Descriptor] = {}  # as said in this run
        self._why = dict.fromkeys(spool.positions, GapReason.NOT_RUNNING)  # for the next hole of a point
        self._owed: list[Described | Gone | Changed] = []  # what a transaction that failed was to say
        self._succession = Succession(spool, self._chain, identity.certificates)
        self._desk = Desk(config.spool, state.alarms.note)
        self._subs = _subs(config)
        self._full_since_s: float | None = None
        self._events: list[str] = []  # on the disk budget, not yet said
        self._dropped = 0  # readings that the buses had lost a second ago

    # ---- the start

    def begin(self, ended: str) -> None:
        """Genesis if there is none, and the boot statement; ``ended``: how the last run ended, if it could say.

        Raises:
            SpoolProblem: it cannot be stored.
        """
        now, last, previous = self._clock.now(), self._spool.last_instant(), self._previous
        host_boot = boot_id()
        if last is not None and previous is not None and previous.host_boot == host_boot:
            self._watch.step_ms(last)  # so that a clock set meanwhile is noticed
        made = []
        if self._spool.head is None:
            aside = self._spool.was_set_aside
            recovered = (aside.head.stream, aside.head.seq, aside.head.sid) if aside and aside.head else None
            made.append(self._chain.genesis(now, self._identity.certificates, recovered))
        elif last is not None and self._watch.newest is None:
            self._moved_ms = min(0, now.utc_ms - last.utc_ms)  # at least: nobody knows how long the machine was off
        self._say_step(now, made)
        reason = boot_reason(previous, host_boot, ended)
        began = self._chain.head.seq + 1 if self._chain.head else 0
        last_ms = last.utc_ms if last else 0
        made.append(self._chain.boot_statement(now, reason, last_ms, software_digest(), VERSION))
        matched = previous.matched if previous else None
        if previous is not None and host_boot and previous.host_boot == host_boot:
            self.boots = (previous.boot, self._chain.boot)
        process = Process(self._chain.boot, host_boot, VERSION, began, "", matched)
        self._store(made, process=process)
        LOG.info("boot %d (%s), seq %d", self._chain.boot, reason.name.lower(), began)

    def run(self) -> None:
        """Sign and store until :class:`Stop` comes."""
        while True:
            self._pulse.beat(PATIENCE_S)
            items = self._ready()
            stops = [item for item in items if isinstance(item, Stop)]
            self.take([item for item in items if not isinstance(item, Stop)])
            if stops:
                return

    def _ready(self) -> list[object]:
        """What is there, after waiting for the first item and a moment more."""
        try:
            items = [self._items.get(timeout=5.0)]
        except queue.Empty:
            return []
        if not self._state.stop.is_set():
            time.sleep(GROUP_S)
        try:
            while len(items) < _MOST_ITEMS:
                items.append(self._items.get_nowait())
        except queue.Empty:
            pass
        return items

    def take(self, items: Sequence[object]) -> None:
        """Do what one group of items asks for.

        Raises:
            SpoolProblem: one that waiting does not mend.
        """
        ticks = [item for item in items if isinstance(item, Tick)]
        streams = [item for item in items if isinstance(item, NewStream)]
        if ticks:
            self._keep_budget()
            self._watch_the_queue()
        if self._full_since_s is None or time.monotonic() - self._full_since_s > _RETRY_FULL_S:
            self._write([*items, *self._orders()] if ticks else items)
        else:
            self._owe(items)
        for stream in streams:
            self._begin_stream(stream)
        if ticks and self._full_since_s is None:
            self._mind_the_clock()

    def _write(self, items: Sequence[object]) -> None:
        """Store what the items say; a full disk gets a second chance after pruning."""
        for last_chance in (False, True):
            newest, moved_ms = self._watch.newest, self._moved_ms
            try:
                self._carry_on()
                group = self._group(items)
                if group.made:
                    self._store(group.made, group)
                break
            except SpoolFull as full:
                self._chain.head = self._spool.head
                self._watch.newest, self._moved_ms = newest, moved_ms
                if last_chance or not self._prune():
                    self._stop_reading(words_of(full))
                    self._owe(items)
                    return
        if group.made and self._full_since_s is not None:
            self._full_since_s = None
            self._state.alarms.clear("disk", "there is room again")
            self._resume(Cadence.NORMAL)

    def _orders(self) -> list[Begun]:
        """What technicians ask for."""
        head = self._spool.head
        return self._desk.orders(self._spool, head, self._descriptors, self._subs) if head else []

    def _owe(self, items: Sequence[object]) -> None:
        """Readings are lost and will be a gap; what points there are is said as soon as there is room."""
        self._owed += [item for item in items if isinstance(item, Described | Gone | Changed)]

    # ---- from what was read to statements

    def _group(self, items: Sequence[object]) -> _Group:
        group = _Group()
        now = self._clock.now()
        for words in self._events:
            group.made.append(self._chain.event("-", now, EventCode.DISK_BUDGET, None, words))
        if self._full_since_s is not None and not self._events:
            group.made.append(self._chain.event("-", now, EventCode.DISK_BUDGET, None, "the disk was full"))
        for item in (*self._owed, *items):
            match item:
                case Taken():
                    self._say_step(item.instant, group.made)
                    for reading in item.readings:
                        self._reading(group, reading, item.instant)
                    for sub, event in item.happened:
                        if self._described(group, sub):
                            said = self._chain.event(sub, item.instant, event.code, event.key, event.words)
                            group.made.append(said)
                case Described():
                    self._describe(group, item)
                case Lost():
                    for sub in item.meter.subs:
                        if self._described(group, sub):
                            self._cover(group, sub, item.until_ms, GapReason(item.cause), item.instant)
                case Gone():
                    self._end(group, item)
                case Changed():
                    self._config, self._subs = item.config, _subs(item.config)
                    self._setback.limit_ms = item.config.settlement_period_ms
                    group.made.append(
                        self._chain.event("-", now, EventCode.CONFIGURATION_CHANGED, None, _cut(item.words))
                    )
                case Begun():
                    self._fulfil(group, item)
                case Tick():
                    self._say_step(item.instant, group.made)
        return group

    def _fulfil(self, group: _Group, begun: Begun) -> None:
        """Say what a technician's order asks for."""
        instant = self._clock.now()
        self._say_step(instant, group.made)
        head = self._chain.head
        try:
            made = begun.order.say(self._chain, instant, {**self._descriptors, **group.descriptors})
        except ValueError as error:
            self._chain.head = head
            self._desk.refuse(begun, str(error))
            return
        group.made += made
        group.fulfilled.append((begun, made))

    def _end(self, group: _Group, item: Gone) -> None:
        """Points end: what their line still owed is a gap, and behind the event nothing is owed."""
        for sub in item.subs:
            described = self._described(group, sub)
            if described is None:
                continue
            until_ms = item.instant.utc_ms // described.period_ms * described.period_ms
            reason = GapReason.DISK_FULL if self._state.cadence == Cadence.STOPPED else GapReason.OVERLOAD
            self._cover(group, sub, until_ms, reason, item.instant)
            words = "removed from the configuration"
            group.made.append(self._chain.event(sub, item.instant, EventCode.CONFIGURATION_CHANGED, None, words))
            group.gone.add(sub)
            group.descriptors.pop(sub, None)

    def _described(self, group: _Group, sub: str) -> Descriptor | None:
        """What a point is, None when there is no such point."""
        return group.descriptors.get(sub) or (None if sub in group.gone else self._descriptors.get(sub))

    def _reading(self, group: _Group, reading: Reading, instant: Instant) -> None:
        sub = reading.sub
        described = self._described(group, sub)
        if described is None:
            return  # a point that its meter's layout no longer has
        period_ms = described.period_ms
        due_ms = self._due_ms(group, sub, period_ms)
        if due_ms is not None and reading.slot_ms < due_ms:
            return  # accounted for already
        self._cover(group, sub, reading.slot_ms, GapReason.OVERLOAD, instant)
        group.made.append(self._signed(group, reading, instant))
        group.positions[sub] = Position(reading.slot_ms + period_ms, period_ms)
        group.begun.add(sub)
        self._moved_ms = 0

    def _signed(self, group: _Group, reading: Reading, instant: Instant) -> Statement:
        """The reading's statement; one without values when the format cannot hold what the device sent."""
        try:
            made = self._chain.reading(reading, instant)
            if reading.values:
                group.measured.add(made.seq)
            return made
        except Malformed as error:
            self._state.alarms.raise_(f"meter {reading.sub}", f"sent what no statement can hold: {error}")
            empty = Reading(reading.sub, reading.slot_ms, Status.OTHER, (), reading.window_ms)
            return self._chain.reading(empty, instant)

    def _cover(self, group: _Group, sub: str, until_ms: int, reason: GapReason, instant: Instant) -> None:
        """A gap from the first slot that is not accounted for up to ``until_ms``, if there is any."""
        described = self._described(group, sub)
        assert described is not None
        period_ms = described.period_ms
        due_ms = self._due_ms(group, sub, period_ms)
        if due_ms is None or due_ms >= until_ms:
            return
        if sub not in group.begun:
            reason = self._why.get(sub, reason)
        missing = (until_ms - due_ms) // period_ms
        group.made.append(self._chain.gap(sub, instant, reason, due_ms, until_ms, missing))
        group.positions[sub] = Position(until_ms, period_ms)

    def _due_ms(self, group: _Group, sub: str, period_ms: int) -> int | None:
        """Start of the first slot of a point that is not accounted for; None when it never had one."""
        position = group.positions.get(sub) or self._spool.positions.get(sub)
        if position is None or position.until_ms is None:
            return None
        return -(-position.until_ms // period_ms) * period_ms

    def _describe(self, group: _Group, item: Described) -> None:
        meter, identity = item.meter, item.identity
        meter_map = identity.map if identity else meter.map
        said = item.descriptor
        for sub in meter_map.subs(meter.name):
            before = self._described(group, sub)
            if said == before:
                continue
            group.made.append(self._chain.descriptor(sub, item.instant, said))
            if before and before.serial and said.serial and before.serial != said.serial:
                words = f"{before.serial} -> {said.serial}"
                code = EventCode.SERIAL_NUMBER_CHANGED
                group.made.append(self._chain.event(sub, item.instant, code, None, words))
            group.descriptors[sub] = said
            group.maps.append(meter.map)
            until_ms = (group.positions.get(sub) or self._spool.positions.get(sub) or Position(None, None)).until_ms
            group.positions[sub] = Position(until_ms, item.period_ms)

    def _say_step(self, instant: Instant, made: list[Statement]) -> None:
        step_ms = self._watch.step_ms(instant)
        if step_ms:
            self._moved_ms += step_ms
            made.append(self._chain.clock(instant, step_ms, _source(instant)))
            LOG.warning("the clock was moved by %+d ms", step_ms)

    def _store(self, made: list[Statement], group: _Group | None = None, process: Process | None = None) -> None:
        group = group or _Group()
        self._spool.append(made, group.positions, process, maps=group.maps, measured=group.measured)
        for sub in group.gone:
            self._descriptors.pop(sub, None)
            self._why[sub] = GapReason.NOT_RUNNING
            self._state.alarms.clear(f"meter {sub}", "is no more")
        self._descriptors.update(group.descriptors)
        for sub in group.begun:
            self._why.pop(sub, None)
        for begun, said in group.fulfilled:
            assert self._spool.head is not None
            self._desk.fulfilled(begun, self._spool.head.stream, said)
        self._owed.clear()
        self._events.clear()

    # ---- the disk

    def _keep_budget(self) -> None:
        """Prune, and set the cadence by what is left."""
        budget = self._config.budget_bytes
        used = self._spool.used_bytes()
        for _ in range(_PRUNE_STEPS):
            if used <= _PRUNE_AT * budget or not self._prune():
                break
            used = self._spool.used_bytes()
        if self._full_since_s is not None:
            return
        level, cadence = used / budget, self._state.cadence
        due = cadence_at(level, cadence)
        if due != cadence:
            self._change(due, f"{level:.0%} of the disk budget are used: {_MEANS[due]}")

    def _change(self, cadence: Cadence, words: str) -> None:
        self._events.append(words)
        if cadence == Cadence.NORMAL:
            self._state.alarms.clear("disk budget", words)
        else:
            self._state.alarms.raise_("disk budget", words)
        self._resume(cadence)

    def _resume(self, cadence: Cadence) -> None:
        if self._state.cadence == Cadence.STOPPED:
            self._why.update(dict.fromkeys(self._spool.positions, GapReason.DISK_FULL))
        self._state.cadence = cadence

    def _stop_reading(self, words: str) -> None:
        self._full_since_s = time.monotonic()
        self._state.cadence = Cadence.STOPPED
        self._state.alarms.raise_("disk", words)

    def _watch_the_queue(self) -> None:
        """The alarm that readings are lost ends when a second passed without a loss."""
        if self._state.dropped == self._dropped:
            self._state.alarms.clear("writer", "keeps up again")
        self._dropped = self._state.dropped

    def _prune(self) -> int:
        try:
            return self._spool.prune(_PRUNE_RUNS)
        except SpoolFull:
            return 0

    # ---- another stream

    def _begin_stream(self, order: NewStream) -> None:
        """Leave the stream in use, unless that was done already."""
        try:
            streams = self._spool.streams()
            if any(stream.id == order.known.stream and stream.abandoned_from is None for stream in streams):
                self._succession.begin(self._clock.now(), order.known, order.abandon_from)
                self._carry_on()
        except SpoolFull as full:
            self._chain.head = self._spool.head
            self._stop_reading(words_of(full))
        finally:
            order.done.set()

    def _mind_the_clock(self) -> None:
        """Wait for a clock that stands a little behind what is accounted for; count anew when that is no answer."""
        now, positions = self._clock.now(), self._spool.positions
        known = {sub: positions[sub] for sub in self._subs if sub in positions}
        newest_ms = max((each.until_ms - (each.period_ms or 0) for each in known.values() if each.until_ms), default=0)
        behind_ms = newest_ms - now.utc_ms
        counts_anew = self._setback.look(now, behind_ms)
        if behind_ms < STEP_MS:
            self._state.alarms.clear("clock", "has passed the last slot again")
        elif not counts_anew:
            follows = f"a new stream begins when it stays so for {hold_s(now):.0f} s"
            words = follows if self._setback.is_too_far(behind_ms) else "nothing is read until it has passed it"
            said = f"stands {lapse(behind_ms)} behind the last slot that was read: {words}"
            self._state.alarms.raise_("clock", said, words)
        else:
            self._count_anew(now, newest_ms, known)

    def _count_anew(self, now: Instant, newest_ms: int, known: Mapping[str, Position]) -> None:
        """Begin a stream by the new time. What was not read since the clock was set becomes a gap in it."""
        since, head = self._setback.since, self._spool.head
        assert since is not None
        assert head is not None
        from_ms = min(since.utc_ms, now.utc_ms)
        periods = {sub: each.period_ms for sub, each in known.items() if each.period_ms}
        anew = {sub: Position(slot_of(from_ms, period_ms), period_ms) for sub, period_ms in periods.items()}
        step_ms = self._moved_ms if self._moved_ms < 0 else now.utc_ms - newest_ms
        try:
            said = {sub: each for sub, each in self._descriptors.items() if sub in self._subs}
            self._succession.follow(now, step_ms, _source(now), anew, said)
        except SpoolFull as full:
            self._chain.head = head
            self._stop_reading(words_of(full))
            return
        self._why.update(dict.fromkeys(anew, GapReason.CLOCK))
        self._setback.since, self._moved_ms = None, 0
        self._state.renewals += 1
        self._state.alarms.clear("clock", "slots are counted anew")
        self._state.alarms.note(
            f"the clock was set back by {lapse(-step_ms)}; slots are counted anew, in a stream that names"
            f" seq {head.seq} of {head.stream.hex()}; try: see that the clock is right (timedatectl)",
            "new stream",
        )

    def _carry_on(self) -> None:
        """Say again what an abandoned stream said and the ledgers lack, all of it before anything new."""
        while self._succession.step(self._clock.now(), self._descriptors):
            self._pulse.beat(PATIENCE_S)


def _source(instant: Instant) -> ClockSource:
    """Who moved the clock, as far as can be told."""
    return ClockSource.NTP if instant.clock == ClockStatus.SYNCHRONISED else ClockSource.UNKNOWN


def _subs(config: Config) -> frozenset[str]:
    """All measuring points that there are."""
    return frozenset(sub for bus in config.buses for meter in bus.meters for sub in meter.subs)


def _cut(words: str) -> str:
    """As much as a statement holds."""
    data = words.encode()
    return words if len(data) <= MAX_TEXT_BYTES else data[: MAX_TEXT_BYTES - 4].decode(errors="ignore") + " ..."


def cadence_at(level: float, cadence: Cadence) -> Cadence:
    """What the part of the disk budget that is used asks for, from a cadence that may be kept for a while."""
    if level >= _STOP_AT:
        return Cadence.STOPPED
    if level < _SLOW_AT - _EASE or (level < _SLOW_AT and cadence == Cadence.NORMAL):
        return Cadence.NORMAL
    if level < _STOP_AT - _EASE or cadence != Cadence.STOPPED:
        return Cadence.SETTLEMENT
    return Cadence.STOPPED


def boot_reason(previous: Process | None, host_boot: str, ended: str) -> BootReason:
    """Why this process started, as far as can be known from the run before."""
    if previous is None:
        return BootReason.UNKNOWN
    if ended == "watchdog":
        return BootReason.WATCHDOG
    if previous.ended == "clean":
        return BootReason.UPDATE if previous.version != VERSION else BootReason.RESTART
    if previous.host_boot and host_boot and previous.host_boot != host_boot:
        return BootReason.POWER
    return BootReason.CRASH
