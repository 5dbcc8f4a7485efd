"""One statement, verified: its signature and key, its place in chain and batch, the batch's record, receipts, block.

Rules
- Nothing is taken from an answer that can be computed: the sid from the bytes, the root from the sid and its path, the
  key from the certificates in genesis or rekey, and whether they count from the registry as it was then.
- What was looked at once is not looked at again: many numbers stand on one batch.
- A step that cannot be verified hides no other: after a purge sid, root, receipt and block still are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ledger.embedded import CHANNEL
from ledger.rules import registry
from ledger.rules.record import Record
from ledger.rules.world import Declined, Reason, key, ordered
from ledger.trace.evidence import MEASUREMENTS, Evidence, Fault, digest
from ledger.trace.tree import Mark, Step
from ledger.trace.words import at, kind, words_of
from signer import batch as runs
from signer import receipt as receipts
from signer import statement as statements
from signer.codes import RELIABLE_CLOCKS
from signer.errors import Malformed
from signer.keys import key_id
from signer.statement import Claims
from signer.trust import Trust, Untrusted, check_gateway

Receipts = Mapping[tuple[bytes, int], Sequence[bytes]]
"""By stream and the first seq of their batch."""

_MOST_RUNS = 100
"""Of which the statements are remembered: at most 26 MB."""


@dataclass(frozen=True, slots=True)
class Found:
    """A statement, as far as it is there.

    Attributes:
        claims: None when it is gone, withheld or damaged.
    """

    step: Step
    claims: Claims | None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of a stream.

    Attributes:
        batch: its public record.
        sids: of all its statements.
        root: whether they make the root that was committed.
    """

    batch: Record
    sids: Sequence[bytes]
    root: bool

    def sid(self, seq: int) -> bytes:
        """Of the statement at a place."""
        return self.sids[seq - int(self.batch["first"])]


@dataclass(frozen=True, slots=True)
class _Committed:
    """What a receipt must name."""

    stream: bytes
    first: int
    count: int
    head: bytes
    root: bytes


