"""Statements of an abandoned stream, said again in the stream that follows it.

Knows no store; the chain signs.

Rules
- What was measured or noticed is said again with its own instant: readings, gaps, clock steps, descriptors, events,
  commissioning, exchanges.
- What belongs to the old stream alone is not: genesis, boots, rekeys, checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable

from drivers.reading import Reading, Value
from signer.chain import Chain, Descriptor
from signer.codes import Kind
from signer.statement import Claims, Statement


def carry(chain: Chain, claims: Iterable[Claims]) -> list[Statement]:
    """The statements that say again what ``claims`` said."""
    return [made for claim in claims if (made := _again(chain, claim)) is not None]


def descriptor_of(claim: Claims) -> Descriptor:
    """What a descriptor statement says."""
    body = claim.body[13]
    overrides = tuple((name, value) for name, value in body.get(6, ()))
    layout = tuple((model, address) for model, address in body.get(7, ()))
    return Descriptor(body[1], body[2], body[3], body[4], body[5], overrides, layout)


def _again(chain: Chain, claim: Claims) -> Statement | None:
    sub, instant = claim.sub, claim.instant
    body = claim.body.get(13, {})
    match claim.kind:
        case Kind.READING:
            assert claim.slot_ms is not None
            reading = Reading(sub, claim.slot_ms, claim.status, claim.values, claim.body.get(12), claim.blocks)
            return chain.reading(reading, instant)
        case Kind.GAP:
            return chain.gap(sub, instant, body[1], body[2], body[3], body[4])
        case Kind.CLOCK:
            return chain.clock(instant, body[1], body[2])
        case Kind.DESCRIPTOR:
            return chain.descriptor(sub, instant, descriptor_of(claim))
        case Kind.EVENT:
            return chain.event(sub, instant, body[1], body.get(2), body.get(3))
        case Kind.COMMISSION:
            return chain.commission(sub, instant, body[1], body[2], _values(body[4]), body.get(3))
        case Kind.EXCHANGE:
            return chain.exchange(sub, instant, body[1], _values(body[2]), body[3], _values(body[4]))
    return None


def _values(found: dict[int, list[int]]) -> tuple[tuple[int, Value], ...]:
    return tuple((key, Value(*value)) for key, value in found.items())
