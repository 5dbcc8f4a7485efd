"""Every complaint about bus owners against the real agent, small; ``python -m bench faults`` prints the same at length.

Rules
- What a figure says is never excused. Slots and times are judged when the line on which nothing is wrong, at the same
  load, was read without a loss: a machine that stood still says nothing about the bus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench import evidence, faults, place
from bench.scenarios import SCENARIOS, Run, Scenario
from signer.codes import Kind


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """All scenarios at the same time."""
    with place.fresh() as site:
        yield faults.measure(faults.SMALL_S, SCENARIOS, site)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_complaint_is_none_here(scenario: Scenario, run: Run) -> None:
    figures = scenario.judge(run)
    assert figures
    slow = any(not figure.met for figure in SCENARIOS[0].judge(run))
    for figure in figures:
        if not (figure.timing and slow):
            assert figure.met, f"{figure.words}: {figure.value}, goal {figure.goal}"


def test_the_evidence_of_it_all_holds(run: Run) -> None:
    assert run.evidence.report["ok"], run.evidence.report["failures"]
    assert all(slots["missing"] == 0 for slots in run.evidence.report["slots"].values())


def test_the_judge_sees_a_value_that_is_a_slot_old(run: Run) -> None:
    """The fault planted: readings that came a slot, and the time they may have waited, before they say."""
    named = [claims for claims in run.evidence.claims if claims.sub.startswith("phantom") and claims.values]
    assert len(named) > 5
    truth = run.evidence.truth
    for claims in named:
        assert truth.shows(claims.sub, claims)
        waited_ms = (claims.body.get(12) or 0) + 1000 * evidence.KEPT_WAITING_S
        late_ms = claims.instant.boot_ms + 1000 + round(waited_ms)
        late = replace(claims, instant=replace(claims.instant, boot_ms=late_ms))
        assert not truth.shows(claims.sub, late)


def test_the_judge_sees_another_meter_s_values(run: Run) -> None:
    truth = run.evidence.truth
    other = {"renumbered-1": "renumbered-2", "renumbered-2": "renumbered-1"}
    for claims in run.evidence.claims:
        if claims.sub in other and claims.kind == Kind.READING and claims.values:
            assert truth.shows(claims.sub, claims) != truth.shows(other[claims.sub], claims)


def test_the_faults_were_there(run: Run) -> None:
    """A scenario whose faults did not strike proves nothing."""
    struck = {
        name: {what for what, count in seen.items() if what.startswith("fault ") and count}
        for name, seen in run.seen["devices"].items()
    }
    for scenario in SCENARIOS:
        for fault in scenario.faults:
            if fault.kind != "dead":  # which closes the port and strikes no request
                assert f"fault {fault.kind}" in struck[fault.meter], (scenario.name, fault)
