"""Checks the frozen vectors with pycose, which knows COSE and nothing of ours.

    python verify.py ../../vectors

Rules
- Reads the JSON files, imports no code of this project.
- Every right statement, receipt and head must verify, with the payload and the identity that the vectors name.
- Every wrong twin that a COSE implementation has to refuse must be refused; where pycose does not, it is written down.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import cbor2
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import Sign1Message

LENIENT = {"five elements"}
"""Wrong twins that pycose takes although COSE forbids them: it looks at the first four elements only."""


def public_key(keys: dict[str, Any], name: str) -> EC2Key:
    found = keys["keys"][name]
    return EC2Key(crv=P256, x=bytes.fromhex(found["x"]), y=bytes.fromhex(found["y"]))


def verifies(data: bytes, key: EC2Key) -> bool:
    """Whether pycose takes the message for one that ``key`` signed."""
    try:
        message = Sign1Message.decode(data)
        message.key = key
        return bool(message.verify_signature())
    except Exception:  # noqa: BLE001  a refusal is a refusal, whatever it is called there
        return False


def identity(data: bytes) -> bytes:
    """SHA-256 of the Sig_structure."""
    protected, _, payload, _ = cbor2.loads(data).value
    return hashlib.sha256(cbor2.dumps(["Signature1", protected, b"", payload])).digest()


def main(folder: Path) -> int:
    keys, statements, receipts, talk = (
        json.loads((folder / name).read_text())
        for name in ("keys.json", "statements.json", "receipts.json", "dialogue.json")
    )
    passed, failed = 0, []

    def check(name: str, held: bool) -> None:
        nonlocal passed
        passed += held
        if not held:
            failed.append(name)

    for vector in statements["vectors"]:
        data = bytes.fromhex(vector["bytes"])
        check(f"statement {vector['name']}", verifies(data, public_key(keys, vector["key"])))
        check(f"payload of {vector['name']}", Sign1Message.decode(data).payload.hex() == vector["payload"])
        check(f"identity of {vector['name']}", identity(data).hex() == vector["sid"])
    for vector in [*receipts["vectors"], *talk["heads"]]:
        check(
            f"receipt or head {vector['name']}", verifies(bytes.fromhex(vector["bytes"]), public_key(keys, "receipt"))
        )
    unseen = 0
    for signer, wrong in (("gateway", statements["wrong"]), ("receipt", receipts["wrong"])):
        for vector in wrong:
            held = verifies(bytes.fromhex(vector["bytes"]), public_key(keys, signer))
            if vector["cose_must_refuse"]:
                check(f"wrong twin: {vector['name']}", held == (vector["name"] in LENIENT))
            else:
                unseen += held
    for name in failed:
        print(f"FAILED {name}")
    print(f"pycose: {unseen} wrong twins break rules that COSE does not know")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
