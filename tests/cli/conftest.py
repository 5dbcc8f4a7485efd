"""What the tests of the command line share: a way to run it, in this process and in one of its own."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli.main import cli

TOP = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def problem(self) -> tuple[str, list[str]]:
        """The one ``error:`` message and its advice; nothing else may stand on standard error."""
        first, *more = self.err.splitlines()
        assert first.startswith("error: "), self.err
        assert all(line.startswith("  ") for line in more), self.err
        assert "Traceback" not in self.err
        return first.removeprefix("error: "), [line.removeprefix("  try: ") for line in more]


@pytest.fixture
def aigeco(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """``aigeco(*arguments)`` in this process."""
    monkeypatch.delenv("AIGECO_CONFIG", raising=False)

    def run(*arguments: object) -> Outcome:
        result = CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="aigeco")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def python() -> Callable[..., Outcome]:
    """``python(code, cwd)``: a program in a process of its own, with the project on its path and nothing else."""

    def run(code: str, cwd: Path | None = None) -> Outcome:
        command = [sys.executable, "-c", code]
        environment = {"PYTHONPATH": str(TOP), "PATH": "/usr/bin:/bin", "COLUMNS": "80"}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, timeout=60, env=environment, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
