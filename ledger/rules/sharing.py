"""Shared self-consumption: what each member of a group is allotted of one period's generation, and what becomes of it.

The arithmetic of RD 244/2019, annex I: ``ENG(h,i) = beta(h,i) * ENG(h)``, the betas of an hour adding up to one;
self-consumed is what is both allotted and consumed in the same period. Knows no state, no readings, no prices.

Rules
- Integers only: Wh, and coefficients in millionths (:data:`ONE`).
- Coefficients add up to exactly one, or they are refused, naming the hour and the sum.
- The allotments of a period add up to its generation: largest remainder, ties in turn (:mod:`ledger.rules.shares`).
- ``allotted = self-consumed + surplus`` and ``consumed = self-consumed + from the grid``, for every member and period.
- Nothing is made out of an open number: without the generation no member has an allotment; a member whose consumption
  is not known has an allotment and nothing else; by consumption, one unknown consumption leaves everybody open.
- What is known stays as it is when other data come (fixed and hourly coefficients).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.rules.registers import Certainty, Energy
from ledger.rules.shares import divide

ONE = 1_000_000
"""A coefficient of 1: six decimals (docs/settlement.md says where they come from)."""

PERIODS_MS = (900_000, 3_600_000)
"""Settlement periods, aligned to UTC: a quarter hour or an hour. Legal hours begin at full hours of UTC too."""


class BadCoefficients(ValueError):
    """Coefficients that do not divide anything, and why."""


@dataclass(frozen=True, slots=True)
class Share:
    """One member in one period. Numbers are Wh; None = not known.

    Attributes:
        allotted: of the group's generation.
        consumed: by the member's consumption points.
        reason: empty when settled.
    """

    allotted: int | None
    consumed: int | None
    certainty: Certainty = Certainty.SETTLED
    reason: str = ""

    @property
    def self_consumed(self) -> int | None:
        """What was allotted and consumed in the same period."""
        return None if self.allotted is None or self.consumed is None else min(self.allotted, self.consumed)

    @property
    def surplus(self) -> int | None:
        """What was allotted and not consumed."""
        own = self.self_consumed
        return None if own is None or self.allotted is None else self.allotted - own

    @property
    def from_grid(self) -> int | None:
        """What was consumed and not allotted."""
        own = self.self_consumed
        return None if own is None or self.consumed is None else self.consumed - own


def check(coefficients: Sequence[int], hour: int | None = None) -> None:
    """Coefficients of one hour, or of all, in millionths.

    Raises:
        BadCoefficients: one is negative, or they do not add up to one.
    """
    place = "the coefficients" if hour is None else f"the coefficients of hour {hour}"
    for number in coefficients:
        if number < 0:
            raise BadCoefficients(f"{place}: {decimal(number)} is below zero")
    whole = sum(coefficients)
    if whole != ONE:
        raise BadCoefficients(f"{place} add up to {decimal(whole)}, not to 1")


def decimal(coefficient: int) -> str:
    """A coefficient as people write it: ``0.250000``."""
    sign = "-" if coefficient < 0 else ""
    return f"{sign}{abs(coefficient) // ONE}.{abs(coefficient) % ONE:06}"


def by_coefficients(
    generated: Energy, consumed: Sequence[Energy], coefficients: Sequence[int], turn: int
) -> list[Share]:
    """One period under agreed coefficients.

    Args:
        generated: of all generation points.
        consumed: of each member, members in ascending order of their names.
        coefficients: of each member, checked (:func:`check`).
        turn: the period's number, which breaks ties.
    """
    if generated.wh is None:
        return [_open(None, own, generated) for own in consumed]
    allotted = divide(generated.wh, coefficients, turn)
    return [_share(part, own, generated) for part, own in zip(allotted, consumed, strict=True)]


def by_consumption(generated: Energy, consumed: Sequence[Energy], otherwise: Sequence[int], turn: int) -> list[Share]:
    """One period in proportion to the consumption in it.

    Args:
        otherwise: coefficients for a period in which nobody consumes.
    """
    unknown = next((own for own in (generated, *consumed) if own.wh is None), None)
    if unknown is not None:
        return [_open(None, own, unknown) for own in consumed]
    weights = [own.wh or 0 for own in consumed]
    allotted = divide(generated.wh or 0, weights if any(weights) else otherwise, turn)
    # What a member gets depends on everybody's consumption: one doubt is everybody's.
    doubt = max((generated, *consumed), key=lambda own: own.certainty)
    return [_share(part, own, doubt) for part, own in zip(allotted, consumed, strict=True)]


def _open(allotted: int | None, own: Energy, why: Energy) -> Share:
    return Share(allotted, own.wh, Certainty.OPEN, why.reason)


def _share(allotted: int, own: Energy, other: Energy) -> Share:
    if own.wh is None:
        return _open(allotted, own, own)
    worst = own if own.certainty > other.certainty else other
    return Share(allotted, own.wh, worst.certainty, worst.reason)


# ---- the month's statement


@dataclass(frozen=True, slots=True)
class Statement:
    """One member's month under simplified compensation (RD 244/2019, article 14). Money is in euro cents.

    Attributes:
        allotted, consumed, self_consumed, surplus, from_grid: Wh.
        bought: value of what was taken from the grid.
        surplus_value: value of the surplus.
        compensated: what of that is set off: never more than ``bought``.
        to_pay: ``bought - compensated``.
    """

    allotted: int
    consumed: int
    self_consumed: int
    surplus: int
    from_grid: int
    bought: int
    surplus_value: int
    compensated: int
    to_pay: int


# Micro-euro per kWh times Wh is 1e-9 euro, so every product is a whole number of these.
_PER_CENT = 10_000_000


def statement(shares: Sequence[Share], buy: Sequence[int], sell: Sequence[int]) -> Statement:
    """A month's periods, each with its prices in micro-euro per kWh.

    The month's values are added up exactly and rounded once, to cents, half away from zero. Prices of surplus may be
    negative; then nothing is compensated.

    Raises:
        ValueError: a period is open, or prices and periods are not as many.
    """
    allotted = consumed = own = bought = sold = 0
    for share, dear, cheap in zip(shares, buy, sell, strict=True):
        if share.allotted is None or share.consumed is None:
            raise ValueError("a period is open")
        both = min(share.allotted, share.consumed)
        allotted, consumed, own = allotted + share.allotted, consumed + share.consumed, own + both
        bought += (share.consumed - both) * dear
        sold += (share.allotted - both) * cheap
    to_buy, value = _cents(bought), _cents(sold)
    compensated = max(0, min(to_buy, value))
    return Statement(
        allotted, consumed, own, allotted - own, consumed - own, to_buy, value, compensated, to_buy - compensated
    )


def _cents(nano_euro: int) -> int:
    whole = (abs(nano_euro) * 2 + _PER_CENT) // (2 * _PER_CENT)
    return whole if nano_euro >= 0 else -whole


def counts(shares: Sequence[Share]) -> Mapping[str, int]:
    """How many are settled, provisional and open."""
    return {kind.word: sum(1 for share in shares if share.certainty is kind) for kind in Certainty}
