"""What a meter's registers mean: one TOML file of ``catalogue/`` as immutable data. docs/catalogue.md names every key.

Never talks to a device, never guesses and never half-loads: :func:`parse` finds all problems of a file and raises one
:class:`MapError` that lists them.

Rules
- Addresses are 0-based protocol addresses. A factor is an exact decimal ``(mantissa, power of ten)``.
- Quantity and phase give the OBIS key and the unit (drivers.obis); a file may state them, and then they must agree.
- A map is known by the SHA-256 of its file's bytes, and that one file is enough to compute every value again.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from drivers.table import Problem, closest

CATALOGUE = Path(__file__).parent / "catalogue"
SUFFIX = ".toml"
# A descriptor carries the name, and an exported folder shows it.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
WORDS = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2, "u64": 4, "s64": 4, "f64": 4}
"""Registers a number of each type takes."""
TEXT_TYPES = ("ascii", "chars", "hex")
"""Text in registers: two characters a register, one character a register, hexadecimal digits."""
TABLES = {"holding": 3, "input": 4}
ENCODINGS = ("plain", "pf4q")
ROLES = ("inverter", "meter", "dc", "battery")
PHASES = ("total", "L1", "L2", "L3", "N")
# The answer of one request holds at most 125 registers (Modbus application protocol 1.1b3, 6.3).
MOST_REGISTERS = 125
LAST_ADDRESS = 65535


class MapError(Exception):
    """A map file that cannot be used: whoever wrote it has to change it.

    Attributes:
        problems: everything that is wrong with it.
    """

    def __init__(self, name: str, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{name}: {problem}" for problem in problems))
        self.problems = tuple(problems)
        for problem in problems:
            self.add_note(f"try: {problem.place + ': ' if problem.place else ''}{problem.advice}")


@dataclass(frozen=True, slots=True)
class Term:
    """A further number of a composite value: ``raw * scale`` is added. Same table and word order as its register.

    Attributes:
        address, count, type: where and what, as in :class:`Register`.
        scale: decimal factor; negative to subtract.
    """

    address: int
    count: int
    type: str
    scale: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Register:
    """Where one quantity is and how its words become a value.

    Attributes:
        key: packed OBIS key.
        quantity, phase: its name in drivers.obis.
        point: measuring point of a device that has several, else ``""``.
        function: 3 (holding) or 4 (input registers).
        address: 0-based; in a SunSpec model the offset from the model's ID register.
        count: registers.
        type: ``u16 s16 u32 s32 u64 s64 f32 f64``; bytes in a register always come high first.
        scale: ``(mantissa, power of ten)``, exact; negative where the device counts the other way round.
        word_order: ``big`` or ``little``: which register of a number comes first.
        not_available: raw patterns, unsigned, that mean "no value" (a NaN always does).
        scale_address: register (s16) with a further power of ten, same table; None where there is none.
        plus: further numbers to add; all of them must be there.
        encoding: ``plain``, or ``pf4q``: a four-quadrant power factor, 1..2 meaning leading.
        billing: a total energy that a settlement may use.
        resettable: somebody can set this counter to zero.
        derived: computed from words that are published under other quantities too.
        primary: already multiplied by the transformers' ratio, so an installation's ratio leaves it alone.
        suspect: the sources leave doubt about it; its values are flagged questionable.
    """

    key: int
    quantity: str
    phase: str
    point: str
    function: int
    address: int
    count: int
    type: str
    scale: tuple[int, int] = (1, 0)
    word_order: str = "big"
    not_available: tuple[int, ...] = ()
    scale_address: int | None = None
    plus: tuple[Term, ...] = ()
    encoding: str = "plain"
    billing: bool = False
    resettable: bool = False
    derived: bool = False
    primary: bool = False
    suspect: bool = False

    def spans(self) -> Iterator[tuple[int, int]]:
        """(address, count) of everything the value is made from, the value's own words first."""
        yield self.address, self.count
        if self.scale_address is not None:
            yield self.scale_address, 1
        for term in self.plus:
            yield term.address, term.count


@dataclass(frozen=True, slots=True)
class Field:
    """Registers that say who a device is.

    Attributes:
        function, address, count: where.
        type: a number type, or ``ascii``, ``chars`` (one character a register), ``hex``.
    """

    function: int
    address: int
    count: int
    type: str


@dataclass(frozen=True, slots=True)
class Identify:
    """How to know the model before its map is believed.

    Attributes:
        function, address, count, type: the register to look at, as in :class:`Field`.
        expected: what it says: equal numbers, or beginnings of a text; empty when only the serial number is known.
        serial: where the serial number is, None when nobody knows.
    """

    function: int
    address: int
    count: int
    type: str
    expected: tuple[int | str, ...]
    serial: Field | None


@dataclass(frozen=True, slots=True)
class Precondition:
    """What has to be set at the device before its values mean what the map says. Nobody here ever sets it.

    Attributes:
        words: what has to be so, for the person at the device.
        look: the register that shows it, and what it says then; None when only a person can see it.
        contact: without it the device answers nobody: worth saying to whom it does not answer, and to nobody else.
    """

    words: str
    look: Identify | None
    contact: bool = False


@dataclass(frozen=True, slots=True)
class SerialDefaults:
    """How the device talks on a serial line when nobody changed it.

    Attributes:
        baud, parity (N, E or O), stopbits, unit: the settings.
        verified: a source states them; otherwise they are a first guess.
    """

    baud: int
    parity: str
    stopbits: int
    unit: int
    verified: bool = False


