"""Contract ``measurements``: batches are committed, found again by stream and by time, and purged.

Judges nothing by itself: :func:`ledger.rules.measurements.judge` does. Statements are kept where only organisations
with the role ``metering`` are; everybody sees that a run of a stream was committed, its ends and its root.

Keys, public
    stream/STREAM                       where a stream stands, its keys
    of/GATEWAY/STREAM                   a gateway's streams
    batch/STREAM/FIRST                  one committed run
    fork/STREAM/SEQ/SID                 that somebody signed two statements for one place
    pin/GATEWAY                         the certificate after a rekey, where the registry had pinned one
    purged/STREAM/FIRST                 whose request took the statements away, and when
    purged/STREAM/FIRST/SUB             the same of one measuring point's

Keys, private: in ``readings``, which may end on its own (block to live) and is purged on request
    batch/STREAM/FIRST                  the batch, verbatim
    left/STREAM/FIRST/NUMBER            what so many purges of a measuring point have left of it
    day/GATEWAY/DAY/STREAM/FIRST        batches with a statement of that day (UTC)
    hour/GATEWAY/SUB/HOUR               boundaries of settlement periods, and exchanged meters, of an hour (UTC)
    rest/GATEWAY/SUB/HOUR               the same, where a purge has left a part; and back under ``hour`` after another
and in ``evidence``, which stays
    sids/STREAM/FIRST                   the sids of a run: what is a fork can be told after a purge
    fork/STREAM/SEQ/SID                 the signed statement that makes it one

Rules
- A refusal is an answer, with the place where the ledger stands: a fork is written down, all others change nothing.
- What settlement asks for is read key by key: a peer of Fabric that has scanned private data lets the transaction
  write nothing.
- One run of a stream at a time: its record is read and written, so of two at once one is a conflict.
- After a purge a statement's sid, its place in the chain and the root stay; its values and its salt are gone. What a
  purge leaves goes under another key: a value that is replaced stays in the history of a Fabric peer's private data.
- Values that could be guessed from their digest lie beside a salt (:mod:`ledger.rules.salt`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any

from cryptography import x509

from ledger.rules import boundaries, registry, salt
from ledger.rules.measurements import Accepted, Exists, Fork, Gateway, Refused, Stream, Terms, judge
from ledger.rules.record import NoRecord, Record, pack, parse, unpack
from ledger.rules.world import (
    Call,
    Contract,
    Declined,
    Function,
    Private,
    Reason,
    State,
    integer,
    key,
    named,
    octets,
    only,
    ordered,
    text,
    under,
)
from signer import batch as batches
from signer import statement
from signer.batch import Batch
from signer.codes import Kind
from signer.errors import Malformed
from signer.grammar import OF_THE_GATEWAY, SUB
from signer.statement import Claims
from signer.trust import Trust

NAME = "measurements"
READINGS, EVIDENCE = "readings", "evidence"

INGESTION = "ingestion"
"""Role of the process that hands over an organisation's batches."""

READERS = (INGESTION, "auditor", "settler")
"""Roles that may read statements, in organisations with the role ``metering``."""

MEMBER = "aigeco.member"
"""Attribute of a community member's certificate: the pseudonym that the registry knows as owner of meters."""

ERASER = "eraser"
"""Role of who may purge, in the gateway's home organisation or a manager's."""

EVENT = "batches"
"""What a transaction tells that commits batches or writes down forks."""

MAX_TOGETHER = 256
"""Batches in one transaction: small ones of many gateways."""

_SID_BYTES = 32
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_MAX_PAGE = 1000
_MAX_POINTS = 10_000
_MAX_HOURS = 50_000  # of all points of one question: 15 MB of registers at quarter hours
_MAX_FORKS = 1000  # of a stream; who forks on purpose must not fill everybody's disk


