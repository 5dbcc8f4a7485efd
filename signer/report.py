"""What verification found, as data and as JSON.

Rules
- A failure is one line of text with its place in it; the list is bounded, the count is not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Tally:
    """What an organisation signed for.

    Attributes:
        receipts: receipts that hold.
        statements: statements they cover.
    """

    receipts: int = 0
    statements: int = 0


@dataclass(slots=True)
class Unpinned:
    """Receipts of an organisation whose root is not among the anchors.

    Attributes:
        words: the end of each of their lines among the failures.
        first: where the first one is.
        receipts: how many there are.
    """

    words: str
    first: str
    receipts: int = 0


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream as it was found.

    Attributes:
        gateway: gateway id.
        stream: stream id, hexadecimal.
        first: lowest seq.
        last: highest seq.
        statements: verified ones.
        pruned: known by their sid only.
        recovered_from: stream id that the genesis names, None when none.
        set_back_ms: by how much the clock was set back when the stream began, None when it began for another reason.
    """

    gateway: str
    stream: str
    first: int
    last: int
    statements: int
    pruned: int
    recovered_from: str | None
    set_back_ms: int | None = None


@dataclass(slots=True)
class PointReport:
    """The slots of one measuring point, over its streams; ``jumped``: those in gaps because the clock was set."""

    expected: int = 0
    read: int = 0
    failed: int = 0
    gap: int = 0
    missing: int = 0
    jumped: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What verification found.

    Attributes:
        statements: statements that hold.
        readings: readings among them.
        pruned: statements that are known by their sid only.
        unreceipted: statements that no receipt covers.
        undated: statements with a clock neither synchronised nor in holdover: no certificate could be judged by it.
        unknown_kinds: kind -> statements of it.
        streams: in the order of the files.
        slots: measuring point -> its slots; with the gateway's id before it when there are several.
        receipts: organisation -> receipts that hold, and statements they cover.
        unpinned: organisation -> its receipts, each a failure, when no root of it is pinned.
        missing_maps: digests that descriptors name and the folder does not hold.
        trust: ``self-supplied`` or ``external``.
        failures: one line each, the first 100.
        failures_total: all of them.
    """

    statements: int
    readings: int
    pruned: int
    unreceipted: int
    undated: int
    unknown_kinds: dict[int, int]
    streams: tuple[StreamReport, ...]
    slots: dict[str, PointReport]
    receipts: dict[str, Tally]
    unpinned: dict[str, Unpinned]
    missing_maps: tuple[str, ...]
    trust: str
    failures: tuple[str, ...]
    failures_total: int

    @property
    def ok(self) -> bool:
        """Whether all holds."""
        return not self.failures_total

    def as_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {"ok": self.ok, **asdict(self)}
