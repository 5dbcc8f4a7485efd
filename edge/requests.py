"""How a technician's command reaches the chain: an order is a file beside the spool, the agent's writer fulfils it.

The agent owns the chain: only its writer signs. Signs nothing itself and opens no spool; says which statements an order
asks for, and finds out whether they were made.

Rules
- Exactly once. Before anything is signed the order's file gets the name of the chain's head; whatever comes next, the
  statements behind that head tell whether it was fulfilled. So no crash repeats it, and none loses it.
- A file appears complete or not at all (written aside, synced, renamed). Files are for their owner only (0600 in 0700).
- An order that waits may be taken back by whoever left it; one that was begun may not.
- What cannot be read is renamed, kept and reported; what cannot be fulfilled is answered with the reason.
- An answer nobody fetched is removed after a day: what it says is in the chain.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.reading import Value
from edge.lockfile import sync_folder
from edge.spool_read import SpoolReader
from signer.chain import Chain, Descriptor, Head, Values
from signer.codes import Kind
from signer.statement import Instant, Statement

_WAITS, _BEGUN, _ANSWER, _UNREADABLE = ".order", ".begun", ".answer", ".unreadable"
_VERSION = 1
_KEPT_S = 86_400
_MOST_BYTES = 256 << 10
"""Of one order: ten measuring points of 60 values take 30 kB."""

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Commission:
    """Meters' points were put into service.

    Attributes:
        technician, place: as the statement has them.
        photo: SHA-256 of a picture.
        points: (measuring point, first values).
    """

    technician: str
    place: str
    photo: bytes | None
    points: tuple[tuple[str, Values], ...]

    @property
    def subs(self) -> tuple[str, ...]:
        """Its measuring points."""
        return tuple(sub for sub, _ in self.points)

    def bodies(self) -> dict[str, dict[int, Any]]:
        """What each point's statement says, as :class:`signer.statement.Claims` has it."""
        photo = {} if self.photo is None else {3: self.photo}
        return {sub: {1: self.technician, 2: self.place, **photo, 4: _plain(values)} for sub, values in self.points}

    def say(self, chain: Chain, instant: Instant, descriptors: Mapping[str, Descriptor]) -> list[Statement]:
        """Each point's descriptor, and the word of the technician behind it."""
        made = []
        for sub, values in self.points:
            made.append(chain.descriptor(sub, instant, descriptors[sub]))
            made.append(chain.commission(sub, instant, self.technician, self.place, values, self.photo))
        return made


@dataclass(frozen=True, slots=True)
class Exchange:
    """A meter was exchanged.

    Attributes:
        old_serial, serial: of the meter taken out, of the one put in.
        points: (measuring point, last values of the old, first values of the new).
    """

    old_serial: str
    serial: str
    points: tuple[tuple[str, Values, Values], ...]

    @property
    def subs(self) -> tuple[str, ...]:
        """Its measuring points."""
        return tuple(sub for sub, _, _ in self.points)

    def bodies(self) -> dict[str, dict[int, Any]]:
        """What each point's statement says."""
        return {
            sub: {1: self.old_serial, 2: _plain(old), 3: self.serial, 4: _plain(new)} for sub, old, new in self.points
        }

    def say(self, chain: Chain, instant: Instant, descriptors: Mapping[str, Descriptor]) -> list[Statement]:
        """The exchange, and what each point is from here on."""
        made = []
        for sub, old, new in self.points:
            made.append(chain.exchange(sub, instant, self.old_serial, old, self.serial, new))
            made.append(chain.descriptor(sub, instant, descriptors[sub]))
        return made


Order = Commission | Exchange
_KINDS = {Commission: Kind.COMMISSION, Exchange: Kind.EXCHANGE}


