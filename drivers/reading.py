"""A Reading: what one measuring point said in one slot, and how well. The first of the five nouns.

Rules
- A value is an exact decimal, never a float.
- A failed read has no values: it has a status that says why.
- Values are in ascending order of their OBIS key; a quantity the device called "not available" is absent, its words
  are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

EXPONENT_RANGE = range(-9, 10)
"""Powers of ten a signed value may carry (statement-v1.cddl)."""


class Status(IntEnum):
    """Why a reading has no values (record status; the order is that of OCMF 1.4, table 10)."""

    NOT_PRESENT = 1
    TIMEOUT = 2
    DISCONNECTED = 3
    REMOVED = 4
    MANIPULATED = 5
    EXCHANGED = 6
    INCOMPATIBLE = 7
    OUT_OF_RANGE = 8
    SUBSTITUTE = 9
    OTHER = 10
    READ_ERROR = 11


class Quality(IntFlag):
    """What is known against a single value (after IEC 61850 detailQual and IEEE 2030.5)."""

    QUESTIONABLE = 1 << 0
    OVERFLOW = 1 << 1
    OUT_OF_RANGE = 1 << 2
    BAD_REFERENCE = 1 << 3
    OSCILLATORY = 1 << 4
    FAILURE = 1 << 5
    OLD_DATA = 1 << 6
    INCONSISTENT = 1 << 7
    INACCURATE = 1 << 8
    SUBSTITUTED = 1 << 9
    TEST = 1 << 10
    OPERATOR_BLOCKED = 1 << 11
    DERIVED = 1 << 12
    ESTIMATED = 1 << 13
    REGISTER_RESET = 1 << 14


def quality_names(bits: int) -> list[str]:
    """Names of the bits that are set, lowest first, e.g. ``["questionable", "register reset"]``."""
    return [flag.name.lower().replace("_", " ") for flag in Quality if bits & flag and flag.name]


@dataclass(frozen=True, slots=True)
class Value:
    """``mantissa * 10**exponent``, exactly; build it with :func:`exact`.

    Attributes:
        mantissa: without trailing zeros; 0 only as ``0 * 10**0``.
        exponent: -9..9.
        quality: bits of :class:`Quality`, 0 = nothing known against it.
    """

    mantissa: int
    exponent: int
    quality: int = 0

    def text(self) -> str:
        """Plain decimal notation: ``9123510``, ``-0.08``, ``230.2``."""
        if self.exponent >= 0:
            return str(self.mantissa * 10**self.exponent)
        digits = str(abs(self.mantissa)).rjust(1 - self.exponent, "0")
        sign = "-" if self.mantissa < 0 else ""
        return f"{sign}{digits[: self.exponent]}.{digits[self.exponent :]}"


def exact(mantissa: int, exponent: int, quality: int = 0) -> Value:
    """The normalised value of ``mantissa * 10**exponent``.

    Raises:
        ValueError: more than nine decimal places (a large exponent is folded into the mantissa).
    """
    if mantissa == 0:
        return Value(0, 0, quality)
    while mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    if exponent > EXPONENT_RANGE[-1]:
        mantissa *= 10 ** (exponent - EXPONENT_RANGE[-1])
        exponent = EXPONENT_RANGE[-1]
    if exponent < EXPONENT_RANGE[0]:
        raise ValueError(f"{mantissa}e{exponent} has more than {-EXPONENT_RANGE[0]} decimal places")
    return Value(mantissa, exponent, quality)


@dataclass(frozen=True, slots=True)
class Block:
    """Register words as they came.

    Attributes:
        function: 3 (holding registers) or 4 (input registers).
        address: first 0-based protocol address.
        words: two bytes a register, big-endian as on the wire.
    """

    function: int
    address: int
    words: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """What one measuring point said in one slot.

    Attributes:
        sub: measuring point: the meter's name, or ``{meter}-{point}`` for a device with several.
        slot_ms: start of the slot, POSIX milliseconds.
        status: None = good, else a :class:`Status` (field 10 of the statement).
        values: (OBIS key, value) in ascending order of key; empty when nothing could be read.
        window_ms: from the first request to the last answer, milliseconds; None when nothing was asked.
        blocks: the words that the values were made from, in the order they were read.
    """

    sub: str
    slot_ms: int
    status: int | None
    values: tuple[tuple[int, Value], ...] = ()
    window_ms: int | None = None
    blocks: tuple[Block, ...] = ()
