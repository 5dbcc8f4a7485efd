"""The client against a Gateway with the real one's behaviour, over real gRPC: calls, errors, what is signed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import grpc
import pytest
from fabric_protos.common.common_pb2 import Payload
from fabric_protos.peer import proposal_pb2, transaction_pb2
from fabric_protos.peer.proposal_response_pb2 import ProposalResponsePayload

from ledger.fabric import errors
from ledger.fabric.errors import Move, judge
from ledger.fabric.gateway import OPTIONS, Contract, Deadlines, Gateway, connect, failure
from ledger.fabric.messages import Malformed
from ledger.fabric.stub import Refused, Stub
from tests.ledger.fabric.fakegateway import FakeGateway, Fault, gateway_over, member

QUICK = Deadlines(evaluate_s=10, endorse_s=10, submit_s=10, status_s=10)


def invoke(stub: Stub) -> bytes:
    """put KEY VALUE (reads the key first), get KEY, refuse, fail, busy, and what is told in secret."""
    match stub.function:
        case b"put":
            key = stub.arguments[0].decode()
            before = stub.get(key)
            stub.put(key, stub.arguments[1])
            stub.set_event("put", stub.arguments[0])
            return before or b"-"
        case b"get":
            return stub.get(stub.arguments[0].decode()) or b"-"
        case b"secret":
            return b"%s told %d bytes" % (stub.creator.name.encode(), len(stub.transient["secret"]))
        case b"refuse":
            raise Refused("out of order", "the ledger has 7: nothing else", 409)
        case _:
            raise KeyError("what nobody may read")


@dataclass
class World:
    gateway: FakeGateway
    address: str
    contract: Contract


@pytest.fixture(params=["raft", "bft"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with gateway_over(invoke, consensus=request.param) as (fake, address), client(address) as gateway:
        yield World(fake, address, gateway.network("energy").contract("tried"))


def client(address: str, msp_id: str = "Org1MSP", name: str = "alice", deadlines: Deadlines = QUICK) -> Gateway:
    who = member(msp_id, name)
    return Gateway(connect(address, None), who.identity, who.key, deadlines=deadlines)


# --- what goes well ---


def test_a_transaction_is_committed_and_read_back(world: World) -> None:
    assert world.contract.submit("put", b"k", b"v") == b"-"
    assert world.contract.evaluate("get", b"k") == b"v"
    assert world.gateway.calls == ["Endorse", "Submit", "CommitStatus", "Evaluate"]


def test_step_by_step_the_contents_are_seen(world: World) -> None:
    proposal = world.contract.new_proposal("put", b"k", b"v")
    transaction = proposal.endorse()
    content = transaction.content
    assert (content.tx_id, content.contract, content.arguments) == (proposal.tx_id, "tried", (b"put", b"k", b"v"))
    assert (content.creator.name, content.event) == ("alice", ("put", b"k"))
    assert [len(content.endorsements), content.result] == [1, b"-"]
    commit = transaction.submit()
    assert (commit.status().code, commit.wait()) == ("VALID", 1)


def test_transient_data_reach_the_contract_and_no_block(world: World) -> None:
    secret = b"nobody's business"
    assert world.contract.submit("secret", transient={"secret": secret}) == b"alice told 17 bytes"
    assert secret not in world.gateway.blocks[-1].SerializeToString()
    assert world.contract.evaluate("secret", transient={"secret": secret}) == b"alice told 17 bytes"


def test_a_kept_envelope_is_the_same_transaction(world: World) -> None:
    transaction = world.contract.new_proposal("put", b"k", b"v").endorse()
    kept = world.contract.network.transaction(transaction.envelope)
    assert kept == transaction
    kept.submit().wait()
    assert world.gateway.submitted == [transaction.envelope]


def test_bytes_that_are_no_envelope_of_this_channel(world: World) -> None:
    envelope = world.contract.new_proposal("put", b"k", b"v").endorse().envelope
    other = Gateway(connect(world.address, None), member("Org1MSP", "alice").identity, member("Org1MSP", "alice").key)
    for network, wrong in ((world.contract.network, b"\xff"), (other.network("another"), envelope)):
        with pytest.raises(Malformed):
            network.transaction(wrong)
    other.close()


def test_many_threads_share_one_gateway(world: World) -> None:
    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                world.contract.submit("put", b"%d-%d" % (number, turn), b"v")
        except errors.GatewayError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (failed, len(world.gateway.codes)) == ([], 20)


# --- what does not ---


def test_a_refusal_has_its_reason_its_words_and_who_said_it(world: World) -> None:
    for call in (world.contract.evaluate, world.contract.submit):
        with pytest.raises(errors.RefusedByContract) as found:
            call("refuse")
        error = found.value
        assert (error.reason, error.words, error.status) == ("out of order", "the ledger has 7: nothing else", 409)
        assert [detail.msp_id for detail in error.details] == ["Org1MSP"]
        assert judge(error) is Move.GIVE_UP
    assert world.gateway.submitted == []


def test_a_contract_that_fails_may_succeed_another_time(world: World) -> None:
    for call in (world.contract.evaluate, world.contract.submit):
        with pytest.raises(errors.NotEndorsed, match="chaincode response 500, KeyError") as found:
            call("fail")
        assert judge(found.value) is Move.ANEW


def test_who_is_not_of_the_channel_is_forbidden(world: World) -> None:
    stranger = member("Org3MSP", "mallory")
    with Gateway(connect(world.address, None), stranger.identity, stranger.key) as gateway:
        contract = gateway.network("energy").contract("tried")
        for call in (contract.evaluate, contract.submit):
            with pytest.raises(errors.Forbidden, match="creator org"):
                call("get", b"k")
        with pytest.raises(errors.Forbidden):
            gateway.network("energy").commit("00").status()


def test_what_is_not_there_is_not_endorsed(world: World) -> None:
    network = world.contract.network
    for contract in (network.contract("nothing"), network.gateway.network("nowhere").contract("tried")):
        with pytest.raises(errors.NotEndorsed, match="No metadata was found"):
            contract.submit("put", b"k", b"v")


def test_a_proposal_shown_again_is_known_to_be_done(world: World) -> None:
    proposal = world.contract.new_proposal("put", b"k", b"v")
    proposal.endorse().submit().wait()
    with pytest.raises(errors.Duplicate) as found:
        proposal.endorse()
    assert judge(found.value) is Move.ASK


def test_organisations_are_asked_for_by_name(world: World) -> None:
    proposal = world.contract.new_proposal("put", b"k", b"v", organisations=["Org1MSP"])
    proposal.endorse().submit().wait()
    with pytest.raises(errors.Unavailable, match="Org9MSP"):
        world.contract.new_proposal("put", b"k", b"v", organisations=["Org9MSP"]).endorse()


def test_a_conflict_is_told_from_an_invalid_transaction(world: World) -> None:
    first, second = (world.contract.new_proposal("put", b"k", b"v").endorse() for _ in range(2))
    first.submit().wait()
    with pytest.raises(errors.Conflict, match="MVCC_READ_CONFLICT"):
        second.submit().wait()
    world.gateway.faults.append(Fault("commit", "ENDORSEMENT_POLICY_FAILURE"))
    with pytest.raises(errors.Invalid) as found:
        world.contract.submit("put", b"k", b"w")
    assert judge(found.value) is Move.GIVE_UP


def test_a_copy_of_what_is_committed_counts_once(world: World) -> None:
    transaction = world.contract.new_proposal("put", b"k", b"v").endorse()
    transaction.submit().wait()
    if world.gateway.consensus == "bft":
        with pytest.raises(errors.Duplicate) as found:
            transaction.submit()
        assert judge(found.value) is Move.ASK
    else:
        transaction.submit()
        assert list(world.gateway.blocks[-1].metadata.metadata[2]) == [9]
    assert transaction.commit.wait() == 1


def test_every_call_has_a_deadline(world: World) -> None:
    end = threading.Event()
    short = Deadlines(evaluate_s=0.2, endorse_s=0.2, submit_s=0.2, status_s=0.2)
    transaction = world.contract.new_proposal("put", b"k", b"v").endorse()
    world.gateway.hold = True
    with client(world.address, deadlines=short) as gateway:
        network = gateway.network("energy")
        contract = network.contract("tried")
        kept = network.transaction(transaction.envelope)
        attempts: list[tuple[str, Any, type[errors.GatewayError]]] = [
            ("Evaluate", lambda: contract.evaluate("get", b"k"), errors.Unavailable),
            ("Endorse", contract.new_proposal("put", b"k", b"v").endorse, errors.Unavailable),
            ("Submit", kept.submit, errors.OutcomeUnknown),
            ("CommitStatus", kept.commit.wait, errors.OutcomeUnknown),
        ]
        for call, attempt, kind in attempts:
            world.gateway.faults.append(Fault(call, wait=end))
            with pytest.raises(kind) as found:
                attempt()
            assert found.value.code == "DEADLINE_EXCEEDED"
        end.set()


TAMPERED = {
    "header": "another header",
    "arguments": "other arguments",
    "transient": "transient data in the transaction",
    "hash": "endorsements of another proposal",
    "endorsements": "no endorsement",
    "two actions": "a transaction of 2 actions",
    "garbage": "no protobuf",
}


@pytest.mark.parametrize("what", TAMPERED)
def test_another_transaction_than_proposed_is_not_signed(what: str) -> None:
    """Each by itself: the rest of the transaction fits what was changed, as if endorsers were in league."""

    def tamper(payload: bytes) -> bytes:
        if what == "garbage":
            return payload[:-7]
        outer = Payload.FromString(payload)
        transaction = transaction_pb2.Transaction.FromString(outer.data)
        action = transaction_pb2.ChaincodeActionPayload.FromString(transaction.actions[0].payload)
        asked = proposal_pb2.ChaincodeProposalPayload.FromString(action.chaincode_proposal_payload)
        answer = ProposalResponsePayload.FromString(action.action.proposal_response_payload)
        match what:
            case "header":
                outer.header.channel_header += b"\x38\x01"
            case "arguments":
                asked.input = asked.input.replace(b"mine", b"ours")
            case "transient":
                asked.TransientMap["a"] = b"b"
            case "endorsements":
                del action.action.endorsements[:]
            case "two actions":
                transaction.actions.append(transaction.actions[0])
        action.chaincode_proposal_payload = asked.SerializeToString()
        header = outer.header
        hashed = header.channel_header + header.signature_header + action.chaincode_proposal_payload
        answer.proposal_hash = sha256(hashed + b"another" * (what == "hash")).digest()
        action.action.proposal_response_payload = answer.SerializeToString()
        transaction.actions[0].payload = action.SerializeToString()
        outer.data = transaction.SerializeToString()
        changed: bytes = outer.SerializeToString()
        return changed

    with gateway_over(invoke) as (fake, address), client(address) as gateway:
        fake.faults.append(Fault("prepare", tamper=tamper))
        with pytest.raises(errors.NotAsProposed, match=TAMPERED[what]) as found:
            gateway.network("energy").contract("tried").submit("put", b"k", b"mine")
        assert judge(found.value) is Move.GIVE_UP
        assert fake.submitted == []


def test_an_orderers_no_is_final_whichever_they_are(world: World) -> None:
    transaction = world.contract.new_proposal("put", b"k", b"v").endorse()
    forged = world.contract.network.transaction(transaction.envelope[:-1] + bytes([transaction.envelope[-1] ^ 1]))
    with pytest.raises(errors.NotOrdered, match="FORBIDDEN") as found:
        forged.submit()
    assert judge(found.value) is Move.GIVE_UP


def test_a_peer_that_comes_back_is_found_again() -> None:
    with gateway_over(invoke) as (fake, address), client(address) as gateway:
        contract = gateway.network("energy").contract("tried")
        assert contract.evaluate("get", b"k") == b"-"
        fake.stop()
        with pytest.raises(errors.Unavailable):
            contract.evaluate("get", b"k")
        fake.start(int(address.rpartition(":")[2]))
        until = time.monotonic() + 20  # some tenths of a second, on a machine with time
        while True:
            try:
                assert contract.evaluate("get", b"k") == b"-"
                break
            except errors.Unavailable:
                assert time.monotonic() < until
                time.sleep(0.02)


def test_the_longest_pause_between_attempts_to_connect_is_a_second() -> None:
    assert ("grpc.max_reconnect_backoff_ms", 1_000) in OPTIONS


def test_details_that_cannot_be_read_hide_nothing_else(world: World) -> None:
    class Broken(grpc.RpcError):  # type: ignore[misc]
        def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
            return (("grpc-status-details-bin", b"\xff\xff"),)

        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.ABORTED

        def details(self) -> str:
            return "failed to endorse transaction"

    error = failure(errors.Step.ENDORSE, Broken(), "00ff")
    assert isinstance(error, errors.NotEndorsed)
    assert "failed to endorse" in str(error)


def test_a_key_that_is_not_the_certificates_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="alice"):
        Gateway(None, member("Org1MSP", "alice").identity, member("Org1MSP", "bob").key)
