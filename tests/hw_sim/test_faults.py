"""Faults: each is seen on the wire as it was written, when it was written, and never otherwise."""

import tomllib
from collections.abc import Callable

import pytest

from drivers.table import Problem, Table
from hw_sim import faults, frames
from hw_sim.faults import KINDS, Fault
from hw_sim.line import LineTiming
from hw_sim.station import Station
from hw_sim.wire import Wire
from tests.hw_sim.lines import PtyLine, Ramp, Stopwatch, TcpLine, answer_pdu, read_pdu, words

REQUEST = frames.rtu(frames.Adu(1, read_pdu(16, 2)))
GOOD = frames.rtu(frames.Adu(1, answer_pdu(words(16, 2))))


def on_rtu(fault: Fault, size: int = 300, patience_s: float = 0.08) -> bytes:
    """What comes back over RTU on TCP for one request of two registers."""
    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp(), faults=[fault])], frames.RTU)
    with wire:
        client = TcpLine(port.port)
        client.send(REQUEST)
        answer = client.receive(size, patience_s)
        client.close()
    return answer


def rtu(unit: int, pdu: bytes) -> bytes:
    return frames.rtu(frames.Adu(unit, pdu))


SEEN: dict[str, tuple[Fault, Callable[[bytes], bool]]] = {
    "silent": (Fault("silent"), lambda answer: answer == b""),
    "dead": (Fault("dead"), lambda answer: answer == b""),
    "late": (Fault("late", seconds=0.2), lambda answer: answer == b""),
    "wrong_unit": (Fault("wrong_unit"), lambda answer: answer == rtu(2, answer_pdu(words(16, 2)))),
    "wrong_function": (Fault("wrong_function"), lambda answer: answer == rtu(1, answer_pdu(words(16, 2), 3))),
    "wrong_length": (
        Fault("wrong_length", registers=1),
        lambda answer: answer == rtu(1, answer_pdu(words(16, 2) + b"\0\0")),
    ),
    "wrong_transaction": (Fault("wrong_transaction"), lambda answer: answer == GOOD),  # RTU has none
    "bad_crc": (Fault("bad_crc"), lambda answer: answer[:-1] == GOOD[:-1] and answer[-1] != GOOD[-1]),
    "exception": (Fault("exception", code=4), lambda answer: answer == rtu(1, b"\x84\x04")),
    "swapped_words": (
        Fault("swapped_words"),
        lambda answer: answer == rtu(1, answer_pdu(words(17, 1) + words(16, 1))),
    ),
    "sentinel": (Fault("sentinel"), lambda answer: answer == rtu(1, answer_pdu(b"\x7f\xff\xff\xff"))),
    "exchanged": (Fault("exchanged"), lambda answer: answer == GOOD),  # there is no other device; see test_bus.py
    "frozen": (Fault("frozen"), lambda answer: answer == GOOD),  # a ramp stands still anyway; see below
    "truncated": (Fault("truncated", size=5), lambda answer: answer == GOOD[:5]),
    "garbage": (Fault("garbage", size=7), lambda answer: len(answer) == 7 and answer != GOOD[:7]),
    "echo": (Fault("echo"), lambda answer: answer == REQUEST + GOOD),
    "noise_before": (Fault("noise_before", size=6), lambda answer: len(answer) == len(GOOD) + 6 and answer[6:] == GOOD),
    "noise_inside": (Fault("noise_inside", size=2), lambda answer: len(answer) == len(GOOD) and answer != GOOD),
    "noise_after": (Fault("noise_after", size=6), lambda answer: len(answer) == len(GOOD) + 6 and answer[:-6] == GOOD),
    "twin": (Fault("twin"), lambda answer: len(answer) in range(len(GOOD), len(GOOD) + 4) and answer != GOOD),
    "second_master": (
        Fault("second_master"),
        lambda answer: (
            answer.startswith(rtu(1, read_pdu(16 + 256, 2)))
            and frames.rtu_frame(answer[8 : 8 + len(GOOD)]) is not None
            and answer[8 + len(GOOD) :] == GOOD
        ),
    ),
    "shifted": (Fault("shifted"), lambda answer: answer == rtu(1, answer_pdu(words(17, 2)))),
    "hasty": (Fault("hasty"), lambda answer: answer == GOOD),  # the first request is not too soon; see below
    "one_client": (Fault("one_client"), lambda answer: answer == GOOD),  # the first client; see below
}


def test_there_is_a_test_for_every_kind() -> None:
    assert SEEN.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", SEEN)
