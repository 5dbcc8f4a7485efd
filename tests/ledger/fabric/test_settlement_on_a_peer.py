"""Every test of tests/ledger/test_settlement.py again, with the contracts behind a peer of Fabric."""

from collections.abc import Iterator

import pytest

from tests.ledger import community, test_batches
from tests.ledger.fabric.world import on_a_peer
from tests.ledger.test_settlement import *  # noqa: F403


@pytest.fixture(scope="module", autouse=True)
def peer() -> Iterator[None]:
    with on_a_peer(community), on_a_peer(test_batches):
        yield
