"""The doctor: each thing that can be wrong is planted once, found by its words, its place and whose move it is."""

from __future__ import annotations

import dataclasses
import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.line import SerialEndpoint
from drivers.reading import Status
from drivers.table import Problem
from edge import config, status
from edge.config import Config, Mqtt
from edge.doctor import ask, clock, disk, examine, key, meters, ports, receipts, service
from edge.doctor import broker as brokers
from edge.doctor.finding import BROKER, MAKER, OPERATOR, ORGANISATION, TECHNICIAN, Case, Finding, State, lasts
from edge.lockfile import Lock
from edge.state import Alarm
from hw_sim.authority import Authority
from signer.codes import ClockStatus
from tests.broker import HOST, Broker, broker, free_port
from tests.edge.places import MODEL, Meters, bus_toml, make_folder, write_config

NOW_MS = 1_800_000_000_000
SERIAL = "eastron_sdm630"  # tells its serial number
__all__ = ["broker"]  # a fixture


def case(settings: Config, running: bool = True, **told: Any) -> Case:
    return Case(settings, {"updated_ms": NOW_MS, "pid": os.getpid(), **told}, running, NOW_MS)


def alarm(kind: str, words: str, about: str = "") -> dict[str, Any]:
    """One that the agent tells, as it is in its status."""
    return Alarm(kind, about, words, True)._asdict()


def the_bad(found: Iterable[Finding]) -> Finding:
    """The one that is not well; its advice and move are given."""
    (bad,) = [each for each in found if each.state not in (State.OK, State.UNKNOWN)]
    assert bad.move
    assert bad.advice
    return bad


def all_well(found: Iterable[Finding]) -> list[Finding]:
    seen = list(found)
    assert seen
    assert all((each.state, each.move, each.advice) == (State.OK, "", "") for each in seen), seen
    return seen


def the_unknown(found: Iterable[Finding]) -> Finding:
    """The only one, and nobody says how it is."""
    (only,) = found
    assert (only.state, only.move, only.advice) == (State.UNKNOWN, "", "")
    return only


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    make_folder(tmp_path)
    return write_config(tmp_path, bus_toml(free_port(), "house"))


# ---- ports


@contextmanager
def terminal() -> Iterator[str]:
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    os.close(theirs)
    try:
        yield path
    finally:
        os.close(ours)


class TestPorts:
    def test_a_port_that_is_not_there(self, tmp_path: Path) -> None:
        make_folder(tmp_path)
        bus = f'[[bus]]\nserial = "/dev/ttyNONE"\n[[bus.meter]]\nname = "a"\nmodel = "{MODEL}"\nunit = 1'
        bad = the_bad(ports.check(case(write_config(tmp_path, bus), False)))
        assert (bad.state, bad.place, bad.words) == (State.WRONG, "/dev/ttyNONE", "No such file or directory")
        assert bad.move == TECHNICIAN

    def test_a_port_that_this_user_may_not_use(self) -> None:
        words = ("may not be used by this user", "usermod -aG dialout USER, and log in again")
        bad = ports.judge(ports.Port("/dev/ttyS0", words, "", ()), None)
        assert (bad.state, bad.words, bad.move, bad.advice) == (State.WRONG, words[0], OPERATOR, words[1])
        held = ports.judge(ports.Port("/dev/ttyS0", words, "", ((7, "aigeco"),)), 7)
        assert held.state == State.OK, "the gateway may"

    def test_a_name_that_may_be_another_adapter_tomorrow(self) -> None:
        bad = ports.judge(ports.Port("/dev/ttyUSB0", ("", ""), "/dev/serial/by-id/usb-FTDI-port0", ()), None)
        assert (bad.state, bad.move) == (State.WARNING, OPERATOR)
        assert "another adapter's after the next start" in bad.words
        assert bad.advice == 'serial = "/dev/serial/by-id/usb-FTDI-port0"'

    def test_a_port_that_another_program_has_open(self) -> None:
        with terminal() as path:
            code = f"import os, sys; os.open({path!r}, os.O_RDWR | os.O_NOCTTY); print(flush=True); sys.stdin.read()"
            with subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as holder:
                assert holder.stdout is not None
                holder.stdout.readline()
                port = ports.look(path, ("", ""))
                assert [pid for pid, _ in port.holders] == [holder.pid]
                bad = ports.judge(port, None)
                assert (bad.state, bad.move) == (State.WRONG, OPERATOR)
                assert f"(pid {holder.pid})" in bad.words
                assert ports.judge(port, holder.pid).words == "open in the gateway"
            assert ports.judge(ports.look(path, ("", "")), None).words == "is there and may be used"

    def test_a_network_line_is_never_opened(self, settings: Config) -> None:
        (running,) = all_well(ports.check(case(settings, meters=[GOOD])))
        assert running.words == "open in the gateway"
        away = [GOOD | {"status": Status.DISCONNECTED}]
        assert "not opened beside the gateway" in the_unknown(ports.check(case(settings, meters=away))).words
        assert "--probe" in the_unknown(ports.check(case(settings, False))).words


