"""Serial ports: are they there, may they be used, do they keep their names, and who has them open.

Opens none of them: a port that is opened twice spoils what the other reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.line import SerialEndpoint
from drivers.reading import Status
from edge.config import Bus
from edge.doctor.finding import OPERATOR, TECHNICIAN, Case, Finding, State, unknown, well
from edge.environment import check_environment, judge_name, stable_name

AREA = "ports"
_PSEUDO = range(136, 144)
"""Device numbers of pseudo-terminals (Linux' Documentation/admin-guide/devices.txt)."""


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port as it was found.

    Attributes:
        path: as configured.
        trouble: why it cannot be used, in words and advice; empty when it can.
        stable: a stable name of the same device, empty when there is none.
        holders: (pid, program) of those that have it open, as far as this user may see.
    """

    path: str
    trouble: tuple[str, str]
    stable: str
    holders: tuple[tuple[int, str], ...]


def check(case: Case) -> Iterator[Finding]:
    """All lines of the configuration."""
    troubles = {problem.place: (problem.words, problem.advice) for problem in check_environment(case.config)}
    for number, bus in enumerate(case.config.buses):
        if isinstance(bus.endpoint, SerialEndpoint):
            yield judge(look(bus.endpoint.path, troubles.get(f"bus[{number}].serial", ("", ""))), agent_pid(case))
        elif not case.running:
            yield unknown(AREA, str(bus.endpoint), "--probe opens it and asks its meters once")
        elif _connected(case, bus):
            yield well(AREA, str(bus.endpoint), "open in the gateway")
        else:
            yield unknown(AREA, str(bus.endpoint), "not opened beside the gateway; see its meters")


def _connected(case: Case, bus: Bus) -> bool:
    """Whether the running agent has reached any meter over this line in its last slot."""
    told = {meter["name"]: meter for meter in case.told.get("meters", ())}
    seen = [told.get(meter.name, {}) for meter in bus.meters]
    return any(each.get("slot_ms") is not None and each.get("status") != Status.DISCONNECTED for each in seen)


def agent_pid(case: Case) -> int | None:
    """The running agent's process."""
    pid = case.told.get("pid")
    return pid if case.running and isinstance(pid, int) else None


def look(path: str, trouble: tuple[str, str]) -> Port:
    """A port as it is now."""
    try:
        device = os.stat(path).st_rdev
    except OSError:
        return Port(path, trouble, "", ())
    return Port(path, trouble, stable_name(device), tuple(_holders(device)))


def judge(port: Port, agent: int | None) -> Finding:
    """What is to be said of a port; ``agent``: the running agent's pid."""
    ours = any(pid == agent for pid, _ in port.holders)
    others = [f"{program} (pid {pid})" for pid, program in port.holders if pid != agent]
    words, advice = port.trouble
    if words and not ours:
        move = OPERATOR if "user" in words else TECHNICIAN
        return Finding(AREA, State.WRONG, port.path, words, move, advice)
    if others:
        said = f"is open in {', '.join(others)}" + (" beside the gateway" if ours else "")
        return Finding(AREA, State.WRONG, port.path, said, OPERATOR, "stop it: a line has one master")
    said, advice = judge_name(port.path, port.stable)
    if said:
        return Finding(AREA, State.WARNING, port.path, said, OPERATOR, advice)
    return well(AREA, port.path, "open in the gateway" if ours else "is there and may be used")


def _holders(device: int) -> Iterator[tuple[int, str]]:
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            open_here = any(_leads_to(file, device) for file in (process / "fd").iterdir())
            if open_here and not _is_other_end(process, device):
                yield int(process.name), (process / "comm").read_text().strip()
        except OSError:
            continue  # another user's, or just ended


def _is_other_end(process: Path, device: int) -> bool:
    """Whether it is the program behind a pseudo-terminal, such as the simulator of a line."""
    if os.major(device) not in _PSEUDO:
        return False
    wanted = f"tty-index:\t{os.minor(device)}\n"
    masters = (file for file in (process / "fd").iterdir() if str(file.readlink()).endswith("ptmx"))
    return any(wanted in (process / "fdinfo" / file.name).read_text() for file in masters)


def _leads_to(file: Path, device: int) -> bool:
    try:
        return str(file.readlink()).startswith("/dev/") and file.stat().st_rdev == device
    except OSError:
        return False
