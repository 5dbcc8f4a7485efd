"""An adversary on the line: answers cut, merged, doubled, late, of others, garbled; how many wrong values are believed.

The gateway's own bus, talk, guards and framing, on a line whose bytes and whose time are made here: nothing waits, so
that a hundred thousand wrong answers take a minute, and the same moves always end the same.

Rules
- A register says which slot, unit and register it was asked for, so that a value which was not asked for now is seen.
- A unit answers in order. What it says may come late, in part, damaged, twice in a row, with anything around it, or as
  somebody else's; a gateway gives whatever comes to the client that waits.
- A late answer outlives a connection, as behind a gateway, but where a device's own server closes it (``tcp``).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

from bench.options import show, small
from bench.report import Table
from drivers import modbus
from drivers.bus import Bus, MeterConfig
from drivers.line import SerialEndpoint, TcpEndpoint
from drivers.map import MeterMap, parse
from drivers.modbus import Wire
from drivers.reading import Reading
from hw_sim import frames

FRAMINGS = ("serial", "rtu", "gateway", "tcp")
"""A serial line, RTU in TCP, Modbus TCP to a gateway that gives answers to whoever waits, Modbus TCP to a device."""

UNITS = 3
TIMEOUT_S = 0.05
THINKS_S = 0.04
SLOT_S = 0.3
"""So that the line is hardly ever idle, and what is late meets another request."""

_PLACES = 32
_GENERATIONS = 512
# First register and number of words of each block, and what is in it. Behind a gateway there is a third one, of another
# length: nothing else would tell a second answer to the first block from one to the second.
_BLOCKS = ((100, 10), (500, 10), (900, 3))
_QUANTITIES = (("voltage", "current", "active_power"), ("apparent_power", "reactive_power", "power_factor"))


@dataclass(frozen=True, slots=True)
class Move:
    """What happens to one answer.

    Attributes:
        kind: a name of :data:`KINDS`.
        number: how much of it, 0..255.
    """

    kind: str
    number: int = 0


KINDS = (
    *("good", "late", "late twice", "late refusal", "silent", "cut", "twice", "glued", "noise before", "noise after"),
    *("other unit", "other function", "shorter", "longer", "flipped", "foreign checksum", "foreign words", "echo"),
    *("refusal", "transaction", "protocol", "length"),
)
"""What an adversary does; ``good`` is nothing."""


class Time:
    """Virtual time: passes when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Now."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Pass."""
        self.now_s += max(0.0, seconds)


