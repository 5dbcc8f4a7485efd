"""The demo: the main job on embedded parts, with the accidents of ten years in about a minute.

Three homes (an SDM630 and an inverter on one RS-485 line, an EM340 and a SunSpec inverter over TCP, the registers of a
real hybrid inverter), two gateways, a real mosquitto, two organisations. The broker goes away and comes back, a gateway
is killed and started again, a byte of the evidence is changed; the offline verifier has the last word.

Exit status 0 only if every check held. Run it with ``make demo``; ``--keep DIR`` chooses the folder.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_sim.lookout import Lookout
from hw_sim.screen import Screen, screen
from hw_sim.stage import HOST, ORGANISATIONS, Actor, Stage, StageProblem, command, free_port, wait_for_port
from hw_sim.tamper import change_a_value
from signer.codes import BootReason, GapReason, Kind
from signer.statement import Claims

GATEWAYS = ("gateway-1", "gateway-2")
PERIOD_S = 2
_DUMP = Path(__file__).parent.parent / "tests" / "data" / "dumps" / "goodwe_gw10k-et.yaml"
_LOOK_S = 0.5
# What was sent before an accident is sent again after a growing pause; longer than this is not patience but a fault.
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Times:
    """How long each part of the story is, seconds."""

    calm: float = 10.0
    without_broker: float = 8.0
    without_gateway: float = 5.0
    after: float = 8.0


class Demo:
    """One run."""

    def __init__(self, stage: Stage, view: Screen, times: Times) -> None:
        self.stage = stage
        self.view = view
        self.times = times
        self.held = True
        folder = stage.folder
        self.lookouts = [Lookout(gateway, folder / gateway / "spool.db") for gateway in GATEWAYS]
        self.trust = stage.write_trust()
        self.broker = stage.write_broker()
        self.peers = [stage.write_peer(organisation) for organisation in ORGANISATIONS]
        self.site, buses = _write_site(stage)
        self.gateways = [stage.write_gateway(name, buses[name], PERIOD_S) for name in GATEWAYS]

    def run(self) -> None:
        """Tell the story."""
        self._open()
        self._pass(self.times.calm)
        self._broker_away()
        self._gateway_killed()
        self._pass(self.times.after)
        self._close()
        self._verify()

    # ---- the chapters

    def _open(self) -> None:
        self.view.say("Three homes, two gateways, one broker, two organisations", "=")
        self.broker.start()
        self.site.start()
        wait_for_port(self.stage.port)
        self.view.say(f"mosquitto on {HOST}:{self.stage.port}: TLS 1.3, client certificates, access list")
        for organisation, peer in zip(ORGANISATIONS, self.peers, strict=True):
            for gateway in GATEWAYS:
                certificate = str(self.stage.folder / gateway / "signer.pem")
                arguments = ("gateways", "add", "--certificate", certificate)
                self._command("ledger.cli.main", self._peer_config(organisation), *arguments)
            peer.start()
            self.view.say(
                f"{organisation}: ingestion peer with its embedded ledger, {len(GATEWAYS)} gateways registered"
            )
        for actor in self.gateways:
            actor.start()
        self._until(lambda: all(one.committed for one in self.lookouts), "the first receipts of both organisations")

    def _broker_away(self) -> None:
        self.view.say("The broker goes away", "=")
        before = [one.stored for one in self.lookouts]
        self.broker.stop(signal.SIGKILL)
        self._pass(self.times.without_broker)
        waiting = sum(one.pending for one in self.lookouts)
        stored = sum(one.stored for one in self.lookouts) - sum(before)
        self._check(stored > 0, f"without a broker {stored} more statements were signed and stored; {waiting} wait")
        self.broker.start()
        self.view.say("the broker is back")
        goal = [one.stored for one in self.lookouts]
        settled = self._until(
            lambda: all(one.committed >= stored for one, stored in zip(self.lookouts, goal, strict=True)),
            "receipts for all that was stored meanwhile",
        )
        self._check(settled, "everything stored without the broker has the receipts of both organisations")

    def _gateway_killed(self) -> None:
        victim, lookout = self.gateways[0], self.lookouts[0]
        self.view.say(f"{victim.name} is killed with SIGKILL in the middle of its work", "=")
        boots = self._boots(lookout)
        victim.stop(signal.SIGKILL)
        # Two slots begin meanwhile; the later one may still be read after the start, the earlier one is lost.
        self._pass(max(self.times.without_gateway, 2 * PERIOD_S))
        victim.start()
        self.view.say(f"{victim.name} is started again")
        points = len(lookout.points)
        again = self._until(
            lambda: self._boots(lookout) > boots and len(self._all(lookout, Kind.GAP)) >= points,
            "its boot statement, and a gap for each of its measuring points",
        )
        missing = sum(claims.body[13][4] for claims in self._all(lookout, Kind.GAP))
        self._check(again, f"it went on in the same chain; what it missed is signed: {missing} readings in gaps")

    def _close(self) -> None:
        self.view.say("The day ends", "=")
        for actor in self.gateways:
            status = actor.stop()
            self._check(status == 0, f"{actor.name} ended cleanly on SIGTERM, exit status {status}")
        self._look()
        for actor in (*self.peers, self.broker, self.site):
            actor.stop()

    def _verify(self) -> None:
        self.view.say("The offline verifier has the last word", "=")
        for lookout in self.lookouts:
            self._verify_one(lookout)
        self._tamper(self.lookouts[0])

    def _verify_one(self, lookout: Lookout) -> None:
        evidence = self._evidence(lookout.gateway)
        self._command("edge.cli.main", self._gateway_config(lookout.gateway), "export", "--out", str(evidence))
        status, report = self._report(evidence)
        good = status == 0 and report["ok"] and report["statements"] == lookout.stored
        waiting = report["unreceipted"]
        self._check(
            good,
            f"{lookout.gateway}: {report['statements']} statements, chain and signatures whole, "
            f"every slot accounted for, none twice; {report['statements'] - waiting} receipted by "
            f"{' and '.join(ORGANISATIONS)}, {waiting} were stored last and wait",
        )
        for words in report["failures"]:
            self.view.say(str(words), "NO")
        for organisation in ORGANISATIONS:
            on_ledger = self._on_ledger(organisation, lookout.gateway)
            self._check(
                on_ledger == lookout.committed or lookout.committed <= on_ledger <= lookout.stored,
                f"{organisation}: {on_ledger} statements of {lookout.gateway} on its ledger, in one unbroken run",
            )

    def _tamper(self, lookout: Lookout) -> None:
        evidence, copy = self._evidence(lookout.gateway), self.stage.folder / "evidence" / "tampered"
        shutil.copytree(evidence, copy)
        change = change_a_value(copy / "statements.cborseq")
        self.view.say(f"in a copy, byte {change.offset} is changed: {change.words}")
        status, report = self._report(copy)
        found = [str(words) for words in report["failures"]]
        named = any(f"{change.seq}" in words for words in found)
        self._check(status != 0 and not report["ok"] and named, f"found and named: {found[0] if found else 'nothing'}")

    # ---- small steps

    def _pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._look()
            time.sleep(_LOOK_S)

    def _until(self, done: Callable[[], bool], what: str) -> bool:
        start = time.monotonic()
        while time.monotonic() < start + _PATIENCE_S:
            self._look()
            if done():
                self.view.say(f"{what}: after {time.monotonic() - start:.1f} s")
                return True
            time.sleep(_LOOK_S)
        self._check(False, f"{what}: not within {_PATIENCE_S:g} s")
        return False

    def _look(self) -> None:
        self.stage.check()
        for lookout in self.lookouts:
            lookout.look()
            for claims in lookout.take_news():
                words = _words(claims)
                if words:
                    self.view.say(f"{lookout.gateway} signed #{claims.seq}: {words}")
        self.view.show(self.lookouts, f"receipts needed: {len(ORGANISATIONS)}, of {' and '.join(ORGANISATIONS)}")

    def _check(self, held: bool, words: str) -> None:
        self.held = self.held and held
        self.view.say(words, "ok" if held else "NO")

    def _boots(self, lookout: Lookout) -> int:
        return len(self._all(lookout, Kind.BOOT))

    def _all(self, lookout: Lookout, kind: Kind) -> list[Claims]:
        return [claims for claims in lookout.story if claims.kind == kind]

    def _report(self, evidence: Path) -> tuple[int, dict[str, Any]]:
        arguments = ("verify", str(evidence), "--trust", str(self.trust), "--json")
        done = subprocess.run([*command("edge.cli.main"), *arguments], capture_output=True, text=True, check=False)
        if not done.stdout:
            raise StageProblem(f"aigeco verify said nothing, but: {done.stderr}")
        report: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, report

    def _on_ledger(self, organisation: str, gateway: str) -> int:
        shown = json.loads(
            self._command("ledger.cli.main", self._peer_config(organisation), "show", "--check", "--json")
        )
        return sum(one["seq"] + 1 for one in shown["streams"] if one["gateway"] == gateway)

    def _command(self, module: str, config: Path, *arguments: str) -> str:
        words = [*command(module), *arguments, "--config", str(config)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StageProblem(f"{' '.join(words[1:])}: exit status {done.returncode}\n{done.stderr}{done.stdout}")
        return done.stdout

    def _evidence(self, gateway: str) -> Path:
        return self.stage.folder / "evidence" / gateway

    def _gateway_config(self, gateway: str) -> Path:
        return self.stage.folder / gateway / "aigeco.toml"

    def _peer_config(self, organisation: str) -> Path:
        return self.stage.folder / organisation / "peer.toml"


def _write_site(stage: Stage) -> tuple[Actor, dict[str, str]]:
    """The simulated site's process, and the [[bus]] part of each gateway's configuration."""
    folder = stage.folder / "site"
    folder.mkdir()
    tcp = {name: free_port() for name in ("em340", "sunspec", "goodwe")}
    start = dt.datetime.now(dt.UTC).replace(hour=10, minute=30, second=0, microsecond=0)
    (folder / "site.toml").write_text(
        _SITE.format(start=start.strftime("%Y-%m-%dT%H:%M:%SZ"), host=HOST, dump=_DUMP, **tcp)
    )
    actor = stage.add("site", [*command("hw_sim.cli.main"), "site", "--plain", str(folder / "site.toml")])
    first = _BUSES_1.format(pty=folder / "rs485")
    return actor, {GATEWAYS[0]: first, GATEWAYS[1]: _BUSES_2.format(host=HOST, **tcp)}


_SITE = """\
seed = 7
[time]
start = {start}
speed = 30

