"""What the agent's threads share: the word that it ends, and what is news to others."""

from __future__ import annotations

import os
import signal
import threading
import time

from edge.state import Cadence, MeterState, State, StopSign

LONG_S = 60.0


class TestTheStopSign:
    def test_who_waits_too_short_is_not_told(self) -> None:
        sign = StopSign()
        assert not sign.is_set()
        assert [sign.wait(timeout_s) for timeout_s in (-1.0, 0.0, 0.01)] == [False, False, False]

    def test_all_who_wait_are_told_and_so_is_who_comes_later(self) -> None:
        sign, told = StopSign(), []
        threads = [threading.Thread(target=lambda: told.append(sign.wait(LONG_S))) for _ in range(8)]
        for thread in threads:
            thread.start()
        sign.set()
        for thread in threads:
            thread.join(LONG_S / 2)
        assert told == [True] * 8
        assert sign.is_set()
        assert sign.wait(LONG_S)

    def test_it_may_be_said_again(self) -> None:
        sign = StopSign()
        threads = [threading.Thread(target=sign.set) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG_S)
        sign.set()
        assert sign.wait(0)

    def test_a_signal_tells_the_thread_that_waits(self) -> None:
        sign = StopSign()
        before = signal.signal(signal.SIGUSR1, lambda *_: sign.set())
        try:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            began = time.monotonic()
            assert sign.wait(LONG_S)
            assert time.monotonic() - began < LONG_S / 2
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_news_is_what_somebody_may_have_to_act_on() -> None:
    state = State()
    state.meters["house"] = MeterState(1000, None, "", "S1")
    seen = [state.news()]
    state.meters["house"] = MeterState(2000, None, "", "S1")  # the next slot is none
    assert state.news() == seen[0]

    def trouble() -> None:
        state.meters["house"] = MeterState(3000, None, "stands still", "S1")

    def failure() -> None:
        state.meters["house"] = MeterState(4000, 2, "stands still", "S1")

    def another() -> None:
        state.meters["pv"] = MeterState(4000, None, "", "")

    def alarm() -> None:
        state.alarms.raise_("disk", "full")

    def cadence() -> None:
        state.cadence = Cadence.STOPPED

    def sending() -> None:
        state.sending = "delivering"

    def dropped() -> None:
        state.dropped += 1

    def settled() -> None:
        state.settled_ms = 5

    for change in (trouble, failure, another, alarm, cadence, sending, dropped, settled):
        change()
        assert state.news() not in seen, change
        seen.append(state.news())
