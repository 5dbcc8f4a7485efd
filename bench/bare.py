"""A pipeline with the steps of the agent and nothing else: read, sign, commit, publish. What the agent is measured by.

No chain, no slots kept when a read fails, no receipts, no back-off, no watchdog: one thread, one loop, and paho's own.

Rules
- The same libraries and the same durability as the agent: ES256 by cryptography, SQLite with WAL and synchronous=FULL
  and one commit for what was read in a second, QoS 1 over TLS 1.3, one message for what was read in ten seconds.
- Three readers: the product's bus (``bus``), the product's wire with a few lines of decoding (``wire``), and the same
  lines behind pymodbus' own client (``pymodbus``).
"""

from __future__ import annotations

import signal
import sqlite3
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cbor2
import click
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from pymodbus.client import ModbusTcpClient

from bench import meters
from drivers.bus import Bus
from drivers.map import MeterMap
from drivers.meter import MeterConfig
from drivers.modbus import TcpEndpoint, Wire
from drivers.plan import TCP_OVERHEAD_BYTES, Request, plan

READERS = ("bus", "wire", "pymodbus")
HOST = "127.0.0.1"
_TIMEOUT_S = 3.0
_ES256 = ec.ECDSA(hashes.SHA256())
_CODES = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "f32": "f"}

Read = Callable[[], dict[int, Any]]
"""One meter's values by OBIS key."""

Words = Callable[[int, Request], bytes]
"""The words of one request to one unit."""


def readers(kind: str, model: str, port: int, units: Sequence[int]) -> list[Read]:
    """Functions that read the meters of one line."""
    meter_map = meters.map_of(model)
    if kind == "bus":
        bus = Bus(TcpEndpoint(HOST, port), [MeterConfig(f"meter-{unit}", meter_map, unit) for unit in units])
        return [_bus_reader(bus, f"meter-{unit}") for unit in units]
    requests = plan(meter_map, TCP_OVERHEAD_BYTES)
    take = _decoder(meter_map, requests)
    words = _wire_words(port) if kind == "wire" else _pymodbus_words(port)
    return [_by_words(words, requests, unit, take) for unit in units]