# ---- meters and lines

GOOD = {"name": "house", "slot_ms": NOW_MS - 1000, "status": None, "trouble": "", "serial": "77", "requests": 1000}
COUNTED = {"answers": 1000, "latencies": [0, 900, 100, 0, 0, 0, 0, 0]}


class TestMeters:
    def test_well(self, settings: Config) -> None:
        (found,) = all_well(meters.check(case(settings, meters=[GOOD])))
        assert found.words == f"{MODEL}, last slot 1 s ago, good; serial number 77"

    @pytest.mark.parametrize(
        ("told", "state", "words", "move"),
        [
            ({"slot_ms": None}, State.WARNING, "was not read yet", OPERATOR),
            ({"slot_ms": NOW_MS - 600_000}, State.WRONG, "its last slot began 10 min ago", OPERATOR),
            (
                {"status": 2, "trouble": "x:502: no answer", "failures": 7, "pause_s": 12.0},
                State.WRONG,
                "gives no values: x:502: no answer; failed 7 times in a row, left alone for 12 s between tries",
                TECHNICIAN,
            ),
            (
                {"status": 6, "trouble": "serial number 8 instead of 77: another meter"},
                State.WRONG,
                "another meter",
                TECHNICIAN,
            ),
            ({"status": 7, "trouble": "unit 1 is no EM340"}, State.WRONG, "unit 1 is no EM340", TECHNICIAN),
            ({"trouble": "voltage L1 is 0"}, State.WARNING, "is not plausible: voltage L1 is 0", TECHNICIAN),
        ],
    )
    def test_not_well(self, settings: Config, told: dict[str, Any], state: State, words: str, move: str) -> None:
        bad = the_bad(meters.check(case(settings, meters=[GOOD | told])))
        assert (bad.state, bad.place, bad.move) == (state, "house", move)
        assert words in bad.words

    def test_what_to_try_fits_the_reason(self, settings: Config) -> None:
        tries = {
            code: the_bad(meters.check(case(settings, meters=[GOOD | {"status": code}]))).advice
            for code in (Status.TIMEOUT, Status.EXCHANGED, Status.INCOMPATIBLE, 99)
        }
        assert tries[Status.EXCHANGED].endswith("aigeco replace house")
        assert "aigeco maps list" in tries[Status.INCOMPATIBLE]
        assert len(set(tries.values())) == 4

    def test_an_inverter_at_night_is_well(self, settings: Config) -> None:
        (found,) = all_well(meters.check(case(settings, meters=[GOOD | {"status": 1, "trouble": "not present"}])))
        assert "at night" in found.words

    @pytest.mark.parametrize(
        ("counts", "state", "words", "move"),
        [
            ({"timeouts": 30, "answers": 970}, State.WARNING, "30 of 1,000 requests unanswered (3.0 %)", TECHNICIAN),
            ({"timeouts": 200, "answers": 800}, State.WRONG, "200 of 1,000 requests unanswered", TECHNICIAN),
            ({"checksum_errors": 2, "answers": 998}, State.WARNING, "damaged characters (0.2 %)", TECHNICIAN),
            ({"wrong_answers": 15, "answers": 985}, State.WARNING, "something else (1.5 %)", TECHNICIAN),
            ({"disconnects": 12, "answers": 988}, State.WARNING, "cut off", TECHNICIAN),
            ({"exceptions": 150, "answers": 850}, State.WARNING, "refused (15.0 %)", MAKER),
            ({"latencies": [0, 0, 0, 0, 300, 700, 0, 0]}, State.WARNING, "longer than 200 ms", MAKER),
            ({"latencies": [0, 0, 0, 0, 0, 0, 0, 1000]}, State.WARNING, "longer than 1000 ms", MAKER),
        ],
    )
    def test_a_bad_line(self, settings: Config, counts: dict[str, Any], state: State, words: str, move: str) -> None:
        bad = the_bad(meters.check_lines(case(settings, meters=[GOOD | COUNTED | counts])))
        assert (bad.area, bad.state, bad.place, bad.move) == ("line quality", state, "house", move)
        assert words in bad.words

    def test_a_good_line(self, settings: Config) -> None:
        (found,) = all_well(meters.check_lines(case(settings, meters=[GOOD | COUNTED])))
        assert found.words == "1,000 requests, 0 without values; half within 20 ms, 99 % within 50 ms"
        few = GOOD | COUNTED | {"requests": 4, "answers": 1, "timeouts": 3}
        assert the_unknown(meters.check_lines(case(settings, meters=[few]))).words == "4 requests: too few to say"

    def test_a_silent_meter_is_not_the_lines_fault(self, settings: Config) -> None:
        silent = GOOD | {"answers": 0, "timeouts": 1000, "latencies": [0] * 8}
        assert list(meters.check_lines(case(settings, meters=[silent]))) == []

    def test_a_line_on_which_nobody_answers_is_said_once(self, tmp_path: Path) -> None:
        make_folder(tmp_path)
        bus = '[[bus]]\nname = "cellar"\nserial = "/dev/ttyS0"\nbaud = 9600\n' + "".join(
            f'[[bus.meter]]\nname = "{name}"\nmodel = "{SERIAL}"\nunit = {unit}\n' for unit, name in enumerate("abc", 1)
        )
        settings = write_config(tmp_path, bus)
        silent = [GOOD | {"name": name, "status": Status.TIMEOUT, "trouble": "no answer"} for name in "abc"]
        bad = the_bad(meters.check(case(settings, meters=silent)))
        assert (bad.state, bad.place, bad.move) == (State.WRONG, "cellar", TECHNICIAN)
        assert bad.words == "none of its 3 meters answers on /dev/ttyS0 at 9600 8N1: a, b, c"
        assert "baud rate and parity" in bad.advice
        assert "aigeco scan --serial /dev/ttyS0" in bad.advice
        two = [*silent[:2], GOOD | {"name": "c"}]
        found = [each for each in meters.check(case(settings, meters=two)) if each.state == State.WRONG]
        assert [each.place for each in found] == ["a", "b"], "the line carries one of them"

    def test_what_nobody_looked_at_is_not_well(self, settings: Config) -> None:
        assert "no store yet" in the_unknown(meters.check(case(settings, False))).words
        assert "while the gateway runs" in the_unknown(meters.check_lines(case(settings, False))).words
        assert "no store yet" in the_unknown(receipts.check(case(settings, False))).words
        assert "there is no [mqtt]" in the_unknown(brokers.check(case(settings))).words