class Statements:
    """Statements of one ledger; each batch and each key is looked at once."""

    def __init__(self, evidence: Evidence, trust: Trust, receipts: Receipts | None = None) -> None:
        """
        Args:
            trust: of organisations that sign receipts.
            receipts: more of them than this side keeps.
        """
        self._receipts_of = receipts or {}
        self._evidence = evidence
        self._trust = trust
        self._found: dict[tuple[str, int], Found] = {}
        self._batches: dict[tuple[str, int], list[Step]] = {}
        self._keys: dict[tuple[str, int], tuple[Step, ec.EllipticCurvePublicKey | None]] = {}
        self._streams: dict[str, Record] = {}
        self._purges: dict[str, list[Record]] = {}
        self._runs: dict[str, dict[int, _Run]] = {}
        self._said: dict[tuple[str, int], dict[int, bytes | None] | Declined] = {}

    def get(self, stream: str, seq: int) -> Found:
        """The statement and everything under it.

        Raises:
            Declined: there is no such place in a stream.
        """
        place = (stream, seq)
        if place not in self._found:
            try:
                self._found[place] = self._look(stream, seq)
            except Fault as fault:
                said = f"{stream[:8]} seq {seq}"
                self._found[place] = Found(Step("statement", said, Mark.FAILED, str(fault)), None)
        return self._found[place]

    def purges(self, stream: str, first: int) -> list[Record]:
        """The records of purges of the run that begins at ``first``: of all of it, or of measuring points."""
        if stream not in self._purges:
            self._purges[stream] = self._evidence.ask(MEASUREMENTS, "Purged", stream=stream)
        return [record for record in self._purges[stream] if record["first"] == first]

    def batch(self, stream: str, seq: int) -> Record:
        """The public record of the run that holds a place.

        Raises:
            Declined: there is no such place in a stream.
        """
        return self._run(stream, seq).batch

    def _look(self, stream: str, seq: int) -> Found:
        step = Step("statement", f"{stream[:8]} seq {seq}", facts={"stream": stream, "seq": seq})
        run = self._run(stream, seq)
        claims = self._read(step, run.batch, seq)
        step.facts["sid"] = run.sid(seq).hex()
        if claims is not None:
            step.said = f"{stream[:8]} seq {seq}, {claims.gateway} {claims.sub} {kind(claims)}"
            step.facts |= {"statement": claims.data.hex(), "kind": claims.kind, "said_ms": claims.instant.utc_ms}
            for words in words_of(claims):
                step.parts.append(Step("words", words, Mark.NOTED))
            step.parts.append(self._signature(claims, run.batch))
            step.parts.append(self._chain(claims, run))
        step.parts.append(_root(run, claims, seq))
        step.parts += self._batch(run.batch)
        return Found(step, claims)

    def _run(self, stream: str, seq: int) -> _Run:
        """The run that holds a place; its root is computed once."""
        known = self._runs.setdefault(stream, {})
        if seq not in known:
            answer = self._evidence.ask(MEASUREMENTS, "Sids", stream=stream, seq=seq)
            batch, together = answer["batch"], bytes.fromhex(answer["sids"])
            sids = [together[place : place + 32] for place in range(0, len(together), 32)]
            prev = bytes.fromhex(batch["prev"])
            root = runs.root_of(bytes.fromhex(stream), batch["first"], prev, sids).hex() if sids else ""
            holds = (root, len(sids), sids[-1:]) == (batch["root"], batch["count"], [bytes.fromhex(batch["head"])])
            if len(sids) != batch["count"]:
                raise Fault(
                    f"stream {stream} from seq {batch['first']}: {len(sids)} sids of {batch['count']} statements"
                )
            known |= dict.fromkeys(range(batch["first"], batch["first"] + batch["count"]), _Run(batch, sids, holds))
        return known[seq]

    def _read(self, step: Step, batch: Record, seq: int) -> Claims | None:
        """Its bytes, taken apart; ``step`` says why there are none."""
        try:
            said = self._held(batch, seq)
            if seq not in said:
                step.mark, step.reason = self._gone(batch)
                return None
            data = said[seq]
            if data is None:
                step.mark, step.reason = Mark.WITHHELD, "is about a meter that is not the caller's"
                return None
            claims = statements.parse(data)
        except Declined as declined:
            withheld = declined.reason is Reason.FORBIDDEN
            step.mark, step.reason = Mark.WITHHELD if withheld else Mark.FAILED, declined.words
            return None
        except (Malformed, Fault) as error:
            step.mark, step.reason = Mark.FAILED, str(error)
            return None
        here = (batch["gateway"], batch["stream"], seq)
        if (claims.gateway, claims.stream_id.hex(), claims.seq) != here:
            step.mark, step.reason = Mark.FAILED, f"is seq {claims.seq} of stream {claims.stream_id.hex()}"
        return claims

    def _held(self, batch: Record, seq: int) -> dict[int, bytes | None]:
        """What is here of a run's statements, by seq; None = not the caller's to see. A refusal is kept too."""
        place = (batch["stream"], batch["first"])
        if place not in self._said:
            if len(self._said) >= _MOST_RUNS:
                del self._said[next(iter(self._said))]
            try:
                given = self._evidence.ask(MEASUREMENTS, "Run", stream=batch["stream"], seq=seq)["statements"]
                self._said[place] = {number: said and bytes.fromhex(said) for number, said in given}
            except Declined as declined:
                self._said[place] = declined
        found = self._said[place]
        if isinstance(found, Declined):
            raise found
        return found

    def _gone(self, batch: Record) -> tuple[Mark, str]:
        """Why a statement is not here."""
        for purge in self.purges(batch["stream"], batch["first"]):
            who = f"{purge['name']} of {purge['organisation']}, {at(purge['time_ms'])}: {purge['why']}"
            of = [purge["sub"]] if "sub" in purge else []
            place = key("purged", batch["stream"], ordered(batch["first"]), *of)
            wrong = self.written(MEASUREMENTS, "", place, purge, purge["transaction"])
            if wrong.mark is Mark.FAILED:
                return Mark.FAILED, f"purged, but {wrong.reason}"
            return Mark.ERASED, f"purged by {who}"
        if self._evidence.expires:
            return Mark.ERASED, "is not held here (its time has run out, or this peer never had it)"
        return Mark.FAILED, "is missing, and no purge is recorded"

    # ---- who signed it

    def _signature(self, claims: Claims, batch: Record) -> Step:
        step, public_key = self._key_of(batch)
        if public_key is None:
            return Step("signature", "", Mark.FAILED, "no key is known that it could be checked with", parts=[step])
        made = Step("signature", f"ES256 by key {claims.key_id.hex()}", parts=[step])
        if not statements.verify_signature(claims, public_key):
            made.mark, made.reason = Mark.FAILED, "was not made with the gateway's key over these bytes"
        elif claims.key_id != key_id(public_key):
            made.mark, made.reason = Mark.FAILED, f"names another key than {key_id(public_key).hex()}"
        return made

    def _key_of(self, batch: Record) -> tuple[Step, ec.EllipticCurvePublicKey | None]:
        """The key of a batch: that of the genesis, or of the last rekey before it."""
        keys = [bytes.fromhex(spki) for spki in self._line(batch["stream"])["keys"]]
        ids = [key_id(_public_key(spki)).hex() for spki in keys]
        if batch["key_id"] not in ids:
            return Step("key", batch["key_id"], Mark.FAILED, "is none that the stream has had"), None
        number = ids.index(batch["key_id"])
        place = (batch["stream"], number)
        if place not in self._keys:
            self._keys[place] = self._certified(batch, number, keys, ids)
        return self._keys[place]

    def _certified(
        self, batch: Record, number: int, keys: Sequence[bytes], ids: Sequence[str]
    ) -> tuple[Step, ec.EllipticCurvePublicKey]:
        """A stream's key number ``number``: the statement that brought it, and the registry as it was then."""
        public_key = _public_key(keys[number])
        seq = self._begun(batch, ids[: number + 1]) - 1 if number else 0
        brought = self._run(batch["stream"], seq).batch
        what = "rekey" if number else "genesis"
        step = Step("key", f"of {batch['gateway']}, from the {what} at seq {seq}")
        claims = self._read(step, brought, seq)
        if claims is None:
            if step.mark is not Mark.FAILED:
                step.reason = f"its certificate: {step.reason}; the key is the one that the ledger has recorded"
            return step, public_key
        step.facts = {"certificate": claims.certificates[0].hex() if claims.certificates else None}
        if not statements.verify_signature(claims, self._signer_of(brought, number, public_key)):
            step.mark, step.reason = Mark.FAILED, f"the {what} is not signed as it should be"
            return step, public_key
        step.parts.append(self._registered(claims, brought, public_key, pinned=not number))
        return step, public_key

    def _signer_of(self, brought: Record, number: int, own: ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
        if not number:
            return own
        before = self._key_of(brought)[1]
        return own if before is None else before

    def _begun(self, batch: Record, ids: Sequence[str]) -> int:
        """First seq under the key that is last of ``ids``, found by halves: keys follow one another."""
        low, high = 0, int(batch["first"])
        while low < high:
            middle = (low + high) // 2
            (found,) = self._evidence.ask(MEASUREMENTS, "Batches", stream=batch["stream"], from_seq=middle, limit=1)
            if found["key_id"] in ids[:-1]:
                low = int(found["first"]) + int(found["count"])
            else:
                high = middle
        (found,) = self._evidence.ask(MEASUREMENTS, "Batches", stream=batch["stream"], from_seq=low, limit=1)
        return int(found["first"])

    def _registered(self, claims: Claims, brought: Record, public_key: ec.EllipticCurvePublicKey, pinned: bool) -> Step:
        """Whether the registry believed this certificate when it came."""
        gateway, then_ms = brought["gateway"], brought["time_ms"]
        step = Step("registered", f"{gateway}, {at(then_ms)}")
        try:
            entry: Record = self._evidence.ask(registry.NAME, "Gateway", gateway=gateway, at_ms=then_ms)
        except Declined as declined:
            step.mark, step.reason = Mark.FAILED, declined.words
            return step
        place = key("_versions", "gateway", gateway, ordered(entry["since_ms"]))
        step.parts.append(self.written(registry.NAME, "", place, entry, entry["by"]["transaction"]))
        reason = self._distrusted(claims, entry, then_ms, public_key, pinned)
        if reason:
            step.mark, step.reason = Mark.FAILED, reason
        return step

    def _distrusted(
        self, claims: Claims, entry: Record, then_ms: int, public_key: ec.EllipticCurvePublicKey, pinned: bool
    ) -> str:
        if entry["state"] != registry.ACTIVE:
            return f"{entry['gateway']} was {entry['state']}"
        leaf = _fingerprint(claims.certificates[0])
        if pinned and entry["certificate"] is not None and leaf not in self._pins(entry, then_ms):
            return f"the certificate {leaf[:16]} is not the one registered, {entry['certificate'][:16]}"
        roots = [
            x509.load_der_x509_certificate(bytes.fromhex(root["certificate"]))
            for root in self._roots(then_ms)
            if entry["root"] in (None, root["authority"])
        ]
        at_ms = claims.instant.utc_ms if claims.instant.clock in RELIABLE_CLOCKS else then_ms
        try:
            found = check_gateway(Trust(gateways=tuple(roots)), claims.certificates, entry["gateway"], at_ms)
        except Untrusted as error:
            return str(error)
        return "" if found == public_key else "the certificate is of another key"

    def _pins(self, entry: Record, then_ms: int) -> set[str]:
        """The certificate that the registry pinned, and those that rekeys had put in its place until then."""
        renewed = self._evidence.ask(MEASUREMENTS, "Pins", gateway=entry["gateway"])
        of_it = [pin for pin in renewed if pin["since_ms"] == entry["since_ms"] and pin["time_ms"] <= then_ms]
        return {entry["certificate"], *(pin["certificate"] for pin in of_it)}

    def _roots(self, at_ms: int) -> list[Record]:
        """The authorities of gateways that were believed then."""
        found = []
        for listed in self._evidence.ask(registry.NAME, "List", kind="authority"):
            try:
                then = self._evidence.ask(registry.NAME, "Authority", authority=listed["authority"], at_ms=at_ms)
            except Declined:
                continue  # not yet known then
            if then["state"] == registry.ACTIVE:
                found.append(then)
        return found

    # ---- where it lies

    def _chain(self, claims: Claims, run: _Run) -> Step:
        """That it names the statement before it, and that it is the one that the batch has at its place."""
        step = Step("chain", f"follows seq {claims.seq - 1}" if claims.seq else "begins its stream")
        if claims.sid != run.sid(claims.seq):
            step.mark = Mark.FAILED
            step.reason = f"another statement was committed there: {run.sid(claims.seq).hex()[:16]}"
            return step
        if not claims.seq:
            return step
        before = self._run(run.batch["stream"], claims.seq - 1)
        named = before.sid(claims.seq - 1)
        if not before.root:
            step.mark, step.reason = Mark.FAILED, "the statement before it is not in a root that was committed"
        elif claims.prev != named or (before is not run and run.batch["prev"] != named.hex()):
            step.mark, step.reason = Mark.FAILED, f"names another statement before it than {named.hex()[:16]}"
        return step

    def _batch(self, batch: Record) -> list[Step]:
        """What all statements of a batch have in common."""
        place = (batch["stream"], batch["first"])
        if place not in self._batches:
            name = key("batch", batch["stream"], ordered(batch["first"]))
            record = self.written(MEASUREMENTS, "", name, batch, batch["transaction"])
            record.what, record.facts = "record", {"batch": batch}
            self._batches[place] = [record, self._receipts(batch), self._block(batch)]
        return self._batches[place]

    def _receipts(self, batch: Record) -> Step:
        step = Step("receipts")
        kept = self._evidence.receipts(batch)
        more = self._receipts_of.get((bytes.fromhex(batch["stream"]), batch["first"]), ())
        if kept is None and not more:
            step.mark, step.reason = Mark.NOTED, "none are kept on this side"
            return step
        if kept is not None and not kept:
            step.mark, step.reason = Mark.FAILED, "the receipt of this batch is missing"
            return step
        named = (bytes.fromhex(batch[name]) for name in ("head", "root"))
        committed = _Committed(bytes.fromhex(batch["stream"]), batch["first"], batch["count"], *named)
        said = []
        every = list(dict.fromkeys((*(kept or ()), *more)))
        for data in every:
            try:
                receipt = receipts.check(data, batch["gateway"], committed, self._trust, None)
            except receipts.Rejected as error:
                step.mark, step.reason = Mark.FAILED, str(error)
                continue
            elsewhere = data in more and receipt.channel == CHANNEL  # another organisation's own embedded ledger
            if not elsewhere and receipt.transaction.hex() != batch["transaction"]:
                step.mark, step.reason = Mark.FAILED, f"{receipt.organisation}'s is of another transaction"
            said.append(f"{receipt.organisation}, block {receipt.block}, {at(receipt.issued_s * 1000)}")
        step.said = "; ".join(said)
        step.facts = {"receipts": [data.hex() for data in every]}
        return step

    def _block(self, batch: Record) -> Step:
        try:
            return Step("block", self._evidence.block(batch))
        except Fault as fault:
            return Step("block", "", Mark.FAILED, str(fault))

    def _line(self, stream: str) -> Record:
        if stream not in self._streams:
            self._streams[stream] = self._evidence.ask(MEASUREMENTS, "Stream", stream=stream)
        return self._streams[stream]

    def written(
        self, contract: str, collection: str, place: str, record: Mapping[str, Any] | list[Any], transaction: str
    ) -> Step:
        """Whether a record is, byte for byte, what its transaction has written."""
        step = Step("record", facts={"contract": contract, "key": place, "transaction": transaction})
        try:
            written = self._evidence.written(contract, collection, place, transaction)
        except Fault as fault:
            step.mark, step.reason, step.said = Mark.FAILED, str(fault), place
            return step
        kinds = [part for part in place.split("/") if not part.startswith("_")]
        step.said = f"{kinds[0]}, as {written.place} has written it"
        if written.digest != digest(record):
            step.mark, step.reason = Mark.FAILED, f"is not what {written.place} has written"
            step.said = place
        return step


def _root(run: _Run, claims: Claims | None, seq: int) -> Step:
    """That the sid, computed where the statement is there, is in the batch's root."""
    batch = run.batch
    step = Step("root", f"number {seq - batch['first'] + 1} of {batch['count']} in {batch['root'][:16]}")
    if not run.root or (claims is not None and claims.sid != run.sid(seq)):
        step.mark, step.reason = Mark.FAILED, "the statement is not in the root that was committed"
    return step


def _public_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    found = load_der_public_key(spki)
    if not isinstance(found, ec.EllipticCurvePublicKey):
        raise Fault("the ledger names a key that is none of a gateway")
    return found


def _fingerprint(certificate: bytes) -> str:
    return sha256(certificate).hexdigest()