@dataclass(frozen=True, slots=True)
class Said:
    """A statement that an order led to."""

    sub: str
    stream: bytes
    seq: int
    sid: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an order.

    Attributes:
        said: its statements; empty when it was refused.
        refused: why, else empty.
    """

    said: tuple[Said, ...]
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """An order whose statements are to be made now.

    Attributes:
        path: its file.
        order: what it asks for.
    """

    path: Path
    order: Order


def folder(spool: Path) -> Path:
    """Where orders for the agent with this spool are left."""
    return spool.with_name(f"{spool.name}.requests")


# ---- the side of the command


def leave(spool: Path, order: Order) -> Path:
    """Leave an order; its file.

    Raises:
        OSError: it cannot be written.
    """
    return post(spool, _document(order), _WAITS)


def answer_to(path: Path, timeout_s: float) -> Answer | None:
    """The answer to an order that was left; None: none came in time, and it was taken back.

    Raises:
        TimeoutError: none came in time, but it was begun: it will be fulfilled.
    """
    document = reply_to(path, timeout_s)
    return None if document is None else _answer(document)


def post(spool: Path, document: Mapping[str, Any], suffix: str) -> Path:
    """Leave a document for the agent with this spool; its file. What is no order for the chain has its own suffix.

    Raises:
        OSError: it cannot be written.
    """
    place = folder(spool)
    place.mkdir(mode=0o700, exist_ok=True)
    _own(place, spool)
    path = place / f"{time.time_ns():020d}-{secrets.token_hex(8)}{suffix}"
    _write(path, document, spool)
    return path


def reply(path: Path, document: Mapping[str, Any], spool: Path) -> None:
    """Answer what was left at ``path``.

    Raises:
        OSError: it cannot be written.
    """
    _write(_answer_place(path), document, spool)


def reply_to(path: Path, timeout_s: float) -> dict[str, Any] | None:
    """The answer to what was left; None: none came in time, and it was taken back.

    Raises:
        TimeoutError: none came in time, but it was begun.
    """
    deadline = time.monotonic() + timeout_s
    where = _answer_place(path)
    while True:
        with suppress(FileNotFoundError):
            document: dict[str, Any] = json.loads(where.read_text())
            where.unlink()
            return document
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    try:
        path.unlink()
    except FileNotFoundError:
        if where.exists():
            return reply_to(path, 0)
        raise TimeoutError(f"{path}: was begun and not finished within {timeout_s:g} s") from None
    return None


def _answer_place(path: Path) -> Path:
    """Where the answer to what was left at ``path`` is, also once that was begun under another name."""
    return path.with_name(f"{path.name.partition('.')[0]}{_ANSWER}")


# ---- the side of the writer


class Desk:
    """Where the writer finds orders and leaves answers."""

    def __init__(self, spool: Path, report: Callable[[str], None]) -> None:
        """``report`` is told what somebody should look at."""
        self._spool = spool
        self._folder = folder(spool)
        self._report = report

    def orders(self, store: SpoolReader, head: Head, known: Collection[str], subs: Collection[str]) -> list[Begun]:
        """Orders to fulfil now, marked as begun; those that a crash left are looked up in the store first.

        ``known``: points that were described; an order about others waits. ``subs``: all points there are.
        """
        found = []
        for path in self._files():
            order = self._read(path)
            if order is None:
                continue
            if path.suffix == _BEGUN:
                said = _search(store, path, order)
                if said:
                    self._close(path, Answer(said))
                    continue
            foreign = [sub for sub in order.subs if sub not in subs]
            if foreign:
                self.refuse(Begun(path, order), f"the running gateway has no measuring point {', '.join(foreign)}")
            elif all(sub in known for sub in order.subs):
                begun = path if path.suffix == _BEGUN else self._begin(path, head)
                if begun is not None:
                    found.append(Begun(begun, order))
        return found

    def fulfilled(self, begun: Begun, stream: bytes, made: Sequence[Statement]) -> None:
        """Its statements are stored."""
        kind = _KINDS[type(begun.order)]
        self._close(
            begun.path, Answer(tuple(Said(each.sub, stream, each.seq, each.sid) for each in made if each.kind == kind))
        )

    def refuse(self, begun: Begun, why: str) -> None:
        """It cannot be fulfilled."""
        self._close(begun.path, Answer((), why))

    def _files(self) -> list[Path]:
        """Orders, oldest first; old answers are removed on the way."""
        try:
            paths = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            self._report(f"orders of technicians cannot be read: {self._folder}: {error.strerror}")
            return []
        for path in paths:
            if path.suffix == _ANSWER:
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _KEPT_S:
                        path.unlink()
        return [path for path in paths if path.suffix in (_WAITS, _BEGUN)]

    def _read(self, path: Path) -> Order | None:
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise ValueError(f"is larger than {_MOST_BYTES} bytes")
            if path.suffix == _BEGUN:
                _head_of(path)
            return _order(json.loads(data))
        except FileNotFoundError:
            return None  # taken back
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            with suppress(OSError):
                path.rename(path.with_name(f"{path.name}{_UNREADABLE}"))
                self._report(f"an order cannot be read: {path}{_UNREADABLE}: {error}")
            return None

    def _begin(self, path: Path, head: Head) -> Path | None:
        """Give it the name of the head, durably; None when it was taken back meanwhile."""
        begun = path.with_name(f"{path.stem}.{head.stream.hex()}.{head.seq}{_BEGUN}")
        try:
            path.rename(begun)
            sync_folder(self._folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(f"an order cannot be begun: {path}: {error.strerror}")
            return None
        return begun

    def _close(self, path: Path, answer: Answer) -> None:
        try:
            reply(path, _answer_document(answer), self._spool)
            path.unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:  # it is looked up again, and answered when there is room
            self._report(f"an order cannot be answered: {path}: {error.strerror}")


def _search(store: SpoolReader, path: Path, order: Order) -> tuple[Said, ...]:
    """The order's statements behind the head that its file names."""
    stream, seq = _head_of(path)
    number = store.number_of(stream)
    kind, due = _KINDS[type(order)], order.bodies()
    found: dict[str, Said] = {}
    for each in store.streams():
        if each.number < number:
            continue
        for at, message in store.statements(each.number, seq + 1 if each.number == number else 0):
            if store.split(message)[1] != kind:
                continue
            claims = store.claims(message)
            if claims.sub in due and claims.body[13] == due[claims.sub]:
                found.setdefault(claims.sub, Said(claims.sub, each.id, at, claims.sid))
    return tuple(found[sub] for sub in order.subs if sub in found)


