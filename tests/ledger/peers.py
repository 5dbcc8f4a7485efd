"""Ingestion peers as real processes against a real broker, and a gateway that sends to them."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hw_sim.authority import Authority
from ledger.cli.main import cli
from signer.batch import Batch
from signer.trust import Trust
from tests.broker import Broker
from tests.ledger.lines import Line
from uplink.delivery import MqttConfig, MqttUplink

COMMAND = [sys.executable, "-m", "ledger.cli.main"]
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


class PeerSite:
    """One organisation: configuration, keys and the processes on its ledger."""

    def __init__(self, directory: Path, broker: Broker, organisation: str = "Org1MSP") -> None:
        self.directory = directory
        self.organisation = organisation
        self.authority = broker.organisations[organisation]
        self.log = directory / "peer.log"
        self.config = directory / "peer.toml"
        self.ledger = directory / "ledger.db"
        self.processes: list[subprocess.Popen[bytes]] = []
        directory.mkdir()
        self.authority.receipts().write(directory / "receipts.key", directory / "receipts.pem")
        self.authority.organisation_client().write(directory / "tls.key", directory / "tls.pem")
        (directory / "gateways.pem").write_bytes(broker.site.pem)
        self.write(broker)

    def write(self, broker: Broker, **changes: str) -> None:
        """Write the configuration; ``changes`` replace lines by their key."""
        lines = {
            "organisation": f'organisation = "{self.organisation}"',
            "ledger": 'ledger = "ledger.db"',
            "receipts": '[receipts]\nkey = "file:receipts.key"\ncertificate = "receipts.pem"',
            "gateways": '[gateways]\nroots = ["gateways.pem"]',
            "mqtt": f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nca = "{broker.directory / "ca.pem"}"',
            "tls": 'certificate = "tls.pem"\nkey = "tls.key"',
        }
        self.config.write_text("\n".join((lines | changes).values()) + "\n")

    def run(self, *arguments: str, code: int = 0) -> Done:
        """Run one command to its end; in this process, but for ``run``, which sets signals."""
        words = ["--config", str(self.config), *arguments]
        if arguments[0] == "run":
            process = subprocess.run(
                [*COMMAND, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
            done = Done(process.returncode, process.stdout, process.stderr)
        else:
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
                cli.main(words, prog_name="aigeco-peer")
            done = Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())
        assert done.code == code, f"{arguments}: {done.code}\n{done.stdout}{done.stderr}"
        return done

    def show(self, what: str) -> list[dict[str, Any]]:
        """What ``show --json`` says."""
        rows: list[dict[str, Any]] = json.loads(self.run("show", what, "--json", "--last", "0", "--check").stdout)[what]
        return rows

    def start(self) -> subprocess.Popen[bytes]:
        """Start a peer."""
        with self.log.open("ab") as log:
            process = subprocess.Popen([*COMMAND, "--config", str(self.config), "run"], stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def wait_for(self, words: str, count: int = 1) -> None:
        """Wait until the log says so."""
        deadline = time.monotonic() + PATIENCE_S
        while self.log.read_text().count(words) < count:
            assert time.monotonic() < deadline, f"{words!r} not in:\n{self.log.read_text()}"
            time.sleep(0.02)

    def serve(self) -> subprocess.Popen[bytes]:
        """Start a peer and wait until it serves."""
        before = self.log.read_text().count("serving") if self.log.exists() else 0
        process = self.start()
        self.wait_for("serving", before + 1)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()


def line_of(broker: Broker, gateway: str) -> Line:
    """A gateway's chain, under the certificate authority of this broker's site, from now on."""
    line = Line(gateway, broker.site)
    line.certificate = broker.site.gateway(gateway, line.key).certificate
    line.start_ms = int(time.time() * 1000)
    return line


def uplink_of(
    broker: Broker, gateway: str, organisations: dict[str, Authority], alarms: list[str], k: int | None = None
) -> MqttUplink:
    """A gateway's uplink that trusts these organisations."""
    endpoint = broker.gateway(gateway)
    config = MqttConfig(
        endpoint.host, endpoint.port, gateway, ca=endpoint.ca, certificate=endpoint.certificate, key=endpoint.key
    )
    trust = Trust(organisations={name: (authority.certificate,) for name, authority in organisations.items()})
    return MqttUplink(config, trust, organisations, k or len(organisations), alarms.append)


def cut(line: Line, sizes: Sequence[int]) -> list[Batch]:
    """The line's statements in batches of these sizes."""
    made, first = [], 0
    for size in sizes:
        made.append(line.batch(first, size))
        first += size
    return made