def test_a_fault_is_seen_on_the_wire(kind: str) -> None:
    fault, looks_right = SEEN[kind]
    answer = on_rtu(fault)
    assert looks_right(answer), answer.hex(" ")


def test_a_late_answer_comes() -> None:
    assert on_rtu(Fault("late", seconds=0.1), size=len(GOOD), patience_s=1) == GOOD


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("bad_crc"), b"\0\7\0\x5a\0\7\1\4\4" + words(16, 2)),
        (Fault("wrong_transaction"), b"\0\6\0\0\0\7\1\4\4" + words(16, 2)),
        (Fault("wrong_unit"), b"\0\7\0\0\0\7\2\4\4" + words(16, 2)),
        (Fault("wrong_length", registers=-1), b"\0\7\0\0\0\5\1\4\2" + words(16, 1)),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_faults_that_look_different_on_tcp(fault: Fault, expected: bytes) -> None:
    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp(), faults=[fault])])
    with wire:
        client = TcpLine(port.port)
        client.send(frames.mbap(frames.Adu(1, read_pdu(16, 2), 7)))
        assert client.receive(len(expected)) == expected
        client.close()


def ask(station: Station, at_s: float, unit: int = 1) -> bytes | None:
    reply = station.answer(frames.Adu(unit, read_pdu(0, 1)), at_s)
    return reply and reply.adu.pdu


def test_a_fault_has_a_beginning_and_an_end() -> None:
    station = Station("one", 1, Ramp(), faults=[Fault("silent", from_s=10, until_s=20)])
    station.begin(100.0)
    assert [ask(station, at) is None for at in (109.9, 110.0, 119.9, 120.0)] == [False, True, True, False]
    assert station.counters == {"requests": 4, "answers": 2, "unanswered": 2, "fault silent": 2}


def test_every_nth_request_is_counted_per_station() -> None:
    faulty = [Fault("silent", every=3)]
    one, two = (Station(name, 1, Ramp(), faults=faulty) for name in ("one", "two"))
    assert [ask(one, at) is None for at in range(6)] == [False, False, True, False, False, True]
    assert [ask(two, at) is None for at in range(3)] == [False, False, True]


def test_chance_comes_from_the_seed_and_the_name() -> None:
    def strikes(name: str, seed: int) -> list[bool]:
        station = Station(name, 1, Ramp(), faults=[Fault("silent", probability=0.3)], seed=seed)
        return [ask(station, at) is None for at in range(300)]

    assert strikes("one", 1) == strikes("one", 1)
    assert strikes("one", 1) != strikes("one", 2)
    assert strikes("one", 1) != strikes("two", 1)
    assert 60 < sum(strikes("one", 1)) < 120


def test_a_frozen_meter_shows_the_instant_at_which_it_froze() -> None:
    station = Station("one", 1, Stopwatch(), faults=[Fault("frozen", from_s=10, until_s=20)])
    station.begin(0.0)
    shown = [int.from_bytes((ask(station, at) or b"")[2:]) for at in (5.0, 9.999, 12.0, 19.0, 20.0)]
    assert shown == [5000, 9999, 10000, 10000, 20000]


def test_a_hasty_meter_starts_anew_when_it_is_asked_too_soon() -> None:
    station = Station("one", 1, Ramp(), faults=[Fault("hasty", seconds=0.1, until_s=30)])
    station.begin(0.0)
    asked = (0.0, 0.2, 0.25, 1.0, 2.2, 2.3, 2.5, 40.0, 40.01)
    assert [ask(station, at) is None for at in asked] == [
        *(False, False, True, True, True, False, False, False, False),
    ]


def test_a_device_with_one_client_closes_the_second() -> None:
    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp(), faults=[Fault("one_client")])])
    with wire:
        first = TcpLine(port.port)
        assert first.ask(1, read_pdu(16, 2)) == answer_pdu(words(16, 2))
        second = TcpLine(port.port)
        assert second.receive(1) == b""
        assert first.ask(1, read_pdu(16, 2)) == answer_pdu(words(16, 2))
        first.close()
        second.close()


@pytest.mark.parametrize("kind", ["noise_inside", "twin"])
def test_a_gateway_says_that_nothing_sound_came(kind: str) -> None:
    wire = Wire()
    port = wire.tcp("127.0.0.1", 0, [Station("one", 1, Ramp(), faults=[Fault(kind)])])
    with wire:
        client = TcpLine(port.port)
        assert client.ask(1, read_pdu(16, 2)) == b"\x84\x0b"
        client.close()


def test_a_fault_is_for_its_meter_or_for_all() -> None:
    stations = [Station(name, 1, Ramp(), faults=[Fault("silent", "two")]) for name in ("one", "two")]
    assert [ask(station, 0) is None for station in stations] == [False, True]


