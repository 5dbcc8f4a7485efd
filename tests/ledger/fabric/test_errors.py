"""What each answer of a Gateway means, and what to do next: tables, in the words of Fabric 3.1.5."""

from __future__ import annotations

import itertools

import grpc
import pytest

from ledger.fabric import errors
from ledger.fabric.errors import Detail, GatewayError, Move, Step, explain, judge, verdict

QUORUM = "insufficient number of orderers could successfully process transaction to satisfy quorum requirement"
ENDORSE = "failed to endorse transaction, see attached details for more info"
COLLECT = "failed to collect enough transaction endorsements, see attached details for more info"
ORDERER = "received unsuccessful response from orderer: status="
PROCESSED = f"{ORDERER}SERVICE_UNAVAILABLE, info=failed to submit request: request already processed"
WRITERS = f"{ORDERER}FORBIDDEN, info=implicit policy evaluation failed - 0 sub-policies were satisfied"
DIAL = 'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing"'
DENIED = "error validating proposal: access denied: channel [energy] creator org [Org1MSP]"
MISSING = "private data matching public hash version is not available"

CASES: list[tuple[Step, str, str, list[str], type[GatewayError], Move]] = [
    # a contract's answer
    (Step.ENDORSE, "ABORTED", ENDORSE, ["chaincode response 400, fork: x"], errors.RefusedByContract, Move.GIVE_UP),
    (Step.ENDORSE, "ABORTED", COLLECT, [DIAL, "chaincode response 409, a: b"], errors.RefusedByContract, Move.GIVE_UP),
    (Step.EVALUATE, "UNKNOWN", "evaluate call to endorser returned error: chaincode response 404, unknown: x", [],
     errors.RefusedByContract, Move.GIVE_UP),
    (Step.ENDORSE, "ABORTED", ENDORSE, ["chaincode response 500, KeyError"], errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "ABORTED", COLLECT, ["chaincode response 503, the contract's server is busy"],
     errors.NotEndorsed, Move.ANEW),
    (Step.EVALUATE, "UNKNOWN", "...: chaincode response 500, PeerError", [], errors.NotEndorsed, Move.ANEW),
    # endorsements that cannot be had
    (Step.ENDORSE, "ABORTED", COLLECT, ["ProposalResponsePayloads do not match"], errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "ABORTED", COLLECT, [DIAL], errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "ABORTED", ENDORSE, [f"error in simulation: failed: {MISSING}"], errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "ABORTED", ENDORSE, ["error in simulation: chaincode stream terminated"],
     errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "FAILED_PRECONDITION", "no combination of peers can be derived", [], errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "UNKNOWN", "too many requests for /gateway.Gateway, exceeding concurrency limit (500)", [],
     errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "UNAVAILABLE", "failed to find any endorsing peers for org(s): Org2MSP", [],
     errors.Unavailable, Move.ANEW),
    (Step.ENDORSE, "DEADLINE_EXCEEDED", "endorsement timeout expired", [], errors.Unavailable, Move.ANEW),
    (Step.EVALUATE, "UNAVAILABLE", "failed to connect to all addresses", [], errors.Unavailable, Move.ANEW),
    (Step.EVALUATE, "FAILED_PRECONDITION", "no peers available", [], errors.NotEndorsed, Move.ANEW),
    (Step.ENDORSE, "ABORTED", ENDORSE, ["duplicate transaction found [00ff]. Creator [0a0c]"],
     errors.Duplicate, Move.ASK),
    # who may not, what cannot be
    (Step.ENDORSE, "ABORTED", ENDORSE, [DENIED], errors.Forbidden, Move.GIVE_UP),
    (Step.EVALUATE, "FAILED_PRECONDITION", "evaluate call to endorser returned error", [DENIED],
     errors.Forbidden, Move.GIVE_UP),
    (Step.ENDORSE, "ABORTED", COLLECT, [DENIED, DIAL], errors.NotEndorsed, Move.ANEW),
    (Step.STATUS, "PERMISSION_DENIED", "failed evaluating policy", [], errors.Forbidden, Move.GIVE_UP),
    (Step.EVENTS, "PERMISSION_DENIED", "failed evaluating policy", [], errors.Forbidden, Move.GIVE_UP),
    (Step.ENDORSE, "INVALID_ARGUMENT", "the proposed transaction must contain", [], errors.BadRequest, Move.GIVE_UP),
    (Step.SUBMIT, "UNIMPLEMENTED", "unknown service gateway.Gateway", [], errors.BadRequest, Move.GIVE_UP),
    (Step.ENDORSE, "RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (105 vs. 104)", [],
     errors.TooLarge, Move.GIVE_UP),
    (Step.SUBMIT, "RESOURCE_EXHAUSTED", "grpc: received message larger than max (105 vs. 104)", [],
     errors.TooLarge, Move.GIVE_UP),
    # ordering
    (Step.SUBMIT, "ABORTED", WRITERS, [], errors.NotOrdered, Move.GIVE_UP),
    (Step.SUBMIT, "UNAVAILABLE", QUORUM, [WRITERS, WRITERS], errors.NotOrdered, Move.GIVE_UP),
    (Step.SUBMIT, "UNAVAILABLE", QUORUM, [WRITERS, DIAL], errors.OutcomeUnknown, Move.ASK),
    (Step.SUBMIT, "UNAVAILABLE", QUORUM, [PROCESSED, PROCESSED], errors.Duplicate, Move.ASK),
    (Step.SUBMIT, "UNAVAILABLE", QUORUM, [DIAL, PROCESSED], errors.Duplicate, Move.ASK),
    (Step.SUBMIT, "UNAVAILABLE", "no orderers could successfully process transaction", [DIAL],
     errors.OutcomeUnknown, Move.ASK),
    (Step.SUBMIT, "UNAVAILABLE", "Socket closed", [], errors.OutcomeUnknown, Move.ASK),
    (Step.SUBMIT, "DEADLINE_EXCEEDED", "Deadline Exceeded", [], errors.OutcomeUnknown, Move.ASK),
    (Step.SUBMIT, "FAILED_PRECONDITION", "failed to get config for channel [energy]", [],
     errors.OutcomeUnknown, Move.ASK),
    # waiting for the commit
    (Step.STATUS, "DEADLINE_EXCEEDED", "context deadline exceeded", [], errors.OutcomeUnknown, Move.SEND_AGAIN),
    (Step.STATUS, "UNAVAILABLE", "Socket closed", [], errors.OutcomeUnknown, Move.SEND_AGAIN),
    (Step.STATUS, "ABORTED", "unexpected close of commit notification channel", [],
     errors.OutcomeUnknown, Move.SEND_AGAIN),
    # events
    (Step.EVENTS, "UNAVAILABLE", "Socket closed", [], errors.Unavailable, Move.ANEW),
    (Step.EVENTS, "ABORTED", "closed", [], errors.Unavailable, Move.ANEW),
    (Step.EVENTS, "NOT_FOUND", "channel not found", [], errors.Unavailable, Move.ANEW),
]  # fmt: skip


