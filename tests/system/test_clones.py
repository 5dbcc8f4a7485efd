"""A card that was restored, and a card that was cloned: one identity, two stores. No ledger ever takes both.

Rules
- A restored store notices that the ledgers know more than it does, and goes on in a new stream that names the old one.
- Of two clones at work the first wins the chain; the other's statements are recorded as a fork, never accepted.
"""

from __future__ import annotations

import shutil
import signal

from hw_sim.stage import ORGANISATIONS
from signer.codes import Kind
from signer.statement import Claims, parse
from tests.system.audit import check_holds, check_slots
from tests.system.home import Home
from tests.system.town import Town


def copy_card(street: Town, home: Home) -> Home:
    """Everything of a home on another card, with a process of its own."""
    name = f"{home.gateway}-copy"
    folder = street.folder / name
    shutil.copytree(home.folder, folder)
    command = [word.replace(str(home.folder), str(folder)) for word in home.actor.command]
    return Home(home.gateway, folder, street.stage.add(name, command), street.stage)


def exported(home: Home) -> list[list[Claims]]:
    """The statements of each stream that count: without those that were left behind and said again."""
    with home.reading() as reader:
        streams = reader.streams()
    claims = home.claims()
    return [claims[stream.id][: stream.abandoned_from] for stream in streams]


def names_its_past(old: list[Claims], new: list[Claims], street: Town, home: Home) -> None:
    """The new stream begins with a genesis that names what the ledgers know of the old one."""
    assert new[0].kind == Kind.GENESIS
    for organisation in ORGANISATIONS:
        first, second = street.streams(organisation, home.gateway)
        assert (first.stream, second.stream) == (old[0].stream_id, new[0].stream_id)
        assert second.recovers == first.stream
        stream, seq, sid = new[0].body[13][3]
        assert stream == first.stream
        assert parse(street.on_ledger(organisation)[stream][seq]).sid == sid


def holds_what(street: Town, stream: bytes, statements: list[Claims]) -> None:
    """Both ledgers hold these statements of a stream, as far as they go, byte for byte."""
    for organisation in ORGANISATIONS:
        found = street.on_ledger(organisation)[stream]
        assert found == [claims.data for claims in statements][: len(found)]


def test_a_restored_card_goes_on_in_a_new_stream(street: Town) -> None:
    newer = street.homes["card"]
    newer.start()
    newer.has_read(2)
    newer.settles()
    newer.stop()
    older = copy_card(street, newer)
    newer.start()
    newer.has_read(6)
    newer.settles()
    newer.stop()
    (chain,) = newer.claims().values()

    older.start()
    said = older.alarm("knows seq ", f"of stream {chain[0].stream_id.hex()}", "it was restored or copied", "new stream")
    assert any(said == each["words"] for each in older.shown()["alarms"])
    older.has_read(9)
    older.settles()
    older.stop()
    before, after = exported(older)
    assert [claims.sid for claims in before] == [claims.sid for claims in chain[: len(before)]]
    names_its_past(before, after, street, older)
    holds_what(street, chain[0].stream_id, chain)
    holds_what(street, after[0].stream_id, after)
    for organisation in ORGANISATIONS:
        assert not street.forks(organisation, "card")
        assert "ALARM: gateway card" not in street.peers[organisation].log.read_text()
    check_holds(street.evidence(newer, "card-newer"), len(chain))
    check_slots(chain)
    report = street.evidence(older, "card-older")
    check_holds(report, len(before) + len(after))
    check_slots(before + after)
    assert [stream["recovered_from"] for stream in report["streams"]] == [None, chain[0].stream_id.hex()]


def stands_still(home: Home) -> bool:
    """Stop a gateway in its tracks when all that it has stored is settled; otherwise let it go on."""
    assert home.actor.process is not None
    home.actor.process.send_signal(signal.SIGSTOP)
    if home.counts().pending:
        home.actor.process.send_signal(signal.SIGCONT)
        return False
    return True


def test_of_two_clones_one_keeps_the_chain(street: Town) -> None:
    second = street.homes["twin"]
    second.start()
    second.has_read(2)
    second.settles()
    # It knows that the ledgers agree with its chain, and has nothing to send; then its clone goes first.
    second.until(lambda: stands_still(second))
    process = second.actor.process
    assert process is not None
    try:
        first = copy_card(street, second)
        common = [claims.sid for claims in next(iter(second.claims().values()))]
        first.start()
        first.stores(4)
        first.settles()
    finally:
        process.send_signal(signal.SIGCONT)
    for organisation in ORGANISATIONS:
        street.says(street.peers[organisation], "ALARM: gateway twin signed two statements for one place")
        assert street.forks(organisation, "twin")
    second.alarm("knows seq ", "it was restored or copied", "A new stream begins")
    first.alarm("broker: ", "look for a second ", "gw-twin-1")
    first.settles()
    first.stop()
    second.has_read(4)
    second.settles()
    second.stop()

    (chain,) = first.claims().values()
    before, after = exported(second)
    stream = chain[0].stream_id
    names_its_past(before, after, street, second)
    holds_what(street, stream, chain)
    holds_what(street, after[0].stream_id, after)
    for organisation in ORGANISATIONS:
        for seen in street.forks(organisation, "twin"):
            committed, other = chain[seen.fork.seq], second.claims()[stream][seen.fork.seq]
            assert (seen.fork.committed, seen.fork.other) == (committed.sid, other.sid)
            assert seen.fork.seq >= len(common)
    # What the second clone measured is not lost with its chain: it is said again in the new stream.
    assert [claims.sid for claims in before] == [claims.sid for claims in chain[: len(before)]]
    check_holds(street.evidence(first, "twin-first"), len(chain))
    check_slots(chain)
    check_holds(street.evidence(second, "twin-second"), len(before) + len(after))
    check_slots(before + after)
