"""What `MemoryLedger` of `tests.ledger.world` does, on a peer of Fabric: through server and chaincode protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import pytest

from ledger.fabric.contracts import handler
from ledger.rules.record import pack
from ledger.rules.world import Caller, Contract, Declined, Reason
from tests.ledger.fabric.fakepeer import Collection, Creator, FakePeer, Outcome, person, serving


class FabricLedger:
    """Contracts served to a peer.

    Attributes:
        peer: its world can be looked at.
        time_ms: of the next call.
        events: told by committed calls.
    """

    def __init__(
        self, *contracts: Contract, time_ms: int = 1_790_000_000_000, members: Sequence[str] = ("Org1MSP",)
    ) -> None:
        """Every collection of the contracts has these members, of which the peer's organisation is the first."""
        self.time_ms = time_ms
        self.events: list[tuple[str, bytes]] = []
        self.peer = FakePeer(members[0])
        self._open = ExitStack()
        for contract in contracts:
            collections = {name: Collection(tuple(members), 0, False, False) for name in contract.collections}
            self._open.enter_context(serving(handler(contract), collections, name=contract.name, peer=self.peer))

    def close(self) -> None:
        self._open.close()

    @property
    def stores(self) -> dict[tuple[str, str], dict[str, bytes]]:
        """Contract and collection -> committed values."""
        return {
            (name, collection): {key: cell.value for key, cell in cells.items()}
            for name, space in self.peer.world.items()
            for collection, cells in {"": space.public, **space.private}.items()
            if cells
        }

    def commit(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        """Call and commit; raises Declined as the contract does."""
        outcome = self.peer.commit(function, **self._how(contract, arguments, caller, secret))
        answer = _answer(outcome)
        assert outcome.committed, outcome
        if outcome.event is not None:
            self.events.append(outcome.event)
        return answer

    def evaluate(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        """Call only."""
        return _answer(self.peer.query(function, **self._how(contract, arguments, caller, secret)))

    def _how(self, contract: str, arguments: Any, caller: Caller, secret: Any) -> dict[str, Any]:
        return {
            "args": [_bytes(arguments)],
            "transient": {name: _bytes(value) for name, value in (secret or {}).items()},
            "creator": creator(caller),
            "contract": contract,
            "time_ns": self.time_ms * 1_000_000,
        }


def creator(caller: Caller) -> Creator:
    """The caller, with a certificate."""
    return person(caller.organisation, caller.name, **{k.replace(".", "_"): v for k, v in caller.attributes.items()})


def _bytes(value: bytes | Mapping[str, object]) -> bytes:
    return value if isinstance(value, bytes) else pack(value)


def _answer(outcome: Outcome) -> bytes:
    if 400 <= outcome.status < 500:
        reason, _, words = outcome.message.partition(": ")
        raise Declined(Reason(reason), words)
    assert outcome.status == 200, outcome
    return outcome.payload


@contextmanager
def on_a_peer(module: ModuleType) -> Iterator[None]:
    """The tests of this module have a peer where they ask for a ``MemoryLedger``."""
    made: list[FabricLedger] = []

    def make(*contracts: Contract, **how: Any) -> FabricLedger:
        made.append(FabricLedger(*contracts, **how))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MemoryLedger", make)
        yield
    assert made, f"no test of {module.__name__} asked for a ledger"
    for ledger in made:
        ledger.close()
