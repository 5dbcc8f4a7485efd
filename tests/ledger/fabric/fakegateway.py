"""A peer's Gateway and block service over real gRPC, on top of :mod:`tests.ledger.fabric.fakepeer`.

Written after Fabric 3.1.5 (`internal/pkg/gateway`, `core/endorser`, `orderer/common/broadcast`, `common/deliver`): it
verifies creators, signatures (low-S), transaction ids; prepares transactions as the real one does; orders one block a
transaction, or holds them until `cut()`; finds duplicates as Raft does (a copy in a block, DUPLICATE_TXID) or as BFT
does ("request already processed"); tells validation codes, blocks and events. Errors carry the real one's codes, words
and details. It knows one peer; what other organisations' peers would answer are faults:

    gateway.faults.append(Fault("Submit", "UNAVAILABLE", done=True))      # dead after it had been ordered
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fabric_protos.common import common_pb2 as common
from fabric_protos.gateway import gateway_pb2 as pb
from fabric_protos.gateway.gateway_pb2_grpc import GatewayServicer, add_GatewayServicer_to_server
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from fabric_protos.orderer.ab_pb2 import SeekInfo
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from fabric_protos.peer.chaincode_event_pb2 import ChaincodeEvent
from fabric_protos.peer.events_pb2 import DeliverResponse
from fabric_protos.peer.events_pb2_grpc import DeliverServicer, add_DeliverServicer_to_server
from fabric_protos.peer.transaction_pb2 import TxValidationCode
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.status_pb2 import Status as RpcStatus

from hw_sim.authority import FABRIC_ATTRIBUTES
from ledger.fabric.stub import Identity, Stub
from signer.cose import HALF_ORDER
from signer.keys.file import FileKey
from tests.ledger.fabric.fakepeer import Collection, FakePeer, Simulation, serving

_MAX_BYTES = 100 * 1024 * 1024
_PROCESSED = "status=SERVICE_UNAVAILABLE, info=failed to submit request: request already processed"
Detail = tuple[str, str, str]


@dataclass
class Fault:
    """What goes wrong with a call.

    Attributes:
        on: Evaluate, Endorse, Submit, CommitStatus, Deliver, ChaincodeEvents; `commit` is a transaction's validation.
        code: of gRPC, or of the validation; empty = goes well.
        details: address, MSP id and words of each peer or orderer behind the Gateway.
        done: what was asked is done, only its answer is lost.
        after: how many go well before; of a stream, how many messages.
        wait: answer when this event is set.
        tamper: change the prepared transaction's payload.
    """

    on: str
    code: str = ""
    message: str = "planted"
    details: Sequence[Detail] = ()
    done: bool = False
    after: int = 0
    wait: threading.Event | None = None
    tamper: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Member:
    """Somebody with a certificate of an organisation's CA, and its key."""

    identity: Identity
    key: FileKey
    private: ec.EllipticCurvePrivateKey


class Organisation:
    """A CA for tests."""

    def __init__(self, msp_id: str) -> None:
        self.msp_id = msp_id
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _certificate(f"ca.{msp_id}", self._key.public_key(), None, self._key)

    def member(self, name: str, attributes: Mapping[str, str] | None = None) -> Member:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key.public_key(), self.certificate, self._key, attributes)
        return Member(Identity(self.msp_id, certificate.public_bytes(Encoding.PEM)), FileKey(key), key)

    def accepts(self, pem: bytes) -> ec.EllipticCurvePublicKey | None:
        certificate = x509.load_pem_x509_certificate(pem)
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return None
        key = certificate.public_key()
        return key if isinstance(key, ec.EllipticCurvePublicKey) else None


@lru_cache
def organisation(msp_id: str) -> Organisation:
    return Organisation(msp_id)


@lru_cache
def member(msp_id: str, name: str) -> Member:
    return organisation(msp_id).member(name)


