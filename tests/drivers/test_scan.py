"""Scanning: whom it asks and when, what it makes of answers, and that it finds real devices on real lines."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import pytest

from drivers.line import SerialEndpoint, TcpEndpoint
from drivers.map import MeterMap, load, names
from drivers.modbus import Disconnected, ExceptionAnswer, Timeout
from drivers.modbus import Wire as Client
from drivers.plan import Request
from drivers.recognise import LIKELY, POSSIBLE, SURE, Candidate, how_to_tell, recognise
from drivers.scan import DAMAGED_WORDS, Found, Scan, Scanner
from drivers.scanplan import (
    FIRST,
    MOST_LIKELY,
    RTU_UNITS,
    SECOND,
    Agenda,
    Patience,
    Place,
    host_place,
    serial_places,
    settings,
)
from hw_sim import frames
from hw_sim.chain import layout as sunspec_layout
from hw_sim.device import MapDevice
from hw_sim.faults import Fault
from hw_sim.line import LineTiming
from hw_sim.readback import shown, specimens
from hw_sim.station import Refused, Station
from hw_sim.wire import Wire

MAPS = [load(name) for name in names()]
# What the goal of a full scan is, for one setting of a line.
GOAL_S = 90.0
SERIAL = "20735"


@lru_cache(maxsize=200)
def device(name: str) -> MapDevice:
    return next(specimens(load(name), SERIAL)).device


# ---- who is asked, and when


def places(*chosen: tuple[int, str, int], units: Sequence[int] | None = None) -> tuple[Place, ...]:
    return serial_places("/dev/tty", MAPS, chosen or settings(MAPS), units)


def asked(agenda: Agenda, count: int) -> list[tuple[int, int]]:
    return [(ask.place, ask.unit) for ask in islice(agenda.left(), count)]


def test_the_commonest_settings_come_first() -> None:
    found = settings(MAPS)
    assert found[0] == (9600, "N", 1)
    assert found.index((9600, "E", 1)) < found.index((4800, "N", 1))
    assert {(19200, "E", 1), (2400, "N", 1), (38400, "N", 1)} <= set(found)
    assert len(found) == len(set(found))


def test_only_the_settings_that_were_asked_for() -> None:
    assert {baud for baud, _, _ in settings(MAPS, bauds=[19200])} == {19200}
    assert {parity for _, parity, _ in settings(MAPS, parities=["O"])} == {"O"}
    assert settings(MAPS, bauds=[1200]) == ((1200, "N", 1), (1200, "E", 1))
    assert settings(MAPS, bauds=[1200], parities=["E"]) == ((1200, "E", 1),)


def test_unit_1_is_asked_at_every_setting_before_anybody_else() -> None:
    agenda = Agenda(places((9600, "N", 1), (9600, "E", 1)))
    order = asked(agenda, 10)
    assert order[0] == (0, 1)
    assert order.index((1, 1)) < order.index((0, 3))
    assert (1, 36) in order  # the one model of 9600 8E1 that leaves the factory with 36


def test_every_unit_is_asked_once_and_in_full() -> None:
    agenda = Agenda(places((9600, "N", 1), (2400, "N", 1)), full=True)
    order = [(ask.place, ask.unit) for ask in agenda.left()]
    assert sorted(order) == [(place, unit) for place in (0, 1) for unit in RTU_UNITS]
    assert agenda.next() == next(agenda.left())


def test_a_setting_that_answered_is_asked_to_the_end_and_the_others_not_at_all() -> None:
    agenda = Agenda(places((9600, "N", 1), (19200, "E", 1)))
    agenda.done.add((0, 1))
    agenda.done.add((1, 1))
    agenda.alive.add(1)
    assert {(ask.place, ask.unit) for ask in agenda.left()} == {(1, unit) for unit in RTU_UNITS if unit != 1}


def test_quick_asks_no_unlikely_id() -> None:
    agenda = Agenda(places((9600, "N", 1)), quick=True)
    silent = [ask.unit for ask in agenda.left()]
    agenda.alive.add(0)
    assert [ask.unit for ask in agenda.left()] == silent
    assert len(silent) < 30
    assert {1, 2, 10, 247, 126, 71, 200, 240} <= set(silent)


def test_without_an_answer_only_likely_ids_are_asked_unless_all_are_wanted() -> None:
    assert len(asked(Agenda(places((9600, "N", 1))), 300)) < 30
    assert len(asked(Agenda(places((9600, "N", 1)), full=True), 300)) == 247
    some = Agenda(places((9600, "N", 1), units=range(50, 60)), rest=True)
    assert sorted(ask.unit for ask in some.left()) == list(range(50, 60))


def test_hosts_say_nothing_about_each_other() -> None:
    hosts = tuple(host_place(TcpEndpoint(name), MAPS, rtu=False) for name in ("a", "b"))
    agenda = Agenda(hosts, shared=False)
    agenda.alive.add(0)
    assert {ask.place for ask in agenda.left()} == {0, 1}
    assert {0, 255, 247, 126, 71, 3, 100} <= {ask.unit for ask in agenda.left()}


def test_a_noisy_setting_goes_last_and_an_unreachable_host_is_left_out() -> None:
    agenda = Agenda(places((9600, "N", 1), (19200, "E", 1)))
    agenda.noisy.add(0)
    assert asked(agenda, 1) == [(1, 1)]
    agenda.dropped.add(1)
    assert asked(agenda, 1) == [(0, 1)]


def test_likely_ids_are_asked_by_both_functions_and_the_others_by_one() -> None:
    agenda = Agenda(places((9600, "N", 1)), full=True)
    requests = {ask.unit: ask.requests for ask in agenda.left()}
    assert requests[1] == requests[247] == (FIRST, SECOND)
    assert requests[133] == (FIRST,)


# ---- how long it waits


@pytest.mark.parametrize("setting", [*settings(MAPS), (1200, "E", 1)])
def test_all_ids_of_a_setting_take_less_than_the_goal(setting: tuple[int, str, int]) -> None:
    place = places(setting)[0]
    agenda = Agenda((place,), full=True)
    agenda.alive.add(0)
    scanner = Scanner(Scan(agenda), MAPS)
    assert len(place.first + place.likely) <= MOST_LIKELY
    assert {ask.unit for ask in agenda.left()} == set(RTU_UNITS)
    assert 50 < scanner.left_s() <= GOAL_S
    assert scanner.left_s() == pytest.approx(place.full_s)
    assert Patience(place.endpoint).silence_s >= 0.1


def test_all_ids_at_9600_baud_are_well_within_it() -> None:
    patience = Patience(SerialEndpoint("/dev/tty", 9600))
    assert patience.silence_s == 0.25
    assert places((9600, "N", 1))[0].full_s == pytest.approx(73, abs=1)


def test_quick_devices_make_it_quicker_and_slow_ones_slower() -> None:
    patience = Patience(SerialEndpoint("/dev/tty", 9600))
    patience.learn(0.01)
    assert patience.silence_s == 0.1
    patience.learn(0.05)
    assert patience.silence_s == pytest.approx(0.2)
    patience.learn(0.2)
    assert patience.silence_s == 0.25
    patience.learn(0.6)  # it was late
    assert patience.silence_s == 1.2
    patience.learn(0.01)
    assert patience.silence_s == 1.2


# ---- which model it is

Ask = Callable[[Request, float], bytes]


def reader(one: MapDevice, turn: Callable[[bytes], bytes] = bytes) -> Ask:
    """A device without a line: refusals are answers of the wire's own kind."""

    def read(request: Request, pause_s: float) -> bytes:
        try:
            return turn(one.read(request.function, request.address, request.count, 1000.0))
        except Refused as refusal:
            raise ExceptionAnswer("refused", refusal.code) from None

    return read


