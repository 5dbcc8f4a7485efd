"""A contract that uses everything the stub has, and what comes out: the same behind a fake peer and on a network.

Each function is one transaction; its answer is the repr of what it gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from fabric_protos.common.policies_pb2 import SignaturePolicy, SignaturePolicyEnvelope
from fabric_protos.msp.msp_principal_pb2 import MSPPrincipal, MSPRole

from ledger.fabric.stub import CallFailed, PeerError, Refused, Stub, composite_key, split_composite_key
from tests.ledger.fabric.fakepeer import Collection

# `ours` belongs to both organisations that run the contract, `theirs` to another one alone.
OURS, THEIRS = "ours", "theirs"
POLICY = SignaturePolicyEnvelope(
    rule=SignaturePolicy(n_out_of=SignaturePolicy.NOutOf(n=1, rules=[SignaturePolicy(signed_by=0)])),
    identities=[
        MSPPrincipal(principal=MSPRole(msp_identifier="CommunityMSP", role=MSPRole.PEER).SerializeToString()),
    ],
).SerializeToString()
HELPER = "helper"


def collections(*members: str, other: str) -> dict[str, Collection]:
    return {OURS: Collection(members), THEIRS: Collection((other,), 0, False, False)}


def fill(stub: Stub) -> object:
    with stub.batch():
        for i in range(250):
            stub.put(f"k{i:04}", f"v{i}".encode())
    return stub.get("k0000")


def read(stub: Stub) -> object:
    return [stub.get("k0007"), stub.get("none"), stub.get_multiple(["k0003", "none", "k0000"])]


def ranges(stub: Stub) -> object:
    rows = [row.key for row in stub.range("k0010", "k0230")]
    with stub.range("k") as left:
        first = next(left)
    return [len(rows), rows[0], rows[-1], first, len(list(stub.range("k", "l"))), list(stub.range("x", "z"))]


def pages(stub: Stub) -> object:
    found = []
    bookmark = ""
    for size in (100, 100, 100):
        page = stub.page("k0005", "k0245", size, bookmark)
        found.append((len(page.rows), page.rows[0].key, page.bookmark))
        bookmark = page.bookmark
    return found


def composites(stub: Stub) -> object:
    stub.put(composite_key("meter", "a", "1"), b"1")
    stub.put(composite_key("meter", "a", "2"), b"2")
    stub.put(composite_key("meter", "ab", "1"), b"3")
    return [row.key for row in stub.range_of("meter")]


def look_composites(stub: Stub) -> object:
    return [
        [split_composite_key(row.key) for row in stub.range_of("meter", "a")],
        [row.value for row in stub.range_of("meter")],
        [row.key for row in stub.range("", "k0001")],
    ]


def change(stub: Stub) -> object:
    stub.put("k0001", b"first")
    stub.put("k0001", b"changed")
    stub.delete("k0002")
    return stub.get("k0001")


def history(stub: Stub) -> object:
    changes = list(stub.history("k0001"))
    ordered = changes[0].timestamp_ns > changes[1].timestamp_ns and len({change.tx_id for change in changes}) == 2
    return [
        [change.value for change in changes],
        ordered,
        [change.value for change in stub.history("k0002")],
        list(stub.history("none")),
    ]


def keep(stub: Stub) -> object:
    with stub.batch():
        stub.put("p1", stub.transient["secret"], OURS)
        stub.put("p2", b"two", OURS)
    return [stub.get("p1", OURS), stub.digest("p1", OURS)]


def keep_theirs(stub: Stub) -> object:
    # In a transaction without a transient map: a Gateway shows that to members of the collections alone.
    stub.put("t1", b"theirs", THEIRS)
    return None


def look_private(stub: Stub) -> object:
    return [
        stub.get("p1", OURS),
        stub.get("p1"),
        stub.get_multiple(["p2", "none", "p1"], OURS),
        stub.digest("p1", OURS) == sha256(b"hidden").digest(),
        stub.digest("t1", THEIRS) == sha256(b"theirs").digest(),
        stub.digest("none", OURS),
        list(stub.range("", "", OURS)),
    ]


def forget(stub: Stub) -> object:
    stub.purge("p1", OURS)
    stub.delete("p2", OURS)
    return None


def set_policies(stub: Stub) -> object:
    stub.set_policy("k0003", POLICY)
    stub.put("p3", b"three", OURS)
    stub.set_policy("p3", POLICY, OURS)
    return stub.policy("k0003")


def look_policies(stub: Stub) -> object:
    return [stub.policy("k0003") == POLICY, stub.policy("k0004"), stub.policy("p3", OURS) == POLICY]


def call(stub: Stub) -> object:
    return [stub.function, stub.arguments, dict(stub.transient), stub.is_init, bool(stub.channel), len(stub.tx_id)]


def who(stub: Stub) -> object:
    return [stub.creator.name, stub.creator.attributes.get("aigeco.role"), stub.creator.certificate is not None]


def tell(stub: Stub) -> object:
    stub.set_event("told", b"\x00event")
    return None


def ask_helper(stub: Stub) -> object:
    stub.put("outer", b"1")
    answers: list[object] = [stub.invoke(HELPER, [b"Call", b"x"]), stub.invoke(HELPER, [b"Change"])]
    try:
        stub.invoke(HELPER, [b"Refuse"])
    except CallFailed as failed:
        answers.append((failed.status, failed.message))
    return answers


def errors(stub: Stub) -> object:
    """What the peer has against each of these; nothing of it can succeed."""
    steps: list[Callable[[], object]] = [
        lambda: stub.get("k", "missing"),
        lambda: stub.range("a", "b", "missing"),
        lambda: stub.put("k", b"v", "missing"),
        lambda: stub.get("t1", THEIRS),
        lambda: stub.get_multiple(["none", "t1"], THEIRS),
        lambda: stub.put("never", b"v"),  # this one goes, and no page can follow
        lambda: stub.page("a", "z", 10),
        lambda: stub.invoke("kitchen", [b"Call"]),
        lambda: stub.invoke("nowhere", [b"Call"]),
    ]
    return [_words(step) for step in steps]


def write_after_page(stub: Stub) -> object:
    stub.page("k", "l", 10)
    return _words(lambda: stub.put("k", b"v"))


def write_after_private_range(stub: Stub) -> object:
    list(stub.range("a", "z", OURS))
    return _words(lambda: stub.put("k", b"v"))


def put_missing(stub: Stub) -> object:
    stub.put("never", b"v")
    stub.put("k", b"v", "missing")
    return None


def swallow(stub: Stub) -> object:
    stub.put("never", b"v")
    return _words(lambda: stub.put("k", b"v", "missing"))


def refuse(stub: Stub) -> object:
    stub.put("never", b"v")
    raise Refused("out of order", "the ledger has 7: go on there", 409)


def fail(stub: Stub) -> object:
    raise KeyError("words that nobody sees")


def never(stub: Stub) -> object:
    return stub.get("never")


def large(stub: Stub) -> object:
    return sha256(stub.transient["large"]).hexdigest()


def add(stub: Stub) -> object:
    count = int(stub.get("count") or b"0") + 1
    stub.put("count", b"%d" % count)
    return count


FUNCTIONS: dict[bytes, Callable[[Stub], object]] = {
    function.__name__.title().replace("_", "").encode(): function
    for function in (
        *(
            fill,
            read,
            ranges,
            pages,
            composites,
            look_composites,
            change,
            history,
            keep,
            keep_theirs,
            look_private,
            forget,
        ),
        *(set_policies, look_policies, call, who, tell, ask_helper, errors, write_after_page),
        *(write_after_private_range, put_missing, swallow, refuse, fail, never, large, add),
    )
}


def invoke(stub: Stub) -> bytes:
    return repr(FUNCTIONS[stub.function](stub)).encode()


@dataclass(frozen=True)
class Step:
    """One call and what comes out.

    Attributes:
        answer: what it gives, or the repr of it; for a call that does not succeed, status and message.
        commit: submitted, not only asked.
    """

    function: str
    answer: object
    commit: bool = False
    fails: bool = False
    transient: dict[str, bytes] = field(default_factory=dict)
    arguments: tuple[bytes, ...] = ()

    @property
    def expected(self) -> str:
        written = isinstance(self.answer, str) and (self.fails or self.answer.startswith("["))
        return str(self.answer) if written else repr(self.answer)


LARGE = bytes(range(256)) * 40_000  # 10 MB
_MISSING = r"collection CHANNEL/kitchen/missing could not be found"

STEPS = (
    Step("Fill", None, commit=True),
    Step("Read", [b"v7", None, [b"v3", None, b"v0"]]),
    Step("Ranges", "[220, 'k0010', 'k0229', Row(key='k0000', value=b'v0'), 250, []]"),
    Step("Pages", [(100, "k0005", "k0105"), (100, "k0105", "k0205"), (40, "k0205", "")]),
    Step("Composites", [], commit=True),
    Step("LookComposites", [[("meter", "a", "1"), ("meter", "a", "2")], [b"1", b"2", b"3"], ["k0000"]]),
    Step("Change", b"v1", commit=True),
    Step("History", [[b"changed", b"v1"], True, [None, b"v2"], []]),
    Step("Keep", [None, None], commit=True, transient={"secret": b"hidden"}),
    Step("KeepTheirs", None, commit=True),
    Step(
        "LookPrivate",
        "[b'hidden', None, [b'two', None, b'hidden'], True, True, None, "
        "[Row(key='p1', value=b'hidden'), Row(key='p2', value=b'two')]]",
    ),
    Step("Forget", None, commit=True),
    Step("LookPrivate", [None, None, [None, None, None], False, True, None, []]),
    Step("SetPolicies", None, commit=True),
    Step("LookPolicies", [True, None, True]),
    Step(
        "Call",
        [b"Call", (b"\x00\xff", b""), {"a": b"\x00\xff"}, False, True, 64],
        transient={"a": b"\x00\xff"},
        arguments=(b"\x00\xff", b""),
    ),
    Step("Who", ["operator", "operator", True]),
    Step("Tell", None, commit=True),
    Step(
        "AskHelper",
        [
            repr([b"Call", (b"x",), {}, False, True, 64]).encode(),
            b"None",
            (409, "out of order: the ledger has 7: go on there"),
        ],
        commit=True,
    ),
    Step("Errors", "500 PeerError", fails=True),
    Step("WriteAfterPage", "500 PeerError", fails=True),
    Step("WriteAfterPrivateRange", "500 PeerError", fails=True),
    Step("PutMissing", "500 PeerError", commit=True, fails=True),
    Step("Swallow", "500 PeerError", commit=True, fails=True),
    Step("Refuse", "409 out of order: the ledger has 7: go on there", commit=True, fails=True),
    Step("Fail", "500 KeyError", commit=True, fails=True),
    Step("Never", None),
    Step("Large", sha256(LARGE).hexdigest(), transient={"large": LARGE}),
)

SAID = (
    _MISSING,
    _MISSING,
    _MISSING,
    "private data matching public hash version is not available",
    "private data matching public hash version is not available",
    "Paginated queries are supported only in a read-only transaction",
    "txid: TX\\(CHANNEL\\) exists",
    "nowhere",
)
"""What the peer says in ``errors``, in its words."""


class Ledger(Protocol):
    """Where the contract runs, as ``kitchen``, and beside it as ``helper``."""

    channel: str

    def run(self, step: Step) -> str:
        """What comes out, to be compared with :attr:`Step.expected`."""

    def event(self, function: str) -> tuple[str, bytes] | None:
        """What a committed call tells."""

    def two_at_once(self, function: str) -> list[str]:
        """Two endorsed before one is ordered: their validation codes."""


def check_everything(ledger: Ledger) -> None:
    said.clear()
    for step in STEPS:
        assert ledger.run(step) == step.expected, step.function
        if step.function == "Errors":
            _check_said(ledger.channel)
    assert ledger.event("Tell") == ("told", b"\x00event")
    assert ledger.two_at_once("Add") == ["VALID", "MVCC_READ_CONFLICT"]
    assert ledger.run(Step("Add", 2, commit=True)) == "2"


def check_many_at_once(ledger: Ledger) -> None:
    ledger.run(Step("Fill", None, commit=True))
    with ThreadPoolExecutor(8) as callers:
        assert len(set(callers.map(ledger.run, [Step("Ranges", None)] * 40))) == 1


def _words(step: Callable[[], object]) -> str:
    try:
        return f"no error: {step()!r}"
    except PeerError as error:
        said.append(str(error))
        return "refused"


said: list[str] = []
"""What peers said, in the process of the contract: their words never leave it."""


def _check_said(channel: str) -> None:
    for words, pattern in zip(said[-len(SAID) :], SAID, strict=True):
        known = re.sub(r"[0-9a-f]{64}", "TX", words).replace(channel, "CHANNEL")
        assert re.search(pattern, known), f"{words!r} has no {pattern!r}"
