"""Everything a contract can do, behind the fake peer: as on a real network (test_kitchen_on_fabric.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.ledger.fabric import kitchen
from tests.ledger.fabric.fakepeer import FakePeer, person, serving


class OnFakePeer:
    channel = "energy"

    def __init__(self, peer: FakePeer) -> None:
        self.peer = peer
        self.how: dict[str, Any] = {
            "creator": person("Org1MSP", "operator", aigeco_role="operator"),
            "contract": "kitchen",
        }

    def run(self, step: kitchen.Step) -> str:
        call = self.peer.commit if step.commit else self.peer.query
        outcome = call(step.function, step.arguments, transient=step.transient, **self.how)
        if outcome.status >= 400:
            return f"{outcome.status} {outcome.message}"
        assert outcome.status == 200, outcome
        assert outcome.committed is step.commit, outcome
        return outcome.payload.decode()

    def event(self, function: str) -> tuple[str, bytes] | None:
        return self.peer.commit(function, **self.how).event

    def two_at_once(self, function: str) -> list[str]:
        endorsed = [self.peer.endorse(self.peer.propose(function, **self.how)) for _ in range(2)]
        return self.peer.submit(*endorsed)


@pytest.fixture
def fake() -> Iterator[OnFakePeer]:
    collections = kitchen.collections("Org1MSP", "Org2MSP", other="Org3MSP")
    with (
        serving(kitchen.invoke, collections, name="kitchen") as peer,
        serving(kitchen.invoke, collections, name="helper", peer=peer),
    ):
        yield OnFakePeer(peer)


def test_everything_a_contract_can_do(fake: OnFakePeer) -> None:
    kitchen.check_everything(fake)


def test_many_at_once(fake: OnFakePeer) -> None:
    kitchen.check_many_at_once(fake)
