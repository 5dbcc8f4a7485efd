"""The clock: what the kernel says of it, what chrony says, and the clock that runs without power.

Sets nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.database import SpoolProblem
from edge.doctor.finding import OPERATOR, Case, Finding, State, advised, age, well
from edge.host import Clock
from edge.spool_read import SpoolReader
from edge.status import latest
from signer.codes import ClockStatus

AREA = "clock"
_RTC = Path("/sys/class/rtc/rtc0/since_epoch")
_COMMAND_S = 2.0
_ERROR_MS = 1000
"""A slot's reading that is this far off may belong to the next slot."""

_RTC_OFF_S = 60.0
"""Clocks without power lose some seconds a week; an hour off is one that is kept in local time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the clock.

    Attributes:
        status: the kernel's word.
        error_ms: how far off it may be at most.
        rtc_off_s: how far the battery clock is ahead; None: there is none.
        chrony: what chrony follows, in words; empty when it does not run.
    """

    status: ClockStatus
    error_ms: int
    rtc_off_s: float | None
    chrony: str


def check(case: Case) -> Iterator[Finding]:
    """The machine's clock, and what it meant for the slots."""
    yield from judge(look(case))
    for alarm in case.alarms("clock"):
        yield advised(AREA, State.WRONG, "slots", alarm.words, OPERATOR, "timedatectl: is this machine's time right?")
    for alarm in case.alarms("new stream"):
        yield advised(AREA, State.WARNING, "slots", alarm.words, OPERATOR, "timedatectl: is this machine's time right?")
    if not case.running:
        yield from judge_stored(newest_slot_ms(case), case.now_ms)


def newest_slot_ms(case: Case) -> int:
    """Start of the newest slot in the store, 0 when there is none that can be read."""
    try:
        reader = SpoolReader.read(case.config.spool)
        try:
            return max((claims.slot_ms or 0 for claims in latest(reader).values()), default=0)
        finally:
            reader.close()
    except SpoolProblem:
        return 0  # the store's own findings say it


def judge_stored(slot_ms: int, now_ms: int) -> Iterator[Finding]:
    """Whether a slot that was read is still to come by this clock."""
    if slot_ms > now_ms + _ERROR_MS:
        words = f"stands {age((slot_ms - now_ms) / 1000)} behind the last slot in the store"
        advice = "timedatectl; if this time is right, start the gateway: it counts slots anew"
        yield Finding(AREA, State.WARNING, "slots", words, OPERATOR, advice)


def look(case: Case) -> Seen:
    """How it is now. The running agent knows more: whether it was ever synchronised."""
    instant = Clock().now()
    status = ClockStatus(instant.clock)
    told = case.told.get("clock", {}).get("status") if case.running else None
    if told == ClockStatus.HOLDOVER and status == ClockStatus.INFORMATIVE:
        status = ClockStatus.HOLDOVER
    return Seen(status, instant.error_ms, _rtc_off_s(), chrony(_asked_chrony()))


def judge(seen: Seen) -> Iterator[Finding]:
    """What is to be said of it."""
    network = "timedatectl timesync-status, or chronyc sources; let NTP (UDP 123) through"
    if seen.status == ClockStatus.FAILED:
        words = "was never set: it stands before 2025"
        yield Finding(AREA, State.WRONG, "", words, OPERATOR, f"{network}; a battery clock keeps it without power")
    elif seen.status in (ClockStatus.INFORMATIVE, ClockStatus.HOLDOVER):
        before = "is no longer" if seen.status == ClockStatus.HOLDOVER else "is not"
        yield Finding(AREA, State.WARNING, "", f"{before} synchronised{_and(seen.chrony)}", OPERATOR, network)
    elif seen.status == ClockStatus.UNKNOWN:
        yield Finding(AREA, State.WARNING, "", "the kernel does not tell how good it is", OPERATOR, network)
    elif seen.error_ms > _ERROR_MS:
        words = f"is synchronised, and may be {seen.error_ms:,} ms off{_and(seen.chrony)}"
        yield Finding(AREA, State.WARNING, "", words, OPERATOR, network)
    else:
        yield well(AREA, "", f"synchronised, at most {seen.error_ms:,} ms off{_and(seen.chrony)}")
    if seen.rtc_off_s is None:
        yield well(AREA, "battery clock", "there is none: after a power cut the time comes from the network")
    elif abs(seen.rtc_off_s) > _RTC_OFF_S:
        side = "ahead" if seen.rtc_off_s > 0 else "behind"
        words = f"is {age(abs(seen.rtc_off_s))} {side}"
        advice = "hwclock --systohc --utc, when this machine's time is right; its battery"
        yield Finding(AREA, State.WARNING, "battery clock", words, OPERATOR, advice)
    else:
        yield well(AREA, "battery clock", f"{abs(seen.rtc_off_s):.0f} s off")


def chrony(tracking: str) -> str:
    """``chronyc -c tracking`` in words; empty when it is none."""
    fields = tracking.strip().split(",")
    if len(fields) < 14:
        return ""
    try:
        off_ms = float(fields[4]) * 1000
    except ValueError:
        return ""
    if fields[13] == "Not synchronised":
        return "chrony follows nobody"
    return f"chrony follows {fields[1] or fields[0]}, {abs(off_ms):.1f} ms off"


def _asked_chrony() -> str:
    command = shutil.which("chronyc")
    if command is None:
        return ""
    try:
        done = subprocess.run([command, "-n", "-c", "tracking"], capture_output=True, timeout=_COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def _rtc_off_s() -> float | None:
    try:
        return int(_RTC.read_text()) - time.time()
    except (OSError, ValueError):
        return None


def _and(words: str) -> str:
    return f"; {words}" if words else ""
