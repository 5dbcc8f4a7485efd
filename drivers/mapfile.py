"""A map file's TOML becomes a :class:`~drivers.map.MeterMap`: every key in one place, all problems in one pass.

Never raises on a wrong file: :func:`read` returns what is wrong with it. docs/catalogue.md explains the keys to people.

Rules
- Decimal factors never pass through a binary float.
- A key is named once here, with its type, its range and its default.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from drivers import mapcheck
from drivers.map import (
    ENCODINGS,
    LAST_ADDRESS,
    MOST_REGISTERS,
    PHASES,
    ROLES,
    TABLES,
    TEXT_TYPES,
    WORDS,
    Field,
    Identify,
    MeterMap,
    Model,
    Precondition,
    Register,
    SerialDefaults,
    TcpDefaults,
    Term,
)
from drivers.obis import BY_NAME
from drivers.reading import EXPONENT_RANGE
from drivers.table import Problem, Table, closest

# Far above every real file (47); keeps the checks, which compare registers in pairs, short on hostile input.
_MOST_ENTRIES = 200
# More than anybody would set at one meter.
_MOST_PRECONDITIONS = 16
_BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)


def read(data: bytes, name: str) -> tuple[MeterMap | None, list[Problem]]:
    """The map and what is wrong with its file; a map with problems is not to be used."""
    try:
        content = tomllib.loads(data.decode(), parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        return None, [Problem("", "", f"not TOML: {error}", "correct that place; the file is TOML in UTF-8")]
    problems: list[Problem] = []
    return _map(Table(content, "", problems), name, data), problems


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a register entry may leave out, because the file says it once."""

    table: str
    type: str
    word_order: str
    point: str
    not_available: Mapping[str, tuple[int, ...]]


def _map(top: Table, name: str, data: bytes) -> MeterMap:
    scheme = top.choice("scheme", ("registers", "sunspec"), "registers")
    limits = top.table("limits") or Table({}, "limits", top.problems)
    max_registers = limits.integer("max_registers", 1, MOST_REGISTERS, MOST_REGISTERS)
    defaults = _defaults(top)
    registers: tuple[Register, ...] = ()
    models: tuple[Model, ...] = ()
    if scheme == "sunspec":
        models = tuple(_model(entry, defaults, max_registers) for entry in top.tables("sunspec", _MOST_ENTRIES))
        mapcheck.distinct_models(top, models)
    else:
        registers = _registers(top, "register", defaults, max_registers)
    settlement = top.flag("settlement", True)
    forbidden = _ranges(limits, "forbidden")
    meter_map = MeterMap(
        name=name,
        manufacturer=top.text("manufacturer"),
        model=top.text("model"),
        kind=top.choice("kind", ("meter", "inverter", "both")),
        phases=top.integer("phases", 1, 3),
        scheme=scheme,
        registers=registers,
        points=tuple(dict.fromkeys(register.point for register in registers)) or ("",),
        serial=_serial(top.table("serial")),
        tcp=_tcp(top.table("tcp")),
        identify=_identify(top.table("identify")),
        preconditions=tuple(_precondition(entry) for entry in top.tables("precondition", _MOST_PRECONDITIONS)),
        max_registers=max_registers,
        max_gap=limits.optional("max_gap", 0, MOST_REGISTERS),
        even_only=limits.flag("even_only"),
        functions_equivalent=limits.flag("functions_equivalent"),
        min_delay_ms=limits.integer("min_delay_ms", 0, 10_000, 0),
        connect_delay_ms=limits.integer("connect_delay_ms", 0, 60_000, 0),
        timeout_ms=limits.optional("timeout_ms", 10, 60_000),
        forbidden=forbidden,
        barriers=limits.integers("barriers", 1, LAST_ADDRESS),
        settlement=settlement,
        settlement_reason="" if settlement else top.text("settlement_reason"),
        cross_checked=top.flag("cross_checked"),
        sources=top.texts("sources"),
        bases=top.integers("bases", 0, LAST_ADDRESS - 4) if scheme == "sunspec" else (),
        models=models,
        digest=hashlib.sha256(data).digest(),
        data=data,
    )
    limits.close()
    top.close()
    mapcheck.whole(top, meter_map)
    return meter_map


