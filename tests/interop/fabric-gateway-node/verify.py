"""Holds what the official Node client sees at the fake Gateway against the real one, with Raft and with BFT."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ledger.fabric.stub import Refused, Stub
from tests.ledger.fabric.fakegateway import gateway_over, member

VALID, DUPLICATE, CONFLICT = 0, 9, 11
ABORTED, UNKNOWN, UNAVAILABLE, DENIED = 10, 2, 14, 7


def invoke(stub: Stub) -> bytes:
    """put KEY VALUE, get KEY, secret, refuse."""
    match stub.function:
        case b"put":
            key = stub.arguments[0].decode()
            before = stub.get(key)
            stub.put(key, stub.arguments[1])
            stub.set_event("put", stub.arguments[0])
            return before or b"-"
        case b"get":
            return stub.get(stub.arguments[0].decode()) or b"-"
        case b"secret":
            return b"%d bytes" % len(stub.transient["secret"])
        case _:
            raise Refused("out of order", "the ledger has 7", 409)


def seen(client: str, consensus: str) -> dict[str, Any]:
    """What the client writes."""
    alice = member("Org1MSP", "alice")
    with tempfile.TemporaryDirectory() as folder, gateway_over(invoke, consensus=consensus) as (_, address):
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate.write_bytes(alice.identity.pem)
        key.write_bytes(alice.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        command = ["node", client, address, "energy", "tried", "Org1MSP", str(certificate), str(key), consensus]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if run.returncode:
        sys.exit(f"fabric-gateway-node: {run.stderr}")
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def expected(found: dict[str, Any], consensus: str) -> dict[str, bool]:
    """Each fact, and whether it is so."""

    def failed(what: str, name: str, code: int, words: str) -> bool:
        error = found[what]
        said = [detail["message"] for detail in error.get("details") or []]
        return (error["name"], error["code"]) == (name, code) and (not words or any(words in text for text in said))

    bft = consensus == "bft"
    after_copy = 5 if bft else 6  # behind Raft the copy has a block
    again = (
        failed("again", "SubmitError", UNAVAILABLE, "request already processed")
        if bft
        else found["again"]["name"] == "nothing failed"
    )
    return {
        "a transaction is submitted, and read back": (found["submitted"], found["evaluated"]) == ("-", "v"),
        "transient data arrive": found["secret"] == "17 bytes",
        "endorsing organisations may be named": found["named"] == "-",
        "signed offline it is committed": found["offline"]["successful"] and found["sameId"],
        "a copy is answered as the consensus does": again,
        "and changes nothing": found["offlineAgain"] == found["offline"],
        "a refusal on endorse has its details": failed(
            "endorseRefused", "EndorseError", ABORTED, "chaincode response 409, out of order: the ledger has 7"
        ),
        "a refusal on evaluate has its details": failed(
            "evaluateRefused", "GatewayError", UNKNOWN, "chaincode response 409, out of order: the ledger has 7"
        ),
        "an organisation without a peer is unavailable": failed("nobody", "EndorseError", UNAVAILABLE, ""),
        "of two rivals one is valid": found["rivals"] == [VALID, CONFLICT],
        "blocks come from the first": found["blocks"] == [[number, [VALID]] for number in range(5)],
        "events come once, behind a checkpoint": (found["first"], found["second"])
        == ([[1, "put", "k"], [3, "put", "n"]], [[4, "put", "o"], [after_copy, "put", "r"]]),
        "another key is refused": failed("stranger", "EndorseError", ABORTED, "creator org [Org1MSP]"),
        "a forged signature learns no status": failed("strangerStatus", "CommitStatusError", DENIED, ""),
    }


def main() -> int:
    """Print what is not so."""
    wrong = 0
    for consensus in ("raft", "bft"):
        found = seen(sys.argv[1], consensus)
        facts = expected(found, consensus)
        for fact, true in facts.items():
            if not true:
                wrong += 1
                print(f"fabric-gateway-node, {consensus}: NOT SO: {fact}\n{json.dumps(found, indent=1)}")
        print(f"fabric-gateway-node, {consensus}: {sum(facts.values())} of {len(facts)} facts are so")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
