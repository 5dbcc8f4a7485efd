"""Identification registers as text, and whether they are the expected ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.identify import matches, text
from drivers.map import Field, load


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("ascii", b"SUN2000-3KTL-L1\0", "SUN2000-3KTL-L1"),
        ("ascii", b"B23 ", "B23"),
        ("chars", b"\0S\0O\0C\0O", "SOCO"),
        ("hex", bytes.fromhex("19032098"), "19032098"),
        ("u32", bytes.fromhex("000F4240"), "1000000"),
        ("s16", b"\xff\xff", "-1"),
    ],
)
def test_what_a_register_says(kind: str, words: bytes, said: str) -> None:
    assert text(Field(3, 0, len(words) // 2, kind), words) == said


def test_numbers_must_be_equal_and_texts_begin_alike() -> None:
    meter, inverter = load("carlo_gavazzi_em330_em340").identify, load("huawei_sun2000").identify
    serial_only = load("eastron_sdm630").identify
    assert meter
    assert inverter
    assert serial_only
    assert matches(meter, (341).to_bytes(2))
    assert not matches(meter, (71).to_bytes(2))
    assert matches(inverter, b"SUN2000-8KTL-M1".ljust(30, b"\0"))
    assert not matches(inverter, b"DTSU".ljust(30, b"\0"))
    assert matches(serial_only, bytes(4))


@given(st.sampled_from(["ascii", "chars", "hex", "u16", "f32", "u64"]), st.binary(max_size=32))
def test_any_words_are_some_text(kind: str, words: bytes) -> None:
    said = text(Field(3, 0, len(words) // 2, kind), words)
    assert said.isprintable()
