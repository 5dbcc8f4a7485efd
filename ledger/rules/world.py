"""What a contract is given and what it gives, on every ledger: state, call, answer, refusal.

A contract is a set of named functions ``(state, call) -> answer``. The embedded ledger gives them its database, a
network's contract server its peer's state, a test a dictionary; none of them can tell the difference.

Rules
- Reads see what was committed before this call, never the call's own writes (as on Hyperledger Fabric). What a
  function needs of what it has just written it keeps in a variable.
- All or nothing: a function that raises has written nothing.
- The only time is :attr:`Call.time_ms`, the only identity :attr:`Call.caller`; both are the same on every endorser.
- Arguments stay on a chain for ever and go to everybody; what concerns a person comes in :attr:`Call.secret`, is kept
  in a private collection, and can be purged.
- Keys are names joined by ``/`` (:func:`key`); numbers in keys have a fixed width (:func:`ordered`), so that a range
  of keys is a range of numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ledger.rules import record
from ledger.rules.record import Record

# What an organisation names (gateways, meters, members, places): safe in keys, topics and file names.
_NAME = re.compile(r"[A-Za-z0-9-]{1,40}")
_ORDERED_DIGITS = 16


class Reason(StrEnum):
    """Why a call was declined: the same word on every ledger."""

    MALFORMED = "malformed"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"
    EXISTS = "exists"
    CONFLICT = "conflict"
    NOT_YET = "not yet"
    OUT_OF_ORDER = "out of order"
    FORK = "fork"
    BAD_SIGNATURE = "bad signature"


class Declined(Exception):
    """The contract does not do it, and nothing is changed. Whose move: the caller's.

    Attributes:
        reason: for a program.
        words: for a person; they name the place and the value.
    """

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(f"{reason}: {words}")
        self.reason = reason
        self.words = words


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the ledger has authenticated it.

    Attributes:
        organisation: MSP id.
        name: the certificate's common name.
        attributes: of the certificate, which its organisation's CA answers for.
    """

    organisation: str
    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def roles(self) -> frozenset[str]:
        """The words of attribute ``aigeco.role``, of which there may be several, parted by spaces."""
        return frozenset(self.attributes.get("aigeco.role", "").split())

    def need(self, *roles: str) -> None:
        """Go on only with one of these roles.

        Raises:
            Declined: the certificate has none of them.
        """
        if self.roles.isdisjoint(roles):
            wanted = " or ".join(roles)
            raise Declined(
                Reason.FORBIDDEN,
                f"{self.name} of {self.organisation} has no certificate with the attribute aigeco.role = {wanted}",
            )


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a contract's function.

    Attributes:
        arguments: a record (:mod:`ledger.rules.record`), or empty.
        time_ms: of the transaction, POSIX milliseconds; the caller's clock, which the ledger may have bounded.
        transaction: its id, hex.
        secret: what travels beside the transaction and never into a block (Fabric's transient map).
    """

    function: str
    arguments: bytes
    caller: Caller
    time_ms: int
    transaction: str
    secret: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def by(self) -> Record:
        """Who made it, for what is written: organisation, name, transaction."""
        return {
            "organisation": self.caller.organisation,
            "name": self.caller.name,
            "transaction": self.transaction,
        }

    def record(self) -> Record:
        """The arguments.

        Raises:
            Declined: they are no record.
        """
        return _unpack(self.arguments or b"{}", f"arguments of {self.function}")

    def hidden(self, name: str) -> Record:
        """The record of this name in the secret.

        Raises:
            Declined: there is none, or it is no record.
        """
        return _unpack(self.hidden_bytes(name), f"{name} in the transient map")

    def hidden_bytes(self, name: str) -> bytes:
        """The bytes of this name in the secret.

        Raises:
            Declined: there are none.
        """
        if name not in self.secret:
            raise Declined(Reason.MALFORMED, f"{name} is missing in the transient map")
        return self.secret[name]


@dataclass(frozen=True, slots=True)
class Version:
    """What a key was from one transaction on.

    Attributes:
        value: None = deleted.
    """

    transaction: str
    time_ms: int
    value: bytes | None


class Store(Protocol):
    """Keys and values, in the order of the keys' bytes."""

    def get(self, key: str) -> bytes | None:
        """The committed value."""

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The committed values, in the order of the keys; a peer that is asked once answers in a tenth of the time."""

    def put(self, key: str, value: bytes) -> None:
        """Write; seen by the next call."""

    def delete(self, key: str) -> None:
        """Remove; the history stays."""

    def scan(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        """Committed keys from ``start`` to before ``end``, ascending."""


class Private(Store, Protocol):
    """A collection that only some organisations hold; everybody holds its digests.

    :meth:`scan` is for functions that write nothing (Fabric allows no range of private data beside a write).
    """

    def digest(self, key: str) -> bytes | None:
        """SHA-256 of the committed value, known to those too who do not hold it."""

    def purge(self, key: str) -> None:
        """Remove the value and its history from every holder; the digest's history stays on the chain."""


class State(Store, Protocol):
    """One contract's world during one call."""

    def private(self, collection: str) -> Private:
        """A private data collection of this contract."""

    def history(self, key: str) -> Iterator[Version]:
        """Every version of a public key, the newest first. For functions that only read."""

    def ask(self, contract: str, function: str, arguments: bytes) -> bytes:
        """The answer of another contract's function that only reads, called as the same caller.

        Raises:
            Declined: as that function says.
        """

    def tell(self, event: str, payload: bytes) -> None:
        """What clients may listen for; at most one a call."""


Function = Callable[[State, Call], bytes]


@dataclass(frozen=True, slots=True)
class Contract:
    """Named functions that share a state.

    Attributes:
        functions: by name; names are in PascalCase, as clients call them.
        collections: names of the private collections that they use.
    """

    name: str
    functions: Mapping[str, Function]
    collections: Sequence[str] = ()

    def invoke(self, state: State, call: Call) -> bytes:
        """Do it.

        Raises:
            Declined: this contract has no such function, or the function declines.
        """
        function = self.functions.get(call.function)
        if function is None:
            known = ", ".join(sorted(self.functions))
            raise Declined(Reason.UNKNOWN, f"contract {self.name} has no function {call.function[:60]!r}: {known}")
        return function(state, call)


def key(*parts: str) -> str:
    """The key of these names."""
    return "/".join(parts)


def under(*parts: str) -> tuple[str, str]:
    """Start and end of all keys that begin with these names and go on: for :meth:`Store.scan`."""
    prefix = key(*parts)
    return f"{prefix}/", f"{prefix}0"  # 0 follows / in UTF-8


def ordered(number: int) -> str:
    """A number's text whose order is the number's, for keys.

    Raises:
        Declined: below zero, or above 64 bits.
    """
    if not 0 <= number < 1 << 64:
        raise Declined(Reason.MALFORMED, f"{number} is not a number from 0 to 2^64 - 1")
    return f"{number:0{_ORDERED_DIGITS}x}"


def text(given: Record, name: str) -> str:
    """A text of the arguments.

    Raises:
        Declined: missing, or no text.
    """
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(name, value, "a text is needed")
    return value


def named(given: Record, name: str) -> str:
    """An id of the arguments: letters, digits and hyphens, at most 40.

    Raises:
        Declined: it is not one.
    """
    value = text(given, name)
    if not _NAME.fullmatch(value):
        raise _wrong(name, value, "a name has 1 to 40 letters, digits and hyphens")
    return value


def integer(given: Record, name: str, least: int, most: int) -> int:
    """An integer of the arguments.

    Raises:
        Declined: it is not one of ``least..most``.
    """
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(name, value, f"a whole number {least}..{most} is needed")
    return value


def octets(given: Record, name: str, length: int | None = None) -> bytes:
    """Bytes of the arguments, given as hex.

    Raises:
        Declined: no lowercase hex, or of another length.
    """
    value = text(given, name)
    try:
        found = bytes.fromhex(value)
    except ValueError:
        raise _wrong(name, value, "hexadecimal digits are needed") from None
    if value != found.hex() or length not in (None, len(found)):
        raise _wrong(name, value, f"{length or 'some'} bytes in lowercase hexadecimal digits are needed")
    return found


def only(given: Record, *names: str) -> None:
    """Nothing but these names is in the arguments: a misspelt one must not silently be absent.

    Raises:
        Declined: names the first that is too much.
    """
    for name in sorted(given):
        if name not in names:
            raise Declined(Reason.MALFORMED, f"{name[:60]!r} is no argument here: {', '.join(names)}")


def _wrong(name: str, value: object, words: str) -> Declined:
    shown = "is missing" if value is None else repr(value)[:60]
    return Declined(Reason.MALFORMED, f"{name}: {shown}: {words}")


def _unpack(data: bytes, place: str) -> Record:
    try:
        return record.unpack(data)
    except record.NoRecord as error:
        raise Declined(Reason.MALFORMED, f"{place}: {error}") from error
