"""Records what a real network answers to the client, with Raft and with BFT: recorded-raft.json, recorded-bft.json.

Needs Fabric's commands (docs/fabric.md). Run: `python -m tests.vectors.fabric.record`. The requests are those of the
client; the answers are the network's, bytes and codes as they came.
"""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from ledger.fabric.commands import find
from ledger.fabric.errors import GatewayError
from ledger.fabric.events import Checkpoint, blocks, contract_events
from ledger.fabric.gateway import Deadlines, Gateway
from ledger.fabric.identities import Authority, Subject
from ledger.fabric.network import processes
from ledger.fabric.network.layout import Layout
from ledger.fabric.network.life import services
from ledger.fabric.stub import Identity
from signer.keys.file import FileKey
from tests.fabricnet import running
from tests.ledger.fabric.tried import ENDORSERS, Tried, tried

FOLDER = Path(__file__).parent
_STATUS = "grpc-status-details-bin"


class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[misc]
    """Writes down what goes through a channel."""

    def __init__(self) -> None:
        self.name = ""
        self.exchanges: list[dict[str, Any]] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = continuation(details, request)
        entry = self._entry(details, request, call.code().name)
        if call.code() is grpc.StatusCode.OK:
            entry["answer"] = _text(call.result())
        else:
            trailing = dict(call.trailing_metadata() or ()).get(_STATUS, b"")
            entry |= {"message": call.details(), "details": base64.b64encode(trailing).decode()}
        return call

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return _Stream(continuation(details, request), self._entry(details, request, "OK"))

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        sent = list(requests)
        return _Stream(continuation(details, iter(sent)), self._entry(details, sent[0], "OK"))

    def _entry(self, details: Any, request: Any, code: str) -> dict[str, Any]:
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        entry = {"name": self.name, "method": method, "request": _text(request), "code": code}
        self.exchanges.append(entry)
        return entry


class _Stream:
    """A stream whose messages are written down."""

    def __init__(self, call: Any, entry: dict[str, Any]) -> None:
        self._call = call
        self._messages = entry["messages"] = []

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        message = next(self._call)
        self._messages.append(_text(message))
        return message

    def cancel(self) -> None:
        self._call.cancel()


def play(network: Tried, recorder: Recorder) -> None:
    """Everything that a client meets, by and by."""
    gateway = network.gateway(channel=grpc.intercept_channel(network.channel(), recorder))
    found = gateway.network(network.profile.channel)
    contract = found.contract(network.name)

    def take(name: str, *work: Callable[[], object]) -> None:
        recorder.name = name
        for step in work:
            with suppress(GatewayError):
                step()
        recorder.name = "prepared"

    begun = contract.submit("put", b"first", b"v")
    assert begun == b"-"
    with blocks(found) as all_blocks:
        recorder.name = "not kept"
        last = next(
            block
            for block in all_blocks
            if any(t.content and t.content.contract == "tried" for t in block.transactions)
        )
    recorder.exchanges.clear()

    take("submit", lambda: contract.submit("put", b"k", b"v"))
    take("evaluate", lambda: contract.evaluate("get", b"k"))
    take("transient", lambda: contract.submit("secret", transient={"secret": b"nobody's business"}))
    take("refusal", lambda: contract.submit("refuse"), lambda: contract.evaluate("refuse"))
    take("failure", lambda: contract.submit("fail"), lambda: contract.evaluate("fail"))
    take("mismatch", lambda: contract.submit("differ"))
    rivals = [contract.new_proposal("put", b"r", b"w").endorse() for _ in range(2)]
    take("conflict", *(lambda rival=rival: rival.submit().wait() for rival in rivals))  # type: ignore[misc]
    take("copy", rivals[0].submit, lambda: rivals[0].commit.wait())
    proposal = contract.new_proposal("put", b"again", b"w")
    take("replay", lambda: proposal.endorse().submit().wait(), proposal.endorse)
    take("no such channel", lambda: gateway.network("nowhere").contract("tried").submit("put", b"k", b"v"))
    take(
        "no such contract",
        lambda: found.contract("nothing").submit("put"),
        lambda: found.contract("nothing").evaluate("get"),
    )
    take("no such organisation", lambda: contract.new_proposal("put", b"k", b"v", organisations=["Org9MSP"]).endorse())
    take(
        "named organisations",
        lambda: contract.new_proposal("put", b"n", b"v", organisations=ENDORSERS).endorse().submit().wait(),
    )
    signed = contract.new_proposal("put", b"f", b"v").endorse().envelope
    take("forged", found.transaction(signed[:-1] + bytes([signed[-1] ^ 1])).submit)

    foreign = Authority.create(ENDORSERS[0], "CA").identity(Subject("mallory"))
    pem = foreign.certificate.public_bytes(Encoding.PEM)
    stranger = Gateway(
        gateway.channel, Identity(ENDORSERS[0], pem), FileKey(foreign.key), certificate_hash=gateway.certificate_hash
    )
    theirs = stranger.network(found.name)
    take(
        "stranger",
        lambda: theirs.contract("tried").submit("put", b"s", b"s"),
        lambda: theirs.contract("tried").evaluate("get", b"s"),
        lambda: theirs.commit(rivals[0].tx_id).wait(),
        lambda: next(iter(blocks(theirs))),
        lambda: next(iter(contract_events(theirs, "tried"))),
    )
    hasty = network.gateway(deadlines=Deadlines(status_s=0.5), channel=gateway.channel)
    take("deadline", lambda: hasty.network(found.name).commit("00" * 32).wait())

    with blocks(found, last.checkpoint) as following:
        take("blocks", lambda: list(islice(following, 4)))
    with contract_events(found, "tried", Checkpoint(last.number)) as events:
        take("events", lambda: list(islice(events, 3)))

    ready = [contract.new_proposal("put", b"%d" % number, b"v").endorse() for number in range(2)]
    network.servers[ENDORSERS[1]].stop(0.0)
    time.sleep(1)
    take("an organisation's contract is down", lambda: contract.submit("put", b"down", b"v"))
    orderers = [one for one in services(Layout(network.profile.folder), network.profile) if "orderer" in one.name]
    processes.stop(orderers)
    take("no orderer", ready[0].submit, lambda: hasty.network(found.name).commit(ready[0].tx_id).wait())
    peers = [one for one in services(Layout(network.profile.folder), network.profile) if "peer" in one.name]
    processes.stop(peers)
    take("no peer", ready[1].submit, ready[1].commit.wait, lambda: contract.evaluate("get", b"k"))


def _text(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def main() -> None:
    """Write the files."""
    commands = find()
    for consensus in ("raft", "bft"):
        recorder = Recorder()
        with (
            tempfile.TemporaryDirectory() as place,
            running(commands, Path(place, "network"), small=consensus == "raft") as profile,
            tried(commands, profile, Path(place)) as network,
        ):
            play(network, recorder)
        held = {"fabric": "3.1.5", "consensus": consensus, "exchanges": recorder.exchanges}
        (FOLDER / f"recorded-{consensus}.json").write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
