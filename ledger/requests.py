"""Calls of contracts while a peer is running: a request is a file, the process that writes the ledger takes it in.

A ledger has one writing connection (SQLite's WAL has had bugs with two), so whoever calls a contract either holds the
ledger's lock and writes, or leaves a file that the running peer picks up, answers beside it, and removes.

Rules
- Requests and answers appear complete or not at all (written aside, synced, renamed), readable by their owner only:
  what is secret in a call is in them.
- The requests that lie there are taken in together, in one transaction, the oldest first. Each is done once: the ledger
  knows its name, so one that a crash has left behind after it was done is not done again.
- After purges, once no request lies there, the file is made tidy: it stops for as long as that takes.
- One that cannot be read is renamed, kept and reported, and the next one is taken. An answer that nobody fetches goes
  after an hour.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.commit import LedgerProblem
from ledger.embedded import LedgerFile
from ledger.rules.world import Declined, Reason
from ledger.world_file import Mistake

_SUFFIX = ".json"
_ANSWER = ".answer"
_UNREADABLE = ".unreadable"
_KEPT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    """A call to be done.

    Attributes:
        arguments: a record, packed.
        secret: what never goes into the chain of calls.
        member: for whom the operator speaks; empty = for nobody.
    """

    contract: str
    function: str
    arguments: bytes
    secret: Mapping[str, bytes] = field(default_factory=dict)
    member: str = ""


def folder(ledger: Path) -> Path:
    """Where requests for this ledger are left."""
    return ledger.with_name(f"{ledger.name}.requests")


def leave(ledger: Path, request: Request) -> Path:
    """Leave a request and return its file.

    Raises:
        OSError: it cannot be written.
    """
    place = folder(ledger)
    place.mkdir(exist_ok=True)
    path = place / f"{time.time_ns():020d}-{os.getpid()}{_SUFFIX}"
    document = {
        "contract": request.contract,
        "function": request.function,
        "arguments": request.arguments.decode(),
        "secret": {name: value.hex() for name, value in request.secret.items()},
        "member": request.member,
    }
    _write(path, document)
    return path


def answer(path: Path, timeout_s: float) -> bytes | None:
    """The answer to a request; None when there was none within that time, and the request stays.

    Raises:
        Declined: the contract has declined it.
        Mistake: the contract has one.
    """
    said = path.with_suffix(_ANSWER)
    deadline = time.monotonic() + timeout_s
    while not said.exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    document = json.loads(said.read_text())
    said.unlink()
    if "declined" in document:
        raise Declined(Reason(document["declined"]), document["words"])
    if "failed" in document:
        raise Mistake(document["failed"])
    return str(document["answer"]).encode()


def take_in(file: LedgerFile, say: Callable[[str], None]) -> None:
    """Do every request that lies there; on a full disk they wait.

    Raises:
        LedgerProblem: the ledger cannot be used; the requests stay.
    """
    place = folder(file.path)
    found = {path: request for path in sorted(place.glob(f"*{_SUFFIX}")) if (request := _read(path, say))}
    if not found:
        file.tidy()  # an erasure is many calls: after the last of them
        return
    try:
        answers = file.transact(lambda: [_do(file, path.name, request) for path, request in found.items()])
    except LedgerProblem as problem:
        if problem.waiting_helps:
            return
        raise
    for (path, request), said in zip(found.items(), answers, strict=True):
        _write(path.with_suffix(_ANSWER), said)
        path.unlink(missing_ok=True)
        say(f"called {request.contract} {request.function}: {_told(said)}")
    for path in place.glob(f"*{_ANSWER}"):
        if time.time() - path.stat().st_mtime > _KEPT_S:
            path.unlink(missing_ok=True)


def _do(file: LedgerFile, name: str, request: Request) -> dict[str, Any]:
    done = file.world.requested(name)
    if done is not None:
        return {"answer": json.dumps({"call": done})}  # its answer was lost with the process that had done it
    try:
        said = file.operator.call(
            request.contract, request.function, request.arguments, request.secret, name, request.member
        )
    except Declined as declined:
        return {"declined": declined.reason.value, "words": declined.words}
    except Mistake as mistake:
        return {"failed": str(mistake)}  # it must not stop the gateways from being served
    return {"answer": said.answer.decode()}


def _told(said: Mapping[str, Any]) -> str:
    if "declined" in said:
        return f"declined: {said['declined']}: {said['words']}"
    return f"failed: {said['failed']}" if "failed" in said else "done"


def _read(path: Path, say: Callable[[str], None]) -> Request | None:
    try:
        document = json.loads(path.read_text())
        texts = [document[name] for name in ("contract", "function", "arguments")] + [document.get("member", "")]
        secret = {str(name): bytes.fromhex(value) for name, value in document["secret"].items()}
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("contract, function, arguments and member are texts")
        return Request(texts[0], texts[1], texts[2].encode(), secret, texts[3])
    except FileNotFoundError:
        return None  # taken back by whoever left it
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        path.rename(path.with_name(f"{path.name}{_UNREADABLE}"))
        say(f"a request to call a contract cannot be read: {path}{_UNREADABLE}: {error!r}")
        return None


def _write(path: Path, document: Mapping[str, Any]) -> None:
    aside = path.with_name(f"{path.name}.tmp")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
