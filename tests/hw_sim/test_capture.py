"""Captured traffic: what a file may say, and that it is answered as it was."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.bus import Bus, MeterConfig
from drivers.map import load as load_map
from drivers.modbus import SerialEndpoint, TcpEndpoint
from drivers.reading import Status
from hw_sim import capture, frames
from hw_sim.capture import CaptureError, frame_line, parse
from hw_sim.faults import Fault
from hw_sim.home import Household
from hw_sim.line import LineTiming
from hw_sim.record import Recorder, Transcript
from hw_sim.recordserial import SerialRecorder, SerialTranscript
from hw_sim.replay import Player
from hw_sim.running import Running
from hw_sim.site import Device, Line, Site
from hw_sim.station import Station
from hw_sim.wire import PortProblem, TcpPort, Wire
from tests.hw_sim.lines import PtyLine, Ramp, TcpLine, answer_pdu, opened, read_pdu, words

REQUEST = "0 > 0001 0000 0006 01 04 0000 0002"


def tcp(number: int, pdu: bytes, unit: int = 1) -> bytes:
    return frames.mbap(frames.Adu(unit, pdu, number))


def rtu(pdu: bytes, unit: int = 1) -> bytes:
    return frames.rtu(frames.Adu(unit, pdu))


def captured(framing: str, *lines: tuple[float, str, bytes]) -> capture.Capture:
    return parse([framing, *(frame_line(*line) for line in lines)], "test")


@contextlib.contextmanager
def replaying(what: capture.Capture) -> Iterator[TcpPort]:
    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, (), what.framing)
    port.player = Player(what)
    with wire:
        yield port


@contextlib.contextmanager
def recording(path: Path, device: int) -> Iterator[Recorder]:
    wire = Wire()
    recorder = Recorder(wire, ("127.0.0.1", 0), ("127.0.0.1", device), path)
    wire.ports.append(recorder)
    with wire:
        yield recorder


# ---- the file


@pytest.mark.parametrize(
    ("lines", "words", "advice"),
    [
        ([], "test: no request in it", "'tcp' or 'rtu'"),
        (["tcp", "# nothing"], "test: no request in it", "'tcp' or 'rtu'"),
        ([REQUEST], "line 1: '0 > 0001 0000 0006 01 04 0000 0002' is no framing", "'tcp' or 'rtu'"),
        (["tcp", "soon > 00"], "line 2: 'soon' are no seconds", "seconds from the start"),
        (["tcp", "-1 > 00"], "line 2: '-1' are no seconds", "seconds from the start"),
        (["tcp", "0 = 00"], "line 2: '=' is no direction", "'>' for a request"),
        (["tcp", "0 > 0g"], "line 2: '0g' are no bytes", "two hex digits"),
        (["tcp", "0 > 001"], "line 2: '001' are no bytes", "two hex digits"),
        (["tcp", REQUEST, "1 <"], "line 3: no bytes", "no line at all"),
        (["tcp", "", "# so", REQUEST, "0.5 < 00", "0.4 < 00"], "line 6: 0.4 s comes after 0.5 s", "order"),
        (["tcp", "0 < 00"], "line 2: an answer before any request", "its request"),
        (["rtu", REQUEST], "line 2: '00 01 00 00 00 06 01 04 00 00 00 02' is no rtu request", "'tcp'"),
        (["tcp", f"0 > {rtu(read_pdu(0, 2)).hex()}"], "is no tcp request", "'rtu'"),
        (["tcp", f"{REQUEST} 00"], "is no tcp request", "MBAP"),
    ],
)
def test_what_is_no_capture_is_refused_with_its_place_and_what_to_try(
    lines: list[str], words: str, advice: str
) -> None:
    with pytest.raises(CaptureError) as caught:
        parse(lines, "test")
    assert words in str(caught.value)
    assert advice in caught.value.__notes__[0]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        capture.load(tmp_path / "none")
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    with pytest.raises(CaptureError, match="not a text file"):
        capture.load(tmp_path / "picture")


def test_answers_find_their_requests_by_number_and_otherwise_the_last_one() -> None:
    found = captured(
        "tcp",
        (0.0, ">", tcp(1, read_pdu(0, 1))),
        (0.5, ">", tcp(2, read_pdu(1, 1))),
        (0.6, "<", tcp(1, answer_pdu(words(0, 1)))),
        (0.7, "<", tcp(9, answer_pdu(words(9, 1)))),
        (0.8, "<", tcp(1, answer_pdu(words(0, 1)))),
    )
    first, second = found.exchanges
    assert [(round(delay_s, 3), data) for delay_s, data in first.answers] == [(0.6, tcp(1, answer_pdu(words(0, 1))))]
    assert [data[1] for _, data in second.answers] == [9, 1]


# ---- replay


def test_equal_requests_are_answered_in_the_order_of_the_capture_and_round_again() -> None:
    lines: list[tuple[float, str, bytes]] = []
    for number in range(3):
        lines.append((number, ">", tcp(number, read_pdu(0, 1))))
        lines.append((number + 0.25, "<", tcp(number, answer_pdu(words(10 + number, 1)))))
    lines.append((9, ">", tcp(9, read_pdu(0, 1), unit=2)))
    player = Player(captured("tcp", *lines))
    heard = [player.answers(frames.Adu(1, read_pdu(0, 1), number), 100.0) for number in range(500, 507)]
    assert heard == [((100.25, tcp(500 + turn, answer_pdu(words(10 + turn % 3, 1)))),) for turn in range(7)]
    assert player.answers(frames.Adu(2, read_pdu(0, 1), 1), 0.0) == ()
    assert not player.unknown


@pytest.mark.parametrize(
    ("unit", "pdu"), [(2, read_pdu(0, 2)), (1, read_pdu(0, 2, 3)), (1, read_pdu(1, 2)), (1, read_pdu(0, 3))]
)
def test_what_the_capture_does_not_hold_is_silence_and_counted(unit: int, pdu: bytes) -> None:
    player = Player(parse(["tcp", REQUEST, "1 < 0001 0000 0003 01 84 02"], "test"))
    assert player.answers(frames.Adu(unit, pdu, 7), 0.0) == ()
    assert player.unknown == {frames.Adu(unit, pdu): 1}
    assert player.answers(frames.Adu(1, read_pdu(0, 2), 7), 0.0) == ((1.0, tcp(7, b"\x84\x02")),)


def test_exceptions_silence_and_damage_are_as_they_were() -> None:
    torn, noise = tcp(3, answer_pdu(words(2, 2)))[:8], b"\x00"
    what = captured(
        "tcp",
        (0, ">", tcp(1, read_pdu(0, 2))),
        (0, "<", tcp(1, b"\x84\x02")),
        (1, ">", tcp(2, read_pdu(1, 2))),
        (2, ">", tcp(3, read_pdu(2, 2))),
        (2, "<", torn),
        (3, ">", tcp(4, read_pdu(3, 2))),
        (3, "<", noise),
        (4, ">", tcp(5, read_pdu(4, 2))),
        (4, "<", tcp(4, answer_pdu(words(4, 2)))),
    )
    with replaying(what) as port, opened(TcpLine(port.port)) as client:
        assert client.ask(1, read_pdu(0, 2)) == b"\x84\x02"
        client.send(tcp(70, read_pdu(1, 2)))  # silence, so what comes first belongs to the next
        client.send(tcp(71, read_pdu(2, 2)))
        assert client.receive(8) == b"\0\x47" + torn[2:]
        client.send(tcp(72, read_pdu(3, 2)))
        assert client.receive(1) == noise
        client.send(tcp(0, read_pdu(4, 2)))
        assert client.receive(13) == b"\xff\xff" + tcp(4, answer_pdu(words(4, 2)))[2:]


def test_the_recorded_delay_is_kept() -> None:
    what = captured("tcp", (5, ">", tcp(1, read_pdu(0, 1))), (5.2, "<", tcp(1, answer_pdu(words(0, 1)))))
    with replaying(what) as port, opened(TcpLine(port.port)) as client:
        began = time.monotonic()
        client.ask(1, read_pdu(0, 1))
        assert time.monotonic() - began >= 0.2 - 0.001


def test_rtu_is_replayed_on_a_serial_line_with_its_damage() -> None:
    sound = rtu(answer_pdu(words(0, 2)))
    broken = sound[:-1] + bytes((sound[-1] ^ 1,))
    what = captured(
        "rtu",
        (0, ">", rtu(read_pdu(0, 2))),
        (0.02, "<", sound),
        (1, ">", rtu(read_pdu(0, 2))),
        (1.02, "<", broken),
        (2, ">", rtu(read_pdu(5, 2))),
        (2.02, "<", rtu(b"\x84\x02")),
        (3, ">", rtu(read_pdu(6, 2))),
    )
    wire = Wire()
    port = wire.pty(None, (), LineTiming(19200))
    port.player = Player(what)
    with wire, opened(PtyLine(port.path, 19200)) as client:
        for expected in (sound, broken, sound):
            client.send(rtu(read_pdu(0, 2)))
            assert client.receive(len(expected)) == expected
        assert client.ask(1, read_pdu(5, 2)) == b"\x84\x02"
        client.send(rtu(read_pdu(6, 2)))
        assert client.receive(1, 0.1) == b""


# ---- record


def test_a_meter_that_was_recorded_reads_the_same_from_the_replay(tmp_path: Path) -> None:
    meter_map = load_map("eastron_sdm630")
    home = Household("home", 1, 3)
    line = Line("line", ("127.0.0.1", 0), "tcp", None, None, (Device("meter", meter_map, 1, "home", "grid"),))
    config = MeterConfig("meter", meter_map, 1)

    def read(port: int) -> list[tuple[Status | None, object]]:
        bus = Bus(TcpEndpoint("127.0.0.1", port), [config])
        try:
            bus.identify("meter")
            time.sleep(0.06)
            return [(one.status, one.values) for slot in (0, 1) for one in bus.read("meter", slot)]
        finally:
            bus.close()

    with Running(Site(1, 1_782_036_000_000, 1.0, (home,), (line,), ())) as running:
        device = int(running.address("line").rpartition(":")[2])
        with recording(tmp_path / "one", device) as recorder:
            live = read(recorder.port)
    what = capture.load(tmp_path / "one")
    assert len(what.exchanges) > 2
    with replaying(what) as port, recording(tmp_path / "two", port.port) as recorder:
        assert read(recorder.port) == live
    again = capture.load(tmp_path / "two")
    assert {status for status, _ in live} == {None}
    assert [one.request.pdu for one in again.exchanges] == [one.request.pdu for one in what.exchanges]
    assert [[a.data[2:] for a in one.answers] for one in again.exchanges] == [
        [a.data[2:] for a in one.answers] for one in what.exchanges
    ]


def test_the_recorder_hands_on_and_keeps_exceptions_silence_and_damage(tmp_path: Path) -> None:
    faults = (Fault("truncated", every=3, size=4), Fault("silent", every=2))
    path = tmp_path / "capture"
    wire = Wire()
    meter = wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp(), faults=faults)])
    with wire, recording(path, meter.port) as recorder:
        with opened(TcpLine(recorder.port)) as client:
            assert client.ask(1, read_pdu(999, 2)) == b"\x84\x02"
            client.send(tcp(2, read_pdu(0, 2)))
            client.send(tcp(3, read_pdu(0, 2)))
            torn = client.receive(4)
            assert torn == tcp(3, answer_pdu(words(0, 2)))[:4]
        with opened(TcpLine(recorder.port)) as client:  # the next client, another connection
            client.send(tcp(1, read_pdu(5, 1)))
            client.send(tcp(2, read_pdu(5, 1)))
            assert client.receive(11) == tcp(2, answer_pdu(words(5, 1)))
    heard = [[answer.data for answer in one.answers] for one in capture.load(path).exchanges]
    assert heard == [[tcp(1, b"\x84\x02")], [], [torn], [], [tcp(2, answer_pdu(words(5, 1)))]]


def test_what_belongs_to_no_exchange_is_a_comment_and_the_file_can_be_loaded(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path / "capture", 10.0)
    transcript.heard("<", b"\xff" * 7, 10.1)
    request, answer = tcp(1, read_pdu(0, 1)), tcp(1, answer_pdu(words(0, 1)))
    transcript.heard(">", request[:5], 10.2)
    transcript.heard(">", request[5:], 10.3)
    transcript.heard("<", answer[:9], 10.4)
    transcript.heard("<", answer[9:], 10.5)
    transcript.heard(">", b"GET / HTTP/1.1\r\n", 10.6)
    transcript.heard("<", b"400 Bad Request\r\n", 10.7)
    transcript.close()
    assert (tmp_path / "capture").read_text().splitlines() == [
        "tcp",
        "# 0.100000 < ff ff ff ff ff ff ff",
        f"0.300000 > {request.hex(' ')}",
        f"0.400000 < {answer.hex(' ')}",
        f"# 0.600000 > {b'GET / HTTP/1.1'.hex(' ')} 0d 0a",
        f"# 0.700000 < {b'400 Bad Request'.hex(' ')} 0d 0a",
    ]
    assert len(capture.load(tmp_path / "capture").exchanges) == 1
    with pytest.raises(CaptureError, match="is there already"):
        Transcript(tmp_path / "capture", 0.0)


@pytest.mark.parametrize(("later_s", "torn"), [(0.05, False), (0.5, True)])
def test_an_answer_in_pieces_is_one_and_one_that_was_broken_off_stays_so(
    tmp_path: Path, later_s: float, torn: bool
) -> None:
    transcript = Transcript(tmp_path / "capture", 0.0)
    first, second = tcp(1, answer_pdu(words(0, 1))), tcp(2, answer_pdu(words(1, 1)))
    transcript.heard(">", tcp(1, read_pdu(0, 1)), 0.0)
    transcript.heard("<", first[:9], 0.01)
    transcript.heard(">", tcp(2, read_pdu(1, 1)), 0.01 + later_s)
    transcript.heard("<", second if torn else first[9:] + second, 0.02 + later_s)
    transcript.close()
    heard = [[answer.data for answer in one.answers] for one in capture.load(tmp_path / "capture").exchanges]
    assert heard == [[first[:9] if torn else first], [second]]


def test_a_device_that_is_not_there_is_said_and_the_client_sent_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    with recording(tmp_path / "capture", nobody) as recorder, opened(TcpLine(recorder.port)) as client:
        assert client.receive(1) == b""
        assert f"127.0.0.1:{nobody}" in recorder.troubles[0]


# ---- a serial line


def test_a_serial_line_that_was_recorded_reads_the_same_from_the_replay(tmp_path: Path) -> None:
    meter_map, timing = load_map("eastron_sdm630"), LineTiming(38400, "E")
    home = Household("home", 1, 3)
    device = Device("meter", meter_map, 1, "home", "grid", latency_ms=5)
    line = Line("line", None, "rtu", tmp_path / "real", timing, (device,))

    def endpoint(path: Path) -> SerialEndpoint:
        return SerialEndpoint(str(path), 38400, "E")

    def read(path: Path) -> list[tuple[Status | None, object]]:
        bus = Bus(endpoint(path), [MeterConfig("meter", meter_map, 1)])
        try:
            bus.identify("meter")
            time.sleep(0.06)
            return [(one.status, one.values) for slot in (0, 1) for one in bus.read("meter", slot)]
        finally:
            bus.close()

    @contextlib.contextmanager
    def between(port: Path, file: str) -> Iterator[Path]:
        wire = Wire()
        wire.ports.append(SerialRecorder(wire, tmp_path / "between", endpoint(port), tmp_path / file))
        with wire:
            yield tmp_path / "between"

    with Running(Site(1, 1_782_036_000_000, 1.0, (home,), (line,), ())), between(tmp_path / "real", "one") as port:
        live = read(port)
    assert {status for status, _ in live} == {None}
    what = capture.load(tmp_path / "one")
    assert what.framing is frames.RTU
    assert len(what.exchanges) > 2
    wire = Wire()
    player = wire.pty(tmp_path / "again", (), timing)
    player.player = Player(what)
    with wire, between(tmp_path / "again", "two") as port:
        assert read(port) == live
    again = capture.load(tmp_path / "two")
    assert [one.request for one in again.exchanges] == [one.request for one in what.exchanges]
    assert [[a.data for a in one.answers] for one in again.exchanges] == [
        [a.data for a in one.answers] for one in what.exchanges
    ]
    # The meter takes 5 ms; no answer begins before the silence that ends its request.
    delays_s = [answer.delay_s for one in (*what.exchanges, *again.exchanges) for answer in one.answers]
    assert min(delays_s) >= 0.005
    assert not list(tmp_path.glob("between"))


def serial_transcript(path: Path, *heard: tuple[str, bytes, float]) -> list[str]:
    transcript = SerialTranscript(path, 0.0, 0.001)
    for one in heard:
        transcript.heard(*one)
    transcript.close()
    return path.read_text().splitlines()


def test_a_serial_transcript_keeps_pieces_damage_and_silence(tmp_path: Path) -> None:
    request, answer = rtu(read_pdu(0, 1)), rtu(answer_pdu(words(0, 1)))
    damaged = answer[:-1] + bytes((answer[-1] ^ 1,))
    assert serial_transcript(
        tmp_path / "capture",
        (">", request[:5], 1.0),
        (">", request[5:], 1.005),
        ("<", answer[:4], 1.024),
        ("<", answer[4:], 1.027),
        (">", request, 2.0),
        ("<", damaged, 2.037),
        (">", request, 3.0),
        (">", request, 4.0),
    ) == [
        "rtu",
        f"1.008000 > {request.hex(' ')}",
        f"1.020000 < {answer.hex(' ')}",
        f"2.008000 > {request.hex(' ')}",
        f"2.030000 < {damaged.hex(' ')}",
        f"3.008000 > {request.hex(' ')}",
        f"4.008000 > {request.hex(' ')}",
    ]
    heard = [[a.data for a in one.answers] for one in capture.load(tmp_path / "capture").exchanges]
    assert heard == [[answer], [damaged], [], []]


def test_what_is_no_request_on_a_serial_line_is_a_comment_with_its_answer(tmp_path: Path) -> None:
    request, answer = rtu(read_pdu(0, 1)), rtu(answer_pdu(words(0, 1)))
    assert serial_transcript(
        tmp_path / "capture",
        ("<", b"\xff", 0.5),
        (">", b"\x01\x02", 1.0),
        (">", request, 2.0),
        ("<", answer, 2.017),
        (">", b"?", 3.0),
        ("<", b"!", 3.1),
        (">", request, 4.0),
    ) == [
        "rtu",
        "# 0.499000 < ff",
        "# 1.000000 > 01 02",
        f"2.008000 > {request.hex(' ')}",
        f"2.010000 < {answer.hex(' ')}",
        "# 3.000000 > 3f",
        "# 3.099000 < 21",
        f"4.008000 > {request.hex(' ')}",
    ]
    assert len(capture.load(tmp_path / "capture").exchanges) == 2


def test_a_serial_port_that_is_pulled_out_is_said_and_opened_again(tmp_path: Path) -> None:
    real = tmp_path / "real"
    wire = Wire()
    with contextlib.ExitStack() as stack:
        first = Wire()
        first.pty(real, [Station("one", 1, Ramp())], LineTiming(115200))
        first.start()
        recorder = SerialRecorder(wire, None, SerialEndpoint(str(real), 115200), tmp_path / "capture")
        wire.ports.append(recorder)
        stack.enter_context(wire)
        client = stack.enter_context(opened(PtyLine(recorder.path, 115200)))
        assert client.ask(1, read_pdu(7, 2)) == answer_pdu(words(7, 2))
        first.close()
        second = stack.enter_context(Wire())
        second.pty(real, [Station("one", 1, Ramp())], LineTiming(115200))
        until = time.monotonic() + 20
        while len(recorder.troubles) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert "opened again when it is back" in recorder.troubles[0]
        assert recorder.troubles[1].endswith(": back")
        assert client.ask(1, read_pdu(8, 2)) == answer_pdu(words(8, 2))


def test_a_serial_port_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PortProblem, match="cannot be opened: No such file") as caught:
        SerialRecorder(Wire(), tmp_path / "link", SerialEndpoint(str(tmp_path / "none")), tmp_path / "capture")
    assert "plugged in" in caught.value.__notes__[0]
    assert not list(tmp_path.iterdir())


# ---- the commands


def test_the_commands_record_replay_and_end_with_an_interrupt(tmp_path: Path) -> None:
    def started(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-m", "hw_sim.cli.main", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        return process, int(first.split("127.0.0.1:")[1].split()[0].rstrip(";"))

    path = str(tmp_path / "capture")
    wire = Wire()
    meter = wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp())])
    with wire:
        process, port = started("record", path, "--listen", "127.0.0.1:0", "--to", f"127.0.0.1:{meter.port}")
        with opened(TcpLine(port)) as client:
            client.ask(1, read_pdu(7, 2))
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0
    process, port = started("replay", path, "--tcp", "127.0.0.1:0")
    with opened(TcpLine(port)) as client:
        client.send(tcp(1, read_pdu(8, 2)))
        assert client.ask(1, read_pdu(7, 2)) == answer_pdu(words(7, 2))
    assert process.stdout is not None
    said = ""
    while "not in the capture, no answer" not in said:
        said = process.stdout.readline()
        assert said
    assert said == "not in the capture, no answer: unit 1, function 4, address 8, count 2\n"
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
