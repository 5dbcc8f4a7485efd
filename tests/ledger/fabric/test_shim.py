"""The server: every call answered, each to whom it is for, whatever contract, peer or network do.

The first tests are what the official Python library gets wrong (tests/interop/fabric-chaincode has it at work).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fabric_protos.peer.chaincode_pb2 import ChaincodeInput

from ledger.fabric.shim import Server, Tls
from ledger.fabric.stub import PeerError, Refused, StreamLost, Stub
from tests.ledger.fabric.fakepeer import Cell, Collection, FakePeer, Fault, Message, serving

SECRET = "a-payload-nobody-may-log"


def until(happened: Callable[[], bool], patience_s: float = 10.0) -> bool:
    deadline = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def copy(stub: Stub) -> bytes:
    """Reads and writes as the arguments say: from, to."""
    source, target = (argument.decode() for argument in stub.arguments)
    stub.put(target, stub.get(source) or source.encode())
    return target.encode()


# --- what the official library gets wrong ---


def test_a_put_into_a_missing_collection_is_never_valid(caplog: pytest.LogCaptureFixture) -> None:
    def invoke(stub: Stub) -> bytes:
        stub.put("k", b"v", "missing")
        return b"endorsed"

    with serving(invoke) as peer:
        outcome = peer.commit("F")
    assert (outcome.status, outcome.message, outcome.code) == (500, "PeerError", "")
    assert "PeerError at test_shim.py:" in caplog.text


def test_an_error_is_no_value() -> None:
    given: list[object] = []

    def invoke(stub: Stub) -> bytes:
        given.append(stub.get("k"))
        return b""

    with serving(invoke) as peer:
        peer.faults.append(Fault("GET_STATE", error="the disk is full"))
        assert peer.commit("F").status == 500
    assert given == []


def test_many_transactions_at_once_do_not_disturb_each_other() -> None:
    meet = threading.Barrier(8)

    def invoke(stub: Stub) -> bytes:
        meet.wait(10)
        read = [stub.get(f"k{i}") for i in range(20)]
        stub.put(stub.arguments[0].decode(), b"v")
        return stub.arguments[0] + b"".join(value or b"-" for value in read)

    with serving(invoke) as peer, ThreadPoolExecutor(8) as callers:
        for run in range(3):
            wanted = [f"{run}-{i}".encode() for i in range(8)]
            outcomes = list(callers.map(lambda argument: peer.commit("F", [argument]), wanted))
            assert [outcome.payload for outcome in outcomes] == [argument + b"-" * 20 for argument in wanted]
            assert all(outcome.committed for outcome in outcomes)
        assert peer.dropped == []


@pytest.mark.parametrize("error", [KeyError(SECRET), SystemExit(1), RecursionError(SECRET), PeerError(SECRET)])
def test_every_exception_is_answered_with_its_class_alone(error: BaseException) -> None:
    def invoke(stub: Stub) -> bytes:
        stub.put("k", b"v")
        raise error

    with serving(invoke) as peer:
        outcome = peer.commit("F")
        assert (outcome.status, outcome.message, outcome.payload) == (500, type(error).__name__, b"")
        assert peer.world["tried"].public == {}


def test_a_handler_that_gives_no_bytes_has_failed() -> None:
    with serving(lambda stub: None) as peer:  # type: ignore[arg-type,return-value]
        assert peer.commit("F").message == "TypeError"


def test_a_refusal_has_a_status_a_reason_and_words() -> None:
    def invoke(stub: Stub) -> bytes:
        stub.put("k", b"v")
        stub.set_event("never", b"")
        raise Refused("out of order", "the ledger has 7", 409)

    with serving(invoke) as peer:
        outcome = peer.commit("F")
        assert (outcome.status, outcome.message, outcome.event) == (409, "out of order: the ledger has 7", None)
        assert peer.world["tried"].public == {}


def test_large_messages_both_ways() -> None:
    """gRPC's default is 4 MB."""
    large = os.urandom(20_000_000)

    def invoke(stub: Stub) -> bytes:
        stub.put("k", stub.transient["x"], "ours")
        return stub.transient["x"]

    with serving(invoke, {"ours": Collection(("Org1MSP",))}) as peer:
        assert peer.commit("F", transient={"x": large}).payload == large
        assert peer.world["tried"].private["ours"]["k"].value == large


