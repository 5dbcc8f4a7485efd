"""A Modbus server of pymodbus alone: register words from a file, over TCP or RTU.

    python serve_pymodbus.py tcp PORT FILE          python serve_pymodbus.py rtu DEVICE BAUD UNIT FILE

FILE has lines "FUNCTION ADDRESS WORD" in decimal. Prints "ready" when it is about to listen.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pymodbus import FramerType
from pymodbus.server import StartSerialServer, StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def blocks(path: str, function: int) -> list[SimData]:
    """Every stretch of registers of a table; pymodbus refuses what lies between."""
    rows = [tuple(map(int, line.split())) for line in Path(path).read_text().splitlines()]
    found: list[tuple[int, list[int]]] = []
    for number, address, word in sorted(rows):
        if number != function:
            continue
        if found and found[-1][0] + len(found[-1][1]) == address:
            found[-1][1].append(word)
        else:
            found.append((address, [word]))
    return [SimData(address, values=words, datatype=DataType.REGISTERS) for address, words in found] or [
        SimData(0, values=[0], datatype=DataType.REGISTERS)
    ]


def main(kind: str, *rest: str) -> None:
    path = rest[-1]
    unit = 1 if kind == "tcp" else int(rest[2])
    bits = [SimData(0, values=[False], datatype=DataType.BITS)]
    device = SimDevice(unit, (bits, bits, blocks(path, 3), blocks(path, 4)))
    print("ready", flush=True)
    if kind == "tcp":
        StartTcpServer(device, address=("127.0.0.1", int(rest[0])))
    else:
        StartSerialServer(device, framer=FramerType.RTU, port=rest[0], baudrate=int(rest[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
