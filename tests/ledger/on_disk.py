"""A ledger's file on disk, called by whom a test says; batches are committed as a peer commits them, with receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509

from hw_sim.authority import Authority
from ledger.embedded import EmbeddedLedger, Issuer, LedgerFile
from ledger.rules.record import pack, parse
from ledger.rules.world import Caller
from signer.batch import parse as parse_batch
from signer.keys.file import FileKey
from signer.trust import Trust
from tests.ledger.lines import NOW, START_MS, der
from tests.ledger.scene import COMMUNITY


class OnDisk:
    """What ``MemoryLedger`` of ``tests.ledger.world`` does, in a file that a peer could serve.

    Attributes:
        organisation: whose receipts these are.
    """

    def __init__(self, path: Path) -> None:
        self.file, self.time_ms = LedgerFile(path, COMMUNITY, now_s=lambda: START_MS / 1000), START_MS
        self.organisation = Authority(COMMUNITY, now=NOW)
        issued = self.organisation.receipts()
        self._issuer = Issuer(COMMUNITY, FileKey(issued.key), (der(issued.certificate),))

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """Of gateways, as the registry has them."""
        listed = parse(self.file.operator.ask("registry", "List", {"kind": "authority"}))
        return tuple(x509.load_der_x509_certificate(bytes.fromhex(entry["certificate"])) for entry in listed)

    def commit(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        secrets = {name: value if isinstance(value, bytes) else pack(value) for name, value in (secret or {}).items()}
        if function == "SubmitBatch":
            peer = EmbeddedLedger(self.file, self._issuer, Trust(self.roots), lambda: self.time_ms / 1000)
            before = self.file.last()
            peer.commit(*parse_batch(secrets["batch"]), arguments["gateway"], 1.0)
            return pack({"outcome": "exists" if self.file.last() == before else "committed"})
        call = (contract, function, pack(arguments), caller, self.time_ms, secrets)
        return self.file.transact(lambda: self.file.world.commit(*call)).answer

    def evaluate(self, contract: str, function: str, arguments: Any, caller: Caller, secret: Any = None) -> bytes:
        return self.file.world.evaluate(contract, function, pack(arguments), caller, self.time_ms)
