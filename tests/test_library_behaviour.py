"""What the libraries really do, where we rely on it or work around it: an upgrade that changes it turns a test red.

Each test names the place that has to be looked at again. A workaround whose reason is gone may go as well.
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
import serial
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.framer import FramerRTU, FramerSocket, FramerType
from pymodbus.logging import Log
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from drivers.modbus import TcpEndpoint, Wire, checksum
from drivers.plan import Request
from tests.drivers.wires import GOOD, Device, Fault, crc, line, word

MOSQUITTO = Path(__file__).parent.parent / "scripts" / "mosquitto.sh"


def until(happened: Callable[[], bool], patience_s: float = 5.0) -> bool:
    """Waits for something that another thread does."""
    deadline = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# --- pymodbus: why drivers/modbus.py does without it ---


def expected(address: int, count: int) -> list[int]:
    return [word(4, a) for a in range(address, address + count)]


def test_pymodbus_calls_the_unit_device_id() -> None:
    with line("tcp") as running:
        client = ModbusTcpClient("127.0.0.1", port=running.port, retries=0, timeout=1)
        assert client.read_input_registers(7, count=2, device_id=1).registers == expected(7, 2)
        for old_name in ("slave", "unit"):
            with pytest.raises(TypeError):
                client.read_input_registers(7, count=2, **{old_name: 1})
        client.close()


def test_pymodbus_takes_a_late_rtu_answer_for_that_of_another_request() -> None:
    late = Device(fault=lambda asked, number: Fault(delay_s=0.1) if number == 0 else GOOD)
    with line("rtu", late) as running:
        client = ModbusTcpClient("127.0.0.1", port=running.port, framer=FramerType.RTU, retries=0, timeout=0.05)
        with pytest.raises(ModbusIOException):
            client.read_input_registers(100, count=2, device_id=1)
        time.sleep(0.1)
        assert client.read_input_registers(200, count=2, device_id=1).registers == expected(100, 2)
        client.close()


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
def test_pymodbus_does_not_compare_the_length_with_the_request(kind: str) -> None:
    with line(kind, Device(fault=lambda asked, number: Fault(count=3))) as running:
        framer = FramerType.RTU if kind == "rtu" else FramerType.SOCKET
        client = ModbusTcpClient("127.0.0.1", port=running.port, framer=framer, retries=0, timeout=0.5)
        answer = client.read_input_registers(100, count=10, device_id=1)
        assert not answer.isError()
        assert answer.registers == expected(100, 3)
        client.close()


@pytest.mark.parametrize(("set_by_s", "waits_s"), [(-10.0, 0.4), (10.0, 0.0)], ids=["back", "forward"])
def test_pymodbus_waits_for_serial_answers_on_the_wall_clock(
    set_by_s: float, waits_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set back, a timeout of 50 ms lasts until the clock is right again; set forward, an answer after 20 ms is lost."""
    fault = Fault(silent=True) if set_by_s < 0 else Fault(delay_s=0.02)
    with line("pty", Device(fault=lambda asked, number: fault)) as running:
        client = ModbusSerialClient(running.path, baudrate=115200, retries=0, timeout=0.05)
        client.connect()
        real, start, looks = time.time, time.monotonic(), iter(range(10**9))

        def clock() -> float:
            """Set right after the first look; right again after 400 ms."""
            wrong = next(looks) > 0 and time.monotonic() < start + 0.4
            return real() + (set_by_s if wrong else 0.0)

        monkeypatch.setattr(time, "time", clock)
        with pytest.raises(ModbusIOException):
            client.read_input_registers(0, count=1, device_id=1)
        monkeypatch.undo()
        assert waits_s <= time.monotonic() - start < waits_s + 0.3
        client.close()


def test_pymodbus_drops_the_right_answer_behind_noise() -> None:
    pdu = bytes([1, 4, 2, 0, 42])
    answer = pdu + crc(pdu)
    framer = FramerRTU(DecodePDU(False))
    assert framer.decode(answer) == (7, 1, 0, pdu[1:])
    # One zero byte, as a line without bias gives when the driver switches on: with unit 1 it looks like another frame.
    used, unit, _, found = framer.decode(b"\x00" + answer + b"\x00\x00")
    assert (used, unit, found) == (10, 0, b"")