class TestProbe:
    def test_meters_are_asked_once(self, tmp_path: Path) -> None:
        make_folder(tmp_path)
        with Meters(2, model=SERIAL) as there:
            settings = write_config(tmp_path, bus_toml(there.port, "house", "pv").replace(MODEL, SERIAL))
            found = all_well(ask.check(settings.buses[0]))
            assert [each.place for each in found] == ["house", "pv"]
            assert all("serial number 1000000" in each.words for each in found)
            lines = bus_toml(there.port, "house", "pv", "nobody").replace(MODEL, SERIAL)
            settings = write_config(tmp_path, lines)
            bad = the_bad(ask.check(settings.buses[0]))
            assert (bad.state, bad.place, bad.move) == (State.WRONG, "nobody", TECHNICIAN)
            assert bad.words.startswith("gives no values: ")

    def test_a_line_that_is_not_there(self, settings: Config) -> None:
        bad = the_bad(ask.check(settings.buses[0]))
        assert (bad.area, bad.state, bad.move) == ("ports", State.WRONG, TECHNICIAN)
        assert "Connection refused" in bad.words
        serial = dataclasses.replace(settings.buses[0], endpoint=SerialEndpoint("/dev/ttyNONE"))
        assert "the port is not there" in the_unknown(ask.check(serial)).words, "what is wrong with it is the ports'"


# ---- clock

SYNCHRONISED = clock.Seen(ClockStatus.SYNCHRONISED, 12, 0.4, "")


@pytest.mark.parametrize(
    ("changes", "state", "place", "words"),
    [
        ({"status": ClockStatus.FAILED}, State.WRONG, "", "stands before 2025"),
        ({"status": ClockStatus.INFORMATIVE}, State.WARNING, "", "is not synchronised"),
        ({"status": ClockStatus.HOLDOVER, "chrony": "chrony follows nobody"}, State.WARNING, "", "is no longer"),
        ({"status": ClockStatus.UNKNOWN}, State.WARNING, "", "does not tell"),
        ({"error_ms": 2500}, State.WARNING, "", "may be 2,500 ms off"),
        ({"rtc_off_s": -7200.0}, State.WARNING, "battery clock", "is 2 h behind"),
    ],
)
def test_a_clock_that_is_not_well(changes: dict[str, Any], state: State, place: str, words: str) -> None:
    bad = the_bad(clock.judge(dataclasses.replace(SYNCHRONISED, **changes)))
    assert (bad.state, bad.place, bad.move) == (state, place, OPERATOR)
    assert words in bad.words


