"""Ingestion on a Fabric network: batches to ``SubmitBatch``, receipts from what the own peer has committed as valid.

:class:`ledger.commit.Intake` for :mod:`ledger.peer`. Decides nothing about what is accepted: the rules do
(:mod:`ledger.rules.measurements`), here before a batch is handed over, and in the contract.

Rules
- A receipt is signed for a batch whose every signature was verified here, once its transaction was seen valid in a
  block of the organisation's own peer; by whom it was submitted does not matter. It is kept, and repeated verbatim.
- The gateway's home organisation submits at once. The others wait for its transaction, and step in one after the
  other when it does not come (docs/adr/0015).
- One batch of a stream is under way at a time, streams go side by side, what has gathered meanwhile goes together.
- A signed envelope is kept before it is sent. While it is not known what became of it, nothing else of its streams is
  submitted; after a crash it is asked about first.
- What is not committed within the patience is answered with "busy". Batches are in the broker or in the gateway, never
  in a queue of ours on disk.
- Where streams stand is known from the blocks alone; what the registry says is asked of the own peer, again whenever a
  block has changed it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography import x509

from ledger.commit import LedgerProblem, Outcome, Receipted, Submission
from ledger.embedded import Issuer
from ledger.fabric.errors import Duplicate, GatewayError, Move, OutcomeUnknown, RefusedByContract
from ledger.fabric.errors import judge as next_move
from ledger.fabric.events import Block, blocks
from ledger.fabric.gateway import Network, Proposal, Transaction
from ledger.fabric.messages import Malformed
from ledger.fabric.once import commit_once
from ledger.fabric.profile import Profile
from ledger.fabric.state import Run, State
from ledger.rules import batches, registry
from ledger.rules.measurements import Gateway, Refused, Stream, Terms, bad_signature, judge
from ledger.rules.record import Record, pack, parse, unpack
from signer import receipt as receipts
from signer.dialogue import RefusalReason
from signer.keys import KeyProblem
from signer.trust import Trust

_WORKERS = 8
# Together in one transaction: as much as one full batch, which takes an endorser some 0.1 s.
_TOGETHER_BYTES = 256 * 1024
_ATTEMPT_S = 5.0
_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds.

    Attributes:
        busy: after so long a batch that is not committed is answered with "busy".
        ahead: so long the own peer may be behind the one that committed what comes before a batch.
        first, each: when another organisation than the gateway's steps in: the next one after ``first``, those after it
            ``each`` later.
    """

    busy: float = 60.0
    ahead: float = 5.0
    first: float = 30.0
    each: float = 10.0


@dataclass(slots=True, eq=False)
class _Work:
    """A batch under way.

    Attributes:
        numbers: of all the messages that brought it.
        due: when it is to be submitted here; None = it was not judged yet, or must be looked at again.
        flying: it is in the queue or in a transaction.
        odd: it overlaps what is committed: the contract says what it is.
    """

    submission: Submission
    arrived: float
    numbers: list[int] = field(default_factory=list)
    verified: bool = False
    due: float | None = None
    flying: bool = False
    odd: bool = False

    @property
    def stream(self) -> bytes:
        return self.submission.batch.stream


@dataclass(slots=True, eq=False)
class _Job:
    """One transaction on its way."""

    works: list[_Work]
    streams: frozenset[bytes]
    kept: Transaction | None = None


class _Superseded(Exception):
    """A kept envelope is known to be invalid, and its batches are not here."""


class _Stopping(Exception):
    """The process ends."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the rules look up, for a batch that continues its stream or begins one."""

    state: State
    entry: Gateway | None

    def gateway(self, gateway: str) -> Gateway | None:
        return self.entry

    def stream(self, stream: bytes) -> Stream | None:
        return self.state.stream(stream)

    def root(self, stream: bytes, first: int) -> bytes | None:
        held = self.state.run(stream, first)
        return held.root if held else None

    def sids(self, stream: bytes, first: int, count: int) -> Sequence[bytes]:
        raise LookupError("places that are taken are the contract's to judge")

    def keys(self, stream: bytes) -> Sequence[bytes]:
        raise LookupError("forks are the contract's to judge")


