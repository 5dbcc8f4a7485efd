"""What the tests of this folder share.

The demo runs beside the others. A street for the accidents: one broker, two organisations, one simulated site, and a
home for each accident.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hw_sim.stage import ORGANISATIONS, Stage
from tests.system.town import Town, one_meter

MALLORY = "MalloryMSP"
"""An organisation whose peer is the test itself."""

HOMES = (
    "neighbour",
    "wrong-ca",
    "old-tls",
    "old-signer",
    "denied",
    "closed",
    "garbage",
    "foreign",
    "no-port",
    "victim",
    "plain",
    "card",
    "twin",
    "full",
    "beside",
)


@dataclass(frozen=True, slots=True)
class DemoRun:
    """The demo as somebody runs it without a terminal.

    Attributes:
        folder: of the run.
        process: its standard output is a pipe, as in a script.
    """

    folder: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="package", autouse=True)
def demo_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun | None]:
    """Begun before the first test and looked at by the one that needs it: it waits most of its time."""
    if not any(item.path.name == "test_demo.py" for item in request.session.items):
        yield None
        return
    folder = tmp_path_factory.mktemp("demo") / "run"
    words = [sys.executable, "-m", "hw_sim.demo", "--seconds", "0.3", "--keep", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield DemoRun(folder, process)
    process.send_signal(signal.SIGINT)  # when it was not waited for; it ends its processes
    process.communicate(timeout=30)


@pytest.fixture(scope="package")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """All of it running, but for the gateways."""
    listed = tuple(name for name in HOMES if name != "denied")  # in the broker's access list
    with Stage(tmp_path_factory.mktemp("street"), listed, (*ORGANISATIONS, MALLORY)) as stage:
        homes = {name: one_meter(name) for name in HOMES}
        town = Town(stage, homes, ORGANISATIONS, {"victim": (*ORGANISATIONS, MALLORY)})
        expire(town, "old-signer", "signer")
        expire(town, "old-tls", "tls")
        town.open()
        yield town
        town.close()


def expire(town: Town, gateway: str, name: str) -> None:
    """Put a certificate in place that was good until yesterday."""
    folder = town.homes[gateway].folder
    for suffix in (".key", ".pem"):
        (folder / f"{name}{suffix}").unlink()
    town.stage.site.gateway(gateway, days=(-30, -1)).write(folder / f"{name}.key", folder / f"{name}.pem")
