"""What `MemoryLedger` of `tests.ledger.world` does, on a real network, with our contracts as they are deployed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fabric_protos.common import ledger_pb2

from ledger.fabric import profile as profiles
from ledger.fabric.calling import FabricContracts
from ledger.fabric.commands import FabricProblem
from ledger.fabric.connection import open_gateway
from ledger.fabric.errors import NotEndorsed, RefusedByContract
from ledger.fabric.gateway import Gateway
from ledger.fabric.network import life
from ledger.fabric.profile import Profile
from ledger.rules import registry
from ledger.rules.record import pack
from ledger.rules.world import Caller, Declined, Reason
from tests.fabricnet import PATIENCE_S


class NetworkLedger:
    """Contracts on a channel; whoever calls gets a certificate of its organisation with its attributes.

    Attributes:
        time_ms: nothing here: the network has a clock.
    """

    def __init__(self, folder: Path, profile: Profile) -> None:
        self.folder, self.profile, self.time_ms = folder, profile, 0
        self._contracts: dict[tuple[str, str], tuple[Gateway, FabricContracts]] = {}
        self._open = ExitStack()
        self._serve = {each.id for each in profile.organisations if registry.METERING in each.roles}

    def close(self) -> None:
        self._open.close()

    def commit(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        """Call and commit; raises Declined as the contract does."""
        return self._as(caller)[1].call(contract, function, arguments, _bytes(secret))

    def evaluate(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        """Call only; again while a peer has not been given yet what others hold (private data come after the block)."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._evaluate(contract, function, arguments, caller, secret)
            except (NotEndorsed, FabricProblem):
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def _evaluate(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any) -> bytes:
        """Who has no server of the contract asks another organisation, with its secrets and all."""
        if caller.organisation in self._serve or contract == registry.NAME:
            return self._as(caller)[1].ask(contract, function, arguments, _bytes(secret))
        target, asked = self.gateway(caller).network(self.profile.channel).contract(contract), sorted(self._serve)[:1]
        record = arguments if isinstance(arguments, bytes) else pack(arguments)
        try:
            return target.new_proposal(function, record, transient=_bytes(secret), organisations=asked).evaluate()
        except RefusedByContract as refused:
            reason = Reason(refused.reason) if refused.reason in list(Reason) else Reason.FORBIDDEN
            raise Declined(reason, refused.words) from refused
        except NotEndorsed as error:
            if "PeerError" not in str(error):
                raise
            # The peer itself lets nobody but members read a collection; the contract says no more than that.
            raise Declined(Reason.FORBIDDEN, "PeerError") from error

    def gateway(self, caller: Caller) -> Gateway:
        """The caller's connection."""
        return self._as(caller)[0]

    def height(self, caller: Caller) -> int:
        """Of the channel, as the caller's peer has it."""
        network = self.gateway(caller).network(self.profile.channel)
        answer = network.contract("qscc").evaluate("GetChainInfo", self.profile.channel.encode())
        return int(ledger_pb2.BlockchainInfo.FromString(answer).height)

    def files(self, organisation: str) -> bytes:
        """Everything that lies in the folder of an organisation's peer: its blocks, states and log."""
        (peer,) = self.profile.peers_of(organisation)
        folder = self.folder / "nodes" / peer.name
        return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())

    def _as(self, caller: Caller) -> tuple[Gateway, FabricContracts]:
        who = (caller.organisation, caller.name)
        if who not in self._contracts:
            name = f"t-{caller.name}"
            life.issue(self.folder, caller.organisation, name, caller.attributes)
            profile = profiles.load(self.folder)
            gateway = open_gateway(profile, caller.organisation, name)
            self._open.callback(gateway.close)
            made = FabricContracts(gateway, profile, caller.organisation, self.folder / "calls")
            self._contracts[who] = gateway, made
        return self._contracts[who]


def _bytes(secret: Any) -> dict[str, bytes]:
    return {name: value if isinstance(value, bytes) else pack(value) for name, value in (secret or {}).items()}
