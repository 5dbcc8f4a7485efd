"""Makes the golden dumps of the catalogue: register words of every map, and exactly what they mean.

    python tests/data/golden/make.py                     # writes what is not there yet
    python tests/data/golden/make.py --overwrite NAME... # these again: after a fact of a map was corrected

Rules
- A real capture of ``tests/data/dumps`` is taken as it is. What it leaves out, and every map without one, is made by
  the simulator and says so: ``kind: simulated``. Nothing is drawn by lot: the same map makes the same file.
- Nothing that is there is overwritten unless it is named: a value that changes by itself is what these files show.
- A map that does not read back from the simulator gets none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2])]

from drivers import dump  # noqa: E402
from drivers.dumptext import headers, stretches, text, words_of  # noqa: E402
from drivers.map import MeterMap, load, names  # noqa: E402
from drivers.plan import RTU_OVERHEAD_BYTES, plan  # noqa: E402
from drivers.reading import Block  # noqa: E402
from drivers.sunspec import discover  # noqa: E402
from hw_sim.readback import Specimen, read_back, specimens  # noqa: E402

CAPTURES = HERE.parent / "dumps"
MADE_BY = "hw_sim/readback.py: a home with a roof and a battery, 2026-06-21T10:00:00Z"


def made(meter_map: MeterMap) -> Iterator[tuple[str, str]]:
    """(file name, content) of a map's golden dumps."""
    name, covered = meter_map.name, set()
    for number, capture in enumerate(captures(name)):
        content = yaml.safe_load(capture.read_text())
        found = dump.load(capture)
        decoded = dump.decode_dump(meter_map, found)
        covered |= {(one.point, one.key) for one in decoded}
        note = f".{number + 1}" if number else ""
        head = {"device": content["device"], "source": f"tests/data/dumps/{capture.name}", "kind": content["kind"]}
        yield f"{name}{note}.yaml", text(meter_map, head, found.blocks, decoded)
    for specimen in specimens(meter_map):
        wanted = {(register.point, register.key) for register in specimen.map.registers}
        if meter_map.scheme == "registers" and wanted <= covered:
            continue
        note = specimen.label.replace(" ", "-") or ("simulated" if covered else "")
        words = {"device": _device(meter_map, specimen), "source": MADE_BY, "kind": "simulated"}
        blocks = tuple(_blocks(specimen))
        decoded = dump.decode_dump(meter_map, dump.Dump("", "", "", stretches(blocks)))
        yield f"{name}.{note}.yaml" if note else f"{name}.yaml", text(meter_map, words, blocks, decoded)


def captures(name: str) -> list[Path]:
    """Real captures of a map."""
    return [path for path, catalogue in _captured() if catalogue == name]


@lru_cache(maxsize=1)
def _captured() -> list[tuple[Path, str]]:
    return [(path, dump.load(path).catalogue) for path in sorted(CAPTURES.glob("*.yaml"))]


def _device(meter_map: MeterMap, specimen: Specimen) -> str:
    return f"{meter_map.manufacturer} {meter_map.model}" + (f", {specimen.label}" if specimen.label else "")


def _blocks(specimen: Specimen) -> Iterator[Block]:
    """The words of every value and nothing between them; of a SunSpec device also what discovery reads."""

    def read(function: int, address: int, count: int) -> bytes:
        return specimen.device.read(function, address, count, 0.0)

    words: dict[tuple[int, int], bytes] = {}
    for request in plan(specimen.map, RTU_OVERHEAD_BYTES):
        answer = read(request.function, request.address, request.count)
        words |= words_of([Block(request.function, request.address, answer)])
    for register in specimen.map.registers:
        for address, count in register.spans():
            yield Block(
                register.function, address, b"".join(words[register.function, address + at] for at in range(count))
            )
    if specimen.map.scheme == "sunspec":
        yield from headers(discover(read, specimen.map.bases))


def write(folder: Path, wanted: Sequence[str], again: bool) -> list[str]:
    """Write golden dumps into a folder; words about each file that was not written."""
    said = []
    for name in wanted:
        failed = [check for check in read_back(load(name)) if check.problems]
        if failed:
            said.append(f"{name}: does not read back: {failed[0].problems[0]}")
            continue
        for file, content in made(load(name)):
            if (folder / file).exists() and not again:
                if (folder / file).read_text() != content:
                    said.append(f"{file}: would be another one now; --overwrite {name} if that is right")
                continue
            (folder / file).write_text(content)
    return said


def main() -> int:
    """What is said above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overwrite", nargs="+", metavar="NAME", help="write the golden dumps of these maps again")
    again: list[str] | None = parser.parse_args().overwrite
    said = write(HERE, again or names(), again is not None)
    print("\n".join(said) or "done")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
