"""A town for tests: broker, organisations' peers, gateways and their meters, each a process as an operator runs it.

Rules
- Nothing is faked between the meters and the ledgers; what a test looks at are files, as a bystander would.
- A test waits for what it needs to see, never for a time. Patience only runs out when something is wrong, and then the
  words say what was last seen.
"""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding

from edge.cli.main import cli
from edge.database import SpoolProblem
from edge.spool_read import Counts, SpoolReader
from edge.status import read as read_status
from hw_sim.stage import HOST, ORGANISATIONS, Actor, Stage, command, free_port, wait_for_port
from ledger.embedded import LedgerFile, SeenFork
from ledger.rules import Gateway, Stream
from signer import batch as batches
from signer.codes import Kind
from signer.statement import Claims, parse
from signer.trust import load_pem

PATIENCE_S = 90.0
"""Far more than anything here takes; a lost batch alone is sent again after 19 s."""

_LOOK_S = 0.05
_Found = TypeVar("_Found")


def until(done: Callable[[], _Found], last_seen: Callable[[], object], stage: Stage) -> _Found:
    """Wait until ``done`` gives something true, and return that; not any longer when a process has ended by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := done()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s; last seen: {last_seen()}"
        stage.check()
        time.sleep(_LOOK_S)
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """A line of meters.

    Attributes:
        meters: (name, model, unit).
        baud: of a serial line; None: TCP.
    """

    name: str
    meters: tuple[tuple[str, str, int], ...]
    baud: int | None = None

    def write(self, folder: Path) -> tuple[str, str]:
        """Its part of the simulated site's file, and of the gateway's configuration; ``folder``: of the site."""
        place = f"{HOST}:{free_port()}" if self.baud is None else str(folder / self.name)
        kinds = ("tcp", "tcp") if self.baud is None else ("pty", "serial")
        site, gateway = ([head, f'name = "{self.name}"'] for head in ("[[line]]", "[[bus]]"))
        for lines, kind, below in ((site, kinds[0], "line.device"), (gateway, kinds[1], "bus.meter")):
            lines.append(f'{kind} = "{place}"')
            lines += [f"baud = {self.baud}"] if self.baud else []
            for name, model, unit in self.meters:
                lines += [f"[[{below}]]", f'name = "{name}"', f'model = "{model}"', f"unit = {unit}"]
        return "\n".join(site) + "\n", "\n".join(gateway) + "\n"


def one_meter(gateway: str) -> tuple[Line, ...]:
    """The least a gateway needs."""
    return (Line(gateway, ((f"{gateway}-meter", "eastron_sdm120", 1),)),)


@dataclass(slots=True)
class Home:
    """One gateway: its folder and its process.

    Attributes:
        store: the spool's file, seen from the folder.
    """

    gateway: str
    folder: Path
    actor: Actor
    stage: Stage
    store: str = "spool.db"

    @property
    def config(self) -> Path:
        return self.folder / "aigeco.toml"

    @property
    def spool(self) -> Path:
        return self.folder / self.store

    def edit(self, old: str, new: str) -> None:
        """Change the configuration, before the start."""
        text = self.config.read_text()
        assert text.count(old) == 1, f"{old!r} in:\n{text}"
        self.config.write_text(text.replace(old, new))

    def until(self, done: Callable[[], _Found]) -> _Found:
        """Wait until ``done`` gives something true, and return that."""
        return until(done, lambda: f"{self.gateway}: {self.counts()}, {self.alarms()}\n{self.log()}", self.stage)

    def log(self) -> str:
        """What the process has said."""
        return log_of(self.actor)

    def told(self) -> dict[str, Any]:
        """The running agent's word about itself."""
        return read_status(self.spool.with_name(f"{self.spool.name}.status.json")) or {}

    def alarms(self) -> list[str]:
        """What it thinks somebody should look at."""
        return list(self.told().get("alarms", ()))

    def alarm(self, *words: str) -> str:
        """Wait for the alarm with all these words."""

        def found() -> str:
            return next((alarm for alarm in self.alarms() if all(word in alarm for word in words)), "")

        return self.until(found)

    def says(self, *words: str) -> str:
        """Wait for the line of the log with all these words."""

        def found() -> str:
            return next((line for line in self.log().splitlines() if all(word in line for word in words)), "")

        return self.until(found)

    def shown(self) -> dict[str, Any]:
        """What ``aigeco status --json`` shows."""
        code, out, err = aigeco("status", "--json", "--config", str(self.config))
        assert code == 0, err
        shown: dict[str, Any] = json.loads(out)
        return shown

    @contextmanager
    def reading(self, path: Path | None = None) -> Iterator[SpoolReader]:
        """The spool, or another one, for a look."""
        reader = SpoolReader.read(path or self.spool)
        try:
            yield reader
        finally:
            reader.close()

    def counts(self) -> Counts:
        """Where its statements are; nothing yet when the spool is just being made."""
        try:
            with self.reading() as reader:
                return reader.counts()
        except SpoolProblem:
            return Counts(0, 0, 0)

    def claims(self, path: Path | None = None) -> dict[bytes, list[Claims]]:
        """stream id -> the statements that are there."""
        with self.reading(path) as reader:
            return {
                stream.id: [reader.claims(message) for _, message in reader.statements(stream.number)]
                for stream in reader.streams()
            }

    def stores(self, more: int) -> None:
        """Wait until it has stored so many more statements."""
        goal = self.counts().stored + more
        self.until(lambda: self.counts().stored >= goal)

    def has_read(self, least: int, good: bool = True) -> None:
        """Wait until it has stored so many readings, with values or without."""

        def count() -> int:
            try:
                every = [claims for stream in self.claims().values() for claims in stream]
            except SpoolProblem:
                return 0
            return sum(claims.kind == Kind.READING and bool(claims.values) == good for claims in every)

        self.until(lambda: count() >= least)

    def settles(self) -> None:
        """Wait until what is stored now is committed."""
        self.until(lambda: self.counts().stored > 0)
        goal = self.counts().stored
        self.until(lambda: self.counts().committed >= goal)

    def start(self) -> None:
        self.actor.start()

    def stop(self) -> None:
        """End it as an operator does."""
        status = self.actor.stop()
        assert status == 0, f"{self.gateway} ended with {status}\n{self.log()}"


