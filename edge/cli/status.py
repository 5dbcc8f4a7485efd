"""``aigeco status``: what the gateway does, and whose move it is. Reads the store beside a running agent.

Rules
- Statements, meters and receipts are the store's word, also when the agent does not run; the rest is the agent's own.
- Changes nothing and takes no lock.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import table, where

if TYPE_CHECKING:
    from edge.config import Config
    from edge.spool_read import SpoolReader

_MOVES = {
    "broker": "whoever runs the broker or the network to it",
    "ledger": "the organisations",
    "receipts": "the organisations",
    "meter": "a technician at the meter",
    "configuration": "whoever set this gateway up",
}
_OPERATOR = "whoever runs this gateway"

NOT_CONFIGURED = "not configured"
"""The state of a measuring point that is in the store, and no longer in the configuration."""

_CLOCKS = {
    "informative": "not synchronised",
    "holdover": "no longer synchronised",
    "failed": "was never set",
    "unknown": "of unknown quality",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A measuring point.

    Attributes:
        point: its name.
        model: the meter's model, empty when it is no longer in the configuration.
        slot_ms: start of its last slot that was stored; None: none lately.
        age_s: how long ago that was.
        status: ``good``, why it had no values, ``never read``, or ``not configured``.
        trouble: the last failure in the agent's words.
    """

    point: str
    model: str
    slot_ms: int | None
    age_s: int | None
    status: str
    trouble: str


@dataclass(frozen=True, slots=True)
class Receipts:
    """What an organisation signed for: so many receipts, up to this seq."""

    receipts: int
    upto: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """What somebody should look at."""

    words: str
    whose_move: str


@dataclass(frozen=True, slots=True)
class View:
    """All that is shown; the JSON has these names. ``late``: it runs, and its word is older than it should be."""

    gateway: str
    running: bool
    updated_ms: int | None
    late: bool
    clock: str
    meters: list[Point]
    stored: int
    committed: int
    pending: int
    used_bytes: int
    budget_bytes: int
    sending: str
    receipts: dict[str, Receipts]
    alarms: list[Alarm]


