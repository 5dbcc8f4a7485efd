"""Makes transaction.json: a proposal, its transaction and its signatures, from a fixed key, nonce and time.

Run once: `python -m tests.vectors.fabric.make`. The file is frozen; what changes it changes what peers must accept.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fabric_protos.peer import proposal_pb2
from fabric_protos.peer.proposal_response_pb2 import Response

from ledger.fabric import messages
from ledger.fabric.messages import Invocation
from ledger.fabric.stub import Identity
from signer.keys.file import FileKey
from tests.ledger.fabric.fakegateway import FakeGateway, organisation
from tests.ledger.fabric.fakepeer import FakePeer, Simulation

PLACE = Path(__file__).with_name("transaction.json")
SECRET = 0x1F2E3D4C5B6A79880123456789ABCDEF1F2E3D4C5B6A79880123456789ABCDEF
NONCE = bytes(range(24))
TIME_NS = 1_790_000_000_123_456_789
ARGUMENTS = (b"SubmitBatch", b'{"stream":"gw1/0"}')


def main() -> None:
    """Write the file."""
    private = ec.derive_private_key(SECRET, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .sign(private, hashes.SHA256(), ecdsa_deterministic=True)
    )
    identity = Identity("Org1MSP", certificate.public_bytes(Encoding.PEM))
    key = FileKey(private, deterministic=True)
    invocation = Invocation("energy", "measurements", ARGUMENTS, {"batch": b"nobody's business"})
    tx_id, proposed = messages.proposal(invocation, messages.serialised(identity), NONCE, TIME_NS)
    gateway = FakeGateway(FakePeer(), {"Org1MSP": organisation("Org1MSP")})
    simulation = Simulation(tx_id, None, "Org1MSP", None, "energy")
    simulation.response = Response(status=200, payload=b"receipt")
    simulation.event = ("batch", b"gw1/0")
    payload = gateway._prepare(proposal_pb2.Proposal.FromString(proposed), simulation)
    held = {
        "private": f"{SECRET:064x}",
        "certificate": identity.pem.decode(),
        "nonce": NONCE.hex(),
        "time_ns": TIME_NS,
        "tx_id": tx_id,
        "proposal": proposed.hex(),
        "proposal_signature": messages.sign(key, proposed).hex(),
        "prepared": payload.hex(),
        "envelope": messages.envelope(payload, messages.sign(key, payload)).hex(),
    }
    PLACE.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
