"""Energy held against the integral of power, over windows of an hour and more. Pure.

Rules
- Powers are samples, energies are not: a window has sixty samples and an hour, so that what runs for minutes is met as
  often as it runs. Only gross contradictions count: half of what flowed is not where it should be. A wrong scale, a
  ratio, a missing phase, a standing counter and a wrong sign are that; a kettle between two samples is not.
- Two windows in a row have to say so.
- Import less export is compared, because meters differ in how they share phases between the two.
- What an inverter gives may have been in a battery: its windows are of three days.
- A hole in the readings and a counter that is in doubt begin the window anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drivers.checks import BILLION, HOUR_MS
from drivers.findings import ENERGY, SIGN, Rule
from drivers.layout import Balance

# Between two samples further apart than this nothing is known; a settlement period is below it.
_HOLE_MS = 20 * 60_000
_SAMPLES = 60
# The least that flows in a window, against resolution: twenty steps of the counter.
_LEAST_NWH, _STEPS = 100 * BILLION, 20
# Below this mean power a meter may not count at all (starting current, EN 50470-3: 0.4 % of a 5 A meter's, per phase).
LEAST_NW = 50 * BILLION
_LONGEST_MS = 7 * 24 * HOUR_MS


# What a generator gives at the edges of its night.
_NIGHT_NW = 100 * BILLION
# Without the detour through the class's own constructor.
_new = tuple.__new__


class Window(NamedTuple):
    """A window that is open.

    Attributes:
        since: when it began.
        seen: when its last sample was.
        samples: since then.
        net, size: twice the integrals of power and of its size, nW ms.
        taken, given: counters when it began.
        power: the last sample.
        bad: windows in a row that were wrong, before this one.
        verdict: what stands since the last one.
    """

    since: int
    seen: int
    samples: int
    net: int
    size: int
    taken: int
    given: int
    power: int
    bad: int = 0
    verdict: Rule | None = None


def weigh(balance: Balance, window: Window | None, numbers: Sequence[int], now: int) -> Window:
    """The window after a reading."""
    net, drawn, fed, taken_at, given_at, _, least_ms, patient = balance
    if net is not None:
        power = numbers[net]
    else:
        power = (0 if drawn is None else numbers[drawn]) - (0 if fed is None else numbers[fed])
    if not patient and ((taken_at is None and power > 0) or (given_at is None and power < 0)):
        power = 0
    if window is None:
        return _begin(balance, None, numbers, now, power)
    since, seen, samples, net2, size2, taken, given, before, bad, verdict = window
    lapse = now - seen
    if lapse > _HOLE_MS and not (patient and max(abs(power), abs(before)) < _NIGHT_NW):
        return _begin(balance, window, numbers, now, power)
    net2 += (power + before) * lapse
    size2 += (abs(power) + abs(before)) * lapse
    samples += 1
    after = _new(Window, (since, now, samples, net2, size2, taken, given, power, bad, verdict))
    if samples < _SAMPLES or now - since < least_ms:
        return after
    return _judged(balance, after, numbers, now)


def _begin(balance: Balance, window: Window | None, numbers: Sequence[int], now: int, power: int) -> Window:
    taken = 0 if balance.taken is None else numbers[balance.taken]
    given = 0 if balance.given is None else numbers[balance.given]
    bad, verdict = (window.bad, window.verdict) if window else (0, None)
    return Window(now, now, 0, 0, 0, taken, given, power, bad, verdict)


def _judged(balance: Balance, window: Window, numbers: Sequence[int], now: int) -> Window:
    """A window long enough: the next one with a verdict, or the same when too little flowed to say."""
    after = _begin(balance, window, numbers, now, window.power)
    taken, given = after.taken - window.taken, after.given - window.given
    net, flowed = window.net // (2 * HOUR_MS), window.size // (2 * HOUR_MS)
    size = max(flowed, taken + given)
    if size < max(_LEAST_NWH, _STEPS * balance.step):
        return window if now - window.since < _LONGEST_MS else after
    if size * HOUR_MS < LEAST_NW * (now - window.since):
        return after
    energy = taken - given
    if 2 * abs(energy - net) <= size + 4 * balance.step:
        return after._replace(bad=0, verdict=None)
    if not window.bad:
        return after._replace(bad=1, verdict=None)
    against = energy * net < 0 and 2 * min(abs(energy), abs(net)) > size // 2
    return after._replace(bad=window.bad + 1, verdict=SIGN if against else ENERGY)
