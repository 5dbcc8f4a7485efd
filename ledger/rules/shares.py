"""Whole numbers divided in proportion, exactly: allotment, and who gave whom.

Rules
- Largest remainder: everybody gets the whole part of the exact share; what is left goes, one each, to the largest
  remainders.
- Of equal remainders the first is the one at place ``turn`` in the order given, counted round: with the number of the
  period as ``turn`` nobody is always the first. The callers give parties in ascending order of their names, so a
  result depends on names and never on the order in which somebody listed them.
- The shares add up to the total; none is below zero, none more than one away from the exact share.
"""

from __future__ import annotations

from collections.abc import Sequence


def divide(total: int, weights: Sequence[int], turn: int = 0) -> list[int]:
    """``total`` in proportion to ``weights``, none of which is negative; all zero only with a total of zero."""
    whole = sum(weights)
    if not total:
        return [0] * len(weights)
    if whole <= 0 or total < 0:
        raise ValueError(f"{total} cannot be divided by weights that add up to {whole}")
    shares, remainders = [], []
    for weight in weights:
        share, remainder = divmod(total * weight, whole)
        shares.append(share)
        remainders.append(remainder)
    left = total - sum(shares)
    if left:
        count = len(weights)
        order = sorted(range(count), key=lambda at: (-remainders[at], (at - turn) % count))
        for at in order[:left]:
            shares[at] += 1
    return shares


def matrix(rows: Sequence[int], columns: Sequence[int], turn: int = 0) -> list[list[int]]:
    """Whole numbers with these sums of rows and columns, each cell near ``row * column / total``.

    Row after row is divided in proportion to what the columns still lack, so no column ever lacks less than nothing,
    and the last row takes what is left of each.

    Raises:
        ValueError: rows and columns have different totals.
    """
    if sum(rows) != sum(columns):
        raise ValueError(f"rows add up to {sum(rows)}, columns to {sum(columns)}")
    lacking, cells = list(columns), []
    for row in rows:
        given = divide(row, lacking, turn)
        lacking = [lack - part for lack, part in zip(lacking, given, strict=True)]
        cells.append(given)
    return cells
