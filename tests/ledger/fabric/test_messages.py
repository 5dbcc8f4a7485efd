"""The bytes: frozen vectors, properties of signatures, and a transaction with one thing changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from fabric_protos.peer.proposal_pb2 import Proposal
from hypothesis import given
from hypothesis import strategies as st

from ledger.fabric import messages
from ledger.fabric.messages import Invocation, Malformed
from ledger.fabric.stub import Identity
from signer.cose import CURVE_ORDER
from signer.keys.file import FileKey

VECTOR: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "fabric" / "transaction.json").read_text())
KEY = ec.derive_private_key(int(VECTOR["private"], 16), ec.SECP256R1())
ALICE = Identity("Org1MSP", VECTOR["certificate"].encode())
PROPOSED = bytes.fromhex(VECTOR["proposal"])
PREPARED = bytes.fromhex(VECTOR["prepared"])


def test_transaction_id_and_proposal_are_the_vectors() -> None:
    invocation = Invocation(
        "energy", "measurements", (b"SubmitBatch", b'{"stream":"gw1/0"}'), {"batch": b"nobody's business"}
    )
    creator = messages.serialised(ALICE)
    tx_id, proposed = messages.proposal(invocation, creator, bytes.fromhex(VECTOR["nonce"]), VECTOR["time_ns"])
    assert (tx_id, proposed) == (VECTOR["tx_id"], PROPOSED)
    assert tx_id == hashlib.sha256(bytes(range(24)) + b"\x0a\x07Org1MSP\x12" + creator[10:]).hexdigest()


def test_signatures_and_envelope_are_the_vectors() -> None:
    key = FileKey(KEY, deterministic=True)
    assert messages.sign(key, PROPOSED).hex() == VECTOR["proposal_signature"]
    assert messages.envelope(PREPARED, messages.sign(key, PREPARED)).hex() == VECTOR["envelope"]


def test_what_is_inside_the_vector() -> None:
    content = messages.check_echo(PREPARED, PROPOSED)
    assert content == messages.opened(PREPARED)
    assert (content.channel, content.contract, content.tx_id) == ("energy", "measurements", VECTOR["tx_id"])
    assert (content.creator, content.timestamp_ns) == (ALICE, VECTOR["time_ns"])
    assert (content.arguments, content.result) == ((b"SubmitBatch", b'{"stream":"gw1/0"}'), b"receipt")
    assert content.event == ("batch", b"gw1/0")
    assert b"nobody's business" not in PREPARED


@given(st.binary(max_size=200))
def test_signatures_are_der_low_s_and_verify(message: bytes) -> None:
    signature = messages.sign(FileKey(KEY), message)
    KEY.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
    assert decode_dss_signature(signature)[1] <= CURVE_ORDER // 2


@given(place=st.integers(0, len(PREPARED) - 1), bit=st.integers(0, 7))
def test_no_changed_bit_changes_what_was_proposed(place: int, bit: int) -> None:
    """Accepted or not, what would be signed is what was asked."""
    changed = bytearray(PREPARED)
    changed[place] ^= 1 << bit
    try:
        content = messages.check_echo(bytes(changed), PROPOSED)
    except Malformed:
        return
    assert (content.tx_id, content.contract) == (VECTOR["tx_id"], "measurements")
    assert content.arguments == (b"SubmitBatch", b'{"stream":"gw1/0"}')


@given(st.binary(max_size=300))
def test_garbage_is_malformed(data: bytes) -> None:
    for read in (messages.opened, lambda payload: messages.check_echo(payload, PROPOSED)):
        with pytest.raises(Malformed):
            read(data)


def test_a_proposal_holds_the_transient_map_and_its_transaction_does_not() -> None:
    assert b"nobody's business" in Proposal.FromString(PROPOSED).payload
