"""Where a meter is, as options say it."""

from dataclasses import replace
from pathlib import Path

import click
import pytest

from drivers.line import SerialEndpoint, TcpEndpoint
from drivers.map import load
from edge.cli.exits import Exit, Refused
from edge.cli.line import Line

NOTHING = Line(tcp=None, serial=None, baud=None, parity=None, stopbits=None, framing=None, unit=None)
SDM630 = load("eastron_sdm630")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("192.0.2.7:1502", "192.0.2.7", 1502),
        ("meter.local", "meter.local", 502),
        ("[2001:db8::7]:503", "2001:db8::7", 503),
        ("[2001:db8::7]", "2001:db8::7", 502),
    ],
)
def test_an_address(address: str, host: str, port: int) -> None:
    assert replace(NOTHING, tcp=address).endpoint(SDM630) == TcpEndpoint(host, port, "tcp")


@pytest.mark.parametrize(
    "address", ["", ":502", "host:", "host:0", "host:65536", "host:http", "host:-1", "2001:db8::7"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(click.UsageError, match="--tcp"):
        replace(NOTHING, tcp=address).endpoint(SDM630)


def test_rtu_over_tcp() -> None:
    line = replace(NOTHING, tcp="192.0.2.7:4196", framing="rtu")
    assert line.endpoint(SDM630) == TcpEndpoint("192.0.2.7", 4196, "rtu")


def test_a_serial_line_takes_the_model_s_settings_unless_told(tmp_path: Path) -> None:
    port = tmp_path / "tty"
    port.touch()
    usual = SDM630.serial
    assert usual is not None
    line = replace(NOTHING, serial=port)
    assert line.endpoint(SDM630) == SerialEndpoint(str(port), usual.baud, usual.parity, usual.stopbits)
    assert line.unit_id(SDM630) == usual.unit
    told = replace(line, baud=38400, parity="E", stopbits=2, unit=7)
    assert told.endpoint(SDM630) == SerialEndpoint(str(port), 38400, "E", 2)
    assert told.unit_id(SDM630) == 7


def test_a_model_whose_settings_nobody_knows_needs_a_speed(tmp_path: Path) -> None:
    port = tmp_path / "tty"
    port.touch()
    unknown = replace(SDM630, serial=None)
    with pytest.raises(click.UsageError, match="--baud"):
        replace(NOTHING, serial=port).endpoint(unknown)
    assert replace(NOTHING, serial=port, baud=9600).endpoint(unknown) == SerialEndpoint(str(port), 9600, "N", 1)


def test_a_port_that_does_not_exist_names_those_that_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "usb-adapter").touch()
    monkeypatch.setattr("edge.cli.line.BY_ID", tmp_path)
    with pytest.raises(Refused, match="/dev/ttyNONE: does not exist") as caught:
        replace(NOTHING, serial=Path("/dev/ttyNONE")).endpoint(SDM630)
    assert caught.value.code == Exit.METER
    assert str(tmp_path / "usb-adapter") in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "line",
    [
        NOTHING,
        replace(NOTHING, tcp="a:1", serial=Path("b")),
        replace(NOTHING, tcp="a:1", baud=9600),
        replace(NOTHING, tcp="a:1", parity="N"),
        replace(NOTHING, tcp="a:1", stopbits=1),
        replace(NOTHING, serial=Path("b"), framing="tcp"),
    ],
)
def test_options_that_contradict_each_other(line: Line) -> None:
    with pytest.raises(click.UsageError):
        line.endpoint(SDM630)


@pytest.mark.parametrize("unit", [0, 248])
def test_a_unit_that_no_rtu_line_has(unit: int) -> None:
    with pytest.raises(click.UsageError, match="--unit"):
        replace(NOTHING, serial=Path("b"), unit=unit).unit_id(SDM630)
    assert replace(NOTHING, tcp="a:1", unit=unit).unit_id(SDM630) == unit
