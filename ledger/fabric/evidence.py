"""What a trace asks of a Fabric network, at the peer of the caller's own organisation.

The other implementation of :class:`ledger.trace.evidence.Evidence` is beside it. A transaction is looked up with its
whole block (``qscc``, the peer's own contract): the block's data are those that its header names, the next block names
this header, the transaction is VALID, and among what its endorsers signed is the value, or a private value's digest.
That it is VALID is the peer's word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fabric_protos.common.common_pb2 import Block as RawBlock
from fabric_protos.common.ledger_pb2 import BlockchainInfo
from fabric_protos.ledger.rwset.kvrwset.kv_rwset_pb2 import HashedRWSet, KVRWSet
from fabric_protos.ledger.rwset.rwset_pb2 import TxReadWriteSet
from fabric_protos.peer.proposal_pb2 import ChaincodeAction
from fabric_protos.peer.proposal_response_pb2 import ProposalResponsePayload
from google.protobuf.message import DecodeError

from ledger.calling import Contracts
from ledger.fabric.commands import FabricProblem
from ledger.fabric.errors import GatewayError
from ledger.fabric.events import Block, read_block
from ledger.fabric.gateway import Network
from ledger.rules.record import Record, pack, parse
from ledger.trace.evidence import Fault, Written

_QUERIES = "qscc"
_VALID = "VALID"

Receipts = Callable[[bytes, int], Sequence[bytes]]
"""Of the batch of a stream that begins at a seq."""


@dataclass(frozen=True, slots=True)
class _Transaction:
    """What a valid transaction has written: (contract, collection, SHA-256 of the key) -> SHA-256 of the value."""

    block: int
    writes: Mapping[tuple[str, str, bytes], bytes | None]


class NetworkEvidence:
    """A channel, as one identity sees it at its organisation's peer."""

    expires = True

    def __init__(self, contracts: Contracts, network: Network, receipts: Receipts | None = None) -> None:
        """
        Args:
            contracts: on the same channel, as the same identity.
            receipts: those that this side keeps.
        """
        self._contracts = contracts
        self._network = network
        self._receipts = receipts
        self._blocks: dict[int, Block] = {}
        self._transactions: dict[str, _Transaction] = {}

    def ask(self, contract: str, function: str, **given: Any) -> Any:
        arguments = {name: value for name, value in given.items() if value is not None}
        return parse(self._contracts.ask(contract, function, pack(arguments)))

    def written(self, contract: str, collection: str, place: str, transaction: str) -> Written:
        found = self._transaction(transaction)
        where = f"{transaction[:16]} in block {found.block}"
        key = (contract, collection, sha256(place.encode()).digest())
        if key not in found.writes:
            raise Fault(f"transaction {where} has not written {contract} {place}")
        return Written(f"transaction {where}", found.writes[key])

    def block(self, record: Record) -> str:
        found = self._transaction(record["transaction"])
        return f"number {found.block}, transaction {record['transaction'][:16]}, {_VALID}"

    def receipts(self, record: Record) -> Sequence[bytes] | None:
        return None if self._receipts is None else self._receipts(bytes.fromhex(record["stream"]), record["first"])

    def chain(self) -> str:
        """Every block that the trace has met is named by the one behind it, and the last by the peer's channel."""
        info = BlockchainInfo.FromString(self._query("GetChainInfo"))
        for number, block in sorted(self._blocks.items()):
            if number + 1 < info.height:
                (behind,) = self._read(self._query("GetBlockByNumber", str(number + 1).encode()))
                named = behind.previous
            else:
                named = info.currentBlockHash
            if named != block.header:
                raise Fault(f"block {number} is not the one that the chain goes on from")
        return f"{len(self._blocks)} blocks of {info.height:,}, each followed by one that names it"

    def _transaction(self, tx_id: str) -> _Transaction:
        if tx_id not in self._transactions:
            self._transactions[tx_id] = self._look(tx_id)
        return self._transactions[tx_id]

    def _look(self, tx_id: str) -> _Transaction:
        try:
            (block,) = self._read(self._query("GetBlockByTxID", tx_id.encode()))
        except FabricProblem as problem:
            if "no such transaction" in str(problem).lower() or "not found" in str(problem).lower():
                raise Fault(f"the peer knows no transaction {tx_id[:16]}") from problem
            raise
        self._blocks[block.number] = block
        for each in block.transactions:
            if each.content is not None and each.content.tx_id == tx_id:
                if each.code != _VALID:
                    raise Fault(f"transaction {tx_id[:16]} in block {block.number} is {each.code}")
                return _Transaction(block.number, _writes(each.content.response))
        raise Fault(f"block {block.number} has no transaction {tx_id[:16]}")

    def _read(self, data: bytes) -> tuple[Block]:
        try:
            return (read_block(RawBlock.FromString(data)),)
        except (GatewayError, DecodeError) as error:
            raise Fault(str(error)) from error

    def _query(self, function: str, *arguments: bytes) -> bytes:
        """The own organisation's peer's answer about its copy of the chain.

        Raises:
            FabricProblem: it gives none.
        """
        proposal = self._network.contract(_QUERIES).new_proposal(
            function, self._network.name.encode(), *arguments, organisations=[self._contracts.organisation]
        )
        try:
            return proposal.evaluate()
        except GatewayError as error:
            words = "; ".join(detail.message for detail in error.details) or str(error)
            raise FabricProblem(f"{self._contracts.organisation}'s peer: {words}"[:600]) from error


def _writes(response: bytes) -> dict[tuple[str, str, bytes], bytes | None]:
    """What a transaction writes, by what its endorsers signed."""
    found: dict[tuple[str, str, bytes], bytes | None] = {}
    try:
        action = ChaincodeAction.FromString(ProposalResponsePayload.FromString(response).extension)
        for space in TxReadWriteSet.FromString(action.results).ns_rwset:
            for write in KVRWSet.FromString(space.rwset).writes:
                value = None if write.is_delete else sha256(write.value).digest()
                found[space.namespace, "", sha256(write.key.encode()).digest()] = value
            for hidden in space.collection_hashed_rwset:
                for hashed in HashedRWSet.FromString(hidden.hashed_rwset).hashed_writes:
                    gone = hashed.is_delete or hashed.is_purge
                    place = (space.namespace, hidden.collection_name, hashed.key_hash)
                    found[place] = None if gone else hashed.value_hash
    except DecodeError as error:
        raise Fault(f"a transaction's writes cannot be read: {error}") from error
    return found
