"""Finds the devices of a serial line or of hosts, and says what each can be. Only reads: functions 3 and 4.

Never writes, never opens two lines at once, never takes one device's answer for another's.

Rules
- Any answer of a unit means that it is there, a refusal too; only a gateway's "nobody answers" means that it is not.
- Something that is not the answer means that somebody was late or that characters were damaged. The units asked last
  are asked again with patience; when none of them answers, the setting is probably wrong, and the scan says so.
- A device that was found is recognised at once, so that whoever interrupts the scan has it.
- One device that answers to many unit ids is listed once; only a serial number, or all ids of a host answering with the
  same registers, proves that it is one.
- Whoever continues a scan gives it what :class:`Scan` holds: agenda, found and hints.
"""

from __future__ import annotations

import termios
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from drivers.map import MeterMap
from drivers.modbus import (
    Disconnected,
    Endpoint,
    ExceptionAnswer,
    ModbusError,
    SerialEndpoint,
    TcpEndpoint,
    Timeout,
    Wire,
    WrongAnswer,
)
from drivers.plan import Request
from drivers.recognise import Candidate, recognise
from drivers.scanplan import FIRST, Agenda, Ask, Patience

# A device in the same building accepts a connection at once; a converter that wakes up takes a second or two.
CONNECT_S = 3.0
# For units that may have been late: longer than any meter's document allows, but for an SDongle's ten seconds.
PATIENT_S = 1.2
# A late answer comes while one of the next few units is asked.
SUSPECTS = 3
# Some devices hang up on an id that is not theirs; one that hangs up this often in a row lets nobody in.
MOST_HANGUPS = 5
# After so many times in vain a line is noisy, or another master talks on it: damaged answers cost no more patience.
MOST_FUTILE = 2
# So many ids of a host that all answer, with the same model and without a serial number, are one device.
FEWEST_FOR_ALL = 8
DAMAGED_WORDS = (
    "damaged or foreign characters came: another speed or parity, two devices with one id, another program that talks "
    "on this line, noise, or no termination"
)
# Between two requests to one device; the maps of those that need more say so.
REST_S = 0.005
# What a device takes for an unusual register may be several times what it took for the first one.
_KNOWN_MARGIN, _KNOWN_LEAST_S, _KNOWN_MOST_S = 5, 0.15, 1.2
_GATEWAY_SILENCE = (10, 11)


class Outcome(Enum):
    """What came of a request."""

    ANSWER = "answer"
    SILENCE = "silence"
    NOBODY = "nobody"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one request.

    Attributes:
        outcome, words: what it was.
        took_s: how long it took.
        stray: whether something else came besides.
    """

    outcome: Outcome
    words: str
    took_s: float
    stray: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A unit that answers.

    Attributes:
        endpoint: where.
        unit: its id.
        candidates: what it can be, best first; empty when it is nothing of the catalogue.
        answer: how it answered, in words.
        thought_ms: how long it took.
        also: further ids at which the same device answers.
    """

    endpoint: Endpoint
    unit: int
    candidates: tuple[Candidate, ...]
    answer: str
    thought_ms: int
    also: tuple[int, ...] = ()


@dataclass(slots=True)
class Scan:
    """What is known so far; all that is needed to go on later.

    Attributes:
        agenda: whom to ask still.
        found: devices in the order they were found.
        hints: what else was noticed, for a person.
        unreached: place -> why it can't be reached.
        asked: requests that looked for units.
    """

    agenda: Agenda
    found: list[Found] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    unreached: dict[int, str] = field(default_factory=dict)
    asked: int = 0

    def hint(self, words: str) -> None:
        """Remember something for the person, once."""
        if words not in self.hints:
            self.hints.append(words)


