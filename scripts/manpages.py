"""Writes the man pages of the three commands into docs/man, from the text of their ``--help``. Run by ``make man``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from edge.cli.exits import MEANING
from edge.cli.main import cli as aigeco
from edge.cli.manpage import page
from hw_sim.cli.main import MEANING as SIMULATOR_MEANING
from hw_sim.cli.main import cli as simulator
from ledger.cli.exits import MEANING as PEER_MEANING
from ledger.cli.main import cli as peer

TOP = Path(__file__).parents[1]
PROGRAMS = {
    "aigeco": (aigeco, MEANING),
    "aigeco-sim": (simulator, SIMULATOR_MEANING),
    "aigeco-peer": (peer, PEER_MEANING),
}


def pages() -> dict[str, str]:
    """File name -> page."""
    version = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]
    return {
        f"{name}.1": page(program, name, version, endings, [other for other in PROGRAMS if other != name])
        for name, (program, endings) in PROGRAMS.items()
    }


if __name__ == "__main__":
    folder = TOP / "docs" / "man"
    folder.mkdir(exist_ok=True)
    for file, text in pages().items():
        (folder / file).write_text(text)
        print(folder / file)
