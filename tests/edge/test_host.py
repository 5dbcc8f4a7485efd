"""The clock's word, steps of the clock, and the service manager's socket."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from edge.host import Clock, ServiceManager, StepWatch, boot_id, software_digest
from signer.codes import ClockStatus
from signer.statement import Instant

NOW_MS = 1_800_000_000_000


def at(utc_ms: int, boot_ms: int) -> Instant:
    return Instant(utc_ms, boot_ms, 2, 1)


def test_now_is_now() -> None:
    clock = Clock()
    first, second = clock.now(), clock.now()
    assert abs(first.utc_ms - time.time() * 1000) < 1000
    assert 0 <= second.boot_ms - first.boot_ms < 1000
    assert first.clock in range(5)
    assert first.error_ms >= 0


class Watched(Clock):
    """A clock whose machine and kernel say what they are told to."""

    def __init__(self, valid_from_ms: int = 0) -> None:
        super().__init__(valid_from_ms)
        self.looks = [(NOW_MS, 10_000)]
        self.unsync = False

    def _look(self) -> tuple[int, int]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def _ask(self) -> tuple[ClockStatus, int]:
        if not self.unsync:
            self._was_synchronised = True
            return ClockStatus.SYNCHRONISED, 1
        return (ClockStatus.HOLDOVER if self._was_synchronised else ClockStatus.INFORMATIVE), 1


class TestWhatIsKnownOfIt:
    def test_it_holds_over_when_the_network_is_gone(self) -> None:
        clock = Watched()
        assert clock.now().clock == ClockStatus.SYNCHRONISED
        clock.unsync, clock.looks = True, [(NOW_MS + 100_000, 110_000)]
        assert clock.now().clock == ClockStatus.HOLDOVER

    def test_set_by_hand_it_does_not_and_at_once(self) -> None:
        clock = Watched()
        clock.now()
        clock.unsync, clock.looks = True, [(9 * NOW_MS, 10_001)]
        assert clock.now().clock == ClockStatus.INFORMATIVE
        clock.looks = [(NOW_MS, 10_002)]
        assert clock.now().clock == ClockStatus.INFORMATIVE, "nor when it was put right by hand"
        clock.unsync, clock.looks = False, [(NOW_MS + 2000, 12_002)]
        assert clock.now().clock == ClockStatus.SYNCHRONISED

    def test_a_pause_between_the_two_clocks_is_no_step(self) -> None:
        clock = Watched()
        clock.now()
        clock.unsync, clock.looks = True, [(NOW_MS, 10_500), (NOW_MS + 2000, 12_000)]
        assert clock.now() == Instant(NOW_MS + 2000, 12_000, ClockStatus.HOLDOVER, 1)

    def test_before_its_own_certificate_it_is_wrong_whoever_set_it(self) -> None:
        """As after the rollover of a satellite receiver's week counter."""
        clock = Watched(NOW_MS + 1)
        assert clock.now().clock == ClockStatus.FAILED
        clock.looks = [(NOW_MS + 1, 20_000)]
        assert clock.now().clock == ClockStatus.SYNCHRONISED


def test_a_step_is_noticed_once() -> None:
    watch = StepWatch()
    assert watch.step_ms(at(10_000, 1_000)) == 0
    assert watch.step_ms(at(11_000, 2_000)) == 0
    assert watch.step_ms(at(3_611_400, 2_400)) == 3_600_000
    assert watch.step_ms(at(3_612_000, 3_000)) == 0
    assert watch.step_ms(at(12_000, 3_000)) == -3_600_000


def test_slewing_is_no_step() -> None:
    watch = StepWatch()
    for second in range(100):
        assert watch.step_ms(at(second * 1001, second * 1000)) == 0


def test_an_instant_taken_before_the_step_on_another_thread_is_none() -> None:
    watch = StepWatch()
    watch.step_ms(at(10_000, 1_000))
    assert watch.step_ms(at(70_100, 1_100)) == 60_000
    assert watch.step_ms(at(10_050, 1_050)) == 0
    assert watch.step_ms(at(70_200, 1_200)) == 0


def test_sleeping_is_no_step() -> None:
    """CLOCK_BOOTTIME goes on while the machine sleeps."""
    watch = StepWatch()
    watch.step_ms(at(10_000, 1_000))
    assert watch.step_ms(at(3_610_000, 3_601_000)) == 0


def test_the_boot_has_a_name() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) in (0, 36)


def test_the_software_has_a_digest_that_its_content_decides(tmp_path: Path) -> None:
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "agent.py").write_text("a = 1")
    first = software_digest(tmp_path)
    (tmp_path / "edge" / "agent.pyc").write_text("ignored")
    assert software_digest(tmp_path) == first
    (tmp_path / "edge" / "agent.py").write_text("a = 2")
    assert software_digest(tmp_path) != first
    assert len(first) == 32


def test_the_service_manager_hears_what_it_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(path))
        line.settimeout(5)
        manager = ServiceManager(
            {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
        )
        manager.ready()
        manager.alive()
        manager.status("12 meters")
        manager.status("12 meters")
        manager.stopping()
        heard = [line.recv(100) for _ in range(4)]
    assert heard == [b"READY=1", b"WATCHDOG=1", b"STATUS=12 meters", b"STOPPING=1"]
    assert manager.watchdog_s == 3.0


def test_nobody_asked() -> None:
    manager = ServiceManager({})
    manager.ready()
    manager.alive()
    assert manager.watchdog_s is None


def test_a_socket_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_another_process_watchdog_is_not_ours() -> None:
    assert ServiceManager({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s is None
