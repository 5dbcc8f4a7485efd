"""From the spool to a folder that an auditor can verify. Works beside a running agent.

Signs nothing, judges nothing, changes nothing that is said in the spool.

Rules
- What was abandoned stays at home: it was said again in the stream that followed, and never left this gateway.
- A spool of an older format that no agent uses is brought up to date first: a gateway that was taken out of service
  need not sign anything for that.
- All of it is one state of the spool: what is stored, settled or pruned while the export runs is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.database import SpoolTooOld
from edge.spool import bring_up_to_date
from edge.spool_read import SpoolReader, Stream
from signer import bundle
from signer.trust import Trust

_TELL_EVERY = 512
"""Statements between two calls of the progress callback."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        streams: streams.
        statements: with their bytes.
        pruned: by their sid alone.
        receipts: receipts.
    """

    folder: Path
    streams: int
    statements: int
    pruned: int
    receipts: int


def export(
    spool: Path, folder: Path, trust: Trust, progress: Callable[[int, int], None] = lambda done, total: None
) -> Exported:
    """Write everything that the spool holds into ``folder``, which must be new or empty.

    ``progress`` is called with statements written and statements to write.

    Raises:
        SpoolProblem: the spool cannot be read.
        BundleProblem: the folder cannot be written.
    """
    try:
        reader = SpoolReader.read(spool)
    except SpoolTooOld:
        bring_up_to_date(spool)
        reader = SpoolReader.read(spool)
    try:
        return _Export(reader, bundle.Writer(folder), progress).run(trust)
    finally:
        reader.close()


class _Export:
    def __init__(self, reader: SpoolReader, writer: bundle.Writer, progress: Callable[[int, int], None]) -> None:
        self._reader = reader
        self._writer = writer
        self._progress = progress
        self._statements = self._pruned = self._receipts = 0
        reader.hold()
        self._ends = {stream.number: _end(reader, stream) for stream in reader.streams()}
        self._total = sum(self._ends.values())

    def run(self, trust: Trust) -> Exported:
        gateway = self._reader.gateway
        streams = [stream for stream in self._reader.streams() if self._ends.get(stream.number)]
        for stream in streams:
            self._writer.add_stream(gateway, stream.id, self._messages(stream), self._gone(stream))
        self._writer.add_receipts(self._receipt_bytes())
        for name, data in self._reader.maps():
            self._writer.add_map(name, data)
        self._writer.finish(trust)
        self._progress(self._total, self._total)
        return Exported(self._writer.folder, len(streams), self._statements, self._pruned, self._receipts)

    def _messages(self, stream: Stream) -> Iterator[tuple[int, bytes]]:
        for seq, message in self._reader.statements(stream.number, 0, self._ends[stream.number]):
            yield seq, message
            self._statements += 1
            if self._statements % _TELL_EVERY == 0:
                self._progress(self._statements, self._total)

    def _gone(self, stream: Stream) -> Iterator[tuple[int, bytes]]:
        for seq, sid in self._reader.pruned(stream.number):
            self._pruned += 1
            yield seq, sid

    def _receipt_bytes(self) -> Iterator[bytes]:
        for data in self._reader.receipts():
            self._receipts += 1
            yield data


def _end(reader: SpoolReader, stream: Stream) -> int:
    """Seq behind the last statement of a stream that is exported."""
    return reader.end(stream.number) if stream.abandoned_from is None else stream.abandoned_from
