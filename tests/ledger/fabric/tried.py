"""A contract on a real network, for the client's tests and recordings: two organisations run and endorse it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.fabric.commands import Commands
from ledger.fabric.gateway import ClientTls, Deadlines, Gateway, connect
from ledger.fabric.lifecycle import Definition, Deployment, any_of, deploy
from ledger.fabric.network.make import free_ports
from ledger.fabric.package import Server as Served
from ledger.fabric.package import package, package_id
from ledger.fabric.profile import Profile
from ledger.fabric.shim import Server
from ledger.fabric.stub import Identity, Refused, Stub
from signer.keys import open_key

ENDORSERS = ("CommunityMSP", "DistributorMSP")


def invoke(stub: Stub, organisation: str = "") -> bytes:
    """put KEY VALUE (reads the key first), get KEY, count KEY, refuse, fail, differ, and what is told in secret."""
    match stub.function:
        case b"put":
            key = stub.arguments[0].decode()
            before = stub.get(key)
            stub.put(key, stub.arguments[1])
            stub.set_event("put", stub.arguments[0])
            return before or b"-"
        case b"get":
            return stub.get(stub.arguments[0].decode()) or b"-"
        case b"count":
            key = stub.arguments[0].decode()
            count = int(stub.get(key) or b"0") + 1
            stub.put(key, b"%d" % count)
            return b"%d" % count
        case b"secret":
            return b"%d bytes" % len(stub.transient["secret"])
        case b"refuse":
            raise Refused("out of order", "the ledger has 7: nothing else", 409)
        case b"differ":
            return organisation.encode()
        case _:
            raise KeyError("what nobody may read")


@dataclass
class Tried:
    """A network with the contract in force.

    Attributes:
        servers: of each endorsing organisation.
    """

    profile: Profile
    name: str
    servers: dict[str, Server]

    def tls(self, organisation: str = ENDORSERS[0], name: str = "operator") -> ClientTls:
        who = self.profile.identity(organisation, name)
        return ClientTls(self.profile.organisation(organisation).tls_ca, who.tls_key, who.tls_certificate)

    def channel(self, organisation: str = ENDORSERS[0]) -> Any:
        return connect(self.profile.peers_of(organisation)[0].address, self.tls(organisation))

    def gateway(
        self, organisation: str = ENDORSERS[0], deadlines: Deadlines | None = None, channel: Any = None
    ) -> Gateway:
        who = self.profile.identity(organisation, "operator")
        return Gateway(
            channel or self.channel(organisation),
            Identity(organisation, who.certificate.read_bytes()),
            open_key(who.key, self.profile.folder),
            deadlines=deadlines,
            certificate_hash=self.tls(organisation).certificate_hash,
        )


@contextmanager
def tried(
    commands: Commands,
    profile: Profile,
    folder: Path,
    name: str = "tried",
    handler: Callable[[Stub, str], bytes] = invoke,
    organisations: Sequence[str] = ENDORSERS,
) -> Iterator[Tried]:
    """Installed, approved, committed, served without TLS on this machine."""
    packages: dict[str, Path] = {}
    servers: dict[str, Server] = {}
    with ExitStack() as stack:
        for organisation, port in zip(organisations, free_ports(len(organisations)), strict=False):
            address = f"127.0.0.1:{port}"
            content = package(f"{name}_1", Served(address))
            packages[organisation] = folder / f"{name}-{organisation}.tar.gz"
            packages[organisation].write_bytes(content)

            def serve(stub: Stub, organisation: str = organisation) -> bytes:
                return handler(stub, organisation)

            server = servers[organisation] = Server(package_id(content), serve, address, None)
            server.start()
            stack.callback(server.stop, 0.0)
        policy = any_of([profile.organisation(each) for each in organisations], len(organisations))
        deploy(commands, profile, [Deployment(Definition(name, policy=policy), packages)])
        yield Tried(profile, name, servers)
