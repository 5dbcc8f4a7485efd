"""A past month of a community, as gateways would have signed it: batches in files, to try a ledger with.

Homes and their roof are those of :mod:`hw_sim.home`. Reads no clock: the same month, members and seed give the same
energy; keys and signatures are new each time.

Rules
- A gateway for each home, ``home-1``..., with the meter ``main``; one for the roof, ``roof``, with the meter ``pv``.
- A statement at each quarter hour, both ends included; 500 to a batch.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.reading import Reading, exact
from hw_sim.authority import Authority
from hw_sim.home import Home, Household
from hw_sim.sun import Roof
from signer import batch as batches
from signer.chain import Chain
from signer.codes import ClockStatus
from signer.keys.file import FileKey
from signer.statement import Instant

QUARTER_MS = 900_000
BATCH = 500
ROOF = "roof"
AUTHORITY = "gateways.pem"
_IMPORT, _EXPORT = 264, 520  # 1.8.0 and 2.8.0
_WATT_PEAK_A_HOME = 1500
_READ_TOOK_MS = 40


@dataclass(frozen=True, slots=True)
class Written:
    """A gateway's batches, in their order."""

    gateway: str
    files: tuple[Path, ...]


def write(folder: Path, start_ms: int, end_ms: int, members: int, seed: int = 0) -> Iterator[Written]:
    """Write the authority's certificate and every gateway's batches, one gateway after the other.

    Args:
        start_ms, end_ms: the first and the last statement, POSIX ms, multiples of a quarter hour.

    Raises:
        OSError: a file cannot be written.
    """
    authority = Authority("Community", "gateways", dt.datetime.fromtimestamp(start_ms / 1000, dt.UTC))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / AUTHORITY).write_bytes(authority.pem)
    peak_w = _WATT_PEAK_A_HOME * members
    homes = [(f"home-{number}", "load", Household(f"home-{number}", seed)) for number in range(1, members + 1)]
    roof = Household(ROOF, seed, roof=Roof(peak_w, peak_w), roof_phases=3)
    for gateway, point, household in [*homes, (ROOF, "pv", roof)]:
        home = Home(household, start_ms - start_ms % 86_400_000)
        yield Written(gateway, tuple(_batches(folder, authority, gateway, home, point, start_ms, end_ms)))


def _batches(
    folder: Path, authority: Authority, gateway: str, home: Home, point: str, start_ms: int, end_ms: int
) -> Iterator[Path]:
    issued = authority.gateway(gateway)
    chain = Chain(gateway, FileKey(issued.key), None, 1)
    said = [chain.genesis(_instant(start_ms), (issued.der,), None)]
    sub = "pv" if point == "pv" else "main"
    for at_ms in range(start_ms, end_ms + 1, QUARTER_MS):
        shows = home.quantities(point, at_ms)
        registers = tuple((register, exact(shows.get(register, 0) // 100_000, -1)) for register in (_IMPORT, _EXPORT))
        said.append(chain.reading(Reading(sub, at_ms, None, registers, _READ_TOOK_MS), _instant(at_ms + _READ_TOOK_MS)))
    assert chain.head is not None
    for number, first in enumerate(range(0, len(said), BATCH), 1):
        part = [(statement.sid, statement.data) for statement in said[first : first + BATCH]]
        made = batches.build(chain.head.stream, first, said[first - 1].sid if first else bytes(32), part)
        path = folder / f"{gateway}-{number:02}.batch"
        path.write_bytes(made.data)
        yield path


def _instant(at_ms: int) -> Instant:
    return Instant(at_ms, 1000, ClockStatus.SYNCHRONISED, 20)