def test_pymodbus_logs_ordinary_faults_as_errors(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Log, "last_log_text", "")  # it says a thing once, then "Repeating....", then nothing
    with line("tcp", Device(fault=lambda asked, number: Fault(silent=True))) as running:
        client = ModbusTcpClient("127.0.0.1", port=running.port, retries=0, timeout=0.02)
        with pytest.raises(ModbusIOException):
            client.read_input_registers(0, count=1, device_id=1)
        client.close()
    assert [record.levelno for record in caplog.records if record.name.startswith("pymodbus")] == [logging.ERROR]
    assert not logging.getLogger("pymodbus.logging").handlers, "so it goes to stderr of whoever set up no logging"


@given(st.integers(1, 247), st.sampled_from([3, 4]), st.integers(0, 0xFFFF), st.integers(1, 125))
def test_pymodbus_builds_the_frames_that_we_build(unit: int, function: int, address: int, count: int) -> None:
    """drivers/modbus.py makes its own; here is somebody else's word on them."""
    count = min(count, 0x10000 - address)
    kind = ReadHoldingRegistersRequest if function == 3 else ReadInputRegistersRequest
    request = kind(dev_id=unit, address=address, count=count)
    asked = Request(function, address, count)
    for endpoint, framer, skipped in (
        (TcpEndpoint("127.0.0.1", 1), FramerSocket, 2),  # the transaction's number comes with each request
        (TcpEndpoint("127.0.0.1", 1, "rtu"), FramerRTU, 0),
    ):
        assert Wire(endpoint)._prepare(unit, asked).frame == framer(DecodePDU(False)).buildFrame(request)[skipped:]


@given(st.binary(max_size=256))
def test_pymodbus_s_checksum_is_ours(data: bytes) -> None:
    assert FramerRTU.compute_CRC(data).to_bytes(2, "big") == checksum(data) == crc(data)


def test_pymodbus_brings_asyncio() -> None:
    """Its framers alone do, and all of its server: 2.8 MB and 38 ms of every start. Why the gateway is without it."""
    program = "import pymodbus.framer, sys; print('asyncio' in sys.modules, 'pymodbus.datastore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["True", "True"]


# --- pyserial: drivers/line.py ---


def test_pyserial_opens_for_polling_and_for_us_alone() -> None:
    with line("pty") as running:
        port = serial.Serial(running.path, 9600, parity="E", stopbits=2, timeout=0, write_timeout=0, exclusive=True)
        assert not os.get_blocking(port.fileno())
        with pytest.raises(serial.SerialException) as caught:
            serial.Serial(running.path, exclusive=True)
        assert caught.value.errno == 11  # EAGAIN
        port.close()


def test_pyserial_s_errors_are_of_three_kinds(tmp_path: Path) -> None:
    assert issubclass(serial.SerialException, OSError)
    assert not issubclass(termios.error, OSError)
    with pytest.raises(serial.SerialException) as missing:
        serial.Serial(str(tmp_path / "none"))
    assert missing.value.errno == 2
    with line("pty") as running, pytest.raises(ValueError, match="parity"):
        serial.Serial(running.path, parity="X")


# --- cbor2: signer/cbor.py decodes on its own because of these ---


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        ("01 02", 1),  # bytes behind the item
        ("a2 01 02 01 03", {1: 3}),  # the same key twice
        ("18 01", 1),  # not the shortest integer
        ("1b 0000000000000001", 1),
        ("58 01 00", b"\0"),  # not the shortest length
        ("9f 01 ff", [1]),  # indefinite length
        ("a2 02 00 01 00", {2: 0, 1: 0}),  # keys out of order
        ("c2 41 05", 5),  # a tag turned into a number
        ("fb 4000000000000000", 2.0),
    ],
)
def test_cbor2_accepts_what_has_another_encoding(data: str, accepted: object) -> None:
    assert cbor2.loads(bytes.fromhex(data)) == accepted
    assert cbor2.dumps(accepted, canonical=True) != bytes.fromhex(data)


def test_cbor2_writes_the_shortest_form_in_the_order_given() -> None:
    """signer/cbor.py writes maps in ascending order of unsigned keys; cbor2 must add nothing of its own."""
    for number, size in [(0, 1), (23, 1), (24, 2), (255, 2), (256, 3), (65535, 3), (65536, 5), (2**32, 9), (-24, 1)]:
        assert len(cbor2.dumps(number)) == size
    assert cbor2.dumps({3: 0, 1: b"ab", 2: "x"}) == bytes.fromhex("a3 0300 01426162 026178")
    shared = [1, 2]
    assert cbor2.dumps([shared, shared]) == bytes.fromhex("82 820102 820102")
    assert cbor2.dumps((1, [True, None])) == bytes.fromhex("82 01 82 f5 f6")


