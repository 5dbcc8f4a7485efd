"""Our contracts on Fabric: a contract of ``ledger/rules`` becomes a handler for :class:`ledger.fabric.shim.Server`.

Decides nothing: it hands a peer's state to the rules as :class:`ledger.rules.world.State`, and their answer back.

Rules
- All writes of a call go to the peer together, after the contract has decided; a call that is declined writes nothing.
- A call has one argument at most: the record. What the rules decline is a refusal with their reason and words.
- Time is the proposal's, a caller who the peer says has signed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ledger.fabric.shim import Handler
from ledger.fabric.stub import CallFailed, Refused, Stub
from ledger.rules.world import Call, Caller, Contract, Declined, Reason, Version

_NS_PER_MS = 1_000_000


def handler(contract: Contract) -> Handler:
    """What a server calls for each transaction of this contract."""

    def invoke(stub: Stub) -> bytes:
        if len(stub.arguments) > 1:
            raise Refused(Reason.MALFORMED, f"{len(stub.arguments)} arguments: a call has one record, or none")
        try:
            with stub.batch():
                return contract.invoke(StubState(stub), _call(stub))
        except Declined as declined:
            raise Refused(declined.reason, declined.words) from declined

    return invoke


class StubStore:
    """The public state, or one private collection, through a peer."""

    def __init__(self, stub: Stub, collection: str = "") -> None:
        self._stub = stub
        self._collection = collection

    def get(self, key: str) -> bytes | None:
        return self._stub.get(key, self._collection)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._stub.get_multiple(keys, self._collection)

    def put(self, key: str, value: bytes) -> None:
        self._stub.put(key, value, self._collection)

    def delete(self, key: str) -> None:
        self._stub.delete(key, self._collection)

    def scan(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        # Not closed when left early: the peer does it at the end of the transaction.
        return ((row.key, row.value) for row in self._stub.range(start, end, self._collection))

    def digest(self, key: str) -> bytes | None:
        return self._stub.digest(key, self._collection)

    def purge(self, key: str) -> None:
        self._stub.purge(key, self._collection)


class StubState(StubStore):
    """:class:`ledger.rules.world.State` through a peer."""

    def private(self, collection: str) -> StubStore:
        return StubStore(self._stub, collection)

    def history(self, key: str) -> Iterator[Version]:
        for change in self._stub.history(key):
            yield Version(change.tx_id, change.timestamp_ns // _NS_PER_MS, change.value)

    def ask(self, contract: str, function: str, arguments: bytes) -> bytes:
        try:
            return self._stub.invoke(contract, [function.encode(), arguments])
        except CallFailed as failed:
            reason, _, words = failed.message.partition(": ")
            if failed.refused and reason in list(Reason):
                raise Declined(Reason(reason), words) from failed
            raise

    def tell(self, event: str, payload: bytes) -> None:
        self._stub.set_event(event, payload)


def _call(stub: Stub) -> Call:
    creator = stub.creator
    return Call(
        function=stub.function.decode(errors="replace"),
        arguments=b"".join(stub.arguments),
        caller=Caller(creator.msp_id, creator.name, creator.attributes),
        time_ms=stub.timestamp_ns // _NS_PER_MS,
        transaction=stub.tx_id,
        secret=stub.transient,
    )
