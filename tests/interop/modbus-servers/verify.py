"""The drivers read Modbus servers that are not ours: libmodbus and pymodbus.

    python verify.py TOOLS-FOLDER

Each serves the words of golden dumps, over TCP and (through a pair of pseudo-terminals) in RTU frames; the drivers must
identify the meter and read exactly what the dump says its words mean.

Rules
- A server knows register words and nothing of ours.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drivers.bus import Bus, MeterConfig
from drivers.dump import Dump, load
from drivers.line import Endpoint, SerialEndpoint, TcpEndpoint
from drivers.map import MeterMap
from drivers.map import load as load_map
from drivers.obis import BY_NAME
from drivers.plan import TCP_OVERHEAD_BYTES, Request, plan
from hw_sim.device import identification

HERE = Path(__file__).parent
GOLDEN = HERE.parents[1] / "data" / "golden"
MODELS = ("eastron_sdm120", "eastron_sdm630", "schneider_iem3155_iem3255", "carlo_gavazzi_em330_em340")
BAUD = 38_400


def requests(meter_map: MeterMap) -> list[Request]:
    """All that a bus may ask for: the plan's ranges and who the meter is."""
    found = [Request(one.function, one.address, one.count) for one in plan(meter_map, TCP_OVERHEAD_BYTES)]
    look = meter_map.identify
    for field in (look, look.serial) if look else ():
        if field is not None:
            found.append(Request(field.function, field.address, field.count))
    return found


def words(dump: Dump, meter_map: MeterMap) -> dict[tuple[int, int], int]:
    """(function, address) -> word: those of the dump, zeros where a plan reads through, and who the meter is."""
    found = {
        (one.function, address): 0
        for one in requests(meter_map)
        for address in range(one.address, one.address + one.count)
    }
    blocks = [(block.function, block.address, block.words) for block in dump.blocks]
    blocks += [
        (function, address, data)
        for (function, address), data in identification(meter_map.identify, "24000123").items()
    ]
    for function, address, data in blocks:
        for number in range(len(data) // 2):
            for table in (function,) if function else (3, 4):
                found[table, address + number] = int.from_bytes(data[2 * number : 2 * number + 2], "big")
    return found


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert select.select([process.stdout], [], [], 20)[0], f"{command[0]} does not start"
            assert process.stdout.readline().strip() == "ready", f"{command[0]} does not start"
            yield
        finally:
            process.kill()


@contextmanager
def pair(folder: Path) -> Iterator[tuple[str, str]]:
    """Two ends of one line."""
    ends = folder / "server", folder / "client"
    command = ["socat", *(f"pty,raw,echo=0,link={end}" for end in ends)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 10
            while not all(end.exists() for end in ends):
                assert time.monotonic() < deadline, "socat makes no line"
                time.sleep(0.02)
            yield str(ends[0]), str(ends[1])
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)


def judge(label: str, endpoint: Endpoint, unit: int, meter_map: MeterMap, dump: Dump) -> str:
    """What is wrong, empty when all is right."""
    bus = Bus(endpoint, [MeterConfig("meter", meter_map, unit)])
    try:
        identity = None
        for _ in range(20):
            identity = bus.identify("meter")
            if identity is not None:
                break
            time.sleep(0.25)
        if identity is None or not identity.agrees:
            return f"not identified: {identity} {bus.counters['meter'].trouble}"
        (reading,) = bus.read("meter", 0)
        if reading.status is not None:
            return f"no reading: {bus.counters['meter'].trouble}"
        read = {key: value.text() for key, value in reading.values}
        for said in dump.readings:
            key = BY_NAME[str(said["quantity"]), str(said["phase"])].key
            if said["value"] is not None and read.get(key) != said["value"]:
                return f"{said['quantity']} {said['phase']}: {read.get(key)} instead of {said['value']}"
        return ""
    finally:
        bus.close()


def main(tools: str) -> int:
    servers = {
        "libmodbus": [f"{tools}/libmodbus"],
        "pymodbus": [sys.executable, str(HERE / "serve_pymodbus.py")],
    }
    if not os.access(servers["libmodbus"][0], os.X_OK):
        print("libmodbus: NOT RUN: no compiler or no libmodbus-dev")
        del servers["libmodbus"]
    kinds = ["tcp", "rtu"] if shutil.which("socat") else ["tcp"]
    passed, failed = 0, []
    for model in MODELS:
        meter_map = load_map(model)
        dump = load(GOLDEN / f"{model}.yaml")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file = folder / "words"
            file.write_text("".join(f"{f} {a} {w}\n" for (f, a), w in sorted(words(dump, meter_map).items())))
            for server, command in servers.items():
                for kind in kinds:
                    if kind == "tcp":
                        port = free_port()
                        with running([*command, "tcp", str(port), str(file)]):
                            if server == "pymodbus":
                                wait_for(port)
                            wrong = judge(server, TcpEndpoint("127.0.0.1", port), 1, meter_map, dump)
                    else:
                        with pair(folder) as (far, near), running([*command, "rtu", far, str(BAUD), "7", str(file)]):
                            wrong = judge(server, SerialEndpoint(near, BAUD), 7, meter_map, dump)
                    passed += not wrong
                    failed += [f"{server}, {kind}, {model}: {wrong}"] if wrong else []
    for one in failed:
        print(f"FAILED {one}")
    print(f"the drivers, before {', '.join(servers)}, over {', '.join(kinds)}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
