"""Who a device says it is: identification registers as text. Pure; reads nothing itself.

Never raises on any words whatever they are.
"""

from __future__ import annotations

from drivers.map import TEXT_TYPES, Field, Identify


def text(field: Field | Identify, words: bytes) -> str:
    """What an identification register says: a text without its padding, or a number in decimal."""
    if field.type == "ascii":
        return _printable(words)
    if field.type == "chars":
        return _printable(words[1::2])
    if field.type == "hex":
        return words.hex().upper()
    return str(int.from_bytes(words, signed=field.type.startswith("s")))


def matches(identify: Identify, words: bytes) -> bool:
    """Whether the device says what its map expects; always true where the map expects nothing."""
    said = text(identify, words)
    expected = tuple(str(item) for item in identify.expected)
    if not expected:
        return True
    return said.startswith(expected) if identify.type in TEXT_TYPES else said in expected


def _printable(raw: bytes) -> str:
    return "".join(chr(byte) for byte in raw.split(b"\0")[0] if 32 <= byte < 127).strip()
