"""Batches: what is built parses back, and nothing is built that parsing would refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signer import batch, merkle
from signer.codes import EventCode
from signer.statement import Statement


def rows(made: list[Statement]) -> list[tuple[bytes, bytes]]:
    return [(one.sid, one.data) for one in made]


def test_largest(site: Any) -> None:
    site.begin()
    made = [site.chain.event("-", site.instant(), EventCode.FROZEN) for _ in range(batch.MAX_STATEMENTS)]
    stream, prev = site.chain.head.stream, site.statements[0].sid
    built = batch.build(stream, 1, prev, rows(made))
    parsed, claims = batch.parse(built.data)
    assert parsed == built
    assert [claim.sid for claim in claims] == [one.sid for one in made]
    one_more = site.chain.event("-", site.instant(), EventCode.FROZEN)
    with pytest.raises(ValueError, match="1001 statements"):
        batch.build(stream, 1, prev, rows([*made, one_more]))
    with pytest.raises(ValueError, match="0 statements"):
        batch.build(stream, 1, prev, [])


def test_too_long(site: Any) -> None:
    site.begin()
    words = "w" * 256
    made = [site.chain.event("-", site.instant(), EventCode.FROZEN, None, words) for _ in range(600)]
    with pytest.raises(ValueError, match="at most 262144"):
        batch.build(site.chain.head.stream, 1, site.statements[0].sid, rows(made))


def test_another_signature_changes_no_root(site: Any) -> None:
    """The same statement signed twice is one statement."""
    site.begin()
    head = site.chain.head
    site.chain._random = lambda size: bytes(size)
    first = site.chain.event("-", site.instant(), EventCode.FROZEN)
    site.chain.head = head
    second = site.chain.event("-", site.instant(), EventCode.FROZEN)
    assert first.data != second.data
    assert first.sid == second.sid
    built = [batch.build(head.stream, 1, head.sid, rows([one])) for one in (first, second)]
    assert built[0].root == built[1].root


def test_one_statement_can_be_proved_alone(running: Any) -> None:
    made = running.batches[0]
    _, claims = batch.parse(made.data)
    leaves = [
        batch.header_leaf(made.stream, made.first, made.count, made.prev, made.head),
        *(claim.sid for claim in claims),
    ]
    for index, leaf in enumerate(leaves):
        path = merkle.proof(leaves, index)
        assert merkle.verify_proof(leaf, index, made.count + 1, path, made.root)


@given(st.lists(st.binary(max_size=8), max_size=40), st.data())
@settings(max_examples=150, deadline=None)
def test_proofs(leaves: list[bytes], data: st.DataObject) -> None:
    """Each leaf's path proves it at its place in a tree of that size, and nothing else."""
    tree = merkle.Tree()
    for number, leaf in enumerate(leaves):
        tree.add(leaf)
        assert tree.root() == merkle.root(leaves[: number + 1])
    for bad in (-1, len(leaves)):
        with pytest.raises(IndexError):
            merkle.proof(leaves, bad)
    if not leaves:
        return
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) + 2))
    path, root = merkle.proof(leaves, index), merkle.root(leaves)
    assert merkle.verify_proof(leaves[index], index, len(leaves), path, root)
    if other != index and path:
        proved = merkle.verify_proof(leaves[index], other, len(leaves), path, root)
        assert not proved or (other < len(leaves) and leaves[other] == leaves[index])
    assert not merkle.verify_proof(leaves[index] + b"x", index, len(leaves), path, root)
    assert not merkle.verify_proof(leaves[index], index, len(leaves), (*path, root), root)
    assert not path or not merkle.verify_proof(leaves[index], index, len(leaves), path[:-1], root)