def test_what_is_too_large_is_an_error_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.fabric.shim.MAX_MESSAGE_BYTES", 10_000)

    def invoke(stub: Stub) -> bytes:
        if stub.function == b"Put":
            stub.put("k", b"x" * 10_001)
        return b"x" * int(stub.arguments[0])

    with serving(invoke) as peer:
        assert peer.commit("Put", [b"1"]).message == "ValueError"
        assert peer.commit("Get", [b"10001"]).message == "TooLarge"
        assert peer.commit("Get", [b"9000"]).committed


def test_nothing_of_a_payload_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    caplog.set_level(logging.DEBUG)

    def invoke(stub: Stub) -> bytes:
        stub.put(SECRET, stub.transient[SECRET])
        stub.get(SECRET)
        if stub.function == b"Fail":
            raise ValueError(SECRET)
        stub.put(SECRET, b"", "nowhere")
        return SECRET.encode()

    with serving(invoke) as peer:
        caplog.set_level(logging.DEBUG, "ledger.fabric.shim")
        for function in ("Fail", "Put"):
            peer.commit(function, [SECRET.encode()], transient={SECRET: SECRET.encode()})
        peer.faults.append(Fault("GET_STATE", twice=True, error=SECRET))
        peer.commit("Put", [SECRET.encode()], transient={SECRET: SECRET.encode()})
    assert "ValueError at test_shim.py" in caplog.text
    assert SECRET not in caplog.text
    caplog.set_level(before[0])
    assert (root.level, root.handlers) == (before[0], before[1])


# --- the stream ---


def test_what_is_for_another_transaction_or_nobody_is_dropped() -> None:
    with serving(copy) as peer:
        peer.faults += [
            Fault("GET_STATE", txid="0" * 64),
            Fault("PUT_STATE", twice=True),
        ]
        for number in range(3):
            outcome = peer.commit("F", [b"from", b"to%d" % number])
            assert outcome.committed
        assert {key: cell.value for key, cell in peer.world["tried"].public.items()} == {
            "to0": b"from",
            "to1": b"from",
            "to2": b"from",
        }


def test_an_answer_given_twice_is_not_the_next_answer() -> None:
    """The second copy comes while nobody asks: the handler waits in between."""
    arrived = threading.Event()

    def invoke(stub: Stub) -> bytes:
        first = stub.get("a")
        arrived.wait(10)
        return (first or b"-") + (stub.get("b") or b"-")

    with serving(invoke) as peer:
        peer.world["tried"].public.update(_cells(a=b"A", b=b"B"))
        peer.faults.append(Fault("GET_STATE", twice=True))
        threading.Timer(0.3, arrived.set).start()
        assert peer.commit("F").payload == b"AB"


def test_an_unknown_type_of_message_is_answered_and_does_no_harm() -> None:
    with serving(copy) as peer:
        peer.faults.append(Fault("GET_STATE", kind=99))
        assert peer.commit("F", [b"a", b"b"]).committed
        stream = peer.contracts["tried"].stream
        assert stream is not None
        assert until(lambda: stream.errors == [b"unknown type of message"])
        assert peer.commit("F", [b"a", b"c"]).committed


def test_a_transaction_that_comes_again_while_it_runs_is_not_done_twice() -> None:
    hold = threading.Event()
    begun: list[str] = []

    def invoke(stub: Stub) -> bytes:
        begun.append(stub.tx_id)
        hold.wait(10)
        return b""

    with serving(invoke) as peer, ThreadPoolExecutor(1) as caller:
        signed = peer.propose("F")
        running = caller.submit(peer.endorse, signed)
        assert until(lambda: len(begun) == 1)
        stream = peer.contracts["tried"].stream
        assert stream is not None
        again = ChaincodeInput(args=[b"F"]).SerializeToString()
        stream.send(
            Message(type=Message.TRANSACTION, payload=again, txid=begun[0], channel_id="energy", proposal=signed)
        )
        stream.send(Message(type=Message.KEEPALIVE))
        assert until(lambda: "KEEPALIVE" in peer.seen)  # so what came before has been looked at
        hold.set()
        assert running.result(10).response.status == 200
        assert len(begun) == 1


