"""What every ledger offers: batches go in, receipts or refusals come out.

Rules
- The same batch again gets the same receipt, byte for byte.
- A refusal is an answer, not an error; errors are what keeps a ledger from answering at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.rules.measurements import Gateway, Refused, Stream
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


class Intake(Protocol):
    """A ledger as an ingestion peer serves it: batches are handed over, answers come when they are there.

    Used from one thread.
    """

    @property
    def trouble(self) -> str:
        """What keeps it from committing now, for people; empty = nothing."""

    def when_ready(self, wake: Callable[[], None]) -> None:
        """``wake`` is called, from any thread, when there are answers to fetch."""

    def hand_over(self, group: Sequence[tuple[int, Submission]]) -> None:
        """Take batches, each with a number that its answer will have.

        Raises:
            LedgerProblem: the ledger cannot be used any more.
        """

    def answers(self) -> list[tuple[int, Outcome]]:
        """What is answered since the last time. Every batch is, sooner or later.

        Raises:
            LedgerProblem: the ledger cannot be used any more.
        """

    def position(self, gateway: str, stream: bytes) -> tuple[Gateway | None, Stream | None]:
        """The registry's entry of a gateway, and where a stream stands.

        Raises:
            LedgerProblem: the ledger cannot be read, or not now.
        """


class Ledger(Protocol):
    """A place where batches are committed; seen from there an uplink is a ledger behind a bad line."""

    def commit(self, batch: Batch, claims: Sequence[Claims], gateway: str, timeout_s: float) -> tuple[bytes, ...]:
        """Receipts of the batch, one from each organisation that committed it.

        Raises:
            NotCommitted: it was refused.
            LedgerProblem: the ledger cannot answer.
        """
