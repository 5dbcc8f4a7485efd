"""How a command ends: its exit code, and the words a person reads when something is wrong.

Rules
- A known error prints ``error: what is wrong`` and, from its notes, ``  try: advice``, on standard error; no traceback.
- A known error is a row of ``KNOWN``, looked up by name, so that no module is imported only to be caught.
- Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import IntEnum

from edge.cli.table import fit


class Exit(IntEnum):
    """Exit codes; the words are those of ``aigeco --help`` and docs/commands.md."""

    OK = 0
    DOES_NOT_HOLD = 1
    USAGE = 2
    CONFIG = 3
    METER = 4
    KEY = 5
    STORE = 6
    BUG = 70
    SILENT = 71
    STORE_FAILED = 74
    INTERRUPTED = 130
    UNREAD = 141


MEANING: dict[int, str] = {
    Exit.OK: "done, and all that was checked holds",
    Exit.DOES_NOT_HOLD: "something that was checked does not hold",
    Exit.USAGE: "wrong arguments, or a file that is not what the command needs",
    Exit.CONFIG: "the configuration is missing or wrong",
    Exit.METER: "the meter or its line does not answer as it should",
    Exit.KEY: "the key or its certificate is missing, unsafe or wrong",
    Exit.STORE: "the store of statements cannot be used",
    Exit.BUG: "run: a thread failed as it should not; the log has the traceback",
    Exit.SILENT: "run: a thread was silent for too long",
    Exit.STORE_FAILED: "run: the disk of the store fails, or what is on it is damaged",
    Exit.INTERRUPTED: "ended by Ctrl-C",
    Exit.UNREAD: "ended because nobody reads its output any more",
}

KNOWN = {
    "drivers.map.MapError": Exit.USAGE,
    "drivers.dump.DumpError": Exit.USAGE,
    "drivers.line.ModbusError": Exit.METER,
    "edge.config.ConfigError": Exit.CONFIG,
    "edge.database.SpoolProblem": Exit.STORE,
    "edge.lockfile.Held": Exit.STORE,
    "edge.site.SiteDamaged": Exit.STORE,
    "edge.site.SiteNewer": Exit.STORE,
    "edge.visit.NotTaken": Exit.STORE,
    "edge.visit.Silent": Exit.METER,
    "signer.bundle.BundleProblem": Exit.USAGE,
    "signer.errors.Malformed": Exit.DOES_NOT_HOLD,
    "signer.keys.KeyProblem": Exit.KEY,
    "signer.trust.Untrusted": Exit.KEY,
}
"""qualified class name -> exit code; subclasses count as their base."""


class Refused(Exception):
    """A command cannot do what it was asked, and says so in the caller's terms."""

    def __init__(self, words: str, code: Exit, *advice: str) -> None:
        super().__init__(words)
        self.code = code
        for line in advice:
            self.add_note(f"try: {line}")


def code_of(error: BaseException) -> Exit | None:
    """Exit code of a known error; None: not known, a bug."""
    if isinstance(error, Refused):
        return error.code
    for base in type(error).__mro__:
        code = KNOWN.get(f"{base.__module__}.{base.__qualname__}")
        if code is not None:
            return code
    # A file of the user's that is not there or may not be read; an OSError without a file name is a bug.
    return Exit.USAGE if isinstance(error, OSError) and error.filename is not None else None


def lines_of(error: BaseException) -> Iterator[str]:
    """``error: ...`` and ``  try: ...`` lines; of several problems, each is followed by its own advice."""
    words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    said = words.splitlines() or [type(error).__name__]
    notes = [line for note in getattr(error, "__notes__", ()) for line in note.splitlines()]
    if len(said) == len(notes):
        for line, note in zip(said, notes, strict=True):
            yield from (f"error: {line}", f"  {note}")
        return
    yield f"error: {said[0]}"
    several = len(getattr(error, "problems", ())) > 1
    yield from (line if line.startswith("  ") and not several else f"  {line}" for line in [*said[1:], *notes])


def say(error: BaseException) -> None:
    """Print a known error on standard error."""
    for line in lines_of(error):
        print(fit(line, sys.stderr), file=sys.stderr)
