"""A technician's visit to one meter: look at it, and bring what was done there into the chain.

Signs nothing itself: an order (edge.requests) is fulfilled by the running agent, or, when none runs, by a writer that
lives as long as the command. Shows nothing.

Rules
- While the agent runs it owns the line: its newest reading in the store is what the meter says. Otherwise the meter is
  read here, through the same bus and the same maps.
- Without an agent the store is opened like an agent would: a boot statement says so, and it is closed cleanly.
- A reading counts only when every measuring point has values.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drivers.bus import Bus as Line
from drivers.bus import Identity, MeterConfig
from drivers.reading import Reading
from edge import apply, requests, status
from edge.config import Bus, Config, Meter
from edge.host import Clock
from edge.identity import Identity as Gateway
from edge.reader import Described
from edge.requests import Answer, Order
from edge.spool import Spool
from edge.spool_read import SpoolReader
from edge.state import Pulse, State
from edge.writer import Tick, Writer
from signer.chain import Values
from signer.codes import EventCode, Kind
from signer.statement import Claims

_TRIES, _BETWEEN_S = 3, 1.0
"""A meter that was just connected may need a second; its bus leaves one that failed alone for a while."""

_LATE_S = 15.0
"""Beyond a period: a slow line, a busy machine, and the writer's own second."""

_POLL_S = 0.2
_ANSWER_S = 15.0
"""The writer looks once a second; a card that syncs slowly takes a few."""

_TOLD_S = 10.0
"""A gateway that does not say within this time what it works with is of an older version, or has other troubles."""

_LATELY = 512
"""Statements in which a change of the last seconds is found: 30 meters at a second for a quarter of a minute."""

_BACK = 200_000
"""Statements looked through for what was before: a day of two meters at a second."""


class Silent(Exception):
    """The meter gives no values. Whose move: whoever is at the meter; waiting helps when it only starts."""


class NotTaken(Exception):
    """The running agent did not take the order. Whose move: whoever runs the gateway."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a meter says now.

    Attributes:
        meter: which.
        identity: who it says it is; None when the agent read it.
        serial: its serial number, empty when it does not tell.
        readings: one a measuring point, all with values.
        from_agent: whether the running agent read it.
    """

    meter: Meter
    identity: Identity | None
    serial: str
    readings: tuple[Reading, ...]
    from_agent: bool


def running(config: Config) -> bool:
    """Whether an agent with this configuration runs."""
    told = status.read(config.status_path)
    return bool(told and told["running"] and not told.get("stopped")) or _locked(Path(f"{config.spool}.lock"))


def _locked(path: Path) -> bool:
    """Whether the process that wrote itself into a lock file has it open still; takes no lock, so nobody is disturbed.

    An agent that has just started is found so, before it says how it is.
    """
    try:
        lock = path.stat()
        files = list(Path(f"/proc/{int(path.read_text())}/fd").iterdir())
    except (OSError, ValueError):
        return False
    for each in files:
        with suppress(OSError):  # it was closed meanwhile
            if os.path.samestat(each.stat(), lock):
                return True
    return False


def find(config: Config, name: str) -> tuple[Bus, Meter] | None:
    """A meter of the configuration and its line."""
    return next(((bus, meter) for bus in config.buses for meter in bus.meters if meter.name == name), None)


def look(config: Config, bus: Bus, meter: Meter, timeout_s: float | None = None) -> Look:
    """Read the meter, through the running agent when there is one.

    Raises:
        Silent: it gives no values.
        NotTaken: the running agent knows it otherwise, or not at all.
        SpoolProblem: the store cannot be read.
    """
    if running(config):
        _check_in_force(config, meter)
        patience_s = meter.period_ms / 1000 + _LATE_S if timeout_s is None else timeout_s
        return _through_agent(config, meter, patience_s)
    return _directly(bus, meter)


def sign(config: Config, gateway: Gateway, seen: Look, order: Order) -> Answer:
    """Bring an order into the chain.

    Raises:
        NotTaken: the agent does not answer.
        SpoolProblem: the store cannot be used.
        OSError: the order cannot be left.
    """
    return _asked(config, order) if seen.from_agent else _sign_here(config, gateway, seen, order)


