"""What an auditor finds in exported evidence, held against what the simulated meters really showed.

Believes no word of the agent: the statements were verified by ``aigeco verify``, and what a meter showed at an instant
is computed once more from the site file.

Rules
- A reading is true when the words of every block were in the meter at an instant between its first request (and a
  little before) and its last answer; the meters move every 0.2 s, so that what is a slot old is another number.
- A slot is lost when it has no reading with values.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from drivers.reading import Block
from hw_sim.device import REFRESH_S, DumpDevice, MapDevice
from hw_sim.running import Clock, Running
from hw_sim.sitefile import load
from hw_sim.stage import command
from hw_sim.station import Refused
from signer import bundle, statement
from signer.bundle import Sequence
from signer.codes import Kind
from signer.statement import Claims

# Instants in statements are whole milliseconds, and so is the window.
_ROUNDING_S = 0.003
# A busy machine may keep the reader waiting between the last answer and the look at the clock.
KEPT_WAITING_S = 0.3
# A slot of the shortest period that a configuration may have.
_FIRST_SLOT_MS = 1000


class Truth:
    """What the meters of a site showed, at any instant."""

    def __init__(self, path: Path, clock_s: float) -> None:
        """``clock_s``: monotonic instant at which the site's clock began."""
        site = load(path)
        # Boot time and the monotonic clock differ by what the machine slept.
        self._slept_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        again = Running(replace(site, lines=()))
        again.clock = Clock(site.start_ms, site.speed, clock_s)
        again.close()
        self._devices = {device.name: again.device(device) for line in site.lines for device in line.devices}

    def serial(self, name: str) -> str:
        """A meter's serial number."""
        device = self._devices[name]
        return device.serial if isinstance(device, MapDevice) else ""

    def shows(self, name: str, claims: Claims) -> bool:
        """Whether a meter showed all words of a reading while it was made."""
        until_s = claims.instant.boot_ms / 1000 - self._slept_s
        window_s = claims.body.get(12, 0) / 1000
        pictures = range(
            int((until_s - window_s - KEPT_WAITING_S) // REFRESH_S), int((until_s + _ROUNDING_S) // REFRESH_S) + 1
        )
        device = self._devices[name]
        return all(any(_has(device, block, picture) for picture in pictures) for block in claims.blocks)


def _has(device: MapDevice | DumpDevice, block: Block, picture: int) -> bool:
    try:
        return (
            device.read(block.function, block.address, len(block.words) // 2, (picture + 0.5) * REFRESH_S)
            == block.words
        )
    except Refused:
        return False


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of one measuring point.

    Attributes:
        start_ms: its start, UTC.
        claims: the reading, None when it is in a signed gap.
        reason: of the gap.
    """

    start_ms: int
    claims: Claims | None
    reason: int = 0

    @property
    def good(self) -> bool:
        """Whether it has values."""
        return self.claims is not None and bool(self.claims.values)


class Evidence:
    """An exported folder.

    Attributes:
        report: what ``aigeco verify --json`` says.
        claims: every statement, in order.
    """

    def __init__(self, config: Path, folder: Path, trust: Path, truth: Truth) -> None:
        """Export and verify with the commands.

        Raises:
            RuntimeError: the export failed.
        """
        done = _aigeco("export", "--out", str(folder), "--config", str(config))
        if done.returncode:
            raise RuntimeError(done.stderr)
        self.report: dict[str, Any] = json.loads(_aigeco("verify", str(folder), "--trust", str(trust), "--json").stdout)
        self.claims = tuple(_statements(folder))
        self.truth = truth

    @cached_property
    def points(self) -> dict[str, list[Slot]]:
        """The slots of every measuring point, in order."""
        found: dict[str, list[Slot]] = {}
        periods: dict[str, int] = {}
        for claims in self.claims:
            body = claims.body.get(13, {})
            if claims.kind == Kind.DESCRIPTOR:
                periods[claims.sub] = body[1]
            elif claims.kind == Kind.GAP:
                found.setdefault(claims.sub, []).extend(
                    Slot(at, None, body[1]) for at in range(body[2], body[3], periods[claims.sub])
                )
            elif claims.slot_ms is not None:
                found.setdefault(claims.sub, []).append(Slot(claims.slot_ms, claims))
        return found

    def lost(self, meters: Iterable[str]) -> tuple[int, int]:
        """Slots without values, and slots, of meters; not the first, in which the agent asks everybody who it is."""
        from_ms = self.claims[0].instant.utc_ms + _FIRST_SLOT_MS
        slots = [slot for name in meters for slot in self.points.get(name, ()) if slot.start_ms >= from_ms]
        return sum(not slot.good for slot in slots), len(slots)

    def untrue(self, meters: Iterable[str]) -> tuple[int, int]:
        """Readings whose words their meter did not show at their time, and readings with values.

        Which meter that is says the serial number in the last descriptor before them, when there is one.
        """
        names = set(meters)
        owners = {self.truth.serial(name): name for name in names}
        described: dict[str, str] = {}
        wrong = count = 0
        for claims in self.claims:
            if claims.sub not in names:
                continue
            if claims.kind == Kind.DESCRIPTOR:
                described[claims.sub] = owners.get(claims.body[13][5], claims.sub)
            elif claims.kind == Kind.READING and claims.values:
                count += 1
                wrong += not self.truth.shows(described.get(claims.sub, claims.sub), claims)
        return wrong, count

    def recovery_s(self, meters: Iterable[str], at_s: float) -> float:
        """Seconds from a monotonic instant to the first values after it, of the meter that waited longest."""
        at_ms = 1000 * (at_s + self.truth._slept_s)
        return max(
            min(
                (
                    (slot.claims.instant.boot_ms - at_ms) / 1000
                    for slot in self.points.get(name, ())
                    if slot.claims is not None and slot.good and slot.claims.instant.boot_ms > at_ms
                ),
                default=float("inf"),
            )
            for name in meters
        )

    def during(self, meters: Iterable[str], from_s: float, until_s: float) -> list[Slot]:
        """Slots whose reading ended between two monotonic instants."""
        from_ms, until_ms = (1000 * (at_s + self.truth._slept_s) for at_s in (from_s, until_s))
        return [
            slot
            for name in meters
            for slot in self.points.get(name, ())
            if slot.claims is not None and from_ms < slot.claims.instant.boot_ms < until_ms
        ]


def _statements(folder: Path) -> Iterator[Claims]:
    sequence = Sequence.open(folder / bundle.STATEMENTS, statement.MAX_BYTES)
    try:
        while (data := sequence.next()) is not None:
            yield statement.parse(data)
    finally:
        sequence.close()


def _aigeco(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command("edge.cli.main"), *words], capture_output=True, text=True, check=False)
