"""Parsers are total over almost-right input: each part of each structure removed, changed, repeated, written otherwise.

A changed message is Malformed, with a place and a reason, or it is provably another one: then its bytes are exactly
what the encoder makes of what was read, and no signature fits any more.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from signer import batch, cbor, cose, dialogue, encode, receipt, statement
from signer.errors import Malformed
from signer.receipt import Rejected
from signer.trust import Trust, Untrusted, check_gateway, check_organisation

FOLDER = Path(__file__).resolve().parents[1] / "vectors"
KEYS = json.loads((FOLDER / "keys.json").read_text())
STATEMENTS = {vector["name"]: vector for vector in json.loads((FOLDER / "statements.json").read_text())["vectors"]}
BATCH = bytes.fromhex(json.loads((FOLDER / "batches.json").read_text())["vectors"][1]["bytes"])
RECEIPT = bytes.fromhex(json.loads((FOLDER / "receipts.json").read_text())["vectors"][0]["bytes"])
DIALOGUE = json.loads((FOLDER / "dialogue.json").read_text())
HELLO = bytes.fromhex(DIALOGUE["hello"]["bytes"])
HEAD = bytes.fromhex(DIALOGUE["heads"][0]["bytes"])
REFUSAL = bytes.fromhex(DIALOGUE["refusals"][0]["bytes"])
CERTIFICATES = {name: bytes.fromhex(data) for name, data in KEYS["certificates"].items()}
TRUST = Trust(
    (x509.load_der_x509_certificate(CERTIFICATES["gateway root"]),),
    {"Org1MSP": (x509.load_der_x509_certificate(CERTIFICATES["organisation root"]),)},
)

# What an item is replaced by: every type, every edge of a number, and everything that deterministic CBOR leaves out.
REPLACEMENTS = [
    bytes.fromhex(text)
    for line in (
        "00 01 17 1818 18ff 190100 1a00010000 1b0000000100000000 1bffffffffffffffff 20 37 3818 3bffffffffffffffff",
        "40 4100 4f000102030405060708090a0b0c0d0e 60 6161 62c3a9 80 8100 820000 83000000 840000000000 a0 a10000 a10a00",
        "f4 f5 f6 f7 e0 f820 f90000 f93c00 fa3f800000 fb3ff0000000000000 fb7ff8000000000000 c100 c24101",
        "c249010000000000000000 c4820100 c5820001 d81c80 d81d00 d9d9f700 1800 190000 1a00000000 1b0000000000000000",
        "5f4100ff 7f6161ff 9fff bfff ff 1c 9bffffffffffffffff bbffffffffffffffff 5bffffffffffffffff",
        "7bffffffffffffffff 62c328 61ff",
    )
    for text in line.split(" ")
]


def public_key(name: str) -> ec.EllipticCurvePublicKey:
    scalar = int(KEYS["keys"][name]["d"], 16)
    return ec.derive_private_key(scalar, ec.SECP256R1()).public_key()


def spans(data: bytes) -> list[tuple[int, int]]:
    """Beginning and end of every item inside a well-formed one, the inside of byte strings that hold CBOR included."""
    found: list[tuple[int, int]] = []

    def walk(start: int, end: int) -> None:
        position = start
        while position < end:
            stop = cbor.item_end(data, position, "item")
            found.append((position, stop))
            major, info = data[position] >> 5, data[position] & 31
            inside = position + 1 + (0 if info < 24 else 1 << (info - 24))
            if major in (4, 5, 6) or (major == 2 and holds_cbor(data[inside:stop])):
                walk(inside, stop)
            position = stop

    walk(0, len(data))
    return found


def holds_cbor(content: bytes) -> bool:
    """Whether a byte string is one of the encoded headers and payloads (a certificate or a digest never is)."""
    try:
        return type(cbor2.loads(content)) in (dict, list) and cbor.item_end(content, 0, "") == len(content)
    except (Malformed, cbor2.CBORError):
        return False


def resized(data: bytes, outer: list[tuple[int, int]], change: int) -> bytes:
    """Lengths of the byte strings around a place, corrected by ``change`` bytes from the innermost outwards."""
    changed = data
    for start, _ in sorted(outer, reverse=True):
        if data[start] >> 5 != 2:
            continue
        info = changed[start] & 31
        size = 0 if info < 24 else 1 << (info - 24)
        length = int.from_bytes(changed[start + 1 : start + 1 + size], "big") if size else info
        head = cbor.head(2, max(0, length + change))
        changed = changed[:start] + head + changed[start + 1 + size :]
        change += len(head) - 1 - size
    return changed


def longer(item: bytes) -> bytes | None:
    """The same item with its first length or number in a longer form."""
    major, info = item[0] >> 5, item[0] & 31
    if major == 7 or info == 27:
        return None
    size = 0 if info < 24 else 1 << (info - 24)
    argument = int.from_bytes(item[1 : 1 + size], "big") if size else info
    next_size = max(1, 2 * size)
    return (
        bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[next_size]])
        + argument.to_bytes(next_size, "big")
        + item[1 + size :]
    )


def mutations(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every item removed, doubled, replaced, in a longer form; every container's count changed."""
    found = spans(data)
    for start, end in found:
        outer = [span for span in found if span[0] < start and span[1] >= end]
        item = data[start:end]
        others = [("removed", b""), ("twice", item + item), *((f"is {other.hex()}", other) for other in REPLACEMENTS)]
        stretched = longer(item)
        if stretched is not None:
            others.append(("longer form", stretched))
        if item[0] >> 5 in (4, 5) and item[0] & 31 < 23:
            others.append(("one more", bytes([item[0] + 1]) + item[1:]))
            others.append(
                (
                    "one more, there",
                    bytes([item[0] + 1]) + item[1:] + (b"\x00" if item[0] >> 5 == 4 else b"\x18\x63\x00"),
                )
            )
            if item[0] & 31:
                others.append(("one less", bytes([item[0] - 1]) + item[1:]))
            others.append(("indefinite", bytes([item[0] | 31]) + item[1:] + b"\xff"))
        if item[0] >> 5 in (2, 3) and len(item) > 1:
            others.append(("one byte shorter", shorter(item)))
        for name, other in others:
            if other != item:
                yield (
                    f"bytes {start}..{end} {name}",
                    resized(data[:start] + other + data[end:], outer, len(other) - len(item)),
                )
        yield f"byte {start} one up", data[:start] + bytes([(data[start] + 1) & 255]) + data[start + 1 :]