@dataclass(frozen=True, slots=True)
class _Committed:
    """What the rules look up (:class:`ledger.rules.measurements.Committed`), read from the state."""

    state: State

    def gateway(self, gateway: str) -> Gateway | None:
        try:
            entry = unpack(self.state.ask(registry.NAME, "Gateway", pack({"gateway": gateway})))
        except Declined as declined:
            if declined.reason is Reason.UNKNOWN:
                return None
            raise
        return gateway_of(entry, _get(self.state, "pin", gateway))

    def stream(self, stream: bytes) -> Stream | None:
        found = _get(self.state, "stream", stream.hex())
        return None if found is None else stream_of(found)

    def root(self, stream: bytes, first: int) -> bytes | None:
        found = _get(self.state, "batch", stream.hex(), ordered(first))
        return bytes.fromhex(found["root"]) if found else None

    def sids(self, stream: bytes, first: int, count: int) -> Sequence[bytes]:
        found: list[bytes] = []
        for start, sids in _runs(self.state, EVIDENCE, "sids", stream, first, first + count):
            places = range(max(first - start, 0), len(sids) // _SID_BYTES)
            found += [sids[_SID_BYTES * place : _SID_BYTES * (place + 1)] for place in places]
        return found[:count]

    def keys(self, stream: bytes) -> Sequence[bytes]:
        found = _get(self.state, "stream", stream.hex())
        return [bytes.fromhex(spki) for spki in found["keys"]] if found else []


def gateway_of(entry: Record, renewed: Record | None) -> Gateway:
    """A gateway out of the registry's entry, and of the certificate that it renewed under that entry, if it did."""
    root, certificate = (bytes.fromhex(entry[pin]) if entry[pin] else None for pin in ("root", "certificate"))
    if renewed is not None and renewed["since_ms"] == entry["since_ms"]:
        certificate = bytes.fromhex(renewed["certificate"])
    return Gateway(entry["gateway"], root, certificate, entry["state"] == registry.REVOKED)


def stream_of(record: Record) -> Stream:
    """Where a stream stands, out of its record."""
    stream, head, spki = (bytes.fromhex(record[name]) for name in ("stream", "head", "key"))
    recovers = bytes.fromhex(record["recovers"]) if record["recovers"] else None
    return Stream(stream, record["gateway"], record["seq"], head, spki, recovers)


# ---- what is written


def _submit(every: bool, state: State, call: Call) -> bytes:
    """Commit the batch in the secret's ``batch``, published by ``gateway``; or several, see :func:`_submit_several`.

    Answers: ``outcome`` (``committed``, ``exists``, ``refused``), with ``batch``, the public record, or ``reason``,
    ``words``, ``seq`` and ``sid`` as a refusal on MQTT has them.
    """
    _may_submit(state, call)
    if "gateways" in call.record():
        return _submit_several(every, state, call)
    batch, claims = _parse(call, "batch")
    return _submit_one(every, state, call, batch, claims)


def _submit_several(every: bool, state: State, call: Call) -> bytes:
    """Commit the batches ``batch-0``, ``batch-1`` ... of the secret, published by ``gateways`` in this order.

    Each is judged and answered on its own, as a list. Gateways are different ones: what is read is as of before this
    call, and two batches of a gateway may write to the same place.
    """
    given = call.record()
    only(given, "gateways")
    gateways = given["gateways"]
    if not isinstance(gateways, list) or not 0 < len(gateways) <= MAX_TOGETHER:
        raise Declined(Reason.MALFORMED, f"gateways: a list of 1 to {MAX_TOGETHER} is needed")
    names = [named({"gateway": gateway}, "gateway") for gateway in gateways]
    if len(frozenset(names)) != len(names):
        raise Declined(Reason.MALFORMED, "gateways: one is there twice")
    taken = [_commit(every, state, call, name, *_parse(call, f"batch-{place}")) for place, name in enumerate(names)]
    _tell(state, taken)
    return pack([each.answer for each in taken])


def parsed(batch: Batch, claims: Sequence[Claims]) -> Function:
    """``SubmitBatch`` with every signature checked, for who has read the batch already and need not do it twice."""

    def submit(state: State, call: Call) -> bytes:
        _may_submit(state, call)
        return _submit_one(True, state, call, batch, claims)

    return submit


def _parse(call: Call, name: str) -> tuple[Batch, tuple[Claims, ...]]:
    try:
        return batches.parse(call.hidden_bytes(name))
    except Malformed as error:
        raise Declined(Reason.MALFORMED, str(error)) from error


def _may_submit(state: State, call: Call) -> None:
    call.caller.need(INGESTION)
    _metering(state, call)


def _submit_one(every: bool, state: State, call: Call, batch: Batch, claims: Sequence[Claims]) -> bytes:
    given = call.record()
    only(given, "gateway")
    taken = _commit(every, state, call, named(given, "gateway"), batch, claims)
    _tell(state, [taken])
    return pack(taken.answer)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A batch that was judged, and what it has changed.

    Attributes:
        committed, fork: for the event of the transaction; None: nothing of it is new.
    """

    answer: Record
    committed: Record | None = None
    fork: Record | None = None


def _commit(every: bool, state: State, call: Call, gateway: str, batch: Batch, claims: Sequence[Claims]) -> _Taken:
    terms = Terms(_trust(state, batch, claims), call.time_ms, every)
    said = judge(_Committed(state), terms, gateway, batch, claims)
    if isinstance(said, Exists):
        record = _get(state, "batch", batch.stream.hex(), ordered(batch.first))
        return _Taken({"outcome": "exists", "batch": record})
    if isinstance(said, Refused):
        fork = None if said.fork is None else write_fork(state, call, said.fork, batch.root)
        place = {"seq": said.seq, "sid": said.sid.hex() if said.sid else None}
        answer = {"outcome": "refused", "reason": int(said.reason), "words": said.words, **place}
        return _Taken(answer, fork=fork)
    record = write(state, call, batch, claims, said)
    return _Taken({"outcome": "committed", "batch": record}, _news(batch, said))


def _tell(state: State, taken: Sequence[_Taken]) -> None:
    """One event for all that a transaction has changed: whoever follows the blocks knows where every stream stands."""
    committed = [each.committed for each in taken if each.committed is not None]
    forks = [each.fork for each in taken if each.fork is not None]
    if committed or forks:
        state.tell(EVENT, pack({"committed": committed, "forks": forks}))


def _news(batch: Batch, accepted: Accepted) -> Record:
    """A committed batch in the event; ``keys``: from which seq on a key is the stream's, where it begins here."""
    line = accepted.stream
    keys: list[list[object]] = [] if batch.first else [[0, accepted.key.hex()]]
    if line.key != accepted.key:
        keys.append([line.seq + 1, line.key.hex()])
    run = {"stream": line.stream.hex(), "first": batch.first, "count": batch.count, "root": batch.root.hex()}
    return {**run, "head": batch.head.hex(), "gateway": line.gateway, "keys": keys}


def write(state: State, call: Call, batch: Batch, claims: Sequence[Claims], accepted: Accepted) -> Record:
    """Write a batch that was judged; returns its public record."""
    stream, first = batch.stream.hex(), ordered(batch.first)
    line, gateway = accepted.stream, accepted.stream.gateway
    before = _get(state, "stream", stream)
    if before is None:
        state.put(key("of", gateway, stream), b"1")
    keys = dict.fromkeys((*(before["keys"] if before else ()), accepted.key.hex()))
    stands = {
        "stream": stream,
        "gateway": gateway,
        "seq": line.seq,
        "head": line.head.hex(),
        "key": line.key.hex(),
        "keys": list(keys),
        "recovers": line.recovers.hex() if line.recovers else None,
    }
    state.put(key("stream", stream), pack(stands))
    if accepted.gateway is not None and accepted.gateway.certificate is not None:
        entry = unpack(state.ask(registry.NAME, "Gateway", pack({"gateway": gateway})))
        renewed = {"certificate": accepted.gateway.certificate.hex(), "since_ms": entry["since_ms"]}
        state.put(key("pin", gateway), pack(renewed))
    record = {
        "stream": stream,
        "first": batch.first,
        "count": batch.count,
        "prev": batch.prev.hex(),
        "head": batch.head.hex(),
        "root": batch.root.hex(),
        "key_id": claims[0].key_id.hex(),
        "gateway": gateway,
        "submitter": call.caller.organisation,
        "time_ms": call.time_ms,
        "transaction": call.transaction,
    }
    state.put(key("batch", stream, first), pack(record))
    state.private(EVIDENCE).put(key("sids", stream, first), b"".join(claim.sid for claim in claims))
    readings = state.private(READINGS)
    readings.put(key("batch", stream, first), batch.data)
    for name in _days_of(record, claims):
        readings.put(name, b"1")
    hours = _hours_of(gateway, claims)
    for (name, hour), (place, held) in zip(hours.items(), _held_hours(readings, list(hours)), strict=True):
        readings.put(place or name, pack(_merged(held, hour)))
    return record


def _days_of(run: Record, claims: Sequence[Claims]) -> list[str]:
    """The private keys by which a run's statements are found."""
    days = sorted(frozenset(claim.instant.utc_ms // _DAY_MS for claim in claims))
    return [key("day", run["gateway"], ordered(day), run["stream"], ordered(run["first"])) for day in days]


def _hours_of(gateway: str, claims: Sequence[Claims]) -> dict[str, Record]:
    """What settlement computes with, by the private keys that it is found under."""
    hours: dict[str, Record] = {}
    for claim in claims:
        found = boundaries.boundary(claim) or boundaries.change(claim)
        if found is not None:
            name = key("hour", gateway, claim.sub, ordered(found.at_ms // _HOUR_MS))
            what = "at" if isinstance(found, boundaries.Boundary) else "change"
            hour = hours.setdefault(name, {"at": [], "change": [], "salt": ""})
            hour[what].append(found.pack())
            hour["salt"] = salt.derived(name, hour["salt"], claim.salt.hex())
    return hours


def _merged(held: bytes | None, more: Record) -> Record:
    """An hour with what is new in it, by time, stream and seq."""
    if held is None:
        return {**more, **{what: sorted(more[what], key=_place) for what in _ITEMS}}
    before = unpack(held)
    merged: Record = {what: sorted([*before[what], *more[what]], key=_place) for what in _ITEMS}
    return merged | {"salt": salt.derived("", before.get("salt", ""), more["salt"])}


_ITEMS = ("at", "change")


def _place(item: list[Any]) -> list[Any]:
    return item[:3]


def write_fork(state: State, call: Call, fork: Fork, root: bytes) -> Record | None:
    """Write down a fork that the batch of this root has brought; what is new of it, if anything."""
    stream, place = fork.stream.hex(), key("fork", fork.stream.hex(), ordered(fork.seq), fork.other.hex())
    known = sum(1 for _ in state.scan(*under("fork", stream)))
    if state.get(place) is not None or known >= _MAX_FORKS:
        return None
    sides = {"stream": stream, "seq": fork.seq, "committed": fork.committed.hex(), "other": fork.other.hex()}
    seen = {"root": root.hex(), "time_ms": call.time_ms, "submitter": call.caller.organisation}
    state.put(place, pack({**sides, **seen}))
    state.private(EVIDENCE).put(place, fork.statement)
    return sides


def _purge(state: State, call: Call) -> bytes:
    """Take away the statements of the run that begins at ``first``, of one measuring point with ``sub``.

    A second time it changes nothing.
    """
    call.caller.need(ERASER)
    given = call.record()
    only(given, "stream", "first", "sub", "why")
    run = _run(state, given)
    _home(state, call, run["gateway"])
    sub = None if given.get("sub") is None else _measuring_point(given)
    stream, first = run["stream"], ordered(run["first"])
    places = [("purged", stream, first)] + ([] if sub is None else [("purged", stream, first, sub)])
    for place in places:
        done = _get(state, *place)
        if done is not None:
            return pack(done)
    there = _content(state, run)
    if there is None:
        raise Declined(Reason.UNKNOWN, f"the statements of stream {stream} from seq {run['first']} are not here")
    gone = [claim for claim in there if sub in (None, claim.sub)]
    if not gone:
        raise Declined(Reason.UNKNOWN, f"stream {stream} from seq {run['first']} on says nothing of {sub}")
    _forget(state, run, gone, [claim for claim in there if sub not in (None, claim.sub)])
    why = text(given, "why")[:100]
    done = {"stream": stream, "first": run["first"], "count": run["count"], "why": why, "time_ms": call.time_ms}
    done |= call.by | ({} if sub is None else {"sub": sub})
    state.put(key(*places[-1]), pack(done))
    return pack(done)


def _forget(state: State, run: Record, gone: Sequence[Claims], left: Sequence[Claims]) -> None:
    """Take statements out of everything that is made from them."""
    readings, times = state.private(READINGS), _times_purged(state, run)
    before = key("left", run["stream"], ordered(run["first"]), str(times)) if times else _batch_key(run)
    readings.purge(before)
    if left:
        packed = pack([[claim.seq, claim.data.hex()] for claim in left])
        readings.put(key("left", run["stream"], ordered(run["first"]), str(times + 1)), packed)
    for name in sorted({*_days_of(run, gone)} - {*_days_of(run, left)}):
        readings.purge(name)
    hours = list(_hours_of(run["gateway"], gone))
    for name, (place, held) in zip(hours, _held_hours(readings, hours), strict=True):
        if held is not None:
            _forget_hour(readings, name, place, unpack(held), run)
    _forget_forks(state, run, None if not left else frozenset(claim.sub for claim in gone))


def _forget_hour(readings: Private, name: str, place: str, held: Record, run: Record) -> None:
    """Take a run's part out of an hour; what others have in it goes to the other of its two keys."""
    places = range(run["first"], run["first"] + run["count"])
    left: Record = {
        what: [item for item in held[what] if item[1] != run["stream"] or item[2] not in places] for what in _ITEMS
    }
    readings.purge(place)
    if any(left.values()):
        # Another salt: with the former one the digest of what was there before would tell what is gone.
        left["salt"] = salt.derived("", held.get("salt", ""))
        readings.put(_rest_of(name) if place == name else name, pack(left))


def _forget_forks(state: State, run: Record, subs: frozenset[str] | None) -> None:
    """Take away the statements that made forks of these places, of all measuring points or of some."""
    places, evidence = range(run["first"], run["first"] + run["count"]), state.private(EVIDENCE)
    for name, value in state.scan(*under("fork", run["stream"])):
        said = evidence.get(name) if unpack(value)["seq"] in places else None
        if said is not None and (subs is None or statement.parse(said).sub in subs):
            evidence.purge(name)


def _times_purged(state: State, run: Record) -> int:
    """How many measuring points have been taken out of a run."""
    return sum(1 for _ in state.scan(*under("purged", run["stream"], ordered(run["first"]))))


def _batch_key(run: Record) -> str:
    return key("batch", run["stream"], ordered(run["first"]))


def _rest_of(name: str) -> str:
    return key("rest", *name.split("/")[1:])


def _held_hours(readings: Private, names: Sequence[str]) -> list[tuple[str, bytes | None]]:
    """Of each hour the key that holds it, and its value."""
    places = [*names, *(_rest_of(name) for name in names)]
    values = readings.get_many(places)
    pairs = zip(places, values, places[len(names) :], values[len(names) :], strict=False)
    return [(rest, other) if other is not None else (name, value) for name, value, rest, other in pairs]


def _content(state: State, run: Record) -> Sequence[Claims] | None:
    """What is here of a run's statements; None = nothing."""
    readings = state.private(READINGS)
    data = readings.get(_batch_key(run))
    if data is not None:
        return batches.parse(data)[1]
    times = _times_purged(state, run)
    left = readings.get(key("left", run["stream"], ordered(run["first"]), str(times))) if times else None
    return None if left is None else [statement.parse(bytes.fromhex(said)) for _, said in parse(left)]


# ---- what is asked, in public


def _stream(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "stream")
    return pack(_known(state, "stream", octets(given, "stream", 16).hex()))


def _streams(state: State, call: Call) -> bytes:
    """Ids of a gateway's streams."""
    given = call.record()
    only(given, "gateway")
    start, end = under("of", named(given, "gateway"))
    return pack([name.rsplit("/", 1)[1] for name, _ in state.scan(start, end)])


def _terms(state: State, call: Call) -> bytes:
    """What the batches of ``gateway`` are judged by: its entry as the rules see it, its owner, the roots of gateways.

    For organisations' own peers, which check a batch before they hand it over or sign for it.
    """
    given = call.record()
    only(given, "gateway")
    name = named(given, "gateway")
    found = _Committed(state).gateway(name)
    entry: Record | None = None
    if found is not None:
        pins = {"root": found.root.hex() if found.root else None}
        pins |= {"certificate": found.certificate.hex() if found.certificate else None}
        owner = unpack(state.ask(registry.NAME, "Gateway", pack({"gateway": name})))["owner"]
        entry = {"gateway": name, "owner": owner, "revoked": found.revoked, **pins}
    return pack({"gateway": entry, "authorities": _authorities(state)})


def _batches(state: State, call: Call) -> bytes:
    """Public records of a stream's runs from ``from_seq`` on, a page."""
    given = call.record()
    only(given, "stream", "from_seq", "limit")
    stream = octets(given, "stream", 16).hex()
    start = key("batch", stream, ordered(integer({"from_seq": 0, **given}, "from_seq", 0, (1 << 64) - 1)))
    return pack([parse(value) for _, value in _page(given, state.scan(start, under("batch", stream)[1]))])


def _receipt(state: State, call: Call) -> bytes:
    """What is committed of a run, with the caller's nonce: an endorsed read of it proves commitment to everybody."""
    given = call.record()
    only(given, "stream", "first", "nonce")
    return pack({"batch": _run(state, given), "nonce": octets(given, "nonce", 16).hex()})


def _sids(state: State, call: Call) -> bytes:
    """``{"stream","seq"}``: the run that holds this place, and the sids of all its statements.

    Whoever computes its root from them knows that they are what was committed: after a purge too, since sids stay, and
    tell nothing of what was said.
    """
    given = call.record()
    only(given, "stream", "seq")
    run = _run_with(state, given)
    sids = state.private(EVIDENCE).get(key("sids", run["stream"], ordered(run["first"])))
    if sids is None:
        raise Declined(Reason.UNKNOWN, f"the sids of stream {run['stream']} are not held by this organisation")
    return pack({"batch": run, "sids": sids.hex()})


def _find(state: State, call: Call) -> bytes:
    """``{"stream","sid","from_seq"}``: the seq of a sid; looks into 1,000 runs, and answers ``next`` to go on from."""
    given = call.record()
    only(given, "stream", "sid", "from_seq")
    stream, sid = octets(given, "stream", 16).hex(), octets(given, "sid", _SID_BYTES)
    start = key("batch", stream, ordered(integer({"from_seq": 0, **given}, "from_seq", 0, (1 << 64) - 1)))
    seen, first, end = 0, "0", under("batch", stream)[1]
    for name, _ in islice(state.scan(start, end), _MAX_PAGE):
        seen, first = seen + 1, name.rsplit("/", 1)[1]
        sids = state.private(EVIDENCE).get(key("sids", stream, first)) or b""
        for at in range(0, len(sids), _SID_BYTES):
            if sids[at : at + _SID_BYTES] == sid:
                return pack({"seq": int(first, 16) + at // _SID_BYTES, "next": None})
    return pack({"seq": None, "next": int(first, 16) + 1 if seen == _MAX_PAGE else None})


def _pins(state: State, call: Call) -> bytes:
    """``{"gateway"}``: the certificates that rekeys have put into the registry's place, the oldest first."""
    given = call.record()
    only(given, "gateway")
    found = [
        {**unpack(version.value), "time_ms": version.time_ms, "transaction": version.transaction}
        for version in state.history(key("pin", named(given, "gateway")))
        if version.value is not None
    ]
    return pack(found[::-1])


def _forks(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "stream")
    return pack([parse(value) for _, value in state.scan(*under("fork", octets(given, "stream", 16).hex()))])


def _purged(state: State, call: Call) -> bytes:
    given = call.record()
    only(given, "stream")
    return pack([parse(value) for _, value in state.scan(*under("purged", octets(given, "stream", 16).hex()))])


# ---- what is asked by those who may read statements


def _statements(state: State, call: Call) -> bytes:
    """Statements of a stream from ``from_seq`` on, hex, at most ``limit``; with the seq to go on from, or null.

    Runs whose statements are not here any more are named instead.
    """
    _reader(state, call)
    given = call.record()
    only(given, "stream", "from_seq", "limit")
    stream, limit = octets(given, "stream", 16), _limit(given)
    from_seq = integer({"from_seq": 0, **given}, "from_seq", 0, (1 << 64) - 1)
    last = _known(state, "stream", stream.hex())["seq"]
    until = min(from_seq + limit - 1, last) + 1
    found: list[list[object]] = []
    start = max(from_seq - batches.MAX_STATEMENTS + 1, 0)
    for _, value in state.scan(*(key("batch", stream.hex(), ordered(seq)) for seq in (start, until))):
        for claim in _content(state, unpack(value)) or ():
            if from_seq <= claim.seq < until:
                found.append([claim.seq, claim.data.hex()])
    return pack({"statements": found, "next": until if until <= last else None})


def _statements_at(state: State, call: Call) -> bytes:
    """Statements of a gateway said from ``from_ms`` to before ``until_ms``, by day, stream and seq; a page.

    Goes on after ``after``, the [day, stream, first] that the page before ended with.
    """
    _reader(state, call)
    given = call.record()
    only(given, "gateway", "from_ms", "until_ms", "after", "limit")
    gateway, from_ms, until_ms = named(given, "gateway"), *_period(given)
    found: list[list[object]] = []
    end: list[object] | None = None
    for day, stream, first in _days(state, gateway, from_ms, until_ms, given.get("after")):
        for claim in _content(state, {"stream": stream, "first": int(first, 16)}) or ():
            at_ms = claim.instant.utc_ms
            if from_ms <= at_ms < until_ms and at_ms // _DAY_MS == day:
                found.append([stream, claim.seq, claim.data.hex()])
        if len(found) >= _limit(given):
            end = [day, stream, first]
            break
    return pack({"statements": found, "after": end})


def _days(state: State, gateway: str, from_ms: int, until_ms: int, after: object) -> Iterator[tuple[int, str, str]]:
    start, _ = under("day", gateway, ordered(from_ms // _DAY_MS))
    _, end = under("day", gateway, ordered((until_ms - 1) // _DAY_MS))
    if after is not None:
        if not isinstance(after, list) or len(after) != 3:
            raise Declined(Reason.MALFORMED, "after: give back what the page before ended with")
        start = key("day", gateway, ordered(after[0]), str(after[1]), f"{after[2]}\0")
    for name, _ in state.private(READINGS).scan(start, end):
        _, _, day, stream, first = name.split("/")
        yield int(day, 16), stream, first


def _of_meter(state: State, call: Call) -> bytes:
    """Statements about one meter said from ``from_ms`` to before ``until_ms``: for who may read all, and for its owner.

    An owner has a certificate of the gateway's home organisation, and reads of the time that the meter was its own.
    """
    given = call.record()
    only(given, "meter", "from_ms", "until_ms")
    from_ms, until_ms = _period(given)
    meter = text(given, "meter")
    places = parse(state.ask(registry.NAME, "Assignments", pack({"meter": meter})))
    spans = [(from_ms, until_ms)]
    if call.caller.roles.isdisjoint(READERS):
        places = [place for place in places if _gateway_owner(state, place["gateway"]) == call.caller.organisation]
        spans = _owned(state, call.caller.attributes.get(MEMBER), meter) if places else []
    if not spans or not call.caller.roles.isdisjoint(READERS):
        _reader(state, call)
    found: list[list[object]] = []
    for place in places:
        end_ms = until_ms if place["until_ms"] is None else min(until_ms, place["until_ms"])
        for since_ms, to_ms in spans:
            start, end = max(from_ms, place["from_ms"], since_ms), min(end_ms, to_ms)
            found += _about(state, place["gateway"], place["sub"], start, end) if start < end else []
    return pack({"statements": found})


def _about(state: State, gateway: str, sub: str, start: int, end: int) -> list[list[object]]:
    """Statements about a measuring point said from ``start`` to before ``end``."""
    found: list[list[object]] = []
    for day, stream, first in _days(state, gateway, start, end, None):
        for claim in _content(state, {"stream": stream, "first": int(first, 16)}) or ():
            at_ms = claim.instant.utc_ms
            if start <= at_ms < end and at_ms // _DAY_MS == day and claim.sub == sub:
                found.append([stream, claim.seq, claim.data.hex()])
    return found


def _owned(state: State, member: str | None, meter: str) -> list[tuple[int, int]]:
    """From when until when a meter was a member's; the first owner's it was before it was registered too."""
    kept = parse(state.ask(registry.NAME, "History", pack({"kind": "meter", "name": meter})))
    starts = [0, *(version["since_ms"] for version in kept[1:]), registry.LATEST_MS]
    spans = zip(kept, starts, starts[1:], strict=False)
    return [(since_ms, to_ms) for version, since_ms, to_ms in spans if member and version["owner"] == member]


def _read_run(state: State, call: Call) -> bytes:
    """``{"stream","seq"}``: the statements of the run that holds this place, as they are held here: not taken apart.

    For who may read all, and for the owners of meters: of what is not the caller's, null stands in its place.
    """
    given = call.record()
    only(given, "stream", "seq")
    run, mine = _run_with(state, given), None
    if not call.caller.roles.isdisjoint(READERS) or call.caller.attributes.get(MEMBER) is None:
        _reader(state, call)
    else:
        _metering(state, call)
        mine = _Owned(state, call)
    where = f"of stream {run['stream']} from seq {run['first']}"
    try:
        held = _verbatim(state, run)
        shown = [[seq, said.hex() if mine is None or mine.holds(statement.parse(said)) else None] for seq, said in held]
    except (Malformed, NoRecord, TypeError, ValueError) as error:
        raise Declined(Reason.CONFLICT, f"what is held {where} is damaged: {error}") from error
    if mine is not None and not any(said for _, said in shown):
        _reader(state, call)
    return pack({"batch": run, "statements": shown})


def _verbatim(state: State, run: Record) -> list[tuple[int, bytes]]:
    """What is here of a run's statements, each with its seq; nothing of it is looked at."""
    readings = state.private(READINGS)
    data = readings.get(_batch_key(run))
    if data is not None:
        return list(enumerate(batches.messages(data), run["first"]))
    times = _times_purged(state, run)
    left = readings.get(key("left", run["stream"], ordered(run["first"]), str(times))) if times else None
    return [] if left is None else [(int(seq), bytes.fromhex(said)) for seq, said in parse(left)]


class _Owned:
    """What of a gateway's statements is a member's: those about its meter of that time, and the certificates."""

    def __init__(self, state: State, call: Call) -> None:
        self._state, self._call = state, call
        self._spans: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def holds(self, claim: Claims) -> bool:
        """Whether a statement is."""
        certificates = claim.kind in (Kind.GENESIS, Kind.REKEY)
        place = (claim.gateway, "" if certificates else claim.sub)
        if place not in self._spans:
            self._spans[place] = self._times(*place)
        at_ms = claim.instant.utc_ms
        return any(certificates or since_ms <= at_ms < to_ms for since_ms, to_ms in self._spans[place])

    def _times(self, gateway: str, sub: str) -> list[tuple[int, int]]:
        """From when until when a measuring point, or any of the gateway's, was the member's."""
        if sub == OF_THE_GATEWAY or _gateway_owner(self._state, gateway) != self._call.caller.organisation:
            return []
        asked = pack({"gateway": gateway} | ({"sub": sub} if sub else {}))
        found = []
        for there in parse(self._state.ask(registry.NAME, "Assignments", asked)):
            until_ms = registry.LATEST_MS if there["until_ms"] is None else there["until_ms"]
            for since_ms, to_ms in _owned(self._state, self._call.caller.attributes.get(MEMBER), there["meter"]):
                found.append((max(since_ms, there["from_ms"]), min(to_ms, until_ms)))
        return found


def _boundaries(state: State, call: Call) -> bytes:
    """Boundaries and exchanges of measuring points from ``from_ms`` to ``until_ms``, both included."""
    _reader(state, call)
    given = call.record()
    only(given, "points", "from_ms", "until_ms")
    points = given.get("points")
    if not isinstance(points, list) or len(points) > _MAX_POINTS:
        raise Declined(Reason.MALFORMED, f'points: a list of at most {_MAX_POINTS} ["gateway","sub"] is needed')
    from_ms = integer(given, "from_ms", 0, registry.LATEST_MS)
    until_ms = integer(given, "until_ms", from_ms, registry.LATEST_MS)
    hours = range(from_ms // _HOUR_MS, until_ms // _HOUR_MS + 1)
    if len(points) * len(hours) > _MAX_HOURS:
        words = f"{len(points)} points in {len(hours)} hours: at most {_MAX_HOURS} together"
        raise Declined(Reason.MALFORMED, words)
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(isinstance(part, str) for part in point):
            raise Declined(Reason.MALFORMED, f'points: {str(point)[:60]}: ["gateway","sub"] is needed')
        if not all(SUB.fullmatch(part) for part in point):
            raise Declined(Reason.MALFORMED, f"points: {str(point)[:120]}: letters, digits and hyphens are needed")
    keys = [key("hour", gateway, sub, ordered(hour)) for gateway, sub in points for hour in hours]
    readings = state.private(READINGS)
    values = dict(zip(keys, readings.get_many(keys), strict=True))
    missing = [name for name, value in values.items() if value is None]
    values |= zip(missing, readings.get_many([_rest_of(name) for name in missing]), strict=True)
    found, held = [], iter(values[name] for name in keys)
    for gateway, sub in points:
        listed: Record = {"gateway": gateway, "sub": sub, "at": [], "change": []}
        salts = []
        for hour in (unpack(value) for value in islice(held, len(hours)) if value is not None):
            salts.append(hour.get("salt", ""))
            for what in _ITEMS:
                listed[what] += [item for item in hour[what] if from_ms <= item[0] <= until_ms]
        found.append(listed | {"salt": salt.derived(f"{gateway}/{sub}", *salts)})
    return pack({"points": found})


# ---- who may, and what is there


def _metering(state: State, call: Call) -> None:
    organisation = call.caller.organisation
    if registry.METERING not in registry.organisation_roles(state, organisation):
        raise Declined(Reason.FORBIDDEN, f"{organisation} is no organisation here with the role {registry.METERING}")


def _reader(state: State, call: Call) -> None:
    call.caller.need(*READERS)
    _metering(state, call)


def _home(state: State, call: Call, gateway: str) -> None:
    """The caller is of the gateway's home organisation, or of a manager."""
    organisation, owner = call.caller.organisation, _gateway_owner(state, gateway)
    if organisation == owner:
        return
    if registry.MANAGER not in registry.organisation_roles(state, organisation):
        raise Declined(Reason.FORBIDDEN, f"{organisation} may not do this: a {registry.MANAGER} or {owner} may")


def _gateway_owner(state: State, gateway: str) -> str:
    return str(unpack(state.ask(registry.NAME, "Gateway", pack({"gateway": gateway})))["owner"])


def _measuring_point(given: Record) -> str:
    sub = text(given, "sub")
    if not SUB.fullmatch(sub):
        raise Declined(Reason.MALFORMED, f"sub: {sub[:90]!r}: letters, digits and hyphens are needed")
    return sub


def _trust(state: State, batch: Batch, claims: Sequence[Claims]) -> Trust:
    """The roots of gateways; looked up for the two kinds of batches that carry certificates."""
    if batch.first and claims[-1].kind != Kind.REKEY:
        return Trust()
    return Trust(gateways=tuple(_certificate(bytes.fromhex(root)) for root in _authorities(state)))


def _authorities(state: State) -> list[str]:
    """Roots of gateways' certificates, DER, hex."""
    listed = parse(state.ask(registry.NAME, "List", pack({"kind": "authority"})))
    return [entry["certificate"] for entry in listed if entry["state"] == registry.ACTIVE]


@lru_cache(maxsize=64)
def _certificate(data: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(data)


def _get(state: State, *parts: str) -> Record | None:
    value = state.get(key(*parts))
    return None if value is None else unpack(value)


def _known(state: State, kind: str, *names: str) -> Record:
    found = _get(state, kind, *names)
    if found is None:
        raise Declined(Reason.UNKNOWN, f"{kind} {' '.join(names)} is not known here")
    return found


def _run(state: State, given: Record) -> Record:
    stream, first = octets(given, "stream", 16).hex(), integer(given, "first", 0, (1 << 64) - 1)
    found = _get(state, "batch", stream, ordered(first))
    if found is None:
        raise Declined(Reason.UNKNOWN, f"no batch of stream {stream} begins at seq {first}")
    return found


def _run_with(state: State, given: Record) -> Record:
    """The public record of the run that holds the arguments' seq."""
    stream, seq = octets(given, "stream", 16).hex(), integer(given, "seq", 0, (1 << 64) - 2)
    last = None
    start = max(seq - batches.MAX_STATEMENTS + 1, 0)  # no run that begins earlier reaches it
    for _, value in state.scan(key("batch", stream, ordered(start)), key("batch", stream, ordered(seq + 1))):
        last = value
    record = None if last is None else unpack(last)
    if record is None or seq >= record["first"] + record["count"]:
        raise Declined(Reason.UNKNOWN, f"stream {stream} has no seq {seq} here")
    return record


def _runs(state: State, collection: str, what: str, stream: bytes, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Private values of the runs that hold seq ``first`` to before ``end``, with each run's first seq.

    Found by their public records, because a range of a private collection is for functions that write nothing.
    """
    start = max(first - batches.MAX_STATEMENTS + 1, 0)  # no run that begins earlier reaches ``first``
    for name, _ in state.scan(key("batch", stream.hex(), ordered(start)), key("batch", stream.hex(), ordered(end))):
        value = state.private(collection).get(key(what, *name.split("/")[1:]))
        if value is not None:
            yield int(name.rsplit("/", 1)[1], 16), value


def _page(given: Record, rows: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for number, row in enumerate(rows, 1):
        yield row
        if number == _limit(given):
            return


def _limit(given: Record) -> int:
    return integer({"limit": _MAX_PAGE, **given}, "limit", 1, _MAX_PAGE)


def _period(given: Record) -> tuple[int, int]:
    from_ms = integer(given, "from_ms", 0, registry.LATEST_MS)
    return from_ms, integer(given, "until_ms", from_ms + 1, registry.LATEST_MS)


def contract(every: bool) -> Contract:
    """The contract; ``every``: each endorser checks every signature, else the head's only (docs/adr/0014)."""
    return Contract(
        NAME,
        {
            "SubmitBatch": partial(_submit, every),
            "Purge": _purge,
            "Stream": _stream,
            "Streams": _streams,
            "Terms": _terms,
            "Batches": _batches,
            "Receipt": _receipt,
            "Sids": _sids,
            "Find": _find,
            "Pins": _pins,
            "Forks": _forks,
            "Purged": _purged,
            "Run": _read_run,
            "Statements": _statements,
            "StatementsAt": _statements_at,
            "OfMeter": _of_meter,
            "Boundaries": _boundaries,
        },
        (READINGS, EVIDENCE),
    )


CONTRACT = contract(every=True)
