"""Merkle tree hash and inclusion proofs of RFC 9162, section 2.1, over SHA-256.

Pure; leaves are bytes of any length.

Rules
- A leaf hash is SHA-256(0x00 || leaf), a node hash SHA-256(0x01 || left || right); n leaves split at the largest power
  of two below n.
- A proof is checked against the tree's size, so a path of the wrong length proves nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


class Tree:
    """The root of leaves that come one after the other, in memory that grows with the tree's height only."""

    def __init__(self) -> None:
        self._subtrees: list[tuple[int, bytes]] = []  # (size, hash), sizes are falling powers of two

    def add(self, leaf: bytes) -> None:
        """Append one leaf."""
        size, node = 1, leaf_hash(leaf)
        while self._subtrees and self._subtrees[-1][0] == size:
            node = _node_hash(self._subtrees.pop()[1], node)
            size *= 2
        self._subtrees.append((size, node))

    def root(self) -> bytes:
        """Root of the leaves so far; SHA-256 of nothing for none."""
        if not self._subtrees:
            return hashlib.sha256(b"").digest()
        node = self._subtrees[-1][1]
        for _, left in reversed(self._subtrees[:-1]):
            node = _node_hash(left, node)
        return node


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def root(leaves: Iterable[bytes]) -> bytes:
    """Root of a list of leaves."""
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


def proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Inclusion path of leaf ``index``, from the leaf's sibling upwards.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    if len(leaves) == 1:
        return ()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return (*proof(leaves[:split], index), root(leaves[split:]))
    return (*proof(leaves[split:], index - split), root(leaves[:split]))


def verify_proof(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether ``path`` proves that ``leaf`` is leaf ``index`` of the tree of ``size`` leaves (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = _node_hash(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = _node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and node == expected_root


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
