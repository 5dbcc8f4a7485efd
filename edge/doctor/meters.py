"""Meters and the lines they hang on, from what the running agent counts; without it, from the last stored slots. Pure
but for the store, which is read beside the agent.

Rules
- How a meter is, is the agent's word; a doctor that asked by itself would disturb the line.
- Too few requests say nothing about a line.
- A meter that does not answer at all is the meter's finding, not the line quality's; when none of a line's does, it is
  one finding, the line's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drivers.line import SerialEndpoint
from drivers.meter import LATENCY_BOUNDS_MS
from drivers.reading import Status
from edge import status
from edge.config import Bus, Meter
from edge.database import SpoolProblem
from edge.doctor.finding import MAKER, OPERATOR, TECHNICIAN, Case, Finding, State, age, unknown, well
from edge.spool_read import SpoolReader

AREA, LINE = "meters", "line quality"

_ENOUGH = 20
"""Requests below which a share is chance."""

_WARNING, _WRONG = 0.01, 0.1
"""Shares of failed requests. A sound line of 1,000 m loses none; at a tenth, a set of four requests fails in three."""

_DAMAGED = 0.001
"""Damaged answers are never the meter's own habit, as silence may be."""

_SLOW_MS = 200
"""Half of the answers later than this: ten times what usual meters take."""

_LATE_SLOTS = 3

_ADVICE = {
    Status.TIMEOUT: "its power, its unit id, A and B of its wiring, the line's baud rate and parity",
    Status.DISCONNECTED: "the adapter or the network to it; ports above; ping the host",
    Status.EXCHANGED: "when it was exchanged: aigeco replace {name}",
    Status.INCOMPATIBLE: "another model in the configuration; the type plate says which: aigeco maps list",
    Status.READ_ERROR: "one master on the line, each unit id once, termination at both ends",
}


def check(case: Case) -> Iterator[Finding]:
    """All meters of the configuration."""
    if not case.running:
        yield from _stored(case)
        return
    told = {meter["name"]: meter for meter in case.told.get("meters", ())}
    cadence = case.told.get("spool", {}).get("cadence", "normal")
    for bus in case.config.buses:
        if len(bus.meters) > 1 and all(_silent(told.get(meter.name, {})) for meter in bus.meters):
            yield _silent_line(bus)
            continue
        for meter in bus.meters:
            slowest_ms = meter.period_ms if cadence == "normal" else case.config.settlement_period_ms
            yield judge(meter, told.get(meter.name, {}), max(meter.period_ms, slowest_ms), case)


def check_lines(case: Case) -> Iterator[Finding]:
    """The quality of the line to each meter."""
    if not case.running:
        yield unknown(LINE, "", "counted only while the gateway runs")
        return
    for meter in case.told.get("meters", ()):
        yield from judge_line(meter)


def _silent(told: Mapping[str, Any]) -> bool:
    return told.get("slot_ms") is not None and told.get("status") == Status.TIMEOUT


def _silent_line(bus: Bus) -> Finding:
    """A line on which nobody answers: what all of its meters share is looked for first."""
    names = ", ".join(meter.name for meter in bus.meters)
    place, how = str(bus.endpoint), f"--tcp {bus.endpoint}"
    shared = "the converter's other side: A and B, its baud rate and parity"
    if isinstance(bus.endpoint, SerialEndpoint):
        line = bus.endpoint
        place, how = f"{line.path} at {line.baud} 8{line.parity}{line.stopbits}", f"--serial {line.path}"
        shared = "A and B of its wiring, the line's baud rate and parity, the meters' power"
    words = f"none of its {len(bus.meters)} meters answers on {place}: {names}"
    advice = f"{shared}; with the gateway stopped, aigeco scan {how} finds what answers"
    return Finding(AREA, State.WRONG, bus.name, words, TECHNICIAN, advice)


def judge(meter: Meter, told: Mapping[str, Any], period_ms: int, case: Case) -> Finding:
    """One meter as the agent tells it."""
    slot_ms = told.get("slot_ms")
    if slot_ms is None:
        words = "was not read yet, or the gateway was started without it"
        advice = "look again in a minute; then restart the gateway: systemctl restart aigeco"
        return Finding(AREA, State.WARNING, meter.name, words, OPERATOR, advice)
    silent_s = case.age_s(slot_ms + period_ms)
    if silent_s > _LATE_SLOTS * period_ms / 1000 + status.FRESH_S:
        words = f"its last slot began {age(case.age_s(slot_ms))} ago"
        return Finding(AREA, State.WRONG, meter.name, words, OPERATOR, "journalctl -u aigeco -n 50")
    code, trouble = told.get("status"), str(told.get("trouble", ""))
    if code is not None and code != Status.NOT_PRESENT:
        return _without_values(meter, told, code, trouble)
    if code is None and trouble:
        advice = f"aigeco commission {meter.name}: it shows what would make the values plausible"
        return Finding(AREA, State.WARNING, meter.name, f"is not plausible: {trouble}", TECHNICIAN, advice)
    serial = f"serial number {told['serial']}" if told.get("serial") else "tells no serial number"
    how = "good" if code is None else "says that it has no values now, as an inverter at night"
    return well(AREA, meter.name, f"{meter.map.name}, last slot {age(case.age_s(slot_ms))} ago, {how}; {serial}")


