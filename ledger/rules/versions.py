"""Records that keep every version: the current one under its name, each under its name and the time it began.

Rules
- A version never changes and never goes. Time goes forward: a change dated before the last one is declined, so what
  was true at a date stays what was true at that date.
- Reading one name reads one key; a change writes two.
"""

from __future__ import annotations

from collections.abc import Iterator

from ledger.rules.record import Record, pack, unpack
from ledger.rules.world import Declined, Reason, Store, key, ordered, under

# Versions lie under a word that no name can be, because names have no underscore.
_PAST = "_versions"


def current(store: Store, kind: str, name: str) -> Record | None:
    """The last version."""
    value = store.get(key(kind, name))
    return None if value is None else unpack(value)


def at(store: Store, kind: str, name: str, at_ms: int) -> Record | None:
    """The version that was valid at a time, None before the first."""
    last = None
    for record in history(store, kind, name):
        if record["since_ms"] > at_ms:
            break
        last = record
    return last


def history(store: Store, kind: str, name: str) -> Iterator[Record]:
    """Every version, the oldest first."""
    return (unpack(value) for _, value in store.scan(*under(_PAST, kind, name)))


def every(store: Store, kind: str) -> Iterator[Record]:
    """The last version of every name of a kind, by name."""
    return (unpack(value) for _, value in store.scan(*under(kind)))


def change(store: Store, kind: str, name: str, record: Record, since_ms: int) -> Record:
    """Write the next version, valid from ``since_ms`` on; returns it with its ``since_ms``.

    Raises:
        Declined: the last version began later, or at that very time.
    """
    last = current(store, kind, name)
    if last is not None and since_ms <= last["since_ms"]:
        words = f"{kind} {name} changed at {last['since_ms']} ms, this change is dated {since_ms} ms: it must be later"
        raise Declined(Reason.CONFLICT, words)
    version = {**record, "since_ms": since_ms}
    value = pack(version)
    store.put(key(kind, name), value)
    store.put(key(_PAST, kind, name, ordered(since_ms)), value)
    return version
