"""CBOR and COSE with nothing refused: what a wrong twin is made of. Uses no code of ours and no CBOR library.

Rules
- A map is a dict or a list of pairs wrapped in :class:`Pairs`, so that entries may repeat and stand in any order.
- :class:`Raw` puts bytes in verbatim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Sign = Callable[[bytes], bytes]


class Raw(bytes):
    """Encoded already."""


class Pairs(list[tuple[Any, Any]]):
    """The entries of a map, as they shall come."""


def head(major: int, argument: int, longer: int = 0) -> bytes:
    """Initial byte and argument; ``longer`` steps longer than needed."""
    sizes = [0, 1, 2, 4, 8]
    step = (
        0 if argument < 24 else 1 if argument < 1 << 8 else 2 if argument < 1 << 16 else 3 if argument < 1 << 32 else 4
    )
    size = sizes[min(4, step + longer)]
    if not size:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + argument.to_bytes(size, "big")


def encode(item: Any) -> bytes:
    """The bytes of an item, nothing checked."""
    if isinstance(item, Raw):
        return bytes(item)
    if item is None or isinstance(item, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[item]
    if isinstance(item, int):
        return head(0, item) if item >= 0 else head(1, -1 - item)
    if isinstance(item, bytes):
        return head(2, len(item)) + item
    if isinstance(item, str):
        return head(3, len(item.encode())) + item.encode()
    if isinstance(item, Pairs):
        return head(5, len(item)) + b"".join(encode(key) + encode(value) for key, value in item)
    if isinstance(item, dict):
        return encode(Pairs(item.items()))
    return head(4, len(item)) + b"".join(encode(entry) for entry in item)


def signed_digest(protected: bytes, payload: bytes) -> bytes:
    """SHA-256 of the Sig_structure."""
    return hashlib.sha256(encode(["Signature1", protected, b"", payload])).digest()


def sign1(protected: bytes, payload: bytes, sign: Sign, unprotected: Any = None) -> bytes:
    """A tagged COSE_Sign1 with a valid signature over whatever is in it."""
    signature = sign(signed_digest(protected, payload))
    return b"\xd2" + encode([protected, {} if unprotected is None else unprotected, payload, signature])


def parts(message: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Protected header, unprotected header (encoded), payload and signature of a well-made message."""

    def string(position: int) -> tuple[bytes, int]:
        info = message[position] & 31
        size = 0 if info < 24 else 1 << (info - 24)
        length = int.from_bytes(message[position + 1 : position + 1 + size], "big") if size else info
        start = position + 1 + size
        return message[start : start + length], start + length

    protected, position = string(2)
    payload_head = {True: position + 1}.get(message[position] == 0xA0)
    if payload_head is None:  # {33: certificates}
        first = position + 3
        if message[first] >> 5 == 2:
            _, payload_head = string(first)
        else:
            payload_head = first + 1
            for _ in range(message[first] & 31):
                _, payload_head = string(payload_head)
    payload, end = string(payload_head)
    return protected, message[position:payload_head], payload, message[end + 2 :]
