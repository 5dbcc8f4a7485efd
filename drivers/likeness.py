"""How much the values that a map makes of a device's registers look like a power network. Pure.

Never decides what a device is (drivers.recognise does), only counts what speaks for and against a map.

Rules
- Zero speaks neither way: a phase may be unconnected, an inverter asleep.
- What no installation with Modbus meters has is a mark against the map: 3 kV, 70 Hz, 20 MW, a power factor of 7.
- Power can't be more than voltage times current, so a wrong factor in any of the three shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.decode import Decoded
from drivers.obis import BY_KEY, unit
from drivers.reading import Value

# Volts between a phase and neutral: low and high ends of 100 V and 230 V networks, with their tolerances.
VOLTAGE = 80.0, 300.0
# Where a map does not say between what: phase to phase in a 400 V network too, and 690 V in industry.
VOLTAGE_TOTAL = 80.0, 760.0
# Islands and generators stray this far.
FREQUENCY = 45.0, 65.0
# Some meters round it up a little.
POWER_FACTOR = 1.02
# The most of an installation behind one Modbus meter: 10 MW, and what that is in current and in a century's energy.
_MOST = {"A": 2e4, "W": 1e7, "var": 1e7, "VA": 1e7, "Wh": 1e13, "varh": 1e13, "VAh": 1e13, "V": 1.6e3}
# Meters that take power and current from different cycles, or round currents; below this nothing is said.
_POWER_MARGIN, _POWER_FLOOR_W = 1.25, 30.0


@dataclass(frozen=True, slots=True)
class Likeness:
    """What speaks for and against a map.

    Attributes:
        good: values that hardly anything but this quantity has: voltages, frequencies, powers that fit them.
        bad: values that cannot be.
        present: values that are not zero.
        voltage, power: at a glance; None when there is none.
        words: the good values for a person, at most three: ``230.5 V, 50.0 Hz``.
    """

    good: int
    bad: int
    present: int
    voltage: Value | None
    power: Value | None
    words: str


def number(value: Value) -> float:
    """A value as a float: exact enough to see whether it can be."""
    return float(value.mantissa) * 10.0**value.exponent


def likeness(decoded: Sequence[Decoded]) -> Likeness:
    """Counts what speaks for and against."""
    good = bad = present = 0
    shown: dict[str, str] = {}
    for each in decoded:
        if each.value is None:
            continue
        verdict = _verdict(each.key, number(each.value))
        good, bad, present = good + (verdict > 0), bad + (verdict < 0), present + (each.value.mantissa != 0)
        if verdict > 0:
            shown.setdefault(unit(each.key), f"{number(each.value):.1f} {unit(each.key)}")
    for verdict in _powers(decoded):
        good, bad = good + (verdict > 0), bad + (verdict < 0)
    words = ", ".join(text for unit_name, text in shown.items() if unit_name in ("V", "Hz"))
    return Likeness(good, bad, present, _first(decoded, "voltage"), _first(decoded, "active_power"), words)


def is_mains_voltage(volts: float, phase: str) -> bool:
    """Whether it is the voltage of a network."""
    low, high = VOLTAGE if phase in ("L1", "L2", "L3") else VOLTAGE_TOTAL
    return low <= volts <= high


def _verdict(key: int, size: float) -> int:
    """1 in its favour, -1 against it, 0 neither."""
    quantity = BY_KEY.get(key)
    if quantity is None or size == 0:
        return 0
    size = abs(size)
    if quantity.name == "voltage":
        return 1 if is_mains_voltage(size, quantity.phase) else -1
    if quantity.name == "frequency":
        return 1 if FREQUENCY[0] <= size <= FREQUENCY[1] else -1
    if quantity.name == "power_factor":
        return 0 if size <= POWER_FACTOR else -1
    return -1 if size > _MOST.get(quantity.unit, float("inf")) else 0


def _powers(decoded: Sequence[Decoded]) -> list[int]:
    """For each phase with voltage, current and power: whether they fit."""
    found: dict[tuple[str, str, str], float] = {}
    for each in decoded:
        quantity = BY_KEY.get(each.key)
        if quantity is not None and each.value is not None:
            found[each.point, quantity.name, quantity.phase] = abs(number(each.value))
    verdicts = []
    for (point, name, phase), watts in found.items():
        volts, amperes = found.get((point, "voltage", phase)), found.get((point, "current", phase))
        if name != "active_power" or phase == "total" or watts <= _POWER_FLOOR_W:
            continue
        if volts is not None and amperes is not None:
            verdicts.append(1 if watts <= _POWER_MARGIN * volts * amperes + _POWER_FLOOR_W else -1)
    return verdicts


def _first(decoded: Sequence[Decoded], name: str) -> Value | None:
    """A quantity at a glance: the total, or the first phase's."""
    by_phase: dict[str, Value] = {}
    for each in decoded:
        quantity = BY_KEY.get(each.key)
        if quantity is None or each.value is None:
            continue
        if quantity.name == name or (name == "active_power" and quantity.name in _POWERS and quantity.phase == "total"):
            by_phase.setdefault(quantity.phase, each.value)
    order = ("L1", "total", "L2") if name == "voltage" else ("total", "L1")
    return next((by_phase[phase] for phase in order if phase in by_phase), None)


# What maps call the active power of a generator, which is always a total.
_POWERS = ("active_power_generation", "active_power_export")
