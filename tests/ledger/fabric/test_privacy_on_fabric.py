"""Who reads what, bad input and erasure on a real network, with the definitions and policies as they are deployed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from ledger.contracts import CONTRACTS
from ledger.rules.record import pack, parse
from ledger.rules.world import Caller, Declined
from tests.fabricnet import running
from tests.ledger import reading
from tests.ledger.bad_input import BAD, STRANGER, Bad, gone
from tests.ledger.confidentiality import PAGE, page
from tests.ledger.scene import AGGREGATOR, COMMUNITY, DISTRIBUTOR, ERASER, FIRST, QUARTER, SETTLER, Scene, member
from tests.ledger.test_bad_input import SAME, outcome

if TYPE_CHECKING:
    from ledger.fabric.commands import Commands
    from tests.ledger.fabric.network_world import NetworkLedger

pytestmark = pytest.mark.fabric


@pytest.fixture(scope="module")
def ledger(fabric_commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkLedger]:
    from tests.ledger.fabric.network_world import NetworkLedger

    folder = tmp_path_factory.mktemp("privacy") / "network"
    with running(fabric_commands, folder, bare=False) as profile, closing(NetworkLedger(folder, profile)) as made:
        yield made


@pytest.fixture(scope="module")
def scene(ledger: NetworkLedger) -> Scene:
    made = Scene(ledger)
    gone(made)
    return made


def test_the_table_is_what_everybody_could_read(scene: Scene, ledger: NetworkLedger) -> None:
    """Besides all functions: blocks, and for callers of the aggregator's organisation all files of its peer."""
    plain = ledger.files(AGGREGATOR)
    (batch, *_) = scene.ask("measurements", "Batches", stream=scene.stream)
    assert batch["root"].encode() in plain, "the blocks are searched"

    def own(caller: Caller) -> bytes:
        return plain if caller.organisation == AGGREGATOR else b""

    found = reading.everybody(scene, CONTRACTS.values(), plain, own)
    assert page(found) == PAGE.read_text()
    kept = reading.seen(reading.patterns(scene), ledger.files(COMMUNITY))
    assert kept >= {"registers of A", "results of others"}, "what lies in files is found where it may lie"


def test_nobody_guesses_a_result_from_its_digest(scene: Scene, ledger: NetworkLedger) -> None:
    blocks = ledger.files(AGGREGATOR)
    for name in "ab":
        told = scene.ask("sharing", "Results", group="g", first_ms=FIRST, member=name)["members"][name]
        share = {"allotted": told["allotted"], "consumed": told["consumed"], "state": [0], "reason": [""]}
        assert sha256(pack({**share, "salt": told["salt"]})).digest() in blocks, "digests are found where they are"
        assert sha256(pack(share)).digest() not in blocks
        assert sha256(pack({**share, "salt": ""})).digest() not in blocks


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.caller is not STRANGER], ids=lambda bad: bad.name)
def test_refused_with_this_reason_and_nothing_changed(scene: Scene, ledger: NetworkLedger, bad: Bad) -> None:
    """What is answered without writing, a refused batch among it, is asked only: a network would order it."""
    height = ledger.height(SETTLER)
    answered = bad.reason == SAME or isinstance(bad.reason, int)
    reason, words = outcome(scene, bad) if not answered else _asked(scene, bad)
    assert reason == bad.reason, words
    assert bad.words in words
    assert ledger.height(SETTLER) == height


def _asked(scene: Scene, bad: Bad) -> tuple[Any, str]:
    answer = scene.ledger.evaluate(bad.contract, bad.function, bad.given, bad.caller, bad.secrets(scene))
    said = parse(answer)
    return (said["reason"], said["words"]) if said.get("outcome") == "refused" else (SAME, answer.decode())


def test_who_is_not_known_by_the_network(ledger: NetworkLedger) -> None:
    """A certificate of a CA that nobody knows, and a right one under another organisation's name."""
    from ledger.fabric import profile as profiles
    from ledger.fabric.errors import GatewayError
    from ledger.fabric.gateway import Gateway
    from ledger.fabric.stub import Identity
    from signer.keys import open_key
    from tests.ledger.fabric.fakegateway import member as stranger

    height, foreign, own = ledger.height(SETTLER), stranger(COMMUNITY, "sol"), ledger.gateway(SETTLER)
    sol = profiles.load(ledger.folder).identity(COMMUNITY, f"t-{SETTLER.name}")
    right = Identity(DISTRIBUTOR, sol.certificate.read_bytes()), open_key(sol.key, ledger.folder)
    for identity, key in ((foreign.identity, foreign.key), right):
        gateway = Gateway(own.channel, identity, key, certificate_hash=own.certificate_hash)
        with pytest.raises(GatewayError, match=r"(?i)access denied|creator"):
            gateway.network(ledger.profile.channel).contract("sharing").submit("Group", pack({"group": "g"}))
    assert ledger.height(SETTLER) == height


def test_a_proposal_or_an_envelope_that_was_there_before(scene: Scene, ledger: NetworkLedger) -> None:
    from ledger.fabric.errors import GatewayError

    target = ledger.gateway(SETTLER).network(ledger.profile.channel).contract("sharing")
    proposal = target.new_proposal("CreateGroup", pack({"group": "twice", "zone": "peninsula", "period_ms": QUARTER}))
    transaction = proposal.endorse()
    transaction.submit().wait()
    before = scene.ask("sharing", "Group", group="twice")
    with pytest.raises(GatewayError, match=r"(?i)duplicate"):
        proposal.endorse()
    with suppress(GatewayError):  # Raft orders it as a duplicate that is not valid, BFT refuses it
        transaction.submit().wait()
    assert scene.ask("sharing", "Group", group="twice") == before


def test_what_is_erased_is_nowhere_and_the_rest_stays(scene: Scene, ledger: NetworkLedger) -> None:
    others = [scene.ask("sharing", "Results", group="g", first_ms=FIRST, member=name) for name in "bcde"]
    found = reading.patterns(scene)
    why = {"why": "asked by a"}
    for batch in scene.ask("measurements", "Batches", stream=scene.stream):
        given = {"stream": scene.stream, "first": batch["first"], "sub": "a-home", **why}
        scene.do("measurements", "Purge", ERASER, **given)
    whom = {"group": "g", "member": "a", "from_ms": FIRST, "until_ms": FIRST + QUARTER, **why}
    for contract in ("sharing", "exchanges"):
        assert scene.do(contract, "Erase", ERASER, **whom)["stretches"] == 1
    for caller in (SETTLER, reading.WHO["auditor"], Caller(DISTRIBUTOR, "dora", {"aigeco.role": "settler auditor"})):
        left = reading.seen(found, reading.tried(scene, CONTRACTS.values(), caller))
        assert not left & {"registers of A", "results of A"}, caller
    assert [scene.ask("sharing", "Results", group="g", first_ms=FIRST, member=name) for name in "bcde"] == others
    with pytest.raises(Declined, match="erased"):
        scene.do("sharing", "Settle", group="g", first_ms=FIRST, count=1)
    assert scene.ask("sharing", "Versions", group="g", first_ms=FIRST)
    assert scene.ask("measurements", "OfMeter", member("b"), meter="m-b", from_ms=FIRST, until_ms=FIRST + QUARTER)