@dataclass
class Adversary:
    """A line and its units; stands in for drivers.line.Line.

    Attributes:
        moves: what happens to the next answers; afterwards they are good.
        planted: moves so far that were not good.
        generation: the slot that registers say.
    """

    framing: str
    time: Time
    moves: Iterator[Move]
    endpoint: SerialEndpoint | TcpEndpoint
    fd: int = -1
    planted: int = 0
    generation: int = 0
    _due: list[tuple[float, int, bytes]] = field(default_factory=list)
    _order: int = 0
    _buffer: bytes = b""
    _free_s: dict[int, float] = field(default_factory=dict)
    _transaction: bytes = b""
    _unit: int = 0
    _waiting: bool = False
    _last: bytes = b""

    def open(self, wait_s: float) -> bool:
        """Always possible."""
        self.fd = 3
        return True

    def close(self) -> None:
        """Whose answers are lost with it: those of a device's own server."""
        self.fd, self._buffer, self._waiting = -1, b"", False
        if self.framing == "tcp":
            self._due.clear()

    def wait(self, wait_s: float) -> bool:
        """Let time pass until something comes."""
        self._arrive()
        until_s = self.time.now_s + max(0.0, wait_s)
        while not self._buffer and self._due and self._due[0][0] <= until_s:
            self.time.now_s = max(self.time.now_s, self._due[0][0])
            self._arrive()
        if not self._buffer:
            self.time.now_s = until_s
        return bool(self._buffer)

    def receive(self) -> bytes:
        """What has come."""
        self._arrive()
        data, self._buffer = self._buffer, b""
        return data

    def send(self, data: bytes) -> None:
        """A request: the unit answers at once, and the adversary does with that what its next move says."""
        self._arrive()
        if self.framing in ("gateway", "tcp"):
            self._transaction, self._waiting, body = data[:2], True, data[6:]
        else:
            assert frames.crc16(data[:-2]) == data[-2:]
            body = data[:-2]
        self._unit = body[0]
        move = next(self.moves, Move("good"))
        self.planted += move.kind != "good"
        self._answer(body[0], body[1], body[2] << 8 | body[3], body[4] << 8 | body[5], data, move)

    # ---- the units

    def _answer(self, unit: int, function: int, address: int, count: int, request: bytes, move: Move) -> None:
        number, now_s, asked = move.number, self.time.now_s, unit
        if move.kind == "silent":
            return
        words = b"".join(self.word(unit, at).to_bytes(2, "big") for at in range(address, address + count))
        pdu = bytes((function, 2 * count)) + words
        delay_s = THINKS_S
        if move.kind in ("late", "late twice", "late refusal"):
            # Around the timeout, or in one of the next slots.
            delay_s += TIMEOUT_S * (number + 1) / 32 if number < 128 else SLOT_S * (number - 96) / 64
        match move.kind:
            case "refusal" | "late refusal":
                pdu = bytes((function | 0x80, (4, 5, 6, 11)[number % 4]))
            case "other unit":
                unit = unit % 247 + 1 + number % 2
            case "other function":
                pdu = bytes((function ^ 7,)) + pdu[1:]
            case "shorter":
                keep = number % count
                pdu = bytes((function, 2 * keep)) + words[: 2 * keep]
            case "longer":
                more = words + bytes(2 + 2 * (number % 8))
                pdu = bytes((function, len(more))) + more
            case "foreign words":
                # Of the unit's other block, under its own name but with the other's length: never asked for so.
                wrong = b"".join(self.word(unit, at).to_bytes(2, "big") for at in range(address, address + count + 1))
                pdu = bytes((function, len(wrong))) + wrong
        frame = self._framed(unit, pdu, move)
        frame = self._spoilt(frame, request, move)
        self._last = frame
        # A unit works through its requests in order, under whatever name it answers.
        start_s = self._free_s[asked] = max(now_s, self._free_s.get(asked, 0.0)) + delay_s
        pieces = [frame[: len(frame) // 2], frame[len(frame) // 2 :]] if number % 5 == 1 else [frame]
        if self.framing == "gateway":  # it waits for the whole of it
            pieces = [frame]
        for at, piece in enumerate(pieces):
            self._post(start_s + at * 0.0005, piece)

    def word(self, unit: int, address: int) -> int:
        """What a register says now."""
        place = next(
            (address - first + at * 10 for at, (first, _) in enumerate(_BLOCKS) if 0 <= address - first < 10), 31
        )
        return (self.generation % _GENERATIONS) * 128 + unit % 4 * _PLACES + place

    def _framed(self, unit: int, pdu: bytes, move: Move) -> bytes:
        if self.framing in ("serial", "rtu"):
            return frames.rtu(frames.Adu(unit, pdu))
        transaction = int.from_bytes(self._transaction, "big")
        if move.kind == "transaction":
            transaction = transaction - 1 - move.number % 3
        frame = bytearray(frames.mbap(frames.Adu(unit, pdu, transaction & 0xFFFF)))
        if move.kind == "protocol":
            frame[3] ^= 1 + move.number % 255
        if move.kind == "length":
            frame[5] = move.number
        return bytes(frame)

    def _spoilt(self, frame: bytes, request: bytes, move: Move) -> bytes:
        number = move.number
        noise = random.Random(number).randbytes(1 + number % 40)
        spoilt = bytearray(frame)
        match move.kind:
            case "cut":
                return frame[: number % len(frame)]
            case "twice" | "late twice":
                return frame + frame
            case "glued" if self.framing == "gateway":  # it has given the older one away already
                return frame + self._last
            case "glued":
                return self._last + frame
            case "noise before":
                return noise + frame
            case "noise after":
                return frame + noise
            case "echo":
                return request + frame
            case "flipped" if self.framing in ("serial", "rtu"):
                spoilt[number % len(frame)] ^= 1 << number % 8
            case "foreign checksum" if self.framing in ("serial", "rtu") and len(self._last) > 2:
                if self._last[-2:] != frame[-2:]:
                    spoilt[-2:] = self._last[-2:]
        return bytes(spoilt)

    # ---- the way to the client

    def _post(self, at_s: float, data: bytes) -> None:
        self._order += 1
        heapq.heappush(self._due, (at_s, self._order, data))

    def _arrive(self) -> None:
        while self._due and self._due[0][0] <= self.time.now_s:
            data = heapq.heappop(self._due)[2]
            if self.fd < 0:
                continue
            if self.framing == "gateway" and len(data) > 7:
                if not self._waiting or data[6] != self._unit:
                    continue
                # It knows the unit and that somebody waits; what the answer belongs to it does not know.
                self._waiting, data = False, self._transaction + data[2:]
            self._buffer += data


def meter_map(blocks: int) -> MeterMap:
    """A meter with blocks of one length: the late answer to one looks exactly like the answer to the other."""
    text = (
        'manufacturer = "Test"\nmodel = "Two blocks"\nkind = "meter"\nphases = 3\ncross_checked = false\n'
        'settlement = false\nsettlement_reason = "a test"\nsources = ["none"]\n'
        f"[limits]\nmax_registers = 60\ntimeout_ms = {int(TIMEOUT_S * 1000)}\n"
        '[defaults]\ntable = "input"\ntype = "u16"\n'
    )
    for (first, _), quantities, last in zip(_BLOCKS, _QUANTITIES, ("frequency", "active_energy_import"), strict=False):
        for number, quantity in enumerate(quantities):
            at = first + 3 * number
            text += f'[[register]]\nquantity = "{quantity}"\naddress = {{ L1 = {at}, L2 = {at + 1}, L3 = {at + 2} }}\n'
        text += f'[[register]]\nquantity = "{last}"\naddress = {first + 9}\n'
    if blocks == len(_BLOCKS):
        at = _BLOCKS[-1][0]
        text += '[[register]]\nquantity = "reactive_energy_import"\n'
        text += f"address = {{ L1 = {at}, L2 = {at + 1}, L3 = {at + 2} }}\n"
    return parse(text.encode(), "blocks")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a campaign.

    Attributes:
        planted: moves that were not good.
        good, wrong: readings with the right values, and with others.
        slots: readings in all.
    """

    planted: int
    good: int
    wrong: int
    slots: int

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.planted + other.planted, self.good + other.good, self.wrong + other.wrong, self.slots + other.slots
        )


@contextmanager
def virtual(time: Time) -> Iterator[None]:
    """The wire looks at this time instead of the machine's."""
    name = "time"  # the module that it imported
    machine = getattr(modbus, name)
    setattr(modbus, name, time)
    try:
        yield
    finally:
        setattr(modbus, name, machine)


_MAPS = {framing: meter_map(3 if framing == "gateway" else 2) for framing in FRAMINGS}


def play(framing: str, moves: Iterator[Move], slots: int, pauses_s: Sequence[float] = (0.0,)) -> Outcome:
    """Read so many slots of every unit while an adversary makes its moves.

    Args:
        framing: one of :data:`FRAMINGS`.
        moves: one for each request; then all is good.
        slots: how many.
        pauses_s: how much longer than a slot the line rests after each, in turn, so that back-offs end.
    """
    time = Time()
    endpoint: SerialEndpoint | TcpEndpoint = SerialEndpoint("virtual", 115_200)
    if framing != "serial":
        endpoint = TcpEndpoint("virtual", 502, "rtu" if framing == "rtu" else "tcp")
    line = Adversary(framing, time, moves, endpoint)
    names = [f"m{unit}" for unit in range(1, UNITS + 1)]
    good = wrong = 0
    with virtual(time):
        wire = Wire(endpoint)
        wire._line = line  # type: ignore[assignment]
        meters = [MeterConfig(name, _MAPS[framing], unit) for unit, name in enumerate(names, 1)]
        bus = Bus(endpoint, meters, wire, time.monotonic, time.sleep)
        for slot in range(slots):
            line.generation = slot
            began_s = time.now_s
            for name in names[slot % UNITS :] + names[: slot % UNITS]:
                (reading,) = bus.read(name, slot * 1000)
                if reading.status is None:
                    right = _is_right(reading, line, 1 + names.index(name))
                    good += right
                    wrong += not right
            time.now_s = max(time.now_s, began_s + SLOT_S) + pauses_s[slot % len(pauses_s)]
    return Outcome(line.planted, good, wrong, slots * UNITS)


def _is_right(reading: Reading, line: Adversary, unit: int) -> bool:
    words = {
        block.address + at // 2: int.from_bytes(block.words[at : at + 2], "big")
        for block in reading.blocks
        for at in range(0, len(block.words), 2)
    }
    blocks = _BLOCKS if line.framing == "gateway" else _BLOCKS[:2]
    asked = [at for first, count in blocks for at in range(first, first + count)]
    return sorted(words) == asked and all(words[at] == line.word(unit, at) for at in asked)


def drawn(seed: int, share: float = 0.4) -> Iterator[Move]:
    """Moves by lot, without end: so many of them wrong."""
    lot = random.Random(seed)
    while True:
        kind = lot.choice(KINDS[1:]) if lot.random() < share else "good"
        yield Move(kind, lot.randrange(256))


def campaign(framing: str, planted: int, seed: int = 1) -> Outcome:
    """Play until so many wrong answers were planted."""
    found = Outcome(0, 0, 0, 0)
    while found.planted < planted:
        share = (0.1, 0.4, 0.8)[seed % 3]
        found += play(framing, drawn(seed, share), 200, (0.0, 0.0, 3.0, 0.0, 400.0))
        seed += 1
    return found


def table(planted: int) -> Table:
    """All framings."""
    rows = []
    for framing in FRAMINGS:
        found = campaign(framing, planted // len(FRAMINGS))
        goal = f"0: {'met' if not found.wrong else 'MISSED'}"
        rows.append((framing, f"{found.planted:,}", f"{found.slots:,}", f"{found.good:,}", str(found.wrong), goal))
    return Table(
        "Wrong answers planted on a virtual line with three units, and what was believed",
        ("framing", "planted", "readings", "right values", "wrong values", "goal"),
        tuple(rows),
    )


@click.command("adversary", help=__doc__)
@click.option("--planted", default=100_000, show_default=True, help="Wrong answers, of all framings together.")
@small
def command(planted: int, tiny: bool) -> None:
    show([table(2000 if tiny else planted)])


if __name__ == "__main__":
    command()