def _defaults(top: Table) -> _Defaults:
    table = top.table("defaults") or Table({}, "defaults", top.problems)
    missing = top.table("not_available") or Table({}, "not_available", top.problems)
    patterns = {kind: _patterns(missing, kind, kind) for kind in WORDS if missing.has(kind)}
    missing.close()
    defaults = _Defaults(
        table=table.choice("table", TABLES, "holding"),
        type=table.choice("type", WORDS, ""),
        word_order=table.choice("word_order", ("big", "little"), "big"),
        point=_point(table, ""),
        not_available=patterns,
    )
    table.close()
    return defaults


def _point(table: Table, default: str) -> str:
    point = table.text("point", default)
    if point and not (point.isascii() and point.isalnum() and point.islower() and len(point) <= 16):
        table.wrong("point", point, "not a point's name", "1 to 16 small letters and digits, such as pv or grid")
    return point


def _patterns(table: Table, key: str, kind: str) -> tuple[int, ...]:
    """Raw patterns of a type: numbers, or text such as ``"0xFFFFFFFFFFFFFFFF"`` (TOML numbers end at 63 bits)."""
    value = table.take(key)
    found: list[int] = []
    for item in value if isinstance(value, list) else [value]:
        try:
            pattern = int(item, 16) if isinstance(item, str) else item
        except ValueError:
            pattern = None
        if isinstance(pattern, int) and not isinstance(pattern, bool) and 0 <= pattern < 1 << 16 * WORDS[kind]:
            found.append(pattern)
        else:
            table.wrong(key, item, f"not a raw pattern of {kind}", f'{key} = 0xFFFF, or "0xFFFFFFFFFFFFFFFF"')
    return tuple(found)


def _ranges(table: Table, key: str) -> tuple[tuple[int, int], ...]:
    value = table.take(key)
    ranges: list[tuple[int, int]] = []
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        match item:
            case [int(first), int(last)] if 0 <= first <= last <= LAST_ADDRESS:
                ranges.append((int(first), int(last)))
            case _:
                table.wrong(key, item, "not a range of addresses", f"{key} = [[31, 48]]")
    return tuple(ranges)


def _serial(table: Table | None) -> SerialDefaults | None:
    if table is None:
        return None
    baud = table.integer("baud", _BAUDS[0], _BAUDS[-1])
    if baud not in _BAUDS:
        table.wrong("baud", baud, "not a usual speed", f"one of {', '.join(map(str, _BAUDS))}")
    serial = SerialDefaults(
        baud=baud,
        parity=table.choice("parity", ("N", "E", "O")),
        stopbits=table.integer("stopbits", 1, 2),
        unit=table.integer("unit", 1, 255, 1),
        verified=table.flag("verified"),
    )
    table.close()
    return serial


def _tcp(table: Table | None) -> TcpDefaults | None:
    if table is None:
        return None
    tcp = TcpDefaults(table.integer("port", 1, 65535, 502), table.integer("unit", 0, 255, 1))
    table.close()
    return tcp


def _field(table: Table) -> Field:
    function = TABLES[table.choice("table", TABLES, "holding")]
    address = table.integer("address", 0, LAST_ADDRESS)
    kind = table.choice("type", (*WORDS, *TEXT_TYPES))
    count = table.integer("count", 1, MOST_REGISTERS, WORDS.get(kind, 0) or 1)
    if kind in WORDS and count != WORDS[kind]:
        table.wrong(
            "count", count, f"{kind} takes {WORDS[kind]} registers", f"leave count out, or count = {WORDS[kind]}"
        )
    _in_range(table, address, count)
    return Field(function, address, count, kind)


def _in_range(table: Table, address: int, count: int) -> None:
    if address + count > LAST_ADDRESS + 1:
        table.wrong("address", address, f"{count} registers from there end after 65535", "an address from 0 to 65535")