@dataclass(frozen=True, slots=True)
class TcpDefaults:
    """Port and unit id on Modbus TCP when nobody changed them."""

    port: int
    unit: int


@dataclass(frozen=True, slots=True)
class Model:
    """One SunSpec model, or several that share a layout.

    Attributes:
        ids: model numbers.
        role: what the measuring point is: ``inverter``, ``meter``, ``dc`` (belongs to the inverter) or ``battery``.
        length: registers after the two header registers, as the standard gives it (the fixed part, with groups).
        registers: addresses are offsets from the ID register.
        group: (offset of the first, registers, most) of a repeated group whose numbers are added up; None without.
    """

    ids: tuple[int, ...]
    role: str
    length: int
    registers: tuple[Register, ...]
    group: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class MeterMap:
    """One meter model. Equal to another when all of its content is.

    Attributes:
        name: file name without its ending.
        manufacturer, model: for people.
        kind: ``meter``, ``inverter`` or ``both``.
        phases: 1 or 3.
        scheme: ``registers`` (fixed addresses) or ``sunspec`` (found by discovery; drivers.sunspec lays them out).
        registers: in the order of the file.
        points: distinct points in that order, ``("",)`` for a device with one.
        serial, tcp: defaults, None where nobody states any.
        identify: None when nothing is known.
        preconditions: what has to be set at the device.
        max_registers: most registers of one request.
        max_gap: longest hole the device lets a request read through, None without a limit of its own.
        even_only: requests start at an even address and have an even count.
        functions_equivalent: functions 3 and 4 read the same table.
        min_delay_ms, connect_delay_ms: pause between requests, and after connecting.
        timeout_ms: how long an answer may take, None without a statement.
        forbidden: (first, last) addresses that no request may read.
        barriers: addresses at which a new request begins.
        settlement: whether it has a total energy a settlement may use; settlement_reason says why not.
        cross_checked: at least two independent sources agree on total energy and power.
        sources: where the facts come from.
        bases, models: of a SunSpec map: addresses to look for ``SunS``, and what is known of each model.
        digest: SHA-256 of the file.
        data: the file.
    """

    name: str
    manufacturer: str
    model: str
    kind: str
    phases: int
    scheme: str
    registers: tuple[Register, ...]
    points: tuple[str, ...]
    serial: SerialDefaults | None
    tcp: TcpDefaults | None
    identify: Identify | None
    preconditions: tuple[Precondition, ...]
    max_registers: int
    max_gap: int | None
    even_only: bool
    functions_equivalent: bool
    min_delay_ms: int
    connect_delay_ms: int
    timeout_ms: int | None
    forbidden: tuple[tuple[int, int], ...]
    barriers: tuple[int, ...]
    settlement: bool
    settlement_reason: str
    cross_checked: bool
    sources: tuple[str, ...]
    bases: tuple[int, ...]
    models: tuple[Model, ...]
    digest: bytes
    data: bytes = field(repr=False)

    def subs(self, meter: str) -> tuple[str, ...]:
        """Measuring points of a meter of this name, one for each of ``points``."""
        return tuple(f"{meter}-{point}" if point else meter for point in self.points)

    def __hash__(self) -> int:
        """Cheap on purpose (a map is a cache key on every read); equality still compares everything."""
        return hash((self.digest, len(self.registers)))


def names() -> tuple[str, ...]:
    """Names of all maps of the catalogue, in alphabetical order."""
    return tuple(sorted(path.stem for path in CATALOGUE.glob(f"*{SUFFIX}")))


def load(name: str, base: Path = Path()) -> MeterMap:
    """The map of the catalogue with that name, or the one in a file of one's own: ``maps/my_meter.toml``.

    Args:
        name: of the catalogue, or a path that ends in ``.toml``.
        base: the folder that a relative path is seen from.

    Raises:
        MapError: there is none, or its file is wrong.
    """
    return parse(*read_file(base / name)) if is_file(name) else _of_the_catalogue(name)


def is_file(name: str) -> bool:
    """Whether a model is named by the path of its file."""
    return name.endswith(SUFFIX)


def read_file(path: Path) -> tuple[bytes, str]:
    """The bytes of a map file, and the map's name.

    Raises:
        MapError: it cannot be read, or its name is none for a map.
    """
    check_name(path)
    try:
        return path.read_bytes(), path.stem
    except OSError as error:
        words = error.strerror or str(error)
        raise MapError(str(path), [Problem("", "", words, "the path of a map file that can be read")]) from None


def check_name(path: Path) -> None:
    """Whether a file's name can be a map's.

    Raises:
        MapError: it cannot.
    """
    if not _NAME.fullmatch(path.stem):
        words, advice = "a map's name has 1 to 64 letters, digits, dots, hyphens and underscores", "another file name"
        raise MapError(str(path), [Problem("", path.stem, words, advice)])


# More than there are: whoever goes through all of them, as a scan does, parses each once.
@lru_cache(maxsize=256)
def _of_the_catalogue(name: str) -> MeterMap:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        known = closest(name, names()) if near else "aigeco maps list names them"
        advice = f"{known}; or the path of a file that ends in {SUFFIX}"
        raise MapError(name, [Problem("", "", "no such meter model in the catalogue", advice)])
    return parse((CATALOGUE / f"{name}{SUFFIX}").read_bytes(), name)


def parse(data: bytes, name: str) -> MeterMap:
    """The map a file's bytes describe.

    Raises:
        MapError: with all problems of the file.
    """
    from drivers.mapfile import read  # makes what is defined here, so it is imported late

    meter_map, problems = read(data, name)
    if problems or meter_map is None:
        raise MapError(name, problems)
    return meter_map
