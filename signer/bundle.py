"""Exported evidence: a folder that an auditor can carry away and read with tools of their own.

Signs nothing and judges nothing; :mod:`signer.verify` does.

Rules (FORMAT.md)
- ``statements.cborseq``: the COSE_Sign1 messages verbatim, stream after stream, ascending by seq (RFC 8742 sequence).
- ``pruned.cborseq``: ``[seq, sid]`` of statements whose bytes are gone, in the same order.
- ``receipts.cborseq``: verbatim, stream after stream, ascending by the first seq of their batch.
- ``maps/{SHA-256}.toml``: register maps that descriptors name; ``gateways.pem`` and ``receipts.pem``: trust anchors.
- ``manifest.json``, written last: version and ranges. A folder without it is an export that did not finish.
- Both directions stream: one item is in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from signer import cbor, statement
from signer.codes import Kind
from signer.errors import Malformed
from signer.trust import Trust, dump_organisations, dump_pem

VERSION = 1
"""Version of the folder's layout."""

STATEMENTS = "statements.cborseq"
RECEIPTS = "receipts.cborseq"
PRUNED = "pruned.cborseq"
MAPS = "maps"
GATEWAYS_PEM = "gateways.pem"
RECEIPTS_PEM = "receipts.pem"
MANIFEST = "manifest.json"

MAX_MANIFEST_BYTES = 1024 * 1024
"""One line a stream; a stream begins only when a gateway was restored or lost its key."""

MAX_STREAMS = 1000
"""Streams of one folder."""

_START_OF_MESSAGE = b"\xd2\x84\x58"  # a COSE_Sign1 whose protected header takes 24..255 bytes, as all of ours do
_CHUNK_BYTES = 256 * 1024


class BundleProblem(Exception):
    """A folder that cannot be written, or is no exported evidence. Whose move: who named the folder."""


@dataclass(frozen=True, slots=True)
class StreamRange:
    """What a folder holds of one stream.

    Attributes:
        gateway: gateway id.
        stream: stream id, hexadecimal.
        first: lowest seq, of a statement or of a pruned one.
        last: highest seq.
        head: sid of ``last``, hexadecimal.
        statements: messages in ``statements.cborseq``.
        pruned: entries in ``pruned.cborseq``.
        recovered: [stream, seq, sid] that the genesis names, None when it names none.
    """

    gateway: str
    stream: str
    first: int
    last: int
    head: str
    statements: int
    pruned: int
    recovered: tuple[str, int, str] | None = None


