"""What a bystander sees of a gateway: what it has read, stored and settled, from its spool, without disturbing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from drivers.obis import pack
from drivers.reading import Value
from edge.database import SpoolProblem
from edge.spool_read import SpoolReader
from signer.codes import Kind
from signer.statement import Claims

_POWER = (pack("16.7.0"), pack("2.7.0"))  # net at the meter, else what an inverter delivers
_IMPORT, _EXPORT = pack("1.8.0"), pack("2.8.0")


@dataclass(slots=True)
class Seen:
    """The last reading of one measuring point.

    Attributes:
        sub: measuring point.
        slot_ms: its slot.
        status: record status, None = good.
        values: OBIS key -> value.
        count: readings stored so far.
    """

    sub: str
    slot_ms: int = 0
    status: int | None = None
    values: dict[int, Value] = field(default_factory=dict)
    count: int = 0

    @property
    def power_w(self) -> Value | None:
        """Net active power, import positive; an inverter's export."""
        return next((self.values[key] for key in _POWER if key in self.values), None)

    @property
    def import_wh(self) -> Value | None:
        """Total energy imported."""
        return self.values.get(_IMPORT)

    @property
    def export_wh(self) -> Value | None:
        """Total energy exported."""
        return self.values.get(_EXPORT)


class Lookout:
    """Watches one gateway's spool.

    Attributes:
        gateway: its id.
        points: by sub, in the order they appeared.
        stored: statements on disk.
        committed: of them settled by k receipts.
        story: statements other than readings: what the gateway tells about itself.
    """

    def __init__(self, gateway: str, spool: Path) -> None:
        self.gateway = gateway
        self.points: dict[str, Seen] = {}
        self.stored = 0
        self.committed = 0
        self.story: list[Claims] = []
        self._told = 0
        self._spool = spool

    @property
    def pending(self) -> int:
        """Statements without enough receipts."""
        return self.stored - self.committed

    def look(self) -> None:
        """Take in what is new. A spool that is not there yet shows nothing."""
        if not self._spool.exists():
            return
        try:
            reader = SpoolReader.read(self._spool)
        except SpoolProblem:
            return  # just being made; the next look sees it
        try:
            streams = reader.streams()
            for _, message in reader.statements(streams[-1].number, self.stored) if streams else ():
                self._note(reader.claims(message))
                self.stored += 1
            self.committed = reader.counts().committed
        finally:
            reader.close()

    def take_news(self) -> list[Claims]:
        """Statements of the gateway's own story since the last call."""
        news = self.story[self._told :]
        self._told = len(self.story)
        return news

    def _note(self, claims: Claims) -> None:
        if claims.kind != Kind.READING or claims.slot_ms is None:
            self.story.append(claims)
            return
        seen = self.points.setdefault(claims.sub, Seen(claims.sub))
        seen.slot_ms, seen.status, seen.values = claims.slot_ms, claims.status, dict(claims.values)
        seen.count += 1
