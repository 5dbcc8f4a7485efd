"""Makes the test vectors. They are frozen: this refuses to overwrite, and a test has it make the same again.

    python tests/vectors/make.py               # writes what is not there yet
    python tests/vectors/make.py --overwrite   # a new version of the format, and nothing else, is a reason

Rules
- Everything is fixed: keys, salts, instants, certificates; signatures take the nonces of RFC 6979.
- A wrong twin breaks one rule and carries a valid signature wherever the rule leaves room for one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import wrong  # noqa: E402

from drivers.reading import Block, Reading, exact  # noqa: E402
from signer import batch, dialogue, encode, merkle, receipt, statement  # noqa: E402
from signer.chain import Chain, Descriptor  # noqa: E402
from signer.keys.file import FileKey  # noqa: E402
from signer.statement import Instant, Statement  # noqa: E402

GATEWAY = "gw-test-1"
START_MS = 1_780_272_000_000  # 2026-06-01T00:00:00Z
SCALARS = {
    name: hashlib.sha256(f"aigeco test vector key: {name}".encode()).digest()
    for name in ("gateway root", "gateway", "gateway 2", "organisation root", "receipt", "stranger")
}
KEYS = {
    name: ec.derive_private_key(int.from_bytes(scalar, "big") % (wrong.ORDER - 1) + 1, ec.SECP256R1())
    for name, scalar in SCALARS.items()
}


def certificate(name: str, common_name: str, issuer: str, ca: bool = False, role: str | None = None) -> bytes:
    """A certificate, the same at every call; DER."""

    def subject(text: str, organisation: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation), x509.NameAttribute(NameOID.COMMON_NAME, text)]
        )

    organisation = "Org1MSP" if issuer == "organisation root" else "Operator"
    usage = {
        "digital_signature": not ca,
        "key_cert_sign": ca,
        "crl_sign": ca,
    } | dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(common_name, organisation))
        .issuer_name(subject(f"{organisation} CA", organisation))
        .public_key(KEYS[name].public_key())
        .serial_number(int.from_bytes(hashlib.sha256(common_name.encode()).digest()[:8], "big"))
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2036, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=1 if ca else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )
    if role:
        attributes = x509.UnrecognizedExtension(
            ObjectIdentifier("1.2.3.4.5.6.7.8.1"), json.dumps({"attrs": {"aigeco.role": role}}).encode()
        )
        builder = builder.add_extension(attributes, critical=False)
    made = builder.sign(KEYS[issuer], hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(serialization.Encoding.DER)


def store(name: str) -> FileKey:
    return FileKey(KEYS[name], deterministic=True)


CERTIFICATES = {
    "gateway root": certificate("gateway root", "Operator CA", "gateway root", ca=True),
    "gateway": certificate("gateway", f"gw-{GATEWAY}", "gateway root"),
    "gateway 2": certificate("gateway 2", f"gw-{GATEWAY}", "gateway root"),
    "organisation root": certificate("organisation root", "Org1MSP CA", "organisation root", ca=True),
    "receipt": certificate("receipt", "org-Org1MSP", "organisation root", role="receipt"),
    "peer": certificate("stranger", "org-Org1MSP", "organisation root", role="peer"),
}


class Scene:
    """One gateway that says one of everything."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Statement, str]] = []  # name, statement, key
        self._salts = 0
        self._clock_ms = START_MS
        self.chain = Chain(GATEWAY, store("gateway"), None, 7, self._salt)
        self._speak()

    def _salt(self, size: int) -> bytes:
        self._salts += 1
        return hashlib.sha256(f"salt {self._salts}".encode()).digest()[:size]

    def _instant(self, clock: int = 2) -> Instant:
        self._clock_ms += 1000
        return Instant(self._clock_ms + 83, self._clock_ms - START_MS + 12_345, clock, 4)

    def _keep(self, name: str, made: Statement, key: str = "gateway") -> None:
        self.made.append((name, made, key))

    def _speak(self) -> None:
        chain, at = self.chain, self._instant
        root, signer = CERTIFICATES["gateway root"], CERTIFICATES["gateway"]
        digest = hashlib.sha256(b"map file").digest()
        twelve = (264, 520, 4103, 7943, 8199, 9223, 13063, 13319, 14343, 18183, 18439, 19463)
        values = tuple((key, exact(2_301_457 + 7919 * key, -3)) for key in twelve)
        blocks = (Block(4, 0, bytes(range(60))), Block(4, 342, bytes(range(100, 108))))
        self._keep("genesis", chain.genesis(at(0), (signer,)))
        self._keep("boot", chain.boot_statement(at(), 1, START_MS - 60_000, digest, "0.1.0"))
        self._keep("boot, shortest", chain.boot_statement(at(), 0, 0))
        full = Descriptor(
            60_000,
            digest,
            "eastron-sdm630",
            0,
            "20431177",
            (("invert", "true"), ("ratio", "40/1")),
            ((1, 40002), (103, 40070)),
        )
        self._keep("descriptor", chain.descriptor("sdm630", at(), full))
        self._keep("descriptor, shortest", chain.descriptor("pv-1", at(), Descriptor(1000, digest, "m", 2, "")))
        slot = START_MS
        self._keep("reading, twelve quantities", chain.reading(Reading("sdm630", slot, None, values, 83, blocks), at()))
        self._keep("reading, failed", chain.reading(Reading("sdm630", slot + 60_000, 2, (), 1500), at()))
        self._keep("reading, nothing asked", chain.reading(Reading("sdm630", slot + 120_000, 3), at(3)))
        edges = (
            (264, exact(0, 0)),
            (520, exact(-1, -9)),
            (4103, exact(-(1 << 63), 0)),
            (33031, exact((1 << 64) - 1, 0)),
            (1 << 48 | 1 << 32 | 1 << 16 | 8 << 8 | 1, exact(5, 9, 1)),
            (1 << 48 | 1 << 32 | 1 << 16 | 8 << 8 | 2, exact(120, 9, 65535)),
        )
        self._keep("reading, edges of values", chain.reading(Reading("pv-1", slot, 8, edges, 0), at()))
        self._keep("gap", chain.gap("sdm630", at(), 1, slot + 180_000, slot + 360_000, 3))
        self._keep("gap of all", chain.gap("-", at(), 4, slot + 180_000, slot + 360_000, 6))
        self._keep("clock, back", chain.clock(at(), -3_600_000, 1))
        self._keep("clock, on", chain.clock(at(4), 42, 4))
        self._keep("checkpoint", chain.checkpoint(at(), hashlib.sha256(b"receipt").digest(), 4711))
        first = ((264, exact(1, 0)), (520, exact(2, 0)))
        self._keep("commission", chain.commission("sdm630", at(), "T. Echnician", "cellar 3", first, digest))
        self._keep("event", chain.event("sdm630", at(), 5, 264, "unchanged for 3 h"))
        self._keep("event, shortest", chain.event("-", at(), 12))
        self._keep("exchange", chain.exchange("sdm630", at(), "20431177", first, "20431178", first))
        self._keep("rekey", chain.rekey(at(), store("gateway 2"), (CERTIFICATES["gateway 2"], root)))
        after = chain.head
        self._keep("reading, after the rekey", chain.reading(Reading("sdm630", slot + 360_000, 11), at()), "gateway 2")
        assert after is not None
        recovered = (after.stream, after.seq, after.sid)
        self._keep(
            "genesis, recovered", chain.genesis(at(1), (CERTIFICATES["gateway 2"], root), recovered), "gateway 2"
        )
        carried = (encode.body({13: {1: [True, None, -5], 2: {3: b"later"}}, 99: "carried"}), 2)
        self._keep("unknown kind", chain._link(99, "sdm630", at(), carried), "gateway 2")


