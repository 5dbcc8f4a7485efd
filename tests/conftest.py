"""What holds for every test.

A property is not judged by the clock of a machine that others use too. What needs Fabric's commands is left out where
they are not found, and that is said at the end.
"""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import settings

from tests.fabricnet import commands_missing, fabric_commands, fabric_network

__all__ = ["fabric_commands", "fabric_network"]

settings.register_profile("house", deadline=None)
settings.load_profile("house")

LEFT_OUT = "left out: "

_missing = cache(commands_missing)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what needs Fabric's commands where they are not."""
    if item.get_closest_marker("fabric") and (words := _missing()):
        pytest.skip(f"{LEFT_OUT}{words}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly how much was left out."""
    skipped = [str(report.longrepr[-1]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    reasons = [words.partition(LEFT_OUT)[2] for words in skipped if LEFT_OUT in words]
    if reasons:
        terminalreporter.section("FABRIC LEFT OUT", sep="!", yellow=True, bold=True)
        terminalreporter.line(f"{len(reasons)} tests on a real Fabric network did not run: {reasons[0]}")
        terminalreporter.line("try: AIGECO_FABRIC_BIN=FOLDER make test; docs/fabric.md says where the commands are")