def _without_values(meter: Meter, told: Mapping[str, Any], code: int, trouble: str) -> Finding:
    words = f"gives no values: {trouble or f'status {code}'}"
    if told.get("failures", 0) > 1:
        words += f"; failed {told['failures']} times in a row"
    if told.get("pause_s"):
        words += f", left alone for {told['pause_s']:g} s between tries"
    return Finding(AREA, State.WRONG, meter.name, words, TECHNICIAN, advice_on(code, meter))


def advice_on(code: int, meter: Meter) -> str:
    """What to try with a meter that has no values for this reason."""
    known = _ADVICE.get(Status(code)) if code in set(Status) else None
    return (known or "aigeco read asks it once, with the gateway stopped").format(name=meter.name)


def judge_line(told: Mapping[str, Any]) -> Iterator[Finding]:
    """The line to one meter, from its counters."""
    name, requests, answers = told["name"], told.get("requests", 0), told.get("answers", 0)
    if not answers:
        return
    if requests < _ENOUGH:
        yield Finding(LINE, State.UNKNOWN, name, f"{_some(requests)}: too few to say")
        return
    found = [finding for finding in _shares(told, name, requests) if finding is not None]
    yield from found
    slow = _percentile_ms(told.get("latencies", ()), 0.5)
    if slow is None or slow > _SLOW_MS:
        words = f"half of its answers take longer than {_SLOW_MS} ms ({_times(told.get('latencies', ()))})"
        advice = "ask for newer firmware; over a radio or a gateway: shorten the way; raise period_s"
        yield Finding(LINE, State.WARNING, name, words, MAKER, advice)
    elif not found:
        lost = requests - answers
        yield well(LINE, name, f"{_some(requests)}, {lost:,} without values; {_times(told.get('latencies', ()))}")


def _shares(told: Mapping[str, Any], name: str, requests: int) -> Iterator[Finding | None]:
    probes = f"; {told['probes']:,} asked again to be sure" if told.get("probes") else ""
    rows = (
        ("timeouts", "unanswered", _WARNING, TECHNICIAN, "wiring and termination; fewer meters, or a lower baud rate"),
        (
            "checksum_errors",
            "answered with damaged characters",
            _DAMAGED,
            TECHNICIAN,
            "termination (120 ohm at both ends), A and B, the shield, a cable beside power lines",
        ),
        (
            "wrong_answers",
            "answered with something else",
            _WARNING,
            TECHNICIAN,
            "each unit id once; one master on the line; another gateway may be asking, too",
        ),
        ("exceptions", "refused", _WRONG, MAKER, "another model (aigeco maps list), or ask about this firmware"),
        ("disconnects", "cut off", _WARNING, TECHNICIAN, "plugs and power of the adapter; one client only per device"),
    )
    for key, words, least, move, advice in rows:
        count = told.get(key, 0)
        share = count / requests
        if share < least:
            yield None
            continue
        state = State.WRONG if share >= _WRONG and key != "exceptions" else State.WARNING
        said = f"{count:,} of {_some(requests)} {words} ({share * 100:.1f} %){probes}"
        yield Finding(LINE, state, name, said, move, advice)


def _percentile_ms(counts: Sequence[int], share: float) -> int | None:
    """The bound below which that share of the answers lies; None: above all bounds."""
    wanted, seen = share * sum(counts), 0
    for bound, count in zip(LATENCY_BOUNDS_MS, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return None


def _times(counts: Sequence[int]) -> str:
    def within(share: float) -> str:
        bound = _percentile_ms(counts, share)
        return f"within {bound} ms" if bound is not None else f"longer than {LATENCY_BOUNDS_MS[-1]} ms"

    return f"half {within(0.5)}, 99 % {within(0.99)}"


def _some(requests: int) -> str:
    return f"{requests:,} request{'' if requests == 1 else 's'}"


def _stored(case: Case) -> Iterator[Finding]:
    """The last stored slots: how the meters were when the gateway stopped, which is not how they are."""
    if not case.config.spool.exists():
        yield unknown(AREA, "", "there is no store yet; --probe asks them once")
        return
    try:
        reader = SpoolReader.read(case.config.spool)
    except SpoolProblem as problem:
        yield Finding(AREA, State.WARNING, "", f"nothing is known of them: {problem}", OPERATOR, "aigeco run")
        return
    try:
        latest = status.latest(reader)
    finally:
        reader.close()
    for bus in case.config.buses:
        for sub in (sub for meter in bus.meters for sub in meter.subs):
            claims = latest.get(sub)
            if claims is None or claims.slot_ms is None:
                yield Finding(AREA, State.WARNING, sub, "was never read", OPERATOR, "start the gateway, or --probe")
                continue
            how = "good" if claims.status is None else f"without values (status {claims.status})"
            words = f"last slot {age(case.age_s(claims.slot_ms))} ago, {how}, before the gateway stopped"
            yield Finding(AREA, State.UNKNOWN, sub, words)