def test_cbor2_canonical_is_length_first() -> None:
    """RFC 7049's order, not RFC 8949's; they agree for unsigned integer keys, so our keys are those."""
    mixed = {"aa": 1, 100: 2, -1: 3, 10: 4}
    assert list(cbor2.loads(cbor2.dumps(mixed, canonical=True))) == [10, -1, 100, "aa"]
    bytewise = sorted(mixed, key=lambda key: cbor2.dumps(key))
    assert bytewise == [10, 100, -1, "aa"]
    numbers = [0, 23, 24, 255, 256, 65535, 65536, 2**48 + 5]
    assert list(cbor2.loads(cbor2.dumps(dict.fromkeys(reversed(numbers), 0), canonical=True))) == numbers
    assert numbers == sorted(numbers, key=lambda key: cbor2.dumps(key))


# --- paho and mosquitto: uplink/mqtt.py ---


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real mosquitto without encryption: everybody may read, only ``open/`` may be written."""
    directory = tmp_path_factory.mktemp("mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    (directory / "acl").write_text("topic read #\ntopic write open/#\n")
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", f"acl_file {directory}/acl", "persistence false"]
    if os.geteuid() == 0:
        lines.append("user root")  # else it gives root up and cannot read its files
    (directory / "conf").write_text("\n".join(lines) + "\n")
    log = (directory / "log").open("wb")
    process = subprocess.Popen([MOSQUITTO, "-c", directory / "conf"], stderr=log, stdout=log)

    def listens() -> bool:
        assert process.poll() is None, (directory / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    assert until(listens, 20), "mosquitto does not listen"
    yield port
    process.terminate()
    process.wait(10)
    log.close()


def client(name: str, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5) -> Client:
    return Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=version)


def connected(mqtt: Client, port: int) -> Client:
    mqtt.connect("127.0.0.1", port)
    mqtt.loop_start()
    assert until(mqtt.is_connected)
    return mqtt


def close(mqtt: Client) -> None:
    mqtt.disconnect()
    mqtt.loop_stop()


@pytest.mark.parametrize(
    ("version", "reason"), [(MQTTProtocolVersion.MQTTv5, 0x87), (MQTTProtocolVersion.MQTTv311, 0)], ids=["v5", "v311"]
)
def test_paho_reports_a_denied_publish_as_published(broker: int, version: MQTTProtocolVersion, reason: int) -> None:
    """Only MQTT 5 tells at all, and only in the callback's reason code."""
    mqtt = client("denied", version)
    reasons: list[int] = []
    mqtt.on_publish = lambda client, data, mid, code, properties: reasons.append(code.value)
    connected(mqtt, broker)
    info = mqtt.publish("closed/x", b"1", qos=1)
    info.wait_for_publish(5)
    assert info.is_published()
    assert info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert until(lambda: bool(reasons))
    assert reasons == [reason]
    close(mqtt)


def test_paho_dies_of_an_exception_in_a_callback_and_says_it_is_connected(
    broker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda what: died.append(what.exc_type))
    mqtt = client("boom")

    def boom(client: Client, data: Any, message: MQTTMessage) -> None:
        raise RuntimeError("a bug in a callback")

    mqtt.on_message = boom
    connected(mqtt, broker)
    mqtt.subscribe("open/boom", 1)
    mqtt.publish("open/boom", b"1", qos=1)
    assert until(lambda: died == [RuntimeError])
    assert mqtt.is_connected()
    published = mqtt.publish("open/boom", b"2", qos=1)
    time.sleep(0.1)
    assert published.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert not published.is_published()
    close(mqtt)


def test_paho_raises_for_a_publish_while_offline_and_sends_it_later(broker: int) -> None:
    listener, seen = client("listener"), []
    listener.on_message = lambda client, data, message: seen.append(message.payload)
    subscribed: list[int] = []
    listener.on_subscribe = lambda client, data, mid, codes, properties: subscribed.append(mid)
    connected(listener, broker)
    listener.subscribe("open/late", 1)
    assert until(lambda: bool(subscribed))
    mqtt = client("offline")
    infos = [mqtt.publish("open/late", str(number).encode(), qos=1) for number in range(500)]  # no limit but memory
    assert {info.rc for info in infos} == {MQTTErrorCode.MQTT_ERR_NO_CONN}
    with pytest.raises(RuntimeError, match="not currently connected"):
        infos[0].is_published()
    connected(mqtt, broker)
    assert until(lambda: len(seen) == 500, 10)
    close(mqtt)
    close(listener)