@lru_cache(maxsize=200)
def recognised(one: MapDevice) -> tuple[Candidate, ...]:
    return recognise(reader(one), MAPS, rtu=True)


def _names(candidates: Sequence[Candidate]) -> list[str]:
    return [each.map.name for each in candidates]


IDENTIFIED = [each.name for each in MAPS if each.scheme == "sunspec" or (each.identify and each.identify.expected)]
# All Socomec maps look for the same four letters, and registers of several are the same.
SAME_WORDS = {"socomec_countis_e2x", "socomec_countis_e34_e44"}


@pytest.mark.parametrize("name", IDENTIFIED)
def test_a_device_that_says_who_it_is_is_recognised(name: str) -> None:
    found = recognised(device(name))
    if name in SAME_WORDS:
        assert {each.map.name for each in found if each.certainty == LIKELY} >= SAME_WORDS
        return
    assert found[0].map.name == name
    assert found[0].certainty in (SURE, LIKELY)
    assert [each.map.name for each in found if each.certainty == SURE] in ([name], [])


@pytest.mark.parametrize("name", [name for name in names() if name not in IDENTIFIED])
def test_any_other_device_is_among_the_candidates_and_no_wrong_one_is_called_likely(name: str) -> None:
    found = recognised(device(name))
    assert name in _names(found)
    assert all(each.map.name == name for each in found if each.certainty != POSSIBLE)
    assert all(each.reasons for each in found)


