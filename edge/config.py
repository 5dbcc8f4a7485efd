"""The gateway's configuration: one TOML file, checked whole, as immutable data. docs/example.toml names every key.

Opens nothing but that file and the maps it names, of the catalogue or in files of one's own; whether ports, keys and
certificates are there is asked by :mod:`edge.environment`.

Rules
- All problems at once, each with its place (``bus[0].meter[1].unit``), the value, what is wrong and what to try.
- An unknown key is a problem: a setting that is misspelt must not silently be the default.
- Periods are whole seconds that divide an hour, so that every slot starts at the same minute and second of each hour.
- Paths are relative to the file.
- A file of an older shape is read as one of today (:mod:`edge.shape`).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from drivers import map as maps
from drivers.checks import Limits
from drivers.decode import Overrides
from drivers.line import Endpoint, SerialEndpoint, TcpEndpoint
from drivers.map import MapError, MeterMap
from drivers.reading import EXPONENT_RANGE
from drivers.table import Problem
from edge.section import Section
from edge.shape import up_to_date
from signer.codes import Role

_HOUR_S = 3600
_MOST_BUSES = 64
"""Lines of one gateway: each is a thread."""

_MOST_METERS = 247
"""Unit ids of one line (Modbus over serial line 1.02, section 2.2)."""

_UNKNOWN_UNIT = -1
"""Stands in for the usual unit id of a model that is not known."""

_BAUDS = ("1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200")
_LEAST_BUDGET_MB = 16  # the log alone may take 4 MB of it
_MEGABYTE = 1_000_000
_MODBUS_PORT = 502
_MQTT_PORT, _MQTTS_PORT = 1883, 8883


class ConfigError(Exception):
    """A configuration that cannot be used: whoever wrote it has to change it.

    Attributes:
        problems: everything that is wrong with it.
    """

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        count = f"{len(problems)} problems\n" if len(problems) > 1 else ""
        lines = (f"{problem}\n  try: {problem.advice}" if problem.advice else str(problem) for problem in problems)
        super().__init__(f"{path}: {count}" + "\n".join(lines))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter.

    Attributes:
        name: its name; the measuring point of a device with one.
        map: what its registers mean.
        unit: Modbus unit id.
        role: what it measures.
        period_ms: length of a slot.
        overrides: what is different at this installation.
        limits: what is known of its fuse and its voltage.
    """

    name: str
    map: MeterMap
    unit: int
    role: Role
    period_ms: int
    overrides: Overrides
    limits: Limits = field(default_factory=Limits)

    @property
    def subs(self) -> tuple[str, ...]:
        """Names of its measuring points, in the order of its map."""
        return self.map.subs(self.name)


@dataclass(frozen=True, slots=True)
class Bus:
    """One line and its meters.

    Attributes:
        name: for messages.
        endpoint: serial port or TCP connection.
        meters: in the order of the file.
    """

    name: str
    endpoint: Endpoint
    meters: tuple[Meter, ...]


@dataclass(frozen=True, slots=True)
class Mqtt:
    """The broker, and who we are there.

    Attributes:
        host, port: where it is.
        instance: number behind the client id.
        ca, certificate, key: PEM files; None with ``insecure``.
        insecure: plain MQTT.
        send_every_ms: how long statements are collected into one batch.
    """

    host: str
    port: int
    instance: int
    ca: Path | None
    certificate: Path | None
    key: Path | None
    insecure: bool
    send_every_ms: int


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    Attributes:
        path: the file.
        gateway: gateway id.
        key_uri: where the signing key is; relative places are seen from ``base``.
        certificate: PEM file of its certificate and chain.
        ca: PEM file of the root that issued it, None when not given.
        spool: the spool's file.
        budget_bytes: disk budget of the spool.
        settlement_period_ms: the longest period, and what the cadence falls to.
        buses: the lines.
        mqtt: None: nothing is sent.
        organisations: MSP id -> PEM file of its root.
        receipts: how many organisations settle a batch.
        digest: SHA-256 of the file's bytes, hexadecimal; empty when it was not read from one.
    """

    path: Path
    gateway: str
    key_uri: str
    certificate: Path
    ca: Path | None
    spool: Path
    budget_bytes: int
    settlement_period_ms: int
    buses: tuple[Bus, ...]
    mqtt: Mqtt | None
    organisations: Mapping[str, Path]
    receipts: int
    digest: str = field(default="", compare=False)

    @property
    def base(self) -> Path:
        """The folder that relative paths are seen from."""
        return self.path.parent

    @property
    def status_path(self) -> Path:
        """Where a running agent says how it is (edge/status.py)."""
        return self.spool.with_name(f"{self.spool.name}.status.json")


def load(path: Path) -> Config:
    """The configuration in a file.

    Raises:
        ConfigError: with all problems of the file.
    """
    try:
        data = path.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        words = (error.strerror or str(error)) if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError(path, [Problem("", "", words, "aigeco config check FILE")]) from None
    return replace(parse(text, path), digest=digest_of(data))


def digest_of(data: bytes) -> str:
    """What tells one file from another: SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parse(text: str, path: Path) -> Config:
    """The configuration that a file's text is.

    Raises:
        ConfigError: with all problems.
    """
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [Problem("", "", f"is no TOML: {error}", "compare with docs/example.toml")]) from None
    outdated = up_to_date(document)
    if outdated is not None:
        raise ConfigError(path, [outdated])
    problems: list[Problem] = []
    config = _read(Section(document, "", problems), path)
    if problems or config is None:
        raise ConfigError(path, problems)
    return config


