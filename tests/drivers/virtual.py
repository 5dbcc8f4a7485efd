"""Lines whose time is made up, so that thousands of them are lived through in seconds and each the same every time.

The device is that of :mod:`tests.drivers.wires`; only its clock, its thread and its cable are replaced.

Rules
- Time goes on only where somebody waits. Our own side takes no time, the other side what its faults say.
- What is sent arrives whole, and in the order in which the device had it ready.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drivers import modbus
from tests.drivers import wires
from tests.drivers.wires import Device


class Time:
    """A clock, in place of the module :mod:`time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)


class Cable:
    """In place of a :class:`drivers.line.Line`: the device is at once behind it."""

    def __init__(self, time: Time, device: wires.Line) -> None:
        self._time = time
        self._device = device
        self.fd = -1

    def open(self, wait_s: float) -> bool:
        if self.fd < 0:
            self.fd = 7
            self._device._due.clear()
            self._device._buffers[self.fd] = b""
        return True

    def close(self) -> None:
        self.fd = -1

    def cut(self) -> bool:
        return False

    def wait(self, wait_s: float) -> bool:
        until = self._time.now + max(wait_s, 0.0)
        due = self._device._due
        if due and due[0][0] <= until:
            self._time.now = max(self._time.now, due[0][0])
            return True
        self._time.now = until
        return False

    def receive(self) -> bytes:
        due, found = self._device._due, b""
        while due and due[0][0] <= self._time.now:
            found += heapq.heappop(due)[3] or b""
        return found

    def send(self, data: bytes) -> None:
        self._device._request(self.fd, data)


@contextmanager
def line(kind: str, units: dict[int, Device]) -> Iterator[tuple[Time, wires.Line]]:
    """A line of that kind; buses made inside are on it."""
    time = Time()
    running = wires.Line(units, kind)
    running._buffers = {}
    running.path, running.port = "/dev/virtual", 502
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modbus, "time", time)
        patch.setattr(wires, "time", time)
        patch.setattr(modbus, "Line", lambda endpoint: Cable(time, running))
        yield time, running
