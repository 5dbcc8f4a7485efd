"""Register words become exact values. Pure; runs on every value of every slot.

Never returns a float, never turns "not available" into a number, and never raises on any words whatever they are.

Rules
- Integers: raw x scale, exactly. Floats: the shortest decimal that rounds back to the same float, x scale, exactly.
- What needs more than nine decimals is rounded half to even to 1e-9 and flagged inaccurate.
- "Not available" patterns, NaN, infinities and unusable scale registers give no value; a number that does not fit a
  64-bit mantissa gives none either and is flagged overflow.
- A register whose words are not there is left out. A number lies in one block: two blocks are no snapshot of it.
- What can be decided once per map, overrides and shape of the blocks is decided once; hence the functions in functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from drivers import shortest
from drivers.map import WORDS, MeterMap, Register
from drivers.obis import BY_KEY, BY_NAME
from drivers.reading import EXPONENT_RANGE, Block, Quality, Value, quality_names
from drivers.unpack import Shape, Unpacker

_FLOATS = {"f32": shortest.f32, "f64": shortest.f64}
# SunSpec: a scale factor register holds a power of ten from -10 to 10; anything else means it is not implemented.
_POWERS = range(-10, 11)
# A mantissa is a signed 64-bit number, so that every verifier's integers hold it.
_MANTISSA_LIMIT = 1 << 63
_FINEST, _COARSEST = EXPONENT_RANGE[0], EXPONENT_RANGE[-1]
# Units that a current transformer's ratio applies to, and those that an installation's scale applies to.
_PRIMARY_UNITS = frozenset({"A", "W", "var", "VA", "Wh", "varh", "VAh"})
_SCALED_UNITS = _PRIMARY_UNITS - {"A"}
# What building a Value and a Decoded comes down to. Going through their constructors costs twice as much, which is a
# quarter of all that decoding costs.
_new_value, _new_tuple = object.__new__, tuple.__new__
_set_mantissa, _set_exponent, _set_quality = (
    Value.__dict__[name].__set__ for name in ("mantissa", "exponent", "quality")
)
# Net quantities: the sign is the direction.
_NET = frozenset({"active_power", "reactive_power", "active_energy_net"})
_TURNED = {"import": "export", "export": "import", "q1": "q3", "q2": "q4", "q3": "q1", "q4": "q2"}


@dataclass(frozen=True, slots=True)
class Overrides:
    """What is different at one installation.

    Attributes:
        word_order: ``big`` or ``little`` instead of the map's.
        invert: the current transformers are mounted the wrong way round. Net powers and energies change their sign;
            import and export change places, and so do the quadrants (1 with 3, 2 with 4). Left alone: points that
            generate (an inverter measures itself), currents, apparent, inductive, capacitive and DC quantities, and
            power factors, whose sign means direction on one meter and leading on another.
        ratio: (mantissa, power of ten) of the transformers' ratio: multiplies currents, powers and energies, unless the
            map says that a register is on the primary side already.
        scale: (mantissa, power of ten) that powers and energies are multiplied by besides, for a device that counts in
            another unit than its siblings.
    """

    word_order: str | None = None
    invert: bool = False
    ratio: tuple[int, int] | None = None
    scale: tuple[int, int] | None = None

    def as_pairs(self) -> tuple[tuple[str, str], ...]:
        """(name, value) of what is set, in ascending order of name, as a descriptor carries them."""
        pairs = (
            ("invert", "true" if self.invert else None),
            ("ratio", Value(*self.ratio).text() if self.ratio else None),
            ("scale", Value(*self.scale).text() if self.scale else None),
            ("word_order", self.word_order),
        )
        return tuple((name, value) for name, value in pairs if value is not None)


class Decoded(NamedTuple):
    """One quantity of one point (a tuple, because a dozen are made per meter and slot).

    Attributes:
        point: measuring point, ``""`` on a device with one.
        key: packed OBIS key.
        value: None when the device gave no usable number.
        flags: bits of :class:`Quality`; the value's own when there is one.
    """

    point: str
    key: int
    value: Value | None
    flags: int


_PLAIN = Overrides()


def decode(meter_map: MeterMap, blocks: Sequence[Block], overrides: Overrides = _PLAIN) -> tuple[Decoded, ...]:
    """Every quantity of a map whose words are in the blocks, in the order of the map."""
    shape = tuple([(block.function, block.address, len(block.words) // 2) for block in blocks])
    return _decoder(meter_map, overrides, shape)([block.words for block in blocks])


def values(decoded: Sequence[Decoded], point: str) -> tuple[tuple[int, Value], ...]:
    """(key, value) of one point in ascending order of key; what has no value is left out."""
    found = [(item.key, item.value) for item in decoded if item.value is not None and item.point == point]
    return tuple(sorted(found, key=lambda pair: pair[0]))


def installed(register: Register, overrides: Overrides, inverted: bool) -> tuple[int, int, int]:
    """Key, factor and power of ten that a register has at an installation, besides its own scale.

    Args:
        register: of the map.
        overrides: of the installation.
        inverted: whether ``overrides.invert`` reaches its point (:func:`generating`).
    """
    key, factor, exponent = _direction(register, inverted)
    for mantissa, power in _applying(register, overrides):
        factor, exponent = factor * mantissa, exponent + power
    return key, factor, exponent


def generating(meter_map: MeterMap) -> frozenset[str]:
    """Points that measure their own generation, whatever way round an installer's transformers are."""
    return frozenset(register.point for register in meter_map.registers if "generation" in register.quantity)