def _read(top: Section, path: Path) -> Config | None:
    base = path.parent
    gateway = top.section("gateway", required=True)
    key = top.section("key", required=True)
    store, measure = top.section("store"), top.section("measure")
    settlement_s = _period(measure, "settlement_period_s", 900)
    organisations, receipts = _ledger(top, base)
    period_s = _period(measure, "period_s", 60)
    uri, certificate = key.text("uri"), key.text("certificate")
    config = Config(
        path=path,
        gateway=gateway.name("id"),
        key_uri=uri,
        certificate=base / certificate,
        ca=key.path("ca", base),
        spool=base / store.text("path", "spool.db"),
        budget_bytes=store.integer("budget_mb", _LEAST_BUDGET_MB, 1 << 20, 1024) * _MEGABYTE,
        settlement_period_ms=settlement_s * 1000,
        buses=_buses(top, base, period_s),
        mqtt=_mqtt(top, base, uri, base / certificate) if top.has("mqtt") else None,
        organisations=organisations,
        receipts=receipts,
    )
    top.know("mqtt")
    top.know("version")
    for section in (gateway, key, store, measure, top):
        section.close()
    if config.mqtt and not config.organisations:
        top.wrong("ledger", None, "is missing: nobody's receipts could settle what is sent", "see docs/example.toml")
    return config


def _period(section: Section, key: str, default_s: int) -> int:
    period_s = section.integer(key, 1, _HOUR_S, default_s)
    if _HOUR_S % period_s:
        near = min((n for n in range(1, _HOUR_S + 1) if _HOUR_S % n == 0), key=lambda n: abs(n - period_s))
        section.wrong(key, period_s, "does not divide an hour", f"{key} = {near}")
        return near  # what else it is the default of is not wrong
    return period_s


def _buses(top: Section, base: Path, period_s: int) -> tuple[Bus, ...]:
    sections = top.sections("bus", _MOST_BUSES)
    buses = [_bus(section, base, period_s) for section in sections]
    lines: dict[object, str] = {}
    names: dict[str, str] = {}
    points: dict[str, str] = {}
    for section, bus in zip(sections, buses, strict=True):
        line = bus.endpoint.path if isinstance(bus.endpoint, SerialEndpoint) else (bus.endpoint.host, bus.endpoint.port)
        key = "serial" if isinstance(bus.endpoint, SerialEndpoint) else "tcp"
        if not section.told("tcp"):  # also when neither is given
            section.once(key, line, str(bus.endpoint), lines, "put the meters of one line under one [[bus]]")
        if bus.name != str(bus.endpoint) or not section.told("tcp", "serial"):
            section.once("name", bus.name, bus.name, names, "give each line a name of its own")
        units: dict[int, str] = {}
        for number, meter in enumerate(bus.meters):
            place = Section({}, section.at(f"meter[{number}]"), section.problems)
            if meter.unit != _UNKNOWN_UNIT:
                place.once("unit", meter.unit, meter.unit, units, "give each device on one line a unit id of its own")
            for point in meter.subs:
                place.once("name", point, point, points, "give each meter a name of its own")
    return tuple(buses)


def _bus(section: Section, base: Path, period_s: int) -> Bus:
    meters = tuple(_meter(meter, base, period_s) for meter in section.sections("meter", _MOST_METERS))
    if not meters:
        section.wrong("meter", None, "a line without meters", "add a [[bus.meter]] below it")
    endpoint = _endpoint(section, base, meters[0].map if meters else None)
    bus = Bus(section.text("name", str(endpoint)), endpoint, meters)
    section.close()
    return bus


