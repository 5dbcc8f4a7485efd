"""Files for distributors: written, read back, and refused with their line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.files import (
    SHARES_HEAD,
    BadFile,
    Coefficients,
    coefficient_name,
    read_coefficients,
    write_coefficients,
    write_shares,
)
from ledger.rules.shares import divide
from ledger.rules.sharing import ONE, BadCoefficients
from tests.ledger.community import HOUR, QUARTER, START

A, B = "ES0021000000000001AA1P", "ES0021000000000002BB1P"


def test_fixed_coefficients() -> None:
    text = write_coefficients(Coefficients((A, B), ((333_333, 666_667),)))
    assert text == f"{A};0,333333\r\n{B};0,666667\r\n"
    assert coefficient_name("ES0021000000000001AA1PA000", 2027) == "ES0021000000000001AA1PA000_2027.txt"


@settings(max_examples=20)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_what_is_written_is_read_back(weights: list[int]) -> None:
    supplies = tuple(f"ES{number:020}" for number in range(len(weights)))
    table = Coefficients(supplies, (tuple(divide(ONE, weights)),))
    assert read_coefficients(write_coefficients(table)) == table


def test_coefficients_of_every_hour() -> None:
    table = Coefficients((A, B), tuple((hour, ONE - hour) for hour in range(8760)))
    text = write_coefficients(table)
    assert text.splitlines()[26:28] == [f"{A};0014;0,000013", f"{B};0014;0,999987"]
    assert read_coefficients(text) == table
    with pytest.raises(ValueError, match="8759 rows"):
        write_coefficients(Coefficients(table.supplies, table.rows[1:]))
    with pytest.raises(BadCoefficients, match=r"hour 8760 add up to 1\.000001"):
        write_coefficients(Coefficients(table.supplies, (*table.rows[:-1], (1, ONE))))
    lines = text.splitlines(keepends=True)
    with pytest.raises(BadFile, match="hour 100 is missing"):
        read_coefficients("".join([*lines[:198], *lines[200:]]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: CUPS;coefficient"),
        (f"{A};1\n{B};1;0,5\n", "line 2: CUPS;coefficient"),
        (f"{A};0,5\n{A};0,5\n", f"line 2: {A} is there twice"),
        (f"{A};0.5\n{B};0,5\n", "line 1: '0.5' is no coefficient"),
        (f"{A};-0,5\n{B};1,5\n", "is no coefficient"),
        (f"{A};0,3333333\n", "more than six decimals"),
        (f"{A};0,500000\n{B};0,499999\n", "add up to 0.999999, not to 1"),
        (f"{A};0;1\n", "line 1: '0' is no hour"),
        (f"{A};1;1\n{A};2;1\n", "2 rows of coefficients"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        read_coefficients(text)


def test_shares() -> None:
    """A member whose last period is open, at the end of summer time: 02:00 to 03:00 comes twice."""
    twice_ms = START - 8 * 86_400_000 - 12 * HOUR + HOUR  # 25 October 2026 00:00 UTC, summer time's last hour
    run = {"first_ms": twice_ms, "count": 2, "period_ms": HOUR}
    columns = {"allotted": [1500, 250], "consumed": [200, None], "self_consumed": [200, None]}
    columns |= {"surplus": [1300, None], "from_grid": [0, None]}
    part = {**columns, "state": ["settled", "open"], "reason": ["", "status 2 at the end"]}
    text = write_shares([{"run": run, "members": {"a": part, "b": part}}], {"a": A}, "peninsula")
    assert text.splitlines() == [
        ";".join(SHARES_HEAD),
        f"{A};2026/10/25 03:00;1;1,500;0,200;0,200;1,300;0,000;settled;",
        f"{A};2026/10/25 03:00;0;0,250;;;;;open;status 2 at the end",
    ]
    quarter = {**run, "period_ms": QUARTER, "first_ms": START + 11 * HOUR + 2 * QUARTER}
    text = write_shares([{"run": quarter, "members": {"a": part}}], {"a": A}, "peninsula")
    assert [line.split(";")[1] for line in text.splitlines()[1:]] == ["2026/11/02 23:45", "2026/11/03 00:00"]
