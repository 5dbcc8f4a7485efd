"""What ``aigeco watch`` shows, gathered anew for every picture: from the status file how it goes, from the store what
was measured.

Rules
- Read-only and beside the agent: no lock is taken, no line opened, and the agent does nothing for it.
- Of the store only what came since the last picture is read; only the first look goes back.
- A gateway that restarts, a store that is set aside, a file that is not there yet: shown as it is, never an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers import obis
from drivers.reading import Quality, Value, quality_names
from edge import config, load, status
from edge.cli.status import NOT_CONFIGURED, Alarm, alarms, is_late, why
from edge.config import Bus, Config, Meter
from edge.database import SpoolProblem
from edge.doctor.receipts import newest
from edge.spool_read import Counts, SpoolReader
from edge.state import words_of
from signer.codes import ClockStatus, Kind
from signer.receipt import Receipt
from signer.statement import Claims

_LATE_SLOTS = 3
"""A meter this many periods behind is late; the first may be on its way, the second lost to a restart."""

_FEW_RECEIPTS = 40
"""Of the newest, looked through for each picture: more than come between two of them."""

_LATELY_MS = 60_000
"""Meters are read in bursts, slot by slot: a shorter time says more about the burst than about the line."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One value of a reading."""

    obis: str
    value: str
    unit: str
    flags: list[str]


@dataclass(frozen=True, slots=True)
class Point:
    """A measuring point.

    Attributes:
        point: its name.
        meter, line, model: of the configuration; empty when it is no longer in it.
        slot_ms: start of its last slot that was stored; None: none lately.
        age_s: how long ago that was.
        late: whether that is longer than its period explains.
        status: ``good``, what is known against a value, why there are none, ``never read``, or ``not configured``.
        trouble: the last failure in the agent's words.
        values: of that slot.
        latency_ms, requests, answers: of the meter, as the running agent counts; None while it does not.
    """

    point: str
    meter: str
    line: str
    model: str
    slot_ms: int | None
    age_s: int | None
    late: bool
    status: str
    trouble: str
    values: list[Shown]
    latency_ms: int | None = None
    requests: int | None = None
    answers: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What a line does.

    Attributes:
        line, endpoint: its name and where it is.
        meters: that hang on it.
        planned: part of the time that its plan needs.
        busy: part of the time that answers took lately, on the wire and to be found; None: not known yet.
        requests_per_s: lately; None: not known yet.
    """

    line: str
    endpoint: str
    meters: int
    planned: float
    busy: float | None
    requests_per_s: float | None


@dataclass(frozen=True, slots=True)
class Head:
    """The newest statement: stream and sid in hexadecimal."""

    stream: str
    seq: int
    sid: str


@dataclass(frozen=True, slots=True)
class Signed:
    """An organisation's newest receipt: up to which seq, and how long ago it was issued."""

    upto: int
    age_s: int


@dataclass(frozen=True, slots=True)
class View:
    """One picture; the JSON has these names.

    Attributes:
        time_ms: when it was taken.
        running: whether the agent's process is there.
        silent_s: since the agent wrote its status; None: it never did.
        late: whether that is longer than it should be.
    """

    gateway: str
    time_ms: int
    running: bool
    silent_s: int | None
    late: bool
    clock: str
    clock_error_ms: int | None
    head: Head | None
    stored: int
    committed: int
    pending: int
    used_bytes: int
    budget_bytes: int
    cadence: str
    sending: str
    meters: list[Point]
    lines: list[Line]
    receipts: dict[str, Signed]
    alarms: list[Alarm]


@dataclass(frozen=True, slots=True)
class _Last:
    """A point's last reading, as it is shown."""

    slot_ms: int | None
    status: str
    values: list[Shown]


_NONE = Counts(0, 0, 0)


@dataclass(slots=True)
class _Stored:
    """What was read of the store so far."""

    stream: bytes = b""
    until: int = 0
    head: Head | None = None
    latest: dict[str, _Last] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    counts: Counts = _NONE


