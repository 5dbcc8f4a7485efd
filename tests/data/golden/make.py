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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2])]

from drivers import dump  # noqa: E402
from drivers.decode import Decoded, flag_words  # noqa: E402
from drivers.map import TABLES, MeterMap, load, names  # noqa: E402
from drivers.obis import BY_KEY  # noqa: E402
from drivers.plan import RTU_OVERHEAD_BYTES, plan  # noqa: E402
from drivers.reading import Block  # noqa: E402
from hw_sim.chain import BASE  # noqa: E402
from hw_sim.readback import Specimen, read_back, specimens  # noqa: E402

CAPTURES = HERE.parent / "dumps"
_WORDS_A_LINE = 8
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
        yield f"{name}{note}.yaml", _text(meter_map, head, found.blocks, decoded)
    for specimen in specimens(meter_map):
        wanted = {(register.point, register.key) for register in specimen.map.registers}
        if meter_map.scheme == "registers" and wanted <= covered:
            continue
        note = specimen.label.replace(" ", "-") or ("simulated" if covered else "")
        words = {"device": _device(meter_map, specimen), "source": MADE_BY, "kind": "simulated"}
        blocks = tuple(_blocks(specimen))
        decoded = dump.decode_dump(meter_map, dump.Dump("", "", "", blocks))
        yield f"{name}.{note}.yaml" if note else f"{name}.yaml", _text(meter_map, words, blocks, decoded)


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
    words: dict[tuple[int, int], bytes] = {}
    for request in plan(specimen.map, RTU_OVERHEAD_BYTES):
        answer = specimen.device.read(request.function, request.address, request.count, 0.0)
        for at in range(request.count):
            words[request.function, request.address + at] = answer[2 * at : 2 * at + 2]
    wanted = {
        (register.function, address + at)
        for register in specimen.map.registers
        for address, count in register.spans()
        for at in range(count)
    }
    kept = {place: words[place] for place in wanted}
    if specimen.map.scheme == "sunspec":
        kept |= dict(_discovered(specimen))
    stretch = Block(0, 0, b"")
    for (function, address), word in sorted(kept.items()):
        if (function, address) == (stretch.function, stretch.address + len(stretch.words) // 2):
            stretch = Block(function, stretch.address, stretch.words + word)
            continue
        if stretch.words:
            yield stretch
        stretch = Block(function, address, word)
    yield stretch


def _discovered(specimen: Specimen) -> Iterator[tuple[tuple[int, int], bytes]]:
    address = BASE
    while True:
        header = specimen.device.read(3, address, 2, 0.0)
        yield (3, address), header[:2]
        yield (3, address + 1), header[2:]
        if header == b"\xff\xff\0\0":
            return
        address += 2 if header == b"SunS" else 2 + int.from_bytes(header[2:])


def _text(meter_map: MeterMap, head: dict[str, str], blocks: Sequence[Block], decoded: Iterable[Decoded]) -> str:
    # What a map calls a quantity; a point that generates has its own name for an export.
    every = [*meter_map.registers, *(register for model in meter_map.models for register in model.registers)]
    quantities = {register.key: register.quantity for register in every}
    lines = [f"{key}: {value!r}" if ":" in value or "," in value else f"{key}: {value}" for key, value in head.items()]
    lines.insert(1, f"catalogue: {meter_map.name}")
    tables = {table: _words(blocks, function) for table, function in TABLES.items()}
    there = {table: words for table, words in tables.items() if words}
    if len(there) == 1:
        (table,) = there
        lines += [f"table: {table}", f"registers: {there[table]}"]
    else:
        lines += ["registers:", *(f"  {table}: {words}" for table, words in there.items())]
    return "\n".join([*lines, "known_readings:", *(_reading(one, quantities) for one in decoded)]) + "\n"


def _words(blocks: Sequence[Block], function: int) -> str:
    pairs = [
        f"{block.address + at}: 0x{block.words[2 * at : 2 * at + 2].hex().upper()}"
        for block in blocks
        if block.function == function
        for at in range(len(block.words) // 2)
    ]
    if not pairs:
        return ""
    rows = [", ".join(pairs[at : at + _WORDS_A_LINE]) for at in range(0, len(pairs), _WORDS_A_LINE)]
    return "{\n    " + ",\n    ".join(rows) + " }"


def _reading(one: Decoded, quantities: Mapping[int, str]) -> str:
    quantity = BY_KEY[one.key]
    point = f"point: {one.point}, " if one.point else ""
    value = "null" if one.value is None else f'"{one.value.text()}"'
    flags = f", flags: [{', '.join(flag_words(one))}]" if flag_words(one) else ""
    name = quantities.get(one.key, quantity.name)
    return f"- {{ {point}quantity: {name}, phase: {quantity.phase}, value: {value}{flags} }}"


def write(folder: Path, wanted: Sequence[str], again: bool) -> list[str]:
    """Write golden dumps into a folder; words about each file that was not written."""
    said = []
    for name in wanted:
        failed = [check for check in read_back(load(name)) if check.problems]
        if failed:
            said.append(f"{name}: does not read back: {failed[0].problems[0]}")
            continue
        for file, text in made(load(name)):
            if (folder / file).exists() and not again:
                if (folder / file).read_text() != text:
                    said.append(f"{file}: would be another one now; --overwrite {name} if that is right")
                continue
            (folder / file).write_text(text)
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