@pytest.mark.parametrize(("expiry_s", "kept"), [(0, False), (60, True)])
def test_an_mqtt5_session_is_gone_at_once_unless_an_expiry_is_asked_for(broker: int, expiry_s: int, kept: bool) -> None:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = expiry_s
    present: list[bool] = []

    def on_connect(
        client: Client, data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        present.append(flags.session_present)

    for count in (1, 2):
        mqtt = client(f"session-{expiry_s}")
        mqtt.on_connect = on_connect
        mqtt.connect("127.0.0.1", broker, clean_start=False, properties=properties)
        mqtt.loop_start()
        assert until(lambda count=count: len(present) == count)  # type: ignore[misc]
        close(mqtt)
    assert present == [False, kept]


# --- cryptography: signer/keys ---


def test_cryptography_makes_high_s_and_accepts_it_and_its_twin() -> None:
    """Fabric and one signature for one statement need low-S: every key store normalises, every verifier checks."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    key = ec.generate_private_key(ec.SECP256R1())
    digest, algorithm = b"\x17" * 32, ec.ECDSA(Prehashed(hashes.SHA256()))
    signatures = [key.sign(digest, algorithm) for _ in range(80)]
    high = [s for _, s in map(decode_dss_signature, signatures) if s > order // 2]
    assert 0 < len(high) < 80  # all or none by chance: 2 in 2**80
    assert len(set(signatures)) == 80, "randomised"
    for signature in signatures[:10]:
        r, s = decode_dss_signature(signature)
        key.public_key().verify(encode_dss_signature(r, order - s), digest, algorithm)
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signatures[0], b"\x18" * 32, algorithm)


def test_cryptography_signs_a_digest_and_on_request_deterministically() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"statement")
    key.public_key().verify(
        key.sign(digest.finalize(), ec.ECDSA(Prehashed(hashes.SHA256()))), b"statement", ec.ECDSA(hashes.SHA256())
    )
    fixed = ec.ECDSA(Prehashed(hashes.SHA256()), True)
    assert key.sign(b"\x17" * 32, fixed) == key.sign(b"\x17" * 32, fixed)


# --- SQLite: edge/database.py, ledger/embedded.py ---


def test_sqlite_keeps_wal_but_not_synchronous(tmp_path: Path) -> None:
    path = tmp_path / "db"
    first = sqlite3.connect(path, isolation_level=None)
    assert first.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    first.execute("PRAGMA synchronous = OFF")
    first.execute("CREATE TABLE t (a)")
    first.close()
    second = sqlite3.connect(path, isolation_level=None)
    assert second.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert second.execute("PRAGMA synchronous").fetchone() == (2,), "FULL; set on each connection all the same"
    second.close()


def test_sqlite_with_wal_and_full_survives_the_death_of_the_process(tmp_path: Path) -> None:
    program = f"""
import os, signal, sqlite3
db = sqlite3.connect({str(tmp_path / "db")!r}, isolation_level=None)
db.execute("PRAGMA journal_mode = WAL"); db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE t (a)")
for i in range(100):
    db.execute("INSERT INTO t VALUES (?)", (i,))
db.execute("BEGIN"); db.execute("INSERT INTO t VALUES (100)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    db = sqlite3.connect(tmp_path / "db")
    assert db.execute("SELECT count(*), max(a) FROM t").fetchone() == (100, 99)
    db.close()


def test_sqlite_readers_see_the_last_commit_while_somebody_writes(tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE t (a)")
    reader = sqlite3.connect(tmp_path / "db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO t VALUES (1)")
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    other = sqlite3.connect(tmp_path / "db", isolation_level=None, timeout=0)
    with pytest.raises(sqlite3.OperationalError) as busy:
        other.execute("BEGIN IMMEDIATE")
    assert busy.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
    writer.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
    for db in (writer, reader, other):
        db.close()


def test_sqlite_names_what_is_no_database_and_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"this is no database at all, but long enough to look at " * 20)
    db = sqlite3.connect(tmp_path / "text")
    with pytest.raises(sqlite3.DatabaseError) as wrong:
        db.execute("PRAGMA journal_mode = WAL")
    assert wrong.value.sqlite_errorcode == sqlite3.SQLITE_NOTADB
    db.close()
    db = sqlite3.connect(tmp_path / "db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (a)")
    db.execute("INSERT INTO t VALUES (1)")
    db.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.OperationalError) as full:
        db.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert full.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    assert db.execute("SELECT count(*) FROM t").fetchone() == (1,), "and what was there is still there"
    db.close()