def plain(item: Any) -> Any:
    """CBOR as JSON: bytes ``{"hex": ...}``, maps ``{"map": [[key, value], ...]}``, integers past 2**53 as text."""
    if isinstance(item, bytes):
        return {"hex": item.hex()}
    if isinstance(item, dict):
        return {"map": [[plain(key), plain(value)] for key, value in item.items()]}
    if isinstance(item, list):
        return [plain(entry) for entry in item]
    if isinstance(item, int) and abs(item) > 1 << 53:
        return {"int": str(item)}
    return item


def statements(scene: Scene) -> dict[str, Any]:
    vectors = []
    for name, made, key in scene.made:
        claims = statement.parse(made.data)
        protected, _, payload, signature = wrong.parts(made.data)
        vectors.append(
            {
                "name": name,
                "key": key,
                "input": {
                    "gateway": claims.gateway,
                    "sub": claims.sub,
                    "kind": claims.kind,
                    "stream": claims.stream.hex(),
                    "seq": claims.seq,
                    "prev": claims.prev.hex(),
                    "boot": claims.boot,
                    "utc_ms": claims.instant.utc_ms,
                    "boot_ms": claims.instant.boot_ms,
                    "clock": [claims.instant.clock, claims.instant.error_ms],
                    "salt": claims.salt.hex(),
                    "body": plain(claims.body),
                },
                "protected": protected.hex(),
                "payload": payload.hex(),
                "sid": made.sid.hex(),
                "signature": signature.hex(),
                "bytes": made.data.hex(),
            }
        )
    named = {name: made.data for name, made, _ in scene.made}
    return {
        "about": "COSE_Sign1 statements of version 1; signatures with the nonces of RFC 6979, s in the lower half",
        "vectors": vectors,
        "wrong": wrong.statements(named, store("gateway"), store("stranger")),
    }


