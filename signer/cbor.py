"""CBOR as the format allows it: RFC 8949 section 4.2.1 (core deterministic encoding) and nothing else.

Encoding goes through cbor2. Decoding is our own and small (for readings, which come by the thousand, see
:mod:`signer.reading_form`), because a general decoder gives meaning to what must be
refused here (tags become dates, numbers, regular expressions or cycles; trailing bytes, duplicate keys and long
integers pass), and because a refusal has to name its place. Decoding by these rules equals "decode, encode again,
compare".

Rules
- Integers, byte strings, text, arrays, maps, false, true, null. No tags, no floats, no other simple values.
- Shortest form of every length and number, definite lengths, nothing after the end; map keys are integers in ascending
  order of their bytes, each once.
- A claimed length never allocates more than the bytes that are there.
- Whatever comes in: a value or :class:`Malformed`.
"""

from __future__ import annotations

from typing import Any

import cbor2

from signer.errors import Malformed, show

MAX_DEPTH = 8
"""Nesting that is followed; version 1 needs four levels, unknown kinds may need a few more."""

_BYTES = tuple(bytes((value,)) for value in range(256))
_NEGATIVE = 1 << 64  # past every unsigned key

_SIMPLE: dict[int, object] = {20: False, 21: True, 22: None}


def encode(item: object) -> bytes:
    """Deterministic bytes of an item whose maps already are in ascending order of their encoded keys."""
    return cbor2.dumps(item)


def head(major: int, argument: int) -> bytes:
    """Initial byte and argument of an item, shortest form (RFC 8949 section 3).

    Raises:
        Malformed: ``argument`` is negative, or longer than 64 bits.
    """
    first = major << 5
    if argument < 24:
        if argument < 0:
            raise Malformed("number", f"{argument} is below zero")
        return _BYTES[first | argument]
    if argument < 1 << 8:
        return _BYTES[first | 24] + _BYTES[argument]
    if argument < 1 << 16:
        return _BYTES[first | 25] + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return _BYTES[first | 26] + argument.to_bytes(4, "big")
    if argument >= _NEGATIVE:
        raise Malformed("number", f"{argument} does not fit 64 bits")
    return _BYTES[first | 27] + argument.to_bytes(8, "big")


def integer(number: int) -> bytes:
    """An integer item.

    Raises:
        Malformed: outside what CBOR's 64-bit integers hold.
    """
    return head(0, number) if number >= 0 else head(1, -1 - number)


def byte_string(content: bytes) -> bytes:
    """A byte string item."""
    return head(2, len(content)) + content


def decode(data: bytes, max_bytes: int, place: str = "item") -> Any:
    """The one item that ``data`` is.

    Raises:
        Malformed: too long, not deterministic CBOR of the allowed types, or something follows the item.
    """
    if len(data) > max_bytes:
        raise Malformed(place, f"{len(data)} bytes, at most {max_bytes} are allowed")
    value, end = decode_at(data, 0, place)
    if end != len(data):
        raise Malformed(place, f"{len(data) - end} bytes follow the end at byte {end}")
    return value


def decode_at(data: bytes, start: int, place: str = "item") -> tuple[Any, int]:
    """The item that begins at ``start``, and where it ends.

    Raises:
        Malformed: no deterministic CBOR item of the allowed types begins there.
    """
    try:
        return _item(data, start, MAX_DEPTH)
    except IndexError:
        raise Malformed(place, "ends early") from None
    except _Wrong as wrong:
        raise Malformed(f"{place}, byte {wrong.position}", wrong.reason) from None


def byte_string_at(data: bytes, start: int, place: str) -> tuple[bytes, int]:
    """The byte string that begins at ``start``, and where it ends.

    Raises:
        Malformed: there is no byte string in shortest form there.
    """
    head = data[start : start + 3]  # the usual lengths on the spot, the rest by decode_at
    if head[:1] == b"\x58" and len(head) == 3 and head[1] > 23 and (end := start + 2 + head[1]) <= len(data):
        return data[start + 2 : end], end
    if (
        head[:1] == b"\x59"
        and len(head) == 3
        and head[1]
        and (end := start + 3 + (head[1] << 8 | head[2])) <= len(data)
    ):
        return data[start + 3 : end], end
    if head and head[0] >> 5 != 2:
        raise Malformed(place, f"initial byte 0x{head[0]:02x} where a byte string is due")
    return decode_at(data, start, place)


def item_end(data: bytes, start: int, place: str) -> int:
    """Where the item that begins at ``start`` ends, whatever is in it: to walk through a sequence (RFC 8742).

    Raises:
        Malformed: no whole, well-formed item of definite length begins there.
    """
    pending, position = 1, start
    try:
        while pending:
            major, info = data[position] >> 5, data[position] & 31
            if info > 27:
                raise Malformed(place, f"initial byte 0x{data[position]:02x}")
            size = 0 if info < 24 else 1 << (info - 24)
            argument = int.from_bytes(data[position + 1 : position + 1 + size], "big") if size else info
            position += 1 + size
            pending -= 1
            if major in (2, 3):
                position += argument
            elif major in (4, 5):
                pending += argument * (major - 3)
            elif major == 6:
                pending += 1
            if position > len(data) or pending > len(data) - position:
                raise Malformed(place, "ends early")
    except IndexError:
        raise Malformed(place, "ends early") from None
    return position