def _identify(table: Table | None) -> Identify | None:
    if table is None:
        return None
    number = table.table("serial_number")
    serial = _field(number) if number else None
    if number:
        number.close()
    if not table.has("address") and serial:
        table.close()
        return Identify(serial.function, serial.address, serial.count, serial.type, (), serial)
    identify = _look(table, serial)
    table.close()
    return identify


def _precondition(table: Table) -> Precondition:
    words = table.text("words")
    look = _look(table, None) if table.has("address") else None
    contact = table.flag("contact")
    if contact and look:
        table.wrong("contact", contact, "a device that does not answer shows no register", "leave one of them out")
    table.close()
    return Precondition(words, look, contact)


def _look(table: Table, serial: Field | None) -> Identify:
    """A register to look at, and what it has to say."""
    look = _field(table)
    value = table.take("expected")
    expected = tuple(value) if isinstance(value, list) else ()
    wanted = str if look.type in TEXT_TYPES else int
    if not expected or not all(
        isinstance(item, wanted) and not isinstance(item, bool) and item != "" for item in expected
    ):
        table.wrong("expected", value, f"a list of what a {look.type} register says is needed", "expected = [...]")
        expected = ()
    return Identify(look.function, look.address, look.count, look.type, expected, serial)


def _registers(
    top: Table, key: str, defaults: _Defaults, limit: int, length: int | None = None
) -> tuple[Register, ...]:
    """All register entries of a list; ``length`` is the model's when they belong to a SunSpec model."""
    entries = top.tables(key, _MOST_ENTRIES)
    if not entries:
        top.wrong(key, None, "there are no registers", f"[[{key}]]")
    found: list[tuple[str, Register]] = []
    for entry in entries:
        found += _entry(entry, defaults, limit, length)
        entry.close()
    mapcheck.distinct(top, found)
    mapcheck.overlaps(top, found)
    return tuple(register for _, register in found)


def _entry(entry: Table, defaults: _Defaults, limit: int, length: int | None) -> list[tuple[str, Register]]:
    """The registers of one entry: one, or one per phase where the address is a table of phases."""
    quantity = entry.text("quantity")
    entry.place += f" ({quantity})" if quantity else ""
    where = "address" if length is None else "offset"
    last = LAST_ADDRESS if length is None else length + 1
    kind = entry.choice("type", WORDS, defaults.type or None)
    plus = _terms(entry, where, last)
    common = Register(
        key=0,
        quantity=quantity,
        phase="total",
        point=_point(entry, defaults.point),
        function=TABLES[entry.choice("table", TABLES, defaults.table)],
        address=0,
        count=WORDS[kind],
        type=kind,
        scale=entry.scale("scale", (1, 0), EXPONENT_RANGE),
        word_order=entry.choice("word_order", ("big", "little"), defaults.word_order),
        not_available=(
            _patterns(entry, "not_available", kind)
            if entry.has("not_available")
            else defaults.not_available.get(kind, ())
        ),
        scale_address=entry.optional(f"scale_{where}", 0, last),
        plus=plus,
        encoding=entry.choice("encoding", ENCODINGS, "plain"),
        billing=entry.flag("billing"),
        resettable=entry.flag("resettable"),
        derived=entry.flag("derived"),
        primary=entry.flag("primary"),
        suspect=entry.flag("suspect"),
    )
    _check_entry(entry, common)
    stated = entry.take("obis"), entry.take("unit")
    found = []
    for phase, address in _addresses(entry, where, last):
        known = BY_NAME.get((quantity, phase))
        if known is None:
            advice = closest(quantity, {name for name, _ in BY_NAME})
            entry.wrong(
                "quantity", f"{quantity} {phase}", "no such quantity in that phase", advice, mapcheck.QUANTITIES
            )
            continue
        for given, right, word in zip(stated, (known.code, known.unit), ("obis", "unit"), strict=True):
            if given is not None and given != right:
                words, advice = f"{quantity} {phase} has {word} {right}", f'leave it out, or {word} = "{right}"'
                entry.wrong(word, given, words, advice, mapcheck.QUANTITIES)
        billing = common.billing and phase == "total"  # the phases are parts of it
        register = replace(common, key=known.key, phase=phase, address=address, billing=billing)
        _check_place(entry, register, limit, last)
        found.append((f"{entry.place} {phase}", register))
    return found


