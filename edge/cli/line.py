"""Where a meter is, as command line options say it: a TCP address or a serial port.

Rules
- What is not said is the model's own default, as its factory sets it.
- A serial port that is not there is said here, with the ports that are; everything later is the bus' word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge.cli import completion
from edge.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from drivers.line import SerialEndpoint, TcpEndpoint
    from drivers.map import MeterMap

MODBUS_PORT = 502  # what IANA has registered for Modbus
BY_ID = Path("/dev/serial/by-id")  # names that stay when the adapter is plugged elsewhere

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Line:
    """The options as given; None = not given.

    Attributes:
        tcp: ``HOST:PORT`` or ``HOST``.
        serial: path of a serial port.
        baud, parity, stopbits: of the serial port.
        framing: ``tcp`` or ``rtu``; over TCP only.
        unit: Modbus unit id.
    """

    tcp: str | None
    serial: Path | None
    baud: int | None
    parity: str | None
    stopbits: int | None
    framing: str | None
    unit: int | None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.tcp or str(self.serial)

    @property
    def rtu(self) -> bool:
        """Whether RTU frames go over it."""
        return self.serial is not None or self.framing == "rtu"

    def endpoint(self, meter_map: MeterMap) -> TcpEndpoint | SerialEndpoint:
        """The endpoint to open.

        Raises:
            click.UsageError: options that contradict each other.
            Refused: the serial port is not there.
        """
        if (self.tcp is None) == (self.serial is None):
            raise click.UsageError("say where the meter is: either --tcp HOST:PORT or --serial PATH")
        return self._tcp(self.tcp, meter_map) if self.tcp is not None else self._serial(meter_map)

    def unit_id(self, meter_map: MeterMap) -> int:
        """The unit id to ask.

        Raises:
            click.UsageError: none that can be asked on this line.
        """
        if self.unit is not None:
            if self.rtu and not 1 <= self.unit <= 247:
                raise click.UsageError(f"--unit {self.unit}: a line of RTU frames has units 1 to 247")
            return self.unit
        usual = meter_map.tcp if self.tcp is not None and meter_map.tcp else meter_map.serial
        return usual.unit if usual else 1

    def _tcp(self, address: str, meter_map: MeterMap) -> TcpEndpoint:
        from drivers.line import TcpEndpoint

        for option, value in (("--baud", self.baud), ("--parity", self.parity), ("--stopbits", self.stopbits)):
            if value is not None:
                raise click.UsageError(f"{option} belongs to a serial line; over TCP the converter has its own setting")
        host, port = _host_and_port(address, meter_map.tcp.port if meter_map.tcp else MODBUS_PORT)
        return TcpEndpoint(host, port, "rtu" if self.framing == "rtu" else "tcp")

    def _serial(self, meter_map: MeterMap) -> SerialEndpoint:
        from drivers.line import SerialEndpoint

        if self.framing == "tcp":
            raise click.UsageError("--framing tcp belongs to --tcp; a serial line carries RTU frames")
        path = self.serial or Path()
        if not path.exists():
            raise Refused(f"serial port {path}: does not exist", Exit.METER, _ports_that_are_there())
        usual = meter_map.serial
        if usual is None and self.baud is None:
            raise click.UsageError("--baud is needed: what this model leaves the factory with is not known")
        baud, parity, stopbits = (usual.baud, usual.parity, usual.stopbits) if usual else (0, "N", 1)
        return SerialEndpoint(str(path), self.baud or baud, self.parity or parity, self.stopbits or stopbits)


def options(command: _Command) -> _Command:
    """The options of a line, in the order ``--help`` shows them."""
    for option in reversed(
        (
            click.option(
                "--tcp", metavar="HOST:PORT", help="The meter, or the converter before it [port: mostly 502]."
            ),
            click.option(
                "--serial",
                type=click.Path(path_type=Path),
                metavar="PATH",
                shell_complete=completion.ports,
                help=f"Serial port, best as {BY_ID}/...",
            ),
            click.option("--baud", type=click.IntRange(300, 1_000_000), metavar="N", help="[default: the model's]"),
            click.option("--parity", type=click.Choice(["N", "E", "O"]), help="[default: the model's]"),
            click.option("--stopbits", type=click.IntRange(1, 2), metavar="N", help="[default: the model's]"),
            click.option("--unit", type=click.IntRange(0, 255), metavar="N", help="Unit id [default: the model's]."),
            click.option(
                "--framing", type=click.Choice(["tcp", "rtu"]), help="rtu: a converter that passes RTU frames."
            ),
        )
    ):
        command = option(command)
    return command


def _host_and_port(address: str, usual_port: int) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):  # no port; [::1] is a host
        host, port = address, str(usual_port)
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise click.UsageError(f"--tcp {address!r}: is no HOST:PORT such as 192.0.2.7:502")
    if ":" in bare and bare == host:
        raise click.UsageError(f"--tcp {address!r}: an IPv6 address stands in brackets, as in [2001:db8::7]:502")
    return bare, int(port)


def ports() -> list[Path]:
    """The serial ports of this machine that a meter can be on, under their lasting names where they have one."""
    return sorted(BY_ID.glob("*")) or sorted(Path("/dev").glob("tty[UA]*[0-9]"))


def _ports_that_are_there() -> str:
    there = ports()
    if not there:
        return "plug the adapter in; this machine has no serial port that a meter could be on"
    return f"one of those that are there: {', '.join(map(str, there))}"
