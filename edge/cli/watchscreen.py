"""The picture of ``aigeco watch`` as lines of text, for a screen of any size, or as news. Pure.

Rules
- A picture is never wider or longer than the screen; what is cut ends with ``..``, a number is never cut.
- The last line of a screen says what is not on it and which keys reach it.
- Colour only marks what the words say as well.
"""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Iterator, Sequence
from decimal import ROUND_DOWN, Decimal
from itertools import accumulate

from edge.cli import table
from edge.cli.status import NOT_CONFIGURED, Alarm, clock_in_words
from edge.cli.watchview import Line, Point, View, pick

COLUMNS, ROWS = 80, 24
_LINES, _RECEIPTS, _ALARMS = 3, 2, 3
"""So many of each are always on the screen; the rest of it is the meters', then what they leave is the alarms'."""

_NAME = 8
"""A meter's name is cut, but not below this."""

_POWER = ("16.7.0", "2.7.0", "132.7.0")
_IMPORT, _EXPORT = ("1.8.0", "15.8.0"), ("2.8.0", "132.8.0")
_KEYS = "q: end  space, Page Down: on  b, Page Up: back  arrows, j k: by one  ?: less"
_BOLD, _RED, _YELLOW, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


def height(view: View, columns: int, rows: int) -> int:
    """How many meters are on a screen at once."""
    return _heights(view, columns, rows)[0]


def _heights(view: View, columns: int, rows: int) -> tuple[int, int]:
    """(meters, alarms) on a screen; an alarm takes as many lines as :func:`_alarm` makes of it."""
    fixed = 3 + 1 + min(len(view.lines), _LINES) + min(len(view.receipts), _RECEIPTS) + 1
    left = rows - fixed
    tall = [len(_alarm(each, columns)) for each in view.alarms]
    alarms = _fitting(tall[:_ALARMS], left - 1)
    meters = max(0, min(len(view.meters), left - sum(tall[:alarms])))
    return meters, _fitting(tall, left - meters)


def _fitting(tall: Sequence[int], room: int) -> int:
    """How many of the first fit into so many lines."""
    return sum(each <= room for each in accumulate(tall))


def _alarm(alarm: Alarm, columns: int) -> list[str]:
    """An alarm in two lines at most."""
    lines = textwrap.wrap(f"alarm: {alarm.words}", max(columns, _NAME), subsequent_indent="       ")
    return lines if len(lines) <= 2 else [lines[0], " ".join([lines[1], *(line.strip() for line in lines[2:])])]


def picture(
    view: View, columns: int, rows: int, first: int, coloured: bool, keys: bool, tell: bool = False
) -> list[str]:
    """All of a screen.

    Args:
        view: what is shown.
        columns, rows: the screen's size.
        first: the first meter that is shown.
        coloured: whether the screen has colours.
        keys: whether keys are read.
        tell: say what every key does.
    """
    meters, alarms = _heights(view, columns, rows)
    named = [
        *_head(view, columns),
        *_meters(view.meters, view.meters[first : first + meters], columns),
        *((_line(each), "") for each in view.lines[:_LINES]),
        *((words, "") for words in _receipts(view)[:_RECEIPTS]),
        *((words, _RED) for each in view.alarms[:alarms] for words in _alarm(each, columns)),
    ][: rows - 1]
    named.append((_KEYS if keys and tell else _foot(view, first, meters, alarms, keys), _BOLD))
    cut = ((_cut(words, columns), style) for words, style in named)
    return [f"{style}{words}{_PLAIN}" if style and coloured else words for words, style in cut]


def _head(view: View, columns: int) -> Iterator[tuple[str, str]]:
    words, style = standing(view)
    yield _spread(f"gateway {view.gateway}: {words}", f"{_clock(view.time_ms)} UTC", columns), style or _BOLD
    head = f"seq {view.head.seq:,}, head {view.head.sid[:16]}" if view.head else "no statement yet"
    store = f"{view.used_bytes / 1e6:,.1f} of {view.budget_bytes / 1e6:,.0f} MB"
    yield _spread(f"chain: {head}; {view.committed:,} settled, {view.pending:,} pending", store, columns), ""
    sending = f"sending: {view.sending or 'unknown, the gateway does not run'}"
    yield f"{sending}; read at the settlement period" if view.cadence == "settlement" else sending, ""


def standing(view: View) -> tuple[str, str]:
    """Whether the gateway runs and is heard of, in words, and their colour."""
    if view.silent_s is None:
        return "has never run with this store", _RED
    silent = table.age(view.silent_s)
    if not view.running:
        return f"NOT RUNNING, last heard of {silent} ago", _RED
    if view.late:
        return f"the gateway has not written for {silent}", _YELLOW
    error = f" (at most {view.clock_error_ms:,} ms off)" if view.clock == "synchronised" else ""
    return f"running, heard of {silent} ago; {clock_in_words(view.clock)}{error}", ""