def flag_words(item: Decoded) -> list[str]:
    """The flags as words; ``not available`` comes last where there is no value."""
    return quality_names(item.flags) + ([] if item.value is not None else ["not available"])


_Step = Callable[[list[int]], Decoded]
# From the unpacked numbers to (mantissa, power of ten); None for "not available".
_Number = Callable[[list[int]], tuple[int, int] | None]
_Finish = Callable[[int, int], Decoded]
_Convert = Callable[[int], tuple[int, int] | None]


@lru_cache(maxsize=256)
def _decoder(meter_map: MeterMap, overrides: Overrides, shape: Shape) -> Callable[[list[bytes]], tuple[Decoded, ...]]:
    unpacker = Unpacker(shape)
    spared = generating(meter_map)
    found = [
        _step(register, overrides, overrides.invert and register.point not in spared, unpacker)
        for register in meter_map.registers
    ]
    steps = [step for step in found if step]
    unpack = unpacker.compiled()

    def run(words: list[bytes]) -> tuple[Decoded, ...]:
        raw = unpack(words)
        return tuple([step(raw) for step in steps])

    return run


def _step(register: Register, overrides: Overrides, inverted: bool, unpacker: Unpacker) -> _Step | None:
    """The function that makes one register's value; None when its words are not in the blocks."""
    places = _places(register, overrides.word_order or register.word_order, unpacker)
    if places is None:
        return None
    key, factor, exponent = installed(register, overrides, inverted)
    quality = Quality.DERIVED * register.derived | Quality.QUESTIONABLE * register.suspect
    nothing, finish = Decoded(register.point, key, None, int(quality)), _finisher(register.point, key, int(quality))
    place, *others = places
    power_place = others.pop(0) if register.scale_address is not None else None
    missing = _signed(register.type, register.not_available)
    if register.plus:
        number = _sum(register, [place, *others], missing)
    else:
        factor, exponent = factor * register.scale[0], exponent + register.scale[1]
        if register.encoding == "plain" and register.type not in _FLOATS:
            return _integer(place, power_place, missing, factor, exponent, nothing, finish)
        convert = _FLOATS[register.type]
        if register.encoding == "plain" and power_place is None:
            return _plain_float(place, missing, convert, factor, exponent, nothing, finish)
        number = _float(place, missing, convert)
        number = _four_quadrants(number) if register.encoding == "pf4q" else number
    return _by_number(number, power_place, factor, exponent, nothing, finish)


def _places(register: Register, order: str, unpacker: Unpacker) -> list[int] | None:
    """Where the register's numbers are among the unpacked ones: value, scale register, terms."""
    kinds = [
        register.type,
        *([] if register.scale_address is None else ["s16"]),
        *(term.type for term in register.plus),
    ]
    spans = list(register.spans())
    together = unpacker.block_of(register.function, spans)
    places = []
    for span, kind in zip(spans, kinds, strict=True):
        home = unpacker.block_of(register.function, [span]) if together is None else together
        if home is None:
            return None
        places.append(unpacker.want(home, span[0], kind, order == "little" and WORDS[kind] > 1))
    return places


def _direction(register: Register, inverted: bool) -> tuple[int, int, int]:
    """Key, sign and power of ten to start from."""
    if not inverted:
        return register.key, 1, 0
    if register.quantity in _NET:
        return register.key, -1, 0
    turned = "_".join(_TURNED.get(word, word) for word in register.quantity.split("_"))
    known = BY_NAME.get((turned, register.phase))
    return known.key if known and not turned.startswith("apparent") else register.key, 1, 0


def _applying(register: Register, overrides: Overrides) -> list[tuple[int, int]]:
    """The installation's factors that apply to a register."""
    if register.quantity.startswith("dc_"):
        return []
    unit = BY_KEY[register.key].unit
    factors = []
    if overrides.ratio and not register.primary and unit in _PRIMARY_UNITS:
        factors.append(overrides.ratio)
    if overrides.scale and unit in _SCALED_UNITS:
        factors.append(overrides.scale)
    return factors


def _signed(kind: str, patterns: Sequence[int]) -> frozenset[int]:
    """Raw patterns as :mod:`struct` unpacks them (a float's as they are)."""
    bits = 16 * WORDS[kind]
    if kind[0] != "s":
        return frozenset(patterns)
    return frozenset(pattern - (1 << bits) if pattern >> (bits - 1) else pattern for pattern in patterns)


