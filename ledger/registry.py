"""Registering gateways while a peer is running: a request is a file, the process that writes the ledger takes it in.

A ledger has one writing connection (SQLite's WAL has had bugs with two), so whoever registers a gateway either holds
the ledger's lock and writes, or leaves a file that the running peer picks up and removes.

Rules
- A request file appears complete or not at all (written aside, synced, renamed).
- It is removed after it is in the ledger; taking one in twice changes nothing.
- One that cannot be read is renamed, kept and reported, and the next one is taken.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from ledger.commit import LedgerProblem
from ledger.embedded import LedgerFile
from ledger.rules.measurements import Gateway
from uplink import topics

_SUFFIX = ".json"
_UNREADABLE = ".unreadable"


def folder(ledger: Path) -> Path:
    """Where requests for this ledger are left."""
    return ledger.with_name(f"{ledger.name}.requests")


def leave(ledger: Path, gateway: Gateway) -> Path:
    """Leave a request and return its file.

    Raises:
        OSError: it cannot be written.
    """
    place = folder(ledger)
    place.mkdir(exist_ok=True)
    path = place / f"{gateway.gateway}{_SUFFIX}"
    aside = place / f"{gateway.gateway}.{os.getpid()}.tmp"
    with aside.open("w") as file:
        json.dump(_document(gateway), file)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    return path


def taken(path: Path, timeout_s: float) -> bool:
    """Whether a request was taken in within that time."""
    deadline = time.monotonic() + timeout_s
    while path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def take_in(file: LedgerFile, say: Callable[[str], None]) -> None:
    """Put every request into the registry; on a full disk they wait.

    Raises:
        LedgerProblem: the ledger cannot be used; the requests stay.
    """
    for path in sorted(folder(file.path).glob(f"*{_SUFFIX}")):
        try:
            gateway = _gateway(json.loads(path.read_text()))
        except FileNotFoundError:
            continue  # taken back by whoever left it
        except (OSError, ValueError, KeyError, TypeError) as error:
            path.rename(path.with_name(f"{path.name}{_UNREADABLE}"))
            say(f"a request to register a gateway cannot be read: {path}{_UNREADABLE}: {error}")
            continue
        try:
            file.register(gateway)
        except LedgerProblem as problem:
            if problem.waiting_helps:
                return
            raise
        path.unlink(missing_ok=True)
        say(f"gateway {gateway.gateway} is {'revoked' if gateway.revoked else 'registered'}")


def _document(gateway: Gateway) -> dict[str, object]:
    return {
        "gateway": gateway.gateway,
        "root": gateway.root.hex() if gateway.root else None,
        "certificate": gateway.certificate.hex() if gateway.certificate else None,
        "revoked": gateway.revoked,
    }


def _gateway(document: dict[str, object]) -> Gateway:
    root, certificate = document["root"], document["certificate"]
    return Gateway(
        topics.check_name(str(document["gateway"]), "gateway"),
        bytes.fromhex(str(root)) if root else None,
        bytes.fromhex(str(certificate)) if certificate else None,
        bool(document["revoked"]),
    )
