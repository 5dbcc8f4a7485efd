"""What goes wrong between a client and Hyperledger Fabric: one class for each whose-move-is-it, and what to do next.

Pure: decodes codes and words, and judges; it neither calls nor waits.

Rules (Fabric's ``internal/pkg/gateway``, 3.1.5, run against a real network)
- The top message alone says little: what each peer or orderer answered is in the details.
- A refusal by a contract is ABORTED on Endorse and UNKNOWN on Evaluate, ``chaincode response 4xx, reason: words`` in
  a detail. 5xx is a contract that failed, or has no time now: another time it may succeed.
- After Submit was tried nobody knows, until CommitStatus says. The one exception: orderers that say no (4xx).
- BFT orderers answer a copy with "request already processed"; behind Raft a copy is marked DUPLICATE_TXID. Both mean
  that the first copy is what counts, valid or not: ask what became of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

_RESPONSE = re.compile(r"chaincode response (\d{3}), (.*)", re.DOTALL)
_ORDERER_SAYS_NO = re.compile(r"status=(BAD_REQUEST|FORBIDDEN|NOT_FOUND|REQUEST_ENTITY_TOO_LARGE)\b")
_PROCESSED = "request already processed"
_REPLAYED = "duplicate transaction found"
# In the words of gRPC for Python and for Go, of either end.
_TOO_LARGE = re.compile(r"message larger than max", re.IGNORECASE)
# Of core/endorser/msgvalidation.go and the channel's ACLs.
_NO_ACCESS = re.compile(r"access denied|policy evaluation failed|failed evaluating policy|checkACL", re.IGNORECASE)


class Step(StrEnum):
    """Where in a transaction's way it happened."""

    EVALUATE = "evaluate"
    ENDORSE = "endorse"
    SUBMIT = "submit"
    STATUS = "commit status"
    EVENTS = "events"


class Move(StrEnum):
    """What a client does next.

    ASK: ask what became of the transaction. SEND_AGAIN: the same envelope. ANEW: wait a little, then a new proposal.
    GIVE_UP: waiting does not help; somebody else's move, as the error's class says.
    """

    ASK = "ask"
    SEND_AGAIN = "send again"
    ANEW = "anew"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Detail:
    """What one peer or orderer answered to the Gateway."""

    address: str
    msp_id: str
    message: str

    def __str__(self) -> str:
        return f"{self.address} ({self.msp_id}): {self.message}"


class GatewayError(Exception):
    """A call to the Gateway did not succeed.

    Attributes:
        step: which call.
        code: name of gRPC's status code, or of the transaction's validation code.
        details: what each peer or orderer said.
        tx_id: of the transaction, or empty.
    """

    def __init__(self, step: Step, code: str, message: str, details: Iterable[Detail] = (), tx_id: str = "") -> None:
        self.step, self.code, self.details, self.tx_id = step, code, tuple(details), tx_id
        said = "; ".join([message, *map(str, self.details)])
        super().__init__(f"{step} of {tx_id[:8]}: {said}" if tx_id else f"{step}: {said}")


class RefusedByContract(GatewayError):
    """The contract declines, nothing is written. Whose move: the caller's; waiting does not help, with one exception.

    An endorser of another organisation that lags has not seen yet what is committed; only the caller can tell.

    Attributes:
        reason: for a program.
        words: for a person.
        status: 400..499.
    """

    reason = words = ""
    status = 400


class NotEndorsed(GatewayError):
    """The endorsements could not be had. Whose move: the organisations'; waiting may help, with a new proposal."""


class Unavailable(GatewayError):
    """The peer or those behind it cannot be reached, and nothing was ordered. Waiting helps."""


class Conflict(GatewayError):
    """Something that was read has changed before the commit; nothing is written. A new proposal may succeed."""


class OutcomeUnknown(GatewayError):
    """It may have been ordered, or not. Ask; then the same envelope again, never another."""


