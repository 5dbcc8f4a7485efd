"""What a ledger keeps of one member, as a folder that the member carries away and verifies: ``aigeco verify FOLDER``.

Exported evidence as a gateway writes it (docs/format.md), and ``member.json`` beside it. Signs and judges nothing.

Rules
- Verbatim are the statements about the member's measuring points in their time, the descriptors of these points, and
  what a gateway says of itself: certificates, boots, gaps. Of everything else there is the sid, which tells nothing and
  keeps the chain whole: so no other member's data are shown.
- A stream is there from its genesis, which has the key, to the last run with something of the member's.
- ``member.json``: results with their sources, transfers, coefficients, orders, disputes, guarantees, meters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger import erasure
from ledger.embedded import LedgerFile
from ledger.erasure import Point
from ledger.rules import batches, exchanges, groups, hours, origin, registry, settlement
from ledger.rules.record import Record, parse
from ledger.rules.world import Declined, Reason
from signer import bundle, statement
from signer.codes import Kind
from signer.grammar import OF_THE_GATEWAY
from signer.statement import Claims
from signer.trust import Trust

MEMBER = "member.json"
_DAY_MS = 24 * hours.HOUR_MS


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        statements: verbatim.
        pruned: known by their sid.
        results: stretches with a part of the member's, every version.
    """

    folder: Path
    streams: int
    statements: int
    pruned: int
    receipts: int
    results: int


class _Asking:
    """The contracts of a file that is open, as :class:`ledger.calling.Contracts`; asks only."""

    def __init__(self, file: LedgerFile, member: str) -> None:
        self.organisation, self._file, self._member = file.organisation, file, member

    def ask(self, contract: str, function: str, arguments: Any, secrets: Any = None) -> bytes:
        return self._file.operator.ask(contract, function, arguments, secrets, self._member)

    def call(self, contract: str, function: str, arguments: Any, secrets: Any = None) -> bytes:
        raise NotImplementedError("an export writes nothing")

    def close(self) -> None: ...


def export(
    file: LedgerFile, folder: Path, member: str, group: str | None, from_ms: int, until_ms: int, trust: Trust
) -> Exported:
    """Write what is kept of ``member`` from ``from_ms`` to before ``until_ms`` into a new or empty folder.

    Raises:
        BundleProblem: it cannot be written.
        Declined: there is no such group or member.
    """
    asking, writer = _Asking(file, member), bundle.Writer(folder)
    points = erasure.of_member(asking, member, group, from_ms, until_ms)
    streams = _Streams(file, asking, points)
    for stream in streams.found:
        writer.add_stream(streams.gateway[stream], bytes.fromhex(stream), streams.own(stream), streams.others(stream))
    places = [(bytes.fromhex(stream), run["first"]) for stream in streams.found for run in streams.runs(stream)]
    receipts = [receipt for place in places if (receipt := file.receipt(*place)) is not None]
    writer.add_receipts(receipts)
    told = _told(asking, member, group, from_ms, until_ms)
    text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / MEMBER).write_text(f"{text}\n")
    writer.finish(trust)
    counted = (len(streams.found), streams.statements, streams.pruned, len(receipts), len(told["results"]))
    return Exported(folder, *counted)


class _Streams:
    """The streams with something about these points, and what is shown of each."""

    def __init__(self, file: LedgerFile, asking: _Asking, points: Sequence[Point]) -> None:
        self._file, self._asking, self._points = file, asking, points
        self._last: dict[str, int] = {}
        self.gateway: dict[str, str] = {}
        self.statements = self.pruned = 0
        for point in points:
            for stream, first in erasure.runs(asking, point):
                self._last[stream] = max(first, self._last.get(stream, 0))
                self.gateway[stream] = point.gateway
        # An older stream of a gateway comes before the one that follows it.
        self.found = [stream.stream.hex() for stream in file.streams() if stream.stream.hex() in self._last]

    def runs(self, stream: str) -> Iterator[Record]:
        """From the genesis on."""
        last = self._last[stream]
        return (run for run in erasure.runs_of(self._asking, stream) if run["first"] <= last)

    def own(self, stream: str) -> Iterator[tuple[int, bytes]]:
        for run in self.runs(stream):
            for claim in self._shown(stream, run):
                self.statements += 1
                yield claim.seq, claim.data

    def others(self, stream: str) -> Iterator[tuple[int, bytes]]:
        for run in self.runs(stream):
            shown = {claim.seq for claim in self._shown(stream, run)}
            sids = self._file.sids(bytes.fromhex(stream), run["first"], run["count"])
            for seq, sid in enumerate(sids, run["first"]):
                if seq not in shown:
                    self.pruned += 1
                    yield seq, sid

    def _shown(self, stream: str, run: Record) -> list[Claims]:
        given = {"stream": stream, "from_seq": run["first"], "limit": run["count"]}
        page = parse(self._asking.ask(batches.NAME, "Statements", given))["statements"]
        claims = (statement.parse(bytes.fromhex(said)) for _, said in page)
        return [claim for claim in claims if self._concerns(claim)]

    def _concerns(self, claim: Claims) -> bool:
        if claim.sub == OF_THE_GATEWAY:
            return True
        own = [point for point in self._points if (point.gateway, point.sub) == (claim.gateway, claim.sub)]
        at_ms = claim.instant.utc_ms
        return any(claim.kind == Kind.DESCRIPTOR or point.from_ms <= at_ms < point.until_ms for point in own)


