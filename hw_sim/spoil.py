"""What becomes of an answer's bytes on a line: noise, echoes, two units that talk at once, a second master.

Pure: the frame that should be there goes in, the bytes that are there come out; chance comes from a seeded generator.

Rules
- On a serial line nobody corrects anything. Behind a gateway (Modbus TCP) a frame that is not sound does not arrive:
  the gateway says exception 11; what lies around a sound frame it leaves out.
- Noise is drawn byte by byte, so that a seed makes the same noise again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hw_sim import frames


class Wrecked(NamedTuple):
    """What a spoiler works on.

    Attributes:
        frame, request: the bytes of the answer and of what was asked.
        framing: how both are wrapped.
        size: bytes, of those that say how many.
        chance: the seeded generator.
    """

    frame: bytes
    request: bytes
    framing: frames.Framing
    size: int
    chance: random.Random


def _bad_crc(what: Wrecked) -> bytes:
    # On TCP there is no CRC; bytes 2 and 3 are the protocol id, which must be 0.
    spoilt = bytearray(what.frame)
    spoilt[-1 if what.framing is frames.RTU else 3] ^= 0x5A
    return bytes(spoilt)


def _truncated(what: Wrecked) -> bytes:
    return what.frame[: what.size]


def _noise(what: Wrecked) -> bytes:
    return bytes(int(what.chance.random() * 256) for _ in range(what.size))


def _echo(what: Wrecked) -> bytes:
    return what.request + what.frame


def _noise_before(what: Wrecked) -> bytes:
    return _noise(what) + what.frame if what.framing is frames.RTU else what.frame


def _noise_after(what: Wrecked) -> bytes:
    return what.frame + _noise(what) if what.framing is frames.RTU else what.frame


def _noise_inside(what: Wrecked) -> bytes:
    """Some bytes of the frame are others: a burst that begins anywhere in it."""
    if what.framing is not frames.RTU:
        return _lost(what)
    spoilt = bytearray(what.frame)
    first = int(what.chance.random() * len(spoilt))
    for at in range(first, min(first + max(1, what.size), len(spoilt))):
        spoilt[at] ^= 1 + int(what.chance.random() * 255)
    return bytes(spoilt)


def _twin(what: Wrecked) -> bytes:
    """A second unit of the same id answers other words, a little later: a bit is 0 where either pulls the line down."""
    if what.framing is not frames.RTU:
        return _lost(what)
    body = bytearray(what.frame[:-2])
    for at in range(3, len(body)):
        body[at] = int(what.chance.random() * 256)
    other = bytes(body) + frames.crc16(bytes(body))
    later = int(what.chance.random() * 4)
    both = bytearray(b"\xff" * (later + len(other)))
    for at, byte in enumerate(what.frame):
        both[at] &= byte
    for at, byte in enumerate(other):
        both[later + at] &= byte
    return bytes(both)


def _second_master(what: Wrecked) -> bytes:
    """Another master asks the same unit for other registers just then; its answer comes first, sound in every way."""
    if what.framing is not frames.RTU or len(what.request) != 8:
        return what.frame
    asked = bytearray(what.request[:-2])
    asked[2:4] = (int.from_bytes(asked[2:4], "big") ^ 0x0100).to_bytes(2, "big")
    answer = bytearray(what.frame[:-2])
    for at in range(3, len(answer)):
        answer[at] = int(what.chance.random() * 256)
    return b"".join(bytes(part) + frames.crc16(bytes(part)) for part in (asked, answer)) + what.frame


def _lost(what: Wrecked) -> bytes:
    """What a gateway says when nothing sound came back."""
    transaction = int.from_bytes(what.frame[:2], "big")
    refusal = frames.exception(what.frame[7] & 0x7F, frames.GATEWAY_NO_ANSWER)
    return frames.mbap(frames.Adu(what.frame[6], refusal, transaction))


SPOILERS: Mapping[str, Callable[[Wrecked], bytes]] = {
    "bad_crc": _bad_crc,
    "truncated": _truncated,
    "garbage": _noise,
    "echo": _echo,
    "noise_before": _noise_before,
    "noise_inside": _noise_inside,
    "noise_after": _noise_after,
    "twin": _twin,
    "second_master": _second_master,
}
"""Kind of fault -> what it makes of the bytes."""