class _Wrong(Exception):
    def __init__(self, position: int, reason: str) -> None:
        self.position = position
        self.reason = reason


# The functions below run for every field of every statement that a ledger takes, so the numbers that statements are
# full of are read on the spot instead of by a call each: that halves the time.


def _item(data: bytes, start: int, depth: int) -> tuple[Any, int]:
    first = data[start]
    if first < 24:
        return first, start + 1
    major, argument, position = first >> 5, first & 31, start + 1
    if major == 7:
        if argument not in _SIMPLE:
            raise _Wrong(start, f"0x{first:02x}: floats and simple values are not allowed")
        return _SIMPLE[argument], position
    if argument > 23:
        argument, position = _argument(data, start, argument)
    if major == 2:
        end = position + argument
        if end > len(data):
            raise _Wrong(start, f"claims {argument} bytes, {len(data) - position} are left")
        return data[position:end], end
    if major == 0:
        return argument, position
    if major == 1:
        return -1 - argument, position
    if major == 4:
        return _array(data, position, argument, depth)
    if major == 5:
        return _map(data, position, argument, depth)
    if major == 6:
        raise _Wrong(start, f"tag {argument} is not allowed here")
    return _text(data, start, position, argument)


def _argument(data: bytes, start: int, info: int) -> tuple[int, int]:
    if info > 27:
        raise _Wrong(start, "indefinite length" if info == 31 else f"0x{data[start]:02x} is reserved")
    size = 1 << (info - 24)
    end = start + 1 + size
    if end > len(data):
        raise IndexError
    argument = int.from_bytes(data[start + 1 : end], "big")
    if argument < 24 or (size > 1 and argument < 1 << (4 * size)):
        raise _Wrong(start, f"{argument} is not in its shortest form")
    return argument, end


def _text(data: bytes, start: int, position: int, size: int) -> tuple[str, int]:
    end = position + size
    if end > len(data):
        raise _Wrong(start, f"claims {size} bytes, {len(data) - position} are left")
    try:
        return data[position:end].decode(), end
    except UnicodeDecodeError:
        raise _Wrong(start, "text is not UTF-8") from None


def _array(data: bytes, position: int, count: int, depth: int) -> tuple[list[Any], int]:
    if depth <= 0 or count > len(data) - position:
        raise _no_room(data, position, count, depth)
    items: list[Any] = []
    for _ in range(count):
        first = data[position]
        if first < 24:
            items.append(first)
            position += 1
        elif first == 0x1A:
            end = position + 5
            number = int.from_bytes(data[position + 1 : end], "big")
            if number < 1 << 16 or end > len(data):
                _item(data, position, depth)  # says what is wrong
            items.append(number)
            position = end
        elif 0x20 <= first < 0x38:
            items.append(0x1F - first)
            position += 1
        elif first == 0x19 and data[position + 1]:
            items.append(data[position + 1] << 8 | data[position + 2])
            position += 3
        else:
            item, position = _item(data, position, depth - 1)
            items.append(item)
    return items, position


def _map(data: bytes, position: int, count: int, depth: int) -> tuple[dict[int, Any], int]:
    if depth <= 0 or count > len(data) - position:  # every item takes at least one byte
        raise _no_room(data, position, count, depth)
    entries: dict[int, Any] = {}
    previous = -1
    for _ in range(count):
        start = position
        key: Any = data[start]
        if key < 24:
            position += 1
        elif key == 0x19 and data[start + 1]:
            key = data[start + 1] << 8 | data[start + 2]
            position += 3
        else:
            key, position = _item(data, start, 0)
            if type(key) is not int:
                raise _Wrong(start, f"map key {show(key)} is no integer")
        # The order of the encoded bytes: unsigned ascending, then negative descending.
        order = key if key >= 0 else _NEGATIVE - key
        if order <= previous:
            raise _Wrong(start, f"map key {key} twice" if key in entries else f"map key {key} is out of order")
        previous = order
        first = data[position]
        if 0x80 <= first < 0x98:
            entries[key], position = _array(data, position + 1, first - 0x80, depth - 1)
        else:
            entries[key], position = _item(data, position, depth - 1)
    return entries, position


def _no_room(data: bytes, position: int, count: int, depth: int) -> _Wrong:
    if depth <= 0:
        return _Wrong(position, f"nested deeper than {MAX_DEPTH}")
    return _Wrong(position, f"claims {count} items, {len(data) - position} bytes are left")
