"""What our parser accepts of almost-right statements, as lines `root-rule hex`, for a grammar checker to judge.

PYTHONPATH=. python tests/interop/python-cddl/accepted.py > accepted.txt
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from signer import batch, cose, dialogue, receipt, statement  # noqa: E402
from signer.errors import Malformed  # noqa: E402


def main() -> None:
    spec = importlib.util.spec_from_file_location("test_parsers", ROOT / "tests/signer/test_parsers.py")
    assert spec
    assert spec.loader
    mutator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutator)
    found: set[tuple[str, bytes]] = set()
    for vector in mutator.STATEMENTS.values():
        for _, data in mutator.mutations(bytes.fromhex(vector["bytes"])):
            try:
                known = statement.parse(data).known
            except Malformed:
                continue
            message = cose.parse(data, statement.MAX_BYTES, "")
            found.add(("protected-header", message.protected))
            if known:  # the grammar of version 1 has no rule for other kinds
                found.add(("payload", message.payload))
    for rule, parse, good in (
        ("batch", batch.parse, mutator.BATCH),
        ("receipt", receipt.parse, mutator.RECEIPT),
        ("hello", dialogue.Hello.decode, mutator.HELLO),
        ("refusal", dialogue.Refusal.decode, mutator.REFUSAL),
    ):
        for _, data in mutator.mutations(good):
            try:
                taken = parse(data)
            except Malformed:
                continue
            if rule != "receipt" or taken.code == 0:  # another code parses, so that its refusal has a reason of its own
                found.add((rule, data))
    for rule, data in sorted(found):
        print(rule, data.hex())


if __name__ == "__main__":
    main()
