"""Serves a contract to Hyperledger Fabric's peers: chaincode as a service, over the official protobuf bindings.

Knows streams, threads and TLS; what a transaction is knows :mod:`ledger.fabric.stub`, what a contract does its handler.

Rules (Fabric's ``core/chaincode/handler.go``, 3.1.5, is the other side)
- A handler is a plain function ``invoke(stub) -> bytes`` in a thread of its own, at most ``workers`` at a time and
  stream; as many again times :data:`_QUEUE` wait, the rest is told to come later.
- Every transaction is answered, whatever its handler does: 200 and the payload; the status of a :class:`Refused` and
  its ``reason: words``; else 500 and the exception's class name. Never success after a write that failed.
- A payload, a key or an exception's words are never logged: transaction id, class name, file and line are.
- One writer a stream: everything to the peer goes through one queue. Answers of the peer go to whom they are for; what
  nobody asked is dropped. State is the stream's, so a second stream of the same peer disturbs none of the first.
- TLS is mutual, from three files, or asked not to be: nothing falls back to plain text.
- SIGTERM: running transactions are finished, new ones told to go elsewhere, then the streams are ended.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from fabric_protos.peer import chaincode_pb2
from fabric_protos.peer import chaincode_shim_pb2 as pb
from fabric_protos.peer.chaincode_event_pb2 import ChaincodeEvent
from fabric_protos.peer.proposal_response_pb2 import Response

from ledger.fabric import stub
from ledger.fabric.stub import Offers, PeerError, Refused, StreamLost, Stub

Handler = Callable[[Stub], bytes]

log = logging.getLogger(__name__)

# What peers and the official shims for Go, Java and Node take.
MAX_MESSAGE_BYTES = 100 * 1024 * 1024

# One stream a peer; a second one while a lost connection has not been noticed yet.
_MAX_STREAMS = 32

# Transactions that may wait for a thread, for each that runs. A peer gives up after its execution timeout (30 s).
_QUEUE = 16

# A peer that finds the last answer and the end of the stream at once takes either (a Go `select`).
_LAST_ANSWER_S = 0.1

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer pings each minute, with nothing else to say; gRPC's defaults take that for abuse and drop it.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Find out within 80 s about a peer that vanished without closing.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A second server at this address is a mistake, not a partner.
    ("grpc.so_reuseport", 0),
)

_REPLIES = (pb.ChaincodeMessage.RESPONSE, pb.ChaincodeMessage.ERROR)
_CALLS = (pb.ChaincodeMessage.TRANSACTION, pb.ChaincodeMessage.INIT)


@dataclass(frozen=True, slots=True)
class Tls:
    """Who we are to the peer and whom we let in, PEM.

    Attributes:
        key: our private key.
        certificate: ours, with its chain.
        peers: the CAs of the peers' client certificates; there is no TLS here without.
    """

    key: Path
    certificate: Path
    peers: Path

    def credentials(self) -> Any:
        """For gRPC.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is no PEM of its kind, or the key is not the certificate's; gRPC would not tell us.
        """
        key, certificate, peers = (path.read_bytes() for path in (self.key, self.certificate, self.peers))
        ours = x509.load_pem_x509_certificate(certificate).public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if load_pem_private_key(key, None).public_key().public_bytes(*form) != ours.public_bytes(*form):
            raise ValueError(f"{self.key} is not the key of {self.certificate}")
        x509.load_pem_x509_certificates(peers)
        return grpc.ssl_server_credentials([(key, certificate)], peers, require_client_auth=True)


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """How one peer's stream is.

    Attributes:
        peer: its address, as gRPC writes it.
        state: ``created`` (we have registered), ``established`` (the peer accepts), ``ready``.
        running: transactions being worked on or waiting.
        answered: since the stream began.
        failed: those of them answered with 500.
        longest_s: how long the oldest that runs has been at it.
    """

    peer: str
    state: str
    running: int
    answered: int
    failed: int
    longest_s: float


class Server:
    """One contract at one address."""

    def __init__(self, package_id: str, invoke: Handler, address: str, tls: Tls | None, *, workers: int = 16) -> None:
        """
        Args:
            package_id: as the peer names the installed package, ``label:hash``.
            invoke: the contract; called by several threads at once.
            address: ``host:port``; port 0 = any free one.
            tls: None = plain text, for a peer on the same machine.
            workers: threads for each stream. A contract that calls itself through another one needs two of them.
        """
        self._package_id = package_id
        self._invoke = invoke
        self._address = address
        self._tls = tls
        self._workers = workers
        self._streams: set[_Stream] = set()
        self._lock = threading.Lock()
        self._draining = False
        self._pool = ThreadPoolExecutor(_MAX_STREAMS, "stream")
        self._grpc: Any = None

    def start(self) -> int:
        """Listen; the port.

        Raises:
            OSError: the address is taken, or a file of TLS cannot be read.
            ValueError: see :meth:`Tls.credentials`.
        """
        credentials = self._tls.credentials() if self._tls else None
        self._grpc = grpc.server(self._pool, options=_OPTIONS, maximum_concurrent_rpcs=_MAX_STREAMS)
        connect = grpc.stream_stream_rpc_method_handler(self._connect, pb.ChaincodeMessage.FromString, None)
        self._grpc.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("protos.Chaincode", {"Connect": connect})]
        )
        try:
            port: int = (
                self._grpc.add_secure_port(self._address, credentials)
                if credentials
                else self._grpc.add_insecure_port(self._address)
            )
        except RuntimeError as error:
            raise OSError(f"cannot listen at {self._address}") from error
        self._grpc.start()
        return port

    def stop(self, patience_s: float = 20.0) -> None:
        """Finish what runs, for at most so long, telling new transactions to go elsewhere; then end the streams."""
        with self._lock:
            self._draining = True
            streams = list(self._streams)
        deadline = time.monotonic() + patience_s
        for stream in streams:
            stream.drain()
        for stream in streams:
            stream.wait_idle(max(0.0, deadline - time.monotonic()))
        if streams:
            time.sleep(_LAST_ANSWER_S)
        for stream in streams:
            stream.end()
        if self._grpc is not None:
            self._grpc.stop(grace=1.0).wait()
        self._pool.shutdown(wait=False)

    def health(self) -> list[StreamHealth]:
        """Every stream; a peer that is not among them with state ``ready`` cannot endorse with this contract."""
        with self._lock:
            return [stream.health() for stream in self._streams]

    def serve(self) -> None:
        """Serve until SIGTERM or SIGINT, then :meth:`stop`. From the main thread."""
        over = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: over.set())
        self.start()
        over.wait()
        self.stop()

    def _connect(self, requests: Iterable[Any], context: Any) -> Iterator[bytes]:
        stream = _Stream(context.peer(), self._invoke, self._workers)
        with self._lock:
            if self._draining:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the contract's server is stopping")
            self._streams.add(stream)
        try:
            if context.add_callback(stream.end):
                log.info("stream of %s begins", context.peer())
                yield from stream.run(self._package_id, requests)
        finally:
            stream.end()
            with self._lock:
                self._streams.discard(stream)
            log.info("stream of %s ended", context.peer())


class _Stream:
    """One peer at the other end."""

    def __init__(self, peer: str, invoke: Handler, workers: int) -> None:
        self.offers = Offers()
        self._peer = peer
        self._invoke = invoke
        self._limit = workers * (1 + _QUEUE)
        self._pool = ThreadPoolExecutor(workers, "transaction")
        self._out: SimpleQueue[bytes | None] = SimpleQueue()
        self._running: dict[tuple[str, str], _Transaction] = {}
        self._idle = threading.Condition()
        self._state = "created"
        self._draining = self._ended = False
        self._answered = self._failed = 0

    def run(self, package_id: str, requests: Iterable[Any]) -> Iterator[bytes]:
        """What goes to the peer, until the stream ends."""
        register = chaincode_pb2.ChaincodeID(name=package_id).SerializeToString()
        self.send(pb.ChaincodeMessage(type=pb.ChaincodeMessage.REGISTER, payload=register))
        threading.Thread(target=self._read, args=(requests,), daemon=True).start()
        while (message := self._out.get()) is not None:
            yield message

    def send(self, message: Any) -> None:
        """To the peer. Raises ValueError: too large for the stream."""
        data: bytes = message.SerializeToString()
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(data)} bytes; the stream carries {MAX_MESSAGE_BYTES}")
        self._out.put(data)

    def expect(self, transaction: _Transaction) -> None:
        """The next answer for this transaction is asked for. Raises StreamLost: there will be none."""
        with self._idle:
            if self._ended or self._running.get(transaction.key) is not transaction:
                raise StreamLost("the stream has ended, or the transaction is over")
            transaction.expects = True

    def drain(self) -> None:
        """Take no transaction any more."""
        with self._idle:
            self._draining = True

    def wait_idle(self, patience_s: float) -> None:
        """Until no transaction runs, at most so long."""
        with self._idle:
            self._idle.wait_for(lambda: self._ended or not self._running, patience_s)

    def end(self) -> None:
        """Whoever waits for the peer learns that it is gone. Safe to call again."""
        with self._idle:
            if self._ended:
                return
            self._ended = True
            for transaction in self._running.values():
                transaction.answers.put(None)
            self._idle.notify_all()
        self._out.put(None)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def health(self) -> StreamHealth:
        with self._idle:
            oldest = min((transaction.began for transaction in self._running.values()), default=time.monotonic())
            return StreamHealth(
                self._peer,
                self._state,
                len(self._running),
                self._answered,
                self._failed,
                time.monotonic() - oldest,
            )

    def _read(self, requests: Iterable[Any]) -> None:
        try:
            for message in requests:
                self._take(message)
        except grpc.RpcError:
            log.info("stream of %s broke", self._peer)
        finally:
            self.end()

    def _take(self, message: Any) -> None:
        kind = message.type
        if kind in _REPLIES:
            self._reply(message)
        elif kind in _CALLS:
            self._begin(message)
        elif kind == pb.ChaincodeMessage.KEEPALIVE:
            self.send(message)
        elif kind == pb.ChaincodeMessage.REGISTERED:
            self._state = "established"
        elif kind == pb.ChaincodeMessage.READY:
            offered = chaincode_pb2.ChaincodeAdditionalParams.FromString(message.payload)
            self.offers = Offers(
                offered.max_size_write_batch if offered.use_write_batch else 0,
                offered.max_size_get_multiple_keys if offered.use_get_multiple_keys else 0,
            )
            self._state = "ready"
        else:
            log.warning("transaction %s: a message of the unknown type %d", message.txid[:8], kind)
            self.send(_answer(message, pb.ChaincodeMessage.ERROR, b"unknown type of message"))

    def _reply(self, message: Any) -> None:
        with self._idle:
            transaction = self._running.get((message.channel_id, message.txid))
            if transaction is not None and transaction.expects:
                transaction.expects = False
                transaction.answers.put(message)
                return
        log.warning("transaction %s: an answer that nobody asked for", message.txid[:8])

    def _begin(self, message: Any) -> None:
        transaction = _Transaction(message, self)
        with self._idle:
            if self._ended:
                return
            if transaction.key in self._running:
                log.warning("transaction %s: comes again while it runs", message.txid[:8])
                return
            refused = "stopping" if self._draining else "busy" if len(self._running) >= self._limit else ""
            if not refused:
                self._running[transaction.key] = transaction
                self._pool.submit(self._work, transaction)
        if refused:
            self.send(_completed(message, Response(status=503, message=f"the contract's server is {refused}")))

    def _work(self, transaction: _Transaction) -> None:
        message = transaction.message
        response, event = transaction.result(self._invoke)
        answer = _completed(message, response, event)
        if answer.ByteSize() > MAX_MESSAGE_BYTES:
            answer = _completed(message, Response(status=500, message="TooLarge"))
        with self._idle:
            self._answered += 1
            self._failed += response.status >= 500
            # Before the answer goes: the next call of the same transaction may follow at once, from another contract.
            del self._running[transaction.key]
            self._out.put(answer.SerializeToString())
            self._idle.notify_all()


class _Transaction:
    """One that runs: the :class:`~ledger.fabric.stub.Peer` of its stub."""

    def __init__(self, message: Any, stream: _Stream) -> None:
        self.message = message
        self.key: tuple[str, str] = (message.channel_id, message.txid)
        self.offers = stream.offers
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.expects = False
        self.began = time.monotonic()
        self._stream = stream

    def ask(self, kind: int, payload: bytes) -> bytes:
        request = _answer(self.message, kind, payload)
        self._stream.expect(self)
        self._stream.send(request)
        reply = self.answers.get()
        if reply is None:
            raise StreamLost("the stream ended")
        data: bytes = reply.payload
        if reply.type == pb.ChaincodeMessage.ERROR:
            raise PeerError(data.decode(errors="replace"))
        return data

    def result(self, invoke: Handler) -> tuple[Any, Any]:
        """The contract's response and event."""
        try:
            transaction = Stub(self.message, self)
            payload = invoke(transaction)
            if transaction.broken:
                raise PeerError("a write failed, and the handler carried on")
            if not isinstance(payload, bytes):
                raise TypeError("a handler gives bytes")
            response = Response(status=200, payload=payload)
        except Refused as refused:
            return Response(status=refused.status, message=str(refused)), None
        except BaseException as error:  # noqa: BLE001 - whatever it is, the peer waits for an answer
            log.error("transaction %s: %s at %s", self.message.txid[:8], type(error).__name__, _place(error))
            return Response(status=500, message=type(error).__name__), None
        event = transaction.event and ChaincodeEvent(event_name=transaction.event[0], payload=transaction.event[1])
        return response, event


def _answer(message: Any, kind: int, payload: bytes) -> Any:
    return pb.ChaincodeMessage(type=kind, payload=payload, txid=message.txid, channel_id=message.channel_id)


def _completed(message: Any, response: Any, event: Any = None) -> Any:
    answer = _answer(message, pb.ChaincodeMessage.COMPLETED, response.SerializeToString())
    if event is not None:
        answer.chaincode_event.CopyFrom(event)
    return answer


def _place(error: BaseException) -> str:
    """File and line where the contract was, not where we were on its behalf."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename not in (__file__, stub.__file__)] or frames
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else "?"
