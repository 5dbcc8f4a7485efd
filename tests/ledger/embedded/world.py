"""What `MemoryLedger` of `tests.ledger.world` does, in an SQLite file: the embedded ledger's world."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from ledger.rules.record import pack
from ledger.rules.world import Caller, Contract
from ledger.world_file import SCHEMA, FileWorld


class FileLedger:
    """Contracts over a database.

    Attributes:
        time_ms: of the next call.
        events: told by committed calls.
    """

    def __init__(self, *contracts: Contract, time_ms: int = 1_790_000_000_000) -> None:
        self.sql = sqlite3.connect(":memory:", isolation_level=None)
        self.sql.executescript(SCHEMA)
        self.world = FileWorld(self.sql, {contract.name: contract for contract in contracts})
        self.time_ms = time_ms
        self.events: list[tuple[str, bytes]] = []

    @property
    def stores(self) -> dict[tuple[str, str], dict[str, bytes]]:
        """Contract and collection -> committed values."""
        found: dict[tuple[str, str], dict[str, bytes]] = {}
        for contract, collection, key, value in self.sql.execute("SELECT * FROM state"):
            found.setdefault((contract, collection), {})[key] = value
        return found

    def commit(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        """Call and commit; raises Declined as the contract does."""
        with self.sql:
            self.sql.execute("BEGIN IMMEDIATE")
            done = self.world.commit(contract, function, *self._how(arguments, caller, secret))
        if done.event is not None:
            self.events.append(done.event)
        return done.answer

    def evaluate(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        """Call only."""
        return self.world.evaluate(contract, function, *self._how(arguments, caller, secret))

    def _how(self, arguments: Any, caller: Caller, secret: Any) -> tuple[bytes, Caller, int, dict[str, bytes]]:
        secrets = {name: _bytes(value) for name, value in (secret or {}).items()}
        return _bytes(arguments), caller, self.time_ms, secrets

    def close(self) -> None:
        self.world.check()
        self.sql.close()


def _bytes(value: bytes | Mapping[str, object]) -> bytes:
    return value if isinstance(value, bytes) else pack(value)


@contextmanager
def in_a_file(*modules: ModuleType) -> Iterator[None]:
    """The tests of these modules have a file where they ask for a ``MemoryLedger``; its chain holds at the end."""
    made: list[FileLedger] = []

    def make(*contracts: Contract, **how: Any) -> FileLedger:
        made.append(FileLedger(*contracts, **how))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "MemoryLedger", make)
        yield
    assert made, "no test asked for a ledger"
    for ledger in made:
        ledger.close()
