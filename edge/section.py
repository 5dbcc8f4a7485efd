"""A section of the configuration, read key by key; what the configuration needs beyond :class:`drivers.table.Table`.

Never raises: problems are collected. A section that is missing reads as an empty one.

Rules
- Places look like the file: ``mqtt.port``, ``bus[0].meter[1].unit``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import TypeVar

from drivers.table import Table, closest

_NAME = re.compile(r"[A-Za-z0-9-]{1,40}")
NAME = "a name has 1 to 40 letters, digits and hyphens"
_Seen = TypeVar("_Seen", bound=Hashable)
_ADDRESS = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[^\s:\[\]/]+)(?::([0-9]{1,5}))?")


def like(name: str) -> str:
    """The name itself where it can be one, else one like it."""
    return name if _NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9-]+", "-", name)[:40].strip("-") or "meter-1"


class Section(Table):
    """One table of the file."""

    def at(self, key: str) -> str:
        """Place of a key, for messages."""
        return f"{self.place}.{key}" if self.place else key

    def know(self, key: str) -> None:
        """A key that may be there, for the advice on misspelt ones."""
        self._asked.add(key)

    def section(self, key: str, required: bool = False) -> Section:
        """The table under a key; an empty one when it is missing."""
        value = self.take(key)
        if value is not None and not isinstance(value, dict):
            self.wrong(key, value, "a table is needed here", f"[{self.at(key)}]")
        elif value is None and required:
            self.wrong(key, None, "this section is missing", f"[{self.at(key)}], see docs/example.toml")
            return Section({}, self.at(key), [])  # one problem is enough
        return Section(value if isinstance(value, dict) else {}, self.at(key), self.problems)

    def sections(self, key: str, most: int) -> list[Section]:
        """The tables of a list, each named by its number, counted from 0."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value) or len(value) > most:
            self.wrong(key, value, f"a list of at most {most} tables is needed here", f"[[{key}]]")
            return []
        return [Section(item, self.at(f"{key}[{number}]"), self.problems) for number, item in enumerate(value)]

    def name(self, key: str) -> str:
        """A name that topics, certificates and files can carry."""
        return self.checked_name(key, self.text(key))

    def checked_name(self, key: str, name: str) -> str:
        """The name itself, after a problem when it is none."""
        if name and not _NAME.fullmatch(name):
            self.wrong(key, name, NAME, f'"{like(name)}"')
        return name

    def path(self, key: str, base: Path) -> Path | None:
        """A path seen from ``base``, None when it is missing."""
        self.know(key)
        return base / self.text(key) if self.has(key) else None

    def named_paths(self, key: str, base: Path) -> dict[str, Path]:
        """A table of names and paths."""
        section = self.section(key)
        found = {}
        for name in list(section._left):
            found[section.checked_name(name, name)] = base / section.text(name)
        return found

    def number_choice(self, key: str, allowed: Collection[str], default: str) -> str:
        """One of a few whole numbers, as text."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and str(value) in allowed:
            return str(value)
        self.wrong(key, value, "not one of the numbers that are possible here", closest(str(value), allowed))
        return default

    def address(self, key: str, port: int) -> tuple[str, int]:
        """``host``, ``host:port`` or ``[IPv6]:port``."""
        text = self.text(key)
        match = _ADDRESS.fullmatch(text)
        if text and (match is None or not 0 < int(match[2] or port) < 1 << 16):
            self.wrong(key, text, "is no host and port", f'{key} = "192.168.1.20:{port}"')
        if match is None:
            return "", port
        return match[1].strip("[]"), int(match[2] or port)

    def told(self, *keys: str) -> bool:
        """Whether there is a problem with one of these keys."""
        places = {self.at(key) for key in keys}
        return any(problem.place in places for problem in self.problems)

    def once(self, key: str, value: _Seen, said: object, seen: dict[_Seen, str], advice: str) -> None:
        """Reports a value that stands at another place already; a stand-in for a wrong one is the same as nothing."""
        if self.told(key):
            return
        if value in seen:
            self.wrong(key, said, f"is the same as {seen[value]}", advice)
        seen.setdefault(value, self.at(key))