class Scanner:
    """Works off an agenda.

    Attributes:
        scan: what is known so far; always complete, so that the scan can be interrupted anywhere.
        doing: what it does now, in words.
    """

    def __init__(
        self,
        scan: Scan,
        maps: Sequence[MeterMap],
        wire: Callable[[Endpoint], Wire] = Wire,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        patient_s: float = PATIENT_S,
    ) -> None:
        """`patient_s`: how long a unit that may have been late is given."""
        self.scan = scan
        self.doing = ""
        self._maps = maps
        self._new_wire = wire
        self._monotonic = monotonic
        self._sleep = sleep
        self._patient_s = patient_s
        self._place = -1
        self._wire: Wire | None = None
        self._patience = [Patience(place.endpoint) for place in scan.agenda.places]
        self._before: deque[tuple[int, Request]] = deque(maxlen=SUSPECTS)
        self._hangups = 0
        self._futile = [0] * len(scan.agenda.places)

    def run(self, tell: Callable[[], None] = lambda: None) -> None:
        """Asks everybody. `tell` is called after each step.

        Raises:
            Disconnected: the serial port cannot be used. A setting that it does not take, and a host that cannot be
                reached, are in ``scan.unreached`` instead.
        """
        agenda = self.scan.agenda
        try:
            while (ask := agenda.next()) is not None:
                self.doing = f"unit {ask.unit}"
                if self._opened(ask.place):
                    self._step(ask)
                tell()
            self._unite()
        finally:
            self.close()

    def close(self) -> None:
        """Gives the line back."""
        if self._wire is not None:
            self._wire.close()
        self._wire, self._place = None, -1

    def left_s(self) -> float:
        """Seconds that the rest takes if nobody answers any more."""
        by_place: dict[int, list[Ask]] = {}
        for ask in self.scan.agenda.left():
            by_place.setdefault(ask.place, []).append(ask)
        return sum(self._patience[place].needed_s(asks) for place, asks in by_place.items())

    def silence_s(self, place: int) -> float:
        """How long one unit of a place may be silent, now."""
        return self._patience[place].silence_s

    # ---- the line

    def _opened(self, index: int) -> bool:
        """Whether the line of a place is open now; one that can't be is dropped with a hint."""
        if self._place != index or self._wire is None:
            self.close()
            self._place, self._wire = index, self._new_wire(self.scan.agenda.places[index].endpoint)
            self._before.clear()
            self._hangups = 0
        endpoint = self.scan.agenda.places[index].endpoint
        try:
            if self._wire.open(CONNECT_S):
                return True
            self._drop(index, f"{endpoint}: no connection after {CONNECT_S:g} s")
        except Disconnected as error:
            if isinstance(error.__cause__, (termios.error, ValueError)):  # the port is there, but not at this setting
                self._drop(index, f"{where(endpoint)}: the port does not take this setting")
            elif isinstance(endpoint, SerialEndpoint):
                raise
            else:
                self._drop(index, str(error))
        return False

    def _drop(self, index: int, words: str) -> None:
        self.scan.agenda.dropped.add(index)
        self.scan.unreached[index] = words

    # ---- looking for units

    def _step(self, ask: Ask) -> None:
        """Asks one unit; whoever is found is recognised."""
        key = ask.place, ask.unit
        agenda = self.scan.agenda
        for request in ask.requests:
            heard = self._probe(ask.unit, request, self._patience[ask.place].timeout_s(request))
            if ask.place in agenda.dropped:
                return
            if heard.outcome is Outcome.ANSWER:
                self._recognise(ask.place, ask.unit, heard)
            elif heard.outcome is Outcome.NOBODY:
                agenda.done.add(key)
            hopeless = (heard.stray or heard.outcome is Outcome.DAMAGED) and self._ask_again(ask, request)
            if hopeless or key in agenda.done:
                break
            if heard.outcome is Outcome.SILENCE:
                self._before.append((ask.unit, request))
        agenda.done.add(key)

    def _probe(self, unit: int, request: Request, timeout_s: float) -> Heard:
        """Asks once."""
        wire = self._wire
        assert wire is not None
        strays, began = wire.strays, self._monotonic()
        self.scan.asked += 1
        outcome, words = Outcome.ANSWER, f"function {request.function} answers"
        try:
            wire.read(unit, request, timeout_s)
        except ExceptionAnswer as error:
            words = f"refuses function {request.function} with code {error.code}"
            behind = not isinstance(wire.endpoint, SerialEndpoint) and error.code in _GATEWAY_SILENCE
            outcome = Outcome.NOBODY if behind else Outcome.ANSWER
        except Timeout:
            outcome = Outcome.SILENCE
        except Disconnected as error:
            outcome = Outcome.SILENCE
            self._hung_up(error)
        except ModbusError:
            outcome = Outcome.DAMAGED
        took_s = self._monotonic() - began
        if outcome in (Outcome.ANSWER, Outcome.NOBODY):
            self._hangups = 0
        if outcome is Outcome.NOBODY:  # which is the gateway's own patience
            self._patience[self._place].learn(took_s)
        return Heard(outcome, words, took_s, wire.strays > strays)

    def _hung_up(self, error: Disconnected) -> None:
        """The line broke while a unit was asked."""
        assert self._wire is not None
        if isinstance(self._wire.endpoint, SerialEndpoint):
            raise error
        self._hangups += 1
        if self._hangups >= MOST_HANGUPS:
            self._drop(self._place, f"{error} (it hangs up each time: it may serve another client)")
        elif not self._wire.open(CONNECT_S):
            self._drop(self._place, f"{self._wire.endpoint}: no connection after {CONNECT_S:g} s")

    def _ask_again(self, ask: Ask, request: Request) -> bool:
        """Something came that is not the answer: the last few units again, with patience.

        Returns:
            Whether this unit's answer is damaged time and again.
        """
        place, agenda = ask.place, self.scan.agenda
        current = (ask.unit, request)
        patient = self._futile[place] < MOST_FUTILE
        suspects = [*reversed(self._before), current] if patient else [current]
        self._before.clear()
        answered = hopeless = False
        for unit, suspect in suspects:
            if answered and (unit, suspect) != current:
                continue  # it was one before this one
            if (place, unit) in agenda.done and any(self._is(each, place, unit) for each in self.scan.found):
                continue
            timeout_s = self._patient_s if patient else self._patience[place].timeout_s(suspect)
            heard = self._asked_calmly(place, unit, suspect, timeout_s)
            if heard is not None and heard.outcome is Outcome.ANSWER and patient:
                # That may have been its answer to the question before: only the next one says how slow it is.
                heard = self._asked_calmly(place, unit, suspect, self._patient_s, self._patient_s) or heard
            if heard is None:
                return False
            answered = answered or heard.outcome in (Outcome.ANSWER, Outcome.NOBODY)
            if heard.outcome is Outcome.ANSWER:
                self._recognise(place, unit, heard)
            elif heard.outcome is Outcome.DAMAGED and unit == ask.unit:
                hopeless = True
                self.scan.hint(f"{self._where(place)}: unit {unit}: {DAMAGED_WORDS}")
        if not answered:
            self._futile[place] += 1
            agenda.noisy.add(place)
        return hopeless

    def _asked_calmly(
        self, place: int, unit: int, request: Request, timeout_s: float, quiet_s: float = 0.0
    ) -> Heard | None:
        """Asks once the line is quiet; None when it is gone."""
        assert self._wire is not None
        self._wire.drain(quiet_s or self._patience[place].timeout_s(FIRST))
        if not self._opened(place):
            return None
        heard = self._probe(unit, request, timeout_s)
        return None if place in self.scan.agenda.dropped else heard

    def _is(self, found: Found, place: int, unit: int) -> bool:
        return found.endpoint == self.scan.agenda.places[place].endpoint and unit in (found.unit, *found.also)

    # ---- what it is

    def _recognise(self, place: int, unit: int, heard: Heard) -> None:
        """Finds out what a unit can be."""
        wire, patience, words = self._wire, self._patience[place], heard.words
        assert wire is not None
        thought_s = max(0.0, heard.took_s - patience.travel_s(FIRST))
        patience.learn(thought_s)
        self.doing = f"unit {unit} answers, which model is it?"
        silence_s = min(max(_KNOWN_LEAST_S, _KNOWN_MARGIN * thought_s), _KNOWN_MOST_S)

        def read(request: Request, pause_s: float) -> bytes:
            self._sleep(max(REST_S, pause_s))
            if not wire.is_open:
                wire.open(CONNECT_S)
            timeout_s = patience.travel_s(request) + silence_s
            try:
                return wire.read(unit, request, timeout_s)
            except ExceptionAnswer:
                raise
            except WrongAnswer:  # a damaged answer must not make another model of it: once more
                wire.drain(timeout_s)
                return wire.read(unit, request, timeout_s)
            except ModbusError:
                wire.drain(timeout_s)  # its late answer must not be the next one's
                raise

        endpoint = self.scan.agenda.places[place].endpoint
        try:
            candidates = recognise(read, self._maps, wire.rtu)
        except Disconnected as error:
            if isinstance(endpoint, SerialEndpoint):
                raise
            candidates, words = (), f"{words}, then hangs up: {error}"
        self._keep(place, Found(endpoint, unit, candidates, words, round(1000 * thought_s)))

    def _keep(self, place: int, found: Found) -> None:
        agenda = self.scan.agenda
        twin = next((index for index, each in enumerate(self.scan.found) if _one_device(each, found)), None)
        if twin is None:
            self.scan.found.append(found)
        else:
            first = self.scan.found[twin]
            self.scan.found[twin] = replace(first, also=(*first.also, found.unit))
        agenda.alive.add(place)
        agenda.done.add((place, found.unit))

    def _unite(self) -> None:
        """A host at which every id that was asked answers as the same model is one device."""
        scan = self.scan
        for index, place in enumerate(scan.agenda.places):
            here = [each for each in scan.found if each.endpoint == place.endpoint]
            answering = {unit for each in here for unit in (each.unit, *each.also)}
            asked = {unit for at, unit in scan.agenda.done if at == index}
            models = {each.candidates[0].map.name if each.candidates else "" for each in here}
            if not isinstance(place.endpoint, TcpEndpoint) or len(here) < 2 or len(models) > 1:
                continue
            if len(asked) >= FEWEST_FOR_ALL and asked == answering:
                one = replace(here[0], also=tuple(sorted(answering - {here[0].unit})))
                scan.found[:] = [one if each is here[0] else each for each in scan.found if each not in here[1:]]

    def _where(self, place: int) -> str:
        return where(self.scan.agenda.places[place].endpoint)


def where(endpoint: Endpoint) -> str:
    """A line and its settings: ``/dev/ttyUSB0 9600 8N1``, ``192.0.2.7:502``."""
    if isinstance(endpoint, TcpEndpoint):
        return str(endpoint)
    return f"{endpoint.path} {endpoint.baud} 8{endpoint.parity}{endpoint.stopbits}"


def _one_device(one: Found, other: Found) -> bool:
    """Whether two units are one device that answers to both ids: one host, one serial number, the same models."""
    if one.endpoint != other.endpoint or not isinstance(one.endpoint, TcpEndpoint):
        return False
    if not (one.candidates and other.candidates):
        return False
    first, second = one.candidates[0], other.candidates[0]
    return bool(first.serial) and (first.serial, first.map.name) == (second.serial, second.map.name)
