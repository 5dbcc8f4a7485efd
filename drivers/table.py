"""A table of a data file read key by key: what is there is checked, what nobody asked for is reported.

Never raises and never guesses: a wrong key becomes a :class:`Problem` and a harmless stand-in is returned, so that one
pass finds all problems of a file. Whoever reads raises once, when the list is not empty.

Rules
- Every key is asked for exactly once; :meth:`Table.close` reports the keys that are left, with the closest known name.
- Numbers are exact: integers, :class:`~decimal.Decimal`, or decimal text. Never a binary float.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
# Longest value shown in a message; a whole table would bury the words around it.
_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: where, e.g. ``register 3 (voltage): scale``.
        value: what stands there, shortened; empty when nothing does.
        words: what is wrong with it.
        advice: what to try.
        rule: which kind of rule it breaks; ``schema`` for one that a key shows alone.
    """

    place: str
    value: str
    words: str
    advice: str
    rule: str = "schema"

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.value, self.words) if part)


def shown(value: object) -> str:
    """A value as a message shows it."""
    text = str(value) if isinstance(value, int | Decimal) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def decimal(value: object) -> tuple[int, int]:
    """``(mantissa, exponent)`` of an exact number: 1000, ``Decimal("0.1")`` or ``"0.1"``; no trailing zeros.

    Raises:
        ValueError: not an exact number.
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError("not a number such as 1000 or 0.1")
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise ValueError("not a number such as 1000 or 0.1")
    if isinstance(value, int) and abs(value) >= 10**18:
        raise ValueError("more than 18 digits")
    sign, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("not a finite number")
    if len(digits) > 36:
        raise ValueError("more than 36 digits")
    mantissa = int("".join(map(str, digits)))
    if mantissa == 0:
        return 0, 0
    while mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    return -mantissa if sign else mantissa, exponent


def closest(word: str, known: Collection[str]) -> str:
    """Advice that names the closest known words, or all of them when none is close."""
    near = difflib.get_close_matches(word, list(known), n=3)
    return "one of " + ", ".join(near or sorted(known)[:12])


class Table:
    """One table of the file, being read."""

    def __init__(self, data: Mapping[str, object], place: str, problems: list[Problem]) -> None:
        self._left = dict(data)
        self._asked: set[str] = set()
        self.place = place
        self.problems = problems

    def at(self, key: str) -> str:
        """Place of a key, for messages."""
        return f"{self.place}: {key}" if self.place else key

    def wrong(self, key: str, value: object, words: str, advice: str, rule: str = "schema") -> None:
        """Reports a problem with a key; ``None`` for a value that is not there."""
        self.problems.append(Problem(self.at(key), "" if value is None else shown(value), words, advice, rule))

    def take(self, key: str) -> object | None:
        """The value as it stands, None when it is missing."""
        self._asked.add(key)
        return self._left.pop(key, None)

    def has(self, key: str) -> bool:
        """Whether the key is still there to be taken."""
        return key in self._left

    def text(self, key: str, default: str | None = None) -> str:
        """A text; required when there is no default."""
        value = self.take(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value.strip():
            return value
        self.wrong(key, value, "a text is needed here", f'{key} = "..."')
        return ""

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """One of a few words; required when there is no default."""
        value = self.take(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value in allowed:
            return value
        self.wrong(key, value, "not a word that is known here", closest(str(value), allowed))
        return default if default is not None else next(iter(allowed))

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number of a range; required when there is no default."""
        value = self.take(key)
        if value is None and default is not None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.wrong(key, value, f"a whole number from {low} to {high} is needed here", f"{key} = {default or low}")
        return low if default is None else default

    def optional(self, key: str, low: int, high: int) -> int | None:
        """A whole number of a range, or None when it is missing."""
        self._asked.add(key)
        return self.integer(key, low, high) if self.has(key) else None

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, value, "true or false is needed here", f"{key} = true")
            return default
        return value

    def scale(self, key: str, default: tuple[int, int], exponents: Collection[int]) -> tuple[int, int]:
        """A decimal factor, never 0, its power of ten one of ``exponents``."""
        value = self.take(key)
        if value is None:
            return default
        try:
            mantissa, exponent = decimal(value)
        except ValueError as error:
            self.wrong(key, value, str(error), f'{key} = "0.1" or {key} = 1000')
            return default
        if mantissa == 0 or exponent not in exponents or abs(mantissa) >= 10**9:
            advice = f"at most 9 digits, powers of ten {min(exponents)} to {max(exponents)}, not 0"
            self.wrong(key, value, "a factor out of range", advice)
            return default
        return mantissa, exponent

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, at least one."""
        values = self._list(key)
        if values and all(isinstance(value, str) and value.strip() for value in values):
            return tuple(str(value) for value in values)
        self.wrong(key, values, "a list of texts is needed here", f'{key} = ["..."]')
        return ()

    def _list(self, key: str) -> Sequence[object]:
        value = self.take(key)
        return value if isinstance(value, list) else []

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """A list of whole numbers of a range, or one alone; empty when it is missing."""
        value = self.take(key)
        items: Sequence[object] = value if isinstance(value, list) else [] if value is None else [value]
        good = [item for item in items if isinstance(item, int) and not isinstance(item, bool) and low <= item <= high]
        if len(good) != len(items):
            self.wrong(key, value, f"whole numbers from {low} to {high} are needed here", f"{key} = [{low}]")
        return tuple(good)

    def table(self, key: str, place: str = "") -> Table | None:
        """The table under a key, None when it is missing."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(key, value, "a table is needed here", f"[{key}]")
            return None
        return Table(value, place or self.at(key), self.problems)

    def tables(self, key: str, most: int) -> list[Table]:
        """The tables of a list; each is named by its number, counted from 1."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value) or len(value) > most:
            self.wrong(key, value, f"a list of at most {most} tables is needed here", f"[[{key}]]")
            return []
        return [Table(item, self.at(f"{key} {number}"), self.problems) for number, item in enumerate(value, 1)]

    def close(self) -> None:
        """Reports every key that nobody asked for."""
        for key, value in self._left.items():
            self.wrong(key, value, "a key that is not known here", closest(key, self._asked))
        self._left.clear()