@pytest.mark.parametrize(
    "name", [each.name for each in MAPS if each.identify and each.identify.serial and each.scheme == "registers"]
)
def test_the_serial_number_is_shown_where_the_map_has_one(name: str) -> None:
    best = next(each for each in recognised(device(name)) if each.map.name == name)
    assert best.serial
    assert best.serial.lstrip("0") in (SERIAL, SERIAL[:3], SERIAL[:4])


def test_the_values_at_a_glance_are_the_device_s() -> None:
    best = recognised(device("eastron_sdm120"))[0]
    points = shown(load("eastron_sdm120"))[""]
    assert best.voltage is not None
    assert best.power is not None
    assert best.power.text()[:4] == f"{points[best_power_key()] / 1e6:.1f}"[:4]
    assert 200 < float(best.voltage.text()) < 260


def best_power_key() -> int:
    return next(each.key for each in load("eastron_sdm120").registers if each.quantity == "active_power")


def test_a_device_that_says_another_code_is_not_that_model() -> None:
    """An SDM120 whose meter code is another's: same registers, but it is none."""
    sdm120 = load("eastron_sdm120")
    other = MapDevice(sdm120, lambda at_s: shown(sdm120), extra={(3, 0xFC02): b"\x00\x99"})
    assert "eastron_sdm120" not in _names(recognised(other))


def test_swapped_words_are_noticed_as_a_last_resort() -> None:
    def swapped(words: bytes) -> bytes:
        return b"".join(words[at + 2 : at + 4] + words[at : at + 2] for at in range(0, len(words), 4))

    found = recognise(reader(device("eastron_sdm630"), swapped), MAPS, rtu=True)
    best = found[_names(found).index("eastron_sdm630")]
    assert best.word_order == "little"
    assert best.certainty != SURE


def test_zeros_and_noise_are_no_meter() -> None:
    assert recognise(lambda request, pause_s: bytes(2 * request.count), MAPS, rtu=True) == ()
    assert recognise(lambda request, pause_s: b"\xff\xff" * request.count, MAPS, rtu=True) == ()


def test_a_device_that_falls_silent_is_none_of_the_catalogue() -> None:
    def silent(request: Request, pause_s: float) -> bytes:
        raise Timeout("no answer")

    assert recognise(silent, MAPS, rtu=True) == ()


def test_a_sunspec_device_is_not_taken_for_another_maker_s() -> None:
    """SolarEdge's fixed map looks for nothing but SunS, which every SunSpec device says."""
    found = _names(recognised(device("sunspec_generic")))
    assert found[0] == "sunspec_generic"
    assert "solaredge_inverter" not in found
    fronius = recognised(device("fronius_sunspec"))
    assert _names(fronius)[:2] == ["fronius_sunspec", "sunspec_generic"]
    assert fronius[0].serial == SERIAL
    assert any("Fronius" in reason for reason in fronius[0].reasons)


