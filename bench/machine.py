"""What the figures come from: processor, kernel, versions, and how busy the machine was.

Rules
- A figure without its machine is worth nothing, so every run prints this first.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import time
from pathlib import Path

_PROCESS_CLOCK = 2  # CPUCLOCK_SCHED of include/linux/posix-timers.h
_LIBRARIES = ("cryptography", "cbor2", "pymodbus", "paho-mqtt")


def describe() -> str:
    """Two lines about this machine now."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}: {_processor()}, {os.cpu_count()} cores, Linux {platform.release()},"
        f" load before the run {load}\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[-1] if names else platform.machine()


def cpu_s(pid: int) -> float:
    """Processor seconds, user and system, that a process and all its threads took so far.

    What ``/proc/PID/stat`` says in hundredths of a second, here in nanoseconds: the process' own clock
    (clock_getcpuclockid(3), whose number Linux makes of the process id like this).
    """
    return time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB (1,000,000 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb(pid: int) -> float:
    """The most memory that was resident so far, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
