"""One moment of one home, written down: what a map's simulated device shows when it is read back.

A sunny minute in which the battery is charged and a rest is exported, so that powers of both signs occur and every
phase shows another one. It stands here as figures, so that golden dumps stay what they are whatever becomes of homes.

Rules
- The figures belong together as those of a home do: the grid is the sum of the others, counters include their parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hw_sim.figures import Flow, Instant, flow, quantities

# 2026-06-21T10:00:00Z.
NOON_MS = 1_782_036_000_000
_LOCAL_MINUTE = NOON_MS // 60_000 + 120
_MILLIVOLTS = {1: (231_059, 0, 0), 3: (231_178, 229_883, 230_515)}
_MILLIHERTZ = 49_993
_CHARGE = 92_660_333
# Thousandths of the minute's power, at its very first millisecond.
_BREATH = 1020


class _Point(NamedTuple):
    """Watts and var on each phase; counters a phase and of the whole; tariffs. Units: hw_sim.figures."""

    phases: tuple[tuple[int, int], ...]
    counters: tuple[tuple[int, ...], ...]
    tariffs: tuple[int, ...]


POINTS = ("grid", "load", "pv", "battery")
_NOTHING = (0, 0, 0, 0, 0, 0, 0)
_GRID = (89446935, 141481174, 9945906, 6695037, 4172849, 14921995, 242453125461)
_GRID_TARIFFS = (25926000, 23244000, 40276935, 40733400, 36519600, 64228174)
_LOAD = (455840066, 0, 50606218, 0, 0, 75891611, 478603693422)
_LOAD_TARIFFS = (131996400, 118341600, 205502066, 0, 0, 0)
_PV = (0, 603232287, 0, 28637142, 17733550, 0, 633301855899)
_BATTERY = (698584590, 537646608, 77566666, 25588571, 15804705, 116350000, 1298004198000)
_BATTERY_TARIFFS = (202449000, 181506000, 314629590, 155834400, 139713600, 242098608)

_PV_POINT = _Point(((-3494, -87),), (_PV, _NOTHING, _NOTHING, _PV), (0, 0, 0, 174400200, 156358800, 272473287))
_POINTS: Mapping[int, Mapping[str, _Point]] = {
    1: {
        "grid": _Point(((-791, -127),), (_GRID, _NOTHING, _NOTHING, _GRID), _GRID_TARIFFS),
        "load": _Point(((203, -40),), (_LOAD, _NOTHING, _NOTHING, _LOAD), _LOAD_TARIFFS),
        "pv": _PV_POINT,
        "battery": _Point(((2500, 0),), (_BATTERY, _NOTHING, _NOTHING, _BATTERY), _BATTERY_TARIFFS),
    },
    3: {
        "grid": _Point(
            ((-927, -100), (55, -11), (81, -16)),
            (
                (40256017, 141770395, 4472950, 6707487, 4171447, 6706125, 191068147032),
                (26932783, 0, 2988967, 0, 0, 4484277, 28277025804),
                (22547356, 0, 2485966, 0, 0, 3747422, 23667232834),
                _GRID,
            ),
            _GRID_TARIFFS,
        ),
        "load": _Point(
            ((67, -13), (55, -11), (81, -16)),
            (
                (205191927, 0, 22795331, 0, 0, 34147958, 215439279221),
                (136660783, 0, 15180967, 0, 0, 22772277, 143491425804),
                (113987356, 0, 12645966, 0, 0, 18987422, 119679232834),
                _LOAD,
            ),
            _LOAD_TARIFFS,
        ),
        "pv": _PV_POINT,
        "battery": _Point(
            ((2500, 0),),
            (
                (314629590, 537646608, 34905000, 25588571, 15804705, 52357500, 894851448000),
                (209430000, 0, 23270000, 0, 0, 34905000, 219901500000),
                (174525000, 0, 19391666, 0, 0, 29087500, 183251250000),
                _BATTERY,
            ),
            _BATTERY_TARIFFS,
        ),
    },
}


def shown(phases: int, point: str) -> dict[int, int]:
    """OBIS key -> millionths of its unit, of one point of the home with one phase or three."""
    found = _POINTS[phases][point]
    first, second, third = (flow(*pair) for pair in (*found.phases, (0, 0), (0, 0))[:3])
    whole: Flow = flow(sum(active for active, _ in found.phases), sum(reactive for _, reactive in found.phases))
    return quantities(
        Instant(
            flows=(first, second, third, whole),
            counters=[*(counter for part in found.counters for counter in part), *found.tariffs],
            breath=_BREATH,
            breathed=0,
            local_minute=_LOCAL_MINUTE,
            voltages_mv=_MILLIVOLTS[phases],
            frequency_mhz=_MILLIHERTZ,
            charge=_CHARGE,
        )
    )