def test_a_chain_at_another_base_is_found() -> None:
    generic = load("sunspec_generic")
    concrete, extra = sunspec_layout(generic, (203,), "77001", base=50000)
    found = recognised(MapDevice(concrete, lambda at_s: shown(concrete), "77001", extra))
    assert _names(found) == ["sunspec_generic"]
    assert found[0].serial == "77001"


@pytest.mark.parametrize("name", ["chint_dtsu666", "chint_dtsu666-h", "chint_dtsu666-20"])
def test_meters_of_one_name_are_told_apart_by_their_voltage(name: str) -> None:
    assert _names(recognised(device(name)))[0] == name


@pytest.mark.parametrize(
    ("models", "word"),
    [
        (["chint_dtsu666", "chint_dtsu666-h"], "2300"),
        (["carlo_gavazzi_em24_e1", "carlo_gavazzi_em24_rs485"], "network"),
        (["carlo_gavazzi_em330_em340", "carlo_gavazzi_et330_et340"], "display"),
        (["eastron_sdm220", "eastron_sdm230"], "front"),
        (["abb_b21", "eastron_sdm220"], "type plate"),
    ],
)
def test_what_a_person_can_look_at(models: list[str], word: str) -> None:
    assert word in how_to_tell(models)
    assert how_to_tell(models[:1]) == ""


@pytest.mark.parametrize("name", ["eastron_sdm630", "carlo_gavazzi_em330_em340", "abb_b23_b24", "sunspec_generic"])
def test_recognising_needs_few_reads(name: str) -> None:
    """At 9600 baud a read takes 50 ms: two or three seconds a device."""
    count = 0
    read = reader(device(name))

    def counted(request: Request, pause_s: float) -> bytes:
        nonlocal count
        count += 1
        return read(request, pause_s)

    assert recognise(counted, MAPS, rtu=True)
    assert count <= 60


# ---- on real lines


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def stations(*devices: tuple[int, str], faults: Sequence[Fault] = (), latency_s: float = 0.0) -> list[Station]:
    return [Station(name, unit, device(name), latency_s, faults) for unit, name in devices]


def run(agenda: Agenda, maps: Sequence[MeterMap] = MAPS, patient_s: float = 0.2) -> Scan:
    """``patient_s``: nobody here is later than that."""
    scan = Scan(agenda)
    Scanner(scan, maps, patient_s=patient_s).run()
    return scan


def models(scan: Scan) -> dict[int, str]:
    return {each.unit: each.candidates[0].map.name if each.candidates else "" for each in scan.found}


# Fewer maps to think of, for tests of what happens on the line: recognising takes fewer questions.
METER = "finder_7e23"  # says who it is, in a word, and needs no pauses
FEW = [
    load(name) for name in (METER, "eastron_sdm120", "carlo_gavazzi_em330_em340", "kostal_plenticore", "chint_dtsu666")
]


def host(
    wire: Wire, units: Sequence[int], made: Sequence[Station], framing: frames.Framing = frames.TCP, rtu: bool = False
) -> Agenda:
    port = wire.tcp("127.0.0.1", 0, made, framing)
    wire.start()
    endpoint = TcpEndpoint("127.0.0.1", port.port, "rtu" if rtu else "tcp")
    return Agenda((host_place(endpoint, MAPS, rtu, units),), rest=True, shared=False)


def test_a_serial_line_with_several_devices_is_found_at_its_setting(wire: Wire) -> None:
    meters = (1, METER), (5, "carlo_gavazzi_em330_em340"), (7, "kostal_plenticore")
    port = wire.pty(None, stations(*meters, latency_s=0.01), LineTiming(9600))
    wire.start()
    chosen = [(19200, "E", 1), (9600, "N", 1), (2400, "N", 1)]
    scan = run(Agenda(serial_places(port.path, MAPS, chosen, (1, 5, 7, 12)), rest=True), FEW)
    assert models(scan) == dict(meters)
    assert {each.endpoint for each in scan.found} == {SerialEndpoint(port.path, 9600, "N", 1)}
    assert {each.candidates[0].certainty for each in scan.found} == {SURE}
    assert scan.found[2].candidates[0].serial == SERIAL
    assert not scan.hints
    assert port.counters["wrong baud"] == 2  # unit 1 at the first setting; the others were not needed any more
    assert not port.counters["collisions"]


