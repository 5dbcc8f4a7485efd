"""One meter on a line as its bus knows it: configuration, who it says it is, what is asked of it, and how that went.

Never does I/O.

Rules
- A range the meter refuses is split, or left out when it cannot be split, for as long as the layout stays.
- A measuring point is the meter's name, or ``{meter}-{point}`` on a device with several.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.decode import Overrides, decode, values
from drivers.guard import Guard
from drivers.map import Field, MeterMap
from drivers.modbus import BadChecksum, Disconnected, ExceptionAnswer, ModbusError, Timeout, WrongAnswer
from drivers.plan import Request, apart, plan, split
from drivers.reading import Block, Reading, Status

PLAIN = Overrides()
# The status of a device that answers and calls all of its quantities "not available", as an inverter does at night.
NO_VALUES = Status.NOT_PRESENT
# Upper ends of the histogram of answers: usual meters take 10 to 50 ms, and the shortest timeout is 300 ms.
LATENCY_BOUNDS_MS = (10, 20, 50, 100, 200, 500, 1000)
# Registers: naming a second stretch in a statement costs seven bytes, as much as three registers between two values.
HOLE_KEPT = 3


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """One meter on a line.

    Attributes:
        name: its name, the start of its measuring points' names.
        map: what its registers mean.
        unit: its address.
        overrides: what is different at this installation.
    """

    name: str
    map: MeterMap
    unit: int
    overrides: Overrides = PLAIN


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a meter says it is.

    Attributes:
        serial: serial number, empty when it does not tell.
        models: discovered SunSpec models as (number, address).
        map: what its registers mean, with concrete addresses.
        agrees: False when its identification register contradicts the map: it is another model.
    """

    serial: str
    models: tuple[tuple[int, int], ...]
    map: MeterMap
    agrees: bool = True


@dataclass(slots=True)
class Counters:
    """What happened with one meter since the start; whole numbers only grow.

    Attributes:
        requests, answers: sent, and answered with registers.
        timeouts, wrong_answers, checksum_errors, exceptions, disconnects: how the others ended.
        probes: those of the requests that only made sure that no late answer can come.
        splits: ranges the meter refused.
        latency_s: filtered time the device takes to answer.
        latencies: answers that took up to each of LATENCY_BOUNDS_MS, and longer.
        failures: failed reads in a row.
        pause_s: for how long it is left alone after the last of them.
        trouble: the last failure in words, empty when the last read was good.
    """

    requests: int = 0
    answers: int = 0
    timeouts: int = 0
    wrong_answers: int = 0
    checksum_errors: int = 0
    exceptions: int = 0
    disconnects: int = 0
    probes: int = 0
    splits: int = 0
    latency_s: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    failures: int = 0
    pause_s: float = 0.0
    trouble: str = ""

    def answered(self, latency_s: float) -> None:
        """Counts an answer with registers, and the time the device took, without the frames' own."""
        self.answers += 1
        self.latencies[bisect_left(LATENCY_BOUNDS_MS, latency_s * 1000)] += 1

    def count(self, error: ModbusError) -> None:
        """Counts how a request ended."""
        match error:
            case Timeout():
                self.timeouts += 1
            case BadChecksum():
                self.checksum_errors += 1
            case WrongAnswer():
                self.wrong_answers += 1
            case ExceptionAnswer():
                self.exceptions += 1
            case Disconnected():
                self.disconnects += 1


@dataclass(frozen=True, slots=True)
class _Point:
    """One measuring point.

    Attributes:
        sub: its name; `name` is the map's word for it.
        evidence: the stretches of the answers that its values are made from.
    """

    sub: str
    name: str
    evidence: tuple[_Stretch, ...]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Part of an answer.

    Attributes:
        index: which answer.
        first, end: bytes of it; None for all of it.
    """

    index: int
    first: int | None
    end: int

    def of(self, blocks: Sequence[Block]) -> Block:
        """The words."""
        block = blocks[self.index]
        if self.first is None:
            return block
        return Block(block.function, block.address + self.first // 2, block.words[self.first : self.end])


class Meter:
    """The state of one meter.

    Attributes:
        config: as configured.
        guard: of its unit; shared by meters that share a unit.
        counters: what happened so far.
        map: its map with concrete addresses.
        min_delay_s: its pause between requests.
        plan: the requests of one reading.
        identity: None until it was identified.
        serial: where its serial number is, None when nobody knows.
        status: of the last failure.
        checked: the connection on which the serial number was last seen right, 0 for none.
        tried_at: when it last could not be identified.
        exchanged: another meter answers in its place.
        refused_at: when it last refused a range of its map, None when it refuses none.
    """

    def __init__(self, config: MeterConfig, guard: Guard, overhead_bytes: int) -> None:
        self.config = config
        self.guard = guard
        self.counters = Counters()
        self.identity: Identity | None = None
        self.serial: Field | None = None
        self.status = Status.NOT_PRESENT
        self.checked = 0
        self.tried_at = float("-inf")
        self.exchanged = False
        self._overhead_bytes = overhead_bytes
        self.lay_out(config.map)

    def lay_out(self, meter_map: MeterMap) -> None:
        """Plans the whole map, refused ranges included."""
        self.map = meter_map
        self.min_delay_s = meter_map.min_delay_ms / 1000
        self.refused_at: float | None = None
        self._plan(plan(meter_map, self._overhead_bytes))

    def refuse(self, request: Request, now: float) -> bool:
        """The meter refused a range: plan without it. False when nothing would be left; then all is planned again."""
        parts = split(request, self.map)
        rest = tuple(part for each in self.plan for part in (parts if each == request else (each,)))
        if not rest:
            self.lay_out(self.map)
            return False
        self.counters.splits += 1
        self.refused_at = now
        self._plan(rest)
        return True

    def readings(self, slot_ms: int, blocks: Sequence[Block], window_ms: int) -> tuple[Reading, ...]:
        """What the words of one set of requests say."""
        decoded = decode(self.map, blocks, self.config.overrides)
        readings = []
        for point in self._points:
            found = values(decoded, point.name)
            words = tuple([stretch.of(blocks) for stretch in point.evidence])
            readings.append(Reading(point.sub, slot_ms, None if found else NO_VALUES, found, window_ms, words))
        return tuple(readings)

    def nothing(self, slot_ms: int, window_ms: int | None) -> tuple[Reading, ...]:
        """Readings without values, with the status of the last failure."""
        return tuple(Reading(point.sub, slot_ms, self.status, (), window_ms) for point in self._points)

    def _plan(self, requests: tuple[Request, ...]) -> None:
        self.plan = apart(requests)
        named = zip(self.map.subs(self.config.name), self.map.points, strict=True)
        self._points = tuple(_Point(sub, point, self._evidence(point)) for sub, point in named)

    def _evidence(self, point: str) -> tuple[_Stretch, ...]:
        """Where in the answers the words of a measuring point are; what was read through between them is left out."""
        spans = sorted(
            (register.function, *span)
            for register in self.map.registers
            if register.point == point
            for span in register.spans()
        )
        found = []
        for index, request in enumerate(self.plan):
            parts: list[list[int]] = []
            for function, address, count in spans:
                if function != request.function or not request.address <= address < request.end:
                    continue
                first, end = address - request.address, address - request.address + count
                if parts and first - parts[-1][1] <= HOLE_KEPT:
                    parts[-1][1] = max(parts[-1][1], end)
                else:
                    parts.append([first, end])
            whole = len(parts) == 1 and parts[0] == [0, request.count]
            found += [_Stretch(index, None if whole else 2 * first, 2 * end) for first, end in parts]
        return tuple(found)
