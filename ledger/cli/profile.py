"""Where the connection profile of a Fabric network is: an option of the commands that use one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., object])


def network_option(function: _Function) -> _Function:
    """``--network``: a folder that ``network up`` made, or the profile of an existing network."""
    return click.option(
        "--network",
        type=click.Path(path_type=Path),
        default=Path("fabric-network"),
        show_default=True,
        envvar="AIGECO_NETWORK",
        help="Folder of the network, or the file of a connection profile.",
    )(function)
