"""The ingestion peer: batches come in over MQTT, are verified and committed, and receipts go back.

Keeps nothing but the ledger; decides nothing about what is accepted (``ledger/rules/measurements.py``).

Rules
- A message is acknowledged to the broker only after its batch is committed and its answer handed over, in the order in
  which messages came; whatever a crash leaves undone comes again, and gets the same receipt.
- The ledger is a port (:class:`ledger.commit.Intake`): embedded or on a network, nothing here knows which.
- One process writes a ledger: it holds a lock file. Another one waits, connected to nothing, and takes over within
  moments of the first one's end, with the same client id and so with the same session and its unread messages.
- What is queued is committed together, up to one large batch's worth: one sync of the disk serves many small batches.
- One bad message is answered with a refusal, and the next one is served. Known errors are states, logged when they
  change; a fork is an alarm, logged once and kept.
- This process decides when to try again: after 1 s, then every 2 s, with jitter.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ledger.commit import Intake, LedgerProblem, Outcome, Receipted, Submission
from ledger.embedded import Issuer
from signer import batch as batches
from signer.dialogue import Hello, Refusal, RefusalReason, issue_head
from signer.errors import Malformed
from uplink import topics
from uplink.endpoint import Endpoint
from uplink.errors import BrokerAway, Unreachable
from uplink.mqtt import PEER_WINDOW, Connection, Lost, Message, Published
from uplink.topics import Topic

# Verifying a full batch takes some 0.1 s, a sync some milliseconds: more in one transaction only delays the answers.
_GROUP_BYTES = batches.MAX_BYTES
# How soon a stop, a registration and a standby's turn are noticed.
_POLL_S = 0.2
# An organisation has one or two peers: they can afford to be back before the gateways are. A broker that restarted has
# forgotten their subscriptions, and what a gateway publishes before them waits for its second try.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 2.0
# A connection that held for so long was a good one.
_GOOD_S = 60.0
_PATIENCE_S = 10.0
# What a gateway is asked to wait when the disk is full.
_BUSY_MS = 60_000
# Longest words of a refusal, in bytes; the format allows 256.
_WORDS_BYTES = 250
_NO_ROOT, _NO_STREAM = bytes(32), bytes(16)


@dataclass(slots=True)
class Counters:
    """What this process has done."""

    committed: int = 0
    repeated: int = 0
    refused: int = 0
    statements: int = 0


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A message of ours, and what parsing made of it."""

    message: Message
    topic: Topic
    content: Submission | Hello | Refusal


@dataclass(slots=True)
class _Open:
    """A message that the broker still counts as unread."""

    message: Message
    answered: bool


