"""A gateway's folder for tests: keys, certificates and configuration as an operator would have made them, and ledgers.

The ledgers are the real embedded ones, one organisation each, behind an uplink that has no line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from drivers import map as maps
from edge import config
from edge.config import Config
from edge.environment import load_trust
from edge.identity import Identity, load_identity
from hw_sim.authority import Authority
from hw_sim.device import MapDevice
from hw_sim.faults import Fault
from hw_sim.readback import shown
from hw_sim.station import Station
from hw_sim.wire import Wire
from ledger.commit import Submission
from ledger.embedded import EmbeddedLedger, Issuer, LedgerFile
from ledger.rules.measurements import Gateway, Refused
from ledger.rules.measurements import Stream as LedgerStream
from signer import batch as batches
from signer.batch import Batch
from signer.dialogue import Hello, LedgerHead, Refusal, RefusalReason, check_head, issue_head
from signer.keys.file import FileKey
from signer.receipt import Receipt, check
from signer.trust import Trust
from uplink import delivery
from uplink.errors import BrokerAway

ORGANISATIONS = ("Org1MSP", "Org2MSP")
MODEL = "carlo_gavazzi_em330_em340"


def make_folder(folder: Path, gateway: str = "home-1", organisations: Sequence[str] = ORGANISATIONS) -> None:
    """Keys, certificates and roots of a gateway and its organisations."""
    for name in ("keys", "trust", "ledgers"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    site = Authority("Site")
    site.gateway(gateway).write(folder / "keys/gateway.pem", folder / "keys/gateway.crt")
    (folder / "trust/gateways.pem").write_bytes(site.pem)
    for name in organisations:
        authority = Authority(name)
        (folder / f"trust/{name}.pem").write_bytes(authority.pem)
        authority.receipts().write(folder / f"ledgers/{name}.key", folder / f"ledgers/{name}.crt")


def write_config(folder: Path, buses: str = "", more: str = "", gateway: str = "home-1") -> Config:
    """The configuration file, and what it says; ``more`` comes before the buses."""
    roots = ", ".join(f'{name} = "trust/{name}.pem"' for name in ORGANISATIONS)
    text = f"""
[gateway]
id = "{gateway}"
[key]
uri = "file:keys/gateway.pem"
certificate = "keys/gateway.crt"
ca = "trust/gateways.pem"
[ledger]
organisations = {{ {roots} }}
{more or "[measure]" + chr(10) + "period_s = 1"}
{buses}
"""
    (folder / "aigeco.toml").write_text(text)
    return config.load(folder / "aigeco.toml")


def bus_toml(port: int, *meters: str, period_s: int = 1) -> str:
    """A TCP bus with EM340 meters of units 1, 2, ..."""
    lines = [f'[[bus]]\ntcp = "127.0.0.1:{port}"']
    for unit, name in enumerate(meters, 1):
        lines.append(f'[[bus.meter]]\nname = "{name}"\nmodel = "{MODEL}"\nunit = {unit}\nperiod_s = {period_s}')
    return "\n".join(lines)


def identity_of(settings: Config) -> Identity:
    """The gateway's key and certificate."""
    identity, wrong, _ = load_identity(settings)
    assert identity is not None, wrong
    return identity


