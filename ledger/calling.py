"""Calls of contracts by people: the one port, and the embedded ledger behind it.

The other implementation is :mod:`ledger.fabric.calling`. Which one a command uses is decided in
:mod:`ledger.cli.calling`.

Rules
- The same call means the same on every ledger: what a contract declines is ``Declined`` with its reason and words, a
  ledger that cannot be used is the error of that ledger, and says whose move it is.
- A call that has returned is committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

from ledger import requests
from ledger.commit import LedgerProblem
from ledger.embedded import LedgerFile
from ledger.lock import WriteLock
from ledger.rules import salt
from ledger.rules.record import pack, parse

Arguments = bytes | Mapping[str, Any]
"""A record, packed or not."""

# A running peer looks five times a second; one that commits a large batch in between needs a little longer.
_PATIENCE_S = 10.0
_PAGE = 1000


class Contracts(Protocol):
    """The contracts of one ledger, as somebody calls them.

    Attributes:
        organisation: MSP id of who calls.
    """

    organisation: str

    def ask(
        self, contract: str, function: str, arguments: Arguments, secrets: Mapping[str, bytes] | None = None
    ) -> bytes:
        """The function's answer; nothing is written.

        Raises:
            Declined: by the contract.
        """

    def call(
        self, contract: str, function: str, arguments: Arguments, secrets: Mapping[str, bytes] | None = None
    ) -> bytes:
        """The function's answer, once what it writes is committed.

        Args:
            secrets: what never goes into the chain of calls.

        Raises:
            Declined: by the contract.
        """

    def close(self) -> None:
        """The end of its use."""


class EmbeddedContracts:
    """The file, or the peer that is running on it: a ledger has one writing process."""

    def __init__(self, path: Path, organisation: str, member: str = "") -> None:
        """
        Args:
            member: for whom the operator speaks; empty = for nobody.
        """
        self.organisation = organisation
        self._path = path
        self._member = member

    def ask(
        self, contract: str, function: str, arguments: Arguments, secrets: Mapping[str, bytes] | None = None
    ) -> bytes:
        """As :meth:`Contracts.ask`.

        Raises:
            LedgerProblem: the file cannot be used.
        """
        file = LedgerFile(self._path, self.organisation, read_only=True)
        try:
            return file.operator.ask(contract, function, arguments, secrets, self._member)
        finally:
            file.close()

    def call(
        self, contract: str, function: str, arguments: Arguments, secrets: Mapping[str, bytes] | None = None
    ) -> bytes:
        """As :meth:`Contracts.call`.

        Raises:
            LedgerProblem: the file cannot be used, or a peer runs on it and does not answer.
        """
        with WriteLock(self._path) as lock:
            if lock.take():
                file = LedgerFile(self._path, self.organisation)
                try:
                    return file.transact(
                        lambda: file.operator.call(contract, function, arguments, secrets, member=self._member)
                    ).answer
                finally:
                    file.close()
        request = requests.Request(contract, function, packed(arguments), secrets or {}, self._member)
        left = requests.leave(self._path, request)
        answer = requests.answer(left, _PATIENCE_S)
        if answer is None:
            problem = LedgerProblem(f"the running peer has not taken in {left} within {_PATIENCE_S:g} s")
            problem.add_note("try: its log; the request stays and is taken in when it can")
            raise problem
        return answer

    def tidy(self) -> bool:
        """After purges: what was purged is not in unused places of the file either; False: later, by who has it open.

        Raises:
            LedgerProblem: the file cannot be used.
        """
        with WriteLock(self._path) as lock:
            if not lock.take():
                return False
            file = LedgerFile(self._path, self.organisation)
            try:
                return file.tidy()
            finally:
                file.close()

    def close(self) -> None:
        """Nothing stays open between calls."""


def packed(arguments: Arguments) -> bytes:
    """The record's bytes."""
    return arguments if isinstance(arguments, bytes) else pack(arguments)


def salted(record: Mapping[str, Any]) -> bytes:
    """A record for the secrets, with a salt of its own unless it has one."""
    return pack({"salt": token_hex(salt.BYTES), **record})


def registered(contracts: Contracts, kind: str) -> Iterator[dict[str, Any]]:
    """Every entry of this kind in the registry, by name."""
    after: str | None = None
    while True:
        given = {"kind": kind, "limit": _PAGE} | ({"after": after} if after else {})
        page = parse(contracts.ask("registry", "List", given))
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1][kind]
