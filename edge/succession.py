"""From one stream to the next: because the ledgers contradict it, or because the clock was set back.

A restored or copied card has signed statements for places that the ledgers know otherwise. They stay in the store, and
what they said is said again in a new stream whose genesis names the old one.

A clock that was set back far (edge.setback) leaves slots accounted for that are still to come. They stay what they are,
and the stream is delivered to its end; the new one, whose genesis names that end, counts slots from now on.

Rules
- Behind the genesis of a stream that begins because of the clock comes the step of the clock.
- What was measured or noticed is said again with its own instant: readings, gaps, clock steps, descriptors, events,
  commissioning, exchanges. What belongs to the old stream alone is not: genesis, boots, rekeys, checkpoints.
- Before it come the descriptors that were in force, after it those that are: every slot has its period.
- Each transaction says how far it has come, so that a crash in between repeats nothing and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drivers.reading import Reading, Value
from edge.spool import Position, Spool
from signer.chain import Chain, Descriptor, Head, described_in
from signer.codes import Kind
from signer.statement import Claims, Instant, Statement

STEP = 500
"""Statements signed anew in one transaction (40 ms)."""


class Succession:
    """The way from one stream to the next."""

    def __init__(self, spool: Spool, chain: Chain, certificates: tuple[bytes, ...]) -> None:
        self._spool = spool
        self._chain = chain
        self._certificates = certificates
        self._pending = True  # a crash may have left something to say again
        self._carried = False

    def begin(self, now: Instant, known: Head, abandon_from: int) -> None:
        """Begin a stream that names ``known``, whose stream is abandoned from seq ``abandon_from`` on.

        Raises:
            SpoolProblem: nothing was changed, but the chain's head, which the caller takes back.
        """
        number = self._spool.number_of(known.stream)
        in_force = self._descriptors_before(number, abandon_from)
        made = [self._genesis(now, known)]
        made += [self._chain.descriptor(claim.sub, now, described_in(claim)) for claim in in_force]
        # An older stream was left because of the clock: the slots of what follows are those of its time, not of ours.
        anew: dict[str, Position] | None = None if number == self._spool.number else {}
        self._spool.append(made, abandon_from=abandon_from, abandon=number, anew=anew)
        self._pending = True

    def follow(
        self, now: Instant, step_ms: int, source: int, anew: Mapping[str, Position], said: Mapping[str, Descriptor]
    ) -> None:
        """Begin a stream that names the head of the one in use, because the clock was moved by ``step_ms``.

        Args:
            now: by the new time.
            step_ms, source: what the clock statement says.
            anew: from where slots are counted.
            said: descriptors that hold.

        Raises:
            SpoolProblem: nothing was changed, but the chain's head, which the caller takes back.
        """
        head = self._spool.head
        assert head is not None
        made = [self._genesis(now, head), self._chain.clock(now, step_ms, source)]
        made += [self._chain.descriptor(sub, now, each) for sub, each in sorted(said.items())]
        self._spool.append(made, anew=anew)

    def _genesis(self, now: Instant, before: Head) -> Statement:
        return self._chain.genesis(now, self._certificates, (before.stream, before.seq, before.sid))

    def step(self, now: Instant, descriptors: Mapping[str, Descriptor]) -> bool:
        """Say some of it again; False when nothing is left. ``descriptors``: those that hold now.

        Raises:
            SpoolProblem: nothing was changed, but the chain's head, which the caller takes back.
        """
        if not self._pending:
            return False
        number, found = self._spool.to_carry(STEP)
        made = again(self._chain, found)
        if made:
            self._spool.append(made, carried=(number, found[-1].seq))
        elif found:
            self._spool.note_carried(number, found[-1].seq)
        for claims in found:
            self._spool.account(number, claims)
        self._carried = self._carried or bool(found)
        if found:
            return True
        if self._carried and descriptors:
            self._spool.append([self._chain.descriptor(sub, now, said) for sub, said in sorted(descriptors.items())])
        self._pending = self._carried = False
        return False

    def _descriptors_before(self, number: int, seq: int) -> list[Claims]:
        """The last descriptor of each point before a seq of a stream."""
        found = {}
        for _, message in self._spool.statements(number, 0, seq):
            if self._spool.split(message)[1] == Kind.DESCRIPTOR:
                claims = self._spool.claims(message)
                found[claims.sub] = claims
        return list(found.values())


def again(chain: Chain, claims: Iterable[Claims]) -> list[Statement]:
    """The statements that say again what ``claims`` said."""
    return [made for claim in claims if (made := _again(chain, claim)) is not None]


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
            return chain.descriptor(sub, instant, described_in(claim))
        case Kind.EVENT:
            return chain.event(sub, instant, body[1], body.get(2), body.get(3))
        case Kind.COMMISSION:
            return chain.commission(sub, instant, body[1], body[2], _values(body[4]), body.get(3))
        case Kind.EXCHANGE:
            return chain.exchange(sub, instant, body[1], _values(body[2]), body[3], _values(body[4]))
    return None


def _values(found: dict[int, list[int]]) -> tuple[tuple[int, Value], ...]:
    return tuple((key, Value(*value)) for key, value in found.items())