def _addresses(entry: Table, where: str, last: int) -> list[tuple[str, int]]:
    """(phase, address) of ``address = 52`` (``phase`` may name it) or ``address = { L1 = 0, L2 = 2, L3 = 4 }``."""
    value = entry.take(where)
    if isinstance(value, dict):
        pairs = list(value.items())
        if entry.has("phase"):
            entry.wrong("phase", entry.take("phase"), f"the {where} names the phases already", "leave phase out")
    else:
        pairs = [(entry.choice("phase", PHASES, "total"), value)]
    good = []
    for phase, address in pairs:
        if phase not in PHASES:
            entry.wrong(where, phase, "not a phase", f"one of {', '.join(PHASES)}")
        elif not isinstance(address, int) or isinstance(address, bool) or not 0 <= address <= last:
            entry.wrong(where, address, f"a whole number from 0 to {last} is needed here", f"{where} = 0")
        else:
            good.append((phase, address))
    entry.take("phase")
    return good


def _terms(entry: Table, where: str, last: int) -> tuple[Term, ...]:
    terms = []
    for table in entry.tables("plus", 16):
        kind = table.choice("type", WORDS, "u32")
        address = table.integer(where, 0, last)
        terms.append(Term(address, WORDS[kind], kind, table.scale("scale", (1, 0), EXPONENT_RANGE)))
        _in_range(table, address, WORDS[kind])
        if kind in ("f32", "f64"):
            table.wrong("type", kind, "a composite is made of integers", 'type = "u32"')
        table.close()
    return tuple(terms)


def _check_entry(entry: Table, register: Register) -> None:
    """What can be said against an entry before its addresses are known."""
    if entry.has("count"):
        count = entry.take("count")
        if count != register.count or isinstance(count, bool):
            advice = f"leave count out, or count = {register.count}"
            entry.wrong("count", count, f"{register.type} takes {register.count} registers", advice)
    if register.plus and register.type in ("f32", "f64"):
        entry.wrong("type", register.type, "a composite is made of integers", 'type = "u32"')
    if register.encoding == "pf4q" and (register.type != "f32" or not register.quantity.startswith("power_factor")):
        entry.wrong("encoding", "pf4q", "only for power factors in f32", 'encoding = "plain"')
    energy = register.quantity.startswith("active_energy")
    if register.billing and (not energy or register.resettable or register.suspect or register.derived):
        advice = "only a sound active energy counter that nobody can reset may be billed"
        entry.wrong("billing", "true", "not for this quantity", advice, mapcheck.BILLING)


def _check_place(entry: Table, register: Register, limit: int, last: int) -> None:
    """What can be said against the place of one register."""
    if register.address + register.count > last + 1:
        entry.wrong("address", register.address, f"its {register.count} registers end after {last}", "a lower address")
    if register.count > limit:
        words, advice = f"longer than max_registers {limit}", "a shorter type, or a higher limit"
        entry.wrong("type", register.type, words, advice, mapcheck.LIMITS)


def _model(entry: Table, defaults: _Defaults, limit: int) -> Model:
    ids = entry.integers("ids", 1, 65534)
    if not ids:
        entry.wrong("ids", None, "a model needs its numbers", "ids = [101, 102, 103]")
    entry.place += f" ({', '.join(map(str, ids))})"
    length = entry.integer("length", 1, 2000)
    role = entry.choice("role", ROLES)
    group_table = entry.table("group")
    group = None
    if group_table:
        group = (
            group_table.integer("offset", 2, length + 2),
            group_table.integer("length", 1, 200),
            group_table.integer("most", 1, 16),
        )
        group_table.close()
    reach = length if group is None else max(length, group[0] + group[1] - 2)  # the first group, after the header
    registers = _registers(entry, "register", defaults, limit, reach)
    entry.close()
    return Model(ids, role, length, registers, group)
