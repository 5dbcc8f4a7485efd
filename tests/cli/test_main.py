"""The command as a whole: exit codes, usage errors, Ctrl-C, and what it must not import."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from edge.cli import main as module
from edge.cli.exits import KNOWN, MEANING, Exit, Refused, code_of, lines_of

Aigeco = Callable[..., Any]
TOP = Path(__file__).parents[2]


def test_help_documents_every_command_and_exit_code(aigeco: Aigeco) -> None:
    shown = aigeco("--help")
    assert shown.code == 0
    for name in module.COMMANDS:
        assert f"\n  {name} " in shown.out
    for code, words in MEANING.items():
        assert f"\n  {int(code)} " in shown.out
        assert words.split()[0] in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


@pytest.mark.parametrize("name", module.COMMANDS)
def test_every_command_has_help_that_fits_a_terminal(aigeco: Aigeco, name: str) -> None:
    shown = aigeco(name, "--help")
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 80


def test_without_arguments_the_help_is_shown(aigeco: Aigeco) -> None:
    shown = aigeco()
    assert shown.code == 2
    assert shown.err.startswith("Usage: aigeco")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dekode",), "No such command"),
        (("decode",), "Missing argument"),
        (("decode", "--jason", "a", "b"), "No such option"),
        (("run", "--colour"), "No such option"),
        (("keys", "destroy"), "No such command"),
    ],
)
def test_wrong_usage_says_what_and_where_help_is(aigeco: Aigeco, arguments: tuple[str, ...], words: str) -> None:
    asked = aigeco(*arguments)
    assert asked.code == 2
    said, advice = asked.problem
    assert words in said
    assert advice[-1].endswith("--help")


def test_the_error_table_names_classes_that_exist() -> None:
    import importlib

    for name in KNOWN:
        folder, _, last = name.rpartition(".")
        found = getattr(importlib.import_module(folder), last)
        assert issubclass(found, Exception), name
        assert found.__module__ == folder, f"{name} has moved to {found.__module__}"


def test_a_bug_is_no_known_error() -> None:
    assert code_of(ZeroDivisionError()) is None
    assert code_of(OSError("no file name")) is None
    assert code_of(KeyboardInterrupt()) is None


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(module.Commands, "get_command", lambda *_: broken)
    with pytest.raises(ZeroDivisionError):
        module.cli.main(["run"])


def test_several_problems_each_carry_their_advice() -> None:
    error = Refused("first\nsecond", Exit.CONFIG, "this", "that")
    assert list(lines_of(error)) == ["error: first", "  try: this", "error: second", "  try: that"]
    single = Refused("first", Exit.CONFIG, "this", "that")
    assert list(lines_of(single)) == ["error: first", "  try: this", "  try: that"]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/nowhere/at/all").read_bytes()
    assert code_of(caught.value) == Exit.USAGE
    assert list(lines_of(caught.value)) == ["error: /nowhere/at/all: No such file or directory"]


def test_a_command_imports_nothing_that_others_need(python: Callable[..., Any]) -> None:
    outcome = python(
        "import sys\n"
        "from edge.cli.main import cli\n"
        "try: cli(['run', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('rich', 'yaml', 'hypothesis', 'pygments', 'edge.agent') if name in sys.modules])\n"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("harm", "code"), [(b"", 0), (b"\x00", 1)])
def test_a_reader_that_has_seen_enough_changes_no_outcome(bundle: Path, harm: bytes, code: int) -> None:
    with open(bundle / "statements.cborseq", "ab") as file:
        file.write(harm)
    command = f"set -o pipefail; {sys.executable} -m edge.cli.main verify {bundle} | true"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("program", ["edge", "hw_sim", "ledger"])
def test_what_a_terminal_cannot_write_is_no_traceback(program: str) -> None:
    code = f"import sys; from {program}.cli import main; sys.argv[1:] = ['caf\\xe9']; main.main()"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'caf\\xe9'" in done.stderr


def test_a_reader_that_leaves_in_the_middle() -> None:
    code = "from edge.cli import main; import click, sys\n"
    code += "def many(): [print('y' * 99, flush=True) for _ in range(9999)]\n"
    code += "def said(self, *_): return click.Command('x', callback=many)\n"
    code += "main.Commands.get_command = said; sys.argv[1:] = ['x']; main.main()\n"
    command = ["bash", "-c", '"$0" -c "$1" | head -n 1; echo ${PIPESTATUS[0]}', sys.executable, code]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("y" * 99 + "\n141\n", "")


def test_ctrl_c_ends_without_a_traceback(tmp_path: Path) -> None:
    """A read that waits for a meter which accepts the connection and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli.main", "read", "eastron_sdm630", "--tcp", f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(TOP)},
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.05)  # it has connected; now it asks
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
