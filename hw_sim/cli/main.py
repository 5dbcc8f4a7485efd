"""The ``aigeco-sim`` command: meters and whole sites that are not there.

Rules
- Ctrl-C and SIGTERM are how a simulator ends: all ports are given back, and the exit code is 0.
"""

from __future__ import annotations

import click

from edge.cli.group import Commands, Endings

COMMANDS = ("meter", "site", "replay", "record", "month")
USAGE, PORT = 2, 4
MEANING = {
    0: "ended as it was told to",
    USAGE: "wrong arguments, or a file that is not what the command needs",
    PORT: "a port cannot be opened",
}

_KNOWN = {
    "drivers.map.MapError": USAGE,
    "drivers.dump.DumpError": USAGE,
    "hw_sim.sitefile.SiteError": USAGE,
    "hw_sim.capture.CaptureError": USAGE,
    "hw_sim.port.PortProblem": PORT,
}


def _code_of(error: BaseException) -> int | None:
    for base in type(error).__mro__:
        code = _KNOWN.get(f"{base.__module__}.{base.__qualname__}")
        if code is not None:
            return code
    return USAGE if isinstance(error, OSError) and error.filename is not None else None


@click.group(
    cls=Commands,
    package="hw_sim.cli",
    names=COMMANDS,
    endings=Endings(MEANING, USAGE, 0, _code_of),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="aigeco-edge", prog_name="aigeco-sim")
def cli() -> None:
    """Meters and sites that are not there: they answer Modbus as real ones do, and fail as real ones do."""


def main() -> None:
    """Entry point of ``aigeco-sim``."""
    cli(prog_name="aigeco-sim")


if __name__ == "__main__":
    main()