[[home]]
name = "casa-1"
pv_kwp = 5.0
[[home]]
name = "casa-2"
pv_kwp = 4.0
[[home]]
name = "casa-3"

[[line]]
name = "rs485"
pty = "rs485"
baud = 9600
[[line.device]]
name = "casa-1-meter"
model = "eastron_sdm630"
unit = 1
home = "casa-1"
role = "grid"
[[line.device]]
name = "casa-1-inverter"
model = "huawei_sun2000"
unit = 2
home = "casa-1"
role = "pv"

[[line]]
name = "em340"
tcp = "{host}:{em340}"
[[line.device]]
name = "casa-2-meter"
model = "carlo_gavazzi_em330_em340"
unit = 1
home = "casa-2"
role = "grid"

[[line]]
name = "sunspec"
tcp = "{host}:{sunspec}"
[[line.device]]
name = "casa-2-inverter"
model = "sunspec_generic"
unit = 1
home = "casa-2"
role = "pv"

[[line]]
name = "goodwe"
tcp = "{host}:{goodwe}"
[[line.device]]
name = "casa-3-hybrid"
model = "goodwe_et"
unit = 247
dump = "{dump}"
"""

_BUSES_1 = """\
[[bus]]
name = "rs485"
serial = "{pty}"
baud = 9600
[[bus.meter]]
name = "casa-1-meter"
model = "eastron_sdm630"
unit = 1
role = "grid"
[[bus.meter]]
name = "casa-1-inverter"
model = "huawei_sun2000"
unit = 2
role = "generation"
"""

_BUSES_2 = """\
[[bus]]
name = "em340"
tcp = "{host}:{em340}"
[[bus.meter]]
name = "casa-2-meter"
model = "carlo_gavazzi_em330_em340"
unit = 1
role = "grid"
[[bus]]
name = "sunspec"
tcp = "{host}:{sunspec}"
[[bus.meter]]
name = "casa-2-inverter"
model = "sunspec_generic"
unit = 1
role = "generation"
[[bus]]
name = "goodwe"
tcp = "{host}:{goodwe}"
[[bus.meter]]
name = "casa-3"
model = "goodwe_et"
unit = 247
role = "generation"
"""


def _words(claims: Claims) -> str:
    """A statement of the gateway's own story, for people."""
    body = claims.body.get(13, {})
    if claims.kind == Kind.GENESIS:
        return "genesis: a new chain begins"
    if claims.kind == Kind.BOOT:
        return f"boot {claims.boot}, reason {BootReason(body[1]).name.lower()}"
    if claims.kind == Kind.GAP:
        return f"gap of {body[4]} readings of {claims.sub}, {GapReason(body[1]).name.lower().replace('_', ' ')}"
    if claims.kind == Kind.DESCRIPTOR:
        return f"{claims.sub} is a {body[3]}" + (f", serial number {body[5]}" if body[5] else ", serial number unknown")
    return f"{Kind(claims.kind).name.lower()}" if claims.kind in list(Kind) else f"kind {claims.kind}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description="The main job on embedded parts, in about a minute.")
    parser.add_argument("--keep", type=Path, default=Path("demo-run"), help="folder of the run, replaced (demo-run)")
    parser.add_argument("--seconds", type=float, default=1.0, help="stretch (2) or shorten (0.5) the story")
    options = parser.parse_args(arguments)
    folder = options.keep.absolute()
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "trust").is_dir():
            parser.error(f"{folder} is not the folder of an earlier run; choose another with --keep")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    times = Times(*(options.seconds * part for part in (10.0, 8.0, 5.0, 8.0)))
    view = screen()
    try:
        with Stage(folder, GATEWAYS) as stage:
            demo = Demo(stage, view, times)
            demo.run()
            held = demo.held
    except StageProblem as problem:
        view.say(str(problem), "NO")
        held = False
    except KeyboardInterrupt:
        view.close()
        print("stopped; every process of the demo has ended", file=sys.stderr)
        return 130
    view.say("all of it held" if held else "NOT all of it held", "ok" if held else "NO")
    view.close()
    print(f"\nevidence: {' and '.join(str(folder / 'evidence' / name) for name in GATEWAYS)}")
    print(f"try:      aigeco verify {folder / 'evidence' / GATEWAYS[0]} --trust {folder / 'trust'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
