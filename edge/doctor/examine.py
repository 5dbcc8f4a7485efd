"""All areas side by side, each within a time limit.

Rules
- Each check runs in a process of its own (a fork): whatever hangs, a network file system or a name server, is ended
  there and costs the others nothing.
- What a check found before its time was over counts.
- A check that fails as it should not is a finding too: the others are still worth reading.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from edge.doctor import ask, broker, clock, disk, key, meters, ports, receipts, service
from edge.doctor.finding import OPERATOR, Case, Finding, State

LIMIT_S = 9.0
"""Longer than any limit of its own that a check has."""

Check = Callable[[], Iterable[Finding]]


def checks_of(case: Case, probe: bool) -> dict[str, Check]:
    """What is to be looked at: name -> check, in the order it is told.

    Args:
        case: what all start from.
        probe: ask the meters; only where the agent does not run.
    """
    assert not (probe and case.running), "the lines are the agent's"
    areas: dict[str, Callable[[Case], Iterable[Finding]]] = {
        service.AREA: service.check,
        service.CONFIG: service.check_config,
        ports.AREA: ports.check,
        meters.AREA: meters.check,
        meters.LINE: meters.check_lines,
        clock.AREA: clock.check,
        disk.AREA: disk.check,
        key.AREA: key.check,
        key.TRUST: key.check_trust,
        broker.AREA: broker.check,
        receipts.AREA: receipts.check,
    }
    found: dict[str, Check] = {name: lambda check=check: check(case) for name, check in areas.items()}  # type: ignore[misc]
    if probe:
        del found[meters.AREA]
        for bus in case.config.buses:
            found[f"meters on {bus.endpoint}"] = lambda bus=bus: ask.check(bus)  # type: ignore[misc]
    return found


def examine(
    checks: Mapping[str, Check],
    limit_s: float = LIMIT_S,
    progress: Callable[[int, int], None] = lambda done, to_do: None,
) -> list[Finding]:
    """All findings, the most important first, otherwise in the order of the checks.

    Args:
        checks: name -> check.
        limit_s: seconds that each may take.
        progress: told how many have ended, of how many.
    """
    said: dict[str, bytearray] = {name: bytearray() for name in checks}
    late: set[str] = set()
    with selectors.DefaultSelector() as selector:
        children = {name: _begin(check, selector, name) for name, check in checks.items()}
        until_s = time.monotonic() + limit_s
        while selector.get_map():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                late = {str(each.data) for each in selector.get_map().values()}
                break
            for each, _ in selector.select(left_s):
                data = os.read(each.fd, 65536)
                said[each.data] += data
                if not data:
                    selector.unregister(each.fd)
                    os.close(each.fd)
            progress(len(checks) - len(selector.get_map()), len(checks))
        for each in list(selector.get_map().values()):
            os.close(each.fd)
    for name, child in children.items():
        if name in late:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found = [finding for name in checks for finding in _findings(name, bytes(said[name]), name in late, limit_s)]
    return sorted(found, key=lambda finding: list(State).index(finding.state))


def _begin(check: Check, selector: selectors.BaseSelector, name: str) -> int:
    """Start a check in a process of its own; its id."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(check, sending)
    os.close(sending)
    selector.register(receiving, selectors.EVENT_READ, name)
    return child


def _be_child(check: Check, sending: int) -> None:
    """Say what is found, line by line, and end without the parent's own endings."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            for finding in check():
                _say(sending, finding)
        except Exception as error:  # noqa: BLE001  said where a person reads it
            words = f"could not be looked at: {type(error).__name__}: {error}"
            _say(sending, Finding("doctor", State.WRONG, "", words, OPERATOR, "please report it, with this line"))
    finally:
        os._exit(0)


def _say(sending: int, finding: Finding) -> None:
    data = json.dumps(asdict(finding)).encode() + b"\n"
    while data:
        data = data[os.write(sending, data) :]


def _findings(name: str, said: bytes, late: bool, limit_s: float) -> Iterable[Finding]:
    for line in said.split(b"\n")[:-1]:  # a line that is not whole is none
        fields = json.loads(line)
        area = name if fields["area"] == "doctor" else fields["area"]
        yield Finding(**{**fields, "area": area, "state": State(fields["state"])})
    if late:
        words = f"gave no word within {limit_s:g} s"
        advice = "again; what hangs is a disk, a device or a name server"
        yield Finding(name, State.WRONG, "", words, OPERATOR, advice)