def test_a_clock_that_stands_behind_the_slots(settings: Config) -> None:
    words = "stands 2 h behind the last slot that was read: a new stream begins when it stays so for 30 s"
    new = alarm("new stream", "the clock was set back by 2 h; try: timedatectl")
    told = case(settings, alarms=[alarm("clock", words), new])
    waits, began = [found for found in clock.check(told) if found.place == "slots"]
    assert (waits.state, waits.words, waits.move) == (State.WRONG, words, OPERATOR)
    assert (began.state, began.words, began.advice) == (
        State.WARNING,
        "the clock was set back by 2 h",
        "timedatectl",
    )
    (stored,) = clock.judge_stored(NOW_MS + 7_200_000, NOW_MS)
    assert (stored.state, stored.words) == (State.WARNING, "stands 2 h behind the last slot in the store")
    assert not list(clock.judge_stored(NOW_MS, NOW_MS))


def test_a_clock_that_is_well(settings: Config) -> None:
    assert all_well(clock.judge(SYNCHRONISED))[0].words == "synchronised, at most 12 ms off"
    assert "there is none" in all_well(clock.judge(dataclasses.replace(SYNCHRONISED, rtc_off_s=None)))[1].words
    assert len(list(clock.check(case(settings)))) == 2, "this machine's own"


def test_what_chrony_says() -> None:
    said = "C0000201,192.0.2.1,2,1800000000.1,-0.000123,0.0001,0.0002,-1.2,0.0,0.1,0.01,0.002,64.2,Normal\n"
    assert clock.chrony(said) == "chrony follows 192.0.2.1, 0.1 ms off"
    assert clock.chrony(said.replace("Normal", "Not synchronised")) == "chrony follows nobody"
    assert clock.chrony("506 Cannot talk to daemon\n") == ""


# ---- disk

DISK = disk.Seen(Path("/data"), 10_000_000_000, False, "ext4", 0, 0, 1_000_000, 1_000_000_000)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"read_only": True}, State.WRONG, "is mounted read-only"),
        ({"free_bytes": 5_000_000}, State.WRONG, "only 5 MB are free"),
        ({"free_bytes": 500_000_000}, State.WARNING, "500 MB are free, and the store may still take 999 MB"),
        ({"used_bytes": 1_000_000_000}, State.WRONG, "budget of 1,000 MB is used up"),
        ({"used_bytes": 850_000_000}, State.WARNING, "850 MB of 1,000 MB: meters are read less often"),
        ({"errors": 3}, State.WRONG, "the file system counts 3 errors"),
        ({"worn": 9}, State.WARNING, "90 % of the memory's life is used"),
        ({"kind": "tmpfs"}, State.WARNING, "a power cut takes the store"),
        ({"aside": ("spool.db.set-aside-1",)}, State.WARNING, "could not be used"),
    ],
)
def test_a_disk_that_is_not_well(changes: dict[str, Any], state: State, words: str) -> None:
    bad = the_bad(each for each in disk.judge(dataclasses.replace(DISK, **changes)) if each.state != State.OK)
    assert (bad.state, bad.move) == (state, OPERATOR)
    assert words in bad.words


def test_a_disk_that_is_well(settings: Config) -> None:
    (found,) = all_well(disk.judge(DISK))
    assert found.words == "the store has 1 MB of 1,000 MB; 10,000 MB free on ext4"
    seen = [each for each in disk.check(case(settings)) if each.state == State.WRONG]
    assert not seen, "this machine's own"


def test_a_store_that_cannot_be_used_and_a_folder_that_is_not_there(settings: Config) -> None:
    settings.spool.write_bytes(b"no database at all" * 100)
    (bad,) = [each for each in disk.check(case(settings)) if each.state == State.WRONG]
    assert bad.place == str(settings.spool)
    assert bad.advice
    elsewhere = dataclasses.replace(settings, spool=settings.base / "gone" / "spool.db")
    assert "No such file" in the_bad(disk.check(case(elsewhere))).words


def test_what_the_gateway_says_of_its_disk(settings: Config) -> None:
    found = list(disk.check(case(settings, alarms=[alarm("disk", "is full; try: make room")])))
    (said,) = [each for each in found if each.words == "is full"]
    assert (said.state, said.advice) == (State.WRONG, "make room")


# ---- key and trust


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def today(settings: Config, running: bool = False, **told: Any) -> Case:
    return Case(settings, told, running, now_ms())


