"""What is different between the configuration in force and another one, in words. Pure.

Rules
- Lines are known by their name, meters by theirs, wherever they hang.
- What a running gateway cannot change is said with its place. While there is any of it nothing of the file is taken:
  what runs is always the whole of one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.line import SerialEndpoint
from drivers.table import Problem
from edge.config import Bus, Config, Meter

RESTART = "systemctl restart aigeco"


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different.

    Attributes:
        words: one line for each difference that can be taken while the gateway runs.
        meters: those that are new or different.
        restart: what it cannot take without a new start.
    """

    words: tuple[str, ...]
    meters: tuple[str, ...]
    restart: tuple[Problem, ...]


def compare(old: Config, new: Config) -> Changes:
    """The differences of ``new`` from ``old``."""
    meters = dict(_meters(old, new))
    left = _by_name(new)
    gone = [f"meter {name} removed" for name in _by_name(old) if name not in left]
    words = (*_settings(old, new), *_lines(old, new), *gone, *meters.values())
    return Changes(words, tuple(meters), tuple(_fixed(old, new)))


def _fixed(old: Config, new: Config) -> Iterator[Problem]:
    """What is settled when the gateway starts."""
    for place, was, is_ in (
        ("gateway.id", old.gateway, new.gateway),
        ("key.uri", old.key_uri, new.key_uri),
        ("key.certificate", old.certificate, new.certificate),
        ("key.ca", old.ca, new.ca),
        ("store.path", old.spool, new.spool),
        ("mqtt", old.mqtt, new.mqtt),
        ("ledger.organisations", dict(old.organisations), dict(new.organisations)),
        ("ledger.receipts", old.receipts, new.receipts),
    ):
        if was != is_:
            yield Problem(place, "", "has changed, and is taken only when the gateway starts", RESTART)


def _settings(old: Config, new: Config) -> Iterator[str]:
    if old.budget_bytes != new.budget_bytes:
        yield f"store.budget_mb: {old.budget_bytes // 1_000_000} -> {new.budget_bytes // 1_000_000}"
    if old.settlement_period_ms != new.settlement_period_ms:
        yield f"measure.settlement_period_s: {old.settlement_period_ms // 1000} -> {new.settlement_period_ms // 1000}"


def _lines(old: Config, new: Config) -> Iterator[str]:
    before, now = ({bus.name: bus for bus in config.buses} for config in (old, new))
    for name in before:
        if name not in now:
            yield f"line {name} removed"
    for name, bus in now.items():
        if name not in before:
            yield f"line {name} added" + (f": {_endpoint(bus)}" if name != str(bus.endpoint) else "")
        elif bus.endpoint != before[name].endpoint:
            yield f"line {name} opened anew: {_endpoint(before[name])} -> {_endpoint(bus)}"


def _by_name(config: Config) -> dict[str, tuple[Bus, Meter]]:
    return {meter.name: (bus, meter) for bus in config.buses for meter in bus.meters}


def _meters(old: Config, new: Config) -> Iterator[tuple[str, str]]:
    """(name, words) of each meter that is new or different."""
    before = _by_name(old)
    for name, (bus, meter) in _by_name(new).items():
        if name not in before:
            every = f"every {meter.period_ms / 1000:g} s"
            yield name, f"meter {name} added: {meter.map.name}, unit {meter.unit} on {bus.name}, {every}"
            continue
        line, was = before[name]
        different = list(_differences(was, meter))
        if line.name != bus.name:
            different.insert(0, f"line {line.name} -> {bus.name}")
        if different:
            yield name, f"meter {name} changed: {', '.join(different)}"


def _differences(old: Meter, new: Meter) -> Iterator[str]:
    if old.map != new.map:
        same = old.map.name == new.map.name
        yield f"the map {new.map.name} says something else" if same else f"model {old.map.name} -> {new.map.name}"
    if old.unit != new.unit:
        yield f"unit {old.unit} -> {new.unit}"
    if old.role != new.role:
        yield f"role {old.role.name.lower()} -> {new.role.name.lower()}"
    if old.period_ms != new.period_ms:
        yield f"period {old.period_ms / 1000:g} s -> {new.period_ms / 1000:g} s"
    was, now = dict(old.overrides.as_pairs()), dict(new.overrides.as_pairs())
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            yield f"{key} {was.get(key, 'not set')} -> {now.get(key, 'not set')}"
    for key, name in (("current_a", "rated_current"), ("voltage_v", "nominal_voltage")):
        one, other = getattr(old.limits, key), getattr(new.limits, key)
        if one != other:
            yield f"{name} {one or 'not set'} -> {other or 'not set'}"


def _endpoint(bus: Bus) -> str:
    endpoint = bus.endpoint
    if isinstance(endpoint, SerialEndpoint):
        return f"{endpoint.path} at {endpoint.baud} 8{endpoint.parity}{endpoint.stopbits}"
    return str(endpoint)
