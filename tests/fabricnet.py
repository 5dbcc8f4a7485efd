"""A real Fabric network for tests marked ``fabric``: one a session, and others that a test may break.

@pytest.mark.fabric
def test_something(fabric_network: Profile) -> None: ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ledger.fabric.commands import Commands
    from ledger.fabric.profile import Profile


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
def running(commands: Commands, folder: Path, small: bool = True) -> Iterator[Profile]:
    """A network of the caller's own, stopped at the end whatever became of it."""
    from ledger.fabric.network import life

    try:
        yield life.up(commands, folder, small, "aigeco", print)
    finally:
        if folder.exists():
            life.down(folder, print)