@click.command("status", short_help="Show what the gateway does, and whose move it is.")
@where.option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config_path: Path | None, as_json: bool) -> None:
    """Show meters, statements on their way, receipts, and what somebody should look at.

    Works beside the running gateway and when it does not run.
    """
    from edge import config
    from edge.spool_read import SpoolReader

    found = config.load(where.find(config_path))
    reader = SpoolReader.read(found.spool)
    try:
        view = _view(found, reader, time.time_ns() // 1_000_000)
    finally:
        reader.close()
    if as_json:
        print(json.dumps(asdict(view)))
    else:
        _show(view, time.time_ns() // 1_000_000)


def _view(config: Config, reader: SpoolReader, now_ms: int) -> View:
    from edge import status
    from signer.codes import ClockStatus

    told = status.read(config.status_path) or {}
    running = bool(told.get("running")) and not told.get("stopped")
    counts = reader.counts()
    clock = told.get("clock", {})
    told_now = told if running else {}
    return View(
        gateway=reader.gateway,
        running=running,
        updated_ms=told.get("updated_ms"),
        late=is_late(told_now, now_ms),
        clock=ClockStatus(clock["status"]).name.lower() if running and clock else "",
        meters=list(_points(config, reader, told, now_ms)),
        stored=counts.stored,
        committed=counts.committed,
        pending=counts.pending,
        used_bytes=counts.used_bytes,
        budget_bytes=config.budget_bytes,
        sending=told.get("sending", "") if running else "",
        receipts=_receipts(reader),
        alarms=list(alarms(config, told_now, running, now_ms)),
    )


def _points(config: Config, reader: SpoolReader, told: Mapping[str, Any], now_ms: int) -> Iterator[Point]:
    from edge import status

    models = {sub: meter.map.name for bus in config.buses for meter in bus.meters for sub in meter.subs}
    troubles = {sub: meter.get("trouble", "") for meter in told.get("meters", ()) for sub in meter["points"]}
    latest = status.latest(reader)
    for sub in [*models, *(sub for sub in latest if sub not in models)]:
        claims = latest.get(sub)
        if claims is None:
            yield Point(sub, models[sub], None, None, "never read", troubles.get(sub, ""))
            continue
        slot_ms, code = claims.body[16], claims.body.get(10)
        words = NOT_CONFIGURED if sub not in models else "good" if code is None else why(code)
        age_s = max(0, now_ms - slot_ms) // 1000
        yield Point(sub, models.get(sub, ""), slot_ms, age_s, words, troubles.get(sub, "") if code else "")


def why(code: int) -> str:
    """A record status in words."""
    from drivers.reading import Status

    return Status(code).name.lower().replace("_", " ") if code in set(Status) else f"status {code}"


def is_late(told: Mapping[str, Any], now_ms: int) -> bool:
    """Whether a running agent's word is older than it should be."""
    from edge import status

    return bool(now_ms - told.get("updated_ms", now_ms) > 1500 * status.REFRESH_S)


def clock_in_words(name: str) -> str:
    """A clock's status as a person says it."""
    return f"clock {_CLOCKS.get(name, name)}"


def _receipts(reader: SpoolReader) -> dict[str, Receipts]:
    from signer import receipt

    found: dict[str, Receipts] = {}
    for data in reader.receipts():
        each = receipt.parse(data)
        before = found.get(each.organisation, Receipts(0, -1))
        found[each.organisation] = Receipts(before.receipts + 1, each.first + each.count - 1)
    return dict(sorted(found.items()))


def alarms(config: Config, told: Mapping[str, Any], running: bool, now_ms: int) -> Iterator[Alarm]:
    """What somebody should look at; ``told``: the running agent's status, empty when it does not run."""
    from drivers.reading import Status
    from edge import apply, status

    if not running:
        yield Alarm("the gateway does not run: nothing is measured; try: systemctl start aigeco", _OPERATOR)
    silent_s = (now_ms - told.get("updated_ms", now_ms)) / 1000
    if silent_s > status.FRESH_S:
        words = f"the gateway runs, and has said nothing for {table.age(silent_s)}"
        yield Alarm(f"{words}; try: journalctl -u aigeco -n 50; systemctl restart aigeco", _OPERATOR)
    raised = status.alarms(told)
    if apply.is_another(config.path, told) and not any(each.kind == "configuration" for each in raised):
        words = f"configuration: {config.path} is not what the gateway runs; try: aigeco config apply"
        yield Alarm(words, _MOVES["configuration"])
    for each in raised:
        yield Alarm(str(each), _MOVES.get(each.kind.partition(",")[0].partition(" ")[0], _OPERATOR))
    for meter in told.get("meters", ()):
        if meter.get("trouble") and meter.get("status") != Status.NOT_PRESENT:  # an inverter at night is in good order
            yield Alarm(f"meter {meter['name']}: {meter['trouble']}", _MOVES["meter"])
    for path in sorted(config.spool.parent.glob(f"{config.spool.name}.set-aside-*")):
        if not path.name.endswith(("-wal", "-shm", ".damaged")):
            yield Alarm(f"a store that could not be used was set aside: {path}", _OPERATOR)


def _show(view: View, now_ms: int) -> None:
    print(f"gateway {view.gateway}: {_state(view, now_ms)}")
    rows = [
        (each.point, each.model, "-" if each.age_s is None else f"{table.age(each.age_s)} ago", each.status)
        for each in view.meters
    ]
    table.show(("meter", "model", "last slot", "state"), rows, right=("last slot",))
    print(
        f"statements: {view.stored:,} stored, {view.committed:,} committed, {view.pending:,} pending; "
        f"{view.used_bytes / 1e6:,.1f} of {view.budget_bytes / 1e6:,.0f} MB"
    )
    if view.sending:
        print(f"sending: {view.sending}")
    for organisation, each in view.receipts.items():
        print(f"receipts: {organisation} {each.receipts:,}, up to seq {each.upto:,}")
    for alarm in view.alarms:
        print(table.fit(f"alarm: {alarm.words}", sys.stdout))
        print(f"  whose move: {alarm.whose_move}")
    if not view.alarms:
        print("no alarms")


def _state(view: View, now_ms: int) -> str:
    if view.running and view.late:
        return f"runs, and has not written for {table.age((now_ms - (view.updated_ms or now_ms)) / 1000)}"
    if view.running:
        return f"running, {clock_in_words(view.clock)}" if view.clock else "running"
    if view.updated_ms is None:
        return "not running"
    return f"not running, last heard of {table.age((now_ms - view.updated_ms) / 1000)} ago"
