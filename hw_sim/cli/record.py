"""``aigeco-sim record``: writes down what a client and a real device say to each other over Modbus TCP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click


@click.command("record", short_help="Capture the traffic between a client and a device.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--listen", required=True, metavar="HOST:PORT", help="Listen here; port 0 takes any free one.")
@click.option("--to", required=True, metavar="HOST:PORT", help="The real device.")
def command(file: Path, listen: str, to: str) -> None:
    """Hand Modbus TCP on to a real device and write it into FILE, until Ctrl-C.

    Every byte is handed on as it came, for one client at a time. `aigeco-sim replay` plays the file, which
    docs/simulator.md describes. A file that is there already is left alone.
    """
    from hw_sim.cli import foreground
    from hw_sim.record import Recorder
    from hw_sim.wire import Wire

    address, device = foreground.address("--listen", listen), foreground.address("--to", to)
    wire = Wire()
    recorder = Recorder(wire, address, device, file)
    wire.ports.append(recorder)

    def news() -> Iterator[str]:
        while recorder.troubles:
            yield recorder.troubles.pop(0)

    def summary() -> str:
        return f"{recorder.transcript.requests} requests, {recorder.transcript.answers} answers written"

    foreground.run(wire, f"ready: {recorder.name} hands on to {to}; Ctrl-C ends", news, summary)
