"""One gateway of a test: its folder, its process, and what a bystander sees of it.

Rules
- A test waits for what it needs to see, never for a time. Patience only runs out when something is wrong, and then the
  words say what was last seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge.database import SpoolProblem
from edge.spool_read import Counts, SpoolReader
from edge.status import alarms as alarms_of
from edge.status import read as read_status
from hw_sim.stage import Actor, Stage
from signer.codes import Kind
from signer.statement import Claims
from tests.system.audit import aigeco

PATIENCE_S = 90.0
"""Far more than anything here takes; a lost batch alone is sent again after 19 s."""

_LOOK_S = 0.05
_Found = TypeVar("_Found")


def until(done: Callable[[], _Found], last_seen: Callable[[], object], stage: Stage) -> _Found:
    """Wait until ``done`` gives something true, and return that; not any longer when a process has ended by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := done()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s; last seen: {last_seen()}"
        stage.check()
        time.sleep(_LOOK_S)
    return found


def log_of(actor: Actor) -> str:
    """What a process has said so far."""
    return actor.log.read_text() if actor.log.exists() else ""


@dataclass(slots=True)
class Home:
    """One gateway: its folder and its process.

    Attributes:
        store: the spool's file, seen from the folder.
    """

    gateway: str
    folder: Path
    actor: Actor
    stage: Stage
    store: str = "spool.db"

    @property
    def config(self) -> Path:
        return self.folder / "aigeco.toml"

    @property
    def spool(self) -> Path:
        return self.folder / self.store

    def edit(self, old: str, new: str) -> None:
        """Change the configuration, before the start."""
        text = self.config.read_text()
        assert text.count(old) == 1, f"{old!r} in:\n{text}"
        self.config.write_text(text.replace(old, new))

    def until(self, done: Callable[[], _Found]) -> _Found:
        """Wait until ``done`` gives something true, and return that."""
        return until(done, lambda: f"{self.gateway}: {self.counts()}, {self.alarms()}\n{self.log()}", self.stage)

    def log(self) -> str:
        """What the process has said."""
        return log_of(self.actor)

    def told(self) -> dict[str, Any]:
        """The running agent's word about itself."""
        return read_status(self.spool.with_name(f"{self.spool.name}.status.json")) or {}

    def alarms(self) -> list[str]:
        """What it thinks somebody should look at."""
        return [str(alarm) for alarm in alarms_of(self.told())]

    def alarm(self, *words: str) -> str:
        """Wait for the alarm with all these words."""

        def found() -> str:
            return next((alarm for alarm in self.alarms() if all(word in alarm for word in words)), "")

        return self.until(found)

    def says(self, *words: str) -> str:
        """Wait for the line of the log with all these words."""

        def found() -> str:
            return next((line for line in self.log().splitlines() if all(word in line for word in words)), "")

        return self.until(found)

    def shown(self) -> dict[str, Any]:
        """What ``aigeco status --json`` shows."""
        code, out, err = aigeco("status", "--json", "--config", str(self.config))
        assert code == 0, err
        shown: dict[str, Any] = json.loads(out)
        return shown

    @contextmanager
    def reading(self, path: Path | None = None) -> Iterator[SpoolReader]:
        """The spool, or another one, for a look."""
        reader = SpoolReader.read(path or self.spool)
        try:
            yield reader
        finally:
            reader.close()

    def counts(self) -> Counts:
        """Where its statements are; nothing yet when the spool is just being made."""
        try:
            with self.reading() as reader:
                return reader.counts()
        except SpoolProblem:
            return Counts(0, 0, 0)

    def claims(self, path: Path | None = None) -> dict[bytes, list[Claims]]:
        """stream id -> the statements that are there."""
        with self.reading(path) as reader:
            return {
                stream.id: [reader.claims(message) for _, message in reader.statements(stream.number)]
                for stream in reader.streams()
            }

    def stores(self, more: int) -> None:
        """Wait until it has stored so many more statements."""
        goal = self.counts().stored + more
        self.until(lambda: self.counts().stored >= goal)

    def has_read(self, least: int, good: bool = True) -> None:
        """Wait until it has stored so many readings, with values or without."""

        def count() -> int:
            try:
                every = [claims for stream in self.claims().values() for claims in stream]
            except SpoolProblem:
                return 0
            return sum(claims.kind == Kind.READING and bool(claims.values) == good for claims in every)

        self.until(lambda: count() >= least)

    def settles(self) -> None:
        """Wait until what is stored now is committed."""
        self.until(lambda: self.counts().stored > 0)
        goal = self.counts().stored
        self.until(lambda: self.counts().committed >= goal)

    def start(self) -> None:
        self.actor.start()

    def stop(self) -> None:
        """End it as an operator does."""
        status = self.actor.stop()
        assert status == 0, f"{self.gateway} ended with {status}\n{self.log()}"
