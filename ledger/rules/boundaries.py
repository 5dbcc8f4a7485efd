"""Boundaries: what a measuring point's cumulative registers showed at the boundaries of settlement periods.

What contract ``measurements`` keeps and answers, and what settlement computes with: one shape for both.

Rules
- A boundary is a claim of one signed statement, named by its stream and seq, and is never put together out of several.
- A register that was not read is None. A failed read has a status and no registers; it is a boundary all the same.
- Two streams may both have a statement for one instant (a restored card signs again what it had read): both are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from signer.codes import Kind
from signer.statement import Claims

STEP_MS = 15 * 60 * 1000
"""Settlement periods are multiples of a quarter hour, and begin at one (UTC)."""

IMPORT, EXPORT = 264, 520
"""OBIS keys of 1.8.0 and 2.8.0, active energy, Wh (FORMAT.md)."""

Register = tuple[int, int]
"""Mantissa and power of ten, of Wh."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """The registers of one measuring point at one instant.

    Attributes:
        at_ms: start of the slot, POSIX milliseconds, a multiple of :data:`STEP_MS`.
        stream, seq: the statement.
        status: record status of the reading, 0 = good (FORMAT.md, field 10).
        quality: the quality bits of both registers together.
        imported, exported: active energy, None = not read.
    """

    at_ms: int
    stream: bytes
    seq: int
    status: int
    quality: int
    imported: Register | None
    exported: Register | None

    def pack(self) -> list[Any]:
        """For a record."""
        registers = [None if register is None else list(register) for register in (self.imported, self.exported)]
        return [self.at_ms, self.stream.hex(), self.seq, self.status, self.quality, *registers]


def unpack(item: Sequence[Any]) -> Boundary:
    """What :meth:`Boundary.pack` made."""
    at_ms, stream, seq, status, quality, imported, exported = item
    return Boundary(
        at_ms, bytes.fromhex(stream), seq, status, quality, imported and tuple(imported), exported and tuple(exported)
    )


@dataclass(frozen=True, slots=True)
class Change:
    """A meter was exchanged: the old one's last registers, the new one's first.

    Attributes:
        at_ms: when the statement was made, POSIX milliseconds.
        stream, seq: the statement.
        old: import and export of the meter taken out, None = not read.
        new: import and export of the meter put in.
    """

    at_ms: int
    stream: bytes
    seq: int
    old: tuple[Register | None, Register | None]
    new: tuple[Register | None, Register | None]

    def pack(self) -> list[Any]:
        """For a record."""
        sides = [[None if value is None else list(value) for value in side] for side in (self.old, self.new)]
        return [self.at_ms, self.stream.hex(), self.seq, *sides]


def unpack_change(item: Sequence[Any]) -> Change:
    """What :meth:`Change.pack` made."""
    at_ms, stream, seq, old, new = item
    old_import, old_export, new_import, new_export = (value and tuple(value) for value in (*old, *new))
    return Change(at_ms, bytes.fromhex(stream), seq, (old_import, old_export), (new_import, new_export))


def boundary(claim: Claims) -> Boundary | None:
    """The boundary that a statement is; None for other kinds and for slots inside a period."""
    if claim.kind != Kind.READING or claim.body[16] % STEP_MS:
        return None
    values = claim.body.get(11, {})
    found = [values.get(obis) for obis in (IMPORT, EXPORT)]
    quality = 0
    for value in found:
        quality |= value[2] if value is not None and len(value) > 2 else 0
    registers = [None if value is None else (value[0], value[1]) for value in found]
    return Boundary(claim.body[16], claim.stream_id, claim.seq, claim.body.get(10, 0), quality, *registers)


def change(claim: Claims) -> Change | None:
    """The exchange of a meter that a statement is; None for other kinds."""
    if claim.kind != Kind.EXCHANGE:
        return None
    old, new = (
        (_register(values, IMPORT), _register(values, EXPORT)) for values in (claim.body[13][2], claim.body[13][4])
    )
    return Change(claim.instant.utc_ms, claim.stream_id, claim.seq, old, new)


def _register(values: dict[int, Any], obis: int) -> Register | None:
    value = values.get(obis)
    return None if value is None else (value[0], value[1])
