"""The bus: use of a serial line, processor time of a request, requests of a reading, times of a scan, memory.

Meters are simulated in a process of their own, on terminals at the pace of their baud rate.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click

from bench import machine, meters, place, stand
from bench.options import show, small
from bench.report import Table, verdict
from drivers.bus import Bus, MeterConfig
from drivers.line import SerialEndpoint
from drivers.map import load, names
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES, plan, request_time_s
from hw_sim.stage import command as command_of

LEAST_USE = 0.97
LONGEST_SCAN_S = 90.0
_BAUD, _BITS = 9600, 10
_LATENCY_MS = 25
_METERS = 8
# No pause of their own: what is measured is the line and us.
_MODELS = ("carlo_gavazzi_em111_em112", "socomec_countis_e2x", "orno_or-we-504")
_SCANNED = (("eastron_sdm120", 1), ("carlo_gavazzi_em330_em340", 7), ("orno_or-we-504", 118))


@contextmanager
def _line(devices: Sequence[tuple[str, int]]) -> Iterator[Path]:
    """A serial line with these (model, unit), in another process."""
    with tempfile.TemporaryDirectory(prefix="aigeco-bench-") as name:
        site = Path(name) / "site.toml"
        text = f'[[home]]\nname = "home"\n[[line]]\nname = "line"\npty = "line"\nbaud = {_BAUD}\n'
        for model, unit in devices:
            text += f'[[line.device]]\nname = "m{unit}"\nmodel = "{model}"\nunit = {unit}\nlatency_ms = {_LATENCY_MS}\n'
        site.write_text(text)
        with stand.running(site):
            yield Path(name) / "line"


def use_of_the_line(seconds: float, models: Sequence[str]) -> Table:
    """How much of the time the line carries what it must carry."""
    rows = []
    for model in models:
        meter_map = load(model)
        requests = plan(meter_map, RTU_OVERHEAD_BYTES)
        limit_s = sum(request_time_s(one, _BAUD, _BITS) + _LATENCY_MS / 1000 for one in requests)
        with _line([(model, unit) for unit in range(1, _METERS + 1)]) as path:
            units = [MeterConfig(f"m{unit}", meter_map, unit) for unit in range(1, _METERS + 1)]
            bus = Bus(SerialEndpoint(str(path), _BAUD), units)
            try:
                _round(bus, 0)  # the port is opened, and everybody is there
                took: list[float] = []
                began, began_cpu = time.monotonic(), time.process_time()
                while time.monotonic() < began + seconds or not took:
                    at = time.monotonic()
                    _round(bus, len(took) + 1)
                    took.append(time.monotonic() - at)
                spent_s = time.process_time() - began_cpu
            finally:
                bus.close()
        use = _METERS * limit_s / median(took)
        asked = len(took) * _METERS * len(requests)
        cells = (f"{len(requests)}", f"{1000 * median(took):.0f}", f"{1000 * _METERS * limit_s:.0f}", f"{use:.1%}")
        rows.append((model, *cells, f"{1e6 * spent_s / asked:.0f}", verdict(use, LEAST_USE, at_least=True)))
    return Table(
        f"Use of a line: {_METERS} meters at {_BAUD} baud that think for {_LATENCY_MS} ms, read one after the other",
        ("model", "requests", "ms a round", "limit ms", "use", "cpu us a request", "goal"),
        tuple(rows),
        (
            "Limit: characters, 3.5 characters of silence before and after each frame, and the meter's own time.",
            "Medians of whole rounds. Processor time: bus, framing, decoding.",
        ),
    )


def _round(bus: Bus, slot: int) -> None:
    for name in bus.counters:
        (reading, *_) = bus.read(name, 1000 * slot)
        if reading.status is not None:
            raise RuntimeError(f"{name} was not read: {bus.counters[name].trouble}")


def requests_of_a_reading() -> Table:
    """The catalogue, planned and register by register."""
    maps = [found for found in map(load, names()) if found.scheme == "registers"]
    rows = []
    for name, overhead in (("RTU", RTU_OVERHEAD_BYTES), ("TCP", TCP_OVERHEAD_BYTES)):
        planned = [plan(found, overhead) for found in maps]
        alone = [len({span for one in found.registers for span in one.spans()}) for found in maps]
        count = sum(map(len, planned))
        size = sum(overhead + 2 * request.count for requests in planned for request in requests)
        single = sum(
            overhead + 2 * words
            for found in maps
            for _, words in {span for one in found.registers for span in one.spans()}
        )
        rows.append(
            (
                name,
                f"{median(alone):.0f}",
                f"{median(map(len, planned)):.0f}",
                f"{sum(alone) / count:.1f}",
                f"{single / size:.1f}",
            )
        )
    return Table(
        f"Requests of a reading, {len(maps)} models",
        ("transport", "one a register, median", "planned, median", "times fewer", "times fewer bytes"),
        tuple(rows),
    )


def scan_times(tiny: bool) -> Table:
    """How long ``aigeco scan`` takes on a line with three devices."""
    devices = _SCANNED[:1] if tiny else _SCANNED
    units = "1-3" if tiny else "1-247"
    setting = ("--baud", str(_BAUD), "--parity", "N")
    runs = {
        f"one setting, units {units}": (*setting, "--units", units),
        "likely ids at one setting (--quick)": (*setting, "--quick", *(("--units", units) if tiny else ())),
    }
    rows = []
    for words, options in runs.items():
        with _line(devices) as path:
            first_s, whole_s, found = _scan(path, options)
        goal = verdict(whole_s, LONGEST_SCAN_S, unit=" s") if "setting, units" in words else ""
        rows.append((words, str(found), f"{first_s:.1f}", f"{whole_s:.1f}", goal))
    return Table(
        f"aigeco scan of a line at {_BAUD} baud with {len(devices)} device{'s' * (len(devices) > 1)}",
        ("what", "found", "s to the first", "s in all", "goal"),
        tuple(rows),
        ("With the start of the command. Units: " + ", ".join(str(unit) for _, unit in devices) + ".",),
    )


def _scan(path: Path, options: Sequence[str]) -> tuple[float, float, int]:
    """Seconds to the first device and to the end, and how many were found."""
    words = [*command_of("edge.cli.main"), "scan", "--serial", str(path), *options]
    began, first_s, found = time.monotonic(), 0.0, 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("unit "):  # a line for each device, as soon as it is found
                found += 1
                first_s = first_s or time.monotonic() - began
    return first_s, time.monotonic() - began, found


def memory(seconds: float) -> Table:
    """The agent with 32 meters on 4 lines."""
    model = "carlo_gavazzi_em511"
    with meters.running(model, 8, 4) as served, place.fresh() as site:
        shares = [range(32)[number::4] for number in range(4)]
        buses = (place.tcp_bus(port, model, list(share)) for port, share in zip(served.ports, shares, strict=True))
        site.write_config("".join(buses), period_s=1, connected=False)
        gateway = site.start_gateway()
        time.sleep(seconds)
        site.check()
        cells = f"{machine.resident_mb(gateway.pid):.1f}", f"{machine.peak_mb(gateway.pid):.1f}"
    return Table(
        f"Memory: aigeco run, 32 meters on 4 lines, a slot a second, after {seconds:.0f} s",
        ("process", "resident MB", "peak MB"),
        (("aigeco run, nothing sent", *cells),),
    )


@click.command("bus", help=__doc__)
@click.option("--seconds", default=20.0, show_default=True, help="How long each line is read.")
@small
def command(seconds: float, tiny: bool) -> None:
    parts: list[Callable[[], Table]] = [
        lambda: use_of_the_line(0.0 if tiny else seconds, _MODELS[-1:] if tiny else _MODELS),
        requests_of_a_reading,
        lambda: scan_times(tiny),
        lambda: memory(1.0 if tiny else seconds),
    ]
    show(part() for part in parts)


if __name__ == "__main__":
    command()
