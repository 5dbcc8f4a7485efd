"""What a real network answered (tests/vectors/fabric/record.py), and what the client makes of it."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from fabric_protos.common.common_pb2 import ChannelHeader, Envelope, Header, SignatureHeader
from fabric_protos.gateway import gateway_pb2 as pb
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from fabric_protos.peer.events_pb2 import DeliverResponse
from fabric_protos.peer.proposal_pb2 import Proposal

from ledger.fabric import errors, messages
from ledger.fabric.errors import GatewayError, Step, explain, verdict
from ledger.fabric.events import read_block
from ledger.fabric.gateway import code_name, details_of
from signer.cose import CURVE_ORDER

FOLDER = Path(__file__).parents[2] / "vectors" / "fabric"
RECORDED: dict[str, list[dict[str, Any]]] = {
    consensus: json.loads((FOLDER / f"recorded-{consensus}.json").read_text())["exchanges"]
    for consensus in ("raft", "bft")
}
STEPS = {"Evaluate": Step.EVALUATE, "Endorse": Step.ENDORSE, "Submit": Step.SUBMIT, "CommitStatus": Step.STATUS}

EXPECTED: dict[tuple[str, str], type[GatewayError]] = {
    ("refusal", "Endorse"): errors.RefusedByContract,
    ("refusal", "Evaluate"): errors.RefusedByContract,
    ("failure", "Endorse"): errors.NotEndorsed,
    ("failure", "Evaluate"): errors.NotEndorsed,
    ("mismatch", "Endorse"): errors.NotEndorsed,
    ("copy", "Submit"): errors.Duplicate,  # BFT's; behind Raft it is taken
    ("replay", "Endorse"): errors.Duplicate,
    ("no such channel", "Endorse"): errors.NotEndorsed,
    ("no such contract", "Endorse"): errors.NotEndorsed,
    ("no such contract", "Evaluate"): errors.NotEndorsed,
    ("no such organisation", "Endorse"): errors.Unavailable,
    ("forged", "Submit"): errors.NotOrdered,
    ("stranger", "Endorse"): errors.Forbidden,
    ("stranger", "Evaluate"): errors.Forbidden,
    ("stranger", "CommitStatus"): errors.Forbidden,
    ("deadline", "CommitStatus"): errors.OutcomeUnknown,
    ("an organisation's contract is down", "Endorse"): errors.NotEndorsed,
    ("no orderer", "Submit"): errors.OutcomeUnknown,
    ("no orderer", "CommitStatus"): errors.OutcomeUnknown,
    ("no peer", "Submit"): errors.OutcomeUnknown,
    ("no peer", "CommitStatus"): errors.OutcomeUnknown,
    ("no peer", "Evaluate"): errors.Unavailable,
}

both = pytest.mark.parametrize("exchanges", RECORDED.values(), ids=RECORDED.keys())


def method(exchange: dict[str, Any]) -> str:
    return str(exchange["method"]).rpartition("/")[2]


def raw(exchange: dict[str, Any], what: str) -> bytes:
    return base64.b64decode(exchange[what])


def those(exchanges: list[dict[str, Any]], *wanted: str) -> list[dict[str, Any]]:
    found = [exchange for exchange in exchanges if method(exchange) in wanted]
    assert found
    return found


def verify(creator: bytes, message: bytes, signature: bytes) -> None:
    key = x509.load_pem_x509_certificate(SerializedIdentity.FromString(creator).id_bytes).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    assert decode_dss_signature(signature)[1] <= CURVE_ORDER // 2


@both
def test_each_error_is_of_the_class_that_it_was_judged_to_be(exchanges: list[dict[str, Any]]) -> None:
    met = set()
    for exchange in exchanges:
        if exchange["code"] != "OK":
            step = STEPS[method(exchange)]
            error = explain(step, exchange["code"], exchange["message"], details_of(raw(exchange, "details")))
            assert type(error) is EXPECTED[exchange["name"], method(exchange)], exchange["name"]
            met.add((exchange["name"], method(exchange)))
            if isinstance(error, errors.RefusedByContract):
                assert (error.reason, error.words) == ("out of order", "the ledger has 7: nothing else")
                assert error.details[0].msp_id == "CommunityMSP"
    assert set(EXPECTED) - met <= {("copy", "Submit")}


@both
def test_proposals_are_signed_and_named_as_the_network_wants(exchanges: list[dict[str, Any]]) -> None:
    for exchange in those(exchanges, "Endorse", "Evaluate"):
        kind = pb.EndorseRequest if method(exchange) == "Endorse" else pb.EvaluateRequest
        request = kind.FromString(raw(exchange, "request"))
        signed = request.proposed_transaction
        header = Header.FromString(Proposal.FromString(signed.proposal_bytes).header)
        signature = SignatureHeader.FromString(header.signature_header)
        verify(signature.creator, signed.proposal_bytes, signed.signature)
        assert request.transaction_id == messages.transaction_id(signature.nonce, signature.creator)
        assert request.transaction_id == ChannelHeader.FromString(header.channel_header).tx_id


@both
def test_prepared_transactions_echo_their_proposals(exchanges: list[dict[str, Any]]) -> None:
    for exchange in those(exchanges, "Endorse"):
        if exchange["code"] == "OK":
            request = pb.EndorseRequest.FromString(raw(exchange, "request"))
            payload = pb.EndorseResponse.FromString(raw(exchange, "answer")).prepared_transaction.payload
            content = messages.check_echo(payload, request.proposed_transaction.proposal_bytes)
            assert content.contract == "tried"
            organisations = {SerializedIdentity.FromString(endorser).mspid for endorser, _ in content.endorsements}
            assert organisations == {"CommunityMSP", "DistributorMSP"}
            for endorser, signature in content.endorsements:
                verify(endorser, content.response + endorser, signature)


@both
def test_what_is_submitted_is_what_was_prepared(exchanges: list[dict[str, Any]]) -> None:
    prepared = {
        pb.EndorseResponse.FromString(raw(exchange, "answer")).prepared_transaction.payload
        for exchange in those(exchanges, "Endorse")
        if exchange["code"] == "OK"
    }
    for exchange in those(exchanges, "Submit"):
        envelope = pb.SubmitRequest.FromString(raw(exchange, "request")).prepared_transaction
        assert envelope.payload in prepared
        content = messages.opened(envelope.payload)
        if exchange["name"] != "forged":
            verify(messages.serialised(content.creator), envelope.payload, envelope.signature)


@both
def test_the_status_of_a_copy_is_that_of_the_first(exchanges: list[dict[str, Any]]) -> None:
    answers = {}
    for exchange in those(exchanges, "CommitStatus"):
        if exchange["code"] == "OK":
            answer = pb.CommitStatusResponse.FromString(raw(exchange, "answer"))
            error = verdict("", code_name(answer.result), answer.block_number)
            answers.setdefault(exchange["name"], []).append((answer.block_number, type(error).__name__))
    (first, valid), (_, conflict) = answers["conflict"]
    assert (valid, conflict) == ("NoneType", "Conflict")
    assert answers["copy"] == [(first, "NoneType")]


@both
def test_blocks_continue_one_another(exchanges: list[dict[str, Any]]) -> None:
    (stream,) = (one for one in those(exchanges, "Deliver") if one["name"] == "blocks")
    found = [DeliverResponse.FromString(base64.b64decode(message)).block for message in stream["messages"]]
    blocks = [read_block(block) for block in found]
    assert len(blocks) == 4
    for before, after in pairwise(blocks):
        assert (after.number, after.previous) == (before.number + 1, before.header)
    assert [[t.code for t in block.transactions] for block in blocks] == [
        ["VALID"], ["VALID"], ["VALID"], ["MVCC_READ_CONFLICT"]
    ]  # fmt: skip
    submitted = {
        messages.opened(Envelope.FromString(data).payload).tx_id for block in found for data in block.data.data
    }
    assert {t.content.tx_id for block in blocks for t in block.transactions if t.content} == submitted
    assert all(b"nobody's business" not in block.SerializeToString() for block in found)


@both
def test_a_stranger_gets_no_block_but_a_status(exchanges: list[dict[str, Any]]) -> None:
    (stream,) = (one for one in those(exchanges, "Deliver") if one["name"] == "stranger")
    (message,) = stream["messages"]
    assert DeliverResponse.FromString(base64.b64decode(message)).status == 403


@both
def test_events_are_those_of_valid_transactions(exchanges: list[dict[str, Any]]) -> None:
    (stream,) = (one for one in those(exchanges, "ChaincodeEvents") if one["name"] == "events")
    answers = [pb.ChaincodeEventsResponse.FromString(base64.b64decode(message)) for message in stream["messages"]]
    assert [event.payload for answer in answers for event in answer.events] == [b"k", b"r", b"again"]


def test_the_forged_envelope_is_one_bit_away_from_a_true_one() -> None:
    """So that the recording proves that the orderers looked at the signature."""
    for exchanges in RECORDED.values():
        (forged,) = (one for one in exchanges if one["name"] == "forged")
        envelope = pb.SubmitRequest.FromString(raw(forged, "request")).prepared_transaction
        content = messages.opened(envelope.payload)
        flipped = envelope.signature[:-1] + bytes([envelope.signature[-1] ^ 1])
        verify(messages.serialised(content.creator), envelope.payload, flipped)
        assert sha256(envelope.signature).digest() != sha256(flipped).digest()