def test_keepalives_come_back() -> None:
    with serving(copy) as peer:
        peer.commit("F", [b"a", b"b"])
        stream = peer.contracts["tried"].stream
        assert stream is not None
        stream.send(Message(type=Message.KEEPALIVE))
        assert until(lambda: "KEEPALIVE" in peer.seen)


def test_a_slow_peer_holds_up_one_transaction_only() -> None:
    go_on = threading.Event()
    with serving(copy) as peer, ThreadPoolExecutor(1) as caller:
        peer.faults.append(Fault("GET_STATE", wait=go_on))
        slow = caller.submit(peer.commit, "F", [b"a", b"slow"])
        assert until(lambda: "GET_STATE" in peer.seen)
        for number in range(5):
            assert peer.commit("F", [b"a", b"quick%d" % number]).committed
        assert not slow.done()
        go_on.set()
        assert slow.result(10).committed


@pytest.mark.parametrize("on", ["GET_STATE", "PUT_STATE", "COMPLETED"])
def test_a_stream_that_is_cut_ends_its_transactions_and_the_next_begins(on: str) -> None:
    ended: list[type[BaseException]] = []

    def invoke(stub: Stub) -> bytes:
        try:
            return copy(stub)
        except BaseException as error:
            ended.append(type(error))
            raise

    with serving(invoke) as peer:
        peer.faults.append(Fault(on, cut=True))
        assert "stream terminated" in peer.commit("F", [b"a", b"b"]).message
        if on != "COMPLETED":
            assert until(lambda: ended == [StreamLost])
        assert peer.commit("F", [b"a", b"b"]).committed


def test_a_second_stream_of_the_same_peer_does_not_disturb_the_first() -> None:
    """A peer that lost its connection comes again before the server has noticed."""
    hold = threading.Event()

    def invoke(stub: Stub) -> bytes:
        if stub.function == b"Wait":
            hold.wait(10)
        return copy(stub)

    with _server(invoke) as (server, port), FakePeer() as first, FakePeer() as second:
        for peer in (first, second):
            peer.install("tried", f"127.0.0.1:{port}", package_id="tried:1")
        with ThreadPoolExecutor(1) as caller:
            signed = first.propose("Wait", [b"a", b"b"])
            waits = caller.submit(first.endorse, signed)
            assert until(lambda: [stream.running for stream in server.health()] == [1])
            # The very same transaction on the other stream is another one here.
            assert second.commit("F", [b"a", b"b"]).committed
            assert sorted(stream.state for stream in server.health()) == ["ready", "ready"]
            hold.set()
            assert waits.result(10).response.status == 200
            second.close()
            assert until(lambda: len(server.health()) == 1)
            assert first.commit("F", [b"a", b"c"]).committed


def test_too_many_at_once_are_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.fabric.shim._QUEUE", 1)
    hold = threading.Event()

    def invoke(stub: Stub) -> bytes:
        hold.wait(10)
        return b""

    with serving(invoke, workers=2) as peer, ThreadPoolExecutor(8) as callers:
        running = [callers.submit(peer.query, "F") for _ in range(4)]
        assert until(lambda: len(_contexts(peer)) == 4)
        stopped = peer.query("F")
        hold.set()
        assert (stopped.status, stopped.message) == (503, "the contract's server is busy")
        assert [call.result(10).status for call in running] == [200] * 4


