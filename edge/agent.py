"""The agent: one thread per bus, one writer, one sender, and the main thread as their watchdog.

The only file of the gateway that starts threads. Reads, signs and sends nothing itself.

Rules
- A thread that raised, or is silent past its patience, ends the process with an exit code of its own; the service
  manager starts a new one, and what was lost becomes a signed gap.
- A bus that is silent first has its line cut, so that what hangs there ends and the line is opened again; the others do
  not notice. Only when that does not help within a bounded time, the process ends.
- SIGTERM and SIGINT end it cleanly: the read in progress is finished, what was read is stored, the end is written down.
- SIGHUP, or a command's order (edge.apply), makes it read its configuration anew. A file with an error, or one that
  needs a new start, changes nothing. Otherwise only the lines that are different are touched, each by its own thread.
- Ends within 2 s whatever a bus or the broker does: threads that are waiting for the world are left behind.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from drivers.bus import Counters
from drivers.table import Problem
from edge import apply, status
from edge import config as configuration
from edge.apply import Applied, Apply
from edge.config import Bus, Config, ConfigError, Meter
from edge.database import SpoolDamaged, SpoolProblem
from edge.environment import check_environment, load_trust
from edge.host import Clock, ServiceManager
from edge.identity import Identity, load_identity
from edge.load import check_load
from edge.past import Past, past_of
from edge.reader import Reader
from edge.sender import Sender
from edge.spool import Spool
from edge.state import LOG, Alarms, Pulse, State, words_of
from edge.writer import Changed, Stop, Tick, Writer
from signer.keys import KeyProblem
from uplink.delivery import MqttConfig, MqttUplink, Uplink

EXIT_BUG = 70
"""A thread raised what it should not (EX_SOFTWARE of sysexits.h). The log has the traceback."""

EXIT_SILENT = 71
"""A thread was silent past its patience."""

EXIT_KEY = 77
"""The key store does not sign any more (EX_NOPERM)."""

EXIT_STORE = 74
"""The spool's disk fails, or what is on it was found damaged (EX_IOERR)."""

_REOPEN_S = 15.0
"""A line that was cut fails at once, and a serial port takes a moment to open; longer, and it was not the line."""

_NEWS_AFTER_S = 2.0
"""The status file is not written more often."""

_JOIN_BUSES_S = 1.2
"""For the reads in progress: most end within a timeout of 0.5 s."""

_JOIN_WRITER_S = 5.0
_JOIN_SENDER_S = 0.3

_REFUSED = "configuration"
"""The alarm that the file is not what is in force."""

Connect = Callable[[Spool, Alarms], Uplink]


