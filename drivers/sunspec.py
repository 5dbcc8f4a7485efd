"""SunSpec: which models a device has, and a map with their registers in place. Pure; reads through a function.

Never believes a length: the walk ends after a bounded number of models and at the last address, come what may.

Rules
- The chain begins behind ``SunS`` at one of the map's bases; each model says its number and how long it is.
- Whatever a device does not answer ends the chain: the end marker may be missing.
- Models that a map does not describe are skipped. A second model 1 begins a further device.
- Of several models for the same thing in one device (integers and floats) the first is taken.
- What lies beyond the length a model states for itself belongs to its neighbour and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from drivers.map import Field, Identify, MeterMap, Model, Register, Term
from drivers.reading import Value, exact

Read = Callable[[int, int, int], bytes]
"""(function, address, count) -> words. Where there are no such registers it raises LookupError, or an error with a
Modbus exception ``code`` that is one of :data:`REFUSALS`."""

REFUSALS = (1, 2, 3, 4)
"""Exception codes by which devices say that they have no such registers; 4 is what some inverters give instead of 2."""

COMMON = 1
END = 0xFFFF
_BASES = (40000, 0, 50000)
_MARKER = b"SunS"
_HOLDING = 3
# The longest chains seen have about 30 models; a device that goes on for ever is stopped here.
_MOST_MODELS = 100
_LAST_ADDRESS = 65535
_HEADER = 2
# Model 1: serial number, 32 characters.
_SERIAL_OFFSET, _SERIAL_COUNT = 50, 16
# Name plates: where the rated power in W and its power of ten stand, counted from the model's ID register.
_NAME_PLATES = {120: (3, 4), 702: (2, 45)}
_POINTS = {"inverter": "pv", "meter": "grid", "battery": "battery"}


def discover(read: Read, bases: Sequence[int] = _BASES) -> tuple[tuple[int, int], ...]:
    """(model, address of its ID register) of the chain in its order, and where it ended as ``(65535, address)``.

    Args:
        read: reads registers; what it raises for another reason than registers that are not there passes through.
        bases: where to look for the beginning.

    Returns:
        An empty tuple when no base has a beginning.
    """
    for base in bases:
        if _read(read, base) == _MARKER:
            return _walk(read, base + 2)
    return ()


def _read(read: Read, address: int) -> bytes | None:
    """Two registers, None where there are none."""
    try:
        return read(_HOLDING, address, 2)
    except LookupError:
        return None
    except Exception as error:
        if getattr(error, "code", None) in REFUSALS:
            return None
        raise


def _walk(read: Read, address: int) -> tuple[tuple[int, int], ...]:
    chain: list[tuple[int, int]] = []
    while len(chain) < _MOST_MODELS and address + _HEADER - 1 <= _LAST_ADDRESS:
        header = _read(read, address)
        if header is None:
            break
        model, length = int.from_bytes(header[:2]), int.from_bytes(header[2:])
        if model in (0, END) or address + _HEADER + length - 1 > _LAST_ADDRESS:
            break
        chain.append((model, address))
        address += _HEADER + length
    return (*chain, (END, address))


def rated_power(read: Read, models: Sequence[tuple[int, int]]) -> Value | None:
    """What a device's first name plate (model 120 or 702) says it can deliver, in W; None where none says so."""
    plate = next(((number, address) for number, address in models if number in _NAME_PLATES), None)
    if plate is None:
        return None
    first, last = _NAME_PLATES[plate[0]]
    words = read(_HOLDING, plate[1] + first, last - first + 1)
    power, exponent = int.from_bytes(words[:2]), int.from_bytes(words[-2:], signed=True)
    return exact(power, exponent) if power != 0xFFFF and -10 < exponent < 10 else None


@dataclass(slots=True)
class _Device:
    """One device of a chain: what follows a model 1."""

    found: list[tuple[Model, int, int]] = field(default_factory=list)  # model, address, registers it says it has
    taken: dict[str, int] = field(default_factory=dict)  # role -> model number


def layout(meter_map: MeterMap, models: Sequence[tuple[int, int]]) -> MeterMap:
    """The map with the registers of these models in place, as :func:`discover` found them.

    A device with one measuring point has the point ``""``; otherwise they are ``pv``, ``grid`` and ``battery``, the
    second of a kind ``pv2`` and so on. The same file and digest: with the models it gives the same registers again.
    """
    placed: list[tuple[str, Register]] = []
    counts: dict[str, int] = {}
    for device in _devices(meter_map, models):
        names: dict[str, str] = {}
        for model, address, size in sorted(device.found, key=lambda one: one[0].role == "dc"):
            role = "inverter" if model.role == "dc" else model.role
            if model.role != "dc" or role not in names:
                counts[role] = counts.get(role, 0) + 1
                names[role] = _POINTS[role] + (str(counts[role]) if counts[role] > 1 else "")
            placed += [(names[role], register) for register in _placed(model, address, size)]
    single = sum(counts.values()) <= 1
    registers: dict[tuple[str, int], Register] = {}
    for point, register in placed:
        point = "" if single else point
        registers.setdefault((point, register.key), replace(register, point=point))
    return replace(
        meter_map,
        registers=tuple(registers.values()),
        points=tuple(dict.fromkeys(point for point, _ in registers)) or ("",),
        identify=_identify(meter_map.identify, models),
    )


def _devices(meter_map: MeterMap, models: Sequence[tuple[int, int]]) -> list[_Device]:
    known = {number: model for model in meter_map.models for number in model.ids}
    devices = [_Device()]
    for index, (number, address) in enumerate(models):
        if number == COMMON:
            devices.append(_Device())
        model, device = known.get(number), devices[-1]
        if model is None or device.taken.setdefault(model.role, number) != number:
            continue
        end = models[index + 1][1] if index + 1 < len(models) else address + _HEADER + model.length
        device.found.append((model, address, end - address))
    return devices


def _placed(model: Model, address: int, size: int) -> list[Register]:
    """A model's registers at its address, groups added up, without what lies beyond its size."""
    placed = []
    for register in model.registers:
        if model.group and register.address >= model.group[0]:
            register = _summed(register, model.group, size)
        if all(first + count <= size for first, count in register.spans()):
            placed.append(_moved(register, address))
    return placed


def _summed(register: Register, group: tuple[int, int, int], size: int) -> Register:
    first, length, most = group
    groups = min(most, (size - first) // length)
    further = tuple(
        Term(register.address + number * length, register.count, register.type, register.scale)
        for number in range(1, groups)
    )
    return replace(register, plus=further)


def _moved(register: Register, address: int) -> Register:
    return replace(
        register,
        address=register.address + address,
        scale_address=None if register.scale_address is None else register.scale_address + address,
        plus=tuple(replace(term, address=term.address + address) for term in register.plus),
    )


def _identify(known: Identify | None, models: Sequence[tuple[int, int]]) -> Identify | None:
    """The serial number of the first model 1, besides what the map says."""
    common = next((address for number, address in models if number == COMMON), None)
    if common is None:
        return known
    serial = Field(_HOLDING, common + _SERIAL_OFFSET, _SERIAL_COUNT, "ascii")
    if known is None:
        return Identify(serial.function, serial.address, serial.count, serial.type, (), serial)
    return replace(known, serial=serial)
