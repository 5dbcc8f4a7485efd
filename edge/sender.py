"""The work of the sender's thread: batches go out one at a time, receipts settle them. Decides when to try again.

Signs nothing, checks no receipt itself (uplink.receipts does), prunes nothing.

Rules
- After each start, batches wait for signed heads that match the chain or lie behind it. Reading does not wait.
- A head ahead of the chain, or beside it, means a restored or cloned store: the writer begins a new stream.
- A refusal is advice: it makes us ask for the signed heads again, and they decide.
- The same batch goes out again after 15 s without k receipts, doubling to 5 min; an unreachable broker is tried again
  after 1 s, doubling to 1 min. Both with jitter, so that a site does not come back in step.
- A connection that breaks again and again is not well when it is made anew: two clones put each other out for ever.
- What cannot be done is a state with words, logged when it changes; what an organisation refuses is a state of its own.
"""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from edge.database import SpoolProblem
from edge.spool import Spool
from edge.state import LOG, Pulse, State, words_of
from edge.writer import NewStream
from signer import batch as batches
from signer.batch import Batch
from signer.chain import Head
from signer.dialogue import Hello, LedgerHead, Refusal, RefusalReason
from signer.receipt import Receipt
from uplink.delivery import Refused, Uplink
from uplink.delivery import words_of as words_of_refusals
from uplink.errors import TooLarge, Unreachable

FIRST_TIMEOUT_S, LONGEST_TIMEOUT_S = 15.0, 300.0
"""How long k receipts are waited for (FORMAT.md)."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Between attempts to reach the broker or the ledgers."""

_FLAPS, _FLAP_S = 3, 600.0
"""So many broken connections in ten minutes, each after all was well: the alarm stays and the pauses grow."""

HEADS_TIMEOUT_S = 15.0
_SPARE_S = 60.0
"""A call that is given a time may take this much longer before the thread counts as hanging."""

_JITTER = 0.25
_NEW_STREAM_S = 60.0
"""How long the writer may take to begin a new stream; afterwards the sender looks again."""

_WORTH_SENDING = 500
"""Statements that about fill a batch: they go at once."""

_LOOK_S = 0.25
"""How often it is looked whether there is something to send, once it may be sent."""

_LONGEST_LOOK_S = 1.0
"""And before that: so many statements may have come together that they go at once."""

_ASK = "; try: ask the others whether their ingestion peers run"
_ADVICE: dict[int, str] = {
    RefusalReason.UNKNOWN_GATEWAY: "; try: have each organisation register this gateway (aigeco-peer gateways add), and"
    " check that the certificate it signs with was valid then",
    RefusalReason.NOT_THIS_GATEWAY: "; try: compare gateway.id with the certificates",
    RefusalReason.MALFORMED: "; try: compare the versions of gateway and ingestion peer",
    RefusalReason.BUSY: "; try: ask the organisation about its disk",
}
"""What the organisations or the operator can do. What is not here the gateway sees to itself, or nobody can mend."""

_SMALLEST_BATCH_BYTES = 20 * 1024
"""A broker that takes less than one large statement is asked all the same."""