def reissue(settings: Config, days: tuple[int, int], name: str = "home-1") -> None:
    """Another certificate for the key that is there, and its root."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    own = load_pem_private_key((settings.base / "keys/gateway.pem").read_bytes(), None)
    site = Authority("Site")
    issued = site.gateway(name, own, days)  # type: ignore[arg-type]
    settings.certificate.unlink()
    issued.write(settings.base / "keys/unused.pem", settings.certificate)
    (settings.base / "trust/gateways.pem").write_bytes(site.pem)


class TestKey:
    def test_well(self, settings: Config) -> None:
        signs, lasting = all_well(key.check(today(settings)))
        assert "signs, mode 0600, of " in signs.words
        assert lasting.words.endswith("(364 days)")

    def test_a_key_that_others_may_read(self, settings: Config) -> None:
        (settings.base / "keys/gateway.pem").chmod(0o644)
        bad = the_bad(key.check(today(settings)))
        assert (bad.state, bad.place, bad.move) == (State.WRONG, "key.uri", OPERATOR)

    def test_a_key_that_is_not_there(self, settings: Config) -> None:
        (settings.base / "keys/gateway.pem").unlink()
        assert the_bad(key.check(today(settings))).place == "key.uri"

    def test_another_gateways_certificate(self, settings: Config) -> None:
        reissue(settings, (-1, 365), "home-2")
        assert "is issued to gw-home-2, not to gw-home-1" in the_bad(key.check(today(settings))).words

    def test_a_certificate_that_ends_soon(self, settings: Config) -> None:
        reissue(settings, (-1, 12))
        bad = the_bad(key.check(today(settings)))
        assert (bad.state, bad.place, bad.move) == (State.WARNING, "certificate", OPERATOR)
        assert "(11 days)" in bad.words

    def test_a_certificate_that_has_ended(self, settings: Config) -> None:
        reissue(settings, (-10, -1))
        bad = the_bad(key.check(today(settings)))
        assert (bad.state, bad.place) == (State.WRONG, "key.certificate")
        assert "has expired on " in bad.words

    def test_another_users_key(self) -> None:
        bad = the_bad(key.judge_owner(Path("/k.pem"), "ana", "aigeco"))
        assert (bad.state, bad.words) == (State.WARNING, "belongs to ana, and the gateway runs as aigeco")
        assert bad.advice == "chown aigeco /k.pem"
        assert not list(key.judge_owner(Path("/k.pem"), "aigeco", "aigeco"))
        assert not list(key.judge_owner(Path("/k.pem"), "ana", ""))

    def test_an_organisations_root_that_is_not_there(self, settings: Config) -> None:
        (settings.base / "trust/Org2MSP.pem").unlink()
        bad = the_bad(key.check_trust(today(settings)))
        assert (bad.state, bad.place, bad.move) == (State.WRONG, "ledger.organisations.Org2MSP", ORGANISATION)


def test_how_long_a_certificate_lasts() -> None:
    def state(days: float) -> tuple[State, str]:
        found = lasts(
            "key", "", "", datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(days=days), NOW_MS, OPERATOR
        )
        return found.state, found.move

    assert state(31) == (State.OK, "")
    assert state(29.9) == (State.WARNING, OPERATOR)
    assert state(-0.1) == (State.WRONG, OPERATOR)


# ---- broker


class TestBroker:
    def test_nothing_is_sent(self, settings: Config) -> None:
        assert the_unknown(brokers.check(case(settings))).words.endswith("there is no [mqtt], so nothing is sent")

    def test_a_broker_that_is_well_and_its_client_stays_connected(self, broker: Broker) -> None:
        listens, lasting = all_well(look(broker.gateway("alpha")))
        assert "takes our certificate; what its access list grants cannot be known from here" in listens.words
        assert lasting.words.startswith(f"for {HOST}, valid until ")
        assert "gw-alpha-1" not in broker.log(), "no CONNECT under the gateway's name"

    @pytest.mark.parametrize(
        ("plant", "words", "move"),
        [
            (lambda b: {"port": free_port()}, "nothing listens on", BROKER),
            (lambda b: {"host": "localhost"}, "is for another name", OPERATOR),
            (lambda b: {"ca": stranger(b)}, "was not issued by the CA", OPERATOR),
            (lambda b: {"certificate": b.directory / "gone.pem"}, "cannot be read: No such file", OPERATOR),
        ],
        ids=["nobody", "another name", "another CA", "no certificate"],
    )
    def test_not_well(self, broker: Broker, plant: Callable[[Broker], dict[str, Any]], words: str, move: str) -> None:
        bad = the_bad(look(broker.gateway("alpha", **plant(broker))))
        assert (bad.state, bad.move) == (State.WRONG, move)
        assert words in bad.words

    def test_a_broker_that_does_not_take_our_certificate(self, broker: Broker) -> None:
        endpoint = broker.endpoint("gw-mallory", Authority("Mallory").gateway("mallory"))
        bad = the_bad(look(endpoint))
        assert (bad.state, bad.move) == (State.WRONG, BROKER)
        assert "refuses our certificate" in bad.words

    def test_a_certificate_of_the_broker_that_ends_soon(self, broker: Broker) -> None:
        later_ms = now_ms() + 350 * 86_400_000
        bad = the_bad(look(broker.gateway("alpha"), later_ms))
        assert (bad.state, bad.place, bad.move) == (State.WARNING, "its certificate", BROKER)

    def test_a_broker_that_says_nothing_is_not_waited_for(self, settings: Config) -> None:
        with socket.create_server((HOST, 0)) as server:
            mqtt = Mqtt(HOST, server.getsockname()[1], 1, None, None, None, True, 10_000)
            bad = the_bad(brokers.check(case(dataclasses.replace(settings, mqtt=mqtt))))
        assert (bad.state, bad.move) == (State.WARNING, OPERATOR)
        assert "plain MQTT" in bad.words

    def test_what_only_the_gateway_sees(self, settings: Config) -> None:
        mqtt = Mqtt(HOST, free_port(), 1, None, None, None, True, 10_000)
        words = f"{HOST}:1 refuses gw-home-1 the topic; try: grant it"
        said, _ = brokers.check(case(dataclasses.replace(settings, mqtt=mqtt), alarms=[alarm("broker", words)]))
        assert (said.state, said.move, said.advice) == (State.WRONG, BROKER, "grant it")
        assert said.words == f"the gateway says: {HOST}:1 refuses gw-home-1 the topic"


def look(endpoint: Any, at_ms: int | None = None) -> list[Finding]:
    return list(brokers.look(endpoint, at_ms or now_ms()))


def stranger(there: Broker) -> Path:
    path = there.directory / "stranger.pem"
    path.write_bytes(Authority("Stranger").pem)
    return path


# ---- receipts


@dataclasses.dataclass(frozen=True)
class Given:
    """As much of a receipt as is looked at."""

    issued_s: float
    first: int = 0
    count: int = 100


def sending(settings: Config) -> Config:
    return dataclasses.replace(settings, mqtt=Mqtt("broker", 8883, 1, None, None, None, False, 10_000))


def seen(pending: int, **last: Any) -> receipts.Seen:
    return receipts.Seen(100 + pending, pending, last)


class TestReceipts:
    def test_well(self, settings: Config) -> None:
        last = Given(NOW_MS / 1000 - 42)
        found = all_well(receipts.judge(seen(0, Org1MSP=last, Org2MSP=last), case(sending(settings))))
        assert found[0].words == "last receipt 42 s ago, up to seq 99"
        assert found[2].words == "all 100 statements are settled"

    def test_an_organisation_that_went_silent(self, settings: Config) -> None:
        last = {"Org1MSP": Given(NOW_MS / 1000 - 42), "Org2MSP": Given(NOW_MS / 1000 - 7200)}
        bad = the_bad(receipts.judge(seen(5, **last), case(sending(settings))))
        assert (bad.state, bad.place, bad.move) == (State.WRONG, "Org2MSP", ORGANISATION)
        assert bad.words == "last receipt 2 h ago, up to seq 99"
        all_well(receipts.judge(seen(0, **last), case(sending(settings))))

    def test_an_organisation_that_never_said_anything(self, settings: Config) -> None:
        bad = the_bad(receipts.judge(seen(0, Org1MSP=Given(NOW_MS / 1000)), case(sending(settings))))
        assert (bad.state, bad.place, bad.words) == (State.WRONG, "Org2MSP", "no receipt yet")

    def test_a_refusal(self, settings: Config) -> None:
        told = case(sending(settings), alarms=[alarm("ledger", "refuses: a fork", "Org1MSP"), alarm("broker", "gone")])
        said = next(iter(receipts.check(told)))
        assert (said.state, said.move) == (State.WRONG, ORGANISATION)
        assert (said.place, said.words) == ("Org1MSP", "refuses: a fork")

    def test_who_is_not_asked_while_another_refuses_is_not_to_blame(self, settings: Config) -> None:
        """Without the first one's word nothing is sent to anybody."""
        old = NOW_MS / 1000 - 3600
        found = list(receipts.judge(seen(5, Org1MSP=Given(old), Org2MSP=Given(old)), case(sending(settings)), True))
        assert [each.state for each in found] == [State.UNKNOWN, State.UNKNOWN, State.OK]
        assert found[1].words.endswith("; it was not looked at whether it answers, see above")

    def test_what_happened_and_is_over(self) -> None:
        (said,) = receipts.judge_alarms([Alarm("ledger", "", "Org1MSP sent what does not count; try: ask it", False)])
        assert (said.state, said.move, said.advice) == (State.WARNING, ORGANISATION, "ask it")
        assert said.words == "since the gateway started: Org1MSP sent what does not count"

    def test_nothing_is_sent(self, settings: Config) -> None:
        assert "nothing is sent" in all_well(receipts.judge(seen(3), case(settings)))[0].words


