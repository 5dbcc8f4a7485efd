"""Register dumps of real devices as YAML files: what they hold, and what a map makes of it.

Never invents a word: what a dump does not have is not there.

Rules
- ``registers`` maps 0-based addresses to words; both may be decimal or hexadecimal, a word also signed.
- ``table`` says which registers they are. Without it they are those that the map reads.
- ``registers`` may also hold one such mapping per table: ``{holding: {...}, input: {...}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drivers import sunspec
from drivers.decode import Decoded, Overrides, decode
from drivers.map import LAST_ADDRESS, TABLES, MeterMap
from drivers.reading import Block

_UNKNOWN = 0  # stands for the function while the table is not known


class DumpError(Exception):
    """A dump that cannot be read: whoever wrote it has to change it."""

    def __init__(self, words: str, advice: str) -> None:
        super().__init__(words)
        self.add_note(f"try: {advice}")


@dataclass(frozen=True, slots=True)
class Dump:
    """Words of one device.

    Attributes:
        device: for people.
        catalogue: name of the map it was made with, ``""`` when the dump does not say.
        source: where it comes from.
        blocks: stretches of consecutive registers; function 0 where the dump does not say which table.
        readings: what was published about it, as it stands in the file.
    """

    device: str
    catalogue: str
    source: str
    blocks: tuple[Block, ...]
    readings: tuple[Mapping[str, object], ...] = ()


def load(path: Path | str) -> Dump:
    """The dump in a file.

    Raises:
        DumpError: it is none.
    """
    import yaml  # only people who handle dumps need it

    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise DumpError(f"{path}: {error.strerror}", "the path of a dump that can be read") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DumpError(f"{path}: not YAML: {error}", "correct that place") from None
    if not isinstance(content, dict):
        raise DumpError(f"{path}: not a dump", "a mapping with 'registers: {0: 17254, 1: 13108}'")
    return _dump(str(path), content)


def _dump(path: str, content: Mapping[object, object]) -> Dump:
    table = content.get("table")
    if table is not None and table not in TABLES:
        raise DumpError(f"{path}: table: {table!r}: not a table", f"table: {' or table: '.join(TABLES)}")
    registers = content.get("registers")
    if not isinstance(registers, dict) or not registers:
        raise DumpError(f"{path}: registers: there are none", "registers: {0: 17254, 1: 13108}")
    if set(registers) <= set(TABLES):
        tables = [(TABLES[str(name)], words) for name, words in registers.items()]
    else:
        tables = [(TABLES[str(table)] if table else _UNKNOWN, registers)]
    blocks: list[Block] = []
    for function, words in tables:
        if not isinstance(words, dict):
            raise DumpError(f"{path}: registers: {words!r}: not addresses and words", "holding: {0: 17254}")
        blocks += _blocks(path, function, words)
    readings = content.get("known_readings") or ()
    return Dump(
        device=str(content.get("device", "")),
        catalogue=str(content.get("catalogue", "")),
        source=str(content.get("source", "")),
        blocks=tuple(blocks),
        readings=tuple(item for item in readings if isinstance(item, dict)) if isinstance(readings, list) else (),
    )


def _blocks(path: str, function: int, registers: Mapping[object, object]) -> list[Block]:
    words: dict[int, bytes] = {}
    for place, word in registers.items():
        address = _number(place)
        if address is None or not 0 <= address <= LAST_ADDRESS:
            raise DumpError(f"{path}: registers: {place!r}: not an address", "a number from 0 to 65535, or 0x7D40")
        value = _number(word)
        if value is None or not -0x8000 <= value <= 0xFFFF:
            raise DumpError(
                f"{path}: register {address}: {word!r}: not a 16-bit word", "a number from -32768 to 65535, or 0xFFFF"
            )
        if address in words:
            raise DumpError(f"{path}: register {address}: given twice", "one word for an address")
        words[address] = (value & 0xFFFF).to_bytes(2)
    blocks: list[Block] = []
    for address in sorted(words):
        last = blocks[-1] if blocks else None
        if last and last.address + len(last.words) // 2 == address:
            blocks[-1] = Block(function, last.address, last.words + words[address])
        else:
            blocks.append(Block(function, address, words[address]))
    return blocks


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    try:
        return int(value, 0)
    except ValueError:
        return None


def decode_dump(meter_map: MeterMap, dump: Dump, overrides: Overrides = Overrides()) -> tuple[Decoded, ...]:  # noqa: B008
    """Every quantity of the map that is in the dump; a SunSpec map finds its models there first.

    Raises:
        DumpError: there is none.
    """
    blocks = _readable(meter_map, dump)
    if meter_map.scheme == "sunspec":
        models = sunspec.discover(_reader(blocks), meter_map.bases)
        meter_map = sunspec.layout(meter_map, models)
        if not meter_map.registers:
            advice = f'"SunS" at one of {", ".join(map(str, meter_map.bases))}, and models behind it'
            raise DumpError(f"{dump.device}: no SunSpec model that {meter_map.name} knows", advice)
    found = decode(meter_map, blocks, overrides)
    if not found:
        first = meter_map.registers[0]
        table = next(name for name, function in TABLES.items() if function == first.function)
        advice = f"its first is {table} register {first.address}: is this the model, and is the table right?"
        raise DumpError(f"{dump.device}: no register of {meter_map.name} is in the dump", advice)
    return found


def _readable(meter_map: MeterMap, dump: Dump) -> list[Block]:
    """The blocks under every function by which the device would have given them."""
    every = [Block(function, block.address, block.words) for function in TABLES.values() for block in dump.blocks]
    if meter_map.functions_equivalent or any(block.function == _UNKNOWN for block in dump.blocks):
        return every
    return list(dump.blocks)


def _reader(blocks: list[Block]) -> sunspec.Read:
    def read(function: int, address: int, count: int) -> bytes:
        for block in blocks:
            start = 2 * (address - block.address)
            if block.function == function and start >= 0 and start + 2 * count <= len(block.words):
                return block.words[start : start + 2 * count]
        raise LookupError(f"register {address}")

    return read
