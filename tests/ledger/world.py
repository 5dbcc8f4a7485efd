"""A ledger in memory for contracts: real transactions over dictionaries, with the rules of ``ledger/rules/world.py``.

Reads see what was committed before the call; a call that raises leaves nothing; private collections have holders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ledger.rules.record import pack
from ledger.rules.world import Call, Caller, Contract, Declined, Reason, Version

PUBLIC = ""  # the name of the public state among the collections


@dataclass
class MemoryState:
    """One contract's committed state, and what the call under way writes."""

    ledger: MemoryLedger
    contract: str
    caller: Caller
    writes: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    purged: set[tuple[str, str]] = field(default_factory=set)
    events: list[tuple[str, bytes]] = field(default_factory=list)
    ranged: bool = False  # a range of a private collection was read

    def private(self, collection: str) -> MemoryStore:
        declared = self.ledger.contracts[self.contract].collections
        assert collection in declared, f"contract {self.contract} has no collection {collection!r}"
        return MemoryStore(self, collection)

    def get(self, key: str) -> bytes | None:
        return MemoryStore(self, PUBLIC).get(key)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return MemoryStore(self, PUBLIC).get_many(keys)

    def put(self, key: str, value: bytes) -> None:
        MemoryStore(self, PUBLIC).put(key, value)

    def delete(self, key: str) -> None:
        MemoryStore(self, PUBLIC).delete(key)

    def scan(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        return MemoryStore(self, PUBLIC).scan(start, end)

    def history(self, key: str) -> Iterator[Version]:
        return reversed(self.ledger.versions.get((self.contract, key), []))

    def ask(self, contract: str, function: str, arguments: bytes) -> bytes:
        return self.ledger.evaluate(contract, function, arguments, self.caller)

    def tell(self, event: str, payload: bytes) -> None:
        assert not self.events, "a call tells one event at most"
        self.events.append((event, payload))


@dataclass
class MemoryStore:
    """The public state or one collection."""

    state: MemoryState
    collection: str

    @property
    def _committed(self) -> dict[str, bytes]:
        return self.state.ledger.stores.get((self.state.contract, self.collection), {})

    def get(self, key: str) -> bytes | None:
        return self._committed.get(key)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def put(self, key: str, value: bytes) -> None:
        assert isinstance(value, bytes), "values are bytes"
        assert value, "Fabric cannot tell an empty value from none"
        assert key, "a key is not empty"
        self.state.writes[self.collection, key] = value

    def delete(self, key: str) -> None:
        self.state.writes[self.collection, key] = None

    def purge(self, key: str) -> None:
        self.state.writes[self.collection, key] = None

    def digest(self, key: str) -> bytes | None:
        value = self._committed.get(key)
        return None if value is None else sha256(value).digest()

    def scan(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        self.state.ranged |= self.collection != PUBLIC
        committed = self._committed
        found = sorted((key for key in committed if start <= key < end), key=str.encode)
        return ((key, committed[key]) for key in found)


class MemoryLedger:
    """Contracts over dictionaries.

    Attributes:
        stores: contract and collection -> committed values.
        events: told by committed calls.
    """

    def __init__(self, *contracts: Contract, time_ms: int = 1_790_000_000_000) -> None:
        self.contracts = {contract.name: contract for contract in contracts}
        self.time_ms = time_ms
        self.stores: dict[tuple[str, str], dict[str, bytes]] = {}
        self.versions: dict[tuple[str, str], list[Version]] = {}
        self.events: list[tuple[str, bytes]] = []
        self.transactions = 0

    def commit(
        self,
        contract: str,
        function: str,
        arguments: bytes | Mapping[str, object],
        caller: Caller,
        secret: Mapping[str, bytes | Mapping[str, object]] | None = None,
    ) -> bytes:
        """Call and commit. A call that raises changes nothing."""
        state, call, answer = self._call(contract, function, arguments, caller, secret or {})
        assert not (state.ranged and state.writes), "no range of a private collection beside a write"
        self.transactions += 1
        for (collection, key), value in state.writes.items():
            store = self.stores.setdefault((contract, collection), {})
            if value is None:
                store.pop(key, None)
            else:
                store[key] = value
            if collection == PUBLIC:
                version = Version(call.transaction, call.time_ms, value)
                self.versions.setdefault((contract, key), []).append(version)
        self.events += state.events
        return answer

    def evaluate(
        self,
        contract: str,
        function: str,
        arguments: bytes | Mapping[str, object],
        caller: Caller,
        secret: Mapping[str, bytes | Mapping[str, object]] | None = None,
    ) -> bytes:
        """Call and throw away what it writes."""
        return self._call(contract, function, arguments, caller, secret or {})[2]

    def _call(
        self,
        contract: str,
        function: str,
        arguments: bytes | Mapping[str, object],
        caller: Caller,
        secret: Mapping[str, bytes | Mapping[str, object]],
    ) -> tuple[MemoryState, Call, bytes]:
        if contract not in self.contracts:
            raise Declined(Reason.UNKNOWN, f"there is no contract {contract}")
        call = Call(
            function,
            arguments if isinstance(arguments, bytes) else pack(arguments),
            caller,
            self.time_ms,
            sha256(self.transactions.to_bytes(8, "big")).hexdigest(),
            {name: value if isinstance(value, bytes) else pack(value) for name, value in secret.items()},
        )
        state = MemoryState(self, contract, caller)
        return state, call, self.contracts[contract].invoke(state, call)
