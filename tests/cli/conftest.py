"""What the tests of the command line share: a way to run it, in this process and in one of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.map import load
from drivers.obis import pack
from drivers.reading import Reading, Status, exact
from edge import status as agent_status
from edge.cli.main import cli
from edge.spool import Spool
from hw_sim.authority import Authority, Issued
from signer.batch import Batch
from signer.bundle import Writer
from signer.chain import Chain, Descriptor
from signer.codes import ClockStatus
from signer.keys import open_key
from signer.keys.file import FileKey
from signer.receipt import check, issue
from signer.statement import Instant, Statement, stream_of
from signer.trust import Trust

TOP = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def problem(self) -> tuple[str, list[str]]:
        """The one ``error:`` message and its advice; nothing else may stand on standard error."""
        first, *more = self.err.splitlines()
        assert first.startswith("error: "), self.err
        assert all(line.startswith("  ") for line in more), self.err
        assert "Traceback" not in self.err
        return first.removeprefix("error: "), [line.removeprefix("  try: ") for line in more]


@pytest.fixture
def aigeco(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """``aigeco(*arguments)`` in this process."""
    monkeypatch.delenv("AIGECO_CONFIG", raising=False)

    def run(*arguments: object) -> Outcome:
        result = CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="aigeco")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def python() -> Callable[..., Outcome]:
    """``python(code, cwd)``: a program in a process of its own, with the project on its path and nothing else."""

    def run(code: str, cwd: Path | None = None) -> Outcome:
        command = [sys.executable, "-c", code]
        environment = {"PYTHONPATH": str(TOP), "PATH": "/usr/bin:/bin", "COLUMNS": "80"}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, timeout=60, env=environment, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway's folder as an operator would have set it up.

    Attributes:
        config: its aigeco.toml.
        issued: key and certificate of the gateway.
        authority: who issued them.
        organisations: MSP id -> its authority, whose root is pinned.
    """

    config: Path
    issued: Issued
    authority: Authority
    organisations: dict[str, Authority]

    @property
    def folder(self) -> Path:
        """Where all of it is."""
        return self.config.parent

    def change(self, old: str, new: str) -> None:
        """Change the configuration."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


CONFIG = """\
[gateway]
id = "home-1"

[key]
uri = "file:gateway.pem"
certificate = "gateway.crt"
ca = "gateways.pem"

[store]
path = "spool.db"

[measure]
period_s = 60

[[bus]]
name = "cellar"
tcp = "127.0.0.1:1502"

[[bus.meter]]
name = "house"
model = "eastron_sdm630"
unit = 1

[ledger]
organisations = { Org1MSP = "org1.pem" }
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A gateway ``home-1`` with one meter over TCP, nothing sent, everything in order."""
    folder = tmp_path / "site"
    folder.mkdir()
    authority, organisation = Authority("Operator"), Authority("Org1MSP")
    issued = authority.gateway("home-1")
    issued.write(folder / "gateway.pem", folder / "gateway.crt")
    (folder / "gateways.pem").write_bytes(authority.pem)
    (folder / "org1.pem").write_bytes(organisation.pem)
    config = folder / "aigeco.toml"
    config.write_text(CONFIG)
    return Site(config, issued, authority, {"Org1MSP": organisation})


MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gateway of ``site`` has in its spool, whose process is not running.

    Attributes:
        statements: in the order of their seq.
        committed: how many of them one receipt covers.
        receipt: that receipt, of Org1MSP.
        trust: the roots of the gateway and of the organisation.
        last_slot_ms: start of the last slot that was read.
    """

    statements: list[Statement]
    committed: int
    receipt: bytes
    trust: Trust
    last_slot_ms: int


@pytest.fixture
def evidence(site: Site) -> Evidence:
    """A start, ten good minutes, a failed one, two minutes of a signed gap; and three more that wait to be sent."""
    now_ms = time.time_ns() // 1_000_000
    first_ms = (now_ms // MINUTE_MS - 20) * MINUTE_MS
    chain = Chain("home-1", open_key("file:gateway.pem", site.folder), None, boot=1)

    def at(utc_ms: int) -> Instant:
        return Instant(utc_ms, utc_ms - first_ms + 60_000, ClockStatus.SYNCHRONISED, 3)

    def read(minute: int, status: Status | None = None) -> Statement:
        slot_ms = first_ms + minute * MINUTE_MS
        values = () if status else ((pack("1.8.0"), exact(9_123_510 + minute, 0)),)
        return chain.reading(Reading("house", slot_ms, status, values, 40), at(slot_ms + 500))

    der = (site.issued.certificate.public_bytes(Encoding.DER),)
    meter_map = load("eastron_sdm630")
    descriptor = Descriptor(MINUTE_MS, meter_map.digest, meter_map.name, 0, "2107345")
    made = [chain.genesis(at(first_ms), der), chain.boot_statement(at(first_ms), 1, 0)]
    made += [chain.descriptor("house", at(first_ms), descriptor)]
    made += [read(minute) for minute in range(10)] + [read(10, Status.TIMEOUT)]
    gap_ms = first_ms + 11 * MINUTE_MS
    made += [chain.gap("house", at(gap_ms + 2 * MINUTE_MS), 1, gap_ms, gap_ms + 2 * MINUTE_MS, 2)]
    committed = len(made)
    made += [read(minute) for minute in range(13, 16)]

    spool = Spool.open(site.folder / "spool.db", "home-1", now_ms)
    spool.append(made[:committed])
    batch = spool.next_batch()
    assert batch is not None
    receipt = issue_receipt(site.organisations["Org1MSP"], batch)
    trust = Trust((site.authority.certificate,), {"Org1MSP": (site.organisations["Org1MSP"].certificate,)})
    spool.settle(batch, [check(receipt, "home-1", batch, trust, None)])
    spool.append(made[committed:])
    spool.close("clean")
    return Evidence(made, committed, receipt, trust, first_ms + 15 * MINUTE_MS)


def issue_receipt(organisation: Authority, batch: Batch) -> bytes:
    """The organisation's receipt for a batch that its embedded ledger committed."""
    issued = organisation.receipts()
    der = (issued.certificate.public_bytes(Encoding.DER),)
    name = organisation.organisation
    return issue(FileKey(issued.key), der, name, "home-1", int(time.time()), batch, "embedded", 1, bytes(32))


@pytest.fixture
def told(site: Site) -> Callable[..., None]:
    """Writes what a running agent would tell; this process stands for it."""

    def tell(**changes: Any) -> None:
        document = {
            "version": agent_status.VERSION,
            "gateway": "home-1",
            "pid": os.getpid(),
            "clock": {"status": 2, "error_ms": 3},
            "sending": "waiting for statements",
            "meters": [{"name": "house", "bus": "cellar", "points": ["house"], "trouble": ""}],
            "alarms": [],
            "updated_ms": time.time_ns() // 1_000_000,
            "stopped": False,
        }
        agent_status.write(site.folder / "spool.db.status.json", {**document, **changes})

    return tell


@pytest.fixture
def bundle(evidence: Evidence, tmp_path: Path) -> Path:
    """The same evidence as an exported folder."""
    folder = tmp_path / "bundle"
    writer = Writer(folder)
    stream = stream_of(evidence.statements[0].sid)
    writer.add_stream("home-1", stream, ((each.seq, each.data) for each in evidence.statements), ())
    writer.add_receipts([evidence.receipt])
    writer.add_map("eastron_sdm630", load("eastron_sdm630").data)
    writer.finish(evidence.trust)
    return folder
