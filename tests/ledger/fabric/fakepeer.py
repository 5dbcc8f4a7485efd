"""A peer of Hyperledger Fabric in this process: it speaks the real chaincode protocol over gRPC, keeps a world state.

Written after Fabric 3.1.5 (`core/chaincode/handler.go`, `query_response_generator.go`, `txmgr/tx_simulator.go`,
`validation`): reads see committed state only; what a transaction wrote counts once it is submitted and found valid;
private collections with members, hashes, purge and block-to-live; ranges in batches of 100, pages with bookmarks; a
history; queries on private data and pages only where nothing is written; init once; contracts that call contracts.
It does not check signatures or endorsement policies, nor does it order: who submits first is first.

    with serving(invoke, collections={"secret": Collection(("Org1MSP",))}) as ledger:
        outcome = ledger.commit("Put", [b"k", b"v"], transient={"x": b"1"}, creator=person("Org1MSP", "alice"))

Faults are data: `peer.faults.append(Fault("PUT_STATE", error="disk full"))`.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import count
from queue import Empty, Queue, SimpleQueue
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fabric_protos.common.common_pb2 import ChannelHeader, Header, HeaderType, SignatureHeader
from fabric_protos.common.policies_pb2 import SignaturePolicyEnvelope
from fabric_protos.ledger.queryresult.kv_query_result_pb2 import KV, KeyModification
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from fabric_protos.peer import chaincode_shim_pb2 as pb
from fabric_protos.peer.proposal_response_pb2 import Response
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from ledger.fabric.shim import Server, Tls
from ledger.fabric.stub import Stub
from signer.trust import FABRIC_ATTRIBUTES

Message = pb.ChaincodeMessage

RESULTS_A_MESSAGE = 100
INITIALISED = "\x00\U0010ffffinitialized"
START_NS = 1_750_000_000_000_000_000
_MAX_BYTES = 100 * 1024 * 1024
_NONE = (-1, -1)  # the version of what is not there


class Failed(Exception):
    """The peer answers with ERROR and these words."""


@dataclass(frozen=True)
class Collection:
    """A private data collection's definition."""

    members: tuple[str, ...]
    block_to_live: int = 0
    member_only_read: bool = True
    member_only_write: bool = True


@dataclass
class Fault:
    """What goes wrong with the nth message of this type from a contract.

    Attributes:
        on: name of the type, such as PUT_STATE; COMPLETED is the contract's own answer.
        after: how many go well before.
        error: answer with this error.
        payload: answer with this.
        wait: answer when this event is set.
        cut: break the stream instead of answering.
        txid: answer under this transaction id, then rightly.
        twice: answer two times.
        kind: send a message of this number instead, then the right one.
    """

    on: str
    after: int = 0
    error: str | None = None
    payload: bytes | None = None
    wait: threading.Event | None = None
    cut: bool = False
    txid: str | None = None
    twice: bool = False
    kind: int | None = None


@dataclass(frozen=True)
class Creator:
    """Who signs a proposal."""

    msp_id: str
    pem: bytes

    def serialised(self) -> bytes:
        data: bytes = SerializedIdentity(mspid=self.msp_id, id_bytes=self.pem).SerializeToString()
        return data


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        status: of the contract's answer; 0 = it gave none, and the message says what the peer met.
        code: of the submitted transaction: VALID, MVCC_READ_CONFLICT, PHANTOM_READ_CONFLICT; empty = not submitted.
        event: name and payload, when valid.
    """

    status: int
    message: str
    payload: bytes
    tx_id: str
    code: str = ""
    event: tuple[str, bytes] | None = None

    @property
    def committed(self) -> bool:
        return self.code == "VALID"


@dataclass
class Cell:
    """A value and when it was written: block and place in it."""

    value: bytes
    version: tuple[int, int]
    metadata: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Namespace:
    """One contract's committed world at one peer."""

    public: dict[str, Cell] = field(default_factory=dict)
    private: dict[str, dict[str, Cell]] = field(default_factory=dict)
    hashed: dict[str, dict[bytes, Cell]] = field(default_factory=dict)
    changes: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class Installed:
    """A contract that this peer knows."""

    name: str
    package_id: str
    address: str
    credentials: Any
    collections: Mapping[str, Collection]
    init_required: bool
    stream: PeerStream | None = None


