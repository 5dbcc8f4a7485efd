"""No late answer ever becomes a value: thousands of bad lines in made-up time, each the same every time."""

from __future__ import annotations

import random

import pytest

from drivers.bus import Bus, MeterConfig
from drivers.guard import LONGEST_LATENESS_S, Guard
from drivers.meter import Meter
from drivers.modbus import Wire
from drivers.reading import Block
from drivers.talk import Talk
from tests.drivers import virtual
from tests.drivers.test_bus import KINDS, SLOT, endpoint, two_blocks
from tests.drivers.wires import GOOD, Asked, Device, Fault

TIMEOUT_S = 0.02
MAP = two_blocks(f"timeout_ms = {int(TIMEOUT_S * 1000)}")


class BadMeter:
    """A unit whose registers tell the slot they were asked in and their address, and that does not always answer well.

    Attributes:
        slot: the one that is asked for now.
    """

    def __init__(self, seed: int) -> None:
        self.slot = 0
        self.rng = random.Random(seed)
        self.device = Device(word=self.word, fault=self.fault)

    def word(self, function: int, address: int) -> int:
        return (self.slot * 32 + (address - 100 if address < 300 else address - 490)) % 65536

    def fault(self, asked: Asked, number: int) -> Fault:
        rng = self.rng
        if number < 4 or rng.random() < 0.5:
            return GOOD
        delay_s = rng.choice([TIMEOUT_S * rng.uniform(0.2, 5), rng.uniform(0, 3)])
        return rng.choice(
            [
                *[Fault(delay_s=delay_s)] * 5,
                *[Fault(delay_s=delay_s, exception=rng.choice([2, 4, 5, 6, 11]))] * 3,
                Fault(exception=rng.choice([2, 3, 4, 6])),
                Fault(delay_s=delay_s, twice=True),
                Fault(silent=True),
                Fault(unit=2),
                Fault(count=rng.choice([1, 9, 11])),
                Fault(bad_crc=True),
                Fault(cut=rng.randrange(1, 24)),
                Fault(before=rng.randbytes(rng.randrange(1, 30))),
                Fault(echo=True),
            ]
        )

    def is_true(self, block: Block) -> bool:
        """Whether these are the words of this slot and of these registers."""
        addresses = range(block.address, block.address + len(block.words) // 2)
        return block.words == b"".join(self.word(4, address).to_bytes(2, "big") for address in addresses)


def live(kind: str, seed: int, slots: int = 200) -> tuple[int, int]:
    """Good readings of one bad line, and readings with a word of another slot or register."""
    meter = BadMeter(seed)
    good = wrong = 0
    with virtual.line(kind, {1: meter.device}) as (time, running):
        bus = Bus(endpoint(running), [MeterConfig("a", MAP, 1)], monotonic=time.monotonic, sleep=time.sleep)
        for meter.slot in range(slots):
            (reading,) = bus.read("a", SLOT + meter.slot * 1000)
            good += reading.status is None
            wrong += not all(meter.is_true(block) for block in reading.blocks)
            time.sleep(meter.rng.choice([0.0, 0.0, 0.05, 0.5, 1.0]))
    return good, wrong


@pytest.mark.parametrize("kind", KINDS)
def test_no_late_answer_becomes_a_value(kind: str) -> None:
    found = [live(kind, seed) for seed in range(1, 40)]
    assert [seed for seed, (_, wrong) in enumerate(found, 1) if wrong] == []
    assert sum(good for good, _ in found) > 10 * len(found), "a line this bad still gives readings"


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_no_late_answer_becomes_a_value_for_long(kind: str) -> None:
    assert [seed for seed in range(1000, 11_000) if live(kind, seed)[1]] == []


@pytest.mark.parametrize("kind", ["rtu", "pty"])
def test_without_the_probe_late_answers_become_values(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault planted: this is what the test above finds when the guard is off."""

    def believe(self: Talk, meter: Meter, sharing: object) -> None:
        meter.guard.doubt = None

    monkeypatch.setattr(Talk, "probe", believe)
    monkeypatch.setattr(Wire, "drain", lambda self, quiet_s: None)
    assert any(live(kind, seed)[1] for seed in range(1, 6))


def test_who_forgets_unanswered_probes_takes_late_answers_for_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault planted: this is what the test above finds without that rule."""
    monkeypatch.setattr(Guard, "owed", lambda self, now: set())
    _, wrong = live("rtu", seed=113)
    assert wrong


def told(kind: str, faults: list[Fault], pauses_s: list[float]) -> list[set[int] | None]:
    """Slots that the words of each reading are of; None = no reading."""
    meter = BadMeter(0)
    meter.device.fault = lambda asked, number: faults[number] if number < len(faults) else GOOD
    found: list[set[int] | None] = []
    with virtual.line(kind, {1: meter.device}) as (time, running):
        bus = Bus(endpoint(running), [MeterConfig("a", MAP, 1)], monotonic=time.monotonic, sleep=time.sleep)
        for meter.slot, pause_s in enumerate(pauses_s):
            (reading,) = bus.read("a", SLOT + meter.slot * 1000)
            words = [int.from_bytes(block.words[:2], "big") // 32 for block in reading.blocks]
            found.append(set(words) if words else None)
            time.sleep(pause_s)
    return found


def test_a_late_refusal_of_a_probe_is_not_taken_for_that_of_a_request() -> None:
    """It would leave that request's own answer under way, and nobody in doubt."""
    first, probe, refused_probe = Fault(delay_s=1.1), GOOD, Fault(delay_s=0.015, exception=4)
    faults = [GOOD, GOOD, first, probe, refused_probe, Fault(delay_s=1.03), Fault(silent=True)]
    assert told("pty", faults, [0, 0, 1.03, 1.01, 1.0, 1.0]) == [{0}, None, None, None, None, {5}]


def test_an_answer_to_an_earlier_probe_proves_nothing_about_a_later_request() -> None:
    """Of two probes the first's answer came for the second, whose own is still under way when the next one is sent."""
    first, probes = Fault(silent=True), [Fault(delay_s=1.1), Fault(delay_s=1.05)]
    faults = [GOOD, GOOD, first, *probes, Fault(delay_s=0.012), Fault(delay_s=0.02)]
    assert told("pty", faults, [0, 0, 1.06, 0, 1.0, 1.0]) == [{0}, None, None, None, None, {5}]


def test_the_probes_of_a_unit_that_is_dead_for_long_are_not_remembered() -> None:
    dead = Device(fault=lambda asked, number: GOOD if number < 2 else Fault(silent=True))
    with virtual.line("pty", {1: dead}) as (time, running):
        bus = Bus(endpoint(running), [MeterConfig("a", MAP, 1)], monotonic=time.monotonic, sleep=time.sleep)
        for slot in range(1000):
            bus.read("a", SLOT + slot * 1000)
            time.sleep(1.0)
        assert bus.counters["a"].probes > 500
        (guard,) = bus._guards.values()
        assert len(guard.probes) <= LONGEST_LATENESS_S
