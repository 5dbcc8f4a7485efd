"""Traces: every number goes back to what was signed, every planted fault is found at its step, and the way forward."""

from __future__ import annotations

import datetime as dt
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from drivers.reading import exact
from hw_sim.authority import Authority
from ledger.cli.main import cli
from ledger.embedded import EmbeddedLedger, LedgerFile
from ledger.rules import hours
from ledger.rules.measurements import Gateway
from ledger.rules.record import pack, parse
from ledger.rules.world import Caller, Declined, key, ordered
from ledger.trace import Trace
from ledger.trace.evidence import FileEvidence
from ledger.trace.numbers import NotSettled
from ledger.trace.tree import Mark, Step
from signer import receipt as receipts
from signer import statement
from signer.keys.file import FileKey
from signer.trust import Trust, dump_organisations
from tests.ledger.lines import Line, fingerprint, instant, new_key
from tests.ledger.traced import (
    NAMES,
    ORGANISATION,
    QUARTER,
    SHOWN,
    START,
    Built,
    begun,
    build,
    community,
    read,
    submit,
)

FIRST, SECOND, THIRD = (START + number * QUARTER for number in range(3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Nothing is wrong with it; not to be changed."""
    return build(tmp_path_factory.mktemp("traced"))


@pytest.fixture
def built(whole: Built, tmp_path: Path) -> Built:
    """A copy to break."""
    return whole.copy(tmp_path / "ledger.db")


def failed(step: Step) -> dict[str, str]:
    """What does not hold: the last words of its place -> why; the deepest first."""
    return {" > ".join(way.split(" > ")[-2:]): part.reason for way, part in step.troubles(Mark.FAILED)}


def every(step: Step) -> Iterator[Step]:
    yield step
    for part in step.parts:
        yield from every(part)


def whats(step: Step) -> set[str]:
    return {part.what for part in every(step)}


# ---- back


@pytest.mark.parametrize("kind", ["fixed", "hourly", "by consumption"])
def test_every_number_is_traced_to_signed_statements(whole: Built, tmp_path: Path, kind: str) -> None:
    built = whole if kind == "fixed" else build(tmp_path, kind)
    with built.trace() as trace:
        for period_ms in (FIRST, SECOND, THIRD):
            for name in NAMES:
                step = trace.numbers.period("g", name, period_ms)
                assert failed(step) == {}
                assert step.worst <= Mark.NOTED
                assert {"signature", "key", "registered", "chain", "root", "receipts", "block", "record"} <= whats(step)
        assert trace.chain().mark is Mark.VERIFIED
        shares = built.call("sharing", "Results", group="g", first_ms=START)["members"]
        first = trace.numbers.period("g", "a", FIRST)
        assert {name: first.facts[name] for name in ("allotted", "consumed", "surplus", "from_grid")} == {
            name: shares["a"][name][0] for name in ("allotted", "consumed", "surplus", "from_grid")
        }
        registers = [part.said for part in every(first) if part.what == "register"]
        assert "2026-06-01 12:00Z: 5,000 Wh" in registers
        assert "2026-06-01 12:15Z: 7,345 Wh" in registers
        assert any(part.said.startswith("function 4 from 72: 0000 c350") for part in every(first))  # 50,000
        rekeyed = trace.numbers.period("g", "a", THIRD)
        assert any("from the rekey at seq 9" in part.said for part in every(rekeyed))


def test_transfers_and_guarantees_are_traced(whole: Built) -> None:
    with whole.trace() as trace:
        step = trace.numbers.transfer("g", "a", "b", FIRST)
        assert step.said == "a to b, 2026-06-01 12:00Z: 434 Wh"
        assert failed(step) == {}
        assert [part.said[0] for part in every(step) if part.what == "period"] == ["a", "b", "c"]
        for number in (1, 2, 3, 4):
            step = trace.numbers.guarantee("pv", number)
            assert failed(step) == {}
            assert "signature" in whats(step)
        assert "retired" in trace.numbers.guarantee("pv", 2).said
        assert "retired" in whats(trace.numbers.guarantee("pv", 2))
        issued = [part.facts for part in every(trace.numbers.guarantee("pv", 3)) if part.what == "issued"]
        assert issued[0]["issue"]["rest_wh"] == 345
        assert (issued[0]["from_wh"], issued[0]["to_wh"]) == (0, 655)


def test_versions_and_numbers_that_are_not_there(built: Built) -> None:
    with built.trace() as trace:
        for wrong, words in (
            (lambda: trace.numbers.period("g", "a", START + 3 * QUARTER), "is not settled"),
            (lambda: trace.numbers.period("g", "a", FIRST + 1), "no period of g begins"),
            (lambda: trace.numbers.period("g", "d", FIRST), "d has no part"),
            (lambda: trace.numbers.period("g", "a", FIRST, 2), "have versions 1 to 1"),
            (lambda: trace.numbers.guarantee("pv", 5), "has no guarantee 5"),
            (lambda: trace.numbers.month("g", "a", 2026, 5), "nothing of 2026-05"),
        ):
            with pytest.raises(NotSettled, match=words):
                wrong()
        with pytest.raises(Declined, match="no group"):
            trace.numbers.period("h", "a", FIRST)
        month = trace.numbers.month("g", "a", 2026, 6)
        assert failed(month) == {}
        assert month.facts["periods"] == 3
        assert month.facts["consumed"] == (SHOWN[3][1] - SHOWN[0][1]) // 10
        assert month.mark is Mark.NOTED
        assert month.reason == "not settled from 2026-05-31 22:00Z"


def test_every_number_of_a_settled_month_is_traced(tmp_path: Path) -> None:
    """June, hour by hour, of two members: what each period says, and the sums that the month's statement has."""
    start_ms, end_ms = hours.month_ms(2026, 6, "peninsula")
    built, ledger, _ = begun(tmp_path, start_ms // 1000 - 86_400)
    count = (end_ms - start_ms) // hours.HOUR_MS
    for number in range(count + 1):
        at_ms = start_ms + number * hours.HOUR_MS
        for sub, tenths in (("roof", 17_003), ("a-home", 7_001), ("b-home", 9_007 + number)):
            read(built.line, sub, at_ms, tenths * number, sub == "roof")
    for first in range(0, len(built.line.statements), 250):
        submit(ledger, built.line.batch(first, min(250, len(built.line.statements) - first)))
    ledger.file.close()
    community(built, hours.HOUR_MS, start_ms, {"a": 600_000, "b": 400_000})
    for number in range(0, count, 144):
        stretch = {"first_ms": start_ms + number * hours.HOUR_MS, "count": min(144, count - number)}
        built.call("sharing", "Settle", group="g", **stretch)
    said = built.call("sharing", "Statement", group="g", member="a", year=2026, month=6, buy=1, sell=1)
    with built.trace() as trace:
        step = trace.numbers.month("g", "a", 2026, 6)
        assert step.worst <= Mark.NOTED
        assert not step.reason
        assert {name: step.facts[name] for name in said["wh"]} == said["wh"]
        assert step.facts["periods"] == count == 720
        # Each of the statements behind it was verified by itself, the roof's and the member's.
        assert len({part.facts["sid"] for part in every(step) if part.what == "statement"}) == 2 * (count + 1)
        assert trace.numbers.period("g", "b", end_ms - hours.HOUR_MS).worst <= Mark.NOTED


def test_an_exchanged_meter_a_restored_card_a_renewed_certificate_and_a_late_version(tmp_path: Path) -> None:
    built, ledger, authority = begun(tmp_path, START // 1000 - 86_400)
    line = built.line
    ledger.file.register(Gateway("alpha", certificate=fingerprint(line.certificate)))
    for at_ms, roof, home in ((FIRST, 50_000, 1_000), (SECOND, 60_000, 270)):
        read(line, "roof", at_ms, roof, True)
        read(line, "a-home", at_ms, home, False)
        if at_ms == FIRST:
            old, new = (((264, exact(wh, 0)),) for wh in (130, 7))
            line.statements.append(line.chain.exchange("a-home", instant(FIRST + 300_000), "A1", old, "B2", new))
    last = line.statements[-1]
    line.rekey()
    submit(ledger, line.rest(0))
    restored = Line("alpha", authority, line.key, start_ms=line.start_ms)
    restored.certificate = line.certificate
    assert line.chain.head is not None
    restored.begin((line.chain.head.stream, last.seq, last.sid))
    read(restored, "a-home", SECOND, 270, False)  # read again after the restart
    read(restored, "roof", THIRD, 65_000, True)
    read(restored, "a-home", THIRD, 470, False)
    ledger.file.close()
    community(built, QUARTER, START, {"a": 1_000_000})
    built.call("sharing", "Settle", group="g", first_ms=START, count=2)
    file = LedgerFile(built.path, ORGANISATION)
    submit(EmbeddedLedger(file, ledger._issuer, Trust(gateways=(authority.certificate,))), restored.rest(0))
    file.close()
    assert built.call("sharing", "Settle", group="g", first_ms=START, count=2)["version"] == 2
    with built.trace() as trace:
        exchanged = trace.numbers.period("g", "a", FIRST)
        assert failed(exchanged) == {}
        assert exchanged.facts["consumed"] == 30 + 20
        assert exchanged.facts["why"] == "meter exchanged"
        assert "2026-06-01 12:05Z: the old meter 130 Wh, the new one 7 Wh" in [
            part.said for part in every(exchanged) if part.what == "exchanged"
        ]
        before, after = (trace.numbers.period("g", "a", SECOND, version) for version in (1, 2))
        assert (failed(before), failed(after)) == ({}, {})
        assert (before.facts["consumed"], after.facts["consumed"]) == (None, 20)
        keys = {part.said for part in every(after) if part.what == "key"}
        assert keys == {"of alpha, from the genesis at seq 0"}  # of both streams
        for stream, seq, versions in ((built.stream, last.seq, [1, 2]), (restored.rest(0).stream.hex(), 1, [2])):
            forward = trace.forward.trace(stream, seq)
            assert failed(forward) == {}
            assert [part.facts["run"]["version"] for part in forward.parts if part.what == "settlement"] == versions
        change = trace.forward.trace(built.stream, 3)
        (used, _) = [part for part in change.parts if part.what == "settlement"]
        assert used.facts["periods_ms"] == [FIRST]


# ---- planted faults


def change(built: Built, contract: str, collection: str, place: str, how: Callable[[bytes], bytes]) -> None:
    """Change a value behind the ledger's back."""
    where = (contract, collection, place)
    with sqlite3.connect(built.path) as sql:
        query = "SELECT value FROM state WHERE contract = ? AND collection = ? AND key = ?"
        (value,) = sql.execute(query, where).fetchone()
        new = how(bytes(value))
        assert new != bytes(value), "nothing was changed"
        sql.execute("UPDATE state SET value = ? WHERE contract = ? AND collection = ? AND key = ?", (new, *where))
    sql.close()


def record(how: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def changed(value: bytes) -> bytes:
        held = parse(value)
        how(held)
        return pack(held)

    return changed


def batch_of(built: Built, first: int) -> tuple[str, str, str]:
    return ("measurements", "readings", key("batch", built.stream, ordered(first)))


def share_of(member: str) -> tuple[str, str, str]:
    return ("sharing", "results", key("share", "g", ordered(START), ordered(1), member))


def swap(value: bytes, old: bytes, new: bytes) -> bytes:
    assert value.count(old) == 1, old.hex()
    assert len(old) == len(new)
    return value.replace(old, new)


def a_changed_register_word(built: Built) -> None:
    word = (4_700).to_bytes(4, "big")
    change(built, *batch_of(built, 5), lambda data: swap(data, word + bytes(4), b"\x00\x00\x12\x5d" + bytes(4)))


def a_changed_statement(built: Built) -> None:
    """The register itself: 470 Wh become 480."""
    change(built, *batch_of(built, 5), lambda data: swap(data, b"\x82\x18\x2f\x01", b"\x82\x18\x30\x01"))


def a_wrong_signature(built: Built) -> None:
    said = built.line.statements[built.seq("a-home", SECOND)]
    other = FileKey(new_key()).sign_digest(said.sid)
    change(built, *batch_of(built, 5), lambda data: swap(data, said.data[-64:], other))


def an_exchanged_coefficient(built: Built) -> None:
    def exchange(held: Any) -> None:
        held["coefficients"] = [300_000, 500_000, 200_000]

    change(built, "sharing", "coefficients", key("agreement", "g", ordered(START)), record(exchange))


def a_changed_result(built: Built) -> None:
    def more(held: Any) -> None:
        held["allotted"][1] += 10

    change(built, *share_of("a"), record(more))


def a_changed_register_of_the_settlement(built: Built) -> None:
    def less(held: Any) -> None:
        held["at"][1][5] = [460, 0]

    place = key("source", "g", ordered(START), ordered(1), "a-home")
    change(built, "sharing", "results", place, record(less))


def a_missing_receipt(built: Built) -> None:
    built.sql("UPDATE blocks SET receipt = x'' WHERE block = 2")


def another_organisations_receipt(built: Built) -> None:
    built.sql("UPDATE blocks SET receipt = (SELECT receipt FROM blocks WHERE block = 3) WHERE block = 2")


def a_broken_block_chain(built: Built) -> None:
    built.sql("UPDATE blocks SET txid = ? WHERE block = 2", bytes(32))


def a_missing_block(built: Built) -> None:
    built.sql("DELETE FROM blocks WHERE block = 2")


def a_changed_call(built: Built) -> None:
    built.sql("UPDATE calls SET time_ms = time_ms + 1 WHERE function = 'Settle'")


def a_changed_agreement(built: Built) -> None:
    def other(held: Any) -> None:
        held["by"]["name"] = "eve"

    change(built, "sharing", "", key("agreement", "g", ordered(START)), record(other))


def a_changed_sid(built: Built) -> None:
    place = ("measurements", "evidence", key("sids", built.stream, ordered(5)))
    change(built, *place, lambda sids: sids[:32] + bytes(32) + sids[64:])


def a_deleted_result(built: Built) -> None:
    built.sql("DELETE FROM state WHERE contract = ? AND collection = ? AND key = ?", *share_of("a"))


def a_deleted_batch(built: Built) -> None:
    built.sql("DELETE FROM state WHERE contract = ? AND collection = ? AND key = ?", *batch_of(built, 5))


def a_damaged_batch(built: Built) -> None:
    change(built, *batch_of(built, 5), lambda data: b"\xff" + data[1:])


def an_authority_nobody_believed(built: Built) -> None:
    """As if the root had been believed only after the stream had begun."""
    place = "SELECT key FROM state WHERE contract = 'registry' AND key LIKE '\\_versions/authority/%' ESCAPE '\\'"
    later = {"since_ms": START + 10 * 86_400_000}

    def since(held: Any) -> None:
        held |= later

    with sqlite3.connect(built.path) as sql:
        ((name,),) = sql.execute(place).fetchall()
    sql.close()
    change(built, "registry", "", name, record(since))


def another_certificate_registered(built: Built) -> None:
    def pin(held: Any) -> None:
        held["certificate"] = "00" * 32

    with sqlite3.connect(built.path) as sql:
        query = "SELECT key FROM state WHERE contract = 'registry' AND key LIKE '%versions/gateway/%'"
        ((name,),) = sql.execute(query).fetchall()
    sql.close()
    change(built, "registry", "", name, record(pin))


FAULTS: tuple[tuple[Callable[[Built], None], str, set[str]], ...] = (
    (a_changed_register_word, "statement > signature", {"statement > chain", "statement > root"}),
    (a_changed_statement, "statement > signature", {"point > register", "statement > chain", "statement > root"}),
    (a_wrong_signature, "statement > signature", set()),
    (an_exchanged_coefficient, "coefficients > record", {"period > allotted"}),
    (a_changed_result, "result > record", {"period > allotted"}),
    (a_changed_register_of_the_settlement, "registers > record", {"period > consumed", "point > register"}),
    (a_missing_receipt, "statement > receipts", set()),
    (another_organisations_receipt, "statement > receipts", set()),
    (a_broken_block_chain, "statement > block", {"period > ledger"}),
    (a_missing_block, "statement > receipts", {"statement > block", "period > ledger"}),
    (a_changed_call, "settled > record", {"result > record", "registers > record", "period > ledger"}),
    (a_changed_agreement, "agreement > record", set()),
    (a_changed_sid, "statement > root", {"statement > chain"}),
    (a_deleted_result, "period > result", set()),
    (a_deleted_batch, "point > register > statement", {"signature > key"}),
    (a_damaged_batch, "point > register > statement", {"signature > key"}),
    (another_certificate_registered, "registered > record", {"key > registered"}),
    (an_authority_nobody_believed, "key > registered", set()),
)


@pytest.mark.parametrize(("plant", "first", "also"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_a_planted_fault_is_found_at_its_step(
    built: Built, plant: Callable[[Built], None], first: str, also: set[str]
) -> None:
    with built.trace() as trace:
        sound = trace.numbers.period("g", "a", SECOND)
        sound.parts.append(trace.chain())
    assert failed(sound) == {}
    plant(built)
    with built.trace() as trace:
        step = trace.numbers.period("g", "a", SECOND)
        step.parts.append(trace.chain())
    ways = [way for way, _ in step.troubles(Mark.FAILED)]
    assert ways, "not found"
    assert ways[0].endswith(first), ways
    found = failed(step)
    assert also <= set(found), found
    assert set(found) <= {*also, " > ".join(first.split(" > ")[-2:])} | set(ways), found
    assert all(found.values())


def test_a_changed_transfer_and_a_changed_issue_are_found(built: Built) -> None:
    def more(held: Any) -> None:
        held["given"][0][2] += 1

    change(built, "exchanges", "transfers", key("part", "g", ordered(START), ordered(1), "a"), record(more))

    def other(held: Any) -> None:
        held["wh"] += 1

    change(built, "origin", "", key("issue", "pv", ordered(1)), record(other))
    with built.trace() as trace:
        found = failed(trace.numbers.transfer("g", "a", "b", FIRST))
        assert {"recorded > record", "transfer > computed", "transfer"} <= set(found), found
        assert found["transfer > computed"] == "computed again: 434 Wh"
        found = failed(trace.numbers.guarantee("pv", 1))
        assert set(found) == {"issued > record", "guarantee > issued"}, found
        assert found["guarantee > issued"] == "the registers differ by 2,345 Wh"


# ---- what was erased


def test_after_a_purge_the_rest_still_verifies(built: Built) -> None:
    built.call("measurements", "Purge", stream=built.stream, first=5, why="on request")
    with built.trace() as trace:
        step = trace.numbers.period("g", "a", SECOND)
        step.parts.append(trace.chain())
        assert failed(step) == {}
        assert step.worst is Mark.ERASED
        reasons = {part.reason for _, part in step.troubles()}
        assert any(reason.startswith("purged by operator of CommunityMSP") for reason in reasons), reasons
        gone = next(part for part in every(step) if part.what == "statement" and part.mark is Mark.ERASED)
        assert [part.what for part in gone.parts] == ["root", "record", "receipts", "block"]
        assert all(part.mark is Mark.VERIFIED for part in gone.parts)
        # The numbers are computed again from the registers that the settlement has kept.
        assert next(part for part in step.parts if part.what == "allotted").mark is Mark.VERIFIED
        # The key came with the genesis, which is still there; the one after the rekey went with it.
        keys = {part.said: part.mark for part in every(step) if part.what == "key"}
        assert keys["of alpha, from the rekey at seq 9"] is Mark.ERASED
        lost = trace.forward.trace(built.stream, built.seq("a-home", SECOND))
        assert "settlement" in whats(lost)
        assert "purged" in whats(lost)


def test_a_purge_of_one_measuring_point_leaves_the_others(built: Built) -> None:
    built.call("measurements", "Purge", stream=built.stream, first=5, sub="b-home", why="on request")
    with built.trace() as trace:
        assert trace.numbers.period("g", "a", SECOND).worst <= Mark.NOTED
        assert trace.numbers.period("g", "b", SECOND).worst is Mark.ERASED


def test_erased_results_are_named_and_others_verify(built: Built) -> None:
    erase = {"group": "g", "member": "b", "from_ms": START, "until_ms": START + 3 * QUARTER, "why": "moved out"}
    built.call("sharing", "Erase", **erase)
    with built.trace() as trace:
        step = trace.numbers.period("g", "b", FIRST)
        assert step.worst is Mark.ERASED
        assert failed(step) == {}
        assert any("moved out" in part.reason for _, part in step.troubles())
        assert trace.numbers.period("g", "a", FIRST).worst <= Mark.NOTED
        shared = trace.numbers.transfer("g", "a", "b", FIRST)
        assert failed(shared) == {}
        assert shared.worst is Mark.ERASED


# ---- who may see what


class Asking(FileEvidence):
    """The ledger's file, with the rights of one certificate."""

    def __init__(self, path: Path, caller: Caller) -> None:
        super().__init__(path, ORGANISATION)
        self._caller = caller

    def ask(self, contract: str, function: str, **given: Any) -> Any:
        arguments = {name: value for name, value in given.items() if value is not None}
        return parse(self._file.world.evaluate(contract, function, pack(arguments), self._caller, START))


def test_a_member_sees_its_own_to_the_statements_and_no_more(built: Built) -> None:
    for name in ("a", "b"):
        meter = {"model": "x", "serial": name, "place": name, "role": "consumption", "owner": name}
        built.call("registry", "RegisterMeter", meter=f"m-{name}", **meter)
        built.call("registry", "AssignMeter", meter=f"m-{name}", gateway="alpha", sub=f"{name}-home", from_ms=START)
    evidence = Asking(built.path, Caller(ORGANISATION, "a-phone", {"aigeco.member": "a"}))
    trace = Trace(evidence, built.trust)
    step = trace.numbers.period("g", "a", SECOND)
    parts = {part.what: part for part in step.parts}
    assert failed(step) == {}
    assert parts["consumed"].worst <= Mark.NOTED
    assert {"signature", "key", "registered", "receipts"} <= whats(parts["consumed"])
    assert parts["result"].worst is Mark.VERIFIED
    assert parts["allotted"].mark is Mark.WITHHELD
    assert "may not read everybody's results" in parts["allotted"].reason
    with pytest.raises(Declined, match="may not read the results of b"):
        trace.numbers.period("g", "b", SECOND)
    neighbours = trace.forward.trace(built.stream, built.seq("b-home", SECOND))
    assert failed(neighbours) == {}
    assert neighbours.parts[0].mark is Mark.WITHHELD
    assert not any("words" in part.what for part in every(neighbours))
    evidence.close()


def test_a_stranger_sees_nothing_of_a_statement(built: Built) -> None:
    evidence = Asking(built.path, Caller("PoolMSP", "pau", {"aigeco.role": "aggregator", "aigeco.member": "a"}))
    step = Trace(evidence, built.trust).forward.trace(built.stream, built.seq("a-home", SECOND))
    assert step.parts[0].mark is Mark.WITHHELD
    assert [part.what for part in step.parts[0].parts] == ["root", "record", "receipts", "block"]
    assert failed(step) == {}
    evidence.close()


# ---- forward


def test_a_statement_leads_to_everything_that_used_it(whole: Built) -> None:
    with whole.trace() as trace:
        step = trace.forward.trace(whole.stream, whole.seq("a-home", SECOND))
        (used,) = [part for part in step.parts if part.what == "settlement"]
        assert used.facts["periods_ms"] == [FIRST, SECOND]  # the end of one and the begin of the next
        assert [part.facts["member"] for part in used.parts if part.what == "result"] == ["a", "a"]
        assert {(part.facts["seller"], part.facts["period_ms"]) for part in used.parts if part.what == "transfer"} >= {
            ("a", FIRST)
        }
        roof = trace.forward.trace(whole.stream, whole.seq("roof", SECOND))
        (used,) = [part for part in roof.parts if part.what == "settlement"]
        assert {part.facts["member"] for part in used.parts if part.what == "result"} == set(NAMES)
        assert [part.said for part in roof.parts if part.what == "guarantees"] == [
            "pv 1 to 2: its end",
            "pv 3 to 4: its start",
        ]
        between = trace.forward.trace(whole.stream, whole.seq("roof", THIRD))
        assert [part.said for part in between.parts if part.what == "guarantees"] == [
            "pv 3 to 4: looked at between its ends"
        ]
        genesis = trace.forward.trace(whole.stream, 0)
        assert {"boundary", "used"} <= whats(genesis)
        for found in (step, roof, between, genesis):
            assert failed(found) == {}


def test_back_and_forward_agree(whole: Built) -> None:
    """Whatever a number stands on leads forward to that number."""
    with whole.trace() as trace:
        for name in NAMES:
            for period_ms in (FIRST, THIRD):
                step = trace.numbers.period("g", name, period_ms)
                for part in every(step):
                    if part.what == "register":
                        _, stream, seq = part.facts["boundary"][:3]
                        forward = trace.forward.trace(stream, seq)
                        results = [each.facts for each in every(forward) if each.what == "result"]
                        assert (name, period_ms) in {(each["member"], each["period_ms"]) for each in results}


def test_a_statement_is_found_by_its_sid(whole: Built) -> None:
    said = whole.line.statements[7]
    with whole.trace() as trace:
        found = trace.evidence.ask("measurements", "Find", stream=whole.stream, sid=said.sid.hex())
        assert found == {"seq": 7, "next": None}
        assert statement.parse(said.data).sid == said.sid
        nothing = trace.evidence.ask("measurements", "Find", stream=whole.stream, sid="00" * 32)
        assert nothing == {"seq": None, "next": None}


# ---- the command


def run(built: Built, *words: str, code: int = 0) -> str:
    """What it prints; what it complains about when the contract or the arguments are at fault."""
    folder = built.path.parent
    trust = built.trust.organisations
    (folder / "roots.pem").write_bytes(dump_organisations(trust))
    (folder / "peer.toml").write_text(
        f'organisation = "{ORGANISATION}"\nreceipts = {{ key = "file:r.key", certificate = "roots.pem" }}\n'
        'gateways = { roots = ["g.pem"] }\nmqtt = { host = "localhost", insecure = true }\n'
    )
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(["--config", str(folder / "peer.toml"), "trace", *words], prog_name="aigeco-peer")
    assert ended.value.code == code, f"{words}: {ended.value.code}\n{out.getvalue()}{err.getvalue()}"
    if "--json" not in words:
        assert all(len(line) <= 80 for line in out.getvalue().splitlines()), out.getvalue()
    return err.getvalue() if code in (2, 4) else out.getvalue()


def test_the_command_shows_a_tree_and_says_what_became_of_it(built: Built, tmp_path: Path) -> None:
    text = run(built, "settlement", "g", "a", "2026-06-01T14:15")  # legal time, summer
    assert "allotted 828 Wh" in text or "allotted 827 Wh" in text
    assert text.splitlines()[-1].endswith(" verified")
    told = json.loads(run(built, "settlement", "g", "a", "2026-06-01T12:15Z", "--json"))
    assert told["state"] in ("verified", "noted")
    assert told["troubles"] == []
    assert told["counts"]["failed"] == 0
    assert told["trace"]["facts"]["consumed"] == 730
    assert run(built, "settlement", "g", "a", "2026-06-01T12:15Z", "--version", "1")
    assert "2026-06: allotted" in run(built, "settlement", "g", "a", "2026-06").replace("\n", " ")
    assert "434 Wh" in run(built, "transfer", "g", "a", "b", "2026-06-01T12:00Z")
    assert "retired" in run(built, "guarantee", "pv", "2")
    sid = built.line.statements[2].sid.hex()
    assert run(built, "statement", built.stream, "2") == run(built, "statement", built.stream, sid)
    other = tmp_path / "other.pem"
    other.write_bytes((tmp_path / "roots.pem").read_bytes().replace(b"organisation: Comm", b"organisation: Other"))
    assert "receipts" in run(built, "settlement", "g", "a", "2026-06-01T12:15Z", "--trust", str(other), code=1)
    for words, code, said in (
        (("settlement", "g", "d", "2026-06-01T12:15Z"), 4, "d has no part"),
        (("settlement", "g", "a", "2026-07-01T12:15Z"), 4, "is not settled in g"),
        (("settlement", "h", "a", "2026-06"), 4, "there is no group h"),
        (("settlement", "g", "a", "noon"), 2, "is no date or time"),
        (("settlement", "g", "a", "2026-06", "--version", "1"), 2, "--version"),
        (("statement", built.stream, "x"), 2, "a sid of 64 digits"),
        (("statement", built.stream, "0" * 64), 4, "has no statement"),
        (("statement", built.stream, "99"), 4, "has no seq 99"),
    ):
        assert said in run(built, *words, code=code), words


def test_receipts_that_a_gateway_has_got_are_judged_too(built: Built, tmp_path: Path) -> None:
    neighbour = Authority("GridMSP", now=dt.datetime.fromtimestamp(START / 1000, dt.UTC))
    issued = neighbour.receipts()
    path = tmp_path / "receipts.cborseq"
    who = (FileKey(issued.key), (issued.der,), "GridMSP", "alpha", START // 1000)
    path.write_bytes(receipts.issue(*who, built.line.batch(5, 5), "embedded", 7, bytes(32)))
    given = ("settlement", "g", "a", "2026-06-01T12:15Z", "--receipts", str(path))
    assert "no root is pinned for the organisation" in " ".join(run(built, *given, code=1).split())
    both = {**built.trust.organisations, "GridMSP": (neighbour.certificate,)}
    (tmp_path / "both.pem").write_bytes(dump_organisations(both))
    trusted = (*given, "--trust", str(tmp_path / "both.pem"))
    assert "GridMSP, block 7" in " ".join(run(built, *trusted).split())
    path.write_bytes(receipts.issue(*who, built.line.batch(5, 4), "embedded", 7, bytes(32)))
    assert "receipts: root: " in " ".join(run(built, *trusted, code=1).split())
    path.write_bytes(b"\xff")
    assert "receipts.cborseq, byte 0" in run(built, *given, code=2)


def test_the_command_ends_with_what_it_found(built: Built) -> None:
    built.call("measurements", "Purge", stream=built.stream, first=5, why="on request")
    text = run(built, "settlement", "g", "a", "2026-06-01T12:15Z", code=5)
    assert "erased: period > " in text
    assert json.loads(run(built, "settlement", "g", "a", "2026-06-01T12:15Z", "--json", code=5))["state"] == "erased"
    a_changed_result(built)
    text = run(built, "settlement", "g", "a", "2026-06", code=1)
    assert "failed: month > stretch > period > result > record" in text.replace("\n ", "")