def batches(scene: Scene) -> dict[str, Any]:
    made = [one for _, one, _ in scene.made]
    whole = batch.build(statement.stream_of(made[0].sid), 0, bytes(32), [(one.sid, one.data) for one in made[:-3]])
    middle = made[5:9]
    part = batch.build(whole.stream, 5, made[4].sid, [(one.sid, one.data) for one in middle])
    single = batch.build(whole.stream, 0, bytes(32), [(made[0].sid, made[0].data)])
    vectors = [
        {
            "name": name,
            "stream": one.stream.hex(),
            "first": one.first,
            "count": one.count,
            "prev": one.prev.hex(),
            "head": one.head.hex(),
            "root": one.root.hex(),
            "statements": [message.hex() for message in one.statements],
            "bytes": one.data.hex(),
        }
        for name, one in (("from genesis to rekey", whole), ("from the middle", part), ("of one statement", single))
    ]
    return {
        "about": "batches: what one MQTT message carries",
        "vectors": vectors,
        "wrong": wrong.batches(part, whole, made[-3].data, store("gateway")),
    }


def trees() -> dict[str, Any]:
    vectors = []
    for size in (1, 2, 3, 5, 8, 13):
        leaves = [hashlib.sha256(bytes([size, index])).digest() for index in range(size)]
        paths = [[node.hex() for node in merkle.proof(leaves, index)] for index in range(size)]
        vectors.append({"leaves": [leaf.hex() for leaf in leaves], "root": merkle.root(leaves).hex(), "proofs": paths})
    return {
        "about": "Merkle trees and inclusion proofs, RFC 9162 section 2.1; leaves are hashed with the prefix 00",
        "empty_root": merkle.root([]).hex(),
        "vectors": vectors,
        "wrong": wrong.trees(vectors[3]),
    }


def receipts(scene: Scene) -> dict[str, Any]:
    made = [one for _, one, _ in scene.made][5:9]
    stream = statement.stream_of(scene.made[0][1].sid)
    one = batch.build(stream, 5, scene.made[4][1].sid, [(each.sid, each.data) for each in made])
    transaction = hashlib.sha256(one.root + bytes(32)).digest()
    issued_s = START_MS // 1000 + 60
    chains = {
        "one certificate": (CERTIFICATES["receipt"],),
        "with its root": (CERTIFICATES["receipt"], CERTIFICATES["organisation root"]),
    }
    vectors = []
    for name, chain in chains.items():
        data = receipt.issue(store("receipt"), chain, "Org1MSP", GATEWAY, issued_s, one, "embedded", 42, transaction)
        protected, _, payload, signature = wrong.parts(data)
        vectors.append(
            {
                "name": name,
                "input": {
                    "organisation": "Org1MSP",
                    "gateway": GATEWAY,
                    "issued_s": issued_s,
                    "channel": "embedded",
                    "block": 42,
                    "transaction": transaction.hex(),
                    "certificates": [certificate.hex() for certificate in chain],
                    "stream": one.stream.hex(),
                    "first": one.first,
                    "count": one.count,
                    "head": one.head.hex(),
                    "root": one.root.hex(),
                },
                "protected": protected.hex(),
                "payload": payload.hex(),
                "signature": signature.hex(),
                "bytes": data.hex(),
            }
        )
    return {
        "about": "receipts; each wrong one is refused by the check for this batch, these roots, newest block 42",
        "newest_block": 42,
        "vectors": vectors,
        "wrong": wrong.receipts(
            bytes.fromhex(vectors[0]["bytes"]), scene.made[5][1].data, store("receipt"), store("stranger"), CERTIFICATES
        ),
    }