def test_the_health_of_a_stream() -> None:
    hold = threading.Event()

    def invoke(stub: Stub) -> bytes:
        if stub.function == b"Wait":
            hold.wait(10)
        return copy(stub)

    with _server(invoke) as (server, port), FakePeer() as peer, ThreadPoolExecutor(1) as caller:
        assert server.health() == []
        peer.install("tried", f"127.0.0.1:{port}", package_id="tried:1")
        peer.commit("F", [b"a", b"b"])
        peer.commit("F", [])
        waits = caller.submit(peer.commit, "Wait", [b"a", b"c"])
        assert until(lambda: server.health()[0].running == 1)
        health = server.health()[0]
        assert (health.state, health.answered, health.failed) == ("ready", 2, 1)
        assert health.peer.startswith("ipv4:127.0.0.1:")
        assert until(lambda: server.health()[0].longest_s > 0)
        hold.set()
        assert waits.result(10).committed


def test_a_package_id_that_the_peer_does_not_know_is_no_contract() -> None:
    with _server(copy) as (_, port), FakePeer(timeout_s=5) as peer:
        peer.install("tried", f"127.0.0.1:{port}", package_id="tried:2")
        assert "could not launch" in peer.commit("F", [b"a", b"b"]).message


def test_a_message_that_is_no_transaction_is_answered() -> None:
    with serving(copy) as peer:
        proposal = peer.propose("F", [b"a", b"b"], tx_id="f" * 64)
        simulation = peer.endorse(proposal)
        assert simulation.response.status == 200
        other = peer.propose("F", [b"a", b"b"], tx_id="e" * 64)
        simulation.signed = other
        stream = peer.contracts["tried"].stream
        assert stream is not None
        answer = stream.execute(simulation, ChaincodeInput(args=[b"F", b"a", b"b"]))
        assert b"ValueError" in answer.payload


def test_a_transaction_that_is_over_cannot_be_used() -> None:
    kept: list[Stub] = []

    def invoke(stub: Stub) -> bytes:
        kept.append(stub)
        return b""

    with serving(invoke) as peer:
        peer.commit("F")
        with pytest.raises(StreamLost):
            kept[0].get("k")


def test_pings_with_nothing_else_to_say_do_not_end_the_connection() -> None:
    """HTTP/2 by hand: Fabric's peer pings each minute. gRPC's default says GOAWAY too_many_pings after the third."""

    def frame(kind: int, payload: bytes = b"") -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 0]) + payload

    with _server(copy) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4))
        for number in range(10):
            connection.sendall(frame(6, number.to_bytes(8, "big")))
        seen = b""
        while (9).to_bytes(8, "big") not in seen:
            received = connection.recv(4096)
            assert received, "closed"
            seen += received
        assert b"too_many_pings" not in seen


# --- TLS ---


def test_mutual_tls(tmp_path: Path) -> None:
    files = _identity(tmp_path)
    tls = Tls(files["key"], files["certificate"], files["certificate"])
    root = files["certificate"].read_bytes()
    with _server(copy, tls) as (_, port):
        ours = grpc.ssl_channel_credentials(root, files["key"].read_bytes(), root)
        for credentials, works in ((ours, True), (grpc.ssl_channel_credentials(root), False), (None, False)):
            with FakePeer(timeout_s=5) as peer:
                peer.install("tried", f"localhost:{port}", package_id="tried:1", credentials=credentials)
                assert peer.commit("F", [b"a", b"b"]).committed is works


def test_tls_that_cannot_be_is_an_error_and_no_plain_text(tmp_path: Path) -> None:
    files, other = _identity(tmp_path), _identity(tmp_path / "other")
    good = (files["key"], files["certificate"], files["certificate"])
    with pytest.raises(OSError, match=r"none\.pem"):
        Server("tried:1", copy, "127.0.0.1:0", Tls(*good[:2], tmp_path / "none.pem")).start()
    with pytest.raises(ValueError, match="is not the key of"):
        Server("tried:1", copy, "127.0.0.1:0", Tls(other["key"], *good[1:])).start()
    for place in range(3):
        broken = [*good]
        broken[place] = tmp_path / "broken.pem"
        broken[place].write_text("nothing")
        with pytest.raises(ValueError, match=r"(?i)pem"):
            Server("tried:1", copy, "127.0.0.1:0", Tls(*broken)).start()