class Watcher:
    """Takes one picture after the other."""

    def __init__(self, path: Path) -> None:
        """``path``: the configuration.

        Raises:
            ConfigError: it is wrong. Later on, the last one that was right counts.
        """
        self._path = path
        self._config = config.load(path)
        self._changed_ns = path.stat().st_mtime_ns
        self._planned, self._wire_ms = _planned(self._config), _wire_ms(self._config)
        self._stored = _Stored()
        self._told: deque[Mapping[str, Any]] = deque()  # what the agent said within the last minute, oldest first

    def look(self, now_ms: int) -> View:
        """How it is now."""
        self._reload()
        found, trouble = self._config, self._read_store()
        told = status.read(found.status_path) or {}
        self._remember(told)
        running = bool(told.get("running")) and not told.get("stopped")
        silent_ms = None if "updated_ms" not in told else max(0, now_ms - told["updated_ms"])
        clock = told.get("clock", {}) if running else {}
        counts = self._stored.counts
        told_now = told if running else {}
        raised = list(alarms(found, told_now, running, now_ms))
        return View(
            gateway=found.gateway,
            time_ms=now_ms,
            running=running,
            silent_s=None if silent_ms is None else silent_ms // 1000,
            late=is_late(told_now, now_ms),
            clock=ClockStatus(clock["status"]).name.lower() if clock else "",
            clock_error_ms=clock.get("error_ms"),
            head=self._stored.head,
            stored=counts.stored,
            committed=counts.committed,
            pending=counts.pending,
            used_bytes=counts.used_bytes,
            budget_bytes=found.budget_bytes,
            cadence=told.get("spool", {}).get("cadence", "") if running else "",
            sending=told.get("sending", "") if running else "",
            meters=list(self._points(told_now, now_ms)),
            lines=[self._line(bus, told_now) for bus in found.buses],
            receipts={
                name: Signed(each.first + each.count - 1, max(0, now_ms // 1000 - each.issued_s))
                for name, each in self._stored.receipts.items()
            },
            alarms=([Alarm(f"store: {trouble}", "whoever runs this gateway")] if trouble else []) + raised,
        )

    def _reload(self) -> None:
        """Meters come and go while somebody looks; a file that is just being written is not taken."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._config = config.load(self._path)
                self._planned, self._wire_ms = _planned(self._config), _wire_ms(self._config)
                self._changed_ns = changed_ns
        except (config.ConfigError, OSError):
            pass

    def _remember(self, told: Mapping[str, Any]) -> None:
        if self._told and self._told[-1].get("pid") != told.get("pid"):  # its counters begin anew
            self._told.clear()
        if "updated_ms" in told and not (self._told and self._told[-1]["updated_ms"] == told["updated_ms"]):
            self._told.append(told)
        while len(self._told) > 2 and self._told[1]["updated_ms"] < told["updated_ms"] - _LATELY_MS:
            self._told.popleft()

    # ---- the store

    def _read_store(self) -> str:
        """Take in what is new; what is wrong with the store, empty when nothing is."""
        try:
            reader = SpoolReader.read(self._config.spool)
        except SpoolProblem as problem:
            return words_of(problem)
        try:
            self._take_in(reader)
        except SpoolProblem as problem:
            return words_of(problem)
        finally:
            reader.close()
        return ""

    def _take_in(self, reader: SpoolReader) -> None:
        reader.hold()
        streams = reader.streams()
        if not streams:
            return
        last, seen = streams[-1], self._stored
        if last.id != seen.stream:  # the first look, or the chain begins anew
            latest = {sub: _last(claims) for sub, claims in status.latest(reader).items()}
            seen = _Stored(last.id, max(0, reader.end(last.number) - 1), None, latest)
        for seq, message in reader.statements(last.number, seen.until):
            claims = reader.claims(message)
            seen.head, seen.until = Head(last.id.hex(), seq, claims.sid.hex()), seq + 1
            if claims.kind == Kind.READING:
                seen.latest[claims.sub] = _last(claims)
        receipts = newest(reader, _FEW_RECEIPTS) if seen.receipts else newest(reader)
        seen.receipts |= {name: each for name, each in receipts.items() if each.stream == last.id}
        seen.counts, self._stored = reader.counts(), seen

    # ---- meters and lines

    def _points(self, told: Mapping[str, Any], now_ms: int) -> Iterator[Point]:
        said = {meter["name"]: meter for meter in told.get("meters", ())}
        slow_ms = self._config.settlement_period_ms if told.get("spool", {}).get("cadence") == "settlement" else 0
        known = {sub: (bus, meter) for bus in self._config.buses for meter in bus.meters for sub in meter.subs}
        latest = self._stored.latest
        for sub in [*known, *(sub for sub in latest if sub not in known)]:
            bus, meter = known.get(sub, (None, None))
            period_ms = max(meter.period_ms, slow_ms) if meter else None
            yield _point(sub, bus, meter, period_ms, latest.get(sub), said.get(meter.name, {}) if meter else {}, now_ms)

    def _line(self, bus: Bus, told: Mapping[str, Any]) -> Line:
        before = self._told[0] if self._told else {}
        passed_s = (told.get("updated_ms", 0) - before.get("updated_ms", 0)) / 1000
        busy = rate = None
        if told and passed_s > 0:
            was, now = _counted(before, bus.name), _counted(told, bus.name)
            asked = sum(each["requests"] - was.get(name, each)["requests"] for name, each in now.items())
            answer_ms = sum(
                (each["answers"] - was.get(name, each)["answers"]) * (each["latency_ms"] + self._wire_ms.get(name, 0.0))
                for name, each in now.items()
            )
            rate, busy = asked / passed_s, min(1.0, answer_ms / 1000 / passed_s)
        return Line(bus.name, str(bus.endpoint), len(bus.meters), self._planned[bus.name], busy, rate)


def _planned(found: Config) -> dict[str, float]:
    """Line -> the part of the time that its plan needs."""
    return {each.bus: each.share for each in load.plan_load(found)}


def _wire_ms(found: Config) -> dict[str, float]:
    """Meter -> what one of its answers takes on the wire, with the request, on average."""
    times = {meter.name: load.wire_times_s(bus, meter) for bus in found.buses for meter in bus.meters}
    return {name: 1000 * sum(each) / len(each) for name, each in times.items() if each}


def _counted(told: Mapping[str, Any], bus: str) -> dict[str, Mapping[str, Any]]:
    """Meter -> what is counted of it, of the meters of one line that were read."""
    return {each["name"]: each for each in told.get("meters", ()) if each.get("bus") == bus and "requests" in each}


def _point(
    sub: str,
    bus: Bus | None,
    meter: Meter | None,
    period_ms: int | None,
    last: _Last | None,
    told: Mapping[str, Any],
    now_ms: int,
) -> Point:
    slot_ms = last.slot_ms if last else None
    age_ms = None if slot_ms is None else max(0, now_ms - slot_ms)
    return Point(
        point=sub,
        meter=meter.name if meter else "",
        line=bus.name if bus else "",
        model=meter.map.name if meter else "",
        slot_ms=slot_ms,
        age_s=None if age_ms is None else age_ms // 1000,
        late=age_ms is not None and period_ms is not None and age_ms > _LATE_SLOTS * period_ms,
        status=NOT_CONFIGURED if meter is None else last.status if last else "never read",
        trouble=str(told.get("trouble", "")),
        values=last.values if last else [],
        latency_ms=told.get("latency_ms"),
        requests=told.get("requests"),
        answers=told.get("answers"),
    )


_HOLDS = ~(Quality.DERIVED | Quality.TEST)
"""What is only said of a value, and nothing against it, is left out here."""


def _last(claims: Claims) -> _Last:
    against = 0
    for _, value in claims.values:
        against |= value.quality & _HOLDS
    good = quality_names(against)[0] if against else "good"
    words = good if claims.status is None else why(claims.status)
    return _Last(claims.slot_ms, words, [_shown(key, value) for key, value in claims.values])


def _shown(key: int, value: Value) -> Shown:
    flags = quality_names(value.quality) if value.quality else []
    return Shown(obis.unpack(key), value.text(), obis.unit(key), flags)


def pick(values: Sequence[Shown], codes: Sequence[str]) -> str | None:
    """The first of these quantities that is there, as decimal text."""
    found = {each.obis: each.value for each in values}
    return next((found[code] for code in codes if code in found), None)