# ---- what the meter says


def _directly(bus: Bus, meter: Meter) -> Look:
    line = Line(bus.endpoint, [MeterConfig(meter.name, meter.map, meter.unit, meter.overrides)])
    try:
        for left in reversed(range(_TRIES)):
            identity = line.identify(meter.name)
            readings = line.read(meter.name, _slot(meter))
            if identity is not None and identity.agrees and all(reading.values for reading in readings):
                return Look(meter, identity, identity.serial, readings, False)
            if left:
                time.sleep(_BETWEEN_S)
        trouble = line.counters[meter.name].trouble or "answers, and has no values"
    finally:
        line.close()
    silent = Silent(f"meter {meter.name}, unit {meter.unit} on {bus.endpoint}: {trouble}")
    silent.add_note("try: its power, its cable and its unit id; aigeco scan says what answers on the line")
    raise silent


def _through_agent(config: Config, meter: Meter, patience_s: float) -> Look:
    deadline = time.monotonic() + patience_s
    oldest_ms = time.time_ns() // 1_000_000 - 2 * meter.period_ms
    while True:
        reader = SpoolReader.read(config.spool)
        try:
            found = {sub: claims for sub, claims in status.latest(reader).items() if sub in meter.subs}
            described = _described(reader, meter)
        finally:
            reader.close()
        since = described.seq if described else 0
        fresh = [
            claims
            for claims in found.values()
            if (claims.slot_ms or 0) >= oldest_ms and claims.values and claims.seq > since
        ]
        if fresh and len(fresh) == len(found):
            readings = tuple(_reading(claims) for claims in fresh)
            serial = str(described.body[13][5]) if described else _serial(config, meter)
            return Look(meter, None, serial, readings, True)
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    told = next((each for each in _meters(config) if each["name"] == meter.name), None)
    if told is None:
        silent = Silent(f"meter {meter.name}: is not among the meters of the running gateway")
        silent.add_note("try: aigeco config apply, so that it reads the configuration again")
        raise silent
    silent = Silent(f"meter {meter.name}: the gateway has no values of it: {told.get('trouble') or 'not read yet'}")
    silent.add_note("try: its power and its cable; aigeco status says how it is")
    raise silent


def _check_in_force(config: Config, meter: Meter) -> None:
    """Raises NotTaken when what is signed would not be what the configuration says of the meter."""
    with suppress(OSError):
        told = apply.ask(config.spool, apply.digest(config.path), True, _TOLD_S)
        words = next((each for each in told.changes if each.startswith(f"meter {meter.name} ")), "") if told else ""
        if told is not None and meter.name in told.meters:
            other = NotTaken(f"the running gateway does not work with this configuration yet: {words}")
            other.add_note("try: aigeco config apply; then again")
            raise other


def _described(reader: SpoolReader, meter: Meter) -> Claims | None:
    """The newest descriptor of the meter's points, if there was one lately: the status may be a moment older."""
    newest = reader.newest(_LATELY)
    return next((claims for claims in newest if claims.kind == Kind.DESCRIPTOR and claims.sub in meter.subs), None)


def _meters(config: Config) -> list[dict[str, object]]:
    told = status.read(config.status_path) or {}
    found = told.get("meters", [])
    return found if isinstance(found, list) else []


def _serial(config: Config, meter: Meter) -> str:
    return next((str(each.get("serial", "")) for each in _meters(config) if each["name"] == meter.name), "")


def _reading(claims: Claims) -> Reading:
    assert claims.slot_ms is not None
    return Reading(claims.sub, claims.slot_ms, claims.status, claims.values, None, claims.blocks)


def _slot(meter: Meter) -> int:
    return time.time_ns() // 1_000_000 // meter.period_ms * meter.period_ms


# ---- what was there before


