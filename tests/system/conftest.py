"""A street for the accidents: one broker, two organisations, one simulated site, and a home for each accident."""

from __future__ import annotations

from collections.abc import Iterator

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
