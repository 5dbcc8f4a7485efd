"""The offline verifier: exported evidence in, a report out. What an auditor runs.

Opens no connection and writes nothing; trusts the anchors it is given and nothing else.

Rules
- Streaming: one statement at a time, plus a state per stream and measuring point and one batch's Merkle tree.
- Every statement is parsed strictly, its signature checked with the key of the genesis or the last rekey, whose
  certificate leads to an anchor and was valid then; seq rises by one, prev is the sid before, the boot counter never
  falls.
- Every slot of every measuring point is accounted for (:mod:`signer.slots`), every receipt covers a whole batch that is
  here (:mod:`signer.coverage`); what was pruned has its sid here and a receipt.
- A failure is one line: file, byte, seq, gateway, and what failed. After it the verifier finds the next item and goes
  on; nothing that a failed statement says is used, its sid is taken from the statement after it.
- An unknown kind is checked in chain and signature, and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from signer import bundle, cbor, grammar, receipt, statement
from signer.bundle import Sequence, StreamRange
from signer.codes import RELIABLE_CLOCKS, GapReason, Kind
from signer.coverage import Coverage
from signer.errors import Malformed
from signer.keys import key_id
from signer.report import PointReport, Report, StreamReport
from signer.slots import Slots
from signer.statement import Claims
from signer.trust import Signer, Trust, Untrusted, gateway_signer, load_organisations, load_pem

__all__ = ["MAX_LISTED", "MAX_POINTS", "PointReport", "Progress", "Report", "StreamReport", "verify"]

MAX_LISTED = 100
"""Failures that are listed one by one; more are counted."""

MAX_POINTS = 10_000
"""Measuring points of one stream that are accounted for."""

_MAX_MAPS = 1000
_MAX_MAP_BYTES = 1024 * 1024
_PROGRESS_EVERY = 512  # statements between two calls of the progress callback

Progress = Callable[[int, int], None]


def verify(folder: Path, trust_folder: Path | None = None, progress: Progress | None = None) -> Report:
    """Verify exported evidence. ``trust_folder``: where the anchors are taken from instead of ``folder`` itself.

    ``progress`` is called with bytes done and bytes to do.

    Raises:
        BundleProblem: ``folder`` holds no evidence that could be looked at.
    """
    return _Walk(folder, trust_folder, progress).run()


@dataclass(slots=True)
class _Stream:
    """The stream that is being walked through."""

    id: bytes
    gateway: str
    named: StreamRange | None  # what the manifest says of it
    signer: Signer | None = None
    key_id: bytes = b""
    due: int = 0  # the seq that comes next
    unknown: int = 0  # damaged items since then
    sid: bytes = statement.NO_SID  # of the statement before
    boot: int = 0
    first: int | None = None
    statements: int = 0
    pruned: int = 0
    recovered_from: str | None = None
    set_back_ms: int | None = None
    no_key_told: bool = False
    points: dict[str, Slots] = field(default_factory=dict)


class _Walk:
    def __init__(self, folder: Path, trust_folder: Path | None, progress: Progress | None) -> None:
        self._folder = folder
        self._progress = progress
        self._failures: list[str] = []
        self._failures_total = 0
        self._manifest = list(bundle.read_manifest(folder))
        self._statements = Sequence.open(folder / bundle.STATEMENTS, statement.MAX_BYTES)
        self._pruned = Sequence.open(folder / bundle.PRUNED, 64)
        self._receipts = Sequence.open(folder / bundle.RECEIPTS, receipt.MAX_BYTES)
        self._trust_name = "self-supplied" if trust_folder is None else "external"
        self._trust = self._load_trust(trust_folder or folder)
        self._coverage = Coverage(self._receipts, self._trust, self._fail)
        self._stream: _Stream | None = None
        self._streams: list[StreamReport] = []
        self._points: dict[tuple[str, str], PointReport] = {}
        self._readings = 0
        self._undated = 0
        self._early = 0  # damaged items before the first stream
        self._unknown_kinds: dict[int, int] = {}
        self._maps: set[bytes] = set()
        self._recovered = {entry.recovered[:2]: entry.recovered[2] for entry in self._manifest if entry.recovered}
        self._gone: tuple[int, bytes] | None = self._read_pruned()

    def run(self) -> Report:
        try:
            while self._step():
                pass
            self._end_stream()
            self._coverage.finish()
            for entry in self._manifest:
                self._fail(f"{bundle.MANIFEST}: stream {entry.stream} of {entry.gateway} is not in the files")
            if self._gone is not None:
                self._fail(f"{bundle.PRUNED}: seq {self._gone[0]} is out of place")
            if not self._streams:
                self._fail(f"{bundle.STATEMENTS}: there is no stream in it, so it is evidence of nothing")
            if self._progress:
                self._progress(self._statements.size, self._statements.size)
            missing_maps = self._check_maps()
        finally:
            for sequence in (self._statements, self._pruned, self._receipts):
                sequence.close()
        several = len({gateway for gateway, _ in self._points}) > 1
        return Report(
            statements=sum(stream.statements for stream in self._streams),
            readings=self._readings,
            pruned=sum(stream.pruned for stream in self._streams),
            unreceipted=self._coverage.unreceipted,
            undated=self._undated,
            unknown_kinds=self._unknown_kinds,
            streams=tuple(self._streams),
            slots={(f"{name[0]}/{name[1]}" if several else name[1]): point for name, point in self._points.items()},
            receipts=self._coverage.organisations,
            unpinned=self._coverage.unpinned,
            missing_maps=missing_maps,
            trust=self._trust_name,
            failures=tuple(self._failures),
            failures_total=self._failures_total,
        )

    # ---- the walk

    def _step(self) -> bool:
        """Take one item; False at the end of both files."""
        if self._take_pruned():
            return True
        offset = self._statements.offset
        try:
            data = self._statements.next()
            if data is None:
                return False
            claims = statement.parse(data)
        except Malformed as error:
            self._damaged(offset, str(error))
            self._statements.resynchronise(offset, statement.parse)
            return True
        self._statement(offset, claims)
        return True

    def _statement(self, offset: int, claims: Claims) -> None:
        stream = self._stream
        if stream is None or claims.stream_id != stream.id:
            stream = self._change_stream(offset, claims)
        if stream is None:
            return
        if claims.kind == Kind.GENESIS and not stream.statements:
            self._genesis(stream, offset, claims)
        wrong = self._check_signer(stream, claims)
        if wrong:
            self._damaged(offset, wrong)
        elif self._check_chain(stream, offset, claims):
            self._count(stream, claims)
            self._understand(stream, offset, claims)
        if self._progress and stream.statements % _PROGRESS_EVERY == 0:
            self._progress(self._statements.offset, self._statements.size)

    def _check_signer(self, stream: _Stream, claims: Claims) -> str | None:
        if claims.gateway != stream.gateway:
            return f"is of gateway {claims.gateway}"
        if stream.signer is None:
            if not stream.no_key_told:
                stream.no_key_told = True
                self._fail(f"{stream.gateway}, stream {stream.id.hex()}: no key is known, so no signature was checked")
            return None
        if not statement.verify_signature(claims, stream.signer.key):
            return "the signature was not made with the key of this chain over these bytes"
        if claims.key_id != stream.key_id:
            return f"kid {claims.key_id.hex()} is not that of the key that signed, {stream.key_id.hex()}"
        if claims.instant.clock in RELIABLE_CLOCKS:
            if not stream.signer.from_ms <= claims.instant.utc_ms <= stream.signer.to_ms:
                return f"the certificate was not valid at {claims.instant.utc_ms} ms"
        else:
            self._undated += 1
        return None

    def _check_chain(self, stream: _Stream, offset: int, claims: Claims) -> bool:
        """Seq, prev and boot counter; False when the statement has no place in the chain."""
        highest = stream.due + stream.unknown
        if claims.seq < stream.due:
            self._at(offset, claims.seq, f"seq {claims.seq} where {stream.due} is due: it comes twice or out of order")
            return False
        if claims.seq > highest:
            missing = claims.seq - highest
            self._at(offset, claims.seq, f"seq {claims.seq} where {highest} is due: {missing} statements are missing")
        elif not stream.unknown and claims.prev != stream.sid:
            self._at(offset, claims.seq, f"prev is not the sid of the statement before it, {stream.sid.hex()}")
        if stream.unknown and claims.seq > stream.due:
            self._coverage.leaf(claims.seq - 1, claims.prev, stream.sid)
        if claims.boot < stream.boot:
            self._at(offset, claims.seq, f"boot counter {claims.boot} after {stream.boot}")
        if claims.seq > highest:
            for point in stream.points.values():
                point.cut()
        self._pass(stream, claims.seq, claims.sid)
        stream.boot = max(stream.boot, claims.boot)
        self._coverage.leaf(claims.seq, claims.sid, claims.prev, is_rekey=claims.kind == Kind.REKEY)
        return True

    def _pass(self, stream: _Stream, seq: int, sid: bytes) -> None:
        named = self._recovered.get((stream.id.hex(), seq))
        if named is not None and named != sid.hex():
            self._fail(
                f"{stream.gateway}, stream {stream.id.hex()}, seq {seq}: a later genesis names another sid, {named}"
            )
        stream.due, stream.unknown, stream.sid = seq + 1, 0, sid
        stream.first = seq if stream.first is None else stream.first

    def _count(self, stream: _Stream, claims: Claims) -> None:
        stream.statements += 1
        if not claims.known:
            self._unknown_kinds[claims.kind] = self._unknown_kinds.get(claims.kind, 0) + 1

    def _understand(self, stream: _Stream, offset: int, claims: Claims) -> None:
        """What a statement that holds says about slots, keys and maps."""
        if claims.kind == Kind.READING:
            self._readings += 1
            slots = self._point(stream, claims.sub)
            wrong = slots.read(claims.body[16], 11 in claims.body) if slots else None
            if wrong:
                self._at(offset, claims.seq, f"{claims.sub}: {wrong}")
        elif claims.kind == Kind.DESCRIPTOR:
            slots = self._point(stream, claims.sub)
            if slots:
                slots.describe(claims.body[13][1])
            if len(self._maps) < _MAX_MAPS:
                self._maps.add(claims.body[13][2])
        elif claims.kind == Kind.GAP:
            self._gap(stream, offset, claims)
        elif claims.kind == Kind.CLOCK:
            if claims.seq == 1 and stream.recovered_from and claims.body[13][1] < 0:
                stream.set_back_ms = -claims.body[13][1]
        elif claims.kind == Kind.REKEY:
            self._trust_certificates(stream, offset, claims)

    def _gap(self, stream: _Stream, offset: int, claims: Claims) -> None:
        body = claims.body[13]
        jumped = body[1] == GapReason.CLOCK
        if claims.sub == grammar.OF_THE_GATEWAY:
            for slots in stream.points.values():
                slots.gap(body[2], body[3], None, jumped)
            return
        point = self._point(stream, claims.sub)
        wrong = point.gap(body[2], body[3], body[4], jumped) if point else None
        if wrong:
            self._at(offset, claims.seq, f"{claims.sub}: {wrong}")

    def _point(self, stream: _Stream, sub: str) -> Slots | None:
        if sub not in stream.points:
            if len(stream.points) >= MAX_POINTS:
                self._fail(f"{stream.gateway}: more than {MAX_POINTS} measuring points, {sub} is not accounted for")
                return None
            stream.points[sub] = Slots()
        return stream.points[sub]

    # ---- keys

    def _genesis(self, stream: _Stream, offset: int, claims: Claims) -> None:
        recovered = claims.body[13].get(3)
        told = (recovered[0].hex(), recovered[1], recovered[2].hex()) if recovered else None
        if stream.named and stream.named.recovered != told:
            self._fail(
                f"{bundle.MANIFEST}: stream {stream.id.hex()} is recovered from {told}, not {stream.named.recovered}"
            )
        stream.recovered_from = told[0] if told else None
        self._trust_certificates(stream, offset, claims)

    def _trust_certificates(self, stream: _Stream, offset: int, claims: Claims) -> None:
        """From here on the key of this genesis or rekey signs."""
        stream.signer, stream.no_key_told = None, True
        # A gateway that does not know the time yet signs all the same; its certificate is judged once it does.
        at_ms = claims.instant.utc_ms if claims.instant.clock in RELIABLE_CLOCKS else None
        try:
            stream.signer = gateway_signer(self._trust, claims.certificates, claims.gateway, at_ms)
            stream.key_id = key_id(stream.signer.key)
        except Untrusted as error:
            self._at(offset, claims.seq, f"{error}; the signatures after it are not checked")

    # ---- streams, damage, the pruned

    def _change_stream(self, offset: int, claims: Claims) -> _Stream | None:
        """A statement of another stream: the next one begins, or (None) the statement has no business here."""
        if not any(entry.stream == claims.stream_id.hex() for entry in self._manifest):
            if claims.kind != Kind.GENESIS:
                self._damaged(offset, f"is of stream {claims.stream_id.hex()}")
                return None
            if not self._signed_itself(claims):
                self._damaged(offset, "a genesis that was not signed with the key of its own certificate")
                return None
            self._fail(f"{bundle.MANIFEST}: does not name stream {claims.stream_id.hex()} of {claims.gateway}")
        return self._begin_stream(claims.stream_id, claims.gateway)

    def _signed_itself(self, claims: Claims) -> bool:
        try:
            signer = gateway_signer(self._trust, claims.certificates, claims.gateway, None)
        except Untrusted:
            return False
        return statement.verify_signature(claims, signer.key)

    def _begin_stream(self, stream: bytes, gateway: str) -> _Stream:
        started = self._stream is None and not self._streams
        waiting = self._early if started else 0
        self._end_stream()
        named = next((entry for entry in self._manifest if entry.stream == stream.hex()), None)
        if named is not None:
            self._manifest.remove(named)
            gateway = named.gateway
        self._stream = _Stream(stream, gateway, named, unknown=waiting)
        self._coverage.begin(stream, gateway)
        return self._stream

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if stream.unknown == 1:
            self._coverage.leaf(stream.due, None, stream.sid)
        self._coverage.end()
        self._settle_points(stream)
        last = stream.due - 1
        self._streams.append(
            StreamReport(
                stream.gateway,
                stream.id.hex(),
                stream.first or 0,
                last,
                stream.statements,
                stream.pruned,
                stream.recovered_from,
                stream.set_back_ms,
            )
        )
        named = stream.named
        if named is None or stream.unknown:
            return
        for what, said, found in (
            ("last seq", named.last, last),
            ("last sid", named.head, stream.sid.hex()),
            ("pruned", named.pruned, stream.pruned),
        ):
            if said != found:
                self._fail(f"{bundle.MANIFEST}: stream {named.stream}: {what} is {said} there and {found} in the files")

    def _settle_points(self, stream: _Stream) -> None:
        for sub, slots in stream.points.items():
            account = slots.account()
            if account.missing:
                self._fail(
                    f"{stream.gateway}, stream {stream.id.hex()}: {sub}: nothing accounts for {account.missing} of "
                    f"{account.expected} slots, the first at {account.first_missing_ms} ms"
                )
            total = self._points.setdefault((stream.gateway, sub), PointReport())
            total.expected += account.expected
            total.read += account.read
            total.failed += account.failed
            total.gap += account.gap
            total.missing += account.missing
            total.jumped += account.jumped

    def _damaged(self, offset: int, words: str) -> None:
        """An item that cannot be believed: it is assumed to stand where the next seq is due."""
        stream = self._stream
        self._at(offset, stream.due + stream.unknown if stream else self._early, words)
        if stream is None:
            self._early += 1
            return
        stream.unknown += 1
        for slots in stream.points.values():  # nobody knows whose slot it told of
            slots.cut()

    def _take_pruned(self) -> bool:
        """Take the next pruned statement if it is due."""
        if self._gone is None:
            return False
        if self._stream is None or self._stream.named is None or self._stream.pruned >= self._stream.named.pruned:
            return False
        stream, (seq, sid) = self._stream, self._gone
        if seq > stream.due + stream.unknown:
            return False
        self._gone = self._read_pruned()
        stream.pruned += 1
        if seq < stream.due:
            self._fail(f"{bundle.PRUNED}: seq {seq} of stream {stream.id.hex()} is out of place")
            return True
        if seq > stream.due:
            self._coverage.leaf(seq - 1, None, stream.sid)
        self._coverage.leaf(seq, sid, stream.sid, pruned=True)
        self._pass(stream, seq, sid)
        for slots in stream.points.values():
            slots.cut()
        return True

    def _read_pruned(self) -> tuple[int, bytes] | None:
        offset = self._pruned.offset
        place = f"{bundle.PRUNED}, byte {offset}"
        try:
            data = self._pruned.next()
            if data is None:
                return None
            item = cbor.decode(data, 64, "item")
            if type(item) is not list or len(item) != 2:
                raise Malformed("item", "is no [seq, sid]")
            return grammar.check_uint(item[0], "seq"), grammar.check_bytes(item[1], 32, "sid")
        except Malformed as error:
            self._fail(f"{place}: {error}; nothing after it is read")
            self._pruned.offset = self._pruned.size
            return None

    # ---- what lies beside the statements

    def _load_trust(self, folder: Path) -> Trust:
        gateways: tuple[x509.Certificate, ...] = ()
        organisations: dict[str, tuple[x509.Certificate, ...]] = {}
        try:
            gateways = load_pem(folder / bundle.GATEWAYS_PEM)
            if self._receipts.size:
                organisations = load_organisations(folder / bundle.RECEIPTS_PEM)
        except Untrusted as error:
            self._fail(f"trust anchors: {error}")
        return Trust(gateways, organisations)

    def _check_maps(self) -> tuple[str, ...]:
        """Digests without a file; a file whose content is another than its name says is a failure."""
        missing = []
        for digest in sorted(self._maps):
            path = self._folder / bundle.MAPS / f"{digest.hex()}.toml"
            try:
                with open(path, "rb") as file:
                    content = file.read(_MAX_MAP_BYTES)
            except OSError:
                missing.append(digest.hex())
                continue
            if hashlib.sha256(content).digest() != digest:
                self._fail(f"{bundle.MAPS}/{path.name}: its content has another digest")
        return tuple(missing)

    def _at(self, offset: int, seq: int, words: str) -> None:
        gateway = self._stream.gateway if self._stream else "?"
        self._fail(f"{bundle.STATEMENTS}, byte {offset}, seq {seq}, {gateway}: {words}")

    def _fail(self, line: str) -> None:
        self._failures_total += 1
        if len(self._failures) < MAX_LISTED:
            self._failures.append(line)
