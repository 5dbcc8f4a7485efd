"""Who gave whom: one period's surpluses meet the deficits of the same period.

Rules
- Standing orders are served first, the oldest first: as much as the seller has left, the buyer lacks, and the order's
  limit per period allows.
- The rest is pro rata: what can be given is the smaller of all surplus and all deficit; of the larger side everybody
  takes part in proportion (largest remainder, ties in turn), and among sellers and buyers in proportion again.
- What no member takes goes to the grid; what no member gives comes from it. For each member: surplus = given + to the
  grid, deficit = received + from the grid, exactly; and all that is given is received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.rules.shares import divide, matrix


@dataclass(frozen=True, slots=True)
class Order:
    """Two members' agreement, members by their place in the ascending order of names.

    Attributes:
        limit_wh: at most so much in one period.
        price: micro-euro per kWh.
    """

    seller: int
    buyer: int
    limit_wh: int
    price: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """``wh`` from one member to another in one period; ``price`` None = pro rata, without an order."""

    seller: int
    buyer: int
    wh: int
    price: int | None = None


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One period.

    Attributes:
        transfers: by orders, in their order; then pro rata, by seller and buyer.
        to_grid, from_grid: of each member, Wh.
    """

    transfers: tuple[Transfer, ...]
    to_grid: tuple[int, ...]
    from_grid: tuple[int, ...]


def exchange(surplus: Sequence[int], deficit: Sequence[int], orders: Sequence[Order], turn: int) -> Exchanged:
    """One period's transfers.

    Args:
        surplus, deficit: of each member, Wh; nobody has both.
        orders: the oldest first.
        turn: the period's number, which breaks ties.
    """
    has, lacks, transfers = list(surplus), list(deficit), []
    for order in orders:
        wh = min(has[order.seller], lacks[order.buyer], order.limit_wh)
        if wh > 0:
            has[order.seller] -= wh
            lacks[order.buyer] -= wh
            transfers.append(Transfer(order.seller, order.buyer, wh, order.price))
    given, received = _meet(has, lacks, turn)
    sellers = [member for member, wh in enumerate(given) if wh]
    buyers = [member for member, wh in enumerate(received) if wh]
    cells = matrix([given[member] for member in sellers], [received[member] for member in buyers], turn)
    for seller, row in zip(sellers, cells, strict=True):
        transfers += [Transfer(seller, buyer, wh) for buyer, wh in zip(buyers, row, strict=True) if wh]
    left = tuple(one - other for one, other in zip(has, given, strict=True))
    still = tuple(one - other for one, other in zip(lacks, received, strict=True))
    return Exchanged(tuple(transfers), left, still)


def _meet(has: list[int], lacks: list[int], turn: int) -> tuple[list[int], list[int]]:
    """What each gives and what each receives: the scarcer side all of it, the other in proportion."""
    supply, demand = sum(has), sum(lacks)
    if supply <= demand:
        return has, divide(supply, lacks, turn)
    return divide(demand, has, turn), lacks
