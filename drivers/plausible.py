"""Whether a reading can be true, judged by what came before it: quality bits and events. Pure; docs/plausibility.md.

Never changes a number, never leaves one out, and never looks at a clock: time goes in as what has passed.

Rules
- What is found against a value is a bit of its quality; what begins is an event, once (drivers.findings).
- Limits end where physics or the fuse does: an ordinary life has no flags and no events.
- The first reading of a point has nothing before it; a reading without values changes nothing but the time.
- After a restart there is one reading before it: counters and what stands still are compared with that one. How power
  flowed meanwhile is not known, and when a counter last moved neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from drivers import balance, counting
from drivers.balance import LEAST_NW
from drivers.checks import BILLION, HOUR_MS, NANO, Plan
from drivers.counting import Memories, Memory
from drivers.findings import (
    APPARENT,
    FROZEN,
    PHASES,
    RANGE,
    RATING,
    SENTINEL,
    SIGN,
    Event,
    Finding,
    Rule,
    Standing,
    settle,
)
from drivers.layout import Balance, Direction, Layout
from drivers.reading import Quality, Reading, Value
from drivers.wording import named, number_text

# From here on a power has a direction: inverters at night and transformers draw less.
_DIRECTION_NW = 100 * BILLION
# Somebody's role is doubted when the power went against it for an hour and never with it for a day: a hybrid inverter
# that charges at night has a sun by day, and a load with a small roof behind it has nights.
_AGAINST_MS, _MEMORY_MS = HOUR_MS, 24 * HOUR_MS
# Below this current a phase is not used, and its voltage may be anything: what a free wire catches, or nothing.
_LIVE_NA = BILLION // 10
# What never stands still shows that a reading is an old one; one alone might, three at a time do not.
_NOISES = 3
# A counter that should have moved ten steps, and did not.
_STEPS = 10
_POINTS_OF_PHASES = 3
# A number that one of these speaks against is no past for a counter: it need not be what the counter really said.
_DOUBTED = Quality.QUESTIONABLE | Quality.OUT_OF_RANGE | Quality.REGISTER_RESET


class Way(NamedTuple):
    """How a power went: for how long against its role since it last went with it, and when that was."""

    against: int = 0
    with_at: int | None = None


class State(NamedTuple):
    """What is remembered of a point. Bounded by its quantities.

    Attributes:
        now: ms that have passed since the start, or since the reading before it.
        read_at: of the last reading with values since the start, None before the first.
        layout, numbers: of that reading, or of the one before the start.
        memories: counters.
        window: of energy and power.
        ways: powers with a role.
        standing: what was found and is not over.
    """

    now: int
    read_at: int | None
    layout: Layout | None
    numbers: Sequence[int]
    memories: Memories
    window: balance.Window | None
    ways: tuple[Way, ...]
    standing: tuple[Standing, ...]

    def troubles(self) -> tuple[str, ...]:
        """What stands, in words, the newest first."""
        counting = sorted((one for one in self.standing if one.is_seen(self.now)), key=lambda one: -one.since)
        return tuple(one.words for one in counting)


class Judgement(NamedTuple):
    """A reading with its quality bits, what began with it, and the state after it."""

    reading: Reading
    events: Sequence[Event]
    state: State


def begin(plan: Plan) -> State:
    """Nothing is known yet."""
    return State(0, None, None, (), (None,) * plan.counters, None, (Way(),) * (1 + _POINTS_OF_PHASES), ())


def resume(
    plan: Plan, before: Sequence[tuple[int, Value]], after: Sequence[tuple[int, Value]], elapsed_ms: int | None
) -> State:
    """What is known when a point's last reading before a restart is.

    Args:
        plan: of the point.
        before: values of that reading.
        after: values of the first one since, which is judged next.
        elapsed_ms: between the two, None when it is not known: then a counter that has grown says nothing.
    """
    layout, later = plan.layout(before), dict(after)
    memories: list[Memory | None] = [None] * plan.counters
    for meter in layout.meters:
        value, now = before[meter.at][1], later.get(meter.key)
        number = value.mantissa * NANO[value.exponent]
        has_fallen = now is not None and now.mantissa * NANO[now.exponent] < number
        if not value.quality & _DOUBTED and (has_fallen or elapsed_ms is not None):
            memories[meter.slot] = Memory(number, -HOUR_MS)
    numbers = [value.mantissa * NANO[value.exponent] for _, value in before]
    return begin(plan)._replace(layout=layout, numbers=numbers, memories=tuple(memories))


def judge(plan: Plan, state: State, reading: Reading, elapsed_ms: int) -> Judgement:
    """Judge one reading.

    Args:
        plan: of the point.
        state: after the reading before.
        reading: of the point.
        elapsed_ms: since the reading before, monotonic.
    """
    then, read_at, layout_before, numbers_before, memories, window, ways, standing = state
    now = then + elapsed_ms if elapsed_ms > 0 else then
    values = reading.values
    if not values:
        return Judgement(reading, (), state._replace(now=now))
    layout = plan.layout(values)
    numbers = [value.mantissa * NANO[value.exponent] for _, value in values]
    found: list[Finding] = []
    for number, low, high in zip(numbers, layout.lows, layout.highs, strict=True):
        if not low <= number <= high:
            _bounds(layout, numbers, found)
            break
    if not layout.codes.isdisjoint(numbers):
        _codes(layout, numbers, found)
    for at, bound, slack in layout.within:
        if abs(numbers[at]) - slack > abs(numbers[bound]) * 21 // 20:
            found.append(_exceeds(layout, numbers, at, bound))
    for phase in layout.phases:
        _, power, voltage, current, slack = phase
        excess = abs(numbers[power]) - slack
        if excess > 0 and excess * 10 * BILLION > abs(numbers[voltage] * numbers[current]) * 11:
            found.append(_phase(layout, numbers, power, voltage, current))
    for total, parts, slack in layout.sums:
        _sum(layout, numbers, total, parts, slack, found)
    memories_after = counting.count(layout.meters, numbers, memories, now, read_at or 0, found)
    still = layout is layout_before and numbers == numbers_before
    if layout.balance is not None:
        if found and _disturbed(layout.balance, found):
            window = None
        if window is None or not still:  # the same numbers again are no sample
            window = balance.weigh(layout.balance, window, numbers, now)
        if window.verdict is not None:
            found.append(_energy(layout, numbers, window.verdict))
    if layout.directions:
        ways = _directions(layout, numbers, ways, now, 0 if read_at is None else now - read_at, found)
    if still:
        _frozen(layout, numbers, found)
    events: Sequence[Event] = ()
    if found or standing:
        standing, counting_now, events = settle(standing, found, now)
        if counting_now:
            reading = _flagged(reading, counting_now)
    after = State(now, now, layout, numbers, memories_after, window, ways, standing)
    return Judgement(reading, events, after)


def _flagged(reading: Reading, findings: Sequence[Finding]) -> Reading:
    """The same numbers with more quality bits."""
    values = list(reading.values)
    for finding in findings:
        for at in finding.places:
            key, value = values[at]
            values[at] = key, Value(value.mantissa, value.exponent, value.quality | int(finding.rule.quality))
    return Reading(reading.sub, reading.slot_ms, reading.status, tuple(values), reading.window_ms, reading.blocks)


# --- one value ---


def _bounds(layout: Layout, numbers: Sequence[int], found: list[Finding]) -> None:
    for at, (key, number, low, high) in enumerate(zip(layout.keys, numbers, layout.lows, layout.highs, strict=True)):
        if low <= number <= high or _in_order(layout, numbers, at):
            continue
        rating = key in layout.rated and abs(number) > high
        words = f"{named(key)} {number_text(key, number)} is " + (
            f"above the rating, {number_text(key, high)}"
            if rating
            else f"outside {number_text(key, low)} to {number_text(key, high)}"
        )
        found.append(Finding(RATING if rating else RANGE, key, (at,), words))
        if number in layout.short:
            found.append(_code(key, at, number))


def _in_order(layout: Layout, numbers: Sequence[int], at: int) -> bool:
    """Voltages and frequencies that are none of the usual and yet in order."""
    number = numbers[at]
    if at not in layout.live:
        return False
    current = layout.live[at]
    live = current is not None and abs(numbers[current]) > _LIVE_NA
    if number == 0:
        return not live  # no voltage, or an inverter at night
    if any(low <= number <= high for low, high in layout.bands):
        return True
    return at in layout.spare and not live and 0 < number < layout.bands[0][0]


def _codes(layout: Layout, numbers: Sequence[int], found: list[Finding]) -> None:
    for at, number in enumerate(numbers):
        if number in layout.codes:
            found.append(_code(layout.keys[at], at, number))


def _code(key: int, at: int, number: int) -> Finding:
    words = f"{named(key)} {number_text(key, number)} looks like the pattern of a value that is not available"
    return Finding(SENTINEL, key, (at,), words)


# --- values that belong together ---


def _exceeds(layout: Layout, numbers: Sequence[int], at: int, bound: int) -> Finding:
    one, other = layout.keys[at], layout.keys[bound]
    words = (
        f"{named(one)} {number_text(one, numbers[at])} is more than {named(other)} {number_text(other, numbers[bound])}"
    )
    return Finding(APPARENT, one, (at, bound), words)


def _phase(layout: Layout, numbers: Sequence[int], *places: int) -> Finding:
    said = [f"{named(layout.keys[at])} {number_text(layout.keys[at], numbers[at])}" for at in places]
    words = f"{said[0]} is more than {said[1]} and {said[2]} can give"
    order = _other_order(layout, numbers)
    if order:
        words += f"; the powers would fit the currents of {order}"
    return Finding(PHASES, layout.keys[places[0]], places, words)


def _other_order(layout: Layout, numbers: Sequence[int]) -> str:
    """Phases in an order in which currents and powers fit, empty when there is none."""
    phases = layout.phases
    if len(phases) < _POINTS_OF_PHASES:
        return ""
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        pairs = [(phase, phases[other]) for phase, other in zip(phases, order, strict=True)]
        if all(
            (abs(numbers[phase.power]) - phase.slack) * 10 * BILLION
            <= abs(numbers[phase.voltage] * numbers[other.current]) * 11
            for phase, other in pairs
        ):
            return " ".join(phases[at].name for at in order)
    return ""


def _sum(
    layout: Layout, numbers: Sequence[int], total: int, parts: tuple[int, ...], slack: int, found: list[Finding]
) -> None:
    first, second, third = parts
    one, two, three, whole = numbers[first], numbers[second], numbers[third], numbers[total]
    off = abs(one + two + three - whole)
    if off > slack and 10 * (off - slack) > max(abs(one) + abs(two) + abs(three), abs(whole)):
        key = layout.keys[total]
        words = f"{named(key)} is {number_text(key, whole)}, its phases add up to {number_text(key, one + two + three)}"
        found.append(Finding(PHASES, key, (total, *parts), words))


def _directions(
    layout: Layout, numbers: Sequence[int], ways: tuple[Way, ...], now: int, lapse: int, found: list[Finding]
) -> tuple[Way, ...]:
    after: list[Way] | None = None
    for direction in layout.directions:
        at, slot, _, sign = direction
        power = sign * numbers[at]
        way = ways[slot]
        if -_DIRECTION_NW <= power <= _DIRECTION_NW:
            continue
        against, with_at = way
        way = Way(0, now) if power > 0 else Way(against + min(lapse, _AGAINST_MS // 2), with_at)
        if after is None:
            after = list(ways)
        after[slot] = way
        if way.against >= _AGAINST_MS and (with_at is None or now - with_at >= _MEMORY_MS):
            found.append(_role(layout, numbers, direction))
    return ways if after is None else tuple(after)


def _role(layout: Layout, numbers: Sequence[int], direction: Direction) -> Finding:
    key = layout.keys[direction.at]
    what = "a load that delivers" if layout.load else "a generator that draws"
    words = f"{named(key)} {number_text(key, numbers[direction.at])}: {what}, for an hour and never the other way"
    return Finding(SIGN, key, (direction.at,), words)


def _disturbed(one: Balance, found: Sequence[Finding]) -> bool:
    """Whether an energy or a power of the balance is in doubt for itself."""
    return any(finding.rule.readings == 1 and at in one[:5] for finding in found for at in finding.places)


def _energy(layout: Layout, numbers: Sequence[int], rule: Rule) -> Finding:
    """Energies and powers that do not belong together."""
    assert layout.balance is not None
    one = layout.balance
    powers = (one.drawn, one.fed) if one.net is None else (one.net,)
    places = [at for at in (one.taken, one.given, *powers) if at is not None]
    key = layout.keys[places[0]]
    what = "grows while power flows the other way" if rule is SIGN else "does not grow as its power says"
    return Finding(rule, key, places, f"{named(key)} {what}, twice in a row")


def _frozen(layout: Layout, numbers: Sequence[int], found: list[Finding]) -> None:
    """Every value is what it was in the reading before."""
    powers = [numbers[at] for at in layout.powers if numbers[at]]
    if not powers:
        return
    lasting_ms = 0
    if sum(abs(numbers[at]) >= least for at, least in layout.noise) < _NOISES:
        counted = layout.balance
        power = max(powers, key=abs)
        if counted is None or abs(power) < LEAST_NW or (counted.taken if power > 0 else counted.given) is None:
            return
        # until so many steps of the counter must have passed at this power
        lasting_ms = max(FROZEN.lasting_ms, _STEPS * counted.step * HOUR_MS // abs(power))
    words = "every value stands still while power flows"
    found.append(Finding(FROZEN, None, range(len(numbers)), words, lasting_ms))
