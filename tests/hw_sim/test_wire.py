"""The wires over TCP: units, clients, refusals, order, and what no client can do to them."""

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hw_sim import frames
from hw_sim.faults import Fault
from hw_sim.line import LineTiming
from hw_sim.station import Station
from hw_sim.wire import PortProblem, TcpPort, Wire
from tests.hw_sim.lines import Ramp, Stopwatch, TcpLine, answer_pdu, opened, read_pdu, words


@contextmanager
def serving(
    *stations: Station, framing: frames.Framing = frames.TCP, timing: LineTiming | None = None
) -> Iterator[TcpPort]:
    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, stations, framing, timing)
    with wire:
        yield port


def test_many_clients_and_units_get_their_own_answers() -> None:
    with serving(Station("one", 1, Ramp()), Station("two", 2, Stopwatch())) as port:
        clients = [TcpLine(port.port) for _ in range(8)]
        for turn in range(5):
            for number, client in enumerate(clients):
                assert client.ask(1, read_pdu(10 * number + turn, 3)) == answer_pdu(words(10 * number + turn, 3))
                assert client.ask(2, read_pdu(0, 1, 3))[:2] == b"\x03\x02"
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("pdu", "answer"),
    [
        (b"\x06\0\0\0\1", b"\x86\x01"),
        (b"\x2b\x0e\x01\0", b"\xab\x01"),
        (read_pdu(999, 2), b"\x84\x02"),
        (read_pdu(0, 0), b"\x84\x03"),
        (read_pdu(0, 126, 3), b"\x83\x03"),
        (b"\x03\0\0", b"\x83\x03"),
    ],
    ids=["writes", "identifies", "beyond the end", "nothing", "too much", "too short"],
)
def test_what_a_meter_does_not_do_is_refused_with_the_right_code(pdu: bytes, answer: bytes) -> None:
    with serving(Station("one", 1, Ramp())) as port, opened(TcpLine(port.port)) as client:
        assert client.ask(1, pdu) == answer


def test_a_unit_that_is_not_there_is_said_by_the_gateway() -> None:
    with serving(Station("one", 1, Ramp())) as port, opened(TcpLine(port.port)) as client:
        assert client.ask(9, read_pdu(0, 1)) == b"\x84\x0b"
        assert port.counters["strangers"] == 1


def test_requests_in_one_packet_are_answered_one_by_one() -> None:
    with serving(Station("one", 1, Ramp())) as port:
        client = TcpLine(port.port)
        sent = [frames.Adu(1, read_pdu(number, 2), number) for number in range(20)]
        client.send(b"".join(frames.mbap(adu) for adu in sent))
        expected = b"".join(frames.mbap(frames.Adu(1, answer_pdu(words(n, 2)), n)) for n in range(20))
        assert client.receive(len(expected)) == expected
        client.close()


def test_an_answer_never_overtakes_an_earlier_one() -> None:
    slow = Station("one", 1, Ramp(), faults=[Fault("late", seconds=0.15, every=2)])
    with serving(slow) as port:
        client = TcpLine(port.port)
        client.send(b"".join(frames.mbap(frames.Adu(1, read_pdu(number, 1), number)) for number in range(4)))
        size = len(frames.mbap(frames.Adu(1, answer_pdu(words(0, 1)))))
        answers = [client.receive(size) for _ in range(4)]
        assert [int.from_bytes(answer[:2]) for answer in answers] == [0, 1, 2, 3]
        client.close()


def test_noise_ends_a_connection_and_nothing_else() -> None:
    noise = random.Random(1)
    with serving(Station("one", 1, Ramp())) as port:
        good = TcpLine(port.port)
        for _ in range(30):
            bad = TcpLine(port.port)
            bad.send(bytes([1, 1, 1, 1]) + noise.randbytes(noise.randrange(3, 600)))
            assert bad.receive(1) == b""  # the other side has closed it
            bad.close()
        assert good.ask(1, read_pdu(1, 1)) == answer_pdu(words(1, 1))
        assert port.counters["noise"] == 30
        good.close()


