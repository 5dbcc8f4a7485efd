"""What a contract sees of one transaction on Hyperledger Fabric: its call, its caller, the peer's state.

Knows the protobufs of a transaction and nothing of streams or threads: it asks through :class:`Peer`. It never logs.

Rules (Fabric's ``core/chaincode/handler.go`` and ``txmgr/tx_simulator.go``, 3.1.5)
- Whatever the peer answers with an error is raised as :class:`PeerError` at the call. After a write that failed, a
  transaction cannot succeed any more, also if its handler carries on (:attr:`Stub.broken`).
- Reads see what is committed, never the transaction's own writes. A page, and a range of private data, allow no write
  before or after them in the same transaction: the peer says so.
- The peer knows no empty value (it would delete), so none can be put and an absent key is None.
- A range is complete or raises: the peer ends one silently at its ``totalQueryLimit``.
- Several private values at once come without the peer's check that a value is missing only here; so what is absent is
  asked for again, alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Protocol, Self, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID
from fabric_protos.common.common_pb2 import ChannelHeader, Header, SignatureHeader
from fabric_protos.ledger.queryresult.kv_query_result_pb2 import KV, KeyModification
from fabric_protos.msp.identities_pb2 import SerializedIdentity
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from fabric_protos.peer import chaincode_shim_pb2 as pb
from fabric_protos.peer.proposal_response_pb2 import Response

from signer.trust import FABRIC_ATTRIBUTES

# Of the peer's core.yaml, ledger.state.totalQueryLimit: where it ends a range without a word.
PEER_QUERY_LIMIT = 100_000

# The key where the keys that are not composite begin: an empty start would mean the composite ones too.
FIRST_KEY = "\x01"
_COMPOSITE = "\x00"
_LAST_RUNE = "\U0010ffff"

# One message of a write batch; the stream's limit is 100 MB.
_BATCH_BYTES = 16 * 1024 * 1024
_POLICY = "VALIDATION_PARAMETER"
_REFUSALS = range(400, 500)


T = TypeVar("T")


class Refused(Exception):
    """The contract declines, and nothing is written. Whose move: the caller's.

    Attributes:
        reason: for a program; one or a few words without a colon.
        words: for a person.
        status: of the answer, 400..499.
    """

    def __init__(self, reason: str, words: str, status: int = 400) -> None:
        if status not in _REFUSALS:
            raise ValueError(f"status {status} is no refusal: 400..499")
        super().__init__(f"{reason}: {words}")
        self.reason = reason
        self.words = words
        self.status = status


class PeerError(Exception):
    """The peer answered with an error. Its words may name keys: for a handler, never for a log or an answer."""


class StreamLost(PeerError):
    """The stream to the peer ended in the middle of a transaction: nobody waits for its answer any more."""


class CallFailed(PeerError):
    """Another contract, called from this one, did not succeed.

    Attributes:
        status: of its answer, 400 and above.
        message: of its answer; ``reason: words`` of a refusal.
    """

    def __init__(self, contract: str, status: int, message: str) -> None:
        super().__init__(f"{contract} answered {status}")
        self.status = status
        self.message = message

    @property
    def refused(self) -> bool:
        """It declined, as opposed to failed."""
        return self.status in _REFUSALS


@dataclass(frozen=True, slots=True)
class Offers:
    """What the peer can do beyond the plain protocol; it says so when a stream begins.

    Attributes:
        write_batch: writes it takes in one message; 0 = one by one.
        get_multiple: keys it reads in one message; 0 = one by one.
    """

    write_batch: int = 0
    get_multiple: int = 0


class Peer(Protocol):
    """The peer's side of one transaction."""

    offers: Offers

    def ask(self, kind: int, payload: bytes) -> bytes:
        """The payload of its answer to a message of this type.

        Raises:
            PeerError: it answered with an error, or the stream is lost.
            ValueError: the message is larger than the stream carries.
        """


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed the proposal; the peer has verified it.

    Attributes:
        msp_id: its organisation.
        pem: its certificate.
    """

    msp_id: str
    pem: bytes

    @property
    def certificate(self) -> x509.Certificate:
        """Raises ValueError: an identity that is not an X.509 certificate (idemix)."""
        return _certificate(self.pem)[0]

    @property
    def name(self) -> str:
        """The certificate's common name, or empty."""
        return _certificate(self.pem)[1]

    @property
    def attributes(self) -> Mapping[str, str]:
        """What Fabric's CA, or ours, has put into the certificate, by name."""
        return dict(_certificate(self.pem)[2])


