"""A network's life: up, down, what each of its processes does.

Rules
- ``up`` brings about what is not there yet and leaves alone what is: a new network, one that was stopped, one of
  which a process died, one whose making was interrupted.
- One command at a time works on a folder.
- When a process does not come up, the error names it and has the last lines of its log, and what this call started is
  stopped.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.fabric import lifecycle, serving
from ledger.fabric import profile as profiles
from ledger.fabric.commands import CommandFailed, Commands, FabricProblem, WrongArgument, wait
from ledger.fabric.lifecycle import Definition
from ledger.fabric.network import compose as composing
from ledger.fabric.network import contracts, make, settings
from ledger.fabric.network.layout import HOST, MARK, PACKAGES, PARTIES, Layout
from ledger.fabric.network.processes import Service, stop
from ledger.fabric.profile import Identity, Orderer, Peer, Profile

ADMIN = "admin"
# A node listens after a second; ten times that on a machine that is busy, and again for one that is slow.
_PATIENCE_S = 60.0
_LINES = 8  # of a log, in an error


@dataclass(frozen=True, slots=True)
class Shown:
    """A node as people see it.

    Attributes:
        name: of the node.
        organisation: MSP id.
        address: where it serves.
        pid: while it runs.
        height: blocks of the channel it has; None: it did not say.
        memory_kb: what it takes, its part of what is shared.
        channel: whether it has the channel itself; the servers of contracts have not.
    """

    name: str
    organisation: str
    address: str
    pid: int | None
    height: int | None
    memory_kb: int | None
    channel: bool = True

    @property
    def state(self) -> str:
        """``up``; ``silent``: it runs, and does not say that it has the channel; ``down``."""
        return "down" if self.pid is None else "silent" if self.channel and self.height is None else "up"


def up(
    commands: Commands, folder: Path, small: bool, channel: str, tell: Callable[[str], None], bare: bool = False
) -> Profile:
    """Make the network if there is none, start what does not run, join what has not joined, deploy our contracts.

    Args:
        bare: without our contracts.

    Raises:
        FabricProblem: it did not come up.
        ConfigError: the folder's profile cannot be read.
    """
    layout = Layout(folder.absolute())
    if not layout.profile.exists():
        tell(f"making a network in {folder}")
        make.make(commands, layout.folder, small, channel)
    profile = profiles.load(layout.folder)
    _check_same(profile, small, channel)
    with _alone(layout):
        _start(commands, layout, profile, tell)
        try:
            _join(commands, layout, profile, tell)
            if not bare:
                _serve(commands, layout, profile, tell)
        except BaseException:
            tell("it stays up as it is; aigeco-peer network up tries again")
            raise
    return profile


def down(folder: Path, tell: Callable[[str], None]) -> None:
    """Stop all processes of the network."""
    layout, profile = _opened(folder)
    with _alone(layout):
        for name in stop(services(layout, profile)):
            tell(f"{name} did not stop when asked to, and was killed")


def purge(folder: Path) -> list[Path]:
    """Remove the state of a stopped network; what in the folder is not ours and stays.

    Raises:
        WrongArgument: the folder holds no network of ours.
        FabricProblem: one of its processes runs.
    """
    layout, profile = _opened(folder)
    with _alone(layout):
        running = [service.name for service in services(layout, profile) if service.pid() is not None]
        if running:
            raise FabricProblem(f"{', '.join(running)} still run", "aigeco-peer network down")
        for name in ("nodes", "organisations", "builder", PACKAGES, "calls"):
            shutil.rmtree(layout.folder / name, ignore_errors=True)
        for name in ("genesis.block", "configtx.yaml", layout.profile.name, MARK, ".lock"):
            (layout.folder / name).unlink(missing_ok=True)
    left = sorted(layout.folder.iterdir())
    if not left:
        layout.folder.rmdir()
    return left


def status(commands: Commands, folder: Path) -> list[Shown]:
    """What each node does; the heights are what the nodes say themselves."""
    layout, profile = _opened(folder)
    rows = []
    running = [node for node in _nodes(profile) if service(layout, node).pid() is not None]
    asked = {node.name: _ask(commands, layout, profile, node) for node in running}
    for node in _nodes(profile):
        found = service(layout, node)
        height = _height(_said(asked[node.name])) if node.name in asked else None
        rows.append(Shown(node.name, node.organisation, node.address, found.pid(), height, found.memory_kb()))
    for party in PARTIES:
        found = contracts.service(layout, party)
        if found.pid_file.exists():
            words = f"{len(party.contracts)} contracts"
            rows.append(Shown(found.name, party.id, words, found.pid(), None, found.memory_kb(), channel=False))
    return rows


def logs_of(folder: Path, name: str | None) -> list[Service]:
    """The process with this name, or all.

    Raises:
        WrongArgument: there is none.
    """
    layout, profile = _opened(folder)
    known = {each.name: each for each in services(layout, profile)}
    if name is None:
        return list(known.values())
    if name not in known:
        raise WrongArgument(f"{name!r} is no process of {folder}", f"one of {', '.join(known)}")
    return [known[name]]


def compose(folder: Path, image: str) -> str:
    """The network as a compose file, for Fabric's own images and ``image`` for the servers of contracts.

    Raises:
        WrongArgument: the folder holds no network of ours.
    """
    layout, profile = _opened(folder)
    owner = layout.folder.stat()
    return composing.text(layout, profile, f"{owner.st_uid}:{owner.st_gid}", image)


def issue(folder: Path, organisation: str, name: str, attributes: Mapping[str, str]) -> Identity:
    """Make another client of an organisation; it is in the profile from then on.

    Raises:
        WrongArgument: there is one of this name.
        ConfigError: there is no such organisation.
    """
    layout, _ = _opened(folder)
    with _alone(layout):
        return make.issue(profiles.load(layout.folder), organisation, name, attributes)


def upgrade(commands: Commands, folder: Path, definition: Definition, tell: Callable[[str], None]) -> None:
    """Put the next definition of one of our contracts on the channel, served by the software as it is now.

    The new servers run beside the old ones until the definition is committed; then each organisation's server is
    started anew, one after the other, so that the others endorse meanwhile.

    Raises:
        WrongArgument: it is not the next one.
        FabricProblem: it could not be committed; the old servers run on.
    """
    layout, profile = _opened(folder)
    with _alone(layout):
        parties = [party for party in PARTIES if definition.name in party.contracts]
        lifecycle.check_higher(commands, profile, parties[0].id, definition)
        addresses = {
            party.id: f"{HOST}:{port}" for party, port in zip(parties, make.free_ports(len(parties)), strict=True)
        }
        moved = serving.moved(profile, definition.name, addresses)
        tell(f"starting {definition.name} of today beside the one that serves")
        beside = []
        try:
            until = time.monotonic() + _PATIENCE_S
            for party in parties:
                beside.append(contracts.start_beside(layout, party, definition.name, addresses[party.id]))
            for party, found in zip(parties, beside, strict=True):
                _wait_until(found, [addresses[party.id]], until)
            tell(f"putting sequence {definition.sequence} on the channel")
            (made,) = serving.deployments(moved, layout.folder / PACKAGES, names=[definition.name])
            lifecycle.deploy(
                commands, profile, [replace(made, definition=lifecycle.merged(made.definition, definition))]
            )
        except BaseException:
            stop(beside)
            raise
        aside = layout.profile.with_suffix(".new")
        aside.write_text(profiles.dump(moved))
        aside.rename(layout.profile)
        for party, found in zip(parties, beside, strict=True):
            tell(f"starting {contracts.service(layout, party).name} anew")
            stop([found, contracts.service(layout, party)])
            shutil.rmtree(found.folder)
            contracts.start(layout)
            served = moved.organisation(party.id).contracts
            until = time.monotonic() + _PATIENCE_S
            _wait_until(contracts.service(layout, party), [served[name] for name in party.contracts], until)


def services(layout: Layout, profile: Profile) -> list[Service]:
    """All processes of the network, orderers first, the servers of contracts last."""
    return [*(service(layout, node) for node in _nodes(profile)), *contracts.services(layout)]


def service(layout: Layout, node: Peer | Orderer) -> Service:
    """The process of a node."""
    return Service(node.name, layout.node(node.name))


def _nodes(profile: Profile) -> tuple[Orderer | Peer, ...]:
    return (*profile.orderers, *profile.peers)


def _opened(folder: Path) -> tuple[Layout, Profile]:
    layout = Layout(folder.absolute())
    if not (layout.folder / MARK).exists():
        raise WrongArgument(
            f"{folder} holds no network that was made here", "aigeco-peer network up", "--network FOLDER"
        )
    return layout, profiles.load(layout.folder)


def _check_same(profile: Profile, small: bool, channel: str) -> None:
    if small and profile.consensus == "BFT":
        raise WrongArgument(f"the network in {profile.folder} is not a small one", "another folder, or without --small")
    if channel != profile.channel:
        words = f"the channel of the network in {profile.folder} is {profile.channel}"
        raise WrongArgument(words, f"another folder, or --channel {profile.channel}")


def _start(commands: Commands, layout: Layout, profile: Profile, tell: Callable[[str], None]) -> None:
    idle = [node for node in _nodes(profile) if service(layout, node).pid() is None]
    for node in idle:
        _check_ports(node)
    if idle:
        tell(f"starting {', '.join(node.name for node in idle)}")
    try:
        for node in idle:
            name, *arguments = settings.command(node)
            environment = commands.environment(settings.environment(layout, node, profile.consensus))
            service(layout, node).start([str(commands.folder / name), *arguments], environment)
        until = time.monotonic() + _PATIENCE_S
        for node in _nodes(profile):
            _wait_for(layout, node, until)
    except BaseException:
        stop(service(layout, node) for node in idle)
        raise


def _serve(commands: Commands, layout: Layout, profile: Profile, tell: Callable[[str], None]) -> None:
    """Our contracts: their servers run, and the channel has them."""
    started = contracts.start(layout)
    if started:
        tell(f"starting {', '.join(contracts.service(layout, party).name for party in started)}")
    until = time.monotonic() + _PATIENCE_S
    for party in started:
        addresses = profile.organisation(party.id).contracts
        _wait_until(contracts.service(layout, party), [addresses[name] for name in party.contracts], until)
    tell("putting the contracts on the channel")
    contracts.deploy(commands, layout, profile)


def _wait_for(layout: Layout, node: Peer | Orderer, until: float) -> None:
    _wait_until(service(layout, node), _addresses(node), until)


def wait_for_address(address: str, patience_s: float = _PATIENCE_S) -> None:
    """Wait until somebody listens.

    Raises:
        FabricProblem: nobody does.
    """
    until = time.monotonic() + patience_s
    while not _listens(address):
        if time.monotonic() > until:
            raise FabricProblem(f"nobody listens on {address} after {patience_s:g} s", "aigeco-peer network status")
        time.sleep(0.02)


def _wait_until(found: Service, addresses: Sequence[str], until: float) -> None:
    while not all(_listens(address) for address in addresses):
        if found.pid() is None:
            raise _failed(found, "ended while it started")
        if time.monotonic() > until:
            raise _failed(found, f"does not listen on {', '.join(addresses)} after {_PATIENCE_S:g} s")
        time.sleep(0.02)


def _failed(found: Service, words: str) -> FabricProblem:
    lines = found.last_lines(_LINES) or ["(its log is empty)"]
    return FabricProblem(
        "\n".join([f"{found.name} {words}; the end of its log:", *lines]),
        f"aigeco-peer network logs {found.name}",
        "aigeco-peer network up, again; down --purge, when the network can be made anew",
    )


def _addresses(node: Peer | Orderer) -> list[str]:
    return [node.address, *([node.admin] if isinstance(node, Orderer) and node.admin else [])]


def _check_ports(node: Peer | Orderer) -> None:
    for address in _addresses(node):
        if _listens(address):
            raise FabricProblem(
                f"{node.name} cannot start: another process listens on {address}",
                f"ss -ltnp 'sport = :{address.rpartition(':')[2]}', which shows who, and stop it",
                "aigeco-peer network down --purge and up, which chooses other ports and begins a new ledger",
            )


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def _join(commands: Commands, layout: Layout, profile: Profile, tell: Callable[[str], None]) -> None:
    nodes = _nodes(profile)
    joined = {
        node.name: _height(_said(process)) is not None for node, process in _asked(commands, layout, profile, nodes)
    }
    missing = [node for node in nodes if not joined[node.name]]
    if not missing:
        return
    tell(f"joining the channel {profile.channel}")
    started = [(node, _start_join(commands, layout, profile, node)) for node in missing]
    for node, process in started:
        try:
            said = wait(process, f"joining {node.name}")
        except CommandFailed as error:
            raise _not_joined(layout, node, error.said) from None
        if isinstance(node, Orderer) and "Status: 201" not in said:
            raise _not_joined(layout, node, said)


def _not_joined(layout: Layout, node: Peer | Orderer, said: str) -> FabricProblem:
    problem = _failed(service(layout, node), "did not join the channel")
    answer = CommandFailed(f"joining {node.name}", said)
    failed = FabricProblem(f"{answer}\n{problem}")
    for note in problem.__notes__:
        failed.add_note(note)
    return failed


def _asked(
    commands: Commands, layout: Layout, profile: Profile, nodes: Sequence[Peer | Orderer]
) -> list[tuple[Peer | Orderer, subprocess.Popen[str]]]:
    return [(node, _ask(commands, layout, profile, node)) for node in nodes]


def _ask(commands: Commands, layout: Layout, profile: Profile, node: Peer | Orderer) -> subprocess.Popen[str]:
    """Start to ask a node for its height."""
    if isinstance(node, Orderer):
        return commands.start("osnadmin", "channel", "list", *_osnadmin(profile, node))
    return commands.start("peer", "channel", "getinfo", "-c", profile.channel, env=_as_admin(profile, node))


def _start_join(commands: Commands, layout: Layout, profile: Profile, node: Peer | Orderer) -> subprocess.Popen[str]:
    block = str(layout.genesis)
    if isinstance(node, Orderer):
        return commands.start("osnadmin", "channel", "join", *_osnadmin(profile, node), "--config-block", block)
    return commands.start("peer", "channel", "join", "-b", block, env=_as_admin(profile, node))


def _osnadmin(profile: Profile, orderer: Orderer) -> list[str]:
    admin = profile.identity(orderer.organisation, ADMIN)
    return [
        *("--channelID", profile.channel),
        *("--orderer-address", orderer.admin or ""),
        *("--ca-file", str(profile.organisation(orderer.organisation).tls_ca)),
        *("--client-cert", str(admin.tls_certificate)),
        *("--client-key", str(admin.tls_key)),
    ]


def _as_admin(profile: Profile, peer: Peer) -> dict[str, str]:
    organisation = profile.organisation(peer.organisation)
    return settings.client_environment(peer, organisation, profile.identity(peer.organisation, ADMIN))


def _said(process: subprocess.Popen[str]) -> str:
    try:
        return wait(process, "")
    except CommandFailed as error:
        return error.said


def _height(said: str) -> int | None:
    """Height in what ``peer`` and ``osnadmin`` say; None: the node has not joined, or does not answer."""
    found = re.search(r"\{.*\}", said, re.DOTALL)
    try:
        height = json.loads(found[0])["height"] if found else None
    except (ValueError, KeyError, TypeError):
        return None
    return height if isinstance(height, int) else None


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One command at a time in this folder."""
    with open(os.open(layout.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
