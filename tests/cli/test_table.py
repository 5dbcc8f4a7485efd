"""Numbers and tables as a person reads them."""

import contextlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cli.table import age, aligned, fit, grouped, on_the_point, plain, show


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
    rows = [("main", "5 s", ""), ("inverter", "12 min", "silent")]
    lines = plain(aligned(("meter", "age", "state"), rows, right=("age",)))
    assert lines == ["meter        age  state", "main         5 s", "inverter  12 min  silent"]


PROGRAM = """
from edge.cli.table import on_the_point, show
numbers = on_the_point(["9,123,510", "-0.08", "230.2"])
rows = [(f"quantity {n}", number, "Wh", "", "") for n, number in enumerate(numbers)]
show(("quantity", "value", "unit", "point", "flags"), rows, right=("value",))
"""


@pytest.mark.parametrize("columns", [80, 12])
def test_a_terminal_gets_the_same_cells(columns: int) -> None:
    """Under a pseudo-terminal, also one that is far too narrow: nothing is cut off, nothing moves."""
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm", "COLUMNS": str(columns)}
    command = [sys.executable, "-c", PROGRAM]
    plain_text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    master, slave = pty.openpty()
    with subprocess.Popen(command, env=environment, stdin=slave, stdout=slave) as process:
        os.close(slave)
        seen = b""
        with contextlib.suppress(OSError):  # a terminal whose other end closed says so with EIO
            while data := os.read(master, 4096):
                seen += data
    os.close(master)
    assert process.returncode == 0
    assert b"\x1b[1m" in seen
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", seen.decode()).splitlines()]
    assert lines == plain_text.splitlines()


def test_on_a_terminal_the_last_cell_of_a_row_that_is_too_wide_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("short", "Acme One"), ("a-name-that-is-long", "Acme Two " * 6)]
    show(("name", "model"), rows, under=True)
    assert len(capsys.readouterr().out.splitlines()) == 3, "elsewhere a row is a line"
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    show(("name", "model"), rows, under=True)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert shown == [
        "name                 model",
        "short                Acme One",
        "a-name-that-is-long",
        "  Acme Two Acme Two Acme Two Acme Two",
        "    Acme Two Acme Two",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text("ab c/-", min_size=1, max_size=300), st.sampled_from(["", "  "]))
def test_a_line_fits_a_terminal_and_is_left_alone_elsewhere(words: str, indent: str) -> None:
    line = indent + words.strip()
    assert fit(line, io.StringIO()) == line
    first, *more = fit(line, _Terminal()).split("\n")
    assert " ".join([first, *more]).split() == line.split()
    assert first.startswith(indent)
    assert all(each.startswith(indent + "  ") for each in more)
    wide = max(20, shutil.get_terminal_size().columns)
    assert all(len(each) <= wide or " " not in each.strip() for each in [first, *more]), "only a long word is wider"
