"""Reads simulated devices with clients that know nothing of this project: pysunspec2, and modpoll over pymodbus.

    python verify.py PYTHON-OF-THE-PROJECT

Rules
- Imports no code of this project; its simulator runs in a process of its own, which says what it measures.
- A value is right when it is what the simulator says, but for the digits that the register does not have.
- `modpoll` is the Python program of that name; the older program of the same name is not free and is not used here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sunspec2.modbus.client import SunSpecModbusClientDeviceRTU, SunSpecModbusClientDeviceTCP

HERE = Path(__file__).parent
INVERTER = {
    "W": ("active_power total", -1),
    "VAr": ("reactive_power total", 1),
    "Hz": ("frequency total", 1),
    "PhVphA": ("voltage L1", 1),
    "AphB": ("current L2", 1),
    "WH": ("active_energy_export total", 1),
}
METER = {
    "W": ("active_power total", 1),
    "WphA": ("active_power L1", 1),
    "PhVphC": ("voltage L3", 1),
    "A": ("current total", 1),
    "TotWhImp": ("active_energy_import total", 1),
    "TotWhExp": ("active_energy_export total", 1),
}
SDM630 = {
    0: "voltage L1", 2: "voltage L2", 6: "current L1", 12: "active_power L1", 52: "active_power total",
    70: "frequency total", 72: "active_energy_import total", 74: "active_energy_export total",
}  # fmt: skip
KILO = {72, 74}

passed, failed = 0, []


def check(name: str, held: bool, why: object = "") -> None:
    global passed
    passed += held
    if not held:
        failed.append(f"{name}: {why}")


def close(read: float | None, was: float) -> bool:
    return read is not None and abs(read - was) <= max(0.006 * abs(was), 0.6)


def sunspec(label: str, device: Any, number: int, points: dict[str, tuple[str, int]], was: dict[str, float]) -> None:
    try:
        device.scan()
        (model,) = device.models[number]
        for point, (quantity, sign) in points.items():
            value = getattr(model, point).cvalue
            check(f"pysunspec2, {label}, {point}", close(value, sign * was[quantity]), f"{value}, {was[quantity]}")
        common = device.models[1][0]
        check(f"pysunspec2, {label}, serial number", str(common.SN.value or "").isdecimal(), common.SN.value)
    except Exception as error:  # noqa: BLE001  whatever it is called there
        check(f"pysunspec2, {label}", False, repr(error))
    finally:
        device.close()


def modpoll(label: str, folder: Path, where: list[str], was: dict[str, float]) -> None:
    rows = [["device", "plain", "3"], ["poll", "input_register", "0", "76", "BE_BE"]]
    rows += [["ref", f"r{address}", str(address), "float32", "r"] for address in SDM630]
    config = folder / f"{label}.csv"
    config.write_text("".join(",".join(row) + "\n" for row in rows))
    command = [str(Path(sys.executable).with_name("modpoll")), "--once", "--config", str(config), *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    read = {name: float(value) for name, value in re.findall(r"^\| (r\d+) +\| +(\S+) \|", done.stdout, re.MULTILINE)}
    for address, quantity in SDM630.items():
        value = read.get(f"r{address}")
        wanted = was[quantity] / 1000 if address in KILO else was[quantity]
        check(f"modpoll, {label}, {quantity}", close(value, wanted), f"{value}, {wanted}\n{done.stdout}{done.stderr}")


def main(python: str) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [python, str(HERE / "serve.py"), name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as simulator:
            assert simulator.stdin
            assert simulator.stdout
            said = json.loads(simulator.stdout.readline())
            host, port, line = said["host"], said["port"], said["line"]
            sunspec("TCP inverter", SunSpecModbusClientDeviceTCP(1, host, port), 103, INVERTER, said["pv"])
            sunspec("TCP meter", SunSpecModbusClientDeviceTCP(2, host, port), 203, METER, said["grid"])
            rtu = SunSpecModbusClientDeviceRTU(1, line, baudrate=19200, timeout=2)
            sunspec("RTU inverter", rtu, 103, INVERTER, said["pv"])
            modpoll("TCP", folder, ["--tcp", host, "--tcp-port", str(port)], said["grid"])
            modpoll("RTU", folder, ["--serial", line, "--serial-baud", "19200"], said["grid"])
            simulator.stdin.close()
            check("simulator", simulator.wait(20) == 0, f"exit status {simulator.returncode}")
    for one in failed:
        print(f"FAILED {one}")
    print("the simulator, read by pysunspec2 and modpoll")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