def test_an_address_that_is_taken_is_an_error() -> None:
    with _server(copy) as (_, port), pytest.raises(OSError, match=str(port)):
        Server("other:1", copy, f"127.0.0.1:{port}", None).start()


# --- the end ---


def test_stopping_finishes_what_runs_and_turns_the_rest_away() -> None:
    hold, inside = threading.Event(), threading.Event()

    def invoke(stub: Stub) -> bytes:
        if stub.function == b"Wait":
            inside.set()
            hold.wait(10)
        return copy(stub)

    server = Server("tried:1", invoke, "127.0.0.1:0", None)
    port = server.start()
    with FakePeer() as peer, ThreadPoolExecutor(2) as callers:
        peer.install("tried", f"127.0.0.1:{port}", package_id="tried:1")
        running = callers.submit(peer.commit, "Wait", [b"a", b"b"])
        assert inside.wait(10)
        stopping = callers.submit(server.stop)
        assert until(lambda: peer.commit("F", [b"a", b"c"]).message == "the contract's server is stopping")
        hold.set()
        assert running.result(10).committed
        stopping.result(10)
        peer.timeout_s = 1.0
        assert peer.commit("F", [b"a", b"d"]).status == 0


def test_stopping_does_not_wait_for_ever() -> None:
    hold, inside = threading.Event(), threading.Event()
    ended: list[str] = []

    def invoke(stub: Stub) -> bytes:
        inside.set()
        hold.wait(20)
        try:
            return copy(stub)
        except StreamLost as error:
            ended.append(type(error).__name__)
            raise

    with _server(invoke) as (server, port), FakePeer() as peer, ThreadPoolExecutor(1) as caller:
        peer.install("tried", f"127.0.0.1:{port}", package_id="tried:1")
        running = caller.submit(peer.commit, "F", [b"a", b"b"])
        assert inside.wait(10)
        server.stop(patience_s=0.1)
        assert "terminated" in running.result(10).message
        hold.set()
        assert until(lambda: ended == ["StreamLost"])


SERVES = """
import logging, sys
from ledger.fabric.shim import Server

def invoke(stub):
    print("inside", flush=True)
    if stub.function == b"Wait":
        import time
        time.sleep(1.0)
    stub.put("k", b"v")
    return b"done"

logging.basicConfig(level=logging.INFO)
Server("tried:1", invoke, "127.0.0.1:" + sys.argv[1], None).serve()
print("served", flush=True)
"""


def test_sigterm_drains(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVES, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert until(lambda: _listens(port), 30)
        with FakePeer() as peer, ThreadPoolExecutor(1) as caller:
            peer.install("tried", f"127.0.0.1:{port}", package_id="tried:1")
            running = caller.submit(peer.commit, "Wait")
            assert process.stdout.readline() == "inside\n"
            process.send_signal(signal.SIGTERM)
            assert running.result(20).committed
        assert process.stdout.read() == "served\n"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


# --- helpers ---


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _server(invoke: Callable[[Stub], bytes], tls: Tls | None = None) -> Iterator[tuple[Server, int]]:
    server = Server("tried:1", invoke, "127.0.0.1:0", tls)
    port = server.start()
    try:
        yield server, port
    finally:
        server.stop(0.0)


def _contexts(peer: FakePeer) -> Any:
    stream = peer.contracts["tried"].stream
    return stream._contexts if stream is not None else {}


def _cells(**values: bytes) -> Iterator[tuple[str, Any]]:
    return ((key, Cell(value, (0, 0))) for key, value in values.items())


def _identity(folder: Path) -> dict[str, Path]:
    """A self-signed certificate for localhost, good for both ends."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = {"key": folder / "key.pem", "certificate": folder / "certificate.pem"}
    files["key"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files["certificate"].write_bytes(certificate.public_bytes(Encoding.PEM))
    return files
