"""Contract ``measurements``: the scenarios of every ledger, what is found again by whom, what a purge leaves."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.reading import Reading, exact
from ledger.rules import batches as contract
from ledger.rules import registry
from ledger.rules.boundaries import unpack as unpack_boundary
from ledger.rules.boundaries import unpack_change
from ledger.rules.record import parse
from ledger.rules.world import Caller, Contract, Declined, Reason
from signer import batch as batches
from signer.batch import Batch
from signer.dialogue import RefusalReason
from signer.errors import Malformed
from signer.statement import parse as parse_statement
from tests.ledger.lines import START_MS, Line, World, der, instant
from tests.ledger.scenarios import MALFORMED, SCENARIOS, Register, Scenario, Send
from tests.ledger.world import MemoryLedger

QUARTER_MS = 15 * 60 * 1000
REGISTRAR = Caller("CommunityMSP", "ana", {"aigeco.role": "registrar"})
INGESTION = Caller("CommunityMSP", "peer0", {"aigeco.role": "ingestion"})
AUDITOR = Caller("AuditMSP", "eva", {"aigeco.role": "auditor"})
ERASER = Caller("CommunityMSP", "ana", {"aigeco.role": "eraser"})
MEMBER = Caller("CommunityMSP", "maria", {"aigeco.member": "member-1"})
NEIGHBOUR = Caller("CommunityMSP", "joan", {"aigeco.member": "member-2"})


class Place:
    """A registry and measurements on one ledger in memory."""

    def __init__(self, world: World, *more: Contract, every: bool = True) -> None:
        self.world = world
        self.ledger = MemoryLedger(registry.CONTRACT, contract.contract(every), *more, time_ms=START_MS)
        organisations = {
            "CommunityMSP": ["manager", "metering"],
            "AuditMSP": ["auditor", "metering"],
            "PoolMSP": ["aggregator"],
        }
        roots = [der(root).hex() for root in world.trust.gateways]
        self.registry("Found", organisations=organisations, authorities=roots)

    def registry(self, function: str, **arguments: object) -> Any:
        self.ledger.time_ms += 1
        return parse(self.ledger.commit("registry", function, arguments, REGISTRAR))

    def register(self, step: Register) -> None:
        gateway = step.gateway
        if gateway.revoked:
            self.registry("RevokeGateway", gateway=gateway.gateway, why="test")
            return
        pins = {"root": gateway.root, "certificate": gateway.certificate}
        given = {name: pin.hex() for name, pin in pins.items() if pin}
        self.registry("RegisterGateway", gateway=gateway.gateway, owner="CommunityMSP", **given)

    def send(self, batch: Batch | bytes, publisher: str = "alpha", caller: Caller = INGESTION) -> Any:
        data = batch if isinstance(batch, bytes) else batch.data
        return parse(self.ledger.commit("measurements", "SubmitBatch", {"gateway": publisher}, caller, {"batch": data}))

    def ask(self, function: str, caller: Caller = AUDITOR, **arguments: object) -> Any:
        return parse(self.ledger.evaluate("measurements", function, arguments, caller))

    def state(self) -> dict[tuple[str, str], dict[str, bytes]]:
        return {name: dict(store) for name, store in self.ledger.stores.items()}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def place(world: World) -> Place:
    made = Place(world)
    made.registry("RegisterGateway", gateway="alpha", owner="CommunityMSP")
    return made


def quarters(line: Line, count: int, sub: str = "main", first: int = 0) -> Line:
    """Sign a reading every five minutes, three of them a quarter hour."""
    for number in range(first * 3, (first + count) * 3):
        slot_ms = START_MS + number * QUARTER_MS // 3
        values = ((264, exact(1000 + 7 * number, 0)), (520, exact(50 + number, 1)))
        line.statements.append(line.chain.reading(Reading(sub, slot_ms, None, values, 40), instant(slot_ms + 40)))
    return line


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Scenario, world: World) -> None:
    place = Place(world)
    for number, step in enumerate(scenario(world)):
        if isinstance(step, Register):
            place.register(step)
        else:
            _check(place, step, f"step {number}")


def _check(place: Place, step: Send, where: str) -> None:
    before = place.state()
    if step.answer == MALFORMED:
        with pytest.raises(Declined, match="malformed"):
            place.send(step.data, step.publisher)
        assert place.state() == before, f"{where}: changed something"
        return
    said = place.send(step.data, step.publisher)
    if said["outcome"] != "refused":
        expected = {"committed": "accepted", "exists": "exists"}[said["outcome"]]
        assert expected == step.answer, where
    else:
        assert (said["reason"], said["seq"]) == (step.answer, step.last), f"{where}: {said['words']}"
        stream = batches.parse(step.data)[0].stream
        forks = place.ask("Forks", stream=stream.hex())
        assert (step.fork is None) or any(fork["seq"] == step.fork for fork in forks), where
        assert step.fork is not None or place.state() == before, f"{where}: changed something"
    if step.answer == "exists":
        assert place.state() == before, f"{where}: changed something"


def test_only_ingestion_of_a_metering_organisation_hands_over_batches(place: Place, world: World) -> None:
    line = world.line("alpha").begin()
    for caller, words in (
        (AUDITOR, "no certificate with the attribute aigeco.role = ingestion"),
        (
            Caller("PoolMSP", "x", {"aigeco.role": "ingestion"}),
            "PoolMSP is no organisation here with the role metering",
        ),
        (Caller("OtherMSP", "x", {"aigeco.role": "ingestion"}), "OtherMSP is no organisation here"),
    ):
        with pytest.raises(Declined, match=words):
            place.send(line.rest(0), caller=caller)
    with pytest.raises(Declined, match="batch is missing in the transient map"):
        place.ledger.commit("measurements", "SubmitBatch", {"gateway": "alpha"}, INGESTION)
    assert place.send(line.rest(0))["outcome"] == "committed"


def together(place: Place, sent: dict[str, Batch], **more: object) -> Any:
    """Several batches in one transaction."""
    secret = {f"batch-{number}": batch.data for number, batch in enumerate(sent.values())}
    given = {"gateways": list(sent), **more}
    return parse(place.ledger.commit("measurements", "SubmitBatch", given, INGESTION, secret))


def test_batches_of_several_gateways_are_each_judged_on_their_own(place: Place, world: World) -> None:
    place.registry("RegisterGateway", gateway="beta", owner="AuditMSP")
    place.registry("RegisterGateway", gateway="gamma", owner="CommunityMSP")
    alpha, beta, gamma = (world.line(name).begin().grow(4) for name in ("alpha", "beta", "gamma"))
    twin = gamma.clone()
    place.send(gamma.batch(0, 5), "gamma")
    said = together(place, {"alpha": alpha.batch(0, 5), "beta": beta.batch(1, 4), "gamma": gamma.batch(0, 5)})
    assert [each["outcome"] for each in said] == ["committed", "refused", "exists"]
    assert said[1]["reason"] == RefusalReason.OUT_OF_ORDER
    gamma.grow(1)
    twin.grow(1)
    place.send(gamma.batch(5, 1), "gamma")
    said = together(place, {"beta": beta.batch(0, 5), "gamma": twin.batch(5, 1)})
    assert [each["outcome"] for each in said] == ["committed", "refused"]
    name, payload = place.ledger.events[-1]
    told = parse(payload)
    assert (name, [run["gateway"] for run in told["committed"]], len(told["forks"])) == ("batches", ["beta"], 1)
    assert place.ask("Statements", stream=alpha.batch(0, 1).stream.hex())["statements"][4][0] == 4
    before = place.state()
    for sent, more, words in (
        ({}, {}, "a list of 1 to 256"),
        ({"alpha": alpha.batch(0, 5)}, {"gateway": "alpha"}, "no argument here"),
        ({"alpha": alpha.batch(0, 5)}, {"gateways": ["alpha", "beta"]}, "batch-1 is missing"),
        ({"alpha": alpha.batch(0, 5)}, {"gateways": ["alpha", "alpha"]}, "there twice"),
    ):
        with pytest.raises(Declined, match=words):
            together(place, sent, **more)
    assert place.state() == before


def test_an_event_tells_where_a_stream_stands_and_which_keys_it_has(place: Place, world: World) -> None:
    line = world.line("alpha").begin().grow(2).rekey().grow(2)
    place.send(line.batch(0, 4))
    place.send(line.batch(4, 2))
    first, second = (parse(payload)["committed"][0] for _, payload in place.ledger.events[-2:])
    stream = place.ask("Stream", stream=first["stream"])
    assert (second["first"], second["count"], second["head"]) == (4, 2, stream["head"])
    assert [seq for seq, _ in first["keys"]] == [0, 4]
    assert (first["keys"][1][1], second["keys"]) == (stream["key"], [])


def test_what_batches_are_judged_by(place: Place, world: World) -> None:
    said = place.ask("Terms", gateway="alpha")
    entry = {"gateway": "alpha", "owner": "CommunityMSP", "revoked": False, "root": None, "certificate": None}
    assert said["gateway"] == entry
    assert set(said["authorities"]) == {der(root).hex() for root in world.trust.gateways}
    place.registry("RevokeGateway", gateway="alpha", why="test")
    assert place.ask("Terms", gateway="alpha")["gateway"]["revoked"]
    assert place.ask("Terms", gateway="nobody")["gateway"] is None


def test_a_revoked_root_begins_no_stream(place: Place, world: World) -> None:
    for root in world.trust.gateways:
        place.registry("SetAuthority", certificate=der(root).hex(), state="revoked")
    said = place.send(world.line("alpha").begin().rest(0))
    assert (said["outcome"], said["reason"]) == ("refused", 4)
    assert "the certificate in the genesis" in said["words"]


def test_statements_are_found_by_stream_in_pages(place: Place, world: World) -> None:
    line = world.line("alpha").begin().grow(24)
    for first, count in ((0, 1), (1, 9), (10, 15)):
        place.send(line.batch(first, count))
    assert line.chain.head is not None
    stream = line.chain.head.stream.hex()
    found: list[list[Any]] = []
    at = 0
    while at is not None:
        page = place.ask("Statements", stream=stream, from_seq=at, limit=7)
        found += page["statements"]
        at = page["next"]
    assert found == [[number, said.data.hex()] for number, said in enumerate(line.statements)]
    assert [run["first"] for run in place.ask("Batches", stream=stream, limit=2)] == [0, 1]
    assert [run["first"] for run in place.ask("Batches", stream=stream, from_seq=2)] == [10]
    assert place.ask("Streams", gateway="alpha") == [stream]
    assert place.ask("Stream", stream=stream)["seq"] == 24
    receipt = place.ask("Receipt", caller=NEIGHBOUR, stream=stream, first=10, nonce="ab" * 16)
    assert receipt["batch"]["root"] == line.batch(10, 15).root.hex()
    assert receipt["nonce"] == "ab" * 16


def test_statements_are_found_by_time_across_days_and_streams(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 4 * 26)
    for first in range(0, len(line.statements), 100):
        place.send(line.rest(first) if first + 100 > len(line.statements) else line.batch(first, 100))
    from_ms, until_ms = START_MS + 3_600_000, START_MS + 25 * 3_600_000
    found: list[int] = []
    after: object = None
    while True:
        page = place.ask(
            "StatementsAt",
            gateway="alpha",
            from_ms=from_ms,
            until_ms=until_ms,
            limit=90,
            **({"after": after} if after else {}),
        )
        found += [seq for _, seq, _ in page["statements"]]
        after = page["after"]
        if after is None:
            break
    said = [parse_statement(made.data) for made in line.statements]
    expected = [claim.seq for claim in said if from_ms <= claim.instant.utc_ms < until_ms]
    assert sorted(found) == expected
    assert len(found) == len(expected), "something came twice"


def test_boundaries_are_the_registers_at_quarter_hours(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 5)
    line.statements.append(line.chain.reading(Reading("main", START_MS + 5 * QUARTER_MS, 2), instant(START_MS)))
    old, new = ((264, exact(99, 0)),), ((264, exact(1, 0)), (520, exact(0, 0)))
    line.statements.append(line.chain.exchange("main", instant(START_MS + 5000), "A1", old, "B2", new))
    place.send(line.rest(0))
    points = [["alpha", "main"], ["alpha", "none"]]
    until_ms = START_MS + 5 * QUARTER_MS
    main, none = place.ask("Boundaries", points=points, from_ms=START_MS + QUARTER_MS, until_ms=until_ms)["points"]
    assert none == {"gateway": "alpha", "sub": "none", "at": [], "change": [], "salt": none["salt"]}
    assert main["salt"] != none["salt"]
    found = [unpack_boundary(item) for item in main["at"]]
    assert [(at.at_ms - START_MS) // QUARTER_MS for at in found] == [1, 2, 3, 4, 5]
    assert (found[0].seq, found[0].status, found[0].imported, found[0].exported) == (4, 0, (1021, 0), (53, 1))
    assert (found[4].status, found[4].imported, found[4].exported) == (2, None, None)
    assert [item.pack() for item in found] == main["at"]
    assert main["change"] == []  # it was before
    earlier = place.ask("Boundaries", points=points, from_ms=START_MS, until_ms=until_ms)["points"][0]["change"]
    exchanged = unpack_change(earlier[0])
    assert (exchanged.old, exchanged.new) == (((99, 0), None), ((1, 0), (0, 0)))
    assert exchanged.pack() == earlier[0]


def test_who_may_read_what(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 4)
    quarters(line, 4, "other")
    place.send(line.rest(0))
    assert line.chain.head is not None
    stream = line.chain.head.stream.hex()
    for meter, owner, sub in (("m1", "member-1", "main"), ("m2", "member-2", "other")):
        facts = {"model": "x", "serial": meter, "place": "p", "role": "consumption", "owner": owner}
        place.registry("RegisterMeter", meter=meter, **facts)
        place.registry("AssignMeter", meter=meter, gateway="alpha", sub=sub, from_ms=START_MS + QUARTER_MS)
    period = {"from_ms": START_MS, "until_ms": START_MS + 10 * QUARTER_MS}
    everything = [
        ("Statements", {"stream": stream}),
        ("StatementsAt", {"gateway": "alpha", **period}),
        ("Boundaries", {"points": [["alpha", "main"]], **period}),
    ]
    pool = Caller("PoolMSP", "bea", {"aigeco.role": "auditor"})
    for caller in (MEMBER, pool, REGISTRAR):
        for function, arguments in everything:
            with pytest.raises(Declined) as caught:
                place.ask(function, caller, **arguments)
            assert caught.value.reason is Reason.FORBIDDEN
    own = place.ask("OfMeter", MEMBER, meter="m1", **period)["statements"]
    assert [parse_statement(bytes.fromhex(data)).sub for _, _, data in own] == ["main"] * 9, (
        "three quarters, from its day on"
    )
    with pytest.raises(Declined, match="forbidden"):
        place.ask("OfMeter", NEIGHBOUR, meter="m1", **period)
    assert place.ask("OfMeter", AUDITOR, meter="m1", **period)["statements"] == own
    namesake = Caller("AuditMSP", "maria", {"aigeco.member": "member-1"})
    with pytest.raises(Declined, match="forbidden"):
        place.ask("OfMeter", namesake, meter="m1", **period)


def test_who_moves_in_reads_nothing_of_who_lived_there_before(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 4)
    place.send(line.rest(0))
    facts = {"meter": "m1", "model": "x", "serial": "1", "place": "p", "role": "consumption"}
    place.registry("RegisterMeter", owner="member-1", **facts)
    place.registry("AssignMeter", meter="m1", gateway="alpha", sub="main", from_ms=START_MS)
    place.ledger.time_ms = START_MS + QUARTER_MS
    place.registry("RegisterMeter", owner="member-2", **facts)
    period = {"meter": "m1", "from_ms": START_MS, "until_ms": START_MS + 10 * QUARTER_MS}
    seqs = [[seq for _, seq, _ in place.ask("OfMeter", who, **period)["statements"]] for who in (MEMBER, NEIGHBOUR)]
    assert seqs == [[1, 2, 3], list(range(4, 13))]


def test_the_statements_of_one_measuring_point_are_purged_and_its_neighbours_stay(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 1)
    for first, sub in ((0, "other"), (0, "third"), (1, "main"), (1, "other"), (1, "third")):
        quarters(line, 1, sub, first)
    runs = [line.batch(0, 10), line.rest(10)]
    for run in runs:
        place.send(run)
    stream, period = runs[0].stream.hex(), {"from_ms": START_MS, "until_ms": START_MS + 2 * QUARTER_MS}

    def found(sub: str) -> list[int]:
        return [item[2] for item in place.ask("Boundaries", points=[["alpha", sub]], **period)["points"][0]["at"]]

    def purge(first: int, sub: str | None = None) -> Any:
        given = {"stream": stream, "first": first, "why": "asked"} | ({"sub": sub} if sub else {})
        return parse(place.ledger.commit("measurements", "Purge", given, ERASER))

    def touched(sub: str, first: int) -> bool:
        """Whether a value that names these statements is under a key that held them before."""
        claims = [parse_statement(said.data) for said in line.statements[first:]]
        values = place.ledger.stores["measurements", "readings"].values()
        salts = [salt for claim in claims if claim.sub == sub for salt in (claim.salt, claim.salt.hex().encode())]
        return any(salt in value for salt in salts for value in values)

    before = {name: dict(store) for name, store in place.ledger.stores.items()}
    assert (found("main"), found("other"), found("third")) == ([1, 10], [4, 13], [7, 16])
    done = purge(0, "other")
    assert (done["sub"], purge(0, "other")) == ("other", done)
    assert (found("main"), found("other"), found("third")) == ([1, 10], [13], [7, 16])
    replaced = place.ledger.stores["measurements", "readings"].keys() & before["measurements", "readings"].keys()
    same = before["measurements", "readings"]
    assert all(place.ledger.stores["measurements", "readings"][name] == same[name] for name in replaced), (
        "what is replaced stays in the history of a peer's private data: a purged key is left alone"
    )
    seqs = [seq for seq, _ in place.ask("Statements", stream=stream)["statements"]]
    assert seqs == [0, 1, 2, 3, 7, 8, 9, *range(10, 19)]
    purge(10, "other")
    assert not touched("other", 0)
    assert touched("third", 0)
    purge(0, "third")
    purge(0, "third")
    assert found("third") == [16]
    place.send(line.grow(2).rest(19))
    purge(0)
    assert (found("main"), found("third")) == ([19, 10], [16])
    assert purge(0, "main")["why"] == "asked", "everything has gone already"
    with pytest.raises(Declined, match="says nothing of roof"):
        purge(10, "roof")
    with pytest.raises(Declined, match="sub: "):
        purge(10, "a/b")
    assert [entry["first"] for entry in place.ask("Purged", stream=stream)] == [0, 0, 0, 10]


def test_the_statement_that_makes_a_fork_goes_with_its_place(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 2)
    twin = line.clone()
    quarters(line, 2, first=2)
    place.send(line.rest(0))
    place.send(quarters(twin, 1, "other").batch(7, 3))
    stream = line.batch(0, 1).stream.hex()
    evidence = place.ledger.stores["measurements", "evidence"]
    assert [name for name in evidence if name.startswith("fork/")]
    place.ledger.commit("measurements", "Purge", {"stream": stream, "first": 0, "why": "asked"}, ERASER)
    assert not [name for name in place.ledger.stores["measurements", "evidence"] if name.startswith("fork/")]
    assert [fork["seq"] for fork in place.ask("Forks", stream=stream)] == [7]


def test_a_purge_takes_the_values_and_leaves_the_chain(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 4)
    twin = line.clone()
    quarters(line, 4, first=4)
    runs = [line.batch(0, 10), line.batch(10, 8), line.batch(18, 7)]
    for run in runs:
        place.send(run)
    stream = runs[0].stream.hex()
    for caller, words in ((AUDITOR, "attribute"), (Caller("AuditMSP", "x", {"aigeco.role": "eraser"}), "may not")):
        with pytest.raises(Declined, match=words):
            place.ledger.commit("measurements", "Purge", {"stream": stream, "first": 10, "why": "asked"}, caller)
    purge = {"stream": stream, "first": 10, "why": "asked by the member"}
    done = place.ledger.commit("measurements", "Purge", purge, ERASER)
    after = place.state()
    assert place.ledger.commit("measurements", "Purge", purge, ERASER) == done
    assert place.state() == after
    page = place.ask("Statements", stream=stream)
    assert [seq for seq, _ in page["statements"]] == [*range(10), *range(18, 25)]
    values = place.ledger.stores["measurements", "readings"]
    for said in line.statements[10:18]:
        claim = parse_statement(said.data)
        assert not any(claim.salt in value or said.data in value for value in values.values())
    assert len(place.ask("Batches", stream=stream)) == 3
    assert [entry["why"] for entry in place.ask("Purged", stream=stream)] == ["asked by the member"]
    # the batch again is recognised, the next one is accepted, and another line of the same card is still a fork
    assert place.send(runs[1])["outcome"] == "exists"
    line.grow(2)
    assert place.send(line.batch(25, 2))["outcome"] == "committed"
    said = place.send(twin.grow(3).batch(13, 3))
    assert (said["outcome"], said["reason"]) == ("refused", 2)
    assert [fork["seq"] for fork in place.ask("Forks", stream=stream)] == [13]


def test_what_is_no_batch_is_declined(place: Place) -> None:
    for data in (b"", b"\xa0", b"\xff" * 100):
        with pytest.raises(Malformed):
            batches.parse(data)
        with pytest.raises(Declined, match="malformed"):
            place.send(data)


def test_boundaries_of_an_hour_come_from_several_batches_and_go_with_theirs(place: Place, world: World) -> None:
    line = quarters(world.line("alpha").begin(), 8)
    runs = [line.batch(0, 8), line.rest(8)]
    for run in runs:
        place.send(run)
    points = {"points": [["alpha", "main"]], "from_ms": START_MS, "until_ms": START_MS + 8 * QUARTER_MS}

    def found() -> list[int]:
        return [item[2] for item in place.ask("Boundaries", **points)["points"][0]["at"]]

    assert found() == [1, 4, 7, 10, 13, 16, 19, 22]
    stream = runs[0].stream.hex()
    place.ledger.commit("measurements", "Purge", {"stream": stream, "first": 8, "why": "asked"}, ERASER)
    assert found() == [1, 4, 7]
    place.ledger.commit("measurements", "Purge", {"stream": stream, "first": 0, "why": "asked"}, ERASER)
    assert found() == []
    assert not any(name.startswith("hour/") for name in place.ledger.stores.get(("measurements", "readings"), {}))
    with pytest.raises(Declined, match="at most"):
        place.ask("Boundaries", points=points["points"], from_ms=0, until_ms=START_MS)


def test_what_a_check_of_the_heads_signature_alone_would_miss(world: World) -> None:
    """A bad signature in the middle: the head vouches for the contents, but not for that signature (docs/adr/0014)."""
    forged = world.line("alpha").begin().grow(9)
    bad, genuine = forged.forged(0, 10, 4), forged.batch(0, 10)
    assert bad.root == genuine.root, "the sids, and so the root and the receipt, are the same"
    outcomes = {}
    for every in (True, False):
        place = Place(world, every=every)
        place.registry("RegisterGateway", gateway="alpha", owner="CommunityMSP")
        outcomes[every] = place.send(bad)
        if not every:  # the first bytes stay, also when the genuine ones come
            assert place.send(genuine)["outcome"] == "exists"
            kept = place.ask("Statements", stream=bad.stream.hex())["statements"][4][1]
            assert kept == bad.statements[4].hex() != genuine.statements[4].hex()
    assert outcomes[False]["outcome"] == "committed"
    assert (outcomes[True]["outcome"], outcomes[True]["reason"]) == ("refused", 3)
    assert "signature of statement 4" in outcomes[True]["words"]


@pytest.mark.parametrize("every", [True, False])
def test_a_changed_value_is_noticed_by_the_heads_signature_alone(world: World, every: bool) -> None:
    line, other = world.line("alpha").begin().grow(9), world.line("alpha").begin().grow(9)
    place = Place(world, every=every)
    place.registry("RegisterGateway", gateway="alpha", owner="CommunityMSP")
    said = [(each.sid, each.data) for each in line.statements]
    said[4] = (other.statements[4].sid, other.statements[4].data)
    mixed = batches.build(line.batch(0, 10).stream, 0, bytes(32), said)
    with pytest.raises(Declined, match="malformed"):
        place.send(mixed)
