"""Calls of contracts by people on a Fabric network: :class:`ledger.calling.Contracts` through a peer's Gateway.

Rules
- A call that writes is done once: its signed envelope is kept before it is sent, under a name made of who calls what
  with which arguments. When its outcome stays unknown, the same call again first asks what became of the former one.
- Kept are signed envelopes of calls under way, readable by their owner only: no secret is in them. They go when the
  outcome is known.
- What an endorser declines and our own peer does not is tried again: that endorser has not seen yet what we have.
- What did not answer is named as the profile names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ledger.calling import Arguments, packed
from ledger.fabric.commands import FabricProblem
from ledger.fabric.errors import (
    BadRequest,
    Conflict,
    Duplicate,
    Forbidden,
    GatewayError,
    OutcomeUnknown,
    RefusedByContract,
    TooLarge,
)
from ledger.fabric.gateway import Contract, Gateway, Transaction
from ledger.fabric.messages import Malformed
from ledger.fabric.once import commit_once
from ledger.fabric.profile import Profile
from ledger.rules.record import NoRecord, pack, unpack
from ledger.rules.world import Declined, Reason

# A person waits; a peer that comes back is there within some seconds.
_PATIENCE_S = 20.0


class FabricContracts:
    """The contracts of a channel, called as one identity at its organisation's peer.

    Attributes:
        organisation: MSP id of the identity.
    """

    def __init__(
        self, gateway: Gateway, profile: Profile, organisation: str, kept: Path, patience_s: float = _PATIENCE_S
    ) -> None:
        """
        Args:
            gateway: closed with this.
            kept: folder of the envelopes; made when one is kept.
        """
        self.organisation = organisation
        self._gateway = gateway
        self._network = gateway.network(profile.channel)
        self._profile = profile
        self._kept = kept
        self._patience_s = patience_s

    def ask(
        self, contract: str, function: str, arguments: Arguments, secrets: Mapping[str, bytes] | None = None
    ) -> bytes:
        """As :meth:`ledger.calling.Contracts.ask`.

        Raises:
            FabricProblem: no peer answers.
        """
        try:
            return self._network.contract(contract).evaluate(function, packed(arguments), transient=secrets)
        except GatewayError as error:
            raise self._said(error, contract) from error

    def call(
        self, contract: str, function: str, arguments: Arguments, secrets: Mapping[str, bytes] | None = None
    ) -> bytes:
        """As :meth:`ledger.calling.Contracts.call`.

        Raises:
            FabricProblem: it could not be committed, or nobody knows yet whether it was.
            KeyProblem: the key store cannot sign now.
            OSError: the envelope cannot be kept.
        """
        record = packed(arguments)
        path = self._path(contract, function, record, secrets or {})
        target = self._network.contract(contract)
        try:
            done = commit_once(
                lambda: target.new_proposal(function, record, transient=secrets),
                lambda envelope: _keep(path, envelope),
                kept=self._former(path),
                lags=lambda _: self._own_peer_takes(target, function, record, secrets),
                patience_s=self._patience_s,
            )
        except (OutcomeUnknown, Duplicate) as error:
            raise self._said(error, contract) from error
        except GatewayError as error:
            path.unlink(missing_ok=True)
            raise self._said(error, contract) from error
        path.unlink(missing_ok=True)
        return done.result

    def close(self) -> None:
        """Close the connection."""
        self._gateway.close()

    def _own_peer_takes(
        self, target: Contract, function: str, record: bytes, secrets: Mapping[str, bytes] | None
    ) -> bool:
        """Whether our own peer would not decline what an endorser has declined: then that one lags behind it."""
        try:
            target.evaluate(function, record, transient=secrets)
        except GatewayError:
            return False
        return True

    def _path(self, contract: str, function: str, arguments: bytes, secrets: Mapping[str, bytes]) -> Path:
        parts = [self._network.name, contract, function, arguments.decode()]
        hidden = {name: sha256(_unsalted(value)).hexdigest() for name, value in secrets.items()}
        called = sha256(self._gateway.creator + pack([*parts, hidden])).hexdigest()
        return self._kept / f"{called[:32]}.envelope"

    def _former(self, path: Path) -> Transaction | None:
        """The same call of before, whose outcome is not known."""
        try:
            return self._network.transaction(path.read_bytes())
        except FileNotFoundError:
            return None
        except Malformed as error:
            raise FabricProblem(f"{path}: {error}", "its removal, when it is known what became of that call") from error

    def _said(self, error: GatewayError, contract: str) -> Exception:
        """The error in the words of every ledger."""
        if isinstance(error, RefusedByContract):
            if error.reason in list(Reason):
                return Declined(Reason(error.reason), error.words)
            return FabricProblem(f"{contract} declines: {error.reason or error.words}: {error.words}")
        return FabricProblem(f"{self._who(error)}: {_words(error)}", *_advice(error, self._profile.path))

    def _who(self, error: GatewayError) -> str:
        names = {peer.address: peer.name for peer in self._profile.peers}
        names |= {orderer.address: orderer.name for orderer in self._profile.orderers}
        if error.details:
            return ", ".join(f"{names.get(each.address, each.address)} ({each.msp_id})" for each in error.details)
        peer = self._profile.peers_of(self.organisation)[0]
        return f"{peer.name} at {peer.address} ({peer.organisation})"


def _words(error: GatewayError) -> str:
    """What was said, each once; gRPC's own words where nobody said anything."""
    said = [detail.message for detail in error.details] or [str(error)]
    return "; ".join(dict.fromkeys(said))[:600]


def _advice(error: GatewayError, profile: Path) -> list[str]:
    if isinstance(error, (OutcomeUnknown, Duplicate)):
        return ["the same command again: it asks first what became of this call, and does it once"]
    if isinstance(error, Conflict):
        return ["the same command again: what it read has changed meanwhile, several times"]
    if isinstance(error, Forbidden):
        return [f"another identity of {profile} (--as), or its organisation's administrator"]
    if isinstance(error, TooLarge):
        return ["less at a time"]
    if isinstance(error, BadRequest):
        return [f"channel and addresses in {profile}"]
    return ["aigeco-peer network status, or the log of who did not answer; then the same command again"]


def _unsalted(secret: bytes) -> bytes:
    """What is the same when the same is said again: a record without its salt, other bytes as they are."""
    try:
        return pack({name: value for name, value in unpack(secret).items() if name != "salt"})
    except NoRecord:
        return secret


def _keep(path: Path, envelope: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(envelope)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
