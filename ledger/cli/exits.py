"""How ``aigeco-peer`` ends: exit codes, and the words a person reads when something is wrong.

Rules
- A known error prints ``error: what is wrong`` and ``  try: advice`` on standard error; anything else is a bug and
  keeps its traceback.
"""

from __future__ import annotations

import sys
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    DOES_NOT_HOLD = 1
    USAGE = 2
    CONFIG = 3
    DECLINED = 4
    INCOMPLETE = 5
    LEDGER = 6
    INTERRUPTED = 130
    UNREAD = 141


MEANING: dict[int, str] = {
    Exit.OK: "done; a running peer was told to stop",
    Exit.DOES_NOT_HOLD: "the ledger's chain is not whole, a step of a trace fails, or not all of a network runs",
    Exit.USAGE: "wrong arguments, or a file that is not what the command needs",
    Exit.CONFIG: "the configuration, a key, a certificate or one of Fabric's commands is missing or wrong",
    Exit.DECLINED: "the contract declines the call, and nothing is changed",
    Exit.INCOMPLETE: "nothing of a trace fails, but evidence was erased, or is not the caller's to see",
    Exit.LEDGER: "the ledger or the network cannot be used",
    Exit.INTERRUPTED: "ended by Ctrl-C",
    Exit.UNREAD: "ended because nobody reads its output any more",
}


class Refused(Exception):
    """A command cannot do what it was asked; the caller's move.

    Attributes:
        code: how the command ends.
    """

    def __init__(self, words: str, code: Exit, *advice: str) -> None:
        super().__init__(words)
        self.code = code
        for line in advice:
            self.add_note(f"try: {line}")


def say(error: BaseException) -> None:
    """Print a known error on standard error."""
    first, *more = str(error).splitlines() or [type(error).__name__]
    print(f"error: {first}", file=sys.stderr)
    for line in [*more, *getattr(error, "__notes__", [])]:
        print(f"  {line.strip()}", file=sys.stderr)