def _day(at_ms: int, zone: str) -> tuple[int, int]:
    """Year, and day of the year from 0, as coefficients of hours are kept."""
    year, hour = hours.hour_of_year(at_ms - at_ms % hours.HOUR_MS, zone)
    return year, (hour - 1) // 24


def _told(asking: _Asking, member: str, group: str | None, from_ms: int, until_ms: int) -> dict[str, Any]:
    """What contracts know of the member besides statements."""

    def ask(contract: str, function: str, **given: Any) -> Any:
        return parse(asking.ask(contract, function, given))

    def try_to(contract: str, function: str, **given: Any) -> Any:
        """None where there is nothing, or nothing any more."""
        try:
            return ask(contract, function, **given)
        except Declined as declined:
            if declined.reason in (Reason.UNKNOWN, Reason.NOT_YET):
                return None
            raise

    told: dict[str, Any] = {"member": member, "group": group, "from_ms": from_ms, "until_ms": until_ms, "results": []}
    meters = erasure.owned(asking, member)
    told["meters"] = [ask(registry.NAME, "History", kind="meter", name=meter) for meter in meters]
    told["guarantees"] = ask(origin.NAME, "Lots", organisation=asking.organisation, member=member)
    if group is None:
        return told
    ours: dict[str, Any] = {"group": group}
    points = [each["point"] for each in ask(settlement.NAME, "Points", **ours) if each["member"] == member]
    for last in ask(settlement.NAME, "Runs", **ours, from_ms=from_ms, until_ms=until_ms):
        stretch = {**ours, "first_ms": last["first_ms"]}
        for version in range(1, last["version"] + 1) if member in last["members"] else ():
            which = {**stretch, "version": version}
            results = try_to(settlement.NAME, "Results", **which, member=member)
            sources = [try_to(settlement.NAME, "Source", **which, point=point) for point in points]
            told["results"].append({"results": results, "sources": [each for each in sources if each], **which})
        transfers = try_to(exchanges.NAME, "Transfers", **stretch, member=member)
        disputes = try_to(exchanges.NAME, "Disputes", **stretch) or []
        told.setdefault("transfers", []).extend([transfers] if transfers else [])
        told.setdefault("disputes", []).extend(each for each in disputes if each["member"] == member)
    zone = ask(settlement.NAME, "Group", **ours)["zone"]
    days = sorted({_day(at_ms, zone) for at_ms in (*range(from_ms, until_ms, _DAY_MS), until_ms - 1)})
    told["coefficients"] = []
    for each in ask(settlement.NAME, "Agreements", **ours):
        hourly = each["kind"] == groups.HOURLY
        for when in [{"year": year, "day": day} for year, day in days] if hourly else [{}]:
            of = {**ours, "from_ms": each["from_ms"], "member": member, **when}
            share = try_to(settlement.NAME, "Coefficients", **of)
            told["coefficients"] += [{**share, **when}] if share else []
    orders = ask(exchanges.NAME, "Orders", **ours)
    told["orders"] = [each for each in orders if member in (each["seller"], each["buyer"])]
    for contract in (settlement.NAME, exchanges.NAME):
        erased = [each for each in ask(contract, "Erased", **ours) if each["member"] == member]
        told.setdefault("erased", []).extend({"contract": contract, **each} for each in erased)
    return told
