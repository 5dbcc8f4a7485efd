"""Processes that outlive a command are found again, never confused with others, and stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.fabric.network.processes import Service, stop
from tests.ledger.peers import PATIENCE_S

TOP = Path(__file__).parents[3]
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service("node", tmp_path)
    yield made
    stop([made], 0)


def wait_for(service: Service, words: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while words not in service.last_lines(5) and time.monotonic() < until:
        time.sleep(0.02)
    assert words in service.last_lines(5)


def test_a_process_is_started_once_found_and_stopped(service: Service) -> None:
    service.start(["sh", "-c", "echo ready; exec sleep 60"], {})
    pid = service.pid()
    wait_for(service, "ready")
    service.start(["false"], {})
    assert service.pid() == pid, "started twice"
    assert (service.memory_kb() or 0) > 0
    assert stop([service]) == []
    assert service.pid() is None
    assert service.memory_kb() is None


def test_a_process_outlives_who_started_it(service: Service) -> None:
    code = (
        "import sys; from pathlib import Path; from ledger.fabric.network.processes import Service;"
        "Service('node', Path(sys.argv[1])).start(['sleep', '60'], {})"
    )
    subprocess.run([sys.executable, "-c", code, str(service.folder)], cwd=TOP, check=True, timeout=PATIENCE_S)
    assert service.pid() is not None


def test_another_process_that_got_the_id_is_not_taken_for_it_and_lives(service: Service) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        service.start(["sleep", "60"], {})
        _, start, boot = service.pid_file.read_text().split()
        stop([service])
        service.pid_file.write_text(f"{other.pid} {int(start) - 100_000} {boot}")  # long before the other
        assert service.pid() is None
        assert stop([service], 0) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("content", ["", "x", "1", "99999999 1 2", "-5 1 2"])
def test_a_pid_file_that_says_nothing_is_no_process(service: Service, content: str) -> None:
    service.pid_file.write_text(content)
    assert service.pid() is None


def test_who_does_not_stop_when_asked_is_made_to(service: Service) -> None:
    service.start(["sh", "-c", STUBBORN], {})
    wait_for(service, "ready")
    assert stop([service], 0.3) == ["node"]
    assert service.pid() is None


def test_a_log_is_appended_and_its_end_is_shown(service: Service) -> None:
    for said in ("once", "twice"):
        service.start(["sh", "-c", f"seq 1000; echo {said}; exec sleep 60"], {})
        wait_for(service, said)
        stop([service])
    assert service.last_lines(3) == ["999", "1000", "twice"]
    assert "1000\nonce\n1\n" in service.log.read_text()
    assert Service("none", service.folder / "none").last_lines(3) == []
