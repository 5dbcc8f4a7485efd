"""Receipts: how old the last one of each organisation is, what waits for some, and what was refused.

Judges no receipt: those in the store were checked when they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edge.database import SpoolProblem
from edge.doctor.finding import OPERATOR, ORGANISATION, Case, Finding, State, advised, age, unknown, well
from edge.spool_read import SpoolReader
from edge.state import Alarm
from signer import receipt
from signer.errors import Malformed
from signer.receipt import Receipt

AREA = "receipts"
NEWEST = 200
"""Receipts that are looked through; an organisation that has none among them has been silent for long."""

_PATIENCE_S = 900.0
"""The sender's longest pause is five minutes; three of them without a receipt are no accident."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Where the statements are on their way.

    Attributes:
        stored, pending: statements.
        last: organisation -> its newest receipt.
    """

    stored: int
    pending: int
    last: Mapping[str, Receipt]


def check(case: Case) -> Iterator[Finding]:
    """All organisations of the configuration."""
    alarms = case.alarms("ledger", "receipts")
    if not case.config.spool.exists():
        yield from judge_alarms(alarms)
        yield unknown(AREA, "", "there is no store yet")
        return
    try:
        reader = SpoolReader.read(case.config.spool)
        try:
            seen = look(reader)
        finally:
            reader.close()
    except SpoolProblem as problem:
        yield from judge_alarms(alarms)
        yield Finding(AREA, State.WARNING, "", f"nothing is known of them: {problem}", OPERATOR, "aigeco run")
        return
    yield from judge_alarms(alarms)
    yield from judge(seen, case, bool(alarms))


def judge_alarms(alarms: Iterable[Alarm]) -> Iterator[Finding]:
    """What the gateway says of the organisations: what is so, and what happened since it started."""
    for alarm in alarms:
        state, when = (State.WRONG, "") if alarm.lasts else (State.WARNING, "since the gateway started: ")
        advice = "ask the organisation that is named; its peer's log says why"
        yield advised(AREA, state, alarm.about, when + alarm.words, ORGANISATION, advice)


def _silent(last: Receipt, case: Case) -> bool:
    """Whether an organisation's last receipt is older than any pause of the sender explains."""
    every_s = case.config.mqtt.send_every_ms / 1000 if case.config.mqtt else 0.0
    return case.age_s(last.issued_s * 1000) > max(_PATIENCE_S, 3 * every_s)


def look(reader: SpoolReader) -> Seen:
    """What the store knows."""
    counts = reader.counts()
    return Seen(counts.stored, counts.pending, newest(reader))


def newest(reader: SpoolReader, most: int = NEWEST) -> dict[str, Receipt]:
    """Organisation -> its receipt for the newest batch, of those that are among the last ``most``."""
    found: dict[str, Receipt] = {}
    for data in reader.newest_receipts(most):
        try:
            each = receipt.parse(data)
        except Malformed:
            continue  # export and verify say it
        found.setdefault(each.organisation, each)
    return dict(sorted(found.items()))


def judge(seen: Seen, case: Case, refused: bool = False) -> Iterator[Finding]:
    """What is to be said of them; ``refused``: that was said already."""
    config = case.config
    if config.mqtt is None:
        yield well(AREA, "", f"nothing is sent; {seen.stored:,} statements are kept")
        return
    for name in config.organisations:
        last = seen.last.get(name)
        if last is None:
            state = State.WRONG if seen.stored else State.OK
            advice = "have it register this gateway (aigeco-peer gateways add), and start its peer"
            yield Finding(AREA, state, name, "no receipt yet", *((ORGANISATION, advice) if seen.stored else ()))
            continue
        words = f"last receipt {age(case.age_s(last.issued_s * 1000))} ago, up to seq {last.first + last.count - 1:,}"
        if _silent(last, case) and seen.pending and case.running and refused:
            # Whoever answers is not asked while another keeps the batch: who that is, was said already.
            words += "; it was not looked at whether it answers, see above"
            yield Finding(AREA, State.UNKNOWN, name, words)
        elif _silent(last, case) and seen.pending and case.running:
            advice = "ask it whether its ingestion peer runs; the broker above"
            yield Finding(AREA, State.WRONG, name, words, ORGANISATION, advice)
        else:
            yield well(AREA, name, words)
    waiting = f"{seen.pending:,} of {seen.stored:,} statements wait for receipts"
    yield well(AREA, "pending", waiting if seen.pending else f"all {seen.stored:,} statements are settled")
    if not refused and case.running:
        yield well(AREA, "refusals", "none")
