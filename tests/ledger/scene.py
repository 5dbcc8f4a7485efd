"""A community in which everything there is has happened once, on any ledger, for tests of what must not happen.

Every number that concerns somebody is one that nothing else is, so that it is found wherever it turns up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from drivers.reading import Reading, exact
from ledger.rules.record import pack, parse
from ledger.rules.world import Caller, Declined, Reason
from signer.batch import Batch
from signer.chain import Descriptor
from tests.ledger.lines import START_MS, Line, World, der, instant

QUARTER = 900_000
FIRST = START_MS - START_MS % QUARTER + QUARTER
"""The period that is settled."""
LATER = 4_102_444_800_000
"""1 January 2100: what members agree on begins in the future, also on a network with a clock."""

COMMUNITY, DISTRIBUTOR, AUDIT, AGGREGATOR = "CommunityMSP", "DistributorMSP", "AuditorMSP", "AggregatorMSP"
FOUNDING = {
    COMMUNITY: ["manager", "metering"],
    DISTRIBUTOR: ["distributor", "metering"],
    AUDIT: ["auditor", "metering"],
    AGGREGATOR: ["aggregator"],
}


def person(organisation: str, name: str, role: str = "", member: str = "") -> Caller:
    attributes = {"aigeco.role": role, "aigeco.member": member}
    return Caller(organisation, name, {name: value for name, value in attributes.items() if value})


def member(name: str, organisation: str = COMMUNITY) -> Caller:
    return person(organisation, f"phone-{name}", member=name)


REGISTRAR = person(COMMUNITY, "ana", "registrar")
SETTLER = person(COMMUNITY, "sol", "settler")
INGESTION = person(COMMUNITY, "ines", "ingestion")
ERASER = person(COMMUNITY, "eva", "eraser")
ISSUER = person(AUDIT, "isa", "issuer auditor")
EVERY_ROLE = "aggregator auditor eraser ingestion installer issuer registrar settler"

SALT = bytes(range(16)).hex()
COEFFICIENTS = {"a": 357_913, "b": 123_457, "c": 218_630, "d": 150_001, "e": 149_999}
SMALL = {"x": 612_347, "y": 387_653}
TERMS = {"limit_wh": 654_321, "price": 123_987, "salt": SALT}
WORDS = "the meter in the cellar was read by nobody"
ORDER = {"group": "g", "seller": "b", "buyer": "c", "from_ms": LATER}
ROOF_WH, SHED_WH = 188_888_887, 91_234_561

GROUPS = {"g": (COEFFICIENTS, "roof"), "h": (SMALL, "shed")}


class Ledger(Protocol):
    """What the scene is played on: ``tests.ledger.world.MemoryLedger`` and its like."""

    time_ms: int

    def commit(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes: ...

    def evaluate(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes: ...


@dataclass
class Scene:
    """The community on a ledger.

    Attributes:
        chain: arguments and answers of every call that was committed: what a network's blocks hold besides state.
        registers: of each measuring point, at the beginning and the end of the period.
    """

    ledger: Ledger
    world: World = field(default_factory=World)
    chain: list[bytes] = field(default_factory=list)
    registers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.line: Line = self.world.line().begin()
        self._found()
        self._measure()
        for group in GROUPS:
            self._share(group)
        self.exchange()
        self._certify()

    def do(
        self,
        contract: str,
        function: str,
        caller: Caller = SETTLER,
        secret: Mapping[str, bytes | dict[str, Any]] | None = None,
        **given: Any,
    ) -> Any:
        """Commit a call."""
        self.ledger.time_ms += 1000
        answer = self.ledger.commit(contract, function, given, caller, secret)
        self.chain += [pack(given), answer]
        return parse(answer)

    def ask(self, contract: str, function: str, caller: Caller = SETTLER, **given: Any) -> Any:
        return parse(self.ledger.evaluate(contract, function, given, caller))

    @property
    def stream(self) -> str:
        assert self.line.chain.head is not None
        return self.line.chain.head.stream.hex()

    # ---- what happens

    def _found(self) -> None:
        try:
            self.do("registry", "Found", REGISTRAR, organisations=FOUNDING)
        except Declined as declined:
            if declined.reason is not Reason.EXISTS:  # a network is founded when it comes up
                raise
            self._complete()
        for root in self.world.trust.gateways:
            self.do("registry", "SetAuthority", REGISTRAR, certificate=der(root).hex())
        self.do("registry", "RegisterGateway", REGISTRAR, gateway="alpha", owner=COMMUNITY)
        for name in (*COEFFICIENTS, *SMALL):
            facts = {"model": "em340", "serial": f"SN-9876543{name}", "place": f"p-{name}", "role": "consumption"}
            self.do("registry", "RegisterMeter", REGISTRAR, meter=f"m-{name}", owner=name, **facts)
            place = {"gateway": "alpha", "sub": f"{name}-home", "from_ms": FIRST - QUARTER}
            self.do("registry", "AssignMeter", REGISTRAR, meter=f"m-{name}", **place)

    def _complete(self) -> None:
        """The organisations that a ledger was not founded with."""
        known = {record["organisation"] for record in self.ask("registry", "List", kind="organisation")}
        for name in FOUNDING.keys() - known:
            self.do("registry", "SetOrganisation", REGISTRAR, organisation=name, roles=FOUNDING[name])

    def _measure(self) -> None:
        for number, (coefficients, roof) in enumerate(GROUPS.values()):
            self.registers[roof] = (8_123_456_789_012 + number * 98_765_432_101,) * 2
            self.registers[roof] = (self.registers[roof][0], self.registers[roof][0] + (ROOF_WH, SHED_WH)[number])
            for place, name in enumerate(coefficients):
                start = 5_432_109_876_543 + number * 76_543_210_981 + place * 137_035_999_084
                self.registers[f"{name}-home"] = (start, start + 31_415_926 + place * 2_718_281 + number * 9_876_543)
        for sub in self.registers:
            about = Descriptor(QUARTER, bytes(32), "em340", 2, f"SN-{sub}")
            self.line.statements.append(self.line.chain.descriptor(sub, instant(FIRST - 1000), about))
        for at in (0, 1):
            for sub, wh in self.registers.items():
                at_ms, obis = FIRST + at * QUARTER, 520 if sub in ("roof", "shed") else 264
                reading = Reading(sub, at_ms, None, ((obis, exact(wh[at], 0)),), 40)
                self.line.statements.append(self.line.chain.reading(reading, instant(at_ms + 40)))
        half = len(self.line.statements) // 2 + 1
        for batch in (self.line.batch(0, half), self.line.rest(half)):
            assert self.send(batch)["outcome"] == "committed"

    def send(self, batch: Batch | bytes, gateway: str = "alpha", caller: Caller = INGESTION) -> Any:
        data = batch if isinstance(batch, bytes) else batch.data
        return self.do("measurements", "SubmitBatch", caller, {"batch": data}, gateway=gateway)

    def _share(self, group: str) -> None:
        coefficients, roof = GROUPS[group]
        self.do("sharing", "CreateGroup", group=group, zone="peninsula", period_ms=QUARTER)
        self.point(group, roof, kind="generation")
        for name in coefficients:
            self.do("sharing", "SetMember", group=group, member=name, organisation=COMMUNITY)
            self.point(group, f"{name}-home", kind="consumption", member=name)
        secret: dict[str, Any] = {"coefficients": {"members": coefficients, "salt": SALT}}
        self.do("sharing", "Agree", SETTLER, secret, group=group, from_ms=FIRST, kind="fixed")
        run = self.do("sharing", "Settle", group=group, first_ms=FIRST, count=1)
        assert run["periods"]["settled"] == 1

    def point(self, group: str, point: str, **more: Any) -> Any:
        return self.do(
            "sharing", "AddPoint", group=group, point=point, gateway="alpha", sub=point, from_ms=FIRST, **more
        )

    def exchange(self) -> None:
        self.do("exchanges", "Offer", member("b"), {"terms": TERMS}, **ORDER)
        self.do("exchanges", "Accept", member("c"), {"terms": TERMS}, **ORDER)
        self.do("exchanges", "Record", group="g", first_ms=FIRST)
        secret = {"words": {"words": WORDS, "salt": SALT}}
        raised = self.do("exchanges", "Dispute", member("c"), secret, group="g", first_ms=FIRST, member="c")
        self.dispute: str = raised["dispute"]

    def _certify(self) -> None:
        owner = {"organisation": COMMUNITY, "member": "a"}
        self.do("origin", "RegisterDevice", ISSUER, device="pv", gateway="alpha", sub="roof", from_ms=FIRST, **owner)
        self.do("origin", "Issue", ISSUER, device="pv", until_ms=FIRST + QUARTER)

    # ---- what is true

    def truth(self) -> dict[str, set[int]]:
        """The numbers of each kind that are of no other kind; registers apart."""
        found: dict[str, set[int]] = {}

        def add(kind: str, record: object) -> None:
            found.setdefault(kind, set()).update(number for number in _numbers(record) if number > 100_000)

        for group, names in (("g", COEFFICIENTS), ("h", SMALL)):
            results = self.ask("sharing", "Results", group=group, first_ms=FIRST)["members"]
            for name in names:
                add(_whose("results", name), results[name])
                add(_whose("coefficient", name), names[name])
            kind = "totals of five members" if group == "g" else "totals of two members"
            columns = ("consumed", "self_consumed", "surplus", "from_grid")
            add(kind, [sum(results[name][column][0] for name in names) for column in columns])
        transfers = self.ask("exchanges", "Transfers", group="g", first_ms=FIRST)["members"]
        for name in COEFFICIENTS:
            add(_whose("transfers", name), transfers[name])
        add("terms of an order", [TERMS["limit_wh"], TERMS["price"]])
        kwh, rest = divmod(ROOF_WH, 1000)
        add("guarantees of origin", kwh)
        assert rest
        return {kind: own - set().union(*(found[k] for k in found if k != kind)) for kind, own in found.items()}


def _whose(what: str, name: str) -> str:
    return f"{what} of {'A' if name == 'a' else 'others'}"


def _numbers(record: object) -> list[int]:
    if isinstance(record, bool):
        return []
    if isinstance(record, int):
        return [record]
    items = record.values() if isinstance(record, dict) else record if isinstance(record, list) else ()
    return [number for item in items for number in _numbers(item)]