def test_units_behind_a_gateway_are_found(wire: Wire) -> None:
    meters = (2, METER), (71, "kostal_plenticore"), (240, "fronius_sunspec")
    scan = run(host(wire, (1, 2, 3, 71, 100, 240), stations(*meters)))
    assert models(scan) == dict(meters)
    assert not scan.hints
    assert not scan.unreached


def test_only_functions_3_and_4_ever_go_out(wire: Wire) -> None:
    """Every frame of a scan that finds identified, unidentified and unknown devices."""
    seen: list[frames.Adu] = []

    def cut(buffer: bytearray) -> frames.Adu | None:
        adu = frames.cut_mbap(buffer)
        if adu is not None:
            seen.append(adu)
        return adu

    recording = frames.Framing("tcp", cut, frames.mbap)
    unknown = MapDevice(load("eastron_sdm120"), lambda at_s: {}, "0", {(3, 0xFC02): b"\0\0"})
    made = [*stations((1, "chint_dtsu666"), (2, "fronius_sunspec")), Station("unknown", 3, unknown)]
    scan = run(host(wire, (1, 2, 3), made, recording))
    assert models(scan) == {1: "chint_dtsu666", 2: "fronius_sunspec", 3: ""}
    assert len(seen) > 100
    assert {adu.pdu[0] for adu in seen} == {3, 4}
    assert all(len(adu.pdu) == 5 for adu in seen)
    assert {adu.unit for adu in seen} == {1, 2, 3}


def test_nothing_is_invented_on_a_silent_line(wire: Wire) -> None:
    port = wire.pty(None, [], LineTiming(38400))
    wire.start()
    scan = run(Agenda(serial_places(port.path, MAPS, [(38400, "N", 1)], (1, 2)), rest=True))
    assert scan.found == []
    assert scan.hints == []
    assert scan.asked == port.counters["strangers"] == 4


def test_a_setting_that_the_port_does_not_take_is_left_out(wire: Wire) -> None:
    """A pseudo-terminal knows no parity; a newer C library says so when nothing else changes."""
    port = wire.pty(None, stations((1, METER)), LineTiming(38400))
    wire.start()
    before = SerialEndpoint(port.path, 19200, "N", 1)
    line = Client(before)
    line.open()
    line.close()
    odd = Client(SerialEndpoint(port.path, 19200, "E", 1))
    try:
        odd.open()
    except Disconnected:
        pass
    else:
        odd.close()
        pytest.skip("this C library does not say that a setting was not taken")
    chosen = [(19200, "E", 1), (38400, "N", 1)]
    scan = run(Agenda(serial_places(port.path, MAPS, chosen, (1,)), rest=True), FEW[:1])
    assert models(scan) == {1: METER}
    assert list(scan.unreached) == [0]
    assert "does not take this setting" in scan.unreached[0]


def test_a_refusal_is_an_answer(wire: Wire) -> None:
    fault = Fault("exception", code=1)
    scan = run(host(wire, (1,), stations((1, METER), faults=[fault])))
    assert models(scan) == {1: ""}
    assert "code 1" in scan.found[0].answer


def on_rtu(wire: Wire, units: Sequence[int], *faults: Fault) -> Scan:
    """Unit 2 is a device with faults, in RTU frames, which have no transaction number."""
    made = stations((2, METER), faults=faults)
    return run(host(wire, units, made, frames.RTU, rtu=True), FEW)


def test_a_late_device_is_found_at_its_own_id(wire: Wire) -> None:
    """What comes while unit 3 is asked is unit 2's."""
    port = wire.pty(None, stations((2, METER), faults=[Fault("late", seconds=0.3)]), LineTiming(38400))
    wire.start()
    places = serial_places(port.path, MAPS, [(38400, "N", 1)], (2, 3))
    scan = run(Agenda(places, rest=True), FEW[:1], patient_s=0.5)
    assert models(scan) == {2: METER}
    assert scan.found[0].thought_ms >= 290
    assert scan.found[0].endpoint == SerialEndpoint(port.path, 38400, "N", 1)


