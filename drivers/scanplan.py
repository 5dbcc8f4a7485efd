"""Whom a scan asks, in which order, and how long it waits for each. Pure: no line, no clock.

Never asks anything itself.

Rules
- What the catalogue's devices leave the factory with comes first: settings of the line, then unit ids.
- Devices of one serial line share its settings: once one has answered, the rest of that setting goes first, and other
  settings are asked only in a full scan. Hosts on the network say nothing about each other.
- A setting at which damaged characters came is the wrong one, so it goes last.
- The silence after each request is short enough for all 247 unit ids of one setting in :data:`FULL_SCAN_S`. It becomes
  shorter when the devices of the line are quick, and longer when one was late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from drivers.line import Endpoint, SerialEndpoint
from drivers.map import MeterMap
from drivers.plan import Request, request_time_s

# What a technician waits for at most, for every id at one setting of a line; a little is left for slow machines.
FULL_SCAN_S = 85.0
# Likely ids are asked twice; there are some 20.
MOST_LIKELY = 25
# Meters think for 5 to 100 ms; their documents promise 200 to 500, and what is late is noticed (drivers.scan).
LONGEST_SILENCE_S = 0.25
SHORTEST_SILENCE_S = 0.1
# A network adds its own time, a converter's the line's behind it.
SHORTEST_SILENCE_TCP_S = 0.2
LONGEST_SILENCE_TCP_S = 0.34
# How much longer than the slowest device so far the next one may take.
MARGIN = 4
# And once one was late, when four times as long would be an hour.
LATE_MARGIN = 2
# Nothing that was late changes the pace beyond this: a scan that waits longer for each id takes an hour.
LATEST_S = 1.5
# RTU inside TCP hides the speed of the line behind it: the slowest usual one, with its bits a character.
HIDDEN_LINE = 9600, 10

RTU_UNITS = tuple(range(1, 248))
TCP_UNITS = (*RTU_UNITS, 255, 0)
# Unit ids that installers and makers are fond of: the first ten, then the last one, SunSpec inverters, Kostal, Fronius
# meters, SolarEdge's and Huawei's meters.
_FOND = (*range(1, 11), 247, 126, 71, 200, 240, 100, 11)
# Settings that no map of the catalogue has as its default but that installers choose.
_FURTHER = ((4800, "N", 1), (115200, "N", 1), (57600, "N", 1))
_PARITIES = ("N", "E")

FIRST = Request(3, 0, 2)
SECOND = Request(4, 0, 2)
"""What is asked: nearly every device has holding registers, and one that lacks these refuses, which is an answer too.
The second for devices that are silent about functions they don't know. Two registers, because some know only pairs."""

Setting = tuple[int, str, int]
"""Baud rate, parity, stop bits."""


@dataclass(frozen=True, slots=True)
class Place:
    """One line with its settings, or one host.

    Attributes:
        endpoint: where it leads.
        first: unit ids that the catalogue suggests for just these settings.
        likely: further ids that are often chosen.
        rest: all others that are to be asked.
    """

    endpoint: Endpoint
    first: tuple[int, ...]
    likely: tuple[int, ...]
    rest: tuple[int, ...]

    @property
    def full_s(self) -> float:
        """Seconds that all of them take while they are silent: the likely ones are asked twice."""
        questions = 2 * len(self.first + self.likely) + len(self.rest)
        return questions * Patience(self.endpoint).timeout_s(FIRST)


@dataclass(frozen=True, slots=True)
class Ask:
    """One unit to ask at one place (an index), with one or both requests."""

    place: int
    unit: int
    requests: tuple[Request, ...]


def settings(maps: Iterable[MeterMap], bauds: Sequence[int] = (), parities: Sequence[str] = ()) -> tuple[Setting, ...]:
    """Settings of a serial line, the commonest first; with speeds or parities given, only those that have one."""
    weights: Counter[Setting] = Counter()
    for each in maps:
        if each.serial is not None:
            weights[each.serial.baud, each.serial.parity, each.serial.stopbits] += 2 if each.serial.verified else 1
    known = [setting for setting, _ in sorted(weights.items(), key=lambda item: (-item[1], item[0]))]
    known += [setting for setting in _FURTHER if setting not in weights]
    wanted = bauds or list(dict.fromkeys(setting[0] for setting in known))
    for baud in wanted:
        known += [
            (baud, parity, 1) for parity in parities or (_PARITIES if bauds else ()) if (baud, parity, 1) not in known
        ]
    return tuple(setting for setting in known if setting[0] in wanted and (not parities or setting[1] in parities))


def serial_places(
    path: str, maps: Sequence[MeterMap], chosen: Iterable[Setting], units: Sequence[int] | None = None
) -> tuple[Place, ...]:
    """The places of one serial line, one for each setting."""
    usual = [(each.serial.unit, each.serial) for each in maps if each.serial is not None]
    places = []
    for baud, parity, stopbits in chosen:
        here = Counter(unit for unit, s in usual if (s.baud, s.parity, s.stopbits) == (baud, parity, stopbits))
        endpoint = SerialEndpoint(path, baud, parity, stopbits)
        places.append(_place(endpoint, here, Counter(unit for unit, _ in usual), units or RTU_UNITS))
    return tuple(places)


