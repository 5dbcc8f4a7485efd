"""docs/confidentiality.md, made of what the tests find: ``python -m tests.ledger.confidentiality`` writes it anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger.contracts import CONTRACTS
from tests.ledger import reading
from tests.ledger.lines import START_MS
from tests.ledger.scene import Scene
from tests.ledger.world import MemoryLedger

PAGE = Path(__file__).parents[2] / "docs" / "confidentiality.md"

_BEFORE = """# Who reads what

Made by `python -m tests.ledger.confidentiality`; do not edit. In the tests each of these callers calls every function
of every contract with arguments that would give away what is another's, and searches all answers and refusals for
numbers that nothing else is. They do the same in memory, in the embedded ledger's file, through a Fabric peer's
protocol, and on a real network, where the blocks and the files of the aggregator's own peer are searched too.

"""
_AFTER = """
- Pseudonyms, ids, serial numbers, times, versions and how many periods are settled are public for ever: they lie in
  blocks. So do the reasons of a purge or an erasure, whom a guarantee was retired for, and the names in certificates
  that sign transactions. Put no person's name there.
- Guarantees of origin are public: who issues them for a generator that is one home chooses periods that tell nothing
  about it.
- An auditor reads all there is of members, but not the terms of their orders before an order is used. So does a settler
  of the group's organisation, of a distributor or of an auditor. Whoever may read can tell others, on a network by
  submitting a query too: its answer is then in a block.
- Digests of private values are in blocks. Each value lies beside a salt of 16 bytes that is derived from signed
  statements or comes with the call, so that trying out numbers does not find it.
- Over MQTT the topics' names (organisation, gateway) and the sizes of batches are seen by whoever runs the broker;
  statements are not, where it uses TLS.
"""


def public(scene: Scene) -> bytes:
    """What everybody sees of a ledger in this process: public state, events, and every call's arguments and answer."""
    stores: Mapping[tuple[str, str], Mapping[str, bytes]] = scene.ledger.stores  # type: ignore[attr-defined]
    events: list[tuple[str, bytes]] = scene.ledger.events  # type: ignore[attr-defined]
    state = [
        part for (_, kind), store in stores.items() if not kind for k, v in store.items() for part in (k.encode(), v)
    ]
    return b"\n".join([*state, *(payload for _, payload in events), *scene.chain])


def read(scene: Scene, **more: Any) -> dict[str, frozenset[str]]:
    """Who could read what on a ledger in this process."""
    return reading.everybody(scene, CONTRACTS.values(), public(scene), **more)


def page(found: Mapping[str, frozenset[str]]) -> str:
    """The page."""
    return f"{_BEFORE}{reading.table(found)}\n{_AFTER}"


if __name__ == "__main__":
    PAGE.write_text(page(read(Scene(MemoryLedger(*CONTRACTS.values(), time_ms=START_MS)))))
    print(f"{PAGE.name} is written")