@dataclass
class Write:
    """None as the value deletes; purge also forgets the private history."""

    value: bytes | None
    purge: bool = False


@dataclass
class Ranged:
    """What a range has given so far, to be compared when the transaction is validated."""

    name: str
    start: str
    end: str
    found: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    exhausted: bool = False

    def changed(self, cells: Mapping[str, Cell]) -> bool:
        now = [(key, cell.version) for key, cell in scan(cells, self.start, self.end)]
        return (now if self.exhausted else now[: len(self.found)]) != self.found


@dataclass
class Simulation:
    """What one transaction reads and writes; keys are (namespace, collection, key)."""

    tx_id: str
    timestamp: Any
    creator_msp: str
    signed: Any
    channel: str
    reads: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    ranges: list[Ranged] = field(default_factory=list)
    writes: dict[tuple[str, str, str], Write] = field(default_factory=dict)
    metadata: dict[tuple[str, str, str], dict[str, bytes]] = field(default_factory=dict)
    written: bool = False
    queried_private: bool = False
    paged: bool = False
    response: Any = None
    event: tuple[str, bytes] | None = None
    failure: str = ""


@dataclass
class Scan:
    """An open iterator."""

    rows: Iterator[bytes]
    ranged: Ranged | None = None
    pending: list[bytes] = field(default_factory=list)
    given: int = 0


