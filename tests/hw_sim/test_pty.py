"""The serial line: it takes as long as its baud rate says, to the character, and behaves as a pair of wires does."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hw_sim import frames
from hw_sim.faults import Fault
from hw_sim.line import LineTiming
from hw_sim.station import Station
from hw_sim.wire import PortProblem, SerialPort, Wire
from tests.hw_sim.lines import PtyLine, Ramp, answer_pdu, opened, read_pdu, words

# A machine that does other things as well may be this late; it is never early.
LATE_S = 0.05
EARLY_S = 0.0005


@contextmanager
def line(timing: LineTiming, *stations: Station, link: Path | None = None) -> Iterator[SerialPort]:
    wire = Wire()
    port = wire.pty(link, stations, timing)
    with wire:
        yield port


def exchange_s(timing: LineTiming, registers: int, latency_s: float) -> float:
    """From the first bit of the request to the last of the answer: 8 characters, silence, thinking, answer."""
    silence_s = 3.5 * timing.char_s if timing.baud <= 19200 else 0.00175
    return (8 + 5 + 2 * registers) * timing.char_s + silence_s + latency_s


@pytest.mark.parametrize(
    ("timing", "registers", "characters_per_s"),
    [
        (LineTiming(9600), 60, 960),
        (LineTiming(9600, "E"), 20, 9600 / 11),
        (LineTiming(2400, "N", 2), 5, 2400 / 11),
        (LineTiming(38400), 125, 3840),
    ],
    ids=["9600 8N1", "9600 8E1", "2400 8N2", "38400 8N1"],
)
def test_an_exchange_takes_the_time_of_its_bits(timing: LineTiming, registers: int, characters_per_s: float) -> None:
    assert timing.char_s == pytest.approx(1 / characters_per_s)
    with line(timing, Station("one", 1, Ramp(), 0.02)) as port, opened(PtyLine(port.path, timing.baud)) as client:
        began = time.monotonic()
        assert client.ask(1, read_pdu(0, registers)) == answer_pdu(words(0, registers))
        took = time.monotonic() - began
    expected = exchange_s(timing, registers, 0.02)
    assert expected - EARLY_S <= took < expected + LATE_S


def test_the_silence_that_ends_a_frame_is_three_and_a_half_characters_or_fixed_above_19200_baud() -> None:
    assert LineTiming(9600, "E").silence_s == pytest.approx(3.5 * 11 / 9600)
    assert LineTiming(19200).silence_s == pytest.approx(3.5 * 10 / 19200)
    assert LineTiming(38400).silence_s == 0.00175


def test_the_answer_arrives_at_the_pace_of_the_line_and_not_in_one_piece() -> None:
    timing = LineTiming(9600)
    with line(timing, Station("one", 1, Ramp())) as port:
        client = PtyLine(port.path)
        client.send(frames.rtu(frames.Adu(1, read_pdu(0, 60))))
        assert len(client.receive(8)) == 8
        began = time.monotonic()
        assert len(client.receive(117)) == 117
        took = time.monotonic() - began
        client.close()
    # At least the time of what came after the first eight characters, less what had come together with them.
    assert took >= (117 - 16) * timing.char_s - EARLY_S


def test_many_exchanges_do_not_drift() -> None:
    timing = LineTiming(19200)
    with line(timing, Station("one", 1, Ramp(), 0.005)) as port, opened(PtyLine(port.path, 19200)) as client:
        began = time.monotonic()
        for _ in range(20):
            client.ask(1, read_pdu(0, 10))
        took = time.monotonic() - began
    expected = 20 * exchange_s(timing, 10, 0.005)
    assert expected - EARLY_S <= took < expected * 1.1 + LATE_S


def test_units_on_one_line_answer_for_themselves_and_strangers_are_silent() -> None:
    with line(LineTiming(115200), Station("one", 1, Ramp()), Station("two", 2, Ramp())) as port:
        client = PtyLine(port.path, 115200)
        assert client.ask(1, read_pdu(1, 2)) == answer_pdu(words(1, 2))
        assert client.ask(2, read_pdu(3, 2)) == answer_pdu(words(3, 2))
        client.send(frames.rtu(frames.Adu(3, read_pdu(3, 2))))
        client.send(b"")
        assert client.receive(1, 0.1) == b""
        client.send(frames.rtu(frames.Adu(0, read_pdu(3, 2))))
        assert client.receive(1, 0.1) == b""
        assert port.counters["strangers"] == 1
        client.close()


def test_a_client_at_another_baud_rate_is_not_understood() -> None:
    with line(LineTiming(9600), Station("one", 1, Ramp())) as port:
        client = PtyLine(port.path, 19200)
        client.send(frames.rtu(frames.Adu(1, read_pdu(1, 2))))
        assert client.receive(1, 0.15) == b""
        client.close()
        assert port.counters["wrong baud"] == 1
        with opened(PtyLine(port.path, 9600)) as right:
            assert right.ask(1, read_pdu(1, 2)) == answer_pdu(words(1, 2))


def test_a_request_with_a_pause_in_it_is_no_request() -> None:
    with line(LineTiming(9600), Station("one", 1, Ramp())) as port:
        client = PtyLine(port.path)
        request = frames.rtu(frames.Adu(1, read_pdu(1, 2)))
        client.send(request[:4])
        time.sleep(0.03)  # 4 characters and 3.5 of silence are 7.8 ms
        client.send(request[4:])
        assert client.receive(1, 0.1) == b""
        assert port.counters["noise"] == 2
        assert client.ask(1, read_pdu(1, 2)) == answer_pdu(words(1, 2))
        client.close()


def test_a_request_in_two_writes_without_a_pause_is_one() -> None:
    with line(LineTiming(600), Station("one", 1, Ramp())) as port:  # a character takes 17 ms, so no pause is long
        client = PtyLine(port.path, 600)
        request = frames.rtu(frames.Adu(1, read_pdu(1, 1)))
        began = time.monotonic()
        client.send(request[:4])
        time.sleep(0.005)  # so that they arrive as two
        client.send(request[4:])
        assert client.receive(7) == frames.rtu(frames.Adu(1, answer_pdu(words(1, 1))))
        assert time.monotonic() - began >= exchange_s(LineTiming(600), 1, 0) - EARLY_S
        client.close()


def test_who_talks_into_an_answer_is_not_heard() -> None:
    with line(LineTiming(9600), Station("one", 1, Ramp())) as port:
        client = PtyLine(port.path)
        request = frames.rtu(frames.Adu(1, read_pdu(0, 60)))
        client.send(request)
        first = client.receive(8)
        client.send(request)
        rest = client.receive(117 + 125, 0.5)
        assert len(first + rest) == 125
        assert port.counters["collisions"] == 1
        client.close()


def test_a_late_answer_comes_late_and_whole_while_others_go_on() -> None:
    late = Station("late", 1, Ramp(), faults=[Fault("late", seconds=0.2)])
    with line(LineTiming(115200), late, Station("two", 2, Ramp())) as port:
        client = PtyLine(port.path, 115200)
        client.send(frames.rtu(frames.Adu(1, read_pdu(1, 2))))
        assert client.receive(1, 0.05) == b""
        assert client.ask(2, read_pdu(7, 2)) == answer_pdu(words(7, 2))
        assert client.receive(9, 0.5) == frames.rtu(frames.Adu(1, answer_pdu(words(1, 2))))
        client.close()


def test_the_line_outlives_its_clients() -> None:
    with line(LineTiming(115200), Station("one", 1, Ramp())) as port:
        for turn in range(3):
            with opened(PtyLine(port.path, 115200)) as client:
                assert client.ask(1, read_pdu(turn, 1)) == answer_pdu(words(turn, 1))


def test_nobody_reading_does_no_harm() -> None:
    with line(LineTiming(115200), Station("one", 1, Ramp())) as port:
        client = PtyLine(port.path, 115200)
        for _ in range(30):
            client.send(frames.rtu(frames.Adu(1, read_pdu(0, 125))))
            time.sleep(0.03)
        port_alive = client.receive(255, 1)
        assert port_alive[:3] == b"\x01\x04\xfa"
        client.close()


def test_the_link_points_to_the_line_while_it_is_there(tmp_path: Path) -> None:
    link = tmp_path / "ttyMeter"
    link.symlink_to("/dev/pts/4711")  # left behind by one that was killed
    with line(LineTiming(9600), Station("one", 1, Ramp()), link=link) as port:
        assert port.path == str(link)
        assert link.resolve().exists()
        with opened(PtyLine(str(link))) as client:
            assert client.ask(1, read_pdu(1, 1)) == answer_pdu(words(1, 1))
    assert not link.is_symlink()


def test_what_is_there_already_is_not_replaced(tmp_path: Path) -> None:
    taken = tmp_path / "precious"
    taken.write_text("do not lose me")
    other = tmp_path / "link"
    other.symlink_to(taken)
    for link, words_ in (
        (taken, "something is there"),
        (other, "something is there"),
        (tmp_path / "a" / "b", "No such"),
    ):
        wire = Wire()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(PortProblem, match=words_):
            wire.pty(link, [], LineTiming(9600))
        assert len(os.listdir("/proc/self/fd")) == before
        wire.close()
    assert taken.read_text() == "do not lose me"
    assert other.is_symlink()


def test_a_baud_rate_that_no_terminal_has_is_a_problem_with_advice(tmp_path: Path) -> None:
    wire = Wire()
    with pytest.raises(PortProblem, match="no terminal has 12345 baud"):
        wire.pty(tmp_path / "x", [], LineTiming(12345))
    wire.close()