@dataclass(frozen=True, slots=True)
class Row:
    """One key of a range."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One version of a key, of its history.

    Attributes:
        value: None = deleted.
        timestamp_ns: the client's, of the transaction's proposal, POSIX.
    """

    tx_id: str
    timestamp_ns: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a range.

    Attributes:
        bookmark: what to ask for the next page with; empty = this is the last.
    """

    rows: tuple[Row, ...]
    bookmark: str


class Rows(Generic[T]):
    """The results of a query, fetched from the peer as they are asked for. Close what is not read to its end."""

    def __init__(self, ask: Callable[[int, bytes], bytes], first: bytes, parse: Callable[[bytes], T]) -> None:
        self._ask = ask
        self._parse = parse
        self._seen = self._next = 0
        self._results: Sequence[Any] = ()
        self._more, self._id = False, ""
        self._take(first)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while self._next >= len(self._results):
            if not self._more:
                if self._seen == PEER_QUERY_LIMIT:
                    raise PeerError(f"a range of {self._seen} or more: the peer ends it there; ask for less at a time")
                raise StopIteration
            self._take(self._ask(pb.ChaincodeMessage.QUERY_STATE_NEXT, _bytes(pb.QueryStateNext(id=self._id))))
        result = self._parse(self._results[self._next].resultBytes)
        self._next += 1
        self._seen += 1
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Tell the peer that no more is wanted. Nothing to do after the end, which it knows."""
        if self._more:
            self._more, self._results = False, ()
            self._ask(pb.ChaincodeMessage.QUERY_STATE_CLOSE, _bytes(pb.QueryStateClose(id=self._id)))

    def _take(self, payload: bytes) -> None:
        response = pb.QueryResponse.FromString(payload)
        self._results, self._next = response.results, 0
        self._more, self._id = response.has_more, response.id


