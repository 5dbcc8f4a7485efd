"""Asks the units of one line under the rules that make an answer believable. Where a Modbus answer is believed or not.

Never asks twice for the same purpose, never reads a meter (drivers.bus does), never closes a serial port because a unit
is silent.

Rules
- After a failed request input is discarded and the line stays quiet for one answer's time; the unit is in doubt.
- A unit in doubt must answer a probe before anything it says is a value again (drivers.guard). In TCP framing too: a
  gateway may take late answers of its own serial line for others.
- Only an error of the line closes it. A TCP connection on which nobody answers any more is given up as well.
- Where RTU answers of one length follow one another, the line is quiet around the second: the first may come twice.
- A device gets its pause between requests and after a new connection.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable

from drivers.guard import LONGEST_LATENESS_S, fragment, probe
from drivers.meter import Meter
from drivers.modbus import (
    Disconnected,
    Endpoint,
    ExceptionAnswer,
    ModbusError,
    SerialEndpoint,
    Timeout,
    Wire,
    WrongAnswer,
)
from drivers.plan import Request, request_time_s

# How long a read waits for a TCP connection; afterwards the attempt goes on in the background.
OPEN_WAIT_S = 0.3
# Between two attempts to open a line that says no: one in every slot of the shortest usual period, though slots jitter.
REOPEN_S = 0.5
# Within this time after an answer it may come once more, from a unit or a converter that says things twice.
_SOON_S = 0.1
# A port's receiver hands its characters over in groups of 8 or 14 (16550).
_QUIET_CHARACTERS = 15
# What is left for writing down what came of a request, before the next slot begins.
_MARGIN_S = 0.02
# TCP: so many failures in a row, of whatever units, mean that the connection is dead though nobody said so. As many
# more for each further connection without an answer, up to ten times: devices do not like to be called so often.
FAILURES_OF_A_DEAD_CONNECTION = 3
_MOST_TIMES = 10
# RTU inside TCP hides the speed of the serial line behind it; this is the slowest usual one, with its bits a character.
HIDDEN_LINE = 9600, 10


class Talk:
    """One line and the rules for talking on it.

    Attributes:
        endpoint: the line.
        rtu: whether frames are RTU's.
        connections: how often the line was opened.
        latest_s: monotonic instant at which what is asked now should be over, because others wait for their slots.
    """

    def __init__(
        self, endpoint: Endpoint, wire: Wire, monotonic: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self.endpoint = endpoint
        self.rtu = wire.rtu
        self.connections = 0
        self.latest_s = math.inf
        self._wire = wire
        self._monotonic = monotonic
        self._sleep = sleep
        self._serial = endpoint if isinstance(endpoint, SerialEndpoint) else None
        self._opening = False
        self._refused_at = -REOPEN_S
        self._silence = 0  # failures in a row on this connection, of whatever units
        self._barren = 0  # connections since the last answer

    def close(self) -> None:
        """Gives the line back."""
        self._wire.close()

    def cut(self) -> bool:
        """From another thread: ends what hangs on the line; see :meth:`drivers.line.Line.cut`."""
        return self._wire.cut()

    def connected(self, meters: Iterable[Meter]) -> str:
        """Opens the line when it is not open; why it is not, in words, or an empty string.

        Args:
            meters: those that need their pause after a new connection.
        """
        if self._wire.ready():
            return ""
        now = self._monotonic()
        if now < self._refused_at + REOPEN_S:
            return f"{self.endpoint}: no connection"
        try:
            opened = self._wire.open(0.0 if self._opening else OPEN_WAIT_S)
        except Disconnected as error:
            self._opening, self._refused_at = False, now
            return str(error)
        self._opening = not opened
        if not opened:
            return f"{self.endpoint}: no connection yet"
        self.connections += 1
        self._silence = 0
        self._barren += 1
        now = self._monotonic()
        for meter in meters:
            meter.guard.next_at = max(meter.guard.next_at, now + meter.map.connect_delay_ms / 1000)
        return ""

    def pause(self, meter: Meter) -> float:
        """Waits until the meter may be asked; the time it is then."""
        now = self._monotonic()
        if meter.guard.next_at > now:
            self._sleep(meter.guard.next_at - now)
            now = self._monotonic()
        return now

    def ask(self, meter: Meter, request: Request, probing: bool = False) -> bytes:
        """The words of one request.

        Raises:
            ModbusError: there are none; the line is quiet and the unit in doubt, unless it answered that it will not.
        """
        guard, counters = meter.guard, meter.counters
        sent = self.pause(meter)
        if probing:
            guard.probed(request.count, sent)
        else:
            guard.asked.add(request.count)
        counters.requests += 1
        travel_s = self._travel_s(request) if self._serial is not None else 0.0
        # What follows a failure, the quiet, takes as long as the frames once more.
        spare_s = self.latest_s - sent - 2 * travel_s - _MARGIN_S
        patience_s = guard.patience_s(spare_s)
        alike = self.rtu and guard.answered_last == (request.function, request.count)
        alike = alike and sent < guard.heard_at + meter.min_delay_s + _SOON_S
        try:
            if alike:
                self._expect_quiet(request)
                sent = self._monotonic()
            words = self._wire.read(meter.config.unit, request, patience_s + travel_s)
            now = self._monotonic()
            if alike:
                self._expect_quiet(request)
        except ModbusError as error:
            counters.count(error)
            self._settle(meter, request, error)
            raise
        self._silence = self._barren = 0
        counters.answered(now - sent - travel_s)
        guard.answered(now, now - sent - travel_s)
        guard.past(request.count)
        guard.answered_last = request.function, request.count
        guard.next_at = now + meter.min_delay_s
        return words

    def probe(self, meter: Meter, sharing: Iterable[Meter]) -> None:
        """Makes sure that no answer of this unit is under way any more.

        Args:
            meter: a meter in doubt.
            sharing: all meters on its unit.

        Raises:
            ModbusError: it is not sure.
        """
        guard = meter.guard
        assert guard.doubt is not None
        owed = guard.owed(self._monotonic())
        taken = guard.asked | owed | {request.count for other in sharing for request in other.plan}
        request = probe(meter.map, meter.plan, taken)
        if request is None:
            # A map of single values, a SunSpec device not yet known, or too many probes without an answer.
            if self._monotonic() > guard.doubted_at + LONGEST_LATENESS_S:
                guard.doubt = None
                return
            request = fragment(meter.plan, taken)
        if request is None:
            raise Timeout(f"{self.endpoint}: unit {meter.config.unit} may still answer an earlier request")
        meter.counters.probes += 1
        try:
            self.ask(meter, request, probing=True)
        except ExceptionAnswer as error:
            if owed or from_gateway(error):
                raise
        guard.doubt = None

    def _expect_quiet(self, request: Request) -> None:
        """Nothing comes unasked.

        Raises:
            WrongAnswer: something does, and nobody knows which request it belongs to.
        """
        baud, bits = (self._serial.baud, self._serial.bits_per_char) if self._serial else HIDDEN_LINE
        if not self._wire.is_quiet(_QUIET_CHARACTERS * bits / baud):
            raise WrongAnswer(f"{self.endpoint}: more than one answer ({request})")

    def _settle(self, meter: Meter, request: Request, error: ModbusError) -> None:
        """After a failed request: can its answer still come, and is the line fit for the next one?"""
        now = self._monotonic()
        meter.guard.next_at = now + meter.min_delay_s
        if isinstance(error, ExceptionAnswer) and not from_gateway(error):
            self._silence = self._barren = 0
            if meter.guard.owed(now):
                meter.guard.suspect(request, now)
            return
        meter.guard.suspect(request, now)
        self._silence += 1
        patience = FAILURES_OF_A_DEAD_CONNECTION * min(max(self._barren, 1), _MOST_TIMES)
        if self._serial is None and self._silence >= patience:
            self._wire.close()
        elif self.rtu:
            baud, bits = (self._serial.baud, self._serial.bits_per_char) if self._serial else HIDDEN_LINE
            with contextlib.suppress(Disconnected):
                self._wire.drain(request_time_s(request, baud, bits))

    def enough_time(self, meter: Meter) -> bool:
        """Whether a try of a failed unit fits into what the others leave."""
        guard = meter.guard
        travel_s = self._travel_s(meter.plan[0]) if self._serial is not None and meter.plan else 0.0
        return self._monotonic() + guard.needed_s + 2 * travel_s + _MARGIN_S < self.latest_s

    def _travel_s(self, request: Request) -> float:
        """What the frames themselves take on a serial line."""
        assert self._serial is not None
        return request_time_s(request, self._serial.baud, self._serial.bits_per_char)


def from_gateway(error: ExceptionAnswer) -> bool:
    """Whether a gateway says that the unit behind it is silent."""
    return error.code in (10, 11)