class Refusal(Exception):
    """The call ends with this status."""

    def __init__(self, code: str, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


@dataclass
class Prepared:
    simulation: Simulation
    payload: bytes


@dataclass
class FakeGateway(GatewayServicer, DeliverServicer):  # type: ignore[misc]
    """The Gateway of one peer on one channel.

    Attributes:
        consensus: raft or bft.
        hold: transactions are ordered, but in no block before `cut()`.
        calls: what was called, in order; `Submit` also by its envelopes in `submitted`.
    """

    peer: FakePeer
    organisations: Mapping[str, Organisation]
    consensus: str = "raft"
    hold: bool = False
    faults: list[Fault] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    submitted: list[bytes] = field(default_factory=list)
    blocks: list[Any] = field(default_factory=list)
    codes: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Condition(threading.RLock())
        self._prepared: dict[str, Prepared] = {}
        self._pool: list[Any] = []
        self._endorser = organisation(self.peer.msp_id).member(f"peer0.{self.peer.msp_id}")
        self._server: Any = None
        header = common.ChannelHeader(type=common.HeaderType.CONFIG, channel_id=self.peer.channel)
        genesis = common.Payload(header=common.Header(channel_header=header.SerializeToString()))
        self._append([common.Envelope(payload=genesis.SerializeToString()).SerializeToString()], ["VALID"])

    # --- the server ---

    def start(self, port: int = 0, credentials: Any = None) -> int:
        self._over = False
        self._threads = ThreadPoolExecutor(64, "fakegateway")
        options = [(f"grpc.max_{way}_message_length", _MAX_BYTES) for way in ("receive", "send")]
        self._server = grpc.server(self._threads, options=[*options, ("grpc.so_reuseport", 0)])
        add_GatewayServicer_to_server(self, self._server)
        add_DeliverServicer_to_server(self, self._server)
        address = f"127.0.0.1:{port}"
        bound: int = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )
        self._server.start()
        return bound

    def stop(self) -> None:
        """All that is under way breaks, as when a peer is killed."""
        with self._lock:
            self._over = True
            self._lock.notify_all()
        self._server.stop(0).wait()
        self._threads.shutdown(wait=True)

    # --- Gateway ---

    def Evaluate(self, request: Any, context: Any) -> Any:
        return self._answer("Evaluate", context, lambda: self._evaluate(request))

    def Endorse(self, request: Any, context: Any) -> Any:
        return self._answer("Endorse", context, lambda: self._endorse(request))

    def Submit(self, request: Any, context: Any) -> Any:
        return self._answer("Submit", context, lambda: self._submit(request))

    def CommitStatus(self, request: Any, context: Any) -> Any:
        return self._answer("CommitStatus", context, lambda: self._commit_status(request, context))

    def _evaluate(self, request: Any) -> Any:
        simulation, refusal = self._process(request.proposed_transaction)
        if refusal is not None:
            code, text = refusal
            message = f"evaluate call to endorser returned error: {text}"
            raise Refusal(code, message, [self._detail(text)])
        return pb.EvaluateResponse(result=simulation.response)

    def _endorse(self, request: Any) -> Any:
        if not request.proposed_transaction.proposal_bytes:
            raise Refusal("INVALID_ARGUMENT", "the proposed transaction must contain a signed proposal")
        missing = [msp for msp in request.endorsing_organizations if msp not in self.organisations]
        if missing:
            raise Refusal("UNAVAILABLE", f"failed to find any endorsing peers for org(s): {', '.join(missing)}")
        simulation, refusal = self._process(request.proposed_transaction)
        if refusal is not None:
            message = "failed to endorse transaction, see attached details for more info"
            if request.endorsing_organizations:
                message = "failed to collect enough transaction endorsements, see attached details for more info"
            raise Refusal("ABORTED", message, [self._detail(refusal[1])])
        proposal = proposal_pb2.Proposal.FromString(request.proposed_transaction.proposal_bytes)
        payload = self._prepare(proposal, simulation)
        fault = self._fault("prepare")
        with self._lock:
            self._prepared[simulation.tx_id] = Prepared(simulation, payload)
        sent = fault.tamper(payload) if fault and fault.tamper else payload
        return pb.EndorseResponse(prepared_transaction=common.Envelope(payload=sent))

    def _process(self, signed: Any) -> tuple[Simulation, tuple[str, str] | None]:
        """As an endorser's ProcessProposal, and what the Gateway makes of its answer."""
        proposal = proposal_pb2.Proposal.FromString(signed.proposal_bytes)
        header = common.Header.FromString(proposal.header)
        channel = common.ChannelHeader.FromString(header.channel_header)
        signature = common.SignatureHeader.FromString(header.signature_header)
        nothing = Simulation(channel.tx_id, channel.timestamp, "", signed, channel.channel_id)
        extension = proposal_pb2.ChaincodeHeaderExtension.FromString(channel.extension)
        if channel.channel_id != self.peer.channel or extension.chaincode_id.name not in self.peer.contracts:
            unknown = (
                f"No metadata was found for chaincode {extension.chaincode_id.name} in channel {channel.channel_id}"
            )
            text = "no combination of peers can be derived which satisfy the endorsement policy"
            raise Refusal("FAILED_PRECONDITION", f"{text}: {unknown}")
        expected = hashlib.sha256(signature.nonce + signature.creator).hexdigest()
        if channel.tx_id != expected:
            text = f"incorrectly computed txid '{channel.tx_id}' -- expected '{expected}'"
            return nothing, ("FAILED_PRECONDITION", f"error validating proposal: {text}")
        if not self._verified(signature.creator, signed.proposal_bytes, signed.signature):
            msp = SerializedIdentity.FromString(signature.creator).mspid
            whose = (
                f"creator org [{msp}]"
                if self._key_of(signature.creator)
                else "creator org unknown, creator is malformed"
            )
            text = f"access denied: channel [{channel.channel_id}] {whose}"
            return nothing, ("FAILED_PRECONDITION", f"error validating proposal: {text}")
        with self._lock:
            if channel.tx_id in self.codes:
                return nothing, ("FAILED_PRECONDITION", f"duplicate transaction found [{channel.tx_id}]")
        simulation = self.peer.endorse(signed)
        if simulation.response is None:
            return simulation, ("ABORTED", simulation.failure)
        status = simulation.response.status
        if not 200 <= status < 400:
            return simulation, ("UNKNOWN", f"chaincode response {status}, {simulation.response.message}")
        return simulation, None

    def _prepare(self, proposal: Any, simulation: Simulation) -> bytes:
        header = common.Header.FromString(proposal.header)
        asked = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(asked.input).chaincode_spec
        cleared = proposal_pb2.ChaincodeProposalPayload(input=asked.input).SerializeToString()
        done = proposal_pb2.ChaincodeAction(
            results=hashlib.sha256(repr(sorted(simulation.writes)).encode()).digest(),
            response=simulation.response,
            chaincode_id=chaincode_pb2.ChaincodeID(name=spec.chaincode_id.name, version="1.0"),
        )
        if simulation.event is not None:
            name, payload = simulation.event
            done.events = ChaincodeEvent(
                chaincode_id=spec.chaincode_id.name, tx_id=simulation.tx_id, event_name=name, payload=payload
            ).SerializeToString()
        digest = hashlib.sha256(header.channel_header + header.signature_header + cleared).digest()
        answer = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=digest, extension=done.SerializeToString()
        ).SerializeToString()
        endorser = SerializedIdentity(
            mspid=self._endorser.identity.msp_id, id_bytes=self._endorser.identity.pem
        ).SerializeToString()
        signature = self._endorser.private.sign(answer + endorser, ec.ECDSA(hashes.SHA256()))
        action = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=cleared,
            action=transaction_pb2.ChaincodeEndorsedAction(
                proposal_response_payload=answer,
                endorsements=[proposal_response_pb2.Endorsement(endorser=endorser, signature=signature)],
            ),
        )
        actions = [
            transaction_pb2.TransactionAction(header=header.signature_header, payload=action.SerializeToString())
        ]
        transaction = transaction_pb2.Transaction(actions=actions)
        payload: bytes = common.Payload(header=header, data=transaction.SerializeToString()).SerializeToString()
        return payload

    def _submit(self, request: Any) -> Any:
        envelope = request.prepared_transaction
        if not envelope.signature:
            raise Refusal("INVALID_ARGUMENT", "prepared transaction must be signed")
        header = common.Payload.FromString(envelope.payload).header
        creator = common.SignatureHeader.FromString(header.signature_header).creator
        with self._lock:
            self.submitted.append(envelope.SerializeToString())
            if not self._verified(creator, envelope.payload, envelope.signature):
                text = "status=FORBIDDEN, info=implicit policy evaluation failed - 0 sub-policies were satisfied"
                self._orderers_say(f"{text}, but this policy requires 1 of the 'Writers' sub-policies to be satisfied")
            tx_id = common.ChannelHeader.FromString(header.channel_header).tx_id
            if self.consensus == "bft":
                if tx_id in self.codes:
                    self._orderers_say(_PROCESSED)
                if any(one.payload == envelope.payload for one in self._pool):
                    return pb.SubmitResponse()  # "request already exists", which the Gateway takes for a success
            self._pool.append(envelope)
            if not self.hold:
                self.cut()
            return pb.SubmitResponse()

    def _orderers_say(self, text: str) -> None:
        text = f"received unsuccessful response from orderer: {text}"
        if self.consensus == "raft":
            raise Refusal("ABORTED", text)
        raise Refusal(
            "UNAVAILABLE",
            "insufficient number of orderers could successfully process transaction to satisfy quorum requirement",
            [(f"orderer{i}:7050", "OrdererMSP", text) for i in range(2)],
        )

    def cut(self) -> None:
        """A block of all that waits."""
        with self._lock:
            pool, self._pool = self._pool, []
            if not pool:
                return
            ids = [
                common.ChannelHeader.FromString(common.Payload.FromString(one.payload).header.channel_header).tx_id
                for one in pool
            ]
            codes: list[str] = []
            fresh: list[Simulation] = []
            for place, (tx_id, envelope) in enumerate(zip(ids, pool, strict=True)):
                prepared = self._prepared.get(tx_id)
                fault = self._fault("commit")
                if tx_id in self.codes or tx_id in ids[:place]:
                    codes.append("DUPLICATE_TXID")
                elif prepared is None or prepared.payload != envelope.payload:
                    codes.append("ENDORSEMENT_POLICY_FAILURE")
                elif fault is not None:
                    codes.append(fault.code)
                else:
                    fresh.append(prepared.simulation)
                    codes.append("")
            found = iter(self.peer.submit(*fresh))
            codes = [code or next(found) for code in codes]
            for tx_id, code in zip(ids, codes, strict=True):
                self.codes.setdefault(tx_id, (code, len(self.blocks)))
            self._append([one.SerializeToString() for one in pool], codes)

    def _append(self, data: Sequence[bytes], codes: Sequence[str]) -> None:
        previous = self.blocks[-1].header if self.blocks else None
        block = common.Block(
            header=common.BlockHeader(
                number=len(self.blocks),
                previous_hash=_header_hash(previous) if previous else b"",
                data_hash=hashlib.sha256(b"".join(data)).digest(),
            ),
            data=common.BlockData(data=data),
            metadata=common.BlockMetadata(
                metadata=[b"", b"", bytes(TxValidationCode.Value(code) for code in codes), b"", b""]
            ),
        )
        with self._lock:
            self.blocks.append(block)
            self._lock.notify_all()

    def _commit_status(self, signed: Any, context: Any) -> Any:
        request = pb.CommitStatusRequest.FromString(signed.request)
        if not self._verified(request.identity, signed.request, signed.signature):
            raise Refusal("PERMISSION_DENIED", "failed evaluating policy on signed data: access denied")
        with self._waiting(context):
            while request.transaction_id not in self.codes:
                if not context.is_active() or self._over:
                    raise Refusal("CANCELLED", "context canceled")
                self._lock.wait()
            code, block = self.codes[request.transaction_id]
        return pb.CommitStatusResponse(result=TxValidationCode.Value(code), block_number=block)

    # --- streams ---

    def ChaincodeEvents(self, signed: Any, context: Any) -> Iterator[Any]:
        self.calls.append("ChaincodeEvents")
        request = pb.ChaincodeEventsRequest.FromString(signed.request)
        if not self._verified(request.identity, signed.request, signed.signature):
            _abort(context, Refusal("PERMISSION_DENIED", "failed evaluating policy on signed data: access denied"))
        after = request.after_transaction_id
        start = request.start_position.specified.number
        if request.start_position.WhichOneof("Type") != "specified":
            start = len(self.blocks)
        if after in self.codes:
            start = self.codes[after][1]
        passed = not after
        for block in self._from(start, context, "ChaincodeEvents"):
            events = []
            for event in _events(block):
                if passed and event.chaincode_id == request.chaincode_id:
                    events.append(event)
                passed = passed or event.tx_id == after
            if events:
                yield pb.ChaincodeEventsResponse(block_number=block.header.number, events=events)

    def Deliver(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        self.calls.append("Deliver")
        for envelope in requests:
            payload = common.Payload.FromString(envelope.payload)
            channel = common.ChannelHeader.FromString(payload.header.channel_header)
            creator = common.SignatureHeader.FromString(payload.header.signature_header).creator
            seek = SeekInfo.FromString(payload.data)
            if channel.channel_id != self.peer.channel:
                yield DeliverResponse(status=common.Status.NOT_FOUND)
            elif not self._verified(creator, envelope.payload, envelope.signature):
                yield DeliverResponse(status=common.Status.FORBIDDEN)
            else:
                last = seek.stop.specified.number
                for block in self._from(seek.start.specified.number, context, "Deliver"):
                    yield DeliverResponse(block=block)
                    if block.header.number == last:
                        yield DeliverResponse(status=common.Status.SUCCESS)
                        break
                else:
                    return
                continue
            return

    def _from(self, number: int, context: Any, call: str) -> Iterator[Any]:
        sent = 0
        while True:
            fault = next((one for one in self.faults if one.on == call and one.after == sent), None)
            if fault is not None:
                self.faults.remove(fault)
                _abort(context, Refusal(fault.code, fault.message, fault.details))
            with self._waiting(context):
                while number >= len(self.blocks):
                    if not context.is_active() or self._over:
                        return
                    self._lock.wait()
                block = self.blocks[number]
            yield block
            number, sent = number + 1, sent + 1

    # --- how ---

    @contextmanager
    def _waiting(self, context: Any) -> Iterator[None]:
        def wake() -> None:
            with self._lock:
                self._lock.notify_all()

        context.add_callback(wake)  # False when it is over already: is_active tells
        with self._lock:
            yield

    def _answer(self, call: str, context: Any, work: Callable[[], Any]) -> Any:
        self.calls.append(call)
        fault = self._fault(call)
        try:
            if fault is None:
                return work()
            answer = work() if fault.done or not fault.code else None
            if fault.wait is not None:
                fault.wait.wait(20)
            if fault.code:
                raise Refusal(fault.code, fault.message, fault.details)
            return answer
        except Refusal as refusal:
            return _abort(context, refusal)

    def _fault(self, name: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.on == name:
                    if fault.after == 0:
                        self.faults.remove(fault)
                        return fault
                    fault.after -= 1
        return None

    def _verified(self, creator: bytes, message: bytes, signature: bytes) -> bool:
        key = self._key_of(creator)
        if key is None:
            return False
        try:
            if decode_dss_signature(signature)[1] > int.from_bytes(HALF_ORDER, "big"):
                return False
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True

    def _key_of(self, creator: bytes) -> ec.EllipticCurvePublicKey | None:
        identity = SerializedIdentity.FromString(creator)
        known = self.organisations.get(identity.mspid)
        return known.accepts(identity.id_bytes) if known else None

    def _detail(self, message: str) -> Detail:
        return (f"peer0.{self.peer.msp_id}:7051", self.peer.msp_id, message)


@contextmanager
def gateway_over(
    invoke: Callable[[Stub], bytes],
    collections: Mapping[str, Collection] | None = None,
    *,
    consensus: str = "raft",
    name: str = "tried",
) -> Iterator[tuple[FakeGateway, str]]:
    """A contract served by our shim, a peer, its Gateway; and where that listens."""
    with serving(invoke, collections, name=name) as peer:
        known = {msp_id: organisation(msp_id) for msp_id in ("Org1MSP", "Org2MSP")}
        gateway = FakeGateway(peer, known, consensus)
        port = gateway.start()
        try:
            yield gateway, f"127.0.0.1:{port}"
        finally:
            gateway.stop()


def _abort(context: Any, refusal: Refusal) -> Any:
    code = getattr(grpc.StatusCode, refusal.code)
    if refusal.details:
        status = RpcStatus(code=code.value[0], message=refusal.message)
        for address, msp_id, message in refusal.details:
            packed = Packed()
            packed.Pack(pb.ErrorDetail(address=address, msp_id=msp_id, message=message))
            status.details.append(packed)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, refusal.message)


def _events(block: Any) -> Iterator[Any]:
    """As the Gateway finds them, `internal/pkg/gateway/event`."""
    for code, data in zip(block.metadata.metadata[2], block.data.data, strict=True):
        payload = common.Payload.FromString(common.Envelope.FromString(data).payload)
        channel = common.ChannelHeader.FromString(payload.header.channel_header)
        if channel.type != common.HeaderType.ENDORSER_TRANSACTION or code != TxValidationCode.VALID:
            continue
        for action in transaction_pb2.Transaction.FromString(payload.data).actions:
            endorsed = transaction_pb2.ChaincodeActionPayload.FromString(action.payload).action
            answer = proposal_response_pb2.ProposalResponsePayload.FromString(endorsed.proposal_response_payload)
            event = ChaincodeEvent.FromString(proposal_pb2.ChaincodeAction.FromString(answer.extension).events)
            if event.chaincode_id:
                yield event


def _header_hash(header: Any) -> bytes:
    """Go's asn1.Marshal of the three fields, not the code under test."""
    number = header.number.to_bytes((header.number.bit_length() + 8) // 8, "big")
    parts = [(2, number), (4, header.previous_hash), (4, header.data_hash)]
    body = b"".join(bytes([tag, len(value)]) + value for tag, value in parts)
    return hashlib.sha256(bytes([0x30, len(body)]) + body).digest()


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    attributes: Mapping[str, str] | None = None,
) -> x509.Certificate:
    said = json.dumps({"attrs": dict(attributes or {})}).encode()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.UnrecognizedExtension(FABRIC_ATTRIBUTES, said), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
