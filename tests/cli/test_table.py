"""Numbers and tables as a person reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cli.table import age, grouped, on_the_point, plain


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("0", "0"),
        ("9123510", "9,123,510"),
        ("-1234.5678", "-1,234.5678"),
        ("-0.08", "-0.08"),
        ("999", "999"),
        ("21474836.47", "21,474,836.47"),
    ],
)
def test_grouping(number: str, shown: str) -> None:
    assert grouped(number) == shown


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_grouping_changes_no_digit(number: object) -> None:
    text = f"{number:f}"
    assert grouped(text).replace(",", "") == text


def test_decimal_points_stand_under_each_other() -> None:
    cells = [cell.rjust(12) for cell in on_the_point(["1,234", "-0.08", "230.2", "-"])]
    assert cells[1].index(".") == cells[2].index(".")
    assert {len(cell) for cell in cells} == {12}
    assert cells[0].index("4") == cells[1].index(".") - 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s"), (0, "0 s"), (119.9, "119 s"), (120, "2 min"), (7300, "2 h 1 min"), (2 * 86400, "2 d")],
)
def test_age(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_a_table_is_plain_and_has_no_trailing_blanks() -> None:
    lines = plain(("meter", "age", "state"), [("main", "5 s", ""), ("inverter", "12 min", "silent")], right=("age",))
    assert lines == ["meter        age  state", "main         5 s", "inverter  12 min  silent"]
