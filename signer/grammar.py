"""What each kind of statement may hold: statement-v1.cddl as checks, with the limits that a grammar leaves open.

Pure: values that :mod:`signer.cbor` decoded go in, :class:`Malformed` comes out, or nothing.

Rules
- Every field of the kind is there, no other is; every type, size and range is checked.
- A value has one form: no trailing zero in the mantissa (unless the exponent is 9 already), zero is ``[0, 0]``, and
  quality 0 is absent.
- An OBIS key has one form: the short one where the code has it.
- The body of an unknown kind is carried: deterministic CBOR with unsigned keys from 10 up is all that is asked of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drivers import obis
from signer.codes import Kind
from signer.errors import Malformed, show

MAX_UINT = (1 << 64) - 1
"""Largest unsigned integer of CBOR."""

MAX_VALUES = 256
"""Quantities in one statement; the richest published register map has some 120."""

MAX_BLOCKS = 64
"""Requests of one reading."""

MAX_BLOCK_BYTES = 250
"""Modbus reads at most 125 registers at once (Application Protocol 1.1b3, section 6.3)."""

MAX_TEXT_BYTES = 256
"""Any text: names, serial numbers, words for a person."""

MAX_RECORD_BYTES = 8 * 1024
"""A meter's own signed record (OCMF records take some 1.2 kB, SML some 0.5 kB)."""

MAX_CERTIFICATE_BYTES = 4 * 1024
"""One certificate in DER; with P-256 they take some 0.7 kB."""

MAX_CHAIN = 3
"""Certificates between a signer and its root, itself included."""

MAX_OVERRIDES = 16
"""Overrides of one installation; there are four names so far."""

MAX_LAYOUT = 64
"""SunSpec models of one device."""

GATEWAY = re.compile(r"[A-Za-z0-9-]{1,40}")
"""A gateway id, an MSP id and a meter name: what topics and certificate names can carry."""

SUB = re.compile(r"[A-Za-z0-9-]{1,81}")
"""A measuring point: a meter's name, or with ``-`` and the point's name behind it."""

OF_THE_GATEWAY = "-"
"""The ``sub`` of statements about the gateway itself."""

_ABOUT_GATEWAY = frozenset({Kind.GENESIS, Kind.BOOT, Kind.CLOCK, Kind.REKEY, Kind.CHECKPOINT})
_ABOUT_METER = frozenset({Kind.READING, Kind.DESCRIPTOR, Kind.COMMISSION, Kind.EXCHANGE})
_READING_FIELDS = frozenset({10, 11, 12, 14, 15, 16})
_FIRST_BODY_FIELD = 10
_MAX_EXPONENT = 9

Check = Callable[[Any, str], None]
Entry = tuple[bool, Check]  # required, check


def check_body(kind: int, sub: str, body: Mapping[int, Any], place: str) -> None:
    """Refuse a body (fields from 10 up) that the kind does not allow, or a kind that ``sub`` does not.

    Raises:
        Malformed: with the place inside the statement.
    """
    if kind == Kind.READING:
        _check_reading(body, place)
    elif kind <= Kind.EXCHANGE:
        if body.keys() != {13}:
            raise Malformed(place, f"kind {kind} has field 13 and no other, not {_names(list(body))}")
        _check_entries(body[13], _ENTRIES[kind], f"{place}, field 13")
    else:
        for field in body:
            if field < _FIRST_BODY_FIELD:
                raise Malformed(place, f"field {field} is not part of any statement")
        check_carried(body, place)
        return
    if (sub == OF_THE_GATEWAY and kind in _ABOUT_METER) or (sub != OF_THE_GATEWAY and kind in _ABOUT_GATEWAY):
        raise Malformed(place, f"kind {kind} about {sub!r}")


def check_values(values: object, place: str) -> None:
    """Refuse what is no ``{ + obis-key => value }``.

    Raises:
        Malformed: names the quantity.
    """
    if type(values) is not dict or not 0 < len(values) <= MAX_VALUES:
        raise Malformed(place, f"is no map of 1..{MAX_VALUES} quantities")
    for key, value in values.items():
        if not 256 <= key < 65536:
            check_obis_key(key, place)
        # Written out, because a batch holds some ten thousand of them.
        if type(value) is not list or not 2 <= len(value) <= 3:
            raise Malformed(f"{place}, {obis.unpack(key)}", f"{show(value)} is no [mantissa, exponent]")
        mantissa, exponent = value[0], value[1]
        if type(mantissa) is not int or type(exponent) is not int or not -_MAX_EXPONENT <= exponent <= _MAX_EXPONENT:
            raise Malformed(
                f"{place}, {obis.unpack(key)}", f"[{show(mantissa)}, {show(exponent)}]: integers, exponent -9..9"
            )
        if mantissa % 10 == 0 and (exponent != _MAX_EXPONENT if mantissa else exponent != 0):
            raise Malformed(
                f"{place}, {obis.unpack(key)}", f"[{show(mantissa)}, {show(exponent)}] is not in its normal form"
            )
        if len(value) == 3 and (type(value[2]) is not int or not 0 < value[2] < 65536):
            raise Malformed(f"{place}, {obis.unpack(key)}", f"quality {show(value[2])} is outside 1..65535")