# ---- service and plan


class TestService:
    def test_never_started(self, settings: Config) -> None:
        bad = the_bad(service.check(Case(settings, {}, False, NOW_MS)))
        assert (bad.state, bad.move) == (State.WRONG, OPERATOR)
        assert "never did with this store" in bad.words

    @pytest.mark.parametrize(
        ("told", "mark", "words"),
        [
            ({"stopped": True}, "", "it was ended 10 min ago"),
            ({}, "", "last heard of 10 min ago and did not say that it ends"),
            ({}, "watchdog", "its watchdog ended it, because a thread was silent for too long"),
        ],
    )
    def test_ended(self, settings: Config, told: dict[str, Any], mark: str, words: str) -> None:
        if mark:
            settings.spool.with_name("spool.db.ended").write_text(mark)
        bad = the_bad(service.check(case(settings, False, **{"updated_ms": NOW_MS - 600_000, **told})))
        assert bad.state == State.WRONG
        assert words in bad.words

    def test_a_process_that_says_nothing_any_more(self, settings: Config) -> None:
        bad = the_bad(service.check(case(settings, updated_ms=NOW_MS - 180_000)))
        assert bad.words == f"the gateway runs (pid {os.getpid()}) and has said nothing for 3 min"

    def test_a_thread_that_is_late(self, settings: Config) -> None:
        silent = {"writer": 0.3, "bus cellar": 75.0, "sender": 80.0}
        bad = the_bad(service.check(case(settings, threads=silent, overdue={"bus cellar": 15.0})))
        assert (bad.state, bad.place) == (State.WARNING, "thread bus cellar")
        assert bad.words.startswith("has not been heard of for 75 s; its watchdog ends"), "sender asked for longer"

    def test_lost_readings_and_other_alarms(self, settings: Config) -> None:
        assert "7 readings were lost" in the_bad(service.check(case(settings, dropped=7))).words
        alarms = [alarm("writer", "is behind"), alarm("broker", "away"), alarm("configuration, mqtt.ca", "gone")]
        assert the_bad(service.check(case(settings, alarms=alarms))).words == "the gateway says: writer: is behind"

    def test_a_file_that_is_not_what_runs(self, settings: Config) -> None:
        all_well(service.check_config(case(settings, config=settings.digest)))
        all_well(service.check_config(case(settings)))  # it does not tell
        settings.path.write_text(settings.path.read_text() + "# more\n")
        bad = the_bad(service.check_config(case(settings, config=settings.digest)))
        assert (bad.state, bad.place, bad.advice) == (State.WARNING, str(settings.path), "aigeco config apply")
        all_well(service.check_config(case(settings, running=False, config=settings.digest)))

    def test_what_systemd_says(self) -> None:
        loaded = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "NRestarts": "0"}
        assert all_well(service.judge_manager(loaded))[0].words == "active, no restarts"
        bad = the_bad(service.judge_manager(loaded | {"NRestarts": "4", "ExecMainStatus": "71"}))
        assert bad.words == "started it again 4 times, the last end was 71 (a thread was silent for too long)"
        bad = the_bad(service.judge_manager(loaded | {"UnitFileState": "disabled"}))
        assert bad.advice == "systemctl enable aigeco"
        assert not list(service.judge_manager({"LoadState": "not-found"}))

    def test_it_runs_when_its_lock_is_held(self, settings: Config) -> None:
        """A process id alone may be another program's."""
        status.write(settings.status_path, {"version": status.VERSION, "pid": os.getpid(), "stopped": False})
        lock = Lock(Path(f"{settings.spool}.lock"))
        assert service.held(settings.spool)
        assert service.case_of(settings, NOW_MS).running
        lock.release()
        assert service.held(settings.spool) is False
        assert not service.case_of(settings, NOW_MS).running

    def test_a_plan_that_does_not_fit(self, tmp_path: Path) -> None:
        make_folder(tmp_path)

        def plan(units: int) -> list[Finding]:
            bus = '[[bus]]\nname = "cellar"\nserial = "/dev/ttyS0"\nbaud = 9600\n'
            for unit in range(1, units + 1):
                bus += f'[[bus.meter]]\nname = "m{unit}"\nmodel = "{MODEL}"\nunit = {unit}\nperiod_s = 1\n'
            return list(service.check_config(case(write_config(tmp_path, bus))))

        share = plan(1)[0].words
        assert "% busy" in share
        bad = the_bad(plan(20))
        assert (bad.state, bad.place) == (State.WRONG, "bus[0]")
        assert "of every 1.0 s on /dev/ttyS0 at 9600 baud" in bad.words


