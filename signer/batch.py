"""A batch: a run of statements with one Merkle root. The fourth of the five nouns.

Pure; keeps the statements verbatim and verifies no signature.

Rules (FORMAT.md, statement-v1.cddl)
- Leaf 0 of the tree is the header (version, stream, first, count, prev, head), leaves 1..n are the sids: a repeated
  signature changes no root.
- A batch belongs to one gateway and one stream, its chain is whole, and it ends at a rekey.
- At most 1,000 statements and 256 KiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from signer import cbor, grammar, merkle, statement
from signer.codes import Kind
from signer.errors import Malformed, show
from signer.statement import Claims

MAX_STATEMENTS = 1000
"""Statements of one batch: one transaction on a ledger takes that many well (FORMAT.md)."""

MAX_BYTES = 256 * 1024
"""One MQTT message; Debian's mosquitto takes it without being told."""

VERSION = 1
"""Version of batch, header leaf, hello, head and refusal."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of statements.

    Attributes:
        data: the encoded batch.
        stream: 16 bytes.
        first: seq of the first statement.
        count: 1..1000.
        prev: sid of the statement before the first; zeros before a genesis.
        head: sid of the last.
        root: Merkle root.
        statements: the COSE_Sign1 messages, verbatim.
    """

    data: bytes
    stream: bytes
    first: int
    count: int
    prev: bytes
    head: bytes
    root: bytes
    statements: tuple[bytes, ...]


def header_leaf(stream: bytes, first: int, count: int, prev: bytes, head: bytes) -> bytes:
    """Leaf 0 of a batch's tree."""
    return cbor.encode([VERSION, stream, first, count, prev, head])


def root_of(stream: bytes, first: int, prev: bytes, sids: Sequence[bytes]) -> bytes:
    """Merkle root of the batch with these sids."""
    return merkle.root((header_leaf(stream, first, len(sids), prev, sids[-1]), *sids))


def messages(data: bytes) -> tuple[bytes, ...]:
    """The statements of a batch, verbatim; none of them is looked at.

    Raises:
        Malformed: it is no batch.
    """
    return _fields(cbor.decode(data, MAX_BYTES, "batch"), data).statements


def build(stream: bytes, first: int, prev: bytes, statements: Sequence[tuple[bytes, bytes]]) -> Batch:
    """The batch of consecutive statements, given as (sid, bytes).

    Raises:
        ValueError: none, too many, or together too long.
    """
    if not 0 < len(statements) <= MAX_STATEMENTS:
        raise ValueError(f"{len(statements)} statements, a batch has 1..{MAX_STATEMENTS}")
    sids = [sid for sid, _ in statements]
    messages = tuple(message for _, message in statements)
    root = root_of(stream, first, prev, sids)
    fields = {1: VERSION, 2: stream, 3: first, 4: len(sids), 5: prev, 6: sids[-1], 7: root, 8: list(messages)}
    data = cbor.encode(fields)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, a batch has at most {MAX_BYTES}")
    return Batch(data, stream, first, len(sids), prev, sids[-1], root, messages)


def parse(data: bytes) -> tuple[Batch, tuple[Claims, ...]]:
    """Take a batch apart and check all that needs no key.

    Raises:
        Malformed: not a batch of version 1, a statement in it is malformed, or it is not one whole run of a chain.
    """
    fields = cbor.decode(data, MAX_BYTES, "batch")
    batch = _fields(fields, data)
    claims = tuple(_claims(message, number) for number, message in enumerate(batch.statements))
    _check_run(batch, claims)
    if root_of(batch.stream, batch.first, batch.prev, [claim.sid for claim in claims]) != batch.root:
        raise Malformed("batch, field 7", "is not the root of its statements")
    return batch, claims


def _fields(fields: Any, data: bytes) -> Batch:
    if type(fields) is not dict or fields.keys() != {1, 2, 3, 4, 5, 6, 7, 8}:
        raise Malformed("batch", "is no map of the fields 1 to 8")
    if type(fields[1]) is not int or fields[1] != VERSION:
        raise Malformed("batch, field 1", f"version {show(fields[1])} is not {VERSION}")
    stream = grammar.check_bytes(fields[2], 16, "batch, field 2")
    first = grammar.check_uint(fields[3], "batch, field 3")
    count = grammar.check_uint(fields[4], "batch, field 4")
    prev, head, root = (grammar.check_bytes(fields[field], 32, f"batch, field {field}") for field in (5, 6, 7))
    messages = fields[8]
    if type(messages) is not list or not 0 < len(messages) <= MAX_STATEMENTS:
        raise Malformed("batch, field 8", f"is no array of 1..{MAX_STATEMENTS} statements")
    if count != len(messages):
        raise Malformed("batch, field 4", f"says {count}, there are {len(messages)} statements")
    return Batch(data, stream, first, count, prev, head, root, tuple(messages))


def _claims(message: object, number: int) -> Claims:
    if type(message) is not bytes:
        raise Malformed(f"batch, statement {number}", f"{show(message)} is no byte string")
    try:
        return statement.parse(message)
    except Malformed as error:
        raise Malformed(f"batch, statement {number}, {error.place}", error.reason) from None


def _check_run(batch: Batch, claims: Sequence[Claims]) -> None:
    gateway, prev, boot = claims[0].gateway, batch.prev, claims[0].boot
    for number, claim in enumerate(claims):
        place = f"batch, statement {number}"
        if claim.gateway != gateway:
            raise Malformed(place, f"of gateway {claim.gateway}, the first is of {gateway}")
        if claim.stream_id != batch.stream:
            raise Malformed(place, f"of stream {claim.stream_id.hex()}, the batch is of {batch.stream.hex()}")
        if claim.seq != batch.first + number:
            raise Malformed(place, f"seq {claim.seq} where {batch.first + number} is due")
        if claim.prev != prev:
            raise Malformed(place, f"prev {claim.prev.hex()} is not the sid before it, {prev.hex()}")
        if claim.boot < boot:
            raise Malformed(place, f"boot counter {claim.boot} after {boot}")
        if claim.kind == Kind.REKEY and number != len(claims) - 1:
            raise Malformed(place, "a rekey, and the batch goes on")
        prev, boot = claim.sid, claim.boot
    if batch.head != prev:
        raise Malformed("batch, field 6", f"{batch.head.hex()} is not the sid of the last, {prev.hex()}")
