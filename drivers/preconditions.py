"""Whether a device is set as its map takes for granted. Reads through a function and reports; never writes.

Rules
- A register that does not answer leaves the question open: holds is None, and nothing else is the worse for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drivers.identify import matches, text
from drivers.line import ModbusError
from drivers.map import MeterMap, Precondition
from drivers.plan import Request

Read = Callable[[Request], bytes]
"""The words of a request; raises ModbusError."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What became of one precondition.

    Attributes:
        precondition: what was looked at.
        said: what its register says, or why it says nothing; empty where only a person can see.
        holds: None where that is not known.
    """

    precondition: Precondition
    said: str
    holds: bool | None


def look(meter_map: MeterMap, read: Read) -> tuple[Looked, ...]:
    """Looks at the preconditions of a map, in its order; those of the first contact are met where there is one."""
    return tuple(_look(precondition, read) for precondition in meter_map.preconditions if not precondition.contact)


def _look(precondition: Precondition, read: Read) -> Looked:
    register = precondition.look
    if register is None:
        return Looked(precondition, "", None)
    try:
        words = read(Request(register.function, register.address, register.count))
    except ModbusError as error:
        return Looked(precondition, str(error), None)
    return Looked(precondition, text(register, words), matches(register, words))
