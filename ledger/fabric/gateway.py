"""A client of Hyperledger Fabric's Gateway service, in the shape of the official ones.

    gateway = Gateway(connect("peer0.org1:7051", tls), Identity("Org1MSP", pem), key)
    contract = gateway.network("energy").contract("measurements")
    answer = contract.evaluate("Head", arguments)
    answer = contract.submit("SubmitBatch", arguments, transient={"batch": batch})

Or step by step: ``contract.new_proposal(...)``, ``.endorse()``, ``.submit()``, ``.wait()``. It never retries: that is
:mod:`ledger.fabric.once`. What an error means is in :mod:`ledger.fabric.errors`, blocks and events are in
:mod:`ledger.fabric.events`.

Rules
- Keys stay in their :class:`~signer.keys.KeyStore`, which sees digests only.
- Every call has a deadline (streams, which may be silent for days, have gRPC's keepalive), and ends in an answer or
  in one :class:`~ledger.fabric.errors.GatewayError`.
- A signed envelope exists before it is sent, so that it can be kept: :attr:`Transaction.envelope`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common.common_pb2 import Envelope
from fabric_protos.gateway import gateway_pb2 as pb
from fabric_protos.gateway.gateway_pb2_grpc import GatewayStub
from fabric_protos.peer.proposal_pb2 import SignedProposal
from fabric_protos.peer.transaction_pb2 import TxValidationCode
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status as RpcStatus

from ledger.fabric import messages
from ledger.fabric.errors import Detail, GatewayError, NotAsProposed, Step, explain, verdict
from ledger.fabric.messages import Endorsed, Invocation, Malformed
from ledger.fabric.stub import Identity
from signer.keys import KeyStore

# As peers and orderers take them.
_MAX_MESSAGE_BYTES = 100 * 1024 * 1024

OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # A peer that comes back is found within a second; gRPC's own default grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # This one, in spite of its name, is how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A peer that vanished without closing is noticed within 90 s; more often than once a minute it takes for abuse.
    ("grpc.keepalive_time_ms", 70_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files.

    Attributes:
        roots: the CAs of the peer's TLS certificate.
        key: ours, where the peer asks for one, with its certificate.
        server_name: in the peer's certificate, where it is not the address's host.
    """

    roots: Path
    key: Path | None = None
    certificate: Path | None = None
    server_name: str = ""

    @property
    def certificate_hash(self) -> bytes:
        """What a peer with mutual TLS wants to read in a request for blocks; empty without a certificate."""
        if self.certificate is None:
            return b""
        return hashlib.sha256(x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_bytes(_DER)).digest()


_DER = Encoding.DER


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for each call. A contract may run for 30 s, a single Raft orderer be gone for 21 s."""

    evaluate_s: float = 35.0
    endorse_s: float = 35.0
    submit_s: float = 10.0
    status_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Status:
    """What became of a transaction.

    Attributes:
        code: VALID, or why not, in Fabric's words.
        block: where it is.
    """

    code: str
    block: int


def connect(address: str, tls: ClientTls | None) -> Any:
    """A gRPC channel to a peer, ``host:port``; None = plain text. It connects by itself, again and again.

    Raises:
        OSError: a file of TLS cannot be read.
    """
    if tls is None:
        return grpc.insecure_channel(address, OPTIONS)
    pair = [path.read_bytes() if path else None for path in (tls.key, tls.certificate)]
    credentials = grpc.ssl_channel_credentials(tls.roots.read_bytes(), *pair)
    name = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
    return grpc.secure_channel(address, credentials, OPTIONS + name)


class Gateway:
    """One identity at one peer. May be used by several threads."""

    def __init__(
        self,
        channel: Any,
        identity: Identity,
        key: KeyStore,
        *,
        deadlines: Deadlines | None = None,
        certificate_hash: bytes = b"",
    ) -> None:
        """
        Args:
            channel: see :func:`connect`; closed with this.
            certificate_hash: :attr:`ClientTls.certificate_hash`, for blocks from a peer with mutual TLS.

        Raises:
            ValueError: the key is not the certificate's.
        """
        if identity.certificate.public_key() != key.public_key:
            raise ValueError(f"the key is not that of the certificate of {identity.name} ({identity.msp_id})")
        self.channel = channel
        self.creator = messages.serialised(identity)
        self.deadlines = deadlines or Deadlines()
        self.certificate_hash = certificate_hash
        self.service = GatewayStub(channel)
        self._key = key

    def network(self, name: str) -> Network:
        """The channel of this name."""
        return Network(self, name)

    def sign(self, message: bytes) -> bytes:
        """Raises KeyProblem: the key store cannot sign now."""
        return messages.sign(self._key, message)

    def close(self) -> None:
        """The end of every call that is under way. Close first what follows blocks or events."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Network:
    """One channel, as this identity sees it at this peer."""

    gateway: Gateway
    name: str

    def contract(self, name: str) -> Contract:
        """The contract of this name."""
        return Contract(self, name)

    def transaction(self, envelope: bytes) -> Transaction:
        """One that was signed and kept before.

        Raises:
            Malformed: these bytes are none of this channel.
        """
        try:
            kept = Envelope.FromString(envelope)
        except DecodeError as error:
            raise Malformed("no envelope") from error
        content = messages.opened(kept.payload)
        if content.channel != self.name or not kept.signature:
            raise Malformed(f"no signed envelope for channel {self.name}, but for {content.channel}")
        return Transaction(self, envelope, content)

    def commit(self, tx_id: str) -> Commit:
        """To ask what became of a transaction."""
        return Commit(self, tx_id)


