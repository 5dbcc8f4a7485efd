"""Settlement results as files that a distributor or a member can take in. Reads and writes text; computes nothing.

docs/settlement.md says for each layout where it comes from, and what of it no source confirms.

Rules
- UTF-8 without byte order mark, fields parted by ``;``, lines ended by ``\\n``; decimals with a comma.
- Coefficients have six decimals and add up to exactly one, or nothing is written and nothing is read.
- Energy is whole kWh with three decimals, so every Wh is there. A number that is not known is an empty field, never 0.
- The identifiers of supply points (CUPS) come from the caller: no contract knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ledger.rules import hours
from ledger.rules.sharing import ONE, BadCoefficients, check

SEPARATOR = ";"

SHARES_HEAD = (
    "CUPS",
    "FECHA",
    "ESTACION",
    "GENERACION",
    "CONSUMO",
    "AUTOCONSUMO",
    "EXCEDENTE",
    "RED",
    "ESTADO",
    "MOTIVO",
)
"""Columns of the file of results: supply point, end of the period in legal time, 1 in summer time and 0 in winter,
kWh allotted, consumed, self-consumed, surplus and taken from the grid, certainty and reason."""


class BadFile(ValueError):
    """A file that is not what it should be: line, and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What a coefficient file says.

    Attributes:
        supplies: CUPS, in the order of the file.
        rows: millionths, one row for all hours, or one for each hour of the year.
    """

    supplies: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


def coefficient_name(cau: str, year: int) -> str:
    """The file's name: the code of the installation (CAU) and the year."""
    return f"{cau}_{year}.txt"


def write_coefficients(table: Coefficients) -> str:
    """``CUPS;0,500000`` a line; for hours of the year ``CUPS;0001;0,500000``, hour by hour.

    Raises:
        BadCoefficients: the coefficients of an hour do not add up to one.
        ValueError: neither one row nor a year of them.
    """
    hourly = _hourly(len(table.rows))
    for hour, row in enumerate(table.rows, 1):
        check(row, hour if hourly else None)
    lines = []
    for hour, row in enumerate(table.rows, 1):
        for supply, part in zip(table.supplies, row, strict=True):
            lines.append((supply, f"{hour:04}", _decimal(part)) if hourly else (supply, _decimal(part)))
    return _text(lines, "\r\n")


def read_coefficients(text: str) -> Coefficients:
    """The reverse of :func:`write_coefficients`, strictly.

    Raises:
        BadFile: a line is not of the layout, an hour is missing or there twice, coefficients do not add up to one.
    """
    found: dict[str, dict[int, int]] = {}
    widths = set()
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        fields = line.removesuffix("\r").split(SEPARATOR)
        widths.add(len(fields))
        if len(widths) > 1 or len(fields) not in (2, 3):
            raise BadFile(f"line {number}: CUPS;coefficient or CUPS;hour;coefficient is needed, in every line")
        hour = _whole(fields[1], number) if len(fields) == 3 else 1
        hours_of = found.setdefault(fields[0], {})
        if hour in hours_of:
            raise BadFile(f"line {number}: {fields[0]} is there twice{f' in hour {hour}' if len(fields) == 3 else ''}")
        hours_of[hour] = _millionths(fields[-1], number)
    count = max(len(hours_of) for hours_of in found.values())
    for supply, hours_of in found.items():
        missing = next((hour for hour in range(1, count + 1) if hour not in hours_of), None)
        if missing is not None or len(hours_of) != count:
            raise BadFile(f"{supply}: hour {missing} is missing")
    rows = tuple(tuple(hours_of[hour] for hours_of in found.values()) for hour in range(1, count + 1))
    try:
        hourly = _hourly(count)
        for hour, row in enumerate(rows, 1):
            check(row, hour if hourly else None)
    except (BadCoefficients, ValueError) as error:
        raise BadFile(str(error)) from error
    return Coefficients(tuple(found), rows)


def write_shares(results: Iterable[Mapping[str, object]], supplies: Mapping[str, str], zone: str) -> str:
    """Members' periods, a line each, under :data:`SHARES_HEAD`.

    Args:
        results: answers of ``sharing`` to ``Results``, in the order of time.
        supplies: the CUPS of each member that is to be in the file.
        zone: of legal time.
    """
    lines: list[Sequence[str]] = [SHARES_HEAD]
    for result in results:
        run, members = result["run"], result["members"]
        assert isinstance(run, dict)
        assert isinstance(members, dict)
        for name in sorted(set(members) & set(supplies)):
            part = members[name]
            for number in range(run["count"]):
                start_ms = run["first_ms"] + number * run["period_ms"]
                columns = ("allotted", "consumed", "self_consumed", "surplus", "from_grid")
                energy = (_kwh(part[column][number]) for column in columns)
                when = (_ending(start_ms, run["period_ms"], zone), str(int(hours.summer(start_ms))))
                lines.append((supplies[name], *when, *energy, part["state"][number], part["reason"][number]))
    return _text(lines)


def _ending(start_ms: int, period_ms: int, zone: str) -> str:
    """A period's end in the legal time that it began in: of two like hours the season tells which is meant."""
    return f"{hours.local(start_ms, zone) + timedelta(milliseconds=period_ms):%Y/%m/%d %H:%M}"


def _hourly(rows: int) -> bool:
    if rows not in (1, 8760, 8784):
        raise ValueError(f"{rows} rows of coefficients: one for all hours, or 8760, or 8784 in a leap year")
    return rows > 1


def _decimal(coefficient: int) -> str:
    return f"{coefficient // ONE},{coefficient % ONE:06}"


def _millionths(field: str, line: int) -> int:
    whole, _, part = field.partition(",")
    if not whole.isdecimal() or not whole.isascii() or (part and not (part.isdecimal() and part.isascii())):
        raise BadFile(f"line {line}: {field[:40]!r} is no coefficient: 0,500000")
    if len(part) > 6:
        raise BadFile(f"line {line}: {field[:40]!r} has more than six decimals")
    return int(whole) * ONE + int(part.ljust(6, "0"))


def _whole(field: str, line: int) -> int:
    if not field.isdecimal() or not field.isascii() or not 1 <= int(field) <= 8784:
        raise BadFile(f"line {line}: {field[:40]!r} is no hour of the year")
    return int(field)


def _kwh(wh: int | None) -> str:
    return "" if wh is None else f"{wh // 1000},{wh % 1000:03}"


def _text(lines: Iterable[Sequence[str]], end: str = "\n") -> str:
    return "".join(f"{SEPARATOR.join(fields)}{end}" for fields in lines)