def _endpoint(section: Section, base: Path, meter_map: MeterMap | None) -> Endpoint:
    if section.has("tcp") == section.has("serial"):
        words = "both a TCP connection and a serial port" if section.has("tcp") else "neither tcp nor serial is given"
        section.wrong("tcp", None, words, 'tcp = "192.168.1.20:502", or serial = "/dev/serial/by-id/..."')
    if section.has("tcp"):
        section.take("serial")
        usual = meter_map.tcp.port if meter_map and meter_map.tcp else _MODBUS_PORT
        host, port = section.address("tcp", usual)
        return TcpEndpoint(host, port, section.choice("framing", ("tcp", "rtu"), "tcp"))
    defaults = meter_map.serial if meter_map else None
    path = section.text("serial") if section.has("serial") else ""
    if path and not path.startswith("/"):
        path = str((base / path).absolute())
    baud, parity = (str(defaults.baud), defaults.parity) if defaults else ("9600", "N")
    return SerialEndpoint(
        path,
        int(section.number_choice("baud", _BAUDS, baud)),
        section.choice("parity", ("N", "E", "O"), parity),
        section.integer("stopbits", 1, 2, defaults.stopbits if defaults else 1),
    )


def _meter(section: Section, base: Path, period_s: int) -> Meter:
    name = section.name("name")
    meter_map = _map(section, base)
    defaults = meter_map.serial or meter_map.tcp
    usual = defaults.unit if defaults else None
    guessed = section.told("model") and not section.has("unit")
    unit = section.integer("unit", 0, 255, _UNKNOWN_UNIT if guessed else usual)
    role = section.choice("role", [role.name.lower() for role in Role], "grid")
    own_s = _period(section, "period_s", period_s)
    overrides = Overrides(
        word_order=section.choice("word_order", ("big", "little")) if section.has("word_order") else None,
        invert=section.flag("invert"),
        ratio=section.scale("ratio", (1, 0), EXPONENT_RANGE) if section.has("ratio") else None,
        scale=section.scale("scale", (1, 0), EXPONENT_RANGE) if section.has("scale") else None,
    )
    limits = Limits(
        current_a=section.optional("rated_current", 1, 10_000), voltage_v=section.optional("nominal_voltage", 50, 1000)
    )
    for known in ("word_order", "ratio", "scale"):
        section.know(known)
    section.close()
    return Meter(name, meter_map, unit, Role[role.upper()], own_s * 1000, overrides, limits)


def _map(section: Section, base: Path) -> MeterMap:
    model = section.text("model")
    try:
        return maps.load(model, base)
    except MapError as error:
        if model:
            for problem in error.problems:
                place = f"{problem.place}: " if problem.place else ""
                section.wrong("model", model, f"{place}{problem.words}", problem.advice)
        return maps.load(maps.names()[0])  # a stand-in, so that the rest is checked too


def _mqtt(top: Section, base: Path, uri: str, certificate: Path) -> Mqtt | None:
    section = top.section("mqtt")
    insecure = section.flag("insecure")
    host = section.text("host")
    port = section.integer("port", 1, 65535, _MQTT_PORT if insecure else _MQTTS_PORT)
    instance = section.integer("instance", 1, 999, 1)
    send_every_s = section.integer("send_every_s", 1, _HOUR_S, 10)
    own_key = base / uri.removeprefix("file:") if uri.startswith("file:") else None
    files = {name: section.path(name, base) for name in ("ca", "certificate", "key")}
    section.close()
    if insecure:
        return Mqtt(host, port, instance, None, None, None, True, send_every_s * 1000)
    if files["ca"] is None:
        advice = 'ca = "trust/broker.pem", or insecure = true for a plain connection on a closed network'
        section.wrong("ca", None, "is missing: whose broker is it?", advice)
    if files["key"] is None and own_key is None and uri:
        section.wrong("key", None, "is missing: the signing key is no file that TLS could use", 'key = "keys/tls.pem"')
    if port == _MQTT_PORT:
        section.wrong("port", port, "is the port of plain MQTT", "port = 8883, or insecure = true on a closed network")
    ca, own, key = files["ca"], files["certificate"] or certificate, files["key"] or own_key
    return Mqtt(host, port, instance, ca, own, key, False, send_every_s * 1000)


def _ledger(top: Section, base: Path) -> tuple[dict[str, Path], int]:
    section = top.section("ledger")
    organisations = section.named_paths("organisations", base)
    count = len(organisations)
    receipts = section.integer("receipts", 1, 1000, max(count, 1))
    if receipts > count > 0:
        words = f"more than there are organisations ({count})"
        section.wrong("receipts", receipts, words, f"receipts = {count}, or name another organisation")
    section.close()
    return organisations, receipts
