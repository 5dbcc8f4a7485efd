"""Changes one byte of somebody's evidence, where it would pay: in a value of a reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drivers.obis import pack, unpack
from signer import cbor
from signer.bundle import Sequence
from signer.codes import Kind
from signer.statement import MAX_BYTES, Claims, parse

_ENERGIES = (pack("1.8.0"), pack("2.8.0"))


@dataclass(frozen=True, slots=True)
class Change:
    """What was done.

    Attributes:
        offset: of the byte in the file.
        seq: of the statement it is in.
        words: for people.
    """

    offset: int
    seq: int
    words: str


def change_a_value(path: Path) -> Change:
    """Change the lowest byte of an energy of a reading in the middle of the file; without one, of its largest value.

    Raises:
        ValueError: there is no reading with values in the file.
    """
    found = [(start, claims) for start, claims in _statements(path) if claims.kind == Kind.READING and claims.values]
    if not found:
        raise ValueError(f"{path}: no reading with values to change")
    start, claims = found[len(found) // 2]
    data = bytearray(path.read_bytes())
    key, value = max(claims.values, key=lambda pair: (pair[0] in _ENERGIES, abs(pair[1].mantissa)))
    number = cbor.encode(key) + cbor.encode([value.mantissa, value.exponent])
    last_byte = len(number) - len(cbor.encode(value.exponent)) - 1
    at = bytes(data).index(number, start) + last_byte
    data[at] ^= 1
    path.write_bytes(data)
    return Change(at, claims.seq, f"{unpack(key)} of {claims.sub} in statement {claims.seq}, no longer {value.text()}")


def _statements(path: Path) -> list[tuple[int, Claims]]:
    """(offset, statement) of a file of statements."""
    sequence, found = Sequence.open(path, MAX_BYTES), []
    try:
        start = sequence.offset
        while (item := sequence.next()) is not None:
            found.append((start, parse(item)))
            start = sequence.offset
    finally:
        sequence.close()
    return found
