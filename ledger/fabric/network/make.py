"""Writes the folder of a new network: identities, the channel's first block, the builder, the profile.

Rules
- Whole or not at all: everything is made in a folder beside, which then takes the name.
- A folder in which something is already is never written into.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ledger.fabric import profile as profiles
from ledger.fabric.commands import Commands, FabricProblem, WrongArgument
from ledger.fabric.definitions import METERING
from ledger.fabric.identities import Authority, Subject, write_msp
from ledger.fabric.network import configtx
from ledger.fabric.network.layout import (
    HOST,
    MARK,
    PARTIES,
    Layout,
    Party,
    count_ports,
    identity_name,
    orderer_name,
    ordering,
    party_of,
    peer_name,
    profile_identity,
    profile_of,
    subjects,
)
from ledger.fabric.profile import FILE, Identity, Profile

# Below the ports that Linux gives to outgoing connections, above those of services that are installed.
_PORTS = range(20000, 32000)
_BUILDER = Path(__file__).parent / "builder"


def make(commands: Commands, folder: Path, small: bool, channel: str) -> Profile:
    """Make a network in ``folder``, which is not there or is empty.

    Raises:
        WrongArgument: something is in it, or its path cannot be used.
        CommandFailed: ``configtxgen`` failed.
    """
    check_folder(folder)
    layout = Layout(folder)
    # Paths in what is made are those of the final place; only configtxgen reads files before the folder has its name.
    made = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    try:
        with held_ports(count_ports(small)) as ports:
            profile = profile_of(layout, small, channel, iter(ports))
            made.mkdir(parents=True, mode=0o700)
            _write(Layout(made), small)
            Layout(made).profile.write_text(profiles.dump(profile))
            (made / "configtx.yaml").write_text(configtx.text(Layout(made), profile))
            commands.run(
                "configtxgen",
                *("-configPath", str(made), "-profile", configtx.PROFILE, "-channelID", channel),
                *("-outputBlock", str(Layout(made).genesis)),
            )
            (made / "configtx.yaml").write_text(configtx.text(layout, profile))
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return profile


def check_folder(folder: Path) -> None:
    """Whether a network can be made here.

    Raises:
        WrongArgument: it cannot.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongArgument(f"{folder} is not empty, and holds no network", "--network FOLDER that is not there yet")
    if any(letter.isspace() or letter in ",[]" for letter in str(folder)):
        words = f"{str(folder)!r}: Fabric reads lists of files, so the path can have no blanks, commas or brackets"
        raise WrongArgument(words, "--network FOLDER with a plainer path")


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody has now, each once, and that nobody who asks here gets until the end.

    Raises:
        FabricProblem: there are not enough.
    """
    with ExitStack() as held:
        ports: list[int] = []
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            with ExitStack() as probing:
                probe = probing.enter_context(socket.socket())
                try:
                    probe.bind((HOST, port))
                except OSError:
                    continue
                held.push(probing.pop_all())
            ports.append(port)
            if len(ports) == count:
                yield ports
                return
        raise FabricProblem(f"{count} free ports were not found", "ss -ltn, which shows who listens")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now; FabricProblem when there are not enough."""
    with held_ports(count) as ports:
        return ports


def issue(profile: Profile, organisation: str, name: str, attributes: Mapping[str, str]) -> Identity:
    """Make a client of an organisation of a network for trying, and write it into the profile.

    Raises:
        WrongArgument: there is one of this name, or its organisation's authority is not here.
    """
    party, layout = party_of(profile.organisation(organisation).id), Layout(profile.folder)
    if layout.identity(party, name).exists():
        raise WrongArgument(f"{organisation} has an identity {name!r} already", "another name")
    _write_identity(layout, party, Subject(name, "client", attributes), name)
    identity = profile_identity(layout, party, name)
    with profile.path.open("a") as file:
        file.write("\n" + profiles.dump_item("identities", identity, profile.folder))
    return identity


def _write(layout: Layout, small: bool) -> None:
    roots = b""
    for party in PARTIES:
        folder = layout.organisation(party)
        ca, tls_ca = Authority.create(party.id, "CA"), Authority.create(party.id, "TLS CA")
        ca.issued.write(folder / "ca")
        tls_ca.issued.write(folder / "tls-ca")
        roots += tls_ca.pem
        write_msp(folder / "msp", ca.pem, tls_ca.pem)
        for subject in subjects(party):
            _write_identity(layout, party, subject, identity_name(subject))
        _write_node(layout, party, Subject(peer_name(party), "peer"))
        if party in ordering(small):
            _write_node(layout, party, Subject(orderer_name(party), "orderer"))
        tls_ca.tls(f"contracts-{party.name}", [f"contracts-{party.name}", "localhost", HOST]).write(
            folder / "contracts"
        )
        (folder / "contracts" / "ca.pem").write_bytes(tls_ca.pem)
        if METERING in party.roles:
            (folder / "peer.toml").write_text(_peer_toml(party))
    layout.tls_roots.write_bytes(roots)
    (layout.builder / "bin").mkdir(parents=True)
    for script in _BUILDER.iterdir():
        target = layout.builder / "bin" / script.name
        target.write_bytes(script.read_bytes())
        target.chmod(0o755)
    (layout.folder / MARK).write_text("A network for trying, made by aigeco-peer network up.\n")


def _peer_toml(party: Party) -> str:
    """Configuration of an organisation's ingestion peer. Whose broker it is, is for whoever tries to say."""
    receipt = "identities/receipt"
    return (
        f"# {party.id}'s ingestion peer: aigeco-peer --config peer.toml run (docs/fabric.md)\n"
        f'organisation = "{party.id}"\n\n'
        f'[fabric]\nprofile = "../../{FILE}"\nidentity = "ingestion"\nstate = "ingestion.db"\n\n'
        f'[receipts]\nkey = "file:{receipt}/msp/keystore/key.pem"\n'
        f'certificate = "{receipt}/msp/signcerts/cert.pem"\n\n'
        f'[mqtt]\nhost = "{HOST}"                # the broker\nport = 8883\n'
        f'ca = "broker-ca.pem"              # issued the broker\'s certificate: put it here\n'
        f'certificate = "{receipt}/tls/cert.pem"    # the broker knows its issuer, tls-ca/cert.pem\n'
        f'key = "{receipt}/tls/key.pem"\n'
    )


def _write_identity(layout: Layout, party: Party, subject: Subject, name: str) -> None:
    _write_subject(layout, party, subject, layout.identity(party, name), hosts=())


def _write_node(layout: Layout, party: Party, subject: Subject) -> None:
    folder = layout.node(subject.name)
    _write_subject(layout, party, subject, folder, hosts=(subject.name, "localhost", HOST))
    (folder / "data").mkdir()


def _write_subject(layout: Layout, party: Party, subject: Subject, folder: Path, hosts: tuple[str, ...]) -> None:
    ca = Authority.read(party.id, layout.organisation(party) / "ca")
    tls_ca = Authority.read(party.id, layout.organisation(party) / "tls-ca")
    write_msp(folder / "msp", ca.pem, tls_ca.pem, ca.identity(subject))
    tls_ca.tls(subject.name, hosts).write(folder / "tls")
    (folder / "tls" / "ca.pem").write_bytes(tls_ca.pem)