class FakePeer:
    """One organisation's peer on one channel."""

    def __init__(
        self,
        msp_id: str = "Org1MSP",
        channel: str = "energy",
        *,
        write_batch: int = 1000,
        get_multiple: int = 1000,
        total_query_limit: int = 100_000,
        timeout_s: float = 30.0,
    ) -> None:
        self.msp_id = msp_id
        self.channel = channel
        self.write_batch = write_batch
        self.get_multiple = get_multiple
        self.total_query_limit = total_query_limit
        self.timeout_s = timeout_s
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.dropped: list[str] = []
        self.world: dict[str, Namespace] = {}
        self.height = 1
        self.valid: set[str] = set()
        self.lock = threading.RLock()
        self.contracts: dict[str, Installed] = {}
        self._nonces = count(1)

    def install(
        self,
        name: str,
        address: str,
        collections: Mapping[str, Collection] | None = None,
        *,
        package_id: str = "",
        init_required: bool = False,
        credentials: Any = None,
    ) -> None:
        """The contract's server listens at this address; the first call connects."""
        self.contracts[name] = Installed(
            name, package_id or f"{name}_1:{'ab' * 32}", address, credentials, collections or {}, init_required
        )
        self.world.setdefault(name, Namespace())

    def close(self) -> None:
        for contract in self.contracts.values():
            if contract.stream is not None:
                contract.stream.close()

    def __enter__(self) -> FakePeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- calls ---

    def propose(
        self,
        function: str | bytes,
        args: Sequence[bytes] = (),
        *,
        transient: Mapping[str, bytes] | None = None,
        creator: Creator | None = None,
        contract: str = "",
        is_init: bool = False,
        time_ns: int | None = None,
        tx_id: str | None = None,
    ) -> Any:
        """A signed proposal; every peer that gets it sees the same transaction."""
        creator = creator or person("Org1MSP", "alice")
        nonce = next(self._nonces)
        serialised = creator.serialised()
        salt = f"{self.msp_id}{nonce}".encode()
        tx_id = tx_id or sha256(salt + serialised).hexdigest()
        name = contract or next(iter(self.contracts))
        stamp = Timestamp()
        stamp.FromNanoseconds(time_ns if time_ns is not None else START_NS + nonce * 1_000_000_000)
        header = Header(
            channel_header=ChannelHeader(
                type=HeaderType.ENDORSER_TRANSACTION, channel_id=self.channel, tx_id=tx_id, timestamp=stamp
            ).SerializeToString(),
            signature_header=SignatureHeader(creator=serialised, nonce=salt).SerializeToString(),
        )
        first = function.encode() if isinstance(function, str) else function
        spec = chaincode_pb2.ChaincodeInvocationSpec(
            chaincode_spec=chaincode_pb2.ChaincodeSpec(
                chaincode_id=chaincode_pb2.ChaincodeID(name=name),
                input=chaincode_pb2.ChaincodeInput(args=[first, *args], is_init=is_init),
            )
        )
        payload = proposal_pb2.ChaincodeProposalPayload(input=spec.SerializeToString(), TransientMap=transient or {})
        proposal = proposal_pb2.Proposal(header=header.SerializeToString(), payload=payload.SerializeToString())
        return proposal_pb2.SignedProposal(proposal_bytes=proposal.SerializeToString(), signature=b"not checked here")

    def endorse(self, signed: Any) -> Simulation:
        """Simulate; nothing changes."""
        proposal = proposal_pb2.Proposal.FromString(signed.proposal_bytes)
        header = Header.FromString(proposal.header)
        channel = ChannelHeader.FromString(header.channel_header)
        creator = SerializedIdentity.FromString(SignatureHeader.FromString(header.signature_header).creator)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
        simulation = Simulation(channel.tx_id, channel.timestamp, creator.mspid, signed, self.channel)
        try:
            if channel.tx_id in self.valid:
                raise Failed(f"duplicate transaction found [{channel.tx_id}]")
            answer = self.execute(simulation, spec.chaincode_id.name, spec.input)
            if answer.type != Message.COMPLETED:
                raise Failed(f"transaction returned with failure: {answer.payload.decode()}")
            self._check_policies(simulation)
            simulation.response = Response.FromString(answer.payload)
            if answer.HasField("chaincode_event"):
                simulation.event = (answer.chaincode_event.event_name, answer.chaincode_event.payload)
        except Failed as failed:
            simulation.failure = str(failed)
        return simulation

    def _check_policies(self, simulation: Simulation) -> None:
        """Who has to endorse is read from the keys' own policies: one that cannot be read blocks its key."""
        for name, collection, key in {**simulation.writes, **simulation.metadata}:
            cell = self.cell(name, collection, key)
            try:
                SignaturePolicyEnvelope.FromString(cell.metadata.get("VALIDATION_PARAMETER", b"") if cell else b"")
            except DecodeError:
                raise Failed("error in simulation: error unmarshalling SignaturePolicyEnvelope") from None

    def submit(self, *simulations: Simulation) -> list[str]:
        """One block of them; their validation codes."""
        with self.lock:
            codes = []
            for place, simulation in enumerate(simulations):
                code = self._code(simulation)
                if code == "VALID":
                    self._apply(simulation, (self.height, place))
                    self.valid.add(simulation.tx_id)
                codes.append(code)
            self._expire()
            self.height += 1
            return codes

    def commit(self, function: str | bytes, args: Sequence[bytes] = (), **how: Any) -> Outcome:
        """Endorse here and submit, where the contract allows it. Keywords: see :meth:`propose`."""
        return self._outcome(self.endorse(self.propose(function, args, **how)), submitted=True)

    def query(self, function: str | bytes, args: Sequence[bytes] = (), **how: Any) -> Outcome:
        """Endorse only."""
        return self._outcome(self.endorse(self.propose(function, args, **how)), submitted=False)

    def _outcome(self, simulation: Simulation, *, submitted: bool) -> Outcome:
        if simulation.response is None:
            return Outcome(0, simulation.failure, b"", simulation.tx_id)
        response = simulation.response
        code = self.submit(simulation)[0] if submitted and response.status < 400 else ""
        event = simulation.event if code == "VALID" else None
        return Outcome(response.status, response.message, response.payload, simulation.tx_id, code, event)

    # --- as the peer does it ---

    def execute(self, simulation: Simulation, name: str, call: Any) -> Any:
        """Run one contract inside a transaction; its COMPLETED or ERROR message."""
        contract = self.contracts.get(name)
        if contract is None:
            raise Failed(f"make sure the chaincode {name} has been successfully defined on channel {self.channel}")
        initialised = INITIALISED in self.world[name].public
        if call.is_init:
            if not contract.init_required:
                raise Failed(f"chaincode '{name}' does not require initialization but called as init")
            if initialised:
                raise Failed(f"chaincode '{name}' is already initialized but called as init")
            simulation.writes[name, "", INITIALISED] = Write(b"1.0")
        elif contract.init_required and not initialised:
            raise Failed(f"chaincode '{name}' has not been initialized for this version, must call as init first")
        return self._launched(contract).execute(simulation, call)

    def _launched(self, contract: Installed) -> PeerStream:
        with self.lock:
            stream = contract.stream
            if stream is None or stream.over.is_set():
                stream = contract.stream = PeerStream(self, contract)
        stream.wait_ready()
        return stream

    def _code(self, simulation: Simulation) -> str:
        if simulation.tx_id in self.valid:
            return "DUPLICATE_TXID"
        for (name, collection, key), version in simulation.reads.items():
            if self.version(name, collection, key) != version:
                return "MVCC_READ_CONFLICT"
        if any(ranged.changed(self.world[ranged.name].public) for ranged in simulation.ranges):
            return "PHANTOM_READ_CONFLICT"
        return "VALID"

    def version(self, name: str, collection: str, key: str) -> tuple[int, int]:
        cell = self.cell(name, collection, key)
        return cell.version if cell else _NONE

    def cell(self, name: str, collection: str, key: str) -> Cell | None:
        """What everybody knows of a key: its value, or its digest where it is private."""
        space = self.world[name]
        if collection:
            return space.hashed.get(collection, {}).get(sha256(key.encode()).digest())
        return space.public.get(key)

    def _apply(self, simulation: Simulation, version: tuple[int, int]) -> None:
        for (name, collection, key), write in simulation.writes.items():
            space = self.world[name]
            if collection:
                self._apply_private(space, name, collection, key, write, version)
                continue
            _set(space.public, key, write.value, version)
            change = KeyModification(
                tx_id=simulation.tx_id,
                value=write.value or b"",
                timestamp=simulation.timestamp,
                is_delete=write.value is None,
            )
            space.changes.setdefault(key, []).append(change)
        for (name, collection, key), entries in simulation.metadata.items():
            cell = self.cell(name, collection, key)
            if cell is not None:  # metadata of what does not exist is dropped
                cell.metadata.update({metakey: value for metakey, value in entries.items() if value})
                for metakey, value in entries.items():
                    if not value:
                        cell.metadata.pop(metakey, None)
                cell.version = version

    def _apply_private(
        self, space: Namespace, name: str, collection: str, key: str, write: Write, version: tuple[int, int]
    ) -> None:
        digest = None if write.value is None else sha256(write.value).digest()
        _set(space.hashed.setdefault(collection, {}), sha256(key.encode()).digest(), digest, version)
        if self.msp_id in self.contracts[name].collections[collection].members:
            _set(space.private.setdefault(collection, {}), key, write.value, version)

    def _expire(self) -> None:
        for name, contract in self.contracts.items():
            for collection, definition in contract.collections.items():
                if definition.block_to_live:
                    for cells in (self.world[name].private, self.world[name].hashed):
                        held: Any = cells.get(collection, {})
                        for key in [
                            k for k, c in held.items() if c.version[0] + definition.block_to_live < self.height
                        ]:
                            del held[key]


