"""The frozen vectors: today's code makes the same bytes, accepts what is right, and refuses each twin in its words."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.reading import Reading
from signer import batch, cose, dialogue, encode, merkle, receipt, statement
from signer.errors import Malformed
from signer.keys import key_id
from signer.keys.file import FileKey
from signer.receipt import Rejected
from signer.statement import Instant
from signer.trust import Trust

FOLDER = Path(__file__).resolve().parents[1] / "vectors"


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


KEYS = load("keys.json")
STATEMENTS = load("statements.json")
BATCHES = load("batches.json")
TREES = load("merkle.json")
RECEIPTS = load("receipts.json")
DIALOGUE = load("dialogue.json")


def private_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(KEYS["keys"][name]["d"], 16), ec.SECP256R1())


def trust() -> Trust:
    found = {name: bytes.fromhex(data) for name, data in KEYS["certificates"].items()}
    load_der = x509.load_der_x509_certificate
    return Trust((load_der(found["gateway root"]),), {"Org1MSP": (load_der(found["organisation root"]),)})


def lively(item: Any) -> Any:
    """The CBOR item that the JSON stands for."""
    if isinstance(item, list):
        return [lively(entry) for entry in item]
    if isinstance(item, dict):
        if "hex" in item:
            return bytes.fromhex(item["hex"])
        if "int" in item:
            return int(item["int"])
        return {lively(key): lively(value) for key, value in item["map"]}
    return item


def named(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def test_the_generator_makes_the_same_again() -> None:
    spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    assert spec
    assert spec.loader
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    for name, content in make.build().items():
        assert content == load(name), name


def test_the_generator_does_not_overwrite(tmp_path: Path) -> None:
    for name in ("make.py", "wrong.py", "raw.py", "keys.json"):
        shutil.copy(FOLDER / name, tmp_path)
    before = (tmp_path / "keys.json").read_bytes()
    root = FOLDER.parents[1]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); sys.argv = ['make.py']; import runpy; "
    program += f"runpy.run_path({str(tmp_path / 'make.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "is frozen" in done.stderr
    assert (tmp_path / "keys.json").read_bytes() == before


def test_every_kind_has_a_vector() -> None:
    assert {vector["input"]["kind"] for vector in STATEMENTS["vectors"]} == {*range(11), 99}


@named(STATEMENTS["vectors"])
def test_statement(vector: dict[str, Any]) -> None:
    given = vector["input"]
    key = private_key(vector["key"])
    claims = statement.parse(bytes.fromhex(vector["bytes"]))
    assert (claims.gateway, claims.sub, claims.kind, claims.seq) == (
        given["gateway"],
        given["sub"],
        given["kind"],
        given["seq"],
    )
    assert (claims.stream.hex(), claims.prev.hex(), claims.salt.hex()) == (
        given["stream"],
        given["prev"],
        given["salt"],
    )
    assert claims.boot == given["boot"]
    assert claims.instant == Instant(given["utc_ms"], given["boot_ms"], *given["clock"])
    assert claims.body == lively(given["body"])
    assert claims.sid.hex() == vector["sid"]
    assert claims.key_id == key_id(key.public_key())
    assert statement.verify_signature(claims, key.public_key())


@named(STATEMENTS["vectors"])
def test_statement_bytes_from_inputs(vector: dict[str, Any]) -> None:
    given = vector["input"]
    key = FileKey(private_key(vector["key"]), deterministic=True)
    body = lively(given["body"])
    payload = encode.payload(
        given["kind"],
        bytes.fromhex(given["stream"]),
        given["seq"],
        bytes.fromhex(given["prev"]),
        given["boot"],
        Instant(given["utc_ms"], given["boot_ms"], *given["clock"]),
        bytes.fromhex(given["salt"]),
        (encode.body(body), len(body)),
    )
    assert payload.hex() == vector["payload"]
    signature = key.sign_digest(cose.digest(bytes.fromhex(vector["protected"]), payload))
    assert signature.hex() == vector["signature"]
    assert cose.assemble(bytes.fromhex(vector["protected"]), payload, signature).hex() == vector["bytes"]


@named([vector for vector in STATEMENTS["vectors"] if vector["input"]["kind"] == 0])
def test_readings_encode_the_same_on_the_fast_way(vector: dict[str, Any]) -> None:
    claims = statement.parse(bytes.fromhex(vector["bytes"]))
    assert claims.slot_ms is not None
    reading = Reading(claims.sub, claims.slot_ms, claims.status, claims.values, claims.body.get(12), claims.blocks)
    assert encode.reading(reading) == (encode.body(claims.body), len(claims.body))


@named(STATEMENTS["vectors"])
def test_a_library_that_knows_nothing_reads_the_same(vector: dict[str, Any]) -> None:
    message = cbor2.loads(bytes.fromhex(vector["bytes"]))
    payload = cbor2.loads(message.value[2])
    assert message.tag == 18
    assert {field: value for field, value in payload.items() if field > 9} == lively(vector["input"]["body"])
    assert cbor2.dumps(payload, canonical=True) == message.value[2]
    assert cbor2.dumps(cbor2.loads(message.value[0]), canonical=True) == message.value[0]


@named(STATEMENTS["wrong"])
def test_wrong_statement(vector: dict[str, Any]) -> None:
    assert statement_refusal(bytes.fromhex(vector["bytes"])) == vector["refusal"]


def statement_refusal(data: bytes) -> dict[str, str] | None:
    try:
        claims = statement.parse(data)
    except Malformed as error:
        return {"place": error.place, "reason": error.reason}
    if statement.verify_signature(claims, private_key("gateway").public_key()):
        return None
    return {"place": "statement, signature", "reason": "does not verify"}


@named(BATCHES["vectors"])
def test_batch(vector: dict[str, Any]) -> None:
    parsed, claims = batch.parse(bytes.fromhex(vector["bytes"]))
    assert parsed.stream.hex() == vector["stream"]
    assert (parsed.first, parsed.count) == (vector["first"], vector["count"])
    assert (parsed.prev.hex(), parsed.head.hex(), parsed.root.hex()) == (vector["prev"], vector["head"], vector["root"])
    rows = [(claim.sid, claim.data) for claim in claims]
    assert batch.build(parsed.stream, parsed.first, parsed.prev, rows) == parsed


@named(BATCHES["wrong"])
def test_wrong_batch(vector: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as caught:
        batch.parse(bytes.fromhex(vector["bytes"]) + bytes(vector.get("zeros", 0)))
    assert {"place": caught.value.place, "reason": caught.value.reason} == vector["refusal"]


@pytest.mark.parametrize("vector", TREES["vectors"], ids=lambda vector: str(len(vector["leaves"])))
def test_tree(vector: dict[str, Any]) -> None:
    leaves, root = [bytes.fromhex(leaf) for leaf in vector["leaves"]], bytes.fromhex(vector["root"])
    assert merkle.root(leaves) == root
    for index, path in enumerate(vector["proofs"]):
        nodes = [bytes.fromhex(node) for node in path]
        assert list(merkle.proof(leaves, index)) == nodes
        assert merkle.verify_proof(leaves[index], index, len(leaves), nodes, root)


@named(TREES["wrong"])
def test_wrong_proof(vector: dict[str, Any]) -> None:
    nodes = [bytes.fromhex(node) for node in vector["proof"]]
    leaf, root = bytes.fromhex(vector["leaf"]), bytes.fromhex(vector["root"])
    assert not merkle.verify_proof(leaf, vector["index"], vector["size"], nodes, root)


@named(RECEIPTS["vectors"])
def test_receipt(vector: dict[str, Any]) -> None:
    data, given = bytes.fromhex(vector["bytes"]), vector["input"]
    local = receipt.parse(data)
    found = receipt.check(data, given["gateway"], local, trust(), RECEIPTS["newest_block"])
    assert found.root.hex() == given["root"]
    assert [certificate.hex() for certificate in found.certificates] == given["certificates"]
    again = receipt.issue(
        FileKey(private_key("receipt"), deterministic=True),
        [bytes.fromhex(certificate) for certificate in given["certificates"]],
        given["organisation"],
        given["gateway"],
        given["issued_s"],
        local,
        given["channel"],
        given["block"],
        bytes.fromhex(given["transaction"]),
    )
    assert again == data


@named(RECEIPTS["wrong"])
def test_wrong_receipt(vector: dict[str, Any]) -> None:
    local = receipt.parse(bytes.fromhex(RECEIPTS["vectors"][0]["bytes"]))
    with pytest.raises(Rejected) as caught:
        receipt.check(bytes.fromhex(vector["bytes"]), local.gateway, local, trust(), RECEIPTS["newest_block"])
    assert {"reason": caught.value.reason, "words": str(caught.value)} == vector["refusal"]


def the_hello() -> dialogue.Hello:
    return dialogue.Hello.decode(bytes.fromhex(DIALOGUE["hello"]["bytes"]))


def test_hello() -> None:
    given, hello = DIALOGUE["hello"], the_hello()
    assert (hello.stream.hex(), hello.seq, hello.sid.hex(), hello.nonce.hex()) == (
        given["stream"],
        given["seq"],
        given["sid"],
        given["nonce"],
    )
    assert hello.encode().hex() == given["bytes"]


@named(DIALOGUE["heads"])
def test_head(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    head = dialogue.check_head(data, "gw-test-1", the_hello(), trust())
    sid = bytes.fromhex(vector["sid"]) if vector["sid"] else None
    assert (head.seq, head.sid, head.issued_s) == (vector["seq"], sid, vector["issued_s"])
    key = FileKey(private_key("receipt"), deterministic=True)
    chain = head.certificates
    assert data == dialogue.issue_head(
        key, chain, "Org1MSP", "gw-test-1", head.issued_s, the_hello(), head.seq, head.sid
    )


@named(DIALOGUE["refusals"])
def test_refusal(vector: dict[str, Any]) -> None:
    found = dialogue.Refusal.decode(bytes.fromhex(vector["bytes"]))
    assert found.encode().hex() == vector["bytes"]
    assert (found.reason, found.seq, found.words) == (vector["reason"], vector["seq"], vector["words"])
    assert found.retry_after_ms == vector["retry_after_ms"]


@named(DIALOGUE["wrong"]["hello"])
def test_wrong_hello(vector: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as caught:
        dialogue.Hello.decode(bytes.fromhex(vector["bytes"]))
    assert {"place": caught.value.place, "reason": caught.value.reason} == vector["refusal"]


@named(DIALOGUE["wrong"]["refusal"])
def test_wrong_refusal(vector: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as caught:
        dialogue.Refusal.decode(bytes.fromhex(vector["bytes"]))
    assert {"place": caught.value.place, "reason": caught.value.reason} == vector["refusal"]


@named(DIALOGUE["wrong"]["head"])
def test_wrong_head(vector: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as caught:
        dialogue.check_head(bytes.fromhex(vector["bytes"]), "gw-test-1", the_hello(), trust())
    assert {"reason": caught.value.reason, "words": str(caught.value)} == vector["refusal"]
