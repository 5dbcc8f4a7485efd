"""From what flows to what a meter shows: powers, counters and everything that follows from them.

Pure integer arithmetic. Flows are W, var and mVA of a minute; counters are their sums in W min, var min and mVA min, so
nothing is ever rounded before it is shown.

Rules
- Quadrants as in IEC 62053-23: Q1 import and inductive, Q2 export and capacitive, Q3 export and inductive, Q4 import
  and capacitive.
- Tariffs are those of Spanish homes (2.0TD): 1 peak, 2 flat, 3 off-peak; 4 is never used. They add up to the total.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

from drivers import obis

PHASES = ("L1", "L2", "L3", "total")
# What a minute's flow is multiplied with to be comparable with what breathed: 60 s x 1000 ms x 1000 thousandths.
_MINUTE = 60_000_000
# W ms thousandths in a millionth of a Wh; mVA ms thousandths in a millionth of a VAh.
_PER_WH, _PER_VAH = 3_600, 3_600_000
_MILLI, _MILLION = 1_000, 1_000_000
# Direct current, before the inverter's losses.
_DC_PERCENT = 103
_DC_MV = 620_000


class Flow(NamedTuple):
    """What flows in one conductor, or in all together, through a minute."""

    active_w: int
    reactive_var: int
    apparent_mva: int


def flow(active_w: int, reactive_var: int) -> Flow:
    """With the apparent power that belongs to it."""
    return Flow(active_w, reactive_var, isqrt((active_w * active_w + reactive_var * reactive_var) * _MILLION))


class Instant(NamedTuple):
    """All that a meter's figures follow from.

    Attributes:
        flows: of L1, L2, L3 and the whole.
        counters: at the beginning of the minute, laid out as :data:`COUNTERS` says.
        breath: thousandths of the minute's flow that flow now.
        breathed: their sum over the milliseconds since the minute began.
        local_minute: minutes since 1970 on the clock on the wall.
        voltages_mv: L1, L2, L3; 0 where there is no phase.
        frequency_mhz: of the mains.
        charge: state of charge in millionths of a percent.
    """

    flows: tuple[Flow, Flow, Flow, Flow]
    counters: Sequence[int]
    breath: int
    breathed: int
    local_minute: int
    voltages_mv: tuple[int, int, int]
    frequency_mhz: int
    charge: int


# Percent of a life's energy on L1, L2, L3, by number of phases.
_SHARES = {1: (100, 0, 0), 3: (45, 30, 25)}


class _Layout:
    """Where each counter is: seven a phase (import, export, Q1..Q4, apparent), then import and export by tariff."""

    A_PHASE = 7
    TARIFFS = 3
    IMPORT_TARIFFS = 4 * A_PHASE
    EXPORT_TARIFFS = IMPORT_TARIFFS + TARIFFS
    SIZE = EXPORT_TARIFFS + TARIFFS

    def first(self, imported_wmin: int, exported_wmin: int, phases: int, giving_phases: int) -> list[int]:
        """Counters that have counted that much, shared out over phases, quadrants and tariffs as a life would."""
        counters = [0] * self.SIZE
        shares = zip(_SHARES[phases], _SHARES[giving_phases], strict=True)
        for phase, (percent, giving_percent) in enumerate(shares):
            taken, given = imported_wmin * percent // 100, exported_wmin * giving_percent // 100
            apparent = (taken + given) * 1050
            one = [taken, given, taken // 9, given // 21, given // 34, taken // 6, apparent]
            for at, amount in enumerate(one):
                counters[phase * self.A_PHASE + at] = amount
                counters[3 * self.A_PHASE + at] += amount
        whole = counters[3 * self.A_PHASE : 3 * self.A_PHASE + 2]
        for start, amount in zip((self.IMPORT_TARIFFS, self.EXPORT_TARIFFS), whole, strict=True):
            counters[start] = amount * 29 // 100
            counters[start + 1] = amount * 26 // 100
            counters[start + 2] = amount - counters[start] - counters[start + 1]
        return counters


COUNTERS = _Layout()


def integrate(counters: list[int], flows: Sequence[Flow], minutes: int, local_minute: int) -> None:
    """Add minutes of one flow and one tariff."""
    for phase, (active, reactive, apparent) in enumerate(flows):
        base = phase * 7
        _count(counters, base, active, reactive, minutes)
        counters[base + 6] += apparent * minutes
    active = flows[3].active_w * minutes
    if active >= 0:
        counters[COUNTERS.IMPORT_TARIFFS + tariff(local_minute)] += active
    else:
        counters[COUNTERS.EXPORT_TARIFFS + tariff(local_minute)] -= active


def tariff(local_minute: int) -> int:
    """0 peak, 1 flat, 2 off-peak (2.0TD, without public holidays)."""
    day, minute = divmod(local_minute, 1440)
    hour = minute // 60
    if (day + 3) % 7 >= 5 or hour < 8:  # 1970-01-01 was a Thursday
        return 2
    return 0 if 10 <= hour < 14 or 18 <= hour < 22 else 1


def _count(counters: list[int], base: int, active: int, reactive: int, times: int) -> None:
    if active >= 0:
        counters[base] += active * times
        quadrant = 2 if reactive >= 0 else 5
    else:
        counters[base + 1] -= active * times
        quadrant = 3 if reactive >= 0 else 4
    counters[base + quadrant] += abs(reactive) * times


def _keys() -> tuple[int, ...]:
    """Keys in the order in which :func:`quantities` lines up its figures."""
    names = (
        *("active_power", "active_power_import", "active_power_export"),
        *("reactive_power", "reactive_power_import", "reactive_power_export"),
        *("reactive_power_inductive", "reactive_power_capacitive"),
        *("apparent_power", "apparent_power_export", "power_factor", "voltage", "current", "frequency"),
        *("active_energy_import", "active_energy_export", "active_energy_total", "active_energy_net"),
        *("reactive_energy_q1", "reactive_energy_q2", "reactive_energy_q3", "reactive_energy_q4"),
        *("reactive_energy_import", "reactive_energy_export", "reactive_energy_total"),
        *("reactive_energy_inductive", "reactive_energy_capacitive", "apparent_energy_total"),
    )
    keys = [obis.BY_NAME[name, phase].key for phase in PHASES for name in names]
    for way in ("import", "export"):
        keys += [obis.BY_NAME[f"active_energy_{way}_t{number}", "total"].key for number in (1, 2, 3, 4)]
    for name in ("dc_power", "dc_voltage", "dc_current", "dc_energy", "state_of_charge"):
        keys.append(obis.BY_NAME[name, "total"].key)
    keys.append(obis.BY_NAME["current", "N"].key)
    return tuple(keys)


_KEYS = _keys()


def quantities(now: Instant) -> dict[int, int]:
    """OBIS key -> value in millionths of its unit."""
    counters = [amount * _MINUTE for amount in now.counters]
    figures: list[int] = []
    currents: list[int] = []
    live = [mv for mv in now.voltages_mv if mv]
    for phase, (active, reactive, apparent) in enumerate(now.flows):
        base = phase * _Layout.A_PHASE
        _count(counters, base, active, reactive, now.breathed)
        counters[base + 6] += apparent * now.breathed
        seen = apparent * now.breath
        if phase < 3:
            mv = now.voltages_mv[phase]
            currents.append((2 * seen * _MILLI + mv) // (2 * mv) if mv else 0)
            current = currents[phase]
        else:
            mv, current = sum(live) // len(live), sum(currents)
        power = active * now.breath * _MILLI
        figures += _powers(power, reactive * now.breath * _MILLI, seen)
        figures += (mv * _MILLI, current, now.frequency_mhz * _MILLI)
        figures += _energies(counters[base : base + _Layout.A_PHASE])
    exported = counters[3 * _Layout.A_PHASE + 1]
    figures += _tariffs(counters, now)
    figures += _direct(max(0, -now.flows[3].active_w) * now.breath * _MILLI, exported // _PER_WH)
    first, second, third = currents
    squares = first * first + second * second + third * third
    figures += (now.charge, isqrt(max(0, squares - first * second - second * third - first * third)))
    return dict(zip(_KEYS, figures, strict=True))


def _powers(power: int, blind: int, seen: int) -> tuple[int, ...]:
    size = abs(blind)
    inductive = (power >= 0) == (blind >= 0)
    return (
        power,
        max(0, power),
        max(0, -power),
        blind,
        max(0, blind),
        max(0, -blind),
        size if inductive else 0,
        0 if inductive else size,
        seen,
        seen if power < 0 else 0,
        (2 * power * _MILLION + seen) // (2 * seen) if seen else _MILLION,
    )


def _energies(counters: list[int]) -> tuple[int, ...]:
    taken, given, q1, q2, q3, q4 = [amount // _PER_WH for amount in counters[:6]]
    return (
        *(taken, given, taken + given, taken - given),
        *(q1, q2, q3, q4),
        *(q1 + q2, q3 + q4, q1 + q2 + q3 + q4),
        *(q1 + q3, q2 + q4, counters[6] // _PER_VAH),
    )


def _tariffs(counters: list[int], now: Instant) -> list[int]:
    active = now.flows[3].active_w
    start = COUNTERS.IMPORT_TARIFFS if active >= 0 else COUNTERS.EXPORT_TARIFFS
    counters[start + tariff(now.local_minute)] += abs(active) * now.breathed
    taken = counters[COUNTERS.IMPORT_TARIFFS : COUNTERS.EXPORT_TARIFFS]
    given = counters[COUNTERS.EXPORT_TARIFFS : COUNTERS.SIZE]
    return [amount // _PER_WH for amount in (*taken, 0, *given, 0)]


def _direct(delivered: int, exported: int) -> tuple[int, ...]:
    """The DC side: power, voltage, current, energy."""
    power = delivered * _DC_PERCENT // 100
    mv = _DC_MV if power else 0
    return power, mv * _MILLI, power * _MILLI // mv if mv else 0, exported * _DC_PERCENT // 100
