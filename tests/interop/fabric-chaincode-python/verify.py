"""What is true of the official `fabric-chaincode-python`, and is the reason for `ledger/fabric/shim.py`.

    PYTHONPATH=. python verify.py PYTHON-WITH-THE-LIBRARY

Rules
- Its contract runs in a process of its own; the peer is the one of our tests, which speaks the real protocol.
- Each fact says what was seen with the version pinned here. Red means that a release has changed it: good news; look
  whether the reason for our own still holds.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.ledger.fabric.fakepeer import FakePeer, Fault, serving

HERE = Path(__file__).parent
SECRET = "a-payload-nobody-may-log"

FACTS: dict[str, Callable[[str], object]] = {}


def fact(words: str) -> Callable[[Callable[[str], object]], Callable[[str], object]]:
    def keep(check: Callable[[str], object]) -> Callable[[str], object]:
        FACTS[words] = check
        return check

    return keep


@contextmanager
def official(python: str, log: Path | None = None, **environment: str) -> Iterator[FakePeer]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryFile() if log is None else log.open("wb") as out:
        command = [python, str(HERE / "contract.py"), address]
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
        try:
            deadline = time.monotonic() + 30
            while not _listens(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the contract does not start")
                time.sleep(0.05)
            with FakePeer(timeout_s=3) as peer:
                peer.install("tried", address, package_id="tried:1")
                yield peer
        finally:
            process.kill()
            process.wait()


def _listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@fact("a put into a missing collection is endorsed and VALID")
def put_missing(python: str) -> bool:
    with official(python) as peer:
        return peer.commit("put_missing").code == "VALID"


@fact("a write that the peer refused is endorsed and VALID")
def put_refused(python: str) -> bool:
    with official(python) as peer:
        peer.faults.append(Fault("PUT_STATE", error="the disk is full"))
        outcome = peer.commit("put", [b"k"])
        return outcome.code == "VALID" and peer.world["tried"].public == {}


@fact("a read error comes back as the value")
def read_error(python: str) -> bool:
    with official(python) as peer:
        peer.faults.append(Fault("GET_STATE", error="the disk is full"))
        return b"the disk is full" in peer.query("get", [b"k"]).payload


@fact("several transactions at once go unanswered")
def at_once(python: str) -> bool:
    with official(python) as peer, ThreadPoolExecutor(16) as callers:
        for _ in range(5):
            outcomes = list(callers.map(lambda i: peer.commit("many", [b"p%d-" % i, b"50"]), range(16)))
            if any(outcome.status != 200 for outcome in outcomes):
                return True
    return False


@fact("an exception is never answered")
def exception(python: str) -> bool:
    with official(python) as peer:
        return "timeout expired" in peer.commit("fail").message


@fact("an event is dropped without a word")
def event(python: str) -> bool:
    with official(python) as peer:
        outcome = peer.commit("event")
        return outcome.committed and outcome.event is None


@fact("a page has no bookmark, so there is no next one")
def bookmark(python: str) -> bool:
    with official(python) as peer:
        for key in (b"a", b"b", b"c"):
            peer.commit("put", [key])
        return peer.query("page").payload == b"None"


@fact("private data, purge, key-level endorsement and several keys at once are not there, or do nothing")
def missing(python: str) -> bool:
    with official(python) as peer:
        does = peer.query("offers").payload.decode()
        return "put_state" in does and not any(word in does for word in ("private", "purge", "validation", "multiple"))


@fact("the transient map cannot be read")
def transient(python: str) -> bool:
    with official(python) as peer:
        return SECRET.encode() not in peer.query("transient", transient={"x": SECRET.encode()}).payload


@fact("calling another contract does not work")
def call(python: str) -> bool:
    with official(python) as peer, serving(lambda stub: b"other's answer", name="other", peer=peer):
        return b"other's answer" not in peer.query("call").payload


@fact("arguments that are not UTF-8 are not carried")
def octets(python: str) -> bool:
    with official(python) as peer:
        return peer.commit("put", [b"\xff"]).status == 0


@fact("more than 4 MB end the stream")
def large(python: str) -> bool:
    with official(python) as peer:
        return peer.commit("put", [b"k"], transient={"x": bytes(5_000_000)}).status == 0


@fact("TLS set by the environment is plain text")
def plain(python: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        files = {
            name: str(Path(folder) / "any.pem") for name in ("CORE_TLS_CLIENT_KEY_PATH", "CORE_TLS_CLIENT_CERT_PATH")
        }
        with official(python, **files) as peer:
            return peer.commit("put", [b"k"]).committed


@fact("whole payloads are in the log")
def logs(python: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with official(python, log) as peer:
            peer.commit("put", [b"k"], transient={"x": SECRET.encode()})
        return SECRET in log.read_text()


@fact("importing it sets the root logger to DEBUG")
def root_logger(python: str) -> bool:
    code = "import fabric_chaincode_python.fabric_shim.server, logging; print(logging.getLogger().level)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "10"


def main() -> int:
    changed = [words for words, check in FACTS.items() if not check(sys.argv[1])]
    for words in changed:
        print(f"fabric-chaincode-python: no longer so: {words}", file=sys.stderr)
    print(f"fabric-chaincode-python: {len(FACTS) - len(changed)} of {len(FACTS)} facts hold")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
