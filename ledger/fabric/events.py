"""Blocks and contracts' events of a channel, from where one had come, without a gap and without a repetition.

    place = CheckpointFile(folder / "energy.json")
    with blocks(network, place.read()) as found:
        for block in found:
            ...                                  # what is to be done with it
            place.write(block.checkpoint)

Rules
- A checkpoint is written after the work. A crash in between brings that one block again; who must not see it twice
  keeps the checkpoint in the same database transaction as its work.
- Blocks are looked at: each names the hash of the one before and of its own data, across restarts as well. That proves
  the order and that nothing is left out; which transactions are valid is this peer's word, so take one that you trust.
- A lost connection is had again, within a second or so; that is one line in the log, and one when it is back.
- ``close`` from another thread ends the loop.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc
from fabric_protos.common.common_pb2 import BlockMetadataIndex, Envelope, HeaderType, Payload, SignatureHeader
from fabric_protos.common.common_pb2 import Status as BlockStatus
from fabric_protos.gateway import gateway_pb2
from fabric_protos.orderer.ab_pb2 import SeekInfo, SeekPosition, SeekSpecified
from fabric_protos.peer.events_pb2_grpc import DeliverStub
from google.protobuf.message import DecodeError

from ledger.fabric import messages
from ledger.fabric.errors import AnotherChain, GatewayError, Move, Step, explain, judge
from ledger.fabric.gateway import Network, code_name, failure
from ledger.fabric.messages import Endorsed, Malformed

log = logging.getLogger(__name__)

# Above every block's number: up to the newest, then wait for the next one.
_FOR_EVER = 2**64 - 1

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_FORMAT = 1
_CODES = BlockMetadataIndex.TRANSACTIONS_FILTER


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one had come.

    Attributes:
        block: its number.
        header: hex of its hash, or empty when it is not known (events).
        transaction: the last one that was done of this block; empty = all of them.
    """

    block: int
    header: str = ""
    transaction: str = ""


