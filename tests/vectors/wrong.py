"""Wrong twins: for every rule something that breaks it and nothing else, and the refusal it gets.

Rules
- Recipes take a right message apart, change one thing with :mod:`raw` and sign again: only that rule refuses it.
- ``cose_must_refuse`` says that a COSE implementation, which knows nothing of our rules, has to refuse it as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cbor2
from cryptography import x509
from raw import ORDER, Pairs, Raw, encode, head, parts, sign1, signed_digest

from signer import batch, dialogue, merkle, receipt, statement
from signer.batch import Batch
from signer.errors import Malformed
from signer.keys import KeyStore
from signer.receipt import Rejected
from signer.trust import Trust

__all__ = ["ORDER", "batches", "dialogues", "parts", "receipts", "statements", "trees"]

Twin = tuple[str, bytes, bool]  # name, bytes, whether COSE has to refuse it
DROP = object()


def changed(source: Mapping[int, Any], *changes: tuple[Any, Any]) -> dict[Any, Any]:
    """A map with entries set, added or (DROP) left out, in ascending order of unsigned keys."""
    entries = dict(source)
    for key, value in changes:
        entries[key] = value
        if value is DROP:
            del entries[key]
    return dict(sorted(entries.items(), key=lambda entry: encode(entry[0])))


# ---- statements


def statements(named: Mapping[str, bytes], key: KeyStore, stranger: KeyStore) -> list[dict[str, Any]]:
    """Wrong twins of statements."""
    twins = [
        *_envelopes(named["reading, twelve quantities"], key, stranger),
        *_headers(named["reading, twelve quantities"], key),
        *_encodings(named["reading, twelve quantities"], named["event"], key),
        *_commons(named, key),
        *_readings(named["reading, twelve quantities"], named["reading, failed"], key),
        *_others(named, key),
    ]
    return [
        {"name": name, "cose_must_refuse": cose, "bytes": data.hex(), "refusal": _statement_refusal(name, data, key)}
        for name, data, cose in twins
    ]


def _statement_refusal(name: str, data: bytes, key: KeyStore) -> dict[str, str]:
    try:
        claims = statement.parse(data)
    except Malformed as error:
        return {"place": error.place, "reason": error.reason}
    assert not statement.verify_signature(claims, key.public_key), f"{name}: is accepted"
    return {"place": "statement, signature", "reason": "does not verify"}


def _envelopes(good: bytes, key: KeyStore, stranger: KeyStore) -> Iterator[Twin]:
    protected, _, payload, signature = parts(good)
    r, s = signature[:32], int.from_bytes(signature[32:], "big")

    def outer(*items: Any, tag: bytes = b"\xd2") -> bytes:
        return tag + encode(list(items))

    def with_signature(value: bytes) -> bytes:
        return outer(protected, {}, payload, value)

    yield "nothing at all", b"", True
    yield "no tag", good[1:], False
    yield "tag 17, a MAC", b"\xd1" + good[1:], True
    yield "tag 18 in two bytes", b"\xd8\x12" + good[1:], False
    yield "tagged twice", b"\xd2" + good, True
    yield "three elements", outer(protected, {}, payload), True
    yield "five elements", outer(protected, {}, payload, signature, b""), True
    yield "array of indefinite length", b"\xd2\x9f" + good[2:] + b"\xff", False
    yield "a map instead of an array", b"\xd2" + encode({0: protected, 1: {}, 2: payload, 3: signature}), True
    yield "protected header as a map", outer(cbor2.loads(protected), {}, payload, signature), True
    yield (
        "protected header as text",
        b"\xd2\x84" + head(3, len(protected)) + protected + good[2 + 2 + len(protected) :],
        True,
    )
    yield "protected header is empty", outer(b"", {}, payload, key.sign_digest(signed_digest(b"", payload))), False
    yield "unprotected header not empty", outer(protected, {4: b"12345678"}, payload, signature), False
    yield "unprotected header as an array", outer(protected, [], payload, signature), True
    yield "payload detached", outer(protected, {}, None, signature), True
    yield "payload as text", outer(protected, {}, Raw(head(3, len(payload)) + payload), signature), True
    yield "payload is empty", outer(protected, {}, b"", key.sign_digest(signed_digest(protected, b""))), False
    longer = Raw(head(2, len(payload), 1) + payload)
    yield "length of the payload not in its shortest form", outer(protected, {}, longer, signature), False
    pieces = Raw(b"\x5f" + encode(payload[:9]) + encode(payload[9:]) + b"\xff")
    yield "payload in pieces", outer(protected, {}, pieces, signature), False
    yield "signature of 63 bytes", with_signature(signature[:63]), True
    yield "signature of 65 bytes", with_signature(signature + b"\0"), True
    yield "signature missing", with_signature(b""), True
    yield "signature in DER", with_signature(b"\x30\x44\x02\x20" + r + b"\x02\x20" + signature[32:]), True
    yield "r is zero", with_signature(bytes(32) + signature[32:]), True
    yield "r is the order of the curve", with_signature(ORDER.to_bytes(32, "big") + signature[32:]), True
    yield "s is zero", with_signature(r + bytes(32)), True
    yield "s in the upper half", with_signature(r + (ORDER - s).to_bytes(32, "big")), False
    yield "signature of another statement", with_signature(key.sign_digest(hashlib.sha256(b"other").digest())), True
    yield "signed by another key", with_signature(stranger.sign_digest(signed_digest(protected, payload))), True
    changed_payload = bytes([*payload[:-1], payload[-1] ^ 1])
    yield "one bit of the payload changed", outer(protected, {}, changed_payload, signature), True
    yield (
        "signed with external data",
        with_signature(key.sign_digest(hashlib.sha256(encode(["Signature1", protected, b"x", payload])).digest())),
        True,
    )
    yield (
        "signed as CounterSignature",
        with_signature(key.sign_digest(hashlib.sha256(encode(["CounterSignature", protected, b"", payload])).digest())),
        True,
    )
    yield "a byte behind the end", good + b"\0", False
    yield "two statements", good + good, False
    yield "the last byte missing", good[:-1], True
    yield "the second half missing", good[: len(good) // 2], True
    fat = encode(changed(cbor2.loads(payload), (14, [1, bytes(17000)])))
    yield "longer than 16 KiB", sign1(protected, fat, key.sign_digest), False


def _headers(good: bytes, key: KeyStore) -> Iterator[Twin]:
    protected, _, payload, _ = parts(good)
    header = cbor2.loads(protected)
    names = header[15]

    def twin(name: str, *changes: tuple[Any, Any], cose: bool = False) -> Twin:
        return name, sign1(encode(changed(header, *changes)), payload, key.sign_digest), cose

    def raw(name: str, data: bytes) -> Twin:
        return name, sign1(data, payload, key.sign_digest), False

    yield twin("no algorithm", (1, DROP))
    yield twin("algorithm ES384", (1, -35), cose=True)
    yield twin("algorithm EdDSA", (1, -8), cose=True)
    yield twin("algorithm as text", (1, "ES256"))
    yield twin("no content type", (3, DROP))
    yield twin("content type COSE", (3, 61))
    yield twin("content type as text", (3, "application/cbor"))
    yield twin("no kid", (4, DROP))
    yield twin("kid of 7 bytes", (4, header[4][:7]))
    yield twin("kid as text", (4, "12345678"))
    yield twin("no CWT claims", (15, DROP))
    yield twin("CWT claims as an array", (15, [names[1], names[2]]))
    yield twin("no iss", (15, {2: names[2]}))
    yield twin("no sub", (15, {1: names[1]}))
    yield twin("iss is empty", (15, {1: "", 2: names[2]}))
    yield twin("iss with a dot", (15, {1: "gw.1", 2: names[2]}))
    yield twin("iss with a plus", (15, {1: "gw+1", 2: names[2]}))
    yield twin("iss with a newline behind it", (15, {1: names[1] + "\n", 2: names[2]}))
    yield twin("iss of 41 letters", (15, {1: "g" * 41, 2: names[2]}))
    yield twin("iss as bytes", (15, {1: b"gw", 2: names[2]}))
    yield twin("sub is empty", (15, {1: names[1], 2: ""}))
    yield twin("sub with a slash", (15, {1: names[1], 2: "a/b"}))
    yield twin("sub with a letter beyond ASCII", (15, {1: names[1], 2: "zähler"}))
    yield twin("sub of 82 letters", (15, {1: names[1], 2: "s" * 82}))
    yield twin("a CWT claim too many", (15, {1: names[1], 2: names[2], 6: 1}))
    yield twin("no typ", (16, DROP))
    yield twin("typ of a receipt", (16, "application/vnd.aigeco.r1"))
    yield twin("typ of version 2", (16, "application/vnd.aigeco.s2"))
    yield twin("an entry too many", (5, b"nonce"))
    yield twin("crit", (2, [1]))
    yield raw("entries out of order", encode(Pairs(list(header.items())[::-1])))
    yield raw("an entry twice", encode(Pairs([*header.items(), (16, header[16])])))
    yield raw("key not in its shortest form", encode(Pairs([(Raw(b"\x18\x01"), -7), *list(header.items())[1:]])))
    yield raw("a byte behind the header", protected + b"\0")
    yield raw("header as an array", encode(list(header)))


def _encodings(good: bytes, event: bytes, key: KeyStore) -> Iterator[Twin]:
    protected, _, payload, _ = parts(good)
    fields = cbor2.loads(payload)
    entries = list(fields.items())

    def raw(name: str, data: bytes) -> Twin:
        return f"payload: {name}", sign1(protected, data, key.sign_digest), False

    def twin(name: str, field: int, value: Any) -> Twin:
        return raw(name, encode(changed(fields, (field, value))))

    yield raw("a byte behind the end", payload + b"\0")
    yield raw("the last byte missing", payload[:-1])
    yield raw("an array", encode([0]))
    yield raw("fields out of order", encode(Pairs([entries[1], entries[0], *entries[2:]])))
    yield raw("a field twice", encode(Pairs([entries[0], *entries])))
    yield raw("map of indefinite length", b"\xbf" + payload[1:] + b"\xff")
    yield raw("map says one field more", bytes([payload[0] + 1]) + payload[1:])
    yield raw("map says 2**64-1 fields", b"\xbb" + b"\xff" * 8 + payload[1:])
    yield raw("a key as text", encode(Pairs([*entries, ("x", 1)])))
    yield raw("a key as bytes", encode(Pairs([*entries, (b"x", 1)])))
    yield raw("a key below zero", encode(Pairs([*entries, (-1, 1)])))
    yield raw("a key as a float", encode(Pairs([(Raw(b"\xf9\x3c\x00"), 0), *entries[1:]])))
    yield raw("key not in its shortest form", encode(Pairs([(Raw(b"\x18\x01"), 0), *entries[1:]])))
    for size, longer in ((1, 1), (2, 2), (4, 3), (8, 4)):
        yield twin(f"number in {size} bytes more than needed", 5, Raw(head(0, fields[5], longer)))
    yield twin("number as a float", 5, Raw(b"\xfb" + bytes.fromhex("401c000000000000")))
    yield twin("number as a half float", 5, Raw(b"\xf9\x47\x00"))
    yield twin("number as a bignum", 5, Raw(b"\xc2\x41\x07"))
    yield twin("number of 65 bits", 5, Raw(b"\xc2\x49\x01" + bytes(8)))
    yield twin("number as true", 5, True)
    yield twin("number as null", 5, None)
    yield twin("number as undefined", 5, Raw(b"\xf7"))
    yield twin("number as a simple value", 5, Raw(b"\xe0"))
    yield twin("a reserved initial byte", 5, Raw(b"\x1c"))
    yield twin("a break where an item is due", 5, Raw(b"\xff"))
    yield twin("time as tag 1", 6, Raw(b"\xc1" + encode(fields[6])))
    yield twin("bytes in pieces", 9, Raw(b"\x5f" + encode(fields[9][:8]) + encode(fields[9][8:]) + b"\xff"))
    yield twin("bytes claim 2**64-1", 9, Raw(b"\x5b" + b"\xff" * 8))
    yield twin("length of bytes not in its shortest form", 9, Raw(b"\x58\x10" + fields[9]))
    yield twin("array of indefinite length", 8, Raw(b"\x9f\x02\x04\xff"))
    yield twin("array claims 2**32-1 items", 8, Raw(b"\x9a\xff\xff\xff\xff"))
    yield twin("a decimal fraction as tag 4", 11, {264: Raw(b"\xc4\x82\x21\x19\x6a\xb3")})
    yield twin("shared values, a cycle", 15, Raw(b"\xd8\x1c\x81\xd8\x1d\x00"))
    words = parts(event)
    body = cbor2.loads(words[2])

    def text(name: str, data: bytes) -> Twin:
        entries = changed(body, (13, {1: 5, 3: Raw(data)}))
        return f"payload: {name}", sign1(words[0], encode(entries), key.sign_digest), False

    yield text("text that is not UTF-8", b"\x62\xc3\x28")
    yield text("text with an overlong form", b"\x62\xc0\x80")
    yield text("text with half a surrogate pair", b"\x63\xed\xa0\x80")
    yield text("text in pieces", b"\x7f\x61a\x61b\xff")
    yield text("text of 257 bytes", encode("x" * 257))
    deep: Any = 0
    for _ in range(9):
        deep = [deep]
    carried = changed(body, (1, 99), (13, deep))
    yield "payload: an unknown kind, nested too deep", sign1(words[0], encode(carried), key.sign_digest), False
    carried = changed(body, (1, 99), (13, {-1: 0}))
    yield "payload: an unknown kind, a key below zero inside", sign1(words[0], encode(carried), key.sign_digest), False
    carried = changed(body, (1, 99), (13, Raw(b"\xfa\x00\x00\x00\x00")))
    yield "payload: an unknown kind, a float inside", sign1(words[0], encode(carried), key.sign_digest), False


def _commons(named: Mapping[str, bytes], key: KeyStore) -> Iterator[Twin]:
    good = named["reading, twelve quantities"]
    protected, _, payload, _ = parts(good)
    fields = cbor2.loads(payload)

    def twin(name: str, *changes: tuple[Any, Any]) -> Twin:
        return name, sign1(protected, encode(changed(fields, *changes)), key.sign_digest), False

    for field in range(1, 10):
        yield twin(f"field {field} missing", (field, DROP))
    for field, size in ((2, 16), (4, 32), (9, 16)):
        yield twin(f"field {field} of {size - 1} bytes", (field, fields[field][:-1]))
        yield twin(f"field {field} of {size + 1} bytes", (field, fields[field] + b"\0"))
        yield twin(f"field {field} as text", (field, "x" * size))
        yield twin(f"field {field} as a number", (field, 0))
    for field in (1, 3, 5, 6, 7):
        yield twin(f"field {field} below zero", (field, -1))
        yield twin(f"field {field} as text", (field, "1"))
        yield twin(f"field {field} as bytes", (field, b"\1"))
        yield twin(f"field {field} as an array", (field, [1]))
    yield twin("clock status 5", (8, [5, 4]))
    yield twin("clock status below zero", (8, [-1, 4]))
    yield twin("clock without its error", (8, [2]))
    yield twin("clock with a third number", (8, [2, 4, 0]))
    yield twin("clock error below zero", (8, [2, -4]))
    yield twin("clock as a number", (8, 2))
    yield twin("clock status true", (8, [True, 4]))
    yield twin("seq 0 outside a genesis", (3, 0))
    yield twin("stream of zeros outside a genesis", (2, bytes(16)))
    yield twin("prev of zeros outside a genesis", (4, bytes(32)))
    yield twin("a field between the common ones and the body", (10, 2), (13, {}))
    protected, _, payload, _ = parts(named["genesis"])
    fields = cbor2.loads(payload)
    yield twin("genesis with seq 1", (3, 1))
    yield twin("genesis with a stream", (2, bytes(range(16))))
    yield twin("genesis with a prev", (4, bytes(range(32))))
    event = parts(named["event"])
    body = changed(cbor2.loads(event[2]), (1, 99), (0, 1))
    yield "an unknown kind with a field below 10", sign1(event[0], encode(body), key.sign_digest), False


def _readings(good: bytes, failed: bytes, key: KeyStore) -> Iterator[Twin]:
    protected, _, payload, _ = parts(good)
    fields = cbor2.loads(payload)

    def twin(name: str, *changes: tuple[Any, Any]) -> Twin:
        return f"reading: {name}", sign1(protected, encode(changed(fields, *changes)), key.sign_digest), False

    def values(name: str, entries: Any) -> Twin:
        return twin(name, (11, entries))

    yield twin("no slot", (16, DROP))
    yield twin("slot below zero", (16, -1))
    yield twin("slot as text", (16, "0"))
    yield twin("neither values nor status", (11, DROP))
    yield twin("status 0", (10, 0))
    yield twin("status 256", (10, 256))
    yield twin("status true", (10, True))
    yield twin("values empty", (11, {}))
    yield twin("values as an array", (11, [[264, 1, 0]]))
    yield values("key 0", {0: [1, 0]})
    yield values("key 255", {255: [1, 0]})
    yield values("key 65536", {65536: [1, 0]})
    yield values(
        "key in the long form though the short one exists", {(1 << 48) + (1 << 32) + (1 << 16) + (8 << 8): [1, 0]}
    )
    yield values("key past the long form", {1 << 49: [1, 0]})
    yield values("more than 256 quantities", {256 + index: [1, 0] for index in range(257)})
    yield values("value as a number", {264: 1})
    yield values("value of one number", {264: [1]})
    yield values("value of four numbers", {264: [1, 0, 1, 1]})
    yield values("mantissa as text", {264: ["1", 0]})
    yield values("mantissa as a float", {264: [Raw(b"\xf9\x3c\x00"), 0]})
    yield values("mantissa as a bignum", {264: [Raw(b"\xc2\x49\x01" + bytes(8)), 0]})
    yield values("mantissa true", {264: [True, 0]})
    yield values("mantissa with a trailing zero", {264: [10, 0]})
    yield values("mantissa below zero with a trailing zero", {264: [-250, -1]})
    yield values("zero with an exponent", {264: [0, 1]})
    yield values("zero with the highest exponent", {264: [0, 9]})
    yield values("exponent 10", {264: [1, 10]})
    yield values("exponent -10", {264: [1, -10]})
    yield values("exponent true", {264: [1, True]})
    yield values("quality 0", {264: [1, 0, 0]})
    yield values("quality 65536", {264: [1, 0, 65536]})
    yield values("quality below zero", {264: [1, 0, -1]})
    yield values("keys out of order", Pairs([(520, [1, 0]), (264, [1, 0])]))
    yield values("a key twice", Pairs([(264, [1, 0]), (264, [2, 0])]))
    yield twin("window below zero", (12, -1))
    yield twin("window as bytes", (12, b"\1"))
    yield twin("meter's record of format 0", (14, [0, b"x"]))
    yield twin("meter's record of format 4", (14, [4, b"x"]))
    yield twin("meter's record empty", (14, [1, b""]))
    yield twin("meter's record as text", (14, [1, "OCMF"]))
    yield twin("meter's record without its format", (14, [b"x"]))
    yield twin("meter's record of more than 8 KiB", (14, [1, bytes(8193)]))
    yield twin("no blocks", (15, []))
    yield twin("more than 64 blocks", (15, [[4, 0, b"\0\0"]] * 65))
    yield twin("block of function 2", (15, [[2, 0, b"\0\0"]]))
    yield twin("block of function 5", (15, [[5, 0, b"\0\0"]]))
    yield twin("block without words", (15, [[4, 0, b""]]))
    yield twin("block with half a register", (15, [[4, 0, b"\0\0\0"]]))
    yield twin("block of 126 registers", (15, [[4, 0, bytes(252)]]))
    yield twin("block at address 65536", (15, [[4, 65536, b"\0\0"]]))
    yield twin("block past the last register", (15, [[4, 65535, bytes(4)]]))
    yield twin("block at an address below zero", (15, [[4, -1, b"\0\0"]]))
    yield twin("block with words as text", (15, [[4, 0, "ab"]]))
    yield twin("block of two", (15, [[4, 0]]))
    yield twin("field 13", (13, {1: 1}))
    yield twin("field 17", (17, 1))
    header = changed(cbor2.loads(protected), (15, {1: cbor2.loads(protected)[15][1], 2: "-"}))
    yield "reading: about the gateway itself", sign1(encode(header), payload, key.sign_digest), False
    protected, _, payload, _ = parts(failed)
    fields = cbor2.loads(payload)
    yield twin("failed, and its status missing", (10, DROP))


_BODIES: dict[str, list[tuple[str, list[tuple[Any, Any]]]]] = {
    "genesis": [
        ("no certificate", [(1, DROP)]),
        ("certificate empty", [(1, b"")]),
        ("certificate as text", [(1, "PEM")]),
        ("certificate of more than 4 KiB", [(1, bytes(4097))]),
        ("no chain", [(2, DROP)]),
        ("chain as bytes", [(2, b"x")]),
        ("chain of three", [(2, [b"a", b"b", b"c"])]),
        ("chain with a number", [(2, [1])]),
        ("recovered from two", [(3, [bytes(16), 1])]),
        ("recovered from a stream of 15 bytes", [(3, [bytes(15), 1, bytes(32)])]),
        ("recovered from a seq below zero", [(3, [bytes(16), -1, bytes(32)])]),
        ("recovered from a sid of 31 bytes", [(3, [bytes(16), 1, bytes(31)])]),
        ("entry 4", [(4, 1)]),
    ],
    "boot": [
        ("no reason", [(1, DROP)]),
        ("no time", [(2, DROP)]),
        ("time below zero", [(2, -1)]),
        ("digest of 31 bytes", [(3, bytes(31))]),
        ("version as bytes", [(4, b"1")]),
        ("entry 5", [(5, 1)]),
    ],
    "gap": [
        ("no reason", [(1, DROP)]),
        ("no beginning", [(2, DROP)]),
        ("no end", [(3, DROP)]),
        ("no number", [(4, DROP)]),
        ("number below zero", [(4, -1)]),
        ("entry 5", [(5, 1)]),
    ],
    "clock, back": [
        ("no step", [(1, DROP)]),
        ("step as text", [(1, "1")]),
        ("no source", [(2, DROP)]),
        ("source below zero", [(2, -1)]),
        ("entry 3", [(3, 1)]),
    ],
    "rekey": [
        ("no certificate", [(1, DROP)]),
        ("no chain", [(2, DROP)]),
        ("entry 3, as in a genesis", [(3, [bytes(16), 1, bytes(32)])]),
    ],
    "descriptor": [
        ("no period", [(1, DROP)]),
        ("period 0", [(1, 0)]),
        ("map digest of 31 bytes", [(2, bytes(31))]),
        ("map name as bytes", [(3, b"m")]),
        ("map name of 257 bytes", [(3, "é" * 128 + "x")]),
        ("role 5", [(4, 5)]),
        ("role below zero", [(4, -1)]),
        ("no serial number", [(5, DROP)]),
        ("overrides out of order", [(6, [["ratio", "1"], ["invert", "1"]])]),
        ("an override twice", [(6, [["ratio", "1"], ["ratio", "2"]])]),
        ("an override of three", [(6, [["ratio", "1", "2"]])]),
        ("an override with a number", [(6, [["ratio", 1]])]),
        ("seventeen overrides", [(6, [[f"o{index:02}", ""] for index in range(17)])]),
        ("layout of one", [(7, [[1]])]),
        ("layout below zero", [(7, [[1, -1]])]),
        ("layout of 65 models", [(7, [[1, 1]] * 65)]),
        ("entry 8", [(8, 1)]),
    ],
    "checkpoint": [
        ("no digest", [(1, DROP)]),
        ("digest of 33 bytes", [(1, bytes(33))]),
        ("no block", [(2, DROP)]),
        ("block below zero", [(2, -1)]),
        ("entry 3", [(3, 1)]),
    ],
    "commission": [
        ("no technician", [(1, DROP)]),
        ("no place", [(2, DROP)]),
        ("photo of 31 bytes", [(3, bytes(31))]),
        ("no values", [(4, DROP)]),
        ("values empty", [(4, {})]),
        ("a value not in its normal form", [(4, {264: [100, 0]})]),
        ("entry 5", [(5, 1)]),
    ],
    "event": [
        ("no code", [(1, DROP)]),
        ("code below zero", [(1, -1)]),
        ("quantity that no code packs to", [(2, 255)]),
        ("quantity below zero", [(2, -1)]),
        ("words as bytes", [(3, b"x")]),
        ("entry 4", [(4, 1)]),
    ],
    "exchange": [
        ("no old serial number", [(1, DROP)]),
        ("no old values", [(2, DROP)]),
        ("no serial number", [(3, DROP)]),
        ("no values", [(4, DROP)]),
        ("serial number as a number", [(3, 4711)]),
        ("a value not in its normal form", [(2, {264: [0, 1]})]),
        ("entry 5", [(5, 1)]),
    ],
}


def _others(named: Mapping[str, bytes], key: KeyStore) -> Iterator[Twin]:
    for source, recipes in _BODIES.items():
        yield from _body(source.partition(",")[0], named[source], recipes, key)


def _body(kind: str, good: bytes, recipes: list[tuple[str, list[tuple[Any, Any]]]], key: KeyStore) -> Iterator[Twin]:
    protected, _, payload, _ = parts(good)
    fields, header = cbor2.loads(payload), cbor2.loads(protected)

    def twin(name: str, *changes: tuple[Any, Any], sub: str | None = None) -> Twin:
        claims = header[15] if sub is None else {1: header[15][1], 2: sub}
        data = encode(changed(header, (15, claims)))
        return f"{kind}: {name}", sign1(data, encode(changed(fields, *changes)), key.sign_digest), False

    yield twin("no body", (13, DROP))
    yield twin("body as an array", (13, [1]))
    yield twin("body empty", (13, {}))
    yield twin("field 14 beside it", (14, 1))
    for name, changes in recipes:
        yield twin(name, (13, changed(fields[13], *changes)))
    if header[15][2] == "-":
        yield twin("about a meter", sub="sdm630")
    elif kind not in ("gap", "event"):
        yield twin("about the gateway itself", sub="-")


# ---- batches


def batches(part: Batch, whole: Batch, after_rekey: bytes, key: KeyStore) -> list[dict[str, Any]]:
    """Wrong twins of batches; those whose statements differ carry a root that fits.

    ``zeros``: so many of them follow ``bytes``, which would be too long to write down.
    """
    found = []
    for name, data in _batches(part, whole, after_rekey, key):
        short = data.rstrip(b"\0") if len(data) > batch.MAX_BYTES else data
        zeros = {"zeros": len(data) - len(short)} if short != data else {}
        found.append({"name": name, "bytes": short.hex(), **zeros, "refusal": _batch_refusal(name, data)})
    return found


def _batch_refusal(name: str, data: bytes) -> dict[str, str]:
    try:
        batch.parse(data)
    except Malformed as error:
        return {"place": error.place, "reason": error.reason}
    raise AssertionError(f"{name}: is accepted")


def _batches(part: Batch, whole: Batch, after_rekey: bytes, key: KeyStore) -> Iterator[tuple[str, bytes]]:
    fields = cbor2.loads(part.data)
    messages = list(part.statements)

    def twin(name: str, *changes: tuple[Any, Any]) -> tuple[str, bytes]:
        return name, encode(changed(fields, *changes))

    def rebuilt(
        name: str, messages: list[bytes], first: int = part.first, prev: bytes = part.prev
    ) -> tuple[str, bytes]:
        rows = [(signed_digest(parts(one)[0], parts(one)[2]), one) for one in messages]
        return name, batch.build(part.stream, first, prev, rows).data

    def spoken(number: int, *changes: tuple[Any, Any], gateway: str | None = None) -> list[bytes]:
        """The statements, from ``number`` on signed anew with changes in that one and the chain whole."""
        found = messages[:number]
        prev = signed_digest(parts(found[-1])[0], parts(found[-1])[2]) if found else part.prev
        for position, message in enumerate(messages[number:]):
            protected, _, payload, _ = parts(message)
            body = changed(cbor2.loads(payload), (4, prev), *(changes if not position else ()))
            if gateway and not position:
                header = cbor2.loads(protected)
                protected = encode(changed(header, (15, {1: gateway, 2: header[15][2]})))
            found.append(sign1(protected, encode(body), key.sign_digest))
            prev = signed_digest(protected, encode(body))
        return found

    for field in range(1, 9):
        yield twin(f"field {field} missing", (field, DROP))
        yield twin(f"field {field} as text", (field, "x"))
    yield twin("field 9", (9, 1))
    yield twin("version 2", (1, 2))
    yield twin("version true", (1, True))
    for field, size in ((2, 16), (5, 32), (6, 32), (7, 32)):
        yield twin(f"field {field} of {size - 1} bytes", (field, fields[field][:-1]))
    yield twin("first below zero", (3, -1))
    yield twin("first is another", (3, part.first + 1))
    yield twin("count is another", (4, part.count + 1))
    yield twin("count 0 and no statements", (4, 0), (8, []))
    yield twin("prev is another", (5, bytes(32)))
    yield twin("head is another", (6, part.prev))
    yield twin("root is another", (7, bytes(32)))
    yield twin("stream is another", (2, bytes(16)))
    yield twin("a statement as an array", (8, [*messages[:1], [1], *messages[2:]]))
    yield twin("a malformed statement", (8, [messages[0], messages[1][:-1], *messages[2:]]))
    yield twin("1,001 statements", (4, 1001), (8, [b"\0"] * 1001))
    yield "longer than 256 KiB", part.data + bytes(batch.MAX_BYTES)
    yield "a byte behind the end", part.data + b"\0"
    yield "the last byte missing", part.data[:-1]
    yield "fields out of order", encode(Pairs(list(fields.items())[::-1]))
    yield (
        "array of indefinite length",
        encode(changed(fields, (8, Raw(b"\x9f" + b"".join(map(encode, messages)) + b"\xff")))),
    )
    yield rebuilt("a statement missing in the middle", [messages[0], *messages[2:]])
    yield rebuilt("two statements swapped", [messages[0], messages[2], messages[1], messages[3]])
    yield rebuilt("a statement twice", [*messages[:2], *messages[1:]])
    yield rebuilt("prev does not fit the first statement", messages, prev=bytes(range(32)))
    yield rebuilt("first does not fit the first statement", messages, first=part.first + 1)
    yield rebuilt("a statement of another stream", spoken(2, (2, bytes(range(16)))))
    yield rebuilt("a statement of another gateway", spoken(2, gateway="gw-test-2"))
    yield rebuilt("the boot counter falls", spoken(2, (5, 6)))
    yield rebuilt("a seq is left out", spoken(2, (3, part.first + 3)))
    rekeyed = [*whole.statements[-2:], after_rekey]
    prev = cbor2.loads(parts(rekeyed[0])[2])[4]
    yield rebuilt("goes on after a rekey", rekeyed, whole.count - 2, prev)


# ---- trees


def trees(vector: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Proofs that prove nothing, of the tree in ``vector``."""
    leaves, root = [bytes.fromhex(leaf) for leaf in vector["leaves"]], bytes.fromhex(vector["root"])
    path = [bytes.fromhex(node) for node in vector["proofs"][2]]
    cases: list[tuple[str, bytes, int, int, list[bytes], bytes]] = [
        ("another leaf", leaves[1], 2, 5, path, root),
        ("another place", leaves[2], 3, 5, path, root),
        ("a place past the end", leaves[2], 5, 5, path, root),
        ("a place below zero", leaves[2], -1, 5, path, root),
        ("another size", leaves[2], 2, 9, path, root),
        ("a node missing", leaves[2], 2, 5, path[:-1], root),
        ("a node too many", leaves[2], 2, 5, [*path, path[0]], root),
        ("nodes swapped", leaves[2], 2, 5, [path[1], path[0], *path[2:]], root),
        ("another root", leaves[2], 2, 5, path, leaves[0]),
        ("a node as the leaf", path[0] + path[1], 0, 1, [], root),
    ]
    for name, leaf, index, size, nodes, expected in cases:
        assert not merkle.verify_proof(leaf, index, size, nodes, expected), name
    return [
        {
            "name": name,
            "leaf": leaf.hex(),
            "index": index,
            "size": size,
            "proof": [node.hex() for node in nodes],
            "root": expected.hex(),
        }
        for name, leaf, index, size, nodes, expected in cases
    ]