class Town:
    """All of it on one stage.

    Attributes:
        folder: where everything is.
        trust: anchors as an auditor has them.
        homes: gateway id -> its home.
        peers: organisation -> its ingestion peer.
    """

    def __init__(
        self,
        stage: Stage,
        gateways: Mapping[str, tuple[Line, ...]],
        peers: Iterable[str] = ORGANISATIONS,
        settling: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Write everything down.

        Args:
            peers: organisations that have a peer here.
            settling: gateway -> whose receipts settle its batches; those with a peer otherwise.
        """
        self.stage = stage
        self.folder = stage.folder
        self.trust = stage.write_trust()
        self.broker = stage.write_broker()
        self.peers = {name: stage.write_peer(name) for name in peers}
        site = self.folder / "site"
        site.mkdir()
        written = {name: [line.write(site) for line in lines] for name, lines in gateways.items()}
        lines = "".join(part for parts in written.values() for part, _ in parts)
        (site / "site.toml").write_text(f'seed = 7\n[[home]]\nname = "home"\npv_kwp = 5.0\n{lines}')
        words = [*command("hw_sim.cli.main"), "site", "--plain", str(site / "site.toml")]
        self.site = stage.add("site", words)
        settling = settling or {}
        self.homes = {
            name: self._home(name, "".join(bus for _, bus in parts), settling.get(name, self.peers))
            for name, parts in written.items()
        }

    def _home(self, gateway: str, buses: str, organisations: Iterable[str]) -> Home:
        actor = self.stage.write_gateway(gateway, buses, 1, organisations)
        home = Home(gateway, self.folder / gateway, actor, self.stage)
        home.edit("send_every_s = 2", "send_every_s = 1")
        return home

    def open(self, pinned: bool = True) -> None:
        """Start everything but the gateways; ``pinned``: each gateway with the one certificate it has."""
        for organisation in self.peers:
            self.register(organisation, pinned)
        for actor in (self.broker, self.site, *self.peers.values()):
            actor.start()
        wait_for_port(self.stage.port)
        for peer in self.peers.values():
            self.says(peer, "serving")
        self.says(self.site, "ready")

    def says(self, actor: Actor, words: str) -> None:
        """Wait until a process has said so."""
        until(lambda: words in log_of(actor), lambda: log_of(actor), self.stage)

    def register(self, organisation: str, pinned: bool) -> None:
        """Put the gateways into an organisation's registry, as ``aigeco-peer gateways add`` does before the start."""
        file = LedgerFile(self.ledger_path(organisation), organisation)
        try:
            for home in self.homes.values():
                der = load_pem(home.folder / "signer.pem")[0].public_bytes(Encoding.DER)
                file.register(Gateway(home.gateway, certificate=sha256(der).digest() if pinned else None))
        finally:
            file.close()

    def close(self) -> None:
        """End everything at once: how processes end is not what is tested where this is used."""
        for actor in self.stage.actors:
            actor.expected_to_run = False
            if actor.process is not None and actor.process.poll() is None:
                actor.process.send_signal(signal.SIGKILL)

    # ---- the ledgers

    def ledger_path(self, organisation: str) -> Path:
        return self.folder / organisation / "ledger.db"

    @contextmanager
    def ledger(self, organisation: str) -> Iterator[LedgerFile]:
        """An organisation's ledger, for a look."""
        file = LedgerFile(self.ledger_path(organisation), organisation, read_only=True)
        try:
            yield file
        finally:
            file.close()

    def streams(self, organisation: str, gateway: str) -> list[Stream]:
        """What an organisation's ledger holds of a gateway, the oldest first."""
        with self.ledger(organisation) as file:
            return [stream for stream in file.streams() if stream.gateway == gateway]

    def forks(self, organisation: str, gateway: str) -> list[SeenFork]:
        """The forks of a gateway that an organisation's ledger has recorded."""
        with self.ledger(organisation) as file:
            streams = {stream.stream for stream in file.streams() if stream.gateway == gateway}
            return [seen for seen in file.forks() if seen.fork.stream in streams]

    def on_ledger(self, organisation: str) -> dict[bytes, list[bytes]]:
        """stream id -> the statements committed, in their order; no place is empty and none is taken twice."""
        found: dict[bytes, list[bytes]] = {}
        with self.ledger(organisation) as file:
            file.check_chain()
            for commit in file.commits():
                batch, _ = batches.parse(file.content(commit.block)[0])
                before = found.setdefault(batch.stream, [])
                assert batch.first == len(before), f"{organisation}, block {commit.block} begins at {batch.first}"
                before += batch.statements
        for stream, statements in found.items():
            sids = {parse(data).sid for data in statements}
            assert len(sids) == len(statements), f"{organisation}: a statement of {stream.hex()} comes twice"
        return found

    # ---- the auditor

    def evidence(self, home: Home, name: str, config: Path | None = None) -> dict[str, Any]:
        """Export what a gateway has, and the verifier's report on it by anchors from elsewhere."""
        out = self.folder / "evidence" / name
        code, _, err = aigeco("export", "--out", str(out), "--config", str(config or home.config))
        assert code == 0, err
        return self.verdict(out)[1]

    def verdict(self, folder: Path) -> tuple[int, dict[str, Any]]:
        """Exit code and report of ``aigeco verify``."""
        code, out, err = aigeco("verify", str(folder), "--trust", str(self.trust), "--json")
        assert out, err
        report: dict[str, Any] = json.loads(out)
        assert report["trust"] == "external"
        assert report["ok"] == (code == 0)
        return code, report


def aigeco(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(list(arguments), prog_name="aigeco")
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def check_holds(report: dict[str, Any], statements: int | None = None) -> None:
    """The verifier found nothing wrong, and every slot of every point is accounted for."""
    assert report["ok"], report["failures"]
    assert report["slots"], "no slots at all"
    for point, slots in report["slots"].items():
        assert slots["missing"] == 0, f"{point}: {slots}"
        assert slots["expected"] == slots["read"] + slots["failed"] + slots["gap"], f"{point}: {slots}"
    if statements is not None:
        assert report["statements"] == statements


def check_slots(claims: Iterable[Claims]) -> None:
    """Every slot of every point once, by a reading or a gap: the verifier's word, found another way."""
    spans: dict[str, list[tuple[int, int]]] = {}
    periods: dict[str, int] = {}
    for claim in claims:
        body = claim.body.get(13, {})
        if claim.kind == Kind.DESCRIPTOR:
            periods[claim.sub] = body[1]
        elif claim.kind == Kind.GAP:
            assert body[4] * periods[claim.sub] == body[3] - body[2], f"{claim.sub}, seq {claim.seq}: {body}"
            spans.setdefault(claim.sub, []).append((body[2], body[3]))
        elif claim.kind == Kind.READING:
            assert claim.slot_ms is not None
            spans.setdefault(claim.sub, []).append((claim.slot_ms, claim.slot_ms + periods[claim.sub]))
    assert spans
    for sub, found in spans.items():
        for (_, end), (begin, _) in pairwise(found):
            assert begin == end, f"{sub}: {end} is followed by {begin}"


def log_of(actor: Actor) -> str:
    """What a process has said so far."""
    return actor.log.read_text() if actor.log.exists() else ""
