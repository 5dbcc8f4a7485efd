"""``aigeco-sim record``: writes down what a client and a real device say to each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

# What nearly every meter leaves its factory with.
_BAUD = 9600


@click.command("record", short_help="Capture the traffic between a client and a device.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--listen", metavar="HOST:PORT", help="Listen here for the client; port 0 takes any free one.")
@click.option(
    "--pty", type=click.Path(path_type=Path), metavar="PATH", help="Serial line for the client, a link at PATH."
)
@click.option("--to", required=True, metavar="DEVICE", help="The real device: HOST:PORT, with --pty its serial port.")
@click.option("--baud", type=click.IntRange(min=1), metavar="N", help=f"Pace of the serial line [default: {_BAUD}].")
@click.option("--parity", type=click.Choice(["N", "E", "O"]), help="Parity of the serial line [default: N].")
@click.option("--stopbits", type=click.IntRange(1, 2), help="Stop bits of the serial line [default: 1].")
def command(
    file: Path,
    listen: str | None,
    pty: Path | None,
    to: str,
    baud: int | None,
    parity: str | None,
    stopbits: int | None,
) -> None:
    """Hand Modbus on to a real device and write it into FILE, until Ctrl-C.

    Modbus TCP with --listen, RTU on a serial line with --pty. Every byte is handed on as it came, for one client at a
    time. `aigeco-sim replay` plays the file, which docs/simulator.md describes. A file that is there already is left
    alone.
    """
    from drivers.line import SerialEndpoint
    from hw_sim.cli import foreground
    from hw_sim.record import Recorder
    from hw_sim.recordserial import SerialRecorder
    from hw_sim.wire import Wire

    if (listen is None) == (pty is None):
        raise click.UsageError("say where the client comes: either --listen HOST:PORT or --pty PATH")
    if listen is not None and (baud, parity, stopbits) != (None, None, None):
        raise click.UsageError("--baud, --parity and --stopbits are for --pty")
    wire = Wire()
    recorder: Recorder | SerialRecorder
    if listen is not None:
        recorder = Recorder(wire, foreground.address("--listen", listen), foreground.address("--to", to), file)
    else:
        recorder = SerialRecorder(wire, pty, SerialEndpoint(to, baud or _BAUD, parity or "N", stopbits or 1), file)
    wire.ports.append(recorder)

    def news() -> Iterator[str]:
        while recorder.troubles:
            yield recorder.troubles.pop(0)

    def summary() -> str:
        return f"{recorder.transcript.requests} requests, {recorder.transcript.answers} answers written"

    foreground.run(wire, f"ready: {recorder.name} hands on to {to}; Ctrl-C ends", news, summary)