class Meters:
    """Meters on one TCP port, units 1, 2, ...; in ``with``."""

    def __init__(self, count: int = 1, faults: Sequence[Fault] = (), model: str = MODEL) -> None:
        meter_map = maps.load(model)
        points = shown(meter_map)
        self.wire = Wire()
        self._on = False
        self.devices = [
            MapDevice(meter_map, lambda at_s: points, serial=f"1000000{unit}") for unit in range(1, count + 1)
        ]
        self.stations = [Station(f"m{unit}", unit, device, 0.0, faults) for unit, device in enumerate(self.devices, 1)]
        self.port = self.wire.tcp("127.0.0.1", 0, self.stations).port

    def exchange(self, index: int, serial: str) -> None:
        """Put another meter of the same model in a meter's place."""
        old = self.devices[index]
        self.devices[index] = MapDevice(old.map, lambda at_s: old.shown or {}, serial=serial)
        self.stations[index]._device = self.devices[index]

    def __enter__(self) -> Meters:
        self.wire.start()
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Switch them all off. May be called twice."""
        if self._on:
            self._on = False
            self.wire.close()


def open_ledgers(folder: Path, gateway: str = "home-1", organisations: Sequence[str] = ORGANISATIONS) -> Ledgers:
    """The embedded ledgers in a folder, made when they are not there; the gateway is registered in all of them."""
    root = x509.load_pem_x509_certificate((folder / "trust/gateways.pem").read_bytes())
    digest = sha256(root.public_bytes(Encoding.DER)).digest()
    trust = Trust(gateways=(root,))
    ledgers = {}
    for name in organisations:
        key = load_pem_private_key((folder / f"ledgers/{name}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        certificate = x509.load_pem_x509_certificate((folder / f"ledgers/{name}.crt").read_bytes())
        issuer = Issuer(name, FileKey(key), (certificate.public_bytes(Encoding.DER),))
        file = LedgerFile(folder / f"ledgers/{name}.db", name)
        file.register(Gateway(gateway, digest))
        ledgers[name] = Organisation(EmbeddedLedger(file, issuer, trust), issuer)
    return Ledgers(gateway, ledgers)


@dataclass
class Organisation:
    """One organisation's ledger, and whether it answers.

    Attributes:
        deaf: it hears nothing.
        mute: it commits, and its receipts are lost.
    """

    ledger: EmbeddedLedger
    issuer: Issuer
    deaf: bool = False
    mute: bool = False

    def stream(self, stream: bytes) -> LedgerStream | None:
        return self.ledger.file.stream(stream)


@dataclass
class Ledgers:
    """All organisations."""

    gateway: str
    organisations: dict[str, Organisation]

    def close(self) -> None:
        for organisation in self.organisations.values():
            organisation.ledger.file.close()


@dataclass
class DirectUplink:
    """An uplink without a line: deliver and commit have one shape.

    Attributes:
        away: the broker cannot be reached.
        sent: (stream, first, count, root) of every batch that went out.
        before: called before each delivery, to make things happen.
    """

    ledgers: Ledgers
    trust: Trust
    k: int = len(ORGANISATIONS)
    away: bool = False
    sent: list[tuple[bytes, int, int, bytes]] = field(default_factory=list)
    hellos: list[Hello] = field(default_factory=list)
    strangers: list[tuple[str, Refusal]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def deliver(self, batch: Batch, timeout_s: float) -> tuple[Receipt, ...]:
        self._line()
        self.before()
        self.sent.append((batch.stream, batch.first, batch.count, batch.root))
        receipts: list[Receipt] = []
        refusals: list[tuple[str, Refusal]] = []
        parsed, claims = batches.parse(batch.data)
        for name, organisation in self.ledgers.organisations.items():
            if organisation.deaf:
                continue
            (outcome,) = organisation.ledger.submit([Submission(self.ledgers.gateway, parsed, claims)])
            if isinstance(outcome, Refused):
                said = Refusal(outcome.reason, batch.stream, batch.root, outcome.seq, outcome.sid, outcome.words)
                refusals.append((name, said))
            elif not organisation.mute:
                receipts.append(check(outcome.receipt, self.ledgers.gateway, batch, self.trust, None))
        if len(receipts) < self.k and len(self.ledgers.organisations) - len(refusals) < self.k:
            raise delivery.Refused(tuple(refusals), tuple(receipts))
        return tuple(receipts)

    def heads(self, hello: Hello, timeout_s: float) -> tuple[LedgerHead, ...]:
        self._line()
        self.hellos.append(hello)
        self.strangers.clear()
        found = []
        for name, organisation in self.ledgers.organisations.items():
            if organisation.deaf:
                continue
            if organisation.ledger.position(self.ledgers.gateway, hello.stream)[0] is None:
                words = f"gateway {self.ledgers.gateway} is not registered"
                refusal = Refusal(RefusalReason.UNKNOWN_GATEWAY, hello.stream, bytes(32), words=words)
                self.strangers.append((name, refusal))
                continue
            stream = organisation.stream(hello.stream)
            seq, sid = (stream.seq, stream.head) if stream else (None, None)
            issuer = organisation.issuer
            now_s = int(time.time())
            data = issue_head(issuer.key, issuer.certificates, name, self.ledgers.gateway, now_s, hello, seq, sid)
            found.append(check_head(data, self.ledgers.gateway, hello, self.trust))
        return tuple(found)

    def refusals(self) -> tuple[tuple[str, Refusal], ...]:
        return tuple(self.strangers)

    def late(self) -> tuple[Receipt, ...]:
        return ()

    def close(self) -> None:
        pass

    def _line(self) -> None:
        if self.away:
            raise BrokerAway("127.0.0.1:8883 cannot be reached: this is a test")


def direct(settings: Config, ledgers: Ledgers) -> DirectUplink:
    """An uplink to ledgers, as a gateway with this configuration sees them."""
    return DirectUplink(ledgers, load_trust(settings)[0])
