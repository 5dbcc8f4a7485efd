"""Captured Modbus traffic as text: what was asked, what came back, and when.

The first line names the framing, ``tcp`` (MBAP header) or ``rtu`` (CRC); then one line a frame::

    tcp
    0.000 > 0001 0000 0006 01 04 0000 0002   # seconds from the start, a request, its bytes
    0.031 < 0001 0000 0007 01 04 04 4366 3333

Pure but for :func:`load`: no sockets, no clock.

Rules
- A request's time is that of its last byte, an answer's that of its first; times never go back.
- A request is whole and sound, or the file is refused; an answer is any bytes, for devices send any.
- On TCP an answer belongs to the request of its transaction number that has none yet; any other, and every answer on
  RTU, to the last request before it. A request without an answer is silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hw_sim import frames

FRAMINGS = {"tcp": frames.TCP, "rtu": frames.RTU}

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")
_EXAMPLE = "0.031 < 0001 0000 0007 01 04 04 4366 3333"


class CaptureError(Exception):
    """A capture that cannot be read or written: the move is with whoever named or wrote it."""

    def __init__(self, place: str, words: str, advice: str) -> None:
        super().__init__(f"{place}: {words}")
        self.add_note(f"try: {advice}")


class Answer(NamedTuple):
    """Bytes that came back, and how long after the request."""

    delay_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came back, in its order; nothing is silence."""

    request: frames.Adu
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Capture:
    """What was on one wire.

    Attributes:
        framing: ``frames.TCP`` or ``frames.RTU``.
        exchanges: in the order of their requests.
    """

    framing: frames.Framing
    exchanges: tuple[Exchange, ...]


class _Asked(NamedTuple):
    request: frames.Adu
    at_s: float
    answers: list[Answer]


def load(path: Path) -> Capture:
    """The capture in a file.

    Raises:
        CaptureError: it is none; says the line, what stands there and what to try.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CaptureError(str(path), str(error.strerror), "the path of a capture that can be read") from None
    except UnicodeDecodeError:
        raise CaptureError(str(path), "not a text file", "a capture that 'aigeco-sim record' wrote") from None
    return parse(text.splitlines(), str(path))


def parse(lines: Iterable[str], name: str) -> Capture:
    """The capture that lines of text describe; ``name`` is the file's, for errors.

    Raises:
        CaptureError: they describe none.
    """
    framing: frames.Framing | None = None
    asked: list[_Asked] = []
    by_number: dict[bytes, _Asked] = {}
    last_s = 0.0
    for number, line in enumerate(lines, 1):
        content, place = line.partition("#")[0].strip(), f"{name}, line {number}"
        if not content:
            continue
        if framing is None:
            framing = FRAMINGS.get(content)
            if framing is None:
                raise CaptureError(place, f"{_short(content)} is no framing", "a first line 'tcp' or 'rtu'")
            continue
        at_s, direction, data = _frame(content, place)
        if at_s < last_s:
            raise CaptureError(place, f"{at_s:g} s comes after {last_s:g} s", "frames in the order of their time")
        last_s = at_s
        if direction == ">":
            request = _request(framing, data, place)
            asked.append(_Asked(request, at_s, []))
            by_number[data[:2]] = asked[-1]
        elif not asked:
            raise CaptureError(place, "an answer before any request", "the line away, or its request ('>') before it")
        else:
            owner = by_number.get(data[:2], asked[-1]) if framing is frames.TCP else asked[-1]
            if owner.answers:
                owner = asked[-1]
            owner.answers.append(Answer(at_s - owner.at_s, data))
    if framing is None or not asked:
        raise CaptureError(name, "no request in it", f"a line 'tcp' or 'rtu', then frames such as '{_EXAMPLE}'")
    return Capture(framing, tuple(Exchange(one.request, tuple(one.answers)) for one in asked))


def frame_line(at_s: float, direction: str, data: bytes) -> str:
    """The line of one frame, ``>`` a request, ``<`` an answer."""
    return f"{at_s:.6f} {direction} {data.hex(' ')}"


def words(request: frames.Adu) -> str:
    """A request for people."""
    function, rest = request.pdu[0], request.pdu[1:]
    if function in (1, 2, 3, 4) and len(rest) == 4:
        address, count = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:], "big")
        return f"unit {request.unit}, function {function}, address {address}, count {count}"
    return f"unit {request.unit}, function {function}, {_short(rest.hex(' '))}"


def _frame(content: str, place: str) -> tuple[float, str, bytes]:
    """Seconds, direction and bytes of a line."""
    seconds, _, rest = content.partition(" ")
    direction, _, digits = rest.strip().partition(" ")
    if not _SECONDS.fullmatch(seconds):
        raise CaptureError(place, f"{_short(seconds)} are no seconds", f"seconds from the start: {_EXAMPLE}")
    if direction not in ("<", ">"):
        raise CaptureError(place, f"{_short(direction)} is no direction", "'>' for a request, '<' for an answer")
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise CaptureError(place, f"{_short(digits)} are no bytes", f"two hex digits a byte: {_EXAMPLE}") from None
    if not data:
        raise CaptureError(place, "no bytes", "no line at all for silence")
    return float(seconds), direction, data


def _request(framing: frames.Framing, data: bytes, place: str) -> frames.Adu:
    if framing is frames.RTU:
        found = frames.rtu_frame(data)
        advice = "the whole frame, its CRC at the end; or 'tcp' in the first line"
    else:
        found, advice = _mbap(data), "one whole frame, its MBAP header first; or 'rtu' in the first line"
    if found is None:
        raise CaptureError(place, f"{_short(data.hex(' '))} is no {framing.name} request", advice)
    return found


def _mbap(data: bytes) -> frames.Adu | None:
    buffer = bytearray(data)
    try:
        found = frames.cut_mbap(buffer)
    except frames.OutOfStep:
        return None
    return None if buffer else found


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:36]} ...")
