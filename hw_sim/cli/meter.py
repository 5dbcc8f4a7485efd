"""``aigeco-sim meter``: one meter of the catalogue, in a home of its own.

Rules
- What is not said is the model's own default, as its factory sets it.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import completion
from hw_sim.home import POINTS

if TYPE_CHECKING:
    from drivers.map import MeterMap
    from hw_sim.site import Device, Line

# An ordinary roof and its inverter, for a meter that has something to do with either.
_PEAK_W, _RATED_W = 5_000, 4_600
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"])
_PARITY = click.Choice(["N", "E", "O"])
# What nearly every meter leaves its factory with.
_BAUD = 9600


@click.command("meter", short_help="Run one meter.")
@click.argument("model", shell_complete=completion.models)
@click.option("--tcp", metavar="HOST:PORT", help="Listen here; port 0 takes any free one.")
@click.option("--pty", type=click.Path(path_type=Path), metavar="PATH", help="Make a serial line, with a link at PATH.")
@click.option("--rtu-over-tcp", is_flag=True, help="RTU frames on the TCP port, as behind a serial gateway.")
@click.option("--unit", type=click.IntRange(0, 255), help="Unit id [default: the model's].")
@click.option("--baud", type=int, metavar="N", help="Pace of the serial line [default: the model's].")
@click.option("--parity", type=_PARITY, help="Parity of the serial line [default: the model's].")
@click.option("--stopbits", type=click.IntRange(1, 2), help="Stop bits of the serial line [default: the model's].")
@click.option("--dump", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Serve this register dump.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Another seed, other days.")
@click.option("--role", type=click.Choice(POINTS), help="What it measures [default: pv for an inverter, else grid].")
@click.option("--start", type=_TIME, metavar="TIME", help="Its time, as 2026-06-21T09:00:00Z [default: now].")
@click.option("--speed", type=click.FloatRange(0.001, 86_400), default=1.0, help="Its seconds per second [default: 1].")
@click.option("--latency-ms", type=click.IntRange(0, 60_000), help="Time to find an answer [default: 25 on a line].")
@click.option("--serial-number", default="", metavar="DIGITS", help="[default: made from the seed]")
@click.option("--faults", type=click.Path(path_type=Path, dir_okay=False), help="Faults, as in a site file.")
@click.option("--plain", is_flag=True, help="Plain lines, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    model: str,
    tcp: str | None,
    pty: Path | None,
    rtu_over_tcp: bool,
    unit: int | None,
    baud: int | None,
    parity: str | None,
    stopbits: int | None,
    dump: Path | None,
    seed: int,
    role: str | None,
    start: dt.datetime | None,
    speed: float,
    latency_ms: int | None,
    serial_number: str,
    faults: Path | None,
    plain: bool,
    as_json: bool,
) -> None:
    """Run a meter of the catalogue until Ctrl-C.

    MODEL is a name of the catalogue, such as eastron_sdm630, or the path of a map file. The meter sits in a home of its
    own, with a day of load and sun; or it serves a register dump as it is.
    """
    from drivers.map import load
    from hw_sim import site, sitefile
    from hw_sim.home import Household
    from hw_sim.sun import Roof

    meter_map = load(model)
    if (tcp is None) == (pty is None):
        raise click.UsageError("say where it answers: either --tcp HOST:PORT or --pty PATH")
    if serial_number and not serial_number.isdecimal():
        raise click.UsageError(f"--serial-number {serial_number}: digits only, as meters have them")
    serial = pty is not None or rtu_over_tcp
    device = site.Device(
        name="meter",
        map=meter_map,
        unit=_unit(meter_map, unit, serial),
        home="home",
        role=role or ("pv" if meter_map.kind == "inverter" else "grid"),
        dump=dump,
        serial=serial_number,
        latency_ms=site.default_latency_ms(serial) if latency_ms is None else latency_ms,
    )
    home = Household("home", seed, meter_map.phases, roof=Roof(_PEAK_W, _RATED_W), roof_phases=meter_map.phases)
    line = _line(meter_map, tcp, pty, rtu_over_tcp, (baud, parity, stopbits), device)
    start_ms = time.time_ns() // 1_000_000
    if start is not None:
        start_ms = int(start.replace(tzinfo=dt.UTC).timestamp() * 1000)
    found = sitefile.load_faults(faults, ("meter",)) if faults else ()
    from hw_sim.cli.serve import serve

    serve(site.Site(seed, start_ms, speed, (home,), (line,), found), plain, as_json)


def _unit(meter_map: MeterMap, unit: int | None, serial: bool) -> int:
    usual = meter_map.serial if serial or meter_map.tcp is None else meter_map.tcp
    found = unit if unit is not None else usual.unit if usual else 1
    if serial and not 1 <= found <= 247:
        raise click.UsageError(f"--unit {found}: a line of RTU frames has units 1 to 247")
    return found


def _line(
    meter_map: MeterMap,
    tcp: str | None,
    pty: Path | None,
    rtu: bool,
    settings: tuple[int | None, str | None, int | None],
    device: Device,
) -> Line:
    """The port; ``settings`` are baud rate, parity and stop bits as given."""
    from hw_sim import site
    from hw_sim.line import LineTiming

    given = any(setting is not None for setting in settings)
    if tcp is not None and given and not rtu:
        raise click.UsageError("--baud, --parity and --stopbits are for --pty and --rtu-over-tcp")
    baud, parity, stopbits = settings
    usual = meter_map.serial
    timing = LineTiming(
        baud or (usual.baud if usual else _BAUD),
        parity or (usual.parity if usual else "N"),
        stopbits or (usual.stopbits if usual else 1),
    )
    if tcp is None:
        return site.Line("line", None, "rtu", pty, timing, (device,))
    try:
        address = site.parse_address(tcp)
    except ValueError as error:
        raise click.UsageError(f"--tcp: {error}") from None
    return site.Line("line", address, "rtu" if rtu else "tcp", None, timing if given else None, (device,))
