r"""A real Fabric network for tests marked ``fabric``: one a session, and others that a test may break.

@pytest.mark.fabric
def test_something(fabric_network: Profile) -> None: ...
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ledger.fabric.commands import Commands
    from ledger.fabric.lifecycle import Definition
    from ledger.fabric.profile import Profile
    from ledger.fabric.stub import Stub

PATIENCE_S = 60.0


def commands_missing() -> str:
    """Why the commands cannot be used; empty when they can."""
    from ledger.fabric.commands import CommandsMissing, find

    try:
        find()
    except CommandsMissing as problem:
        return str(problem)
    return ""


@pytest.fixture(scope="session")
def fabric_commands() -> Commands:
    """Fabric's commands."""
    from ledger.fabric.commands import find

    return find()


@pytest.fixture(scope="session")
def fabric_network(fabric_commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    """The profile of a running network: four organisations, four BFT orderers, the channel joined, no contract on it.

    Shared by all tests of a process: use a contract name of your own, and break nothing.
    """
    with running(fabric_commands, tmp_path_factory.mktemp("fabric") / "network", small=False) as profile:
        yield profile


@contextmanager
def running(commands: Commands, folder: Path, small: bool = True, bare: bool = True) -> Iterator[Profile]:
    """A network of the caller's own, by default without our contracts; stopped at the end whatever became of it."""
    from ledger.fabric.network import life

    try:
        yield life.up(commands, folder, small, "aigeco", print, bare)
    finally:
        if folder.exists():
            life.down(folder, print)


@contextmanager
def served(
    commands: Commands,
    profile: Profile,
    definition: Definition,
    invoke: Callable[[Stub], bytes],
    organisations: tuple[str, ...] = (),
) -> Iterator[None]:
    """A contract on the channel, with a server for each organisation (all of them, or those named) in this process."""
    from ledger.fabric import lifecycle
    from ledger.fabric.connection import server_tls
    from ledger.fabric.network.make import free_ports
    from ledger.fabric.package import Server, package, package_id
    from ledger.fabric.shim import Server as Shim

    acting = [each for each in profile.organisations if not organisations or each.id in organisations]
    packages: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for organisation, port in zip(acting, free_ports(len(acting)), strict=True):
            address = f"127.0.0.1:{port}"
            content = package(definition.name, Server(address, organisation.tls_ca.read_text(), True))
            packages[organisation.id] = Path(folder) / f"{organisation.id}.tar.gz"
            packages[organisation.id].write_bytes(content)
            shim = Shim(package_id(content), invoke, address, server_tls(organisation))
            shim.start()
            stack.callback(shim.stop)
        lifecycle.deploy(commands, profile, [lifecycle.Deployment(definition, packages)])
        yield


def ready(ask: Callable[[], object]) -> None:
    """Wait until the organisations' peers know one another and endorse: ``ask`` is tried until it raises nothing."""
    from ledger.fabric.errors import GatewayError

    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            ask()
            return
        except GatewayError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