def test_an_answer_under_another_id_is_nobody(wire: Wire) -> None:
    scan = on_rtu(wire, (2,), Fault("wrong_unit"))
    assert scan.found == []
    assert len(scan.hints) == 1
    assert DAMAGED_WORDS in scan.hints[0]


@pytest.mark.parametrize("fault", [Fault("garbage", size=9), Fault("bad_crc")], ids=lambda fault: fault.kind)
def test_damaged_characters_are_a_note_and_no_device(wire: Wire, fault: Fault) -> None:
    made = stations((2, METER), faults=[fault])
    agenda = host(wire, (2,), made, frames.RTU, rtu=True)
    scan = run(agenda, FEW)
    assert scan.found == []
    assert "unit 2" in scan.hints[0]
    assert agenda.noisy == {0}


def test_a_device_with_some_damaged_answers_is_recognised(wire: Wire) -> None:
    scan = on_rtu(wire, (2,), Fault("bad_crc", every=3))
    assert models(scan) == {2: METER}
    assert scan.found[0].candidates[0].certainty == SURE


@pytest.mark.parametrize("name", ["inepro_pro2", "chint_dtsu666"], ids=["by serial number", "by every id"])
def test_a_device_that_answers_to_every_id_is_one(wire: Wire, name: str) -> None:
    units = range(1, 9)
    scan = run(host(wire, units, stations(*((unit, name) for unit in units))), [load(name)])
    assert models(scan) == {1: name}
    assert sorted(scan.found[0].also) == list(range(2, 9))


def test_two_meters_of_one_model_are_two(wire: Wire) -> None:
    """Without a serial number only all ids answering proves that it is one; here most are silent."""
    scan = run(host(wire, range(1, 11), stations((1, "chint_dtsu666"), (2, "chint_dtsu666"))), FEW)
    assert models(scan) == {1: "chint_dtsu666", 2: "chint_dtsu666"}


def test_hosts_that_cannot_be_reached_do_not_end_the_scan(wire: Wire) -> None:
    with socket.socket() as bound:  # bound, not listening: refused
        bound.bind(("127.0.0.1", 0))
        dead = host_place(TcpEndpoint("127.0.0.1", bound.getsockname()[1]), MAPS, rtu=False, units=(1,))
        alive = host(wire, (1,), stations((1, METER))).places
        scan = run(Agenda((dead, *alive), rest=True, shared=False))
    assert models(scan) == {1: METER}
    assert list(scan.unreached) == [0]


def test_a_host_that_hangs_up_each_time_is_left_alone(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(20)
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        place = host_place(TcpEndpoint("127.0.0.1", server.getsockname()[1]), MAPS, rtu=False)
        scan = run(Agenda((place,), shared=False))
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert scan.found == []
    assert "hangs up" in scan.unreached[0]
    assert scan.asked == 5


def test_what_was_done_is_not_asked_again(wire: Wire) -> None:
    agenda = host(wire, (1, 2, 3), stations((1, "inepro_pro2"), (2, "inepro_pro2")))
    agenda.done |= {(0, 1), (0, 3)}
    scan = run(agenda, FEW)
    assert [each.unit for each in scan.found] == [2]
    assert scan.asked == 1


def test_an_interrupted_scan_keeps_what_it_has_and_gives_the_line_back(wire: Wire) -> None:
    agenda = host(wire, (1, 2, 3), stations((1, "inepro_pro2"), (2, "inepro_pro2")))
    scan = Scan(agenda)
    scanner = Scanner(scan, [load("inepro_pro2")])

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scanner.run(stop)
    assert [each.unit for each in scan.found] == [1]
    assert {ask.unit for ask in agenda.left()} == {2, 3}
    assert scanner.left_s() > 0
    scanner.run()
    found: list[Found] = scan.found
    assert len(found) == 1  # the same serial number on one host: the same device
    assert found[0].also == (2,)
