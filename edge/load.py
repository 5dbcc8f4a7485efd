"""Whether the lines and the key can carry what the configuration asks of them. Pure; nothing is measured.

Rules
- A serial line's load is exact but for the meters' time to think; TCP is judged by the devices' own pauses alone.
- A plan that needs more time than there is is said with the period that would fit; it is no reason not to start.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.line import SerialEndpoint
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, plan, request_time_s
from drivers.table import Problem
from edge.config import Bus, Config, Meter

_THINKS_S = 0.03
"""What a usual meter takes to answer on a serial line (measured ones: 10 to 50 ms)."""

_NETWORK_S = 0.005
"""The same over TCP in a local network."""

_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Load:
    """What one line has to carry.

    Attributes:
        bus: its name.
        needs_s: seconds that reading all its meters once takes.
        share: part of the time that the line is busy, 1.0 = always.
        words: both as a sentence.
    """

    bus: str
    needs_s: float
    share: float
    words: str


def read_time_s(bus: Bus, meter: Meter) -> float:
    """Seconds one reading of a meter takes on its line."""
    pause_s = meter.map.min_delay_ms / 1000
    if isinstance(bus.endpoint, SerialEndpoint):
        times = wire_times_s(bus, meter)
        return sum(times) + len(times) * max(_THINKS_S, pause_s)
    return len(plan(meter.map, TCP_OVERHEAD_BYTES)) * max(_NETWORK_S, pause_s)


def wire_times_s(bus: Bus, meter: Meter) -> tuple[float, ...]:
    """Seconds that each request of a reading, and its answer, take on a serial line; nothing over TCP."""
    endpoint = bus.endpoint
    if not isinstance(endpoint, SerialEndpoint):
        return ()
    requests = plan(meter.map, RTU_OVERHEAD_BYTES)
    return tuple(request_time_s(request, endpoint.baud, endpoint.bits_per_char) for request in requests)


def plan_load(config: Config) -> tuple[Load, ...]:
    """The load of each line, in the order of the configuration."""
    return tuple(_load(bus) for bus in config.buses)


def check_load(config: Config, rate_per_s: float | None = None) -> list[Problem]:
    """Lines, and the key (``rate_per_s`` signatures a second), that cannot carry their plan."""
    found = []
    for number, (bus, load) in enumerate(zip(config.buses, plan_load(config), strict=True)):
        if load.share > 1:
            found.append(Problem(f"bus[{number}]", "", load.words, _advice(bus, load)))
    asked = sum(len(meter.subs) * 1000 / meter.period_ms for bus in config.buses for meter in bus.meters)
    if rate_per_s is not None and asked > rate_per_s:
        points = sum(len(meter.subs) for bus in config.buses for meter in bus.meters)
        words = f"makes {rate_per_s:g} signatures a second, the plan needs {asked:.3g}"
        found.append(Problem("key.uri", config.key_uri, words, f"measure.period_s = {_fitting(points / rate_per_s)}"))
    return found


def _load(bus: Bus) -> Load:
    times = [(read_time_s(bus, meter), meter.period_ms / 1000) for meter in bus.meters]
    share = sum(time_s / period_s for time_s, period_s in times)
    shortest_s = min(period_s for _, period_s in times)
    at = f" at {bus.endpoint.baud} baud" if isinstance(bus.endpoint, SerialEndpoint) else ""
    words = f"needs {share * shortest_s:.1f} s of every {shortest_s:.1f} s on {bus.endpoint}{at}"
    return Load(bus.name, sum(time_s for time_s, _ in times), share, words)


def _advice(bus: Bus, load: Load) -> str:
    costliest = max(bus.meters, key=lambda meter: read_time_s(bus, meter) / meter.period_ms)
    own = read_time_s(bus, costliest) / (costliest.period_ms / 1000)
    left = 1 - (load.share - own)
    advice = (
        f"raise the period of {costliest.name} to {_fitting(own * costliest.period_ms / 1000 / left)} s"
        if left > 0.01
        else ""
    )
    advice = advice or f"raise all its periods to {_fitting(load.needs_s)} s"
    return f"{advice}, or use another line" + (
        " or a higher baud rate" if isinstance(bus.endpoint, SerialEndpoint) else ""
    )


def _fitting(least_s: float) -> int:
    """The shortest period that is allowed and not below ``least_s``."""
    return next((period for period in range(1, _HOUR_S + 1) if _HOUR_S % period == 0 and period >= least_s), _HOUR_S)
