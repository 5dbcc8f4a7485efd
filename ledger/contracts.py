"""The contracts of ours, by name: one place for the embedded ledger and for Fabric."""

from __future__ import annotations

from ledger.rules import batches, exchanges, origin, registry, settlement
from ledger.rules.world import Contract

CONTRACTS: dict[str, Contract] = {
    contract.name: contract
    for contract in (registry.CONTRACT, batches.CONTRACT, settlement.CONTRACT, exchanges.CONTRACT, origin.CONTRACT)
}
"""In the order in which they ask one another."""
