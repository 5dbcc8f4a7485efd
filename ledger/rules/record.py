"""Records: what contracts keep, take as arguments and answer. JSON in exactly one encoding.

JSON, not CBOR: whoever looks at a block, a state database or an answer reads it with the tools at hand, and clients in
every language write it. What is signed and large (batches) stays as it is and never passes through here.

Rules
- UTF-8, keys in ascending order, each once, no white space, no floats: the same content is the same bytes on every
  endorser. Bytes are lowercase hex.
- Arguments are foreign bytes: whatever comes, a record or :class:`ledger.rules.world.Declined`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 4 * 1024 * 1024
"""Of arguments; the coefficients of a thousand members for each hour of a year come in parts."""

MAX_DEPTH = 16
"""Nesting that is followed; the deepest record of ours has five levels."""

Record = dict[str, Any]

_PLAIN = frozenset({int, bool, type(None)})


class NoRecord(ValueError):
    """Bytes that are no record in the one encoding, and why."""


def pack(record: Mapping[str, Any] | list[Any]) -> bytes:
    """The one encoding of a record.

    Raises:
        TypeError, ValueError: something in it has no place in a record; a mistake of ours.
    """
    _check(record, "record", MAX_DEPTH)
    return _ENCODER.encode(record).encode()


def unpack(data: bytes) -> Record:
    """The record that ``data`` is.

    Raises:
        NoRecord: too long, no JSON, no object, a float, a key twice.
    """
    record = parse(data)
    if not isinstance(record, dict):
        raise NoRecord("an object is needed, with { first")
    return record


def parse(data: bytes) -> Any:
    """The item that ``data`` is: :func:`unpack` for lists too.

    Raises:
        NoRecord: as there.
    """
    if len(data) > MAX_BYTES:
        raise NoRecord(f"{len(data)} bytes, at most {MAX_BYTES} are taken")
    try:
        text = data.decode()
        item = _DECODER.decode(text)
        _check(item, "record", MAX_DEPTH)
    except RecursionError:
        raise NoRecord(f"nested deeper than {MAX_DEPTH} levels") from None
    except (TypeError, ValueError) as error:
        raise NoRecord(str(error)[:200]) from error
    return item


def _object(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return record


def _no_float(text: str) -> None:
    raise ValueError(f"{text[:40]} is no integer: quantities are integers of a named unit")


# One of each for all records: to make one takes as long as a small record.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_DECODER = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float, object_pairs_hook=_object)


def _check(item: Any, place: str, depth: int) -> None:
    if depth == 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(item, dict):
        for name, value in item.items():
            if not isinstance(name, str):
                raise TypeError(f"{place}: key {name!r} is no text")
            if type(value) is str and depth > 1:
                value.encode()
            elif type(value) not in _PLAIN or depth == 1:
                _check(value, name, depth - 1)
    elif isinstance(item, list | tuple):
        for value in item:  # thousands of registers: a call for each is half of the time
            if type(value) is str and depth > 1:
                value.encode()
            elif type(value) not in _PLAIN or depth == 1:
                _check(value, place, depth - 1)
    elif isinstance(item, str):
        item.encode()  # a lone surrogate has no UTF-8
    elif item is not None and not isinstance(item, bool | int):
        raise TypeError(f"{place}: {type(item).__name__} has no place in a record")
