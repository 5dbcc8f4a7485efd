"""A reading's payload, decoded at one go: what a ledger does thousands of times a second.

The shape that readings have is written as a pattern over their bytes, so that C code looks at them: once to say that
this is deterministic CBOR of the allowed types, once to decode it (cbor2). Checks no rule of the grammar and names no
error: whatever is not of this shape is :mod:`signer.cbor`'s to decode or to refuse. A test holds the two against each
other.

Rules
- What is decoded here, :func:`signer.cbor.decode` decodes to the same; what it refuses, is not decoded here.
- cbor2 sees bytes only after the patterns: numbers in their shortest form, byte strings that are there, arrays and maps
  of these. No tag, float, text or indefinite length reaches it, and no count beyond one byte.
- The patterns are fixed, have one way to match, and never go back.
"""

from __future__ import annotations

import re
from typing import Any

import cbor2

# RFC 8949, section 3: one byte up to 23, else 24..27 and 1, 2, 4 or 8 bytes, which half of them could not hold.
_UINT = rb"(?:[\x00-\x17]|\x18[\x18-\xff]|\x19[^\x00].|\x1a(?!\x00\x00).{4}|\x1b(?!\x00{4}).{8})"
_INT = (
    rb"(?:[\x00-\x17\x20-\x37]|[\x18\x38][\x18-\xff]|[\x19\x39][^\x00].|[\x1a\x3a](?!\x00\x00).{4}"
    rb"|[\x1b\x3b](?!\x00{4}).{8})"
)
_LONG_KEY = rb"(?:\x19[^\x00].|\x1b(?!\x00{4}).{8})"  # 256 and more: no field of a statement can be taken for one
_VALUES = rb"(?:([\xa1-\xb7])|\xb8([\x18-\xff]))(?:%b(?:\x82%b%b|\x83%b%b%b))++" % (_LONG_KEY, *[_INT] * 5)

_START = re.compile(
    rb"([\xaa-\xae])\x01%b\x02\x50.{16}\x03%b\x04\x58\x20.{32}\x05%b\x06%b\x07%b\x08\x82%b%b\x09\x50.{16}"
    rb"(?:\x0a%b)?+(?:\x0b%b)?+(?:\x0c%b)?+" % (*[_UINT] * 8, _VALUES, _UINT),
    re.DOTALL,
)
_BLOCK = re.compile(rb"\x83%b%b(?:([\x40-\x57])|\x58([\x18-\xff]))" % (_UINT, _UINT), re.DOTALL)
_END = re.compile(rb"\x10%b\Z" % _UINT, re.DOTALL)


def decode(payload: bytes) -> dict[int, Any] | None:
    """The fields of a reading's payload; None = it has another shape, or is none."""
    start = _START.match(payload)
    if start is None:
        return None
    fields, few, many = start.groups()
    position = start.end()
    if payload[position : position + 1] == b"\x0f":
        position = _after_blocks(payload, position + 1)
    if not _END.match(payload, position):
        return None
    try:
        found = cbor2.loads(payload)
    except cbor2.CBORDecodeError:  # a count that goes beyond the end
        return None
    # A wrong count moves an entry into another map, out of the order of its keys, or leaves field 16 behind.
    if len(found) != fields[0] - 0xA0 or not _ascending(found) or next(reversed(found)) != 16:
        return None
    if few or many:
        values = found[11]
        if len(values) != (few[0] - 0xA0 if few else many[0]) or not _ascending(values):
            return None
    return found  # type: ignore[no-any-return]


def _after_blocks(payload: bytes, position: int) -> int:
    """Where the array of register words ends that begins here; past the end where there is none of the usual shape."""
    head = payload[position : position + 1]
    if not b"\x80" <= head < b"\x98":
        return len(payload)
    position += 1
    for _ in range(head[0] - 0x80):
        block = _BLOCK.match(payload, position)
        if block is None:
            return len(payload)
        few, many = block.groups()
        position = block.end() + (few[0] - 0x40 if few else many[0])
    return position


def _ascending(entries: dict[int, Any]) -> bool:
    keys = list(entries)
    return keys == sorted(keys)