# ---- receipts and heads


def trust_of(certificates: Mapping[str, bytes]) -> Trust:
    """The roots of the vectors."""
    load = x509.load_der_x509_certificate
    return Trust((load(certificates["gateway root"]),), {"Org1MSP": (load(certificates["organisation root"]),)})


def committed(good: bytes) -> receipt.Receipt:
    """What the right receipt says is committed: the local batch."""
    return receipt.parse(good)


def receipts(
    good: bytes, other: bytes, key: KeyStore, stranger: KeyStore, certificates: Mapping[str, bytes]
) -> list[dict[str, Any]]:
    """Wrong twins of receipts, as the batch's own gateway judges them. ``other``: a message of another type."""
    trust, local = trust_of(certificates), committed(good)
    found = []
    for name, data, cose in _receipts(good, other, key, stranger, certificates):
        try:
            receipt.check(data, local.gateway, local, trust, local.block)
        except Rejected as error:
            refusal = {"reason": error.reason, "words": str(error)}
        else:
            raise AssertionError(f"{name}: is accepted")
        found.append({"name": name, "cose_must_refuse": cose, "bytes": data.hex(), "refusal": refusal})
    return found


def _receipts(
    good: bytes, other: bytes, key: KeyStore, stranger: KeyStore, certificates: Mapping[str, bytes]
) -> Iterator[Twin]:
    protected, chain, payload, signature = parts(good)
    header, unprotected = cbor2.loads(protected), cbor2.loads(chain)
    ledger = header[-70001]
    certificate = certificates["receipt"]

    def twin(
        name: str, *changes: tuple[Any, Any], by: KeyStore = key, chain: Any = None, root: bytes = payload
    ) -> Twin:
        data = encode(changed(header, *changes))
        return name, sign1(data, root, by.sign_digest, unprotected if chain is None else chain), False

    def place(name: str, *changes: tuple[Any, Any]) -> Twin:
        return twin(name, (-70001, changed(ledger, *changes)))

    def claims(name: str, *changes: tuple[Any, Any]) -> Twin:
        return twin(name, (15, changed(header[15], *changes)))

    yield "longer than 16 KiB", good + bytes(16384), False
    yield "nothing at all", b"", True
    yield "no tag", good[1:], False
    yield "a byte behind the end", good + b"\0", False
    yield "the last byte missing", good[:-1], True
    yield "a statement", other, False
    yield twin("typ of a head", (16, "application/vnd.aigeco.h1"))
    yield twin("no typ", (16, DROP))
    for entry in (1, 15, 34, 395, -70001):
        yield twin(f"no entry {entry}", (entry, DROP))
    yield twin("algorithm ES384", (1, -35))
    yield twin("an entry too many", (4, b"12345678"))
    yield twin("another tree", (395, 2))
    yield twin("x5t of another algorithm", (34, [-15, header[34][1]]))
    yield twin("x5t of 31 bytes", (34, [-16, header[34][1][:31]]))
    yield claims("no organisation", (1, DROP))
    yield claims("organisation with a slash", (1, "Org1/MSP"))
    yield claims("gateway with a plus", (2, "gw+1"))
    yield claims("time below zero", (6, -1))
    yield claims("time as text", (6, "now"))
    yield claims("a claim too many", (7, b"id"))
    for entry in range(1, 9):
        yield place(f"ledger entry {entry} missing", (entry, DROP))
    yield place("ledger entry 9", (9, 1))
    yield place("channel as bytes", (1, b"embedded"))
    yield place("block below zero", (2, -1))
    yield place("transaction of 31 bytes", (3, ledger[3][:31]))
    yield place("stream of 15 bytes", (5, ledger[5][:15]))
    yield place("head of 33 bytes", (8, ledger[8] + b"\0"))
    yield twin("root of 31 bytes", root=payload[:31])
    yield twin("no certificate", chain={})
    yield twin("certificates empty", chain={33: []})
    yield twin("four certificates", chain={33: [certificate] * 4})
    yield twin("certificate as text", chain={33: "PEM"})
    yield twin("an unprotected entry too many", chain={4: b"x", 33: certificate})
    yield twin("certificate that is none", chain={33: b"certificate"})
    yield twin("certificate with something behind it", chain={33: certificate + b"\0"})
    yield twin("certificate of a gateway", chain={33: certificates["gateway"]})
    yield twin("certificate of its root", chain={33: certificates["organisation root"]})
    yield twin("an issuer that is not one", chain={33: [certificate, certificates["peer"]]})
    yield claims("organisation without a pinned root", (1, "Org2MSP"))
    yield claims("before the certificate was valid", (6, 1_700_000_000))
    yield claims("after the certificate was valid", (6, 3_000_000_000))
    peer = certificates["peer"]
    yield twin(
        "certificate without the role", (34, [-16, hashlib.sha256(peer).digest()]), by=stranger, chain={33: peer}
    )
    yield twin("x5t of another certificate", (34, [-16, bytes(32)]))
    name, data, _ = twin("signed by another key", by=stranger)
    yield name, data, True
    outer = [protected, unprotected, payload]
    yield (
        "one bit of the signature changed",
        b"\xd2" + encode([*outer, bytes([signature[0] ^ 1, *signature[1:]])]),
        True,
    )
    high = signature[:32] + (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    yield "s in the upper half", b"\xd2" + encode([*outer, high]), False
    yield "root put in afterwards", b"\xd2" + encode([protected, unprotected, bytes(32), signature]), True
    yield twin("another root, signed", root=bytes(32))
    yield claims("for another gateway", (2, "gw-test-2"))
    yield place("another stream", (5, bytes(16)))
    yield place("another first seq", (6, ledger[6] + 1))
    yield place("another count", (7, ledger[7] + 1))
    yield place("another head", (8, bytes(32)))
    yield place("not VALID", (4, 11))
    yield place("a block below the newest", (2, ledger[2] - 1))


# ---- hello, head, refusal


def dialogues(
    hello: dialogue.Hello,
    head_message: bytes,
    refusal: dialogue.Refusal,
    key: KeyStore,
    stranger: KeyStore,
    certificates: Mapping[str, bytes],
) -> dict[str, list[dict[str, Any]]]:
    """Wrong twins of hello, head and refusal."""
    trust = trust_of(certificates)
    gateway = dialogue.parse_head(head_message).gateway

    def refused(read: Callable[[bytes], object], twins: Iterator[tuple[str, bytes]]) -> list[dict[str, Any]]:
        found = []
        for name, data in twins:
            try:
                read(data)
            except Malformed as error:
                words = {"place": error.place, "reason": error.reason}
            except Rejected as error:
                words = {"reason": error.reason, "words": str(error)}
            else:
                raise AssertionError(f"{name}: is accepted")
            found.append({"name": name, "bytes": data.hex(), "refusal": words})
        return found

    return {
        "hello": refused(dialogue.Hello.decode, _hellos(cbor2.loads(hello.encode()))),
        "head": refused(
            lambda data: dialogue.check_head(data, gateway, hello, trust),
            _heads(head_message, key, stranger, certificates),
        ),
        "refusal": refused(dialogue.Refusal.decode, _refusals(cbor2.loads(refusal.encode()))),
    }


def _hellos(items: list[Any]) -> Iterator[tuple[str, bytes]]:
    def twin(name: str, position: int, value: Any) -> tuple[str, bytes]:
        return name, encode([*items[:position], value, *items[position + 1 :]])

    yield "nothing at all", b""
    yield "four items", encode(items[:4])
    yield "six items", encode([*items, 0])
    yield "a map", encode(dict(enumerate(items)))
    yield "a byte behind the end", encode(items) + b"\0"
    yield twin("version 2", 0, 2)
    yield twin("version true", 0, True)
    yield twin("stream of 15 bytes", 1, items[1][:15])
    yield twin("seq null", 2, None)
    yield twin("seq below zero", 2, -1)
    yield twin("sid null", 3, None)
    yield twin("sid of 31 bytes", 3, items[3][:31])
    yield twin("nonce of 15 bytes", 4, items[4][:15])
    yield twin("nonce as text", 4, "x" * 16)
    yield twin("seq not in its shortest form", 2, Raw(head(0, items[2], 1)))
    yield "longer than 1 KiB", encode([*items[:4], bytes(1100)])


def _refusals(fields: dict[int, Any]) -> Iterator[tuple[str, bytes]]:
    def twin(name: str, *changes: tuple[Any, Any]) -> tuple[str, bytes]:
        return name, encode(changed(fields, *changes))

    yield "nothing at all", b""
    yield "an array", encode(list(fields))
    for field in (1, 2, 6, 7):
        yield twin(f"field {field} missing", (field, DROP))
    yield twin("seq without its sid", (4, DROP))
    yield twin("sid without its seq", (3, DROP))
    yield twin("version 2", (6, 2))
    yield twin("reason below zero", (1, -1))
    yield twin("stream of 17 bytes", (2, bytes(17)))
    yield twin("root of 31 bytes", (7, bytes(31)))
    yield twin("words as bytes", (5, b"x"))
    yield twin("words of 257 bytes", (5, "x" * 257))
    yield twin("retry as text", (8, "x"))
    yield twin("field 9", (9, 1))
    yield "fields out of order", encode(Pairs(list(fields.items())[::-1]))
    yield "a byte behind the end", encode(fields) + b"\0"


def _heads(
    good: bytes, key: KeyStore, stranger: KeyStore, certificates: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes]]:
    protected, chain, payload, _ = parts(good)
    header, items, unprotected = cbor2.loads(protected), cbor2.loads(payload), cbor2.loads(chain)

    def signed(name: str, items: Any, by: KeyStore = key, *changes: tuple[Any, Any]) -> tuple[str, bytes]:
        return name, sign1(encode(changed(header, *changes)), encode(items), by.sign_digest, unprotected)

    def twin(name: str, position: int, value: Any) -> tuple[str, bytes]:
        return signed(name, [*items[:position], value, *items[position + 1 :]])

    yield "nothing at all", b""
    yield "longer than 16 KiB", good + bytes(16384)
    yield "a byte behind the end", good + b"\0"
    yield signed("typ of a receipt", items, key, (16, "application/vnd.aigeco.r1"))
    yield signed("an entry too many", items, key, (395, 1))
    yield signed("four items", items[:4])
    yield twin("version 2", 0, 2)
    yield twin("seq null, sid not", 2, None)
    yield twin("sid null, seq not", 3, None)
    yield twin("sid of 31 bytes", 3, items[3][:31])
    yield twin("seq below zero", 2, -1)
    yield signed("signed by another key", items, stranger)
    yield signed("for another gateway", items, key, (15, changed(header[15], (2, "gw-test-2"))))
    yield signed("of an organisation without a pinned root", items, key, (15, changed(header[15], (1, "Org2MSP"))))
    yield twin("another nonce", 4, bytes(16))
    yield twin("another stream", 1, bytes(16))
