"""What the gateway knows of the machine it runs on: the time and how far to believe it, the boot, the service manager.

Never sets a clock and never stops because one is wrong; it says so.

Rules
- An Instant is taken from UTC and CLOCK_BOOTTIME at once; intervals use the monotonic clock elsewhere.
- The state of the clock is the kernel's own word (adjtimex, which ntpd, chrony and systemd-timesyncd all feed).
- A difference between both clocks that changes by more than 250 ms at once is a step.
- A clock that stands before 2025, or before the gateway's own certificate, is wrong, whatever the kernel says. One that
  was set without being synchronised is no longer in holdover.
- systemd is told only when it asked (NOTIFY_SOCKET).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import time
from pathlib import Path

from signer.codes import ClockStatus
from signer.statement import Instant

STEP_MS = 250
"""Slewing moves a clock by at most 0.5 ms a second; twice a second's jitter of a loaded Pi stays below this."""

_STATE_FOR_MS = 1000
"""How long the kernel's word on the clock is repeated before it is asked again (5 us a call)."""

_SANE_AFTER_MS = 1_735_689_600_000
"""2025-01-01: a clock before this was never set (a Pi without RTC starts at its image's date or 1970)."""

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LAYERS = ("drivers", "signer", "uplink", "edge")


class _Timex(ctypes.Structure):
    """``struct timex`` of <sys/timex.h>, as far as it is read here; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 256),
    )


class Clock:
    """UTC, CLOCK_BOOTTIME, and what is known of them."""

    def __init__(self, valid_from_ms: int = 0) -> None:
        """``valid_from_ms``: when the time of the gateway's certificate began."""
        self._sane_after_ms = max(_SANE_AFTER_MS, valid_from_ms)
        self._timex = _Timex()
        library = ctypes.CDLL(None, use_errno=True)
        self._adjtimex = getattr(library, "adjtimex", None)
        self._was_synchronised = False
        self._state = (ClockStatus.UNKNOWN, 0)
        self._asked_ms = 0
        self._apart_ms = 0  # UTC less CLOCK_BOOTTIME, when the kernel was asked

    def now(self) -> Instant:
        """This instant."""
        utc_ms, boot_ms = self._look()
        if moved := self._is_moved(utc_ms, boot_ms):
            utc_ms, boot_ms = self._look()  # the two are read one after the other: a pause in between is no step
            moved = self._is_moved(utc_ms, boot_ms)
        if moved or boot_ms - self._asked_ms >= _STATE_FOR_MS:
            self._was_synchronised = self._was_synchronised and not moved
            self._asked_ms, self._apart_ms = boot_ms, utc_ms - boot_ms
            self._state = self._ask()
        status, error_ms = self._state
        if utc_ms < self._sane_after_ms:
            status = ClockStatus.FAILED
        return Instant(max(0, utc_ms), boot_ms, status, error_ms)

    def _is_moved(self, utc_ms: int, boot_ms: int) -> bool:
        return abs(utc_ms - boot_ms - self._apart_ms) > STEP_MS

    def _look(self) -> tuple[int, int]:
        """UTC and CLOCK_BOOTTIME, milliseconds."""
        return time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def _ask(self) -> tuple[ClockStatus, int]:
        """Status and maximum error in ms (the kernel counts it in us, and up by 0.5 ms a second when left alone)."""
        if self._adjtimex is None:
            return ClockStatus.UNKNOWN, 0
        self._timex.modes = 0  # only asks
        answer = self._adjtimex(ctypes.byref(self._timex))
        if answer < 0:
            return ClockStatus.UNKNOWN, 0
        error_ms = max(0, -(-self._timex.maxerror // 1000))
        if answer != _TIME_ERROR and not self._timex.status & _STA_UNSYNC:
            self._was_synchronised = True
            return ClockStatus.SYNCHRONISED, error_ms
        return (ClockStatus.HOLDOVER if self._was_synchronised else ClockStatus.INFORMATIVE), error_ms


class StepWatch:
    """Notices that UTC was set, by its distance to CLOCK_BOOTTIME. Pure: instants go in.

    Attributes:
        newest: the newest instant seen, None before the first.
    """

    def __init__(self) -> None:
        self.newest: Instant | None = None

    def step_ms(self, instant: Instant) -> int:
        """By how much the clock was moved since the newest instant, 0 when it was not."""
        before = self.newest
        if before is not None and instant.boot_ms < before.boot_ms:
            return 0  # taken earlier on another thread
        self.newest = instant
        if before is None:
            return 0
        moved_ms = (instant.utc_ms - instant.boot_ms) - (before.utc_ms - before.boot_ms)
        return moved_ms if abs(moved_ms) > STEP_MS else 0


def boot_id() -> str:
    """The kernel's id of this boot; empty where there is none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def software_digest(top: Path | None = None) -> bytes:
    """SHA-256 over the names and contents of the gateway's own code and catalogue, in order of their names."""
    top = top or Path(__file__).parent.parent
    total = hashlib.sha256()
    for layer in _LAYERS:
        for path in sorted((top / layer).rglob("*")):
            if path.suffix in (".py", ".toml") and path.is_file():
                content = hashlib.sha256(path.read_bytes()).digest()
                total.update(f"{path.relative_to(top).as_posix()}\0".encode() + content)
    return total.digest()


class ServiceManager:
    """systemd's notification socket, when this process was given one."""

    def __init__(self, environment: os._Environ[str] | dict[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._status = ""
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        for_us = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_s = int(watchdog_us) / 1e6 if watchdog_us.isdigit() and for_us else None
        """Within how many seconds it wants to hear from us; None: it does not."""

    def ready(self) -> None:
        """The service works."""
        self._tell("READY=1")

    def alive(self) -> None:
        """All threads move."""
        if self.watchdog_s is not None:
            self._tell("WATCHDOG=1")

    def status(self, words: str) -> None:
        """One line for ``systemctl status``; told again only when it changed."""
        if words != self._status:
            self._status = words
            self._tell(f"STATUS={words}")

    def stopping(self) -> None:
        """The service ends."""
        self._tell("STOPPING=1")

    def _tell(self, words: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.sendto(words.encode(), address)
        except OSError:
            pass  # nobody listens any more; measuring goes on
