"""Holds the grammar against the vectors, and against what our parser accepts, with a CDDL checker that is not ours.

    python verify.py ../../../docs/statement-v1.cddl ../../vectors ACCEPTED

Rules
- Every right vector fits the grammar; so does everything that our parser accepts (lines `rule hex` in ACCEPTED).
- Imports no code of this project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cddl_verifier import Validator


def main(grammar: Path, folder: Path, accepted: Path) -> int:
    schema = Validator(grammar)
    items: list[tuple[str, str]] = []
    statements, batches, receipts, talk = (
        json.loads((folder / name).read_text())
        for name in ("statements.json", "batches.json", "receipts.json", "dialogue.json")
    )
    for vector in statements["vectors"]:
        items.append(("protected-header", vector["protected"]))
        if vector["input"]["kind"] <= 10:
            items.append(("payload", vector["payload"]))
    items += [("batch", vector["bytes"]) for vector in batches["vectors"]]
    items += [("receipt", vector["bytes"]) for vector in receipts["vectors"]]
    items += [("hello", talk["hello"]["bytes"])]
    items += [("refusal", vector["bytes"]) for vector in talk["refusals"]]
    items += [(rule, data) for rule, data in (line.split() for line in accepted.read_text().splitlines())]
    failed = 0
    for rule, data in items:
        result = schema.validate(bytes.fromhex(data), root_type=rule)
        if not result.valid:
            failed += 1
            print(f"FAILED {rule} {data[:80]}: {'; '.join(str(one) for one in result.diagnostics)[:300]}")
    # The checker can refuse: otherwise all of this says nothing.
    assert not schema.validate(b"\x00", root_type="payload").valid
    print(f"{len(items) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
