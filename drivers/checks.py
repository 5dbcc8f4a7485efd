"""What can be checked of one measuring point, worked out once: limits, resolutions, which quantities belong together.

Pure data for drivers.plausible; judges nothing.

Rules
- Numbers are whole billionths of their unit: every value of a reading is one exactly.
- A limit is where physics or the installation's fuse ends, not where the usual does; docs/plausibility.md has reasons.
- What an override does to a register (ratio, scale, direction) is done to its limits.
- A reading's quantities decide what is checked; a point has a few sets of them (an inverter's day and night).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers import obis
from drivers.decode import Overrides, generating, installed
from drivers.layout import Balance, Direction, Layout, Meter, Phase, Sum, Within
from drivers.map import WORDS, MeterMap, Register
from drivers.reading import Value

BILLION = 10**9
# Indexed by a power of ten from -9 to 9; Python counts negative indexes from the end.
NANO: tuple[int, ...] = tuple(10 ** (9 + power) for power in (*range(10), *range(-9, 0)))
HOUR_MS = 3_600_000

# What a low-voltage busbar carries at most: the largest usual transformer, 2.5 MVA at 400 V, gives 3608 A. Whoever
# knows the fuse says so in the configuration and gets sharper limits.
_ANY_CURRENT_A = 4000
_ANY_VOLTAGE_V, _USUAL_VOLTAGE_V = 400, 230
# A motor's start, an inrush, and a breaker that has not tripped yet (IEC 60898-1: B trips at once at 3 to 5 times).
_PEAK = 3
# What a breaker carries for an hour without tripping is below 1.45 times its rating (IEC 60898-1).
_LASTING_PERCENT = 150
# How long a peak may last, and by how much the instants of a counter may be off.
_BURST_S = 10
# A counter that holds more than forty years at full power was not counted.
_LIFE_H = 40 * 8766
# Voltages that are in order: one phase of 230 V, and the systems of 400 V and 690 V (or line to line).
VOLTAGE_BANDS_V = ((80, 300), (320, 480), (550, 760))
# The same about a nominal voltage that is known: a brown-out to a third, a lost neutral.
VOLTAGE_PERCENT = (35, 130)
_RATED_UNITS = frozenset({"A", "W", "var", "VA"})
_FREQUENCIES_HZ = (45, 65)
# Displays turn over at a power of ten: from 10 MWh (99,999.99 kWh with less digits) to 1 TWh.
_DISPLAYS_WH = tuple(10**power for power in range(7, 13))
_UNBOUND = 10**40
# Patterns of "not available" by bits: the largest and the smallest number, and all ones where there is no sign.
# (All ones with a sign is -1, an ordinary number.)
_CODES = {
    "u32": (0xFFFFFFFF, 0x80000000, 0x7FFFFFFF),
    "s32": (0x7FFFFFFF, 0x80000000),
    "u64": ((1 << 64) - 1, 1 << 63, (1 << 63) - 1),
    "s64": ((1 << 63) - 1, 1 << 63),
}
# Of 16 bits they are ordinary numbers where the resolution is fine, so they count only outside the limits.
_SHORT_CODES = {"u16": (0xFFFF, 0x8000, 0x7FFF), "s16": (0x7FFF, 0x8000)}
# A device with a power of ten of its own shows four digits or more; these are the coarsest steps seen, in tenths.
_DYNAMIC_STEPS = {"Wh": 1000, "varh": 1000, "VAh": 1000, "W": 100, "var": 100, "VA": 100, "V": 10, "A": 1}
# A float counter moves in the steps of the device's display: a fiftieth of its unit (20 Wh where it counts kWh).
_FLOAT_STEPS = 50
# An angle, a load step between two registers, a meter's class: 15 W (VA) and what the resolutions make of it.
_SLACK_W = 15
# Quantities that never stand still on a live line.
_NOISY = frozenset({"voltage", "current", "active_power", "apparent_power", "reactive_power"})
_NOISY_STEPS = 200
_FREQUENCY_STEPS = 4000
# Sets of quantities that one point is expected to have; more are forgotten and worked out again.
_LAYOUTS_KEPT = 32

# Over three days what a battery keeps for the night no longer matters.
_PATIENCE_MS = 72 * HOUR_MS
GRID, CONSUMPTION, GENERATION = 0, 1, 2
"""Roles (numbers as a descriptor's); the last two have a direction."""

# A device with several points has one role in the configuration; the points say more.
_ROLES = {"grid": GRID, "pv": GENERATION}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is known of an installation.

    Attributes:
        current_a: what its fuse or the meter lets through, each phase; None: anything at low voltage.
        voltage_v: nominal, line to neutral; None: 230 or any of the usual.
    """

    current_a: int | None = None
    voltage_v: int | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What a map says about a quantity at this installation: the smallest step, and what its numbers can be."""

    register: Register
    step: int
    factor: tuple[int, int]

    @property
    def signed(self) -> bool:
        return not self.register.type.startswith("u") or bool(self.register.plus)


class Plan:
    """The checks of one measuring point."""

    def __init__(
        self,
        meter_map: MeterMap,
        point: str = "",
        role: int = 0,
        overrides: Overrides | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Checks of a point.

        Args:
            meter_map: the meter's map with concrete addresses.
            point: which of its points.
            role: what the meter measures, as in its descriptor; a point named ``pv`` or ``grid`` knows better.
            overrides, limits: what is known of the installation.
        """
        overrides, limits = overrides or Overrides(), limits or Limits()
        inverted = overrides.invert and point not in generating(meter_map)
        self._known: dict[int, _Known] = {}
        for register in meter_map.registers:
            if register.point == point:
                key, mantissa, power = installed(register, overrides, inverted)
                self._known[key] = _Known(register, _step(register, mantissa, power), (abs(mantissa), power))
        self._role = _ROLES.get(point, role)
        # What an inverter delivers may come from a battery behind it, its energy from the sun alone.
        self._patient = meter_map.kind != "meter" and point in generating(meter_map)
        voltage_v = limits.voltage_v or (_ANY_VOLTAGE_V if limits.current_a is None else _USUAL_VOLTAGE_V)
        self._current_a = limits.current_a or _ANY_CURRENT_A
        self._bands = tuple((low * BILLION, high * BILLION) for low, high in VOLTAGE_BANDS_V)
        if limits.voltage_v is not None:
            low_percent, high_percent = VOLTAGE_PERCENT
            scale = limits.voltage_v * BILLION // 100
            self._bands = ((low_percent * scale, high_percent * scale),)
        self._phase_w = self._current_a * voltage_v
        self._counters = tuple(key for key in self._known if _is_counter(key))
        self._layouts: dict[tuple[int, ...], Layout] = {}

    @property
    def counters(self) -> int:
        """How many counters a state has to remember."""
        return len(self._counters)

    def layout(self, values: Sequence[tuple[int, Value]]) -> Layout:
        """The checks of a reading with these values."""
        keys = tuple([key for key, _ in values])
        found = self._layouts.get(keys)
        if found is None:
            if len(self._layouts) >= _LAYOUTS_KEPT:
                self._layouts.clear()
            found = self._layouts[keys] = self._lay_out(keys)
        return found

    def _lay_out(self, keys: tuple[int, ...]) -> Layout:
        at = {key: index for index, key in enumerate(keys) if key in self._known}
        bounds = [self._bounds(key) for key in keys]
        net = self._net(at)
        return Layout(
            keys=keys,
            lows=tuple(low for low, _ in bounds),
            highs=tuple(high for _, high in bounds),
            rated=frozenset(key for key in at if obis.unit(key) in _RATED_UNITS),
            bands=self._bands,
            live=self._live(at),
            spare=frozenset(at[key] for key in at if self._is_voltage(key) and obis.BY_KEY[key].phase in ("L2", "L3")),
            codes=self._codes(at, _CODES),
            short=self._codes(at, _SHORT_CODES),
            meters=tuple(self._meters(at)),
            within=tuple(self._within(at)),
            phases=tuple(self._phases(at)),
            sums=tuple(self._sums(at)),
            directions=tuple(self._directions(at)),
            load=self._role == CONSUMPTION,
            balance=self._balance(at, net),
            powers=tuple(
                index for key, index in at.items() if self._known[key].register.quantity.startswith("active_power")
            ),
            noise=tuple(self._noise(at)),
        )

    def _powers(self, at: Mapping[int, int]) -> Iterator[int]:
        for key, index in at.items():
            if self._known[key].register.quantity.startswith("active_power"):
                yield index

    # --- one value ---

    def _bounds(self, key: int) -> tuple[int, int]:
        known = self._known.get(key)
        if known is None:
            return -_UNBOUND, _UNBOUND
        register, unit = known.register, obis.unit(key)
        watts = self._phase_w * (1 if register.phase in ("L1", "L2", "L3") else 3)
        high: float = _UNBOUND / BILLION
        low = -high
        if register.quantity.startswith("dc_voltage"):
            low, high = -10, 2000  # the most that a photovoltaic string may have is 1500 V
        elif unit == "V":
            return self._bands[0]
        elif unit == "Hz":
            low, high = _FREQUENCIES_HZ
        elif unit == "A":
            high = self._current_a * _PEAK * (1 if register.phase != "total" else 3)
            low = -high
        elif unit in ("W", "var", "VA"):
            low, high = -watts * _PEAK, watts * _PEAK
        elif unit == "%":
            low, high = -1, 101
        elif register.quantity == "power_factor":
            low, high = -1.01, 1.01
        elif _is_counter(key):
            low, high = 0, watts * _LIFE_H
        elif unit in ("Wh", "varh", "VAh"):
            low, high = -watts * _LIFE_H, watts * _LIFE_H
        return round(low * BILLION), round(high * BILLION)

    def _is_voltage(self, key: int) -> bool:
        return self._known[key].register.quantity == "voltage"

    def _live(self, at: Mapping[int, int]) -> dict[int, int | None]:
        found: dict[int, int | None] = {}
        for key, index in at.items():
            if self._is_voltage(key):
                found[index] = self._of(at, "current", obis.BY_KEY[key].phase)
            elif self._known[key].register.quantity == "frequency":
                found[index] = None
        return found

    def _codes(self, at: Mapping[int, int], table: Mapping[str, Sequence[int]]) -> frozenset[int]:
        """Numbers, as values have them, of the patterns of "not available"."""
        found: set[int] = set()
        for key in at:
            known = self._known[key]
            register = known.register
            mantissa, power = known.factor
            powers = (0,) if register.scale_address is None else range(-10, 11)
            for pattern in () if register.plus else table.get(register.type, ()):
                number = pattern - (1 << 16 * WORDS[register.type]) if _is_negative(register.type, pattern) else pattern
                number *= mantissa * register.scale[0]
                found.update(_nano(number, power + register.scale[1] + more) for more in powers)
        return frozenset(found)

    def _meters(self, at: Mapping[int, int]) -> Iterator[Meter]:
        for slot, key in enumerate(self._counters):
            if key in at:
                known = self._known[key]
                register = known.register
                watts = self._phase_w * (1 if register.phase in ("L1", "L2", "L3") else 3)
                rate = watts * _LASTING_PERCENT * BILLION // 100 // HOUR_MS
                burst = watts * _PEAK * _BURST_S * BILLION // 3600
                is_float = register.type.startswith("f")
                yield Meter(
                    at[key], slot, key, rate, burst + 2 * known.step, _turns(known), is_float, register.resettable
                )

    # --- values that belong together ---

    def _of(self, at: Mapping[int, int], quantity: str, phase: str) -> int | None:
        found = obis.BY_NAME.get((quantity, phase))
        return at.get(found.key) if found else None

    def _step_of(self, quantity: str, phase: str) -> int:
        return self._known[obis.BY_NAME[quantity, phase].key].step

    def _net(self, at: Mapping[int, int]) -> int | None:
        """Index of the net power, None when its register has no sign."""
        key = obis.BY_NAME["active_power", "total"].key
        return at[key] if key in at and self._known[key].signed else None

    def _within(self, at: Mapping[int, int]) -> Iterator[Within]:
        for phase in ("total", "L1", "L2", "L3"):
            bound = self._of(at, "apparent_power", phase)
            for quantity in ("active_power", "reactive_power"):
                index = self._of(at, quantity, phase)
                if index is not None and bound is not None:
                    steps = 2 * self._step_of(quantity, phase) + 2 * self._step_of("apparent_power", phase)
                    yield Within(index, bound, _SLACK_W * BILLION + steps)

    def _phases(self, at: Mapping[int, int]) -> Iterator[Phase]:
        for phase in ("L1", "L2", "L3"):
            power = self._of(at, "active_power", phase)
            voltage, current = self._of(at, "voltage", phase), self._of(at, "current", phase)
            if power is not None and voltage is not None and current is not None:
                steps = 2 * self._step_of("active_power", phase) + 2 * 300 * self._step_of("current", phase)
                yield Phase(phase, power, voltage, current, _SLACK_W * BILLION + steps)

    def _sums(self, at: Mapping[int, int]) -> Iterator[Sum]:
        for quantity in ("active_power",):
            parts = [self._of(at, quantity, phase) for phase in ("L1", "L2", "L3")]
            total = self._of(at, quantity, "total")
            if total is None or None in parts:
                continue
            keys = [obis.BY_NAME[quantity, phase].key for phase in ("total", "L1", "L2", "L3")]
            if len({self._known[key].signed for key in keys}) == 1:
                slack = _SLACK_W * BILLION + 2 * sum(self._known[key].step for key in keys)
                yield Sum(total, tuple(part for part in parts if part is not None), slack)

    def _directions(self, at: Mapping[int, int]) -> Iterator[Direction]:
        phases = {GENERATION: ("total",), CONSUMPTION: ("total", "L1", "L2", "L3")}.get(self._role, ())
        for slot, phase in enumerate(phases):
            ways = [("active_power", 1 if self._role == CONSUMPTION else -1)]
            if self._role == GENERATION:
                ways.append(("active_power_export", 1))
            for quantity, sign in ways:
                index = self._of(at, quantity, phase)
                key = obis.BY_NAME[quantity, phase].key
                if index is not None and self._known[key].signed:
                    yield Direction(index, slot, key, sign)
                    break

    def _balance(self, at: Mapping[int, int], net: int | None) -> Balance | None:
        drawn, fed = self._of(at, "active_power_import", "total"), self._of(at, "active_power_export", "total")
        taken, given = self._of(at, "active_energy_import", "total"), self._of(at, "active_energy_export", "total")
        if net is None and drawn is None and taken is not None:
            taken = None  # what is drawn is not known
        if net is None and fed is None:
            given = None
        if taken is None and given is None:
            return None
        names = [name for name, index in (("import", taken), ("export", given)) if index is not None]
        step = max(self._step_of(f"active_energy_{name}", "total") for name in names)
        least_ms = _PATIENCE_MS if self._patient else HOUR_MS
        return Balance(net, drawn, fed, taken, given, step, least_ms, self._patient)

    def _noise(self, at: Mapping[int, int]) -> Iterator[tuple[int, int]]:
        for key, index in at.items():
            known = self._known[key]
            if known.register.quantity in _NOISY:
                yield index, max(1, _NOISY_STEPS * known.step)
            elif known.register.quantity == "frequency":
                yield index, max(1, _FREQUENCY_STEPS * known.step)


def _is_counter(key: int) -> bool:
    known = obis.BY_KEY.get(key)
    return known is not None and known.unit in ("Wh", "varh", "VAh") and known.name != "active_energy_net"


def _is_negative(kind: str, pattern: int) -> bool:
    return kind.startswith("s") and bool(pattern >> (16 * WORDS[kind] - 1))


def _step(register: Register, mantissa: int, power: int) -> int:
    """The smallest step of a register's values."""
    unit = obis.BY_KEY[register.key].unit
    if register.scale_address is not None:
        return _nano(_DYNAMIC_STEPS.get(unit, 0) * abs(mantissa), power - 1)
    counter = _is_counter(register.key)
    steps = []
    for kind, scale in [(register.type, register.scale), *((term.type, term.scale) for term in register.plus)]:
        whole = _nano(abs(mantissa * scale[0]), power + scale[1])
        if not kind.startswith("f"):
            steps.append(whole)
        else:
            steps.append(whole // _FLOAT_STEPS if counter else 0)
    return min(steps)


def _turns(known: _Known) -> tuple[int, ...]:
    """Numbers at which a counter may start again from zero, in ascending order."""
    register = known.register
    mantissa, power = known.factor
    found = {_nano(display * mantissa, power) for display in _DISPLAYS_WH}
    if not register.plus and not register.type.startswith("f"):
        bits = 16 * WORDS[register.type]
        powers = range(-3, 7) if register.scale_address is not None else (0,)
        for size in (bits, bits - 1):
            for more in powers:
                number = (1 << size) * mantissa * abs(register.scale[0])
                found.add(_nano(number, power + register.scale[1] + more))
    return tuple(sorted(found))


def _nano(mantissa: int, power: int) -> int:
    """``mantissa * 10**power`` in billionths, cut off."""
    ten: int = 10 ** abs(9 + power)
    return mantissa * ten if power >= -9 else mantissa // ten