class Peer:
    """Serves one ledger from one broker.

    Attributes:
        counters: since the start.
    """

    def __init__(
        self,
        ledger: Intake,
        issuer: Issuer,
        endpoint: Endpoint,
        say: Callable[[str], None],
        chores: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """``say``: told when a state changes; ``chores``: done between messages, some five times a second."""
        self._ledger = ledger
        self._issuer = issuer
        self._endpoint = endpoint
        self._say = say
        self._chores = chores
        self._now_s = now_s
        self._state = ""
        self._serving = f"serving {issuer.organisation} at {endpoint.address}"
        self._alarmed: set[tuple[bytes, int, bytes]] = set()
        self._refused_topics: set[int] = set()
        self._waiting: list[Message] = []
        self._topics: dict[int, str] = {}
        self._number = 0
        self._open: dict[int, tuple[Topic, Submission, _Open]] = {}
        self._unacknowledged: deque[_Open] = deque()
        self.counters = Counters()

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set.

        Raises:
            LedgerProblem: the ledger cannot be used any more.
        """
        pause_s = _FIRST_PAUSE_S
        while not stop.is_set():
            started = time.monotonic()
            try:
                self._connect_and_serve(stop)
            except Unreachable as error:
                self._become("\n  ".join([f"not connected: {error}", *getattr(error, "__notes__", [])]))
            if time.monotonic() - started > _GOOD_S:
                pause_s = _FIRST_PAUSE_S
            self._wait(stop, pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _wait(self, stop: threading.Event, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left_s := deadline - time.monotonic()) > 0:
            self._chores()
            stop.wait(min(left_s, _POLL_S))

    def _become(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._say(state)

    # ---- one connection

    def _connect_and_serve(self, stop: threading.Event) -> None:
        connection = Connection(self._endpoint, PEER_WINDOW)
        connection.open(_PATIENCE_S)
        self._ledger.when_ready(connection.wake)
        self._open.clear()
        self._unacknowledged.clear()
        self._waiting.clear()
        self._topics.clear()
        try:
            connection.subscribe(topics.peer_subscriptions(self._issuer.organisation), _PATIENCE_S)
            self._become(self._serving)
            while not stop.is_set():
                group = self._gather(connection)
                if group:
                    self._take(connection, group)
                self._reply(connection)
                self._chores()
        finally:
            connection.close()

    def _gather(self, connection: Connection) -> list[Message]:
        """What is queued, up to one large batch's worth; waits a moment for the first."""
        group: list[Message] = []
        size = 0
        while size < _GROUP_BYTES:
            message = self._next(connection, 0.0 if group else _POLL_S)
            if message is None:
                break
            group.append(message)
            size += len(message.payload)
        return group

    def _next(self, connection: Connection, timeout_s: float) -> Message | None:
        if self._waiting:
            return self._waiting.pop(0)
        event = connection.next(timeout_s)
        if isinstance(event, Message):
            return event
        self._note(event)
        return None

    def _note(self, event: Published | Lost | None) -> None:
        if isinstance(event, Lost):
            raise event.error
        if isinstance(event, Published):
            topic = self._topics.pop(event.handle, "")
            if event.reason >= 0x80 and event.reason not in self._refused_topics:
                self._refused_topics.add(event.reason)
                self._say(
                    f"the broker refuses answers: {event.words}, {topic}\n"
                    f"  try: let this organisation write {topics.VERSION}/+/{{receipt,refusal,head}}/"
                    f"{self._issuer.organisation} in the broker's access list"
                )

    # ---- what arrives, and what it is answered with

    def _take(self, connection: Connection, group: list[Message]) -> None:
        """Hand over the batches, answer everything else."""
        submissions: list[tuple[int, Submission]] = []
        others: list[tuple[_Arrived, _Open]] = []
        for message in group:
            opened = _Open(message, answered=False)
            self._unacknowledged.append(opened)
            found = _understand(message)
            if found is None:
                opened.answered = True
            elif isinstance(found.content, Submission):
                self._number += 1
                self._open[self._number] = (found.topic, found.content, opened)
                submissions.append((self._number, found.content))
            else:
                others.append((found, opened))
        if submissions:
            self._ledger.hand_over(submissions)
        for found, opened in others:
            if isinstance(found.content, Hello):
                self._greet(connection, found.topic, found.content)
            elif isinstance(found.content, Refusal):
                self.counters.refused += 1
                self._publish(connection, found.topic.gateway, "refusal", found.content.encode(), found.content.root)
            opened.answered = True

    def _reply(self, connection: Connection) -> None:
        """Send the answers that are there, and acknowledge what is answered, in the order in which it came."""
        for number, outcome in self._ledger.answers():
            asked = self._open.pop(number, None)
            if asked is not None:  # else it came over a connection that is gone, and comes again
                topic, submission, opened = asked
                self._answer(connection, topic, submission, outcome)
                opened.answered = True
        while self._unacknowledged and self._unacknowledged[0].answered:
            connection.acknowledge(self._unacknowledged.popleft().message)
        trouble = self._ledger.trouble
        self._become(f"cannot commit: {trouble}" if trouble else self._serving)

    def _answer(self, connection: Connection, topic: Topic, submission: Submission, outcome: Outcome) -> None:
        batch = submission.batch
        if isinstance(outcome, Receipted):
            self.counters.committed += outcome.new
            self.counters.repeated += not outcome.new
            self.counters.statements += batch.count if outcome.new else 0
            self._publish(connection, topic.gateway, "receipt", outcome.receipt, batch.root)
            return
        self.counters.refused += 1
        if outcome.fork and (place := (outcome.fork.stream, outcome.fork.seq, outcome.fork.other)) not in self._alarmed:
            self._alarmed.add(place)
            sids = f"{outcome.fork.committed.hex()[:16]} is committed, {outcome.fork.other.hex()[:16]} came"
            where = f"stream {batch.stream.hex()}, seq {outcome.fork.seq}"
            self._say(f"ALARM: gateway {topic.gateway} signed two statements for one place: {where}: {sids}")
        refusal = Refusal(
            outcome.reason,
            batch.stream,
            batch.root,
            outcome.seq,
            outcome.sid,
            _short(outcome.words),
            _BUSY_MS if outcome.reason == RefusalReason.BUSY else None,
        )
        self._publish(connection, topic.gateway, "refusal", refusal.encode(), batch.root)

    def _greet(self, connection: Connection, topic: Topic, hello: Hello) -> None:
        """Say where the ledger stands; a stranger, and whoever asks for another's stream, learns nothing."""
        try:
            registered, stream = self._ledger.position(topic.gateway, hello.stream)
        except LedgerProblem as problem:
            if not problem.waiting_helps:
                raise
            busy = Refusal(
                RefusalReason.BUSY, hello.stream, _NO_ROOT, words=_short(str(problem)), retry_after_ms=_BUSY_MS
            )
            self._publish(connection, topic.gateway, "refusal", busy.encode(), hello.nonce)
            return
        if registered is None or registered.revoked:
            words, reason = f"gateway {topic.gateway} is not registered", RefusalReason.UNKNOWN_GATEWAY
        elif stream and stream.gateway != topic.gateway:
            words, reason = f"the stream is not one of gateway {topic.gateway}", RefusalReason.NOT_THIS_GATEWAY
        else:
            head = issue_head(
                self._issuer.key,
                self._issuer.certificates,
                self._issuer.organisation,
                topic.gateway,
                int(self._now_s()),
                hello,
                stream.seq if stream else None,
                stream.head if stream else None,
            )
            self._publish(connection, topic.gateway, "head", head, hello.nonce)
            return
        refusal = Refusal(reason, hello.stream, _NO_ROOT, words=words)
        self._publish(connection, topic.gateway, "refusal", refusal.encode(), hello.nonce)

    def _publish(self, connection: Connection, gateway: str, kind: str, payload: bytes, correlation: bytes) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not connection.room:
            event = connection.next(deadline - time.monotonic())
            if event is None:
                raise BrokerAway(f"{self._endpoint.address} does not acknowledge our answers")
            if isinstance(event, Message):
                self._waiting.append(event)
            else:
                self._note(event)
        topic = topics.answer(gateway, kind, self._issuer.organisation)
        self._topics[connection.publish(topic, payload, correlation, topics.MEDIA_TYPES[kind])] = topic


def _understand(message: Message) -> _Arrived | None:
    """What a message holds; None for one that is not ours, which the broker's access list should have kept away."""
    topic = topics.parse(message.topic)
    if topic is None or topic.organisation:
        return None
    try:
        if topic.kind == "hello":
            return _Arrived(message, topic, Hello.decode(message.payload))
        batch, claims = batches.parse(message.payload)
        return _Arrived(message, topic, Submission(topic.gateway, batch, claims))
    except Malformed as error:
        root = message.correlation if len(message.correlation) == len(_NO_ROOT) else _NO_ROOT
        refusal = Refusal(RefusalReason.MALFORMED, _NO_STREAM, root, words=_short(str(error)))
        return _Arrived(message, topic, refusal)


def _short(words: str) -> str:
    return words.encode()[:_WORDS_BYTES].decode(errors="ignore")
