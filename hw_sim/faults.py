"""What can go wrong between a meter and its reader, as data.

A fault names a meter, a kind, when it is on (seconds since the start), and which requests it strikes while it is on
(all, every nth, or some by chance from the seed). In TOML::

    [[fault]]
    meter = "home1-grid"      # or "*"
    kind = "late"
    seconds = 2.5
    from = 30
    until = 60
    every = 3

Pure. Rules
- A fault changes what is on the wire, never what the device measures (``frozen`` shows an old measurement, unchanged).
- The same seed and the same requests meet the same faults.
- Every mistake in the data is reported, each with its place and what to try.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.table import Table, closest
from hw_sim import frames
from hw_sim.spoil import SPOILERS, Wrecked

KINDS: Mapping[str, str] = {
    "silent": "does not answer",
    "dead": "does not answer, and over TCP closes and refuses connections",
    "late": "answers `seconds` later",
    "wrong_unit": "answers under the next unit id",
    "wrong_function": "answers with the other read function's code",
    "wrong_length": "answers with `registers` more registers than asked (negative: fewer), well formed",
    "wrong_transaction": "answers with the transaction number of the request before (TCP)",
    "bad_crc": "answers with a wrong CRC (RTU), or a wrong protocol id (TCP)",
    "exception": "answers with exception `code`",
    "swapped_words": "answers with each pair of words exchanged",
    "sentinel": 'every two registers say `value`, as a device that means "not available"',
    "exchanged": "another meter of its model hangs in its place: another serial number (not a dump)",
    "frozen": "shows the measurements of the instant at which the fault began",
    "truncated": "stops after `bytes` bytes of its answer",
    "garbage": "sends `bytes` bytes of noise instead of its answer",
    "echo": "the request comes back before the answer, as from an RS-485 adapter that hears itself",
    "noise_before": "`bytes` bytes of noise before the answer",
    "noise_inside": "a burst of noise turns `bytes` bytes of the answer into others",
    "noise_after": "`bytes` bytes of noise after the answer",
    "twin": "a second unit with the same unit id answers other words at the same time",
    "second_master": "another master asks the same unit for other registers; its answer comes first",
    "shifted": "answers with the registers one address further, as after a numbering from 1",
    "hasty": "asked sooner than `seconds` after its last answer, it starts anew and is away for 20 times as long",
    "one_client": "a second connection is closed at once (TCP)",
}
"""Kind -> what it does."""

_PARAMETERS = {
    "late": ("seconds",),
    "wrong_length": ("registers",),
    "exception": ("code",),
    "sentinel": ("value",),
    "truncated": ("bytes",),
    "garbage": ("bytes",),
    "noise_before": ("bytes",),
    "noise_inside": ("bytes",),
    "noise_after": ("bytes",),
    "hasty": ("seconds",),
}
_SILENT = ("silent", "dead")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: a key of :data:`KINDS`.
        meter: the station's name, ``*`` = all.
        from_s, until_s: seconds since the start between which it is on.
        every: it strikes every nth request only, counted per station.
        probability: 0..1, whether it strikes a request that is its turn.
        seconds: of ``late`` and ``hasty``.
        code: of ``exception``.
        registers: of ``wrong_length``.
        value: of ``sentinel``, 32 bits, the more significant register first.
        size: of ``truncated``, ``garbage`` and noise, in bytes (``bytes`` in the file).
    """

    kind: str
    meter: str = "*"
    from_s: float = 0.0
    until_s: float = math.inf
    every: int = 1
    probability: float = 1.0
    seconds: float = 1.0
    code: int = 2
    registers: int = -1
    size: int = 4
    # The most a signed register pair can say; evcc's issue 31595 has it as 21,474,836.47 kWh.
    value: int = 0x7FFFFFFF

    @property
    def silences(self) -> bool:
        """Whether there is no answer at all."""
        return self.kind in _SILENT

    @property
    def spoils_bytes(self) -> bool:
        """Whether it works on the finished frame: :meth:`spoil`."""
        return self.kind in SPOILERS

    @property
    def delay_s(self) -> float:
        """By how much the answer is later."""
        return self.seconds if self.kind == "late" else 0.0

    def is_on(self, elapsed_s: float) -> bool:
        """Whether the fault's time has come and not gone."""
        return self.from_s <= elapsed_s < self.until_s

    def strikes(self, elapsed_s: float, number: int, chance: random.Random) -> bool:
        """Whether it strikes a station's request of this number (from 1)."""
        if not self.is_on(elapsed_s) or number % self.every:
            return False
        return self.probability >= 1.0 or chance.random() < self.probability

    def freezes_at(self, at_s: float, start_s: float) -> float:
        """The instant whose measurements are shown."""
        return min(at_s, start_s + self.from_s) if self.kind == "frozen" else at_s

    def change(self, answer: frames.Adu, request: frames.Adu) -> frames.Adu:
        """The answer as the faulty device gives it."""
        change = _CHANGES.get(self.kind)
        return change(self, answer, request) if change else answer

    def spoil(self, frame: bytes, request: bytes, framing: frames.Framing, chance: random.Random) -> bytes:
        """The bytes on the wire in place of the frame that should be there."""
        return SPOILERS[self.kind](Wrecked(frame, request, framing, self.size, chance))

    def asks_for(self, pdu: bytes) -> bytes:
        """What the device takes the request for."""
        if self.kind != "shifted" or len(pdu) != 5:
            return pdu
        return pdu[:1] + (int.from_bytes(pdu[1:3], "big") + 1 & 0xFFFF).to_bytes(2, "big") + pdu[3:]


