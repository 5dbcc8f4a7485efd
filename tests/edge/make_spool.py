"""Makes a small spool in which everything occurs, with the code that is here: ``python -m tests.edge.make_spool NAME``.

Run once before the format changes, it leaves tests/data/spools/NAME.db and, in NAME.json, what that code exports of it
(SHA-256 of each file): so a later version can be asked whether it finds the same evidence in it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from drivers import map as maps
from edge import export
from edge.spool import Position, Process, Spool
from signer.chain import Chain, Descriptor
from signer.codes import BootReason
from signer.trust import Trust
from tests.edge import chains
from tests.edge.chains import GATEWAY, START_MS, instant
from tests.edge.places import MODEL

FOLDER = Path(__file__).parents[1] / "data" / "spools"


def make(path: Path) -> None:
    """Three lives of a gateway: receipts of two organisations, pruned ones, an abandoned stream, a batch under way."""
    spool = Spool.open(path, GATEWAY, START_MS)
    made_by = chains.chain()
    spool.append([chains.genesis(made_by)])
    _live(spool, made_by, boot=1, slots=range(12))
    spool.close("clean")
    spool = Spool.open(path, GATEWAY, START_MS)
    _live(spool, made_by, boot=2, slots=range(12, 14))
    spool.prune(2)
    other = chains.chain(seed=1)
    spool.append([chains.genesis(other, made_by.head)], abandon_from=spool.next_uncommitted()[0])
    _live(spool, other, boot=3, slots=range(20, 24))
    spool.next_batch()
    spool.close()


def _live(spool: Spool, made_by: Chain, boot: int, slots: range) -> None:
    known = maps.load(MODEL)
    said = made_by.boot_statement(instant(slots[0] * 1000), BootReason.POWER, 0, bytes(32), "0.1.0")
    spool.append([said], process=Process(boot, "host", "0.1.0", said.seq))
    about = Descriptor(1000, known.digest, known.name, 0, f"serial-{boot}")
    spool.append([made_by.descriptor(f"m{n}", instant(), about) for n in range(2)], maps=[known])
    for slot in slots:
        until = Position(START_MS + (slot + 1) * 1000, 1000)
        spool.append(chains.readings(made_by, 2, slot), {f"m{n}": until for n in range(2)})
        if slot % 4 == 1 and (batch := spool.next_batch()):
            spool.settle(batch, [chains.receipt_for(batch, name, slot) for name in ("Org1MSP", "Org2MSP")])


def exported(path: Path) -> dict[str, str]:
    """SHA-256 of every file that an export of a spool is made of."""
    with tempfile.TemporaryDirectory() as folder:
        place = export.export(path, Path(folder) / "evidence", Trust()).folder
        files = sorted(file for file in place.rglob("*") if file.is_file())
        return {str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    target = FOLDER / f"{sys.argv[1]}.db"
    make(target)
    target.with_suffix(".json").write_text(json.dumps(exported(target), indent=1) + "\n")
    for suffix in (".lock", "-wal", "-shm"):  # of a spool that was closed; the log is empty
        Path(f"{target}{suffix}").unlink(missing_ok=True)