def _meters(all_of_them: Sequence[Point], shown: Sequence[Point], columns: int) -> Iterator[tuple[str, str]]:
    """The table: as many columns as fit, widths from all meters so that nothing moves when it is scrolled."""
    headings = ["slot", "W", "import kWh", "export kWh", "ms", "state"]
    cells = [_cells(each) for each in all_of_them]
    wide = [
        max([len(heading), *(len(row[column]) for row in cells)], default=0) for column, heading in enumerate(headings)
    ]
    longest = max([len("meter"), *(len(each.point) for each in all_of_them)])
    kept = list(range(len(headings)))
    for least in (3, 4, 2):  # exported energy goes first, then the time of an answer, then imported energy
        if _NAME + sum(wide[column] + 2 for column in kept) > columns:
            kept.remove(least)
    name = max(_NAME, min(longest, columns - sum(wide[column] + 2 for column in kept)))
    right = {1, 2, 3, 4}

    def row(point: str, texts: Sequence[str]) -> str:
        made = [_cut(point, name).ljust(name)]
        made += [texts[each].rjust(wide[each]) if each in right else texts[each].ljust(wide[each]) for each in kept]
        return "  ".join(made).rstrip()

    yield row("meter", headings), _BOLD
    for each in shown:
        style = _RED if each.status not in ("good", "not present", NOT_CONFIGURED) else _YELLOW if each.late else ""
        yield row(each.point, _cells(each)), style


def _cells(point: Point) -> list[str]:
    state = f"{point.status}, {table.age(point.age_s)} ago" if point.late and point.age_s is not None else point.status
    return [
        "-" if point.slot_ms is None else _clock(point.slot_ms),
        _watts(point),
        _kwh(point, _IMPORT),
        _kwh(point, _EXPORT),
        "" if not point.latency_ms else f"{point.latency_ms:,}",
        state,
    ]


def _watts(point: Point) -> str:
    value = pick(point.values, _POWER)
    return "-" if value is None else f"{float(value):,.0f}"


def _kwh(point: Point, codes: Sequence[str]) -> str:
    value = pick(point.values, codes)
    if value is None:
        return "-"
    return f"{(Decimal(value) / 1000).quantize(Decimal('0.01'), ROUND_DOWN):,}"  # as a meter's display: never ahead


def _line(line: Line) -> str:
    count = table.some(line.meters, "meter")
    if line.busy is None or line.requests_per_s is None:
        return f"line {line.line}: {count}, planned to be {line.planned * 100:.0f} % busy ({line.endpoint})"
    now = f"{line.requests_per_s:.1f} requests/s, answers take {line.busy * 100:.0f} %"
    return f"line {line.line}: {count}, {now}, {line.planned * 100:.0f} % planned ({line.endpoint})"


def _receipts(view: View) -> list[str]:
    return [
        f"receipts: {name} up to seq {each.upto:,}, {table.age(each.age_s)} ago" for name, each in view.receipts.items()
    ]


def _foot(view: View, first: int, meters: int, alarms: int, keys: bool) -> str:
    count = len(view.meters)
    shown = f"meters {first + 1}-{first + meters} of {count}" if meters < count else table.some(count, "meter")
    more = len(view.alarms) - alarms
    hidden = f", {table.some(more, 'more alarm')}: aigeco status" if more else "" if view.alarms else ", no alarms"
    if not keys:
        return shown + hidden
    return f"{shown}{hidden}   q: end  ?: keys{'  space b arrows: more meters' if meters < count else ''}"


def news(before: View | None, view: View) -> Iterator[str]:
    """What is new since the last picture, a line each: for whoever has no screen."""
    stamp = _clock(view.time_ms)
    seen = {each.point: each.slot_ms for each in before.meters} if before else {}
    meters = [each for each in view.meters if each.status != NOT_CONFIGURED]
    for each in meters:
        if each.slot_ms is not None and each.slot_ms != seen.get(each.point):
            imported, exported = _kwh(each, _IMPORT), _kwh(each, _EXPORT)
            values = f"{_watts(each)} W  import {imported} kWh  export {exported} kWh  " if each.values else ""
            yield f"{stamp} {each.point}  slot {_clock(each.slot_ms)}  {values}{each.status}"
    now, was = [each.words for each in view.alarms], [each.words for each in before.alarms] if before else []
    yield from (f"{stamp} alarm: {words}" for words in now if words not in was)
    yield from (f"{stamp} no longer: {words}" for words in was if words not in now)
    if before is None or _whole(before) != _whole(view):
        good = sum(each.status == "good" and not each.late for each in meters)
        upto = "".join(f"; {name} up to {each.upto:,}" for name, each in view.receipts.items())
        yield (
            f"{stamp} gateway {view.gateway}: {standing(view)[0]}; {good} of {table.some(len(meters), 'meter')} "
            f"good; {view.stored:,} stored, {view.pending:,} pending{upto}"
        )


def _whole(view: View) -> tuple[object, ...]:
    receipts = {name: each.upto for name, each in view.receipts.items()}
    return view.running, view.late, view.stored, view.committed, receipts


def _clock(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).strftime("%H:%M:%S")


def _spread(left: str, right: str, columns: int) -> str:
    """Both ends of a line; the right one only where there is room."""
    gap = columns - len(left) - len(right)
    return f"{left}{' ' * gap}{right}" if gap >= 2 else left


def _cut(words: str, most: int) -> str:
    words = "".join(letter if letter.isprintable() else "?" for letter in words)
    return words if len(words) <= most else words[: max(0, most - 2)] + ".."[: max(0, most)]