def shorter(item: bytes) -> bytes:
    info = item[0] & 31
    size = 0 if info < 24 else 1 << (info - 24)
    content = item[1 + size :]
    return cbor.head(item[0] >> 5, len(content) - 1) + content[:-1]


def outcome(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """What parsing gives, None when it is refused as it should be."""
    refused: Malformed | Rejected
    try:
        return parse(data)
    except (Malformed, Rejected) as error:
        refused = error
    assert 0 < len(str(refused)) < 400
    assert refused.reason
    assert isinstance(refused, Rejected) or refused.place
    return None


@pytest.mark.parametrize("name", STATEMENTS)
def test_almost_a_statement(name: str) -> None:
    good = bytes.fromhex(STATEMENTS[name]["bytes"])
    key = public_key(STATEMENTS[name]["key"])
    taken = 0
    for what, data in mutations(good):
        claims = outcome(statement.parse, data)
        if claims is None or data == good:
            continue
        taken += 1
        again = encode.payload(
            claims.kind,
            claims.stream,
            claims.seq,
            claims.prev,
            claims.boot,
            claims.instant,
            claims.salt,
            (encode.body(claims.body), len(claims.body)),
        )
        header = cose.parse(data, 1 << 20, "").protected
        assert cose.assemble(header, again, claims.signature) == data, what
        assert not statement.verify_signature(claims, key), what
    assert taken  # numbers and names may well be others


def test_almost_a_batch() -> None:
    """A batch names its content twice, so that no single change is another batch, but for a signature."""
    key = public_key("gateway")
    for what, data in mutations(BATCH):
        parsed = outcome(batch.parse, data)
        if parsed is None or data == BATCH:
            continue
        assert parsed[0].root == batch.parse(BATCH)[0].root, what
        assert not all(statement.verify_signature(claims, key) for claims in parsed[1]), what


def test_almost_a_receipt() -> None:
    local = receipt.parse(RECEIPT)
    for what, data in mutations(RECEIPT):
        outcome(receipt.parse, data)
        if data != RECEIPT:
            assert outcome(lambda data: receipt.check(data, "gw-test-1", local, TRUST, 42), data) is None, what


def test_almost_a_head() -> None:
    hello = dialogue.Hello.decode(HELLO)
    for what, data in mutations(HEAD):
        outcome(dialogue.parse_head, data)
        if data != HEAD:
            assert outcome(lambda data: dialogue.check_head(data, "gw-test-1", hello, TRUST), data) is None, what


@pytest.mark.parametrize(("data", "kind"), [(HELLO, dialogue.Hello), (REFUSAL, dialogue.Refusal)])
def test_almost_a_hello_or_refusal(data: bytes, kind: Any) -> None:
    for what, changed in mutations(data):
        parsed = outcome(kind.decode, changed)
        assert parsed is None or parsed.encode() == changed, what


PARSERS: list[Callable[[bytes], Any]] = [
    statement.parse,
    batch.parse,
    receipt.parse,
    dialogue.parse_head,
    dialogue.Hello.decode,
    dialogue.Refusal.decode,
    lambda data: cbor.decode(data, 1 << 16),
    lambda data: cbor.item_end(data, 0, "item"),
]


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes(data: bytes) -> None:
    for parse in PARSERS:
        outcome(parse, data)


@given(
    st.sampled_from([*(bytes.fromhex(one["bytes"]) for one in STATEMENTS.values()), RECEIPT, HEAD, HELLO, REFUSAL]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=400, deadline=None)
def test_random_changes(good: bytes, chance: random.Random) -> None:
    data = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(data))
        how = chance.randrange(4)
        if how == 0:
            data[position] = chance.randrange(256)
        elif how == 1:
            del data[position : position + chance.randint(1, 8)]
        elif how == 2:
            data[position:position] = chance.randbytes(chance.randint(1, 8))
        else:
            data[position:position] = chance.choice(REPLACEMENTS)
        if not data:
            break
    for parse in PARSERS:
        outcome(parse, bytes(data))


ITEMS = st.recursive(
    st.one_of(
        st.integers(-(1 << 64), (1 << 64) - 1),
        st.binary(max_size=40),
        st.text(max_size=20),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=30),
        st.dictionaries(st.integers(-(1 << 64), (1 << 64) - 1), inner, max_size=30),
    ),
    max_leaves=40,
)


