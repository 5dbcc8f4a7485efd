"""Raw numbers as register words: type, word order, limits and not-available patterns.

Pure. Rules
- A counter too large for its register wraps, anything else stops at the register's limit. A register without a sign
  shows the size of a negative number.
- A number that happens to look like a not-available pattern moves away by one step, towards zero.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from drivers import obis
from drivers.map import Register

_COUNTER_UNITS = ("Wh", "varh", "VAh")


def is_counter(key: int) -> bool:
    """Whether the quantity only ever grows."""
    return obis.unit(key) in _COUNTER_UNITS


def empty(register: Register) -> bytes:
    """The words of "no value"."""
    size = 2 * register.count
    if register.not_available:
        return ordered(register.not_available[0].to_bytes(size, "big"), register)
    if register.type in ("f32", "f64"):
        return ordered(struct.pack(">f" if size == 4 else ">d", math.nan), register)
    return bytes(size)


def ordered(words: bytes, register: Register) -> bytes:
    """Most significant register first, or last; the same function turns either way."""
    if register.word_order == "big" or len(words) == 2:
        return words
    return b"".join(words[at : at + 2] for at in range(len(words) - 2, -2, -2))


def to_words(register: Register) -> Callable[[float], bytes]:
    """Raw number -> words in the register's type and word order."""
    if register.type in ("f32", "f64"):
        pack = struct.Struct(">f" if register.type == "f32" else ">d").pack
        if register.word_order == "big":
            return pack
        return lambda raw: ordered(pack(raw), register)
    return _integer_words(register)


def _integer_words(register: Register) -> Callable[[float], bytes]:
    size, bits = 2 * register.count, 16 * register.count
    signed, counter = register.type.startswith("s"), is_counter(register.key)
    low = -(1 << bits - 1) if signed else 0
    high = (1 << bits - signed) - 1
    mask, patterns = (1 << bits) - 1, frozenset(register.not_available)
    plain = register.word_order == "big" or register.count == 1

    def words(raw: float) -> bytes:
        number = int(raw)
        if number < 0 and not signed:
            number = -number
        if not low <= number <= high:
            number = number % (high + 1) if counter and number > 0 else min(max(number, low), high)
        number &= mask
        if number in patterns:
            number = _beside(number, patterns, -1 if 0 < number <= high else 1) & mask
        data = number.to_bytes(size, "big")
        return data if plain else ordered(data, register)

    return words


def _beside(number: int, patterns: frozenset[int], step: int) -> int:
    """The nearest number in one direction, towards zero, that is no pattern."""
    while number in patterns:
        number += step
    return number
