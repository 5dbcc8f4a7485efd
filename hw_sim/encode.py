"""From quantities to register words: a map's registers run backwards.

Pure and exact: quantities are integers in millionths of their unit, and one division makes the raw number. What can be
known beforehand is worked out once per register, so that a whole meter costs a few dozen microseconds.

Rules
- A counter is cut off at its resolution, as a meter's display is; anything else is rounded.
- A quantity that nobody supplies is the register's not-available pattern, NaN in a float, otherwise 0.
- Words that several quantities share are written for the one that owns them; the others fill in only what is left.
- A dynamic power of ten is the finest at which all values of its register group fit; that of a counter never moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from drivers import obis
from drivers.map import Register, Term
from hw_sim.words import empty as empty_words
from hw_sim.words import is_counter, ordered, to_words

Quantities = Mapping[int, int]
"""OBIS key -> value in millionths of its unit."""

Points = Mapping[str, Quantities]
"""Measuring point -> its quantities."""

Place = Callable[[int, int], tuple[bytearray, int]]
"""Function and register address -> the memory that holds it and the byte offset there."""

Encoder = Callable[[Points], None]
"""Writes the words of one register, or of a group that belongs together, into memory."""

MILLION = 1_000_000
_NOTHING: Quantities = {}
# SunSpec allows -10..10; meters show three decimal places at most, and a million is plenty for any value.
_POWERS = range(-3, 7)
_REACTIVE = {
    obis.BY_NAME["power_factor", phase].key: obis.BY_NAME["reactive_power", phase].key
    for phase in ("total", "L1", "L2", "L3")
}


@dataclass(frozen=True, slots=True)
class Ratio:
    """``raw = value * times / by`` for a value in millionths."""

    times: int
    by: int

    @classmethod
    def of(cls, scale: tuple[int, int], power: int = 0) -> Ratio:
        """From a map's decimal scale and a further power of ten."""
        mantissa, exponent = scale
        shift = 6 + exponent + power
        sign = -1 if mantissa < 0 else 1
        return cls(sign * 10 ** max(0, -shift), abs(mantissa) * 10 ** max(0, shift))

    def cut(self, value: int) -> int:
        """Towards minus infinity: what a counter shows."""
        return value * self.times // self.by

    def rounded(self, value: int) -> int:
        """To the nearest."""
        return (2 * value * self.times + self.by) // (2 * self.by)

    def real(self, value: int) -> float:
        """The nearest double."""
        return value * self.times / self.by

    def back(self, raw: int) -> int:
        """The value of a raw number."""
        return raw * self.by // self.times


def encoders(registers: Iterable[Register], place: Place) -> tuple[Encoder, ...]:
    """What writes all words of these registers; called in turn with the same points they make one picture."""
    made: list[Encoder] = []
    groups: dict[tuple[int, int], list[Register]] = {}
    shared: list[Register] = []
    written: set[tuple[int, int]] = set()
    for register in registers:
        if register.plus or register.derived:
            shared.append(register)
            continue
        written.add((register.function, register.address))
        if register.scale_address is None:
            made.append(_single(register, place))
        else:
            groups.setdefault((register.function, register.scale_address), []).append(register)
    made += [_scaled(address, group, place) for (_, address), group in groups.items()]
    # A word that two composites share belongs to the first; what is only derived comes last.
    for register in sorted(shared, key=lambda register: register.derived):
        made.append(_composite(register, frozenset(written), place))
        written.update((register.function, part.address) for part in _parts(register))
    return tuple(made)


def _single(register: Register, place: Place) -> Encoder:
    """A register with a fixed scale and no parts."""
    point, key = register.point, register.key
    buffer, start = place(register.function, register.address)
    end = start + 2 * register.count
    turn, number, empty = to_words(register), _number(register, Ratio.of(register.scale)), empty_words(register)
    reactive = _REACTIVE.get(key, 0) if register.encoding == "pf4q" else 0

    def encode(points: Points) -> None:
        quantities = points.get(point, _NOTHING)
        value = quantities.get(key)
        if value is None:
            buffer[start:end] = empty
            return
        if reactive:
            value = _four_quadrants(value, leading=quantities.get(reactive, 0) < 0)
        buffer[start:end] = turn(number(value))

    return encode


def _number(register: Register, ratio: Ratio) -> Callable[[int], float]:
    if register.type in ("f32", "f64"):
        return ratio.real
    return ratio.cut if is_counter(register.key) else ratio.rounded


