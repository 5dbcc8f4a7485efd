"""Where in a channel's blocks a record was written: blocks made by hand, and what may be wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fabric_protos.common.common_pb2 import Block, BlockHeader, ChannelHeader, Envelope, HeaderType, Payload
from fabric_protos.common.ledger_pb2 import BlockchainInfo
from fabric_protos.ledger.rwset.kvrwset.kv_rwset_pb2 import HashedRWSet, KVRWSet, KVWrite, KVWriteHash
from fabric_protos.ledger.rwset.rwset_pb2 import CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2

from ledger.fabric.commands import FabricProblem
from ledger.fabric.errors import Detail, Step, explain
from ledger.fabric.events import header_hash
from ledger.fabric.evidence import NetworkEvidence
from ledger.trace.evidence import Fault, Written

VALID, MVCC = 0, 11
TX = hashlib.sha256(b"one").hexdigest()


def envelope(tx_id: str, public: dict[str, bytes], hidden: dict[str, bytes | None]) -> bytes:
    """A transaction of contract ``sharing`` with these writes."""
    hashes = [
        KVWriteHash(
            key_hash=hashlib.sha256(key.encode()).digest(),
            is_purge=value is None,
            value_hash=hashlib.sha256(value).digest() if value is not None else b"",
        )
        for key, value in hidden.items()
    ]
    private = CollectionHashedReadWriteSet(
        collection_name="results", hashed_rwset=HashedRWSet(hashed_writes=hashes).SerializeToString()
    )
    writes = KVRWSet(writes=[KVWrite(key=key, value=value) for key, value in public.items()])
    space = NsReadWriteSet(namespace="sharing", rwset=writes.SerializeToString(), collection_hashed_rwset=[private])
    action = proposal_pb2.ChaincodeAction(results=TxReadWriteSet(ns_rwset=[space]).SerializeToString())
    answer = proposal_response_pb2.ProposalResponsePayload(extension=action.SerializeToString())
    spec = chaincode_pb2.ChaincodeInvocationSpec()
    asked = proposal_pb2.ChaincodeProposalPayload(input=spec.SerializeToString())
    endorsed = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=asked.SerializeToString(),
        action=transaction_pb2.ChaincodeEndorsedAction(proposal_response_payload=answer.SerializeToString()),
    )
    done = transaction_pb2.Transaction(
        actions=[transaction_pb2.TransactionAction(payload=endorsed.SerializeToString())]
    )
    payload = Payload(data=done.SerializeToString())
    header = ChannelHeader(type=HeaderType.ENDORSER_TRANSACTION, channel_id="energy", tx_id=tx_id)
    payload.header.channel_header = header.SerializeToString()
    return bytes(Envelope(payload=payload.SerializeToString()).SerializeToString())


def block(number: int, previous: bytes, data: list[bytes], codes: bytes) -> Any:
    made = Block(header=BlockHeader(number=number, previous_hash=previous))
    made.data.data.extend(data)
    made.header.data_hash = hashlib.sha256(b"".join(data)).digest()
    made.metadata.metadata.extend([b"", b"", codes])
    return made


@dataclass
class Peer:
    """A peer's answers about its chain, and a client of it, in one."""

    blocks: list[Any]
    organisation: str = "Org1MSP"
    name: str = "energy"
    asked: tuple[str, tuple[bytes, ...]] = ("", ())
    targets: list[str] = field(default_factory=list)

    def contract(self, name: str) -> Peer:
        assert name == "qscc"
        return self

    def new_proposal(self, function: str, *arguments: bytes, organisations: list[str]) -> Peer:
        assert arguments[0] == b"energy"
        self.asked, self.targets = (function, arguments[1:]), organisations
        return self

    def evaluate(self) -> bytes:
        assert self.targets == ["Org1MSP"], "another organisation's peer is not believed"
        function, arguments = self.asked
        if function == "GetChainInfo":
            last = header_hash(self.blocks[-1].header)
            return bytes(BlockchainInfo(height=len(self.blocks), currentBlockHash=last).SerializeToString())
        if function == "GetBlockByNumber":
            return bytes(self.blocks[int(arguments[0])].SerializeToString())
        for made in self.blocks:
            if any(arguments[0] in data for data in made.data.data):
                return bytes(made.SerializeToString())
        detail = Detail("peer:7051", "Org1MSP", "chaincode response 500, no such transaction ID in index")
        raise explain(Step.EVALUATE, "UNKNOWN", "evaluate call to endorser returned error", [detail], "")


