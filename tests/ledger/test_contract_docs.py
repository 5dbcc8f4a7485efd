"""docs/contracts.md names every function of the two contracts, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.rules import batches, registry
from ledger.rules.world import Contract

PAGE = (Path(__file__).parents[2] / "docs" / "contracts.md").read_text()


@pytest.mark.parametrize("contract", [registry.CONTRACT, batches.CONTRACT], ids=lambda contract: contract.name)
def test_the_page_names_every_function(contract: Contract) -> None:
    _, section = PAGE.split(f"## `{contract.name}`", 1)
    rows = re.findall(r"^\| (`[A-Z][^|]*) \|", section.split("\n## ")[0], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(contract.functions)