def _head_of(path: Path) -> tuple[bytes, int]:
    """Stream and seq in the name of an order that was begun.

    Raises:
        ValueError: it has none.
    """
    _, stream, seq, _ = path.name.split(".")
    return bytes.fromhex(stream), int(seq)


# ---- files


def _write(path: Path, document: Mapping[str, Any], spool: Path) -> None:
    aside = path.with_name(f"{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    _own(aside, spool)
    aside.rename(path)
    sync_folder(path.parent)


def _own(path: Path, spool: Path) -> None:
    """What root leaves is for whoever owns the spool: the agent has an account of its own."""
    if os.geteuid() == 0:
        owner = spool.stat() if spool.exists() else spool.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _document(order: Order) -> dict[str, Any]:
    if isinstance(order, Commission):
        return {
            "version": _VERSION,
            "kind": "commission",
            "technician": order.technician,
            "place": order.place,
            "photo": order.photo.hex() if order.photo is not None else None,
            "points": [[sub, _pairs(values)] for sub, values in order.points],
        }
    return {
        "version": _VERSION,
        "kind": "exchange",
        "old_serial": order.old_serial,
        "serial": order.serial,
        "points": [[sub, _pairs(old), _pairs(new)] for sub, old, new in order.points],
    }


def _order(document: Any) -> Order:
    if document["version"] != _VERSION:
        raise ValueError(f"is of version {document['version']!r}, not {_VERSION}")
    if document["kind"] == "commission":
        photo = document["photo"]
        return Commission(
            str(document["technician"]),
            str(document["place"]),
            bytes.fromhex(photo) if photo is not None else None,
            tuple((str(sub), _values(values)) for sub, values in document["points"]),
        )
    if document["kind"] == "exchange":
        return Exchange(
            str(document["old_serial"]),
            str(document["serial"]),
            tuple((str(sub), _values(old), _values(new)) for sub, old, new in document["points"]),
        )
    raise ValueError(f"asks for {document['kind']!r}")


def _answer_document(answer: Answer) -> dict[str, Any]:
    said = [[each.sub, each.stream.hex(), each.seq, each.sid.hex()] for each in answer.said]
    return {"version": _VERSION, "said": said, "refused": answer.refused}


def _answer(document: Any) -> Answer:
    said = (Said(sub, bytes.fromhex(stream), seq, bytes.fromhex(sid)) for sub, stream, seq, sid in document["said"])
    return Answer(tuple(said), document["refused"])


def _pairs(values: Values) -> list[list[int]]:
    return [[key, value.mantissa, value.exponent, value.quality] for key, value in values]


def _values(pairs: Sequence[Sequence[int]]) -> Values:
    return tuple((int(key), Value(int(number), int(power), int(quality))) for key, number, power, quality in pairs)


def _plain(values: Values) -> dict[int, list[int]]:
    return {
        key: [each.mantissa, each.exponent, each.quality] if each.quality else [each.mantissa, each.exponent]
        for key, each in values
    }
