"""What is said about our batches: receipts, refusals and heads, checked and sorted.

Messages go in, what they are worth comes out. Opens no connection, waits for nothing, settles nothing.

Rules
- Only a receipt that :func:`signer.receipt.check` finds good counts, once for each organisation, for the batch that it
  names.
- Anything else that comes as a receipt is an alarm and counts nothing: forged, somebody else's, an old one in answer to
  a new batch, one for a batch that this gateway never made.
- A receipt that comes again, as after a batch was sent again, is no alarm. A second one that differs is an alarm, yet
  it counts: an organisation that lost its ledger commits again, and must not hold the gateway up.
- A refusal is advice: believed about the batch in flight only, and overruled by a receipt of the same organisation.
- The block of a batch that was sent later is not below the last one seen of that organisation and channel.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from signer import receipt
from signer.dialogue import Hello, LedgerHead, Refusal, check_head
from signer.errors import Malformed
from signer.receipt import Committed, Receipt, Rejected
from signer.trust import Trust
from uplink.topics import Topic

# Batches whose late receipts are still recognised without asking the spool: an hour of them at one in 15 s.
_REMEMBERED = 240


@dataclass(frozen=True, slots=True)
class Sent:
    """What must be remembered of a batch to check its receipts (:class:`signer.receipt.Committed`)."""

    stream: bytes
    first: int
    count: int
    head: bytes
    root: bytes

    @classmethod
    def of(cls, batch: Committed) -> Sent:
        """The same without the batch's bytes."""
        return cls(batch.stream, batch.first, batch.count, batch.head, batch.root)


@dataclass(slots=True)
class _Taken:
    """A batch that was sent and what came for it; ``rank`` counts batches in the order they were sent, 0 = before."""

    sent: Sent
    rank: int
    receipts: dict[str, Receipt] = field(default_factory=dict)