def host_place(endpoint: Endpoint, maps: Sequence[MeterMap], rtu: bool, units: Sequence[int] | None = None) -> Place:
    """One host, or a converter with a serial line behind it."""
    usual = Counter(each.tcp.unit for each in maps if each.tcp is not None)
    behind = Counter(each.serial.unit for each in maps if each.serial is not None)
    return _place(endpoint, usual, behind, units or (RTU_UNITS if rtu else TCP_UNITS))


def _place(endpoint: Endpoint, here: Counter[int], usual: Counter[int], units: Sequence[int]) -> Place:
    first = [unit for unit in dict.fromkeys((1, *_by_weight(here))) if unit in units]
    likely = [unit for unit in dict.fromkeys((*_FOND, *_by_weight(usual))) if unit in units and unit not in first]
    rest = [unit for unit in dict.fromkeys(units) if unit not in first and unit not in likely]
    return Place(endpoint, tuple(first), tuple(likely), tuple(rest))


def _by_weight(units: Counter[int]) -> list[int]:
    return sorted(units, key=lambda unit: (-units[unit], unit))


@dataclass(slots=True)
class Agenda:
    """What is still to be asked.

    Attributes:
        places: where; an :class:`Ask` names one by its index.
        rest: whether all ids are asked at places where nobody has answered yet.
        quick: whether only likely ids are asked, also where somebody answered.
        full: whether places are asked to the end though another one has answered.
        shared: whether the places are settings of one line.
        done: (place, unit) that were asked.
        alive: places at which somebody answered.
        noisy: places at which damaged characters came.
        dropped: places that cannot be reached.
    """

    places: tuple[Place, ...]
    rest: bool = False
    quick: bool = False
    full: bool = False
    shared: bool = True
    done: set[tuple[int, int]] = field(default_factory=set)
    alive: set[int] = field(default_factory=set)
    noisy: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)

    def next(self) -> Ask | None:
        """The next to ask, None when all is done."""
        return next(self.left(), None)

    def left(self) -> Iterator[Ask]:
        """All that is still to be asked, as far as is known now, in its order."""
        for place, units, requests in self._order():
            if place in self.dropped:
                continue
            for unit in units:
                if (place, unit) not in self.done:
                    yield Ask(place, unit, requests)

    def _order(self) -> Iterator[tuple[int, tuple[int, ...], tuple[Request, ...]]]:
        both, one = (FIRST, SECOND), (FIRST,)
        places = self.places
        everywhere = sorted(range(len(places)), key=lambda index: index in self.noisy)
        if self.shared:
            living = [index for index in everywhere if index in self.alive]
            for index in living:
                yield index, places[index].first + places[index].likely, both
            if not self.quick:
                yield from ((index, places[index].rest, one) for index in living)
            if living and not self.full:
                return
            everywhere = [index for index in everywhere if index not in self.alive]
        yield from ((index, places[index].first, both) for index in everywhere)
        yield from ((index, places[index].likely, both) for index in everywhere)
        if (self.rest or self.full) and not self.quick:
            yield from ((index, places[index].rest, one) for index in everywhere)


class Patience:
    """How long to wait for an answer at one place.

    Attributes:
        silence_s: how long a device may think before the next one is asked.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._baud, self._bits = 0, 0
        if isinstance(endpoint, SerialEndpoint):
            self._baud, self._bits = endpoint.baud, endpoint.bits_per_char
        elif endpoint.framing == "rtu":
            self._baud, self._bits = HIDDEN_LINE
        self._least_s = SHORTEST_SILENCE_S if isinstance(endpoint, SerialEndpoint) else SHORTEST_SILENCE_TCP_S
        most_s = LONGEST_SILENCE_S if isinstance(endpoint, SerialEndpoint) else LONGEST_SILENCE_TCP_S
        affordable_s = FULL_SCAN_S / (len(RTU_UNITS) + MOST_LIKELY) - self.travel_s(FIRST)
        self._most_s = max(self._least_s, min(most_s, affordable_s))
        self._slowest_s = 0.0
        self.silence_s = self._most_s

    def travel_s(self, request: Request) -> float:
        """What a request and its answer take on the line."""
        return request_time_s(request, self._baud, self._bits) if self._baud else 0.0

    def timeout_s(self, request: Request) -> float:
        """From sending a request to giving up."""
        return self.travel_s(request) + self.silence_s

    def learn(self, thought_s: float) -> None:
        """A device took that long to think."""
        self._slowest_s = max(self._slowest_s, thought_s)
        if self._slowest_s > self._most_s:
            self.silence_s = min(LATE_MARGIN * self._slowest_s, LATEST_S)
        else:
            self.silence_s = max(self._least_s, min(MARGIN * self._slowest_s, self._most_s))

    def needed_s(self, asks: Iterable[Ask]) -> float:
        """Seconds for asking units of this place that are all silent."""
        return sum(self.timeout_s(request) for ask in asks for request in ask.requests)