class Agent:
    """One gateway.

    Attributes:
        state: what its threads share.
        send_every_ms: how long statements are collected into one batch.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        connect: Connect | None = None,
        load: Callable[[Path], Config] = configuration.load,
    ) -> None:
        """``connect`` makes the way to the ledgers; None: nothing is sent. ``load`` reads the configuration anew."""
        self._config = config
        self._identity = identity
        self._connect = connect
        self._clock = Clock(identity.valid_from_ms)
        self._manager = ServiceManager()
        self.state = State()
        self.send_every_ms = config.mqtt.send_every_ms if config.mqtt else 1000
        self._items: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pulses: list[Pulse] = []
        self._threads: dict[str, threading.Thread] = {}
        self._readers: dict[str, Reader] = {}
        self._cut: dict[str, float] = {}  # bus -> its last sign of life when its line was cut
        self._recall: Callable[[str], Past | None] = lambda sub: None
        self._told: tuple[Any, ...] = ()
        self._told_s = float("-inf")
        self._load = load
        self._asked = False  # by SIGHUP, to read the configuration anew
        self._moving = False  # whether lines are on their way to what is in force
        self._answers: list[tuple[Apply, Applied]] = []  # which wait for that
        self._warned: set[str] = set()

    def run(self) -> int:
        """Measure until told to stop; the exit code.

        Raises:
            SpoolProblem: the spool cannot be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.state.stop.set())
        # A terminal that is closed ends what runs in it; without one the signal is a word of the service manager.
        signal.signal(signal.SIGHUP, (lambda *_: self.state.stop.set()) if os.isatty(0) else self._ask)
        signal.signal(signal.SIGURG, lambda *_: None)  # wakes a thread; unlike others it harms nobody who ignores it
        spool = Spool.open(self._config.spool, self._config.gateway, self._clock.now().utc_ms)
        if spool.was_set_aside:
            aside = spool.was_set_aside
            self.state.alarms.note(f"{aside.reason}; it was set aside as {aside.path}, and a new stream begins")
        writer = Writer(
            self._config, self._identity, spool, self._items, self._clock, self.state, self._pulse("writer")
        )
        writer.begin(self._take_end_mark())
        self._recall = functools.partial(past_of, spool, writer.boots)
        self._start("writer", writer.run)
        for bus in self._config.buses:
            self._begin(bus, spool)
        if self._connect is not None:
            self._start("sender", self._sender(spool, self._connect).run)
        self._manager.ready()
        _let_lie()
        self._watch(spool)
        return self._end(spool)

    # ---- threads

    def _pulse(self, name: str) -> Pulse:
        pulse = Pulse(name)
        self._pulses.append(pulse)
        return pulse

    def _start(self, name: str, work: Callable[[], None]) -> None:
        pulse = next(pulse for pulse in self._pulses if pulse.name == name)

        def body() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  the watchdog says it and ends the process
                pulse.error = error
            pulse.ended = True

        pulse.beat(60.0)
        self._threads[name] = threading.Thread(target=body, name=name, daemon=True)
        self._threads[name].start()

    def _begin(self, bus: Bus, spool: Spool) -> None:
        name = _thread(bus.name)
        pulse = self._pulse(name)
        reader = Reader(bus, self._config, spool.positions, self._items, self._clock, self.state, pulse, self._recall)
        self._readers[name] = reader
        self._start(name, reader.run)

    def _sender(self, spool: Spool, connect: Connect) -> Sender:
        config, alarms = self._config, self.state.alarms
        return Sender(
            spool,
            lambda: connect(spool, alarms),
            len(config.organisations),
            config.receipts,
            self.send_every_ms,
            self._items,
            self.state,
            self._pulse("sender"),
        )

    # ---- the watchdog

    def _watch(self, spool: Spool) -> None:
        """Once a second, until told to stop: a tick for the writer, a look at the threads, a word to the world."""
        pause_s = min(1.0, (self._manager.watchdog_s or 2.0) / 2)
        while not self.state.stop.wait(pause_s):
            self._items.put(Tick(self._clock.now()))
            for pulse in self._pulses:
                if pulse.error is not None:
                    self._give_up(spool, pulse)
                if pulse.silent_s() > 0 and not self._reopen(pulse):
                    self._hang(pulse)
            self._manager.alive()
            self._look_for_orders()
            self._follow(spool)
            self._tell(spool)

    def _give_up(self, spool: Spool, pulse: Pulse) -> NoReturn:
        """A thread raised: say so and end."""
        error = pulse.error
        if isinstance(error, SpoolProblem):
            LOG.critical("%s: %s", pulse.name, words_of(error))
            if isinstance(error, SpoolDamaged):
                _try(spool.condemn)
            self._leave(EXIT_STORE)
        if isinstance(error, KeyProblem):
            LOG.critical("%s: %s", pulse.name, words_of(error))
            self._leave(EXIT_KEY)
        LOG.critical("the thread %s ended with an error", pulse.name, exc_info=error)
        self._leave(EXIT_BUG)

    def _reopen(self, pulse: Pulse) -> bool:
        """Cut the line under a bus that is silent; False when that was done, or it is no bus."""
        reader = self._readers.get(pulse.name)
        if reader is None or self._cut.get(pulse.name) == pulse.beat_s:
            return False
        self._cut[pulse.name] = pulse.beat_s
        pulse.wait(_REOPEN_S)
        words = "its line is closed under it, to be opened again" if reader.cut() else "its line is not open"
        self.state.alarms.note(f"was silent for too long; {words}", pulse.name)
        thread = self._threads[pulse.name].ident
        if thread is not None:
            signal.pthread_kill(thread, signal.SIGURG)  # a call that blocks looks at the line again
        return True

    def _hang(self, pulse: Pulse) -> NoReturn:
        LOG.critical("the thread %s has been silent for too long", pulse.name)
        _try(lambda: self._end_mark.write_text("watchdog"))
        self._leave(EXIT_SILENT)

    def _leave(self, code: int) -> NoReturn:
        """End now; what is stored is stored, and a thread that hangs cannot hold us."""
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)

    # ---- another configuration

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _look_for_orders(self) -> None:
        """Take the configuration anew when somebody asks for it."""
        if self._asked:
            self._asked = False
            self._take(None)
        for order in apply.take(self._config.spool):
            self._answers.append((order, self._take(order)))
            self._moving = True

    def _take(self, order: Apply | None) -> Applied:
        """Put the configuration that is in the file now into force; or say why not, and go on with the one before."""
        new, decided = apply.decide(self._config, self._load, order)
        if new is not None and not decided.changes:  # other comments: it is in force as it is
            self._config = replace(self._config, digest=new.digest)
        if order is not None and order.only_tell:
            return decided
        if new is not None:
            self.state.alarms.clear(_REFUSED, "the file is in force")
            self._put_into_force(new, "; ".join(decided.changes))
        elif decided.problems:
            first = decided.problems[0]
            words = f"{self._config.path} was not taken, the one before is in force: {_with_advice(str(first), first)}"
            more = len(decided.problems) - 1
            self.state.alarms.raise_(_REFUSED, words + (f" (and {more} more: aigeco config check)" if more else ""))
        return decided

    def _put_into_force(self, new: Config, words: str) -> None:
        """Tell everybody whom it concerns."""
        LOG.info("configuration: %s", words or "nothing is different")
        if not words:
            return
        old, self._config = self._config, new
        self._items.put(Changed(new, words))
        self.warn(check_environment(new) + check_load(new, self._identity.key.rate_per_s))
        lines = _lines(new)
        for name, reader in self._readers.items():
            if reader.bus != lines.get(name) or old.settlement_period_ms != new.settlement_period_ms:
                reader.change(lines.get(name), new)
        self._moving = True

    def _follow(self, spool: Spool) -> None:
        """Once the lines are what the configuration says: begin the new ones, and answer."""
        if not self._moving:
            return
        lines = _lines(self._config)
        for name in [name for name in self._readers if not self._threads[name].is_alive()]:
            del self._readers[name], self._threads[name]
            self._pulses = [pulse for pulse in self._pulses if pulse.name != name]
        if any(name not in lines or reader.bus != lines[name] for name, reader in self._readers.items()):
            return
        for name, bus in lines.items():  # only now: a new one may have the port of one that has ended
            if name not in self._readers:
                self._begin(bus, spool)
        self._moving = False
        self._told_s = float("-inf")
        self._tell(spool)  # before the answer: who asked looks there next
        while self._answers:
            order, decided = self._answers.pop()
            _try(functools.partial(apply.answer, self._config.spool, order, decided))

    def warn(self, problems: Sequence[Problem]) -> None:
        """What the configuration counts on and is not so stands as alarms, in place of those before."""
        words = {f"configuration, {problem.place}": _words(problem) for problem in problems}
        for key in self._warned - words.keys():
            self.state.alarms.clear(key)
        for key, said in words.items():
            self.state.alarms.raise_(key, said)
        self._warned = set(words)

    # ---- the end

    def _end(self, spool: Spool) -> int:
        """Finish what was begun and close."""
        self._manager.stopping()
        deadline = time.monotonic() + _JOIN_BUSES_S
        for name in self._readers:
            self._threads[name].join(max(0.0, deadline - time.monotonic()))
        self._items.put(Stop())
        self._threads["writer"].join(_JOIN_WRITER_S)
        if "sender" in self._threads:
            self._threads["sender"].join(_JOIN_SENDER_S)
        for pulse in self._pulses:
            if pulse.error is not None:
                self._give_up(spool, pulse)
        if self._threads["writer"].is_alive():
            self._hang(next(pulse for pulse in self._pulses if pulse.name == "writer"))
        self._tell(spool, last=True)
        spool.close("clean")
        LOG.info("ended")
        return 0

    @property
    def _end_mark(self) -> Path:
        """Where the watchdog leaves word for the next start; the spool itself may be what hangs."""
        return self._config.spool.with_name(f"{self._config.spool.name}.ended")

    def _take_end_mark(self) -> str:
        try:
            words = self._end_mark.read_text().strip()
            self._end_mark.unlink()
        except OSError:
            return ""
        return words

    # ---- what others see

    def _tell(self, spool: Spool, last: bool = False) -> None:
        """Write the status file: soon when there is news, and now and then for the counters."""
        now_s = time.monotonic()
        if not last and now_s - self._told_s < _NEWS_AFTER_S:
            return
        news = self.state.news()
        if not last and news == self._told and now_s - self._told_s < status.REFRESH_S:
            return
        self._told_s, self._told = now_s, news
        document = self._document(spool)
        threads = {pulse.name: round(now_s - pulse.beat_s, 1) for pulse in self._pulses}
        overdue = {pulse.name: round(late_s, 1) for pulse in self._pulses if (late_s := pulse.silent_s()) > 0}
        stamped = {
            **document,
            "updated_ms": self._clock.now().utc_ms,
            "threads": threads,
            "overdue": overdue,
            "stopped": last,
        }
        _try(lambda: status.write(self._config.status_path, stamped))
        pending = document["spool"]["pending"]
        self._manager.status(f"{len(self.state.meters)} meters, {pending} statements to send, {self.state.sending}")

    def _document(self, spool: Spool) -> dict[str, Any]:
        counts, head, instant = spool.counts(), spool.head, self._clock.now()
        return {
            "version": status.VERSION,
            "gateway": self._config.gateway,
            "pid": os.getpid(),
            "config": self._config.digest,
            "clock": {"status": int(instant.clock), "error_ms": instant.error_ms},
            "spool": {
                "path": str(spool.path),
                "stream": head.stream.hex() if head else None,
                "stored": counts.stored,
                "committed": counts.committed,
                "pending": counts.pending,
                "used_bytes": counts.used_bytes,
                "budget_bytes": self._config.budget_bytes,
                "cadence": self.state.cadence.name.lower(),
            },
            "sending": self.state.sending if self._connect else "nothing is sent: there is no [mqtt]",
            "settled_ms": self.state.settled_ms,
            "meters": [self._meter(bus.name, meter) for bus in self._config.buses for meter in bus.meters],
            "dropped": self.state.dropped,
            "alarms": [alarm._asdict() for alarm in self.state.alarms.each()],
        }

    def _meter(self, bus: str, meter: Meter) -> dict[str, Any]:
        last = self.state.meters.get(meter.name)
        known = {"name": meter.name, "bus": bus, "model": meter.map.name, "points": meter.subs, "slot_ms": None}
        if last is None:
            return known
        reader = self._readers.get(_thread(bus))
        counters = reader.counters(meter.name) if reader else Counters()
        return known | {
            "slot_ms": last.slot_ms,
            "status": last.status,
            "trouble": last.trouble,
            "serial": last.serial,
            "requests": counters.requests,
            "answers": counters.answers,
            "latency_ms": round(counters.latency_s * 1000),
            "timeouts": counters.timeouts,
            "wrong_answers": counters.wrong_answers,
            "checksum_errors": counters.checksum_errors,
            "exceptions": counters.exceptions,
            "disconnects": counters.disconnects,
            "probes": counters.probes,
            "latencies": list(counters.latencies),
            "failures": counters.failures,
            "pause_s": round(counters.pause_s, 1),
        }