class PeerStream:
    """The peer's end of one contract's stream."""

    def __init__(self, peer: FakePeer, contract: Installed) -> None:
        self.peer = peer
        self.contract = contract
        self.over = threading.Event()
        self.ready = threading.Event()
        self.errors: list[bytes] = []
        self._out: SimpleQueue[Any] = SimpleQueue()
        self._contexts: dict[str, Context] = {}
        self._active: set[str] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(32, "fakepeer")
        options = (("grpc.max_receive_message_length", _MAX_BYTES), ("grpc.max_send_message_length", _MAX_BYTES))
        self._channel = (
            grpc.secure_channel(contract.address, contract.credentials, options)
            if contract.credentials
            else grpc.insecure_channel(contract.address, options)
        )
        connect = self._channel.stream_stream(
            "/protos.Chaincode/Connect",
            request_serializer=Message.SerializeToString,
            response_deserializer=Message.FromString,
        )
        self._stream = connect(iter(self._out.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def wait_ready(self) -> None:
        if not self.ready.wait(self.peer.timeout_s) or self.over.is_set():
            raise Failed(f"could not launch chaincode {self.contract.package_id}: connection to it failed")

    def send(self, message: Any) -> None:
        self._out.put(message)

    def close(self) -> None:
        self._out.put(None)
        self._stream.cancel()
        self._channel.close()
        self._end()
        self._pool.shutdown(wait=False)

    def execute(self, simulation: Simulation, call: Any) -> Any:
        context = Context(self, simulation)
        with self._lock:
            if simulation.tx_id in self._contexts:
                raise Failed(f"txid: {simulation.tx_id}({simulation.channel}) exists")
            self._contexts[simulation.tx_id] = context
        try:
            self.send(
                Message(
                    type=Message.INIT if call.is_init else Message.TRANSACTION,
                    payload=call.SerializeToString(),
                    txid=simulation.tx_id,
                    channel_id=simulation.channel,
                    proposal=simulation.signed,
                )
            )
            try:
                answer = context.answer.get(timeout=self.peer.timeout_s)
            except Empty:
                raise Failed("timeout expired while executing transaction") from None
            if answer is None:
                raise Failed("chaincode stream terminated")
            return answer
        finally:
            with self._lock:
                self._contexts.pop(simulation.tx_id, None)

    def _end(self) -> None:
        self.over.set()
        self.ready.set()
        with self._lock:
            for context in self._contexts.values():
                context.answer.put(None)

    def _read(self) -> None:
        try:
            for message in self._stream:
                self._take(message)
        except grpc.RpcError:
            pass
        finally:
            self._end()

    def _take(self, message: Any) -> None:
        name = Message.Type.Name(message.type)
        self.peer.seen.append(name)
        if message.type == Message.REGISTER:
            if chaincode_pb2.ChaincodeID.FromString(message.payload).name != self.contract.package_id:
                self._stream.cancel()  # a real one leaves the stream open, unusable, and fails the launch
                return
            self.send(Message(type=Message.REGISTERED))
            offers = chaincode_pb2.ChaincodeAdditionalParams(
                use_write_batch=self.peer.write_batch > 0,
                max_size_write_batch=self.peer.write_batch,
                use_get_multiple_keys=self.peer.get_multiple > 0,
                max_size_get_multiple_keys=self.peer.get_multiple,
            )
            self.send(Message(type=Message.READY, payload=offers.SerializeToString()))
            self.ready.set()
        elif message.type in (Message.COMPLETED, Message.ERROR):
            self._complete(message)
        elif message.type != Message.KEEPALIVE:
            with self._lock:
                if message.txid in self._active:
                    self.peer.dropped.append(name)  # "Another request pending": no answer ever
                    return
                self._active.add(message.txid)
            self._pool.submit(self._handle, message)

    def _complete(self, message: Any) -> None:
        fault = self._fault("COMPLETED")
        if fault is not None and fault.cut:
            self.close()
            return
        if message.type == Message.ERROR:
            self.errors.append(message.payload)
        with self._lock:
            context = self._contexts.get(message.txid)
            if context is not None:
                context.answer.put(message)

    def _handle(self, message: Any) -> None:
        name = Message.Type.Name(message.type)
        fault = self._fault(name) or Fault(name)
        if fault.wait is not None:
            fault.wait.wait(self.peer.timeout_s)
        if fault.cut:
            self.close()
            return
        try:
            if fault.error is not None:
                raise Failed(fault.error)
            with self._lock:
                context = self._contexts.get(message.txid)
            if context is None:
                raise Failed("no ledger context")
            kind, payload = Message.RESPONSE, context.do(message) if fault.payload is None else fault.payload
        except Failed as failed:
            kind, payload = Message.ERROR, f"{name} failed: transaction ID: {message.txid}: {failed}".encode()
        answer = Message(type=kind, payload=payload, txid=message.txid, channel_id=message.channel_id)
        with self._lock:
            self._active.discard(message.txid)
        if fault.txid is not None:
            self.send(Message(type=kind, payload=b"another's", txid=fault.txid, channel_id=message.channel_id))
        if fault.kind is not None:
            self.send(Message(type=fault.kind, txid="nobody", channel_id=message.channel_id))
        for _ in range(1 + fault.twice):
            self.send(answer)

    def _fault(self, name: str) -> Fault | None:
        with self._lock:
            for fault in self.peer.faults:
                if fault.on == name:
                    if fault.after == 0:
                        self.peer.faults.remove(fault)
                        return fault
                    fault.after -= 1
        return None


class Context:
    """One contract's part of a transaction: what the peer does for each message."""

    def __init__(self, stream: PeerStream, simulation: Simulation) -> None:
        self.stream = stream
        self.peer = stream.peer
        self.contract = stream.contract
        self.name = stream.contract.name
        self.simulation = simulation
        self.answer: Queue[Any] = Queue()
        self.scans: dict[str, Scan] = {}
        self.is_init = False

    def do(self, message: Any) -> bytes:
        asked: Any = message.payload
        match message.type:
            case Message.GET_STATE:
                request = pb.GetState.FromString(asked)
                return self._get(request.collection, request.key)
            case Message.GET_STATE_MULTIPLE:
                many = pb.GetStateMultiple.FromString(asked)
                # As in txmgr: several private values come without the check against the public hash.
                values = [self._get(many.collection, key, checked=False) for key in many.keys]
                return _bytes(pb.GetStateMultipleResult(values=values))
            case Message.PUT_STATE:
                put = pb.PutState.FromString(asked)
                self._write(put.collection, put.key, put.value)
            case Message.DEL_STATE:
                delete = pb.DelState.FromString(asked)
                self._write(delete.collection, delete.key, b"")
            case Message.PURGE_PRIVATE_DATA:
                purge = pb.DelState.FromString(asked)
                self._purge(purge.collection, purge.key)
            case Message.PUT_STATE_METADATA:
                meta = pb.PutStateMetadata.FromString(asked)
                self._put_metadata(meta.collection, meta.key, meta.metadata)
            case Message.WRITE_BATCH_STATE:
                for record in pb.WriteBatchState.FromString(asked).rec:
                    self._record(record)
            case Message.GET_STATE_METADATA:
                wanted = pb.GetStateMetadata.FromString(asked)
                return self._metadata(wanted.collection, wanted.key)
            case Message.GET_PRIVATE_DATA_HASH:
                request = pb.GetState.FromString(asked)
                return self._hash(request.collection, request.key)
            case Message.GET_STATE_BY_RANGE:
                return self._range(pb.GetStateByRange.FromString(asked))
            case Message.GET_HISTORY_FOR_KEY:
                return self._history(pb.GetHistoryForKey.FromString(asked).key)
            case Message.QUERY_STATE_NEXT:
                return self._next(pb.QueryStateNext.FromString(asked).id, self.peer.total_query_limit)
            case Message.QUERY_STATE_CLOSE:
                scan_id = pb.QueryStateClose.FromString(asked).id
                self.scans.pop(scan_id, None)
                return _bytes(pb.QueryResponse(id=scan_id))
            case Message.INVOKE_CHAINCODE:
                return self._call(chaincode_pb2.ChaincodeSpec.FromString(asked))
            case _:
                raise Failed(f"cannot handle message ({Message.Type.Name(message.type)}) while in ready state")
        return b""

    def _space(self) -> Namespace:
        return self.peer.world[self.name]

    def _allowed(self, collection: str, *, write: bool) -> Collection:
        definition = self.contract.collections.get(collection)
        if definition is None:
            raise Failed(f"collection {self.peer.channel}/{self.name}/{collection} could not be found")
        only = definition.member_only_write if write else definition.member_only_read
        anyone = not definition.member_only_read and not definition.member_only_write
        if only and not anyone and self.simulation.creator_msp not in definition.members:
            raise Failed(
                f"tx creator does not have {'write' if write else 'read'} access permission on privatedata in "
                f"chaincodeName:{self.name} collectionName: {collection}"
            )
        return definition

    def _read(self, collection: str, key: str, version: tuple[int, int]) -> None:
        self.simulation.reads.setdefault((self.name, collection, key), version)

    def _get(self, collection: str, key: str, *, checked: bool = True) -> bytes:
        with self.peer.lock:
            if not collection:
                cell = self._space().public.get(key)
                self._read("", key, cell.version if cell else _NONE)
                return cell.value if cell else b""
            self._allowed(collection, write=False)
            cell = self._space().private.get(collection, {}).get(key)
            version = cell.version if cell else _NONE
            public = self.peer.version(self.name, collection, key)
            if checked and public != version:
                raise Failed(
                    "private data matching public hash version is not available. "
                    f"Public hash version = {public}, Private data version = {version}"
                )
            self._read(collection, key, version)
            return cell.value if cell else b""

    def _hash(self, collection: str, key: str) -> bytes:
        if collection not in self.contract.collections:
            raise Failed(f"collection [{collection}] not defined in the collection config for chaincode [{self.name}]")
        with self.peer.lock:
            cell = self.peer.cell(self.name, collection, key)
            self._read(collection, key, cell.version if cell else _NONE)
            return cell.value if cell else b""

    def _may_write(self) -> None:
        if self.simulation.queried_private:
            raise Failed("Transaction has already performed queries on pvt data. Writes are not allowed")
        if self.simulation.paged:
            raise Failed("Transaction has already performed a paginated query. Writes are not allowed")
        self.simulation.written = True

    def _write(self, collection: str, key: str, value: bytes, *, purge: bool = False) -> None:
        if collection:
            self._allowed(collection, write=True)
        self._may_write()
        self.simulation.writes[self.name, collection, key] = Write(value or None, purge)

    def _purge(self, collection: str, key: str) -> None:
        if not collection:
            raise Failed("only applicable for private data")
        self._write(collection, key, b"", purge=True)

    def _put_metadata(self, collection: str, key: str, metadata: Any) -> None:
        if collection:
            self._allowed(collection, write=True)
        self._may_write()
        self.simulation.metadata[self.name, collection, key] = {metadata.metakey: metadata.value}

    def _record(self, record: Any) -> None:
        match record.type:
            case pb.WriteRecord.PUT_STATE:
                self._write(record.collection, record.key, record.value)
            case pb.WriteRecord.DEL_STATE:
                self._write(record.collection, record.key, b"")
            case pb.WriteRecord.PURGE_PRIVATE_DATA:
                self._purge(record.collection, record.key)
            case pb.WriteRecord.PUT_STATE_METADATA:
                self._put_metadata(record.collection, record.key, record.metadata)
            case _:
                raise Failed("unknown operation type")

    def _metadata(self, collection: str, key: str) -> bytes:
        with self.peer.lock:
            if collection:
                self._allowed(collection, write=False)
            cell = self.peer.cell(self.name, collection, key)
            self._read(collection, key, cell.version if cell else _NONE)
            entries = [pb.StateMetadata(metakey=k, value=v) for k, v in (cell.metadata if cell else {}).items()]
            return _bytes(pb.StateMetadataResult(entries=entries))

    def _range(self, request: Any) -> bytes:
        metadata = pb.QueryMetadata.FromString(request.metadata)
        limit = min(metadata.pageSize or self.peer.total_query_limit, self.peer.total_query_limit)
        with self.peer.lock:
            if request.collection:
                self._allowed(request.collection, write=False)
                if self.simulation.written:
                    raise Failed("Queries on pvt data is supported only in a read-only transaction")
                self.simulation.queried_private = True
                cells = list(scan(self._space().private.get(request.collection, {}), request.startKey, request.endKey))
                return self._open((self._kv(key, cell) for key, cell in cells), limit)
            if metadata.pageSize or metadata.bookmark:
                if self.simulation.written:
                    raise Failed("Paginated queries are supported only in a read-only transaction")
                self.simulation.paged = True
                return self._paged(metadata.bookmark or request.startKey, request.endKey, limit)
            cells = list(scan(self._space().public, request.startKey, request.endKey))
        ranged = Ranged(self.name, request.startKey, request.endKey)
        self.simulation.ranges.append(ranged)
        return self._open((self._ranged(ranged, key, cell) for key, cell in cells), limit, ranged)

    def _ranged(self, ranged: Ranged, key: str, cell: Cell) -> bytes:
        ranged.found.append((key, cell.version))
        return self._kv(key, cell)

    def _paged(self, start: str, end: str, limit: int) -> bytes:
        cells = list(scan(self._space().public, start, end))
        page, rest = cells[:limit], cells[limit:]
        metadata = pb.QueryResponseMetadata(fetched_records_count=len(page), bookmark=rest[0][0] if rest else "")
        results = [pb.QueryResultBytes(resultBytes=self._kv(key, cell)) for key, cell in page]
        return _bytes(pb.QueryResponse(results=results, metadata=_bytes(metadata), id="paged"))

    def _kv(self, key: str, cell: Cell) -> bytes:
        return _bytes(KV(namespace=self.name, key=key, value=cell.value))

    def _history(self, key: str) -> bytes:
        with self.peer.lock:
            changes = [_bytes(change) for change in reversed(self._space().changes.get(key, ()))]
        return self._open(iter(changes), self.peer.total_query_limit)

    def _open(self, rows: Iterator[bytes], limit: int, ranged: Ranged | None = None) -> bytes:
        scan_id = f"scan-{len(self.scans) + 1}-{self.simulation.tx_id[:8]}"
        self.scans[scan_id] = Scan(rows, ranged)
        return self._next(scan_id, limit)

    def _next(self, scan_id: str, limit: int) -> bytes:
        found = self.scans.get(scan_id)
        if found is None:
            raise Failed("query iterator not found")
        while found.given < limit:
            row = next(found.rows, None)
            if row is None:
                if found.ranged is not None:
                    found.ranged.exhausted = True
                break
            found.given += 1
            if len(found.pending) == RESULTS_A_MESSAGE:
                batch, found.pending = found.pending, [row]
                return _bytes(pb.QueryResponse(results=_results(batch), has_more=True, id=scan_id))
            found.pending.append(row)
        del self.scans[scan_id]
        return _bytes(pb.QueryResponse(results=_results(found.pending), id=scan_id))

    def _call(self, spec: Any) -> bytes:
        name, _, channel = spec.chaincode_id.name.partition("/")
        simulation = self.simulation
        if channel and channel != self.peer.channel:
            raise Failed(f"failed to find ledger for channel: {channel}")
        try:
            return _bytes(self.peer.execute(simulation, name, spec.input))
        except Failed as failed:
            raise Failed(f"execute failed: {failed}") from None


@contextmanager
def serving(
    invoke: Callable[[Stub], bytes],
    collections: Mapping[str, Collection] | None = None,
    *,
    name: str = "tried",
    peer: FakePeer | None = None,
    init_required: bool = False,
    workers: int = 16,
    tls: Tls | None = None,
) -> Iterator[FakePeer]:
    """A contract served by our shim, and a peer that has it installed. With a peer given, one contract more on it."""
    ledger = peer or FakePeer()
    package_id = f"{name}_1:{'ab' * 32}"
    server = Server(package_id, invoke, "127.0.0.1:0", tls, workers=workers)
    port = server.start()
    ledger.install(name, f"127.0.0.1:{port}", collections, package_id=package_id, init_required=init_required)
    try:
        yield ledger
    finally:
        ledger.close()
        server.stop(0.0)


@lru_cache
def person(msp_id: str, name: str, **attributes: str) -> Creator:
    """Somebody with a certificate; an attribute's underscore is a dot: `aigeco_role="operator"`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
    )
    if attributes:
        attrs = json.dumps({"attrs": {attribute.replace("_", "."): value for attribute, value in attributes.items()}})
        builder = builder.add_extension(x509.UnrecognizedExtension(FABRIC_ATTRIBUTES, attrs.encode()), critical=False)
    return Creator(msp_id, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


def scan(cells: Mapping[str, Cell], start: str, end: str) -> Iterator[tuple[str, Cell]]:
    """Keys from start to before end; empty = from the first, to the last. Code points sort as their UTF-8 does."""
    keys = sorted(cells)
    for key in keys[bisect_left(keys, start) :]:
        if end and key >= end:
            return
        yield key, cells[key]


def _set(cells: dict[Any, Cell], key: Any, value: bytes | None, version: tuple[int, int]) -> None:
    if value is None:
        cells.pop(key, None)
    else:
        old = cells.get(key)
        cells[key] = Cell(value, version, dict(old.metadata) if old else {})


def _results(rows: Sequence[bytes]) -> list[Any]:
    return [pb.QueryResultBytes(resultBytes=row) for row in rows]


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
