"""Starts processes that outlive the command, finds them again, and stops them.

Rules
- A process is known by its id, the time it started and the boot in which it did: another process that got the id
  later is never taken for it, and never stopped.
- What it writes goes to its log, appended.
- Stopping asks first (SIGTERM) and forces later.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """A process of its own folder: ``log`` and ``pid`` are in it.

    Attributes:
        name: for messages.
        folder: its folder.
    """

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self.folder / "log"

    @property
    def pid_file(self) -> Path:
        """Who it is."""
        return self.folder / "pid"

    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        try:
            pid_text, *identity = self.pid_file.read_text().split()
            return int(pid_text) if identity == _identity(int(pid_text)) else None
        except (OSError, ValueError):
            return None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it, unless it runs."""
        if self.pid() is not None:
            return
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _CHILDREN[process.pid] = process
        self.pid_file.write_text(" ".join([str(process.pid), *_identity(process.pid)]) + "\n")

    def memory_kb(self) -> int | None:
        """Resident memory while it runs; of memory that processes share, its part."""
        pid = self.pid()
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration, ValueError):
            return None

    def last_lines(self, count: int) -> list[str]:
        """The end of its log."""
        try:
            with self.log.open("rb") as file:
                # A line of Fabric's has some hundred bytes, with a stack a few thousand.
                file.seek(max(0, self.log.stat().st_size - 4096 - count * 512))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return []
        return lines[-count:] if count else []


def stop(services: Iterable[Service], patience_s: float = _STOP_S) -> list[str]:
    """Stop them side by side; names of those that had to be forced."""
    running = {service.name: pid for service in services if (pid := service.pid()) is not None}
    known = {name: _identity(pid) for name, pid in running.items()}
    forced = []
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for name, pid in running.items():
            if sent == signal.SIGKILL:
                forced.append(name)
            try:
                os.kill(pid, sent)
            except ProcessLookupError:
                pass
        until = time.monotonic() + patience_s
        while running and time.monotonic() < until:
            running = {name: pid for name, pid in running.items() if _identity(pid) == known[name]}
            time.sleep(0.02)
    return forced


# A child that ended stays a zombie until it is waited for; a test that starts and stops in one process has such
# children.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def _identity(pid: int) -> list[str]:
    """When a running process started and in which boot; nothing when it does not run."""
    if pid in _CHILDREN:
        _CHILDREN[pid].poll()
    try:
        # Fields 3 and 22 of proc(5) stat: state and start time; the name before them can hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return [] if fields[0] in "ZX" else [fields[19], _BOOT_ID.read_text().strip()]
    except OSError:
        return []
