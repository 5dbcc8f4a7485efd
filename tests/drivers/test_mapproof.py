"""A plan that breaks what a map asks for is found; the planner never makes one, so it is planted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers import mapproof
from drivers.map import load, names
from drivers.mapproof import FAILED, OK, check_file, check_plan
from drivers.plan import Request, plan


@pytest.mark.parametrize("name", names())
def test_the_plan_of_every_map_is_sound(name: str) -> None:
    check = check_plan(load(name))
    assert (check.state, check.problems) == (OK, ())


# EM24: 11 registers at once. What is planted in its plan, and what is to be said.
PLANTED = [
    (lambda requests: requests[1:], "the plan does not read it whole"),
    (lambda requests: (replace(requests[0], count=1), *requests[1:]), "the plan does not read it whole"),
    (lambda requests: (replace(requests[0], count=12), *requests[1:]), "longer than max_registers 11"),
    (lambda requests: requests * 9, "a statement cannot carry their words"),
]


@pytest.mark.parametrize(("plant", "words"), PLANTED)
def test_a_planted_plan_is_found(monkeypatch: pytest.MonkeyPatch, plant: object, words: str) -> None:
    monkeypatch.setattr(mapproof, "plan", lambda meter_map, overhead: plant(plan(meter_map, overhead)))  # type: ignore[operator]
    check = check_plan(load("carlo_gavazzi_em24_rs485"))
    assert check.state == FAILED
    assert any(words in problem.words for problem in check.problems)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"forbidden": ((50, 50),)}, "reads forbidden registers"),
        ({"barriers": (3,)}, "runs over a barrier"),
        ({"even_only": True}, "is not even"),
        ({"max_gap": 0}, "reads through too long a hole"),
    ],
)
def test_a_request_beyond_the_limits_is_found(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, object], words: str
) -> None:
    planned = (*plan(load("carlo_gavazzi_em24_rs485"), 13), Request(4, 55, 1))
    monkeypatch.setattr(mapproof, "plan", lambda meter_map, overhead: planned)
    check = check_plan(replace(load("carlo_gavazzi_em24_rs485"), **limit))  # type: ignore[arg-type]
    assert any(problem.words == words for problem in check.problems)


def test_a_split_that_cuts_a_value_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def halves(request: Request, meter_map: object) -> tuple[Request, ...]:
        middle = request.count // 2
        if middle < 3:
            return ()
        return replace(request, count=middle), Request(
            request.function, request.address + middle, request.count - middle
        )

    monkeypatch.setattr(mapproof, "split", halves)
    check = check_plan(load("eastron_sdm630"))
    assert any("is cut when" in problem.words for problem in check.problems)


def test_a_wrong_file_has_no_map() -> None:
    meter_map, checks = check_file(b'manufacturer = "x"', "x")
    assert meter_map is None
    assert checks[0].state == FAILED