@pytest.fixture
def peer() -> Peer:
    genesis = block(0, b"", [b"configuration"], bytes([VALID]))
    one = envelope(TX, {"run/g": b"public"}, {"share/a": b"private", "share/b": None})
    other = envelope(hashlib.sha256(b"other").hexdigest(), {"run/h": b"else"}, {})
    second = block(1, header_hash(genesis.header), [other, one], bytes([MVCC, VALID]))
    return Peer([genesis, second, block(2, header_hash(second.header), [b"later"], bytes([VALID]))])


def evidence(peer: Peer) -> NetworkEvidence:
    either: Any = peer
    return NetworkEvidence(either, either)


def test_records_are_where_their_transaction_has_written_them(peer: Peer) -> None:
    found = evidence(peer)
    place = f"transaction {TX[:16]} in block 1"
    assert found.written("sharing", "", "run/g", TX) == Written(place, hashlib.sha256(b"public").digest())
    assert found.written("sharing", "results", "share/a", TX) == Written(place, hashlib.sha256(b"private").digest())
    assert found.written("sharing", "results", "share/b", TX) == Written(place, None)
    assert found.block({"transaction": TX}) == f"number 1, transaction {TX[:16]}, VALID"
    assert found.chain() == "1 blocks of 3, each followed by one that names it"
    assert found.receipts({"stream": "00", "first": 0}) is None
    for contract, collection, key in (
        ("sharing", "", "run/h"),
        ("origin", "", "run/g"),
        ("sharing", "other", "share/a"),
    ):
        with pytest.raises(Fault, match="has not written"):
            found.written(contract, collection, key, TX)


def _another_transaction(peer: Peer) -> None:
    peer.blocks[1].data.data[1] = envelope(TX, {"run/g": b"forged"}, {})


def _not_valid(peer: Peer) -> None:
    peer.blocks[1].metadata.metadata[2] = bytes([VALID, MVCC])


def _unknown(peer: Peer) -> None:
    peer.blocks[1] = block(1, peer.blocks[1].header.previous_hash, [b"nothing"], bytes([VALID]))


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (_another_transaction, "block 1: the data are not those that its header names"),
        (_not_valid, "in block 1 is MVCC_READ_CONFLICT"),
        (_unknown, "the peer knows no transaction"),
    ],
)
def test_what_is_wrong_with_a_transaction_is_said(peer: Peer, plant: Callable[[Peer], None], words: str) -> None:
    plant(peer)
    with pytest.raises(Fault, match=words):
        evidence(peer).written("sharing", "", "run/g", TX)


def test_a_block_that_the_chain_does_not_go_on_from_is_found(peer: Peer) -> None:
    """Whoever forges a block and its header cannot forge what the next one names."""
    forged = envelope(TX, {"run/g": b"forged"}, {})
    peer.blocks[1] = block(1, peer.blocks[1].header.previous_hash, [forged], bytes([VALID]))
    found = evidence(peer)
    assert found.written("sharing", "", "run/g", TX).digest == hashlib.sha256(b"forged").digest()
    with pytest.raises(Fault, match="block 1 is not the one that the chain goes on from"):
        found.chain()


def test_a_peer_that_does_not_answer_is_no_fault_of_the_evidence(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> bytes:
        raise explain(Step.EVALUATE, "UNAVAILABLE", "connection refused")

    monkeypatch.setattr(peer, "evaluate", gone)
    with pytest.raises(FabricProblem, match="Org1MSP's peer: "):
        evidence(peer).written("sharing", "", "run/g", TX)