class Stub:
    """One transaction.

    Attributes:
        function: first argument of the call, as it came; empty when there are none.
        arguments: the others.
        transient: what came beside the transaction and never gets into a block.
        creator: who signed the proposal (of the first contract, where one calls another).
        timestamp_ns: of the proposal, POSIX: the client's clock, equal at every endorser.
        is_init: the one call that a contract with ``--init-required`` gets first.
        broken: a write of this transaction has failed; it will not be answered with success.
        event: what clients may listen for, and its payload.
    """

    def __init__(self, message: Any, peer: Peer) -> None:
        """Raises ValueError or protobuf's DecodeError: the peer's message is none of a transaction."""
        call = chaincode_pb2.ChaincodeInput.FromString(message.payload)
        proposal = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)
        header = Header.FromString(proposal.header)
        channel = ChannelHeader.FromString(header.channel_header)
        signature = SignatureHeader.FromString(header.signature_header)
        if channel.tx_id != message.txid:
            raise ValueError(f"transaction {message.txid!r} comes with the proposal of {channel.tx_id!r}")
        creator = SerializedIdentity.FromString(signature.creator)
        self.tx_id: str = message.txid
        self.channel: str = message.channel_id
        self.is_init: bool = message.type == pb.ChaincodeMessage.INIT
        self.function: bytes = call.args[0] if call.args else b""
        self.arguments: tuple[bytes, ...] = tuple(call.args[1:])
        self.transient: Mapping[str, bytes] = dict(
            proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload).TransientMap
        )
        self.creator = Identity(creator.mspid, creator.id_bytes)
        self.timestamp_ns: int = channel.timestamp.ToNanoseconds()
        self.event: tuple[str, bytes] | None = None
        self.broken = False
        self._peer = peer
        self._one_at_a_time = threading.Lock()
        self._batch: list[Any] | None = None

    # --- state ---

    def get(self, key: str, collection: str = "") -> bytes | None:
        """The committed value.

        Raises:
            PeerError: also when this peer does not hold a private value that others do.
        """
        return self._ask(pb.ChaincodeMessage.GET_STATE, pb.GetState(key=key, collection=collection)) or None

    def get_multiple(self, keys: Sequence[str], collection: str = "") -> list[bytes | None]:
        """The committed values, in the order of the keys; in few messages where the peer can."""
        size = self._peer.offers.get_multiple
        if size == 0:
            return [self.get(key, collection) for key in keys]
        values: list[bytes | None] = []
        for at in range(0, len(keys), size):
            some = keys[at : at + size]
            answer = self._ask(
                pb.ChaincodeMessage.GET_STATE_MULTIPLE, pb.GetStateMultiple(keys=some, collection=collection)
            )
            found = pb.GetStateMultipleResult.FromString(answer).values
            if len(found) != len(some):
                raise PeerError(f"{len(found)} values for {len(some)} keys")
            values += (
                value or (self.get(key, collection) if collection else None)
                for key, value in zip(some, found, strict=True)
            )
        return values

    def put(self, key: str, value: bytes, collection: str = "") -> None:
        """Write; seen by the next transaction.

        Raises:
            ValueError: an empty key, or an empty value, which would delete.
        """
        with self._unbroken():
            if not value:
                raise ValueError("an empty value would delete the key: use delete")
        self._write(pb.ChaincodeMessage.PUT_STATE, pb.PutState, key=key, value=value, collection=collection)

    def delete(self, key: str, collection: str = "") -> None:
        """Remove; the history stays."""
        self._write(pb.ChaincodeMessage.DEL_STATE, pb.DelState, key=key, collection=collection)

    def purge(self, key: str, collection: str) -> None:
        """Remove a private value and its history from every peer; needs the channel's capability V2_5."""
        self._write(
            pb.ChaincodeMessage.PURGE_PRIVATE_DATA, pb.PurgePrivateState, key=key, collection=_named(collection)
        )

    def digest(self, key: str, collection: str) -> bytes | None:
        """SHA-256 of a committed private value, which also those peers know that do not hold it."""
        request = pb.GetState(key=key, collection=_named(collection))
        return self._ask(pb.ChaincodeMessage.GET_PRIVATE_DATA_HASH, request) or None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Writes inside go to the peer together, at the end; one by one where it takes no batches.

        What the peer has against them is raised at the end of the block. When the block raises, none is sent.
        """
        if self._batch is not None or self._peer.offers.write_batch == 0:
            yield
            return
        self._batch = []
        try:
            yield
            writes = self._batch
        finally:
            self._batch = None
        with self._unbroken():
            for some in _cut(writes, self._peer.offers.write_batch):
                self._ask(pb.ChaincodeMessage.WRITE_BATCH_STATE, pb.WriteBatchState(rec=some))

    # --- key-level endorsement ---

    def policy(self, key: str, collection: str = "") -> bytes | None:
        """The key's own endorsement policy, a serialised ``common.SignaturePolicyEnvelope``."""
        request = pb.GetStateMetadata(key=key, collection=collection)
        answer = pb.StateMetadataResult.FromString(self._ask(pb.ChaincodeMessage.GET_STATE_METADATA, request))
        return next((entry.value for entry in answer.entries if entry.metakey == _POLICY), None)

    def set_policy(self, key: str, policy: bytes, collection: str = "") -> None:
        """From the next transaction on this key needs these endorsements; empty = those of the contract again.

        The peer does not look at them now: after anything but a SignaturePolicyEnvelope nobody can write the key.
        """
        metadata = pb.StateMetadata(metakey=_POLICY, value=policy)
        self._write(
            pb.ChaincodeMessage.PUT_STATE_METADATA,
            pb.PutStateMetadata,
            key=key,
            metadata=metadata,
            collection=collection,
        )

    # --- queries ---

    def range(self, start: str = "", end: str = "", collection: str = "") -> Rows[Row]:
        """Committed keys from ``start`` to before ``end``, in the order of their UTF-8; empty = the first, the last.

        Composite keys are not among them: see :meth:`range_of`.
        """
        return self._range(_simple(start) or FIRST_KEY, _simple(end), collection)

    def page(self, start: str, end: str, size: int, bookmark: str = "") -> Page:
        """At most ``size`` public keys of a range; for functions that only read.

        Raises:
            Refused: the bookmark is outside the range.
        """
        return self._page(_simple(start) or FIRST_KEY, _simple(end), size, bookmark)

    def range_of(self, kind: str, *parts: str, collection: str = "") -> Rows[Row]:
        """All composite keys that begin with these parts and have more."""
        start = composite_key(kind, *parts)
        return self._range(start, start + _LAST_RUNE, collection)

    def page_of(self, kind: str, *parts: str, size: int, bookmark: str = "") -> Page:
        """At most ``size`` of the public composite keys that begin with these parts and have more."""
        start = composite_key(kind, *parts)
        return self._page(start, start + _LAST_RUNE, size, bookmark)

    def history(self, key: str) -> Rows[Change]:
        """Every version of a public key, the newest first; for functions that only read, as peers do not compare it."""
        first = self._ask(pb.ChaincodeMessage.GET_HISTORY_FOR_KEY, pb.GetHistoryForKey(key=key))
        return Rows(self._ask_bytes, first, _change)

    # --- events, other contracts ---

    def set_event(self, name: str, payload: bytes) -> None:
        """What clients may listen for when this transaction is valid.

        Raises:
            ValueError: no name, or a second event: Fabric keeps one, and would drop the first without a word.
        """
        if not name or self.event is not None:
            raise ValueError("an event needs a name" if not name else "a transaction has one event")
        self.event = (name, payload)

    def invoke(self, contract: str, arguments: Iterable[bytes], channel: str = "") -> bytes:
        """The answer of another contract, called as the same creator; on another channel it can only read.

        Raises:
            CallFailed: it refused or failed.
        """
        spec = chaincode_pb2.ChaincodeSpec(
            chaincode_id=chaincode_pb2.ChaincodeID(name=f"{contract}/{channel}" if channel else contract),
            input=chaincode_pb2.ChaincodeInput(args=arguments),
        )
        message = pb.ChaincodeMessage.FromString(self._ask(pb.ChaincodeMessage.INVOKE_CHAINCODE, spec))
        if message.type != pb.ChaincodeMessage.COMPLETED:
            raise CallFailed(contract, 500, message.payload.decode(errors="replace"))
        response = Response.FromString(message.payload)
        if response.status >= _REFUSALS.start:
            raise CallFailed(contract, response.status, response.message)
        payload: bytes = response.payload
        return payload

    # --- how ---

    def _range(self, start: str, end: str, collection: str) -> Rows[Row]:
        request = pb.GetStateByRange(startKey=start, endKey=end, collection=collection)
        return Rows(self._ask_bytes, self._ask(pb.ChaincodeMessage.GET_STATE_BY_RANGE, request), _row)

    def _page(self, start: str, end: str, size: int, bookmark: str) -> Page:
        if not 0 < size <= PEER_QUERY_LIMIT:
            raise ValueError(f"a page of {size}: 1..{PEER_QUERY_LIMIT}")
        if bookmark and not (start <= bookmark and (not end or bookmark < end)):
            # A bookmark comes back from a caller, and the peer begins wherever it says.
            raise Refused("malformed", "the bookmark is outside the range that it is for")
        metadata = _bytes(pb.QueryMetadata(pageSize=size, bookmark=bookmark))
        request = pb.GetStateByRange(startKey=start, endKey=end, metadata=metadata)
        answer = pb.QueryResponse.FromString(self._ask(pb.ChaincodeMessage.GET_STATE_BY_RANGE, request))
        rows = tuple(_row(result.resultBytes) for result in answer.results)
        return Page(rows, pb.QueryResponseMetadata.FromString(answer.metadata).bookmark)

    def _write(self, kind: int, of: Callable[..., Any], *, key: str, **fields: Any) -> None:
        with self._unbroken():
            if not key:
                raise ValueError("a key must not be empty")
            if self._batch is None:
                self._ask(kind, of(key=key, **fields))
            else:
                self._batch.append(pb.WriteRecord(type=kind, key=key, **fields))

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.broken = True
            raise

    def _ask(self, kind: int, request: Any) -> bytes:
        return self._ask_bytes(kind, _bytes(request))

    def _ask_bytes(self, kind: int, payload: bytes) -> bytes:
        with self._one_at_a_time:  # the peer drops a second request of a transaction, without an answer
            return self._peer.ask(kind, payload)


