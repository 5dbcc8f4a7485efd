"""``aigeco-peer run``: serve until told to stop. The process takes its turn, then works in one thread."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli import where
from ledger.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from ledger.commit import Intake
    from ledger.config import FabricConfig, PeerConfig
    from ledger.embedded import Issuer
    from signer.trust import Trust


@click.command("run", short_help="Serve until told to stop.")
@where.option
def command(config_path: Path | None) -> int:
    """Verify, commit and receipt the batches of all gateways, until SIGTERM or Ctrl-C.

    A second process on the same ledger waits, and takes over when the first one ends.
    """
    from ledger import config as configuration
    from ledger import garbage
    from ledger.lock import WriteLock
    from ledger.peer import Peer

    config = configuration.load(where.find(config_path))
    issuer, trust = configuration.gather(config, int(time.time()))
    stop, interrupted = _signals()
    garbage.spare()
    with WriteLock(config.fabric.state if config.fabric else config.file) as lock:
        if not _take_turn(lock, stop):
            return Exit.INTERRUPTED if interrupted.is_set() else Exit.OK
        with _opened(config, issuer, trust) as (ledger, chores):
            peer = Peer(ledger, issuer, config.endpoint, _log, chores)
            peer.run(stop)
    done = peer.counters
    _log(
        f"stopped: {done.committed} batches with {done.statements} statements committed,"
        f" {done.repeated} repeated, {done.refused} refused"
    )
    return Exit.INTERRUPTED if interrupted.is_set() else Exit.OK


@contextmanager
def _opened(config: PeerConfig, issuer: Issuer, trust: Trust) -> Iterator[tuple[Intake, Callable[[], None]]]:
    """The ledger that the configuration names, and what is to be done for it between messages."""
    if config.fabric:
        with _on_fabric(config, config.fabric, issuer) as intake:
            yield intake, lambda: None
        return
    from ledger.embedded import EmbeddedLedger, LedgerFile
    from ledger.requests import take_in

    file = LedgerFile(config.file, config.organisation)
    try:
        yield EmbeddedLedger(file, issuer, trust), lambda: take_in(file, _log)
    finally:
        file.close()


@contextmanager
def _on_fabric(config: PeerConfig, fabric: FabricConfig, issuer: Issuer) -> Iterator[Intake]:
    try:
        from ledger.fabric.connection import open_gateway
        from ledger.fabric.gateway import Deadlines
        from ledger.fabric.ingestion import FabricIntake
        from ledger.fabric.state import State
    except ModuleNotFoundError as error:
        words = f"a Fabric network needs the extra fabric: there is no {error.name}"
        raise Refused(words, Exit.CONFIG, "pip install aigeco-edge[fabric]") from error
    from ledger.fabric import profile as profiles

    profile = profiles.load(fabric.profile)
    gateway = open_gateway(profile, config.organisation, fabric.identity, Deadlines(evaluate_s=10.0))
    try:
        state = State(fabric.state, config.organisation, profile.channel)
        intake = FabricIntake(state, gateway.network(profile.channel), profile, issuer, _log)
        intake.start()
    except BaseException:
        gateway.close()
        raise
    try:
        yield intake
    finally:
        intake.close()


def _take_turn(lock: object, stop: threading.Event) -> bool:
    from ledger.lock import WriteLock

    assert isinstance(lock, WriteLock)
    waiting = False
    while not lock.take():
        if not waiting:
            _log(f"standing by: another process writes this ledger ({lock.path})")
            waiting = True
        if stop.wait(0.2):
            return False
    if waiting:
        _log("taking over")
    return True


def _signals() -> tuple[threading.Event, threading.Event]:
    """Set when the process is to stop; the second only when by Ctrl-C."""
    stop, interrupted = threading.Event(), threading.Event()

    def on_interrupt(*_: object) -> None:
        if stop.is_set():  # asked twice: at once; nothing is lost by it
            os._exit(Exit.INTERRUPTED)
        interrupted.set()
        stop.set()

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, on_interrupt)
    return stop, interrupted


def _log(words: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {words}", file=sys.stderr, flush=True)
