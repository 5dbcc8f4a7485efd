"""Which statements receipts cover: receipts come in beside the statements, and each must name a whole, existing batch.

Pure but for the sequence it reads from; memory holds one batch's tree.

Rules
- The batch of a receipt is what it says itself (stream, first, count, head); its root is computed again from the sids
  that are there, given or pruned.
- Batches do not overlap; several organisations may have signed for one batch.
- Of one organisation and channel, the block never falls while seq rises.
- A batch ends at a rekey.
- What cannot be looked at because a statement is damaged is reported once, there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from signer import batch, receipt
from signer.bundle import RECEIPTS, Sequence
from signer.errors import Malformed
from signer.merkle import Tree
from signer.receipt import Receipt, Rejected
from signer.report import Tally, Unpinned
from signer.trust import Trust

Fail = Callable[[str], None]

_MAX_GROUPS = 8
"""Different claims about a batch that begins at one seq; honest organisations make one."""

_MAX_UNPINNED = 100
"""Organisations without a root that are counted; names in receipts are foreign bytes, and no community has as many."""


@dataclass(slots=True)
class _Group:
    """Receipts that say the same of one batch, while its statements pass by."""

    first: Receipt
    place: str
    tree: Tree = field(default_factory=Tree)
    organisations: dict[str, int] = field(default_factory=dict)
    pruned: int = 0

    @property
    def last_seq(self) -> int:
        return self.first.first + self.first.count - 1


class Coverage:
    """Matches receipts with the statements of one stream after the other.

    Attributes:
        organisations: organisation -> what it signed for.
        unpinned: organisation without a pinned root -> its receipts.
        unreceipted: statements, given or pruned, that no receipt covers.
    """

    def __init__(self, receipts: Sequence, trust: Trust, fail: Fail) -> None:
        self.organisations: dict[str, Tally] = {}
        self.unpinned: dict[str, Unpinned] = {}
        self.unreceipted = 0
        self._receipts = receipts
        self._trust = trust
        self._fail = fail
        self._next: tuple[str, Receipt] | None = self._read()
        self.begin(b"", "")

    def begin(self, stream: bytes, gateway: str) -> None:
        """A stream begins; the one before has ended."""
        self._stream = stream
        self._gateway = gateway
        self._due: int = 0
        self._groups: list[_Group] = []
        self._newest: dict[tuple[str, str], tuple[int, int]] = {}
        self._seen: int = 0
        self._pruned: int = 0
        self._covered: int = 0
        self._covered_to: int = 0
        self._pruned_covered: int = 0

    def leaf(self, seq: int, sid: bytes | None, prev: bytes, pruned: bool = False, is_rekey: bool = False) -> None:
        """The next statement; ``sid`` None when it is damaged and nothing after it tells."""
        if seq != self._due:
            self._break(f"seq {self._due} is not there")
        self._due = seq + 1
        self._open(seq, prev)
        self._seen += 1
        self._pruned += pruned
        for group in list(self._groups):
            group.pruned += pruned
            closes = seq == group.last_seq
            if sid is None and not closes:
                self._groups.remove(group)
                continue
            group.tree.add(group.first.head if sid is None else sid)
            if is_rekey and not closes:
                self._fail(f"{group.place}: the batch goes on after the rekey at seq {seq}")
            if closes:
                self._groups.remove(group)
                self._close(group, sid)

    def end(self) -> None:
        """The stream ended."""
        self._break(f"the evidence ends at seq {self._due - 1}")
        while self._next and self._next[1].stream == self._stream:
            self._fail(f"{self._next[0]}: covers statements that are not here")
            self._next = self._read()
        self.unreceipted += self._seen - self._covered
        if self._pruned > self._pruned_covered:
            lost = self._pruned - self._pruned_covered
            self._fail(f"{self._gateway}, stream {self._stream.hex()}: {lost} pruned statements have no receipt")
        self.begin(b"", "")

    def finish(self) -> None:
        """No stream comes any more."""
        while self._next:
            self._fail(
                f"{self._next[0]}: stream {self._next[1].stream.hex()} is not here, or its receipts out of order"
            )
            self._next = self._read()

    def _read(self) -> tuple[str, Receipt] | None:
        """The next receipt that its organisation signed."""
        while True:
            offset = self._receipts.offset
            place = f"{RECEIPTS}, byte {offset}"
            try:
                data = self._receipts.next()
                if data is None:
                    return None
                found = receipt.parse(data)
                place += f", seq {found.first}..{found.first + found.count - 1}, {found.organisation}"
                receipt.check_signer(found, self._trust)
            except Malformed as error:
                self._fail(f"{place}: {error}")
                self._receipts.resynchronise(offset, receipt.parse)
            except Rejected as error:
                self._fail(f"{place}: {error}")
                self._count_unpinned(found.organisation, place, str(error))
            else:
                return place, found

    def _count_unpinned(self, organisation: str, place: str, words: str) -> None:
        if organisation in self._trust.organisations:
            return
        if organisation not in self.unpinned and len(self.unpinned) < _MAX_UNPINNED:
            self.unpinned[organisation] = Unpinned(words, place)
        if organisation in self.unpinned:
            self.unpinned[organisation].receipts += 1

    def _open(self, seq: int, prev: bytes) -> None:
        while self._next and self._next[1].stream == self._stream and self._next[1].first <= seq:
            place, found = self._next
            if found.gateway != self._gateway:
                self._fail(f"{place}: is for gateway {found.gateway}, not for {self._gateway}")
            elif found.code:
                self._fail(f"{place}: validation code {found.code} is not VALID")
            elif found.first < seq or not found.count:
                self._fail(f"{place}: its batch is not whole here, or the receipts are out of order")
            elif self._groups and self._groups[0].first.first != seq:
                self._fail(f"{place}: overlaps the batch that begins at seq {self._groups[0].first.first}")
            else:
                self._join(place, found, prev)
            self._next = self._read()

    def _join(self, place: str, found: Receipt, prev: bytes) -> None:
        known = self._newest.get((found.organisation, found.channel))
        if known and found.first > known[0] and found.block < known[1]:
            self._fail(f"{place}: block {found.block} is below {known[1]}, of an earlier batch")
        self._newest[found.organisation, found.channel] = (found.first, found.block)
        for group in self._groups:
            if (group.first.count, group.first.head, group.first.root) == (found.count, found.head, found.root):
                group.organisations[found.organisation] = group.organisations.get(found.organisation, 0) + 1
                return
        if len(self._groups) >= _MAX_GROUPS:
            self._fail(f"{place}: the {_MAX_GROUPS + 1}th word about this batch")
            return
        group = _Group(found, place, organisations={found.organisation: 1})
        group.tree.add(batch.header_leaf(found.stream, found.first, found.count, prev, found.head))
        self._groups.append(group)

    def _close(self, group: _Group, sid: bytes | None) -> None:
        if sid is not None and sid != group.first.head:
            self._fail(f"{group.place}: its head is not the sid of seq {group.last_seq}")
            return
        if group.tree.root() != group.first.root:
            self._fail(f"{group.place}: its root is not that of the statements here")
            return
        for organisation, count in group.organisations.items():
            tally = self.organisations.setdefault(organisation, Tally())
            tally.receipts += count
            tally.statements += group.first.count
        if group.last_seq >= self._covered_to:
            self._covered_to = group.last_seq + 1
            self._covered += group.first.count
            self._pruned_covered += group.pruned

    def _break(self, why: str) -> None:
        for group in self._groups:
            self._fail(f"{group.place}: its batch is not whole here, {why}")
        self._groups = []
