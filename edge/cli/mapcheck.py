"""What ``aigeco maps check`` asks of a map, and where it finds what it needs for that.

Rules
- The simulator is no part of a gateway and nothing here imports it: this is the one place that finds it by its name,
  where it is installed (docs/adr/0003-the-simulator-is-found-by-name.md). Without it the check says so and is skipped.
- Golden dumps of a file lie beside it: ``my_meter.yaml``, ``my_meter.NOTE.yaml``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from drivers import dump, golden, mapproof
from drivers.map import CATALOGUE, MapError, MeterMap, is_file, load, names, read_file
from drivers.mapproof import FAILED, SKIPPED, Check

SIMULATOR = "hw_sim.readback"
_TRANSPORTS = ("TCP", "RTU")
# A checkout keeps the catalogue's golden dumps with the tests; an installed package has none.
_GOLDEN_OF_THE_CATALOGUE = CATALOGUE.parent.parent / "tests" / "data" / "golden"


@dataclass(frozen=True, slots=True)
class Checked:
    """A map and what came of its checks.

    Attributes:
        name: as it was asked for.
        checks: in the order they were made.
    """

    name: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(check.state != FAILED for check in self.checks)

    @property
    def skipped(self) -> int:
        """How many questions were not asked."""
        return sum(check.state == SKIPPED for check in self.checks)


def check_map(name: str) -> Checked:
    """All checks of a map of the catalogue, or of one in a file.

    Raises:
        MapError: there is no such map.
        DumpError: one of its golden dumps is no dump.
    """
    path = _path(name)
    meter_map, checks = mapproof.check_file(*read_file(path))
    if meter_map is None:
        later = ("plan", golden.NAME, *_TRANSPORTS)
        return Checked(name, (*checks, *(Check(each, SKIPPED, "first the file itself") for each in later)))
    return Checked(name, (*checks, mapproof.check_plan(meter_map), _golden(path, meter_map), *_read_back(meter_map)))


def _path(name: str) -> Path:
    if is_file(name):
        return Path(name)
    if name not in names():
        load(name)  # says what is close to it
        raise MapError(name, [])
    return CATALOGUE / f"{name}.toml"


def golden_files(path: Path) -> Iterator[Path]:
    """Dumps whose meaning is known, of the map in a file."""
    folder = _GOLDEN_OF_THE_CATALOGUE if path.parent == CATALOGUE else path.parent
    yield from sorted([*folder.glob(f"{path.stem}.yaml"), *folder.glob(f"{path.stem}.*.yaml")])


def _golden(path: Path, meter_map: MeterMap) -> Check:
    dumps = [(file.name, dump.load(file)) for file in golden_files(path)]
    return golden.check_golden(meter_map, dumps, f"there is none: put a dump and its readings into {path.stem}.yaml")


def _read_back(meter_map: MeterMap) -> tuple[Check, ...]:
    try:
        found = importlib.import_module(SIMULATOR)
    except ModuleNotFoundError as error:
        if error.name != SIMULATOR.partition(".")[0]:
            raise
        words = "the simulator is not installed here; where it is, this check runs"
        return tuple(Check(each, SKIPPED, words) for each in _TRANSPORTS)
    return cast("Callable[[MeterMap], tuple[Check, ...]]", found.read_back)(meter_map)