@dataclass(frozen=True, slots=True)
class Before:
    """What the store knows of a measuring point's meter before the present one.

    Attributes:
        serial: its serial number, empty when unknown.
        values: its last values; empty when there are none.
        slot_ms: of them, 0 when there are none.
        recorded: seq of an exchange statement that came after it, None when there is none.
    """

    serial: str
    values: Values
    slot_ms: int
    recorded: int | None


def before(config: Config, seen: Look, sub: str, named: bool) -> Before | None:
    """The meter of a point before the one that was looked at; None when the store shows no other.

    ``named``: somebody says that it was another one, so an interruption is border enough.

    Raises:
        SpoolProblem: the store cannot be read.
    """
    told = "" if seen.from_agent else _serial(config, seen.meter)
    reader = SpoolReader.read(config.spool)
    try:
        found = (claims for claims in reader.newest(_BACK) if claims.sub == sub)
        return _before(found, seen.serial, told, named, not seen.from_agent)
    finally:
        reader.close()


def _before(newest: Iterator[Claims], serial: str, told: str, named: bool, interrupted: bool) -> Before | None:
    """Back through a point's statements, past what the present meter said.

    Where both have a serial number, the border is what names another one: a descriptor, or the event of the change.
    Where one has none, it is the newest interruption. ``told``: the number in the last run's status.
    """
    recorded: int | None = None
    other = ""  # whose readings come next
    last: Claims | None = None  # newest values that may be the other's
    behind: Claims | None = None  # newest values behind an interruption
    for claims in newest:
        body = claims.body.get(13, {})
        match claims.kind:
            case Kind.EXCHANGE:
                recorded = claims.seq if recorded is None else recorded
            case Kind.EVENT if body[1] == EventCode.SERIAL_NUMBER_CHANGED and serial:
                old, _, new = str(body.get(3, "")).rpartition(" -> ")
                other = old if new == serial else other
            case Kind.DESCRIPTOR if body[5] and body[5] != serial:
                return _found(str(body[5]), last if serial else behind or last, recorded)
            case Kind.DESCRIPTOR if body[5]:
                interrupted, last, behind = True, None, None
            case Kind.READING if claims.values:
                if other:
                    return _found(other, claims, recorded)
                last = last or claims
                behind = behind or (claims if interrupted else None)
            case Kind.READING | Kind.GAP:
                interrupted = True
    if told and told != serial and last is not None:
        return _found(told, last, recorded)
    return _found("", behind, recorded) if behind is not None and (named or not serial) else None


def _found(serial: str, claims: Claims | None, recorded: int | None) -> Before:
    return Before(serial, claims.values if claims else (), (claims.slot_ms or 0) if claims else 0, recorded)


# ---- into the chain


def _asked(config: Config, order: Order) -> Answer:
    path = requests.leave(config.spool, order)
    try:
        answer = requests.answer_to(path, _ANSWER_S)
    except TimeoutError as error:
        late = NotTaken(f"the gateway has begun and not finished yet: {error}")
        late.add_note("try: nothing again: it will be in the chain once; aigeco status says how the gateway is")
        raise late from None
    if answer is None:
        silent = NotTaken(f"the gateway did not take the order within {_ANSWER_S:g} s; nothing was signed")
        silent.add_note("try: aigeco status: whether it runs, and whether the meter was described yet; then again")
        raise silent
    return answer


def _sign_here(config: Config, gateway: Gateway, seen: Look, order: Order) -> Answer:
    clock, state = Clock(), State()
    spool = Spool.open(config.spool, config.gateway, clock.now().utc_ms)
    try:
        writer = Writer(config, gateway, spool, queue.SimpleQueue(), clock, state, Pulse("writer"))
        writer.begin("")
        path = requests.leave(config.spool, order)
        described = Described(seen.meter, seen.meter.period_ms, seen.identity, clock.now())
        writer.take([described])
        writer.take([Tick(clock.now())])
        answer = requests.answer_to(path, 0)
    except BaseException:
        spool.close()
        raise
    spool.close("clean")
    if answer is None:
        full = NotTaken("; ".join(state.alarms.all()) or "the store did not take the order; nothing was signed")
        full.add_note("try: aigeco status; then again")
        raise full
    return answer