def test_a_client_that_does_not_read_is_dropped_and_the_others_stay() -> None:
    with serving(Station("one", 1, Ramp())) as port:
        deaf = socket.create_connection(("127.0.0.1", port.port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(1)
        request = frames.mbap(frames.Adu(1, read_pdu(0, 125))) * 200
        with pytest.raises((ConnectionError, TimeoutError)):
            _send_for_ever(deaf, request)
        deaf.close()
        with opened(TcpLine(port.port)) as client:
            assert client.ask(1, read_pdu(1, 1)) == answer_pdu(words(1, 1))


def _send_for_ever(connection: socket.socket, data: bytes) -> None:
    for _ in range(2000):
        connection.sendall(data)


def test_rtu_over_tcp_answers_in_rtu_frames_and_drops_broken_ones() -> None:
    with serving(Station("one", 1, Ramp()), framing=frames.RTU) as port:
        client = TcpLine(port.port)
        request = frames.rtu(frames.Adu(1, read_pdu(5, 2)))
        client.send(request[:3])
        client.send(request[3:])
        assert client.receive(9) == frames.rtu(frames.Adu(1, answer_pdu(words(5, 2))))
        client.send(request[:-1] + bytes([request[-1] ^ 1]))
        client.send(frames.rtu(frames.Adu(0, read_pdu(5, 2))))  # to everybody: nobody answers
        client.send(frames.rtu(frames.Adu(7, read_pdu(5, 2))))  # to somebody who is not there
        assert client.receive(1, patience_s=0.1) == b""
        client.send(request)
        assert client.receive(9) == frames.rtu(frames.Adu(1, answer_pdu(words(5, 2))))
        client.close()


def test_a_serial_gateway_takes_the_time_of_its_line() -> None:
    timing = LineTiming(9600)
    with serving(Station("one", 1, Ramp(), 0.01), framing=frames.RTU, timing=timing) as port:
        client = TcpLine(port.port)
        began = time.monotonic()
        client.send(frames.rtu(frames.Adu(1, read_pdu(5, 20))))
        assert len(client.receive(45)) == 45
        took = time.monotonic() - began
        expected = (8 + 45) * timing.char_s + timing.silence_s + 0.01
        assert expected - 0.001 <= took < expected + 0.05
        client.close()


def test_a_dead_device_closes_and_refuses_connections_until_it_lives_again() -> None:
    now = [100.0]
    wire = Wire(monotonic=lambda: now[0])
    port = wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp(), faults=[Fault("dead", from_s=10, until_s=20)])])
    with wire:
        before = TcpLine(port.port)
        assert before.ask(1, read_pdu(1, 1)) == answer_pdu(words(1, 1))
        now[0] = 110.0
        during = TcpLine(port.port)
        assert during.receive(1) == b""
        before.send(frames.mbap(frames.Adu(1, read_pdu(1, 1))))
        assert before.receive(1) == b""
        now[0] = 120.0
        with opened(TcpLine(port.port)) as after:
            assert after.ask(1, read_pdu(1, 1)) == answer_pdu(words(1, 1))
        before.close()
        during.close()


def test_a_port_that_is_taken_is_a_problem_with_advice() -> None:
    with serving(Station("one", 1, Ramp())) as port:
        other = Wire()
        with pytest.raises(PortProblem, match=rf"127.0.0.1:{port.port}: Address already in use") as caught:
            other.tcp("127.0.0.1", port.port, [])
        assert caught.value.__notes__ == ["try: another port, or 127.0.0.1:0 for any free one"]
        with pytest.raises(PortProblem, match="there is no such port"):
            other.tcp("127.0.0.1", 70000, [])
        other.close()


def test_after_closing_the_port_is_free_again() -> None:
    with serving(Station("one", 1, Ramp())) as port:
        number = port.port
    again = Wire()
    again.tcp("127.0.0.1", number, [])
    again.close()


def test_a_bug_in_a_device_ends_the_wire_and_is_raised() -> None:
    class Broken:
        def read(self, function: int, address: int, count: int, at_s: float) -> bytes:
            raise ZeroDivisionError("planted")

    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, [Station("one", 1, Broken())])
    wire.start()
    client = TcpLine(port.port)
    client.send(frames.mbap(frames.Adu(1, read_pdu(1, 1))))
    assert client.receive(1, patience_s=0.2) == b""
    with pytest.raises(ZeroDivisionError, match="planted"):
        wire.check()
    with pytest.raises(ZeroDivisionError, match="planted"):
        wire.close()
    client.close()


def test_two_stations_with_one_unit_are_a_mistake_of_the_caller() -> None:
    wire = Wire()
    with pytest.raises(ValueError, match="one unit id"):
        wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp()), Station("two", 1, Ramp())])
    wire.close()
