"""``aigeco-sim replay``: captured traffic, played again.

Rules
- What is asked and not in the capture is said once, and not answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

# What nearly every meter leaves its factory with.
_BAUD = 9600


@click.command("replay", short_help="Answer as captured traffic did.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--tcp", metavar="HOST:PORT", help="Listen here; port 0 takes any free one.")
@click.option("--pty", type=click.Path(path_type=Path), metavar="PATH", help="Make a serial line, with a link at PATH.")
@click.option("--baud", type=click.IntRange(min=1), metavar="N", help=f"Pace of the serial line [default: {_BAUD}].")
def command(file: Path, tcp: str | None, pty: Path | None, baud: int | None) -> None:
    """Answer as the captured traffic in FILE did, until Ctrl-C.

    Equal requests are answered in the order of the capture, over and over, with its delays, its silence and its
    damaged answers. What it does not hold is said and not answered. docs/simulator.md describes the file.
    """
    from hw_sim import capture, frames
    from hw_sim.cli import foreground
    from hw_sim.line import LineTiming
    from hw_sim.replay import Player
    from hw_sim.wire import Port, Wire

    if (tcp is None) == (pty is None):
        raise click.UsageError("say where it answers: either --tcp HOST:PORT or --pty PATH")
    if tcp is not None and baud is not None:
        raise click.UsageError("--baud is for --pty")
    host_port = None if tcp is None else foreground.address("--tcp", tcp)
    captured = capture.load(file)
    if pty is not None and captured.framing is frames.TCP:
        raise click.UsageError(f"{file} holds Modbus TCP, which no serial line carries: --tcp HOST:PORT")
    wire = Wire()
    port: Port
    if host_port is not None:
        port = wire.tcp(*host_port, (), captured.framing)
    else:
        port = wire.pty(pty, (), LineTiming(baud or _BAUD))
    port.player = player = Player(captured)
    told: set[frames.Adu] = set()

    def news() -> Iterator[str]:
        for request in tuple(player.unknown):
            if request not in told:
                told.add(request)
                yield f"not in the capture, no answer: {capture.words(request)}"

    def summary() -> str:
        asked, unknown = player.counters["requests"], sum(tuple(player.unknown.values()))
        return f"{asked} requests, {player.counters['answers']} answers, {unknown} not in the capture"

    foreground.run(wire, f"ready: {len(captured.exchanges)} exchanges on {port.name}; Ctrl-C ends", news, summary)
