"""The bytes of a transaction between a client and Hyperledger Fabric: proposals, envelopes, what is inside.

Pure: nonce and time are arguments, nothing is sent; of a key only its signature is asked for.

Rules (Fabric's ``protoutil``, 3.1.5)
- Creator = SerializedIdentity of MSP id and PEM; transaction id = hex of SHA-256(nonce, creator).
- ECDSA over SHA-256, DER, low-S. What is signed is sent as those bytes, never serialised again.
- Only a transaction that echoes its proposal is signed: header, arguments, contract, and nothing of the transient map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from fabric_protos.common.common_pb2 import ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from fabric_protos.peer.chaincode_event_pb2 import ChaincodeEvent
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from ledger.fabric.stub import Identity
from signer.keys import KeyStore

NONCE_BYTES = 24


class Malformed(ValueError):
    """These bytes are no transaction, or not the one that was proposed."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What is asked of a contract.

    Attributes:
        arguments: the function's name first.
        transient: what the endorsers see and no block will hold.
    """

    channel: str
    contract: str
    arguments: Sequence[bytes]
    transient: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endorsed:
    """What an endorsed transaction holds.

    Attributes:
        creator: who proposed it.
        timestamp_ns: of the proposal, POSIX: its creator's clock.
        result: the contract's answer.
        event: name and payload, or None.
        response: what each endorser signed, followed by its own identity.
        endorsements: (serialised identity, DER signature) of each.
    """

    channel: str
    tx_id: str
    creator: Identity
    timestamp_ns: int
    contract: str
    arguments: tuple[bytes, ...]
    result: bytes
    event: tuple[str, bytes] | None
    response: bytes
    endorsements: tuple[tuple[bytes, bytes], ...]


def serialised(identity: Identity) -> bytes:
    """An identity as Fabric carries it."""
    return to_bytes(SerializedIdentity(mspid=identity.msp_id, id_bytes=identity.pem))


def transaction_id(nonce: bytes, creator: bytes) -> str:
    """Of the proposal with this nonce by this serialised identity."""
    return hashlib.sha256(nonce + creator).hexdigest()


def sign(key: KeyStore, message: bytes) -> bytes:
    """DER signature, low-S.

    Raises:
        KeyProblem: the store cannot sign now.
    """
    signature = key.sign_digest(hashlib.sha256(message).digest())
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def channel_header(kind: int, channel: str, timestamp_ns: int, **more: Any) -> bytes:
    """Of a proposal or of a request for blocks."""
    stamp = Timestamp()
    stamp.FromNanoseconds(timestamp_ns)
    return to_bytes(ChannelHeader(type=kind, channel_id=channel, timestamp=stamp, **more))


def proposal(invocation: Invocation, creator: bytes, nonce: bytes, timestamp_ns: int) -> tuple[str, bytes]:
    """Transaction id and the proposal to be signed."""
    tx_id = transaction_id(nonce, creator)
    contract = chaincode_pb2.ChaincodeID(name=invocation.contract)
    extension = to_bytes(proposal_pb2.ChaincodeHeaderExtension(chaincode_id=contract))
    header = Header(
        channel_header=channel_header(
            HeaderType.ENDORSER_TRANSACTION, invocation.channel, timestamp_ns, tx_id=tx_id, extension=extension
        ),
        signature_header=to_bytes(SignatureHeader(creator=creator, nonce=nonce)),
    )
    spec = chaincode_pb2.ChaincodeSpec(
        chaincode_id=contract, input=chaincode_pb2.ChaincodeInput(args=invocation.arguments)
    )
    payload = proposal_pb2.ChaincodeProposalPayload(
        input=to_bytes(chaincode_pb2.ChaincodeInvocationSpec(chaincode_spec=spec)), TransientMap=invocation.transient
    )
    return tx_id, to_bytes(proposal_pb2.Proposal(header=to_bytes(header), payload=to_bytes(payload)))


def envelope(payload: bytes, signature: bytes) -> bytes:
    """A payload with its signature, as it is sent and kept."""
    return to_bytes(Envelope(payload=payload, signature=signature))


def check_echo(payload: bytes, proposed: bytes) -> Endorsed:
    """What is inside a prepared transaction, which must be what was proposed.

    Raises:
        Malformed: it is another one, or part of one; it must not be signed.
    """
    try:
        ours = proposal_pb2.Proposal.FromString(proposed)
        asked = proposal_pb2.ChaincodeProposalPayload.FromString(ours.payload)
        header = Header.FromString(ours.header)
        theirs = Payload.FromString(payload)
        action, answer = _action(theirs)
        cleared = proposal_pb2.ChaincodeProposalPayload.FromString(action.chaincode_proposal_payload)
        actions = transaction_pb2.Transaction.FromString(theirs.data).actions
    except DecodeError as error:
        raise Malformed("the prepared transaction is no protobuf of one") from error
    digest = hashlib.sha256(header.channel_header + header.signature_header + action.chaincode_proposal_payload)
    faults = {
        "another header": theirs.header != header or actions[0].header != header.signature_header,
        "other arguments": cleared.input != asked.input,
        "transient data in the transaction": bool(cleared.TransientMap),
        "endorsements of another proposal": answer.proposal_hash != digest.digest(),
        "no endorsement": not action.action.endorsements,
    }
    wrong = [fault for fault, found in faults.items() if found]
    if wrong:
        raise Malformed(f"the prepared transaction is not the one proposed: {', '.join(wrong)}")
    return opened(payload)


def opened(payload: bytes) -> Endorsed:
    """What is inside a transaction of a contract.

    Raises:
        Malformed: it is none.
    """
    try:
        outer = Payload.FromString(payload)
        channel = ChannelHeader.FromString(outer.header.channel_header)
        creator = SerializedIdentity.FromString(SignatureHeader.FromString(outer.header.signature_header).creator)
        action, answer = _action(outer)
        done = proposal_pb2.ChaincodeAction.FromString(answer.extension)
        asked = proposal_pb2.ChaincodeProposalPayload.FromString(action.chaincode_proposal_payload)
        spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(asked.input).chaincode_spec
        event = ChaincodeEvent.FromString(done.events)
        timestamp_ns = channel.timestamp.ToNanoseconds()
    except (DecodeError, ValueError) as error:
        raise Malformed(f"no transaction of a contract: {error}") from error
    if channel.type != HeaderType.ENDORSER_TRANSACTION:
        raise Malformed(f"no transaction of a contract, but of type {channel.type}")
    return Endorsed(
        channel.channel_id,
        channel.tx_id,
        Identity(creator.mspid, creator.id_bytes),
        timestamp_ns,
        spec.chaincode_id.name,
        tuple(spec.input.args),
        done.response.payload,
        (event.event_name, event.payload) if event.event_name else None,
        action.action.proposal_response_payload,
        tuple((endorsement.endorser, endorsement.signature) for endorsement in action.action.endorsements),
    )


def to_bytes(message: Any) -> bytes:
    """A protobuf's bytes."""
    data: bytes = message.SerializeToString()
    return data


def _action(payload: Any) -> tuple[Any, Any]:
    actions = transaction_pb2.Transaction.FromString(payload.data).actions
    if len(actions) != 1:
        raise Malformed(f"a transaction of {len(actions)} actions; Fabric knows one")
    action = transaction_pb2.ChaincodeActionPayload.FromString(actions[0].payload)
    answer = proposal_response_pb2.ProposalResponsePayload.FromString(action.action.proposal_response_payload)
    return action, answer
