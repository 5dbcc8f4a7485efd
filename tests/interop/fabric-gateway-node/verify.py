"""The official Node client sees the same at the fake Gateway and at a real network, with Raft and with BFT.

What it sees at the fake proves the fake; where Fabric's commands are not found, that is all, and said.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ledger.fabric.commands import CommandsMissing, find
from tests.fabricnet import running
from tests.ledger.fabric.fakegateway import gateway_over, member
from tests.ledger.fabric.tried import ENDORSERS, invoke, tried

VALID, CONFLICT = 0, 11
ABORTED, UNKNOWN, UNAVAILABLE, DENIED = 10, 2, 14, 7


def seen(client: str, *arguments: object) -> dict[str, Any]:
    """What the client writes."""
    run = subprocess.run(
        ["node", client, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    if run.returncode:
        sys.exit(f"fabric-gateway-node: {run.stderr}")
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def at_the_fake(client: str, consensus: str) -> dict[str, bool]:
    """The facts at our fake Gateway."""
    alice = member("Org1MSP", "alice")
    with tempfile.TemporaryDirectory() as folder, gateway_over(invoke, consensus=consensus) as (_, address):
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate.write_bytes(alice.identity.pem)
        key.write_bytes(alice.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        found = seen(client, address, "energy", "tried", "Org1MSP", certificate, key, 1, "Org1MSP")
    return facts(found, consensus, 1, "Org1MSP")


def at_a_network(client: str, consensus: str) -> dict[str, bool]:
    """The facts at a real network, made for this."""
    commands, small = find(), consensus == "raft"
    with (
        tempfile.TemporaryDirectory() as folder,
        running(commands, Path(folder, "network"), small) as profile,
        tried(commands, profile, Path(folder)) as network,
    ):
        with network.gateway() as gateway:
            before = gateway.network(profile.channel).contract("tried").new_proposal("put", b"before", b"v")
            start = before.endorse().submit().wait() + 1
        who, tls = profile.identity(ENDORSERS[0], "operator"), network.tls()
        saw = seen(
            client,
            profile.peers_of(ENDORSERS[0])[0].address,
            profile.channel,
            "tried",
            ENDORSERS[0],
            who.certificate,
            profile.folder / who.key.removeprefix("file:"),
            start,
            ",".join(ENDORSERS),
            tls.roots,
            tls.key,
            tls.certificate,
        )
    return facts(saw, consensus, start, ENDORSERS[0])


def facts(found: dict[str, Any], consensus: str, start: int, msp_id: str) -> dict[str, bool]:
    """Each fact, and whether it is so."""

    def failed(what: str, name: str, code: int, words: str) -> bool:
        error = found[what]
        said = [detail["message"] for detail in error.get("details") or []]
        return (error["name"], error["code"]) == (name, code) and (not words or any(words in text for text in said))

    bft = consensus == "bft"
    again = (
        failed("again", "SubmitError", UNAVAILABLE, "request already processed")
        if bft
        else found["again"]["name"] == "nothing failed"
    )
    events = found["first"] + found["second"]
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
        "blocks come in order": [number for number, _ in found["blocks"]]
        == list(range(start, found["offline"]["blockNumber"] + 1)),
        "with the codes of their transactions": [codes for _, codes in found["blocks"]][:2] == [[VALID], [VALID]],
        "events come once, behind a checkpoint": [event[2] for event in events] == ["k", "n", "o", "r"],
        "another key is refused": failed("stranger", "EndorseError", ABORTED, f"creator org [{msp_id}]"),
        "a forged signature learns no status": failed("strangerStatus", "CommitStatusError", DENIED, ""),
    }


def main() -> int:
    """Print what is not so."""
    wrong = 0
    for where, look in (("fake Gateway", at_the_fake), ("real network", at_a_network)):
        for consensus in ("raft", "bft"):
            try:
                found = look(sys.argv[1], consensus)
            except CommandsMissing as missing:
                print(f"fabric-gateway-node, {where}, {consensus}: NOT RUN: {missing}")
                continue
            for fact, true in found.items():
                if not true:
                    wrong += 1
                    print(f"fabric-gateway-node, {where}, {consensus}: NOT SO: {fact}")
            print(f"fabric-gateway-node, {where}, {consensus}: {sum(found.values())} of {len(found)} facts are so")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
