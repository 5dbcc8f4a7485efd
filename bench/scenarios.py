"""The complaints about bus owners, each as lines of simulated meters, faults on a timeline, and what must come of it.

Data and judgements; runs nothing (bench.faults does). All scenarios are lines of one gateway and run at the same time.

Rules
- Times are parts of the run: 0.25 is a quarter through it.
- Every meter's name is its scenario's and a number, so that one file of the simulator holds them all.
- A figure is taken from verified evidence, or from what the meters and the kernel saw; none is the agent's own word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.evidence import Evidence
from drivers.map import CATALOGUE, load
from drivers.obis import pack
from drivers.plan import RTU_OVERHEAD_BYTES, plan
from hw_sim.readback import specimens
from hw_sim.stage import HOST, free_port

PERIOD_S = 1
REOPEN_S = 1.0
"""Between two attempts to open a line (drivers.talk)."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter of a scenario.

    Attributes:
        name, model, unit: on its line and in the configuration.
        shows: the model that really hangs there, when it is another one (a map file's name in the run's folder).
        more: further lines of the simulator's device.
    """

    name: str
    model: str
    unit: int
    shows: str = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a scenario.

    Attributes:
        name: of it.
        kind: ``pty``, ``tcp`` or ``rtu`` (RTU frames in TCP).
        meters: on it.
        baud: of a pty, and of the line behind a gateway.
    """

    name: str
    kind: str
    meters: tuple[Meter, ...]
    baud: int = 9600

    def write(self, folder: Path) -> tuple[str, str]:
        """Its part of the site's file, and of the gateway's configuration."""
        place = str(folder / self.name) if self.kind == "pty" else f"{HOST}:{free_port()}"
        site, bus = ["[[line]]", f'name = "{self.name}"'], ["[[bus]]", f'name = "{self.name}"']
        site += [f'{"pty" if self.kind == "pty" else "tcp"} = "{place}"']
        bus += [f'{"serial" if self.kind == "pty" else "tcp"} = "{place}"']
        site += [f"baud = {self.baud}"] if self.kind != "tcp" else []
        bus += [f"baud = {self.baud}"] if self.kind == "pty" else []
        if self.kind == "rtu":
            site.append('framing = "rtu"')
            bus.append('framing = "rtu"')
        for meter in self.meters:
            site += ["[[line.device]]", f'name = "{meter.name}"', f'model = "{meter.shows or meter.model}"']
            site += [f"unit = {meter.unit}", *([meter.more] if meter.more else [])]
            bus += ["[[bus.meter]]", f'name = "{meter.name}"', f'model = "{meter.model}"', f"unit = {meter.unit}"]
        return "\n".join(site) + "\n", "\n".join(bus) + "\n"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the simulator, its times in parts of the run.

    Attributes:
        meter, kind: as in the site's file.
        begin, end: when it is on.
        more: further keys.
    """

    meter: str
    kind: str
    begin: float = 0.0
    end: float = 2.0
    more: str = ""

    def write(self, seconds: float) -> str:
        """Its part of the site's file."""
        times = f"from = {self.begin * seconds}\nuntil = {self.end * seconds}\n"
        return f'[[fault]]\nmeter = "{self.meter}"\nkind = "{self.kind}"\n{times}{self.more}\n'


