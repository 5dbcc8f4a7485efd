"""Our contracts as an organisation puts them on a channel: code, who endorses, who holds which private data. Pure.

Rules
- What is made from measurements is endorsed by any two of the organisations with the role ``metering``, and private
  data lie with these alone: an organisation without that role gets no statement, neither as member nor as endorser.
- The registry is run by all and endorsed by the channel's majority.
- Statements are answered to clients of organisations that hold them only. Of results the contract itself says who may
  see what: an aggregator asks a metering organisation's peer for totals.
- Of statements only, the blocks to live can be limited: what proves that something was committed stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from ledger.contracts import CONTRACTS
from ledger.fabric.profile import Organisation
from ledger.rules import batches, registry
from ledger.rules.world import Contract

METERING = registry.METERING
_ENDORSERS = 2
# How many other members' peers must have a private value before a transaction is ordered, and how many are tried.
_REQUIRED, _MOST = 1, 3


def run_by(roles: Collection[str]) -> tuple[str, ...]:
    """The contracts that an organisation with these roles runs a server of."""
    return tuple(CONTRACTS) if METERING in roles else (registry.NAME,)


def policy(contract: Contract, organisations: Sequence[Organisation]) -> str:
    """Who endorses, in Fabric's syntax; empty = the channel's majority."""
    if contract.name == registry.NAME:
        return ""
    return f"OutOf({_ENDORSERS}, {', '.join(repr(f'{each.id}.peer') for each in _metering(organisations))})"


def collections(contract: Contract, organisations: Sequence[Organisation], readings_blocks: int = 0) -> str:
    """Definition of its private data collections, JSON; empty = it has none.

    Args:
        readings_blocks: after so many blocks statements go by themselves; 0 = they stay until they are purged.
    """
    if not contract.collections:
        return ""
    members = f"OR({', '.join(repr(f'{each.id}.member') for each in _metering(organisations))})"
    return json.dumps(
        [
            {
                "name": name,
                "policy": members,
                "requiredPeerCount": _REQUIRED,
                "maxPeerCount": _MOST,
                "blockToLive": readings_blocks if name == batches.READINGS else 0,
                "memberOnlyRead": contract.name == batches.NAME,
                "memberOnlyWrite": True,
            }
            for name in contract.collections
        ],
        indent=1,
    )


def _metering(organisations: Sequence[Organisation]) -> list[Organisation]:
    return [each for each in organisations if METERING in each.roles]