def in_order(item: Any) -> Any:
    if isinstance(item, list):
        return [in_order(entry) for entry in item]
    if isinstance(item, dict):
        return {key: in_order(item[key]) for key in sorted(item, key=cbor2.dumps)}
    return item


@given(ITEMS)
@settings(deadline=None)
def test_decode_after_encode_is_identity(item: Any) -> None:
    data = cbor.encode(in_order(item))
    try:
        found = cbor.decode(data, 1 << 20)
    except Malformed as error:
        assert "nested deeper" in error.reason  # noqa: PT017
    else:
        assert found == item
        assert cbor.encode(found) == data
    assert cbor.item_end(data, 0, "item") == len(data)


@given(st.binary(max_size=60))
@settings(max_examples=1000, deadline=None)
def test_what_is_decoded_encodes_to_the_same_bytes(data: bytes) -> None:
    """Strictness itself: there is no second form of anything."""
    found = None
    try:
        found = cbor.decode(data, 100)
    except Malformed:
        return
    assert cbor2.dumps(found) == data


@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=lambda data: data.hex())
def test_what_a_general_decoder_would_take(replacement: bytes) -> None:
    """What cbor2 reads and writes back otherwise, or what is no plain item, is refused; the rest is read alike."""
    try:
        found = cbor.decode(replacement, 100)
    except Malformed:
        return
    assert found == cbor2.loads(replacement)
    assert cbor2.dumps(found) == replacement


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("name", ["gateway", "receipt"])
def test_almost_a_certificate(name: str) -> None:
    """Each byte of a certificate changed three ways: untrusted, never another exception, and never trusted."""
    good = CERTIFICATES[name]
    at_ms = 1_780_272_000_000

    def check(data: bytes) -> object:
        if name == "gateway":
            return check_gateway(TRUST, (data,), "gw-test-1", at_ms)
        return check_organisation(TRUST, (data,), "Org1MSP", at_ms // 1000)

    assert check(good)
    for position in range(len(good)):
        for bit in (1, 16, 128):
            data = good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :]
            with pytest.raises(Untrusted):
                check(data)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_certificates(data: bytes) -> None:
    with pytest.raises(Untrusted):
        check_gateway(TRUST, (data,), "gw-test-1", 0)
    with pytest.raises(Untrusted):
        check_gateway(TRUST, (CERTIFICATES["gateway"], data), "gw-test-1", 1_780_272_000_000)
