"""Every test of tests/ledger/test_batches.py again, with the contracts in the embedded ledger's file."""

from collections.abc import Iterator

import pytest

from tests.ledger import test_batches
from tests.ledger.embedded.world import in_a_file
from tests.ledger.test_batches import *  # noqa: F403


@pytest.fixture(scope="module", autouse=True)
def file() -> Iterator[None]:
    with in_a_file(test_batches):
        yield
