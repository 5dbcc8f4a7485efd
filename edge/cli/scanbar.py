"""How far a scan is, for the person who waits: a bar with the time left on a terminal, else a line for each device.

Rules
- All of it goes to standard error; the terminal's part is imported only there.
- With --json and without a terminal nothing is said: whoever reads waits for the object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drivers.line import SerialEndpoint
from drivers.scan import Found, Scanner, where
from edge.cli import table

Tell = Callable[[], None]
Say = Callable[[str], None]


@contextmanager
def shown(scanner: Scanner, quiet: bool) -> Iterator[Tell]:
    """A function to call after each step."""
    if sys.stderr.isatty():
        with _bar(scanner) as tell:
            yield tell
    elif quiet:
        yield lambda: None
    else:
        _say(ahead(scanner))
        yield _lines(scanner, _say)


def ahead(scanner: Scanner) -> str:
    """What lies ahead: ``11 settings of /dev/tty: 52 s while nobody answers; 247 unit ids of one take 73 s``."""
    places = scanner.scan.agenda.places
    endpoint = places[0].endpoint
    serial = isinstance(endpoint, SerialEndpoint)
    what = table.some(len(places), "setting" if serial else "host and port")
    what = f"{what} of {endpoint.path}" if isinstance(endpoint, SerialEndpoint) else f"{what}, first {endpoint}"
    words = f"{what}: {table.age(scanner.left_s())} while nobody answers"
    most = max(places, key=lambda place: place.full_s)
    units = most.first + most.likely + most.rest
    count = len(units)
    if len(places) == count == 1:
        return f"unit {units[0]} on {where(endpoint)}"
    return (
        f"{words}; {table.some(count, 'unit id')} of one {'takes' if count == 1 else 'take'} {table.age(most.full_s)}"
    )


def line(found: Found) -> str:
    """One device in a line."""
    best = found.candidates[0] if found.candidates else None
    model = f"{best.map.name} ({best.certainty})" if best else f"unknown, {found.answer}"
    return f"unit {found.unit} on {where(found.endpoint)}: {model}"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _lines(scanner: Scanner, say: Say) -> Tell:
    """Says each device when it is found, and where the scan is now when that changes."""
    told = len(scanner.scan.found)
    for found in scanner.scan.found:
        say(line(found))

    def tell() -> None:
        nonlocal told
        for found in scanner.scan.found[told:]:
            say(line(found))
        told = len(scanner.scan.found)

    return tell


@contextmanager
def _bar(scanner: Scanner) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    console.print(ahead(scanner), markup=False)
    with Progress(*columns, console=console, transient=True) as progress:
        done_s = 0.0
        before_s = scanner.left_s()
        task = progress.add_task(scanner.doing, total=max(0.001, before_s), left=f"{table.age(before_s)} left")
        say = _lines(scanner, lambda words: progress.console.print(words, markup=False))

        def tell() -> None:
            nonlocal done_s, before_s
            say()
            left_s = scanner.left_s()
            done_s += max(0.0, before_s - left_s)
            before_s = left_s
            progress.update(
                task,
                total=max(0.001, done_s + left_s),
                completed=done_s,
                description=scanner.doing,
                left=f"{table.age(left_s)} left",
            )

        yield tell
