"""What a trace asks of a ledger: the contracts' answers, and where in the chain their records were written.

One implementation here, for the embedded ledger's file; :mod:`ledger.fabric.evidence` is the other.

Rules
- Contracts say who may see what; nothing is read past them but what proves an answer: digests, chain, receipts.
- All of a trace on a file sees one moment of it, also while a peer writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from ledger.commit import ChainBroken
from ledger.embedded import LedgerFile
from ledger.rules import batches
from ledger.rules.record import Record, pack, parse
from ledger.rules.world import key, ordered
from ledger.world_file import Broken, Mistake


class Fault(Exception):
    """Evidence that does not hold, and where."""


@dataclass(frozen=True, slots=True)
class Written:
    """Where in the ledger a value was written.

    Attributes:
        place: for people.
        digest: SHA-256 of the value; None = it was removed there.
    """

    place: str
    digest: bytes | None


class Evidence(Protocol):
    """One ledger, as one caller sees it.

    Attributes:
        expires: whether private values may go by themselves when their time has run out.
    """

    expires: bool

    def ask(self, contract: str, function: str, **given: Any) -> Any:
        """A contract's answer.

        Raises:
            Declined: by the contract.
            Fault: the contract fails over what is kept.
        """

    def written(self, contract: str, collection: str, place: str, transaction: str) -> Written:
        """What a transaction has written to a key; the transaction was found, is valid, and is in the chain.

        Raises:
            Fault: it is not so.
        """

    def block(self, record: Record) -> str:
        """Where the transaction of a batch's public record is, in a block that holds.

        Raises:
            Fault: it does not, or is not there.
        """

    def receipts(self, record: Record) -> Sequence[bytes] | None:
        """The receipts of a batch; None = none are kept on this side."""

    def chain(self) -> str:
        """How much of the chain was recomputed, from its beginning to its end.

        Raises:
            Fault: names the place where it breaks.
        """


class FileEvidence:
    """An embedded ledger's file, read only. Used from one thread."""

    expires = False

    def __init__(self, path: Path, organisation: str | None, member: str = "") -> None:
        """
        Args:
            member: for whom the operator asks; empty = for nobody.

        Raises:
            LedgerProblem: the file cannot be used. A broken chain is for the trace to find.
        """
        self._file = LedgerFile(path, organisation, read_only=True, check=False)
        self._file.hold()
        self._member = member
        self._calls: dict[int, bool] = {}

    def ask(self, contract: str, function: str, **given: Any) -> Any:
        try:
            return parse(self._file.operator.ask(contract, function, _without_none(given), None, self._member))
        except Mistake as error:
            raise Fault(str(error)) from error

    def written(self, contract: str, collection: str, place: str, transaction: str) -> Written:
        try:
            number, digest = self._file.world.wrote(contract, collection, place, bytes.fromhex(transaction))
            if number not in self._calls:
                self._calls[number] = self._file.world.check_call(number)
        except Broken as error:
            raise Fault(str(error)) from error
        return Written(f"call {number}", digest)

    def block(self, record: Record) -> str:
        stream, first = bytes.fromhex(record["stream"]), record["first"]
        found = self._file.block(stream, first)
        if found is None:
            number = self._called(record)
            if number is not None:
                return f"none: call {number} has committed it, without a receipt"
            raise Fault(f"no block has the batch of stream {record['stream']} from seq {first}")
        commit, before = found
        if before is None:
            raise Fault(f"block {commit.block - 1} is missing before block {commit.block}")
        if sha256(commit.root + before).digest() != commit.transaction:
            raise Fault(f"block {commit.block} is not what was committed")
        said = (commit.root.hex(), commit.transaction.hex(), commit.count)
        if said != (record["root"], record["transaction"], record["count"]):
            raise Fault(f"block {commit.block} is another than the contract's record says")
        return f"number {commit.block}"

    def receipts(self, record: Record) -> Sequence[bytes] | None:
        found = self._file.block(bytes.fromhex(record["stream"]), record["first"])
        if found is None and self._called(record) is not None:
            return None
        receipt = self._file.receipt(bytes.fromhex(record["stream"]), record["first"])
        return [receipt] if receipt else []

    def chain(self) -> str:
        blocks, calls = self._file.last()[0], self._file.world.last()[0]
        try:
            self._file.check_chain(max(blocks, calls))
        except ChainBroken as error:
            raise Fault(str(error).removeprefix(f"{self._file.path}: ")) from error
        return f"{blocks:,} blocks, {calls:,} calls"

    def _called(self, record: Record) -> int | None:
        """The call that committed a batch by itself, without the peer that makes blocks and receipts."""
        place = key("batch", record["stream"], ordered(record["first"]))
        try:
            number, _ = self._file.world.wrote(batches.NAME, "", place, bytes.fromhex(record["transaction"]))
            return number if self._file.world.check_call(number) else None
        except Broken:
            return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def digest(record: Mapping[str, Any] | list[Any]) -> bytes:
    """SHA-256 of a record as a contract keeps it: there is one encoding."""
    return sha256(pack(record)).digest()


MEASUREMENTS = batches.NAME