@dataclass(frozen=True, slots=True)
class Contract:
    """One contract on one channel."""

    network: Network
    name: str

    def new_proposal(
        self,
        function: str,
        *arguments: bytes,
        transient: Mapping[str, bytes] | None = None,
        organisations: Sequence[str] = (),
    ) -> Proposal:
        """A signed proposal, with a nonce and an id of its own.

        Args:
            transient: what the endorsers see and no block holds.
            organisations: whose peers are to endorse (or evaluate); none = those that the policy needs.

        Raises:
            KeyProblem: the key store cannot sign now.
        """
        gateway = self.network.gateway
        invocation = Invocation(self.network.name, self.name, [function.encode(), *arguments], transient or {})
        tx_id, proposed = messages.proposal(
            invocation, gateway.creator, os.urandom(messages.NONCE_BYTES), time.time_ns()
        )
        return Proposal(self.network, tx_id, proposed, gateway.sign(proposed), tuple(organisations))

    def evaluate(self, function: str, *arguments: bytes, transient: Mapping[str, bytes] | None = None) -> bytes:
        """The answer of one peer; nothing is ordered.

        Raises:
            GatewayError: see :mod:`ledger.fabric.errors`.
        """
        return self.new_proposal(function, *arguments, transient=transient).evaluate()

    def submit(self, function: str, *arguments: bytes, transient: Mapping[str, bytes] | None = None) -> bytes:
        """The answer, once the transaction is committed as valid. One attempt.

        Raises:
            GatewayError: see :mod:`ledger.fabric.errors`; ``OutcomeUnknown`` where only a kept envelope would help.
        """
        transaction = self.new_proposal(function, *arguments, transient=transient).endorse()
        transaction.submit().wait()
        return transaction.content.result


@dataclass(frozen=True, slots=True)
class Proposal:
    """Signed by us, to be shown to peers.

    Attributes:
        proposed: the bytes that the signature covers.
    """

    network: Network
    tx_id: str
    proposed: bytes
    signature: bytes
    organisations: tuple[str, ...] = ()

    def evaluate(self) -> bytes:
        """The answer of one peer. Raises GatewayError."""
        gateway = self.network.gateway
        request = pb.EvaluateRequest(**self._request(), target_organizations=self.organisations)
        response = call(gateway.service.Evaluate, request, gateway.deadlines.evaluate_s, Step.EVALUATE, self.tx_id)
        result: bytes = response.result.payload
        return result

    def endorse(self) -> Transaction:
        """The transaction with enough endorsements, signed by us and not yet sent.

        Raises:
            GatewayError: they could not be had, or what came back is not what was proposed.
            KeyProblem: the key store cannot sign now.
        """
        gateway = self.network.gateway
        request = pb.EndorseRequest(**self._request(), endorsing_organizations=self.organisations)
        response = call(gateway.service.Endorse, request, gateway.deadlines.endorse_s, Step.ENDORSE, self.tx_id)
        payload: bytes = response.prepared_transaction.payload
        try:
            content = messages.check_echo(payload, self.proposed)
        except Malformed as error:
            raise NotAsProposed(Step.ENDORSE, "", str(error), (), self.tx_id) from error
        return Transaction(self.network, messages.envelope(payload, gateway.sign(payload)), content)

    def _request(self) -> dict[str, Any]:
        signed = SignedProposal(proposal_bytes=self.proposed, signature=self.signature)
        return {"transaction_id": self.tx_id, "channel_id": self.network.name, "proposed_transaction": signed}