def composite_key(kind: str, *parts: str) -> str:
    """Fabric's key of several parts: they sort by part, and a range of the first parts is one range of keys.

    Raises:
        ValueError: a part has U+0000 or U+10FFFF, which part the parts and end a range.
    """
    for part in (kind, *parts):
        if _COMPOSITE in part or _LAST_RUNE in part:
            raise ValueError(f"{part!r}: U+0000 and U+10FFFF cannot be in a composite key")
    return _COMPOSITE + "".join(f"{part}\x00" for part in (kind, *parts))


def split_composite_key(key: str) -> tuple[str, ...]:
    """The parts of a composite key, its kind first.

    Raises:
        ValueError: it is none.
    """
    if not key.startswith(_COMPOSITE) or not key.endswith("\x00") or len(key) < 2:
        raise ValueError(f"{key!r} is no composite key")
    return tuple(key[1:-1].split("\x00"))


def _bytes(message: Any) -> bytes:
    serialised: bytes = message.SerializeToString()
    return serialised


def _simple(key: str) -> str:
    if key.startswith(_COMPOSITE):
        raise ValueError(f"{key!r}: a range that begins or ends at a composite key; use range_of")
    return key


def _named(collection: str) -> str:
    if not collection:
        raise ValueError("a collection is needed")
    return collection


