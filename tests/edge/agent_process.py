"""A real agent as a process, for tests that kill it: ``python -m tests.edge.agent_process FOLDER PERIOD_MS``.

Says on standard output what it stored, after it was stored: one line ``stream seq sid`` for each statement. Ledgers are
in the folder; everything else is the product's.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from pathlib import Path
from typing import Any

from edge import config
from edge.agent import Agent
from edge.config import Config
from edge.spool import Spool
from edge.state import Alarms
from tests.edge.places import DirectUplink, direct, identity_of, open_ledgers


class Told(Spool):
    """A spool that says what it has stored."""

    def append(self, statements: Any, *args: Any, **more: Any) -> None:
        super().append(statements, *args, **more)
        assert self.head is not None
        stream = self.head.stream.hex()
        lines = "".join(f"{stream} {made.seq} {made.sid.hex()}\n" for made in statements)
        os.write(1, lines.encode())


def hurried(settings: Config, period_ms: int) -> Config:
    """The same with periods that no configuration file may have, so that a second is a long time."""
    buses = tuple(
        dataclasses.replace(bus, meters=tuple(dataclasses.replace(meter, period_ms=period_ms) for meter in bus.meters))
        for bus in settings.buses
    )
    return dataclasses.replace(settings, buses=buses)


def main() -> int:
    folder, period_ms = Path(sys.argv[1]), int(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    settings = hurried(config.load(folder / "aigeco.toml"), period_ms)

    def connect(spool: Spool, alarms: Alarms) -> DirectUplink:
        return direct(settings, open_ledgers(folder))

    import edge.agent

    edge.agent.Spool = Told  # type: ignore[misc]
    agent = Agent(settings, identity_of(settings), connect, lambda path: hurried(config.load(path), period_ms))
    agent.send_every_ms = period_ms
    return agent.run()


if __name__ == "__main__":
    sys.exit(main())
