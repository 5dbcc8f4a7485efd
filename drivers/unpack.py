"""Numbers out of register words, in a few calls of :mod:`struct` for a whole meter. Pure.

Never looks at a number: floats come as their bits, and what a number means is the decoder's business.

Rules
- A number lies in one block.
- Bytes in a register come high first. ``little`` means that a number's low register comes first.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Shape = tuple[tuple[int, int, int], ...]
"""(function, address, registers) of each block."""

_CODES = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "f32": "I", "u64": "Q", "s64": "q", "f64": "Q"}


@dataclass(slots=True)
class _Pass:
    """One call of :mod:`struct`: numbers of one block and word order that do not overlap."""

    block: int
    little: bool
    layout: str = ""
    end: int = 0
    indices: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = "<" if self.little else ">"


class Unpacker:
    """Collects which numbers are wanted from blocks of one shape, and unpacks them in a few calls of :mod:`struct`."""

    def __init__(self, shape: Shape) -> None:
        self._blocks = [(function, address, address + count) for function, address, count in shape]
        self._wanted: dict[tuple[int, bool, int, str], int] = {}

    def block_of(self, function: int, spans: Sequence[tuple[int, int]]) -> int | None:
        """The first block that holds all spans."""
        for index, (of, first, end) in enumerate(self._blocks):
            if of == function and all(first <= address and address + count <= end for address, count in spans):
                return index
        return None

    def want(self, block: int, address: int, kind: str, little: bool) -> int:
        """Index of a number in the list that the compiled function returns."""
        offset = 2 * (address - self._blocks[block][1])
        return self._wanted.setdefault((block, little, offset, _CODES[kind]), len(self._wanted))

    def compiled(self) -> Callable[[list[bytes]], list[int]]:
        """A function from the blocks' words to the numbers."""
        passes: list[_Pass] = []
        for (block, little, offset, code), index in sorted(self._wanted.items()):
            fitting = [one for one in passes if (one.block, one.little) == (block, little) and one.end <= offset]
            one = fitting[0] if fitting else _Pass(block, little)
            if not fitting:
                passes.append(one)
            one.layout += f"{offset - one.end}x{code}"
            one.end = offset + struct.calcsize(f">{code}")
            one.indices.append(index)
        calls = [(one.block, one.little, struct.Struct(one.layout).unpack_from) for one in passes]
        order_taken = [index for one in passes for index in one.indices]
        back = sorted(range(len(order_taken)), key=order_taken.__getitem__)

        def unpack(words: list[bytes]) -> list[int]:
            raw: list[int] = []
            for block, little, unpack_from in calls:
                raw += unpack_from(_byteswapped(words[block]) if little else words[block])
            return [raw[at] for at in back]

        return unpack


def _byteswapped(words: bytes) -> bytes:
    """Each register's bytes turned round: what comes low register first is now little-endian altogether."""
    swapped = array("H", words[: len(words) & ~1])
    swapped.byteswap()
    return swapped.tobytes()