def _wrong_unit(_fault: Fault, answer: frames.Adu, _request: frames.Adu) -> frames.Adu:
    return answer._replace(unit=answer.unit % 247 + 1)


def _wrong_function(_fault: Fault, answer: frames.Adu, _request: frames.Adu) -> frames.Adu:
    return answer._replace(pdu=bytes((answer.pdu[0] ^ 7,)) + answer.pdu[1:])


def _wrong_length(fault: Fault, answer: frames.Adu, _request: frames.Adu) -> frames.Adu:
    if answer.pdu[0] & 0x80:
        return answer
    words = answer.pdu[2:]
    wanted = min(max(0, len(words) + 2 * fault.registers), 250)
    words = (words + bytes(wanted))[:wanted]
    return answer._replace(pdu=bytes((answer.pdu[0], len(words))) + words)


def _wrong_transaction(_fault: Fault, answer: frames.Adu, _request: frames.Adu) -> frames.Adu:
    return answer._replace(transaction=(answer.transaction - 1) & 0xFFFF)


def _exception(fault: Fault, answer: frames.Adu, request: frames.Adu) -> frames.Adu:
    return answer._replace(pdu=frames.exception(request.pdu[0], fault.code))


def _swapped_words(_fault: Fault, answer: frames.Adu, _request: frames.Adu) -> frames.Adu:
    if answer.pdu[0] & 0x80:
        return answer
    words = answer.pdu[2:]
    pairs = [words[at + 2 : at + 4] + words[at : at + 2] for at in range(0, len(words), 4)]
    return answer._replace(pdu=answer.pdu[:2] + b"".join(pairs))


def _sentinel(fault: Fault, answer: frames.Adu, _request: frames.Adu) -> frames.Adu:
    if answer.pdu[0] & 0x80:
        return answer
    size = len(answer.pdu) - 2
    words = fault.value.to_bytes(4, "big") * (size // 4 + 1)
    return answer._replace(pdu=answer.pdu[:2] + words[:size])


_CHANGES = {
    "wrong_unit": _wrong_unit,
    "wrong_function": _wrong_function,
    "wrong_length": _wrong_length,
    "wrong_transaction": _wrong_transaction,
    "exception": _exception,
    "swapped_words": _swapped_words,
    "sentinel": _sentinel,
}

# Key in the file -> attribute, whole numbers only, least, most. An hour is longer than any campaign needs.
_NUMBERS: Mapping[str, tuple[str, bool, float, float]] = {
    "from": ("from_s", False, 0, 1e9),
    "until": ("until_s", False, 0, 1e9),
    "every": ("every", True, 1, 1e9),
    "probability": ("probability", False, 0, 1),
    "seconds": ("seconds", False, 0, 3600),
    "code": ("code", True, 1, 255),
    "registers": ("registers", True, -125, 125),
    "bytes": ("size", True, 0, 256),
    "value": ("value", True, 0, 0xFFFFFFFF),
}
_ALWAYS = ("from", "until", "every", "probability")


def parse(rows: Sequence[Table], meters: Sequence[str]) -> tuple[Fault, ...]:
    """Faults from the tables of a file's ``[[fault]]``; what is wrong goes to the tables' list of problems.

    Args:
        rows: one table a fault.
        meters: names that a fault may be for.
    """
    return tuple(_parse_one(row, meters) for row in rows)


def _parse_one(row: Table, meters: Sequence[str]) -> Fault:
    kind = row.choice("kind", KINDS)
    meter = row.text("meter", "*")
    if meter not in ("*", *meters):
        row.wrong("meter", meter, "no meter of this site has that name", closest(meter, ("*", *meters)))
    fields: dict[str, Any] = {}
    for key in (*_ALWAYS, *_PARAMETERS.get(kind, ())):
        name, whole, least, most = _NUMBERS[key]
        value = row.take(key)
        if value is None:
            continue
        if not _is_number(value, whole) or not least <= value <= most:  # type: ignore[operator]
            kind_of = "whole number" if whole else "number"
            row.wrong(
                key, value, f"a {kind_of} from {least:g} to {most:g} is needed here", f"{key} = {max(1, least):g}"
            )
            continue
        fields[name] = value
    row.close()
    fault = Fault(kind, meter, **fields)
    if fault.until_s <= fault.from_s:
        row.wrong("until", fault.until_s, f"not after from = {fault.from_s:g}", "a later end, or none")
    return fault


def _is_number(value: object, whole: bool) -> bool:
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