def test_several_faults_add_up() -> None:
    station = Station("one", 1, Ramp(), 0.5, [Fault("late", seconds=1), Fault("wrong_unit"), Fault("bad_crc")])
    reply = station.answer(frames.Adu(1, read_pdu(0, 1)), 10.0)
    assert reply is not None
    assert (reply.start_s, reply.adu.unit, [fault.kind for fault in reply.spoilers]) == (11.5, 2, ["bad_crc"])


def test_an_exception_is_not_lengthened_or_swapped() -> None:
    for kind in ("wrong_length", "swapped_words", "sentinel"):
        station = Station("one", 1, Ramp(), faults=[Fault(kind)])
        reply = station.answer(frames.Adu(1, read_pdu(5000, 1)), 0.0)
        assert reply is not None
        assert reply.adu.pdu == b"\x84\x02"


def parsed(text: str) -> tuple[tuple[Fault, ...], list[Problem]]:
    problems: list[Problem] = []
    top = Table(tomllib.loads(text), "", problems)
    found = faults.parse(top.tables("fault", 100), ["one", "two"])
    return found, problems


def test_a_fault_is_read_as_it_is_written() -> None:
    found, problems = parsed(
        """
        [[fault]]
        meter = "one"
        kind = "late"
        seconds = 2.5
        from = 30
        until = 60
        every = 3
        [[fault]]
        kind = "garbage"
        bytes = 9
        probability = 0.25
        """
    )
    assert problems == []
    assert found == (
        Fault("late", "one", from_s=30, until_s=60, every=3, seconds=2.5),
        Fault("garbage", "*", size=9, probability=0.25),
    )


@pytest.mark.parametrize(
    ("line", "place", "advice"),
    [
        ('kind = "lat"', "fault 1: kind", "one of late"),
        ('kind = "late"\nmeter = "three"', "fault 1: meter", "one of"),
        ('kind = "late"\nsecond = 1', "fault 1: second", "one of seconds"),
        ('kind = "late"\nseconds = "1"', "fault 1: seconds", "seconds = 1"),
        ('kind = "late"\nseconds = true', "fault 1: seconds", "seconds = 1"),
        ('kind = "late"\nevery = 0', "fault 1: every", "every = 1"),
        ('kind = "late"\nevery = 1.5', "fault 1: every", "every = 1"),
        ('kind = "late"\nprobability = 1.5', "fault 1: probability", "probability = 1"),
        ('kind = "late"\nfrom = 9\nuntil = 9', "fault 1: until", "a later end"),
        ('kind = "sentinel"\nvalue = -1', "fault 1: value", "value = 1"),
        ('kind = "silent"\ncode = 2', "fault 1: code", "one of"),
        ('meter = "one"', "fault 1: kind", "one of"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_advice(line: str, place: str, advice: str) -> None:
    _, problems = parsed(f"[[fault]]\n{line}\n")
    assert [problem.place for problem in problems] == [place]
    assert problems[0].advice.startswith(advice)


def test_all_mistakes_are_reported_at_once() -> None:
    _, problems = parsed('[[fault]]\nkind = "x"\nmeter = "y"\n[[fault]]\nkind = "late"\nseconds = -1\nz = 1\n')
    assert [problem.place for problem in problems] == [
        "fault 1: kind",
        "fault 1: meter",
        "fault 2: seconds",
        "fault 2: z",
    ]


def test_faults_work_on_a_serial_line_too() -> None:
    wire = Wire()
    kinds = ("silent", "bad_crc", "echo", "truncated")
    seen = [Fault(kind, f"m{number}") for number, kind in enumerate(kinds)]
    stations = [Station(f"m{number}", number + 1, Ramp(), faults=seen) for number in range(len(kinds))]
    port = wire.pty(None, stations, LineTiming(115200))
    answers = []
    with wire:
        client = PtyLine(port.path, 115200)
        for unit in range(1, len(kinds) + 1):
            client.send(frames.rtu(frames.Adu(unit, read_pdu(16, 2))))
            answers.append(client.receive(300, 0.06))
        client.close()
    right = [rtu(unit, answer_pdu(words(16, 2))) for unit in (1, 2, 3, 4)]
    assert answers[0] == b""
    assert answers[1][:-1] == right[1][:-1]
    assert answers[1][-1] != right[1][-1]
    assert answers[2] == frames.rtu(frames.Adu(3, read_pdu(16, 2))) + right[2]
    assert answers[3] == right[3][:4]