def _four_quadrants(factor: int, leading: bool) -> int:
    """Power factor as Schneider's four-quadrant float has it: 1..2 means leading; the sign is that of the power."""
    if not leading:
        return factor
    return -2 * MILLION - factor if factor < 0 else 2 * MILLION - factor


def _scaled(scale_address: int, group: list[Register], place: Place) -> Encoder:
    """Registers that share a power of ten in a register of its own."""
    powers = (0,) if any(is_counter(register.key) for register in group) else _POWERS
    places = [(register, *place(register.function, register.address), empty_words(register)) for register in group]
    scale_buffer, scale_start = place(group[0].function, scale_address)
    ratios = {power: [Ratio.of(register.scale, power) for register in group] for power in powers}
    limits = [(1 << 16 * register.count - register.type.startswith("s")) - 2 for register in group]
    turns = [to_words(register) for register in group]

    def encode(points: Points) -> None:
        values = [points.get(register.point, _NOTHING).get(register.key) for register in group]
        for power in powers:
            numbers = [
                None if value is None else _number(register, ratio)(value)
                for register, ratio, value in zip(group, ratios[power], values, strict=True)
            ]
            if all(number is None or abs(number) <= limit for number, limit in zip(numbers, limits, strict=True)):
                break
        scale_buffer[scale_start : scale_start + 2] = power.to_bytes(2, "big", signed=True)
        for (register, buffer, start, empty), turn, number in zip(places, turns, numbers, strict=True):
            buffer[start : start + 2 * register.count] = empty if number is None else turn(number)

    return encode


def _parts(register: Register) -> tuple[Term, ...]:
    return (Term(register.address, register.count, register.type, register.scale), *register.plus)


def _composite(register: Register, written: frozenset[tuple[int, int]], place: Place) -> Encoder:
    """A value made of several numbers: those that nobody else writes carry what the others leave."""
    given: list[_Part] = []
    free: list[_Part] = []
    for part in _parts(register):
        buffer, start = place(register.function, part.address)
        one = _Part(_alone(register, part), buffer, start)
        (given if (register.function, part.address) in written else free).append(one)
    free.sort(key=lambda part: -abs(part.ratio(0).back(1)))
    point, key, empty = register.point, register.key, empty_words(register)
    power_at = None if register.scale_address is None else place(register.function, register.scale_address)

    def encode(points: Points) -> None:
        value = points.get(point, _NOTHING).get(key)
        # Whoever owns the power of ten has set it; where nobody does it stays 0.
        power = 0 if power_at is None else _signed(power_at[0][power_at[1] : power_at[1] + 2])
        rest = value or 0
        for part in given:
            rest -= part.ratio(power).back(part.raw())
        for part in free:
            # A number without a sign carries only what points its way: import and export of a difference.
            raw = _towards_zero(rest, part.ratio(power))
            raw = raw if part.signed else max(0, raw)
            part.write(empty if value is None and part.size == len(empty) else part.to_words(raw))
            rest -= part.ratio(power).back(raw)

    return encode


class _Part:
    """One number of a composite value."""

    def __init__(self, register: Register, buffer: bytearray, start: int) -> None:
        self.size = 2 * register.count
        self.signed = register.type.startswith("s")
        self.to_words = to_words(register)
        self._register = register
        self._buffer = buffer
        self._start = start
        self._ratios: dict[int, Ratio] = {}

    def ratio(self, power: int) -> Ratio:
        found = self._ratios.get(power)
        if found is None:
            found = self._ratios[power] = Ratio.of(self._register.scale, power)
        return found

    def raw(self) -> int:
        words = bytes(self._buffer[self._start : self._start + self.size])
        return int.from_bytes(ordered(words, self._register), "big", signed=self.signed)

    def write(self, words: bytes) -> None:
        self._buffer[self._start : self._start + self.size] = words


def _signed(word: bytearray) -> int:
    return int.from_bytes(word, "big", signed=True)


def _towards_zero(value: int, ratio: Ratio) -> int:
    number = abs(value) * abs(ratio.times) // ratio.by
    return number if (value < 0) == (ratio.times < 0) else -number


def _alone(register: Register, part: Term) -> Register:
    """One part of a composite as a register of its own."""
    return Register(
        key=register.key,
        quantity=register.quantity,
        phase=register.phase,
        point=register.point,
        function=register.function,
        address=part.address,
        count=part.count,
        type=part.type,
        scale=part.scale,
        word_order=register.word_order,
        not_available=register.not_available if part.type == register.type else (),
    )
