"""A meter that is not there: a map run backwards, or a register dump served as it is.

Rules
- All words of one answer come from one instant; a meter takes a new picture of itself every ``refresh_s``.
- What lies between a map's registers reads as 0 as far as a planner may read through, and is exception 2 beyond.
- More registers than the map allows at once are exception 3; where only even registers can be asked for, odd ones are
  exception 2.
- A dump answers what was dumped and nothing else: exception 2.
- Identification, serial number and what has to be set at a device are answered as the map expects them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping

from drivers.map import Field, Identify, MeterMap, Register
from drivers.reading import Block
from hw_sim import frames
from hw_sim.encode import Points, encoders
from hw_sim.station import Refused

Source = Callable[[float], Points]
"""Monotonic instant in seconds -> quantities of every measuring point."""

Span = tuple[int, int, int]
"""Function, first address, registers."""

# A planner reads through a hole when that costs less than another request; over TCP that is up to 31 registers.
_LONGEST_HOLE = 31
_HOLDING = 3
# Electronic meters measure over 10 or 12 cycles of the mains and show a new picture about that often.
REFRESH_S = 0.2


class Memory:
    """Register words in stretches; what is in none of them is exception 2."""

    def __init__(self, both_functions: bool = False) -> None:
        """``both_functions``: functions 3 and 4 read the same words."""
        self._both = both_functions
        self._firsts: dict[int, list[int]] = {3: [], 4: []}
        self._stretches: dict[int, list[bytearray]] = {3: [], 4: []}

    def add(self, function: int, first: int, words: bytearray) -> None:
        """Add a stretch; stretches come in ascending order of address."""
        for one in (3, 4) if self._both else (function,):
            self._firsts[one].append(first)
            self._stretches[one].append(words)

    def place(self, function: int, address: int) -> tuple[bytearray, int]:
        """The stretch that holds an address, and the byte offset there.

        Raises:
            Refused: exception 2.
        """
        at = bisect_right(self._firsts[function], address) - 1
        if at >= 0:
            stretch, offset = self._stretches[function][at], 2 * (address - self._firsts[function][at])
            if offset < len(stretch):
                return stretch, offset
        raise Refused(frames.ILLEGAL_ADDRESS)

    def read(self, function: int, address: int, count: int) -> bytes:
        """Words.

        Raises:
            Refused: exception 2: not all of them are in one stretch.
        """
        stretch, offset = self.place(function, address)
        end = offset + 2 * count
        if end > len(stretch):
            raise Refused(frames.ILLEGAL_ADDRESS)
        return bytes(stretch[offset:end])


class MapDevice:
    """A meter of the catalogue.

    Attributes:
        map: the map that is run backwards, with concrete addresses.
        serial: what it says as its serial number.
        shown: the quantities of its last picture, None before the first.
    """

    def __init__(
        self,
        meter_map: MeterMap,
        source: Source,
        serial: str = "10000001",
        extra: Mapping[tuple[int, int], bytes] | None = None,
        most_registers: int | None = None,
        refresh_s: float = REFRESH_S,
    ) -> None:
        """A meter of a map with concrete registers.

        Args:
            meter_map: the map.
            source: where the quantities come from.
            serial: serial number, digits; cut to what the meter has room for.
            extra: further words by (function, address) that never change.
            most_registers: answer exception 2 above this count, as some units do below their own model's limit.
            refresh_s: how often the meter takes a new picture of itself.
        """
        self.map = meter_map
        self.serial = serial
        self.shown: Points | None = None
        self._source = source
        self._most = most_registers
        self._refresh_s = refresh_s
        self._picture: int | None = None
        constants = {**identification(meter_map.identify, serial), **_set_right(meter_map), **(extra or {})}
        spans = [span for register in meter_map.registers for span in _hull(register, meter_map)]
        spans += [(function, address, len(words) // 2) for (function, address), words in constants.items()]
        if meter_map.functions_equivalent:  # the same words, whichever function the map happens to name
            spans = [(_HOLDING, address, count) for _, address, count in spans]
        self._memory = Memory(meter_map.functions_equivalent)
        for function, first, count in stretches(spans, meter_map):
            self._memory.add(function, first, bytearray(2 * count))
        for (function, address), words in constants.items():
            stretch, offset = self._memory.place(function, address)
            stretch[offset : offset + len(words)] = words
        self._encoders = encoders(meter_map.registers, self._memory.place)

    def read(self, function: int, address: int, count: int, at_s: float) -> bytes:
        """Words at an instant; see :class:`hw_sim.station.Device`."""
        if count > self.map.max_registers:
            raise Refused(frames.ILLEGAL_VALUE)
        if self._most is not None and count > self._most:
            raise Refused(frames.ILLEGAL_ADDRESS)
        if self.map.even_only and (address % 2 or count % 2) and not self._identifies(function, address, count):
            raise Refused(frames.ILLEGAL_ADDRESS)
        picture = int(at_s // self._refresh_s)
        if picture != self._picture:
            self._picture = picture
            self.shown = points = self._source(picture * self._refresh_s)
            for encode in self._encoders:
                encode(points)
        return self._memory.read(function, address, count)

    def _identifies(self, function: int, address: int, count: int) -> bool:
        """Whether a request reads exactly an identification or a setting, which may be odd (SDM120: one register)."""
        identify = self.map.identify
        fields: list[Field | Identify | None] = [identify, identify.serial] if identify else []
        fields += [precondition.look for precondition in self.map.preconditions]
        return any(f is not None and (f.function, f.address, f.count) == (function, address, count) for f in fields)


class DumpDevice:
    """A register dump, served as it is."""

    def __init__(self, blocks: Iterable[Block], both_functions: bool = False) -> None:
        """Blocks of function 0 are of an unknown table and answer to both functions."""
        words: dict[tuple[int, int], bytes] = {}
        for block in blocks:
            for at in range(0, len(block.words), 2):
                for function in (block.function,) if block.function else (3, 4):
                    words[function, block.address + at // 2] = block.words[at : at + 2]
        self._memory = Memory(both_functions)
        stretch = bytearray()
        before: tuple[int, int] | None = None
        for function, address in sorted(words):
            if before is None or before != (function, address - 1):
                stretch = bytearray()
                self._memory.add(function, address, stretch)
            stretch += words[function, address]
            before = function, address

    def read(self, function: int, address: int, count: int, at_s: float) -> bytes:
        """Words as they were dumped; see :class:`hw_sim.station.Device`."""
        return self._memory.read(function, address, count)


def identification(identify: Identify | None, serial: str) -> dict[tuple[int, int], bytes]:
    """Words by (function, address) that make a device known: the first thing the map expects, and a serial number."""
    if identify is None:
        return {}
    found: dict[tuple[int, int], bytes] = {}
    if identify.expected:
        found[identify.function, identify.address] = _field_words(identify, str(identify.expected[0]))
    if identify.serial is not None:
        found[identify.serial.function, identify.serial.address] = _field_words(identify.serial, serial)
    return found


def _set_right(meter_map: MeterMap) -> dict[tuple[int, int], bytes]:
    """Words of the settings that the map takes for granted."""
    looks = [precondition.look for precondition in meter_map.preconditions if precondition.look]
    return {(look.function, look.address): _field_words(look, str(look.expected[0])) for look in looks}


def _field_words(field: Field | Identify, text: str) -> bytes:
    size = 2 * field.count
    if field.type == "ascii":
        return text.encode("ascii", "replace")[:size].ljust(size, b"\0")
    if field.type == "chars":
        return b"".join(
            b"\0" + text[at : at + 1].encode("ascii", "replace").rjust(1, b"\0") for at in range(field.count)
        )
    if field.type == "hex":
        return bytes.fromhex(
            "".join(digit for digit in text if digit in "0123456789abcdefABCDEF")[: 2 * size].rjust(2 * size, "0")
        )
    return (int(text) % (1 << 8 * size)).to_bytes(size, "big")


def stretches(spans: Iterable[Span], meter_map: MeterMap) -> list[Span]:
    """Spans merged through the holes that may be read through, cut where no request may pass; in ascending order."""
    hole = _LONGEST_HOLE if meter_map.max_gap is None else min(_LONGEST_HOLE, meter_map.max_gap)
    merged: list[tuple[int, int, int]] = []  # function, first, end
    for function, first, count in sorted(_even(span) if meter_map.even_only else span for span in spans):
        end = first + count
        if merged:
            last_function, last_first, last_end = merged[-1]
            if function == last_function and first <= last_end + hole and not _blocked(last_first, end, meter_map):
                merged[-1] = (function, last_first, max(end, last_end))
                continue
        merged.append((function, first, end))
    return [(function, first, end - first) for function, first, end in merged]


def _blocked(first: int, end: int, meter_map: MeterMap) -> bool:
    """Whether no request may read first..end-1."""
    forbidden = any(low < end and first <= high for low, high in meter_map.forbidden)
    return forbidden or any(first < barrier < end for barrier in meter_map.barriers)


def _even(span: Span) -> Span:
    function, first, count = span
    end = first + count + (first + count) % 2
    return function, first - first % 2, end - first + first % 2


def _hull(register: Register, meter_map: MeterMap) -> list[Span]:
    """A register's words, with what lies between its parts when one request could hold them all."""
    spans = [(register.function, address, count) for address, count in register.spans()]
    first, end = min(span[1] for span in spans), max(span[1] + span[2] for span in spans)
    if end - first > meter_map.max_registers or _blocked(first, end, meter_map):
        return spans
    return [*spans, (register.function, first, end - first)]