class Writer:
    """Writes one folder: streams, receipts and maps first, then :meth:`finish`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, which must not be there yet or be empty.

        Raises:
            BundleProblem: it cannot be made, or something is in it.
        """
        self.folder = folder
        self._streams: list[StreamRange] = []
        self._receipts = 0
        self._maps: dict[str, str] = {}
        try:
            (folder / MAPS).mkdir(parents=True)
            if {entry.name for entry in folder.iterdir()} != {MAPS}:
                raise BundleProblem(f"{folder}: is not empty")
            self._files = {name: open(folder / name, "xb") for name in (STATEMENTS, RECEIPTS, PRUNED)}  # noqa: SIM115
        except OSError as error:
            raise BundleProblem(f"{folder}: cannot be written: {error.strerror}") from None

    def add_stream(
        self, gateway: str, stream: bytes, statements: Iterable[tuple[int, bytes]], pruned: Iterable[tuple[int, bytes]]
    ) -> None:
        """Append a stream: (seq, message) and (seq, sid), both ascending. An older stream comes before a newer one.

        Raises:
            BundleProblem: it is empty, not ascending, or cannot be written.
        """
        written, first, last, data = self._write(STATEMENTS, ((seq, message, message) for seq, message in statements))
        gone, first_gone, last_gone, sid = self._write(
            PRUNED, ((seq, cbor.encode([seq, sid]), sid) for seq, sid in pruned)
        )
        if not written and not gone:
            raise BundleProblem(f"stream {stream.hex()}: there is nothing of it")
        if written and (not gone or last > last_gone):
            head = statement.parse(data).sid
        else:
            head, last = sid, last_gone
        lowest = min(seq for seq, count in ((first, written), (first_gone, gone)) if count)
        recovered = self._recovered
        self._recovered = None
        self._streams.append(StreamRange(gateway, stream.hex(), lowest, last, head.hex(), written, gone, recovered))

    def add_receipts(self, receipts: Iterable[bytes]) -> None:
        """Append receipts: in the order of the streams, then ascending by their first seq.

        Raises:
            BundleProblem: they cannot be written.
        """
        self._receipts += self._write(RECEIPTS, ((0, receipt, receipt) for receipt in receipts), ascending=False)[0]

    def add_map(self, name: str, data: bytes) -> None:
        """Put a register map, its file verbatim, where its digest says.

        Raises:
            BundleProblem: it cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        self._maps[digest] = name
        self._put(f"{MAPS}/{digest}.toml", data)

    def finish(self, trust: Trust) -> None:
        """Write trust anchors and manifest; everything is on disk when this returns.

        Raises:
            BundleProblem: they cannot be written.
        """
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()
        except OSError as error:
            raise BundleProblem(f"{self.folder}: cannot be written: {error.strerror}") from None
        self._put(GATEWAYS_PEM, dump_pem(trust.gateways))
        self._put(RECEIPTS_PEM, dump_organisations(trust.organisations))
        manifest = {
            "version": VERSION,
            "streams": [asdict(stream) for stream in self._streams],
            "receipts": self._receipts,
            "maps": self._maps,
        }
        self._put(MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")

    _recovered: tuple[str, int, str] | None = None

    def _write(
        self, name: str, rows: Iterable[tuple[int, bytes, bytes]], ascending: bool = True
    ) -> tuple[int, int, int, bytes]:
        """Write (seq, bytes, what to keep of the last); returns count, first and last seq, and what was kept."""
        count, first, last, kept = 0, 0, -1, b""
        file = self._files[name]
        try:
            for seq, data, keep in rows:
                if ascending and seq <= last:
                    raise BundleProblem(f"{name}: seq {seq} after {last}")
                if not count:
                    first = seq
                    if name == STATEMENTS and seq == 0:
                        self._recovered = _recovered(data)
                file.write(data)
                count, last, kept = count + 1, seq, keep
        except OSError as error:
            raise BundleProblem(f"{self.folder / name}: cannot be written: {error.strerror}") from None
        return count, first, last, kept

    def _put(self, name: str, data: bytes) -> None:
        try:
            with open(self.folder / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BundleProblem(f"{self.folder / name}: cannot be written: {error.strerror}") from None


def _recovered(genesis: bytes) -> tuple[str, int, str] | None:
    claims = statement.parse(genesis)
    found = claims.body[13].get(3) if claims.kind == Kind.GENESIS else None
    return (found[0].hex(), found[1], found[2].hex()) if found else None


def read_manifest(folder: Path) -> tuple[StreamRange, ...]:
    """What the folder says it holds.

    Raises:
        BundleProblem: there is no manifest, or it is none of version 1.
    """
    path = folder / MANIFEST
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        problem = BundleProblem(f"{path}: cannot be read: {error.strerror}")
        problem.add_note("try: aigeco export again; a folder without a manifest is an export that did not finish")
        raise problem from None
    try:
        return _parse_manifest(json.loads(content))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleProblem(
            f"{path}: is no manifest of version {VERSION}: {type(error).__name__} {error}"[:300]
        ) from None


def _parse_manifest(manifest: Any) -> tuple[StreamRange, ...]:
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise ValueError("another version")
    streams = manifest["streams"]
    if not isinstance(streams, list) or len(streams) > MAX_STREAMS:
        raise ValueError(f"streams is no list of at most {MAX_STREAMS}")
    return tuple(_parse_stream(stream) for stream in streams)


def _parse_stream(stream: Mapping[str, Any]) -> StreamRange:
    recovered = stream["recovered"]
    found = StreamRange(**{**stream, "recovered": None if recovered is None else tuple(recovered)})
    numbers = (found.first, found.last, found.statements, found.pruned)
    texts = (found.gateway, found.stream, found.head)
    if not all(type(number) is int and number >= 0 for number in numbers) or not all(type(t) is str for t in texts):
        raise ValueError("a stream's field is of another type")
    if found.recovered is not None and [type(part) for part in found.recovered] != [str, int, str]:
        raise ValueError("recovered is no [stream, seq, sid]")
    return found


class Sequence:
    """The items of a CBOR sequence file, one at a time, with their byte offsets.

    Attributes:
        offset: of the next item.
        size: of the file, bytes.
    """

    def __init__(self, file: IO[bytes], size: int, max_item_bytes: int) -> None:
        self.offset = 0
        self.size = size
        self._file = file
        self._max = max_item_bytes
        self._buffer = b""
        self._start = 0  # offset of the buffer in the file

    @classmethod
    def open(cls, path: Path, max_item_bytes: int) -> Sequence:
        """The sequence in a file; a missing file is an empty one.

        Raises:
            BundleProblem: it cannot be read.
        """
        try:
            if not path.exists():
                path = Path(os.devnull)
            file = open(path, "rb")  # noqa: SIM115  closed by close()
            return cls(file, os.fstat(file.fileno()).st_size, max_item_bytes)
        except OSError as error:
            raise BundleProblem(f"{path}: cannot be read: {error.strerror}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def next(self) -> bytes | None:
        """The item at :attr:`offset`, which then moves behind it; None at the end.

        Raises:
            Malformed: no whole item of allowed length is there; :attr:`offset` stays.
        """
        window = self._window(self.offset)
        if not window:
            return None
        end = cbor.item_end(window, 0, "item")
        if end > self._max:
            raise Malformed("item", f"{end} bytes, at most {self._max} are allowed")
        self.offset += end
        return window[:end]

    def resynchronise(self, damaged: int, parse: Callable[[bytes], object]) -> None:
        """Go on after the damaged item at offset ``damaged``: behind it, or where the next item that parses begins.

        A damaged length may have swallowed items that are whole, so the nearest whole one counts.
        """
        end = self.offset
        for start in self.find(_START_OF_MESSAGE, damaged + 1):
            self.offset = start
            if start == end:
                return
            try:
                parse(self.next() or b"")
            except Malformed:
                continue
            self.offset = start
            return
        self.offset = self.size

    def find(self, pattern: bytes, start: int) -> Iterator[int]:
        """Offsets from ``start`` on at which ``pattern`` stands."""
        position = start
        while window := self._window(position):
            found = window.find(pattern)
            if found >= 0:
                yield position + found
                position += found + 1
            elif len(window) < len(pattern):
                return
            else:
                position += len(window) - len(pattern) + 1

    def _window(self, offset: int) -> bytes:
        """The bytes from ``offset`` on: one whole item more than fits, or all that are left."""
        begin = offset - self._start
        if not 0 <= begin <= len(self._buffer) - self._max - 1:
            at_end = self._start + len(self._buffer) >= self.size
            if begin < 0 or not at_end:
                self._file.seek(offset)
                self._buffer, self._start, begin = self._file.read(_CHUNK_BYTES), offset, 0
        return self._buffer[begin : begin + self._max + 1]
