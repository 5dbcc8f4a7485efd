"""What a reading keeps as evidence: all words its values are made from, and few others."""

from __future__ import annotations

import random

import pytest

from drivers import map as meter_maps
from drivers.decode import decode, values
from drivers.guard import Guard
from drivers.meter import HOLE_KEPT, Meter, MeterConfig
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES
from drivers.reading import Block

STATIC = [name for name in meter_maps.names() if meter_maps.load(name).scheme == "registers"]


@pytest.mark.parametrize("overhead_bytes", [RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES], ids=["rtu", "tcp"])
@pytest.mark.parametrize("name", STATIC)
def test_the_evidence_alone_gives_the_same_values(name: str, overhead_bytes: int) -> None:
    meter_map = meter_maps.load(name)
    meter = Meter(MeterConfig("m", meter_map, 1), Guard(), overhead_bytes)
    dice = random.Random(name)
    blocks = [Block(one.function, one.address, dice.randbytes(2 * one.count)) for one in meter.plan]
    readings = meter.readings(0, blocks, 1)
    assert [reading.sub for reading in readings] == [f"m-{point}" if point else "m" for point in meter_map.points]
    for point, reading in zip(meter_map.points, readings, strict=True):
        assert (
            values(decode(meter_map, reading.blocks), point)
            == reading.values
            == values(decode(meter_map, blocks), point)
        )
        needed = {
            (register.function, at)
            for register in meter_map.registers
            if register.point == point
            for first, count in register.spans()
            for at in range(first, first + count)
        }
        kept = {(block.function, block.address + n) for block in reading.blocks for n in range(len(block.words) // 2)}
        assert needed <= kept
        assert len(kept - needed) <= HOLE_KEPT * len(needed)
