"""How commands call contracts on the embedded ledger: on its file, or through the peer that is running on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from ledger.config import PeerConfig

# A running peer looks five times a second; one that commits a large batch in between needs a little longer.
_PATIENCE_S = 10.0


def commit(
    config: PeerConfig,
    contract: str,
    function: str,
    arguments: bytes | Mapping[str, Any],
    secret: Mapping[str, bytes] | None = None,
) -> bytes:
    """Call a function, or have the running peer call it; committed when this returns the answer.

    Raises:
        Declined: by the contract.
        Refused: a peer is running and does not answer.
        LedgerProblem: the ledger cannot be used.
    """
    from ledger import requests
    from ledger.embedded import LedgerFile
    from ledger.lock import WriteLock
    from ledger.rules.record import pack

    packed = arguments if isinstance(arguments, bytes) else pack(arguments)
    with WriteLock(config.ledger) as lock:
        if lock.take():
            file = LedgerFile(config.ledger, config.organisation)
            try:
                return file.transact(lambda: file.operator.call(contract, function, packed, secret)).answer
            finally:
                file.close()
    request = requests.leave(config.ledger, requests.Request(contract, function, packed, secret or {}))
    answer = requests.answer(request, _PATIENCE_S)
    if answer is None:
        raise Refused(
            f"the running peer has not taken in {request} within {_PATIENCE_S:g} s",
            Exit.LEDGER,
            "its log; the request stays and is taken in when it can",
        )
    return answer


def arguments_of(given: str) -> bytes:
    """The record in ``--arguments``: JSON, or the JSON in the file behind ``@``.

    Raises:
        Refused: it is none.
    """
    from ledger.rules.record import NoRecord, pack, unpack

    try:
        return pack(unpack(_bytes(given)))
    except NoRecord as error:
        raise Refused(f"--arguments: {error}", Exit.USAGE, """--arguments '{"kind":"gateway"}'""") from None


def secrets_of(given: Iterable[str]) -> dict[str, bytes]:
    """The secrets in ``--secret NAME=JSON`` and ``--secret NAME=@FILE``; a file goes as it is.

    Raises:
        Refused: one is none.
    """
    from ledger.rules.record import NoRecord, pack, unpack

    found = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise Refused(f"--secret {item[:40]}: a name is missing", Exit.USAGE, "--secret NAME=JSON or NAME=@FILE")
        try:
            found[name] = _bytes(value) if value.startswith("@") else pack(unpack(value.encode()))
        except NoRecord as error:
            raise Refused(f"--secret {name}: {error}", Exit.USAGE, "--secret NAME=JSON or NAME=@FILE") from None
    return found


def show(answer: bytes) -> None:
    """Print an answer for people and programs."""
    print(json.dumps(json.loads(answer), indent=2, ensure_ascii=False) if answer else "null")


def _bytes(given: str) -> bytes:
    return Path(given[1:]).read_bytes() if given.startswith("@") else given.encode(errors="surrogateescape")
