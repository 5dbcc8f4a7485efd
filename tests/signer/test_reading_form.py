"""The quick way to read a reading and the strict reader agree on every input: the same fields, or not taken at all."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signer import cbor, cose, reading_form, statement
from signer.errors import Malformed
from tests.signer.test_parsers import REPLACEMENTS, mutations

VECTORS = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "statements.json").read_text())
STATEMENTS = {vector["name"]: bytes.fromhex(vector["bytes"]) for vector in VECTORS["vectors"]}
WRONG = [bytes.fromhex(vector["bytes"]) for vector in VECTORS["wrong"]]
READINGS = [name for name in STATEMENTS if name.startswith("reading")]


def payload_of(message: bytes) -> bytes:
    return cose.parse(message, statement.MAX_BYTES, "").payload


def strictly(payload: bytes) -> Any:
    """What the strict reader makes of a payload, None when it refuses."""
    try:
        return cbor.decode(payload, 1 << 20)
    except Malformed:
        return None


def alike(payload: bytes) -> bool:
    """Hold the two against each other; returns whether the quick one took it."""
    quick = reading_form.decode(payload)
    if quick is None:
        return False
    slow = strictly(payload)
    assert repr(quick) == repr(slow)  # types and the order of keys too
    assert cbor2.dumps(quick) == payload
    return True


def taken_apart(data: bytes) -> str:
    try:
        return repr(statement.parse(data))
    except Malformed as error:
        return f"{error.place}: {error.reason}"


@pytest.mark.parametrize("name", READINGS)
def test_readings_are_read_the_quick_way(name: str) -> None:
    assert alike(payload_of(STATEMENTS[name]))


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_almost_right_payloads(name: str) -> None:
    payload = payload_of(STATEMENTS[name])
    taken = [what for what, changed in mutations(payload) if alike(changed)]
    assert taken or name not in READINGS


def test_the_same_refusals_word_for_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements with and without the quick way: every wrong vector, every change of a reading."""
    changed = [data for _, data in mutations(STATEMENTS["reading, edges of values"])]
    changed += [data for _, data in mutations(STATEMENTS["reading, twelve quantities"])][::7]
    inputs = [*STATEMENTS.values(), *WRONG, *changed]
    quick = [taken_apart(data) for data in inputs]
    with monkeypatch.context() as without:
        without.setattr(reading_form, "decode", lambda _: None)
        assert quick == [taken_apart(data) for data in inputs]


# Payloads put together of parts that are right, nearly always: a fault anywhere has to be noticed by one of the two.

NUMBERS = [0, 1, 15, 16, 23, 24, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]
KEYS = [256, 264, 520, 7937, 65535, 65536, 1 << 48, (1 << 64) - 1]
# Half numbers, and whatever else there is in CBOR.
ODD = [*REPLACEMENTS, b"", b"\x18", b"\x19\x01", b"\xf4", b"\x58\x01"]


class Payloads:
    """Makes payloads; each part is wrong once in ``of`` times."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.of = self.chance.choice([20, 60, 200, 1000])

    def seldom(self) -> bool:
        return self.chance.randrange(self.of) == 0

    def part(self, right: bytes) -> bytes:
        return self.chance.choice(ODD) if self.seldom() else right

    def count(self, major: int, count: int) -> bytes:
        return cbor.head(major, max(0, count + self.chance.choice([-99, -1, 1, 2])) if self.seldom() else count)

    def uint(self) -> bytes:
        return self.part(cbor.integer(self.chance.choice(NUMBERS)))

    def number(self) -> bytes:
        number = self.chance.choice(NUMBERS)
        return self.part(cbor.integer(self.chance.choice([number, -1 - number])))

    def value(self) -> bytes:
        many = self.chance.choice([2, 2, 2, 3])
        return self.count(4, many) + b"".join(self.number() for _ in range(many))

    def values(self) -> bytes:
        keys = self.chance.choices(KEYS, k=self.chance.randrange(6))
        if not self.seldom():
            keys = sorted(frozenset(keys))
        return self.count(5, len(keys)) + b"".join(self.part(cbor.integer(key)) + self.value() for key in keys)

    def block(self) -> bytes:
        words = self.chance.randbytes(self.chance.randrange(30))
        return self.count(4, 3) + self.uint() + self.uint() + self.count(2, len(words)) + words

    def blocks(self) -> bytes:
        many = self.chance.randrange(4)
        return self.count(4, many) + b"".join(self.block() for _ in range(many))

    def payload(self) -> bytes:
        fields = [(1, self.uint()), (2, b"\x50" + bytes(16)), (3, self.uint()), (4, b"\x58\x20" + bytes(32))]
        fields += [(5, self.uint()), (6, self.uint()), (7, self.uint())]
        fields += [(8, self.count(4, 2) + self.uint() + self.uint()), (9, self.count(2, 16) + bytes(16))]
        optional = [(10, self.uint()), (11, self.values()), (12, self.uint()), (15, self.blocks())]
        fields += [one for one in optional if self.chance.randrange(2)] + [(16, self.uint())]
        if self.seldom():
            self.chance.shuffle(fields)
        inside = b"".join(self.part(cbor.integer(field)) + self.part(item) for field, item in fields)
        return self.count(5, len(fields)) + inside + (self.chance.choice(ODD) if self.seldom() else b"")


def test_payloads_of_parts() -> None:
    payloads = [Payloads(seed).payload() for seed in range(6000)]
    taken = sum(alike(payload) for payload in payloads)
    refused = sum(strictly(payload) is None for payload in payloads)
    assert taken > 1000  # some are right
    assert refused > 1000


_COMMON = "01000250" + "00" * 16 + "0301045820" + "00" * 32 + "05010601070108820000" + "0950" + "00" * 16


@pytest.mark.parametrize(
    "payload",
    [
        "ab" + _COMMON + "0ba1 190108820101 190208820101 1001",
        "ac" + _COMMON + "0ba1 190108820101 190208820101 1001",
        "ab" + _COMMON + "0ba3 190108820101 190208820101 1001 1001",
        "aa" + _COMMON + "0ba2 190108820101 1001",
        "aa" + _COMMON + "0ba2 190108820101 190108820101 1001",
        "a0" + _COMMON + "1001",
        "a9" + _COMMON + "1001",
        "ab" + _COMMON + "0f",
        "ab" + _COMMON + "0f8183",
    ],
)
def test_counts_that_are_wrong(payload: str) -> None:
    """Also two that are wrong, so that their sum is right."""
    assert not alike(bytes.fromhex(payload))


@given(
    st.sampled_from(
        [b"\x57", b"\x58", b"\x58\x17", b"\x58\x18", b"\x59\x00", b"\x59\x01", b"\x59\x00\xff", b"\x5a", b"\x78"]
    ),
    st.binary(max_size=3),
    st.integers(0, 300),
)
@settings(max_examples=300, deadline=None)
def test_byte_strings_at(head: bytes, more: bytes, size: int) -> None:
    """The lengths that are read on the spot give what :func:`signer.cbor.decode_at` gives, or its refusal."""

    def tried(read: Any) -> Any:
        try:
            return read()
        except Malformed as error:
            return error.place, error.reason

    data = b"\x00" + head + more + bytes(size)
    found = tried(lambda: cbor.byte_string_at(data, 1, "here"))
    if data[1] >> 5 == 2:
        assert found == tried(lambda: cbor.decode_at(data, 1, "here"))
    else:
        assert found == ("here", f"initial byte 0x{data[1]:02x} where a byte string is due")
