"""Which models of the catalogue a device can be: by what it says of itself, then by whether its values make sense.

Reads through a function; only functions 3 and 4. Never writes, never believes one register alone where others can be
asked, never hides a second model that fits as well.

Rules
- What any map looks at to know its device is read once for all maps.
- A text, or a number that nobody has by chance, makes a model known. A map whose register says something else is out.
- Otherwise those maps are candidates whose voltage register holds a voltage; each is then read whole and compared.
- Candidates come best first, each with its reasons; where several fit equally they are all there, with how to tell.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from drivers import sunspec
from drivers.decode import Overrides, decode
from drivers.identify import matches, text
from drivers.likeness import Likeness, is_mains_voltage, likeness
from drivers.line import Disconnected, ModbusError
from drivers.map import TEXT_TYPES, Field, Identify, MeterMap, Register
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, Request, plan, split
from drivers.reading import Block, Value

Read = Callable[[Request, float], bytes]
"""(request, pause before it in seconds) -> words; raises ModbusError."""

SURE, LIKELY, POSSIBLE = "sure", "likely", "possible"
# A register that says 1 or 12 says it by chance in many devices; Carlo Gavazzi's and Eastron's codes start at 32.
_TELLING = 16
# More are no help to anybody at a cabinet.
MOST_CANDIDATES = 6
# A voltage and a frequency where a map has them, and every other value there too: no other map needs to be tried.
_SETTLED = 2
# A serial number of fewer characters is an accident of zeros and a letter.
_SHORTEST_SERIAL = 4
# What memory is filled with where there is nothing.
_FILLING = frozenset({b"\0\0", b"\xff\xff", b"\x80\0", b"\x7f\xff"})
_SUNSPEC = "sunspec"
# The first parts of a rank.
_AGAINST = 5
_COMMON_MANUFACTURER, _COMMON_MODEL, _COMMON_SERIAL = (2, 16), (18, 16), (50, 16)

HOW_TO_TELL: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("chint_dtsu666",),
        "DTSU666: the plain one holds 2300 for 230 V at register 0x2006, the -H (Huawei) 230, the -20 (Sungrow) has no "
        "such register; the suffix is on the type plate",
    ),
    (("chint_ddsu666",), "DDSU666: the -H (Huawei) is the one that came with an inverter; the type plate says which"),
    (("carlo_gavazzi_em24",), "EM24: the E1 has a network socket, the other one RS-485 terminals"),
    (
        ("carlo_gavazzi_em330_em340", "carlo_gavazzi_et330_et340"),
        "EM330/EM340 have a display, ET330/ET340 have none; their energies are where the type plate's model has them",
    ),
    (("carlo_gavazzi_",), "Carlo Gavazzi: the order code on the type plate begins with the model"),
    (
        ("eastron_", "bele_ddm18sd", "circutor_line-cvm-d32"),
        "one register layout for many meters: one phase or three, and the name on the front; readings are the same",
    ),
    (("socomec_",), "Socomec: all say SOCO; the reference on the type plate (E14, E23, E34, A10, B30) says which"),
    (("schneider_",), "Schneider: the reference on the front (iEM3150, iEM3155, PM2120, PM5xxx) says which"),
    (
        ("janitza_", "weidmueller_"),
        "Janitza: the name on the front (UMG 96RM, 604, 806); total energy is elsewhere in each",
    ),
    (("inepro_", "wago_", "kdk_"), "one maker's meter under three names (Inepro, WAGO, KDK): the name on the front"),
    (("siemens_pac",), "Siemens: the name on the front (PAC2200, PAC3200, PAC4200)"),
    (("abb_",), "ABB: the type on the front (A43, B21, B23, B24)"),
    (("sungrow_",), "Sungrow: SG is without, SH with a battery"),
    (("deye_",), "Deye: the type plate says whether it is a micro, string or hybrid inverter"),
    (("huawei_sun2000",), "Huawei: inverter and power meter answer at one unit; each is a meter of its own"),
    (("solaredge_",), "SolarEdge: inverter and meter answer at one unit; each is a meter of its own"),
    (
        ("finder_", "iskra_"),
        "one phase is a Finder 7M.24, three phases a 7M.38; the same under Iskra's name is an IE38",
    ),
    (
        ("circutor_cvm-mini", "circutor_cvm-e3-mini", "circutor_cvm-c5", "circutor_cvm-144"),
        "CVM: one layout for the family, but for what is exported; the name on the front says which",
    ),
    (("circutor_wibeee",), "wibeee: one clip or three"),
    (
        ("goodwe_et",),
        "GoodWe ET: goodwe_et_u64 where its grid energies count; newer firmware leaves those of goodwe_et at 0",
    ),
)
"""Beginnings of map names, and what a person can look at to tell them apart; the first that covers two is shown."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that the device can be.

    Attributes:
        map: its map, with concrete addresses.
        certainty: ``sure``, ``likely`` or ``possible``.
        reasons: what speaks for it, and against it.
        serial: serial number, empty when it has none.
        word_order: what has to be set when it is not the map's, else None.
        voltage, power: what its map reads; None when there is nothing.
    """

    map: MeterMap
    certainty: str
    reasons: tuple[str, ...]
    serial: str
    word_order: str | None
    voltage: Value | None
    power: Value | None


class Registers:
    """A device's registers, each asked for once."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[Request, bytes | None] = {}

    def words(self, request: Request, pause_s: float = 0.0) -> bytes | None:
        """The words of a request, None where the device has none.

        Raises:
            Disconnected: the line broke.
        """
        if request not in self._known:
            self._known[request] = self._covered(request) or self._asked(request, pause_s)
        return self._known[request]

    def discover(self, bases: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """The SunSpec models, as drivers.sunspec finds them."""

        def read(function: int, address: int, count: int) -> bytes:
            words = self.words(Request(function, address, count))
            if words is None:
                raise LookupError
            return words

        return sunspec.discover(read, bases)

    def _asked(self, request: Request, pause_s: float) -> bytes | None:
        try:
            return self._read(request, pause_s)
        except Disconnected:
            raise
        except ModbusError:
            return None

    def _covered(self, request: Request) -> bytes | None:
        for known, words in self._known.items():
            inside = known.address <= request.address and request.end <= known.end
            if words and inside and known.function == request.function:
                start = 2 * (request.address - known.address)
                return words[start : start + 2 * request.count]
        return None


@dataclass(frozen=True, slots=True)
class _Lead:
    """A map worth reading whole.

    Attributes:
        map: with concrete addresses.
        level: 0 the device says so, 1 something it says speaks for it, 2 a voltage is where it has one.
        reasons: why.
        unconfirmed: it has a way to be known, to which the device does not answer.
        word_order: other than the map's.
    """

    map: MeterMap
    level: int
    reasons: tuple[str, ...]
    unconfirmed: bool = False
    word_order: str | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """A lead and what reading it whole showed; ordered by `rank`.

    Attributes:
        missing: registers that don't answer.
        places: (function, address) of the values that are not zero.
        varied: whether its words are more than a pattern that a device fills its memory with.
    """

    lead: _Lead
    like: Likeness
    missing: int
    places: frozenset[tuple[int, int]]
    varied: bool
    rank: tuple[object, ...]


def recognise(read: Read, maps: Sequence[MeterMap], rtu: bool) -> tuple[Candidate, ...]:
    """The models a device can be, best first; empty when it is none of the catalogue's.

    Args:
        read: asks the device.
        maps: the catalogue.
        rtu: whether frames are RTU's: how requests are cut, and which models are rather on such a line.

    Raises:
        Disconnected: the line broke.
    """
    registers = Registers(read)
    maker, found = _sunspec(registers, maps)
    fixed = [each for each in maps if each.scheme != _SUNSPEC]
    said, possible = _said(registers, fixed, maker)
    leads = found + said
    judged = [_whole(registers, lead, rtu) for lead in leads]
    if not any(each.lead.level == 0 and not each.like.bad for each in judged):
        seen = {lead.map.name for lead in leads}
        judged += _swept(registers, [each for each in possible if each.name not in seen], rtu)
        judged = [each for each in judged if _worth_it(each)]
        if not judged:
            judged = [each for each in _last_resorts(registers, possible, rtu) if _worth_it(each)]
    judged = sorted((each for each in judged if _worth_it(each)), key=lambda each: each.rank)[:MOST_CANDIDATES]
    return tuple(_candidate(registers, each, judged) for each in judged)


def how_to_tell(names: Sequence[str]) -> str:
    """What a person can look at to tell these models apart, empty when nothing is known."""
    for beginnings, words in HOW_TO_TELL:
        if sum(name.startswith(beginnings) for name in names) > 1:
            return words
    return "the type plate says which" if len(names) > 1 else ""


def _sunspec(registers: Registers, maps: Sequence[MeterMap]) -> tuple[str, list[_Lead]]:
    """What a SunSpec device calls its maker and model, and the maps of that kind that describe its models."""
    leads: list[_Lead] = []
    said = ""
    for meter_map in maps:
        if meter_map.scheme != _SUNSPEC:
            continue
        chain = registers.discover(meter_map.bases)
        common = next((address for number, address in chain if number == sunspec.COMMON), None)
        if common is None:
            continue
        maker, model = (_text(registers, common, place) for place in (_COMMON_MANUFACTURER, _COMMON_MODEL))
        said = f"{maker} {model}".strip()
        concrete = sunspec.layout(meter_map, chain)
        known = meter_map.identify
        if concrete.registers and (known is None or maker.startswith(tuple(map(str, known.expected)))):
            numbers = ", ".join(str(number) for number, _ in chain if number not in (sunspec.COMMON, sunspec.END))
            leads.append(_Lead(concrete, 0, (f"SunSpec, says {said or 'no name'}", f"models {numbers}")))
    return said, leads


def _text(registers: Registers, common: int, place: tuple[int, int]) -> str:
    field = Field(3, common + place[0], place[1], "ascii")
    words = registers.words(_request(field))
    return text(field, words) if words else ""


def _said(registers: Registers, maps: Sequence[MeterMap], maker: str) -> tuple[list[_Lead], list[MeterMap]]:
    """Maps that the device's own words speak for, and those that nothing it says rules out."""
    leads: list[_Lead] = []
    possible: list[MeterMap] = []
    known = [each.identify for each in maps if each.identify is not None]
    for field in sorted(known, key=lambda field: -field.count):  # what is longer holds the shorter ones too
        registers.words(_request(field))
    for meter_map in maps:
        identify = meter_map.identify
        words = registers.words(_request(identify)) if identify else None
        if identify is None or words is None:
            possible.append(meter_map)
            continue
        if not matches(identify, words):
            continue
        stranger = bool(maker) and meter_map.manufacturer.lower() not in maker.lower()
        level = _telling(identify, text(identify, words))
        if stranger and (level > 0 or text(identify, words) == "SunS"):
            continue  # it has said who made it
        possible.append(meter_map)
        if level < 2:
            leads.append(_Lead(meter_map, level, (_reason(identify, text(identify, words)),)))
    return leads, possible


def _telling(identify: Identify, said: str) -> int:
    """How much it means that a register says what the map expects: 0 everything, 1 something, 2 nothing."""
    if not identify.expected:
        named = identify.type in TEXT_TYPES and identify.type != "hex" and said.isascii()
        return 1 if named and len(said) >= _SHORTEST_SERIAL and any(letter.isdigit() for letter in said) else 2
    if identify.type in TEXT_TYPES:
        return 0
    return 0 if int(said) >= _TELLING and int(said) % 256 else 1


def _reason(identify: Identify, said: str) -> str:
    where = f"{'holding' if identify.function == 3 else 'input'} register {identify.address}"
    return f"{where} says {said}" if identify.expected else f"a serial number at {where}"


def _request(field: Field | Identify) -> Request:
    return Request(field.function, field.address, field.count)


def _swept(registers: Registers, maps: Sequence[MeterMap], rtu: bool) -> list[_Read]:
    """Maps whose voltage register holds a voltage, read whole; registers that many maps share come first."""
    by_address: dict[int, list[MeterMap]] = {}  # of both functions: some devices read one table by either
    for meter_map in maps:
        sentinel = _sentinel(meter_map)
        if sentinel is not None:
            by_address.setdefault(sentinel.address, []).append(meter_map)
    judged: list[_Read] = []
    for address in sorted(by_address, key=lambda address: (-len(by_address[address]), address)):
        found = [_whole(registers, lead, rtu) for lead in _by_voltage(registers, by_address[address])]
        judged += found
        if any(_settles(each) for each in found):
            break
    return judged


def _settles(each: _Read) -> bool:
    return not (each.like.bad or each.missing or each.lead.unconfirmed) and each.like.good >= _SETTLED


def _by_voltage(registers: Registers, maps: Sequence[MeterMap], other_order: bool = False) -> Iterator[_Lead]:
    """Maps whose voltage register holds a voltage."""
    sentinels = [(each, sentinel) for each in maps if (sentinel := _sentinel(each)) is not None]
    for _, sentinel in sorted(sentinels, key=lambda pair: -pair[1].count):  # what is longer holds the shorter ones too
        registers.words(Request(sentinel.function, sentinel.address, sentinel.count))
    for meter_map, sentinel in sentinels:
        words = registers.words(Request(sentinel.function, sentinel.address, sentinel.count))
        if words is None or (other_order and sentinel.count == 1):
            continue
        order = _other(sentinel.word_order) if other_order else sentinel.word_order
        if is_mains_voltage(abs(_number(replace(sentinel, word_order=order), words)), sentinel.phase):
            unconfirmed = meter_map.identify is not None and bool(meter_map.identify.expected)
            yield _Lead(meter_map, 2, (), unconfirmed, order if other_order else None)


def _other(order: str) -> str:
    return "big" if order == "little" else "little"


def _sentinel(meter_map: MeterMap) -> Register | None:
    """The register whose value shows best whether the map fits."""
    plain = [each for each in meter_map.registers if each.scale_address is None and not each.plus]
    return next((each for each in plain if each.quantity == "voltage" and each.phase in ("L1", "total")), None)


def _number(register: Register, words: bytes) -> float:
    """A register's value, not a number when it is none."""
    if register.word_order == "little":
        words = b"".join(words[at : at + 2] for at in range(len(words) - 2, -1, -2))
    raw = int.from_bytes(words)
    if raw in register.not_available:
        return float("nan")
    if register.type in ("f32", "f64"):
        value = float(struct.unpack(">f" if register.type == "f32" else ">d", words)[0])
    else:
        value = float(int.from_bytes(words, signed=register.type.startswith("s")))
    return value * register.scale[0] * 10.0 ** register.scale[1]


def _last_resorts(registers: Registers, maps: Sequence[MeterMap], rtu: bool) -> Iterator[_Read]:
    """When nothing fits: the other word order, then maps that have no voltage."""
    swapped = [_whole(registers, lead, rtu) for lead in _by_voltage(registers, maps, other_order=True)]
    yield from swapped
    if not any(_worth_it(each) for each in swapped):
        for meter_map in maps:
            if _sentinel(meter_map) is None:
                yield _whole(registers, _Lead(meter_map, 3, ("all its registers answer, none is a voltage",)), rtu)


def _whole(registers: Registers, lead: _Lead, rtu: bool) -> _Read:
    """Reads all of a map."""
    meter_map = lead.map
    blocks: list[Block] = []
    pause_s = meter_map.min_delay_ms / 1000
    for request in plan(meter_map, RTU_OVERHEAD_BYTES if rtu else TCP_OVERHEAD_BYTES):
        blocks += _blocks(registers, request, meter_map, pause_s)
        if not blocks and lead.level > 1:
            break  # it lacks the very first of them
    decoded = decode(meter_map, blocks, Overrides(word_order=lead.word_order))
    like = likeness(decoded)
    missing = len(meter_map.registers) - len(decoded)
    elsewhere = (meter_map.serial is None) if rtu else (meter_map.tcp is None and meter_map.serial is None)
    generic = meter_map.scheme == _SUNSPEC and meter_map.identify is not None and not meter_map.identify.expected
    # _AGAINST of them count against a map, the rest only order what fits equally.
    against = (lead.level, generic, like.bad, missing, lead.unconfirmed)
    rank = (*against, elsewhere, -like.good, -like.present, -len(meter_map.registers), meter_map.name)
    where = {(each.point, each.key): (each.function, each.address) for each in meter_map.registers}
    places = frozenset(where[each.point, each.key] for each in decoded if each.value and each.value.mantissa)
    words = {block.words[at : at + 2] for block in blocks for at in range(0, len(block.words), 2)}
    return _Read(lead, like, missing, places, len(words - _FILLING) > 1, rank)


def _blocks(registers: Registers, request: Request, meter_map: MeterMap, pause_s: float) -> Iterator[Block]:
    """A request's words; its halves' where the device refuses the whole."""
    words = registers.words(request, pause_s)
    if words is not None:
        yield Block(request.function, request.address, words)
        return
    for part in split(request, meter_map):
        words = registers.words(part, pause_s)
        if words is not None:
            yield Block(part.function, part.address, words)


def _worth_it(each: _Read) -> bool:
    """Whether a map that was read whole is still a candidate."""
    if each.lead.level == 0:
        return True
    whole = len(each.lead.map.registers)
    if each.lead.level == 1:
        return each.missing < whole and each.like.bad <= each.like.good
    if each.lead.level == 3:
        return each.missing == 0 and each.like.bad == 0 and each.like.present > 1 and each.varied
    return each.like.good > 0 and 8 * each.like.bad <= each.like.good and 2 * each.missing <= whole


def _candidate(registers: Registers, each: _Read, judged: Iterable[_Read]) -> Candidate:
    lead, like = each.lead, each.like
    reasons = list(lead.reasons)
    if like.words:
        reasons.append(like.words)
    if each.missing:
        reasons.append(f"{each.missing} of {len(lead.map.registers)} values don't answer")
    if like.bad:
        reasons.append(f"{like.bad} {'value' if like.bad == 1 else 'values'} can't be right")
    if lead.word_order:
        reasons.append(f"word order {lead.word_order}")
    return Candidate(
        lead.map,
        _certainty(each, judged),
        tuple(reasons),
        _serial(registers, lead.map.identify),
        lead.word_order,
        like.voltage,
        like.power,
    )


def _certainty(each: _Read, judged: Iterable[_Read]) -> str:
    """Sure is only what the device itself says, and what no other map fits as well."""
    generic = each.rank[1]
    rivals = [one for one in judged if one.lead.level == each.lead.level and one.rank[1] == generic]
    fits = not each.like.bad
    if generic and any(one.lead.level == 0 and not one.rank[1] for one in judged):
        return POSSIBLE
    if each.lead.level == 0:
        return SURE if fits and len(rivals) == 1 else LIKELY
    if not fits or each.missing or each.lead.level > 2 or each.lead.unconfirmed:
        return POSSIBLE
    # Its rivals know only a part of what this device has, or something speaks against them.
    against = each.rank[:_AGAINST]
    equal = [one for one in rivals if one is not each and one.rank[:_AGAINST] == against]
    better = any(one.rank[:_AGAINST] < against for one in judged)
    return LIKELY if not better and all(one.places < each.places for one in equal) else POSSIBLE


def _serial(registers: Registers, identify: Identify | None) -> str:
    if identify is None or identify.serial is None:
        return ""
    words = registers.words(_request(identify.serial))
    said = text(identify.serial, words) if words else ""
    return "" if said.strip("0") == "" else said
