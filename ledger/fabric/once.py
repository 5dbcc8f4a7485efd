"""Gets a transaction committed exactly once, whatever dies on the way: this process, a peer, the orderers.

The caller keeps the signed envelope, before it is sent, where no crash reaches it; after a crash it gives it back.

Rules
- Outcome unknown: ask, for as long as the deadline of CommitStatus; then the same envelope again; copies count once.
- A new proposal only when the former one is known to be committed as invalid, or was never sent.
- What waiting does not help is raised at once, everything else when the patience is over; the kept envelope then
  stays the only one there may ever be, until it is known what became of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ledger.fabric.errors import GatewayError, Move, RefusedByContract, Step, judge
from ledger.fabric.gateway import Proposal, Transaction

_FIRST_PAUSE_S = 0.1
# Peers and orderers come back within 0.3-21 s; a second more does not matter.
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Committed:
    """A valid transaction.

    Attributes:
        block: where it is, at the peer that was asked.
        result: the contract's answer.
    """

    tx_id: str
    block: int
    result: bytes


def _never(_: RefusedByContract) -> bool:
    return False


def commit_once(
    propose: Callable[[], Proposal],
    keep: Callable[[bytes], None],
    *,
    kept: Transaction | None = None,
    lags: Callable[[RefusedByContract], bool] = _never,
    patience_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> Committed:
    """Endorse, keep, submit, ask; again as :func:`~ledger.fabric.errors.judge` says.

    Args:
        propose: a new proposal of the same call; called once for each endorsement that is tried.
        keep: stores an envelope for good, in place of the one before; must have done so when it returns.
        kept: of before a crash (:meth:`~ledger.fabric.gateway.Network.transaction`): asked about first.
        lags: whether this refusal only means that an endorser has not seen yet what is committed elsewhere.
        patience_s: after the first failure later than this nothing more is tried.
        clock: seconds, monotonic.
        pause: waits so many seconds; what it raises (a shutdown) ends it all.

    Raises:
        GatewayError: the last one.
        KeyProblem: the key store cannot sign now.
    """
    until = clock() + patience_s
    transaction, move = kept, Move.ANEW if kept is None else Move.ASK
    wait_s = _FIRST_PAUSE_S
    while True:
        try:
            if transaction is None or move is Move.ANEW:
                transaction = propose().endorse()
                keep(transaction.envelope)
                move = Move.SEND_AGAIN
            if move is Move.SEND_AGAIN:
                transaction.submit()
            return Committed(transaction.tx_id, transaction.commit.wait(), transaction.content.result)
        except GatewayError as error:
            move = Move.ANEW if isinstance(error, RefusedByContract) and lags(error) else judge(error)
            if move is Move.GIVE_UP or clock() >= until:
                raise
            asks_at_once = move is Move.ASK and error.step is Step.SUBMIT
        if not asks_at_once:
            pause(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_PAUSE_S)
