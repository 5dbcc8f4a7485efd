"""What every ledger offers: batches go in, receipts or refusals come out.

Rules
- The same batch again gets the same receipt, byte for byte.
- A refusal is an answer, not an error; errors are what keeps a ledger from answering at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.rules.measurements import Refused
from signer.batch import Batch
from signer.statement import Claims


class LedgerProblem(Exception):
    """The ledger's store cannot be used. Whose move: the operator's.

    Attributes:
        waiting_helps: whether the same may work later (a full disk), or not (somebody else's file).
    """

    def __init__(self, words: str, waiting_helps: bool = False) -> None:
        super().__init__(words)
        self.waiting_helps = waiting_helps


class ChainBroken(LedgerProblem):
    """Commits are not what they were. Whose move: whoever keeps the ledger's disk and backups."""


class NotCommitted(Exception):
    """A batch was refused; the sender's move.

    Attributes:
        refused: the reason, and where the ledger stands.
    """

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.reason.name.lower().replace('_', ' ')}: {refused.words}")
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Submission:
    """A batch on its way into a ledger.

    Attributes:
        gateway: who published it, as the transport has authenticated it.
        claims: its statements, parsed.
    """

    gateway: str
    batch: Batch
    claims: Sequence[Claims]


@dataclass(frozen=True, slots=True)
class Receipted:
    """It is committed. ``receipt`` is the signed word; ``new`` is False when it was committed before."""

    receipt: bytes
    new: bool


Outcome = Receipted | Refused


class Ledger(Protocol):
    """A place where batches are committed; seen from there an uplink is a ledger behind a bad line."""

    def commit(self, batch: Batch, claims: Sequence[Claims], gateway: str, timeout_s: float) -> tuple[bytes, ...]:
        """Receipts of the batch, one from each organisation that committed it.

        Raises:
            NotCommitted: it was refused.
            LedgerProblem: the ledger cannot answer.
        """