def dialogues(scene: Scene) -> dict[str, Any]:
    stream, last = statement.stream_of(scene.made[0][1].sid), scene.made[8][1]
    hello = dialogue.Hello(stream, last.seq, last.sid, hashlib.sha256(b"nonce").digest()[:16])
    refusals = {
        "out of order": dialogue.Refusal(1, stream, last.sid, 8, last.sid, "send from 9"),
        "stream unknown": dialogue.Refusal(1, stream, last.sid),
        "busy": dialogue.Refusal(6, stream, last.sid, words="later", retry_after_ms=5000),
    }
    heads = {"known": (8, last.sid), "unknown": (None, None)}
    issued_s = START_MS // 1000 + 90
    chain = (CERTIFICATES["receipt"],)
    found = {
        name: dialogue.issue_head(store("receipt"), chain, "Org1MSP", GATEWAY, issued_s, hello, seq, sid)
        for name, (seq, sid) in heads.items()
    }
    return {
        "about": "hello, head and refusal",
        "hello": {
            "stream": stream.hex(),
            "seq": last.seq,
            "sid": last.sid.hex(),
            "nonce": hello.nonce.hex(),
            "bytes": hello.encode().hex(),
        },
        "heads": [
            {
                "name": name,
                "issued_s": issued_s,
                "seq": heads[name][0],
                "sid": last.sid.hex() if heads[name][1] else None,
                "bytes": data.hex(),
            }
            for name, data in found.items()
        ],
        "refusals": [
            {
                "name": name,
                "reason": one.reason,
                "stream": one.stream.hex(),
                "root": one.root.hex(),
                "seq": one.seq,
                "sid": one.sid.hex() if one.sid else None,
                "words": one.words,
                "retry_after_ms": one.retry_after_ms,
                "bytes": one.encode().hex(),
            }
            for name, one in refusals.items()
        ],
        "wrong": wrong.dialogues(
            hello, found["known"], refusals["out of order"], store("receipt"), store("stranger"), CERTIFICATES
        ),
    }


def keys() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in KEYS.items():
        numbers = key.public_key().public_numbers()
        found[name] = {
            "d": key.private_numbers().private_value.to_bytes(32, "big").hex(),
            "x": numbers.x.to_bytes(32, "big").hex(),
            "y": numbers.y.to_bytes(32, "big").hex(),
            "kid": hashlib.sha256(
                key.public_key().public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
            .digest()[:8]
            .hex(),
        }
    return {
        "about": "P-256 keys of the vectors (made for them, secret to nobody) and certificates, DER",
        "keys": found,
        "certificates": {name: data.hex() for name, data in CERTIFICATES.items()},
    }


def build() -> dict[str, Any]:
    """File name -> content."""
    scene = Scene()
    return {
        "keys.json": keys(),
        "statements.json": statements(scene),
        "batches.json": batches(scene),
        "merkle.json": trees(),
        "receipts.json": receipts(scene),
        "dialogue.json": dialogues(scene),
    }


def write(folder: Path, overwrite: bool) -> None:
    """Write the files; those that are there are kept unless ``overwrite``.

    Raises:
        FileExistsError: one is there, and ``overwrite`` is not given.
    """
    for name, content in build().items():
        with open(folder / name, "w" if overwrite else "x") as file:
            json.dump(content, file, indent=1)
            file.write("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overwrite", action="store_true", help="replace the frozen files")
    arguments = parser.parse_args()
    try:
        write(HERE, arguments.overwrite)
    except FileExistsError as error:
        raise SystemExit(
            f"{error.filename} is frozen; --overwrite replaces it, for a new version of the format"
        ) from None


if __name__ == "__main__":
    main()