@pytest.mark.parametrize(("step", "code", "message", "said", "kind", "move"), CASES)
def test_the_table(step: Step, code: str, message: str, said: list[str], kind: type[GatewayError], move: Move) -> None:
    details = [Detail(f"peer{place}:7051", "Org1MSP", text) for place, text in enumerate(said)]
    error = explain(step, code, message, details, "00ff")
    assert type(error) is kind
    assert judge(error) is move
    assert all(text in str(error) for text in [message, *said])


@pytest.mark.parametrize(
    ("code", "kind", "move"),
    [
        ("MVCC_READ_CONFLICT", errors.Conflict, Move.ANEW),
        ("PHANTOM_READ_CONFLICT", errors.Conflict, Move.ANEW),
        ("DUPLICATE_TXID", errors.Duplicate, Move.ASK),
        ("ENDORSEMENT_POLICY_FAILURE", errors.Invalid, Move.GIVE_UP),
        ("BAD_CREATOR_SIGNATURE", errors.Invalid, Move.GIVE_UP),
        ("CODE_77", errors.Invalid, Move.GIVE_UP),
    ],
)
def test_the_table_of_validation_codes(code: str, kind: type[GatewayError], move: Move) -> None:
    error = verdict("00ff", code, 7)
    assert type(error) is kind
    assert judge(error) is move
    assert "block 7" in str(error)


def test_valid_is_no_error() -> None:
    assert verdict("00ff", "VALID", 7) is None


def test_after_submit_was_tried_no_answer_leads_to_another_envelope() -> None:
    """Whatever a Gateway says: only a validation code, never an error, allows a second transaction."""
    said = [DIAL, WRITERS, PROCESSED, DENIED, "chaincode response 500, KeyError", "MVCC_READ_CONFLICT", ""]
    for code, step in itertools.product(grpc.StatusCode, (Step.SUBMIT, Step.STATUS)):
        for first, second in itertools.product(said, said):
            error = explain(step, code.name, first, [Detail("", "", second)])
            assert judge(error) is not Move.ANEW


def test_every_error_has_one_move() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]
    assert len(kinds) == 14
    for kind, step in itertools.product(kinds, Step):
        assert judge(kind(step, "", "x")) in Move


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        ("fork: another: batch", "fork", "another: batch"),
        ("no reason given", "", "no reason given"),
        ("unknown: two\nlines", "unknown", "two\nlines"),
        ("", "", ""),
    ],
)
def test_reason_and_words_of_a_refusal(answer: str, reason: str, words: str) -> None:
    error = explain(Step.ENDORSE, "ABORTED", ENDORSE, [Detail("p", "Org2MSP", f"chaincode response 400, {answer}")])
    assert isinstance(error, errors.RefusedByContract)
    assert (error.reason, error.words, error.status) == (reason, words, 400)
