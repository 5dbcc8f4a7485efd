"""What a measuring point said last before this run: a restart hides nothing from plausibility. Pure but for reading.

Keeps nothing: the last reading is parsed from the spool when its meter is known, once.

Rules
- It is of the same meter, read in the same way: map, layout, serial number and overrides are those of now, and nobody
  has said that the meter was exchanged. Otherwise there is no past.
- How long ago it was is known when the machine has not started since, or when both clocks could be believed. Otherwise
  it is not known, and nothing is made of it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from drivers.reading import Value
from edge.spool import Spool
from signer.chain import Descriptor, described_in
from signer.codes import RELIABLE_CLOCKS
from signer.statement import Instant


@dataclass(frozen=True, slots=True)
class Past:
    """A point's last reading with values.

    Attributes:
        descriptor: what the point was.
        values: (OBIS key, value).
        instant: when.
        is_same_boot: the machine has not started since.
    """

    descriptor: Descriptor
    values: tuple[tuple[int, Value], ...]
    instant: Instant
    is_same_boot: bool

    def is_of(self, now: Descriptor) -> bool:
        """Whether a point that is ``now`` gives the same numbers."""
        was = self.descriptor
        return (was.map_digest, was.layout, was.serial, was.overrides) == (
            now.map_digest,
            now.layout,
            now.serial,
            now.overrides,
        )

    def elapsed_ms(self, now: Instant) -> int | None:
        """What has passed since; the most it can be by the clocks, None when that is not known."""
        then = self.instant
        if self.is_same_boot and now.boot_ms >= then.boot_ms:
            return now.boot_ms - then.boot_ms
        if then.clock not in RELIABLE_CLOCKS or now.clock not in RELIABLE_CLOCKS or now.utc_ms < then.utc_ms:
            return None
        return now.utc_ms - then.utc_ms + now.error_ms + then.error_ms


def past_of(spool: Spool, boots: Collection[int], sub: str) -> Past | None:
    """A point's past; ``boots``: of the runs since the machine started.

    Raises:
        SpoolProblem: it cannot be read.
    """
    found = spool.last_reading(sub)
    if found is None:
        return None
    reading, descriptor = found
    return Past(described_in(descriptor), reading.values, reading.instant, reading.boot in boots)
