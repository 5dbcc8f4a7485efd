"""A golden dump as the text of a file: register words, and exactly what a map makes of them (drivers.dump reads it).

Pure. Rules
- Only words that were read: where a SunSpec device's models are is what its own headers said.
- The same words and the same map make the same text.
- Nothing tells whose meter it is: no serial number, no address.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from drivers.decode import Decoded, flag_words
from drivers.map import TABLES, MeterMap
from drivers.obis import BY_KEY
from drivers.reading import Block

_PLAIN = re.compile(r"[A-Za-z0-9][\w ./()+-]*")
# Eight words of up to 14 characters are a line that a terminal shows whole.
_WORDS_A_LINE = 8
_HOLDING = 3


def text(meter_map: MeterMap, head: Mapping[str, str], blocks: Iterable[Block], decoded: Iterable[Decoded]) -> str:
    """The file. ``head`` has ``device``, ``source`` and ``kind``."""
    # What a map calls a quantity; a point that generates has its own name for an export.
    every = [*meter_map.registers, *(register for model in meter_map.models for register in model.registers)]
    quantities = {register.key: register.quantity for register in every}
    lines = [f"{key}: {_scalar(value)}" for key, value in head.items()]
    lines.insert(1, f"catalogue: {_scalar(meter_map.name)}")
    words = words_of(blocks)
    there = [(table, shown) for table, function in TABLES.items() if (shown := _words(words, function))]
    if len(there) == 1:
        ((table, shown),) = there
        lines += [f"table: {table}", f"registers: {shown}"]
    else:
        lines += ["registers:", *(f"  {table}: {shown}" for table, shown in there)]
    return "\n".join([*lines, "known_readings:", *(_reading(one, quantities) for one in decoded)]) + "\n"


def headers(models: Sequence[tuple[int, int]]) -> Iterator[Block]:
    """What discovery read to find these models: the marker, and the two registers before each of them."""
    if models:
        yield Block(_HOLDING, models[0][1] - 2, b"SunS")
    for (number, address), (_, following) in itertools.pairwise(models):
        yield Block(_HOLDING, address, number.to_bytes(2) + (following - address - 2).to_bytes(2))


def words_of(blocks: Iterable[Block]) -> dict[tuple[int, int], bytes]:
    """Every word by (function, address)."""
    return {
        (block.function, block.address + at // 2): block.words[at : at + 2]
        for block in blocks
        for at in range(0, len(block.words), 2)
    }


def stretches(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """The same words as blocks that are as long as they go."""
    found: list[Block] = []
    for (function, address), word in sorted(words_of(blocks).items()):
        last = found[-1] if found else None
        if last and (function, address) == (last.function, last.address + len(last.words) // 2):
            found[-1] = Block(function, last.address, last.words + word)
        else:
            found.append(Block(function, address, word))
    return tuple(found)


def _scalar(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _words(words: Mapping[tuple[int, int], bytes], function: int) -> str:
    pairs = [f"{at}: 0x{word.hex().upper()}" for (table, at), word in sorted(words.items()) if table == function]
    rows = [", ".join(pairs[at : at + _WORDS_A_LINE]) for at in range(0, len(pairs), _WORDS_A_LINE)]
    return "{\n    " + ",\n    ".join(rows) + " }" if rows else ""


def _reading(one: Decoded, quantities: Mapping[int, str]) -> str:
    quantity = BY_KEY[one.key]
    point = f"point: {one.point}, " if one.point else ""
    value = "null" if one.value is None else f'"{one.value.text()}"'
    flags = f", flags: [{', '.join(flag_words(one))}]" if flag_words(one) else ""
    name = quantities.get(one.key, quantity.name)
    return f"- {{ {point}quantity: {name}, phase: {quantity.phase}, value: {value}{flags} }}"
