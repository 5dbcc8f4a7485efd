"""Fabric's own commands: found, their version checked, run once with their answer, their words kept when they fail.

Rules
- Found in ``AIGECO_FABRIC_BIN``, else on PATH; where they are not, :class:`CommandsMissing` says who publishes them.
- The base configuration is the one that comes with them: ``FABRIC_CFG_PATH``, else ``../config`` beside their folder.
- A command sees our settings and no stray ones: ``CORE_*``, ``ORDERER_*`` and ``FABRIC_*`` of the caller's
  environment do not reach it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NAMES = ("peer", "orderer", "configtxgen", "osnadmin")
VERSION = (3, 1)
"""Of Fabric; what is relied on was tried with it."""

_OURS = ("CORE_", "ORDERER_", "FABRIC_", "CONFIGTX_")
# A command that waits for a block of a network that just started needs some seconds, on a busy machine more.
_PATIENCE_S = 60.0
_LAST_LINES = 8


class FabricProblem(Exception):
    """Something that the network, or one of Fabric's commands, does not do; advice is in the notes."""

    def __init__(self, words: str, *advice: str) -> None:
        super().__init__(words)
        for line in advice:
            self.add_note(f"try: {line}")


class CommandsMissing(FabricProblem):
    """Fabric's commands, or their configuration, are not here or not the right ones: the user's move."""


class WrongArgument(FabricProblem):
    """What was asked cannot be, whatever the network does: the caller's move."""


class CommandFailed(FabricProblem):
    """One of Fabric's commands did not do what it was asked; its last lines are in the message.

    Attributes:
        said: all that it wrote.
    """

    def __init__(self, what: str, said: str, *advice: str) -> None:
        self.said = said
        # A usage that is shown after an error would push the error out.
        super().__init__("\n".join([f"{what} failed; it said:", *last_lines(said.partition("\nUsage:\n")[0])]), *advice)


@dataclass(frozen=True, slots=True)
class Commands:
    """Where the commands are.

    Attributes:
        folder: their folder.
        config: folder with ``core.yaml`` and ``orderer.yaml``, as published with them.
    """

    folder: Path
    config: Path

    def run(
        self, command: str, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = _PATIENCE_S
    ) -> str:
        """Run one to its end; what it wrote, standard error included.

        Raises:
            CommandFailed: it ended with another status than 0, or not in time.
        """
        return wait(self.start(command, *arguments, env=env), " ".join((command, *arguments[:3])), timeout_s)

    def start(self, command: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start one whose end :func:`wait` waits for, so that several can run side by side."""
        return subprocess.Popen(
            [str(self.folder / command), *arguments],
            env=self.environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command: the caller's without Fabric's settings, and ours."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        plain = {"FABRIC_LOGGING_FORMAT": "%{time:2006-01-02T15:04:05.000Z07:00} %{level:.4s} [%{module}] %{message}"}
        return {**kept, "FABRIC_CFG_PATH": str(self.config), **plain, **ours}


def wait(process: subprocess.Popen[str], what: str, timeout_s: float = _PATIENCE_S) -> str:
    """What a started command wrote.

    Raises:
        CommandFailed: it ended with another status than 0, or not in time.
    """
    try:
        said = process.communicate(timeout=timeout_s)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[0]
        raise CommandFailed(f"{what} (not done in {timeout_s:g} s)", said) from None
    if process.returncode:
        raise CommandFailed(what, said)
    return said


def find(names: Sequence[str] = NAMES) -> Commands:
    """The commands, of the version that is wanted.

    Raises:
        CommandsMissing: one is not there, or is another version, or came without its configuration.
    """
    folder = _folder(names)
    for name in names:
        if name != "osnadmin":  # it does not say its version; it is published with the others
            _check_version(folder / name, (folder / name).stat().st_mtime_ns)
    return Commands(folder, _config(folder))


def last_lines(text: str, count: int = _LAST_LINES) -> list[str]:
    """The last lines that say something."""
    return [line[:400] for line in text.splitlines() if line.strip()][-count:]


def _folder(names: Sequence[str]) -> Path:
    given = os.environ.get("AIGECO_FABRIC_BIN")
    found = Path(given) if given else Path(shutil.which(names[0]) or "").resolve().parent
    missing = [name for name in names if not os.access(found / name, os.X_OK) or not (found / name).is_file()]
    if missing or not (given or shutil.which(names[0])):
        where = f"in {found} (AIGECO_FABRIC_BIN)" if given else "on PATH"
        raise CommandsMissing(
            f"Fabric's commands are not {where}: {', '.join(missing or names)}",
            f"Hyperledger Fabric {VERSION[0]}.{VERSION[1]} publishes them with its install script"
            " (install-fabric.sh binary, see https://hyperledger-fabric.readthedocs.io)",
            "its images hyperledger/fabric-peer and hyperledger/fabric-orderer hold peer and orderer",
            "then put them on PATH, or their folder into AIGECO_FABRIC_BIN",
        )
    return found.absolute()


@cache
def _check_version(command: Path, _changed: int) -> None:
    try:
        asked = [str(command), "-version" if command.name == "configtxgen" else "version"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=_PATIENCE_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandsMissing(f"{command} cannot be run: {error}", "the commands for this kind of machine") from None
    found = re.search(r"Version: v?(\d+)\.(\d+)", said)
    wanted = ".".join(map(str, VERSION))
    if not found:
        raise CommandsMissing(f"{command} does not say its version", f"Fabric's own {command.name}, {wanted}")
    version = (int(found[1]), int(found[2]))
    if version[0] != VERSION[0] or version < VERSION:
        raise CommandsMissing(
            f"{command} is version {version[0]}.{version[1]}; {wanted} or a later 3.x is needed",
            f"the commands of Hyperledger Fabric {wanted}",
        )


def _config(folder: Path) -> Path:
    given = os.environ.get("FABRIC_CFG_PATH")
    config = Path(given) if given else folder.parent / "config"
    missing = [name for name in ("core.yaml", "orderer.yaml") if not (config / name).is_file()]
    if missing:
        raise CommandsMissing(
            f"the configuration that comes with Fabric's commands is not in {config}: {', '.join(missing)}",
            "FABRIC_CFG_PATH=FOLDER, the folder config that was published beside the commands' bin",
        )
    return config.absolute()