def _row(data: bytes) -> Row:
    found = KV.FromString(data)
    return Row(found.key, found.value)


def _change(data: bytes) -> Change:
    found = KeyModification.FromString(data)
    return Change(found.tx_id, found.timestamp.ToNanoseconds(), None if found.is_delete else found.value)


def _cut(writes: Iterable[Any], most: int) -> Iterator[list[Any]]:
    some: list[Any] = []
    size = 0
    for write in writes:
        if some and (len(some) == most or size + write.ByteSize() > _BATCH_BYTES):
            yield some
            some, size = [], 0
        some.append(write)
        size += write.ByteSize()
    if some:
        yield some


# Callers are few: gateways' ingestion peers and people.
@lru_cache(maxsize=256)
def _certificate(pem: bytes) -> tuple[x509.Certificate, str, tuple[tuple[str, str], ...]]:
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        extension = certificate.extensions.get_extension_for_oid(FABRIC_ATTRIBUTES).value
    except x509.ExtensionNotFound:
        attributes: Mapping[object, object] = {}
    else:
        assert isinstance(extension, x509.UnrecognizedExtension)
        attributes = json.loads(extension.value)["attrs"]
    return (
        certificate,
        str(names[0].value) if names else "",
        tuple((str(name), str(value)) for name, value in attributes.items()),
    )