def check_block(function: object, address: object, size: int, place: str) -> None:
    """Refuse register words (``size`` bytes of them) that no Modbus request can have read.

    Raises:
        Malformed: another function than 3 and 4, a half register, too many, or addresses past the last register.
    """
    if type(function) is not int or not 3 <= function <= 4:
        raise Malformed(place, f"function {show(function)} is neither 3 nor 4")
    if size % 2 or not 2 <= size <= MAX_BLOCK_BYTES:
        raise Malformed(place, f"{size} bytes are no 1..{MAX_BLOCK_BYTES // 2} registers")
    if type(address) is not int or not 0 <= address <= 65536 - size // 2:
        raise Malformed(place, f"address {show(address)} leaves the 65536 registers")


def check_obis_key(key: object, place: str) -> None:
    """Refuse what is no OBIS key in its one form.

    Raises:
        Malformed: no code packs to this number.
    """
    try:
        obis.unpack(check_uint(key, place))
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(place, str(error)) from None


def check_uint(value: object, place: str) -> int:
    """The unsigned integer that ``value`` is.

    Raises:
        Malformed: it is none.
    """
    if type(value) is not int or not 0 <= value <= MAX_UINT:
        raise Malformed(place, f"{show(value)} is no unsigned integer")
    return value


def check_bytes(value: object, size: int, place: str) -> bytes:
    """The byte string of ``size`` bytes that ``value`` is.

    Raises:
        Malformed: it is none, or of another size.
    """
    if type(value) is not bytes:
        raise Malformed(place, f"{show(value)} is no byte string")
    if len(value) != size:
        raise Malformed(place, f"{len(value)} bytes, not {size}")
    return value


def check_text(value: object, place: str) -> str:
    """The text that ``value`` is.

    Raises:
        Malformed: it is none, or too long.
    """
    if type(value) is not str:
        raise Malformed(place, f"{show(value)} is no text")
    if len(value.encode()) > MAX_TEXT_BYTES:
        raise Malformed(place, f"{len(value.encode())} bytes of text, at most {MAX_TEXT_BYTES}")
    return value


def check_name(value: object, pattern: re.Pattern[str], place: str) -> str:
    """The name that ``value`` is.

    Raises:
        Malformed: it does not match ``pattern``.
    """
    if type(value) is not str or not pattern.fullmatch(value):
        raise Malformed(place, f"{show(value)} does not match {pattern.pattern}")
    return value


