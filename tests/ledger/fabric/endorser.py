"""The least client there can be: asks a real peer for the height of a channel, as whoever one likes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2

from ledger.fabric.identities import Issued
from ledger.fabric.profile import Identity, Profile
from signer.keys.file import FileKey

TIMEOUT_S = 20.0


@contextmanager
def connected(profile: Profile, organisation: str, tls: Identity | None) -> Iterator[grpc.Channel]:
    """A connection to an organisation's peer, with ``tls``'s certificate or with none."""
    credentials = grpc.ssl_channel_credentials(
        profile.organisation(organisation).tls_ca.read_bytes(),
        tls.tls_key.read_bytes() if tls and tls.tls_key else None,
        tls.tls_certificate.read_bytes() if tls and tls.tls_certificate else None,
    )
    with grpc.secure_channel(profile.peers_of(organisation)[0].address, credentials) as channel:
        yield channel


def height(channel: grpc.Channel, profile: Profile, msp_id: str, who: Issued) -> int:
    """Height of the channel, asked by ``who`` as a member of ``msp_id``.

    Raises:
        PermissionError: the peer refuses, with its words.
    """
    response = _ask(channel, _proposal(profile.channel, msp_id, who), who)
    if response.response.status != 200:
        raise PermissionError(response.response.message)
    return int(ledger_pb2.BlockchainInfo.FromString(response.response.payload).height)


def _proposal(channel: str, msp_id: str, who: Issued) -> bytes:
    certificate = who.certificate.public_bytes(Encoding.PEM)
    creator = SerializedIdentity(mspid=msp_id, id_bytes=certificate).SerializeToString()
    nonce = os.urandom(24)
    chaincode = chaincode_pb2.ChaincodeID(name="qscc")
    header = common_pb2.ChannelHeader(
        type=common_pb2.ENDORSER_TRANSACTION,
        channel_id=channel,
        tx_id=hashlib.sha256(nonce + creator).hexdigest(),
        extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id=chaincode).SerializeToString(),
    )
    header.timestamp.seconds = int(time.time())
    call = chaincode_pb2.ChaincodeInvocationSpec(
        chaincode_spec=chaincode_pb2.ChaincodeSpec(
            chaincode_id=chaincode,
            input=chaincode_pb2.ChaincodeInput(args=[b"GetChainInfo", channel.encode()]),
        )
    )
    payload = proposal_pb2.ChaincodeProposalPayload(input=call.SerializeToString())
    both = common_pb2.Header(
        channel_header=header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString(),
    )
    made = proposal_pb2.Proposal(header=both.SerializeToString(), payload=payload.SerializeToString())
    return bytes(made.SerializeToString())


def _ask(channel: grpc.Channel, proposal: bytes, who: Issued) -> proposal_response_pb2.ProposalResponse:
    raw = FileKey(who.key).sign_digest(hashlib.sha256(proposal).digest())
    signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    process = channel.unary_unary(
        "/protos.Endorser/ProcessProposal",
        request_serializer=proposal_pb2.SignedProposal.SerializeToString,
        response_deserializer=proposal_response_pb2.ProposalResponse.FromString,
    )
    signed = proposal_pb2.SignedProposal(proposal_bytes=proposal, signature=signature)
    try:
        return process(signed, timeout=TIMEOUT_S)  # type: ignore[no-any-return]
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNKNOWN:  # type: ignore[attr-defined]
            raise PermissionError(error.details()) from None  # type: ignore[attr-defined]
        raise