class Sender:
    """The way out."""

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Uplink],
        organisations: int,
        k: int,
        send_every_ms: int,
        to_writer: queue.SimpleQueue[object],
        state: State,
        pulse: Pulse,
        utc_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``organisations``: how many there are; ``k``: how many of them settle a batch."""
        self._spool = spool
        self._connect = connect
        self._organisations = organisations
        self._k = k
        self._send_every_s = send_every_ms / 1000
        self._to_writer = to_writer
        self._state = state
        self._pulse = pulse
        self._utc_ms = utc_ms
        self._uplink: Uplink | None = None
        self._stream: bytes | None = None  # the stream that all of this is about
        self._agreed: bytes | None = None  # the stream that the ledgers' heads were last found to match
        self._resend_from: int | None = (
            None  # an organisation's ledger lies behind: seq from which it gets batches again
        )
        self._skip_to = 0  # first seq that may be cut into a batch
        self._uncut: int | None = None  # first seq that may be cut next; None: not known, or a batch was cut already
        self._refused_at: int | None = None  # first seq of a batch that an organisation found out of order
        self._common = 0  # seq up to which (exclusive) a ledger was found to hold the same
        self._doubtful: int | None = None  # first seq that a copy may have filled otherwise; None: not yet known
        self._well = False  # whether the broker has answered since the connection broke
        self._broke_s: deque[float] = deque(maxlen=_FLAPS)
        self._timeout_s = FIRST_TIMEOUT_S
        self._pause_s = FIRST_PAUSE_S
        self._max_bytes = batches.MAX_BYTES
        self._sent_s = float("-inf")

    def run(self) -> None:
        """Send until told to stop."""
        self._say("connecting")
        while not self._state.stop.is_set():
            self._pulse.beat(_SPARE_S)
            try:
                wait_s = self._turn()
            except Unreachable as error:
                if self._well:
                    self._well = False
                    self._broke_s.append(time.monotonic())
                self._state.alarms.raise_("broker", words_of(error))
                self._say(f"unreachable: {error}")
                wait_s = self._pause()
            except SpoolProblem as problem:
                if not problem.waiting_helps:
                    raise
                self._state.alarms.raise_("disk", words_of(problem))
                wait_s = self._pause()
            if wait_s > 0:
                self._state.stop.wait(wait_s)
        if self._uplink is not None:
            self._uplink.close()

    # ---- one turn

    def _turn(self) -> float:
        """Do one thing; seconds until the next."""
        if self._uplink is None:
            self._uplink = self._connect()
        head = self._spool.sending()
        if head is None:
            return _LOOK_S
        if self._stream != head.stream:
            self._begin(head.stream)
        if self._agreed != head.stream:
            return self._ask(self._uplink, head)
        self._keep_late(self._uplink.late())
        collect_s = self._sent_s + self._send_every_s - time.monotonic()
        batch = self._next(head, collect_s > 0)
        if batch is None:
            if self._spool.close_sent(self._skip_to):
                return 0.0
            return min(collect_s, _LONGEST_LOOK_S) if collect_s > 0 else _LOOK_S
        return self._deliver(self._uplink, batch)

    def _begin(self, stream: bytes) -> None:
        """From here on it is about this stream: nothing is known of it yet."""
        self._stream = stream
        self._resend_from, self._skip_to, self._uncut, self._refused_at = None, 0, None, None
        self._common, self._doubtful = 0, None

    def _next(self, head: Head, early: bool) -> Batch | None:
        """What to send now: what an organisation lacks, a full batch, or what was collected long enough.

        Looked at several times a second: costs next to nothing when there is nothing to send.
        """
        if self._resend_from is not None:
            batch = self._spool.batch_at(self._resend_from)
            if batch is not None:
                return batch
            self._resend_from = None
        if self._uncut is None:
            first, cut = self._spool.next_uncommitted()
            self._uncut = None if cut else max(first, self._skip_to)
        if self._uncut is not None and head.seq + 1 - self._uncut < (_WORTH_SENDING if early else 1):
            return None
        self._uncut = None
        return self._spool.next_batch(batches.MAX_STATEMENTS, self._max_bytes, self._skip_to)

    def _deliver(self, uplink: Uplink, batch: Batch) -> float:
        timeout_s = self._timeout_s * (1 + _JITTER * random.random())
        self._pulse.beat(timeout_s + _SPARE_S)
        try:
            receipts = uplink.deliver(batch, timeout_s)
        except Refused as refused:
            return self._refused(batch, refused)
        except TooLarge as error:
            return self._make_smaller(batch, error)
        if self._answered():
            self._pause_s = FIRST_PAUSE_S
        self._heard(receipts)
        if len(receipts) < self._k:
            self._spool.keep(receipts)
            self._state.alarms.raise_("receipts", f"{_few(receipts, self._k)} for the batch at seq {batch.first}{_ASK}")
            self._timeout_s = min(2 * self._timeout_s, LONGEST_TIMEOUT_S)
            return 0.0
        self._settle(batch, receipts)
        return 0.0

    def _heard(self, answers: Iterable[Receipt | LedgerHead]) -> None:
        """Organisations that gave what was asked of them refuse it no more."""
        for answer in answers:
            self._state.alarms.clear("ledger", about=answer.organisation)

    def _refuses(self, refusals: Iterable[tuple[str, Refusal]], what: str) -> None:
        """An organisation's refusal stands until it gives a receipt or says where its ledger stands."""
        for organisation, refusal in refusals:
            words = f"{what}: {refusal.words or f'reason {refusal.reason}'}{_ADVICE.get(refusal.reason, '')}"
            # An organisation's words may hold a time or a count that changes with every attempt.
            self._state.alarms.raise_("ledger", words, f"{what}: {refusal.reason}", organisation)

    def _settle(self, batch: Batch, receipts: tuple[Receipt, ...]) -> None:
        self._spool.settle(batch, receipts)
        for key in ("receipts", "ledger"):
            self._state.alarms.clear(key)
        self._timeout_s = FIRST_TIMEOUT_S
        self._sent_s = time.monotonic()
        self._state.settled_ms = self._utc_ms()
        if self._resend_from is not None:
            self._resend_from = batch.first + batch.count
        self._say("delivering")

    def _keep_late(self, receipts: tuple[Receipt, ...]) -> None:
        if receipts:
            self._spool.keep(receipts)
            self._heard(receipts)

    def _refused(self, batch: Batch, refused: Refused) -> float:
        """Keep what is good, and ask the ledgers for their signed heads unless they are only busy."""
        self._spool.keep(refused.receipts)
        self._heard(refused.receipts)
        self._refuses(refused.refusals, "refuses the batch")
        self._say(str(refused))
        reasons = {refusal.reason for _, refusal in refused.refusals}
        if reasons & {RefusalReason.OUT_OF_ORDER, RefusalReason.FORK}:
            again = self._refused_at == batch.first
            self._agreed, self._refused_at = None, batch.first
            if not again:  # the connection is good this very moment; beside a clone it may not be for long
                return 0.0
        asked_ms = max((refusal.retry_after_ms or 0 for _, refusal in refused.refusals), default=0)
        return max(self._pause(), min(asked_ms / 1000, LONGEST_TIMEOUT_S))

    def _make_smaller(self, batch: Batch, error: TooLarge) -> float:
        """Cut the batch anew for a broker that takes less; it cannot have reached anybody."""
        smaller = max(_SMALLEST_BATCH_BYTES, min(self._max_bytes, len(batch.data)) // 2)
        if smaller == self._max_bytes or batch.count == 1:
            raise error
        self._max_bytes = smaller
        self._spool.forget_boundaries()
        return 0.0

    # ---- where the ledgers stand

    def _ask(self, uplink: Uplink, head: Head) -> float:
        """Send a hello and judge the answers."""
        hello = Hello(head.stream, head.seq, head.sid, os.urandom(16))
        self._pulse.beat(HEADS_TIMEOUT_S + _SPARE_S)
        heads = uplink.heads(hello, HEADS_TIMEOUT_S)
        self._answered()
        strangers = [said for said in heads if not self._is_ours(said)]
        if strangers:
            return self._leave(head, max(strangers, key=lambda said: said.seq or 0))
        refusals = uplink.refusals()
        self._heard(heads)
        self._refuses(refusals, "does not say where its ledger stands")
        if len(heads) < self._k:
            words = f"{len(heads)} of {self._organisations} organisations said where their ledgers stand"
            if len(heads) + len(refusals) < self._organisations:
                self._state.alarms.raise_("ledger", words + _who(heads) + _ASK)
            else:  # each of the others has said why
                self._state.alarms.clear("ledger", words)
            self._say(words_of_refusals(refusals) or words)
            return self._pause()
        self._follow(head, heads)
        return 0.0

    def _is_ours(self, said: LedgerHead) -> bool:
        """Whether a ledger's head lies on our chain; one that does not know the stream lies before its beginning."""
        return said.seq is None or said.sid == self._spool.sid_at(self._spool.number_of(said.stream), said.seq)

    def _follow(self, head: Head, heads: tuple[LedgerHead, ...]) -> None:
        """All heads match or lie behind: go on from where they are."""
        lowest = min(-1 if said.seq is None else said.seq for said in heads)
        first, cut = self._spool.next_uncommitted()
        self._resend_from = lowest + 1 if lowest + 1 < first else None
        if lowest >= first and (not cut or self._refused_at == first):
            # On the ledgers in other batches than ours: a card restored to before they were cut. Go on behind them.
            self._spool.forget_boundaries()
            self._skip_to = lowest + 1
        self._common = max(self._common, *(said.seq + 1 for said in heads if said.seq is not None), 0)
        if self._doubtful is None:
            self._doubtful = self._first_doubtful(head)
        self._spool.note_matched(head.seq)
        self._agreed, self._uncut = head.stream, None
        self._state.alarms.clear("ledger")
        LOG.info("the ledgers stand at seq %d, the chain at %d", lowest, head.seq)
        self._say("delivering")

    def _leave(self, head: Head, said: LedgerHead) -> float:
        """A ledger is ahead of the chain or beside it: have a new stream begun."""
        assert said.seq is not None
        assert said.sid is not None
        committed = self._spool.next_uncommitted()[0]
        doubtful = self._first_doubtful(head) if self._doubtful is None else self._doubtful
        # Where it is not known what the ledgers hold, it is said again: rather twice than never.
        abandon_from = max(committed, self._common, min(doubtful, said.seq + 1))
        self._state.alarms.note(
            f"{said.organisation} knows seq {said.seq} of stream {head.stream.hex()}, this store does not:"
            f" it was restored or copied. A new stream begins, with what was stored since, from seq {abandon_from}"
        )
        order = NewStream(Head(head.stream, said.seq, said.sid), abandon_from, threading.Event())
        self._to_writer.put(order)
        self._say("waiting for a new stream")
        deadline = time.monotonic() + _NEW_STREAM_S
        while not order.done.wait(_LOOK_S) and time.monotonic() < deadline and not self._state.stop.is_set():
            self._pulse.beat(_SPARE_S)
        self._begin(head.stream)
        return 0.0

    def _first_doubtful(self, head: Head) -> int:
        """The first boot since the ledgers were last found to agree: what was stored before it, every copy has.

        0 when there was none: then this very run may have been copied, at any moment.
        """
        process = self._spool.process()
        boot = self._spool.boot_after(process.matched or 0 if process else 0)
        return boot if boot <= head.seq else 0

    # ---- words and pauses

    def _answered(self) -> bool:
        """The broker did what it was asked; whether it may be called well."""
        self._well = True
        calm = len(self._broke_s) < _FLAPS or time.monotonic() - self._broke_s[0] > _FLAP_S
        if calm:
            self._state.alarms.clear("broker")
        return calm

    def _pause(self) -> float:
        pause_s = self._pause_s * (1 + _JITTER * random.random())
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s

    def _say(self, words: str) -> None:
        self._state.sending = words


def _few(receipts: tuple[Receipt, ...], k: int) -> str:
    """How many receipts there are, and whose. The same words for as long as nobody else answers."""
    return f"{len(receipts)} of {k} receipts{_who(receipts)}"


def _who(answers: tuple[Receipt, ...] | tuple[LedgerHead, ...]) -> str:
    names = " and ".join(sorted(answer.organisation for answer in answers))
    return f" ({names})" if names else ""