# ---- all of it


def finding(words: str, state: State = State.OK) -> Finding:
    return Finding("test", state, "", words)


class TestExamine:
    def test_the_most_important_first_otherwise_in_order(self) -> None:
        checks: dict[str, examine.Check] = {
            "a": lambda: [finding("well"), finding("so so", State.WARNING)],
            "b": lambda: [finding("ill", State.WRONG), finding("well too")],
        }
        assert [each.words for each in examine.examine(checks)] == ["ill", "so so", "well", "well too"]

    def test_what_hangs_is_ended_and_what_it_found_before_counts(self) -> None:
        def hangs() -> Iterator[Finding]:
            yield finding("before")
            time.sleep(60)

        began_s = time.monotonic()
        found = examine.examine({"slow": hangs, "quick": lambda: [finding("quick")]}, limit_s=0.3)
        assert time.monotonic() - began_s < 5
        assert [each.words for each in found] == ["gave no word within 0.3 s", "before", "quick"]
        assert (found[0].area, found[0].state) == ("slow", State.WRONG)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    def test_a_check_that_fails_costs_only_itself(self) -> None:
        def breaks() -> Iterator[Finding]:
            raise ZeroDivisionError("of all things")
            yield

        found = examine.examine({"broken": breaks, "quick": lambda: [finding("quick")]})
        assert found[0].words == "could not be looked at: ZeroDivisionError: of all things"
        assert (found[0].area, found[1].words) == ("broken", "quick")

    def test_a_large_finding_arrives_whole(self) -> None:
        (found,) = examine.examine({"a": lambda: [finding("x" * 300_000)]})
        assert len(found.words) == 300_000

    def test_every_area_is_looked_at(self, settings: Config) -> None:
        areas = list(examine.checks_of(case(settings, False), False))
        wanted = "service config ports meters line quality clock disk key trust broker receipts"
        assert " ".join(areas) == wanted
        assert "meters on " in " ".join(examine.checks_of(case(settings, False), True))
        with pytest.raises(AssertionError):
            examine.checks_of(case(settings), True)


