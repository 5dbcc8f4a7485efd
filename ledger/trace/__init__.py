"""From a settled number back to the statements it was made of, verified on the way; and from a statement forward.

trace = Trace(FileEvidence(path, organisation), trust)
step = trace.numbers.period("sol", "ana", period_ms)
step.worst, list(step.troubles())
"""

from __future__ import annotations

from ledger.trace.evidence import Evidence, Fault
from ledger.trace.forward import Forward
from ledger.trace.numbers import Numbers
from ledger.trace.statements import Receipts, Statements
from ledger.trace.tree import Mark, Step
from signer.trust import Trust


class Trace:
    """Traces on one ledger; what was looked at for one is not looked at again for the next.

    Attributes:
        numbers: back from a settled number.
        forward: forward from a statement.
    """

    def __init__(self, evidence: Evidence, trust: Trust, receipts: Receipts | None = None) -> None:
        """
        Args:
            trust: the organisations whose receipts count.
            receipts: those that others keep, such as gateways.
        """
        self.evidence = evidence
        statements = Statements(evidence, trust, receipts)
        self.numbers = Numbers(evidence, statements)
        self.forward = Forward(evidence, statements)

    def chain(self) -> Step:
        """The chain that all records stand in."""
        try:
            return Step("ledger", self.evidence.chain())
        except Fault as fault:
            return Step("ledger", "", Mark.FAILED, str(fault))