@dataclass(frozen=True, slots=True)
class Move:
    """Serial lines that are pulled out and plugged in again, each under the next one's name."""

    lines: tuple[str, ...]
    begin: float
    end: float

    def option(self, seconds: float) -> tuple[str, str]:
        """For bench.stand."""
        words = ":".join((*self.lines, str(self.begin * seconds), str(self.end * seconds)))
        return ("--pull" if len(self.lines) == 1 else "--swap"), words


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run.

    Attributes:
        seconds: how long it was.
        start_s: monotonic instant of its beginning.
        evidence: verified.
        seen: what the meters, ports and the kernel saw (bench.stand).
        checked: what ``aigeco config check --json`` said before.
        commissioned: meter -> what ``aigeco commission --json`` says of it.
    """

    seconds: float
    start_s: float
    evidence: Evidence
    seen: dict[str, Any]
    checked: dict[str, Any]
    commissioned: Mapping[str, dict[str, Any]]

    def at(self, part: float) -> float:
        """The monotonic instant of a part of the run."""
        return self.start_s + part * self.seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        words: what it is.
        value: as text.
        goal: as text.
        met: whether it is.
        timing: whether it depends on a machine that keeps up.
    """

    words: str
    value: str
    goal: str
    met: bool
    timing: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One complaint.

    Attributes:
        name, complaint: short.
        lines, faults, moves: what happens.
        judge: the figures.
        files: files it needs: name -> how to write it.
        commissioned: meters that a technician looks at meanwhile.
    """

    name: str
    complaint: str
    lines: tuple[Line, ...]
    judge: Callable[[Run], tuple[Figure, ...]]
    faults: tuple[Fault, ...] = ()
    moves: tuple[Move, ...] = ()
    files: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    commissioned: tuple[str, ...] = ()

    @property
    def meters(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(meter.name for line in self.lines for meter in line.meters)


def none_of(words: str, counted: tuple[int, int], timing: bool = False) -> Figure:
    """A figure whose goal is 0."""
    wrong, count = counted
    return Figure(words, f"{wrong} of {count:,}", "0", wrong == 0 and count > 0, timing)


def _lost(words: str, run: Run, meters: Iterable[str]) -> Figure:
    """Slots lost by meters that are well."""
    return none_of(words, run.evidence.lost(meters), timing=True)


def _back(words: str, run: Run, meters: Iterable[str], part: float, goal_s: float = PERIOD_S + REOPEN_S) -> Figure:
    """How long until all of them had values again."""
    seconds = run.evidence.recovery_s(meters, run.at(part))
    return Figure(words, f"{seconds:.2f} s", f"< {goal_s:g} s", seconds < goal_s, timing=True)


def _several(prefix: str, model: str, count: int, more: str = "") -> tuple[Meter, ...]:
    return tuple(Meter(f"{prefix}-{unit}", model, unit, more=more) for unit in range(1, count + 1))


# ---- nothing is wrong, for comparison

# One request of 9 values: 44 ms at 9600 baud, and 25 ms to think.
_SMALL = "orno_or-we-504"
_WELL: Scenario = Scenario(
    "well",
    "(nothing is wrong, for comparison)",
    (Line("well-line", "pty", _several("well", _SMALL, 8)),),
    lambda run: (_lost("slots lost by 8, 9600 baud", run, _WELL.meters),),
)

# ---- one dead slave stalls the whole bus

_DEAD: Scenario = Scenario(
    "dead",
    "one dead slave stalls the whole bus",
    (
        Line("dead-line", "pty", _several("dead", _SMALL, 8)),
        Line("dead-gateway", "tcp", _several("dead-gw", _SMALL, 32, "latency_ms = 10")),
    ),
    lambda run: (
        _lost("slots lost by 6 beside 2 dead, 9600 baud", run, (f"dead-{n}" for n in (1, 2, 3, 5, 6, 7))),
        _lost(
            "slots lost by 30 beside 2 dead, one TCP gateway",
            run,
            (f"dead-gw-{n}" for n in range(1, 33) if n not in (8, 20)),
        ),
    ),
    (
        Fault("dead-4", "silent"),
        Fault("dead-8", "silent", 0.3),
        Fault("dead-gw-8", "silent"),
        Fault("dead-gw-20", "silent", 0.3),
    ),
)

# ---- a silent slave closes the shared port

_SILENT: Scenario = Scenario(
    "silent",
    "a silent slave closes the shared port",
    (Line("silent-line", "pty", _several("silent", _SMALL, 2)),),
    lambda run: (
        Figure("port opened", f"{run.seen['opened']['silent-line']} time", "1", run.seen["opened"]["silent-line"] == 1),
        _back("values after all were silent", run, _SILENT.meters, 0.6),
    ),
    (Fault("silent-1", "silent", 0.2, 0.6), Fault("silent-2", "silent", 0.2, 0.6)),
)

# ---- a late or wrong slave's answer is taken

_TWO_REQUESTS = "carlo_gavazzi_em511"
_WRONG_KINDS = (
    ("late", "seconds = 0.7\nevery = 3"),
    ("late", "seconds = 1.6\nevery = 5"),
    ("wrong_unit", "every = 3"),
    ("wrong_function", "every = 3"),
    ("wrong_length", "registers = -1\nevery = 3"),
    ("bad_crc", "every = 3"),
    ("truncated", "bytes = 7\nevery = 3"),
    ("garbage", "bytes = 20\nevery = 3"),
)


def _wrong_faults() -> tuple[Fault, ...]:
    faults = []
    for kind in ("pty", "rtu", "tcp"):
        for number, (what, more) in enumerate(_WRONG_KINDS, 1):
            faults.append(Fault(f"wrong-{kind}-{number}", what, more=more))
    faults.append(Fault("wrong-tcp-3", "wrong_transaction", more="every = 4"))
    return tuple(faults)


def _judge_wrong(run: Run) -> tuple[Figure, ...]:
    names = _WRONG.meters
    planted = sum(
        count for name in names for what, count in run.seen["devices"][name].items() if what.startswith("fault ")
    )
    wrong, accepted = run.evidence.untrue(names)
    met = wrong == 0 and accepted > 0 and planted > 0
    return (Figure("wrong values accepted", f"{wrong} of {planted:,} planted", "0", met),)


_WRONG: Scenario = Scenario(
    "wrong",
    "a late or wrong slave's answer is taken",
    tuple(
        Line(f"wrong-{kind}", kind, _several(f"wrong-{kind}", _TWO_REQUESTS, len(_WRONG_KINDS)), 38400)
        for kind in ("pty", "rtu", "tcp")
    ),
    _judge_wrong,
    _wrong_faults(),
)

# ---- a meter needs a pause

_PAUSED = "eastron_sdm72d-m"
_PAUSE_MS = load(_PAUSED).min_delay_ms
_PAUSE: Scenario = Scenario(
    "pause",
    "a meter needs a pause (SDM72D reboots when polled too fast)",
    (Line("pause-line", "pty", (Meter("pause-1", _PAUSED, 1),), 19200),),
    lambda run: (
        Figure(
            "shortest rest between answer and request",
            f"{run.seen['rest_ms']['pause-1']:.0f} ms",
            f">= {_PAUSE_MS} ms",
            # The last character has arrived when the simulator's thread has handed it over.
            run.seen["rest_ms"]["pause-1"] >= _PAUSE_MS - 2,
        ),
        _lost("slots lost", run, ["pause-1"]),
    ),
)

# ---- RTU stops until restart

_STOPS: Scenario = Scenario(
    "stops",
    "RTU stops until restart",
    (
        Line("stops-line", "pty", _several("stops", _SMALL, 2)),
        Line("stops-host", "tcp", (Meter("stops-tcp", _SMALL, 1),)),
    ),
    lambda run: (
        _back("values after the adapter was plugged in", run, ["stops-1", "stops-2"], 0.55),
        _back("values after the host was back", run, ["stops-tcp"], 0.55),
    ),
    (Fault("stops-tcp", "dead", 0.3, 0.55),),
    (Move(("stops-line",), 0.3, 0.55),),
)

# ---- ports are numbered anew

_NUMBERED = "deye_micro"  # says its serial number
_RENUMBERED: Scenario = Scenario(
    "renumbered",
    "/dev/ttyUSB0 is another adapter now",
    (
        Line("renumbered-a", "pty", (Meter("renumbered-1", _NUMBERED, 1),)),
        Line("renumbered-b", "pty", (Meter("renumbered-2", _NUMBERED, 1, more='role = "load"'),)),
    ),
    lambda run: (
        none_of("readings under another meter's number", run.evidence.untrue(["renumbered-1", "renumbered-2"])),
        # The slot that finds another meter has no value; the next one has.
        _back("values again, under the new number", run, _RENUMBERED.meters, 0.5, 2 * PERIOD_S + REOPEN_S),
    ),
    (),
    (Move(("renumbered-a", "renumbered-b"), 0.3, 0.5),),
)

# ---- sentinels published as energy

_SENTINEL = b"\x7f\xff\xff\xff"
_UNAWARE, _AWARE = "acrel_adw300", "carlo_gavazzi_em511"
_ENERGY = "active_energy_import"


def _sentinel_dump(model: str) -> str:
    """A meter that shows its largest number in place of its energy, as a dump."""
    (meter,) = specimens(load(model))
    device, energies = meter.device, [one for one in meter.map.registers if one.quantity == _ENERGY]
    rows = []
    for function, table in ((3, "holding"), (4, "input")):
        words: dict[int, int] = {}
        for request in (one for one in plan(meter.map, RTU_OVERHEAD_BYTES) if one.function == function):
            data = bytearray(device.read(function, request.address, request.count, 0.0))
            for energy in energies:
                if request.address <= energy.address < request.end:
                    at = 2 * (energy.address - request.address)
                    little = energy.word_order == "little"
                    data[at : at + 4] = _SENTINEL[2:] + _SENTINEL[:2] if little else _SENTINEL
            words |= {request.address + at: int.from_bytes(data[2 * at : 2 * at + 2]) for at in range(request.count)}
        if words:
            rows.append(f"  {table}: {{{', '.join(f'{at}: {word}' for at, word in words.items())}}}")
    return f"device: {model}\nregisters:\n" + "\n".join(rows) + "\n"


def _judge_sentinel(run: Run) -> tuple[Figure, ...]:
    plain = zeros = count = 0
    for name in _SENTINELS.meters:
        for slot in run.evidence.points[name]:
            if slot.claims is None or not slot.claims.values:
                continue
            count += 1
            for key, value in slot.claims.values:
                if key == pack("1.8.0"):
                    plain += value.quality == 0
                    zeros += value.mantissa == 0
    lost = run.evidence.lost(_SENTINELS.meters)
    return (
        none_of("sentinels as plain energy, or as zero", (plain + zeros, count)),
        none_of("readings dropped because of them", lost),
    )


_SENTINELS: Scenario = Scenario(
    "sentinel",
    "sentinels published as energy (21,474,836.47 kWh)",
    (
        Line(
            "sentinel-line",
            "tcp",
            (
                Meter("sentinel-known", _AWARE, 1, more='dump = "known.yaml"'),
                Meter("sentinel-unknown", _UNAWARE, 2, more='dump = "unknown.yaml"'),
            ),
        ),
    ),
    _judge_sentinel,
    files={"known.yaml": lambda: _sentinel_dump(_AWARE), "unknown.yaml": lambda: _sentinel_dump(_UNAWARE)},
)

# ---- phantom energy after a reconnect, stale values with a fresh time


# Its counters tell watt-hours, so that a slot later it shows something else: what is stale cannot be taken for new.
_FINE = "eastron_sdm630"
# More than one read of these takes.
_READ_S = 0.4


def _judge_phantom(run: Run) -> tuple[Figure, ...]:
    # What was read when the connection ended, and what is being read when it is back, is neither.
    away = run.evidence.during(_PHANTOM.meters, run.at(0.3) + _READ_S, run.at(0.55))
    return (
        none_of("values while the device was away", (sum(slot.good for slot in away), len(away))),
        none_of("values older than their read window", run.evidence.untrue(_PHANTOM.meters)),
    )


_PHANTOM: Scenario = Scenario(
    "phantom",
    "phantom energy after a reconnect; stale values, fresh time",
    (
        Line("phantom-host", "tcp", (Meter("phantom-1", _FINE, 1),)),
        Line("phantom-slow", "rtu", (Meter("phantom-2", _FINE, 1),), 19200),
    ),
    _judge_phantom,
    (Fault("phantom-1", "dead", 0.3, 0.55), Fault("phantom-2", "late", 0.3, 0.55, "seconds = 3.0")),
)

# ---- one client only

_ONE_CLIENT: Scenario = Scenario(
    "one client",
    "one client only (SolarEdge, Huawei)",
    (Line("client-host", "tcp", _several("client", _SMALL, 3)),),
    lambda run: (
        Figure(
            "connections made for 3 units, 2 of them silent at times",
            str(run.seen["ports"]["client-host"]["connections"]),
            "1",
            run.seen["ports"]["client-host"]["connections"] == 1,
        ),
        _lost("slots lost by the third", run, ["client-3"]),
    ),
    (Fault("client-1", "silent", 0.2, 0.6, "every = 2"), Fault("client-2", "silent", 0.3, 0.7)),
)

# ---- overload

_LARGE = "eastron_sdm54"


def _judge_overload(run: Run) -> tuple[Figure, ...]:
    load_of = next(entry for entry in run.checked["load"] if entry["bus"] == "overload-line")
    told = any("overload-line" in one["words"] and "needs" in one["words"] for one in run.checked["warnings"])
    lost, count = run.evidence.lost(_OVERLOAD.meters)
    foretold, found = 1 / load_of["share"], 1 - lost / count
    words = load_of["words"].split(" on ")[0]
    return (
        Figure(f"the check says that it {words}", "yes" if told else "no", "yes", told),
        Figure(
            "slots that can be read: foretold, and read",
            f"{foretold:.0%}, {found:.0%}",
            "within 5 %",
            abs(foretold - found) <= 0.05,
            timing=True,
        ),
    )


_OVERLOAD: Scenario = Scenario(
    "overload",
    "the bus is overloaded and nobody said so",
    (Line("overload-line", "pty", _several("overload", _LARGE, 4)),),
    _judge_overload,
)

# ---- wrong word order, off by one

_KNOWN, _FLOATS = "carlo_gavazzi_em111_em112", "eastron_sdm630"


def _off_by_one(model: str) -> str:
    """A map whose device counts its registers from one."""
    lines = (CATALOGUE / f"{model}.toml").read_text().splitlines()
    number = re.compile(r"(?<![A-Za-z0-9])(0x[0-9A-Fa-f]+|\d+)(?![A-Za-z0-9])")
    return "\n".join(
        line if not line.startswith("address") else number.sub(lambda found: str(int(found[0], 0) + 1), line)
        for line in lines
    )


def _judge_order(run: Run) -> tuple[Figure, ...]:
    bad = [slot.claims for slot in run.evidence.points["order-2"] if slot.claims is not None and slot.good]
    plain = sum(not any(value.quality for _, value in claims.values) for claims in bad)
    shown = run.commissioned["order-2"]
    advised = any('word_order = "little"' in words for each in shown["candidates"] for words in each["settings"])
    identified = run.evidence.points["order-1"]
    return (
        none_of("values of a meter that is off by one", (sum(slot.good for slot in identified), len(identified))),
        none_of("readings in the wrong order without a doubt", (plain, len(bad))),
        Figure("commission names the right order", "yes" if advised else "no", "yes", advised),
    )


_ORDER: Scenario = Scenario(
    "order",
    "word order wrong, off by one",
    (Line("order-host", "tcp", (Meter("order-1", _KNOWN, 1, "shifted.toml"), Meter("order-2", _FLOATS, 2))),),
    _judge_order,
    (Fault("order-2", "swapped_words"),),
    files={"shifted.toml": lambda: _off_by_one(_KNOWN)},
    commissioned=("order-2",),
)

SCENARIOS: tuple[Scenario, ...] = (
    _WELL,
    *(_DEAD, _SILENT, _WRONG, _PAUSE, _STOPS, _RENUMBERED),
    *(_SENTINELS, _PHANTOM, _ONE_CLIENT, _OVERLOAD, _ORDER),
)
"""One for each complaint."""
