"""The counters of a meter: each answer in the class its time belongs to."""

import pytest

from drivers.meter import LATENCY_BOUNDS_MS, Counters


@pytest.mark.parametrize(
    ("latency_s", "place"), [(-0.001, 0), (0.0, 0), (0.01, 0), (0.0101, 1), (0.5, 5), (1.0, 6), (1.001, 7), (60.0, 7)]
)
def test_an_answer_is_counted_where_its_time_belongs(latency_s: float, place: int) -> None:
    counters = Counters()
    counters.answered(latency_s)
    assert counters.latencies == [int(number == place) for number in range(len(LATENCY_BOUNDS_MS) + 1)]
    assert counters.answers == 1


def test_no_two_meters_share_their_counters() -> None:
    Counters().answered(0.0)
    assert sum(Counters().latencies) == 0