class Collector:
    """Receipts and refusals of one gateway's batches, one of them in flight.

    Attributes:
        receipts: organisation -> good receipt of the batch in flight.
        refusals: organisation -> refusal of the batch in flight.
        heads: organisation -> good answer to the hello in flight.
        strangers: organisation -> its refusal of the hello in flight.
    """

    def __init__(
        self,
        gateway: str,
        trust: Trust,
        organisations: Collection[str],
        on_alarm: Callable[[str], None],
        known: Callable[[bytes], Committed | None] = lambda root: None,
        newest: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """Begin with nothing in flight.

        Args:
            organisations: those whose receipts count.
            on_alarm: told in words what cannot be explained by bad luck.
            known: the batch of a root, from whoever keeps them; asked for receipts that come late.
            newest: (organisation, channel) -> block of the last receipt kept.
        """
        self._gateway = gateway
        self._trust = trust
        self._organisations = frozenset(organisations)
        self._on_alarm = on_alarm
        self._known = known
        self._newest = {key: (0, block) for key, block in (newest or {}).items()}  # -> (rank of its batch, block)
        self._sent: OrderedDict[bytes, _Taken] = OrderedDict()
        self._rank = 0
        self._late: list[Receipt] = []
        self._told: set[str] = set()
        self._in_flight: Sent | None = None
        self._hello: Hello | None = None
        self.receipts: dict[str, Receipt] = {}
        self.refusals: dict[str, Refusal] = {}
        self.heads: dict[str, LedgerHead] = {}
        self.strangers: dict[str, Refusal] = {}

    def begin(self, batch: Committed) -> None:
        """A batch is sent. What came for it still counts when it is sent again, unless it was finished in between."""
        if self._in_flight is None or self._in_flight.root != batch.root:
            self._in_flight = Sent.of(batch)
            self._rank += 1
            self.receipts = {}
        self.refusals = {}
        self._remember(self._in_flight, self._rank)

    def finish(self) -> None:
        """The batch in flight has what it needs; what comes for it now is late, and sending it again begins anew."""
        self._in_flight = None

    def ask(self, hello: Hello) -> None:
        """A hello is sent."""
        self._hello = hello
        self.heads = {}
        self.strangers = {}

    def late(self) -> tuple[Receipt, ...]:
        """Good receipts for other batches than the one in flight, since the last call."""
        late, self._late = tuple(self._late), []
        return late

    def take(self, topic: Topic, payload: bytes, correlation: bytes) -> None:
        """Sort one message in; never raises, whatever it holds."""
        organisation = topic.organisation
        if topic.gateway != self._gateway or organisation not in self._organisations:
            self._tell_once(
                f"{organisation}, which is not configured here, sent a {topic.kind} for {topic.gateway};"
                " try: name it in ledger.organisations, or ask whoever lets it write there"
            )
        elif topic.kind == "receipt":
            self._take_receipt(organisation, payload, correlation)
        elif topic.kind == "refusal":
            self._take_refusal(organisation, payload, correlation)
        elif topic.kind == "head":
            self._take_head(organisation, payload, correlation)

    def _take_receipt(self, organisation: str, payload: bytes, correlation: bytes) -> None:
        try:
            said = _parse(payload)
            if said.organisation != organisation:
                raise Rejected("organisation", f"is signed in the name of {said.organisation}")
            taken = self._find(said, correlation)
            before = taken.receipts.get(organisation)
            if before and payload == before.data:
                self._count(taken, before)
                return
            rank, block = self._newest.get((organisation, said.channel), (0, None))
            newest = block if taken.rank > rank else None
            good = receipt.check(payload, self._gateway, taken.sent, self._trust, newest)
        except Rejected as error:
            self._on_alarm(f"{organisation} sent a receipt that does not count: {error}{_ask(organisation)}")
            return
        if before:
            self._on_alarm(f"{organisation} gave another receipt before for the same batch: block {before.block}")
        taken.receipts[organisation] = good
        if taken.rank > rank:
            self._newest[organisation, good.channel] = (taken.rank, good.block)
        if not self._count(taken, good):
            self._late.append(good)

    def _count(self, taken: _Taken, good: Receipt) -> bool:
        """Count a receipt if it is for the batch in flight."""
        ours = self._in_flight is not None and taken.sent.root == self._in_flight.root
        if ours:
            self.receipts[good.organisation] = good
        return ours

    def _find(self, said: Receipt, correlation: bytes) -> _Taken:
        """The batch that a receipt names, with what was taken for it so far.

        Raises:
            Rejected: it answers another batch than the one it names, or one that is not ours.
        """
        if correlation != said.root:
            words = f"is for {said.root.hex()[:16]} and came as the answer to {correlation.hex()[:16] or 'nothing'}"
            raise Rejected("old", words)
        if said.root not in self._sent:
            batch = self._known(said.root)
            if batch is None:
                raise Rejected("root", f"is for {said.root.hex()[:16]}, which is no batch of this gateway")
            return self._remember(Sent.of(batch), 0)
        return self._sent[said.root]

    def _tell_once(self, words: str) -> None:
        """An alarm that every batch, or every start, would repeat."""
        if words not in self._told:
            self._told.add(words)
            self._on_alarm(words)

    def _remember(self, sent: Sent, rank: int) -> _Taken:
        taken = self._sent.setdefault(sent.root, _Taken(sent, rank))
        self._sent.move_to_end(sent.root)
        while len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)
        return taken

    def _take_refusal(self, organisation: str, payload: bytes, correlation: bytes) -> None:
        try:
            refusal = Refusal.decode(payload)
        except Malformed as error:
            self._on_alarm(f"{organisation} sent a refusal that cannot be read: {error}{_ask(organisation)}")
            return
        if self._in_flight and refusal.root == self._in_flight.root:
            self.refusals[organisation] = refusal
        elif self._hello and correlation == self._hello.nonce:
            self.strangers[organisation] = refusal

    def _take_head(self, organisation: str, payload: bytes, correlation: bytes) -> None:
        if self._hello is None or correlation != self._hello.nonce:
            return  # the answer to an earlier start; it decides nothing
        try:
            head = check_head(payload, self._gateway, self._hello, self._trust)
            if head.organisation != organisation:
                raise Rejected("organisation", f"is signed in the name of {head.organisation}")
        except Rejected as error:
            self._on_alarm(f"{organisation} sent a head that does not count: {error}{_ask(organisation)}")
            return
        self.heads[organisation] = head


def _ask(organisation: str) -> str:
    return f"; try: ask {organisation} what its ingestion peer sends"


def _parse(payload: bytes) -> Receipt:
    try:
        return receipt.parse(payload)
    except Malformed as error:
        raise receipt.rejected(error) from None
