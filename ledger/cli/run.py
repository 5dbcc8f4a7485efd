"""``aigeco-peer run``: serve until told to stop. The process takes its turn, then works in one thread."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import click

from ledger.cli import where
from ledger.cli.exits import Exit


@click.command("run", short_help="Serve until told to stop.")
@where.option
def command(config_path: Path | None) -> int:
    """Verify, commit and receipt the batches of all gateways, until SIGTERM or Ctrl-C.

    A second process on the same ledger waits, and takes over when the first one ends.
    """
    from ledger import config as configuration
    from ledger import garbage
    from ledger.embedded import EmbeddedLedger, LedgerFile
    from ledger.lock import WriteLock
    from ledger.peer import Peer
    from ledger.requests import take_in

    config = configuration.load(where.find(config_path))
    issuer, trust = configuration.gather(config, int(time.time()))
    stop, interrupted = _signals()
    garbage.spare()
    with WriteLock(config.file) as lock:
        if not _take_turn(lock, stop):
            return Exit.INTERRUPTED if interrupted.is_set() else Exit.OK
        file = LedgerFile(config.file, config.organisation)
        try:
            ledger = EmbeddedLedger(file, issuer, trust)
            peer = Peer(ledger, issuer, config.endpoint, _log, lambda: take_in(file, _log))
            peer.run(stop)
        finally:
            file.close()
    done = peer.counters
    _log(
        f"stopped: {done.committed} batches with {done.statements} statements committed,"
        f" {done.repeated} repeated, {done.refused} refused"
    )
    return Exit.INTERRUPTED if interrupted.is_set() else Exit.OK


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
