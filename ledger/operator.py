"""Who keeps an embedded ledger calls its contracts: as their organisation, with every role that a person may have.

On a network the roles are in certificates of several people; on one machine's ledger whoever may write the file may do
all of it anyway, also speak for a member.

Rules
- Time goes forward: a call is dated after the last one, also when the machine's clock was set back.
- An answer of a function that writes is on disk when the transaction around it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.rules import batches, groups, origin, registry
from ledger.rules.measurements import Gateway
from ledger.rules.record import Record, pack, parse, unpack
from ledger.rules.world import Caller, Declined, Reason, key
from ledger.world_file import Done, FileWorld

ROLES = tuple(
    sorted(
        {
            registry.REGISTRAR,
            registry.INSTALLER,
            batches.INGESTION,
            batches.ERASER,
            *batches.READERS,
            groups.SETTLER,
            groups.AUDITOR,
            groups.AGGREGATOR,
            origin.ISSUER,
        }
    )
)
_PAGE = 1000


def ingestion(organisation: str) -> Caller:
    """The process that hands over an organisation's batches."""
    return Caller(organisation, "peer", {"aigeco.role": batches.INGESTION})


class Operator:
    """An organisation's own hand on its ledger. Writes inside a transaction that somebody else has opened."""

    def __init__(self, world: FileWorld, organisation: str, now_s: Callable[[], float]) -> None:
        self.caller = Caller(organisation, "operator", {"aigeco.role": " ".join(ROLES)})
        self._world = world
        self._now_s = now_s

    def call(
        self,
        contract: str,
        function: str,
        arguments: bytes | Mapping[str, object],
        secret: Mapping[str, bytes] | None = None,
        request: str | None = None,
        member: str = "",
    ) -> Done:
        """Call a function, and write.

        Args:
            member: for whom this speaks; empty = for nobody.

        Raises:
            Declined: as it says.
        """
        time_ms = max(int(self._now_s() * 1000), self._world.last()[1] + 1)
        return self._world.commit(contract, function, _bytes(arguments), self._for(member), time_ms, secret, request)

    def ask(
        self,
        contract: str,
        function: str,
        arguments: bytes | Mapping[str, object],
        secret: Mapping[str, bytes] | None = None,
        member: str = "",
    ) -> bytes:
        """Call a function, and write nothing.

        Raises:
            Declined: as it says.
        """
        time_ms = int(self._now_s() * 1000)
        return self._world.evaluate(contract, function, _bytes(arguments), self._for(member), time_ms, secret)

    def _for(self, member: str) -> Caller:
        if not member:
            return self.caller
        return replace(self.caller, attributes={**self.caller.attributes, batches.MEMBER: member})

    # ---- the registry

    def found(self) -> None:
        """Begin the registry: this organisation alone."""
        roles = [registry.MANAGER, registry.METERING]
        self.call(registry.NAME, "Found", {"organisations": {self.caller.organisation: roles}})

    def believe(self, roots: Sequence[x509.Certificate]) -> None:
        """Make these the registry's authorities; nothing is written when they are."""
        wanted = {root.public_bytes(Encoding.DER).hex() for root in roots}
        active = {entry["certificate"] for entry in self._all("authority") if entry["state"] == registry.ACTIVE}
        for state, certificates in ((registry.ACTIVE, wanted - active), (registry.REVOKED, active - wanted)):
            for certificate in sorted(certificates):
                self.call(registry.NAME, "SetAuthority", {"certificate": certificate, "state": state})

    def register(self, gateway: Gateway) -> None:
        """Put a gateway into the registry, or change its entry."""
        pins = {"root": gateway.root, "certificate": gateway.certificate}
        given = {name: pin.hex() for name, pin in pins.items() if pin}
        owner = self.caller.organisation
        self.call(registry.NAME, "RegisterGateway", {"gateway": gateway.gateway, "owner": owner, **given})
        if gateway.revoked:
            self.call(registry.NAME, "RevokeGateway", {"gateway": gateway.gateway, "why": "registered as revoked"})

    def gateway(self, gateway: str) -> Gateway | None:
        """The registry's entry."""
        try:
            return self._gateway(unpack(self.ask(registry.NAME, "Gateway", {"gateway": gateway})))
        except Declined as declined:
            if declined.reason is Reason.UNKNOWN:
                return None
            raise

    def gateways(self) -> list[Gateway]:
        """Every entry of the registry, by id."""
        return [self._gateway(entry) for entry in self._all("gateway")]

    def _gateway(self, entry: Record) -> Gateway:
        renewed = self._world.get(batches.NAME, key("pin", entry["gateway"]))
        return batches.gateway_of(entry, unpack(renewed) if renewed is not None else None)

    def _all(self, kind: str) -> Iterator[Record]:
        after: str | None = None
        while True:
            given = {"kind": kind, "limit": _PAGE} | ({"after": after} if after else {})
            page = parse(self.ask(registry.NAME, "List", given))
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1][kind]


def _bytes(arguments: bytes | Mapping[str, object]) -> bytes:
    return arguments if isinstance(arguments, bytes) else pack(arguments)