class FabricIntake:
    """One organisation's way into the channel, and its receipts."""

    def __init__(
        self,
        state: State,
        network: Network,
        profile: Profile,
        issuer: Issuer,
        say: Callable[[str], None] = lambda words: None,
        waits: Waits | None = None,
        now_s: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            network: the channel, as the identity that submits; its gateway is closed with this.
            say: told of forks that are written down, whoever received them.
            clock: seconds, monotonic.
        """
        self._state, self._network, self._issuer = state, network, issuer
        self._contract = network.contract(batches.NAME)
        self._metering = sorted(each.id for each in profile.with_role(registry.METERING))
        self._waits, self._now_s, self._clock = waits or Waits(), now_s, clock
        self._say = say
        self._wake: Callable[[], None] = lambda: None
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._works: dict[bytes, _Work] = {}
        self._again: set[bytes] = set()
        self._queue: list[_Work | _Job] = []
        self._flying: set[bytes] = set()
        self._answered: list[tuple[int, Outcome]] = []
        self._terms: dict[str, tuple[Gateway | None, str, Trust]] = {}
        self._generation = 0
        self._second = 0
        self._asked_at = float("-inf")
        self._fatal: LedgerProblem | None = None
        self._troubles = {"ask": "", "submit": "", "file": ""}
        self._following = blocks(network, state.place())
        self._threads = [threading.Thread(target=self._watch, name="blocks", daemon=True)]
        self._threads += [threading.Thread(target=self._work, name=f"submit-{n}", daemon=True) for n in range(_WORKERS)]

    def start(self) -> None:
        """Follow the blocks, and ask what became of the envelopes that are kept.

        Raises:
            LedgerProblem: an envelope cannot be read.
        """
        for envelope, streams in self._state.envelopes():
            try:
                kept = self._network.transaction(envelope)
            except Malformed as error:
                raise LedgerProblem(f"{self._state.path}: a kept envelope: {error}") from error
            self._flying |= streams
            self._queue.append(_Job([], streams, kept))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End; what is under way comes again from the broker."""
        self._stop.set()
        with self._lock:
            self._ready.notify_all()
        self._following.close()
        self._network.gateway.close()
        for thread in self._threads:
            thread.join(10.0)
        self._state.close()

    # ---- the port

    @property
    def trouble(self) -> str:
        """As :class:`ledger.commit.Intake`."""
        return next(filter(None, self._troubles.values()), "")

    def when_ready(self, wake: Callable[[], None]) -> None:
        """As :class:`ledger.commit.Intake`."""
        self._wake = wake

    def hand_over(self, group: Sequence[tuple[int, Submission]]) -> None:
        """As :class:`ledger.commit.Intake`."""
        with self._lock:
            for number, submission in group:
                # By all its bytes: with other signatures the root is the same.
                name = sha256(submission.gateway.encode() + b"/" + submission.batch.data).digest()
                work = self._works.get(name)
                if work is None:
                    work = self._works[name] = _Work(submission, self._clock())
                if not work.numbers:
                    work.arrived = self._clock()  # it was answered with "busy", and comes again
                work.numbers.append(number)
                self._again.add(work.stream)

    def answers(self) -> list[tuple[int, Outcome]]:
        """As :class:`ledger.commit.Intake`."""
        if self._fatal is not None:
            raise self._fatal
        self._look()
        with self._lock:
            found, self._answered = self._answered, []
        return found

    def position(self, gateway: str, stream: bytes) -> tuple[Gateway | None, Stream | None]:
        """As :class:`ledger.commit.Intake`; where the own peer stands."""
        return self._ask(gateway)[0], self._state.stream(stream)

    # ---- a batch is judged, and finds its way

    def _look(self) -> None:
        """Look at what has come, what a block has changed, and whose time has come."""
        now = self._clock()
        with self._lock:
            again, self._again = self._again, set()
            works = list(self._works.values())
        for work in works:
            if work.stream in again or (work.due is None and not work.flying):
                self._judge(work, now)
        with self._lock:
            for name, work in list(self._works.items()):
                if now - work.arrived > self._waits.busy and work.numbers:
                    words = self.trouble or "it is not committed yet"
                    self._tell(work, Refused(RefusalReason.BUSY, words))
                    if not work.flying:
                        del self._works[name]
                elif work.due is not None and work.due <= now and not work.flying and work.stream not in self._flying:
                    work.flying = True
                    self._flying.add(work.stream)
                    self._queue.append(work)
            self._ready.notify_all()

    def _judge(self, work: _Work, now: float) -> None:
        """What is to become of a batch, as far as it is known now."""
        batch, gateway = work.submission.batch, work.submission.gateway
        work.odd = False
        with self._lock:  # no block is taken in meanwhile
            if work.flying or work.submission.claims[0].gateway != gateway:
                if not work.flying:
                    words = f"statements of gateway {work.submission.claims[0].gateway} in a batch of gateway {gateway}"
                    self._finish(work, Refused(RefusalReason.NOT_THIS_GATEWAY, words))
                return
            held = self._state.run(batch.stream, batch.first)
            if held is not None and held.root == batch.root:
                self._committed(work)
                return
            stream = self._state.stream(batch.stream)
        due = stream.seq + 1 if stream else 0
        if work.verified and batch.first == due and (stream is None or batch.prev == stream.head):
            return  # nothing has changed for it
        if batch.first > due and now - work.arrived < self._waits.ahead:
            return  # what comes before it may be on its way here
        try:
            entry, owner, trust = self._ask(gateway)
        except LedgerProblem:
            return
        order = [owner, *(name for name in self._metering if name != owner)]
        place = order.index(self._issuer.organisation) if self._issuer.organisation in order else len(order)
        wait_s = 0.0 if place == 0 else self._waits.first + self._waits.each * (place - 1)
        if stream is not None and (batch.first <= stream.seq or (batch.first == due and batch.prev != stream.head)):
            work.odd, work.due = True, now
            return
        terms = Terms(trust, int(self._now_s() * 1000))
        said = judge(_Seen(self._state, entry), terms, gateway, batch, work.submission.claims)
        with self._lock:
            if isinstance(said, Refused):
                self._finish(work, said)
            elif self._state.stream(batch.stream) == stream:  # else a block came in between: once more
                work.verified, work.due = True, work.arrived + wait_s
            else:
                self._again.add(work.stream)

    def _committed(self, work: _Work) -> None:
        """The own peer has it. The lock is held."""
        batch = work.submission.batch
        held = self._state.run(batch.stream, batch.first)
        assert held is not None
        if held.receipt is not None:
            self._finish(work, Receipted(held.receipt, new=False))
            return
        if not work.verified:
            bad = bad_signature(self._state.key(batch.stream, batch.first), work.submission.claims)
            if bad is not None:
                stream = self._state.stream(batch.stream)
                place = (stream.seq, stream.head) if stream else (None, None)
                words = f"the signature of statement {bad} is not the gateway's"
                self._finish(work, Refused(RefusalReason.BAD_SIGNATURE, words, *place))
                return
        receipt = self._sign(work, held.block, held.transaction)
        self._state.say({(batch.stream, batch.first): receipt})
        self._finish(work, Receipted(receipt, new=True))

    def _sign(self, work: _Work, block: int, transaction: bytes) -> bytes:
        return receipts.issue(
            self._issuer.key,
            self._issuer.certificates,
            self._issuer.organisation,
            work.submission.gateway,
            int(self._now_s()),
            work.submission.batch,
            self._network.name,
            block,
            transaction,
        )

    def _tell(self, work: _Work, outcome: Outcome) -> None:
        """Answer all messages that brought it. The lock is held."""
        self._answered += ((number, outcome) for number in work.numbers)
        work.numbers.clear()
        self._wake()

    def _finish(self, work: _Work, outcome: Outcome) -> None:
        with self._lock:
            self._tell(work, outcome)
            for name, each in list(self._works.items()):
                if each is work:
                    del self._works[name]

    def _ask(self, gateway: str) -> tuple[Gateway | None, str, Trust]:
        """What the registry says, at the own peer: the gateway, its owner, the roots.

        Raises:
            LedgerProblem: the peer does not answer.
        """
        found, generation = self._terms.get(gateway), self._generation
        if found is not None:
            return found
        if self._troubles["ask"] and self._clock() - self._asked_at < _RETRY_S:
            raise LedgerProblem(self._troubles["ask"], waiting_helps=True)
        try:
            said = unpack(self._contract.evaluate("Terms", pack({"gateway": gateway})))
        except (GatewayError, KeyProblem) as error:
            self._asked_at, self._troubles["ask"] = self._clock(), _words(error)
            raise LedgerProblem(_words(error), waiting_helps=True) from error
        self._troubles["ask"] = ""
        roots = (x509.load_der_x509_certificate(bytes.fromhex(root)) for root in said["authorities"])
        entry: Record | None = said["gateway"]
        made = None
        if entry is not None:
            root, certificate = (bytes.fromhex(entry[pin]) if entry[pin] else None for pin in ("root", "certificate"))
            made = Gateway(gateway, root, certificate, entry["revoked"])
        found = made, entry["owner"] if entry else "", Trust(gateways=tuple(roots))
        with self._lock:
            if generation == self._generation:
                self._terms[gateway] = found
        return found

    # ---- the own peer's blocks

    def _watch(self) -> None:
        whole = False
        try:
            for block in self._following:
                self._see(block)
            whole = True
        except (GatewayError, KeyProblem) as error:
            self._end(LedgerProblem(f"the own peer's blocks: {_words(error)}"))
        except LedgerProblem as problem:
            self._end(problem)
        finally:  # a bug ends the process, not this thread alone
            if not whole:
                self._end(LedgerProblem("the own peer's blocks are not followed any more"))

    def _end(self, problem: LedgerProblem) -> None:
        if not self._stop.is_set():
            self._fatal = self._fatal or problem
            self._wake()

    def _see(self, block: Block) -> None:
        runs: list[Run] = []
        forks: list[Record] = []
        ended: list[str] = []
        changed = False
        for transaction in block.transactions:
            content = transaction.content
            if content is None:
                continue
            ended.append(content.tx_id)
            if transaction.code != "VALID":
                continue
            changed = changed or content.contract == registry.NAME
            if content.contract == batches.NAME and content.event and content.event[0] == batches.EVENT:
                told = unpack(content.event[1])
                runs += [_run(item, block.number, bytes.fromhex(content.tx_id)) for item in told["committed"]]
                forks += told["forks"]
                changed = changed or any(run.keys for run in runs)
        with self._lock:
            made: dict[tuple[bytes, int], bytes] = {}
            done: list[tuple[_Work, bytes]] = []
            by_place = {(run.stream, run.first): run for run in runs}
            for work in self._works.values():
                batch = work.submission.batch
                place = (batch.stream, batch.first)
                run = by_place.get(place)
                if run is not None and run.root == batch.root and work.verified:
                    if place not in made:
                        made[place] = self._sign(work, run.block, run.transaction)
                    done.append((work, made[place]))
            self._state.seen(block.checkpoint, runs, ended, made)
            for work, receipt in done:
                self._finish(work, Receipted(receipt, new=True))
            self._again |= {run.stream for run in runs}
            if changed:
                self._generation += 1
                self._terms.clear()
        for fork in forks:
            sids = f"{fork['committed'][:16]} is committed, {fork['other'][:16]} came"
            self._say(f"ALARM: two statements for one place: stream {fork['stream']}, seq {fork['seq']}: {sids}")
        if runs:
            self._troubles["submit"] = ""
            self._wake()

    # ---- transactions

    def _work(self) -> None:
        whole = False
        try:
            while (job := self._next()) is not None:
                try:
                    self._do(job)
                except LedgerProblem as problem:
                    if not problem.waiting_helps:
                        raise
                    self._troubles["file"] = str(problem)
                    self._put_back(job)
            whole = True
        except _Stopping:
            whole = True
        except LedgerProblem as problem:
            self._end(problem)
        finally:
            if not whole:
                self._end(LedgerProblem("nothing is submitted any more"))

    def _next(self) -> _Job | None:
        """An envelope to ask about, or what has gathered; None: the end."""
        with self._ready:
            while not self._queue and not self._stop.is_set():
                self._ready.wait()
            if self._stop.is_set():
                return None
            first = self._queue.pop(0)
            if isinstance(first, _Job):
                return first
            works, size = [first], len(first.submission.batch.data)
            gateways = {first.submission.gateway}
            for other in list(self._queue) if not first.odd else ():
                if isinstance(other, _Job) or other.odd or other.submission.gateway in gateways:
                    continue
                size += len(other.submission.batch.data)
                if size > _TOGETHER_BYTES or len(works) == batches.MAX_TOGETHER:
                    break
                self._queue.remove(other)
                works.append(other)
                gateways.add(other.submission.gateway)
            return _Job(works, frozenset(work.stream for work in works))

    def _do(self, job: _Job) -> None:
        arguments, secret = _call(job.works)
        if job.works and job.works[0].odd and self._dry(job, arguments, secret):
            return

        tried = False

        def propose() -> Proposal:
            nonlocal tried
            if not job.works:
                raise _Superseded
            self._second += tried  # the other endorser did not answer: another one
            tried = True
            return self._contract.new_proposal(
                "SubmitBatch", arguments, transient=secret, organisations=self._endorsers()
            )

        def keep(envelope: bytes) -> None:
            kept = self._network.transaction(envelope)
            self._state.keep(kept.tx_id, envelope, sorted(job.streams))
            job.kept = kept

        try:
            done = commit_once(propose, keep, kept=job.kept, patience_s=_ATTEMPT_S, pause=self._pause)
        except _Superseded:
            self._land(job)
            return
        except RefusedByContract as refused:
            self._failed(job, refused)
            self._land(job, Refused(RefusalReason.BUSY, f"{refused.reason}: {refused.words}"))
            return
        except (GatewayError, KeyProblem) as error:
            self._failed(job, error)
            unknown = isinstance(error, (OutcomeUnknown, Duplicate, KeyProblem)) and job.kept is not None
            if not unknown and isinstance(error, GatewayError) and next_move(error) is Move.GIVE_UP:
                self._land(job, Refused(RefusalReason.BUSY, _words(error)))
            elif unknown:
                self._put_back(job)  # until it is known what became of it
            else:
                self._land(job, retry=True)
            return
        self._troubles["submit"] = self._troubles["file"] = ""
        answers = parse(done.result) if job.works else []
        for work, said in zip(job.works, answers if isinstance(answers, list) else [answers], strict=False):
            if said["outcome"] == "refused":
                self._finish(work, _refused(said))
        self._land(job)

    def _endorsers(self) -> tuple[str, ...]:
        """The own organisation and one other of those that meter, by name.

        Left to the Gateway, it would be whoever satisfies the registry's policy too, which is only read: all three.
        """
        own = self._issuer.organisation
        others = [name for name in self._metering if name != own]
        return (own, others[self._second % len(others)]) if others else (own,)

    def _dry(self, job: _Job, arguments: bytes, secret: dict[str, bytes]) -> bool:
        """Ask the own peer what an odd batch is; True = that was all, False = it is to be submitted."""
        (work,) = job.works
        try:
            said = unpack(self._contract.evaluate("SubmitBatch", arguments, transient=secret))
        except (GatewayError, KeyProblem) as error:
            self._failed(job, error)
            self._land(job, retry=True)
            return True
        if said["outcome"] != "refused":  # the own peer is further than the blocks that were seen
            self._land(job, retry=True)
            return True
        if said["reason"] == RefusalReason.FORK:
            try:
                owner = self._ask(work.submission.gateway)[1]
            except LedgerProblem:
                owner = ""
            if owner == self._issuer.organisation:
                return False  # to be written down
        self._finish(work, _refused(said))
        self._land(job)
        return True

    def _failed(self, job: _Job, error: Exception) -> None:
        if self._stop.is_set():
            raise _Stopping
        self._troubles["submit"] = _words(error)

    def _land(self, job: _Job, outcome: Outcome | None = None, retry: bool = False) -> None:
        """A transaction is over; ``outcome``: of all its batches; ``retry``: they are looked at again in a while."""
        if retry:
            self._pause(_RETRY_S)
        with self._lock:
            self._flying -= job.streams
            for work in job.works:
                work.flying = False
                if outcome is not None:
                    self._finish(work, outcome)
                elif not retry:
                    # It is committed, and its block will come; if it is known to be another's, that block will.
                    work.due = self._clock() + self._waits.first
                self._again.add(work.stream)
            if job.kept is not None and (outcome is not None or retry):
                self._state.drop(job.kept.tx_id)
        self._wake()

    def _put_back(self, job: _Job) -> None:
        self._pause(_RETRY_S)
        with self._ready:
            self._queue.append(job)
            self._ready.notify()

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopping


def _call(works: Sequence[_Work]) -> tuple[bytes, dict[str, bytes]]:
    """Arguments and secret of ``SubmitBatch``."""
    if len(works) == 1:
        submission = works[0].submission
        return pack({"gateway": submission.gateway}), {"batch": submission.batch.data}
    arguments = pack({"gateways": [work.submission.gateway for work in works]})
    return arguments, {f"batch-{place}": work.submission.batch.data for place, work in enumerate(works)}


def _run(item: Record, block: int, transaction: bytes) -> Run:
    stream, root, head = (bytes.fromhex(item[name]) for name in ("stream", "root", "head"))
    keys = tuple((first, bytes.fromhex(spki)) for first, spki in item["keys"])
    return Run(stream, item["first"], item["count"], root, head, item["gateway"], block, transaction, keys)


def _refused(said: Any) -> Refused:
    sid = bytes.fromhex(said["sid"]) if said["sid"] else None
    return Refused(RefusalReason(said["reason"]), said["words"], said["seq"], sid)


def _words(error: Exception) -> str:
    """For people: what each peer or orderer said, without gRPC's own wrapping."""
    if isinstance(error, GatewayError) and error.details:
        return "; ".join(dict.fromkeys(f"{each.msp_id}: {each.message}" for each in error.details))[:400]
    if isinstance(error, GatewayError):  # the same words for every transaction: a state is said once
        return str(error).replace(f" of {error.tx_id[:8]}:", ":")[:400]
    return str(error)[:400]