def _integer(
    place: int,
    power_place: int | None,
    missing: frozenset[int],
    factor: int,
    exponent: int,
    nothing: Decoded,
    finish: _Finish,
) -> _Step:
    """The common case without a detour: one integer, perhaps with a scale register."""

    def plain(raw: list[int]) -> Decoded:
        number = raw[place]
        return nothing if number in missing else finish(number * factor, exponent)

    def scaled(raw: list[int]) -> Decoded:
        number, power = raw[place], raw[power_place]  # type: ignore[index]
        return nothing if number in missing or power not in _POWERS else finish(number * factor, exponent + power)

    return plain if power_place is None else scaled


def _plain_float(
    place: int,
    missing: frozenset[int],
    convert: _Convert,
    factor: int,
    exponent: int,
    nothing: Decoded,
    finish: _Finish,
) -> _Step:
    """The other common case: a float and nothing else."""

    def step(raw: list[int]) -> Decoded:
        bits = raw[place]
        found = convert(bits)
        if found is None or bits in missing:
            return nothing
        return finish(found[0] * factor, found[1] + exponent)

    return step


def _by_number(
    number: _Number, power_place: int | None, factor: int, exponent: int, nothing: Decoded, finish: _Finish
) -> _Step:
    """Everything else: a number of its own, perhaps with a scale register."""

    def step(raw: list[int]) -> Decoded:
        found = number(raw)
        power = 0 if power_place is None else raw[power_place]
        if found is None or power not in _POWERS:
            return nothing
        return finish(found[0] * factor, found[1] + exponent + power)

    return step


def _float(place: int, missing: frozenset[int], convert: _Convert) -> _Number:
    def number(raw: list[int]) -> tuple[int, int] | None:
        bits = raw[place]
        return None if bits in missing else convert(bits)

    return number


def _four_quadrants(number: _Number) -> _Number:
    """A power factor of -2..2: beyond 1 it means leading and is 2 - |x|, sign kept; beyond 2 it means nothing."""

    def folded(raw: list[int]) -> tuple[int, int] | None:
        found = number(raw)
        if found is None or found[1] >= 0:
            return found if found is None or abs(found[0]) * 10 ** min(found[1], 3) <= 1 else _fold(*found)
        return _fold(*found) if abs(found[0]) > 10 ** -found[1] else found

    return folded


def _fold(mantissa: int, exponent: int) -> tuple[int, int] | None:
    if exponent > 0:
        return None
    left = 2 * 10**-exponent - abs(mantissa)
    if left < 0:
        return None
    return (-left if mantissa < 0 else left), exponent


def _sum(register: Register, places: list[int], missing: frozenset[int]) -> _Number:
    """The register's number and its terms, each times its own scale; one that is not available makes the sum so."""
    scales = [register.scale, *(term.scale for term in register.plus)]
    least = min(exponent for _, exponent in scales)
    weights = [mantissa * 10 ** (exponent - least) for mantissa, exponent in scales]
    unusable = [missing, *(missing if term.type == register.type else frozenset() for term in register.plus)]
    parts = list(zip(places, weights, unusable, strict=True))

    def number(raw: list[int]) -> tuple[int, int] | None:
        total = 0
        for place, weight, absent in parts:
            if raw[place] in absent:
                return None
            total += raw[place] * weight
        return total, least

    return number


def _finisher(point: str, key: int, quality: int) -> _Finish:
    """The function that makes a normalised value of a mantissa and a power of ten."""
    zero = Decoded(point, key, Value(0, 0, quality), quality)

    def finish(mantissa: int, exponent: int) -> Decoded:
        if not mantissa:
            return zero
        while not mantissa % 10:
            mantissa //= 10
            exponent += 1
        if _FINEST <= exponent <= _COARSEST and -_MANTISSA_LIMIT <= mantissa < _MANTISSA_LIMIT:
            value = _new_value(Value)
            _set_mantissa(value, mantissa)
            _set_exponent(value, exponent)
            _set_quality(value, quality)
            return _new_tuple(Decoded, (point, key, value, quality))
        return _fitted(point, key, mantissa, exponent, quality)

    return finish


def _fitted(point: str, key: int, mantissa: int, exponent: int, quality: int) -> Decoded:
    """A number outside the signed form's range, made to fit: rounded, unfolded, or given up as an overflow."""
    if exponent < _FINEST:
        unit = 10 ** (_FINEST - exponent)
        rounded, rest = divmod(abs(mantissa), unit)
        rounded += 2 * rest > unit or (2 * rest == unit and rounded & 1)
        mantissa, exponent, quality = rounded if mantissa > 0 else -rounded, _FINEST, quality | Quality.INACCURATE
        while mantissa and not mantissa % 10:
            mantissa, exponent = mantissa // 10, exponent + 1
    if exponent > _COARSEST:
        mantissa, exponent = mantissa * 10 ** (exponent - _COARSEST), _COARSEST
    if not -_MANTISSA_LIMIT <= mantissa < _MANTISSA_LIMIT:
        return Decoded(point, key, None, int(quality | Quality.OVERFLOW))
    return Decoded(point, key, Value(mantissa, exponent if mantissa else 0, int(quality)), int(quality))
