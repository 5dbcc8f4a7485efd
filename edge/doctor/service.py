"""The service: does the agent run, are its threads alive, how did it end last time; and what its lines have to carry.

Rules
- It runs when the process that its status file names is there and the store's lock is held; a process id alone may be
  another program's by now.
- The lock is looked up, not tried: taking it, even for a moment, could keep a starting agent out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge import apply, load, status
from edge.config import Config
from edge.doctor.finding import OPERATOR, Case, Finding, State, advised, age, well

AREA, CONFIG = "service", "config"
_LOCKS = Path("/proc/locks")
_SYSTEMD = Path("/run/systemd/system")
_COMMAND_S = 2.0
_UNIT = "aigeco"
_BUSY = 0.8
_ELSEWHERE = ("broker", "ledger", "receipts", "disk")
_ENDS = {
    "70": "a thread failed",
    "71": "a thread was silent for too long",
    "74": "the store's disk failed",
    "77": "the key did not sign",
}
_LOG = "journalctl -u aigeco -n 50"


def case_of(config: Config, now_ms: int) -> Case:
    """What the examination starts from."""
    told = status.read(config.status_path) or {}
    alive = bool(told.get("running")) and not told.get("stopped")
    return Case(config, told, alive and held(config.spool) is not False, now_ms)


def held(spool: Path) -> bool | None:
    """Whether a process holds the store's lock; None when that cannot be seen."""
    try:
        found = os.stat(f"{spool}.lock")
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    wanted = (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino)
    return any(_inode(line) == wanted for line in lines if " FLOCK " in line)


def _inode(line: str) -> tuple[int, int, int]:
    """``1: FLOCK ADVISORY WRITE 708 08:02:1048 0 EOF``: device (hexadecimal) and inode."""
    for word in line.split():
        parts = word.split(":")
        if len(parts) == 3:
            return int(parts[0], 16), int(parts[1], 16), int(parts[2])
    return -1, -1, -1


def check(case: Case) -> Iterator[Finding]:
    """The agent's process."""
    if not case.running:
        yield judge_end(case, _ended(case.config))
    else:
        yield judge_signs(case)
        yield from judge_threads(case)
        if case.told.get("dropped"):
            words = f"{case.told['dropped']:,} readings were lost: the writer was behind"
            yield Finding(AREA, State.WARNING, "", words, OPERATOR, "what else uses this machine's disk: iotop, top")
    yield from judge_manager(_manager())
    for alarm in case.alarms():
        if alarm.kind not in _ELSEWHERE and not alarm.kind.startswith("configuration,"):  # that is looked at anew
            yield advised(AREA, State.WARNING, "", f"the gateway says: {alarm}", OPERATOR, _LOG)


def check_config(case: Case) -> Iterator[Finding]:
    """Whether the file is what runs, and what each line has to carry."""
    if case.running and apply.is_another(case.config.path, case.told):
        words = "is not what the gateway runs"
        yield Finding(CONFIG, State.WARNING, str(case.config.path), words, OPERATOR, "aigeco config apply")
    found = load.check_load(case.config)
    for problem in found:
        words = ": ".join(part for part in (problem.value, problem.words) if part)
        yield Finding(CONFIG, State.WRONG, problem.place, words, OPERATOR, problem.advice)
    for each in load.plan_load(case.config):
        words = f"the plan {each.words} ({each.share * 100:.1f} % busy)"
        if _BUSY < each.share <= 1:
            advice = "raise a period, before slower answers make it too much"
            yield Finding(CONFIG, State.WARNING, each.bus, words, OPERATOR, advice)
        elif each.share <= _BUSY:
            yield well(CONFIG, each.bus, words)


def judge_end(case: Case, mark: str) -> Finding:
    """Why it does not run; ``mark``: what its watchdog left."""
    updated_ms = case.told.get("updated_ms")
    if updated_ms is None:
        words, advice = "the gateway does not run, and never did with this store", "systemctl start aigeco"
    elif case.told.get("stopped"):
        words = f"the gateway does not run: it was ended {age(case.age_s(updated_ms))} ago"
        advice = "systemctl start aigeco"
    elif mark:
        words = f"the gateway does not run: its watchdog ended it, because {_ENDS['71']}"
        advice = _LOG
    else:
        last = age(case.age_s(updated_ms))
        words = f"the gateway does not run: it was last heard of {last} ago and did not say that it ends"
        advice = f"{_LOG}; it was killed, failed, or lost power"
    return Finding(AREA, State.WRONG, "", words, OPERATOR, advice)


def judge_signs(case: Case) -> Finding:
    """Whether the running process still says something."""
    silent_s = case.age_s(case.told.get("updated_ms", 0))
    pid = case.told.get("pid")
    if silent_s > status.FRESH_S:
        words = f"the gateway runs (pid {pid}) and has said nothing for {age(silent_s)}"
        return Finding(AREA, State.WRONG, "", words, OPERATOR, f"{_LOG}; systemctl restart aigeco")
    return well(AREA, "", f"the gateway runs (pid {pid}), last heard of {age(silent_s)} ago")


def judge_threads(case: Case) -> Iterator[Finding]:
    """When each thread was last heard of; late is one that said it would be heard of before."""
    threads: Mapping[str, float] = case.told.get("threads", {})
    late = {name: threads.get(name, 0.0) for name in case.told.get("overdue", {})}
    for name, silent_s in late.items():
        words = f"has not been heard of for {age(silent_s)}; its watchdog ends the gateway when that lasts"
        yield Finding(AREA, State.WARNING, f"thread {name}", words, OPERATOR, _LOG)
    if threads and not late:
        yield well(AREA, "threads", ", ".join(f"{name} {silent_s:.0f} s" for name, silent_s in threads.items()))


def judge_manager(said: Mapping[str, str]) -> Iterator[Finding]:
    """What systemd says of the unit; nothing where it does not know it."""
    if said.get("LoadState") != "loaded":
        return
    restarts = said.get("NRestarts", "0")
    code = said.get("ExecMainStatus", "0")
    why = f", the last end was {code} ({_ENDS.get(code, said.get('Result', ''))})" if code != "0" else ""
    if restarts not in ("", "0"):
        words = f"started it again {restarts} times{why}"
        yield Finding(AREA, State.WARNING, "systemd", words, OPERATOR, _LOG)
    if said.get("UnitFileState") not in ("enabled", "static", "enabled-runtime"):
        words = "does not start it after a power cut"
        yield Finding(AREA, State.WARNING, "systemd", words, OPERATOR, f"systemctl enable {_UNIT}")
    elif restarts in ("", "0"):
        yield well(AREA, "systemd", f"{said.get('ActiveState', '')}, no restarts")


def _ended(config: Config) -> str:
    try:
        return config.spool.with_name(f"{config.spool.name}.ended").read_text().strip()
    except OSError:
        return ""


def _manager() -> dict[str, Any]:
    command = shutil.which("systemctl") if _SYSTEMD.exists() else None
    if command is None:
        return {}
    names = "LoadState,ActiveState,UnitFileState,NRestarts,Result,ExecMainStatus"
    try:
        done = subprocess.run(
            [command, "show", _UNIT, f"--property={names}"], capture_output=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (line.partition("=") for line in done.stdout.decode(errors="replace").splitlines())
    return {name: value for name, _, value in lines}