def _bus_reader(bus: Bus, name: str) -> Read:
    bus.identify(name)

    def read() -> dict[int, Any]:
        (made,) = bus.read(name, time.time_ns() // 1_000_000_000 * 1000)
        return {key: (value.mantissa, value.exponent) for key, value in made.values}

    return read


def _by_words(
    words: Words, requests: Sequence[Request], unit: int, take: Callable[[list[bytes]], dict[int, Any]]
) -> Read:
    return lambda: take([words(unit, request) for request in requests])


def _wire_words(port: int) -> Words:
    wire = Wire(TcpEndpoint(HOST, port))
    wire.open()
    return lambda unit, request: wire.read(unit, request, _TIMEOUT_S)


def _pymodbus_words(port: int) -> Words:
    client = ModbusTcpClient(HOST, port=port)
    client.connect()  # type: ignore[no-untyped-call]

    def words(unit: int, request: Request) -> bytes:
        ask: Any = client.read_input_registers if request.function == 4 else client.read_holding_registers
        registers = ask(request.address, count=request.count, device_id=unit).registers
        return struct.pack(f">{len(registers)}H", *registers)

    return words


def _decoder(meter_map: MeterMap, requests: Sequence[Request]) -> Callable[[list[bytes]], dict[int, Any]]:
    """What somebody would write for one model: unpack, multiply, done. Floats, no flags, no missing values."""
    steps = []
    for register in meter_map.registers:
        number, request = next(
            (number, one)
            for number, one in enumerate(requests)
            if one.function == register.function and one.address <= register.address < one.end
        )
        code = struct.Struct(">" + _CODES[register.type])
        factor = register.scale[0] * 10.0 ** register.scale[1]
        offset, swapped = 2 * (register.address - request.address), register.word_order == "little"
        steps.append((register.key, number, offset, code, factor, swapped and code.size == 4))

    def take(blocks: list[bytes]) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for key, number, offset, code, factor, swapped in steps:
            words = blocks[number][offset : offset + code.size]
            if swapped:
                words = words[2:] + words[:2]
            found[key] = code.unpack(words)[0] * factor
        return found

    return take


class Pipeline:
    """All meters of the run, and where their readings go."""

    def __init__(
        self, reads: Sequence[Read], key: ec.EllipticCurvePrivateKey, path: Path, publish: Callable[[bytes], int]
    ) -> None:
        self._reads = reads
        self._key = key
        self._publish = publish
        self._sql = sqlite3.connect(path, isolation_level=None)
        self._sql.execute("PRAGMA journal_mode = WAL").fetchall()
        self._sql.execute("PRAGMA synchronous = FULL")
        self._sql.execute("CREATE TABLE statement (number INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        self._sql.execute("CREATE TABLE sent (upto INTEGER NOT NULL)")
        self._number = 0
        self._unsent: list[bytes] = []
        self._under_way: dict[int, int] = {}
        self._acknowledged: list[int] = []

    def second(self) -> None:
        """Read every meter once, sign, and commit."""
        made = []
        for number, read in enumerate(self._reads):
            self._number += 1
            payload = cbor2.dumps({1: f"meter-{number:02}", 2: self._number, 3: time.time_ns() // 1_000_000, 4: read()})
            made.append((self._number, payload + self._key.sign(payload, _ES256)))
        self._sql.execute("BEGIN")
        self._sql.executemany("INSERT INTO statement VALUES (?, ?)", made)
        while self._acknowledged:
            upto = self._under_way.pop(self._acknowledged.pop(), None)
            if upto is not None:
                self._sql.execute("INSERT INTO sent VALUES (?)", (upto,))
        self._sql.execute("COMMIT")
        self._unsent += [data for _, data in made]

    def send(self) -> None:
        """Publish what was read since the last time."""
        self._under_way[self._publish(b"".join(self._unsent))] = self._number
        self._unsent.clear()

    def acknowledged(self, message: int) -> None:
        """The broker has it; called by paho's thread."""
        self._acknowledged.append(message)


def progress(store: Path) -> tuple[int, int]:
    """Measurements stored, and acknowledged by the broker, by a pipeline that runs."""
    sql = sqlite3.connect(store)
    try:
        query = "SELECT (SELECT max(number) FROM statement), (SELECT max(upto) FROM sent)"
        stored, sent = sql.execute(query).fetchone()
    finally:
        sql.close()
    return stored or 0, sent or 0


def _connected(port: int, ca: Path, certificate: Path, client_id: str) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(str(certificate), str(certificate.with_suffix(".key")))
    client.tls_set_context(context)
    client.connect(HOST, port, 30)
    client.loop_start()
    return client


@click.command(help=__doc__)
@click.argument("kind", type=click.Choice(READERS))
@click.argument("model")
@click.argument("count", type=int)
@click.argument("ports", type=int, nargs=-1)
@click.option("--broker", type=int, required=True, help="Port of the broker.")
@click.option("--ca", type=click.Path(path_type=Path), required=True)
@click.option("--certificate", type=click.Path(path_type=Path), required=True, help="PEM; the key lies beside it.")
@click.option("--topic", required=True)
@click.option("--store", type=click.Path(path_type=Path), required=True)
@click.option("--every-s", default=10, help="Seconds between two messages.")
def main(
    kind: str,
    model: str,
    count: int,
    ports: tuple[int, ...],
    broker: int,
    ca: Path,
    certificate: Path,
    topic: str,
    store: Path,
    every_s: int,
) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    key = serialization.load_pem_private_key(certificate.with_suffix(".key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise click.UsageError(f"{certificate}: no elliptic curve key")
    client = _connected(broker, ca, certificate, f"{certificate.stem}-{kind}")
    reads: list[Read] = []
    for number, port in enumerate(ports):
        on_this_line = len(range(count)[number :: len(ports)])
        reads += readers(kind, model, port, range(meters.UNIT, meters.UNIT + on_this_line))
    pipeline = Pipeline(reads, key, store, lambda data: client.publish(topic, data, qos=1).mid)
    client.on_publish = lambda _client, _data, message, _reason, _properties: pipeline.acknowledged(message)
    try:
        _run(pipeline, every_s)
    except KeyboardInterrupt:
        client.disconnect()


def _run(pipeline: Pipeline, every_s: int) -> None:
    slot = int(time.time()) + 1
    while True:
        time.sleep(max(0.0, slot - time.time()))
        pipeline.second()
        if slot % every_s == 0:
            pipeline.send()
        slot += 1


if __name__ == "__main__":
    main()
