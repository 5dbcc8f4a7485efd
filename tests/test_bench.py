"""Every measurement runs and prints its table. No figure is judged here: a busy machine is no fault of the code."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import SCRIPTS
from bench.report import Table, verdict

TOP = Path(__file__).parent.parent
COLUMNS = {
    "sign": ("times bare", "bytes, TCP"),
    "decode": ("us a quantity", "times pymodbus"),
    "store": ("written each",),
    "agent": ("agent is times",),
    "backlog": ("peer us",),
    "start": ("median s",),
    "bus": ("cpu us a request", "times fewer", "s to the first", "resident MB"),
    "adversary": ("planted", "wrong values"),
    "faults": ("complaint", "wrong values accepted"),
    "network": ("up again s", "orderers MiB"),
    "contracts": ("signatures checked", "statements/s"),
    "settle": ("member periods", "us each", "exchanges s"),
    "first": ("since the start s",),
    "ingestion": ("ingestion us", "orderers us"),
    "community": ("member periods", "processors s"),
}


def _bench(*words: str) -> str:
    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_measurement_prints_its_table(script: str) -> None:
    printed = _bench(script, "--small")
    for column in COLUMNS[script]:
        assert column in printed
    assert "Python" in printed.splitlines()[1]


def test_tables_can_be_pasted_into_a_page() -> None:
    printed = _bench("--markdown", "sign", "--small")
    assert "| what | median us |" in printed
    assert "|---|---:|" in printed


def test_every_measurement_is_described_on_the_page_of_figures() -> None:
    page = (TOP / "docs" / "performance.md").read_text()
    assert [script for script in SCRIPTS if f"python -m bench {script}" not in page] == []


def test_a_table_is_aligned_and_says_whether_a_goal_is_met() -> None:
    table = Table(
        "Title", ("what", "us", "goal"), (("a", "1.5", verdict(1.5, 2)), ("long", "12.0", verdict(12, 2))), ("Note.",)
    )
    assert table.text().splitlines() == [
        "Title",
        "what    us          goal",
        "----  ----  ------------",
        "a      1.5     <= 2: met",
        "long  12.0  <= 2: MISSED",
        "Note.",
    ]
    assert verdict(5000, 5000, at_least=True) == ">= 5000: met"
    assert verdict(45.1, 45, unit=" MB") == "<= 45 MB: MISSED"