def run(config: Config) -> int:
    """Be the gateway until told to stop; the exit code.

    Raises:
        ConfigError: the key or its certificate cannot be used.
        SpoolProblem: the spool cannot be used.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    identity, wrong, warnings = load_identity(config)
    if identity is None:
        raise ConfigError(config.path, wrong)
    warnings += check_environment(config) + check_load(config, identity.key.rate_per_s)
    agent = Agent(config, identity, mqtt(config))
    agent.warn(warnings)
    return agent.run()


def mqtt(config: Config) -> Connect | None:
    """How to reach the ledgers over MQTT; None when nothing is to be sent."""
    found = config.mqtt
    if found is None:
        return None
    trust = load_trust(config)[0]
    place = MqttConfig(
        found.host,
        found.port,
        config.gateway,
        found.instance,
        found.ca,
        found.certificate,
        found.key,
        found.insecure,
    )

    def connect(spool: Spool, alarms: Alarms) -> Uplink:
        def alarm(words: str) -> None:
            alarms.note(words, "ledger")

        organisations, newest = config.organisations, spool.newest_blocks()
        return MqttUplink(place, trust, organisations, config.receipts, alarm, spool.batch_with, newest)

    return connect


def _thread(bus: str) -> str:
    """Name of a line's thread."""
    return f"bus {bus}"


def _lines(config: Config) -> dict[str, Bus]:
    """Name of the thread -> line."""
    return {_thread(bus.name): bus for bus in config.buses}


def _words(problem: Problem) -> str:
    return _with_advice(": ".join(part for part in (problem.value, problem.words) if part), problem)


def _with_advice(words: str, problem: Problem) -> str:
    return f"{words}; try: {problem.advice}" if problem.advice else words


def _let_lie() -> None:
    """Have the garbage collector pass over what is there after the start, and come less often: 4 % of all work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 50, 50)


def _try(work: Callable[[], object]) -> None:
    """Do what would be good, and may fail where everything fails."""
    try:
        work()
    except OSError as error:
        LOG.warning("%s", error)
