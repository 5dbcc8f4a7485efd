"""Every test of tests/ledger/test_origin.py again, with the contracts behind a peer of Fabric."""

from collections.abc import Iterator

import pytest

from tests.ledger import community
from tests.ledger.fabric.world import on_a_peer
from tests.ledger.test_origin import *  # noqa: F403


@pytest.fixture(scope="module", autouse=True)
def peer() -> Iterator[None]:
    with on_a_peer(community):
        yield
