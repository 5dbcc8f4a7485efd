"""Blocks and events without gap or repetition, whatever breaks; a checkpoint file that survives a crash."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.fabric import errors
from ledger.fabric.events import Checkpoint, CheckpointFile, blocks, contract_events, read_block
from ledger.fabric.gateway import Contract, Gateway, Network, connect
from ledger.fabric.stub import Stub
from tests.ledger.fabric.fakegateway import FakeGateway, Fault, gateway_over, member


def invoke(stub: Stub) -> bytes:
    key = stub.arguments[0].decode()
    before = stub.get(key)
    stub.put(key, b"v")
    if stub.function == b"told":
        stub.set_event("told", stub.arguments[0])
    return before or b"-"


@dataclass
class World:
    gateway: FakeGateway
    address: str
    network: Network

    @property
    def contract(self) -> Contract:
        return self.network.contract("tried")


@pytest.fixture
def world() -> Iterator[World]:
    who = member("Org1MSP", "alice")
    with (
        gateway_over(invoke) as (fake, address),
        Gateway(connect(address, None), who.identity, who.key) as gateway,
    ):
        yield World(fake, address, gateway.network("energy"))


def take(network: Network, count: int, after: Checkpoint | None = None) -> list[int]:
    with blocks(network, after) as found:
        return [block.number for block in islice(found, count)]


def test_blocks_hold_transactions_with_their_codes(world: World) -> None:
    first, second = (world.contract.new_proposal("told", b"k").endorse() for _ in range(2))
    first.submit().wait()
    with pytest.raises(errors.Conflict):
        second.submit().wait()
    with blocks(world.network) as found:
        genesis, one, two = islice(found, 3)
    assert [transaction.content for transaction in genesis.transactions] == [None]
    assert [(t.code, t.content) for t in one.transactions] == [("VALID", first.content)]
    assert [(t.code, t.content) for t in two.transactions] == [("MVCC_READ_CONFLICT", second.content)]
    assert (one.previous, two.previous) == (genesis.header, one.header)


def test_a_new_block_comes_when_it_is_there(world: World) -> None:
    came: list[int] = []
    seen = threading.Event()
    found = blocks(world.network)

    def follow() -> None:
        for block in found:
            came.append(block.number)
            if block.number == 2:
                seen.set()

    follower = threading.Thread(target=follow)
    follower.start()
    world.contract.submit("told", b"a")
    world.contract.submit("told", b"b")
    assert seen.wait(20)
    found.close()
    follower.join(20)
    assert (came, follower.is_alive()) == ([0, 1, 2], False)


def test_close_ends_an_iteration_that_waits_for_a_peer(world: World) -> None:
    world.gateway.stop()
    found = blocks(world.network)
    follower = threading.Thread(target=lambda: list(found))
    follower.start()
    found.close()
    follower.join(20)
    assert not follower.is_alive()
    world.gateway.start()


def test_a_broken_stream_goes_on_where_it_was(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for key in (b"a", b"b", b"c"):
        world.contract.submit("told", key)
    world.gateway.faults += [Fault("Deliver", "UNAVAILABLE", "Socket closed", after=after) for after in (2, 0, 1)]
    with caplog.at_level(logging.INFO):
        assert take(world.network, 4) == [0, 1, 2, 3]
    assert world.gateway.calls.count("Deliver") == 4
    lines = [record.message for record in caplog.records if record.name == "ledger.fabric.events"]
    assert [line.partition(":")[0] for line in lines] == ["events", "events are coming again"] * 3


def test_a_peer_that_was_killed_goes_on_where_it_was(world: World) -> None:
    port = int(world.address.rpartition(":")[2])
    world.contract.submit("told", b"a")
    came = []
    with blocks(world.network) as found:
        for block in found:
            came.append(block.number)
            if block.number == 1:
                world.gateway.stop()
                world.gateway._append([], [])  # what the others ordered meanwhile
                world.gateway.start(port)
            if block.number == 2:
                break
    assert came == [0, 1, 2]


def test_what_was_not_checkpointed_comes_again_and_nothing_else(world: World, tmp_path: Path) -> None:
    for key in (b"a", b"b", b"c"):
        world.contract.submit("told", key)
    place = CheckpointFile(tmp_path / "energy.json")
    worked: list[int] = []
    for crash_at in (0, 2, None):
        with blocks(world.network, place.read()) as found:
            for block in found:
                if block.number == crash_at:
                    break
                worked.append(block.number)
                place.write(block.checkpoint)
                if block.number == 3:
                    break
    assert worked == [0, 1, 2, 3]


def test_another_chain_than_before_is_noticed_across_a_restart(world: World) -> None:
    world.contract.submit("told", b"a")
    other = Checkpoint(0, "ab" * 32)
    with pytest.raises(errors.AnotherChain, match="follows another block 0"):
        take(world.network, 1, other)
    assert take(world.network, 1, Checkpoint(0)) == [1]


def test_a_block_left_out_or_changed_is_noticed(world: World) -> None:
    for key in (b"a", b"b", b"c"):
        world.contract.submit("told", key)
    whole = list(world.gateway.blocks)
    del world.gateway.blocks[2]
    with pytest.raises(errors.AnotherChain, match="block 3 where 2 was due"):
        take(world.network, 4)
    world.gateway.blocks[:] = whole
    world.gateway.blocks[2].data.data[0] += b"\0"
    with pytest.raises(errors.AnotherChain, match="block 2"):
        take(world.network, 4)


def test_who_may_not_is_told_and_not_left_waiting(world: World) -> None:
    stranger = member("Org3MSP", "mallory")
    with Gateway(connect(world.address, None), stranger.identity, stranger.key) as gateway:
        with pytest.raises(errors.Forbidden):
            next(iter(blocks(gateway.network("energy"))))
        with pytest.raises(errors.Forbidden):
            next(iter(contract_events(gateway.network("energy"), "tried")))


# --- events of a contract ---


def told(world: World, count: int, after: Checkpoint | None = None, broken: bool = False) -> list[bytes]:
    if broken:
        world.gateway.faults += [Fault("ChaincodeEvents", "UNAVAILABLE", after=after) for after in (2, 0, 4)]
    with contract_events(world.network, "tried", after) as found:
        return [event.payload for event in islice(found, count)]


def several(world: World) -> None:
    """Blocks of one event, of three, of none, of an invalid one and a valid one."""
    world.contract.submit("told", b"a")
    world.gateway.hold = True
    for key in (b"b", b"c", b"d"):
        world.contract.new_proposal("told", key).endorse().submit()
    world.gateway.cut()
    world.contract.new_proposal("silent", b"e").endorse().submit()
    world.gateway.cut()
    for key in (b"f", b"f"):
        world.contract.new_proposal("told", key).endorse().submit()
    world.gateway.cut()
    world.gateway.hold = False


@pytest.mark.parametrize("broken", [False, True])
def test_every_event_of_valid_transactions_comes_once(world: World, broken: bool) -> None:
    several(world)
    assert told(world, 5, broken=broken) == [b"a", b"b", b"c", b"d", b"f"]


def test_events_go_on_behind_any_of_them(world: World) -> None:
    several(world)
    with contract_events(world.network, "tried") as found:
        places = [event.checkpoint for event in islice(found, 5)]
    everything = [b"a", b"b", b"c", b"d", b"f"]
    for done, place in enumerate(places[:-1], 1):
        assert told(world, 5 - done, place) == everything[done:]
    assert told(world, 1, Checkpoint(2)) == [b"f"]


# --- the file ---


@settings(max_examples=25, deadline=None)  # each is synced to the disk
@given(
    block=st.integers(0, 2**64 - 1), header=st.binary(max_size=32), transaction=st.text("0123456789abcdef", max_size=64)
)
def test_a_checkpoint_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, block: int, header: bytes, transaction: str
) -> None:
    place = CheckpointFile(tmp_path_factory.getbasetemp() / "checkpoint.json")
    place.write(Checkpoint(block, header.hex(), transaction))
    assert place.read() == Checkpoint(block, header.hex(), transaction)


def test_without_a_file_it_is_from_the_beginning(tmp_path: Path) -> None:
    assert CheckpointFile(tmp_path / "none.json").read() is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"version": 2, "block": 1}', '{"version": 1}', '{"version": 1, "block": "7"}',
     '{"version": 1, "block": -1}', '{"version": 1, "block": true}', '{"version": 1, "block": 1, "more": 2}'],
)  # fmt: skip
def test_a_file_that_is_no_checkpoint_is_no_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match="is no checkpoint"):
        CheckpointFile(tmp_path / "c.json").read()


def test_a_crash_while_it_is_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = CheckpointFile(tmp_path / "c.json")
    place.write(Checkpoint(1))

    def crash(*_: object) -> None:
        raise OSError("no space left on device")

    for point in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, point, crash)
            with pytest.raises(OSError, match="no space"):
                place.write(Checkpoint(2))
        assert place.read() == Checkpoint(1)


def test_a_block_without_its_codes_is_not_taken_for_a_valid_one(world: World) -> None:
    world.contract.submit("told", b"a")
    block = world.gateway.blocks[1]
    for codes in (b"", b"\0\0"):
        block.metadata.metadata[2] = codes
        with pytest.raises(errors.AnotherChain, match="codes for 1 transactions"):
            read_block(block)
    del block.metadata.metadata[2:]
    with pytest.raises(errors.AnotherChain):
        read_block(block)