@dataclass(frozen=True, slots=True)
class Transaction:
    """Endorsed, signed, ready to be ordered.

    Attributes:
        envelope: keep these bytes before :meth:`submit`; :meth:`Network.transaction` takes them again.
        content: what is inside; ``content.result`` is the contract's answer.
    """

    network: Network
    envelope: bytes
    content: Endorsed

    @property
    def tx_id(self) -> str:
        """Its id."""
        return self.content.tx_id

    def submit(self) -> Commit:
        """Send it to be ordered.

        Raises:
            GatewayError: it may have been ordered nevertheless, unless it is ``NotOrdered`` or ``BadRequest``.
        """
        gateway = self.network.gateway
        request = pb.SubmitRequest(
            transaction_id=self.tx_id,
            channel_id=self.network.name,
            prepared_transaction=Envelope.FromString(self.envelope),  # two fields of bytes, which stay as they are
        )
        call(gateway.service.Submit, request, gateway.deadlines.submit_s, Step.SUBMIT, self.tx_id)
        return self.commit

    @property
    def commit(self) -> Commit:
        """To ask what became of it."""
        return Commit(self.network, self.tx_id)


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction that may have been ordered."""

    network: Network
    tx_id: str

    def status(self) -> Status:
        """Waits until it is committed at this peer, for as long as the deadline allows.

        The peer does not sign this answer: it is for who trusts it (its own organisation).

        Raises:
            GatewayError: ``OutcomeUnknown`` when the deadline has passed.
            KeyProblem: the key store cannot sign now.
        """
        gateway = self.network.gateway
        request = messages.to_bytes(
            pb.CommitStatusRequest(transaction_id=self.tx_id, channel_id=self.network.name, identity=gateway.creator)
        )
        signed = pb.SignedCommitStatusRequest(request=request, signature=gateway.sign(request))
        response = call(gateway.service.CommitStatus, signed, gateway.deadlines.status_s, Step.STATUS, self.tx_id)
        return Status(code_name(response.result), response.block_number)

    def wait(self) -> int:
        """The number of the block where it is valid.

        Raises:
            GatewayError: also ``Conflict`` and ``Invalid``: it is committed as invalid, for ever.
        """
        status = self.status()
        failure = verdict(self.tx_id, status.code, status.block)
        if failure is not None:
            raise failure
        return status.block


def call(method: Callable[..., Any], request: Any, deadline_s: float, step: Step, tx_id: str) -> Any:
    """One unary call. Raises GatewayError."""
    try:
        return method(request, timeout=deadline_s)
    except grpc.RpcError as error:
        raise failure(step, error, tx_id) from error


def failure(step: Step, error: Any, tx_id: str = "") -> GatewayError:
    """What a failed call of gRPC means."""
    trailing = dict(error.trailing_metadata() or ())
    details = details_of(trailing.get("grpc-status-details-bin", b""))
    return explain(step, error.code().name, error.details() or "", details, tx_id)


def code_name(number: int) -> str:
    """Of a validation code, also of one that is newer than the bindings."""
    return str(TxValidationCode.Name(number)) if number in TxValidationCode.values() else f"CODE_{number}"


def details_of(status: bytes) -> list[Detail]:
    try:
        packed = RpcStatus.FromString(status).details
        found = []
        for one in packed:
            detail = pb.ErrorDetail()
            if one.Unpack(detail):
                found.append(Detail(detail.address, detail.msp_id, detail.message))
        return found
    except DecodeError:
        return [Detail("", "", "details that cannot be read")]  # what went wrong is still in the code and the message
