"""A community on a ledger in memory: organisations, members, and registers that a test writes as it likes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ledger.rules import registry, settlement
from ledger.rules.boundaries import Boundary, Change
from ledger.rules.record import pack, parse
from ledger.rules.world import Call, Caller, Contract, Declined, Reason, State
from tests.ledger.world import MemoryLedger

QUARTER = 900_000
HOUR = 4 * QUARTER
START = int(datetime(2026, 11, 2, 11, tzinfo=UTC).timestamp()) * 1000
"""A Monday at noon, winter time."""

REGISTRAR = Caller("CommunityMSP", "ana", {"aigeco.role": "registrar"})
SETTLER = Caller("CommunityMSP", "sol", {"aigeco.role": "settler"})
ERASER = Caller("CommunityMSP", "ana", {"aigeco.role": "eraser"})
GRID = Caller("GridMSP", "luis", {"aigeco.role": "settler"})
AUDITOR = Caller("AuditMSP", "eva", {"aigeco.role": "auditor"})
POOL = Caller("PoolMSP", "pau", {"aigeco.role": "aggregator"})
SALT = bytes(range(16)).hex()
FOUNDING = {
    "CommunityMSP": ["manager", "metering"],
    "GridMSP": ["distributor", "metering"],
    "AuditMSP": ["auditor", "metering"],
    "PoolMSP": ["aggregator"],
}


def member(name: str, organisation: str = "CommunityMSP") -> Caller:
    """A member's own certificate."""
    return Caller(organisation, f"{name}-phone", {"aigeco.member": name})


class Registers:
    """What meters showed: the contract ``measurements`` as settlement sees it, without a statement behind it."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str], list[Boundary]] = {}
        self.changes: dict[tuple[str, str], list[Change]] = {}

    def show(self, gateway: str, sub: str, at_ms: int, imported: int | None, exported: int = 0, **more: int) -> None:
        registers = [None if wh is None else (wh, 0) for wh in (imported, exported)]
        seq = at_ms // QUARTER
        there = Boundary(at_ms, bytes(16), seq, more.get("status", 0), more.get("quality", 0), *registers)
        self.at.setdefault((gateway, sub), []).append(there)

    def contract(self) -> Contract:
        return Contract("measurements", {"Boundaries": self._boundaries})

    def _boundaries(self, state: State, call: Call) -> bytes:
        given = call.record()
        wanted = range(given["from_ms"], given["until_ms"] + 1)
        points = []
        for gateway, sub in given["points"]:
            at = [there.pack() for there in self.at.get((gateway, sub), []) if there.at_ms in wanted]
            changes = [there.pack() for there in self.changes.get((gateway, sub), []) if there.at_ms in wanted]
            points.append({"gateway": gateway, "sub": sub, "at": at, "change": changes, "salt": f"of {sub}"})
        return pack({"points": points})


class Community:
    """A group with a roof and members a, b, c..., settled by quarter hours unless it is said otherwise."""

    def __init__(
        self, coefficients: dict[str, int], *more: Contract, period_ms: int = QUARTER, from_ms: int = START
    ) -> None:
        self.registers = Registers()
        contracts = (registry.CONTRACT, self.registers.contract(), settlement.CONTRACT, *more)
        self.ledger = MemoryLedger(*contracts, time_ms=START)
        self.commit("Found", "registry", REGISTRAR, organisations=FOUNDING)
        self.commit("CreateGroup", group="g", zone="peninsula", period_ms=period_ms)
        for name in coefficients:
            self.commit("SetMember", group="g", member=name, organisation="CommunityMSP")
            self.point(f"{name}-home", name, from_ms)
        self.point("roof", None, from_ms)
        self.names = sorted(coefficients)

    def point(self, point: str, owner: str | None, from_ms: int = START, sub: str | None = None) -> Any:
        kind = {"kind": "consumption", "member": owner} if owner else {"kind": "generation"}
        place = {"gateway": "gw", "sub": sub or point, "from_ms": from_ms}
        return self.commit("AddPoint", group="g", point=point, **kind, **place)

    def agree(self, members: object, kind: str = "fixed", from_ms: int = START) -> Any:
        return self.commit("Agree", group="g", from_ms=from_ms, kind=kind, members=members)

    def settle(self, first_ms: int = START, count: int = 1) -> Any:
        return self.commit("Settle", group="g", first_ms=first_ms, count=count)

    def commit(self, function: str, contract: str = "sharing", caller: Caller = SETTLER, **given: object) -> Any:
        self.ledger.time_ms += 1000
        secret = {}
        if function == "PutHours" or (function == "Agree" and given["kind"] != "hourly"):
            name = "rows" if function == "PutHours" else "members"
            secret["coefficients"] = {name: given.pop(name), "salt": SALT}
        return parse(self.ledger.commit(contract, function, given, caller, secret))

    def ask(self, function: str, contract: str = "sharing", caller: Caller = SETTLER, **given: object) -> Any:
        return parse(self.ledger.evaluate(contract, function, given, caller))

    def show(self, at_ms: int, roof: int | None, homes: Sequence[int | None]) -> None:
        """What the meters show at a boundary: the roof's export, the homes' import; None = nothing was said."""
        if roof is not None:
            self.registers.show("gw", "roof", at_ms, 0, roof)
        for name, wh in zip(self.names, homes, strict=True):
            if wh is not None:
                self.registers.show("gw", f"{name}-home", at_ms, wh)

    def declined(self, function: str, contract: str = "sharing", caller: Caller = SETTLER, **given: object) -> Declined:
        """The call is declined, and nothing is changed."""
        before = {name: dict(store) for name, store in self.ledger.stores.items()}
        try:
            self.commit(function, contract, caller, **given)
        except Declined as declined:
            assert self.ledger.stores == before, "a declined call changed something"
            return declined
        raise AssertionError(f"{function} was not declined")

    def declines(self, reason: Reason, words: str, function: str, **given: Any) -> None:
        declined = self.declined(function, **given)
        assert declined.reason is reason, declined
        assert words in declined.words, declined
