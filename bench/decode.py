"""Plan, read and decode: what a meter costs before anything is signed, beside pymodbus' own client.

No goal of its own: it is part of the agent's processor time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import click
from pymodbus.client import ModbusTcpClient

from bench import clock, meters, sample
from bench.options import show, small
from bench.report import Table
from drivers.bus import Bus, MeterConfig
from drivers.decode import decode, values
from drivers.map import MeterMap
from drivers.modbus import TcpEndpoint, Wire
from drivers.plan import TCP_OVERHEAD_BYTES, Request, plan
from drivers.reading import Block
from hw_sim.device import MapDevice

_PICTURES = 16
_TIMEOUT_S = 3.0


def decoding(rounds: int, calls: int, everything: bool) -> Table:
    """Planning once, decoding every slot."""
    maps = {"SDM630, its 12 main quantities": sample.sdm630_main(), **dict(sample.catalogue(everything))}
    rows = []
    for name, meter_map in maps.items():
        found = clock.compare(
            {"plan": lambda one=meter_map: plan(one, TCP_OVERHEAD_BYTES), "decode": _decoder(meter_map)},  # type: ignore[misc]
            rounds,
            calls,
        )
        quantities = len(meter_map.registers)
        decoded = found["decode"].median_us
        cells = (str(quantities), str(len(plan(meter_map, TCP_OVERHEAD_BYTES))))
        times = (f"{found['plan'].median_us:.0f}", f"{decoded:.1f}", f"{decoded / quantities:.2f}")
        rows.append((name, *cells, *times))
    return Table(
        "From words to values",
        ("map", "quantities", "requests, TCP", "plan, once, us", "decode, us", "us a quantity"),
        tuple(rows),
        (f"Medians of {rounds} rounds of {calls} calls; words change from call to call.",),
    )


def _decoder(meter_map: MeterMap) -> Callable[[], object]:
    device = meters.moving(meter_map)
    requests = plan(meter_map, TCP_OVERHEAD_BYTES)
    pictures = cycle([_blocks(device, requests, float(second)) for second in range(_PICTURES)])

    def run() -> None:
        decoded = decode(meter_map, next(pictures))
        for point in meter_map.points:
            values(decoded, point)

    return run


def _blocks(device: MapDevice, requests: Sequence[Request], at_s: float) -> tuple[Block, ...]:
    return tuple(
        Block(one.function, one.address, device.read(one.function, one.address, one.count, at_s)) for one in requests
    )


def reading(rounds: int, calls: int, model: str = meters.MAIN) -> Table:
    """One meter over TCP: pymodbus' client, our wire, our bus."""
    meter_map = meters.map_of(model)
    requests = plan(meter_map, TCP_OVERHEAD_BYTES)
    with meters.running(model, 1, 3) as served:
        endpoints = [TcpEndpoint(meters.HOST, port) for port in served.ports]
        client = ModbusTcpClient(meters.HOST, port=served.ports[0])
        client.connect()  # type: ignore[no-untyped-call]
        wire = Wire(endpoints[1])
        wire.open()
        bus = Bus(endpoints[2], [MeterConfig("meter-01", meter_map, meters.UNIT)])
        try:
            found = clock.compare(
                {
                    "pymodbus' client, words only": lambda: _by_pymodbus(client, requests),
                    "drivers.modbus.Wire, words only": lambda: _by_wire(wire, requests),
                    "drivers.bus.Bus, values": _by_bus(bus),
                },
                rounds,
                calls,
            )
        finally:
            bus.close()
            wire.close()
            client.close()  # type: ignore[no-untyped-call]
    bare = found["pymodbus' client, words only"]
    rows = [
        (name, f"{one.median_us:.0f}", f"{one.median_us / len(requests):.0f}", f"{one.ratio(bare):.2f}")
        for name, one in found.items()
    ]
    return Table(
        f"Reading one meter of {len(meter_map.registers)} quantities in {len(requests)} requests over TCP",
        ("reader", "us a meter", "us a request", "times pymodbus"),
        tuple(rows),
        (f"Processor time of the reading thread, medians of {rounds} rounds of {calls} reads in turns.",),
    )


def _by_pymodbus(client: ModbusTcpClient, requests: Sequence[Request]) -> None:
    for request in requests:
        ask: Any = client.read_input_registers if request.function == 4 else client.read_holding_registers
        answer = ask(request.address, count=request.count, device_id=meters.UNIT)
        if len(answer.registers) != request.count:
            raise RuntimeError(f"{request}: {answer}")


def _by_wire(wire: Wire, requests: Sequence[Request]) -> None:
    for request in requests:
        wire.read(meters.UNIT, request, _TIMEOUT_S)


def _by_bus(bus: Bus) -> Callable[[], None]:
    bus.identify("meter-01")
    slots = iter(range(sample.SLOT_MS, 1 << 60, 1000))

    def read() -> None:
        (made,) = bus.read("meter-01", next(slots))
        if made.status is not None:
            raise RuntimeError(f"the simulated meter was not read: {made}")

    return read


@click.command("decode", help=__doc__)
@click.option("--rounds", default=100, show_default=True, help="Rounds in which the candidates take turns.")
@click.option("--calls", default=20, show_default=True, help="Calls of each in a round.")
@click.option("--all", "everything", is_flag=True, help="Decoding of the whole catalogue.")
@small
def command(rounds: int, calls: int, everything: bool, tiny: bool) -> None:
    if tiny:
        rounds, calls = 2, 2
    show([decoding(rounds, calls, everything), reading(rounds, calls)])


if __name__ == "__main__":
    command()
