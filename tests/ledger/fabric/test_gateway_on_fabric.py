"""The client on a real network: what the fake Gateway promises holds there; SIGKILLs under load."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from ledger.fabric import errors
from ledger.fabric.commands import Commands
from ledger.fabric.events import Block, Checkpoint, CheckpointFile, blocks, contract_events
from ledger.fabric.gateway import Deadlines
from ledger.fabric.network import life
from ledger.fabric.network.layout import Layout
from ledger.fabric.once import commit_once
from ledger.fabric.profile import Profile
from tests.fabricnet import running
from tests.ledger.fabric.tried import ENDORSERS, Tried, tried

pytestmark = pytest.mark.fabric


@pytest.fixture(scope="module")
def network(
    fabric_commands: Commands, fabric_network: Profile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tried]:
    with tried(fabric_commands, fabric_network, tmp_path_factory.mktemp("client"), name="clients") as found:
        yield found


def test_all_of_the_channel_is_read_from_its_first_block(network: Tried, tmp_path: Path) -> None:
    place = CheckpointFile(tmp_path / "checkpoint.json")
    with network.gateway() as gateway:
        channel = gateway.network(network.profile.channel)
        contract = channel.contract(network.name)
        first = contract.new_proposal("put", b"first", b"1").endorse()
        second = contract.new_proposal("put", b"second", b"2").endorse()
        at = [transaction.submit().wait() for transaction in (first, second)]
        found: list[Block] = []
        while not found or found[-1].number < at[1]:
            with blocks(channel, place.read()) as following:  # two at a time: the checks hold across restarts
                for block in islice(following, 2):
                    found.append(block)
                    place.write(block.checkpoint)
                    if block.number == at[1]:
                        break
        ours = [t for block in found for t in block.transactions if t.content and t.content.contract == network.name]
        assert [block.number for block in found] == list(range(at[1] + 1))
        assert [(t.code, t.content) for t in ours] == [("VALID", first.content), ("VALID", second.content)]
        with contract_events(channel, network.name, Checkpoint(at[0], transaction=first.tx_id)) as events:
            assert next(iter(events)).payload == b"second"


def test_a_commit_is_once_though_its_envelope_is_sent_again(network: Tried) -> None:
    kept: list[bytes] = []
    with network.gateway() as gateway:
        contract = gateway.network(network.profile.channel).contract(network.name)
        done = commit_once(lambda: contract.new_proposal("count", b"once"), kept.append)
        saved = contract.network.transaction(kept[0])
        with pytest.raises(errors.Duplicate):
            saved.submit()
        assert commit_once(lambda: contract.new_proposal("count", b"once"), kept.append, kept=saved) == done
        assert contract.evaluate("get", b"once") == b"1"


def test_rivals_of_one_key_all_get_through_in_the_end(network: Tried) -> None:
    results: list[int] = []

    with network.gateway() as gateway:
        contract = gateway.network(network.profile.channel).contract(network.name)

        def work() -> None:
            done = commit_once(lambda: contract.new_proposal("count", b"rivals"), lambda _: None)
            results.append(int(done.result))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(results) == [1, 2, 3, 4]


def test_who_is_of_another_organisation_reads_at_their_own_peer(network: Tried) -> None:
    with network.gateway("AuditorMSP") as gateway:
        contract = gateway.network(network.profile.channel).contract(network.name)
        assert contract.submit("put", b"auditor", b"v") == b"-"


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("small", [True, False], ids=["raft", "bft"])
def test_nothing_is_lost_or_doubled_whatever_is_killed(fabric_commands: Commands, tmp_path: Path, small: bool) -> None:
    """20 SIGKILLs of peers and orderers, each brought back after a moment, under load."""
    chance = random.Random(7)
    over = threading.Event()
    done: dict[int, int] = {}
    failed: list[BaseException] = []
    with (
        running(fabric_commands, tmp_path / "network", small) as profile,
        tried(fabric_commands, profile, tmp_path) as network,
        network.gateway(deadlines=Deadlines(evaluate_s=10, endorse_s=10, submit_s=5, status_s=5)) as gateway,
    ):
        contract = gateway.network(profile.channel).contract("tried")

        def load(stream: int) -> None:
            try:
                while not over.is_set():
                    commit_once(
                        lambda: contract.new_proposal("count", b"stream-%d" % stream), lambda _: None, patience_s=180
                    )
                    done[stream] = done.get(stream, 0) + 1
            except BaseException as error:  # noqa: BLE001  (shown by the test)
                failed.append(error)

        threads = [threading.Thread(target=load, args=(stream,)) for stream in range(4)]
        for thread in threads:
            thread.start()
        everybody = life.services(Layout(profile.folder), profile)
        peers = [f"peer-{organisation.removesuffix('MSP').lower()}" for organisation in ENDORSERS]
        victims = [one for one in everybody if "orderer" in one.name or one.name in peers]
        for _ in range(20):
            time.sleep(chance.uniform(0.5, 3))
            pid = chance.choice(victims).pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            time.sleep(chance.uniform(0, 2))
            life.up(fabric_commands, profile.folder, small, profile.channel, lambda _: None)
        over.set()
        for thread in threads:
            thread.join(200)
        assert failed == []
        counted = {stream: int(contract.evaluate("get", b"stream-%d" % stream)) for stream in range(4)}
        assert counted == done
        assert min(counted.values()) > 0
        print(f"{sum(counted.values())} transactions over 20 kills")