class Duplicate(GatewayError):
    """A copy, or a proposal shown again: the first one has been ordered. Nobody's move: ask."""


class Invalid(GatewayError):
    """Committed as invalid for ever, nothing is written. Whose move: the operator's, as the code says."""


class Forbidden(GatewayError):
    """This identity may not. Whose move: its organisation's, or the channel's administrators'."""


class NotOrdered(GatewayError):
    """The orderers say no to the envelope. Whose move: the operator's."""


class BadRequest(GatewayError):
    """No Gateway takes this request, as it is or as it is configured. Whose move: the caller's."""


class TooLarge(BadRequest):
    """More than a message may carry. Whose move: the caller's, with less at a time."""


class NotAsProposed(GatewayError):
    """The Gateway gave back another transaction than was proposed; it was not signed. Whose move: its operator's."""


class AnotherChain(GatewayError):
    """The blocks do not continue those that were seen before. Whose move: the operator's."""


_ANEW = (NotEndorsed, Unavailable, Conflict)


def judge(error: GatewayError) -> Move:
    """What to do next, without knowing what the transaction was about."""
    if isinstance(error, _ANEW):
        return Move.ANEW
    if isinstance(error, OutcomeUnknown):
        return Move.SEND_AGAIN if error.step is Step.STATUS else Move.ASK
    return Move.ASK if isinstance(error, Duplicate) else Move.GIVE_UP


def explain(step: Step, code: str, message: str, details: Sequence[Detail] = (), tx_id: str = "") -> GatewayError:
    """The error of a call that ended with this gRPC status."""
    said = [message, *(detail.message for detail in details)]
    if step in (Step.EVALUATE, Step.ENDORSE):
        for text in reversed(said):
            found = _RESPONSE.search(text)
            if found and found[1].startswith("4"):
                return _refused(step, code, message, details, tx_id, int(found[1]), found[2])
    kind: type[GatewayError]
    if any(_TOO_LARGE.search(text) for text in said):
        kind = TooLarge
    elif code in ("INVALID_ARGUMENT", "UNIMPLEMENTED"):
        kind = BadRequest
    elif code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        kind = Forbidden
    elif step is Step.ENDORSE and any(_REPLAYED in text for text in said):
        kind = Duplicate
    elif step is Step.SUBMIT:
        kind = _not_submitted(message, details)
    elif step is Step.STATUS:
        kind = OutcomeUnknown
    elif step is Step.EVENTS or code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
        kind = Unavailable
    else:
        kind = Forbidden if details and all(_NO_ACCESS.search(d.message) for d in details) else NotEndorsed
    return kind(step, code, message, details, tx_id)


def verdict(tx_id: str, code: str, block: int) -> GatewayError | None:
    """What a validation code means; None = valid."""
    if code == "VALID":
        return None
    kind = {
        "DUPLICATE_TXID": Duplicate,
        "MVCC_READ_CONFLICT": Conflict,
        "PHANTOM_READ_CONFLICT": Conflict,
    }.get(code, Invalid)
    return kind(Step.STATUS, code, f"committed in block {block} as {code}", (), tx_id)


def _refused(
    step: Step, code: str, message: str, details: Sequence[Detail], tx_id: str, status: int, answer: str
) -> RefusedByContract:
    refused = RefusedByContract(step, code, message, details, tx_id)
    reason, colon, words = answer.partition(": ")
    refused.reason, refused.words = (reason, words) if colon else ("", answer)
    refused.status = status
    return refused


def _not_submitted(message: str, details: Sequence[Detail]) -> type[GatewayError]:
    said = [detail.message for detail in details] or [message]
    if any(_PROCESSED in text for text in said):
        return Duplicate
    # One of several orderers may be wrong, or lie: only what all say counts.
    return NotOrdered if all(_ORDERER_SAYS_NO.search(text) for text in said) else OutcomeUnknown
