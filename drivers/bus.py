"""The owner of one line: reads whole meters, one after the other, and believes only what cannot be anything else.

Gives one Reading for each measuring point and slot, whatever happens; never raises for what a device or a line does,
never asks twice in one slot, and never keeps half a reading.

Rules
- All registers of a meter come from one consecutive set of requests; one failed request fails the set.
- A unit that fails is left alone for longer and longer (drivers.guard), and is tried only in the time that the others
  leave; they lose no slot to it.
- After each new connection, and when a unit was away, its serial number is read again: another number means another
  meter, and no value until :meth:`Bus.identify` was called. Nor has a unit values that contradicts its map.
- A range the meter refuses (exceptions 2 and 3) is split or left out, the set starts again, and an hour later the whole
  range is tried again: the device may only have been starting.
- When an answer may be believed: drivers.talk. When to read whom: drivers.schedule and the caller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from drivers import sunspec
from drivers.guard import LONGEST_PAUSE_S, TRY_SPACING_S, Guard
from drivers.identify import matches, text
from drivers.map import Field, Identify
from drivers.meter import Counters, Identity, Meter, MeterConfig
from drivers.modbus import Disconnected, Endpoint, ExceptionAnswer, ModbusError, Timeout, Wire, WrongAnswer
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, Request
from drivers.reading import Block, Reading, Status
from drivers.talk import Talk, from_gateway

__all__ = ["Bus", "Counters", "Identity", "MeterConfig"]

# A read this soon after a failed identification belongs to the same slot and is no second try.
SAME_SLOT_S = 0.05
# A refused range is tried whole again after this.
REFUSALS_LAST_S = 3600.0
# Ranges refused in one slot, so that a device which refuses everything does not hold the line.
MOST_REFUSALS = 8


class Bus:
    """One line and its meters; one thread owns it.

    Args:
        endpoint: the line.
        meters: its meters, with different names; two may share a unit.
        wire: the line's frames, for tests.
        monotonic, sleep: the clock, for tests.

    Attributes:
        counters: of each meter.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        meters: Sequence[MeterConfig],
        wire: Wire | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._talk = Talk(endpoint, wire or Wire(endpoint), monotonic, sleep)
        self._guards: dict[int, Guard] = {}
        self._meters: dict[str, Meter] = {}
        self._next_try = 0.0
        self.counters: Mapping[str, Counters] = {}
        self.change(meters)

    @property
    def connections(self) -> int:
        """How often the line was opened."""
        return self._talk.connections

    def change(self, meters: Sequence[MeterConfig]) -> None:
        """Other meters on the same line; of one whose configuration is the same, all stays known."""
        units = {config.unit for config in meters}
        before, guards = self._meters, {unit: guard for unit, guard in self._guards.items() if unit in units}
        overhead_bytes = RTU_OVERHEAD_BYTES if self._talk.rtu else TCP_OVERHEAD_BYTES
        found = {}
        for config in meters:
            known = before.get(config.name)
            stated_ms = config.map.timeout_ms
            guard = guards.setdefault(config.unit, Guard(stated_ms / 1000 if stated_ms else None))
            if known is None or known.config != config:
                known = Meter(config, guard, overhead_bytes)
            found[config.name] = known
        self._meters, self._guards = found, guards
        self.counters = {name: meter.counters for name, meter in found.items()}

    def close(self) -> None:
        """Gives the line back."""
        self._talk.close()

    def cut(self) -> bool:
        """From another thread: ends what hangs on the line, which is then opened again; False when it is not open."""
        return self._talk.cut()

    def read(self, name: str, slot_ms: int, spare_s: float = math.inf) -> tuple[Reading, ...]:
        """Reads one meter for one slot: one Reading for each of its measuring points.

        Args:
            name: the meter.
            slot_ms: start of the slot.
            spare_s: how long that may take before another meter's slot is in danger.
        """
        meter = self._meters[name]
        asked_at = self._monotonic()
        self._talk.latest_s = asked_at + spare_s
        if asked_at < meter.tried_at + SAME_SLOT_S or not self._reachable(meter):
            return meter.nothing(slot_ms, None)
        try:
            began, blocks = self._take(meter)
        except ModbusError as error:
            self._fail(meter, error)
            return meter.nothing(slot_ms, _milliseconds(self._monotonic() - asked_at))
        if not blocks:
            return meter.nothing(slot_ms, None)
        self._succeed(meter)
        return meter.readings(slot_ms, blocks, _milliseconds(meter.guard.heard_at - began))

    def identify(self, name: str, spare_s: float = math.inf) -> Identity | None:
        """Asks a meter who it is, and believes it from now on: after the start, and after it was exchanged.

        Args:
            name: the meter.
            spare_s: how long that may take before another meter's slot is in danger.

        Returns:
            None when it cannot be reached now.
        """
        meter = self._meters[name]
        self._talk.latest_s = self._monotonic() + spare_s
        if not self._reachable(meter):
            return None
        try:
            self._assure(meter)
            self._greet(meter)
            identity = self._ask_identity(meter)
        except ModbusError as error:
            self._fail(meter, error)
            meter.tried_at = self._monotonic()
            return None
        meter.identity, meter.exchanged, meter.checked = identity, False, self.connections
        meter.lay_out(identity.map)
        self._succeed(meter)
        if not identity.agrees:
            meter.counters.trouble = f"unit {meter.config.unit} is no {identity.map.manufacturer} {identity.map.model}"
        return identity

    # --- one set of requests ---

    def _take(self, meter: Meter) -> tuple[float, list[Block]]:
        """When the set began, and its words; no words when there is nothing to ask for."""
        self._assure(meter)
        if meter.checked != self._talk.connections:
            self._check_serial(meter)
        if meter.exchanged:
            meter.status = Status.EXCHANGED
            return 0.0, []
        if meter.identity is not None and not meter.identity.agrees:
            meter.status = Status.INCOMPATIBLE
            return 0.0, []
        if meter.refused_at is not None and self._monotonic() - meter.refused_at > REFUSALS_LAST_S:
            meter.lay_out(meter.map)
        refusals = 0
        while True:
            self._assure(meter)  # a refusal may have left it in doubt
            began = self._talk.pause(meter)
            blocks: list[Block] = []
            for request in meter.plan:
                try:
                    words = self._talk.ask(meter, request)
                except ExceptionAnswer as error:
                    refusals += 1
                    self._refused(meter, request, error, refusals)
                    break
                blocks.append(Block(request.function, request.address, words))
            else:
                return began, blocks

    def _refused(self, meter: Meter, request: Request, error: ExceptionAnswer, refusals: int) -> None:
        """A request of the plan was refused: plan without it, or give up for this slot by raising."""
        if error.code not in (2, 3):
            raise error
        if not meter.refuse(request, self._monotonic()):
            raise ExceptionAnswer(f"{error}; it refuses all of its map", 1)
        if refusals == MOST_REFUSALS:
            raise error

    # --- who is there ---

    def _assure(self, meter: Meter) -> None:
        """No late answer of the unit can come.

        Raises:
            ModbusError: one may.
        """
        if meter.guard.doubt is not None:
            self._talk.probe(meter, [other for other in self._meters.values() if other.guard is meter.guard])

    def _greet(self, meter: Meter) -> None:
        """At first contact: asks for what it is sure to know, so that one which is not there costs one request."""
        if meter.plan and not meter.counters.requests:
            try:
                self._talk.ask(meter, meter.plan[0])
            except ExceptionAnswer as error:
                if from_gateway(error):
                    raise

    def _check_serial(self, meter: Meter) -> None:
        """After a new connection or an absence: is it the same meter still?"""
        known = meter.identity.serial if meter.identity is not None else ""
        if known and meter.serial is not None:
            said = text(meter.serial, self._talk.ask(meter, _request(meter.serial)))
            meter.exchanged = said != known
            if meter.exchanged:
                meter.counters.trouble = f"serial number {said} instead of {known}: another meter"
        meter.checked = self.connections

    def _ask_identity(self, meter: Meter) -> Identity:
        meter_map = meter.config.map
        look = meter_map.identify
        if look is not None and look.expected:
            words = self._told(meter, look)
            if words is not None and not matches(look, words):
                return Identity("", (), meter_map, agrees=False)
        models: tuple[tuple[int, int], ...] = ()
        if meter_map.scheme == "sunspec":
            models = sunspec.discover(
                lambda function, address, count: self._found(meter, Field(function, address, count, "hex")),
                meter_map.bases,
            )
            meter_map = sunspec.layout(meter_map, models)
            if not meter_map.registers:
                return Identity("", models, meter_map, agrees=False)
        meter.serial = meter_map.identify.serial if meter_map.identify is not None else None
        words = self._told(meter, meter.serial) if meter.serial is not None else None
        serial = "" if words is None or meter.serial is None else text(meter.serial, words)
        return Identity(serial, models, meter_map)

    def _found(self, meter: Meter, field: Field) -> bytes:
        words = self._told(meter, field)
        if words is None:
            raise LookupError(f"no registers at {field.address}")
        return words

    def _told(self, meter: Meter, field: Field | Identify) -> bytes | None:
        """What an identification register says; None when the unit is there but does not tell.

        Raises:
            ModbusError: it is not there.
        """
        try:
            return self._talk.ask(meter, _request(field))
        except ExceptionAnswer as error:
            if from_gateway(error):
                raise
        except (Timeout, WrongAnswer):
            self._assure(meter)  # a unit that does not know a register may say nothing
        return None

    # --- how it went ---

    def _reachable(self, meter: Meter) -> bool:
        """Whether to ask the meter now: it is not left alone, and the line is open."""
        guard = meter.guard
        if guard.failures:
            now = self._monotonic()
            guard.alone = self._alone(guard)
            if guard.paused(now):
                return False
            overdue = now > guard.failed_at + LONGEST_PAUSE_S
            if not (guard.alone or overdue or self._talk.enough_time(meter)):
                return False
            if guard.failures > 1 or not guard.heard_at:
                if now < self._next_try:
                    return False
                self._next_try = now + 0.9 * TRY_SPACING_S
                # The next one while none answers: not before all others had theirs, however slots jitter.
                guard.turn_at = now + TRY_SPACING_S * (len(self._guards) - 0.5)
        trouble = self._talk.connected(self._meters.values())
        if trouble:
            meter.status = Status.DISCONNECTED
            meter.counters.trouble = trouble
        return not trouble

    def _succeed(self, meter: Meter) -> None:
        guard = meter.guard
        meter.counters.latency_s = guard.latency_s
        if meter.counters.trouble:
            meter.counters.trouble = ""
        if meter.counters.failures:  # units may be shared: the guard may be well already
            meter.counters.failures, meter.counters.pause_s = 0, 0.0
        if guard.failures:
            if self._alone(guard):
                for other in self._guards.values():
                    other.hurry()
            guard.succeeded()

    def _fail(self, meter: Meter, error: ModbusError) -> None:
        meter.status = _status(error)
        meter.counters.trouble = str(error)
        if isinstance(error, ExceptionAnswer) and not from_gateway(error):
            return  # a refusal costs the others nothing
        meter.guard.failed(self._monotonic())
        meter.counters.failures, meter.counters.pause_s = meter.guard.failures, meter.guard.pause_s
        if meter.guard.failures > 1:
            meter.checked = 0  # it was away: it may be another one when it comes back

    def _alone(self, guard: Guard) -> bool:
        """Whether no other unit of the line answers."""
        return all(other.failures for other in self._guards.values() if other is not guard)


def _request(field: Field | Identify) -> Request:
    return Request(field.function, field.address, field.count)


def _status(error: ModbusError) -> Status:
    match error:
        case Timeout():
            return Status.TIMEOUT
        case Disconnected():
            return Status.DISCONNECTED
        case ExceptionAnswer() if from_gateway(error):
            return Status.TIMEOUT
        case ExceptionAnswer(code=1):
            return Status.INCOMPATIBLE
    return Status.READ_ERROR


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 0.5)
