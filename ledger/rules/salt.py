"""Salts: why nobody guesses a private value from its digest.

On a network everybody sees SHA-256 of every private value. A quarter hour's Wh are soon tried out; together with 16
bytes that nobody outside knows they are not.

Rules
- A contract has no randomness, and every endorser writes the same bytes: a salt comes with what is told in the
  transient map, or is derived from the salts of what a value was made from: at first those in the signed statements.
- It lies beside the value and goes with it. What stays after that gives no salt away: derived is in one direction only.
"""

from __future__ import annotations

from hashlib import sha256

from ledger.rules.record import Record
from ledger.rules.world import octets

BYTES = 16


def given(secret: Record) -> str:
    """The salt in a record of the transient map, hex.

    Raises:
        Declined: there is none of :data:`BYTES` bytes.
    """
    return octets(secret, "salt", BYTES).hex()


def derived(place: str, *salts: str) -> str:
    """The salt of the value at ``place``, which was made from values with these, hex."""
    return sha256("\0".join((place, *salts)).encode()).hexdigest()[: 2 * BYTES]
