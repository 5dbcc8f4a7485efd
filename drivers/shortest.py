"""The shortest decimal that rounds back to the same binary float, with integers alone. Pure.

Never goes through a float, so the answer is the same on every machine and for every verifier.

Rules
- Of all decimals that round (half to even) to the given float, the one with the fewest digits; of several, the nearest;
  of two equally near, the even one. So it is what ``repr`` prints for f64.
- NaN and the infinities are no numbers: None. Minus zero is zero.
"""

from __future__ import annotations

from functools import lru_cache

_F32_DIGITS = 23
_F32_LEAST = 1 << _F32_DIGITS
_F32_BIAS = 150
_F64_DIGITS = 52
_F64_BIAS = 1075


def f32(bits: int) -> tuple[int, int] | None:
    """``(mantissa, power of ten)`` of the f32 with these 32 bits."""
    field = bits >> _F32_DIGITS & 0xFF
    mantissa = bits & 0x7FFFFF
    if field - 1 >= 254:
        return None
    if 0 < field < _F32_BIAS and mantissa:
        mantissa |= _F32_LEAST
        power, decimals, shift = _F32_FRACTIONS[field]
        # In units of 10**-decimals the float's interval is 1 to 10 wide: it holds an integer, and at most one multiple
        # of ten. Its ends are never integers (their denominator is a power of two that 10**decimals does not cancel).
        middle = mantissa * power
        last = (2 * middle + power) >> shift + 1
        rounder = last - last % 10
        if rounder >= -((power - 2 * middle) >> shift + 1):
            number = rounder
        else:
            number = middle >> shift
            rest, half = middle - (number << shift), 1 << shift - 1
            if rest > half or (rest == half and number & 1):
                number += 1
        return (-number if bits >> 31 else number), -decimals
    return _general(bits >> 31, field, mantissa, _F32_DIGITS, _F32_BIAS)


def f64(bits: int) -> tuple[int, int] | None:
    """``(mantissa, power of ten)`` of the f64 with these 64 bits."""
    field = bits >> _F64_DIGITS & 0x7FF
    if field == 0x7FF:
        return None
    return _general(bits >> 63, field, bits & (1 << _F64_DIGITS) - 1, _F64_DIGITS, _F64_BIAS)


def _general(negative: int, field: int, mantissa: int, digits: int, bias: int) -> tuple[int, int]:
    """Any finite float, with its uneven interval at powers of two."""
    if field == 0 and mantissa == 0:
        return 0, 0
    uneven = field > 1 and mantissa == 0  # the neighbour below is only half as far away
    if field:
        mantissa |= 1 << digits
    exponent = max(field, 1) - bias
    first, last = 4 * mantissa - (1 if uneven else 2), 4 * mantissa + 2
    for decimals in range(_decimals(exponent) - 1, _decimals(exponent) + 2):
        # In units of 2**(exponent - 2), times 10**decimals: numerator over denominator.
        over, under = _ratio(exponent - 2, decimals)
        low, high = -(-first * over // under), last * over // under
        if mantissa & 1:  # the ends round to the even neighbours
            low += low * under == first * over
            high -= high * under == last * over
        if low <= high:
            break
    exact, rest = divmod(4 * mantissa * over, under)
    if 2 * rest > under or (2 * rest == under and exact & 1):
        exact += 1
    number = min(max(exact, low), high)
    return (-number if negative else number), -decimals


@lru_cache(maxsize=4096)
def _decimals(exponent: int) -> int:
    """The least number of decimals (may be negative) whose unit is not longer than ``2**exponent``."""
    decimals = 0
    if exponent < 0:
        while 10**decimals < 1 << -exponent:
            decimals += 1
        return decimals
    while 10 ** (decimals + 1) <= 1 << exponent:
        decimals += 1
    return -decimals


def _ratio(exponent: int, decimals: int) -> tuple[int, int]:
    """``2**exponent * 10**decimals`` as a fraction."""
    over = (1 << exponent if exponent > 0 else 1) * (10**decimals if decimals > 0 else 1)
    under = (1 << -exponent if exponent < 0 else 1) * (10**-decimals if decimals < 0 else 1)
    return over, under


# By exponent field of an f32 with a fraction: 10**decimals, decimals, and the bits after the binary point.
_F32_FRACTIONS = [
    (10 ** _decimals(field - _F32_BIAS), _decimals(field - _F32_BIAS), _F32_BIAS - field) for field in range(_F32_BIAS)
]
