"""Numbers that look random and are the same every time: a hash of a seed and a position.

Pure integers, so that every machine and every Python gets the same ones; any position costs the same.
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
SPREAD = 1000
"""Results lie in -SPREAD..SPREAD."""


def seed_of(*words: object) -> int:
    """A 32-bit seed from anything with a plain text (FNV-1a: short, and the same everywhere)."""
    hashed = 0x811C9DC5
    for byte in "/".join(map(str, words)).encode():
        hashed = (hashed ^ byte) * 0x01000193 & _MASK
    return hashed


def at(seed: int, position: int) -> int:
    """-1000..1000, independent for every position (the finaliser of MurmurHash3)."""
    mixed = (seed + position * 0x9E3779B9) & _MASK
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & _MASK
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & _MASK
    return (mixed ^ mixed >> 16) % (2 * SPREAD + 1) - SPREAD


def smooth(seed: int, position: int, spacing: int) -> int:
    """-1000..1000, moving in straight lines between independent knots ``spacing`` apart."""
    knot, along = divmod(position, spacing)
    left, right = at(seed, knot), at(seed, knot + 1)
    return left + (right - left) * along // spacing