def test_beside_a_real_gateway_nothing_is_wrong_and_nothing_disturbed(tmp_path: Path) -> None:
    from tests.edge.test_agent import running

    make_folder(tmp_path)
    with Meters(1, model=SERIAL) as there:
        settings = write_config(tmp_path, bus_toml(there.port, "house").replace(MODEL, SERIAL))
        with running(tmp_path) as agent:
            agent.until_stored(12)
            deadline = time.monotonic() + 20
            while not (status.read(settings.status_path) or {}).get("meters", [{}])[0].get("requests", 0) > 20:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            connections = connections_to(there.port)
            now = service.case_of(config.load(settings.path), now_ms())
            assert now.running
            found = examine.examine(examine.checks_of(now, False))
            assert connections_to(there.port) == connections
            agent.end()
    assert not [each for each in found if each.state == State.WRONG], found
    words = {each.area: each.words for each in found}
    assert "serial number 10000001" in words["meters"]
    assert "half within" in words["line quality"]
    ended = service.case_of(settings, now_ms())
    assert not ended.running
    assert "it was ended" in the_bad(service.check(ended)).words
    assert "before the gateway stopped" in the_unknown(meters.check(ended)).words


def connections_to(port: int) -> int:
    """Established TCP connections to a local port (/proc/net/tcp, state 01)."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_the_simulator_behind_a_line_is_nobody_else(tmp_path: Path) -> None:
    code = (
        "import os, pty, sys\nours, theirs = pty.openpty()\nprint(os.ttyname(theirs), flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as simulator:
        assert simulator.stdout is not None
        path = simulator.stdout.readline().decode().strip()
        assert ports.look(path, ("", "")).holders == ()
        simulator.stdin.close()  # type: ignore[union-attr]


def test_what_this_user_may_not_read_is_not_the_gateways_fault(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem("key.uri", "file:gateway.pem", "gateway.pem: cannot be read: Permission denied", "as its account")
    seen = case(settings, pid=os.getpid())
    own = key._of(problem, key.AREA, OPERATOR, seen)
    assert (own.state, own.advice) == (State.WRONG, "as its account"), "the gateway itself may not read it"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 65534)
    other = key._of(problem, key.AREA, OPERATOR, seen)
    assert (other.state, other.move) == (State.WARNING, OPERATOR)
    assert other.advice.startswith("sudo aigeco doctor")
    gone = dataclasses.replace(problem, words="gateway.pem: there is no such key file")
    assert key._of(gone, key.AREA, OPERATOR, seen).state == State.WRONG


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_key_of_somebody_else_is_no_reason_for_a_new_one(settings: Config) -> None:
    path = settings.base / "keys/gateway.pem"
    code = (
        "import os, pathlib, signer.keys.file\n"
        f"os.chdir({str(path.parent)!r}); os.setuid(65534)\n"
        "try: signer.keys.open_key('file:gateway.pem', pathlib.Path('.'))\n"
        "except signer.keys.KeyProblem as problem: print(problem, problem.__notes__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "cannot be read: Permission denied" in done.stdout, done.stderr
    assert "as the account that the file belongs to" in done.stdout