def check_carried(value: object, place: str) -> None:
    """Refuse map keys below zero anywhere inside a body that is carried without being understood.

    Raises:
        Malformed: names the key.
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            check_uint(key, place)
            check_carried(entry, place)
    elif isinstance(value, list):
        for entry in value:
            check_carried(entry, place)


def _names(body: Iterable[int]) -> str:
    return "field " + ", ".join(map(str, body)) if body else "none"


def _check_reading(body: Mapping[int, Any], place: str) -> None:
    fields = body.keys()
    if not fields <= _READING_FIELDS:
        raise Malformed(place, f"a reading has no {_names(sorted(fields - _READING_FIELDS))}")
    if 16 not in fields:
        raise Malformed(place, "field 16, the slot, is missing")
    check_uint(body[16], f"{place}, field 16")
    if 11 in fields:
        check_values(body[11], f"{place}, field 11")
    elif 10 not in fields:
        raise Malformed(place, "neither values (field 11) nor a status that says why (field 10)")
    if 10 in fields:
        _within(1, 255)(body[10], f"{place}, field 10")
    if 12 in fields:
        check_uint(body[12], f"{place}, field 12")
    if 14 in fields:
        _check_record(body[14], f"{place}, field 14")
    if 15 in fields:
        _check_blocks(body[15], f"{place}, field 15")


def _check_record(record: object, place: str) -> None:
    if type(record) is not list or len(record) != 2:
        raise Malformed(place, f"{show(record)} is no [format, record]")
    _within(1, 3)(record[0], f"{place}, format")
    _check_content(record[1], MAX_RECORD_BYTES, f"{place}, record")


def _check_blocks(blocks: object, place: str) -> None:
    if type(blocks) is not list or not 0 < len(blocks) <= MAX_BLOCKS:
        raise Malformed(place, f"is no array of 1..{MAX_BLOCKS} blocks")
    for number, block in enumerate(blocks):
        if type(block) is not list or len(block) != 3:
            raise Malformed(f"{place}, block {number}", f"{show(block)} is no [function, address, words]")
        function, address, words = block
        if type(words) is not bytes:
            raise Malformed(f"{place}, block {number}", f"words {show(words)} are no byte string")
        check_block(function, address, len(words), f"{place}, block {number}")


def _check_content(value: object, limit: int, place: str) -> None:
    if type(value) is not bytes:
        raise Malformed(place, f"{show(value)} is no byte string")
    if not 0 < len(value) <= limit:
        raise Malformed(place, f"{len(value)} bytes, 1..{limit} are allowed")


def _within(lowest: int, highest: int) -> Check:
    def check(value: object, place: str) -> None:
        if type(value) is not int or not lowest <= value <= highest:
            raise Malformed(place, f"{show(value)} is outside {lowest}..{highest}")

    return check


def _sized(size: int) -> Check:
    def check(value: object, place: str) -> None:
        check_bytes(value, size, place)

    return check


def _uint(value: object, place: str) -> None:
    check_uint(value, place)


def _text(value: object, place: str) -> None:
    check_text(value, place)


def _integer(value: object, place: str) -> None:
    if type(value) is not int:
        raise Malformed(place, f"{show(value)} is no integer")


def _certificate(value: object, place: str) -> None:
    _check_content(value, MAX_CERTIFICATE_BYTES, place)


def _chain(value: object, place: str) -> None:
    if type(value) is not list or len(value) > MAX_CHAIN - 1:
        raise Malformed(place, f"is no array of at most {MAX_CHAIN - 1} certificates")
    for number, certificate in enumerate(value):
        _certificate(certificate, f"{place}, certificate {number}")


def _recovered(value: object, place: str) -> None:
    if type(value) is not list or len(value) != 3:
        raise Malformed(place, f"{show(value)} is no [stream, seq, sid]")
    check_bytes(value[0], 16, f"{place}, stream")
    check_uint(value[1], f"{place}, seq")
    check_bytes(value[2], 32, f"{place}, sid")


def _pairs(value: object, limit: int, check: Check, place: str) -> list[list[Any]]:
    if type(value) is not list or len(value) > limit:
        raise Malformed(place, f"is no array of at most {limit} pairs")
    for number, pair in enumerate(value):
        if type(pair) is not list or len(pair) != 2:
            raise Malformed(f"{place}, pair {number}", f"{show(pair)} is no pair")
        check(pair[0], f"{place}, pair {number}")
        check(pair[1], f"{place}, pair {number}")
    return value


def _overrides(value: object, place: str) -> None:
    names = [pair[0] for pair in _pairs(value, MAX_OVERRIDES, _text, place)]
    if any(first >= second for first, second in itertools.pairwise(names)):
        raise Malformed(place, "names are not in ascending order, each once")


def _layout(value: object, place: str) -> None:
    _pairs(value, MAX_LAYOUT, _uint, place)


_ENTRIES: dict[int, dict[int, Entry]] = {
    Kind.GENESIS: {1: (True, _certificate), 2: (True, _chain), 3: (False, _recovered)},
    Kind.BOOT: {1: (True, _uint), 2: (True, _uint), 3: (False, _sized(32)), 4: (False, _text)},
    Kind.GAP: {1: (True, _uint), 2: (True, _uint), 3: (True, _uint), 4: (True, _uint)},
    Kind.CLOCK: {1: (True, _integer), 2: (True, _uint)},
    Kind.REKEY: {1: (True, _certificate), 2: (True, _chain)},
    Kind.DESCRIPTOR: {
        1: (True, _within(1, MAX_UINT)),  # a period of nothing has no slots
        2: (True, _sized(32)),
        3: (True, _text),
        4: (True, _within(0, 4)),
        5: (True, _text),
        6: (False, _overrides),
        7: (False, _layout),
    },
    Kind.CHECKPOINT: {1: (True, _sized(32)), 2: (True, _uint)},
    Kind.COMMISSION: {1: (True, _text), 2: (True, _text), 3: (False, _sized(32)), 4: (True, check_values)},
    Kind.EVENT: {1: (True, _uint), 2: (False, check_obis_key), 3: (False, _text)},
    Kind.EXCHANGE: {1: (True, _text), 2: (True, check_values), 3: (True, _text), 4: (True, check_values)},
}


def _check_entries(value: object, entries: Mapping[int, Entry], place: str) -> None:
    if type(value) is not dict:
        raise Malformed(place, f"{show(value)} is no map")
    for key in value:
        if key not in entries:
            raise Malformed(place, f"entry {key} is not part of it")
    for key, (required, check) in entries.items():
        if key in value:
            check(value[key], f"{place}, entry {key}")
        elif required:
            raise Malformed(place, f"entry {key} is missing")