class CheckpointFile:
    """A checkpoint in a JSON file: always the old one or the new one, whatever happens while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Checkpoint | None:
        """None = there is no file: from the beginning.

        Raises:
            ValueError: it is no checkpoint; nobody but the operator knows where to go on.
            OSError: it cannot be read.
        """
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return None
        try:
            held = json.loads(text)
            if held.pop("version") != _FORMAT or type(held["block"]) is not int or held["block"] < 0:
                raise ValueError
            return Checkpoint(held.pop("block"), **{name: str(value) for name, value in held.items()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self._path} is no checkpoint of version {_FORMAT}") from error

    def write(self, checkpoint: Checkpoint) -> None:
        """Raises OSError: it cannot be written; the old one is still there."""
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("w") as file:
            json.dump({"version": _FORMAT, **asdict(checkpoint)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True)
class BlockTransaction:
    """A transaction in a block.

    Attributes:
        code: VALID, or why not, in Fabric's words.
        content: what is inside; None when it is none of a contract (a change of the channel's configuration, garbage).
    """

    code: str
    content: Endorsed | None


@dataclass(frozen=True, slots=True)
class Block:
    """One block.

    Attributes:
        header: its hash, which the next block names.
        previous: the hash of the block before.
    """

    number: int
    header: bytes
    previous: bytes
    transactions: tuple[BlockTransaction, ...]

    @property
    def checkpoint(self) -> Checkpoint:
        """Of this block when it is done."""
        return Checkpoint(self.number, self.header.hex())


@dataclass(frozen=True, slots=True)
class ContractEvent:
    """An event of a valid transaction."""

    contract: str
    name: str
    payload: bytes
    tx_id: str
    block: int

    @property
    def checkpoint(self) -> Checkpoint:
        """Of this event when it is done."""
        return Checkpoint(self.block, transaction=self.tx_id)


class _Placed(Protocol):
    @property
    def checkpoint(self) -> Checkpoint: ...


T = TypeVar("T", bound=_Placed)


class Following(Generic[T]):
    """An endless iteration that connects again where it had come to."""

    def __init__(
        self,
        begin: Callable[[Checkpoint | None], Any],
        read: Callable[[Any, Checkpoint | None], Iterator[T]],
        after: Checkpoint | None,
    ) -> None:
        self._begin, self._read, self._after = begin, read, after
        self._closed = threading.Event()
        self._call: Any = None
        self._lost = False

    def __iter__(self) -> Iterator[T]:
        """
        Raises:
            GatewayError: waiting does not help, such as ``Forbidden``.
            KeyProblem: the key store cannot sign now.
        """
        wait_s = _FIRST_PAUSE_S
        while not self._closed.is_set():
            try:
                self._call = self._begin(self._after)
                if self._closed.is_set():  # closed while it began
                    self._call.cancel()
                for message in self._call:
                    for found in self._read(message, self._after):
                        self._found()
                        wait_s = _FIRST_PAUSE_S
                        yield found
                        self._after = found.checkpoint
                raise explain(Step.EVENTS, "UNAVAILABLE", "the peer ended the stream")
            except grpc.RpcError as error:
                self._missed(failure(Step.EVENTS, error))
            except GatewayError as error:
                self._missed(error)
            self._closed.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """End the iteration; from any thread, any number of times."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _missed(self, error: GatewayError) -> None:
        if self._closed.is_set():
            return
        if judge(error) is Move.GIVE_UP:
            raise error
        if not self._lost:
            log.warning("%s; connecting again", error)
        self._lost = True

    def _found(self) -> None:
        if self._lost:
            log.info("events are coming again")
        self._lost = False


def blocks(network: Network, after: Checkpoint | None = None) -> Following[Block]:
    """Every block after this one; None = from the channel's first.

    Raises (in the iteration), besides what :class:`Following` does:
        AnotherChain: a block that does not continue those before.
    """

    def begin(checkpoint: Checkpoint | None) -> Any:
        request = _seek(network, 0 if checkpoint is None else checkpoint.block + 1)
        return DeliverStub(network.gateway.channel).Deliver(iter([request]))

    def read(message: Any, last: Checkpoint | None) -> Iterator[Block]:
        if message.WhichOneof("Type") != "block":
            raise _ended(BlockStatus.Name(message.status))
        block = read_block(message.block)
        _continues(last, block)
        yield block

    return Following(begin, read, after)


def contract_events(network: Network, contract: str, after: Checkpoint | None = None) -> Following[ContractEvent]:
    """Every event of this contract's valid transactions after this one; None = from the channel's first block."""
    gateway = network.gateway

    def begin(checkpoint: Checkpoint | None) -> Any:
        request = gateway_pb2.ChaincodeEventsRequest(
            channel_id=network.name, chaincode_id=contract, identity=gateway.creator
        )
        if checkpoint is not None:
            request.after_transaction_id = checkpoint.transaction
        first = 0 if checkpoint is None else checkpoint.block + (not checkpoint.transaction)
        request.start_position.specified.number = first
        signed = messages.to_bytes(request)
        return gateway.service.ChaincodeEvents(
            gateway_pb2.SignedChaincodeEventsRequest(request=signed, signature=gateway.sign(signed))
        )

    def read(message: Any, _: Checkpoint | None) -> Iterator[ContractEvent]:
        for event in message.events:
            yield ContractEvent(event.chaincode_id, event.event_name, event.payload, event.tx_id, message.block_number)

    return Following(begin, read, after)


def read_block(block: Any) -> Block:
    """A block of protobuf, looked at.

    Raises:
        AnotherChain: its data are not those of its header.
    """
    header, data = block.header, block.data.data
    if hashlib.sha256(b"".join(data)).digest() != header.data_hash:
        raise AnotherChain(Step.EVENTS, "", f"block {header.number}: the data are not those that its header names")
    codes = b"".join(block.metadata.metadata[_CODES : _CODES + 1])
    if len(codes) != len(data):
        raise AnotherChain(Step.EVENTS, "", f"block {header.number}: {len(codes)} codes for {len(data)} transactions")
    transactions = tuple(
        BlockTransaction(code_name(code), _content(one)) for code, one in zip(codes, data, strict=True)
    )
    return Block(header.number, header_hash(header), header.previous_hash, transactions)


def header_hash(header: Any) -> bytes:
    """As the next block names it: SHA-256 of the DER of number, previous hash and data hash (``protoutil``)."""
    number = header.number.to_bytes(header.number.bit_length() // 8 + 1, "big")
    body = b"".join((_der(0x02, number), _der(0x04, header.previous_hash), _der(0x04, header.data_hash)))
    return hashlib.sha256(_der(0x30, body)).digest()


def _der(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content  # at most 2 * (2 + 32) + 11: one byte of length


def _content(data: bytes) -> Endorsed | None:
    try:
        return messages.opened(Envelope.FromString(data).payload)
    except (Malformed, DecodeError):
        return None


def _continues(last: Checkpoint | None, block: Block) -> None:
    expected = 0 if last is None else last.block + 1
    if block.number != expected:
        raise AnotherChain(Step.EVENTS, "", f"block {block.number} where {expected} was due")
    if last is not None and last.header and block.previous.hex() != last.header:
        raise AnotherChain(
            Step.EVENTS, "", f"block {block.number} follows another block {last.block} than the one seen before"
        )


def _ended(status: str) -> GatewayError:
    codes = {"FORBIDDEN": "PERMISSION_DENIED", "BAD_REQUEST": "INVALID_ARGUMENT"}
    return explain(Step.EVENTS, codes.get(status, "UNAVAILABLE"), f"the peer delivers no blocks: {status}")


def _seek(network: Network, first: int) -> Any:
    gateway = network.gateway
    header = messages.channel_header(
        HeaderType.DELIVER_SEEK_INFO, network.name, time.time_ns(), tls_cert_hash=gateway.certificate_hash
    )
    info = SeekInfo(
        start=SeekPosition(specified=SeekSpecified(number=first)),
        stop=SeekPosition(specified=SeekSpecified(number=_FOR_EVER)),
        behavior=SeekInfo.BLOCK_UNTIL_READY,
    )
    payload = Payload(data=messages.to_bytes(info))
    payload.header.channel_header = header
    payload.header.signature_header = messages.to_bytes(
        SignatureHeader(creator=gateway.creator, nonce=os.urandom(messages.NONCE_BYTES))
    )
    signed = messages.to_bytes(payload)
    return Envelope(payload=signed, signature=gateway.sign(signed))
